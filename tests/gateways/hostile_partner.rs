//! A partner's server in the wrong hands, and callers with certificates that do not hold: custody ends with the true
//! receipt and with nothing else, and who is turned away at the gate is counted under the reason.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::alliance::{Alliance, PATIENCE, envelope};
use crate::forge::{APPROVAL, Forge, WINDOW, World, stands, unsign};
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tongban::clock::Clock;
use tongban::evidence::{Event, Evidence};
use tongban::grpc::front::Calls;
use tongban::grpc::serve::{Lifetime, Serving, serve};
use tongban::grpc::tally::Tally;
use tongban::keys;
use tongban::message::Digest;
use tongban::tls::accept::{Bounds, Counters, Gate};
use tongban::tls::config::{Moment, Own, server_config};
use tongban::tls::connections::Connections;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::pki;
use pb::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use pb::submit_stream_request::Request as Step;
use pb::submit_stream_response::Response as Answer;

const ID: &str = "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f";

/// What the fake partner answers a message with when it sees it for the first time.
type Lie = fn(&mut Liar, &pb::Envelope, &pbe::Receipt) -> Option<Answer>;

/// The partner's logs.
struct Liar {
    foshan: Forge,
    yinchuan: Forge,
    stranger: Forge,
}

impl Liar {
    fn lie(&mut self, envelope: &pb::Envelope, change: impl FnOnce(&mut Evidence)) -> Option<Answer> {
        let mut evidence = self.foshan.says(Event::RelayAccepted, envelope);
        change(&mut evidence);
        Some(Answer::Receipt(self.foshan.issue(&evidence)))
    }

    fn bent(&mut self, envelope: &pb::Envelope, bend: impl FnOnce(&mut pbe::Receipt)) -> Option<Answer> {
        let mut receipt = self.foshan.honest(Event::RelayAccepted, envelope);
        bend(&mut receipt);
        Some(Answer::Receipt(receipt))
    }
}

fn status(code: tonic::Code) -> Option<Answer> {
    Some(Answer::Status(tonic_types::pb::Status { code: code as i32, message: "fine".to_owned(), details: vec![] }))
}

/// Answers that do not end our custody.
const LIES: &[(&str, Lie)] = &[
    ("another message's receipt", |l, _, _| l.lie(&envelope(WINDOW, APPROVAL), |_| {})),
    ("another message id", |l, e, _| l.lie(e, |e| e.message_id = ID.parse().unwrap())),
    ("another content", |l, e, _| l.lie(e, |e| e.header_digest = Digest([7; 32]))),
    ("another sending city", |l, e, _| l.lie(e, |e| e.from.city = "640100".parse().unwrap())),
    ("another event", |l, e, _| l.lie(e, |e| e.event = Event::HandedOver)),
    ("a third city's receipt", |l, e, _| Some(Answer::Receipt(l.yinchuan.honest(Event::RelayAccepted, e)))),
    ("a key that no directory knows", |l, e, _| Some(Answer::Receipt(l.stranger.honest(Event::RelayAccepted, e)))),
    ("the origin's receipt", |_, _, origin| Some(Answer::Receipt(origin.clone()))),
    ("an altered leaf", |l, e, _| l.bent(e, |r| r.leaf[30] ^= 1)),
    ("a log that nobody signed", |l, e, _| l.bent(e, unsign)),
    ("a short hash", |l, e, _| l.bent(e, |r| drop(r.inclusion_path[0].split_off(31)))),
    ("an empty receipt", |_, _, _| Some(Answer::Receipt(pbe::Receipt::default()))),
    ("no answer in the answer", |_, _, _| None),
    ("OK without a receipt", |_, _, _| status(tonic::Code::Ok)),
    ("that it is busy", |_, _, _| status(tonic::Code::Unavailable)),
];

/// A gateway with the partner's certificate that lies once about each message, then waits, then takes it.
#[derive(Clone)]
struct Fake {
    liar: Arc<Mutex<Liar>>,
    /// The lie for each message, and how often the message came.
    messages: Arc<Mutex<HashMap<String, (Lie, u32)>>>,
    /// Messages that came again.
    again: Arc<watch::Sender<usize>>,
    honest: watch::Receiver<bool>,
}

impl Fake {
    async fn answer(
        mut self,
        request: pb::SubmitRequest,
        down: mpsc::Sender<Result<pb::SubmitStreamResponse, Status>>,
    ) {
        let (envelope, origin) = (request.envelope.unwrap(), request.origin_receipt.unwrap());
        let id = envelope.message_id.clone();
        let (lie, count) = {
            let mut messages = self.messages.lock().unwrap();
            let message = messages.get_mut(&id).unwrap();
            message.1 += 1;
            *message
        };
        if count == 2 {
            self.again.send_modify(|again| *again += 1);
        }
        let response = match count {
            1 => lie(&mut self.liar.lock().unwrap(), &envelope, &origin),
            _ => {
                self.honest.wait_for(|honest| *honest).await.unwrap();
                self.liar.lock().unwrap().lie(&envelope, |_| {})
            }
        };
        let _ = down.send(Ok(pb::SubmitStreamResponse { id, response, from_city: String::new() })).await;
    }
}

type Down<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExchangeService for Fake {
    type WatchMessageStream = Pin<Box<dyn Stream<Item = Result<pb::WatchMessageResponse, Status>> + Send>>;
    type UploadAttachmentStream = Pin<Box<dyn Stream<Item = Result<pb::UploadAttachmentResponse, Status>> + Send>>;
    type DownloadAttachmentStream = Pin<Box<dyn Stream<Item = Result<pb::DownloadAttachmentResponse, Status>> + Send>>;
    type SubmitStreamStream = Down<pb::SubmitStreamResponse>;
    type ReceiveStream = Down<pb::ReceiveResponse>;

    async fn request(&self, _: Request<pb::RequestRequest>) -> Result<Response<pb::RequestResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_messages(
        &self,
        _: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch_message(
        &self,
        _: Request<pb::WatchMessageRequest>,
    ) -> Result<Response<Self::WatchMessageStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_message(
        &self,
        _: Request<pb::CancelMessageRequest>,
    ) -> Result<Response<pb::CancelMessageResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn upload_attachment(
        &self,
        _: Request<Streaming<pb::UploadAttachmentRequest>>,
    ) -> Result<Response<Self::UploadAttachmentStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn download_attachment(
        &self,
        _: Request<pb::DownloadAttachmentRequest>,
    ) -> Result<Response<Self::DownloadAttachmentStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn submit(&self, _: Request<pb::SubmitRequest>) -> Result<Response<pb::SubmitResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<pb::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let (down, stream) = mpsc::channel(64);
        let (fake, mut steps) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(step)) = steps.next().await {
                if let Some(Step::Submit(submit)) = step.request {
                    tokio::spawn(fake.clone().answer(submit, down.clone()));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn receive(
        &self,
        _: Request<Streaming<pb::ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_message(&self, _: Request<pb::GetMessageRequest>) -> Result<Response<pb::GetMessageResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Serves the fake at the partner's address, with this certificate, until the test ends.
async fn pretend(alliance: &Alliance, fake: Fake, certificate: &str) -> Arc<Counters> {
    let counters = Arc::new(Counters::default());
    let directory = alliance.directory();
    let trust = alliance.trust(&directory);
    let moment = Moment::new(|| Clock::default().now());
    let config = server_config(trust.clone(), alliance.own(certificate), moment.clone()).unwrap();
    let gate = Gate {
        config: Arc::new(ArcSwap::new(config)),
        trust,
        moment,
        bounds: Bounds::default(),
        counters: counters.clone(),
    };
    let serving = Serving {
        gate: Arc::new(gate),
        connections: Connections::default(),
        calls: Arc::new(Calls::new(tongban::grpc::STREAMING)),
        lifetime: Lifetime::default(),
        tally: Tally::default(),
    };
    let record = directory.member(&"440600".parse().unwrap()).unwrap();
    let listener = TcpListener::bind(record.endpoints[0].to_string()).await.unwrap();
    let routes = Routes::new(ExchangeServiceServer::new(fake).max_decoding_message_size(2 << 20));
    tokio::spawn(serve(listener, serving, routes, std::future::pending()));
    counters
}

fn fake(world: &World, messages: HashMap<String, (Lie, u32)>) -> (Fake, watch::Receiver<usize>, watch::Sender<bool>) {
    let (again, seen_again) = watch::channel(0);
    let (be_honest, honest) = watch::channel(false);
    let liar = Liar {
        foshan: Forge::of(&world.alliance, "440600"),
        yinchuan: Forge::of(&world.alliance, "640100"),
        stranger: Forge::unknown(world.foshan.key.verifying_key().name(), &world.foshan.member),
    };
    let fake = Fake {
        liar: Arc::new(Mutex::new(liar)),
        messages: Arc::new(Mutex::new(messages)),
        again: Arc::new(again),
        honest,
    };
    (fake, seen_again, be_honest)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_the_true_receipt_does_not_end_custody() {
    let world = World::new().await;
    let window = world.window();
    let rows: Vec<_> = LIES.iter().map(|(what, lie)| (*what, *lie, envelope(WINDOW, APPROVAL))).collect();
    let messages = rows.iter().map(|(_, lie, envelope)| (envelope.message_id.clone(), (*lie, 0))).collect();
    let (fake, mut again, be_honest) = fake(&world, messages);
    pretend(&world.alliance, fake, "440600/gateway").await;
    for (_, _, envelope) in &rows {
        window.submit(envelope.clone()).await.unwrap();
    }
    // Whatever comes again is still ours to bring.
    let all = timeout(PATIENCE, again.wait_for(|again| *again == rows.len())).await;
    assert!(all.is_ok_and(|all| all.is_ok()), "{} of {} came again", *again.borrow(), rows.len());
    for (what, _, envelope) in &rows {
        let stands = stands(&world, &window, envelope).await;
        assert_eq!(stands, (pbe::State::Accepted, vec![Event::SubmissionAccepted], 0), "{what}");
    }
    be_honest.send_replace(true);
    for (what, _, envelope) in &rows {
        window.until("", &envelope.message_id, pbe::State::Relayed).await;
        let (_, own, others) = stands(&world, &window, envelope).await;
        assert_eq!((own, others), (vec![Event::SubmissionAccepted, Event::Witnessed], 1), "{what}");
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_believed_but_a_forged_receipt_beside_it_is_not_kept() {
    fn refusal(receipt: pbe::Receipt) -> Option<Answer> {
        use prost::Message as _;
        let value = receipt.encode_to_vec();
        let receipt =
            prost_types::Any { type_url: "type.googleapis.com/tongban.evidence.v1.Receipt".to_owned(), value };
        let code = tonic::Code::FailedPrecondition as i32;
        Some(Answer::Status(tonic_types::pb::Status { code, message: "no".to_owned(), details: vec![receipt] }))
    }
    let rows: [(&str, Lie, pbe::State, &[Event], usize); 3] = [
        (
            "a true rejection",
            |l, e, _| refusal(l.foshan.honest(Event::RelayRejected, e)),
            pbe::State::Rejected,
            &[Event::SubmissionAccepted, Event::Witnessed],
            1,
        ),
        (
            "another message's rejection",
            |l, _, _| refusal(l.foshan.honest(Event::RelayRejected, &envelope(WINDOW, APPROVAL))),
            pbe::State::Failed,
            &[Event::SubmissionAccepted, Event::RelayFailed],
            0,
        ),
        (
            "an acceptance beside a refusal",
            |l, e, _| refusal(l.foshan.honest(Event::RelayAccepted, e)),
            pbe::State::Failed,
            &[Event::SubmissionAccepted, Event::RelayFailed],
            0,
        ),
    ];
    let world = World::new().await;
    let window = world.window();
    let sent: Vec<_> = rows.iter().map(|_| envelope(WINDOW, APPROVAL)).collect();
    let messages = sent.iter().zip(&rows).map(|(sent, row)| (sent.message_id.clone(), (row.1, 0))).collect();
    let (fake, _again, _be_honest) = fake(&world, messages);
    pretend(&world.alliance, fake, "440600/gateway").await;
    for (envelope, (what, _, state, events, others)) in sent.iter().zip(rows) {
        window.submit(envelope.clone()).await.unwrap();
        window.until("", &envelope.message_id, state).await;
        assert_eq!(stands(&world, &window, envelope).await, (state, events.to_vec(), others), "{what}");
    }
    world.gateway.stop().await;
}

// Certificates, at a gateway as it is run.

async fn until(holds: impl Fn() -> bool) -> bool {
    let reached = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reached).await.is_ok()
}

fn valid_now(params: &mut CertificateParams) {
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    params.not_before = (SystemTime::now() - day).into();
    params.not_after = (SystemTime::now() + day).into();
}

async fn is_turned_away(world: &World, own: Own, code: &str) {
    let before = world.gateway.counters.refused(code);
    let client = world.alliance.client_with(own, "450200");
    assert!(client.submit(envelope(WINDOW, APPROVAL)).await.is_err());
    // The caller may know it before the gate has counted it.
    let counted = until(|| world.gateway.counters.refused(code) == before + 1).await;
    assert!(counted, "{code}: {:?}", world.gateway.counters.refusals());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_hold_is_turned_away_and_counted() {
    let mut world = World::new().await;
    let window = format!("spiffe://{}/city/450200/system/window", pki::ALLIANCE);
    let unknown = pki::Ca::root("unknown").issue_with(&[&window], valid_now);
    is_turned_away(&world, unknown.own(), "unknown_ca").await;
    // Our own system's name, from the partner's true authority.
    let place = world.alliance.folder.join("pki/440600");
    let key = KeyPair::from_pem(std::str::from_utf8(&keys::read_secret(&place.join("ca.key")).unwrap()).unwrap());
    let issuer = Issuer::from_ca_cert_pem(&keys::read_text(&place.join("ca.pem")).unwrap(), key.unwrap()).unwrap();
    let (mut params, key) = (pki::leaf(&[&window]), pki::key());
    valid_now(&mut params);
    let chain = vec![params.signed_by(&key, &issuer).unwrap().der().clone()];
    let partners = Own { chain, key: key.serialize_der().try_into().unwrap() };
    is_turned_away(&world, partners, "issuer_not_for_name").await;
    // Revoked while the gateway runs: it holds after the next start.
    let (revoked, pki) = (world.alliance.own("450200/systems/window"), world.alliance.pki());
    world.alliance.run(&["pki", "revoke", "450200", "system/window"], &["--dir", &pki]);
    world.gateway.stop().await;
    world.gateway = world.alliance.start("450200").await;
    is_turned_away(&world, revoked, "revoked").await;
    let archive = world.alliance.client("450200", "archive");
    archive.submit(envelope(("450200", "archive"), APPROVAL)).await.expect("others are let in");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_server_with_another_citys_name() {
    let world = World::new().await;
    let (window, sent) = (world.window(), envelope(WINDOW, APPROVAL));
    let (fake, _again, _be_honest) = fake(&world, HashMap::new());
    let counters = pretend(&world.alliance, fake.clone(), "640100/gateway").await;
    window.submit(sent.clone()).await.unwrap();
    assert!(until(|| !counters.refusals().is_empty()).await, "the courier hangs up in the handshake");
    assert_eq!(counters.accepted(), 0);
    assert_eq!(stands(&world, &window, &sent).await, (pbe::State::Accepted, vec![Event::SubmissionAccepted], 0));
    world.gateway.stop().await;
}
