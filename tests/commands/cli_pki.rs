//! Decides whether the command line makes a development alliance that holds, and ends with the exit codes it promises.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tongban::config::Config;
use tongban::seal::OpeningKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

fn fresh(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cli_pki").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn tongban(dir: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
    command.args(line.split(' ')).current_dir(dir).env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", "C");
    command.output().unwrap()
}

/// Runs a command that must end with `code`; returns stdout and stderr.
fn ends(dir: &Path, code: i32, line: &str) -> (String, String) {
    let output = tongban(dir, line);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{line}\n{out}{err}");
    (out, err)
}

fn json(dir: &Path, line: &str) -> serde_json::Value {
    serde_json::from_str(&ends(dir, 0, &format!("{line} --json")).0).unwrap()
}

/// An alliance with a city that is dialled and one that pulls.
fn alliance(name: &str) -> PathBuf {
    let dir = fresh(name);
    ends(&dir, 0, "pki new --dir dev");
    let liuzhou =
        "--name-zh 柳州 --name-en Liuzhou --endpoint gw.liuzhou.example:7501 --system approval --system one-window";
    ends(&dir, 0, &format!("pki add-city 450200 --dir dev {liuzhou}"));
    ends(&dir, 0, "pki add-city 440300 --dir dev --name-zh 深圳 --name-en Shenzhen --pulls");
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_new_alliance_with_two_cities_holds() {
    let dir = alliance("holds");
    let (out, err) = ends(&dir, 0, "directory verify dev/directory.note --key dev/alliance.vkey");
    assert!(out.contains("version 3, 2 member(s)") && err.is_empty(), "{out}{err}");
    let shown = json(&dir, "directory show dev/directory.note");
    assert_eq!(shown["members"][0]["member"], "440300");
    assert_eq!(shown["members"][0]["pulls"], true);
    assert_eq!(shown["members"][1]["name_zh"], "柳州");
    assert_eq!(shown["members"][1]["endpoints"][0], "gw.liuzhou.example:7501");
    let log = shown["members"][1]["log_keys"][0].as_str().unwrap();
    assert!(log.starts_with("450200.gateway.alliance.example/log/a/1+"), "{log}");
    let table = ends(&dir, 0, "directory show dev/directory.note").0;
    assert!(table.contains("柳州 Liuzhou") && table.contains("pulls"), "{table}");
}

#[test]
fn every_key_is_its_owners_alone_and_nothing_unfinished_stays() {
    let dir = alliance("modes");
    let files = files(&dir.join("dev"));
    for path in &files {
        let mode = fs::metadata(path).unwrap().mode() & 0o7777;
        let secret = path.extension().is_some_and(|extension| extension == "key");
        assert_eq!(mode & if secret { 0o7177 } else { 0o7133 }, 0, "{}", path.display());
        assert!(!path.to_string_lossy().contains(".new"), "{}", path.display());
    }
    let keys = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "key")).count();
    assert_eq!(keys, 1 + 5 + 5 + 2, "alliance, five of each city, two systems");
    assert_eq!(fs::read_to_string(dir.join("dev/.gitignore")).unwrap(), "*\n");
}

#[test]
fn a_hub_is_a_member_with_a_name_of_its_own_and_nothing_to_open() {
    let dir = alliance("hub");
    let words = "--dir dev --name-zh 联盟枢纽 --name-en Hub --endpoint hub.alliance.example:7500";
    ends(&dir, 0, &format!("pki add-hub main {words} --ops li.wei"));
    ends(&dir, 0, "directory verify dev/directory.note --key dev/alliance.vkey");
    let shown = json(&dir, "directory show dev/directory.note");
    let hub = &shown["members"][2];
    assert_eq!((&hub["member"], &hub["pulls"]), (&"hub/main".into(), &false.into()));
    assert_eq!((&hub["sealing_key"], &hub["relays"]), (&serde_json::Value::Null, &serde_json::json!([])));
    assert!(hub["log_keys"][0].as_str().unwrap().starts_with("hub-main.gateway.alliance.example/log/a/1+"), "{hub}");
    for (file, uri) in [
        ("gateway.pem", "spiffe://alliance.example/hub/main"),
        ("ops/li.wei.pem", "spiffe://alliance.example/hub/main/ops/li.wei"),
    ] {
        let chain = tongban::keys::read_certificates(&dir.join("dev/hub-main").join(file)).unwrap();
        let leaf = X509Certificate::from_der(&chain[0]).unwrap().1;
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert!(names.contains(&GeneralName::URI(uri)), "{file}: {names:?}");
    }
    assert!(dir.join("dev/hub-main/crl.pem").exists() && !dir.join("dev/hub-main/sealing.key").exists());
    ends(&dir, 0, "pki add-auditor hub/main wang --dir dev");
    assert_eq!(json(&dir, "pki revoke hub/main auditor/wang --dir dev")["revoked"], 1);
    assert_eq!(json(&dir, "pki renew-crl hub/main --dir dev")["crl_number"], 3);
    ends(&dir, 73, &format!("pki add-hub main {words}"));
    ends(&dir, 64, "pki add-hub other --dir dev --name-zh a --name-en a");
    ends(&dir, 64, "pki add-system hub/main x --dir dev");
    let (_, err) = ends(&dir, 66, "pki add-ops hub/other x --dir dev");
    assert!(err.contains("tongban pki add-hub other"), "{err}");
}

#[test]
fn a_citys_record_names_its_relays_and_its_sealing_key() {
    let dir = alliance("relays");
    let city = "--dir dev --name-zh 佛山 --name-en Foshan --endpoint gw:1 --ops li.wei";
    ends(&dir, 0, &format!("pki add-city 440600 {city} --relay hub/main --relay hub/spare --unsealed-relay"));
    let shown = json(&dir, "directory show dev/directory.note");
    let (plain, relayed) = (&shown["members"][0], &shown["members"][1]);
    assert_eq!(relayed["relays"], serde_json::json!(["hub/main", "hub/spare"]));
    assert_eq!((&relayed["unsealed_relay"], &plain["unsealed_relay"]), (&true.into(), &false.into()));
    assert!(dir.join("dev/440600/ops/li.wei.pem").exists());
    for member in [plain, relayed] {
        let folder = dir.join("dev").join(member["member"].as_str().unwrap());
        let key = OpeningKey::read(&folder.join("sealing.key")).unwrap();
        assert_eq!(member["sealing_key"], key.public().to_string());
        assert_eq!(fs::read_to_string(folder.join("sealing.pub")).unwrap(), format!("{}\n", key.public()));
        let signing = OpeningKey::read(&folder.join("log.key")).err().unwrap().to_string();
        assert!(signing.ends_with("not a tongban-hpke-seed file"), "{signing}");
    }
    assert_ne!(plain["sealing_key"], relayed["sealing_key"]);
    let note = fs::read_to_string(dir.join("dev/450200/record.note")).unwrap();
    assert!(!note.contains("unsealed_relay"), "what is not said is not written, as in records of before: {note}");
}

#[test]
fn a_sealing_key_made_where_it_is_used_reaches_the_record() {
    let dir = alliance("sealing-key");
    let made = json(&dir, "directory sealing-key --out own.key");
    let public = made["sealing_key"].as_str().unwrap();
    assert_eq!(OpeningKey::read(&dir.join("own.key")).unwrap().public().to_string(), public);
    ends(&dir, 73, "directory sealing-key --out own.key");
    fs::write(dir.join("own.pub"), format!("{public}\n")).unwrap();
    let record = "directory record --alliance alliance.example --member 450200 --name-zh 柳州 --name-en Liuzhou --pulls \
        --roots dev/450200/ca.pem --member-key dev/450200/member.key --version 2 --out new.note";
    for given in [public, "own.pub"] {
        ends(&dir, 0, &format!("{record} --sealing-key {given} --unsealed-relay"));
        let note = fs::read_to_string(dir.join("new.note")).unwrap();
        assert!(note.contains(&format!(r#""sealing_key":"{public}","unsealed_relay":true"#)), "{note}");
    }
    let (_, err) = ends(&dir, 65, &format!("{record} --sealing-key x25519:AAAA"));
    assert!(err.contains("not written as hpke-x25519:"), "{err}");
}

#[test]
fn a_new_gateways_configuration_says_whose_it_is_and_with_what_it_opens() {
    let dir = alliance("init");
    ends(&dir, 0, "pki add-hub main --dir dev --name-zh 枢纽 --name-en Hub --endpoint 127.0.0.1:7500");
    ends(&dir, 0, "init --pki dev/450200 --data run/450200 --listen 127.0.0.1:7501");
    ends(&dir, 0, "init --pki dev/hub-main --data run/hub");
    let config = |at: &str| Config::load(&dir.join("run").join(at).join("tongban.toml")).unwrap();
    let (city, hub) = (config("450200"), config("hub"));
    assert_eq!((city.member.to_string().as_str(), city.systems.len()), ("450200", 2));
    OpeningKey::read(&city.sealing_key.unwrap()).unwrap();
    assert_eq!((hub.member.to_string().as_str(), hub.systems.len()), ("hub/main", 0));
    assert_eq!((hub.sealing_key, hub.listen.port()), (None, 7500));
    assert_eq!((city.follow, hub.follow), (None, None));
    let relayed =
        "--dir dev --name-zh 佛山 --name-en Foshan --endpoint 127.0.0.1:7502 --relay hub/none --relay hub/main";
    ends(&dir, 0, &format!("pki add-city 440600 {relayed}"));
    ends(&dir, 0, "init --pki dev/440600 --data run/440600");
    assert_eq!(config("440600").follow, Some("hub/main".parse().unwrap()), "the relay that is a member");
    assert!(hub.crls.of(&hub.member).exists() && hub.crls.of(&city.member).exists());
    fs::rename(dir.join("dev/hub-main"), dir.join("dev/main")).unwrap();
    ends(&dir, 64, "init --pki dev/main --data run/other");
}

#[test]
fn certificates_carry_one_uri_name_and_their_purposes() {
    let dir = alliance("names");
    ends(&dir, 0, "pki add-ops 450200 li.wei --dir dev");
    for (file, uri, server, hosts) in [
        ("gateway.pem", "spiffe://alliance.example/city/450200/gateway", true, 4),
        ("systems/approval.pem", "spiffe://alliance.example/city/450200/system/approval", false, 0),
        ("ops/li.wei.pem", "spiffe://alliance.example/city/450200/ops/li.wei", false, 0),
    ] {
        let chain = tongban::keys::read_certificates(&dir.join("dev/450200").join(file)).unwrap();
        assert_eq!(chain.len(), 2, "{file}: certificate and authority");
        let leaf = X509Certificate::from_der(&chain[0]).unwrap().1;
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        let uris: Vec<_> = names.iter().filter(|name| matches!(name, GeneralName::URI(_))).collect();
        assert_eq!((uris, names.len()), (vec![&GeneralName::URI(uri)], 1 + hosts), "{file}");
        let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((purposes.client_auth, purposes.server_auth, purposes.any), (true, server, false), "{file}");
        let usage = leaf.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.flags.count_ones() == 1, "{file}");
        let seconds = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
        assert_eq!(seconds, 397 * 86_400, "{file}");
        assert!(!leaf.is_ca() && leaf.raw_serial().len() == 16, "{file}");
        tongban::keys::read_private_key(&dir.join("dev/450200").join(file).with_extension("key")).unwrap();
    }
}

#[test]
fn openssl_verifies_the_chains_and_sees_the_revocation() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not on PATH");
        return;
    }
    let dir = alliance("openssl");
    ends(&dir, 0, "pki revoke 450200 system/approval --dir dev");
    let verify = |leaf: &str| {
        let line = format!("verify -x509_strict -crl_check -CRLfile crl.pem -CAfile ca.pem {leaf}");
        let output =
            Command::new("openssl").args(line.split(' ')).current_dir(dir.join("dev/450200")).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for (leaf, stands) in [("gateway.pem", true), ("systems/one-window.pem", true), ("systems/approval.pem", false)] {
        let (verified, words) = verify(leaf);
        assert_eq!(verified, stands, "{leaf}: {words}");
        assert!(stands || words.contains("certificate revoked"), "{words}");
    }
    let mut other = Command::new("openssl");
    other.args(["verify", "-CAfile", "../440300/ca.pem", "gateway.pem"]);
    assert!(!other.current_dir(dir.join("dev/450200")).output().unwrap().status.success());
}

#[test]
fn revoking_names_its_party_and_twice_is_no_fault() {
    let dir = alliance("revoke");
    let crl = || {
        let lists = tongban::keys::read_crls(&dir.join("dev/450200/crl.pem")).unwrap();
        let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&lists[0]).unwrap();
        (list.crl_number().unwrap().to_string(), list.iter_revoked_certificates().count())
    };
    assert_eq!(crl(), ("1".to_owned(), 0));
    assert_eq!(json(&dir, "pki revoke 450200 system/approval --dir dev")["revoked"], 1);
    assert_eq!(crl(), ("2".to_owned(), 1));
    assert_eq!(json(&dir, "pki revoke 450200 system/approval --dir dev")["revoked"], 0);
    assert_eq!(crl(), ("2".to_owned(), 1));
    assert_eq!(json(&dir, "pki revoke 450200 gateway --dir dev")["revoked"], 1);
    assert_eq!(crl(), ("3".to_owned(), 2));
    assert_eq!(json(&dir, "pki renew-crl 450200 --dir dev")["crl_number"], 4);
    assert_eq!(crl(), ("4".to_owned(), 2));
    let (_, err) = ends(&dir, 65, "pki revoke 450200 system/nobody --dir dev");
    assert!(err.contains("system/nobody") && err.contains("\nhint: "), "{err}");
}

#[test]
fn commands_end_with_the_exit_codes_they_promise() {
    let dir = alliance("codes");
    ends(&dir, 0, "--help");
    ends(&dir, 0, "--version");
    ends(&dir, 0, "version");
    ends(&dir, 64, "nonsense");
    ends(&dir, 64, "pki add-city 4502 --dir dev --name-zh a --name-en a --pulls");
    ends(&dir, 64, "pki add-city 450300 --dir dev --name-zh a --name-en a");
    ends(&dir, 64, "pki add-city 450300 --dir dev --name-zh a --name-en a --pulls --endpoint a:1");
    ends(&dir, 66, "directory verify none.note --key dev/alliance.vkey");
    ends(&dir, 66, "pki add-system 450300 x --dir dev");
    let (_, err) = ends(&dir, 66, "pki add-city 450300 --dir none --name-zh a --name-en a --pulls");
    assert!(
        err.contains("none/alliance.vkey") && err.contains("hint: begin with: tongban pki new --dir none"),
        "{err}"
    );
    ends(&dir, 73, "pki new --dir dev");
    ends(&dir, 73, "pki add-city 450200 --dir dev --name-zh a --name-en a --pulls");
    ends(&dir, 73, "pki add-system 450200 approval --dir dev");
    fs::set_permissions(dir.join("dev/alliance.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let (_, err) = ends(&dir, 77, "pki add-city 450300 --dir dev --name-zh a --name-en a --pulls");
    assert!(err.contains("hint: chmod 600 dev/alliance.key"), "{err}");
    fs::set_permissions(dir.join("dev/alliance.key"), fs::Permissions::from_mode(0o600)).unwrap();
    ends(&dir, 0, "directory verify dev/directory.note");
}

#[test]
fn verify_says_no_and_names_what_fails() {
    let dir = alliance("no");
    ends(&dir, 0, "pki new --dir other");
    let (out, _) = ends(&dir, 1, "directory verify dev/directory.note --key other/alliance.vkey");
    assert!(out.contains("no known key signed"), "{out}");
    let note = fs::read_to_string(dir.join("dev/directory.note")).unwrap();
    fs::write(dir.join("dev/directory.note"), note.replacen("\"version\":3", "\"version\":4", 1)).unwrap();
    let (out, _) = ends(&dir, 1, "directory verify dev/directory.note");
    assert!(out.contains("the signature of directory.alliance.example"), "{out}");
    let answer = tongban(&dir, "directory verify dev/directory.note --json");
    assert_eq!(answer.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["holds"], false);
    ends(&dir, 65, "directory show dev/directory.note");
}

#[test]
fn a_record_made_offline_reaches_the_directory() {
    let dir = alliance("offline");
    let record =
        "--alliance alliance.example --member 450200 --name-zh 柳州 --name-en Liuzhou --roots dev/450200/ca.pem";
    let keys = "--member-key dev/450200/member.key --log-key dev/450200/log.vkey";
    ends(&dir, 0, &format!("directory record {record} {keys} --version 2 --endpoint 192.0.2.1:443 --out new.note"));
    let add = "directory add dev/directory.note new.note --member-key dev/450200/member.vkey";
    ends(&dir, 64, add);
    ends(&dir, 0, &format!("{add} --draft draft.json"));
    ends(&dir, 0, "directory sign draft.json --key dev/alliance.key --out signed.note");
    ends(&dir, 0, "directory verify signed.note --key dev/alliance.vkey");
    let shown = json(&dir, "directory show signed.note --key dev/alliance.vkey");
    assert_eq!((&shown["version"], &shown["members"][1]["version"]), (&4.into(), &2.into()));
    ends(&dir, 0, &format!("{add} --key dev/alliance.key"));
    // The same record once more is no news, but a newer list; an older one is refused.
    ends(&dir, 0, &format!("{add} --key dev/alliance.key"));
    let (_, err) = ends(
        &dir,
        65,
        &add.replace("new.note", "dev/450200/record.note").replace("add dev", "add --key dev/alliance.key dev"),
    );
    assert!(err.contains("record version 1 is older than version 2"), "{err}");
}

#[test]
fn a_directory_signed_with_the_wrong_key_is_not_written() {
    let dir = alliance("wrong-key");
    let before = fs::read(dir.join("dev/directory.note")).unwrap();
    let add = "directory add dev/directory.note dev/450200/record.note --member-key dev/450200/member.vkey";
    let (_, err) = ends(&dir, 65, &format!("{add} --key dev/450200/member.key"));
    assert!(err.contains("not the alliance's key"), "{err}");
    assert_eq!(fs::read(dir.join("dev/directory.note")).unwrap(), before);
}

#[test]
fn a_changed_member_key_is_refused_with_both_fingerprints() {
    let dir = alliance("changed");
    ends(&dir, 0, "pki new --dir other");
    ends(&dir, 0, "pki add-city 450200 --dir other --name-zh 柳州 --name-en Liuzhou --pulls");
    let add = "directory add dev/directory.note other/450200/record.note --member-key other/450200/member.vkey";
    let (_, err) = ends(&dir, 65, &format!("{add} --key dev/alliance.key"));
    assert!(err.contains("has another key") && err.contains("fingerprints"), "{err}");
    let (_, err) = ends(&dir, 65, &format!("{add} --key dev/alliance.key --lang zh"));
    assert!(err.starts_with("错误：成员 450200 的密钥已变"), "{err}");
}

#[test]
fn a_city_left_half_made_is_made_anew() {
    let dir = alliance("half");
    fs::create_dir_all(dir.join("dev/.450300.new")).unwrap();
    fs::write(dir.join("dev/.450300.new/ca.key"), "half").unwrap();
    ends(&dir, 0, "pki add-city 450300 --dir dev --name-zh 桂林 --name-en Guilin --pulls");
    assert!(!dir.join("dev/.450300.new").exists());
}

#[test]
fn cities_added_at_once_are_all_listed() {
    let dir = fresh("at-once");
    ends(&dir, 0, "pki new --dir dev");
    std::thread::scope(|scope| {
        for city in ["450300", "450400", "450500", "450600"] {
            let dir = &dir;
            scope.spawn(move || {
                ends(dir, 0, &format!("pki add-city {city} --dir dev --name-zh 市 --name-en City --pulls"))
            });
        }
    });
    let shown = json(&dir, "directory show dev/directory.note");
    assert_eq!((&shown["version"], shown["members"].as_array().unwrap().len()), (&5.into(), 4));
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_fault() {
    let dir = alliance("pipe");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
    command.args(["directory", "show", "dev/directory.note"]).current_dir(&dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn a_no_stays_a_no_when_nobody_reads_it() {
    let dir = alliance("no-pipe");
    fs::write(dir.join("dev/directory.note"), "x").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
    command.args(["directory", "verify", "dev/directory.note"]).current_dir(&dir);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_new_alliance_leaves_an_ignore_file_that_was_there() {
    let dir = fresh("ignore");
    fs::write(dir.join(".gitignore"), "target\n").unwrap();
    ends(&dir, 0, "pki new --dir .");
    assert_eq!(fs::read_to_string(dir.join(".gitignore")).unwrap(), "target\n");
}

#[test]
fn words_follow_the_language_and_data_does_not() {
    let dir = alliance("language");
    let (out, _) = ends(&dir, 0, "--lang zh directory verify dev/directory.note");
    assert!(out.contains("有效：第 3 版，2 个成员"), "{out}");
    let zh = ends(&dir, 0, "--lang zh --json directory show dev/directory.note").0;
    assert_eq!(zh, ends(&dir, 0, "--json directory show dev/directory.note").0);
}
