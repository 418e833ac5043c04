//! Decides what every courier and keeper stands on: the store's readers, the ledger, the clock and the checker of
//! receipts. Holds no state of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::desk::Desk;
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::intake::Rules;
use crate::lanes::{Queued, Seq};
use crate::ledger::{Answer, Entry, Ledger, Settle};
use crate::party::Member;
use crate::receipt::{Checked, Checker, Receipt, ReceiptError};
use crate::store::{self, LaneName, Readers, Retention, Snapshot, Stored};
use crate::time::Time;
use crate::wire::envelope::kept;

/// What a fate came to.
#[derive(Debug)]
pub enum Settlement {
    /// The leaf that was written, if one was.
    Ended(Option<Receipt>),
    /// These messages wait in another lane now.
    Moved(Vec<Seq>),
}

/// The ground under the couriers.
#[derive(Clone, Debug)]
pub struct Ground {
    pub own: Member,
    pub readers: Arc<Readers>,
    pub ledger: Ledger,
    pub clock: Clock,
    pub checker: Arc<Mutex<Checker>>,
    pub desk: Desk,
    pub blobs: Blobs,
    pub rules: Arc<ArcSwap<Rules>>,
    /// How long each kind of thing is kept.
    pub retention: Retention,
}

impl Ground {
    /// Checks a receipt of another log.
    pub fn check(&self, receipt: Receipt) -> Result<Checked, ReceiptError> {
        self.checker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).check(receipt)
    }

    /// Reads the rows of a lane from `from` on, and whether the store holds none behind them. Those before `doubt_below`
    /// may have been sent before.
    pub async fn queue(
        &self,
        lane: LaneName,
        from: Seq,
        count: usize,
        doubt_below: Seq,
    ) -> Result<(Vec<Queued>, bool), store::Error> {
        let rows = self.readers.seek(move |look| look.queue(&lane, from, count)).await?;
        let end = rows.len() < count;
        let row = |row: store::QueueRow| Queued {
            seq: row.seq,
            case: row.order_key.map(Into::into),
            deliveries: row.deliveries,
            parked_until: row.parked_until,
            expires_at: row.expires_at,
            doubt: row.seq < doubt_below,
            alternative: row.alternative,
        };
        Ok((rows.into_iter().map(row).collect(), end))
    }

    /// Reads a message and the receipt of its origin. Whatever leaves this gateway comes from here: bytes that changed on
    /// the disk go no further.
    pub async fn message(&self, seq: Seq) -> Result<(Stored, Receipt), store::Error> {
        self.readers.seek(move |look| read(look, seq)).await
    }

    /// The same for several in one look, by their places: as many as `bytes_max` bytes of bodies allow, and at least one.
    /// Those that cannot be read are left out, to be told on their own.
    pub async fn messages(
        &self,
        seqs: Vec<Seq>,
        bytes_max: usize,
    ) -> Result<HashMap<Seq, (Stored, Receipt)>, store::Error> {
        let look = move |look: &Snapshot<'_>| {
            let (mut found, mut bytes) = (HashMap::new(), 0);
            for seq in seqs {
                let Ok(message) = read(look, seq) else { continue };
                bytes += message.0.body.as_ref().map_or(0, Vec::len);
                found.insert(seq, message);
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(found)
        };
        self.readers.seek(look).await
    }

    /// Settles a lane's message; none when that was not written.
    pub async fn settle(&self, settle: Box<Settle>) -> Option<Settlement> {
        match self.ledger.enter(Entry::Settle(settle)).await {
            Ok(Answer::Settled(receipt)) => Some(Settlement::Ended(receipt)),
            Ok(Answer::Moved(messages)) => Some(Settlement::Moved(messages)),
            _ => None,
        }
    }

    /// Writes that a lane's message waits.
    pub async fn park(&self, lane: LaneName, seq: Seq, deliveries: u32, until: Time) {
        if let Err(error) = self.ledger.enter(Entry::Park { lane, seq, deliveries, until }).await {
            tracing::warn!(%error, seq, "a postponement was not written; it is tried sooner after a restart");
        }
    }

    /// Waits until `at`; for ever when there is nothing to wait for.
    pub async fn until(&self, at: Option<Time>) {
        match at {
            Some(at) => self.clock.until(at).await,
            None => std::future::pending().await,
        }
    }
}

fn read(look: &Snapshot<'_>, seq: Seq) -> Result<(Stored, Receipt), store::Error> {
    let missing = || store::Error::Damaged(format!("message {seq} is missing"));
    let mut stored = look.message(seq)?.ok_or_else(missing)?;
    if let Some(body) = &stored.body {
        let whole = kept(&stored.header, body.clone(), stored.header_digest);
        whole.map_err(|error| store::Error::Damaged(format!("message {seq}: {error}")))?;
    }
    let origin = match stored.origin_receipt.take() {
        Some(receipt) => receipt,
        None => look.receipt(stored.first_leaf)?,
    };
    Ok((stored, origin))
}
