//! Decides whether a person at a terminal can see dead letters, redrive and discard them, and stop a redrive. Real gateways,
//! real processes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::terminal::{Gateway, Terminal, Town};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const OPS: &str = "--as 450200/ops/li";

/// Liuzhou at work and Foshan asleep, and in Liuzhou an operator and an auditor.
fn town(name: &str) -> Town {
    let mut town = Town::asleep("cli_dead", name);
    town.terminal.ends(0, "pki add-ops 450200 li");
    town.terminal.ends(0, "pki add-auditor 450200 wu");
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    town
}

/// Messages of an item that nobody took in time: their ids, oldest first.
fn letters(terminal: &Terminal, item: &str, count: usize) -> Vec<String> {
    let send =
        format!("send --as 450200/window --to 440600/approval --item {item} --case B-1 --text 您好 --expires-in 1s");
    let sent: Vec<_> = (0..count).map(|_| terminal.json(0, &send)["message_id"].as_str().unwrap().to_owned()).collect();
    for id in &sent {
        terminal.ends(1, &format!("messages watch --as 450200/window {id}"));
    }
    sent
}

fn waiting(terminal: &Terminal) -> Vec<(String, u64)> {
    let groups = terminal.json(0, &format!("dead list {OPS}"));
    let groups = groups["groups"].as_array().unwrap().iter();
    groups.map(|one| (one["item_code"].as_str().unwrap().to_owned(), one["count"].as_u64().unwrap())).collect()
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} in\n{said}"));
}

#[test]
fn letters_are_listed_by_cause_shown_and_set_aside_with_a_reason() {
    let town = town("discard");
    let (terminal, list) = (&town.terminal, format!("dead list {OPS}"));
    says(&terminal.ends(0, &list).0, &["0 dead letters wait"]);
    let (a, b) = (letters(terminal, "A", 3), letters(terminal, "B", 1));

    let groups = terminal.json(0, &list);
    let group = &groups["groups"][0];
    assert_eq!((&group["cause"], &group["lane"]), (&"MESSAGE_EXPIRED".into(), &"gateway/440600".into()));
    assert_eq!((&group["count"], &group["own"], &group["item_code"]), (&3.into(), &3.into(), &"A".into()));
    says(&terminal.ends(0, &list).0, &["4 dead letters wait", "MESSAGE_EXPIRED", "gateway/440600"]);
    says(&terminal.ends(0, &format!("{list} --lang zh")).0, &["4 封死信待处理", "去向", "MESSAGE_EXPIRED"]);
    let ids = |line: &str| {
        let listed = terminal.json(0, line);
        let ids =
            listed["letters"].as_array().unwrap().iter().map(|one| one["message_id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), listed["more"].as_bool().unwrap())
    };
    assert_eq!(ids(&format!("{list} --all")), ([&a[..], &b].concat(), false));
    assert_eq!(ids(&format!("{list} --all --limit 2")), (a[..2].to_vec(), true));
    for (filter, expected) in [
        ("--item B", &b[..]),
        ("--cause MESSAGE_EXPIRED --item A --partner 440600 --from 450200", &a),
        ("--cause RECIPIENT_REFUSED", &[]),
        ("--partner hub/main", &[]),
        ("--system window", &[]),
        ("--fate discarded", &[]),
    ] {
        assert_eq!(ids(&format!("{list} {filter}")), (expected.to_vec(), false), "{filter}");
    }
    says(&terminal.ends(0, &format!("{list} --item B --lang zh")).0, &["EXPIRED 已过期", "待处理", &b[0]]);

    let show = format!("dead show {OPS} {}", b[0]);
    says(&terminal.ends(0, &show).0, &["MESSAGE_EXPIRED", "450200/window", "case: B-1", "content: kept", "text.txt"]);
    says(&terminal.ends(0, &format!("{show} --lang zh")).0, &["办件编号: B-1", "内容: 仍保存", "处置: 待处理"]);
    let shown = terminal.json(0, &show);
    assert_eq!(
        (&shown["sender"], &shown["has_body"], &shown["fate"]),
        (&"450200/window".into(), &true.into(), &"WAITING".into())
    );
    assert_eq!(
        terminal.json(1, &show.replace(&b[0], "01980000-0000-7000-8000-000000000009"))["refused"]["reason"],
        "MESSAGE_NOT_FOUND"
    );

    let discard = format!("dead discard {OPS} --reason 窗口已办结");
    says(&terminal.ends(64, &discard).1, &["which letters", "--all"]);
    let (plan, asked) = terminal.ends(64, &format!("{discard} --item B"));
    says(&plan, &["1 letters would be set aside", "MESSAGE_EXPIRED"]);
    says(&asked, &["--yes"]);
    assert_eq!(terminal.json(0, &format!("{discard} --all --dry-run"))["discarded"], 4);
    says(&terminal.ends(0, &format!("{discard} --all --dry-run --lang zh")).0, &["将搁置 4 封死信"]);
    assert_eq!(waiting(terminal), [("A".to_owned(), 3), ("B".to_owned(), 1)], "nothing was done");
    says(&terminal.ends(0, &format!("{discard} {} --yes", b[0])).0, &["1 letters were set aside"]);
    assert_eq!(terminal.json(1, &format!("{discard} {} --yes", b[0]))["others"], 1, "no letter is set aside twice");
    let aside = terminal.json(0, &format!("{list} --fate discarded"));
    assert_eq!(
        (&aside["letters"][0]["message_id"], &aside["letters"][0]["discard_reason"]),
        (&b[0].clone().into(), &"窗口已办结".into())
    );

    let auditor = "--as 450200/auditor/wu";
    says(&terminal.ends(0, &format!("dead list {auditor}")).0, &["3 dead letters wait"]);
    terminal.ends(77, &format!("dead discard {auditor} --reason x --all --yes"));
    terminal.ends(77, &format!("dead redrive {auditor} --all --yes"));
    terminal.ends(77, "dead list --as 450200/window");
    assert_eq!(waiting(terminal), [("A".to_owned(), 3)]);
}

#[test]
fn letters_are_redriven_canaries_first_and_ctrl_c_leaves_the_rest() {
    let mut town = town("redrive");
    let (ids, redrive) = (letters(&town.terminal, "A", 6), format!("dead redrive {OPS} --expires-in 1h"));
    let terminal = &town.terminal;
    let left = |count| assert_eq!(waiting(terminal), [("A".to_owned(), count)]);

    says(&terminal.ends(64, &redrive).1, &["which letters"]);
    says(&terminal.ends(64, &format!("{redrive} --all --rate 1001/s")).1, &["1/s to 1000/s"]);
    let plan = terminal.json(0, &format!("{redrive} --all --dry-run --rate 2/s --canary 1"));
    assert_eq!((&plan["plan"]["count"], &plan["seconds"], &plan["canary"]), (&6.into(), &3.into(), &1.into()));
    assert_eq!(plan["groups"][0]["cause"], "MESSAGE_EXPIRED");
    let (plan, asked) = terminal.ends(64, &format!("{redrive} --cause MESSAGE_EXPIRED --rate 2/s --canary 1"));
    says(
        &plan,
        &["6 letters", "in about 3 seconds at 2 per second", "the first 1 must be handed over", "gateway/440600"],
    );
    says(&asked, &["--yes"]);
    says(&terminal.ends(0, &format!("{redrive} --all --dry-run --lang zh")).0, &["可重投 6 封死信", "每秒 50 封"]);
    left(6);

    let one = terminal.json(0, &format!("{redrive} {} --yes", ids[0]));
    assert_eq!((&one["outcome"], &one["progress"]["redriven"]), (&"DONE".into(), &1.into()));
    let again = terminal.json(1, &format!("{redrive} {} --yes", ids[0]));
    assert_eq!((&again["plan"]["count"], &again["plan"]["obstacles"][0]["kind"]), (&0.into(), &"REDRIVEN".into()));
    left(5);

    // Nobody takes the canary: the redrive waits until it is interrupted.
    let mut command = terminal.command(&format!("{redrive} --all --canary 1 --canary-patience 1h --yes --json"));
    let mut waits = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(waits.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(words.any(|line| line.contains("must be handed over before the others follow")));
    let busy = terminal.json(75, &format!("{redrive} --all --yes"));
    assert_eq!(busy["refused"]["reason"], "BUSY");
    kill_process(Pid::from_raw(waits.id() as i32).unwrap(), Signal::INT).unwrap();
    let hint = words.collect::<Vec<_>>().join("\n");
    let ended = waits.wait_with_output().unwrap();
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (ended.status.code(), &told["outcome"], &told["progress"]["redriven"]),
        (Some(1), &"CANCELLED".into(), &1.into())
    );
    says(&hint, &["cancelled", "tongban dead list"]);
    left(4);

    let silent = format!("{redrive} --all --canary 1 --canary-patience 1s --yes --lang zh");
    let (told, words) = terminal.ends(75, &silent);
    says(&told, &["CANARY_SILENT：共 4 封，已重投 1，拒绝 0，跳过 0，剩余 3"]);
    says(&words, &["未在时限内交接", "提示："]);
    left(3);

    let mut receive = terminal.command("receive --as 440600/approval --ack --count 6 --wait 30s");
    town.foshan = Some(Gateway::start(&town.terminal, "run/440600"));
    let terminal = &town.terminal;
    terminal.ends(0, "messages list --as 440600/approval");
    let takes = receive.stdout(Stdio::null()).spawn().unwrap();
    let (told, _) = terminal.ends(0, &format!("{redrive} --all --canary 2 --canary-patience 30s --rate 100/s --yes"));
    says(&told, &["3 letters", "DONE: of 3 letters 3 redriven, 0 refused, 0 passed over, 0 left"]);
    assert!(takes.wait_with_output().unwrap().status.success(), "all six came");
    assert_eq!(waiting(terminal), []);
    let replaced = terminal.json(0, &format!("dead list {OPS} --fate redriven"));
    assert_eq!(replaced["letters"].as_array().unwrap().len(), 6);
    let new = replaced["letters"][0]["redriven_as"].as_str().unwrap();
    assert_eq!(terminal.json(0, &format!("message --as 450200/window {new}"))["state"], "CONFIRMED");
}
