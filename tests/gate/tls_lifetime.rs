//! Claims of a live connection: it ends when its peer is no longer trusted, when it is old, and when the server stops.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::{self, PATIENCE, Running, channel, check, health, share, start_with, until};
use crate::pki::{AWAY, Ca, HOME, Issued, alliance, gateway, today, trusted};
use rcgen::SerialNumber;
use tokio::time::timeout;
use tongban::grpc::serve::Lifetime;
use tongban::tls::accept::Bounds;
use tongban::tls::config::{SharedTrust, server_config};
use tongban::tls::trust::{MemberTrust, Trust};
use tonic::Streaming;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const OTHER: &str = "430100";

struct Scene {
    server: Running,
    trust: SharedTrust,
    home: Ca,
    away: Ca,
    other: Ca,
}

impl Scene {
    async fn new(lifetime: Lifetime) -> Scene {
        let (home, away, other) = (Ca::root("home root"), Ca::root("away root"), Ca::root("other root"));
        let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away), trusted(OTHER, &other)]);
        let own = home.issue(&gateway(HOME)).own();
        let server = start_with(trust.clone(), own, health(), Bounds::default(), lifetime).await;
        Scene { server, trust, home, away, other }
    }

    fn channel(&self, caller: &Issued) -> Channel {
        channel(self.trust.clone(), caller.own(), HOME, self.server.address)
    }

    /// What a reload does: a whole new trust, then an end to whoever it no longer proves.
    fn reload(&self, away: MemberTrust) -> usize {
        let members = vec![trusted(HOME, &self.home), away, trusted(OTHER, &self.other)];
        self.trust.store(Arc::new(Trust::build(alliance(), members).unwrap()));
        let trust = self.trust.load_full();
        self.server.connections.close_where(|peer| peer.again(&trust, today().unix()).is_err())
    }
}

/// A stream that says its first word and then waits for ever.
async fn watch(channel: Channel) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: String::new() };
    let mut stream = timeout(PATIENCE, HealthClient::new(channel).watch(request)).await.unwrap().unwrap().into_inner();
    timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    stream
}

async fn ends(stream: &mut Streaming<HealthCheckResponse>, within: Duration) {
    let end = timeout(within, stream.message()).await.expect("the stream ends");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test]
async fn a_revoked_certificate_ends_its_streams_and_no_others() {
    let scene = Scene::new(Lifetime::default()).await;
    let with_serial = |serial: u64| {
        scene.away.issue_with(&[&gateway(AWAY)], |params| params.serial_number = Some(SerialNumber::from(serial)))
    };
    let (revoked, renewed, other) = (with_serial(1), with_serial(2), scene.other.issue(&gateway(OTHER)));
    let mut cut = watch(scene.channel(&revoked)).await;
    let mut kept = [watch(scene.channel(&renewed)).await, watch(scene.channel(&other)).await];

    let list = MemberTrust { crls: vec![scene.away.crl(&[1])], ..trusted(AWAY, &scene.away) };
    assert_eq!(scene.reload(list), 1);
    ends(&mut cut, Duration::from_secs(5)).await;
    until("only two are left", || scene.server.connections.open() == 2).await;
    for stream in &mut kept {
        assert!(timeout(Duration::from_millis(50), stream.message()).await.is_err(), "a good stream ended");
    }
    check(scene.channel(&revoked)).await.unwrap_err();
    assert_eq!(scene.server.counters().refused("revoked"), 1);
}

#[tokio::test]
async fn a_list_that_is_missing_or_expired_stops_its_member_only() {
    let scene = Scene::new(Lifetime::default()).await;
    let (away, other) = (scene.away.issue(&gateway(AWAY)), scene.other.issue(&gateway(OTHER)));
    let faults = [
        ("crl_missing", MemberTrust { crls: Vec::new(), ..trusted(AWAY, &scene.away) }),
        ("crl_expired", MemberTrust { crls: vec![scene.away.crl_between(&[], 3, 5)], ..trusted(AWAY, &scene.away) }),
    ];
    for (code, fault) in faults {
        let mut stopped = watch(scene.channel(&away)).await;
        let mut kept = watch(scene.channel(&other)).await;
        assert_eq!(scene.reload(fault), 1, "{code}");
        ends(&mut stopped, Duration::from_secs(5)).await;
        check(scene.channel(&away)).await.unwrap_err();
        assert_eq!(scene.server.counters().refused(code), 1, "{code}");
        assert!(timeout(Duration::from_millis(50), kept.message()).await.is_err(), "{code}: a good stream ended");
        assert_eq!(scene.reload(trusted(AWAY, &scene.away)), 0, "{code}: and back");
    }
}

#[tokio::test]
async fn a_trust_that_cannot_be_built_leaves_the_old_one() {
    let scene = Scene::new(Lifetime::default()).await;
    let broken = MemberTrust { crls: vec![scene.other.crl(&[])], ..trusted(AWAY, &scene.away) };
    assert!(Trust::build(alliance(), vec![broken]).is_err());
    check(scene.channel(&scene.away.issue(&gateway(AWAY)))).await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_of_ours_is_shown_from_the_next_handshake_on() {
    let scene = Scene::new(Lifetime::default()).await;
    let away = scene.away.issue(&gateway(AWAY));
    let mut before = watch(scene.channel(&away)).await;
    let renewed = scene.home.issue_with(&[&gateway(HOME)], |params| params.serial_number = Some(SerialNumber::from(9)));
    let shown = renewed.chain[0].clone();
    scene.server.gate.config.store(server_config(scene.trust.clone(), renewed.own(), today()).unwrap());
    let dialler = gate::dialler(scene.trust.clone(), away.own(), HOME);
    let tls = dialler.dial(format!("https://{}", scene.server.address).parse().unwrap()).await.unwrap();
    assert_eq!(tls.get_ref().1.peer_certificates().unwrap()[0], shown);
    assert!(timeout(Duration::from_millis(50), before.message()).await.is_err(), "the old connection ended");
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_and_then_cut() {
    let (age, grace) = (Duration::from_millis(300), Duration::from_millis(300));
    let scene = Scene::new(Lifetime { age, grace, ..Lifetime::default() }).await;
    let away = scene.away.issue(&gateway(AWAY));
    let channel = scene.channel(&away);
    let mut stream = watch(channel.clone()).await;
    ends(&mut stream, PATIENCE).await;
    // The same channel dials anew by itself.
    check(channel).await.unwrap();
    assert!(scene.server.counters().accepted() >= 2);
}

#[tokio::test]
async fn an_old_connection_without_calls_ends_before_the_cut() {
    let (age, grace) = (Duration::from_millis(100), Duration::from_secs(3600));
    let scene = Scene::new(Lifetime { age, grace, ..Lifetime::default() }).await;
    let channel = scene.channel(&scene.away.issue(&gateway(AWAY)));
    check(channel.clone()).await.unwrap();
    until("ended by GOAWAY alone", || scene.server.connections.open() == 0).await;
    check(channel).await.unwrap();
}

#[tokio::test]
async fn a_stopping_server_waits_for_its_calls_and_then_cuts() {
    let drain = Duration::from_millis(300);
    let mut scene = Scene::new(Lifetime { drain, ..Lifetime::default() }).await;
    let mut stream = watch(scene.channel(&scene.away.issue(&gateway(AWAY)))).await;
    let began = tokio::time::Instant::now();
    scene.server.stop();
    timeout(PATIENCE, &mut scene.server.ended).await.expect("ends").unwrap();
    assert!(began.elapsed() >= drain, "cut before its time");
    ends(&mut stream, PATIENCE).await;
    assert_eq!(scene.server.connections.open(), 0);
}
