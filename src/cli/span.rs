//! Decides how a length of time is written on a command line: a number and a unit, e.g. 90s, 10m, 2h, 7d. Never reads a
//! clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::lang::Unfit;
use crate::limits::DAY_MS;

/// A length of time, above zero and at most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    ms: u64,
}

/// Units, longest name first: `ms` is no number of `s`.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", DAY_MS)];
/// Milliseconds of the longest span: ten years.
const SPAN_MS_MAX: u64 = 3_652 * DAY_MS;

impl Span {
    /// A length of so many milliseconds.
    pub const fn from_ms(ms: u64) -> Span {
        Span { ms }
    }

    /// The length in milliseconds.
    pub const fn ms(self) -> u64 {
        self.ms
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        Duration::from_millis(span.ms)
    }
}

impl FromStr for Span {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Span, Unfit> {
        let read = |(unit, ms): (&str, u64)| {
            let digits = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
            digits.parse::<u64>().ok()?.checked_mul(ms)
        };
        let ms = UNITS.into_iter().find_map(read).filter(|ms| (1..=SPAN_MS_MAX).contains(ms));
        let must = || {
            Unfit::new(
                "must be a number and a unit (ms, s, m, h or d), e.g. 90s, 10m, 2h, 7d; at most ten years",
                "应为数字加单位（ms、s、m、h 或 d），例如 90s、10m、2h、7d；至多十年",
            )
        };
        ms.map(|ms| Span { ms }).ok_or_else(must)
    }
}

/// The largest unit that fits without a rest.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.into_iter().rev().find(|(_, ms)| self.ms.is_multiple_of(*ms));
        let (unit, ms) = whole.unwrap_or(("ms", 1));
        write!(f, "{}{unit}", self.ms / ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, ms) in [("250ms", 250), ("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("7d", 7 * DAY_MS)] {
            assert_eq!(text.parse::<Span>().map(Span::ms), Ok(ms), "{text}");
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for bad in ["", "s", "0s", "10", "-1s", "+1s", "1.5h", "1 h", "1y", "3653d", "99999999999999999999s", "1ss"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
