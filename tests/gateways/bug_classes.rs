//! Kinds of faults that other gateways had, each under its own name. Those that other files show already stand in
//! docs/reliability.md beside these.

use std::path::{Component, Path};
use std::time::{Duration, Instant};

use crate::alliance::envelope;
use crate::parsers;
use crate::process::{self, Process};
use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tongban::id::MessageId;
use tongban::message::Digest;
use tongban::party::{Alliance, Division, Member, Name, Party};

/// Byte streams before any handshake, unless `TONGBAN_STREAMS` says another number, and how many at once.
const STREAMS: usize = 10_000;
const AT_ONCE: usize = 16;
/// Bytes by which they may make a gateway grow.
const GROWTH_MAX: u64 = 32 << 20;

/// What names, patterns and look-alikes have in common with none of ours (Mosquitto's `#`, NATS' `*` and `>`; full
/// width, Cyrillic а, right-to-left override).
const PATTERNS: [&str; 21] = [
    "*",
    "+",
    "#",
    ">",
    "?",
    "%",
    "..",
    ".",
    "",
    " ",
    "450200 ",
    "450*",
    "4502+",
    "450200#",
    "450200/..",
    "４５０２００",
    "аrchive",
    "\u{202e}450200",
    "450200\0",
    "450200\n",
    "spiffe://*/city/450200/gateway",
];

#[test]
fn an_identity_is_never_a_pattern() {
    for text in PATTERNS {
        assert!(text.parse::<Division>().is_err(), "a division {text:?}");
        assert!(text.parse::<Name>().is_err(), "a name {text:?}");
        assert!(text.parse::<Alliance>().is_err(), "an alliance {text:?}");
        assert!(text.parse::<Member>().is_err(), "a member {text:?}");
        for part in ["alliance", "city", "450200", "window"] {
            let uri = "spiffe://alliance.example/city/450200/system/window".replacen(part, text, 1);
            assert!(uri.parse::<Party>().is_err(), "a party {uri:?}");
        }
    }
}

/// Dots within a name lead nowhere; RFC 3986 gives a meaning to a step of one or two dots alone.
#[test]
fn only_a_step_of_dots_alone_leads_elsewhere() {
    for (name, taken) in [(".", false), ("..", false), ("...", true), ("..-", true), ("a..b", true)] {
        assert_eq!(name.parse::<Name>().is_ok(), taken, "a name {name:?}");
        let uri = format!("spiffe://alliance.example/city/450200/system/{name}");
        assert_eq!(uri.parse::<Party>().is_ok(), taken, "a party {uri:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_taken_as_a_name_is_plain(text in "(spiffe://)?[a-zA-Z0-9*+#>?%./:_ -]{0,40}") {
        let plain = |extra: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b));
        let mut steps = text.strip_prefix("spiffe://").unwrap_or(&text).split('/');
        let leads = steps.any(|step| matches!(step, "" | "." | ".."));
        prop_assert!(text.parse::<Division>().is_err() || plain(""));
        prop_assert!(text.parse::<Name>().is_err() || plain("-._") && !leads);
        prop_assert!(text.parse::<Alliance>().is_err() || plain("-._") && !text.contains(".."));
        prop_assert!(text.parse::<Party>().is_err() || plain("-._/:") && !leads);
    }

    /// A message's and a system's name, a member and a digest may become part of a path: each stays one step below.
    #[test]
    fn no_identifier_leads_out_of_its_folder(text in "[a-z0-9./_-]{0,40}", value: [u8; 32]) {
        let stays = |path: &Path| path.components().all(|component| matches!(component, Component::Normal(_)));
        let one = |path: &str| Path::new(path).components().count() == 1 && stays(Path::new(path));
        prop_assert!(text.parse::<Name>().is_err() || one(&text));
        prop_assert!(text.parse::<MessageId>().is_err() || one(&text));
        prop_assert!(text.parse::<Member>().is_err() || stays(Path::new(&text)));
        let blob = tongban::blobs::place(Path::new("data"), &Digest(value));
        let hex = |name: &str| name.bytes().all(|byte| byte.is_ascii_hexdigit());
        prop_assert!(stays(&blob) && blob.components().skip(2).all(|step| step.as_os_str().to_str().is_some_and(hex)));
    }
}

/// Every parser, with nesting and repetition that would cost a careless one its stack or its time.
#[test]
fn what_is_nested_or_repeated_without_end_is_judged_in_time() {
    let group = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
    // Field 11, a message, in itself: each level has the length of what is in it.
    let mut message = vec![];
    for _ in 0..2_000 {
        let length = u32::try_from(message.len()).unwrap();
        let mut head = vec![0x5a];
        prost::encoding::encode_varint(length.into(), &mut head);
        message = [head, message].concat();
    }
    let sequence = (0..4_000).fold(vec![], |inner: Vec<u8>, _| {
        let [high, low] = u16::try_from(inner.len()).unwrap_or(u16::MAX).to_be_bytes();
        [vec![0x30, 0x82, high, low], inner].concat()
    });
    let rows: [(&str, Vec<u8>); 12] = [
        ("groups", group(10_000)),
        ("messages", message),
        ("unknown fields", [0xf8, 0x7f, 1].repeat(300_000)),
        ("empty parts", [0x5a, 0].repeat(500_000)),
        ("sequences", sequence),
        ("arrays", b"[".repeat(100_000)),
        ("objects", br#"{"a":"#.repeat(50_000)),
        ("toml arrays", [&b"owner = "[..], &b"[".repeat(100_000)].concat()),
        ("toml tables", [&b"owner = "[..], &b"{a=".repeat(50_000)].concat()),
        ("toml keys", [&b"a"[..], &b".a".repeat(100_000), b" = 1"].concat()),
        ("lines", b"\n".repeat(1_000_000)),
        ("signatures", "— a.example AAAAAAAA\n".repeat(40_000).into_bytes()),
    ];
    for (what, bytes) in &rows {
        for (name, parser) in parsers::PARSERS {
            let begun = Instant::now();
            parser(bytes);
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(1), "{name} takes {took:?} for {what}");
        }
    }
}

/// One stream of bytes that look like the beginning of something, and what comes back until it ends.
async fn stream(address: std::net::SocketAddr, seed: u64) {
    let Ok(mut socket) = TcpStream::connect(address).await else { return };
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice
    };
    let mut bytes: Vec<u8> = (0..next() % 2_000).map(|_| next().to_be_bytes()[0]).collect();
    let heads: [&[u8]; 5] = [
        // A record of a handshake that announces a hello; one that is far too large; an alert; HTTP/2 in the clear; HTTP/1.
        &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
        &[22, 3, 3, 255, 255, 1, 255, 255, 255],
        &[21, 3, 3, 0, 2, 2, 40],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\n\r\n",
    ];
    bytes.splice(0..0, heads[(seed % 5) as usize].iter().copied());
    if socket.write_all(&bytes).await.is_ok() {
        let _ = socket.shutdown().await;
        let mut answer = vec![];
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.len() < 4_096, "{} bytes for a stranger", answer.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_strangers_before_any_handshake_break_nothing_and_leave_nothing() {
    let alliance = process::alliance(&[("450200", &["window", "archive"])]);
    let mut gateway = Process::start(&alliance, "450200").await;
    let (window, address) = (alliance.client("450200", "window"), alliance.config("450200").listen);
    window.submit(envelope(("450200", "window"), ("450200", "archive"))).await.unwrap();
    let streams = std::env::var("TONGBAN_STREAMS").map_or(STREAMS, |streams| streams.parse().unwrap());
    let (begun, before) = (Instant::now(), gateway.memory().0);
    for batch in 0..streams / AT_ONCE {
        join_all((0..AT_ONCE).map(|one| stream(address, (batch * AT_ONCE + one) as u64))).await;
    }
    assert!(!gateway.is_gone(), "{}", gateway.said());
    let after = gateway.memory().0;
    assert!(!gateway.said().contains("panicked"), "{}", gateway.said());
    assert!(after < before + GROWTH_MAX, "{before} bytes grew to {after}");
    window.submit(envelope(("450200", "window"), ("450200", "archive"))).await.unwrap();
    println!("{streams} streams in {:.1?}: {} KiB more", begun.elapsed(), after.saturating_sub(before) >> 10);
    gateway.stop().await;
}
