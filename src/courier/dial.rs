//! Decides how a courier gets a line to its partner: the next of the partner's addresses, and one submitting stream on
//! it. Hands generated types on whole and touches no field of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Uri};

use crate::directory::notes::Carried;
use crate::limits::{ATTEMPT_MS, CALL_MS_MAX, ENCODE_BYTES_MAX, WINDOW};
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::tls::dial::{DialError, Dialler};
use crate::wire::notes::{Told, pieces, told};
use crate::wire::pb::directory as pbd;
use crate::wire::pb::evidence as pbe;
use crate::wire::pb::evidence::evidence_service_client::EvidenceServiceClient;
use crate::wire::pb::exchange as pb;
use crate::wire::receipt::receipts_from_wire;
use crate::wire::{exchange, status};
use pb::exchange_service_client::ExchangeServiceClient;
use pbd::directory_service_client::DirectoryServiceClient;

/// One step of a submitting stream.
pub type Request = pb::SubmitStreamRequest;
/// One step up a receiving stream.
pub type Up = pb::ReceiveRequest;
/// One answer of a submitting stream.
pub type Response = pb::SubmitStreamResponse;

/// A submitting stream to a partner.
#[derive(Debug)]
pub struct Line {
    pub requests: mpsc::Sender<Request>,
    pub answers: tonic::Streaming<Response>,
    /// The connection, for calls beside the stream.
    pub channel: Channel,
}

/// A receiving stream from a partner at which we fetch.
#[derive(Debug)]
pub struct Fetching {
    pub up: mpsc::Sender<Up>,
    pub down: tonic::Streaming<pb::ReceiveResponse>,
    /// The connection, for calls beside the stream.
    pub channel: Channel,
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("{0}")]
    Dial(String),
    #[error("the partner refused the stream: {0}")]
    Refused(Box<tonic::Status>),
    #[error("the partner did not answer in time")]
    Silent,
    #[error("the partner has no address")]
    NoAddress,
}

/// Dials one partner at its addresses, in turn.
#[derive(Clone)]
pub struct Dialer {
    dialler: Dialler,
    addresses: Vec<Uri>,
    turn: Arc<AtomicUsize>,
}

impl Dialer {
    /// A dialer for the partner that `dialler` expects, at these addresses (`https://host:port`).
    pub fn new(dialler: Dialler, addresses: Vec<Uri>) -> Dialer {
        Dialer { dialler, addresses, turn: Arc::new(AtomicUsize::new(0)) }
    }

    /// Opens a submitting stream at the partner's next address.
    pub async fn open(&self) -> Result<Line, LineError> {
        let channel = self.channel()?;
        let mut client = ExchangeServiceClient::new(channel.clone()).max_decoding_message_size(ENCODE_BYTES_MAX);
        // Bodies wait in the store, not here: two requests keep the connection busy.
        let (requests, outgoing) = mpsc::channel(WINDOW.min(2));
        let answers = client.submit_stream(ReceiverStream::new(outgoing)).await.map_err(refused)?;
        Ok(Line { requests, answers: answers.into_inner(), channel })
    }

    /// Opens our mailbox at the partner's next address.
    pub async fn fetch(&self, credits: u32) -> Result<Fetching, LineError> {
        let channel = self.channel()?;
        let mut client = ExchangeServiceClient::new(channel.clone()).max_decoding_message_size(ENCODE_BYTES_MAX);
        let (up, outgoing) = mpsc::channel(2 * credits as usize);
        let _ = up.try_send(exchange::open_mailbox(credits));
        let down = client.receive(ReceiverStream::new(outgoing)).await.map_err(refused)?;
        Ok(Fetching { up, down: down.into_inner(), channel })
    }

    /// Asks the partner for its evidence about a message; none when it has never seen it.
    pub async fn evidence(&self, from_city: &str, message_id: &str) -> Result<Option<Vec<Receipt>>, LineError> {
        let request =
            pbe::GetMessageEvidenceRequest { from_city: from_city.to_owned(), message_id: message_id.to_owned() };
        let mut client = EvidenceServiceClient::new(self.channel()?).max_decoding_message_size(ENCODE_BYTES_MAX);
        let asked = tokio::time::timeout(Duration::from_millis(ATTEMPT_MS), client.get_message_evidence(request)).await;
        match asked.map_err(|_| LineError::Silent)? {
            Ok(answer) => Ok(Some(receipts_from_wire(answer.into_inner()))),
            Err(status) if status::from_status(&status).reason.as_deref() == Some(Reason::MessageNotFound.code()) => {
                Ok(None)
            }
            Err(status) => Err(refused(status)),
        }
    }

    /// Watches the notes at the partner's next address.
    pub async fn watch_notes(&self) -> Result<Notes, LineError> {
        let mut client = self.directory()?;
        let notes = in_time(client.watch_notes(pbd::WatchNotesRequest {})).await?;
        Ok(Notes(notes.into_inner()))
    }

    /// Hands a note in at the partner's next address.
    pub async fn publish_note(&self, note: &Carried) -> Result<(), LineError> {
        let steps = pieces(note).into_iter().map(|piece| pbd::PublishNoteRequest { piece: Some(piece) });
        let mut client = self.directory()?;
        in_time(client.publish_note(tokio_stream::iter(steps.collect::<Vec<_>>()))).await.map(drop)
    }

    fn directory(&self) -> Result<DirectoryServiceClient<Channel>, LineError> {
        Ok(DirectoryServiceClient::new(self.channel()?))
    }

    fn channel(&self) -> Result<Channel, LineError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = self.addresses.get(turn % self.addresses.len().max(1)).ok_or(LineError::NoAddress)?;
        Ok(self.dialler.channel(address.clone()))
    }
}

/// The notes of a partner, as it tells them.
pub struct Notes(tonic::Streaming<pbd::WatchNotesResponse>);

impl Notes {
    /// What it tells next; `None` when it ended the stream.
    ///
    /// # Errors
    /// The stream broke; the text says how.
    pub async fn next(&mut self) -> Result<Option<Told>, String> {
        loop {
            let answer = self.0.message().await.map_err(|status| format!("{}: {}", status.code(), status.message()))?;
            match answer.map(told) {
                None => return Ok(None),
                Some(Some(told)) => return Ok(Some(told)),
                // A later version of the service says more than we know of.
                Some(None) => {}
            }
        }
    }
}

/// The answer to a call, or its first word where it is a stream.
async fn in_time<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, LineError> {
    match tokio::time::timeout(Duration::from_millis(CALL_MS_MAX), call).await {
        Ok(answer) => answer.map_err(refused),
        Err(_) => Err(LineError::Dial("the partner did not answer in time".to_owned())),
    }
}

fn refused(status: tonic::Status) -> LineError {
    match DialError::among(&status) {
        Some(dial) => LineError::Dial(dial.to_string()),
        None => LineError::Refused(Box::new(status)),
    }
}
