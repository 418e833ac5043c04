//! A lane at its desk: what the tests of its rules share. Decides nothing about lanes.
#![allow(dead_code, reason = "each test file uses its own part")]

use tongban::lanes::{Attempt, CaseKey, Effect, Event, Fate, Lane, Outcome, Policy, Queued, Rest, Seq, SessionId};
use tongban::time::Time;

/// A lane at its desk: time is set by hand, and the timer and the word to the next life are left out of the answers.
pub struct Desk {
    pub lane: Lane,
    pub now: Time,
}

impl Desk {
    /// A mailbox with these rows read and one session, 1, with credits.
    pub fn mailbox(rows: &[(Seq, &str)], credits: u32) -> Desk {
        Desk::with(Policy::mailbox(), rows, credits).0
    }

    /// A lane that we dial, with these rows read and connection 1 open.
    pub fn push(rows: &[(Seq, &str)], credits: u32) -> Desk {
        Desk::with(Policy::push(), rows, credits).0
    }

    pub fn with(policy: Policy, rows: &[(Seq, &str)], credits: u32) -> (Desk, Vec<Effect>) {
        let mut desk = Desk { lane: Lane::new(policy, 42, Rest::default()), now: Time::from_ms(1_000_000) };
        desk.on(Event::Enqueued { seq: 0 });
        desk.on(Event::Opened { session: 1, receipts: false });
        desk.on(Event::Loaded { rows: rows.iter().map(|(seq, case)| row(*seq, case)).collect(), end: true });
        let effects = desk.on(Event::Credits { session: 1, count: credits });
        (desk, effects)
    }

    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = self.lane.handle(self.now, event);
        effects.retain(|effect| !matches!(effect, Effect::Wake { .. } | Effect::Rest(_)));
        effects
    }

    pub fn after(&mut self, ms: u64, event: Event) -> Vec<Effect> {
        self.now = self.now.plus_ms(ms);
        self.on(event)
    }

    pub fn credits(&mut self, session: SessionId, count: u32) -> Vec<Seq> {
        delivered(&self.on(Event::Credits { session, count }))
    }

    pub fn answer(&mut self, seq: Seq, attempt: Attempt, outcome: Outcome) -> Vec<Effect> {
        self.on(Event::Attempted { seq, attempt, session: 1, outcome })
    }

    /// Delivers up to `count`, each taken and settled at once: the order in which they came.
    pub fn drain(&mut self, session: SessionId, count: u32) -> Vec<Seq> {
        let mut order = Vec::new();
        let mut effects = self.on(Event::Credits { session, count });
        while let Some(Effect::Deliver { session, seq, attempt, .. }) = effects.pop() {
            order.push(seq);
            self.on(Event::Attempted { seq, attempt, session, outcome: Outcome::Taken });
            effects.extend(self.on(Event::Settled { seq }));
        }
        order
    }
}

pub fn row(seq: Seq, case: &str) -> Queued {
    let case = (!case.is_empty()).then(|| CaseKey::from(case));
    let (expires_at, doubt, alternative) = (Time::from_ms(u64::MAX), false, false);
    Queued { seq, case, deliveries: 0, parked_until: Time::ZERO, expires_at, doubt, alternative }
}

pub fn delivered(effects: &[Effect]) -> Vec<Seq> {
    let seq = |effect: &Effect| if let Effect::Deliver { seq, .. } = effect { Some(*seq) } else { None };
    effects.iter().filter_map(seq).collect()
}

pub fn sessions(effects: &[Effect]) -> Vec<SessionId> {
    let to = |effect: &Effect| if let Effect::Deliver { session, .. } = effect { Some(*session) } else { None };
    effects.iter().filter_map(to).collect()
}

pub fn deliver(desk: &Desk, seq: Seq, attempt: Attempt, count: u32) -> Effect {
    Effect::Deliver { session: 1, seq, attempt, count, until: desk.now.plus_ms(60_000) }
}

/// The moment at which the rows of these tests expire.
pub const DEADLINE: Time = Time::from_ms(1_100_000);

pub fn expiring(seq: Seq, case: &str, doubt: bool) -> Queued {
    Queued { expires_at: DEADLINE, doubt, ..row(seq, case) }
}

pub fn due(seq: Seq, doubt: bool) -> Event {
    Event::Due { seq, expires_at: DEADLINE, doubt }
}

pub fn settle(seq: Seq, deliveries: u32, fate: Fate) -> Effect {
    Effect::Settle { seq, deliveries, fate }
}

/// A lane with these rows read and one session, 1, without credits.
pub fn desk(policy: Policy, rows: Vec<Queued>) -> Desk {
    let mut desk = Desk::with(policy, &[], 0).0;
    desk.on(Event::Enqueued { seq: 0 });
    desk.on(Event::Loaded { rows, end: true });
    desk
}
