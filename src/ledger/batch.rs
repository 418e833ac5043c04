//! Decides what each entry of a commit changes and which leaf says so. Reads the store, never writes it; what it decides
//! becomes true only when the whole batch is committed.

mod settle;
mod take;
mod upkeep;
mod witness;

use std::collections::{HashMap, HashSet};

use super::bells::Rung;
use super::counts::Said;
use super::{Answer, Entry};
use crate::audit::{Act, Deed};
use crate::chance::Chance;
use crate::evidence::{Code, Event, Evidence, Instants};
use crate::id::ReceiptId;
use crate::limits::{LEAF_BYTES_MAX, NOTICES_MS};
use crate::message::{Address, CaseNo, Digest, Envelope, ItemCode};
use crate::party::Member;
use crate::reason::Reason;
use crate::receipt::{Checked, Receipt};
use crate::store::{Commit, Dead, Error, Head, Key, LaneName, NewLeaf, NewReceived, Outgoing, Seq, Writer};
use crate::time::Time;
use crate::tlog::leaf_hash;

pub use settle::{Fate, Settle, Signed};
pub use take::{Refusal, Route, Take};
pub use upkeep::{Notice, Pause, RouteChange};
pub use witness::{Incoming, Issuer, Witness, WitnessRefusal};

/// What stands the same in every leaf of a commit.
#[derive(Debug)]
pub struct Scribe {
    pub at: Time,
    pub issuer: Member,
    pub key_id: u32,
    pub clock_uncertainty_ms: u32,
}

/// What the ledger knows beside the store, as it was before the batch.
#[derive(Debug)]
pub struct Ground<'a> {
    pub writer: &'a Writer,
    /// Messages that wait in each lane.
    pub waiting: &'a HashMap<LaneName, u64>,
    /// Own systems that want the receipts of their messages.
    pub receipt_readers: &'a HashSet<crate::party::Name>,
    /// New messages find no room on the disk.
    pub disk_nearly_full: bool,
    /// Where receipt ids come from.
    pub chance: &'a Chance,
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
    /// The answer, once the batch is on disk; `receipt` gives that of a leaf.
    pub fn answer(self, mut receipt: impl FnMut(u64) -> Result<Receipt, Error>) -> Result<Answer, Error> {
        Ok(match self {
            Pending::Taken(leaf) => Answer::Taken(Ok(receipt(leaf)?)),
            Pending::Refused(reason, leaf) => {
                Answer::Taken(Err(Box::new(Refusal { reason, receipt: leaf.map(&mut receipt).transpose()? })))
            }
            Pending::Settled(leaf) => Answer::Settled(leaf.map(receipt).transpose()?),
            Pending::Other(answer) => answer,
        })
    }
}

/// The entries of one commit, decided one after the other; later ones see what earlier ones decided.
pub struct Batch<'a> {
    ground: Ground<'a>,
    scribe: Scribe,
    first_leaf: u64,
    next_seq: Seq,
    commit: Commit,
    rung: Rung,
    /// Messages from here on are this batch's own, one after the other; their heads stand with them.
    first_seq: Seq,
    /// Heads of messages known before that this batch changed.
    heads: HashMap<Seq, Head>,
    /// Messages that this batch adds.
    fresh: HashMap<Key, Seq>,
    /// Lanes of the cases whose messages this batch adds or moves.
    cases: HashMap<String, LaneName>,
    /// Messages that this batch adds to each lane, and takes away.
    joined: HashMap<LaneName, i64>,
    /// Receipts that this batch witnesses.
    witnessed: HashSet<Digest>,
    /// The origin's log, and the place in it, of the newest message of each case that this batch takes from a gateway.
    origins: HashMap<String, (String, u64)>,
    /// What the leaves say, to be counted once they are true.
    pub said: Vec<Said>,
}

impl<'a> Batch<'a> {
    pub fn new(ground: Ground<'a>, scribe: Scribe, first_leaf: u64, next_seq: Seq) -> Batch<'a> {
        Batch {
            ground,
            scribe,
            first_leaf,
            next_seq,
            first_seq: next_seq,
            commit: Commit::default(),
            rung: Rung::default(),
            heads: HashMap::new(),
            fresh: HashMap::new(),
            cases: HashMap::new(),
            joined: HashMap::new(),
            witnessed: HashSet::new(),
            origins: HashMap::new(),
            said: vec![],
        }
    }

    /// Everything decided: what to store, what to announce, the next message's place, and how many messages more or
    /// fewer wait in each lane.
    pub fn finish(mut self) -> (Commit, Rung, Seq, HashMap<LaneName, i64>) {
        // Nobody can watch a message that nobody could know.
        self.rung.messages = self.heads.keys().copied().collect();
        self.commit.heads = self.heads.into_values().collect();
        (self.commit, self.rung, self.next_seq, self.joined)
    }

    /// Decides one entry.
    pub fn enter(&mut self, entry: Entry) -> Result<Pending, Error> {
        match entry {
            Entry::Take(take) => self.take(*take),
            Entry::Settle(settle) => self.settle(*settle),
            Entry::Park { lane, seq, deliveries, until } => {
                self.commit.parked.push((lane, seq, deliveries, until));
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Witness(witness) => {
                let each = witness.receipts.into_iter().map(|incoming| self.witness(incoming));
                Ok(Pending::Other(Answer::Witnessed(each.collect::<Result<_, _>>()?)))
            }
            Entry::Sent { lane, leaves } => {
                self.commit.sent.extend(leaves.into_iter().map(|leaf| (lane.clone(), leaf)));
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Lane { lane, state } => {
                self.commit.lanes.push((lane, state));
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Hold(pause) => self.hold(*pause),
            Entry::Notice(notice) => self.notice(notice),
            Entry::Routes(change) => self.routes(*change),
            Entry::Seal { message, forms } => {
                self.commit.sealed.extend(forms.into_iter().map(|(place, form)| (message, place, form)));
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Discard { messages, why, actor } => self.discard(messages, why, actor),
            Entry::Act { act, actor, object } => {
                self.audit(Deed { act: act.to_owned(), actor, object, ..Deed::default() })?;
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Deed(deed) => {
                self.audit(*deed)?;
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Forget(forgotten) => {
                self.commit.forgotten = *forgotten;
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Publish => self.publish(),
            Entry::Cosign(cosignature) => {
                self.commit.cosignatures.push(*cosignature);
                Ok(Pending::Other(Answer::Done))
            }
            Entry::Succeed(closed) => self.succeed(*closed),
        }
    }

    /// The head of a message known before or in this batch.
    fn head_of(&self, key: &Key) -> Result<Option<Head>, Error> {
        if let Some(head) = self.fresh.get(key).and_then(|seq| self.decided(*seq)) {
            return Ok(Some(head.clone()));
        }
        match self.ground.writer.head(key)? {
            // It may have changed in this batch.
            Some(head) => Ok(Some(self.decided(head.seq).cloned().unwrap_or(head))),
            None => Ok(None),
        }
    }

    fn head_at(&self, seq: Seq) -> Result<Option<Head>, Error> {
        match self.decided(seq) {
            Some(head) => Ok(Some(head.clone())),
            None => self.ground.writer.head_at(seq),
        }
    }

    /// The head of a message that this batch adds or changes.
    fn decided(&self, seq: Seq) -> Option<&Head> {
        match seq.checked_sub(self.first_seq) {
            Some(place) => self.commit.messages.get(place as usize).map(|message| &message.head),
            None => self.heads.get(&seq),
        }
    }

    /// Lets a head stand as it was decided.
    fn decide(&mut self, head: Head) {
        match head.seq.checked_sub(self.first_seq) {
            Some(place) => self.commit.messages[place as usize].head = head,
            None => drop(self.heads.insert(head.seq, head)),
        }
    }

    /// Evidence about a message that is not stored yet.
    fn about(
        &self,
        envelope: &Envelope,
        header_digest: Digest,
        origin: Option<&Checked>,
        event: Event,
    ) -> Result<Evidence, Error> {
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
            header_digest,
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

    /// The newest full evidence about a message, ready to become the next one.
    fn base(&self, head: &Head) -> Result<Evidence, Error> {
        let base = Evidence::from_leaf(self.base_leaf(head)).map_err(|error| Error::Damaged(error.to_string()))?;
        Ok(Evidence {
            id: self.receipt_id()?,
            reasons: vec![],
            token: None,
            at: self.scribe.at,
            clock_uncertainty_ms: self.scribe.clock_uncertainty_ms,
            issuer: self.scribe.issuer.clone(),
            key_id: self.scribe.key_id,
            next_attempt_at: None,
            ..base
        })
    }

    /// Writes the next full leaf about a message; it travels to those who are to know.
    fn next_leaf(&mut self, head: &mut Head, evidence: Evidence, event: Event) -> Result<u64, Error> {
        let evidence =
            Evidence { id: self.receipt_id()?, event, at: self.scribe.at, previous: Some(head.last.1), ..evidence };
        let (leaf, hash) = self.leaf(Some(head.seq), &evidence)?;
        head.base = (leaf, vec![]);
        head.last = (leaf, hash);
        self.advance(head, event, evidence.reasons.first());
        self.send_home(head, &evidence, leaf, None);
        Ok(leaf)
    }

    /// Where the message stands after an event, its own or one that was witnessed.
    fn advance(&mut self, head: &mut Head, event: Event, reason: Option<&Code>) {
        let Some(next) = head.standing.after(event) else { return };
        head.standing = next;
        // Nothing follows a late handover, so this is the moment.
        if next.late {
            self.commit.revived.push(head.seq);
        }
        if next.state.is_final() {
            head.closed_at = Some(self.scribe.at);
        }
        if next.state.is_dead() {
            let reason = reason.map_or(event.as_str(), Code::as_str).to_owned();
            let item = Evidence::from_leaf(self.base_leaf(head)).ok().and_then(|base| base.item_code);
            // Nobody has to decide anything about a test message.
            if item.as_ref().is_some_and(ItemCode::is_test) {
                return;
            }
            let item = item.map_or(String::new(), |item| item.as_str().to_owned());
            self.commit.dead.push((head.seq, Dead { at: self.scribe.at, reason, lane: head.lane.clone(), item }));
        }
    }

    /// Receipts travel back the way the message came, and to the own system that submitted it where it wants them. The
    /// answer to the submission itself is not among them.
    fn send_home(&mut self, head: &Head, evidence: &Evidence, leaf: u64, received: Option<Digest>) {
        let origin = Member::City(head.key.from_city.clone());
        let lane = if origin == self.scribe.issuer {
            match &evidence.from.system {
                Some(system) if self.ground.receipt_readers.contains(system) => LaneName::System(system.clone()),
                _ => return,
            }
        } else {
            LaneName::Gateway(head.came_by.clone().unwrap_or(origin))
        };
        self.rung.goes_to(&lane, leaf);
        self.commit.outgoing.push(Outgoing { lane, leaf, received });
    }

    fn negative_leaf(&mut self, head: &mut Head, evidence: Evidence, event: Event, text: String) -> Result<u64, Error> {
        let leaf = self.next_leaf(head, evidence, event)?;
        self.detail(head.last.1, head.seq, text);
        Ok(leaf)
    }

    /// Adds a leaf, which is counted unless it is about a test message: its place in the log and its hash.
    fn leaf(&mut self, message: Option<Seq>, evidence: &Evidence) -> Result<(u64, Digest), Error> {
        if !evidence.item_code.as_ref().is_some_and(ItemCode::is_test) {
            self.said.push(evidence.into());
        }
        self.uncounted(message, evidence)
    }

    fn uncounted(&mut self, message: Option<Seq>, evidence: &Evidence) -> Result<(u64, Digest), Error> {
        let whole = evidence.to_leaf();
        // What does not fit stands in the leaf before: a leaf that is written says less rather than stopping the log.
        let bytes =
            whole.or_else(|_| Evidence { token: None, step: None, case_no: None, ..evidence.clone() }.to_leaf());
        let bytes = bytes.map_err(|error| Error::Failed(error.to_string()))?;
        Ok(self.append(message, bytes))
    }

    /// Adds the leaf of an act that concerns no message.
    fn audit(&mut self, deed: Deed) -> Result<u64, Error> {
        let act = Act {
            id: self.receipt_id()?,
            at: self.scribe.at,
            issuer: self.scribe.issuer.clone(),
            key_id: self.scribe.key_id,
            deed,
        };
        let bytes = act.to_leaf().map_err(|error| Error::Failed(error.to_string()))?;
        Ok(self.append(None, bytes).0)
    }

    fn append(&mut self, message: Option<Seq>, bytes: Vec<u8>) -> (u64, Digest) {
        debug_assert!(bytes.len() <= LEAF_BYTES_MAX);
        let hash = leaf_hash(&bytes);
        let index = self.first_leaf + self.commit.leaves.len() as u64;
        self.commit.leaves.push(NewLeaf { hash, message, bytes });
        (index, Digest(hash.into()))
    }

    /// The newest full leaf about a message: of this batch, or as the store had it.
    fn base_leaf<'b>(&'b self, head: &'b Head) -> &'b [u8] {
        let (index, stored) = &head.base;
        let fresh = index.checked_sub(self.first_leaf).and_then(|place| self.commit.leaves.get(place as usize));
        fresh.map_or(stored, |leaf| &leaf.bytes)
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

    /// One message more, or fewer, waits in a lane.
    fn count(&mut self, lane: &LaneName, change: i64) {
        match self.joined.get_mut(lane) {
            Some(joined) => *joined += change,
            None => drop(self.joined.insert(lane.clone(), change)),
        }
    }

    fn receipt_id(&self) -> Result<ReceiptId, Error> {
        let chance = self.ground.chance.draw().map_err(|error| Error::Failed(error.to_string()))?;
        Ok(ReceiptId::new_v7(self.scribe.at, chance))
    }
}

/// Messages with the same case number between the same cities are delivered one after the other.
fn order_key(envelope: &Envelope, recipient: &Address) -> Option<String> {
    key_between(&envelope.from, recipient, envelope.case_no.as_ref(), Some(&envelope.item_code))
}

/// The same, of a message whose newest evidence is known.
fn order_key_of(evidence: &Evidence) -> Option<String> {
    key_between(&evidence.from, evidence.to.as_ref()?, evidence.case_no.as_ref(), evidence.item_code.as_ref())
}

/// The gateways' own test messages stand under the pair of cities alone: a case number is never empty.
fn key_between(from: &Address, to: &Address, case: Option<&CaseNo>, item: Option<&ItemCode>) -> Option<String> {
    let case_no = match item {
        Some(item) if item.is_test() => "",
        _ => case?.as_str(),
    };
    Some([from.city.as_str(), ">", to.city.as_str(), "/", case_no].concat())
}

/// When somebody must look at a waiting message although nothing happens: the next notice of delay, or the deadline.
fn due_at(stored_at: Time, expires_at: Time, notices: u32) -> Time {
    let notice = NOTICES_MS.get(notices as usize).map(|after| stored_at.plus_ms(*after));
    notice.map_or(expires_at, |notice| notice.min(expires_at))
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
