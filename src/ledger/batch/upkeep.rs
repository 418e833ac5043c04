//! Decides what the gateway's own upkeep changes: notices of delay, lanes that are paused, routing tables, dead letters that
//! are set aside. Acts of people leave a leaf of audit.

use sha2::{Digest as _, Sha256};

use super::{Batch, Pending, due_at};
use crate::audit::Deed;
use crate::evidence::{Event, Evidence};
use crate::ledger::Answer;
use crate::message::Digest;
use crate::party::Division;
use crate::store::{Error, Hold, LaneName, Link, NewRoutes, Seq};
use crate::succession::{Closed, Succession};
use crate::time::Time;

/// A message still waits: its sender is told.
#[derive(Clone, Debug)]
pub struct Notice {
    pub lane: LaneName,
    pub seq: Seq,
    /// When the next attempt will be made, as far as the lane knows.
    pub next_attempt_at: Option<Time>,
}

/// A lane is to be paused, or to go on.
#[derive(Clone, Debug)]
pub struct Pause {
    pub lane: LaneName,
    /// Whether it is to be paused.
    pub held: bool,
    pub why: String,
    /// URI name of who asks.
    pub actor: String,
}

/// Routing tables to be put in place of others.
#[derive(Clone, Debug)]
pub struct RouteChange {
    /// The version that whoever asks for the change has seen.
    pub expected_version: u64,
    /// The tables that change: owner and canonical text; none, withdrawn.
    pub tables: Vec<(Division, Option<String>)>,
    /// URI name of who asks.
    pub actor: String,
    /// What was asked: publish, rollback, adopt.
    pub action: String,
}

impl Batch<'_> {
    /// What is shown to witnesses was committed before this batch and is signed already: nothing can be taken back any more,
    /// and nothing is signed for the sake of showing it.
    pub(super) fn publish(&mut self) -> Result<Pending, Error> {
        if self.first_leaf > self.ground.writer.first_place()? {
            self.commit.published = Some((self.first_leaf, self.scribe.at));
        }
        Ok(Pending::Other(Answer::Done))
    }

    pub(super) fn notice(&mut self, notice: Notice) -> Result<Pending, Error> {
        let Notice { lane, seq, next_attempt_at } = notice;
        let head = self.head_at(seq)?.filter(|head| head.queued && head.lane == lane);
        let (Some(mut head), Some(notices)) = (head, self.ground.writer.notices(&lane, seq)?) else {
            return Ok(Pending::Settled(None));
        };
        if self.commit.looked_at.iter().any(|(_, looked_at, ..)| *looked_at == seq) {
            return Ok(Pending::Settled(None));
        }
        // Of several moments that passed unseen one notice is enough.
        let passed = |notices: u32| due_at(head.stored_at, Time::from_ms(u64::MAX >> 16), notices) <= self.scribe.at;
        let told = (notices..).find(|count| !passed(*count)).unwrap_or(notices);
        let due = due_at(head.stored_at, head.expires_at, told);
        self.commit.looked_at.push((lane, seq, due, told));
        self.rung.due_at = Some(self.rung.due_at.map_or(due, |earlier| earlier.min(due)));
        if told == notices {
            return Ok(Pending::Settled(None));
        }
        let evidence = Evidence { next_attempt_at, ..self.base(&head)? };
        let leaf = self.next_leaf(&mut head, evidence, Event::Delayed)?;
        self.decide(head);
        Ok(Pending::Settled(Some(leaf)))
    }

    /// What is so already stays as it is: the first reason stands, and there is nothing to record.
    pub(super) fn hold(&mut self, pause: Pause) -> Result<Pending, Error> {
        let Pause { lane, held, why, actor } = pause;
        let in_batch = self.commit.holds.iter().rev().find(|(other, _)| *other == lane);
        let before = match in_batch {
            Some((_, hold)) => hold.is_some(),
            None => self.ground.writer.hold(&lane)?.is_some(),
        };
        if before == held {
            return Ok(Pending::Other(Answer::Held(false)));
        }
        let act = if held { "lane.pause" } else { "lane.resume" };
        let (act, object) = (act.to_owned(), lane.to_string());
        self.audit(Deed { act, object, actor: actor.clone(), why: why.clone(), ..Deed::default() })?;
        let hold = Hold { since: self.scribe.at, by: actor, why };
        self.commit.holds.push((lane.clone(), held.then_some(hold)));
        self.rung.held.push((lane, held));
        Ok(Pending::Other(Answer::Held(true)))
    }

    pub(super) fn routes(&mut self, change: RouteChange) -> Result<Pending, Error> {
        let current = match &self.commit.routes {
            Some(routes) => routes.version,
            None => self.ground.writer.routes_version()?,
        };
        if change.expected_version != current || self.commit.routes.is_some() {
            return Ok(Pending::Other(Answer::Routes(Err(current))));
        }
        let version = current + 1;
        let mut content = Sha256::new();
        for (owner, text) in &change.tables {
            content.update(owner.as_str());
            content.update([0]);
            content.update(text.as_deref().unwrap_or_default());
            content.update([0]);
        }
        let content = Digest(content.finalize().into());
        let (act, object) = (format!("route.{}", change.action), version.to_string());
        let deed = Deed { act, object, actor: change.actor.clone(), content: Some(content), ..Deed::default() };
        let leaf = self.audit(deed)?;
        self.commit.routes = Some(NewRoutes {
            version,
            at: self.scribe.at,
            actor: change.actor,
            action: change.action,
            leaf,
            tables: change.tables,
        });
        Ok(Pending::Other(Answer::Routes(Ok(version))))
    }

    /// Sets dead letters aside, with a reason.
    pub(super) fn discard(&mut self, messages: Vec<Seq>, why: String, actor: String) -> Result<Pending, Error> {
        let mut discarded = 0;
        for seq in messages {
            let Some(head) = self.head_at(seq)?.filter(|head| head.standing.state.is_dead()) else { continue };
            if !self.waits_for_ops(seq)? {
                continue;
            }
            let object = format!("{}/{}", head.key.from_city.as_str(), head.key.id);
            let act = "dead.discard".to_owned();
            self.audit(Deed { act, object, actor: actor.clone(), why: why.clone(), ..Deed::default() })?;
            self.commit.discarded.push((seq, why.clone()));
            discarded += 1;
        }
        Ok(Pending::Other(Answer::Discarded(discarded)))
    }

    /// The leaf that closes the log before this one.
    pub(super) fn succeed(&mut self, closed: Closed) -> Result<Pending, Error> {
        let (at, issuer, key_id) = (self.scribe.at, self.scribe.issuer.clone(), self.scribe.key_id);
        let succession = Succession { id: self.receipt_id()?, at, issuer, key_id, closed };
        Ok(Pending::Settled(Some(self.append(None, succession.to_leaf()).0)))
    }

    /// Whether a dead letter is neither redriven nor set aside.
    fn waits_for_ops(&self, seq: Seq) -> Result<bool, Error> {
        let discarded = self.commit.discarded.iter().any(|(other, _)| *other == seq);
        let redriven = self.commit.links.iter().any(|(other, link, _)| (*other, *link) == (seq, Link::RedrivenAs));
        let died = self.commit.dead.iter().any(|(other, _)| *other == seq);
        Ok(!discarded && !redriven && (died || self.ground.writer.waits_for_ops(seq)?))
    }
}
