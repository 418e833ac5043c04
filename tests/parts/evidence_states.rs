//! Decides whether a message's state follows from its events as published: the first end stands, and only a handover can
//! still come after one.

use tongban::evidence::{AssertedBy, Code, Event, Standing, State};
use tongban::reason::Reason;

/// What each state, in the order of their numbers, becomes by an event; a dot where the event changes nothing, a star where
/// it came late.
const TABLE: [(Event, &str); 13] = [
    (Event::SubmissionAccepted, ". . . . . . . ."),
    (Event::SubmissionRejected, ". . . . . . . ."),
    (Event::RelayAccepted, "RELAYED . . . . . . ."),
    (Event::RelayRejected, "REJECTED REJECTED REJECTED . . . . ."),
    (Event::RelayFailed, "FAILED FAILED FAILED . . . . ."),
    (Event::Consigned, "CONSIGNED CONSIGNED . . . . . ."),
    (Event::ConsignmentFailed, "REJECTED REJECTED REJECTED . . . . ."),
    (Event::HandedOver, "CONFIRMED CONFIRMED CONFIRMED . . CONFIRMED* CONFIRMED* CONFIRMED*"),
    (Event::HandoverFailed, "REJECTED REJECTED REJECTED . . . . ."),
    (Event::Expired, "EXPIRED EXPIRED EXPIRED . . . . ."),
    (Event::Cancelled, "CANCELLED CANCELLED CANCELLED . . . . ."),
    (Event::Delayed, ". . . . . . . ."),
    (Event::Witnessed, ". . . . . . . ."),
];

#[test]
fn the_first_end_stands_and_only_a_handover_still_comes_after_one() {
    for (event, becomes) in TABLE {
        let told = |state: &State| match Standing::from(*state).after(event) {
            None => ".".to_owned(),
            Some(next) => format!("{}{}", next.state, if next.late { "*" } else { "" }),
        };
        let all: Vec<String> = State::ALL.iter().map(told).collect();
        assert_eq!(all.join(" "), becomes, "{event}");
    }
}

#[test]
fn a_next_hops_refusal_gives_way_to_a_handover_and_the_recipients_refusal_does_not() {
    let in_doubt = Standing { in_doubt: true, ..State::Accepted.into() };
    let turned_back = in_doubt.after(Event::RelayRejected).unwrap();
    let rejected = Standing { state: State::Rejected, in_doubt: true, late: false, turned_back: true };
    assert_eq!(turned_back, rejected);
    for (event, _) in TABLE.into_iter().filter(|(event, _)| *event != Event::HandedOver) {
        assert_eq!(turned_back.after(event), None, "{event}");
    }
    let late = Standing { late: true, ..State::Confirmed.into() };
    assert_eq!(turned_back.after(Event::HandedOver), Some(late), "no longer in doubt");
    for (event, _) in TABLE {
        assert_eq!(late.after(event), None, "{event}");
    }
    for refused in [Event::ConsignmentFailed, Event::HandoverFailed] {
        let rejected = in_doubt.after(refused).unwrap();
        assert_eq!((rejected.state, rejected.turned_back), (State::Rejected, false), "{refused}");
        assert_eq!(rejected.after(Event::HandedOver), None, "{refused}");
    }
}

#[test]
fn receipts_alone_tell_by_what_follows_a_next_hops_refusal_whether_it_was_the_end() {
    let in_doubt = Standing { in_doubt: true, ..State::Accepted.into() };
    let turned_back = in_doubt.told(Event::RelayRejected);
    assert_eq!(Some(turned_back), in_doubt.after(Event::RelayRejected));
    for (event, _) in TABLE {
        // What says nothing leaves it as it is; what says something, says it of the next candidate; a handover came late.
        let expected = match (event, in_doubt.after(event)) {
            (Event::HandedOver, _) => turned_back.after(event).unwrap(),
            (Event::Delayed, _) => in_doubt,
            (_, next) => next.unwrap_or(turned_back),
        };
        assert_eq!(turned_back.told(event), expected, "{event}");
        let consigned = Standing::from(State::Consigned);
        assert_eq!(consigned.told(event), consigned.after(event).unwrap_or(consigned), "{event}");
    }
}

#[test]
fn a_state_says_whether_it_is_the_end_and_whether_a_bad_one() {
    let such = |is: fn(State) -> bool| State::ALL.iter().filter(move |state| is(**state)).map(|state| state.as_str());
    let ends = ["CONFIRMED", "REJECTED", "FAILED", "EXPIRED", "CANCELLED"];
    assert_eq!(such(State::is_final).collect::<Vec<_>>(), ends);
    assert_eq!(such(State::is_dead).collect::<Vec<_>>(), ["REJECTED", "FAILED", "EXPIRED"]);
}

#[test]
fn numbers_and_names_are_the_published_ones() {
    for (at, event) in Event::ALL.iter().enumerate() {
        assert_eq!((Event::from_number(at as u8 + 1), *event as usize), (Some(*event), at + 1));
    }
    assert_eq!((Event::from_number(0), Event::from_number(14)), (None, None));
    assert_eq!((State::from_number(8), State::from_number(9)), (Some(State::Cancelled), None));
    assert_eq!((AssertedBy::from_number(3), AssertedBy::from_number(4)), (Some(AssertedBy::RecipientReceipt), None));
    assert_eq!(format!("{:<10}|{:>10}", Event::Delayed, AssertedBy::Issuer), "DELAYED   |    issuer");
}

#[test]
fn a_code_is_short_and_of_few_letters() {
    let code = |text: &str| text.parse::<Code>().map(|code| code.as_str().to_owned());
    let longest = "A".repeat(32);
    for good in ["A", "Z9_.-", "NO_ROUTE", &longest] {
        assert_eq!(code(good).as_deref(), Ok(good));
    }
    for bad in ["", "a", "A B", "A/B", "É", &format!("{longest}A")] {
        assert!(code(bad).is_err(), "{bad}");
    }
    assert_eq!(Code::from(Reason::NoRoute).as_str(), "NO_ROUTE");
}
