//! Decides whether receipt files prove what they should and nothing else: round trips, every changed byte, the part that
//! each refusal names.

use std::sync::LazyLock;

use crate::receipts::{ORIGIN, SIZES, leaf, log_key, receipts};
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::{SigningKey, VerifyingKey};
use tongban::tlog::receipt_file::{
    CHECKPOINTS_CACHED_MAX, PROOF_BYTES_MAX, TlogProof, Verified, Verifier, VerifyError, verify,
};

/// The one key that these tests trust, derived once because some tests verify tens of thousands of times.
static TRUSTED: LazyLock<Vec<VerifyingKey>> = LazyLock::new(|| vec![log_key().verifying_key().clone()]);

/// Twenty receipts from logs of several sizes.
fn samples() -> Vec<TlogProof> {
    let pick = |size: u64| receipts(size).into_iter().step_by((size as usize / 7).max(1)).take(8);
    let samples: Vec<_> = SIZES.into_iter().flat_map(pick).collect();
    assert!(samples.len() >= 20, "{}", samples.len());
    samples
}

fn part(file: &[u8], leaf: &[u8]) -> &'static str {
    verify(file, leaf, &TRUSTED).expect_err("refused").part()
}

#[test]
fn every_receipt_verifies_and_reads_back_as_written() {
    for size in SIZES {
        let mut verifier = Verifier::new(TRUSTED.clone());
        for receipt in receipts(size) {
            let (text, leaf) = (receipt.to_text(), leaf(receipt.index));
            assert_eq!(TlogProof::parse(text.as_bytes()).as_ref(), Ok(&receipt));
            let verified = verify(text.as_bytes(), &leaf, &TRUSTED).unwrap();
            assert_eq!((verified.origin.as_str(), verified.size, verified.index), (ORIGIN, size, receipt.index));
            assert_eq!(verified.leaf, leaf_hash(&leaf));
            assert_eq!(verifier.verify(text.as_bytes(), &leaf).as_ref(), Ok(&verified));
            assert_eq!(verifier.verify_proof(&receipt, &leaf), Ok(verified));
        }
    }
}

#[test]
fn the_published_receipt_is_what_we_write_and_verifies() {
    let trust = include_str!("../data/tlog/trust").lines().map(|line| VerifyingKey::parse(line).unwrap());
    let trust: Vec<_> = trust.collect();
    assert_eq!(trust, *TRUSTED);
    assert_eq!(include_bytes!("../data/tlog/100-42.leaf").as_slice(), leaf(42));
    let receipt = include_str!("../data/tlog/100-42.tlog-proof");
    assert_eq!(receipt, receipts(100)[42].to_text());
    assert!(verify(receipt.as_bytes(), &leaf(42), &trust).is_ok());
}

#[test]
fn a_file_has_a_largest_size() {
    let receipt = receipts(3).swap_remove(1);
    let filled = |bytes: usize| {
        let bare = TlogProof { checkpoint_note: String::new(), ..receipt.clone() };
        let text = TlogProof { checkpoint_note: "n".repeat(bytes - bare.to_text().len()), ..bare }.to_text();
        assert_eq!(text.len(), bytes);
        TlogProof::parse(text.as_bytes()).map(|_| ())
    };
    assert_eq!(filled(PROOF_BYTES_MAX), Ok(()));
    assert_eq!(filled(PROOF_BYTES_MAX + 1).map_err(|fault| fault.line), Err(1));
}

#[test]
fn every_changed_byte_is_refused() {
    let (mut changes, mut parts) = (0, std::collections::BTreeMap::new());
    for receipt in samples() {
        let (text, leaf) = (receipt.to_text().into_bytes(), leaf(receipt.index));
        for flip in [0x01, 0x20, 0x80, 0xff] {
            for place in 0..text.len() {
                let mut text = text.clone();
                text[place] ^= flip;
                *parts.entry(part(&text, &leaf)).or_insert(0) += 1;
                changes += 1;
            }
            for place in 0..leaf.len() {
                let mut leaf = leaf.clone();
                leaf[place] ^= flip;
                assert_eq!(part(&text, &leaf), "leaf or proof");
                changes += 1;
            }
        }
    }
    println!("{changes} changed bytes refused; in the proof files by part: {parts:?}");
    let named = ["format", "leaf or proof", "origin", "proof", "root", "signature", "size"];
    assert!(named.iter().all(|part| parts.contains_key(part)), "{parts:?}");
}

#[test]
fn every_shortened_or_lengthened_file_is_refused() {
    for receipt in samples() {
        let (text, leaf) = (receipt.to_text().into_bytes(), leaf(receipt.index));
        for end in 0..text.len() {
            part(&text[..end], &leaf);
        }
        for more in ["\n", " ", "a", "\n\n", "— a b\n", "\0", "\u{feff}"] {
            part(&[&text, more.as_bytes()].concat(), &leaf);
            part(&[more.as_bytes(), &text].concat(), &leaf);
        }
        part(&text, &[&leaf[..], b"\n"].concat());
        part(&text, &leaf[1..]);
    }
}

#[test]
fn a_refusal_names_the_part_that_was_changed() {
    let receipt = receipts(100).swap_remove(42);
    let (text, leaf) = (receipt.to_text(), leaf(42));
    let first_hash = receipt.path[0].to_base64();
    let other_hash = leaf_hash(b"other").to_base64();
    let root = Checkpoint::claimed(&receipt.checkpoint_note).unwrap().root.to_base64();
    let signature = receipt.checkpoint_note.lines().last().unwrap();
    let (signer, signed) = signature.rsplit_once(' ').unwrap();
    let other_signed = receipts(99)[0].checkpoint_note.lines().last().unwrap().rsplit_once(' ').unwrap().1.to_owned();
    let rows = [
        ("header", "c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2", "format"),
        ("index with a zero in front", "index 42", "index 042", "format"),
        ("index in the log", "index 42", "index 41", "leaf or proof"),
        ("index beyond the log", "index 42", "index 100", "index"),
        ("index of another path length", "index 42", "index 99", "proof"),
        ("proof hash", &first_hash, &other_hash, "leaf or proof"),
        ("proof hash dropped", &format!("{first_hash}\n"), "", "proof"),
        ("proof hash added", &first_hash, &format!("{other_hash}\n{first_hash}"), "proof"),
        ("origin", &format!("\n\n{ORIGIN}"), "\n\nsuzhou.gateway.example/log/a/1", "origin"),
        ("size with a zero in front", "\n100\n", "\n0100\n", "size"),
        ("size", "\n100\n", "\n200\n", "size"),
        ("size below the index", "\n100\n", "\n40\n", "size"),
        ("root", &root, &other_hash, "root"),
        ("signer", signer, "— suzhou.gateway.example/log/a/1", "signature"),
        ("signature of another checkpoint", signed, &other_signed, "signature"),
        ("extension line", &format!("{root}\n"), &format!("{root}\nmore\n"), "format"),
        ("carriage returns", "\n", "\r\n", "format"),
        ("empty extra data", "index 42", "extra \nindex 42", "format"),
    ];
    for (what, from, to, expected) in rows {
        assert!(text.contains(from), "{what}");
        assert_eq!(part(text.replace(from, to).as_bytes(), &leaf), expected, "{what}");
    }
    assert_eq!(part(text.as_bytes(), b"another leaf"), "leaf or proof");
}

#[test]
fn a_format_fault_names_its_line() {
    let receipt = receipts(3).swap_remove(1);
    let text = receipt.to_text();
    // Lines: header, index, two hashes, empty, origin, size, root, empty, signature.
    for (line, byte) in text.match_indices('\n').map(|(byte, _)| byte).enumerate() {
        if ![4, 6, 8].contains(&line) {
            let changed = [&text[..byte], "\u{1}", &text[byte..]].concat();
            assert_eq!(verify(changed.as_bytes(), &leaf(1), &TRUSTED), Err(VerifyError::Format { line: line + 1 }));
        }
    }
}

#[test]
fn bytes_that_are_no_text_and_a_file_that_ends_early_have_their_line() {
    let text = receipts(3).swap_remove(1).to_text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for before in 0..4 {
        let begins = lines[..before].concat();
        let fault = |file: Vec<u8>| TlogProof::parse(&file).unwrap_err().line;
        assert_eq!(fault([begins.as_bytes(), b"ab\xff", text.as_bytes()].concat()), before + 1);
        assert_eq!(fault(begins.into_bytes()), before.max(1));
    }
}

#[test]
fn extra_data_is_kept_and_proves_nothing() {
    let mut receipt = receipts(3).swap_remove(1);
    receipt.extra = Some(b"for the clerk".to_vec());
    let text = receipt.to_text();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra Zm9yIHRoZSBjbGVyaw==\nindex 1\n"));
    assert_eq!(TlogProof::parse(text.as_bytes()).as_ref(), Ok(&receipt));
    assert!(verify(text.as_bytes(), &leaf(1), &TRUSTED).is_ok());
}

#[test]
fn a_verifier_forgets_old_checkpoints_and_remembers_no_refused_one() {
    let mut verifier = Verifier::new(TRUSTED.clone());
    let mut first = receipts(1).remove(0);
    for size in 1..=2 * CHECKPOINTS_CACHED_MAX as u64 {
        let receipt = receipts(size).remove(0);
        assert!(verifier.verify_proof(&receipt, &leaf(0)).is_ok());
    }
    assert_eq!(format!("{verifier:?}").matches("Checkpoint {").count(), CHECKPOINTS_CACHED_MAX);
    assert!(verifier.verify_proof(&first, &leaf(0)).is_ok());
    first.checkpoint_note = first.checkpoint_note.replace("\n1\n", "\n2\n");
    for _ in 0..2 {
        assert_eq!(verifier.verify_proof(&first, &leaf(0)), Err(VerifyError::Size));
    }
}

#[test]
fn one_log_does_not_vouch_for_another() {
    let other = SigningKey::from_seed("suzhou.gateway.example/log/a/1", &[8; 32]).unwrap();
    let text = receipts(3).swap_remove(1).to_text();
    let refused = verify(text.as_bytes(), &leaf(1), &[other.verifying_key().clone()]);
    assert_eq!(refused, Err(VerifyError::Origin(ORIGIN.to_owned())));
    let both = [other.verifying_key().clone(), TRUSTED[0].clone()];
    assert!(matches!(verify(text.as_bytes(), &leaf(1), &both), Ok(Verified { size: 3, .. })));
}
