//! A ledger without its thread on a folder of its own, and the partners whose receipts it hears.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use tongban::admission::Ration;
use tongban::evidence::{Event, Evidence, State};
use tongban::ledger::{
    Answer, Core, Entry, Fate, Incoming, Issuer, Refusal, Route, Settle, StartError, Take, Witness, WitnessRefusal,
};
use tongban::limits::TIME_TO_LIVE_MS;
use tongban::message::Address;
use tongban::party::Member;
use tongban::reason::Reason;
use tongban::receipt::{Checked, Checker, LogKey, Receipt};
use tongban::store::{self, Key, LaneName, Mark, Readers, Seq, Synchronous};
use tongban::time::Time;
use tongban::tlog::note::SigningKey;
use tongban::wire::envelope::{parse, split};
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::receipt;

use crate::alliance::part;
use crate::forge::Forge;

pub const ORIGIN: &str = "450200.gateway.alliance.example/log/a/1";
pub const THEIRS: &str = "440600.gateway.alliance.example/log/a/1";
pub const WINDOW: (&str, &str) = ("450200", "window");
pub const ARCHIVE: (&str, &str) = ("450200", "archive");
pub const APPROVAL: (&str, &str) = ("440600", "approval");
/// When these tests take place.
pub const NOW: Time = Time::from_ms(1_780_272_000_000);

/// An own system took a message, on our word alone.
pub const HANDED_OVER: Fate = Fate::HandedOver { signed: None };

pub fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

pub fn own() -> Member {
    "450200".parse().unwrap()
}

pub fn foshan() -> Member {
    "440600".parse().unwrap()
}

/// A log of the partner's.
pub fn theirs() -> Forge {
    Forge::unknown(THEIRS, &foshan())
}

pub fn hub() -> Member {
    "hub/south".parse().unwrap()
}

pub fn yinchuan() -> Member {
    "640100".parse().unwrap()
}

/// A log of the hub's.
pub fn hubs() -> Forge {
    Forge::unknown("south.hub.alliance.example/log/a/1", &hub())
}

/// A log of a third city's.
pub fn thirds() -> Forge {
    Forge::unknown("640100.gateway.alliance.example/log/a/1", &yinchuan())
}

pub fn checker() -> Checker {
    let others = [theirs(), hubs(), thirds()].map(|log| (log.member.clone(), log.key.verifying_key().clone()));
    let keys = others.into_iter().chain([(own(), key().verifying_key().clone())]);
    Checker::new(keys.map(|(member, key)| LogKey { member, key }).collect())
}

pub fn checked(wire: pbe::Receipt) -> Checked {
    checker().check(receipt::from_wire(wire).unwrap()).unwrap()
}

/// A ledger on a folder of its own.
pub struct Bench {
    pub core: Core,
    pub readers: Readers,
    pub folder: PathBuf,
}

pub fn open(folder: &Path) -> Result<(Core, Readers), StartError> {
    let (writer, readers) = store::open(folder, Synchronous::Full).unwrap();
    Ok((Core::open(writer, Mark::in_folder(folder), key(), own())?, readers))
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Bench {
    pub fn new() -> Bench {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tongban-ledger-{}-{count}", std::process::id()));
        let (core, readers) = open(&folder).unwrap();
        Bench { core, readers, folder }
    }

    pub fn apply(&mut self, entries: Vec<Entry>) -> Vec<Answer> {
        self.core.apply(NOW, entries).unwrap().0
    }

    pub fn one(&mut self, entry: Entry) -> Answer {
        self.apply(vec![entry]).pop().unwrap()
    }

    /// Takes one message in and returns its place and its receipt.
    pub fn accepted(&mut self, envelope: &pb::Envelope) -> (Seq, Receipt) {
        let Answer::Taken(Ok(receipt)) = self.one(take(envelope.clone())) else { panic!("refused") };
        (self.seq(envelope), receipt)
    }

    pub fn seq(&self, envelope: &pb::Envelope) -> Seq {
        let from_city = envelope.from.as_ref().unwrap().city.parse().unwrap();
        let key = Key { from_city, id: envelope.message_id.parse().unwrap() };
        self.readers.look(|look| look.head(&key)).unwrap().expect("it is stored").seq
    }

    pub fn state(&self, seq: Seq) -> State {
        self.readers.look(|look| look.message(seq)).unwrap().unwrap().standing.state
    }

    /// Our own receipts about a message, with what they say.
    pub fn own(&self, seq: Seq) -> Vec<Checked> {
        let (own, _) = self.readers.look(|look| look.evidence(seq)).unwrap();
        let mut checker = checker();
        own.into_iter().map(|receipt| checker.check(receipt).unwrap()).collect()
    }

    pub fn events(&self, seq: Seq) -> Vec<Event> {
        self.own(seq).iter().map(|checked| checked.evidence.event).collect()
    }

    pub fn queue(&self, lane: &LaneName) -> Vec<Seq> {
        self.readers.look(|look| look.queue(lane, 0, 9_999)).unwrap().iter().map(|row| row.seq).collect()
    }

    /// Leaves in the log.
    pub fn size(&self) -> u64 {
        let sql = Connection::open(self.folder.join("store.db")).unwrap();
        sql.query_row("SELECT size FROM tree", [], |row| row.get(0)).unwrap()
    }

    /// Stops, runs `between` on the folder, and tries to start again.
    pub fn restart(mut self, between: impl FnOnce(&Path)) -> Result<Bench, StartError> {
        self.core.write_mark(NOW);
        // The folder lives on in the next bench.
        let folder = std::mem::take(&mut self.folder);
        drop(self);
        between(&folder);
        let opened = open(&folder);
        if opened.is_err() {
            let _ = std::fs::remove_dir_all(&folder);
        }
        opened.map(|(core, readers)| Bench { core, readers, folder })
    }
}

pub fn mailbox(name: &str) -> LaneName {
    LaneName::System(name.parse().unwrap())
}

pub fn line() -> LaneName {
    LaneName::Gateway(foshan())
}

pub fn taking(
    envelope: pb::Envelope,
    verdict: Result<Route, Reason>,
    origin: Option<Checked>,
    rejections: Ration,
) -> Entry {
    let envelope = parse(envelope).unwrap();
    let (header_digest, (header, body)) = (envelope.header_digest(), split(&envelope));
    let (via, token) = (vec![], None);
    Entry::Take(Box::new(Take { envelope, header_digest, header, body, origin, via, verdict, token, rejections }))
}

/// Where a good message goes: to its own city's mailbox or to the partner.
pub fn route(envelope: &pb::Envelope) -> Route {
    let to = envelope.to.as_ref().unwrap();
    let recipient = Address { city: to.city.parse().unwrap(), system: to.system.parse().ok() };
    let lane = if to.city == "450200" { mailbox(&to.system) } else { line() };
    Route { recipient, lane, others: vec![], table_version: 0, expires_at: NOW.plus_ms(TIME_TO_LIVE_MS) }
}

pub fn take(envelope: pb::Envelope) -> Entry {
    let verdict = Ok(route(&envelope));
    taking(envelope, verdict, None, Ration::default())
}

/// A message of the partner's, with its origin's receipt.
pub fn take_theirs(envelope: pb::Envelope) -> Entry {
    let origin = checked(theirs().honest(Event::SubmissionAccepted, &envelope));
    let verdict = Ok(route(&envelope));
    taking(envelope, verdict, Some(origin), Ration::default())
}

pub fn settle(lane: LaneName, seq: Seq, fate: Fate) -> Entry {
    Entry::Settle(Box::new(Settle { lane, seq, attempts: 1, fate }))
}

pub fn witness(receipts: Vec<pbe::Receipt>) -> Entry {
    witness_of(Issuer::Other, receipts)
}

/// Receipts of an issuer that may, or may not, relay for the sender.
pub fn witness_of(issuer: Issuer, receipts: Vec<pbe::Receipt>) -> Entry {
    let incoming = |one| Incoming { checked: checked(one), text: None, issuer };
    Entry::Witness(Box::new(Witness { receipts: receipts.into_iter().map(incoming).collect() }))
}

pub fn taken(answer: Answer) -> Result<Receipt, Box<Refusal>> {
    let Answer::Taken(taken) = answer else { panic!("{answer:?}") };
    taken
}

pub fn settled(answer: Answer) -> Option<Receipt> {
    let Answer::Settled(settled) = answer else { panic!("{answer:?}") };
    settled
}

pub fn witnessed(answer: Answer) -> Vec<Result<(), WitnessRefusal>> {
    let Answer::Witnessed(each) = answer else { panic!("{answer:?}") };
    each
}

pub fn says(receipt: &Receipt) -> Evidence {
    checker().check(receipt.clone()).unwrap().evidence
}

pub fn other_content(envelope: &pb::Envelope) -> pb::Envelope {
    pb::Envelope { parts: vec![part("form.json", b"another")], ..envelope.clone() }
}
