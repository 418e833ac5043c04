//! Gateways killed with SIGKILL at the worst moments: what was answered is there after a normal start, and every message
//! has its effect once. The sender's and the receiver's own books stand in the test, outside the processes that die.

#[path = "support/alliance.rs"]
mod alliance;
#[path = "support/book.rs"]
mod book;
#[path = "support/port.rs"]
mod port;
#[path = "support/process.rs"]
mod process;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use alliance::{Alliance, Client, envelope};
use book::{Book, FOSHAN, LIUZHOU, Receiver, Sent, all_is_whole, copy_store, end_the_rest, handovers, hire, write};
use process::{Process, Times, let_work, until};
use rusqlite::Connection;
use tokio::sync::mpsc;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

/// Kills in each loop, unless TONGBAN_KILLS says another number.
const KILLS: usize = 50;
/// A kill at random comes within so many microseconds.
const SOON_US: u64 = 30_000;
const WRITERS: usize = 4;

fn kills() -> usize {
    std::env::var("TONGBAN_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

/// Any moment from now on, before long.
async fn any_moment() {
    let chance = u64::from_le_bytes(tongban::chance::bytes().unwrap());
    let_work(Duration::from_micros(chance % SOON_US)).await;
}

fn two_cities() -> Alliance {
    let alliance = process::alliance(&[(LIUZHOU.0, &[LIUZHOU.1]), (FOSHAN.0, &[FOSHAN.1])]);
    hire(&alliance, FOSHAN.0);
    alliance
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_right_after_an_answer_or_at_any_moment_keeps_all_that_was_answered() {
    let alliance = two_cities();
    let _foshan = Process::start(&alliance, FOSHAN.0).await;
    let receiver = Receiver::open(&alliance).await;
    let mut liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let (begun, mut book, mut answered, mut starts) = (Instant::now(), Book::default(), 0, Times::default());
    for kill in 0..kills() {
        let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
        let (answers, mut heard) = mpsc::unbounded_channel();
        let writers =
            (0..WRITERS).map(|case| tokio::spawn(write(window.clone(), format!("CASE-{case}"), answers.clone())));
        let writers: Vec<_> = writers.collect();
        for _ in 0..=kill % 7 {
            heard.recv().await.unwrap();
        }
        if kill % 2 == 1 {
            any_moment().await;
        }
        liuzhou.kill();
        let before = book.0.len();
        for writer in writers {
            book.0.extend(writer.await.unwrap());
        }
        answered += book.0[before..].iter().filter(|sent| sent.receipt.is_some()).count();
        let restarted = Instant::now();
        liuzhou = Process::start(&alliance, LIUZHOU.0).await;
        starts.since(restarted);
        book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), before).await;
    }
    let killed = begun.elapsed();
    book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), 0).await;
    receiver.settles(&book).await;
    // The more often an origin was gone, the longer its partner rests before the next receipts.
    end_the_rest(&alliance, FOSHAN.0, LIUZHOU.0).await;
    receiver.took_each_case_in_order(&book);
    all_is_whole(&alliance, &book).await;
    println!(
        "{} kills of the origin in {killed:.1?}: {} messages, {answered} answered before the kill, {} deliveries, \
         whole after {:.1?}; start until it serves {starts}",
        kills(),
        book.0.len(),
        receiver.seen.lock().unwrap().deliveries,
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_killed_between_delivery_and_settlement_hands_over_once() {
    let alliance = two_cities();
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let mut foshan = Process::start(&alliance, FOSHAN.0).await;
    let (begun, window) = (Instant::now(), alliance.client(LIUZHOU.0, LIUZHOU.1));
    let mut book = Book((0..kills()).map(|_| Sent { envelope: envelope(LIUZHOU, FOSHAN), receipt: None }).collect());
    book.send_again(&window, 0).await;
    for sent in &book.0 {
        window.until("", sent.id(), pbe::State::Consigned).await;
    }

    let (mut again, mut settled_by_then, mut taken, mut starts) = (0, 0, HashSet::new(), Times::default());
    for kill in 0..kills() {
        let mut mailbox = alliance.client(FOSHAN.0, FOSHAN.1).receive(1).await;
        let (delivery, message) = mailbox.delivery().await;
        let id = message.envelope.unwrap().message_id;
        assert!(taken.insert(id.clone()), "{id} was settled and came again");
        // Before the acknowledgement, as it leaves, and at any moment of its way to the disk and back.
        if kill % 3 > 0 {
            mailbox.acknowledge(&delivery.delivery_id).await;
            let_work(Duration::from_micros(200 * (kill % 25) as u64)).await;
        }
        foshan.kill();
        let restarted = Instant::now();
        foshan = Process::start(&alliance, FOSHAN.0).await;
        starts.since(restarted);
        let approval = alliance.client(FOSHAN.0, FOSHAN.1);
        if handovers(&mut alliance.checker(), &approval, &id).await == 1 {
            settled_by_then += 1;
            continue;
        }
        let mut mailbox = approval.receive(1).await;
        let (delivery, message) = mailbox.delivery().await;
        assert_eq!(message.envelope.unwrap().message_id, id, "what was not settled comes again, first");
        mailbox.acknowledge(&delivery.delivery_id).await;
        assert!(mailbox.settled().await.receipt.is_some());
        again += 1;
    }
    assert_eq!(taken.len(), kills());
    assert!(again >= kills() / 3 && settled_by_then > 0, "both sides of the commit were met");
    let killed = begun.elapsed();
    all_is_whole(&alliance, &book).await;
    println!(
        "{} kills of the recipient in {killed:.1?}: {again} delivered again, {settled_by_then} settled by then, \
         whole after {:.1?}; start until it serves {starts}",
        kills(),
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_before_it_knows_that_custody_has_passed_relays_once() {
    let alliance = two_cities();
    let foshan = Process::start(&alliance, FOSHAN.0).await;
    let receiver = Receiver::open(&alliance).await;
    let mut liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let (begun, mut book, mut in_doubt, mut starts) = (Instant::now(), Book::default(), 0, Times::default());
    for _ in 0..kills() {
        let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
        let before = book.write_one(&window).await;
        receiver.settles(&book).await;
        // The line stands. The partner pauses; what is sent to it waits in its sockets, and what it answers then finds
        // the origin paused.
        foshan.pause().await;
        for _ in 0..8 {
            book.write_one(&window).await;
        }
        let address = alliance.config(FOSHAN.0).listen;
        until("messages wait before the partner", async || process::unread(address) > 4_000).await;
        liuzhou.pause().await;
        foshan.resume();
        until("the partner hands over", async || receiver.effects() > before + 1).await;
        liuzhou.kill();
        let queued = queued(&alliance.config(LIUZHOU.0).data);
        let taken = receiver.seen.lock().unwrap().known.clone();
        let doubt = queued.iter().filter(|id| taken.contains(*id)).count();
        assert!(doubt > 0, "the partner has what the origin does not know it has");
        in_doubt += doubt;
        let restarted = Instant::now();
        liuzhou = Process::start(&alliance, LIUZHOU.0).await;
        starts.since(restarted);
    }
    let killed = begun.elapsed();
    book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), 0).await;
    receiver.settles(&book).await;
    end_the_rest(&alliance, FOSHAN.0, LIUZHOU.0).await;
    all_is_whole(&alliance, &book).await;
    println!(
        "{} kills of the origin in {killed:.1?}, each before it knew that custody had passed: {} messages, {in_doubt} in \
         doubt, whole after {:.1?}; start until it serves {starts}",
        kills(),
        book.0.len(),
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_told_to_stop_under_load_answers_what_it_accepts_and_keeps_what_it_answered() {
    let alliance = two_cities();
    let mut liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    // One that listens and says nothing, and one that never says what it wants.
    let _idle = window.receive(8).await;
    let (_silent, stream) = mpsc::channel::<pb::ReceiveRequest>(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let _waiting = window.exchange.clone().receive(stream).await.unwrap();
    let (answers, mut heard) = mpsc::unbounded_channel();
    let writers = (0..16).map(|case| {
        let client = alliance.client(LIUZHOU.0, LIUZHOU.1);
        tokio::spawn(write(client, format!("CASE-{case}"), answers.clone()))
    });
    let writers: Vec<_> = writers.collect();
    let streaming = tokio::spawn(write_stream(window, answers));
    for _ in 0..1_000 {
        heard.recv().await.unwrap();
    }
    liuzhou.terminate();
    let (status, took) = liuzhou.ended().await;
    assert!(status.success(), "{status}: {}", liuzhou.said());
    assert!(took < Duration::from_secs(10), "{took:?}, though no call needs that long: {}", liuzhou.said());
    let mut book = Book(streaming.await.unwrap());
    for writer in writers {
        book.0.extend(writer.await.unwrap());
    }
    let answered: HashSet<_> =
        book.0.iter().filter(|sent| sent.receipt.is_some()).map(|sent| sent.id().to_owned()).collect();
    let stored: HashSet<_> = queued(&alliance.config(LIUZHOU.0).data).into_iter().collect();
    assert_eq!(answered.difference(&stored).count(), 0, "what was answered is stored");
    assert_eq!(stored.difference(&answered).count(), 0, "what was accepted is answered");
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), 0).await;
    println!(
        "stopped under load in {took:.1?}: {} sent, {} answered, {} stored",
        book.0.len(),
        answered.len(),
        stored.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_store_is_refused_within_a_second() {
    let alliance = two_cities();
    let liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    let second = process::refused(&alliance, LIUZHOU.0).await;
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(second.took < Duration::from_secs(1), "{second:?}");
    let store = alliance.config(LIUZHOU.0).data.display().to_string();
    assert!(second.said.contains(&store), "it names the store: {second:?}");
    Book::default().write_one(&alliance.client(LIUZHOU.0, LIUZHOU.1)).await;
    liuzhou.stop().await;
    Process::start(&alliance, LIUZHOU.0).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_put_back_from_an_older_copy_is_refused() {
    let alliance = two_cities();
    let store = alliance.config(LIUZHOU.0).data;
    let (old, new, mark) = (store.with_extension("old"), store.with_extension("new"), store.join("high-water.note"));
    let mut book = Book::default();
    write_some(&alliance, &mut book).await;
    copy_store(&store, &old);
    write_some(&alliance, &mut book).await;
    copy_store(&store, &new);

    copy_store(&old, &store);
    std::fs::copy(new.join("high-water.note"), &mark).unwrap();
    let behind = process::refused(&alliance, LIUZHOU.0).await;
    assert_eq!(behind.code, Some(65), "{behind:?}");
    assert!(behind.said.contains("put back from an older copy"), "{behind:?}");

    // Without the mark the old copy goes on, to another history of the same length: the mark of the first one tells.
    std::fs::remove_file(&mark).unwrap();
    write_some(&alliance, &mut Book::default()).await;
    std::fs::copy(new.join("high-water.note"), &mark).unwrap();
    let forked = process::refused(&alliance, LIUZHOU.0).await;
    assert_eq!(forked.code, Some(65), "{forked:?}");
    assert!(forked.said.contains("different roots"), "{forked:?}");

    copy_store(&new, &store);
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), 0).await;
}

/// A byte flipped in a stopped store: in which column of which row, and what the gateway says of it.
const FLIPPED: [(&str, &str, &str); 6] = [
    ("tree.edge", "one = 1", "another root"),
    ("leaf.hash", "idx = (SELECT max(idx) FROM leaf)", "another root"),
    ("leaf.hash", "idx = 0", "another root"),
    ("leaf.bytes", "idx = (SELECT max(idx) FROM leaf)", "not what its hash says"),
    ("leaf.bytes", "idx = 0", "not what its hash says"),
    ("checkpoint.note", "size = (SELECT size FROM tree)", "does not lead to its own checkpoint"),
];

/// Something else changed in it.
const CHANGED: [(&str, &str); 4] = [
    ("UPDATE tree SET size = size - 1", "the store is damaged"),
    ("DELETE FROM leaf WHERE idx = 2", "the store is damaged"),
    ("DELETE FROM checkpoint WHERE size = (SELECT size FROM tree)", "does not lead to its own checkpoint"),
    ("INSERT INTO migration VALUES (99, x'00')", "use a newer build"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_store_changed_in_one_place_is_refused_and_nothing_is_signed_on_it() {
    let alliance = two_cities();
    let store = alliance.config(LIUZHOU.0).data;
    let whole = store.with_extension("whole");
    let mut book = Book::default();
    write_some(&alliance, &mut book).await;
    copy_store(&store, &whole);
    for (column, row, expected) in FLIPPED {
        copy_store(&whole, &store);
        flip(&store, column.split_once('.').unwrap(), row);
        is_refused(&alliance, &format!("{column} where {row}"), expected).await;
    }
    for (sql, expected) in CHANGED {
        copy_store(&whole, &store);
        assert_eq!(database(&store).execute(sql, []).unwrap(), 1, "{sql}");
        is_refused(&alliance, sql, expected).await;
    }
    copy_store(&whole, &store);
    let _liuzhou = Process::start(&alliance, LIUZHOU.0).await;
    book.send_again(&alliance.client(LIUZHOU.0, LIUZHOU.1), 0).await;
}

async fn is_refused(alliance: &Alliance, what: &str, expected: &str) {
    let store = alliance.config(LIUZHOU.0).data;
    let signed =
        || database(&store).query_row("SELECT count(*) FROM checkpoint", [], |row| row.get::<_, u64>(0)).unwrap();
    let before = signed();
    let refused = process::refused(alliance, LIUZHOU.0).await;
    assert!(refused.code.is_some_and(|code| (64..=78).contains(&code)), "{what}: {refused:?}");
    assert!(refused.said.contains(expected), "{what}: {refused:?}");
    assert_eq!(signed(), before, "{what}: nothing is signed");
}

/// Changes the last byte of one value.
fn flip(store: &Path, (table, column): (&str, &str), row: &str) {
    let database = database(store);
    let select = format!("SELECT CAST({column} AS BLOB) FROM {table} WHERE {row}");
    let mut bytes: Vec<u8> = database.query_row(&select, [], |row| row.get(0)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let update = format!(
        "UPDATE {table} SET {column} = CAST(?1 AS {}) WHERE {row}",
        if column == "note" { "TEXT" } else { "BLOB" }
    );
    assert_eq!(database.execute(&update, [bytes]).unwrap(), 1);
}

fn database(store: &Path) -> Connection {
    Connection::open(store.join("store.db")).unwrap()
}

/// Starts the gateway, writes three messages and stops it.
async fn write_some(alliance: &Alliance, book: &mut Book) {
    let liuzhou = Process::start(alliance, LIUZHOU.0).await;
    for _ in 0..3 {
        book.write_one(&alliance.client(LIUZHOU.0, LIUZHOU.1)).await;
    }
    liuzhou.stop().await;
}

/// The same on one stream, as fast as it takes them, until it ends.
async fn write_stream(window: Client, answers: mpsc::UnboundedSender<()>) -> Vec<Sent> {
    use pb::submit_stream_request::Request;
    let (steps, stream) = mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut down = window.exchange.clone().submit_stream(stream).await.unwrap().into_inner();
    let writing = tokio::spawn(async move {
        let mut sent = vec![];
        loop {
            let envelope = envelope(LIUZHOU, FOSHAN);
            let submit = pb::SubmitRequest { envelope: Some(envelope.clone()), origin_receipt: None, via: vec![] };
            sent.push(Sent { envelope, receipt: None });
            if steps.send(pb::SubmitStreamRequest { request: Some(Request::Submit(submit)) }).await.is_err() {
                return sent;
            }
        }
    });
    let mut receipts = HashMap::new();
    while let Ok(Some(answer)) = down.message().await {
        if let Some(pb::submit_stream_response::Response::Receipt(receipt)) = answer.response {
            receipts.insert(answer.id, receipt);
            let _ = answers.send(());
        }
    }
    let mut sent = writing.await.unwrap();
    sent.iter_mut().for_each(|sent| sent.receipt = receipts.remove(sent.id()));
    sent
}

/// The messages that wait in the store of a process that was killed, read from a copy.
fn queued(store: &Path) -> Vec<String> {
    let copy = store.with_extension("copy");
    copy_store(store, &copy);
    let sql = database(&copy);
    let mut statement = sql.prepare("SELECT message_id FROM queue JOIN message USING (seq)").unwrap();
    let id = |row: &rusqlite::Row<'_>| Ok(tongban::id::MessageId::from_bytes(row.get(0)?).to_string());
    statement.query_map([], id).unwrap().map(Result::unwrap).collect()
}
