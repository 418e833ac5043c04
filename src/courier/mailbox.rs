//! Decides how the mailbox of one own system is kept: who may take deliveries, and what their outcomes settle, as the
//! mailbox's lane says. Never decides the order, and never touches a connection.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use crate::chance;
use crate::evidence::Code;
use crate::lanes::{
    Attempt, Effect, Event, Fate as LaneFate, Lane, Outcome as LaneOutcome, Policy, Queued, Seq, SessionId,
};
use crate::ledger::{Fate, Settle};
use crate::limits::{CREDITS_MAX, RECEIVERS_PER_SYSTEM_MAX};
use crate::party::Name;
use crate::receipt::Receipt;
use crate::store::{self, LaneName};
use crate::time::Time;

/// The way into a mailbox, for streams that receive from it.
#[derive(Clone, Debug)]
pub struct Mailbox {
    calls: mpsc::Sender<Call>,
}

/// A delivery, named by its message's place and its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    pub seq: Seq,
    pub attempt: Attempt,
}

/// What a receiving stream is told. Bodies are not in it: the stream reads them when it can send them.
#[derive(Debug)]
pub enum Step {
    /// A message is the stream's until the lease ends.
    Deliver { delivery: Delivery, count: u32, until: Time },
    /// Its lease has ended.
    Withdraw { delivery: Delivery },
    /// Its outcome is durable.
    Settled { delivery: Delivery, settlement: Settlement },
}

/// What an outcome came to.
#[derive(Debug)]
pub enum Settlement {
    /// The leaf that was written, if one was; none after retry-later.
    Written(Option<Box<Receipt>>),
    /// The stream does not hold the delivery.
    NotHeld,
}

/// What a system says of a delivery.
#[derive(Debug)]
pub enum Outcome {
    Acknowledge,
    Refuse { code: Code, text: String },
    RetryLater { at: Time },
}

/// Why a mailbox cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    #[error("as many streams receive from this mailbox as may")]
    Crowded,
    #[error("the gateway is stopping")]
    Stopped,
}

#[derive(Debug)]
enum Call {
    Open { steps: mpsc::Sender<Step>, reply: tokio::sync::oneshot::Sender<Result<SessionId, MailboxError>> },
    Credits { session: SessionId, count: u32 },
    Outcome { session: SessionId, delivery: Delivery, outcome: Outcome },
    Extend { session: SessionId, delivery: Delivery, until: Time },
    Close { session: SessionId },
}

impl Mailbox {
    /// Opens the mailbox for one stream; `steps` holds at least as many steps as credits may be granted.
    pub async fn open(&self, steps: mpsc::Sender<Step>) -> Result<SessionId, MailboxError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.calls.send(Call::Open { steps, reply }).await.map_err(|_| MailboxError::Stopped)?;
        answer.await.unwrap_or(Err(MailboxError::Stopped))
    }

    /// Grants the stream more deliveries.
    pub async fn grant(&self, session: SessionId, count: u32) {
        let _ = self.calls.send(Call::Credits { session, count }).await;
    }

    /// Gives a delivery its outcome; the answer comes as a step.
    pub async fn give(&self, session: SessionId, delivery: Delivery, outcome: Outcome) {
        let _ = self.calls.send(Call::Outcome { session, delivery, outcome }).await;
    }

    /// Prolongs a delivery's lease.
    pub async fn extend(&self, session: SessionId, delivery: Delivery, until: Time) {
        let _ = self.calls.send(Call::Extend { session, delivery, until }).await;
    }

    /// The stream is gone: what it held goes to others.
    pub fn close(&self, session: SessionId) {
        let calls = self.calls.clone();
        // A dropped stream cannot wait; the keeper has room soon or is stopping anyway.
        tokio::spawn(async move { drop(calls.send(Call::Close { session }).await) });
    }
}

/// Opens the mailbox of a system: the way in, and the keeper that must run.
pub fn open(ground: Ground, name: Name) -> (Mailbox, Keeper) {
    let (calls, queue) = mpsc::channel(CREDITS_MAX as usize);
    let seed = chance::bytes().map(u64::from_be_bytes).unwrap_or_default();
    let keeper = Keeper {
        ground,
        name: LaneName::System(name),
        lane: Lane::new(Policy::mailbox(), seed),
        wake: None,
        sessions: HashMap::new(),
        opened: 0,
        fates: HashMap::new(),
        held: HashMap::new(),
        settling: HashMap::new(),
        queue,
        done: mpsc::channel(CREDITS_MAX as usize),
    };
    (Mailbox { calls }, keeper)
}

/// Keeps one mailbox.
pub struct Keeper {
    ground: Ground,
    name: LaneName,
    lane: Lane,
    wake: Option<Time>,
    sessions: HashMap<SessionId, mpsc::Sender<Step>>,
    opened: SessionId,
    /// What came with an outcome, until it is settled.
    fates: HashMap<Seq, Fate>,
    /// Who holds a delivery that has no outcome yet.
    held: HashMap<Seq, (SessionId, Attempt)>,
    /// Who waits for a settlement.
    settling: HashMap<Seq, (SessionId, Attempt)>,
    queue: mpsc::Receiver<Call>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
}

enum Done {
    Loaded(Result<(Vec<Queued>, bool), store::Error>),
    Settled { seq: Seq, written: Option<Option<Receipt>> },
}

impl Keeper {
    /// Keeps the mailbox until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut messages = self.ground.ledger.bells().lane(&self.name);
        let mut heard = newest(&mut messages);
        self.feed(Event::Enqueued { seq: 0 });
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = messages.changed() => {
                    let seq = std::mem::replace(&mut heard, newest(&mut messages)) + 1;
                    self.feed(Event::Enqueued { seq });
                }
                Some(call) = self.queue.recv() => self.called(call),
                Some(done) = self.done.1.recv() => self.finished(done),
                () = self.ground.until(self.wake) => {
                    self.wake = None;
                    self.feed(Event::Tick);
                }
            }
        }
    }

    /// Tells the lane and does what it asks for. What that brings about at once is told when all of it is done: an effect
    /// of the later event must not be overtaken by one of the earlier.
    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.lane.handle(self.ground.clock.now(), event) {
                events.extend(self.carry_out(effect));
            }
        }
    }

    fn called(&mut self, call: Call) {
        match call {
            Call::Open { steps, reply } => {
                if self.sessions.len() >= RECEIVERS_PER_SYSTEM_MAX {
                    let _ = reply.send(Err(MailboxError::Crowded));
                    return;
                }
                self.opened += 1;
                let session = self.opened;
                if reply.send(Ok(session)).is_ok() {
                    self.sessions.insert(session, steps);
                    self.feed(Event::Opened { session });
                }
            }
            Call::Credits { session, count } => self.feed(Event::Credits { session, count }),
            Call::Outcome { session, delivery, outcome } => self.outcome(session, delivery, outcome),
            Call::Extend { session, delivery: Delivery { seq, attempt }, until } => {
                let ms = until.since_ms(self.ground.clock.now());
                self.feed(Event::Extended { seq, attempt, session, ms });
            }
            Call::Close { session } => {
                let closed = self.gone(session);
                self.feed(closed);
            }
        }
    }

    fn outcome(&mut self, session: SessionId, delivery: Delivery, outcome: Outcome) {
        let Delivery { seq, attempt } = delivery;
        let (outcome, fate) = match outcome {
            Outcome::Acknowledge => (LaneOutcome::Taken, Some(Fate::HandedOver)),
            Outcome::Refuse { code, text } => (LaneOutcome::Refused, Some(Fate::Refused { code, text })),
            Outcome::RetryLater { at } => (LaneOutcome::RetryLater { at }, None),
        };
        let Some(held) = self.held.get(&seq).filter(|held| **held == (session, attempt)).copied() else {
            return self.tell(session, Step::Settled { delivery, settlement: Settlement::NotHeld });
        };
        self.held.remove(&seq);
        let postponed = fate.is_none();
        if let Some(fate) = fate {
            self.fates.insert(seq, fate);
            self.settling.insert(seq, held);
        }
        self.feed(Event::Attempted { seq, attempt, session, outcome });
        // Told after the lane: a stream that is gone must not take its last word with it.
        if postponed {
            self.tell(session, Step::Settled { delivery, settlement: Settlement::Written(None) });
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Load { from, count } => {
                let (ground, name) = (self.ground.clone(), self.name.clone());
                self.beside(async move { Done::Loaded(ground.queue(name, from, count).await) });
            }
            Effect::Deliver { session, seq, attempt, count, until } => {
                self.held.insert(seq, (session, attempt));
                return self.told(session, Step::Deliver { delivery: Delivery { seq, attempt }, count, until });
            }
            Effect::Withdraw { session, seq, attempt } => {
                self.held.remove(&seq);
                return self.told(session, Step::Withdraw { delivery: Delivery { seq, attempt } });
            }
            Effect::Settle { seq, deliveries, fate } => self.settle(seq, deliveries, fate),
            Effect::Park { seq, deliveries, until } => {
                let (ground, name) = (self.ground.clone(), self.name.clone());
                tokio::spawn(async move { ground.park(name, seq, deliveries, until).await });
            }
            Effect::Wake { at } => self.wake = Some(at),
            // A mailbox's owner comes by itself.
            Effect::Dial => {}
        }
        None
    }

    /// Tells a stream.
    fn tell(&mut self, session: SessionId, step: Step) {
        if let Some(closed) = self.told(session, step) {
            self.feed(closed);
        }
    }

    /// Tells a stream; one that does not keep up with its own credits, or has ended, is gone.
    fn told(&mut self, session: SessionId, step: Step) -> Option<Event> {
        let lost = self.sessions.get(&session).is_none_or(|steps| steps.try_send(step).is_err());
        lost.then(|| self.gone(session))
    }

    fn gone(&mut self, session: SessionId) -> Event {
        self.sessions.remove(&session);
        self.held.retain(|_, (holder, _)| *holder != session);
        Event::Closed { session }
    }

    fn settle(&mut self, seq: Seq, attempts: u32, fate: LaneFate) {
        let fate = match fate {
            LaneFate::Taken { .. } | LaneFate::Refused { .. } => self.fates.get(&seq).cloned(),
            LaneFate::Exhausted => Some(Fate::Exhausted),
        };
        let Some(fate) = fate else { return };
        let (ground, lane) = (self.ground.clone(), self.name.clone());
        self.beside(async move {
            Done::Settled { seq, written: ground.settle(Settle { lane, seq, attempts, fate }).await }
        });
    }

    fn finished(&mut self, done: Done) {
        match done {
            Done::Loaded(Ok((rows, end))) => self.feed(Event::Loaded { rows, end }),
            Done::Loaded(Err(error)) => {
                tracing::error!(lane = %self.name, %error, "the mailbox cannot be read");
                self.feed(Event::LoadFailed);
            }
            Done::Settled { seq, written: Some(receipt) } => {
                self.fates.remove(&seq);
                self.feed(Event::Settled { seq });
                if let Some((session, attempt)) = self.settling.remove(&seq) {
                    let delivery = Delivery { seq, attempt };
                    let settlement = Settlement::Written(receipt.map(Box::new));
                    self.tell(session, Step::Settled { delivery, settlement });
                }
            }
            Done::Settled { seq, written: None } => self.feed(Event::SettleFailed { seq }),
        }
    }

    fn beside(&self, work: impl Future<Output = Done> + Send + 'static) {
        let done = self.done.0.clone();
        tokio::spawn(async move { drop(done.send(work.await).await) });
    }
}

fn newest(bell: &mut watch::Receiver<u64>) -> u64 {
    *bell.borrow_and_update()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::{Core, Ledger};
    use crate::party::Member;
    use crate::receipt::Checker;
    use crate::store::{Mark, Synchronous};
    use crate::tlog::note::SigningKey;

    /// A keeper over an empty store that runs only as far as a test drives it.
    fn keeper(folder: &std::path::Path) -> Keeper {
        let (writer, readers) = store::open(folder, Synchronous::Full).unwrap();
        let own: Member = "450200".parse().unwrap();
        let key = SigningKey::from_seed("a.example/log/1/1", &[7; 32]).unwrap();
        let core = Core::open(writer, Mark::in_folder(folder), key, own.clone()).unwrap();
        let ledger = Ledger::start(core, Clock::default()).unwrap().0;
        let checker = Arc::new(Mutex::new(Checker::new(vec![])));
        open(
            Ground { own, readers: Arc::new(readers), ledger, clock: Clock::default(), checker },
            "window".parse().unwrap(),
        )
        .1
    }

    fn opened(keeper: &mut Keeper, credits: u32) -> (SessionId, mpsc::Receiver<Step>) {
        let (steps, given) = mpsc::channel(16);
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        keeper.called(Call::Open { steps, reply });
        let session = answer.try_recv().unwrap().unwrap();
        keeper.called(Call::Credits { session, count: credits });
        (session, given)
    }

    #[tokio::test]
    async fn what_was_meant_for_a_dead_stream_is_held_by_the_next_one() {
        let folder = std::env::temp_dir().join(format!("tongban-mailbox-{}", std::process::id()));
        let mut keeper = keeper(&folder);
        keeper.feed(Event::Enqueued { seq: 0 });
        let dead = opened(&mut keeper, 2);
        let (alive, mut given) = opened(&mut keeper, 3);
        drop(dead);
        let row = |seq| Queued { seq, case: None, deliveries: 0, parked_until: Time::ZERO };
        keeper.feed(Event::Loaded { rows: vec![row(1), row(2), row(3)], end: true });
        for _ in 0..3 {
            let Ok(Step::Deliver { delivery, .. }) = given.try_recv() else { panic!("three deliveries") };
            assert_eq!(keeper.held.get(&delivery.seq), Some(&(alive, delivery.attempt)));
        }
        drop(keeper);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
