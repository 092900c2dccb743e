//! What a sender is told: how much was taken, or why nothing was.

use std::time::Duration;

/// How many items of a request were taken and refused, and why the first was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Spans or data points that are on disk.
    pub accepted: u64,
    /// Spans or data points that will never be: the sender need not try again.
    pub rejected: u64,
    /// The first reason, empty if nothing was refused.
    pub message: String,
}

/// Nothing of the request was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("bad OTLP request: {0}")]
    Malformed(String),
    #[error("request is larger than {limit_bytes} bytes {what}")]
    TooLarge { limit_bytes: usize, what: &'static str },
    #[error("unsupported {what}: got {got:?}, expected {expected}")]
    Unsupported { what: &'static str, got: String, expected: &'static str },
    #[error("request body did not arrive within {0:?}")]
    TooSlow(Duration),
    #[error("too many requests in progress")]
    Overloaded,
    /// The store did not take the batch; sending it again is safe and may succeed.
    #[error("cannot store: {0}")]
    Unavailable(String),
}

/// How long a sender should wait after a burst.
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);
/// A full disk is not cleared in a second.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(30);

impl Refused {
    /// When to try again; `None` if the same request would be refused again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded => Some(RETRY_OVERLOADED),
            Self::Unavailable(_) => Some(RETRY_UNAVAILABLE),
            Self::Malformed(_) | Self::TooLarge { .. } | Self::Unsupported { .. } | Self::TooSlow(_) => None,
        }
    }
}

/// Counts while a request is converted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    first: Option<String>,
}

impl Tally {
    pub(crate) fn accept(&mut self) {
        self.accepted += 1;
    }

    pub(crate) fn refuse(&mut self, count: u64, reason: impl FnOnce() -> String) {
        if count > 0 {
            self.rejected += count;
            self.first.get_or_insert_with(reason);
        }
    }
}

impl From<Tally> for Outcome {
    fn from(tally: Tally) -> Self {
        Self { accepted: tally.accepted, rejected: tally.rejected, message: tally.first.unwrap_or_default() }
    }
}
