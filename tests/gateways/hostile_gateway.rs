//! A partner's gateway in the wrong hands: true certificate, true log key, and whatever it likes to say. It cannot bring
//! in what its city never accepted, end what it did not take, or speak for others.

use crate::alliance::{Client, PATIENCE, check, envelope, part, reason};
use crate::forge::{APPROVAL, Forge, WINDOW, World, sent, stands, unsign};
use tokio::time::timeout;
use tongban::clock::Clock;
use tongban::evidence::{Event, Evidence};
use tongban::message::Digest;
use tongban::reason::Reason;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::receipt;
use tongban::wire::status::{Answered, from_status, from_wire};

use Reason::{OriginReceiptForeign as Foreign, OriginReceiptInvalid as Invalid, OriginReceiptMissing as Missing};
use pb::submit_stream_request::Request as Step;
use pb::submit_stream_response::Response as Answer;

fn theirs() -> pb::Envelope {
    envelope(APPROVAL, WINDOW)
}

async fn relay(
    client: &Client,
    envelope: pb::Envelope,
    origin: Option<pbe::Receipt>,
) -> Result<pbe::Receipt, Answered> {
    let request = pb::SubmitRequest { envelope: Some(envelope), origin_receipt: origin, via: vec![] };
    let answer = client.exchange.clone().submit(request).await;
    answer.map(|answer| answer.into_inner().receipt.unwrap()).map_err(|status| from_status(&status))
}

type Forged = fn(&mut World, &pb::Envelope) -> Option<pbe::Receipt>;

/// What comes as the origin's receipt, why it is refused, and the word in the answer that says which part.
const ORIGINS: &[(&str, Forged, Reason, &str)] = &[
    ("nothing", |_, _| None, Missing, ""),
    ("an empty receipt", |_, _| Some(pbe::Receipt::default()), Invalid, "leaf"),
    // Its form.
    ("no leaf", |w, e| w.bent(e, |r| r.leaf.clear()), Invalid, "leaf"),
    ("a leaf with a byte more", |w, e| w.bent(e, |r| r.leaf.push(0)), Invalid, "leaf"),
    ("a leaf that is cut", |w, e| w.bent(e, |r| r.leaf.truncate(100)), Invalid, "leaf"),
    ("another index", |w, e| w.bent(e, |r| r.leaf_index += 1), Invalid, "leaf or proof"),
    ("an index outside", |w, e| w.bent(e, |r| r.leaf_index = u64::MAX), Invalid, "index"),
    ("no path", |w, e| w.bent(e, |r| r.inclusion_path.clear()), Invalid, "proof"),
    ("a longer path", |w, e| w.bent(e, |r| r.inclusion_path.push(vec![0; 32].into())), Invalid, "proof"),
    ("a path of short hashes", |w, e| w.bent(e, |r| r.inclusion_path[0].truncate(31)), Invalid, "proof"),
    ("a path turned around", |w, e| w.bent(e, |r| r.inclusion_path.reverse()), Invalid, "leaf or proof"),
    ("no checkpoint", |w, e| w.bent(e, |r| r.checkpoint.clear()), Invalid, "format"),
    ("a checkpoint without signature", |w, e| w.bent(e, unsign), Invalid, "format"),
    ("a checkpoint with a carriage return", |w, e| w.bent(e, carriage_return), Invalid, "format"),
    ("the checkpoint of another receipt", other_checkpoint, Invalid, "index"),
    // Who signed.
    ("a key that no directory knows", |w, e| signed_by(&mut w.stranger, e), Invalid, "signature"),
    ("a log that no directory knows", unknown_log, Invalid, "origin"),
    ("a third city's log, in the partner's name", in_anothers_log, Invalid, "issuer"),
    ("the partner's log, in a third city's name", |w, e| w.but(e, |e| e.issuer = third()), Invalid, "issuer"),
    ("another key's id", |w, e| w.but(e, |e| e.key_id ^= 1), Invalid, "key"),
    // What the log holds, although it is no evidence of this version.
    ("bytes that are no leaf", |w, _| Some(w.foshan.prove(b"hello".to_vec())), Invalid, "leaf"),
    ("a field that may not be ignored", |w, e| tampered(w, e, |leaf| leaf.extend([0x5f, 1, 1])), Invalid, "leaf"),
    ("a leaf of another kind", |w, e| tampered(w, e, |leaf| leaf[1] = 2), Invalid, "leaf"),
    ("a leaf too long", |w, e| tampered(w, e, |leaf| leaf.resize(641, 0)), Invalid, "leaf"),
    // What it says.
    ("another event", |w, e| w.but(e, |e| e.event = Event::RelayAccepted), Foreign, "event"),
    ("a rejection", rejection, Foreign, "event"),
    ("a third city's word", |w, e| signed_by(&mut w.yinchuan, e), Foreign, "issuer"),
    ("our own word", |w, e| signed_by(&mut w.own, e), Foreign, "issuer"),
    ("another message's receipt", |w, _| signed_by(&mut w.foshan, &theirs()), Foreign, "message id"),
    ("another message id", |w, e| w.but(e, |e| e.message_id = ID.parse().unwrap()), Foreign, "message id"),
    ("another sending city", |w, e| w.but(e, |e| e.from.city = "640100".parse().unwrap()), Foreign, "sender"),
    ("another sending system", |w, e| w.but(e, |e| e.from.system = None), Foreign, "sender"),
    ("another content", other_content, Foreign, "header digest"),
    ("another header digest", |w, e| w.but(e, |e| e.header_digest = Digest([7; 32])), Foreign, "header digest"),
    ("another recipient city", |w, e| w.but(e, |e| to(e, "640100")), Foreign, "recipient"),
    ("no recipient", |w, e| w.but(e, |e| e.to = None), Foreign, "recipient"),
];

const ID: &str = "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f";

fn third() -> tongban::party::Member {
    "640100".parse().unwrap()
}

fn to(evidence: &mut Evidence, city: &str) {
    evidence.to.as_mut().unwrap().city = city.parse().unwrap();
}

fn carriage_return(receipt: &mut pbe::Receipt) {
    receipt.checkpoint = receipt.checkpoint.replacen('\n', "\r\n", 1);
}

fn other_checkpoint(world: &mut World, envelope: &pb::Envelope) -> Option<pbe::Receipt> {
    let earlier = world.foshan.honest(Event::SubmissionAccepted, envelope).checkpoint;
    world.bent(envelope, |receipt| receipt.checkpoint = earlier)
}

fn signed_by(forge: &mut Forge, envelope: &pb::Envelope) -> Option<pbe::Receipt> {
    Some(forge.honest(Event::SubmissionAccepted, envelope))
}

fn unknown_log(world: &mut World, envelope: &pb::Envelope) -> Option<pbe::Receipt> {
    let name = "440600.gateway.alliance.example/log/b/1";
    signed_by(&mut Forge::unknown(name, &world.foshan.member), envelope)
}

fn in_anothers_log(world: &mut World, envelope: &pb::Envelope) -> Option<pbe::Receipt> {
    let mut evidence = world.foshan.says(Event::SubmissionAccepted, envelope);
    evidence.key_id = world.yinchuan.key.verifying_key().id();
    Some(world.yinchuan.issue(&evidence))
}

fn tampered(world: &mut World, envelope: &pb::Envelope, tamper: fn(&mut Vec<u8>)) -> Option<pbe::Receipt> {
    let mut leaf = world.foshan.says(Event::SubmissionAccepted, envelope).to_leaf().unwrap();
    tamper(&mut leaf);
    Some(world.foshan.prove(leaf))
}

fn rejection(world: &mut World, envelope: &pb::Envelope) -> Option<pbe::Receipt> {
    Some(world.foshan.honest(Event::SubmissionRejected, envelope))
}

fn other_content(world: &mut World, envelope: &pb::Envelope) -> Option<pbe::Receipt> {
    let other = pb::Envelope { parts: vec![part("form.json", b"another")], ..envelope.clone() };
    signed_by(&mut world.foshan, &other)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_its_origins_true_receipt_is_refused_before_custody() {
    let mut world = World::new().await;
    let partner = world.partner();
    let (mut wrong, mut envelopes) = (vec![], vec![]);
    for (what, forged, expected, word) in ORIGINS {
        let envelope = theirs();
        let origin = forged(&mut world, &envelope);
        let Err(answered) = relay(&partner, envelope.clone(), origin).await else { panic!("{what}: accepted") };
        let told = answered.text.strip_prefix(&format!("{}: ", expected.en())).unwrap_or_default().starts_with(word);
        if answered.reason.as_deref() != Some(expected.code()) || !told || answered.receipt.is_some() {
            wrong.push(format!("{what}: {:?} {:?}", answered.reason, answered.text));
        }
        envelopes.push(envelope);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ORIGINS.len(), wrong.join("\n"));
    for envelope in envelopes {
        let asked = partner.message("440600", &envelope.message_id).await;
        assert_eq!(reason(&asked.unwrap_err()), "MESSAGE_NOT_FOUND");
    }
    assert_eq!(world.kept().await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_receipt_with_any_byte_changed_is_refused() {
    let mut world = World::new().await;
    let partner = world.partner();
    let envelope = theirs();
    let good = world.foshan.honest(Event::SubmissionAccepted, &envelope);
    let mut changed: Vec<pbe::Receipt> = vec![];
    for at in 0..good.leaf.len() {
        let mut receipt = good.clone();
        receipt.leaf[at] ^= 1;
        changed.push(receipt);
    }
    for (hash, at) in (0..good.inclusion_path.len()).flat_map(|hash| (0..32).map(move |at| (hash, at))) {
        let mut receipt = good.clone();
        let mut bent = receipt.inclusion_path[hash].to_vec();
        bent[at] ^= 0x80;
        receipt.inclusion_path[hash] = bent.into();
        changed.push(receipt);
    }
    for at in 0..good.checkpoint.len() {
        let mut bytes = good.checkpoint.clone().into_bytes();
        bytes[at] ^= 1;
        changed.extend(String::from_utf8(bytes).map(|checkpoint| pbe::Receipt { checkpoint, ..good.clone() }));
    }
    changed.extend([0, 2, 3, 1 << 40].map(|leaf_index| pbe::Receipt { leaf_index, ..good.clone() }));
    assert!(changed.len() > 450, "{}", changed.len());
    for receipt in changed {
        let answered = relay(&partner, envelope.clone(), Some(receipt.clone())).await.expect_err("refused");
        assert_eq!(answered.reason.as_deref(), Some("ORIGIN_RECEIPT_INVALID"), "{receipt:?}");
    }
    let taken = relay(&partner, envelope.clone(), Some(good)).await.expect("the true one is taken");
    let taken = check(&mut world.alliance.checker(), taken);
    assert_eq!((taken.evidence.event, taken.receipt.proof.index), (Event::RelayAccepted, 0), "the first leaf of all");
    assert_eq!(world.kept().await, (2, 1, 2), "a mailbox and receipts on their way home");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_brings_its_own_citys_messages_only() {
    let mut world = World::new().await;
    let partner = world.partner();
    // True in every part, but brought by somebody who may not relay.
    let third = envelope(("640100", "desk"), WINDOW);
    let ours = envelope(WINDOW, ("450200", "archive"));
    let (origin_third, origin_ours) = (signed_by(&mut world.yinchuan, &third), signed_by(&mut world.own, &ours));
    for (envelope, origin) in [(third, origin_third), (ours, origin_ours)] {
        let answered = relay(&partner, envelope, origin).await.unwrap_err();
        assert_eq!(answered.reason.as_deref(), Some("NOT_PERMITTED"));
        assert_eq!(answered.receipt, None);
    }
    assert_eq!(world.kept().await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_true_message_refused_by_rule_gets_a_receipt_that_follows_its_origins() {
    let mut world = World::new().await;
    let partner = world.partner();
    let first = theirs();
    let origin = signed_by(&mut world.foshan, &first);
    relay(&partner, first.clone(), origin).await.unwrap();
    let conflict = pb::Envelope { parts: vec![part("form.json", b"another")], ..first };
    let late = theirs();
    let over = world.but(&late, |evidence| evidence.expires_at = Some(Clock::default().now().minus_ms(1)));
    let rows = [
        (conflict.clone(), signed_by(&mut world.foshan, &conflict), Reason::IdempotencyConflict),
        (late, over, Reason::MessageExpired),
        relayed(&mut world, envelope(APPROVAL, ("450200", "nobody")), Reason::NoSuchSystem),
        relayed(&mut world, envelope(APPROVAL, ("640100", "desk")), Reason::NoRoute),
        relayed(&mut world, envelope(APPROVAL, ("440600", "approval")), Reason::NoRoute),
    ];
    let leaves = 2 + rows.len() as u64;
    for (envelope, origin, expected) in rows {
        let previous = receipt::from_wire(origin.clone().unwrap()).unwrap().leaf_hash();
        let answered = relay(&partner, envelope.clone(), origin).await.unwrap_err();
        assert_eq!(answered.reason.as_deref(), Some(expected.code()));
        let rejected = world.alliance.checker().check(answered.receipt.expect("a receipt")).unwrap().evidence;
        assert_eq!(rejected.event, Event::RelayRejected);
        assert_eq!(rejected.reasons[0].as_str(), expected.code());
        assert_eq!(rejected.message_id.to_string(), envelope.message_id);
        let follows = rejected.previous == Some(previous);
        assert_eq!(follows, expected != Reason::IdempotencyConflict, "a conflict follows our own last word");
    }
    assert_eq!(world.kept().await, (leaves, 1, 2), "a mailbox and receipts on their way home");
}

fn relayed(
    world: &mut World,
    envelope: pb::Envelope,
    expected: Reason,
) -> (pb::Envelope, Option<pbe::Receipt>, Reason) {
    let origin = signed_by(&mut world.foshan, &envelope);
    (envelope, origin, expected)
}

// Receipts on their way home.

/// Sends one batch home and returns the refused positions, or the refusal of the whole.
async fn bring(client: &Client, batch: pb::ReceiptBatch) -> Result<Vec<(u32, Answered)>, Answered> {
    let id = batch.batch_id.clone();
    let step = pb::SubmitStreamRequest { request: Some(Step::Receipts(batch)) };
    let mut down = client.exchange.clone().submit_stream(tokio_stream::iter([step])).await.unwrap().into_inner();
    let answer = timeout(PATIENCE, down.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.id, id[..id.len().min(64)]);
    match answer.response.unwrap() {
        Answer::Receipts(taken) => Ok(taken
            .refused
            .into_iter()
            .map(|refused| (refused.position, from_wire(&refused.status.unwrap())))
            .collect()),
        Answer::Status(status) => Err(from_wire(&status)),
        other => panic!("{other:?}"),
    }
}

fn batch(receipts: Vec<pbe::Receipt>) -> pb::ReceiptBatch {
    pb::ReceiptBatch { batch_id: "b".to_owned(), receipts, details: vec![] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_receipt_on_its_way_home_is_refused_and_the_good_ones_beside_it_are_taken() {
    let mut world = World::new().await;
    let partner = world.partner();
    let (sent, window) = sent(&world).await;
    let ours = window.evidence("", &sent.message_id).await[0].clone();
    let relay_accepted = world.foshan.honest(Event::RelayAccepted, &sent);
    let other_digest = pb::Envelope { parts: vec![], ..sent.clone() };
    let mut altered = world.foshan.honest(Event::HandedOver, &sent);
    altered.leaf[20] ^= 1;
    let mut malformed = world.foshan.honest(Event::HandedOver, &sent);
    malformed.inclusion_path[0].truncate(31);
    let mut spoken_for = world.yinchuan.says(Event::HandedOver, &sent);
    spoken_for.issuer = world.foshan.member.clone();
    let receipts = vec![
        ("a good one", relay_accepted.clone(), None),
        ("by a third city", world.yinchuan.honest(Event::HandedOver, &sent), Some(Foreign)),
        (
            "of a message that we do not know",
            world.foshan.honest(Event::HandedOver, &envelope(WINDOW, APPROVAL)),
            Some(Foreign),
        ),
        ("of another content", world.foshan.honest(Event::HandedOver, &other_digest), Some(Foreign)),
        ("altered", altered, Some(Invalid)),
        ("the good one again", relay_accepted, None),
        ("with a short hash", malformed, Some(Invalid)),
        ("by an unknown key", world.stranger.honest(Event::HandedOver, &sent), Some(Invalid)),
        ("in a third city's log", world.yinchuan.issue(&spoken_for), Some(Invalid)),
        ("empty", pbe::Receipt::default(), Some(Invalid)),
        ("our own", ours, Some(Foreign)),
        ("a cancellation, which is the sender's to say", world.foshan.honest(Event::Cancelled, &sent), Some(Foreign)),
        (
            "an acceptance, which is the origin's to say",
            world.foshan.honest(Event::SubmissionAccepted, &sent),
            Some(Foreign),
        ),
        ("another good one", world.foshan.honest(Event::Consigned, &sent), None),
    ];
    let expected: Vec<(u32, Reason)> =
        (0..).zip(&receipts).filter_map(|(position, (_, _, why))| why.map(|why| (position, why))).collect();
    let all: Vec<_> = receipts.iter().map(|(_, receipt, _)| receipt.clone()).collect();
    for _ in 0..2 {
        let mut refused = bring(&partner, batch(all.clone())).await.unwrap();
        refused.sort_by_key(|(position, _)| *position);
        let refused: Vec<_> =
            refused.iter().map(|(at, why)| (*at, Reason::from_code(why.reason.as_ref().unwrap()))).collect();
        for (position, why) in &refused {
            assert!(expected.contains(&(*position, why.unwrap())), "{}: {why:?}", receipts[*position as usize].0);
        }
        assert_eq!(refused.len(), expected.len(), "{refused:?}");
        let (state, own, others) = stands(&world, &window, &sent).await;
        assert_eq!(state, pbe::State::Consigned, "nothing forged moved it");
        assert_eq!(own, [Event::SubmissionAccepted, Event::Witnessed, Event::Witnessed], "one leaf for each good one");
        assert_eq!(others, 2);
    }
    assert_eq!(world.kept().await.0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_cannot_make_us_witness_our_own_words_or_its_witnessing() {
    let mut world = World::new().await;
    let partner = world.partner();
    let envelope = theirs();
    let origin = signed_by(&mut world.foshan, &envelope);
    relay(&partner, envelope.clone(), origin).await.unwrap();
    let ours = partner.evidence("440600", &envelope.message_id).await;
    let ours: Vec<_> = ours.into_iter().filter(|receipt| receipt.checkpoint.starts_with("450200")).collect();
    assert_eq!(ours.len(), 2, "relayed and consigned");
    assert_eq!(bring(&partner, batch(ours)).await.unwrap().len(), 2, "each leaf of ours would make another");
    let (sent, window) = sent(&world).await;
    let mut witnessed = world.foshan.says(Event::Witnessed, &sent);
    witnessed.witnessed = Some(tongban::evidence::Witnessed {
        leaf_hash: Digest([1; 32]),
        issuer: world.own.member.clone(),
        log_origin: world.own.key.verifying_key().name().to_owned(),
    });
    let witnessed = world.foshan.issue(&witnessed);
    assert_eq!(bring(&partner, batch(vec![witnessed])).await.unwrap().len(), 1);
    assert_eq!(stands(&world, &window, &sent).await.1, [Event::SubmissionAccepted]);
    assert_eq!(world.kept().await.0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_final_word_stands_but_a_handover_wins_over_a_failure() {
    let mut world = World::new().await;
    let partner = world.partner();
    let given_up = |by, state| {
        [
            (by, state, false),
            (Event::HandoverFailed, state, false),
            (Event::HandedOver, pbe::State::Confirmed, true),
            (Event::HandoverFailed, pbe::State::Confirmed, true),
            (Event::Expired, pbe::State::Confirmed, true),
        ]
    };
    let the_recipients = |by| [by, Event::HandedOver].map(|event| (event, pbe::State::Rejected, false));
    let courses = [
        given_up(Event::RelayFailed, pbe::State::Failed).to_vec(),
        given_up(Event::RelayRejected, pbe::State::Rejected).to_vec(),
        the_recipients(Event::HandoverFailed).to_vec(),
        the_recipients(Event::ConsignmentFailed).to_vec(),
    ];
    for course in courses {
        let (sent, window) = sent(&world).await;
        for (event, expected, late) in course {
            let receipt = world.foshan.honest(event, &sent);
            assert_eq!(bring(&partner, batch(vec![receipt])).await.unwrap().len(), 0);
            let message = window.message("", &sent.message_id).await.unwrap();
            assert_eq!((message.state(), message.late), (expected, late), "after {event}");
        }
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_none_is_refused_whole() {
    let mut world = World::new().await;
    let (partner, window) = (world.partner(), world.window());
    let (sent, _) = sent(&world).await;
    let good = world.foshan.honest(Event::RelayAccepted, &sent);
    let by_a_system = bring(&window, batch(vec![good.clone()])).await.unwrap_err();
    assert_eq!(by_a_system.reason.as_deref(), Some("NOT_PERMITTED"));
    let too_many = bring(&partner, batch(vec![good.clone(); 257])).await.unwrap_err();
    assert_eq!(too_many.reason.as_deref(), Some("MESSAGE_TOO_LARGE"));
    let long_name = pb::ReceiptBatch { batch_id: "b".repeat(65), ..batch(vec![good.clone()]) };
    assert_eq!(bring(&partner, long_name).await.unwrap_err().reason.as_deref(), Some("MESSAGE_TOO_LARGE"));
    assert_eq!(stands(&world, &window, &sent).await.1, [Event::SubmissionAccepted]);
    // Text beside a receipt that a person could not read is left out, and the receipt is taken.
    let detail = |position, text: &str| pb::Detail { position, text: text.to_owned() };
    let details = vec![detail(0, "a\u{202e}b"), detail(7, "of nothing"), detail(u32::MAX, "")];
    let odd = pb::ReceiptBatch { details, ..batch(vec![good]) };
    assert_eq!(bring(&partner, odd).await.unwrap().len(), 0);
    let message = window.message("", &sent.message_id).await.unwrap();
    assert!(message.history.iter().all(|entry| entry.detail.is_empty()));
    assert_eq!(message.state(), pbe::State::Relayed);
    world.gateway.stop().await;
}
