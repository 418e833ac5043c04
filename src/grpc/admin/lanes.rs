//! Decides how lanes are shown to those who operate the gateway, and when one counts as paused: once that is on disk and
//! whoever works the lane has heard of it. Never moves a message.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::future::join_all;

use crate::courier::Ground;
use crate::lanes::{self, Stats};
use crate::ledger::{Answer, Entry, Pause};
use crate::limits::PAUSE_REASON_BYTES_MAX;
use crate::message::visible;
use crate::party::Party;
use crate::reason::Reason;
use crate::store::{Hold, LaneLook, LaneName};
use crate::wire::envelope::{Fault, Faults, time_to_wire};
use crate::wire::pb::admin as pb;
use crate::wire::status::Refused;

/// What the store and those who work the lanes know.
pub struct Seen {
    looks: BTreeMap<LaneName, LaneLook>,
    waiting: HashMap<LaneName, u64>,
}

/// Every lane: those that hold or held something, and those that are worked.
pub async fn all(ground: &Ground) -> Result<Vec<pb::Lane>, Refused> {
    let seen = Seen::now(ground).await?;
    let worked = ground.desk.open_lanes();
    let names: BTreeSet<LaneName> = seen.looks.keys().cloned().chain(worked).collect();
    Ok(join_all(names.iter().map(|name| seen.lane(ground, name))).await)
}

/// Pauses a lane, or lets it go on. Whatever becomes of who asked, both halves are done.
pub async fn hold(ground: &Ground, pause: Pause) -> Result<(bool, pb::Lane), Refused> {
    let ground = ground.clone();
    let held = tokio::spawn(async move {
        let lane = pause.lane.clone();
        let known = Seen::now(&ground).await?.looks.contains_key(&lane) || ground.desk.is_open(&lane);
        if !known {
            let must = "must be a lane of this gateway".to_owned();
            return Err(Refused::faults(vec![Fault { field: "lane".to_owned(), must }]));
        }
        let (held, actor) = (pause.held, pause.actor.clone());
        let Answer::Held(changed) = ground.ledger.try_enter(Entry::Hold(Box::new(pause))).await? else {
            return Err(Refused::new(Reason::Internal));
        };
        // Its answer comes after it has heard what was committed.
        let lane = Seen::now(&ground).await?.lane(&ground, &lane).await;
        tracing::info!(lane = lane.name, held, changed, actor, "somebody paused a lane or let it go on");
        Ok((changed, lane))
    });
    held.await.unwrap_or_else(|_| Err(Refused::new(Reason::Internal)))
}

/// A lane's name as the audit says it; empty where it is none.
pub fn named(lane: &str) -> String {
    lane.parse::<LaneName>().map(|lane| lane.to_string()).unwrap_or_default()
}

/// Reads which lane is meant, and why.
pub fn asked(lane: &str, why: &str, held: bool, actor: &Party) -> Result<Pause, Vec<Fault>> {
    let mut faults = Faults::default();
    if lane.is_empty() {
        faults.add("lane", "is obligatory");
    }
    let parsed = lane.parse().map_err(|_| faults.add("lane", "must be gateway/MEMBER or system/NAME")).ok();
    let why = why.trim().to_owned();
    if (held && why.is_empty()) || why.len() > PAUSE_REASON_BYTES_MAX || !visible(&why) {
        faults.add("reason", format!("must be 1 to {PAUSE_REASON_BYTES_MAX} visible bytes"));
    }
    faults.or(parsed.map(|lane| Pause { lane, held, why, actor: actor.to_string() }))
}

impl Seen {
    async fn now(ground: &Ground) -> Result<Seen, Refused> {
        let seen = ground.readers.seek(|look| Ok((look.lanes()?, look.waiting()?))).await;
        let (looks, waiting) = seen.map_err(|error| {
            tracing::error!(%error, "the lanes cannot be read");
            Refused::new(Reason::StoreUnavailable)
        })?;
        Ok(Seen { looks: looks.into_iter().map(|look| (look.name.clone(), look)).collect(), waiting })
    }

    async fn lane(&self, ground: &Ground, name: &LaneName) -> pb::Lane {
        let (look, stats) = (self.looks.get(name), ground.desk.stats(name).await);
        let now = stats.unwrap_or_default();
        let next = now.backoff_until.max(now.throttled_until);
        pb::Lane {
            name: name.to_string(),
            waiting: self.waiting.get(name).copied().unwrap_or_default(),
            in_flight: now.in_flight as u32,
            oldest: look.and_then(|look| look.oldest).map(time_to_wire),
            breaker: breaker(stats.as_ref()) as i32,
            failures: stats.map_or_else(|| look.map_or(0, |look| look.state.failures), |stats| stats.failures),
            next_attempt: next.map(time_to_wire),
            sessions: now.sessions as u32,
            worked: ground.desk.is_open(name),
            pause: look.and_then(|look| look.hold.clone()).map(pause),
        }
    }
}

fn breaker(stats: Option<&Stats>) -> pb::Breaker {
    match stats.map(|stats| stats.breaker) {
        None => pb::Breaker::Unspecified,
        Some(lanes::Breaker::Closed) => pb::Breaker::Closed,
        Some(lanes::Breaker::Open) => pb::Breaker::Open,
        Some(lanes::Breaker::HalfOpen) => pb::Breaker::HalfOpen,
    }
}

fn pause(hold: Hold) -> pb::LanePause {
    pb::LanePause { since: Some(time_to_wire(hold.since)), by: hold.by, reason: hold.why }
}
