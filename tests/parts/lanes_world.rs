//! A random world around one lane, with a store that is the truth: every answer may be late, sessions come and go, the
//! store and the process fail, the other side may have what it did not answer for. Decides nothing about lanes; it only knows what must never happen, and that every message
//! ends once the faults stop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use tongban::lanes::bell::{self, Heard};
use tongban::lanes::{
    Answer, AtDeadline, Attempt, Breaker, CaseKey, Effect, Event, Fate, Lane, Outcome, Policy, Queued, Reach, Rest,
    Seq, SessionId,
};
use tongban::time::Time;

struct World {
    policy: Policy,
    now: Time,
    lane: Lane,
    lives: u64,
    /// The truth: rows that have not ended.
    store: BTreeMap<Seq, Queued>,
    ended: BTreeMap<Seq, u32>,
    next_seq: Seq,
    /// Rows committed behind the lane's back with a low place: order is promised to them only from then on.
    late: BTreeSet<Seq>,
    /// What the other side has, whether it said so or not.
    theirs: BTreeSet<Seq>,
    /// What the store remembers of the lane.
    rest: Rest,
    ledger: VecDeque<Effect>,
    read: Option<(Seq, usize)>,
    dials: u32,
    inbox: Vec<Event>,
    /// What the lane's bell says, and what of it the lane was told.
    bell: Heard,
    heard: Heard,
    timer: Option<Time>,
    next_session: SessionId,
    told: Told,
    steps: u64,
    seen: BTreeMap<String, u32>,
}

/// What the lane was told in this life, and what it said.
#[derive(Default)]
struct Told {
    credits: BTreeMap<SessionId, u32>,
    out: BTreeMap<Seq, (SessionId, Attempt)>,
    /// Every delivery ever made in this life: clients answer these, also too late or twice.
    made: Vec<(Seq, SessionId, Attempt)>,
    settling: BTreeMap<Seq, Fate>,
    parked: BTreeMap<Seq, Time>,
    gone: BTreeSet<Seq>,
    sent: BTreeSet<Seq>,
    /// What was said of each delivery: the other side does not contradict itself.
    said: BTreeMap<Attempt, Outcome>,
    asking: BTreeSet<Seq>,
    cancelled: BTreeSet<Seq>,
    claimed: BTreeSet<Seq>,
    receipts: bool,
    /// Per delivery under way, when it was made and when its time is up.
    until: BTreeMap<Attempt, (Time, Time)>,
    loads: u32,
    dials: u32,
    attempts: Attempt,
}

impl World {
    fn new(policy: Policy, seed: u64) -> World {
        World {
            lane: Lane::new(policy.clone(), seed, Rest::default()),
            policy,
            now: Time::from_ms(1_000_000),
            lives: 1,
            store: BTreeMap::new(),
            ended: BTreeMap::new(),
            next_seq: 1,
            late: BTreeSet::new(),
            theirs: BTreeSet::new(),
            rest: Rest::default(),
            ledger: VecDeque::new(),
            read: None,
            dials: 0,
            inbox: Vec::new(),
            bell: Heard::default(),
            heard: Heard::default(),
            timer: None,
            next_session: 1,
            told: Told::default(),
            steps: 0,
            seen: BTreeMap::new(),
        }
    }

    /// One of everything that can go wrong or right, chosen by two numbers.
    fn step(&mut self, choice: u8, x: u32) {
        self.steps += 1;
        match choice % 37 {
            0 if self.store.len() < 40 || x.is_multiple_of(8) => self.commit(x),
            1..=11 => self.hear(x),
            12..=14 => self.write(x),
            15..=16 => self.answer_read(x),
            17 => self.answer_dial(x),
            18 => self.open(),
            19..=20 => self.grant(x),
            21..=25 => self.answer_delivery(x),
            26 => self.now = self.now.plus_ms(u64::from(x % 7) * u64::from(x % 401)),
            27 if x.is_multiple_of(4) => self.ring(),
            28 if x.is_multiple_of(12) => self.close(x),
            29 if x.is_multiple_of(6) => self.expire(x),
            30 if x.is_multiple_of(60) => self.crash(),
            31 if x.is_multiple_of(8) => self.hold(x),
            32..=33 => self.sweep(x),
            34 if x.is_multiple_of(5) => self.cancel(x),
            36 if x.is_multiple_of(4) => self.claim(x),
            35 if x.is_multiple_of(3) => self.inbox.push(Event::Receipts),
            _ => self.hear(x),
        }
    }

    fn commit(&mut self, x: u32) {
        let first = self.next_seq;
        for i in 0..1 + x % 5 {
            let y = x.wrapping_mul(2_654_435_761).wrapping_add(i * 97) >> 8;
            let case = (!y.is_multiple_of(4)).then(|| CaseKey::from(format!("330100/310100/{}", y % 6)));
            let seq = self.next_seq;
            self.next_seq += 1 + u64::from(y.is_multiple_of(9)) * 3;
            self.store.insert(seq, self.row(seq, case, y));
        }
        self.bell.newest = self.store.last_key_value().map_or(first, |(seq, _)| *seq);
        let is_gap = |seq: &Seq| !self.store.contains_key(seq) && !self.ended.contains_key(seq);
        let gap = (self.next_seq.saturating_sub(60)..self.next_seq).rev().find(is_gap);
        if let (Some(seq), true) = (gap, x.is_multiple_of(10)) {
            let case = Some(CaseKey::from(format!("330100/310100/{}", x % 6)));
            self.store.insert(seq, self.row(seq, case, x));
            self.late.insert(seq);
            self.bell.lowest_moved = if self.bell.moves == 0 { seq } else { self.bell.lowest_moved.min(seq) };
            self.bell.moves += 1;
        }
    }

    fn row(&self, seq: Seq, case: Option<CaseKey>, y: u32) -> Queued {
        let expires_at = match (y >> 3) % 4 {
            0..=1 => self.now.plus_ms(u64::from(y % 100_000)),
            _ => Time::from_ms(u64::MAX),
        };
        let alternative = self.policy.reach == Reach::Dial && (y >> 5).is_multiple_of(3);
        Queued { seq, case, deliveries: 0, parked_until: Time::ZERO, expires_at, doubt: false, alternative }
    }

    /// The deadline of a row is noticed; sometimes it comes just now, for a row that was out before and may be in doubt.
    fn sweep(&mut self, x: u32) {
        let soon = if x.is_multiple_of(16) { self.now.plus_ms(100_000) } else { self.now };
        let sent = |row: &&Queued| soon == self.now || self.told.sent.contains(&row.seq) || row.doubt;
        let over: Vec<&Queued> = self.store.values().filter(|row| row.expires_at <= soon).filter(sent).collect();
        if let Some(row) = over.get(x as usize / 16 % over.len().max(1)) {
            self.now = self.now.max(row.expires_at);
            self.inbox.push(Event::Due { seq: row.seq, expires_at: row.expires_at, doubt: row.doubt });
        }
    }

    /// Somebody calls a message back, which may have ended.
    fn cancel(&mut self, x: u32) {
        // Half of those were out before: only they can be in doubt.
        let sent = |row: &&Queued| x.is_multiple_of(2) || self.told.sent.contains(&row.seq) || row.doubt;
        let rows: Vec<&Queued> = self.store.values().filter(sent).collect();
        let any = rows.get(x as usize / 2 % rows.len().max(1)).map(|row| (row.seq, row.doubt));
        if let Some((seq, doubt)) = any {
            self.inbox.push(Event::Cancel { seq, doubt });
        }
    }

    /// The owner of the mailbox takes a message out of its turn.
    fn claim(&mut self, x: u32) {
        let any = self.store.values().nth(x as usize / 4 % self.store.len().max(1));
        if let Some((seq, expires_at)) = any.map(|row| (row.seq, row.expires_at)) {
            self.inbox.push(Event::Claim { seq, expires_at });
        }
    }

    /// The lane's bell is heard when somebody listens: by then it may have rung for several commits.
    fn hear_bell(&mut self) {
        let before = std::mem::replace(&mut self.heard, self.bell);
        bell::events(before, self.bell).for_each(|event| self.feed(event));
    }

    fn hear(&mut self, x: u32) {
        if x.is_multiple_of(3) {
            self.hear_bell();
        }
        if !self.inbox.is_empty() {
            let event = self.inbox.swap_remove(x as usize % self.inbox.len());
            self.feed(event);
        }
    }

    /// The ledger writes in the order in which it was asked; sometimes it fails.
    fn write(&mut self, x: u32) {
        match self.ledger.pop_front() {
            Some(Effect::Settle { seq, .. }) if x.is_multiple_of(15) => self.inbox.push(Event::SettleFailed { seq }),
            Some(Effect::Settle { seq, fate, .. }) => self.end_as(seq, fate),
            Some(Effect::Park { seq, deliveries, until }) => {
                if let Some(row) = self.store.get_mut(&seq) {
                    (row.deliveries, row.parked_until) = (deliveries, until);
                }
            }
            _ => {}
        }
    }

    /// What a fate says must be true when it is written.
    fn end_as(&mut self, seq: Seq, fate: Fate) {
        let Some(row) = self.store.get(&seq).cloned() else { return self.end(seq) };
        let theirs = self.theirs.contains(&seq);
        match fate {
            Fate::Expired if self.policy.at_deadline == AtDeadline::Expire => {}
            Fate::Expired | Fate::Cancelled | Fate::Diverted => {
                assert!(!theirs, "{seq} ends as {fate:?} and they have it");
            }
            Fate::Taken { .. } | Fate::Found => assert!(theirs, "{seq} ends as {fate:?} and they do not have it"),
            Fate::Claimed => assert_eq!(self.policy.reach, Reach::Wait),
            Fate::Refused { .. } | Fate::Exhausted | Fate::InDoubt => {}
        }
        match fate {
            Fate::Expired | Fate::InDoubt => assert!(row.expires_at <= self.now, "{seq} ends before its deadline"),
            Fate::Cancelled => assert!(self.told.cancelled.contains(&seq), "nobody cancelled {seq}"),
            Fate::Claimed => assert!(self.told.claimed.contains(&seq), "nobody claimed {seq}"),
            Fate::Diverted => {
                assert!(row.alternative);
                let moves = |other: &&Queued| other.seq > seq && other.case.is_some() && other.case == row.case;
                let moved: Vec<Seq> =
                    self.store.values().filter(moves).filter(|other| !other.doubt).map(|other| other.seq).collect();
                for other in moved {
                    assert!(
                        !self.told.sent.contains(&other) && !self.theirs.contains(&other),
                        "{other} goes with {seq}"
                    );
                    self.end(other);
                }
            }
            _ => {}
        }
        self.end(seq);
    }

    fn end(&mut self, seq: Seq) {
        if self.store.remove(&seq).is_some() {
            *self.ended.entry(seq).or_default() += 1;
        }
        self.inbox.push(Event::Settled { seq });
    }

    fn answer_read(&mut self, x: u32) {
        let Some((from, count)) = self.read.take() else { return };
        if x.is_multiple_of(15) {
            return self.inbox.push(Event::LoadFailed);
        }
        let rows: Vec<Queued> = self.store.range(from..).take(count).map(|(_, row)| row.clone()).collect();
        let end = rows.last().is_none_or(|last| self.store.range(last.seq + 1..).next().is_none());
        self.inbox.push(Event::Loaded { rows, end });
    }

    fn answer_dial(&mut self, x: u32) {
        if self.dials > 0 {
            self.dials -= 1;
            match x.is_multiple_of(3) {
                true => self.inbox.push(Event::DialFailed),
                false => self.open_now(),
            }
        }
    }

    fn open(&mut self) {
        if self.policy.reach == Reach::Wait && self.told.credits.len() < 4 {
            self.open_now();
        }
    }

    fn open_now(&mut self) {
        self.next_session += 1;
        let receipts = takes_receipts(self.policy.reach, self.next_session);
        self.feed(Event::Opened { session: self.next_session, receipts });
    }

    fn any_session(&self, x: u32) -> Option<SessionId> {
        self.told.credits.keys().nth(x as usize % self.told.credits.len().max(1)).copied()
    }

    fn grant(&mut self, x: u32) {
        if let Some(session) = self.any_session(x) {
            self.inbox.push(Event::Credits { session, count: x % 4 });
        }
    }

    fn close(&mut self, x: u32) {
        if let Some(session) = self.any_session(x) {
            let held = self.told.out.iter().filter(|(_, out)| out.0 == session).map(|(seq, _)| *seq);
            for seq in held.collect::<Vec<_>>() {
                self.may_have_arrived(seq);
            }
            self.feed(Event::Closed { session });
        }
    }

    /// A delivery ended unanswered: the other side has it, or has it not.
    fn may_have_arrived(&mut self, seq: Seq) {
        if (seq + self.steps).is_multiple_of(2) {
            self.theirs.insert(seq);
        }
    }

    /// Answers one of the deliveries ever made: usually one that is out, sometimes an old one or under a false
    /// name, which no later delivery will have.
    fn answer_delivery(&mut self, x: u32) {
        let made = &self.told.made;
        let any = made.get((x as usize / 64) % made.len().max(1)).copied();
        let out = self.told.out.iter().nth((x as usize / 64) % self.told.out.len().max(1));
        let out = out.map(|(seq, (session, attempt))| (*seq, *session, *attempt));
        let chosen = if x.is_multiple_of(7) { any } else { out };
        let Some((seq, mut session, mut attempt)) = chosen else { return };
        match x % 23 {
            0 => session += 1,
            1 => attempt = attempt.saturating_sub(1),
            2 => attempt += 1 << 40,
            _ => {}
        }
        let at = self.now.plus_ms(u64::from(x % 5_000));
        let outcome = match x % 29 {
            0..=1 => Outcome::Refused,
            2 | 10..=12 => Outcome::RetryLater { at },
            3 => Outcome::Throttled { at },
            13 => Outcome::NotNow { at },
            4..=5 => Outcome::Unreachable,
            6..=7 => Outcome::NoAnswer,
            8..=9 => return self.inbox.push(Event::Extended { seq, attempt, session, ms: u64::from(x % 9_000) }),
            _ => Outcome::Taken,
        };
        let outcome = self.truthful(seq, attempt, session, outcome);
        self.inbox.push(Event::Attempted { seq, attempt, session, outcome });
    }

    /// What the other side says, or a part of it: what it has it has taken, and an old delivery does not arrive any more.
    fn truthful(&mut self, seq: Seq, attempt: Attempt, session: SessionId, outcome: Outcome) -> Outcome {
        if let Some(said) = self.told.said.get(&attempt) {
            return *said;
        }
        let is_out = self.told.out.get(&seq) == Some(&(session, attempt));
        let said = match outcome {
            Outcome::NoAnswer => outcome,
            _ if self.theirs.contains(&seq) => Outcome::Taken,
            Outcome::Taken if !is_out => Outcome::NoAnswer,
            _ => outcome,
        };
        if is_out {
            match said {
                Outcome::Taken => drop(self.theirs.insert(seq)),
                Outcome::NoAnswer => self.may_have_arrived(seq),
                _ => {}
            }
            self.told.said.insert(attempt, said);
        }
        said
    }

    fn ring(&mut self) {
        if let Some(at) = self.timer.take() {
            self.now = self.now.max(at);
            self.feed(Event::Tick);
        }
    }

    fn expire(&mut self, x: u32) {
        if let Some(seq) = self.store.keys().nth(x as usize % self.store.len().max(1)).copied() {
            self.end(seq);
        }
    }

    fn hold(&mut self, x: u32) {
        self.feed(if x.is_multiple_of(16) { Event::Held } else { Event::Resumed });
    }

    /// All that was only in memory is lost: the lane, what it asked for, every session, every unwritten word.
    fn crash(&mut self) {
        self.lives += 1;
        for seq in self.told.out.keys().copied().collect::<Vec<_>>() {
            self.may_have_arrived(seq);
        }
        for (seq, row) in &mut self.store {
            row.doubt |= self.told.sent.contains(seq);
        }
        self.lane = Lane::new(self.policy.clone(), self.lives, self.rest);
        let cancelled = std::mem::take(&mut self.told.cancelled);
        self.told = Told { cancelled, ..Told::default() };
        self.ledger.clear();
        self.inbox.clear();
        (self.read, self.dials, self.timer) = (None, 0, None);
        self.late.clear();
        self.heard = self.bell;
        self.inbox.push(Event::Enqueued { seq: 0 });
    }

    fn feed(&mut self, event: Event) {
        self.told.hear(&event, &self.policy, self.now);
        let effects = self.lane.handle(self.now, event);
        for effect in effects {
            self.check(&effect);
            self.carry_out(effect);
        }
        self.check_state();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Load { from, count } => self.read = Some((from, count)),
            Effect::Dial => self.dials += 1,
            Effect::Settle { .. } | Effect::Park { .. } => self.ledger.push_back(effect),
            Effect::Wake { at } => self.timer = Some(at),
            Effect::Ask { seq } => {
                let answer = match self.theirs.contains(&seq) {
                    _ if (seq + self.steps).is_multiple_of(3) => Answer::Silent,
                    true => Answer::Has,
                    false => Answer::HasNot,
                };
                self.inbox.push(Event::Asked { seq, answer });
            }
            Effect::Rest(rest) => self.rest = rest,
            Effect::Withdraw { seq, .. } => self.may_have_arrived(seq),
            Effect::Deliver { .. } | Effect::Kept { .. } | Effect::Receipts { .. } => {}
        }
    }

    fn check(&mut self, effect: &Effect) {
        *self.seen.entry(kind(effect)).or_default() += 1;
        match *effect {
            Effect::Deliver { session, seq, attempt, count, until } => {
                self.check_order(seq);
                self.check_deadline(seq);
                assert!(until > self.now && count >= 1 && count <= self.policy.deliveries_max.unwrap_or(u32::MAX));
                self.told.deliver(session, seq, attempt, self.now);
                self.told.until.insert(attempt, (self.now, until));
                match self.lane.stats(self.now).breaker {
                    Breaker::Closed => {}
                    Breaker::HalfOpen => assert_eq!(self.told.out.len(), 1, "one message is tried"),
                    Breaker::Open => panic!("{seq} goes while the breaker is open"),
                }
            }
            Effect::Withdraw { session, seq, attempt } => {
                assert_eq!(self.told.out.remove(&seq), Some((session, attempt)), "only what is out is withdrawn");
            }
            Effect::Settle { seq, fate, deliveries } => {
                if fate == Fate::Diverted && !self.told.settling.contains_key(&seq) {
                    assert_eq!(self.lane.stats(self.now).breaker, Breaker::Open);
                    self.check_overtaking(seq);
                }
                self.told.settle(seq, fate, deliveries, &self.policy);
            }
            Effect::Ask { seq } => {
                assert!(self.policy.at_deadline == AtDeadline::Ask && !self.told.out.contains_key(&seq));
                assert!(
                    !self.told.settling.contains_key(&seq) && self.told.asking.insert(seq),
                    "{seq} is asked about once"
                );
            }
            Effect::Kept { seq } => assert!(self.told.cancelled.contains(&seq) || self.told.claimed.contains(&seq)),
            Effect::Receipts { session } => {
                assert!(std::mem::take(&mut self.told.receipts) && takes_receipts(self.policy.reach, session));
                *self.told.credits.get_mut(&session).expect("an open session") -= 1;
            }
            Effect::Rest(rest) => assert_ne!(rest, self.rest, "only what has changed is written"),
            Effect::Park { seq, until, .. } => {
                assert!(!self.told.out.contains_key(&seq) && !self.told.settling.contains_key(&seq));
                self.told.parked.insert(seq, until);
            }
            Effect::Load { count, .. } => {
                self.told.loads += 1;
                assert!(self.told.loads == 1 && count > 0, "one read at a time");
            }
            Effect::Dial => {
                self.told.dials += 1;
                assert!(self.told.dials == 1 && self.told.credits.is_empty() && self.policy.reach == Reach::Dial);
            }
            Effect::Wake { at } => {
                assert!(at > self.now);
                assert!(
                    self.timer.is_none_or(|set| at < set || set <= self.now),
                    "no later timer replaces a sooner one"
                );
            }
        }
    }

    fn check_order(&self, seq: Seq) {
        let Some(row) = self.store.get(&seq) else { return };
        assert!(row.parked_until <= self.now, "{seq} is parked in the store");
        self.check_overtaking(seq);
    }

    fn check_overtaking(&self, seq: Seq) {
        let case = self.store.get(&seq).and_then(|row| row.case.as_ref());
        let others =
            self.store.iter().filter(|(other, row)| **other != seq && case.is_some() && row.case.as_ref() == case);
        for (other, row) in others {
            let ends = self.told.settling.contains_key(other) || self.told.asking.contains(other);
            assert!(!self.told.out.contains_key(other), "{seq} of {case:?} goes while {other} is out");
            assert!(!ends || !self.told.sent.contains(other), "{seq} of {case:?} goes while {other} is unsettled");
            assert!(*other > seq || self.late.contains(other), "{seq} of {case:?} overtakes {}", row.seq);
        }
    }

    fn check_deadline(&self, seq: Seq) {
        let Some(row) = self.store.get(&seq) else { return };
        let grace = match self.policy.at_deadline {
            AtDeadline::Wait { ms } if row.doubt || self.told.sent.contains(&seq) => ms,
            _ => 0,
        };
        assert!(self.now < row.expires_at.plus_ms(grace), "{seq} goes after its deadline");
    }

    fn check_state(&self) {
        let stats = self.lane.stats(self.now);
        assert!(stats.loaded <= self.policy.loaded_max + self.policy.parked_max, "{stats:?}");
        assert_eq!(stats.in_flight, self.told.out.len());
        let first = self.told.out.values().map(|(_, attempt)| self.told.until[attempt].1).min();
        let rings = first.is_none_or(|until| self.timer.is_some_and(|at| at <= until));
        assert!(rings, "the timer {:?} comes after {first:?}", self.timer);
        assert_eq!(stats.settling, self.told.settling.len());
        assert_eq!(stats.asking, self.told.asking.len());
        assert_eq!((stats.failures, stats.held), (self.rest.failures, self.rest.held));
        let takes =
            |(session, credits): (&SessionId, &u32)| takes_receipts(self.policy.reach, *session) && *credits > 0;
        assert!(!self.told.receipts || !self.told.credits.iter().any(takes), "receipts could go and do not");
        assert_eq!(stats.credits, self.told.credits.values().map(|credits| u64::from(*credits)).sum::<u64>());
        let stopped = stats.held || stats.backoff_until.is_some() || stats.throttled_until.is_some();
        let trying = stats.breaker == Breaker::HalfOpen && stats.in_flight > 0;
        assert!(
            stopped || stats.ready == 0 || stats.credits == 0 || trying,
            "something could go and does not: {stats:?}"
        );
        let dialling = self.policy.reach == Reach::Wait || stats.sessions > 0 || self.told.dials == 1;
        assert!(stopped || stats.ready == 0 || dialling, "something could go and nobody dials: {stats:?}");
    }

    /// The faults stop: everything is answered, everyone takes everything. Says how many rounds it took.
    fn heal(&mut self) -> usize {
        self.feed(Event::Resumed);
        let bound = 200 + 40 * self.store.len();
        for round in 0..bound {
            let empty = self.lane.stats(self.now).loaded == 0;
            if empty && self.store.is_empty() && self.inbox.is_empty() && self.ledger.is_empty() {
                return round;
            }
            self.heal_round();
        }
        panic!("{} of {} rows never end: {:?}", self.store.len(), self.next_seq, self.lane.stats(self.now));
    }

    fn heal_round(&mut self) {
        let before = self.steps;
        self.open_or_dial();
        self.hear_bell();
        while !self.inbox.is_empty() || !self.ledger.is_empty() || self.read.is_some() {
            self.steps += 1;
            self.hear(1);
            self.write(1);
            self.answer_read(1);
        }
        if let Some(session) = self.any_session(0).filter(|_| self.told.credits.values().all(|credits| *credits == 0)) {
            self.feed(Event::Credits { session, count: 3 });
        }
        for (seq, (session, attempt)) in self.told.out.clone() {
            self.steps += 1;
            let outcome = Outcome::Taken;
            self.theirs.insert(seq);
            self.feed(Event::Attempted { seq, attempt, session, outcome });
        }
        if self.steps == before {
            self.ring();
        }
    }

    fn open_or_dial(&mut self) {
        match self.policy.reach {
            Reach::Dial => self.answer_dial(1),
            Reach::Wait if self.told.credits.is_empty() => self.open(),
            Reach::Wait => {}
        }
    }
}

impl Told {
    fn hear(&mut self, event: &Event, policy: &Policy, now: Time) {
        match *event {
            Event::Opened { session, .. } => {
                self.credits.insert(session, 0);
                self.dials = 0;
            }
            Event::DialFailed => self.dials = 0,
            Event::Credits { session, count } => {
                if let Some(credits) = self.credits.get_mut(&session) {
                    *credits = (*credits + count).min(tongban::limits::CREDITS_MAX);
                }
            }
            Event::Closed { session } => {
                self.credits.remove(&session);
                self.out.retain(|_, out| out.0 != session);
            }
            Event::Attempted { seq, attempt, session, outcome } if self.out.get(&seq) == Some(&(session, attempt)) => {
                self.answered(seq, attempt, outcome, now);
            }
            Event::Loaded { .. } | Event::LoadFailed => self.loads = 0,
            Event::Asked { seq, .. } => drop(self.asking.remove(&seq)),
            Event::Cancel { seq, .. } => drop(self.cancelled.insert(seq)),
            Event::Claim { seq, .. } => drop(self.claimed.insert(seq)),
            Event::Receipts => self.receipts = true,
            Event::Settled { seq } => {
                self.settling.remove(&seq);
                self.asking.remove(&seq);
                self.gone.insert(seq);
            }
            Event::Extended { seq, attempt, session, ms } if self.out.get(&seq) == Some(&(session, attempt)) => {
                let (since, until) = self.until[&attempt];
                let longer = now.plus_ms(ms).min(since.plus_ms(policy.attempt_total_ms_max));
                self.until.insert(attempt, (since, until.max(longer)));
            }
            _ => {}
        }
    }

    fn answered(&mut self, seq: Seq, attempt: Attempt, outcome: Outcome, now: Time) {
        self.out.remove(&seq);
        match outcome {
            Outcome::Taken => drop(self.settling.insert(seq, Fate::Taken { attempt })),
            Outcome::Refused => drop(self.settling.insert(seq, Fate::Refused { attempt })),
            Outcome::RetryLater { at } | Outcome::NotNow { at } => drop(self.parked.insert(seq, at.max(now))),
            Outcome::Throttled { .. } | Outcome::Unreachable | Outcome::NoAnswer => {}
        }
    }

    fn deliver(&mut self, session: SessionId, seq: Seq, attempt: Attempt, now: Time) {
        let credits = self.credits.get_mut(&session).expect("a delivery goes to an open session");
        assert!(*credits > 0, "a delivery costs a credit");
        *credits -= 1;
        assert!(attempt > self.attempts, "no attempt has the number of another");
        self.attempts = attempt;
        assert!(self.parked.get(&seq).is_none_or(|until| *until <= now), "{seq} goes before its time");
        assert!(!self.gone.contains(&seq), "{seq} goes again after its end");
        assert!(!self.asking.contains(&seq), "{seq} goes while it is asked about");
        self.sent.insert(seq);
        assert!(!self.settling.contains_key(&seq), "{seq} goes again while its fate is being written");
        assert_eq!(self.out.insert(seq, (session, attempt)), None, "{seq} is in two hands");
        self.made.push((seq, session, attempt));
    }

    fn settle(&mut self, seq: Seq, fate: Fate, deliveries: u32, policy: &Policy) {
        match (fate, self.settling.get(&seq)) {
            (fate, Some(due)) => assert_eq!(fate, *due, "a fate is what the answer to the delivery said"),
            (Fate::Exhausted, None) => {
                assert!(!self.out.contains_key(&seq));
                assert!(policy.deliveries_max.is_some_and(|max| deliveries >= max), "{seq} ends after {deliveries}");
                self.settling.insert(seq, fate);
            }
            (Fate::Taken { .. } | Fate::Refused { .. }, None) => {
                panic!("{seq} settles as {fate:?}, and nobody said so")
            }
            (Fate::Expired | Fate::Found | Fate::InDoubt | Fate::Cancelled | Fate::Claimed | Fate::Diverted, None) => {
                assert!(!self.out.contains_key(&seq) && !self.asking.contains(&seq), "{seq} ends on somebody's desk");
                self.settling.insert(seq, fate);
            }
        }
    }
}

fn takes_receipts(reach: Reach, session: SessionId) -> bool {
    reach == Reach::Wait && session.is_multiple_of(2)
}

/// The name of an effect, and of the fate in it.
fn kind(effect: &Effect) -> String {
    let name = |text: String| text.split([' ', '{']).next().unwrap_or_default().to_owned();
    match effect {
        Effect::Settle { fate, .. } => format!("Settle {}", name(format!("{fate:?}"))),
        Effect::Rest(_) => "Rest".to_owned(),
        other => name(format!("{other:?}")),
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    let shape = (1usize..12, 0usize..6, prop_oneof![Just(None), Just(Some(3u32)), Just(Some(10))]);
    let kinds = [
        (Reach::Dial, AtDeadline::Ask),
        (Reach::Dial, AtDeadline::Ask),
        (Reach::Wait, AtDeadline::Expire),
        (Reach::Wait, AtDeadline::Wait { ms: 3_000 }),
    ];
    (prop::sample::select(kinds.to_vec()), shape, 1u32..5).prop_map(
        |((reach, at_deadline), (loaded_max, parked_max, deliveries_max), breaker_failures)| Policy {
            reach,
            at_deadline,
            breaker_failures,
            breaker_ms: 1_000,
            loaded_max,
            parked_max,
            attempt_ms: 2_000,
            attempt_total_ms_max: 8_000,
            backoff_ms: 100..=5_000,
            deliveries_max,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_ends_once_and_in_order_whatever_happens(
        policy in policies(),
        seed in any::<u64>(),
        steps in prop::collection::vec(any::<(u8, u32)>(), 0..3_000),
    ) {
        let mut world = World::new(policy, seed);
        world.inbox.push(Event::Enqueued { seq: 0 });
        // Calm comes more than once: what was overlooked shows only when nothing more happens.
        for turmoil in steps.chunks(20 + seed as usize % 1_000) {
            for (choice, x) in turmoil {
                world.step(*choice, *x);
            }
            world.heal();
        }
        let stats = world.lane.stats(world.now);
        prop_assert_eq!((stats.loaded, stats.in_flight, stats.settling, stats.asking, stats.parked), (0, 0, 0, 0, 0));
        prop_assert!(world.ended.values().all(|times| *times == 1));
    }
}

/// A world that never reaches something proves nothing about it.
#[test]
fn the_world_reaches_every_effect() {
    let own = [
        (Reach::Dial, AtDeadline::Ask, vec!["Dial", "Ask", "Settle Found", "Settle InDoubt", "Settle Diverted"]),
        (Reach::Wait, AtDeadline::Expire, vec!["Settle Exhausted", "Settle Claimed", "Kept", "Receipts"]),
        (Reach::Wait, AtDeadline::Wait { ms: 3_000 }, vec!["Settle Exhausted", "Kept", "Receipts", "Settle InDoubt"]),
    ];
    for (reach, at_deadline, own) in own {
        let deliveries_max = (reach == Reach::Wait).then_some(3);
        let policy = Policy {
            reach,
            at_deadline,
            loaded_max: 8,
            parked_max: 4,
            deliveries_max,
            attempt_ms: 2_000,
            backoff_ms: 100..=5_000,
            breaker_failures: 3,
            breaker_ms: 1_000,
            ..Policy::mailbox()
        };
        let mut world = World::new(policy, 7);
        world.inbox.push(Event::Enqueued { seq: 0 });
        let mut x = 1u64;
        for _ in 0..300_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            world.step((x >> 56) as u8, (x >> 20) as u32);
        }
        let all = ["Deliver", "Load", "Park", "Rest", "Settle Refused", "Settle Taken", "Wake", "Withdraw"];
        for kind in all.into_iter().chain(["Settle Expired", "Settle Cancelled"]).chain(own) {
            let times = world.seen.get(kind).copied().unwrap_or_default();
            assert!(times > 20, "{reach:?} {at_deadline:?}: {kind} {times} times of {:?}", world.seen);
        }
        world.heal();
    }
}
