//! Decides what a message is: its envelope, its parts, and the two digests that stand for them everywhere else. Never
//! sends, stores or routes one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::id::MessageId;
use crate::limits::{
    CASE_NO_BYTES_MAX, ITEM_CODE_BYTES_MAX, MEDIA_TYPE_BYTES_MAX, PART_NAME_BYTES_MAX, STEP_BYTES_MAX,
};
use crate::party::{Division, Name};
use crate::short::Short;
use crate::time::SentTime;

/// Text that is not what its field wants, with what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("must be 1 to 40 of the letters, digits, '.', '_' and '-'")]
    ItemCode,
    #[error("must be 1 to 64 bytes without control or invisible characters")]
    CaseNo,
    #[error("must be 1 to 24 of the lower-case letters, digits, '_' and '-'")]
    Step,
    #[error("must be 1 to 255 bytes without '/', '\\', control or invisible characters, and not '.' or '..'")]
    PartName,
    #[error("must be a media type such as application/pdf (RFC 6838), at most 127 bytes")]
    MediaType,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident($held:ty), $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($held);

        impl $name {
            /// The text exactly as it was sent.
            pub fn as_str(&self) -> &str {
                self.0.as_ref()
            }

            /// The text's bytes.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_ref()
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                let rule: fn(&str) -> bool = $rule;
                let held = <$held>::try_from(text).ok().filter(|_| rule(text));
                held.map($name).ok_or(TextError::$name)
            }
        }
    };
}

text_type! {
    /// 事项实施编码, the code of a public service item: 31 or 33 characters by the national standard, but one published
    /// code in seven is irregular, so shape and check digits are marked, not refused.
    ItemCode(Short<ITEM_CODE_BYTES_MAX>), |t| sized(t, ITEM_CODE_BYTES_MAX) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}
text_type! {
    /// 办件编号, the case number: opaque, unique within its issuer. With the two cities it is the order key.
    CaseNo(Short<CASE_NO_BYTES_MAX>), |t| sized(t, CASE_NO_BYTES_MAX) && visible(t) && !t.trim().is_empty()
}
text_type! {
    /// 环节, the step of the case that this message is about (`apply`, `accept`, …): carried and marked, not enforced.
    Step(Short<STEP_BYTES_MAX>), |t| sized(t, STEP_BYTES_MAX) && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}
text_type! {
    /// A part's file name, never a path.
    PartName(String), |t| sized(t, PART_NAME_BYTES_MAX) && visible(t) && !t.contains(['/', '\\']) && t != "." && t != ".."
}
text_type! {
    /// A part's media type (RFC 6838), parameters included.
    MediaType(String), |t| sized(t, MEDIA_TYPE_BYTES_MAX) && visible(t) && media_type(t)
}

/// The service item of the gateways' own test messages: no system sends or is handed one, and they count nowhere.
pub const TEST_ITEM: &str = "tongban.test";

impl ItemCode {
    /// Whether it is that of the gateways' own test messages.
    pub fn is_test(&self) -> bool {
        self.as_str() == TEST_ITEM
    }
}

fn sized(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
}

/// Whether a person sees every character of `text`: no control characters, none that are invisible or turn the direction.
pub fn visible(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}')
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    })
}

/// Foreign text as a terminal may show it: what nobody sees, or what moves the cursor, becomes a question mark.
pub fn plain(text: &str) -> String {
    if visible(text) {
        return text.to_owned();
    }
    text.chars().map(|c| if visible(c.encode_utf8(&mut [0; 4])) { c } else { '?' }).collect()
}

fn media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let token = |t: &str| {
        t.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// 办理模式, how the cities share the work (国办发〔2020〕35号).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// 全程网办, fully online.
    Online = 1,
    /// 异地代收代办, the receiving window checks form and identity and forwards.
    Proxy = 2,
    /// 多地联办, several offices together.
    Joint = 3,
}

impl Mode {
    /// The mode with this number.
    pub fn from_number(number: u8) -> Option<Mode> {
        [Mode::Online, Mode::Proxy, Mode::Joint].into_iter().find(|mode| *mode as u8 == number)
    }
}

/// A city and, where given, one of its systems.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub city: Division,
    pub system: Option<Name>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.city.as_str())?;
        self.system.as_ref().map_or(Ok(()), |system| write!(f, "/{}", system.as_str()))
    }
}

/// A SHA-256 digest; wherever it stands its algorithm is named beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The algorithm's name in texts and digests.
    pub const ALGORITHM: &str = "sha256";
}

/// `sha256:` and 64 lower-case hex digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Digest::ALGORITHM, hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One part of a message: a document or the form's data. Its digest is SHA-256(salt ‖ bytes); the salt keeps a short or
/// well-known content from being guessed out of a receipt.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    pub name: PartName,
    pub media_type: MediaType,
    pub size: u64,
    pub salt: [u8; 16],
    pub digest: Digest,
    pub content: Content,
}

/// Where a part's bytes are.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// In the envelope itself.
    Inline(Bytes),
    /// Beside it, uploaded before: the digest of the bytes as they were uploaded, without salt.
    Attachment(Digest),
}

/// A part list with its contents, sealed by the origin gateway for the recipient's (HPKE, RFC 9180). Whoever carries it
/// knows the digest of the list, which the header digest covers, how many parts there are and how large they are.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The first bytes of SHA-256 of the recipient's public key.
    pub key_id: [u8; 8],
    pub encapsulated: [u8; 32],
    pub ciphertext: Bytes,
    pub parts_digest: Digest,
    pub parts: u64,
    /// Bytes of all parts together, in the clear.
    pub total_size: u64,
    /// The attachments in sealed form, in the order of the parts that refer to them.
    pub attachments: Vec<Attached>,
}

impl Sealed {
    /// The sealing algorithm's name in texts and digests.
    pub const ALGORITHM: &str = "hpke-x25519-hkdf-sha256-chacha20poly1305";
}

/// A sealed part list shows its digest and size alone.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} parts, {} bytes, {})", self.parts, self.total_size, self.parts_digest)
    }
}

/// An attachment as it travels: the digest and the number of its bytes, sealed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    pub digest: Digest,
    pub size: u64,
}

/// The salted digest of a part's bytes.
pub fn part_digest(salt: &[u8; 16], content: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update(salt).chain_update(content).finalize().into())
}

/// A part shows its name and size, never its content.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({} bytes, {})", self.size, self.digest)
    }
}

/// A message as its sender wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub id: MessageId,
    pub from: Address,
    /// `None` leaves the city to the origin's routing tables.
    pub to: Option<Address>,
    /// 管辖区划, the division whose office is competent.
    pub jurisdiction: Option<Division>,
    pub redrive_of: Option<MessageId>,
    pub item_code: ItemCode,
    pub case_no: Option<CaseNo>,
    pub step: Option<Step>,
    pub mode: Option<Mode>,
    pub in_reply_to: Option<MessageId>,
    /// Empty while the part list is sealed.
    pub parts: Vec<Part>,
    /// The part list on a way through a hub.
    pub sealed: Option<Sealed>,
    pub attributes: BTreeMap<String, String>,
    pub created_at: SentTime,
    pub expires_at: Option<SentTime>,
    pub traceparent: Option<String>,
}

/// The trace that a W3C `traceparent` belongs to: 32 hexadecimal digits (Trace Context §3.2.2.3); none where it is malformed.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut fields = traceparent.split('-');
    let (version, trace, parent, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    // A later version may append fields; the first one has none (§3.2.4).
    let whole = version != "00" || fields.next().is_none();
    let shaped = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let set = |id: &str| id.bytes().any(|b| b != b'0');
    (whole && shaped && set(trace) && set(parent)).then_some(trace)
}

impl Envelope {
    /// The trace that the message belongs to, for log lines; none where it names none.
    pub fn trace(&self) -> Option<&str> {
        trace_id(self.traceparent.as_deref()?)
    }

    /// Number of parts, sealed or not.
    pub fn part_count(&self) -> u64 {
        self.sealed.as_ref().map_or(self.parts.len() as u64, |sealed| sealed.parts)
    }

    /// The attachments as they travel with this envelope: digest and size of each one's bytes.
    pub fn attachments(&self) -> Vec<Attached> {
        if let Some(sealed) = &self.sealed {
            return sealed.attachments.clone();
        }
        let attached = |part: &Part| match part.content {
            Content::Attachment(digest) => Some(Attached { digest, size: part.size }),
            Content::Inline(_) => None,
        };
        self.parts.iter().filter_map(attached).collect()
    }

    /// Bytes of all parts together, in the clear.
    pub fn total_size(&self) -> u64 {
        if let Some(sealed) = &self.sealed {
            return sealed.total_size;
        }
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.size))
    }

    /// The digest of the part list: names, media types, sizes and salted digests, in order (docs/receipts.md §2).
    pub fn parts_digest(&self) -> Digest {
        if let Some(sealed) = &self.sealed {
            return sealed.parts_digest;
        }
        let mut list = Preimage::new("tongban.parts");
        list.count(self.parts.len());
        for part in &self.parts {
            list.text(part.name.as_str());
            list.text(part.media_type.as_str());
            list.field(&part.size.to_be_bytes());
            list.text(Digest::ALGORITHM);
            list.field(&part.digest.0);
        }
        list.digest()
    }

    /// The digest of the sender's fields exactly as sent (docs/receipts.md §2). It never covers what changes on the way:
    /// hops, attempts, routing versions, `traceparent`.
    pub fn header_digest(&self) -> Digest {
        let mut list = Preimage::new("tongban.header");
        let to = self.to.as_ref();
        list.text(&self.id.to_string());
        list.text(self.from.city.as_str());
        list.text(self.from.system.as_ref().map_or("", Name::as_str));
        list.text(to.map_or("", |to| to.city.as_str()));
        list.text(to.and_then(|to| to.system.as_ref()).map_or("", Name::as_str));
        list.text(self.jurisdiction.as_ref().map_or("", Division::as_str));
        list.text(&self.redrive_of.map_or(String::new(), |id| id.to_string()));
        list.text(self.item_code.as_str());
        list.text(self.case_no.as_ref().map_or("", CaseNo::as_str));
        list.text(self.step.as_ref().map_or("", Step::as_str));
        list.field(&self.mode.map_or(vec![], |mode| vec![mode as u8]));
        list.text(&self.in_reply_to.map_or(String::new(), |id| id.to_string()));
        list.field(&moment(Some(self.created_at)));
        list.field(&moment(self.expires_at));
        list.count(self.attributes.len());
        for (key, value) in &self.attributes {
            list.text(key);
            list.text(value);
        }
        list.text(Digest::ALGORITHM);
        list.field(&self.parts_digest().0);
        list.digest()
    }
}

/// Seconds (8 bytes) and nanoseconds (4 bytes), big-endian; nothing when absent.
fn moment(time: Option<SentTime>) -> Vec<u8> {
    time.map_or(vec![], |t| [t.seconds().to_be_bytes().as_slice(), &t.nanos().to_be_bytes()].concat())
}

/// The bytes under a digest: version byte 1, then each element as a 4-byte big-endian length and its bytes.
struct Preimage(Sha256);

impl Preimage {
    fn new(context: &str) -> Preimage {
        let mut preimage = Preimage(Sha256::new_with_prefix([1]));
        preimage.text(context);
        preimage
    }

    fn text(&mut self, text: &str) {
        self.field(text.as_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn count(&mut self, count: usize) {
        self.0.update((count as u32).to_be_bytes());
    }

    fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_hides_something_is_refused() {
        for text in ["", "a\n", "a\u{1b}[2J", "a\u{202e}b", "a\u{200b}", "\u{feff}", &"x".repeat(65)] {
            assert!(text.parse::<CaseNo>().is_err(), "{text:?}");
        }
        assert!("桂B-2026-0001（补）".parse::<CaseNo>().is_ok());
    }

    #[test]
    fn a_part_name_is_never_a_path() {
        for name in ["..", ".", "a/b", "..\\x", "/etc/passwd", "a\0b", &"x".repeat(256)] {
            assert!(name.parse::<PartName>().is_err(), "{name:?}");
        }
        assert!("申请表.pdf".parse::<PartName>().is_ok());
    }

    #[test]
    fn a_media_type_has_two_tokens() {
        for good in ["application/pdf", "text/plain; charset=utf-8", "application/vnd.ofd+zip"] {
            assert!(good.parse::<MediaType>().is_ok(), "{good}");
        }
        for bad in ["pdf", "application/", "/pdf", "a b/c", "application/pdf/x"] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad}");
        }
    }
}
