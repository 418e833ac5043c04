//! Decides which proofs need not be computed again: those under the checkpoints of the newest commits, whose receipts are
//! wanted within moments, by who delivers and by who brings them home. Holds nothing that the store could not give back.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use crate::limits::RECENT_LEAVES_MAX;
use crate::tlog::receipt_file::TlogProof;
use crate::tlog::tree::Appended;

/// The newest commits' parts of the tree.
#[derive(Debug, Default)]
pub(super) struct Recent(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Ascending in their places.
    commits: VecDeque<Signed>,
    leaves: u64,
}

/// The leaves of one commit by their places in the store, the nodes above them, and the note that signs them.
#[derive(Debug)]
struct Signed {
    places: Range<u64>,
    appended: Arc<Appended>,
    note: String,
}

impl Recent {
    /// Keeps a commit that is on disk; the first leaf of its log stands at `log`.
    pub fn keep(&self, log: u64, appended: Arc<Appended>, note: String) {
        let mut kept = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let places = log + appended.first_index..log + appended.size;
        kept.leaves += places.end - places.start;
        kept.commits.push_back(Signed { places, appended, note });
        while kept.leaves > RECENT_LEAVES_MAX
            && let Some(oldest) = kept.commits.pop_front()
        {
            kept.leaves -= oldest.places.end - oldest.places.start;
        }
    }

    /// What proves the leaf in this place, if its commit is among the newest.
    pub fn proof(&self, place: u64) -> Option<TlogProof> {
        let kept = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let behind = kept.commits.partition_point(|signed| signed.places.end <= place);
        let signed = kept.commits.get(behind).filter(|signed| signed.places.contains(&place))?;
        let index = signed.appended.first_index + (place - signed.places.start);
        let path = signed.appended.path(index)?;
        Some(TlogProof { extra: None, index, path, checkpoint_note: signed.note.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::leaf_hash;
    use crate::tlog::tree::Tree;

    #[test]
    fn the_newest_commits_are_kept_and_the_oldest_go_first() {
        let (recent, mut tree, log) = (Recent::default(), Tree::empty(), 1 << 40);
        let mut commit = |leaves: u64| {
            let hashes: Vec<_> = (0..leaves).map(|leaf| leaf_hash(&leaf.to_be_bytes())).collect();
            recent.keep(log, Arc::new(tree.append(&hashes)), format!("note of {}", tree.size()));
        };
        commit(3);
        commit(2);
        let proof = recent.proof(log + 4).unwrap();
        assert_eq!((proof.index, proof.checkpoint_note.as_str(), proof.path.len()), (4, "note of 5", 1));
        assert_eq!(recent.proof(log + 2).unwrap().checkpoint_note, "note of 3");
        assert_eq!((recent.proof(log + 5), recent.proof(4)), (None, None));
        commit(RECENT_LEAVES_MAX - 2);
        assert_eq!((recent.proof(log + 2), recent.proof(log + 4).is_some()), (None, true));
    }
}
