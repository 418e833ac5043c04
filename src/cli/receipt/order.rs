//! Decides in which order the receipts of one message are read: what follows from another stands behind it, whatever the
//! clocks of two cities say; else the earlier goes first. Never drops one.

use std::collections::HashSet;

use crate::message::Digest;
use crate::receipt::Checked;

/// Puts receipts in order: a leaf stands behind the one it names as previous and the one it witnesses, and behind those
/// with a lower index in its own log.
pub fn in_order(mut waiting: Vec<Checked>) -> Vec<Checked> {
    let rank = |checked: &Checked| (checked.evidence.at, checked.log_origin.clone(), checked.receipt.proof.index);
    waiting.sort_by_cached_key(rank);
    let mut unplaced: HashSet<Digest> = waiting.iter().map(|checked| checked.receipt.leaf_hash()).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        // Hashes cannot point in a circle; where the log of an issuer contradicts itself, the earliest goes first.
        let next = waiting.iter().position(|checked| is_next(checked, &waiting, &unplaced)).unwrap_or_default();
        let checked = waiting.remove(next);
        unplaced.remove(&checked.receipt.leaf_hash());
        ordered.push(checked);
    }
    ordered
}

fn is_next(checked: &Checked, waiting: &[Checked], unplaced: &HashSet<Digest>) -> bool {
    let witnessed = checked.evidence.witnessed.as_ref().map(|witnessed| witnessed.leaf_hash);
    let mut causes = checked.evidence.previous.into_iter().chain(witnessed);
    let before = |other: &Checked| {
        other.log_origin == checked.log_origin && other.receipt.proof.index < checked.receipt.proof.index
    };
    causes.all(|cause| !unplaced.contains(&cause)) && !waiting.iter().any(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::verify::sample::receipt;
    use crate::evidence::Event;
    use crate::time::Time;

    #[test]
    fn cause_goes_before_effect_whatever_the_clocks_say() {
        let accepted = receipt("450200", 5, Event::SubmissionAccepted, None);
        let mut relayed = receipt("440600", 0, Event::RelayAccepted, Some(&accepted));
        relayed.evidence.at = Time::from_ms(1);
        let mut consigned = receipt("440600", 1, Event::Consigned, Some(&relayed));
        consigned.evidence.at = Time::from_ms(1);
        let witness = receipt("450200", 6, Event::Delayed, Some(&accepted));
        let all = [accepted, relayed, consigned, witness];
        for turn in 0..4 {
            let mut turned = all.to_vec();
            turned.rotate_left(turn);
            let order: Vec<_> = in_order(turned).into_iter().map(|checked| checked.evidence.event).collect();
            assert_eq!(order, [Event::SubmissionAccepted, Event::RelayAccepted, Event::Consigned, Event::Delayed]);
        }
    }
}
