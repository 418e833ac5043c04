//! Decides whether a configuration's layers lie over each other as promised, and whether each fault is told with its place and
//! the way out.

use std::fs;
use std::process::Output;

use crate::terminal::Terminal;
use serde_json::Value;

const GOOD: &str = r#"[gateway]
alliance = "alliance.example"
city = "450200"
listen = "127.0.0.1:7501"
[tls]
certificate = "gateway.pem"
key = "gateway.key"
crls = "{member}/crl.pem"
[directory]
file = "directory.note"
alliance_key = "alliance.vkey"
[log]
key = "log.key"
[checks]
every_s = 3
[[system]]
name = "window"
items = ["*"]
"#;

fn terminal(name: &str) -> Terminal {
    let terminal = Terminal::new("cli_config", name);
    fs::write(terminal.path("tongban.toml"), GOOD).unwrap();
    terminal
}

fn more(terminal: &Terminal, file: &str, text: &str) {
    fs::create_dir_all(terminal.path("conf.d")).unwrap();
    fs::write(terminal.path(&format!("conf.d/{file}")), text).unwrap();
}

/// A setting as `config show` tells it: its value and where it stands.
fn held(shown: &Value, name: &str) -> (String, String) {
    let settings = shown.as_array().unwrap();
    let found = settings.iter().find(|setting| setting["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} in {shown:#}"));
    (found["value"].as_str().unwrap_or("-").to_owned(), found["origin"].as_str().unwrap().to_owned())
}

#[test]
fn the_later_layer_holds_before_the_earlier() {
    let terminal = terminal("layers");
    let show = |variables: &[(&str, &str)], line: &str| -> Value {
        let mut command = terminal.command(&format!("config show --json {line}"));
        let Output { status, stdout, stderr } = command.envs(variables.iter().copied()).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    };
    let both = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());

    let shown = show(&[], "");
    assert_eq!(held(&shown, "checks.every_s"), both("3", "tongban.toml:15:11"));
    assert_eq!(held(&shown, "checks.partners_every_s"), both("30", "default"));
    assert_eq!(held(&shown, "telemetry.listen"), both("-", "default"));

    more(&terminal, "10-checks.toml", "[checks]\nevery_s = 4\npartners_every_s = 40\n");
    more(&terminal, "20-checks.toml", "[checks]\nevery_s = 5\n");
    more(&terminal, "30-checks.toml.off", "[checks]\nevery_s = 99\n");
    let shown = show(&[], "");
    assert_eq!(held(&shown, "checks.every_s"), both("5", "conf.d/20-checks.toml:2:11"));
    assert_eq!(held(&shown, "checks.partners_every_s"), both("40", "conf.d/10-checks.toml:3:20"));

    let variables =
        [("TONGBAN_CHECKS__EVERY_S", "6"), ("TONGBAN_ROUTING__ALLOW", "4599, 4501"), ("TONGBAN_LOG", "warn")];
    let shown = show(&variables, "");
    assert_eq!(held(&shown, "checks.every_s"), both("6", "$TONGBAN_CHECKS__EVERY_S"));
    assert_eq!(held(&shown, "routing.allow"), both(r#"["4599", "4501"]"#, "$TONGBAN_ROUTING__ALLOW"));
    let shown = show(&variables, "--set checks.every_s=7");
    assert_eq!(held(&shown, "checks.every_s"), both("7", "--set checks.every_s"));
}

#[test]
fn rows_of_all_files_add_up() {
    let terminal = terminal("rows");
    more(&terminal, "approval.toml", "[[system]]\nname = \"approval\"\nitems = [\"A*\"]\nreceipts = true\n");
    let shown = terminal.json(0, "config show");
    assert_eq!(held(&shown, "system[window].items").0, r#"["*"]"#);
    assert_eq!(held(&shown, "system[approval].items"), (r#"["A*"]"#.to_owned(), "conf.d/approval.toml:3:9".to_owned()));
    assert_eq!(held(&shown, "system[approval].receipts").0, "true");
    let (told, _) = terminal.ends(0, "config show --origin --lang zh");
    assert!(told.contains("来自") && told.contains("默认") && told.contains("tongban.toml:4:10"), "{told}");
}

/// What is written in place of what, and what is said of it: place and words.
const FAULTS: &[(&str, &str, &[&str])] = &[
    ("listen =", "lisen =", &["tongban.toml:4:1: there is no setting \"lisen\"; did you mean \"listen\"?"]),
    ("listen =", "lisen =", &["tongban.toml:1:2: gateway.listen is missing: Address and port on which it serves"]),
    ("[checks]", "[cheks]", &["tongban.toml:14:2: there is no section \"cheks\"; did you mean \"checks\"?"]),
    ("[checks]", "[zzz]", &["tongban.toml:14:2: there is no section \"zzz\"\n"]),
    ("[log]\nkey = \"log.key\"\n", "", &["tongban.toml:1:1: log.key is missing"]),
    ("\"127.0.0.1:7501\"", "7501", &["tongban.toml:4:10: gateway.listen must be a text"]),
    ("\"127.0.0.1:7501\"", "\"7501\"", &["tongban.toml:4:10: \"7501\": invalid socket address"]),
    ("450200", "45", &["tongban.toml:3:8: \"45\": "]),
    ("450200\"", "450200\"\nhub = \"main\"", &["tongban.toml:3:8: must have either `city` or `hub`"]),
    (
        "450200\"",
        "450200\"\nfollow = \"hub/main\"",
        &["tongban.toml:4:1", "\"follow\"", "follow stands in [directory]"],
    ),
    ("every_s = 3", "every_s = \"3\"", &["tongban.toml:15:11: checks.every_s must be a whole number of seconds"]),
    ("every_s = 3", "every_s = -3", &["tongban.toml:15:11: checks.every_s must be a whole number of seconds"]),
    ("every_s = 3", "every_s = 0", &["tongban.toml:15:11: 0: must be 1 to 86400 seconds"]),
    ("every_s = 3", "every_s = 3\nevery_s = 4", &["tongban.toml:16:1: duplicate key"]),
    ("every_s = 3", "every_s 3", &["tongban.toml:15:9"]),
    ("[[system]]", "[system]", &["tongban.toml:16:2: must stand as [[system]]"]),
    ("[gateway]", "[[gateway]]", &["tongban.toml:1:3: must stand as [gateway]"]),
    ("items = [\"*\"]", "items = \"*\"", &["tongban.toml:18:9: system.items must be a list of texts"]),
    ("items = [\"*\"]", "items = [\"*\",\n\n  \"a b\"]", &["tongban.toml:20:3: \"a b\": "]),
    ("items = [\"*\"]\n", "", &["tongban.toml:16:1: system.items is missing"]),
    ("[[system]]", "[[system]]\nname = \"window\"\nitems = []\n[[system]]", &["tongban.toml:20:8", "stands twice"]),
    (
        "[[system]]",
        "[[grant]]\nwho = \"all\"\nitems = []\ndivisions = []\n[[system]]",
        &["tongban.toml:17:7: \"all\": "],
    ),
    ("[checks]", "[store]\nsynchronous = \"off\"\n[checks]", &["tongban.toml:15:15", "\"full\" or \"normal\""]),
    (
        "[checks]",
        "[telemetry]\nlisten = \"0.0.0.0:1\"\n[checks]",
        &["tongban.toml:15:10", "must be a loopback address"],
    ),
    ("\"log.key\"", "\"PRIVATE+KEY+x+00+c2VjcmV0\"", &["tongban.toml:13:7: log.key must name a file"]),
    (
        "\"gateway.key\"",
        "\"\"\"\n-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n\"\"\"",
        &["tongban.toml:7:7: tls.key must name a file"],
    ),
];

#[test]
fn each_fault_is_told_with_its_place_and_the_way_out() {
    let terminal = terminal("faults");
    for (place, other, said) in FAULTS {
        assert!(GOOD.contains(place), "{place}");
        fs::write(terminal.path("tongban.toml"), GOOD.replacen(place, other, 1)).unwrap();
        let (told, _) = terminal.ends(78, "config check");
        said.iter().for_each(|words| assert!(told.contains(words), "{other}: {words:?} in\n{told}"));
        let (zh, _) = terminal.ends(78, "config check --lang zh");
        assert_eq!(zh.lines().count(), told.lines().count(), "{zh}");
        let chinese = |line: &str| line.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
        assert!(zh.lines().all(chinese), "{zh}");
        let (out, err) = terminal.ends(78, "serve");
        assert!(![&told, &zh, &out, &err].iter().any(|text| text.contains("c2VjcmV0")), "{told}{err}");
    }
}

#[test]
fn faults_of_all_layers_are_told_at_once() {
    let terminal = terminal("once");
    fs::write(terminal.path("tongban.toml"), GOOD.replace("450200", "45").replace("[checks]", "[cheks]")).unwrap();
    more(&terminal, "a.toml", "[gateway]\nlisten = 1\n");
    let line = "config check --json --set system.name=x --set checks --set checks.evry_s=1";
    let mut command = terminal.command(line);
    let ended = command.env("TONGBAN_CHECKS__EVERY_S", "soon").output().unwrap();
    assert_eq!(ended.status.code(), Some(78));
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let faults: Vec<&str> =
        told["faults"].as_array().unwrap().iter().map(|fault| fault["origin"].as_str().unwrap()).collect();
    assert_eq!(
        faults,
        [
            "conf.d/a.toml:2:10",
            "tongban.toml:3:8",
            "tongban.toml:14:2",
            "$TONGBAN_CHECKS__EVERY_S",
            "--set checks",
            "--set checks.evry_s",
            "--set system.name"
        ]
    );
    assert_eq!((&told["faults"][1]["line"], &told["faults"][1]["column"]), (&3.into(), &8.into()));
}

#[test]
fn what_cannot_be_read_is_named() {
    let terminal = terminal("unreadable");
    assert!(terminal.ends(66, "config check --config nowhere.toml").1.contains("nowhere.toml: "));
    more(&terminal, "rubbish.toml", "");
    fs::write(terminal.path("conf.d/rubbish.toml"), [0xff, 0xfe]).unwrap();
    assert!(terminal.ends(66, "config check").1.contains("conf.d/rubbish.toml: "));
}

#[test]
fn the_sample_says_every_setting_and_is_a_configuration() {
    let terminal = terminal("sample");
    let (sample, _) = terminal.ends(0, "config sample");
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.sample.toml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(published, &sample).unwrap();
    }
    assert_eq!(
        fs::read_to_string(published).unwrap(),
        sample,
        "write it anew: UPDATE=1 cargo test --test commands cli_config"
    );

    let plain = |text: &str| -> Value {
        fs::write(terminal.path("tongban.toml"), text).unwrap();
        terminal.json(0, "config show")
    };
    let shown = plain(&sample);
    // What stands there as a comment is what holds without it, or can be set by taking the mark away.
    let uncommented: Vec<String> = sample
        .lines()
        .filter(|line| !line.starts_with("# hub = "))
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && rest.is_ascii()).unwrap_or(line).to_owned()
        })
        .collect();
    let set = plain(&uncommented.join("\n"));
    let names = |shown: &Value| -> Vec<String> {
        shown.as_array().unwrap().iter().map(|setting| setting["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&shown), names(&set));
    for setting in set.as_array().unwrap().iter().filter(|setting| setting["name"] != "gateway.hub") {
        assert_ne!(setting["origin"], "default", "{setting:#}");
        let name = setting["name"].as_str().unwrap();
        let before = held(&shown, name);
        assert!(
            before.0 == "-" || before.0 == "[]" || Some(before.0.as_str()) == setting["value"].as_str(),
            "{setting:#}"
        );
    }
}

#[test]
fn two_configurations_are_compared_by_what_they_mean() {
    let terminal = terminal("diff");
    fs::create_dir_all(terminal.path("other")).unwrap();
    // Another order and another form, and a default said aloud: no difference.
    let same = GOOD.replace("[checks]\nevery_s = 3\n", "") + "[checks]\npartners_every_s = 30\nevery_s = 0x3\n";
    fs::write(terminal.path("other/tongban.toml"), &same).unwrap();
    assert!(terminal.ends(0, "config diff other/tongban.toml").0.contains("no difference"));
    let other = same.replace("0x3", "9").replace("7501", "7502").replace("[\"*\"]", "[\"A\"]");
    fs::write(terminal.path("other/tongban.toml"), other).unwrap();
    let told = terminal.json(1, "config diff other/tongban.toml");
    let rows: Vec<[&str; 4]> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|row| ["name", "before", "after", "takes_effect"].map(|name| row[name].as_str().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            ["checks.every_s", "3", "9", "next_start"],
            ["gateway.listen", "\"127.0.0.1:7501\"", "\"127.0.0.1:7502\"", "restart"],
            ["system[window].items", "[\"*\"]", "[\"A\"]", "reload"],
        ]
    );
    assert!(terminal.ends(1, "config diff other/tongban.toml --lang zh").0.contains("须重启"));
    assert!(terminal.ends(0, "config diff tongban.toml").0.contains("no difference"));
}
