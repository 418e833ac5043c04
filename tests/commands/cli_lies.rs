//! Decides whether a system that asks its gateway on the command line believes anything that is not proved: a gateway with the
//! right certificate that lies is found out, and nothing is acknowledged on its word.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use crate::terminal::Terminal;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tongban::clock::Clock;
use tongban::directory::Directory;
use tongban::evidence::{Event, Evidence, Instants};
use tongban::grpc::front::Calls;
use tongban::grpc::serve::{Lifetime, Serving, serve};
use tongban::grpc::tally::Tally;
use tongban::id::ReceiptId;
use tongban::keys;
use tongban::message::Envelope;
use tongban::party::Member;
use tongban::receipt::Receipt;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::{SigningKey, VerifyingKey};
use tongban::tlog::receipt_file::TlogProof;
use tongban::tlog::tree::Tree;
use tongban::tls::accept::{Bounds, Gate};
use tongban::tls::config::{Moment, Own, server_config};
use tongban::tls::connections::Connections;
use tongban::tls::trust::{CrlPolicy, MemberTrust, Trust};
use tongban::wire::envelope::parse;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::evidence::evidence_service_server::{EvidenceService, EvidenceServiceServer};
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::exchange::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use tongban::wire::receipt::to_wire;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// What the gateway says that is not so.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    NoReceipt,
    AnotherMessage,
    AnotherContent,
    AnotherSender,
    AnotherEvent,
    AnotherCity,
    AnotherKey,
    NotInTheLog,
}

const LIES: [Lie; 8] = [
    Lie::NoReceipt,
    Lie::AnotherMessage,
    Lie::AnotherContent,
    Lie::AnotherSender,
    Lie::AnotherEvent,
    Lie::AnotherCity,
    Lie::AnotherKey,
    Lie::NotInTheLog,
];

/// Liuzhou's gateway, in the hands of somebody else.
#[derive(Clone)]
struct Liar {
    lie: Arc<Mutex<Lie>>,
    /// Outcomes that were given to it.
    outcomes: Arc<Mutex<Vec<String>>>,
    liuzhou: Arc<SigningKey>,
    foshan: Arc<SigningKey>,
    /// The last message that was submitted, to be delivered.
    kept: Arc<Mutex<Option<pb::Envelope>>>,
}

impl Liar {
    fn lie(&self) -> Lie {
        *self.lie.lock().unwrap()
    }

    /// A receipt about `envelope`, with the lie of the moment in it.
    fn receipt(&self, envelope: &Envelope, event: Event) -> Option<pbe::Receipt> {
        let lie = self.lie();
        let key = if lie == Lie::AnotherCity { &self.foshan } else { &self.liuzhou };
        let stranger = SigningKey::from_seed(key.verifying_key().name(), &[3; 32]).unwrap();
        let key = if lie == Lie::AnotherKey { &stranger } else { key.as_ref() };
        let mut evidence = evidence(envelope, event, key);
        match lie {
            Lie::NoReceipt => return None,
            Lie::AnotherMessage => evidence.message_id = tongban::id::MessageId::from_bytes([1; 16]),
            Lie::AnotherContent => evidence.header_digest.0[0] ^= 1,
            Lie::AnotherSender => evidence.from.system = Some("other".parse().unwrap()),
            Lie::AnotherEvent => evidence.event = Event::Delayed,
            _ => {}
        }
        let leaf = evidence.to_leaf().unwrap();
        let mut tree = Tree::empty();
        let logged = if lie == Lie::NotInTheLog { leaf_hash(b"something else") } else { leaf_hash(&leaf) };
        let path = tree.append(&[leaf_hash(b"first"), logged]).paths().remove(1);
        let checkpoint = Checkpoint { origin: key.verifying_key().name().to_owned(), size: 2, root: tree.root() };
        let proof = TlogProof { extra: None, index: 1, path, checkpoint_note: checkpoint.sign(key).unwrap() };
        Some(to_wire(Receipt { leaf, proof }))
    }
}

fn evidence(envelope: &Envelope, event: Event, key: &SigningKey) -> Evidence {
    let issuer = key.verifying_key().name().split('.').next().unwrap();
    Evidence {
        id: ReceiptId::new_v7(Clock::default().now(), [5; 10]),
        event,
        reasons: vec![],
        token: None,
        at: Clock::default().now(),
        clock_uncertainty_ms: 0,
        issuer: Member::City(issuer.parse().unwrap()),
        key_id: key.verifying_key().id(),
        agreement: None,
        table_version: 0,
        from: envelope.from.clone(),
        to: envelope.to.clone(),
        message_id: envelope.id,
        in_reply_to: None,
        case_no: None,
        item_code: None,
        step: None,
        header_digest: envelope.header_digest(),
        parts: 0,
        total_size: 0,
        instants: Instants::default(),
        expires_at: None,
        attempts: 0,
        last_status: 0,
        asserted_by: None,
        previous: None,
        witnessed: None,
        mode: None,
        next_attempt_at: None,
        extensions: vec![],
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExchangeService for Liar {
    type WatchMessageStream = Pin<Box<dyn Stream<Item = Result<pb::WatchMessageResponse, Status>> + Send>>;
    type UploadAttachmentStream = Pin<Box<dyn Stream<Item = Result<pb::UploadAttachmentResponse, Status>> + Send>>;
    type DownloadAttachmentStream = Pin<Box<dyn Stream<Item = Result<pb::DownloadAttachmentResponse, Status>> + Send>>;
    type SubmitStreamStream = Answers<pb::SubmitStreamResponse>;
    type ReceiveStream = Answers<pb::ReceiveResponse>;

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

    async fn submit(&self, request: Request<pb::SubmitRequest>) -> Result<Response<pb::SubmitResponse>, Status> {
        let sent = request.into_inner().envelope.unwrap();
        *self.kept.lock().unwrap() = Some(sent.clone());
        let receipt = self.receipt(&parse(sent).unwrap(), Event::SubmissionAccepted);
        Ok(Response::new(pb::SubmitResponse { receipt }))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<pb::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let liar = self.clone();
        let answers = request.into_inner().map(move |step| {
            let Some(pb::submit_stream_request::Request::Submit(submit)) = step?.request else { panic!("no message") };
            let sent = parse(submit.envelope.unwrap()).unwrap();
            let response = liar.receipt(&sent, Event::SubmissionAccepted);
            let response = response.map(pb::submit_stream_response::Response::Receipt);
            Ok(pb::SubmitStreamResponse { id: sent.id.to_string(), response, from_city: String::new() })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn receive(
        &self,
        request: Request<Streaming<pb::ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        use pb::receive_request::Request as Up;
        let liar = self.clone();
        let answers = request.into_inner().filter_map(move |step| {
            let response = match step.ok()?.request? {
                Up::Open(_) => pb::receive_response::Response::Delivery(liar.delivery()),
                Up::Outcome(outcome) => {
                    liar.outcomes.lock().unwrap().push(outcome.delivery_id.clone());
                    let receipt = liar.receipt(&liar.kept(), Event::HandedOver);
                    pb::receive_response::Response::Settled(pb::Settled { delivery_id: outcome.delivery_id, receipt })
                }
                Up::Credits(_) | Up::Extend(_) => return None,
            };
            Some(Ok(pb::ReceiveResponse { response: Some(response) }))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_message(&self, _: Request<pb::GetMessageRequest>) -> Result<Response<pb::GetMessageResponse>, Status> {
        Err(Status::unimplemented("not asked in these tests"))
    }
}

#[tonic::async_trait]
impl EvidenceService for Liar {
    async fn get_message_evidence(
        &self,
        _: Request<pbe::GetMessageEvidenceRequest>,
    ) -> Result<Response<pbe::GetMessageEvidenceResponse>, Status> {
        let receipts = self.receipt(&self.kept(), Event::SubmissionAccepted).into_iter().collect();
        Ok(Response::new(pbe::GetMessageEvidenceResponse { receipts }))
    }

    async fn get_checkpoint(
        &self,
        _: Request<pbe::GetCheckpointRequest>,
    ) -> Result<Response<pbe::GetCheckpointResponse>, Status> {
        Err(Status::unimplemented("not asked in these tests"))
    }

    async fn get_consistency_proof(
        &self,
        _: Request<pbe::GetConsistencyProofRequest>,
    ) -> Result<Response<pbe::GetConsistencyProofResponse>, Status> {
        Err(Status::unimplemented("not asked in these tests"))
    }

    async fn get_tile(&self, _: Request<pbe::GetTileRequest>) -> Result<Response<pbe::GetTileResponse>, Status> {
        Err(Status::unimplemented("not asked in these tests"))
    }

    async fn add_cosignature(
        &self,
        _: Request<pbe::AddCosignatureRequest>,
    ) -> Result<Response<pbe::AddCosignatureResponse>, Status> {
        Err(Status::unimplemented("not asked in these tests"))
    }
}

impl Liar {
    fn kept(&self) -> Envelope {
        parse(self.kept.lock().unwrap().clone().unwrap()).unwrap()
    }

    fn delivery(&self) -> pb::Delivery {
        let origin_receipt = self.receipt(&self.kept(), Event::SubmissionAccepted);
        let message = pb::Message { envelope: self.kept.lock().unwrap().clone(), origin_receipt, via: vec![] };
        let content = Some(pb::delivery::Content::Message(message));
        pb::Delivery {
            delivery_id: "1-1".to_owned(),
            delivery_count: 1,
            lease_until: None,
            previous_outcome: 0,
            content,
        }
    }
}

/// The liar, listening as Liuzhou's gateway at the address of its member record.
async fn liar(terminal: &Terminal) -> Liar {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    terminal.ends(0, "pki new");
    for (city, endpoint) in
        [("450200", listener.local_addr().unwrap().to_string()), ("440600", "a.example:1".to_owned())]
    {
        terminal
            .ends(0, &format!("pki add-city {city} --name-zh 市 --name-en C --system window --endpoint {endpoint}"));
    }
    let read = |file: &str| keys::read_text(&terminal.path(file)).unwrap();
    let alliance_key = VerifyingKey::parse(read("certs/dev/alliance.vkey").trim_end()).unwrap();
    let directory = Directory::open(&read("certs/dev/directory.note"), &alliance_key).unwrap();
    let log_key = |city: &str| {
        let record = directory.member(&city.parse().unwrap()).unwrap();
        let seed = keys::read_seed(&terminal.path(&format!("certs/dev/{city}/log.key"))).unwrap();
        Arc::new(SigningKey::from_seed(record.log_keys[0].name(), seed.bytes()).unwrap())
    };
    let liar = Liar {
        lie: Arc::new(Mutex::new(Lie::None)),
        outcomes: Arc::default(),
        liuzhou: log_key("450200"),
        foshan: log_key("440600"),
        kept: Arc::default(),
    };
    let routes =
        Routes::new(ExchangeServiceServer::new(liar.clone())).add_service(EvidenceServiceServer::new(liar.clone()));
    tokio::spawn(serve(listener, serving(terminal, &directory), routes, std::future::pending()));
    liar
}

fn serving(terminal: &Terminal, directory: &Directory) -> Serving {
    let members = directory.entries().map(|entry| MemberTrust {
        member: entry.record.member.clone(),
        roots: entry.record.roots.clone(),
        issuers: vec![],
        crl: CrlPolicy::None,
        crls: vec![],
        pin: None,
        days_max: entry.record.days_max,
    });
    let trust = Trust::build(directory.alliance().clone(), members.collect()).unwrap();
    let trust = Arc::new(ArcSwap::from_pointee(trust));
    let own = Own {
        chain: keys::read_certificates(&terminal.path("certs/dev/450200/gateway.pem")).unwrap(),
        key: keys::read_private_key(&terminal.path("certs/dev/450200/gateway.key")).unwrap(),
    };
    let moment = Moment::new(|| Clock::default().now());
    let config = Arc::new(ArcSwap::new(server_config(trust.clone(), own, moment.clone()).unwrap()));
    let gate = Arc::new(Gate { config, trust, moment, bounds: Bounds::default(), counters: Arc::default() });
    let streaming = ["SubmitStream", "Receive"].map(|call| format!("/tongban.exchange.v1.ExchangeService/{call}"));
    let calls = Arc::new(Calls::new(streaming));
    Serving { gate, connections: Connections::default(), calls, lifetime: Lifetime::default(), tally: Tally::default() }
}

const SEND: &str = "send --as 450200/window --to 440600/window --item A --text x";

#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_believed_that_is_not_about_this_message_by_this_gateway() {
    let terminal = Terminal::new("cli_lies", "submit");
    let liar = liar(&terminal).await;
    tokio::task::block_in_place(|| {
        terminal.ends(0, SEND);
        terminal.ends(0, &format!("{SEND} --count 3"));
        for lie in LIES {
            *liar.lie.lock().unwrap() = lie;
            for line in [SEND.to_owned(), format!("{SEND} --count 3")] {
                let (out, err) = terminal.ends(65, &line);
                assert!(out.is_empty() && err.contains("does not hold"), "{lie:?} {line}: {out}{err}");
                assert!(err.contains("\nhint: treat nothing as done"), "{lie:?}: {err}");
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_that_its_origin_does_not_vouch_for() {
    let terminal = Terminal::new("cli_lies", "receive");
    let liar = liar(&terminal).await;
    tokio::task::block_in_place(|| {
        terminal.ends(0, SEND);
        for lie in LIES {
            *liar.lie.lock().unwrap() = lie;
            let (out, err) = terminal.ends(65, "receive --as 450200/window --ack --out in");
            assert!(out.is_empty() && err.contains("does not hold"), "{lie:?}: {out}{err}");
            assert!(liar.outcomes.lock().unwrap().is_empty(), "{lie:?}: acknowledged");
            assert!(!terminal.path("in").exists(), "{lie:?}: written");
        }
        *liar.lie.lock().unwrap() = Lie::None;
        let (out, _) = terminal.ends(0, "receive --as 450200/window --ack --out in");
        assert!(out.contains("acknowledged  HANDED_OVER"), "{out}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_exported_that_does_not_hold() {
    let terminal = Terminal::new("cli_lies", "export");
    let liar = liar(&terminal).await;
    tokio::task::block_in_place(|| {
        let id = "01980000-0000-7000-8000-000000000001";
        terminal.ends(0, &format!("{SEND} --id {id}"));
        let export = format!("receipt export --as 450200/window {id} --out receipts");
        for lie in [Lie::AnotherMessage, Lie::AnotherKey, Lie::NotInTheLog] {
            *liar.lie.lock().unwrap() = lie;
            let (_, err) = terminal.ends(65, &export);
            assert!(err.contains("the answer does not hold"), "{lie:?}: {err}");
            assert!(!terminal.path("receipts").exists(), "{lie:?}");
        }
        *liar.lie.lock().unwrap() = Lie::None;
        terminal.ends(0, &export);
        terminal.ends(0, "verify receipts --trust receipts/trust");
    });
}
