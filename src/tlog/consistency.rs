//! Decides whether one state of a log grew out of another, and which stored hashes prove it (RFC 6962 §2.1.2). Never takes
//! a larger log for a grown one without a proof.

use super::proof::{HashSource, RebuildError, subtree_root};
use super::tree::{LEAVES_MAX, root_of_edge};
use super::{EMPTY_ROOT, Hash, node_hash};

/// Which part of a consistency proof fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsistencyError {
    /// The log would have shrunk.
    #[error("a log of {old} leaves cannot have grown to {new}")]
    Sizes { old: u64, new: u64 },
    /// The proof has not exactly the hashes that the two sizes call for.
    #[error("the proof has {0} hashes, which is not what the two sizes call for")]
    Length(usize),
    /// The proof leads to another old root.
    #[error("the proof does not lead to the root of {0} leaves")]
    Old(u64),
    /// The proof leads to another new root, or begins at another old one whose tree is complete.
    #[error("the proof does not lead to the root of {0} leaves")]
    New(u64),
}

/// The proof that the log of `old` leaves is the beginning of the one of `new` leaves (RFC 6962 §2.1.2); empty where the two
/// are equal, or the old one is empty.
///
/// Reads at most 128 hashes for each of some 64 subtrees.
///
/// # Errors
/// [`RebuildError::Index`] for an old size above the new one, otherwise see there.
pub fn consistency_path<S: HashSource>(old: u64, new: u64, source: &S) -> Result<Vec<Hash>, RebuildError<S::Error>> {
    if new > LEAVES_MAX {
        return Err(RebuildError::Size(new));
    }
    if old > new {
        return Err(RebuildError::Index { index: old, size: new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    siblings(old, new).into_iter().map(|(first, end)| range_root(first, end, source)).collect()
}

/// The ranges of leaves whose roots make up the proof, from the innermost outwards: SUBPROOF of RFC 6962 §2.1.2, unrolled.
fn siblings(old: u64, new: u64) -> Vec<(u64, u64)> {
    let (mut first, mut end, mut ranges) = (0, new, Vec::new());
    while old != end {
        let middle = first + (1 << (end - first - 1).ilog2());
        if old <= middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((first, middle));
            first = middle;
        }
    }
    // What ends with the old log is known to who checks, unless something stands to its left.
    if first > 0 {
        ranges.push((first, end));
    }
    ranges.reverse();
    ranges
}

/// The Merkle tree hash over the leaves `first..end`, where a subtree of the whole tree begins at `first`.
fn range_root<S: HashSource>(mut first: u64, end: u64, source: &S) -> Result<Hash, RebuildError<S::Error>> {
    let mut edge = Vec::new();
    while first < end {
        let height = (end - first).ilog2();
        edge.push(subtree_root(first, height, source)?);
        first += 1 << height;
    }
    Ok(root_of_edge(&edge))
}

/// Checks that the log of `old` leaves with its root is the beginning of the one of `new` leaves (RFC 9162 §2.1.4.2).
///
/// # Errors
/// See [`ConsistencyError`].
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> Result<(), ConsistencyError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return Err(ConsistencyError::Sizes { old: old_size, new: new_size });
    }
    let length = ConsistencyError::Length(path.len());
    if old_size == new_size || old_size == 0 {
        let fits = if old_size == new_size { old_root == new_root } else { *old_root == EMPTY_ROOT };
        return match (path, fits) {
            ([], true) => Ok(()),
            ([], false) => Err(ConsistencyError::Old(old_size)),
            _ => Err(length),
        };
    }
    // A complete old tree is itself the innermost hash, and the proof leaves it out.
    let (start, rest) = if old_size.is_power_of_two() { (old_root, path) } else { path.split_first().ok_or(length)? };
    let (mut from, mut to) = (old_size - 1, new_size - 1);
    let complete = from.trailing_ones();
    (from, to) = (from >> complete, to >> complete);
    let (mut reached_old, mut reached_new) = (*start, *start);
    for hash in rest {
        if to == 0 {
            return Err(length);
        }
        if from & 1 == 1 || from == to {
            (reached_old, reached_new) = (node_hash(hash, &reached_old), node_hash(hash, &reached_new));
            let up = if from == 0 { 0 } else { from.trailing_zeros() };
            (from, to) = (from >> up, to >> up);
        } else {
            reached_new = node_hash(&reached_new, hash);
        }
        (from, to) = (from >> 1, to >> 1);
    }
    if to != 0 {
        return Err(length);
    }
    if reached_old != *old_root {
        return Err(ConsistencyError::Old(old_size));
    }
    if reached_new == *new_root { Ok(()) } else { Err(ConsistencyError::New(new_size)) }
}
