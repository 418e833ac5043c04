//! Decides how one attachment crosses one hop: from the offset that the other side names, in pieces, with what became
//! durable told on the way. Tries once; whoever calls it knows when to try again.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::blobs::{Blobs, Chunks, Owner, Staged, UploadError, Want, aside};
use crate::id::MessageId;
use crate::limits::ATTACHMENT_IDLE_MS;
use crate::message::Digest;
use crate::party::Division;
use crate::tls::dial::DialError;
use crate::wire::envelope::digest_to_wire;
use crate::wire::pb::exchange as pb;
use crate::wire::status::{Answered, from_status};
use pb::exchange_service_client::ExchangeServiceClient;
use pb::upload_attachment_request::Request as Step;

/// Why an attachment did not cross. What was durable over there, or here, is where the next try goes on.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The other side answered with a reason of the catalogue.
    #[error("refused: {}", .0.text)]
    Refused(Box<Answered>),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("nothing moved for a while")]
    Stalled,
    /// Our own bytes are not there, or cannot be read.
    #[error("the bytes to send: {0}")]
    Source(io::Error),
    /// What came cannot be kept.
    #[error("the bytes that came: {0}")]
    Kept(UploadError),
}

impl CarryError {
    fn of(status: &Status) -> CarryError {
        let answered = from_status(status);
        match DialError::among(status) {
            Some(dial) => CarryError::Broken(dial.to_string()),
            None if answered.reason.is_some() => CarryError::Refused(Box::new(answered)),
            None => CarryError::Broken(format!("{}: {}", status.code(), status.message())),
        }
    }
}

/// Uploads the blobs that a message refers to, one after the other; `progress` hears of every answer: place in the list,
/// and how many bytes of it are durable over there.
///
/// # Errors
/// See [`CarryError`]; what was uploaded whole stays so.
pub async fn upload_all(
    channel: &Channel,
    blobs: &Blobs,
    wants: &[Want],
    mut progress: impl FnMut(usize, u64),
) -> Result<(), CarryError> {
    for (place, want) in wants.iter().enumerate() {
        let open = {
            let (blobs, digest) = (blobs.clone(), want.digest);
            move |offset| blobs.read(&digest, offset)
        };
        upload(channel, want, open, |durable| progress(place, durable)).await?;
    }
    Ok(())
}

/// Uploads one attachment whose bytes `open` gives from an offset on.
///
/// # Errors
/// See [`CarryError`].
pub async fn upload(
    channel: &Channel,
    want: &Want,
    open: impl FnOnce(u64) -> io::Result<Option<Chunks>> + Send + 'static,
    mut progress: impl FnMut(u64),
) -> Result<(), CarryError> {
    // Two pieces keep the connection busy; the rest stay on disk.
    let (steps, outgoing) = mpsc::channel(2);
    let begin = pb::BeginUpload {
        digest: Some(digest_to_wire(want.digest)),
        size: want.size,
        salt: want.salt.map(Vec::from).unwrap_or_default(),
    };
    let _ = steps.try_send(pb::UploadAttachmentRequest { request: Some(Step::Begin(begin)) });
    let mut client = ExchangeServiceClient::new(channel.clone());
    let called = timeout(idle(), client.upload_attachment(ReceiverStream::new(outgoing))).await;
    let mut answers = called.map_err(|_| CarryError::Stalled)?.map_err(|status| CarryError::of(&status))?.into_inner();
    let first = match timeout(idle(), answers.message()).await {
        Err(_) => return Err(CarryError::Stalled),
        Ok(first) => first.map_err(|status| CarryError::of(&status))?.ok_or_else(ended)?,
    };
    progress(first.offset);
    if first.complete {
        return Ok(());
    }
    let opened = aside(move || open(first.offset)).await.map_err(CarryError::Source)?;
    let missing = || CarryError::Source(io::ErrorKind::UnexpectedEof.into());
    let chunks = opened.ok_or_else(missing)?;
    pour(chunks, steps, answers, progress).await
}

/// Sends piece after piece as the other side takes them, and ends with its word that all is durable.
async fn pour(
    chunks: Chunks,
    steps: mpsc::Sender<pb::UploadAttachmentRequest>,
    mut answers: Streaming<pb::UploadAttachmentResponse>,
    mut progress: impl FnMut(u64),
) -> Result<(), CarryError> {
    let (mut chunks, mut steps) = (Some(chunks), Some(steps));
    let mut until = Instant::now() + idle();
    loop {
        tokio::select! {
            answer = timeout_at(until, answers.message()) => match answer {
                Err(_) => return Err(CarryError::Stalled),
                Ok(Err(status)) => return Err(CarryError::of(&status)),
                Ok(Ok(None)) => return Err(ended()),
                Ok(Ok(Some(answer))) => {
                    progress(answer.offset);
                    if answer.complete {
                        return Ok(());
                    }
                }
            },
            ready = ready(steps.as_ref()), if steps.is_some() => match (ready, chunks.take()) {
                (Some(permit), Some(mut rest)) => {
                    let (rest, read) = aside(move || { let read = rest.next_chunk(); (rest, read) }).await;
                    match read.map_err(CarryError::Source)? {
                        Some(chunk) => {
                            permit.send(pb::UploadAttachmentRequest { request: Some(Step::Chunk(chunk)) });
                            chunks = Some(rest);
                        }
                        // All is sent; the other side knows the size.
                        None => steps = None,
                    }
                }
                // The other side takes no more: its answer says why.
                _ => steps = None,
            },
        }
        until = Instant::now() + idle();
    }
}

async fn ready(
    steps: Option<&mpsc::Sender<pb::UploadAttachmentRequest>>,
) -> Option<mpsc::OwnedPermit<pb::UploadAttachmentRequest>> {
    steps?.clone().reserve_owned().await.ok()
}

/// An attachment of a message, as its gateway knows it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub from_city: Division,
    pub message: MessageId,
    pub digest: Digest,
}

/// Downloads one attachment as an upload of `owner` in our own store, from where it was broken off; `progress` hears how
/// many bytes are here.
///
/// # Errors
/// See [`CarryError`].
pub async fn download(
    channel: &Channel,
    ask: &Ask,
    blobs: &Blobs,
    owner: &Owner,
    want: Want,
    mut progress: impl FnMut(u64),
) -> Result<Staged, CarryError> {
    let (store, whose) = (blobs.clone(), owner.clone());
    let mut upload = aside(move || store.begin(&whose, want)).await.map_err(CarryError::Kept)?;
    progress(upload.offset());
    if upload.offset() < want.size {
        let mut pieces = fetch(channel, ask, upload.offset()).await?;
        while let Some(chunk) = pieces.next().await? {
            let (rest, written) = aside(move || {
                let written = upload.write(&chunk);
                (upload, written)
            })
            .await;
            upload = rest;
            written.map_err(CarryError::Kept)?;
            progress(upload.offset());
        }
    }
    aside(move || upload.finish()).await.map_err(CarryError::Kept)
}

/// Pieces of an attachment as they come.
#[derive(Debug)]
pub struct Pieces(Streaming<pb::DownloadAttachmentResponse>);

/// Asks for an attachment from `offset` on.
///
/// # Errors
/// See [`CarryError`].
pub async fn fetch(channel: &Channel, ask: &Ask, offset: u64) -> Result<Pieces, CarryError> {
    let request = pb::DownloadAttachmentRequest {
        from_city: ask.from_city.as_str().to_owned(),
        message_id: ask.message.to_string(),
        digest: Some(digest_to_wire(ask.digest)),
        offset,
    };
    let mut client = ExchangeServiceClient::new(channel.clone());
    let called = timeout(idle(), client.download_attachment(request)).await;
    called.map_err(|_| CarryError::Stalled)?.map_err(|status| CarryError::of(&status)).map(|a| Pieces(a.into_inner()))
}

impl Pieces {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// See [`CarryError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, CarryError> {
        match timeout(idle(), self.0.message()).await {
            Err(_) => Err(CarryError::Stalled),
            Ok(Err(status)) => Err(CarryError::of(&status)),
            Ok(Ok(piece)) => Ok(piece.map(|piece| piece.chunk)),
        }
    }
}

fn ended() -> CarryError {
    CarryError::Broken("the stream ended before all was said".to_owned())
}

fn idle() -> Duration {
    Duration::from_millis(ATTACHMENT_IDLE_MS)
}
