//! Shows what becomes of messages whose partner is away for days, by a clock that is put ahead: the schedule of attempts,
//! the notices, the return, the deadline, and the doubt.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::alliance::{self, Alliance, Client, check, envelope, free_address};
use crate::process::until;
use crate::wire_cut::Line;
use rusqlite::{Connection, OpenFlags};
use tongban::clock::Clock;
use tongban::evidence::Event;
use tongban::time::Time;
use tongban::wire::envelope::time_to_wire;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const HOUR_MS: u64 = 60 * 60 * 1000;
const A: &str = "450200";
const B: &str = "440600";

/// How the lane towards the partner rests, as the store has it.
fn rest(store: &PathBuf) -> (u32, Time) {
    let sql = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Time::from_ms(row.get(1)?)));
    sql.query_row("SELECT failures, rest_until FROM lane WHERE name = 'gateway/440600'", [], row).unwrap()
}

/// The receipts about a message, each checked, as event and reasons.
async fn told(alliance: &Alliance, client: &Client, id: &str) -> Vec<(Event, Vec<String>)> {
    let mut checker = alliance.checker();
    let receipts = client.evidence(A, id).await;
    let said = receipts.into_iter().map(|receipt| {
        let evidence = check(&mut checker, receipt).evidence;
        (evidence.event, evidence.reasons.iter().map(|code| code.as_str().to_owned()).collect())
    });
    said.collect()
}

fn count(told: &[(Event, Vec<String>)], event: Event) -> usize {
    told.iter().filter(|(one, _)| *one == event).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_away_for_72_hours_is_tried_as_configured_and_served_on_its_return() {
    let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
    let clock = Clock::default();
    let gateway = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let client = alliance.client(A, "window");
    let begun = clock.now();
    let (waits, ends) = (envelope((A, "window"), (B, "archive")), envelope((A, "window"), (B, "archive")));
    let ends = pb::Envelope { expires_at: Some(time_to_wire(begun.plus_ms(48 * HOUR_MS))), ..ends };
    client.submit(waits.clone()).await.unwrap();
    client.submit(ends.clone()).await.unwrap();

    let store = alliance.config(A).data.join("store.db");
    let mut pauses = BTreeMap::new();
    let mut failures = 0;
    while clock.now().since_ms(begun) < 72 * HOUR_MS {
        until("one more failed attempt", async || rest(&store).0 > failures).await;
        let (now_failures, rest_until) = rest(&store);
        let pause = rest_until.since_ms(clock.now());
        failures = now_failures;
        // Full jitter below a doubling ceiling, and the breaker's half minute from the fifth failure on.
        let ceiling = (1_000u64 << failures.min(30)).min(HOUR_MS).max(if failures >= 5 { 30_000 } else { 0 });
        assert!(pause <= ceiling, "failure {failures}: {pause} ms, over {ceiling}");
        assert!(
            failures < 5 || pause > 20_000,
            "failure {failures}: the breaker is open for half a minute, not {pause}"
        );
        pauses.insert(failures, pause);
        clock.advance(pause + 1);
    }
    let long: Vec<u64> = pauses.values().copied().filter(|pause| *pause > HOUR_MS / 2).collect();
    assert!(pauses.len() > 72 && long.len() * 4 > pauses.len(), "the whole range is used: {pauses:?}");
    println!("{} attempts in 72 hours, {} of them after more than half an hour", pauses.len(), long.len());

    let expired = client.until(A, &ends.message_id, pbe::State::Expired).await;
    assert!(!expired.in_doubt, "nobody was ever reached");
    let said = told(&alliance, &client, &ends.message_id).await;
    assert_eq!((count(&said, Event::Delayed), count(&said, Event::Expired)), (2, 1), "{said:?}");
    let said = told(&alliance, &client, &waits.message_id).await;
    assert_eq!((count(&said, Event::Delayed), count(&said, Event::Expired)), (2, 0), "{said:?}");

    let partner = alliance.start_by(&alliance.config(B), clock.clone()).await;
    clock.advance(rest(&store).1.since_ms(clock.now()) + 1);
    let archive = alliance.client(B, "archive");
    let mut mailbox = archive.receive(8).await;
    let (delivery, message) = mailbox.delivery().await;
    assert_eq!(message.envelope.unwrap().message_id, waits.message_id, "and what had expired is not delivered");
    mailbox.acknowledge(&delivery.delivery_id).await;
    client.until(A, &waits.message_id, pbe::State::Confirmed).await;
    until("the lane has forgotten its failures", async || rest(&store) == (0, Time::ZERO)).await;
    gateway.stop().await;
    partner.stop().await;
}

/// Two gateways whose lines to each other can be cut, and their systems, which are beside the lines.
struct Border {
    alliance: Alliance,
    clock: Clock,
    gateways: Vec<alliance::Gateway>,
    /// Towards the partner, and from it.
    there: Line,
    back: Line,
    window: Client,
    archive: Client,
}

impl Border {
    async fn new() -> Border {
        let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
        let clock = Clock::default();
        let (mut gateways, mut lines, mut clients) = (vec![], vec![], vec![]);
        for (city, system) in [(A, "window"), (B, "archive")] {
            let mut config = alliance.config(city);
            let behind = free_address();
            let known = std::mem::replace(&mut config.listen, behind.parse().unwrap());
            gateways.push(alliance.start_by(&config, clock.clone()).await);
            lines.push(Line::open(known.to_string(), behind.clone()).await);
            let own = alliance.own(&format!("{city}/systems/{system}"));
            let channel = alliance.dialler_with(own, city).0.channel(format!("https://{behind}").parse().unwrap());
            clients.push(Client::over(channel));
        }
        let (back, there) = (lines.remove(0), lines.remove(0));
        let (window, archive) = (clients.remove(0), clients.remove(0));
        Border { alliance, clock, gateways, there, back, window, archive }
    }

    /// Submits a message when the connection stands, and `quiet` has made the line quiet.
    async fn submit_into_silence(&self, ttl_ms: u64, quiet: impl Fn()) -> String {
        let before = envelope((A, "window"), (B, "archive"));
        self.window.submit(before.clone()).await.unwrap();
        self.window.until(A, &before.message_id, pbe::State::Consigned).await;
        quiet();
        let expires_at = Some(time_to_wire(self.clock.now().plus_ms(ttl_ms)));
        let silent = pb::Envelope { expires_at, ..envelope((A, "window"), (B, "archive")) };
        self.window.submit(silent.clone()).await.unwrap();
        silent.message_id
    }

    /// The archive has the message, and says so to its gateway.
    async fn hand_over(&self, id: &str) {
        let mut mailbox = self.archive.receive(8).await;
        for _ in 0..2 {
            // Between the two deliveries the outcome of the first may be told.
            let delivery = loop {
                match mailbox.next().await.unwrap() {
                    pb::receive_response::Response::Delivery(delivery) => break delivery,
                    _ => continue,
                }
            };
            mailbox.acknowledge(&delivery.delivery_id).await;
        }
        self.archive.until(A, id, pbe::State::Confirmed).await;
    }

    fn failures(&self) -> u32 {
        rest(&self.alliance.config(A).data.join("store.db")).0
    }

    async fn stop(self) {
        drop((self.window, self.archive));
        for gateway in self.gateways {
            gateway.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_doubt_that_was_handled_ends_confirmed_and_late() {
    let border = Border::new().await;
    let id = border
        .submit_into_silence(60_000, || {
            border.there.mute();
            border.back.cut();
        })
        .await;
    border.hand_over(&id).await;
    // No answer within the attempt; and nobody can be asked when the deadline comes.
    border.clock.advance(16_000);
    until("the attempt has failed", async || border.failures() > 0).await;
    border.there.cut();
    border.clock.advance(60_000);
    let failed = border.window.until(A, &id, pbe::State::Failed).await;
    assert!(failed.in_doubt && !failed.late);
    let said = told(&border.alliance, &border.window, &id).await;
    let (_, reasons) = said.iter().find(|(event, _)| *event == Event::RelayFailed).unwrap();
    assert_eq!(reasons, &["PARTNER_SILENT", "IN_DOUBT"]);

    border.there.mend();
    border.back.mend();
    until("the partner's receipts have come home", async || {
        border.clock.advance(HOUR_MS);
        border.window.message(A, &id).await.unwrap().state() == pbe::State::Confirmed
    })
    .await;
    let late = border.window.message(A, &id).await.unwrap();
    assert!(late.late && !late.in_doubt, "the case was handled after all");
    border.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_asked_about_a_message_in_doubt_says_that_it_has_it() {
    let border = Border::new().await;
    let id = border
        .submit_into_silence(60_000, || {
            border.there.mute();
            border.back.cut();
        })
        .await;
    until("it has arrived", async || border.archive.message(A, &id).await.is_ok()).await;
    border.clock.advance(16_000);
    until("the attempt has failed", async || border.failures() > 0).await;
    border.there.mend();
    border.clock.advance(60_000);
    border.window.until(A, &id, pbe::State::Relayed).await;
    let said = told(&border.alliance, &border.window, &id).await;
    assert_eq!((count(&said, Event::RelayAccepted), count(&said, Event::RelayFailed)), (1, 0), "{said:?}");
    border.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_never_arrived_expires_when_the_partner_says_so() {
    let border = Border::new().await;
    let id = border.submit_into_silence(60_000, || border.there.deafen()).await;
    border.clock.advance(16_000);
    until("the attempt has failed", async || border.failures() > 0).await;
    border.there.mend();
    border.clock.advance(60_000);
    let expired = border.window.until(A, &id, pbe::State::Expired).await;
    assert!(!expired.in_doubt);
    border.stop().await;
}
