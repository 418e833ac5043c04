//! A stopped store whose bytes were changed or cut: what is read from it is what was written, or an error; and a log that
//! lost its end is not signed over. Bits are flipped in copies, each copy judged as a start would judge it, then by every
//! reader, then by the examination that a backup makes.
//!
//! 60 flips unless `TONGBAN_FLIPS` says another number; the places follow from a seed, `TONGBAN_SEED`.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::alliance::{Alliance, PATIENCE, envelope};
use crate::book::{Book, FOSHAN, LIUZHOU, Receiver, Sent, copy_store};
use crate::process::{self, Process, until};
use prost::Message as _;
use rusqlite::Connection;
use tongban::ledger::Core;
use tongban::receipt::Receipt;
use tongban::store::{self, Head, Key, Mark, OpenError, QueueRow, Readers, Synchronous, Writer};
use tongban::wire::envelope::kept;
use tongban::wire::pb::exchange as pb;

const FLIPS: usize = 60;
/// Where the log is cut: at every 512 bytes of its last 64 KiB.
const CUT_EVERY: u64 = 512;
const CUTS: u64 = 128;

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Numbers that look random and follow from a seed (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What is read from a store: for each message its evidence and content, and what is to be done.
#[derive(Debug, PartialEq)]
struct Told {
    heads: Vec<String>,
    evidence: Vec<(Vec<Receipt>, Vec<Receipt>)>,
    /// What is handed on: a header is written anew for it, so it counts as it reads.
    contents: Vec<(pb::Envelope, Option<Vec<u8>>)>,
    work: Vec<String>,
}

/// A store with confirmed messages and waiting ones.
struct Base {
    alliance: Alliance,
    folder: PathBuf,
    keys: Vec<Key>,
}

impl Base {
    /// Stopped cleanly, everything in the database; or killed, with everything in the write-ahead log.
    async fn new(killed: bool) -> Base {
        let alliance = process::alliance(&[(LIUZHOU.0, &[LIUZHOU.1]), (FOSHAN.0, &[FOSHAN.1])]);
        let mut liuzhou = Process::start(&alliance, LIUZHOU.0).await;
        let mut book = Book::default();
        let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
        {
            let _foshan = Process::start(&alliance, FOSHAN.0).await;
            let receiver = Receiver::open(&alliance).await;
            for _ in 0..12 {
                book.write_one(&window).await;
            }
            receiver.settles(&book).await;
        }
        for _ in 0..12 {
            let envelope = envelope(LIUZHOU, FOSHAN);
            let receipt = Some(window.submit(envelope.clone()).await.unwrap());
            book.0.push(Sent { envelope, receipt });
        }
        let store = alliance.config(LIUZHOU.0).data;
        let size = || inspected(&store).look(|look| look.log()).unwrap();
        let mark = Mark::in_folder(&store);
        until("the mark is the newest note", async || mark.read().unwrap() == size().1).await;
        match killed {
            true => liuzhou.kill(),
            false => liuzhou.stop().await,
        }
        let folder = store.with_extension("whole");
        copy_store(&store, &folder);
        let key = |sent: &Sent| Key { from_city: LIUZHOU.0.parse().unwrap(), id: sent.id().parse().unwrap() };
        Base { keys: book.0.iter().map(key).collect(), alliance, folder }
    }

    fn copy(&self) -> PathBuf {
        let copy = self.folder.with_extension("copy");
        copy_store(&self.folder, &copy);
        copy
    }

    /// What a start says of the store, then every reader, then whoever verifies a receipt.
    fn told(&self, folder: &Path) -> Result<Told, String> {
        let (writer, readers) = opened(folder).map_err(|error| format!("start: {error}"))?;
        let key = self.alliance.log_key(LIUZHOU.0);
        let core = Core::open(writer, Mark::in_folder(folder), key, LIUZHOU.0.parse().unwrap());
        core.map_err(|error| format!("start: {error}"))?;
        let told = self.read(&readers).map_err(|error| format!("reading: {error}"))?;
        let mut checker = self.alliance.checker();
        for receipt in told.evidence.iter().flat_map(|(own, received)| own.iter().chain(received)) {
            checker.check(receipt.clone()).map_err(|error| format!("proof: {error}"))?;
        }
        Ok(told)
    }

    fn read(&self, readers: &Readers) -> Result<Told, String> {
        let read = readers.look(|look| {
            let mut told = Told { heads: vec![], evidence: vec![], contents: vec![], work: vec![] };
            for key in &self.keys {
                let head: Option<Head> = look.head(key)?;
                told.heads.push(format!("{head:?}"));
                let Some(head) = head else { continue };
                told.evidence.push(look.evidence(head.seq)?);
                let stored = look.message(head.seq)?.ok_or_else(|| store::Error::Damaged("no message".to_owned()))?;
                if let Some(body) = &stored.body {
                    let whole = kept(&stored.header, body.clone(), stored.header_digest);
                    whole.map_err(|error| store::Error::Damaged(error.to_string()))?;
                }
                let header = pb::Envelope::decode(&stored.header[..]);
                let header = header.map_err(|error| store::Error::Damaged(error.to_string()))?;
                told.contents.push((header, stored.body));
            }
            for lane in look.busy_lanes()? {
                let rows: Vec<QueueRow> = look.queue(&lane, 0, 1_000)?;
                told.work.push(format!("{lane:?} {rows:?}"));
            }
            Ok(told)
        });
        read.map_err(|error| error.to_string())
    }
}

/// A child process that another test starts holds every lock with us until it runs its own program.
fn opened(folder: &Path) -> Result<(Writer, Readers), OpenError> {
    let began = Instant::now();
    loop {
        match store::open(folder, Synchronous::Full) {
            Err(OpenError::InUse(_)) if began.elapsed() < PATIENCE => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

fn inspected(store: &Path) -> Readers {
    store::inspect(store).unwrap()
}

/// Flips one bit of a file.
fn flip(path: &Path, bit: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_stopped_store_is_found_or_changes_nothing() {
    let base = Base::new(false).await;
    let whole = base.told(&base.copy()).unwrap();
    let mut dice = Dice(number("TONGBAN_SEED", 20_261_130) as u64);
    let bits = |path: PathBuf| path.metadata().unwrap().len() * 8;
    let (mut at_start, mut at_reading, mut by_proof, mut by_examination, mut harmless) = (0, 0, 0, 0, 0);
    let mut unseen = vec![];
    let flips = number("TONGBAN_FLIPS", FLIPS);
    for flipped in 0..flips {
        let copy = base.copy();
        // The mark is small: one flip in twenty is there.
        let file = if flipped % 20 == 7 { "high-water.note" } else { "store.db" };
        let bit = dice.below(bits(copy.join(file)));
        flip(&copy.join(file), bit);
        let examined = store::examine(&copy).is_ok();
        match base.told(&copy) {
            Err(why) if why.starts_with("start") => at_start += 1,
            Err(why) if why.starts_with("proof") => by_proof += 1,
            Err(_) => at_reading += 1,
            Ok(told) if told == whole => harmless += 1,
            Ok(_) if !examined => by_examination += 1,
            Ok(told) => {
                assert_eq!(told.evidence, whole.evidence, "evidence is wrong unseen: bit {bit} of {file}");
                assert_eq!(told.contents, whole.contents, "a content is wrong unseen: bit {bit} of {file}");
                unseen.push(format!("bit {bit} of {file}"));
            }
        }
    }
    println!(
        "{flips} flips: {at_start} found at the start, {at_reading} when read, {by_proof} by a receipt's own proof, \
         {by_examination} by the examination that a backup makes, {harmless} changed nothing, {} changed a state or a \
         counter unseen: {}",
        unseen.len(),
        unseen.join(", ")
    );
    assert!(at_start + at_reading > flips / 20, "the flips hit something");
    assert!(unseen.len() <= flips / 10, "most of what matters is seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_in_the_middle_reads_as_its_last_whole_commit_and_is_not_signed_over() {
    let base = Base::new(true).await;
    let notes: Vec<(u64, String)> = {
        let full = base.copy();
        let database = Connection::open(full.join("store.db")).unwrap();
        let mut statement = database.prepare("SELECT size, note FROM checkpoint ORDER BY size").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let last = notes.last().unwrap().0;
    let length = base.folder.join("store.db-wal").metadata().unwrap().len();
    let (mut whole, mut shorter, mut sizes) = (0, 0, vec![]);
    for cut in 0..CUTS.min(length / CUT_EVERY) {
        let copy = base.copy();
        let wal = OpenOptions::new().write(true).open(copy.join("store.db-wal")).unwrap();
        wal.set_len(length - cut * CUT_EVERY).unwrap();
        let (size, note) = {
            let (_writer, readers) = opened(&copy).unwrap();
            readers.look(|look| look.log()).unwrap()
        };
        assert!(size == 0 || notes.contains(&(size, note.unwrap())), "cut {cut}: one of the commits that were");
        let told = base.told(&copy);
        match size == last {
            true => {
                told.unwrap();
                whole += 1;
            }
            false => {
                let why = told.expect_err("the mark knows of a later commit");
                assert!(why.contains("put back from an older copy"), "{why}");
                shorter += 1;
            }
        }
        sizes.push(size);
    }
    assert!(whole > 0 && shorter > 0, "cut before and after the last commit");
    sizes.dedup();
    println!(
        "{} cuts: {whole} whole, {shorter} shorter and refused by the mark, sizes {sizes:?} of {last}",
        whole + shorter
    );
}

/// What is changed of a stored message, each so that it still reads.
const CHANGED: [(&str, &[u8], &[u8]); 3] = [
    ("body", br#"{"name":"x"}"#, br#"{"name":"y"}"#),
    ("header", b"H3440118009000", b"H3440118009001"),
    ("header", b"form.json", b"norm.json"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_changed_on_the_disk_is_never_handed_on() {
    let alliance = process::alliance(&[("450200", &["window", "archive"])]);
    let to_archive = || envelope(LIUZHOU, ("450200", "archive"));
    let gateway = Process::start(&alliance, "450200").await;
    let window = alliance.client("450200", "window");
    let (mut changed, whole) = (vec![], to_archive());
    for _ in CHANGED {
        let envelope = to_archive();
        window.submit(envelope.clone()).await.unwrap();
        changed.push(envelope.message_id);
    }
    window.submit(whole.clone()).await.unwrap();
    gateway.stop().await;
    let database = Connection::open(alliance.config("450200").data.join("store.db")).unwrap();
    for ((column, was, becomes), id) in CHANGED.into_iter().zip(&changed) {
        let id: tongban::id::MessageId = id.parse().unwrap();
        let of = format!("FROM message WHERE message_id = x'{}'", hex::encode(id.bytes()));
        let bytes: Vec<u8> = database.query_row(&format!("SELECT {column} {of}"), [], |row| row.get(0)).unwrap();
        let place = bytes.windows(was.len()).position(|window| window == was).unwrap();
        let bytes = [&bytes[..place], becomes, &bytes[place + was.len()..]].concat();
        let update = format!("UPDATE message SET {column} = ?1 WHERE message_id = x'{}'", hex::encode(id.bytes()));
        assert_eq!(database.execute(&update, [bytes]).unwrap(), 1);
    }
    drop(database);
    let gateway = Process::start(&alliance, "450200").await;
    let mut mailbox = alliance.client("450200", "archive").receive(8).await;
    let (_, message) = mailbox.delivery().await;
    assert_eq!(message.envelope.unwrap().message_id, whole.message_id, "the first that comes is the one that is whole");
    until("each of the others is told in the log", async || {
        gateway.said().matches("a message cannot be delivered").count() >= CHANGED.len()
    })
    .await;
    gateway.stop().await;
}
