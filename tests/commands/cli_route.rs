//! `tongban route` against a running gateway: what it shows, what it asks, and how it ends.

use std::process::{Command, Output, Stdio};

use crate::alliance::Alliance;
use serde_json::Value;

const TABLES: &str = r#"owner = "450200"

[[route]]
division = "450200"
item = "*"
system = "window"

[[route]]
division = "450200"
item = "2250"
refuse = "ITEM_SUSPENDED"
"#;

/// An alliance with one city and its operator, and a folder of tables.
fn city(text: &str) -> Alliance {
    let alliance = Alliance::new(&[("450200", &["window"])]);
    alliance.run(&["pki", "add-ops", "450200", "li"], &["--dir", &alliance.pki()]);
    write(&alliance, text);
    alliance
}

fn write(alliance: &Alliance, text: &str) {
    let folder = alliance.folder.join("routes");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("450200.toml"), text).unwrap();
}

fn route(alliance: &Alliance, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
    command.args(["--lang", "en", "route"]).args(arguments);
    command.args(["--as", "450200/ops/li", "--dir", &alliance.pki()]);
    command.current_dir(&alliance.folder).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn ends(output: Output, exit: i32, words: &[&str]) -> String {
    let said = said(&output);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} in {said}"));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_planned_published_explained_and_rolled_back() {
    let alliance = city(TABLES);
    let _gateway = alliance.start("450200").await;
    let ask = |arguments: &[&str]| route(&alliance, arguments);
    ends(ask(&["show"]), 0, &["version 0"]);
    ends(ask(&["plan", "routes"]), 0, &["2 rows change", "+1", "4502 2250", "window → ROUTE_REFUSED ITEM_SUSPENDED"]);
    ends(ask(&["publish", "routes"]), 64, &["--yes"]);
    ends(ask(&["show"]), 0, &["version 0"]);
    ends(ask(&["publish", "routes", "--yes"]), 0, &["2 rows change", "version 1 is in force"]);
    ends(ask(&["publish", "routes", "--yes"]), 0, &["nothing changes against version 1"]);
    ends(ask(&["show", "--owner", "450200"]), 0, &["owner = \"450200\"", "refuse = \"ITEM_SUSPENDED\""]);
    let going = ends(ask(&["explain", "--item", "1", "--to", "450200"]), 0, &["version 1"]);
    assert!(going.trim_end().ends_with("taken: row 1 of 450200 -> system window"), "{going}");
    ends(ask(&["explain", "--item", "2250", "--jurisdiction", "450205"]), 1, &["ITEM_SUSPENDED by row 2 of 450200"]);
    let json = ask(&["explain", "--item", "2250", "--to", "450200", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["decision"]["token"], "ITEM_SUSPENDED");

    write(&alliance, &TABLES.replace("ITEM_SUSPENDED", "CLOSED"));
    ends(ask(&["publish", "routes", "--yes"]), 0, &["version 2 is in force"]);
    ends(ask(&["rollback", "1", "--yes"]), 0, &["refuse CLOSED", "version 3 is in force"]);
    ends(ask(&["show", "--owner", "450200", "--version", "2"]), 0, &["CLOSED"]);
    ends(ask(&["show", "--owner", "450200"]), 0, &["ITEM_SUSPENDED"]);
    ends(ask(&["rollback", "9", "--yes"]), 1, &["NO_SUCH_VERSION"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told_with_their_places_and_clashes_with_both_rows() {
    let bad = TABLES.replace("\"*\"", "\"**\"").replace("refuse", "refuze");
    let alliance = city(&bad);
    // Nothing runs: a file's own faults need no gateway.
    let faults =
        ["routes/450200.toml:5:8: item", "routes/450200.toml:8:1: one of via", "450200.toml:11:1: unknown key"];
    ends(route(&alliance, &["plan", "routes"]), 65, &faults);
    let _gateway = alliance.start("450200").await;
    let clash = format!("{TABLES}\n[[route]]\ndivision = \"4502\"\nitem = \"2250\"\nsystem = \"window\"\n");
    write(&alliance, &clash);
    let both = "row 2 of 450200 and row 3 of 450200 both claim 4502 2250";
    ends(route(&alliance, &["publish", "routes", "--yes"]), 65, &["INVALID_TABLES", both]);
}
