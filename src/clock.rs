//! Decides what time it is, for the whole gateway. The one place that reads the system's clock.

#![allow(clippy::disallowed_methods, reason = "the one place that reads the time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::time::Time;

/// The gateway's clock: the system's, and as far ahead of it as it was put. Whoever waits by it is woken when it is put
/// ahead, so that three days can pass in a second.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    hand: Hand,
    ahead_ms: Arc<watch::Sender<u64>>,
}

/// What moves a clock.
#[derive(Clone, Debug, Default)]
enum Hand {
    #[default]
    System,
    /// Somebody who counts milliseconds since 1970.
    Counted(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that shows what somebody counts, in milliseconds since 1970. The timers of the runtime in which it is asked
    /// must pass at the same pace: those of a simulation do.
    pub fn counted(ms: Arc<AtomicU64>) -> Clock {
        Clock { hand: Hand::Counted(ms), ..Clock::default() }
    }

    /// The time, to the millisecond; a system clock set before 1970 reads as 1970.
    pub fn now(&self) -> Time {
        let since_1970 = match &self.hand {
            Hand::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            Hand::Counted(ms) => ms.load(Ordering::Relaxed),
        };
        Time::from_ms(since_1970).plus_ms(*self.ahead_ms.borrow())
    }

    /// Puts the clock ahead.
    pub fn advance(&self, ms: u64) {
        self.ahead_ms.send_modify(|ahead| *ahead += ms);
    }

    /// Waits until the clock shows `at`.
    pub async fn until(&self, at: Time) {
        let mut ahead = self.ahead_ms.subscribe();
        loop {
            let left = Duration::from_millis(at.since_ms(self.now()));
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => return,
                _ = ahead.changed() => {}
            }
        }
    }
}
