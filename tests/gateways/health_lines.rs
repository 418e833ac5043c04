//! The lines that docs/health.md offers to other tools, taken from the page itself and tried with those tools against a running
//! gateway, where they can be had.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::alliance::Alliance;
use crate::process::{self, Process};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TONGBAN: &str = env!("CARGO_BIN_EXE_tongban");
const CITY: &str = "450200";
/// How the page names the configuration of an installed gateway.
const INSTALLED: &str = "/etc/tongban/tongban.toml";

/// The code block of the page whose first line is a comment that begins so.
fn block(comment: &str) -> String {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/health.md")).unwrap();
    let begun = page.find(&format!("\n# {comment}")).unwrap_or_else(|| panic!("docs/health.md has no block {comment}"));
    let rest = &page[begun + 1..];
    rest[..rest.find("```").unwrap()].to_owned()
}

/// Where a tool is: built by `.ci/run`, or installed.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = std::iter::once(format!("{ROOT}/target/ci/go")).chain(path.split(':').map(str::to_owned));
    let found =
        folders.chain(["/usr/sbin".to_owned()]).map(|folder| Path::new(&folder).join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("SKIPPED: {name} is not installed; its lines in docs/health.md were not tried");
    }
    found
}

/// A city that runs alone, with somebody who operates it.
async fn city() -> (Alliance, Process) {
    let alliance = process::alliance(&[(CITY, &["window"])]);
    alliance.run(&["pki", "add-ops", CITY, "li"], &["--dir", &alliance.pki()]);
    let gateway = Process::start(&alliance, CITY).await;
    (alliance, gateway)
}

/// A line of the page, with this test's own program, configuration, certificates and address in the places of the page's.
fn here(alliance: &Alliance, line: &str) -> String {
    let own = Path::new(&alliance.pki()).join(CITY);
    let config = alliance.config_path(CITY).display().to_string();
    let file = |name: &str| own.join(name).display().to_string();
    line.replace(INSTALLED, &config)
        .replace("--config tongban.toml", &format!("--config {config}"))
        .replace("/usr/bin/tongban", TONGBAN)
        .replace("127.0.0.1:7501", &alliance.config(CITY).listen.to_string())
        .replace("ca.pem", &file("ca.pem"))
        .replace("ops.pem", &file("ops/li.pem"))
        .replace("ops.key", &file("ops/li.key"))
}

/// Runs a line as a shell does, with `tongban` on its way.
fn shell(alliance: &Alliance, line: &str) -> Output {
    let program = Path::new(TONGBAN).parent().unwrap().display().to_string();
    let path = format!("{program}:{ROOT}/target/ci/go:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path).current_dir(&alliance.folder).stdin(Stdio::null());
    command.output().unwrap()
}

/// Runs a line that must end well, and says what it printed.
fn ends_well(alliance: &Alliance, line: &str) -> String {
    let output = shell(alliance, line);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\nended with {}:\n{said}", output.status);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unit_for_systemd_is_one_and_its_first_line_passes() {
    let (alliance, _gateway) = city().await;
    let unit = here(&alliance, &block("systemd"));
    let first = unit.lines().find_map(|line| line.strip_prefix("ExecStartPre=")).unwrap();
    ends_well(&alliance, first);
    let Some(analyze) = tool("systemd-analyze") else { return };
    let verify = |unit: &str| {
        let path = alliance.folder.join("tongban.service");
        std::fs::write(&path, unit).unwrap();
        let output = Command::new(&analyze).arg("verify").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // What it says of other units of this machine is not ours.
        (output.status.success(), said.lines().filter(|line| line.contains("tongban.service")).count(), said)
    };
    let (well, complaints, said) = verify(&unit);
    assert!(well && complaints == 0, "{said}");
    for (good, bad) in
        [("Restart=on-failure", "Restart=sometimes"), ("LimitNOFILE", "LimitNOFILES"), (TONGBAN, "/nowhere")]
    {
        let (well, complaints, said) = verify(&unit.replace(good, bad));
        assert!(!well || complaints > 0, "{bad} passes: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_for_keepalived_is_read_and_tells_the_truth() {
    let (alliance, mut gateway) = city().await;
    let conf = here(&alliance, &block("keepalived"));
    let script =
        conf.lines().find_map(|line| line.trim().strip_prefix("script ")).unwrap().trim_matches('"').to_owned();
    ends_well(&alliance, &script);
    gateway.kill();
    assert_eq!(shell(&alliance, &script).status.code(), Some(1), "a gateway that is gone");
    let Some(keepalived) = tool("keepalived") else { return };
    let test = |conf: &str| {
        let path = alliance.folder.join("keepalived.conf");
        std::fs::write(&path, conf).unwrap();
        let output =
            Command::new(&keepalived).args(["--config-test", "--log-console", "--use-file"]).arg(&path).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (well, said) = test(&conf);
    assert!(well, "{said}");
    let (well, said) = test(&conf.replace("interval", "intervall"));
    assert!(!well, "a word that keepalived does not know passes: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_for_kubernetes_are_yaml_and_tell_the_truth() {
    let (alliance, mut gateway) = city().await;
    let spec = block("Kubernetes");
    let list = spec.split_once("command: [").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
    let line = here(&alliance, &list.split(',').map(str::trim).collect::<Vec<_>>().join(" "));
    ends_well(&alliance, &line);
    gateway.kill();
    assert_eq!(shell(&alliance, &line).status.code(), Some(1), "a gateway that is gone");
    if !shell(&alliance, "python3 -c 'import yaml'").status.success() {
        return println!("SKIPPED: python3 has no yaml; the probes in docs/health.md were not parsed");
    }
    let path = alliance.folder.join("probes.yaml");
    std::fs::write(&path, &spec).unwrap();
    let parse = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let read = ends_well(&alliance, &format!("python3 -c '{parse}' {}", path.display()));
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["livenessProbe"]["tcpSocket"]["port"], 7501);
    assert_eq!(read["readinessProbe"]["exec"]["command"].as_array().map(Vec::len), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_for_a_shell_run_as_they_stand() {
    let (alliance, mut gateway) = city().await;
    // What each line prints when all is well, and whether it asks the gateway itself.
    let says = [
        ("grpc_health_probe", "status: SERVING", true),
        ("grpcurl", "\"status\": \"SERVING\"", true),
        ("grpcurl", "tongban.exchange.v1.ExchangeService", true),
        ("tongban", "OK", false),
        ("tongban", "", false),
        ("promtool", "SUCCESS", false),
    ];
    let lines: Vec<String> =
        block("grpc_health_probe").lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    assert_eq!(lines.iter().map(|line| first(line)).collect::<Vec<_>>(), says.map(|(tool, _, _)| tool));
    let mut tried = vec![];
    for (line, (name, says, asks)) in lines.iter().zip(says) {
        if name != "tongban" && tool(name).is_none() {
            continue;
        }
        let line = here(&alliance, &line.replace("deploy/", &format!("{ROOT}/deploy/")));
        let said = ends_well(&alliance, &line);
        assert!(said.contains(says), "{line}\n{said}");
        tried.extend(asks.then_some(line));
    }
    let figures = std::fs::read_to_string(alliance.folder.join("tongban.prom")).unwrap();
    assert!(figures.contains("tongban_check"), "{figures}");
    gateway.kill();
    for line in tried {
        assert!(!shell(&alliance, &line).status.success(), "a gateway that is gone: {line}");
    }
}
