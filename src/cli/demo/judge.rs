//! Decides whether a run of the demo kept its word, by what the cities' systems wrote down and by the exported receipts
//! alone. Never asks a gateway.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::verify::{Verdict, state};
use super::diary::{Did, Line};
use crate::evidence::{Event, State};

/// What is wrong with a run, by message id; nothing in it when all is well.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Sent, and no system has an outcome for it.
    pub lost: BTreeSet<String>,
    /// With more than one durable outcome, or handed out again after it.
    pub doubled: BTreeSet<String>,
    /// With an outcome, and sent by nobody.
    pub unsent: BTreeSet<String>,
    /// Sent, and without the receipt of its acceptance or of its handover or refusal.
    pub unreceipted: BTreeSet<String>,
    /// The receiver's outcome, what the sender was told and the receipts do not agree.
    pub disagreed: BTreeSet<String>,
    /// Receipt files that do not verify.
    pub unverified: BTreeSet<String>,
}

impl Findings {
    /// Whether nothing was found.
    pub fn clean(&self) -> bool {
        *self == Findings::default()
    }
}

/// Judges the diaries of all systems together with all receipts.
pub fn judge(lines: &[Line], verdicts: &[Verdict]) -> Findings {
    let mut findings = Findings::default();
    let mut receipts: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for verdict in verdicts {
        match &verdict.found {
            Ok(checked) => {
                receipts.entry(checked.evidence.message_id.to_string()).or_default().push(&checked.evidence);
            }
            Err(_) => {
                findings.unverified.insert(verdict.file.display().to_string());
            }
        }
    }
    let mut messages: BTreeMap<&str, Vec<Did>> = BTreeMap::new();
    for line in lines {
        messages.entry(&line.message_id).or_default().push(line.did);
    }
    for (id, done) in messages {
        let ends: Vec<Did> =
            done.iter().copied().filter(|did| matches!(did, Did::Acknowledged | Did::Refused)).collect();
        let mut found = |wrong: bool, list: fn(&mut Findings) -> &mut BTreeSet<String>| {
            if wrong {
                list(&mut findings).insert(id.to_owned());
            }
        };
        found(!done.contains(&Did::Sent), |all| &mut all.unsent);
        let late = done.iter().skip_while(|did| !ends.contains(did)).any(|did| *did == Did::Received);
        found(ends.len() > 1 || late, |all| &mut all.doubled);
        let Some(end) = ends.first() else {
            found(true, |all| &mut all.lost);
            continue;
        };
        let (told, event, ended) = match end {
            Did::Acknowledged => (Did::ToldConfirmed, Event::HandedOver, State::Confirmed),
            _ => (Did::ToldRejected, Event::HandoverFailed, State::Rejected),
        };
        let of_it = receipts.get(id).map(Vec::as_slice).unwrap_or_default();
        let holds = |event: Event| of_it.iter().any(|evidence| evidence.event == event);
        found(!holds(Event::SubmissionAccepted) || !holds(event), |all| &mut all.unreceipted);
        let agreed = done.contains(&told) && state(of_it.iter().copied()) == Some(ended);
        found(!agreed, |all| &mut all.disagreed);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::verify::Fault;
    use crate::cli::verify::sample::receipt;
    use crate::id::MessageId;
    use crate::receipt::Checked;

    fn id() -> String {
        MessageId::from_bytes([7; 16]).to_string()
    }

    fn diary(done: &[Did]) -> Vec<Line> {
        done.iter().map(|did| Line { did: *did, message_id: id() }).collect()
    }

    fn verdicts(events: &[Event]) -> Vec<Verdict> {
        let mut before: Option<Checked> = None;
        let mut one = |(index, event): (u64, &Event)| {
            let checked = receipt("450200", index, *event, before.as_ref());
            before = Some(checked.clone());
            Verdict { file: "proof".into(), found: Ok(checked), cosigned: vec![] }
        };
        (0..).zip(events).map(&mut one).collect()
    }

    const DONE: [Did; 4] = [Did::Sent, Did::Received, Did::Acknowledged, Did::ToldConfirmed];
    const PAPERS: [Event; 4] = [Event::SubmissionAccepted, Event::RelayAccepted, Event::Consigned, Event::HandedOver];

    #[test]
    fn a_message_handed_out_twice_with_one_outcome_is_well() {
        assert_eq!(judge(&diary(&DONE), &verdicts(&PAPERS)), Findings::default());
        let again = [Did::Sent, Did::Received, Did::Received, Did::Acknowledged, Did::ToldConfirmed];
        assert!(judge(&diary(&again), &verdicts(&PAPERS)).clean());
    }

    #[test]
    fn every_planted_fault_is_found_by_its_name() {
        let found = || BTreeSet::from([id()]);
        let without = |left: Did| DONE.into_iter().filter(|did| *did != left).collect::<Vec<_>>();
        let twice = [&DONE[..], &[Did::Acknowledged]].concat();
        let other = [Did::Sent, Did::Received, Did::Acknowledged, Did::ToldRejected];
        let after = [&DONE[..], &[Did::Received]].concat();
        let rows: [(&str, &[Did], &[Event], Findings); 8] = [
            ("lost", &without(Did::Acknowledged), &PAPERS, Findings { lost: found(), ..Findings::default() }),
            ("doubled", &twice, &PAPERS, Findings { doubled: found(), ..Findings::default() }),
            ("handed out again", &after, &PAPERS, Findings { doubled: found(), ..Findings::default() }),
            ("unsent", &without(Did::Sent), &PAPERS, Findings { unsent: found(), ..Findings::default() }),
            ("no acceptance", &DONE, &PAPERS[1..], Findings { unreceipted: found(), ..Findings::default() }),
            (
                "no handover",
                &DONE,
                &PAPERS[..3],
                Findings { unreceipted: found(), disagreed: found(), ..Findings::default() },
            ),
            ("told wrongly", &other, &PAPERS, Findings { disagreed: found(), ..Findings::default() }),
            ("never told", &DONE[..3], &PAPERS, Findings { disagreed: found(), ..Findings::default() }),
        ];
        for (name, done, events, expected) in rows {
            assert_eq!(judge(&diary(done), &verdicts(events)), expected, "{name}");
        }
    }
    #[test]
    fn a_receipt_that_does_not_verify_is_found_by_its_file() {
        let mut verdicts = verdicts(&PAPERS);
        let fault = Fault { part: "proof", en: "does not hold".to_owned(), zh: "不成立".to_owned() };
        verdicts.push(Verdict { file: "bad.tlog-proof".into(), found: Err(fault), cosigned: vec![] });
        let found = judge(&diary(&DONE), &verdicts);
        assert_eq!(found, Findings { unverified: ["bad.tlog-proof".to_owned()].into(), ..Findings::default() });
        assert!(!found.clean());
    }
}
