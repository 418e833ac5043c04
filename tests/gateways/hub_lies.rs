//! A hub in the wrong hands: whatever it alters, forges, repeats or mixes up is refused by the recipient under the name of
//! the fault and leaves nothing; a changed order stands in the recipient's receipt.

use crate::alliance::{Alliance, City, Client, Gateway, check, envelope, part, reason};
use crate::forge::Forge;
use tongban::chance;
use tongban::clock::Clock;
use tongban::evidence::{Event, Evidence};
use tongban::reason::Reason;
use tongban::seal::{Context, seal};
use tongban::wire::envelope::{parse, sealed_content};
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
/// It lets no hub relay.
const YINCHUAN: (&str, &str) = ("640100", "desk");
const HUB: &str = "hub/main";
const SIDE: &str = "hub/side";

struct World {
    alliance: Alliance,
    liuzhou: Gateway,
    _main: Gateway,
    _foshan: Gateway,
    /// The hub's certificate, at the recipient.
    hub: Client,
    /// Liuzhou's log in the wrong hands, to say what its gateway would not.
    forge: Forge,
}

/// A true hub between two cities, whose certificate, key and messages are ours.
async fn world() -> World {
    let city = City { relays: &[HUB, SIDE], ..City::default() };
    let alliance = Alliance::of(
        &["main", "side"],
        &[
            City { code: LIUZHOU.0, systems: &[LIUZHOU.1], ..city },
            // What waits for it at the hub is there to be read with its certificate.
            City { code: FOSHAN.0, systems: &[FOSHAN.1], pulls: true, ..city },
            City { code: YINCHUAN.0, systems: &[YINCHUAN.1], ..City::default() },
        ],
    );
    alliance.route(LIUZHOU.0, FOSHAN.0, &[HUB]);
    World {
        hub: alliance.client_of("hub-main/gateway", FOSHAN.0),
        forge: Forge::of(&alliance, LIUZHOU.0),
        liuzhou: alliance.start(LIUZHOU.0).await,
        _main: alliance.start("hub-main").await,
        _foshan: alliance.start(FOSHAN.0).await,
        alliance,
    }
}

impl World {
    /// Sends messages through the true gateway, and returns them as the hub has them: sealed, each with its receipt.
    async fn at_the_hub(&self, sent: &[pb::Envelope]) -> Vec<pb::SubmitRequest> {
        let window = self.alliance.client(LIUZHOU.0, LIUZHOU.1);
        for envelope in sent {
            window.submit(envelope.clone()).await.unwrap();
        }
        let mut foshan = Forge::of(&self.alliance, FOSHAN.0);
        let mut mailbox = self.alliance.client_of("440600/gateway", HUB).receive(1).await;
        let mut held = vec![];
        for _ in sent {
            let (delivery, message) = mailbox.delivery().await;
            let pb::Message { envelope, origin_receipt, via } = message;
            // The next of the same case comes only after this one.
            let receipt = Some(foshan.honest(Event::RelayAccepted, envelope.as_ref().unwrap()));
            let taken = pb::Acknowledge { receipt, ..Default::default() };
            mailbox.give(&delivery.delivery_id, pb::outcome::Outcome::Acknowledge(taken)).await;
            mailbox.settled().await;
            mailbox.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
            held.push(pb::SubmitRequest { envelope, origin_receipt, via });
        }
        held.sort_by_key(|request| sent.iter().position(|one| one.message_id == id(request)));
        assert!(held.iter().all(|request| request.via == [HUB] && of(request).parts.is_empty()));
        held
    }

    async fn bring(&self, request: pb::SubmitRequest) -> Result<pbe::Receipt, tonic::Status> {
        Ok(self.hub.exchange.clone().submit(request).await?.into_inner().receipt.unwrap())
    }

    /// The recipient says that it does not know the message.
    async fn is_unknown(&self, what: &str, request: &pb::SubmitRequest) {
        let gateway = self.alliance.client_of("450200/gateway", FOSHAN.0);
        let looked = gateway.message(LIUZHOU.0, &id(request)).await.unwrap_err();
        assert_eq!(reason(&looked), "MESSAGE_NOT_FOUND", "{what}");
    }

    fn evidence(&self, receipt: pbe::Receipt) -> Evidence {
        check(&mut self.alliance.checker(), receipt).evidence
    }
}

fn id(request: &pb::SubmitRequest) -> String {
    of(request).message_id.clone()
}

fn of(request: &pb::SubmitRequest) -> &pb::Envelope {
    request.envelope.as_ref().unwrap()
}

fn sealed(request: &mut pb::SubmitRequest) -> &mut pb::SealedParts {
    request.envelope.as_mut().unwrap().sealed.as_mut().unwrap()
}

fn header(request: &mut pb::SubmitRequest) -> &mut pb::Envelope {
    request.envelope.as_mut().unwrap()
}

/// Alters a byte of what is sealed.
fn flip(request: &mut pb::SubmitRequest, at: usize) {
    let mut bytes = sealed(request).ciphertext.to_vec();
    bytes[at] ^= 1;
    sealed(request).ciphertext = bytes.into();
}

/// What the hub does to a message before it brings it; the other message is one that it holds too.
type Lie = fn(&mut World, &mut pb::SubmitRequest, &pb::SubmitRequest);

const LIES: &[(&str, &str, Lie)] = &[
    // Altered.
    ("a bit of the ciphertext", "SEAL_INVALID", |_, r, _| flip(r, 40)),
    ("the ciphertext cut short", "SEAL_INVALID", |_, r, _| sealed(r).ciphertext.truncate(30)),
    ("a bit of the encapsulated key", "SEAL_INVALID", |_, r, _| sealed(r).encapsulated_key[3] ^= 1),
    ("the name of the key", "SEAL_INVALID", |_, r, _| sealed(r).key_id[0] ^= 1),
    ("the number of parts", "SEAL_INVALID", |_, r, _| sealed(r).parts += 1),
    ("the total size", "SEAL_INVALID", |_, r, _| sealed(r).total_size += 1),
    ("the digest of the part list", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| {
        sealed(r).parts_digest.as_mut().unwrap().value[0] ^= 1;
    }),
    ("the item", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| header(r).item_code.push('1')),
    ("the case", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| header(r).case_no = "other".to_owned()),
    ("the sending system", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| {
        header(r).from.as_mut().unwrap().system = "x".to_owned();
    }),
    ("the receiving system", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| header(r).to.as_mut().unwrap().system = String::new()),
    ("an attribute more", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| {
        drop(header(r).attributes.insert("urgent".to_owned(), "yes".to_owned()));
    }),
    ("the deadline", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| header(r).expires_at = header(r).created_at),
    ("the content taken away", "ORIGIN_RECEIPT_FOREIGN", |_, r, _| header(r).sealed = None),
    ("another message's content", "SEAL_INVALID", |_, r, other| {
        let digest = sealed(r).parts_digest.clone();
        *sealed(r) = pb::SealedParts { parts_digest: digest, ..of(other).sealed.clone().unwrap() };
    }),
    ("another message's content with its digest", "SEAL_INVALID", |_, r, other| {
        *sealed(r) = of(other).sealed.clone().unwrap();
    }),
    ("content of its own, well sealed", "SEAL_INVALID", |w, r, _| own_content(w, r)),
    ("content in the clear", "UNSEALED_RELAY", |_, r, _| {
        header(r).sealed = None;
        header(r).parts = vec![part("form.json", b"{\"name\":\"x\"}")];
    }),
    // Forged.
    ("no receipt", "ORIGIN_RECEIPT_MISSING", |_, r, _| r.origin_receipt = None),
    ("another message's receipt", "ORIGIN_RECEIPT_FOREIGN", |_, r, other| {
        r.origin_receipt = other.origin_receipt.clone();
    }),
    ("the hub's own receipt", "ORIGIN_RECEIPT_FOREIGN", |w, r, _| {
        r.origin_receipt = Some(Forge::of(&w.alliance, HUB).honest(Event::SubmissionAccepted, of(r)));
    }),
    ("the origin's word under the hub's key", "ORIGIN_RECEIPT_INVALID", |w, r, _| {
        let mut posing = Forge::of(&w.alliance, HUB);
        posing.member = w.forge.member.clone();
        r.origin_receipt = Some(posing.honest(Event::SubmissionAccepted, of(r)));
    }),
    ("the origin's word under a key that nobody knows", "ORIGIN_RECEIPT_INVALID", |w, r, _| {
        let mut unknown = Forge::unknown(w.forge.key.verifying_key().name(), &w.forge.member);
        r.origin_receipt = Some(unknown.honest(Event::SubmissionAccepted, of(r)));
    }),
    ("an altered receipt", "ORIGIN_RECEIPT_INVALID", |_, r, _| r.origin_receipt.as_mut().unwrap().leaf[30] ^= 1),
    ("an old receipt of something else", "ORIGIN_RECEIPT_FOREIGN", |w, r, _| {
        r.origin_receipt = Some(w.forge.honest(Event::HandedOver, of(r)));
    }),
    // Stale.
    ("a message past its deadline", "MESSAGE_EXPIRED", |w, r, _| {
        let mut evidence = w.forge.says(Event::SubmissionAccepted, of(r));
        evidence.expires_at = Some(tongban::time::Time::from_ms(Clock::default().now().ms() - 1));
        r.origin_receipt = Some(w.forge.issue(&evidence));
    }),
    // By ways that are none.
    ("no way", "NOT_PERMITTED", |_, r, _| r.via.clear()),
    ("another hub's way", "NOT_PERMITTED", |_, r, _| r.via = vec![SIDE.to_owned()]),
    ("a way that ends elsewhere", "NOT_PERMITTED", |_, r, _| r.via.push(SIDE.to_owned())),
    ("a way through a city", "RELAY_NOT_ALLOWED", |_, r, _| r.via.insert(0, YINCHUAN.0.to_owned())),
    ("a way through the recipient", "RELAY_LOOP", |_, r, _| r.via.insert(0, FOSHAN.0.to_owned())),
    ("a way through three hubs", "RELAY_LOOP", |_, r, _| r.via = [HUB, SIDE, HUB].map(str::to_owned).into()),
    ("a way that is no name", "INVALID_ENVELOPE", |_, r, _| r.via = vec!["???".to_owned()]),
    ("a city that lists no hub", "RELAY_NOT_ALLOWED", |w, r, _| {
        header(r).from = envelope(YINCHUAN, FOSHAN).from;
        r.origin_receipt = Some(Forge::of(&w.alliance, YINCHUAN.0).honest(Event::SubmissionAccepted, of(r)));
    }),
];

/// Anybody can seal for the recipient: only the digests say whose content it is.
fn own_content(world: &World, request: &mut pb::SubmitRequest) {
    let (directory, recipient) = (world.alliance.directory(), FOSHAN.0.parse().unwrap());
    let key = directory.member(&recipient).unwrap().sealing_key.unwrap();
    let header_digest = parse(of(request).clone()).unwrap().header_digest();
    let context = Context { alliance: directory.alliance(), recipient: &recipient, header_digest };
    let mut own = envelope(LIUZHOU, FOSHAN);
    own.parts = vec![part("form.json", b"{\"name\":\"y\"}")];
    let content = sealed_content(&parse(own).unwrap().parts);
    let made = seal(&key, &context, &content, chance::bytes().unwrap()).unwrap();
    sealed(request).encapsulated_key = made.encapsulated.to_vec();
    sealed(request).ciphertext = made.ciphertext.into();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_of_a_hub_is_refused_by_its_name_and_leaves_nothing() {
    let mut world = world().await;
    let sent = [envelope(LIUZHOU, FOSHAN), envelope(LIUZHOU, FOSHAN)];
    let held = world.at_the_hub(&sent).await;
    for (what, expected, lie) in LIES {
        let mut request = held[0].clone();
        lie(&mut world, &mut request, &held[1]);
        assert_ne!(request, held[0], "{what}");
        let refused = world.bring(request.clone()).await.expect_err(what);
        assert_eq!(reason(&refused), *expected, "{what}: {refused:?}");
        world.is_unknown(what, &held[0]).await;
    }
    // As the origin gave them, both are taken, and their content is what was sent.
    let mut mailbox = world.alliance.client(FOSHAN.0, FOSHAN.1).receive(2).await;
    for (request, sent) in held.into_iter().zip(&sent) {
        let taken = world.bring(request).await.unwrap();
        assert_eq!(world.evidence(taken).event, Event::RelayAccepted);
        let (_, message) = mailbox.delivery().await;
        assert_eq!(message.envelope.as_ref().unwrap().parts, sent.parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_hub_repeats_gets_the_same_receipt_and_is_delivered_once() {
    let world = world().await;
    let held = world.at_the_hub(&[envelope(LIUZHOU, FOSHAN), envelope(LIUZHOU, FOSHAN)]).await;
    let first = world.bring(held[0].clone()).await.unwrap();
    let mut mailbox = world.alliance.client(FOSHAN.0, FOSHAN.1).receive(8).await;
    let (delivery, _) = mailbox.delivery().await;
    assert_eq!(world.bring(held[0].clone()).await.unwrap(), first, "while it waits");
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    for _ in 0..5 {
        assert_eq!(world.bring(held[0].clone()).await.unwrap(), first, "after it was handed over");
    }
    // What no longer opens is known by its header.
    let mut again = held[0].clone();
    flip(&mut again, 0);
    assert_eq!(world.bring(again).await.unwrap(), first, "its key may be gone by then");
    world.bring(held[1].clone()).await.unwrap();
    let (_, message) = mailbox.delivery().await;
    assert_eq!(message.envelope.unwrap().message_id, id(&held[1]), "nothing came between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_refuses_what_went_through_it_before() {
    let world = world().await;
    let held = world.at_the_hub(&[envelope(LIUZHOU, FOSHAN)]).await;
    let side = world.alliance.client_of("hub-side/gateway", HUB);
    let mut request = held[0].clone();
    request.via.push(SIDE.to_owned());
    let refused = side.exchange.clone().submit(request).await.unwrap_err();
    assert_eq!(reason(&refused), "RELAY_LOOP");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_case_that_a_hub_brings_in_another_order_are_marked_in_the_recipients_receipts() {
    let world = world().await;
    let case = |name: &str| {
        let numbered = |_| pb::Envelope { case_no: name.to_owned(), ..envelope(LIUZHOU, FOSHAN) };
        (0..3).map(numbered).collect::<Vec<_>>()
    };
    let rows: [(&str, [usize; 3], [bool; 3]); 4] = [
        ("in order", [0, 1, 2], [false, false, false]),
        ("the second first", [1, 0, 2], [false, true, false]),
        ("the last first", [2, 0, 1], [false, true, false]),
        ("backwards", [2, 1, 0], [false, true, true]),
    ];
    for (name, order, marked) in rows {
        let held = world.at_the_hub(&case(name)).await;
        for (place, marked) in order.into_iter().zip(marked) {
            let taken = world.bring(held[place].clone()).await.unwrap();
            let evidence = world.evidence(taken);
            assert_eq!(evidence.event, Event::RelayAccepted);
            let expected: Vec<_> = marked.then(|| Reason::OutOfOrder.into()).into_iter().collect();
            assert_eq!(evidence.reasons, expected, "{name}: {place}");
            // A message that is late is marked once, in the receipt that goes back, and delivered all the same.
            let gateway = world.alliance.client_of("450200/gateway", FOSHAN.0);
            assert_eq!(gateway.message(LIUZHOU.0, &id(&held[place])).await.unwrap().state(), pbe::State::Consigned);
        }
    }
    world.liuzhou.stop().await;
}
