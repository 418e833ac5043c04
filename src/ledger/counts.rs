//! Decides what is counted of the ledger's work since the start: commits, and what the leaves in them say. Never decides
//! anything by a count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::evidence::{Event, Evidence};
use crate::reason::Reason;

/// The label of a reason that is of no catalogue of ours.
pub const OTHER: &str = "_OTHER";

/// Seconds of a commit, from the wish to the disk.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Entries of a commit.
const ENTRIES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The counts; clones share them.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Leaves about messages, by `event` and by `reason`: a code of the catalogue, or empty.
    pub evidence: Family<[(&'static str, &'static str); 2], Counter>,
    pub commit_seconds: Histogram,
    pub commit_entries: Histogram,
}

impl Default for Counts {
    fn default() -> Counts {
        let counts = Counts {
            evidence: Family::default(),
            commit_seconds: Histogram::new(SECONDS),
            commit_entries: Histogram::new(ENTRIES),
        };
        // From the first look on, so that the first one of its kind is seen as a rise.
        for event in Event::ALL.iter().filter(|event| !event.is_negative()) {
            drop(counts.evidence.get_or_create(&labels(*event, "")));
        }
        counts
    }
}

impl Counts {
    /// Counts leaves that a commit made true.
    pub(super) fn written(&self, said: &[Said]) {
        for said in said {
            self.evidence.get_or_create(&labels(said.event, said.reason)).inc();
        }
    }

    /// Counts a commit.
    pub(super) fn committed(&self, entries: usize, seconds: f64) {
        self.commit_entries.observe(entries as f64);
        self.commit_seconds.observe(seconds);
    }
}

fn labels(event: Event, reason: &'static str) -> [(&'static str, &'static str); 2] {
    [("event", event.as_str()), ("reason", reason)]
}

/// What one leaf says, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    event: Event,
    reason: &'static str,
}

impl From<&Evidence> for Said {
    /// A code that came from elsewhere never becomes a label: labels are of the catalogue.
    fn from(evidence: &Evidence) -> Said {
        let reason =
            evidence.reasons.first().map_or("", |code| Reason::from_code(code.as_str()).map_or(OTHER, Reason::code));
        Said { event: evidence.event, reason }
    }
}
