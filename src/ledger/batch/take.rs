//! Decides what taking a message changes: the same message again gets its first receipt, another one under its id is
//! refused, a new one enters its lane.

use super::{Batch, Pending, due_at, order_key};
use crate::admission::Ration;
use crate::evidence::{AssertedBy, Code, Event, Evidence, LeafError, State};
use crate::limits::LANE_MESSAGES_MAX;
use crate::message::{Address, Digest, Envelope};
use crate::party::Member;
use crate::planted;
use crate::reason::Reason;
use crate::receipt::{Checked, Receipt};
use crate::store::{Error, Head, Key, LaneName, Link, NewMessage, Seq};
use crate::time::Time;
use crate::tlog::checkpoint::Checkpoint;

/// Where a message goes, as the routing decided.
#[derive(Clone, Debug)]
pub struct Route {
    pub recipient: Address,
    /// The lane it enters.
    pub lane: LaneName,
    /// Lanes to try after that one, in order.
    pub others: Vec<LaneName>,
    pub table_version: u64,
    /// When the message is of no more use: the sender's word, or the origin's default.
    pub expires_at: Time,
}

/// A message to be taken into custody.
#[derive(Debug)]
pub struct Take {
    pub envelope: Envelope,
    pub header_digest: Digest,
    /// The envelope without content, as it is stored and delivered.
    pub header: Vec<u8>,
    /// Inline contents, one after the other.
    pub body: Vec<u8>,
    /// The origin gateway's receipt; none when the message is submitted here.
    pub origin: Option<Checked>,
    /// The hubs that carried it here, first to last.
    pub via: Vec<Member>,
    /// The rules' verdict. A message known before is answered as before, whatever they say now.
    pub verdict: Result<Route, Reason>,
    /// The table owner's own code, where a table refuses.
    pub token: Option<Code>,
    /// The caller's ration of rejection leaves: a conflict shows only here.
    pub rejections: Ration,
}

/// A refusal by rule, with its receipt where a leaf was written.
#[derive(Debug)]
pub struct Refusal {
    pub reason: Reason,
    pub receipt: Option<Receipt>,
}

impl Batch<'_> {
    pub(super) fn take(&mut self, take: Take) -> Result<Pending, Error> {
        let key = Key { from_city: take.envelope.from.city.clone(), id: take.envelope.id };
        match (self.head_of(&key)?, &take.verdict) {
            (Some(head), _)
                if head.header_digest == take.header_digest || planted::is(planted::Bug::DedupByIdAlone) =>
            {
                if take.origin.is_some() {
                    self.tell_again(&head)?;
                }
                Ok(Pending::Taken(head.first_leaf))
            }
            (Some(head), _) => self.refuse(&take, Reason::IdempotencyConflict, Some(head.last.1)),
            (None, _) if self.ground.disk_nearly_full => Ok(Pending::Refused(Reason::StoreFull, None)),
            // These are faults of who brings the message, or of a clock: they leave no word against the message itself.
            (None, Err(reason)) if leaves_no_word(*reason) => Ok(Pending::Refused(*reason, None)),
            (None, Err(reason)) => self.refuse(&take, *reason, None),
            (None, Ok(route)) => {
                let route = self.beside_its_case(&take.envelope, route.clone())?;
                if self.is_full(&route.lane) {
                    return Ok(Pending::Refused(Reason::LaneFull, None));
                }
                self.accept(key, take, route)
            }
        }
    }

    /// A gateway that hands a message over again may have lost what it was told since the first time: it was put back from
    /// a backup. What follows the first receipt goes home once more; told twice, it is witnessed once.
    fn tell_again(&mut self, head: &Head) -> Result<(), Error> {
        for (leaf, bytes) in self.ground.writer.told_after(head.seq, head.first_leaf)? {
            if self.commit.outgoing.iter().any(|outgoing| outgoing.leaf == leaf) {
                continue;
            }
            let damaged = |error: LeafError| Error::Damaged(error.to_string());
            let evidence = Evidence::from_leaf(&bytes).map_err(damaged)?;
            let passed_on = evidence.witnessed.as_ref().map(|witnessed| witnessed.leaf_hash);
            let told = passed_on.map(|hash| self.ground.writer.received_leaf(hash)).transpose()?.flatten();
            let told = told.map(|leaf| Evidence::from_leaf(&leaf)).transpose().map_err(damaged)?;
            // A refusal on the way may not have been the end, and then nobody was told.
            if told.is_none_or(|told| told.event != Event::RelayRejected) {
                self.send_home(head, &evidence, leaf, passed_on);
            }
        }
        Ok(())
    }

    /// A case stays on one lane while any of its messages waits: another lane would let the later overtake.
    fn beside_its_case(&self, envelope: &Envelope, mut route: Route) -> Result<Route, Error> {
        let Some(order_key) = order_key(envelope, &route.recipient).filter(|_| !route.others.is_empty()) else {
            return Ok(route);
        };
        let lane = match self.cases.get(&order_key) {
            Some(lane) => Some(lane.clone()),
            None => self.ground.writer.lane_of_case(&order_key)?,
        };
        if let Some(lane) = lane
            && let Some(place) = route.others.iter().position(|other| *other == lane)
        {
            route.others.drain(..place);
            route.lane = route.others.remove(0);
        }
        Ok(route)
    }

    fn is_full(&self, lane: &LaneName) -> bool {
        let waiting = self.ground.waiting.get(lane).copied().unwrap_or(0);
        let joined = self.joined.get(lane).copied().unwrap_or(0);
        waiting.saturating_add_signed(joined) >= LANE_MESSAGES_MAX
    }

    fn refuse(&mut self, take: &Take, reason: Reason, last: Option<Digest>) -> Result<Pending, Error> {
        if !take.rejections.take(self.scribe.at) {
            return Ok(Pending::Refused(reason, None));
        }
        let event = match take.origin {
            None => Event::SubmissionRejected,
            Some(_) => Event::RelayRejected,
        };
        let mut evidence = self.about(&take.envelope, take.header_digest, take.origin.as_ref(), event)?;
        evidence.reasons = vec![reason.into()];
        evidence.token = take.token.clone();
        evidence.previous = last.or(evidence.previous);
        let (leaf, _) = self.leaf(None, &evidence)?;
        Ok(Pending::Refused(reason, Some(leaf)))
    }

    fn accept(&mut self, key: Key, take: Take, route: Route) -> Result<Pending, Error> {
        let seq = self.next_seq;
        let relayed = take.origin.is_some();
        let event = if relayed { Event::RelayAccepted } else { Event::SubmissionAccepted };
        let mut evidence = self.about(&take.envelope, take.header_digest, take.origin.as_ref(), event)?;
        evidence.to = Some(route.recipient.clone());
        evidence.table_version = route.table_version;
        evidence.expires_at = Some(route.expires_at);
        let order_key = order_key(&take.envelope, &route.recipient);
        if let (Some(case), Some(origin)) = (&order_key, &take.origin)
            && self.is_overtaken(case, origin)?
        {
            let (from, id) = (take.envelope.from.city.as_str(), take.envelope.id);
            tracing::warn!(from, %id, via = ?take.via, "a later message of the same case was brought before this one");
            evidence.reasons = vec![Reason::OutOfOrder.into()];
        }
        let (first, hash) = self.leaf(Some(seq), &evidence)?;
        self.next_seq += 1;
        let mut head = self.first_head(seq, &key, &take, &route, (first, hash));
        evidence.reasons = vec![];
        if let LaneName::System(_) = route.lane {
            evidence.instants.consigned = Some(self.scribe.at);
            self.next_leaf(&mut head, evidence, Event::Consigned)?;
        } else if !head.queued {
            // This gateway is itself the recipient, and has all of it.
            evidence.instants.acknowledged = Some(self.scribe.at);
            evidence.asserted_by = Some(AssertedBy::Issuer);
            self.next_leaf(&mut head, evidence, Event::HandedOver)?;
        }
        let origin_receipt = take.origin.as_ref().map(|origin| origin.receipt.leaf_hash());
        if let Some(origin) = take.origin {
            self.keep(seq, origin);
        }
        self.link(seq, &take.envelope, &route.recipient)?;
        let due_at = due_at(head.stored_at, head.expires_at, 0);
        if head.queued {
            self.rung.waits(&route.lane, seq);
            self.count(&route.lane, 1);
            if let Some(order_key) = order_key.clone().filter(|_| !route.others.is_empty()) {
                self.cases.insert(order_key, route.lane);
            }
            self.rung.due_at = Some(self.rung.due_at.map_or(due_at, |earlier| earlier.min(due_at)));
        }
        self.commit.messages.push(NewMessage {
            head,
            order_key,
            recipient: route.recipient,
            others: route.others,
            via: take.via,
            attachments: take.envelope.attachments(),
            due_at,
            origin_receipt,
            header: take.header,
            body: take.body,
        });
        self.fresh.insert(key, seq);
        Ok(Pending::Taken(first))
    }

    /// What is known of a message with its first leaf.
    fn first_head(&self, seq: Seq, key: &Key, take: &Take, route: &Route, first: (u64, Digest)) -> Head {
        // What ends here stands where its receipts go: no lane leads to ourselves.
        let ends_here = route.lane == LaneName::Gateway(self.scribe.issuer.clone());
        Head {
            seq,
            key: key.clone(),
            header_digest: take.header_digest,
            standing: if take.origin.is_some() { State::Relayed } else { State::Accepted }.into(),
            lane: if ends_here { homeward(take) } else { route.lane.clone() },
            came_by: take.via.last().cloned(),
            stored_at: self.scribe.at,
            expires_at: route.expires_at,
            closed_at: None,
            first_leaf: first.0,
            base: (first.0, vec![]),
            last: first,
            queued: !ends_here,
        }
    }

    /// Whether the message of this case before this one came later to the origin's log: who carried them changed their
    /// order. It is taken all the same, for it may be late with good reason, and its receipt says so. Comparing with the
    /// one before is enough: in any other order than the true one, some message stands behind a later one.
    fn is_overtaken(&mut self, case: &str, origin: &Checked) -> Result<bool, Error> {
        let place = (origin.log_origin.clone(), origin.receipt.proof.index);
        let before = match self.origins.insert(case.to_owned(), place.clone()) {
            Some(before) => Some(before),
            None => self.ground.writer.newest_origin(case)?.and_then(|receipt| {
                // What was kept had been checked; the note only has to be read.
                let log = Checkpoint::claimed(&receipt.proof.checkpoint_note).ok()?.origin;
                Some((log, receipt.proof.index))
            }),
        };
        Ok(before.is_some_and(|(log, index)| log == place.0 && index > place.1))
    }

    /// Ties a reply to what it answers, and a redriven message to the dead letter that it replaces: only where both are
    /// of the same two parties.
    fn link(&mut self, seq: Seq, envelope: &Envelope, recipient: &Address) -> Result<(), Error> {
        if let Some(id) = envelope.in_reply_to {
            let asked = self.head_of(&Key { from_city: recipient.city.clone(), id })?;
            if let Some(asked) = asked
                && self.base(&asked)?.to.map(|to| to.city).as_ref() == Some(&envelope.from.city)
            {
                self.commit.links.push((asked.seq, Link::RepliedBy, envelope.id));
                self.rung.replies.push((asked.key, seq));
            }
        }
        if let Some(id) = envelope.redrive_of {
            let dead = self.head_of(&Key { from_city: envelope.from.city.clone(), id })?;
            if let Some(dead) = dead
                && dead.standing.state.is_dead()
                && self.base(&dead)?.from == envelope.from
            {
                self.commit.links.push((dead.seq, Link::RedrivenAs, envelope.id));
            }
        }
        Ok(())
    }
}

fn leaves_no_word(reason: Reason) -> bool {
    use Reason::{AttachmentMissing, ClockAhead, IdTooOld, SealInvalid};
    matches!(reason, AttachmentMissing | SealInvalid | ClockAhead | IdTooOld)
}

/// The lane by which the receipts of a message that a gateway brought go home.
fn homeward(take: &Take) -> LaneName {
    let origin = || Member::City(take.envelope.from.city.clone());
    LaneName::Gateway(take.via.last().cloned().unwrap_or_else(origin))
}
