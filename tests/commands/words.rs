//! Every word that a person reads on the command line stands in Chinese and in English: the help of the whole tree of
//! commands, what is said of a line that cannot be read, and what commands say when they fail.

use std::collections::{BTreeMap, BTreeSet};

use clap::Command;
use tongban::cli::help::words::WORDS;
use tongban::cli::{command, help};

use crate::wording::{english_in, is_chinese};

/// A command and all beneath it, each with its path.
fn tree(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    found.push((path.clone(), command.clone()));
    for inner in command.get_subcommands() {
        tree(inner, &path, found);
    }
}

fn commands() -> Vec<(String, Command)> {
    let mut found = vec![];
    tree(&command(tongban::cli::Lang::En), "", &mut found);
    found
}

/// Every English text of the help, and where it stands first; what has none is named.
fn english() -> (BTreeMap<String, String>, Vec<String>) {
    let (mut texts, mut without) = (BTreeMap::new(), vec![]);
    for (path, command) in commands() {
        let mut say = |place: String, text: Option<String>| match text {
            Some(text) => {
                texts.entry(text).or_insert(place);
            }
            None => without.push(place),
        };
        say(path.clone(), command.get_about().map(ToString::to_string));
        if let Some(long) = command.get_long_about() {
            say(path.clone(), Some(long.to_string()));
        }
        for arg in command.get_arguments() {
            let place = format!("{path}: {}", arg.get_id());
            say(place.clone(), arg.get_help().map(ToString::to_string));
            if let Some(long) = arg.get_long_help() {
                say(place.clone(), Some(long.to_string()));
            }
            if let Some(heading) = arg.get_help_heading() {
                say(place.clone(), Some(heading.to_owned()));
            }
            let possible = arg.get_possible_values();
            for value in possible.iter().filter_map(|value| value.get_help()) {
                say(place.clone(), Some(value.to_string()));
            }
            let names = arg.get_value_names().unwrap_or_default();
            for name in names.iter().filter(|_| arg.get_action().takes_values()) {
                say(place.clone(), Some(name.to_string()));
            }
        }
    }
    (texts, without)
}

#[test]
fn every_text_of_the_help_stands_in_chinese_and_english() {
    let (texts, without) = english();
    assert!(without.is_empty(), "without an English text: give each a doc comment\n{}", without.join("\n"));
    let lacking: Vec<String> = texts
        .iter()
        .filter(|(en, _)| help::chinese(en).is_none())
        .map(|(en, place)| format!("    // {place}\n    ({en:?}, \"\"),"))
        .collect();
    let stale: Vec<&str> = WORDS.iter().map(|(en, _)| *en).filter(|en| !texts.contains_key(*en)).collect();
    assert!(
        lacking.is_empty() && stale.is_empty(),
        "add these rows with their Chinese to WORDS in src/cli/help/words.rs:\n{}\n\
         take these rows out of it, nobody says them any more:\n{}",
        lacking.join("\n"),
        stale.join("\n")
    );
    let mut seen = BTreeSet::new();
    for (en, zh) in WORDS {
        assert!(seen.insert(en), "{en:?} stands twice in WORDS");
        let signs = en.chars().all(|c| !c.is_lowercase());
        assert!(signs || is_chinese(zh), "{en:?} has no Chinese in WORDS: {zh:?}");
        assert_eq!(english_in(zh), None, "{zh:?}");
    }
}

#[test]
fn help_in_chinese_holds_no_english() {
    for (path, _) in commands() {
        let words = path.split(' ').skip(1);
        for flag in ["--help", "-h"] {
            let line: Vec<&str> = ["tongban"].into_iter().chain(words.clone()).chain([flag]).collect();
            let shown = command(tongban::cli::Lang::Zh).try_get_matches_from(&line).unwrap_err();
            let text = help::told(&shown);
            assert_eq!(english_in(&text), None, "{path} {flag} says in Chinese:\n{text}");
            assert!(!text.contains("Usage") && text.contains("用法："), "{text}");
            let shown = command(tongban::cli::Lang::En).try_get_matches_from(&line).unwrap_err().to_string();
            let chinese: String = shown.lines().filter(|line| is_chinese(line)).collect::<Vec<_>>().join("\n");
            let terms = ["（", "通办", "(事项实施编码)"];
            assert!(
                chinese.is_empty() || terms.iter().any(|term| chinese.contains(term)) || chinese.contains('('),
                "{path}:\n{chinese}"
            );
        }
    }
}

/// What nobody can mean, for every kind of value there is.
const RUBBISH: [&str; 4] = ["?", "\u{7}", "-1x", "99999999999999999999"];

#[test]
fn every_value_that_is_refused_is_refused_in_chinese_too() {
    let mut refused = 0;
    for (path, inner) in commands() {
        for arg in inner.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            for value in RUBBISH {
                let mut line: Vec<String> = path.split(' ').map(str::to_owned).collect();
                match (arg.get_long(), arg.get_index()) {
                    (Some(long), _) => line.push(format!("--{long}={value}")),
                    (None, index) => {
                        // Those that stand before it may be anything that is taken; what is refused first is judged as well.
                        line.extend(std::iter::repeat_n("450200".to_owned(), index.unwrap_or(1) - 1));
                        line.extend(["--".to_owned(), value.to_owned()]);
                    }
                }
                let Err(fault) = command(tongban::cli::Lang::Zh).try_get_matches_from(&line) else { continue };
                let text = help::told(&fault);
                assert_eq!(english_in(&text), None, "{line:?} is refused with:\n{text}\n{fault:?}");
                assert!(text.starts_with("错误："), "{text}");
                refused += 1;
            }
        }
    }
    assert!(refused > 200, "only {refused} refusals were looked at");
}

#[test]
fn what_clap_says_of_a_wrong_line_is_said_in_chinese() {
    for (line, says) in [
        ("nonsense", "没有命令 nonsense"),
        ("serv", "提示：是否应为 serve？"),
        ("serve --nonsense", "没有参数 --nonsense"),
        ("serve --confg x", "提示：是否应为 --config"),
        ("pki", "命令："),
        ("init", "缺少必需的参数"),
        ("check --output x", "没有 \"x\" 这个值"),
        ("check --output", "缺少值"),
        ("check --wait 1s --watch", "不能与"),
        ("check --wait 1s --wait 2s", "只能给出一次"),
        ("check --wait soon", "应为数字加单位"),
        ("demo --cases 0", "应在 1..=9999 之内"),
        ("demo --cases few", "应为整数"),
        ("version now", "没有参数 now"),
    ] {
        let words = std::iter::once("tongban").chain(line.split(' '));
        let fault = command(tongban::cli::Lang::Zh).try_get_matches_from(words).unwrap_err();
        let text = help::told(&fault);
        assert!(text.contains(says), "{line}: {says:?} is not in\n{text}\n{fault:?}");
        assert_eq!(english_in(&text), None, "{line}:\n{text}");
    }
}

/// What goes wrong in this many ways is told in Chinese: the command line, the files that it names, and what those hold.
const FAILURES: &[(&str, i32)] = &[
    ("config check --config {dir}/missing.toml", 66),
    ("config check --config {dir}/bad.toml", 78),
    ("config check --config {dir}/no.toml", 78),
    ("config check --config {dir}/good.toml --set nothing --set store.synchronous=never --set gateway.dta=x", 78),
    ("check --config {dir}/bad.toml --output short", 1),
    ("check --config {dir}/good.toml", 1),
    ("check --only nothing", 64),
    ("serve --config {dir}/good.toml", 66),
    ("health --config {dir}/good.toml", 78),
    ("backup --config {dir}/good.toml --to {dir}/backup", 65),
    ("restore {dir}/missing --to {dir}/restored", 66),
    ("verify {dir}/missing.tlog-proof --trust {dir}/missing", 66),
    ("verify {dir}/bad.toml --trust {dir}/bad.toml", 65),
    ("directory verify {dir}/missing.note --key {dir}/missing.vkey", 66),
    ("directory sign {dir}/missing.json --key {dir}/missing.key", 66),
    ("init --pki {dir}/missing --data {dir}/data", 64),
    ("pki add-system 450200 window --dir {dir}/missing", 66),
    ("pki renew 450200 gateway --dir {dir}/missing", 66),
    ("send --dir {dir} --as 450200/window --to 440600 --item A --text x", 66),
    ("receive --dir {dir} --as 450200/window", 66),
    ("lanes list --dir {dir} --as 450200/ops/li", 66),
    ("demo --out {dir} --exit", 73),
];

const BAD: &str = r#"
[gateway]
alliance = "Not an alliance"
city = "45"
listen = "nowhere"
fetch_from = ["nobody"]
data = 1
[tls]
certificat = "x"
key = "-----BEGIN"
[directory]
follow = "hub"
[routing]
allow = ["x"]
[checks]
every_s = 0
partners_every_s = "often"
[telemetry]
listen = "0.0.0.0:9464"
[[system]]
name = "a b"
items = ["?"]
[[grant]]
who = "nobody"
items = "*"
divisions = ["?"]
[grnat]
"#;

const GOOD: &str = r#"
[gateway]
alliance = "alliance.example"
city = "450200"
listen = "127.0.0.1:7501"
[tls]
certificate = "a"
key = "b"
crls = "{member}.pem"
[directory]
file = "c"
alliance_key = "d"
[log]
key = "e"
"#;

#[test]
fn what_goes_wrong_is_told_in_chinese() {
    let folder = std::env::temp_dir().join(format!("tongban-words-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (file, text) in [("bad.toml", BAD), ("good.toml", GOOD), ("no.toml", "= no toml\n")] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let dir = folder.display().to_string();
    let mut wrong = vec![];
    for (line, code) in FAILURES {
        let line = line.replace("{dir}", &dir);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tongban"));
        let output = command.args(["--lang", "zh"]).args(line.split(' ')).current_dir(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        if output.status.code() != Some(*code) || !is_chinese(&said) || english_in(&said).is_some() {
            wrong.push(format!("{line}: {} for {code}, English in {:?}:\n{said}", output.status, english_in(&said)));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
