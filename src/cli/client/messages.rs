//! Decides how a system's own messages are withdrawn, listed, followed and asked for a reply, and when such an answer holds.
//! Never takes a list or a history for evidence: receipts are.

use std::time::Duration;

use tonic::{Request, Streaming};

use super::inbox::{Delivered, opened};
use super::told::{ToldEvent, address, moment, plain, standing};
use super::{Client, Trouble, timed, whole};
use crate::evidence::{Event, State};
use crate::id::MessageId;
use crate::message::Envelope;
use crate::party::Division;
use crate::receipt::Checked;
use crate::time::Time;
use crate::wire::envelope::time_to_wire;
use crate::wire::pb::exchange as pb;
use crate::wire::receipt;

/// Which messages to list; what is unset matches all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub states: Vec<State>,
    pub from: Option<Division>,
    pub to: Option<Division>,
    pub item_code: String,
    pub case_no: String,
    pub since: Option<Time>,
}

/// One message in a list.
#[derive(Debug, Clone)]
pub struct Summary {
    pub id: String,
    pub from: String,
    pub to: String,
    pub item_code: String,
    pub case_no: String,
    pub step: String,
    pub state: State,
    pub in_doubt: bool,
    pub late: bool,
    pub stored_at: Option<Time>,
    pub expires_at: Option<Time>,
    pub parts: u32,
    pub total_size: u64,
}

/// A request and what came back for it.
pub struct Replied {
    pub accepted: Checked,
    pub reply: Delivered,
    /// The gateway's word that the reply was handed over.
    pub handed_over: Checked,
}

/// The history of a message as it grows.
pub struct Watch<'a> {
    client: &'a Client,
    stream: Streaming<pb::WatchMessageResponse>,
}

impl Client {
    /// Withdraws a message: the checked receipt that says so.
    pub async fn cancel(&self, id: MessageId) -> Result<Checked, Trouble> {
        let request = pb::CancelMessageRequest { message_id: id.to_string() };
        let answer = self.exchange().cancel_message(timed(request)).await;
        let checked = self.own_receipt(self.answered(answer)?.receipt.and_then(receipt::from_wire))?;
        let evidence = &checked.evidence;
        if evidence.event == Event::Cancelled && evidence.message_id == id && evidence.from == self.me {
            return Ok(checked);
        }
        Err(Trouble::unsound("the receipt does not say that this message is withdrawn", "回执未说明该消息已撤回"))
    }

    /// A page of messages, newest first, and the token of the next; empty when there is none.
    pub async fn list(&self, filter: &Filter, count: u32, token: String) -> Result<(Vec<Summary>, String), Trouble> {
        let city = |city: &Option<Division>| city.as_ref().map(|city| city.as_str().to_owned()).unwrap_or_default();
        let filter = pb::MessageFilter {
            states: filter.states.iter().map(|state| *state as i32).collect(),
            from_city: city(&filter.from),
            to_city: city(&filter.to),
            item_code: filter.item_code.clone(),
            case_no: filter.case_no.clone(),
            stored_from: filter.since.map(time_to_wire),
            stored_before: None,
        };
        let request = pb::ListMessagesRequest { filter: Some(filter), page_size: count, page_token: token };
        let answer = self.exchange().list_messages(timed(request)).await;
        let page = self.answered(answer)?;
        let messages = page.messages.into_iter().map(summary).collect::<Result<_, _>>()?;
        Ok((messages, page.next_page_token))
    }

    /// The history of a message from the entry after `after` on.
    pub async fn watch(&self, from: Option<&Division>, id: MessageId, after: &str) -> Result<Watch<'_>, Trouble> {
        let from_city = from.map(|city| city.as_str().to_owned()).unwrap_or_default();
        let request = pb::WatchMessageRequest { from_city, message_id: id.to_string(), after: after.to_owned() };
        let answer = self.exchange().watch_message(request).await;
        Ok(Watch { client: self, stream: self.answered(answer)? })
    }

    /// Submits a message and waits for its reply, `patience` at most.
    pub async fn request(&self, envelope: &Envelope, patience: Duration) -> Result<Replied, Trouble> {
        let mut request = Request::new(pb::RequestRequest { envelope: Some(whole(envelope)) });
        request.set_timeout(patience);
        let answer = self.exchange().request(request).await;
        let answer = self.answered(answer)?;
        let accepted = answer.receipt.and_then(receipt::from_wire);
        let accepted = self.accepted(accepted, envelope.id, envelope.header_digest())?;
        let (reply, origin) = opened(self, answer.reply.unwrap_or_default())?;
        let handed_over = self.own_receipt(answer.reply_receipt.and_then(receipt::from_wire))?;
        let meant = handed_over.evidence.event == Event::HandedOver
            && handed_over.evidence.message_id == reply.id
            && reply.in_reply_to == Some(envelope.id);
        if !meant {
            return Err(Trouble::unsound(
                "the reply or its receipt speaks of another message",
                "回复或其回执属于另一消息",
            ));
        }
        let reply = Delivered { delivery: String::new(), count: 1, envelope: reply, origin };
        Ok(Replied { accepted, reply, handed_over })
    }
}

impl Watch<'_> {
    /// The next entry, and where the message stands after it; `None` when there is no more to tell.
    pub async fn next(&mut self) -> Result<Option<(ToldEvent, State)>, Trouble> {
        let told = self.stream.message().await.map_err(|status| self.client.broken(&status))?;
        let Some(told) = told else { return Ok(None) };
        let state = standing(told.state)?;
        Ok(Some((ToldEvent::read(told.entry.unwrap_or_default()), state)))
    }
}

fn summary(wire: pb::MessageSummary) -> Result<Summary, Trouble> {
    Ok(Summary {
        id: plain(&wire.message_id),
        from: address(wire.from),
        to: address(wire.to),
        item_code: plain(&wire.item_code),
        case_no: plain(&wire.case_no),
        step: plain(&wire.step),
        state: standing(wire.state)?,
        in_doubt: wire.in_doubt,
        late: wire.late,
        stored_at: moment(wire.stored_at),
        expires_at: moment(wire.expires_at),
        parts: wire.parts,
        total_size: wire.total_size,
    })
}
