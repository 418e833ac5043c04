//! A partner that fetches leaves the same evidence at the origin as one that is dialled, whatever becomes of a message.

use std::collections::BTreeSet;

use crate::alliance::{self, Alliance, City, Client, Gateway, check, envelope};
use tongban::clock::Clock;
use tongban::wire::envelope::time_to_wire;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
/// It is dialled.
const FOSHAN: (&str, &str) = ("440600", "approval");
/// It fetches.
const YINCHUAN: (&str, &str) = ("640100", "approval");

/// What stands in the evidence of a message: which events, told by whom.
type Kinds = BTreeSet<(&'static str, &'static str)>;

struct World {
    alliance: Alliance,
    _liuzhou: Gateway,
    window: Client,
}

async fn world() -> World {
    let alliance = Alliance::of(
        &[],
        &[
            City { code: LIUZHOU.0, systems: &[LIUZHOU.1], ..City::default() },
            City { code: FOSHAN.0, systems: &[FOSHAN.1], ..City::default() },
            City { code: YINCHUAN.0, systems: &[YINCHUAN.1], pulls: true, fetches: &[LIUZHOU.0], ..City::default() },
        ],
    );
    let liuzhou = alliance.start(LIUZHOU.0).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    World { alliance, _liuzhou: liuzhou, window }
}

impl World {
    /// Waits until the evidence of a message has this many kinds, and returns them; every receipt holds.
    async fn kinds(&self, id: &str, complete: &Kinds) -> Kinds {
        let look = async || -> Kinds {
            let mut checker = self.alliance.checker();
            let receipts = self.window.evidence("", id).await;
            let checked = receipts.into_iter().map(|receipt| check(&mut checker, receipt).evidence);
            let role = |issuer: &tongban::party::Member| {
                if issuer.to_string() == LIUZHOU.0 { "origin" } else { "recipient" }
            };
            checked.map(|evidence| (evidence.event.as_str(), role(&evidence.issuer))).collect()
        };
        let reached = async {
            loop {
                let kinds = look().await;
                if kinds.is_superset(complete) {
                    return kinds;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(alliance::PATIENCE, reached).await {
            Ok(kinds) => kinds,
            Err(_) => panic!("{complete:?} never stood there: {:?}", look().await),
        }
    }

    /// Sends one message to each partner, lets `play` act at each, and compares what stands at the origin.
    async fn same_for_both(
        &self,
        change: impl Fn(&mut pb::Envelope),
        play: impl AsyncFn(&World, (&str, &str), &str),
        state: pbe::State,
        expected: &[(&'static str, &'static str)],
    ) {
        let expected: Kinds = expected.iter().copied().collect();
        for partner in [FOSHAN, YINCHUAN] {
            let mut sent = envelope(LIUZHOU, partner);
            change(&mut sent);
            self.window.submit(sent.clone()).await.unwrap();
            play(self, partner, &sent.message_id).await;
            self.window.until("", &sent.message_id, state).await;
            assert_eq!(self.kinds(&sent.message_id, &expected).await, expected, "{partner:?}");
        }
    }
}

fn expires_in(ms: u64) -> impl Fn(&mut pb::Envelope) {
    move |envelope| envelope.expires_at = Some(time_to_wire(Clock::default().now().plus_ms(ms)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_fetches_leaves_the_evidence_of_one_that_is_dialled() {
    let world = world().await;
    let _partners = [world.alliance.start(FOSHAN.0).await, world.alliance.start(YINCHUAN.0).await];
    let take = async |world: &World, to: (&str, &str), id: &str| {
        let mut mailbox = world.alliance.client(to.0, to.1).receive(1).await;
        let (delivery, message) = mailbox.delivery().await;
        assert_eq!(message.envelope.unwrap().message_id, id);
        mailbox.acknowledge(&delivery.delivery_id).await;
        mailbox.settled().await;
    };
    let handed_over = [
        ("SUBMISSION_ACCEPTED", "origin"),
        ("WITNESSED", "origin"),
        ("RELAY_ACCEPTED", "recipient"),
        ("CONSIGNED", "recipient"),
        ("HANDED_OVER", "recipient"),
    ];
    world.same_for_both(|_| {}, take, pbe::State::Confirmed, &handed_over).await;

    let refuse = async |world: &World, to: (&str, &str), _: &str| {
        let mut mailbox = world.alliance.client(to.0, to.1).receive(1).await;
        let (delivery, _) = mailbox.delivery().await;
        let refuse = pb::Refuse { code: "MATERIALS_MISSING".to_owned(), ..Default::default() };
        mailbox.give(&delivery.delivery_id, pb::outcome::Outcome::Refuse(refuse)).await;
        mailbox.settled().await;
    };
    let refused = [&handed_over[..4], &[("HANDOVER_FAILED", "recipient")]].concat();
    world.same_for_both(|_| {}, refuse, pbe::State::Rejected, &refused).await;

    // Its system does not come for it in time.
    let nobody = async |_: &World, _: (&str, &str), _: &str| {};
    let expired = [&handed_over[..4], &[("EXPIRED", "recipient")]].concat();
    world.same_for_both(expires_in(2_500), nobody, pbe::State::Expired, &expired).await;

    // The partner's own gateway refuses it: it has no such system.
    let elsewhere = |envelope: &mut pb::Envelope| {
        if let Some(to) = &mut envelope.to {
            to.system = "nobody".to_owned();
        }
    };
    let rejected = [&handed_over[..2], &[("RELAY_REJECTED", "recipient")]].concat();
    world.same_for_both(elsewhere, nobody, pbe::State::Rejected, &rejected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_partner_came_for_expires_at_the_origin_alike() {
    let world = world().await;
    let nobody = async |_: &World, _: (&str, &str), _: &str| {};
    let expired = [("SUBMISSION_ACCEPTED", "origin"), ("EXPIRED", "origin")];
    world.same_for_both(expires_in(1_500), nobody, pbe::State::Expired, &expired).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_fetches_answers_by_dialling_and_gets_its_own_receipts_by_fetching() {
    let world = world().await;
    let _yinchuan = world.alliance.start(YINCHUAN.0).await;
    let asked = envelope(LIUZHOU, YINCHUAN);
    world.window.submit(asked.clone()).await.unwrap();
    let approval = world.alliance.client(YINCHUAN.0, YINCHUAN.1);
    let mut mailbox = approval.receive(1).await;
    let (delivery, message) = mailbox.delivery().await;
    let got = message.envelope.unwrap();
    assert_eq!((&got.message_id, &got.parts), (&asked.message_id, &asked.parts));
    mailbox.acknowledge(&delivery.delivery_id).await;
    let reply = pb::Envelope { in_reply_to: asked.message_id.clone(), ..envelope(YINCHUAN, LIUZHOU) };
    approval.submit(reply.clone()).await.unwrap();
    let mut mailbox = world.window.receive(1).await;
    let (delivery, message) = mailbox.delivery().await;
    assert_eq!(message.envelope.unwrap().message_id, reply.message_id);
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    // The receipt of the handover can only have come by the mailbox that it fetches from.
    approval.until("", &reply.message_id, pbe::State::Confirmed).await;
    let asked = world.window.until("", &asked.message_id, pbe::State::Confirmed).await;
    assert_eq!(asked.replied_by, reply.message_id);
}
