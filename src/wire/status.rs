//! Decides how a refusal is told: one gRPC status with typed details (google.rpc: ErrorInfo, BadRequest, RetryInfo,
//! LocalizedMessage, and the receipt where a leaf was written), and how a partner's is read. Never decides to refuse.

use prost::Message as _;
use prost_types::Any;
use tonic::metadata::MetadataValue;
use tonic_types::pb as rpc;

use super::envelope::Fault;
use super::{pb, receipt};
use crate::limits::{RETRY_AFTER_MS, STATUS_DETAILS_BYTES_MAX, STATUS_TEXT_BYTES_MAX};
use crate::reason::{Reason, Retry};
use crate::receipt::Receipt;

/// A refusal, before it has a form.
#[derive(Debug, Clone)]
pub struct Refused {
    pub reason: Reason,
    /// What exactly, for developers; may be empty.
    pub detail: String,
    pub faults: Vec<Fault>,
    pub receipt: Option<Receipt>,
    /// Milliseconds after which the same request may come again; only for reasons that allow it.
    pub retry_after_ms: u64,
}

impl Refused {
    /// A refusal that says no more than its reason.
    pub fn new(reason: Reason) -> Refused {
        let retry_after_ms = if reason.retry() == Retry::Later { RETRY_AFTER_MS } else { 0 };
        Refused { reason, detail: String::new(), faults: vec![], receipt: None, retry_after_ms }
    }

    /// The same with a word on what exactly.
    pub fn with_detail(self, detail: impl Into<String>) -> Refused {
        Refused { detail: detail.into(), ..self }
    }

    /// Faults of a request's fields.
    pub fn faults(faults: Vec<Fault>) -> Refused {
        Refused { faults, ..Refused::new(Reason::InvalidEnvelope) }
    }
}

/// The domain of our reasons in `ErrorInfo`.
pub const DOMAIN: &str = "tongban";

/// The refusal as `google.rpc.Status`, as it stands inside a stream.
pub fn to_wire(refused: &Refused) -> rpc::Status {
    let reason = refused.reason;
    let mut details = vec![any(
        "google.rpc.ErrorInfo",
        &rpc::ErrorInfo { reason: reason.code().to_owned(), domain: DOMAIN.to_owned(), metadata: Default::default() },
    )];
    if !refused.faults.is_empty() {
        let violation = |fault: &Fault| rpc::bad_request::FieldViolation {
            field: fault.field.clone(),
            description: fault.must.clone(),
            ..Default::default()
        };
        let field_violations = refused.faults.iter().map(violation).collect();
        details.push(any("google.rpc.BadRequest", &rpc::BadRequest { field_violations }));
    }
    if refused.retry_after_ms > 0 {
        let delay = prost_types::Duration {
            seconds: (refused.retry_after_ms / 1000) as i64,
            nanos: (refused.retry_after_ms % 1000) as i32 * 1_000_000,
        };
        details.push(any("google.rpc.RetryInfo", &rpc::RetryInfo { retry_delay: Some(delay) }));
    }
    for (locale, what, hint) in [("zh-CN", reason.zh(), reason.hint_zh()), ("en", reason.en(), reason.hint_en())] {
        let message = format!("{what}{}{hint}", if locale == "en" { "; " } else { "；" });
        details.push(any("google.rpc.LocalizedMessage", &rpc::LocalizedMessage { locale: locale.to_owned(), message }));
    }
    if let Some(receipt) = &refused.receipt {
        details.push(any("tongban.evidence.v1.Receipt", &receipt::to_wire(receipt.clone())));
    }
    rpc::Status { code: reason.answer() as i32, message: text(refused), details }
}

fn text(refused: &Refused) -> String {
    let mut text = refused.reason.en().to_owned();
    if !refused.detail.is_empty() {
        text += &format!(": {}", refused.detail);
    }
    for fault in &refused.faults {
        text += &format!("; {} {}", fault.field, fault.must);
    }
    // Headers carry it: a long list of faults stands whole in the details.
    if text.len() > STATUS_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(STATUS_TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

fn any(name: &str, message: &impl prost::Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// The refusal as the end of a call.
pub fn to_status(refused: &Refused) -> tonic::Status {
    let mut wire = to_wire(refused);
    // Trailers are bounded by the client's header limit: many faults are cut there, never silently.
    cut_faults(&mut wire);
    let code = tonic::Code::from_i32(wire.code);
    let mut status = tonic::Status::with_details(code, wire.message.clone(), wire.encode_to_vec().into());
    if refused.retry_after_ms > 0
        && let Ok(value) = MetadataValue::try_from(refused.retry_after_ms.to_string())
    {
        status.metadata_mut().insert("grpc-retry-pushback-ms", value);
    }
    status
}

fn cut_faults(status: &mut rpc::Status) {
    while status.encoded_len() > STATUS_DETAILS_BYTES_MAX {
        let Some(detail) = status.details.iter_mut().find(|any| any.type_url.ends_with("/google.rpc.BadRequest"))
        else {
            return;
        };
        let Ok(mut faults) = rpc::BadRequest::decode(detail.value.as_slice()) else { return };
        let kept = faults.field_violations.len() * 3 / 4;
        let more = faults.field_violations.len() - kept;
        if kept == 0 {
            return;
        }
        faults.field_violations.truncate(kept);
        faults.field_violations.push(rpc::bad_request::FieldViolation {
            field: "…".to_owned(),
            description: format!("and at least {more} more"),
            ..Default::default()
        });
        detail.value = faults.encode_to_vec();
    }
}

/// What tonic says, in its own words, of a request that it could not read; none when the status says something else.
pub fn unreadable(status: &tonic::Status) -> Option<Refused> {
    match status.code() {
        tonic::Code::OutOfRange => Some(Refused::new(Reason::MessageTooLarge).with_detail(status.message())),
        tonic::Code::Internal => Some(Refused::new(Reason::InvalidEnvelope).with_detail(status.message())),
        _ => None,
    }
}

/// A status that a partner or a server answered with, as far as it can be read.
#[derive(Debug, Clone)]
pub struct Answered {
    pub code: tonic::Code,
    pub text: String,
    /// The reason of `ErrorInfo`, if it is of our domain.
    pub reason: Option<String>,
    pub faults: Vec<Fault>,
    pub retry_after_ms: Option<u64>,
    /// The text for people in this locale's language: (locale, text).
    pub localized: Vec<(String, String)>,
    /// The receipt beside a refusal, unchecked.
    pub receipt: Option<Receipt>,
}

/// Reads a status from inside a stream.
pub fn from_wire(status: &rpc::Status) -> Answered {
    let mut answered = Answered {
        code: tonic::Code::from_i32(status.code),
        text: status.message.clone(),
        reason: None,
        faults: vec![],
        retry_after_ms: None,
        localized: vec![],
        receipt: None,
    };
    for detail in &status.details {
        read_detail(&mut answered, detail);
    }
    answered
}

fn read_detail(answered: &mut Answered, detail: &Any) {
    let value = detail.value.as_slice();
    match detail.type_url.rsplit('/').next().unwrap_or_default() {
        "google.rpc.ErrorInfo" => {
            let info = rpc::ErrorInfo::decode(value).ok().filter(|info| info.domain == DOMAIN);
            answered.reason = info.map(|info| info.reason).or(answered.reason.take());
        }
        "google.rpc.BadRequest" => {
            let faults = rpc::BadRequest::decode(value).unwrap_or_default().field_violations;
            answered.faults.extend(faults.into_iter().map(|v| Fault { field: v.field, must: v.description }));
        }
        "google.rpc.RetryInfo" => {
            let delay = rpc::RetryInfo::decode(value).ok().and_then(|info| info.retry_delay);
            answered.retry_after_ms =
                delay.map(|d| (d.seconds.max(0) as u64).saturating_mul(1000) + (d.nanos.max(0) / 1_000_000) as u64);
        }
        "google.rpc.LocalizedMessage" => {
            let message = rpc::LocalizedMessage::decode(value).unwrap_or_default();
            answered.localized.push((message.locale, message.message));
        }
        "tongban.evidence.v1.Receipt" => {
            answered.receipt = pb::evidence::Receipt::decode(value).ok().and_then(receipt::from_wire);
        }
        _ => {}
    }
}

/// Reads the end of a call.
pub fn from_status(status: &tonic::Status) -> Answered {
    let wire = rpc::Status::decode(status.details()).unwrap_or_default();
    Answered { code: status.code(), text: status.message().to_owned(), ..from_wire(&wire) }
}
