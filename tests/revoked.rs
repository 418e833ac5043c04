//! Shows that a right that was withdrawn holds for what waits already: nothing of it is delivered or read afterwards, and
//! nothing is lost when it is given back.

#[path = "support/alliance.rs"]
mod alliance;
#[path = "support/process.rs"]
mod process;

use alliance::{Alliance, Client, envelope, reason};
use process::until;
use tongban::admission::Grants;
use tongban::clock::Clock;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const A: &str = "450200";
const B: &str = "440600";

/// A message that waits in the archive's mailbox at `B`.
async fn waiting(window: &Client) -> String {
    let sent = envelope((A, "window"), (B, "archive"));
    window.submit(sent.clone()).await.unwrap();
    window.until(A, &sent.message_id, pbe::State::Consigned).await;
    sent.message_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_whose_grant_was_withdrawn_gets_nothing_until_it_has_it_back() {
    let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
    let origin = alliance.start(A).await;
    let partner = alliance.start(B).await;
    let window = alliance.client(A, "window");
    let waits = waiting(&window).await;
    partner.stop().await;

    // Partners may still bring; the own systems have no grant any more.
    let clock = Clock::default();
    let mut config = alliance.config(B);
    let grants = std::mem::take(&mut config.grants);
    config.grants =
        Grants(grants.0.iter().filter(|grant| grant.who == tongban::admission::Who::EveryGateway).cloned().collect());
    let partner = alliance.start_by(&config, clock.clone()).await;
    let archive = alliance.client(B, "archive");
    let mut mailbox = archive.receive(8).await;
    let more = waiting(&window).await;
    // What is not there cannot be waited for: something later on the same stream must come first.
    for _ in 0..3 {
        clock.advance(61_000);
        mailbox.say(pb::receive_request::Request::Extend(pb::ExtendLease::default())).await;
        let told = mailbox.next().await.unwrap();
        assert!(matches!(told, pb::receive_response::Response::Refused(_)), "{told:?}");
    }
    let unseen = archive.submit(envelope((B, "archive"), (A, "window"))).await.unwrap_err();
    assert_eq!(reason(&unseen), "NOT_PERMITTED");
    drop((mailbox, archive));
    partner.stop().await;

    config.grants = grants;
    let partner = alliance.start_by(&config, clock.clone()).await;
    clock.advance(61_000);
    let archive = alliance.client(B, "archive");
    let mut mailbox = archive.receive(8).await;
    let mut came = Vec::new();
    while came.len() < 2 {
        let (delivery, message) = mailbox.delivery().await;
        assert_eq!(delivery.delivery_count, 1, "what was not given is not counted");
        came.push(message.envelope.unwrap().message_id);
    }
    came.sort();
    let mut sent = [waits, more];
    sent.sort();
    assert_eq!(came, sent);
    origin.stop().await;
    partner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_has_left_the_directory_gets_nothing_that_waited_for_it() {
    let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
    let clock = Clock::default();
    let origin = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let window = alliance.client(A, "window");
    let sent = envelope((A, "window"), (B, "archive"));
    window.submit(sent.clone()).await.unwrap();
    origin.stop().await;

    let pki = alliance.pki();
    let (directory, key) = (format!("{pki}/directory.note"), format!("{pki}/alliance.key"));
    alliance.run(&["directory", "remove"], &[&directory, B, "--key", &key]);
    let origin = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let refused = window.submit(envelope((A, "window"), (B, "archive"))).await.unwrap_err();
    assert_eq!(reason(&refused), "NO_ROUTE");
    until("the message that waited has expired", async || {
        clock.advance(24 * 60 * 60 * 1000);
        window.message(A, &sent.message_id).await.unwrap().state() == pbe::State::Expired
    })
    .await;
    origin.stop().await;
}
