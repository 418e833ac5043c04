//! Decides what must never be: from what the senders sent, what the recipients took, what anybody was shown, and what lies
//! in the stores at the end. Reads the stores' rows by itself, and believes no code of the product but the leaf's parser.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::Connection;
use tongban::evidence::{Event, Evidence};
use tongban::message::Digest;
use tongban::party::Member;
use tongban::receipt::Receipt;
use tongban::store::Key;

use crate::merkle::{self, Hash, Merkle};
use crate::rare::{Rare, Tally};
use crate::traffic::{CalledBack, LinkId};
use crate::world::{Place, World};

/// A message as its sender knows it.
pub struct Sent {
    pub from: Place,
    pub to: Place,
    pub case: Option<String>,
    pub digest: Digest,
    pub accepted: Option<Receipt>,
    pub called_back: Option<CalledBack>,
    /// When it came to effect, by the count of all effects.
    pub effects: Vec<u64>,
}

#[derive(Default)]
pub struct Oracle {
    pub sent: HashMap<Key, Sent>,
    pub next_link: LinkId,
    effects: u64,
    /// The root that was shown for each log and size, and every leaf that was shown.
    roots: BTreeMap<(String, usize), Hash>,
    leaves: BTreeMap<(String, usize), Hash>,
    /// Roots that were signed and perhaps never shown.
    signed: BTreeMap<(String, usize), BTreeSet<Hash>>,
}

impl Oracle {
    pub fn sends(&mut self, key: Key, sent: Sent) {
        self.sent.insert(key, sent);
    }

    /// A recipient acts upon a message.
    pub fn takes_effect(&mut self, key: &Key) {
        self.effects += 1;
        if let Some(sent) = self.sent.get_mut(key) {
            sent.effects.push(self.effects);
        }
    }

    /// A checkpoint was signed, and shown to nobody yet.
    pub fn signed(&mut self, note: &str) {
        if let Some((log, size, root)) = merkle::checkpoint(note) {
            self.signed.entry((log, size)).or_default().insert(root);
        }
    }

    /// A receipt left a gateway: nobody may ever see another root for this size, nor another leaf in this place.
    pub fn shown(&mut self, receipt: &Receipt, tally: &mut Tally) -> Result<(), String> {
        let note = merkle::checkpoint(&receipt.proof.checkpoint_note);
        let Some((log, size, root)) = note else { return Err("a checkpoint that is none is shown".to_owned()) };
        let (index, leaf) = (receipt.proof.index as usize, merkle::leaf_hash(&receipt.leaf));
        let size_of_log = (log.clone(), size);
        if self.signed.get(&size_of_log).is_some_and(|roots| roots.len() > 1) && !self.roots.contains_key(&size_of_log)
        {
            tally.hit(Rare::SizeSignedTwice);
        }
        if *self.roots.entry(size_of_log).or_insert(root) != root {
            return Err(format!("two roots of {log} at {size} leaves are shown"));
        }
        if *self.leaves.entry((log.clone(), index)).or_insert(leaf) != leaf {
            return Err(format!("two leaves of {log} at {index} are shown"));
        }
        Ok(())
    }
}

/// One message as a store has it.
struct Row {
    key: (String, Vec<u8>),
    state: u8,
    late: bool,
    first_leaf: usize,
    last_leaf: usize,
    to_city: String,
    order_key: Option<String>,
    queued: bool,
}

/// Everything in one store that the oracle looks at.
struct Book {
    log: String,
    merkle: Merkle,
    /// By the message's place: the index of each leaf, and what it says.
    said: BTreeMap<u64, Vec<(usize, Evidence)>>,
    messages: BTreeMap<u64, Row>,
    received: HashMap<Hash, Evidence>,
}

impl Book {
    /// Reads a store; fails where its log is not what it should be.
    fn read(world: &World, place: Place) -> Result<Book, String> {
        let sql = Connection::open(world.gateways[place].folder.join("store.db")).map_err(|e| e.to_string())?;
        let log = world.map.key(place).verifying_key().name().to_owned();
        let (leaves, said) = read_leaves(&sql).map_err(|error| format!("{log}: {error}"))?;
        let mut merkle = Merkle::new(leaves);
        check_checkpoints(&sql, &log, &mut merkle)?;
        let messages = read_messages(&sql).map_err(|error| error.to_string())?;
        let received = read_received(&sql).map_err(|error| error.to_string())?;
        Ok(Book { log, merkle, said, messages, received })
    }
}

/// What was sent of a case: where its first leaf stands, its key, and what became of it.
type Line<'a> = (usize, &'a Key, &'a Sent);
type Said = BTreeMap<u64, Vec<(usize, Evidence)>>;

/// The leaves, which must be whole, in their places, and never behind each other in time.
fn read_leaves(sql: &Connection) -> Result<(Vec<Hash>, Said), String> {
    let (mut hashes, mut said, mut last_at) = (Vec::new(), Said::new(), 0);
    let mut statement =
        sql.prepare("SELECT idx, hash, message, bytes FROM leaf ORDER BY idx").map_err(|e| e.to_string())?;
    let mut rows = statement.query([]).map_err(|e| e.to_string())?;
    while let Some(row) = rows.next().map_err(|e| e.to_string())? {
        let index: usize = row.get::<_, i64>(0).map_err(|e| e.to_string())? as usize;
        let stored: Vec<u8> = row.get(1).map_err(|e| e.to_string())?;
        let message: Option<i64> = row.get(2).map_err(|e| e.to_string())?;
        let bytes: Vec<u8> = row.get(3).map_err(|e| e.to_string())?;
        let hash = merkle::leaf_hash(&bytes);
        if index != hashes.len() || stored != hash {
            return Err(format!("leaf {index} is not whole or not in its place"));
        }
        hashes.push(hash);
        let Ok(evidence) = Evidence::from_leaf(&bytes) else { continue };
        if evidence.at.ms() < last_at {
            return Err(format!("leaf {index} is recorded {} ms before the one before it", last_at - evidence.at.ms()));
        }
        last_at = evidence.at.ms();
        if let Some(message) = message {
            said.entry(message as u64).or_default().push((index, evidence));
        }
    }
    Ok((hashes, said))
}

/// Every stored checkpoint has the root that the leaves give, and the tree stands at the last leaf.
fn check_checkpoints(sql: &Connection, log: &str, merkle: &mut Merkle) -> Result<(), String> {
    let size: i64 = sql.query_row("SELECT size FROM tree", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    if size as usize != merkle.size() {
        return Err(format!("{log}: the tree has {size} leaves, the log {}", merkle.size()));
    }
    let mut statement = sql.prepare("SELECT note FROM checkpoint").map_err(|e| e.to_string())?;
    let notes = statement.query_map([], |row| row.get::<_, String>(0)).map_err(|e| e.to_string())?;
    for note in notes {
        let note = note.map_err(|e| e.to_string())?;
        let (named, size, root) = merkle::checkpoint(&note).ok_or("a stored checkpoint is none")?;
        if named != log || size > merkle.size() || merkle.root(size) != root {
            return Err(format!("{log}: the checkpoint over {size} leaves has another root than its leaves"));
        }
    }
    Ok(())
}

fn read_messages(sql: &Connection) -> rusqlite::Result<BTreeMap<u64, Row>> {
    let mut statement = sql.prepare(
        "SELECT seq, from_city, message_id, state, flags, first_leaf, last_leaf, to_city, order_key, \
         EXISTS (SELECT 1 FROM queue q WHERE q.seq = m.seq) FROM message m",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        let message = Row {
            key: (row.get(1)?, row.get(2)?),
            state: row.get(3)?,
            late: row.get::<_, u8>(4)? & 2 != 0,
            first_leaf: row.get::<_, i64>(5)? as usize,
            last_leaf: row.get::<_, i64>(6)? as usize,
            to_city: row.get(7)?,
            order_key: row.get(8)?,
            queued: row.get(9)?,
        };
        Ok((row.get::<_, i64>(0)? as u64, message))
    };
    statement.query_map([], row)?.collect()
}

fn read_received(sql: &Connection) -> rusqlite::Result<HashMap<Hash, Evidence>> {
    let mut statement = sql.prepare("SELECT leaf FROM received")?;
    let leaves = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(leaves.iter().filter_map(|leaf| Some((merkle::leaf_hash(leaf), Evidence::from_leaf(leaf).ok()?))).collect())
}

impl World {
    /// A store that was opened again stands where it stood: what waits is counted as its rows are.
    pub fn check_reopened(&mut self, place: Place) -> Result<(), String> {
        let sql = Connection::open(self.gateways[place].folder.join("store.db")).map_err(|e| e.to_string())?;
        let last =
            sql.query_row("SELECT bytes FROM leaf WHERE message IS NOT NULL ORDER BY idx DESC LIMIT 1", [], |row| {
                row.get::<_, Vec<u8>>(0)
            });
        let now = self.now(place);
        if last.is_ok_and(|leaf| Evidence::from_leaf(&leaf).is_ok_and(|evidence| evidence.at > now)) {
            self.tally.hit(Rare::ClockBackOverRestart);
        }
        self.check_waiting(place)
    }

    fn check_waiting(&mut self, place: Place) -> Result<(), String> {
        for lane in self.lanes_of(place) {
            let Some(process) = self.process(place) else { return Ok(()) };
            let rows = process.readers.look(|look| look.queue(&lane, 0, 100_000)).map_err(|e| e.to_string())?.len();
            let counted = process.core.waiting(&lane);
            if counted != rows as u64 {
                return Err(format!("{lane}: {counted} are counted to wait, {rows} do"));
            }
        }
        Ok(())
    }

    /// The end of a world: nothing is lost, nothing doubled, nothing overtaken, and every log is what was shown of it.
    pub fn judge(&mut self) {
        let judged = (|| {
            let mut books = Vec::new();
            for place in 0..self.gateways.len() {
                self.check_waiting(place)?;
                let mut book = Book::read(self, place)?;
                let root = book.merkle.root(book.merkle.size());
                self.note(&root);
                books.push(book);
            }
            for book in &mut books {
                self.check_shown(book)?;
                self.check_messages(book)?;
            }
            self.check_ends(&books)?;
            self.check_order(&books)
        })();
        if let Err(violation) = judged {
            self.fail(violation);
        }
    }

    fn check_shown(&mut self, book: &mut Book) -> Result<(), String> {
        let log = &book.log;
        for ((_, size), root) in self.oracle.roots.iter().filter(|((shown, _), _)| shown == log) {
            if *size > book.merkle.size() || book.merkle.root(*size) != *root {
                return Err(format!("{log}: the root that was shown for {size} leaves is not the log's"));
            }
        }
        for ((_, index), leaf) in self.oracle.leaves.iter().filter(|((shown, _), _)| shown == log) {
            if book.merkle.leaf(*index) != Some(*leaf) {
                return Err(format!("{log}: leaf {index} was shown and is not stored"));
            }
        }
        Ok(())
    }

    /// Of each message: its state follows from its leaves, each leaf from the one before, and it ended once.
    fn check_messages(&mut self, book: &Book) -> Result<(), String> {
        for (seq, row) in &book.messages {
            let at = |what: &str| format!("{}: message {seq} {what}", book.log);
            let Some(said) = book.said.get(seq) else { return Err(at("has no leaf")) };
            if said.first().map(|leaf| leaf.0) != Some(row.first_leaf)
                || said.last().map(|leaf| leaf.0) != Some(row.last_leaf)
            {
                return Err(at("does not stand where its leaves do"));
            }
            if row.queued {
                return Err(at("still waits"));
            }
            self.check_chain(book, said).map_err(|what| at(&what))?;
            check_state(book, row, said).map_err(|what| at(&what))?;
            if row.late {
                self.tally.hit(Rare::LateHandover);
            }
        }
        match book.said.keys().find(|seq| !book.messages.contains_key(seq)) {
            Some(seq) => Err(format!("{}: leaves speak of a message {seq} that is not stored", book.log)),
            None => Ok(()),
        }
    }

    fn check_chain(&mut self, book: &Book, said: &[(usize, Evidence)]) -> Result<(), String> {
        let (mut before, mut witnessed, mut ends) = (None, BTreeSet::new(), 0);
        for (index, evidence) in said {
            let previous = evidence.previous.map(|digest| digest.0);
            match before {
                Some(before) if previous != Some(before) => return Err(format!("has a gap before leaf {index}")),
                None if evidence.event == Event::RelayAccepted => {
                    let origin = previous.and_then(|hash| book.received.get(&hash)).map(|origin| origin.event);
                    if origin != Some(Event::SubmissionAccepted) {
                        return Err("was taken without its origin's receipt".to_owned());
                    }
                }
                _ => {}
            }
            if let Some(foreign) = &evidence.witnessed
                && !witnessed.insert(foreign.leaf_hash.0)
            {
                return Err(format!("witnesses one receipt twice, again in leaf {index}"));
            }
            ends += u32::from(is_end(evidence.event));
            if evidence.event == Event::Delayed {
                self.tally.hit(Rare::Delayed);
            }
            before = book.merkle.leaf(*index);
        }
        if ends > 1 { Err(format!("ended {ends} times")) } else { Ok(()) }
    }

    /// Both ends of each message say the same, and what they say is what happened.
    fn check_ends(&self, books: &[Book]) -> Result<(), String> {
        for (key, sent) in &self.oracle.sent {
            let id = (key.from_city.as_str().to_owned(), key.id.bytes().to_vec());
            let in_book = |place: Place| books[place].messages.values().find(|row| row.key == id);
            let origin = in_book(sent.from);
            let at = |what: &str| format!("message {} from {} to {}: {what}", key.id, sent.from, sent.to);
            let Some(origin) = origin else {
                let taken = (0..books.len()).any(|place| in_book(place).is_some());
                let lost = sent.accepted.is_some() || taken || !sent.effects.is_empty();
                if lost {
                    return Err(at("was accepted and is lost"));
                }
                continue;
            };
            let there = in_book(sent.to);
            let (confirmed, confirmed_there) = (is_confirmed(origin), there.is_some_and(is_confirmed));
            if !is_over(origin) {
                return Err(at("has not ended at its origin"));
            }
            if confirmed != confirmed_there {
                let states = (origin.state, there.map(|row| row.state));
                return Err(at(&format!("its origin and its recipient disagree: {states:?}")));
            }
            if confirmed && sent.effects.len() != 1 {
                return Err(at(&format!("was handed over and had {} effects", sent.effects.len())));
            }
            if sent.called_back.is_some() && confirmed && !origin.late {
                return Err(at("was called back, and handed over"));
            }
        }
        Ok(())
    }

    /// Of one case, in the order of the origin's log.
    fn check_order(&self, books: &[Book]) -> Result<(), String> {
        let mut cases: BTreeMap<(Place, Place, &str), Vec<Line<'_>>> = BTreeMap::new();
        for (key, sent) in &self.oracle.sent {
            let id = (key.from_city.as_str().to_owned(), key.id.bytes().to_vec());
            let row = books[sent.from].messages.values().find(|row| row.key == id);
            // What was given up before may still arrive: its place among the others is nobody's promise.
            if let (Some(row), Some(case)) = (row.filter(|row| is_confirmed(row)), &sent.case) {
                debug_assert!(row.order_key.is_some() && !row.to_city.is_empty());
                cases.entry((sent.from, sent.to, case)).or_default().push((row.first_leaf, key, sent));
            }
        }
        for mut case in cases.into_values() {
            case.sort_by_key(|(leaf, ..)| *leaf);
            let effects = case.iter().filter_map(|(_, key, sent)| Some((sent.effects.first()?, key, sent)));
            let effects: Vec<_> = effects.collect();
            for pair in effects.windows(2) {
                let [(first, before, sent), (second, after, _)] = pair else { continue };
                if second < first && !self.is_marked_late(books, before, sent.to) {
                    return Err(format!("{} of {:?} overtook {}", after.id, sent.case, before.id));
                }
            }
        }
        Ok(())
    }

    /// Whether the recipient said that the case came out of order (it marks the first message that comes behind a later one,
    /// not those that follow it), or the message's origin had given it up.
    fn is_marked_late(&self, books: &[Book], key: &Key, to: Place) -> bool {
        let id = (key.from_city.as_str().to_owned(), key.id.bytes().to_vec());
        let from = self.map.place(&Member::City(key.from_city.clone()));
        let given_up = books[from].messages.values().any(|row| row.key == id && row.late);
        let there = &books[to];
        let Some((seq, row)) = there.messages.iter().find(|(_, row)| row.key == id) else { return given_up };
        let marks =
            |(other, _): &(&u64, &Row)| there.said[*other].first().is_some_and(|leaf| !leaf.1.reasons.is_empty());
        let mut of_case = there.messages.range(..=seq).filter(|(_, other)| other.order_key == row.order_key);
        given_up || of_case.any(|entry| marks(&entry))
    }
}

fn is_end(event: Event) -> bool {
    matches!(event, Event::HandedOver | Event::HandoverFailed | Event::RelayFailed | Event::Expired | Event::Cancelled)
}

/// States as their numbers stand in the store.
const CONFIRMED: u8 = 4;

fn is_confirmed(row: &Row) -> bool {
    row.state == CONFIRMED
}

fn is_over(row: &Row) -> bool {
    row.state >= CONFIRMED
}

/// The state that follows from the leaves, by the published order of states; a handover wins over what others gave up.
fn check_state(book: &Book, row: &Row, said: &[(usize, Evidence)]) -> Result<(), String> {
    let (mut state, mut turned_back) = (0u8, false);
    for (_, evidence) in said {
        let told = match &evidence.witnessed {
            Some(foreign) => match book.received.get(&foreign.leaf_hash.0) {
                Some(foreign) => foreign.event,
                None => return Err("witnesses a receipt that is not kept".to_owned()),
            },
            None => evidence.event,
        };
        let next = match told {
            Event::SubmissionAccepted => 1,
            Event::RelayAccepted => 2,
            Event::Consigned => 3,
            Event::HandedOver => CONFIRMED,
            Event::RelayFailed => 6,
            Event::Expired => 7,
            Event::Cancelled => 8,
            // A refusal by one of several ways is not the end.
            Event::RelayRejected if row.state != 5 => continue,
            Event::RelayRejected | Event::ConsignmentFailed | Event::HandoverFailed => 5,
            Event::SubmissionRejected | Event::Delayed | Event::Witnessed => continue,
        };
        let wins = next == CONFIRMED && (turned_back || matches!(state, 6..=8));
        if wins || (state < CONFIRMED && next > state) {
            (state, turned_back) = (next, told == Event::RelayRejected);
        }
    }
    if state == row.state { Ok(()) } else { Err(format!("is in state {}, its leaves say {state}", row.state)) }
}
