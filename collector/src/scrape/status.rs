//! `TargetStatus`: what the API and the terminal show of a target.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use davy_model::{Labels, Timestamp};

use super::error::Reason;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Whoever shows it takes it as it is; a scrape replaces it.
pub(super) type Shown = Arc<Mutex<Arc<TargetStatus>>>;

/// A target and its last scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetStatus {
    pub job: String,
    pub labels: Labels,
    /// Before relabelling.
    pub discovered: Labels,
    pub url: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub health: Health,
    pub last_scrape: Option<Timestamp>,
    pub last_duration: Duration,
    pub last_error: Option<String>,
    /// Set while the target is down.
    pub reason: Option<Reason>,
    /// Samples of the last scrape, after metric relabelling.
    pub samples: u64,
    /// Further samples of a series for the same time, in the last scrape.
    pub duplicates: u64,
    /// Samples of the last scrape that the store did not take.
    pub refused: u64,
    pub scrapes: u64,
    pub failures: u64,
}
