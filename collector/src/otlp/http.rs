//! OTLP over HTTP: `POST /v1/traces` and `/v1/metrics`, protobuf or JSON, plain or gzip.

use std::io::Read as _;
use std::time::Duration;

use ::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::any;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use super::decode::Format;
use super::outcome::{Outcome, Refused};
use super::status::{Answer, Status};
use super::{Export, MESSAGE_BYTES_MAX, Receiver, blocking};

/// Bytes of a body as it is sent.
const WIRE_BYTES_MAX: usize = 4 << 20;
/// Up to here any ratio of compression is believed, beyond it only [`RATIO_MAX`].
const UNSUSPICIOUS_BYTES: usize = 1 << 20;
const RATIO_MAX: usize = 200;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The two routes. The server around it sets the limits on connections and headers.
pub fn http_router(receiver: Receiver) -> Router {
    Router::new()
        .route("/v1/traces", any(handle::<ExportTraceServiceRequest>))
        .route("/v1/metrics", any(handle::<ExportMetricsServiceRequest>))
        .with_state(receiver)
}

async fn handle<R>(State(receiver): State<Receiver>, request: Request) -> Response<Body>
where
    R: Export + Answer + 'static,
{
    if request.method() != Method::POST {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, PROTOBUF, Bytes::new());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    // Whoever sent an unknown type is answered in protobuf, the default of OTLP.
    let format = format(request.headers());
    let ended = match &format {
        Ok(format) => receive::<R>(&receiver, *format, request).await,
        Err(refused) => Err(refused.clone()),
    };
    receiver.stats().request(&ended);
    answer::<R>(format.unwrap_or(Format::Protobuf), &ended)
}

async fn receive<R: Export + 'static>(
    receiver: &Receiver,
    format: Format,
    request: Request,
) -> Result<Outcome, Refused> {
    let is_gzip = is_gzip(request.headers())?;
    let declared = declared_length(request.headers())?;
    let bytes_max = if is_gzip { unpacked_bytes_max(declared) } else { declared };
    let _place = receiver.admit(bytes_max).await?;
    let mut body = read(request.into_body()).await?;
    if is_gzip {
        let limit = unpacked_bytes_max(body.len());
        body = blocking(move || unpack(&body, limit)).await??;
    }
    R::export(receiver, format, body).await
}

fn format(headers: &HeaderMap) -> Result<Format, Refused> {
    let got = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = got.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(PROTOBUF) {
        Ok(Format::Protobuf)
    } else if essence.eq_ignore_ascii_case(JSON) {
        Ok(Format::Json)
    } else {
        let expected = "application/x-protobuf or application/json";
        Err(Refused::Unsupported { what: "content type", got: got.to_owned(), expected })
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Refused> {
    let mut all = headers.get_all(CONTENT_ENCODING).iter();
    let got = match (all.next(), all.next()) {
        (None, _) => return Ok(false),
        (Some(one), None) => one.to_str().unwrap_or("").trim(),
        (Some(_), Some(_)) => "more than one",
    };
    if got.eq_ignore_ascii_case("gzip") {
        Ok(true)
    } else if got.is_empty() || got.eq_ignore_ascii_case("identity") {
        Ok(false)
    } else {
        let expected = "gzip or identity";
        Err(Refused::Unsupported { what: "content encoding", got: got.to_owned(), expected })
    }
}

/// Bytes that the body says it has, the limit if it does not say.
fn declared_length(headers: &HeaderMap) -> Result<usize, Refused> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    match declared {
        Some(bytes) if bytes > WIRE_BYTES_MAX => Err(too_large("as sent", WIRE_BYTES_MAX)),
        Some(bytes) => Ok(bytes),
        None => Ok(WIRE_BYTES_MAX),
    }
}

/// What so many compressed bytes may become.
fn unpacked_bytes_max(packed: usize) -> usize {
    packed.saturating_mul(RATIO_MAX).clamp(UNSUSPICIOUS_BYTES, MESSAGE_BYTES_MAX)
}

async fn read(body: Body) -> Result<Bytes, Refused> {
    let body = Limited::new(body, WIRE_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large("as sent", WIRE_BYTES_MAX)),
        Ok(Err(e)) => Err(Refused::Malformed(format!("cannot read the body: {e}"))),
        Err(_) => Err(Refused::TooSlow(BODY_TIMEOUT)),
    }
}

/// Stops one byte after the limit: a bomb costs no more memory than an honest body.
fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, Refused> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(packed)
        .take(limit as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|e| Refused::Malformed(format!("not gzip: {e}")))?;
    if unpacked.len() > limit {
        return Err(too_large("after decompression", limit));
    }
    Ok(unpacked.into())
}

fn too_large(what: &'static str, limit_bytes: usize) -> Refused {
    Refused::TooLarge { limit_bytes, what }
}

fn answer<R: Answer>(format: Format, ended: &Result<Outcome, Refused>) -> Response<Body> {
    match ended {
        Ok(outcome) => match format {
            Format::Protobuf => respond(StatusCode::OK, PROTOBUF, R::answer(outcome).encode_to_vec().into()),
            Format::Json => respond(StatusCode::OK, JSON, R::answer_json(outcome).into()),
        },
        Err(refused) => {
            let status = Status::of(refused);
            let mut response = match format {
                Format::Protobuf => respond(http_status(refused), PROTOBUF, status.encode_to_vec().into()),
                Format::Json => respond(http_status(refused), JSON, status.to_json().into()),
            };
            if let Some(after) = refused.retry_after() {
                response.headers_mut().insert(RETRY_AFTER, after.as_secs().into());
            }
            response
        }
    }
}

fn http_status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Malformed(_) => StatusCode::BAD_REQUEST,
        Refused::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refused::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        Refused::Overloaded | Refused::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
