//! Shows that partners watch each other's logs: what is published carries their cosignatures, receipts are sealed by them, a
//! log that forks is caught within thirty seconds, and a witness that was written from the documents alone agrees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::alliance::{self, Alliance, Client, Gateway, envelope, reason};
use crate::process::until;
use serde_json::Value;
use tongban::checks::{examine_self, is_fault};
use tongban::clock::Clock;
use tongban::config::Config;
use tongban::receipt::{Checker, Receipt};
use tongban::store::{Fork, Sightings};
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::consistency::verify_consistency;
use tongban::tlog::cosignature::{WitnessKey, cosign, cosigners, text};
use tongban::tlog::note::VerifyingKey;
use tongban::tlog::{Hash, tree};
use tongban::wire::pb::evidence as pbe;
use tongban::wire::receipt::from_wire;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
/// What a partner may take to find a fork.
const CAUGHT_WITHIN: Duration = Duration::from_secs(30);

fn three() -> Alliance {
    let city = |(code, system): (&'static str, &'static str)| (code, [system]);
    let cities = [city(LIUZHOU), city(FOSHAN)];
    let cities: Vec<_> =
        cities.iter().map(|(code, systems)| alliance::City { code, systems, ..Default::default() }).collect();
    Alliance::of(&["main"], &cities)
}

/// A gateway that looks at its partners' logs every second.
async fn start(alliance: &Alliance, member: &str) -> Gateway {
    let mut config = alliance.config(member);
    config.witness_every_s = Some(1);
    alliance.start_with(&config).await
}

fn keys(alliance: &Alliance) -> Vec<VerifyingKey> {
    alliance.directory().entries().flat_map(|entry| entry.record.log_keys.clone()).collect()
}

fn witnesses(alliance: &Alliance) -> Vec<WitnessKey> {
    keys(alliance).iter().map(WitnessKey::of).collect()
}

async fn published(client: &Client) -> String {
    let asked = pbe::GetCheckpointRequest::default();
    client.evidence.clone().get_checkpoint(asked).await.unwrap().into_inner().checkpoint
}

/// The published checkpoint once it covers so many leaves and so many witnesses have signed it.
async fn cosigned(alliance: &Alliance, client: &Client, leaves: u64, by: usize) -> (Checkpoint, String) {
    let (keys, witnesses) = (keys(alliance), witnesses(alliance));
    let mut found = None;
    until("the checkpoint is published and cosigned", async || {
        let note = published(client).await;
        if note.is_empty() {
            return false;
        }
        let checkpoint = Checkpoint::open(&note, &keys).unwrap();
        let fits = checkpoint.size >= leaves && cosigners(&note, &witnesses).unwrap().len() >= by;
        found = fits.then_some((checkpoint, note));
        fits
    })
    .await;
    found.unwrap()
}

async fn consistency(client: &Client, old: u64, new: u64) -> Result<Vec<Hash>, tonic::Status> {
    let asked = pbe::GetConsistencyProofRequest { old_size: old, new_size: new, ..Default::default() };
    let proof = client.evidence.clone().get_consistency_proof(asked).await?.into_inner();
    Ok(proof.hashes.iter().map(|hash| Hash::from_slice(hash).unwrap()).collect())
}

async fn tile(client: &Client, index: u64, width: u32) -> Result<Vec<Hash>, tonic::Status> {
    let asked = pbe::GetTileRequest { index, width, ..Default::default() };
    let tile = client.evidence.clone().get_tile(asked).await?.into_inner();
    Ok(tile.hashes.chunks(32).map(|hash| Hash::from_slice(hash).unwrap()).collect())
}

async fn sealed(client: &Client, id: &str) -> Vec<Receipt> {
    let asked = pbe::GetMessageEvidenceRequest { from_city: String::new(), message_id: id.to_owned(), sealed: true };
    let answer = client.evidence.clone().get_message_evidence(asked).await.unwrap().into_inner();
    answer.receipts.into_iter().map(|receipt| from_wire(receipt).unwrap()).collect()
}

/// Submits messages inside the city, each of which writes leaves in this log alone; how many there are then.
async fn submit(client: &Client, count: usize) -> u64 {
    let mut size = 0;
    for _ in 0..count {
        let receipt = client.submit(envelope(LIUZHOU, LIUZHOU)).await.unwrap();
        size = Checkpoint::claimed(&receipt.checkpoint).unwrap().size;
    }
    size
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_cosigned_by_every_partner_and_seals_receipts() {
    let alliance = three();
    let mut gateways = vec![];
    for member in ["450200", "440600", "hub-main"] {
        gateways.push(start(&alliance, member).await);
    }
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    assert_eq!(published(&window).await, "", "nothing is published of an empty log");
    let sent = envelope(LIUZHOU, LIUZHOU);
    let receipt = window.submit(sent.clone()).await.unwrap();
    let began = Instant::now();
    until("a checkpoint is published", async || !published(&window).await.is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let (first, note) = cosigned(&alliance, &window, 1, 2).await;
    let own = alliance.log_key("450200");
    assert_eq!(first.origin, own.verifying_key().name());
    let named: Vec<_> = cosigners(&note, &witnesses(&alliance)).unwrap();
    let names: Vec<_> = named.iter().map(|one| witnesses(&alliance)[one.witness].name().to_owned()).collect();
    assert!(names.iter().all(|name| *name != first.origin), "nobody cosigns its own log: {names:?}");

    // The receipt that was given at once, proved again: the same leaf under what the partners have signed.
    let instant = from_wire(receipt).unwrap();
    let resealed = sealed(&window, &sent.message_id).await;
    let again = resealed.iter().find(|receipt| receipt.leaf == instant.leaf).unwrap();
    let mut checker: Checker = alliance.checker();
    checker.check(again.clone()).unwrap();
    assert_eq!(cosigners(&again.proof.checkpoint_note, &witnesses(&alliance)).unwrap().len(), 2);
    assert!(cosigners(&instant.proof.checkpoint_note, &witnesses(&alliance)).unwrap().is_empty());
    assert_eq!(text(&again.proof.checkpoint_note), text(&note), "the first cosigned one behind the leaf");

    // The log goes on: proofs and tiles lead from the one to the other.
    let size = submit(&window, 3).await;
    let (second, _) = cosigned(&alliance, &window, size, 1).await;
    let proof = consistency(&window, first.size, second.size).await.unwrap();
    assert_eq!(verify_consistency((first.size, &first.root), (second.size, &second.root), &proof), Ok(()));
    let leaves = tile(&window, 0, second.size as u32).await.unwrap();
    assert_eq!(tree::root_of(&leaves), second.root);
    for (old, new) in [(second.size, first.size), (1, 1_000)] {
        assert_eq!(reason(&consistency(&window, old, new).await.unwrap_err()), "NOT_IN_LOG", "{old} to {new}");
    }
    for (index, width) in [(1, 1), (0, 257), (0, 0), (u64::MAX, 1)] {
        assert_eq!(reason(&tile(&window, index, width).await.unwrap_err()), "NOT_IN_LOG", "{index} of {width}");
    }
    for gateway in gateways {
        gateway.stop().await;
    }
}

/// What a command says, and how it ends.
fn told(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tongban")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What `tongban verify` finds of a folder.
fn verified(folder: &str, trust: &str) -> (Option<i32>, Value, String) {
    let (code, found, said) = told(&["--lang", "en", "--json", "verify", folder, "--trust", trust]);
    (code, serde_json::from_str(&found).unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_exported_sealed_and_a_wrong_cosignature_is_named() {
    let alliance = three();
    let mut gateways = vec![];
    for member in ["450200", "440600", "hub-main"] {
        gateways.push(start(&alliance, member).await);
    }
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let sent = envelope(LIUZHOU, LIUZHOU);
    window.submit(sent.clone()).await.unwrap();
    cosigned(&alliance, &window, 2, 2).await;
    let (me, pki) = (format!("{}/{}", LIUZHOU.0, LIUZHOU.1), alliance.pki());
    let export = |name: &str, more: &[&str]| {
        let out = alliance.folder.join(name).display().to_string();
        let line = ["receipt", "export", &sent.message_id, "--as", &me, "--dir", &pki, "--out", &out];
        let (code, _, said) = told(&[&["--lang", "en"], &line[..], more].concat());
        assert_eq!(code, Some(0), "{said}");
        (format!("{out}/trust"), out, said)
    };
    let (trust, folder, said) = export("sealed", &["--sealed"]);
    assert!(!said.contains("carry no cosignature"), "{said}");
    let others = ["440600", "hub/main"].map(|member| alliance.log_key(member).verifying_key().name().to_owned());
    let (code, found, said) = verified(&folder, &trust);
    assert_eq!((code, &found["verified"]), (Some(0), &2.into()), "{found:#} {said}");
    assert!(said.contains("2 of 2 are cosigned by trusted witnesses"), "{said}");
    for receipt in found["receipts"].as_array().unwrap() {
        let by = receipt["cosigned"].as_array().unwrap().iter().map(|one| one["witness"].as_str().unwrap());
        assert_eq!(by.collect::<BTreeSet<_>>(), others.iter().map(String::as_str).collect(), "{receipt:#}");
    }

    // The same receipts as they were given at once: nobody has cosigned them, and nobody is asked about witnesses.
    let (plain_trust, plain, said) = export("instant", &[]);
    assert!(!said.contains("cosignature") && !verified(&plain, &plain_trust).2.contains("cosigned"), "{said}");
    assert!(verified(&plain, &trust).2.contains("0 of 2 are cosigned"));

    // A character of a cosignature is another: whoever trusts that witness is told; to all others it says nothing.
    let proof = Path::new(&folder).join("01-SUBMISSION_ACCEPTED-450200.tlog-proof");
    let good = std::fs::read_to_string(&proof).unwrap();
    let line = good.lines().find(|line| line.starts_with(&format!("— {} ", others[0]))).unwrap();
    let (head, tail) = line.split_at(line.len() - 20);
    let other = if tail.starts_with('A') { "B" } else { "A" };
    std::fs::write(&proof, good.replace(line, &format!("{head}{other}{}", &tail[1..]))).unwrap();
    let (code, found, _) = verified(&folder, &trust);
    assert_eq!((code, &found["verified"], &found["failed"]), (Some(1), &1.into(), &1.into()), "{found:#}");
    let failed = found["receipts"].as_array().unwrap().iter().find(|receipt| receipt["holds"] == false).unwrap();
    assert_eq!(failed["part"], "cosignature", "{failed:#}");
    assert!(failed["fault"].as_str().unwrap().contains(&others[0]), "the witness is named: {failed:#}");
    let (_, shown, _) = told(&["--lang", "zh", "verify", &folder, "--trust", &trust]);
    assert!(shown.contains("FAILED: 联署"), "{shown}");
    assert_eq!(verified(&folder, &plain_trust).0, Some(0), "a stranger's line");
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosignature_is_taken_of_another_members_log_key_alone() {
    let alliance = three();
    // Nobody cosigns by itself.
    let mut config = alliance.config(LIUZHOU.0);
    config.witness_every_s = None;
    let _liuzhou = alliance.start_with(&config).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    submit(&window, 1).await;
    until("a checkpoint is published", async || !published(&window).await.is_empty()).await;
    let note = published(&window).await;
    let (checkpoint, text) = (Checkpoint::claimed(&note).unwrap(), text(&note).unwrap());
    let (own, theirs, hub) = (alliance.log_key("450200"), alliance.log_key("440600"), alliance.log_key("hub/main"));
    let now_s = Clock::default().now().ms() / 1000;
    let by = |key, at_s| cosign(text, key, at_s).unwrap();
    let foshan = alliance.client_of("440600/gateway", LIUZHOU.0);
    let hand_in = async |client: &Client, size: u64, line: String| {
        let asked = pbe::AddCosignatureRequest { origin: checkpoint.origin.clone(), size, cosignature: line };
        client.evidence.clone().add_cosignature(asked).await.map(drop).map_err(|status| reason(&status))
    };
    let size = checkpoint.size;
    let bent = by(&theirs, now_s).replace("A", "B");
    for (what, client, size, line, why) in [
        ("of the hub's key", &foshan, size, by(&hub, now_s), "COSIGNATURE_REFUSED"),
        ("of the log's own key", &foshan, size, by(&own, now_s), "COSIGNATURE_REFUSED"),
        ("an hour ahead", &foshan, size, by(&theirs, now_s + 3600), "COSIGNATURE_REFUSED"),
        ("that does not hold", &foshan, size, bent, "COSIGNATURE_REFUSED"),
        ("of a log, not of a witness", &foshan, size, theirs.sign_note(text).unwrap(), "COSIGNATURE_REFUSED"),
        ("over nothing published", &foshan, size + 7, by(&theirs, now_s), "NOT_IN_LOG"),
        ("from a system", &window, size, by(&theirs, now_s), "NOT_PERMITTED"),
    ] {
        assert_eq!(hand_in(client, size, line).await, Err(why.to_owned()), "{what}");
    }
    assert_eq!(published(&window).await, note, "nothing was taken");
    let first = by(&theirs, now_s);
    hand_in(&foshan, size, first.clone()).await.unwrap();
    assert_eq!(published(&window).await, format!("{note}{first}\n"));
    // What comes again, of a later moment, changes nothing: the earliest word is the strongest.
    hand_in(&foshan, size, by(&theirs, now_s + 1)).await.unwrap();
    assert_eq!(published(&window).await, format!("{note}{first}\n"));
}

/// A log that the partner has seen twice, and a copy of it from between: who looks, and where the copy is. In between it has
/// taken so many messages. The log has stopped.
async fn seen_and_copied(alliance: &Alliance, count: usize) -> (Gateway, PathBuf) {
    let (foshan, liuzhou) = (start(alliance, FOSHAN.0).await, start(alliance, LIUZHOU.0).await);
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let before = submit(&window, 3).await;
    cosigned(alliance, &window, before, 1).await;
    liuzhou.stop().await;
    let data = alliance.config(LIUZHOU.0).data;
    let copy = data.with_extension("copy");
    copy_folder(&data, &copy);

    let liuzhou = start(alliance, LIUZHOU.0).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let after = submit(&window, count).await;
    cosigned(alliance, &window, after, 1).await;
    liuzhou.stop().await;
    (foshan, copy)
}

/// A log and a copy of it that goes on by itself: how many messages each takes, and the first fork of this kind that the
/// partner finds.
async fn fork(honest: usize, copied: usize, wanted: impl Fn(&Fork) -> bool) -> (Alliance, Gateway, Fork, Duration) {
    let alliance = three();
    let (foshan, copy) = seen_and_copied(&alliance, honest).await;
    let mut config = alliance.config(LIUZHOU.0);
    (config.data, config.witness_every_s) = (copy, Some(1));
    let _again = alliance.start_with(&config).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    submit(&window, copied).await;
    let began = Instant::now();
    let seen = Sightings::in_folder(&alliance.config(FOSHAN.0).data);
    until("the partner finds the fork", async || seen.forks().unwrap().iter().any(&wanted)).await;
    let fork = seen.forks().unwrap().into_iter().find(&wanted).unwrap();
    (alliance, foshan, fork, began.elapsed())
}

/// Both notes are the log's own word, and they contradict each other.
fn contradict(alliance: &Alliance, fork: &Fork) -> (Checkpoint, Checkpoint) {
    let key = [alliance.log_key(LIUZHOU.0).verifying_key().clone()];
    let (first, second) = (Checkpoint::open(&fork.first, &key).unwrap(), Checkpoint::open(&fork.second, &key).unwrap());
    assert_eq!((&first.origin, &second.origin), (&fork.origin, &fork.origin));
    let (older, newer) = if first.size <= second.size { (&first, &second) } else { (&second, &first) };
    let proved = verify_consistency((older.size, &older.root), (newer.size, &newer.root), &fork.proof);
    assert!(proved.is_err() && first.root != second.root, "{fork:?}");
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_roots_at_one_size_are_caught_and_named() {
    let (alliance, _foshan, fork, took) = fork(4, 4, |fork| fork.proof.is_empty()).await;
    let (first, second) = contradict(&alliance, &fork);
    assert_eq!(first.size, second.size);
    assert!(took < CAUGHT_WITHIN, "{took:?}");
    println!("two roots at {} leaves: caught {took:.1?} after the copy had signed", first.size);
    health_and_checks_tell(&alliance, &fork.origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_that_signs_more_than_was_seen_is_caught() {
    let (alliance, _foshan, fork, took) = fork(2, 9, |fork| !fork.proof.is_empty()).await;
    let (first, second) = contradict(&alliance, &fork);
    assert_ne!(first.size, second.size);
    assert!(took < CAUGHT_WITHIN, "{took:?}");
    println!("{} and {} leaves of two histories: caught {took:.1?} after the copy had signed", first.size, second.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_has_grown_further_than_was_seen_is_caught_and_not_cosigned() {
    let alliance = three();
    let (foshan, copy) = seen_and_copied(&alliance, 2).await;
    // It grows while nobody looks: what it shows then is longer than what was seen, and has not grown out of it.
    foshan.stop().await;
    let mut config = alliance.config(LIUZHOU.0);
    config.data = copy;
    let again = alliance.start_with(&config).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let size = submit(&window, 9).await;
    let (shown, _) = cosigned(&alliance, &window, size, 0).await;
    let foshan = start(&alliance, FOSHAN.0).await;
    let seen = Sightings::in_folder(&alliance.config(FOSHAN.0).data);
    until("the partner finds the fork", async || !seen.forks().unwrap().is_empty()).await;
    let (first, second) = contradict(&alliance, &seen.forks().unwrap()[0]);
    assert!(first.size < second.size && second == shown, "{first:?} {second:?}");
    assert_eq!(cosigners(&published(&window).await, &witnesses(&alliance)).unwrap(), [], "nobody has cosigned it");
    again.stop().await;
    foshan.stop().await;
}

/// A log that was seen, and that a partner's gateway left: it, or a copy that was taken before it was seen last, went on while
/// nobody looked, was backed up, and restored under a new log that closes it. What the partner keeps, who runs, the new log.
async fn closed_by_a_restored(copied: bool) -> (Alliance, Sightings, Vec<Gateway>, String) {
    let alliance = three();
    for city in [LIUZHOU.0, FOSHAN.0] {
        let path = alliance.config_path(city);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("[directory]\n", "[directory]\nfollow = \"hub/main\"\n", 1)).unwrap();
    }
    let hub = alliance.start("hub-main").await;
    let (foshan, copy) = seen_and_copied(&alliance, 2).await;
    foshan.stop().await;
    if copied {
        let data = alliance.config(LIUZHOU.0).data;
        std::fs::rename(&data, data.with_extension("seen")).unwrap();
        std::fs::rename(&copy, &data).unwrap();
    }
    let liuzhou = alliance.start(LIUZHOU.0).await;
    submit(&alliance.client(LIUZHOU.0, LIUZHOU.1), 9).await;
    liuzhou.stop().await;

    let folder = |name: &str| alliance.folder.join(name).display().to_string();
    let (config, key) = (alliance.config_path(LIUZHOU.0).display().to_string(), folder("pki/450200/member.key"));
    alliance.run(&["backup"], &["--config", &config, "--to", &folder("backup")]);
    let restore = [&folder("backup"), "--to", &folder("anew"), "--member-key", &key];
    let done: Value = serde_json::from_str(&alliance.run(&["--json", "restore"], &restore)).unwrap();
    let log = done["log"].as_str().unwrap().to_owned();
    let anew = Config::load(&alliance.folder.join("anew/tongban.toml")).unwrap();
    let anew = alliance.start_with(&anew).await;
    submit(&alliance.client(LIUZHOU.0, LIUZHOU.1), 1).await;
    let foshan = start(&alliance, FOSHAN.0).await;
    let seen = Sightings::in_folder(&alliance.config(FOSHAN.0).data);
    (alliance, seen, vec![hub, foshan, anew], log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_that_closes_another_history_than_was_seen_is_caught() {
    let (alliance, seen, gateways, log) = closed_by_a_restored(true).await;
    until("the partner finds the fork", async || !seen.forks().unwrap().is_empty()).await;
    let fork = seen.forks().unwrap().remove(0);
    assert_eq!(fork.origin, alliance.log_key(LIUZHOU.0).verifying_key().name(), "the log that {log} closes");
    let (first, second) = contradict(&alliance, &fork);
    assert!(first.size < second.size && !fork.proof.is_empty(), "what was seen, and what the statement closes");
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_that_closes_what_was_seen_is_cosigned_in_its_turn() {
    let (_alliance, seen, gateways, log) = closed_by_a_restored(false).await;
    until("the new log is cosigned", async || seen.held(&log).unwrap().is_some()).await;
    assert_eq!(seen.forks().unwrap(), []);
    for gateway in gateways {
        gateway.stop().await;
    }
}

/// The partner that found it says so by its checks, its health and its command line, until people settle it.
async fn health_and_checks_tell(alliance: &Alliance, origin: &str) {
    let config = alliance.config(FOSHAN.0);
    let findings = examine_self(&config, &Clock::default());
    let fork = findings.iter().find(|finding| finding.check == "witness.fork").unwrap();
    assert!(is_fault(fork) && fork.look.about.as_deref() == Some("450200"), "{fork:?}");
    assert!(fork.look.seen.en.starts_with(origin), "{fork:?}");
    let staff = alliance.client_of("440600/gateway", FOSHAN.0);
    let health = HealthClient::new(staff.channel);
    until("its health says so", async || {
        let asked = HealthCheckRequest { service: "partner/450200".to_owned() };
        let answer = health.clone().check(asked).await;
        answer.is_ok_and(|answer| answer.into_inner().status == ServingStatus::NotServing as i32)
    })
    .await;
    let file = alliance.config_path(FOSHAN.0).display().to_string();
    for (line, lang, says) in [
        ("list", "en", "FORKED"),
        ("list", "zh", "已分叉"),
        ("show", "en", "two roots at one size"),
        ("show", "zh", "同一大小有两个根哈希"),
    ] {
        let (code, said, talk) = told(&["--lang", lang, "witness", line, "--config", &file]);
        assert_eq!(code, Some(1), "{said} {talk}");
        assert!(said.contains(says) && said.contains(origin), "{line} {lang}: {said}");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
