//! Decides nothing of its own about when and what: carries out what one partner's lane asks for, tells it what came of
//! it, and sends the receipts of the partner's messages home beside it.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::desk::{Cancelled, Order};
use super::dial::{Dialer, Line, LineError};
use super::ground::{Ground, Settlement};
use super::homeward::{self, Batch, Homeward};
use super::logbook::Logbook;
use super::session::{InFlight, Load, News, Session};
use crate::chance;
use crate::evidence::{Code, Event as EvidenceEvent};
use crate::lanes::bell::{self, Heard};
use crate::lanes::{Answer, Attempt, Effect, Event, Fate as LaneFate, Lane, Outcome, Policy, Queued, Seq, SessionId};
use crate::ledger::{Fate, Settle};
use crate::limits::{ATTEMPT_MS, BACKOFF_MS, NOT_PERMITTED_NOW_MS, PARTNER_BEHIND_MS, WINDOW};
use crate::party::Member;
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::store::{self, LaneName};
use crate::time::Time;
use crate::wire::exchange::{Named, StreamAnswer};
use crate::wire::status::Answered;

/// The courier towards one partner.
pub struct Push {
    ground: Ground,
    member: Member,
    name: LaneName,
    dialer: Dialer,
    lane: Lane,
    logbook: Logbook,
    /// What the lane's bell says, and what of it has been taken in.
    bell: watch::Receiver<Heard>,
    heard_last: Heard,
    wake: Option<Time>,
    session: Option<Session>,
    /// When the partner last said something on it.
    heard_at: Time,
    sessions: SessionId,
    dialing: bool,
    /// Attempts under way, and the message of each once it has been read.
    out: HashMap<Attempt, Option<InFlight>>,
    /// What came with an outcome, until it is settled.
    fates: HashMap<Seq, Fate>,
    /// Who waits to hear whether a message is withdrawn.
    cancels: HashMap<Seq, Vec<oneshot::Sender<Cancelled>>>,
    homeward: Homeward,
    /// Receipts wait for a connection until this moment.
    homeward_at: Option<Time>,
    news: Channel<(SessionId, News)>,
    done: Channel<Done>,
}

/// Both ends of a channel: the loop hears what the tasks beside it say.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// What came of an effect that was carried out beside the loop.
enum Done {
    Dialed(Box<Result<Line, LineError>>),
    Loaded(Result<(Vec<Queued>, bool), store::Error>),
    Asked { seq: Seq, answer: Answer, fate: Option<Box<Fate>> },
    Settled { seq: Seq, fate: LaneFate, settlement: Option<Settlement> },
    Receipts(Result<Batch, store::Error>),
    Sent { written: bool },
}

/// Carries to one partner until `stop`.
pub async fn run(ground: Ground, member: Member, dialer: Dialer, stop: CancellationToken) {
    let name = LaneName::Gateway(member.clone());
    // Before the logbook is read: what is committed in between is heard.
    let mut bell = ground.ledger.bells().lane(&name);
    let heard_last = *bell.borrow_and_update();
    let logbook = match Logbook::open(ground.clone(), name.clone()).await {
        Ok(logbook) => logbook,
        Err(error) => return tracing::error!(partner = %member, %error, "the lane cannot be opened"),
    };
    let seed = chance::bytes().map(u64::from_be_bytes).unwrap_or_default();
    let push = Push {
        lane: Lane::new(Policy::push(), seed, logbook.rest()),
        logbook,
        bell,
        heard_last,
        wake: None,
        session: None,
        heard_at: Time::ZERO,
        sessions: 0,
        dialing: false,
        out: HashMap::new(),
        fates: HashMap::new(),
        cancels: HashMap::new(),
        homeward: Homeward::new(name.clone()),
        homeward_at: None,
        // A lane's window and a few more: whoever is told waits when the loop is behind.
        news: mpsc::channel(WINDOW),
        done: mpsc::channel(WINDOW),
        ground,
        member,
        name,
        dialer,
    };
    push.run(stop).await;
}

impl Push {
    async fn run(mut self, stop: CancellationToken) {
        let mut receipts = self.ground.ledger.bells().outbox(&self.name);
        let mut orders = self.ground.desk.open(&self.name);
        self.feed(Event::Enqueued { seq: 0 });
        self.send_home();
        loop {
            let homeward = [self.homeward.paused_until(), self.homeward_at].into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.bell.changed() => self.rung(),
                Ok(()) = receipts.changed() => {
                    receipts.borrow_and_update();
                    self.homeward.rung();
                    self.send_home();
                }
                Some(order) = orders.recv() => self.ordered(order),
                Some((session, news)) = self.news.1.recv() => self.heard(session, news),
                Some(done) = self.done.1.recv() => self.finished(done).await,
                () = self.ground.until(self.wake) => {
                    self.wake = None;
                    self.feed(Event::Tick);
                }
                () = self.ground.until(homeward) => {
                    self.homeward_at = None;
                    self.send_home();
                }
            }
        }
    }

    /// Takes in all that the lane's bell has said.
    fn rung(&mut self) {
        let now = *self.bell.borrow_and_update();
        let before = std::mem::replace(&mut self.heard_last, now);
        bell::events(before, now).for_each(|event| self.feed(event));
        if now.held != before.held && now.held == Some(false) {
            // The lane's rest has ended, and receipts wait for no other.
            self.homeward_at = None;
            self.send_home();
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

    /// Tells the lane and does what it asks for. What that brings about at once is told when all of it is done: an effect
    /// of the later event must not be overtaken by one of the earlier.
    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.lane.handle(self.ground.clock.now(), event) {
                self.carry_out(effect, &mut events);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Load { from, count } => {
                let (ground, name, doubt_below) = (self.ground.clone(), self.name.clone(), self.logbook.doubt_below());
                self.beside(async move { Done::Loaded(ground.queue(name, from, count, doubt_below).await) });
            }
            Effect::Dial => self.dial(),
            Effect::Deliver { session, seq, attempt, .. } => {
                self.logbook.sends(seq);
                let carried = self.session.as_ref().filter(|open| open.id == session);
                match carried.is_some_and(|open| open.carry(Load::Message { seq, attempt })) {
                    true => drop(self.out.insert(attempt, None)),
                    false => events.extend(ended(session, seq, attempt, Outcome::Unreachable)),
                }
            }
            Effect::Withdraw { session, attempt, .. } => {
                self.out.remove(&attempt);
                events.push_back(Event::Credits { session, count: 1 });
                if self.leaves_silence(session) {
                    events.push_back(Event::Closed { session });
                }
            }
            Effect::Ask { seq } => self.ask(seq),
            Effect::Settle { seq, deliveries, fate } => self.settle(seq, deliveries, fate),
            Effect::Park { seq, deliveries, until } => {
                let (ground, name) = (self.ground.clone(), self.name.clone());
                tokio::spawn(async move { ground.park(name, seq, deliveries, until).await });
            }
            Effect::Kept { seq } => self.answer_cancels(seq, || Cancelled::InDoubt),
            Effect::Rest(rest) => self.logbook.rests(rest),
            Effect::Wake { at } => self.wake = Some(at),
            // The partner's receipts go by the line that we dial.
            Effect::Receipts { .. } => {}
        }
    }

    /// Does something beside the loop and hears of it when it is done.
    fn beside(&self, work: impl Future<Output = Done> + Send + 'static) {
        let done = self.done.0.clone();
        tokio::spawn(async move { drop(done.send(work.await).await) });
    }

    fn dial(&mut self) {
        if !std::mem::replace(&mut self.dialing, true) {
            let dialer = self.dialer.clone();
            self.beside(async move { Done::Dialed(Box::new(dialer.open().await)) });
        }
    }

    async fn finished(&mut self, done: Done) {
        match done {
            Done::Dialed(dialed) => match *dialed {
                Ok(line) => self.connected(line).await,
                Err(error) => {
                    self.dialing = false;
                    tracing::warn!(partner = %self.member, %error, "no connection");
                    self.feed(Event::DialFailed);
                    self.send_home();
                }
            },
            Done::Loaded(Ok((rows, end))) => self.feed(Event::Loaded { rows, end }),
            Done::Loaded(Err(error)) => {
                tracing::error!(partner = %self.member, %error, "the lane cannot be read");
                self.feed(Event::LoadFailed);
            }
            Done::Asked { seq, answer, fate } => {
                self.fates.extend(fate.map(|fate| (seq, *fate)));
                self.feed(Event::Asked { seq, answer });
                if answer == Answer::Silent {
                    self.answer_cancels(seq, || Cancelled::InDoubt);
                }
            }
            Done::Settled { seq, fate, settlement: Some(Settlement::Ended(receipt)) } => {
                self.fates.remove(&seq);
                self.feed(Event::Settled { seq });
                match receipt {
                    Some(receipt) if fate == LaneFate::Cancelled => {
                        self.answer_cancels(seq, || Cancelled::Done(Box::new(receipt.clone())));
                    }
                    _ => self.answer_cancels(seq, || Cancelled::TooLate),
                }
            }
            Done::Settled { settlement: Some(Settlement::Moved(messages)), .. } => {
                for seq in messages {
                    self.fates.remove(&seq);
                    self.answer_cancels(seq, || Cancelled::InDoubt);
                    self.feed(Event::Settled { seq });
                }
            }
            Done::Settled { seq, settlement: None, .. } => self.feed(Event::SettleFailed { seq }),
            Done::Receipts(batch) => match self.homeward.read(batch, self.ground.clock.now()) {
                true => self.carry_home(),
                false => self.send_home(),
            },
            Done::Sent { written } => {
                self.homeward.closed(written, self.ground.clock.now());
                self.send_home();
            }
        }
    }

    async fn connected(&mut self, line: Line) {
        self.dialing = false;
        // Nothing may go out before it is written that something may have.
        if !self.logbook.opened().await {
            return self.feed(Event::DialFailed);
        }
        self.sessions += 1;
        self.heard_at = self.ground.clock.now();
        let id = self.sessions;
        tracing::info!(partner = %self.member, "connected");
        self.session = Some(Session::start(id, self.ground.clone(), self.member.clone(), line, self.news.0.clone()));
        self.feed(Event::Opened { session: id, receipts: false });
        self.feed(Event::Credits { session: id, count: WINDOW as u32 });
        self.send_home();
    }

    fn heard(&mut self, session: SessionId, news: News) {
        if self.session.as_ref().is_none_or(|open| open.id != session) {
            return;
        }
        match news {
            News::Sending(in_flight) => {
                // One that was withdrawn while it waited to be sent is nobody's any more; its answer settles nothing.
                if let Some(out) = self.out.get_mut(&in_flight.attempt) {
                    *out = Some(in_flight);
                }
            }
            News::Progress { seq, attempt, ms } => {
                self.heard_at = self.ground.clock.now();
                self.feed(Event::Extended { seq, attempt, session, ms });
            }
            News::NotNow { attempt, .. } | News::NotPermitted { attempt, .. } | News::Unsendable { attempt, .. }
                if self.out.remove(&attempt).is_none() => {}
            News::NotPermitted { seq, attempt, why } => {
                tracing::info!(partner = %self.member, seq, why, "a message may not go at this time");
                let at = self.ground.clock.now().plus_ms(NOT_PERMITTED_NOW_MS);
                self.attempted(session, seq, attempt, Outcome::NotNow { at });
            }
            News::NotNow { seq, attempt, why } => {
                tracing::warn!(partner = %self.member, seq, why, "a message is not sent now");
                self.attempted(session, seq, attempt, Outcome::Unreachable);
            }
            News::Unsendable { seq, attempt, reason, why } => {
                tracing::error!(partner = %self.member, seq, why, reason = reason.code(), "a message cannot be sent");
                let failed = Fate::RelayFailed { reason: reason.into(), status: 13, text: String::new() };
                self.fates.insert(seq, failed);
                self.attempted(session, seq, attempt, Outcome::Refused);
            }
            News::Answer(answer) => {
                self.heard_at = self.ground.clock.now();
                self.answered(session, answer);
            }
            News::Ended { why } => {
                tracing::info!(partner = %self.member, why, "disconnected");
                self.lost();
                self.feed(Event::Closed { session });
                self.send_home();
            }
        }
    }

    fn lost(&mut self) {
        self.session = None;
        self.out.clear();
        self.homeward.lost();
        self.logbook.closed();
    }

    /// Whether a connection was given up on which nothing was said for as long as an answer may take. A partner with one
    /// address is waited for: a new connection to the same place would hardly do better, and the pings end a dead one.
    fn leaves_silence(&mut self, session: SessionId) -> bool {
        let now = self.ground.clock.now();
        let silent = now.since_ms(self.heard_at) >= ATTEMPT_MS && self.dialer.has_another();
        let Some(open) = self.session.as_ref().filter(|open| silent && open.id == session) else { return false };
        tracing::warn!(partner = %self.member, "a silent connection is given up for another address");
        open.is_silent();
        self.lost();
        self.homeward_at = Some(now);
        true
    }

    fn answered(&mut self, session: SessionId, answer: StreamAnswer) {
        let (id, outcome) = match answer {
            StreamAnswer::ReceiptsTaken { id, refused } => return self.arrived(session, &id.id, &refused),
            StreamAnswer::Refused { ref id, .. } if self.homeward.is_out(&id.id) => return self.stuck(&id.id),
            StreamAnswer::Receipt { id, receipt } => {
                let Some(in_flight) = self.find(&id) else { return };
                (id, self.taken(&in_flight, receipt).map(|fate| (Outcome::Taken, Some(fate))))
            }
            StreamAnswer::Refused { id, answered } => {
                let Some(in_flight) = self.find(&id) else { return };
                (id, Some(self.refused(&in_flight, *answered)))
            }
            StreamAnswer::Unreadable { id } => (id, None),
        };
        let Some(in_flight) = self.find(&id) else { return };
        self.out.remove(&in_flight.attempt);
        let (outcome, fate) = outcome.unwrap_or((Outcome::NoAnswer, None));
        self.fates.extend(fate.map(|fate| (in_flight.seq, fate)));
        self.attempted(session, in_flight.seq, in_flight.attempt, outcome);
    }

    /// The message that an answer names. A partner that does not name the sending city means any: ids of two cities are
    /// hardly ever the same, and the receipt must fit the message anyway.
    fn find(&self, named: &Named) -> Option<InFlight> {
        let is_named = |out: &&InFlight| {
            out.id.to_string() == named.id && (named.from_city.is_empty() || out.from_city.as_str() == named.from_city)
        };
        self.out.values().flatten().find(is_named).cloned()
    }

    fn attempted(&mut self, session: SessionId, seq: Seq, attempt: Attempt, outcome: Outcome) {
        ended(session, seq, attempt, outcome).into_iter().for_each(|event| self.feed(event));
    }

    /// The partner's receipt, if it is one for this message: nothing else ends our custody.
    fn taken(&self, in_flight: &InFlight, receipt: Receipt) -> Option<Fate> {
        let checked = self.ground.check(receipt);
        match checked {
            Ok(checked)
                if checked.evidence.event == EvidenceEvent::RelayAccepted
                    && in_flight.is_meant_by(&checked.evidence, &self.member) =>
            {
                let (id, trace) = (&in_flight.id, in_flight.trace.as_deref());
                tracing::debug!(partner = %self.member, %id, trace, "the partner has taken a message");
                Some(Fate::Relayed(checked))
            }
            Ok(checked) => {
                let event = checked.evidence.event.as_str();
                tracing::warn!(partner = %self.member, id = %in_flight.id, trace = in_flight.trace, event, "the answer's receipt is for something else");
                None
            }
            Err(error) => {
                tracing::warn!(partner = %self.member, id = %in_flight.id, trace = in_flight.trace, %error, "the answer's receipt does not hold");
                None
            }
        }
    }

    fn refused(&self, in_flight: &InFlight, answered: Answered) -> (Outcome, Option<Fate>) {
        let now = self.ground.clock.now();
        let later = now.plus_ms(answered.retry_after_ms.unwrap_or(*BACKOFF_MS.start()));
        match verdict(&answered) {
            Verdict::Throttled => (Outcome::Throttled { at: later }, None),
            Verdict::Later => (Outcome::RetryLater { at: now.plus_ms(PARTNER_BEHIND_MS) }, None),
            Verdict::Final => {
                let (id, trace) = (&in_flight.id, in_flight.trace.as_deref());
                tracing::info!(partner = %self.member, %id, trace, reason = answered.reason, "refused by the partner");
                let text = answered.text.clone();
                let receipt =
                    answered.receipt.clone().and_then(|receipt| self.ground.check(receipt).ok()).filter(|checked| {
                        checked.evidence.event == EvidenceEvent::RelayRejected
                            && in_flight.is_meant_by(&checked.evidence, &self.member)
                    });
                let fate = match receipt {
                    Some(receipt) => Fate::RelayRefused { receipt, text },
                    None => Fate::RelayFailed { reason: code(&answered), status: answered.code as u64, text },
                };
                (Outcome::Refused, Some(fate))
            }
        }
    }

    fn settle(&mut self, seq: Seq, attempts: u32, lane_fate: LaneFate) {
        let fate = match lane_fate {
            LaneFate::Taken { .. } | LaneFate::Refused { .. } | LaneFate::Found => self.fates.get(&seq).cloned(),
            LaneFate::Exhausted => Some(Fate::Exhausted),
            LaneFate::Expired => Some(Fate::Expired),
            LaneFate::InDoubt => Some(Fate::InDoubt),
            LaneFate::Cancelled => Some(Fate::Cancelled),
            LaneFate::Diverted => Some(Fate::Diverted),
            // Only the owner of a mailbox claims.
            LaneFate::Claimed => None,
        };
        let Some(fate) = fate else {
            return tracing::error!(partner = %self.member, seq, "a fate came without its cause");
        };
        let (ground, lane) = (self.ground.clone(), self.name.clone());
        let settle = Box::new(Settle { lane, seq, attempts, fate });
        self.beside(async move {
            let settlement = ground.settle(settle).await;
            Done::Settled { seq, fate: lane_fate, settlement }
        });
    }

    /// Asks the partner whether it has a message that is in doubt. Its receipts answer; without one that holds, nothing is
    /// known.
    fn ask(&self, seq: Seq) {
        let (ground, dialer, member) = (self.ground.clone(), self.dialer.clone(), self.member.clone());
        self.beside(async move {
            let (answer, fate) = asked(&ground, &dialer, &member, seq).await;
            Done::Asked { seq, answer, fate: fate.map(Box::new) }
        });
    }

    fn answer_cancels(&mut self, seq: Seq, answer: impl Fn() -> Cancelled) {
        for reply in self.cancels.remove(&seq).into_iter().flatten() {
            let _ = reply.send(answer());
        }
    }
}

async fn asked(ground: &Ground, dialer: &Dialer, member: &Member, seq: Seq) -> (Answer, Option<Fate>) {
    let Ok((stored, _)) = ground.message(seq).await else { return (Answer::Silent, None) };
    let in_flight = InFlight {
        seq,
        attempt: 0,
        from_city: stored.key.from_city.clone(),
        id: stored.key.id,
        header_digest: stored.header_digest,
        trace: None,
    };
    let receipts = match dialer.evidence(stored.key.from_city.as_str(), &stored.key.id.to_string()).await {
        Ok(Some(receipts)) => receipts,
        Ok(None) => return (Answer::HasNot, None),
        Err(error) => {
            tracing::info!(partner = %member, id = %stored.key.id, %error, "no answer about a message in doubt");
            return (Answer::Silent, None);
        }
    };
    let held = receipts.into_iter().filter_map(|receipt| ground.check(receipt).ok());
    let told = held.filter(|checked| in_flight.is_meant_by(&checked.evidence, member));
    let fate = told.into_iter().find_map(|checked| match checked.evidence.event {
        EvidenceEvent::RelayAccepted => Some(Fate::Relayed(checked)),
        EvidenceEvent::RelayRejected => Some(Fate::RelayRefused { receipt: checked, text: String::new() }),
        _ => None,
    });
    match fate {
        Some(fate) => (Answer::Has, Some(fate)),
        None => (Answer::Silent, None),
    }
}

/// Receipts on their way home.
impl Push {
    /// Reads the next batch when there may be one and none is out; carries one that waits.
    fn send_home(&mut self) {
        if self.homeward.begin_reading(self.ground.clock.now()) {
            let (ground, name) = (self.ground.clone(), self.name.clone());
            self.beside(async move { Done::Receipts(homeward::batch(&ground, name).await) });
        } else if self.homeward.is_ready() {
            self.carry_home();
        }
    }

    fn carry_home(&mut self) {
        let Some(session) = &self.session else { return self.connect_for_receipts() };
        let Some((batch_id, receipts)) = self.homeward.send() else { return };
        if !session.carry(Load::Receipts { batch_id, receipts }) {
            self.homeward.not_taken(self.ground.clock.now());
        }
    }

    /// Receipts alone are reason enough to dial, with the lane's own pauses between failures.
    fn connect_for_receipts(&mut self) {
        let now = self.ground.clock.now();
        match self.lane.stats(now).backoff_until {
            None => self.dial(),
            Some(until) => self.homeward_at = Some(until),
        }
    }

    /// The batch is durable at the other side, but for those it refused: sending them again would change nothing.
    fn arrived(&mut self, session: SessionId, id: &str, refused: &[(u32, String)]) {
        let Some(leaves) = self.homeward.arrived(id) else { return };
        // The lane knows nothing of receipts; without this a connection that carries nothing else would be a failure.
        self.feed(Event::Alive { session });
        for (position, why) in refused {
            tracing::warn!(partner = %self.member, position, why, "a receipt was refused");
        }
        let (ground, lane) = (self.ground.clone(), self.name.clone());
        self.beside(async move { Done::Sent { written: homeward::write_arrival(&ground, lane, leaves).await } });
    }

    /// The other side could not store the batch.
    fn stuck(&mut self, id: &str) {
        tracing::warn!(partner = %self.member, id, "a batch of receipts was not taken");
        self.homeward.not_taken(self.ground.clock.now());
    }
}

/// An attempt has ended, and its place is free.
fn ended(session: SessionId, seq: Seq, attempt: Attempt, outcome: Outcome) -> [Event; 2] {
    [Event::Attempted { seq, attempt, session, outcome }, Event::Credits { session, count: 1 }]
}

/// What a refusal means for the lane.
enum Verdict {
    /// The partner cannot take anything now.
    Throttled,
    /// It cannot take this message now, and may later: its clock or its directory is behind.
    Later,
    /// It will not take this message.
    Final,
}

fn verdict(answered: &Answered) -> Verdict {
    use tonic::Code::{
        AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, PermissionDenied, Unimplemented,
    };
    match answered.reason.as_deref().and_then(Reason::from_code) {
        Some(Reason::OriginReceiptInvalid | Reason::ClockAhead | Reason::AttachmentMissing | Reason::LaneFull) => {
            Verdict::Later
        }
        // Of its sender alone: what a hub carries for others goes on.
        Some(Reason::MemberSuspended) => Verdict::Later,
        Some(Reason::MessageTooLarge) => Verdict::Final,
        _ => match answered.code {
            InvalidArgument | NotFound | AlreadyExists | PermissionDenied | FailedPrecondition | OutOfRange
            | Unimplemented => Verdict::Final,
            _ => Verdict::Throttled,
        },
    }
}

/// The reason that stands in our own evidence of the failure.
fn code(answered: &Answered) -> Code {
    let said = answered.reason.as_deref().and_then(|code| code.parse().ok());
    said.unwrap_or_else(|| Reason::Internal.into())
}
