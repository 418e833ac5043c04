//! Decides what a row's patterns cover: items, divisions, days. Never compares rows; which pattern goes before which is
//! the index's affair.

use std::fmt;
use std::str::FromStr;

use crate::limits::{DAY_MS, DIVISION_PREFIX_DIGITS};
use crate::message::ItemCode;
use crate::party::Division;
use crate::time::Time;

/// Which items something takes or may be sent: all of them (`*`), those that begin alike (`1145*`), or exactly one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemPattern {
    Any,
    Prefix(String),
    Exact(ItemCode),
}

/// Text that is no item pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an item code, the beginning of one followed by '*', or '*'")]
pub struct PatternError;

impl FromStr for ItemPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<ItemPattern, PatternError> {
        match text.strip_suffix('*') {
            Some("") => Ok(ItemPattern::Any),
            Some(prefix) => {
                prefix.parse::<ItemCode>().map_err(|_| PatternError)?;
                Ok(ItemPattern::Prefix(prefix.to_owned()))
            }
            None => Ok(ItemPattern::Exact(text.parse().map_err(|_| PatternError)?)),
        }
    }
}

impl fmt::Display for ItemPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemPattern::Any => f.write_str("*"),
            ItemPattern::Prefix(prefix) => write!(f, "{prefix}*"),
            ItemPattern::Exact(item) => f.write_str(item.as_str()),
        }
    }
}

impl ItemPattern {
    /// Whether the pattern covers this item.
    pub fn covers(&self, item: &ItemCode) -> bool {
        match self {
            ItemPattern::Any => true,
            ItemPattern::Prefix(prefix) => item.as_str().starts_with(prefix),
            ItemPattern::Exact(exact) => exact == item,
        }
    }

    /// How much the pattern says: exact before prefix, the longer prefix before the shorter, any last.
    pub(super) fn precision(&self) -> usize {
        match self {
            ItemPattern::Any => 0,
            ItemPattern::Prefix(prefix) => prefix.len(),
            ItemPattern::Exact(_) => usize::MAX,
        }
    }
}

/// The lengths of a division code at which a level ends (GB/T 2260, GB/T 10114): province, city, district, town, village.
const LEVELS: [usize; 5] = [2, 4, 6, 9, 12];

/// A division with everything beneath it: all of them (`*`), or those whose code begins with these digits. Zeros that fill
/// a whole level are no digits of it: `440600` is the city 4406 with its districts, `440000` the province 44.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DivisionPrefix(String);

/// Text that is no division with what lies beneath.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 2 to 12 digits of a division code (GB/T 2260), or '*'")]
pub struct DivisionPrefixError;

impl FromStr for DivisionPrefix {
    type Err = DivisionPrefixError;

    fn from_str(text: &str) -> Result<DivisionPrefix, DivisionPrefixError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && DIVISION_PREFIX_DIGITS.contains(&text.len());
        match text {
            "*" => Ok(DivisionPrefix(String::new())),
            _ if digits => Ok(DivisionPrefix(text[..significant(text.as_bytes())].to_owned())),
            _ => Err(DivisionPrefixError),
        }
    }
}

impl From<&Division> for DivisionPrefix {
    fn from(division: &Division) -> DivisionPrefix {
        DivisionPrefix(division.as_str()[..significant(division.as_bytes())].to_owned())
    }
}

/// The digits that say something; `*` for everything.
impl fmt::Display for DivisionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "*" } else { &self.0 })
    }
}

impl DivisionPrefix {
    /// The digits, none for everything.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Whether all that `other` covers is covered.
    pub fn contains(&self, other: &DivisionPrefix) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The shortest code that names the division itself, e.g. `440600`; none for everything.
    pub fn division(&self) -> Option<Division> {
        let padded = format!("{:0<6}", self.0);
        if self.0.is_empty() { None } else { padded.parse().ok() }
    }
}

/// The beginning that all codes at and under the division share.
pub(super) fn reach(division: &Division) -> &[u8] {
    &division.as_bytes()[..significant(division.as_bytes())]
}

/// Digits of a code without the zeros that fill whole levels at its end.
fn significant(code: &[u8]) -> usize {
    let mut digits = code.len();
    for level in LEVELS.windows(2).rev() {
        let (above, end) = (level[0], level[1]);
        if digits == end && code[above..digits].iter().all(|digit| *digit == b'0') {
            digits = above;
        }
    }
    digits
}

/// A calendar day in China standard time (UTC+8, no summer time), counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

/// Text or numbers that are no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a day between 1970-01-01 and 9999-12-31, written as 2026-01-31")]
pub struct DayError;

impl Day {
    /// The day that it is in China at this moment.
    pub fn of(time: Time) -> Day {
        Day(((time.ms() + 8 * 60 * 60 * 1000) / DAY_MS) as u32)
    }

    /// The day of a date.
    ///
    /// # Errors
    /// No such date, or one before 1970.
    pub fn new(year: i16, month: i8, day: i8) -> Result<Day, DayError> {
        let date = jiff::civil::Date::new(year, month, day).map_err(|_| DayError)?;
        let days = date.since((jiff::Unit::Day, EPOCH)).map_err(|_| DayError)?.get_days();
        u32::try_from(days).map(Day).map_err(|_| DayError)
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> u32 {
        self.0
    }
}

const EPOCH: jiff::civil::Date = jiff::civil::Date::constant(1970, 1, 1);

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Day, DayError> {
        let date: jiff::civil::Date = text.parse().map_err(|_| DayError)?;
        let day = Day::new(date.year(), date.month(), date.day())?;
        if day.to_string() == text { Ok(day) } else { Err(DayError) }
    }
}

/// `2026-01-31`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = EPOCH.checked_add(jiff::Span::new().days(i64::from(self.0)));
        date.map_err(|_| fmt::Error)?.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_fill_a_level_are_no_digits_of_a_division() {
        for (code, digits) in [
            ("440600", "4406"),
            ("440000", "44"),
            ("4400", "44"),
            ("440605", "440605"),
            ("440605000000", "440605"),
            ("440605001000", "440605001"),
            ("440600000000", "4406"),
            ("44060", "44060"),
            ("440100", "4401"),
            ("10", "10"),
            ("00", "00"),
        ] {
            assert_eq!(code.parse::<DivisionPrefix>().unwrap().digits(), digits, "{code}");
        }
        for bad in ["", "4", "4406051234567", "44a6", "44*"] {
            assert!(bad.parse::<DivisionPrefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_china() {
        let day: Day = "2026-01-01".parse().unwrap();
        let midnight = 1_767_196_800_000;
        assert_eq!(Day::of(Time::from_ms(midnight)), day);
        assert!(Day::of(Time::from_ms(midnight - 1)) < day);
        assert_eq!(Day::of(Time::from_ms(midnight + DAY_MS - 1)), day);
        assert_eq!(day.to_string(), "2026-01-01");
        for bad in ["1969-12-31", "2026-02-29", "2026-1-1", "20260101", "2026-01-01T00:00"] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }
}
