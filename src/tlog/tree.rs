//! Decides how the log grows: from the right edge of the tree and a batch of new leaf hashes to the next edge, the
//! inclusion path of every new leaf and the tiles now complete. Never looks at an old leaf and never stores anything.

use super::{EMPTY_ROOT, Hash, node_hash};
use crate::planted;

pub use crate::limits::LEAVES_MAX;

/// Hashes in a full tile, 256 = 2^8: the width C2SP tlog-tiles fixes.
pub const TILE_WIDTH: u64 = 1 << TILE_BITS;

/// Binary levels in one tile level.
pub const TILE_BITS: u32 = 8;

/// A log as its size and right edge, which is all that growing needs.
///
/// The edge holds the roots of the complete subtrees from left to right, largest first: one for each 1 bit of the size,
/// hence at most 63 hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    edge: Vec<Hash>,
}

/// What one append produced; see [`Tree::append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Index of the first new leaf: the size before the append.
    pub first_index: u64,
    /// Leaves after the append.
    pub size: u64,
    /// Roots of the tiles that this append completed, by level and then by index.
    pub tiles: Vec<TileRoot>,
    /// All nodes that the new leaves touched: about two for each of them.
    levels: Vec<Level>,
}

impl Appended {
    /// The inclusion path of a new leaf in the tree after the append (RFC 6962 §2.1.1: from the leaf's sibling up to the
    /// root's child); none for a leaf that was there before, or is not there yet.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        let off_by_one = planted::is(planted::Bug::ProofOffByOne) && index + 1 == self.size;
        let of = if off_by_one { index ^ 1 } else { index };
        (self.first_index..self.size).contains(&index).then(|| path_of(of, &self.levels))
    }

    /// The paths of all new leaves, in their order.
    pub fn paths(&self) -> Vec<Vec<Hash>> {
        (self.first_index..self.size).map(|index| path_of(index, &self.levels)).collect()
    }
}

/// The root of a complete 256-ary subtree. It is entry `index` of the hashes at `level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileRoot {
    /// 1 for the root of 256 leaves, 2 for the root of 65,536, and so on.
    pub level: u8,
    /// Which one, counted from the left of its level.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Why a size and an edge make no [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// The size lies above [`LEAVES_MAX`].
    #[error("a log of {0} leaves is larger than 2^63 - 1")]
    Size(u64),
    /// The edge has not one hash for each 1 bit of the size.
    #[error("the right edge of {size} leaves has {expected} hashes, not {found}")]
    Length { size: u64, expected: u32, found: usize },
}

impl Tree {
    /// A log without leaves; its root is [`EMPTY_ROOT`].
    pub fn empty() -> Self {
        Self { size: 0, edge: Vec::new() }
    }

    /// Takes up a stored log again. Whether the edge is the true one shows only by comparing [`Tree::root`].
    ///
    /// # Errors
    /// Size above [`LEAVES_MAX`], or an edge whose length does not belong to the size.
    pub fn from_edge(size: u64, edge: Vec<Hash>) -> Result<Self, EdgeError> {
        if size > LEAVES_MAX {
            return Err(EdgeError::Size(size));
        }
        if edge.len() != size.count_ones() as usize {
            return Err(EdgeError::Length { size, expected: size.count_ones(), found: edge.len() });
        }
        Ok(Self { size, edge })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// The Merkle tree hash of all leaves (RFC 6962 §2.1).
    pub fn root(&self) -> Hash {
        root_of_edge(&self.edge)
    }

    /// Appends a batch of leaf hashes and says what it produced. Appending none changes nothing.
    ///
    /// Hashes about once per leaf and once per level; memory is the batch twice over.
    ///
    /// # Panics
    /// If the log would grow beyond [`LEAVES_MAX`] leaves.
    pub fn append(&mut self, leaves: &[Hash]) -> Appended {
        let first_index = self.size;
        if leaves.is_empty() {
            return Appended { first_index, size: first_index, tiles: Vec::new(), levels: Vec::new() };
        }
        assert!(leaves.len() as u64 <= LEAVES_MAX - first_index, "a log never reaches 2^63 leaves");
        let size = first_index + leaves.len() as u64;
        let levels = grow(first_index, &self.edge, leaves);
        self.size = size;
        self.edge = edge_of(size, &levels);
        Appended { first_index, size, tiles: tiles_of(first_index, size, &levels), levels }
    }
}

/// The right part of one binary level: all nodes from `first` on, the last one perhaps over an incomplete subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    first: u64,
    nodes: Vec<Hash>,
}

impl Level {
    fn node(&self, index: u64) -> Option<Hash> {
        let place = index.checked_sub(self.first)?;
        self.nodes.get(usize::try_from(place).ok()?).copied()
    }
}

/// Builds every level that new leaves touch, from the leaves (0) to the root (last).
///
/// Level `l` starts at the last even index that still belongs to the old tree or borders on it. Where the old tree ended
/// in a left child, that child is the edge hash of that level, so no level needs another old hash.
fn grow(old_size: u64, old_edge: &[Hash], leaves: &[Hash]) -> Vec<Level> {
    let mut edge = old_edge.iter().rev().copied();
    let mut start = |level: usize, capacity: usize| {
        let end = old_size >> level;
        let mut nodes = Vec::with_capacity(capacity + 1);
        nodes.extend(if end & 1 == 1 { edge.next() } else { None });
        Level { first: end & !1, nodes }
    };
    let mut level = start(0, leaves.len());
    level.nodes.extend_from_slice(leaves);
    let mut levels = Vec::with_capacity(64);
    while level.first > 0 || level.nodes.len() > 1 {
        let mut parents = start(levels.len() + 1, level.nodes.len().div_ceil(2));
        parents.nodes.extend(pair(&level.nodes));
        levels.push(std::mem::replace(&mut level, parents));
    }
    levels.push(level);
    levels
}

/// The parents of nodes that begin with a left child; a left child without a sibling rises unchanged.
fn pair(nodes: &[Hash]) -> impl Iterator<Item = Hash> {
    nodes.chunks(2).map(|children| match children {
        [left, right] => node_hash(left, right),
        _ => children[0],
    })
}

/// The path of one leaf: its ancestors' siblings, where they exist.
fn path_of(index: u64, levels: &[Level]) -> Vec<Hash> {
    let mut path = Vec::with_capacity(levels.len());
    path.extend(levels.iter().enumerate().filter_map(|(height, level)| level.node((index >> height) ^ 1)));
    path
}

/// The right edge: at each 1 bit of the size the last complete node of that level, largest first.
fn edge_of(size: u64, levels: &[Level]) -> Vec<Hash> {
    let heights = (0..levels.len()).rev().filter(|height| size >> height & 1 == 1);
    heights.filter_map(|height| levels[height].node((size >> height) - 1)).collect()
}

/// Roots of the tiles that are complete at `size` and were not at `old_size`.
fn tiles_of(old_size: u64, size: u64, levels: &[Level]) -> Vec<TileRoot> {
    let mut tiles = Vec::new();
    for (tile_level, level) in (0..).zip(levels.iter().step_by(TILE_BITS as usize)).skip(1) {
        let height = u32::from(tile_level) * TILE_BITS;
        let complete = (old_size >> height)..(size >> height);
        tiles.extend(
            complete.filter_map(|index| level.node(index).map(|hash| TileRoot { level: tile_level, index, hash })),
        );
    }
    tiles
}

/// The Merkle tree hash over the given leaf hashes, or over the roots of equal complete subtrees (RFC 6962 §2.1).
///
/// The root of a full tile from its 256 entries, for instance. [`EMPTY_ROOT`] when there are none.
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = pair(&level).collect();
    }
    level.first().copied().unwrap_or(EMPTY_ROOT)
}

/// The root over a right edge, largest subtree first.
pub(super) fn root_of_edge(edge: &[Hash]) -> Hash {
    edge.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or(EMPTY_ROOT)
}

/// Folds up to 256 neighbouring entries of one tile into their root and adds to `path` the siblings of the entry at
/// `place`.
pub(super) fn climb(entries: Vec<Hash>, mut place: usize, path: &mut Vec<Hash>) -> Option<Hash> {
    let mut level = entries;
    while level.len() > 1 {
        path.extend(level.get(place ^ 1));
        level = pair(&level).collect();
        place >>= 1;
    }
    level.first().copied()
}
