//! Shows that statistics say what the receipts say: of each message once, at both ends, by whatever they are counted, in pages
//! that add up.

use std::collections::BTreeMap;

use crate::alliance::{self, Alliance, City, Client, Mailbox, envelope, reason};
use crate::process::until;
use rusqlite::Connection;
use tongban::clock::Clock;
use tongban::party::Member;
use tongban::store::{self, StatsAsk, StatsBy, Sums};
use tongban::time::Time;
use tongban::wire::envelope::time_to_wire;
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const A: &str = "450200";
const B: &str = "440600";
/// Nobody is there.
const C: &str = "640100";
const HOUR_MS: u64 = 3_600_000;

struct World {
    alliance: Alliance,
    clock: Clock,
    window: Client,
}

impl World {
    async fn new() -> (World, alliance::Gateway, alliance::Gateway) {
        let city = |code, systems| City { code, systems, ..Default::default() };
        let cities = [city(A, &["window", "archive"]), city(B, &["approval"]), city(C, &["desk"])];
        let alliance = Alliance::of(&[], &cities);
        for (city, name) in [(A, "li"), (B, "huang")] {
            alliance.run(&["pki", "add-ops", city, name], &["--dir", &alliance.pki()]);
        }
        let clock = Clock::default();
        let a = alliance.start_by(&alliance.config(A), clock.clone()).await;
        let b = alliance.start_by(&alliance.config(B), clock.clone()).await;
        let window = alliance.client(A, "window");
        (World { alliance, clock, window }, a, b)
    }

    async fn send(&self, to: (&str, &str), item: &str, step: &str, mode: pb::Mode) -> String {
        let (item_code, step) = (item.to_owned(), step.to_owned());
        let created_at = Some(time_to_wire(self.clock.now()));
        let sent = pb::Envelope { item_code, step, mode: mode as i32, created_at, ..envelope((A, "window"), to) };
        let id = sent.message_id.clone();
        self.window.submit(sent).await.unwrap();
        id
    }

    async fn ask(&self, city: &str, who: &str, by: pba::StatsBy, (from, until): (Time, Time)) -> Vec<pba::StatsRow> {
        let mut ops = AdminServiceClient::new(self.alliance.client_of(&format!("{city}/ops/{who}"), city).channel);
        let (from, until) = (Some(time_to_wire(from)), Some(time_to_wire(until)));
        let request = pba::GetStatsRequest { from, until, by: by as i32, page_token: String::new() };
        let answer = ops.get_stats(request).await.unwrap().into_inner();
        assert_eq!(answer.next_page_token, "");
        answer.rows
    }
}

/// Takes so many messages and gives each this outcome.
async fn give(mailbox: &mut Mailbox, count: usize, outcome: fn() -> pb::outcome::Outcome) {
    let mut settled = 0;
    while settled < count {
        match mailbox.next().await.unwrap() {
            pb::receive_response::Response::Delivery(delivery) => mailbox.give(&delivery.delivery_id, outcome()).await,
            pb::receive_response::Response::Settled(_) => settled += 1,
            other => panic!("neither a message nor an end: {other:?}"),
        }
    }
}

fn taken() -> pb::outcome::Outcome {
    pb::outcome::Outcome::Acknowledge(pb::Acknowledge::default())
}

fn refused() -> pb::outcome::Outcome {
    pb::outcome::Outcome::Refuse(pb::Refuse { code: "NOT_OURS".to_owned(), ..Default::default() })
}

/// A row in short: way, key, and how many were accepted, handed over, rejected, cancelled, and are open.
fn short(row: &pba::StatsRow) -> (pba::Direction, &str, [u64; 5]) {
    (row.direction(), &row.key, [row.accepted, row.handed_over, row.rejected, row.cancelled, row.open])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_counts_once_as_its_receipts_say_at_both_ends() {
    use pba::Direction::{Received, Sent};
    use pba::StatsBy::{Item, Mode, Partner, Step};
    let (world, a, b) = World::new().await;
    let began = world.clock.now();
    let mut approval = world.alliance.client(B, "approval").receive(8).await;
    let mut archive = world.alliance.client(A, "archive").receive(8).await;
    let mut ends = vec![];
    for _ in 0..3 {
        ends.push((world.send((B, ""), "A", "accept", pb::Mode::Joint).await, pbe::State::Confirmed));
    }
    world.clock.advance(1_000);
    give(&mut approval, 3, taken).await;
    ends.push((world.send((B, ""), "B", "accept", pb::Mode::Online).await, pbe::State::Rejected));
    give(&mut approval, 1, refused).await;
    ends.push((world.send((A, "archive"), "A", "", pb::Mode::Unspecified).await, pbe::State::Confirmed));
    give(&mut archive, 1, taken).await;
    ends.push((world.send((C, ""), "A", "accept", pb::Mode::Joint).await, pbe::State::Accepted));
    let withdrawn = world.send((C, ""), "A", "conclude", pb::Mode::Joint).await;
    world.window.exchange.clone().cancel_message(pb::CancelMessageRequest { message_id: withdrawn }).await.unwrap();
    for (id, state) in &ends {
        world.window.until("", id, *state).await;
    }
    let middle = world.clock.now().plus_ms(1);
    world.clock.advance(HOUR_MS);
    world.send((B, ""), "Z", "", pb::Mode::Unspecified).await;
    let end = world.clock.now().plus_ms(HOUR_MS);

    let first = (began, middle);
    for (by, expected) in [
        (Partner, vec![(Sent, B, [4, 3, 1, 0, 0]), (Sent, A, [1, 1, 0, 0, 0]), (Sent, C, [2, 0, 0, 1, 1])]),
        (Item, vec![(Sent, "A", [6, 4, 0, 1, 1]), (Sent, "B", [1, 0, 1, 0, 0])]),
        (Mode, vec![(Sent, "", [1, 1, 0, 0, 0]), (Sent, "joint", [5, 3, 0, 1, 1]), (Sent, "online", [1, 0, 1, 0, 0])]),
        (
            Step,
            vec![(Sent, "", [1, 1, 0, 0, 0]), (Sent, "accept", [5, 3, 1, 0, 1]), (Sent, "conclude", [1, 0, 0, 1, 0])],
        ),
    ] {
        let rows = world.ask(A, "li", by, first).await;
        let mut expected = expected;
        expected.sort_by_key(|(_, key, _)| *key);
        assert_eq!(rows.iter().map(short).collect::<Vec<_>>(), expected, "{by:?}");
        assert_eq!(rows.iter().map(|row| row.bytes).sum::<u64>(), 7 * 12, "of one part of 12 bytes each");
    }
    let rows = world.ask(A, "li", Partner, first).await;
    let of_b = rows.iter().find(|row| row.key == B).unwrap();
    assert!((3_000..60_000).contains(&of_b.handover_ms), "a second and more each: {}", of_b.handover_ms);
    let rows = world.ask(B, "huang", Item, first).await;
    let expected = [(Received, "A", [3, 3, 0, 0, 0]), (Received, "B", [1, 0, 1, 0, 0])];
    assert_eq!(rows.iter().map(short).collect::<Vec<_>>(), expected, "at the other end");
    let rows = world.ask(A, "li", Item, (middle, end)).await;
    assert_eq!(rows.iter().map(short).map(|(_, key, counts)| (key, counts[0])).collect::<Vec<_>>(), [("Z", 1)]);
    assert_eq!(world.ask(A, "li", Item, (began.minus_ms(HOUR_MS), began)).await, []);

    until("it came", async || world.ask(B, "huang", Item, (middle, end)).await.len() == 1).await;
    a.stop().await;
    b.stop().await;
    pages_add_up(&world, (began, end));
}

/// Over the store of A, which no gateway uses now.
fn pages_add_up(world: &World, (from, until): (Time, Time)) {
    let (data, own) = (world.alliance.config(A).data, A.parse::<Member>().unwrap());
    let paged = |examined: usize, rows: usize| {
        let readers = store::inspect(&data).unwrap();
        let (mut place, mut all, mut pages) = (0, Sums::new(), 0);
        loop {
            let ask = StatsAsk { from, until, by: StatsBy::Partner, place, examined, rows };
            let (sums, next) = readers.look(|look| look.stats(&own, &ask)).unwrap();
            pages += 1;
            assert!(sums.len() <= rows && sums.values().map(|sum| sum.accepted).sum::<u64>() <= examined as u64);
            for (key, sum) in sums {
                let held = all.entry(key).or_default();
                (held.accepted, held.handed_over) = (held.accepted + sum.accepted, held.handed_over + sum.handed_over);
            }
            match next {
                Some(next) => place = next,
                None => {
                    return (all.into_values().map(|sum| (sum.accepted, sum.handed_over)).collect::<Vec<_>>(), pages);
                }
            }
        }
    };
    let (whole, pages) = paged(100, 100);
    assert_eq!(pages, 1);
    for (examined, rows) in [(1, 100), (3, 100), (100, 1), (2, 2)] {
        let (sums, pages) = paged(examined, rows);
        assert!(pages > 1 && sums == whole, "{examined} {rows}: {sums:?}, not {whole:?}");
    }
    // What no receipt says does not count.
    Connection::open(data.join("store.db")).unwrap().execute("UPDATE message SET state = 6, flags = 2", []).unwrap();
    assert_eq!(paged(100, 100).0, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_counted_is_refused_field_by_field() {
    let (world, ..) = World::new().await;
    let mut li = AdminServiceClient::new(world.alliance.client_of("450200/ops/li", A).channel);
    let now = world.clock.now();
    let at = |ms: u64| Some(time_to_wire(Time::from_ms(ms)));
    let good = pba::GetStatsRequest { from: at(now.ms() - 5), until: at(now.ms()), ..Default::default() };
    assert!(li.get_stats(good.clone()).await.is_ok());
    let days = |days: u64| at(now.ms() - days * 24 * HOUR_MS);
    assert!(li.get_stats(pba::GetStatsRequest { from: days(400), ..good.clone() }).await.is_ok());
    let faulty: BTreeMap<&str, pba::GetStatsRequest> = [
        ("no beginning", pba::GetStatsRequest { from: None, ..good.clone() }),
        ("no end", pba::GetStatsRequest { until: None, ..good.clone() }),
        ("an end before the beginning", pba::GetStatsRequest { from: good.until, until: good.from, ..good.clone() }),
        ("nothing between", pba::GetStatsRequest { from: good.until, ..good.clone() }),
        ("too long", pba::GetStatsRequest { from: days(401), ..good.clone() }),
        ("another key", pba::GetStatsRequest { by: 9, ..good.clone() }),
        ("another token", pba::GetStatsRequest { page_token: "x".to_owned(), ..good.clone() }),
    ]
    .into();
    for (what, request) in faulty {
        assert_eq!(reason(&li.get_stats(request).await.unwrap_err()), "INVALID_ENVELOPE", "{what}");
    }
}
