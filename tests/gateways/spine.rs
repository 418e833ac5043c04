//! The whole path, with real certificates and real disks: a message goes from one city to another and comes back with
//! proof, once, whatever is asked twice.

use std::collections::HashSet;

use crate::alliance::{Alliance, check, envelope, new_id, part, reason};
use futures_util::future::join_all;
use tongban::evidence::Event;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");

fn two_cities() -> Alliance {
    Alliance::new(&[("450200", &["window", "archive"]), ("440600", &["approval"])])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_another_city_and_comes_back_with_proof() {
    let alliance = two_cities();
    let (liuzhou, foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let (window, approval) = (alliance.client(LIUZHOU.0, LIUZHOU.1), alliance.client(FOSHAN.0, FOSHAN.1));

    let sent = envelope(LIUZHOU, FOSHAN);
    let accepted = window.submit(sent.clone()).await.unwrap();
    let mut mailbox = approval.receive(4).await;
    let (delivery, message) = mailbox.delivery().await;
    assert_eq!(message.envelope.as_ref(), Some(&sent), "delivered exactly as sent");
    assert_eq!(message.origin_receipt.as_ref(), Some(&accepted), "with the receipt the sender holds");
    mailbox.acknowledge(&delivery.delivery_id).await;
    let handed_over = mailbox.settled().await.receipt.unwrap();

    let confirmed = window.until("", &sent.message_id, pbe::State::Confirmed).await;
    assert_eq!(confirmed.envelope.unwrap().parts[0].content, None, "bodies stay out of what is looked up");
    let receipts = window.evidence("", &sent.message_id).await;
    assert!(receipts.contains(&accepted) && receipts.contains(&handed_over));
    let mut checker = alliance.checker();
    let kinds: Vec<_> = receipts.into_iter().map(|receipt| check(&mut checker, receipt).evidence.event).collect();
    for event in [Event::SubmissionAccepted, Event::RelayAccepted, Event::Consigned, Event::HandedOver] {
        assert_eq!(kinds.iter().filter(|kind| **kind == event).count(), 1, "{event} in {kinds:?}");
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == Event::Witnessed).count(), 3, "{kinds:?}");
    liuzhou.stop().await;
    foshan.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_of_a_message_links_each_leaf_to_the_one_before() {
    let alliance = two_cities();
    let (_liuzhou, _foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let (window, approval) = (alliance.client(LIUZHOU.0, LIUZHOU.1), alliance.client(FOSHAN.0, FOSHAN.1));
    let sent = envelope(LIUZHOU, FOSHAN);
    window.submit(sent.clone()).await.unwrap();
    let mut mailbox = approval.receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    window.until("", &sent.message_id, pbe::State::Confirmed).await;

    let mut checker = alliance.checker();
    let receipts = window.evidence("", &sent.message_id).await;
    let checked: Vec<_> = receipts.into_iter().map(|receipt| check(&mut checker, receipt)).collect();
    let hashes: HashSet<_> = checked.iter().map(|checked| checked.receipt.leaf_hash().0).collect();
    for one in &checked {
        match one.evidence.previous {
            None => assert_eq!(one.evidence.event, Event::SubmissionAccepted, "only the first has none before it"),
            Some(previous) => assert!(hashes.contains(&previous.0), "{} hangs in the air", one.evidence.event),
        }
        if let Some(witnessed) = &one.evidence.witnessed {
            assert!(hashes.contains(&witnessed.leaf_hash.0), "what is witnessed is there");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_inside_one_city_is_consigned_in_the_same_commit() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client("450200", "window"), alliance.client("450200", "archive"));
    let sent = envelope(LIUZHOU, ("450200", "archive"));
    let accepted = window.submit(sent.clone()).await.unwrap();
    let message = window.message("", &sent.message_id).await.unwrap();
    assert_eq!(message.state(), pbe::State::Consigned);
    let receipts = window.evidence("", &sent.message_id).await;
    assert!(receipts.iter().all(|receipt| receipt.checkpoint == accepted.checkpoint), "one commit, one checkpoint");
    let mut mailbox = archive.receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    window.until("", &sent.message_id, pbe::State::Confirmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_64_times_at_once_is_stored_once_with_one_receipt() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let window = alliance.client("450200", "window");
    let archive = alliance.client("450200", "archive");
    let sent = envelope(LIUZHOU, ("450200", "archive"));
    let answers = join_all((0..64).map(|_| window.submit(sent.clone()))).await;
    let receipts: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "identical, byte for byte");
    let mut mailbox = archive.receive(64).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    let again = window.submit(sent.clone()).await.unwrap();
    assert_eq!(again, receipts[0], "the original receipt, long after the end");
    let other = envelope(LIUZHOU, ("450200", "archive"));
    window.submit(other.clone()).await.unwrap();
    let (_, next) = mailbox.delivery().await;
    assert_eq!(next.envelope.unwrap().message_id, other.message_id, "the 64 made one delivery");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_with_other_content_is_a_conflict_and_leaves_the_first_untouched() {
    let alliance = two_cities();
    let (_liuzhou, _foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let window = alliance.client("450200", "window");
    let first = envelope(LIUZHOU, FOSHAN);
    let receipt = window.submit(first.clone()).await.unwrap();
    let other = pb::Envelope { parts: vec![part("form.json", b"other")], ..first.clone() };
    let refused = window.submit(other).await.unwrap_err();
    assert_eq!(reason(&refused), "IDEMPOTENCY_CONFLICT");
    let evidence = tongban::wire::status::from_status(&refused).receipt.expect("a refusal by rule has a receipt");
    let evidence = alliance.checker().check(evidence).unwrap().evidence;
    assert_eq!(evidence.event, Event::SubmissionRejected);
    assert_eq!(evidence.reasons[0].as_str(), "IDEMPOTENCY_CONFLICT");
    assert_eq!(window.submit(first.clone()).await.unwrap(), receipt);

    // The id is unique within its city only.
    let approval = alliance.client("440600", "approval");
    let same_id = pb::Envelope { message_id: first.message_id.clone(), ..envelope(FOSHAN, LIUZHOU) };
    let other_city = approval.submit(same_id).await.unwrap();
    assert_ne!(other_city, receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_at_once_each_get_their_own_receipt() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let window = alliance.client("450200", "window");
    let sent: Vec<_> = (0..1000)
        .map(|n| pb::Envelope {
            parts: vec![part("form.json", format!("{{\"n\":{n}}}").as_bytes())],
            ..envelope(LIUZHOU, ("450200", "archive"))
        })
        .collect();
    let answers = join_all(sent.iter().map(|envelope| window.submit(envelope.clone()))).await;
    let mut checker = alliance.checker();
    let mut leaves = HashSet::new();
    for (envelope, answer) in sent.into_iter().zip(answers) {
        let checked = check(&mut checker, answer.unwrap());
        let own = tongban::wire::envelope::parse(envelope).unwrap();
        assert_eq!(checked.evidence.header_digest, own.header_digest(), "never the neighbour's receipt");
        assert_eq!(checked.evidence.message_id, own.id);
        assert!(leaves.insert(checked.receipt.proof.index));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_every_message_and_one_bad_message_never_ends_it() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let window = alliance.client("450200", "window");
    let good: Vec<_> = (0..200).map(|_| envelope(LIUZHOU, ("450200", "archive"))).collect();
    let bad = pb::Envelope { item_code: "a b".to_owned(), ..envelope(LIUZHOU, ("450200", "archive")) };
    let mut all = good.clone();
    all.insert(100, bad.clone());
    let submit = |envelope| pb::SubmitRequest { envelope: Some(envelope), origin_receipt: None, via: vec![] };
    let steps = all.into_iter().map(move |envelope| pb::SubmitStreamRequest {
        request: Some(pb::submit_stream_request::Request::Submit(submit(envelope))),
    });
    let mut answers = window.exchange.clone().submit_stream(tokio_stream::iter(steps)).await.unwrap().into_inner();
    let (mut receipts, mut statuses) = (HashSet::new(), vec![]);
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.response.unwrap() {
            pb::submit_stream_response::Response::Receipt(_) => drop(receipts.insert(answer.id)),
            pb::submit_stream_response::Response::Status(status) => statuses.push((answer.id, status)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(receipts, good.iter().map(|envelope| envelope.message_id.clone()).collect());
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].0, bad.message_id);
    assert_eq!(tongban::wire::status::from_wire(&statuses[0].1).faults[0].field, "envelope.item_code");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_case_are_delivered_in_order_and_retry_later_holds_only_its_case() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client("450200", "window"), alliance.client("450200", "archive"));
    let message = |case: &str| pb::Envelope { case_no: case.to_owned(), ..envelope(LIUZHOU, ("450200", "archive")) };
    let (a1, a2, b1) = (message("A"), message("A"), message("B"));
    for one in [&a1, &a2, &b1] {
        window.submit(one.clone()).await.unwrap();
    }
    let mut mailbox = archive.receive(8).await;
    let (first, m1) = mailbox.delivery().await;
    let (second, m2) = mailbox.delivery().await;
    assert_eq!(m1.envelope.unwrap().message_id, a1.message_id);
    assert_eq!(m2.envelope.unwrap().message_id, b1.message_id, "A's second waits for A's first");
    let now = tongban::clock::Clock::default().now();
    let not_before = Some(tongban::wire::envelope::time_to_wire(now.plus_ms(1_500)));
    mailbox.give(&first.delivery_id, pb::outcome::Outcome::RetryLater(pb::RetryLater { not_before })).await;
    assert_eq!(mailbox.settled().await.receipt, None);
    mailbox.acknowledge(&second.delivery_id).await;
    assert!(mailbox.settled().await.receipt.is_some());
    let (again, m1) = mailbox.delivery().await;
    assert_eq!((m1.envelope.unwrap().message_id, again.delivery_count), (a1.message_id, 2));
    assert!(tongban::clock::Clock::default().now() >= now.plus_ms(1_500), "not before the moment it named");
    mailbox.acknowledge(&again.delivery_id).await;
    mailbox.settled().await;
    let (_, m2) = mailbox.delivery().await;
    assert_eq!(m2.envelope.unwrap().message_id, a2.message_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_the_recipient_comes_home_with_its_code_and_text() {
    let alliance = two_cities();
    let (_liuzhou, _foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let (window, approval) = (alliance.client(LIUZHOU.0, LIUZHOU.1), alliance.client(FOSHAN.0, FOSHAN.1));
    let sent = envelope(LIUZHOU, ("440600", ""));
    window.submit(sent.clone()).await.unwrap();
    let mut mailbox = approval.receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    let refuse = pb::Refuse { code: "NOT-OURS".to_owned(), text: "材料不全".to_owned(), receipt: None };
    mailbox.give(&delivery.delivery_id, pb::outcome::Outcome::Refuse(refuse)).await;
    assert!(mailbox.settled().await.receipt.is_some());
    let rejected = window.until("", &sent.message_id, pbe::State::Rejected).await;
    let last = rejected.history.iter().find(|entry| entry.event() == pbe::Event::HandoverFailed).unwrap();
    assert_eq!(last.reasons, ["RECIPIENT_REFUSED", "NOT-OURS"]);
    assert_eq!(last.detail, "材料不全");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_away_loses_nothing() {
    let alliance = two_cities();
    let liuzhou = alliance.start("450200").await;
    let window = alliance.client("450200", "window");
    let sent: Vec<_> = (0..20).map(|_| envelope(LIUZHOU, FOSHAN)).collect();
    for envelope in &sent {
        window.submit(envelope.clone()).await.unwrap();
    }
    liuzhou.stop().await;
    // Both come back, in the other order.
    let (_foshan, _liuzhou) = (alliance.start("440600").await, alliance.start("450200").await);
    let approval = alliance.client(FOSHAN.0, FOSHAN.1);
    let mut mailbox = approval.receive(64).await;
    let (mut received, mut settled) = (HashSet::new(), 0);
    while settled < sent.len() {
        match mailbox.next().await.unwrap() {
            pb::receive_response::Response::Delivery(delivery) => {
                let Some(pb::delivery::Content::Message(message)) = delivery.content else { panic!("a message") };
                assert!(received.insert(message.envelope.unwrap().message_id), "each once");
                mailbox.acknowledge(&delivery.delivery_id).await;
            }
            pb::receive_response::Response::Settled(_) => settled += 1,
            other => panic!("{other:?}"),
        }
    }
    let window = alliance.client("450200", "window");
    for envelope in &sent {
        window.until("", &envelope.message_id, pbe::State::Confirmed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_find_their_way_home_though_nothing_else_goes_there() {
    let alliance = two_cities();
    let (liuzhou, foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let window = alliance.client("450200", "window");
    let sent = envelope(LIUZHOU, FOSHAN);
    window.submit(sent.clone()).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Consigned).await;
    liuzhou.stop().await;
    let mut mailbox = alliance.client(FOSHAN.0, FOSHAN.1).receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    foshan.stop().await;
    // The recipient comes back first and finds nobody; the origin comes back and is told.
    let (_foshan, _liuzhou) = (alliance.start("440600").await, alliance.start("450200").await);
    let window = alliance.client("450200", "window");
    window.until("", &sent.message_id, pbe::State::Confirmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_seen_by_its_parties_and_by_nobody_else() {
    let alliance =
        Alliance::new(&[("450200", &["window", "archive"]), ("440600", &["approval"]), ("640100", &["desk"])]);
    let (_liuzhou, _foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let window = alliance.client("450200", "window");
    let sent = envelope(LIUZHOU, FOSHAN);
    window.submit(sent.clone()).await.unwrap();
    assert!(window.message("450200", &sent.message_id).await.is_ok());
    assert!(alliance.client_of("440600/gateway", "450200").message("450200", &sent.message_id).await.is_ok());
    let stranger = alliance.client("450200", "archive").message("450200", &sent.message_id).await.unwrap_err();
    let third = alliance.client_of("640100/gateway", "450200").message("450200", &sent.message_id).await.unwrap_err();
    let unknown = window.message("450200", &new_id()).await.unwrap_err();
    for status in [&stranger, &third, &unknown] {
        assert_eq!(reason(status), "MESSAGE_NOT_FOUND");
        assert_eq!(
            (status.message(), status.details()),
            (unknown.message(), unknown.details()),
            "alike in all they say"
        );
    }
}
