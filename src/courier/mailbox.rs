//! Decides nothing of its own about order: tells the owner of a mailbox what is theirs and what their outcomes settle, as
//! the mailbox's lane says. The owner is one of the city's own systems, or a partner gateway that fetches its messages.
//! Never touches a connection.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::desk::{Cancelled, Order};
use super::ground::{Ground, Settlement};
use super::homeward::{self, Batch, Homeward};
use super::logbook::Logbook;
use crate::chance;
use crate::lanes::bell::{self, Heard};
use crate::lanes::{
    Attempt, Effect, Event, Fate as LaneFate, Lane, Outcome as LaneOutcome, Policy, Queued, Seq, SessionId,
};
use crate::ledger::{Fate, Settle};
use crate::limits::{CREDITS_MAX, RECEIVERS_PER_SYSTEM_MAX};
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
    /// Its outcome is durable: the leaf that was written, if one was.
    Settled { delivery: Delivery, receipt: Option<Box<Receipt>> },
    /// The stream does not hold the delivery.
    NotHeld { delivery: Delivery },
    /// Receipts of the owner's own messages, under this name.
    Receipts { name: String, receipts: Vec<(Receipt, Option<String>)> },
}

/// What the owner says of a delivery.
#[derive(Debug)]
pub enum Outcome {
    /// It has the message, or refuses it for good.
    Final(Taken, Box<Fate>),
    /// It wants it later.
    RetryLater { at: Time },
    /// It may not have it at this time.
    NotNow { at: Time },
}

/// Which of the two final outcomes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    No,
}

/// Why a mailbox cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    #[error("as many streams receive from this mailbox as may")]
    Crowded,
    #[error("the gateway is stopping")]
    Stopped,
}

/// Whether a stream takes receipts beside messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    Wanted,
    Unwanted,
}

#[derive(Debug)]
enum Call {
    Open { steps: mpsc::Sender<Step>, receipts: Receipts, reply: oneshot::Sender<Result<SessionId, MailboxError>> },
    Credits { session: SessionId, count: u32 },
    Outcome { session: SessionId, delivery: Delivery, outcome: Outcome },
    Extend { session: SessionId, delivery: Delivery, until: Time },
    Arrived { name: String },
    NotTaken { name: String },
    Claim { seq: Seq, expires_at: Time, reply: oneshot::Sender<Receipt> },
    Close { session: SessionId },
}

impl Mailbox {
    /// Opens the mailbox for one stream; `steps` holds at least as many steps as credits may be granted.
    pub async fn open(&self, steps: mpsc::Sender<Step>, receipts: Receipts) -> Result<SessionId, MailboxError> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Open { steps, receipts, reply }).await.map_err(|_| MailboxError::Stopped)?;
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

    /// A batch of receipts is the owner's now.
    pub async fn arrived(&self, name: String) {
        let _ = self.calls.send(Call::Arrived { name }).await;
    }

    /// A batch of receipts was not taken: it comes again.
    pub async fn not_taken(&self, name: String) {
        let _ = self.calls.send(Call::NotTaken { name }).await;
    }

    /// Takes a message out of its turn: its `HANDED_OVER` receipt, once that is durable. None when the message is not there
    /// for it: a stream has it, it has ended, or nothing leaves this mailbox now.
    pub async fn claim(&self, seq: Seq, expires_at: Time) -> Option<Receipt> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Claim { seq, expires_at, reply }).await.ok()?;
        answer.await.ok()
    }

    /// The stream is gone: what it held goes to others.
    pub fn close(&self, session: SessionId) {
        let calls = self.calls.clone();
        // A dropped stream cannot wait; the keeper has room soon or is stopping anyway.
        tokio::spawn(async move { drop(calls.send(Call::Close { session }).await) });
    }
}

/// Opens a mailbox: the way in, and the keeper that must run.
pub fn open(ground: Ground, name: LaneName) -> (Mailbox, Opening) {
    let (calls, queue) = mpsc::channel(CREDITS_MAX as usize);
    (Mailbox { calls }, Opening { ground, name, queue })
}

/// A mailbox whose keeper has not read yet what the life before left.
pub struct Opening {
    ground: Ground,
    name: LaneName,
    queue: mpsc::Receiver<Call>,
}

impl Opening {
    /// Reads what the life before left, and keeps the mailbox until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let name = self.name.clone();
        match self.keeper().await {
            Ok(keeper) => keeper.run(stop).await,
            Err(error) => tracing::error!(lane = %name, %error, "the mailbox cannot be opened"),
        }
    }

    async fn keeper(self) -> Result<Keeper, store::Error> {
        let Opening { ground, name, queue } = self;
        // Before the logbook is read: what is committed in between is heard.
        let mut bell = ground.ledger.bells().lane(&name);
        let heard_last = *bell.borrow_and_update();
        let logbook = Logbook::open(ground.clone(), name.clone()).await?;
        let seed = chance::bytes().map(u64::from_be_bytes).unwrap_or_default();
        let policy = match &name {
            LaneName::System(_) => Policy::mailbox(),
            LaneName::Gateway(_) => Policy::pull(),
        };
        Ok(Keeper {
            lane: Lane::new(policy, seed, logbook.rest()),
            homeward: Homeward::new(name.clone()),
            ground,
            name,
            logbook,
            bell,
            heard_last,
            wake: None,
            sessions: HashMap::new(),
            opened: 0,
            fates: HashMap::new(),
            held: HashMap::new(),
            settling: HashMap::new(),
            cancels: HashMap::new(),
            claims: HashMap::new(),
            receipts_with: None,
            queue,
            done: mpsc::channel(CREDITS_MAX as usize),
        })
    }
}

/// Keeps one mailbox.
pub struct Keeper {
    ground: Ground,
    name: LaneName,
    lane: Lane,
    logbook: Logbook,
    /// What the lane's bell says, and what of it has been taken in.
    bell: watch::Receiver<Heard>,
    heard_last: Heard,
    homeward: Homeward,
    wake: Option<Time>,
    sessions: HashMap<SessionId, mpsc::Sender<Step>>,
    opened: SessionId,
    /// What came with an outcome, until it is settled.
    fates: HashMap<Seq, Fate>,
    /// Who holds a delivery that has no outcome yet.
    held: HashMap<Seq, (SessionId, Attempt)>,
    /// Who waits for a settlement.
    settling: HashMap<Seq, (SessionId, Attempt)>,
    /// Who waits to hear whether a message is withdrawn.
    cancels: HashMap<Seq, Vec<oneshot::Sender<Cancelled>>>,
    /// Who takes a message out of its turn.
    claims: HashMap<Seq, Vec<oneshot::Sender<Receipt>>>,
    /// The stream that holds the batch of receipts.
    receipts_with: Option<SessionId>,
    queue: mpsc::Receiver<Call>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
}

enum Done {
    Loaded(Result<(Vec<Queued>, bool), store::Error>),
    Settled { seq: Seq, fate: LaneFate, settlement: Option<Settlement> },
    Receipts(Result<Batch, store::Error>),
    Arrived { written: bool },
}

impl Keeper {
    /// Keeps the mailbox until `stop`.
    async fn run(mut self, stop: CancellationToken) {
        let mut receipts = self.ground.ledger.bells().outbox(&self.name);
        let mut orders = self.ground.desk.open(&self.name);
        self.feed(Event::Enqueued { seq: 0 });
        self.send_home();
        loop {
            let paused = self.homeward.paused_until();
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.bell.changed() => self.rung(),
                Ok(()) = receipts.changed() => {
                    receipts.borrow_and_update();
                    self.homeward.rung();
                    self.send_home();
                }
                Some(call) = self.queue.recv() => self.called(call).await,
                Some(order) = orders.recv() => self.ordered(order),
                Some(done) = self.done.1.recv() => self.finished(done),
                () = self.ground.until(self.wake) => {
                    self.wake = None;
                    self.feed(Event::Tick);
                }
                () = self.ground.until(paused) => self.send_home(),
            }
        }
    }

    /// Takes in all that the lane's bell has said.
    fn rung(&mut self) {
        let now = *self.bell.borrow_and_update();
        let before = std::mem::replace(&mut self.heard_last, now);
        bell::events(before, now).for_each(|event| self.feed(event));
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

    async fn called(&mut self, call: Call) {
        match call {
            Call::Open { steps, receipts, reply } => self.open_session(steps, receipts, reply).await,
            Call::Credits { session, count } => self.feed(Event::Credits { session, count }),
            Call::Outcome { session, delivery, outcome } => self.outcome(session, delivery, outcome),
            Call::Extend { session, delivery: Delivery { seq, attempt }, until } => {
                let ms = until.since_ms(self.ground.clock.now());
                self.feed(Event::Extended { seq, attempt, session, ms });
            }
            Call::Arrived { name } => self.arrived(&name),
            Call::NotTaken { name } if self.homeward.is_out(&name) => {
                self.receipts_with = None;
                self.homeward.not_taken(self.ground.clock.now());
            }
            Call::NotTaken { .. } => {}
            Call::Claim { seq, expires_at, reply } => {
                self.claims.entry(seq).or_default().push(reply);
                self.feed(Event::Claim { seq, expires_at });
            }
            Call::Close { session } => {
                let closed = self.gone(session);
                self.feed(closed);
                self.send_home();
            }
        }
    }

    async fn open_session(
        &mut self,
        steps: mpsc::Sender<Step>,
        receipts: Receipts,
        reply: oneshot::Sender<Result<SessionId, MailboxError>>,
    ) {
        if self.sessions.len() >= RECEIVERS_PER_SYSTEM_MAX {
            let _ = reply.send(Err(MailboxError::Crowded));
            return;
        }
        // Nothing may go out before it is written that something may have.
        if !self.logbook.opened().await {
            let _ = reply.send(Err(MailboxError::Stopped));
            return;
        }
        self.opened += 1;
        let session = self.opened;
        if reply.send(Ok(session)).is_ok() {
            self.sessions.insert(session, steps);
            self.feed(Event::Opened { session, receipts: receipts == Receipts::Wanted });
        }
    }

    /// Carries an order out. Whoever gives one finds the lane as their last commit left it.
    fn ordered(&mut self, order: Order) {
        self.rung();
        match order {
            Order::Due { seq, expires_at } => {
                let doubt = self.logbook.doubts(seq);
                self.feed(Event::Due { seq, expires_at, doubt });
            }
            Order::Cancel { seq, reply } => {
                self.cancels.entry(seq).or_default().push(reply);
                let doubt = self.logbook.doubts(seq);
                self.feed(Event::Cancel { seq, doubt });
            }
            Order::Tell { reply } => {
                let _ = reply.send(self.lane.stats(self.ground.clock.now()));
            }
        }
    }

    fn outcome(&mut self, session: SessionId, delivery: Delivery, outcome: Outcome) {
        let Delivery { seq, attempt } = delivery;
        let Some(held) = self.held.get(&seq).filter(|held| **held == (session, attempt)).copied() else {
            return self.tell(session, Step::NotHeld { delivery });
        };
        self.held.remove(&seq);
        let outcome = match outcome {
            Outcome::Final(taken, fate) => {
                self.fates.insert(seq, *fate);
                self.settling.insert(seq, held);
                if taken == Taken::Yes { LaneOutcome::Taken } else { LaneOutcome::Refused }
            }
            Outcome::RetryLater { at } => LaneOutcome::RetryLater { at },
            Outcome::NotNow { at } => LaneOutcome::NotNow { at },
        };
        self.feed(Event::Attempted { seq, attempt, session, outcome });
        // Told after the lane: a stream that is gone must not take its last word with it.
        if matches!(outcome, LaneOutcome::RetryLater { .. }) {
            self.tell(session, Step::Settled { delivery, receipt: None });
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Load { from, count } => {
                let (ground, name, doubt_below) = (self.ground.clone(), self.name.clone(), self.logbook.doubt_below());
                self.beside(async move { Done::Loaded(ground.queue(name, from, count, doubt_below).await) });
            }
            Effect::Deliver { session, seq, attempt, count, until } => {
                self.logbook.sends(seq);
                self.held.insert(seq, (session, attempt));
                return self.told(session, Step::Deliver { delivery: Delivery { seq, attempt }, count, until });
            }
            Effect::Withdraw { session, seq, attempt } => {
                self.held.remove(&seq);
                return self.told(session, Step::Withdraw { delivery: Delivery { seq, attempt } });
            }
            Effect::Receipts { session } => return self.give_receipts(session),
            Effect::Settle { seq, deliveries, fate } => self.settle(seq, deliveries, fate),
            Effect::Park { seq, deliveries, until } => {
                let (ground, name) = (self.ground.clone(), self.name.clone());
                tokio::spawn(async move { ground.park(name, seq, deliveries, until).await });
            }
            Effect::Kept { seq } => {
                self.answer_cancels(seq, || Cancelled::InDoubt);
                self.claims.remove(&seq);
            }
            Effect::Rest(rest) => self.logbook.rests(rest),
            Effect::Wake { at } => self.wake = Some(at),
            // A mailbox's owner comes by itself, and cannot be asked.
            Effect::Dial | Effect::Ask { .. } => {}
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
        let was_open = self.sessions.remove(&session).is_some();
        self.held.retain(|_, (holder, _)| *holder != session);
        if self.receipts_with == Some(session) {
            self.receipts_with = None;
            self.homeward.lost();
        }
        if was_open && self.sessions.is_empty() {
            self.logbook.closed();
        }
        Event::Closed { session }
    }

    fn settle(&mut self, seq: Seq, attempts: u32, lane_fate: LaneFate) {
        let fate = match lane_fate {
            LaneFate::Taken { .. } | LaneFate::Refused { .. } => self.fates.get(&seq).cloned(),
            LaneFate::Exhausted => Some(Fate::Exhausted),
            LaneFate::Expired => Some(Fate::Expired),
            LaneFate::InDoubt => Some(Fate::InDoubt),
            LaneFate::Cancelled => Some(Fate::Cancelled),
            LaneFate::Diverted => Some(Fate::Diverted),
            LaneFate::Claimed => Some(Fate::HandedOver { signed: None }),
            LaneFate::Found => None,
        };
        let Some(fate) = fate else { return };
        let (ground, lane) = (self.ground.clone(), self.name.clone());
        let settle = Box::new(Settle { lane, seq, attempts, fate });
        self.beside(async move {
            let settlement = ground.settle(settle).await;
            Done::Settled { seq, fate: lane_fate, settlement }
        });
    }

    fn finished(&mut self, done: Done) {
        match done {
            Done::Loaded(Ok((rows, end))) => self.feed(Event::Loaded { rows, end }),
            Done::Loaded(Err(error)) => {
                tracing::error!(lane = %self.name, %error, "the mailbox cannot be read");
                self.feed(Event::LoadFailed);
            }
            Done::Settled { seq, fate, settlement: Some(Settlement::Ended(receipt)) } => self.ended(seq, fate, receipt),
            Done::Settled { settlement: Some(Settlement::Moved(messages)), .. } => {
                for seq in messages {
                    self.answer_cancels(seq, || Cancelled::InDoubt);
                    self.feed(Event::Settled { seq });
                }
            }
            Done::Settled { seq, settlement: None, .. } => self.feed(Event::SettleFailed { seq }),
            Done::Receipts(batch) => match self.homeward.read(batch, self.ground.clock.now()) {
                true => self.feed(Event::Receipts),
                false => self.send_home(),
            },
            Done::Arrived { written } => {
                self.homeward.closed(written, self.ground.clock.now());
                self.send_home();
            }
        }
    }

    fn ended(&mut self, seq: Seq, fate: LaneFate, receipt: Option<Receipt>) {
        self.fates.remove(&seq);
        self.feed(Event::Settled { seq });
        match &receipt {
            Some(receipt) if fate == LaneFate::Cancelled => {
                self.answer_cancels(seq, || Cancelled::Done(Box::new(receipt.clone())));
            }
            _ => self.answer_cancels(seq, || Cancelled::TooLate),
        }
        for reply in self.claims.remove(&seq).into_iter().flatten() {
            // Whoever did not get it so looks where it went.
            if let Some(receipt) = receipt.clone().filter(|_| fate == LaneFate::Claimed) {
                let _ = reply.send(receipt);
            }
        }
        if let Some((session, attempt)) = self.settling.remove(&seq) {
            self.tell(session, Step::Settled { delivery: Delivery { seq, attempt }, receipt: receipt.map(Box::new) });
        }
    }

    fn answer_cancels(&mut self, seq: Seq, answer: impl Fn() -> Cancelled) {
        for reply in self.cancels.remove(&seq).into_iter().flatten() {
            let _ = reply.send(answer());
        }
    }

    fn beside(&self, work: impl Future<Output = Done> + Send + 'static) {
        let done = self.done.0.clone();
        tokio::spawn(async move { drop(done.send(work.await).await) });
    }
}

/// Receipts of the owner's own messages.
impl Keeper {
    fn send_home(&mut self) {
        if self.homeward.begin_reading(self.ground.clock.now()) {
            let (ground, name) = (self.ground.clone(), self.name.clone());
            self.beside(async move { Done::Receipts(homeward::batch(&ground, name).await) });
        } else if self.homeward.is_ready() {
            self.feed(Event::Receipts);
        }
    }

    fn give_receipts(&mut self, session: SessionId) -> Option<Event> {
        let (name, receipts) = self.homeward.send()?;
        self.receipts_with = Some(session);
        self.told(session, Step::Receipts { name, receipts })
    }

    fn arrived(&mut self, name: &str) {
        let Some(leaves) = self.homeward.arrived(name) else { return };
        self.receipts_with = None;
        let (ground, lane) = (self.ground.clone(), self.name.clone());
        self.beside(async move { Done::Arrived { written: homeward::write_arrival(&ground, lane, leaves).await } });
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};

    use arc_swap::ArcSwap;

    use super::*;
    use crate::admission::Grants;
    use crate::blobs::Blobs;
    use crate::clock::Clock;
    use crate::courier::desk::Desk;
    use crate::directory::book::Directory;
    use crate::intake::Rules;
    use crate::ledger::{Answer, Core, Entry, Ledger, Pause};
    use crate::party::Member;
    use crate::receipt::Checker;
    use crate::routing::{Index, Tables, Ways};
    use crate::store::{Mark, Retention, Synchronous};
    use crate::tlog::note::SigningKey;

    /// A keeper over an empty store that runs only as far as a test drives it.
    struct Bench {
        keeper: Keeper,
        folder: PathBuf,
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    /// Rules of an alliance without members.
    fn rules(own: &Member) -> Rules {
        let alliance = "alliance.example".parse().unwrap();
        let directory = Arc::new(Directory::empty(&alliance, Time::from_ms(1)).unwrap());
        let ways = Ways::of(&directory, own);
        let tables = Tables { own: own.clone(), systems: vec![], ways, allow: vec![], version: 0, tables: vec![] };
        let index = Arc::new(Index::compile(&tables).unwrap());
        Rules { own: own.clone(), alliance, directory, index, grants: Grants::default(), suspended: Default::default() }
    }

    fn ground(folder: &Path) -> Ground {
        let (writer, readers) = store::open(folder, Synchronous::Full).unwrap();
        let own: Member = "450200".parse().unwrap();
        let key = SigningKey::from_seed("a.example/log/1/1", &[7; 32]).unwrap();
        let core = Core::open(writer, Mark::in_folder(folder), key, own.clone()).unwrap();
        let clock = Clock::default();
        Ground {
            rules: Arc::new(ArcSwap::from_pointee(rules(&own))),
            own,
            readers: Arc::new(readers),
            ledger: Ledger::start(core, clock.clone()).unwrap(),
            clock,
            checker: Arc::new(Mutex::new(Checker::new(vec![]))),
            desk: Desk::default(),
            blobs: Blobs::open(folder.join("attachments")).unwrap(),
            retention: Retention::default(),
        }
    }

    impl Bench {
        async fn new(name: &str) -> Bench {
            let folder = std::env::temp_dir().join(format!("tongban-mailbox-{name}-{}", std::process::id()));
            let opening = open(ground(&folder), LaneName::System("window".parse().unwrap())).1;
            let mut keeper = opening.keeper().await.unwrap();
            keeper.feed(Event::Enqueued { seq: 0 });
            Bench { keeper, folder }
        }

        async fn opened(&mut self, credits: u32) -> (SessionId, mpsc::Receiver<Step>) {
            let (steps, given) = mpsc::channel(16);
            let (reply, mut answer) = oneshot::channel();
            self.keeper.called(Call::Open { steps, receipts: Receipts::Unwanted, reply }).await;
            let session = answer.try_recv().unwrap().unwrap();
            self.keeper.called(Call::Credits { session, count: credits }).await;
            (session, given)
        }

        fn loaded(&mut self, rows: impl IntoIterator<Item = Seq>) {
            let row = |seq| Queued {
                seq,
                case: None,
                deliveries: 0,
                parked_until: Time::ZERO,
                expires_at: Time::from_ms(1 << 46),
                doubt: false,
                alternative: false,
            };
            self.keeper.feed(Event::Loaded { rows: rows.into_iter().map(row).collect(), end: true });
        }
    }

    fn delivered(given: &mut mpsc::Receiver<Step>) -> Delivery {
        let Ok(Step::Deliver { delivery, .. }) = given.try_recv() else { panic!("a delivery") };
        delivery
    }

    #[tokio::test]
    async fn what_was_meant_for_a_dead_stream_is_held_by_the_next_one() {
        let mut bench = Bench::new("dead").await;
        let dead = bench.opened(2).await;
        let (alive, mut given) = bench.opened(3).await;
        drop(dead);
        bench.loaded([1, 2, 3]);
        for _ in 0..3 {
            let delivery = delivered(&mut given);
            assert_eq!(bench.keeper.held.get(&delivery.seq), Some(&(alive, delivery.attempt)));
        }
    }

    #[tokio::test]
    async fn an_outcome_counts_from_the_stream_that_holds_the_delivery_and_once() {
        let mut bench = Bench::new("outcome").await;
        let (holder, mut given) = bench.opened(1).await;
        let (other, mut others) = bench.opened(0).await;
        bench.loaded([1]);
        let delivery = delivered(&mut given);
        let later = || Outcome::RetryLater { at: Time::from_ms(1 << 46) };
        bench.keeper.outcome(other, delivery, later());
        assert!(matches!(others.try_recv(), Ok(Step::NotHeld { delivery: told }) if told == delivery));
        let old = Delivery { attempt: delivery.attempt + 1, ..delivery };
        bench.keeper.outcome(holder, old, later());
        assert!(matches!(given.try_recv(), Ok(Step::NotHeld { delivery: told }) if told == old));
        bench.keeper.outcome(holder, delivery, later());
        assert!(matches!(given.try_recv(), Ok(Step::Settled { delivery: told, receipt: None }) if told == delivery));
        bench.keeper.outcome(holder, delivery, later());
        assert!(matches!(given.try_recv(), Ok(Step::NotHeld { .. })), "it was given up");
    }

    #[tokio::test]
    async fn who_asks_how_the_lane_stands_finds_it_as_their_commit_left_it() {
        let mut bench = Bench::new("tell").await;
        let (_, mut given) = bench.opened(3).await;
        for held in [true, false] {
            let (lane, why, actor) = (bench.keeper.name.clone(), "x".to_owned(), "li".to_owned());
            let pause = Entry::Hold(Box::new(Pause { lane, held, why, actor }));
            assert!(matches!(bench.keeper.ground.ledger.enter(pause).await, Ok(Answer::Held(true))));
            let (reply, mut told) = oneshot::channel();
            bench.keeper.ordered(Order::Tell { reply });
            assert_eq!(told.try_recv().unwrap().held, held);
            bench.loaded((1..=2).filter(|_| held));
            assert_eq!(given.try_recv().is_ok(), !held);
        }
    }

    #[tokio::test]
    async fn what_may_not_go_now_waits_and_is_not_a_word_to_the_stream() {
        let mut bench = Bench::new("not-now").await;
        let (holder, mut given) = bench.opened(2).await;
        bench.loaded([1, 2]);
        let (first, second) = (delivered(&mut given), delivered(&mut given));
        bench.keeper.outcome(holder, first, Outcome::NotNow { at: Time::from_ms(1 << 46) });
        assert!(given.try_recv().is_err());
        assert_eq!(bench.keeper.held.keys().collect::<Vec<_>>(), [&second.seq]);
        bench.keeper.called(Call::Credits { session: holder, count: 1 }).await;
        assert!(given.try_recv().is_err(), "it waits");
    }

    #[tokio::test]
    async fn a_store_that_fails_to_settle_is_asked_again_and_an_end_is_told_once() {
        let mut bench = Bench::new("settle").await;
        let (holder, mut given) = bench.opened(1).await;
        bench.loaded([1]);
        let delivery = delivered(&mut given);
        let taken = Outcome::Final(Taken::Yes, Box::new(Fate::HandedOver { signed: None }));
        bench.keeper.outcome(holder, delivery, taken);
        let fate = LaneFate::Taken { attempt: delivery.attempt };
        bench.keeper.finished(Done::Settled { seq: 1, fate, settlement: None });
        assert!(given.try_recv().is_err(), "nothing is durable yet");
        assert!(bench.keeper.fates.contains_key(&1), "what came with the outcome is still known");
        for _ in 0..2 {
            bench.keeper.finished(Done::Settled { seq: 1, fate, settlement: Some(Settlement::Ended(None)) });
        }
        assert!(matches!(given.try_recv(), Ok(Step::Settled { .. })));
        assert!(given.try_recv().is_err(), "once");
    }
}
