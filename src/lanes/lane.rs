//! Decides the next step of one lane from what has happened so far. Never acts: whoever holds the lane carries it out.

use super::backoff::Backoff;
use super::queue::{Out, Queue, Stage, Why};
use super::scan::{End, Scan};
use super::sessions::{Answered, Sessions};
use super::{
    Answer, AtDeadline, Attempt, Breaker, Effect, Event, Fate, Outcome, Policy, Queued, Reach, Rest, Seq, SessionId,
    Stats,
};
use crate::time::Time;

/// One lane: what goes to one partner or one mailbox. See the module for its rules.
pub struct Lane {
    policy: Policy,
    queue: Queue,
    scan: Scan,
    sessions: Sessions,
    backoff: Backoff,
    dial: Dial,
    /// Deliveries made so far in the life of this lane; the last attempt's number.
    attempts: Attempt,
    /// The last attempt when the partner last failed: what was under way then and fails later is the same trouble.
    trouble: Attempt,
    throttled_until: Time,
    gate: Gate,
    /// What the next life was told.
    rest: Rest,
    homeward: Homeward,
    timer: Option<Time>,
    ignored: u64,
    effects: Vec<Effect>,
}

#[derive(PartialEq, Eq)]
enum Dial {
    Idle,
    UnderWay,
}

#[derive(PartialEq, Eq)]
enum Gate {
    Open,
    Held,
}

/// Receipts for the owner of the mailbox.
#[derive(PartialEq, Eq)]
enum Homeward {
    Nothing,
    Waiting,
}

impl Lane {
    /// A lane that knows only what an earlier life left it; [`Event::Enqueued`] starts it. The seed spreads the pauses of
    /// lanes that fail together, and should differ from lane to lane.
    pub fn new(policy: Policy, seed: u64, rest: Rest) -> Lane {
        Lane {
            queue: Queue::new(policy.deliveries_max),
            scan: Scan::default(),
            sessions: Sessions::default(),
            backoff: Backoff::new(&policy, seed, rest),
            dial: Dial::Idle,
            attempts: 0,
            trouble: 0,
            throttled_until: Time::ZERO,
            gate: if rest.held { Gate::Held } else { Gate::Open },
            rest,
            homeward: Homeward::Nothing,
            timer: None,
            ignored: 0,
            effects: Vec::new(),
            policy,
        }
    }

    /// Takes in what happened and returns what to do about it, in this order.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Effect> {
        self.backoff.bound(now);
        self.take_in(now, event);
        self.end_waits(now);
        self.divert(now);
        self.send_home();
        self.deliver(now);
        self.reach_out(now);
        self.rest();
        self.arm(now);
        std::mem::take(&mut self.effects)
    }

    fn take_in(&mut self, now: Time, event: Event) {
        match event {
            Event::Enqueued { seq } => self.enqueued(seq),
            Event::Moved { seq } => self.scan.moved(seq),
            Event::Loaded { rows, end } => self.loaded(now, rows, if end { End::Reached } else { End::Ahead }),
            Event::LoadFailed => self.scan.failed(now.plus_ms(*self.policy.backoff_ms.start())),
            Event::Opened { session, receipts } => self.opened(session, receipts),
            Event::Credits { session, count } => self.sessions.grant(session, count),
            Event::Closed { session } => self.closed(now, session),
            Event::Alive { session } => self.alive(session),
            Event::DialFailed => self.dial_failed(now),
            Event::Attempted { seq, attempt, session, outcome } => self.attempted(now, seq, attempt, session, outcome),
            Event::Extended { seq, attempt, session, ms } => self.extended(now, seq, attempt, session, ms),
            Event::Due { seq, expires_at, doubt } => self.due(now, seq, expires_at, doubt),
            Event::Cancel { seq, doubt } => self.cancel(seq, doubt),
            Event::Claim { seq, expires_at } => self.claim(now, seq, expires_at),
            Event::Asked { seq, answer } => self.asked(now, seq, answer),
            Event::Receipts => self.homeward = Homeward::Waiting,
            Event::Settled { seq } => self.settled(now, seq),
            Event::SettleFailed { seq } => {
                self.queue.retry_settling(seq, now.plus_ms(*self.policy.backoff_ms.start()));
            }
            Event::Tick => self.timer = None,
            Event::Held => self.gate = Gate::Held,
            Event::Resumed => self.resumed(),
        }
    }

    /// How the lane stands.
    pub fn stats(&self, now: Time) -> Stats {
        let to_come = |moment: Time| (moment > now).then_some(moment);
        Stats {
            loaded: self.queue.len(),
            ready: self.queue.ready_count(),
            in_flight: self.queue.out_count(),
            settling: self.queue.settling_count(),
            asking: self.queue.asking_count(),
            parked: self.queue.parked_count(),
            sessions: self.sessions.count(),
            credits: self.sessions.credits(),
            failures: self.backoff.failures(),
            breaker: self.backoff.breaker(now),
            backoff_until: to_come(self.backoff.until()),
            throttled_until: to_come(self.throttled_until),
            held: self.gate == Gate::Held,
            ignored: self.ignored,
        }
    }
}

/// What happened in the store.
impl Lane {
    fn enqueued(&mut self, seq: Seq) {
        // One that was only named says nothing of the rows that were committed with it.
        if !self.queue.is_read(seq) {
            self.scan.heard(seq, self.policy.loaded_max);
        }
    }

    fn loaded(&mut self, now: Time, rows: Vec<Queued>, end: End) {
        let Some(answer) = self.scan.answered(&rows) else { return };
        let postponed_max = now.plus_ms(crate::limits::RETRY_LATER_MS_MAX);
        let mut next = 0;
        for mut row in rows {
            if self.free() == 0 {
                return self.scan.advance(&answer, next.max(row.seq), End::Ahead);
            }
            next = row.seq.saturating_add(1);
            if !answer.is_gone(row.seq) {
                row.parked_until = row.parked_until.min(postponed_max);
                self.queue.insert(row, now);
            }
        }
        self.scan.advance(&answer, next, end);
    }

    fn settled(&mut self, now: Time, seq: Seq) {
        self.scan.gone(seq, self.policy.loaded_max);
        if let Some(Stage::Out(out)) = self.queue.stage(seq) {
            self.effects.push(Effect::Withdraw { session: out.session, seq, attempt: out.attempt });
        }
        if let Some(from) = self.queue.remove(seq, now) {
            self.scan.rewind(from);
        }
    }

    /// Rows that memory has room for.
    fn free(&self) -> usize {
        let (loaded_max, parked_max) = (self.policy.loaded_max.max(1), self.policy.parked_max);
        let (rows, parked) = (self.queue.len(), self.queue.parked_count());
        loaded_max.saturating_sub(rows - parked).min((loaded_max + parked_max).saturating_sub(rows))
    }
}

/// What happened in the sessions.
impl Lane {
    fn opened(&mut self, session: SessionId, receipts: bool) {
        self.dial = Dial::Idle;
        self.sessions.open(session, receipts);
    }

    fn closed(&mut self, now: Time, session: SessionId) {
        let Some(answered) = self.sessions.close(session) else { return };
        let held = self.queue.held_by(session);
        let newest = held.iter().map(|(_, attempt)| *attempt).max();
        for (seq, _) in held {
            self.queue.doubt(seq);
            match self.policy.reach {
                Reach::Dial => {
                    self.queue.put_back(seq);
                    self.came_back(now, seq);
                }
                Reach::Wait => self.count_and_requeue(now, seq),
            }
        }
        match newest {
            Some(attempt) => self.failed(now, attempt),
            None if answered == Answered::Never => self.failed(now, self.attempts + 1),
            None => {}
        }
    }

    fn dial_failed(&mut self, now: Time) {
        self.dial = Dial::Idle;
        self.failed(now, self.attempts + 1);
    }

    /// The partner failed in this attempt: the lane rests, once for all that was under way at that time.
    fn failed(&mut self, now: Time, attempt: Attempt) {
        if self.policy.reach == Reach::Dial && attempt > self.trouble && now >= self.backoff.until() {
            self.trouble = self.attempts;
            self.backoff.fail(now);
        }
    }

    fn attempted(&mut self, now: Time, seq: Seq, attempt: Attempt, session: SessionId, outcome: Outcome) {
        if self.queue.out(seq, attempt, session).is_none() {
            self.ignored += 1;
            return;
        }
        if !matches!(outcome, Outcome::Unreachable | Outcome::NoAnswer) {
            self.alive(session);
        }
        match outcome {
            Outcome::Taken => self.answered(seq, Fate::Taken { attempt }),
            Outcome::Refused => self.answered(seq, Fate::Refused { attempt }),
            Outcome::RetryLater { at } => {
                self.park(now, seq, self.moment(now, at, crate::limits::RETRY_LATER_MS_MAX));
            }
            Outcome::NotNow { at } => {
                self.queue.park(seq, self.moment(now, at, crate::limits::RETRY_LATER_MS_MAX));
                self.came_back(now, seq);
            }
            Outcome::Throttled { at } => {
                let until = self.moment(now, at, *self.policy.backoff_ms.end());
                self.throttled_until = self.throttled_until.max(until);
                self.queue.put_back(seq);
                self.came_back(now, seq);
            }
            Outcome::Unreachable if self.policy.reach == Reach::Dial => {
                self.queue.put_back(seq);
                self.came_back(now, seq);
                self.failed(now, attempt);
            }
            Outcome::Unreachable => self.count_and_requeue(now, seq),
            Outcome::NoAnswer => self.unanswered(now, seq, attempt),
        }
    }

    fn alive(&mut self, session: SessionId) {
        if self.sessions.answered(session) {
            self.backoff.succeed();
        }
    }

    /// A moment that the other side named, kept within bounds: one that is past would make us come back at once, for ever.
    fn moment(&self, now: Time, at: Time, ms_max: u64) -> Time {
        match at > now {
            true => at.min(now.plus_ms(ms_max)),
            false => now.plus_ms(*self.policy.backoff_ms.start()),
        }
    }

    fn answered(&mut self, seq: Seq, fate: Fate) {
        self.queue.count(seq);
        self.settle(seq, fate);
    }

    fn park(&mut self, now: Time, seq: Seq, until: Time) {
        self.queue.count_and_park(seq, until);
        self.came_back(now, seq);
        if self.queue.stage(seq) == Some(Stage::Parked) {
            self.effects.push(Effect::Park { seq, deliveries: self.queue.deliveries(seq), until });
        }
    }

    fn unanswered(&mut self, now: Time, seq: Seq, attempt: Attempt) {
        self.queue.doubt(seq);
        self.count_and_requeue(now, seq);
        self.failed(now, attempt);
    }

    /// A delivery ended and decided nothing. Where deliveries are limited, the count is written down.
    fn count_and_requeue(&mut self, now: Time, seq: Seq) {
        self.queue.count_and_requeue(seq);
        self.came_back(now, seq);
        if self.policy.deliveries_max.is_some() && self.queue.stage(seq) == Some(Stage::Ready) {
            self.effects.push(Effect::Park { seq, deliveries: self.queue.deliveries(seq), until: now });
        }
    }

    fn extended(&mut self, now: Time, seq: Seq, attempt: Attempt, session: SessionId, ms: u64) {
        let Some(out) = self.queue.out(seq, attempt, session) else {
            self.ignored += 1;
            return;
        };
        let until = now.plus_ms(ms).min(out.since.plus_ms(self.policy.attempt_total_ms_max));
        if until > out.until {
            self.queue.prolong(seq, until);
        }
    }

    fn resumed(&mut self) {
        self.gate = Gate::Open;
        self.throttled_until = Time::ZERO;
        self.backoff.succeed();
    }
}

/// Ends that are not the other side's answer to a delivery.
impl Lane {
    fn due(&mut self, now: Time, seq: Seq, expires_at: Time, doubt: bool) {
        match self.queue.stage(seq) {
            Some(_) if doubt => self.queue.doubt(seq),
            None if self.free() > 0 && self.is_over(now, expires_at, doubt) => self.queue.name(seq, expires_at, doubt),
            Some(_) | None => {}
        }
        self.end_if_over(now, seq);
    }

    /// Whether a message may not be delivered any more.
    fn is_over(&self, now: Time, expires_at: Time, doubt: bool) -> bool {
        match self.policy.at_deadline {
            AtDeadline::Wait { ms } if doubt => now >= expires_at.plus_ms(ms),
            _ => now >= expires_at,
        }
    }

    /// Ends a row that waits, if it may not be delivered any more.
    fn end_if_over(&mut self, now: Time, seq: Seq) -> bool {
        let (Some(stage), Some(row)) = (self.queue.stage(seq), self.queue.row(seq)) else { return false };
        let doubt = row.doubt;
        let ends = stage.waits() && self.is_over(now, row.expires_at, doubt);
        if ends {
            match self.policy.at_deadline {
                AtDeadline::Ask if doubt => self.ask(seq, Why::Deadline),
                AtDeadline::Wait { .. } if doubt => self.settle(seq, Fate::InDoubt),
                _ => self.settle(seq, Fate::Expired),
            }
        }
        ends
    }

    fn cancel(&mut self, seq: Seq, doubt: bool) {
        match self.queue.stage(seq) {
            Some(Stage::Out(_)) => self.queue.wish_cancel(seq),
            Some(Stage::Asking(_) | Stage::Settling(_)) => {}
            None if self.free() == 0 => self.effects.push(Effect::Kept { seq }),
            None if doubt && self.policy.at_deadline != AtDeadline::Ask => self.effects.push(Effect::Kept { seq }),
            None => {
                self.queue.name(seq, Time::from_ms(u64::MAX), doubt);
                self.end_cancelled(seq);
            }
            Some(_) => {
                if doubt {
                    self.queue.doubt(seq);
                }
                self.end_cancelled(seq);
            }
        }
    }

    fn claim(&mut self, now: Time, seq: Seq, expires_at: Time) {
        let stage = self.queue.stage(seq);
        let there = match stage {
            Some(Stage::Settling(_)) => return,
            Some(stage) => stage.waits(),
            None => self.free() > 0,
        };
        let goes = self.policy.reach == Reach::Wait && self.gate == Gate::Open && now < expires_at;
        if !there || !goes {
            return self.effects.push(Effect::Kept { seq });
        }
        if stage.is_none() {
            self.queue.name(seq, expires_at, false);
        }
        self.queue.count(seq);
        self.settle(seq, Fate::Claimed);
    }

    fn end_cancelled(&mut self, seq: Seq) {
        match self.queue.row(seq).is_some_and(|row| row.doubt) {
            false => self.settle(seq, Fate::Cancelled),
            true if self.policy.at_deadline == AtDeadline::Ask => self.ask(seq, Why::Cancel),
            true => self.effects.push(Effect::Kept { seq }),
        }
    }

    /// What was out waits again: now is the time for what had to wait for that.
    fn came_back(&mut self, now: Time, seq: Seq) {
        let waits = self.queue.stage(seq).is_some_and(Stage::waits);
        if self.queue.granted_cancel(seq) && waits {
            self.end_cancelled(seq);
        }
        self.end_if_over(now, seq);
    }

    fn ask(&mut self, seq: Seq, why: Why) {
        self.queue.ask(seq, why);
        self.effects.push(Effect::Ask { seq });
    }

    fn asked(&mut self, now: Time, seq: Seq, answer: Answer) {
        let Some(Stage::Asking(why)) = self.queue.stage(seq) else {
            self.ignored += 1;
            return;
        };
        match (answer, why) {
            (Answer::Has, _) => self.settle(seq, Fate::Found),
            (Answer::HasNot, Why::Deadline) => self.settle(seq, Fate::Expired),
            (Answer::HasNot, Why::Cancel) => self.settle(seq, Fate::Cancelled),
            (Answer::Silent, Why::Deadline) => self.settle(seq, Fate::InDoubt),
            (Answer::Silent, Why::Cancel) => {
                if let Some(from) = self.queue.release(seq, now) {
                    self.scan.rewind(from);
                }
            }
        }
    }

    fn settle(&mut self, seq: Seq, fate: Fate) {
        self.queue.settle(seq, fate);
        self.effects.push(Effect::Settle { seq, deliveries: self.queue.deliveries(seq), fate });
    }
}

/// What follows.
impl Lane {
    fn end_waits(&mut self, now: Time) {
        while let Some(seq) = self.queue.next_due(now) {
            match self.queue.stage(seq) {
                Some(Stage::Out(out)) => {
                    self.effects.push(Effect::Withdraw { session: out.session, seq, attempt: out.attempt });
                    self.unanswered(now, seq, out.attempt);
                }
                Some(Stage::Parked) => self.queue.unpark(seq),
                Some(Stage::Settling(fate)) => {
                    self.effects.push(Effect::Settle { seq, deliveries: self.queue.deliveries(seq), fate });
                }
                Some(Stage::Ready | Stage::Behind | Stage::Asking(_)) | None => {}
            }
        }
        while let Some(seq) = self.queue.next_spent() {
            let deliveries = self.queue.deliveries(seq);
            self.effects.push(Effect::Settle { seq, deliveries, fate: Fate::Exhausted });
        }
    }

    fn may_send(&self, now: Time) -> bool {
        self.gate == Gate::Open && now >= self.throttled_until && now >= self.backoff.until()
    }

    fn diverts(&self, now: Time) -> bool {
        self.gate == Gate::Open && self.backoff.breaker(now) == Breaker::Open
    }

    fn divert(&mut self, now: Time) {
        while self.diverts(now)
            && let Some(seq) = self.queue.first_divertible()
        {
            if !self.end_if_over(now, seq) {
                self.settle(seq, Fate::Diverted);
            }
        }
    }

    fn send_home(&mut self) {
        if self.homeward == Homeward::Waiting
            && let Some(session) = self.sessions.spend_for_receipts()
        {
            self.homeward = Homeward::Nothing;
            self.effects.push(Effect::Receipts { session });
        }
    }

    fn deliver(&mut self, now: Time) {
        if !self.may_send(now) {
            return;
        }
        let out_max = if self.backoff.breaker(now) == Breaker::Closed { usize::MAX } else { 1 };
        while let Some((seq, before)) = self.queue.first_ready() {
            if self.end_if_over(now, seq) {
                continue;
            }
            if self.queue.out_count() >= out_max {
                return;
            }
            let Some(session) = self.sessions.spend(before) else { return };
            self.attempts += 1;
            let (attempt, until) = (self.attempts, now.plus_ms(self.policy.attempt_ms));
            let count = self.queue.send(seq, Out { session, attempt, since: now, until });
            self.effects.push(Effect::Deliver { session, seq, attempt, count, until });
        }
    }

    /// Reads on or dials, when that is what keeps the lane from sending.
    fn reach_out(&mut self, now: Time) {
        let (sends, alone) = (self.may_send(now), self.sessions.count() == 0);
        if !sends && !self.diverts(now) {
            return;
        }
        let dials = sends && self.policy.reach == Reach::Dial && alone && self.dial == Dial::Idle;
        if dials && self.queue.ready_count() > 0 {
            self.dial = Dial::UnderWay;
            self.effects.push(Effect::Dial);
        }
        let nobody_comes = self.policy.reach == Reach::Wait && alone;
        if !nobody_comes && self.scan.idle_with_more(now) && self.worth_reading() {
            let count = self.free() + self.queue.known_from(self.scan.next());
            self.effects.push(Effect::Load { from: self.scan.ask(), count });
        }
    }

    /// Reading one row for each that goes would be slow: half the memory is filled at a time; an eighth when nothing could
    /// go now; and whatever there is when nothing is on its way that would make more room.
    fn worth_reading(&self) -> bool {
        let at_least = match self.queue.ready_count() {
            0 if self.queue.out_count() + self.queue.settling_count() + self.queue.asking_count() == 0 => 1,
            0 => self.policy.loaded_max / 8,
            _ => self.policy.loaded_max.div_ceil(2),
        };
        self.free() >= at_least.max(1)
    }

    /// Says what the next life must know, when that has changed.
    fn rest(&mut self) {
        let held = self.gate == Gate::Held;
        let rest = Rest { failures: self.backoff.failures(), until: self.backoff.until(), held };
        if rest != self.rest {
            self.rest = rest;
            self.effects.push(Effect::Rest(rest));
        }
    }

    /// One timer, for the first moment at which something may change. One that comes too early only asks again.
    fn arm(&mut self, now: Time) {
        let waits = [self.throttled_until, self.backoff.until(), self.scan.not_before()];
        let Some(first) = waits.into_iter().chain(self.queue.first_due()).filter(|at| *at > now).min() else { return };
        if self.timer.is_none_or(|at| first < at || at <= now) {
            self.timer = Some(first);
            self.effects.push(Effect::Wake { at: first });
        }
    }
}
