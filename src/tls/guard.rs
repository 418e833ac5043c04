//! Decides whether a peer keeps its HTTP/2 connection moving: the preface, each frame and each block of headers end
//! within their deadlines, and frames without content stay within a rate; and how a connection ends without cutting off
//! what was just said on it. Never reads into a payload and never writes; what the frames mean is hyper's business.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::{
    BYTES_PER_CHEAP_FRAME, CHEAP_FRAMES_PER_HEADERS, CHEAP_FRAMES_PER_MINUTE, FRAME_MS, LINGER_MS, PREFACE_MS,
};

/// What a peer did, or failed to do, for which its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    #[error("the HTTP/2 preface did not come in time")]
    Preface,
    #[error("a frame was begun and not ended in time")]
    Frame,
    #[error("a block of headers was begun and not ended in time")]
    Headers,
    #[error("too many frames without content")]
    Flood,
}

impl Breach {
    /// The stable short code, for logs and as the counter's label.
    pub fn code(self) -> &'static str {
        match self {
            Breach::Preface => "preface_timeout",
            Breach::Frame => "frame_timeout",
            Breach::Headers => "headers_timeout",
            Breach::Flood => "frame_flood",
        }
    }
}

/// The deadlines and the rate of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From the handshake's end to the whole preface.
    pub preface: Duration,
    /// From a frame's, or a block's, first byte to its last.
    pub frame: Duration,
    /// Frames without content in a minute, beyond those that traffic explains.
    pub cheap_per_minute: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            preface: Duration::from_millis(PREFACE_MS),
            frame: Duration::from_millis(FRAME_MS),
            cheap_per_minute: CHEAP_FRAMES_PER_MINUTE,
        }
    }
}

/// The inbound half of one connection, as far as its frames' outlines go (RFC 9113 3.4, 4.1).
#[derive(Debug)]
pub struct FrameWatch {
    pace: Pace,
    at: At,
    /// When the frame that is not yet whole began.
    frame_since: Option<Instant>,
    /// When the block of headers that is not yet whole began.
    block_since: Option<Instant>,
    preface_until: Instant,
    /// Frames without content that may still come, in 1/60,000 of one: a minute has 60,000 ms.
    spare: u64,
    spare_at: Instant,
    /// Content bytes that have not yet made up a whole frame's worth.
    bytes: u64,
}

#[derive(Debug)]
enum At {
    Preface { left: usize },
    Head { head: [u8; HEAD_BYTES], have: usize },
    Payload { left: usize, ends_block: bool },
}

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const CHEAP: u64 = 60_000;
/// Reads in a row before others have their turn.
const LINGER_READS: usize = 16;

impl FrameWatch {
    /// Starts at the end of the handshake.
    pub fn new(pace: Pace, now: Instant) -> FrameWatch {
        FrameWatch {
            pace,
            at: At::Preface { left: PREFACE_BYTES },
            frame_since: None,
            block_since: None,
            preface_until: now + pace.preface,
            spare: pace.cheap_per_minute * CHEAP,
            spare_at: now,
            bytes: 0,
        }
    }

    /// Takes bytes that arrived at `now`, in order.
    pub fn feed(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Breach> {
        while !bytes.is_empty() {
            let taken = match &mut self.at {
                At::Preface { left } => take(left, bytes.len()),
                At::Head { head, have } => {
                    let taken = bytes.len().min(HEAD_BYTES - *have);
                    head[*have..*have + taken].copy_from_slice(&bytes[..taken]);
                    *have += taken;
                    self.frame_since.get_or_insert(now);
                    taken
                }
                At::Payload { left, .. } => take(left, bytes.len()),
            };
            bytes = &bytes[taken..];
            self.step(now)?;
        }
        Ok(())
    }

    /// Counts bytes that we sent: they explain WINDOW_UPDATE and PING frames in return.
    pub fn sent(&mut self, bytes: usize) {
        self.earn(bytes as u64);
    }

    /// When the peer must have ended what it began, and what it breaks otherwise.
    pub fn deadline(&self) -> Option<(Instant, Breach)> {
        if matches!(self.at, At::Preface { .. }) {
            return Some((self.preface_until, Breach::Preface));
        }
        let frame = self.frame_since.map(|since| (since + self.pace.frame, Breach::Frame));
        let block = self.block_since.map(|since| (since + self.pace.frame, Breach::Headers));
        [block, frame].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Moves on from whatever has become whole.
    fn step(&mut self, now: Instant) -> Result<(), Breach> {
        match self.at {
            At::Head { head, have: HEAD_BYTES } => self.begin(head, now)?,
            At::Preface { left: 0 } => self.at = At::Head { head: [0; HEAD_BYTES], have: 0 },
            _ => {}
        }
        if let At::Payload { left: 0, ends_block } = self.at {
            self.frame_since = None;
            if ends_block {
                self.block_since = None;
            }
            self.at = At::Head { head: [0; HEAD_BYTES], have: 0 };
        }
        Ok(())
    }

    fn begin(&mut self, head: [u8; HEAD_BYTES], now: Instant) -> Result<(), Breach> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const CONTINUATION: u8 = 9;
        const END_HEADERS: u8 = 0x4;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        match kind {
            HEADERS => {
                self.block_since.get_or_insert(now);
                self.earn(CHEAP_FRAMES_PER_HEADERS * BYTES_PER_CHEAP_FRAME);
            }
            DATA if length > 0 => self.earn(length as u64),
            CONTINUATION if length > 0 => {}
            _ => self.spend(now)?,
        }
        let ends_block = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
        self.at = At::Payload { left: length, ends_block };
        Ok(())
    }

    fn earn(&mut self, bytes: u64) {
        self.bytes += bytes;
        let frames = self.bytes / BYTES_PER_CHEAP_FRAME;
        self.bytes %= BYTES_PER_CHEAP_FRAME;
        self.spare = (self.spare + frames * CHEAP).min(self.pace.cheap_per_minute * CHEAP);
    }

    fn spend(&mut self, now: Instant) -> Result<(), Breach> {
        let passed_ms = now.saturating_duration_since(self.spare_at).as_millis() as u64;
        self.spare_at += Duration::from_millis(passed_ms);
        let full = self.pace.cheap_per_minute * CHEAP;
        self.spare = self.spare.saturating_add(passed_ms.saturating_mul(self.pace.cheap_per_minute)).min(full);
        self.spare = self.spare.checked_sub(CHEAP).ok_or(Breach::Flood)?;
        Ok(())
    }
}

fn take(left: &mut usize, offered: usize) -> usize {
    let taken = offered.min(*left);
    *left -= taken;
    taken
}

/// A connection under watch. When its peer breaks the pace, reading fails and stays failed.
#[derive(Debug)]
pub struct Guarded<S> {
    inner: S,
    watch: FrameWatch,
    timer: Pin<Box<Sleep>>,
    breach: Arc<OnceLock<Breach>>,
    /// When we ended our half.
    ended: Option<Instant>,
}

impl<S> Guarded<S> {
    /// Starts the watch over a connection whose handshake has just ended.
    pub fn new(inner: S, pace: Pace) -> Guarded<S> {
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + pace.preface));
        Guarded { inner, watch: FrameWatch::new(pace, now), timer, breach: Arc::default(), ended: None }
    }

    /// Where the breach will be found, should one end the connection: hyper's error does not carry it.
    pub fn breach(&self) -> Arc<OnceLock<Breach>> {
        self.breach.clone()
    }

    fn broken(&self, breach: Breach) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, *self.breach.get_or_init(|| breach))
    }

    /// The peer has sent nothing just now: ready once its deadline has passed.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Breach> {
        let Some((at, breach)) = self.watch.deadline() else { return Poll::Pending };
        self.timer_at(at, cx).map(|()| breach)
    }

    fn timer_at(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Reads and forgets what the peer still sends, until it ends its half or has had its time. To close a socket with
    /// unread bytes in it is a reset, and a reset takes from the peer even the answers that it has not read yet
    /// (RFC 9112 9.6).
    fn poll_linger(&mut self, since: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut forgotten = [0; 4096];
        for _ in 0..LINGER_READS {
            if self.timer_at(since + Duration::from_millis(LINGER_MS), cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut forgotten);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(breach) = this.breach.get() {
            return Poll::Ready(Err(this.broken(*breach)));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let fed = this.watch.feed(&buf.filled()[before..], Instant::now());
                Poll::Ready(fed.map_err(|breach| this.broken(breach)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Only a peer that is silent is late: bytes which we were slow to fetch have been taken above.
            Poll::Pending => {
                let breach = ready!(this.poll_overdue(cx));
                Poll::Ready(Err(this.broken(breach)))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.watch.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let since = *this.ended.get_or_insert_with(Instant::now);
        this.poll_linger(since, cx).map(Ok)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, slices))?;
        this.watch.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace { preface: Duration::from_secs(5), frame: Duration::from_secs(10), cheap_per_minute: 60 }
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD_BYTES + payload, 0);
        bytes
    }

    fn open(now: Instant) -> FrameWatch {
        let mut watch = FrameWatch::new(pace(), now);
        assert_eq!(watch.feed(&[0; PREFACE_BYTES], now), Ok(()));
        watch
    }

    #[tokio::test]
    async fn the_preface_has_its_own_deadline_and_bytes_do_not_move_it() {
        let start = Instant::now();
        let mut watch = FrameWatch::new(pace(), start);
        assert_eq!(watch.feed(&[0; PREFACE_BYTES - 1], start + Duration::from_secs(4)), Ok(()));
        assert_eq!(watch.deadline(), Some((start + Duration::from_secs(5), Breach::Preface)));
        assert_eq!(watch.feed(&[0], start + Duration::from_secs(4)), Ok(()));
        assert_eq!(watch.deadline(), None);
    }

    #[tokio::test]
    async fn a_frame_is_due_from_its_first_byte_however_it_is_cut() {
        let start = Instant::now();
        let bytes = frame(0, 0, 100);
        for cut in 1..bytes.len() {
            let mut watch = open(start);
            assert_eq!(watch.feed(&bytes[..cut], start), Ok(()));
            assert_eq!(watch.deadline(), Some((start + Duration::from_secs(10), Breach::Frame)), "{cut}");
            assert_eq!(watch.feed(&bytes[cut..], start + Duration::from_secs(1)), Ok(()));
            assert_eq!(watch.deadline(), None, "{cut}");
        }
    }

    #[tokio::test]
    async fn a_block_of_headers_is_due_from_its_first_frame_through_all_continuations() {
        let start = Instant::now();
        let mut watch = open(start);
        assert_eq!(watch.feed(&frame(1, 0, 10), start), Ok(()));
        assert_eq!(watch.deadline(), Some((start + Duration::from_secs(10), Breach::Headers)));
        assert_eq!(watch.feed(&frame(9, 0, 10), start + Duration::from_secs(9)), Ok(()));
        assert_eq!(watch.deadline(), Some((start + Duration::from_secs(10), Breach::Headers)));
        assert_eq!(watch.feed(&frame(9, 4, 10), start + Duration::from_secs(9)), Ok(()));
        assert_eq!(watch.deadline(), None);
    }

    #[tokio::test]
    async fn frames_without_content_are_a_flood_unless_time_or_traffic_explains_them() {
        let start = Instant::now();
        let ping = frame(6, 0, 8);
        let mut idle = open(start);
        let fed = (0..61).map(|_| idle.feed(&ping, start)).collect::<Result<Vec<_>, _>>();
        assert_eq!(fed, Err(Breach::Flood));

        let mut slow = open(start);
        for second in 0..600 {
            assert_eq!(slow.feed(&ping, start + Duration::from_secs(second)), Ok(()));
        }
        let mut reading = open(start);
        for _ in 0..600 {
            reading.sent(1024);
            assert_eq!(reading.feed(&ping, start), Ok(()));
        }
        let mut calling = open(start);
        for _ in 0..600 {
            assert_eq!(calling.feed(&frame(1, 4, 20), start), Ok(()));
            assert_eq!(calling.feed(&ping, start), Ok(()));
        }
    }

    #[tokio::test]
    async fn an_end_while_the_peer_still_sends_takes_no_answer_from_it() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        use tokio::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut guarded = Guarded::new(listener.accept().await.unwrap().0, pace());
        peer.write_all(&[7; 64 << 10]).await.unwrap();
        const ANSWER: usize = 1 << 20;
        let mut ending = tokio::spawn(async move {
            guarded.write_all(&[1; ANSWER]).await.unwrap();
            guarded.shutdown().await.unwrap();
        });
        let mut answer = vec![0; 1000];
        peer.read_exact(&mut answer).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_millis(200), &mut ending).await;
        assert!(ended.is_err(), "it waits for its peer");
        peer.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), ANSWER);
        drop(peer);
        ending.await.unwrap();
    }
}
