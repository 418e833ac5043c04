//! Speaks HTTP/2 one frame at a time (RFC 9113), so that a test can be as rude as it likes.
#![allow(dead_code, reason = "each test file uses its own part")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::gate::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const REFUSED_STREAM: u32 = 7;

/// One frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The value of one setting of a SETTINGS frame.
    pub fn setting(&self, id: u16) -> Option<u32> {
        let mut entries = self.payload.chunks(6);
        let entry = entries.find(|entry| entry[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes(entry[2..].try_into().unwrap()))
    }
}

/// A connection under our own hand.
pub struct Raw {
    io: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Raw {
    pub fn new(io: TlsStream<TcpStream>) -> Raw {
        Raw { io, read: Vec::new() }
    }

    /// Preface and an empty SETTINGS, as a client begins.
    pub async fn greet(&mut self) {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        self.send(&bytes).await;
    }

    /// Sends bytes; a peer that has closed is no fault of the test.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async { self.io.write_all(bytes).await.is_ok() && self.io.flush().await.is_ok() };
        timeout(PATIENCE, sent).await.expect("the peer takes the bytes or closes")
    }

    /// The next frame, or nothing once the peer has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.whole() {
                return Some(frame);
            }
            let mut chunk = [0; 16 * 1024];
            match timeout(PATIENCE, self.io.read(&mut chunk)).await.expect("a frame or the end") {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.read.extend(&chunk[..read]),
            }
        }
    }

    /// The first frame that fits, or nothing once the peer has closed.
    pub async fn find(&mut self, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
        while let Some(frame) = self.next().await {
            if fits(&frame) {
                return Some(frame);
            }
        }
        None
    }

    /// Everything until the peer closes.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    fn whole(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.read.get(..9)?.try_into().unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.read.get(9..9 + length)?.to_vec();
        self.read.drain(..9 + length);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of headers, each a literal that is not indexed (RFC 7541 6.2.2).
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "short enough for one byte of length");
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The headers of a health check.
pub fn call() -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}
