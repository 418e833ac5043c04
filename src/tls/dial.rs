//! Decides how a partner's gateway is reached: one address, one TCP connection, one handshake, each stage with its
//! deadline and its own error. Never retries and never chooses between partners; the lane that dials does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;

use crate::limits::{DIAL_KEEPALIVE_S, DIAL_MS, HEADER_LIST_BYTES_MAX, LOCAL_RESETS_MAX};
use crate::tls::config::ALPN;
use crate::tls::gather::Gathered;
use crate::tls::refusal::{Refusal, Refused};

/// At which stage a dial ended, and why.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{0} is not an address of the form https://host:port")]
    Address(Uri),
    #[error("the name of {host} does not resolve: {cause}")]
    Resolve { host: String, cause: io::Error },
    #[error("{host} is at {address}, which is no place of a partner")]
    Astray { host: String, address: SocketAddr },
    #[error("{address} cannot be reached: {cause}")]
    Tcp { address: SocketAddr, cause: io::Error },
    #[error("{address}: the handshake ended: {refused}")]
    Tls { address: SocketAddr, refused: Refused },
    #[error("{address} did not agree on HTTP/2")]
    Alpn { address: SocketAddr },
}

impl DialError {
    /// The dial error somewhere among the causes of `error` (a transport error or a Status of tonic), if there is one.
    pub fn among<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DialError> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(dial) = error.downcast_ref() {
                return Some(dial);
            }
            cause = error.source();
        }
        None
    }

    /// Why the server was refused, when the dial ended in the handshake.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            DialError::Tls { refused, .. } => Some(refused.why),
            DialError::Alpn { .. } => Some(Refusal::Alpn),
            _ => None,
        }
    }
}

/// A connector for tonic that opens TLS with one expected partner.
#[derive(Clone)]
pub struct Dialler {
    config: Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>,
    stage_max: Duration,
    astray: fn(IpAddr) -> bool,
}

impl Dialler {
    /// A dialler with the TLS of [`crate::tls::config::client_config`]; each stage may take `DIAL_MS`.
    pub fn new(config: Arc<ClientConfig>) -> Dialler {
        Dialler::by(move || config.clone())
    }

    /// The same with the TLS of the moment, asked for at each dial: our certificate may have been replaced meanwhile.
    pub fn by(config: impl Fn() -> Arc<ClientConfig> + Send + Sync + 'static) -> Dialler {
        Dialler { config: Arc::new(config), stage_max: Duration::from_millis(DIAL_MS), astray: |_| false }
    }

    /// The same for addresses that others have chosen, the records of partners, by a gateway that listens at `listen`: no
    /// record, and no name server, sends it to its own machine or to what stands on its wire. A gateway that only its own
    /// machine can reach has its partners there too.
    pub fn to_partners(self, listen: IpAddr) -> Dialler {
        let astray: fn(IpAddr) -> bool = match listen.to_canonical().is_loopback() {
            true => is_nobodys,
            false => |address| is_nobodys(address) || address.to_canonical().is_loopback(),
        };
        Dialler { astray, ..self }
    }

    /// The same with another bound for each stage.
    pub fn within(self, stage_max: Duration) -> Dialler {
        Dialler { stage_max, ..self }
    }

    /// A channel to `endpoint` (`https://host:port`) that connects when first used, and again after a break.
    pub fn channel(&self, endpoint: Uri) -> Channel {
        settings(endpoint).connect_with_connector_lazy(self.clone())
    }

    /// Opens one connection to `endpoint`.
    pub async fn dial(&self, endpoint: Uri) -> Result<TlsStream<TcpStream>, DialError> {
        let (host, port) = host_and_port(&endpoint).ok_or(DialError::Address(endpoint.clone()))?;
        let name = ServerName::try_from(host.clone()).map_err(|_| DialError::Address(endpoint))?;
        let (address, tcp) = self.reach(host, port).await?;
        let connector = TlsConnector::from((self.config)());
        let tls_error = |refused| DialError::Tls { address, refused };
        let shaken = timeout(self.stage_max, connector.connect(name, tcp)).await;
        let stream = shaken
            .map_err(|_| tls_error(Refusal::HandshakeTimeout.into()))?
            .map_err(|error| tls_error(Refused::from_handshake(&error)))?;
        if stream.get_ref().1.alpn_protocol() == Some(ALPN) { Ok(stream) } else { Err(DialError::Alpn { address }) }
    }

    /// Tries the host's addresses in the order its resolver gives them; the last failure is told.
    async fn reach(&self, host: String, port: u16) -> Result<(SocketAddr, TcpStream), DialError> {
        let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
        let lookup = timeout(self.stage_max, tokio::net::lookup_host((host.clone(), port))).await;
        let found = match lookup.unwrap_or_else(|_| Err(timed_out())) {
            Ok(found) => found,
            Err(cause) => return Err(DialError::Resolve { host, cause }),
        };
        let mut last = DialError::Resolve { host: host.clone(), cause: io::ErrorKind::NotFound.into() };
        for address in found {
            if (self.astray)(address.ip()) {
                last = DialError::Astray { host: host.clone(), address };
                continue;
            }
            let connected = timeout(self.stage_max, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(timed_out())).and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp)) {
                Ok(tcp) => return Ok((address, tcp)),
                Err(cause) => last = DialError::Tcp { address, cause },
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<Gathered<TlsStream<TcpStream>>>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, endpoint: Uri) -> Self::Future {
        let dialler = self.clone();
        Box::pin(async move { dialler.dial(endpoint).await.map(Gathered::new).map(TokioIo::new) })
    }
}

/// The HTTP/2 side of a connection to a partner, whatever connects. The whole dial may take three stages, so tonic's own
/// deadline, which would hide the stage, stands behind ours.
pub fn settings(endpoint: Uri) -> Endpoint {
    let (every, answer) = DIAL_KEEPALIVE_S;
    Endpoint::from(endpoint)
        .connect_timeout(Duration::from_millis(4 * DIAL_MS))
        .http2_keep_alive_interval(Duration::from_secs(every))
        .keep_alive_timeout(Duration::from_secs(answer))
        .keep_alive_while_idle(true)
        .http2_adaptive_window(true)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_max_local_error_reset_streams(LOCAL_RESETS_MAX)
}

/// Where a cloud's machine asks who it is; the others stand among the link-local addresses.
const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// Whether an address is no single machine's elsewhere: it means none, many, or whatever is on the wire.
fn is_nobodys(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0 || v4 == METADATA,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    local || address.is_unspecified() || address.is_multicast()
}

fn host_and_port(endpoint: &Uri) -> Option<(String, u16)> {
    let host = endpoint.host()?.trim_start_matches('[').trim_end_matches(']');
    let port = endpoint.port_u16()?;
    (endpoint.scheme_str() == Some("https")).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_sends_a_gateway_to_its_own_machine_or_wire() {
        let dialler = |listen: &str| {
            let never = || -> Arc<ClientConfig> { unreachable!("nothing is dialled") };
            Dialler::by(never).to_partners(listen.parse().unwrap())
        };
        let (outside, inside) = (dialler("0.0.0.0"), dialler("127.0.0.1"));
        let rows = [
            ("192.0.2.7", false, false),
            ("10.1.2.3", false, false),
            ("2001:db8::7", false, false),
            ("127.0.0.1", true, false),
            ("127.9.9.9", true, false),
            ("::1", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("169.254.169.254", true, true),
            ("::ffff:169.254.169.254", true, true),
            ("fe80::1", true, true),
            ("100.100.100.200", true, true),
            ("0.0.0.0", true, true),
            ("0.1.2.3", true, true),
            ("::", true, true),
            ("255.255.255.255", true, true),
            ("224.0.0.1", true, true),
            ("ff02::1", true, true),
        ];
        for (address, from_outside, from_inside) in rows {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(((outside.astray)(address), (inside.astray)(address)), (from_outside, from_inside), "{address}");
        }
    }
}
