//! Claims of the accept loop: who does not finish a proper handshake in time costs nobody else anything.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::{PATIENCE, Running, channel, check, health, share, start, start_with, until};
use crate::pki::{AWAY, Ca, HOME, Issued, gateway, today, trusted};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tongban::grpc::serve::Lifetime;
use tongban::tls::accept::Bounds;
use tongban::tls::config::{SharedTrust, client_config};

struct Scene {
    server: Running,
    trust: SharedTrust,
    home: Ca,
    caller: Issued,
}

impl Scene {
    async fn new(change: impl FnOnce(&mut Bounds)) -> Scene {
        let (home, away) = (Ca::root("home root"), Ca::root("away root"));
        let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away)]);
        let mut bounds = Bounds::default();
        change(&mut bounds);
        let own = home.issue(&gateway(HOME)).own();
        let server = start_with(trust.clone(), own, health(), bounds, Lifetime::default()).await;
        Scene { server, trust, home, caller: away.issue(&gateway(AWAY)) }
    }

    async fn socket(&self) -> TcpStream {
        TcpStream::connect(self.server.address).await.unwrap()
    }

    async fn honest_call(&self) {
        check(channel(self.trust.clone(), self.caller.own(), HOME, self.server.address)).await.unwrap();
    }

    /// The caller's TLS as it should be, changed.
    fn tls(&self, change: impl FnOnce(&mut ClientConfig)) -> TlsConnector {
        let expected = gateway(HOME).parse().unwrap();
        let config = client_config(self.trust.clone(), self.caller.own(), today(), expected).unwrap();
        let mut config = ClientConfig::clone(&config);
        change(&mut config);
        TlsConnector::from(Arc::new(config))
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("gateway").unwrap()
}

/// Reads until the peer closes.
async fn closes(socket: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("the gate closes");
    bytes
}

#[tokio::test]
async fn a_silent_socket_is_closed_at_the_handshakes_deadline() {
    let scene = Scene::new(|bounds| bounds.handshake = Duration::from_millis(200)).await;
    let mut silent = scene.socket().await;
    closes(&mut silent).await;
    until("counted", || scene.server.counters().refused("handshake_timeout") == 1).await;
}

#[tokio::test]
async fn a_handshake_that_trickles_is_closed_at_the_same_deadline() {
    let scene = Scene::new(|bounds| bounds.handshake = Duration::from_millis(200)).await;
    let mut slow = scene.socket().await;
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    closes(&mut slow).await;
    until("counted", || scene.server.counters().refused("handshake_timeout") == 1).await;
}

#[tokio::test]
async fn the_standard_deadline_is_five_seconds() {
    assert_eq!(Bounds::default().handshake, Duration::from_secs(5));
}

#[tokio::test]
async fn silent_sockets_of_one_source_do_not_keep_an_honest_caller_out() {
    let scene = Scene::new(|bounds| bounds.handshakes_per_source_max = 4).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(scene.socket().await);
    }
    scene.honest_call().await;
    until("all but four gave way", || scene.server.counters().refused("source_crowded") >= 36).await;
    for socket in &mut silent[..36] {
        closes(socket).await;
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_one_to_end() {
    let scene = Scene::new(|bounds| {
        bounds.connections_max = 1;
        bounds.handshake = Duration::from_millis(300);
    })
    .await;
    let first = scene.socket().await;
    scene.honest_call().await;
    drop(first);
    assert_eq!(
        scene.server.counters().refused("handshake_timeout"),
        1,
        "the first held the only place till its deadline"
    );
}

#[tokio::test]
async fn a_caller_without_http_2_is_refused() {
    let scene = Scene::new(|_| {}).await;
    let mut none =
        scene.tls(|config| config.alpn_protocols.clear()).connect(name(), scene.socket().await).await.unwrap();
    closes(&mut none).await;
    until("counted", || scene.server.counters().refused("alpn") == 1).await;

    let old = scene.tls(|config| config.alpn_protocols = vec![b"http/1.1".to_vec()]);
    assert!(old.connect(name(), scene.socket().await).await.is_err());
    until("counted", || scene.server.counters().refused("alpn") == 2).await;
}

#[tokio::test]
async fn a_caller_of_tls_1_2_is_refused() {
    let scene = Scene::new(|_| {}).await;
    // ClientHello of TLS 1.2: ECDHE-ECDSA-AES128-GCM-SHA256, no compression, P-256, ECDSA with SHA-256, no versions.
    let extensions: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    let mut socket = scene.socket().await;
    socket.write_all(&record).await.unwrap();
    let answer = closes(&mut socket).await;
    let (alert, protocol_version) = (21, 70);
    assert_eq!((answer[0], answer[6]), (alert, protocol_version), "{answer:?}");
    until("counted", || scene.server.counters().refused("tls_version") == 1).await;
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_refused() {
    let scene = Scene::new(|_| {}).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 100],
        &[22, 3, 1, 0, 0],
        &[0xff; 20_000],
    ] {
        let mut socket = scene.socket().await;
        let _ = socket.write_all(bytes).await;
        closes(&mut socket).await;
    }
    until("counted", || scene.server.counters().refused("handshake") == 5).await;
    scene.honest_call().await;
}

#[tokio::test]
async fn no_session_can_be_resumed() {
    let scene = Scene::new(|_| {}).await;
    let store = rustls::client::Resumption::in_memory_sessions(32);
    let connector = scene.tls(|config| {
        config.resumption = store;
        config.enable_early_data = true;
    });
    for _ in 0..2 {
        let mut tls = connector.connect(name(), scene.socket().await).await.unwrap();
        // The server's SETTINGS come after any ticket would.
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        timeout(PATIENCE, tls.read_exact(&mut [0; 9])).await.unwrap().unwrap();
        let (_, session) = tls.get_ref();
        assert_eq!(session.tls13_tickets_received(), 0);
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert!(!session.is_early_data_accepted());
    }
}

#[tokio::test]
async fn a_party_has_so_many_connections_and_no_more() {
    let (home, away) = (Ca::root("home root"), Ca::root("away root"));
    let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away)]);
    let lifetime = Lifetime { per_party_max: 2, ..Lifetime::default() };
    let own = home.issue(&gateway(HOME)).own();
    let server = start_with(trust.clone(), own, health(), Bounds::default(), lifetime).await;
    let caller = away.issue(&gateway(AWAY));
    let call = || channel(trust.clone(), caller.own(), HOME, server.address);
    let (first, second) = (call(), call());
    check(first.clone()).await.unwrap();
    check(second.clone()).await.unwrap();
    check(call()).await.unwrap_err();
    assert_eq!(server.counters().refused("party_crowded"), 1);
    check(channel(trust.clone(), home.issue(&gateway(HOME)).own(), HOME, server.address)).await.unwrap();
    drop(first);
    until("one place is free", || server.connections.open_of(&gateway(AWAY).parse().unwrap()) == 1).await;
    check(call()).await.unwrap();
    check(second).await.unwrap();
    assert_eq!(server.counters().refused("party_crowded"), 1);
}

#[tokio::test]
async fn a_stopped_server_takes_no_new_connection() {
    let mut scene = Scene::new(|_| {}).await;
    scene.honest_call().await;
    scene.server.stop();
    timeout(PATIENCE, &mut scene.server.ended).await.expect("ends").unwrap();
    assert!(TcpStream::connect(scene.server.address).await.is_err());
    let again = start(scene.trust.clone(), scene.home.issue(&gateway(HOME)).own()).await;
    check(channel(scene.trust.clone(), scene.caller.own(), HOME, again.address)).await.unwrap();
}
