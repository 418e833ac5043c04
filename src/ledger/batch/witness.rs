//! Decides what a foreign receipt changes: each is kept once, one leaf says so, and it is passed on to the origin.

use super::{Batch, short};
use crate::evidence::{Event, Evidence, Witnessed};
use crate::message::ItemCode;
use crate::party::Member;
use crate::planted;
use crate::reason::Reason;
use crate::receipt::Checked;
use crate::store::{Error, Head, Key};

/// Receipts that a partner sent.
#[derive(Debug)]
pub struct Witness {
    pub receipts: Vec<Incoming>,
}

/// One receipt, checked against its log.
#[derive(Debug)]
pub struct Incoming {
    pub checked: Checked,
    /// The free text beside it.
    pub text: Option<String>,
    /// Whether its issuer is a member that may carry messages of the sending city.
    pub issuer: Issuer,
}

/// What a receipt's issuer may be to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// A member that the sending city's record lets relay.
    MayRelay,
    /// Any other: it must be the recipient's gateway.
    Other,
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

/// Whether a witnessed event moves the message's state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Full,
    /// A refusal while another candidate is left.
    Noted,
}

impl Batch<'_> {
    pub(super) fn witness(&mut self, incoming: Incoming) -> Result<Result<(), WitnessRefusal>, Error> {
        let Incoming { checked, text, issuer } = incoming;
        let evidence = &checked.evidence;
        let key = Key { from_city: evidence.from.city.clone(), id: evidence.message_id };
        let Some(mut head) = self.head_of(&key)? else { return Ok(Err(WitnessRefusal::UnknownMessage)) };
        if head.header_digest != evidence.header_digest {
            return Ok(Err(WitnessRefusal::OtherDigest));
        }
        if let Err(refusal) = self.may_tell(&head, evidence, issuer)? {
            return Ok(Err(refusal));
        }
        self.witness_leaf(&mut head, checked, text, Weight::Full)?;
        self.decide(head);
        Ok(Ok(()))
    }

    /// Only the recipient city's gateway can tell what became of the message there, and only a member that may carry it
    /// what became of it on the way. We need nobody to tell us what we said: each leaf of ours that came back would make
    /// another. The sender's gateway accepts, refuses and cancels; and a receipt causes no evidence beyond one WITNESSED
    /// leaf.
    fn may_tell(&self, head: &Head, evidence: &Evidence, issuer: Issuer) -> Result<Result<(), WitnessRefusal>, Error> {
        use Event::{Cancelled, Delayed, Expired, RelayAccepted, RelayFailed, RelayRejected};
        use Event::{SubmissionAccepted, SubmissionRejected};
        let recipient = self.base(head)?.to.map(|to| Member::City(to.city));
        let is_recipient = recipient.as_ref() == Some(&evidence.issuer);
        // Nor does anybody know more than we of what is in our own mailboxes.
        let ours = [Some(&evidence.issuer), recipient.as_ref()].contains(&Some(&self.scribe.issuer));
        if ours || !(is_recipient || issuer == Issuer::MayRelay) {
            return Ok(Err(WitnessRefusal::Issuer));
        }
        let told = match evidence.event {
            SubmissionAccepted | SubmissionRejected | Cancelled | Event::Witnessed => false,
            RelayAccepted | RelayRejected | RelayFailed | Expired | Delayed => true,
            _ => is_recipient,
        };
        Ok(if told { Ok(()) } else { Err(WitnessRefusal::Event) })
    }

    /// Keeps a foreign receipt and writes the leaf that says so; nothing when it is known.
    pub(super) fn witness_leaf(
        &mut self,
        head: &mut Head,
        receipt: Checked,
        text: Option<String>,
        weight: Weight,
    ) -> Result<Option<u64>, Error> {
        let known = receipt.receipt.leaf_hash();
        let again = self.witnessed.contains(&known) || self.ground.writer.has_received(known)?;
        if again && !planted::is(planted::Bug::HandoverTwice) {
            return Ok(None);
        }
        let base = self.base(head)?;
        let of_a_test = base.item_code.as_ref().is_some_and(ItemCode::is_test);
        let foreign = Witnessed {
            leaf_hash: known,
            issuer: receipt.evidence.issuer.clone(),
            log_origin: receipt.log_origin.clone(),
        };
        let told = &receipt.evidence;
        let evidence = Evidence { event: Event::Witnessed, witnessed: Some(foreign), ..short(base) };
        let evidence = Evidence { previous: Some(head.last.1), ..evidence };
        let (leaf, hash) = match of_a_test {
            true => self.uncounted(Some(head.seq), &evidence)?,
            false => self.leaf(Some(head.seq), &evidence)?,
        };
        head.last = (leaf, hash);
        if weight == Weight::Full {
            head.standing.in_doubt |= told.reasons.contains(&Reason::InDoubt.into()) && !head.standing.state.is_final();
            self.advance(head, told.event, told.reasons.first());
            // A refusal that is not the end would end the message at its origin.
            self.send_home(head, told, leaf, Some(known));
        }
        if !again {
            self.keep(head.seq, receipt);
        }
        self.detail(known, head.seq, text.unwrap_or_default());
        Ok(Some(leaf))
    }
}
