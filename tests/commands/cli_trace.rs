//! Decides whether a person at a terminal can see the members, decide about one, and follow the way of a message to a city, in
//! both languages. Real gateways, real processes.

use crate::terminal::{Gateway, Town};
use serde_json::Value;
use tongban::keys::{self, Seed};

const OPS: &str = "--as 450200/ops/li";
const AUDITOR: &str = "--as 450200/auditor/wu";
const SEND: &str = "send --as 450200/window --to 440600/approval --item A --case 桂B-1 --step accept --text 您好";
const TRACE: &str = "trace --as 450200/ops/li --to 440600";

#[track_caller]
fn says(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} in\n{said}"));
}

/// Liuzhou at work and Foshan asleep, and in Liuzhou an operator and an auditor.
fn town(name: &str) -> Town {
    let mut town = Town::asleep("cli_trace", name);
    town.terminal.ends(0, "pki add-ops 450200 li");
    town.terminal.ends(0, "pki add-auditor 450200 wu");
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    town
}

fn open(way: &Value) -> (bool, Vec<bool>) {
    let candidates = way["candidates"].as_array().unwrap();
    (way["open"].as_bool().unwrap(), candidates.iter().map(|one| one["open"].as_bool().unwrap()).collect())
}

#[test]
fn the_way_to_a_city_says_where_it_breaks_off_and_what_to_do() {
    let mut town = town("way");
    let terminal = &town.terminal;
    terminal.ends(0, SEND);
    let told = terminal.ends(1, &format!("{TRACE} --item A --case 桂B-1")).0;
    says(
        &told,
        &["recipient", "440600 佛山 Foshan", "in force", "every-system", "gateway/440600", "1 wait, the oldest"],
    );
    says(&told, &["name → tcp ✗", "to do:", "case", "ACCEPTED", "something stands in the way to 440600"]);
    let told = terminal.ends(1, &format!("{TRACE} --item A --lang zh")).0;
    says(&told, &["接收城市", "授权", "路由", "等待 1 条", "处理:", "通路受阻"]);
    let way = terminal.json(1, &format!("{TRACE} --item A --case 桂B-1"));
    assert_eq!(open(&way), (false, vec![false]));
    assert_eq!((&way["case"][0]["state"], &way["case"][0]["step"]), (&"ACCEPTED".into(), &"accept".into()));
    let fault = way["candidates"][0]["stages"].as_array().unwrap().iter().find(|stage| stage["verdict"] == "FAULT");
    assert_eq!(fault.unwrap()["check"], "partner.tcp");

    town.foshan = Some(Gateway::start(&town.terminal, "run/440600"));
    let terminal = &town.terminal;
    // A gateway that has just been started is asked until it listens.
    terminal.ends(0, "messages list --as 440600/approval");
    let way = terminal.json(0, TRACE);
    assert_eq!(open(&way), (true, vec![true]), "{way}");
    says(
        &terminal.ends(0, TRACE).0,
        &["no item named", "name → tcp → tls → alpn → health → clock → echo → receipt ✓", "is open"],
    );
    terminal.ends(0, &format!("lanes pause {OPS} 440600 --reason 迁移"));
    says(&terminal.ends(1, &format!("{TRACE} --lang zh")).0, &["暂停：迁移", "否", "受阻"]);
    terminal.ends(0, &format!("lanes resume {OPS} 440600"));
    terminal.ends(0, &format!("members suspend {OPS} 440600 --reason 核查"));
    let way = terminal.json(1, TRACE);
    assert_eq!((&way["member"]["suspended"]["reason"], open(&way).0), (&"核查".into(), false));
    assert_eq!(way["candidates"][0]["stages"].as_array().unwrap().len(), 0, "nobody calls a suspended member");

    let nowhere = terminal.json(1, "trace --as 450200/ops/li --to 990000 --item A");
    assert_eq!((&nowhere["route"]["decision"]["reason"], &nowhere["member"]), (&"NO_ROUTE".into(), &Value::Null));
    says(
        &terminal.ends(1, "trace --as 450200/ops/li --to 990000 --item A").0,
        &["no member of the alliance", "NO_ROUTE"],
    );
    terminal.ends(77, "trace --as 450200/auditor/wu --to 440600");
    town.stop();
}

#[test]
fn a_member_is_shown_suspended_and_resumed_in_both_languages() {
    let town = town("members");
    let terminal = &town.terminal;
    let list = format!("members list {OPS}");
    says(
        &terminal.ends(0, &list).0,
        &["directory version", "440600", "佛山 Foshan", "in force, ourselves", "required,", "directory"],
    );
    says(&terminal.ends(0, &format!("{list} --lang zh")).0, &["名录第", "有效（本单位）", "必需，", "剩余"]);
    let listed = terminal.json(0, &format!("members list {AUDITOR}"));
    let foshan = &listed["members"][0];
    assert_eq!(
        (&foshan["member"], &foshan["source"], &foshan["version"]),
        (&"440600".into(), &"DIRECTORY".into(), &1.into())
    );
    let show = format!("members show {OPS} 440600");
    says(
        &terminal.ends(0, &show).0,
        &["member key", foshan["fingerprint"].as_str().unwrap(), foshan["authorities"][0].as_str().unwrap()],
    );
    terminal.ends(1, &format!("members show {OPS} 350200"));

    says(&terminal.ends(64, &format!("members suspend {OPS} 440600")).1, &["--reason"]);
    terminal.ends(77, &format!("members suspend {AUDITOR} 440600 --reason x"));
    terminal.ends(65, &format!("members suspend {OPS} 450200 --reason x"));
    says(&terminal.ends(0, &format!("members suspend {OPS} 440600 --reason 核查")).0, &["440600 is suspended", "核查"]);
    says(&terminal.ends(1, &format!("members suspend {OPS} 440600 --reason x --lang zh")).0, &["此前已暂停", "核查"]);
    says(&terminal.ends(0, &list).0, &["suspended here since", "ops/li: 核查"]);
    says(&terminal.ends(0, &format!("members resume {OPS} 440600 --lang zh")).0, &["已恢复"]);
    assert_eq!(terminal.json(1, &format!("members resume {OPS} 440600"))["changed"], false);
    let acts = terminal.json(0, &format!("audit {AUDITOR} --act member."));
    let refused: Vec<&str> =
        acts["acts"].as_array().unwrap().iter().map(|act| act["refused"].as_str().unwrap()).collect();
    assert_eq!(refused, ["", "", "", "", "INVALID_ENVELOPE", "NOT_PERMITTED"], "two in vain, on record too");
}

/// Signs a record of Foshan's with a new key, and with what is said, into foshan.note; the new key and its fingerprint.
fn record(town: &Town, more: &str) -> (String, String) {
    let terminal = &town.terminal;
    if !terminal.path("new.key").exists() {
        keys::write_seed(&terminal.path("new.key"), &Seed::generate().unwrap()).unwrap();
    }
    let shown = terminal.json(0, "directory show");
    let foshan = shown["members"].as_array().unwrap().iter().find(|one| one["member"] == "440600").unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = format!(
        "directory record --alliance {} --member 440600 --version 2 --name-zh 佛山 --name-en Foshan --member-key new.key \
         --roots certs/dev/440600/ca.pem --endpoint {} --log-key {} --sealing-key {} --out foshan.note {more}",
        text(&shown["alliance"]),
        text(&foshan["endpoints"][0]),
        text(&foshan["log_keys"][0]),
        text(&foshan["sealing_key"]),
    );
    let signed = terminal.json(0, &line);
    (text(&signed["member_key"]), text(&signed["fingerprint"]))
}

/// Puts foshan.note into a copy of the directory, next.note, as the alliance would.
fn list(town: &Town, key: &str, more: &str, code: i32) {
    let terminal = &town.terminal;
    std::fs::copy(terminal.path("certs/dev/directory.note"), terminal.path("next.note")).unwrap();
    let signed = "--key certs/dev/alliance.key --alliance-key certs/dev/alliance.vkey";
    terminal.ends(code, &format!("directory add next.note foshan.note --member-key {key} {signed} {more}"));
}

#[test]
fn a_changed_key_that_the_old_one_vouches_for_needs_nobody() {
    let town = town("vouched");
    let terminal = &town.terminal;
    let (key, print) = record(&town, "--former-key certs/dev/440600/member.key");
    list(&town, &key, "", 0);
    assert_eq!(terminal.json(0, &format!("members add {OPS} next.note"))["news"], true);
    let shown = terminal.json(0, &format!("members show {OPS} 440600"));
    assert_eq!((&shown["fingerprint"], &shown["version"]), (&print.into(), &2.into()));
}

#[test]
fn a_changed_key_is_shown_with_both_fingerprints_and_believed_by_the_whole_one() {
    let town = town("rekey");
    let terminal = &town.terminal;
    let (key, print) = record(&town, "");
    list(&town, &key, "", 65);
    list(&town, &key, "--fingerprint 0000", 65);
    list(&town, &key, &format!("--fingerprint {}", print.replace(' ', "")), 0);
    let add = format!("members add {OPS} next.note");
    assert_eq!(terminal.json(1, &add)["refused"]["reason"], "NOTE_REFUSED");
    says(&terminal.ends(0, &format!("members list {OPS}")).0, &["held back: another key", &print]);
    says(&terminal.ends(0, &format!("members list {OPS} --lang zh")).0, &["搁置：成员密钥由"]);
    let approve = |print: &str, code: i32, more: &str| {
        let line = format!("members approve {OPS} 440600 --fingerprint");
        let mut command = terminal.command(&line);
        let output = command.arg(print).args(more.split_whitespace()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let half = &print[..19];
    says(&approve(half, 65, "--yes").1, &["old key:", "new key:", &print, "believe nothing"]);
    says(&approve(&print, 64, "").1, &["new key:", "--yes"]);
    says(&approve(&print, 0, "--yes --lang zh").0, &["新密钥已生效"]);
    says(&terminal.ends(0, &format!("members list {OPS}")).0, &["key approved here"]);
    assert_eq!(terminal.json(0, &add)["news"], false);
    says(&approve(&print, 1, "--yes").1, &["no changed key"]);
    std::fs::write(terminal.path("other.note"), "x").unwrap();
    says(&terminal.ends(65, &format!("members add {OPS} other.note")).1, &["no signed member record"]);
}
