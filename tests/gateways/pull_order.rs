//! Consumers that compete for one mailbox and are killed at any moment: each case stays in order, nothing is lost, and what
//! comes again says so. The mailbox is a system's, then that of a gateway which fetches.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::alliance::{self, Alliance, City, Client, Mailbox, envelope};
use crate::forge::Forge;
use tokio_util::sync::CancellationToken;
use tongban::evidence::Event;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const CASES: usize = 30;
const MESSAGES: usize = 20;
const CONSUMERS: u64 = 3;
/// Few enough that a killed consumer seldom takes the same message down again.
const CREDITS: u32 = 4;

const WINDOW: (&str, &str) = ("450200", "window");
const ARCHIVE: (&str, &str) = ("450200", "archive");
const APPROVAL: (&str, &str) = ("640100", "approval");

/// What the consumers brought about, all together.
#[derive(Default)]
struct Effects {
    /// Message ids of each case, in the order in which they first had an effect.
    by_case: Mutex<HashMap<String, Vec<String>>>,
    again: AtomicU32,
    kills: AtomicU32,
}

impl Effects {
    fn happens(&self, message: &pb::Message, count: u32) {
        let envelope = message.envelope.as_ref().unwrap();
        let mut by_case = self.by_case.lock().unwrap();
        let case = by_case.entry(envelope.case_no.clone()).or_default();
        if case.contains(&envelope.message_id) {
            assert!(count > 1, "what comes again says so");
            self.again.fetch_add(1, Ordering::Relaxed);
        } else {
            case.push(envelope.message_id.clone());
        }
    }
}

/// What stands in the acknowledgement of a message.
type Acknowledgement = Arc<dyn Fn(&pb::Message) -> pb::Acknowledge + Send + Sync>;

/// Consumes until `stop`, over one stream after the other: each is dropped at a moment that chance chooses, in half of the
/// cases with its connection.
async fn consume(
    connect: impl Fn() -> Client,
    acknowledgement: Acknowledgement,
    effects: Arc<Effects>,
    mut chance: u64,
    stop: CancellationToken,
) {
    let mut draw = move |sides: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % sides
    };
    let mut client = connect();
    while !stop.is_cancelled() {
        if draw(2) == 0 {
            client = connect();
        }
        let mailbox = client.receive(CREDITS).await;
        let one_life = work(mailbox, &acknowledgement, &effects, &mut draw);
        if stop.run_until_cancelled(one_life).await.is_some() {
            effects.kills.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Works until chance kills the consumer.
async fn work(
    mut mailbox: Mailbox,
    acknowledgement: &Acknowledgement,
    effects: &Effects,
    draw: &mut impl FnMut(u64) -> u64,
) {
    use pb::receive_request::Request;
    use pb::receive_response::Response;
    while let Some(step) = mailbox.down.message().await.unwrap() {
        let Some(Response::Delivery(mut delivery)) = step.response else { continue };
        let Some(pb::delivery::Content::Message(message)) = delivery.content.take() else { continue };
        let fate = draw(40);
        if fate == 0 {
            return;
        }
        effects.happens(&message, delivery.delivery_count);
        if fate == 1 {
            return;
        }
        let taken = pb::outcome::Outcome::Acknowledge(acknowledgement(&message));
        mailbox.give(&delivery.delivery_id, taken).await;
        if fate == 2 {
            return;
        }
        mailbox.say(Request::Credits(pb::GrantCredits { count: 1 })).await;
    }
}

/// Submits all cases side by side, each in its order; the ids by case.
async fn submit(window: &Client, to: (&'static str, &'static str)) -> HashMap<String, Vec<String>> {
    let one_case = |case: usize| {
        let window = window.clone();
        async move {
            let (case_no, mut ids) = (format!("case-{case}"), vec![]);
            for _ in 0..MESSAGES {
                let sent = pb::Envelope { case_no: case_no.clone(), ..envelope(WINDOW, to) };
                ids.push(sent.message_id.clone());
                window.submit(sent).await.unwrap();
            }
            (case_no, ids)
        }
    };
    let cases: Vec<_> = (0..CASES).map(|case| tokio::spawn(one_case(case))).collect();
    let mut submitted = HashMap::new();
    for case in cases {
        submitted.extend([case.await.unwrap()]);
    }
    submitted
}

/// Lets consumers compete for what is submitted meanwhile, and compares what they brought about with it.
async fn compete(
    window: Client,
    to: (&'static str, &'static str),
    connect: impl Fn() -> Client + Clone + Send + Sync + 'static,
    acknowledgement: Acknowledgement,
    ended: pbe::State,
) {
    let (effects, stop) = (Arc::new(Effects::default()), CancellationToken::new());
    let consumers: Vec<_> = (1..=CONSUMERS)
        .map(|seed| {
            let (connect, acknowledgement) = (connect.clone(), acknowledgement.clone());
            tokio::spawn(consume(connect, acknowledgement, effects.clone(), seed, stop.clone()))
        })
        .collect();
    let submitted = submit(&window, to).await;
    for id in submitted.values().flatten() {
        window.until("", id, ended).await;
    }
    stop.cancel();
    for consumer in consumers {
        consumer.await.unwrap();
    }
    assert_eq!(*effects.by_case.lock().unwrap(), submitted, "each case in its order, and nothing lost");
    let (again, kills) = (effects.again.load(Ordering::Relaxed), effects.kills.load(Ordering::Relaxed));
    assert!(again > 0 && kills > 10, "{kills} consumers were killed and {again} messages had to come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn systems_that_compete_keep_each_case_in_order_through_kills() {
    let alliance = Arc::new(Alliance::new(&[(WINDOW.0, &[WINDOW.1, ARCHIVE.1])]));
    let _gateway = alliance.start(WINDOW.0).await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    let connect = move || alliance.client(ARCHIVE.0, ARCHIVE.1);
    compete(window, ARCHIVE, connect, Arc::new(|_| pb::Acknowledge::default()), pbe::State::Confirmed).await;
}

fn fetching_partner(fetches: &[&str]) -> Alliance {
    let yinchuan = City { code: APPROVAL.0, systems: &[APPROVAL.1], pulls: true, fetches, ..City::default() };
    Alliance::of(&[], &[City { code: WINDOW.0, systems: &[WINDOW.1], ..City::default() }, yinchuan])
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_gateway_that_fetches_keep_each_case_in_order_through_kills() {
    let alliance = Arc::new(fetching_partner(&[]));
    let _gateway = alliance.start(WINDOW.0).await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    let log = Mutex::new(Forge::of(&alliance, APPROVAL.0));
    let acknowledgement = move |message: &pb::Message| {
        let receipt = log.lock().unwrap().honest(Event::RelayAccepted, message.envelope.as_ref().unwrap());
        pb::Acknowledge { receipt: Some(receipt), ..Default::default() }
    };
    let connect = move || alliance.client_of("640100/gateway", WINDOW.0);
    compete(window, APPROVAL, connect, Arc::new(acknowledgement), pbe::State::Relayed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_fetches_and_is_stopped_meanwhile_keeps_each_case_in_order() {
    let alliance = fetching_partner(&[WINDOW.0]);
    let _gateway = alliance.start(WINDOW.0).await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    let submitting = tokio::spawn({
        let window = window.clone();
        async move { submit(&window, APPROVAL).await }
    });
    // It is stopped in the middle of its work, each time when a part of it is done.
    let done = async |least: usize| {
        let relayed = async || {
            let config = alliance.config(WINDOW.0);
            let sql = rusqlite::Connection::open(config.data.join("store.db")).unwrap();
            sql.query_row("SELECT count(*) FROM message WHERE state > 1", [], |row| row.get::<_, usize>(0)).unwrap()
        };
        let reached = async {
            while relayed().await < least {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(alliance::PATIENCE, reached).await.is_ok(), "{least} were fetched");
    };
    for least in [50, 200, 350] {
        let yinchuan = alliance.start(APPROVAL.0).await;
        done(least).await;
        yinchuan.stop().await;
    }
    let submitted = submitting.await.unwrap();
    let _yinchuan = alliance.start(APPROVAL.0).await;
    let mut mailbox = alliance.client(APPROVAL.0, APPROVAL.1).receive(64).await;
    let (mut by_case, mut seen) = (HashMap::<String, Vec<String>>::new(), HashSet::new());
    while seen.len() < CASES * MESSAGES {
        if let pb::receive_response::Response::Delivery(mut delivery) = mailbox.next().await.unwrap() {
            let Some(pb::delivery::Content::Message(message)) = delivery.content.take() else { panic!("a message") };
            let got = message.envelope.unwrap();
            assert!(seen.insert(got.message_id.clone()), "nothing is fetched twice");
            by_case.entry(got.case_no).or_default().push(got.message_id);
            mailbox.acknowledge(&delivery.delivery_id).await;
            mailbox.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
        }
    }
    assert_eq!(by_case, submitted);
    for id in submitted.values().flatten() {
        window.until("", id, pbe::State::Confirmed).await;
    }
}
