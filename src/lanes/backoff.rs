//! Decides how long a lane leaves a silent partner alone. Never decides what counts as silence.

use std::ops::RangeInclusive;

use super::{Breaker, Policy, Rest};
use crate::time::Time;

/// Doubling pauses with jitter: the nth failure in a row pauses between the shortest pause and 2ⁿ times it, all lengths
/// alike, so that lanes which failed together do not come back together (M. Brooker, "Exponential backoff and jitter").
/// From so many failures on that the breaker opens, the shortest pause is longer.
pub struct Backoff {
    bounds_ms: RangeInclusive<u64>,
    breaker_failures: u32,
    breaker_ms: u64,
    failures: u32,
    until: Time,
    chance: u64,
}

impl Backoff {
    pub fn new(policy: &Policy, seed: u64, rest: Rest) -> Backoff {
        Backoff {
            bounds_ms: policy.backoff_ms.clone(),
            breaker_failures: policy.breaker_failures.max(1),
            breaker_ms: policy.breaker_ms,
            failures: rest.failures,
            until: rest.until,
            chance: seed,
        }
    }

    /// Keeps the pause within its bound, whatever another life with another clock wrote.
    pub fn bound(&mut self, now: Time) {
        self.until = self.until.min(now.plus_ms((*self.bounds_ms.end()).max(self.breaker_ms)));
    }

    pub fn breaker(&self, now: Time) -> Breaker {
        match self.failures >= self.breaker_failures {
            true if now < self.until => Breaker::Open,
            true => Breaker::HalfOpen,
            false => Breaker::Closed,
        }
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The end of the pause, also when it is past; [`Time::ZERO`] when there is none.
    pub fn until(&self) -> Time {
        self.until
    }

    pub fn fail(&mut self, now: Time) {
        self.failures = self.failures.saturating_add(1);
        let (shortest, longest) = (*self.bounds_ms.start(), *self.bounds_ms.end());
        let doubled = shortest.saturating_mul(1 << self.failures.min(40));
        let least = if self.failures >= self.breaker_failures { shortest.max(self.breaker_ms) } else { shortest };
        let spread = doubled.min(longest).saturating_sub(least);
        self.until = now.plus_ms(least + self.draw() % spread.saturating_add(1));
    }

    pub fn succeed(&mut self) {
        self.failures = 0;
        self.until = Time::ZERO;
    }

    /// The next number of splitmix64 (Steele, Lea, Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(bounds_ms: RangeInclusive<u64>, breaker_failures: u32, seed: u64) -> Backoff {
        let policy = Policy { backoff_ms: bounds_ms, breaker_failures, ..Policy::push() };
        Backoff::new(&policy, seed, Rest::default())
    }

    #[test]
    fn splitmix64_draws_the_published_numbers() {
        let mut backoff = backoff(1..=2, 5, 1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| backoff.draw()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn pauses_double_between_their_bounds_and_use_the_whole_range() {
        for failures in 1..=14 {
            let ceiling = (1_000u64 << failures).min(3_600_000);
            let pauses: Vec<u64> = (0..400)
                .map(|seed| {
                    let mut backoff = backoff(1_000..=3_600_000, u32::MAX, seed);
                    (0..failures).for_each(|_| backoff.fail(Time::from_ms(5)));
                    backoff.until().ms() - 5
                })
                .collect();
            let (low, high) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(*low >= 1_000 && *high <= ceiling, "{failures}: {low}..{high}");
            assert!(*low < 1_000 + ceiling / 20 && *high > ceiling - ceiling / 20, "{failures}: {low}..{high}");
        }
    }

    #[test]
    fn a_success_ends_the_pause_and_the_doubling() {
        let mut backoff = backoff(1_000..=1_000, 5, 1);
        backoff.fail(Time::ZERO);
        backoff.fail(Time::ZERO);
        assert_eq!((backoff.failures(), backoff.until()), (2, Time::from_ms(1_000)));
        backoff.succeed();
        assert_eq!((backoff.failures(), backoff.until()), (0, Time::ZERO));
    }

    #[test]
    fn the_breaker_opens_with_the_fifth_failure_for_half_a_minute_at_least_and_then_tries_once() {
        for seed in 0..200 {
            let mut backoff = backoff(1_000..=3_600_000, 5, seed);
            (0..4).for_each(|_| backoff.fail(Time::ZERO));
            assert_eq!(backoff.breaker(Time::ZERO), Breaker::Closed);
            backoff.fail(Time::ZERO);
            assert!((30_000..=32_000).contains(&backoff.until().ms()), "{}", backoff.until().ms());
            assert_eq!(backoff.breaker(backoff.until().minus_ms(1)), Breaker::Open);
            assert_eq!(backoff.breaker(backoff.until()), Breaker::HalfOpen);
        }
    }

    #[test]
    fn a_pause_that_another_life_wrote_is_kept_within_its_bound() {
        let rest = Rest { failures: 9, until: Time::from_ms(u64::MAX), held: false };
        let mut backoff = Backoff::new(&Policy::push(), 1, rest);
        backoff.bound(Time::from_ms(7));
        assert_eq!((backoff.failures(), backoff.until()), (9, Time::from_ms(3_600_007)));
    }
}
