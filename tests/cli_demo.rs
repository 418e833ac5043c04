//! Decides whether the demo proves what it shows, writes only where it may, and leaves no process behind.

mod support {
    pub mod terminal;
}

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use support::terminal::Terminal;

#[test]
fn all_receipts_of_the_demo_verify() {
    let terminal = Terminal::new("cli_demo", "verify");
    let shown = terminal.json(0, "demo --cases 10 --out demo --exit");
    assert_eq!(shown["states"], serde_json::json!({ "CONFIRMED": 9, "REJECTED": 2 }), "ten cases and a reply");
    assert_eq!((&shown["receipts"]["failed"], &shown["chains_whole"]), (&0.into(), &11.into()));
    assert_eq!(shown["receipts"]["verified"], 77);
    assert!(shown["first_receipt_ms"].as_u64().unwrap() <= 3_000, "{shown:#}");
    let marks = &shown["item_evidence"];
    assert_eq!(marks["sourced"].as_u64().unwrap() + marks["unverified"].as_u64().unwrap(), 10);
    let judge = shown["judge"].as_object().unwrap();
    assert!(judge.len() == 6 && judge.values().all(|found| found == &serde_json::json!([])), "{judge:?}");
    let lines = |diary: &str| fs::read_to_string(terminal.path(&format!("demo/{diary}"))).unwrap().lines().count();
    assert_eq!(lines("450200-window.jsonl"), 22, "ten sent and told, the reply received and acknowledged");
    assert_eq!(lines("440600-approval.jsonl"), 22, "ten received and settled, the reply sent and told");
    let found = terminal.json(0, "verify demo/receipts --trust demo/trust");
    assert_eq!(found["verified"], 77);
    let (_, err) = terminal.ends(73, "demo --out demo");
    assert!(err.contains("not empty"), "{err}");
}

#[test]
fn an_interrupted_demo_stops_its_gateways() {
    let terminal = Terminal::new("cli_demo", "interrupt");
    let mut command = terminal.command("demo --cases 9999 --out demo");
    let mut demo = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(demo.stderr.take().unwrap()).lines();
    // The last command before the gateways start.
    let endpoint = |line: &str| line.split(' ').skip_while(|word| *word != "--endpoint").nth(1).map(str::to_owned);
    let mut endpoints = vec![];
    for line in talk.by_ref().map(Result::unwrap) {
        endpoints.extend(endpoint(&line));
        if line.contains("init --pki certs/440600") {
            break;
        }
    }
    assert_eq!(endpoints.len(), 2);
    let up = |endpoint: &String| TcpStream::connect(endpoint).is_ok();
    while !endpoints.iter().all(up) {
        assert!(demo.try_wait().unwrap().is_none(), "the demo has ended too early");
        std::thread::yield_now();
    }
    kill_process(Pid::from_raw(demo.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    let words: Vec<String> = talk.map(Result::unwrap).collect();
    assert!(words.iter().any(|line| line.contains("interrupted; both gateways are stopped")), "{words:?}");
    assert!(!endpoints.iter().any(up), "a gateway still listens");
    assert!(fs::metadata(terminal.path("demo/receipts")).is_err());
}
