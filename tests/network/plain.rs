//! Decides how the parties of a simulated network speak: in the clear, and who dials first shows a certificate, which is
//! believed. What TLS proves is proven elsewhere, over real sockets; here everything above it runs.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tongban::limits::DIAL_MS;
use tongban::tls::accept::{Chain, Gate, Listener};
use tongban::tls::dial::settings;
use tongban::tls::refusal::{Refusal, Refused};
use tonic::transport::{Channel, Uri};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};

/// Where every gateway listens.
const PORT: u16 = 8443;

/// Where a gateway takes connections.
pub struct Door(TcpListener);

impl Door {
    pub async fn open() -> io::Result<Door> {
        TcpListener::bind(("0.0.0.0", PORT)).await.map(Door)
    }
}

impl Listener for Door {
    type Socket = TcpStream;
    type Io = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    async fn shake(_: &Gate, mut socket: TcpStream) -> Result<(TcpStream, Chain), Refused> {
        let shown = shown(&mut socket).await.map_err(|_| Refusal::Closed)?;
        Ok((socket, vec![shown]))
    }
}

async fn shown(socket: &mut TcpStream) -> io::Result<CertificateDer<'static>> {
    let mut der = vec![0; usize::from(socket.read_u16().await?)];
    socket.read_exact(&mut der).await?;
    Ok(CertificateDer::from(der))
}

/// A channel of the party with this certificate to the gateway of `host`; it connects when it is first used, and again
/// after a break.
pub fn channel(own: CertificateDer<'static>, host: &'static str) -> Channel {
    let connect = move |_: Uri| {
        let own = own.clone();
        async move {
            let mut socket = in_time(TcpStream::connect((host, PORT))).await?;
            let length = u16::try_from(own.len()).map_err(io::Error::other)?;
            socket.write_all(&[&length.to_be_bytes(), own.as_ref()].concat()).await?;
            Ok::<_, io::Error>(TokioIo::new(socket))
        }
    };
    settings(Uri::from_static("https://gateway.example:443")).connect_with_connector_lazy(service_fn(connect))
}

/// As long as a real dial waits for TCP.
async fn in_time<T>(connected: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(Duration::from_millis(DIAL_MS), connected).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
