//! Decides what a log's root must be, the slow and plain way: RFC 6962 §2.1 as it is written, over the leaves' bytes.
//! Shares no code with `tlog`.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

pub type Hash = [u8; 32];

/// All leaf hashes of a log.
pub struct Merkle {
    leaves: Vec<Hash>,
    /// Roots of the ranges that were asked for before.
    known: HashMap<(usize, usize), Hash>,
}

impl Merkle {
    pub fn new(leaves: Vec<Hash>) -> Merkle {
        Merkle { leaves, known: HashMap::new() }
    }

    pub fn size(&self) -> usize {
        self.leaves.len()
    }

    pub fn leaf(&self, index: usize) -> Option<Hash> {
        self.leaves.get(index).copied()
    }

    /// The root of the first `size` leaves.
    pub fn root(&mut self, size: usize) -> Hash {
        if size == 0 { Sha256::digest([]).into() } else { self.range(0, size) }
    }

    /// MTH(D[begin:end]): the largest power of two below the length goes to the left.
    fn range(&mut self, begin: usize, end: usize) -> Hash {
        if end - begin == 1 {
            return self.leaves[begin];
        }
        if let Some(known) = self.known.get(&(begin, end)) {
            return *known;
        }
        let split = begin + ((end - begin).next_power_of_two() / 2);
        let (left, right) = (self.range(begin, split), self.range(split, end));
        let root = Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into();
        self.known.insert((begin, end), root);
        root
    }
}

pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

/// What a checkpoint says, read as text: the log, its size, its root.
pub fn checkpoint(note: &str) -> Option<(String, usize, Hash)> {
    let mut lines = note.lines();
    let (log, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    Some((log.to_owned(), size.parse().ok()?, STANDARD.decode(root).ok()?.try_into().ok()?))
}
