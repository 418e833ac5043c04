//! Decides what a transparency log is: how leaves become a tree, a root becomes a signed checkpoint, and both become a
//! receipt that anyone can check offline. Never reads a clock, a file or a random number, and never keeps a leaf.
//!
//! The tree is the one of RFC 6962 §2.1. The texts are the C2SP formats signed-note, tlog-checkpoint, tlog-proof and
//! tlog-cosignature, read strictly: what this module accepts has exactly one spelling, except for the lines of signers it does not know.

mod hash;

pub mod checkpoint;
pub mod consistency;
pub mod cosignature;
pub mod note;
pub mod proof;
pub mod receipt_file;
pub mod tree;

pub use hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
