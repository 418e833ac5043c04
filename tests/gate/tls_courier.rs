//! Claims of the calling side: it speaks only to exactly the gateway it dialled, and a dial that ends tells at which
//! stage.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::{PATIENCE, check, dialler, share, start};
use crate::pki::{ALLIANCE, AWAY, Ca, HOME, Issued, gateway, member, today, trusted};
use rcgen::{ExtendedKeyUsagePurpose as Eku, SerialNumber, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tongban::tls::config::SharedTrust;
use tongban::tls::dial::{DialError, Dialler};
use tongban::tls::refusal::Refusal;
use tongban::tls::trust::MemberTrust;
use tonic::transport::Uri;

const PINNED: &str = "440301";

struct World {
    home: Ca,
    away: Ca,
    unknown: Ca,
    pinned: Issued,
    trust: SharedTrust,
}

impl World {
    fn new() -> World {
        let (home, away, unknown) = (Ca::root("home root"), Ca::root("away root"), Ca::root("unknown root"));
        let pinned = unknown.issue_with(&[], |_| {});
        let by_pin = MemberTrust {
            member: member(PINNED),
            roots: Vec::new(),
            crls: Vec::new(),
            pin: Some(pinned.pin()),
            ..trusted(PINNED, &home)
        };
        let away_trust = MemberTrust { crls: vec![away.crl(&[666])], ..trusted(AWAY, &away) };
        let trust = share(vec![trusted(HOME, &home), away_trust, by_pin]);
        World { home, away, unknown, pinned, trust }
    }

    /// A dialler of the home gateway that expects the gateway of `division`.
    fn courier(&self, division: &str) -> Dialler {
        dialler(self.trust.clone(), self.home.issue(&gateway(HOME)).own(), division)
    }
}

/// A TLS server that checks nothing and says how many bytes of application data it was sent.
async fn stand_in(config: Arc<ServerConfig>) -> (Uri, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(mut tls) = TlsAcceptor::from(config).accept(tcp).await else { return 0 };
        let mut bytes = Vec::new();
        let _ = tls.read_to_end(&mut bytes).await;
        bytes.len()
    });
    (endpoint, served)
}

fn lenient(issued: &Issued, change: impl FnOnce(&mut ServerConfig)) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_details(Arc::new(default_provider()), Arc::new(today()));
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(issued.chain.clone(), issued.private()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    change(&mut config);
    Arc::new(config)
}

/// A row: what the server shows, which division was dialled, and why it is refused, if it is.
type Row = (&'static str, fn(&World) -> Issued, &'static str, Option<Refusal>);

const ROWS: &[Row] = &[
    ("the gateway that was dialled", |w| w.away.issue(&gateway(AWAY)), AWAY, None),
    ("the pinned gateway that was dialled", |w| w.pinned.clone(), PINNED, None),
    ("another city's gateway", |w| w.home.issue(&gateway(HOME)), AWAY, Some(Refusal::WrongPeer)),
    ("a pinned gateway of another city", |w| w.pinned.clone(), AWAY, Some(Refusal::WrongPeer)),
    ("a named gateway instead of the pinned one", |w| w.away.issue(&gateway(AWAY)), PINNED, Some(Refusal::WrongPeer)),
    ("a system of the city that was dialled", |w| w.away.issue(&system(AWAY)), AWAY, Some(Refusal::WrongPeer)),
    (
        "the right name by another city's authority",
        |w| w.home.issue(&gateway(AWAY)),
        AWAY,
        Some(Refusal::IssuerNotForName),
    ),
    ("the right name by nobody we know", |w| w.unknown.issue(&gateway(AWAY)), AWAY, Some(Refusal::UnknownCa)),
    ("for clients only", |w| away_with(w, |p| p.extended_key_usages = vec![Eku::ClientAuth]), AWAY, Some(Refusal::Eku)),
    ("for any use", |w| away_with(w, |p| p.extended_key_usages = vec![Eku::Any]), AWAY, Some(Refusal::Eku)),
    ("revoked", |w| away_with(w, |p| p.serial_number = Some(SerialNumber::from(666))), AWAY, Some(Refusal::Revoked)),
    ("expired", |w| away_with(w, |p| p.not_after = date_time_ymd(2026, 5, 31)), AWAY, Some(Refusal::Expired)),
    (
        "the loopback address as a name, and no URI",
        |w| w.away.issue_with(&[], localhost),
        AWAY,
        Some(Refusal::UriNames),
    ),
];

#[tokio::test]
async fn the_courier_refuses_any_but_its_partner_before_it_sends_a_byte() {
    let world = World::new();
    for (what, make, division, expected) in ROWS {
        let (endpoint, served) = stand_in(lenient(&make(&world), |_| {})).await;
        let dialled = world.courier(division).dial(endpoint).await;
        let refusal = dialled.as_ref().err().and_then(DialError::refusal);
        assert_eq!(refusal, *expected, "{what}: {dialled:?}");
        assert_eq!(dialled.is_err(), expected.is_some(), "{what}");
        drop(dialled);
        assert_eq!(timeout(PATIENCE, served).await.unwrap().unwrap(), 0, "{what}: bytes were sent");
    }
}

#[tokio::test]
async fn the_reason_stands_among_the_causes_of_the_call_that_failed() {
    let world = World::new();
    let (endpoint, _served) = stand_in(lenient(&world.home.issue(&gateway(HOME)), |_| {})).await;
    let status = check(world.courier(AWAY).channel(endpoint)).await.unwrap_err();
    let dial = DialError::among(&status).expect("a dial error among the causes");
    assert_eq!(dial.refusal(), Some(Refusal::WrongPeer));
}

#[tokio::test]
async fn the_courier_calls_a_gateway_that_is_known_by_its_pin() {
    let world = World::new();
    let server = start(world.trust.clone(), world.pinned.own()).await;
    let endpoint = format!("https://{}", server.address).parse().unwrap();
    check(world.courier(PINNED).channel(endpoint)).await.unwrap();
}

#[tokio::test]
async fn a_server_of_tls_1_2_or_without_http_2_is_refused() {
    let world = World::new();
    let no_alpn = lenient(&world.away.issue(&gateway(AWAY)), |config| config.alpn_protocols.clear());
    let (endpoint, _served) = stand_in(no_alpn).await;
    let error = world.courier(AWAY).dial(endpoint).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Alpn), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let old = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        // ServerHello of TLS 1.2: no supported_versions, TLS_AES_128_GCM_SHA256 as the client offered.
        let mut hello = vec![22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0x13, 0x01, 0]);
        tcp.write_all(&hello).await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    });
    let error = world.courier(AWAY).dial(endpoint).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::TlsVersion), "{error}");
    old.await.unwrap();
}

#[tokio::test]
async fn a_dial_tells_the_stage_at_which_it_ended() {
    let world = World::new();
    let courier = world.courier(AWAY).within(Duration::from_millis(200));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let closed_port = {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        closed.local_addr().unwrap().port()
    };
    let dial = async |endpoint: String| courier.dial(endpoint.parse().unwrap()).await.unwrap_err();
    assert!(matches!(dial(format!("http://127.0.0.1:{silent_port}")).await, DialError::Address(_)));
    assert!(matches!(dial("https://127.0.0.1".to_owned()).await, DialError::Address(_)));
    assert!(matches!(dial("https://nowhere.invalid:1".to_owned()).await, DialError::Resolve { .. }));
    assert!(matches!(dial(format!("https://127.0.0.1:{closed_port}")).await, DialError::Tcp { .. }));
    let slow = dial(format!("https://127.0.0.1:{silent_port}")).await;
    assert_eq!(slow.refusal(), Some(Refusal::HandshakeTimeout));
}

fn away_with(world: &World, change: fn(&mut rcgen::CertificateParams)) -> Issued {
    world.away.issue_with(&[&gateway(AWAY)], change)
}

fn system(division: &str) -> String {
    format!("spiffe://{ALLIANCE}/city/{division}/system/approval")
}

fn localhost(params: &mut rcgen::CertificateParams) {
    params.subject_alt_names = vec![rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
}
