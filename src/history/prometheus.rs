//! Raw samples out of a server that answers as Prometheus does, by range selectors: `up{job="x"}[1h]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use davy_alerting::describe;
use davy_detector::service_selectors;
use davy_model::{Labels, Matcher, Timestamp};
use davy_store::{Import, Store};
use reqwest::Url;
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// What is asked for at once, and the least that it is halved to when the server finds it too much.
const WINDOW_MAX: Duration = Duration::from_secs(3600);
const WINDOW_MIN: Duration = Duration::from_secs(60);
/// Metric names of a service.
const NAMES_MAX: usize = 20_000;

pub(super) struct Server {
    url: Url,
    client: reqwest::Client,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Matrix {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

enum Failed {
    /// The server would answer a smaller question.
    TooMuch(String),
    Other(String),
}

impl From<davy_store::Error> for Failed {
    fn from(error: davy_store::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Those of the service, and what the user adds.
pub(super) fn selectors(service: &str, more: &[String]) -> Vec<String> {
    let selector = |matchers: &[Matcher]| {
        let all: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        format!("{{{}}}", all.join(","))
    };
    service_selectors(service).iter().map(|m| selector(m)).chain(more.iter().cloned()).collect()
}

impl Server {
    pub(super) fn new(url: Url, token_file: Option<&Path>) -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("--prometheus.url {url}: expected http:// or https://"));
        }
        let token = token_file.map(|file| {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            Ok::<_, String>(text.trim().to_owned())
        });
        let client =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            url,
            client: client.map_err(|e| e.to_string())?,
            token: token.transpose()?,
            runtime: runtime.map_err(|e| e.to_string())?,
        })
    }

    /// Copies what the selectors name into the store.
    pub(super) fn copy(
        &self,
        selectors: &[String],
        (from, to): (Timestamp, Timestamp),
        store: &Store,
        now: Timestamp,
    ) -> Result<(), String> {
        let copied = store.import(now, |import| {
            for selector in selectors {
                for name in self.names(selector, from, to)? {
                    self.copy_metric(selector, &name, (from, to), import)?;
                }
            }
            Ok(())
        });
        copied.map(|_| ()).map_err(|e: Failed| match e {
            Failed::TooMuch(why) | Failed::Other(why) => why,
        })
    }

    fn names(&self, selector: &str, from: Timestamp, to: Timestamp) -> Result<Vec<String>, Failed> {
        let params = [("match[]", selector.to_owned()), ("start", seconds(from)), ("end", seconds(to))];
        let names: Vec<String> = self.get("api/v1/label/__name__/values", &params)?;
        if names.len() > NAMES_MAX {
            let why = format!("{selector} has {} metrics, more than {NAMES_MAX}", names.len());
            return Err(Failed::Other(why));
        }
        Ok(names)
    }

    fn copy_metric(
        &self,
        selector: &str,
        name: &str,
        (from, to): (Timestamp, Timestamp),
        import: &mut Import<'_>,
    ) -> Result<(), Failed> {
        let name = format!("__name__={name:?}");
        let narrowed = match selector.trim_end().strip_suffix('}') {
            Some(open) if open.ends_with('{') => format!("{open}{name}}}"),
            Some(open) => format!("{},{name}}}", open.trim_end_matches(',')),
            None => format!("{selector}{{{name}}}"),
        };
        let mut window = WINDOW_MAX;
        let mut end = from;
        while end < to {
            let next = (end + window).min(to);
            // One millisecond more: a range selector of Prometheus 3 leaves its beginning out.
            let range = next.since(end).as_millis() + 1;
            let params = [("query", format!("{narrowed}[{range}ms]")), ("time", seconds(next))];
            match self.get::<Matrix>("api/v1/query", &params) {
                Ok(matrix) if matrix.result_type == "matrix" => {
                    matrix.result.into_iter().try_for_each(|s| append(s, import))?;
                    end = next;
                }
                Ok(other) => {
                    let why = format!("{narrowed}: expected a matrix, got a {}", other.result_type);
                    return Err(Failed::Other(why));
                }
                Err(Failed::TooMuch(_)) if window > WINDOW_MIN => window /= 2,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, path: &str, params: &[(&str, String)]) -> Result<T, Failed> {
        let mut url = self.url.clone();
        {
            let below = format!("{}/{path}", url.path().trim_end_matches('/'));
            url.set_path(&below);
            url.query_pairs_mut().extend_pairs(params);
        }
        let host = self.url.host_str().unwrap_or("?").to_owned();
        let other = |e: String| Failed::Other(format!("{host}: {e}"));
        let (status, body) = self
            .runtime
            .block_on(async {
                let mut request = self.client.get(url);
                if let Some(token) = &self.token {
                    request = request.bearer_auth(token);
                }
                let mut response = request.send().await?;
                let mut body = Vec::new();
                while let Some(chunk) = response.chunk().await? {
                    if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                        return Ok((response.status(), None));
                    }
                    body.extend_from_slice(&chunk);
                }
                Ok::<_, reqwest::Error>((response.status(), Some(body)))
            })
            // The address may hold a password.
            .map_err(|e| other(describe(e)))?;
        let Some(body) = body else { return Err(Failed::TooMuch("the answer is too large".to_owned())) };
        let answer: Answer<T> = serde_json::from_slice(&body).map_err(|e| {
            let start: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            other(format!("{status}: not an answer of Prometheus ({e}): {start}"))
        })?;
        match answer {
            Answer { data: Some(data), error: None } => Ok(data),
            Answer { error, .. } => {
                let why = error.unwrap_or_else(|| format!("{status} without a reason"));
                let too_much = why.contains("too many samples") || status.as_u16() == 413;
                Err(if too_much { Failed::TooMuch(format!("{host}: {why}")) } else { other(why) })
            }
        }
    }
}

fn append(series: Series, import: &mut Import<'_>) -> Result<(), Failed> {
    let labels = Labels::from_pairs(series.metric.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let found = import.series(&labels).map_err(|refusal| Failed::Other(refusal.to_string()))?;
    for (at, value) in series.values {
        let value: f64 =
            value.parse().map_err(|_| Failed::Other(format!("{labels}: `{value}` is not a number")))?;
        import.append(found, Timestamp::from_millis((at * 1000.0).round() as i64), value)?;
    }
    Ok(())
}

fn seconds(t: Timestamp) -> String {
    format!("{:.3}", t.as_millis() as f64 / 1000.0)
}
