//! Claims of the front layer: what has not the shape of a gRPC call never reaches a service, and a call ends when its
//! time is over, with the status that says so.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::gate::{PATIENCE, Running, dialler, share, start_with};
use crate::pki::{AWAY, Ca, HOME, gateway, trusted};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tongban::grpc::front::Deadline;
use tongban::grpc::serve::Lifetime;
use tongban::tls::accept::{Bounds, Peer};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

/// A service that says who called, or never answers, or answers with a body that never ends.
#[derive(Clone, Default)]
struct Echo {
    calls: Arc<AtomicU32>,
}

impl NamedService for Echo {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let who = request.extensions().get::<Peer>().map(|peer| peer.party.to_string()).unwrap_or_default();
        let deadline = request.extensions().get::<Deadline>().is_some();
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            match path.rsplit('/').next() {
                Some("Never") => std::future::pending().await,
                Some("Watch") => Ok(answer(Body::new(Endless))),
                _ => {
                    let mut response = answer(Body::empty());
                    response.headers_mut().insert("grpc-status", "0".parse().unwrap());
                    response.headers_mut().insert("x-peer", who.parse().unwrap());
                    response.headers_mut().insert("x-deadline", deadline.to_string().parse().unwrap());
                    Ok(response)
                }
            }
        })
    }
}

fn answer(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

struct Scene {
    server: Running,
    sender: SendRequest<Body>,
    calls: Arc<AtomicU32>,
}

impl Scene {
    async fn new() -> Scene {
        let (home, away) = (Ca::root("home root"), Ca::root("away root"));
        let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away)]);
        let echo = Echo::default();
        let calls = echo.calls.clone();
        let own = home.issue(&gateway(HOME)).own();
        let (bounds, lifetime) = (Bounds::default(), Lifetime::default());
        let server = start_with(trust.clone(), own, Routes::new(echo), bounds, lifetime).await;
        let dialler = dialler(trust, away.issue(&gateway(AWAY)).own(), HOME);
        let io = dialler.dial(format!("https://{}", server.address).parse().unwrap()).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Scene { server, sender, calls }
    }

    async fn send(&mut self, request: http::request::Builder) -> Response<hyper::body::Incoming> {
        timeout(PATIENCE, self.sender.send_request(request.body(Body::empty()).unwrap())).await.unwrap().unwrap()
    }
}

fn good() -> http::request::Builder {
    to("/grpc.health.v1.Health/Check")
}

fn to(path: &str) -> http::request::Builder {
    let request = Request::post(format!("https://gateway{path}"));
    request.header("content-type", "application/grpc").header("te", "trailers")
}

fn bare(method: &str, content_type: Option<&str>) -> http::request::Builder {
    let request = Request::builder().method(method).uri("https://gateway/grpc.health.v1.Health/Check");
    let request = request.header("te", "trailers");
    if let Some(content_type) = content_type { request.header("content-type", content_type) } else { request }
}

/// With `content-type`, `te` and the `content-length` that hyper adds, three more than `count`.
fn many(count: usize) -> http::request::Builder {
    (0..count).fold(good(), |request, n| request.header(format!("x-{n}"), "v"))
}

/// HTTP status, and gRPC status where there is one.
type Row = (&'static str, fn() -> http::request::Builder, (u16, Option<&'static str>));

const ROWS: &[Row] = &[
    ("a call", good, (200, Some("0"))),
    ("a call with +proto", || bare("POST", Some("application/grpc+proto")), (200, Some("0"))),
    ("host that agrees", || good().header("host", "gateway"), (200, Some("0"))),
    ("host that agrees in capitals", || good().header("host", "GATEWAY"), (200, Some("0"))),
    ("64 keys", || many(61), (200, Some("0"))),
    ("a timeout", || good().header("grpc-timeout", "10S"), (200, Some("0"))),
    ("GET", || bare("GET", Some("application/grpc")), (405, None)),
    ("PUT", || bare("PUT", Some("application/grpc")), (405, None)),
    ("HEAD", || bare("HEAD", Some("application/grpc")), (405, None)),
    ("OPTIONS", || bare("OPTIONS", Some("application/grpc")), (405, None)),
    ("a method of one's own", || bare("BREW", Some("application/grpc")), (405, None)),
    ("JSON", || bare("POST", Some("application/json")), (415, None)),
    ("text, as a browser's form", || bare("POST", Some("text/plain")), (415, None)),
    ("grpc-web", || bare("POST", Some("application/grpc-web")), (415, None)),
    ("grpc+json", || bare("POST", Some("application/grpc+json")), (415, None)),
    ("grpc with a parameter", || bare("POST", Some("application/grpc; charset=utf-8")), (415, None)),
    ("grpc in capitals", || bare("POST", Some("application/GRPC")), (415, None)),
    ("no content type", || bare("POST", None), (415, None)),
    ("two content types", || good().header("content-type", "application/grpc"), (415, None)),
    (
        "no te",
        || Request::post("https://gateway/grpc.health.v1.Health/Check").header("content-type", "application/grpc"),
        (400, None),
    ),
    ("two te", || good().header("te", "trailers"), (400, None)),
    ("foreign host", || good().header("host", "elsewhere"), (400, None)),
    ("two hosts, one foreign", || good().header("host", "gateway").header("host", "elsewhere"), (400, None)),
    ("a query", || to("/grpc.health.v1.Health/Check?x=1"), (400, None)),
    ("an empty query", || to("/grpc.health.v1.Health/Check?"), (400, None)),
    ("65 keys", || many(62), (200, Some("3"))),
    ("two timeouts", || good().header("grpc-timeout", "1S").header("grpc-timeout", "9S"), (200, Some("3"))),
    ("two authorizations", || good().header("authorization", "a").header("authorization", "b"), (200, Some("3"))),
    ("authorization as bytes", || good().header("authorization-bin", "YQ"), (200, Some("3"))),
    ("two traceparents", || good().header("traceparent", "a").header("traceparent", "b"), (200, Some("3"))),
    ("a timeout without a unit", || good().header("grpc-timeout", "10"), (200, Some("3"))),
    ("a timeout of nine digits", || good().header("grpc-timeout", "123456789S"), (200, Some("3"))),
    ("a negative timeout", || good().header("grpc-timeout", "-1S"), (200, Some("3"))),
    ("an empty timeout", || good().header("grpc-timeout", ""), (200, Some("3"))),
    ("no time at all", || to("/grpc.health.v1.Health/Never").header("grpc-timeout", "0n"), (200, Some("4"))),
    ("a method nobody has", || to("/nobody.v1.Nobody/Check"), (200, Some("12"))),
];

#[tokio::test]
async fn only_the_shape_of_a_call_reaches_a_service() {
    let mut scene = Scene::new().await;
    let mut wrong = Vec::new();
    for (what, request, expected) in ROWS {
        let before = scene.calls.load(Ordering::SeqCst);
        let answer = scene.send(request()).await;
        let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap());
        let seen = (answer.status().as_u16(), status);
        let reached = scene.calls.load(Ordering::SeqCst) - before;
        let may_reach = matches!(expected.1, Some("0" | "4"));
        if seen != *expected || (reached > 0 && !may_reach) {
            wrong.push(format!("{what}: expected {expected:?}, saw {seen:?}, reached the service {reached} times"));
        }
        if answer.status() != 200 && !http_body::Body::is_end_stream(answer.body()) {
            wrong.push(format!("{what}: refused with a body"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
    assert_eq!(scene.server.connections.open(), 1, "no refusal ends the connection");
}

#[tokio::test]
async fn a_handler_sees_its_peer_and_its_deadline() {
    let mut scene = Scene::new().await;
    let answer = scene.send(good()).await;
    assert_eq!(answer.headers()["x-peer"], gateway(AWAY));
    assert_eq!(answer.headers()["x-deadline"], "true");
}

#[tokio::test]
async fn a_call_that_outlives_its_time_ends_with_deadline_exceeded() {
    let mut scene = Scene::new().await;
    let answer = scene.send(to("/grpc.health.v1.Health/Never").header("grpc-timeout", "20m")).await;
    assert_eq!(answer.headers()["grpc-status"], "4");
}

#[tokio::test]
async fn a_stream_that_outlives_its_callers_time_ends_with_deadline_exceeded_in_its_trailers() {
    let mut scene = Scene::new().await;
    let answer = scene.send(to("/grpc.health.v1.Health/Watch").header("grpc-timeout", "20m")).await;
    assert_eq!(answer.headers().get("grpc-status"), None);
    let mut body = answer.into_body();
    let frame =
        timeout(PATIENCE, std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)));
    let trailers = frame.await.unwrap().unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "4");
}

#[tokio::test]
async fn a_unary_call_without_a_deadline_has_half_a_minute_and_a_stream_has_none() {
    let mut scene = Scene::new().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let answer =
        scene.sender.send_request(to("/grpc.health.v1.Health/Never").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
    assert!((Duration::from_secs(30)..Duration::from_secs(31)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let stream =
        scene.sender.send_request(to("/grpc.health.v1.Health/Watch").body(Body::empty()).unwrap()).await.unwrap();
    let mut body = stream.into_body();
    let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx));
    assert!(timeout(Duration::from_secs(600), frame).await.is_err(), "the stream ended");
}
