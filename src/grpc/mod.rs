//! Decides what a caller may reach over gRPC and in which shape. Never does the work itself: it hands over and waits.

pub mod admin;
pub mod attachments;
mod cancel;
pub mod directory;
pub mod evidence;
pub mod exchange;
pub mod front;
mod list;
mod receive;
mod request;
pub mod routing;
pub mod serve;
mod view;
pub mod waiters;
mod watch;

use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::limits::{
    ADMIN_DECODE_BYTES_MAX, DECODE_BYTES_MAX, ENCODE_BYTES_MAX, EXCHANGE_DECODE_BYTES_MAX, REQUEST_MS_MAX,
    TABLES_BYTES_MAX,
};
use crate::reason::Reason;
use crate::tls::accept::Peer;
use crate::wire::pb::admin::admin_service_server::AdminServiceServer;
use crate::wire::pb::directory::directory_service_server::DirectoryServiceServer;
use crate::wire::pb::evidence::evidence_service_server::EvidenceServiceServer;
use crate::wire::pb::exchange::exchange_service_server::ExchangeServiceServer;
use crate::wire::pb::routing::routing_service_server::RoutingServiceServer;
use crate::wire::status::{Refused, to_status};

/// Calls that last as long as the caller likes, by path.
pub const STREAMING: [&str; 9] = [
    "/tongban.exchange.v1.ExchangeService/WatchMessage",
    "/tongban.exchange.v1.ExchangeService/SubmitStream",
    "/tongban.exchange.v1.ExchangeService/Receive",
    "/tongban.exchange.v1.ExchangeService/UploadAttachment",
    "/tongban.exchange.v1.ExchangeService/DownloadAttachment",
    "/tongban.directory.v1.DirectoryService/WatchNotes",
    "/tongban.routing.v1.RoutingService/WatchTables",
    "/tongban.admin.v1.AdminService/RedriveDeadLetters",
    "/grpc.health.v1.Health/Watch",
];

/// Calls that wait for a reply, by path, and milliseconds that they may take at most.
pub const LONG: (&str, u64) = ("/tongban.exchange.v1.ExchangeService/Request", REQUEST_MS_MAX);

/// Everything that can be called.
pub struct Doors {
    pub exchange: exchange::Exchange,
    pub evidence: evidence::Evidence,
    pub directory: directory::Directory,
    pub routing: routing::Routing,
    pub admin: admin::Admin,
}

impl Doors {
    /// Opens the doors, with grpc.health.v1 beside them.
    pub async fn open(self) -> (Routes, Health) {
        let (reporter, health) = health_reporter();
        reporter.set_serving::<ExchangeServiceServer<exchange::Exchange>>().await;
        reporter.set_serving::<EvidenceServiceServer<evidence::Evidence>>().await;
        reporter.set_serving::<DirectoryServiceServer<directory::Directory>>().await;
        reporter.set_serving::<RoutingServiceServer<routing::Routing>>().await;
        reporter.set_serving::<AdminServiceServer<admin::Admin>>().await;
        let exchange = ExchangeServiceServer::new(self.exchange)
            .max_decoding_message_size(EXCHANGE_DECODE_BYTES_MAX)
            .max_encoding_message_size(ENCODE_BYTES_MAX);
        let evidence = EvidenceServiceServer::new(self.evidence)
            .max_decoding_message_size(DECODE_BYTES_MAX)
            .max_encoding_message_size(ENCODE_BYTES_MAX);
        let directory = DirectoryServiceServer::new(self.directory)
            .max_decoding_message_size(DECODE_BYTES_MAX)
            .max_encoding_message_size(ENCODE_BYTES_MAX);
        let staff_only = routing::staff_only(self.routing.own.clone());
        let routing = RoutingServiceServer::new(self.routing)
            .max_decoding_message_size(TABLES_BYTES_MAX)
            .max_encoding_message_size(TABLES_BYTES_MAX);
        let routing = InterceptedService::new(routing, staff_only);
        let routes = Routes::new(health).add_service(exchange).add_service(evidence).add_service(directory);
        let routes = routes.add_service(routing);
        let admin = AdminServiceServer::new(self.admin)
            .max_decoding_message_size(ADMIN_DECODE_BYTES_MAX)
            .max_encoding_message_size(ENCODE_BYTES_MAX);
        let routes = routes.add_service(admin);
        (routes, Health(reporter))
    }
}

/// What the health service says.
pub struct Health(HealthReporter);

impl Health {
    /// Says that no new work should come here, before the connections are asked to go.
    pub async fn draining(&self) {
        self.0.set_service_status("", ServingStatus::NotServing).await;
        self.0.set_not_serving::<ExchangeServiceServer<exchange::Exchange>>().await;
        self.0.set_not_serving::<EvidenceServiceServer<evidence::Evidence>>().await;
        self.0.set_not_serving::<DirectoryServiceServer<directory::Directory>>().await;
        self.0.set_not_serving::<RoutingServiceServer<routing::Routing>>().await;
        self.0.set_not_serving::<AdminServiceServer<admin::Admin>>().await;
    }
}

/// Who calls; the accept loop puts it beside every request.
fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| to_status(&Refused::new(Reason::Internal).with_detail("a call without a peer")))
}
