//! Decides what a lane's worker writes down for its next life: how the lane rests, and which messages may have been sent
//! without an answer. Never decides what follows from it.

use super::ground::Ground;
use crate::lanes::{Rest, Seq};
use crate::ledger::Entry;
use crate::store::{self, LaneName, LaneState};

/// The logbook of one lane.
#[derive(Debug)]
pub struct Logbook {
    ground: Ground,
    lane: LaneName,
    state: LaneState,
    /// Somebody paused the lane in an earlier life.
    held: bool,
    /// Messages before this place may have been sent in an earlier life.
    doubt_below: Seq,
}

impl Logbook {
    /// Reads what the life before left. One that ended with a session open may have sent everything that was there.
    pub async fn open(ground: Ground, lane: LaneName) -> Result<Logbook, store::Error> {
        let asked = lane.clone();
        let look = move |look: &store::Snapshot<'_>| {
            Ok((look.lane_state(&asked)?, look.hold(&asked)?.is_some(), look.last_seq()?))
        };
        let (mut state, held, last_seq) = ground.readers.seek(look).await?;
        if state.open {
            state.sent_below = last_seq + 1;
        }
        Ok(Logbook { ground, lane, doubt_below: state.sent_below, state, held })
    }

    /// How the lane rested.
    pub fn rest(&self) -> Rest {
        Rest { failures: self.state.failures, until: self.state.rest_until, held: self.held }
    }

    /// Whether an earlier life may have sent this message.
    pub fn doubts(&self, seq: Seq) -> bool {
        seq < self.doubt_below
    }

    /// Messages before this place may have been sent in an earlier life.
    pub fn doubt_below(&self) -> Seq {
        self.doubt_below
    }

    /// The lane rests otherwise than before. That somebody paused it is written by who did.
    pub fn rests(&mut self, rest: Rest) {
        self.state = LaneState { failures: rest.failures, rest_until: rest.until, ..self.state };
        self.post();
    }

    /// A session begins; whether that is on disk. Until it is, nothing may be sent.
    pub async fn opened(&mut self) -> bool {
        if self.state.open {
            return true;
        }
        let state = LaneState { open: true, ..self.state };
        let written = self.ground.ledger.enter(Entry::Lane { lane: self.lane.clone(), state }).await.is_ok();
        self.state.open |= written;
        written
    }

    /// A message goes out.
    pub fn sends(&mut self, seq: Seq) {
        self.state.sent_below = self.state.sent_below.max(seq + 1);
    }

    /// No session is open any more.
    pub fn closed(&mut self) {
        self.state.open = false;
        self.post();
    }

    /// What is lost here is only more doubt, or a pause that is forgotten.
    fn post(&self) {
        self.ground.ledger.post(Entry::Lane { lane: self.lane.clone(), state: self.state });
    }
}
