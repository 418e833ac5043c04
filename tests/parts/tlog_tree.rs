//! Decides whether the log's tree is the tree of RFC 6962: against published vectors, against the recursive definition
//! written out here, and against an independent implementation. Never uses the code under test to compute what to expect.

use std::convert::Infallible;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tongban::tlog::proof::{HashSource, ProofError, RebuildError, edge_at, inclusion_path, root_at, verify_inclusion};
use tongban::tlog::tree::{EdgeError, LEAVES_MAX, TileRoot, Tree, root_of};
use tongban::tlog::{EMPTY_ROOT, Hash, leaf_hash, node_hash};

/// Leaves of the Certificate Transparency reference tests.
const CT_LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// Their roots, for 1 to 8 leaves.
const CT_ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// Their inclusion paths: index, size, path.
const CT_PATHS: [(u64, u64, &[&str]); 5] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

fn from_hex(text: &str) -> Hash {
    Hash::from_slice(&hex::decode(text).unwrap()).unwrap()
}

fn ct_leaves() -> Vec<Hash> {
    CT_LEAVES.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect()
}

/// The leaf bytes number `index` of every made-up log in these tests.
fn leaf_bytes(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

fn leaves(range: std::ops::Range<u64>) -> Vec<Hash> {
    range.map(|index| leaf_hash(&leaf_bytes(index))).collect()
}

/// MTH of RFC 6962 §2.1, as it is written there, over leaf hashes.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            let mut bytes = vec![1];
            bytes.extend(naive_root(left).as_bytes());
            bytes.extend(naive_root(right).as_bytes());
            Hash::from_bytes(Sha256::digest(bytes).into())
        }
    }
}

/// PATH of RFC 6962 §2.1.1, as it is written there.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let split = naive_split(leaves.len());
    let (left, right) = leaves.split_at(split);
    let (mut path, sibling) = if index < split {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - split, right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// The largest power of two smaller than `count`.
fn naive_split(count: usize) -> usize {
    (0..).map(|bit| 1 << bit).take_while(|power| *power < count).last().unwrap()
}

/// Stored hashes as a gateway would keep them, filled by appends alone; it refuses calls that break the contract.
#[derive(Default)]
struct Stored {
    levels: Vec<Vec<Hash>>,
}

impl Stored {
    fn append(&mut self, tree: &mut Tree, batch: &[Hash]) -> Vec<Vec<Hash>> {
        let appended = tree.append(batch);
        self.levels.resize(9, Vec::new());
        assert_eq!(appended.first_index, self.levels[0].len() as u64);
        self.levels[0].extend(batch);
        for TileRoot { level, index, hash } in appended.tiles.iter().copied() {
            assert_eq!(index, self.levels[usize::from(level)].len() as u64, "tile roots come in order and once");
            self.levels[usize::from(level)].push(hash);
        }
        appended.paths()
    }
}

/// Stored hashes seen at one size: asking for a hash that is not complete there fails the test.
struct At<'a>(&'a Stored, u64);

impl HashSource for At<'_> {
    type Error = Infallible;

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Infallible> {
        assert!((1..=256).contains(&count), "1 to 256 hashes are read at once");
        assert!(first + count <= self.1 >> (8 * u32::from(level)), "only complete hashes are read");
        Ok(self.0.levels[usize::from(level)][first as usize..(first + count) as usize].to_vec())
    }
}

#[test]
fn roots_equal_the_certificate_transparency_vectors() {
    let mut tree = Tree::empty();
    assert_eq!(tree.root(), from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    for (leaf, root) in ct_leaves().iter().zip(CT_ROOTS) {
        tree.append(&[*leaf]);
        assert_eq!(format!("{:?}", tree.root()), root);
    }
}

#[test]
fn paths_equal_the_certificate_transparency_vectors() {
    for (index, size, expected) in CT_PATHS {
        let expected: Vec<Hash> = expected.iter().map(|hash| from_hex(hash)).collect();
        let leaves = &ct_leaves()[..size as usize];
        assert_eq!(Tree::empty().append(leaves).paths()[index as usize], expected);
        let root = from_hex(CT_ROOTS[size as usize - 1]);
        assert_eq!(verify_inclusion(&leaves[index as usize], index, size, &expected, &root), Ok(()));
    }
}

#[test]
fn every_path_of_every_small_log_equals_the_definition() {
    for size in 1..=70_u64 {
        let leaves = leaves(0..size);
        for cut in 0..size as usize {
            let mut tree = Tree::empty();
            tree.append(&leaves[..cut]);
            let appended = tree.append(&leaves[cut..]);
            assert_eq!(tree.root(), naive_root(&leaves), "size {size}, cut {cut}");
            for (index, path) in (cut..).zip(&appended.paths()) {
                assert_eq!(*path, naive_path(index, &leaves), "size {size}, cut {cut}, index {index}");
            }
        }
    }
}

#[test]
fn an_independent_implementation_agrees_on_roots_and_paths() {
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let (mut ours, mut stored) = (Tree::empty(), Stored::default());
    for size in 1..=600_u64 {
        theirs.push(leaf_bytes(size - 1));
        stored.append(&mut ours, &leaves(size - 1..size));
        assert_eq!(theirs.root().as_bytes().as_slice(), ours.root().as_ref(), "size {size}");
        for index in (0..size).step_by(7) {
            let path = inclusion_path(index, size, &At(&stored, size)).unwrap().concat_bytes();
            assert_eq!(theirs.prove_inclusion(index as usize).as_bytes(), path, "index {index}, size {size}");
        }
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<Hash> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }
}

#[test]
fn a_log_of_two_tile_levels_rebuilds_roots_edges_and_paths_of_every_age() {
    let size = 66_000;
    let all = leaves(0..size);
    let (mut tree, mut stored) = (Tree::empty(), Stored::default());
    for batch in all.chunks(997) {
        stored.append(&mut tree, batch);
    }
    assert_eq!(stored.levels.iter().map(Vec::len).collect::<Vec<_>>(), [66_000, 257, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(stored.levels[1][256], naive_root(&all[65_536..65_792]));
    assert_eq!(stored.levels[2][0], naive_root(&all[..65_536]));
    for size in [1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_791, 65_792, 65_999, 66_000] {
        let source = At(&stored, size);
        let root = naive_root(&all[..size as usize]);
        assert_eq!(root_at(size, &source).unwrap(), root);
        assert_eq!(Tree::from_edge(size, edge_at(size, &source).unwrap()).unwrap().root(), root);
        for index in [0, 1, 255, 256, 300, 511, 65_535, 65_536, 65_791, 65_792, 65_999, size / 2, size - 1] {
            if index < size {
                let path = inclusion_path(index, size, &source).unwrap();
                assert_eq!(verify_inclusion(&all[index as usize], index, size, &path, &root), Ok(()));
            }
        }
    }
    assert_eq!(edge_at(66_000, &At(&stored, 66_000)).unwrap(), tree.edge());
}

#[test]
fn a_path_is_rebuilt_with_at_most_two_reads_per_level() {
    struct Counting<'a>(At<'a>, std::cell::RefCell<[u32; 9]>);
    impl HashSource for Counting<'_> {
        type Error = Infallible;
        fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Infallible> {
            self.1.borrow_mut()[usize::from(level)] += 1;
            self.0.hashes(level, first, count)
        }
    }
    let (mut tree, mut stored) = (Tree::empty(), Stored::default());
    stored.append(&mut tree, &leaves(0..70_001));
    let source = Counting(At(&stored, 70_001), Default::default());
    inclusion_path(12_345, 70_001, &source).unwrap();
    assert_eq!(*source.1.borrow(), [2, 2, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn appending_nothing_changes_nothing() {
    let mut tree = Tree::empty();
    tree.append(&leaves(0..5));
    let before = tree.clone();
    let appended = tree.append(&[]);
    assert_eq!((appended.first_index, appended.paths().len(), appended.tiles.len()), (5, 0, 0));
    assert_eq!(tree, before);
}

#[test]
fn an_append_gives_the_path_of_each_new_leaf_and_of_no_other() {
    let mut tree = Tree::empty();
    tree.append(&leaves(0..5));
    let appended = tree.append(&leaves(5..9));
    let paths: Vec<_> = (0..11).filter_map(|index| appended.path(index)).collect();
    assert_eq!((paths.len(), &paths), (4, &appended.paths()));
    assert_eq!((appended.path(4), appended.path(9)), (None, None));
    let all = leaves(0..9);
    assert!((5..9).all(|index| appended.path(index as u64) == Some(naive_path(index, &all))));
}

#[test]
fn an_edge_of_another_length_or_size_is_refused() {
    let edge = Tree::empty().edge().to_vec();
    assert_eq!(Tree::from_edge(1, edge), Err(EdgeError::Length { size: 1, expected: 1, found: 0 }));
    assert_eq!(Tree::from_edge(2, leaves(0..2)), Err(EdgeError::Length { size: 2, expected: 1, found: 2 }));
    assert_eq!(Tree::from_edge(LEAVES_MAX + 1, leaves(0..1)), Err(EdgeError::Size(LEAVES_MAX + 1)));
    assert!(Tree::from_edge(LEAVES_MAX, leaves(0..63)).is_ok());
}

#[test]
fn the_tallest_tree_still_grows_by_one() {
    let mut tree = Tree::from_edge(LEAVES_MAX - 1, leaves(0..62)).unwrap();
    let leaf = leaves(99..100);
    let path = tree.append(&leaf).paths().remove(0);
    assert_eq!((path.len(), tree.edge().len()), (62, 63));
    assert_eq!(verify_inclusion(&leaf[0], LEAVES_MAX - 1, LEAVES_MAX, &path, &tree.root()), Ok(()));
}

#[test]
fn a_store_with_a_gap_is_named_and_not_believed() {
    struct Gap;
    impl HashSource for Gap {
        type Error = Infallible;
        fn hashes(&self, _: u8, _: u64, count: u64) -> Result<Vec<Hash>, Infallible> {
            Ok(leaves(0..count - 1))
        }
    }
    let missing = RebuildError::Missing { level: 0, first: 256, expected: 44, found: 43 };
    assert_eq!(inclusion_path(7, 300, &Gap), Err(missing));
    assert_eq!(inclusion_path(300, 300, &Gap), Err(RebuildError::Index { index: 300, size: 300 }));
    assert_eq!(root_at(LEAVES_MAX + 1, &Gap), Err(RebuildError::Size(LEAVES_MAX + 1)));
    assert_eq!(root_at(0, &Gap), Ok(EMPTY_ROOT));
    assert_eq!(edge_at(LEAVES_MAX + 1, &Gap), Err(RebuildError::Size(LEAVES_MAX + 1)));
    assert_eq!(inclusion_path(0, LEAVES_MAX + 1, &Gap), Err(RebuildError::Size(LEAVES_MAX + 1)));
    let reads = |found: Option<RebuildError<Infallible>>| matches!(found, Some(RebuildError::Missing { .. }));
    assert!(reads(inclusion_path(0, LEAVES_MAX, &Gap).err()) && reads(edge_at(LEAVES_MAX, &Gap).err()));
    assert_eq!(<[u8; 32]>::from(leaf_hash(b"")), from_hex(CT_ROOTS[0]).as_bytes()[..]);
}

#[test]
fn verification_tells_index_length_and_root_apart() {
    let all = leaves(0..11);
    let mut tree = Tree::empty();
    let path = tree.append(&all).paths().swap_remove(4);
    let root = tree.root();
    let check = |index, size, path: &[Hash]| verify_inclusion(&all[4], index, size, path, &root);
    assert_eq!(check(4, 11, &path), Ok(()));
    assert_eq!(check(11, 11, &path), Err(ProofError::Index { index: 11, size: 11 }));
    assert_eq!(check(4, 0, &path), Err(ProofError::Index { index: 4, size: 0 }));
    assert_eq!(check(4, 11, &path[1..]), Err(ProofError::PathLength { expected: 4, found: 3 }));
    assert_eq!(check(4, 17, &path), Err(ProofError::PathLength { expected: 5, found: 4 }));
    assert_eq!(check(9, 11, &path), Err(ProofError::PathLength { expected: 3, found: 4 }));
    assert_eq!(check(5, 11, &path), Err(ProofError::Root));
    assert_eq!(check(4, u64::MAX, &path), Err(ProofError::PathLength { expected: 64, found: 4 }));
}

#[test]
fn leaves_and_nodes_never_hash_alike() {
    let (left, right) = (leaf_hash(b"a"), leaf_hash(b"b"));
    assert_ne!(leaf_hash(&[*left.as_bytes(), *right.as_bytes()].concat()), node_hash(&left, &right));
}

#[test]
fn the_text_form_of_a_hash_has_one_spelling() {
    let text = EMPTY_ROOT.to_base64();
    assert_eq!(Hash::from_base64(&text), Some(EMPTY_ROOT));
    for wrong in [
        text.trim_end_matches('=').to_owned(),
        format!("{text}="),
        format!("{text}\n"),
        format!(" {text}"),
        text.replace("FU=", "FV="),
        text.replace('/', "_"),
        "AAAA".to_owned(),
    ] {
        assert_eq!(Hash::from_base64(&wrong), None, "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn any_batching_gives_the_tree_of_the_definition(batches in vec(0_u64..90, 1..12)) {
        let all = leaves(0..batches.iter().sum());
        let (mut tree, mut stored, mut first) = (Tree::empty(), Stored::default(), 0);
        for batch in batches {
            let next = first + batch as usize;
            let paths = stored.append(&mut tree, &all[first..next]);
            let now = &all[..next];
            prop_assert_eq!(tree.root(), naive_root(now));
            prop_assert_eq!(root_of(now), tree.root());
            for (index, path) in (first..next).zip(paths) {
                prop_assert_eq!(&path, &naive_path(index, now));
                prop_assert_eq!(&path, &inclusion_path(index as u64, next as u64, &At(&stored, next as u64)).unwrap());
            }
            let reloaded = Tree::from_edge(tree.size(), tree.edge().to_vec()).unwrap();
            prop_assert_eq!(&reloaded, &tree);
            prop_assert_eq!(edge_at(tree.size(), &At(&stored, tree.size())).unwrap(), tree.edge());
            first = next;
        }
    }

    #[test]
    fn any_old_path_is_rebuilt_from_a_grown_log(size in 1_u64..1200, later in 0_u64..700, pick in any::<prop::sample::Index>()) {
        let all = leaves(0..size + later);
        let (mut tree, mut stored) = (Tree::empty(), Stored::default());
        stored.append(&mut tree, &all);
        let index = pick.index(size as usize);
        let path = inclusion_path(index as u64, size, &At(&stored, size)).unwrap();
        prop_assert_eq!(path, naive_path(index, &all[..size as usize]));
        prop_assert_eq!(root_at(size, &At(&stored, size)).unwrap(), naive_root(&all[..size as usize]));
    }

    #[test]
    fn every_flipped_bit_is_refused(size in 1_u64..300, pick in any::<prop::sample::Index>()) {
        let all = leaves(0..size);
        let index = pick.index(size as usize) as u64;
        let (leaf, path, root) = (all[index as usize], naive_path(index as usize, &all), naive_root(&all));
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &path, &root), Ok(()));
        for bit in 0..256 {
            prop_assert_eq!(verify_inclusion(&flip(leaf, bit), index, size, &path, &root), Err(ProofError::Root));
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &path, &flip(root, bit)), Err(ProofError::Root));
            for place in 0..path.len() {
                let mut path = path.clone();
                path[place] = flip(path[place], bit);
                prop_assert_eq!(verify_inclusion(&leaf, index, size, &path, &root), Err(ProofError::Root));
            }
        }
        for wrong in (0..size).filter(|wrong| *wrong != index) {
            prop_assert!(verify_inclusion(&leaf, wrong, size, &path, &root).is_err());
        }
    }
}

fn flip(hash: Hash, bit: usize) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Hash::from_bytes(bytes)
}
