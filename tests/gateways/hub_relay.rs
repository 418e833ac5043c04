//! Two cities that reach each other through a hub: messages, replies and every receipt pass it, both sides have the whole
//! evidence, and a hub that keeps receipts back or makes them up changes no state.

use std::collections::BTreeSet;

use crate::alliance::{self, Alliance, City, Client, check, envelope, reason};
use crate::forge::Forge;
use tongban::evidence::Event;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
const HUB: &str = "hub/main";

/// What stands in the evidence of a message: which events, told by whom.
type Kinds = BTreeSet<(&'static str, String)>;

fn city(at: (&'static str, &'static str)) -> City<'static> {
    let systems: &[&str] = if at == LIUZHOU { &["window"] } else { &["approval"] };
    City { code: at.0, systems, relays: &[HUB], ..City::default() }
}

/// Liuzhou and Foshan, whose tables send everything by the hub.
fn alliance(change: impl Fn(&mut City)) -> Alliance {
    let mut cities = [city(LIUZHOU), city(FOSHAN)];
    cities.iter_mut().for_each(change);
    let alliance = Alliance::of(&["main"], &cities);
    alliance.route(LIUZHOU.0, FOSHAN.0, &[HUB]);
    alliance.route(FOSHAN.0, LIUZHOU.0, &[HUB]);
    alliance
}

async fn kinds(alliance: &Alliance, client: &Client, from: &str, id: &str) -> Kinds {
    let mut checker = alliance.checker();
    let receipts = client.evidence(from, id).await;
    let checked = receipts.into_iter().map(|receipt| check(&mut checker, receipt).evidence);
    checked.map(|evidence| (evidence.event.as_str(), evidence.issuer.to_string())).collect()
}

fn set(kinds: &[(&'static str, &str)]) -> Kinds {
    kinds.iter().map(|(event, issuer)| (*event, (*issuer).to_owned())).collect()
}

/// Waits until exactly these kinds stand in the evidence.
async fn stands(alliance: &Alliance, client: &Client, id: &str, expected: &Kinds) {
    let reached = async {
        while kinds(alliance, client, "", id).await != *expected {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(alliance::PATIENCE, reached).await.is_err() {
        assert_eq!(kinds(alliance, client, "", id).await, *expected);
    }
}

fn delivered(from: &str, to: &str) -> Kinds {
    set(&[
        ("SUBMISSION_ACCEPTED", from),
        ("WITNESSED", from),
        ("RELAY_ACCEPTED", HUB),
        ("RELAY_ACCEPTED", to),
        ("CONSIGNED", to),
        ("HANDED_OVER", to),
    ])
}

/// Sends a message, hands it over at the other city, and waits until its origin knows.
async fn walk(
    alliance: &Alliance,
    from: (&str, &str),
    to: (&str, &str),
    change: impl FnOnce(&mut pb::Envelope),
) -> String {
    let mut sent = envelope(from, to);
    change(&mut sent);
    let (sender, recipient) = (alliance.client(from.0, from.1), alliance.client(to.0, to.1));
    sender.submit(sent.clone()).await.unwrap();
    let mut mailbox = recipient.receive(1).await;
    let (delivery, message) = mailbox.delivery().await;
    let got = message.envelope.unwrap();
    assert_eq!((&got.message_id, &got.parts, &got.sealed), (&sent.message_id, &sent.parts, &None));
    assert_eq!(message.via, [HUB]);
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    sender.until("", &sent.message_id, pbe::State::Confirmed).await;
    stands(alliance, &sender, &sent.message_id, &delivered(from.0, to.0)).await;
    sent.message_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_and_its_reply_pass_a_hub_with_all_their_evidence() {
    let alliance = alliance(|_| {});
    let _hub = alliance.start("hub-main").await;
    let _cities = [alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await];
    let asked = walk(&alliance, LIUZHOU, FOSHAN, |_| {}).await;
    let reply = walk(&alliance, FOSHAN, LIUZHOU, |envelope| envelope.in_reply_to = asked.clone()).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    assert_eq!(window.message("", &asked).await.unwrap().replied_by, reply);
    // The hub's receipt is of the same message, and the recipient's first leaf follows the origin's.
    let mut checker = alliance.checker();
    let all: Vec<_> = window.evidence("", &asked).await.into_iter().map(|one| check(&mut checker, one)).collect();
    let digest = all[0].evidence.header_digest;
    assert!(all.iter().all(|one| one.evidence.header_digest == digest));
    let origin = all.iter().find(|one| one.evidence.event == Event::SubmissionAccepted).unwrap().receipt.leaf_hash();
    let relays = all.iter().filter(|one| one.evidence.event == Event::RelayAccepted);
    assert!(relays.clone().count() == 2 && relays.into_iter().all(|one| one.evidence.previous == Some(origin)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_beyond_the_hub_comes_home_and_names_who_refused() {
    let alliance = alliance(|_| {});
    let _hub = alliance.start("hub-main").await;
    let _cities = [alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await];
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let nobody = envelope(LIUZHOU, (FOSHAN.0, "nobody"));
    window.submit(nobody.clone()).await.unwrap();
    window.until("", &nobody.message_id, pbe::State::Rejected).await;
    let expected = set(&[
        ("SUBMISSION_ACCEPTED", LIUZHOU.0),
        ("WITNESSED", LIUZHOU.0),
        ("RELAY_ACCEPTED", HUB),
        ("RELAY_REJECTED", FOSHAN.0),
    ]);
    stands(&alliance, &window, &nobody.message_id, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_city_that_fetches_from_the_hub_is_served_alike() {
    let alliance = alliance(|city| {
        if city.code == FOSHAN.0 {
            (city.pulls, city.fetches) = (true, &[HUB]);
        }
    });
    let _hub = alliance.start("hub-main").await;
    let _cities = [alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await];
    let asked = walk(&alliance, LIUZHOU, FOSHAN, |_| {}).await;
    walk(&alliance, FOSHAN, LIUZHOU, |envelope| envelope.in_reply_to = asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_away_loses_neither_messages_nor_receipts() {
    let alliance = alliance(|_| {});
    let _cities = [alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await];
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let sent: Vec<_> = (0..10).map(|_| envelope(LIUZHOU, FOSHAN)).collect();
    for envelope in &sent {
        window.submit(envelope.clone()).await.unwrap();
    }
    let hub = alliance.start("hub-main").await;
    let mut mailbox = alliance.client(FOSHAN.0, FOSHAN.1).receive(20).await;
    let mut deliveries = vec![];
    for _ in &sent {
        deliveries.push(mailbox.delivery().await.0.delivery_id);
    }
    // The handovers happen while the hub is away again.
    hub.stop().await;
    for delivery in &deliveries {
        mailbox.acknowledge(delivery).await;
        mailbox.settled().await;
    }
    let _hub = alliance.start("hub-main").await;
    for envelope in &sent {
        window.until("", &envelope.message_id, pbe::State::Confirmed).await;
        stands(&alliance, &window, &envelope.message_id, &delivered(LIUZHOU.0, FOSHAN.0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_relayed_for_whose_record_does_not_list_the_hub() {
    let alliance = Alliance::of(
        &["main"],
        &[
            City { relays: &[], ..city(LIUZHOU) },
            city(FOSHAN),
            City { code: "640100", systems: &["desk"], ..City::default() },
        ],
    );
    let _hub = alliance.start("hub-main").await;
    let mut liuzhou = Forge::of(&alliance, LIUZHOU.0);
    let gateway = alliance.client_of("450200/gateway", HUB);
    let sent = envelope(LIUZHOU, FOSHAN);
    let origin = Some(liuzhou.honest(Event::SubmissionAccepted, &sent));
    let request = pb::SubmitRequest { envelope: Some(sent), origin_receipt: origin, via: vec![] };
    let refused = gateway.exchange.clone().submit(request).await.unwrap_err();
    assert_eq!(reason(&refused), "RELAY_NOT_ALLOWED", "the sender does not list it");
    let mut foshan = Forge::of(&alliance, FOSHAN.0);
    let gateway = alliance.client_of("440600/gateway", HUB);
    let mut sent = envelope(FOSHAN, ("640100", "desk"));
    sent.parts.clear();
    let origin = Some(foshan.honest(Event::SubmissionAccepted, &sent));
    let request = pb::SubmitRequest { envelope: Some(sent), origin_receipt: origin, via: vec![] };
    let refused = gateway.exchange.clone().submit(request).await.unwrap_err();
    assert_eq!(reason(&refused), "NO_ROUTE", "the recipient does not list it");
}

/// A message that the hub took and the recipient has, while nobody carries receipts home.
struct Silent {
    alliance: Alliance,
    _liuzhou: alliance::Gateway,
    window: Client,
    sent: pb::Envelope,
}

/// The hub takes a message and is gone.
async fn silent() -> Silent {
    let alliance = alliance(|_| {});
    let hub = alliance.start("hub-main").await;
    let liuzhou = alliance.start(LIUZHOU.0).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let sent = envelope(LIUZHOU, FOSHAN);
    window.submit(sent.clone()).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Relayed).await;
    hub.stop().await;
    Silent { alliance, _liuzhou: liuzhou, window, sent }
}

impl Silent {
    /// Brings receipts to the origin with the hub's certificate; the positions that were refused, with the text.
    async fn bring(&self, receipts: Vec<pbe::Receipt>) -> Vec<(u32, String)> {
        use pb::submit_stream_request::Request;
        let hub = self.alliance.client_of("hub-main/gateway", LIUZHOU.0);
        let batch = pb::ReceiptBatch { batch_id: "1".to_owned(), receipts, details: vec![] };
        let step = pb::SubmitStreamRequest { request: Some(Request::Receipts(batch)) };
        let mut answers = hub.exchange.clone().submit_stream(tokio_stream::once(step)).await.unwrap().into_inner();
        match answers.message().await.unwrap().unwrap().response.unwrap() {
            pb::submit_stream_response::Response::Receipts(accepted) => {
                accepted.refused.into_iter().map(|r| (r.position, r.status.unwrap().message)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn is_untouched(&self) {
        let message = self.window.message("", &self.sent.message_id).await.unwrap();
        assert_eq!(message.state(), pbe::State::Relayed);
        let expected = set(&[("SUBMISSION_ACCEPTED", LIUZHOU.0), ("WITNESSED", LIUZHOU.0), ("RELAY_ACCEPTED", HUB)]);
        assert_eq!(kinds(&self.alliance, &self.window, "", &self.sent.message_id).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_keeps_receipts_back_changes_no_state() {
    let silent = silent().await;
    assert_eq!(silent.bring(vec![]).await, []);
    silent.is_untouched().await;
    // Foshan's true word, whoever brings it, is still believed later.
    let handed_over = Forge::of(&silent.alliance, FOSHAN.0).honest(Event::HandedOver, &silent.sent);
    assert_eq!(silent.bring(vec![handed_over]).await, []);
    silent.window.until("", &silent.sent.message_id, pbe::State::Confirmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_makes_receipts_up_is_refused_and_changes_no_state() {
    let silent = silent().await;
    let (alliance, sent) = (&silent.alliance, &silent.sent);
    let foshan = Forge::of(alliance, FOSHAN.0);
    let mut hub = Forge::of(alliance, HUB);
    let mut unknown = Forge::unknown(foshan.key.verifying_key().name(), &foshan.member);
    let mut posing = Forge::of(alliance, HUB);
    posing.member = foshan.member.clone();
    let mut liuzhou = Forge::unknown("450200.gateway.alliance.example/log/a/1", &LIUZHOU.0.parse().unwrap());
    let mut bent = Forge::of(alliance, FOSHAN.0).honest(Event::HandedOver, sent);
    bent.leaf[30] ^= 1;
    let another = Forge::of(alliance, FOSHAN.0).honest(Event::HandedOver, &envelope(LIUZHOU, FOSHAN));
    let rows = [
        ("the recipient's word under a key that nobody knows", unknown.honest(Event::HandedOver, sent)),
        ("the recipient's word under the hub's own key", posing.honest(Event::HandedOver, sent)),
        ("a true receipt, altered", bent),
        ("a true receipt of another message", another),
        ("a handover that the hub tells itself", hub.honest(Event::HandedOver, sent)),
        ("a consignment that the hub tells itself", hub.honest(Event::Consigned, sent)),
        ("a refusal by a system that the hub tells itself", hub.honest(Event::HandoverFailed, sent)),
        ("the origin's own word", liuzhou.honest(Event::Cancelled, sent)),
    ];
    let (names, receipts): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let mut refused = silent.bring(receipts).await;
    refused.sort();
    let positions: Vec<_> = refused.iter().map(|(position, _)| names[*position as usize]).collect();
    assert_eq!(positions, names, "{refused:?}");
    silent.is_untouched().await;
}
