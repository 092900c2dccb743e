//! Why a scrape failed, in the classes that a reader acts upon.

use std::fmt;

use crate::expfmt::ParseError;
use davy_egress::ClientError;

/// The class of a failure. None of them says that a release is bad: a target that cannot be seen is not evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Refused,
    Timeout,
    Dns,
    Tls,
    /// Any other trouble with the connection, such as a body that ends early.
    Connection,
    /// 401 and 403.
    Auth,
    /// Any other status but 200; redirects too, unless they are followed.
    HttpStatus,
    Parse,
    Limit,
    /// On Davy's side: credentials that cannot be read, an address that is never asked.
    Config,
}

impl Reason {
    /// As metrics and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Connection => "connection",
            Self::Auth => "auth",
            Self::HttpStatus => "http_status",
            Self::Parse => "parse",
            Self::Limit => "limit",
            Self::Config => "config",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("the body has more than {max} bytes when decompressed")]
    Body { max: u64 },
    #[error("more than {max} samples")]
    Samples { max: u64 },
    #[error("{got} labels on {metric}, expected at most {max}")]
    Labels { metric: String, got: usize, max: u64 },
    #[error("a label name of {got} bytes on {metric}, expected at most {max}")]
    LabelName { metric: String, got: usize, max: u64 },
    #[error("a value of {got} bytes for label {label} on {metric}, expected at most {max}")]
    LabelValue { metric: String, label: String, got: usize, max: u64 },
}

#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    #[error("no complete answer within {after:?}")]
    Timeout { after: std::time::Duration },
    #[error("{message}")]
    Connection { reason: Reason, message: String },
    #[error("expected status 200, got {status}{hint}")]
    Status { status: http::StatusCode, hint: &'static str },
    #[error("expected Content-Encoding gzip or none, got {got:?}")]
    Encoding { got: String },
    #[error("the gzip body is damaged or cut off")]
    Gzip,
    #[error("{0}")]
    Parse(#[from] ParseError),
    #[error("{0}")]
    Relabel(String),
    #[error("{0}")]
    Limit(#[from] LimitError),
    #[error("{0}")]
    Client(#[from] ClientError),
}

impl ScrapeError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Timeout { .. } => Reason::Timeout,
            Self::Connection { reason, .. } => *reason,
            Self::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => Reason::Auth,
            Self::Status { .. } => Reason::HttpStatus,
            Self::Encoding { .. } | Self::Gzip | Self::Parse(_) => Reason::Parse,
            Self::Limit(_) => Reason::Limit,
            Self::Relabel(_) | Self::Client(_) => Reason::Config,
        }
    }
}
