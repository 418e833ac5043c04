//! The ledger on every road: how messages end and who is told, how cases change lanes, what partners and hubs may tell,
//! what time, people and retention change. In one commit or in several, the same becomes true.

use crate::alliance::envelope;
use crate::bench::*;
use crate::forge;
use rusqlite::Connection;
use tongban::admission::Ration;
use tongban::evidence::{AssertedBy, Code, Event, State};
use tongban::ledger::{Answer, Entry, Fate, Issuer, Notice, Route, RouteChange, Signed, Take, WitnessRefusal};
use tongban::limits::{LANE_MESSAGES_MAX, NOTICES_MS, TIME_TO_LIVE_MS};
use tongban::message::Digest;
use tongban::party::Member;
use tongban::reason::Reason;
use tongban::receipt::Receipt;
use tongban::store::{LaneName, Retention, RouteVersion, Seq};
use tongban::time::Time;
use tongban::tlog::receipt_file::verify;
use tongban::wire::pb::exchange as pb;

const DESK: (&str, &str) = ("640100", "desk");

fn by_hub() -> LaneName {
    LaneName::Gateway(hub())
}

fn by_yinchuan() -> LaneName {
    LaneName::Gateway(yinchuan())
}

/// A message of ours in a case.
fn in_case(case_no: &str) -> pb::Envelope {
    pb::Envelope { case_no: case_no.to_owned(), ..envelope(WINDOW, APPROVAL) }
}

/// Takes a message whose candidates are these lanes.
fn routed(envelope: &pb::Envelope, lanes: &[LaneName]) -> Entry {
    let verdict = Route { lane: lanes[0].clone(), others: lanes[1..].to_vec(), ..route(envelope) };
    taking(envelope.clone(), Ok(verdict), None, Ration::default())
}

/// Takes a message of another city's that these hubs carried here, to be carried on.
fn carried(envelope: &pb::Envelope, via: Vec<Member>, lanes: &[LaneName]) -> Entry {
    let origin = checked(theirs().honest(Event::SubmissionAccepted, envelope));
    let verdict = Route { lane: lanes[0].clone(), others: lanes[1..].to_vec(), ..route(envelope) };
    match taking(envelope.clone(), Ok(verdict), Some(origin), Ration::default()) {
        Entry::Take(take) => Entry::Take(Box::new(Take { via, ..*take })),
        other => panic!("{other:?}"),
    }
}

fn moved(answer: Answer) -> Vec<Seq> {
    let Answer::Moved(messages) = answer else { panic!("{answer:?}") };
    messages
}

fn refused(receipt: tongban::receipt::Checked) -> Fate {
    Fate::RelayRefused { receipt, text: "满员".to_owned() }
}

/// Does the same in one commit, or each in its own; the answers.
fn in_commits(bench: &mut Bench, one: bool, entries: Vec<Entry>) -> Vec<Answer> {
    match one {
        true => bench.apply(entries),
        false => entries.into_iter().map(|entry| bench.one(entry)).collect(),
    }
}

impl Bench {
    /// Dead letters: place, reason, lane and fate.
    fn dead(&self) -> Vec<(Seq, String, String, u8)> {
        let sql = Connection::open(self.folder.join("store.db")).unwrap();
        let rows = "SELECT d.seq, d.reason, l.name, d.fate FROM dead d JOIN lane l ON l.id = d.lane ORDER BY d.seq";
        let mut statement = sql.prepare(rows).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    /// State, in doubt, late.
    fn stands(&self, seq: Seq) -> (State, bool, bool) {
        let stored = self.readers.look(|look| look.message(seq)).unwrap().unwrap();
        (stored.standing.state, stored.standing.in_doubt, stored.standing.late)
    }

    /// What travels to a lane's owner: the event that the receipt tells, and whether it is another log's.
    fn travelling(&self, lane: &LaneName) -> Vec<(Event, bool)> {
        let receipt = |(leaf, received): (u64, Option<Digest>)| match received {
            Some(hash) => says(&self.readers.look(|look| look.received(hash)).unwrap()).event,
            None => says(&self.readers.look(|look| look.receipt(leaf)).unwrap()).event,
        };
        let rows = self.readers.look(|look| look.outbox(lane, None, 99)).unwrap();
        rows.into_iter().map(|row| (receipt(row), row.1.is_some())).collect()
    }

    /// Rows that are due: place and notices; and when the next is.
    fn due(&self, now: Time) -> (Vec<(Seq, u32)>, Option<Time>) {
        let (rows, next) = self.readers.look(|look| look.due(now, None, 99)).unwrap();
        (rows.into_iter().map(|row| (row.seq, row.notices)).collect(), next)
    }

    fn count(&self, sql: &str) -> u64 {
        let store = Connection::open(self.folder.join("store.db")).unwrap();
        store.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

// How messages end.

#[test]
fn each_end_has_its_leaf_its_state_and_its_dead_letter() {
    let failed = Fate::RelayFailed { reason: Reason::NoRoute.into(), status: 9, text: String::new() };
    let rows: [(Fate, Event, &[Reason], State, bool); 5] = [
        (Fate::Expired, Event::Expired, &[Reason::MessageExpired], State::Expired, true),
        (Fate::InDoubt, Event::RelayFailed, &[Reason::PartnerSilent, Reason::InDoubt], State::Failed, true),
        (Fate::Cancelled, Event::Cancelled, &[], State::Cancelled, false),
        (failed, Event::RelayFailed, &[Reason::NoRoute], State::Failed, true),
        (Fate::Exhausted, Event::RelayFailed, &[Reason::DeliveriesExhausted], State::Failed, true),
    ];
    for (fate, event, reasons, state, dead) in rows {
        let mut bench = Bench::new();
        let (seq, _) = bench.accepted(&envelope(WINDOW, APPROVAL));
        let in_doubt = matches!(fate, Fate::InDoubt);
        let evidence = says(&settled(bench.one(settle(line(), seq, fate))).expect("a leaf"));
        let codes: Vec<Code> = reasons.iter().map(|reason| (*reason).into()).collect();
        assert_eq!((evidence.event, evidence.reasons, evidence.attempts), (event, codes, 1), "{event}");
        let mut bench = bench.restart(|_| {}).unwrap();
        assert_eq!((bench.stands(seq), bench.queue(&line())), ((state, in_doubt, false), vec![]), "{event}");
        let letter = reasons.first().map(|reason| (seq, reason.code().to_owned(), line().to_string(), 0));
        assert_eq!(bench.dead(), letter.into_iter().collect::<Vec<_>>(), "{event}");
        assert_eq!(bench.dead().is_empty(), !dead, "{event}");
        assert!(settled(bench.one(settle(line(), seq, Fate::Expired))).is_none(), "{event}: it has ended");
    }
}

#[test]
fn a_handover_after_all_makes_a_doubtful_end_good_and_takes_the_dead_letter_back() {
    let fates: [fn(&pb::Envelope) -> Fate; 4] = [
        |_| Fate::InDoubt,
        |_| Fate::Expired,
        |_| Fate::Cancelled,
        |sent| refused(checked(theirs().honest(Event::RelayRejected, sent))),
    ];
    for one in [true, false] {
        for fate in fates {
            let mut bench = Bench::new();
            let sent = envelope(WINDOW, APPROVAL);
            let (seq, _) = bench.accepted(&sent);
            let handed_over = theirs().honest(Event::HandedOver, &sent);
            let entries = vec![settle(line(), seq, fate(&sent)), witness(vec![handed_over.clone()])];
            in_commits(&mut bench, one, entries);
            assert_eq!(bench.stands(seq), (State::Confirmed, false, true));
            assert_eq!(bench.dead(), [], "in one commit: {one}");
            let mut bench = bench.restart(|_| {}).unwrap();
            bench.one(witness(vec![handed_over]));
            assert_eq!(bench.stands(seq), (State::Confirmed, false, true), "once more");
            assert_eq!(bench.events(seq).last(), Some(&Event::Witnessed));
        }
    }
}

#[test]
fn a_hub_that_is_in_doubt_leaves_the_origin_in_doubt() {
    let mut bench = Bench::new();
    let sent = envelope(WINDOW, APPROVAL);
    let (seq, _) = bench.accepted(&sent);
    let mut south = hubs();
    let relayed = checked(south.honest(Event::RelayAccepted, &sent));
    bench.one(settle(line(), seq, Fate::Relayed(relayed)));
    let mut failed = south.says(Event::RelayFailed, &sent);
    failed.reasons = vec![Reason::PartnerSilent.into(), Reason::InDoubt.into()];
    let failed = south.issue(&failed);
    assert_eq!(witnessed(bench.one(witness_of(Issuer::MayRelay, vec![failed]))), [Ok(())]);
    assert_eq!(bench.stands(seq), (State::Failed, true, false));
    assert_eq!(bench.dead(), [(seq, "PARTNER_SILENT".to_owned(), line().to_string(), 0)]);
    bench.one(witness(vec![theirs().honest(Event::HandedOver, &sent)]));
    assert_eq!((bench.stands(seq), bench.dead()), ((State::Confirmed, false, true), vec![]));
}

#[test]
fn what_ended_by_the_partners_word_is_not_ended_again_by_ours() {
    let failed = Fate::RelayFailed { reason: Reason::NoRoute.into(), status: 9, text: String::new() };
    for fate in [Fate::Expired, Fate::InDoubt, Fate::Cancelled, Fate::Exhausted, failed, Fate::Diverted] {
        let mut bench = Bench::new();
        let sent = envelope(WINDOW, APPROVAL);
        bench.one(routed(&sent, &[line(), by_hub()]));
        bench.one(witness(vec![theirs().honest(Event::HandedOver, &sent)]));
        let size = bench.size();
        let what = format!("{fate:?}");
        assert!(settled(bench.one(settle(line(), 1, fate))).is_none(), "{what}");
        assert_eq!((bench.size(), bench.stands(1)), (size, (State::Confirmed, false, false)), "{what}");
        assert_eq!((bench.queue(&line()), bench.queue(&by_hub())), (vec![], vec![]), "{what}");
    }
}

#[test]
fn a_handover_rests_on_the_recipients_signature_where_there_is_one() {
    let mut bench = Bench::new();
    let messages: Vec<_> = (0..2).map(|_| bench.accepted(&envelope(WINDOW, ARCHIVE)).0).collect();
    let signed = Signed { certificate: vec![1], signature: vec![2] };
    let fates = [HANDED_OVER, Fate::HandedOver { signed: Some(signed) }];
    let by = messages.iter().zip(fates).map(|(seq, fate)| {
        let receipt = settled(bench.one(settle(mailbox("archive"), *seq, fate))).unwrap();
        says(&receipt).asserted_by
    });
    assert_eq!(by.collect::<Vec<_>>(), [Some(AssertedBy::Issuer), Some(AssertedBy::RecipientSignature)]);
    assert_eq!(bench.count("SELECT message FROM signature WHERE certificate = x'01' AND signature = x'02'"), 2);
    assert_eq!(bench.count("SELECT count(*) FROM signature s JOIN leaf l ON l.hash = s.leaf_hash"), 1);
}

// How cases change lanes.

#[test]
fn a_case_changes_its_lane_as_a_whole() {
    let mut bench = Bench::new();
    let both = [line(), by_hub()];
    bench.apply(vec![
        routed(&in_case("A"), &both),
        routed(&in_case("B"), &both),
        routed(&in_case("A"), &[line()]),
        routed(&in_case("A"), &[line(), by_yinchuan()]),
        routed(&in_case("A"), &[line(), by_yinchuan(), by_hub(), mailbox("archive")]),
        routed(&envelope(WINDOW, APPROVAL), &both),
    ]);
    assert_eq!(moved(bench.one(settle(line(), 1, Fate::Diverted))), [5, 1]);
    assert_eq!(bench.queue(&line()), [2, 3, 4, 6], "those that the new lane is no way for stay");
    assert_eq!(moved(bench.one(settle(line(), 6, Fate::Diverted))), [6], "a message without a case goes alone");
    let mut bench = bench.restart(|_| {}).unwrap();
    let rows = bench.readers.look(|look| look.queue(&by_hub(), 0, 9)).unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.seq, row.alternative)).collect();
    assert_eq!(rows, [(1, false), (5, true), (6, false)]);
    assert_eq!(moved(bench.one(settle(by_hub(), 5, Fate::Diverted))), [5], "from the message on");
    assert_eq!(bench.queue(&mailbox("archive")), [5]);
    assert!(settled(bench.one(settle(line(), 1, Fate::Diverted))).is_none(), "it is another lane's");
    assert_eq!(moved(bench.one(settle(line(), 3, Fate::Diverted))), [0; 0], "it has no other way");
    assert_eq!(bench.queue(&line()), [2, 3, 4]);
    assert!(bench.events(5) == [Event::SubmissionAccepted] && bench.dead().is_empty());
}

#[test]
fn what_comes_with_the_change_follows_it_in_either_order() {
    let both = [line(), by_hub()];
    for (order, one) in [("before", true), ("after", true), ("before", false), ("after", false)] {
        let mut bench = Bench::new();
        bench.apply(vec![routed(&in_case("A"), &both), routed(&in_case("A"), &both)]);
        let later = [in_case("A"), in_case("B"), in_case("A")];
        let mut entries = vec![routed(&later[0], &both), routed(&later[1], &both), routed(&later[2], &[line()])];
        let place = if order == "before" { 3 } else { 0 };
        entries.insert(place, settle(line(), 1, Fate::Diverted));
        in_commits(&mut bench, one, entries);
        let bench = bench.restart(|_| {}).unwrap();
        assert_eq!(bench.queue(&by_hub()), [1, 2, 3], "{order}, in one commit: {one}");
        assert_eq!(bench.queue(&line()), [4, 5], "{order}, in one commit: {one}");
        let lane = bench.readers.look(|look| look.message(3)).unwrap().unwrap().lane;
        assert_eq!(lane, by_hub(), "{order}, in one commit: {one}");
    }
}

#[test]
fn a_follower_that_ends_in_the_same_commit_does_not_come_along() {
    let both = [line(), by_hub()];
    let mut bench = Bench::new();
    bench.apply((0..3).map(|_| routed(&in_case("A"), &both)).collect());
    let mut answers = bench.apply(vec![
        settle(line(), 2, Fate::Cancelled),
        settle(line(), 1, Fate::Diverted),
        settle(line(), 3, Fate::Diverted),
        settle(by_hub(), 3, Fate::Cancelled),
    ]);
    assert!(settled(answers.remove(3)).is_some());
    assert!(settled(answers.remove(2)).is_none(), "it went with the first");
    assert_eq!(moved(answers.remove(1)), [3, 1]);
    let mut bench = bench.restart(|_| {}).unwrap();
    assert_eq!((bench.queue(&line()), bench.queue(&by_hub())), (vec![], vec![1]));
    assert_eq!([1, 2, 3].map(|seq| bench.state(seq)), [State::Accepted, State::Cancelled, State::Cancelled]);
    assert!(settled(bench.one(settle(by_hub(), 1, Fate::Cancelled))).is_some());
}

#[test]
fn a_refusal_with_another_way_left_is_witnessed_and_is_not_the_end() {
    let mut bench = Bench::new();
    let sent = envelope(APPROVAL, DESK);
    bench.one(carried(&sent, vec![], &[by_hub(), by_yinchuan()]));
    let (mut south, mut third) = (hubs(), thirds());
    let first = checked(south.honest(Event::RelayRejected, &sent));
    let hash = first.receipt.leaf_hash();
    assert_eq!(moved(bench.one(settle(by_hub(), 1, refused(first)))), [1]);
    assert_eq!(bench.events(1), [Event::RelayAccepted, Event::Witnessed]);
    assert_eq!((bench.state(1), bench.dead()), (State::Relayed, vec![]));
    assert_eq!(bench.readers.look(|look| look.detail(hash)).unwrap().as_deref(), Some("满员"));
    assert_eq!(bench.travelling(&line()), [], "its origin would take it for the end");
    assert_eq!(bench.queue(&by_yinchuan()), [1]);
    let last = checked(third.honest(Event::RelayRejected, &sent));
    assert!(settled(bench.one(settle(by_yinchuan(), 1, refused(last)))).is_some());
    assert_eq!((bench.state(1), bench.dead().len()), (State::Rejected, 1));
    assert_eq!(bench.travelling(&line()), [(Event::RelayRejected, true)]);
    assert_eq!(bench.queue(&by_yinchuan()), [0; 0]);
}

#[test]
fn a_full_lane_takes_nothing_new_and_counts_what_comes_and_goes() {
    let mut bench = Bench::new();
    let known = in_case("A");
    bench.apply(vec![routed(&known, &[line(), by_hub()]), routed(&in_case("B"), &[line()])]);
    let fill = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
         INSERT INTO queue (lane, seq, deliveries, parked_until) SELECT l.id, 1000000000 + i, 0, 0 FROM n, lane l \
         WHERE l.name = 'gateway/440600'",
        LANE_MESSAGES_MAX - 3
    );
    let fill = |folder: &std::path::Path| {
        Connection::open(folder.join("store.db")).unwrap().execute_batch(&fill).unwrap();
    };
    let mut bench = bench.restart(fill).unwrap();
    let fresh = || take(envelope(WINDOW, APPROVAL));
    let size = bench.size();
    let answers = bench.apply(vec![fresh(), fresh(), take(envelope(WINDOW, ARCHIVE)), routed(&known, &[line()])]);
    let full: Vec<_> =
        answers.into_iter().map(|answer| taken(answer).err().map(|why| (why.reason, why.receipt))).collect();
    assert_eq!(full, [None, Some((Reason::LaneFull, None)), None, None], "one place is left, and the known is known");
    assert_eq!(bench.size() - size, 3, "a full lane leaves no leaf");
    let refused = |answer| taken(answer).is_err();
    assert!(refused(bench.one(fresh())));
    // One leaves by its end, one by its change of lanes.
    bench.apply(vec![settle(line(), 2, Fate::Cancelled), settle(line(), 2, Fate::Cancelled)]);
    bench.one(settle(line(), 1, Fate::Diverted));
    let answers = bench.apply(vec![fresh(), fresh(), fresh()]);
    assert_eq!(answers.into_iter().map(refused).collect::<Vec<_>>(), [false, false, true]);
}

// What others tell.

#[test]
fn what_a_hub_hears_travels_back_the_way_the_message_came() {
    for (via, home) in [(vec![], line()), (vec![hub()], by_hub()), (vec![yinchuan(), hub()], by_hub())] {
        let mut bench = Bench::new();
        let sent = envelope(APPROVAL, DESK);
        bench.one(carried(&sent, via.clone(), &[by_yinchuan()]));
        let mut third = thirds();
        let relayed = checked(third.honest(Event::RelayAccepted, &sent));
        bench.one(settle(by_yinchuan(), 1, Fate::Relayed(relayed)));
        let receipts = vec![third.honest(Event::Consigned, &sent), third.honest(Event::HandedOver, &sent)];
        bench.one(witness(receipts.clone()));
        let mut bench = bench.restart(|_| {}).unwrap();
        bench.one(witness(receipts));
        let all = [Event::RelayAccepted, Event::Consigned, Event::HandedOver].map(|event| (event, true));
        assert_eq!(bench.travelling(&home), all, "by {via:?}, each once");
        let others = [line(), by_hub(), by_yinchuan()].into_iter().filter(|lane| *lane != home);
        assert!(others.into_iter().all(|lane| bench.travelling(&lane).is_empty()), "by {via:?}");
        assert_eq!(bench.state(1), State::Confirmed);
    }
}

#[test]
fn an_own_system_gets_the_receipts_of_its_messages_where_it_wants_them() {
    for wanted in [true, false] {
        let mut bench = Bench::new();
        let folder = std::mem::take(&mut bench.folder);
        drop(bench);
        let (core, readers) = open(&folder).unwrap();
        let names = ["window"].into_iter().filter(|_| wanted).map(|name| name.parse().unwrap()).collect();
        let mut bench = Bench { core: core.with_receipt_readers(names), readers, folder };
        let sent = envelope(WINDOW, APPROVAL);
        bench.apply(vec![take(sent.clone()), take(envelope(ARCHIVE, APPROVAL)), take(envelope(WINDOW, ARCHIVE))]);
        bench.one(witness(vec![theirs().honest(Event::RelayAccepted, &sent)]));
        bench.apply(vec![settle(line(), 2, Fate::Expired), settle(mailbox("archive"), 3, HANDED_OVER)]);
        let all = [(Event::Consigned, false), (Event::RelayAccepted, true), (Event::HandedOver, false)];
        let expected = if wanted { all.to_vec() } else { vec![] };
        assert_eq!(bench.travelling(&mailbox("window")), expected);
        assert_eq!(bench.travelling(&mailbox("archive")), []);
    }
}

#[test]
fn who_may_tell_what() {
    use Event::{Cancelled, Consigned, ConsignmentFailed, Delayed, Expired, HandedOver, HandoverFailed, RelayAccepted};
    use Event::{RelayFailed, RelayRejected, SubmissionAccepted, SubmissionRejected};
    let on_the_way = [RelayAccepted, RelayRejected, RelayFailed, Expired, Delayed];
    let at_the_end = [Consigned, ConsignmentFailed, HandedOver, HandoverFailed];
    let at_the_origin = [SubmissionAccepted, SubmissionRejected, Cancelled];
    let (event, issuer) = (Err(WitnessRefusal::Event), Err(WitnessRefusal::Issuer));
    type Log = fn() -> forge::Forge;
    type Row = (&'static str, Log, Issuer, [Result<(), WitnessRefusal>; 3]);
    let rows: [Row; 4] = [
        ("the recipient's gateway", theirs, Issuer::Other, [Ok(()), Ok(()), event]),
        ("a recipient's gateway that may relay", theirs, Issuer::MayRelay, [Ok(()), Ok(()), event]),
        ("a hub that may relay", hubs, Issuer::MayRelay, [Ok(()), event, event]),
        ("any other", hubs, Issuer::Other, [issuer, issuer, issuer]),
    ];
    for (who, log, may, expected) in rows {
        let (mut bench, mut log) = (Bench::new(), log());
        for (events, expected) in [on_the_way.as_slice(), &at_the_end, &at_the_origin].into_iter().zip(expected) {
            for told in events {
                let sent = envelope(WINDOW, APPROVAL);
                let (seq, _) = bench.accepted(&sent);
                let receipt = log.honest(*told, &sent);
                assert_eq!(witnessed(bench.one(witness_of(may, vec![receipt]))), [expected], "{who}: {told}");
                assert_eq!(bench.events(seq).len(), 1 + usize::from(expected.is_ok()), "{who}: {told}");
            }
        }
    }
}

#[test]
fn nobody_tells_us_what_is_in_our_own_mailboxes() {
    let mut bench = Bench::new();
    let sent = envelope(APPROVAL, ARCHIVE);
    bench.one(take_theirs(sent.clone()));
    let receipts = [Event::RelayRejected, Event::RelayFailed, Event::Expired].map(|event| hubs().honest(event, &sent));
    let each = witnessed(bench.one(witness_of(Issuer::MayRelay, receipts.into())));
    assert_eq!(each, [Err(WitnessRefusal::Issuer); 3]);
    assert_eq!((bench.state(1), bench.queue(&mailbox("archive"))), (State::Consigned, vec![1]));
}

// Time.

fn notice(lane: LaneName, seq: Seq, next_attempt_at: Option<Time>) -> Entry {
    Entry::Notice(Notice { lane, seq, next_attempt_at })
}

#[test]
fn a_sender_is_told_of_a_delay_once_for_each_moment_that_passed() {
    let mut bench = Bench::new();
    bench.apply(vec![take(envelope(WINDOW, APPROVAL)), take_theirs(envelope(APPROVAL, ARCHIVE))]);
    let [hour, day] = NOTICES_MS;
    let expires = NOW.plus_ms(TIME_TO_LIVE_MS);
    let mut at = |ms: u64, entries| {
        let (answers, rung) = bench.core.apply(NOW.plus_ms(ms), entries).unwrap();
        (answers.into_iter().map(settled).collect::<Vec<_>>(), rung.due_at)
    };
    let ours = |next| notice(line(), 1, next);
    let (none, due) = at(hour - 1, vec![ours(None)]);
    assert_eq!((none, due), (vec![None], Some(NOW.plus_ms(hour))), "not yet");
    let next = NOW.plus_ms(hour + 5);
    let (mut told, due) = at(hour, vec![ours(Some(next)), ours(Some(next))]);
    assert_eq!((told.pop().unwrap(), due), (None, Some(NOW.plus_ms(day))), "once in a commit");
    let evidence = says(&told.pop().unwrap().expect("a leaf"));
    assert_eq!((evidence.event, evidence.next_attempt_at), (Event::Delayed, Some(next)));
    assert_eq!(at(hour + 1, vec![ours(None)]).0, [None], "once in all");
    let (told, due) = at(day + 1, vec![ours(None), notice(mailbox("archive"), 2, None)]);
    assert_eq!(told.iter().flatten().map(|told| says(told).next_attempt_at).collect::<Vec<_>>(), [None, None]);
    assert_eq!(due, Some(expires), "the deadline is next");
    assert_eq!(at(day + 2, vec![ours(None), notice(by_hub(), 1, None), notice(line(), 9, None)]).0, [None, None, None]);
    assert_eq!(bench.events(1), [Event::SubmissionAccepted, Event::Delayed, Event::Delayed]);
    assert_eq!(bench.events(2), [Event::RelayAccepted, Event::Consigned, Event::Delayed], "one for both moments");
    assert_eq!(bench.travelling(&line()), [(Event::Consigned, false), (Event::Delayed, false)]);
    assert_eq!((bench.state(1), bench.state(2)), (State::Accepted, State::Consigned));
    assert_eq!(bench.due(NOW.plus_ms(day + 3)), (vec![], Some(expires)));
    assert_eq!(bench.due(expires).0, [(1, 2), (2, 2)]);
    bench.one(settle(line(), 1, Fate::Expired));
    assert_eq!(settled(bench.one(notice(line(), 1, None))), None, "it has ended");
    assert_eq!(bench.due(expires).0, [(2, 2)]);
}

#[test]
fn a_deadline_before_the_first_notice_is_what_is_looked_at() {
    let mut bench = Bench::new();
    let sent = envelope(WINDOW, APPROVAL);
    let soon = NOW.plus_ms(60_000);
    let verdict = Route { expires_at: soon, ..route(&sent) };
    let (_, rung) = bench.core.apply(NOW, vec![taking(sent, Ok(verdict), None, Ration::default())]).unwrap();
    assert_eq!(rung.due_at, Some(soon));
    assert_eq!((bench.due(NOW), bench.due(soon).0), ((vec![], Some(soon)), vec![(1, 0)]));
    assert_eq!(says(&bench.own(1).remove(0).receipt).expires_at, Some(soon));
}

// What people change.

fn change(expected_version: u64, owner: &str, text: Option<&str>) -> Entry {
    let tables = vec![(owner.parse().unwrap(), text.map(str::to_owned))];
    let (actor, action) = ("spiffe://alliance.example/ops".to_owned(), "publish".to_owned());
    Entry::Routes(Box::new(RouteChange { expected_version, tables, actor, action }))
}

fn version(answer: Answer) -> Result<u64, u64> {
    let Answer::Routes(version) = answer else { panic!("{answer:?}") };
    version
}

#[test]
fn routing_tables_change_only_from_the_version_that_was_seen() {
    let mut bench = Bench::new();
    let none = bench.readers.look(|look| look.routes(None)).unwrap();
    assert_eq!(none, (0, vec![]));
    assert_eq!(version(bench.one(change(0, "440600", Some("a")))), Ok(1));
    let answers = bench.apply(vec![
        change(0, "440600", Some("stale")),
        change(1, "640100", Some("b")),
        change(1, "640100", Some("stale")),
        change(2, "640100", Some("too early")),
    ]);
    assert_eq!(answers.into_iter().map(version).collect::<Vec<_>>(), [Err(1), Ok(2), Err(2), Err(2)]);
    let mut bench = bench.restart(|_| {}).unwrap();
    assert_eq!(version(bench.one(change(2, "440600", None))), Ok(3));
    assert_eq!(version(bench.one(change(3, "440600", Some("c")))), Ok(4));
    let set = |version| {
        let (version, tables) = bench.readers.look(|look| look.routes(version)).unwrap();
        (version, tables.into_iter().map(|(owner, text)| format!("{}={text}", owner.as_str())).collect::<Vec<_>>())
    };
    let sets = [Some(1), Some(2), Some(3), None].map(set);
    let tables = |tables: &[&str]| tables.iter().map(|table| (*table).to_owned()).collect::<Vec<_>>();
    let expected = [&["440600=a"][..], &["440600=a", "640100=b"], &["640100=b"], &["440600=c", "640100=b"]];
    assert_eq!(sets.to_vec(), (1..).zip(expected.map(tables)).collect::<Vec<_>>());
    let history = bench.readers.look(|look| look.route_versions(2)).unwrap();
    let (actor, action) = ("spiffe://alliance.example/ops".to_owned(), "publish".to_owned());
    assert_eq!(history[0], RouteVersion { version: 4, at: NOW, actor, action });
    assert_eq!(history.iter().map(|row| row.version).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(bench.size(), 4, "one leaf of audit for each change that was made");
}

fn discard(messages: Vec<Seq>) -> Entry {
    Entry::Discard { messages, why: "旧件".to_owned(), actor: "spiffe://alliance.example/ops".to_owned() }
}

fn discarded(answer: Answer) -> u64 {
    let Answer::Discarded(count) = answer else { panic!("{answer:?}") };
    count
}

#[test]
fn a_dead_letter_is_set_aside_once() {
    let mut bench = Bench::new();
    bench.apply((0..3).map(|_| take(envelope(WINDOW, APPROVAL))).collect());
    bench.apply(vec![settle(line(), 1, Fate::Expired), settle(line(), 2, Fate::Cancelled)]);
    let size = bench.size();
    assert_eq!(discarded(bench.one(discard(vec![1, 1, 2, 3, 99]))), 1, "only what is dead, and once");
    assert_eq!(discarded(bench.one(discard(vec![1]))), 0, "again");
    assert_eq!(bench.size() - size, 1, "one leaf of audit");
    assert_eq!(bench.dead(), [(1, "MESSAGE_EXPIRED".to_owned(), line().to_string(), 2)]);
    assert_eq!(bench.count("SELECT count(*) FROM dead WHERE why = '旧件'"), 1);
    let answers = bench.apply(vec![settle(line(), 3, Fate::InDoubt), discard(vec![3])]);
    assert_eq!(discarded(answers.into_iter().last().unwrap()), 1, "one that died in the same commit");
}

#[test]
fn a_redriven_dead_letter_is_tied_to_the_message_that_replaces_it() {
    for one in [true, false] {
        let mut bench = Bench::new();
        let (lost, open) = (envelope(WINDOW, APPROVAL), envelope(WINDOW, APPROVAL));
        bench.apply(vec![take(lost.clone()), take(open.clone())]);
        let again =
            |from, of: &pb::Envelope| pb::Envelope { redrive_of: of.message_id.clone(), ..envelope(from, APPROVAL) };
        let new = again(WINDOW, &lost);
        let others = vec![take(again(ARCHIVE, &lost)), take(again(WINDOW, &open))];
        in_commits(&mut bench, one, vec![settle(line(), 1, Fate::Expired)].into_iter().chain(others).collect());
        let tied = |bench: &Bench, seq| bench.readers.look(|look| look.message(seq)).unwrap().unwrap().redriven_as;
        assert_eq!((tied(&bench, 1), tied(&bench, 2)), (None, None), "another's, and one that is not dead");
        assert_eq!(bench.dead()[0].3, 0);
        let answers = in_commits(&mut bench, one, vec![take(new.clone()), discard(vec![1])]);
        assert_eq!(discarded(answers.into_iter().last().unwrap()), 0, "it is redriven");
        assert_eq!((tied(&bench, 1), bench.dead()[0].3), (Some(new.message_id.parse().unwrap()), 1));
    }
}

#[test]
fn a_reply_is_tied_to_what_it_answers_where_both_are_of_the_same_two_cities() {
    for one in [true, false] {
        let mut bench = Bench::new();
        let asked = envelope(WINDOW, APPROVAL);
        let answers = |from| pb::Envelope { in_reply_to: asked.message_id.clone(), ..envelope(from, WINDOW) };
        let (reply, second) = (answers(APPROVAL), answers(APPROVAL));
        let strangers = take(answers(ARCHIVE));
        in_commits(&mut bench, one, vec![take(asked.clone()), strangers]);
        let tied = |bench: &Bench| bench.readers.look(|look| look.message(1)).unwrap().unwrap().replied_by;
        assert_eq!(tied(&bench), None, "another city's");
        let (_, rung) = bench.core.apply(NOW, vec![take_theirs(reply.clone())]).unwrap();
        let rung: Vec<_> = rung.replies.iter().map(|(key, seq)| (key.id.to_string(), *seq)).collect();
        assert_eq!(rung, [(asked.message_id.clone(), 3)]);
        bench.one(take_theirs(second));
        assert_eq!(tied(&bench), Some(reply.message_id.parse().unwrap()), "the first stays");
    }
}

// Retention.

const AGES: Retention =
    Retention { bodies_ms: 1_000, envelopes_ms: 2_000, evidence_ms: 3_000, audit_ms: 2_500, tests_ms: 500 };

/// What is old enough after `ms`, taken; the gateway stops and starts again.
fn forget(mut bench: Bench, ms: u64) -> (Bench, [Vec<u64>; 4]) {
    let old = bench.readers.look(|look| look.forgettable(NOW.plus_ms(ms), &AGES, 99)).unwrap();
    let taken = [&old.bodies, &old.envelopes, &old.evidence, &old.leaves].map(|seqs| seqs.clone());
    bench.one(Entry::Forget(Box::new(old)));
    (bench.restart(|_| {}).expect("the tree is whole"), taken)
}

/// Every receipt of the log that still reads, and that it holds.
fn log(bench: &Bench) -> Vec<Option<Receipt>> {
    let receipts = (0..bench.size()).map(|leaf| bench.readers.look(|look| look.receipt(leaf)).ok());
    let trusted = [key().verifying_key().clone()];
    let holds = |receipt: &Receipt| verify(receipt.proof.to_text().as_bytes(), &receipt.leaf, &trusted).is_ok();
    receipts.inspect(|receipt| assert!(receipt.as_ref().is_none_or(holds))).collect()
}

#[test]
fn retention_takes_each_kind_at_its_age_and_the_tree_keeps_verifying() {
    let mut bench = Bench::new();
    let (taken_over, foreign) = (envelope(WINDOW, ARCHIVE), envelope(APPROVAL, ARCHIVE));
    let archive = || mailbox("archive");
    bench.apply(vec![take(taken_over.clone()), take(envelope(WINDOW, APPROVAL)), take(envelope(WINDOW, ARCHIVE))]);
    bench.apply(vec![take_theirs(foreign), take(envelope(WINDOW, ARCHIVE)), change(0, "440600", Some("a"))]);
    let audit = bench.size() - 1;
    let refused = Fate::Refused { code: "NO".parse().unwrap(), text: "材料不全".to_owned() };
    bench.apply([1, 4, 5].map(|seq| settle(archive(), seq, HANDED_OVER)).into());
    bench.one(settle(archive(), 3, refused));
    let (first, whole) = (bench.own(1).remove(0).receipt, log(&bench));
    assert!(whole.iter().all(Option::is_some) && whole.len() > 12);
    let message = |bench: &Bench, seq| bench.readers.look(|look| look.message(seq)).unwrap();
    let none: [Vec<u64>; 4] = Default::default();

    let (bench, old) = forget(bench, 999);
    assert_eq!(old, none);
    assert_eq!(bench.count("SELECT count(*) FROM detail"), 1);
    let (bench, old) = forget(bench, 1_000);
    assert_eq!(old, [vec![1, 3, 4, 5], vec![], vec![], vec![]], "bodies of what has ended");
    let bodies = [1, 2, 3, 4, 5].map(|seq| message(&bench, seq).unwrap().body.is_some());
    assert_eq!((bodies, bench.count("SELECT count(*) FROM detail")), ([false, true, false, false, false], 0));
    assert_eq!((log(&bench), bench.dead().len()), (whole.clone(), 1));

    let (mut bench, old) = forget(bench, 2_000);
    assert_eq!(old, [vec![], vec![1, 3, 4, 5], vec![], vec![]], "envelopes");
    assert_eq!([1, 2, 3].map(|seq| message(&bench, seq).unwrap().header.is_empty()), [true, false, true]);
    assert_eq!((log(&bench), bench.dead().len()), (whole.clone(), 0));
    assert_eq!(taken(bench.one(take(taken_over))).unwrap(), first, "what idempotency needs stays");
    assert_eq!((bench.events(4).len(), message(&bench, 4).unwrap().origin_receipt.is_some()), (3, true));

    let (bench, old) = forget(bench, 2_500);
    assert_eq!(old, [vec![], vec![], vec![], vec![audit]], "acts of people");
    let gone = |log: Vec<Option<Receipt>>| (0..).zip(log).filter(|(_, receipt)| receipt.is_none()).map(|(at, _)| at);
    assert_eq!(gone(log(&bench)).collect::<Vec<_>>(), [audit]);
    assert!(!bench.travelling(&line()).is_empty());

    let leaves = |bench: &Bench, seq| bench.own(seq).into_iter().map(|own| own.receipt.proof.index).collect::<Vec<_>>();
    let mut expected: Vec<_> = [1, 3, 4].into_iter().flat_map(|seq| leaves(&bench, seq)).chain([audit]).collect();
    expected.sort_unstable();
    let (mut bench, old) = forget(bench, 3_000);
    assert_eq!(old, [vec![], vec![], vec![1, 3, 4], vec![]], "evidence, but of the newest message");
    assert_eq!(gone(log(&bench)).collect::<Vec<_>>(), expected);
    let stays = log(&bench).into_iter().zip(&whole).all(|(now, then)| now.is_none() || now == *then);
    assert!(stays, "what is left is what it was");
    assert_eq!([1, 2, 3, 4, 5].map(|seq| message(&bench, seq).is_some()), [false, true, false, false, true]);
    assert_eq!((bench.count("SELECT count(*) FROM received"), bench.travelling(&line())), (0, vec![]));
    let (seq, _) = bench.accepted(&envelope(WINDOW, ARCHIVE));
    assert_eq!((seq, bench.queue(&line())), (6, vec![2]), "the gateway goes on");
    let (bench, old) = forget(bench, 3_000);
    assert_eq!(old, [vec![], vec![], vec![5], vec![]]);
    assert_eq!(bench.events(6), [Event::SubmissionAccepted, Event::Consigned]);
    assert_eq!(bench.readers.look(|look| look.forgettable(NOW.plus_ms(9_000), &AGES, 99)).unwrap().evidence, [0; 0]);
}

#[test]
fn acts_of_people_go_at_the_age_of_the_audit_and_refusals_at_that_of_evidence() {
    let mut bench = Bench::new();
    bench.apply((0..3).map(|_| take(envelope(WINDOW, APPROVAL))).collect());
    bench.apply((1..=3).map(|seq| settle(line(), seq, Fate::Expired)).collect());
    let alone = bench.size();
    let actor = "spiffe://alliance.example/ops".to_owned();
    let redrive = Entry::Act { act: "dead.redrive", actor, object: "2 letters".to_owned() };
    let refused = taking(envelope(WINDOW, APPROVAL), Err(Reason::NoRoute), None, Ration::default());
    bench.apply(vec![redrive, discard(vec![1, 2]), refused, change(0, "440600", Some("a"))]);
    let (acts, refusal) = ([alone, alone + 1, alone + 2, alone + 4], alone + 3);
    let whole = log(&bench);
    assert_eq!((bench.size(), whole.iter().all(Option::is_some)), (alone + 5, true));

    let pieces = bench.readers.look(|look| look.forgettable(NOW.plus_ms(9_000), &AGES, 3)).unwrap().leaves;
    assert_eq!(pieces.len(), 3, "a bounded piece");
    for (ms, leaves) in
        [(2_499, vec![]), (2_500, acts.to_vec()), (2_999, vec![]), (3_000, vec![refusal]), (9_000, vec![])]
    {
        let (next, mut old) = forget(bench, ms);
        old[3].sort_unstable();
        assert_eq!(old[3], leaves, "after {ms} ms");
        bench = next;
    }
    // Of messages only the newest is left; every receipt that is, is what it was.
    let stays = bench.own(3).iter().map(|own| own.receipt.proof.index).collect::<Vec<_>>();
    assert!(log(&bench).iter().zip(&whole).enumerate().all(|(at, (now, then))| match now {
        Some(_) => stays.contains(&(at as u64)) && now == then,
        None => !stays.contains(&(at as u64)),
    }));
    assert_eq!(bench.accepted(&envelope(WINDOW, ARCHIVE)).0, 4, "the gateway goes on");
}

#[test]
fn retention_takes_a_bounded_piece_at_a_time() {
    let mut bench = Bench::new();
    bench.apply((0..5).map(|_| take(envelope(WINDOW, ARCHIVE))).collect());
    bench.apply((1..=5).map(|seq| settle(mailbox("archive"), seq, HANDED_OVER)).collect());
    let mut pieces = vec![];
    loop {
        let old = bench.readers.look(|look| look.forgettable(NOW.plus_ms(5_000), &AGES, 2)).unwrap();
        if old.is_empty() {
            break;
        }
        pieces.push([old.bodies.len(), old.envelopes.len(), old.evidence.len()]);
        bench.one(Entry::Forget(Box::new(old)));
    }
    assert!(pieces.iter().flatten().all(|count| *count <= 2) && pieces.len() >= 3, "{pieces:?}");
    assert_eq!(bench.count("SELECT count(*) FROM message WHERE seq < 5"), 0);
    assert_eq!(bench.count("SELECT count(*) FROM message WHERE body IS NOT NULL OR header <> x''"), 0);
}
