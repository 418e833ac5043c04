//! Decides which of the rows in memory may go out, case by case. Never decides to whom, and never reads the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{Attempt, CaseKey, Fate, Queued, Seq, SessionId};
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
    places: u64,
    out: usize,
    parked: usize,
    settling: usize,
}

struct Row {
    case: Option<CaseKey>,
    deliveries: u32,
    parked_until: Time,
    place: u64,
    stage: Stage,
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
    /// Its fate is being written.
    Settling(Fate),
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
            places: 0,
            out: 0,
            parked: 0,
            settling: 0,
        }
    }

    /// Takes a row from the store; one that is known already, or that its case has no room for now, changes nothing.
    pub fn insert(&mut self, queued: Queued, now: Time) {
        let Queued { seq, case, deliveries, parked_until } = queued;
        if self.rows.contains_key(&seq) || self.drops(seq, case.as_ref()) {
            return;
        }
        let first = self.line_up(seq, case.as_ref());
        self.rows.insert(seq, Row { case, deliveries, parked_until, place: 0, stage: Stage::Behind });
        if first {
            self.lead(seq, now);
        }
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
        let Some(row) = self.rows.get_mut(&first) else { return false };
        if seq < first && row.stage == Stage::Ready {
            self.ready.remove(&row.place);
            row.stage = Stage::Behind;
            line.push_front(seq);
            return true;
        }
        let place = line.iter().skip(1).rposition(|other| *other < seq).map_or(1, |before| before + 2);
        line.insert(place, seq);
        false
    }

    /// A row has become the first of its case.
    fn lead(&mut self, seq: Seq, now: Time) {
        match self.rows.get(&seq) {
            Some(row) if row.parked_until > now => self.park_until(seq, row.parked_until),
            Some(_) => self.make_ready(seq),
            None => {}
        }
    }

    /// Lets a row go out, behind all that are ready now; or ends it, if it has been out often enough.
    fn make_ready(&mut self, seq: Seq) {
        let Some(row) = self.rows.get_mut(&seq) else { return };
        if row.deliveries >= self.deliveries_max {
            row.stage = Stage::Settling(Fate::Exhausted);
            self.settling += 1;
            self.spent.push(seq);
            return;
        }
        self.places += 1;
        row.place = self.places;
        row.stage = Stage::Ready;
        self.ready.insert(row.place, seq);
    }

    fn park_until(&mut self, seq: Seq, until: Time) {
        let Some(row) = self.rows.get_mut(&seq) else { return };
        row.parked_until = until;
        row.stage = Stage::Parked;
        self.parked += 1;
        self.due.insert((until, seq));
        let Some(case) = row.case.as_ref().and_then(|key| self.cases.get_mut(key)) else { return };
        for follower in case.line.drain(1..) {
            self.rows.remove(&follower);
            case.dropped_from = Some(case.dropped_from.map_or(follower, |from| from.min(follower)));
        }
    }

    /// The row to go out next, and the session that had its case before.
    pub fn first_ready(&self) -> Option<(Seq, Option<SessionId>)> {
        let (_, &seq) = self.ready.first_key_value()?;
        let case = self.rows.get(&seq).and_then(|row| row.case.as_ref()).and_then(|key| self.cases.get(key));
        Some((seq, case.and_then(|case| case.session)))
    }

    /// A ready row goes out; returns which delivery of it this is, from 1.
    pub fn send(&mut self, seq: Seq, out: Out) -> u32 {
        let Some(row) = self.rows.get_mut(&seq) else { return 0 };
        self.ready.remove(&row.place);
        row.stage = Stage::Out(out);
        self.out += 1;
        self.due.insert((out.until, seq));
        if let Some(case) = row.case.as_ref().and_then(|key| self.cases.get_mut(key)) {
            case.session = Some(out.session);
        }
        row.deliveries.saturating_add(1)
    }

    /// The delivery of this row that is under way, if it is this attempt in this session.
    pub fn out(&self, seq: Seq, attempt: Attempt, session: SessionId) -> Option<Out> {
        match self.rows.get(&seq)?.stage {
            Stage::Out(out) if out.attempt == attempt && out.session == session => Some(out),
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
        self.leave_stage(seq);
        let Some(row) = self.rows.get_mut(&seq) else { return };
        row.stage = Stage::Ready;
        self.ready.insert(row.place, seq);
    }

    /// What was out comes back behind all that are ready, and the delivery counts.
    pub fn count_and_requeue(&mut self, seq: Seq) {
        self.leave_stage(seq);
        self.count(seq);
        self.make_ready(seq);
    }

    /// What was out waits, and its case with it; the delivery counts.
    pub fn count_and_park(&mut self, seq: Seq, until: Time) {
        self.leave_stage(seq);
        match self.count(seq) >= self.deliveries_max {
            true => self.make_ready(seq),
            false => self.park_until(seq, until),
        }
    }

    fn count(&mut self, seq: Seq) -> u32 {
        let Some(row) = self.rows.get_mut(&seq) else { return 0 };
        row.deliveries = row.deliveries.saturating_add(1);
        row.deliveries
    }

    /// What was out waits for its fate to be written; the delivery counts.
    pub fn settle(&mut self, seq: Seq, fate: Fate) {
        self.leave_stage(seq);
        self.count(seq);
        if let Some(row) = self.rows.get_mut(&seq) {
            row.stage = Stage::Settling(fate);
            self.settling += 1;
        }
    }

    /// Looks at a settling row again at this moment.
    pub fn retry_settling(&mut self, seq: Seq, at: Time) {
        if let Some(Stage::Settling(_)) = self.stage(seq) {
            self.due.insert((at, seq));
        }
    }

    /// A parked row may go.
    pub fn unpark(&mut self, seq: Seq) {
        self.leave_stage(seq);
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
        self.leave_stage(seq);
        let key = self.rows.remove(&seq)?.case?;
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

    /// Undoes what the stage of a row left in the other collections.
    fn leave_stage(&mut self, seq: Seq) {
        let Some(row) = self.rows.get(&seq) else { return };
        match row.stage {
            Stage::Behind => {}
            Stage::Ready => drop(self.ready.remove(&row.place)),
            Stage::Out(out) => {
                self.due.remove(&(out.until, seq));
                self.out -= 1;
            }
            Stage::Parked => {
                self.due.remove(&(row.parked_until, seq));
                self.parked -= 1;
            }
            Stage::Settling(_) => self.settling -= 1,
        }
    }

    pub fn stage(&self, seq: Seq) -> Option<Stage> {
        self.rows.get(&seq).map(|row| row.stage)
    }

    pub fn deliveries(&self, seq: Seq) -> u32 {
        self.rows.get(&seq).map_or(0, |row| row.deliveries)
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
}
