//! Decides whether docs/reliability.md says of the tests what is true: each fault has one row, each test it names exists and
//! runs, and both languages name the same tests with the same result. Never judges what a test shows.

use std::collections::BTreeMap;
use std::path::Path;

/// Rows of the table: T1 to T42.
const ROWS: usize = 42;
/// What a row may say of itself, in both languages.
const RESULTS: [(&str, &str); 4] = [("held", "成立"), ("in part", "部分"), ("open", "未测"), ("not yet", "未有")];

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    tests: Vec<String>,
    /// Which of [`RESULTS`].
    result: Option<usize>,
    reason: String,
}

fn rows(page: &str) -> Vec<Row> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| T")?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [number, _, _, tests, result] = cells[..] else { panic!("five cells: {line}") };
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let (word, reason) = result.split_once([':', '：']).unwrap_or((result, ""));
        let result = RESULTS.iter().position(|(en, zh)| [en, zh].contains(&&word));
        Some(Row { name: format!("T{number}"), tests, result, reason: reason.trim().to_owned() })
    };
    page.lines().filter_map(row).collect()
}

/// The names of a file's tests that run without being asked for.
fn tests_of(code: &str) -> Vec<&str> {
    let mut names = vec![];
    let mut marks: Vec<&str> = vec![];
    for line in code.lines().map(str::trim) {
        let name = line.strip_prefix("async fn ").or(line.strip_prefix("fn "));
        if line.starts_with("#[") {
            marks.push(line);
        } else if let Some(name) = name.and_then(|name| name.split(['(', '<']).next()) {
            let is_test = marks.iter().any(|mark| mark.starts_with("#[test]") || mark.starts_with("#[tokio::test"));
            if is_test && !marks.iter().any(|mark| mark.starts_with("#[ignore")) {
                names.push(name);
            }
            marks.clear();
        } else if !line.starts_with("//") {
            marks.clear();
        }
    }
    names
}

/// What is wrong with a page, a line each.
fn faults(rows: &[Row], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = vec![];
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *seen.entry(&row.name).or_default() += 1);
    for number in 1..=ROWS {
        match seen.remove(format!("T{number}").as_str()) {
            Some(1) => {}
            other => faults.push(format!("T{number} stands there {} times", other.unwrap_or(0))),
        }
    }
    faults.extend(seen.keys().map(|name| format!("{name} is no fault of the matrix")));
    for row in rows {
        let name = &row.name;
        let missing = row.tests.iter().filter(|test| !exists(test));
        faults.extend(missing.map(|test| format!("{name} names {test}, which is no test that runs")));
        match row.result.map(|result| RESULTS[result].0) {
            None => faults.push(format!("{name} has no result")),
            Some("held") if row.tests.is_empty() => faults.push(format!("{name} is held by no test")),
            Some("held") => {}
            Some("in part") if row.tests.is_empty() => faults.push(format!("{name} is held in part by no test")),
            Some(_) if row.reason.is_empty() => faults.push(format!("{name} does not say what is missing")),
            Some("open" | "not yet") if !row.tests.is_empty() => faults.push(format!("{name} is open and names tests")),
            Some(_) => {}
        }
    }
    faults
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

/// Where a file of tests may stand: by itself, as a folder, or in one.
fn codes(file: &str) -> Vec<String> {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
    let mut codes = vec![format!("tests/{file}.rs"), format!("tests/{file}/main.rs")];
    codes.extend(folders.map(|folder| format!("tests/{folder}/{file}.rs")));
    codes
}

fn is_a_test(name: &str) -> bool {
    let Some((file, name)) = name.split_once("::") else { return false };
    codes(file).iter().any(|path| tests_of(&read(path)).contains(&name))
}

/// Every test that a page names anywhere.
fn named(page: &str) -> Vec<&str> {
    let spans = page.split('`').skip(1).step_by(2);
    let word = |span: &&str| span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_:".contains(&b));
    spans.filter(|span| span.contains("::") && word(span) && *span != "file::name").collect()
}

#[test]
fn every_fault_has_a_row_and_every_test_it_names_runs() {
    let page = read("docs/reliability.md");
    let mut found = faults(&rows(&page), is_a_test);
    found.extend(named(&page).into_iter().filter(|name| !is_a_test(name)).map(|name| format!("{name} is no test")));
    assert!(found.is_empty(), "docs/reliability.md:\n{}", found.join("\n"));
}

#[test]
fn both_languages_name_the_same_tests_with_the_same_result() {
    let (english, chinese) = (read("docs/reliability.md"), read("docs/reliability.zh-CN.md"));
    assert_eq!(named(&english), named(&chinese));
    let (english, chinese) = (rows(&english), rows(&chinese));
    assert_eq!(english.len(), chinese.len());
    for (english, chinese) in english.iter().zip(&chinese) {
        let told = |row: &Row| (row.name.clone(), row.tests.clone(), row.result, row.reason.is_empty());
        assert_eq!(told(english), told(chinese));
    }
}

#[test]
fn reports_what_a_page_must_not_say() {
    let whole = || (1..=ROWS).map(|number| format!("| T{number} | a | b | `x::y` | held |"));
    let page = |spoil: fn(String) -> String| {
        faults(&rows(&whole().map(spoil).collect::<Vec<_>>().join("\n")), |test| test == "x::y")
    };
    assert_eq!(page(|row| row), Vec::<String>::new());
    type Spoil = (fn(String) -> String, &'static str);
    let rows: [Spoil; 7] = [
        (|row| row.replace("| T1 |", "| T2 |"), "T1 stands there 0 times"),
        (|row| row.replace("| T1 |", "| T99 |"), "T99 is no fault"),
        (|row| row.replace("| T1 | a | b | `x::y`", "| T1 | a | b | `x::z`"), "T1 names x::z"),
        (|row| row.replace("| T1 | a | b | `x::y`", "| T1 | a | b | "), "T1 is held by no test"),
        (|row| row.replace("| T1 | a | b | `x::y` | held", "| T1 | a | b | `x::y` | fine"), "T1 has no result"),
        (|row| row.replace("| T1 | a | b | `x::y` | held", "| T1 | a | b | `x::y` | in part"), "T1 does not say"),
        (
            |row| row.replace("| T1 | a | b | `x::y` | held", "| T1 | a | b | `x::y` | open: why"),
            "T1 is open and names",
        ),
    ];
    for (spoil, expected) in rows {
        let found = page(spoil);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn reads_which_tests_of_a_file_run() {
    let code = "#[test]\nfn one() {}\n#[test]\n#[ignore = \"long\"]\nfn two() {}\n    #[tokio::test(flavor = \"x\")]\n    async fn three() {}\nfn four() {}\n";
    assert_eq!(tests_of(code), ["one", "three"]);
}
