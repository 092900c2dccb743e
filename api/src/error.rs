//! Errors as Prometheus' API writes them: `{"status":"error","errorType":..,"error":..}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// nginx' number for "the client has gone"; Prometheus uses it too.
const CLIENT_CLOSED_REQUEST: u16 = 499;

#[derive(Debug)]
pub(crate) enum ApiError {
    BadData(String),
    NotFound(String),
    Conflict(String),
    TooLarge(String),
    Execution(String),
    Canceled(String),
    Timeout(String),
    Unavailable(String),
    Internal(String),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let closed =
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).expect("a status is a number from 100 to 999");
        let (status, kind, error) = match self {
            Self::BadData(e) => (StatusCode::BAD_REQUEST, "bad_data", e),
            Self::NotFound(e) => (StatusCode::NOT_FOUND, "not_found", e),
            Self::Conflict(e) => (StatusCode::CONFLICT, "conflict", e),
            Self::TooLarge(e) => (StatusCode::PAYLOAD_TOO_LARGE, "bad_data", e),
            Self::Execution(e) => (StatusCode::UNPROCESSABLE_ENTITY, "execution", e),
            Self::Canceled(e) => (closed, "canceled", e),
            Self::Timeout(e) => (StatusCode::SERVICE_UNAVAILABLE, "timeout", e),
            Self::Unavailable(e) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", e),
            Self::Internal(e) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", e),
        };
        (status, Json(serde_json::json!({"status": "error", "errorType": kind, "error": error})))
            .into_response()
    }
}
