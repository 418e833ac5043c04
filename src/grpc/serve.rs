//! Decides how long a connection lives and how much of HTTP/2 it may use, and serves the routes on it. Never opens a
//! call: that is the routes' work, behind the front layer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::Oneshot;
use tower::{Layer, ServiceExt};
use tracing::{debug, info, warn};

use crate::chance;
use crate::grpc::front::{Calls, Front, FrontLayer};
use crate::grpc::tally::{Tallied, Tally};
use crate::limits::{
    CONNECTION_AGE_MS, CONNECTION_GRACE_MS, CONNECTIONS_PER_PARTY_MAX, DRAIN_MS, HEADER_LIST_BYTES_MAX,
    HTTP2_FRAME_BYTES_MAX, KEEPALIVE_S, LOCAL_RESETS_MAX, SEND_BUFFER_BYTES_MAX, STREAMS_PER_CONNECTION_MAX,
    WINDOW_BYTES,
};
use crate::tls::accept::{Accepted, Gate, Listener, Peer, accept};
use crate::tls::connections::{Connections, Entered, Order};
use crate::tls::gather::Gathered;
use crate::tls::guard::{Guarded, Pace};
use crate::tls::refusal::Refusal;

/// How long connections live, and how they end.
#[derive(Debug, Clone)]
pub struct Lifetime {
    /// Age at which a connection is asked to go, give or take a tenth.
    pub age: Duration,
    /// From that to the cut.
    pub grace: Duration,
    /// How long a stopping server waits for its calls.
    pub drain: Duration,
    pub per_party_max: usize,
    pub pace: Pace,
}

impl Default for Lifetime {
    fn default() -> Lifetime {
        Lifetime {
            age: Duration::from_millis(CONNECTION_AGE_MS),
            grace: Duration::from_millis(CONNECTION_GRACE_MS),
            drain: Duration::from_millis(DRAIN_MS),
            per_party_max: CONNECTIONS_PER_PARTY_MAX,
            pace: Pace::default(),
        }
    }
}

/// What a server serves with.
pub struct Serving {
    pub gate: Arc<Gate>,
    pub connections: Connections,
    pub calls: Arc<Calls>,
    pub lifetime: Lifetime,
    pub tally: Tally,
}

/// Serves `routes` on every connection that the gate lets in, until `stop`; then takes no more, lets calls under way
/// end within the drain time, and cuts what is left. Returns when no connection is open.
pub async fn serve<L>(listener: L, serving: Serving, routes: Routes, stop: impl Future<Output = ()>)
where
    L: Listener + 'static,
{
    let Serving { gate, connections, calls, lifetime, tally } = serving;
    let drain = lifetime.drain;
    let front = tally.over(FrontLayer(calls).layer(routes.prepare()));
    let shared = Arc::new(Shared { gate: gate.clone(), connections: connections.clone(), lifetime, front });
    accept(listener, gate, move |accepted| shared.clone().host(accepted), stop).await;
    let open = connections.drain();
    info!(open, "draining");
    if timeout(drain, connections.all_ended()).await.is_err() {
        // Not inside the log line: its fields are not even computed when nobody listens.
        let open = connections.close_where(|_| true);
        warn!(open, "cutting connections that did not end");
        connections.all_ended().await;
    }
}

struct Shared {
    gate: Arc<Gate>,
    connections: Connections,
    lifetime: Lifetime,
    front: Tallied<Front<Routes>>,
}

impl Shared {
    /// Serves one connection to its end.
    async fn host<I>(self: Arc<Shared>, accepted: Accepted<I>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Accepted { io, peer, trust, place } = accepted;
        let Some(mut entered) = self.connections.enter(peer.clone(), self.lifetime.per_party_max) else {
            return self.gate.refuse(&Refusal::PartyCrowded.into(), peer.address);
        };
        // A trust stored during the handshake has not judged this peer, and whoever stored it could not see it either.
        let now_trusted = self.gate.trust.load_full();
        if !Arc::ptr_eq(&trust, &now_trusted)
            && let Err(refused) = peer.again(&now_trusted, self.gate.moment.unix())
        {
            return self.gate.refuse(&refused, peer.address);
        }
        let guarded = Guarded::new(Gathered::new(io), self.lifetime.pace);
        let breach = guarded.breach();
        let known = Known { front: self.front.clone(), peer: peer.clone() };
        let connection = http2_builder().serve_connection(TokioIo::new(guarded), known);
        let ended = self.drive(connection, &mut entered).await;
        if let Some(breach) = breach.get() {
            self.gate.counters.refuse(breach.code());
            info!(reason = breach.code(), peer = %peer.address, name = %peer.party, "cut");
        } else if let Err(error) = ended {
            debug!(%error, peer = %peer.address, name = %peer.party, "connection ended");
        }
        drop(place);
    }

    async fn drive<I>(&self, connection: Connection<I>, entered: &mut Entered) -> Result<(), hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = entered.told(Order::Drain) => {}
            () = sleep(aged(self.lifetime.age)) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => ended,
            () = entered.told(Order::Cut) => Ok(()),
            () = sleep(self.lifetime.grace) => Ok(()),
        }
    }
}

type Connection<I> = http2::Connection<TokioIo<Guarded<Gathered<I>>>, Known, TokioExecutor>;

/// The routes as one peer sees them: every request carries who sent it.
struct Known {
    front: Tallied<Front<Routes>>,
    peer: Peer,
}

impl Service<Request<Incoming>> for Known {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Oneshot<Tallied<Front<Routes>>, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.front.clone().oneshot(request)
    }
}

/// Every bound of HTTP/2 set by name: most of hyper's and tonic's own are absent or unbounded.
fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(KEEPALIVE_S.0))
        .keep_alive_timeout(Duration::from_secs(KEEPALIVE_S.1))
        .initial_stream_window_size(WINDOW_BYTES.0)
        .initial_connection_window_size(WINDOW_BYTES.1)
        .max_frame_size(HTTP2_FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .auto_date_header(false);
    builder
}

/// The age of one connection: within a tenth of the standard, so that clients do not all come back at once.
fn aged(age: Duration) -> Duration {
    let chance = chance::bytes().map_or(u32::MAX / 2, u32::from_be_bytes);
    age.mul_f64(0.9 + 0.2 * f64::from(chance) / f64::from(u32::MAX))
}
