//! Decides whether the house is in order: each rule is a function over a file's text, tested with a bad sample that it must
//! report. Never looks at anything but text, and never mends a file.

use std::path::Path;
use std::process::Command;

// The rules as data.

/// The floors, lowest first: a module uses what stands on its own floor or below.
const FLOORS: [&[&str]; 6] = [
    &[
        "limits",
        "short",
        "party",
        "reason",
        "time",
        "id",
        "message",
        "marks",
        "evidence",
        "audit",
        "succession",
        "planted",
    ],
    &["tlog", "receipt", "directory", "routing", "lanes", "admission"],
    &["clock", "chance", "keys", "store", "wire", "tls", "blobs", "seal"],
    &["ledger", "noticeboard", "intake", "courier", "janitor", "redrive", "echo"],
    &["grpc", "telemetry"],
    &["lang", "config", "backup", "server", "checks", "demo", "cli", "lib", "main"],
];
/// The highest floor of pure thought.
const PURE: usize = 1;

const LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const FORBIDDEN_NAMES: [&str; 7] = ["error", "util", "utils", "metrics", "prelude", "helpers", "common"];

/// What no pure floor says: clocks, sockets, files, chance, waiting.
const IMPURE: &str = "SystemTime Instant Timestamp::now Utc::now Zoned::now std::fs std::env std::process TcpStream \
    TcpListener UdpSocket ToSocketAddrs tokio:: getrandom rand:: thread::sleep";

/// Words that only their owners say: the words, the owners (each a file and the folder of its name), and why.
const OWNED: [(&str, &str, &str); 4] = [
    ("SystemTime Timestamp::now Utc::now Zoned::now now_v7", "clock", "one place reads the time"),
    ("getrandom OsRng thread_rng rand:: new_v4", "chance keys cli/pki", "chance is asked in one place, keys apart"),
    (
        "std::fs tokio::fs",
        "keys store blobs config backup server demo cli tls",
        "files belong to those who answer for their durability",
    ),
    ("pb::", "wire grpc courier/dial courier/attachments cli/client", "no generated type past the doors"),
];

/// Calls that end the program where it should answer.
const PANICS: &str = ".unwrap() .expect( panic! todo! unimplemented!";

/// The one place in tests that may sleep, between two looks at a state it waits for, with a bound.
const WAITING: &str = "tests/support/wait.rs";

/// Text that no file of the project holds, in halves so that this file does not.
const NOWHERE: [(&str, &str); 7] =
    [("/ro", "ot/"), ("/wo", "rk/"), ("/ho", "me/"), ("../sh", "ared"), ("TO", "DO"), ("FIX", "ME"), ("XX", "X")];

#[derive(Debug, PartialEq)]
struct Finding {
    line: usize,
    what: String,
}

fn finding(text: &str, place: usize, what: impl Into<String>) -> Finding {
    Finding { line: text[..place].matches('\n').count() + 1, what: what.into() }
}

// The rules. Those that take `code` want it from `code()` or `outside_tests()`.

fn opening(text: &str) -> Vec<Finding> {
    if text.starts_with("//! ") { vec![] } else { vec![finding(text, 0, "opens without saying what it decides (//!)")] }
}

fn file_length(text: &str) -> Vec<Finding> {
    let lines = text.lines().count();
    if lines <= LINES_MAX { vec![] } else { vec![finding(text, 0, format!("{lines} lines, over {LINES_MAX}"))] }
}

fn function_length(code: &str) -> Vec<Finding> {
    let long = |start: &usize| {
        let body = body_of(code, *start)?;
        let lines = code[*start..body.end].lines().count();
        (lines > FUNCTION_LINES_MAX).then(|| finding(code, *start, format!("a function of {lines} lines")))
    };
    words(code, "fn ").iter().filter_map(long).collect()
}

fn upward_import(path: &str, code: &str) -> Vec<Finding> {
    let Some(own) = floor_of(path) else { return vec![] };
    let judge = |(place, module): (usize, String)| match floor(&module) {
        Some(floor) if floor <= own => None,
        Some(floor) => Some(finding(code, place, format!("floor {own} looks up to {module} on floor {floor}"))),
        None => Some(finding(code, place, format!("imports {module}, which stands on no floor"))),
    };
    imports(path, code).into_iter().filter_map(judge).collect()
}

fn impure_call(path: &str, code: &str) -> Vec<Finding> {
    let pure = floor_of(path).is_some_and(|floor| floor <= PURE);
    if pure { said(code, IMPURE, "in a pure floor") } else { vec![] }
}

fn foreign_word(path: &str, code: &str) -> Vec<Finding> {
    let module = module_path(path).join("/");
    let owns = |owner: &str| module.strip_prefix(owner).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let foreign = OWNED.iter().filter(|(_, owners, _)| !owners.split(' ').any(owns));
    foreign.flat_map(|(words, _, why)| said(code, words, &format!("outside its owners: {why}"))).collect()
}

fn panicking(code: &str) -> Vec<Finding> {
    said(code, PANICS, "in src outside tests")
}

fn sleeping_test(path: &str, test_code: &str) -> Vec<Finding> {
    if path == WAITING { vec![] } else { said(test_code, "sleep(", "in a test: wait for a state, with a bound") }
}

fn forbidden_name(path: &str) -> Vec<Finding> {
    let named = |part: &&str| FORBIDDEN_NAMES.contains(&part.trim_end_matches(".rs"));
    path.split('/').filter(named).map(|part| finding("", 0, format!("no module is called {part}"))).collect()
}

fn homeless(path: &str) -> Vec<Finding> {
    if floor_of(path).is_some() { vec![] } else { vec![finding("", 0, "a module that stands on no floor")] }
}

fn disordered_map(lib: &str) -> Vec<Finding> {
    let mut highest = 0;
    let mut findings = vec![];
    for place in words(lib, "mod ") {
        let name = identifier(&lib[place + 4..]);
        match floor(name) {
            Some(floor) if floor >= highest => highest = floor,
            Some(floor) => findings.push(finding(lib, place, format!("{name}, floor {floor}, after floor {highest}"))),
            None => findings.push(finding(lib, place, format!("{name} stands on no floor"))),
        }
    }
    findings
}

fn leaked_text(text: &str) -> Vec<Finding> {
    let inside = |place: usize| text[..place].ends_with(|c: char| c.is_ascii_alphanumeric());
    let leaks = NOWHERE.iter().flat_map(|(first, second)| {
        let what = format!("{first}{second}");
        let places = words(text, &what).into_iter().filter(|place| !inside(*place));
        places.map(|place| finding(text, place, format!("{what} has no place in the project"))).collect::<Vec<_>>()
    });
    leaks.collect()
}

// Reading text.

/// Every place where `code` says one of the words, in the order of the list.
fn said(code: &str, sought: &str, why: &str) -> Vec<Finding> {
    let places =
        sought.split_whitespace().flat_map(|word| words(code, word).into_iter().map(move |place| (place, word)));
    places.map(|(place, word)| finding(code, place, format!("{word} {why}"))).collect()
}

/// Where a word stands; one that begins or ends like an identifier does not count inside a longer one.
fn words(text: &str, word: &str) -> Vec<usize> {
    let joins = |a: Option<char>, b: Option<char>| {
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        letter(a) && letter(b)
    };
    let whole = |place: &usize| {
        let (before, after) = (&text[..*place], &text[place + word.len()..]);
        !joins(before.chars().last(), word.chars().next()) && !joins(word.chars().last(), after.chars().next())
    };
    text.match_indices(word).map(|(place, _)| place).filter(whole).collect()
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The text with comments and the insides of strings and characters blanked; every byte keeps its place.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = at + literal_length(&text[at..], text[..at].chars().last());
        let (from, to) = if end > at { (at, end) } else { (at, at + 1) };
        if end > at {
            out[from..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at = (to..=bytes.len()).find(|place| text.is_char_boundary(*place)).unwrap_or(bytes.len());
    }
    String::from_utf8(out).unwrap()
}

/// Bytes of the comment, string or character that begins here; 0 if none does.
fn literal_length(text: &str, before: Option<char>) -> usize {
    let to = |end: Option<usize>| end.unwrap_or(text.len());
    let inside_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = text.strip_prefix('b').unwrap_or(text).strip_prefix('r').filter(|_| !inside_word);
    let hashes = raw.map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
    if text.starts_with("//") {
        return to(text.find('\n'));
    }
    if text.starts_with("/*") {
        return to(text.find("*/").map(|end| end + 2));
    }
    if let Some(raw) = raw.filter(|raw| raw[hashes..].starts_with('"')) {
        let opened = text.len() - raw.len() + hashes + 1;
        let close = format!("\"{}", "#".repeat(hashes));
        return to(text[opened..].find(&close).map(|end| opened + end + close.len()));
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    let character = text.starts_with("'\\") || text.chars().nth(2).is_some_and(|c| c == '\'');
    if text.starts_with('\'') && character { quoted(text, '\'') } else { 0 }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return place + 1,
            _ => {}
        }
    }
    text.len()
}

/// The braces that belong to what begins at `start`, or the place of the semicolon that ends it without any.
fn body_of(code: &str, start: usize) -> Option<std::ops::Range<usize>> {
    let (mut depth, mut open) = (0, None);
    for (place, c) in code[start..].char_indices() {
        match c {
            '(' | '[' | '{' => {
                if c == '{' && depth == 0 {
                    open = Some(start + place);
                }
                depth += 1;
            }
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return None,
            _ => {}
        }
        if let Some(open) = open.filter(|_| depth == 0) {
            return Some(open..start + place + 1);
        }
    }
    None
}

/// The code without what stands under `#[cfg(test)]`, and that alone; both blanked, not cut.
fn parted(code: &str) -> (String, String) {
    let (mut work, mut tests) = (code.as_bytes().to_vec(), code.as_bytes().to_vec());
    let mut edge = 0;
    let blank = |bytes: &mut [u8]| bytes.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    for (place, mark) in code.match_indices("#[cfg(test)]").filter(|(p, _)| code.is_char_boundary(*p)) {
        if place < edge {
            continue;
        }
        let end = body_of(code, place + mark.len()).map_or(place + mark.len(), |body| body.end);
        blank(&mut work[place..end]);
        blank(&mut tests[edge..place]);
        edge = end;
    }
    blank(&mut tests[edge..]);
    (String::from_utf8(work).unwrap(), String::from_utf8(tests).unwrap())
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn module_path(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').collect()
}

fn floor_of(path: &str) -> Option<usize> {
    floor(module_path(path)[0])
}

/// The modules of this crate that a file names, by `crate::` or by enough `super::`, in `use` trees and elsewhere.
fn imports(path: &str, code: &str) -> Vec<(usize, String)> {
    let depth_of_file = module_path(path).len();
    let inner: Vec<_> = words(code, "mod ").into_iter().filter_map(|place| body_of(code, place)).collect();
    let mut found: Vec<(usize, String)> = words(code, "crate::")
        .into_iter()
        .flat_map(|place| heads(&code[place + 7..]).into_iter().map(move |head| (place, head)))
        .collect();
    for place in words(code, "super::").into_iter().filter(|place| !code[..*place].ends_with("super::")) {
        let rest = code[place..].trim_start_matches("super::");
        let climbs = (code[place..].len() - rest.len()) / 7;
        let depth = depth_of_file + inner.iter().filter(|body| body.contains(&place)).count();
        if climbs >= depth && path != "src/lib.rs" {
            found.extend(heads(rest).into_iter().map(|head| (place, head)));
        }
    }
    found
}

/// The first names of a path or of a `{tree, of::paths}`.
fn heads(text: &str) -> Vec<String> {
    let Some(tree) = text.strip_prefix('{') else {
        return vec![if text.starts_with('*') { "*".into() } else { identifier(text).to_owned() }];
    };
    let (mut depth, mut names, mut fresh) = (0, vec![], true);
    for (place, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && !c.is_whitespace() => {
                names.extend(heads(&tree[place..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

// The house.

/// The project's files: those that git would commit, or all outside `target` where there is no git.
fn files() -> Vec<String> {
    let list = Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output();
    let listed = list.ok().filter(|list| list.status.success()).map(|list| String::from_utf8(list.stdout).unwrap());
    let all = listed.map_or_else(|| walk(root()), |names| names.lines().map(str::to_owned).collect());
    all.into_iter().filter(|name| root().join(name).is_file()).collect()
}

fn walk(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| !path.ends_with("target") && !path.ends_with(".git"));
    kept.flat_map(|path| match path.is_dir() {
        true => walk(&path),
        false => vec![path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()],
    })
    .collect()
}

fn root() -> &'static Path {
    Path::new(option_env!("CARGO_MANIFEST_DIR").unwrap_or("."))
}

fn findings(path: &str, text: &str) -> Vec<Finding> {
    let mut all = leaked_text(text);
    if !path.ends_with(".rs") {
        return all;
    }
    let code = code(text);
    let (work, tests) = parted(&code);
    all.extend([opening(text), file_length(text), function_length(&code), forbidden_name(path)].into_iter().flatten());
    if path.starts_with("src/") {
        all.extend([homeless(path), upward_import(path, &code), impure_call(path, &work)].into_iter().flatten());
        all.extend([foreign_word(path, &work), panicking(&work), sleeping_test(path, &tests)].into_iter().flatten());
    } else if path.starts_with("tests/") && path != "tests/project/tidy.rs" {
        all.extend(sleeping_test(path, &code));
    }
    if path == "src/lib.rs" {
        all.extend(disordered_map(&code));
    }
    all
}

#[test]
fn the_house_is_tidy() {
    let mut report = vec![];
    for path in files() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        report.extend(findings(&path, &text).into_iter().map(|f| format!("{path}:{}: {}", f.line, f.what)));
    }
    assert!(report.is_empty(), "{} findings:\n{}", report.len(), report.join("\n"));
}

// A bad sample for each rule, and a good one beside it.

#[track_caller]
fn reported(findings: Vec<Finding>, lines: &[usize]) {
    assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), lines, "{findings:?}");
}

#[test]
fn reports_a_file_that_does_not_say_what_it_decides() {
    reported(opening("// Decides.\n"), &[1]);
    reported(opening("//! Decides.\n"), &[]);
}

#[test]
fn reports_a_long_file_and_a_long_function() {
    reported(file_length(&"x\n".repeat(801)), &[1]);
    reported(file_length(&"x\n".repeat(800)), &[]);
    let function = |lines| format!("\nfn f(a: [u8; 2]) {{\n{}}}\nfn g() {{}}", "    if a {}\n".repeat(lines));
    reported(function_length(&function(69)), &[2]);
    reported(function_length(&function(68)), &[]);
}

#[test]
fn reports_an_import_that_looks_up() {
    let up = |path, text: &str| upward_import(path, &code(text));
    reported(up("src/time.rs", "use crate::limits::X;\nuse crate::store::Store;"), &[2]);
    reported(up("src/lanes/lane.rs", "use crate::{time::Time, courier::{dial, x}, tlog};"), &[1]);
    reported(
        up("src/lanes/lane.rs", "use super::queue;\nuse super::super::grpc;\nfn f() { crate::cli::x() }"),
        &[3, 2],
    );
    reported(
        up("src/store/mod.rs", "mod tests { use super::super::ledger; use super::*; }\nuse super::{intake, tls};"),
        &[1, 2],
    );
    reported(up("src/wire/mod.rs", "use crate::*;\nuse crate::nowhere;"), &[1, 2]);
    reported(up("src/cli/mod.rs", "use crate::server;\n// use crate::nowhere\nuse super::grpc;"), &[]);
}

#[test]
fn reports_a_clock_socket_file_or_chance_in_a_pure_floor() {
    let text =
        "let a = SystemTime::now();\nlet b = Instant::now();\nuse std::fs;\nTcpStream::x();\ntokio::y();\nrand::z();";
    let mut found = impure_call("src/routing/mod.rs", text);
    found.sort_by_key(|finding| finding.line);
    reported(found, &[1, 2, 3, 4, 5, 6]);
    reported(impure_call("src/id.rs", "getrandom::fill(x)"), &[1]);
    reported(impure_call("src/courier/mod.rs", text), &[]);
    reported(impure_call("src/directory/mod.rs", "use std::net::IpAddr; struct Instants; strand::x"), &[]);
}

#[test]
fn reports_a_word_outside_its_owners() {
    reported(foreign_word("src/ledger.rs", "SystemTime::now()\n"), &[1]);
    reported(foreign_word("src/grpc/mod.rs", "\ngetrandom::u32()"), &[2]);
    reported(foreign_word("src/intake.rs", "use std::fs::File;"), &[1]);
    reported(foreign_word("src/ledger.rs", "fn f(x: pb::exchange::Part)"), &[1]);
    reported(foreign_word("src/courier/mod.rs", "use crate::wire::pb::x;"), &[1]);
    reported(foreign_word("src/clock.rs", "SystemTime::now()"), &[]);
    reported(foreign_word("src/courier/dial.rs", "pb::x"), &[]);
}

#[test]
fn reports_a_panic_outside_tests() {
    let text = "a.unwrap();\nb.expect(c);\npanic!();\ntodo!();\nunimplemented!();\n";
    reported(panicking(&parted(&code(text)).0), &[1, 2, 3, 4, 5]);
    let fine =
        "a.unwrap_or(b);\n// panic!()\nlet c = \"x.unwrap()\";\n#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }\n";
    reported(panicking(&parted(&code(fine)).0), &[]);
    reported(panicking(&parted(&code(&format!("{fine}b.unwrap()"))).0), &[6]);
}

#[test]
fn reports_a_sleep_in_a_test() {
    reported(sleeping_test("tests/a.rs", "tokio::time::sleep(x)"), &[1]);
    reported(sleeping_test(WAITING, "tokio::time::sleep(x)"), &[]);
    let text = "fn pause() { sleep(x) }\n#[cfg(test)]\nmod tests {\n sleep(x)\n}";
    reported(sleeping_test("src/tls/accept.rs", &parted(text).1), &[4]);
}

#[test]
fn reports_a_name_that_says_nothing() {
    reported(forbidden_name("src/store/error.rs"), &[1]);
    reported(forbidden_name("src/utils/mod.rs"), &[1]);
    reported(forbidden_name("src/tls/refusal.rs"), &[]);
}

#[test]
fn reports_a_module_without_a_floor_and_a_map_out_of_order() {
    reported(homeless("src/stuff.rs"), &[1]);
    reported(homeless("src/cli/pki/issue.rs"), &[]);
    reported(disordered_map("pub mod time;\npub mod store;\npub mod lanes;\nmod stuff;"), &[3, 4]);
    reported(disordered_map("pub mod time;\npub mod tlog;\npub mod store;"), &[]);
}

#[test]
fn reports_text_that_leads_off_the_project() {
    for (first, second) in NOWHERE {
        reported(leaked_text(&format!("fine\n see {first}{second} there")), &[2]);
    }
    reported(leaked_text("a homework in /workshop, spiffe://a/root/b"), &[]);
}

#[test]
fn code_is_read_without_comments_strings_and_characters() {
    let text = "a /* b */ \"c \\\" d\" e r#\"f \" g\"# 'h' '\\'' i<'j> b'k' l // m\nn 号";
    assert_eq!(code(text).split_whitespace().collect::<String>(), "aei<'j>bln号");
}
