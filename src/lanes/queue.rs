//! Decides which of the rows in memory may go out, case by case. Never decides to whom, and never reads the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{Attempt, CaseKey, Fate, Queued, Seq, SessionId};
use crate::planted;
use crate::time::Time;

/// The rows in memory. Each row is in one [`Stage`]; of a case, all but the first are `Behind`.
pub(super) struct Queue {
    deliveries_max: u32,
    rows: BTreeMap<Seq, Row>,
    cases: HashMap<CaseKey, Case>,
    /// Rows in stage `Ready`, by place: whoever became ready first goes first.
    ready: BTreeMap<u64, Seq>,
    /// The moments at which rows that are out, parked or settling for a second time are looked at again.
    due: BTreeSet<(Time, Seq)>,
    /// Rows that ended by being delivered too often, until [`Queue::next_spent`] takes them.
    spent: Vec<Seq>,
    /// Rows that wait, first of their case, and may take another way.
    divertible: BTreeSet<Seq>,
    places: u64,
    out: usize,
    parked: usize,
    asking: usize,
    settling: usize,
}

struct Row {
    queued: Queued,
    known: Known,
    sent: Sent,
    wish: Wish,
    place: u64,
    stage: Stage,
}

/// How a row came into memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It was read from the store.
    Read,
    /// Somebody named it, to end it: its case is not known, until it is read.
    Named,
}

/// Whether a row has been out in this life of the lane. One that has stays in memory, first of its case, until it is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Never,
    Once,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Carry,
    Cancel,
}

/// Where a row stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for the message of its case before it.
    Behind,
    Ready,
    Out(Out),
    /// It waits for a moment, and its case with it.
    Parked,
    /// The other side is asked whether it has it.
    Asking(Why),
    /// Its fate is being written.
    Settling(Fate),
}

impl Stage {
    /// Whether the row is on nobody's desk.
    pub fn waits(self) -> bool {
        matches!(self, Stage::Behind | Stage::Ready | Stage::Parked)
    }
}

/// What shall end a row that is being asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Deadline,
    Cancel,
}

/// A delivery under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Out {
    pub session: SessionId,
    pub attempt: Attempt,
    pub since: Time,
    pub until: Time,
}

/// The rows of one case, while any is in memory.
#[derive(Default)]
struct Case {
    /// Ascending, except that a first row that has been out stays first.
    line: VecDeque<Seq>,
    /// Rows from here on were dropped, and are read again once `line` has run out.
    dropped_from: Option<Seq>,
    session: Option<SessionId>,
}

impl Queue {
    pub fn new(deliveries_max: Option<u32>) -> Queue {
        Queue {
            deliveries_max: deliveries_max.unwrap_or(u32::MAX),
            rows: BTreeMap::new(),
            cases: HashMap::new(),
            ready: BTreeMap::new(),
            due: BTreeSet::new(),
            spent: Vec::new(),
            divertible: BTreeSet::new(),
            places: 0,
            out: 0,
            parked: 0,
            asking: 0,
            settling: 0,
        }
    }

    /// Takes a row from the store; one that is known already, or that its case has no room for now, changes nothing.
    pub fn insert(&mut self, queued: Queued, now: Time) {
        let (seq, known) = (queued.seq, self.rows.get(&queued.seq).map(|row| row.known));
        if known == Some(Known::Read) || self.drops(seq, queued.case.as_ref()) {
            return;
        }
        let first = self.line_up(seq, queued.case.as_ref());
        match self.rows.get_mut(&seq) {
            Some(row) => {
                let doubt = row.queued.doubt || queued.doubt;
                (row.queued, row.known) = (Queued { doubt, ..queued }, Known::Read);
            }
            None => {
                self.rows.insert(seq, Row::new(queued, Known::Read));
                if first {
                    self.lead(seq, now);
                }
            }
        }
    }

    /// Takes in a row that has not been read, to end it.
    pub fn name(&mut self, seq: Seq, expires_at: Time, doubt: bool) {
        let (case, deliveries, parked_until, alternative) = (None, 0, Time::ZERO, false);
        let queued = Queued { seq, case, deliveries, parked_until, expires_at, doubt, alternative };
        self.rows.entry(seq).or_insert_with(|| Row::new(queued, Known::Named));
    }

    /// Whether the case keeps no followers in memory now; notes where they begin.
    fn drops(&mut self, seq: Seq, case: Option<&CaseKey>) -> bool {
        let Some(case) = case.and_then(|key| self.cases.get_mut(key)) else { return false };
        let first = case.line.front().and_then(|first| self.rows.get(first));
        let parked = first.is_some_and(|row| row.stage == Stage::Parked);
        let dropped = case.dropped_from.is_some_and(|from| seq >= from);
        if parked && !dropped {
            case.dropped_from = Some(seq);
        }
        parked || dropped
    }

    /// Puts a row into the line of its case and says whether it is the first there. A row that comes late, with a lower
    /// place than others, goes before those that have not been out.
    fn line_up(&mut self, seq: Seq, case: Option<&CaseKey>) -> bool {
        let Some(key) = case else { return true };
        let line = &mut self.cases.entry(key.clone()).or_default().line;
        let Some(&first) = line.front() else {
            line.push_back(seq);
            return true;
        };
        let Some(row) = self.rows.get(&first) else { return false };
        if seq < first && row.stage == Stage::Ready && row.sent == Sent::Never {
            line.push_front(seq);
            self.enter(first, Stage::Behind);
            return true;
        }
        let place = line.iter().skip(1).rposition(|other| *other < seq).map_or(1, |before| before + 2);
        line.insert(place, seq);
        false
    }

    /// A row has become the first of its case; one that is ending already goes nowhere.
    fn lead(&mut self, seq: Seq, now: Time) {
        match self.rows.get(&seq) {
            Some(row) if row.stage != Stage::Behind => {}
            Some(row) if row.queued.parked_until > now => self.park_until(seq, row.queued.parked_until),
            Some(_) => self.make_ready(seq),
            None => {}
        }
    }

    /// Lets a row go out, behind all that are ready now; or ends it, if it has been out often enough.
    fn make_ready(&mut self, seq: Seq) {
        if self.deliveries(seq) >= self.deliveries_max {
            self.enter(seq, Stage::Settling(Fate::Exhausted));
            self.spent.push(seq);
            return;
        }
        self.places += 1;
        if let Some(row) = self.rows.get_mut(&seq) {
            row.place = self.places;
        }
        self.enter(seq, Stage::Ready);
    }

    fn park_until(&mut self, seq: Seq, until: Time) {
        self.leave(seq);
        let Some(row) = self.rows.get_mut(&seq) else { return };
        (row.queued.parked_until, row.stage) = (until, Stage::Behind);
        self.enter(seq, Stage::Parked);
        let case = self.rows.get(&seq).and_then(|row| row.queued.case.as_ref());
        let Some(case) = case.and_then(|key| self.cases.get_mut(key)) else { return };
        let followers: Vec<Seq> = case.line.drain(1..).collect();
        for follower in followers {
            match self.rows.get(&follower).is_some_and(|row| row.stage == Stage::Behind) {
                true => {
                    self.rows.remove(&follower);
                    case.drop_from(follower);
                }
                false => case.line.push_back(follower),
            }
        }
    }

    /// The row to go out next, and the session that had its case before.
    pub fn first_ready(&self) -> Option<(Seq, Option<SessionId>)> {
        let (_, &seq) = self.ready.first_key_value()?;
        Some((seq, self.case(seq).and_then(|case| case.session)))
    }

    /// A ready row goes out; returns which delivery of it this is, from 1.
    pub fn send(&mut self, seq: Seq, out: Out) -> u32 {
        self.enter(seq, Stage::Out(out));
        let Some(row) = self.rows.get_mut(&seq) else { return 0 };
        row.sent = Sent::Once;
        if let Some(case) = row.queued.case.as_ref().and_then(|key| self.cases.get_mut(key)) {
            case.session = Some(out.session);
        }
        row.queued.deliveries.saturating_add(1)
    }

    /// The delivery of this row that is under way, if it is this attempt in this session.
    pub fn out(&self, seq: Seq, attempt: Attempt, session: SessionId) -> Option<Out> {
        match self.rows.get(&seq)?.stage {
            Stage::Out(out) if out.attempt == attempt && out.session == session => Some(out),
            Stage::Out(out) if planted::is(planted::Bug::SettleWithoutAttempt) => Some(out),
            _ => None,
        }
    }

    /// Everything that a session holds, ascending.
    pub fn held_by(&self, session: SessionId) -> Vec<(Seq, Attempt)> {
        let held = |(seq, row): (&Seq, &Row)| match row.stage {
            Stage::Out(out) if out.session == session => Some((*seq, out.attempt)),
            _ => None,
        };
        self.rows.iter().filter_map(held).collect()
    }

    /// A delivery has until `until`, instead of what it had.
    pub fn prolong(&mut self, seq: Seq, until: Time) {
        let Some(Row { stage: Stage::Out(out), .. }) = self.rows.get_mut(&seq) else { return };
        self.due.remove(&(out.until, seq));
        out.until = until;
        self.due.insert((until, seq));
    }

    /// What was out comes back to its old place, and the delivery does not count.
    pub fn put_back(&mut self, seq: Seq) {
        self.enter(seq, Stage::Ready);
    }

    /// What was out comes back behind all that are ready, and the delivery counts.
    pub fn count_and_requeue(&mut self, seq: Seq) {
        self.count(seq);
        self.make_ready(seq);
    }

    /// What was out waits, and its case with it; the delivery does not count.
    pub fn park(&mut self, seq: Seq, until: Time) {
        self.park_until(seq, until);
    }

    /// What was out waits, and its case with it; the delivery counts.
    pub fn count_and_park(&mut self, seq: Seq, until: Time) {
        match self.count(seq) >= self.deliveries_max {
            true => self.make_ready(seq),
            false => self.park_until(seq, until),
        }
    }

    /// A delivery of this row counts.
    pub fn count(&mut self, seq: Seq) -> u32 {
        let Some(row) = self.rows.get_mut(&seq) else { return 0 };
        row.queued.deliveries = row.queued.deliveries.saturating_add(1);
        row.queued.deliveries
    }

    /// The row waits for its fate to be written.
    pub fn settle(&mut self, seq: Seq, fate: Fate) {
        self.enter(seq, Stage::Settling(fate));
    }

    /// The row waits for what the other side says of it.
    pub fn ask(&mut self, seq: Seq, why: Why) {
        self.enter(seq, Stage::Asking(why));
    }

    /// The other side may have it.
    pub fn doubt(&mut self, seq: Seq) {
        if let Some(row) = self.rows.get_mut(&seq) {
            row.queued.doubt = true;
            self.divertible.remove(&seq);
        }
    }

    /// It shall be cancelled when it is not out any more.
    pub fn wish_cancel(&mut self, seq: Seq) {
        if let Some(row) = self.rows.get_mut(&seq) {
            row.wish = Wish::Cancel;
        }
    }

    /// Whether it was to be cancelled; asks once.
    pub fn granted_cancel(&mut self, seq: Seq) -> bool {
        let row = self.rows.get_mut(&seq);
        row.is_some_and(|row| std::mem::replace(&mut row.wish, Wish::Carry) == Wish::Cancel)
    }

    /// A row about which the other side was asked goes back to its place. Where its place is not in memory it is dropped;
    /// returns where the store must be read again.
    pub fn release(&mut self, seq: Seq, now: Time) -> Option<Seq> {
        let row = self.rows.get(&seq)?;
        if row.known == Known::Named {
            self.remove(seq, now);
            return Some(seq);
        }
        let (never_sent, first) = (row.sent == Sent::Never, self.case(seq).and_then(|case| case.line.front().copied()));
        let others_dropped = self.case(seq).and_then(|case| case.dropped_from).is_some_and(|from| from < seq);
        let parked = first.is_some_and(|first| self.stage(first) == Some(Stage::Parked));
        self.enter(seq, Stage::Behind);
        if never_sent && (others_dropped || parked) {
            let case = self.rows.get(&seq).and_then(|row| row.queued.case.as_ref());
            if let Some(case) = case.and_then(|key| self.cases.get_mut(key)) {
                case.drop_from(seq);
            }
            return self.remove(seq, now);
        }
        if first.is_none_or(|first| first == seq) {
            self.lead(seq, now);
        }
        None
    }

    /// A row that may take another way.
    pub fn first_divertible(&self) -> Option<Seq> {
        self.divertible.first().copied()
    }

    /// Looks at a settling row again at this moment.
    pub fn retry_settling(&mut self, seq: Seq, at: Time) {
        if let Some(Stage::Settling(_)) = self.stage(seq) {
            self.due.insert((at, seq));
        }
    }

    /// A parked row may go.
    pub fn unpark(&mut self, seq: Seq) {
        self.make_ready(seq);
    }

    /// A row that ended by being delivered too often.
    pub fn next_spent(&mut self) -> Option<Seq> {
        self.spent.pop()
    }

    /// The next row whose moment has come.
    pub fn next_due(&mut self, now: Time) -> Option<Seq> {
        let &(at, seq) = self.due.first()?;
        (at <= now).then(|| self.due.pop_first())?;
        Some(seq)
    }

    /// The moment at which a row is to be looked at.
    pub fn first_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Forgets a row that is gone from the store and lets its case go on; returns the place from which the store must be
    /// read again, if the case goes on there.
    pub fn remove(&mut self, seq: Seq, now: Time) -> Option<Seq> {
        self.leave(seq);
        let key = self.rows.remove(&seq)?.queued.case?;
        let case = self.cases.get_mut(&key)?;
        let was_first = case.line.front() == Some(&seq);
        match was_first {
            true => drop(case.line.pop_front()),
            false => case.line.retain(|other| *other != seq),
        }
        match case.line.front() {
            Some(&next) if was_first => {
                self.lead(next, now);
                None
            }
            Some(_) => None,
            None => self.cases.remove(&key)?.dropped_from,
        }
    }

    /// Takes a row from its stage to another. Every collection but `rows` and `cases` is kept here and in `leave`.
    fn enter(&mut self, seq: Seq, stage: Stage) {
        self.leave(seq);
        let Some(row) = self.rows.get_mut(&seq) else { return };
        row.stage = stage;
        match stage {
            Stage::Behind => {}
            Stage::Ready => drop(self.ready.insert(row.place, seq)),
            Stage::Out(out) => {
                self.due.insert((out.until, seq));
                self.out += 1;
            }
            Stage::Parked => {
                self.due.insert((row.queued.parked_until, seq));
                self.parked += 1;
            }
            Stage::Asking(_) => self.asking += 1,
            Stage::Settling(_) => self.settling += 1,
        }
        if matches!(stage, Stage::Ready | Stage::Parked) && row.queued.alternative && !row.queued.doubt {
            self.divertible.insert(seq);
        }
    }

    /// Undoes what the stage of a row left in the other collections.
    fn leave(&mut self, seq: Seq) {
        let Some(row) = self.rows.get(&seq) else { return };
        self.divertible.remove(&seq);
        match row.stage {
            Stage::Behind => {}
            Stage::Ready => drop(self.ready.remove(&row.place)),
            Stage::Out(out) => {
                self.due.remove(&(out.until, seq));
                self.out -= 1;
            }
            Stage::Parked => {
                self.due.remove(&(row.queued.parked_until, seq));
                self.parked -= 1;
            }
            Stage::Asking(_) => self.asking -= 1,
            Stage::Settling(_) => self.settling -= 1,
        }
    }

    fn case(&self, seq: Seq) -> Option<&Case> {
        self.cases.get(self.rows.get(&seq)?.queued.case.as_ref()?)
    }

    /// Whether the row was read from the store.
    pub fn is_read(&self, seq: Seq) -> bool {
        self.rows.get(&seq).is_some_and(|row| row.known == Known::Read)
    }

    pub fn row(&self, seq: Seq) -> Option<&Queued> {
        self.rows.get(&seq).map(|row| &row.queued)
    }

    pub fn stage(&self, seq: Seq) -> Option<Stage> {
        self.rows.get(&seq).map(|row| row.stage)
    }

    pub fn deliveries(&self, seq: Seq) -> u32 {
        self.rows.get(&seq).map_or(0, |row| row.queued.deliveries)
    }

    pub fn known_from(&self, seq: Seq) -> usize {
        self.rows.range(seq..).count()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    pub fn out_count(&self) -> usize {
        self.out
    }

    pub fn parked_count(&self) -> usize {
        self.parked
    }

    pub fn settling_count(&self) -> usize {
        self.settling
    }

    pub fn asking_count(&self) -> usize {
        self.asking
    }
}

impl Row {
    fn new(queued: Queued, known: Known) -> Row {
        Row { queued, known, sent: Sent::Never, wish: Wish::Carry, place: 0, stage: Stage::Behind }
    }
}

impl Case {
    /// Rows from here on are not in memory.
    fn drop_from(&mut self, seq: Seq) {
        self.dropped_from = Some(self.dropped_from.map_or(seq, |from| from.min(seq)));
    }
}
