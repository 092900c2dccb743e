//! What a connection is doing: waiting, sending a header, or being answered. Seen from the bytes that move and the
//! requests that begin, whatever the HTTP version.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ServeLimits;

#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    in_work: usize,
    /// When the first byte came that belongs to no request yet. Not tracked once a request has come over HTTP/2,
    /// where bytes need not be headers.
    header_since: Option<Instant>,
    http2: bool,
    moved: Instant,
}

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Fine,
    TooSlow,
    Idle,
}

/// While it lives, a request is in work.
pub(super) struct InWork(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        let state = State { in_work: 0, header_since: None, http2: false, moved: Instant::now() };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    pub(super) fn request(&self, version: http::Version) -> InWork {
        let mut state = self.state();
        state.in_work += 1;
        state.header_since = None;
        state.http2 = version == http::Version::HTTP_2;
        drop(state);
        InWork(self.clone())
    }

    /// The next check is another than it was.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(super) fn next_check(&self, limits: &ServeLimits) -> Instant {
        let state = self.state();
        match state.header_since {
            Some(since) if state.in_work == 0 => since + limits.header_read,
            _ if state.in_work > 0 => Instant::now() + limits.idle,
            _ => state.moved + limits.idle,
        }
    }

    pub(super) fn verdict(&self, limits: &ServeLimits) -> Verdict {
        let (state, now) = (self.state(), Instant::now());
        if state.in_work > 0 {
            return Verdict::Fine;
        }
        match state.header_since {
            Some(since) if now >= since + limits.header_read => Verdict::TooSlow,
            _ if now >= state.moved + limits.idle => Verdict::Idle,
            _ => Verdict::Fine,
        }
    }

    fn read(&self) {
        let mut state = self.state();
        state.moved = Instant::now();
        if state.in_work == 0 && !state.http2 && state.header_since.is_none() {
            state.header_since = Some(state.moved);
            self.0.changed.notify_one();
        }
    }

    fn wrote(&self) {
        self.state().moved = Instant::now();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of this lock panics")
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_work -= 1;
        state.moved = Instant::now();
        drop(state);
        self.0.0.changed.notify_one();
    }
}

/// A stream that reports the bytes it moves.
pub(super) struct Watched {
    stream: TcpStream,
    activity: Activity,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Activity) -> Self {
        Self { stream, activity }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read();
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if matches!(result, Poll::Ready(Ok(n)) if n > 0) {
            self.activity.wrote();
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if matches!(result, Poll::Ready(Ok(n)) if n > 0) {
            self.activity.wrote();
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
