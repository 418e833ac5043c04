//! Gateways killed with SIGKILL at a chosen system call: as the k-th write, sync, answer, rename or read of a named file
//! begins, while they start, serve and stop. What was answered is there after a normal start, and every message has its effect
//! once. Runs where strace can follow a process.
//!
//! One kill at each point unless `TONGBAN_CRASHES` says another number.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::alliance::{Alliance, Client, envelope};
use crate::book::{Book, FOSHAN, LIUZHOU, Receiver, Sent, all_is_whole, copy_store, end_the_rest, hire};
use crate::process::{self, Process, Times, takes_connections, until};
use crate::strace;
use rusqlite::Connection;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const CRASHES: usize = 1;
/// Further tries at a point, and as many again as there are kills, where it was not reached: who closes a stopping gateway's
/// store last, and thereby removes its log, is a matter of chance.
const SPARE: usize = 12;
const WRITERS: usize = 4;
/// Messages that are sent for one kill at most: to a recipient as many as it takes while it is waited for; before a stop as
/// many as make it move something.
const ANSWERS_MAX: usize = 300;
const RELAYED_MAX: usize = 64;
const BEFORE_STOP: usize = 16;
/// How long a point may take to be reached; then the gateway is killed anyhow.
const REACHED_IN: Duration = Duration::from_secs(8);

/// Where a gateway is killed.
struct Point {
    name: &'static str,
    city: &'static str,
    phase: Phase,
    /// System calls, as strace names them.
    calls: &'static str,
    /// The file of the store that they are about; any, if empty.
    file: &'static str,
    /// Which of them is the first to be killed at, how many later the next, and after how many kills it begins again.
    first: usize,
    step: usize,
    turns: usize,
}

impl Point {
    /// At which call the try of this number is killed.
    fn at(&self, number: usize) -> usize {
        self.first + number % self.turns * self.step
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

const fn point(
    name: &'static str,
    city: &'static str,
    phase: Phase,
    (calls, file): (&'static str, &'static str),
    (first, step, turns): (usize, usize, usize),
) -> Point {
    Point { name, city, phase, calls, file, first, step, turns }
}

const ORIGIN: &str = LIUZHOU.0;
const RECIPIENT: &str = FOSHAN.0;

/// In the order of a gateway's life.
const POINTS: [Point; 16] = [
    point("origin reads its store", ORIGIN, Phase::Starting, ("pread64", "store.db"), (1, 3, 4)),
    point("origin reads its log back", ORIGIN, Phase::Starting, ("pread64", "store.db-wal"), (1, 2, 4)),
    point("origin reads its mark", ORIGIN, Phase::Starting, ("read", "high-water.note"), (1, 0, 1)),
    point("origin writes the log", ORIGIN, Phase::Serving, ("pwrite64", "store.db-wal"), (3, 5, 16)),
    point("origin syncs the log", ORIGIN, Phase::Serving, (strace::SYNC, "store.db-wal"), (1, 1, 32)),
    point("origin answers or relays", ORIGIN, Phase::Serving, ("sendto,writev", ""), (6, 3, 16)),
    point("origin hears", ORIGIN, Phase::Serving, ("recvfrom", ""), (8, 5, 16)),
    point("origin writes its mark", ORIGIN, Phase::Serving, ("write", "high-water.new"), (1, 0, 1)),
    point("origin syncs its mark", ORIGIN, Phase::Serving, ("fsync", "high-water.new"), (1, 0, 1)),
    point("origin renames its mark", ORIGIN, Phase::Serving, ("rename", "high-water.new"), (1, 0, 1)),
    point("recipient writes the log", RECIPIENT, Phase::Serving, ("pwrite64", "store.db-wal"), (3, 5, 16)),
    point("recipient syncs the log", RECIPIENT, Phase::Serving, (strace::SYNC, "store.db-wal"), (1, 1, 16)),
    point("recipient answers or delivers", RECIPIENT, Phase::Serving, ("sendto,writev", ""), (6, 2, 8)),
    point("origin moves the log into the store", ORIGIN, Phase::Stopping, ("pwrite64", "store.db"), (1, 4, 4)),
    point("origin syncs the store", ORIGIN, Phase::Stopping, (strace::SYNC, "store.db"), (1, 0, 1)),
    point("origin removes the log", ORIGIN, Phase::Stopping, ("unlink", "store.db-wal"), (1, 0, 1)),
];

fn crashes() -> usize {
    std::env::var("TONGBAN_CRASHES").map_or(CRASHES, |crashes| crashes.parse().unwrap())
}

/// Two gateways, what was sent and what was received, and how often each was killed.
struct Scene {
    alliance: Alliance,
    origin: Option<Process>,
    recipient: Option<Process>,
    receiver: Receiver,
    book: Book,
    /// From a start after a kill until connections are taken.
    serving: Times,
    /// From that start until all that was sent around the kill is confirmed; after kills of the origin, and of the recipient,
    /// which the origin dials again after a rest.
    whole: [Times; 2],
}

impl Scene {
    async fn new() -> Scene {
        let alliance = process::alliance(&[(LIUZHOU.0, &[LIUZHOU.1]), (FOSHAN.0, &[FOSHAN.1])]);
        hire(&alliance, ORIGIN);
        let recipient = Process::start(&alliance, RECIPIENT).await;
        let receiver = Receiver::open(&alliance).await;
        let origin = Process::start(&alliance, ORIGIN).await;
        let mut book = Book::default();
        for _ in 0..10 {
            book.write_one(&alliance.client(LIUZHOU.0, LIUZHOU.1)).await;
        }
        // A clean stop leaves a mark for the starts that follow.
        origin.stop().await;
        let origin = Process::start(&alliance, ORIGIN).await;
        let (origin, recipient) = (Some(origin), Some(recipient));
        Scene { alliance, origin, recipient, receiver, book, serving: Times::default(), whole: Default::default() }
    }

    fn gateway(&mut self, city: &str) -> &mut Option<Process> {
        if city == ORIGIN { &mut self.origin } else { &mut self.recipient }
    }

    /// Kills the gateway at the `k`-th call of a point; whether the point was reached.
    async fn crash_at(&mut self, point: &Point, k: usize) -> bool {
        if point.phase == Phase::Starting {
            // What a start reads back from the log must be in it: a clean stop would have moved it into the store.
            self.book.write_one(&self.alliance.client(LIUZHOU.0, LIUZHOU.1)).await;
        }
        let running = self.gateway(point.city).take().unwrap();
        match point.phase {
            Phase::Starting => drop(running),
            Phase::Serving | Phase::Stopping => running.stop().await,
        }
        let file = self.alliance.config(point.city).data.join(point.file);
        let file = (!point.file.is_empty()).then_some(file.as_path());
        let wrapper = strace::inject(point.calls, &format!("signal=KILL:when={k}"), file);
        let mut process = Process::spawn(&self.alliance, point.city, &wrapper);
        let address = self.alliance.config(point.city).listen;
        until("the gateway serves or is gone", async || process.is_gone() || takes_connections(address).await).await;
        let before = self.book.0.len();
        if point.phase != Phase::Starting {
            if point.city == RECIPIENT {
                self.receiver.try_open_again(&self.alliance).await;
                end_the_rest(&self.alliance, ORIGIN, RECIPIENT).await;
            }
            self.send_until_gone(point, &mut process).await;
        }
        // A gateway that stopped by itself was not reached either.
        let reached = process.was_killed();
        process.kill();
        store_is_sound(&self.alliance.config(point.city).data);
        let begun = Instant::now();
        let again = Process::start(&self.alliance, point.city).await;
        self.serving.since(begun);
        *self.gateway(point.city) = Some(again);
        if point.city == RECIPIENT {
            self.receiver.open_again(&self.alliance).await;
        }
        let window = self.alliance.client(LIUZHOU.0, LIUZHOU.1);
        self.book.send_again(&window, before).await;
        for sent in &self.book.0[before..] {
            window.until("", sent.id(), pbe::State::Confirmed).await;
        }
        self.whole[usize::from(point.city == RECIPIENT)].since(begun);
        reached
    }

    /// Writers send until the gateway is gone, or enough was answered; a stopping gateway is stopped under them.
    async fn send_until_gone(&mut self, point: &Point, process: &mut Process) {
        let window = self.alliance.client(LIUZHOU.0, LIUZHOU.1);
        let enough = match (point.phase, point.city) {
            (Phase::Stopping, _) => BEFORE_STOP,
            (_, RECIPIENT) => RELAYED_MAX,
            _ => ANSWERS_MAX,
        };
        let (told, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let writers = (0..WRITERS).map(|case| {
            let case = format!("CASE-{}-{case}", self.book.0.len());
            let (answered, told) = (answered.clone(), told.clone());
            tokio::spawn(write_until_told(window.clone(), case, enough, answered, told))
        });
        let writers: Vec<_> = writers.collect();
        let begun = Instant::now();
        until("the gateway is gone, has answered enough, or had its time", async || {
            let answered = answered.load(Ordering::Relaxed) >= enough;
            process.is_gone() || answered && (point.city == ORIGIN || begun.elapsed() > REACHED_IN)
        })
        .await;
        if point.phase == Phase::Stopping {
            process.terminate();
            let _ = process.ended().await;
        }
        told.store(true, Ordering::Relaxed);
        for writer in writers {
            self.book.0.extend(writer.await.unwrap());
        }
    }
}

/// Submits one message of a case after the other until there are enough, it is told to stop, or an answer fails to come.
async fn write_until_told(
    window: Client,
    case_no: String,
    enough: usize,
    answered: Arc<AtomicUsize>,
    told: Arc<AtomicBool>,
) -> Vec<Sent> {
    let mut sent = vec![];
    while !told.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) < enough {
        let envelope = pb::Envelope { case_no: case_no.clone(), ..envelope(LIUZHOU, FOSHAN) };
        let receipt = window.submit(envelope.clone()).await.ok();
        let ended = receipt.is_none();
        sent.push(Sent { envelope, receipt });
        if ended {
            break;
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    sent
}

/// The database of a gateway that is gone, with its log, passes SQLite's own examination; read from a copy.
fn store_is_sound(store: &Path) {
    let copy = store.with_extension("copy");
    copy_store(store, &copy);
    let database = Connection::open(copy.join("store.db")).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_at_any_named_point_keeps_what_it_answered() {
    if !strace::can_trace() {
        return println!("SKIPPED: kills at named points: strace cannot follow a process here");
    }
    let (begun, mut scene, mut kills) = (Instant::now(), Scene::new().await, 0);
    for point in &POINTS {
        let (mut tries, mut reached) = (0, vec![]);
        while reached.len() < crashes() && tries < 2 * crashes() + SPARE {
            let at = point.at(tries);
            reached.extend(scene.crash_at(point, at).await.then_some(at));
            tries += 1;
        }
        let (first, last) = (reached.iter().min(), reached.iter().max());
        let (first, last) = first.zip(last).unwrap_or_else(|| panic!("{} was never reached", point.name));
        println!("{}: {} kills in {tries} tries, at its calls {first} to {last}", point.name, reached.len());
        kills += reached.len();
    }
    let killed = begun.elapsed();
    all_is_whole(&scene.alliance, &scene.book).await;
    scene.receiver.took_each_case_in_order(&scene.book);
    println!(
        "{kills} kills at {} points in {killed:.1?}: {} messages, none lost, none doubled; whole after {:.1?}",
        POINTS.len(),
        scene.book.0.len(),
        begun.elapsed()
    );
    println!("from a start after a kill until it serves: {}", scene.serving);
    println!("until all is confirmed, origin killed: {}", scene.whole[0]);
    println!("until all is confirmed, recipient killed: {}", scene.whole[1]);
}
