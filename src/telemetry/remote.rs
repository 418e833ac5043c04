//! Decides who is shown the figures from another machine: people of this gateway's own member, or those that the configuration
//! names, over mutual TLS and HTTP/2; nobody else reaches as far as HTTP. Never keeps a connection for long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Telemetry;
use super::page::page;
use crate::limits::{HEADER_LIST_BYTES_MAX, SCRAPE_MS};
use crate::party::{Member, Party, Role};
use crate::tls::accept::{Accepted, Gate, accept};
use crate::tls::guard::{Guarded, Pace};

/// Who may read the figures.
#[derive(Debug, Clone)]
pub struct Monitors {
    /// Its operators and auditors may, where nobody is named.
    pub own: Member,
    pub named: Vec<Party>,
}

/// What a party that may not read is counted as.
const NO_MONITOR: &str = "no_monitor";

impl Monitors {
    fn may_read(&self, party: &Party) -> bool {
        match self.named.is_empty() {
            true => party.member == self.own && matches!(party.role, Role::Ops(_) | Role::Auditor(_)),
            false => self.named.contains(party),
        }
    }
}

/// Shows the figures to those who may read them, until `stop`.
pub async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    monitors: Monitors,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
) {
    let (door, monitors, end) = (gate.clone(), Arc::new(monitors), stop.clone());
    let host = move |accepted: Accepted| {
        let (gate, monitors, telemetry, end) = (door.clone(), monitors.clone(), telemetry.clone(), end.clone());
        async move {
            let peer = &accepted.peer;
            if !monitors.may_read(&peer.party) {
                gate.counters.refuse(NO_MONITOR);
                return tracing::info!(reason = NO_MONITOR, peer = %peer.address, name = %peer.party, "refused");
            }
            end.run_until_cancelled(answer(accepted, telemetry)).await;
        }
    };
    accept(listener, gate, host, async move { stop.cancelled().await }).await;
}

/// One connection, for as long as one request and its answer may take. Its end is not hurried: a monitor that is told to go
/// before it has read its answer may lose it.
async fn answer(accepted: Accepted, telemetry: Arc<Telemetry>) {
    let Accepted { io, peer, place, .. } = accepted;
    let service = service_fn(move |request: Request<Incoming>| {
        let telemetry = telemetry.clone();
        async move { Ok::<_, Infallible>(page(request.method(), request.uri().path(), &telemetry).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_concurrent_streams(1).max_header_list_size(HEADER_LIST_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(Guarded::new(io, Pace::default())), service);
    tokio::pin!(connection);
    let mut ended = timeout(PATIENCE, connection.as_mut()).await;
    if ended.is_err() {
        connection.as_mut().graceful_shutdown();
        ended = timeout(PATIENCE, connection).await;
    }
    tracing::debug!(name = %peer.party, in_time = ended.is_ok(), "a monitor has looked");
    drop(place);
}

/// For a request and its answer, and once more for the way out.
const PATIENCE: Duration = Duration::from_millis(SCRAPE_MS);
