//! Decides who hears that there is work: a bell for each lane and for each partner's receipts, level-triggered, so that
//! a ring is never lost. Never carries the work itself.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::watch;

use crate::party::Member;
use crate::store::{LaneName, Seq};

/// What a commit announces.
#[derive(Debug, Default)]
pub struct Rung {
    /// Lanes with new messages, and the newest message's place.
    pub lanes: Vec<(LaneName, Seq)>,
    /// Partners with receipts to send, and the newest leaf.
    pub outboxes: Vec<(Member, u64)>,
}

/// The bells of all lanes.
#[derive(Clone, Debug, Default)]
pub struct Bells {
    lanes: Arc<DashMap<LaneName, watch::Sender<Seq>>>,
    outboxes: Arc<DashMap<Member, watch::Sender<u64>>>,
}

impl Bells {
    /// Rings after a commit.
    pub(super) fn ring(&self, rung: Rung) {
        for (lane, seq) in rung.lanes {
            raise(&self.lanes.entry(lane).or_default(), seq);
        }
        for (member, leaf) in rung.outboxes {
            raise(&self.outboxes.entry(member).or_default(), leaf);
        }
    }

    /// The bell of a lane: its value is the newest message's place.
    pub fn lane(&self, lane: &LaneName) -> watch::Receiver<Seq> {
        self.lanes.entry(lane.clone()).or_default().subscribe()
    }

    /// The bell of a partner's receipts: its value is the newest leaf.
    pub fn outbox(&self, member: &Member) -> watch::Receiver<u64> {
        self.outboxes.entry(member.clone()).or_default().subscribe()
    }
}

fn raise(bell: &watch::Sender<u64>, value: u64) {
    bell.send_modify(|newest| *newest = value.max(*newest));
}
