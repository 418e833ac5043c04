//! Decides whether all that was accepted came to its one good end, by the books of both systems and the evidence of both
//! gateways alone.

use std::collections::{BTreeMap, HashSet};

use tongban::evidence::Event;
use tongban::receipt::{Checked, Checker};
use tongban::wire::pb::evidence as pbe;

use crate::alliance::{Alliance, check};
use crate::people::{Letters, Sent};

/// Every message was answered, had its effect once and in the order of its case, was settled once and no more, and is
/// confirmed at its origin with evidence that has every link; `hubs` took it over on the way.
pub fn all_is_whole(alliance: &Alliance, letters: &Letters, hubs: usize) {
    let mut checker = alliance.checker();
    letters.look(|books| {
        let mut cases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for sent in &books.sent {
            cases.entry(sent.envelope.case_no.clone()).or_default().push(sent.id().to_owned());
            // The word that settles may be lost on its last yard; what it says stands in the recipient's log all the same.
            let settled = books.settled.get(sent.id()).copied().unwrap_or_default();
            assert!(settled <= 1, "{} is settled {settled} times", sent.id());
            assert_eq!(sent.end, Some(pbe::State::Confirmed), "{}", sent.id());
            has_every_link(&mut checker, sent, hubs);
        }
        assert_eq!(books.cases, cases, "each once, and in the order of its case");
    });
}

fn has_every_link(checker: &mut Checker, sent: &Sent, hubs: usize) {
    let first = sent.receipt.as_ref().expect("an answer");
    assert!(sent.evidence.contains(first), "{}: the first receipt is still the one", sent.id());
    let checked: Vec<Checked> = sent.evidence.iter().map(|receipt| check(checker, receipt.clone())).collect();
    let count = |event| checked.iter().filter(|one| one.evidence.event == event).count();
    let events =
        [Event::SubmissionAccepted, Event::RelayAccepted, Event::Consigned, Event::HandedOver, Event::Witnessed];
    // Whatever another log says is witnessed once.
    assert_eq!(events.map(count), [1, 1 + hubs, 1, 1, 3 + hubs], "{}", sent.id());
    assert_eq!(checked.len(), 7 + 2 * hubs, "{}: nothing else is said", sent.id());
    let hashes: HashSet<_> = checked.iter().map(|one| one.receipt.leaf_hash().0).collect();
    for one in &checked {
        let previous = one.evidence.previous.map(|previous| hashes.contains(&previous.0));
        assert_ne!(previous, Some(false), "{}: {} hangs in the air", sent.id(), one.evidence.event);
        let is_first = one.evidence.event == Event::SubmissionAccepted;
        assert_eq!(previous.is_none(), is_first, "{}: only the first has none before it", sent.id());
        let witnessed = one.evidence.witnessed.as_ref();
        assert!(witnessed.is_none_or(|witnessed| hashes.contains(&witnessed.leaf_hash.0)), "{}", sent.id());
    }
    let theirs = sent.theirs.iter().map(|receipt| check(checker, receipt.clone()));
    let handovers = theirs.filter(|one| one.evidence.event == Event::HandedOver).count();
    assert_eq!(handovers, 1, "{}: the recipient's log says it once", sent.id());
}
