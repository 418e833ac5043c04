//! Decides when what was asked becomes true: drains what is ready, commits it once, then answers all of it, and drains
//! again. The only writer of the store. Never answers before the commit, and never waits to make a batch larger.

mod batch;
mod bells;
mod core;
mod counts;

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::Deed;
use crate::clock::Clock;
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_ENTRIES_MAX, LEDGER_QUEUE_MAX, MARK_EVERY_MS};
use crate::message::Attached;
use crate::receipt::Receipt;
use crate::store::{Forgotten, LaneName, LaneState, NewCosignature, Seq};
use crate::succession::Closed;
use crate::time::Time;

pub use batch::{
    Fate, Incoming, Issuer, Notice, Pause, Refusal, Route, RouteChange, Settle, Signed, Take, Witness, WitnessRefusal,
};
pub use bells::{Bells, Rung};
pub use core::{Core, Prepared, StartError};
pub use counts::{Counts, OTHER};

/// Why the ledger gave no answer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// As many entries wait as may: send the same again later.
    #[error("the ledger has as much work as it can hold")]
    Busy,
    /// The disk is full; nothing was changed.
    #[error("the disk is full")]
    Full,
    /// The ledger has stopped; what it was asked may have been stored.
    #[error("the ledger has stopped")]
    Stopped,
}

/// One thing to be made true.
#[derive(Debug)]
pub enum Entry {
    /// A message is to be taken into custody.
    Take(Box<Take>),
    /// A lane's message has its fate.
    Settle(Box<Settle>),
    /// A lane's message waits.
    Park { lane: LaneName, seq: Seq, deliveries: u32, until: Time },
    /// Receipts of another log have come.
    Witness(Box<Witness>),
    /// Receipts have arrived at a lane's owner, by the place of their leaves.
    Sent { lane: LaneName, leaves: Vec<u64> },
    /// A lane rests, goes on, or has a session.
    Lane { lane: LaneName, state: LaneState },
    /// Somebody pauses a lane, or lets it go on.
    Hold(Box<Pause>),
    /// A message still waits: its sender is told.
    Notice(Notice),
    /// Routing tables change.
    Routes(Box<RouteChange>),
    /// Attachments of a message were sealed: the place and the sealed form of each.
    Seal { message: Seq, forms: Vec<(usize, Attached)> },
    /// Dead letters are set aside.
    Discard { messages: Vec<Seq>, why: String, actor: String },
    /// A person did something that changes nothing here by itself: it goes on record.
    Act { act: &'static str, actor: String, object: String },
    /// The same with more to say: why, or why it was refused.
    Deed(Box<Deed>),
    /// Retention takes what is old.
    Forget(Box<Forgotten>),
    /// Witnesses are to see how far the log had come before this commit.
    Publish,
    /// A witness has signed a published checkpoint.
    Cosign(Box<NewCosignature>),
    /// This log goes on where another was left: its first leaf closes that one.
    Succeed(Box<Closed>),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Take(take) => take.header.len() + take.body.len(),
            _ => 0,
        }
    }
}

/// What an entry is answered with, once it is true and on disk.
#[derive(Debug)]
pub enum Answer {
    /// The receipt, or why not; a refusal by rule has a receipt too.
    Taken(Result<Receipt, Box<Refusal>>),
    /// The leaf that was written, if one was; none when there was nothing to say, or it was said before.
    Settled(Option<Receipt>),
    /// These messages wait in another lane now; of a case the last first, the order in which their lane is to forget them.
    Moved(Vec<Seq>),
    /// One answer per receipt, in order.
    Witnessed(Vec<Result<(), WitnessRefusal>>),
    /// The new version of the routing tables; or the current one, where another was expected.
    Routes(Result<u64, u64>),
    /// How many dead letters were set aside.
    Discarded(u64),
    /// Whether the lane was not paused, or not going, before.
    Held(bool),
    Done,
}

struct Job {
    entry: Entry,
    reply: oneshot::Sender<Result<Answer, Trouble>>,
}

/// The way to the ledger, shared by all who work.
#[derive(Clone, Debug)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    bells: Bells,
    stopped: watch::Receiver<Option<String>>,
    counts: Counts,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.entry.fmt(f)
    }
}

impl Ledger {
    /// Starts the ledger on a thread of its own. The thread ends when every [`Ledger`] is gone, or when the store fails.
    pub fn start(core: Core, clock: Clock) -> std::io::Result<Ledger> {
        let (jobs, queue) = mpsc::channel(LEDGER_QUEUE_MAX);
        let (stop, stopped) = watch::channel(None);
        let bells = Bells::default();
        let ledger = Ledger { jobs, bells: bells.clone(), stopped, counts: core.counts().clone() };
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            if let Err(error) = run(core, clock, queue, &bells, &runtime) {
                tracing::error!(%error, "the ledger stops: the store failed");
                stop.send_replace(Some(error.to_string()));
            }
        };
        std::thread::Builder::new().name("ledger".to_owned()).spawn(work)?;
        Ok(ledger)
    }

    /// Makes `entry` true, or tells that there is no room for it now.
    pub async fn try_enter(&self, entry: Entry) -> Result<Answer, Trouble> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { entry, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Trouble::Busy,
            mpsc::error::TrySendError::Closed(_) => Trouble::Stopped,
        })?;
        answer.await.unwrap_or(Err(Trouble::Stopped))
    }

    /// Makes `entry` true, waiting for room.
    pub async fn enter(&self, entry: Entry) -> Result<Answer, Trouble> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { entry, reply }).await.map_err(|_| Trouble::Stopped)?;
        answer.await.unwrap_or(Err(Trouble::Stopped))
    }

    /// Hands an entry over in its order, without waiting for it to be true; it is lost when there is no room.
    pub fn post(&self, entry: Entry) {
        let (reply, _) = oneshot::channel();
        if self.jobs.try_send(Job { entry, reply }).is_err() {
            tracing::warn!("the ledger has no room for a note");
        }
    }

    /// Where new work is announced.
    pub fn bells(&self) -> &Bells {
        &self.bells
    }

    /// What is counted of the ledger's work.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits for the ledger's last commit and mark, which come when every [`Ledger`] is gone, or when the store fails.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut stopped = self.stopped.clone();
        async move { while stopped.changed().await.is_ok() {} }
    }

    /// Waits until the store has failed, and says how.
    pub async fn failed(&self) -> String {
        let mut stopped = self.stopped.clone();
        let cause = stopped.wait_for(Option::is_some).await.map(|cause| cause.clone().unwrap_or_default());
        match cause {
            Ok(cause) => cause,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Drains, commits, answers. The high-water mark follows within a second, and at the end.
fn run(
    mut core: Core,
    clock: Clock,
    mut queue: mpsc::Receiver<Job>,
    bells: &Bells,
    runtime: &tokio::runtime::Handle,
) -> Result<(), crate::store::Error> {
    loop {
        let first = if core.mark_is_behind() {
            match runtime
                .block_on(async { tokio::time::timeout(Duration::from_millis(MARK_EVERY_MS), queue.recv()).await })
            {
                Ok(job) => job,
                Err(_) => {
                    core.write_mark(clock.now());
                    continue;
                }
            }
        } else {
            queue.blocking_recv()
        };
        let Some(first) = first else { break };
        let (entries, replies) = drain(first, &mut queue);
        let (now, begun, count) = (clock.now(), Instant::now(), entries.len());
        match core.apply(now, entries) {
            Ok((answers, rung)) => {
                core.counts().committed(count, begun.elapsed().as_secs_f64());
                // First: whoever has an answer can rely on it that the others have been told.
                bells.ring(rung);
                replies.into_iter().zip(answers).for_each(|(reply, answer)| drop(reply.send(Ok(answer))));
            }
            Err(crate::store::Error::Full) => {
                replies.into_iter().for_each(|reply| drop(reply.send(Err(Trouble::Full))));
            }
            Err(error) => {
                replies.into_iter().for_each(|reply| drop(reply.send(Err(Trouble::Stopped))));
                return Err(error);
            }
        }
        core.write_mark_if_due(now);
    }
    core.write_mark(clock.now());
    Ok(())
}

/// What is ready now, bounded in entries and bytes.
fn drain(first: Job, queue: &mut mpsc::Receiver<Job>) -> (Vec<Entry>, Vec<oneshot::Sender<Result<Answer, Trouble>>>) {
    let mut bytes = first.entry.bytes();
    let (mut entries, mut replies) = (vec![first.entry], vec![first.reply]);
    while entries.len() < COMMIT_ENTRIES_MAX && bytes < COMMIT_BYTES_MAX {
        let Ok(job) = queue.try_recv() else { break };
        bytes += job.entry.bytes();
        entries.push(job.entry);
        replies.push(job.reply);
    }
    (entries, replies)
}
