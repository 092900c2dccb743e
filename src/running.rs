//! A running davy, as the commands that ask it see it.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::{Client, Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::exit;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the davy is that a command asks.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Where davy listens.
    #[arg(long, default_value = "http://127.0.0.1:9600", value_parser = address)]
    url: Url,
}

/// Who tells it something, and why.
#[derive(Debug, Args)]
pub(crate) struct Order {
    /// Why: it stands in the audit.
    #[arg(long)]
    pub(crate) reason: String,
    /// Who: it stands in the audit.
    #[arg(long, env = "USER")]
    pub(crate) actor: String,
}

pub(crate) struct Running {
    client: Client,
    url: Url,
}

impl Running {
    pub(crate) fn at(At { url }: &At) -> Result<Self, String> {
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
        Ok(Self { client: client.map_err(|e| e.to_string())?, url: url.clone() })
    }

    /// `path` is below `/api/davy/v1`, each segment by itself.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, String> {
        let mut url = self.place(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.ask(Method::GET, url, None).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T, String> {
        self.ask(Method::POST, self.place(path)?, Some(body)).await
    }

    fn place(&self, path: &[&str]) -> Result<Url, String> {
        let mut url = self.url.clone();
        let mut segments = url.path_segments_mut().map_err(|()| "the address has no path".to_owned())?;
        segments.pop_if_empty().extend(["api", "davy", "v1"]).extend(path);
        drop(segments);
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<T, String> {
        let failed = |e: reqwest::Error| {
            if e.is_connect() {
                format!("no davy answers on {}; say where it listens with --url", self.url)
            } else {
                format!("{url}: {e}")
            }
        };
        let mut request = self.client.request(method, url.clone());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        if !status.is_success() {
            let error: Option<Value> = serde_json::from_str(&text).ok();
            let said = error.as_ref().and_then(|e| e["error"].as_str()).unwrap_or(&text);
            return Err(format!("{status}: {said}"));
        }
        serde_json::from_str(&text).map_err(|e| format!("{url}: {status}, not the answer of a davy ({e})"))
    }
}

/// Runs what asks to its end; gives the exit code.
pub(crate) fn ask(what: impl Future<Output = Result<u8, String>>) -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(what));
    exit::with(done)
}

fn address(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|e| format!("expected an address such as http://127.0.0.1:9600: {e}"))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err("expected http:// or https://".to_owned())
    }
}
