//! Decides how a courier gets a line to its partner: the next of the partner's addresses, and one submitting stream on
//! it. Hands generated types on whole and touches no field of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Uri;

use crate::limits::{ENCODE_BYTES_MAX, WINDOW};
use crate::tls::dial::{DialError, Dialler};
use crate::wire::pb::exchange as pb;
use pb::exchange_service_client::ExchangeServiceClient;

/// One step of a submitting stream.
pub type Request = pb::SubmitStreamRequest;
/// One answer of it.
pub type Response = pb::SubmitStreamResponse;

/// A submitting stream to a partner.
#[derive(Debug)]
pub struct Line {
    pub requests: mpsc::Sender<Request>,
    pub answers: tonic::Streaming<Response>,
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("{0}")]
    Dial(String),
    #[error("the partner refused the stream: {0}")]
    Refused(Box<tonic::Status>),
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

    /// Opens a stream at the partner's next address.
    pub async fn open(&self) -> Result<Line, LineError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = self.addresses.get(turn % self.addresses.len().max(1)).ok_or(LineError::NoAddress)?;
        let channel = self.dialler.channel(address.clone());
        let mut client = ExchangeServiceClient::new(channel).max_decoding_message_size(ENCODE_BYTES_MAX);
        // Bodies wait in the store, not here: two requests keep the connection busy.
        let (requests, outgoing) = mpsc::channel(WINDOW.min(2));
        match client.submit_stream(ReceiverStream::new(outgoing)).await {
            Ok(answers) => Ok(Line { requests, answers: answers.into_inner() }),
            Err(status) => match DialError::among(&status) {
                Some(dial) => Err(LineError::Dial(dial.to_string())),
                None => Err(LineError::Refused(Box::new(status))),
            },
        }
    }
}
