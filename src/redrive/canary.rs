//! Decides whether the first messages of a redrive prove that the others may follow: each must have been handed over. Never
//! waits longer than its patience.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::{End, Halt, Orders, Progress, Redrive, Step};
use crate::evidence::State;
use crate::id::MessageId;
use crate::reason::Reason;
use crate::store::{Head, Key};

impl Redrive {
    /// Waits until all canaries were handed over.
    pub(super) async fn prove(
        &self,
        canaries: &[MessageId],
        orders: &Orders,
        steps: &mpsc::Sender<Step>,
        progress: &mut Progress,
    ) -> Result<(), Halt> {
        progress.waits_for_canary = true;
        steps.send(Step::Progress(*progress)).await.map_err(|_| Halt::Cancelled)?;
        let until = self.ground.clock.now().plus_ms(orders.patience_ms);
        let mut open: FuturesUnordered<_> = canaries.iter().map(|id| self.end_of(*id)).collect();
        let mut left = canaries.to_vec();
        while !open.is_empty() {
            let waited = async {
                tokio::select! {
                    biased;
                    ended = open.next() => ended,
                    () = self.ground.clock.until(until) => None,
                }
            };
            match self.wait(steps, waited).await? {
                Some(Ok((id, State::Confirmed))) => left.retain(|other| *other != id),
                Some(Ok((id, _))) => return Err(Halt::End(End::CanaryDied(id))),
                Some(Err(reason)) => return Err(Halt::End(End::Stopped(reason))),
                None => {
                    let first = left.first().copied();
                    return Err(Halt::End(first.map_or(End::Stopped(Reason::Internal), End::CanarySilent)));
                }
            }
        }
        progress.waits_for_canary = false;
        Ok(())
    }

    /// How one of our own messages ends, whenever that is.
    async fn end_of(&self, id: MessageId) -> Result<(MessageId, State), Reason> {
        let head = self.head_of(id).await?;
        let bells = self.ground.ledger.bells();
        // Hung up before the look: an end meanwhile is seen by the one or the other.
        let mut bell = bells.watch(head.seq);
        let ended = loop {
            bell.mark_unchanged();
            match self.head_of(id).await {
                Ok(head) if head.standing.state.is_final() => break Ok((id, head.standing.state)),
                Ok(_) if bell.changed().await.is_ok() => {}
                Ok(_) => break Err(Reason::ShuttingDown),
                Err(reason) => break Err(reason),
            }
        };
        drop(bell);
        bells.unwatch(head.seq);
        ended
    }

    async fn head_of(&self, id: MessageId) -> Result<Head, Reason> {
        let key = Key { from_city: self.own_city().ok_or(Reason::Internal)?, id };
        let head = self.ground.readers.seek(move |look| look.head(&key)).await;
        head.map_err(|_| Reason::StoreUnavailable)?.ok_or(Reason::Internal)
    }
}
