//! Decides how a load travels: messages cast in one mould, which differ in id and moment alone, and answers that are told
//! without being opened. Never believed: who measures checks a sample of the receipts as any client does.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::pipe::Pipe;
use super::{Client, Trouble, timed, whole};
use crate::id::MessageId;
use crate::limits::CREDITS_MAX;
use crate::message::{Digest, Envelope};
use crate::receipt::Receipt;
use crate::time::Time;
use crate::wire::envelope::time_to_wire;
use crate::wire::exchange::receipts_of;
use crate::wire::pb::exchange as pb;
use crate::wire::receipt;
use pb::delivery::Content as Delivered;
use pb::outcome::Outcome as Said;
use pb::receive_request::Request as Up;
use pb::receive_response::Response as Down;

/// A message from which others are made: contents, salts and digests are the same in all.
pub struct Mould {
    envelope: Envelope,
    wire: pb::Envelope,
}

/// What one message has of its own.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub id: MessageId,
    pub at: Time,
}

impl Mould {
    /// A mould of this message.
    pub fn new(envelope: Envelope) -> Mould {
        Mould { wire: whole(&envelope), envelope }
    }

    fn cast(&self, stamp: Stamp) -> pb::Envelope {
        let mut wire = self.wire.clone();
        wire.message_id = stamp.id.to_string();
        wire.created_at = Some(time_to_wire(stamp.at));
        wire
    }

    fn submit(&self, stamp: Stamp) -> pb::SubmitRequest {
        pb::SubmitRequest { envelope: Some(self.cast(stamp)), ..Default::default() }
    }

    /// What the gateway computes of such a message.
    fn header_digest(&self, stamp: Stamp) -> Digest {
        Envelope { id: stamp.id, created_at: stamp.at.into(), ..self.envelope.clone() }.header_digest()
    }
}

impl Client {
    /// Submits one; its receipt, unchecked.
    pub async fn submit_cast(&self, mould: &Mould, stamp: Stamp) -> Result<Option<Receipt>, Trouble> {
        let answer = self.exchange().submit(timed(mould.submit(stamp))).await;
        Ok(self.answered(answer)?.receipt.and_then(receipt::from_wire))
    }

    /// Submits one and waits for the reply, unchecked.
    pub async fn request_cast(&self, mould: &Mould, stamp: Stamp, patience: Duration) -> Result<(), Trouble> {
        let mut request = Request::new(pb::RequestRequest { envelope: Some(mould.cast(stamp)) });
        request.set_timeout(patience);
        let answer = self.exchange().request(request).await;
        self.answered(answer).map(|_| ())
    }

    /// Opens the mailbox for so many deliveries, receipts among them where the system gets them.
    pub async fn tray(&self, credits: u32) -> Result<(Hand, Tray<'_>), Trouble> {
        let (up, steps) = mpsc::channel(4 * CREDITS_MAX as usize);
        let open = Up::Open(pb::OpenMailbox { credits: credits.min(CREDITS_MAX), receipts: true });
        // The channel is new: there is room.
        let _ = up.try_send(pb::ReceiveRequest { request: Some(open) });
        let down = self.exchange().receive(ReceiverStream::new(steps)).await;
        Ok((Hand { up }, Tray { client: self, down: self.answered(down)? }))
    }

    /// Checks as any client does that a receipt accepts this very message.
    pub fn accepts(&self, mould: &Mould, stamp: Stamp, receipt: Receipt) -> Result<(), Trouble> {
        self.accepted(Some(receipt), stamp.id, mould.header_digest(stamp)).map(|_| ())
    }
}

impl Pipe {
    /// As [`Pipe::send`].
    pub fn send_cast(&self, mould: &Mould, stamp: Stamp) -> bool {
        self.send_request(mould.submit(stamp))
    }

    /// Sends the reply to a message.
    pub fn send_reply(&self, mould: &Mould, stamp: Stamp, to: &str) -> bool {
        let mut submit = mould.submit(stamp);
        if let Some(envelope) = &mut submit.envelope {
            envelope.in_reply_to = to.to_owned();
        }
        self.send_request(submit)
    }
}

/// An open mailbox, as far as it brings something.
pub struct Tray<'a> {
    client: &'a Client,
    down: Streaming<pb::ReceiveResponse>,
}

/// The way up of an open mailbox.
pub struct Hand {
    up: mpsc::Sender<pb::ReceiveRequest>,
}

/// What lies in a tray, unchecked.
pub enum Laid {
    Message {
        delivery: String,
        id: String,
    },
    Receipts {
        delivery: String,
        receipts: Vec<Receipt>,
    },
    /// An outcome is durable.
    Settled {
        delivery: String,
    },
    Other,
}

impl Tray<'_> {
    /// What comes next; `None` when the gateway has closed the stream.
    pub async fn next(&mut self) -> Result<Option<Laid>, Trouble> {
        let response = self.down.message().await.map_err(|status| self.client.broken(&status))?;
        Ok(response.and_then(|response| response.response).map(|step| match step {
            Down::Delivery(pb::Delivery { delivery_id: delivery, content, .. }) => match content {
                Some(Delivered::Message(message)) => {
                    let id = message.envelope.map(|envelope| envelope.message_id).unwrap_or_default();
                    Laid::Message { delivery, id }
                }
                Some(Delivered::Receipts(batch)) => {
                    let receipts = receipts_of(batch).into_iter().filter_map(|(receipt, _)| receipt).collect();
                    Laid::Receipts { delivery, receipts }
                }
                None => Laid::Other,
            },
            Down::Settled(settled) => Laid::Settled { delivery: settled.delivery_id },
            Down::Withdrawn(_) | Down::Refused(_) => Laid::Other,
        }))
    }
}

impl Hand {
    /// Grants more deliveries.
    pub async fn grant(&self, count: u32) {
        self.say(Up::Credits(pb::GrantCredits { count })).await;
    }

    /// Takes what was delivered.
    pub async fn take(&self, delivery: String) {
        let outcome = Some(Said::Acknowledge(pb::Acknowledge::default()));
        self.say(Up::Outcome(pb::Outcome { delivery_id: delivery, outcome })).await;
    }

    async fn say(&self, step: Up) {
        // A stream that is gone is told by what comes next.
        let _ = self.up.send(pb::ReceiveRequest { request: Some(step) }).await;
    }
}

/// So many bytes that no compression makes fewer.
pub fn noise(chance: [u8; 32], size: usize) -> Bytes {
    let mut state = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|place| chance[place])) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_its_size_and_is_not_the_same_twice() {
        assert_eq!([0, 1, 7, 8, 1_024].map(|size| noise([3; 32], size).len()), [0, 1, 7, 8, 1_024]);
        assert_ne!(noise([3; 32], 64), noise([4; 32], 64));
    }
}
