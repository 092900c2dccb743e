//! One request to a server that answers as Prometheus does.

use std::time::Duration;

use davy_egress::describe;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A little longer than servers give a query.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(130);
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Of a body that is no answer, how much is shown.
const EXCERPT_CHARS: usize = 200;

pub(super) enum Failed {
    /// What the server has against the query.
    Query(String),
    Other(String),
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "errorType")]
    kind: String,
    error: String,
}

/// The body of an answer 200.
pub(super) fn post(url: &Url, path: &str, params: &[(&'static str, String)]) -> Result<String, Failed> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failed::Other(e.to_string()))?;
    let host = url.host_str().unwrap_or("?").to_owned();
    let (status, body) = runtime
        .block_on(send(url, path, params))
        // The address may hold a password.
        .map_err(|e| Failed::Other(format!("{host}: {}", describe(&e))))?;
    let Some(body) = body else {
        return Err(Failed::Other(format!(
            "{host}: the answer is larger than {} MiB",
            ANSWER_BYTES_MAX >> 20
        )));
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    if status == 200 {
        return Ok(text);
    }
    Err(match serde_json::from_str::<Refusal>(&text) {
        Ok(refusal) if refusal.kind == "bad_data" => Failed::Query(refusal.error),
        Ok(refusal) => Failed::Query(format!("{}: {}", refusal.kind, refusal.error)),
        Err(_) => {
            let start: String = text.chars().take(EXCERPT_CHARS).collect();
            Failed::Other(format!("{host}: {status}: not an answer of Prometheus: {}", start.trim()))
        }
    })
}

/// `None` for a body that is too large.
async fn send(
    url: &Url,
    path: &str,
    params: &[(&'static str, String)],
) -> Result<(u16, Option<Vec<u8>>), reqwest::Error> {
    let mut url = url.clone();
    url.set_path(&format!("{}/api/v1/{path}", url.path().trim_end_matches('/')));
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(params);
    let client =
        reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build()?;
    let request =
        client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.finish());
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok((response.status().as_u16(), None));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status().as_u16(), Some(body)))
}
