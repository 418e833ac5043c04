//! Decides when the whole log is walked over anew: a while after a start, then a day after the last walk has ended; in pieces,
//! so that nobody waits for it. Never mends: what is found is on record for the checks, and turns health.

use std::path::Path;

use crate::courier::Ground;
use crate::limits::{DAY_MS, SCRUB_AFTER_START_MS, SCRUB_LEAVES, SCRUB_PAUSE_MS};
use crate::store::{self, Scrubbed};

/// Walks for ever; how each walk ended stands in `data`.
pub(super) async fn keep(ground: &Ground, data: &Path) {
    let mut due = ground.clock.now().plus_ms(SCRUB_AFTER_START_MS);
    loop {
        ground.clock.until(due).await;
        match walk(ground).await {
            Ok((leaves, damage)) => record(ground, data, leaves, damage),
            Err(error) => tracing::warn!(%error, "the log could not be walked over"),
        }
        due = ground.clock.now().plus_ms(DAY_MS);
    }
}

/// One walk: how many leaves, and what is damaged.
async fn walk(ground: &Ground) -> Result<(u64, Option<String>), store::Error> {
    let mut scrub = ground.readers.seek(|look| look.scrub()).await?;
    let leaves = scrub.size();
    loop {
        let step = move |look: &store::Snapshot<'_>| {
            let more = look.scrub_on(&mut scrub, SCRUB_LEAVES)?;
            Ok((more, scrub))
        };
        match ground.readers.seek(step).await {
            Ok((false, _)) => return Ok((leaves, None)),
            Ok((true, next)) => scrub = next,
            Err(store::Error::Damaged(what)) => return Ok((leaves, Some(what))),
            Err(error) => return Err(error),
        }
        ground.clock.until(ground.clock.now().plus_ms(SCRUB_PAUSE_MS)).await;
    }
}

fn record(ground: &Ground, data: &Path, leaves: u64, damage: Option<String>) {
    match &damage {
        Some(what) => tracing::error!(leaves, what, "the log is not what was signed"),
        None => tracing::info!(leaves, "the whole log is what was signed"),
    }
    if let Err(error) = Scrubbed::new(ground.clock.now(), leaves, damage).write(data) {
        tracing::warn!(%error, "how the walk over the log ended could not be written");
    }
}
