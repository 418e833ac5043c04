//! Decides how often the disk is read for a monitor: once within a while, by one at a time, however many ask. Never holds
//! up those who serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Sources;
use crate::limits::LOOK_EVERY_MS;
use crate::store::{self, LaneLook, LaneName, Sightings, Witnessed};
use crate::time::Time;

/// What was seen on the disk.
#[derive(Clone, Default)]
pub struct Seen {
    /// None when it could not be read.
    pub store: Option<Arc<Stored>>,
    pub wal_bytes: u64,
    pub free_bytes: Option<u64>,
    pub crl_ends: Vec<(String, Time)>,
    /// Forks of other logs; none when that could not be read.
    pub forks: Option<usize>,
}

/// What was seen of the store.
pub struct Stored {
    pub lanes: Vec<LaneLook>,
    pub waiting: HashMap<LaneName, u64>,
    pub leaves: u64,
    pub dead: u64,
    /// Each partner, and how the way to it stands.
    pub tests: Vec<(String, &'static str)>,
    pub witnessed: Witnessed,
}

/// The newest look, and when it was taken.
#[derive(Clone, Default)]
pub struct Looks(Arc<Mutex<Option<(Instant, Seen)>>>);

impl Looks {
    /// What the disk shows now, or showed a moment ago.
    pub async fn at(&self, sources: Arc<Sources>) -> Seen {
        // The lock goes along to the disk: while a read hangs there, no second one begins, though its asker may have left.
        let mut kept = self.0.clone().lock_owned().await;
        let look = move || {
            let fresh = |at: &Instant| at.elapsed() < Duration::from_millis(LOOK_EVERY_MS);
            if let Some((_, seen)) = kept.as_ref().filter(|(at, _)| fresh(at)) {
                return seen.clone();
            }
            let seen = take(&sources);
            *kept = Some((Instant::now(), seen.clone()));
            seen
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

fn take(sources: &Sources) -> Seen {
    let stored = sources.readers.look(|look| {
        let (lanes, waiting) = (look.lanes()?, look.waiting()?);
        let tests = sources.echo.settled(look)?.into_iter();
        let tests = tests.map(|(partner, standing)| (partner.as_str().to_owned(), standing.word())).collect();
        let (leaves, dead, witnessed) = (look.log()?.0, look.dead_waiting()?, look.witnessed()?);
        Ok(Stored { lanes, waiting, leaves, dead, tests, witnessed })
    });
    if let Err(error) = &stored {
        tracing::warn!(%error, "the store could not be read for the monitor");
    }
    Seen {
        store: stored.ok().map(Arc::new),
        wal_bytes: store::wal_bytes(&sources.data),
        free_bytes: store::room(&sources.data).ok().map(|room| room.free),
        crl_ends: (sources.crl_ends)(),
        forks: Sightings::in_folder(&sources.data).forks().ok().map(|forks| forks.len()),
    }
}
