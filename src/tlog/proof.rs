//! Decides whether a leaf is in a log of a given size and root, and which stored hashes prove it for any older size.
//! Never trusts a path of the wrong length, and never asks a store for a hash that later leaves could still change.

use super::tree::{LEAVES_MAX, TILE_BITS, TILE_WIDTH, climb, root_of, root_of_edge};
use super::{Hash, node_hash};

/// Tile levels of the largest tree: 63 bits of size in steps of 8.
const TILE_LEVELS: u8 = 8;

/// Which part of an inclusion proof fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf would lie outside the tree.
    #[error("index {index} lies outside a log of {size} leaves")]
    Index { index: u64, size: u64 },
    /// The path has not exactly the length that index and size call for.
    #[error("the proof has {found} hashes where index and size call for {expected}")]
    PathLength { expected: usize, found: usize },
    /// The path leads to another root. Which hash was changed cannot be told.
    #[error("the leaf, its index or a hash of the proof is not the one under this root")]
    Root,
}

/// Checks that a leaf hash stands at `index` in the log of `size` leaves with this root (RFC 9162 §2.1.3.2).
///
/// # Errors
/// Index outside the tree; a path of another length than index and size call for; another root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (inner, border) = path_shape(index, size);
    if path.len() != inner + border {
        return Err(ProofError::PathLength { expected: inner + border, found: path.len() });
    }
    let (below, above) = path.split_at(inner);
    let turned = below.iter().enumerate().fold(*leaf, |node, (height, sibling)| match index >> height & 1 {
        0 => node_hash(&node, sibling),
        _ => node_hash(sibling, &node),
    });
    let reached = above.iter().fold(turned, |node, left| node_hash(left, &node));
    if reached == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Hashes in the path of a leaf: those below the point where it leaves the way of the last leaf, and those above, which
/// are all left siblings. Needs `index < size`.
fn path_shape(index: u64, size: u64) -> (usize, usize) {
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

/// Stored hashes: of the leaves at level 0, and of the tiles that [`Tree::append`](super::tree::Tree::append) completed at the levels above.
pub trait HashSource {
    /// What can go wrong when reading.
    type Error;

    /// Reads `count` hashes (1 to 256) of a level, from `first` on: 0 = leaf hashes, 1 = roots of 256 leaves, 2 = roots
    /// of 65,536 leaves. All of them are complete at the size asked about, so they never change again.
    ///
    /// # Errors
    /// The store's own. Fewer or more hashes than asked for are reported by the caller.
    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Self::Error>;
}

/// Why stored hashes gave no path, edge or root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError<E> {
    /// The size lies above [`LEAVES_MAX`].
    #[error("a log of {0} leaves is larger than 2^63 - 1")]
    Size(u64),
    /// The leaf would lie outside the tree.
    #[error("index {index} lies outside a log of {size} leaves")]
    Index { index: u64, size: u64 },
    /// The store holds another number of hashes than the size calls for.
    #[error("the store has {found} of {expected} hashes at level {level} from {first} on")]
    Missing { level: u8, first: u64, expected: u64, found: usize },
    /// The store could not be read.
    #[error("the stored hashes could not be read")]
    Source(#[source] E),
}

/// Recomputes the inclusion path that a leaf had in the log of `size` leaves (RFC 6962 §2.1.1).
///
/// Reads at most twice 256 hashes per tile level: the leaf's tile, and the unfinished tile at the right edge.
///
/// # Errors
/// See [`RebuildError`]. Hashes are taken as stored: check the path with [`verify_inclusion`] against a signed root.
pub fn inclusion_path<S: HashSource>(index: u64, size: u64, source: &S) -> Result<Vec<Hash>, RebuildError<S::Error>> {
    if size > LEAVES_MAX {
        return Err(RebuildError::Size(size));
    }
    if index >= size {
        return Err(RebuildError::Index { index, size });
    }
    let mut path = Vec::new();
    let mut rest = None;
    for level in (0..TILE_LEVELS).take_while(|level| entries(size, *level) > 0) {
        let (tile, place) = (entries(index, level + 1), (entries(index, level) % TILE_WIDTH) as usize);
        let mut edge = edge_tile(size, level, source)?;
        edge.extend(rest);
        rest = if tile == entries(size, level + 1) {
            climb(edge, place, &mut path)
        } else {
            climb(read(source, level, tile * TILE_WIDTH, TILE_WIDTH)?, place, &mut path);
            (!edge.is_empty()).then(|| root_of(&edge))
        };
    }
    Ok(path)
}

/// Recomputes the right edge of the log of `size` leaves, in the order [`Tree::edge`](super::tree::Tree::edge) gives.
///
/// Reads at most 255 hashes per tile level.
///
/// # Errors
/// See [`RebuildError`].
pub fn edge_at<S: HashSource>(size: u64, source: &S) -> Result<Vec<Hash>, RebuildError<S::Error>> {
    if size > LEAVES_MAX {
        return Err(RebuildError::Size(size));
    }
    let mut edge = Vec::with_capacity(size.count_ones() as usize);
    for level in (0..TILE_LEVELS).rev() {
        let hashes = edge_tile(size, level, source)?;
        let mut left = hashes.as_slice();
        while !left.is_empty() {
            let (subtree, others) = left.split_at(1 << left.len().ilog2());
            edge.push(root_of(subtree));
            left = others;
        }
    }
    Ok(edge)
}

/// Recomputes the root of the log of `size` leaves.
///
/// # Errors
/// See [`RebuildError`].
pub fn root_at<S: HashSource>(size: u64, source: &S) -> Result<Hash, RebuildError<S::Error>> {
    edge_at(size, source).map(|edge| root_of_edge(&edge))
}

/// The hashes of one tile (C2SP tlog-tiles): `width` entries, 1 to 256, of tile `index` at `level`. `None` where a log of
/// `size` leaves has no such entries yet: a tile of the width that `size` calls for, or a narrower one, is there.
///
/// # Errors
/// See [`RebuildError`].
pub fn tile<S: HashSource>(
    level: u8,
    index: u64,
    width: u64,
    size: u64,
    source: &S,
) -> Result<Option<Vec<Hash>>, RebuildError<S::Error>> {
    let first = index.checked_mul(TILE_WIDTH);
    let end = first.and_then(|first| first.checked_add(width));
    match (first, end) {
        (Some(first), Some(end)) if (1..=TILE_WIDTH).contains(&width) && end <= entries(size, level) => {
            read(source, level, first, width).map(Some)
        }
        _ => Ok(None),
    }
}

/// The root of the complete subtree over the leaves from `first` on, whose number is a power of two, 2^`height`.
pub(super) fn subtree_root<S: HashSource>(first: u64, height: u32, source: &S) -> Result<Hash, RebuildError<S::Error>> {
    let (level, above) = (height / TILE_BITS, height % TILE_BITS);
    let at = first.checked_shr(level * TILE_BITS).unwrap_or(0);
    read(source, level as u8, at, 1 << above).map(|hashes| root_of(&hashes))
}

/// Complete entries of a tile level in a log of `size` leaves; applied to an index, the entry that holds it.
fn entries(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(level) * TILE_BITS).unwrap_or(0)
}

/// The complete entries of the last, unfinished tile of a level; none where the level ends with a full tile.
fn edge_tile<S: HashSource>(size: u64, level: u8, source: &S) -> Result<Vec<Hash>, RebuildError<S::Error>> {
    let end = entries(size, level);
    match end % TILE_WIDTH {
        0 => Ok(Vec::new()),
        count => read(source, level, end - count, count),
    }
}

fn read<S: HashSource>(source: &S, level: u8, first: u64, expected: u64) -> Result<Vec<Hash>, RebuildError<S::Error>> {
    let hashes = source.hashes(level, first, expected).map_err(RebuildError::Source)?;
    if hashes.len() as u64 != expected {
        return Err(RebuildError::Missing { level, first, expected, found: hashes.len() });
    }
    Ok(hashes)
}
