//! What a lane promises, one claim a test: order, sessions, retries, backoff, leases, late answers.

use crate::desk::{Desk, deliver, delivered, row, sessions};
use tongban::lanes::{Attempt, Effect, Event, Fate, Lane, Outcome, Policy, Queued, Rest, Seq};
use tongban::time::Time;

/// A way in which attempt 1 can fail.
type Failure = fn(&mut Desk) -> Vec<Effect>;
/// A way in which a delivery can end and decide nothing.
type Ending = fn(&mut Desk, Attempt) -> Vec<Effect>;

// Order.

#[test]
fn next_message_of_a_case_goes_only_when_the_fate_before_it_is_written() {
    for outcome in [Outcome::Taken, Outcome::Refused] {
        let (mut desk, effects) = Desk::with(Policy::mailbox(), &[(3, "a"), (5, "a")], 9);
        assert_eq!(effects, [deliver(&desk, 3, 1, 1)]);
        let fate = if outcome == Outcome::Taken { Fate::Taken { attempt: 1 } } else { Fate::Refused { attempt: 1 } };
        assert_eq!(desk.answer(3, 1, outcome), [Effect::Settle { seq: 3, deliveries: 1, fate }]);
        assert_eq!(desk.after(1, Event::Settled { seq: 3 }), [deliver(&desk, 5, 2, 1)]);
    }
}

#[test]
fn cases_do_not_wait_for_each_other_and_no_case_waits_for_nobody() {
    let (_, effects) = Desk::with(Policy::push(), &[(1, "a"), (2, "a"), (3, "b"), (4, ""), (5, "")], 9);
    assert_eq!(delivered(&effects), [1, 3, 4, 5]);
}

#[test]
fn a_row_that_comes_late_goes_before_those_of_its_case_that_were_not_out() {
    let mut desk = Desk::mailbox(&[(10, "a"), (12, "b"), (20, "a"), (30, "a"), (31, "b")], 1);
    assert_eq!(desk.on(Event::Enqueued { seq: 11 }), [Effect::Load { from: 11, count: 1_019 + 4 }]);
    let rows = [(11, "b"), (12, "b"), (15, "a"), (20, "a"), (25, "a"), (30, "a"), (31, "b")];
    desk.on(Event::Loaded { rows: rows.iter().map(|(seq, case)| row(*seq, case)).collect(), end: true });
    desk.answer(10, 1, Outcome::Taken);
    desk.on(Event::Settled { seq: 10 });
    assert_eq!(desk.drain(1, 1)[..], [11, 12, 31][..1]);
    let rest: Vec<Seq> = (0..9).flat_map(|_| desk.drain(1, 1)).collect();
    let of = |case: &[Seq]| rest.iter().copied().filter(|seq| case.contains(seq)).collect::<Vec<_>>();
    assert_eq!((of(&[15, 20, 25, 30]), of(&[12, 31])), (vec![15, 20, 25, 30], vec![12, 31]));
}

#[test]
fn a_case_that_is_forgotten_from_its_end_sends_none_of_its_messages() {
    let (mut desk, _) = Desk::with(Policy::push(), &[(1, "a"), (2, "a"), (3, "a")], 9);
    desk.answer(1, 1, Outcome::Refused);
    for seq in [3, 2, 1] {
        assert_eq!(desk.on(Event::Settled { seq }), [], "{seq}");
    }
    let (mut desk, _) = Desk::with(Policy::push(), &[(1, "a"), (2, "a")], 9);
    desk.answer(1, 1, Outcome::Refused);
    assert_eq!(delivered(&desk.on(Event::Settled { seq: 1 })), [2], "from its beginning it would");
}

#[test]
fn a_message_that_ends_by_another_hand_leaves_its_place_to_the_next() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, "a"), (3, "a"), (4, "a")], 9);
    assert_eq!(desk.on(Event::Settled { seq: 2 }), [], "behind");
    let withdrawn = Effect::Withdraw { session: 1, seq: 1, attempt: 1 };
    assert_eq!(desk.on(Event::Settled { seq: 1 }), [withdrawn, deliver(&desk, 3, 2, 1)], "out");
    assert_eq!(desk.answer(1, 1, Outcome::Taken), []);
    desk.answer(3, 2, Outcome::RetryLater { at: desk.now.plus_ms(5_000) });
    let reading = Effect::Load { from: 4, count: 1_024 };
    assert_eq!(desk.on(Event::Settled { seq: 3 }), [reading], "parked");
    assert_eq!(delivered(&desk.on(Event::Loaded { rows: vec![row(4, "a")], end: true })), [4]);
}

#[test]
fn a_fate_that_was_not_written_is_asked_for_again_and_holds_the_case() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, "a")], 9);
    let settle = desk.answer(1, 1, Outcome::Taken);
    assert_eq!(desk.on(Event::SettleFailed { seq: 1 }), []);
    assert_eq!(desk.after(999, Event::Tick), []);
    assert_eq!(desk.after(1, Event::Tick), settle);
    assert_eq!(delivered(&desk.on(Event::Settled { seq: 1 })), [2]);
    assert_eq!(desk.on(Event::SettleFailed { seq: 2 }), [], "what is not settling does not fail to settle");
    assert_eq!(desk.after(5_000, Event::Tick), []);
}

// Sessions.

#[test]
fn sessions_compete_in_turn_and_get_no_more_than_their_credits() {
    let rows: Vec<(Seq, &str)> = (0..20).map(|seq| (seq, "")).collect();
    let mut desk = Desk::mailbox(&rows, 0);
    desk.on(Event::Held);
    desk.on(Event::Opened { session: 2, receipts: false });
    desk.on(Event::Credits { session: 1, count: 2 });
    desk.on(Event::Credits { session: 2, count: 4 });
    assert_eq!(sessions(&desk.on(Event::Resumed)), [1, 2, 1, 2, 2, 2]);
    assert_eq!(desk.credits(3, 5), [0; 0], "an unknown session has no credits");
    assert_eq!(desk.credits(1, 1), [6]);
}

#[test]
fn a_case_stays_with_its_session_while_that_has_credits() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, "a"), (3, "a")], 1);
    desk.on(Event::Opened { session: 2, receipts: false });
    desk.on(Event::Credits { session: 2, count: 5 });
    desk.on(Event::Credits { session: 1, count: 1 });
    desk.answer(1, 1, Outcome::Taken);
    assert_eq!(sessions(&desk.on(Event::Settled { seq: 1 })), [1]);
    desk.answer(2, 2, Outcome::Taken);
    assert_eq!(sessions(&desk.on(Event::Settled { seq: 2 })), [2], "session 1 has spent its credits");
}

// Retry later, throttling.

#[test]
fn retry_later_holds_its_case_only_and_counts() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, "a"), (3, "b")], 1);
    let until = desk.now.plus_ms(5_000);
    let parked = Effect::Park { seq: 1, deliveries: 1, until };
    assert_eq!(desk.answer(1, 1, Outcome::RetryLater { at: until }), [parked]);
    assert_eq!(desk.credits(1, 9), [3]);
    assert_eq!(desk.after(4_999, Event::Tick), []);
    assert_eq!(desk.after(1, Event::Tick), [deliver(&desk, 1, 3, 2)]);
    desk.answer(1, 3, Outcome::Taken);
    assert_eq!(desk.on(Event::Settled { seq: 1 }), [Effect::Load { from: 2, count: 1_023 + 1 }]);
    assert_eq!(delivered(&desk.on(Event::Loaded { rows: vec![row(2, "a"), row(3, "b")], end: true })), [2]);
}

#[test]
fn moments_that_the_other_side_names_are_kept_within_bounds() {
    let (day, hour, now) = (86_400_000, 3_600_000, 1_000_000);
    for (at, later, throttled) in [(u64::MAX, day, hour), (now, 1_000, 1_000), (0, 1_000, 1_000), (now + 7, 7, 7)] {
        let at = Time::from_ms(at);
        let mut desk = Desk::push(&[(1, "")], 9);
        let until = desk.now.plus_ms(later);
        assert_eq!(
            desk.answer(1, 1, Outcome::RetryLater { at }),
            [Effect::Park { seq: 1, deliveries: 1, until }],
            "{at}"
        );
        let mut desk = Desk::push(&[(1, "")], 9);
        assert_eq!(desk.answer(1, 1, Outcome::Throttled { at }), []);
        assert_eq!(desk.lane.stats(desk.now).throttled_until, Some(desk.now.plus_ms(throttled)), "{at}");
    }
}

#[test]
fn a_case_parked_in_the_store_stays_parked_in_the_next_life_for_a_day_at_most() {
    for (stored, waits) in [(5_000, 5_000), (u64::MAX >> 20, 86_400_000)] {
        let mut desk = Desk::mailbox(&[], 9);
        desk.on(Event::Enqueued { seq: 7 });
        let parked = Queued { parked_until: desk.now.plus_ms(stored), deliveries: 3, ..row(7, "a") };
        let effects = desk.on(Event::Loaded { rows: vec![parked, row(8, "a"), row(9, "")], end: true });
        assert_eq!((delivered(&effects), desk.lane.stats(desk.now).loaded), (vec![9], 2), "8 is not kept");
        desk.answer(9, 1, Outcome::Taken);
        assert_eq!(desk.after(waits - 1, Event::Tick), []);
        assert_eq!(desk.after(1, Event::Tick), [deliver(&desk, 7, 2, 4)]);
    }
}

#[test]
fn throttling_stops_the_lane_and_counts_nothing() {
    let mut desk = Desk::push(&[(1, "a"), (2, ""), (3, "")], 2);
    assert_eq!(desk.answer(1, 1, Outcome::Throttled { at: desk.now.plus_ms(3_000) }), []);
    assert_eq!(desk.answer(2, 2, Outcome::Throttled { at: desk.now.plus_ms(1_000) }), [], "the later moment stands");
    assert_eq!(desk.credits(1, 9), [0; 0]);
    assert_eq!(desk.on(Event::Enqueued { seq: 9 }), [], "nothing is read meanwhile");
    assert_eq!(desk.after(2_999, Event::Tick), []);
    let effects = desk.after(1, Event::Tick);
    assert_eq!(delivered(&effects), [1, 2, 3]);
    assert!(matches!(effects[0], Effect::Deliver { count: 1, attempt: 3, .. }));
}

// Backoff of a lane that dials.

#[test]
fn a_partner_that_fails_rests_the_lane_and_messages_keep_their_count_unless_in_doubt() {
    let table: [(&str, Failure, u32); 4] = [
        ("unreachable", |desk| desk.answer(1, 1, Outcome::Unreachable), 1),
        ("no answer", |desk| desk.answer(1, 1, Outcome::NoAnswer), 2),
        ("closed", |desk| desk.on(Event::Closed { session: 1 }), 1),
        ("timed out", |desk| desk.after(15_000, Event::Tick), 2),
    ];
    for (name, fail, count) in table {
        let mut desk = Desk::push(&[(1, "a"), (2, "a")], 1);
        let withdrawn = [Effect::Withdraw { session: 1, seq: 1, attempt: 1 }];
        assert_eq!(fail(&mut desk), withdrawn[..usize::from(name == "timed out")], "{name}");
        let until = desk.lane.stats(desk.now).backoff_until.expect(name);
        assert!(until >= desk.now.plus_ms(1_000) && until <= desk.now.plus_ms(2_000), "{name}");
        assert_eq!(desk.credits(1, 5), [0; 0], "{name}");
        desk.now = until;
        assert_eq!(desk.lane.stats(until).backoff_until, None, "{name}: the pause is over");
        let mut effects = desk.on(Event::Tick);
        if effects == [Effect::Dial] {
            desk.on(Event::Opened { session: 1, receipts: false });
            effects = desk.on(Event::Credits { session: 1, count: 1 });
        }
        assert!(matches!(effects[..], [Effect::Deliver { seq: 1, attempt: 2, count: n, .. }] if n == count), "{name}");
    }
}

#[test]
fn what_was_under_way_when_the_partner_failed_counts_as_one_failure() {
    let mut desk = Desk::push(&[(1, ""), (2, ""), (3, ""), (4, "")], 3);
    desk.answer(1, 1, Outcome::NoAnswer);
    let until = desk.lane.stats(desk.now).backoff_until;
    desk.answer(2, 2, Outcome::NoAnswer);
    assert_eq!((desk.lane.stats(desk.now).failures, desk.lane.stats(desk.now).backoff_until), (1, until));
    assert_eq!(delivered(&desk.after(2_000, Event::Credits { session: 1, count: 1 })), [4]);
    desk.answer(3, 3, Outcome::NoAnswer);
    assert_eq!(desk.lane.stats(desk.now).failures, 1, "attempt 3 was older than the failure");
    desk.answer(4, 4, Outcome::NoAnswer);
    assert_eq!(desk.lane.stats(desk.now).failures, 2);
}

#[test]
fn any_answer_ends_the_backoff() {
    let at = Time::from_ms(2_000_000);
    for outcome in [
        Outcome::Taken,
        Outcome::Refused,
        Outcome::RetryLater { at },
        Outcome::Throttled { at: Time::from_ms(1_000_001) },
    ] {
        let mut desk = Desk::push(&[(1, ""), (2, ""), (3, "")], 2);
        desk.answer(1, 1, Outcome::NoAnswer);
        desk.answer(2, 2, outcome);
        let stats = desk.lane.stats(desk.now);
        assert_eq!((stats.failures, stats.backoff_until), (0, None), "{outcome:?}");
    }
}

#[test]
fn dials_fail_with_doubling_pauses_and_one_dial_is_under_way() {
    let mut desk = Desk { lane: Lane::new(Policy::push(), 1, Rest::default()), now: Time::from_ms(1_000_000) };
    assert_eq!(desk.on(Event::Enqueued { seq: 0 }), [Effect::Load { from: 0, count: 1_024 }], "nothing to send yet");
    assert_eq!(desk.on(Event::Loaded { rows: vec![row(0, "")], end: true }), [Effect::Dial]);
    assert_eq!(desk.on(Event::Tick), []);
    for failures in 1..20u32 {
        assert_eq!(desk.on(Event::DialFailed), []);
        let stats = desk.lane.stats(desk.now);
        let pause = stats.backoff_until.unwrap().since_ms(desk.now);
        assert!((1_000..=(1_000 << failures).min(3_600_000)).contains(&pause) && stats.failures == failures);
        assert_eq!(desk.after(pause - 1, Event::Tick), []);
        assert_eq!(desk.after(1, Event::Tick), [Effect::Dial]);
    }
}

#[test]
fn a_connection_that_served_and_closes_idle_is_no_failure_and_one_that_never_did_is() {
    let mut desk = Desk::push(&[(1, "")], 1);
    desk.answer(1, 1, Outcome::Taken);
    desk.on(Event::Closed { session: 1 });
    assert_eq!(desk.lane.stats(desk.now).failures, 0);
    desk.on(Event::Opened { session: 2, receipts: false });
    desk.on(Event::Closed { session: 2 });
    assert_eq!(desk.lane.stats(desk.now).failures, 1);
    desk.on(Event::Closed { session: 2 });
    assert_eq!(desk.lane.stats(desk.now).failures, 1, "what is closed does not close again");
}

#[test]
fn a_connection_that_carried_no_message_but_was_alive_closes_without_failure_and_ends_the_pause() {
    let mut desk = Desk { lane: Lane::new(Policy::push(), 1, Rest::default()), now: Time::from_ms(1_000_000) };
    desk.on(Event::DialFailed);
    desk.on(Event::Opened { session: 1, receipts: false });
    desk.on(Event::Alive { session: 2 });
    assert_eq!(desk.lane.stats(desk.now).failures, 1, "that session is not open");
    desk.on(Event::Alive { session: 1 });
    desk.on(Event::Closed { session: 1 });
    let stats = desk.lane.stats(desk.now);
    assert_eq!((stats.failures, stats.backoff_until), (0, None));
}

// Leases of a mailbox.

#[test]
fn a_session_that_goes_gives_back_what_it_held_and_the_delivery_counts() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, ""), (3, "")], 2);
    desk.on(Event::Opened { session: 2, receipts: false });
    let park = |seq| Effect::Park { seq, deliveries: 1, until: Time::from_ms(1_000_000) };
    assert_eq!(desk.on(Event::Closed { session: 1 }), [park(1), park(2)]);
    assert_eq!(desk.lane.stats(desk.now).backoff_until, None);
    let effects = desk.on(Event::Credits { session: 2, count: 9 });
    assert_eq!(delivered(&effects), [3, 1, 2]);
    assert!(matches!(effects[1], Effect::Deliver { session: 2, count: 2, attempt: 4, .. }));
}

#[test]
fn a_delivery_that_never_left_counts_in_a_mailbox_and_is_nobodys_failure() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, "")], 1);
    let park = Effect::Park { seq: 1, deliveries: 1, until: desk.now };
    assert_eq!(desk.answer(1, 1, Outcome::Unreachable), [park]);
    assert_eq!(desk.lane.stats(desk.now).failures, 0);
    assert_eq!(desk.credits(1, 2), [2, 1], "it goes behind what waits");
}

#[test]
fn a_lease_that_ends_takes_the_message_back() {
    let mut desk = Desk::mailbox(&[(1, "a")], 2);
    assert_eq!(desk.after(59_999, Event::Tick), []);
    let effects = desk.after(1, Event::Tick);
    let (withdraw, park) =
        (Effect::Withdraw { session: 1, seq: 1, attempt: 1 }, Effect::Park { seq: 1, deliveries: 1, until: desk.now });
    assert_eq!(effects, [withdraw, park, deliver(&desk, 1, 2, 2)]);
}

#[test]
fn a_lease_is_prolonged_from_now_never_shortened_and_not_for_ever() {
    let mut desk = Desk::mailbox(&[(1, "a")], 1);
    let extend = |ms| Event::Extended { seq: 1, attempt: 1, session: 1, ms };
    assert_eq!(desk.on(extend(10)), []);
    assert_eq!(desk.after(11, Event::Tick), []);
    assert_eq!(desk.after(59_988, extend(60_000)), []);
    assert_eq!(desk.after(59_999, extend(u64::MAX)), []);
    assert_eq!(desk.after(15 * 60_000 - 2 * 59_999 - 1, Event::Tick), []);
    assert_eq!(desk.after(1, Event::Tick).len(), 2, "withdrawn and counted, 15 minutes after it went out");
    assert_eq!(desk.on(extend(60_000)), []);
    assert_eq!(desk.lane.stats(desk.now).ignored, 1);
}

#[test]
fn ten_deliveries_without_a_fate_end_a_message_however_they_ended() {
    let ways: [(&str, Ending); 3] = [
        ("lease", |desk, _| desk.after(60_000, Event::Tick)),
        ("retry later", |desk, attempt| {
            let mut effects = desk.answer(1, attempt, Outcome::RetryLater { at: desk.now.plus_ms(1) });
            effects.extend(desk.after(1, Event::Tick));
            effects
        }),
        ("no answer", |desk, attempt| desk.answer(1, attempt, Outcome::NoAnswer)),
    ];
    for (name, end) in ways {
        let mut desk = Desk::mailbox(&[(1, "a")], 99);
        for attempt in 1..10 {
            assert_eq!(delivered(&end(&mut desk, attempt)), [1], "{name} {attempt}");
        }
        let last = end(&mut desk, 10);
        assert_eq!(last.last(), Some(&Effect::Settle { seq: 1, deliveries: 10, fate: Fate::Exhausted }), "{name}");
        assert_eq!(last.len(), if name == "lease" { 2 } else { 1 }, "{name}: {last:?}");
    }
}

#[test]
fn a_row_that_was_delivered_too_often_in_another_life_ends_without_a_delivery() {
    let mut desk = Desk::mailbox(&[], 9);
    desk.on(Event::Enqueued { seq: 4 });
    let spent = Queued { deliveries: 10, ..row(4, "a") };
    let settle = Effect::Settle { seq: 4, deliveries: 10, fate: Fate::Exhausted };
    assert_eq!(desk.on(Event::Loaded { rows: vec![spent, row(5, "a")], end: true }), [settle]);
    assert_eq!(delivered(&desk.on(Event::Settled { seq: 4 })), [5]);
}

// Late and foreign answers.

#[test]
fn an_answer_that_fits_no_delivery_changes_nothing() {
    let table =
        [(1, 2, 1, "another attempt"), (1, 1, 2, "another session"), (2, 1, 1, "not out"), (9, 1, 1, "unknown")];
    for (seq, attempt, session, name) in table {
        for outcome in [Outcome::Taken, Outcome::Refused, Outcome::NoAnswer, Outcome::Throttled { at: Time::ZERO }] {
            let mut desk = Desk::mailbox(&[(1, "a"), (2, "a")], 5);
            desk.on(Event::Opened { session: 2, receipts: false });
            let before = desk.lane.stats(desk.now);
            assert_eq!(desk.on(Event::Attempted { seq, attempt, session, outcome }), [], "{name} {outcome:?}");
            let after = desk.lane.stats(desk.now);
            assert_eq!(tongban::lanes::Stats { ignored: 0, ..after }, before, "{name} {outcome:?}");
            assert_eq!(after.ignored, 1);
        }
    }
}

#[test]
fn an_answer_after_the_lease_or_a_second_one_changes_nothing() {
    let mut desk = Desk::mailbox(&[(1, "a")], 2);
    desk.after(60_000, Event::Tick);
    assert_eq!(desk.answer(1, 1, Outcome::Taken), [], "attempt 2 is out");
    assert_eq!(desk.answer(1, 2, Outcome::Taken).len(), 1);
    assert_eq!(desk.answer(1, 2, Outcome::Refused), []);
    assert_eq!(desk.lane.stats(desk.now).ignored, 2);
}
