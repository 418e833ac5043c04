//! Attachments at a gateway's door: uploads that go on after a break, downloads for those alone who may read, and a typed
//! refusal for everything else.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tongban::blobs::{Blobs, Bounds, Chunks, Need, Owner, Want};
use tongban::courier::attachments::{Ask, CarryError, download, fetch, upload};
use tongban::limits::{ATTACHMENT_BYTES_MAX, ATTACHMENT_SYNC_BYTES, CHUNK_BYTES_MAX};
use tongban::message::{Digest, part_digest};
use tongban::wire::pb::exchange as pb;
use tonic::{Code, Status, Streaming};

use crate::alliance::{self, Alliance, Client, PATIENCE, envelope, part, reason};
use pb::upload_attachment_request::Request as Step;

const SALT: [u8; 16] = [7; 16];

fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn wire(digest: Digest) -> Option<pb::Digest> {
    Some(pb::Digest { algorithm: "sha256".to_owned(), value: digest.0.to_vec() })
}

fn want(bytes: &[u8]) -> Want {
    Want { digest: sha256(bytes), size: bytes.len() as u64, salt: Some(SALT) }
}

fn noise(bytes: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..bytes.div_ceil(32) as u64).flat_map(|n| Sha256::digest(n.to_be_bytes())).collect();
    block[..bytes].to_vec()
}

/// A part whose bytes were uploaded before.
fn attached(name: &str, bytes: &[u8]) -> pb::Part {
    let content = Some(pb::part::Content::Attachment(pb::Attachment { digest: wire(sha256(bytes)) }));
    pb::Part { content, ..part(name, bytes) }
}

fn begin(bytes: &[u8]) -> Step {
    Step::Begin(pb::BeginUpload { digest: wire(sha256(bytes)), size: bytes.len() as u64, salt: SALT.to_vec() })
}

/// An upload, step by step.
struct Talk {
    up: mpsc::Sender<pb::UploadAttachmentRequest>,
    down: Streaming<pb::UploadAttachmentResponse>,
}

impl Talk {
    async fn open(client: &Client, first: Step) -> Result<Talk, Status> {
        let (up, steps) = mpsc::channel(64);
        up.send(pb::UploadAttachmentRequest { request: Some(first) }).await.unwrap();
        let down = client.exchange.clone().upload_attachment(ReceiverStream::new(steps)).await?.into_inner();
        Ok(Talk { up, down })
    }

    async fn say(&self, step: Step) {
        let _ = self.up.send(pb::UploadAttachmentRequest { request: Some(step) }).await;
    }

    async fn chunks(&self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK_BYTES_MAX) {
            self.say(Step::Chunk(chunk.to_vec().into())).await;
        }
    }

    async fn told(&mut self) -> Result<(u64, bool), Status> {
        let answer = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("an answer in time")?;
        answer.map(|answer| (answer.offset, answer.complete)).ok_or_else(|| Status::cancelled("ended"))
    }
}

/// A file with these bytes, as a sender has one.
fn file(alliance: &Alliance, bytes: &[u8]) -> PathBuf {
    let path = alliance.folder.join(hex::encode(&sha256(bytes).0[..8]));
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn send(client: &Client, alliance: &Alliance, bytes: &[u8]) -> Result<Vec<u64>, CarryError> {
    let (path, mut heard) = (file(alliance, bytes), vec![]);
    let open = move |offset| Chunks::of_file(std::fs::File::open(path)?, offset);
    upload(&client.channel, &want(bytes), open, |durable| heard.push(durable)).await?;
    Ok(heard)
}

/// The attachment store of a city's gateway, from outside.
fn store(alliance: &Alliance, city: &str) -> Blobs {
    let bounds = Bounds { reserve_bytes: 0, ..Bounds::default() };
    Blobs::open_with(alliance.config(city).data.join("attachments"), bounds).unwrap()
}

fn uri(city: &str, rest: &str, alliance: &Alliance) -> Owner {
    Owner::identity(&format!("spiffe://{}/city/{city}/{rest}", alliance.config(city).alliance.as_str()))
}

/// Uploads one attachment and submits a message that refers to it; its id.
async fn submitted(alliance: &Alliance, client: &Client, to: (&str, &str), bytes: &[u8]) -> String {
    send(client, alliance, bytes).await.unwrap();
    let mut message = envelope(("450200", "window"), to);
    message.parts.push(attached("scan.pdf", bytes));
    let id = message.message_id.clone();
    // Where the gateway has claimed it with the message there is no upload left.
    let need = Need { want: want(bytes), salted: Some(part_digest(&SALT, bytes)) };
    let held = store(alliance, "450200").claim(&uri("450200", "system/window", alliance), &[need]).unwrap();
    client.submit(message).await.unwrap();
    drop(held);
    id
}

async fn got(client: &Client, asked: pb::DownloadAttachmentRequest) -> Result<Vec<u8>, Status> {
    let mut pieces = client.exchange.clone().download_attachment(asked).await?.into_inner();
    let mut all = vec![];
    while let Some(piece) = tokio::time::timeout(PATIENCE, pieces.message()).await.expect("a piece in time")? {
        assert!((1..=CHUNK_BYTES_MAX).contains(&piece.chunk.len()));
        all.extend_from_slice(&piece.chunk);
    }
    Ok(all)
}

fn asked(id: &str, digest: Digest, offset: u64) -> pb::DownloadAttachmentRequest {
    pb::DownloadAttachmentRequest {
        from_city: "450200".to_owned(),
        message_id: id.to_owned(),
        digest: wire(digest),
        offset,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_was_broken_off() {
    let alliance = Alliance::new(&[("450200", &["window"])]);
    let bytes = noise(2 * ATTACHMENT_SYNC_BYTES as usize + 1000);
    let gateway = alliance.start("450200").await;
    let client = alliance.client("450200", "window");
    let mut talk = Talk::open(&client, begin(&bytes)).await.unwrap();
    assert_eq!(talk.told().await.unwrap(), (0, false));
    let half = ATTACHMENT_SYNC_BYTES as usize + 500_000;
    talk.chunks(&bytes[..half]).await;
    let (durable, complete) = talk.told().await.unwrap();
    assert!((ATTACHMENT_SYNC_BYTES..=half as u64).contains(&durable) && !complete);
    drop((talk, client));
    gateway.stop().await;

    let gateway = alliance.start("450200").await;
    let client = alliance.client("450200", "window");
    let heard = send(&client, &alliance, &bytes).await.unwrap();
    assert!(heard[0] >= durable, "goes on from {} where {durable} were durable", heard[0]);
    assert!(heard.is_sorted() && heard.last() == Some(&(bytes.len() as u64)), "{heard:?}");
    let owner = uri("450200", "system/window", &alliance);
    let staged = store(&alliance, "450200").staged(&owner, &want(&bytes)).unwrap().unwrap();
    assert_eq!(staged.salted, part_digest(&SALT, &bytes));
    assert_eq!(send(&client, &alliance, &bytes).await.unwrap()[0], bytes.len() as u64, "nothing is sent twice");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_two_calls_has_the_upload() {
    let alliance = Alliance::new(&[("450200", &["window"])]);
    let gateway = alliance.start("450200").await;
    let (one, two) = (alliance.client("450200", "window"), alliance.client("450200", "window"));
    let mut first = Talk::open(&one, begin(b"12345")).await.unwrap();
    assert_eq!(first.told().await.unwrap(), (0, false));
    let mut second = Talk::open(&two, begin(b"12345")).await.unwrap();
    assert_eq!(second.told().await.unwrap(), (0, false));
    first.chunks(b"12345").await;
    assert_eq!(reason(&first.told().await.unwrap_err()), "UPLOAD_SUPERSEDED");
    second.chunks(b"12345").await;
    assert_eq!(second.told().await.unwrap(), (5, true));
    drop((one, two, first, second));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_upload_is_refused_by_name() {
    let alliance = Alliance::new(&[("450200", &["window"]), ("440600", &[])]);
    let gateway = alliance.start("450200").await;
    let client = alliance.client("450200", "window");
    let digest = wire(sha256(b"12345"));
    let good = pb::BeginUpload { digest: digest.clone(), size: 5, salt: SALT.to_vec() };
    let begin_with = |change: &dyn Fn(&mut pb::BeginUpload)| {
        let mut begin = good.clone();
        change(&mut begin);
        Step::Begin(begin)
    };
    let chunk = |bytes: &[u8]| Step::Chunk(bytes.to_vec().into());
    let rows = [
        ("a chunk first", vec![chunk(b"1")], "STREAM_PROTOCOL"),
        ("begun twice", vec![begin(b"12345"), begin(b"12345")], "STREAM_PROTOCOL"),
        ("an empty chunk", vec![begin(b"12345"), chunk(b"")], "STREAM_PROTOCOL"),
        ("a chunk too long", vec![begin(&noise(600_000)), chunk(&vec![1; CHUNK_BYTES_MAX + 1])], "STREAM_PROTOCOL"),
        ("too many bytes", vec![begin(b"12345"), chunk(b"123456")], "STREAM_PROTOCOL"),
        ("no digest", vec![begin_with(&|b| b.digest = None)], "INVALID_ENVELOPE"),
        ("a short digest", vec![begin_with(&|b| b.digest.as_mut().unwrap().value.truncate(31))], "INVALID_ENVELOPE"),
        (
            "another algorithm",
            vec![begin_with(&|b| b.digest.as_mut().unwrap().algorithm = "md5".to_owned())],
            "INVALID_ENVELOPE",
        ),
        ("a short salt", vec![begin_with(&|b| b.salt.truncate(15))], "INVALID_ENVELOPE"),
        ("too large", vec![begin_with(&|b| b.size = ATTACHMENT_BYTES_MAX + 1)], "ATTACHMENT_TOO_LARGE"),
        ("wrong bytes", vec![begin(b"12345"), chunk(b"54321")], "DIGEST_MISMATCH"),
    ];
    for (what, steps, expected) in rows {
        let mut steps = steps.into_iter();
        let mut talk = Talk::open(&client, steps.next().unwrap()).await.unwrap();
        for step in steps {
            assert_eq!(talk.told().await.unwrap(), (0, false), "{what}");
            talk.say(step).await;
        }
        assert_eq!(reason(&talk.told().await.unwrap_err()), expected, "{what}");
    }
    let mut again = Talk::open(&client, begin(b"12345")).await.unwrap();
    assert_eq!(again.told().await.unwrap(), (0, false), "wrong bytes leave nothing behind");
    let partner = alliance.client_of("440600/gateway", "450200");
    let mut theirs = Talk::open(&partner, begin(b"12345")).await.unwrap();
    assert_eq!(theirs.told().await.unwrap(), (0, false));
    theirs.chunks(b"12345").await;
    assert_eq!(theirs.told().await.unwrap(), (5, true), "gateways upload too");
    drop((client, partner, again, theirs));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_has_no_more_uploads_open_than_allowed_and_others_have_theirs() {
    let alliance = Alliance::new(&[("450200", &["window", "other"])]);
    let gateway = alliance.start("450200").await;
    let client = alliance.client("450200", "window");
    let mut open = vec![];
    for number in 0..tongban::limits::UPLOADS_OPEN_MAX {
        let mut talk = Talk::open(&client, begin(format!("upload {number}").as_bytes())).await.unwrap();
        assert_eq!(talk.told().await.unwrap(), (0, false));
        open.push(talk);
    }
    let refused = Talk::open(&client, begin(b"one more")).await.unwrap().told().await.unwrap_err();
    assert_eq!(reason(&refused), "UPLOADS_TOO_MANY");
    let other = alliance.client("450200", "other");
    let mut theirs = Talk::open(&other, begin(b"one more")).await.unwrap();
    assert_eq!(theirs.told().await.unwrap(), (0, false));
    drop(open);
    drop((client, other, theirs));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_reads_from_any_offset_and_to_others_nothing_exists() {
    let alliance = Alliance::new(&[("450200", &["window", "desk", "other"]), ("440600", &["desk"])]);
    let gateway = alliance.start("450200").await;
    let window = alliance.client("450200", "window");
    let (bytes, elsewhere) = (noise(700_000), noise(1_000));
    let id = submitted(&alliance, &window, ("450200", "desk"), &bytes).await;
    let other_id = submitted(&alliance, &window, ("450200", "other"), &elsewhere).await;

    let (desk, other) = (alliance.client("450200", "desk"), alliance.client("450200", "other"));
    let partner = alliance.client_of("440600/gateway", "450200");
    for reader in [&window, &desk] {
        for offset in [0, 1, CHUNK_BYTES_MAX, bytes.len() - 1, bytes.len()] {
            let read = got(reader, asked(&id, sha256(&bytes), offset as u64)).await.unwrap();
            assert!(read == bytes[offset..], "from {offset}");
        }
    }
    let unknown = alliance::new_id();
    let hidden = [
        ("another system", &other, asked(&id, sha256(&bytes), 0)),
        ("another city's gateway", &partner, asked(&id, sha256(&bytes), 0)),
        ("an unknown digest", &desk, asked(&id, sha256(b"unknown"), 0)),
        ("an inline part's digest", &desk, asked(&id, sha256(b"{\"name\":\"x\"}"), 0)),
        ("a digest of another message", &desk, asked(&id, sha256(&elsewhere), 0)),
        ("a message of another", &desk, asked(&other_id, sha256(&elsewhere), 0)),
        ("an unknown message", &desk, asked(&unknown, sha256(&bytes), 0)),
        ("beyond the end", &desk, asked(&id, sha256(&bytes), bytes.len() as u64 + 1)),
    ];
    let mut words = vec![];
    for (what, reader, request) in hidden {
        let refused = got(reader, request).await.unwrap_err();
        assert_eq!(reason(&refused), "ATTACHMENT_NOT_FOUND", "{what}");
        words.push((refused.code(), refused.message().to_owned(), refused.details().to_vec()));
    }
    words.dedup();
    assert_eq!(words.len(), 1, "and all answers are the same: {words:?}");
    assert_eq!(words[0].0, Code::NotFound);
    let malformed = pb::DownloadAttachmentRequest { digest: None, ..asked(&id, sha256(&bytes), 0) };
    assert_eq!(reason(&got(&desk, malformed).await.unwrap_err()), "INVALID_ENVELOPE");
    drop((window, desk, other, partner));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_whose_grants_are_gone_reads_no_longer() {
    let alliance = Alliance::new(&[("450200", &["window", "desk"])]);
    let gateway = alliance.start("450200").await;
    let bytes = noise(1_000);
    let id = submitted(&alliance, &alliance.client("450200", "window"), ("450200", "desk"), &bytes).await;
    let desk = alliance.client("450200", "desk");
    assert!(got(&desk, asked(&id, sha256(&bytes), 0)).await.is_ok());
    drop(desk);
    gateway.stop().await;
    let mut config = alliance.config("450200");
    config.grants.0.clear();
    let gateway = alliance.start_with(&config).await;
    let refused = got(&alliance.client("450200", "desk"), asked(&id, sha256(&bytes), 0)).await.unwrap_err();
    assert_eq!(reason(&refused), "ATTACHMENT_NOT_FOUND");
    assert!(got(&alliance.client("450200", "window"), asked(&id, sha256(&bytes), 0)).await.is_ok(), "the sender does");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_into_a_store_goes_on_where_it_was_broken_off() {
    let alliance = Alliance::new(&[("450200", &["window", "desk"])]);
    let gateway = alliance.start("450200").await;
    let bytes = noise(3_000_000);
    let id = submitted(&alliance, &alliance.client("450200", "window"), ("450200", "desk"), &bytes).await;
    let desk = alliance.client("450200", "desk");
    let ask = Ask { from_city: "450200".parse().unwrap(), message: id.parse().unwrap(), digest: sha256(&bytes) };
    let bounds = Bounds { reserve_bytes: 0, ..Bounds::default() };
    let own = Blobs::open_with(alliance.folder.join("own"), bounds).unwrap();
    let owner = Owner::partner(&"450200".parse().unwrap());

    let mut upload = own.begin(&owner, want(&bytes)).unwrap();
    let mut pieces = fetch(&desk.channel, &ask, 0).await.unwrap();
    for _ in 0..3 {
        upload.write(&pieces.next().await.unwrap().unwrap()).unwrap();
    }
    let broken_at = upload.offset();
    drop((upload, pieces));

    let mut heard = vec![];
    let staged = download(&desk.channel, &ask, &own, &owner, want(&bytes), |here| heard.push(here)).await.unwrap();
    assert_eq!(heard[0], broken_at);
    assert_eq!(staged.salted, part_digest(&SALT, &bytes));
    let refused = download(&desk.channel, &Ask { digest: sha256(b"x"), ..ask }, &own, &owner, want(b"x"), |_| {}).await;
    assert!(
        matches!(refused, Err(CarryError::Refused(answered)) if answered.reason.as_deref() == Some("ATTACHMENT_NOT_FOUND"))
    );
    drop(desk);
    gateway.stop().await;
    let gone = download(
        &alliance.client("450200", "desk").channel,
        &Ask { digest: sha256(b"x"), from_city: "450200".parse().unwrap(), message: id.parse().unwrap() },
        &own,
        &owner,
        want(b"x"),
        |_| {},
    )
    .await;
    assert!(matches!(gone, Err(CarryError::Broken(_))), "{gone:?}");
}
