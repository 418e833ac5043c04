//! Decides who is shown the figures, and for how long one may ask: GET /metrics over HTTP/1.1, a few at once. Never
//! changes anything, and never keeps a connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Telemetry;
use crate::limits::{ACCEPT_BACKOFF_MS, SCRAPE_HEAD_BYTES_MAX, SCRAPE_MS, SCRAPES_AT_ONCE_MAX};

/// OpenMetrics 1.0; whoever reads the older text format of Prometheus reads this too.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Shows the figures to whoever connects, until `stop`.
pub async fn serve(listener: TcpListener, telemetry: Arc<Telemetry>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(SCRAPES_AT_ONCE_MAX));
    let accepting = async {
        loop {
            // The place comes before the socket: who finds none waits in the kernel, until the deadline of those before.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a monitor");
                    sleep(Duration::from_millis(*ACCEPT_BACKOFF_MS.end())).await;
                    continue;
                }
            };
            let telemetry = telemetry.clone();
            tokio::spawn(async move {
                let answered = timeout(Duration::from_millis(SCRAPE_MS), answer(socket, telemetry)).await;
                tracing::debug!(in_time = answered.is_ok(), "a monitor has looked");
                drop(place);
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
}

/// One connection, one answer.
async fn answer(socket: TcpStream, telemetry: Arc<Telemetry>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let telemetry = telemetry.clone();
        async move { Ok::<_, Infallible>(page(request.method(), request.uri().path(), &telemetry).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).keep_alive(false).half_close(false).max_buf_size(SCRAPE_HEAD_BYTES_MAX);
    builder.serve_connection(TokioIo::new(socket), service).await
}

/// What is answered to a request.
pub(super) async fn page(method: &Method, path: &str, telemetry: &Telemetry) -> Response<String> {
    let (status, text) = match (path, method) {
        ("/metrics", &Method::GET) => match telemetry.text().await {
            Some(text) => (StatusCode::OK, text),
            None => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        },
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    match status {
        StatusCode::OK => drop(response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS)),
        StatusCode::METHOD_NOT_ALLOWED => drop(response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"))),
        _ => {}
    }
    response
}
