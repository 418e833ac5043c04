//! The sender's and the receiver's own books, kept in the test, outside the processes that die; and what must be true of
//! everything in them.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tongban::evidence::Event;
use tongban::receipt::Checker;
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

use crate::alliance::{self, Alliance, Client, check, envelope};
use crate::process::until;

pub const LIUZHOU: (&str, &str) = ("450200", "window");
pub const FOSHAN: (&str, &str) = ("440600", "approval");

/// What the sender's system knows.
#[derive(Default)]
pub struct Book(pub Vec<Sent>);

pub struct Sent {
    pub envelope: pb::Envelope,
    /// The answer, once there was one.
    pub receipt: Option<pbe::Receipt>,
}

impl Sent {
    pub fn id(&self) -> &str {
        &self.envelope.message_id
    }
}

impl Book {
    /// Writes a message down, submits it, and writes down the answer; how many were in the book before.
    pub async fn write_one(&mut self, client: &Client) -> usize {
        let envelope = envelope(LIUZHOU, FOSHAN);
        let receipt = client.submit(envelope.clone()).await.unwrap();
        self.0.push(Sent { envelope, receipt: Some(receipt) });
        self.0.len() - 1
    }

    /// Sends everything from the place `from` on again: what was answered gets the same answer, byte for byte, and what
    /// was not is answered now.
    pub async fn send_again(&mut self, client: &Client, from: usize) {
        let answers = join_all(self.0[from..].iter().map(|sent| client.submit(sent.envelope.clone()))).await;
        for (sent, answer) in self.0[from..].iter_mut().zip(answers) {
            let receipt = answer.unwrap();
            assert!(sent.receipt.as_ref().is_none_or(|first| *first == receipt), "{} was answered", sent.id());
            sent.receipt = Some(receipt);
        }
    }
}

/// Submits one message of a case after the other until an answer fails to come.
pub async fn write(window: Client, case_no: String, answers: mpsc::UnboundedSender<()>) -> Vec<Sent> {
    let mut sent = vec![];
    loop {
        let envelope = pb::Envelope { case_no: case_no.clone(), ..envelope(LIUZHOU, FOSHAN) };
        let receipt = window.submit(envelope.clone()).await.ok();
        let ended = receipt.is_none();
        sent.push(Sent { envelope, receipt });
        if ended {
            return sent;
        }
        let _ = answers.send(());
    }
}

/// The partner's system: takes everything, acknowledges it, and lets each message have its effect once.
pub struct Receiver {
    pub seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub struct Seen {
    pub deliveries: usize,
    pub known: HashSet<String>,
    /// Messages by their case, as they had their effect.
    pub cases: BTreeMap<String, Vec<String>>,
    /// How often each was settled with a receipt.
    pub settled: HashMap<String, usize>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub async fn open(alliance: &Alliance) -> Receiver {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mailbox = alliance.client(FOSHAN.0, FOSHAN.1).receive(64).await;
        Receiver { seen: seen.clone(), task: tokio::spawn(take(mailbox, seen)) }
    }

    /// Opens the mailbox again after its gateway was gone, with the same books.
    pub async fn open_again(&mut self, alliance: &Alliance) {
        assert!(self.try_open_again(alliance).await, "the mailbox opens");
    }

    /// The same where the gateway may go at any moment; whether the mailbox opened.
    pub async fn try_open_again(&mut self, alliance: &Alliance) -> bool {
        self.task.abort();
        let mailbox = alliance.client(FOSHAN.0, FOSHAN.1).try_receive(64).await;
        mailbox.is_ok_and(|mailbox| {
            self.task = tokio::spawn(take(mailbox, self.seen.clone()));
            true
        })
    }

    pub fn effects(&self) -> usize {
        self.seen.lock().unwrap().known.len()
    }

    /// Waits until everything in the book is settled, each message once, as long as one after the other is.
    pub async fn settles(&self, book: &Book) {
        let settled = || self.seen.lock().unwrap().settled.len();
        while settled() < book.0.len() {
            let before = settled();
            until("more is settled", async || settled() > before).await;
        }
        let seen = self.seen.lock().unwrap();
        for sent in &book.0 {
            assert_eq!(seen.settled.get(sent.id()), Some(&1), "{}", sent.id());
        }
        assert_eq!(seen.settled.len(), book.0.len(), "nothing else came");
    }

    /// A writer sends one message of its case after the other, and again what was not answered before it goes on.
    pub fn took_each_case_in_order(&self, book: &Book) {
        let mut cases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for sent in &book.0 {
            cases.entry(sent.envelope.case_no.clone()).or_default().push(sent.id().to_owned());
        }
        assert_eq!(self.seen.lock().unwrap().cases, cases);
    }
}

async fn take(mut mailbox: alliance::Mailbox, seen: Arc<Mutex<Seen>>) {
    use pb::receive_response::Response;
    let mut held = HashMap::new();
    while let Ok(Some(step)) = mailbox.down.message().await {
        match step.response.unwrap() {
            Response::Delivery(delivery) => {
                let Some(pb::delivery::Content::Message(message)) = delivery.content else { panic!("a message") };
                let envelope = message.envelope.unwrap();
                held.insert(delivery.delivery_id.clone(), envelope.message_id.clone());
                {
                    let mut seen = seen.lock().unwrap();
                    seen.deliveries += 1;
                    if seen.known.insert(envelope.message_id.clone()) {
                        seen.cases.entry(envelope.case_no).or_default().push(envelope.message_id);
                    }
                }
                tell(&mailbox, acknowledged(delivery.delivery_id)).await;
            }
            Response::Settled(settled) => {
                let id = held.remove(&settled.delivery_id).unwrap();
                *seen.lock().unwrap().settled.entry(id).or_default() += usize::from(settled.receipt.is_some());
                tell(&mailbox, pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Says it to a gateway that may be gone: then it is lost, and the stream ends.
async fn tell(mailbox: &alliance::Mailbox, request: pb::receive_request::Request) {
    let _ = mailbox.up.send(pb::ReceiveRequest { request: Some(request) }).await;
}

fn acknowledged(delivery_id: String) -> pb::receive_request::Request {
    let outcome = Some(pb::outcome::Outcome::Acknowledge(pb::Acknowledge::default()));
    pb::receive_request::Request::Outcome(pb::Outcome { delivery_id, outcome })
}

/// Gives a city an operator.
pub fn hire(alliance: &Alliance, city: &str) {
    alliance.run(&["pki", "add-ops", city, "li"], &["--dir", &alliance.pki()]);
}

/// The operator of `city` lets its lane towards a partner that was away go on at once.
pub async fn end_the_rest(alliance: &Alliance, city: &str, partner: &str) {
    let li = alliance.client_of(&format!("{city}/ops/li"), city);
    let (mut li, lane) = (AdminServiceClient::new(li.channel), format!("gateway/{partner}"));
    let pause = pba::PauseLaneRequest { lane: lane.clone(), reason: "its gateway starts anew".to_owned() };
    li.pause_lane(pause).await.unwrap();
    li.resume_lane(pba::ResumeLaneRequest { lane, reason: String::new() }).await.unwrap();
}

/// Everything in the book is confirmed at the origin, with the first receipt unchanged and a chain that has every link.
pub async fn all_is_whole(alliance: &Alliance, book: &Book) {
    let (window, approval) = (alliance.client(LIUZHOU.0, LIUZHOU.1), alliance.client(FOSHAN.0, FOSHAN.1));
    let mut checker = alliance.checker();
    for sent in &book.0 {
        window.until("", sent.id(), pbe::State::Confirmed).await;
        let receipts = window.evidence("", sent.id()).await;
        assert!(receipts.contains(sent.receipt.as_ref().unwrap()), "{}: the first receipt", sent.id());
        has_every_link(&mut checker, receipts);
        assert_eq!(handovers(&mut checker, &approval, sent.id()).await, 1, "{}", sent.id());
    }
}

/// Each event once, each leaf on the one before it, and every receipt of the partner witnessed.
pub fn has_every_link(checker: &mut Checker, receipts: Vec<pbe::Receipt>) {
    let checked: Vec<_> = receipts.into_iter().map(|receipt| check(checker, receipt)).collect();
    let hashes: HashSet<_> = checked.iter().map(|checked| checked.receipt.leaf_hash().0).collect();
    let count = |event| checked.iter().filter(|checked| checked.evidence.event == event).count();
    let once = [Event::SubmissionAccepted, Event::RelayAccepted, Event::Consigned, Event::HandedOver];
    assert_eq!((once.map(count), count(Event::Witnessed), checked.len()), ([1; 4], 3, 7));
    for one in &checked {
        let previous = one.evidence.previous.map(|previous| hashes.contains(&previous.0));
        assert_eq!(
            previous.is_none(),
            one.evidence.event == Event::SubmissionAccepted,
            "only the first has none before it"
        );
        assert_ne!(previous, Some(false), "{} hangs in the air", one.evidence.event);
        assert!(one.evidence.witnessed.as_ref().is_none_or(|witnessed| hashes.contains(&witnessed.leaf_hash.0)));
    }
}

/// Leaves of the recipient's log that say that the message was handed over.
pub async fn handovers(checker: &mut Checker, approval: &Client, id: &str) -> usize {
    let receipts = approval.evidence(LIUZHOU.0, id).await;
    let checked = receipts.into_iter().map(|receipt| check(checker, receipt));
    checked.filter(|checked| checked.evidence.event == Event::HandedOver).count()
}

/// Copies the database of a store that nobody uses.
pub fn copy_store(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
