//! Decides what stands in the steps of a submitting stream, on its way out and on its way in. Never sends one.

use super::envelope::{Fault, Faults, KeptError, join, parse, time_to_wire};
use super::pb::exchange as pb;
use super::receipt;
use super::status::{self, Answered, Refused};
use crate::limits::DETAIL_BYTES_MAX;
use crate::message::{Envelope, visible};
use crate::party::Member;
use crate::receipt::Receipt;
use crate::time::Time;

/// A message on its way to a partner: the kept envelope and the origin's receipt.
///
/// # Errors
/// The kept envelope does not read back.
pub fn submission(
    header: &[u8],
    body: Vec<u8>,
    origin: Receipt,
    via: &[Member],
) -> Result<pb::SubmitStreamRequest, KeptError> {
    let envelope = Some(join(header, Some(body))?);
    let via = via.iter().map(Member::to_string).collect();
    let submit = pb::SubmitRequest { envelope, origin_receipt: Some(receipt::to_wire(origin)), via };
    Ok(pb::SubmitStreamRequest { request: Some(pb::submit_stream_request::Request::Submit(submit)) })
}

/// Receipts on their way back to the origin, with the text beside each.
pub fn receipts(batch_id: String, receipts: Vec<(Receipt, Option<String>)>) -> pb::SubmitStreamRequest {
    let batch = batch(batch_id, receipts);
    pb::SubmitStreamRequest { request: Some(pb::submit_stream_request::Request::Receipts(batch)) }
}

/// A batch of receipts, with the text beside each.
pub fn batch(batch_id: String, receipts: Vec<(Receipt, Option<String>)>) -> pb::ReceiptBatch {
    let details = (0..)
        .zip(&receipts)
        .filter_map(|(position, (_, text))| text.as_ref().map(|text| pb::Detail { position, text: text.clone() }));
    let details = details.collect();
    let receipts = receipts.into_iter().map(|(receipt, _)| receipt::to_wire(receipt)).collect();
    pb::ReceiptBatch { batch_id, receipts, details }
}

/// How an answer names what it answers.
#[derive(Debug)]
pub struct Named {
    pub id: String,
    /// The sending city of an answered message; empty from those that do not say it.
    pub from_city: String,
}

/// An answer on a submitting stream.
#[derive(Debug)]
pub enum StreamAnswer {
    /// The message is durable there.
    Receipt { id: Named, receipt: Receipt },
    /// The message or batch was refused, or not stored.
    Refused { id: Named, answered: Box<Answered> },
    /// The batch is durable there; these positions were refused.
    ReceiptsTaken { id: Named, refused: Vec<(u32, String)> },
    /// Something that this build cannot read.
    Unreadable { id: Named },
}

/// Reads an answer.
pub fn answer(response: pb::SubmitStreamResponse) -> StreamAnswer {
    use pb::submit_stream_response::Response;
    let id = Named { id: response.id, from_city: response.from_city };
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

/// What a partner gives a gateway that fetches.
#[derive(Debug)]
pub enum Arrival {
    /// A message, or the fields that are at fault.
    Message { delivery_id: String, fetched: Result<Box<Fetched>, Vec<Fault>> },
    /// Receipts of our own messages; those that cannot be read are none.
    Receipts { delivery_id: String, receipts: Vec<(Option<Receipt>, Option<String>)> },
    /// Nothing to be done about it.
    Other,
}

/// A message that was fetched.
#[derive(Debug)]
pub struct Fetched {
    pub envelope: Envelope,
    pub origin: Option<Receipt>,
    pub via: Vec<Member>,
}

/// Reads one step down a receiving stream.
pub fn arrival(response: pb::ReceiveResponse) -> Arrival {
    use pb::delivery::Content;
    use pb::receive_response::Response;
    let Some(Response::Delivery(delivery)) = response.response else { return Arrival::Other };
    let delivery_id = delivery.delivery_id;
    match delivery.content {
        Some(Content::Message(message)) => Arrival::Message { delivery_id, fetched: fetched(message).map(Box::new) },
        Some(Content::Receipts(batch)) => Arrival::Receipts { delivery_id, receipts: receipts_of(batch) },
        None => Arrival::Other,
    }
}

fn fetched(message: pb::Message) -> Result<Fetched, Vec<Fault>> {
    let envelope = parse(message.envelope.unwrap_or_default())?;
    let via = via(&message.via)?;
    Ok(Fetched { envelope, origin: message.origin_receipt.and_then(receipt::from_wire), via })
}

/// The hubs on the way, as a gateway names them.
///
/// # Errors
/// A name that is no member's.
pub fn via(names: &[String]) -> Result<Vec<Member>, Vec<Fault>> {
    let mut faults = Faults::default();
    let via: Vec<_> = names.iter().filter_map(|name| faults.need("via", name)).collect();
    faults.or(Some(via))
}

/// The receipts of a batch, each with the text beside it; one that cannot be read is none.
pub fn receipts_of(batch: pb::ReceiptBatch) -> Vec<(Option<Receipt>, Option<String>)> {
    let details = batch.details;
    let text = |position: usize| {
        let detail = details.iter().find(|detail| detail.position as usize == position);
        let text = detail.map(|detail| detail.text.clone());
        text.filter(|text| text.len() <= DETAIL_BYTES_MAX && visible(text))
    };
    batch.receipts.into_iter().enumerate().map(|(place, wire)| (receipt::from_wire(wire), text(place))).collect()
}

/// Opens the caller's mailbox, receipts and all.
pub fn open_mailbox(credits: u32) -> pb::ReceiveRequest {
    up(pb::receive_request::Request::Open(pb::OpenMailbox { credits, receipts: true }))
}

/// Grants one more delivery.
pub fn one_more() -> pb::ReceiveRequest {
    up(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 }))
}

/// Asks for more time.
pub fn extend(delivery_id: &str, until: Time) -> pb::ReceiveRequest {
    let extend = pb::ExtendLease { delivery_id: delivery_id.to_owned(), until: Some(time_to_wire(until)) };
    up(pb::receive_request::Request::Extend(extend))
}

/// What a gateway that fetches says of a delivery.
#[derive(Debug)]
pub enum Said {
    Taken(Receipt),
    Refused { code: String, text: String, receipt: Option<Receipt> },
    Later { at: Time },
    ReceiptsTaken { refused: Vec<(u32, Refused)> },
}

/// The outcome of a delivery.
pub fn outcome(delivery_id: String, said: Said) -> pb::ReceiveRequest {
    use pb::outcome::Outcome;
    let outcome = match said {
        Said::Taken(receipt) => {
            Outcome::Acknowledge(pb::Acknowledge { receipt: Some(receipt::to_wire(receipt)), ..Default::default() })
        }
        Said::Refused { code, text, receipt } => {
            Outcome::Refuse(pb::Refuse { code, text, receipt: receipt.map(receipt::to_wire) })
        }
        Said::Later { at } => Outcome::RetryLater(pb::RetryLater { not_before: Some(time_to_wire(at)) }),
        Said::ReceiptsTaken { refused } => {
            Outcome::Acknowledge(pb::Acknowledge { refused: refused_receipts(refused), ..Default::default() })
        }
    };
    up(pb::receive_request::Request::Outcome(pb::Outcome { delivery_id, outcome: Some(outcome) }))
}

/// Receipts that were refused, by position.
pub fn refused_receipts(refused: Vec<(u32, Refused)>) -> Vec<pb::RefusedReceipt> {
    let one = |(position, why): (u32, Refused)| pb::RefusedReceipt { position, status: Some(status::to_wire(&why)) };
    refused.into_iter().map(one).collect()
}

fn up(request: pb::receive_request::Request) -> pb::ReceiveRequest {
    pb::ReceiveRequest { request: Some(request) }
}
