//! Decides whether the receipts of one message leave anything out of the middle: each names the leaf before it
//! (docs/receipts.md §6). Never says that nothing came after the last one: a chain cannot show that.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::evidence::{Event, Evidence, Standing, State};
use crate::id::MessageId;
use crate::message::{Address, Digest};
use crate::receipt::Checked;

/// The receipts of one message together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub id: MessageId,
    pub from: Address,
    pub receipts: usize,
    pub link: Link,
    /// Where the message stands by these receipts; none when it was never accepted by them.
    pub state: Option<State>,
}

/// How the receipts of one message hang together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Every leaf that is named as the one before is here.
    Whole,
    /// A leaf that is named as the one before is missing; the receipt that names it.
    Gap(String),
    /// Two leaves of one log follow the same leaf, one stands before the leaf that it follows, or there are two beginnings:
    /// the issuer contradicts itself.
    Fork(String),
}

/// The chains of all messages of which more than one receipt is given. A message is one sender's id and one content.
pub fn chains<'a>(receipts: impl Iterator<Item = &'a Checked>) -> Vec<Chain> {
    let mut messages: BTreeMap<_, Vec<&Checked>> = BTreeMap::new();
    for checked in receipts {
        let evidence = &checked.evidence;
        let key = (*evidence.message_id.bytes(), evidence.from.city.clone(), evidence.header_digest.0);
        messages.entry(key).or_default().push(checked);
    }
    messages.into_values().filter_map(|receipts| chain(&receipts)).collect()
}

fn chain(receipts: &[&Checked]) -> Option<Chain> {
    // The same receipt may lie in two folders.
    let leaves: HashMap<Digest, &Checked> =
        receipts.iter().map(|checked| (checked.receipt.leaf_hash(), *checked)).collect();
    if leaves.len() < 2 {
        return None;
    }
    let first = &receipts.first()?.evidence;
    let link = fork(&leaves).map(Link::Fork).or_else(|| gap(&leaves).map(Link::Gap)).unwrap_or(Link::Whole);
    let state = state(leaves.values().map(|checked| &checked.evidence));
    Some(Chain { id: first.message_id, from: first.from.clone(), receipts: leaves.len(), link, state })
}

fn gap(leaves: &HashMap<Digest, &Checked>) -> Option<String> {
    let missing = |checked: &&&Checked| checked.evidence.previous.is_some_and(|hash| !leaves.contains_key(&hash));
    named(leaves.values().filter(missing))
}

fn fork(leaves: &HashMap<Digest, &Checked>) -> Option<String> {
    let mut ordered: Vec<_> = leaves.values().filter(|checked| !is_rejection(checked.evidence.event)).collect();
    ordered.sort_by_key(|checked| (&checked.log_origin, checked.receipt.proof.index));
    // What each leaf follows, in which log; a beginning follows nothing, wherever it stands.
    let mut followed = HashSet::new();
    let mut contradicts = |checked: &Checked| {
        let log = &checked.log_origin;
        let before = checked.evidence.previous.and_then(|hash| leaves.get(&hash));
        let stands_before = before.is_some_and(|before| {
            before.log_origin == *log && before.receipt.proof.index >= checked.receipt.proof.index
        });
        let follows = checked.evidence.previous.map(|hash| (log.clone(), hash));
        stands_before || !followed.insert(follows)
    };
    let found: Vec<&Checked> = ordered.into_iter().copied().filter(|checked| contradicts(checked)).collect();
    named(found.iter())
}

/// A refusal binds nothing: the same message may be submitted again, and then its chain begins anew beside it.
fn is_rejection(event: Event) -> bool {
    matches!(event, Event::SubmissionRejected | Event::RelayRejected)
}

fn named<'a>(receipts: impl Iterator<Item = &'a &'a Checked>) -> Option<String> {
    let name = |checked: &&Checked| format!("{} {}", checked.evidence.event, checked.evidence.id);
    receipts.map(name).min()
}

/// The state after all events, in the order of their times; none when they hold no acceptance.
pub fn state<'a>(evidence: impl Iterator<Item = &'a Evidence>) -> Option<State> {
    let mut events: Vec<_> = evidence.map(|evidence| (evidence.at, evidence.event)).collect();
    events.sort();
    let accepted = events.iter().any(|(_, event)| !is_rejection(*event));
    let first: Standing = State::Accepted.into();
    accepted.then(|| events.into_iter().fold(first, |standing, (_, event)| standing.told(event)).state)
}

/// What tests take for checked receipts: leaves, places and logs, without proofs.
#[cfg(test)]
pub mod sample {
    use super::*;
    use crate::evidence::Instants;
    use crate::id::ReceiptId;
    use crate::receipt::Receipt;
    use crate::time::Time;
    use crate::tlog::receipt_file::TlogProof;

    /// A receipt of one message, as if checked: only its leaf, place and log count here.
    pub fn receipt(log: &str, index: u64, event: Event, previous: Option<&Checked>) -> Checked {
        let address = crate::cli::client::address("450200/window").unwrap();
        let evidence = Evidence {
            id: ReceiptId::new_v7(Time::from_ms(1_000 + index), [index as u8; 10]),
            event,
            reasons: if event.is_negative() { vec![crate::reason::Reason::NoRoute.into()] } else { vec![] },
            token: None,
            at: Time::from_ms(1_000 + index),
            clock_uncertainty_ms: 0,
            issuer: log.parse().unwrap(),
            key_id: 1,
            agreement: None,
            table_version: 0,
            from: address,
            to: None,
            message_id: MessageId::from_bytes([7; 16]),
            in_reply_to: None,
            case_no: None,
            item_code: None,
            step: None,
            header_digest: Digest([1; 32]),
            parts: 0,
            total_size: 0,
            instants: Instants::default(),
            expires_at: None,
            attempts: 0,
            last_status: 0,
            asserted_by: None,
            previous: previous.map(|checked| checked.receipt.leaf_hash()),
            witnessed: None,
            mode: None,
            next_attempt_at: None,
            extensions: vec![],
        };
        let proof = TlogProof { extra: None, index, path: vec![], checkpoint_note: String::new() };
        let receipt = Receipt { leaf: evidence.to_leaf().unwrap(), proof };
        Checked { receipt, evidence, log_origin: log.to_owned(), tree_size: 100 }
    }
}

#[cfg(test)]
mod tests {
    use super::sample::receipt;
    use super::*;

    fn handed_over() -> Vec<Checked> {
        let accepted = receipt("450200", 0, Event::SubmissionAccepted, None);
        let relayed = receipt("440600", 1, Event::RelayAccepted, Some(&accepted));
        let consigned = receipt("440600", 2, Event::Consigned, Some(&relayed));
        let over = receipt("440600", 3, Event::HandedOver, Some(&consigned));
        vec![accepted, relayed, consigned, over]
    }

    fn judged(receipts: &[Checked]) -> Chain {
        let mut found = chains(receipts.iter());
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn a_chain_across_two_logs_is_whole() {
        let chain = judged(&handed_over());
        assert_eq!((chain.receipts, chain.link, chain.state), (4, Link::Whole, Some(State::Confirmed)));
    }

    #[test]
    fn a_next_hops_refusal_is_the_end_unless_more_follows() {
        let accepted = receipt("450200", 0, Event::SubmissionAccepted, None);
        let refused = receipt("440600", 1, Event::RelayRejected, Some(&accepted));
        let mut all = vec![accepted, refused];
        assert_eq!(judged(&all).state, Some(State::Rejected));
        for (event, expected) in [
            (Event::RelayAccepted, State::Relayed),
            (Event::Delayed, State::Accepted),
            (Event::RelayFailed, State::Failed),
            (Event::Expired, State::Expired),
            (Event::HandedOver, State::Confirmed),
        ] {
            all.push(receipt("330100", 2, event, Some(&all[0])));
            assert_eq!(judged(&all).state, Some(expected), "{event}");
            all.pop();
        }
    }

    #[test]
    fn one_receipt_is_no_chain_and_the_same_one_twice_is_one() {
        let all = handed_over();
        assert!(chains(all[..1].iter()).is_empty());
        assert!(chains([&all[3], &all[3]].into_iter()).is_empty());
    }

    #[test]
    fn a_receipt_left_out_of_the_middle_is_a_gap_and_names_its_follower() {
        for left_out in 0..3 {
            let mut all = handed_over();
            let follower = all[left_out + 1].evidence.event.to_string();
            all.remove(left_out);
            assert!(matches!(judged(&all).link, Link::Gap(name) if name.starts_with(&follower)), "{left_out}");
        }
        let mut all = handed_over();
        all.pop();
        assert_eq!(judged(&all).link, Link::Whole, "what came after the last one, no chain can show");
    }

    #[test]
    fn an_issuer_that_contradicts_itself_is_a_fork() {
        let mut two_ends = handed_over();
        two_ends.push(receipt("440600", 4, Event::HandoverFailed, Some(&two_ends[2])));
        assert!(matches!(judged(&two_ends).link, Link::Fork(name) if name.starts_with("HANDOVER_FAILED")));
        let mut two_beginnings = handed_over();
        two_beginnings.push(receipt("450200", 9, Event::SubmissionAccepted, None));
        assert!(matches!(judged(&two_beginnings).link, Link::Fork(_)));
        let accepted = receipt("450200", 5, Event::SubmissionAccepted, None);
        let before_it = receipt("450200", 4, Event::Consigned, Some(&accepted));
        assert!(matches!(judged(&[accepted, before_it]).link, Link::Fork(name) if name.starts_with("CONSIGNED")));
    }

    #[test]
    fn a_refusal_before_the_acceptance_is_no_second_beginning() {
        let mut all = handed_over();
        all.push(receipt("450200", 9, Event::SubmissionRejected, None));
        all.push(receipt("440600", 9, Event::RelayRejected, Some(&all[0])));
        assert_eq!(judged(&all).link, Link::Whole);
    }
}
