//! Decides how a receiving stream speaks with its mailbox: steps down as the stream can take them, outcomes up. A body is
//! read from the store when the stream has room for it, not before.

use std::collections::HashMap;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::exchange::short;
use crate::courier::{Delivery, Ground, Mailbox, MailboxError, Outcome, Settlement, Step};
use crate::lanes::SessionId;
use crate::limits::{CREDITS_MAX, DETAIL_BYTES_MAX};
use crate::message::visible;
use crate::reason::Reason;
use crate::wire::envelope::{Faults, join, sent, time_to_wire};
use crate::wire::pb::exchange as pb;
use crate::wire::receipt;
use crate::wire::status::{Refused, to_status, to_wire, unreadable};
use pb::receive_request::Request as Up;
use pb::receive_response::Response as Down;

type Sink = mpsc::Sender<Result<pb::ReceiveResponse, Status>>;

/// Serves one receiving stream: what goes down comes out of the stream returned.
pub fn serve(
    ground: Ground,
    mailbox: Mailbox,
    up: Streaming<pb::ReceiveRequest>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<pb::ReceiveResponse, Status>> {
    // Two bodies ready to go keep the connection busy; the rest stay in the store.
    let (down, stream) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(refused) = converse(ground, mailbox, up, &down, stop).await {
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
    let session = mailbox.open(steps).await.map_err(|error| match error {
        MailboxError::Crowded => Refused::new(Reason::Busy).with_detail(error.to_string()),
        MailboxError::Stopped => Refused::new(Reason::ShuttingDown),
    })?;
    let talk = Talk { ground, mailbox: &mailbox, session, down, credits: 0, held: HashMap::new(), waiting };
    let ended = talk.run(open.credits, up, stop).await;
    mailbox.close(session);
    ended
}

/// One conversation between a system and its mailbox.
struct Talk<'a> {
    ground: Ground,
    mailbox: &'a Mailbox,
    session: SessionId,
    down: &'a Sink,
    /// Credits that have not become deliveries.
    credits: u32,
    /// Deliveries without an outcome, by the name they have on this stream.
    held: HashMap<String, Delivery>,
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
                    Some(step) => self.tell(step).await,
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
                match self.outcome(outcome) {
                    Ok((delivery, outcome)) => self.mailbox.give(self.session, delivery, outcome).await,
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
                    (Some(delivery), Ok(until)) => self.mailbox.extend(self.session, *delivery, until.time()).await,
                    (None, _) => self.refuse(extend.delivery_id, Refused::new(Reason::DeliveryNotFound)).await,
                    (_, Err(faults)) => self.refuse(extend.delivery_id, Refused::faults(faults)).await,
                }
                Ok(())
            }
            None => Err(protocol("a step without a request")),
        }
    }

    fn outcome(&mut self, outcome: pb::Outcome) -> Result<(Delivery, Outcome), Refused> {
        use pb::outcome::Outcome as Said;
        let delivery = self.held.get(&outcome.delivery_id).copied();
        let delivery = delivery.ok_or_else(|| Refused::new(Reason::DeliveryNotFound))?;
        let mut faults = Faults::default();
        let said = match outcome.outcome {
            Some(Said::Acknowledge(_)) => Some(Outcome::Acknowledge),
            Some(Said::Refuse(refuse)) => {
                if refuse.text.len() > DETAIL_BYTES_MAX || !visible(&refuse.text) {
                    faults.add("outcome.refuse.text", format!("must be at most {DETAIL_BYTES_MAX} visible bytes"));
                }
                let code = faults.need("outcome.refuse.code", &refuse.code);
                code.map(|code| Outcome::Refuse { code, text: refuse.text })
            }
            Some(Said::RetryLater(later)) => {
                let at = sent(&mut faults, "outcome.retry_later.not_before", later.not_before);
                // Without a moment the gateway's shortest pause stands.
                faults
                    .is_empty()
                    .then(|| Outcome::RetryLater { at: at.map_or(crate::time::Time::ZERO, |at| at.time()) })
            }
            None => {
                faults.add("outcome.outcome", "is obligatory");
                None
            }
        };
        Ok((delivery, faults.or(said).map_err(Refused::faults)?))
    }

    async fn tell(&mut self, step: Step) {
        let response = match step {
            Step::Deliver { delivery, count, until } => match self.delivery(delivery, count, until).await {
                Ok(response) => Down::Delivery(response),
                Err(why) => return tracing::error!(seq = delivery.seq, why, "a message cannot be delivered"),
            },
            Step::Withdraw { delivery } => {
                self.held.remove(&name(delivery));
                Down::Withdrawn(pb::Withdrawn { delivery_id: name(delivery) })
            }
            Step::Settled { delivery, settlement: Settlement::NotHeld } => {
                return self.refuse(name(delivery), Refused::new(Reason::DeliveryNotFound)).await;
            }
            Step::Settled { delivery, settlement: Settlement::Written(written) } => {
                self.held.remove(&name(delivery));
                let receipt = written.map(|receipt| receipt::to_wire(*receipt));
                Down::Settled(pb::Settled { delivery_id: name(delivery), receipt })
            }
        };
        self.send(response).await;
    }

    async fn delivery(
        &mut self,
        delivery: Delivery,
        count: u32,
        until: crate::time::Time,
    ) -> Result<pb::Delivery, String> {
        self.credits = self.credits.saturating_sub(1);
        let (stored, origin) = self.ground.message(delivery.seq).await.map_err(|error| error.to_string())?;
        let envelope = join(&stored.header, stored.body).map_err(|error| error.to_string())?;
        self.held.insert(name(delivery), delivery);
        let message =
            pb::Message { envelope: Some(envelope), origin_receipt: Some(receipt::to_wire(origin)), via: vec![] };
        Ok(pb::Delivery {
            previous_outcome: 0,
            delivery_id: name(delivery),
            delivery_count: count,
            lease_until: Some(time_to_wire(until)),
            content: Some(pb::delivery::Content::Message(message)),
        })
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

/// A delivery's name on its stream.
fn name(delivery: Delivery) -> String {
    format!("{}-{}", delivery.seq, delivery.attempt)
}
