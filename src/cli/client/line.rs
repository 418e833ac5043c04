//! Decides how the connection to the gateway comes about: when first used, and patiently with a gateway that has only just
//! been started. Never sends anything twice: only a port on which nobody listens is tried again.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::limits::HEADER_LIST_BYTES_MAX;
use crate::tls::dial::{DialError, Dialler};
use crate::tls::gather::Gathered;

/// How often a port on which nobody listens is tried.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// A channel to `gateway` (`https://host:port`) that connects with the first call. Only within a runtime.
pub fn channel(dialler: Dialler, gateway: Uri, patience: Duration) -> Channel {
    let until = Instant::now() + patience;
    let connector = tower::service_fn(move |uri| {
        let dialler = dialler.clone();
        async move { dial(&dialler, uri, until).await.map(Gathered::new).map(TokioIo::new) }
    });
    Endpoint::from(gateway)
        .http2_adaptive_window(true)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .connect_with_connector_lazy(connector)
}

async fn dial(dialler: &Dialler, uri: Uri, until: Instant) -> Result<TlsStream<TcpStream>, DialError> {
    loop {
        match dialler.dial(uri.clone()).await {
            Err(DialError::Tcp { cause, .. })
                if cause.kind() == ErrorKind::ConnectionRefused && Instant::now() < until =>
            {
                tokio::time::sleep(TRY_EVERY).await;
            }
            ended => return ended,
        }
    }
}
