//! Runs a listening gateway with a health service behind the real gate, and calls it through the real dialler.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tongban::grpc::front::Calls;
use tongban::grpc::serve::{Lifetime, Serving, serve};
use tongban::grpc::tally::Tally;
use tongban::tls::accept::{Bounds, Counters, Gate};
use tongban::tls::config::{Own, SharedTrust, client_config, server_config};
use tongban::tls::connections::Connections;
use tongban::tls::dial::Dialler;
use tongban::tls::trust::{MemberTrust, Trust};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::pki::{alliance, gateway, today};

/// Everything a test may wait for comes within this.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway on loopback.
pub struct Running {
    pub address: SocketAddr,
    pub gate: Arc<Gate>,
    pub connections: Connections,
    pub ended: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Running {
    pub fn counters(&self) -> &Counters {
        &self.gate.counters
    }

    pub fn stop(&mut self) {
        self.stop.take();
    }
}

pub fn share(members: Vec<MemberTrust>) -> SharedTrust {
    Arc::new(ArcSwap::from_pointee(Trust::build(alliance(), members).unwrap()))
}

pub async fn start(trust: SharedTrust, own: Own) -> Running {
    start_with(trust, own, health(), Bounds::default(), Lifetime::default()).await
}

pub async fn start_with(trust: SharedTrust, own: Own, routes: Routes, bounds: Bounds, lifetime: Lifetime) -> Running {
    let config = server_config(trust.clone(), own, today()).unwrap();
    let config = Arc::new(ArcSwap::new(config));
    let gate = Arc::new(Gate { config, trust, moment: today(), bounds, counters: Arc::default() });
    let connections = Connections::default();
    let calls = Arc::new(Calls::new(["/grpc.health.v1.Health/Watch"]));
    let serving =
        Serving { gate: gate.clone(), connections: connections.clone(), calls, lifetime, tally: Tally::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(serve(listener, serving, routes, async move {
        let _ = stopped.await;
    }));
    Running { address, gate, connections, ended, stop: Some(stop) }
}

pub fn health() -> Routes {
    let (_, service) = tonic_health::server::health_reporter();
    Routes::new(service)
}

/// A channel to `address`, expecting the gateway of `division`.
pub fn channel(trust: SharedTrust, own: Own, division: &str, address: SocketAddr) -> Channel {
    dialler(trust, own, division).channel(format!("https://{address}").parse().unwrap())
}

pub fn dialler(trust: SharedTrust, own: Own, division: &str) -> Dialler {
    Dialler::new(client_config(trust, own, today(), gateway(division).parse().unwrap()).unwrap())
}

/// One health check, as the smallest real call.
pub async fn check(channel: Channel) -> Result<(), tonic::Status> {
    let call = async { HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await };
    timeout(PATIENCE, call).await.expect("the call ends").map(|_| ())
}

/// Waits until `state` holds.
pub async fn until(what: &str, state: impl Fn() -> bool) {
    let look = async {
        let mut tick = interval(Duration::from_millis(2));
        while !state() {
            tick.tick().await;
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}
