//! OTLP over gRPC: the trace and the metrics service, plain, gzip or zstd.
//!
//! The generated services would decode before anything of ours runs; here tonic frames and decompresses, and the
//! bytes go the same way as those of HTTP: admitted first, weighed before they are decoded.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::any;
use bytes::{Buf as _, Bytes};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::SERVICE_NAME as METRICS;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::SERVICE_NAME as TRACES;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::UnaryService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Status};
use tracing::info;

use super::decode::Format;
use super::outcome::{Outcome, Refused};
use super::status::{self, Answer};
use super::{Export, MESSAGE_BYTES_MAX, Receiver};

const CONNECTIONS_MAX: usize = 512;
/// Of one connection.
const STREAMS_MAX: u32 = 128;
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Out of file descriptors, most likely: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets requests in progress end.
pub async fn serve_grpc(
    listener: TcpListener,
    receiver: Receiver,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "otlp grpc receiver started");
    }
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .concurrency_limit_per_connection(STREAMS_MAX as usize)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .timeout(REQUEST_TIMEOUT)
        .serve_with_incoming_shutdown(
            routes(receiver).prepare(),
            incoming(listener),
            shutdown.cancelled_owned(),
        )
        .await
}

/// Both services, for a server that has others too.
pub fn routes(receiver: Receiver) -> Routes {
    let path = |service: &str| format!("/{service}/Export");
    Router::new()
        .route(&path(TRACES), any(handle::<ExportTraceServiceRequest>))
        .route(&path(METRICS), any(handle::<ExportMetricsServiceRequest>))
        .fallback(async || Status::unimplemented("unknown service or method").into_http::<Body>())
        .with_state(receiver)
        .into()
}

async fn handle<R>(State(receiver): State<Receiver>, request: Request) -> ::http::Response<tonic::body::Body>
where
    R: Export + Answer + 'static,
{
    let _place = match receiver.admit(MESSAGE_BYTES_MAX).await {
        Ok(place) => place,
        Err(refused) => return refuse(&receiver, refused),
    };
    let mut grpc = tonic::server::Grpc::new(Raw)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let service = Service::<R>(receiver.clone(), std::marker::PhantomData);
    let response = grpc.unary(service, request).await;
    match refused_by_tonic(&response) {
        Some(refused) => refuse(&receiver, refused),
        None => response,
    }
}

fn refuse(receiver: &Receiver, refused: Refused) -> ::http::Response<tonic::body::Body> {
    let status = to_status(&refused);
    receiver.stats().request(&Err(refused));
    status.into_http()
}

/// tonic refuses a message over the limit with `OUT_OF_RANGE`, which OTLP's clients try again for ever, and broken
/// compression with `INTERNAL`, which blames the server. Unlike our refusals its own carry no details.
fn refused_by_tonic(response: &::http::Response<tonic::body::Body>) -> Option<Refused> {
    let status = Status::from_header_map(response.headers()).filter(|s| s.details().is_empty())?;
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Some(Refused::TooLarge { limit_bytes: MESSAGE_BYTES_MAX, what: "after decompression" })
        }
        Code::Internal => Some(Refused::Malformed(status.message().to_owned())),
        _ => None,
    }
}

struct Service<R>(Receiver, std::marker::PhantomData<R>);

impl<R: Export + Answer + 'static> UnaryService<Bytes> for Service<R> {
    type Response = Vec<u8>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Vec<u8>>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let receiver = self.0.clone();
        Box::pin(async move {
            let ended = R::export(&receiver, Format::Protobuf, request.into_inner()).await;
            receiver.stats().request(&ended);
            match ended {
                Ok(outcome) => Ok(tonic::Response::new(encoded::<R>(&outcome))),
                Err(refused) => Err(to_status(&refused)),
            }
        })
    }
}

fn encoded<R: Answer>(outcome: &Outcome) -> Vec<u8> {
    R::answer(outcome).encode_to_vec()
}

fn to_status(refused: &Refused) -> Status {
    let details = status::Status::of(refused).encode_to_vec().into();
    Status::with_details(status::code(refused), refused.to_string(), details)
}

/// Messages as bytes, both ways.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(into, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Connections, at most [`CONNECTIONS_MAX`] at a time; further ones wait in the kernel's queue.
fn incoming(
    listener: TcpListener,
) -> impl futures_util::Stream<Item = Result<Connection, std::convert::Infallible>> {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    futures_util::stream::unfold((listener, places), async |(listener, places)| {
        let place = places.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are small; without it they may wait for the client's acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Some((Ok(Connection { stream, _place: place }), (listener, places)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    })
}

struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
