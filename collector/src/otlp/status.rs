//! `google.rpc.Status` and the empty or partial success, as both transports answer them.

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::json;

use super::outcome::{Outcome, Refused};

/// The parts of `google.rpc.Status` that are used; declared here because tonic-types is a crate for three fields.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo` around `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Seconds>,
}

#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

impl Status {
    /// With a `RetryInfo` exactly if trying again may help: clients of OTLP retry by it.
    pub(crate) fn of(refused: &Refused) -> Self {
        let retry = refused.retry_after().map(|after| {
            let retry_delay = Some(Seconds { seconds: after.as_secs() as i64 });
            let value = RetryInfo { retry_delay }.encode_to_vec();
            Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value }
        });
        Self {
            code: code(refused) as i32,
            message: refused.to_string(),
            details: retry.into_iter().collect(),
        }
    }

    /// As protobuf's JSON has it; the details are for gRPC.
    pub(crate) fn to_json(&self) -> String {
        json!({"code": self.code, "message": self.message}).to_string()
    }
}

pub(crate) fn code(refused: &Refused) -> tonic::Code {
    match refused {
        Refused::Malformed(_) => tonic::Code::InvalidArgument,
        Refused::Unsupported { .. } => tonic::Code::Unimplemented,
        Refused::TooLarge { .. } => tonic::Code::ResourceExhausted,
        Refused::TooSlow(_) => tonic::Code::Cancelled,
        Refused::Overloaded | Refused::Unavailable(_) => tonic::Code::Unavailable,
    }
}

/// The answer to a request that was taken, whole or in part.
pub(crate) trait Answer {
    type Response: Message;
    fn answer(outcome: &Outcome) -> Self::Response;
    fn answer_json(outcome: &Outcome) -> String;
}

impl Answer for ExportTraceServiceRequest {
    type Response = ExportTraceServiceResponse;

    fn answer(outcome: &Outcome) -> ExportTraceServiceResponse {
        let partial_success = rejected(outcome).map(|(rejected_spans, error_message)| {
            ExportTracePartialSuccess { rejected_spans, error_message }
        });
        ExportTraceServiceResponse { partial_success }
    }

    fn answer_json(outcome: &Outcome) -> String {
        json_answer("rejectedSpans", outcome)
    }
}

impl Answer for ExportMetricsServiceRequest {
    type Response = ExportMetricsServiceResponse;

    fn answer(outcome: &Outcome) -> ExportMetricsServiceResponse {
        let partial_success = rejected(outcome).map(|(rejected_data_points, error_message)| {
            ExportMetricsPartialSuccess { rejected_data_points, error_message }
        });
        ExportMetricsServiceResponse { partial_success }
    }

    fn answer_json(outcome: &Outcome) -> String {
        json_answer("rejectedDataPoints", outcome)
    }
}

fn rejected(outcome: &Outcome) -> Option<(i64, String)> {
    (outcome.rejected > 0)
        .then(|| (i64::try_from(outcome.rejected).unwrap_or(i64::MAX), outcome.message.clone()))
}

/// Full success has no `partialSuccess`; 64-bit integers are strings.
fn json_answer(count: &str, outcome: &Outcome) -> String {
    match rejected(outcome) {
        None => "{}".to_owned(),
        Some((rejected, message)) => {
            json!({"partialSuccess": {count: rejected.to_string(), "errorMessage": message}}).to_string()
        }
    }
}
