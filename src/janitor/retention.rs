//! Decides what has been kept long enough: bodies, envelopes, evidence and audit, each by its own age, and blobs that no
//! message names any more. Never takes what waits, and never a leaf's hash: the tree keeps verifying.

use crate::blobs::aside;
use crate::courier::Ground;
use crate::ledger::Entry;
use crate::limits::{BLOB_GRACE_MS, FORGET_AT_ONCE_MAX, SWEEP_EVERY_MS};
use crate::store;
use crate::time::Time;

/// Sweeps now and then, for ever.
pub async fn keep(ground: &Ground) {
    loop {
        let now = ground.clock.now();
        if let Err(error) = sweep(ground, now).await {
            tracing::error!(%error, "retention could not sweep");
        }
        ground.clock.until(now.plus_ms(SWEEP_EVERY_MS)).await;
    }
}

/// Takes everything that is old enough, a bounded piece at a time.
async fn sweep(ground: &Ground, now: Time) -> Result<(), store::Error> {
    let retention = ground.retention;
    loop {
        let forgotten = ground.readers.seek(move |look| look.forgettable(now, &retention, FORGET_AT_ONCE_MAX)).await?;
        if forgotten.is_empty() {
            break;
        }
        tracing::info!(
            bodies = forgotten.bodies.len(),
            envelopes = forgotten.envelopes.len(),
            evidence = forgotten.evidence.len(),
            audit = forgotten.leaves.len(),
            "kept long enough"
        );
        if ground.ledger.enter(Entry::Forget(Box::new(forgotten))).await.is_err() {
            break;
        }
    }
    let (blobs, readers) = (ground.blobs.clone(), ground.readers.clone());
    let swept = aside(move || {
        let referenced = |digest: &_| readers.look(|look| look.is_attached(digest));
        (blobs.sweep(now, BLOB_GRACE_MS, referenced), blobs.sweep_staging(now))
    })
    .await;
    if let (Err(error), _) = swept {
        tracing::error!(%error, "the attachments could not be swept");
    } else if let (_, Err(error)) = swept {
        tracing::error!(%error, "the uploads could not be swept");
    }
    Ok(())
}
