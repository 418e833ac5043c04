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

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & !PLACE
}
