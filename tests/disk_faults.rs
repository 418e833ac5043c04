//! A disk that fails, is full, or is slow, under real gateways: no answer without the disk's word, a typed refusal, and a
//! start that finds everything that was answered.

#[path = "support/alliance.rs"]
mod alliance;
#[path = "support/book.rs"]
mod book;
#[path = "support/mount.rs"]
mod mount;
#[path = "support/port.rs"]
mod port;
#[path = "support/process.rs"]
mod process;
#[path = "support/strace.rs"]
mod strace;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use alliance::{Alliance, Client, envelope, reason};
use book::{Book, FOSHAN, LIUZHOU, Receiver, Sent, all_is_whole};
use futures_util::future::join_all;
use mount::mount;
use process::{Process, until};
use tokio::sync::Mutex;
use tongban::wire::pb::evidence as pbe;

/// How often each fault of a sync is played, unless `TONGBAN_SYNC_FAULTS` says another number.
const SYNC_FAULTS: usize = 2;
/// A message is answered by the next commit but one: that is twice the delay of one sync, and the work between.
const SYNC_DELAY: Duration = Duration::from_millis(200);
const WRITERS: usize = 200;

/// What is measured here would measure the others.
static ALONE: Mutex<()> = Mutex::const_new(());

fn two_cities() -> Alliance {
    process::alliance(&[(LIUZHOU.0, &[LIUZHOU.1, "archive"]), (FOSHAN.0, &[FOSHAN.1])])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_the_last_one_and_what_was_answered_is_there() {
    let _alone = ALONE.lock().await;
    if !strace::can_trace() {
        return println!("SKIPPED: syncs that fail: strace cannot follow a process here");
    }
    let alliance = two_cities();
    let store = alliance.config(LIUZHOU.0).data;
    let (database, log, told) = (store.join("store.db"), store.join("store.db-wal"), alliance.folder.join("told"));
    let rounds = std::env::var("TONGBAN_SYNC_FAULTS").map_or(SYNC_FAULTS, |rounds| rounds.parse().unwrap());
    let (mut book, mut answered, mut ended) = (Book::default(), 0, 0);
    // The store is made before anything fails.
    let first = Process::start(&alliance, LIUZHOU.0).await;
    book.write_one(&alliance.client(LIUZHOU.0, LIUZHOU.1)).await;
    first.stop().await;
    for round in 0..rounds {
        // Once, and then for ever: a second sync that succeeds must not count for what the first one lost.
        for forever in ["", "+"] {
            let fault = format!("error=EIO:when={}{forever}", 3 + round * 2);
            let wrapper = strace::inject_told(strace::SYNC, &fault, &[&log, &database], &told);
            let mut gateway = Process::start_under(&alliance, LIUZHOU.0, &wrapper).await;
            let (before, window) = (book.0.len(), alliance.client(LIUZHOU.0, LIUZHOU.1));
            loop {
                let envelope = envelope(LIUZHOU, (LIUZHOU.0, "archive"));
                let receipt = window.submit(envelope.clone()).await.ok();
                let failed = receipt.is_none();
                book.0.push(Sent { envelope, receipt });
                if failed {
                    break;
                }
            }
            assert!(window.submit(envelope(LIUZHOU, FOSHAN)).await.is_err(), "nothing is answered after it");
            let (status, took) = gateway.ended().await;
            assert_eq!(status.code(), Some(74), "{}", gateway.said());
            assert!(took < Duration::from_secs(5), "{took:?}");
            nothing_follows_the_failed_sync(&told).await;
            answered += book.0.len() - before - 1;
            ended += 1;
            let again = Process::start(&alliance, LIUZHOU.0).await;
            book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), before).await;
            again.stop().await;
        }
    }
    let _gateway = Process::start(&alliance, LIUZHOU.0).await;
    book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), 0).await;
    println!("{ended} gateways ended by a failed sync: {answered} answers before, all there; none after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_database_that_fails_stops_the_gateway_and_what_was_answered_is_there() {
    let _alone = ALONE.lock().await;
    if !strace::can_trace() {
        return println!("SKIPPED: syncs of the database that fail: strace cannot follow a process here");
    }
    let alliance = two_cities();
    let (database, told) = (alliance.config(LIUZHOU.0).data.join("store.db"), alliance.folder.join("told"));
    let mut book = Book::default();
    let first = Process::start(&alliance, LIUZHOU.0).await;
    book.write_one(&alliance.client(LIUZHOU.0, LIUZHOU.1)).await;
    first.stop().await;
    // The log is copied beside the ledger, whose own syncs are all of the log.
    let wrapper = strace::inject_told(strace::SYNC, "error=EIO:when=1", &[&database], &told);
    let mut gateway = Process::start_under(&alliance, LIUZHOU.0, &wrapper).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    until("nothing is answered any more", async || {
        let envelope = envelope(LIUZHOU, (LIUZHOU.0, "archive"));
        let receipt = window.submit(envelope.clone()).await.ok();
        let failed = receipt.is_none();
        book.0.push(Sent { envelope, receipt });
        failed
    })
    .await;
    let (status, took) = gateway.ended().await;
    assert_eq!(status.code(), Some(74), "{}", gateway.said());
    assert!(took < Duration::from_secs(5), "{took:?}");
    nothing_follows_the_failed_sync(&told).await;
    let _again = Process::start(&alliance, LIUZHOU.0).await;
    book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), 0).await;
    println!("{} answers before the log was copied, all there", book.0.len() - 1);
}

/// After a sync that failed, pages may count as written that are not: neither the log nor the database is touched again.
async fn nothing_follows_the_failed_sync(told: &Path) {
    let mut text = String::new();
    until("all is told", async || {
        text = std::fs::read_to_string(told).unwrap();
        text.trim_end().ends_with("+++ exited with 74 +++")
    })
    .await;
    let (_, after) = text.split_once("(INJECTED)").expect("a sync failed");
    let touched: Vec<_> = after.lines().filter(|line| line.contains("store.db")).collect();
    assert!(touched.is_empty(), "{touched:#?}");
}

/// Fills the file system until it takes no byte more, but for `left`.
fn fill(folder: &Path, left: u64) {
    let mut filler = File::create(folder.join("filler")).unwrap();
    let block = vec![7; 1 << 20];
    while filler.write_all(&block).is_ok() {}
    while filler.write_all(&block[..512]).is_ok() {}
    let length = filler.metadata().unwrap().len();
    filler.set_len(length.saturating_sub(left)).unwrap();
}

/// Whether a message is taken, and written down; else it is refused by the name that a full disk has.
async fn taken(window: &Client, book: &mut Book) -> bool {
    let envelope = envelope(LIUZHOU, FOSHAN);
    match window.submit(envelope.clone()).await {
        Ok(receipt) => book.0.push(Sent { envelope, receipt: Some(receipt) }),
        Err(status) => {
            assert_eq!((status.code(), reason(&status)), (tonic::Code::ResourceExhausted, "STORE_FULL".to_owned()));
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_by_name_lets_the_rest_go_on_and_needs_no_restart() {
    let _alone = ALONE.lock().await;
    let alliance = two_cities();
    let store = alliance.config(LIUZHOU.0).data;
    let Some(_mount) = mount(&["-t", "tmpfs", "-o", "size=600m", "tmpfs"], &store) else { return };
    let mut gateway = Process::start(&alliance, LIUZHOU.0).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let mut book = Book::default();
    for left in [100 << 20, 0] {
        // The partner is away: what was taken waits.
        book.write_one(&window).await;
        fill(&store, left);
        until("new messages are refused", async || !taken(&window, &mut book).await).await;
        let last = book.0.last().unwrap();
        assert!(window.message("", last.id()).await.is_ok(), "what is there is read");
        assert!(window.evidence("", last.id()).await.contains(last.receipt.as_ref().unwrap()));
        assert!(!gateway.is_gone(), "{}", gateway.said());
        if left > 0 {
            // Nearly full: what was taken goes on to its end.
            let _foshan = Process::start(&alliance, FOSHAN.0).await;
            let receiver = Receiver::open(&alliance).await;
            receiver.settles(&book).await;
            window.until("", last.id(), pbe::State::Confirmed).await;
        }
        std::fs::remove_file(store.join("filler")).unwrap();
        let freed = Instant::now();
        until("new messages are taken", async || taken(&window, &mut book).await).await;
        println!("with {left} bytes left refused by name; taken again {:.1?} after there was room", freed.elapsed());
        assert!(freed.elapsed() < Duration::from_secs(5));
    }
    let _foshan = Process::start(&alliance, FOSHAN.0).await;
    let _receiver = Receiver::open(&alliance).await;
    all_is_whole(&alliance, &book).await;
}

/// Sends one message after the other until the time is over; how long each answer took.
async fn answers(window: Client, until: Instant) -> Vec<Duration> {
    let mut took = vec![];
    while Instant::now() < until {
        let begun = Instant::now();
        window.submit(envelope(LIUZHOU, (LIUZHOU.0, "archive"))).await.unwrap();
        took.push(begun.elapsed());
    }
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_makes_batches_larger_and_not_answers_rarer() {
    let _alone = ALONE.lock().await;
    if !strace::can_trace() {
        return println!("SKIPPED: a slow disk: strace cannot follow a process here");
    }
    let alliance = two_cities();
    let log = alliance.config(LIUZHOU.0).data.join("store.db-wal");
    let slow = format!("delay_enter={}", SYNC_DELAY.as_micros());
    let gateway = Process::start_under(&alliance, LIUZHOU.0, &strace::inject(strace::SYNC, &slow, Some(&log))).await;
    let time = Duration::from_secs(3);
    // A connection has 128 calls at a time.
    let windows: Vec<_> = (0..4).map(|_| alliance.client(LIUZHOU.0, LIUZHOU.1)).collect();
    let writers = (0..WRITERS).map(|writer| answers(windows[writer % 4].clone(), Instant::now() + time));
    let mut took: Vec<Duration> = join_all(writers).await.into_iter().flatten().collect();
    took.sort_unstable();
    let (count, p50, p99) = (took.len(), took[took.len() / 2], took[took.len() * 99 / 100]);
    let per_sync = count as f64 * SYNC_DELAY.as_secs_f64() / time.as_secs_f64();
    println!(
        "{SYNC_DELAY:?} for each sync, {WRITERS} writers: {count} answers in {time:?}, {per_sync:.0} for each sync's time, \
         p50 {p50:.0?}, p99 {p99:.0?}"
    );
    // One at a time there would be 15; nobody waits for more than the commit under way and its own.
    assert!(per_sync > WRITERS as f64 / 8.0, "a commit takes all that waits");
    assert!(p50 >= SYNC_DELAY, "the disk is slow");
    assert!(p99 < SYNC_DELAY * 8, "{p99:?}");
    gateway.stop().await;
}
