//! A running gateway whose clock jumps, forward, back and a little back: the log's time never runs backwards, every message
//! has its effect once, and `check` names a clock that is behind what was signed. Clocks that go back need libfaketime.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::alliance::{Alliance, check, envelope, reason};
use crate::process::{self, Process};
use tongban::clock::Clock;
use tongban::evidence::Event;
use tongban::limits::{CLOCK_BACK_MS_MAX, HOUR_MS, ID_WINDOW_MS};
use tongban::time::Time;
use tongban::wire::envelope::time_to_wire;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
const ARCHIVE: (&str, &str) = ("450200", "archive");
/// By how many seconds the gateway's clock is wrong, one after the other.
const JUMPS: [i64; 7] = [0, 3_600, 0, -3_600, -2, 86_400, 0];
const MESSAGES: usize = 5;

/// The library that puts a process's clock wrong.
fn library() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let paths = folders.map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.exists())
}

/// A clock that its file puts wrong, for processes that run under it.
struct WrongClock {
    library: PathBuf,
    file: PathBuf,
    seconds: i64,
}

impl WrongClock {
    fn jump(&mut self, seconds: i64) {
        self.seconds = seconds;
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n")).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    fn now(&self) -> Time {
        let right = Clock::default().now().ms().cast_signed();
        Time::from_ms((right + self.seconds * 1_000).cast_unsigned())
    }

    fn words(&self) -> [String; 5] {
        [
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            // Pauses and deadlines go by the machine's uptime, which no clock change touches.
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }
}

/// What `tongban check` says of the clock.
fn examined(alliance: &Alliance, clock: &WrongClock) -> String {
    let words = clock.words();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_tongban"));
    command.args(["--lang", "en", "check", "--only", "host.clock,directory,store", "--output", "json", "--config"]);
    let output = command.arg(alliance.config_path(LIUZHOU.0)).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_leaves_every_message_once_and_the_logs_time_in_order() {
    let Some(library) = library() else {
        return println!("SKIPPED: clocks that jump: libfaketime is not installed");
    };
    let alliance = process::alliance(&[("450200", &[LIUZHOU.1, ARCHIVE.1])]);
    let mut clock = WrongClock { library, file: alliance.folder.join("clock"), seconds: 0 };
    clock.jump(0);
    let gateway = Process::start_under(&alliance, LIUZHOU.0, &clock.words()).await;
    let (window, archive) = (alliance.client(LIUZHOU.0, LIUZHOU.1), alliance.client(ARCHIVE.0, ARCHIVE.1));
    let (mut checker, mut book, mut times) = (alliance.checker(), vec![], vec![]);
    let mut furthest = 0;
    for seconds in JUMPS {
        clock.jump(seconds);
        for _ in 0..MESSAGES {
            let envelope = pb::Envelope { created_at: Some(time_to_wire(clock.now())), ..envelope(LIUZHOU, ARCHIVE) };
            let receipt = window.submit(envelope.clone()).await.unwrap();
            let checked = check(&mut checker, receipt.clone());
            let place = checked.receipt.proof.index;
            times.push((place, checked.evidence.at));
            // While time is ahead of the clock, the log writes the newest time it had.
            let (at, now) = (checked.evidence.at, clock.now());
            assert!(at >= now.minus_ms(1_000), "{seconds}: {at} at {now}");
            book.push((envelope, receipt));
        }
        let told = examined(&alliance, &clock);
        furthest = furthest.max(seconds);
        let behind = (furthest - seconds) * 1_000 > CLOCK_BACK_MS_MAX.cast_signed();
        assert_eq!(told.contains("clock_behind"), behind, "{seconds}: {told}");
    }
    times.sort_unstable_by_key(|(place, _)| *place);
    assert!(times.is_sorted_by_key(|(_, at)| *at), "the log's time runs backwards: {times:?}");
    for seconds in [furthest, 0] {
        clock.jump(seconds);
        for (envelope, receipt) in &book {
            assert_eq!(
                window.submit(envelope.clone()).await.unwrap(),
                *receipt,
                "the same again gets the same receipt"
            );
        }
    }

    // The first delivery's lease ends by a jump, and the message comes again; all are handed over once.
    let mut mailbox = archive.receive(1).await;
    let (first, _) = mailbox.delivery().await;
    clock.jump(furthest + 7_200);
    let mut taken = HashSet::new();
    let mut again = archive.receive(1).await;
    while taken.len() < book.len() {
        let (delivery, message) = again.delivery().await;
        assert!(taken.insert(message.envelope.unwrap().message_id), "handed over twice");
        again.acknowledge(&delivery.delivery_id).await;
        assert!(again.settled().await.receipt.is_some());
        again.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
    }
    mailbox.acknowledge(&first.delivery_id).await;
    for (envelope, _) in &book {
        let receipts = window.evidence("", &envelope.message_id).await;
        let checked = receipts.into_iter().map(|receipt| check(&mut checker, receipt));
        assert_eq!(checked.filter(|checked| checked.evidence.event == Event::HandedOver).count(), 1);
    }
    gateway.stop().await;
    let again = Process::start_under(&alliance, LIUZHOU.0, &clock.words()).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    assert_eq!(window.submit(book[0].0.clone()).await.unwrap(), book[0].1);
    again.stop().await;
    println!("{} messages through {} jumps: each handed over once, the log's time in order", book.len(), JUMPS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_message_gets_its_receipt_however_wrong_the_clock_is() {
    let alliance = Alliance::new(&[("450200", &[LIUZHOU.1, ARCHIVE.1])]);
    let (config, clock) = (alliance.config(LIUZHOU.0), Clock::default());
    clock.advance(HOUR_MS);
    let gateway = alliance.start_by(&config, clock.clone()).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let written = |at| pb::Envelope { created_at: Some(time_to_wire(at)), ..envelope(LIUZHOU, ARCHIVE) };
    let (early, old) = (clock.now(), clock.now().minus_ms(ID_WINDOW_MS - 60_000));
    let (first, last) = (written(early), written(old));
    let receipts = [window.submit(first.clone()).await.unwrap(), window.submit(last.clone()).await.unwrap()];

    clock.advance(HOUR_MS);
    assert_eq!(window.submit(last).await.unwrap(), receipts[1], "known, though ids of its day are no longer taken");
    let refused = window.submit(written(old)).await.unwrap_err();
    assert_eq!(reason(&refused), "ID_TOO_OLD");
    gateway.stop().await;

    // Its next life is two hours behind.
    let gateway = alliance.start_by(&config, Clock::default()).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    assert_eq!(window.submit(first).await.unwrap(), receipts[0], "known, though it seems to come from the future");
    let refused = window.submit(written(early)).await.unwrap_err();
    assert_eq!(reason(&refused), "CLOCK_AHEAD");
    gateway.stop().await;
}
