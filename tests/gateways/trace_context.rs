//! Shows that a message's trace goes with it to its recipient, directly and sealed through a hub, and that the log lines of the
//! message name it. Real gateways, real processes.

use crate::alliance::{Alliance, City, envelope};
use crate::terminal::Town;
use tongban::message::trace_id;
use tongban::wire::pb::exchange as pb;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_arrives_as_it_was_sent_directly_and_through_a_hub() {
    for hubs in [&[][..], &["hub/main"]] {
        let city = |code, systems| City { code, systems, relays: hubs, ..City::default() };
        let cities = [city("450200", &["window"]), city("440600", &["approval"])];
        let alliance = Alliance::of(if hubs.is_empty() { &[] } else { &["main"] }, &cities);
        if !hubs.is_empty() {
            alliance.route("450200", "440600", hubs);
        }
        let mut gateways = vec![alliance.start("450200").await, alliance.start("440600").await];
        if !hubs.is_empty() {
            gateways.push(alliance.start("hub-main").await);
        }
        let sent = pb::Envelope { traceparent: PARENT.to_owned(), ..envelope(("450200", "window"), ("440600", "")) };
        alliance.client("450200", "window").submit(sent).await.unwrap();
        let (_, message) = alliance.client("440600", "approval").receive(1).await.delivery().await;
        assert_eq!(message.envelope.unwrap().traceparent, PARENT, "{hubs:?}");
        for gateway in gateways {
            gateway.stop().await;
        }
    }
}

#[test]
fn a_command_passes_its_trace_on_or_begins_one_and_the_gateway_names_it() {
    let mut town = Town::new("trace_context", "command");
    let send = |town: &Town, to: &str, given: Option<&str>, code: i32| {
        let mut command = town.terminal.command(&format!("send --as 450200/window --to {to} --item A --text x"));
        command.env_remove("TRACEPARENT").envs(given.map(|given| ("TRACEPARENT", given)));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    };
    let mut seen = vec![];
    for given in [Some(PARENT), None, Some("no trace")] {
        send(&town, "440600/approval", given, 0);
        let out = town.terminal.ends(0, "receive --as 440600/approval --ack --count 1 --json").0;
        let told: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        seen.push(told["traceparent"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen[0], PARENT);
    assert!(seen.iter().all(|parent| trace_id(parent).is_some()), "{seen:?}");
    assert!(seen[1] != seen[2] && seen[1] != PARENT, "each begins its own: {seen:?}");

    send(&town, "990000", Some(PARENT), 1);
    town.stop();
    let log = std::fs::read_to_string(town.terminal.path("run/450200.log")).unwrap();
    let line = log.lines().find(|line| line.contains("message refused")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(TRACE) && line.contains("id="), "{line}");
}

#[test]
fn a_trace_id_is_read_from_a_well_formed_traceparent_alone() {
    for (parent, trace) in [
        (PARENT, Some(TRACE)),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", Some(TRACE)),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
        ("00-张三-00f067aa0ba902b7-01", None),
        ("", None),
    ] {
        assert_eq!(trace_id(parent), trace, "{parent}");
    }
}
