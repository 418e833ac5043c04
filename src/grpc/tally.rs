//! Decides how calls are counted: by the service and method of the descriptor, and by how they ended. Never takes a label
//! from a caller, and never changes an answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::ledger::OTHER;
use crate::reason::Reason;
use crate::wire::pb::DESCRIPTORS;
use crate::wire::status::from_status;

/// Seconds of a call, as the conventions advise (OpenTelemetry, "Semantic conventions for RPC metrics").
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Service, method and gRPC status of a call.
pub type CallLabels = [(&'static str, String); 3];

/// The counts of all calls; clones share them.
#[derive(Clone, Debug)]
pub struct Tally {
    known: Arc<HashMap<String, Arc<Method>>>,
    /// Calls by how long they took; a stream's time is its whole life.
    pub durations: Family<CallLabels, Histogram, fn() -> Histogram>,
    /// Calls that ended with a reason of the catalogue, by its code.
    pub refusals: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Default for Tally {
    fn default() -> Tally {
        let refusals = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for reason in Reason::ALL {
            drop(refusals.get_or_create(&[("reason", reason.code())]));
        }
        Tally {
            known: Arc::new(known()),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            refusals,
        }
    }
}

/// A method of a service.
#[derive(Debug)]
struct Method {
    service: String,
    method: String,
    /// The times of its calls that ended well, once there was one.
    well: OnceLock<Histogram>,
}

impl Method {
    fn new(service: &str, method: &str) -> Arc<Method> {
        Arc::new(Method { service: service.to_owned(), method: method.to_owned(), well: OnceLock::new() })
    }
}

/// Every path that can be called.
fn known() -> HashMap<String, Arc<Method>> {
    let sets = [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files = sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap_or_default().file);
    let methods = files.flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let name = format!("{package}.{}", service.name());
            service.method.into_iter().map(move |method| (name.clone(), method.name().to_owned()))
        })
    });
    methods.map(|(service, method)| (format!("/{service}/{method}"), Method::new(&service, &method))).collect()
}

impl Tally {
    /// Counts the calls that `inner` serves.
    pub fn over<S>(self, inner: S) -> Tallied<S> {
        Tallied { inner, tally: self }
    }

    fn begin(&self, path: &str) -> UnderWay {
        let method = self.known.get(path).cloned().unwrap_or_else(|| Method::new(OTHER, OTHER));
        UnderWay { tally: self.clone(), method, begun: Instant::now(), ended: false }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Tallied<S> {
    inner: S,
    tally: Tally,
}

impl<S, B> Service<Request<B>> for Tallied<S>
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut call = self.tally.begin(request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if call.told(response.headers()) {
                return Ok(response);
            }
            if response.status() != StatusCode::OK {
                call.end(seen_as(response.status()), None);
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Counted { body, call })))
        })
    }
}

/// How a gRPC client reads an answer that is none of gRPC (gRPC, "HTTP to gRPC Status Code Mapping").
fn seen_as(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        _ => Code::Unknown,
    }
}

/// A call that is counted when it ends; one that nobody waits for any more was cancelled.
struct UnderWay {
    tally: Tally,
    method: Arc<Method>,
    begun: Instant,
    ended: bool,
}

impl UnderWay {
    /// Ends the call if these headers, or trailers, say how.
    fn told(&mut self, headers: &HeaderMap) -> bool {
        if headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "0") {
            self.end(Code::Ok, None);
            return true;
        }
        let Some(status) = Status::from_header_map(headers) else { return false };
        self.end(status.code(), from_status(&status).reason);
        true
    }

    fn end(&mut self, code: Code, reason: Option<String>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        match code {
            Code::Ok => self.method.well.get_or_init(|| self.durations(code)).observe(seconds),
            _ => self.durations(code).observe(seconds),
        }
        if let Some(reason) = reason {
            let code = Reason::from_code(&reason).map_or(OTHER, Reason::code);
            self.tally.refusals.get_or_create(&[("reason", code)]).inc();
        }
    }

    fn durations(&self, code: Code) -> Histogram {
        let (service, method) = (self.method.service.clone(), self.method.method.clone());
        let code = (code as i32).to_string();
        let labels = [("rpc_service", service), ("rpc_method", method), ("rpc_grpc_status_code", code)];
        self.tally.durations.get_or_create(&labels).clone()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.end(Code::Cancelled, None);
    }
}

/// An answer's body, watched for its end.
struct Counted {
    body: Body,
    call: UnderWay,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.told(trailers);
                }
            }
            Some(Err(status)) => self.call.end(status.code(), None),
            None => self.call.end(Code::Unknown, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known_and_nothing_else() {
        let known = known();
        for path in super::super::STREAMING {
            assert!(known.contains_key(path), "{path}");
        }
        let check = &known["/grpc.health.v1.Health/Check"];
        assert_eq!((check.service.as_str(), check.method.as_str()), ("grpc.health.v1.Health", "Check"));
        let tally = Tally::default();
        for path in ["/", "", "/a.B/C", "/grpc.health.v1.Health/Check/", "/grpc.health.v1.Health/check"] {
            assert_eq!(tally.begin(path).method.service, OTHER, "{path}");
        }
    }

    #[test]
    fn a_call_is_counted_once_however_it_ends() {
        let tally = Tally::default();
        let path = "/grpc.health.v1.Health/Check";
        let count = |code: &str| {
            let (mut text, mut page) = (String::new(), prometheus_client::registry::Registry::default());
            page.register("calls", "", tally.durations.clone());
            prometheus_client::encoding::text::encode(&mut text, &page).unwrap();
            let labels = r#"rpc_service="grpc.health.v1.Health",rpc_method="Check",rpc_grpc_status_code"#;
            let line = format!("calls_count{{{labels}=\"{code}\"}} ");
            text.lines().find_map(|it| it.strip_prefix(&line)).map_or(0, |count| count.parse::<u64>().unwrap())
        };
        drop(tally.begin(path));
        assert_eq!((count("1"), count("0")), (1, 0));
        let mut call = tally.begin(path);
        call.end(Code::Ok, None);
        drop(call);
        assert_eq!((count("1"), count("0")), (1, 1));
    }
}
