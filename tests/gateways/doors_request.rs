//! Decides whether a request gets its reply, over real gateways: once, handed over with proof, and by the mailbox when nobody
//! waits for it any more.

use std::time::Duration;

use crate::alliance::{Alliance, Client, PATIENCE, check, envelope, reason};
use tongban::evidence::Event;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::status::from_status;

const WINDOW: (&str, &str) = ("450200", "window");
const ARCHIVE: (&str, &str) = ("450200", "archive");
const APPROVAL: (&str, &str) = ("440600", "approval");

fn two_cities() -> Alliance {
    Alliance::new(&[("450200", &["window", "archive"]), ("440600", &["approval"])])
}

async fn request(
    client: &Client,
    sent: &pb::Envelope,
    patience: Duration,
) -> Result<pb::RequestResponse, tonic::Status> {
    let mut request = tonic::Request::new(pb::RequestRequest { envelope: Some(sent.clone()) });
    request.set_timeout(patience);
    Ok(client.exchange.clone().request(request).await?.into_inner())
}

/// Takes one message out of the mailbox and replies to it, to `to`.
async fn answer(client: &Client, me: (&str, &str), to: (&str, &str)) -> pb::Envelope {
    let mut mailbox = client.receive(1).await;
    let (delivery, asked) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    let reply = pb::Envelope { in_reply_to: asked.envelope.unwrap().message_id, ..envelope(me, to) };
    client.submit(reply.clone()).await.unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_comes_back_with_its_reply_handed_over_and_the_same_again_gets_the_same() {
    let alliance = two_cities();
    let (_liuzhou, _foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let (window, approval) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(APPROVAL.0, APPROVAL.1));
    let sent = envelope(WINDOW, APPROVAL);
    let (answered, reply) = tokio::join!(request(&window, &sent, PATIENCE), answer(&approval, APPROVAL, WINDOW));
    let answered = answered.unwrap();
    let came = answered.reply.clone().unwrap();
    assert_eq!(came.envelope.as_ref(), Some(&reply), "exactly as it was sent, with its content");
    let mut checker = alliance.checker();
    let accepted = check(&mut checker, answered.receipt.clone().unwrap()).evidence;
    assert_eq!((accepted.event, accepted.message_id.to_string()), (Event::SubmissionAccepted, sent.message_id.clone()));
    let over = check(&mut checker, answered.reply_receipt.clone().unwrap()).evidence;
    assert_eq!((over.event, over.message_id.to_string()), (Event::HandedOver, reply.message_id.clone()));
    assert_eq!(over.attempts, 1);
    check(&mut checker, came.origin_receipt.unwrap());
    approval.until("", &reply.message_id, pbe::State::Confirmed).await;
    assert_eq!(window.message("", &sent.message_id).await.unwrap().replied_by, reply.message_id);

    assert_eq!(request(&window, &sent, PATIENCE).await.unwrap(), answered, "byte for byte");
    // The mailbox has nothing of it: what comes next is another message.
    let other = envelope(ARCHIVE, WINDOW);
    alliance.client(ARCHIVE.0, ARCHIVE.1).submit(other.clone()).await.unwrap();
    let (_, next) = window.receive(8).await.delivery().await;
    assert_eq!(next.envelope.unwrap().message_id, other.message_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_nobody_waits_for_lies_in_the_mailbox_until_it_is_asked_for_again_or_received() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(ARCHIVE.0, ARCHIVE.1));
    let (first, second) = (envelope(WINDOW, ARCHIVE), envelope(WINDOW, ARCHIVE));
    let late = request(&window, &first, Duration::from_millis(2500)).await.unwrap_err();
    let told = from_status(&late);
    assert_eq!(told.reason.as_deref(), Some("DEADLINE_EXCEEDED"));
    let accepted = tongban::wire::receipt::from_wire(window.submit(first.clone()).await.unwrap());
    assert_eq!(told.receipt, accepted, "the request is accepted, and says so");
    // A caller that is gone, without a word.
    window.submit(second.clone()).await.unwrap();
    let gone = tokio::time::timeout(Duration::from_millis(300), request(&window, &second, PATIENCE)).await;
    assert!(gone.is_err());

    let to_first = answer(&archive, ARCHIVE, WINDOW).await;
    let to_second = answer(&archive, ARCHIVE, WINDOW).await;
    assert_eq!([&to_first.in_reply_to, &to_second.in_reply_to], [&first.message_id, &second.message_id]);
    let asked_again = request(&window, &first, PATIENCE).await.unwrap();
    assert_eq!(asked_again.reply.unwrap().envelope, Some(to_first));
    let mut mailbox = window.receive(8).await;
    let (delivery, came) = mailbox.delivery().await;
    assert_eq!(came.envelope, Some(to_second.clone()), "the other one comes by the mailbox");
    // While a stream has it, a request waits for what becomes of it.
    let waiting = tokio::spawn({
        let (window, second) = (window.clone(), second.clone());
        async move { request(&window, &second, PATIENCE).await }
    });
    mailbox.acknowledge(&delivery.delivery_id).await;
    let settled = mailbox.settled().await;
    let answered = waiting.await.unwrap().unwrap();
    assert_eq!((answered.reply.unwrap().envelope, answered.reply_receipt), (Some(to_second), settled.receipt));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_went_elsewhere_or_was_refused_is_told_as_gone() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(ARCHIVE.0, ARCHIVE.1));
    let elsewhere = envelope(WINDOW, ARCHIVE);
    let (gone, _) = tokio::join!(request(&window, &elsewhere, PATIENCE), answer(&archive, ARCHIVE, ARCHIVE));
    assert_eq!(reason(&gone.unwrap_err()), "REPLY_GONE", "to another system");
    let mut own = archive.receive(1).await;
    let (delivery, _) = own.delivery().await;
    own.acknowledge(&delivery.delivery_id).await;
    own.settled().await;
    drop(own);

    let refused = envelope(WINDOW, ARCHIVE);
    window.submit(refused.clone()).await.unwrap();
    answer(&archive, ARCHIVE, WINDOW).await;
    let mut mailbox = window.receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    let refuse = pb::Refuse { code: "WRONG".into(), ..Default::default() };
    mailbox.give(&delivery.delivery_id, pb::outcome::Outcome::Refuse(refuse)).await;
    mailbox.settled().await;
    let gone = from_status(&request(&window, &refused, PATIENCE).await.unwrap_err());
    assert_eq!(gone.reason.as_deref(), Some("REPLY_GONE"));
    let receipt = gone.receipt.expect("the request itself is accepted");
    assert_eq!(alliance.checker().check(receipt).unwrap().evidence.event, Event::SubmissionAccepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_requests_wait_as_may_others_are_refused_before_they_are_accepted_and_a_stop_ends_all() {
    let alliance = two_cities();
    let liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(ARCHIVE.0, ARCHIVE.1));
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let (window, sent) = (window.clone(), envelope(WINDOW, ARCHIVE));
            tokio::spawn(async move { request(&window, &sent, PATIENCE).await })
        })
        .collect();
    // Each that waits has been accepted: the mailbox has them all.
    let mut mailbox = archive.receive(64).await;
    for _ in 0..64 {
        mailbox.delivery().await;
    }
    let more = envelope(WINDOW, ARCHIVE);
    assert_eq!(reason(&request(&window, &more, PATIENCE).await.unwrap_err()), "TOO_MANY_WAITERS");
    assert_eq!(reason(&window.message("", &more.message_id).await.unwrap_err()), "MESSAGE_NOT_FOUND");
    let partner = alliance.client_of("440600/gateway", "450200");
    assert_eq!(reason(&request(&partner, &more, PATIENCE).await.unwrap_err()), "NOT_PERMITTED");
    let faulty = pb::Envelope { message_id: "x".into(), ..envelope(ARCHIVE, WINDOW) };
    assert_eq!(reason(&request(&archive, &faulty, PATIENCE).await.unwrap_err()), "INVALID_ENVELOPE");
    drop(mailbox);
    liuzhou.stop().await;
    for one in waiting {
        let ended = from_status(&one.await.unwrap().unwrap_err());
        assert_eq!((ended.reason.as_deref(), ended.receipt.is_some()), (Some("SHUTTING_DOWN"), true));
    }
}
