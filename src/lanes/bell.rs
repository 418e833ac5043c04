//! Decides what a lane is told of what its bell says. Several rings may be heard as one; none is lost.

use super::{Event, Seq};

/// What a lane has heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The newest message's place.
    pub newest: Seq,
    /// How often messages came from another lane, and the lowest of their places.
    pub moves: u64,
    pub lowest_moved: Seq,
    /// Whether somebody has paused it; none when nobody has said so or otherwise since the start.
    pub held: Option<bool>,
}

/// What has happened to a lane between two looks at its bell.
pub fn events(before: Heard, now: Heard) -> impl Iterator<Item = Event> {
    let gate = if now.held == Some(true) { Event::Held } else { Event::Resumed };
    let held = (now.held != before.held).then_some(gate);
    let enqueued = (now.newest > before.newest).then_some(Event::Enqueued { seq: now.newest });
    let moved = (now.moves > before.moves).then_some(Event::Moved { seq: now.lowest_moved });
    [held, enqueued, moved].into_iter().flatten()
}
