//! Decides how a moment is written on a command line: RFC 3339, or a day, which begins at midnight in China (UTC+8). Never
//! reads a clock.

use jiff::civil::Date;
use jiff::tz::offset;

use crate::lang::Unfit;
use crate::time::Time;

/// Reads a moment, e.g. `2026-01-31T08:00:00Z`, or the beginning of a day, e.g. `2026-01-31`.
pub fn when(text: &str) -> Result<Time, Unfit> {
    let must = || {
        Unfit::new(
            "must be a day, e.g. 2026-01-31, or a moment, e.g. 2026-01-31T08:00:00Z",
            "应为日期（例如 2026-01-31）或时刻（例如 2026-01-31T08:00:00Z）",
        )
    };
    let moment = match text.parse::<Date>() {
        Ok(day) if text.len() == 10 => offset(8).to_timestamp(day.at(0, 0, 0, 0)).map_err(|_| must())?,
        _ => text.parse::<jiff::Timestamp>().map_err(|_| must())?,
    };
    u64::try_from(moment.as_millisecond()).map(Time::from_ms).map_err(|_| must())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_china() {
        let told = |text| when(text).map(|at| at.to_string());
        assert_eq!(told("2026-01-31"), Ok("2026-01-30T16:00:00.000Z".to_owned()));
        assert_eq!(told("2026-01-31T08:00:00+08:00"), Ok("2026-01-31T00:00:00.000Z".to_owned()));
        for bad in ["", "yesterday", "2026-02-30", "2026-01-31T08:00:00", "20260131", "1969-01-01"] {
            assert!(when(bad).is_err(), "{bad}");
        }
    }
}
