//! Decides how keys of the index are found: a keyed hash and a table of places. Never holds the keys themselves; those who
//! ask compare.

use std::hash::{BuildHasher, RandomState};

use crate::limits::ROWS_MAX;

/// A hash under a key that nobody outside knows, so that no table can be written to make its keys collide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u64; 2]);

impl Key {
    pub(super) fn fresh() -> Key {
        let state = RandomState::new();
        Key([state.hash_one(0_u8), state.hash_one(1_u8) | 1])
    }

    /// The hash of two numbers.
    pub(super) fn numbers(&self, a: u64, b: u64) -> u64 {
        fold(fold(a ^ self.0[0], self.0[1]) ^ b, 0x9e37_79b9_7f4a_7c15 ^ self.0[0])
    }

    /// The hash of a number and a text.
    pub(super) fn text(&self, number: u64, text: &[u8]) -> u64 {
        let (chunks, rest) = text.as_chunks::<8>();
        let mut hash = self.numbers(number, text.len() as u64);
        for chunk in chunks {
            hash = fold(hash ^ u64::from_le_bytes(*chunk), self.0[1] ^ 0xa076_1d64_78bd_642f);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        fold(hash ^ u64::from_le_bytes(last), self.0[0] ^ 0xe703_7ed1_a0b4_28db)
    }
}

/// Both halves of the product in one.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Places of keys by their hash: open addressing, at most half full. Beside each place stand some bits of its hash, so that
/// another's key, which is elsewhere in memory, is hardly ever looked at.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// A place plus one in the lower bits, bits of the hash in the upper ones; 0 is free.
    slots: Vec<u32>,
    mask: usize,
}

/// The bits of a place plus one.
const PLACE: u32 = (ROWS_MAX as u32 + 1).next_power_of_two() - 1;

impl Places {
    /// Room for so many keys, never more.
    pub(super) fn for_keys(keys: usize) -> Places {
        let size = (keys.max(1) * 2).next_power_of_two();
        Places { slots: vec![0; size], mask: size - 1 }
    }

    /// Just these keys, each with its hash and its place, in as little memory as they need.
    pub(super) fn just(keys: &[(u64, usize)]) -> Places {
        let mut places = Places::for_keys(keys.len());
        keys.iter().for_each(|(hash, place)| places.insert(*hash, *place));
        places
    }

    /// The place that has this hash and is the one sought.
    pub(super) fn find(&self, hash: u64, sought: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = hash as usize & self.mask;
        while self.slots[at] != 0 {
            let place = (self.slots[at] & PLACE) as usize - 1;
            if self.slots[at] & !PLACE == tag(hash) && sought(place) {
                return Some(place);
            }
            at = (at + 1) & self.mask;
        }
        None
    }

    /// Notes the place of a key that is not there yet; places count up to the rows of an index.
    pub(super) fn insert(&mut self, hash: u64, place: usize) {
        assert!(place < ROWS_MAX, "no more places than rows, and no more owners than members");
        let mut at = hash as usize & self.mask;
        while self.slots[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.slots[at] = (place as u32 + 1) | tag(hash);
    }
}

/// Where values stand that are put in the order of their hashes, with free places between them: a byte for each place,
/// in which a lookup goes along until one of these bytes is that of its hash. So few bytes stay near the processor, and
/// only the value itself is fetched from afar.
#[derive(Clone, Debug)]
pub(super) struct Spread(Vec<u8>);

impl Spread {
    /// Gives each of these keys a place of its own; at least one more stays free.
    pub(super) fn of(hashes: &[u64]) -> (Spread, Vec<u32>) {
        let mut spread = Spread(vec![0; hashes.len() + hashes.len() / 4 + 1]);
        let places = hashes.iter().map(|hash| {
            let mut place = spread.own(*hash);
            while spread.0[place] != 0 {
                place = spread.next(place);
            }
            spread.0[place] = byte(*hash);
            place as u32
        });
        let places = places.collect();
        (spread, places)
    }

    /// How many places there are, free ones among them.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The place that has this hash and is the one sought.
    pub(super) fn find(&self, hash: u64, sought: impl Fn(usize) -> bool) -> Option<usize> {
        let mut place = self.own(hash);
        while self.0[place] != 0 {
            if self.0[place] == byte(hash) && sought(place) {
                return Some(place);
            }
            place = self.next(place);
        }
        None
    }

    /// Where a hash leads.
    fn own(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.0.len() as u128) >> 64) as usize
    }

    fn next(&self, place: usize) -> usize {
        if place + 1 == self.0.len() { 0 } else { place + 1 }
    }
}

/// What stands in the place of a hash: never 0, which is free. Its place says nothing of these bits.
fn byte(hash: u64) -> u8 {
    (hash as u8).max(1)
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & !PLACE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of 64 that one changed bit of a number changes in what is made of it, on average over many numbers, for each of
    /// its lowest `bits`.
    fn moved(bits: u32, made: impl Fn(u64) -> u64) -> Vec<u32> {
        let numbers: Vec<u64> = (1..=64_u64).map(|n| n.wrapping_mul(0x9fb2_1c65_1e98_df25)).collect();
        let changed = |n: &u64, bit: u32| (made(*n) ^ made(*n ^ (1 << bit))).count_ones();
        (0..bits).map(|bit| numbers.iter().map(|n| changed(n, bit)).sum::<u32>() / 64).collect()
    }

    #[test]
    fn every_bit_that_is_hashed_moves_about_half_of_the_hash() {
        let key = Key([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345]);
        let bytes = |n: u64| [n.to_le_bytes().as_slice(), b"450200"].concat();
        let spreads: [(&str, Vec<u32>); 6] = [
            ("first number", moved(64, |n| key.numbers(n, 7))),
            ("second number", moved(64, |n| key.numbers(7, n))),
            ("number of a text", moved(64, |n| key.text(n, b"ITEM-1"))),
            ("whole text", moved(64, |n| key.text(7, &n.to_le_bytes()))),
            ("beginning of a text", moved(64, |n| key.text(7, &bytes(n)))),
            ("end of a text", moved(56, |n| key.text(7, &n.to_le_bytes()[..7]))),
        ];
        for (of, spread) in spreads {
            assert!(spread.iter().all(|bits| (20..=44).contains(bits)), "{of}: {spread:?}");
        }
        assert_ne!(key.text(7, b""), key.text(7, b"\0"), "the length is hashed too");
    }

    #[test]
    fn small_numbers_have_hashes_of_their_own_under_every_key() {
        for _ in 0..8 {
            let key = Key::fresh();
            let pairs = (0..64).flat_map(|a| (0..64).map(move |b| (a, b)));
            let hashes: std::collections::BTreeSet<u64> = pairs.map(|(a, b)| key.numbers(a, b)).collect();
            assert_eq!(hashes.len(), 64 * 64);
        }
    }

    #[test]
    fn the_last_place_of_all_is_found() {
        let mut places = Places::for_keys(1);
        places.insert(u64::MAX, ROWS_MAX - 1);
        assert_eq!(places.find(u64::MAX, |_| true), Some(ROWS_MAX - 1));
    }

    /// How often a thousand keys that are not there have others' looked at; none of them may be found.
    fn looks_at_others(key: Key, find: impl Fn(u64, &dyn Fn(usize) -> bool) -> Option<usize>) -> u32 {
        let looks = std::cell::Cell::new(0);
        let other = |_| {
            looks.set(looks.get() + 1);
            false
        };
        assert!((0..1_000).all(|n| find(key.numbers(n, 1), &other).is_none()));
        looks.get()
    }

    #[test]
    fn what_is_spread_is_found_in_its_place_and_nothing_else_is() {
        let key = Key([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345]);
        for keys in [0, 1, 2, 3, 4, 5, 100, 10_000] {
            let mut hashes: Vec<u64> = (0..keys).map(|n| key.numbers(n, 0)).collect();
            // Some at the very end, which go on at the beginning, and some alike.
            hashes.extend([u64::MAX, u64::MAX, u64::MAX - 1].iter().take(keys as usize));
            let (spread, places) = Spread::of(&hashes);
            let apart: std::collections::BTreeSet<_> = places.iter().collect();
            assert_eq!((apart.len(), places.len()), (hashes.len(), hashes.len()), "each has a place of its own");
            assert!(hashes.len() < spread.len() && spread.len() <= hashes.len() * 5 / 4 + 1);
            for (hash, place) in hashes.iter().zip(&places) {
                assert_eq!(spread.find(*hash, |found| found == *place as usize), Some(*place as usize));
            }
            let looks = looks_at_others(key, |hash, look| spread.find(hash, look));
            assert!(looks < 100, "{looks} looks for {keys} keys");
        }
    }

    #[test]
    fn places_are_at_most_half_full_and_hardly_ever_look_at_another_key() {
        let key = Key([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345]);
        for keys in [0, 1, 2, 3, 6, 7, 14, 1_000] {
            let hashes: Vec<(u64, usize)> = (0..keys).map(|n| (key.numbers(n as u64, 0), n)).collect();
            let places = Places::just(&hashes);
            let slots = places.slots.len();
            assert!((2 * keys..=4 * keys.max(1)).contains(&slots), "{slots} slots for {keys} keys");
            assert!(hashes.iter().all(|(hash, place)| places.find(*hash, |found| found == *place) == Some(*place)));
            let looks = looks_at_others(key, |hash, look| places.find(hash, look));
            assert!(looks < 10, "{looks} looks");
        }
    }
}
