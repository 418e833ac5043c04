//! Decides how a gateway is asked about its lanes, told to pause one or let it go on, or to read its configuration again,
//! and how its answers are read. Never decides which lane is meant.

use serde::Serialize;

use super::told::{moment, plain};
use super::{Client, Trouble, timed};
use crate::store::LaneName;
use crate::time::Time;
use crate::wire::pb::admin as pb;

/// A lane as its gateway tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct ToldLane {
    pub lane: String,
    pub waiting: u64,
    pub in_flight: u32,
    #[serde(serialize_with = "written")]
    pub oldest: Option<Time>,
    /// CLOSED, OPEN, HALF_OPEN; empty when nobody works the lane.
    pub breaker: String,
    pub failures: u32,
    #[serde(serialize_with = "written")]
    pub next_attempt: Option<Time>,
    pub sessions: u32,
    pub worked: bool,
    pub paused: Option<ToldPause>,
}

/// Who paused a lane.
#[derive(Debug, Clone, Serialize)]
pub struct ToldPause {
    #[serde(serialize_with = "written")]
    pub since: Option<Time>,
    pub by: String,
    pub reason: String,
}

/// What a gateway took up of its changed configuration; nothing where there are faults.
#[derive(Debug, Clone, Serialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
    pub at_next_start: Vec<String>,
    pub cut: u64,
    pub faults: Vec<String>,
}

impl Client {
    /// Lets the gateway read its configuration again.
    pub async fn reload(&self) -> Result<Reloaded, Trouble> {
        let answer = self.answered(self.admin().reload(timed(pb::ReloadRequest {})).await)?;
        let all = |texts: Vec<String>| texts.iter().map(|text| plain(text)).collect();
        let (changed, at_next_start) = (all(answer.changed), all(answer.at_next_start));
        Ok(Reloaded { changed, at_next_start, cut: answer.cut, faults: all(answer.faults) })
    }

    /// The lanes, by name.
    pub async fn lanes(&self) -> Result<Vec<ToldLane>, Trouble> {
        let answer = self.answered(self.admin().list_lanes(timed(pb::ListLanesRequest {})).await)?;
        Ok(answer.lanes.into_iter().map(ToldLane::read).collect())
    }

    /// Pauses a lane: whether it was going before, and how it stands.
    pub async fn pause(&self, lane: &LaneName, reason: &str) -> Result<(bool, ToldLane), Trouble> {
        let request = pb::PauseLaneRequest { lane: lane.to_string(), reason: reason.to_owned() };
        let answer = self.answered(self.admin().pause_lane(timed(request)).await)?;
        Ok((answer.changed, ToldLane::read(answer.lane.unwrap_or_default())))
    }

    /// Lets a lane go on: whether it was paused before, and how it stands.
    pub async fn resume(&self, lane: &LaneName, reason: &str) -> Result<(bool, ToldLane), Trouble> {
        let request = pb::ResumeLaneRequest { lane: lane.to_string(), reason: reason.to_owned() };
        let answer = self.answered(self.admin().resume_lane(timed(request)).await)?;
        Ok((answer.changed, ToldLane::read(answer.lane.unwrap_or_default())))
    }
}

impl ToldLane {
    fn read(lane: pb::Lane) -> ToldLane {
        let breaker = lane.breaker().as_str_name().trim_start_matches("BREAKER_");
        let breaker = if breaker == "UNSPECIFIED" { "" } else { breaker }.to_owned();
        let paused = lane.pause.map(|pause| ToldPause {
            since: moment(pause.since),
            by: plain(&pause.by),
            reason: plain(&pause.reason),
        });
        ToldLane {
            lane: plain(&lane.name),
            waiting: lane.waiting,
            in_flight: lane.in_flight,
            oldest: moment(lane.oldest),
            breaker,
            failures: lane.failures,
            next_attempt: moment(lane.next_attempt),
            sessions: lane.sessions,
            worked: lane.worked,
            paused,
        }
    }
}

/// A moment as RFC 3339; null where there is none.
pub(super) fn written<S: serde::Serializer>(at: &Option<Time>, to: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => to.serialize_str(&at.to_string()),
        None => to.serialize_none(),
    }
}
