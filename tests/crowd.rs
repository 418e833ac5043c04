//! Many who are connected and do nothing, and some who ask for everything and read nothing: memory has a bound, and whoever
//! works is served as before.
//!
//! 400 idle connections unless `TONGBAN_CROWD` says another number; a party may have 512, so there are systems enough.

#[path = "support/alliance.rs"]
mod alliance;
#[path = "support/port.rs"]
mod port;
#[path = "support/process.rs"]
mod process;

use std::time::{Duration, Instant};

use alliance::{Alliance, Client, envelope, part};
use futures_util::future::join_all;
use process::Process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tongban::wire::pb::exchange as pb;

const CITY: &str = "450200";
const IDLE: usize = 400;
/// Connections of one system.
const EACH: usize = 500;
/// Bytes that a connection without calls may cost.
const CONNECTION_BYTES_MAX: u64 = 128 << 10;
/// Messages of one MiB that wait for those who do not read them, and how many do not.
const LARGE: usize = 40;
const READERS: usize = 8;
const READER_BYTES_MAX: u64 = 8 << 20;

/// The median time of an answer, of a hundred.
async fn answers(window: &Client) -> Duration {
    let mut took = vec![];
    for _ in 0..100 {
        let begun = Instant::now();
        window.submit(envelope((CITY, "window"), (CITY, "archive"))).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took[took.len() / 2]
}

fn room_for(descriptors: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum.map(|most| most.min(descriptors)), maximum: limit.maximum };
    setrlimit(Resource::Nofile, wanted).is_ok() && limit.maximum.is_none_or(|most| most >= descriptors)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_cost_little_and_slow_nobody_down() {
    let idle = std::env::var("TONGBAN_CROWD").map_or(IDLE, |idle| idle.parse().unwrap());
    if !room_for(idle as u64 + 1_000) {
        return println!("SKIPPED: {idle} idle connections: the limit of descriptors is too low");
    }
    let systems: Vec<String> = (0..=idle / EACH).map(|one| format!("crowd-{one}")).collect();
    let systems: Vec<&str> = systems.iter().map(String::as_str).chain(["window", "archive"]).collect();
    let alliance = process::alliance(&[(CITY, &systems)]);
    let gateway = Process::start(&alliance, CITY).await;
    let window = alliance.client(CITY, "window");
    answers(&window).await;
    let (alone, before) = (answers(&window).await, gateway.memory().0);
    let mut crowd = vec![];
    while crowd.len() < idle {
        let batch = (crowd.len()..idle.min(crowd.len() + 16)).map(|one| connected(&alliance, systems[one / EACH]));
        crowd.extend(join_all(batch).await);
    }
    let grown = gateway.memory().0.saturating_sub(before);
    let among = answers(&window).await;
    println!(
        "{idle} idle connections: {} bytes each, an answer in {alone:.1?} without them, {among:.1?} among them",
        grown / idle as u64
    );
    assert!(grown < idle as u64 * CONNECTION_BYTES_MAX, "{grown} bytes");
    assert!(among < alone * 3 + Duration::from_millis(5), "{alone:?} became {among:?}");
    // They are still there, and still served.
    for client in crowd.iter().step_by(97) {
        assert!(
            client.message("", &alliance::new_id()).await.is_err_and(|status| status.code() == tonic::Code::NotFound)
        );
    }
    gateway.stop().await;
}

/// A client whose connection stands: it has asked for something that is not there.
async fn connected(alliance: &Alliance, system: &str) -> Client {
    let client = alliance.client(CITY, system);
    let asked = client.message("", &alliance::new_id()).await;
    assert!(asked.is_err_and(|status| status.code() == tonic::Code::NotFound));
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_everything_and_reads_nothing_costs_a_bounded_room() {
    let alliance = process::alliance(&[(CITY, &["window", "archive", "large"])]);
    let gateway = Process::start(&alliance, CITY).await;
    let window = alliance.client(CITY, "window");
    for _ in 0..LARGE {
        let parts = vec![part("large.bin", &vec![7; 1_000_000])];
        window.submit(pb::Envelope { parts, ..envelope((CITY, "window"), (CITY, "large")) }).await.unwrap();
    }
    answers(&window).await;
    let (alone, before) = (answers(&window).await, gateway.memory().0);
    // Each opens the mailbox for more than there is, takes the head of the answer, and never reads on.
    let mailboxes = join_all((0..READERS).map(|_| async { alliance.client(CITY, "large").receive(64).await })).await;
    let among = answers(&window).await;
    let grown = gateway.memory().0.saturating_sub(before);
    println!(
        "{READERS} who do not read {LARGE} MiB: {} KiB each, an answer in {alone:.1?} without them, {among:.1?} among them",
        (grown >> 10) / READERS as u64
    );
    assert!(grown < READERS as u64 * READER_BYTES_MAX, "{grown} bytes");
    assert!(among < alone * 3 + Duration::from_millis(5), "{alone:?} became {among:?}");
    drop(mailboxes);
    // What they were given comes back, and goes to one who reads.
    let mut mailbox = alliance.client(CITY, "large").receive(1).await;
    for _ in 0..LARGE {
        let (delivery, _) = mailbox.delivery().await;
        mailbox.acknowledge(&delivery.delivery_id).await;
        assert!(mailbox.settled().await.receipt.is_some());
        mailbox.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
    }
    gateway.stop().await;
}
