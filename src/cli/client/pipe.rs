//! Decides how many messages travel over one submitting stream. Never resends: what has no answer when the stream ends is
//! told as such.

use tokio::sync::mpsc;
use tonic::Streaming;

use super::{Client, Refused, Trouble, whole};
use crate::limits::WINDOW;
use crate::message::Envelope;
use crate::receipt::Receipt;
use crate::wire::exchange::{StreamAnswer, answer};
use crate::wire::pb::exchange as pb;

/// The way up.
pub struct Pipe {
    requests: mpsc::Sender<pb::SubmitStreamRequest>,
}

/// The way down.
pub struct Answers {
    stream: Streaming<pb::SubmitStreamResponse>,
}

impl Pipe {
    pub(super) fn new() -> (Pipe, mpsc::Receiver<pb::SubmitStreamRequest>) {
        let (requests, queue) = mpsc::channel(WINDOW);
        (Pipe { requests }, queue)
    }

    /// Waits until there is room for one more message; false when the stream has ended.
    pub async fn ready(&self) -> bool {
        self.requests.reserve().await.is_ok()
    }

    /// Sends a message, for which [`Pipe::ready`] has seen room; false when the stream has ended.
    pub fn send(&self, envelope: &Envelope) -> bool {
        self.send_request(pb::SubmitRequest { envelope: Some(whole(envelope)), origin_receipt: None, via: vec![] })
    }

    pub(super) fn send_request(&self, submit: pb::SubmitRequest) -> bool {
        let request = pb::submit_stream_request::Request::Submit(submit);
        self.requests.try_send(pb::SubmitStreamRequest { request: Some(request) }).is_ok()
    }
}

impl Answers {
    pub(super) fn new(stream: Streaming<pb::SubmitStreamResponse>) -> Answers {
        Answers { stream }
    }

    /// The next answer, with the id of its message; `None` when the gateway has answered all.
    pub async fn next(&mut self, client: &Client) -> Result<Option<(String, Result<Receipt, Refused>)>, Trouble> {
        let Some(response) = self.stream.message().await.map_err(|status| client.broken(&status))? else {
            return Ok(None);
        };
        match answer(response) {
            StreamAnswer::Receipt { id, receipt } => Ok(Some((id.id, Ok(receipt)))),
            StreamAnswer::Refused { id, answered } => Ok(Some((id.id, Err(client.refused(*answered))))),
            StreamAnswer::ReceiptsTaken { .. } | StreamAnswer::Unreadable { .. } => {
                Err(Trouble::unsound("an answer on the stream does not read", "流中有一项应答不可读"))
            }
        }
    }
}
