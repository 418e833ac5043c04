//! Decides how a courier gets a line to its partner: at the addresses that the partner's pool names, until one of them
//! answers, and what counts as the address's own failure. Hands generated types on whole and touches no field of them.

mod log;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Uri};

pub use self::log::LogLine;
use super::pool::Pool;
use crate::chance;
use crate::clock::Clock;
use crate::directory::notes::Carried;
use crate::limits::{ADDRESS_TRIAL_MS, ATTEMPT_MS, CALL_MS_MAX, ENCODE_BYTES_MAX, WINDOW};
use crate::party::Member;
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::time::Time;
use crate::tls::dial::DialError;
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

/// Opens a channel to one of a partner's addresses; it connects when it is first used.
pub type Opener = Arc<dyn Fn(Uri) -> Channel + Send + Sync>;

/// A submitting stream to a partner.
#[derive(Debug)]
pub struct Line {
    pub requests: mpsc::Sender<Request>,
    pub answers: tonic::Streaming<Response>,
    /// The connection, for calls beside the stream.
    pub channel: Channel,
    /// Learns what came of it.
    pub attempt: Try,
}

/// A receiving stream from a partner at which we fetch.
#[derive(Debug)]
pub struct Fetching {
    pub up: mpsc::Sender<Up>,
    pub down: tonic::Streaming<pb::ReceiveResponse>,
    /// The connection, for calls beside the stream.
    pub channel: Channel,
    /// Learns what came of it.
    pub attempt: Try,
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

impl LineError {
    /// Whether the address failed, and not the call: another address may do better. A partner that refuses has answered.
    fn is_of_the_address(&self) -> bool {
        match self {
            LineError::Dial(_) | LineError::Silent => true,
            LineError::Refused(status) => broke(status),
            LineError::NoAddress => false,
        }
    }
}

/// Whether a status speaks of the connection, or of a gateway that takes no calls, and not of what was asked. One that
/// was made on this side has a cause; one from the partner has none.
pub fn broke(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some()
}

/// The pools of all partners: whatever dials a partner shares what is known of its addresses, over reloads too.
#[derive(Clone, Default)]
pub struct Pools(Arc<Mutex<HashMap<Member, SharedPool>>>);

type SharedPool = Arc<Mutex<Pool>>;

impl Pools {
    /// What dials the partner `member` by `opener`, at these addresses from now on (`https://host:port`).
    pub fn dialer(&self, member: &Member, addresses: Vec<Uri>, opener: Opener, clock: Clock) -> Dialer {
        let chance = chance::bytes().map_or(0, u64::from_le_bytes);
        let mut pools = locked(&self.0);
        let pool = pools.entry(member.clone()).or_insert_with(|| Arc::new(Mutex::new(Pool::new(vec![], chance))));
        locked(pool).follow(addresses, chance);
        Dialer { opener, pool: pool.clone(), clock }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One use of an address, by which the pool learns what came of it.
#[derive(Clone)]
pub struct Try {
    pool: SharedPool,
    clock: Clock,
    address: Uri,
    begun: Time,
    told: bool,
}

impl std::fmt::Debug for Try {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Try({})", self.address)
    }
}

impl Try {
    /// Something was answered; only the first time counts.
    pub fn held(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            locked(&self.pool).held(&self.address);
        }
    }

    /// The stream ended. Without an answer, and at once, that is the address's failure, unless the partner refused.
    pub fn ended(&mut self, broke: bool) {
        let lived_ms = self.clock.now().since_ms(self.begun);
        match broke && !self.told && lived_ms < ADDRESS_TRIAL_MS {
            true => self.failed(),
            false => self.held(),
        }
    }

    /// The address failed, whatever it did before.
    pub fn failed(&self) {
        locked(&self.pool).failed(self.clock.now(), &self.address);
    }
}

/// Dials one partner at its addresses, as its pool says. Each dial resolves the host's name anew.
#[derive(Clone)]
pub struct Dialer {
    opener: Opener,
    pool: SharedPool,
    clock: Clock,
}

impl Dialer {
    /// Opens a submitting stream.
    pub async fn open(&self) -> Result<Line, LineError> {
        let open = |channel: Channel| async move {
            let mut client = ExchangeServiceClient::new(channel).max_decoding_message_size(ENCODE_BYTES_MAX);
            // Bodies wait in the store, not here: two requests keep the connection busy.
            let (requests, outgoing) = mpsc::channel(WINDOW.min(2));
            let answers = in_time(CALL_MS_MAX, client.submit_stream(ReceiverStream::new(outgoing))).await?;
            Ok((requests, answers.into_inner()))
        };
        let ((requests, answers), channel, attempt) = self.reach(open).await?;
        Ok(Line { requests, answers, channel, attempt })
    }

    /// Opens our mailbox.
    pub async fn fetch(&self, credits: u32) -> Result<Fetching, LineError> {
        let open = |channel: Channel| async move {
            let mut client = ExchangeServiceClient::new(channel).max_decoding_message_size(ENCODE_BYTES_MAX);
            let (up, outgoing) = mpsc::channel(2 * credits as usize);
            let _ = up.try_send(exchange::open_mailbox(credits));
            let down = in_time(CALL_MS_MAX, client.receive(ReceiverStream::new(outgoing))).await?;
            Ok((up, down.into_inner()))
        };
        let ((up, down), channel, attempt) = self.reach(open).await?;
        Ok(Fetching { up, down, channel, attempt })
    }

    /// Asks the partner for its evidence about a message; none when it has never seen it.
    pub async fn evidence(&self, from_city: &str, message_id: &str) -> Result<Option<Vec<Receipt>>, LineError> {
        let (from_city, message_id) = (from_city.to_owned(), message_id.to_owned());
        let request = pbe::GetMessageEvidenceRequest { from_city, message_id, sealed: false };
        let ask = |channel: Channel| {
            let request = request.clone();
            let mut client = EvidenceServiceClient::new(channel).max_decoding_message_size(ENCODE_BYTES_MAX);
            async move { in_time(ATTEMPT_MS, client.get_message_evidence(request)).await }
        };
        match self.ask(ask).await {
            Ok(answer) => Ok(Some(receipts_from_wire(answer.into_inner()))),
            Err(LineError::Refused(status))
                if status::from_status(&status).reason.as_deref() == Some(Reason::MessageNotFound.code()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Watches the partner's notes.
    pub async fn watch_notes(&self) -> Result<Notes, LineError> {
        let watch = |channel: Channel| async move {
            in_time(CALL_MS_MAX, DirectoryServiceClient::new(channel).watch_notes(pbd::WatchNotesRequest {})).await
        };
        let (notes, _, attempt) = self.reach(watch).await?;
        Ok(Notes { told: notes.into_inner(), attempt })
    }

    /// Hands a note in.
    pub async fn publish_note(&self, note: &Carried) -> Result<(), LineError> {
        let steps = pieces(note).into_iter().map(|piece| pbd::PublishNoteRequest { piece: Some(piece) });
        let steps: Vec<_> = steps.collect();
        let publish = |channel: Channel| {
            let steps = tokio_stream::iter(steps.clone());
            async move { in_time(CALL_MS_MAX, DirectoryServiceClient::new(channel).publish_note(steps)).await }
        };
        self.ask(publish).await.map(drop)
    }

    /// Whether the partner has more addresses than one.
    pub fn has_another(&self) -> bool {
        locked(&self.pool).len() > 1
    }

    /// A call with one answer, at the first address that gives one.
    async fn ask<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, LineError>
    where
        F: Future<Output = Result<T, LineError>>,
    {
        let (answer, _, mut attempt) = self.reach(call).await?;
        attempt.held();
        Ok(answer)
    }

    /// Calls at the addresses that the pool names, each once, until one does not fail for reasons of its own. Nothing has
    /// been sent that must not be sent twice.
    async fn reach<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<(T, Channel, Try), LineError>
    where
        F: Future<Output = Result<T, LineError>>,
    {
        let (mut tried, mut last) = (vec![], LineError::NoAddress);
        while let Some(mut attempt) = self.next(&tried) {
            let channel = (self.opener)(attempt.address.clone());
            match call(channel.clone()).await {
                Ok(answer) => return Ok((answer, channel, attempt)),
                Err(error) if error.is_of_the_address() => {
                    tracing::info!(address = %attempt.address, %error, "an address of a partner failed");
                    attempt.failed();
                    tried.push(attempt.address);
                    last = error;
                }
                Err(error) => {
                    attempt.held();
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    fn next(&self, tried: &[Uri]) -> Option<Try> {
        let now = self.clock.now();
        let address = locked(&self.pool).next(now, tried)?;
        Some(Try { pool: self.pool.clone(), clock: self.clock.clone(), address, begun: now, told: false })
    }
}

/// The notes of a partner, as it tells them.
pub struct Notes {
    told: tonic::Streaming<pbd::WatchNotesResponse>,
    attempt: Try,
}

impl Notes {
    /// What it tells next; `None` when it ended the stream.
    ///
    /// # Errors
    /// The stream broke; the text says how.
    pub async fn next(&mut self) -> Result<Option<Told>, String> {
        loop {
            match self.told.message().await {
                Ok(Some(answer)) => {
                    self.attempt.held();
                    // A later version of the service says more than we know of.
                    if let Some(told) = told(answer) {
                        return Ok(Some(told));
                    }
                }
                Ok(None) => {
                    self.attempt.ended(true);
                    return Ok(None);
                }
                Err(status) => {
                    self.attempt.ended(broke(&status));
                    return Err(format!("{}: {}", status.code(), status.message()));
                }
            }
        }
    }
}

/// The answer to a call, or the head of its answer where that is a stream.
async fn in_time<T>(ms: u64, call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, LineError> {
    match tokio::time::timeout(Duration::from_millis(ms), call).await {
        Ok(answer) => answer.map_err(refused),
        Err(_) => Err(LineError::Silent),
    }
}

fn refused(status: tonic::Status) -> LineError {
    match DialError::among(&status) {
        Some(dial) => LineError::Dial(dial.to_string()),
        None => LineError::Refused(Box::new(status)),
    }
}
