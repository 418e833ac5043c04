//! Decides how attachments come in and go out: in pieces, with back-pressure, from where they were broken off. Never shows
//! a digest to be known: what is not the caller's to read looks like what does not exist.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::exchange::Exchange;
use super::view::{self, View};
use crate::blobs::{Blobs, Chunks, Owner, UploadError, Want, aside};
use crate::limits::{ATTACHMENT_IDLE_MS, CHUNK_BYTES_MAX, DOWNLOADS_OPEN_MAX, SALT_BYTES};
use crate::message::Digest;
use crate::party::{Member, Party, Role};
use crate::reason::Reason;
use crate::wire::envelope::{Faults, digest};
use crate::wire::pb::exchange as pb;
use crate::wire::status::{Refused, to_status, unreadable};
use pb::upload_attachment_request::Request as Step;

/// The attachment part of the exchange door.
#[derive(Clone, Debug)]
pub struct Attachments {
    blobs: Blobs,
    downloads: Arc<Mutex<HashMap<Party, usize>>>,
}

type Answers = mpsc::Sender<Result<pb::UploadAttachmentResponse, Status>>;
type Pieces = mpsc::Sender<Result<pb::DownloadAttachmentResponse, Status>>;

/// Two pieces ready to go keep the connection busy; the rest stay on disk.
const READY: usize = 2;

impl Attachments {
    pub fn new(blobs: Blobs) -> Attachments {
        Attachments { blobs, downloads: Arc::default() }
    }

    /// Takes one upload: what is told comes out of the stream returned.
    ///
    /// # Errors
    /// `NOT_PERMITTED`: only systems of the gateway's own city and partner gateways upload.
    pub fn upload(
        &self,
        party: &Party,
        own: &Member,
        steps: Streaming<pb::UploadAttachmentRequest>,
        stop: CancellationToken,
    ) -> Result<impl Stream<Item = Result<pb::UploadAttachmentResponse, Status>> + use<>, Refused> {
        let may = match party.role {
            Role::Gateway => true,
            Role::System(_) => party.member == *own,
            Role::Ops(_) | Role::Auditor(_) => false,
        };
        if !may {
            return Err(Refused::new(Reason::NotPermitted).with_detail("this identity uploads nothing here"));
        }
        let (answers, stream) = mpsc::channel(READY);
        let (blobs, owner) = (self.blobs.clone(), Owner::identity(&party.to_string()));
        tokio::spawn(async move {
            let taken = tokio::select! {
                taken = take(blobs, owner, steps, &answers) => taken,
                () = stop.cancelled() => Err(Refused::new(Reason::ShuttingDown)),
            };
            if let Err(refused) = taken {
                let _ = timeout(idle(), answers.send(Err(to_status(&refused)))).await;
            }
        });
        Ok(ReceiverStream::new(stream))
    }

    /// Gives one attachment of a message that `party` may see.
    ///
    /// # Errors
    /// `ATTACHMENT_NOT_FOUND` for whatever is not the caller's to read, `BUSY` beyond a bound of downloads at once.
    pub async fn download(
        &self,
        door: &Exchange,
        party: &Party,
        asked: pb::DownloadAttachmentRequest,
    ) -> Result<impl Stream<Item = Result<pb::DownloadAttachmentResponse, Status>> + use<>, Refused> {
        let mut faults = Faults::default();
        let wanted = digest(&mut faults, "digest", asked.digest);
        let wanted = faults.or(wanted).map_err(Refused::faults)?;
        let hidden = || Refused::new(Reason::AttachmentNotFound);
        let key = (asked.from_city, asked.message_id);
        let looked = view::look(&door.ground.readers, &door.own, party, key, |_, _| Ok(())).await;
        let (view, ()) = looked.map_err(|refused| match refused.reason {
            Reason::MessageNotFound => hidden(),
            _ => refused,
        })?;
        if !refers(&view.envelope, &wanted) || !may_still_read(door, party, &view) {
            return Err(hidden());
        }
        let slot =
            self.slot(party).ok_or_else(|| Refused::new(Reason::Busy).with_detail("too many downloads at once"))?;
        let (blobs, offset) = (self.blobs.clone(), asked.offset);
        let read = aside(move || blobs.read(&wanted, offset)).await;
        let chunks = read.map_err(|error| unavailable(&error))?.ok_or_else(hidden)?;
        let (pieces, stream) = mpsc::channel(READY);
        let stop = door.stop.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let given = tokio::select! {
                given = give(chunks, &pieces) => given,
                () = stop.cancelled() => Err(Refused::new(Reason::ShuttingDown)),
            };
            if let Err(refused) = given {
                let _ = timeout(idle(), pieces.send(Err(to_status(&refused)))).await;
            }
        });
        Ok(ReceiverStream::new(stream))
    }

    fn slot(&self, party: &Party) -> Option<Slot> {
        let mut open = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(party.clone()).or_default();
        if *count >= DOWNLOADS_OPEN_MAX {
            return None;
        }
        *count += 1;
        Some(Slot { downloads: self.downloads.clone(), party: party.clone() })
    }
}

/// One download of a party's.
struct Slot {
    downloads: Arc<Mutex<HashMap<Party, usize>>>,
    party: Party,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.party);
            }
        }
    }
}

/// Who sent a message reads what it sent; who receives it reads as long as its grants say so.
fn may_still_read(door: &Exchange, party: &Party, view: &View) -> bool {
    let (from, recipient) = (&view.stored.key.from_city, &view.stored.recipient);
    let from_system = view.envelope.from.as_ref().map_or("", |from| from.system.as_str());
    let (sent, other) = match (&party.role, &party.member) {
        (Role::System(name), Member::City(city)) => (from == city && from_system == name.as_str(), from),
        (Role::Gateway, Member::City(city)) => (from == city, &recipient.city),
        // Ops and auditors see that there are messages, never what is in them.
        _ => return false,
    };
    let item = view.envelope.item_code.parse();
    sent || item.is_ok_and(|item| door.intake.allows(party, &item, Some(other)))
}

fn refers(envelope: &pb::Envelope, wanted: &Digest) -> bool {
    let is = |digest: Option<&pb::Digest>| digest.is_some_and(|digest| digest.value == wanted.0);
    let of_part = |part: &pb::Part| match &part.content {
        Some(pb::part::Content::Attachment(attachment)) => is(attachment.digest.as_ref()),
        _ => false,
    };
    let sealed = envelope.sealed.iter().flat_map(|sealed| &sealed.attachments);
    envelope.parts.iter().any(of_part) || sealed.into_iter().any(|attached| is(attached.digest.as_ref()))
}

async fn give(mut chunks: Chunks, pieces: &Pieces) -> Result<(), Refused> {
    loop {
        let (rest, read) = aside(move || {
            let read = chunks.next_chunk();
            (chunks, read)
        })
        .await;
        chunks = rest;
        let Some(chunk) = read.map_err(|error| unavailable(&error))? else { return Ok(()) };
        match timeout(idle(), pieces.send(Ok(pb::DownloadAttachmentResponse { chunk }))).await {
            Ok(Ok(())) => {}
            // The caller is gone, or reads no more.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Refused::new(Reason::DeadlineExceeded)),
        }
    }
}

async fn take(
    blobs: Blobs,
    owner: Owner,
    mut steps: Streaming<pb::UploadAttachmentRequest>,
    answers: &Answers,
) -> Result<(), Refused> {
    let want = match next(&mut steps).await? {
        Some(Step::Begin(begin)) => want(begin)?,
        Some(Step::Chunk(_)) => return Err(protocol("the first step must begin the upload")),
        None => return Ok(()),
    };
    let mut upload = aside(move || blobs.begin(&owner, want)).await.map_err(refused)?;
    tell(answers, upload.offset(), false).await?;
    while upload.offset() < want.size {
        let chunk = match next(&mut steps).await? {
            Some(Step::Chunk(chunk)) if (1..=CHUNK_BYTES_MAX).contains(&chunk.len()) => chunk,
            Some(Step::Chunk(_)) => return Err(protocol(&format!("a chunk has 1 to {CHUNK_BYTES_MAX} bytes"))),
            Some(Step::Begin(_)) => return Err(protocol("the upload has begun already")),
            None => return Ok(()),
        };
        let durable = upload.durable();
        let (rest, written) = aside(move || {
            let written = upload.write(&chunk);
            (upload, written)
        })
        .await;
        upload = rest;
        written.map_err(refused)?;
        if upload.durable() > durable {
            tell(answers, upload.durable(), false).await?;
        }
    }
    aside(move || upload.finish()).await.map_err(refused)?;
    tell(answers, want.size, true).await
}

/// The next step; none when the caller has ended, or is gone: what is there waits for it.
async fn next(steps: &mut Streaming<pb::UploadAttachmentRequest>) -> Result<Option<Step>, Refused> {
    match timeout(idle(), steps.message()).await {
        Ok(Ok(None)) => Ok(None),
        Ok(Ok(Some(step))) => step.request.map(Some).ok_or_else(|| protocol("a step without a request")),
        Ok(Err(status)) => unreadable(&status).map_or(Ok(None), Err),
        Err(_) => Err(Refused::new(Reason::DeadlineExceeded).with_detail("no bytes came for a while")),
    }
}

async fn tell(answers: &Answers, offset: u64, complete: bool) -> Result<(), Refused> {
    let answer = pb::UploadAttachmentResponse { offset, complete };
    match timeout(idle(), answers.send(Ok(answer))).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Refused::new(Reason::DeadlineExceeded)),
    }
}

fn want(begin: pb::BeginUpload) -> Result<Want, Refused> {
    let mut faults = Faults::default();
    let digest = digest(&mut faults, "begin.digest", begin.digest);
    let salt: Option<[u8; SALT_BYTES]> = begin.salt.as_slice().try_into().ok();
    if salt.is_none() && !begin.salt.is_empty() {
        faults.add("begin.salt", format!("must be {SALT_BYTES} bytes, or unset for sealed bytes"));
    }
    let digest = faults.or(digest).map_err(Refused::faults)?;
    Ok(Want { digest, size: begin.size, salt })
}

fn refused(error: UploadError) -> Refused {
    let reason = match &error {
        UploadError::TooLarge(_) => Reason::AttachmentTooLarge,
        UploadError::TooMany(_) => Reason::UploadsTooMany,
        UploadError::Full => Reason::StoreFull,
        UploadError::Superseded => Reason::UploadSuperseded,
        UploadError::Length { .. } => Reason::StreamProtocol,
        UploadError::DigestMismatch => Reason::DigestMismatch,
        UploadError::Io(error) => return unavailable(error),
    };
    Refused::new(reason).with_detail(error.to_string())
}

fn unavailable(error: &std::io::Error) -> Refused {
    tracing::error!(%error, "the attachment store cannot be used");
    Refused::new(Reason::StoreUnavailable)
}

fn protocol(detail: &str) -> Refused {
    Refused::new(Reason::StreamProtocol).with_detail(detail)
}

fn idle() -> Duration {
    Duration::from_millis(ATTACHMENT_IDLE_MS)
}
