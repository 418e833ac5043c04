//! Receipts of whole logs, made here: every leaf of a log of some size, under its last checkpoint.

use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::SigningKey;
use tongban::tlog::receipt_file::TlogProof;
use tongban::tlog::tree::Tree;

pub const ORIGIN: &str = "hangzhou.gateway.example/log/a/1";

/// Log sizes whose receipts are checked: a single leaf, around a power of two, and larger ones.
pub const SIZES: [u64; 5] = [1, 2, 3, 100, 1000];

pub fn log_key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

pub fn leaf(index: u64) -> Vec<u8> {
    format!("evidence number {index}: 办件已接收").into_bytes()
}

/// Receipts of every leaf of a log, all under its last checkpoint.
pub fn receipts(size: u64) -> Vec<TlogProof> {
    let mut tree = Tree::empty();
    let leaves: Vec<_> = (0..size).map(|index| leaf_hash(&leaf(index))).collect();
    let paths = tree.append(&leaves).paths();
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: tree.root() };
    let checkpoint_note = checkpoint.sign(&log_key()).unwrap();
    let receipt = |(index, path)| TlogProof { extra: None, index, path, checkpoint_note: checkpoint_note.clone() };
    (0..).zip(paths).map(receipt).collect()
}
