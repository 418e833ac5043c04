//! Decides what a caller may reach over gRPC and in which shape. Never does the work itself: it hands over and waits.

pub mod admin;
pub mod attachments;
mod cancel;
pub mod directory;
pub mod evidence;
pub mod exchange;
pub mod front;
pub mod health;
pub mod list;
mod receive;
pub mod record;
pub mod reflection;
mod request;
pub mod routing;
pub mod serve;
pub mod tally;
mod view;
pub mod waiters;
mod watch;

use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tonic_health::pb::health_server::HealthServer;

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
use crate::wire::pb::reflection::v1::server_reflection_server::ServerReflectionServer;
use crate::wire::pb::reflection::v1alpha::server_reflection_server::ServerReflectionServer as ServerReflectionAlphaServer;
use crate::wire::pb::routing::routing_service_server::RoutingServiceServer;
use crate::wire::status::{Refused, to_status};

/// Calls that last as long as the caller likes, by path.
pub const STREAMING: [&str; 11] = [
    "/tongban.exchange.v1.ExchangeService/WatchMessage",
    "/tongban.exchange.v1.ExchangeService/SubmitStream",
    "/tongban.exchange.v1.ExchangeService/Receive",
    "/tongban.exchange.v1.ExchangeService/UploadAttachment",
    "/tongban.exchange.v1.ExchangeService/DownloadAttachment",
    "/tongban.directory.v1.DirectoryService/WatchNotes",
    "/tongban.routing.v1.RoutingService/WatchTables",
    "/tongban.admin.v1.AdminService/RedriveDeadLetters",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
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
    pub health: health::Health,
    pub reflection: reflection::Reflection,
}

/// The services whose health is that of the gateway.
pub const SERVICES: [&str; 5] = [
    <ExchangeServiceServer<exchange::Exchange> as NamedService>::NAME,
    <EvidenceServiceServer<evidence::Evidence> as NamedService>::NAME,
    <DirectoryServiceServer<directory::Directory> as NamedService>::NAME,
    <RoutingServiceServer<routing::Routing> as NamedService>::NAME,
    <AdminServiceServer<admin::Admin> as NamedService>::NAME,
];

impl Doors {
    /// Opens the doors.
    pub fn open(self) -> Routes {
        let health = HealthServer::new(self.health).max_decoding_message_size(DECODE_BYTES_MAX);
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
        let reflection = ServerReflectionServer::new(self.reflection.clone())
            .max_decoding_message_size(DECODE_BYTES_MAX)
            .max_encoding_message_size(ENCODE_BYTES_MAX);
        let reflection_alpha = ServerReflectionAlphaServer::new(self.reflection)
            .max_decoding_message_size(DECODE_BYTES_MAX)
            .max_encoding_message_size(ENCODE_BYTES_MAX);
        routes.add_service(admin).add_service(reflection).add_service(reflection_alpha)
    }
}

/// Who calls; the accept loop puts it beside every request.
fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| to_status(&Refused::new(Reason::Internal).with_detail("a call without a peer")))
}
