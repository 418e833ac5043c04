//! Decides nothing of its own: one gateway's process as the product's loops are, with the ledger's real core over a real
//! store, and a crash wherever there can be one. What is in [`Process`] dies with it; what is in the folder does not.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use rusqlite::Connection;
use tongban::admission::Ration;
use tongban::chance::Chance;
use tongban::courier::Batch;
use tongban::lanes::{Attempt, Event, Fate, Queued, Seq, SessionId};
use tongban::ledger::{Answer, Core, Entry, Notice, Pause, Rung, StartError, Trouble};
use tongban::party::Member;
use tongban::reason::Reason;
use tongban::receipt::Checker;
use tongban::store::{self, LaneName, Mark, Readers, Synchronous};
use tongban::time::Time;

use crate::carrier::Carrier;
use crate::map::SYSTEM;
use crate::rare::Rare;
use crate::traffic::{Answered, CallId, End, Fare, LinkId, Packet, Said};
use crate::world::{Happening, Place, World};

/// Entries that one commit takes at most.
const COMMIT_MAX: usize = 12;
/// Milliseconds between two looks at what is due.
const LOOK_EVERY_MS: u64 = 1_000;

/// The memory of a gateway that runs.
pub struct Process {
    pub core: Core,
    pub readers: Readers,
    pub checker: Checker,
    pub carriers: BTreeMap<LaneName, Carrier>,
    pub rations: BTreeMap<Member, Ration>,
    /// What the ledger is to make true, and who waits for it.
    queue: VecDeque<(Entry, Reply)>,
    committing: bool,
    /// When what is due is looked at next, and the name of that look.
    look: (Time, u64),
    /// Where this gateway fetches: the link, once it is open.
    pub fetching: BTreeMap<Place, Option<LinkId>>,
}

/// Who waits for an entry to be true.
pub enum Reply {
    Person { place: Place, call: CallId },
    Carried { link: LinkId, seq: Seq, attempt: Attempt },
    Settled { lane: LaneName, seq: Seq, fate: Fate },
    Homed { link: LinkId, name: String },
    Arrived { lane: LaneName },
    Opened { lane: LaneName, link: LinkId, credits: u32 },
    Nobody,
}

/// What waits in a gateway's memory for its time.
pub enum Todo {
    Commit,
    Committed { rung: Box<Rung>, answers: Vec<(Reply, Result<Answer, Trouble>)> },
    Loaded { lane: LaneName, rows: Option<(Vec<Queued>, bool)> },
    Dialed { lane: LaneName },
    Send { lane: LaneName, session: SessionId, seq: Seq, attempt: Attempt },
    Wake { lane: LaneName, name: u64 },
    Home { lane: LaneName, batch: Batch },
    SendHome { lane: LaneName },
    AskEnds { lane: LaneName, seq: Seq, question: u64 },
    Look { name: u64 },
    Fetch { from: Place },
}

impl World {
    /// The process starts, or refuses to: then nothing may be signed.
    pub fn start(&mut self, place: Place) {
        if self.gateways[place].process.is_some() {
            return;
        }
        self.gateways[place].life += 1;
        if self.dice.happens(self.weather.damage) {
            self.damage_edge(place);
        }
        match self.open(place) {
            Ok(process) => self.gateways[place].process = Some(process),
            Err(error) => return self.fail(format!("{} does not start again: {error}", self.gateways[place].member)),
        }
        if let Err(violation) = self.check_reopened(place) {
            return self.fail(violation);
        }
        self.open_lanes(place);
        if self.calm {
            self.resume_lanes(place);
        }
        self.plan_inside(place, 1, Todo::Look { name: 0 });
        if self.map.pulls == Some(place) {
            for from in (0..self.gateways.len()).filter(|from| *from != place) {
                self.plan_inside(place, 1, Todo::Fetch { from });
            }
        }
    }

    fn open(&mut self, place: Place) -> Result<Process, StartError> {
        let gateway = &self.gateways[place];
        let (writer, readers) = store::open(&gateway.folder, Synchronous::Full).expect("the store opens");
        let (mark, key) = (Mark::in_folder(&gateway.folder), self.map.key(place));
        let wanted = self.map.receipts_wanted && !self.map.is_hub(place);
        let receipt_readers: HashSet<_> = wanted.then(|| SYSTEM.parse().unwrap()).into_iter().collect();
        let chance = Chance::seeded(self.seed ^ (place as u64) << 56 ^ u64::from(gateway.life) << 48);
        let core = Core::open(writer, mark, key, gateway.member.clone())?;
        Ok(Process {
            core: core.with_receipt_readers(receipt_readers).with_chance(chance),
            readers,
            checker: self.map.checker(),
            carriers: BTreeMap::new(),
            rations: BTreeMap::new(),
            queue: VecDeque::new(),
            committing: false,
            look: (Time::ZERO, 0),
            fetching: BTreeMap::new(),
        })
    }

    /// The disk gives back another right edge than it was given: that must be noticed before anything is signed.
    fn damage_edge(&mut self, place: Place) {
        let sql = Connection::open(self.gateways[place].folder.join("store.db")).unwrap();
        let whole: Vec<u8> = sql.query_row("SELECT edge FROM tree", [], |row| row.get(0)).unwrap();
        let Some(byte) = whole.len().checked_sub(1) else { return };
        let mut damaged = whole.clone();
        damaged[self.dice.index(byte + 1)] ^= 1 << self.dice.below(8);
        sql.execute("UPDATE tree SET edge = ?", [&damaged]).unwrap();
        match self.open(place) {
            Err(StartError::Edge { .. }) => self.tally.hit(Rare::EdgeRefused),
            Err(error) => self.fail(format!("a damaged edge is taken for something else: {error}")),
            Ok(_) => self.fail("a damaged right edge is not noticed".to_owned()),
        }
        sql.execute("UPDATE tree SET edge = ?", [&whole]).unwrap();
    }

    /// The process is gone, and all that it knew with it.
    pub fn crash(&mut self, place: Place) {
        let Some(process) = self.gateways[place].process.take() else { return };
        if process.carriers.values().any(|carrier| !carrier.links.is_empty()) {
            self.tally.hit(Rare::RestartInDoubt);
        }
        drop(process);
        self.gateways[place].life += 1;
        self.break_links_of(place);
        let down_ms = 1 + self.dice.below(self.weather.down_ms);
        self.plan(down_ms, Happening::Start { place });
    }

    /// Hands an entry to the ledger.
    pub fn post(&mut self, place: Place, entry: Entry, reply: Reply) {
        let Some(process) = self.process(place) else { return };
        process.queue.push_back((entry, reply));
        if !std::mem::replace(&mut process.committing, true) {
            self.plan_stored(place, Todo::Commit);
        }
    }

    pub fn inside(&mut self, place: Place, todo: Todo) {
        match todo {
            Todo::Commit => self.commit(place),
            Todo::Committed { rung, answers } => self.committed(place, *rung, answers),
            Todo::Look { name } => self.look(place, name),
            Todo::Fetch { from } => self.fetch(place, from),
            Todo::Loaded { lane, rows } => {
                let event = match rows {
                    Some((rows, end)) => Event::Loaded { rows, end },
                    None => Event::LoadFailed,
                };
                self.feed(place, &lane, event);
            }
            Todo::Dialed { lane } => self.dialed(place, &lane),
            Todo::Send { lane, session, seq, attempt } => self.send_message(place, &lane, session, seq, attempt),
            Todo::Wake { lane, name } => self.wake(place, &lane, name),
            Todo::Home { lane, batch } => self.receipts_read(place, &lane, batch),
            Todo::SendHome { lane } => self.send_home(place, &lane),
            Todo::AskEnds { lane, seq, question } => self.told(place, &lane, seq, question, Err(())),
        }
    }

    /// One group commit: signed, stored, and only then answered. A crash can come between any two of them.
    fn commit(&mut self, place: Place) {
        let now = self.now(place);
        let Some(process) = self.process(place) else { return };
        let ready = process.queue.len().min(COMMIT_MAX);
        let (entries, replies): (Vec<_>, Vec<_>) = process.queue.drain(..ready).unzip();
        self.count_twins(&entries);
        let Some(process) = self.process(place) else { return };
        let prepared = match process.core.prepare(now, entries) {
            Ok(prepared) => prepared,
            Err(error) => return self.fail(format!("a batch cannot be decided: {error}")),
        };
        if let Some(note) = prepared.note() {
            self.oracle.signed(note);
        }
        if self.dice.happens(self.weather.crash_signed) {
            self.tally.hit(Rare::CrashSigned);
            return self.crash(place);
        }
        if self.dice.happens(self.weather.disk_full) {
            self.tally.hit(Rare::DiskFull);
            let answers = replies.into_iter().map(|reply| (reply, Err(Trouble::Full))).collect();
            return self.plan_stored(place, Todo::Committed { rung: Box::default(), answers });
        }
        let Some(process) = self.process(place) else { return };
        // Otherwise as the process does: it ends, and a start reads what is true.
        let Ok((answers, rung)) = process.core.commit(prepared) else { return self.end_with(place, replies) };
        if self.dice.happens(self.weather.crash_stored) {
            self.tally.hit(Rare::CrashStored);
            return self.crash(place);
        }
        if self.dice.happens(self.weather.ambiguous) {
            self.tally.hit(Rare::Ambiguous);
            return self.end_with(place, replies);
        }
        let answers = replies.into_iter().zip(answers.into_iter().map(Ok)).collect();
        self.plan_stored(place, Todo::Committed { rung: Box::new(rung), answers });
    }

    /// The store failed, or said so: everybody hears that nothing is known, and the process ends.
    fn end_with(&mut self, place: Place, replies: Vec<Reply>) {
        for reply in replies {
            self.reply(place, reply, Err(Trouble::Stopped));
        }
        self.crash(place);
    }

    fn count_twins(&mut self, entries: &[Entry]) {
        let mut taken = HashSet::new();
        for entry in entries {
            if let Entry::Take(take) = entry
                && !taken.insert((take.envelope.from.city.clone(), take.envelope.id))
            {
                self.tally.hit(Rare::TwiceInOneCommit);
            }
        }
    }

    fn committed(&mut self, place: Place, rung: Rung, answers: Vec<(Reply, Result<Answer, Trouble>)>) {
        let now = self.now(place);
        self.ring(place, rung);
        for (reply, answer) in answers {
            self.reply(place, reply, answer);
        }
        let Some(process) = self.process(place) else { return };
        process.core.write_mark_if_due(now);
        process.committing = !process.queue.is_empty();
        if process.committing {
            self.plan_stored(place, Todo::Commit);
        }
    }

    /// Announces what a commit brought, as the ledger's bells do.
    fn ring(&mut self, place: Place, rung: Rung) {
        let (mut newest, mut lowest): (BTreeMap<LaneName, Seq>, BTreeMap<LaneName, Seq>) = Default::default();
        for (lane, seq) in rung.lanes {
            newest.entry(lane).and_modify(|last| *last = seq.max(*last)).or_insert(seq);
        }
        for (lane, seq) in rung.moved {
            lowest.entry(lane).and_modify(|first| *first = seq.min(*first)).or_insert(seq);
        }
        for (lane, held) in rung.held {
            self.feed(place, &lane, if held { Event::Held } else { Event::Resumed });
        }
        for (lane, seq) in newest {
            self.feed(place, &lane, Event::Enqueued { seq });
        }
        for (lane, seq) in lowest {
            self.feed(place, &lane, Event::Moved { seq });
        }
        let outboxes: BTreeMap<LaneName, u64> = rung.outboxes.into_iter().collect();
        for lane in outboxes.into_keys() {
            if let Some(carrier) = self.carrier(place, &lane) {
                carrier.homeward.rung();
                self.send_home(place, &lane);
            }
        }
        if let Some(due_at) = rung.due_at {
            self.look_at(place, due_at);
        }
    }

    fn reply(&mut self, place: Place, reply: Reply, answer: Result<Answer, Trouble>) {
        match reply {
            Reply::Person { place: person, call } => {
                let answered = self.answered(answer);
                self.send(End::Person(person), Packet::Answer { call, answered }, Fare::Answer);
            }
            Reply::Carried { link, seq, attempt } => {
                let answered = self.answered(answer);
                let said = said(answered);
                self.send_outcome(link, seq, attempt, said);
            }
            Reply::Settled { lane, seq, fate } => self.settled(place, &lane, seq, fate, answer),
            Reply::Homed { link, name } => self.homed(link, name, answer),
            Reply::Arrived { lane } => self.arrival_written(place, &lane, matches!(answer, Ok(Answer::Done))),
            Reply::Opened { lane, link, credits } => {
                self.opened(place, &lane, link, credits, matches!(answer, Ok(Answer::Done)));
            }
            Reply::Nobody => {}
        }
    }

    /// What whoever brought a message is told; a receipt in it is shown from here on.
    fn answered(&mut self, answer: Result<Answer, Trouble>) -> Answered {
        let answered = match answer {
            Ok(Answer::Taken(Ok(receipt))) => Answered::Taken(receipt),
            Ok(Answer::Taken(Err(refusal))) => Answered::Refused(refusal.reason, refusal.receipt),
            Ok(_) => Answered::Refused(Reason::Internal, None),
            Err(Trouble::Busy) => Answered::Refused(Reason::Busy, None),
            Err(Trouble::Full) => Answered::Refused(Reason::StoreFull, None),
            Err(Trouble::Stopped) => Answered::Refused(Reason::StoreUnavailable, None),
        };
        if let Answered::Taken(receipt) | Answered::Refused(_, Some(receipt)) = &answered {
            let receipt = receipt.clone();
            self.show(&receipt);
        }
        answered
    }

    pub fn send_outcome(&mut self, link: LinkId, seq: Seq, attempt: Attempt, said: Said) {
        let Some(owner) = self.links.get(&link).map(|link| link.owner) else { return };
        self.send(End::Gateway(owner), Packet::Outcome { link, seq, attempt, said }, Fare::Answer);
        // Whoever fetches takes one more for each that it answered.
        if self.map.pulls.is_some() && self.fetches(link) {
            self.send(End::Gateway(owner), Packet::Credits { link, count: 1 }, Fare::Sure);
        }
    }

    fn fetches(&self, link: LinkId) -> bool {
        let pulls = self.map.pulls.map(End::Gateway);
        self.links.get(&link).is_some_and(|link| Some(link.other) == pulls)
    }

    /// Somebody pauses a lane, or lets it go on.
    pub fn hold_some_lane(&mut self, place: Place, held: bool) {
        let Some(process) = self.process(place) else { return };
        let lanes: Vec<LaneName> = process.carriers.keys().cloned().collect();
        let lane = lanes[self.dice.index(lanes.len())].clone();
        self.hold(place, lane, held);
    }

    fn hold(&mut self, place: Place, lane: LaneName, held: bool) {
        let pause = Pause { lane, held, why: "because".to_owned(), actor: "li".to_owned() };
        self.post(place, Entry::Hold(Box::new(pause)), Reply::Nobody);
    }

    pub fn resume_lanes(&mut self, place: Place) {
        let Some(process) = self.process(place) else { return };
        let lanes: Vec<LaneName> = process.carriers.keys().cloned().collect();
        lanes.into_iter().for_each(|lane| self.hold(place, lane, false));
    }
}

/// What waits although nothing happens.
impl World {
    /// Looks at what is due no later than `at`, and not sooner than in a second.
    fn look_at(&mut self, place: Place, at: Time) {
        let at = at.max(self.now(place).plus_ms(LOOK_EVERY_MS));
        let Some(process) = self.process(place) else { return };
        let (planned, name) = process.look;
        if planned == Time::ZERO || at < planned {
            process.look = (at, name + 1);
            self.plan_at(place, at, Todo::Look { name: name + 1 });
        }
    }

    fn look(&mut self, place: Place, name: u64) {
        let now = self.now(place);
        let Some(process) = self.process(place) else { return };
        if process.look.1 != name {
            return;
        }
        if process.look.0 > now {
            // The clock was put back.
            let at = process.look.0;
            return self.plan_at(place, at, Todo::Look { name });
        }
        process.look.0 = Time::ZERO;
        let (rows, next) = process.readers.look(|look| look.due(now, None, 1_000)).expect("the queues are read");
        let mut again = next;
        for row in rows {
            if row.expires_at > now {
                let notice = Notice { lane: row.lane, seq: row.seq, next_attempt_at: None };
                self.post(place, Entry::Notice(notice), Reply::Nobody);
            } else {
                again = Some(now);
                let Some(carrier) = self.carrier(place, &row.lane) else { continue };
                let (seq, expires_at, doubt) = (row.seq, row.expires_at, carrier.doubts(row.seq));
                self.feed(place, &row.lane, Event::Due { seq, expires_at, doubt });
            }
        }
        again.into_iter().for_each(|at| self.look_at(place, at));
    }

    /// A clock that was put elsewhere is heard by all who wait for a moment.
    pub fn rearm(&mut self, place: Place) {
        let Some(process) = self.process(place) else { return };
        let (look, name) = process.look;
        let lanes: Vec<LaneName> = process.carriers.keys().cloned().collect();
        if look != Time::ZERO {
            self.plan_at(place, look, Todo::Look { name });
        }
        for lane in lanes {
            self.arm(place, &lane);
            self.plan_inside(place, 1, Todo::SendHome { lane });
        }
    }
}

/// What a refusal means to whoever carried the message, as the courier reads it.
fn said(answered: Answered) -> Said {
    match answered {
        Answered::Taken(receipt) => Said::Taken(Some(receipt)),
        Answered::Refused(reason, receipt) => match reason {
            Reason::ClockAhead | Reason::LaneFull | Reason::OriginReceiptInvalid => Said::Later { ms: 2_000 },
            Reason::StoreFull | Reason::StoreUnavailable | Reason::Busy | Reason::Internal => {
                Said::Throttled { ms: 1_000 }
            }
            reason => Said::Refused { code: reason.into(), receipt },
        },
    }
}

impl World {
    /// Whether nothing waits at a gateway, by its store.
    pub fn gateway_is_at_rest(&mut self, place: Place) -> bool {
        let lanes = self.lanes_of(place);
        let Some(process) = self.process(place) else { return false };
        let waits = |lane: &LaneName| {
            let look = |look: &store::Snapshot<'_>| {
                Ok(!look.queue(lane, 0, 1)?.is_empty() || !look.outbox(lane, None, 1)?.is_empty())
            };
            process.readers.look(look).expect("the store is read")
        };
        process.queue.is_empty() && !process.committing && !lanes.iter().any(waits)
    }

    pub fn gateway_unrest(&mut self, place: Place) -> String {
        let (lanes, now) = (self.lanes_of(place), self.now(place));
        let member = self.gateways[place].member.clone();
        let Some(process) = self.process(place) else { return format!("{member} is down") };
        let waits = |lane: &LaneName| {
            let look =
                |look: &store::Snapshot<'_>| Ok((look.queue(lane, 0, 99)?.len(), look.outbox(lane, None, 99)?.len()));
            let (queued, outgoing) = process.readers.look(look).expect("the store is read");
            let stats = process.carriers.get(lane).map(|carrier| carrier.lane.stats(now));
            (queued + outgoing > 0).then(|| format!("{lane}: {queued} queued, {outgoing} receipts, {stats:?}"))
        };
        let lanes: Vec<String> = lanes.iter().filter_map(waits).collect();
        format!("{member}: {} entries; {}", process.queue.len(), lanes.join(", "))
    }

    pub fn lanes_of(&self, place: Place) -> Vec<LaneName> {
        let others = (0..self.gateways.len()).filter(|other| *other != place);
        let own = (!self.map.is_hub(place)).then(|| LaneName::System(SYSTEM.parse().unwrap()));
        others.map(|other| LaneName::Gateway(self.gateways[other].member.clone())).chain(own).collect()
    }

    pub fn index_of(&self, place: Place) -> Arc<tongban::routing::Index> {
        let gateway = &self.gateways[place];
        Arc::clone(if gateway.ways_closed { &gateway.closed } else { &gateway.index })
    }
}
