//! Decides which requests have the shape of a gRPC call, and when a call has had its time. Never looks at who calls or
//! at what a call says, and never routes.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::limits::{CALL_MS_MAX, METADATA_MAX};
use crate::reason::Reason;
use crate::wire::envelope::Fault;
use crate::wire::status::{Refused, to_status, unreadable};

/// When a call must have ended. Handlers find it among the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

/// What the front layer knows of calls.
#[derive(Debug, Clone)]
pub struct Calls {
    /// Paths (`/package.Service/Method`) whose calls last as long as the caller likes.
    pub streaming: HashSet<String>,
    /// Paths of calls that may take longer than others, and how long at most.
    pub long: HashMap<String, Duration>,
    /// How long any other call may take at most.
    pub unary_max: Duration,
}

impl Calls {
    /// The standard ceiling for all calls but those of `streaming`.
    pub fn new<P: Into<String>>(streaming: impl IntoIterator<Item = P>) -> Calls {
        let streaming = streaming.into_iter().map(Into::into).collect();
        Calls { streaming, long: HashMap::new(), unary_max: Duration::from_millis(CALL_MS_MAX) }
    }

    /// The same, where one call may take longer.
    pub fn with_long(mut self, path: impl Into<String>, max: Duration) -> Calls {
        self.long.insert(path.into(), max);
        self
    }

    /// How long this call may take: the caller's own deadline, but no unary call longer than the ceiling.
    fn time_for(&self, path: &str, asked: Option<Duration>) -> Option<Duration> {
        if self.streaming.contains(path) {
            return asked;
        }
        let max = self.long.get(path).copied().unwrap_or(self.unary_max);
        Some(asked.map_or(max, |asked| asked.min(max)))
    }
}

/// Why a request is turned away before routing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Turned {
    /// It is no gRPC call: a plain HTTP status without a body.
    Http(StatusCode),
    /// It is one, and badly made: the faulty metadata.
    Grpc(Fault),
}

impl Turned {
    fn into_response(self) -> Response<Body> {
        match self {
            Turned::Http(status) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                response
            }
            Turned::Grpc(fault) => to_status(&Refused::faults(vec![fault])).into_http(),
        }
    }
}

/// Puts [`Front`] before a service.
#[derive(Debug, Clone)]
pub struct FrontLayer(pub std::sync::Arc<Calls>);

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Front<S> {
        Front { inner, calls: self.0.clone() }
    }
}

/// The strict front of all services.
#[derive(Debug, Clone)]
pub struct Front<S> {
    inner: S,
    calls: std::sync::Arc<Calls>,
}

impl<S, B> Service<Request<B>> for Front<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let asked = match shape(&request).and_then(|()| asked(request.headers())) {
            Ok(asked) => asked,
            Err(turned) => return Box::pin(async move { Ok(turned.into_response()) }),
        };
        let Some(time) = self.calls.time_for(request.uri().path(), asked) else {
            let call = self.inner.call(request);
            return Box::pin(async move { call.await.map(told) });
        };
        let until = Instant::now() + time;
        request.extensions_mut().insert(Deadline(until));
        let call = self.inner.call(request);
        Box::pin(async move {
            match timeout_at(until, call).await {
                Ok(Ok(response)) => Ok(told(response).map(|body| Body::new(Timed::new(body, until)))),
                Ok(Err(never)) => match never {},
                Err(_) => Ok(overdue().into_http()),
            }
        })
    }
}

/// tonic calls this CANCELLED, which says that the caller gave up.
fn overdue() -> Status {
    to_status(&Refused::new(Reason::DeadlineExceeded))
}

/// A request that did not decode is answered before any service sees it, with a status that names no reason: our own say
/// more, and have details. Such an answer stands in the headers alone.
fn told(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if !headers.contains_key(Status::GRPC_STATUS) || headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return response;
    }
    match Status::from_header_map(headers).as_ref().and_then(unreadable) {
        Some(refused) => to_status(&refused).into_http(),
        None => response,
    }
}

/// Keys that may stand once only: whoever reads another of two values than we do could be fooled.
const SINGLE: [(&str, HeaderName); 6] = [
    ("authorization", AUTHORIZATION),
    ("grpc-timeout", HeaderName::from_static("grpc-timeout")),
    ("grpc-encoding", HeaderName::from_static("grpc-encoding")),
    ("traceparent", HeaderName::from_static("traceparent")),
    ("user-agent", USER_AGENT),
    ("content-length", CONTENT_LENGTH),
];

/// Whether the request is a gRPC call over HTTP/2 at all (gRPC over HTTP/2, "Request-Headers"), then whether its
/// metadata is sound.
fn shape<B>(request: &Request<B>) -> Result<(), Turned> {
    let headers = request.headers();
    if request.method() != Method::POST {
        return Err(Turned::Http(StatusCode::METHOD_NOT_ALLOWED));
    }
    if !only(headers, &CONTENT_TYPE, &["application/grpc", "application/grpc+proto"]) {
        return Err(Turned::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if !only(headers, &TE, &["trailers"]) || !plain_target(request) {
        return Err(Turned::Http(StatusCode::BAD_REQUEST));
    }
    if headers.len() > METADATA_MAX {
        return Err(metadata("metadata", format!("must be at most {METADATA_MAX} entries")));
    }
    let twice = |key: &HeaderName| headers.get_all(key).iter().nth(1).is_some();
    match SINGLE.iter().find(|(_, key)| twice(key)) {
        Some((name, _)) => Err(metadata(name, "must stand once")),
        None if headers.contains_key("authorization-bin") => Err(metadata("authorization-bin", "must be absent")),
        None => Ok(()),
    }
}

fn metadata(key: &str, must: impl Into<String>) -> Turned {
    Turned::Grpc(Fault { field: key.to_owned(), must: must.into() })
}

fn only(headers: &HeaderMap, key: &HeaderName, allowed: &[&str]) -> bool {
    let mut values = headers.get_all(key).iter();
    let first = values.next().is_some_and(|value| allowed.iter().any(|allowed| value == allowed));
    first && values.next().is_none()
}

/// No query, and no `host` beside an `:authority` that it differs from.
fn plain_target<B>(request: &Request<B>) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let mut hosts = request.headers().get_all(HOST).iter();
    let same = |host: &HeaderValue| authority.is_some_and(|a| host.as_bytes().eq_ignore_ascii_case(a.as_bytes()));
    request.uri().query().is_none() && hosts.all(same)
}

/// The caller's `grpc-timeout`: one to eight digits and a unit.
fn asked(headers: &HeaderMap) -> Result<Option<Duration>, Turned> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let malformed = || metadata("grpc-timeout", "must be 1 to 8 digits and one of H, M, S, m, u and n");
    value.to_str().ok().and_then(grpc_timeout).map(Some).ok_or_else(malformed)
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 60 * 60),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// An answer's body that ends with DEADLINE_EXCEEDED when the call's time is over.
struct Timed {
    body: Body,
    until: Instant,
    /// Only a body that is waited for needs one.
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Timed {
    fn new(body: Body, until: Instant) -> Timed {
        Timed { body, until, timer: None, over: false }
    }
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let until = self.until;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(timer.as_mut().poll(cx));
        self.over = true;
        let mut trailers = HeaderMap::new();
        overdue().add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Trailers may cut the body short.
        if self.body.is_end_stream() { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_digits_and_a_unit() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(grpc_timeout("0n"), Some(Duration::ZERO));
        for text in ["", "m", "1", "1s", "123456789S", "-1S", "1.5S", "+1S", " 1S", "1S ", "١S", "1 S"] {
            assert_eq!(grpc_timeout(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_unary_call_ends_at_the_earlier_of_two_deadlines() {
        let calls = Calls::new(["/a.B/Stream"]);
        let (s1, s99) = (Duration::from_secs(1), Duration::from_secs(99));
        assert_eq!(calls.time_for("/a.B/Unary", None), Some(Duration::from_millis(CALL_MS_MAX)));
        assert_eq!(calls.time_for("/a.B/Unary", Some(s1)), Some(s1));
        assert_eq!(calls.time_for("/a.B/Unary", Some(s99)), Some(Duration::from_millis(CALL_MS_MAX)));
        let calls = calls.with_long("/a.B/Long", s99);
        assert_eq!(calls.time_for("/a.B/Long", None), Some(s99));
        assert_eq!(calls.time_for("/a.B/Long", Some(s99 + s1)), Some(s99));
        assert_eq!(calls.time_for("/a.B/Unary", Some(s99)), Some(Duration::from_millis(CALL_MS_MAX)));
        assert_eq!(calls.time_for("/a.B/Stream", None), None);
        assert_eq!(calls.time_for("/a.B/Stream", Some(s99)), Some(s99));
    }
}
