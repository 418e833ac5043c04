//! Decides whether what is personal stays in the contents: a demo is played whose contents name a person, and everything that a
//! gateway says elsewhere is searched for it. The store's envelopes and contents are the one place where it may stand, and there
//! it must.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::terminal::Terminal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// What the demo's contents say of the applicant, and words of the document around it.
const PERSONAL: [&str; 4] = ["张三", "11010519491231002X", "13800138000", "公民身份号码"];

/// The tables that hold contents, and so may hold what is personal.
const CONTENTS: [&str; 1] = ["message"];

/// The forms in which a text may stand in other text or bytes.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let debug: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let numbers = format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    // Base64 of the text at each of the three places where it may begin, without the letters that neighbours share.
    let shifted = (0..3usize).map(|shift| {
        let whole = STANDARD.encode([&vec![0; shift][..], bytes].concat());
        let inner = whole.trim_end_matches('=');
        let (from, to) = ([0, 2, 3][shift], inner.len() - usize::from(!(shift + bytes.len()).is_multiple_of(3)));
        inner.as_bytes()[from..to].to_vec()
    });
    let texts = [text.to_owned(), hex.to_uppercase(), hex, escaped, debug, numbers];
    texts.into_iter().map(String::into_bytes).chain(shifted).collect()
}

fn holds(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

/// Which of the personal texts stand in these bytes, in any form.
fn found(bytes: &[u8]) -> Vec<&'static str> {
    PERSONAL.into_iter().filter(|text| forms(text).iter().any(|form| holds(bytes, form))).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// What each table of a store holds of it, by `table.column`.
fn in_store(path: &Path) -> BTreeMap<String, Vec<&'static str>> {
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut names = store.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut all = BTreeMap::new();
    for table in tables {
        let mut rows = store.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns: Vec<String> = rows.column_names().map(str::to_owned).collect();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for (place, column) in columns.iter().enumerate() {
                let said = match row.get_ref(place).unwrap() {
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => found(bytes),
                    _ => vec![],
                };
                if !said.is_empty() {
                    all.insert(format!("{table}.{column}"), said);
                }
            }
        }
    }
    all
}

#[test]
fn what_is_personal_stands_in_contents_alone() {
    let terminal = Terminal::new("leaks", "demo");
    // Everything that a gateway can be made to say of its own work.
    let mut command = terminal.command("demo --cases 8 --out demo --exit");
    let ended = command.env("TONGBAN_LOG", "trace").output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    for said in [&ended.stdout, &ended.stderr] {
        assert_eq!(found(said), [""; 0]);
    }
    let demo = terminal.path("demo");
    let members = ["450200", "440600", "640100", "440800", "350200", "hub-main"];

    let mut seen = vec![];
    for path in files(&demo).into_iter().filter(|path| !path.components().any(|part| part.as_os_str() == "store")) {
        let said = found(&fs::read(&path).unwrap());
        assert!(said.is_empty(), "{}: {said:?}", path.display());
        seen.push(path.strip_prefix(&demo).unwrap().display().to_string());
    }
    for name in members {
        let log = fs::read_to_string(demo.join(name).join("gateway.log")).unwrap();
        assert!(log.contains("TRACE"), "{name}: the log does not say everything");
        assert!(seen.contains(&format!("metrics/{name}.txt")), "{seen:?}");
    }
    for kind in ["450200-window.jsonl", "case-DEMO-0001/index.html", "trust", "receipts/DEMO-0001-1-apply-"] {
        assert!(seen.iter().any(|name| name.starts_with(kind)), "{kind} in {seen:?}");
    }

    for name in members {
        let mut said = in_store(&demo.join(name).join("store/store.db"));
        // What the search finds where it must shows that it would find it elsewhere; a hub has only what is sealed.
        let contents =
            said.keys().filter(|column| CONTENTS.iter().any(|table| column.starts_with(&format!("{table}."))));
        assert_eq!(contents.count() > 0, name != "hub-main", "{name}: {said:?}");
        said.retain(|column, _| !CONTENTS.iter().any(|table| column.starts_with(&format!("{table}."))));
        assert!(said.is_empty(), "{name}: {said:?}");
    }

    terminal.ends(0, "backup --config demo/450200/tongban.toml --to backup");
    let index: Vec<_> = fs::read_dir(terminal.path("backup")).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in index.iter().filter(|path| path.is_file() && path.extension().is_none_or(|kind| kind != "db")) {
        assert_eq!(found(&fs::read(path).unwrap()), [""; 0], "{}", path.display());
    }
    assert!(index.iter().any(|path| path.extension().is_some_and(|kind| kind == "json")), "{index:?}");
}

#[test]
fn the_search_finds_every_form() {
    for text in PERSONAL {
        for form in forms(text) {
            let around = [b"line before \n{".as_slice(), &form, b"} after"].concat();
            assert_eq!(found(&around), [text], "{}", String::from_utf8_lossy(&form));
        }
        for before in ["", "a", "ab"] {
            let encoded = STANDARD.encode(format!("{before}{text}, and more"));
            assert_eq!(found(encoded.as_bytes()), [text], "{encoded}");
        }
    }
    assert!(found("张 三 1101051949123100 1380013800".as_bytes()).is_empty());
}
