//! Decides whether only those may send who should: who speaks for whom, the window of times, what a grant covers, and how
//! many rejections are written down.

use tongban::admission::{DivisionPattern, Grant, Grants, Ration, Who, in_window, speaks_for};
use tongban::message::{Address, Envelope, ItemCode};
use tongban::party::{Division, Member, Party};
use tongban::reason::Reason;
use tongban::routing::ItemPattern;
use tongban::time::{SentTime, Time};

const CITY: &str = "spiffe://alliance.example/city/450200";
const OTHER: &str = "spiffe://alliance.example/city/440600";

fn party(city: &str, role: &str) -> Party {
    format!("{city}/{role}").parse().unwrap()
}

/// A message that the system `window` of the city 450200 wrote, ten seconds after 1970 began.
fn envelope() -> Envelope {
    Envelope {
        id: "0197c1a0-0000-7000-8000-000000000001".parse().unwrap(),
        from: Address { city: "450200".parse().unwrap(), system: Some("window".parse().unwrap()) },
        to: None,
        jurisdiction: None,
        redrive_of: None,
        item_code: "ITEM-1".parse().unwrap(),
        case_no: None,
        step: None,
        mode: None,
        in_reply_to: None,
        parts: vec![],
        sealed: None,
        attributes: Default::default(),
        created_at: SentTime::new(10, 0).unwrap(),
        expires_at: None,
        traceparent: None,
    }
}

#[test]
fn a_system_speaks_for_itself_to_its_own_gateway_and_a_gateway_for_its_city() {
    let (own, other): (Member, Member) = ("450200".parse().unwrap(), "440600".parse().unwrap());
    let table = [
        (CITY, "system/window", &own, true, "the system that wrote it"),
        (CITY, "system/archive", &own, false, "another system of the city"),
        (OTHER, "system/window", &other, false, "a system of that name in another city"),
        (CITY, "system/window", &other, false, "the right system at another city's gateway"),
        (OTHER, "system/window", &own, false, "another city's system at the right gateway"),
        (CITY, "gateway", &own, true, "the city's gateway"),
        (CITY, "gateway", &other, true, "the city's gateway elsewhere"),
        (OTHER, "gateway", &other, false, "another city's gateway"),
        (CITY, "ops/li", &own, false, "an operator"),
        (CITY, "auditor/li", &own, false, "an auditor"),
    ];
    for (city, role, gateway, speaks, who) in table {
        assert_eq!(speaks_for(&party(city, role), gateway, &envelope()), speaks, "{who}");
    }
    let mut of_the_city = envelope();
    of_the_city.from.system = None;
    assert!(!speaks_for(&party(CITY, "system/window"), &own, &of_the_city), "a system names itself");
}

#[test]
fn a_message_is_at_most_ten_minutes_early_and_four_hundred_days_late() {
    let (minutes, days, created) = (60_000, 86_400_000, 10_000);
    let judged = |now| in_window(&envelope(), Time::from_ms(now));
    let mut early = envelope();
    early.created_at = SentTime::new(10 + 600, 1_000_000).unwrap();
    assert_eq!(in_window(&early, Time::from_ms(created)), Err(Reason::ClockAhead), "a millisecond too early");
    assert_eq!(in_window(&early, Time::from_ms(created + 1)), Ok(()));
    assert_eq!(judged(0), Ok(()));
    assert_eq!(judged(created + 10 * minutes), Ok(()));
    assert_eq!(judged(created + 400 * days), Ok(()));
    assert_eq!(judged(created + 400 * days + 1), Err(Reason::IdTooOld));
}

fn grant(who: Who, items: &[&str], divisions: &[&str]) -> Grant {
    let item = |text: &&str| text.parse::<ItemPattern>().unwrap();
    let division = |text: &&str| text.parse::<DivisionPattern>().unwrap();
    Grant { who, items: items.iter().map(item).collect(), divisions: divisions.iter().map(division).collect() }
}

#[test]
fn a_grant_covers_an_item_and_a_city_together_and_whatever_is_left_open() {
    let grant = grant(Who::EverySystem, &["ITEM-1", "A-*"], &["4502*", "440600"]);
    let speaks = |item: Option<&str>, city: Option<&str>| {
        let item = item.map(|text| text.parse::<ItemCode>().unwrap());
        grant.speaks_of(item.as_ref(), city.map(|text| text.parse::<Division>().unwrap()).as_ref())
    };
    assert!(speaks(Some("ITEM-1"), Some("450200")) && speaks(Some("A-7"), Some("440600")));
    assert!(!speaks(Some("ITEM-1"), Some("440700")), "the item alone is not enough");
    assert!(!speaks(Some("ITEM-2"), Some("450200")), "nor the city alone");
    assert!(speaks(None, Some("440600")) && speaks(Some("A-7"), None) && speaks(None, None));
    assert!(!speaks(None, Some("440700")) && !speaks(Some("ITEM-2"), None));
}

#[test]
fn grants_cover_those_whom_they_name_and_nobody_else() {
    let (system, gateway, operator) = (party(CITY, "system/window"), party(OTHER, "gateway"), party(CITY, "ops/li"));
    let item = "ITEM-1".parse().unwrap();
    for (who, covered) in [
        (Who::EverySystem, [true, false, false]),
        (Who::EveryGateway, [false, true, false]),
        (Who::One(operator.clone()), [false, false, true]),
    ] {
        let grants = Grants(vec![grant(Who::One(party(CITY, "ops/wang")), &["*"], &["*"]), grant(who, &["*"], &["*"])]);
        for (party, covered) in [&system, &gateway, &operator].into_iter().zip(covered) {
            assert_eq!((grants.name(party), grants.allow(party, &item, None)), (covered, covered), "{party}");
        }
    }
    assert!(!Grants::default().name(&system));
    let elsewhere = Grants(vec![grant(Who::EverySystem, &["*"], &["44*"])]);
    assert!(elsewhere.name(&system) && !elsewhere.allow(&system, &item, Some(&"450200".parse().unwrap())));
}

#[test]
fn a_division_pattern_is_written_back_as_it_was_read() {
    for text in ["*", "45*", "450200", "450200123456"] {
        assert_eq!(text.parse::<DivisionPattern>().unwrap().to_string(), text);
    }
    assert!("4502001234567".parse::<DivisionPattern>().is_err(), "no division has thirteen digits");
}

#[test]
fn ten_rejections_a_second_are_written_down_and_whoever_shares_a_ration_shares_them() {
    let (ration, now) = (Ration::default(), Time::from_ms(5_000));
    let shared = ration.clone();
    let taken = (0..99).filter(|n| if n % 2 == 0 { ration.take(now) } else { shared.take(now) }).count();
    assert_eq!(taken, 10);
    assert!(shared.take(now.plus_ms(100)) && !ration.take(now.plus_ms(100)));
}
