//! Decides what each entry of a commit changes and which leaf says so. Reads the store, never writes it; what it decides
//! becomes true only when the whole batch is committed.

use std::collections::{HashMap, HashSet};

use super::bells::Rung;
use super::{Answer, Entry};
use crate::admission::Ration;
use crate::chance;
use crate::evidence::{AssertedBy, Code, Event, Evidence, Instants, State, Witnessed};
use crate::id::ReceiptId;
use crate::message::{Address, Digest, Envelope};
use crate::party::Member;
use crate::reason::Reason;
use crate::receipt::{Checked, Receipt};
use crate::store::{Commit, Error, Head, Key, LaneName, NewLeaf, NewMessage, NewReceived, Seq, Writer};
use crate::time::Time;
use crate::tlog::leaf_hash;

/// Where a message goes, as the routing decided.
#[derive(Clone, Debug)]
pub struct Route {
    pub recipient: Address,
    pub lane: LaneName,
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
    /// The rules' verdict. A message known before is answered as before, whatever they say now.
    pub verdict: Result<Route, Reason>,
    /// The caller's ration of rejection leaves: a conflict shows only here.
    pub rejections: Ration,
}

/// A refusal by rule, with its receipt where a leaf was written.
#[derive(Debug)]
pub struct Refusal {
    pub reason: Reason,
    pub receipt: Option<Receipt>,
}

/// How a lane's message ended.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Our own system took and acknowledged it.
    HandedOver,
    /// Our own system refused it: its code, and free text for the sender.
    Refused { code: Code, text: String },
    /// It was delivered as often as allowed, without an outcome.
    Exhausted,
    /// The partner took custody.
    Relayed(Checked),
    /// The partner refused custody, with its receipt.
    RelayRefused { receipt: Checked, text: String },
    /// The partner refused it without a receipt: its reason, the gRPC status and its text.
    RelayFailed { reason: Code, status: u64, text: String },
}

/// The fate of one message of a lane.
#[derive(Debug)]
pub struct Settle {
    pub lane: LaneName,
    pub seq: Seq,
    /// Attempts or deliveries made.
    pub attempts: u32,
    pub fate: Fate,
}

/// Receipts that a partner sent, each checked against its log, with the text beside it.
#[derive(Debug)]
pub struct Witness {
    pub receipts: Vec<(Checked, Option<String>)>,
}

/// Why a receipt is not ours to witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    #[error("the receipt speaks of no message of this gateway")]
    UnknownMessage,
    #[error("the receipt speaks of the message with another header digest")]
    OtherDigest,
    #[error("the receipt's issuer has no part in the message")]
    Issuer,
    #[error("the event is not for the receipt's issuer to tell")]
    Event,
}

/// What stands the same in every leaf of a commit.
#[derive(Debug)]
pub struct Scribe {
    pub at: Time,
    pub issuer: Member,
    pub key_id: u32,
    pub clock_uncertainty_ms: u32,
}

/// An answer that waits for the commit: leaves of this batch become receipts only then.
#[derive(Debug)]
pub enum Pending {
    /// The receipt of a leaf, of this batch or of an earlier one.
    Taken(u64),
    Refused(Reason, Option<u64>),
    Settled(Option<u64>),
    Other(Answer),
}

impl Pending {
    /// The answer, once the batch is on disk.
    pub fn answer(self, fresh: &HashMap<u64, Receipt>, writer: &Writer) -> Result<Answer, Error> {
        let receipt = |leaf| match fresh.get(&leaf) {
            Some(receipt) => Ok(receipt.clone()),
            None => writer.receipt(leaf),
        };
        Ok(match self {
            Pending::Taken(leaf) => Answer::Taken(Ok(receipt(leaf)?)),
            Pending::Refused(reason, leaf) => {
                Answer::Taken(Err(Box::new(Refusal { reason, receipt: leaf.map(receipt).transpose()? })))
            }
            Pending::Settled(leaf) => Answer::Settled(leaf.map(receipt).transpose()?),
            Pending::Other(answer) => answer,
        })
    }
}

/// The entries of one commit, decided one after the other; later ones see what earlier ones decided.
pub struct Batch<'a> {
    writer: &'a Writer,
    scribe: Scribe,
    first_leaf: u64,
    next_seq: Seq,
    commit: Commit,
    rung: Rung,
    /// Heads that this batch changed or looked at.
    heads: HashMap<Seq, Head>,
    /// Messages that this batch adds.
    fresh: HashMap<Key, Seq>,
    /// Receipts that this batch witnesses.
    witnessed: HashSet<Digest>,
}

impl<'a> Batch<'a> {
    pub fn new(writer: &'a Writer, scribe: Scribe, first_leaf: u64, next_seq: Seq) -> Batch<'a> {
        Batch {
            writer,
            scribe,
            first_leaf,
            next_seq,
            commit: Commit::default(),
            rung: Rung::default(),
            heads: HashMap::new(),
            fresh: HashMap::new(),
            witnessed: HashSet::new(),
        }
    }

    /// Everything decided: what to store, what to announce, and the next message's place.
    pub fn finish(mut self) -> (Commit, Rung, Seq) {
        for message in &mut self.commit.messages {
            if let Some(head) = self.heads.remove(&message.head.seq) {
                message.head = head;
            }
        }
        self.commit.heads = self.heads.into_values().collect();
        (self.commit, self.rung, self.next_seq)
    }

    /// Decides one entry.
    pub fn enter(&mut self, entry: Entry) -> Result<Pending, Error> {
        match entry {
            Entry::Take(take) => self.take(*take),
            Entry::Settle(settle) => self.settle(*settle),
            Entry::Park { lane, seq, deliveries, until } => {
                self.commit.parked.push((lane, seq, deliveries, until));
                Ok(Pending::Other(Answer::Parked))
            }
            Entry::Witness(witness) => {
                let each = witness.receipts.into_iter().map(|(receipt, text)| self.witness(receipt, text));
                Ok(Pending::Other(Answer::Witnessed(each.collect::<Result<_, _>>()?)))
            }
            Entry::Sent { member, leaves } => {
                self.commit.sent.extend(leaves.into_iter().map(|leaf| (member.clone(), leaf)));
                Ok(Pending::Other(Answer::Sent))
            }
        }
    }

    fn take(&mut self, take: Take) -> Result<Pending, Error> {
        let key = Key { from_city: take.envelope.from.city.clone(), id: take.envelope.id };
        let known = self.known(&key)?;
        match (known, &take.verdict) {
            (Some((digest, first_leaf, _)), _) if digest == take.header_digest => Ok(Pending::Taken(first_leaf)),
            (Some((_, _, last)), _) => self.refuse(&take, Reason::IdempotencyConflict, Some(last)),
            (None, Err(reason)) => self.refuse(&take, *reason, None),
            (None, Ok(route)) => {
                let route = route.clone();
                self.accept(key, take, route)
            }
        }
    }

    /// Digest, first leaf and newest leaf hash of a message known before or in this batch.
    fn known(&self, key: &Key) -> Result<Option<(Digest, u64, Digest)>, Error> {
        let facts = |head: &Head| (head.header_digest, head.first_leaf, head.last.1);
        if let Some(head) = self.fresh.get(key).and_then(|seq| self.heads.get(seq)) {
            return Ok(Some(facts(head)));
        }
        Ok(self.writer.head(key)?.as_ref().map(facts))
    }

    fn refuse(&mut self, take: &Take, reason: Reason, last: Option<Digest>) -> Result<Pending, Error> {
        if !take.rejections.take(self.scribe.at) {
            return Ok(Pending::Refused(reason, None));
        }
        let event = match take.origin {
            None => Event::SubmissionRejected,
            Some(_) => Event::RelayRejected,
        };
        let mut evidence = self.about(take, event)?;
        evidence.reasons = vec![reason.into()];
        evidence.previous = last.or(evidence.previous);
        let (leaf, _) = self.leaf(None, &evidence)?;
        Ok(Pending::Refused(reason, Some(leaf)))
    }

    fn accept(&mut self, key: Key, take: Take, route: Route) -> Result<Pending, Error> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let relayed = take.origin.is_some();
        let mut evidence = self.about(&take, if relayed { Event::RelayAccepted } else { Event::SubmissionAccepted })?;
        evidence.to = Some(route.recipient.clone());
        evidence.table_version = route.table_version;
        evidence.expires_at = Some(route.expires_at);
        let (first, hash) = self.leaf(Some(seq), &evidence)?;
        let mut head = Head {
            seq,
            key: key.clone(),
            header_digest: take.header_digest,
            state: if relayed { State::Relayed } else { State::Accepted },
            in_doubt: false,
            late: false,
            lane: route.lane.clone(),
            first_leaf: first,
            base: (first, self.leaf_bytes(first)),
            last: (first, hash),
            queued: true,
        };
        if let LaneName::System(_) = route.lane {
            evidence.instants.consigned = Some(self.scribe.at);
            self.next_leaf(&mut head, evidence, Event::Consigned)?;
        }
        let origin_receipt = take.origin.as_ref().map(|origin| origin.receipt.leaf_hash());
        if let Some(origin) = take.origin {
            self.keep(seq, origin);
        }
        self.rung.lanes.push((route.lane, seq));
        self.commit.messages.push(NewMessage {
            head: head.clone(),
            order_key: order_key(&take.envelope, &route.recipient),
            recipient: route.recipient,
            stored_at: self.scribe.at,
            expires_at: route.expires_at,
            origin_receipt,
            header: take.header,
            body: take.body,
        });
        self.heads.insert(seq, head);
        self.fresh.insert(key, seq);
        Ok(Pending::Taken(first))
    }

    /// Evidence about a message that is not stored yet.
    fn about(&self, take: &Take, event: Event) -> Result<Evidence, Error> {
        let envelope = &take.envelope;
        let origin = take.origin.as_ref();
        let at = self.scribe.at;
        let accepted = match origin {
            Some(origin) => origin.evidence.instants.accepted,
            None => Some(at).filter(|_| event == Event::SubmissionAccepted),
        };
        Ok(Evidence {
            id: self.receipt_id()?,
            event,
            reasons: vec![],
            token: None,
            at,
            clock_uncertainty_ms: self.scribe.clock_uncertainty_ms,
            issuer: self.scribe.issuer.clone(),
            key_id: self.scribe.key_id,
            agreement: None,
            table_version: 0,
            from: envelope.from.clone(),
            to: envelope.to.clone(),
            message_id: envelope.id,
            in_reply_to: envelope.in_reply_to,
            case_no: envelope.case_no.clone(),
            item_code: Some(envelope.item_code.clone()),
            step: envelope.step.clone(),
            header_digest: take.header_digest,
            parts: envelope.part_count(),
            total_size: envelope.total_size(),
            instants: Instants {
                submitted: Some(envelope.created_at.time()),
                accepted,
                relayed: Some(at).filter(|_| event == Event::RelayAccepted),
                ..Instants::default()
            },
            expires_at: origin.and_then(|origin| origin.evidence.expires_at),
            attempts: 0,
            last_status: 0,
            asserted_by: None,
            previous: origin.map(|origin| origin.receipt.leaf_hash()),
            witnessed: None,
            mode: envelope.mode,
            next_attempt_at: None,
            extensions: vec![],
        })
    }

    fn settle(&mut self, settle: Settle) -> Result<Pending, Error> {
        let Some(mut head) = self.head_at(settle.seq)? else { return Ok(Pending::Settled(None)) };
        if !head.queued || head.lane != settle.lane {
            return Ok(Pending::Settled(None));
        }
        head.queued = false;
        self.commit.settled.push((settle.lane, settle.seq));
        let mut evidence = self.base(&head)?;
        evidence.attempts = settle.attempts.into();
        let leaf = match settle.fate {
            Fate::HandedOver => {
                evidence.instants.acknowledged = Some(self.scribe.at);
                evidence.asserted_by = Some(AssertedBy::Issuer);
                Some(self.next_leaf(&mut head, evidence, Event::HandedOver)?)
            }
            Fate::Refused { code, text } => {
                evidence.reasons = vec![Reason::RecipientRefused.into()];
                evidence.token = Some(code);
                Some(self.negative_leaf(&mut head, evidence, Event::HandoverFailed, text)?)
            }
            Fate::Exhausted => {
                evidence.reasons = vec![Reason::DeliveriesExhausted.into()];
                Some(self.negative_leaf(&mut head, evidence, Event::HandoverFailed, String::new())?)
            }
            Fate::RelayFailed { reason, status, text } => {
                evidence.reasons = vec![reason];
                evidence.last_status = status;
                Some(self.negative_leaf(&mut head, evidence, Event::RelayFailed, text)?)
            }
            Fate::Relayed(receipt) => self.witness_leaf(&mut head, receipt, None)?,
            Fate::RelayRefused { receipt, text } => self.witness_leaf(&mut head, receipt, Some(text))?,
        };
        self.heads.insert(head.seq, head);
        Ok(Pending::Settled(leaf))
    }

    fn witness(&mut self, receipt: Checked, text: Option<String>) -> Result<Result<(), WitnessRefusal>, Error> {
        let evidence = &receipt.evidence;
        let key = Key { from_city: evidence.from.city.clone(), id: evidence.message_id };
        let seq = match self.fresh.get(&key) {
            Some(seq) => Some(*seq),
            None => self.writer.head(&key)?.map(|head| head.seq),
        };
        let Some(mut head) = seq.map(|seq| self.head_at(seq)).transpose()?.flatten() else {
            return Ok(Err(WitnessRefusal::UnknownMessage));
        };
        if head.header_digest != evidence.header_digest {
            return Ok(Err(WitnessRefusal::OtherDigest));
        }
        // Only the recipient city's gateway can tell what became of the message there, and we need nobody to tell us what
        // we said: each leaf of ours that came back would make another.
        let recipient = self.base(&head)?.to.map(|to| Member::City(to.city));
        if recipient.as_ref() != Some(&evidence.issuer) || evidence.issuer == self.scribe.issuer {
            return Ok(Err(WitnessRefusal::Issuer));
        }
        // The sender's gateway accepts, refuses and cancels; and a receipt causes no evidence beyond one WITNESSED leaf.
        use Event::{Cancelled, SubmissionAccepted, SubmissionRejected};
        if matches!(evidence.event, SubmissionAccepted | SubmissionRejected | Cancelled | Event::Witnessed) {
            return Ok(Err(WitnessRefusal::Event));
        }
        self.witness_leaf(&mut head, receipt, text)?;
        self.heads.insert(head.seq, head);
        Ok(Ok(()))
    }

    /// Keeps a foreign receipt and writes the leaf that says so; nothing when it is known.
    fn witness_leaf(&mut self, head: &mut Head, receipt: Checked, text: Option<String>) -> Result<Option<u64>, Error> {
        let known = receipt.receipt.leaf_hash();
        if self.witnessed.contains(&known) || self.writer.has_received(known)? {
            return Ok(None);
        }
        let base = self.base(head)?;
        let foreign = Witnessed {
            leaf_hash: known,
            issuer: receipt.evidence.issuer.clone(),
            log_origin: receipt.log_origin.clone(),
        };
        let event = receipt.evidence.event;
        let evidence = Evidence { event: Event::Witnessed, witnessed: Some(foreign), ..short(base) };
        let evidence = Evidence { previous: Some(head.last.1), ..evidence };
        let (leaf, hash) = self.leaf(Some(head.seq), &evidence)?;
        head.last = (leaf, hash);
        if let Some((state, late)) = head.state.after(event) {
            head.state = state;
            head.late |= late;
        }
        self.keep(head.seq, receipt);
        self.detail(known, head.seq, text.unwrap_or_default());
        Ok(Some(leaf))
    }

    fn negative_leaf(&mut self, head: &mut Head, evidence: Evidence, event: Event, text: String) -> Result<u64, Error> {
        let leaf = self.next_leaf(head, evidence, event)?;
        self.detail(head.last.1, head.seq, text);
        Ok(leaf)
    }

    /// Writes the next full leaf about a message; for another city's message it travels to the origin.
    fn next_leaf(&mut self, head: &mut Head, evidence: Evidence, event: Event) -> Result<u64, Error> {
        let evidence =
            Evidence { id: self.receipt_id()?, event, at: self.scribe.at, previous: Some(head.last.1), ..evidence };
        let (leaf, hash) = self.leaf(Some(head.seq), &evidence)?;
        head.base = (leaf, self.leaf_bytes(leaf));
        head.last = (leaf, hash);
        if let Some((state, late)) = head.state.after(event) {
            head.state = state;
            head.late |= late;
        }
        let origin = Member::City(head.key.from_city.clone());
        if origin != self.scribe.issuer {
            self.commit.outgoing.push((origin.clone(), leaf));
            self.rung.outboxes.push((origin, leaf));
        }
        Ok(leaf)
    }

    /// The newest full evidence about a message, ready to become the next one.
    fn base(&self, head: &Head) -> Result<Evidence, Error> {
        let base = Evidence::from_leaf(&head.base.1).map_err(|error| Error::Damaged(error.to_string()))?;
        Ok(Evidence {
            id: self.receipt_id()?,
            reasons: vec![],
            token: None,
            at: self.scribe.at,
            clock_uncertainty_ms: self.scribe.clock_uncertainty_ms,
            issuer: self.scribe.issuer.clone(),
            key_id: self.scribe.key_id,
            ..base
        })
    }

    fn head_at(&self, seq: Seq) -> Result<Option<Head>, Error> {
        match self.heads.get(&seq) {
            Some(head) => Ok(Some(head.clone())),
            None => self.writer.head_at(seq),
        }
    }

    /// Adds a leaf: its place in the log and its hash.
    fn leaf(&mut self, message: Option<Seq>, evidence: &Evidence) -> Result<(u64, Digest), Error> {
        let bytes = evidence.to_leaf().map_err(|error| Error::Failed(error.to_string()))?;
        let hash = leaf_hash(&bytes);
        let index = self.first_leaf + self.commit.leaves.len() as u64;
        self.commit.leaves.push(NewLeaf { hash, message, bytes });
        Ok((index, Digest(hash.into())))
    }

    fn leaf_bytes(&self, index: u64) -> Vec<u8> {
        self.commit.leaves[(index - self.first_leaf) as usize].bytes.clone()
    }

    fn keep(&mut self, message: Seq, receipt: Checked) {
        self.witnessed.insert(receipt.receipt.leaf_hash());
        self.commit.received.push(NewReceived { message, at: self.scribe.at, receipt: receipt.receipt });
    }

    fn detail(&mut self, leaf_hash: Digest, message: Seq, text: String) {
        if !text.is_empty() {
            self.commit.details.push((leaf_hash, message, text));
        }
    }

    fn receipt_id(&self) -> Result<ReceiptId, Error> {
        let chance = chance::bytes().map_err(|error| Error::Failed(error.to_string()))?;
        Ok(ReceiptId::new_v7(self.scribe.at, chance))
    }
}

/// Messages with the same case number between the same cities are delivered one after the other.
fn order_key(envelope: &Envelope, recipient: &Address) -> Option<String> {
    let case_no = envelope.case_no.as_ref()?;
    Some(format!("{}>{}/{}", envelope.from.city.as_str(), recipient.city.as_str(), case_no.as_str()))
}

/// A `WITNESSED` leaf names the message and the foreign receipt; what that receipt says stands in it.
fn short(base: Evidence) -> Evidence {
    Evidence {
        agreement: None,
        table_version: 0,
        to: None,
        in_reply_to: None,
        case_no: None,
        item_code: None,
        step: None,
        parts: 0,
        total_size: 0,
        instants: Instants::default(),
        expires_at: None,
        attempts: 0,
        last_status: 0,
        asserted_by: None,
        mode: None,
        ..base
    }
}
