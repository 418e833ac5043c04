//! Decides how a received message is shown: a few lines for people, one line of JSON for scripts. Never shows a body.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::client::{Delivered, mode_name};
use super::super::{Failure, Out};
use crate::id::MessageId;
use crate::message::{Envelope, Part};
use crate::receipt::Checked;

/// A received message, ready to be shown when its outcome is known.
pub struct Shown {
    pub id: MessageId,
    /// What became of it: `acknowledged`, `refused` or `later`.
    pub outcome: Option<&'static str>,
    value: Value,
    lines: Vec<String>,
    kept: Option<PathBuf>,
}

impl Shown {
    pub fn new(delivered: &Delivered, kept: Option<PathBuf>) -> Shown {
        let envelope = &delivered.envelope;
        let mut value = json(envelope);
        value["delivery_count"] = delivered.count.into();
        value["origin_receipt_id"] = delivered.origin.evidence.id.to_string().into();
        value["accepted_at"] = delivered.origin.evidence.at.to_string().into();
        value["kept"] = json!(kept);
        Shown { id: envelope.id, outcome: None, value, lines: lines(envelope), kept }
    }

    /// The message with what became of it, as data.
    pub fn json(&self, receipt: Option<&Checked>) -> Value {
        let said = |receipt: &Checked| json!({ "event": receipt.evidence.event.as_str(), "receipt_id": receipt.evidence.id.to_string() });
        let mut value = self.value.clone();
        value["outcome"] = json!(self.outcome);
        value["receipt"] = json!(receipt.map(said));
        value
    }

    /// Prints the message with what became of it.
    pub fn print(self, receipt: Option<&Checked>, out: &Out) -> Result<(), Failure> {
        if out.json() {
            return Ok(out.print(&format!("{}\n", self.json(receipt)))?);
        }
        let Shown { outcome, mut lines, kept, .. } = self;
        let receipt = receipt.map(|receipt| (receipt.evidence.event, receipt.evidence.id.to_string()));
        if let Some(kept) = kept {
            lines.push(format!("  {}: {}", out.lang.tr("kept in", "保存于"), kept.display()));
        }
        if let Some(outcome) = outcome {
            let zh = match outcome {
                "acknowledged" => "已确认接收",
                "refused" => "已拒收",
                _ => "稍后再收",
            };
            let receipt = receipt.map(|(event, id)| format!("  {event} {id}")).unwrap_or_default();
            lines.push(format!("  {}{receipt}", out.lang.tr(outcome, zh)));
        }
        Ok(out.print(&format!("{}\n", lines.join("\n")))?)
    }
}

fn lines(envelope: &Envelope) -> Vec<String> {
    let mut first = format!("{}  {}  {}", envelope.id, envelope.from, envelope.item_code.as_str());
    for (name, value) in [
        ("case", envelope.case_no.as_ref().map(|case| case.as_str())),
        ("step", envelope.step.as_ref().map(|step| step.as_str())),
        ("mode", envelope.mode.map(mode_name)),
    ] {
        first += &value.map(|value| format!("  {name}={value}")).unwrap_or_default();
    }
    first += &envelope.in_reply_to.map(|id| format!("  in_reply_to={id}")).unwrap_or_default();
    let part = |part: &Part| format!("  {}  {}  {} B", part.name.as_str(), part.media_type.as_str(), part.size);
    std::iter::once(first).chain(envelope.parts.iter().map(part)).collect()
}

fn json(envelope: &Envelope) -> Value {
    let part = |part: &Part| {
        json!({ "name": part.name.as_str(), "media_type": part.media_type.as_str(), "size": part.size,
            "digest": part.digest.to_string() })
    };
    json!({
        "message_id": envelope.id.to_string(),
        "from": envelope.from.to_string(),
        "to": envelope.to.as_ref().map(ToString::to_string),
        "item_code": envelope.item_code.as_str(),
        "case_no": envelope.case_no.as_ref().map(|case| case.as_str()),
        "step": envelope.step.as_ref().map(|step| step.as_str()),
        "mode": envelope.mode.map(mode_name),
        "jurisdiction": envelope.jurisdiction.as_ref().map(|division| division.as_str()),
        "in_reply_to": envelope.in_reply_to.map(|id| id.to_string()),
        "attributes": envelope.attributes,
        "traceparent": envelope.traceparent,
        "parts": envelope.parts.iter().map(part).collect::<Vec<_>>(),
        "created_at": envelope.created_at.time().to_string(),
        "header_digest": envelope.header_digest().to_string(),
    })
}
