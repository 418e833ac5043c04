//! Decides what this machine can do without a gateway: the disk alone, and the store alone with the rows of a gateway, without
//! network, rules, hashes or signatures. What a gateway reaches is measured against that.

#![allow(clippy::disallowed_methods, reason = "writes and syncs, which is what is measured")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::{Exit, Failure, files, now};
use super::measure::{Limit, Run, Stopwatch};
use crate::chance;
use crate::evidence::State;
use crate::id::MessageId;
use crate::message::{Address, Digest};
use crate::party::Division;
use crate::store::{self, Commit, Head, Key, LaneName, NewLeaf, NewMessage, Synchronous};
use crate::time::Time;
use crate::tlog::Hash;
use crate::tlog::tree::Tree;

/// Bytes of what stands beside a content: envelope, leaf and note, as a gateway's have on average.
const HEADER_BYTES: usize = 206;
const LEAF_BYTES: usize = 202;
const NOTE_BYTES: usize = 227;

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let stamp: String = now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
        let folder = std::env::temp_dir().join(format!("tongban-alone-{stamp}-{}", std::process::id()));
        files::folder(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies among the temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Appends `size` bytes to a file and syncs it, again and again.
pub fn disk(size: usize, limit: Limit) -> Result<Run, Failure> {
    let scratch = Scratch::new()?;
    let mut file = OpenOptions::new().append(true).create_new(true).open(scratch.0.join("log"))?;
    let bytes = vec![0x5a; size];
    let mut watch = Stopwatch::start(limit);
    while watch.begins() {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        watch.answered(begun);
    }
    Ok(watch.stop())
}

/// Stores messages as a gateway does, `at_once` in each commit. Only commits are timed, not the making of the rows.
pub fn store(size: usize, at_once: usize, limit: Limit) -> Result<Run, Failure> {
    let scratch = Scratch::new()?;
    let broken = |fault: String| Failure::new(Exit::Io, &fault, format!("存储：{fault}"));
    let (mut writer, _readers) =
        store::open(&scratch.0, Synchronous::Full).map_err(|fault| broken(fault.to_string()))?;
    let mut rows = Rows::new(size)?;
    let (mut busy, mut watch) = (Duration::ZERO, Stopwatch::start(limit));
    while watch.begins_after(busy) {
        let commit = rows.commit(at_once);
        let begun = Instant::now();
        writer.commit(&commit).map_err(|fault| broken(fault.to_string()))?;
        busy += begun.elapsed();
        (0..at_once).for_each(|_| watch.answered(begun));
    }
    Ok(watch.stop_after(busy))
}

/// Makes the rows of a mailbox that fills: a message, two leaves, and their share of tiles, edge and note.
struct Rows {
    size: usize,
    from: Address,
    lane: LaneName,
    tree: Tree,
    next: u64,
    /// Of xorshift64: ids and hashes must not be alike.
    state: u64,
}

impl Rows {
    fn new(size: usize) -> Result<Rows, Failure> {
        let unfit = |_| Failure::new(Exit::Software, "no such name", "没有这个名称");
        let city: Division = super::ground::CITY.parse().map_err(unfit)?;
        let system = super::ground::SILENT.parse().map_err(unfit)?;
        let chance: [u8; 8] = chance::bytes().map_err(std::io::Error::other)?;
        let from = Address { city, system: None };
        let state = u64::from_le_bytes(chance) | 1;
        Ok(Rows { size, from, lane: LaneName::System(system), tree: Tree::empty(), next: 1, state })
    }

    fn commit(&mut self, at_once: usize) -> Commit {
        let first_leaf = self.tree.size();
        let messages: Vec<NewMessage> = (0..at_once as u64).map(|place| self.message(first_leaf + 2 * place)).collect();
        let leaves: Vec<NewLeaf> =
            messages.iter().flat_map(|message| [message.head.seq; 2]).map(|seq| self.leaf(seq)).collect();
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf.hash).collect();
        let tiles = self.tree.append(&hashes).tiles;
        let checkpoint = Some((self.tree.clone(), "n".repeat(NOTE_BYTES)));
        Commit { messages, leaves, tiles, checkpoint, ..Commit::default() }
    }

    fn message(&mut self, first_leaf: u64) -> NewMessage {
        let (at, digest, seq) = (now(), Digest(self.noise()), self.next);
        self.next += 1;
        let mut chance = [0; 10];
        chance.copy_from_slice(&digest.0[..10]);
        let head = Head {
            seq,
            key: Key { from_city: self.from.city.clone(), id: MessageId::new_v7(at, chance) },
            header_digest: digest,
            standing: State::Accepted.into(),
            lane: self.lane.clone(),
            came_by: None,
            stored_at: at,
            expires_at: at,
            closed_at: None,
            first_leaf,
            base: (first_leaf + 1, vec![]),
            last: (first_leaf + 1, digest),
            queued: true,
        };
        NewMessage {
            head,
            order_key: None,
            recipient: self.from.clone(),
            others: vec![],
            via: vec![],
            attachments: vec![],
            due_at: Time::ZERO,
            origin_receipt: None,
            header: vec![0x68; HEADER_BYTES],
            body: vec![0x62; self.size],
        }
    }

    fn leaf(&mut self, message: u64) -> NewLeaf {
        NewLeaf { hash: Hash::from_bytes(self.noise()), message: Some(message), bytes: vec![0x6c; LEAF_BYTES] }
    }

    fn noise(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for place in bytes.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            place.copy_from_slice(&self.state.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_alone_stores_what_a_gateway_would() {
        let mut rows = Rows::new(1_024).unwrap();
        let (first, second) = (rows.commit(300), rows.commit(2));
        assert_eq!((first.messages.len(), first.leaves.len(), first.tiles.len()), (300, 600, 2));
        assert_eq!((second.messages[0].head.seq, second.messages[0].head.first_leaf), (301, 600));
        assert_eq!(second.checkpoint.map(|(tree, _)| tree.size()), Some(604));
        let run = store(1_024, 8, Limit::Count(16)).unwrap();
        assert_eq!(run.count(), 16);
    }

    #[test]
    fn the_disk_alone_is_measured_by_its_syncs() {
        assert_eq!(disk(1_024, Limit::Count(3)).unwrap().count(), 3);
    }
}
