//! Decides whether every parser that reads what a stranger wrote stands what was found by fuzzing: each file of
//! `fuzz/corpus` is given to its parser on every run, whole, cut and with more behind it. Never looks for new ones: that is
//! `cargo fuzz run NAME`.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::parsers::{PARSERS, Parser};

/// No input may take longer; a debug build on a busy machine is slow.
const LONGEST: Duration = Duration::from_secs(1);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What the parser says of the bytes, or that it broke.
fn judged(parser: Parser, bytes: &[u8]) -> Result<bool, String> {
    let begun = Instant::now();
    let taken = catch_unwind(AssertUnwindSafe(|| parser(bytes))).map_err(|_| "panicked".to_owned())?;
    let took = begun.elapsed();
    if took < LONGEST { Ok(taken) } else { Err(format!("took {took:?}")) }
}

#[test]
fn every_file_of_every_corpus_is_taken_or_refused_and_breaks_nothing() {
    let mut broken = vec![];
    let mut count = 0;
    for (name, parser) in PARSERS {
        let (mut taken, mut refused) = (0, 0);
        for file in names(&fuzz().join("corpus").join(name)) {
            let bytes = std::fs::read(fuzz().join("corpus").join(name).join(&file)).unwrap();
            let cut = &bytes[..bytes.len() / 2];
            let longer = [&bytes[..], &b"\0"[..]].concat();
            for (form, bytes) in [("", &bytes[..]), (", cut", cut), (", longer", &longer)] {
                match judged(parser, bytes) {
                    Ok(true) => taken += 1,
                    Ok(false) => refused += 1,
                    Err(how) => broken.push(format!("{name}/{file}{form}: {how}")),
                }
                count += 1;
            }
        }
        // A corpus of one kind shows only half of the parser.
        if taken == 0 || refused == 0 {
            broken.push(format!("{name}: {taken} taken, {refused} refused"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    println!("{count} inputs to {} parsers", PARSERS.len());
}

#[test]
fn every_parser_has_its_target_and_its_corpus() {
    let parsers: BTreeSet<String> = PARSERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), parsers);
    let targets: BTreeSet<String> = parsers.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz().join("targets")), targets);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &parsers {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
    }
}

#[test]
fn reports_a_parser_that_breaks() {
    let breaks: Parser = |bytes| bytes[100] == 0;
    let hangs: Parser = |_| {
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            std::thread::yield_now();
        }
        true
    };
    assert_eq!(judged(breaks, b""), Err("panicked".to_owned()));
    assert!(judged(hangs, b"").is_err_and(|how| how.starts_with("took")));
}
