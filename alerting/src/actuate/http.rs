//! What an answer over HTTP says of a call, and of a question.

use std::time::Duration;

use davy_egress::{ClientError, HttpClient, HttpConfig, Names, describe};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::Value;

use crate::client::{self, SetupError, body_start};
use crate::release::{CallOutcome, ReadError};
use crate::text;

/// Connecting may take half of the whole time, and at most this: it must end on its own clock, because a time-out of
/// the whole call counts as "may have been sent".
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Longest part of a refusal that is kept, in characters.
const REFUSAL_CHARS_MAX: usize = 300;

pub(super) fn client(
    owner: &str,
    config: &HttpConfig,
    url: &Url,
    timeout: Duration,
) -> Result<HttpClient, SetupError> {
    client::client(owner, config, url, (timeout / 2).min(CONNECT_TIMEOUT_MAX), &Names::default())
}

/// Credentials that cannot be read now may be readable later.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn unready(error: ClientError) -> ReadError {
    ReadError::Unreachable(error.to_string())
}

/// Sends once. `Ok` is the body of a success; everything else is what is known of the call.
pub(super) async fn send(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), CallOutcome> {
    match request.send().await {
        Ok(response) => {
            let status = response.status();
            let body = body_start(response).await;
            if status.is_success() { Ok((status, body)) } else { Err(refused(status, &body)) }
        }
        // Neither connected nor resolved, or never built: no byte of it has left.
        Err(e) if e.is_connect() || e.is_builder() => Err(CallOutcome::NotSent { detail: describe(&e) }),
        Err(e) => Err(CallOutcome::Unknown { detail: describe(&e) }),
    }
}

fn refused(status: StatusCode, body: &[u8]) -> CallOutcome {
    let said = text::one_line(&String::from_utf8_lossy(body), REFUSAL_CHARS_MAX);
    let detail = format!("status {}: {said}", status.as_u16());
    match status {
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => CallOutcome::Conflict { detail },
        _ if status.is_client_error() => CallOutcome::Rejected { detail },
        _ if status.is_redirection() => {
            let detail = format!("status {}: redirects are not followed", status.as_u16());
            CallOutcome::Rejected { detail }
        }
        _ => CallOutcome::Unknown { detail },
    }
}

/// Asks once, and takes the answer for JSON.
pub(super) async fn ask(request: RequestBuilder) -> Result<Value, ReadError> {
    let response = request.send().await.map_err(|e| ReadError::Unreachable(describe(&e)))?;
    let status = response.status();
    let body = body_start(response).await;
    if !status.is_success() {
        let said = text::one_line(&String::from_utf8_lossy(&body), REFUSAL_CHARS_MAX);
        let said = format!("status {}: {said}", status.as_u16());
        let later = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        return Err(if later { ReadError::Unreachable(said) } else { ReadError::Unusable(said) });
    }
    serde_json::from_slice(&body).map_err(|e| ReadError::Unusable(format!("its answer is no JSON: {e}")))
}

/// The field of an answer, or what is wrong with it.
pub(super) fn text_of(value: &Value, field: &str) -> Result<String, ReadError> {
    match &value[field] {
        Value::String(s) => Ok(s.clone()),
        // Generations are often numbers.
        Value::Number(n) => Ok(n.to_string()),
        _ => Err(ReadError::Unusable(format!("its answer has no `{field}`"))),
    }
}
