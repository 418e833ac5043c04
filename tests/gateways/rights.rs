//! Shows who may do what at a gateway: every call of every service, by each kind of identity, about messages that it may
//! see, that it may not see, and that do not exist. Who may not see a thing is answered as if there were none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::alliance::{self, Alliance, Client, Gateway, envelope, new_id, part, reason};
use bytes::{Buf, BufMut, Bytes};
use pb::upload_attachment_request::Request as Upload;
use prost::Message;
use prost_types::FileDescriptorSet;
use sha2::{Digest as _, Sha256};
use tokio_stream::StreamExt;
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::directory as pbd;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::reflection::v1;
use tongban::wire::pb::routing as pbr;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

const OWN: &str = "450200";
const PARTNER: &str = "440600";
const THIRD: &str = "640100";

/// Who calls: a letter for the table, and where the certificate lies.
const CALLERS: [(char, &str); 9] = [
    ('w', "450200/systems/window"),   // own system: it sent message x
    ('a', "450200/systems/archive"),  // other own system: it sent message y
    ('p', "440600/gateway"),          // partner gateway, to which x goes
    ('t', "640100/gateway"),          // third gateway, which fetches y here
    ('h', "hub-main/gateway"),        // the hub, which carries neither
    ('o', "450200/ops/li"),           // operator of this gateway
    ('u', "450200/auditors/shen"),    // auditor of this gateway
    ('s', "440600/systems/approval"), // system of the partner
    ('f', "440600/ops/huang"),        // operator of the partner
];

/// A message and what belongs to it.
#[derive(Clone)]
struct Object {
    /// The system that sent it.
    system: &'static str,
    to: &'static str,
    /// Its id.
    open: String,
    /// Digest of its attachment.
    digest: Vec<u8>,
    /// Another message of that system, which was refused.
    dead: String,
}

/// A call's request, or the requests of a stream, about one object.
type Ask = fn(&Object) -> Vec<Vec<u8>>;

/// Every call: its path, what is asked, and who is answered about what: a caller's letter, then the objects, of which x and y
/// are messages and n is none. Whoever is not named is refused.
const CALLS: &[(&str, Ask, &[&str])] = &[
    ("tongban.exchange.v1.ExchangeService/GetMessage", get_message, &["wx", "ay", "px", "ty", "oxy"]),
    ("tongban.exchange.v1.ExchangeService/WatchMessage", watch_message, &["wx", "ay", "px", "ty", "oxy"]),
    ("tongban.exchange.v1.ExchangeService/DownloadAttachment", download, &["wx", "ay", "px", "ty"]),
    ("tongban.exchange.v1.ExchangeService/Submit", submit, &["wx", "ay"]),
    ("tongban.exchange.v1.ExchangeService/SubmitStream", submit_stream, &["wx", "ay"]),
    ("tongban.exchange.v1.ExchangeService/Request", request, &["wx", "ay"]),
    ("tongban.exchange.v1.ExchangeService/UploadAttachment", upload, &["wxyn", "axyn", "pxyn", "txyn", "hxyn"]),
    ("tongban.exchange.v1.ExchangeService/Receive", receive, &["wxyn", "axyn", "txyn"]),
    (
        "tongban.exchange.v1.ExchangeService/ListMessages",
        list_messages,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn"],
    ),
    ("tongban.exchange.v1.ExchangeService/CancelMessage", cancel, &["wx", "ay"]),
    ("tongban.evidence.v1.EvidenceService/GetMessageEvidence", evidence, &["wx", "ay", "px", "ty", "oxy", "uxy"]),
    (
        "tongban.evidence.v1.EvidenceService/GetCheckpoint",
        get_checkpoint,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn"],
    ),
    (
        "tongban.evidence.v1.EvidenceService/GetConsistencyProof",
        consistency_proof,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn"],
    ),
    (
        "tongban.evidence.v1.EvidenceService/GetTile",
        get_tile,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn"],
    ),
    ("tongban.evidence.v1.EvidenceService/AddCosignature", add_cosignature, &["pxyn", "txyn", "hxyn"]),
    (
        "tongban.directory.v1.DirectoryService/GetDirectory",
        get_directory,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn"],
    ),
    (
        "tongban.directory.v1.DirectoryService/WatchNotes",
        watch_notes,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn"],
    ),
    ("tongban.directory.v1.DirectoryService/PublishNote", publish_note, &["oxyn"]),
    ("tongban.routing.v1.RoutingService/GetTables", get_tables, &["oxyn", "uxyn"]),
    ("tongban.routing.v1.RoutingService/PlanTables", plan_tables, &["oxyn"]),
    ("tongban.routing.v1.RoutingService/PublishTables", publish_tables, &["oxyn"]),
    ("tongban.routing.v1.RoutingService/RollbackTables", roll_back, &["oxyn"]),
    ("tongban.routing.v1.RoutingService/ExplainRoute", explain, &["oxyn", "uxyn"]),
    ("tongban.routing.v1.RoutingService/WatchTables", watch_tables, &["oxyn", "uxyn"]),
    ("tongban.admin.v1.AdminService/ListDeadLetterGroups", dead_groups, &["oxyn", "uxyn"]),
    ("tongban.admin.v1.AdminService/ListDeadLetters", dead_letters, &["oxyn", "uxyn"]),
    ("tongban.admin.v1.AdminService/GetDeadLetter", dead_letter, &["oxy", "uxy"]),
    ("tongban.admin.v1.AdminService/RedriveDeadLetters", redrive, &["oxyn"]),
    ("tongban.admin.v1.AdminService/DiscardDeadLetters", discard, &["oxyn"]),
    ("tongban.admin.v1.AdminService/ListLanes", list_lanes, &["oxyn"]),
    ("tongban.admin.v1.AdminService/PauseLane", pause_lane, &["oxyn"]),
    ("tongban.admin.v1.AdminService/ResumeLane", resume_lane, &["oxyn"]),
    ("tongban.admin.v1.AdminService/Reload", reload, &["oxyn"]),
    ("tongban.admin.v1.AdminService/TestPartner", test_partner, &["oxyn"]),
    ("tongban.admin.v1.AdminService/ListPartnerTests", list_partner_tests, &["oxyn"]),
    ("tongban.admin.v1.AdminService/GetStats", get_stats, &["oxyn"]),
    ("tongban.admin.v1.AdminService/ListAudit", list_audit, &["uxyn"]),
    ("tongban.admin.v1.AdminService/ReadContent", read_content, &["oxy"]),
    ("tongban.admin.v1.AdminService/ListMembers", list_members, &["oxyn", "uxyn"]),
    ("tongban.admin.v1.AdminService/SuspendMember", suspend_member, &["oxyn"]),
    ("tongban.admin.v1.AdminService/ResumeMember", resume_member, &["oxyn"]),
    ("tongban.admin.v1.AdminService/ApproveMemberKey", approve_member_key, &["oxyn"]),
    ("tongban.admin.v1.AdminService/ListGrants", list_grants, &["oxyn", "uxyn"]),
    ("tongban.admin.v1.AdminService/RunChecks", run_checks, &["oxyn", "uxyn"]),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        list_services,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn", "sxyn", "fxyn"],
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        list_services,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn", "sxyn", "fxyn"],
    ),
    (
        "grpc.health.v1.Health/Check",
        health_check,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn", "sxyn", "fxyn"],
    ),
    (
        "grpc.health.v1.Health/Watch",
        health_check,
        &["wxyn", "axyn", "pxyn", "txyn", "hxyn", "oxyn", "uxyn", "sxyn", "fxyn"],
    ),
];

fn one(message: impl Message) -> Vec<Vec<u8>> {
    vec![message.encode_to_vec()]
}

fn get_message(object: &Object) -> Vec<Vec<u8>> {
    one(pb::GetMessageRequest { from_city: OWN.to_owned(), message_id: object.open.clone() })
}

fn watch_message(object: &Object) -> Vec<Vec<u8>> {
    let (from_city, message_id) = (OWN.to_owned(), object.open.clone());
    one(pb::WatchMessageRequest { from_city, message_id, after: String::new() })
}

fn download(object: &Object) -> Vec<Vec<u8>> {
    let digest = Some(pb::Digest { algorithm: "sha256".to_owned(), value: object.digest.clone() });
    let (from_city, message_id) = (OWN.to_owned(), object.open.clone());
    one(pb::DownloadAttachmentRequest { from_city, message_id, digest, offset: 0 })
}

/// A new message in the name of the object's sender.
fn new(object: &Object) -> pb::Envelope {
    envelope((OWN, object.system), (object.to, ""))
}

fn submit(object: &Object) -> Vec<Vec<u8>> {
    one(pb::SubmitRequest { envelope: Some(new(object)), origin_receipt: None, via: vec![] })
}

fn submit_stream(object: &Object) -> Vec<Vec<u8>> {
    let submit = pb::SubmitRequest { envelope: Some(new(object)), origin_receipt: None, via: vec![] };
    one(pb::SubmitStreamRequest { request: Some(pb::submit_stream_request::Request::Submit(submit)) })
}

fn request(object: &Object) -> Vec<Vec<u8>> {
    one(pb::RequestRequest { envelope: Some(new(object)) })
}

fn upload(object: &Object) -> Vec<Vec<u8>> {
    let (digest, size, salt) = (object.digest.clone(), CONTENT.len() as u64, vec![7; 16]);
    let digest = Some(pb::Digest { algorithm: "sha256".to_owned(), value: digest });
    one(pb::UploadAttachmentRequest { request: Some(Upload::Begin(pb::BeginUpload { digest, size, salt })) })
}

fn receive(_: &Object) -> Vec<Vec<u8>> {
    let open = pb::OpenMailbox { credits: 0, receipts: false };
    one(pb::ReceiveRequest { request: Some(pb::receive_request::Request::Open(open)) })
}

fn list_messages(_: &Object) -> Vec<Vec<u8>> {
    one(pb::ListMessagesRequest::default())
}

fn cancel(object: &Object) -> Vec<Vec<u8>> {
    one(pb::CancelMessageRequest { message_id: object.open.clone() })
}

fn evidence(object: &Object) -> Vec<Vec<u8>> {
    one(pbe::GetMessageEvidenceRequest { from_city: OWN.to_owned(), message_id: object.open.clone(), sealed: false })
}

fn get_checkpoint(_: &Object) -> Vec<Vec<u8>> {
    one(pbe::GetCheckpointRequest::default())
}

fn consistency_proof(_: &Object) -> Vec<Vec<u8>> {
    one(pbe::GetConsistencyProofRequest { old_size: 1, new_size: 2, ..Default::default() })
}

fn get_tile(_: &Object) -> Vec<Vec<u8>> {
    one(pbe::GetTileRequest { width: 2, ..Default::default() })
}

/// What nobody has signed: a witness is told so, anybody else that it is none.
fn add_cosignature(_: &Object) -> Vec<Vec<u8>> {
    one(pbe::AddCosignatureRequest { cosignature: "x".to_owned(), ..Default::default() })
}

fn get_directory(_: &Object) -> Vec<Vec<u8>> {
    one(pbd::GetDirectoryRequest {})
}

fn watch_notes(_: &Object) -> Vec<Vec<u8>> {
    one(pbd::WatchNotesRequest {})
}

/// A note in the name of a member that nobody but an operator speaks for.
fn publish_note(_: &Object) -> Vec<Vec<u8>> {
    let kind = pbd::NoteKind::MemberRecord as i32;
    let piece = pbd::NotePiece { kind, owner: "350200".to_owned(), version: 1, text: "x".to_owned(), last: true };
    one(pbd::PublishNoteRequest { piece: Some(piece) })
}

fn get_tables(_: &Object) -> Vec<Vec<u8>> {
    one(pbr::GetTablesRequest::default())
}

fn plan_tables(_: &Object) -> Vec<Vec<u8>> {
    one(pbr::PlanTablesRequest::default())
}

fn publish_tables(_: &Object) -> Vec<Vec<u8>> {
    one(pbr::PublishTablesRequest::default())
}

fn roll_back(_: &Object) -> Vec<Vec<u8>> {
    one(pbr::RollbackTablesRequest::default())
}

fn explain(_: &Object) -> Vec<Vec<u8>> {
    one(pbr::ExplainRouteRequest::default())
}

fn watch_tables(_: &Object) -> Vec<Vec<u8>> {
    one(pbr::WatchTablesRequest::default())
}

fn dead_groups(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ListDeadLetterGroupsRequest::default())
}

fn dead_letters(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ListDeadLettersRequest::default())
}

fn dead_name(object: &Object) -> pba::DeadLetterName {
    pba::DeadLetterName { from_city: OWN.to_owned(), message_id: object.dead.clone() }
}

fn dead_letter(object: &Object) -> Vec<Vec<u8>> {
    one(pba::GetDeadLetterRequest { name: Some(dead_name(object)) })
}

fn selection(object: &Object) -> Option<pba::DeadLetterSelection> {
    use pba::dead_letter_selection::Selection;
    let names = pba::DeadLetterNames { names: vec![dead_name(object)] };
    Some(pba::DeadLetterSelection { selection: Some(Selection::Names(names)) })
}

fn redrive(object: &Object) -> Vec<Vec<u8>> {
    one(pba::RedriveDeadLettersRequest { selection: selection(object), preview: true, ..Default::default() })
}

fn discard(object: &Object) -> Vec<Vec<u8>> {
    let (selection, reason) = (selection(object), "a test".to_owned());
    one(pba::DiscardDeadLettersRequest { selection, reason, dry_run: true })
}

fn list_lanes(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ListLanesRequest::default())
}

/// Of a lane that carries none of the objects.
fn pause_lane(_: &Object) -> Vec<Vec<u8>> {
    one(pba::PauseLaneRequest { lane: "gateway/hub/main".to_owned(), reason: "a test".to_owned() })
}

fn resume_lane(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ResumeLaneRequest { lane: "gateway/hub/main".to_owned(), reason: String::new() })
}

fn reload(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ReloadRequest {})
}

/// Of no partner: a test is a message like those of the objects, and none of them is to be kept waiting.
fn test_partner(_: &Object) -> Vec<Vec<u8>> {
    one(pba::TestPartnerRequest::default())
}

fn list_partner_tests(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ListPartnerTestsRequest {})
}

fn get_stats(_: &Object) -> Vec<Vec<u8>> {
    let day = |day: i64| Some(prost_types::Timestamp { seconds: day * 86_400, nanos: 0 });
    one(pba::GetStatsRequest { from: day(20_000), until: day(20_001), ..Default::default() })
}

fn list_audit(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ListAuditRequest::default())
}

fn read_content(object: &Object) -> Vec<Vec<u8>> {
    let (from_city, message_id) = (OWN.to_owned(), object.open.clone());
    one(pba::ReadContentRequest { from_city, message_id, reason: "a test".to_owned() })
}

fn list_members(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ListMembersRequest::default())
}

/// Of no member: an operator is told so, everybody else that they may not.
fn suspend_member(_: &Object) -> Vec<Vec<u8>> {
    one(pba::SuspendMemberRequest { member: "350200".to_owned(), reason: "a test".to_owned() })
}

fn resume_member(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ResumeMemberRequest { member: "350200".to_owned(), reason: String::new() })
}

fn approve_member_key(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ApproveMemberKeyRequest { member: PARTNER.to_owned(), fingerprint: "0000".to_owned() })
}

fn list_grants(_: &Object) -> Vec<Vec<u8>> {
    one(pba::ListGrantsRequest::default())
}

fn run_checks(_: &Object) -> Vec<Vec<u8>> {
    one(pba::RunChecksRequest { only: vec!["host.clock".to_owned()], ..Default::default() })
}

fn list_services(_: &Object) -> Vec<Vec<u8>> {
    let asked = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    one(v1::ServerReflectionRequest { host: String::new(), message_request: Some(asked) })
}

fn health_check(_: &Object) -> Vec<Vec<u8>> {
    // HealthCheckRequest { service: "" }
    vec![vec![]]
}

/// What a caller is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// Something about what it asked.
    Answer,
    /// That there is no such thing, or that it may not: all that the answer says, with the object's ids left out.
    Refusal(String),
}

/// Refusals by these reasons tell the caller nothing but that it may not, or that there is no such thing.
const REFUSALS: [&str; 5] =
    ["MESSAGE_NOT_FOUND", "NOT_PERMITTED", "SENDER_NOT_CALLER", "ORIGIN_RECEIPT_MISSING", "ATTACHMENT_NOT_FOUND"];

fn told(status: &Status, object: &Object) -> Told {
    let reason = reason(status);
    if !matches!(status.code(), Code::NotFound | Code::PermissionDenied) && !REFUSALS.contains(&reason.as_str()) {
        return Told::Answer;
    }
    let whole = format!("{:?} {} {reason} {:?}", status.code(), status.message(), status.metadata());
    let ids = [object.open.as_str(), object.dead.as_str(), object.system];
    Told::Refusal(ids.iter().fold(whole, |whole, id| whole.replace(id, "…")))
}

/// Calls by path, with bytes.
async fn call(client: &Client, path: &str, requests: Vec<Vec<u8>>, object: &Object) -> Told {
    let mut grpc = tonic::client::Grpc::new(client.channel.clone());
    grpc.ready().await.unwrap();
    let path: http::uri::PathAndQuery = format!("/{path}").parse().unwrap();
    // The stream stays open behind its first request, as a caller's would.
    let requests = tokio_stream::iter(requests.into_iter().map(Bytes::from)).chain(tokio_stream::pending());
    let many = if methods()[path.as_str().trim_start_matches('/')] { usize::MAX } else { 1 };
    let mut request = tonic::Request::new(requests.take(many));
    request.set_timeout(Duration::from_secs(2));
    let mut stream = match grpc.streaming(request, path.clone(), Raw).await {
        Ok(answered) => answered.into_inner(),
        Err(status) => return told(&status, object),
    };
    // A stream that says nothing has let the caller in.
    match tokio::time::timeout(Duration::from_millis(500), stream.message()).await {
        Ok(Err(status)) => told(&status, object),
        Ok(Ok(Some(bytes))) if path.as_str().ends_with("/SubmitStream") => {
            let answer = pb::SubmitStreamResponse::decode(bytes).unwrap();
            match answer.response {
                Some(pb::submit_stream_response::Response::Status(status)) => {
                    let details = Bytes::from(status.encode_to_vec());
                    let status = Status::with_details(Code::from(status.code), status.message, details);
                    told(&status, object)
                }
                _ => Told::Answer,
            }
        }
        Ok(Ok(_)) | Err(_) => Told::Answer,
    }
}

/// Every call of every service, and whether its caller sends a stream.
fn methods() -> BTreeMap<String, bool> {
    let sets = [tongban::wire::pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
    let of_file = |file: prost_types::FileDescriptorProto| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let name = format!("{package}.{}", service.name());
            let path = move |method: prost_types::MethodDescriptorProto| {
                (format!("{name}/{}", method.name()), method.client_streaming())
            };
            service.method.into_iter().map(path)
        })
    };
    files.flat_map(of_file).filter(|(path, _)| !path.ends_with("Health/List")).collect()
}

/// Bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

const CONTENT: &[u8] = b"the same bytes would have the same digest: each attachment has its own";

/// A gateway with two open messages and two that were refused, and what names none of them.
struct World {
    alliance: Alliance,
    _own: Gateway,
    objects: [(char, Object); 3],
}

impl World {
    async fn new() -> World {
        let city = |code, systems| alliance::City { code, systems, ..Default::default() };
        let third = alliance::City { pulls: true, ..city(THIRD, &["desk"]) };
        let cities = [city(OWN, &["window", "archive"]), city(PARTNER, &["approval"]), third];
        let alliance = Alliance::of(&["main"], &cities);
        for (add, city, name) in [("add-ops", OWN, "li"), ("add-auditor", OWN, "shen"), ("add-ops", PARTNER, "huang")] {
            alliance.run(&["pki", add, city, name], &["--dir", &alliance.pki()]);
        }
        let own = alliance.start(OWN).await;
        let dead = refused(&alliance).await;
        let [first, second] = dead;
        let x = object(&alliance, "window", PARTNER, first).await;
        let y = object(&alliance, "archive", THIRD, second).await;
        let none = Object { system: "nobody", to: PARTNER, open: new_id(), digest: vec![9; 32], dead: new_id() };
        World { alliance, _own: own, objects: [('x', x), ('y', y), ('n', none)] }
    }
}

/// A message of this system with an attachment; its recipient is away.
async fn object(alliance: &Alliance, system: &'static str, to: &'static str, dead: String) -> Object {
    let client = alliance.client(OWN, system);
    let content = [CONTENT, system.as_bytes()].concat();
    let digest = Sha256::digest(&content).to_vec();
    let wire = Some(pb::Digest { algorithm: "sha256".to_owned(), value: digest.clone() });
    let begin = pb::BeginUpload { digest: wire.clone(), size: content.len() as u64, salt: vec![7; 16] };
    let steps = [Upload::Begin(begin), Upload::Chunk(content.clone().into())];
    let steps = steps.map(|step| pb::UploadAttachmentRequest { request: Some(step) });
    let told = client.exchange.clone().upload_attachment(tokio_stream::iter(steps)).await.unwrap().into_inner();
    let told: Vec<_> = told.collect().await;
    assert!(matches!(told.last(), Some(Ok(last)) if last.complete), "{told:?}");
    let attachment = pb::part::Content::Attachment(pb::Attachment { digest: wire });
    let attached = pb::Part { content: Some(attachment), ..part("scan.pdf", &content) };
    let sent = pb::Envelope { parts: vec![attached], ..envelope((OWN, system), (to, "")) };
    client.submit(sent.clone()).await.unwrap();
    Object { system, to, open: sent.message_id, digest, dead }
}

/// A message of each own system that the partner's system refuses; then the partner goes away.
async fn refused(alliance: &Alliance) -> [String; 2] {
    let partner = alliance.start(PARTNER).await;
    let mut mailbox = alliance.client(PARTNER, "approval").receive(8).await;
    let mut ids = vec![];
    for system in ["window", "archive"] {
        let (client, sent) = (alliance.client(OWN, system), envelope((OWN, system), (PARTNER, "approval")));
        client.submit(sent.clone()).await.unwrap();
        let (delivery, _) = mailbox.delivery().await;
        let refuse = pb::Refuse { code: "NOT_OURS".to_owned(), ..Default::default() };
        mailbox.give(&delivery.delivery_id, pb::outcome::Outcome::Refuse(refuse)).await;
        mailbox.settled().await;
        client.until("", &sent.message_id, pbe::State::Rejected).await;
        ids.push(sent.message_id);
    }
    partner.stop().await;
    ids.try_into().unwrap()
}

#[test]
fn every_call_of_every_service_stands_in_the_table() {
    let listed: BTreeSet<String> = CALLS.iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(listed, methods().into_keys().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_a_thing_is_answered_as_if_there_were_none() {
    let world = World::new().await;
    let mut wrong = vec![];
    for (letter, certificate) in CALLERS {
        let client = world.alliance.client_of(certificate, OWN);
        for (path, ask, may) in CALLS {
            let seen = may.iter().find_map(|row| row.strip_prefix(letter)).unwrap_or_default();
            let mut answers = vec![];
            for (name, object) in &world.objects {
                answers.push((*name, call(&client, path, ask(object), object).await));
            }
            let none = answers.iter().find(|(name, _)| *name == 'n').map(|(_, told)| told);
            for (name, told) in &answers {
                let right = match seen.contains(*name) {
                    true => *told == Told::Answer,
                    false => *told != Told::Answer && Some(told) == none,
                };
                if !right {
                    wrong.push(format!("{certificate} {path} about {name}: {told:?}, and about none: {none:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
