//! Decides whether a person at a terminal can pause a lane, reload a gateway, count its messages and read its audit. Real
//! gateways, real processes.

use crate::terminal::{Gateway, Town};

const OPS: &str = "--as 450200/ops/li";
const AUDITOR: &str = "--as 450200/auditor/wu";
const SEND: &str = "send --as 450200/window --to 440600/approval --item A --step accept --text 您好";

#[track_caller]
fn says(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} in\n{said}"));
}

/// Liuzhou at work and Foshan asleep, and in Liuzhou an operator and an auditor.
fn town(name: &str) -> Town {
    let mut town = Town::asleep("cli_admin", name);
    town.terminal.ends(0, "pki add-ops 450200 li");
    town.terminal.ends(0, "pki add-auditor 450200 wu");
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    town
}

#[test]
fn a_lane_is_paused_and_goes_on_and_a_gateway_reads_its_configuration_again() {
    let town = town("hand");
    let terminal = &town.terminal;

    let lane = "gateway/440600";
    says(&terminal.ends(0, &format!("lanes list {OPS}")).0, &["lane", "waiting", lane]);
    says(&terminal.ends(64, &format!("lanes pause {OPS} 440600")).1, &["--reason"]);
    says(&terminal.ends(64, &format!("lanes pause {OPS} nobody --reason x")).1, &["gateway/MEMBER"]);
    says(
        &terminal.ends(0, &format!("lanes pause {OPS} 440600 --reason 迁移")).0,
        &["gateway/440600 is paused", "迁移"],
    );
    says(&terminal.ends(1, &format!("lanes pause {OPS} 440600 --reason x --lang zh")).0, &["此前已暂停", "迁移"]);
    terminal.ends(0, SEND);
    let lanes = terminal.json(0, &format!("lanes list {OPS}"));
    let found = lanes["lanes"].as_array().unwrap().iter().find(|one| one["lane"] == lane).unwrap();
    assert_eq!(
        (&found["waiting"], &found["in_flight"], &found["paused"]["reason"]),
        (&1.into(), &0.into(), &"迁移".into())
    );
    says(&terminal.ends(0, &format!("lanes list {OPS} --lang zh")).0, &["通道", "自 ", "暂停：迁移"]);
    assert_eq!(
        terminal.json(65, &format!("lanes pause {OPS} 350200 --reason x"))["refused"]["reason"],
        "INVALID_ENVELOPE"
    );
    says(&terminal.ends(0, &format!("lanes resume {OPS} 440600 --lang zh")).0, &["已恢复", "1 条"]);
    assert_eq!(terminal.json(1, &format!("lanes resume {OPS} 440600"))["changed"], false);

    says(&terminal.ends(0, &format!("reload {OPS}")).0, &["nothing has changed"]);
    let path = terminal.path("run/450200/tongban.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let grant = "\n[[grant]]\nwho = \"every-system\"\nitems = [\"9*\"]\ndivisions = [\"*\"]\n";
    std::fs::write(&path, format!("{text}{grant}")).unwrap();
    says(&terminal.ends(0, &format!("reload {OPS} --lang zh")).0, &["已采用：grant"]);
    std::fs::write(&path, format!("{text}{}", grant.replace("divisions", "divisons"))).unwrap();
    let told = terminal.json(78, &format!("reload {OPS}"));
    assert_eq!(told["taken_up"], false);
    let faults = told["reload"]["faults"].as_array().unwrap();
    faults.iter().for_each(|fault| says(fault.as_str().unwrap(), &["tongban.toml:", "divisions"]));
    assert!(faults.iter().any(|fault| fault.as_str().unwrap().contains("\"divisons\"")), "{faults:?}");
    says(&terminal.ends(78, &format!("reload {OPS} --lang zh")).1, &["原配置继续生效"]);
    std::fs::write(&path, text).unwrap();
}

#[test]
fn messages_are_counted_and_acts_are_on_record() {
    let town = town("record");
    let terminal = &town.terminal;
    terminal.ends(0, SEND);
    terminal.ends(0, &format!("lanes pause {OPS} 440600 --reason 迁移"));
    terminal.ends(65, &format!("lanes pause {OPS} 350200 --reason x"));
    terminal.ends(0, &format!("lanes resume {OPS} 440600"));
    let path = terminal.path("run/450200/tongban.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}x")).unwrap();
    terminal.ends(78, &format!("reload {OPS}"));
    std::fs::write(&path, text).unwrap();

    let id =
        terminal.json(0, &format!("messages list {OPS}"))["messages"][0]["message_id"].as_str().unwrap().to_owned();
    let look = format!("content {OPS} {id} --out looked");
    says(&terminal.ends(64, &look).1, &["--reason"]);
    says(&terminal.ends(0, &format!("{look} --reason 核对投诉 --lang zh")).0, &["已保存于 looked/"]);
    assert_eq!(std::fs::read_to_string(terminal.path(&format!("looked/{id}/text.txt"))).unwrap(), "您好");
    terminal.ends(77, &format!("content {AUDITOR} {id} --out looked --reason x"));
    let acts = terminal.json(0, &format!("audit {AUDITOR} --act content.read"));
    assert_eq!(
        (&acts["acts"][1]["reason"], &acts["acts"][0]["refused"]),
        (&"核对投诉".into(), &"NOT_PERMITTED".into())
    );

    says(&terminal.ends(0, &format!("stats {OPS}")).0, &["1 messages accepted", "partner", "440600", "sent"]);
    says(
        &terminal.ends(0, &format!("stats {OPS} --by step --lang zh")).0,
        &["受理消息 1 条", "环节", "accept", "发出"],
    );
    let rows = terminal.json(0, &format!("stats {OPS} --by item --from 2020-01-01 --to 2020-02-01"));
    assert_eq!(rows["rows"].as_array().unwrap().len(), 0);
    let csv = terminal.ends(0, &format!("stats {OPS} --by item --csv")).0;
    assert_eq!(csv.lines().nth(1), Some("sent,\"A\",1,0,0,0,0,0,1,0,6,0"), "{csv}");
    says(&terminal.ends(64, &format!("stats {OPS} --csv --json")).1, &["not both"]);
    says(&terminal.ends(64, &format!("stats {OPS} --from yesterday")).1, &["2026-01-31"]);

    terminal.ends(77, &format!("audit {OPS}"));
    terminal.ends(77, &format!("lanes pause {AUDITOR} 440600 --reason x"));
    terminal.ends(77, &format!("stats {AUDITOR}"));
    let acts = terminal.json(0, &format!("audit {AUDITOR} --act lane.pause"));
    let acts: Vec<_> = acts["acts"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|act| (act["refused"].clone(), act["reason"].clone()))
        .collect();
    let row = |refused: &str, reason: &str| (refused.into(), reason.into());
    assert_eq!(acts, [row("", "迁移"), row("INVALID_ENVELOPE", ""), row("NOT_PERMITTED", "")]);
    let line = format!("audit {AUDITOR} --actor ops/li --act gateway. --limit 1 --lang zh");
    let (told, hint) = terminal.ends(0, &line);
    says(&told, &["操作人", "gateway.reload", "被拒绝：NOT_TAKEN_UP"]);
    says(&hint, &["--limit"]);
    says(&terminal.ends(0, &format!("audit {AUDITOR}")).0, &["lane.resume", "done", "refused: NOT_PERMITTED"]);
}
