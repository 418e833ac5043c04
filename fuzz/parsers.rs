//! Every parser that reads what a stranger wrote, a function each: what it must never do, and what must hold of what it
//! takes. `cargo fuzz` looks for bytes that break one; `tests/parts/corpus.rs` replays what was found on every run.
//!
//! A function says whether the bytes were taken, so that a corpus can be shown to hold both kinds.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use prost::Message;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio::time::Instant;
use tongban::config::Config;
use tongban::directory::{Directory, Endpoint, Generation, MemberRecord, SealingKey};
use tongban::evidence::{Code, Evidence};
use tongban::grpc::list;
use tongban::id::{MessageId, ReceiptId};
use tongban::message::{CaseNo, Digest, ItemCode, Step};
use tongban::party::{Alliance, Division, Member, Name, Party};
use tongban::receipt::{Checker, LogKey};
use tongban::routing::{Candidate, Day, DivisionPrefix, Issued, ItemPattern, Table};
use tongban::seal::{self, Context, OpeningKey, Sealed, StreamOpener};
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::note::{self, SigningKey, VerifyingKey};
use tongban::tlog::receipt_file::TlogProof;
use tongban::tls::guard::{FrameWatch, Pace};
use tongban::tls::identity;
use tongban::tls::profile::{self, Ask, Usage};
use tongban::tls::trust::{CrlPolicy, MemberTrust, Trust};
use tongban::wire::pb::{directory as pbd, evidence as pbe, exchange as pbx};
use tongban::wire::{envelope, notes, receipt, status};

/// A parser: whether it takes the bytes.
pub type Parser = fn(&[u8]) -> bool;

/// All parsers, by the name of their corpus.
pub const PARSERS: [(&str, Parser); 20] = [
    ("certificate", certificate),
    ("checkpoint", checkpoint),
    ("config", config),
    ("crl", crl),
    ("directory", directory),
    ("envelope", envelope),
    ("frames", frames),
    ("generation", generation),
    ("identifiers", identifiers),
    ("leaf", leaf),
    ("member_record", member_record),
    ("note", signed_note),
    ("note_pieces", note_pieces),
    ("page_token", page_token),
    ("receipt", receipt),
    ("routing_json", routing_json),
    ("routing_toml", routing_toml),
    ("sealed", sealed),
    ("status", status),
    ("tlog_proof", tlog_proof),
];

/// One key for all that is signed here; a fuzzer does not forge it.
static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_seed("tongban.example/450200/log", &[7; 32]).expect("a name and a seed"));
static OPENING_KEYS: LazyLock<[OpeningKey; 1]> = LazyLock::new(|| [OpeningKey::from_seed(&[9; 32])]);
static ALLIANCE: LazyLock<Alliance> = LazyLock::new(|| "alliance.example".parse().expect("an alliance"));

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// What reads a text that has one spelling writes the same text.
fn spells<T: FromStr + Display>(text: &str) -> bool {
    let read = text.parse::<T>();
    read.is_ok_and(|value| {
        assert_eq!(value.to_string(), text, "another spelling");
        true
    })
}

/// What reads a text with several spellings reads its own writing as the same.
fn settles<T: FromStr + Display>(text: &str) -> bool {
    let read = text.parse::<T>();
    read.is_ok_and(|value| {
        let written = value.to_string();
        assert!(written.parse::<T>().is_ok_and(|again| again.to_string() == written), "{written:?} does not read back");
        true
    })
}

/// Names of parties, messages, items, keys and ways.
pub fn identifiers(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let one = [
        spells::<Party>(text),
        spells::<Member>(text),
        spells::<MessageId>(text),
        spells::<ReceiptId>(text),
        settles::<ItemPattern>(text),
        settles::<DivisionPrefix>(text),
        settles::<Day>(text),
        settles::<Candidate>(text),
        settles::<Endpoint>(text),
        spells::<SealingKey>(text),
        VerifyingKey::parse(text).is_ok_and(|key| {
            assert_eq!(key.to_string(), text);
            true
        }),
        text.parse::<Division>().is_ok_and(|division| division.as_str() == text),
        text.parse::<Name>().is_ok_and(|name| name.as_str() == text),
        text.parse::<Alliance>().is_ok_and(|alliance| alliance.as_str() == text),
        text.parse::<Code>().is_ok_and(|code| code.as_str() == text),
        text.parse::<ItemCode>().is_ok_and(|code| code.as_str() == text),
        text.parse::<CaseNo>().is_ok_and(|case| case.as_str() == text),
        text.parse::<Step>().is_ok_and(|step| step.as_str() == text),
    ];
    one.contains(&true)
}

/// A leaf has one form.
pub fn leaf(bytes: &[u8]) -> bool {
    Evidence::from_leaf(bytes).is_ok_and(|evidence| {
        assert_eq!(evidence.to_leaf().as_deref(), Ok(bytes), "another form of one leaf");
        true
    })
}

/// A signed note opens only with the signature it has; what can be signed opens again as it was.
pub fn signed_note(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let keys = [KEY.verifying_key().clone()];
    let opened =
        note::open(text, &keys).is_ok_and(|opened| text.starts_with(opened.text) && !opened.verified.is_empty());
    let signed = KEY.sign_note(text).is_ok_and(|signed| {
        assert_eq!(note::open(&signed, &keys).expect("what was signed opens").text, text);
        true
    });
    opened || signed
}

/// A checkpoint has one form.
pub fn checkpoint(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let claimed = Checkpoint::claimed(text).is_ok();
    let _ = Checkpoint::open(text, &[KEY.verifying_key().clone()]);
    let parsed = Checkpoint::parse(text).is_ok_and(|checkpoint| {
        assert_eq!(checkpoint.to_text(), text, "another form of one checkpoint");
        true
    });
    claimed || parsed
}

/// A receipt file has one form up to its checkpoint.
pub fn tlog_proof(bytes: &[u8]) -> bool {
    TlogProof::parse(bytes).is_ok_and(|proof| {
        assert_eq!(proof.to_text().as_bytes(), bytes, "another form of one receipt");
        true
    })
}

/// A receipt from the wire reads back, and holds only under a key that signed it.
pub fn receipt(bytes: &[u8]) -> bool {
    let Ok(wire) = pbe::Receipt::decode(bytes) else { return false };
    let Some(read) = receipt::from_wire(wire.clone()) else { return false };
    assert_eq!(receipt::to_wire(read.clone()), wire, "another form of one receipt");
    let log = LogKey { member: "450200".parse().expect("a member"), key: KEY.verifying_key().clone() };
    assert!(Checker::new(vec![log]).check(read).is_err(), "nobody signed this");
    true
}

/// An envelope is taken or each of its faults is named; what is taken is kept and read back as the same.
pub fn envelope(bytes: &[u8]) -> bool {
    let _ = envelope::outline(bytes);
    let Ok(wire) = pbx::Envelope::decode(bytes) else { return false };
    match envelope::parse(wire) {
        Err(faults) => {
            assert!(!faults.is_empty(), "a refusal names a fault");
            false
        }
        Ok(parsed) => {
            let (header, body) = envelope::split(&parsed);
            envelope::kept(&header, body, parsed.header_digest()).expect("what is kept reads back as the same");
            assert!(envelope::outline(&header).is_ok(), "its outline reads");
            let again = envelope::opened_content(&envelope::sealed_content(&parsed.parts));
            assert!(again.is_ok_and(|parts| parts.len() == parsed.parts.len()), "its parts can be sealed");
            true
        }
    }
}

/// Sealed bytes that nobody sealed for us do not open, in one piece or in a stream; what claims to be a part list is read.
pub fn sealed(bytes: &[u8]) -> bool {
    let (key, recipient) = (&OPENING_KEYS[0], "440600".parse::<Member>().expect("a member"));
    let context = Context { alliance: &ALLIANCE, recipient: &recipient, header_digest: Digest([3; 32]) };
    let mut opener = StreamOpener::begin(key, &context, 0);
    let mut out = vec![];
    let streamed = opener.write(bytes, &mut out).is_ok() && opener.finish(&mut out).is_ok();
    assert!(!streamed && out.is_empty(), "a stream that nobody sealed opens");
    if let Some((encapsulated, ciphertext)) = bytes.split_first_chunk() {
        let sealed = Sealed { key_id: key.public().id(), encapsulated: *encapsulated, ciphertext: ciphertext.to_vec() };
        assert!(seal::open(&*OPENING_KEYS, &context, &sealed).is_err(), "what nobody sealed opens");
    }
    envelope::opened_content(bytes).is_ok()
}

/// A certificate is judged by its names and its shape.
pub fn certificate(bytes: &[u8]) -> bool {
    let Ok(certificate) = identity::parse(bytes) else { return false };
    let ask = Ask { usage: Usage::Client, days_max: 398, now_s: 1_800_000_000 };
    let name = identity::uri_name(&certificate);
    let party = name.as_ref().ok().and_then(|name| identity::party((*name)?, &ALLIANCE).ok());
    let judged =
        [profile::leaf(&certificate, &ask), profile::issuer(&certificate, &ask), profile::anchor(&certificate, &ask)];
    let _ = (identity::key_sha256(&certificate), identity::not_after(&certificate));
    let _ = profile::verifies(&CertificateDer::from(bytes), b"message", b"signature");
    assert!(judged[0].is_err() || judged[1].is_err(), "one certificate is both a party's and an authority's");
    party.is_some() || judged.contains(&Ok(()))
}

/// A revocation list is taken with its own member's authority alone, and a broken one is a fault that is told.
pub fn crl(bytes: &[u8]) -> bool {
    let trust = MemberTrust {
        member: "450200".parse().expect("a member"),
        roots: vec![CertificateDer::from(&include_bytes!("root.der")[..])],
        issuers: vec![],
        crl: CrlPolicy::Required,
        crls: vec![CertificateRevocationListDer::from(bytes.to_vec())],
        pin: None,
        days_max: 398,
    };
    match Trust::build(ALLIANCE.clone(), vec![trust]) {
        Ok(_) => true,
        Err(faults) => {
            assert!(!faults.is_empty(), "a refusal names a fault");
            false
        }
    }
}

/// A member's record has one text.
pub fn member_record(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let _ = MemberRecord::open(text, KEY.verifying_key());
    MemberRecord::parse(text).is_ok_and(|record| {
        // A field of tomorrow is read over and not written again.
        assert!(record.text().is_ok_and(|again| MemberRecord::parse(&again).is_ok_and(|read| read == record)));
        true
    })
}

/// A directory is read with every record in it.
pub fn directory(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let _ = Directory::open(text, KEY.verifying_key());
    Directory::parse(text).is_ok_and(|directory| {
        assert_eq!(directory.text(), text, "another form of one directory");
        true
    })
}

/// A generation statement has one text.
pub fn generation(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let _ = Generation::open(text, KEY.verifying_key());
    Generation::parse(text).is_ok_and(|generation| {
        assert!(generation.text().is_ok_and(|again| Generation::parse(&again).is_ok_and(|read| read == generation)));
        true
    })
}

/// Pieces of a note make one note or none. Pieces stand one after the other, each with its length before it.
pub fn note_pieces(mut bytes: &[u8]) -> bool {
    let mut gathering = notes::Gathering::default();
    while let Ok(piece) = pbd::NotePiece::decode_length_delimited(&mut bytes) {
        match gathering.add(piece) {
            Ok(None) => {}
            Ok(Some(note)) => {
                let (mut again, mut whole) = (notes::Gathering::default(), None);
                for piece in notes::pieces(&note) {
                    whole = again.add(piece).expect("our own pieces");
                }
                assert_eq!(whole, Some(note));
                return true;
            }
            Err(_) => return false,
        }
    }
    false
}

/// A published routing table has one text.
pub fn routing_json(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    Issued::from_json(text).is_ok_and(|issued| {
        assert!(issued.to_json().is_ok_and(|again| Issued::from_json(&again).is_ok_and(|read| read == issued)));
        true
    })
}

/// An operator's routing table is read, or its faults are named with their places; it is written so that it reads back.
pub fn routing_toml(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    match Table::from_toml(text) {
        Ok(table) => {
            assert_eq!(Table::from_toml(&table.to_toml()), Ok(table));
            true
        }
        Err(faults) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| fault.line <= text.lines().count().max(1) + 1));
            false
        }
    }
}

/// A configuration is read, or its faults are named.
pub fn config(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    match Config::parse(text, Path::new("/nowhere")) {
        Ok(_) => true,
        Err(faults) => {
            assert!(!faults.is_empty(), "a refusal names a fault");
            false
        }
    }
}

/// The details of a partner's status are read, whatever they are.
pub fn status(bytes: &[u8]) -> bool {
    let answered = status::from_status(&tonic::Status::with_details(tonic::Code::Internal, "x", bytes.to_vec().into()));
    answered.reason.is_some() || !answered.faults.is_empty() || answered.receipt.is_some()
}

/// The place that a page token names, for the filter it was made for.
pub fn page_token(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    list::place(text, list::mark(&pbx::MessageFilter::default())).is_some_and(|place| {
        assert!(i64::try_from(place).is_ok(), "a place beyond what the store can hold");
        true
    })
}

/// Frames are judged alike in whatever pieces they come.
pub fn frames(bytes: &[u8]) -> bool {
    let (now, pace) =
        (Instant::now(), Pace { preface: Duration::from_secs(5), frame: Duration::from_secs(10), cheap_per_minute: 5 });
    let (mut whole, mut pieces) = (FrameWatch::new(pace, now), FrameWatch::new(pace, now));
    let at_once = whole.feed(bytes, now);
    let piecemeal = bytes.chunks(3).try_for_each(|piece| pieces.feed(piece, now));
    assert_eq!(at_once, piecemeal);
    if at_once.is_ok() {
        assert_eq!(whole.deadline(), pieces.deadline());
    }
    at_once.is_ok()
}
