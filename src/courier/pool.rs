//! Decides which of a partner's addresses is tried next: the first of its record that is not out. Never dials, never reads
//! a clock, and never stops trying: the lane's breaker does that.

use tonic::transport::Uri;

use crate::lanes::{Backoff, Policy, Rest};
use crate::limits::{ADDRESS_OUT_MS, ADDRESS_TRIAL_MS};
use crate::time::Time;

/// The addresses of one partner, in the order of its record.
///
/// One that failed for reasons of its own is out for a time that doubles with each failure in a row. When that time is
/// over it is tried again, by one at a time, and it is in again when it held.
pub struct Pool {
    places: Vec<Place>,
}

struct Place {
    address: Uri,
    /// Failures in a row, and the end of the time out that they brought.
    backoff: Backoff,
    /// Until when a trial after failures is waited for, if one is under way.
    trial: Option<Time>,
}

impl Pool {
    /// These addresses, none of them out. `chance` spreads the times out.
    pub fn new(addresses: Vec<Uri>, chance: u64) -> Pool {
        let mut pool = Pool { places: vec![] };
        pool.follow(addresses, chance);
        pool
    }

    /// The record names these addresses from now on: what is known of one that stays is kept.
    pub fn follow(&mut self, addresses: Vec<Uri>, chance: u64) {
        let mut known = std::mem::take(&mut self.places);
        for (at, address) in addresses.into_iter().enumerate() {
            let place = match known.iter().position(|place| place.address == address) {
                Some(place) => known.swap_remove(place),
                None => Place::new(address, chance.wrapping_add(at as u64)),
            };
            self.places.push(place);
        }
    }

    /// Addresses, out or in.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Where to dial now, when `tried` failed just before: the first address that is in, or whose time out is over and
    /// that nobody tries. When all are out, whose wait ends first; but nobody is made to try that after another.
    pub fn next(&mut self, now: Time, tried: &[Uri]) -> Option<Uri> {
        self.places.iter_mut().for_each(|place| place.backoff.bound(now));
        let ready = |place: &Place| place.waits_until() <= now && !tried.contains(&place.address);
        let first_to_end = || (0..self.places.len()).min_by_key(|at| self.places[*at].waits_until());
        let at = match self.places.iter().position(ready) {
            Some(at) => at,
            None if tried.is_empty() => first_to_end()?,
            None => return None,
        };
        let place = &mut self.places[at];
        if place.backoff.failures() > 0 {
            place.trial = Some(now.plus_ms(ADDRESS_TRIAL_MS));
        }
        Some(place.address.clone())
    }

    /// The address held: something was answered there.
    pub fn held(&mut self, address: &Uri) {
        if let Some(place) = self.place(address) {
            place.backoff.succeed();
            place.trial = None;
        }
    }

    /// The address failed for reasons of its own. Of several who were there at the same time, the first is counted.
    pub fn failed(&mut self, now: Time, address: &Uri) {
        if let Some(place) = self.place(address)
            && (place.trial.take().is_some() || now >= place.backoff.until())
        {
            place.backoff.fail(now);
        }
    }

    fn place(&mut self, address: &Uri) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.address == *address)
    }
}

impl Place {
    fn new(address: Uri, chance: u64) -> Place {
        let policy = Policy { backoff_ms: ADDRESS_OUT_MS, breaker_failures: u32::MAX, ..Policy::push() };
        Place { address, backoff: Backoff::new(&policy, chance, Rest::default()), trial: None }
    }

    fn waits_until(&self) -> Time {
        self.backoff.until().max(self.trial.unwrap_or(Time::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHORTEST: u64 = *ADDRESS_OUT_MS.start();
    const LONGEST: u64 = *ADDRESS_OUT_MS.end();

    fn address(at: usize) -> Uri {
        format!("https://gateway{at}.example:443").parse().unwrap()
    }

    fn addresses(places: &[usize]) -> Vec<Uri> {
        places.iter().map(|at| address(*at)).collect()
    }

    /// The longest time out after so many failures in a row.
    fn longest(failures: u32) -> u64 {
        (SHORTEST << failures.min(30)).min(LONGEST)
    }

    /// What happens to a pool, each at its millisecond.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Next(Option<usize>),
        /// After the first of these was tried and failed.
        After(usize, Option<usize>),
        Fails(usize),
        Holds(usize),
        Follow(&'static [usize]),
    }
    use Step::*;

    /// A claim, the addresses, and what happens to them at which millisecond.
    type Row = (&'static str, &'static [usize], &'static [(u64, Step)]);

    const ROWS: &[Row] = &[
        ("no address, nowhere to go", &[], &[(0, Next(None))]),
        ("a healthy first one is kept", &[1, 2], &[(0, Next(Some(1))), (1, Holds(1)), (2, Next(Some(1)))]),
        ("one that failed is passed over", &[1, 2], &[(0, Fails(1)), (1, Next(Some(2))), (2, Next(Some(2)))]),
        (
            "and returns after its time, for one at a time",
            &[1, 2],
            &[(0, Fails(1)), (2 * SHORTEST, Next(Some(1))), (2 * SHORTEST + 1, Next(Some(2)))],
        ),
        (
            "a trial that held is the return for all",
            &[1, 2],
            &[
                (0, Fails(1)),
                (2 * SHORTEST, Next(Some(1))),
                (2 * SHORTEST, Holds(1)),
                (2 * SHORTEST, Next(Some(1))),
                (2 * SHORTEST, Next(Some(1))),
            ],
        ),
        (
            "a trial of which nobody tells is not waited for for ever",
            &[1, 2],
            &[
                (0, Fails(1)),
                (2 * SHORTEST, Next(Some(1))),
                (2 * SHORTEST + ADDRESS_TRIAL_MS - 1, Next(Some(2))),
                (2 * SHORTEST + ADDRESS_TRIAL_MS, Next(Some(1))),
            ],
        ),
        (
            "a trial that failed begins another time out",
            &[1, 2],
            &[
                (0, Fails(1)),
                (2 * SHORTEST, Next(Some(1))),
                (2 * SHORTEST, Fails(1)),
                (3 * SHORTEST - 1, Next(Some(2))),
            ],
        ),
        ("all out: one is tried all the same", &[1], &[(0, Fails(1)), (1, Next(Some(1)))]),
        (
            "all out: the one that is back first",
            &[1, 2],
            &[(0, Fails(2)), (SHORTEST * 2, Fails(1)), (SHORTEST * 2, Next(Some(2)))],
        ),
        ("after one failed, another", &[1, 2], &[(0, Fails(1)), (0, After(1, Some(2)))]),
        ("but none that is out", &[1, 2], &[(0, Fails(1)), (0, Fails(2)), (0, After(1, None))]),
        ("and none twice", &[1], &[(0, After(1, None))]),
        (
            "a new record keeps what is known",
            &[1, 2],
            &[(0, Fails(1)), (1, Follow(&[1, 3])), (1, Next(Some(3))), (2, Follow(&[2, 1])), (2, Next(Some(2)))],
        ),
        ("word of an address that left changes nothing", &[1], &[(0, Fails(2)), (0, Holds(2)), (0, Next(Some(1)))]),
    ];

    #[test]
    fn the_next_address_is_the_first_that_is_not_out() {
        for (claim, places, steps) in ROWS {
            for chance in 0..50 {
                let mut pool = Pool::new(addresses(places), chance);
                for (ms, step) in *steps {
                    let now = Time::from_ms(*ms);
                    match *step {
                        Next(expected) => assert_eq!(pool.next(now, &[]), expected.map(address), "{claim}: {step:?}"),
                        After(tried, expected) => {
                            assert_eq!(pool.next(now, &[address(tried)]), expected.map(address), "{claim}: {step:?}");
                        }
                        Fails(at) => pool.failed(now, &address(at)),
                        Holds(at) => pool.held(&address(at)),
                        Follow(places) => pool.follow(addresses(places), chance),
                    }
                }
            }
        }
    }

    #[test]
    fn times_out_double_up_to_their_bound_and_failures_of_one_moment_count_once() {
        for chance in 0..50 {
            let mut pool = Pool::new(addresses(&[1, 2]), chance);
            let mut now = Time::from_ms(7);
            for failures in 1..=12 {
                (0..20).for_each(|_| pool.failed(now, &address(1)));
                assert_eq!(pool.places[0].backoff.failures(), failures);
                let out_ms = pool.places[0].waits_until().since_ms(now);
                assert!((SHORTEST..=longest(failures)).contains(&out_ms), "{failures}: {out_ms} ms");
                now = pool.places[0].waits_until();
                assert_eq!(pool.next(now.minus_ms(1), &[]), Some(address(2)));
                assert_eq!(pool.next(now, &[]), Some(address(1)));
            }
        }
    }

    proptest! {
        /// What an address may be, known only from what was told of it: how often it failed in a row, when last, and
        /// whether somebody is trying it.
        #[test]
        fn no_history_hides_a_healthy_address_or_hurries_one_that_is_out(
            chance: u64,
            steps in prop::collection::vec((0..4_usize, 0..4_usize, 0..3_000_u64), 1..200),
        ) {
            let mut pool = Pool::new(addresses(&[0, 1, 2, 3]), chance);
            let mut told = [(0_u32, Time::ZERO, Time::ZERO); 4];
            let mut now = Time::ZERO;
            for (act, at, later) in steps {
                now = now.plus_ms(later * later / 100);
                let (failures, failed, trial) = &mut told[at];
                match act {
                    0 => {
                        pool.held(&address(at));
                        told[at] = (0, Time::ZERO, Time::ZERO);
                    }
                    1 => {
                        let before = pool.places[at].backoff.failures();
                        pool.failed(now, &address(at));
                        if *failures == 0 || *trial > Time::ZERO || now >= failed.plus_ms(longest(*failures)) {
                            prop_assert_eq!(pool.places[at].backoff.failures(), before + 1);
                        }
                        if pool.places[at].backoff.failures() > before {
                            (*failures, *failed, *trial) = (*failures + 1, now, Time::ZERO);
                        }
                    }
                    _ => {
                        let next = pool.next(now, &[]).unwrap();
                        let next = (0..4).find(|at| address(*at) == next).unwrap();
                        let surely_out = |(failures, failed, trial): &(u32, Time, Time)| {
                            *failures > 0 && (now < failed.plus_ms(SHORTEST) || now < *trial)
                        };
                        let surely_ready = |(failures, failed, trial): &(u32, Time, Time)| {
                            now >= failed.plus_ms(longest(*failures)) && now >= *trial || *failures == 0
                        };
                        prop_assert!(!told[..next].iter().any(surely_ready), "an earlier one is ready: {:?}", told);
                        prop_assert!(!surely_out(&told[next]) || !told.iter().any(surely_ready), "out: {:?}", told);
                        if told[next].0 > 0 {
                            told[next].2 = now.plus_ms(ADDRESS_TRIAL_MS);
                        }
                    }
                }
            }
        }
    }
}
