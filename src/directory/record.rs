//! Decides what a member says of itself and signs: names, endpoints, roots, log keys, relays. Never asks whether it is a
//! member at all; that is the directory's to say.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::canonical::{self, CanonicalError};
use super::sealing::SealingKey;
use super::{log_origin_prefix, member_key_name};
use crate::limits::{
    CERTIFICATE_DAYS_MAX, ENDPOINTS_MAX, HOST_BYTES_MAX, LOG_KEYS_MAX, MEMBER_NAME_BYTES_MAX, RECORD_DAYS_MAX,
    RELAYS_MAX, ROOTS_MAX, VERSION_MAX,
};
use crate::party::{Alliance, Member, Name, NameError};
use crate::time::Time;
use crate::tlog::note::{self, KeyError, NoteError, SigningKey, VerifyingKey};

/// What stands in `kind`, so that no other text signed by a member's key reads as a record.
const KIND: &str = "tongban.member-record.v1";

/// What an alliance knows of one of its members, as the member itself signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// The alliance this record is for; a record does not travel to another.
    pub alliance: Alliance,
    /// The member that speaks.
    pub member: Member,
    /// Counts up with every change; 1 … 2⁵³ − 1.
    pub version: u64,
    /// When the member wrote it.
    pub issued_at: Time,
    /// The member's name in Chinese, for people.
    pub name_zh: String,
    /// The member's name in English, for people.
    pub name_en: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER) that alone is this member's gateway; without one, the gateway
    /// is known by its URI name under `roots`.
    pub key_pin: Option<[u8; 32]>,
    /// Days that a certificate of this member may be valid.
    pub days_max: u32,
    /// Where its gateway is dialled; none when it pulls.
    pub endpoints: Vec<Endpoint>,
    /// The certificate authorities that vouch for this member's names, and for no other's.
    pub roots: Vec<CertificateDer<'static>>,
    /// The keys of its logs; a key's name is its log's origin.
    pub log_keys: Vec<VerifyingKey>,
    /// The members that may relay for it.
    pub relays: Vec<Member>,
    /// Whether a revocation list must be at hand.
    pub crl: CrlPolicy,
    /// The key to which bodies for this member are sealed on a hub route.
    pub sealing_key: Option<SealingKey>,
    /// Whether this member lets hubs see bodies: one goes unsealed only if sender and recipient both say so.
    pub unsealed_relay: bool,
}

/// Whether a member's certificates are accepted without a valid revocation list of its authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CrlPolicy {
    Required,
    None,
}

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("the key is named {found}, but the member's key is named {expected}")]
    KeyName { expected: String, found: String },
    #[error(transparent)]
    Text(#[from] CanonicalError),
    #[error("field {field}: {fault}")]
    Field { field: &'static str, fault: Fault },
}

/// What is wrong with one field of a record or a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("not between {min} and {max}")]
    Range { min: u64, max: u64 },
    #[error("more than {max}")]
    TooMany { max: usize },
    #[error("empty, longer than {max} bytes, or with control or direction characters")]
    Words { max: usize },
    #[error("not written as 2026-01-31T08:00:00.000Z")]
    Moment,
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("not host:port with a lower-case DNS name, an IPv4 address or an IPv6 address in brackets")]
    Endpoint,
    #[error("not written as sha256: and 64 lower-case hexadecimal digits")]
    Pin,
    #[error("not a certificate in DER, base64 encoded")]
    Certificate,
    #[error("not the certificate of an authority (basic constraints do not say CA)")]
    Authority,
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("{found} does not begin with {prefix} followed by <instance>/<generation>")]
    Origin { prefix: String, found: String },
    #[error("{0} is given twice")]
    Twice(String),
    #[error("neither a root nor a key pin: nobody could recognise the member")]
    Unrecognisable,
    #[error("not written as hpke-x25519: and 32 bytes in base64")]
    SealingKey,
    #[error("the member names itself")]
    Itself,
}

impl MemberRecord {
    /// Opens a signed record with the member's key.
    ///
    /// # Errors
    /// A note the key did not sign, a key that is not named after the member, or a text [`MemberRecord::parse`] refuses.
    pub fn open(signed: &str, member_key: &VerifyingKey) -> Result<MemberRecord, RecordError> {
        let opened = note::open(signed, std::slice::from_ref(member_key))?;
        let record = MemberRecord::parse(opened.text)?;
        record.check_key(member_key)?;
        Ok(record)
    }

    /// Reads the text of a record, strictly, without asking who signed it.
    ///
    /// # Errors
    /// A text that is not canonical, or a field out of its bounds, by name.
    pub fn parse(text: &str) -> Result<MemberRecord, RecordError> {
        canonical::read::<Written>(text, KIND)?.read()
    }

    /// The canonical text that is signed.
    ///
    /// # Errors
    /// Fields that [`MemberRecord::parse`] would refuse.
    pub fn text(&self) -> Result<String, RecordError> {
        let text = canonical::write(&Written::from(self))?;
        MemberRecord::parse(&text)?;
        Ok(text)
    }

    /// Signs the record.
    ///
    /// # Errors
    /// A key not named after the member, or fields that would be refused on reading.
    pub fn sign(&self, member_key: &SigningKey) -> Result<String, RecordError> {
        self.check_key(member_key.verifying_key())?;
        Ok(member_key.sign_note(&self.text()?)?)
    }

    /// Whether partners wait for this member to fetch its messages: it names no endpoint.
    pub fn pulls(&self) -> bool {
        self.endpoints.is_empty()
    }

    fn check_key(&self, key: &VerifyingKey) -> Result<(), RecordError> {
        let expected = member_key_name(&self.alliance, &self.member);
        let found = key.name().to_owned();
        if expected == found { Ok(()) } else { Err(RecordError::KeyName { expected, found }) }
    }
}

/// Where a gateway is dialled: a host and a port, e.g. `gateway.liuzhou.example:7501` or `[::1]:7501`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// The host: a lower-case DNS name, an IPv4 address, or an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Endpoint, Fault> {
        let (host, port) = text.rsplit_once(':').ok_or(Fault::Endpoint)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|h| h.parse::<Ipv6Addr>().is_ok()),
            None => Some(host).filter(|h| is_host(h)),
        };
        let endpoint = Endpoint {
            host: host.ok_or(Fault::Endpoint)?.to_owned(),
            port: port.parse().ok().filter(|p| *p != 0).ok_or(Fault::Endpoint)?,
        };
        // One spelling only: no leading zeros or plus sign in the port.
        if endpoint.to_string() == text { Ok(endpoint) } else { Err(Fault::Endpoint) }
    }
}

fn is_host(host: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(letter) && !l.starts_with('-') && !l.ends_with('-');
    // A last label of digits only is an address or nothing (WHATWG URL, "ends in a number").
    let numeric = host.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= HOST_BYTES_MAX && host.split('.').all(label) && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

/// A record as its text spells it.
#[derive(Serialize, Deserialize)]
struct Written {
    kind: String,
    alliance: String,
    version: u64,
    issued_at: String,
    member: String,
    name_zh: String,
    name_en: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_pin: Option<String>,
    #[serde(default = "days_max_default")]
    days_max: u32,
    endpoints: Vec<String>,
    roots: Vec<String>,
    log_keys: Vec<String>,
    #[serde(default)]
    relays: Vec<String>,
    crl: CrlPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealing_key: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsealed_relay: bool,
}

fn days_max_default() -> u32 {
    CERTIFICATE_DAYS_MAX
}

impl Written {
    fn read(self) -> Result<MemberRecord, RecordError> {
        let alliance: Alliance = at("alliance", self.alliance.parse())?;
        let member: Member = at("member", self.member.parse())?;
        let prefix = log_origin_prefix(&alliance, &member);
        let record = MemberRecord {
            version: at("version", within(self.version, 1..=VERSION_MAX))?,
            issued_at: at("issued_at", moment(&self.issued_at))?,
            name_zh: at("name_zh", words(self.name_zh, MEMBER_NAME_BYTES_MAX))?,
            name_en: at("name_en", words(self.name_en, MEMBER_NAME_BYTES_MAX))?,
            key_pin: at("key_pin", self.key_pin.as_deref().map(pin).transpose())?,
            days_max: at("days_max", within(self.days_max.into(), 1..=RECORD_DAYS_MAX.into()))? as u32,
            endpoints: at("endpoints", each(&self.endpoints, ENDPOINTS_MAX, |e| e.parse()))?,
            roots: at("roots", each(&self.roots, ROOTS_MAX, authority))?,
            log_keys: at("log_keys", each(&self.log_keys, LOG_KEYS_MAX, |k| log_key(k, &prefix)))?,
            relays: at("relays", each(&self.relays, RELAYS_MAX, |m| m.parse::<Member>().map_err(Fault::from)))?,
            crl: self.crl,
            sealing_key: at("sealing_key", self.sealing_key.as_deref().map(str::parse).transpose())?,
            unsealed_relay: self.unsealed_relay,
            alliance,
            member,
        };
        at("roots", recognisable(&record))?;
        at("log_keys", distinct(record.log_keys.iter().map(VerifyingKey::name)))?;
        at("relays", if record.relays.contains(&record.member) { Err(Fault::Itself) } else { Ok(()) })?;
        Ok(record)
    }
}

impl From<&MemberRecord> for Written {
    fn from(record: &MemberRecord) -> Written {
        Written {
            kind: KIND.to_owned(),
            alliance: record.alliance.as_str().to_owned(),
            version: record.version,
            issued_at: record.issued_at.to_string(),
            member: record.member.to_string(),
            name_zh: record.name_zh.clone(),
            name_en: record.name_en.clone(),
            key_pin: record.key_pin.map(|pin| format!("sha256:{}", hex::encode(pin))),
            days_max: record.days_max,
            endpoints: record.endpoints.iter().map(Endpoint::to_string).collect(),
            roots: record.roots.iter().map(|root| STANDARD.encode(root)).collect(),
            log_keys: record.log_keys.iter().map(VerifyingKey::to_string).collect(),
            relays: record.relays.iter().map(Member::to_string).collect(),
            crl: record.crl,
            sealing_key: record.sealing_key.as_ref().map(SealingKey::to_string),
            unsealed_relay: record.unsealed_relay,
        }
    }
}

pub(super) fn at<T, F: Into<Fault>>(field: &'static str, read: Result<T, F>) -> Result<T, RecordError> {
    read.map_err(|fault| RecordError::Field { field, fault: fault.into() })
}

pub(crate) fn within(number: u64, range: RangeInclusive<u64>) -> Result<u64, Fault> {
    let fault = Fault::Range { min: *range.start(), max: *range.end() };
    if range.contains(&number) { Ok(number) } else { Err(fault) }
}

/// Reads the one spelling of a moment that [`Time`] prints.
pub(crate) fn moment(text: &str) -> Result<Time, Fault> {
    let ms = text.parse::<jiff::Timestamp>().map_err(|_| Fault::Moment)?.as_millisecond();
    let time = Time::from_ms(u64::try_from(ms).map_err(|_| Fault::Moment)?);
    if time.to_string() == text { Ok(time) } else { Err(Fault::Moment) }
}

/// Words for people: nothing that could move a terminal's cursor or turn its line around.
fn words(text: String, max: usize) -> Result<String, Fault> {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let fits = !text.trim().is_empty() && text.len() <= max;
    if fits && !text.chars().any(|c| c.is_control() || turns(c)) { Ok(text) } else { Err(Fault::Words { max }) }
}

fn pin(text: &str) -> Result<[u8; 32], Fault> {
    let digits = text.strip_prefix("sha256:").filter(|d| !d.bytes().any(|b| b.is_ascii_uppercase()));
    let mut pin = [0; 32];
    hex::decode_to_slice(digits.ok_or(Fault::Pin)?, &mut pin).map_err(|_| Fault::Pin)?;
    Ok(pin)
}

fn each<T>(written: &[String], max: usize, read: impl Fn(&str) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    if written.len() > max {
        return Err(Fault::TooMany { max });
    }
    distinct(written.iter().map(String::as_str))?;
    written.iter().map(|text| read(text)).collect()
}

fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for text in texts {
        if !seen.insert(text) {
            return Err(Fault::Twice(text.chars().take(80).collect()));
        }
    }
    Ok(())
}

fn authority(text: &str) -> Result<CertificateDer<'static>, Fault> {
    let der = STANDARD.decode(text).map_err(|_| Fault::Certificate)?;
    let (rest, certificate) = X509Certificate::from_der(&der).map_err(|_| Fault::Certificate)?;
    if !rest.is_empty() {
        return Err(Fault::Certificate);
    }
    if !certificate.is_ca() {
        return Err(Fault::Authority);
    }
    Ok(CertificateDer::from(der))
}

pub(super) fn log_key(vkey: &str, prefix: &str) -> Result<VerifyingKey, Fault> {
    let key = VerifyingKey::parse(vkey)?;
    let place = key.name().strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
    let good =
        |(instance, generation): (&str, &str)| instance.parse::<Name>().is_ok() && generation.parse::<Name>().is_ok();
    if place.is_some_and(good) {
        return Ok(key);
    }
    Err(Fault::Origin { prefix: prefix.to_owned(), found: key.name().to_owned() })
}

fn recognisable(record: &MemberRecord) -> Result<(), Fault> {
    if record.roots.is_empty() && record.key_pin.is_none() { Err(Fault::Unrecognisable) } else { Ok(()) }
}
