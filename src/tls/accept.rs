//! Decides which sockets become connections: how many at once, from whom, and within which time the handshake must end.
//! Never reads past the handshake; what a known peer says is for `grpc`.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use rustix::process::{Resource, getrlimit};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::limits::{
    ACCEPT_BACKOFF_MS, CONNECTIONS_MAX, DESCRIPTORS_RESERVED, HANDSHAKE_MS, HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE_MAX,
};
use crate::party::Party;
use crate::time::Time;
use crate::tls::config::{ALPN, Moment, SharedTrust};
use crate::tls::profile::Usage;
use crate::tls::refusal::{Refusal, Refused};
use crate::tls::trust::Trust;

/// Who is at the other end of a connection: what every handler reads, instead of any header.
#[derive(Debug, Clone)]
pub struct Peer(Arc<About>);

/// What the handshake proved.
#[derive(Debug)]
pub struct About {
    pub party: Party,
    /// The certificate had no URI name; its key is pinned.
    pub pinned: bool,
    pub address: SocketAddr,
    /// SHA-256 of the certificate's DER.
    pub certificate_sha256: [u8; 32],
    /// The certificate's last moment.
    pub not_after: Time,
    /// As presented, the peer's own first.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Deref for Peer {
    type Target = About;

    fn deref(&self) -> &About {
        &self.0
    }
}

impl Peer {
    fn proven(trust: &Trust, address: SocketAddr, chain: Vec<CertificateDer<'static>>) -> Result<Peer, Refusal> {
        let leaf = chain.first().ok_or(Refusal::NoCertificate)?;
        let whose = trust.whose(leaf)?;
        let certificate_sha256 = Sha256::digest(leaf).into();
        let (party, pinned, not_after) = (whose.party, whose.pinned, whose.not_after);
        Ok(Peer(Arc::new(About { party, pinned, address, certificate_sha256, not_after, chain })))
    }

    /// Whether `trust` would let this peer in at `now`: asked again of live connections when the trust is replaced.
    pub fn again(&self, trust: &Trust, now: UnixTime) -> Result<(), Refused> {
        let identity = trust.verify(&self.chain, Usage::Client, now)?;
        if identity.party == self.party { Ok(()) } else { Err(Refusal::WrongPeer.into()) }
    }
}

/// A connection whose handshake is done. It counts as open until `place` is dropped.
pub struct Accepted<I = TlsStream<TcpStream>> {
    pub io: I,
    pub peer: Peer,
    /// The trust that stood when the handshake began.
    pub trust: Arc<Trust>,
    pub place: Place,
}

/// A connection's share of the bounds.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// How many connections and handshakes at once, and how long one handshake.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub connections_max: usize,
    pub handshakes_max: usize,
    pub handshakes_per_source_max: usize,
    pub handshake: Duration,
}

impl Default for Bounds {
    /// The bounds of `limits`, lowered to what the process's file descriptors allow.
    fn default() -> Bounds {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let room = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
        Bounds {
            connections_max: CONNECTIONS_MAX.min(room).max(1),
            handshakes_max: HANDSHAKES_MAX,
            handshakes_per_source_max: HANDSHAKES_PER_SOURCE_MAX,
            handshake: Duration::from_millis(HANDSHAKE_MS),
        }
    }
}

/// What has happened at the gate since the start.
#[derive(Debug, Default)]
pub struct Counters {
    refusals: DashMap<&'static str, u64>,
    accepted: AtomicU64,
}

impl Counters {
    /// Counts one refusal, or one connection that had to be closed, under its code.
    pub fn refuse(&self, code: &'static str) {
        *self.refusals.entry(code).or_default() += 1;
    }

    /// Refusals for one reason.
    pub fn refused(&self, code: &str) -> u64 {
        self.refusals.get(code).map_or(0, |count| *count)
    }

    /// Refusals for each reason that has occurred.
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.refusals.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    /// Handshakes that ended well.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// What stands behind a listening socket. The TLS and the trust are replaced whole while it runs.
pub struct Gate {
    pub config: Arc<ArcSwap<ServerConfig>>,
    pub trust: SharedTrust,
    pub moment: Moment,
    pub bounds: Bounds,
    pub counters: Arc<Counters>,
}

/// Where connections come from, and how their peers prove who they are.
pub trait Listener: Send + Sync {
    /// A connection before its handshake.
    type Socket: Send + 'static;
    /// The same after it.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and from where.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// The handshake: what it leaves of the connection, and the certificates that it has proven to be the peer's. Who may
    /// enter, and for how long it is waited, is for the gate to say.
    fn shake(gate: &Gate, socket: Self::Socket) -> impl Future<Output = Result<(Self::Io, Chain), Refused>> + Send;
}

/// Certificates as they were presented, the peer's own first.
pub type Chain = Vec<CertificateDer<'static>>;

/// TLS over TCP.
impl Listener for TcpListener {
    type Socket = TcpStream;
    type Io = TlsStream<TcpStream>;

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }

    async fn shake(gate: &Gate, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, Chain), Refused> {
        // Without it every answer of a few bytes would wait for the peer's delayed acknowledgement.
        tcp.set_nodelay(true).map_err(|_| Refusal::Closed)?;
        let acceptor = TlsAcceptor::from(gate.config.load_full());
        let io = acceptor.accept(tcp).await.map_err(|error| Refused::from_handshake(&error))?;
        let (_, session) = io.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err(Refusal::Alpn.into());
        }
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Ok((io, chain))
    }
}

impl Gate {
    /// Counts a refusal and writes its one line.
    pub fn refuse(&self, refused: &Refused, address: SocketAddr) {
        self.counters.refuse(refused.why.code());
        info!(reason = refused.why.code(), peer = %address, name = refused.name.as_deref(), "refused");
    }

    /// One handshake, to its end or its deadline.
    async fn shake<L: Listener>(
        &self,
        socket: L::Socket,
        address: SocketAddr,
        place: Place,
    ) -> Result<Accepted<L::Io>, Refused> {
        let trust = self.trust.load_full();
        let shaken = timeout(self.bounds.handshake, L::shake(self, socket)).await;
        let (io, chain) = shaken.map_err(|_| Refusal::HandshakeTimeout)??;
        let peer = Peer::proven(&trust, address, chain)?;
        Ok(Accepted { io, peer, trust, place })
    }
}

/// Accepts until `stop` is ready, and hands each connection whose handshake succeeds to `serve`, in a task of its own.
pub async fn accept<L, F, S>(listener: L, gate: Arc<Gate>, serve: F, stop: impl Future<Output = ()>)
where
    L: Listener + 'static,
    F: Fn(Accepted<L::Io>) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(gate.bounds.connections_max));
    let handshakes = Arc::new(Semaphore::new(gate.bounds.handshakes_max));
    let pending = Arc::new(Pending::new(gate.bounds.handshakes_per_source_max));
    let mut pause_ms = *ACCEPT_BACKOFF_MS.start();
    tokio::pin!(stop);
    loop {
        // Both permits come before the socket: what cannot be served waits in the kernel and costs no descriptor.
        let next = async {
            let connection = connections.clone().acquire_owned().await;
            let handshake = handshakes.clone().acquire_owned().await;
            (connection, handshake, listener.next().await)
        };
        let (connection, handshake, next) = tokio::select! {
            () = &mut stop => return,
            next = next => next,
        };
        let (Ok(permit), Ok(handshake)) = (connection, handshake) else { return };
        match next {
            Ok((socket, address)) => {
                pause_ms = *ACCEPT_BACKOFF_MS.start();
                let task = Task { gate: gate.clone(), place: Place { _permit: permit }, handshake, address };
                tokio::spawn(task.run::<L, F, S>(socket, pending.enter(address.ip()), serve.clone()));
            }
            Err(error) if is_of_one_socket(&error) => {}
            Err(error) => {
                warn!(%error, pause_ms, "cannot accept");
                sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(*ACCEPT_BACKOFF_MS.end());
            }
        }
    }
}

/// Errors that say nothing about the next socket. All others (EMFILE, ENFILE, ENOMEM, ENOBUFS) would come back at once.
fn is_of_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

struct Task {
    gate: Arc<Gate>,
    place: Place,
    handshake: OwnedSemaphorePermit,
    address: SocketAddr,
}

impl Task {
    async fn run<L, F, S>(self, socket: L::Socket, shaking: Shaking, serve: F)
    where
        L: Listener,
        F: Fn(Accepted<L::Io>) -> S,
        S: Future<Output = ()>,
    {
        let Task { gate, place, handshake, address } = self;
        let shaken = tokio::select! {
            shaken = gate.shake::<L>(socket, address, place) => shaken,
            () = shaking.evicted() => Err(Refusal::SourceCrowded.into()),
        };
        drop((shaking, handshake));
        match shaken {
            Ok(accepted) => {
                gate.counters.accepted.fetch_add(1, Ordering::Relaxed);
                serve(accepted).await;
            }
            Err(refused) => gate.refuse(&refused, address),
        }
    }
}

/// Handshakes under way by source. When one source has too many, its oldest gives way: an honest handshake takes
/// milliseconds, so the oldest is the one that only waits.
struct Pending {
    per_source_max: usize,
    sources: Mutex<HashMap<IpAddr, VecDeque<Arc<Notify>>>>,
}

impl Pending {
    fn new(per_source_max: usize) -> Pending {
        Pending { per_source_max: per_source_max.max(1), sources: Mutex::default() }
    }

    fn enter(self: &Arc<Pending>, address: IpAddr) -> Shaking {
        let (source, evict) = (source(address), Arc::new(Notify::new()));
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = sources.entry(source).or_default();
        if waiting.len() >= self.per_source_max
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.notify_one();
        }
        waiting.push_back(evict.clone());
        Shaking { source, evict, pending: self.clone() }
    }
}

/// One handshake's entry among the pending ones.
struct Shaking {
    source: IpAddr,
    evict: Arc<Notify>,
    pending: Arc<Pending>,
}

impl Shaking {
    async fn evicted(&self) {
        self.evict.notified().await;
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        let mut sources = self.pending.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = sources.get_mut(&self.source) {
            waiting.retain(|other| !Arc::ptr_eq(other, &self.evict));
            if waiting.is_empty() {
                sources.remove(&self.source);
            }
        }
    }
}

/// Who counts as one source: an IPv4 address, or the /64 that one subscriber holds in IPv6.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}
