//! Decides what one partner or one mailbox is given next, and when. Never sends, never stores, never reads a clock.
//!
//! A [`Lane`] is the queue towards one partner gateway that we dial, or towards one mailbox whose owner comes to fetch.
//! The working part beside it feeds [`Event`]s, in the order in which they came about, and carries out [`Effect`]s in the
//! order in which they are returned; those two enums are everything that can happen. The truth is in the store: a lane
//! that is thrown away and made anew over the same rows goes on where the old one stood, except that deliveries which
//! were under way are made again.
//!
//! **Order.** Of one case, one message at a time is out or unsettled; the next goes when the store has written the fate
//! of the one before it. A fate is a fate: a refused message holds nobody back. Messages without a case have no order.
//!
//! **What waits for what.** "Retry later" holds its case only. Throttling, a partner that cannot be reached, and an
//! operator's hold stop the lane: what is out stays out, and nothing new leaves, is dialled or read.
//!
//! **Deadlines.** A message whose deadline has come is not delivered any more. If every delivery of it ended with a word
//! from the other side, or none was made, it has expired. If one may have arrived unanswered, it is *in doubt*, and
//! [`AtDeadline`] says what follows: a partner that we dial is asked whether it has the message, a gateway that pulls is
//! given until the end of its lease to say so, and of our own system nothing more is expected. A delivery under way is
//! waited for. The lane looks at a deadline when it would deliver, and when [`Event::Due`] says so.
//!
//! **Cancelling** is the same question at another moment: what is not in doubt is cancelled, what is out is waited for, and
//! what is in doubt is asked about, or kept where nobody can be asked. Taken goes before cancelled.
//!
//! **Claiming.** The owner of a mailbox can take a row that waits for it outside its turn, past those of its case that were
//! sent before: whoever waits for a reply has named it. That is a fate like others, and holds the case like one.
//!
//! **Failover.** A partner that failed so often in a row that the breaker opens is left alone for longer. Until then all
//! that has another way ([`Queued::alternative`]) and is in no doubt is given away, each case from its first message on.
//! Then one message, or one dial, is let through; its answer closes the breaker or opens it again. What the next life
//! needs to know of this stands in [`Rest`].
//!
//! **Receipts** for the owner of a mailbox take a credit of a session that wants them and go before messages. Nothing that
//! holds the messages holds them.
//!
//! **Memory.** At most `loaded_max` rows are read ahead. Of a case that was told to retry later only the first message
//! stays in memory; its followers are dropped and read again when their turn comes, so that a case which waits for a day
//! costs one row, outside `loaded_max`, and does not stand in the way of the others. Two things still block a lane that
//! has more in the store: memory filled, to seven eighths, by followers of messages that are out (it goes on as those are
//! answered), and `loaded_max + parked_max` cases told to retry later (it goes on when the first of them is due).
//!
//! **Time.** `now` should not step back; if it does, what waits waits longer by that step, and nothing else happens.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::limits;
use crate::time::Time;

mod backoff;
pub mod bell;
mod lane;
mod queue;
mod scan;
mod sessions;

pub use backoff::Backoff;
pub use lane::Lane;

/// The place of a row in its lane: the index of the message's first leaf in this gateway's log. The first one may be 0.
pub type Seq = u64;
/// One receiving stream or one dialled connection; the working part never uses a number twice.
pub type SessionId = u64;
/// One delivery under way; a lane never uses a number twice, so an answer that comes too late fits nothing.
pub type Attempt = u64;
/// 办件, what is delivered in order: the key (from.city, to.city, case_no), opaque here and shared, not copied.
pub type CaseKey = Arc<str>;

/// What tells one kind of lane from another.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who opens the sessions.
    pub reach: Reach,
    /// Rows read ahead, those that wait for a retry not counted.
    pub loaded_max: usize,
    /// Rows that wait for a retry and are held beside them.
    pub parked_max: usize,
    /// Milliseconds for an answer: the attempt's timeout when we dial, the lease in a mailbox.
    pub attempt_ms: u64,
    /// Milliseconds to which a delivery can be prolonged in all.
    pub attempt_total_ms_max: u64,
    /// Milliseconds of the shortest and the longest pause of a lane whose partner does not answer. The shortest is also
    /// the pause when "later" is said without a moment to come, and when the store failed.
    pub backoff_ms: RangeInclusive<u64>,
    /// Deliveries without a final outcome after which a message ends; none when its deadline alone ends it.
    pub deliveries_max: Option<u32>,
    /// What becomes of a message that is in doubt when its deadline comes.
    pub at_deadline: AtDeadline,
    /// Failures in a row that open the breaker, and milliseconds for which it is open at least.
    pub breaker_failures: u32,
    pub breaker_ms: u64,
}

impl Policy {
    /// The lane towards a partner gateway that we dial, with the default limits.
    pub fn push() -> Policy {
        Policy {
            reach: Reach::Dial,
            loaded_max: limits::LANE_LOADED_MAX,
            parked_max: limits::LANE_PARKED_MAX,
            attempt_ms: limits::ATTEMPT_MS,
            attempt_total_ms_max: limits::UPLOAD_TOTAL_MS_MAX,
            backoff_ms: limits::BACKOFF_MS,
            deliveries_max: None,
            at_deadline: AtDeadline::Ask,
            breaker_failures: limits::BREAKER_FAILURES,
            breaker_ms: limits::BREAKER_MS,
        }
    }

    /// The lane of an own system's mailbox, with the default limits.
    pub fn mailbox() -> Policy {
        Policy {
            reach: Reach::Wait,
            attempt_ms: limits::LEASE_MS,
            attempt_total_ms_max: limits::LEASE_TOTAL_MS_MAX,
            deliveries_max: Some(limits::DELIVERIES_MAX),
            at_deadline: AtDeadline::Expire,
            ..Policy::push()
        }
    }

    /// The lane of a partner gateway's mailbox, which that gateway pulls, with the default limits.
    pub fn pull() -> Policy {
        Policy { at_deadline: AtDeadline::Wait { ms: limits::LEASE_MS }, ..Policy::mailbox() }
    }
}

/// What becomes of a message that is in doubt when its deadline comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtDeadline {
    /// It expires: whoever holds it has said nothing in time.
    Expire,
    /// The partner is asked whether it has it.
    Ask,
    /// It may still be delivered and answered for `ms` milliseconds; then it ends in doubt.
    Wait { ms: u64 },
}

/// Who opens the sessions of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// We do: no session and something to send means [`Effect::Dial`], and a lost connection is the partner's failure.
    Dial,
    /// The owner of the mailbox does: a session that goes away is nobody's failure, but its deliveries were deliveries.
    Wait,
}

/// One row of the lane as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    pub seq: Seq,
    /// None when the message has no case number: then it waits for nobody.
    pub case: Option<CaseKey>,
    /// Deliveries that ended without a final outcome, as last written by [`Effect::Park`].
    pub deliveries: u32,
    /// The moment before which the case is not tried again; [`Time::ZERO`] when it was never postponed.
    pub parked_until: Time,
    /// The moment from which the message is not delivered any more.
    pub expires_at: Time,
    /// An earlier life of the lane may have sent it and heard no answer.
    pub doubt: bool,
    /// The route has another candidate behind this lane.
    pub alternative: bool,
}

/// What a lane remembers over its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Failures in a row.
    pub failures: u32,
    /// The end of the pause that they began; [`Time::ZERO`] when there is none.
    pub until: Time,
    /// An operator stopped the lane.
    pub held: bool,
}

/// Everything that can happen to a lane.
#[derive(Clone, Debug)]
pub enum Event {
    /// Rows were committed for this lane, in one commit or in several, behind all that were there; the newest of them is in
    /// this place. Whoever is shown that row is shown all of them. Also the first event of a lane's life.
    Enqueued { seq: Seq },
    /// Rows came from another lane, in one commit or in several, none of them in a place before this one. An answer that was
    /// being read meanwhile may lack any of them.
    Moved { seq: Seq },
    /// The answer to [`Effect::Load`]: the rows asked for, ascending; `end` when the store held nothing behind them.
    Loaded { rows: Vec<Queued>, end: bool },
    /// The store could not answer [`Effect::Load`]; it is asked again after the shortest pause.
    LoadFailed,
    /// A stream or connection is there; it has no credits yet. `receipts` when it takes receipts beside messages.
    Opened { session: SessionId, receipts: bool },
    /// The session takes `count` more deliveries. A delivery spends one, and none comes back by itself: the courier grants
    /// one again for each attempt that was answered or withdrawn, a puller when it likes.
    Credits { session: SessionId, count: u32 },
    /// The session is gone, and nothing more comes from it.
    Closed { session: SessionId },
    /// Something else than a delivery came through on the session: the partner is there, and a pause that its silence
    /// began is over.
    Alive { session: SessionId },
    /// [`Effect::Dial`] came to nothing.
    DialFailed,
    /// What became of a delivery.
    Attempted { seq: Seq, attempt: Attempt, session: SessionId, outcome: Outcome },
    /// The session asks for `ms` milliseconds from now for a delivery it holds.
    Extended { seq: Seq, attempt: Attempt, session: SessionId, ms: u64 },
    /// The deadline of a row has come, which may or may not be in memory; `doubt` as the row has it in the store. A lane
    /// that has no room for it, or that gives it more time, does nothing: it is said again until the row is gone.
    Due { seq: Seq, expires_at: Time, doubt: bool },
    /// A row shall not be delivered any more; `doubt` as the row has it in the store. What follows is `Settle`, `Ask` or
    /// `Kept`, at once or when the delivery that is under way has ended.
    Cancel { seq: Seq, doubt: bool },
    /// The owner of the mailbox takes this very row now, outside its turn and without a session, before it leaves: a reply
    /// for which somebody waits. What follows is `Settle` with [`Fate::Claimed`] when the row waits, `Kept` when it is out,
    /// past its deadline or held by an operator, and nothing new when its fate is being written.
    Claim { seq: Seq, expires_at: Time },
    /// The answer to [`Effect::Ask`]; it always comes.
    Asked { seq: Seq, answer: Answer },
    /// A batch of receipts waits for the owner of this mailbox.
    Receipts,
    /// A fate is written and the row is gone: by [`Effect::Settle`], or by another hand.
    Settled { seq: Seq },
    /// [`Effect::Settle`] was not written; it is returned again after the shortest pause.
    SettleFailed { seq: Seq },
    /// The moment of [`Effect::Wake`] has come.
    Tick,
    /// An operator stops the lane.
    Held,
    /// An operator lets the lane go on, at once: this ends a pause and a backoff too.
    Resumed,
}

/// What became of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other side has custody.
    Taken,
    /// The other side refuses it for good.
    Refused,
    /// Not this case now: it waits until `at`, for a day at most. Counts as a delivery.
    RetryLater { at: Time },
    /// Not this case now, for reasons on this side: it waits until `at`, for a day at most. Does not count.
    NotNow { at: Time },
    /// Nothing now: the lane waits until `at`, no longer than its longest backoff. Does not count.
    Throttled { at: Time },
    /// It was never sent. Does not count towards a partner.
    Unreachable,
    /// It was sent, and no answer came: in doubt. Counts as a delivery.
    NoAnswer,
}

/// What the other side says of a message that is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took or refused it, and its evidence says so.
    Has,
    /// It has never seen it, and will not take it any more.
    HasNot,
    /// It cannot be reached, or does not say.
    Silent,
}

/// Everything that a lane can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the first `count` rows with `seq ≥ from`. One read is asked for at a time; the answer is `Loaded` or
    /// `LoadFailed`.
    Load { from: Seq, count: usize },
    /// Open a connection; the answer is `Opened` or `DialFailed`. One is asked for at a time.
    Dial,
    /// Give this message to this session. `count` is which delivery of the message it is, from 1, as far as it is known.
    Deliver { session: SessionId, seq: Seq, attempt: Attempt, count: u32, until: Time },
    /// The time of a delivery is up, or its message has ended elsewhere: the session owns it no longer.
    Withdraw { session: SessionId, seq: Seq, attempt: Attempt },
    /// Write how the message ended after `deliveries` deliveries, as far as they are known, and take its row away; the
    /// answer is `Settled`, also when the row was gone already, or `SettleFailed`. What came with the outcome (a receipt, a
    /// signature) is kept beside the attempt until then.
    Settle { seq: Seq, deliveries: u32, fate: Fate },
    /// Write both into the row, for the next life of the lane. Needs no answer; a crash before it forgets one delivery or
    /// tries once too early. An `until` that is not to come only counts.
    Park { seq: Seq, deliveries: u32, until: Time },
    /// Ask the other side whether it has this message; the answer is `Asked`. As many may be asked for at once as there are
    /// rows in memory.
    Ask { seq: Seq },
    /// The row was to be cancelled and is not: it is in doubt and nobody can be asked, or there is no room to see to it. Or
    /// it was to be claimed, and is not there for it.
    Kept { seq: Seq },
    /// Give the waiting batch of receipts to this session, which has paid a credit for it. The next one is given after the
    /// next [`Event::Receipts`].
    Receipts { session: SessionId },
    /// Write this for the next life of the lane. Needs no answer; the last one stands.
    Rest(Rest),
    /// Send `Tick` at this moment; replaces the moment asked for before.
    Wake { at: Time },
}

/// How a message ends in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The other side took it in this attempt.
    Taken { attempt: Attempt },
    /// The other side refused it in this attempt.
    Refused { attempt: Attempt },
    /// It was delivered as often as it may be, and nobody took or refused it.
    Exhausted,
    /// Its deadline came, and the other side does not have it or was not asked for it.
    Expired,
    /// The other side has it: it said so when it was asked.
    Found,
    /// Its deadline came, and whether the other side has it cannot be known.
    InDoubt,
    /// It was called back before the other side had it.
    Cancelled,
    /// The owner of the mailbox took it outside its turn.
    Claimed,
    /// It goes to the next candidate of its route, and with it, in one commit, all later rows of its case in this lane that
    /// are in no doubt. `Settled` is sent for each of them.
    Diverted,
}

/// Whether a lane lets messages through to a partner that has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    #[default]
    Closed,
    /// Nothing goes, and what has another way takes it.
    Open,
    /// The pause is over: one message goes, and its answer decides.
    HalfOpen,
}

/// How a lane stands, for ops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows in memory.
    pub loaded: usize,
    /// … that could be delivered now.
    pub ready: usize,
    /// … that are out.
    pub in_flight: usize,
    /// … whose fate is being written.
    pub settling: usize,
    /// … that the other side is being asked about.
    pub asking: usize,
    /// … that wait for a retry, each for its case.
    pub parked: usize,
    /// Sessions that are open.
    pub sessions: usize,
    /// Deliveries that they would take.
    pub credits: u64,
    /// Failures in a row.
    pub failures: u32,
    pub breaker: Breaker,
    /// The partner did not answer: not before this moment.
    pub backoff_until: Option<Time>,
    /// The partner throttled us: not before this moment.
    pub throttled_until: Option<Time>,
    /// An operator stopped the lane.
    pub held: bool,
    /// Outcomes, extensions and answers that fitted nothing and changed nothing.
    pub ignored: u64,
}
