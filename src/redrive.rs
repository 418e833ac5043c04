//! Decides what becomes of dead letters: submitted anew as new messages, at a pace and canaries first, or set aside. Never
//! takes a letter off the pile itself: the ledger does, in the commit that accepts its replacement.

mod anew;
mod canary;
mod pace;
mod plan;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::courier::Ground;
use crate::id::MessageId;
use crate::intake::Intake;
use crate::ledger::Entry;
use crate::party::Party;
use crate::reason::Reason;
use crate::store::{DeadFilter, Key, Seq};
use crate::wire::status::Refused;

use self::pace::Pace;
pub use self::plan::{Kind, Obstacle, Plan};

/// Those who deal with dead letters, one at a time.
#[derive(Clone)]
pub struct Redrive {
    intake: Arc<Intake>,
    ground: Ground,
    turn: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Which dead letters are meant.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Those that wait and fit.
    Fitting(DeadFilter),
    Named(Vec<Key>),
}

/// How a redrive is to go.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Messages per second.
    pub rate: u32,
    /// So many first; the others when all of these were handed over.
    pub canary: usize,
    /// Milliseconds for which the canaries are waited for.
    pub patience_ms: u64,
    /// Milliseconds from now to expiry; what the sender gave the first message when none.
    pub time_to_live_ms: Option<u64>,
    /// Who asks.
    pub actor: Party,
}

/// How far a redrive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// New messages that were accepted.
    pub redriven: u64,
    /// Letters that were refused anew.
    pub refused: u64,
    /// Letters that no longer waited when their turn came.
    pub skipped: u64,
    /// Letters that can be redriven, by the plan.
    pub count: u64,
    pub waits_for_canary: bool,
}

/// A step of a redrive.
#[derive(Debug)]
pub enum Step {
    Plan(Plan),
    Progress(Progress),
    Refusal(Key, Refused),
    End(End, Progress),
}

/// How a redrive ended.
#[derive(Debug)]
pub enum End {
    /// All were tried.
    Done,
    /// This canary ended without handover.
    CanaryDied(MessageId),
    /// This canary did not end in time.
    CanarySilent(MessageId),
    /// The gateway cannot go on.
    Stopped(Reason),
}

/// The right to deal with dead letters; nobody else does while it lives.
pub struct Turn(#[allow(dead_code, reason = "it is held, not used")] OwnedSemaphorePermit);

/// What became of one letter.
enum Fared {
    Accepted(MessageId),
    Refused(Key, Refused),
    Skipped,
}

/// Why the rest is not tried.
enum Halt {
    /// Nobody listens any more.
    Cancelled,
    End(End),
}

impl Redrive {
    pub fn new(intake: Arc<Intake>, ground: Ground, stop: CancellationToken) -> Redrive {
        Redrive { intake, ground, turn: Arc::new(Semaphore::new(1)), stop }
    }

    /// Takes the turn.
    ///
    /// # Errors
    /// `BUSY` while somebody else has it.
    pub fn turn(&self) -> Result<Turn, Refused> {
        let turn = self.turn.clone().try_acquire_owned().map(Turn);
        turn.map_err(|_| Refused::new(Reason::Busy).with_detail("another redrive is under way"))
    }

    /// Submits the letters of a plan anew, in order, and tells each step. It ends early when nobody listens any more: what
    /// was not submitted stays as it was.
    pub async fn run(self, plan: Plan, orders: Orders, steps: mpsc::Sender<Step>, turn: Turn) {
        let mut progress = Progress { count: plan.letters.len() as u64, ..Progress::default() };
        let act = Entry::Act { act: "dead.redrive", actor: orders.actor.to_string(), object: plan.to_string() };
        let letters = plan.letters.clone();
        if steps.send(Step::Plan(plan)).await.is_err() {
            return;
        }
        let ended = match self.ground.ledger.enter(act).await {
            Err(trouble) => Err(Halt::End(End::Stopped(Refused::from(trouble).reason))),
            Ok(_) => self.all(&letters, &orders, &steps, &mut progress).await,
        };
        drop(turn);
        let end = match ended {
            Ok(()) => End::Done,
            Err(Halt::End(end)) => end,
            Err(Halt::Cancelled) => {
                let left = progress.count - progress.redriven - progress.refused - progress.skipped;
                return tracing::info!(actor = %orders.actor, redriven = progress.redriven, left, "a redrive was cancelled");
            }
        };
        tracing::info!(actor = %orders.actor, redriven = progress.redriven, refused = progress.refused, ?end, "a redrive ended");
        drop(steps.send(Step::End(end, progress)).await);
    }

    async fn all(
        &self,
        letters: &[Seq],
        orders: &Orders,
        steps: &mpsc::Sender<Step>,
        progress: &mut Progress,
    ) -> Result<(), Halt> {
        let clock = &self.ground.clock;
        let (mut pace, mut canaries) = (Pace::new(orders.rate), Vec::new());
        let mut proving = orders.canary > 0;
        for seq in letters {
            self.wait(steps, clock.until(pace.next(clock.now()))).await?;
            match self.insist(*seq, orders, steps).await? {
                Fared::Accepted(id) => {
                    progress.redriven += 1;
                    canaries.extend(Some(id).filter(|_| proving));
                }
                Fared::Skipped => progress.skipped += 1,
                Fared::Refused(key, refused) => {
                    progress.refused += 1;
                    // It is told whatever the pace of whoever listens.
                    steps.send(Step::Refusal(key, refused)).await.map_err(|_| Halt::Cancelled)?;
                }
            }
            // Whoever reads slowly misses a count, and gets the next.
            let _ = steps.try_send(Step::Progress(*progress));
            if proving && canaries.len() >= orders.canary {
                proving = false;
                self.prove(&canaries, orders, steps, progress).await?;
            }
        }
        match proving {
            true => self.prove(&canaries, orders, steps, progress).await,
            false => Ok(()),
        }
    }

    /// Waits, unless the caller goes away or the gateway stops.
    async fn wait<T>(&self, steps: &mpsc::Sender<Step>, what: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = steps.closed() => Err(Halt::Cancelled),
            () = self.stop.cancelled() => Err(Halt::End(End::Stopped(Reason::ShuttingDown))),
            done = what => Ok(done),
        }
    }
}
