//! Decides who is shown the figures from another machine: people of this gateway's own member, or those that the configuration
//! names, over mutual TLS and HTTP/2; nobody else reaches as far as HTTP. Never keeps a connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
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
    let (door, monitors) = (gate.clone(), Arc::new(monitors));
    let host = move |accepted: Accepted| {
        let (gate, monitors, telemetry) = (door.clone(), monitors.clone(), telemetry.clone());
        async move {
            let peer = &accepted.peer;
            if !monitors.may_read(&peer.party) {
                gate.counters.refuse(NO_MONITOR);
                return tracing::info!(reason = NO_MONITOR, peer = %peer.address, name = %peer.party, "refused");
            }
            let (name, answered) = (peer.party.clone(), answer(accepted, telemetry));
            let in_time = timeout(Duration::from_millis(SCRAPE_MS), answered).await.is_ok();
            tracing::debug!(%name, in_time, "a monitor has looked");
        }
    };
    accept(listener, gate, host, async move { stop.cancelled().await }).await;
}

/// One connection: once something was answered on it, what was asked meanwhile is answered too, and it ends.
async fn answer(accepted: Accepted, telemetry: Arc<Telemetry>) -> Result<(), hyper::Error> {
    let Accepted { io, place, .. } = accepted;
    let answered = Arc::new(Notify::new());
    let tell = answered.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (telemetry, tell) = (telemetry.clone(), tell.clone());
        async move {
            let response = page(request.method(), request.uri().path(), &telemetry).await;
            tell.notify_one();
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_concurrent_streams(1).max_header_list_size(HEADER_LIST_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(Guarded::new(io, Pace::default())), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => return ended,
        () = answered.notified() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    drop(place);
    ended
}
