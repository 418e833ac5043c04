//! A gateway's health is never falsely green: the right name turns when something breaks, and back when it is mended.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::alliance::{self, Alliance, City, envelope};
use crate::mount::mount;
use crate::process::{self, Process};
use tongban::clock::Clock;
use tongban::wire::pb::exchange as pb;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
const EXCHANGE: &str = "tongban.exchange.v1.ExchangeService";
/// The check interval of these gateways is one second.
const IN_TIME: Duration = Duration::from_secs(2);

fn two_cities() -> Alliance {
    let alliance = process::alliance(&[(LIUZHOU.0, &[LIUZHOU.1, "archive"]), (FOSHAN.0, &[FOSHAN.1])]);
    often(&alliance);
    alliance
}

/// Lets the first city's gateway examine itself every second.
fn often(alliance: &Alliance) {
    let path = alliance.config_path(LIUZHOU.0);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n[checks]\nevery_s = 1\npartners_every_s = 1\n")).unwrap();
}

/// Somebody who watches one name.
struct Watcher {
    name: String,
    stream: tonic::Streaming<tonic_health::pb::HealthCheckResponse>,
}

impl Watcher {
    /// As the city's own gateway watches itself.
    async fn new(alliance: &Alliance, name: &str) -> Watcher {
        let client = alliance.client_of(&format!("{}/gateway", LIUZHOU.0), LIUZHOU.0);
        let request = HealthCheckRequest { service: name.to_owned() };
        let stream = HealthClient::new(client.channel).watch(request).await.unwrap().into_inner();
        Watcher { name: name.to_owned(), stream }
    }

    /// Waits until the name has this status; how long that took.
    async fn turns(&mut self, to: ServingStatus) -> Duration {
        let begun = Instant::now();
        let turned = async {
            loop {
                let said = self.stream.message().await.unwrap().expect("it is watched on");
                if said.status() == to {
                    return;
                }
            }
        };
        let patience = alliance::PATIENCE;
        assert!(tokio::time::timeout(patience, turned).await.is_ok(), "{} turns {to:?}", self.name);
        begun.elapsed()
    }
}

/// Breaks something, sees the name turn in time, mends it, and sees it turn back.
async fn turns(alliance: &Alliance, name: &str, breaks: impl AsyncFnOnce(), mends: impl AsyncFnOnce()) {
    let mut watcher = Watcher::new(alliance, name).await;
    watcher.turns(ServingStatus::Serving).await;
    breaks().await;
    let broke = watcher.turns(ServingStatus::NotServing).await;
    mends().await;
    let mended = watcher.turns(ServingStatus::Serving).await;
    println!("{name:?} turned after {broke:.1?} and back after {mended:.1?}");
    assert!(broke <= IN_TIME + Duration::from_secs(1), "{name}: {broke:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replaced_by_rubbish_turns_the_gateway_and_its_services() {
    let alliance = two_cities();
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let key = alliance.config(LIUZHOU.0).key;
    let kept = std::fs::read(&key).unwrap();
    for name in ["", EXCHANGE] {
        let (breaks, mends) =
            (async || std::fs::write(&key, "rubbish").unwrap(), async || std::fs::write(&key, &kept).unwrap());
        turns(&alliance, name, breaks, mends).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_stops_turns_its_own_name_alone() {
    let alliance = two_cities();
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let mut foshan = Some(Process::start(&alliance, FOSHAN.0).await);
    let mut whole = Watcher::new(&alliance, "").await;
    whole.turns(ServingStatus::Serving).await;
    let mut partner = Watcher::new(&alliance, "partner/440600").await;
    partner.turns(ServingStatus::Serving).await;
    drop(foshan.take());
    let broke = partner.turns(ServingStatus::NotServing).await;
    assert!(broke <= IN_TIME + Duration::from_secs(1), "{broke:?}");
    foshan = Some(Process::start(&alliance, FOSHAN.0).await);
    partner.turns(ServingStatus::Serving).await;
    drop(foshan);
    let said = tokio::time::timeout(Duration::ZERO, whole.stream.message()).await;
    assert!(said.is_err(), "the gateway itself served all the time: {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_silent_does_not_hold_up_what_the_gateway_says_of_itself() {
    let alliance = two_cities();
    // It takes connections, and never says a word: each try takes its whole deadline.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    alliance.change_record(FOSHAN.0, |record| record.endpoints = vec![address.parse().unwrap()]);
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let key = alliance.config(LIUZHOU.0).key;
    let kept = std::fs::read(&key).unwrap();
    for _ in 0..2 {
        let (breaks, mends) =
            (async || std::fs::write(&key, "rubbish").unwrap(), async || std::fs::write(&key, &kept).unwrap());
        turns(&alliance, "", breaks, mends).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_renewal_the_new_files_are_examined() {
    let alliance = two_cities();
    let gateway = alliance.start(LIUZHOU.0).await;
    let (path, old) = (alliance.config_path(LIUZHOU.0), alliance.config(LIUZHOU.0).key);
    let new = old.with_file_name("other.key");
    std::fs::copy(&old, &new).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("gateway.key", "other.key")).unwrap();
    gateway.renewal.renew().await.unwrap();
    let kept = std::fs::read(&new).unwrap();
    let (breaks, mends) =
        (async || std::fs::write(&new, "rubbish").unwrap(), async || std::fs::write(&new, &kept).unwrap());
    turns(&alliance, "", breaks, mends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_is_known_before_its_first_message() {
    let alliance = two_cities();
    let _gateway = alliance.start(LIUZHOU.0).await;
    Watcher::new(&alliance, "system/archive").await.turns(ServingStatus::Serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_nobody_empties_turns_its_own_name() {
    let alliance = Alliance::new(&[(LIUZHOU.0, &[LIUZHOU.1, "archive"])]);
    often(&alliance);
    let clock = Clock::default();
    let _gateway = alliance.start_by(&alliance.config(LIUZHOU.0), clock.clone()).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let archive = alliance.client(LIUZHOU.0, "archive");
    window.submit(envelope(LIUZHOU, (LIUZHOU.0, "archive"))).await.unwrap();
    let breaks = async || clock.advance(25 * 60 * 60 * 1000);
    let mends = async || {
        let mut mailbox = archive.receive(4).await;
        let (delivery, _) = mailbox.delivery().await;
        mailbox.acknowledge(&delivery.delivery_id).await;
        let _: pb::Settled = mailbox.settled().await;
    };
    turns(&alliance, "system/archive", breaks, mends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_turns_the_gateway() {
    let alliance = Alliance::new(&[(LIUZHOU.0, &[LIUZHOU.1])]);
    often(&alliance);
    let clock = Clock::default();
    let _gateway = alliance.start_by(&alliance.config(LIUZHOU.0), clock.clone()).await;
    let mut watcher = Watcher::new(&alliance, "").await;
    watcher.turns(ServingStatus::Serving).await;
    clock.advance(400 * 24 * 60 * 60 * 1000);
    let broke = watcher.turns(ServingStatus::NotServing).await;
    assert!(broke <= IN_TIME + Duration::from_secs(1), "{broke:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_turns_the_gateway() {
    let alliance = two_cities();
    let store = alliance.config(LIUZHOU.0).data;
    let Some(_mount) = mount(&["-t", "tmpfs", "-o", "size=600m", "tmpfs"], &store) else { return };
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let filler = store.join("filler");
    let breaks = async || std::fs::write(&filler, vec![0; 400 << 20]).unwrap();
    let mends = async || std::fs::remove_file(&filler).unwrap();
    turns(&alliance, "", breaks, mends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_turns_read_only_turns_the_gateway() {
    let alliance = two_cities();
    let store = alliance.config(LIUZHOU.0).data;
    let image = alliance.folder.join("image");
    std::fs::File::create(&image).unwrap().set_len(600 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: mkfs.ext4 is not installed");
        return;
    }
    let Some(_mount) = mount(&["-o", "loop", &image.display().to_string()], &store) else { return };
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let mut watcher = Watcher::new(&alliance, "").await;
    watcher.turns(ServingStatus::Serving).await;
    let aborted = Command::new("mount").args(["-o", "remount,abort"]).arg(&store).status().unwrap();
    if !aborted.success() {
        println!("SKIPPED: this file system cannot be remounted with abort");
        return;
    }
    let broke = watcher.turns(ServingStatus::NotServing).await;
    assert!(broke <= IN_TIME + Duration::from_secs(1), "{broke:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_known_to_those_whom_it_concerns_and_to_nobody_else() {
    let city = |code, systems| City { code, systems, ..City::default() };
    let cities = [city(LIUZHOU.0, &["window", "archive"]), city(FOSHAN.0, &["approval"]), city("640100", &["x"])];
    let alliance = Alliance::of(&[], &cities);
    often(&alliance);
    alliance.run(&["pki", "add-ops", LIUZHOU.0, "chen"], &["--dir", &alliance.pki()]);
    let _gateway = alliance.start(LIUZHOU.0).await;
    Watcher::new(&alliance, "partner/440600").await.turns(ServingStatus::NotServing).await;
    let rows = [
        ("450200/ops/chen", "partner/440600", true),
        ("440600/gateway", "partner/440600", true),
        ("640100/gateway", "partner/440600", false),
        ("450200/systems/window", "partner/440600", false),
        ("450200/systems/window", "", true),
        ("640100/gateway", EXCHANGE, true),
        ("450200/ops/chen", "partner/999001", false),
    ];
    for (who, service, known) in rows {
        let mut health = HealthClient::new(alliance.client_of(who, LIUZHOU.0).channel);
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await;
        let unknown = answer.as_ref().is_err_and(|status| status.code() == tonic::Code::NotFound);
        assert_eq!((answer.is_ok(), unknown), (known, !known), "{who} asks for {service:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_it_in_one_line() {
    let alliance = two_cities();
    let health = |arguments: &[&str]| {
        let config = alliance.config_path(LIUZHOU.0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
        let output = command.args(["--lang", "en", "health", "--config"]).arg(config).args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(health(&[]), (1, "UNREACHABLE tongban does not answer\n".to_owned()));
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    Watcher::new(&alliance, "partner/440600").await.turns(ServingStatus::NotServing).await;
    assert_eq!(health(&[]), (0, "SERVING tongban serves\n".to_owned()));
    let partner = health(&["--service", "partner/440600"]);
    assert_eq!(partner, (1, "NOT_SERVING partner/440600 does not serve\n".to_owned()));
    assert_eq!(health(&["--service", "nothing"]).0, 1);
}
