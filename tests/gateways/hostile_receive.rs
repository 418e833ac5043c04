//! Whatever a caller does with a call rather than with a message: mailboxes that are not its own, steps that make no
//! sense, bytes that do not decode, requests too large, deadlines that cannot be met.

use std::collections::HashSet;

use crate::alliance::{Alliance, Client, Gateway, Mailbox, PATIENCE, check, envelope, part, reason};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tongban::clock::Clock;
use tongban::evidence::Event;
use tongban::limits::{CREDITS_MAX, LEASE_TOTAL_MS_MAX};
use tongban::reason::Reason;
use tongban::wire::envelope::time_to_wire;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::status::{Answered, from_status, from_wire};
use tonic::body::Body;
use tonic::{Code, Status};

use pb::receive_request::Request as Say;
use pb::receive_response::Response as Heard;

const WINDOW: (&str, &str) = ("450200", "window");
const ARCHIVE: (&str, &str) = ("450200", "archive");
const SUBMIT: &str = "/tongban.exchange.v1.ExchangeService/Submit";
const SUBMIT_STREAM: &str = "/tongban.exchange.v1.ExchangeService/SubmitStream";

async fn start() -> (Alliance, Gateway, Client) {
    let alliance = Alliance::new(&[("450200", &["window", "archive"]), ("440600", &["archive"])]);
    let gateway = alliance.start("450200").await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    (alliance, gateway, window)
}

fn good() -> pb::Envelope {
    envelope(WINDOW, ARCHIVE)
}

fn fields(answered: &Answered) -> Vec<&str> {
    answered.faults.iter().map(|fault| fault.field.as_str()).collect()
}

// Receiving.

#[tokio::test(flavor = "multi_thread")]
async fn nobody_opens_anothers_mailbox() {
    let (alliance, gateway, window) = start().await;
    alliance.run(&["pki", "add-ops", "450200", "archive"], &["--dir", &alliance.pki()]);
    alliance.run(&["pki", "add-system", "450200", "unlisted"], &["--dir", &alliance.pki()]);
    window.submit(good()).await.unwrap();
    for certificate in
        ["440600/systems/archive", "440600/gateway", "450200/gateway", "450200/ops/archive", "450200/systems/unlisted"]
    {
        let (up, steps) = mpsc::channel(1);
        up.send(pb::ReceiveRequest { request: Some(Say::Open(pb::OpenMailbox { credits: 1, receipts: false })) })
            .await
            .unwrap();
        let mut caller = alliance.client_of(certificate, "450200").exchange;
        let refused = caller.receive(ReceiverStream::new(steps)).await.expect_err(certificate);
        assert_eq!((reason(&refused), refused.code()), ("NOT_PERMITTED".to_owned(), Code::PermissionDenied));
    }
    let mut owner = alliance.client(ARCHIVE.0, ARCHIVE.1).receive(1).await;
    assert_eq!(owner.delivery().await.0.delivery_count, 1, "nobody had it before");
    drop(owner);
    gateway.stop().await;
}

/// Says these steps on a stream that is not open yet, and returns how the stream ends.
async fn ends(client: &Client, steps: Vec<Option<Say>>) -> Answered {
    let (up, stream) = mpsc::channel(16);
    for request in steps {
        up.send(pb::ReceiveRequest { request }).await.unwrap();
    }
    let mut down = client.exchange.clone().receive(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let end = async {
        while down.message().await?.is_some() {}
        Ok::<(), Status>(())
    };
    from_status(&timeout(PATIENCE, end).await.expect("the stream ends").expect_err("with a status"))
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_make_no_sense_end_the_stream_and_say_so() {
    let (alliance, gateway, _window) = start().await;
    let archive = alliance.client(ARCHIVE.0, ARCHIVE.1);
    let open = |credits| Some(Say::Open(pb::OpenMailbox { credits, receipts: false }));
    let credits = |count| Some(Say::Credits(pb::GrantCredits { count }));
    let outcome = || Some(Say::Outcome(pb::Outcome::default()));
    let rows = [
        ("credits first", vec![credits(1), open(1)]),
        ("an outcome first", vec![outcome()]),
        ("an extension first", vec![Some(Say::Extend(pb::ExtendLease::default()))]),
        ("an empty step first", vec![None]),
        ("an empty step later", vec![open(1), None]),
        ("opened twice", vec![open(1), open(1)]),
        ("too many credits at once", vec![open(CREDITS_MAX + 1)]),
        ("too many credits together", vec![open(CREDITS_MAX), credits(1)]),
        ("credits that overflow", vec![open(1), credits(u32::MAX)]),
    ];
    for (what, steps) in rows {
        let answered = ends(&archive, steps).await;
        assert_eq!(answered.reason.as_deref(), Some("STREAM_PROTOCOL"), "{what}: {answered:?}");
        assert_eq!(answered.code, Code::InvalidArgument, "{what}");
        assert!(answered.text.contains(": "), "{what}: it says what exactly, not only {:?}", answered.text);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_before_it_opened_is_a_fault_of_its_own() {
    let (alliance, gateway, _window) = start().await;
    let mut archive = alliance.client(ARCHIVE.0, ARCHIVE.1).exchange;
    let mut down = archive.receive(tokio_stream::empty()).await.unwrap().into_inner();
    let ended = timeout(PATIENCE, down.message()).await.unwrap().unwrap_err();
    assert_eq!(reason(&ended), "STREAM_PROTOCOL");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_says_nothing_does_not_hold_up_the_stop() {
    let (alliance, gateway, _window) = start().await;
    let (_up, silence) = mpsc::channel(1);
    let mut archive = alliance.client(ARCHIVE.0, ARCHIVE.1).exchange;
    let mut down = archive.receive(ReceiverStream::new(silence)).await.unwrap().into_inner();
    let stopping = tokio::spawn(gateway.stop());
    let ended = timeout(PATIENCE, down.message()).await.unwrap().unwrap_err();
    assert_eq!(reason(&ended), "SHUTTING_DOWN");
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitting_stream_is_told_that_the_gateway_stops_after_its_answers() {
    let (_alliance, gateway, window) = start().await;
    let (up, steps) = mpsc::channel(1);
    up.send(step(good())).await.unwrap();
    let mut down = window.exchange.clone().submit_stream(ReceiverStream::new(steps)).await.unwrap().into_inner();
    let first = timeout(PATIENCE, down.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.response, Some(pb::submit_stream_response::Response::Receipt(_))));
    let stopping = tokio::spawn(gateway.stop());
    let ended = timeout(PATIENCE, down.message()).await.unwrap().unwrap_err();
    typed(&ended, Reason::ShuttingDown);
    stopping.await.unwrap();
}

async fn refused(mailbox: &mut Mailbox) -> (String, Answered) {
    match mailbox.next().await.unwrap() {
        Heard::Refused(refused) => (refused.delivery_id, from_wire(&refused.status.unwrap())),
        other => panic!("not refused: {other:?}"),
    }
}

fn refuse(code: &str, text: &str) -> Option<pb::outcome::Outcome> {
    Some(pb::outcome::Outcome::Refuse(pb::Refuse { code: code.to_owned(), text: text.to_owned(), receipt: None }))
}

fn retry_later(seconds: i64, nanos: i32) -> Option<pb::outcome::Outcome> {
    let not_before = Some(prost_types::Timestamp { seconds, nanos });
    Some(pb::outcome::Outcome::RetryLater(pb::RetryLater { not_before }))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_is_none_names_its_fields_and_the_delivery_stays() {
    let (alliance, gateway, window) = start().await;
    let sent = good();
    window.submit(sent.clone()).await.unwrap();
    let mut mailbox = alliance.client(ARCHIVE.0, ARCHIVE.1).receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    let (code, text) = ("outcome.refuse.code", "outcome.refuse.text");
    let rows: Vec<(&str, Option<pb::outcome::Outcome>, Vec<&str>)> = vec![
        ("no outcome", None, vec!["outcome.outcome"]),
        ("a refusal without a code", refuse("", "no"), vec![code]),
        ("a code in lower case", refuse("not-ours", ""), vec![code]),
        ("a code of 33 bytes", refuse(&"A".repeat(33), ""), vec![code]),
        ("a code with a line end", refuse("A\nB", ""), vec![code]),
        ("a text of 1,025 bytes", refuse("A", &"a".repeat(1025)), vec![text]),
        ("a text that turns", refuse("A", "a\u{202e}b"), vec![text]),
        ("neither code nor text", refuse("", "\u{1b}[2J"), vec![text, code]),
        ("later, before all time", retry_later(-1, 0), vec!["outcome.retry_later.not_before"]),
        ("later, after all time", retry_later(i64::MAX, 0), vec!["outcome.retry_later.not_before"]),
        ("later, by no nanoseconds", retry_later(1, -1), vec!["outcome.retry_later.not_before"]),
    ];
    for (what, outcome, expected) in rows {
        let outcome = pb::Outcome { delivery_id: delivery.delivery_id.clone(), outcome };
        mailbox.say(Say::Outcome(outcome)).await;
        let (id, answered) = refused(&mut mailbox).await;
        assert_eq!(
            (id, answered.reason.as_deref()),
            (delivery.delivery_id.clone(), Some("INVALID_ENVELOPE")),
            "{what}"
        );
        assert_eq!(fields(&answered), expected, "{what}");
    }
    for until in [None, Some(prost_types::Timestamp { seconds: -1, nanos: 0 })] {
        mailbox.say(Say::Extend(pb::ExtendLease { delivery_id: delivery.delivery_id.clone(), until })).await;
        let (_, answered) = refused(&mut mailbox).await;
        assert_eq!(fields(&answered), ["extend.until"], "{until:?}");
    }
    mailbox.acknowledge(&delivery.delivery_id).await;
    assert!(mailbox.settled().await.receipt.is_some(), "still held, and taken");
    drop(mailbox);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_the_stream_does_not_hold_is_not_found() {
    let (alliance, gateway, window) = start().await;
    let sent = good();
    window.submit(sent.clone()).await.unwrap();
    let archive = alliance.client(ARCHIVE.0, ARCHIVE.1);
    let mut holder = archive.receive(1).await;
    let (delivery, _) = holder.delivery().await;
    let mut other = archive.receive(1).await;
    let long = "9".repeat(100_000);
    for id in [&delivery.delivery_id, "", "1", "1-1-1", "0-0", "999-1", "-1-1", "18446744073709551616-1", &long] {
        other.acknowledge(id).await;
        let (named, answered) = refused(&mut other).await;
        assert_eq!(answered.reason.as_deref(), Some("DELIVERY_NOT_FOUND"));
        assert_eq!(named, id[..id.len().min(64)]);
        let until = Some(time_to_wire(Clock::default().now().plus_ms(60_000)));
        other.say(Say::Extend(pb::ExtendLease { delivery_id: id.to_owned(), until })).await;
        assert_eq!(refused(&mut other).await.1.reason.as_deref(), Some("DELIVERY_NOT_FOUND"));
    }
    assert_eq!(window.message("", &sent.message_id).await.unwrap().state(), pbe::State::Consigned);
    holder.acknowledge(&delivery.delivery_id).await;
    assert!(holder.settled().await.receipt.is_some(), "whoever holds it settles it");
    drop((holder, other));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_settled_by_its_first_outcome_alone() {
    let (alliance, gateway, window) = start().await;
    let sent = good();
    window.submit(sent.clone()).await.unwrap();
    let mut mailbox = alliance.client(ARCHIVE.0, ARCHIVE.1).receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.give(&delivery.delivery_id, refuse("NO", "").unwrap()).await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    let (mut settled, mut not_found) = (vec![], 0);
    while settled.len() + not_found < 3 {
        match mailbox.next().await.unwrap() {
            Heard::Settled(one) => settled.push(one.receipt.unwrap()),
            Heard::Refused(one) => {
                assert_eq!(from_wire(&one.status.unwrap()).reason.as_deref(), Some("DELIVERY_NOT_FOUND"));
                not_found += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((settled.len(), not_found), (1, 2));
    let mut checker = alliance.checker();
    let all = window.evidence("", &sent.message_id).await.into_iter().map(|receipt| check(&mut checker, receipt));
    let handed_over: Vec<_> =
        all.filter(|checked| matches!(checked.evidence.event, Event::HandedOver | Event::HandoverFailed)).collect();
    assert_eq!(handed_over.len(), 1);
    assert_eq!(handed_over[0].evidence.event, Event::HandedOver);
    drop(mailbox);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_may_be_asked_for_longer_than_it_gets() {
    let (alliance, gateway, window) = start().await;
    window.submit(good()).await.unwrap();
    let mut mailbox = alliance.client(ARCHIVE.0, ARCHIVE.1).receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    for ms in [0, LEASE_TOTAL_MS_MAX, 1 << 45] {
        let until = Some(time_to_wire(Clock::default().now().plus_ms(ms)));
        mailbox.say(Say::Extend(pb::ExtendLease { delivery_id: delivery.delivery_id.clone(), until })).await;
    }
    mailbox.acknowledge(&delivery.delivery_id).await;
    assert!(mailbox.settled().await.receipt.is_some(), "none of it was refused, none of it cost the lease");
    drop(mailbox);
    gateway.stop().await;
}

// Bytes and deadlines.

/// A connection to our gateway below the generated client: what is sent need not decode.
struct Raw(SendRequest<Body>);

impl Raw {
    async fn connect(alliance: &Alliance, certificate: &str) -> Raw {
        let (dialler, address) = alliance.dialler_with(alliance.own(certificate), "450200");
        let io = dialler.dial(address).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Raw(sender)
    }

    /// Sends one request and returns its status, wherever in the answer it stands, and the bytes before it.
    async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> (Status, Bytes) {
        let request = Request::post(format!("https://gateway{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let request = headers.iter().fold(request, |request, (key, value)| request.header(*key, *value));
        let request = request.body(Body::new(http_body_of(body))).unwrap();
        let answer = timeout(PATIENCE, self.0.send_request(request)).await.expect("an answer").unwrap();
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return (status, Bytes::new());
        }
        let (mut body, mut read) = (answer.into_body(), BytesMut::new());
        loop {
            let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx));
            let frame = timeout(PATIENCE, frame).await.expect("a frame").expect("trailers").unwrap();
            match frame.into_data() {
                Ok(data) => read.put(data),
                Err(frame) => return (Status::from_header_map(frame.trailers_ref().unwrap()).unwrap(), read.freeze()),
            }
        }
    }
}

/// A request's body, all of it at once.
fn http_body_of(bytes: Bytes) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> {
    struct Once(Option<Bytes>);
    impl http_body::Body for Once {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
        }
    }
    Once(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// One gRPC message: a flag, the length it claims, and bytes.
fn framed(flag: u8, length: u32, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(bytes);
    frame.freeze()
}

fn whole(bytes: &[u8]) -> Bytes {
    framed(0, bytes.len() as u32, bytes)
}

fn request(envelope: pb::Envelope) -> pb::SubmitRequest {
    pb::SubmitRequest { envelope: Some(envelope), origin_receipt: None, via: vec![] }
}

fn step(envelope: pb::Envelope) -> pb::SubmitStreamRequest {
    pb::SubmitStreamRequest { request: Some(pb::submit_stream_request::Request::Submit(request(envelope))) }
}

/// Bytes that are no request, and why.
fn undecodable() -> Vec<(&'static str, Bytes, Reason)> {
    let bytes = request(good()).encode_to_vec();
    // Field 1 (the envelope) with field 1 (the id) in it, which is no UTF-8.
    let no_text = [0x0a, 4, 0x0a, 2, 0xff, 0xfe];
    // Groups within groups, deeper than any parser follows.
    let deep = [0x0b; 4096];
    vec![
        ("no message at all", Bytes::new(), Reason::InvalidEnvelope),
        ("half a frame's head", Bytes::from_static(&[0, 0, 0]), Reason::InvalidEnvelope),
        ("a message cut short", framed(0, bytes.len() as u32, &bytes[..bytes.len() / 2]), Reason::InvalidEnvelope),
        ("a field cut short", whole(&bytes[..bytes.len() - 1]), Reason::InvalidEnvelope),
        ("a text that is no UTF-8", whole(&no_text), Reason::InvalidEnvelope),
        ("a wire type that is none", whole(&[0x0f]), Reason::InvalidEnvelope),
        ("a field number of zero", whole(&[0x00, 0x00]), Reason::InvalidEnvelope),
        ("a number that never ends", whole(&[0xff; 64]), Reason::InvalidEnvelope),
        ("groups within groups", whole(&deep), Reason::InvalidEnvelope),
        ("JSON", whole(br#"{"envelope":{}}"#), Reason::InvalidEnvelope),
        ("compressed without saying how", framed(1, 4, b"gzip"), Reason::InvalidEnvelope),
        ("a flag that is none", framed(2, 4, b"????"), Reason::InvalidEnvelope),
        ("a claim of 4 GiB", framed(0, u32::MAX, b"x"), Reason::MessageTooLarge),
    ]
}

fn typed(status: &Status, expected: Reason) {
    let answered = from_status(status);
    assert_eq!(answered.reason.as_deref(), Some(expected.code()), "{status:?}");
    assert_eq!(answered.code as i32, expected.answer() as i32);
    assert_eq!(answered.localized.len(), 2, "told in two languages");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_decode_has_a_typed_answer_at_both_doors() {
    let (alliance, gateway, window) = start().await;
    let mut raw = Raw::connect(&alliance, "450200/systems/window").await;
    for (what, body, expected) in undecodable() {
        let (status, _) = raw.call(SUBMIT, &[], body.clone()).await;
        typed(&status, expected);
        if body.len() < 5 {
            continue;
        }
        // On a stream, what came before it is accepted and answered first.
        let before = good();
        let all = [whole(&step(before.clone()).encode_to_vec()), body].concat();
        let (status, answers) = raw.call(SUBMIT_STREAM, &[], all.into()).await;
        typed(&status, expected);
        let length = u32::from_be_bytes(answers[1..5].try_into().unwrap()) as usize;
        let first = pb::SubmitStreamResponse::decode(&answers[5..5 + length]).unwrap();
        assert_eq!((first.id.as_str(), answers.len()), (before.message_id.as_str(), 5 + length), "{what}");
        assert!(matches!(first.response, Some(pb::submit_stream_response::Response::Receipt(_))), "{what}");
        assert!(window.message("", &before.message_id).await.is_ok(), "{what}");
    }
    let (status, _) = raw.call(SUBMIT, &[("grpc-encoding", "gzip")], framed(1, 4, b"gzip")).await;
    assert_eq!(status.code(), Code::Unimplemented, "compression is not spoken");
    let (status, _) = raw.call(SUBMIT, &[], whole(&request(good()).encode_to_vec())).await;
    assert_eq!(status.code(), Code::Ok, "the connection has survived all that");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_metadata_is_named_like_any_other_field() {
    let (alliance, gateway, _window) = start().await;
    let mut raw = Raw::connect(&alliance, "450200/systems/window").await;
    let many: Vec<String> = (0..63).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "v")).collect();
    let rows: [(&[(&str, &str)], &str); 4] = [
        (&[("grpc-timeout", "soon")], "grpc-timeout"),
        (&[("authorization", "a"), ("authorization", "b")], "authorization"),
        (&[("authorization-bin", "YQ")], "authorization-bin"),
        (&many, "metadata"),
    ];
    for (headers, field) in rows {
        let (status, _) = raw.call(SUBMIT, headers, whole(&request(good()).encode_to_vec())).await;
        typed(&status, Reason::InvalidEnvelope);
        assert_eq!(fields(&from_status(&status)), [field]);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_the_decoding_limit_is_too_large_and_says_so() {
    let (alliance, gateway, window) = start().await;
    let large = pb::Envelope { parts: vec![part("a", &vec![7; 3 << 20])], ..good() };
    for _ in 0..3 {
        let refused = window.submit(large.clone()).await.unwrap_err();
        typed(&refused, Reason::MessageTooLarge);
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("1310720"), "{}", refused.message());
    }
    let steps = tokio_stream::iter([step(good()), step(large.clone())]);
    let mut down = window.exchange.clone().submit_stream(steps).await.unwrap().into_inner();
    let first = down.message().await.unwrap().unwrap();
    assert!(matches!(first.response, Some(pb::submit_stream_response::Response::Receipt(_))));
    typed(&down.message().await.unwrap_err(), Reason::MessageTooLarge);
    let (up, steps) = mpsc::channel(2);
    let mut archive = alliance.client(ARCHIVE.0, ARCHIVE.1).exchange;
    up.send(pb::ReceiveRequest { request: Some(Say::Open(pb::OpenMailbox { credits: 0, receipts: false })) })
        .await
        .unwrap();
    let outcome = pb::Outcome { delivery_id: "1-1".to_owned(), outcome: refuse("A", &"a".repeat(3 << 20)) };
    up.send(pb::ReceiveRequest { request: Some(Say::Outcome(outcome)) }).await.unwrap();
    let mut down = archive.receive(ReceiverStream::new(steps)).await.unwrap().into_inner();
    typed(&down.message().await.unwrap_err(), Reason::MessageTooLarge);
    let lookup = window.message(&"9".repeat(3 << 20), &large.message_id).await.unwrap_err();
    typed(&lookup, Reason::MessageTooLarge);
    let asked =
        pbe::GetMessageEvidenceRequest { from_city: "9".repeat(70_000), message_id: String::new(), sealed: false };
    typed(&window.evidence.clone().get_message_evidence(asked).await.unwrap_err(), Reason::MessageTooLarge);
    assert_eq!(reason(&window.message("", &large.message_id).await.unwrap_err()), "MESSAGE_NOT_FOUND");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_is_told_and_the_same_message_is_accepted_once() {
    let (alliance, gateway, window) = start().await;
    let mut raw = Raw::connect(&alliance, "450200/systems/window").await;
    // Hashing and storing so much takes longer than the callers wait.
    let content = vec![7; 1 << 20];
    let sent: Vec<_> = (0..20).map(|_| pb::Envelope { parts: vec![part("a", &content)], ..good() }).collect();
    let mut overdue = 0;
    for envelope in &sent {
        let body = whole(&request(envelope.clone()).encode_to_vec());
        let (status, _) = raw.call(SUBMIT, &[("grpc-timeout", "1m")], body).await;
        if status.code() != Code::Ok {
            typed(&status, Reason::DeadlineExceeded);
            assert!(from_status(&status).retry_after_ms.is_some(), "the same may come again");
            overdue += 1;
        }
    }
    assert!(overdue >= 5, "only {overdue} of 20 calls were overdue");
    for envelope in &sent {
        let receipt = window.submit(envelope.clone()).await.unwrap();
        assert_eq!(window.submit(envelope.clone()).await.unwrap(), receipt);
    }
    let mut mailbox = alliance.client(ARCHIVE.0, ARCHIVE.1).receive(1).await;
    let mut delivered = HashSet::new();
    for _ in 0..sent.len() {
        let (delivery, message) = mailbox.delivery().await;
        assert!(delivered.insert(message.envelope.unwrap().message_id), "each once");
        mailbox.acknowledge(&delivery.delivery_id).await;
        mailbox.settled().await;
        mailbox.say(Say::Credits(pb::GrantCredits { count: 1 })).await;
    }
    let last = good();
    window.submit(last.clone()).await.unwrap();
    assert_eq!(mailbox.delivery().await.1.envelope.unwrap().message_id, last.message_id, "and nothing besides");
    drop(mailbox);
    gateway.stop().await;
}
