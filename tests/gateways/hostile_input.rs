//! Whatever a caller writes into a message, at either door: what is wrong is named at once, nothing of it is kept, and a
//! leaf is written only for a well-formed message refused by rule.

use std::time::Instant;

use crate::alliance::{self, Alliance, Client, Gateway, PATIENCE, check, envelope, new_id, part, reason};
use futures_util::future::join_all;
use tongban::clock::Clock;
use tongban::config::Config;
use tongban::evidence::Event;
use tongban::id::MessageId;
use tongban::limits::{CLOCK_AHEAD_MS_MAX, ID_WINDOW_MS, REJECTION_LEAVES_PER_S};
use tongban::reason::Reason;
use tongban::receipt::Receipt;
use tongban::time::Time;
use tongban::wire::envelope::time_to_wire;
use tongban::wire::pb::exchange as pb;
use tongban::wire::status::{Answered, from_status, from_wire};
use tonic::Streaming;

const WINDOW: (&str, &str) = ("450200", "window");
const ARCHIVE: (&str, &str) = ("450200", "archive");
const FOSHAN: (&str, &str) = ("440600", "approval");
const ID: &str = "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f";

fn two_cities() -> Alliance {
    Alliance::new(&[("450200", &["window", "archive"]), ("440600", &["approval", "window"])])
}

fn good() -> pb::Envelope {
    envelope(WINDOW, ARCHIVE)
}

type Spoil = fn(&mut pb::Envelope);
type Write = fn(&mut pb::Envelope, String);

/// What is wrong with a message, how a good one is spoilt so, and the fields that the answer names, in this order.
const FAULTS: &[(&str, Spoil, &[&str])] = &[
    (
        "an empty envelope",
        |e| *e = pb::Envelope::default(),
        &["envelope.message_id", "envelope.from.city", "envelope.item_code", "envelope.created_at"],
    ),
    // Ids.
    ("no message id", |e| e.message_id.clear(), &["envelope.message_id"]),
    ("an id in capitals", |e| e.message_id = ID.to_uppercase(), &["envelope.message_id"]),
    ("an id in braces", |e| e.message_id = format!("{{{ID}}}"), &["envelope.message_id"]),
    ("an id without hyphens", |e| e.message_id = ID.replace('-', ""), &["envelope.message_id"]),
    ("an id as a URN", |e| e.message_id = format!("urn:uuid:{ID}"), &["envelope.message_id"]),
    ("an id with a space behind it", |e| e.message_id = format!("{ID} "), &["envelope.message_id"]),
    ("an id of 64 KiB", |e| e.message_id = "a".repeat(64 << 10), &["envelope.message_id"]),
    ("an id that is a number", |e| e.message_id = "1".into(), &["envelope.message_id"]),
    ("a redriven id in capitals", |e| e.redrive_of = ID.to_uppercase(), &["envelope.redrive_of"]),
    ("an answered id in braces", |e| e.in_reply_to = format!("{{{ID}}}"), &["envelope.in_reply_to"]),
    // Addresses.
    ("no sender", |e| e.from = None, &["envelope.from.city"]),
    ("a sender without a word", |e| e.from = Some(pb::Address::default()), &["envelope.from.city"]),
    ("a sender without a city", |e| from(e).city.clear(), &["envelope.from.city"]),
    ("a city of five digits", |e| from(e).city = "45020".into(), &["envelope.from.city"]),
    ("a city of thirteen digits", |e| from(e).city = "4502000000000".into(), &["envelope.from.city"]),
    ("a city in wide digits", |e| from(e).city = "４５０２００".into(), &["envelope.from.city"]),
    ("a city in Arabic digits", |e| to(e).city = "٤٥٠٢٠٠".into(), &["envelope.to.city"]),
    ("a city by name", |e| to(e).city = "柳州".into(), &["envelope.to.city"]),
    ("a city with a sign", |e| to(e).city = "+45020".into(), &["envelope.to.city"]),
    ("a recipient without a city", |e| to(e).city.clear(), &["envelope.to.city"]),
    ("a sender's system of 33 bytes", |e| from(e).system = "a".repeat(33), &["envelope.from.system"]),
    ("a system that is a path", |e| to(e).system = "../archive".into(), &["envelope.to.system"]),
    ("a system called ..", |e| to(e).system = "..".into(), &["envelope.to.system"]),
    ("a jurisdiction by name", |e| e.jurisdiction = "广西".into(), &["envelope.jurisdiction"]),
    // What the case is.
    ("no item", |e| e.item_code.clear(), &["envelope.item_code"]),
    ("an item of 41 bytes", |e| e.item_code = "1".repeat(41), &["envelope.item_code"]),
    ("an item with a space", |e| e.item_code = "11 44".into(), &["envelope.item_code"]),
    ("an item pattern", |e| e.item_code = "1144*".into(), &["envelope.item_code"]),
    ("a case number of 65 bytes", |e| e.case_no = "9".repeat(65), &["envelope.case_no"]),
    ("a case number of spaces", |e| e.case_no = "   ".into(), &["envelope.case_no"]),
    ("a step in capitals", |e| e.step = "Apply".into(), &["envelope.step"]),
    ("a step of 25 bytes", |e| e.step = "a".repeat(25), &["envelope.step"]),
    ("a mode that nobody knows", |e| e.mode = 99, &["envelope.mode"]),
    ("a negative mode", |e| e.mode = -1, &["envelope.mode"]),
    // Parts.
    ("65 parts", |e| e.parts = vec![part("a", b""); 65], &["envelope.parts"]),
    ("one byte too much inline", |e| e.parts = vec![part("a", &vec![0; (1 << 20) + 1])], &["envelope.parts"]),
    ("too much inline over two parts", |e| e.parts = vec![part("a", &vec![0; (1 << 19) + 1]); 2], &["envelope.parts"]),
    ("a part without a name", |e| e.parts[0].name.clear(), &["envelope.parts[0].name"]),
    ("a part with a long name", |e| e.parts[0].name = "a".repeat(256), &["envelope.parts[0].name"]),
    ("a part that climbs", |e| e.parts[0].name = "../../etc/passwd".into(), &["envelope.parts[0].name"]),
    ("a part that is a path", |e| e.parts[0].name = "a/b".into(), &["envelope.parts[0].name"]),
    ("a part that is a path elsewhere", |e| e.parts[0].name = "C:\\a".into(), &["envelope.parts[0].name"]),
    ("a part called .", |e| e.parts[0].name = ".".into(), &["envelope.parts[0].name"]),
    ("a part called ..", |e| e.parts[0].name = "..".into(), &["envelope.parts[0].name"]),
    ("no media type", |e| e.parts[0].media_type.clear(), &["envelope.parts[0].media_type"]),
    ("half a media type", |e| e.parts[0].media_type = "pdf".into(), &["envelope.parts[0].media_type"]),
    ("a long media type", |e| e.parts[0].media_type = long_media_type(128), &["envelope.parts[0].media_type"]),
    ("no salt", |e| e.parts[0].salt.clear(), &["envelope.parts[0].salt"]),
    ("a salt of 15 bytes", |e| e.parts[0].salt.truncate(15), &["envelope.parts[0].salt"]),
    ("a salt of 17 bytes", |e| e.parts[0].salt.push(7), &["envelope.parts[0].salt"]),
    ("another salt", |e| e.parts[0].salt = vec![8; 16], &["envelope.parts[0].digest.value"]),
    ("no digest", |e| e.parts[0].digest = None, &["envelope.parts[0].digest"]),
    ("no algorithm", |e| digest(e).algorithm.clear(), &["envelope.parts[0].digest.algorithm"]),
    ("a weak algorithm", |e| digest(e).algorithm = "md5".into(), &["envelope.parts[0].digest.algorithm"]),
    ("an algorithm in capitals", |e| digest(e).algorithm = "SHA256".into(), &["envelope.parts[0].digest.algorithm"]),
    ("a digest of 31 bytes", |e| digest(e).value.truncate(31), &["envelope.parts[0].digest.value"]),
    ("a digest of 33 bytes", |e| digest(e).value.push(0), &["envelope.parts[0].digest.value"]),
    ("a wrong digest", |e| digest(e).value[31] ^= 1, &["envelope.parts[0].digest.value"]),
    ("the neighbour's digest", swap_digests, &["envelope.parts[0].digest.value", "envelope.parts[1].digest.value"]),
    ("a size too large", |e| e.parts[0].size += 1, &["envelope.parts[0].size"]),
    ("a size too small", |e| e.parts[0].size -= 1, &["envelope.parts[0].size"]),
    ("a size that overflows", |e| e.parts[0].size = u64::MAX, &["envelope.parts[0].size"]),
    ("no content", |e| e.parts[0].content = None, &["envelope.parts[0].size"]),
    // Attributes.
    ("33 attributes", |e| (0..33).for_each(|n| attribute(e, &format!("k{n}"), "v")), &["envelope.attributes"]),
    ("an attribute without a key", |e| attribute(e, "", "v"), &["envelope.attributes"]),
    ("an attribute with a long key", |e| attribute(e, &"k".repeat(65), "v"), &["envelope.attributes"]),
    ("an attribute with a key in capitals", |e| attribute(e, "K", "v"), &["envelope.attributes"]),
    ("an attribute with a long value", |e| attribute(e, "k", &"v".repeat(1025)), &["envelope.attributes[k]"]),
    // Moments that are none.
    ("no moment of creation", |e| e.created_at = None, &["envelope.created_at"]),
    ("a moment before 1970", |e| e.created_at = moment(-1, 0), &["envelope.created_at"]),
    ("a moment after 9999", |e| e.created_at = moment(253_402_300_800, 0), &["envelope.created_at"]),
    ("a second of negative nanoseconds", |e| e.created_at = moment(1, -1), &["envelope.created_at"]),
    ("a second of a thousand million", |e| e.created_at = moment(1, 1_000_000_000), &["envelope.created_at"]),
    ("an end before all time", |e| e.expires_at = moment(i64::MIN, 0), &["envelope.expires_at"]),
    ("an end after all time", |e| e.expires_at = moment(i64::MAX, i32::MAX), &["envelope.expires_at"]),
    ("a long traceparent", |e| e.traceparent = "0".repeat(129), &["envelope.traceparent"]),
    (
        "nearly everything",
        spoil_nearly_everything,
        &[
            "envelope.message_id",
            "envelope.from.city",
            "envelope.to.system",
            "envelope.jurisdiction",
            "envelope.redrive_of",
            "envelope.item_code",
            "envelope.case_no",
            "envelope.step",
            "envelope.mode",
            "envelope.in_reply_to",
            "envelope.parts[0].name",
            "envelope.parts[1].media_type",
            "envelope.parts[1].salt",
            "envelope.attributes[k]",
            "envelope.created_at",
            "envelope.expires_at",
            "envelope.traceparent",
        ],
    ),
];

fn from(e: &mut pb::Envelope) -> &mut pb::Address {
    e.from.as_mut().unwrap()
}

fn to(e: &mut pb::Envelope) -> &mut pb::Address {
    e.to.as_mut().unwrap()
}

fn digest(e: &mut pb::Envelope) -> &mut pb::Digest {
    e.parts[0].digest.as_mut().unwrap()
}

fn attribute(e: &mut pb::Envelope, key: &str, value: &str) {
    e.attributes.insert(key.to_owned(), value.to_owned());
}

fn moment(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos })
}

fn long_media_type(length: usize) -> String {
    format!("application/{}", "x".repeat(length - "application/".len()))
}

fn swap_digests(e: &mut pb::Envelope) {
    e.parts = vec![part("a", b"one"), part("b", b"two")];
    let first = e.parts[0].digest.take();
    e.parts[0].digest = e.parts[1].digest.take();
    e.parts[1].digest = first;
}

fn spoil_nearly_everything(e: &mut pb::Envelope) {
    e.message_id.make_ascii_uppercase();
    e.message_id.push('!');
    from(e).city = "x".into();
    to(e).system = "/".into();
    e.jurisdiction = "x".into();
    e.redrive_of = "x".into();
    e.item_code = "!".into();
    e.case_no = "\n".into();
    e.step = "X".into();
    e.mode = 4;
    e.in_reply_to = "x".into();
    e.parts = vec![part("/", b""), part("b", b"")];
    e.parts[1].media_type = "x".into();
    e.parts[1].salt.clear();
    attribute(e, "k", "\u{7}");
    e.created_at = moment(-1, 0);
    e.expires_at = moment(-1, 0);
    e.traceparent = "\n".into();
}

/// Every field of a message that is text.
const TEXTS: &[(&str, Write)] = &[
    ("envelope.message_id", |e, text| e.message_id = text),
    ("envelope.from.city", |e, text| from(e).city = text),
    ("envelope.from.system", |e, text| from(e).system = text),
    ("envelope.to.city", |e, text| to(e).city = text),
    ("envelope.to.system", |e, text| to(e).system = text),
    ("envelope.jurisdiction", |e, text| e.jurisdiction = text),
    ("envelope.redrive_of", |e, text| e.redrive_of = text),
    ("envelope.item_code", |e, text| e.item_code = text),
    ("envelope.case_no", |e, text| e.case_no = text),
    ("envelope.step", |e, text| e.step = text),
    ("envelope.in_reply_to", |e, text| e.in_reply_to = text),
    ("envelope.parts[0].name", |e, text| e.parts[0].name = text),
    ("envelope.parts[0].media_type", |e, text| e.parts[0].media_type = format!("text/plain; {text}")),
    ("envelope.parts[0].digest.algorithm", |e, text| digest(e).algorithm = format!("sha256{text}")),
    ("envelope.attributes", |e, text| attribute(e, &text, "v")),
    ("envelope.attributes[k]", |e, text| attribute(e, "k", &text)),
    ("envelope.traceparent", |e, text| e.traceparent = text),
];

/// Characters that end a line, move the cursor, turn the direction of writing, or are not seen.
const HIDDEN: &[&str] = &[
    "\0",
    "\n",
    "\r\n",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    "\u{ad}",
    "\u{200b}",
    "\u{200f}",
    "\u{2028}",
    "\u{202e}",
    "\u{2066}",
    "\u{feff}",
    "\u{3164}",
    "\u{e0041}",
];

/// A well-formed message that a rule refuses, the reason, and whether the refusal leaves a leaf.
const RULES: &[(&str, Spoil, Reason, bool)] = &[
    ("ahead of our clock", |e| e.created_at = after(CLOCK_AHEAD_MS_MAX + 60_000), Reason::ClockAhead, false),
    ("written in the year 9999", |e| e.created_at = moment(253_402_300_799, 999_999_999), Reason::ClockAhead, false),
    ("older than ids are remembered", |e| e.created_at = before(ID_WINDOW_MS + 1_000), Reason::IdTooOld, false),
    ("written in 1970", |e| e.created_at = moment(0, 0), Reason::IdTooOld, false),
    ("past its end", |e| e.expires_at = before(1), Reason::MessageExpired, true),
    ("past its end since 1970", |e| e.expires_at = moment(0, 0), Reason::MessageExpired, true),
    ("for a city that is no member", |e| to(e).city = "350200".into(), Reason::NoRoute, true),
    ("for a system that we have not", |e| to(e).system = "nobody".into(), Reason::NoSuchSystem, true),
    ("for whoever takes it", |e| e.to = None, Reason::NoMatchingItem, true),
    ("for nobody in particular", |e| e.to = Some(pb::Address::default()), Reason::NoMatchingItem, true),
];

fn after(ms: u64) -> Option<prost_types::Timestamp> {
    Some(time_to_wire(Clock::default().now().plus_ms(ms)))
}

fn before(ms: u64) -> Option<prost_types::Timestamp> {
    Some(time_to_wire(Clock::default().now().minus_ms(ms)))
}

/// Whose certificate calls our gateway, as whom, and the reason why not.
const IDENTITIES: &[(&str, (&str, &str), Reason)] = &[
    ("450200/systems/window", ("440600", "approval"), Reason::NotPermitted),
    ("450200/systems/window", ("440600", "window"), Reason::NotPermitted),
    ("450200/systems/window", ("450200", "archive"), Reason::NotPermitted),
    ("450200/systems/window", ("450200", "Window"), Reason::NotPermitted),
    ("450200/systems/window", ("450200", ""), Reason::NotPermitted),
    ("440600/systems/window", ("450200", "window"), Reason::NotPermitted),
    ("440600/systems/window", ("440600", "window"), Reason::NotPermitted),
    ("440600/systems/approval", ("440600", "approval"), Reason::NotPermitted),
    ("440600/gateway", ("450200", "window"), Reason::NotPermitted),
    ("440600/gateway", ("640100", "window"), Reason::NotPermitted),
    ("440600/gateway", ("440600", "approval"), Reason::OriginReceiptMissing),
    ("450200/gateway", ("450200", "window"), Reason::OriginReceiptMissing),
    ("450200/gateway", ("440600", "approval"), Reason::NotPermitted),
    ("450200/ops/li.wei", ("450200", "window"), Reason::NotPermitted),
    ("450200/ops/li.wei", ("450200", "li.wei"), Reason::NotPermitted),
    ("450200/auditors/wang", ("450200", "wang"), Reason::NotPermitted),
];

/// A submitting stream, one step at a time.
struct Stream {
    up: tokio::sync::mpsc::Sender<pb::SubmitStreamRequest>,
    down: Streaming<pb::SubmitStreamResponse>,
}

impl Stream {
    async fn open(client: &Client) -> Stream {
        let (up, steps) = tokio::sync::mpsc::channel(16);
        let steps = tokio_stream::wrappers::ReceiverStream::new(steps);
        let down = client.exchange.clone().submit_stream(steps).await.unwrap().into_inner();
        Stream { up, down }
    }

    async fn submit(
        &mut self,
        envelope: Option<pb::Envelope>,
    ) -> Result<tongban::wire::pb::evidence::Receipt, Answered> {
        let id = envelope.as_ref().map(|envelope| envelope.message_id.clone()).unwrap_or_default();
        let submit = pb::SubmitRequest { envelope, origin_receipt: None, via: vec![] };
        let request = Some(pb::submit_stream_request::Request::Submit(submit));
        self.up.send(pb::SubmitStreamRequest { request }).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("an answer in time");
        let answer = answer.unwrap().expect("the stream goes on");
        assert_eq!(answer.id, id[..id.len().min(64)], "answered under its own id, which is cut when it is none");
        match answer.response.unwrap() {
            pb::submit_stream_response::Response::Receipt(receipt) => Ok(receipt),
            pb::submit_stream_response::Response::Status(status) => Err(from_wire(&status)),
            other => panic!("{other:?}"),
        }
    }
}

/// What a stopped gateway kept: leaves, messages, lanes that hold something.
fn kept(config: &Config) -> (u64, u64, usize) {
    let (writer, readers) = alliance::open_store(config);
    let lanes = readers.look(|look| look.busy_lanes()).unwrap().len();
    (writer.tree().unwrap().0.size(), writer.last_seq().unwrap(), lanes)
}

/// What every refusal has, whatever its reason.
fn well_told(answered: &Answered, expected: Reason) -> Result<(), String> {
    let locales: Vec<&str> = answered.localized.iter().map(|(locale, _)| locale.as_str()).collect();
    match () {
        () if answered.reason.as_deref() != Some(expected.code()) => {
            Err(format!("the reason is {:?}", answered.reason))
        }
        () if answered.code as i32 != expected.answer() as i32 => Err(format!("the status is {:?}", answered.code)),
        () if locales != ["zh-CN", "en"] => Err(format!("told in {locales:?}")),
        () if answered.retry_after_ms.is_some() => Err("says that the same may come again".to_owned()),
        () => Ok(()),
    }
}

fn faulty(answered: &Answered, fields: &[&str]) -> Result<(), String> {
    well_told(answered, Reason::InvalidEnvelope)?;
    let named: Vec<&str> = answered.faults.iter().map(|fault| fault.field.as_str()).collect();
    match () {
        () if named != fields => Err(format!("named {named:?}")),
        () if answered.receipt.is_some() => Err("it left a leaf".to_owned()),
        () if answered.faults.iter().any(|fault| fault.must.is_empty()) => Err("a field without its rule".to_owned()),
        () => Ok(()),
    }
}

fn refused_by_rule(answered: &Answered, expected: Reason, leaf: bool) -> Result<(), String> {
    well_told(answered, expected)?;
    match () {
        () if answered.receipt.is_some() != leaf => Err(format!("receipt: {:?}", answered.receipt)),
        () if !answered.faults.is_empty() => Err(format!("faults: {:?}", answered.faults)),
        () => Ok(()),
    }
}

fn report(rows: usize, wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong answers in {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
}

async fn is_unknown(client: &Client, id: &str) -> bool {
    let asked = client.message("", id).await;
    asked.is_err_and(|status| reason(&status) == "MESSAGE_NOT_FOUND")
}

async fn start() -> (Alliance, Gateway, Client) {
    let alliance = two_cities();
    let gateway = alliance.start("450200").await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    (alliance, gateway, window)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_faulty_field_is_named_at_both_doors_and_nothing_is_kept() {
    let (alliance, gateway, window) = start().await;
    let mut stream = Stream::open(&window).await;
    let (mut wrong, mut ids) = (vec![], vec![]);
    for (what, spoil, fields) in FAULTS {
        let mut envelope = good();
        spoil(&mut envelope);
        ids.push(envelope.message_id.clone());
        let unary = window.submit(envelope.clone()).await.map_err(|status| from_status(&status));
        let streamed = stream.submit(Some(envelope)).await;
        for (door, answer) in [("Submit", unary), ("SubmitStream", streamed)] {
            let answered = answer.err().ok_or_else(|| "it was accepted".to_owned());
            if let Err(why) = answered.and_then(|answered| faulty(&answered, fields)) {
                wrong.push(format!("{what}, {door}: {why}"));
            }
        }
    }
    report(FAULTS.len(), &wrong);
    let nothing = pb::SubmitRequest::default();
    let nothing = from_status(&window.exchange.clone().submit(nothing).await.unwrap_err());
    assert_eq!(faulty(&nothing, FAULTS[0].2), Ok(()), "a request without an envelope");
    assert_eq!(faulty(&stream.submit(None).await.unwrap_err(), FAULTS[0].2), Ok(()));
    let ids: Vec<_> = ids.into_iter().filter(|id| id.parse::<MessageId>().is_ok()).collect();
    assert!(ids.len() > 50);
    for id in ids {
        assert!(is_unknown(&window, &id).await, "{id} is known");
    }
    let config = alliance.config("450200");
    gateway.stop().await;
    assert_eq!(kept(&config), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_would_not_see_is_refused_in_every_text() {
    let (alliance, gateway, window) = start().await;
    let mut stream = Stream::open(&window).await;
    let mut wrong = vec![];
    for (field, write) in TEXTS {
        for hidden in HIDDEN {
            let mut envelope = good();
            write(&mut envelope, format!("1{hidden}2"));
            let answered = stream.submit(Some(envelope)).await.err().ok_or_else(|| "it was accepted".to_owned());
            let answered = answered.and_then(|answered| {
                faulty(&answered, &[field])?;
                let told = answered.faults.iter().any(|fault| fault.must.contains(hidden));
                if told || answered.text.contains(hidden) { Err("it stands in the answer".to_owned()) } else { Ok(()) }
            });
            wrong.extend(answered.err().map(|why| format!("{hidden:?} in {field}: {why}")));
        }
    }
    report(TEXTS.len() * HIDDEN.len(), &wrong);
    let config = alliance.config("450200");
    gateway.stop().await;
    assert_eq!(kept(&config), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_rule_leaves_one_leaf_where_it_may_and_keeps_nothing_else() {
    let (alliance, gateway, window) = start().await;
    let mut stream = Stream::open(&alliance.client(ARCHIVE.0, ARCHIVE.1)).await;
    let (mut wrong, mut receipts) = (vec![], vec![]);
    for (what, spoil, expected, leaf) in RULES {
        let (mut unary, mut streamed) = (good(), envelope(ARCHIVE, WINDOW));
        spoil(&mut unary);
        spoil(&mut streamed);
        let answers = [
            ("Submit", unary.clone(), window.submit(unary).await.map_err(|status| from_status(&status))),
            ("SubmitStream", streamed.clone(), stream.submit(Some(streamed)).await),
        ];
        for (door, envelope, answer) in answers {
            let Err(answered) = answer else { panic!("{what}, {door}: accepted") };
            wrong
                .extend(refused_by_rule(&answered, *expected, *leaf).err().map(|why| format!("{what}, {door}: {why}")));
            assert!(is_unknown(&window, &envelope.message_id).await, "{what}: it is known");
            receipts.extend(answered.receipt.map(|receipt| (envelope, *expected, receipt)));
        }
    }
    report(RULES.len(), &wrong);
    let leaves = 2 * RULES.iter().filter(|(_, _, _, leaf)| *leaf).count();
    assert_eq!(receipts.len(), leaves);
    for (envelope, expected, receipt) in receipts {
        speaks_of(&alliance, envelope, expected, receipt);
    }
    let config = alliance.config("450200");
    gateway.stop().await;
    assert_eq!(kept(&config), (leaves as u64, 0, 0));
}

/// A rejection receipt holds, and names the message and the reason.
fn speaks_of(alliance: &Alliance, envelope: pb::Envelope, expected: Reason, receipt: Receipt) {
    let evidence = alliance.checker().check(receipt).expect("the receipt holds").evidence;
    let envelope = tongban::wire::envelope::parse(envelope).unwrap();
    assert_eq!(evidence.event, Event::SubmissionRejected);
    assert_eq!(evidence.reasons.iter().map(|code| code.as_str()).collect::<Vec<_>>(), [expected.code()]);
    assert_eq!((evidence.message_id, &evidence.from, &evidence.to), (envelope.id, &envelope.from, &envelope.to));
    assert_eq!(evidence.header_digest, envelope.header_digest());
    assert_eq!(evidence.instants.accepted, None, "it never was accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_bind_the_id() {
    let (_alliance, gateway, window) = start().await;
    let late = pb::Envelope { expires_at: before(1), ..good() };
    assert_eq!(reason(&window.submit(late.clone()).await.unwrap_err()), "MESSAGE_EXPIRED");
    let again = pb::Envelope { expires_at: after(60_000), ..late };
    window.submit(again.clone()).await.expect("the same id, with an end to come");
    assert_eq!(window.message("", &again.message_id).await.unwrap().envelope.unwrap().expires_at, again.expires_at);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_submits_in_anothers_name() {
    let alliance = two_cities();
    alliance.run(&["pki", "add-ops", "450200", "li.wei"], &["--dir", &alliance.pki()]);
    alliance.run(&["pki", "add-auditor", "450200", "wang"], &["--dir", &alliance.pki()]);
    let gateway = alliance.start("450200").await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    let mut wrong = vec![];
    for (certificate, sender, expected) in IDENTITIES {
        let caller = alliance.client_of(certificate, "450200");
        let mut stream = Stream::open(&caller).await;
        for recipient in [ARCHIVE, FOSHAN] {
            let envelope = envelope(*sender, recipient);
            let unary = caller.submit(envelope.clone()).await.map_err(|status| from_status(&status));
            let streamed = stream.submit(Some(envelope.clone())).await;
            for answer in [unary, streamed] {
                let answered = answer.err().ok_or_else(|| "accepted".to_owned());
                let answered = answered.and_then(|answered| refused_by_rule(&answered, *expected, false));
                wrong.extend(answered.err().map(|why| format!("{certificate} as {sender:?} to {recipient:?}: {why}")));
            }
            assert!(is_unknown(&window, &envelope.message_id).await);
        }
    }
    report(IDENTITIES.len(), &wrong);
    let config = alliance.config("450200");
    gateway.stop().await;
    assert_eq!(kept(&config), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_grant_covers_is_refused_without_a_leaf() {
    let alliance = two_cities();
    let path = alliance.config_path("450200");
    let text = std::fs::read_to_string(&path).unwrap();
    let (rest, _) = text.split_once("[[grant]]").unwrap();
    let grant = "[[grant]]\nwho = \"every-system\"\nitems = [\"1144*\"]\ndivisions = [\"4502*\"]\n";
    std::fs::write(&path, format!("{rest}{grant}")).unwrap();
    let config = alliance.config("450200");
    let gateway = alliance.start_with(&config).await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    for spoil in
        [|e: &mut pb::Envelope| e.item_code = "2250".into(), |e: &mut pb::Envelope| to(e).city = FOSHAN.0.into()]
    {
        let mut envelope = pb::Envelope { item_code: "1144".into(), ..good() };
        spoil(&mut envelope);
        let answered = from_status(&window.submit(envelope.clone()).await.unwrap_err());
        assert_eq!(refused_by_rule(&answered, Reason::NotPermitted, false), Ok(()));
        assert!(is_unknown(&window, &envelope.message_id).await);
    }
    window.submit(pb::Envelope { item_code: "1144".into(), ..good() }).await.expect("what the grant covers");
    gateway.stop().await;
    assert_eq!(kept(&config).1, 1);
}

/// Submits all at once; tells how many refusals have a receipt and how many may have.
async fn refusals(client: &Client, envelopes: Vec<pb::Envelope>, expected: Reason) -> (usize, usize) {
    let began = Instant::now();
    let answers = join_all(envelopes.into_iter().map(|envelope| client.submit(envelope))).await;
    let most = REJECTION_LEAVES_PER_S as usize * (2 + began.elapsed().as_secs() as usize);
    let answers: Vec<_> = answers.into_iter().map(|answer| from_status(&answer.unwrap_err())).collect();
    assert!(answers.iter().all(|answered| well_told(answered, expected).is_ok()), "the same reason, with or without");
    (answers.iter().filter(|answered| answered.receipt.is_some()).count(), most)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_gets_at_most_its_ration_of_rejection_leaves() {
    let (alliance, gateway, window) = start().await;
    let archive = alliance.client(ARCHIVE.0, ARCHIVE.1);
    let nowhere = (0..300).map(|_| envelope(WINDOW, ("350200", "")));
    let (with_leaf, most) = refusals(&window, nowhere.collect(), Reason::NoRoute).await;
    assert!((10..=most).contains(&with_leaf), "{with_leaf} of 300 left a leaf, {most} may");
    // Another identity has a ration of its own, and a conflict counts like any other refusal.
    let first = envelope(ARCHIVE, WINDOW);
    archive.submit(first.clone()).await.unwrap();
    let conflict = |n: u32| pb::Envelope { parts: vec![part("a", &n.to_be_bytes())], ..first.clone() };
    let (of_conflicts, most) = refusals(&archive, (0..300).map(conflict).collect(), Reason::IdempotencyConflict).await;
    assert!((10..=most).contains(&of_conflicts), "{of_conflicts} of 300 left a leaf, {most} may");
    let config = alliance.config("450200");
    gateway.stop().await;
    let of_the_accepted = 2;
    assert_eq!(kept(&config), ((with_leaf + of_conflicts) as u64 + of_the_accepted, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_from_another_city_is_another_message() {
    let alliance = two_cities();
    let (liuzhou, foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let (window, approval) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(FOSHAN.0, FOSHAN.1));
    let ours = envelope(WINDOW, ARCHIVE);
    window.submit(ours.clone()).await.unwrap();
    // It comes over the line between the gateways, and both stand in the same store.
    let theirs = pb::Envelope { message_id: ours.message_id.clone(), ..envelope(FOSHAN, ARCHIVE) };
    approval.submit(theirs.clone()).await.unwrap();
    let mut mailbox = alliance.client(ARCHIVE.0, ARCHIVE.1).receive(1).await;
    let mut senders = vec![];
    for _ in 0..2 {
        let (delivery, message) = mailbox.delivery().await;
        senders.push(message.envelope.unwrap().from.unwrap().city);
        mailbox.acknowledge(&delivery.delivery_id).await;
        mailbox.settled().await;
        mailbox.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
    }
    senders.sort();
    assert_eq!(senders, ["440600", "450200"]);
    liuzhou.stop().await;
    foshan.stop().await;
}

/// A message as large as the rules allow, in every field.
fn largest() -> pb::Envelope {
    let mut largest = pb::Envelope {
        jurisdiction: "450200000000".into(),
        redrive_of: ID.into(),
        item_code: "1".repeat(40),
        case_no: "9".repeat(64),
        step: "a".repeat(24),
        mode: 3,
        in_reply_to: ID.into(),
        parts: (0..64).map(|n| part(&format!("{n:0255}"), &[n; 16 << 10])).collect(),
        created_at: after(CLOCK_AHEAD_MS_MAX - 60_000),
        expires_at: moment(253_402_300_799, 999_999_999),
        traceparent: "0".repeat(128),
        ..good()
    };
    largest.parts.iter_mut().for_each(|part| part.media_type = long_media_type(127));
    (0..32).for_each(|n| attribute(&mut largest, &format!("{n:064}"), &"v".repeat(1024)));
    largest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_at_every_limit_is_accepted_delivered_and_refused_with_evidence() {
    let (alliance, gateway, window) = start().await;
    let largest = largest();
    let receipt = window.submit(largest.clone()).await.expect("what the rules allow");
    let own = tongban::wire::envelope::parse(largest.clone()).unwrap();
    assert_eq!(check(&mut alliance.checker(), receipt).evidence.header_digest, own.header_digest());
    let mut mailbox = alliance.client(ARCHIVE.0, ARCHIVE.1).receive(1).await;
    let (delivery, message) = mailbox.delivery().await;
    assert_eq!(message.envelope, Some(largest.clone()));
    let refuse = pb::Refuse { code: "A".repeat(32), text: "说".repeat(341), receipt: None };
    mailbox.give(&delivery.delivery_id, pb::outcome::Outcome::Refuse(refuse)).await;
    let refused = check(&mut alliance.checker(), mailbox.settled().await.receipt.unwrap());
    assert_eq!(refused.evidence.event, Event::HandoverFailed);
    let conflict = window.submit(pb::Envelope { traceparent: String::new(), step: "b".repeat(24), ..largest }).await;
    assert!(from_status(&conflict.unwrap_err()).receipt.is_some(), "room for a refusal too");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waited_past_its_end_keeps_its_receipt() {
    let (_alliance, gateway, window) = start().await;
    let soon = Clock::default().now().plus_ms(400);
    let sent = pb::Envelope { expires_at: Some(time_to_wire(soon)), ..good() };
    let receipt = window.submit(sent.clone()).await.unwrap();
    let passed = async {
        while Clock::default().now() <= soon {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, passed).await.unwrap();
    assert_eq!(window.submit(sent).await.unwrap(), receipt, "known before is answered as before");
    let late = pb::Envelope { expires_at: Some(time_to_wire(Time::from_ms(soon.ms()))), ..good() };
    assert_eq!(reason(&window.submit(late).await.unwrap_err()), "MESSAGE_EXPIRED");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_with_bad_words_names_them() {
    let (_alliance, gateway, window) = start().await;
    let upper = ID.to_uppercase();
    let rows: &[(&str, &str, &[&str])] = &[
        ("", "", &["message_id"]),
        ("", &upper, &["message_id"]),
        ("", "{}", &["message_id"]),
        ("45020", ID, &["from_city"]),
        ("柳州", ID, &["from_city"]),
        ("450200\n", ID, &["from_city"]),
        ("x", "x", &["from_city", "message_id"]),
        ("x", "", &["from_city", "message_id"]),
    ];
    for (city, id, fields) in rows {
        let asked = tongban::wire::pb::evidence::GetMessageEvidenceRequest {
            from_city: (*city).to_owned(),
            message_id: (*id).to_owned(),
            sealed: false,
        };
        let evidence = window.evidence.clone().get_message_evidence(asked).await.unwrap_err();
        for status in [window.message(city, id).await.unwrap_err(), evidence] {
            assert_eq!(faulty(&from_status(&status), fields), Ok(()), "{city:?} {id:?}");
        }
    }
    for city in ["", "450200", "440600", "999999999999"] {
        assert_eq!(reason(&window.message(city, &new_id()).await.unwrap_err()), "MESSAGE_NOT_FOUND");
    }
    gateway.stop().await;
}
