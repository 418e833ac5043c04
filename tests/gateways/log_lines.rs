//! A gateway's log is one line for each event, for machines as for people, and nobody who is written about writes in it.

use std::path::PathBuf;
use std::process::Command;

use crate::alliance::{Alliance, envelope};
use crate::process::{self, Process, until};
use rustix::process::{Pid, Signal, kill_process};
use tongban::message::visible;
use tongban::wire::pb::exchange as pb;

const CITY: &str = "450200";
/// Ends lines, clears a screen, turns what follows, is not seen; and what looks like an event of ours.
const HOSTILE: &str = "a\u{1b}[2J\u{202e}\u{85}\u{e0041}\r\n2026-01-01T00:00:00Z ERROR forged {\"level\":\"ERROR\"}";

fn log(alliance: &Alliance) -> String {
    std::fs::read_to_string(alliance.folder.join(CITY).join("stderr.log")).unwrap()
}

/// A file of the configuration whose very name is hostile, with two faults in it: the gateway must log all of that.
fn spoil(alliance: &Alliance) -> PathBuf {
    let folder = alliance.config_path(CITY).parent().unwrap().join("conf.d");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{}.toml", HOSTILE.replace('/', "")));
    let name: String = HOSTILE.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
    std::fs::write(&file, format!("[\"{name}\"]\n[gateway]\nlisten = \"{name}\"\n")).unwrap();
    file
}

/// Messages with hostile text in every field that a person fills, and a reload that fails.
async fn provoke(alliance: &Alliance, gateway: &Process) {
    type Spoil = fn(&mut pb::Envelope);
    let fields: [Spoil; 9] = [
        |e| e.message_id = HOSTILE.into(),
        |e| e.item_code = HOSTILE.into(),
        |e| e.case_no = HOSTILE.into(),
        |e| e.step = HOSTILE.into(),
        |e| e.in_reply_to = HOSTILE.into(),
        |e| e.parts[0].name = HOSTILE.into(),
        |e| e.parts[0].media_type = HOSTILE.into(),
        |e| e.traceparent = HOSTILE.repeat(8_000),
        |e| e.from.as_mut().unwrap().system = HOSTILE.into(),
    ];
    let client = alliance.client(CITY, "window");
    for spoil in fields {
        let mut envelope = envelope((CITY, "window"), (CITY, "window"));
        spoil(&mut envelope);
        let request = pb::SubmitRequest { envelope: Some(envelope), origin_receipt: None, via: vec![] };
        assert!(client.exchange.clone().submit(request).await.is_err());
    }
    spoil(alliance);
    kill_process(Pid::from_raw(gateway.id().cast_signed()).unwrap(), Signal::HUP).unwrap();
    until("the failed reload is logged", async || log(alliance).contains("cannot be used")).await;
}

/// No line has anything in it that a terminal obeys or an eye misses.
fn clean(log: &str) {
    for line in log.lines() {
        assert!(visible(line), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_injection_gives_one_json_line_per_event() {
    let alliance = process::alliance(&[(CITY, &["window"])]);
    let wrapper = ["sh", "-c", "exec \"$@\" --log-json", "sh"].map(str::to_owned);
    let gateway = Process::start_under(&alliance, CITY, &wrapper).await;
    provoke(&alliance, &gateway).await;
    gateway.stop().await;
    let log = log(&alliance);
    clean(&log);
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"))).collect();
    assert!(events.iter().all(|event| event["timestamp"].is_string() && event["fields"]["message"].is_string()));
    let failed = events.iter().filter(|event| event["fields"]["message"].as_str().unwrap().contains("cannot be used"));
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed.len(), 1, "{log}");
    assert!(failed[0]["fields"]["error"].as_str().unwrap().matches("forged").count() >= 2, "both faults: {log}");
    assert!(events.iter().any(|event| event["fields"]["message"] == "serves"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_injection_gives_one_readable_line_per_event() {
    let alliance = process::alliance(&[(CITY, &["window"])]);
    let gateway = Process::start(&alliance, CITY).await;
    provoke(&alliance, &gateway).await;
    gateway.stop().await;
    let log = log(&alliance);
    clean(&log);
    let levels = [" INFO ", " WARN ", "ERROR "];
    for line in log.lines().filter(|line| !line.starts_with(CITY)) {
        let head: String = line.chars().take(40).collect();
        assert!(
            head.starts_with("20") && levels.iter().any(|level| head.contains(level)),
            "no event of its own: {line:?}"
        );
    }
    assert_eq!(log.lines().filter(|line| line.contains("forged")).count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_is_set_by_the_environment() {
    let alliance = process::alliance(&[(CITY, &["window"])]);
    let wrapper = ["env", "TONGBAN_LOG=error"].map(str::to_owned);
    let gateway = Process::start_under(&alliance, CITY, &wrapper).await;
    provoke(&alliance, &gateway).await;
    gateway.stop().await;
    let log = log(&alliance);
    assert!(log.contains("ERROR") && !log.contains(" INFO "), "{log}");
}

/// What a person sees of the same faults at a terminal.
#[test]
fn terminal_injection_by_a_configuration_gives_clean_lines() {
    let alliance = process::alliance(&[(CITY, &["window"])]);
    spoil(&alliance);
    for lang in ["en", "zh"] {
        for command in [&["config", "check"][..], &["check", "--output", "short"], &["check"]] {
            let config = alliance.config_path(CITY);
            let output = Command::new(env!("CARGO_BIN_EXE_tongban"))
                .args(["--lang", lang])
                .args(command)
                .arg("--config")
                .arg(&config)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success() && said.contains("forged"), "{said}");
            clean(&said);
            assert!(said.lines().all(|line| !line.starts_with("2026-01-01")), "{said}");
        }
    }
}
