//! Errors as Prometheus' API writes them: `{"status":"error","errorType":..,"error":..}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// nginx' number for "the client has gone"; Prometheus uses it too.
const CLIENT_CLOSED_REQUEST: u16 = 499;

#[derive(Debug, Clone)]
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

impl ApiError {
    /// `errorType`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::BadData(_) | Self::TooLarge(_) => "bad_data",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Execution(_) => "execution",
            Self::Canceled(_) => "canceled",
            Self::Timeout(_) => "timeout",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }
}

/// The store's troubles are Davy's own.
impl From<davy_store::Error> for ApiError {
    fn from(error: davy_store::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let closed =
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).expect("a status is a number from 100 to 999");
        let kind = self.kind();
        let (status, error) = match self {
            Self::BadData(e) => (StatusCode::BAD_REQUEST, e),
            Self::NotFound(e) => (StatusCode::NOT_FOUND, e),
            Self::Conflict(e) => (StatusCode::CONFLICT, e),
            Self::TooLarge(e) => (StatusCode::PAYLOAD_TOO_LARGE, e),
            Self::Execution(e) => (StatusCode::UNPROCESSABLE_ENTITY, e),
            Self::Canceled(e) => (closed, e),
            Self::Timeout(e) | Self::Unavailable(e) => (StatusCode::SERVICE_UNAVAILABLE, e),
            Self::Internal(e) => (StatusCode::INTERNAL_SERVER_ERROR, e),
        };
        (status, Json(serde_json::json!({"status": "error", "errorType": kind, "error": error})))
            .into_response()
    }
}
