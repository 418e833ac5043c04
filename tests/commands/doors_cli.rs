//! Decides whether a person at a terminal can list, follow and withdraw messages and wait for a reply. Two real gateways, real
//! processes.

use std::fs;
use std::process::Stdio;

use crate::terminal::{Gateway, Town};
use serde_json::Value;

const SEND: &str = "send --as 450200/window --to 440600/approval --item A";

fn sent(town: &Town, more: &str) -> String {
    let sent = town.terminal.json(0, &format!("{SEND} {more}"));
    sent["message_id"].as_str().unwrap().to_owned()
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_was_sent_is_listed_followed_and_withdrawn() {
    let mut town = Town::asleep("doors_cli", "acts");
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    let (first, second) = (sent(&town, "--case B-1"), sent(&town, "--case B-2"));
    let list = "messages list --as 450200/window";
    let all = town.terminal.json(0, list);
    let ids: Vec<_> = all["messages"].as_array().unwrap().iter().map(|one| one["message_id"].clone()).collect();
    assert_eq!((ids, &all["more"]), (vec![second.clone().into(), Value::from(first.clone())], &false.into()));
    let one = town.terminal.json(0, &format!("{list} --case B-1 --state accepted --to 440600 --item A --since 1h"));
    assert_eq!(
        (&one["messages"][0]["message_id"], one["messages"].as_array().unwrap().len()),
        (&first.clone().into(), 1)
    );
    assert_eq!(town.terminal.json(0, &format!("{list} --limit 1"))["more"], true);
    let (shown, _) = town.terminal.ends(0, &format!("{list} --lang zh"));
    assert!(shown.contains("办件编号") && shown.contains("ACCEPTED 已受理") && shown.contains(&second), "{shown}");

    let withdrawn = town.terminal.json(0, &format!("messages cancel --as 450200/window {first}"));
    assert_eq!((&withdrawn["event"], &withdrawn["message_id"]), (&"CANCELLED".into(), &first.clone().into()));
    assert_eq!(town.terminal.json(0, &format!("messages cancel --as 450200/window {first}")), withdrawn);
    let (out, _) = town.terminal.ends(1, &format!("messages watch --as 450200/window {first} --json"));
    let told = lines(&out);
    let events: Vec<_> = told.iter().map(|entry| (&entry["event"], &entry["state"])).collect();
    let expected = [("SUBMISSION_ACCEPTED", "ACCEPTED"), ("CANCELLED", "CANCELLED")].map(|(e, s)| (e.into(), s.into()));
    assert_eq!(events, expected.iter().map(|(event, state): &(Value, Value)| (event, state)).collect::<Vec<_>>());
    let after = told[0]["receipt_id"].as_str().unwrap();
    let (rest, _) = town.terminal.ends(1, &format!("messages watch --as 450200/window {first} --after {after} --json"));
    assert_eq!(lines(&rest), told[1..]);
    assert_eq!(town.terminal.json(0, &format!("message --as 450200/window {first}"))["state"], "CANCELLED");

    let watch =
        town.terminal.command(&format!("messages watch --as 450200/window {second}")).stdout(Stdio::piped()).spawn();
    town.foshan = Some(Gateway::start(&town.terminal, "run/440600"));
    town.terminal.ends(0, "receive --as 440600/approval --ack --count 1");
    let watched = watch.unwrap().wait_with_output().unwrap();
    let watched = (watched.status.code(), String::from_utf8(watched.stdout).unwrap());
    assert!(watched.0 == Some(0) && watched.1.lines().last().unwrap().contains("CONFIRMED"), "{watched:?}");
    let late = town.terminal.json(1, &format!("messages cancel --as 450200/window {second}"));
    assert_eq!(late["refused"]["reason"], "ALREADY_TAKEN");
    let (_, err) = town.terminal.ends(64, "message");
    assert!(err.contains("--as") || err.contains("which message"), "{err}");
}

#[test]
fn a_message_sent_with_wait_reply_comes_back_with_what_was_answered() {
    let town = Town::new("doors_cli", "reply");
    let id = "01980000-0000-7000-8000-00000000000a";
    let ask = town.terminal.command(&format!("{SEND} --id {id} --wait-reply=30s --out in --json"));
    let ask = { ask }.stdout(Stdio::piped()).spawn().unwrap();
    town.terminal.ends(0, "receive --as 440600/approval --ack --count 1 --wait 30s");
    let reply = format!("send --as 440600/approval --to 450200/window --item A --in-reply-to {id} --text 好");
    let reply = town.terminal.json(0, &reply);
    let answered = ask.wait_with_output().unwrap();
    assert_eq!(answered.status.code(), Some(0));
    let answered: Value = serde_json::from_slice(&answered.stdout).unwrap();
    assert_eq!((&answered["message_id"], &answered["event"]), (&id.into(), &"SUBMISSION_ACCEPTED".into()));
    let told = &answered["reply"];
    assert_eq!((&told["message_id"], &told["in_reply_to"]), (&reply["message_id"], &id.into()));
    assert_eq!(told["receipt"]["event"], "HANDED_OVER");
    let kept = town.terminal.path(&format!("in/{}/text.txt", reply["message_id"].as_str().unwrap()));
    assert_eq!(fs::read_to_string(kept).unwrap(), "好");
    let nobody = town.terminal.json(75, &format!("{SEND} --wait-reply=2s"));
    assert_eq!(nobody["refused"]["reason"], "DEADLINE_EXCEEDED");
    assert_eq!(nobody["refused"]["receipt"]["event"], "SUBMISSION_ACCEPTED");
}
