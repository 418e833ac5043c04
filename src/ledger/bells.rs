//! Decides who hears that something has happened: a bell for each lane and for each lane owner's receipts, for messages
//! that somebody watches and for replies that somebody waits for. Level-triggered, so that a ring is never lost. Never
//! carries the work itself.

use std::collections::HashMap;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::watch;

use crate::lanes::bell::Heard;
use crate::store::{Key, LaneName, Seq};
use crate::time::Time;

/// What a commit announces.
#[derive(Debug, Default)]
pub struct Rung {
    /// Lanes with new messages, and the newest message's place.
    pub lanes: HashMap<LaneName, Seq>,
    /// Lanes that somebody paused, or let go on.
    pub held: Vec<(LaneName, bool)>,
    /// Lanes that were given messages from another lane, and their places.
    pub moved: Vec<(LaneName, Seq)>,
    /// Lane owners with receipts to be sent, and the newest leaf.
    pub outboxes: HashMap<LaneName, u64>,
    /// Messages about which something is known that was not.
    pub messages: Vec<Seq>,
    /// Messages that were answered, and the reply's place.
    pub replies: Vec<(Key, Seq)>,
    /// The earliest moment at which a message of this commit must be looked at.
    pub due_at: Option<Time>,
}

impl Rung {
    /// A new message waits in a lane.
    pub(super) fn waits(&mut self, lane: &LaneName, seq: Seq) {
        newest(&mut self.lanes, lane, seq);
    }

    /// A receipt is to be sent to the owner of a lane.
    pub(super) fn goes_to(&mut self, lane: &LaneName, leaf: u64) {
        newest(&mut self.outboxes, lane, leaf);
    }
}

/// Notes a place that may be the newest of a lane. A commit announces hundreds, to few lanes.
fn newest(places: &mut HashMap<LaneName, u64>, lane: &LaneName, place: u64) {
    match places.get_mut(lane) {
        Some(newest) => *newest = place.max(*newest),
        None => drop(places.insert(lane.clone(), place)),
    }
}

/// The bells of all.
#[derive(Clone, Debug, Default)]
pub struct Bells(Arc<Ropes>);

#[derive(Debug, Default)]
struct Ropes {
    lanes: DashMap<LaneName, watch::Sender<Heard>>,
    outboxes: DashMap<LaneName, watch::Sender<u64>>,
    /// Only of messages that somebody watches.
    messages: DashMap<Seq, watch::Sender<u64>>,
    /// Only of messages for whose reply somebody waits.
    replies: DashMap<Key, watch::Sender<Option<Seq>>>,
    due: watch::Sender<Time>,
}

impl Bells {
    /// Rings after a commit.
    pub(super) fn ring(&self, rung: Rung) {
        let ropes = &*self.0;
        for (lane, held) in rung.held {
            ropes.lanes.entry(lane).or_default().send_modify(|heard| heard.held = Some(held));
        }
        for (lane, seq) in rung.lanes {
            ropes.lanes.entry(lane).or_default().send_modify(|heard| heard.newest = heard.newest.max(seq));
        }
        for (lane, seq) in rung.moved {
            ropes.lanes.entry(lane).or_default().send_modify(|heard| {
                heard.lowest_moved = if heard.moves == 0 { seq } else { heard.lowest_moved.min(seq) };
                heard.moves += 1;
            });
        }
        for (lane, leaf) in rung.outboxes {
            ropes.outboxes.entry(lane).or_default().send_modify(|newest| *newest = leaf.max(*newest));
        }
        for seq in rung.messages {
            if let Some(bell) = ropes.messages.get(&seq) {
                bell.send_modify(|rings| *rings += 1);
            }
        }
        for (key, seq) in rung.replies {
            if let Some(bell) = ropes.replies.get(&key) {
                bell.send_replace(Some(seq));
            }
        }
        if let Some(due_at) = rung.due_at {
            ropes.due.send_if_modified(|earliest| {
                let earlier = *earliest == Time::ZERO || due_at < *earliest;
                if earlier {
                    *earliest = due_at;
                }
                earlier
            });
        }
    }

    /// The bell of a lane.
    pub fn lane(&self, lane: &LaneName) -> watch::Receiver<Heard> {
        self.0.lanes.entry(lane.clone()).or_default().subscribe()
    }

    /// The bell of a lane owner's receipts: its value is the newest leaf.
    pub fn outbox(&self, lane: &LaneName) -> watch::Receiver<u64> {
        self.0.outboxes.entry(lane.clone()).or_default().subscribe()
    }

    /// The bell of one message. Hang it down with [`Bells::unwatch`].
    pub fn watch(&self, message: Seq) -> watch::Receiver<u64> {
        self.0.messages.entry(message).or_default().subscribe()
    }

    /// Takes a message's bell down when nobody listens any more.
    pub fn unwatch(&self, message: Seq) {
        self.0.messages.remove_if(&message, |_, bell| bell.receiver_count() == 0);
    }

    /// The bell of the reply to a message: its value is the reply's place.
    pub fn reply(&self, request: &Key) -> watch::Receiver<Option<Seq>> {
        self.0.replies.entry(request.clone()).or_default().subscribe()
    }

    /// Takes a reply's bell down when nobody waits any more.
    pub fn stop_waiting(&self, request: &Key) {
        self.0.replies.remove_if(request, |_, bell| bell.receiver_count() == 0);
    }

    /// The earliest moment at which a waiting message must be looked at; [`Time::ZERO`] when none was rung since
    /// [`Bells::looked`].
    pub fn due(&self) -> watch::Receiver<Time> {
        self.0.due.subscribe()
    }

    /// All that was due has been looked at.
    pub fn looked(&self) {
        self.0.due.send_if_modified(|earliest| {
            *earliest = Time::ZERO;
            false
        });
    }
}
