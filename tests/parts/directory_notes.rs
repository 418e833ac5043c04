//! Decides whether member records and directories are read as strictly as they are written. Never touches a disk.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use tongban::directory::{
    CanonicalError, CrlPolicy, Directory, DirectoryError, Entry, Fault, HubForm, MemberRecord, RecordError, SealingKey,
    Update, UpdateError, accepts_update, alliance_key_name, fingerprint, hub_form, log_origin_prefix, may_go_open,
    member_key_name,
};
use tongban::party::{Alliance, Member};
use tongban::time::Time;
use tongban::tlog::note::{NoteError, SigningKey, VerifyingKey};

const NOW: Time = Time::from_ms(1_769_846_400_123);

fn alliance() -> Alliance {
    "alliance.example".parse().unwrap()
}

fn member(text: &str) -> Member {
    text.parse().unwrap()
}

fn alliance_key() -> SigningKey {
    SigningKey::from_seed(&alliance_key_name(&alliance()), &[1; 32]).unwrap()
}

fn member_key(text: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(&member_key_name(&alliance(), &member(text)), &[seed; 32]).unwrap()
}

fn log_key(text: &str, seed: u8) -> VerifyingKey {
    let origin = format!("{}a/1", log_origin_prefix(&alliance(), &member(text)));
    SigningKey::from_seed(&origin, &[seed; 32]).unwrap().verifying_key().clone()
}

fn certificate(is_ca: IsCa) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.is_ca = is_ca;
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
}

fn record(text: &str) -> MemberRecord {
    MemberRecord {
        alliance: alliance(),
        member: member(text),
        version: 1,
        issued_at: NOW,
        name_zh: "柳州".to_owned(),
        name_en: "Liuzhou".to_owned(),
        key_pin: Some([7; 32]),
        days_max: 397,
        endpoints: vec!["gateway.example:7501".parse().unwrap(), "[::1]:7501".parse().unwrap()],
        roots: vec![certificate(IsCa::Ca(BasicConstraints::Unconstrained))],
        log_keys: vec![log_key(text, 9)],
        relays: vec![member("hub/other")],
        crl: CrlPolicy::None,
        sealing_key: Some(SealingKey::from_bytes([9; 32])),
        unsealed_relay: false,
    }
}

fn entry(text: &str, version: u64, seed: u8) -> Entry {
    let key = member_key(text, seed);
    let note = MemberRecord { version, ..record(text) }.sign(&key).unwrap();
    Entry::open(key.verifying_key().clone(), note).unwrap()
}

fn directory() -> Directory {
    let empty = Directory::empty(&alliance(), NOW).unwrap();
    empty.with(entry("450200", 1, 2), NOW).unwrap().with(entry("hub/main", 1, 3), NOW).unwrap()
}

/// A record's text with one field replaced or added, spelt canonically again.
fn altered(field: &str, value: serde_json::Value) -> String {
    let mut json: serde_json::Value = serde_json::from_str(&record("450200").text().unwrap()).unwrap();
    json[field] = value;
    serde_json_canonicalizer::to_string(&json).unwrap() + "\n"
}

/// A directory's text with these (key, note) pairs as its members.
fn listing(members: &[(&VerifyingKey, &str)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(key, note)| serde_json::json!({"member_key": key.to_string(), "record": note})).collect();
    let json = serde_json::json!({"kind": "tongban.directory.v1", "alliance": "alliance.example", "version": 5,
        "issued_at": NOW.to_string(), "members": members});
    serde_json_canonicalizer::to_string(&json).unwrap() + "\n"
}

#[test]
fn a_record_reads_back_as_it_was_signed() {
    for text in ["450200", "450200123456", "hub/main"] {
        let record = record(text);
        let key = member_key(text, 2);
        let note = record.sign(&key).unwrap();
        assert_eq!(MemberRecord::open(&note, key.verifying_key()), Ok(record));
    }
}

#[test]
fn a_record_leaves_out_what_it_does_not_have() {
    let bare = MemberRecord { key_pin: None, sealing_key: None, endpoints: vec![], relays: vec![], ..record("450200") };
    let text = bare.text().unwrap();
    assert!(["key_pin", "sealing_key", "unsealed_relay"].iter().all(|field| !text.contains(field)), "{text}");
    let read = MemberRecord::parse(&text).unwrap();
    assert!(read.pulls());
    assert_eq!(read, bare);
}

#[test]
fn a_record_that_allows_unsealed_relay_says_so() {
    let open = MemberRecord { unsealed_relay: true, ..record("450200") };
    let text = open.text().unwrap();
    assert!(text.contains(r#""unsealed_relay":true"#), "{text}");
    assert_eq!(MemberRecord::parse(&text), Ok(open));
}

#[test]
fn a_body_goes_open_through_a_hub_only_if_both_members_say_so() {
    let key = SealingKey::from_bytes([9; 32]);
    let with = |unsealed_relay: bool, sealing_key| MemberRecord { unsealed_relay, sealing_key, ..record("450200") };
    for (from, to, key, form) in [
        (false, false, None, None),
        (true, false, None, None),
        (false, true, None, None),
        (true, true, None, Some(HubForm::Open)),
        (false, false, Some(key), Some(HubForm::Sealed(key))),
        (true, true, Some(key), Some(HubForm::Sealed(key))),
    ] {
        let (sender, recipient) = (with(from, None), with(to, key));
        assert_eq!(hub_form(&sender, &recipient), form, "{from} {to} {key:?}");
        assert_eq!(may_go_open(&sender, &recipient), from && to);
    }
}

#[test]
fn a_record_with_a_field_of_tomorrow_is_read_and_keeps_it() {
    let text = altered("zzz_of_tomorrow", serde_json::json!({"a": [1, true]}));
    let key = member_key("450200", 2);
    let note = key.sign_note(&text).unwrap();
    let entry = Entry::open(key.verifying_key().clone(), note.clone()).unwrap();
    let listed = Directory::empty(&alliance(), NOW).unwrap().with(entry, NOW).unwrap();
    assert_eq!(listed.entry(&member("450200")).unwrap().note, note);
}

#[test]
fn a_record_without_days_allows_398() {
    let text = record("450200").text().unwrap().replace("\"days_max\":397,", "");
    assert_eq!(MemberRecord::parse(&text).unwrap().days_max, 398);
}

#[test]
fn a_record_spelt_another_way_is_refused() {
    let text = record("450200").text().unwrap();
    for (row, spelling) in [
        ("space", text.replacen(':', ": ", 1)),
        (
            "order",
            text.replacen("{\"alliance\":\"alliance.example\",", "{", 1).replacen(
                "}\n",
                ",\"alliance\":\"alliance.example\"}\n",
                1,
            ),
        ),
        ("escape", text.replacen("柳", "\\u67f3", 1)),
        ("number", text.replacen("\"version\":1}", "\"version\":1.0}", 1)),
        ("exponent", text.replacen("\"days_max\":397", "\"days_max\":397e0", 1)),
        ("twice", text.replacen("{\"alliance\"", "{\"alliance\":\"x\",\"alliance\"", 1)),
        ("beyond 2^53", text.replacen("\"version\":1}", "\"version\":9007199254740993}", 1)),
    ] {
        assert_ne!(spelling, text, "{row}");
        assert_eq!(MemberRecord::parse(&spelling), Err(CanonicalError::Spelling.into()), "{row}");
    }
    for (row, spelling) in [("no newline", text.trim_end().to_owned()), ("two lines", text.clone() + "\n")] {
        assert_eq!(MemberRecord::parse(&spelling), Err(CanonicalError::OneLine.into()), "{row}");
    }
}

#[test]
fn a_directory_does_not_read_as_a_record_nor_the_other_way() {
    let fault = MemberRecord::parse(directory().text());
    assert!(matches!(fault, Err(RecordError::Text(CanonicalError::Kind { .. }))), "{fault:?}");
    let fault = Directory::parse(&record("450200").text().unwrap());
    assert!(matches!(fault, Err(DirectoryError::Text(CanonicalError::Kind { .. }))), "{fault:?}");
}

#[test]
fn a_record_names_the_field_that_is_wrong() {
    use serde_json::json;
    let leaf = certificate(IsCa::ExplicitNoCa);
    let leaf = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &leaf);
    let key = log_key("450200", 9).to_string();
    for (field, value) in [
        ("alliance", json!("Alliance.Example")),
        ("member", json!("4502")),
        ("version", json!(0)),
        ("issued_at", json!("2026-01-31T08:00:00Z")),
        ("issued_at", json!("2026-01-31T16:00:00.000+08:00")),
        ("issued_at", json!("1969-12-31T23:59:59.999Z")),
        ("name_zh", json!(" ")),
        ("name_en", json!("Liu\u{202e}zhou")),
        ("name_en", json!("\u{1b}[2J")),
        ("name_en", json!("x".repeat(129))),
        ("key_pin", json!("07".repeat(32))),
        ("key_pin", json!(format!("sha256:{}", "AB".repeat(32)))),
        ("key_pin", json!("sha256:0707")),
        ("days_max", json!(0)),
        ("days_max", json!(3661)),
        ("endpoints", json!(["gateway.example"])),
        ("endpoints", json!(["gateway.example:0"])),
        ("endpoints", json!(["gateway.example:07501"])),
        ("endpoints", json!(["Gateway.example:7501"])),
        ("endpoints", json!(["::1:7501"])),
        ("endpoints", json!(["1.2.3:7501"])),
        ("endpoints", json!(["a:1", "a:1"])),
        ("endpoints", json!(vec!["a:1"; 17])),
        ("roots", json!(["AAAA"])),
        ("roots", json!([leaf])),
        ("log_keys", json!([log_key("440300", 9).to_string()])),
        ("log_keys", json!([key, key])),
        ("log_keys", json!([key, log_key("450200", 8).to_string()])),
        ("log_keys", json!(["450200.gateway.alliance.example/log/a/1+00000000+AAAA"])),
        ("relays", json!(["hub/"])),
        ("relays", json!(["450200"])),
        ("sealing_key", json!("")),
        ("sealing_key", json!("x25519:AAAA")),
        ("sealing_key", json!("hpke-x25519:AAAA")),
    ] {
        let fault = MemberRecord::parse(&altered(field, value.clone()));
        let named = matches!(&fault, Err(RecordError::Field { field: found, .. }) if *found == field);
        assert!(named, "{field} = {value}: {fault:?}");
    }
}

#[test]
fn a_record_by_which_nobody_could_be_recognised_is_refused() {
    let nobody = MemberRecord { key_pin: None, roots: vec![], ..record("450200") };
    assert_eq!(nobody.text(), Err(RecordError::Field { field: "roots", fault: Fault::Unrecognisable }));
}

#[test]
fn a_record_signed_by_another_members_key_is_refused() {
    let note = record("450200").sign(&member_key("450200", 2)).unwrap();
    let other = member_key("440300", 3);
    assert_eq!(MemberRecord::open(&note, other.verifying_key()), Err(NoteError::Unsigned.into()));
    assert!(matches!(record("450200").sign(&other), Err(RecordError::KeyName { .. })));
    // The other member's key really signs this text, under its own name.
    let note = other.sign_note(&record("450200").text().unwrap()).unwrap();
    assert!(matches!(MemberRecord::open(&note, other.verifying_key()), Err(RecordError::KeyName { .. })));
    let fault = Directory::parse(&listing(&[(other.verifying_key(), &note)]));
    assert!(matches!(fault, Err(DirectoryError::Record { place: 0, .. })), "{fault:?}");
}

#[test]
fn a_log_key_under_another_citys_origin_is_refused() {
    for origin in [
        "440300.gateway.alliance.example/log/a/1",
        "450200.gateway.other.example/log/a/1",
        "450200.gateway.alliance.example/log/a",
        "450200.gateway.alliance.example/log/a/1/2",
        "450200.gateway.alliance.example/log//1",
        "450200.gateway.alliance.example/log/a/",
        "450200.gateway.alliance.example.evil/log/a/1",
    ] {
        let key = SigningKey::from_seed(origin, &[9; 32]).unwrap().verifying_key().clone();
        let fault = MemberRecord { log_keys: vec![key], ..record("450200") }.text();
        let named = matches!(&fault, Err(RecordError::Field { field: "log_keys", fault: Fault::Origin { .. } }));
        assert!(named, "{origin}: {fault:?}");
    }
}

#[test]
fn a_directory_reads_back_as_it_was_signed() {
    let directory = directory();
    let note = directory.sign(&alliance_key()).unwrap();
    let read = Directory::open(&note, alliance_key().verifying_key()).unwrap();
    assert_eq!(read, directory);
    assert_eq!((read.version(), read.entries().count()), (3, 2));
    assert_eq!(read.member(&member("450200")).map(|r| r.name_zh.as_str()), Some("柳州"));
    let (whose, key) = read.log_key("450200.gateway.alliance.example/log/a/1").unwrap();
    assert_eq!((whose.member.to_string().as_str(), key), ("450200", &log_key("450200", 9)));
    assert_eq!(read.log_key("hub-main.gateway.alliance.example/log/a/1").unwrap().0.member, member("hub/main"));
    assert!(read.log_key("450200.gateway.alliance.example/log/a/2").is_none());
    assert!(read.member(&member("440300")).is_none());
}

#[test]
fn every_flip_of_a_bit_in_a_directory_is_refused() {
    let empty = Directory::empty(&alliance(), NOW).unwrap();
    let note = empty.with(entry("450200", 1, 2), NOW).unwrap().sign(&alliance_key()).unwrap();
    let key = alliance_key().verifying_key().clone();
    assert!(Directory::open(&note, &key).is_ok());
    for place in 0..note.len() {
        for bit in 0..8 {
            let mut bytes = note.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            // What is no longer UTF-8 never reaches the directory: reading the file refuses it.
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            assert!(Directory::open(&flipped, &key).is_err(), "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn a_directory_cut_short_or_with_more_behind_it_is_refused() {
    let note = directory().sign(&alliance_key()).unwrap();
    let key = alliance_key().verifying_key().clone();
    for length in (0..note.len()).filter(|at| note.is_char_boundary(*at)) {
        assert!(Directory::open(&note[..length], &key).is_err(), "{length} bytes");
    }
    for more in ["\n", "x", "\r\n", "— x AAAA"] {
        assert!(Directory::open(&format!("{note}{more}"), &key).is_err(), "{more:?}");
    }
}

#[test]
fn a_directory_signed_by_another_key_of_the_same_name_is_refused() {
    let other = SigningKey::from_seed(&alliance_key_name(&alliance()), &[5; 32]).unwrap();
    let note = directory().sign(&other).unwrap();
    assert_eq!(Directory::open(&note, alliance_key().verifying_key()), Err(NoteError::Unsigned.into()));
}

#[test]
fn a_directory_opened_with_the_key_of_another_alliance_is_refused() {
    let other = SigningKey::from_seed("directory.other.example", &[1; 32]).unwrap();
    assert!(matches!(directory().sign(&other), Err(DirectoryError::KeyName { .. })));
    let note = other.sign_note(directory().text()).unwrap();
    let fault = Directory::open(&note, other.verifying_key());
    assert!(matches!(fault, Err(DirectoryError::KeyName { .. })), "{fault:?}");
}

#[test]
fn a_directory_with_one_member_twice_is_refused() {
    let (one, two) = (entry("450200", 1, 2), entry("450200", 2, 4));
    let text = listing(&[(&one.member_key, &one.note), (&two.member_key, &two.note)]);
    assert_eq!(Directory::parse(&text), Err(DirectoryError::Twice { member: member("450200") }));
}

#[test]
fn a_record_for_another_alliance_is_refused() {
    let other: Alliance = "other.example".parse().unwrap();
    let key = SigningKey::from_seed("450200.member.other.example", &[2; 32]).unwrap();
    let record = MemberRecord { alliance: other, log_keys: vec![], ..record("450200") };
    let entry = Entry::open(key.verifying_key().clone(), record.sign(&key).unwrap()).unwrap();
    let fault = directory().with(entry, NOW);
    assert!(matches!(fault, Err(DirectoryError::Alliance { .. })), "{fault:?}");
}

#[test]
fn an_update_is_accepted_only_forwards() {
    let held = directory();
    let newer = held.with(entry("450200", 2, 2), NOW).unwrap();
    assert_eq!(accepts_update(&held, &newer), Ok(Update::Newer));
    assert_eq!(accepts_update(&held, &held), Ok(Update::Same));
    assert_eq!(accepts_update(&newer, &held), Err(UpdateError::Older { held: 4, found: 3 }));
    let twin = held.with(entry("440300", 1, 6), NOW).unwrap();
    assert_eq!(accepts_update(&newer, &twin), Err(UpdateError::TwoOfOneVersion { version: 4 }));
    let back = newer.with(entry("450200", 1, 2), NOW).unwrap();
    let fault = UpdateError::RecordOlder { member: member("450200"), held: 2, found: 1 };
    assert_eq!(accepts_update(&newer, &back), Err(fault));
}

#[test]
fn two_records_of_one_version_are_refused() {
    let held = directory();
    // Made anew, the record has another root.
    let twin = held.with(entry("450200", 1, 2), NOW).unwrap();
    let fault = UpdateError::RecordTwoOfOneVersion { member: member("450200"), version: 1 };
    assert_eq!(accepts_update(&held, &twin), Err(fault));
}

#[test]
fn a_changed_member_key_is_refused_with_both_fingerprints() {
    let held = directory();
    let changed = held.with(entry("450200", 2, 4), NOW).unwrap();
    let print = |seed| fingerprint(member_key("450200", seed).verifying_key());
    let fault = UpdateError::KeyChanged { member: member("450200"), held: print(2), found: print(4) };
    assert_eq!(accepts_update(&held, &changed), Err(fault));
    assert_eq!(print(2).len(), 39);
}

#[test]
fn a_member_may_leave() {
    let held = directory();
    let hub = held.entry(&member("hub/main")).unwrap();
    let left = Directory::parse(&listing(&[(&hub.member_key, &hub.note)])).unwrap();
    assert_eq!(accepts_update(&held, &left), Ok(Update::Newer));
    assert!(left.log_key("450200.gateway.alliance.example/log/a/1").is_none());
}
