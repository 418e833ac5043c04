//! Ring 1a: the pure cores alone, without a store, at a million steps a second: batches over the tree with commits whose
//! outcome is unknown, and admission under clocks that jump. The lanes' own world is tests/parts/lanes_world.rs, routing's oracle
//! tests/parts/routing_oracle.rs.

use std::collections::BTreeMap;

use tongban::admission::Bucket;
use tongban::time::Time;
use tongban::tlog::proof::verify_inclusion;
use tongban::tlog::tree::Tree;
use tongban::tlog::{Hash, leaf_hash};

use crate::dice::Dice;
use crate::merkle::Merkle;

/// Steps of each world; 10,000,000 in a long run.
const STEPS: u64 = if cfg!(debug_assertions) { 20_000 } else { 400_000 };

/// What is on the disk: the leaves, and the tree as it was stored with them.
struct Disk {
    leaves: Vec<[u8; 32]>,
    tree: Tree,
}

/// A ledger's order over the tree: decide, append, sign, store, show. It ends anywhere in between, and a store that fails may
/// have stored: what it showed must be true for ever.
#[test]
fn whatever_a_commit_comes_to_nobody_is_shown_two_roots_for_one_size() {
    let mut dice = Dice::new(super::number("SIMULATION_FIRST", 1));
    let mut steps = 0;
    let (mut thrown_away, mut unknown) = (0u64, 0u64);
    while steps < super::number("SIMULATION_STEPS", STEPS) {
        let mut disk = Disk { leaves: vec![], tree: Tree::empty() };
        let (mut memory, mut shown) = (disk.tree.clone(), BTreeMap::<u64, Hash>::new());
        let life = 50 + dice.below(1_500);
        for _ in 0..life {
            steps += 1;
            let batch: Vec<Hash> = (0..1 + dice.below(5)).map(|_| leaf_hash(&dice.next().to_be_bytes())).collect();
            let mut tree = memory.clone();
            let appended = tree.append(&batch);
            match dice.below(8) {
                // The process ends between sign and commit.
                0 => {
                    thrown_away += 1;
                    memory = disk.tree.clone();
                    continue;
                }
                // The disk is full: the ledger goes on, and signs this size again.
                1 => {
                    thrown_away += 1;
                    continue;
                }
                _ => {}
            }
            disk.leaves.extend(batch.iter().map(|hash| <[u8; 32]>::from(*hash)));
            disk.tree = tree.clone();
            memory = tree;
            if dice.below(8) == 0 {
                // Stored, and nobody hears of it: the next batch must stand on what is true.
                unknown += 1;
                memory = Tree::from_edge(disk.tree.size(), disk.tree.edge().to_vec()).unwrap();
                continue;
            }
            let (size, root) = (memory.size(), memory.root());
            assert_eq!(*shown.entry(size).or_insert(root), root, "two roots at {size}");
            let which = dice.index(batch.len());
            let index = appended.first_index + which as u64;
            verify_inclusion(&batch[which], index, size, &appended.paths()[which], &root).unwrap();
        }
        let mut merkle = Merkle::new(disk.leaves);
        for (size, root) in &shown {
            assert_eq!(merkle.root(*size as usize).as_slice(), root.as_ref(), "the root at {size}");
        }
    }
    println!("{steps} commits, {thrown_away} roots thrown away, {unknown} outcomes unknown");
    assert!(thrown_away > 0 && unknown > 0);
}

/// A rate is kept in every second, however the clock jumps; and a clock that goes on gives it back.
#[test]
fn a_rate_is_kept_whatever_the_clock_does() {
    let mut dice = Dice::new(super::number("SIMULATION_FIRST", 1));
    let per_s = 10;
    for _ in 0..super::number("SIMULATION_STEPS", STEPS) / 400 {
        let (mut bucket, mut now_ms) = (Bucket::default(), 10_000_000_u64);
        let mut given: Vec<u64> = vec![];
        for _ in 0..400 {
            now_ms = match dice.below(40) {
                0 => now_ms.saturating_sub(dice.below(5_000)),
                1 => now_ms + dice.below(60_000),
                _ => now_ms + dice.below(150),
            };
            if bucket.take(Time::from_ms(now_ms), per_s) {
                given.push(now_ms);
            }
        }
        given.sort_unstable();
        let full = given.windows(2 * per_s as usize + 1).find(|window| window[2 * per_s as usize] - window[0] < 1_000);
        assert_eq!(full, None, "more than a full bucket and a second's rate within a second");
        assert!(bucket.take(Time::from_ms(now_ms + 1_000_000), per_s), "it fills again");
    }
}
