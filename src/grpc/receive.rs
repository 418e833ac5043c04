//! Decides how a receiving stream speaks with its mailbox: steps down as the stream can take them, outcomes up. A body is
//! read from the store when the stream has room for it, not before.

use std::collections::{HashMap, VecDeque};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::exchange::short;
use crate::courier::{Delivery, Ground, InFlight, Mailbox, MailboxError, Outcome, Receipts, Step, Taken};
use crate::evidence::{Code, Event, State};
use crate::lanes::{Seq, SessionId};
use crate::ledger::{Fate, Signed};
use crate::limits::{CREDITS_MAX, DELIVERIES_READ_TOGETHER, DETAIL_BYTES_MAX, NOT_PERMITTED_NOW_MS};
use crate::message::{trace_id, visible};
use crate::party::{Member, Role};
use crate::reason::Reason;
use crate::receipt::{Checked, Receipt};
use crate::store::Stored;
use crate::tls::accept::Peer;
use crate::tls::profile::verifies;
use crate::wire::envelope::{Faults, join, outline, sent, time_to_wire};
use crate::wire::exchange::batch;
use crate::wire::pb::exchange as pb;
use crate::wire::receipt;
use crate::wire::status::{Refused, to_status, to_wire, unreadable};
use pb::receive_request::Request as Up;
use pb::receive_response::Response as Down;

type Sink = mpsc::Sender<Result<pb::ReceiveResponse, Status>>;

/// Serves one receiving stream: what goes down comes out of the stream returned.
pub fn serve(
    ground: Ground,
    peer: Peer,
    mailbox: Mailbox,
    up: Streaming<pb::ReceiveRequest>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<pb::ReceiveResponse, Status>> {
    // Two steps ready to go keep the connection busy.
    let (down, stream) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(refused) = converse(ground, peer, mailbox, up, &down, stop).await {
            let _ = down.send(Err(to_status(&refused))).await;
        }
    });
    ReceiverStream::new(stream)
}

fn protocol(detail: &str) -> Refused {
    Refused::new(Reason::StreamProtocol).with_detail(detail)
}

async fn converse(
    ground: Ground,
    peer: Peer,
    mailbox: Mailbox,
    mut up: Streaming<pb::ReceiveRequest>,
    down: &Sink,
    stop: CancellationToken,
) -> Result<(), Refused> {
    let first = tokio::select! {
        first = up.message() => first,
        () = stop.cancelled() => return Err(Refused::new(Reason::ShuttingDown)),
    };
    let first = match first {
        Ok(first) => first.and_then(|step| step.request),
        Err(status) => return unreadable(&status).map_or(Ok(()), Err),
    };
    let Some(Up::Open(open)) = first else { return Err(protocol("the first step must open the mailbox")) };
    // Every credit can become a delivery, a withdrawal and a settlement that wait here.
    let (steps, waiting) = mpsc::channel(4 * CREDITS_MAX as usize);
    let receipts = if open.receipts { Receipts::Wanted } else { Receipts::Unwanted };
    let session = mailbox.open(steps, receipts).await.map_err(|error| match error {
        MailboxError::Crowded => Refused::new(Reason::Busy).with_detail(error.to_string()),
        MailboxError::Stopped => Refused::new(Reason::ShuttingDown),
    })?;
    let talk = Talk { ground, peer, mailbox: &mailbox, session, down, credits: 0, held: HashMap::new(), waiting };
    let ended = talk.run(open.credits, up, stop).await;
    mailbox.close(session);
    ended
}

/// A delivery without an outcome.
#[derive(Clone)]
enum Held {
    Message(Delivery, Box<InFlight>),
    Receipts,
}

/// One conversation between a system and its mailbox.
struct Talk<'a> {
    ground: Ground,
    peer: Peer,
    mailbox: &'a Mailbox,
    session: SessionId,
    down: &'a Sink,
    /// Credits that have not become deliveries.
    credits: u32,
    /// Deliveries without an outcome, by the name they have on this stream.
    held: HashMap<String, Held>,
    waiting: mpsc::Receiver<Step>,
}

impl Talk<'_> {
    async fn run(
        mut self,
        credits: u32,
        mut up: Streaming<pb::ReceiveRequest>,
        stop: CancellationToken,
    ) -> Result<(), Refused> {
        self.grant(credits).await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Err(Refused::new(Reason::ShuttingDown)),
                () = self.down.closed() => return Ok(()),
                step = up.message() => match step {
                    Ok(Some(step)) => self.heard(step).await?,
                    // The system has said all it had to say.
                    Ok(None) => return Ok(()),
                    // It is gone, or sent what does not decode.
                    Err(status) => return unreadable(&status).map_or(Ok(()), Err),
                },
                step = self.waiting.recv() => match step {
                    Some(step) => self.tell_all(step).await,
                    None => return Err(Refused::new(Reason::Busy).with_detail("the stream did not keep up with its credits")),
                },
            }
        }
    }

    async fn grant(&mut self, count: u32) -> Result<(), Refused> {
        if self.credits.saturating_add(count) > CREDITS_MAX {
            return Err(protocol(&format!("at most {CREDITS_MAX} credits may be open")));
        }
        self.credits += count;
        self.mailbox.grant(self.session, count).await;
        Ok(())
    }

    async fn heard(&mut self, step: pb::ReceiveRequest) -> Result<(), Refused> {
        match step.request {
            Some(Up::Open(_)) => Err(protocol("the mailbox is open already")),
            Some(Up::Credits(credits)) => self.grant(credits.count).await,
            Some(Up::Outcome(outcome)) => {
                let id = outcome.delivery_id.clone();
                match self.outcome(outcome).await {
                    Ok(()) => {}
                    Err(refused) => self.refuse(id, refused).await,
                }
                Ok(())
            }
            Some(Up::Extend(extend)) => {
                let mut faults = Faults::default();
                if extend.until.is_none() {
                    faults.add("extend.until", "is obligatory");
                }
                let until = sent(&mut faults, "extend.until", extend.until);
                match (self.held.get(&extend.delivery_id), faults.or(until)) {
                    (Some(Held::Message(delivery, _)), Ok(until)) => {
                        self.mailbox.extend(self.session, *delivery, until.time()).await;
                    }
                    // A batch of receipts has no lease.
                    (Some(Held::Receipts), Ok(_)) => {}
                    (None, _) => self.refuse(extend.delivery_id, Refused::new(Reason::DeliveryNotFound)).await,
                    (_, Err(faults)) => self.refuse(extend.delivery_id, Refused::faults(faults)).await,
                }
                Ok(())
            }
            None => Err(protocol("a step without a request")),
        }
    }

    async fn outcome(&mut self, outcome: pb::Outcome) -> Result<(), Refused> {
        let held = self.held.get(&outcome.delivery_id).cloned();
        match held.ok_or_else(|| Refused::new(Reason::DeliveryNotFound))? {
            Held::Receipts => self.receipts_outcome(outcome).await,
            Held::Message(delivery, in_flight) => {
                let outcome = self.message_outcome(&in_flight, outcome)?;
                self.mailbox.give(self.session, delivery, outcome).await;
                Ok(())
            }
        }
    }

    async fn receipts_outcome(&mut self, outcome: pb::Outcome) -> Result<(), Refused> {
        use pb::outcome::Outcome as Said;
        let Some(said) = outcome.outcome else { return Err(missing_outcome()) };
        self.held.remove(&outcome.delivery_id);
        let delivery_id = outcome.delivery_id.clone();
        match said {
            Said::Acknowledge(taken) => {
                for refused in &taken.refused {
                    let why = refused.status.as_ref().map_or("", |status| status.message.as_str());
                    tracing::warn!(party = %self.peer.party, position = refused.position, why, "a receipt was refused");
                }
                self.mailbox.arrived(outcome.delivery_id).await;
            }
            Said::Refuse(_) | Said::RetryLater(_) => self.mailbox.not_taken(outcome.delivery_id).await,
        }
        self.send(Down::Settled(pb::Settled { delivery_id, receipt: None })).await;
        Ok(())
    }

    fn message_outcome(&self, in_flight: &InFlight, outcome: pb::Outcome) -> Result<Outcome, Refused> {
        use pb::outcome::Outcome as Said;
        let mut faults = Faults::default();
        let gateway = self.peer.party.role == Role::Gateway;
        let said = match outcome.outcome {
            Some(Said::Acknowledge(taken)) if gateway => {
                let checked = self.foreign(in_flight, taken.receipt, Event::RelayAccepted);
                let checked = checked.map_err(|why| faults.add("outcome.acknowledge.receipt", why)).ok();
                checked.map(|checked| Outcome::Final(Taken::Yes, Box::new(Fate::Relayed(checked))))
            }
            Some(Said::Acknowledge(taken)) => {
                let signed = self.signed(in_flight, taken.signature);
                let signed = signed.map_err(|why| faults.add("outcome.acknowledge.signature", why)).ok();
                signed.map(|signed| Outcome::Final(Taken::Yes, Box::new(Fate::HandedOver { signed })))
            }
            Some(Said::Refuse(refuse)) => {
                if refuse.text.len() > DETAIL_BYTES_MAX || !visible(&refuse.text) {
                    faults.add("outcome.refuse.text", format!("must be at most {DETAIL_BYTES_MAX} visible bytes"));
                }
                let code: Option<Code> = faults.need("outcome.refuse.code", &refuse.code);
                code.map(|code| Outcome::Final(Taken::No, Box::new(self.refusal(in_flight, code, refuse))))
            }
            Some(Said::RetryLater(later)) => {
                let at = sent(&mut faults, "outcome.retry_later.not_before", later.not_before);
                // Without a moment the gateway's shortest pause stands.
                let at = at.map_or(crate::time::Time::ZERO, |at| at.time());
                faults.is_empty().then_some(Outcome::RetryLater { at })
            }
            None => return Err(missing_outcome()),
        };
        faults.or(said).map_err(Refused::faults)
    }

    /// How a refusal ends the message: a gateway's with its receipt where it wrote one.
    fn refusal(&self, in_flight: &InFlight, code: Code, refuse: pb::Refuse) -> Fate {
        if self.peer.party.role != Role::Gateway {
            return Fate::Refused { code, text: refuse.text };
        }
        match self.foreign(in_flight, refuse.receipt, Event::RelayRejected) {
            Ok(receipt) => Fate::RelayRefused { receipt, text: refuse.text },
            Err(_) => Fate::RelayFailed { reason: code, status: 0, text: refuse.text },
        }
    }

    /// A partner gateway's receipt for this message.
    fn foreign(
        &self,
        in_flight: &InFlight,
        wire: Option<crate::wire::pb::evidence::Receipt>,
        event: Event,
    ) -> Result<Checked, String> {
        let receipt = wire.ok_or("is obligatory from a gateway")?;
        let receipt = receipt::from_wire(receipt).ok_or("a hash of its path has not 32 bytes")?;
        let checked = self.ground.check(receipt).map_err(|error| error.to_string())?;
        let meant =
            checked.evidence.event == event && in_flight.is_meant_by(&checked.evidence, &self.peer.party.member);
        if meant { Ok(checked) } else { Err("speaks of something else".to_owned()) }
    }

    /// A system's own signature over the header digest, if it gave one.
    fn signed(&self, in_flight: &InFlight, signature: Vec<u8>) -> Result<Option<Signed>, String> {
        if signature.is_empty() {
            return Ok(None);
        }
        let certificate = self.peer.chain.first().ok_or("needs a certificate")?;
        let holds = verifies(certificate, &in_flight.header_digest.0, &signature);
        let signed = Signed { certificate: certificate.to_vec(), signature };
        if holds { Ok(Some(signed)) } else { Err("does not verify with the key of the certificate in use".to_owned()) }
    }

    /// Tells a step and those that wait behind it. What they deliver is read in few looks: a look for each would cost more
    /// than all the rest.
    async fn tell_all(&mut self, first: Step) {
        let mut steps = VecDeque::from([first]);
        while steps.len() < DELIVERIES_READ_TOGETHER.0
            && let Ok(step) = self.waiting.try_recv()
        {
            steps.push_back(step);
        }
        let mut read = HashMap::new();
        while let Some(step) = steps.pop_front() {
            if let Some(seq) = wanted(&step)
                && !read.contains_key(&seq)
            {
                read = self.read([seq].into_iter().chain(steps.iter().filter_map(wanted)).collect()).await;
            }
            self.tell(step, &mut read).await;
        }
    }

    /// Reads the first of these messages and as many more as may be held at a time, once all before them is taken: a
    /// stream that does not read holds no more than one look brings.
    async fn read(&self, seqs: Vec<Seq>) -> HashMap<Seq, (Stored, Receipt)> {
        // A stream that is gone is noticed by the loop.
        drop(self.down.reserve_many(self.down.max_capacity()).await);
        self.ground.messages(seqs, DELIVERIES_READ_TOGETHER.1).await.unwrap_or_default()
    }

    /// Tells one step. A message that could not be read with others is read now, or it is known why not.
    async fn tell(&mut self, step: Step, read: &mut HashMap<Seq, (Stored, Receipt)>) {
        let response = match step {
            Step::Deliver { delivery, count, until } => match self.delivery(delivery, count, until, read).await {
                Ok(Some(response)) => Down::Delivery(response),
                Ok(None) => return,
                Err(why) => return tracing::error!(seq = delivery.seq, why, "a message cannot be delivered"),
            },
            Step::Receipts { name, receipts } => {
                self.credits = self.credits.saturating_sub(1);
                self.held.insert(name.clone(), Held::Receipts);
                let content = pb::delivery::Content::Receipts(batch(name.clone(), receipts));
                Down::Delivery(pb::Delivery {
                    delivery_id: name,
                    delivery_count: 1,
                    content: Some(content),
                    ..Default::default()
                })
            }
            Step::Withdraw { delivery } => match self.held.remove(&name(delivery)) {
                Some(_) => Down::Withdrawn(pb::Withdrawn { delivery_id: name(delivery) }),
                // It never went down.
                None => return,
            },
            Step::NotHeld { delivery } => {
                return self.refuse(name(delivery), Refused::new(Reason::DeliveryNotFound)).await;
            }
            Step::Settled { delivery, receipt } => {
                self.held.remove(&name(delivery));
                let receipt = receipt.map(|receipt| receipt::to_wire(*receipt));
                Down::Settled(pb::Settled { delivery_id: name(delivery), receipt })
            }
        };
        self.send(response).await;
    }

    /// Reads a message just before it goes down, where that is not done, and asks the rules once more whether it may.
    async fn delivery(
        &mut self,
        delivery: Delivery,
        count: u32,
        until: crate::time::Time,
        read: &mut HashMap<Seq, (Stored, Receipt)>,
    ) -> Result<Option<pb::Delivery>, String> {
        self.credits = self.credits.saturating_sub(1);
        let (mut stored, origin) = match read.remove(&delivery.seq) {
            Some(read) => read,
            None => self.ground.message(delivery.seq).await.map_err(|error| error.to_string())?,
        };
        let now = self.ground.clock.now();
        if !self.may_have(&stored, now)? {
            // The credit comes back: nothing was delivered for it.
            self.credits += 1;
            self.mailbox.grant(self.session, 1).await;
            let at = now.plus_ms(NOT_PERMITTED_NOW_MS);
            self.mailbox.give(self.session, delivery, Outcome::NotNow { at }).await;
            return Ok(None);
        }
        let envelope = join(&stored.header, stored.body.take()).map_err(|error| error.to_string())?;
        let previous_outcome = self.previous_outcome(&stored).await;
        let in_flight = InFlight {
            seq: delivery.seq,
            attempt: delivery.attempt,
            from_city: stored.key.from_city.clone(),
            id: stored.key.id,
            header_digest: stored.header_digest,
            trace: trace_id(&envelope.traceparent).map(str::to_owned),
        };
        let (id, trace) = (&in_flight.id, in_flight.trace.as_deref());
        tracing::debug!(party = %self.peer.party, %id, trace, count, "a message is handed out");
        self.held.insert(name(delivery), Held::Message(delivery, Box::new(in_flight)));
        let own_hub = Some(&self.ground.own).filter(|own| matches!(own, Member::Hub(_)));
        let via = stored.via.iter().chain(own_hub).map(Member::to_string).collect();
        let message = pb::Message { envelope: Some(envelope), origin_receipt: Some(receipt::to_wire(origin)), via };
        Ok(Some(pb::Delivery {
            previous_outcome: previous_outcome.map_or(0, |state| state as i32),
            delivery_id: name(delivery),
            delivery_count: count,
            lease_until: Some(time_to_wire(until)),
            content: Some(pb::delivery::Content::Message(message)),
        }))
    }

    fn may_have(&self, stored: &Stored, now: crate::time::Time) -> Result<bool, String> {
        let outline = outline(&stored.header).map_err(|error| error.to_string())?;
        let rules = self.ground.rules.load();
        Ok(match &self.peer.party.role {
            Role::System(system) => rules.lets_have(system, stored, &outline, now),
            _ => rules.lets_go(stored, &outline, &self.peer.party.member, now),
        })
    }

    async fn previous_outcome(&self, stored: &Stored) -> Option<State> {
        let (order_key, seq) = (stored.order_key.clone()?, stored.seq);
        self.ground.readers.seek(move |look| look.previous_outcome(&order_key, seq)).await.ok().flatten()
    }

    async fn refuse(&mut self, delivery_id: String, refused: Refused) {
        let (delivery_id, status) = (short(delivery_id), Some(to_wire(&refused)));
        self.send(Down::Refused(pb::RefusedStep { delivery_id, status })).await;
    }

    async fn send(&mut self, response: Down) {
        // A stream that is gone is noticed by the loop.
        let _ = self.down.send(Ok(pb::ReceiveResponse { response: Some(response) })).await;
    }
}

fn missing_outcome() -> Refused {
    let mut faults = Faults::default();
    faults.add("outcome.outcome", "is obligatory");
    Refused::faults(faults.or::<()>(None).err().unwrap_or_default())
}

/// The message that a step delivers.
fn wanted(step: &Step) -> Option<Seq> {
    match step {
        Step::Deliver { delivery, .. } => Some(delivery.seq),
        _ => None,
    }
}

/// A delivery's name on its stream.
fn name(delivery: Delivery) -> String {
    format!("{}-{}", delivery.seq, delivery.attempt)
}
