//! What a lane keeps in memory, how it reads on, when it wakes, and how fast it is.

use std::collections::VecDeque;

use tongban::lanes::bell::{self, Heard};
use tongban::lanes::{CaseKey, Effect, Event, Lane, Outcome, Policy, Queued, Rest, Seq, Stats};
use tongban::time::Time;

const NOW: Time = Time::from_ms(1_000_000);

fn row(seq: Seq, case: &str) -> Queued {
    let case = (!case.is_empty()).then(|| CaseKey::from(case));
    let (expires_at, doubt, alternative) = (Time::from_ms(u64::MAX), false, false);
    Queued { seq, case, deliveries: 0, parked_until: Time::ZERO, expires_at, doubt, alternative }
}

fn loaded(rows: impl IntoIterator<Item = Queued>, end: bool) -> Event {
    Event::Loaded { rows: rows.into_iter().collect(), end }
}

/// A lane with this much memory, a session with credits, and its first read under way.
fn reading(loaded_max: usize, parked_max: usize, credits: u32) -> Lane {
    let mut lane = Lane::new(Policy { loaded_max, parked_max, ..Policy::mailbox() }, 0, Rest::default());
    lane.handle(NOW, Event::Opened { session: 1, receipts: false });
    lane.handle(NOW, Event::Credits { session: 1, count: credits });
    let effects = lane.handle(NOW, Event::Enqueued { seq: 5 });
    assert_eq!(effects, [Effect::Load { from: 0, count: loaded_max }]);
    lane
}

fn on(lane: &mut Lane, event: Event) -> Vec<Effect> {
    handle(lane, NOW, event)
}

/// What the lane asks for, the timer and the word to the next life left out.
fn handle(lane: &mut Lane, now: Time, event: Event) -> Vec<Effect> {
    let mut effects = lane.handle(now, event);
    effects.retain(|effect| !matches!(effect, Effect::Wake { .. } | Effect::Rest(_)));
    effects
}

fn delivered(effects: &[Effect]) -> Vec<Seq> {
    let seq = |effect: &Effect| if let Effect::Deliver { seq, .. } = effect { Some(*seq) } else { None };
    effects.iter().filter_map(seq).collect()
}

fn end(lane: &mut Lane, seq: Seq, attempt: u64) -> Vec<Effect> {
    on(lane, Event::Attempted { seq, attempt, session: 1, outcome: Outcome::Taken });
    on(lane, Event::Settled { seq })
}

#[test]
fn a_message_committed_during_a_read_is_not_forgotten() {
    let mut lane = reading(8, 0, 9);
    assert_eq!(on(&mut lane, Event::Enqueued { seq: 6 }), [], "one read at a time");
    let effects = on(&mut lane, loaded([row(5, "")], true));
    assert_eq!((delivered(&effects), effects.last()), (vec![5], Some(&Effect::Load { from: 6, count: 7 })));
    assert_eq!(delivered(&on(&mut lane, loaded([row(6, "")], true))), [6]);
    assert_eq!(on(&mut lane, Event::Enqueued { seq: 6 }), [], "it is known already");
}

/// A bell that rang twice is heard once.
#[test]
fn rows_of_a_second_commit_are_read_although_those_of_the_first_are_there_already() {
    let heard = |newest| Heard { newest, ..Heard::default() };
    let [told] = bell::events(heard(5), heard(7)).collect::<Vec<_>>().try_into().unwrap();
    let mut lane = reading(8, 0, 9);
    assert_eq!(on(&mut lane, Event::clone(&told)), [], "one read at a time");
    let effects = on(&mut lane, loaded([row(5, ""), row(6, "")], true));
    assert_eq!((delivered(&effects), effects.last()), (vec![5, 6], Some(&Effect::Load { from: 7, count: 6 })));
    // The same when the bell is heard only after the read.
    let mut lane = reading(8, 0, 9);
    assert_eq!(delivered(&on(&mut lane, loaded([row(5, ""), row(6, "")], true))), [5, 6]);
    assert_eq!(on(&mut lane, told), [Effect::Load { from: 7, count: 6 }]);
}

#[test]
fn a_bell_tells_each_change_once_and_nothing_else() {
    let before = Heard { newest: 5, moves: 1, lowest_moved: 3, held: None };
    let told = |now: Heard| bell::events(before, now).map(|event| format!("{event:?}")).collect::<Vec<_>>();
    assert_eq!(told(before), [""; 0]);
    assert_eq!(told(Heard { held: Some(true), ..before }), ["Held"]);
    assert_eq!(told(Heard { held: Some(false), ..before }), ["Resumed"]);
    let all = Heard { newest: 9, moves: 2, lowest_moved: 4, held: Some(true) };
    assert_eq!(told(all), ["Held", "Enqueued { seq: 9 }", "Moved { seq: 4 }"]);
}

#[test]
fn rows_from_another_lane_are_read_although_the_lowest_of_them_is_there_already() {
    let mut lane = reading(8, 0, 9);
    assert_eq!(on(&mut lane, Event::Moved { seq: 5 }), []);
    let effects = on(&mut lane, loaded([row(5, ""), row(7, "")], true));
    assert_eq!((delivered(&effects), effects.last()), (vec![5, 7], Some(&Effect::Load { from: 5, count: 8 })));
    assert_eq!(delivered(&on(&mut lane, loaded([row(5, ""), row(6, ""), row(7, "")], true))), [6]);
}

#[test]
fn a_low_row_committed_while_the_rows_around_it_are_read_is_read_next() {
    let mut lane = reading(8, 0, 9);
    on(&mut lane, Event::Enqueued { seq: 6 });
    let effects = on(&mut lane, loaded([row(5, ""), row(7, "")], true));
    assert_eq!((delivered(&effects), effects.last()), (vec![5, 7], Some(&Effect::Load { from: 6, count: 7 })));
    assert_eq!(delivered(&on(&mut lane, loaded([row(6, ""), row(7, "")], true))), [6]);
    assert_eq!(on(&mut lane, Event::Enqueued { seq: 8 }), [Effect::Load { from: 8, count: 5 }]);
    (9..19).for_each(|seq| assert_eq!(on(&mut lane, Event::Enqueued { seq }), []));
    let rows = (9..13).map(|seq| row(seq, "")).collect::<Vec<_>>();
    assert!(on(&mut lane, loaded(rows, true)).contains(&Effect::Load { from: 9, count: 1 + 4 }), "8 is gone");
}

#[test]
fn a_row_that_ends_while_it_is_read_does_not_come_back() {
    let mut lane = reading(8, 0, 9);
    on(&mut lane, Event::Settled { seq: 5 });
    assert_eq!(delivered(&on(&mut lane, loaded([row(5, "a"), row(6, "a")], true))), [6]);
}

#[test]
fn an_answer_that_is_too_old_is_thrown_away_and_asked_for_again() {
    let mut lane = reading(2, 0, 9);
    (5..8).for_each(|seq| assert_eq!(on(&mut lane, Event::Settled { seq }), []));
    let again = [Effect::Load { from: 0, count: 2 }];
    assert_eq!(on(&mut lane, loaded([row(5, ""), row(6, "")], false)), again, "too many rows ended meanwhile");
    assert_eq!(delivered(&on(&mut lane, loaded([row(9, "")], true))), [9]);
    assert_eq!(on(&mut lane, Event::Enqueued { seq: 10 }), [Effect::Load { from: 10, count: 1 }]);
    assert_eq!(on(&mut lane, Event::Enqueued { seq: 8 }), []);
    assert_eq!(on(&mut lane, loaded([row(10, "")], true)), [Effect::Load { from: 8, count: 2 }], "8 is before 10");
    assert_eq!(delivered(&on(&mut lane, loaded([row(8, ""), row(9, ""), row(10, "")], true))), [8]);
}

#[test]
fn a_read_that_fails_is_tried_again_after_the_shortest_pause() {
    let mut lane = reading(8, 0, 9);
    assert_eq!(lane.handle(NOW, Event::LoadFailed), [Effect::Wake { at: NOW.plus_ms(1_000) }]);
    assert_eq!(on(&mut lane, Event::Enqueued { seq: 6 }), []);
    assert_eq!(lane.handle(NOW.plus_ms(1_000), Event::Tick), [Effect::Load { from: 0, count: 8 }]);
    assert_eq!(on(&mut lane, Event::LoadFailed), []);
    assert_eq!(on(&mut lane, loaded([row(5, "")], true)), [], "nobody asked");
}

#[test]
fn rows_are_read_in_halves_and_never_more_than_memory_holds() {
    let mut lane = reading(8, 0, 1);
    assert_eq!(delivered(&on(&mut lane, loaded((0..8).map(|seq| row(seq, "")), false))), [0]);
    assert_eq!(lane.stats(NOW).loaded, 8);
    let mut asked = Vec::new();
    for seq in 0..4 {
        asked.extend(end(&mut lane, seq, seq + 1));
        asked.extend(on(&mut lane, Event::Credits { session: 1, count: 1 }));
    }
    asked.retain(|effect| matches!(effect, Effect::Load { .. }));
    assert_eq!(asked, [Effect::Load { from: 8, count: 4 }]);
    assert_eq!(on(&mut lane, loaded((8..99).map(|seq| row(seq, "")), true)), [], "more than was asked for");
    assert_eq!(lane.stats(NOW).loaded, 8);
    (4..8).for_each(|seq| drop((end(&mut lane, seq, seq + 1), on(&mut lane, Event::Credits { session: 1, count: 1 }))));
    let rest: Vec<Seq> = (8..12).collect();
    assert_eq!(lane.stats(NOW), Stats { in_flight: 1, ready: 3, loaded: rest.len(), sessions: 1, ..Stats::default() });
}

#[test]
fn an_eighth_of_the_memory_is_read_for_what_is_on_its_way_and_a_single_row_when_nothing_is() {
    let mut lane = reading(16, 0, 9);
    assert_eq!(delivered(&on(&mut lane, loaded((0..16).map(|seq| row(seq, "a")), false))), [0]);
    assert_eq!(delivered(&end(&mut lane, 0, 1)), [1]);
    assert_eq!(lane.stats(NOW).loaded, 15, "one row is free, and is not read for while 1 is out");
    let settling = on(&mut lane, Event::Attempted { seq: 1, attempt: 2, session: 1, outcome: Outcome::Taken });
    assert!(matches!(settling[..], [Effect::Settle { seq: 1, .. }]), "nor while its fate is written: {settling:?}");
    let settled = on(&mut lane, Event::Settled { seq: 1 });
    assert_eq!(settled.last(), Some(&Effect::Load { from: 16, count: 2 }), "two rows are an eighth");

    let mut lane = reading(16, 0, 9);
    let parked = |seq| Queued { parked_until: NOW.plus_ms(1_000), ..row(seq, "") };
    let reading = on(&mut lane, loaded((0..15).map(parked), false));
    assert_eq!(reading, [Effect::Load { from: 15, count: 1 }], "nothing is on its way that would make more room");
}

#[test]
fn a_case_that_waits_takes_one_row_and_lets_the_others_pass() {
    let mut lane = reading(4, 1, 9);
    assert_eq!(delivered(&on(&mut lane, loaded((0..4).map(|seq| row(seq, "a")), false))), [0]);
    let later = Outcome::RetryLater { at: NOW.plus_ms(9_000) };
    let effects = on(&mut lane, Event::Attempted { seq: 0, attempt: 1, session: 1, outcome: later });
    assert_eq!(effects[1..], [Effect::Load { from: 4, count: 4 }], "the followers made room");
    assert_eq!(lane.stats(NOW).loaded, 1);
    let effects = on(&mut lane, loaded([row(4, "a"), row(5, "b"), row(6, "a"), row(7, "")], true));
    assert_eq!((delivered(&effects), lane.stats(NOW).loaded), (vec![5, 7], 3));
    let effects = lane.handle(NOW.plus_ms(9_000), Event::Tick);
    assert_eq!(delivered(&effects), [0]);
    end(&mut lane, 0, 4);
    assert_eq!(delivered(&on(&mut lane, loaded([row(1, "a"), row(2, "a"), row(3, "a")], false))), [1]);
}

#[test]
fn a_case_whose_moment_has_come_as_it_is_read_keeps_its_followers() {
    for (until, loaded_rows) in [(NOW.plus_ms(1), 1), (NOW, 2)] {
        let mut lane = reading(4, 1, 0);
        on(&mut lane, loaded([Queued { parked_until: until, ..row(1, "a") }, row(2, "a")], true));
        assert_eq!(lane.stats(NOW).loaded, loaded_rows);
    }
}

#[test]
fn a_lane_full_of_waiting_cases_goes_on_when_the_first_is_due() {
    let mut lane = reading(2, 1, 9);
    let parked = |seq| Queued { parked_until: NOW.plus_ms(1_000 * seq), ..row(seq, "") };
    assert_eq!(on(&mut lane, loaded([parked(3), parked(2)], false)), [Effect::Load { from: 3, count: 2 + 1 - 2 + 1 }]);
    assert_eq!(on(&mut lane, loaded([parked(4), parked(5)], false)), [], "three rows fit");
    assert_eq!(lane.stats(NOW).loaded, 3);
    assert_eq!(delivered(&lane.handle(NOW.plus_ms(2_000), Event::Tick)), [2]);
    assert!(matches!(end(&mut lane, 2, 1)[..], [Effect::Load { from: 5, .. }]));
}

#[test]
fn nothing_is_read_for_a_mailbox_that_nobody_opens() {
    let mut lane = Lane::new(Policy::mailbox(), 0, Rest::default());
    assert_eq!(lane.handle(NOW, Event::Enqueued { seq: 0 }), []);
    assert_eq!(
        lane.handle(NOW, Event::Opened { session: 1, receipts: false }),
        [Effect::Load { from: 0, count: 1_024 }]
    );
}

#[test]
fn one_timer_stands_and_it_is_the_soonest() {
    let mut lane = reading(8, 0, 1);
    let wakes = |effects: Vec<Effect>| -> Vec<u64> {
        let at = |effect: &Effect| if let Effect::Wake { at } = effect { Some(at.since_ms(NOW)) } else { None };
        effects.iter().filter_map(at).collect()
    };
    assert_eq!(wakes(lane.handle(NOW, loaded([row(0, ""), row(1, "")], true))), [60_000]);
    let later = NOW.plus_ms(10);
    assert_eq!(wakes(lane.handle(later, Event::Credits { session: 1, count: 1 })), [0; 0], "60,010 is later");
    let outcome = Outcome::RetryLater { at: NOW.plus_ms(500) };
    assert_eq!(wakes(lane.handle(later, Event::Attempted { seq: 0, attempt: 1, session: 1, outcome })), [500]);
    assert_eq!(wakes(lane.handle(later, Event::Tick)), [500], "it rang too early");
    assert_eq!(wakes(lane.handle(NOW.plus_ms(500), Event::Tick)), [60_010]);
    lane.handle(NOW.plus_ms(501), Event::Attempted { seq: 1, attempt: 2, session: 1, outcome: Outcome::Taken });
    assert_eq!(wakes(lane.handle(NOW.plus_ms(60_010), Event::Tick)), [0; 0], "nothing is left to wait for");
}

#[test]
fn a_held_lane_sends_reads_and_dials_nothing_until_it_is_resumed() {
    let mut lane = Lane::new(Policy::push(), 0, Rest::default());
    on(&mut lane, Event::Held);
    assert_eq!(on(&mut lane, Event::Enqueued { seq: 0 }), []);
    assert_eq!(on(&mut lane, Event::Resumed), [Effect::Load { from: 0, count: 1_024 }]);
    assert_eq!(on(&mut lane, loaded([row(0, "")], true)), [Effect::Dial]);
    on(&mut lane, Event::DialFailed);
    on(&mut lane, Event::Held);
    assert!(lane.stats(NOW).held && lane.stats(NOW).backoff_until.is_some());
    assert_eq!(handle(&mut lane, NOW.plus_ms(9_000), Event::Tick), []);
    handle(&mut lane, NOW.plus_ms(9_000), Event::Resumed);
    handle(&mut lane, NOW.plus_ms(9_000), Event::DialFailed);
    assert_eq!(handle(&mut lane, NOW.plus_ms(9_000), Event::Resumed), [Effect::Dial], "an operator ends the backoff");
    assert_eq!(lane.stats(NOW).failures, 0);
}

#[test]
fn stats_say_how_the_lane_stands() {
    let mut lane = reading(16, 4, 3);
    on(&mut lane, loaded([row(0, "a"), row(1, "a"), row(2, "b"), row(3, ""), row(4, "")], true));
    let attempted = |seq, outcome| Event::Attempted { seq, attempt: seq, session: 1, outcome };
    on(&mut lane, attempted(2, Outcome::RetryLater { at: NOW.plus_ms(5) }));
    on(&mut lane, attempted(3, Outcome::Taken));
    on(&mut lane, attempted(3, Outcome::Taken));
    let expected = Stats {
        loaded: 5,
        ready: 1,
        in_flight: 1,
        settling: 1,
        parked: 1,
        sessions: 1,
        ignored: 1,
        ..Stats::default()
    };
    assert_eq!(lane.stats(NOW), expected);
    lane.handle(NOW, Event::Credits { session: 1, count: 7 });
    assert_eq!((lane.stats(NOW).credits, lane.stats(NOW).ready), (6, 0));
}

/// The gateway moves tens of thousands of messages a second; a lane must not be what they wait for. The bound is far below
/// what an unoptimised build reaches.
#[test]
fn a_hundred_thousand_messages_pass_in_cases_without_the_lane_being_the_brake() {
    let total: Seq = 100_000;
    let mut lane = Lane::new(Policy::push(), 0, Rest::default());
    let mut work = VecDeque::from(lane.handle(NOW, Event::Enqueued { seq: 0 }));
    let (mut passed, mut reads) = (0, 0);
    while let Some(effect) = work.pop_front() {
        let next = match effect {
            Effect::Load { from, count } => {
                reads += 1;
                let upto = total.min(from + count as Seq);
                let rows = (from..upto).map(|seq| row(seq, &format!("330100/310100/{}", seq % 500)));
                on(&mut lane, loaded(rows, upto == total))
            }
            Effect::Dial => {
                on(&mut lane, Event::Opened { session: 1, receipts: false });
                on(&mut lane, Event::Credits { session: 1, count: 64 })
            }
            Effect::Deliver { seq, attempt, session, .. } => {
                let mut next = on(&mut lane, Event::Attempted { seq, attempt, session, outcome: Outcome::Taken });
                next.extend(on(&mut lane, Event::Credits { session, count: 1 }));
                next
            }
            Effect::Settle { seq, .. } => {
                passed += 1;
                on(&mut lane, Event::Settled { seq })
            }
            other => panic!("{other:?}"),
        };
        work.extend(next);
    }
    assert_eq!(passed, total);
    assert!(reads < total / 400, "{reads} reads");
}
