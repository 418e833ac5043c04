//! Decides how a gateway's account of a message is read: every text cleaned for a terminal, every number that this build
//! does not know named as such. Never takes it for evidence: receipts are.

use serde_json::{Value, json};

use super::Trouble;
use crate::evidence::{Event, State};
use crate::marks::{self, Mark};
use crate::message::Mode;
pub use crate::message::plain;
use crate::time::{SentTime, Time};
use crate::wire::pb::exchange as pb;

/// A message as its gateway tells of it.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: String,
    pub from: String,
    /// As resolved by the gateway.
    pub to: String,
    pub item_code: String,
    pub case_no: String,
    pub step: String,
    pub mode: &'static str,
    pub in_reply_to: String,
    pub created_at: Option<Time>,
    pub expires_at: Option<Time>,
    pub state: State,
    pub in_doubt: bool,
    pub late: bool,
    pub parts: Vec<ToldPart>,
    /// Oldest first.
    pub history: Vec<ToldEvent>,
}

/// One part, without its content.
#[derive(Debug, Clone)]
pub struct ToldPart {
    pub name: String,
    pub media_type: String,
    pub size: u64,
}

/// One event of a message's history.
#[derive(Debug, Clone)]
pub struct ToldEvent {
    pub event: String,
    pub at: Option<Time>,
    pub issuer: String,
    pub receipt_id: String,
    pub reasons: Vec<String>,
    pub detail: String,
}

impl Told {
    /// Reads a gateway's answer.
    pub fn read(answer: pb::GetMessageResponse) -> Result<Told, Trouble> {
        let state = standing(answer.state)?;
        let envelope = answer.envelope.unwrap_or_default();
        let part =
            |part: pb::Part| ToldPart { name: plain(&part.name), media_type: plain(&part.media_type), size: part.size };
        Ok(Told {
            id: plain(&envelope.message_id),
            from: address(envelope.from),
            to: address(answer.recipient),
            item_code: plain(&envelope.item_code),
            case_no: plain(&envelope.case_no),
            step: plain(&envelope.step),
            mode: u8::try_from(envelope.mode).ok().and_then(Mode::from_number).map(mode_name).unwrap_or_default(),
            in_reply_to: plain(&envelope.in_reply_to),
            created_at: moment(envelope.created_at),
            expires_at: moment(answer.expires_at),
            state,
            in_doubt: answer.in_doubt,
            late: answer.late,
            parts: envelope.parts.into_iter().map(part).collect(),
            history: history(answer.history),
        })
    }

    /// The account as data.
    /// The fields of the header that look doubtful, and why.
    pub fn doubts(&self) -> Vec<(String, Mark)> {
        let names = self.parts.iter().map(|part| part.name.as_str());
        marks::of_header((&self.item_code, &self.step, &self.case_no), names)
    }

    pub fn json(&self) -> Value {
        let doubt = |(field, mark): (String, Mark)| json!({ "field": field, "mark": mark.as_str() });
        let part = |part: &ToldPart| json!({ "name": part.name, "media_type": part.media_type, "size": part.size });
        json!({
            "message_id": self.id,
            "from": self.from,
            "to": self.to,
            "item_code": self.item_code,
            "case_no": self.case_no,
            "step": self.step,
            "mode": self.mode,
            "in_reply_to": self.in_reply_to,
            "created_at": self.created_at.map(|at| at.to_string()),
            "expires_at": self.expires_at.map(|at| at.to_string()),
            "state": self.state.as_str(),
            "final": self.state.is_final(),
            "in_doubt": self.in_doubt,
            "late": self.late,
            "doubts": self.doubts().into_iter().map(doubt).collect::<Vec<_>>(),
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
            "history": self.history.iter().map(ToldEvent::json).collect::<Vec<_>>(),
        })
    }
}

/// A state by its number.
pub(super) fn standing(number: i32) -> Result<State, Trouble> {
    let unknown = || {
        let (en, zh) = (format!("state {number}"), format!("状态 {number}"));
        Trouble::unsound(format!("{en} is not known to this program"), format!("本程序不认识{zh}"))
    };
    u8::try_from(number).ok().and_then(State::from_number).ok_or_else(unknown)
}

impl ToldEvent {
    pub(super) fn read(entry: pb::HistoryEntry) -> ToldEvent {
        let event = u8::try_from(entry.event).ok().and_then(Event::from_number);
        ToldEvent {
            event: event.map_or_else(|| format!("EVENT {}", entry.event), |event| event.to_string()),
            at: moment(entry.time),
            issuer: plain(&entry.issuer),
            receipt_id: plain(&entry.receipt_id),
            reasons: entry.reasons.iter().map(|reason| plain(reason)).collect(),
            detail: plain(&entry.detail),
        }
    }

    /// The event as data.
    pub fn json(&self) -> Value {
        json!({ "event": self.event, "time": self.at.map(|at| at.to_string()), "issuer": self.issuer,
            "receipt_id": self.receipt_id, "reasons": self.reasons, "detail": self.detail })
    }
}

/// Events of one millisecond in the order of a message's life, which is that of their numbers.
fn history(mut entries: Vec<pb::HistoryEntry>) -> Vec<ToldEvent> {
    entries.sort_by_key(|entry| (moment(entry.time), entry.event));
    entries.into_iter().map(ToldEvent::read).collect()
}

pub(super) fn address(address: Option<pb::Address>) -> String {
    let address = address.unwrap_or_default();
    match address.system.as_str() {
        "" => plain(&address.city),
        system => plain(&format!("{}/{system}", address.city)),
    }
}

pub(super) fn moment(time: Option<prost_types::Timestamp>) -> Option<Time> {
    time.and_then(|time| SentTime::new(time.seconds, time.nanos)).map(SentTime::time)
}

/// A mode's name on the command line and in JSON.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Online => "online",
        Mode::Proxy => "proxy",
        Mode::Joint => "joint",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_never_reaches_the_terminal_raw() {
        assert_eq!(plain("桂B-2026（补）"), "桂B-2026（补）");
        assert_eq!(plain("a\u{1b}[2J\nb\u{202e}c\u{200b}"), "a?[2J?b?c?");
    }

    #[test]
    fn a_state_of_a_newer_gateway_is_no_guess() {
        let answer = pb::GetMessageResponse { state: 99, ..Default::default() };
        assert!(matches!(Told::read(answer), Err(Trouble::Unsound(words)) if words.en.contains("state 99")));
    }
}
