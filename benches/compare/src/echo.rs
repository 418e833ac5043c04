//! Decides what the bare echo is: tonic over mutual TLS 1.3, that gives back the bytes it was given and does nothing else.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::http::{self, uri::PathAndQuery};
use tonic::server::{NamedService, StreamingService, UnaryService};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::measure::{Watch, Window};
use crate::tls;

/// What goes there and back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Echoed {
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: Bytes,
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "compare.Echo";
}

impl UnaryService<Echoed> for Echo {
    type Response = Echoed;
    type Future = BoxFuture<'static, Result<Response<Echoed>, Status>>;

    fn call(&mut self, request: Request<Echoed>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

impl StreamingService<Echoed> for Echo {
    type Response = Echoed;
    type ResponseStream = BoxStream<'static, Result<Echoed, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Echoed>>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner().boxed())) })
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Echoed, Echoed>::default());
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/compare.Echo/Unary" => grpc.unary(Echo, request).await,
                _ => grpc.streaming(Echo, request).await,
            })
        })
    }
}

/// A connection that tonic does not ask about its peer.
struct Plain(tokio_rustls::server::TlsStream<TcpStream>);

impl Connected for Plain {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Serves until it is killed.
pub async fn serve(folder: &Path, port: u16) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(folder)?));
    let tcp = TcpListenerStream::new(TcpListener::bind(("127.0.0.1", port)).await?);
    let incoming = tcp.and_then(move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            tcp.set_nodelay(true)?;
            acceptor.accept(tcp).await.map(Plain)
        }
    });
    // One that does not shake hands, as who only looks whether the port is open, ends nothing.
    let incoming = incoming.filter(|accepted| std::future::ready(accepted.is_ok()));
    Ok(Server::builder().add_service(Echo).serve_with_incoming(incoming).await?)
}

async fn connect(folder: &Path, port: u16) -> Result<Channel> {
    let connector = TlsConnector::from(Arc::new(tls::client(folder, &[b"h2"])?));
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
            tcp.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(
                connector.connect("localhost".try_into().expect("a name"), tcp).await?,
            ))
        }
    });
    let endpoint = Endpoint::from_static("https://localhost").http2_adaptive_window(true);
    Ok(endpoint.connect_with_connector(connect).await?)
}

/// Unary calls, so many at once, a hundred at most on one connection.
pub async fn unary(
    folder: &Path,
    port: u16,
    bytes: &Bytes,
    at_once: usize,
    length: Duration,
) -> Result<(usize, Window)> {
    let channels = try_join_all((0..at_once.div_ceil(100)).map(|_| connect(folder, port))).await?;
    let watch = std::cell::RefCell::new(Watch::new(length));
    let caller = async |channel: &Channel| -> Result<()> {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        while watch.borrow().goes_on() {
            let begun = Instant::now();
            grpc.ready().await?;
            let path = PathAndQuery::from_static("/compare.Echo/Unary");
            let request = Request::new(Echoed { bytes: bytes.clone() });
            grpc.unary::<_, Echoed, _>(request, path, ProstCodec::default()).await?;
            watch.borrow_mut().answered(begun, 1);
        }
        Ok(())
    };
    try_join_all(channels.iter().cycle().take(at_once).map(caller)).await?;
    Ok(watch.into_inner().window())
}

/// Messages over one stream, so many without an answer at once.
pub async fn stream(
    folder: &Path,
    port: u16,
    bytes: &Bytes,
    at_once: usize,
    length: Duration,
) -> Result<(usize, Window)> {
    let mut grpc = tonic::client::Grpc::new(connect(folder, port).await?);
    grpc.ready().await?;
    let (up, requests) = mpsc::channel(64);
    let path = PathAndQuery::from_static("/compare.Echo/Stream");
    let requests = Request::new(ReceiverStream::new(requests));
    let answer = grpc.streaming::<_, Echoed, Echoed, _>(requests, path, ProstCodec::default()).await?;
    let mut down = answer.into_inner();
    // Answers come in order.
    let (room, mut watch) = (Semaphore::new(at_once), Watch::new(length));
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    let until = Instant::now() + length * 6 / 5;
    let send = async {
        while Instant::now() < until {
            room.acquire().await?.forget();
            begun.send(Instant::now())?;
            up.send(Echoed { bytes: bytes.clone() }).await?;
        }
        drop(up);
        anyhow::Ok(())
    };
    let read = async {
        while down.message().await?.is_some() {
            room.add_permits(1);
            beginnings.recv().await.into_iter().for_each(|begun| watch.answered(begun, 1));
        }
        anyhow::Ok(())
    };
    tokio::try_join!(send, read)?;
    Ok(watch.window())
}
