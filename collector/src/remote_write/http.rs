//! Remote write over HTTP: `POST /api/v1/write`, a snappy block of protobuf.
//!
//! The content type says which version of the protocol it is. Answers to 2.0 say in headers what was written.

use std::time::Duration;

use ::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::Receiver;
use super::outcome::{Failed, Written};
use super::snappy;
use crate::admission::{Admission, Admitted};

/// Bytes of a body as it is sent.
const WIRE_BYTES_MAX: usize = 16 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const PROTOBUF: &str = "application/x-protobuf";
const MESSAGE_V1: &str = "prometheus.WriteRequest";
const MESSAGE_V2: &str = "io.prometheus.write.v2.Request";
const WRITTEN_SAMPLES: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const WRITTEN_HISTOGRAMS: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const WRITTEN_EXEMPLARS: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    V1,
    V2,
}

/// The route. The server around it sets the limits on connections and headers.
pub fn http_router(receiver: Receiver) -> Router {
    Router::new().route("/api/v1/write", post(handle)).with_state(receiver)
}

async fn handle(State(receiver): State<Receiver>, request: Request) -> Response<Body> {
    let protocol = protocol(request.headers());
    let ended = match &protocol {
        Ok(protocol) => receive(&receiver, *protocol, request).await,
        Err(failed) => Err(failed.clone()),
    };
    receiver.stats().request(&ended);
    let mut response = answer(&ended);
    if protocol == Ok(Protocol::V2) {
        say_written(response.headers_mut(), ended.as_ref().ok());
    }
    response
}

/// What 2.0 wants to be told in every case.
fn say_written(headers: &mut HeaderMap, written: Option<&Written>) {
    let count = |of: fn(&Written) -> u64| written.map_or(0, of).into();
    headers.insert(WRITTEN_SAMPLES, count(|w| w.samples - w.histograms));
    headers.insert(WRITTEN_HISTOGRAMS, count(|w| w.histograms));
    headers.insert(WRITTEN_EXEMPLARS, count(|w| w.exemplars));
}

async fn receive(receiver: &Receiver, protocol: Protocol, request: Request) -> Result<Written, Failed> {
    check_encoding(request.headers())?;
    let declared = declared_length(request.headers())?;
    let _place = admit(&receiver.0.bodies, declared).await?;
    let body = read(request.into_body()).await?;
    let _room = admit(&receiver.0.unpacked, snappy::unpacked_length(&body)?).await?;
    let receiver = receiver.clone();
    // Unpacking is work, and the commit waits for the disk: nothing for a thread that serves sockets.
    let write = move || match protocol {
        Protocol::V1 => receiver.write(&body),
        Protocol::V2 => receiver.write_v2(&body),
    };
    tokio::task::spawn_blocking(write).await.map_err(|e| Failed::Unavailable(e.to_string()))?
}

/// Whoever sends no content type is taken for version 1.0, as Prometheus does.
fn protocol(headers: &HeaderMap) -> Result<Protocol, Failed> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Protocol::V1) };
    let got = value.to_str().unwrap_or("");
    let unsupported = |expected| Failed::Unsupported { what: "content type", got: got.to_owned(), expected };
    let mut parts = got.split(';').map(str::trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case(PROTOBUF)) {
        return Err(unsupported("application/x-protobuf"));
    }
    let message = parts.find_map(|p| p.strip_prefix("proto="));
    match message.map(|m| m.trim_matches('"')) {
        None | Some("" | MESSAGE_V1) => Ok(Protocol::V1),
        Some(MESSAGE_V2) => Ok(Protocol::V2),
        Some(_) => Err(unsupported(
            "application/x-protobuf with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request",
        )),
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Failed> {
    let got = headers.get(CONTENT_ENCODING).map_or("snappy", |v| v.to_str().unwrap_or("")).trim();
    if got.eq_ignore_ascii_case("snappy") {
        return Ok(());
    }
    Err(Failed::Unsupported { what: "content encoding", got: got.to_owned(), expected: "snappy" })
}

/// Bytes that the body says it has, the limit if it does not say.
fn declared_length(headers: &HeaderMap) -> Result<usize, Failed> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    match declared {
        Some(bytes) if bytes > WIRE_BYTES_MAX => Err(too_large()),
        Some(bytes) => Ok(bytes),
        None => Ok(WIRE_BYTES_MAX),
    }
}

async fn admit(places: &Admission, bytes: usize) -> Result<Admitted, Failed> {
    places.admit(bytes).await.map_err(|_| Failed::Overloaded)
}

async fn read(body: Body) -> Result<Bytes, Failed> {
    let body = Limited::new(body, WIRE_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(e)) => Err(Failed::Malformed(format!("cannot read the body: {e}"))),
        Err(_) => Err(Failed::TooSlow(BODY_TIMEOUT)),
    }
}

fn too_large() -> Failed {
    Failed::TooLarge { limit_bytes: WIRE_BYTES_MAX, what: "as sent" }
}

/// 204 for all, 400 with counts and examples for a part, and what is left is about the request as a whole.
fn answer(ended: &Result<Written, Failed>) -> Response<Body> {
    match ended {
        Ok(written) if written.refused.samples() == 0 => respond(StatusCode::NO_CONTENT, ""),
        Ok(written) => respond(StatusCode::BAD_REQUEST, &format!("{written}\n")),
        Err(failed) => {
            let mut response = respond(status(failed), &format!("{failed}\n"));
            if let Some(after) = failed.retry_after() {
                response.headers_mut().insert(RETRY_AFTER, after.as_secs().into());
            }
            response
        }
    }
}

fn status(failed: &Failed) -> StatusCode {
    match failed {
        Failed::Malformed(_) => StatusCode::BAD_REQUEST,
        Failed::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Failed::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Failed::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        Failed::Overloaded | Failed::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn respond(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    if !text.is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
    }
    response
}
