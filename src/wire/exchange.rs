//! Decides what stands in the steps of a submitting stream, on its way out and on its way in. Never sends one.

use super::envelope::{KeptError, join};
use super::pb::exchange as pb;
use super::receipt;
use super::status::{self, Answered};
use crate::receipt::Receipt;

/// A message on its way to a partner: the kept envelope and the origin's receipt.
///
/// # Errors
/// The kept envelope does not read back.
pub fn submission(header: &[u8], body: Vec<u8>, origin: Receipt) -> Result<pb::SubmitStreamRequest, KeptError> {
    let envelope = Some(join(header, Some(body))?);
    let submit = pb::SubmitRequest { envelope, origin_receipt: Some(receipt::to_wire(origin)), via: vec![] };
    Ok(pb::SubmitStreamRequest { request: Some(pb::submit_stream_request::Request::Submit(submit)) })
}

/// Receipts on their way back to the origin, with the text beside each.
pub fn receipts(batch_id: String, receipts: Vec<(Receipt, Option<String>)>) -> pb::SubmitStreamRequest {
    let details = (0..)
        .zip(&receipts)
        .filter_map(|(position, (_, text))| text.as_ref().map(|text| pb::Detail { position, text: text.clone() }));
    let details = details.collect();
    let receipts = receipts.into_iter().map(|(receipt, _)| receipt::to_wire(receipt)).collect();
    let batch = pb::ReceiptBatch { batch_id, receipts, details };
    pb::SubmitStreamRequest { request: Some(pb::submit_stream_request::Request::Receipts(batch)) }
}

/// An answer on a submitting stream.
#[derive(Debug)]
pub enum StreamAnswer {
    /// The message is durable there.
    Receipt { id: String, receipt: Receipt },
    /// The message or batch was refused, or not stored.
    Refused { id: String, answered: Box<Answered> },
    /// The batch is durable there; these positions were refused.
    ReceiptsTaken { id: String, refused: Vec<(u32, String)> },
    /// Something that this build cannot read.
    Unreadable { id: String },
}

/// Reads an answer.
pub fn answer(response: pb::SubmitStreamResponse) -> StreamAnswer {
    use pb::submit_stream_response::Response;
    let id = response.id;
    match response.response {
        Some(Response::Receipt(wire)) => match receipt::from_wire(wire) {
            Some(receipt) => StreamAnswer::Receipt { id, receipt },
            None => StreamAnswer::Unreadable { id },
        },
        Some(Response::Status(wire)) => StreamAnswer::Refused { id, answered: Box::new(status::from_wire(&wire)) },
        Some(Response::Receipts(taken)) => {
            let text = |r: pb::RefusedReceipt| (r.position, r.status.map_or(String::new(), |status| status.message));
            StreamAnswer::ReceiptsTaken { id, refused: taken.refused.into_iter().map(text).collect() }
        }
        None => StreamAnswer::Unreadable { id },
    }
}
