//! Decides how a receipt reads as JSON, for people and scripts. Never proves anything: the leaf and its proof do.

use serde_json::{Map, Value, json};

use crate::cli::client::mode_name;
use crate::evidence::Evidence;
use crate::receipt::Checked;
use crate::time::Time;

/// A checked receipt: what it says, and where it stands in which log.
pub fn receipt(checked: &Checked) -> Value {
    let Checked { evidence, receipt, log_origin, tree_size } = checked;
    let mut all = Map::new();
    all.insert("note".to_owned(), "a rendering; only the .leaf and the .tlog-proof prove anything".into());
    let place = json!({ "log": log_origin, "index": receipt.proof.index, "tree_size": tree_size,
        "leaf_hash": receipt.leaf_hash().to_string() });
    for value in [self::evidence(evidence), place] {
        if let Value::Object(fields) = value {
            all.extend(fields);
        }
    }
    Value::Object(all)
}

/// What a leaf says; fields without value are left out, and zero is none, as in the leaf.
pub fn evidence(evidence: &Evidence) -> Value {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let time = |time: Option<Time>| time.map(|time| time.to_string());
    let codes: Vec<&str> = evidence.reasons.iter().map(|code| code.as_str()).collect();
    let instants = &evidence.instants;
    let witnessed = evidence.witnessed.as_ref().map(|witnessed| {
        json!({ "leaf_hash": witnessed.leaf_hash.to_string(), "issuer": witnessed.issuer.to_string(),
            "log": witnessed.log_origin })
    });
    let mut value = json!({
        "receipt_id": evidence.id.to_string(),
        "event": evidence.event.as_str(),
        "reasons": codes,
        "token": text(evidence.token.as_ref().map(|token| token.as_str())),
        "time": evidence.at.to_string(),
        "clock_uncertainty_ms": evidence.clock_uncertainty_ms,
        "issuer": evidence.issuer.to_string(),
        "key_id": format!("{:08x}", evidence.key_id),
        "agreement": evidence.agreement,
        "table_version": evidence.table_version,
        "from": evidence.from.to_string(),
        "to": evidence.to.as_ref().map(ToString::to_string),
        "message_id": evidence.message_id.to_string(),
        "in_reply_to": evidence.in_reply_to.map(|id| id.to_string()),
        "case_no": text(evidence.case_no.as_ref().map(|case| case.as_str())),
        "item_code": text(evidence.item_code.as_ref().map(|item| item.as_str())),
        "step": text(evidence.step.as_ref().map(|step| step.as_str())),
        "mode": evidence.mode.map(mode_name),
        "header_digest": evidence.header_digest.to_string(),
        "parts": evidence.parts,
        "total_size": evidence.total_size,
        "submitted_at": time(instants.submitted),
        "accepted_at": time(instants.accepted),
        "relayed_at": time(instants.relayed),
        "consigned_at": time(instants.consigned),
        "acknowledged_at": time(instants.acknowledged),
        "expires_at": time(evidence.expires_at),
        "attempts": evidence.attempts,
        "next_attempt_at": time(evidence.next_attempt_at),
        "last_status": evidence.last_status,
        "asserted_by": evidence.asserted_by.map(|by| by.as_str()),
        "previous": evidence.previous.map(|hash| hash.to_string()),
        "witnessed": witnessed,
    });
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null() && *value != json!([]) && *value != json!(0));
    }
    value
}
