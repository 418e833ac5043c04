//! Claims of the watch over a connection's frames: who begins and does not end loses the connection, and nobody else
//! does.

use std::time::Duration;

use crate::frames::{CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, Raw, call, frame};
use crate::gate::{Running, check, dialler, health, share, start_with, until};
use crate::pki::{AWAY, Ca, HOME, gateway, trusted};
use tokio::time::{interval, timeout};
use tongban::grpc::serve::Lifetime;
use tongban::tls::accept::Bounds;
use tongban::tls::dial::Dialler;
use tongban::tls::guard::Pace;

struct Scene {
    server: Running,
    dialler: Dialler,
}

impl Scene {
    async fn new() -> Scene {
        let (home, away) = (Ca::root("home root"), Ca::root("away root"));
        let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away)]);
        let (preface, frame) = (Duration::from_millis(200), Duration::from_millis(300));
        let lifetime = Lifetime { pace: Pace { preface, frame, ..Pace::default() }, ..Lifetime::default() };
        let own = home.issue(&gateway(HOME)).own();
        let server = start_with(trust.clone(), own, health(), Bounds::default(), lifetime).await;
        Scene { server, dialler: dialler(trust, away.issue(&gateway(AWAY)).own(), HOME) }
    }

    async fn raw(&self) -> Raw {
        let endpoint = format!("https://{}", self.server.address).parse().unwrap();
        Raw::new(self.dialler.dial(endpoint).await.unwrap())
    }
}

#[tokio::test]
async fn the_standard_deadlines_are_five_and_ten_seconds() {
    assert_eq!((Pace::default().preface, Pace::default().frame), (Duration::from_secs(5), Duration::from_secs(10)));
}

#[tokio::test]
async fn what_is_begun_and_not_ended_ends_the_connection() {
    type Row = (&'static str, Vec<u8>, &'static str);
    let whole = frame(HEADERS, END_HEADERS, 1, &call());
    let open_block = frame(HEADERS, 0, 1, &call());
    let rows: [Row; 7] = [
        ("no preface", Vec::new(), "preface_timeout"),
        ("half a preface", PREFACE[..12].to_vec(), "preface_timeout"),
        ("half a frame's head", [&whole[..], &[0, 0, 5, DATA]].concat(), "frame_timeout"),
        ("half a frame", [&whole[..], &frame(DATA, 0, 1, &[0; 50])[..20]].concat(), "frame_timeout"),
        ("half a ping", frame(PING, 0, 0, &[0; 8])[..10].to_vec(), "frame_timeout"),
        ("headers without end", open_block.clone(), "headers_timeout"),
        ("a continuation without end", [open_block, frame(CONTINUATION, 0, 1, &[])].concat(), "headers_timeout"),
    ];
    let scene = Scene::new().await;
    for (what, bytes, code) in rows {
        let before = scene.server.counters().refused(code);
        let mut raw = scene.raw().await;
        if code != "preface_timeout" {
            raw.greet().await;
        }
        raw.send(&bytes).await;
        raw.rest().await;
        until(what, || scene.server.counters().refused(code) == before + 1).await;
    }
    until("all are gone", || scene.server.connections.open() == 0).await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_prolong_a_frame() {
    let scene = Scene::new().await;
    let mut raw = scene.raw().await;
    raw.greet().await;
    let slow = frame(HEADERS, END_HEADERS, 1, &call());
    let mut tick = interval(Duration::from_millis(50));
    let trickle = async {
        for byte in &slow {
            tick.tick().await;
            if !raw.send(&[*byte]).await || scene.server.counters().refused("frame_timeout") == 1 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(3), trickle).await.expect("cut long before the frame is whole");
    until("counted", || scene.server.counters().refused("frame_timeout") == 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_not_late() {
    let scene = Scene::new().await;
    let channel = scene.dialler.channel(format!("https://{}", scene.server.address).parse().unwrap());
    check(channel.clone()).await.unwrap();
    let mut tick = interval(Duration::from_millis(400));
    for _ in 0..3 {
        tick.tick().await;
        check(channel.clone()).await.unwrap();
    }
    assert_eq!(scene.server.counters().accepted(), 1, "one connection throughout");
}

#[tokio::test]
async fn thousands_of_calls_on_one_connection_are_no_flood() {
    let scene = Scene::new().await;
    let channel = scene.dialler.channel(format!("https://{}", scene.server.address).parse().unwrap());
    for _ in 0..200 {
        let calls = (0..100).map(|_| check(channel.clone()));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(Result::is_ok));
    }
    assert_eq!(scene.server.counters().accepted(), 1, "one connection throughout");
}
