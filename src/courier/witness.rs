//! Decides what a gateway says of the logs of others: it looks at what each partner has published, asks for the proof that
//! this grew out of what was seen before, and only then cosigns it. Never forgets a contradiction, and never cosigns a log
//! again that has contradicted itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::dial::{LineError, LogLine};
use super::post::{Diallers, Partner};
use crate::clock::Clock;
use crate::directory::notes::Kind;
use crate::directory::{Generation, MemberRecord};
use crate::limits::PARTNERS_AT_ONCE_MAX;
use crate::noticeboard::Noticeboard;
use crate::party::Member;
use crate::store::{Fork, Sightings, SightingsError};
use crate::tlog::checkpoint::{Checkpoint, CheckpointError};
use crate::tlog::consistency::verify_consistency;
use crate::tlog::cosignature::{WitnessKey, bare, cosign, signer, text, with_lines};
use crate::tlog::note::{NoteError, SigningKey, VerifyingKey};

/// A gateway as a witness of its partners' logs.
pub struct Witness {
    pub own: Member,
    /// The key of our own log, with which we cosign.
    pub key: SigningKey,
    /// Between two looks at one log.
    pub every: Duration,
    pub board: Arc<Noticeboard>,
    pub clock: Clock,
    pub dialer: Diallers,
    pub sightings: Sightings,
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("the published checkpoint does not hold: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("the published checkpoint does not hold: {0}")]
    Note(#[from] NoteError),
    #[error("the log of {0} leaves gives no proof that it grew out of the one of {1}")]
    Unproven(u64, u64),
    #[error("what was seen cannot be kept: {0}")]
    Kept(#[from] SightingsError),
    #[error("a thread died")]
    Died,
}

/// One state of a log, which the log has signed.
struct Seen {
    checkpoint: Checkpoint,
    /// The note with the log's own signature alone.
    note: String,
    key: VerifyingKey,
    /// As it came or was kept, with the lines of witnesses.
    cosigned: String,
}

impl Seen {
    fn open(note: &str, keys: &[VerifyingKey]) -> Result<Seen, Unseen> {
        let checkpoint = Checkpoint::open(note, keys)?;
        let key = keys.iter().find(|key| key.name() == checkpoint.origin);
        let key = key.ok_or_else(|| CheckpointError::UnknownLog(checkpoint.origin.clone()))?.clone();
        Ok(Seen { note: bare(note, &key)?, cosigned: note.to_owned(), checkpoint, key })
    }

    /// Size and root.
    fn state(&self) -> (u64, &crate::tlog::Hash) {
        (self.checkpoint.size, &self.checkpoint.root)
    }

    /// This witness's own line.
    fn line_of(&self, witness: &WitnessKey) -> Option<&str> {
        let own = (witness.name().to_owned(), witness.id());
        self.cosigned.lines().find(|line| signer(line).is_some_and(|signer| signer == own))
    }
}

impl Witness {
    /// Looks at every partner's log at its own pace until `stop`: one that does not answer holds up no other.
    pub async fn watch(self, stop: CancellationToken) {
        let at_once = Semaphore::new(PARTNERS_AT_ONCE_MAX);
        let watching = async {
            let (mut looking, mut busy) = (FuturesUnordered::new(), BTreeSet::new());
            loop {
                tokio::select! {
                    () = tokio::time::sleep(self.every) => {
                        for record in self.partners() {
                            if busy.insert(record.member.clone()) {
                                looking.push(self.look(record, &at_once));
                            }
                        }
                    }
                    Some(done) = looking.next(), if !looking.is_empty() => {
                        busy.remove(&done);
                    }
                }
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// Everybody else who can be dialled.
    fn partners(&self) -> Vec<MemberRecord> {
        let directory = self.board.directory();
        let others = directory.entries().map(|entry| &entry.record);
        others.filter(|record| record.member != self.own && !record.pulls()).cloned().collect()
    }

    async fn look(&self, record: MemberRecord, at_once: &Semaphore) -> Member {
        // Never closed: a place comes in the end.
        let _place = at_once.acquire().await;
        let partner = &record.member;
        match self.see(&record).await {
            Ok(()) => {}
            // That a partner does not answer is said by its checks and its lane.
            Err(Unseen::Line(error)) => tracing::debug!(%partner, %error, "its log was not seen"),
            Err(why) => tracing::error!(%partner, %why, "its log was seen, and is not cosigned"),
        }
        record.member
    }

    async fn see(&self, record: &MemberRecord) -> Result<(), Unseen> {
        let partner = Partner { member: record.member.clone(), endpoints: record.endpoints.clone() };
        let (mut line, note) = (self.dialer)(&partner).log().await?;
        if note.is_empty() {
            return Ok(());
        }
        let seen = Seen::open(&note, &record.log_keys)?;
        let origin = seen.checkpoint.origin.clone();
        let (held, forks) = self.kept(move |kept| Ok((kept.held(&origin)?, kept.forks()?))).await?;
        let forks: Vec<_> = forks.iter().filter(|fork| fork.origin == seen.checkpoint.origin).collect();
        if let (false, Some(held)) = (forks.is_empty(), &held) {
            return self.strengthen(record, Seen::open(held, &record.log_keys)?, seen, &forks).await;
        }
        let Some(held) = held else {
            self.close_former(record, &seen, &mut line).await?;
            return self.cosign(seen, &mut line).await;
        };
        let held = Seen::open(&held, &record.log_keys)?;
        match seen.checkpoint.size {
            size if size == held.checkpoint.size && seen.checkpoint.root == held.checkpoint.root => {
                self.remind(&held, &seen, &mut line).await
            }
            size if size == held.checkpoint.size => self.alarm(record, held, seen, vec![]).await,
            size if size < held.checkpoint.size => self.doubt(record, held, seen, &mut line).await,
            _ => self.follow(record, held, seen, &mut line).await,
        }
    }

    /// The log has grown: it must prove that it has only grown.
    async fn follow(&self, record: &MemberRecord, held: Seen, seen: Seen, line: &mut LogLine) -> Result<(), Unseen> {
        let (old, new) = (held.checkpoint.size, seen.checkpoint.size);
        let proof = line.consistency(&seen.checkpoint.origin, old, new).await?.ok_or(Unseen::Unproven(new, old))?;
        match verify_consistency(held.state(), seen.state(), &proof) {
            Ok(()) => self.cosign(seen, line).await,
            Err(_) => self.alarm(record, held, seen, proof).await,
        }
    }

    /// The log shows less than it has shown. It may lag; then it can prove that what it shows led to what it has shown.
    async fn doubt(&self, record: &MemberRecord, held: Seen, seen: Seen, line: &mut LogLine) -> Result<(), Unseen> {
        let (origin, old, new) = (seen.checkpoint.origin.clone(), seen.checkpoint.size, held.checkpoint.size);
        match line.consistency(&origin, old, new).await? {
            Some(proof) => match verify_consistency(seen.state(), held.state(), &proof) {
                Ok(()) => self.kept(move |kept| kept.set_behind(&origin, None)).await,
                Err(_) => self.alarm(record, held, seen, proof).await,
            },
            None => {
                let (name, note) = (origin.clone(), seen.note.clone());
                let before = self.kept(move |kept| {
                    let before = kept.behind(&name)?;
                    kept.set_behind(&name, Some(&note))?;
                    Ok(before)
                });
                if before.await?.is_none() {
                    let partner = &record.member;
                    tracing::error!(%partner, log = origin, shows = old, has_shown = new, "a log has lost leaves");
                }
                Ok(())
            }
        }
    }

    /// Two states that cannot both be: kept for ever, and told once.
    async fn alarm(
        &self,
        record: &MemberRecord,
        held: Seen,
        seen: Seen,
        proof: Vec<crate::tlog::Hash>,
    ) -> Result<(), Unseen> {
        let (first, second) = (held.checkpoint.size, seen.checkpoint.size);
        let origin = seen.checkpoint.origin.clone();
        let fork = Fork { origin: origin.clone(), first: held.cosigned, second: seen.note, proof };
        let keep = move |kept: &Sightings| {
            let folder = kept.keep_fork(&fork)?;
            kept.set_behind(&fork.origin, None)?;
            Ok(folder)
        };
        let folder = self.kept(keep).await?;
        let (partner, notes) = (&record.member, folder.display());
        tracing::error!(%partner, log = origin, first, second, %notes, "A LOG HAS FORKED: two notes contradict each other");
        Ok(())
    }

    /// A log that has contradicted itself is cosigned no more. It is still looked at for two roots at one size: they prove it
    /// by themselves, without a word about what the log gave as proof.
    async fn strengthen(&self, record: &MemberRecord, held: Seen, seen: Seen, forks: &[&Fork]) -> Result<(), Unseen> {
        let known = forks.iter().any(|fork| fork.proof.is_empty());
        let two_roots = seen.checkpoint.size == held.checkpoint.size && seen.checkpoint.root != held.checkpoint.root;
        if two_roots && !known { self.alarm(record, held, seen, vec![]).await } else { Ok(()) }
    }

    /// Cosigns what was found to have only grown. What is handed in is on disk before: after a crash the log is never
    /// believed to have been shorter than what we have signed.
    async fn cosign(&self, seen: Seen, line: &mut LogLine) -> Result<(), Unseen> {
        let signed = cosign(text(&seen.note)?, &self.key, self.clock.now().ms() / 1000)?;
        let (origin, size) = (seen.checkpoint.origin.clone(), seen.checkpoint.size);
        let note = with_lines(&seen.note, [signed.as_str()]);
        let name = origin.clone();
        let keep = move |kept: &Sightings| {
            kept.hold(&name, &note)?;
            kept.set_behind(&name, None)
        };
        self.kept(keep).await?;
        tracing::debug!(log = origin, size, key = %seen.key, "cosigned");
        Ok(line.hand_in(&origin, size, &signed).await?)
    }

    /// Nothing new. Where our word has not arrived, it is handed in again.
    async fn remind(&self, held: &Seen, seen: &Seen, line: &mut LogLine) -> Result<(), Unseen> {
        let own = WitnessKey::of(self.key.verifying_key());
        if let (Some(signed), None) = (held.line_of(&own), seen.line_of(&own)) {
            line.hand_in(&seen.checkpoint.origin, seen.checkpoint.size, signed).await?;
        }
        let origin = seen.checkpoint.origin.clone();
        self.kept(move |kept| kept.set_behind(&origin, None)).await
    }

    /// A log that was never seen may go on where another was left: the member's statement says how far that had come, and
    /// must not contradict what was seen of it.
    async fn close_former(&self, record: &MemberRecord, seen: &Seen, line: &mut LogLine) -> Result<(), Unseen> {
        let statement = self.board.note(&(Kind::Generation, Some(record.member.clone())));
        let statement = statement.and_then(|note| Generation::parse(text(&note.note).ok()?).ok());
        let closed = statement.filter(|statement| statement.log_key == seen.key).and_then(|it| it.last_checkpoint);
        let Some(closed) = closed else { return Ok(()) };
        let closed = Seen::open(&closed, &record.log_keys)?;
        let origin = closed.checkpoint.origin.clone();
        let Some(held) = self.kept(move |kept| kept.held(&origin)).await? else { return Ok(()) };
        let held = Seen::open(&held, &record.log_keys)?;
        let (origin, old, new) = (closed.checkpoint.origin.clone(), held.checkpoint.size, closed.checkpoint.size);
        if old > new {
            let partner = &record.member;
            tracing::warn!(%partner, log = origin, closed = new, seen = old, "a log was closed before its last leaves");
            return Ok(());
        }
        let proof = line.consistency(&origin, old, new).await?.ok_or(Unseen::Unproven(new, old))?;
        match verify_consistency(held.state(), closed.state(), &proof) {
            Ok(()) => Ok(()),
            Err(_) => self.alarm(record, held, closed, proof).await,
        }
    }

    /// Works on what is kept, where blocking is allowed.
    async fn kept<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sightings) -> Result<T, SightingsError> + Send + 'static,
    ) -> Result<T, Unseen> {
        let sightings = self.sightings.clone();
        let worked = tokio::task::spawn_blocking(move || work(&sightings)).await;
        worked.map_err(|_| Unseen::Died)?.map_err(Unseen::Kept)
    }
}
