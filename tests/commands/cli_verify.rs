//! Decides whether `tongban verify` says of receipt files what is true, names the part that fails, and ends with the codes it
//! promises. The receipts in tests/data/receipts were exported from two gateways and never change.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::terminal::{Terminal, copy};
use serde_json::Value;
use tongban::evidence::Evidence;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::SigningKey;
use tongban::tlog::receipt_file::TlogProof;
use tongban::tlog::tree::Tree;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/receipts");

/// A terminal with a copy of the golden receipts and their trust file.
fn golden(name: &str) -> Terminal {
    let terminal = Terminal::new("cli_verify", name);
    for folder in ["confirmed", "rejected"] {
        copy(&Path::new(GOLDEN).join(folder), &terminal.path(folder));
    }
    fs::copy(Path::new(GOLDEN).join("trust"), terminal.path("trust")).unwrap();
    terminal
}

fn proofs() -> Vec<PathBuf> {
    let folders = ["confirmed", "rejected"].map(|folder| fs::read_dir(Path::new(GOLDEN).join(folder)).unwrap());
    let paths = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut proofs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "tlog-proof")).collect();
    proofs.sort();
    proofs
}

/// The part that is named for the only receipt.
fn part(found: &Value) -> String {
    assert_eq!((&found["verified"], &found["failed"]), (&0.into(), &1.into()), "{found:#}");
    found["receipts"][0]["part"].as_str().unwrap().to_owned()
}

#[test]
fn golden_receipts_hold_and_their_chains_are_whole() {
    let terminal = golden("holds");
    let found = terminal.json(0, "verify confirmed rejected --trust trust");
    assert_eq!((&found["verified"], &found["failed"]), (&14.into(), &0.into()));
    let chains = found["messages"].as_array().unwrap();
    let states: BTreeSet<_> = chains.iter().map(|chain| chain["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["CONFIRMED", "REJECTED"].into());
    assert!(chains.iter().all(|chain| chain["chain"] == "whole" && chain["receipts"] == 7), "{found:#}");
    let refusal = found["receipts"].as_array().unwrap().iter().find(|r| r["receipt"]["event"] == "HANDOVER_FAILED");
    let refusal = &refusal.unwrap()["receipt"];
    assert_eq!(
        (&refusal["reasons"][0], &refusal["token"]),
        (&"RECIPIENT_REFUSED".into(), &"MATERIALS_INCOMPLETE".into())
    );
    let (out, err) = terminal.ends(0, "verify confirmed/01-SUBMISSION_ACCEPTED-450200.tlog-proof --trust trust");
    assert!(
        out.contains("OK") && out.contains("SUBMISSION_ACCEPTED") && err.contains("1 receipts verified"),
        "{out}{err}"
    );
}

/// One folder with a copy of every receipt for every byte of its two files, that byte changed.
#[test]
fn every_changed_byte_of_twenty_eight_files_is_refused_and_its_part_named() {
    let terminal = golden("flipped");
    let changed = terminal.path("changed");
    fs::create_dir(&changed).unwrap();
    let mut count = 0;
    for (receipt, proof_file) in proofs().iter().enumerate() {
        let [proof, leaf] = [proof_file.clone(), proof_file.with_extension("leaf")].map(|path| fs::read(path).unwrap());
        for place in 0..proof.len() + leaf.len() {
            let (mut proof, mut leaf) = (proof.clone(), leaf.clone());
            match place.checked_sub(proof.len()) {
                None => proof[place] ^= 1,
                Some(place) => leaf[place] ^= 1,
            }
            fs::write(changed.join(format!("{receipt}-{place}.tlog-proof")), proof).unwrap();
            fs::write(changed.join(format!("{receipt}-{place}.leaf")), leaf).unwrap();
            count += 1;
        }
    }
    let found = terminal.json(1, "verify changed --trust trust");
    assert_eq!((&found["verified"], &found["failed"]), (&0.into(), &count.into()));
    let parts: BTreeSet<_> =
        found["receipts"].as_array().unwrap().iter().map(|r| r["part"].as_str().unwrap()).collect();
    let known = ["format", "index", "leaf", "leaf or proof", "origin", "proof", "root", "signature", "size"];
    assert!(parts.is_subset(&known.into()) && parts.len() > 5, "{parts:?}");
    assert!(count > 8_000, "{count}");
    fs::remove_dir_all(changed).unwrap();
}

#[test]
fn each_kind_of_damage_is_named() {
    let terminal = golden("damage");
    let name = "01-SUBMISSION_ACCEPTED-450200";
    let original = fs::read_to_string(terminal.path(&format!("confirmed/{name}.tlog-proof"))).unwrap();
    let leaf = fs::read(terminal.path(&format!("confirmed/{name}.leaf"))).unwrap();
    let lines: Vec<&str> = original.lines().collect();
    let root = lines.iter().position(|line| line.is_empty()).unwrap() + 3;
    let with = |line: usize, text: &str| {
        let mut lines = lines.clone();
        lines[line] = text;
        lines.join("\n") + "\n"
    };
    let mut other_leaf = leaf.clone();
    let end = other_leaf.len() - 1;
    other_leaf[end] ^= 1;
    fs::create_dir(terminal.path("one")).unwrap();
    for (damage, proof, leaf, part_named) in [
        ("a line ending of another system", original.replace('\n', "\r\n"), &leaf, "format"),
        ("a leading zero", with(1, "index 00"), &leaf, "format"),
        ("an index outside the log", with(1, "index 4000"), &leaf, "index"),
        ("another log", original.replace("450200.gateway", "450300.gateway"), &leaf, "origin"),
        ("another size", with(root - 1, "999"), &leaf, "size"),
        ("another root", with(root, "ZEYDen8Q8BGc576tzSyQeFl+BCKWRGDX9WvP0mq/MGA="), &leaf, "root"),
        ("no signature", lines[..root + 1].join("\n") + "\n\n", &leaf, "format"),
        ("no proof", String::new(), &leaf, "format"),
        ("no leaf", original.clone(), &vec![], "leaf"),
        ("another leaf", original.clone(), &other_leaf, "leaf or proof"),
    ] {
        fs::write(terminal.path("one/x.tlog-proof"), proof).unwrap();
        fs::write(terminal.path("one/x.leaf"), leaf).unwrap();
        assert_eq!(part(&terminal.json(1, "verify one/x.tlog-proof --trust trust")), part_named, "{damage}");
    }
    fs::remove_file(terminal.path("one/x.leaf")).unwrap();
    assert_eq!(part(&terminal.json(1, "verify one/x.tlog-proof --trust trust")), "leaf");
    fs::rename(terminal.path("one/x.tlog-proof"), terminal.path("one/other")).unwrap();
    fs::write(terminal.path("one/x.leaf"), &leaf).unwrap();
    assert_eq!(
        part(&terminal.json(1, "verify one --trust trust")),
        "proof",
        "a leaf without its proof is not passed over"
    );
}

#[test]
fn a_log_that_is_not_trusted_and_one_that_speaks_for_another_are_refused() {
    let terminal = golden("foreign");
    let trust = fs::read_to_string(terminal.path("trust")).unwrap();
    let only: String =
        trust.lines().filter(|line| line.starts_with("450200")).map(|line| format!("{line}\n")).collect();
    fs::write(terminal.path("only"), only).unwrap();
    let found = terminal.json(1, "verify confirmed --trust only");
    let origin = found["receipts"].as_array().unwrap().iter().filter(|receipt| receipt["part"] == "origin").count();
    assert_eq!((&found["failed"], origin), (&3.into(), 3), "{found:#}");

    // Foshan's key signs a log of its own in which a leaf speaks for Liuzhou.
    let key = SigningKey::from_seed("440600.gateway.alliance.example/log/b/1", &[7; 32]).unwrap();
    let leaf = fs::read(terminal.path("confirmed/01-SUBMISSION_ACCEPTED-450200.leaf")).unwrap();
    let mut evidence = Evidence::from_leaf(&leaf).unwrap();
    for (member, key_id, part_named) in
        [("450200", key.verifying_key().id(), "issuer"), ("440600", 1, "key"), ("440600", key.verifying_key().id(), "")]
    {
        (evidence.issuer, evidence.key_id) = (member.parse().unwrap(), key_id);
        let leaf = evidence.to_leaf().unwrap();
        let mut tree = Tree::empty();
        let path = tree.append(&[leaf_hash(&leaf)]).paths().remove(0);
        let checkpoint = Checkpoint { origin: key.verifying_key().name().to_owned(), size: 1, root: tree.root() };
        let proof = TlogProof { extra: None, index: 0, path, checkpoint_note: checkpoint.sign(&key).unwrap() };
        fs::write(terminal.path("x.leaf"), leaf).unwrap();
        fs::write(terminal.path("x.tlog-proof"), proof.to_text()).unwrap();
        fs::write(terminal.path("foshan"), format!("{}\n", key.verifying_key())).unwrap();
        let line = "verify x.tlog-proof --trust foshan";
        match part_named {
            "" => drop(terminal.json(0, line)),
            named => assert_eq!(part(&terminal.json(1, line)), named),
        }
    }
}

#[test]
fn a_receipt_left_out_of_the_middle_is_told_unless_some_are_known_to_be_missing() {
    let terminal = golden("gap");
    fs::remove_file(terminal.path("confirmed/03-CONSIGNED-440600.leaf")).unwrap();
    fs::remove_file(terminal.path("confirmed/03-CONSIGNED-440600.tlog-proof")).unwrap();
    let found = terminal.json(1, "verify confirmed --trust trust");
    assert_eq!((&found["failed"], &found["messages"][0]["chain"]), (&0.into(), &"gap".into()), "{found:#}");
    assert!(found["messages"][0]["at"].as_str().unwrap().starts_with("HANDED_OVER "), "{found:#}");
    assert!(terminal.ends(1, "verify confirmed --trust trust").0.contains("GAP: the receipt before HANDED_OVER"));
    terminal.ends(0, "verify confirmed --trust trust --partial");
}

#[test]
fn commands_end_with_the_exit_codes_they_promise() {
    let terminal = golden("codes");
    let some = "confirmed/01-SUBMISSION_ACCEPTED-450200";
    terminal.ends(64, &format!("verify {some}.tlog-proof"));
    terminal.ends(64, "verify --trust trust");
    let (_, err) = terminal.ends(64, &format!("verify {some}.leaf --trust trust"));
    assert!(err.contains("hint: name the .tlog-proof file"), "{err}");
    terminal.ends(66, "verify none.tlog-proof --trust trust");
    terminal.ends(66, &format!("verify {some}.tlog-proof --trust none"));
    fs::create_dir(terminal.path("empty")).unwrap();
    terminal.ends(66, "verify empty --trust trust");
    fs::write(terminal.path("nothing"), "").unwrap();
    terminal.ends(65, "verify confirmed --trust nothing");
    let trust = fs::read_to_string(terminal.path("trust")).unwrap();
    fs::write(terminal.path("bad"), format!("{trust}x+00000000+x\n")).unwrap();
    let (_, err) = terminal.ends(65, "verify confirmed --trust bad");
    assert!(err.contains("bad:3: the key is not written"), "{err}");
    fs::write(terminal.path("member"), trust.replace(".gateway.", ".member.")).unwrap();
    terminal.ends(65, "verify confirmed --trust member");
}

#[test]
fn words_follow_the_language_and_data_does_not() {
    let terminal = golden("language");
    fs::write(terminal.path("confirmed/01-SUBMISSION_ACCEPTED-450200.leaf"), "x").unwrap();
    let (out, err) = terminal.ends(1, "verify confirmed --trust trust --lang zh");
    assert!(out.contains("FAILED: 叶子") && err.contains("6 份回执验证通过，1 份不通过"), "{out}{err}");
    let line = "verify confirmed --trust trust --json";
    assert_eq!(terminal.ends(1, line).0, terminal.ends(1, &format!("{line} --lang zh")).0);
}
