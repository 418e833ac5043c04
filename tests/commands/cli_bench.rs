//! Decides whether `tongban bench` measures what it says, of a gateway that it makes for itself, and leaves nothing behind.

use std::fs;

use crate::terminal::{Terminal, Town};

#[test]
fn every_load_is_measured_and_nothing_is_left_behind() {
    let terminal = Terminal::new("cli_bench", "loads");
    fs::create_dir_all(terminal.path("tmp")).unwrap();
    let loads = ["disk", "store", "submit", "stream", "receive", "request", "end-to-end"];
    let line = format!("bench --self {} --count 64 --in-flight 16 --json", loads.join(" "));
    let ended = terminal.command(&line).env("TMPDIR", terminal.path("tmp")).output().unwrap();
    let talk = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{talk}");
    let shown: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let told = shown["loads"].as_array().unwrap();
    assert_eq!(told.iter().map(|load| load["load"].as_str().unwrap()).collect::<Vec<_>>(), loads);
    for load in told {
        let (name, run) = (load["load"].as_str().unwrap(), &load["run"]);
        assert_eq!((run["count"].as_u64(), run["refused"].as_u64()), (Some(64), Some(0)), "{name}");
        let latency = |share: &str| run["latency_us"][share].as_u64().unwrap();
        assert!(0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"), "{name}");
        let spread = run["histogram"].as_array().unwrap().iter().map(|bar| bar["count"].as_u64().unwrap());
        assert_eq!(spread.sum::<u64>(), 64, "{name}");
        // Only a gateway has costs, and every message is durable: no load does without a commit.
        let commits = load["gateway"]["commits_per_message"].as_f64();
        assert_eq!(commits.is_some_and(|commits| commits > 0.0), !["disk", "store"].contains(&name), "{name}: {load}");
    }
    assert_eq!(fs::read_dir(terminal.path("tmp")).unwrap().count(), 0, "its folder is gone");
}

#[test]
fn others_are_measured_beside_a_partner_that_never_answers() {
    let terminal = Terminal::new("cli_bench", "silent");
    fs::create_dir_all(terminal.path("tmp")).unwrap();
    let line = "bench --self --silent-partner --queued 300 --count 32 --in-flight 8 --json";
    let ended = terminal.command(line).env("TMPDIR", terminal.path("tmp")).output().unwrap();
    let talk = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{talk}");
    let shown: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let partners = shown["partners"].as_array().unwrap();
    let names: Vec<_> = partners.iter().map(|partner| partner["partner"].as_str().unwrap()).collect();
    assert_eq!((names, shown["queued"].as_u64()), (vec!["none", "mute", "lost"], Some(300)));
    for partner in partners {
        for way in ["submit", "handed_over"] {
            let told = &partner["others"][way];
            let windows = told["windows"].as_array().unwrap();
            assert_eq!(windows.len(), 5);
            for window in windows {
                assert_eq!(
                    (window["count"].as_u64(), window["refused"].as_u64()),
                    (Some(32), Some(0)),
                    "{way}: {partner}"
                );
            }
            let [p50, p99, times] = ["p50_us", "p99_us", "p99_against_none"].map(|name| told[name].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p99 && times > 0.0, "{way}: {partner}");
        }
        // Whoever has the receipt of the handover had that of the acceptance before.
        let p50 = |way: &str| partner["others"][way]["p50_us"].as_f64().unwrap();
        assert!(p50("submit") < p50("handed_over"), "{partner}");
    }
    let times = partners[0]["others"]["submit"]["p99_against_none"].as_f64();
    assert_eq!(times, Some(1.0), "it is compared with itself");
    assert_eq!(fs::read_dir(terminal.path("tmp")).unwrap().count(), 0, "its folders are gone");
}

#[test]
fn what_is_loaded_must_be_said() {
    let terminal = Terminal::new("cli_bench", "usage");
    for line in [
        "bench",
        "bench --as 450200/window",
        "bench --self --as 450200/window --to 450200/desk",
        "bench --self fly",
        "bench --silent-partner",
        "bench --self --silent-partner submit",
    ] {
        assert_eq!(terminal.command(line).output().unwrap().status.code(), Some(64), "{line}");
    }
}

#[test]
fn messages_go_to_each_recipient_in_turn() {
    let town = Town::new("cli_bench", "turns");
    let line =
        "bench submit stream --as 450200/window --to 450200/window --to 440600/approval --count 8 --in-flight 1 --json";
    town.terminal.ends(0, line);
    let listed = |to: &str| {
        let line = format!("messages list --as 450200/window --to {to}");
        town.terminal.json(0, &line)["messages"].as_array().unwrap().len()
    };
    assert_eq!(["450200", "440600"].map(listed), [8, 8]);
}
