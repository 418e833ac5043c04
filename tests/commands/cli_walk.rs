//! Decides whether a person gets from nothing to verified receipts with the commands of the README, and what the commands say
//! when something is in the way. Two real gateways, real processes, no mocks.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::terminal::{Gateway, Town};
use serde_json::Value;

const SEND: &str = "send --as 450200/window --to 440600/approval";
const RECEIVE: &str = "receive --as 440600/approval";

/// Sends one message; its id.
fn sent(town: &Town, more: &str) -> String {
    let sent = town.terminal.json(0, &format!("{SEND} {more}"));
    assert_eq!(sent["event"], "SUBMISSION_ACCEPTED");
    sent["message_id"].as_str().unwrap().to_owned()
}

/// The lines that a receiving command prints with `--json`.
fn received(town: &Town, code: i32, more: &str) -> Vec<Value> {
    let (out, _) = town.terminal.ends(code, &format!("{RECEIVE} {more} --json"));
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn from_nothing_to_verified_receipts() {
    let mut town = Town::new("cli_walk", "readme");
    let id = "01980000-0000-7000-8000-000000000001";
    let send = format!("{SEND} --item DEMO-001 --case GX-2026-1 --text 你好 --step apply --mode joint --id {id}");
    let accepted = town.terminal.json(0, &send);
    assert_eq!((&accepted["message_id"], &accepted["to"]), (&id.into(), &"440600/approval".into()));
    assert_eq!((&accepted["log"], &accepted["index"]), (&"450200.gateway.alliance.example/log/a/1".into(), &0.into()));

    let delivered = received(&town, 0, "--ack --count 1 --out in").remove(0);
    assert_eq!((&delivered["message_id"], &delivered["from"]), (&id.into(), &"450200/window".into()));
    assert_eq!(
        (&delivered["case_no"], &delivered["step"], &delivered["mode"]),
        (&"GX-2026-1".into(), &"apply".into(), &"joint".into())
    );
    assert_eq!(
        (&delivered["outcome"], &delivered["receipt"]["event"]),
        (&"acknowledged".into(), &"HANDED_OVER".into())
    );
    assert_eq!(delivered["header_digest"], accepted["header_digest"]);
    assert_eq!(fs::read_to_string(town.terminal.path(&format!("in/{id}/text.txt"))).unwrap(), "你好");

    let exported = town.terminal.json(0, &format!("receipt export --as 450200/window {id} --out receipts --wait"));
    let events: Vec<_> = exported["receipts"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(events[0], "01-SUBMISSION_ACCEPTED-450200");
    assert_eq!(events[1], "02-RELAY_ACCEPTED-440600");
    let told = town.terminal.json(0, &format!("message --as 450200/window {id}"));
    assert_eq!(
        (&told["state"], &told["final"], &told["parts"][0]["name"]),
        (&"CONFIRMED".into(), &true.into(), &"text.txt".into())
    );
    let over = told["history"].as_array().unwrap().iter().find(|event| event["event"] == "HANDED_OVER").unwrap();
    assert_eq!(
        over["receipt_id"], delivered["receipt"]["receipt_id"],
        "the receipt at home is the one given at handover"
    );

    town.stop();
    let found = town.terminal.json(0, "verify receipts --trust receipts/trust");
    assert_eq!((&found["verified"], &found["failed"]), (&events.len().into(), &0.into()));
    assert_eq!(
        (&found["messages"][0]["chain"], &found["messages"][0]["state"]),
        (&"whole".into(), &"CONFIRMED".into())
    );
}

#[test]
fn the_same_message_again_gets_the_same_receipt_and_another_content_is_a_conflict() {
    let town = Town::new("cli_walk", "twice");
    let line = format!("{SEND} --item A --id 01980000-0000-7000-8000-000000000002");
    let first = town.terminal.json(0, &line);
    // Salt and moment are new: the command line makes another message of it, which must not pass for the first.
    let refused = town.terminal.json(1, &format!("{line} --text other"));
    assert_eq!(
        (&refused["refused"]["reason"], &refused["refused"]["retry"]),
        (&"IDEMPOTENCY_CONFLICT".into(), &false.into())
    );
    assert_eq!(refused["refused"]["receipt"]["event"], "SUBMISSION_REJECTED");
    let (_, err) = town.terminal.ends(1, &format!("{line} --text other --lang zh"));
    assert!(err.contains("错误：IDEMPOTENCY_CONFLICT：") && err.contains("已留存证：回执"), "{err}");
    let told = town.terminal.json(0, "message --as 450200/window 01980000-0000-7000-8000-000000000002");
    assert_eq!(told["history"][0]["receipt_id"], first["receipt_id"]);
}

#[test]
fn a_refused_message_comes_home_with_code_and_words() {
    let mut town = Town::new("cli_walk", "refused");
    let id = sent(&town, "--item DEMO-002 --case 1");
    let (_, err) = town.terminal.ends(0, &format!("receipt export --as 450200/window {id} --out early"));
    assert!(err.contains("the message has not ended") && err.contains("hint: wait for its end with --wait"), "{err}");
    let refused = received(&town, 0, "--refuse NO_FORM --text 缺少申请表").remove(0);
    assert_eq!((&refused["outcome"], &refused["receipt"]["event"]), (&"refused".into(), &"HANDOVER_FAILED".into()));
    let exported = format!("receipt export --as 450200/window {id} --out out --wait");
    town.terminal.ends(0, &exported);
    town.terminal.ends(0, &exported);
    let told = town.terminal.json(0, &format!("message --as 450200/window {id}"));
    assert_eq!(told["state"], "REJECTED");
    let event = told["history"].as_array().unwrap().iter().find(|e| e["event"] == "HANDOVER_FAILED").unwrap();
    assert_eq!(event["reasons"], serde_json::json!(["RECIPIENT_REFUSED", "NO_FORM"]));
    assert_eq!(event["detail"], "缺少申请表");
    // At the other end, seen by the other system, and in its own words.
    let seen = town.terminal.json(0, &format!("message --as 440600/approval {id} --from 450200"));
    assert_eq!(seen["state"], "REJECTED");
    town.terminal.ends(1, &format!("message --as 440600/approval {id}"));
    let other = sent(&town, "--item DEMO-002");
    let (_, err) = town.terminal.ends(73, &format!("receipt export --as 450200/window {other} --out out"));
    assert!(err.contains("hint: name a folder for this message alone"), "{err}");
    town.stop();
    town.terminal.ends(0, "verify out --trust out/trust");
}

#[test]
fn a_message_that_is_only_looked_at_stays_and_says_so() {
    let town = Town::new("cli_walk", "peek");
    let id = sent(&town, "--item A --case 1 --attribute channel=window");
    for count in 1..=2 {
        let (out, err) = town.terminal.ends(0, &format!("{RECEIVE} --json"));
        let shown: Value = serde_json::from_str(out.trim()).unwrap();
        assert_eq!((&shown["delivery_count"], &shown["outcome"]), (&count.into(), &Value::Null));
        assert_eq!(shown["attributes"]["channel"], "window");
        assert!(
            err.contains(&format!("{id} stays in the mailbox without an outcome: delivery {count} of 10")),
            "{err}"
        );
    }
    assert_eq!(received(&town, 0, "--later 1s").remove(0)["outcome"], "later");
    assert!(received(&town, 1, "--wait 100ms").is_empty(), "what was put off is not there");
    assert_eq!(received(&town, 0, "--ack --wait 30s").remove(0)["delivery_count"], 4);
    let (_, err) = town.terminal.ends(1, &format!("{RECEIVE} --ack --wait 100ms"));
    assert!(err.contains("0 of 1: nothing more came for 100ms"), "{err}");
}

#[test]
fn many_messages_go_over_one_stream_and_arrive() {
    let town = Town::new("cli_walk", "many");
    let many = town.terminal.json(0, &format!("{SEND} --item A --text x --count 300"));
    assert_eq!(many["accepted"].as_array().unwrap().len(), 300);
    assert_eq!((&many["refused"], &many["unanswered"]), (&serde_json::json!([]), &serde_json::json!([])));
    let mut sent: Vec<_> = many["accepted"].as_array().unwrap().iter().map(|a| a["message_id"].to_string()).collect();
    let mut arrived: Vec<_> =
        received(&town, 0, "--ack --count 300").iter().map(|message| message["message_id"].to_string()).collect();
    sent.sort();
    arrived.sort();
    assert_eq!(sent, arrived);
}

#[test]
fn a_follower_receives_until_it_is_interrupted() {
    let town = Town::new("cli_walk", "follow");
    let mut command = town.terminal.command(&format!("{RECEIVE} --follow --ack --json"));
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for number in 1..=3 {
        let id = sent(&town, &format!("--item A --case {number}"));
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&line["message_id"], &line["outcome"]), (&id.into(), &"acknowledged".into()));
    }
    let pid = rustix::process::Pid::from_raw(follower.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn a_message_is_followed_to_its_end() {
    let town = Town::new("cli_walk", "wait");
    let follow = |more: &str| {
        let line = format!("{SEND} --item A --wait=30s --json {more}");
        let mut sender = town.terminal.command(&line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let outcome = if more.is_empty() { "--ack" } else { "--refuse NO" };
        received(&town, 0, &format!("{outcome} --wait 30s"));
        let out = std::io::read_to_string(sender.stdout.take().unwrap()).unwrap();
        (sender.wait().unwrap().code(), serde_json::from_str::<Value>(&out).unwrap())
    };
    let (code, shown) = follow("");
    assert_eq!((code, &shown["message"]["state"]), (Some(0), &"CONFIRMED".into()));
    let (code, shown) = follow("--text again");
    assert_eq!((code, &shown["message"]["state"]), (Some(1), &"REJECTED".into()));
    let (_, err) = town.terminal.ends(75, &format!("{SEND} --item A --wait=1ms"));
    assert!(
        err.contains("it goes on") && err.contains("hint: look again with: tongban message --as 450200/window"),
        "{err}"
    );
}

#[test]
fn what_is_in_the_way_is_named_with_the_way_out() {
    let mut town = Town::new("cli_walk", "faults");
    let terminal = &town.terminal;
    // Faults of the command line and of files, told before anything is sent.
    terminal.ends(64, "send --as 450200 --to 440600 --item A");
    terminal.ends(64, &format!("{SEND} --item Ä"));
    terminal.ends(64, &format!("{SEND} --item A --count 2 --wait"));
    terminal.ends(64, &format!("{SEND} --item A --expires-in 1y"));
    terminal.ends(64, &format!("{RECEIVE} --ack --refuse NO"));
    terminal.ends(64, &format!("{RECEIVE} --later 2d"));
    terminal.ends(66, &format!("{SEND} --item A --file none.pdf"));
    fs::write(terminal.path("large.bin"), vec![0; (1 << 20) + 1]).unwrap();
    terminal.ends(65, &format!("{SEND} --item A --file large.bin"));
    let (_, err) = terminal.ends(65, &format!("{SEND} --item A --attribute Ä=1 --attribute b=\u{1b}"));
    assert!(err.contains("envelope.attributes[b]") && err.contains("must have keys of 1 to 64"), "{err}");
    let (_, err) = terminal.ends(66, "message --as 450200/nobody 01980000-0000-7000-8000-000000000001");
    assert!(err.contains("hint: make it with: tongban pki add-system 450200 nobody"), "{err}");
    let (_, err) = terminal.ends(65, "message --as 450300/window 01980000-0000-7000-8000-000000000001");
    assert!(err.contains("450300 is not in the directory"), "{err}");
    let (_, err) = terminal.ends(
        65,
        "message --as 450200/window --cert certs/dev/440600/systems/approval.pem 01980000-0000-7000-8000-000000000001",
    );
    assert!(err.contains("is for spiffe://alliance.example/city/440600/system/approval, not"), "{err}");
    // Answers of the gateway.
    let (_, err) = terminal.ends(1, "message --as 450200/window 01980000-0000-7000-8000-000000000009");
    assert!(err.starts_with("error: MESSAGE_NOT_FOUND: ") && err.contains("\nhint: "), "{err}");
    let refused = terminal.json(1, "send --as 450200/window --to 999999 --item A");
    assert_eq!((&refused["refused"]["reason"], &refused["refused"]["grpc_status"]), (&"NO_ROUTE".into(), &9.into()));
    // Another city's gateway at the address, and nobody.
    let foshan = fs::read_to_string(terminal.path("run/440600/tongban.toml")).unwrap();
    let foshan =
        foshan.lines().find_map(|line| line.strip_prefix("listen = \"")).unwrap().trim_end_matches('"').to_owned();
    let line = format!("{SEND} --item A --gateway {foshan}");
    let (_, err) = terminal.ends(69, &line);
    assert!(err.contains("another party than the one that was dialled") && err.contains("440600/gateway"), "{err}");
    town.stop();
    let (_, err) = town.terminal.ends(69, &format!("{SEND} --item A --patience 1ms"));
    assert!(err.contains("does not answer") && err.contains("hint: is the gateway running?"), "{err}");
}

#[test]
fn a_command_waits_for_a_gateway_that_is_only_just_started() {
    let mut town = Town::asleep("cli_walk", "patience");
    let mut command = town.terminal.command(&format!("{SEND} --item A --patience 30s --json"));
    let sender = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    let ended = sender.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn parts_are_never_written_over_another_file() {
    let town = Town::new("cli_walk", "parts");
    let id = sent(&town, "--item A --text one");
    let folder = town.terminal.path(&format!("in/{id}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("text.txt"), "mine").unwrap();
    let (_, err) = town.terminal.ends(73, &format!("{RECEIVE} --ack --out in"));
    assert!(err.contains("text.txt: exists already and is not overwritten"), "{err}");
    assert_eq!(fs::read_to_string(folder.join("text.txt")).unwrap(), "mine");
    let told = town.terminal.json(0, &format!("message --as 440600/approval {id} --from 450200"));
    assert_eq!(told["state"], "CONSIGNED", "what is not on disk is not acknowledged");
    fs::remove_dir_all(&folder).unwrap();
    received(&town, 0, "--ack --out in");
    assert_eq!(fs::read_to_string(folder.join("text.txt")).unwrap(), "one");
}
