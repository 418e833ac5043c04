//! Decides whether the demo proves what it shows, writes only where it may, and leaves no process behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::Stdio;

use crate::terminal::Terminal;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn nothing_is_lost_or_doubled_though_a_gateway_is_killed_and_one_is_away() {
    let terminal = Terminal::new("cli_demo", "verify");
    let ended = terminal.command("demo --cases 12 --out demo --exit --json").output().unwrap();
    let talk = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{talk}");
    for said in
        ["Foshan's gateway is killed (SIGKILL)", "Xiamen's gateway is away", "Xiamen's gateway is started again"]
    {
        assert!(talk.contains(said), "{talk}");
    }
    let shown: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    // Twelve cases: two are refused, three of the others are supplemented.
    let messages = shown["messages"].as_array().unwrap();
    assert_eq!((shown["cases"].as_u64(), messages.len()), (Some(12), 2 + 10 * 5 + 3 * 2));
    assert_eq!(shown["states"], serde_json::json!({ "CONFIRMED": 56, "REJECTED": 2 }));
    assert_eq!((&shown["receipts"]["failed"], &shown["chains_whole"]), (&0.into(), &58.into()));
    assert!(shown["first_receipt_ms"].as_u64().unwrap() <= 3_000, "{shown:#}");
    let marks = &shown["item_evidence"];
    assert_eq!(marks["sourced"].as_u64().unwrap() + marks["unverified"].as_u64().unwrap(), 12);
    let judge = shown["judge"].as_object().unwrap();
    assert!(judge.len() == 6 && judge.values().all(|found| found == &serde_json::json!([])), "{judge:?}");

    let diaries = ["450200-window", "440600-approval", "640100-approval", "440800-approval", "350200-approval"];
    let lines: Vec<String> = diaries
        .iter()
        .flat_map(|name| {
            fs::read_to_string(terminal.path(&format!("demo/{name}.jsonl")))
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let count = |did: &str| lines.iter().filter(|line| line.contains(&format!("\"{did}\""))).count();
    assert_eq!(["sent", "acknowledged", "refused", "told_confirmed", "told_rejected"].map(count), [58, 56, 2, 56, 2]);

    let verified = &shown["receipts"]["verified"];
    assert_eq!(&terminal.json(0, "verify demo/receipts --trust demo/trust")["verified"], verified);
    // Of what went through the hub, the hub's receipts are among them.
    let hub = fs::read_dir(terminal.path("demo/receipts")).unwrap();
    let hub = hub.filter(|file| {
        let path = file.as_ref().unwrap().path();
        path.extension().is_some_and(|kind| kind == "json") && fs::read_to_string(path).unwrap().contains("hub/main")
    });
    assert!(hub.count() > 0, "no receipt of the hub");

    let page = fs::read_to_string(shown["case_file"].as_str().unwrap()).unwrap();
    assert!(page.contains("DEMO-0001") && page.contains("SUBMISSION_ACCEPTED"));
    let (_, err) = terminal.ends(73, "demo --out demo");
    assert!(err.contains("not empty"), "{err}");
}

#[test]
fn an_interrupted_demo_stops_its_gateways() {
    let terminal = Terminal::new("cli_demo", "interrupt");
    let mut command = terminal.command("demo --cases 9999 --out demo");
    let mut demo = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(demo.stderr.take().unwrap()).lines();
    let listens = |line: &str| line.split(' ').skip_while(|word| *word != "--listen").nth(1).map(str::to_owned);
    let (mut endpoints, mut served) = (vec![], 0);
    for line in talk.by_ref().map(Result::unwrap) {
        endpoints.extend(listens(&line));
        served += usize::from(line.starts_with("$ tongban serve"));
        if served == 6 {
            break;
        }
    }
    assert_eq!(endpoints.len(), 6);
    let up = |endpoint: &String| TcpStream::connect(endpoint).is_ok();
    while !endpoints.iter().all(up) {
        assert!(demo.try_wait().unwrap().is_none(), "the demo has ended too early");
        std::thread::yield_now();
    }
    kill_process(Pid::from_raw(demo.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    let words: Vec<String> = talk.map(Result::unwrap).collect();
    assert!(words.iter().any(|line| line.contains("interrupted; all gateways are stopped")), "{words:?}");
    assert!(!endpoints.iter().any(up), "a gateway still listens");
    assert!(fs::metadata(terminal.path("demo/receipts")).is_err());
}
