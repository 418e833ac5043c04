//! Decides whether the published vectors (docs/receipts.md, made by tests/python/vectors.py from that page alone) are what
//! the words compute, byte for byte. Never makes a vector itself.

use proptest::prelude::*;
use serde_json::Value;
use tongban::evidence::{AssertedBy, Code, Event, Evidence, Instants, LeafError, Witnessed};
use tongban::id::{MessageId, ReceiptId};
use tongban::limits::LEAF_BYTES_MAX;
use tongban::message::{Address, Digest, Envelope, Mode, Part, part_digest};
use tongban::time::{SentTime, Time};
use tongban::tlog::leaf_hash;

fn vectors(text: &str, kind: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(text).unwrap();
    all[kind].as_array().unwrap().clone()
}

fn headers() -> Vec<Value> {
    vectors(include_str!("../data/vectors/header.json"), "good")
}

fn leaves(kind: &str) -> Vec<Value> {
    vectors(include_str!("../data/vectors/leaf.json"), kind)
}

// Reading a vector's values into the words.

fn text<'a>(from: &'a Value, name: &str) -> &'a str {
    from[name].as_str().unwrap_or_else(|| panic!("{name} in {from}"))
}

fn optional<T: std::str::FromStr<Err: std::fmt::Debug>>(from: &Value, name: &str) -> Option<T> {
    from[name].as_str().map(|text| text.parse().unwrap())
}

fn bytes(hex_text: &Value) -> Vec<u8> {
    hex::decode(hex_text.as_str().unwrap()).unwrap()
}

fn digest(hex_text: &Value) -> Option<Digest> {
    hex_text.as_str().map(|_| Digest(bytes(hex_text).try_into().unwrap()))
}

fn address(from: &Value) -> Option<Address> {
    from.is_object().then(|| Address { city: text(from, "city").parse().unwrap(), system: optional(from, "system") })
}

fn sent_time(from: &Value) -> Option<SentTime> {
    let nanos = from["nanos"].as_i64().unwrap_or_default() as i32;
    from.is_object().then(|| SentTime::new(from["seconds"].as_i64().unwrap(), nanos).unwrap())
}

fn part(from: &Value) -> Part {
    let (salt, content) = (bytes(&from["salt"]).try_into().unwrap(), bytes(&from["content"]));
    Part {
        name: text(from, "name").parse().unwrap(),
        media_type: text(from, "media_type").parse().unwrap(),
        size: content.len() as u64,
        salt,
        digest: part_digest(&salt, &content),
        content: tongban::message::Content::Inline(content.into()),
    }
}

fn mode(from: &Value) -> Option<Mode> {
    from.as_str().map(|mode| match mode {
        "online" => Mode::Online,
        "proxy" => Mode::Proxy,
        "joint" => Mode::Joint,
        other => panic!("{other}"),
    })
}

fn envelope(from: &Value) -> Envelope {
    let attributes = from["attributes"].as_object().cloned().unwrap_or_default();
    Envelope {
        id: text(from, "message_id").parse().unwrap(),
        from: address(&from["from"]).unwrap(),
        to: address(&from["to"]),
        jurisdiction: optional(from, "jurisdiction"),
        redrive_of: optional(from, "redrive_of"),
        item_code: text(from, "item_code").parse().unwrap(),
        case_no: optional(from, "case_no"),
        step: optional(from, "step"),
        mode: mode(&from["mode"]),
        in_reply_to: optional(from, "in_reply_to"),
        parts: from["parts"].as_array().map(|parts| parts.iter().map(part).collect()).unwrap_or_default(),
        sealed: None,
        attributes: attributes.into_iter().map(|(key, value)| (key, value.as_str().unwrap().to_owned())).collect(),
        created_at: sent_time(&from["created_at"]).unwrap(),
        expires_at: sent_time(&from["expires_at"]),
        traceparent: None,
    }
}

fn moment(from: &Value) -> Option<Time> {
    from.as_u64().map(Time::from_ms)
}

fn evidence(from: &Value) -> Evidence {
    let number = |name: &str| from[name].as_u64().unwrap_or_default();
    let event = Event::ALL.iter().find(|event| event.as_str() == text(from, "event"));
    let asserted = |by: &&AssertedBy| Some(by.as_str()) == from["asserted_by"].as_str();
    let seen = &from["witnessed"];
    let instants = &from["instants"];
    let list = |name: &str| from[name].as_array().cloned().unwrap_or_default();
    Evidence {
        id: text(from, "id").parse().unwrap(),
        event: *event.unwrap(),
        reasons: list("reasons").iter().map(|reason| reason.as_str().unwrap().parse().unwrap()).collect(),
        token: optional(from, "token"),
        at: moment(&from["at"]).unwrap(),
        clock_uncertainty_ms: number("clock_uncertainty_ms") as u32,
        issuer: text(from, "issuer").parse().unwrap(),
        key_id: number("key_id") as u32,
        agreement: optional(from, "agreement"),
        table_version: number("table_version"),
        from: address(&from["from"]).unwrap(),
        to: address(&from["to"]),
        message_id: text(from, "message_id").parse().unwrap(),
        in_reply_to: optional(from, "in_reply_to"),
        case_no: optional(from, "case_no"),
        item_code: optional(from, "item_code"),
        step: optional(from, "step"),
        header_digest: digest(&from["header_digest"]).unwrap(),
        parts: number("parts"),
        total_size: number("total_size"),
        instants: Instants {
            submitted: moment(&instants["submitted"]),
            accepted: moment(&instants["accepted"]),
            relayed: moment(&instants["relayed"]),
            consigned: moment(&instants["consigned"]),
            acknowledged: moment(&instants["acknowledged"]),
        },
        expires_at: moment(&from["expires_at"]),
        attempts: number("attempts"),
        last_status: number("last_status"),
        asserted_by: AssertedBy::ALL.iter().find(asserted).copied(),
        previous: digest(&from["previous"]),
        witnessed: digest(&seen["leaf_hash"]).map(|leaf_hash| Witnessed {
            leaf_hash,
            issuer: text(seen, "issuer").parse().unwrap(),
            log_origin: text(seen, "log_origin").to_owned(),
        }),
        mode: mode(&from["mode"]),
        next_attempt_at: moment(&from["next_attempt_at"]),
        extensions: list("extensions").iter().map(|e| (e[0].as_u64().unwrap() as u8, bytes(&e[1]))).collect(),
    }
}

// The vectors.

#[test]
fn every_header_vector_has_our_digests() {
    for vector in headers() {
        let (name, sent) = (text(&vector, "name"), envelope(&vector["envelope"]));
        let part_digests: Vec<_> = sent.parts.iter().map(|part| Some(part.digest)).collect();
        let published: Vec<_> = vector["part_digests"].as_array().unwrap().iter().map(digest).collect();
        assert_eq!(part_digests, published, "{name}");
        assert_eq!(Some(sent.parts_digest()), digest(&vector["parts_digest"]), "{name}");
        assert_eq!(Some(sent.header_digest()), digest(&vector["header_digest"]), "{name}");
    }
}

#[test]
fn no_two_header_vectors_have_one_digest() {
    let mut digests: Vec<String> = headers().iter().map(|vector| text(vector, "header_digest").to_owned()).collect();
    digests.sort();
    let all = digests.len();
    digests.dedup();
    assert!(all >= 8 && digests.len() == all);
}

#[test]
fn the_trace_context_is_not_under_the_header_digest() {
    let mut sent = envelope(&headers()[0]["envelope"]);
    let before = sent.header_digest();
    sent.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    assert_eq!(sent.header_digest(), before);
}

#[test]
fn every_leaf_vector_is_what_we_write_and_reads_back() {
    for vector in leaves("good") {
        let (name, meant, leaf) = (text(&vector, "name"), evidence(&vector["evidence"]), bytes(&vector["leaf"]));
        assert_eq!(meant.to_leaf().map(hex::encode), Ok(hex::encode(&leaf)), "{name}");
        assert_eq!(Evidence::from_leaf(&leaf), Ok(meant), "{name}");
        assert_eq!(Some(Digest(leaf_hash(&leaf).into())), digest(&vector["leaf_hash"]), "{name}");
    }
}

#[test]
fn the_leaf_vectors_show_every_event() {
    let shown: Vec<Event> = leaves("good").iter().map(|vector| evidence(&vector["evidence"]).event).collect();
    assert!(Event::ALL.iter().all(|event| shown.contains(event)));
}

#[test]
fn a_leaf_at_the_limits_has_at_most_640_bytes_and_a_typical_one_400() {
    assert_eq!(LEAF_BYTES_MAX, 640);
    for vector in leaves("good") {
        let name = text(&vector, "name");
        let bound = if name.starts_with("at the limits") { 640 } else { 400 };
        let size = evidence(&vector["evidence"]).to_leaf().unwrap().len();
        assert!(size <= bound, "{name}: {size}");
    }
}

#[test]
fn a_leaf_of_640_bytes_is_written_and_read_and_one_of_641_is_neither() {
    let bare = evidence(&leaves("good")[1]["evidence"]);
    let room = LEAF_BYTES_MAX - bare.to_leaf().unwrap().len();
    let filled = |bytes: usize| {
        let last = 3 + (bytes - 3) % 200;
        let sizes = std::iter::repeat_n(200, (bytes - 3) / 200).chain([last]);
        let extensions: Vec<(u8, Vec<u8>)> = (0x60..).zip(sizes).map(|(tag, size)| (tag, vec![7; size - 2])).collect();
        Evidence { extensions, ..bare.clone() }
    };
    let (full, over) = (filled(room), filled(room + 1));
    assert_eq!(full.to_leaf().map(|leaf| leaf.len()), Ok(640));
    assert_eq!(over.to_leaf(), Err(LeafError::TooLong));
    let leaf = full.to_leaf().unwrap();
    assert_eq!(Evidence::from_leaf(&leaf), Ok(full));
    assert_eq!(Evidence::from_leaf(&[leaf.as_slice(), &[0]].concat()), Err(LeafError::TooLong));
}

#[test]
fn an_extension_is_written_once_and_in_its_order() {
    let plain = evidence(&leaves("good")[1]["evidence"]);
    let with = |tags: &[u8]| {
        let extensions = tags.iter().map(|tag| (*tag, vec![1])).collect();
        Evidence { extensions, ..plain.clone() }.to_leaf()
    };
    assert!(with(&[0x60, 0x61, 0x7f]).is_ok());
    assert_eq!((with(&[0x61, 0x61]), with(&[0x61, 0x60])), (Err(LeafError::Order(0x61)), Err(LeafError::Order(0x60))));
}

/// A fault as the vectors write it: its name, and the tag in hexadecimal where it has one.
fn written(fault: LeafError) -> String {
    let name = |name: &str, tag: u8| format!("{name} {tag:#04x}");
    match fault {
        LeafError::Order(tag) => name("Order", tag),
        LeafError::Unknown(tag) => name("Unknown", tag),
        LeafError::Value(tag) => name("Value", tag),
        LeafError::Missing(tag) => name("Missing", tag),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_bad_leaf_is_refused_for_its_own_fault() {
    let bad = leaves("bad");
    assert!(bad.len() >= 25);
    for vector in bad {
        let fault = Evidence::from_leaf(&bytes(&vector["leaf"])).map_err(written);
        assert_eq!(fault, Err(text(&vector, "fault").to_owned()), "{}", text(&vector, "name"));
    }
}

#[test]
fn every_leaf_cut_anywhere_is_refused_or_says_less() {
    for vector in leaves("good") {
        let leaf = bytes(&vector["leaf"]);
        let whole = Evidence::from_leaf(&leaf);
        for length in 0..leaf.len() {
            assert_ne!(Evidence::from_leaf(&leaf[..length]), whole, "{} at {length}", text(&vector, "name"));
        }
    }
}

// Any evidence.

fn code() -> impl Strategy<Value = Code> {
    "[A-Z0-9_.-]{1,32}".prop_map(|text| text.parse().unwrap())
}

fn some_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn member() -> impl Strategy<Value = tongban::party::Member> {
    prop_oneof!["[0-9]{6,12}", "hub/[A-Za-z0-9_-]{1,32}"].prop_map(|text| text.parse().unwrap())
}

fn place() -> impl Strategy<Value = Address> {
    let system = proptest::option::of("[A-Za-z0-9_-]{1,32}".prop_map(|name| name.parse().unwrap()));
    ("[0-9]{6,12}", system).prop_map(|(city, system)| Address { city: city.parse().unwrap(), system })
}

fn time() -> impl Strategy<Value = Time> {
    (1..1u64 << 48).prop_map(Time::from_ms)
}

prop_compose! {
    fn who()(
        issuer in member(), from in place(), to in proptest::option::of(place()),
        witnessed in proptest::option::of((some_digest(), member(), "[!-*,-~]{1,40}")),
        ids in any::<([u8; 16], [u8; 16], Option<[u8; 16]>)>(),
        digests in (some_digest(), proptest::option::of(some_digest())),
    ) -> Evidence {
        let mut evidence = evidence(&leaves("good")[0]["evidence"]);
        (evidence.issuer, evidence.from, evidence.to) = (issuer, from, to);
        evidence.witnessed = witnessed.map(|(leaf_hash, issuer, log_origin)| Witnessed { leaf_hash, issuer, log_origin });
        evidence.id = ReceiptId::from_bytes(ids.0);
        evidence.message_id = MessageId::from_bytes(ids.1);
        evidence.in_reply_to = ids.2.map(MessageId::from_bytes);
        (evidence.header_digest, evidence.previous) = digests;
        evidence
    }
}

prop_compose! {
    fn any_evidence()(
        mut evidence in who(),
        (event, at, instants) in (1..=13u8, time(), proptest::array::uniform5(proptest::option::of(time()))),
        (reasons, token) in (proptest::collection::vec(code(), 1..=2), proptest::option::of(code())),
        (uncertainty, key_id, numbers) in any::<(u32, u32, [u64; 5])>(),
        agreement in proptest::option::of("[!-~]{1,24}"),
        (case_no, item) in (proptest::option::of("[!-~一-龥]{1,16}"), proptest::option::of("[A-Za-z0-9._-]{1,40}")),
        (step, by, mode, next) in (proptest::option::of("[a-z0-9_-]{1,24}"), 0..=3u8, 0..=3u8, time()),
        extensions in proptest::collection::btree_map(0x60..=0x7fu8, proptest::collection::vec(any::<u8>(), 1..8), 0..3),
    ) -> Evidence {
        evidence.event = Event::from_number(event).unwrap();
        if evidence.event == Event::Witnessed && evidence.witnessed.is_none() {
            evidence.event = Event::Delayed;
        }
        evidence.mode = Mode::from_number(mode);
        evidence.next_attempt_at = Some(next).filter(|_| evidence.event == Event::Delayed);
        (evidence.reasons, evidence.token, evidence.at) = (reasons, token, at);
        let [submitted, accepted, relayed, consigned, acknowledged] = instants;
        evidence.instants = Instants { submitted, accepted, relayed, consigned, acknowledged };
        (evidence.clock_uncertainty_ms, evidence.key_id, evidence.agreement) = (uncertainty, key_id, agreement);
        let [table_version, parts, total_size, attempts, last_status] = numbers;
        (evidence.table_version, evidence.parts, evidence.total_size) = (table_version, parts, total_size);
        (evidence.attempts, evidence.last_status) = (attempts, last_status);
        evidence.case_no = case_no.map(|text| text.parse().unwrap());
        evidence.item_code = item.map(|text| text.parse().unwrap());
        evidence.step = step.map(|text| text.parse().unwrap());
        evidence.asserted_by = AssertedBy::from_number(by);
        evidence.extensions = extensions.into_iter().collect();
        evidence
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_evidence_reads_back_as_it_was_written(meant in any_evidence()) {
        match meant.to_leaf() {
            Ok(leaf) => prop_assert_eq!(Evidence::from_leaf(&leaf), Ok(meant)),
            Err(fault) => prop_assert_eq!(fault, LeafError::TooLong),
        }
    }

    #[test]
    fn any_changed_byte_is_refused_or_says_something_else(
        meant in any_evidence(), place in any::<proptest::sample::Index>(), change in 1..=255u8,
    ) {
        if let Ok(mut leaf) = meant.to_leaf() {
            let place = place.index(leaf.len());
            leaf[place] ^= change;
            if let Ok(read) = Evidence::from_leaf(&leaf) {
                prop_assert_ne!(&read, &meant);
                prop_assert_eq!(read.to_leaf(), Ok(leaf));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_written_back_alike(tail in proptest::collection::vec(any::<u8>(), 0..700)) {
        let leaf = [&[1, 1], tail.as_slice()].concat();
        if let Ok(read) = Evidence::from_leaf(&leaf) {
            prop_assert_eq!(read.to_leaf(), Ok(leaf));
        }
    }
}

#[test]
fn a_leaf_that_could_not_be_read_is_never_written() {
    let good = evidence(&leaves("good")[1]["evidence"]);
    type Spoil = fn(&mut Evidence);
    let spoilt: [(Spoil, LeafError); 9] = [
        (|e| e.event = Event::Expired, LeafError::Missing(0x03)),
        (|e| e.event = Event::Witnessed, LeafError::Missing(0x21)),
        (|e| e.reasons = vec!["A".parse().unwrap(); 3], LeafError::Order(0x03)),
        (|e| e.at = Time::ZERO, LeafError::Missing(0x05)),
        (|e| e.agreement = Some("a".repeat(25)), LeafError::Value(0x09)),
        (|e| e.agreement = Some("a b".into()), LeafError::Value(0x09)),
        (|e| e.extensions = vec![(0x24, vec![1])], LeafError::Unknown(0x24)),
        (|e| e.extensions = vec![(0x61, vec![1]), (0x60, vec![1])], LeafError::Order(0x60)),
        (|e| e.extensions = vec![(0x60, vec![1; 256])], LeafError::Value(0x60)),
    ];
    for (spoil, fault) in spoilt {
        let mut evidence = good.clone();
        spoil(&mut evidence);
        assert_eq!(evidence.to_leaf(), Err(fault));
    }
}
