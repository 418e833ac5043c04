//! Decides whether a person can see a gateway's keys and let new ones follow them, with nothing that is under way lost. Real
//! gateways, real processes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::terminal::{Gateway, Town};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

const CONFIG: &str = "--config run/450200/tongban.toml";
const SEND: &str = "send --as 450200/window --to 440600/approval --item A --text 您好";

#[track_caller]
fn says(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} in\n{said}"));
}

fn row<'a>(rows: &'a Value, purpose: &str) -> &'a Value {
    let rows = rows.as_array().unwrap();
    rows.iter().find(|row| row["purpose"] == purpose).unwrap_or_else(|| panic!("no {purpose}"))
}

#[test]
fn every_key_is_listed_with_what_is_wrong_with_it() {
    let town = Town::asleep("cli_keys", "list");
    let terminal = &town.terminal;
    let rows = terminal.json(0, &format!("keys list {CONFIG}"));
    for (purpose, algorithm, listed) in [
        ("tls-certificate", "ECDSA P-256", Value::Bool(true)),
        ("tls-key", "ECDSA P-256", Value::Null),
        ("log", "Ed25519", Value::Bool(true)),
        ("sealing", "X25519 (HPKE)", Value::Bool(true)),
        ("member", "Ed25519", Value::Bool(true)),
        ("alliance", "Ed25519", Value::Null),
    ] {
        let row = row(&rows, purpose);
        assert_eq!(
            (&row["algorithm"], &row["listed"], &row["fault"]),
            (&algorithm.into(), &listed, &Value::Null),
            "{row}"
        );
        assert!(row["fingerprint"].as_str().unwrap().len() >= 16, "{row}");
    }
    assert_eq!((&row(&rows, "tls-key")["mode"], &row(&rows, "log")["mode"]), (&"0600".into(), &"0600".into()));
    assert!(row(&rows, "tls-certificate")["days_left"].as_u64().unwrap() > 300);
    says(
        &terminal.ends(0, &format!("keys list {CONFIG}")).0,
        &["fingerprint", "days left", "/log/", "alliance (public)"],
    );
    says(&terminal.ends(0, &format!("keys list {CONFIG} --lang zh")).0, &["用途", "剩余", "回执日志", "已登记"]);

    let log = terminal.path("certs/dev/450200/log.key");
    std::fs::set_permissions(&log, PermissionsExt::from_mode(0o644)).unwrap();
    let rows = terminal.json(1, &format!("keys list {CONFIG}"));
    assert_eq!((&row(&rows, "log")["mode"], &row(&rows, "log")["listed"]), (&"0644".into(), &Value::Bool(false)));
    says(&terminal.ends(1, &format!("keys list {CONFIG} --lang zh")).0, &["其他用户可读取密钥"]);
    std::fs::set_permissions(&log, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::copy(terminal.path("certs/dev/440600/log.key"), &log).unwrap();
    assert_eq!(row(&terminal.json(1, &format!("keys list {CONFIG}")), "log")["listed"], false);
}

#[test]
fn a_key_for_a_certificate_is_asked_for_or_rotated_by_the_development_authority() {
    let mut town = Town::asleep("cli_keys", "tls");
    let asked = town.terminal.json(0, &format!("keys rotate tls {CONFIG}"));
    let (key, request) = (asked["key"].as_str().unwrap(), asked["request"].as_str().unwrap());
    let mode = std::fs::metadata(town.terminal.path(key)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, pem) = x509_parser::pem::parse_x509_pem(&std::fs::read(town.terminal.path(request)).unwrap()).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
    let names = format!("{:?}", request.requested_extensions().unwrap().collect::<Vec<_>>());
    says(&names, &["spiffe://", "/city/450200/gateway"]);

    let print =
        |town: &Town| row(&town.terminal.json(0, &format!("keys list {CONFIG}")), "tls-key")["fingerprint"].clone();
    let before = print(&town);
    says(&town.terminal.ends(64, &format!("keys rotate tls {CONFIG} --dir certs/dev")).1, &[".old", "--yes"]);
    assert_eq!(print(&town), before);
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    town.terminal.ends(0, "pki add-ops 450200 li");
    // It has read the old key and certificate once it answers.
    town.terminal.ends(0, "messages list --as 450200/window");
    town.terminal.ends(0, &format!("keys rotate tls {CONFIG} --dir certs/dev --yes"));
    assert_ne!(print(&town), before);
    says(&town.terminal.ends(0, "reload --as 450200/ops/li").0, &["tls.certificate"]);
    town.terminal.ends(0, SEND);
    town.stop();
}

#[test]
fn a_new_sealing_key_is_used_and_the_old_one_still_opens() {
    let mut town = Town::asleep("cli_keys", "sealing");
    let terminal = &town.terminal;
    says(&terminal.ends(64, &format!("keys rotate sealing {CONFIG}")).1, &["--yes", "goes on opening"]);
    let old = row(&terminal.json(0, &format!("keys list {CONFIG}")), "sealing")["fingerprint"].clone();
    let first = terminal.json(0, &format!("keys rotate sealing {CONFIG} --yes"));
    let rows = terminal.json(0, &format!("keys list {CONFIG}"));
    assert_eq!(row(&rows, "sealing")["fingerprint"], first["id"]);
    assert_eq!(
        (&row(&rows, "sealing")["listed"], &row(&rows, "sealing-former")["listed"]),
        (&false.into(), &true.into())
    );
    assert_eq!(row(&rows, "sealing-former")["fingerprint"], old);
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    let terminal = &town.terminal;
    terminal.ends(0, "pki add-ops 450200 li");
    let check = terminal.json(0, &format!("check {CONFIG} --only keys"));
    says(&check.to_string(), &["sealing_key_not_published"]);
    terminal.ends(0, SEND);

    // The record follows: handed in while the gateway runs.
    let shown = terminal.json(0, "directory show");
    let own = shown["members"].as_array().unwrap().iter().find(|one| one["member"] == "450200").unwrap().clone();
    let text = |name: &str| own[name].as_str().unwrap().to_owned();
    let line = format!(
        "directory record --alliance {} --member 450200 --version 2 --name-zh 柳州 --name-en Liuzhou \
         --member-key certs/dev/450200/member.key --roots certs/dev/450200/ca.pem --endpoint {} --log-key {} --sealing-key {} \
         --out record.note",
        shown["alliance"].as_str().unwrap(),
        own["endpoints"][0].as_str().unwrap(),
        own["log_keys"][0].as_str().unwrap(),
        first["sealing_key"].as_str().unwrap(),
    );
    assert_ne!(text("sealing_key"), first["sealing_key"].as_str().unwrap());
    terminal.ends(0, &line);
    says(
        &terminal.ends(0, "members add --as 450200/ops/li record.note").0,
        &["member-record of 450200, version 2: in force"],
    );
    assert_eq!(row(&terminal.json(0, &format!("keys list {CONFIG}")), "sealing")["listed"], true);
    town.stop();
    let terminal = &town.terminal;
    let second = terminal.json(0, &format!("keys rotate sealing {CONFIG} --yes"));
    assert_eq!(second["former"].as_array().unwrap().len(), 2, "every former key stays: {second}");
}

#[test]
fn a_log_is_closed_only_while_the_gateway_is_stopped_and_goes_on_in_a_new_folder() {
    let mut town = Town::asleep("cli_keys", "log");
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    let terminal = &town.terminal;
    let sent = terminal.json(0, SEND);
    let id = sent["message_id"].as_str().unwrap().to_owned();
    let rotate = format!("keys rotate log {CONFIG} --to run/next --member-key certs/dev/450200/member.key");
    says(&terminal.ends(75, &format!("{rotate} --yes")).1, &["running", "stop it"]);
    town.stop();
    let terminal = &town.terminal;
    says(&terminal.ends(64, &rotate).1, &["log.key.closed", "--yes"]);
    assert!(!terminal.path("run/next").exists(), "nothing was done before somebody agreed");
    let wrong = rotate.replace("450200/member.key", "440600/member.key");
    terminal.ends(78, &format!("{wrong} --yes"));
    assert!(terminal.path("certs/dev/450200/log.key").exists(), "the old log goes on");
    let _ = std::fs::remove_dir_all(terminal.path("run/next"));

    let done = terminal.json(0, &format!("{rotate} --yes"));
    says(done["log"].as_str().unwrap(), &["/log/", "/2"]);
    assert!(done["closed"]["origin"].as_str().unwrap().ends_with("/1") && done["statement"].is_u64(), "{done}");
    assert!(!Path::new(&terminal.path("run/next.copy")).exists(), "no copy of the keys is left behind");
    let old = terminal.command(&format!("serve {CONFIG}")).output().unwrap();
    assert!(!old.status.success(), "the old folder starts no more");
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/next"));
    let terminal = &town.terminal;
    let told = terminal.json(0, &format!("message --as 450200/window {id}"));
    assert_eq!(told["state"], "ACCEPTED", "{told}");
    // The statement makes the new log known to gateways; a client's own directory has yet to list it.
    let rows = terminal.json(0, "keys list --config run/next/tongban.toml");
    says(row(&rows, "log")["fingerprint"].as_str().unwrap(), &["/log/a/2"]);
    assert_eq!(row(&rows, "log")["listed"], true);
    town.stop();
}
