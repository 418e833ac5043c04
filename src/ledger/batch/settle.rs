//! Decides what the fate of a lane's message changes: which leaf ends it, or which lane goes on with it.

use super::{Batch, Pending, order_key_of};
use crate::evidence::{AssertedBy, Code, Event, Evidence};
use crate::ledger::Answer;
use crate::reason::Reason;
use crate::receipt::Checked;
use crate::store::{Error, Head, LaneName, Moved, NewSignature, Seq};

/// A recipient system's own word for a handover: a signature over the header digest that its certificate's key made.
#[derive(Clone, Debug)]
pub struct Signed {
    /// DER.
    pub certificate: Vec<u8>,
    pub signature: Vec<u8>,
}

/// How a lane's message ended.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Our own system took and acknowledged it.
    HandedOver { signed: Option<Signed> },
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
    /// The deadline passed, and nobody else can have it.
    Expired,
    /// The deadline passed, and the partner may have it: it did not answer when it was asked.
    InDoubt,
    /// Its sender withdrew it before anybody else had it.
    Cancelled,
    /// This lane is at rest: the next candidate is to try, with the whole case.
    Diverted,
}

impl Fate {
    /// Whether this gateway alone says so.
    fn is_our_own_word(&self) -> bool {
        match self {
            Fate::Exhausted | Fate::RelayFailed { .. } | Fate::Expired | Fate::InDoubt | Fate::Cancelled => true,
            Fate::HandedOver { .. } | Fate::Refused { .. } | Fate::Relayed(_) | Fate::RelayRefused { .. } => false,
            Fate::Diverted => false,
        }
    }
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

impl Batch<'_> {
    pub(super) fn settle(&mut self, settle: Settle) -> Result<Pending, Error> {
        let Some(mut head) = self.head_at(settle.seq)? else { return Ok(Pending::Settled(None)) };
        if !head.queued || head.lane != settle.lane {
            return Ok(Pending::Settled(None));
        }
        if let Some(moved) = self.pass_on(&mut head, &settle)? {
            return Ok(Pending::Other(Answer::Moved(moved)));
        }
        head.queued = false;
        self.count(&settle.lane, -1);
        self.commit.settled.push((settle.lane.clone(), settle.seq));
        let leaf = self.end(&mut head, settle)?;
        self.decide(head);
        Ok(Pending::Settled(leaf))
    }

    /// Gives the message and its case to the next candidate, where the fate allows it and there is one. A partner's
    /// refusal is witnessed, and is not the end.
    fn pass_on(&mut self, head: &mut Head, settle: &Settle) -> Result<Option<Vec<Seq>>, Error> {
        let refusal = match &settle.fate {
            Fate::Diverted => None,
            Fate::RelayRefused { receipt, text } => Some((receipt, text)),
            Fate::RelayFailed { .. } => None,
            _ => return Ok(None),
        };
        // What has ended by another's word needs no other way.
        let rows = if head.standing.state.is_final() { vec![] } else { self.rows_of_case(settle)? };
        let next = rows.first().filter(|(seq, _)| *seq == settle.seq).and_then(|(_, others)| others.first());
        let Some(to) = next.cloned() else {
            return Ok((matches!(settle.fate, Fate::Diverted) && !head.standing.state.is_final()).then(Vec::new));
        };
        if let Some((receipt, text)) = refusal {
            self.witness_leaf(head, receipt.clone(), Some(text.clone()), super::witness::Weight::Noted)?;
        }
        self.decide(head.clone());
        self.redirect_fresh(head, &settle.lane, &to)?;
        let mut moved = Vec::with_capacity(rows.len());
        for (seq, others) in rows {
            let Some(others) = behind(&others, &to) else { continue };
            let Some(mut follower) = self.head_at(seq)? else { continue };
            follower.lane = to.clone();
            self.decide(follower);
            self.change_lane(&settle.lane, &to, seq);
            self.rung.moved.push((to.clone(), seq));
            self.commit.moved.push(Moved { seq, from: settle.lane.clone(), to: to.clone(), others });
            moved.push(seq);
        }
        // The last first: a lane that forgets them one by one must send none of them in between.
        moved.reverse();
        Ok(Some(moved))
    }

    /// The stored rows of a message's case, from the message on, that still wait in its lane. What was added in this very
    /// batch is not in the store yet; what ended or moved in it still is.
    fn rows_of_case(&self, settle: &Settle) -> Result<Vec<(Seq, Vec<LaneName>)>, Error> {
        let mut rows = self.ground.writer.case_rows(&settle.lane, settle.seq)?;
        rows.retain(|(seq, _)| self.decided(*seq).is_none_or(|head| head.queued && head.lane == settle.lane));
        Ok(rows)
    }

    /// Messages of the case that came in this very batch follow the one before them, where the new lane is one of theirs.
    fn redirect_fresh(&mut self, head: &Head, from: &LaneName, to: &LaneName) -> Result<(), Error> {
        let Some(case) = order_key_of(&self.base(head)?) else { return Ok(()) };
        let mut followers = vec![];
        for message in self.commit.messages.iter_mut().filter(|message| message.order_key.as_ref() == Some(&case)) {
            if message.head.lane == *from
                && let Some(others) = behind(&message.others, to)
            {
                message.head.lane = to.clone();
                message.others = others;
                followers.push(message.head.seq);
            }
        }
        for seq in followers {
            self.change_lane(from, to, seq);
        }
        self.cases.insert(case, to.clone());
        Ok(())
    }

    fn change_lane(&mut self, from: &LaneName, to: &LaneName, seq: Seq) {
        self.count(from, -1);
        self.count(to, 1);
        self.rung.waits(to, seq);
    }

    fn end(&mut self, head: &mut Head, settle: Settle) -> Result<Option<u64>, Error> {
        let own_mailbox = matches!(settle.lane, LaneName::System(_));
        let mut evidence = Evidence { attempts: settle.attempts.into(), ..self.base(head)? };
        let silent = String::new;
        // The first end stands: nobody is told another one of a message that ended by a partner's word.
        if head.standing.state.is_final() && settle.fate.is_our_own_word() {
            return Ok(None);
        }
        Ok(match settle.fate {
            Fate::HandedOver { signed } => {
                evidence.instants.acknowledged = Some(self.scribe.at);
                evidence.asserted_by = Some(match signed {
                    Some(_) => AssertedBy::RecipientSignature,
                    None => AssertedBy::Issuer,
                });
                let leaf = self.next_leaf(head, evidence, Event::HandedOver)?;
                self.commit.signatures.extend(signed.map(|signed| NewSignature {
                    leaf_hash: head.last.1,
                    message: head.seq,
                    certificate: signed.certificate,
                    signature: signed.signature,
                }));
                Some(leaf)
            }
            Fate::Refused { code, text } => {
                evidence.reasons = vec![Reason::RecipientRefused.into()];
                evidence.token = Some(code);
                Some(self.negative_leaf(head, evidence, Event::HandoverFailed, text)?)
            }
            Fate::Exhausted => {
                evidence.reasons = vec![Reason::DeliveriesExhausted.into()];
                let event = if own_mailbox { Event::HandoverFailed } else { Event::RelayFailed };
                Some(self.negative_leaf(head, evidence, event, silent())?)
            }
            Fate::RelayFailed { reason, status, text } => {
                evidence.reasons = vec![reason];
                evidence.last_status = status;
                Some(self.negative_leaf(head, evidence, Event::RelayFailed, text)?)
            }
            Fate::Expired => {
                evidence.reasons = vec![Reason::MessageExpired.into()];
                Some(self.negative_leaf(head, evidence, Event::Expired, silent())?)
            }
            Fate::InDoubt => {
                evidence.reasons = vec![Reason::PartnerSilent.into(), Reason::InDoubt.into()];
                head.standing.in_doubt = true;
                Some(self.negative_leaf(head, evidence, Event::RelayFailed, silent())?)
            }
            Fate::Cancelled => Some(self.next_leaf(head, evidence, Event::Cancelled)?),
            Fate::Relayed(receipt) => self.witness_leaf(head, receipt, None, super::witness::Weight::Full)?,
            Fate::RelayRefused { receipt, text } => {
                self.witness_leaf(head, receipt, Some(text), super::witness::Weight::Full)?
            }
            // Only a message with a candidate left is diverted; one without stays where it is.
            Fate::Diverted => None,
        })
    }
}

/// The lanes to try after `to`; none when it is not among them.
fn behind(others: &[LaneName], to: &LaneName) -> Option<Vec<LaneName>> {
    let place = others.iter().position(|other| other == to)?;
    Some(others[place + 1..].to_vec())
}
