//! Shows that a right that was withdrawn holds for what waits already: nothing of it is delivered or read afterwards, and
//! nothing is lost when it is given back.

use std::collections::BTreeSet;

use crate::alliance::{Alliance, City, Client, Mailbox, envelope, reason};
use crate::process::until;
use tongban::admission::Grants;
use tongban::clock::Clock;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::routing as pbr;
use tongban::wire::pb::routing::routing_service_client::RoutingServiceClient;

const A: &str = "450200";
const B: &str = "440600";

/// A message that waits in the archive's mailbox at `B`.
async fn waiting(window: &Client) -> String {
    let sent = envelope((A, "window"), (B, "archive"));
    window.submit(sent.clone()).await.unwrap();
    window.until(A, &sent.message_id, pbe::State::Consigned).await;
    sent.message_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_whose_grant_was_withdrawn_gets_nothing_until_it_has_it_back() {
    let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
    let origin = alliance.start(A).await;
    let partner = alliance.start(B).await;
    let window = alliance.client(A, "window");
    let waits = waiting(&window).await;
    partner.stop().await;

    // Partners may still bring; the own systems have no grant any more.
    let clock = Clock::default();
    let mut config = alliance.config(B);
    let grants = std::mem::take(&mut config.grants);
    config.grants =
        Grants(grants.0.iter().filter(|grant| grant.who == tongban::admission::Who::EveryGateway).cloned().collect());
    let partner = alliance.start_by(&config, clock.clone()).await;
    let archive = alliance.client(B, "archive");
    let mut mailbox = archive.receive(8).await;
    let more = waiting(&window).await;
    // What is not there cannot be waited for: something later on the same stream must come first. Time goes in steps that end
    // no lease: whoever is asked about a message has one step to decide.
    for _ in 0..6 {
        clock.advance(30_500);
        mailbox.say(pb::receive_request::Request::Extend(pb::ExtendLease::default())).await;
        let told = mailbox.next().await.unwrap();
        assert!(matches!(told, pb::receive_response::Response::Refused(_)), "{told:?}");
    }
    let unseen = archive.submit(envelope((B, "archive"), (A, "window"))).await.unwrap_err();
    assert_eq!(reason(&unseen), "NOT_PERMITTED");
    drop((mailbox, archive));
    partner.stop().await;

    config.grants = grants;
    let partner = alliance.start_by(&config, clock.clone()).await;
    clock.advance(61_000);
    let archive = alliance.client(B, "archive");
    let mut mailbox = archive.receive(8).await;
    let mut came = Vec::new();
    while came.len() < 2 {
        let (delivery, message) = mailbox.delivery().await;
        assert_eq!(delivery.delivery_count, 1, "what was not given is not counted");
        came.push(message.envelope.unwrap().message_id);
    }
    came.sort();
    let mut sent = [waits, more];
    sent.sort();
    assert_eq!(came, sent);
    origin.stop().await;
    partner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_has_left_the_directory_gets_nothing_that_waited_for_it() {
    let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
    let clock = Clock::default();
    let origin = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let window = alliance.client(A, "window");
    let sent = envelope((A, "window"), (B, "archive"));
    window.submit(sent.clone()).await.unwrap();
    origin.stop().await;

    let pki = alliance.pki();
    let (directory, key) = (format!("{pki}/directory.note"), format!("{pki}/alliance.key"));
    alliance.run(&["directory", "remove"], &[&directory, B, "--key", &key]);
    let origin = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let refused = window.submit(envelope((A, "window"), (B, "archive"))).await.unwrap_err();
    assert_eq!(reason(&refused), "NO_ROUTE");
    until("the message that waited has expired", async || {
        clock.advance(24 * 60 * 60 * 1000);
        window.message(A, &sent.message_id).await.unwrap().state() == pbe::State::Expired
    })
    .await;
    origin.stop().await;
}

/// The item that stays allowed whatever is withdrawn.
const STAYS: &str = "2250";

/// A table in which the item that stays has its row, and all the others have this one, if any.
fn table(owner: &str, stays: &str, others: Option<&str>) -> String {
    let row = |item: &str, target: &str| format!("[[route]]\ndivision = {owner:?}\nitem = {item:?}\n{target}\n");
    let others = others.map(|target| row("*", target)).unwrap_or_default();
    format!("owner = {owner:?}\n{}{others}", row(STAYS, stays))
}

/// Puts a table in force at a gateway that runs, as its operator would.
async fn publish(alliance: &Alliance, at: &str, table: String) {
    let mut ops = RoutingServiceClient::new(alliance.client_of(&format!("{at}/ops/li"), at).channel);
    let etag = ops.get_tables(pbr::GetTablesRequest::default()).await.unwrap().into_inner().etag;
    ops.publish_tables(pbr::PublishTablesRequest { etag, tables: vec![table], complete: false }).await.unwrap();
}

fn add_ops(alliance: &Alliance, city: &str) {
    alliance.run(&["pki", "add-ops", city, "li"], &["--dir", &alliance.pki()]);
}

async fn submit(window: &Client, to: (&str, &str), item: Option<&str>) -> String {
    let mut sent = envelope((A, "window"), to);
    sent.item_code = item.map_or(sent.item_code, str::to_owned);
    window.submit(sent.clone()).await.unwrap();
    sent.message_id
}

async fn three(window: &Client, to: (&str, &str)) -> BTreeSet<String> {
    BTreeSet::from([submit(window, to, None).await, submit(window, to, None).await, submit(window, to, None).await])
}

/// The ids that come down a mailbox until `last` has come, or `count` of them.
async fn come(mailbox: &mut Mailbox, last: Option<&str>, count: usize) -> BTreeSet<String> {
    let mut came = BTreeSet::new();
    while came.len() < count && last.is_none_or(|last| !came.contains(last)) {
        let pb::receive_response::Response::Delivery(delivery) = mailbox.next().await.unwrap() else { continue };
        let Some(pb::delivery::Content::Message(message)) = delivery.content else { panic!("a message") };
        let envelope = message.envelope.unwrap();
        assert!(delivery.delivery_count == 1 || envelope.item_code == STAYS, "what was not given is not counted");
        came.insert(envelope.message_id);
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_was_withdrawn_stops_what_waits_for_a_partner_until_it_is_back() {
    let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
    add_ops(&alliance, A);
    let clock = Clock::default();
    let origin = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let direct = "via = [\"direct\"]";
    publish(&alliance, A, table(B, direct, Some(direct))).await;
    let window = alliance.client(A, "window");
    let waits = three(&window, (B, "archive")).await;
    publish(&alliance, A, table(B, direct, None)).await;

    let partner = alliance.start_by(&alliance.config(B), clock.clone()).await;
    let archive = alliance.client(B, "archive");
    let is = async |id: &str, state| {
        clock.advance(1_000);
        window.message(A, id).await.unwrap().state() == state
    };
    // Each is offered again after a minute; a message that is allowed comes after each such round.
    for round in 1..=3 {
        let allowed = submit(&window, (B, "archive"), Some(STAYS)).await;
        until("the allowed message arrives", async || is(&allowed, pbe::State::Consigned).await).await;
        for id in &waits {
            assert!(is(id, pbe::State::Accepted).await, "round {round}");
            assert_eq!(reason(&archive.message(A, id).await.unwrap_err()), "MESSAGE_NOT_FOUND", "round {round}");
        }
        clock.advance(61_000);
    }
    publish(&alliance, A, table(B, direct, Some(direct))).await;
    for id in &waits {
        until("what waited arrives", async || is(id, pbe::State::Consigned).await).await;
    }
    origin.stop().await;
    partner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_was_withdrawn_keeps_what_waits_from_a_partner_that_fetches() {
    let cities = [
        City { code: A, systems: &["window"], ..City::default() },
        City { code: B, systems: &["archive"], pulls: true, ..City::default() },
    ];
    let alliance = Alliance::of(&[], &cities);
    let (fetcher, pull) = (alliance.client_of(&format!("{B}/gateway"), A), "via = [\"pull\"]");
    let tables = [table(B, pull, Some(pull)), table(B, pull, None)];
    withdrawn_from_a_mailbox(&alliance, &fetcher, (B, "archive"), tables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_the_own_table_refuses_stays_in_the_mailbox_of_its_system() {
    let alliance = Alliance::new(&[(A, &["window", "archive"])]);
    let archive = alliance.client(A, "archive");
    let system = "system = \"archive\"";
    let tables = [table(A, system, Some(system)), table(A, system, Some("refuse = \"SUSPENDED\""))];
    withdrawn_from_a_mailbox(&alliance, &archive, (A, ""), tables).await;
}

/// What waits in a mailbox at `A` stays there while the second table is in force, and comes with the first.
async fn withdrawn_from_a_mailbox(alliance: &Alliance, reader: &Client, to: (&str, &str), tables: [String; 2]) {
    add_ops(alliance, A);
    let clock = Clock::default();
    let origin = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let [allowed, withdrawn] = tables;
    publish(alliance, A, allowed.clone()).await;
    let window = alliance.client(A, "window");
    let waits = three(&window, to).await;
    publish(alliance, A, withdrawn).await;

    let mut mailbox = reader.receive(64).await;
    let mut states = BTreeSet::new();
    for round in 1..=3 {
        let last = submit(&window, to, Some(STAYS)).await;
        let came = come(&mut mailbox, Some(&last), usize::MAX).await;
        assert!(waits.is_disjoint(&came), "round {round}: {came:?}");
        for id in &waits {
            states.insert(window.message(A, id).await.unwrap().state);
        }
        clock.advance(61_000);
    }
    assert_eq!(states.len(), 1, "nothing happens to them: {states:?}");
    publish(alliance, A, allowed).await;
    clock.advance(61_000);
    let mut missing = waits;
    while !missing.is_empty() {
        for came in come(&mut mailbox, None, 1).await {
            missing.remove(&came);
        }
    }
    drop(mailbox);
    origin.stop().await;
}
