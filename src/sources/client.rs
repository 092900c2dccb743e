//! `Client`: asks a server that answers as Prometheus does. Bounded in time and bytes; it never follows a redirect
//! that nobody allowed.

use std::time::Duration;

use davy_egress::{HttpClient, Secret, describe};
use davy_model::{Labels, Timestamp};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::SourceSpec;
use super::answer::{Answer, Fetched, Result_};

/// Metric names of a service.
const NAMES_MAX: usize = 20_000;
/// What is shown of an answer that makes no sense.
const SHOWN_CHARS_MAX: usize = 200;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The server would answer a smaller question.
    #[error("{0}")]
    TooMuch(String),
    /// It does not answer range selectors with raw samples.
    #[error("{0}")]
    NotRaw(String),
    #[error("{0}")]
    Other(String),
}

pub(crate) struct Client {
    url: Url,
    http: HttpClient,
    headers: HeaderMap,
    timeout: Duration,
    answer_bytes_max: usize,
}

impl Client {
    pub(crate) fn new(spec: &SourceSpec, answer_bytes_max: usize) -> Result<Self, String> {
        let url = Url::parse(&spec.url).map_err(|e| format!("{e}: expected http:// or https://"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{}: expected http:// or https://", spec.url));
        }
        let shared = HttpClient::new(&spec.http).map_err(|e| e.to_string())?;
        let http = HttpClient::for_url(&shared, &spec.http, &url).map_err(|e| e.to_string())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &spec.headers {
            let Secret::Inline(text) = value else { continue };
            let name = HeaderName::try_from(name.as_str()).map_err(|e| e.to_string())?;
            let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|e| e.to_string())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { url, http, headers, timeout: spec.timeout, answer_bytes_max })
    }

    /// The server, without anything that is a secret.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or("?")
    }

    /// Raw samples of the selector in `from..=to`.
    pub(crate) async fn raw(
        &self,
        selector: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Fetched>, Failed> {
        // One millisecond more: a range selector of Prometheus 3 leaves its beginning out.
        let range = to.since(from).as_millis() + 1;
        let query = format!("{selector}[{range}ms]");
        let answer: Result_ =
            self.get("api/v1/query", &[("query", query.clone()), ("time", seconds(to))]).await?;
        if answer.result_type != "matrix" {
            let why = format!("{query}: expected a matrix, got a {}", answer.result_type);
            return Err(Failed::NotRaw(why));
        }
        let mut found = self.read(answer)?;
        // Some servers take the range a little wider.
        for series in &mut found {
            series.samples.retain(|(at, _)| from <= *at && *at <= to);
        }
        found.retain(|series| !series.samples.is_empty());
        Ok(found)
    }

    /// The same at steps, for a server that does not give raw samples.
    pub(crate) async fn steps(
        &self,
        selector: &str,
        (from, to): (Timestamp, Timestamp),
        step: Duration,
    ) -> Result<Vec<Fetched>, Failed> {
        let step = step.as_secs_f64().max(1.0);
        let params = [
            ("query", selector.to_owned()),
            ("start", seconds(from)),
            ("end", seconds(to)),
            ("step", format!("{step}")),
        ];
        let answer: Result_ = self.get("api/v1/query_range", &params).await?;
        self.read(answer)
    }

    /// An expression at one time: what a rule group with a source is evaluated by.
    #[cfg_attr(not(test), expect(dead_code, reason = "the seam for `source` of a rule group"))]
    pub(crate) async fn instant(&self, expr: &str, at: Timestamp) -> Result<Vec<(Labels, f64)>, Failed> {
        let params = [("query", expr.to_owned()), ("time", seconds(at))];
        let mut form = self.url.clone();
        form.query_pairs_mut().clear().extend_pairs(&params);
        let request = self.http.post(&self.below("api/v1/query")).await;
        let request = request
            .map_err(|e| self.other(&e.to_string()))?
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned());
        let answer: Result_ = self.ask(request).await?;
        if answer.result_type != "vector" {
            return Err(self.other(&format!("expected a vector, got a {}", answer.result_type)));
        }
        let one = |f: Fetched| Some((f.labels, f.samples.first()?.1));
        Ok(self.read(answer)?.into_iter().filter_map(one).collect())
    }

    /// Names of the metrics that the selector finds.
    pub(crate) async fn names(
        &self,
        selector: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<String>, Failed> {
        let params = [("match[]", selector.to_owned()), ("start", seconds(from)), ("end", seconds(to))];
        let names: Vec<String> = self.get("api/v1/label/__name__/values", &params).await?;
        if names.len() > NAMES_MAX {
            return Err(self.other(&format!("{selector} has {} metrics, more than {NAMES_MAX}", names.len())));
        }
        Ok(names)
    }

    fn read(&self, answer: Result_) -> Result<Vec<Fetched>, Failed> {
        answer.result.into_iter().map(|s| s.read().map_err(|e| self.other(&e))).collect()
    }

    async fn get<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<T, Failed> {
        let mut url = self.below(path);
        url.query_pairs_mut().extend_pairs(params);
        self.ask(self.http.get(&url).await.map_err(|e| self.other(&e.to_string()))?).await
    }

    async fn ask<T: for<'a> Deserialize<'a>>(&self, request: RequestBuilder) -> Result<T, Failed> {
        let request = request.headers(self.headers.clone());
        let answered = tokio::time::timeout(self.timeout, self.fetch(request)).await;
        let (status, body) = match answered {
            Ok(answered) => answered?,
            Err(_) => return Err(self.other(&format!("no answer within {:?}", self.timeout))),
        };
        let answer: Answer<T> = serde_json::from_slice(&body).map_err(|e| {
            let start: String = String::from_utf8_lossy(&body).chars().take(SHOWN_CHARS_MAX).collect();
            self.other(&format!("{status}: not an answer of Prometheus ({e}): {start}"))
        })?;
        match answer {
            Answer { is_partial: true, .. } => Err(self.other("the answer is partial")),
            Answer { data: Some(_), error: None, ref warnings, .. } if !warnings.is_empty() => {
                Err(self.other(&format!("the answer comes with warnings: {}", warnings.join("; "))))
            }
            Answer { data: Some(data), error: None, .. } => Ok(data),
            Answer { error, .. } => {
                let why = error.unwrap_or_else(|| format!("{status} without a reason"));
                if why.contains("invalid expression type") {
                    return Err(Failed::NotRaw(format!("{}: {why}", self.host())));
                }
                let too_much = why.contains("too many samples") || status == 413 || why.contains("exceeds");
                Err(if too_much {
                    Failed::TooMuch(format!("{}: {why}", self.host()))
                } else {
                    self.other(&why)
                })
            }
        }
    }

    async fn fetch(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), Failed> {
        // The address may hold a password: an error is told without it.
        let told = |e: reqwest::Error| self.other(&describe(&e));
        let mut response = request.send().await.map_err(told)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > self.answer_bytes_max {
                let why = format!("{}: an answer of more than {} bytes", self.host(), self.answer_bytes_max);
                return Err(Failed::TooMuch(why));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status().as_u16(), body))
    }

    fn below(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        url
    }

    fn other(&self, why: &str) -> Failed {
        Failed::Other(format!("{}: {why}", self.host()))
    }
}

/// A selector with the metric's name added to it.
pub(crate) fn narrowed(selector: &str, name: &str) -> String {
    let name = format!("__name__={name:?}");
    match selector.trim_end().strip_suffix('}') {
        Some(open) if open.ends_with('{') => format!("{open}{name}}}"),
        Some(open) => format!("{},{name}}}", open.trim_end_matches(',')),
        None => format!("{selector}{{{name}}}"),
    }
}

fn seconds(t: Timestamp) -> String {
    format!("{:.3}", t.as_millis() as f64 / 1000.0)
}
