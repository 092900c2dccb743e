//! Targets from a server: Prometheus' HTTP service discovery.

use std::time::Duration;

use davy_egress::{HttpClient, describe};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use reqwest::Url;

use super::wire;
use crate::target::TargetGroup;

const BODY_BYTES_MAX: usize = 16 << 20;
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

pub(crate) struct HttpDiscovery {
    url: Url,
    pub(super) refresh_interval: Duration,
    client: HttpClient,
    last: Option<Vec<TargetGroup>>,
    /// Logged when it becomes another one.
    error: Option<String>,
}

impl HttpDiscovery {
    pub(super) fn new(url: Url, refresh_interval: Duration, client: HttpClient) -> Self {
        Self { url, refresh_interval, client, last: None, error: None }
    }

    /// `None` when the list is as it was, or the answer cannot be used.
    pub(super) async fn ask(&mut self) -> Option<Vec<TargetGroup>> {
        let timeout = self.refresh_interval.min(TIMEOUT_MAX);
        let answer = match tokio::time::timeout(timeout, self.fetch()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {timeout:?}")),
        };
        match answer {
            Ok(groups) => {
                self.error = None;
                if self.last.as_ref() == Some(&groups) {
                    return None;
                }
                self.last = Some(groups.clone());
                Some(groups)
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    let host = self.url.host_str().unwrap_or("");
                    tracing::warn!(%host, %error, "discovery failed: the last list of targets stays");
                }
                self.error = Some(error);
                None
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<TargetGroup>, String> {
        let request = self.client.get(&self.url).await.map_err(|e| e.to_string())?;
        let request = request
            .header(ACCEPT, "application/json")
            .header("X-Prometheus-Refresh-Interval-Seconds", self.refresh_interval.as_secs_f64().to_string());
        let mut response = request.send().await.map_err(|e| describe(&e))?;
        check(response.status(), response.headers())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| describe(&e))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(format!("expected at most {BODY_BYTES_MAX} bytes, got more"));
            }
            body.extend_from_slice(&chunk);
        }
        let mut groups = wire::json(&body)?;
        for group in &mut groups {
            group.labels.insert("__meta_url".to_owned(), self.url.to_string());
        }
        Ok(groups)
    }
}

fn check(status: StatusCode, headers: &HeaderMap) -> Result<(), String> {
    if status != StatusCode::OK {
        return Err(format!("expected status 200, got {status}"));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let (media, parameter) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = parameter.trim().to_ascii_lowercase();
    if media.trim().eq_ignore_ascii_case("application/json")
        && matches!(charset.as_str(), "" | "charset=utf-8")
    {
        return Ok(());
    }
    Err(format!("expected Content-Type application/json, got {content_type:?}"))
}
