//! What a lane promises when a message does not simply arrive, one claim a test: deadlines, cancelling, failover, lives,
//! receipts.

use crate::desk::{DEADLINE, Desk, delivered, desk, due, expiring, row, settle};
use tongban::lanes::{Answer, AtDeadline, Breaker, Effect, Event, Fate, Lane, Outcome, Policy, Queued, Rest, Seq};
use tongban::time::Time;

/// A way in which attempt 1 can fail.
type Failure = fn(&mut Desk) -> Vec<Effect>;

// Deadlines.

#[test]
fn what_is_past_its_deadline_is_not_delivered_and_ends_as_its_lane_and_its_doubt_say() {
    let (push, mailbox, pull) = (Policy::push(), Policy::mailbox(), Policy::pull());
    assert_eq!(pull.at_deadline, AtDeadline::Wait { ms: 60_000 });
    let expired = settle(1, 0, Fate::Expired);
    let in_doubt = settle(1, 0, Fate::InDoubt);
    let table = [
        ("push", &push, false, 0, expired.clone()),
        ("push in doubt", &push, true, 0, Effect::Ask { seq: 1 }),
        ("mailbox", &mailbox, false, 0, expired.clone()),
        ("mailbox in doubt", &mailbox, true, 0, expired.clone()),
        ("pull", &pull, false, 0, expired),
        ("pull in doubt", &pull, true, 60_000, in_doubt),
    ];
    for (name, policy, doubt, grace, end) in table {
        for by_word in [false, true] {
            let mut early = desk(policy.clone(), vec![expiring(1, "a", doubt), row(2, "a")]);
            early.now = DEADLINE.plus_ms(grace).minus_ms(1);
            assert_eq!(early.on(due(1, doubt)), [], "{name}: too early");
            assert_eq!(early.credits(1, 1), [1], "{name}: a millisecond earlier it goes");
            let mut late = desk(policy.clone(), vec![expiring(1, "a", doubt), row(2, "a")]);
            late.now = DEADLINE.plus_ms(grace);
            let event = if by_word { due(1, doubt) } else { Event::Credits { session: 1, count: 9 } };
            assert_eq!(late.on(event), std::slice::from_ref(&end), "{name}: word {by_word}");
            late.credits(1, 9);
            assert_eq!(late.on(due(1, doubt)), [], "{name}: it is ending already");
            assert_eq!(delivered(&late.on(Event::Settled { seq: 1 })), [2], "{name}: its case goes on");
        }
    }
}

#[test]
fn the_partner_that_is_asked_decides_what_a_message_in_doubt_came_to() {
    for (answer, fate) in [(Answer::Has, Fate::Found), (Answer::HasNot, Fate::Expired), (Answer::Silent, Fate::InDoubt)]
    {
        let mut desk = desk(Policy::push(), vec![expiring(1, "a", true), row(2, "a")]);
        desk.now = DEADLINE;
        assert_eq!(desk.on(due(1, true)), [Effect::Ask { seq: 1 }]);
        assert_eq!((desk.lane.stats(desk.now).asking, desk.credits(1, 9)), (1, vec![]), "it holds its case");
        assert_eq!(desk.on(Event::Asked { seq: 1, answer }), [settle(1, 0, fate)], "{answer:?}");
        assert_eq!(desk.on(Event::Asked { seq: 1, answer }), [], "once");
        assert_eq!(desk.lane.stats(desk.now).ignored, 1);
        assert_eq!(delivered(&desk.on(Event::Settled { seq: 1 })), [2]);
    }
}

#[test]
fn a_delivery_under_way_at_the_deadline_is_waited_for_and_its_answer_counts() {
    let table: [(&str, Outcome, Effect); 6] = [
        ("taken", Outcome::Taken, settle(1, 1, Fate::Taken { attempt: 1 })),
        ("later", Outcome::RetryLater { at: DEADLINE.plus_ms(9) }, settle(1, 1, Fate::Expired)),
        ("not now", Outcome::NotNow { at: DEADLINE.plus_ms(9) }, settle(1, 0, Fate::Expired)),
        ("throttled", Outcome::Throttled { at: DEADLINE.plus_ms(9) }, settle(1, 0, Fate::Expired)),
        ("not sent", Outcome::Unreachable, settle(1, 0, Fate::Expired)),
        ("no answer", Outcome::NoAnswer, Effect::Ask { seq: 1 }),
    ];
    for (name, outcome, end) in table {
        let mut desk = desk(Policy::push(), vec![expiring(1, "a", false)]);
        desk.now = DEADLINE.minus_ms(1_000);
        desk.credits(1, 1);
        desk.now = DEADLINE;
        assert_eq!(desk.on(due(1, false)), [], "{name}");
        assert_eq!(desk.answer(1, 1, outcome), [end], "{name}");
    }
}

#[test]
fn every_way_of_hearing_nothing_leaves_a_message_in_doubt_until_it_ends() {
    let table: [(&str, Failure); 3] = [
        ("no answer", |desk| desk.answer(1, 1, Outcome::NoAnswer)),
        ("closed", |desk| desk.on(Event::Closed { session: 1 })),
        ("timed out", |desk| desk.after(60_000, Event::Tick)),
    ];
    for policy in [Policy::push(), Policy::pull()] {
        for (name, fail) in table {
            let asks = policy.at_deadline == AtDeadline::Ask;
            let mut desk = desk(policy.clone(), vec![expiring(1, "a", false)]);
            desk.credits(1, 1);
            fail(&mut desk);
            desk.now = DEADLINE;
            let first = desk.on(due(1, false));
            assert_eq!(first == [Effect::Ask { seq: 1 }], asks, "{name}: {first:?}");
            desk.now = DEADLINE.plus_ms(60_000);
            let then = desk.on(due(1, false));
            assert_eq!(then == [settle(1, 1, Fate::InDoubt)], !asks, "{name}: {then:?}");
        }
    }
}

#[test]
fn a_doubt_that_only_the_store_knows_of_counts_at_the_deadline() {
    let mut desk = desk(Policy::push(), vec![expiring(1, "a", false)]);
    desk.now = DEADLINE.minus_ms(1);
    assert_eq!(desk.on(due(1, true)), []);
    assert_eq!(desk.after(1, Event::Credits { session: 1, count: 1 }), [Effect::Ask { seq: 1 }]);
}

#[test]
fn a_row_that_is_not_in_memory_ends_by_word_and_does_not_come_back_by_a_read() {
    let mut desk = desk(Policy::push(), vec![]);
    desk.now = DEADLINE;
    desk.on(Event::Enqueued { seq: 5 });
    assert_eq!(desk.on(due(5, false)), [settle(5, 0, Fate::Expired)]);
    let rows = vec![expiring(5, "a", false), row(6, "a"), row(7, "")];
    assert_eq!(delivered(&desk.on(Event::Loaded { rows, end: true })), [0; 0], "no credits");
    assert_eq!(desk.credits(1, 9), [7], "the read says which case it holds");
    assert_eq!(delivered(&desk.on(Event::Settled { seq: 5 })), [6]);
    desk.on(Event::Enqueued { seq: 8 });
    assert_eq!(desk.on(due(8, false)), [settle(8, 0, Fate::Expired)]);
    assert_eq!(desk.on(Event::Settled { seq: 8 }), []);
    let rows = vec![expiring(8, "b", false), row(9, "b")];
    assert_eq!(delivered(&desk.on(Event::Loaded { rows, end: true })), [9], "an old answer shows 8");
}

#[test]
fn a_row_that_was_only_named_does_not_hide_what_was_committed_with_it() {
    let mut desk = desk(Policy::push(), vec![]);
    desk.now = DEADLINE;
    assert_eq!(desk.on(due(5, true)), [Effect::Ask { seq: 5 }]);
    assert!(matches!(desk.on(Event::Enqueued { seq: 5 })[..], [Effect::Load { .. }]));
}

#[test]
fn a_lane_without_room_lets_a_deadline_pass_and_keeps_what_should_be_cancelled() {
    let policy = Policy { loaded_max: 1, parked_max: 0, ..Policy::push() };
    let mut desk = desk(policy, vec![row(1, "")]);
    desk.now = DEADLINE;
    assert_eq!(desk.on(due(5, false)), []);
    assert_eq!(desk.on(Event::Cancel { seq: 5, doubt: false }), [Effect::Kept { seq: 5 }]);
    assert_eq!(desk.lane.stats(desk.now).loaded, 1);
}

// Cancelling.

#[test]
fn what_nobody_can_have_is_cancelled_wherever_it_stands() {
    for seq in 1..=5 {
        let parked = Queued { parked_until: DEADLINE, ..row(3, "b") };
        let mut desk = desk(Policy::push(), vec![row(1, "a"), row(2, "a"), parked, row(4, "")]);
        let place = ["ready", "behind", "parked", "without case", "not in memory"][seq as usize - 1];
        let cancelled = desk.on(Event::Cancel { seq, doubt: false });
        assert_eq!(cancelled, [settle(seq, 0, Fate::Cancelled)], "{place}");
        assert_eq!(desk.on(Event::Cancel { seq, doubt: false }), [], "{place}: once");
        let rest: Vec<Seq> = [1, 4].into_iter().filter(|other| *other != seq).collect();
        assert_eq!(desk.credits(1, 9), rest, "{place}");
    }
}

#[test]
fn a_delivery_under_way_is_waited_for_before_it_is_cancelled_and_taken_wins() {
    let later = Outcome::RetryLater { at: DEADLINE };
    let table: [(&str, Policy, Outcome, Effect); 6] = [
        ("taken", Policy::push(), Outcome::Taken, settle(1, 1, Fate::Taken { attempt: 1 })),
        ("later", Policy::push(), later, settle(1, 1, Fate::Cancelled)),
        ("not now", Policy::push(), Outcome::NotNow { at: DEADLINE }, settle(1, 0, Fate::Cancelled)),
        ("not sent", Policy::push(), Outcome::Unreachable, settle(1, 0, Fate::Cancelled)),
        ("no answer", Policy::push(), Outcome::NoAnswer, Effect::Ask { seq: 1 }),
        ("no answer, pulled", Policy::pull(), Outcome::NoAnswer, Effect::Kept { seq: 1 }),
    ];
    for (name, policy, outcome, end) in table {
        let mut desk = desk(policy, vec![row(1, "a")]);
        desk.credits(1, 1);
        assert_eq!(desk.on(Event::Cancel { seq: 1, doubt: false }), [], "{name}");
        assert_eq!(desk.answer(1, 1, outcome)[0], end, "{name}");
        let kept = end == Effect::Kept { seq: 1 };
        assert_eq!(desk.credits(1, 1) == [1], kept, "{name}");
        if kept {
            assert!(!desk.answer(1, 2, later).contains(&end), "it was said once");
        }
    }
}

#[test]
fn what_is_in_doubt_is_cancelled_when_the_partner_has_it_not_and_goes_on_when_it_does_not_say() {
    for (answer, fate) in [(Answer::Has, Fate::Found), (Answer::HasNot, Fate::Cancelled)] {
        let mut desk = desk(Policy::push(), vec![row(1, "a"), row(2, "a")]);
        assert_eq!(desk.on(Event::Cancel { seq: 1, doubt: true }), [Effect::Ask { seq: 1 }]);
        assert_eq!(desk.on(Event::Asked { seq: 1, answer }), [settle(1, 0, fate)], "{answer:?}");
    }
    let parked = Queued { parked_until: DEADLINE, ..row(1, "a") };
    for (name, rows, go) in [
        ("first", vec![row(1, "a"), row(2, "a")], vec![1]),
        ("without case", vec![row(1, ""), row(2, "")], vec![2, 1]),
        ("parked", vec![parked, row(2, "a")], vec![]),
    ] {
        let mut desk = desk(Policy::push(), rows);
        desk.on(Event::Cancel { seq: 1, doubt: true });
        assert_eq!(desk.on(Event::Asked { seq: 1, answer: Answer::Silent }), [], "{name}");
        assert_eq!(desk.credits(1, 9), go, "{name}");
    }
    for policy in [Policy::mailbox(), Policy::pull()] {
        for seq in [1, 7] {
            let mut desk = desk(policy.clone(), vec![row(1, "a")]);
            assert_eq!(desk.on(Event::Cancel { seq, doubt: true }), [Effect::Kept { seq }], "nobody to ask");
            assert_eq!(desk.lane.stats(desk.now).loaded, 1, "one that was not in memory takes no room");
            assert_eq!(desk.credits(1, 9), [1]);
        }
    }
}

#[test]
fn a_row_that_was_not_in_memory_when_it_was_to_be_cancelled_is_read_again_in_its_place() {
    let mut desk = desk(Policy::push(), vec![]);
    assert_eq!(desk.on(Event::Cancel { seq: 5, doubt: true }), [Effect::Ask { seq: 5 }]);
    let effects = desk.on(Event::Asked { seq: 5, answer: Answer::Silent });
    assert!(matches!(effects[..], [Effect::Load { from: 0, .. }]));
    assert_eq!(desk.on(Event::Cancel { seq: 5, doubt: true }), [Effect::Ask { seq: 5 }]);
    desk.on(Event::Loaded { rows: vec![row(5, "a"), row(6, "a")], end: true });
    assert_eq!(desk.credits(1, 9), [0; 0], "5 holds its case while it is asked about");
    assert_eq!(delivered(&desk.on(Event::Asked { seq: 5, answer: Answer::Silent })), [5]);
}

#[test]
fn a_doubt_that_came_by_word_stays_when_the_row_is_read() {
    let mut desk = desk(Policy::push(), vec![]);
    assert_eq!(desk.on(Event::Cancel { seq: 5, doubt: true }), [Effect::Ask { seq: 5 }]);
    desk.on(Event::Enqueued { seq: 5 });
    desk.on(Event::Loaded { rows: vec![expiring(5, "a", false)], end: true });
    assert_eq!(desk.on(Event::Asked { seq: 5, answer: Answer::Silent }), []);
    desk.now = DEADLINE;
    assert_eq!(desk.on(due(5, false)), [Effect::Ask { seq: 5 }]);
}

#[test]
fn a_row_asked_about_behind_one_that_waits_goes_back_behind_what_was_dropped() {
    let mut desk = desk(Policy::push(), vec![row(1, "a"), row(2, "a"), row(3, "a")]);
    desk.credits(1, 1);
    desk.on(Event::Cancel { seq: 3, doubt: true });
    desk.answer(1, 1, Outcome::RetryLater { at: desk.now.plus_ms(10) });
    assert_eq!(desk.lane.stats(desk.now).loaded, 2, "2 is dropped");
    assert_eq!(delivered(&desk.after(10, Event::Credits { session: 1, count: 9 })), [1]);
    desk.answer(1, 2, Outcome::Taken);
    assert_eq!(desk.on(Event::Settled { seq: 1 }), [], "3 is first of what is in memory, and is asked about");
    let effects = desk.on(Event::Asked { seq: 3, answer: Answer::Silent });
    assert!(matches!(effects[..], [Effect::Load { from: 2, .. }]), "{effects:?}");
    assert_eq!(delivered(&desk.on(Event::Loaded { rows: vec![row(2, "a"), row(3, "a")], end: true })), [2]);
}

// Failover.

/// A dialled lane over these rows whose partner has failed five times.
fn broken(rows: Vec<Queued>) -> (Desk, Vec<Effect>) {
    let mut desk = desk(Policy::push(), rows);
    desk.on(Event::Closed { session: 1 });
    let mut effects = Vec::new();
    for failures in 2..=5 {
        desk.now = desk.lane.stats(desk.now).backoff_until.unwrap();
        desk.on(Event::Tick);
        assert_eq!(desk.lane.stats(desk.now).breaker, Breaker::Closed, "{failures}");
        effects = desk.on(Event::DialFailed);
    }
    (desk, effects)
}

fn elsewhere(seq: Seq, case: &str) -> Queued {
    Queued { alternative: true, ..row(seq, case) }
}

#[test]
fn an_open_breaker_gives_away_what_has_another_way_and_is_in_no_doubt() {
    let parked = Queued { parked_until: Time::from_ms(9_000_000), ..elsewhere(3, "b") };
    let in_doubt = Queued { doubt: true, ..elsewhere(6, "e") };
    let rows = vec![elsewhere(1, "a"), elsewhere(2, "a"), parked, row(4, "c"), elsewhere(5, ""), in_doubt];
    let (mut desk, effects) = broken(rows);
    assert_eq!(effects, [1, 3, 5].map(|seq| settle(seq, 0, Fate::Diverted)));
    assert_eq!(desk.lane.stats(desk.now).breaker, Breaker::Open);
    for seq in [1, 2, 3, 5] {
        let effects = desk.on(Event::Settled { seq });
        assert_eq!(effects.contains(&settle(2, 0, Fate::Diverted)), seq == 1, "a follower that was not moved");
    }
    let reading = desk.on(Event::Enqueued { seq: 7 });
    assert!(matches!(reading[..], [Effect::Load { from: 7, .. }]), "it reads on: {reading:?}");
    let rows = vec![elsewhere(7, "f"), elsewhere(8, "c")];
    assert_eq!(desk.on(Event::Loaded { rows, end: true }), [settle(7, 0, Fate::Diverted)], "8 waits behind 4");
    let stats = desk.lane.stats(desk.now);
    assert_eq!((stats.ready, stats.settling, stats.loaded), (2, 1, 4));
}

#[test]
fn nothing_is_given_away_before_the_breaker_opens_or_while_the_lane_is_held() {
    let mut desk = desk(Policy::push(), vec![elsewhere(1, "a")]);
    assert_eq!(desk.on(Event::Closed { session: 1 }), []);
    assert_eq!(desk.lane.stats(desk.now).breaker, Breaker::Closed);
    let (mut desk, effects) = broken(vec![row(1, "")]);
    assert_eq!(effects, []);
    desk.on(Event::Held);
    assert_eq!(desk.on(Event::Enqueued { seq: 2 }), []);
    assert_eq!(desk.on(Event::Loaded { rows: vec![elsewhere(2, "")], end: true }), []);
}

#[test]
fn what_failed_in_doubt_is_not_given_away_and_what_was_never_sent_is() {
    for (outcome, away) in [(Outcome::NoAnswer, false), (Outcome::Unreachable, true)] {
        let policy = Policy { breaker_failures: 1, ..Policy::push() };
        let mut desk = desk(policy, vec![elsewhere(1, "a")]);
        desk.credits(1, 1);
        let effects = desk.answer(1, 1, outcome);
        assert_eq!(effects == [settle(1, 0, Fate::Diverted)], away, "{outcome:?} {effects:?}");
    }
}

#[test]
fn a_half_open_breaker_lets_one_message_through_and_its_answer_decides() {
    let failures = [(Outcome::Taken, Breaker::Closed, 0), (Outcome::NoAnswer, Breaker::Open, 6)];
    for (outcome, breaker, failures) in failures {
        let (mut desk, _) = broken(vec![row(1, ""), row(2, ""), row(3, "")]);
        desk.now = desk.lane.stats(desk.now).backoff_until.unwrap();
        assert_eq!(desk.lane.stats(desk.now).breaker, Breaker::HalfOpen);
        assert_eq!(desk.on(Event::Tick), [Effect::Dial]);
        desk.on(Event::Opened { session: 1, receipts: false });
        assert_eq!(desk.credits(1, 9), [1]);
        let effects = desk.answer(1, 1, outcome);
        let stats = desk.lane.stats(desk.now);
        assert_eq!((stats.breaker, stats.failures), (breaker, failures), "{outcome:?}");
        assert_eq!(delivered(&effects), [2, 3][..if breaker == Breaker::Closed { 2 } else { 0 }]);
        let pause = stats.backoff_until.map_or(30_000, |until| until.since_ms(desk.now));
        assert!(pause >= 30_000, "{pause}");
    }
}

// Lives.

#[test]
fn the_next_life_is_told_each_change_of_failures_and_hold_once_and_begins_where_this_one_stood() {
    let mut lane = Lane::new(Policy::push(), 1, Rest::default());
    let now = Time::from_ms(1_000_000);
    let mut told = |event| {
        let effects = lane.handle(now, event);
        let rest = |effect: &Effect| if let Effect::Rest(rest) = effect { Some(*rest) } else { None };
        (effects.iter().filter_map(rest).collect::<Vec<_>>(), lane.stats(now))
    };
    assert_eq!(told(Event::Enqueued { seq: 0 }).0, []);
    let (rest, stats) = told(Event::DialFailed);
    let failed = Rest { failures: 1, until: stats.backoff_until.unwrap(), held: false };
    assert_eq!(rest, [failed]);
    assert_eq!(told(Event::Tick).0, []);
    assert_eq!(told(Event::Held).0, [Rest { held: true, ..failed }]);
    assert_eq!(told(Event::Held).0, []);
    assert_eq!(told(Event::Resumed).0, [Rest::default()]);

    for rest in [failed, Rest { failures: 7, held: true, ..failed }] {
        let mut next = Lane::new(Policy::push(), 2, rest);
        assert_eq!(next.stats(now).backoff_until, Some(failed.until));
        assert_eq!((next.stats(now).failures, next.stats(now).held), (rest.failures, rest.held));
        let breaker = if rest.failures == 7 { Breaker::Open } else { Breaker::Closed };
        assert_eq!(next.stats(now).breaker, breaker);
        let effects = next.handle(now, Event::Enqueued { seq: 0 });
        assert_eq!(effects, [Effect::Wake { at: failed.until }], "it rests on, and has nothing new to tell");
    }
}

#[test]
fn a_success_after_failures_is_told() {
    let rest = Rest { failures: 3, until: Time::ZERO, held: false };
    let mut lane = Lane::new(Policy::push(), 1, rest);
    lane.handle(DEADLINE, Event::Opened { session: 1, receipts: false });
    let effects = lane.handle(DEADLINE, Event::Alive { session: 1 });
    assert_eq!(effects, [Effect::Rest(Rest::default())]);
}

// Receipts.

#[test]
fn receipts_take_a_credit_of_a_session_that_wants_them_go_first_and_are_held_by_nothing() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, "")], 0);
    desk.on(Event::Opened { session: 2, receipts: true });
    desk.on(Event::Held);
    assert_eq!(desk.credits(1, 1), [0; 0]);
    assert_eq!(desk.on(Event::Receipts), [], "session 1 does not take them");
    let receipts = [Effect::Receipts { session: 2 }];
    assert_eq!(desk.on(Event::Credits { session: 2, count: 1 }), receipts);
    assert_eq!(desk.on(Event::Credits { session: 2, count: 1 }), [], "one batch for each word");
    assert_eq!(desk.lane.stats(desk.now).credits, 2);
    desk.on(Event::Receipts);
    assert_eq!(desk.on(Event::Resumed).len(), 1, "session 2 has spent its credits on receipts");
    desk.answer(1, 1, Outcome::Throttled { at: DEADLINE });
    desk.on(Event::Receipts);
    assert_eq!(desk.on(Event::Credits { session: 2, count: 3 }), receipts, "throttling holds messages only");
}
