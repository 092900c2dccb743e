//! Errors as Prometheus' API writes them: `{"status":"error","errorType":..,"error":..}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

#[derive(Debug)]
pub(crate) enum ApiError {
    BadData(String),
    NotFound(String),
    Conflict(String),
    Execution(String),
    Unavailable(String),
    Internal(String),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, error) = match self {
            Self::BadData(e) => (StatusCode::BAD_REQUEST, "bad_data", e),
            Self::NotFound(e) => (StatusCode::NOT_FOUND, "not_found", e),
            Self::Conflict(e) => (StatusCode::CONFLICT, "conflict", e),
            Self::Execution(e) => (StatusCode::UNPROCESSABLE_ENTITY, "execution", e),
            Self::Unavailable(e) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", e),
            Self::Internal(e) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", e),
        };
        (status, Json(serde_json::json!({"status": "error", "errorType": kind, "error": error})))
            .into_response()
    }
}
