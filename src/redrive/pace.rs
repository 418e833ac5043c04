//! Decides when the next message may go, so that no second sees more than its share. Never makes up for what was missed.

use crate::time::Time;

/// A pace of so many a second, evenly spread.
#[derive(Debug)]
pub struct Pace {
    per_s: u64,
    began: Time,
    gone: u64,
}

impl Pace {
    pub fn new(per_s: u32) -> Pace {
        Pace { per_s: u64::from(per_s.max(1)), began: Time::ZERO, gone: 0 }
    }

    /// When the next one may go, asked at `now`; it counts as gone.
    pub fn next(&mut self, now: Time) -> Time {
        let due = self.due();
        if self.gone == 0 || due < now {
            // Late by whatever happened: the pace begins anew, one step after the one before.
            (self.began, self.gone) = (now, 0);
        }
        let due = self.due();
        self.gone += 1;
        due
    }

    fn due(&self) -> Time {
        // Rounded up: a pace is a promise of no more.
        self.began.plus_ms((self.gone * 1000).div_ceil(self.per_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_sees_more_than_its_share() {
        for (per_s, late_every) in [(1, 0), (3, 0), (50, 0), (50, 7), (333, 0), (1_000, 3)] {
            let (mut pace, mut now, mut gone) = (Pace::new(per_s), Time::from_ms(10_000), vec![]);
            for count in 0..3_000u64 {
                now = now.max(pace.next(now));
                gone.push(now);
                if late_every > 0 && count % late_every == 0 {
                    now = now.plus_ms(1 + count % 40);
                }
            }
            let share = per_s as usize;
            for window in gone.windows(share + 1) {
                let ms = window[share].since_ms(window[0]);
                assert!(ms >= 1_000, "{per_s} per second, and {} within {ms} ms", share + 1);
            }
        }
    }

    #[test]
    fn the_pace_is_kept_over_a_long_run() {
        let (mut pace, mut now) = (Pace::new(50), Time::ZERO);
        for _ in 0..1_284 {
            now = now.max(pace.next(now));
        }
        assert_eq!(now.ms(), 1_283 * 20);
    }
}
