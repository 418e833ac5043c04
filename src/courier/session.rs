//! Decides how one connection to a partner carries messages and receipts: bodies are read just before they are sent, so
//! that a slow partner costs no memory. Never decides what to send next.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::dial::{Line, Request};
use super::ground::Ground;
use crate::evidence::Evidence;
use crate::id::MessageId;
use crate::lanes::{Attempt, Seq, SessionId};
use crate::limits::WINDOW;
use crate::message::Digest;
use crate::party::{Division, Member};
use crate::receipt::Receipt;
use crate::store;
use crate::wire::exchange::{self, StreamAnswer};

/// What is known of a message that is out.
#[derive(Debug, Clone)]
pub struct InFlight {
    pub seq: Seq,
    pub attempt: Attempt,
    pub from_city: Division,
    pub id: MessageId,
    pub header_digest: Digest,
}

/// What a session tells the courier.
#[derive(Debug)]
pub enum News {
    /// The message is about to be sent.
    Sending(InFlight),
    /// The store does not answer now.
    NotNow { seq: Seq, attempt: Attempt, why: String },
    /// What the store holds is no message that could be sent, now or later.
    Unreadable { seq: Seq, attempt: Attempt, why: String },
    /// The partner answered.
    Answer(StreamAnswer),
    /// The connection has ended.
    Ended { why: String },
}

/// What a session is asked to carry.
#[derive(Debug)]
pub enum Load {
    Message { seq: Seq, attempt: Attempt },
    Receipts { batch_id: String, receipts: Vec<(Receipt, Option<String>)> },
}

/// An open connection to a partner. Dropping it ends the connection.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    loads: mpsc::Sender<Load>,
    _ends: tokio_util::sync::DropGuard,
}

impl Session {
    /// Starts carrying over `line`; news go to `news`, marked with the session's number.
    pub fn start(id: SessionId, ground: Ground, line: Line, news: mpsc::Sender<(SessionId, News)>) -> Session {
        // The lane's window and one batch of receipts bound what waits here.
        let (loads, queue) = mpsc::channel(WINDOW + 2);
        let ends = CancellationToken::new();
        let Line { requests, mut answers } = line;
        tokio::spawn(ends.clone().run_until_cancelled_owned(carry(id, ground, queue, requests, news.clone())));
        tokio::spawn(ends.clone().run_until_cancelled_owned(async move {
            let why = loop {
                match answers.message().await {
                    Ok(Some(response)) => {
                        let _ = news.send((id, News::Answer(exchange::answer(response)))).await;
                    }
                    Ok(None) => break "the partner closed the stream".to_owned(),
                    Err(status) => break format!("{}: {}", status.code(), status.message()),
                }
            };
            let _ = news.send((id, News::Ended { why })).await;
        }));
        Session { id, loads, _ends: ends.drop_guard() }
    }

    /// Carries something; the lane's window keeps this from ever being full.
    pub fn carry(&self, load: Load) -> bool {
        self.loads.try_send(load).is_ok()
    }
}

async fn carry(
    session: SessionId,
    ground: Ground,
    mut queue: mpsc::Receiver<Load>,
    requests: mpsc::Sender<Request>,
    news: mpsc::Sender<(SessionId, News)>,
) {
    while let Some(load) = queue.recv().await {
        let request = match load {
            Load::Receipts { batch_id, receipts } => exchange::receipts(batch_id, receipts),
            Load::Message { seq, attempt } => match message(&ground, seq, attempt).await {
                Ok((in_flight, request)) => {
                    // Told before it is sent: the answer always finds it.
                    let _ = news.send((session, News::Sending(in_flight))).await;
                    request
                }
                Err(unread) => {
                    let told = match unread {
                        Unread::NotNow(why) => News::NotNow { seq, attempt, why },
                        Unread::Never(why) => News::Unreadable { seq, attempt, why },
                    };
                    let _ = news.send((session, told)).await;
                    continue;
                }
            },
        };
        if requests.send(request).await.is_err() {
            return;
        }
    }
}

/// Why a message cannot be sent.
enum Unread {
    NotNow(String),
    Never(String),
}

async fn message(ground: &Ground, seq: Seq, attempt: Attempt) -> Result<(InFlight, Request), Unread> {
    let read = ground.message(seq).await;
    let (stored, origin) = read.map_err(|error| match error {
        store::Error::Full | store::Error::Failed(_) => Unread::NotNow(error.to_string()),
        store::Error::Damaged(_) => Unread::Never(error.to_string()),
    })?;
    let evidence = Evidence::from_leaf(&origin.leaf).map_err(|error| Unread::Never(error.to_string()))?;
    let in_flight = InFlight {
        seq,
        attempt,
        from_city: stored.key.from_city,
        id: stored.key.id,
        header_digest: evidence.header_digest,
    };
    let body = stored.body.ok_or_else(|| Unread::Never("its body is gone".to_owned()))?;
    let request = exchange::submission(&stored.header, body, origin);
    let request = request.map_err(|error| Unread::Never(error.to_string()))?;
    Ok((in_flight, request))
}

impl InFlight {
    /// Whether a partner's evidence speaks of this message.
    pub fn is_meant_by(&self, evidence: &Evidence, issuer: &Member) -> bool {
        evidence.issuer == *issuer
            && evidence.message_id == self.id
            && evidence.from.city == self.from_city
            && evidence.header_digest == self.header_digest
    }
}
