//! Decides how a moment is written down: milliseconds of Unix time inside, seconds and nanoseconds as a sender wrote
//! them. Never reads a clock; `clock` is the one place that does.

use std::fmt;

use crate::limits::TIME_MS_MAX;

/// A moment in whole milliseconds since 1970-01-01T00:00:00Z, never before it and below 2⁴⁸.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The first moment; also what an unset field of a store row reads as.
    pub const ZERO: Time = Time(0);

    /// A moment from Unix milliseconds; what lies beyond 2⁴⁸ − 1 is held at that bound.
    pub const fn from_ms(ms: u64) -> Time {
        Time(if ms > TIME_MS_MAX { TIME_MS_MAX } else { ms })
    }

    /// Unix milliseconds.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// The moment `ms` milliseconds later.
    pub const fn plus_ms(self, ms: u64) -> Time {
        Time::from_ms(self.0.saturating_add(ms))
    }

    /// The moment `ms` milliseconds earlier, not before 1970.
    pub const fn minus_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` until this moment; zero when it is not earlier.
    pub const fn since_ms(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// RFC 3339 in UTC with milliseconds, e.g. `2026-01-31T08:00:00.000Z`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0 as i64) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// A moment exactly as a sender wrote it (`google.protobuf.Timestamp`): the header digest covers it to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SentTime {
    seconds: i64,
    nanos: u32,
}

impl SentTime {
    /// Seconds since 1970 and nanoseconds below 10⁹; `None` outside the years 1970 to 9999 (RFC 3339).
    pub fn new(seconds: i64, nanos: i32) -> Option<SentTime> {
        let in_range = (0..=SECONDS_MAX).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
        in_range.then_some(SentTime { seconds, nanos: nanos as u32 })
    }

    /// The same moment in whole milliseconds, cut off, never rounded up.
    pub fn time(self) -> Time {
        Time::from_ms(self.seconds as u64 * 1000 + u64::from(self.nanos / 1_000_000))
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    pub fn nanos(self) -> u32 {
        self.nanos
    }
}

/// The last second of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;

impl From<Time> for SentTime {
    fn from(time: Time) -> SentTime {
        SentTime { seconds: (time.ms() / 1000) as i64, nanos: (time.ms() % 1000) as u32 * 1_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_prints_as_rfc_3339() {
        assert_eq!(Time::from_ms(1_769_846_400_123).to_string(), "2026-01-31T08:00:00.123Z");
    }

    #[test]
    fn a_sent_moment_outside_its_range_is_refused() {
        assert_eq!(SentTime::new(-1, 0), None);
        assert_eq!(SentTime::new(0, 1_000_000_000), None);
        assert_eq!(SentTime::new(0, -1), None);
        assert_eq!(SentTime::new(i64::MAX, 0), None);
        assert_eq!(SentTime::new(5, 999_999_999).map(|t| t.time().ms()), Some(5_999));
    }
}
