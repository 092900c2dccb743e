//! `serve`: the accept loop behind every port that Davy opens, with the bounds that `axum::serve` does not set.
//!
//! A connection that sends half a header, drips its body, or says nothing is closed; one too many is accepted and
//! closed at once, so that the backlog does not fill. gRPC (tonic's routes as a router) is served on the same terms.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

mod activity;
mod slow_body;

use activity::{Activity, Verdict, Watched};
use slow_body::SlowBody;

/// HTTP/1 headers must fit into this buffer; a PromQL query of 16 KiB may be thrice as long in a URL.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
/// Pause after an accept that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct ServeLimits {
    pub connections_max: usize,
    /// From the first byte of a request to the end of its header.
    pub header_read: Duration,
    /// From the end of the header to the end of the body.
    pub body_read: Duration,
    /// Without a request in work or a byte moved.
    pub idle: Duration,
    /// For requests in work, once the shutdown has begun.
    pub drain: Duration,
    pub http2_streams_max: u32,
    pub http2_header_bytes_max: u32,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            header_read: Duration::from_secs(10),
            body_read: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            http2_streams_max: 128,
            http2_header_bytes_max: 16 << 10,
        }
    }
}

/// Serves until `shutdown`, then lets requests in work finish for as long as `limits.drain`.
///
/// Handlers find the peer's address as [`ConnectInfo<SocketAddr>`].
pub async fn serve(listener: TcpListener, app: Router, limits: ServeLimits, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let limits = Arc::new(limits);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match permits.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (app, limits, shutdown) = (app.clone(), limits.clone(), shutdown.clone());
                    connections.spawn(connection(stream, peer, app, limits, shutdown, permit));
                }
                Err(_) => tracing::debug!(%peer, "connection refused: as many open as allowed"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    limits: Arc<ServeLimits>,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let activity = Activity::new();
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let body_read = limits.body_read;
    let service = service_fn(|request: http::Request<Incoming>| {
        let in_work = activity.request(request.version());
        let mut request = request.map(|body| Body::new(SlowBody::new(body, body_read)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let app = app.clone();
        async move {
            let response = app.oneshot(request).await;
            drop(in_work);
            Ok::<_, Infallible>(response.unwrap_or_else(|never| match never {}))
        }
    });
    let builder = builder(&limits);
    let mut http = std::pin::pin!(builder.serve_connection(io, service));
    let mut drain_until: Option<Instant> = None;
    loop {
        let wake = drain_until.unwrap_or_else(|| activity.next_check(&limits));
        tokio::select! {
            result = http.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            () = shutdown.cancelled(), if drain_until.is_none() => {
                http.as_mut().graceful_shutdown();
                drain_until = Some(Instant::now() + limits.drain);
            }
            () = activity.changed(), if drain_until.is_none() => {}
            () = sleep_until(wake) => match activity.verdict(&limits) {
                _ if drain_until.is_some() => return,
                Verdict::Fine => {}
                Verdict::TooSlow => {
                    tracing::debug!(%peer, "connection closed: half a header for too long");
                    return;
                }
                Verdict::Idle => {
                    // Says goodbye on HTTP/2; the peer has a moment to hear it.
                    http.as_mut().graceful_shutdown();
                    drain_until = Some(Instant::now() + limits.drain.min(ACCEPT_PAUSE));
                }
            },
        }
    }
}

fn builder(limits: &ServeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's would count an idle connection as a slow header, and does not see one that sends nothing at all.
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(limits.http2_header_bytes_max);
    builder
}
