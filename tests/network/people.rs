//! The systems at both ends, with books of their own: one writes cases and notes every answer, the other takes what comes and
//! lets each message have its effect once. Neither believes its gateway more than it must.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::evidence::State;
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::exchange::receive_request::Request;

use crate::alliance::{Client, Mailbox, envelope};

/// What goes from one system to another, as both books have it.
pub struct Letters {
    pub from: (&'static str, &'static str),
    pub to: (&'static str, &'static str),
    pub books: Mutex<Books>,
}

#[derive(Default)]
pub struct Books {
    pub sent: Vec<Sent>,
    /// Messages by their case, as they had their effect.
    pub cases: BTreeMap<String, Vec<String>>,
    deliveries: usize,
    /// When each had its effect, in virtual time.
    known: HashMap<String, Duration>,
    /// How often each was settled with a receipt.
    pub settled: HashMap<String, usize>,
    /// The sender has seen the end of each, and has its evidence.
    pub ended: bool,
}

pub struct Sent {
    pub envelope: pb::Envelope,
    /// When it was first handed in, in virtual time.
    written_at: Duration,
    /// The first answer, once there was one.
    pub receipt: Option<pbe::Receipt>,
    pub end: Option<pbe::State>,
    /// What the origin's gateway has in the end.
    pub evidence: Vec<pbe::Receipt>,
    /// What the recipient's has.
    pub theirs: Vec<pbe::Receipt>,
}

impl Sent {
    pub fn id(&self) -> &str {
        &self.envelope.message_id
    }
}

/// How much is written: so many cases side by side, so many messages in each, one in so long.
#[derive(Clone, Copy)]
pub struct Load {
    pub cases: usize,
    pub each: usize,
    pub every: Duration,
}

/// How long a system waits for an answer before it asks again.
const ANSWER: Duration = Duration::from_secs(10);

impl Letters {
    pub fn new(from: (&'static str, &'static str), to: (&'static str, &'static str)) -> Arc<Letters> {
        Arc::new(Letters { from, to, books: Mutex::default() })
    }

    fn note<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.books.lock().unwrap())
    }

    pub fn look<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        look(&self.books.lock().unwrap())
    }

    pub fn answered(&self) -> usize {
        self.look(|books| books.sent.iter().filter(|sent| sent.receipt.is_some()).count())
    }

    pub fn effects(&self) -> usize {
        self.look(|books| books.known.len())
    }

    pub fn deliveries(&self) -> usize {
        self.look(|books| books.deliveries)
    }

    /// How long those that were written from a moment on took to their effect, the shortest first.
    pub fn delays(&self, since: Duration) -> Vec<Duration> {
        self.look(|books| {
            let written = books.sent.iter().filter(|sent| sent.written_at >= since);
            let delay = |sent: &Sent| Some(books.known.get(sent.id())?.saturating_sub(sent.written_at));
            let mut delays: Vec<Duration> = written.filter_map(delay).collect();
            delays.sort();
            delays
        })
    }

    pub fn confirmed(&self) -> usize {
        self.look(|books| books.sent.iter().filter(|sent| sent.end.is_some()).count())
    }

    /// Writes, and then asks after each message until its end is known.
    pub async fn write(self: Arc<Letters>, client: Client, load: Load) {
        join_all((0..load.cases).map(|case| self.write_case(&client, case, load))).await;
        for at in 0..self.look(|books| books.sent.len()) {
            let id = self.look(|books| books.sent[at].id().to_owned());
            let end = patiently(ANSWER, || async {
                let message = client.message("", &id).await.ok()?;
                let ended = !matches!(message.state(), State::Accepted | State::Relayed | State::Consigned);
                ended.then(|| message.state())
            });
            let end = end.await;
            self.note(|books| books.sent[at].end = Some(end));
        }
        self.note(|books| books.ended = true);
    }

    /// Writes one message more, of a case of its own; it belongs to what [`Letters::write`] asks after, if that still writes.
    pub async fn write_one(self: Arc<Letters>, client: Client, case: usize) {
        self.write_case(&client, case, Load { cases: 1, each: 1, every: ANSWER }).await;
    }

    /// One message after the other; the next when the last was answered.
    async fn write_case(&self, client: &Client, case: usize, load: Load) {
        let mut pace = interval(load.every);
        for _ in 0..load.each {
            pace.tick().await;
            let envelope = pb::Envelope { case_no: format!("CASE-{case}"), ..envelope(self.from, self.to) };
            let sent = Sent {
                envelope: envelope.clone(),
                written_at: now(),
                receipt: None,
                end: None,
                evidence: vec![],
                theirs: vec![],
            };
            let at = self.note(|books| {
                books.sent.push(sent);
                books.sent.len() - 1
            });
            let receipt = patiently(ANSWER, || async {
                match client.submit(envelope.clone()).await {
                    Ok(receipt) => Some(receipt),
                    Err(status) if is_of_the_way(&status) => None,
                    Err(status) => panic!("a good message was refused: {status:?}"),
                }
            });
            let receipt = receipt.await;
            self.note(|books| books.sent[at].receipt = Some(receipt));
        }
    }

    /// Keeps a mailbox open for ever.
    pub async fn take(self: Arc<Letters>, client: Client) {
        let mut pace = paced();
        loop {
            pace.tick().await;
            if let Ok(Ok(mailbox)) = timeout(ANSWER, client.try_receive(16)).await {
                self.take_from(mailbox).await;
            }
        }
    }

    async fn take_from(&self, mut mailbox: Mailbox) {
        use pb::receive_response::Response;
        let mut held = HashMap::new();
        while let Ok(Some(step)) = mailbox.down.message().await {
            let said = match step.response.unwrap() {
                Response::Delivery(delivery) => {
                    let Some(pb::delivery::Content::Message(message)) = delivery.content else { panic!("a message") };
                    let envelope = message.envelope.unwrap();
                    held.insert(delivery.delivery_id.clone(), envelope.message_id.clone());
                    self.note(|books| {
                        books.deliveries += 1;
                        if books.known.insert(envelope.message_id.clone(), now()).is_none() {
                            books.cases.entry(envelope.case_no).or_default().push(envelope.message_id);
                        }
                    });
                    let outcome = Some(pb::outcome::Outcome::Acknowledge(pb::Acknowledge::default()));
                    Request::Outcome(pb::Outcome { delivery_id: delivery.delivery_id, outcome })
                }
                Response::Settled(settled) => {
                    let id = held.remove(&settled.delivery_id).unwrap();
                    let count = usize::from(settled.receipt.is_some());
                    self.note(|books| *books.settled.entry(id).or_default() += count);
                    Request::Credits(pb::GrantCredits { count: 1 })
                }
                other => panic!("{other:?}"),
            };
            if mailbox.up.send(pb::ReceiveRequest { request: Some(said) }).await.is_err() {
                return;
            }
        }
    }

    /// Reads the evidence of every message: at its origin, or where it was to go.
    pub async fn read(self: Arc<Letters>, client: Client, at_origin: bool) {
        for at in 0..self.look(|books| books.sent.len()) {
            let id = self.look(|books| books.sent[at].id().to_owned());
            let from_city = if at_origin { String::new() } else { self.from.0.to_owned() };
            let asked = pbe::GetMessageEvidenceRequest { from_city, message_id: id, sealed: false };
            let told = patiently(ANSWER, || async {
                let told = client.evidence.clone().get_message_evidence(asked.clone()).await.ok()?;
                Some(told.into_inner().receipts)
            });
            let told = told.await;
            self.note(|books| match at_origin {
                true => books.sent[at].evidence = told,
                false => books.sent[at].theirs = told,
            });
        }
    }
}

/// The time of the whole simulation, the same on every host.
fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// Whether an answer speaks of the way to the gateway, or of a gateway that takes nothing now.
fn is_of_the_way(status: &tonic::Status) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown};
    matches!(status.code(), Cancelled | DeadlineExceeded | Internal | ResourceExhausted | Unavailable | Unknown)
}

fn paced() -> tokio::time::Interval {
    let mut pace = interval(Duration::from_millis(500));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Tries, each time for so long, until something comes of it.
async fn patiently<T, F>(each: Duration, once: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let mut pace = paced();
    loop {
        pace.tick().await;
        if let Ok(Some(come)) = timeout(each, once()).await {
            return come;
        }
    }
}
