//! Decides when what an HTTP/2 connection writes goes out: together with all that its calls have to say in the same turn
//! of the runtime. Never keeps anything beyond the turn after, and never reads or changes a byte.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::GATHERED_BYTES_MAX;

/// What has this size has a record of TLS for itself, and goes out by itself when nothing waits.
const ALONE_BYTES: usize = 16 << 10;

/// A connection whose small writes go out together. HTTP/2 writes and flushes each frame of content by itself: to answer
/// many calls at once cost each of them a record of TLS and a system call, or two.
///
/// A flush only marks what was written as due and wakes the task: the others that are ready have their turn first, and
/// what they add goes out with it, when the task is next polled and reads. Whoever writes here must also read, as every
/// HTTP/2 connection does.
#[derive(Debug)]
pub struct Gathered<S> {
    inner: S,
    /// What was written, of which `gone` bytes have gone out.
    bytes: Vec<u8>,
    gone: usize,
    due: bool,
}

impl<S> Gathered<S> {
    pub fn new(inner: S) -> Gathered<S> {
        Gathered { inner, bytes: vec![], gone: 0, due: false }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Ready once all of it has gone out. Then nothing is held, not even the room: most connections are idle.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.due = true;
        while let Some(left @ [_, ..]) = self.bytes.get(self.gone..) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.gone += written,
            }
        }
        (self.bytes, self.gone, self.due) = (vec![], 0, false);
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Ready once `more` bytes find room.
    fn poll_room(&mut self, more: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.len() + more <= GATHERED_BYTES_MAX { Poll::Ready(Ok(())) } else { self.poll_out(cx) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A peer that does not take it may still have something to say.
        if this.due
            && let Poll::Ready(Err(error)) = this.poll_out(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        ready!(this.poll_room(length, cx))?;
        if this.bytes.is_empty() && length >= ALONE_BYTES {
            return Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        }
        if this.bytes.is_empty() {
            this.bytes.reserve(ALONE_BYTES);
        }
        slices.iter().for_each(|slice| this.bytes.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            return Pin::new(&mut this.inner).poll_flush(cx);
        }
        if !std::mem::replace(&mut this.due, true) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// The task is polled again, and the other end says nothing.
    async fn turn<S: AsyncRead + AsyncWrite + Unpin>(gathered: &mut Gathered<S>) {
        let mut nothing = [0; 1];
        let read = poll_fn(|cx| Poll::Ready(Pin::new(&mut *gathered).poll_read(cx, &mut ReadBuf::new(&mut nothing))));
        assert!(read.await.is_pending());
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_goes_out_in_the_next() {
        let (near, mut far) = duplex(1 << 20);
        let mut gathered = Gathered::new(near);
        for piece in [&b"one "[..], b"two ", b"three"] {
            gathered.write_all(piece).await.unwrap();
            gathered.flush().await.unwrap();
        }
        let mut heard = [0; 64];
        let early = poll_fn(|cx| Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut ReadBuf::new(&mut heard))));
        assert!(early.await.is_pending());
        turn(&mut gathered).await;
        let heard_bytes = far.read(&mut heard).await.unwrap();
        assert_eq!(&heard[..heard_bytes], b"one two three");
        assert_eq!(gathered.bytes.capacity(), 0, "an idle connection holds nothing");
    }

    #[tokio::test]
    async fn a_flush_wakes_the_task_once_and_what_was_not_flushed_waits() {
        let (near, mut far) = duplex(1 << 20);
        let mut gathered = Gathered::new(near);
        let count = std::sync::Arc::new(Wakes::default());
        let waker = std::task::Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut gathered).poll_write(&mut cx, b"held").is_ready());
        turn(&mut gathered).await;
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 0);
        for _ in 0..3 {
            assert!(Pin::new(&mut gathered).poll_flush(&mut cx).is_ready());
        }
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        turn(&mut gathered).await;
        let mut heard = [0; 64];
        assert_eq!(far.read(&mut heard).await.unwrap(), 4);
    }

    #[derive(Default)]
    struct Wakes(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_is_held_is_bounded_and_everything_arrives_in_order() {
        let (near, mut far) = duplex(1_000);
        let mut gathered = Gathered::new(near);
        let sent: Vec<u8> = (0..1_000_000u32).map(|place| place.to_be_bytes()[3] ^ place.to_be_bytes()[2]).collect();
        let told = sent.clone();
        let reader = tokio::spawn(async move {
            let mut heard = vec![];
            far.read_to_end(&mut heard).await.unwrap();
            heard
        });
        let sizes = [1, 9, 70_000, 300, GATHERED_BYTES_MAX, ALONE_BYTES, 5, ALONE_BYTES, GATHERED_BYTES_MAX + 1];
        let mut sizes = sizes.into_iter().cycle();
        let mut left = &told[..];
        while !left.is_empty() {
            let (piece, rest) = left.split_at(sizes.next().unwrap().min(left.len()));
            gathered.write_all(piece).await.unwrap();
            gathered.flush().await.unwrap();
            assert!(gathered.bytes.len() <= GATHERED_BYTES_MAX);
            left = rest;
        }
        gathered.shutdown().await.unwrap();
        assert!(reader.await.unwrap() == sent);
    }

    #[tokio::test]
    async fn a_broken_connection_is_told_when_it_is_read() {
        let (near, far) = duplex(64);
        let mut gathered = Gathered::new(near);
        gathered.write_all(b"lost").await.unwrap();
        gathered.flush().await.unwrap();
        drop(far);
        let error = gathered.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
