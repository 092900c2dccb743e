//! One trace by its id.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use davy_model::{Span, TraceId};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prost::Message;
use serde_json::json;

use super::{TraceError, Traces, otlp};

const PROTOBUF: &str = "application/protobuf";

/// `tempopb.TraceByIDResponse`: the fields that are filled.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) trace: Option<TempoTrace>,
}

/// `tempopb.Trace`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TempoTrace {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

/// `GET /api/v2/traces/{id}`
pub(crate) async fn by_id(
    State(traces): State<Traces>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, TraceError> {
    let spans = traces.by_id(&id).await?;
    if wants_protobuf(&headers) {
        let trace = TempoTrace { resource_spans: otlp::resource_spans(&spans) };
        return Ok(protobuf(&TraceByIdResponse { trace: Some(trace) }));
    }
    Ok(Json(json!({"trace": {"resourceSpans": otlp::resource_spans_json(&spans)}})).into_response())
}

/// `GET /api/traces/{id}`: a path that Tempo and Jaeger share. Grafana's Tempo asks for protobuf and gets OTLP; who
/// does not gets Jaeger's JSON.
pub(crate) async fn by_id_v1(
    State(traces): State<Traces>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !wants_protobuf(&headers) {
        return crate::jaeger::by_id(&traces, &id).await.into_response();
    }
    match traces.by_id(&id).await {
        Ok(spans) => protobuf(&TracesData { resource_spans: otlp::resource_spans(&spans) }),
        Err(error) => error.into_response(),
    }
}

impl Traces {
    /// At least one span. Zeros in front of the id may be left out, as both UIs do.
    pub(crate) async fn by_id(&self, text: &str) -> Result<Vec<Span>, TraceError> {
        let padded = format!("{text:0>32}");
        let id = TraceId::from_hex(&padded).filter(|_| !text.is_empty()).ok_or_else(|| {
            TraceError::Bad(format!("invalid trace id {text:?}: expected up to 32 hexadecimal digits"))
        })?;
        let found =
            self.run(move |snapshot, _| snapshot.trace(id).map_err(|e| TraceError::Internal(e.to_string())));
        let spans = found.await?;
        if spans.is_empty() { Err(TraceError::NotFound(format!("no trace {text}"))) } else { Ok(spans) }
    }
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|v| v.to_str().is_ok_and(|v| v.contains("protobuf")))
}

fn protobuf(message: &impl Message) -> Response {
    ([(header::CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response()
}
