//! Decides nothing of its own about when and what: carries out what one partner's lane asks for, tells it what came of
//! it, and sends the receipts of the partner's messages home beside it.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::dial::{Dialer, Line, LineError};
use super::ground::Ground;
use super::session::{InFlight, Load, News, Session};
use crate::chance;
use crate::evidence::{Code, Event as EvidenceEvent};
use crate::lanes::{
    Answer as Asked, Attempt, Effect, Event, Fate as LaneFate, Lane, Outcome, Policy, Queued, Rest, Seq, SessionId,
};
use crate::ledger::{Answer, Entry, Fate, Settle};
use crate::limits::{BACKOFF_MS, PARTNER_BEHIND_MS, RECEIPT_BATCH_MAX, WINDOW};
use crate::party::Member;
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::store::{self, LaneName};
use crate::time::Time;
use crate::wire::exchange::StreamAnswer;
use crate::wire::status::Answered;

/// The courier towards one partner.
pub struct Push {
    ground: Ground,
    member: Member,
    name: LaneName,
    dialer: Dialer,
    lane: Lane,
    wake: Option<Time>,
    session: Option<Session>,
    sessions: SessionId,
    dialing: bool,
    /// Attempts under way, and the message of each once it has been read.
    out: HashMap<Attempt, Option<InFlight>>,
    /// What came with an outcome, until it is settled.
    fates: HashMap<Seq, Fate>,
    homeward: Homeward,
    news: Channel<(SessionId, News)>,
    done: Channel<Done>,
}

/// Both ends of a channel: the loop hears what the tasks beside it say.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// Receipts on their way home: one batch at a time.
#[derive(Default)]
struct Homeward {
    /// There may be leaves that have not been read.
    waiting: bool,
    /// When to look again, after a failure.
    again_at: Option<Time>,
    /// The batch that is out, with its leaves.
    out: Option<(String, Vec<u64>)>,
    reading: bool,
    /// When to look again, beside the lane's own timer.
    again: Option<Time>,
    batches: u64,
}

/// What came of an effect that was carried out beside the loop.
enum Done {
    Dialed(Result<Line, LineError>),
    Loaded(Result<(Vec<Queued>, bool), store::Error>),
    Settled { seq: Seq, written: bool },
    Receipts(Result<Batch, store::Error>),
    Sent { written: bool },
}

/// Leaves and the receipts that carry them.
type Batch = (Vec<u64>, Vec<(Receipt, Option<String>)>);

impl Push {
    pub fn new(ground: Ground, member: Member, dialer: Dialer) -> Push {
        let seed = chance::bytes().map(u64::from_be_bytes).unwrap_or_default();
        Push {
            name: LaneName::Gateway(member.clone()),
            lane: Lane::new(Policy::push(), seed, Rest::default()),
            wake: None,
            session: None,
            sessions: 0,
            dialing: false,
            out: HashMap::new(),
            fates: HashMap::new(),
            homeward: Homeward { waiting: true, ..Homeward::default() },
            // A lane's window and a few more: whoever is told waits when the loop is behind.
            news: mpsc::channel(WINDOW),
            done: mpsc::channel(WINDOW),
            ground,
            member,
            dialer,
        }
    }

    /// Carries until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut messages = self.ground.ledger.bells().lane(&self.name);
        let mut receipts = self.ground.ledger.bells().outbox(&self.member);
        let mut heard = newest(&mut messages);
        self.feed(Event::Enqueued { seq: 0 });
        self.send_home();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = messages.changed() => {
                    let seq = std::mem::replace(&mut heard, newest(&mut messages)) + 1;
                    self.feed(Event::Enqueued { seq });
                }
                Ok(()) = receipts.changed() => {
                    newest(&mut receipts);
                    self.homeward.waiting = true;
                    self.send_home();
                }
                Some((session, news)) = self.news.1.recv() => self.heard(session, news),
                Some(done) = self.done.1.recv() => self.finished(done),
                () = self.ground.until([self.wake, self.homeward.again].into_iter().flatten().min()) => {
                    // Either may come early: both ask again for what is still to come.
                    (self.wake, self.homeward.again) = (None, None);
                    self.feed(Event::Tick);
                }
                () = self.ground.until(self.homeward.again_at) => {
                    self.homeward.again_at = None;
                    self.send_home();
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
                self.carry_out(effect, &mut events);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Load { from, count } => {
                let (ground, name) = (self.ground.clone(), self.name.clone());
                self.beside(async move { Done::Loaded(ground.queue(name, from, count).await) });
            }
            Effect::Dial => self.dial(),
            Effect::Deliver { session, seq, attempt, .. } => {
                let carried = self.session.as_ref().filter(|open| open.id == session);
                match carried.is_some_and(|open| open.carry(Load::Message { seq, attempt })) {
                    true => drop(self.out.insert(attempt, None)),
                    false => events.extend(ended(session, seq, attempt, Outcome::Unreachable)),
                }
            }
            Effect::Withdraw { session, attempt, .. } => {
                self.out.remove(&attempt);
                events.push_back(Event::Credits { session, count: 1 });
            }
            Effect::Settle { seq, deliveries, fate } => self.settle(seq, deliveries, fate),
            Effect::Park { seq, deliveries, until } => {
                let (ground, name) = (self.ground.clone(), self.name.clone());
                tokio::spawn(async move { ground.park(name, seq, deliveries, until).await });
            }
            Effect::Wake { at } => self.wake = Some(at),
            Effect::Ask { seq } => events.push_back(Event::Asked { seq, answer: Asked::Silent }),
            Effect::Rest(_) | Effect::Kept { .. } | Effect::Receipts { .. } => {}
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
            self.beside(async move { Done::Dialed(dialer.open().await) });
        }
    }

    fn finished(&mut self, done: Done) {
        match done {
            Done::Dialed(Ok(line)) => {
                self.dialing = false;
                self.sessions += 1;
                let id = self.sessions;
                tracing::info!(partner = %self.member, "connected");
                self.session = Some(Session::start(id, self.ground.clone(), line, self.news.0.clone()));
                self.feed(Event::Opened { session: id, receipts: false });
                self.feed(Event::Credits { session: id, count: WINDOW as u32 });
                self.send_home();
            }
            Done::Dialed(Err(error)) => {
                self.dialing = false;
                tracing::warn!(partner = %self.member, %error, "no connection");
                self.feed(Event::DialFailed);
                self.send_home();
            }
            Done::Loaded(Ok((rows, end))) => self.feed(Event::Loaded { rows, end }),
            Done::Loaded(Err(error)) => {
                tracing::error!(partner = %self.member, %error, "the lane cannot be read");
                self.feed(Event::LoadFailed);
            }
            Done::Settled { seq, written: true } => {
                self.fates.remove(&seq);
                self.feed(Event::Settled { seq });
            }
            Done::Settled { seq, written: false } => self.feed(Event::SettleFailed { seq }),
            Done::Receipts(batch) => self.carry_home(batch),
            Done::Sent { written } => {
                self.homeward.out = None;
                match written {
                    true => self.send_home(),
                    false => self.send_home_later(),
                }
            }
        }
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
            News::NotNow { attempt, .. } | News::Unreadable { attempt, .. } if self.out.remove(&attempt).is_none() => {}
            News::NotNow { seq, attempt, why } => {
                tracing::warn!(partner = %self.member, seq, why, "a message is not sent now");
                self.attempted(session, seq, attempt, Outcome::Unreachable);
            }
            News::Unreadable { seq, attempt, why } => {
                tracing::error!(partner = %self.member, seq, why, "a message cannot be read");
                let failed = Fate::RelayFailed { reason: Reason::Internal.into(), status: 13, text: String::new() };
                self.fates.insert(seq, failed);
                self.attempted(session, seq, attempt, Outcome::Refused);
            }
            News::Answer(answer) => self.answered(session, answer),
            News::Ended { why } => {
                tracing::info!(partner = %self.member, why, "disconnected");
                self.session = None;
                self.out.clear();
                self.homeward.waiting |= self.homeward.out.take().is_some();
                self.feed(Event::Closed { session });
                self.send_home();
            }
        }
    }

    fn answered(&mut self, session: SessionId, answer: StreamAnswer) {
        let (id, outcome) = match answer {
            StreamAnswer::ReceiptsTaken { id, refused } => return self.arrived(session, &id, &refused),
            StreamAnswer::Refused { ref id, .. } if self.homeward.is_out(id) => return self.stuck(id),
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

    fn find(&self, id: &str) -> Option<InFlight> {
        self.out.values().flatten().find(|out| out.id.to_string() == id).cloned()
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
                Some(Fate::Relayed(checked))
            }
            Ok(checked) => {
                let event = checked.evidence.event.as_str();
                tracing::warn!(partner = %self.member, id = %in_flight.id, event, "the answer's receipt is for something else");
                None
            }
            Err(error) => {
                tracing::warn!(partner = %self.member, id = %in_flight.id, %error, "the answer's receipt does not hold");
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
                tracing::info!(partner = %self.member, id = %in_flight.id, reason = answered.reason, "refused by the partner");
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

    fn settle(&mut self, seq: Seq, attempts: u32, fate: LaneFate) {
        let fate = match fate {
            LaneFate::Taken { .. } | LaneFate::Refused { .. } => self.fates.get(&seq).cloned(),
            LaneFate::Exhausted => Some(Fate::Exhausted),
            // No deadline, cancel or failover reaches this lane yet.
            LaneFate::Expired | LaneFate::Found | LaneFate::InDoubt | LaneFate::Cancelled | LaneFate::Diverted => {
                return tracing::error!(partner = %self.member, seq, ?fate, "a fate that is not written yet");
            }
        };
        let Some(fate) = fate else {
            return tracing::error!(partner = %self.member, seq, "a fate came without its cause");
        };
        let (ground, lane) = (self.ground.clone(), self.name.clone());
        self.beside(async move {
            let written = ground.settle(Settle { lane, seq, attempts, fate }).await.is_some();
            Done::Settled { seq, written }
        });
    }
}

/// Receipts on their way home.
impl Push {
    /// Reads the next batch when there may be one and none is out; asks for a connection when there is none.
    fn send_home(&mut self) {
        let idle = self.homeward.out.is_none() && !self.homeward.reading;
        if self.homeward.waiting && idle {
            self.homeward.reading = true;
            let (ground, member) = (self.ground.clone(), self.member.clone());
            self.beside(async move { Done::Receipts(batch(&ground, member).await) });
        }
    }

    fn carry_home(&mut self, batch: Result<Batch, store::Error>) {
        self.homeward.reading = false;
        let (leaves, receipts) = match batch {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(partner = %self.member, %error, "receipts cannot be read");
                return self.look_again();
            }
        };
        self.homeward.waiting = !leaves.is_empty();
        if leaves.is_empty() {
            return;
        }
        let Some(session) = &self.session else { return self.connect_for_receipts() };
        self.homeward.batches += 1;
        let batch_id = format!("receipts-{}-{}", session.id, self.homeward.batches);
        match session.carry(Load::Receipts { batch_id: batch_id.clone(), receipts }) {
            true => self.homeward.out = Some((batch_id, leaves)),
            false => self.send_home_later(),
        }
    }

    /// After the shortest pause: what stood in the way may be gone by then, and no bell will say so.
    fn send_home_later(&mut self) {
        self.homeward.again = Some(self.ground.clock.now().plus_ms(*BACKOFF_MS.start()));
    }

    /// Receipts alone are reason enough to dial, with the lane's own pauses between failures.
    fn connect_for_receipts(&mut self) {
        let now = self.ground.clock.now();
        match self.lane.stats(now).backoff_until {
            None => self.dial(),
            Some(until) => self.homeward.again_at = Some(until),
        }
    }

    /// The batch is durable at the origin, but for those it refused: sending them again would change nothing.
    fn arrived(&mut self, session: SessionId, id: &str, refused: &[(u32, String)]) {
        if !self.homeward.is_out(id) {
            return;
        }
        // The lane knows nothing of receipts; without this a connection that carries nothing else would be a failure.
        self.feed(Event::Alive { session });
        for (position, why) in refused {
            tracing::warn!(partner = %self.member, position, why, "the origin refused a receipt");
        }
        let leaves = self.homeward.out.as_ref().map(|(_, leaves)| leaves.clone()).unwrap_or_default();
        let (ground, member) = (self.ground.clone(), self.member.clone());
        self.beside(async move {
            let sent = ground.ledger.enter(Entry::Sent { member, leaves }).await;
            let written = matches!(sent, Ok(Answer::Sent));
            if !written {
                tracing::warn!("the arrival of receipts was not written; they will be sent again");
            }
            Done::Sent { written }
        });
    }

    /// The origin could not store the batch.
    fn stuck(&mut self, id: &str) {
        tracing::warn!(partner = %self.member, id, "the origin did not take a batch of receipts");
        self.homeward.out = None;
        self.look_again();
    }

    fn look_again(&mut self) {
        self.homeward.again_at = Some(self.ground.clock.now().plus_ms(*BACKOFF_MS.start()));
    }
}

impl Homeward {
    fn is_out(&self, id: &str) -> bool {
        self.out.as_ref().is_some_and(|(out, _)| out == id)
    }
}

/// The next receipts that travel to `member`, oldest first, each with the text beside it.
async fn batch(ground: &Ground, member: Member) -> Result<Batch, store::Error> {
    let read = ground.readers.seek(move |look| {
        let leaves = look.outbox(&member, None, RECEIPT_BATCH_MAX)?;
        let receipts = leaves.iter().map(|leaf| {
            let receipt = look.receipt(*leaf)?;
            let text = look.detail(receipt.leaf_hash())?;
            Ok((receipt, text))
        });
        let receipts = receipts.collect::<Result<_, store::Error>>()?;
        Ok((leaves, receipts))
    });
    read.await
}

/// An attempt has ended, and its place is free.
fn ended(session: SessionId, seq: Seq, attempt: Attempt, outcome: Outcome) -> [Event; 2] {
    [Event::Attempted { seq, attempt, session, outcome }, Event::Credits { session, count: 1 }]
}

fn newest(bell: &mut watch::Receiver<u64>) -> u64 {
    *bell.borrow_and_update()
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
        Some(Reason::OriginReceiptInvalid | Reason::ClockAhead) => Verdict::Later,
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
