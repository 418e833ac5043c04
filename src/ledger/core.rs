//! Decides the order that keeps a log honest: leaves and state in one commit, the checkpoint signed before it and shown
//! after it, never two roots for one size. Never reads a clock; chance comes in with the ids.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Answer;
use super::Entry;
use super::batch::{Batch, Ground, Pending, Scribe};
use super::bells::Rung;
use super::counts::{Counts, Said};
use crate::audit::Act;
use crate::chance::Chance;
use crate::evidence::Evidence;
use crate::limits::{CLOCK_UNCERTAINTY_MS, DISK_LOOK_EVERY_MS, DISK_RESERVE_BYTES, MARK_EVERY_MS, REHASHED_AT_START};
use crate::party::{Member, Name};
use crate::planted;
use crate::receipt::Receipt;
use crate::store::{self, Commit, LaneName, Mark, MarkError, Seq, Writer};
use crate::succession::Succession;
use crate::time::Time;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::SigningKey;
use crate::tlog::tree::Tree;

/// Why a ledger does not start: signing on would risk a second root for one size.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The tree does not lead to the newest checkpoint.
    #[error("the stored tree of {size} leaves does not lead to its own checkpoint: {what}")]
    Edge { size: u64, what: String },
    /// The database is older than what was shown.
    #[error(
        "the store holds {stored} leaves, but a checkpoint over {shown} was shown: it was put back from an older copy. \
         Only a new log generation may go on"
    )]
    Behind { stored: u64, shown: u64 },
    /// The database and what was shown disagree.
    #[error("the stored log and the checkpoint over {size} leaves that was shown have different roots")]
    Forked { size: u64 },
    /// The log belongs to another key or name.
    #[error("the store belongs to the log {stored:?}, the key given is for {given:?}")]
    OtherLog { stored: String, given: String },
}

/// The ledger without its thread: one call, one commit.
pub struct Core {
    writer: Writer,
    mark: Mark,
    key: SigningKey,
    issuer: Member,
    tree: Tree,
    /// The place of the log's first leaf in the store.
    first_place: u64,
    /// The newest note, and whether the mark lacks it.
    newest: Option<String>,
    mark_behind: bool,
    marked_at: Time,
    last_at: Time,
    next_seq: Seq,
    /// Messages that wait in each lane.
    waiting: HashMap<LaneName, u64>,
    receipt_readers: HashSet<Name>,
    disk: Disk,
    chance: Chance,
    counts: Counts,
}

/// A batch that is decided and signed, and not yet true: dropping it leaves everything as it was.
pub struct Prepared {
    at: Time,
    pending: Vec<Pending>,
    commit: Commit,
    rung: Rung,
    said: Vec<Said>,
    next_seq: Seq,
    joined: HashMap<LaneName, i64>,
}

/// How much room the disk had when it was looked at.
struct Disk {
    looked_at: Time,
    nearly_full: bool,
}

impl Prepared {
    /// The note that will be shown once this is true; none when no leaf is added.
    pub fn note(&self) -> Option<&str> {
        self.commit.checkpoint.as_ref().map(|(_, note)| note.as_str())
    }
}

impl Core {
    /// Opens the log of `issuer` for signing with `key`, whose name is the log's origin.
    ///
    /// # Errors
    /// See [`StartError`]: every one of them means that nothing may be signed.
    pub fn open(writer: Writer, mark: Mark, key: SigningKey, issuer: Member) -> Result<Core, StartError> {
        let (tree, newest) = writer.tree()?;
        let edge = |what: &str| StartError::Edge { size: tree.size(), what: what.to_owned() };
        match &newest {
            None if tree.size() > 0 => return Err(edge("the checkpoint is missing")),
            None => {}
            Some(note) => {
                let claimed = Checkpoint::claimed(note).map_err(|error| edge(&error.to_string()))?;
                let given = key.verifying_key().name();
                if claimed.origin != given {
                    return Err(StartError::OtherLog { stored: claimed.origin, given: given.to_owned() });
                }
                let opened = Checkpoint::open(note, std::slice::from_ref(key.verifying_key()));
                let opened = opened.map_err(|error| edge(&error.to_string()))?;
                let differs = opened.root != tree.root()
                    || opened.size != tree.size()
                    || opened.root != writer.root_at(tree.size())?;
                if differs && !planted::is(planted::Bug::EdgeNotChecked) {
                    return Err(edge("another root"));
                }
                writer.rehash(tree.size().saturating_sub(REHASHED_AT_START))?;
            }
        }
        check_mark(&writer, &mark, &tree)?;
        let next_seq = writer.last_seq()? + 1;
        let waiting = writer.waiting()?;
        let first_place = writer.first_place()?;
        let last_at = writer.newest_leaf()?.and_then(|leaf| recorded_at(&leaf)).unwrap_or_default();
        Ok(Core {
            first_place,
            waiting,
            receipt_readers: HashSet::new(),
            disk: Disk { looked_at: Time::ZERO, nearly_full: false },
            chance: Chance::default(),
            counts: Counts::default(),
            writer,
            mark,
            key,
            issuer,
            tree,
            newest,
            mark_behind: false,
            marked_at: Time::ZERO,
            last_at,
            next_seq,
        })
    }

    /// Own systems that want the receipts of their messages delivered.
    pub fn with_receipt_readers(self, receipt_readers: HashSet<Name>) -> Core {
        Core { receipt_readers, ..self }
    }

    /// Draws receipt ids from `chance` instead of the operating system, so that a run can repeat itself.
    pub fn with_chance(self, chance: Chance) -> Core {
        Core { chance, ..self }
    }

    /// Messages that wait in a lane.
    pub fn waiting(&self, lane: &LaneName) -> u64 {
        self.waiting.get(lane).copied().unwrap_or(0)
    }

    /// What is counted of its work.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Makes all entries true in one commit and answers them in order.
    ///
    /// # Errors
    /// [`store::Error::Full`]: nothing has changed and the ledger goes on. Any other: it must not go on.
    pub fn apply(&mut self, now: Time, entries: Vec<Entry>) -> Result<(Vec<Answer>, Rung), store::Error> {
        let prepared = self.prepare(now, entries)?;
        self.commit(prepared)
    }

    /// Decides all entries, appends their leaves and signs the checkpoint. Nothing of it is stored or shown: a crash
    /// between this and [`Core::commit`] leaves nothing behind.
    ///
    /// # Errors
    /// The store's own.
    pub fn prepare(&mut self, now: Time, entries: Vec<Entry>) -> Result<Prepared, store::Error> {
        // The log's own time never runs backwards, whatever the clock does.
        let at = now.max(self.last_at);
        let scribe = Scribe {
            at,
            issuer: self.issuer.clone(),
            key_id: self.key.verifying_key().id(),
            clock_uncertainty_ms: CLOCK_UNCERTAINTY_MS,
        };
        self.look_at_disk(at)?;
        let _reading = self.writer.reading()?;
        let ground = Ground {
            writer: &self.writer,
            waiting: &self.waiting,
            receipt_readers: &self.receipt_readers,
            disk_nearly_full: self.disk.nearly_full,
            chance: &self.chance,
        };
        let first_leaf = self.first_place + self.tree.size();
        let mut batch = Batch::new(ground, scribe, first_leaf, self.next_seq);
        let pending = entries.into_iter().map(|entry| batch.enter(entry)).collect::<Result<Vec<_>, _>>()?;
        let said = std::mem::take(&mut batch.said);
        let (mut commit, rung, next_seq, joined) = batch.finish();
        self.sign(&mut commit)?;
        Ok(Prepared { at, pending, commit, rung, said, next_seq, joined })
    }

    /// Appends the leaves of a commit to a copy of the tree and signs its root.
    fn sign(&self, commit: &mut Commit) -> Result<(), store::Error> {
        let hashes: Vec<_> = commit.leaves.iter().map(|leaf| leaf.hash).collect();
        if hashes.is_empty() {
            return Ok(());
        }
        let mut tree = self.tree.clone();
        let appended = tree.append(&hashes);
        let checkpoint =
            Checkpoint { origin: self.key.verifying_key().name().to_owned(), size: tree.size(), root: tree.root() };
        let note = checkpoint.sign(&self.key).map_err(|error| store::Error::Failed(error.to_string()))?;
        commit.tiles = appended.tiles.clone();
        commit.checkpoint = Some((tree, note));
        commit.appended = Some(Arc::new(appended));
        Ok(())
    }

    /// Makes a prepared batch true, and only then gives its answers.
    ///
    /// # Errors
    /// As [`Core::apply`].
    pub fn commit(&mut self, prepared: Prepared) -> Result<(Vec<Answer>, Rung), store::Error> {
        let Prepared { at, pending, mut commit, rung, said, next_seq, joined } = prepared;
        let first_leaf = self.first_place + self.tree.size();
        // A crash before this line leaves nothing behind; the note was shown to nobody.
        self.writer.commit(&commit)?;
        self.counts.written(&said);
        // A crash from here on loses only answers: the same request gets the same receipt.
        if let Some((tree, note)) = commit.checkpoint.take() {
            self.tree = tree;
            self.newest = Some(note);
            self.mark_behind = true;
        }
        for (lane, change) in joined {
            let waiting = self.waiting.entry(lane).or_default();
            *waiting = waiting.saturating_add_signed(change);
        }
        self.last_at = at;
        self.next_seq = next_seq;
        // What this commit wrote is in memory; only what came before must be read, or what is asked for a second time.
        let leaves = &mut commit.leaves;
        let mut receipt = |leaf: u64| {
            let fresh = leaf.checked_sub(first_leaf).and_then(|place| leaves.get_mut(place as usize));
            match fresh.filter(|fresh| !fresh.bytes.is_empty()).zip(self.writer.proof(leaf)) {
                Some((fresh, proof)) => Ok(Receipt { leaf: std::mem::take(&mut fresh.bytes), proof }),
                None => self.writer.receipt(leaf),
            }
        };
        let answers = pending.into_iter().map(|pending| pending.answer(&mut receipt));
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?;
        if planted::is(planted::Bug::NeighboursReceipt)
            && let [Answer::Taken(_), Answer::Taken(_), ..] = answers[..]
        {
            answers.swap(0, 1);
        }
        Ok((answers, rung))
    }

    fn look_at_disk(&mut self, now: Time) -> Result<(), store::Error> {
        if now.since_ms(self.disk.looked_at) >= DISK_LOOK_EVERY_MS {
            let nearly_full = self.writer.free_bytes()? < DISK_RESERVE_BYTES;
            if nearly_full && !self.disk.nearly_full {
                tracing::error!("the disk is nearly full: no new messages are taken, those that are here go on");
            }
            self.disk = Disk { looked_at: now, nearly_full };
        }
        Ok(())
    }

    /// Whether a checkpoint was shown that the mark does not hold yet.
    pub fn mark_is_behind(&self) -> bool {
        self.mark_behind
    }

    /// Writes the mark when it may lag no longer.
    pub fn write_mark_if_due(&mut self, now: Time) {
        if self.mark_behind && now.since_ms(self.marked_at) >= MARK_EVERY_MS {
            self.write_mark(now);
        }
    }

    /// Writes the mark. A failure is told and tried again: the store itself is still the stricter witness.
    pub fn write_mark(&mut self, now: Time) {
        self.marked_at = now;
        let Some(note) = self.newest.as_ref().filter(|_| self.mark_behind) else { return };
        match self.mark.write(note) {
            Ok(()) => self.mark_behind = false,
            Err(error) => tracing::warn!(%error, "the high-water mark was not written"),
        }
    }
}

/// When a leaf says that it was recorded: the log's time goes on from there, though the clock was put back meanwhile.
fn recorded_at(leaf: &[u8]) -> Option<Time> {
    let evidence = Evidence::from_leaf(leaf).ok().map(|evidence| evidence.at);
    let act = || Act::from_leaf(leaf).ok().map(|act| act.at);
    let succession = || Succession::from_leaf(leaf).ok().map(|succession| succession.at);
    evidence.or_else(act).or_else(succession)
}

/// The stored log must hold everything that the mark says was shown, under the same root.
fn check_mark(writer: &Writer, mark: &Mark, tree: &Tree) -> Result<(), StartError> {
    let Some(note) = mark.read()? else { return Ok(()) };
    let damaged = |error| StartError::Edge { size: tree.size(), what: format!("high-water mark: {error}") };
    let shown = Checkpoint::claimed(&note).map_err(damaged)?;
    if shown.size > tree.size() {
        return Err(StartError::Behind { stored: tree.size(), shown: shown.size });
    }
    if writer.root_at(shown.size)? != shown.root {
        return Err(StartError::Forked { size: shown.size });
    }
    Ok(())
}
