//! Claims of the bounds of HTTP/2 on one connection, each shown by frames that a well-behaved client would not send.

use crate::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, REFUSED_STREAM, RST_STREAM, Raw,
    SETTINGS, WINDOW_UPDATE, call, frame,
};
use crate::gate::{Running, channel, check, dialler, share, start, until};
use crate::pki::{AWAY, Ca, HOME, Issued, gateway, trusted};
use tongban::tls::config::SharedTrust;

struct Scene {
    server: Running,
    trust: SharedTrust,
    caller: Issued,
}

impl Scene {
    async fn new() -> Scene {
        let (home, away) = (Ca::root("home root"), Ca::root("away root"));
        let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away)]);
        let server = start(trust.clone(), home.issue(&gateway(HOME)).own()).await;
        Scene { server, trust, caller: away.issue(&gateway(AWAY)) }
    }

    async fn raw(&self) -> Raw {
        let dialler = dialler(self.trust.clone(), self.caller.own(), HOME);
        let mut raw =
            Raw::new(dialler.dial(format!("https://{}", self.server.address).parse().unwrap()).await.unwrap());
        raw.greet().await;
        raw
    }

    /// Another connection is served as if nothing happened.
    async fn neighbour_is_served(&self) {
        check(channel(self.trust.clone(), self.caller.own(), HOME, self.server.address)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_state_every_bound() {
    let scene = Scene::new().await;
    let mut raw = scene.raw().await;
    let settings = raw.find(|frame| frame.kind == SETTINGS && frame.flags == 0).await.unwrap();
    let (streams, window, frame_size, header_list) = (3, 4, 5, 6);
    assert_eq!(settings.setting(streams), Some(128));
    assert_eq!(settings.setting(window), Some(1 << 20));
    assert_eq!(settings.setting(frame_size), Some(16 * 1024));
    assert_eq!(settings.setting(header_list), Some(16 * 1024));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_the_bound_is_refused_and_the_others_stay() {
    let scene = Scene::new().await;
    let mut raw = scene.raw().await;
    let open = |n: u32| frame(HEADERS, END_HEADERS, 2 * n + 1, &call());
    raw.send(&(0..129).flat_map(open).collect::<Vec<_>>()).await;
    let refused = raw.find(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.code()), (2 * 128 + 1, REFUSED_STREAM));
    assert_eq!(scene.server.connections.open(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_streams_without_end_ends_the_connection() {
    let scene = Scene::new().await;
    let mut raw = scene.raw().await;
    let mut opened = 0;
    while opened < 20_000 {
        let open = |n: u32| frame(HEADERS, END_HEADERS, 2 * (opened + n) + 1, &call());
        if !raw.send(&(0..100).flat_map(open).collect::<Vec<_>>()).await {
            break;
        }
        opened += 100;
    }
    raw.rest().await;
    until("the connection ends", || scene.server.connections.open() == 0).await;
    scene.neighbour_is_served().await;
}

/// MadeYouReset: frames that make the server reset its own streams (CVE-2025-8671), as many ways as there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_we_are_made_to_reset_end_the_connection_within_the_bound() {
    type Rude = (&'static str, fn(u32) -> Vec<u8>);
    let rows: [Rude; 5] = [
        ("a window beyond its bound", |id| frame(WINDOW_UPDATE, 0, id, &0x7fff_ffff_u32.to_be_bytes())),
        ("a window update of zero", |id| frame(WINDOW_UPDATE, 0, id, &[0; 4])),
        ("more data than content-length", |id| frame(DATA, END_STREAM, id, &[0; 9])),
        ("headers after the end", |id| frame(HEADERS, END_HEADERS | END_STREAM, id, &call())),
        ("a priority of itself", |id| frame(2, 0, id, &[&id.to_be_bytes()[..], &[16]].concat())),
    ];
    let scene = Scene::new().await;
    for (what, rude) in rows {
        let mut raw = scene.raw().await;
        let sized = [call(), frames::block(&[("content-length", "1")])].concat();
        let (mut sent, mut open) = (0, true);
        while open && sent < 20_000 {
            let one = |n: u32| {
                let id = 2 * (sent + n) + 1;
                [frame(HEADERS, END_HEADERS, id, &sized), rude(id)].concat()
            };
            open = raw.send(&(0..50).flat_map(one).collect::<Vec<_>>()).await;
            sent += 50;
        }
        let resets = raw.rest().await.iter().filter(|frame| frame.kind == RST_STREAM).count();
        assert!(resets <= 300, "{what}: {resets} reset");
        until(&format!("{what}: cut"), || scene.server.connections.open() == 0).await;
    }
    scene.neighbour_is_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_ends_its_connection_and_no_other() {
    type Flood = (&'static str, fn(u32) -> Vec<u8>);
    let rows: [Flood; 6] = [
        ("pings", |_| frame(PING, 0, 0, &[7; 8])),
        ("settings", |_| frame(SETTINGS, 0, 0, &[])),
        ("window updates", |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("priorities", |n| frame(2, 0, 2 * n + 1, &[0, 0, 0, 0, 16])),
        ("unknown frames", |_| frame(0xfa, 0, 0, &[])),
        ("streams opened and reset", |n| {
            [frame(HEADERS, END_HEADERS, 2 * n + 1, &call()), frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())]
                .concat()
        }),
    ];
    let scene = Scene::new().await;
    for (what, flood) in rows {
        let mut raw = scene.raw().await;
        let (mut sent, mut open) = (0, true);
        while open && sent < 100_000 {
            open = raw.send(&(0..1_000).flat_map(|n| flood(sent + n)).collect::<Vec<_>>()).await;
            sent += 1_000;
        }
        until(&format!("{what}: cut"), || scene.server.connections.open() == 0).await;
    }
    assert!(scene.server.counters().refused("frame_flood") >= 5);
    scene.neighbour_is_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end_and_headers_that_swell_end_the_connection() {
    let scene = Scene::new().await;
    let mut endless = scene.raw().await;
    let mut open = endless.send(&frame(HEADERS, 0, 1, &call())).await;
    let mut sent = 0;
    while open && sent < 100_000 {
        open = endless.send(&frame(CONTINUATION, 0, 1, &frames::block(&[("x-a", "b")])).repeat(1_000)).await;
        sent += 1_000;
    }
    until("cut", || scene.server.connections.open() == 0).await;

    let mut bomb = scene.raw().await;
    // One entry of 3.9 KB enters the table, then 400 bytes each name it once more (RFC 7541 6.1).
    let mut swelling = vec![0x40, 3, b'x', b'-', b'a', 0x7f, 0xfd, 0x1d];
    swelling.extend([b'v'; 127 + 0x7d + (0x1d << 7)]);
    swelling.extend([0xbe; 400]);
    bomb.send(&frame(HEADERS, END_HEADERS, 1, &[call(), swelling].concat())).await;
    let answer = bomb.find(|frame: &Frame| matches!(frame.kind, RST_STREAM | GOAWAY | HEADERS)).await;
    assert!(answer.is_none_or(|frame| frame.kind != HEADERS || frame.payload.len() < 200), "served");
    scene.neighbour_is_served().await;
}
