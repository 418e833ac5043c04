//! What a lane promises, one claim a test: order, sessions, retries, backoff, leases, late answers, deadlines, cancelling,
//! failover, receipts, lives.

use tongban::lanes::{
    Answer, AtDeadline, Attempt, Breaker, CaseKey, Effect, Event, Fate, Lane, Outcome, Policy, Queued, Rest, Seq,
    SessionId,
};
use tongban::time::Time;

/// A lane at its desk: time is set by hand, and the timer and the word to the next life are left out of the answers.
struct Desk {
    lane: Lane,
    now: Time,
}

impl Desk {
    /// A mailbox with these rows read and one session, 1, with credits.
    fn mailbox(rows: &[(Seq, &str)], credits: u32) -> Desk {
        Desk::with(Policy::mailbox(), rows, credits).0
    }

    /// A lane that we dial, with these rows read and connection 1 open.
    fn push(rows: &[(Seq, &str)], credits: u32) -> Desk {
        Desk::with(Policy::push(), rows, credits).0
    }

    fn with(policy: Policy, rows: &[(Seq, &str)], credits: u32) -> (Desk, Vec<Effect>) {
        let mut desk = Desk { lane: Lane::new(policy, 42, Rest::default()), now: Time::from_ms(1_000_000) };
        desk.on(Event::Enqueued { seq: 0 });
        desk.on(Event::Opened { session: 1, receipts: false });
        desk.on(Event::Loaded { rows: rows.iter().map(|(seq, case)| row(*seq, case)).collect(), end: true });
        let effects = desk.on(Event::Credits { session: 1, count: credits });
        (desk, effects)
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = self.lane.handle(self.now, event);
        effects.retain(|effect| !matches!(effect, Effect::Wake { .. } | Effect::Rest(_)));
        effects
    }

    fn after(&mut self, ms: u64, event: Event) -> Vec<Effect> {
        self.now = self.now.plus_ms(ms);
        self.on(event)
    }

    fn credits(&mut self, session: SessionId, count: u32) -> Vec<Seq> {
        delivered(&self.on(Event::Credits { session, count }))
    }

    fn answer(&mut self, seq: Seq, attempt: Attempt, outcome: Outcome) -> Vec<Effect> {
        self.on(Event::Attempted { seq, attempt, session: 1, outcome })
    }

    /// Delivers up to `count`, each taken and settled at once: the order in which they came.
    fn drain(&mut self, session: SessionId, count: u32) -> Vec<Seq> {
        let mut order = Vec::new();
        let mut effects = self.on(Event::Credits { session, count });
        while let Some(Effect::Deliver { session, seq, attempt, .. }) = effects.pop() {
            order.push(seq);
            self.on(Event::Attempted { seq, attempt, session, outcome: Outcome::Taken });
            effects.extend(self.on(Event::Settled { seq }));
        }
        order
    }
}

/// A way in which attempt 1 can fail.
type Failure = fn(&mut Desk) -> Vec<Effect>;
/// A way in which a delivery can end and decide nothing.
type Ending = fn(&mut Desk, Attempt) -> Vec<Effect>;

fn row(seq: Seq, case: &str) -> Queued {
    let case = (!case.is_empty()).then(|| CaseKey::from(case));
    let (expires_at, doubt, alternative) = (Time::from_ms(u64::MAX), false, false);
    Queued { seq, case, deliveries: 0, parked_until: Time::ZERO, expires_at, doubt, alternative }
}

fn delivered(effects: &[Effect]) -> Vec<Seq> {
    let seq = |effect: &Effect| if let Effect::Deliver { seq, .. } = effect { Some(*seq) } else { None };
    effects.iter().filter_map(seq).collect()
}

fn sessions(effects: &[Effect]) -> Vec<SessionId> {
    let to = |effect: &Effect| if let Effect::Deliver { session, .. } = effect { Some(*session) } else { None };
    effects.iter().filter_map(to).collect()
}

fn deliver(desk: &Desk, seq: Seq, attempt: Attempt, count: u32) -> Effect {
    Effect::Deliver { session: 1, seq, attempt, count, until: desk.now.plus_ms(60_000) }
}

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

// Deadlines.

/// The moment at which the rows of these tests expire.
const DEADLINE: Time = Time::from_ms(1_100_000);

fn expiring(seq: Seq, case: &str, doubt: bool) -> Queued {
    Queued { expires_at: DEADLINE, doubt, ..row(seq, case) }
}

fn due(seq: Seq, doubt: bool) -> Event {
    Event::Due { seq, expires_at: DEADLINE, doubt }
}

fn settle(seq: Seq, deliveries: u32, fate: Fate) -> Effect {
    Effect::Settle { seq, deliveries, fate }
}

/// A lane with these rows read and one session, 1, without credits.
fn desk(policy: Policy, rows: Vec<Queued>) -> Desk {
    let mut desk = Desk::with(policy, &[], 0).0;
    desk.on(Event::Enqueued { seq: 0 });
    desk.on(Event::Loaded { rows, end: true });
    desk
}

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
    let table: [(&str, Outcome, Effect); 5] = [
        ("taken", Outcome::Taken, settle(1, 1, Fate::Taken { attempt: 1 })),
        ("later", Outcome::RetryLater { at: DEADLINE.plus_ms(9) }, settle(1, 1, Fate::Expired)),
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
    let table: [(&str, Policy, Outcome, Effect); 5] = [
        ("taken", Policy::push(), Outcome::Taken, settle(1, 1, Fate::Taken { attempt: 1 })),
        ("later", Policy::push(), later, settle(1, 1, Fate::Cancelled)),
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
