//! Routing tables of a running gateway: published and rolled back under traffic, by operators alone, with the row that
//! decided shown to whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::alliance::{Alliance, PATIENCE, check, envelope, reason};
use futures_util::future::join_all;
use tongban::tls::dial::Dialler;
use tongban::wire::pb::exchange::GrantCredits;
use tongban::wire::pb::exchange::delivery::Content;
use tongban::wire::pb::exchange::receive_request::Request;
use tongban::wire::pb::exchange::receive_response::Response;
use tongban::wire::pb::routing as pb;
use tongban::wire::pb::routing::routing_service_client::RoutingServiceClient;
use tonic::transport::Channel;

const WINDOW: (&str, &str) = ("450200", "window");

/// A client with the certificate `CITY/PATH` at the gateway of `to`.
fn routing(alliance: &Alliance, certificate: &str, to: &str) -> RoutingServiceClient<Channel> {
    let (dialler, address): (Dialler, _) = alliance.dialler_with(alliance.own(certificate), to);
    RoutingServiceClient::new(dialler.channel(address))
}

fn city() -> Alliance {
    let alliance = Alliance::new(&[("450200", &["window", "archive", "annex"]), ("440600", &["approval"])]);
    let pki = alliance.pki();
    alliance.run(&["pki", "add-ops", "450200", "li"], &["--dir", &pki]);
    alliance.run(&["pki", "add-auditor", "450200", "wu"], &["--dir", &pki]);
    alliance.run(&["pki", "add-ops", "440600", "he"], &["--dir", &pki]);
    alliance
}

/// The own city's table: everything goes to this system.
fn all_to(system: &str) -> String {
    format!("owner = \"450200\"\n[[route]]\ndivision = \"450200\"\nitem = \"*\"\nsystem = \"{system}\"\n")
}

async fn etag(client: &mut RoutingServiceClient<Channel>) -> String {
    client.get_tables(pb::GetTablesRequest { version: 0 }).await.unwrap().into_inner().etag
}

async fn publish(
    client: &mut RoutingServiceClient<Channel>,
    etag: &str,
    tables: &[String],
) -> Result<pb::PublishTablesResponse, tonic::Status> {
    let request = pb::PublishTablesRequest { etag: etag.to_owned(), tables: tables.to_vec(), complete: false };
    Ok(client.publish_tables(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_changes_under_traffic_lose_nothing_and_each_receipt_names_its_version() {
    let alliance = city();
    let _gateway = alliance.start("450200").await;
    let mut ops = routing(&alliance, "450200/ops/li", "450200");
    let (done, version) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders = (0..4).map(|_| {
        let (client, done, version) = (alliance.client(WINDOW.0, WINDOW.1), done.clone(), version.clone());
        tokio::spawn(async move {
            let mut sent = vec![];
            while !done.load(Ordering::SeqCst) {
                let message = envelope(WINDOW, ("450200", ""));
                let from = version.load(Ordering::SeqCst);
                let receipt = client.submit(message.clone()).await.expect("no call fails");
                // A publication that is under way may already be in force: its version is not told yet.
                let until = version.load(Ordering::SeqCst) + 1;
                sent.push((message.message_id, receipt, from..=until));
            }
            sent
        })
    });
    let senders: Vec<_> = senders.collect();
    for round in 1..=200_u64 {
        let seen = etag(&mut ops).await;
        let now = if round < 3 || round % 2 == 1 {
            let tables = [all_to(if round % 2 == 1 { "archive" } else { "annex" })];
            publish(&mut ops, &seen, &tables).await.unwrap().version
        } else {
            let request = pb::RollbackTablesRequest { etag: seen, version: round - 2 };
            ops.rollback_tables(request).await.unwrap().into_inner().version
        };
        assert_eq!(now, round, "each change is a version of its own");
        version.store(now, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    let sent: Vec<_> = join_all(senders).await.into_iter().flat_map(Result::unwrap).collect();
    assert!(sent.len() > 200, "{} messages", sent.len());

    let mut checker = alliance.checker();
    let mut versions = std::collections::BTreeSet::new();
    let mut takers = std::collections::BTreeMap::new();
    for (id, receipt, current) in &sent {
        let evidence = check(&mut checker, receipt.clone()).evidence;
        assert!(current.contains(&evidence.table_version), "{id}: {} is not of {current:?}", evidence.table_version);
        versions.insert(evidence.table_version);
        takers.insert(id.clone(), evidence.to.unwrap().system.unwrap().as_str().to_owned());
    }
    assert!(versions.len() > 20, "the traffic met many versions: {versions:?}");

    // Nothing is lost: each message lies in the mailbox that its receipt names.
    for system in ["window", "archive", "annex"] {
        let expected = takers.values().filter(|taker| *taker == system).count();
        let client = alliance.client("450200", system);
        let mut mailbox = client.receive(64).await;
        let mut settled = 0;
        while settled < expected {
            match mailbox.next().await.unwrap() {
                Response::Delivery(delivery) => {
                    let Some(Content::Message(message)) = delivery.content else { panic!("a message") };
                    let id = message.envelope.unwrap().message_id;
                    assert_eq!(takers.remove(&id).as_deref(), Some(system), "{id}: once, where its receipt says");
                    mailbox.acknowledge(&delivery.delivery_id).await;
                    mailbox.say(Request::Credits(GrantCredits { count: 1 })).await;
                }
                _ => settled += 1,
            }
        }
    }
    assert!(takers.is_empty(), "lost: {takers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_planned_published_explained_and_survives_a_restart() {
    let alliance = city();
    let gateway = alliance.start("450200").await;
    let mut ops = routing(&alliance, "450200/ops/li", "450200");
    let mut watched = ops.watch_tables(pb::WatchTablesRequest {}).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().version, 0);
    let partner = "owner = \"440600\"\n[[route]]\ndivision = \"440600\"\nitem = \"11*\"\nvia = [\"direct\"]\n\
                   [[route]]\ndivision = \"440600\"\nitem = \"2250\"\nrefuse = \"ITEM_SUSPENDED\"\n";
    let tables = vec![all_to("archive"), partner.to_owned()];
    let plan = pb::PlanTablesRequest { tables: tables.clone(), complete: false };
    let plan = ops.plan_tables(plan).await.unwrap().into_inner();
    assert_eq!(plan.changes.len(), 3);
    let refused = plan.changes.iter().find(|change| change.about == "4406 2250").unwrap();
    let effect = refused.effect.as_ref().unwrap();
    assert_eq!(effect.before.as_ref().unwrap().lanes, ["440600"], "by its record it takes everything");
    assert_eq!(effect.after.as_ref().unwrap().token, "ITEM_SUSPENDED");
    publish(&mut ops, &plan.etag, &tables).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((told.version, &told.etag), (1, &etag(&mut ops).await));

    let suspended = || {
        let mut message = envelope(WINDOW, ("440600", ""));
        message.item_code = "2250".to_owned();
        message
    };
    let window = alliance.client(WINDOW.0, WINDOW.1);
    assert_eq!(reason(&window.submit(suspended()).await.unwrap_err()), "ROUTE_REFUSED");
    gateway.stop().await;
    let _gateway = alliance.start("450200").await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    assert_eq!(reason(&window.submit(suspended()).await.unwrap_err()), "ROUTE_REFUSED", "after a restart");
    let again = etag(&mut routing(&alliance, "450200/ops/li", "450200")).await;
    assert_eq!(again, told.etag, "the store has what was published, as it was read then");
    let mut auditor = routing(&alliance, "450200/auditors/wu", "450200");
    let explain = pb::ExplainRouteRequest {
        item_code: "1145".to_owned(),
        jurisdiction: "440605".to_owned(),
        ..Default::default()
    };
    let explained = auditor.explain_route(explain).await.unwrap().into_inner();
    let decision = explained.decision.unwrap();
    assert_eq!((decision.by.as_str(), &decision.lanes[..]), ("row 1 of 440600", &["440600".to_owned()][..]));
    assert!(explained.notes.last().unwrap().en.contains("row 1 of 440600"), "{:?}", explained.notes);
    assert_eq!(explained.version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_may_not_be_is_refused_and_named() {
    let alliance = city();
    let _gateway = alliance.start("450200").await;
    let mut ops = routing(&alliance, "450200/ops/li", "450200");
    let first = etag(&mut ops).await;
    let twice = format!("{}[[route]]\ndivision = \"4502\"\nitem = \"*\"\nsystem = \"annex\"\n", all_to("archive"));
    let refused = publish(&mut ops, &first, &[twice]).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_TABLES");
    let faults = tongban::wire::status::from_status(&refused).faults;
    assert_eq!(faults[0].must, "row 1 of 450200 and row 2 of 450200 both claim 4502 *");
    let refused = publish(&mut ops, &first, &["owner = \"45\"".to_owned()]).await.unwrap_err();
    assert_eq!(tongban::wire::status::from_status(&refused).faults[0].field, "tables[0]");

    publish(&mut ops, &first, &[all_to("archive")]).await.unwrap();
    let stale = publish(&mut ops, &first, &[all_to("annex")]).await.unwrap_err();
    assert_eq!(reason(&stale), "ROUTES_CHANGED");
    let both = etag(&mut ops).await;
    let (mut one, mut two) = (ops.clone(), ops.clone());
    let (annex, window) = ([all_to("annex")], [all_to("window")]);
    let (one, two) = tokio::join!(publish(&mut one, &both, &annex), publish(&mut two, &both, &window));
    assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(), 1, "of two at once one is taken");
    assert_eq!(reason(&one.err().or(two.err()).unwrap()), "ROUTES_CHANGED");

    let seen = etag(&mut ops).await;
    let unknown = pb::RollbackTablesRequest { etag: seen.clone(), version: 99 };
    assert_eq!(reason(&ops.rollback_tables(unknown).await.unwrap_err()), "NO_SUCH_VERSION");
    for certificate in ["450200/systems/window", "440600/ops/he", "440600/gateway", "450200/auditors/wu"] {
        let mut other = routing(&alliance, certificate, "450200");
        let refused = publish(&mut other, &seen, &[all_to("archive")]).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_PERMITTED", "{certificate}");
        let read = other.get_tables(pb::GetTablesRequest { version: 0 }).await;
        assert_eq!(read.is_ok(), certificate == "450200/auditors/wu", "{certificate}");
    }
}
