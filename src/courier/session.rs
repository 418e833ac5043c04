//! Decides how one connection to a partner carries messages and receipts: bodies are read just before they are sent, so
//! that a slow partner costs no memory. Never decides what to send next.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::attachments;
use super::dial::{Line, Request, Try, broke};
use super::ground::Ground;
use super::parcel;
use crate::blobs::Want;
use crate::evidence::Evidence;
use crate::id::MessageId;
use crate::lanes::{Attempt, Seq, SessionId};
use crate::limits::{ATTEMPT_MS, WINDOW};
use crate::message::Digest;
use crate::party::{Division, Member};
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::store;
use crate::wire::envelope;
use crate::wire::exchange::{self, StreamAnswer};

/// What is known of a message that is out.
#[derive(Debug, Clone)]
pub struct InFlight {
    pub seq: Seq,
    pub attempt: Attempt,
    pub from_city: Division,
    pub id: MessageId,
    pub header_digest: Digest,
    /// The trace that the message belongs to, for log lines.
    pub trace: Option<String>,
}

/// What a session tells the courier.
#[derive(Debug)]
pub enum News {
    /// The message is about to be sent.
    Sending(InFlight),
    /// Its attachments are on their way: it needs this many milliseconds more.
    Progress { seq: Seq, attempt: Attempt, ms: u64 },
    /// It cannot be sent now: the store does not answer, or its attachments did not arrive.
    NotNow { seq: Seq, attempt: Attempt, why: String },
    /// The rules in force do not let it go.
    NotPermitted { seq: Seq, attempt: Attempt, why: &'static str },
    /// It can never be sent.
    Unsendable { seq: Seq, attempt: Attempt, reason: Reason, why: String },
    /// The partner answered.
    Answer(StreamAnswer),
    /// The connection has ended.
    Ended { why: String },
}

/// What a session is asked to carry.
#[derive(Debug)]
pub enum Load {
    Message {
        seq: Seq,
        attempt: Attempt,
    },
    Receipts {
        batch_id: String,
        receipts: Vec<(Receipt, Option<String>)>,
    },
    /// A message whose attachments are there.
    Ready(Box<(InFlight, Request)>),
}

/// An open connection to a partner. Dropping it ends the connection.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    loads: mpsc::Sender<Load>,
    attempt: Try,
    _ends: tokio_util::sync::DropGuard,
}

impl Session {
    /// Starts carrying over `line`; news go to `news`, marked with the session's number.
    pub fn start(
        id: SessionId,
        ground: Ground,
        partner: Member,
        line: Line,
        news: mpsc::Sender<(SessionId, News)>,
    ) -> Session {
        // The lane's window and one batch of receipts bound what waits here.
        let (loads, queue) = mpsc::channel(WINDOW + 2);
        let ends = CancellationToken::new();
        let Line { requests, mut answers, channel, attempt } = line;
        let mut learns = attempt.clone();
        let carrier =
            Carrier { id, ground, partner, channel, loads: loads.downgrade(), news: news.clone(), ends: ends.clone() };
        tokio::spawn(ends.clone().run_until_cancelled_owned(carrier.carry(queue, requests)));
        tokio::spawn(ends.clone().run_until_cancelled_owned(async move {
            let (broke, why) = loop {
                match answers.message().await {
                    Ok(Some(response)) => {
                        learns.held();
                        let _ = news.send((id, News::Answer(exchange::answer(response)))).await;
                    }
                    Ok(None) => break (true, "the partner closed the stream".to_owned()),
                    Err(status) => break (broke(&status), format!("{}: {}", status.code(), status.message())),
                }
            };
            learns.ended(broke);
            let _ = news.send((id, News::Ended { why })).await;
        }));
        Session { id, loads, attempt, _ends: ends.drop_guard() }
    }

    /// Carries something; the lane's window keeps this from ever being full.
    pub fn carry(&self, load: Load) -> bool {
        self.loads.try_send(load).is_ok()
    }

    /// The partner does not answer here any more.
    pub fn is_silent(&self) {
        self.attempt.failed();
    }
}

/// What carries over one connection.
#[derive(Clone)]
struct Carrier {
    id: SessionId,
    ground: Ground,
    partner: Member,
    channel: Channel,
    loads: mpsc::WeakSender<Load>,
    news: mpsc::Sender<(SessionId, News)>,
    ends: CancellationToken,
}

impl Carrier {
    async fn carry(self, mut queue: mpsc::Receiver<Load>, requests: mpsc::Sender<Request>) {
        while let Some(load) = queue.recv().await {
            let request = match load {
                Load::Receipts { batch_id, receipts } => exchange::receipts(batch_id, receipts),
                Load::Ready(ready) => {
                    let (in_flight, request) = *ready;
                    self.announce(in_flight).await;
                    request
                }
                Load::Message { seq, attempt } => match self.message(seq, attempt).await {
                    Ok((in_flight, request, attachments)) if attachments.is_empty() => {
                        self.announce(in_flight).await;
                        request
                    }
                    Ok((in_flight, request, attachments)) => {
                        self.send_attachments(in_flight, request, attachments);
                        continue;
                    }
                    Err(unsent) => {
                        self.tell(unsent.news(seq, attempt)).await;
                        continue;
                    }
                },
            };
            if requests.send(request).await.is_err() {
                return;
            }
        }
    }

    /// Told before it is sent: the answer always finds it.
    async fn announce(&self, in_flight: InFlight) {
        self.tell(News::Sending(in_flight)).await;
    }

    async fn tell(&self, news: News) {
        let _ = self.news.send((self.id, news)).await;
    }

    /// Attachments go beside the stream and before their message; other messages do not wait for them.
    fn send_attachments(&self, in_flight: InFlight, request: Request, attachments: Vec<Want>) {
        let carrier = self.clone();
        let work = async move {
            let (seq, attempt) = (in_flight.seq, in_flight.attempt);
            // A word that finds no room is made good by the next one.
            let more_time =
                || drop(carrier.news.try_send((carrier.id, News::Progress { seq, attempt, ms: ATTEMPT_MS })));
            more_time();
            let uploaded =
                attachments::upload_all(&carrier.channel, &carrier.ground.blobs, &attachments, |_, _| more_time());
            match uploaded.await {
                Ok(()) => {
                    if let Some(loads) = carrier.loads.upgrade() {
                        let _ = loads.send(Load::Ready(Box::new((in_flight, request)))).await;
                    }
                }
                Err(error) => carrier.tell(News::NotNow { seq, attempt, why: error.to_string() }).await,
            }
        };
        tokio::spawn(self.ends.clone().run_until_cancelled_owned(work));
    }

    /// Reads a message, asks the rules once more, and wraps it for its way.
    async fn message(&self, seq: Seq, attempt: Attempt) -> Result<(InFlight, Request, Vec<Want>), Unsent> {
        let ground = &self.ground;
        let (stored, origin) = ground.message(seq).await?;
        let evidence = Evidence::from_leaf(&origin.leaf).map_err(|error| Unsent::damaged(error.to_string()))?;
        let rules = ground.rules.load_full();
        let outline = envelope::outline(&stored.header).map_err(|error| Unsent::damaged(error.to_string()))?;
        if !rules.lets_go(&stored, &outline, &self.partner, ground.clock.now()) {
            return Err(Unsent::NotPermitted("its route was withdrawn"));
        }
        let in_flight = InFlight {
            seq,
            attempt,
            from_city: stored.key.from_city.clone(),
            id: stored.key.id,
            header_digest: evidence.header_digest,
            trace: outline.trace,
        };
        let mut via = stored.via.clone();
        if let Member::Hub(_) = ground.own {
            via.push(ground.own.clone());
        }
        let parcel = parcel::wrap(ground, &rules, stored, &self.partner).await?;
        let request = exchange::submission(&parcel.header, parcel.body, origin, &via);
        let request = request.map_err(|error| Unsent::damaged(error.to_string()))?;
        Ok((in_flight, request, parcel.attachments))
    }
}

/// Why a message is not sent.
pub enum Unsent {
    NotNow(String),
    NotPermitted(&'static str),
    Never(Reason, String),
}

impl Unsent {
    /// What the store holds is no message that could be sent, now or later.
    pub fn damaged(why: String) -> Unsent {
        Unsent::Never(Reason::Internal, why)
    }

    fn news(self, seq: Seq, attempt: Attempt) -> News {
        match self {
            Unsent::NotNow(why) => News::NotNow { seq, attempt, why },
            Unsent::NotPermitted(why) => News::NotPermitted { seq, attempt, why },
            Unsent::Never(reason, why) => News::Unsendable { seq, attempt, reason, why },
        }
    }
}

impl From<store::Error> for Unsent {
    fn from(error: store::Error) -> Unsent {
        match error {
            store::Error::Full | store::Error::Failed(_) => Unsent::NotNow(error.to_string()),
            store::Error::Damaged(_) => Unsent::damaged(error.to_string()),
        }
    }
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
