//! Decides how a system receives: every delivery checked against the receipt of its origin before anybody sees it, every
//! outcome's receipt checked before it is told. Never gives an outcome by itself.

use tokio::sync::mpsc;
use tonic::Streaming;

use super::{Client, Refused, Trouble};
use crate::evidence::{Code, Event};
use crate::limits::CREDITS_MAX;
use crate::message::Envelope;
use crate::party::Member;
use crate::receipt::Checked;
use crate::time::Time;
use crate::wire::envelope::{parse, time_to_wire};
use crate::wire::pb::exchange as pb;
use crate::wire::{receipt, status};
use pb::receive_request::Request as Up;
use pb::receive_response::Response as Down;

/// An open mailbox. Dropping it leaves what has no outcome to others.
pub struct Inbox<'a> {
    client: &'a Client,
    up: mpsc::Sender<pb::ReceiveRequest>,
    down: Streaming<pb::ReceiveResponse>,
}

/// What comes out of a mailbox.
pub enum News {
    Delivered(Box<Delivered>),
    /// An outcome is durable; a receipt stands beside all but "later".
    Settled {
        delivery: String,
        receipt: Option<Box<Checked>>,
    },
    /// A lease has ended: the outcome is no longer taken.
    Withdrawn {
        delivery: String,
    },
    Refused {
        delivery: String,
        refused: Box<Refused>,
    },
}

/// A message in our hands, with its origin's word for it.
pub struct Delivered {
    /// Its name on this stream.
    pub delivery: String,
    /// How often it was delivered, this time counted.
    pub count: u32,
    pub envelope: Envelope,
    pub origin: Checked,
}

/// What becomes of a delivery.
#[derive(Debug, Clone)]
pub enum Outcome {
    Acknowledge,
    Refuse { code: Code, text: String },
    Later { not_before: Time },
}

/// The way up, its first step said already.
pub(super) fn opening(credits: u32) -> (mpsc::Sender<pb::ReceiveRequest>, mpsc::Receiver<pb::ReceiveRequest>) {
    let (up, steps) = mpsc::channel(CREDITS_MAX as usize);
    let open = Up::Open(pb::OpenMailbox { credits: credits.min(CREDITS_MAX), receipts: false });
    // The channel is new: there is room.
    let _ = up.try_send(pb::ReceiveRequest { request: Some(open) });
    (up, steps)
}

impl<'a> Inbox<'a> {
    pub(super) fn new(
        client: &'a Client,
        up: mpsc::Sender<pb::ReceiveRequest>,
        down: Streaming<pb::ReceiveResponse>,
    ) -> Inbox<'a> {
        Inbox { client, up, down }
    }

    /// Who receives.
    pub fn client(&self) -> &'a Client {
        self.client
    }

    /// What comes next; `None` when the gateway has closed the stream.
    pub async fn next(&mut self) -> Result<Option<News>, Trouble> {
        let response = self.down.message().await.map_err(|status| self.client.broken(&status))?;
        response.and_then(|response| response.response).map(|step| self.read(step)).transpose()
    }

    /// Grants more deliveries.
    pub async fn grant(&self, count: u32) {
        self.say(Up::Credits(pb::GrantCredits { count })).await;
    }

    /// Gives a delivery its outcome.
    pub async fn give(&self, delivery: &str, outcome: &Outcome) {
        use pb::outcome::Outcome as Said;
        let said = match outcome.clone() {
            Outcome::Acknowledge => Said::Acknowledge(pb::Acknowledge::default()),
            Outcome::Refuse { code, text } => {
                Said::Refuse(pb::Refuse { code: code.as_str().to_owned(), text, receipt: None })
            }
            Outcome::Later { not_before } => {
                Said::RetryLater(pb::RetryLater { not_before: Some(time_to_wire(not_before)) })
            }
        };
        self.say(Up::Outcome(pb::Outcome { delivery_id: delivery.to_owned(), outcome: Some(said) })).await;
    }

    /// Asks for more time for a delivery.
    pub async fn extend(&self, delivery: &str, until: Time) {
        let until = Some(time_to_wire(until));
        self.say(Up::Extend(pb::ExtendLease { delivery_id: delivery.to_owned(), until })).await;
    }

    async fn say(&self, step: Up) {
        // A stream that is gone is told by what comes next.
        let _ = self.up.send(pb::ReceiveRequest { request: Some(step) }).await;
    }

    fn read(&self, step: Down) -> Result<News, Trouble> {
        Ok(match step {
            Down::Delivery(delivery) => News::Delivered(Box::new(self.delivered(delivery)?)),
            Down::Settled(settled) => News::Settled {
                delivery: settled.delivery_id,
                receipt: match settled.receipt {
                    None => None,
                    Some(wire) => Some(Box::new(self.client.own_receipt(receipt::from_wire(wire))?)),
                },
            },
            Down::Withdrawn(withdrawn) => News::Withdrawn { delivery: withdrawn.delivery_id },
            Down::Refused(step) => {
                let answered = status::from_wire(&step.status.unwrap_or_default());
                News::Refused { delivery: step.delivery_id, refused: Box::new(self.client.refused(answered)) }
            }
        })
    }

    fn delivered(&self, delivery: pb::Delivery) -> Result<Delivered, Trouble> {
        let Some(pb::delivery::Content::Message(message)) = delivery.content else {
            return Err(Trouble::unsound("a delivery without a message", "投递中没有消息"));
        };
        let (envelope, origin) = opened(self.client, message)?;
        Ok(Delivered { delivery: delivery.delivery_id, count: delivery.delivery_count, envelope, origin })
    }
}

/// A message that was handed to us, and its origin's word that this is what it accepted.
pub(super) fn opened(client: &Client, message: pb::Message) -> Result<(Envelope, Checked), Trouble> {
    let envelope = parse(message.envelope.unwrap_or_default()).map_err(|faults| {
        let first = faults.first().map(|fault| format!("{} {}", fault.field, fault.must)).unwrap_or_default();
        Trouble::unsound(format!("the delivered message: {first}"), format!("投递的消息：{first}"))
    })?;
    let missing = || Trouble::unsound("the delivery carries no receipt of its origin", "投递未附始发回执");
    let origin = message.origin_receipt.and_then(receipt::from_wire).ok_or_else(missing)?;
    let origin = client.check(origin)?;
    if !vouches(&origin, &envelope) {
        let (en, zh) = (format!("{} is not what its origin accepted", envelope.id), envelope.id.to_string());
        return Err(Trouble::unsound(en, format!("{zh} 与始发网关所受理的内容不符")));
    }
    Ok((envelope, origin))
}

/// Whether the origin's receipt speaks of this very message.
fn vouches(origin: &Checked, envelope: &Envelope) -> bool {
    let evidence = &origin.evidence;
    evidence.event == Event::SubmissionAccepted
        && evidence.issuer == Member::City(envelope.from.city.clone())
        && evidence.message_id == envelope.id
        && evidence.from == envelope.from
        && evidence.header_digest == envelope.header_digest()
}
