//! What a receiver or an actuator reaches its server with, and what is read of an answer.

use std::time::Duration;

use davy_egress::{HttpClient, HttpConfig, Names, check_url};
use reqwest::{Response, Url};
use secrecy::{ExposeSecret, SecretString};

/// Longest answer that is read.
pub(crate) const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Why a receiver or an actuator cannot be used at all. Never holds a URL or a secret.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{owner}: bad url: {detail}")]
    Url { owner: String, detail: String },
    #[error(
        "{owner}: {host} is a link-local, metadata, multicast or unspecified address, which is never reached"
    )]
    Address { owner: String, host: String },
    #[error("{owner}: the signing secret is not base64")]
    Secret { owner: String },
    #[error("{owner}: bad e-mail address {got:?}: {detail}")]
    Mailbox { owner: String, got: String, detail: String },
    #[error("{owner}: no http client: {detail}")]
    Client { owner: String, detail: String },
}

/// The URL of a receiver or actuator: http or https, with a host that may be reached.
pub(crate) fn url(owner: &str, secret: &SecretString) -> Result<Url, SetupError> {
    let bad = |detail: &str| SetupError::Url { owner: owner.to_owned(), detail: detail.to_owned() };
    let url = Url::parse(secret.expose_secret()).map_err(|e| bad(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("got a scheme other than http and https"));
    }
    let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
    if check_url(&url).is_err() {
        return Err(SetupError::Address { owner: owner.to_owned(), host: host.to_owned() });
    }
    Ok(url)
}

/// A client of this owner for this URL; each request has a connection of its own.
pub(crate) fn client(
    owner: &str,
    config: &HttpConfig,
    url: &Url,
    connect_timeout: Duration,
    names: &Names,
) -> Result<HttpClient, SetupError> {
    HttpClient::fresh(config, url, connect_timeout, names)
        .map_err(|e| SetupError::Client { owner: owner.to_owned(), detail: e.to_string() })
}

/// At most [`RESPONSE_BYTES_MAX`] of the body, and what was read until then if it breaks off.
pub(crate) async fn body_start(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = RESPONSE_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == RESPONSE_BYTES_MAX {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_hosts_that_may_be_reached_are_taken() {
        for bad in ["http://169.254.169.254/latest", "http://[::ffff:169.254.169.254]/"] {
            assert!(matches!(url("x", &bad.into()), Err(SetupError::Address { .. })), "{bad}");
        }
        for bad in ["ftp://example.org/", "file:///etc/passwd", "not a url", "http://"] {
            assert!(matches!(url("x", &bad.into()), Err(SetupError::Url { .. })), "{bad}");
        }
        for good in ["http://127.0.0.1:9/", "http://[::1]/", "http://10.0.0.1/", "https://hooks.slack.com/x"]
        {
            assert!(url("x", &good.into()).is_ok(), "{good}");
        }
    }
}
