//! What people of 450200 see of their gateway, li who operates it and shen who audits it; and what its systems take.
#![allow(dead_code, reason = "each test file uses its own part")]

use rusqlite::{Connection, OpenFlags};
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::exchange::receive_response::Response as Step;
use tonic::transport::Channel;

use crate::alliance::{Alliance, Mailbox};

const CITY: &str = "450200";
const LI: &str = "450200/ops/li";
const SHEN: &str = "450200/auditors/shen";

pub type Admin = AdminServiceClient<Channel>;

/// Gives both their certificates.
pub fn hire(alliance: &Alliance) {
    for (add, name) in [("add-ops", "li"), ("add-auditor", "shen")] {
        alliance.run(&["pki", add, CITY, name], &["--dir", &alliance.pki()]);
    }
}

pub fn ops(alliance: &Alliance) -> Admin {
    admin(alliance, LI)
}

pub fn auditor(alliance: &Alliance) -> Admin {
    admin(alliance, SHEN)
}

/// Anybody's calls to the gateway of this city.
pub fn admin(alliance: &Alliance, certificate: &str) -> Admin {
    AdminServiceClient::new(alliance.client_of(certificate, CITY).channel)
}

/// A page of the audit.
pub async fn page(alliance: &Alliance, request: pba::ListAuditRequest) -> pba::ListAuditResponse {
    auditor(alliance).list_audit(request).await.unwrap().into_inner()
}

/// The whole audit, oldest first: who, what, to what, why not, and why.
pub async fn audit(alliance: &Alliance) -> Vec<[String; 5]> {
    let entries = page(alliance, pba::ListAuditRequest { page_size: 500, ..Default::default() }).await.entries;
    let last = |uri: &str| uri.rsplit('/').next().unwrap().to_owned();
    let row = |one: pba::AuditEntry| [last(&one.actor), one.act, one.object, one.refused, one.reason];
    entries.into_iter().rev().map(row).collect()
}

/// Messages that the store of a city holds.
pub fn held_by(alliance: &Alliance, city: &str) -> u64 {
    let path = alliance.config(city).data.join("store.db");
    let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    sql.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
}

/// Takes so many messages and acknowledges them: their ids, once all is settled.
pub async fn take(mailbox: &mut Mailbox, count: usize) -> Vec<String> {
    let (mut ids, mut settled) = (vec![], 0);
    while settled < count {
        match mailbox.next().await.unwrap() {
            Step::Delivery(delivery) => {
                let Some(pb::delivery::Content::Message(message)) = delivery.content else { panic!("a message") };
                ids.push(message.envelope.unwrap().message_id);
                mailbox.acknowledge(&delivery.delivery_id).await;
            }
            Step::Settled(_) => settled += 1,
            other => panic!("neither a message nor an end: {other:?}"),
        }
    }
    ids
}
