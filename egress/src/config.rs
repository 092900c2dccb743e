//! How a server is reached, after parsing: Prometheus' `http_config`.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// How to reach targets, discovery servers, sources, receivers and actuators.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HttpConfig {
    pub auth: Option<Auth>,
    pub tls: TlsConfig,
    /// Off by default: a redirect could carry the request to a host nobody named.
    pub follow_redirects: bool,
}

/// Credentials; a file is read again at each request so that rotation needs no reload.
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    Basic {
        username: String,
        password: Secret,
    },
    /// `Authorization: <scheme> <credentials>`; the scheme is `Bearer` unless said.
    Authorization {
        scheme: String,
        credentials: Secret,
    },
}

#[derive(Debug, Clone)]
pub enum Secret {
    Inline(SecretString),
    File(PathBuf),
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(a), Self::Inline(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Inline(_), Self::File(_)) | (Self::File(_), Self::Inline(_)) => false,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsConfig {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
}
