//! Shows that a gateway's test message walks the road of all messages to a partner and back, however that is reached; that
//! nobody but the two gateways sees it; and that a way that breaks is said to be broken, and where.

use std::collections::BTreeSet;
use std::process::Command;

use crate::alliance::{self, Alliance, City, Client, check, envelope, part, reason};
use crate::forge::Forge;
use crate::process::until;
use rusqlite::Connection;
use tongban::checks::{Verdict, Which, examine};
use tongban::clock::Clock;
use tongban::config::Config;
use tongban::evidence::{Event, State};
use tongban::grpc::health::{Said, ask};
use tongban::wire::envelope::time_to_wire;
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::PartnerTestStatus as Status;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::exchange as pb;
use tonic::transport::Channel;

const A: &str = "450200";
const B: &str = "440600";
/// It cannot be dialled, and fetches at A.
const C: &str = "640100";
const HUB: &str = "hub/main";
const TEST_ITEM: &str = "tongban.test";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// For how long somebody who asks for a test waits, at most.
const WAIT_MS: u64 = 20_000;
/// For how long a test message is under way, at most.
const TO_LIVE_MS: u64 = 120_000;

type Admin = AdminServiceClient<Channel>;

/// An alliance, and the operators of its cities.
struct World {
    alliance: Alliance,
    clock: Clock,
}

impl World {
    fn new(hubs: &[&str], cities: &[City]) -> World {
        let alliance = Alliance::of(hubs, cities);
        for city in cities {
            alliance.run(&["pki", "add-ops", city.code, "li"], &["--dir", &alliance.pki()]);
        }
        World { alliance, clock: Clock::default() }
    }

    /// Two cities that dial each other.
    fn two() -> World {
        World::new(&[], &[city(A, &["window"]), city(B, &["approval"])])
    }

    async fn start(&self, member: &str) -> alliance::Gateway {
        self.start_with(&self.alliance.config(member)).await
    }

    async fn start_with(&self, config: &Config) -> alliance::Gateway {
        self.alliance.start_by(config, self.clock.clone()).await
    }

    fn ops(&self, city: &str) -> Client {
        self.alliance.client_of(&format!("{city}/ops/li"), city)
    }

    fn admin(&self, city: &str) -> Admin {
        AdminServiceClient::new(self.ops(city).channel)
    }

    async fn test(&self, from: &str, to: &str) -> pba::PartnerTest {
        let request = pba::TestPartnerRequest { partner: to.to_owned() };
        self.admin(from).test_partner(request).await.unwrap().into_inner().test.unwrap()
    }

    /// How the way from one city to another stands.
    async fn stands(&self, from: &str, to: &str) -> pba::PartnerTest {
        let tests = self.admin(from).list_partner_tests(pba::ListPartnerTestsRequest {}).await.unwrap().into_inner();
        tests.tests.into_iter().find(|test| test.partner == to).unwrap()
    }

    /// What stands in the evidence of a test at its origin: which events, told by whom. Every receipt holds.
    async fn kinds(&self, id: &str) -> BTreeSet<(&'static str, String)> {
        let mut checker = self.alliance.checker();
        let receipts = self.ops(A).evidence("", id).await;
        let checked = receipts.into_iter().map(|receipt| check(&mut checker, receipt).evidence);
        checked.map(|told| (told.event.as_str(), told.issuer.to_string())).collect()
    }

    /// Messages accepted at this city, by its statistics.
    async fn counted(&self, city: &str) -> u64 {
        let (from, until) = (self.clock.now().minus_ms(DAY_MS), self.clock.now().plus_ms(DAY_MS));
        let (from, until) = (Some(time_to_wire(from)), Some(time_to_wire(until)));
        let request = pba::GetStatsRequest { from, until, by: pba::StatsBy::Item as i32, page_token: String::new() };
        let rows = self.admin(city).get_stats(request).await.unwrap().into_inner().rows;
        rows.iter().map(|row| row.accepted).sum()
    }

    /// Messages that the store of this city holds; its gateway does not run.
    fn held_by(&self, city: &str) -> u64 {
        let sql = Connection::open(self.alliance.config(city).data.join("store.db")).unwrap();
        sql.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
    }
}

fn city<'a>(code: &'a str, systems: &'a [&'a str]) -> City<'a> {
    City { code, systems, ..City::default() }
}

fn set(kinds: &[(&'static str, &str)]) -> BTreeSet<(&'static str, String)> {
    kinds.iter().map(|(event, issuer)| (*event, (*issuer).to_owned())).collect()
}

/// Messages that a caller is shown, of this item or of all.
async fn listed_of(client: &Client, item: &str) -> usize {
    let filter = Some(pb::MessageFilter { item_code: item.to_owned(), ..Default::default() });
    let request = pb::ListMessagesRequest { filter, ..Default::default() };
    client.exchange.clone().list_messages(request).await.unwrap().into_inner().messages.len()
}

async fn listed(client: &Client) -> usize {
    listed_of(client, "").await
}

/// A test message as a gateway writes it.
fn test_message(from: (&str, &str), to: (&str, &str)) -> pb::Envelope {
    pb::Envelope { item_code: TEST_ITEM.to_owned(), parts: vec![], ..envelope(from, to) }
}

fn is_ok(test: &pba::PartnerTest) {
    assert_eq!((test.status(), test.broken_at.as_str(), test.reason.as_str()), (Status::Ok, "", ""), "{test:?}");
    assert!(test.round_trip_ms < WAIT_MS && test.time.is_some(), "{test:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_reaches_a_partner_that_is_dialled_and_no_system_of_either_city_sees_it() {
    let world = World::two();
    let (_a, _b) = (world.start(A).await, world.start(B).await);
    assert_eq!(world.stands(A, B).await.status(), Status::Unknown);
    let test = world.test(A, B).await;
    is_ok(&test);
    assert_eq!(world.stands(A, B).await, test);
    assert_eq!(world.stands(B, A).await.status(), Status::Unknown, "the way back is another pair's");
    let witnessed = [("SUBMISSION_ACCEPTED", A), ("RELAY_ACCEPTED", B), ("HANDED_OVER", B), ("WITNESSED", A)];
    assert_eq!(world.kinds(&test.message_id).await, set(&witnessed));
    assert_eq!(world.ops(A).evidence("", &test.message_id).await.len(), 5, "each of two receipts witnessed once");

    let (window, approval) = (world.alliance.client(A, "window"), world.alliance.client(B, "approval"));
    for item in ["", TEST_ITEM] {
        assert_eq!((listed_of(&window, item).await, listed_of(&approval, item).await), (0, 0));
    }
    let (hidden, shown) = (listed(&world.ops(A)).await, listed_of(&world.ops(A), TEST_ITEM).await);
    assert_eq!((hidden, shown), (0, 1), "whoever operates the gateway asks for tests by their item");
    assert_eq!(reason(&window.message("", &test.message_id).await.unwrap_err()), "MESSAGE_NOT_FOUND");
    assert_eq!(reason(&approval.message(A, &test.message_id).await.unwrap_err()), "MESSAGE_NOT_FOUND");
    // A mailbox keeps its order: if the test had entered it, the test would come first.
    let sent = envelope((A, "window"), (B, "approval"));
    window.submit(sent.clone()).await.unwrap();
    let (_, message) = approval.receive(8).await.delivery().await;
    assert_eq!(message.envelope.unwrap().message_id, sent.message_id);
    assert_eq!((listed(&window).await, listed(&approval).await), (1, 1));
    for city in [A, B] {
        assert_eq!(world.counted(city).await, 1, "the statistics of {city}");
        let letters = world.admin(city).list_dead_letters(pba::ListDeadLettersRequest::default()).await.unwrap();
        assert_eq!(letters.into_inner().letters, []);
        let lanes = world.admin(city).list_lanes(pba::ListLanesRequest {}).await.unwrap().into_inner().lanes;
        assert!(lanes.iter().all(|lane| lane.name != format!("gateway/{city}")), "no lane to itself: {lanes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_reaches_a_partner_that_fetches() {
    let c = City { pulls: true, fetches: &[A], ..city(C, &["desk"]) };
    let world = World::new(&[], &[city(A, &["window"]), c]);
    let (_a, _c) = (world.start(A).await, world.start(C).await);
    let (there, back) = (world.test(A, C).await, world.test(C, A).await);
    is_ok(&there);
    is_ok(&back);
    assert_eq!((listed(&world.alliance.client(C, "desk")).await, world.counted(C).await), (0, 0));
    let witnessed = [("SUBMISSION_ACCEPTED", A), ("RELAY_ACCEPTED", C), ("HANDED_OVER", C), ("WITNESSED", A)];
    assert_eq!(world.kinds(&there.message_id).await, set(&witnessed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_takes_the_way_through_a_hub_that_the_partners_table_names() {
    let relayed = |code, systems| City { relays: &[HUB], ..city(code, systems) };
    let world = World::new(&["main"], &[relayed(A, &["window"]), relayed(B, &["approval"])]);
    world.alliance.route(A, B, &[HUB]);
    world.alliance.route(B, A, &[HUB]);
    let (_a, _b, _hub) = (world.start(A).await, world.start(B).await, world.start("hub-main").await);
    let test = world.test(A, B).await;
    is_ok(&test);
    let by_hub = world.kinds(&test.message_id).await;
    assert!(
        by_hub.is_superset(&set(&[("RELAY_ACCEPTED", HUB), ("RELAY_ACCEPTED", B), ("HANDED_OVER", B)])),
        "{by_hub:?}"
    );
    assert_eq!((listed(&world.alliance.client(B, "approval")).await, world.counted(B).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_away_is_pending_then_broken_where_it_breaks_and_ok_when_it_is_back() {
    let world = World::two();
    let _a = world.start(A).await;
    let ask = |world: &World| {
        let mut admin = world.admin(A);
        let request = pba::TestPartnerRequest { partner: B.to_owned() };
        tokio::spawn(async move { admin.test_partner(request).await.unwrap().into_inner().test.unwrap() })
    };
    let (first, second) = (ask(&world), ask(&world));
    until("a test is under way", async || world.stands(A, B).await.status() == Status::Pending).await;
    until("both have stopped waiting", async || {
        world.clock.advance(WAIT_MS / 20);
        first.is_finished() && second.is_finished()
    })
    .await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(first.message_id, second.message_id, "one test of a partner at a time");
    world.clock.advance(TO_LIVE_MS);
    until("the deadline was kept", async || world.stands(A, B).await.reason == "MESSAGE_EXPIRED").await;
    let broken = world.stands(A, B).await;
    assert_eq!((broken.status(), broken.broken_at.as_str()), (Status::Broken, "tcp"), "{broken:?}");
    let letters = world.admin(A).list_dead_letters(pba::ListDeadLettersRequest::default()).await.unwrap().into_inner();
    assert_eq!(letters.letters, [], "nobody has to decide anything about it");

    let _b = world.start(B).await;
    // The lane's rest ends.
    world.clock.advance(4 * TO_LIVE_MS);
    let back = world.test(A, B).await;
    is_ok(&back);
    assert_ne!(back.message_id, first.message_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_gateway_sends_a_test_and_only_for_its_own_city() {
    let world = World::new(&[], &[city(A, &["window"]), city(B, &["approval"]), city(C, &["desk"])]);
    let _a = world.start(A).await;
    let test = test_message;
    let (window, gateway) = (world.alliance.client(A, "window"), world.alliance.client_of("440600/gateway", A));
    let with_a_part = pb::Envelope { parts: vec![part("x.json", b"{}")], ..test((B, ""), (A, "")) };
    let rows = [
        ("a system", &window, test((A, "window"), (B, "")), "ITEM_RESERVED"),
        ("a system for its gateway", &window, test((A, ""), (B, "")), "ITEM_RESERVED"),
        ("a gateway for a system", &gateway, test((B, "approval"), (A, "")), "ITEM_RESERVED"),
        ("a gateway to a system", &gateway, test((B, ""), (A, "window")), "ITEM_RESERVED"),
        ("a gateway with a content", &gateway, with_a_part, "ITEM_RESERVED"),
        ("a gateway for another city", &gateway, test((C, ""), (A, "")), "NOT_PERMITTED"),
        ("a gateway without its receipt", &gateway, test((B, ""), (A, "")), "ORIGIN_RECEIPT_MISSING"),
    ];
    for (who, client, envelope, refused) in rows {
        assert_eq!(reason(&client.submit(envelope).await.unwrap_err()), refused, "{who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_sends_one_test_after_another_is_told_to_wait() {
    let world = World::two();
    let _a = world.start(A).await;
    let (gateway, mut log) = (world.alliance.client_of("440600/gateway", A), Forge::of(&world.alliance, B));
    let requests: Vec<_> = (0..64)
        .map(|_| {
            let envelope = test_message((B, ""), (A, ""));
            let origin_receipt = Some(log.honest(Event::SubmissionAccepted, &envelope));
            pb::SubmitRequest { envelope: Some(envelope), origin_receipt, via: vec![] }
        })
        .collect();
    let all = requests.into_iter().map(|request| {
        let mut exchange = gateway.exchange.clone();
        async move { exchange.submit(request).await.map(drop).map_err(|status| reason(&status)) }
    });
    let answers = futures_util::future::join_all(all).await;
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    let refusals: BTreeSet<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(taken >= 10, "{taken}");
    assert_eq!(refusals, BTreeSet::from(["BUSY".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_begin_by_themselves_and_never_where_the_schedule_is_off() {
    let world = World::two();
    let often = Config { test_every_s: 1, ..world.alliance.config(A) };
    let never = Config { test_every_s: 0, ..world.alliance.config(B) };
    // Nothing is sent on schedule to a partner that was found away.
    let b = world.start_with(&never).await;
    let a = world.start_with(&often).await;
    until("a test ended well", async || world.stands(A, B).await.status() == Status::Ok).await;
    let first = world.stands(A, B).await.message_id;
    until("and another", async || {
        let now = world.stands(A, B).await;
        now.status() == Status::Ok && now.message_id != first
    })
    .await;
    assert_eq!(world.stands(B, A).await.status(), Status::Unknown);

    // A restart forgets nothing.
    a.stop().await;
    let _a = world.start(A).await;
    assert_ne!(world.stands(A, B).await.status(), Status::Unknown);
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_go_early_but_the_newest_of_each_pair() {
    let world = World::two();
    let (a, b) = (world.start(A).await, world.start(B).await);
    for _ in 0..3 {
        is_ok(&world.test(A, B).await);
    }
    let sent = envelope((A, "window"), (B, "approval"));
    world.alliance.client(A, "window").submit(sent).await.unwrap();
    world.clock.advance(2 * DAY_MS);
    until("each gateway has swept", async || {
        let held = |city: &str| {
            let path = world.alliance.config(city).data.join("store.db");
            let readers = tongban::store::inspect(path.parent().unwrap()).unwrap();
            readers.look(|look| look.tests(&A.parse().unwrap(), &B.parse().unwrap(), 9)).unwrap().len()
        };
        held(A) == 1 && held(B) == 1
    })
    .await;
    is_ok(&world.stands(A, B).await);
    a.stop().await;
    b.stop().await;
    assert_eq!((world.held_by(A), world.held_by(B)), (2, 2), "a message of people stays");
    // What is left makes a whole log.
    let (_b, _a) = (world.start(B).await, world.start(A).await);
    is_ok(&world.stands(A, B).await);
}

/// How a test ended, planted in the store of a gateway that does not run; the stage that must be at fault, the code of its
/// advice, and where the way is said to break.
const BROKEN: [(&str, State, &str, &str, &str); 2] = [
    ("DELETE FROM received", State::Expired, "partner.echo", "partner_no_echo", "echo"),
    (
        "UPDATE message SET closed_at = NULL, expires_at = 0",
        State::Relayed,
        "partner.receipt",
        "partner_no_receipt",
        "receipt",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn checks_and_health_name_the_stage_at_which_a_test_broke() {
    let world = World::two();
    let path = world.alliance.config_path(A);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[checks]\npartners_every_s = 1\n")).unwrap();
    let (mut a, _b) = (world.start(A).await, world.start(B).await);
    let stages = async || {
        let findings = examine(&world.alliance.config(A), &world.clock, &Which::default()).await;
        let of_test = |check: &&str| ["partner.echo", "partner.receipt"].contains(check);
        let word = |finding: tongban::checks::Finding| match finding.look.verdict {
            Verdict::Fault(advice) => advice.code,
            other => other.word(),
        };
        findings.into_iter().filter(|finding| of_test(&finding.check)).map(word).collect::<Vec<_>>()
    };
    assert_eq!(stages().await, ["good", "good"], "a way that was never tested is not at fault");
    for (plant, state, stage, code, at) in BROKEN {
        is_ok(&world.test(A, B).await);
        assert_eq!(stages().await, ["good", "good"]);
        a.stop().await;
        let sql = Connection::open(world.alliance.config(A).data.join("store.db")).unwrap();
        sql.execute_batch(&format!("{plant}; UPDATE message SET state = {}", state as u8)).unwrap();
        drop(sql);
        a = world.start(A).await;
        let expected = if stage == "partner.echo" { [code, "skipped"] } else { ["good", code] };
        assert_eq!(stages().await, expected, "{stage}");
        let broken = world.stands(A, B).await;
        assert_eq!((broken.status(), broken.broken_at.as_str()), (Status::Broken, at));
        let said = async || ask(world.ops(A).channel, "partner/440600").await.unwrap().0;
        until("the partner's name turns", async || said().await == Said::NotServing).await;
        is_ok(&world.test(A, B).await);
        until("and back", async || said().await == Said::Serving).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_tests_a_partner() {
    let world = World::two();
    let _a = world.start(A).await;
    let b = world.start(B).await;
    let run = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
        command.args(line.split_whitespace()).args(["--as", "450200/ops/li", "--dir", &world.alliance.pki()]);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = run("--lang en partner test 440600");
    assert_eq!((code, told.contains("440600: ok, ") && told.contains(" ms there and back")), (0, true), "{told}");
    let (code, told) = run("--lang zh partner list");
    assert_eq!((code, told.contains("伙伴") && told.contains("正常")), (0, true), "{told}");
    let (code, told) = run("--json partner list");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["partners"][0]["status"]), (0, &"OK".into()), "{told}");
    assert_eq!(run("partner test 990000").0, 65);
    b.stop().await;
    let asked = tokio::task::spawn_blocking({
        let dir = world.alliance.pki();
        move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
            command.args(["--json", "partner", "test", B, "--as", "450200/ops/li", "--dir", &dir]);
            command.output().unwrap()
        }
    });
    until("it is over", async || {
        world.clock.advance(WAIT_MS / 20);
        asked.is_finished()
    })
    .await;
    let output = asked.await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}
