//! What a sender is told: what was taken, what was refused and why, or why nothing was taken.

use std::fmt;
use std::time::Duration;

use davy_store::Refusal;

/// What became of a request whose good part is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples, histograms among them, that are on disk now.
    pub samples: u64,
    /// How many of them are native histograms.
    pub histograms: u64,
    pub exemplars: u64,
    pub metadata: u64,
    pub refused: Refused,
}

impl Written {
    pub(super) fn one(&mut self, is_histogram: bool) {
        self.samples += 1;
        self.histograms += u64::from(is_histogram);
    }
}

/// Samples that will never be taken, by reason, with the first of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    reasons: Vec<(&'static str, u64, String)>,
}

impl Refused {
    pub(super) fn add(&mut self, reason: &'static str, samples: u64, example: impl FnOnce() -> String) {
        match self.reasons.iter_mut().find(|(r, ..)| *r == reason) {
            Some((_, n, _)) => *n += samples,
            None => self.reasons.push((reason, samples, example())),
        }
    }

    pub fn samples(&self) -> u64 {
        self.reasons.iter().map(|(_, n, _)| n).sum()
    }

    /// Reason and samples.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.reasons.iter().map(|(r, n, _)| (*r, *n))
    }
}

/// Counts, and one example of each reason.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.refused.samples();
        write!(f, "{refused} of {} samples refused, the others are stored:", refused + self.samples)?;
        for (i, (reason, n, example)) in self.refused.reasons.iter().enumerate() {
            write!(f, "{} {n} {reason} (the first: {example})", if i > 0 { ";" } else { "" })?;
        }
        Ok(())
    }
}

/// The word for a reason, as the store's metrics use it.
pub(super) fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::SeriesLimit { .. } => "series_limit",
        Refusal::OutOfOrder { .. } => "out_of_order",
        Refusal::Duplicate { .. } => "duplicate",
        Refusal::OutOfBounds { .. } => "out_of_bounds",
        Refusal::DiskFull { .. } => "disk_full",
        Refusal::UnknownSeries => "unknown_series",
    }
}

/// Nothing of the request was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    #[error("bad remote write request: {0}")]
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

impl Failed {
    /// When to try again; `None` if the same request would be refused again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded => Some(RETRY_OVERLOADED),
            Self::Unavailable(_) => Some(RETRY_UNAVAILABLE),
            Self::Malformed(_) | Self::TooLarge { .. } | Self::Unsupported { .. } | Self::TooSlow(_) => None,
        }
    }
}
