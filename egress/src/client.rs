//! `HttpClient`: how Davy asks and tells other servers, after an [`HttpConfig`].
//!
//! No proxies from the environment, no redirects unless asked for, and credentials read anew for each request so that
//! they can be rotated.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Method};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, RequestBuilder, Url, retry};
use secrecy::{ExposeSecret, SecretString};

use crate::address::{EgressError, Names, check_url};
use crate::config::{Auth, HttpConfig, Secret};

/// Sent as `User-Agent`.
const USER_AGENT: &str = concat!("Davy/", env!("CARGO_PKG_VERSION"));

/// Idle connections outlive the longest usual scrape interval.
const IDLE_MAX: Duration = Duration::from_secs(300);
const REDIRECTS_MAX: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no usable PEM: {source}")]
    Pem { path: PathBuf, source: reqwest::Error },
    #[error("a client certificate needs both cert_file and key_file")]
    HalfIdentity,
    #[error("{got:?} is not a URL")]
    Url { got: String },
    #[error("server_name {got:?} is not a DNS name")]
    ServerName { got: String },
    #[error("{what} is empty or not fit for a header")]
    Credentials { what: String },
    #[error("cannot build the client: {0}")]
    Build(#[source] reqwest::Error),
    #[error(transparent)]
    Egress(#[from] EgressError),
}

/// What becomes of a connection when its request is over.
#[derive(Debug, Clone, Copy)]
enum Connections {
    Kept,
    /// A request never meets one that is being closed, is never sent twice, and connects within this time.
    Fresh(Duration),
}

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    auth: Option<Arc<Auth>>,
    /// In place of the URL's host, which goes into the `Host` header.
    server_name: Option<String>,
}

impl HttpClient {
    /// A client for any host, which keeps its connections.
    pub fn new(config: &HttpConfig) -> Result<Self, ClientError> {
        Self::build(config, &Names::System, None, Connections::Kept)
    }

    /// A client for this URL: the same as `shared`, unless the file names the server that the certificate is for.
    pub fn for_url(shared: &Self, config: &HttpConfig, url: &Url) -> Result<Self, ClientError> {
        match server_name(config, url)? {
            Some((name, names)) => Self::build(config, &names, Some(name), Connections::Kept),
            None => Ok(shared.clone()),
        }
    }

    /// A client for this URL whose requests each have a connection of their own, and are sent at most once.
    pub fn fresh(
        config: &HttpConfig,
        url: &Url,
        connect_timeout: Duration,
        names: &Names,
    ) -> Result<Self, ClientError> {
        let connections = Connections::Fresh(connect_timeout);
        match server_name(config, url)? {
            Some((name, names)) => Self::build(config, &names, Some(name), connections),
            None => Self::build(config, names, None, connections),
        }
    }

    fn build(
        config: &HttpConfig,
        names: &Names,
        server_name: Option<String>,
        connections: Connections,
    ) -> Result<Self, ClientError> {
        install_crypto();
        let build = |roots: Option<Vec<Certificate>>| -> Result<_, ClientError> {
            let builder = reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .no_proxy()
                .referer(false)
                .redirect(redirects(config.follow_redirects))
                .dns_resolver(names.clone());
            let mut builder = match connections {
                Connections::Kept => builder.pool_idle_timeout(IDLE_MAX),
                Connections::Fresh(connect_timeout) => {
                    builder.pool_max_idle_per_host(0).retry(retry::never()).connect_timeout(connect_timeout)
                }
            };
            if let Some(roots) = roots {
                builder = builder.tls_certs_only(roots);
            }
            if let Some(identity) = identity(config)? {
                builder = builder.identity(identity);
            }
            builder.build().map_err(ClientError::Build)
        };
        let client = match &config.tls.ca_file {
            Some(path) => build(Some(certificates(path)?))?,
            None => build(None).or_else(|error| {
                // A machine without root certificates can still scrape over HTTP.
                tracing::warn!(%error, "no system root certificates: HTTPS needs a ca_file");
                build(Some(vec![]))
            })?,
        };
        Ok(Self { client, auth: config.auth.clone().map(Arc::new), server_name })
    }

    /// A request with its credentials, ready to be sent.
    pub async fn get(&self, url: &Url) -> Result<RequestBuilder, ClientError> {
        self.request(Method::GET, url).await
    }

    /// The same for a body that is added to it.
    pub async fn post(&self, url: &Url) -> Result<RequestBuilder, ClientError> {
        self.request(Method::POST, url).await
    }

    pub async fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, ClientError> {
        check_url(url)?;
        let mut request = match &self.server_name {
            None => self.client.request(method, url.clone()),
            Some(name) => {
                let host = url.host_str().unwrap_or("");
                let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
                let mut named = url.clone();
                named.set_host(Some(name)).map_err(|_| ClientError::ServerName { got: name.clone() })?;
                self.client.request(method, named).header(HOST, host)
            }
        };
        if let Some(auth) = &self.auth {
            request = request.header(AUTHORIZATION, authorization(auth).await?);
        }
        Ok(request)
    }
}

/// The name that the certificate is for, where the file gives one, and who resolves it to the URL's own host.
fn server_name(config: &HttpConfig, url: &Url) -> Result<Option<(String, Names)>, ClientError> {
    match &config.tls.server_name {
        // An address would be connected to as it stands, whatever the target's own is.
        Some(name) if name.parse::<IpAddr>().is_ok() => Err(ClientError::ServerName { got: name.clone() }),
        Some(name) if url.scheme() == "https" => {
            let own = url.host_str().unwrap_or("").to_owned();
            Ok(Some((name.clone(), Names::Instead(own))))
        }
        _ => Ok(None),
    }
}

/// The whole chain of causes, without the URL, which may hold secrets.
pub fn describe(error: &reqwest::Error) -> String {
    std::error::Error::source(error).map_or_else(|| "the request failed".to_owned(), causes)
}

/// An error with its causes, each once.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut said = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        said.push(cause.to_string());
        next = cause.source();
    }
    // An error often quotes the one below it.
    said.dedup_by(|below, above| above.contains(below.as_str()));
    said.join(": ")
}

fn install_crypto() {
    // An error says that the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn redirects(follow: bool) -> Policy {
    if !follow {
        return Policy::none();
    }
    // reqwest drops the credentials when host, port or scheme changes.
    Policy::custom(|attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(format!("more than {REDIRECTS_MAX} redirects"));
        }
        match check_url(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(e) => attempt.error(e),
        }
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    Certificate::from_pem_bundle(&read(path)?)
        .map_err(|source| ClientError::Pem { path: path.to_owned(), source })
}

fn identity(config: &HttpConfig) -> Result<Option<Identity>, ClientError> {
    match (&config.tls.cert_file, &config.tls.key_file) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => {
            let mut pem = read(cert)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = Identity::from_pem(&pem);
            identity.map(Some).map_err(|source| ClientError::Pem { path: key.clone(), source })
        }
        _ => Err(ClientError::HalfIdentity),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::File { path: path.to_owned(), source })
}

async fn authorization(auth: &Auth) -> Result<HeaderValue, ClientError> {
    let (line, what) = match auth {
        Auth::Basic { username, password } => {
            let pair = format!("{username}:{}", secret(password).await?.expose_secret());
            (format!("Basic {}", BASE64_STANDARD.encode(pair)), "password")
        }
        Auth::Authorization { scheme, credentials } => {
            (format!("{scheme} {}", secret(credentials).await?.expose_secret()), "credentials")
        }
    };
    let mut value =
        HeaderValue::from_str(&line).map_err(|_| ClientError::Credentials { what: what.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header's value that may be a secret.
pub async fn secret_header(value: &Secret) -> Result<HeaderValue, ClientError> {
    let text = secret(value).await?;
    let mut value = HeaderValue::from_str(text.expose_secret())
        .map_err(|_| ClientError::Credentials { what: "header".to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

async fn secret(secret: &Secret) -> Result<SecretString, ClientError> {
    match secret {
        Secret::Inline(s) => Ok(s.clone()),
        Secret::File(path) => {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.map_err(|source| ClientError::File { path: path.clone(), source })?;
            match text.trim_end() {
                "" => Err(ClientError::Credentials { what: path.display().to_string() }),
                s => Ok(s.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_not_connected_to() {
        let names = Names::Fixed(vec!["169.254.169.254".parse().unwrap()]);
        let url = Url::parse("http://metadata.example/").unwrap();
        let client = HttpClient::fresh(&HttpConfig::default(), &url, Duration::from_secs(5), &names).unwrap();
        let error = client.get(&url).await.unwrap().send().await.unwrap_err();
        assert!(error.is_connect());
        let text = describe(&error);
        assert!(text.contains("resolves to 169.254.169.254, which is never reached"), "{text}");
        assert!(!text.contains("http://metadata"), "{text}");
    }
}
