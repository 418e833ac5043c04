//! Decides which receipts travel next to a lane's owner: one batch at a time, oldest first, each until it has arrived.
//! Never sends one.

use super::ground::Ground;
use crate::ledger::{Answer, Entry};
use crate::limits::{BACKOFF_MS, RECEIPT_BATCH_MAX};
use crate::receipt::Receipt;
use crate::store::{self, LaneName};
use crate::time::Time;

/// Receipts on their way to the owner of one lane.
#[derive(Debug)]
pub struct Homeward {
    lane: LaneName,
    stage: Stage,
    /// There may be receipts that have not been read.
    more: bool,
    batches: u64,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Reading,
    /// Read, and nobody to carry it yet.
    Ready(Batch),
    /// On its way, under this name.
    Out {
        name: String,
        leaves: Vec<u64>,
    },
    /// Arrived; that is being written.
    Closing,
    /// Not before this moment: something stood in the way, and no bell will say when it is gone.
    Paused {
        until: Time,
    },
}

/// Receipts, with the free text beside each.
pub type Told = Vec<(Receipt, Option<String>)>;

/// A batch: the places of the leaves, and the receipts with the text beside each.
#[derive(Debug)]
pub struct Batch {
    pub leaves: Vec<u64>,
    pub receipts: Told,
}

impl Homeward {
    pub fn new(lane: LaneName) -> Homeward {
        Homeward { lane, stage: Stage::Idle, more: true, batches: 0 }
    }

    /// The bell rang: there are new receipts.
    pub fn rung(&mut self) {
        self.more = true;
    }

    /// Whether a batch should be read now; it counts as being read from here on.
    pub fn begin_reading(&mut self, now: Time) -> bool {
        let free = match self.stage {
            Stage::Idle => true,
            Stage::Paused { until } => until <= now,
            _ => false,
        };
        let reads = free && self.more;
        if reads {
            // What the bell says from here on is news: what is being read may not show it.
            (self.stage, self.more) = (Stage::Reading, false);
        }
        reads
    }

    /// What was read; whether there is a batch to carry. When there is none, the bell may have rung meanwhile: look again
    /// whether to read.
    pub fn read(&mut self, batch: Result<Batch, store::Error>, now: Time) -> bool {
        match batch {
            Ok(batch) if batch.leaves.is_empty() => {
                self.stage = Stage::Idle;
                false
            }
            Ok(batch) => {
                (self.stage, self.more) = (Stage::Ready(batch), true);
                true
            }
            Err(error) => {
                tracing::error!(lane = %self.lane, %error, "receipts cannot be read");
                self.pause(now);
                false
            }
        }
    }

    /// Whether a batch waits for somebody to carry it.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Takes the batch that waits, under a name of its own.
    pub fn send(&mut self) -> Option<(String, Told)> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Ready(batch) => {
                self.batches += 1;
                let name = format!("receipts-{}", self.batches);
                self.stage = Stage::Out { name: name.clone(), leaves: batch.leaves };
                Some((name, batch.receipts))
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Whether this is the batch on its way.
    pub fn is_out(&self, name: &str) -> bool {
        matches!(&self.stage, Stage::Out { name: out, .. } if out == name)
    }

    /// The batch on its way has arrived: the leaves whose arrival is to be written.
    pub fn arrived(&mut self, name: &str) -> Option<Vec<u64>> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Out { name: out, leaves } if out == name => {
                self.stage = Stage::Closing;
                Some(leaves)
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// The arrival was written, or could not be.
    pub fn closed(&mut self, written: bool, now: Time) {
        match written {
            true => self.stage = Stage::Idle,
            false => self.pause(now),
        }
    }

    /// What was on its way is lost: its connection is gone.
    pub fn lost(&mut self) {
        if let Stage::Out { .. } = self.stage {
            (self.stage, self.more) = (Stage::Idle, true);
        }
    }

    /// What was on its way was not taken now: it is read again after the shortest pause.
    pub fn not_taken(&mut self, now: Time) {
        self.pause(now);
    }

    /// The moment of the next try after something stood in the way.
    pub fn paused_until(&self) -> Option<Time> {
        match self.stage {
            Stage::Paused { until } => Some(until),
            _ => None,
        }
    }

    fn pause(&mut self, now: Time) {
        (self.stage, self.more) = (Stage::Paused { until: now.plus_ms(*BACKOFF_MS.start()) }, true);
    }
}

/// Reads the next receipts that travel to a lane's owner.
pub async fn batch(ground: &Ground, lane: LaneName) -> Result<Batch, store::Error> {
    let read = ground.readers.seek(move |look| {
        let rows = look.outbox(&lane, None, RECEIPT_BATCH_MAX)?;
        let receipt = |(leaf, received): &(u64, Option<_>)| {
            let receipt = match received {
                Some(leaf_hash) => look.received(*leaf_hash)?,
                None => look.receipt(*leaf)?,
            };
            let text = look.detail(receipt.leaf_hash())?;
            Ok((receipt, text))
        };
        let receipts = rows.iter().map(receipt).collect::<Result<_, store::Error>>()?;
        Ok(Batch { leaves: rows.into_iter().map(|(leaf, _)| leaf).collect(), receipts })
    });
    read.await
}

/// Writes that receipts have arrived; whether that was written.
pub async fn write_arrival(ground: &Ground, lane: LaneName, leaves: Vec<u64>) -> bool {
    let written = matches!(ground.ledger.enter(Entry::Sent { lane, leaves }).await, Ok(Answer::Done));
    if !written {
        tracing::warn!("the arrival of receipts was not written; they will be sent again");
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(homeward: &mut Homeward, leaves: &[u64]) -> bool {
        homeward.read(Ok(Batch { leaves: leaves.to_vec(), receipts: vec![] }), Time::ZERO)
    }

    #[test]
    fn a_bell_that_rings_while_the_store_is_read_is_not_lost() {
        let mut homeward = Homeward::new(LaneName::System("window".parse().unwrap()));
        assert!(homeward.begin_reading(Time::ZERO));
        homeward.rung();
        assert!(!read(&mut homeward, &[]), "what was read is older than what was announced");
        assert!(homeward.begin_reading(Time::ZERO), "it is read again");
        assert!(read(&mut homeward, &[7]));
        let (name, _) = homeward.send().unwrap();
        assert_eq!(homeward.arrived(&name), Some(vec![7]));
        homeward.closed(true, Time::ZERO);
        assert!(homeward.begin_reading(Time::ZERO), "there may be more than one batch");
        assert!(!read(&mut homeward, &[]) && !homeward.begin_reading(Time::ZERO), "and then it rests");
    }
}
