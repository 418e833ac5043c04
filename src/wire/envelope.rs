//! Decides whether an envelope from the wire is one, naming every faulty field at once, and how one is kept and handed
//! on. Never looks at a clock: whether its times are good is for admission.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use prost::Message as _;

use super::pb::exchange as pb;
use crate::limits::{
    ATTACHMENT_BYTES_MAX, ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, INLINE_BYTES_MAX,
    PARTS_MAX, SALT_BYTES, SEALED_ATTACHMENT_BYTES_MAX, SEALED_BYTES_MAX, TRACEPARENT_BYTES_MAX,
};
use crate::message::{
    Address, Attached, Content, Digest, Envelope, ItemCode, Mode, Part, Sealed, Step, part_digest, trace_id, visible,
};
use crate::party::Division;
use crate::time::{SentTime, Time};

/// One faulty field of a request: its path, e.g. `envelope.parts[3].name`, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub must: String,
}

/// Collects faults while fields are parsed, so that the caller learns all of them at once. A field's path is written out only
/// when it is at fault.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub fn add(&mut self, field: impl Into<String>, must: impl Display) {
        self.0.push(Fault { field: field.into(), must: must.to_string() });
    }

    /// Parses an obligatory text.
    pub fn need<T: FromStr<Err: Display>>(&mut self, field: impl Display, text: &str) -> Option<T> {
        if text.is_empty() {
            self.add(field.to_string(), "is obligatory");
            return None;
        }
        self.parse(field, text)
    }

    /// Parses a text that may be absent.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, field: impl Display, text: &str) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        text.parse().map_err(|error| self.add(field.to_string(), error)).ok()
    }

    /// Whether nothing was at fault so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, unless something was at fault.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// Reads an envelope from the wire.
///
/// # Errors
/// Every faulty field.
pub fn parse(wire: pb::Envelope) -> Result<Envelope, Vec<Fault>> {
    let mut faults = Faults::default();
    let id = faults.need("envelope.message_id", &wire.message_id);
    let from = address(&mut faults, "envelope.from", wire.from.unwrap_or_default());
    let named = wire.to.filter(|to| !(to.city.is_empty() && to.system.is_empty()));
    let to = named.and_then(|to| address(&mut faults, "envelope.to", to));
    let jurisdiction = faults.parse("envelope.jurisdiction", &wire.jurisdiction);
    let redrive_of = faults.parse("envelope.redrive_of", &wire.redrive_of);
    let item_code = faults.need("envelope.item_code", &wire.item_code);
    let case_no = faults.parse("envelope.case_no", &wire.case_no);
    let step = faults.parse("envelope.step", &wire.step);
    let mode = mode(&mut faults, wire.mode);
    let in_reply_to = faults.parse("envelope.in_reply_to", &wire.in_reply_to);
    let sealed = wire.sealed.and_then(|sealed| self::sealed(&mut faults, sealed));
    if sealed.is_some() && !wire.parts.is_empty() {
        faults.add("envelope.parts", "must be empty beside sealed parts");
    }
    let parts = parts(&mut faults, "envelope.parts", wire.parts);
    let attributes = attributes(&mut faults, wire.attributes.into_iter().collect());
    if wire.created_at.is_none() {
        faults.add("envelope.created_at", "is obligatory");
    }
    let created_at = sent(&mut faults, "envelope.created_at", wire.created_at);
    let expires_at = sent(&mut faults, "envelope.expires_at", wire.expires_at);
    let traceparent = Some(wire.traceparent).filter(|text| !text.is_empty());
    if traceparent.as_ref().is_some_and(|text| text.len() > TRACEPARENT_BYTES_MAX || !visible(text)) {
        faults.add("envelope.traceparent", format!("must be at most {TRACEPARENT_BYTES_MAX} visible bytes"));
    }
    let (Some(id), Some(from), Some(item_code), Some(created_at)) = (id, from, item_code, created_at) else {
        return faults.or(None);
    };
    faults.or(Some(Envelope {
        id,
        from,
        to,
        jurisdiction,
        redrive_of,
        item_code,
        case_no,
        step,
        mode,
        in_reply_to,
        parts,
        sealed,
        attributes,
        created_at,
        expires_at,
        traceparent,
    }))
}

/// Parses a recipient or a sender; its fields are named after `field`.
pub fn address(faults: &mut Faults, field: impl Display, wire: pb::Address) -> Option<Address> {
    let city = faults.need(format_args!("{field}.city"), &wire.city);
    let system = faults.parse(format_args!("{field}.system"), &wire.system);
    Some(Address { city: city?, system })
}

fn mode(faults: &mut Faults, number: i32) -> Option<Mode> {
    match pb::Mode::try_from(number) {
        Ok(pb::Mode::Unspecified) => None,
        Ok(pb::Mode::Online) => Some(Mode::Online),
        Ok(pb::Mode::Proxy) => Some(Mode::Proxy),
        Ok(pb::Mode::Joint) => Some(Mode::Joint),
        Err(_) => {
            faults.add("envelope.mode", "must be a known value of Mode");
            None
        }
    }
}

/// Reads a moment as it was sent.
pub fn sent(faults: &mut Faults, field: &str, wire: Option<prost_types::Timestamp>) -> Option<SentTime> {
    let wire = wire?;
    let time = SentTime::new(wire.seconds, wire.nanos);
    if time.is_none() {
        faults.add(field, "must lie in the years 1970 to 9999, with 0 to 999,999,999 nanoseconds");
    }
    time
}

/// Reads a part list; `list` is its path in the request.
///
/// Faults are noted, and parts with faults left out.
pub fn parts(faults: &mut Faults, list: &str, wire: Vec<pb::Part>) -> Vec<Part> {
    if wire.len() > PARTS_MAX {
        faults.add(list, format!("must be at most {PARTS_MAX} parts, not {}", wire.len()));
        return vec![];
    }
    let inline: usize = wire.iter().map(inline_bytes).sum();
    if inline > INLINE_BYTES_MAX {
        faults.add(list, format!("must hold at most {INLINE_BYTES_MAX} inline bytes over all, not {inline}"));
    }
    wire.into_iter()
        .enumerate()
        .filter_map(|(place, wire)| part(faults, format_args!("{list}[{place}]"), wire))
        .collect()
}

fn inline_bytes(part: &pb::Part) -> usize {
    match &part.content {
        Some(pb::part::Content::Inline(bytes)) => bytes.len(),
        _ => 0,
    }
}

fn part(faults: &mut Faults, path: impl Display, wire: pb::Part) -> Option<Part> {
    let field = |name: &str| format!("{path}.{name}");
    let name = faults.need(format_args!("{path}.name"), &wire.name);
    let media_type = faults.need(format_args!("{path}.media_type"), &wire.media_type);
    let salt: Option<[u8; SALT_BYTES]> = wire.salt.as_slice().try_into().ok();
    if salt.is_none() {
        faults.add(field("salt"), format!("must be {SALT_BYTES} bytes"));
    }
    let digest = digest(faults, format_args!("{path}.digest"), wire.digest);
    let content = match wire.content {
        Some(pb::part::Content::Inline(bytes)) => Some(Content::Inline(bytes)),
        Some(pb::part::Content::Attachment(attachment)) => {
            if wire.size > ATTACHMENT_BYTES_MAX {
                faults.add(field("size"), format!("must be at most {ATTACHMENT_BYTES_MAX}"));
            }
            Some(Content::Attachment(self::digest(
                faults,
                format_args!("{path}.attachment.digest"),
                attachment.digest,
            )?))
        }
        // An empty inline content may be absent: proto3 writers of some languages leave it out.
        None if wire.size == 0 => Some(Content::Inline(Bytes::new())),
        None => None,
    };
    if !matches!(&content, Some(Content::Attachment(_))) {
        let length = content.as_ref().map(|content| inline_of(content).len() as u64);
        if length != Some(wire.size) {
            faults.add(field("size"), "must be the number of bytes of the content");
        }
    }
    let (salt, digest, content) = (salt?, digest?, content?);
    if let Content::Inline(bytes) = &content
        && part_digest(&salt, bytes) != digest
    {
        faults.add(field("digest.value"), "must be SHA-256 of the salt followed by the content");
    }
    Some(Part { name: name?, media_type: media_type?, size: wire.size, salt, digest, content })
}

/// The bytes that stand in the envelope itself.
fn inline_of(content: &Content) -> &[u8] {
    match content {
        Content::Inline(bytes) => bytes,
        Content::Attachment(_) => &[],
    }
}

fn sealed(faults: &mut Faults, wire: pb::SealedParts) -> Option<Sealed> {
    if wire.algorithm != Sealed::ALGORITHM {
        faults.add("envelope.sealed.algorithm", format!("must be \"{}\"", Sealed::ALGORITHM));
    }
    let key_id: Option<[u8; 8]> = wire.key_id.as_slice().try_into().ok();
    let encapsulated: Option<[u8; 32]> = wire.encapsulated_key.as_slice().try_into().ok();
    if key_id.is_none() || encapsulated.is_none() {
        faults.add("envelope.sealed", "must have a key_id of 8 and an encapsulated_key of 32 bytes");
    }
    if wire.ciphertext.len() > SEALED_BYTES_MAX {
        faults.add("envelope.sealed.ciphertext", format!("must be at most {SEALED_BYTES_MAX} bytes"));
    }
    let parts_digest = digest(faults, "envelope.sealed.parts_digest", wire.parts_digest);
    if wire.parts as usize > PARTS_MAX || wire.attachments.len() > wire.parts as usize {
        faults.add("envelope.sealed.parts", format!("must be at most {PARTS_MAX}, and no fewer than attachments"));
        return None;
    }
    let attachments = (0..).zip(wire.attachments).filter_map(|(place, attached): (usize, _)| {
        let field = format!("envelope.sealed.attachments[{place}]");
        if attached.size > SEALED_ATTACHMENT_BYTES_MAX {
            faults.add(format!("{field}.size"), format!("must be at most {SEALED_ATTACHMENT_BYTES_MAX}"));
        }
        let digest = digest(faults, format_args!("{field}.digest"), attached.digest)?;
        Some(Attached { digest, size: attached.size })
    });
    let attachments = attachments.collect();
    Some(Sealed {
        key_id: key_id?,
        encapsulated: encapsulated?,
        ciphertext: wire.ciphertext,
        parts_digest: parts_digest?,
        parts: wire.parts.into(),
        total_size: wire.total_size,
        attachments,
    })
}

/// Reads a digest.
pub fn digest(faults: &mut Faults, field: impl Display, wire: Option<pb::Digest>) -> Option<Digest> {
    let Some(wire) = wire else {
        faults.add(field.to_string(), "is obligatory");
        return None;
    };
    if wire.algorithm != Digest::ALGORITHM {
        faults.add(format!("{field}.algorithm"), "must be \"sha256\"");
    }
    let value: Option<[u8; 32]> = wire.value.as_slice().try_into().ok();
    if value.is_none() {
        faults.add(format!("{field}.value"), "must be 32 bytes");
    }
    value.map(Digest)
}

fn attributes(faults: &mut Faults, wire: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if wire.len() > ATTRIBUTES_MAX {
        faults.add("envelope.attributes", format!("must be at most {ATTRIBUTES_MAX}, not {}", wire.len()));
    }
    for (key, value) in wire.iter().take(ATTRIBUTES_MAX) {
        let letters = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if !letters || !(1..=ATTRIBUTE_KEY_BYTES_MAX).contains(&key.len()) {
            faults
                .add("envelope.attributes", format!("must have keys of 1 to {ATTRIBUTE_KEY_BYTES_MAX} of [a-z0-9._-]"));
        } else if value.len() > ATTRIBUTE_VALUE_BYTES_MAX || !visible(value) {
            let must = format!("must be at most {ATTRIBUTE_VALUE_BYTES_MAX} visible bytes");
            faults.add(format!("envelope.attributes[{key}]"), must);
        }
    }
    wire
}

/// How an envelope is kept: its header without content, and the inline contents one after the other, or what is sealed.
pub fn split(envelope: &Envelope) -> (Vec<u8>, Vec<u8>) {
    let header = to_wire(envelope).encode_to_vec();
    let body = match &envelope.sealed {
        Some(sealed) => sealed.ciphertext.to_vec(),
        None => envelope.parts.iter().map(|part| inline_of(&part.content)).collect::<Vec<_>>().concat(),
    };
    (header, body)
}

/// The kept form does not read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored envelope does not read back")]
pub struct KeptError;

/// The envelope as it is handed on: contents back in their parts, or none when retention has taken the body.
pub fn join(header: &[u8], body: Option<Vec<u8>>) -> Result<pb::Envelope, KeptError> {
    let mut envelope = pb::Envelope::decode(header).map_err(|_| KeptError)?;
    let Some(body) = body else { return Ok(envelope) };
    let mut body = Bytes::from(body);
    if let Some(sealed) = &mut envelope.sealed {
        sealed.ciphertext = body;
        return Ok(envelope);
    }
    for part in envelope.parts.iter_mut().filter(|part| part.content.is_none()) {
        let size = usize::try_from(part.size).ok().filter(|size| *size <= body.len()).ok_or(KeptError)?;
        part.content = Some(pb::part::Content::Inline(body.split_to(size)));
    }
    Ok(envelope)
}

/// A kept envelope, read back: contents have the digests of their parts, and all of it the digest it was accepted with.
///
/// # Errors
/// It was changed from outside, or its body is gone.
pub fn kept(header: &[u8], body: Vec<u8>, header_digest: Digest) -> Result<Envelope, KeptError> {
    let envelope = parse(join(header, Some(body))?).map_err(|_| KeptError)?;
    if envelope.header_digest() == header_digest { Ok(envelope) } else { Err(KeptError) }
}

/// What routing and grants look at in a kept envelope.
#[derive(Debug)]
pub struct Outline {
    pub from: Address,
    pub to: Option<Address>,
    pub jurisdiction: Option<Division>,
    pub item_code: ItemCode,
    pub step: Option<Step>,
    pub mode: Option<Mode>,
    pub sealed: bool,
    pub attachments: Vec<Attached>,
    /// The trace that the message belongs to.
    pub trace: Option<String>,
}

/// Reads the outline of a kept envelope, without its contents.
///
/// # Errors
/// It was changed from outside, or retention has taken it.
pub fn outline(header: &[u8]) -> Result<Outline, KeptError> {
    let wire = pb::Envelope::decode(header).map_err(|_| KeptError)?;
    let mut faults = Faults::default();
    let from = address(&mut faults, "from", wire.from.unwrap_or_default());
    let to = wire.to.and_then(|to| address(&mut faults, "to", to));
    let jurisdiction = faults.parse("jurisdiction", &wire.jurisdiction);
    let item_code = faults.need("item_code", &wire.item_code);
    let step = faults.parse("step", &wire.step);
    let mode = mode(&mut faults, wire.mode);
    let attached = wire.parts.iter().filter_map(|part| match &part.content {
        Some(pb::part::Content::Attachment(attachment)) => Some((attachment.digest.clone(), part.size)),
        _ => None,
    });
    let in_sealed = wire.sealed.iter().flat_map(|sealed| &sealed.attachments).map(|a| (a.digest.clone(), a.size));
    let attached: Vec<_> = attached.chain(in_sealed).collect();
    let attachments = attached
        .into_iter()
        .filter_map(|(wire, size)| Some(Attached { digest: digest(&mut faults, "attachment", wire)?, size }))
        .collect();
    let (sealed, trace) = (wire.sealed.is_some(), trace_id(&wire.traceparent).map(str::to_owned));
    match (from, item_code, faults.is_empty()) {
        (Some(from), Some(item_code), true) => {
            Ok(Outline { from, to, jurisdiction, item_code, step, mode, sealed, attachments, trace })
        }
        _ => Err(KeptError),
    }
}

/// A part list with its inline contents, as it is sealed.
pub fn sealed_content(parts: &[Part]) -> Vec<u8> {
    let whole = |part: &Part| {
        let mut wire = part_to_wire(part);
        if let Content::Inline(bytes) = &part.content {
            wire.content = Some(pb::part::Content::Inline(bytes.clone()));
        }
        wire
    };
    pb::SealedContent { parts: parts.iter().map(whole).collect() }.encode_to_vec()
}

/// Reads what was sealed.
///
/// # Errors
/// Every faulty field; bytes that are no part list.
pub fn opened_content(content: &[u8]) -> Result<Vec<Part>, Vec<Fault>> {
    let mut faults = Faults::default();
    match pb::SealedContent::decode(content) {
        Ok(content) => {
            let parts = parts(&mut faults, "sealed.parts", content.parts);
            faults.or(Some(parts))
        }
        Err(error) => {
            faults.add("sealed", error);
            faults.or(None)
        }
    }
}

/// The envelope on the wire, without inline and sealed contents.
pub fn to_wire(envelope: &Envelope) -> pb::Envelope {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    pb::Envelope {
        message_id: envelope.id.to_string(),
        from: Some(address_to_wire(&envelope.from)),
        to: envelope.to.as_ref().map(address_to_wire),
        jurisdiction: text(envelope.jurisdiction.as_ref().map(|d| d.as_str())),
        redrive_of: envelope.redrive_of.map(|id| id.to_string()).unwrap_or_default(),
        item_code: envelope.item_code.as_str().to_owned(),
        case_no: text(envelope.case_no.as_ref().map(|c| c.as_str())),
        step: text(envelope.step.as_ref().map(|s| s.as_str())),
        mode: envelope.mode.map_or(0, |mode| mode as i32),
        in_reply_to: envelope.in_reply_to.map(|id| id.to_string()).unwrap_or_default(),
        parts: envelope.parts.iter().map(part_to_wire).collect(),
        attributes: envelope.attributes.clone().into_iter().collect(),
        created_at: Some(sent_to_wire(envelope.created_at)),
        expires_at: envelope.expires_at.map(sent_to_wire),
        traceparent: envelope.traceparent.clone().unwrap_or_default(),
        sealed: envelope.sealed.as_ref().map(sealed_to_wire),
    }
}

fn sealed_to_wire(sealed: &Sealed) -> pb::SealedParts {
    let attached = |a: &Attached| pb::SealedAttachment { digest: Some(digest_to_wire(a.digest)), size: a.size };
    pb::SealedParts {
        algorithm: Sealed::ALGORITHM.to_owned(),
        key_id: sealed.key_id.to_vec(),
        encapsulated_key: sealed.encapsulated.to_vec(),
        ciphertext: Bytes::new(),
        parts_digest: Some(digest_to_wire(sealed.parts_digest)),
        parts: sealed.parts as u32,
        total_size: sealed.total_size,
        attachments: sealed.attachments.iter().map(attached).collect(),
    }
}

/// A digest on the wire.
pub fn digest_to_wire(digest: Digest) -> pb::Digest {
    pb::Digest { algorithm: Digest::ALGORITHM.to_owned(), value: digest.0.to_vec() }
}

/// A part on the wire, without inline content.
pub fn part_to_wire(part: &Part) -> pb::Part {
    pb::Part {
        name: part.name.as_str().to_owned(),
        media_type: part.media_type.as_str().to_owned(),
        size: part.size,
        salt: part.salt.to_vec(),
        digest: Some(digest_to_wire(part.digest)),
        content: match part.content {
            Content::Inline(_) => None,
            Content::Attachment(digest) => {
                Some(pb::part::Content::Attachment(pb::Attachment { digest: Some(digest_to_wire(digest)) }))
            }
        },
    }
}

/// An address on the wire.
pub fn address_to_wire(address: &Address) -> pb::Address {
    let system = address.system.as_ref().map_or("", |system| system.as_str());
    pb::Address { city: address.city.as_str().to_owned(), system: system.to_owned() }
}

fn sent_to_wire(time: SentTime) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.seconds(), nanos: time.nanos() as i32 }
}

/// A moment on the wire.
pub fn time_to_wire(time: Time) -> prost_types::Timestamp {
    sent_to_wire(time.into())
}
