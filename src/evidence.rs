//! Decides what a piece of evidence says and how its leaf is written, byte for byte (docs/receipts.md §3). Never signs,
//! stores or sends one.
//!
//! Models: ETSI EN 319 522-3 (event kinds), ISO/IEC 13888 (tokens), 电子签名法 art. 5–13 (the instants).

use std::fmt;
use std::str::FromStr;

use crate::id::{MessageId, ReceiptId};
use crate::limits::{AGREEMENT_BYTES_MAX, LEAF_BYTES_MAX, LOG_ORIGIN_BYTES_MAX, REASON_BYTES_MAX, REASONS_MAX};
use crate::message::{Address, CaseNo, Digest, ItemCode, Mode, Step};
use crate::party::{Division, Member, Name};
use crate::reason::Reason;
use crate::short::Short;
use crate::time::Time;

macro_rules! closed_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// Every value, by number.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The value with this number.
            pub fn from_number(number: u8) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }

            /// The value's published name.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

closed_enum! {
    /// What happened to a message; each is one leaf in the issuer's log.
    Event {
        /// The sender's gateway holds the message durably.
        SubmissionAccepted = 1, "SUBMISSION_ACCEPTED";
        /// The sender's gateway refused it by rule.
        SubmissionRejected = 2, "SUBMISSION_REJECTED";
        /// The next hop took custody, header and parts.
        RelayAccepted = 3, "RELAY_ACCEPTED";
        /// The next hop refused custody.
        RelayRejected = 4, "RELAY_REJECTED";
        /// The next hop could not be reached until the deadline.
        RelayFailed = 5, "RELAY_FAILED";
        /// The message entered the recipient system's mailbox: "received" in the sense of 电子签名法 art. 11.
        Consigned = 6, "CONSIGNED";
        /// It could not enter the mailbox.
        ConsignmentFailed = 7, "CONSIGNMENT_FAILED";
        /// The recipient system took the bytes and acknowledged them.
        HandedOver = 8, "HANDED_OVER";
        /// The recipient system refused them, or never gave an outcome.
        HandoverFailed = 9, "HANDOVER_FAILED";
        /// The deadline passed with no handover.
        Expired = 10, "EXPIRED";
        /// Withdrawn before the next hop took custody.
        Cancelled = 11, "CANCELLED";
        /// Still trying.
        Delayed = 12, "DELAYED";
        /// A receipt of another log was received.
        Witnessed = 13, "WITNESSED";
    }
}

impl Event {
    /// Whether the event says that something did not happen; such an event must name a reason.
    pub fn is_negative(self) -> bool {
        use Event::{ConsignmentFailed, Expired, HandoverFailed, RelayFailed, RelayRejected, SubmissionRejected};
        matches!(self, SubmissionRejected | RelayRejected | RelayFailed | ConsignmentFailed | HandoverFailed | Expired)
    }
}

closed_enum! {
    /// On whose word a handover rests.
    AssertedBy {
        /// The issuing gateway saw the acknowledgement on the recipient's connection.
        Issuer = 1, "issuer";
        /// The recipient signed the header digest with its certificate's key.
        RecipientSignature = 2, "recipient signature";
        /// The recipient's gateway issued a receipt of its own.
        RecipientReceipt = 3, "recipient receipt";
    }
}

closed_enum! {
    /// Where a message stands, as one gateway knows it.
    State {
        Accepted = 1, "ACCEPTED";
        Relayed = 2, "RELAYED";
        Consigned = 3, "CONSIGNED";
        /// Handed over: the good end.
        Confirmed = 4, "CONFIRMED";
        /// Refused by the recipient or its gateway.
        Rejected = 5, "REJECTED";
        /// The next hop was never reached.
        Failed = 6, "FAILED";
        Expired = 7, "EXPIRED";
        Cancelled = 8, "CANCELLED";
    }
}

impl State {
    /// Whether the message has ended.
    pub fn is_final(self) -> bool {
        self >= State::Confirmed
    }

    /// Whether the message ended without handover, against its sender's will.
    pub fn is_dead(self) -> bool {
        matches!(self, State::Rejected | State::Failed | State::Expired)
    }
}

/// Where a message stands, as one gateway knows it, with what decides what can still follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    /// An attempt may have arrived although nobody said so.
    pub in_doubt: bool,
    /// It was handed over after it had been given up.
    pub late: bool,
    /// What ended it is the refusal of a next hop, which is not the word of the recipient.
    pub turned_back: bool,
}

impl From<State> for Standing {
    fn from(state: State) -> Standing {
        Standing { state, in_doubt: false, late: false, turned_back: false }
    }
}

impl Standing {
    /// Where it stands after `event`; `None` when the event changes nothing. The first final event stands, but a handover
    /// always wins over a failure, an expiry, a withdrawal or a next hop's refusal that an earlier holder wrote down: a
    /// delivery that was under way when the next hop was asked may have arrived behind its answer.
    pub fn after(self, event: Event) -> Option<Standing> {
        let state = match event {
            Event::RelayAccepted => State::Relayed,
            Event::Consigned => State::Consigned,
            Event::HandedOver => State::Confirmed,
            Event::RelayRejected | Event::ConsignmentFailed | Event::HandoverFailed => State::Rejected,
            Event::RelayFailed => State::Failed,
            Event::Expired => State::Expired,
            Event::Cancelled => State::Cancelled,
            Event::SubmissionAccepted | Event::SubmissionRejected | Event::Delayed | Event::Witnessed => return None,
        };
        let given_up = self.turned_back || matches!(self.state, State::Failed | State::Expired | State::Cancelled);
        let late = given_up && state == State::Confirmed;
        (late || (!self.state.is_final() && state > self.state)).then_some(Standing {
            state,
            in_doubt: self.in_doubt && !late,
            late: self.late || late,
            turned_back: event == Event::RelayRejected,
        })
    }

    /// Where it stands after `event`, as receipts alone tell it: they do not say whether a next hop that refused was the last
    /// candidate, so what follows tells that it was not, a notice of delay too. A handover alone may come behind the last one's
    /// refusal.
    pub fn told(self, event: Event) -> Standing {
        let anew = Standing { in_doubt: self.in_doubt, ..State::Accepted.into() };
        let of_next = anew.after(event).or((event == Event::Delayed).then_some(anew));
        match of_next {
            Some(next) if self.turned_back && event != Event::HandedOver => next,
            _ => self.after(event).unwrap_or(self),
        }
    }
}

/// A code in a leaf: a reason of the catalogue, or the one free token beside it: `[A-Z0-9_.-]{1,32}`. A newer gateway
/// may use codes that this one does not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Code(Short<REASON_BYTES_MAX>);

/// Text that is not a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 of the upper-case letters, digits, '_', '.' and '-'")]
pub struct CodeError;

impl Code {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Code, CodeError> {
        let letters = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_.-".contains(&b));
        Short::try_from(text).ok().filter(|_| letters && !text.is_empty()).map(Code).ok_or(CodeError)
    }
}

impl From<Reason> for Code {
    fn from(reason: Reason) -> Code {
        // Every code of the catalogue has room: a test beside it goes through them.
        Code(Short::try_from(reason.code()).unwrap_or_default())
    }
}

/// The instants of a message known so far (电子签名法 art. 11): left the sender, entered the origin gateway, taken by the
/// next hop, entered the recipient's system, acknowledged by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instants {
    pub submitted: Option<Time>,
    pub accepted: Option<Time>,
    pub relayed: Option<Time>,
    pub consigned: Option<Time>,
    pub acknowledged: Option<Time>,
}

/// What a `WITNESSED` leaf says of the foreign receipt: the leaf hash, who issued it, in which log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    pub leaf_hash: Digest,
    pub issuer: Member,
    /// 1 to 160 visible ASCII characters, no plus sign.
    pub log_origin: String,
}

/// One piece of evidence: what its issuer knows and says about one message at one moment. No body, no part names, no
/// personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub id: ReceiptId,
    pub event: Event,
    /// At most two codes of the catalogue; obligatory on a negative event.
    pub reasons: Vec<Code>,
    /// At most one token of the refusing party's own.
    pub token: Option<Code>,
    /// When it happened, by the issuer's own clock.
    pub at: Time,
    /// Milliseconds by which the issuer's clock may be wrong.
    pub clock_uncertainty_ms: u32,
    pub issuer: Member,
    /// The C2SP key id of the issuer's log key.
    pub key_id: u32,
    /// The agreement (policy) under which the message travels: 1 to 24 visible ASCII characters.
    pub agreement: Option<String>,
    /// Version of the routing table that chose the way; 0 when none did.
    pub table_version: u64,
    pub from: Address,
    /// The recipient as resolved by the issuer.
    pub to: Option<Address>,
    pub message_id: MessageId,
    pub in_reply_to: Option<MessageId>,
    pub case_no: Option<CaseNo>,
    pub item_code: Option<ItemCode>,
    pub step: Option<Step>,
    pub header_digest: Digest,
    pub parts: u64,
    /// Bytes of all parts together.
    pub total_size: u64,
    pub instants: Instants,
    pub expires_at: Option<Time>,
    pub attempts: u64,
    /// The gRPC status of the last attempt.
    pub last_status: u64,
    pub asserted_by: Option<AssertedBy>,
    /// Leaf hash of the previous evidence about the same message.
    pub previous: Option<Digest>,
    pub witnessed: Option<Witnessed>,
    /// How the cities share the work, as the sender said.
    pub mode: Option<Mode>,
    /// Of a `DELAYED` leaf: when the next attempt will be made.
    pub next_attempt_at: Option<Time>,
    /// Fields of later versions that a verifier may ignore: tag 0x60 to 0x7f and bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

/// Bytes that are not a leaf of this version, with the field's tag where one is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error("the leaf is longer than {LEAF_BYTES_MAX} bytes")]
    TooLong,
    #[error("the leaf's version or kind is not known")]
    Version,
    #[error("the leaf ends inside a field")]
    Truncated,
    #[error("field {0:#04x} is out of order, repeated or empty")]
    Order(u8),
    #[error("field {0:#04x} is not known and may not be ignored")]
    Unknown(u8),
    #[error("field {0:#04x} has a value that does not parse")]
    Value(u8),
    #[error("field {0:#04x} is missing")]
    Missing(u8),
    #[error("the leaf is not in canonical form")]
    NotCanonical,
}

/// The kind of a leaf of evidence: its second byte.
pub const KIND: u8 = 1;
/// First bytes of every leaf: encoding version 1, kind 1 (evidence about a message).
const PROLOGUE: [u8; 2] = [1, KIND];
/// The digest algorithm's number in a leaf.
const SHA256: u8 = 1;

mod tag {
    pub const ID: u8 = 0x01;
    pub const EVENT: u8 = 0x02;
    pub const REASON: u8 = 0x03;
    pub const TOKEN: u8 = 0x04;
    pub const AT: u8 = 0x05;
    pub const CLOCK_UNCERTAINTY: u8 = 0x06;
    pub const ISSUER: u8 = 0x07;
    pub const KEY_ID: u8 = 0x08;
    pub const AGREEMENT: u8 = 0x09;
    pub const TABLE_VERSION: u8 = 0x0a;
    pub const FROM_CITY: u8 = 0x0b;
    // 0x0c: the sender's system
    pub const TO_CITY: u8 = 0x0d;
    // 0x0e: the recipient's system
    pub const MESSAGE_ID: u8 = 0x0f;
    pub const IN_REPLY_TO: u8 = 0x10;
    pub const CASE_NO: u8 = 0x11;
    pub const ITEM_CODE: u8 = 0x12;
    pub const STEP: u8 = 0x13;
    pub const HEADER_DIGEST: u8 = 0x14;
    pub const PARTS: u8 = 0x15;
    pub const TOTAL_SIZE: u8 = 0x16;
    pub const SUBMITTED: u8 = 0x17;
    pub const ACCEPTED: u8 = 0x18;
    pub const RELAYED: u8 = 0x19;
    pub const CONSIGNED: u8 = 0x1a;
    pub const ACKNOWLEDGED: u8 = 0x1b;
    pub const EXPIRES_AT: u8 = 0x1c;
    pub const ATTEMPTS: u8 = 0x1d;
    pub const LAST_STATUS: u8 = 0x1e;
    pub const ASSERTED_BY: u8 = 0x1f;
    pub const PREVIOUS: u8 = 0x20;
    pub const WITNESSED_LEAF: u8 = 0x21;
    pub const WITNESSED_ISSUER: u8 = 0x22;
    pub const WITNESSED_LOG: u8 = 0x23;
    pub const MODE: u8 = 0x24;
    pub const NEXT_ATTEMPT_AT: u8 = 0x25;
    pub const EXTENSIONS: std::ops::RangeInclusive<u8> = 0x60..=0x7f;
}

impl Evidence {
    /// The leaf's bytes: `01 01`, then each field that is neither zero nor empty as tag, one length byte and value, in
    /// ascending order of tags. Numbers are minimal big-endian, digests carry their algorithm's number first.
    ///
    /// # Errors
    /// What [`Evidence::from_leaf`] would refuse is never written: a log cannot take a leaf back.
    pub fn to_leaf(&self) -> Result<Vec<u8>, LeafError> {
        self.rules()?;
        // Most leaves fit, and need memory only once.
        let mut leaf = Writer(Vec::with_capacity(256));
        leaf.0.extend_from_slice(&PROLOGUE);
        leaf.bytes(tag::ID, self.id.bytes());
        leaf.bytes(tag::EVENT, &[self.event as u8]);
        self.reasons.iter().for_each(|reason| leaf.text(tag::REASON, reason.as_str()));
        leaf.text(tag::TOKEN, self.token.as_ref().map_or("", Code::as_str));
        leaf.time(tag::AT, Some(self.at));
        leaf.number(tag::CLOCK_UNCERTAINTY, self.clock_uncertainty_ms.into());
        leaf.member(tag::ISSUER, &self.issuer);
        leaf.bytes(tag::KEY_ID, &self.key_id.to_be_bytes());
        leaf.text(tag::AGREEMENT, self.agreement.as_deref().unwrap_or_default());
        leaf.number(tag::TABLE_VERSION, self.table_version);
        leaf.address(tag::FROM_CITY, Some(&self.from));
        leaf.address(tag::TO_CITY, self.to.as_ref());
        leaf.bytes(tag::MESSAGE_ID, self.message_id.bytes());
        leaf.bytes(tag::IN_REPLY_TO, self.in_reply_to.as_ref().map_or(&[], |id| id.bytes().as_slice()));
        leaf.bytes(tag::CASE_NO, self.case_no.as_ref().map_or(&[], CaseNo::as_bytes));
        leaf.bytes(tag::ITEM_CODE, self.item_code.as_ref().map_or(&[], ItemCode::as_bytes));
        leaf.bytes(tag::STEP, self.step.as_ref().map_or(&[], Step::as_bytes));
        leaf.digest(tag::HEADER_DIGEST, Some(&self.header_digest));
        leaf.number(tag::PARTS, self.parts);
        leaf.number(tag::TOTAL_SIZE, self.total_size);
        leaf.time(tag::SUBMITTED, self.instants.submitted);
        leaf.time(tag::ACCEPTED, self.instants.accepted);
        leaf.time(tag::RELAYED, self.instants.relayed);
        leaf.time(tag::CONSIGNED, self.instants.consigned);
        leaf.time(tag::ACKNOWLEDGED, self.instants.acknowledged);
        leaf.time(tag::EXPIRES_AT, self.expires_at);
        leaf.number(tag::ATTEMPTS, self.attempts);
        leaf.number(tag::LAST_STATUS, self.last_status);
        leaf.number(tag::ASSERTED_BY, self.asserted_by.map_or(0, |by| by as u64));
        leaf.digest(tag::PREVIOUS, self.previous.as_ref());
        if let Some(witnessed) = &self.witnessed {
            leaf.digest(tag::WITNESSED_LEAF, Some(&witnessed.leaf_hash));
            leaf.member(tag::WITNESSED_ISSUER, &witnessed.issuer);
            leaf.text(tag::WITNESSED_LOG, &witnessed.log_origin);
        }
        leaf.number(tag::MODE, self.mode.map_or(0, |mode| mode as u64));
        leaf.time(tag::NEXT_ATTEMPT_AT, self.next_attempt_at);
        self.extensions.iter().for_each(|(tag, value)| leaf.bytes(*tag, value));
        if leaf.0.len() > LEAF_BYTES_MAX { Err(LeafError::TooLong) } else { Ok(leaf.0) }
    }

    /// Reads a leaf. Strict: every byte must be what [`Evidence::to_leaf`] writes.
    pub fn from_leaf(bytes: &[u8]) -> Result<Evidence, LeafError> {
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(LeafError::TooLong);
        }
        let fields = Fields::read(bytes)?;
        let evidence = fields.evidence()?;
        if evidence.to_leaf()? == bytes { Ok(evidence) } else { Err(LeafError::NotCanonical) }
    }

    /// What holds between and within fields beyond their types, alike for writing and reading.
    fn rules(&self) -> Result<(), LeafError> {
        let ensure = |holds: bool, fault: LeafError| if holds { Ok(()) } else { Err(fault) };
        let plain =
            |text: &str, max: usize| (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        let origin = |text: &str| plain(text, LOG_ORIGIN_BYTES_MAX) && !text.contains('+');
        ensure(self.at > Time::ZERO, LeafError::Missing(tag::AT))?;
        ensure(!self.event.is_negative() || !self.reasons.is_empty(), LeafError::Missing(tag::REASON))?;
        ensure(self.reasons.len() <= REASONS_MAX, LeafError::Order(tag::REASON))?;
        ensure(
            self.agreement.as_ref().is_none_or(|text| plain(text, AGREEMENT_BYTES_MAX)),
            LeafError::Value(tag::AGREEMENT),
        )?;
        ensure(self.event != Event::Witnessed || self.witnessed.is_some(), LeafError::Missing(tag::WITNESSED_LEAF))?;
        ensure(
            self.witnessed.as_ref().is_none_or(|witnessed| origin(&witnessed.log_origin)),
            LeafError::Value(tag::WITNESSED_LOG),
        )?;
        ensure(self.event == Event::Delayed || self.next_attempt_at.is_none(), LeafError::Value(tag::NEXT_ATTEMPT_AT))?;
        let mut last = 0;
        for (tag, value) in &self.extensions {
            ensure(tag::EXTENSIONS.contains(tag), LeafError::Unknown(*tag))?;
            ensure(*tag > last && !value.is_empty(), LeafError::Order(*tag))?;
            ensure(value.len() <= 255, LeafError::Value(*tag))?;
            last = *tag;
        }
        Ok(())
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, tag: u8, value: &[u8]) {
        debug_assert!(value.len() <= 255, "the words' constructors and the rules bound every field");
        if !value.is_empty() {
            self.0.extend_from_slice(&[tag, value.len() as u8]);
            self.0.extend_from_slice(value);
        }
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.bytes(tag, text.as_bytes());
    }

    fn number(&mut self, tag: u8, number: u64) {
        let bytes = number.to_be_bytes();
        self.bytes(tag, &bytes[number.leading_zeros() as usize / 8..]);
    }

    fn time(&mut self, tag: u8, time: Option<Time>) {
        self.number(tag, time.map_or(0, Time::ms));
    }

    fn digest(&mut self, tag: u8, digest: Option<&Digest>) {
        if let Some(digest) = digest {
            let mut value = [SHA256; 33];
            value[1..].copy_from_slice(&digest.0);
            self.bytes(tag, &value);
        }
    }

    fn member(&mut self, tag: u8, member: &Member) {
        match member {
            Member::City(city) => self.bytes(tag, city.as_bytes()),
            Member::Hub(_) => self.text(tag, &member.to_string()),
        }
    }

    fn address(&mut self, city_tag: u8, address: Option<&Address>) {
        if let Some(address) = address {
            self.bytes(city_tag, address.city.as_bytes());
            self.text(city_tag + 1, address.system.as_ref().map_or("", Name::as_str));
        }
    }
}

/// A leaf's fields, by tag, before they get their types.
struct Fields<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Fields<'a>, LeafError> {
        let mut rest = bytes.strip_prefix(&PROLOGUE).ok_or(LeafError::Version)?;
        let mut fields: Vec<(u8, &[u8])> = Vec::new();
        while let [tag, length, tail @ ..] = rest {
            let (value, after) = tail.split_at_checked(*length as usize).ok_or(LeafError::Truncated)?;
            let before = fields.iter().filter(|(t, _)| t == tag).count();
            let repeats_at_most = if *tag == tag::REASON { REASONS_MAX } else { 1 };
            let ascending = fields.last().is_none_or(|(last, _)| last <= tag);
            if !ascending || before >= repeats_at_most || value.is_empty() {
                return Err(LeafError::Order(*tag));
            }
            if *tag == 0 || (*tag > tag::NEXT_ATTEMPT_AT && !tag::EXTENSIONS.contains(tag)) {
                return Err(LeafError::Unknown(*tag));
            }
            fields.push((*tag, value));
            rest = after;
        }
        if rest.is_empty() { Ok(Fields(fields)) } else { Err(LeafError::Truncated) }
    }

    fn evidence(&self) -> Result<Evidence, LeafError> {
        let evidence = Evidence {
            id: ReceiptId::from_bytes(self.need(tag::ID, array(self.get(tag::ID)))?),
            event: self.need(tag::EVENT, Some(self.small(tag::EVENT).and_then(Event::from_number)))?,
            reasons: self.reasons()?,
            token: self.parse(tag::TOKEN)?,
            at: self.time(tag::AT)?.ok_or(LeafError::Missing(tag::AT))?,
            clock_uncertainty_ms: u32::try_from(self.number(tag::CLOCK_UNCERTAINTY)?)
                .map_err(|_| LeafError::Value(tag::CLOCK_UNCERTAINTY))?,
            issuer: self.need(tag::ISSUER, Some(self.parse(tag::ISSUER)?))?,
            key_id: u32::from_be_bytes(self.need(tag::KEY_ID, array(self.get(tag::KEY_ID)))?),
            agreement: self.text(tag::AGREEMENT)?.map(str::to_owned),
            table_version: self.number(tag::TABLE_VERSION)?,
            from: self.address(tag::FROM_CITY)?.ok_or(LeafError::Missing(tag::FROM_CITY))?,
            to: self.address(tag::TO_CITY)?,
            message_id: MessageId::from_bytes(self.need(tag::MESSAGE_ID, array(self.get(tag::MESSAGE_ID)))?),
            in_reply_to: array(self.get(tag::IN_REPLY_TO))
                .map(|id| id.map(MessageId::from_bytes).ok_or(LeafError::Value(tag::IN_REPLY_TO)))
                .transpose()?,
            case_no: self.parse(tag::CASE_NO)?,
            item_code: self.parse(tag::ITEM_CODE)?,
            step: self.parse(tag::STEP)?,
            header_digest: self.digest(tag::HEADER_DIGEST)?.ok_or(LeafError::Missing(tag::HEADER_DIGEST))?,
            parts: self.number(tag::PARTS)?,
            total_size: self.number(tag::TOTAL_SIZE)?,
            instants: self.instants()?,
            expires_at: self.time(tag::EXPIRES_AT)?,
            attempts: self.number(tag::ATTEMPTS)?,
            last_status: self.number(tag::LAST_STATUS)?,
            asserted_by: self.asserted_by()?,
            previous: self.digest(tag::PREVIOUS)?,
            witnessed: self.witnessed()?,
            mode: self.mode()?,
            next_attempt_at: self.time(tag::NEXT_ATTEMPT_AT)?,
            extensions: self
                .0
                .iter()
                .filter(|(t, _)| tag::EXTENSIONS.contains(t))
                .map(|(t, v)| (*t, v.to_vec()))
                .collect(),
        };
        Ok(evidence)
    }

    fn get(&self, tag: u8) -> Option<&'a [u8]> {
        self.0.iter().find(|(t, _)| *t == tag).map(|(_, value)| *value)
    }

    /// A field that must be there: `None` is missing, `Some(None)` does not parse.
    fn need<T>(&self, tag: u8, value: Option<Option<T>>) -> Result<T, LeafError> {
        match value {
            _ if self.get(tag).is_none() => Err(LeafError::Missing(tag)),
            Some(Some(value)) => Ok(value),
            _ => Err(LeafError::Value(tag)),
        }
    }

    fn small(&self, tag: u8) -> Option<u8> {
        self.get(tag).and_then(|value| if let [number] = value { Some(*number) } else { None })
    }

    fn text(&self, tag: u8) -> Result<Option<&'a str>, LeafError> {
        self.get(tag).map(|value| std::str::from_utf8(value).map_err(|_| LeafError::Value(tag))).transpose()
    }

    fn parse<T: FromStr>(&self, tag: u8) -> Result<Option<T>, LeafError> {
        self.text(tag)?.map(|text| text.parse().map_err(|_| LeafError::Value(tag))).transpose()
    }

    fn number(&self, tag: u8) -> Result<u64, LeafError> {
        let value = self.get(tag).unwrap_or_default();
        if value.len() > 8 || value.first() == Some(&0) {
            return Err(LeafError::Value(tag));
        }
        Ok(value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn time(&self, tag: u8) -> Result<Option<Time>, LeafError> {
        Ok(Some(self.number(tag)?).filter(|ms| *ms > 0).map(Time::from_ms))
    }

    fn digest(&self, tag: u8) -> Result<Option<Digest>, LeafError> {
        match self.get(tag) {
            None => Ok(None),
            Some([SHA256, digest @ ..]) => Ok(Some(Digest(digest.try_into().map_err(|_| LeafError::Value(tag))?))),
            Some(_) => Err(LeafError::Value(tag)),
        }
    }

    fn address(&self, city_tag: u8) -> Result<Option<Address>, LeafError> {
        let system: Option<Name> = self.parse(city_tag + 1)?;
        match self.parse::<Division>(city_tag)? {
            Some(city) => Ok(Some(Address { city, system })),
            None if system.is_some() => Err(LeafError::Missing(city_tag)),
            None => Ok(None),
        }
    }

    fn reasons(&self) -> Result<Vec<Code>, LeafError> {
        let codes = self.0.iter().filter(|(t, _)| *t == tag::REASON).map(|(_, value)| {
            std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(LeafError::Value(tag::REASON))
        });
        codes.collect()
    }

    fn instants(&self) -> Result<Instants, LeafError> {
        Ok(Instants {
            submitted: self.time(tag::SUBMITTED)?,
            accepted: self.time(tag::ACCEPTED)?,
            relayed: self.time(tag::RELAYED)?,
            consigned: self.time(tag::CONSIGNED)?,
            acknowledged: self.time(tag::ACKNOWLEDGED)?,
        })
    }

    fn asserted_by(&self) -> Result<Option<AssertedBy>, LeafError> {
        let value = self.get(tag::ASSERTED_BY);
        let known = self.small(tag::ASSERTED_BY).and_then(AssertedBy::from_number);
        if value.is_some() && known.is_none() { Err(LeafError::Value(tag::ASSERTED_BY)) } else { Ok(known) }
    }

    fn mode(&self) -> Result<Option<Mode>, LeafError> {
        let value = self.get(tag::MODE);
        let known = self.small(tag::MODE).and_then(Mode::from_number);
        if value.is_some() && known.is_none() { Err(LeafError::Value(tag::MODE)) } else { Ok(known) }
    }

    fn witnessed(&self) -> Result<Option<Witnessed>, LeafError> {
        let leaf_hash = self.digest(tag::WITNESSED_LEAF)?;
        let issuer = self.parse(tag::WITNESSED_ISSUER)?;
        let log_origin = self.text(tag::WITNESSED_LOG)?.map(str::to_owned);
        match (leaf_hash, issuer, log_origin) {
            (Some(leaf_hash), Some(issuer), Some(log_origin)) => Ok(Some(Witnessed { leaf_hash, issuer, log_origin })),
            (None, None, None) => Ok(None),
            _ => Err(LeafError::Missing(tag::WITNESSED_LEAF)),
        }
    }
}

fn array<const N: usize>(value: Option<&[u8]>) -> Option<Option<[u8; N]>> {
    value.map(|bytes| bytes.try_into().ok())
}
