//! Decides which letters can be redriven, and why the others cannot; and sets letters aside. Never submits one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Redrive, Selection};
use crate::blobs::Blobs;
use crate::intake::Intake;
use crate::ledger::{Answer, Entry};
use crate::limits::{DEAD_AT_ONCE_MAX, DEAD_CHUNK, DEAD_EXAMPLES_MAX};
use crate::party::{Division, Member, Party};
use crate::reason::Reason;
use crate::store::{DeadFate, DeadLetter, Error, Key, Seq, Snapshot};
use crate::wire::envelope::{join, outline};
use crate::wire::status::Refused;

/// Why a letter cannot be redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another city sent it: only its own gateway redrives it.
    Elsewhere,
    /// Retention has taken its content.
    BodyGone,
    Redriven,
    Discarded,
    /// There is no such letter.
    Unknown,
    /// Grants or routes in force refuse it.
    Refused(Reason),
}

/// Letters that cannot be redriven for one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obstacle {
    pub count: u64,
    /// Some of them.
    pub examples: Vec<Key>,
}

/// What a redrive would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Letters that can be redriven, in order.
    pub letters: Vec<Seq>,
    /// Bytes of their parts.
    pub bytes: u64,
    pub obstacles: BTreeMap<Kind, Obstacle>,
}

/// How it stands in the audit.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = (self.letters.first().unwrap_or(&0), self.letters.last().unwrap_or(&0));
        write!(f, "{} letters, places {first} to {last}", self.letters.len())
    }
}

impl Plan {
    fn add(&mut self, seq: Seq, judged: Result<u64, (Kind, Key)>) {
        match judged {
            Ok(bytes) => {
                self.letters.push(seq);
                self.bytes += bytes;
            }
            Err((kind, key)) => {
                let obstacle = self.obstacles.entry(kind).or_default();
                obstacle.count += 1;
                if obstacle.examples.len() < DEAD_EXAMPLES_MAX {
                    obstacle.examples.push(key);
                }
            }
        }
    }
}

/// What letters are judged by.
struct Judge {
    own: Option<Division>,
    intake: Arc<Intake>,
    blobs: Blobs,
}

impl Redrive {
    /// The city of this gateway; none at a hub.
    pub(super) fn own_city(&self) -> Option<Division> {
        match &self.ground.own {
            Member::City(city) => Some(city.clone()),
            Member::Hub(_) => None,
        }
    }

    /// What redriving the selected letters would do.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn plan(&self, selection: Selection) -> Result<Plan, Refused> {
        let judge = Judge { own: self.own_city(), intake: self.intake.clone(), blobs: self.ground.blobs.clone() };
        let judge = Arc::new(judge);
        let mut plan = Plan::default();
        let judged = |look: &Snapshot<'_>, judge: &Judge, letter: &DeadLetter| {
            Ok::<_, Error>((letter.seq, judge.judge(look, letter)?))
        };
        self.each(selection, move |look, found| match found {
            Ok(letter) => judged(look, &judge, &letter),
            Err(unknown) => Ok((0, Err((Kind::Unknown, unknown)))),
        })
        .await?
        .into_iter()
        .for_each(|(seq, judged)| plan.add(seq, judged));
        // Those that were named come in any order; a case keeps its own.
        plan.letters.sort_unstable();
        plan.letters.dedup();
        Ok(plan)
    }

    /// Sets the selected letters aside: how many were, or would be, and how many others were named.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `STORE_FULL`.
    pub async fn discard(
        &self,
        selection: Selection,
        why: &str,
        actor: &Party,
        dry_run: bool,
    ) -> Result<(u64, u64), Refused> {
        let waits = |_: &Snapshot<'_>, found: Result<DeadLetter, Key>| {
            Ok(found.ok().filter(|letter| letter.fate == DeadFate::Waits).map(|letter| letter.seq))
        };
        let found = self.each(selection, waits).await?;
        let named = found.len() as u64;
        let mut letters: Vec<Seq> = found.into_iter().flatten().collect();
        letters.sort_unstable();
        letters.dedup();
        if dry_run {
            return Ok((letters.len() as u64, named - letters.len() as u64));
        }
        let mut discarded = 0;
        for some in letters.chunks(DEAD_CHUNK) {
            let entry = Entry::Discard { messages: some.to_vec(), why: why.to_owned(), actor: actor.to_string() };
            if let Answer::Discarded(count) = self.ground.ledger.enter(entry).await? {
                discarded += count;
            }
        }
        Ok((discarded, named - discarded))
    }

    /// Looks at each selected letter, some at a time; one that is named and not there comes as its key.
    async fn each<T: Send + 'static>(
        &self,
        selection: Selection,
        look_at: impl Fn(&Snapshot<'_>, Result<DeadLetter, Key>) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<Vec<T>, Refused> {
        let mut all = vec![];
        match selection {
            Selection::Named(keys) => {
                for some in keys.chunks(DEAD_CHUNK) {
                    let (some, look_at) = (some.to_vec(), look_at.clone());
                    let seen = self.ground.readers.seek(move |look| {
                        let letter = |key: Key| look_at(look, look.dead_letter(&key)?.ok_or(key));
                        some.into_iter().map(letter).collect::<Result<Vec<_>, _>>()
                    });
                    all.extend(seen.await.map_err(unreadable)?);
                }
            }
            Selection::Fitting(filter) => {
                let mut after = 0;
                while all.len() < DEAD_AT_ONCE_MAX {
                    let (filter, look_at) = (filter.clone(), look_at.clone());
                    let seen = self.ground.readers.seek(move |look| {
                        let letters = look.dead_letters(&filter, DeadFate::Waits, after, DEAD_CHUNK)?;
                        let last = letters.last().map(|letter| letter.seq);
                        let seen = letters.into_iter().map(|letter| look_at(look, Ok(letter)));
                        Ok((last, seen.collect::<Result<Vec<_>, _>>()?))
                    });
                    let (last, seen) = seen.await.map_err(unreadable)?;
                    let Some(last) = last else { break };
                    after = last;
                    all.extend(seen);
                }
            }
        }
        Ok(all)
    }
}

/// The store does not answer.
pub(super) fn unreadable(error: Error) -> Refused {
    tracing::error!(%error, "the dead letters cannot be read");
    Refused::new(Reason::StoreUnavailable)
}

impl Judge {
    /// The bytes of a letter's parts, or why it cannot be redriven.
    fn judge(&self, look: &Snapshot<'_>, letter: &DeadLetter) -> Result<Result<u64, (Kind, Key)>, Error> {
        let not = |kind| Ok(Err((kind, letter.key.clone())));
        match letter.fate {
            DeadFate::Waits => {}
            DeadFate::Redriven => return not(Kind::Redriven),
            DeadFate::Discarded => return not(Kind::Discarded),
        }
        if self.own.as_ref() != Some(&letter.key.from_city) {
            return not(Kind::Elsewhere);
        }
        let Some((header, true)) = look.header(letter.seq)? else { return not(Kind::BodyGone) };
        let (Ok(outline), Ok(envelope)) = (outline(&header), join(&header, None)) else { return not(Kind::BodyGone) };
        if outline.attachments.iter().any(|attached| self.blobs.pin(&attached.digest).is_none()) {
            return not(Kind::BodyGone);
        }
        match self.intake.would_resubmit(&outline) {
            Ok(()) => Ok(Ok(envelope.parts.iter().map(|part| part.size).sum())),
            Err(reason) => not(Kind::Refused(reason)),
        }
    }
}
