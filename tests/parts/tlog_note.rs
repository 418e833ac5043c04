//! Decides whether notes and checkpoints are written and read as C2SP signed-note and tlog-checkpoint say: against the
//! published example of the Go implementation, and against every change of a byte.

use tongban::tlog::checkpoint::{Checkpoint, CheckpointError};
use tongban::tlog::note::{KeyError, NOTE_BYTES_MAX, NoteError, SIGNATURES_MAX, SigningKey, VerifyingKey, open};
use tongban::tlog::{EMPTY_ROOT, leaf_hash};

/// The example key and note of the Go package golang.org/x/mod/sumdb/note, and the seed it publishes for them.
const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SEED_HEX: &str = "810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNATURE: &str = "— PeterNeumann \
    x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
/// Another signer of the same text, from the same package.
const OTHER_SIGNATURE: &str = "— EnochRoot \
    rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

const ORIGIN: &str = "hangzhou.gateway.example/log/a/1";

fn peter() -> [VerifyingKey; 1] {
    [VerifyingKey::parse(VKEY).unwrap()]
}

fn log_key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

#[test]
fn the_published_key_reads_and_prints_itself() {
    let [key] = peter();
    assert_eq!((key.name(), key.id(), key.to_string().as_str()), ("PeterNeumann", 0xc74f_20a3, VKEY));
}

#[test]
fn the_published_note_opens_and_signing_gives_it_again() {
    let note = format!("{TEXT}\n{SIGNATURE}");
    let opened = open(&note, &peter()).unwrap();
    assert_eq!((opened.text, opened.verified), (TEXT, vec![0]));
    let seed: [u8; 32] = hex::decode(SEED_HEX).unwrap().try_into().unwrap();
    let key = SigningKey::from_seed("PeterNeumann", &seed).unwrap();
    assert_eq!(key.verifying_key().to_string(), VKEY);
    assert_eq!(key.sign_note(TEXT).unwrap(), note);
}

#[test]
fn a_signing_key_prints_no_secret() {
    let key = SigningKey::from_seed("PeterNeumann", &[7; 32]).unwrap();
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.verifying_key()));
}

#[test]
fn a_vkey_line_has_one_spelling() {
    let id = KeyError::Id { expected: 0xc74f_20a3, found: 0xc74f_20a4 };
    let rows = [
        ("upper-case id", VKEY.replace("c74f", "C74F"), KeyError::Format),
        ("short id", VKEY.replace("+c74f20a3", "+74f20a3"), KeyError::Format),
        ("signed id", VKEY.replace("+c74f20a3", "++c74f20a"), KeyError::Format),
        ("another id", VKEY.replace("c74f20a3", "c74f20a4"), id),
        ("no name", VKEY.replace("PeterNeumann", ""), KeyError::Name),
        ("space in name", VKEY.replace("PeterNeumann", "Peter Neumann"), KeyError::Name),
        ("ideographic space", VKEY.replace("PeterNeumann", "Peter\u{3000}Neumann"), KeyError::Name),
        ("newline", format!("{VKEY}\n"), KeyError::Format),
        ("padding", format!("{VKEY}="), KeyError::Format),
        ("short key", "a+00000000+AQAA".to_owned(), KeyError::Format),
        ("no key", "a+00000000+".to_owned(), KeyError::Format),
        ("one part", "a".to_owned(), KeyError::Format),
        ("cosignature type", VKEY.replace("+ARpc", "+BBpc"), KeyError::Type(4)),
    ];
    for (what, vkey, expected) in rows {
        assert_eq!(VerifyingKey::parse(&vkey), Err(expected), "{what}");
    }
}

#[test]
fn keys_of_small_order_or_odd_spelling_are_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut identity_plus_p = [0xff; 32];
    (identity_plus_p[0], identity_plus_p[31]) = (0xee, 0x7f);
    let mut four_plus_p = [0xff; 32];
    (four_plus_p[0], four_plus_p[31]) = (0xf1, 0x7f);
    for bytes in [[0; 32], identity, identity_plus_p, four_plus_p] {
        assert_eq!(VerifyingKey::new("a", &bytes), Err(KeyError::Point), "{bytes:02x?}");
    }
}

#[test]
fn unknown_signatures_are_ignored_and_known_ones_must_hold() {
    let both = format!("{TEXT}\n{OTHER_SIGNATURE}{SIGNATURE}");
    assert_eq!(open(&both, &peter()).unwrap().verified, [0]);
    let other = format!("{TEXT}\n{OTHER_SIGNATURE}");
    assert_eq!(open(&other, &peter()), Err(NoteError::Unsigned));
    let failing = format!("{}\n{SIGNATURE}", TEXT.replace("answer", "Answer"));
    let named = NoteError::Signature { name: "PeterNeumann".to_owned(), id: 0xc74f_20a3 };
    assert_eq!(open(&failing, &peter()), Err(named.clone()));
    // One good signature does not save a note that carries a bad one.
    let second = SigningKey::from_seed("Second", &[9; 32]).unwrap();
    let good = second.sign_note(&TEXT.replace("answer", "Answer")).unwrap();
    let keys = [peter()[0].clone(), second.verifying_key().clone()];
    assert_eq!(open(&good, &keys).unwrap().verified, [1]);
    assert_eq!(open(&format!("{good}{SIGNATURE}"), &keys), Err(named));
}

#[test]
fn a_note_has_one_spelling() {
    let note = format!("{TEXT}\n{SIGNATURE}");
    let twice = NoteError::Duplicate { name: "PeterNeumann".to_owned(), id: 0xc74f_20a3 };
    let rows = [
        ("nothing", String::new(), NoteError::Format { line: 1 }),
        ("no final newline", note.trim_end().to_owned(), NoteError::Format { line: 4 }),
        ("two final newlines", format!("{note}\n"), NoteError::Format { line: 5 }),
        ("carriage returns", note.replace('\n', "\r\n"), NoteError::Format { line: 1 }),
        ("tab", note.replace("then you", "then\tyou"), NoteError::Format { line: 2 }),
        ("escape", note.replace("then you", "then\u{1b}you"), NoteError::Format { line: 2 }),
        ("next line", note.replace("then you", "then\u{85}you"), NoteError::Format { line: 2 }),
        ("hyphen for dash", note.replace('—', "-"), NoteError::Format { line: 4 }),
        ("two spaces", note.replace("— P", "—  P"), NoteError::Format { line: 4 }),
        ("trailing space", note.replace("nAM=\n", "nAM= \n"), NoteError::Format { line: 4 }),
        ("trailing bits", note.replace("nAM=", "nAN="), NoteError::Format { line: 4 }),
        ("no padding", note.replace("nAM=", "nAM"), NoteError::Format { line: 4 }),
        ("plus in name", note.replace("PeterN", "Peter+N"), NoteError::Format { line: 4 }),
        ("id without signature", format!("{TEXT}\n— PeterNeumann x08gow==\n"), NoteError::Format { line: 4 }),
        ("signed twice", format!("{note}{SIGNATURE}"), twice),
        ("too large", format!("{}{note}", "a".repeat(NOTE_BYTES_MAX)), NoteError::Size),
    ];
    for (what, note, expected) in rows {
        assert_eq!(open(&note, &peter()), Err(expected), "{what}");
    }
}

#[test]
fn a_text_that_could_not_be_opened_is_not_signed() {
    let key = log_key();
    assert_eq!(key.sign_note("no newline"), Err(NoteError::Format { line: 1 }));
    assert_eq!(key.sign_note("a\r\n"), Err(NoteError::Format { line: 1 }));
    assert_eq!(key.sign_note(&"a\n".repeat(NOTE_BYTES_MAX)), Err(NoteError::Size));
}

#[test]
fn a_note_may_be_as_long_as_notes_may_be() {
    let key = log_key();
    let overhead = key.sign_note("a\n").unwrap().len() - 2;
    let text = format!("{}\n", "a".repeat(NOTE_BYTES_MAX - overhead - 1));
    let note = key.sign_note(&text).unwrap();
    assert_eq!(note.len(), NOTE_BYTES_MAX);
    assert_eq!(open(&note, &[key.verifying_key().clone()]).unwrap().text, text);
    assert_eq!(key.sign_note(&format!("a{text}")), Err(NoteError::Size));
}

#[test]
fn a_line_that_is_no_signature_is_named_by_its_number() {
    for lines in 1..5 {
        let note = format!("{}\n{SIGNATURE}— nobody\n", "a\n".repeat(lines));
        assert_eq!(open(&note, &[]), Err(NoteError::Format { line: lines + 3 }));
    }
    let [key] = peter();
    assert_eq!(format!("{key:?}"), format!("VerifyingKey({VKEY})"));
}

#[test]
fn a_text_with_empty_lines_is_parted_at_the_last() {
    let key = log_key();
    let note = key.sign_note("one\n\ntwo\n\n").unwrap();
    assert_eq!(open(&note, &[key.verifying_key().clone()]).unwrap().text, "one\n\ntwo\n\n");
}

#[test]
fn thirty_two_signatures_are_read_and_one_more_is_not() {
    let line = |n: usize| SIGNATURE.replace("PeterNeumann", &format!("unknown{n}"));
    let mut note = format!("{TEXT}\n");
    (1..SIGNATURES_MAX).for_each(|n| note += &line(n));
    note += SIGNATURE;
    assert_eq!(open(&note, &peter()).unwrap().verified, [0]);
    note += &line(0);
    assert_eq!(open(&note, &peter()), Err(NoteError::Count));
}

#[test]
fn a_checkpoint_opens_only_with_the_key_named_like_its_origin() {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: leaf_hash(b"root") };
    let key = log_key();
    let note = checkpoint.sign(&key).unwrap();
    let trusted = key.verifying_key().clone();
    assert_eq!(Checkpoint::open(&note, std::slice::from_ref(&trusted)), Ok(checkpoint.clone()));
    assert_eq!(Checkpoint::claimed(&note), Ok(checkpoint.clone()));
    assert_eq!(Checkpoint::open(&note, &peter()), Err(CheckpointError::UnknownLog(ORIGIN.to_owned())));

    let stranger = SigningKey::from_seed("stranger", &[8; 32]).unwrap();
    assert_eq!(checkpoint.sign(&stranger), Err(CheckpointError::Unsigned(ORIGIN.to_owned())));
    let foreign = stranger.sign_note(&checkpoint.to_text()).unwrap();
    let keys = [trusted, stranger.verifying_key().clone()];
    assert_eq!(Checkpoint::open(&foreign, &keys), Err(CheckpointError::Unsigned(ORIGIN.to_owned())));
    assert_eq!(Checkpoint::open(&foreign, &keys[..1]), Err(CheckpointError::Note(NoteError::Unsigned)));

    let impostor = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    let forged = checkpoint.sign(&impostor).unwrap();
    assert_eq!(Checkpoint::open(&forged, &keys[..1]), Err(CheckpointError::Note(NoteError::Unsigned)));
}

#[test]
fn a_checkpoint_text_has_one_spelling() {
    let text = Checkpoint { origin: ORIGIN.to_owned(), size: 10, root: EMPTY_ROOT }.to_text();
    assert_eq!(text, format!("{ORIGIN}\n10\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"));
    assert_eq!(Checkpoint::parse(&text).unwrap().to_text(), text);
    let largest = text.replace("\n10\n", "\n9223372036854775807\n");
    assert_eq!(Checkpoint::parse(&largest).unwrap().to_text(), largest);
    let size = |written: &str| text.replace("\n10\n", &format!("\n{written}\n"));
    let rows = [
        ("leading zero", size("010"), CheckpointError::Size),
        ("two zeros", size("00"), CheckpointError::Size),
        ("sign", size("+10"), CheckpointError::Size),
        ("no digits", size(""), CheckpointError::Size),
        ("other digits", size("1０"), CheckpointError::Size),
        ("2^63", size("9223372036854775808"), CheckpointError::Size),
        ("trailing bits", text.replace("FU=", "FV="), CheckpointError::Root),
        ("no origin", text.replace(ORIGIN, ""), CheckpointError::Origin),
        ("space in origin", text.replace("gateway", "gate way"), CheckpointError::Origin),
        ("extension line", format!("{text}more\n"), CheckpointError::Lines),
        ("empty line", format!("{text}\n"), CheckpointError::Lines),
        ("no final newline", text.trim_end().to_owned(), CheckpointError::Lines),
    ];
    for (what, text, expected) in rows {
        assert_eq!(Checkpoint::parse(&text), Err(expected), "{what}");
    }
}

#[test]
fn a_size_that_could_not_be_read_is_not_signed() {
    let checkpoint = |size| Checkpoint { origin: ORIGIN.to_owned(), size, root: EMPTY_ROOT };
    assert_eq!(checkpoint(1 << 63).sign(&log_key()), Err(CheckpointError::Size));
    let note = checkpoint((1 << 63) - 1).sign(&log_key()).unwrap();
    assert_eq!(Checkpoint::claimed(&note), Ok(checkpoint((1 << 63) - 1)));
}
