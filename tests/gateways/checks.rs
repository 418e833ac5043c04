//! `tongban check` names the broken thing and the way out: one planted fault a row.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::alliance::{Alliance, envelope};
use crate::wording::english_in;
use rusqlite::Connection;
use tongban::checks::{Finding, Verdict, Which, advice, examine, examine_own, examine_self};
use tongban::clock::Clock;
use tongban::routing::{Index, Tables, Ways};
use tongban::wire::pb::evidence as pbe;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Where the faults are planted: an alliance whose first gateway has stored something and was stopped.
struct Ground<'a> {
    alliance: &'a Alliance,
    clock: Clock,
    /// What must stay open while the gateway is examined.
    held: Vec<TcpListener>,
}

impl Ground<'_> {
    fn pki(&self, path: &str) -> PathBuf {
        self.alliance.folder.join("pki").join(path)
    }

    fn store(&self) -> PathBuf {
        self.alliance.folder.join(LIUZHOU.0).join("store")
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.store().join("store.db")).unwrap().execute_batch(sql).unwrap();
    }

    /// Replaces a text in the configuration.
    fn configure(&self, from: &str, to: &str) {
        let path = self.alliance.config_path(LIUZHOU.0);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Cuts the configuration off before a text.
    fn cut(&self, from: &str) {
        let path = self.alliance.config_path(LIUZHOU.0);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, &text[..text.find(from).unwrap()]).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.pki(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Puts rubbish into a file, which keeps its mode.
    fn spoil(&self, path: &str) {
        std::fs::write(self.pki(path), "rubbish").unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.pki(path)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.pki(from), self.pki(to)).unwrap();
    }

    /// Lets the partner's record name another address.
    fn partner_at(&self, address: &str) {
        self.alliance.change_record(FOSHAN.0, |record| record.endpoints = vec![address.parse().unwrap()]);
    }
}

/// A fault: how it is planted, the check that must find it, and the code of its advice.
type Row = (&'static str, fn(&mut Ground<'_>), &'static str, &'static str);

const ROWS: &[Row] = &[
    ("an unknown setting", |g| g.configure("listen =", "lisen ="), "config.file", "config_faulty"),
    ("an address that is none", |g| g.configure("listen = \"", "listen = \"here:"), "config.file", "config_faulty"),
    ("a store's folder that is a file", store_is_a_file, "store.writable", "store_unwritable"),
    ("rubbish for a store", store_is_rubbish, "store.schema", "store_unreadable"),
    ("a store of a newer build", |g| g.sql("INSERT INTO migration VALUES (99, x'00')"), "store.schema", "store_schema"),
    ("a store of an older build", |g| g.sql("DELETE FROM migration WHERE version > 1"), "store.schema", "store_schema"),
    (
        "a checkpoint changed",
        |g| g.sql("UPDATE checkpoint SET note = replace(note, 'a', 'b')"),
        "store.tree",
        "tree_broken",
    ),
    ("a tree shorter than its checkpoint", |g| g.sql("UPDATE tree SET size = size - 1"), "store.tree", "tree_broken"),
    ("a store put back from an older copy", rolled_back, "store.tree", "rolled_back"),
    (
        "a walk over the log that found damage",
        |g| std::fs::write(g.store().join("scrubbed.json"), r#"{"at_ms":1,"leaves":9,"damage":"leaf 7"}"#).unwrap(),
        "store.scrub",
        "log_damaged",
    ),
    (
        "a write-ahead log that never ends",
        |g| grow(&g.store().join("store.db-wal"), 300 << 20),
        "store.wal",
        "wal_large",
    ),
    (
        "a clock put back",
        |g| g.sql("UPDATE message SET stored_at = stored_at + 86400000"),
        "host.clock",
        "clock_behind",
    ),
    ("no log key", |g| g.remove("450200/log.key"), "keys.log", "key_missing"),
    ("a log key that others can read", |g| g.mode("450200/log.key", 0o644), "keys.log", "key_open"),
    ("rubbish for a log key", |g| g.spoil("450200/log.key"), "keys.log", "key_unreadable"),
    ("another's log key", |g| g.copy("440600/log.key", "450200/log.key"), "keys.log", "log_key_unlisted"),
    (
        "another's sealing key",
        |g| g.copy("440600/sealing.key", "450200/sealing.key"),
        "keys.sealing",
        "sealing_key_unlisted",
    ),
    ("no sealing key configured", no_sealing, "keys.sealing", "sealing_key_absent"),
    ("no private key", |g| g.remove("450200/gateway.key"), "tls.key", "key_missing"),
    ("a private key that others can read", |g| g.mode("450200/gateway.key", 0o640), "tls.key", "key_open"),
    ("rubbish for a private key", |g| g.spoil("450200/gateway.key"), "tls.key", "key_unreadable"),
    (
        "another's private key",
        |g| g.copy("440600/gateway.key", "450200/gateway.key"),
        "tls.certificate",
        "certificate_other_key",
    ),
    ("no certificate", |g| g.remove("450200/gateway.pem"), "tls.certificate", "key_missing"),
    ("rubbish for a certificate", |g| g.spoil("450200/gateway.pem"), "tls.certificate", "certificate_unreadable"),
    ("another gateway's certificate", others_certificate, "tls.identity", "certificate_refused"),
    ("a system's certificate", systems_certificate, "tls.identity", "certificate_refused"),
    ("a certificate that has ended", |g| g.clock.advance(400 * DAY_MS), "tls.expiry", "certificate_expired"),
    ("a certificate that ends", |g| g.clock.advance(350 * DAY_MS), "tls.expiry", "certificate_ends"),
    ("a certificate that ends soon", |g| g.clock.advance(390 * DAY_MS), "tls.expiry", "certificate_ends_soon"),
    ("no revocation list", |g| g.remove("440600/crl.pem"), "tls.crls 440600", "crl_missing"),
    ("an empty revocation list", |g| g.spoil("440600/crl.pem"), "tls.crls 440600", "crl_missing"),
    ("another's revocation list", |g| g.copy("450200/crl.pem", "440600/crl.pem"), "tls.crls 440600", "crl_unusable"),
    ("a revocation list that has ended", |g| g.clock.advance(31 * DAY_MS), "tls.crls 440600", "crl_expired"),
    ("a revocation list that ends soon", |g| g.clock.advance(29 * DAY_MS), "tls.crls 440600", "crl_ends"),
    ("no directory", |g| g.remove("directory.note"), "directory.signed", "key_missing"),
    ("a directory changed", directory_changed, "directory.signed", "directory_unreadable"),
    ("rubbish for the alliance's key", |g| g.spoil("alliance.vkey"), "directory.signed", "directory_unreadable"),
    (
        "another alliance",
        |g| g.configure("alliance = \"alliance.example\"", "alliance = \"other.example\""),
        "directory.signed",
        "directory_other",
    ),
    (
        "a city that is no member",
        |g| g.configure("city = \"450200\"", "city = \"999001\""),
        "directory.member",
        "not_a_member",
    ),
    ("a directory of long ago", |g| g.clock.advance(100 * DAY_MS), "directory.age", "directory_stale"),
    ("no grant", |g| g.cut("[[grant]]"), "routes.grants", "grants_none"),
    ("no system", no_system, "routes.grants", "systems_none"),
    ("a stored table that is none", table_spoilt, "routes.tables", "routes_clash"),
    (
        "a message that waits for days",
        |g| g.sql("UPDATE message SET stored_at = stored_at - 90000000"),
        "lanes.flow gateway/440600",
        "lane_old",
    ),
    (
        "a partner that failed again and again",
        |g| g.sql("UPDATE lane SET failures = 9"),
        "lanes.flow gateway/440600",
        "lane_rests",
    ),
    (
        "a lane that is held",
        |g| g.sql("UPDATE lane SET held = 1, failures = 0"),
        "lanes.flow gateway/440600",
        "lane_held",
    ),
    (
        "a dead letter",
        |g| g.sql("INSERT INTO dead SELECT 1, 0, 'EXPIRED', 1, 'x', 0, ''"),
        "lanes.dead",
        "dead_letters",
    ),
    (
        "a member that somebody suspended",
        |g| {
            let decisions = r#"{"suspended": {"440600": {"since_ms": 1, "by": "li", "why": "x"}}}"#;
            std::fs::write(g.store().join("notes/decisions.json"), decisions).unwrap();
        },
        "members.suspended 440600",
        "member_suspended",
    ),
    ("a gateway that does not run", |_| {}, "gateway.answers", "gateway_silent"),
    ("a partner that does not run", |_| {}, "partner.tcp 440600", "partner_tcp"),
    (
        "a partner's name that does not resolve",
        |g| g.partner_at("no-such-host.invalid:7500"),
        "partner.name 440600",
        "partner_name",
    ),
    ("a partner's address where no TLS is spoken", no_tls, "partner.tls 440600", "partner_tls"),
];

/// The log beside the database may hold all of its pages.
fn store_is_rubbish(ground: &mut Ground<'_>) {
    std::fs::write(ground.store().join("store.db"), [7; 8192]).unwrap();
    let _ = std::fs::remove_file(ground.store().join("store.db-wal"));
}

fn store_is_a_file(ground: &mut Ground<'_>) {
    std::fs::remove_dir_all(ground.store()).unwrap();
    std::fs::write(ground.store(), "").unwrap();
}

fn rolled_back(ground: &mut Ground<'_>) {
    // The mark of a log that went further: of the same log with one leaf more.
    let mark = ground.store().join("high-water.note");
    let note = std::fs::read_to_string(&mark).unwrap();
    let mut lines: Vec<String> = note.lines().map(str::to_owned).collect();
    lines[1] = (lines[1].parse::<u64>().unwrap() + 1).to_string();
    std::fs::write(mark, lines.join("\n") + "\n").unwrap();
}

fn grow(path: &Path, bytes: u64) {
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
}

fn no_sealing(ground: &mut Ground<'_>) {
    let key = ground.pki("450200/sealing.key").display().to_string();
    ground.configure(&format!("[sealing]\nkey = {key:?}\n"), "");
}

fn others_certificate(ground: &mut Ground<'_>) {
    ground.copy("440600/gateway.pem", "450200/gateway.pem");
    ground.copy("440600/gateway.key", "450200/gateway.key");
}

fn systems_certificate(ground: &mut Ground<'_>) {
    ground.copy("450200/systems/window.pem", "450200/gateway.pem");
    ground.copy("450200/systems/window.key", "450200/gateway.key");
}

fn directory_changed(ground: &mut Ground<'_>) {
    let path = ground.pki("directory.note");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text.replacen("440600", "440700", 1)).unwrap();
}

fn no_system(ground: &mut Ground<'_>) {
    ground.configure("[[system]]\nname = \"window\"\nitems = [\"*\"]\n", "");
}

fn table_spoilt(ground: &mut Ground<'_>) {
    ground.sql(
        "INSERT INTO route_set VALUES (1, 0, 'x', 'publish', 0); INSERT INTO route_table VALUES ('440600', 1, '{}')",
    );
}

fn no_tls(ground: &mut Ground<'_>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let answering = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        while let Ok((mut stream, _)) = answering.accept() {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    ground.partner_at(&listener.local_addr().unwrap().to_string());
    ground.held.push(listener);
}

/// Two cities; the first has a message for the second, which does not run.
async fn stopped_gateway() -> Alliance {
    let alliance = Alliance::new(&[(LIUZHOU.0, &[LIUZHOU.1]), (FOSHAN.0, &[FOSHAN.1])]);
    let gateway = alliance.start(LIUZHOU.0).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let sent = envelope(LIUZHOU, FOSHAN);
    window.submit(sent.clone()).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Accepted).await;
    gateway.stop().await;
    alliance
}

/// What `tongban check` finds in the alliance's first gateway.
async fn found(ground: &Ground<'_>) -> Vec<Finding> {
    let path = ground.alliance.config_path(LIUZHOU.0);
    match tongban::config::Config::load(&path) {
        Ok(config) => examine(&config, &ground.clock, &Which::default()).await,
        Err(_) => {
            let seen = check(ground.alliance, &["--output", "json"]).1;
            let codes: serde_json::Value = serde_json::from_str(&seen).unwrap();
            assert_eq!(codes[0]["advice"]["code"], "config_faulty", "{seen}");
            assert!(codes[0]["seen"].as_str().unwrap().contains("tongban.toml:"), "it names the line: {seen}");
            let look = tongban::checks::Look::fault(&advice::CONFIG, "");
            vec![Finding { check: "config.file", look }]
        }
    }
}

fn check(alliance: &Alliance, arguments: &[&str]) -> (i32, String) {
    let config = alliance.config_path(LIUZHOU.0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
    let output = command.args(["--lang", "en", "check", "--config"]).arg(config).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// An old leaf is looked at by nobody but whoever walks over the whole log.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_check_walks_over_the_whole_log() {
    let alliance = stopped_gateway().await;
    let deep = ["--deep", "--only", "store", "--output", "short"];
    assert_eq!(check(&alliance, &deep), (0, String::new()));
    let ground = Ground { alliance: &alliance, clock: Clock::default(), held: vec![] };
    ground.sql("UPDATE leaf SET bytes = x'01' WHERE idx = 0");
    let (code, said) = check(&alliance, &deep);
    assert!(code == 1 && said.contains("store.deep") && said.contains("leaf 0 is not what its hash says"), "{said}");
    assert_eq!(check(&alliance, &deep[1..]), (0, String::new()), "without --deep nobody looks there");
}

/// What a gateway serves by was compiled when it came into force; only what came since is compiled in its rounds.
#[tokio::test(flavor = "multi_thread")]
async fn the_rounds_of_a_gateway_do_not_compile_again_what_it_serves_by() {
    let alliance = stopped_gateway().await;
    let mut ground = Ground { alliance: &alliance, clock: Clock::default(), held: vec![] };
    table_spoilt(&mut ground);
    let (config, clock) = (alliance.config(LIUZHOU.0), Clock::default());
    let serving_by = |version| {
        let tables = Tables {
            own: config.member.clone(),
            systems: vec![],
            ways: Ways::from_members([]),
            allow: vec![],
            version,
            tables: vec![],
        };
        examine_own(&config, &clock, Arc::new(Index::compile(&tables).unwrap()))
    };
    let tables =
        |findings: Vec<Finding>| findings.into_iter().find(|found| found.check == "routes.tables").unwrap().look;
    assert_eq!(tables(serving_by(1)).seen.en, "version 1, 0 rows");
    let verdict = tables(serving_by(0)).verdict;
    assert!(matches!(verdict, Verdict::Fault(advice) if advice.code == advice::ROUTES_CLASH.code), "{verdict:?}");
}

/// Everything that is wrong: `check about`, and the code.
fn wrong(findings: &[Finding]) -> Vec<(String, &'static str)> {
    let each = findings.iter().filter_map(|finding| match &finding.look.verdict {
        Verdict::Fault(advice) | Verdict::Warning(advice) => {
            let about = finding.look.about.as_deref().map(|about| format!(" {about}")).unwrap_or_default();
            Some((format!("{}{about}", finding.check), advice.code))
        }
        _ => None,
    });
    each.collect()
}

/// What is wrong with a gateway whose partner and which itself do not run, when nothing is planted.
const ALWAYS: [(&str, &str); 2] = [("gateway.answers", "gateway_silent"), ("partner.tcp 440600", "partner_tcp")];

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_fault_is_named_with_its_way_out() {
    let alliance = stopped_gateway().await;
    // On a slow machine it ran for ten seconds, and has published a checkpoint that nobody could cosign.
    Ground { alliance: &alliance, clock: Clock::default(), held: vec![] }.sql("DELETE FROM published");
    let pristine = alliance.folder.with_extension("pristine");
    copy_all(&alliance.folder, &pristine);
    let mut half_english = vec![];
    for (what, plant, expected, code) in ROWS {
        std::fs::remove_dir_all(&alliance.folder).unwrap();
        copy_all(&pristine, &alliance.folder);
        let mut ground = Ground { alliance: &alliance, clock: Clock::default(), held: vec![] };
        plant(&mut ground);
        let found = found(&ground).await;
        let english = found.iter().filter_map(|Finding { check, look }| {
            english_in(&look.seen.zh).map(|line| format!("{what}: {check} saw {line:?}"))
        });
        half_english.extend(english);
        let wrong = wrong(&found);
        assert!(wrong.contains(&((*expected).to_owned(), *code)), "{what}: {wrong:?}");
        // What rests on the broken thing is skipped, so that the list stays short.
        assert!(wrong.len() <= 5, "{what}: {wrong:?}");
    }
    std::fs::remove_dir_all(&alliance.folder).unwrap();
    copy_all(&pristine, &alliance.folder);
    std::fs::remove_dir_all(pristine).unwrap();
    let sound = Ground { alliance: &alliance, clock: Clock::default(), held: vec![] };
    assert_eq!(wrong(&found(&sound).await), ALWAYS.map(|(check, code)| (check.to_owned(), code)));
    assert!(half_english.is_empty(), "in Chinese:\n{}", half_english.join("\n"));
    println!("{} faults planted, each named", ROWS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_run_have_no_fault() {
    let alliance = Alliance::new(&[(LIUZHOU.0, &[LIUZHOU.1]), (FOSHAN.0, &[FOSHAN.1])]);
    let _gateways = [alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await];
    let findings = examine(&alliance.config(LIUZHOU.0), &Clock::default(), &Which::default()).await;
    assert_eq!(wrong(&findings), []);
    let stages = findings.iter().filter(|finding| finding.check.starts_with("partner.")).count();
    assert_eq!(stages, 8, "{findings:?}");
    let clock = findings.iter().find(|finding| finding.check == "partner.clock").unwrap();
    assert!(clock.look.seen.en.ends_with(" ms apart"), "{clock:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_whose_clock_is_wrong_is_named() {
    let alliance = Alliance::new(&[(LIUZHOU.0, &[LIUZHOU.1]), (FOSHAN.0, &[FOSHAN.1])]);
    let ahead = Clock::default();
    ahead.advance(300_000);
    let _gateways = [alliance.start(LIUZHOU.0).await, alliance.start_by(&alliance.config(FOSHAN.0), ahead).await];
    let findings = examine(&alliance.config(LIUZHOU.0), &Clock::default(), &Which::default()).await;
    assert_eq!(wrong(&findings), [("partner.clock 440600".to_owned(), "partner_clock")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_is_warned_of_in_steps() {
    let alliance = stopped_gateway().await;
    let config = alliance.config(LIUZHOU.0);
    let expiry = |days_on: u64| {
        let clock = Clock::default();
        clock.advance(days_on * DAY_MS);
        let findings = examine_self(&config, &clock);
        findings.into_iter().find(|finding| finding.check == "tls.expiry").unwrap().look
    };
    let whole: u64 = expiry(0).seen.en.split_once(' ').unwrap().0.parse().unwrap();
    for (left, code, within) in [
        (61, None, 0),
        (60, Some("certificate_ends"), 60),
        (31, Some("certificate_ends"), 60),
        (30, Some("certificate_ends"), 30),
        (15, Some("certificate_ends"), 30),
        (14, Some("certificate_ends_soon"), 14),
        (8, Some("certificate_ends_soon"), 14),
        (7, Some("certificate_ends_soon"), 7),
        (2, Some("certificate_ends_soon"), 7),
        (1, Some("certificate_ends_soon"), 1),
        (0, Some("certificate_ends_soon"), 1),
    ] {
        let look = expiry(whole - left);
        let found = match look.verdict {
            Verdict::Warning(advice) => Some(advice.code),
            Verdict::Good => None,
            other => panic!("{left}: {other:?}"),
        };
        assert_eq!(found, code, "{left} days left");
        assert!(look.seen.en.starts_with(&format!("{left} days left")), "{:?}", look.seen);
        assert_eq!(look.seen.en.contains(&format!("in the last {within},")), within > 0, "{:?}", look.seen);
        assert_eq!(look.seen.zh.contains(&format!("最后 {within} 天")), within > 0, "{:?}", look.seen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_says_the_same() {
    let alliance = stopped_gateway().await;
    let (code, text) = check(&alliance, &[]);
    assert_eq!(code, 1);
    assert!(text.contains("to do: start it: `tongban serve`"), "{text}");
    let (_, short) = check(&alliance, &["--output", "short"]);
    assert_eq!(short.lines().count(), 2, "{short}");
    let (_, json) = check(&alliance, &["--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let count = |verdict: &str| json.as_array().unwrap().iter().filter(|one| one["verdict"] == verdict).count();
    assert_eq!((count("fault"), count("warning"), count("skipped")), (2, 0, 6));
    let (_, junit) = check(&alliance, &["--output", "junit"]);
    assert_eq!((junit.matches("<failure ").count(), junit.matches("<skipped ").count()), (2, 6), "{junit}");
    let (code, nagios) = check(&alliance, &["--output", "nagios"]);
    assert_eq!((code, nagios.starts_with("TONGBAN CRITICAL - 2 faults, 0 warnings")), (2, true), "{nagios}");
    let (_, prom) = check(&alliance, &["--output", "prom"]);
    assert_eq!(prom.lines().filter(|line| line.ends_with("} 1")).count(), 2, "{prom}");
    let (code, only) = check(&alliance, &["--only", "tls", "--output", "short"]);
    assert_eq!((code, only.as_str()), (0, ""), "nothing is wrong with its certificates");
    let (code, _) = check(&alliance, &["--only", "nothing"]);
    assert_eq!(code, 64);
}

fn copy_all(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
