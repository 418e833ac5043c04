//! A gateway is backed up at work, lost, and restored on an empty place: what was answered before the backup is there and
//! proved, what was under way arrives once, and the log goes on under a new name that closes the old one. A backup that is
//! not what it was makes nothing.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::alliance::{Alliance, Client, Gateway, PATIENCE, check, envelope, free_address};
use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tongban::config::Config;
use tongban::directory::Generation;
use tongban::party::Member;
use tongban::receipt::{Checker, LogKey};
use tongban::store::{Fork, Sightings};
use tongban::succession::Succession;
use tongban::tlog::Hash;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::note::VerifyingKey;
use tongban::tlog::receipt_file::verify;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
const WRITERS: usize = 4;
/// What no index of a backup may show.
const PERSONAL: [&str; 3] = ["CASE-7731", "11440100007482575H3440118009000", "form.json"];

/// Two cities that follow a hub.
fn world() -> Alliance {
    let alliance = Alliance::new(&[(LIUZHOU.0, &["window", "archive"]), (FOSHAN.0, &["approval"])]);
    let (pki, hub) = (alliance.pki(), free_address());
    alliance.run(
        &["pki", "add-hub", "main"],
        &["--dir", &pki, "--name-zh", "枢纽", "--name-en", "Hub", "--endpoint", &hub],
    );
    alliance.init("hub-main");
    for city in [LIUZHOU.0, FOSHAN.0] {
        let path = alliance.config_path(city);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("[directory]\n", "[directory]\nfollow = \"hub/main\"\n", 1)).unwrap();
    }
    alliance
}

fn path(alliance: &Alliance, name: &str) -> String {
    alliance.folder.join(name).display().to_string()
}

fn back_up(alliance: &Alliance, config: &Path, to: &str) -> Value {
    let to = path(alliance, to);
    let shown = alliance.run(&["--json", "backup"], &["--config", &config.display().to_string(), "--to", &to]);
    serde_json::from_str(&shown).unwrap()
}

fn restore(alliance: &Alliance, from: &str, to: &str, more: &[&str]) -> Value {
    let (from, to) = (path(alliance, from), path(alliance, to));
    let arguments = [&[from.as_str(), "--to", &to], more].concat();
    serde_json::from_str(&alliance.run(&["--json", "restore"], &arguments)).unwrap()
}

fn member_key(alliance: &Alliance, city: &str) -> String {
    path(alliance, &format!("pki/{city}/member.key"))
}

/// A checker that trusts the alliance's directory and the logs of a trust file.
fn checker(alliance: &Alliance, trust: &Path) -> Checker {
    let mut logs = tongban::intake::log_keys(&alliance.directory());
    let member: Member = LIUZHOU.0.parse().unwrap();
    for line in std::fs::read_to_string(trust).unwrap().lines() {
        let key = VerifyingKey::parse(line).unwrap();
        if logs.iter().all(|log| log.key != key) {
            logs.push(LogKey { member: member.clone(), key });
        }
    }
    Checker::new(logs)
}

/// Who was answered what, in the order of the answers of each case.
type Book = Arc<Mutex<Vec<(pb::Envelope, pbe::Receipt)>>>;

/// Submits one message of a case after the other until it is told to stop or the gateway is gone.
async fn write(window: Client, case: String, stop: Arc<AtomicBool>, book: Book) {
    while !stop.load(Ordering::Relaxed) {
        let sent = pb::Envelope { case_no: case.clone(), ..envelope(LIUZHOU, FOSHAN) };
        let Ok(receipt) = window.submit(sent.clone()).await else { return };
        book.lock().unwrap().push((sent, receipt));
    }
}

/// Acknowledges everything and writes down what came.
async fn read(approval: Client, came: Arc<Mutex<Vec<pb::Envelope>>>) {
    let mut mailbox = approval.receive(16).await;
    while let Ok(step) = mailbox.down.message().await {
        let Some(pb::receive_response::Response::Delivery(mut delivery)) = step.and_then(|step| step.response) else {
            continue;
        };
        let Some(pb::delivery::Content::Message(message)) = delivery.content.take() else { continue };
        came.lock().unwrap().push(message.envelope.unwrap());
        mailbox.acknowledge(&delivery.delivery_id).await;
        mailbox.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
    }
}

async fn until(what: &str, mut state: impl FnMut() -> bool) {
    let reached = async {
        while !state() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "not reached: {what}");
}

async fn start_restored(alliance: &Alliance, folder: &str) -> Gateway {
    let config = Config::load(&alliance.folder.join(folder).join("tongban.toml")).unwrap();
    alliance.start_with(&config).await
}

/// The receipts of a message at its origin hold, hang together, and `first` is among them.
async fn proved(window: &Client, id: &str, first: &pbe::Receipt, checker: &mut Checker) -> Vec<String> {
    let receipts = window.evidence("", id).await;
    assert!(receipts.contains(first), "{id}: the receipt that was answered is there, byte for byte");
    let checked: Vec<_> = receipts.into_iter().map(|receipt| check(checker, receipt)).collect();
    let hashes: HashSet<_> = checked.iter().map(|one| one.receipt.leaf_hash().0).collect();
    for one in checked.iter().filter_map(|one| one.evidence.previous) {
        assert!(hashes.contains(&one.0), "{id}: a receipt hangs in the air");
    }
    checked.into_iter().map(|one| one.log_origin).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_restored_from_a_backup_under_load_proves_all_from_before_and_goes_on_in_a_new_log() {
    let alliance = world();
    let hub = alliance.start("hub-main").await;
    let (liuzhou, foshan) = (alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await);
    let came = Arc::new(Mutex::new(vec![]));
    let reader = tokio::spawn(read(alliance.client(FOSHAN.0, FOSHAN.1), came.clone()));
    let (stop, book) = (Arc::new(AtomicBool::new(false)), Book::default());
    let writers = (0..WRITERS).map(|case| {
        let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
        tokio::spawn(write(window, format!("CASE-{case}"), stop.clone(), book.clone()))
    });
    let writers: Vec<_> = writers.collect();
    let answered = || book.lock().unwrap().len();
    until("answers before the backup", || answered() >= 60).await;

    let before = book.lock().unwrap().clone();
    let taken = back_up(&alliance, &alliance.config_path(LIUZHOU.0), "backup");
    let after = answered();
    assert!(after > before.len(), "messages flowed while the backup was taken");
    until("answers after the backup", || answered() >= after + 20).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    liuzhou.stop().await;
    // The machine is gone: nothing of it but the backup is left.
    std::fs::remove_dir_all(alliance.folder.join(LIUZHOU.0)).unwrap();

    let done = restore(&alliance, "backup", "anew", &["--member-key", &member_key(&alliance, LIUZHOU.0)]);
    let (old, new) = (done["closed"]["origin"].as_str().unwrap(), done["log"].as_str().unwrap());
    assert!(old.ends_with("/log/a/1") && new.ends_with("/log/a/2"), "{done}");
    assert_eq!((&done["closed"], &done["statement"]), (&taken["log"], &Value::from(2)));
    closes(&alliance, &alliance.folder.join("anew/succession"), &done);

    let anew = start_restored(&alliance, "anew").await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let mut checker = checker(&alliance, &alliance.folder.join("anew/succession/trust"));
    let mut logs = HashSet::new();
    for (sent, receipt) in &before {
        window.until("", &sent.message_id, pbe::State::Confirmed).await;
        logs.extend(proved(&window, &sent.message_id, receipt, &mut checker).await);
    }
    assert!(logs.contains(old), "{logs:?}");

    // What was accepted after the backup is lost here; its sender submits it again, and it has its effect once.
    let whole = book.lock().unwrap().clone();
    for (sent, _) in &whole[before.len()..] {
        window.submit(sent.clone()).await.unwrap();
    }
    for (sent, _) in &whole[before.len()..] {
        window.until("", &sent.message_id, pbe::State::Confirmed).await;
    }

    let sent = pb::Envelope { case_no: "CASE-0".to_owned(), ..envelope(LIUZHOU, FOSHAN) };
    let receipt = window.submit(sent.clone()).await.unwrap();
    assert_eq!(check(&mut checker, receipt.clone()).log_origin, new);
    window.until("", &sent.message_id, pbe::State::Confirmed).await;
    let logs = proved(&window, &sent.message_id, &receipt, &mut checker).await;
    assert!(logs.iter().any(|log| log == new) && !logs.iter().any(|log| log == old), "{logs:?}");

    let came = came.lock().unwrap().clone();
    let ids: Vec<&String> = came.iter().map(|envelope| &envelope.message_id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "each message came once");
    assert!(before.iter().all(|(sent, _)| ids.contains(&&sent.message_id)));
    in_order(&came, &book.lock().unwrap());
    reader.abort();
    for gateway in [anew, foshan, hub] {
        gateway.stop().await;
    }
}

/// What came of each case came in the order in which it was sent.
fn in_order(came: &[pb::Envelope], sent: &[(pb::Envelope, pbe::Receipt)]) {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for envelope in came {
        let place = sent.iter().position(|(sent, _)| sent.message_id == envelope.message_id);
        places.entry(&envelope.case_no).or_default().extend(place);
    }
    assert_eq!(places.len(), WRITERS);
    assert!(places.values().all(|places| places.is_sorted()), "{places:?}");
}

/// The new log's first leaf closes the old one at what the member's statement shows too.
fn closes(alliance: &Alliance, told: &Path, done: &Value) {
    let read = |name: &str| std::fs::read(told.join(name)).unwrap();
    let trust = String::from_utf8(read("trust")).unwrap();
    let keys: Vec<VerifyingKey> = trust.lines().map(|line| VerifyingKey::parse(line).unwrap()).collect();
    let (old, new) = (&keys[0], &keys[1]);
    let leaf = read("closing.leaf");
    let verified = verify(&read("closing.tlog-proof"), &leaf, std::slice::from_ref(new)).unwrap();
    assert_eq!((verified.origin.as_str(), verified.index, verified.size), (new.name(), 0, 1));
    let closing = Succession::from_leaf(&leaf).unwrap();
    assert_eq!((closing.key_id, closing.issuer.to_string()), (new.id(), LIUZHOU.0.to_owned()));
    let closed = &done["closed"];
    assert_eq!(closing.closed.origin, closed["origin"]);
    assert_eq!(closing.closed.size, closed["size"].as_u64().unwrap());
    let directory = alliance.directory();
    let member_key = &directory.entry(&LIUZHOU.0.parse().unwrap()).unwrap().member_key;
    let note = String::from_utf8(read("generation.note")).unwrap();
    let statement = Generation::open(&note, member_key).unwrap();
    assert_eq!(statement.log_key, *new);
    let last = Checkpoint::open(&statement.last_checkpoint.unwrap(), std::slice::from_ref(old)).unwrap();
    assert_eq!((last.size, <[u8; 32]>::from(last.root)), (closing.closed.size, closing.closed.root.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_a_partner_told_after_the_backup_is_told_again_after_the_restore() {
    let alliance = world();
    let hub = alliance.start("hub-main").await;
    let (liuzhou, foshan) = (alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await);
    let (window, approval) = (alliance.client(LIUZHOU.0, LIUZHOU.1), alliance.client(FOSHAN.0, FOSHAN.1));
    let sent = envelope(LIUZHOU, FOSHAN);
    let receipt = window.submit(sent.clone()).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Consigned).await;
    back_up(&alliance, &alliance.config_path(LIUZHOU.0), "backup");
    let mut mailbox = approval.receive(2).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    window.until("", &sent.message_id, pbe::State::Confirmed).await;
    liuzhou.stop().await;

    let done = restore(&alliance, "backup", "anew", &["--member-key", &member_key(&alliance, LIUZHOU.0)]);
    assert_eq!(done["waiting"], 0, "in the backup nothing waited");
    let anew = start_restored(&alliance, "anew").await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    window.until("", &sent.message_id, pbe::State::Confirmed).await;
    let mut checker = checker(&alliance, &alliance.folder.join("anew/succession/trust"));
    let logs = proved(&window, &sent.message_id, &receipt, &mut checker).await;
    let own: HashSet<&String> = logs.iter().filter(|log| log.starts_with(LIUZHOU.0)).collect();
    assert_eq!(own.len(), 2, "one message, proved by two generations: {logs:?}");
    for gateway in [anew, foshan, hub] {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_three_generations_come_out_of_one_store() {
    let alliance = world();
    let (key, mut receipts) = (member_key(&alliance, LIUZHOU.0), vec![]);
    let mut folder = LIUZHOU.0.to_owned();
    for generation in 1..=3 {
        let gateway = start_restored(&alliance, &folder).await;
        let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
        // More than a tile of leaves, so that tiles of every generation stand beside each other.
        for _ in 0..150 {
            let sent = envelope(LIUZHOU, (LIUZHOU.0, "archive"));
            receipts.push((sent.clone(), window.submit(sent).await.unwrap()));
        }
        gateway.stop().await;
        let (backup, next) = (format!("backup-{generation}"), format!("anew-{generation}"));
        back_up(&alliance, &alliance.folder.join(&folder).join("tongban.toml"), &backup);
        let done = restore(&alliance, &backup, &next, &["--member-key", &key]);
        assert!(done["log"].as_str().unwrap().ends_with(&format!("/log/a/{}", generation + 1)), "{done}");
        // The log of the last statement has to be listed before another takes its place.
        let unlisted = done["unlisted"].as_array().unwrap();
        assert_eq!(unlisted.len(), usize::from(generation > 1), "{done}");
        folder = next;
    }
    let mut logs: Vec<VerifyingKey> = vec![];
    for generation in 1..=3 {
        let trust = alliance.folder.join(format!("anew-{generation}/succession/trust"));
        let text = std::fs::read_to_string(trust).unwrap();
        logs.extend(text.lines().map(|line| VerifyingKey::parse(line).unwrap()));
    }
    let member: Member = LIUZHOU.0.parse().unwrap();
    let mut checker = Checker::new(logs.into_iter().map(|key| LogKey { member: member.clone(), key }).collect());
    let gateway = start_restored(&alliance, &folder).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    for (place, (sent, receipt)) in receipts.iter().enumerate() {
        let logs = proved(&window, &sent.message_id, receipt, &mut checker).await;
        assert!(logs[0].ends_with(&format!("/log/a/{}", place / 150 + 1)), "{place}: {logs:?}");
        assert_eq!(window.submit(sent.clone()).await.unwrap(), *receipt, "asked again, the same receipt");
    }
    gateway.stop().await;
}

/// A stopped gateway with a message that has an attachment, and a good backup of it.
async fn backed_up() -> Alliance {
    let alliance = world();
    let gateway = alliance.start(LIUZHOU.0).await;
    let (file, pki) = (alliance.folder.join("photo.bin"), alliance.pki());
    std::fs::write(&file, b"an attachment".repeat(1000)).unwrap();
    let attach = ["--attach", &file.display().to_string(), "--case", PERSONAL[0]].map(str::to_owned);
    let to =
        ["--as", "450200/window", "--to", "450200/archive", "--item", "DEMO-001", "--dir", &pki].map(str::to_owned);
    let arguments: Vec<&str> = to.iter().chain(&attach).map(String::as_str).collect();
    alliance.run(&["send"], &arguments);
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let sent = pb::Envelope { case_no: PERSONAL[0].to_owned(), ..envelope(LIUZHOU, FOSHAN) };
    window.submit(sent).await.unwrap();
    gateway.stop().await;
    back_up(&alliance, &alliance.config_path(LIUZHOU.0), "backup");
    alliance
}

/// What somebody did to a backup, and the words that must come of it.
type Fault = (&'static str, fn(&Path), &'static str);

const FAULTS: &[Fault] = &[
    ("the database is cut short", |at| cut(&at.join("store/store.db")), "store/store.db: not as the manifest lists it"),
    ("a byte of the database is another", |at| flip(&at.join("store/store.db")), "store/store.db: not as"),
    ("a byte of an attachment is another", |at| flip(&blob(at)), "not as the manifest lists it: other bytes"),
    ("a key is another", |at| flip(&at.join("identity/tls-key.key")), "identity/tls-key.key: not as"),
    (
        "a file is missing",
        |at| remove(&at.join("identity/directory-file.note")),
        "listed in the manifest, and not there",
    ),
    ("an attachment is missing", |at| remove(&blob(at)), "listed in the manifest, and not there"),
    ("a file came in", |at| std::fs::write(at.join("identity/more"), b"x").unwrap(), "not listed in the manifest"),
    ("the manifest is missing", |at| remove(&at.join("manifest.json")), "no whole backup"),
    ("the manifest is cut short", |at| cut(&at.join("manifest.json")), "manifest.json: "),
    ("another form", |at| edit(at, |all| all["kind"] = "tongban.backup.v9".into()), "form \"tongban.backup.v9\""),
    ("a key is open to others", |at| open_to_others(&at.join("identity/tls-key.key")), "chmod 600"),
    ("the manifest tells of another log", |at| edit(at, |all| all["log"]["size"] = 1.into()), "holds another log"),
    ("an unlisted attachment", |at| unlist(at), "a message refers to it, and it is not there"),
    // From here on whoever did it also wrote the manifest anew.
    ("a newer schema", |at| sql(at, "INSERT INTO migration VALUES (99, x'00')"), "use a newer build"),
    (
        "a leaf says something else",
        |at| sql(at, "UPDATE leaf SET bytes = x'0101' WHERE idx = 1"),
        "not what its hash says",
    ),
    ("a leaf is gone", |at| sql(at, "DELETE FROM leaf WHERE idx = (SELECT max(idx) FROM leaf)"), "the tree is of"),
    (
        "a hash is another",
        |at| sql(at, "UPDATE leaf SET hash = zeroblob(32), bytes = NULL WHERE idx = 0"),
        "does not lead",
    ),
    ("the checkpoint is gone", |at| sql(at, "DELETE FROM checkpoint"), "does not lead"),
    ("a message is another", |at| sql(at, "UPDATE message SET header_digest = zeroblob(32)"), "no receipt of its own"),
    ("the log's key is another", |at| rekey(at), "not among the log keys"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_what_it_was_makes_nothing_and_says_why() {
    let alliance = backed_up().await;
    for (name, harm, words) in FAULTS {
        let bad = alliance.folder.join("bad");
        copy(&alliance.folder.join("backup"), &bad);
        harm(&bad);
        for dry in [&["--dry-run"][..], &[]] {
            let output = try_restore(&alliance, "bad", "never", dry);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains(words), "{name}: {said}");
            assert!(!alliance.folder.join("never").exists(), "{name}: something was written");
        }
        std::fs::remove_dir_all(&bad).unwrap();
    }
    let (other, own) = (member_key(&alliance, FOSHAN.0), member_key(&alliance, LIUZHOU.0));
    let refused = |to: &str, more: &[&str], words: &str| {
        let output = try_restore(&alliance, "backup", to, more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
    };
    refused("never", &["--member-key", &other], "not the key by which the alliance knows 450200");
    refused("never", &["--generation", "1"], "the next free generation is 2");
    refused("pki", &[], "there is something in it already");
    assert!(!alliance.folder.join("never").exists());
    // The same backup, unharmed: dry it writes nothing, and then it restores, under another generation where that is asked.
    let dry = restore(&alliance, "backup", "anew", &["--dry-run", "--member-key", &own]);
    assert!(!alliance.folder.join("anew").exists());
    let done = restore(&alliance, "backup", "anew", &["--member-key", &own]);
    assert_eq!((&dry["log"], &dry["closed"]), (&done["log"], &done["closed"]));
    let third = restore(&alliance, "backup", "again", &["--generation", "3", "--member-key", &own]);
    assert!(third["log"].as_str().unwrap().ends_with("/log/a/3"));
    assert_eq!(third["statement"], 3, "a partner that holds the statement of the first restoring takes this one");
    restored_as_it_was(&alliance);
}

/// The restored place has the blob, keys that only their owner reads, and a log key of its own.
fn restored_as_it_was(alliance: &Alliance) {
    let (backup, anew) = (alliance.folder.join("backup"), alliance.folder.join("anew"));
    assert_eq!(std::fs::read(blob(&backup)).unwrap(), std::fs::read(blob(&anew)).unwrap());
    for key in ["tls-key.key", "log-key.key"] {
        let mode = std::fs::metadata(anew.join("identity").join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let log_key = |at: &Path| std::fs::read(at.join("identity/log-key.key")).unwrap();
    assert_ne!(log_key(&backup), log_key(&anew), "the old log's key is not put in place");
    let manifest = std::fs::read_to_string(backup.join("manifest.json")).unwrap();
    for personal in PERSONAL {
        assert!(!manifest.contains(personal), "{personal} stands in the manifest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_gateway_whose_log_nobody_knows_does_not_start_until_the_record_lists_its_key() {
    let alliance = backed_up().await;
    let done = restore(&alliance, "backup", "anew", &[]);
    assert_eq!(done["statement"], Value::Null);
    let config = Config::load(&alliance.folder.join("anew/tongban.toml")).unwrap();
    let refused = tongban::server::bind(&config).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("not among the log keys"), "{refused}");
    let key = VerifyingKey::parse(done["log_key"].as_str().unwrap()).unwrap();
    alliance.change_record(LIUZHOU.0, |record| record.log_keys.push(key));
    std::fs::copy(alliance.folder.join("pki/directory.note"), &config.directory).unwrap();
    let gateway = alliance.start_with(&config).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let receipt = window.submit(envelope(LIUZHOU, (LIUZHOU.0, "archive"))).await.unwrap();
    assert_eq!(check(&mut alliance.checker(), receipt).log_origin, done["log"]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_of_other_logs_is_backed_up_and_put_back() {
    let alliance = backed_up().await;
    let (config, partner) = (alliance.config(LIUZHOU.0), alliance.log_key(FOSHAN.0));
    let origin = partner.verifying_key().name().to_owned();
    let note = |size: u64, byte: u8| {
        let root = Hash::from_bytes([byte; 32]);
        Checkpoint { origin: origin.clone(), size, root }.sign(&partner).unwrap()
    };
    let seen = Sightings::in_folder(&config.data);
    seen.hold(&origin, &note(7, 1)).unwrap();
    let forks = [(5, vec![Hash::from_bytes([3; 32])]), (7, vec![])].map(|(size, proof)| {
        let fork = Fork { origin: origin.clone(), first: note(7, 1), second: note(size, 2), proof };
        seen.keep_fork(&fork).unwrap();
        fork
    });
    back_up(&alliance, &alliance.config_path(LIUZHOU.0), "second");
    restore(&alliance, "second", "anew", &["--member-key", &member_key(&alliance, LIUZHOU.0)]);
    let again = Config::load(&alliance.folder.join("anew/tongban.toml")).unwrap();
    let again = Sightings::in_folder(&again.data);
    assert_eq!(again.all().unwrap(), [(origin.clone(), note(7, 1))]);
    assert_eq!(again.forks().unwrap(), forks);
}

fn try_restore(alliance: &Alliance, from: &str, to: &str, more: &[&str]) -> Output {
    let (from, to) = (path(alliance, from), path(alliance, to));
    let arguments = [&["--lang", "en", "restore", &from, "--to", &to], more].concat();
    Command::new(env!("CARGO_BIN_EXE_tongban")).args(arguments).output().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a".as_ref(), from.as_os_str(), to.as_os_str()]).status().unwrap();
    assert!(done.success());
}

fn cut(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

fn remove(file: &Path) {
    std::fs::remove_file(file).unwrap();
}

fn open_to_others(file: &Path) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o640)).unwrap();
}

/// The one attachment of a backup, or of a gateway.
fn blob(at: &Path) -> PathBuf {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries(at.join("store/attachments/blobs")).flat_map(entries).next().expect("a blob")
}

fn edit(at: &Path, change: impl FnOnce(&mut Value)) {
    let file = at.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(file, manifest.to_string()).unwrap();
}

/// Takes an attachment away, and its line too.
fn unlist(at: &Path) {
    let name = blob(at).strip_prefix(at).unwrap().display().to_string();
    remove(&blob(at));
    edit(at, |all| all["files"].as_array_mut().unwrap().retain(|file| file["path"] != name));
}

/// Writes the line of a changed file anew.
fn relist(at: &Path, name: &str) {
    let bytes = std::fs::read(at.join(name)).unwrap();
    edit(at, |all| {
        let files = all["files"].as_array_mut().unwrap();
        let line = files.iter_mut().find(|file| file["path"] == name).unwrap();
        line["bytes"] = bytes.len().into();
        line["sha256"] = hex::encode(Sha256::digest(&bytes)).into();
    });
}

fn sql(at: &Path, change: &str) {
    let database = Connection::open(at.join("store/store.db")).unwrap();
    database.execute_batch(change).unwrap();
    database.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).unwrap();
    database.close().unwrap();
    relist(at, "store/store.db");
}

fn rekey(at: &Path) {
    let key = at.join("identity/log-key.key");
    remove(&key);
    tongban::keys::write_seed(&key, &tongban::keys::Seed::generate().unwrap()).unwrap();
    relist(at, "identity/log-key.key");
}
