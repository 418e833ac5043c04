//! Decides what time it is, for the whole gateway. The one place that reads the system's clock.

#![allow(clippy::disallowed_methods, reason = "the one place that reads the time")]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Time;

/// The gateway's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The system's wall clock, to the millisecond; a clock set before 1970 reads as 1970.
    pub fn now(&self) -> Time {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::from_ms(since_1970.as_millis() as u64)
    }
}
