//! What to scrape and how, after parsing: every value here is already valid. The YAML lives in `src/config`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use davy_egress::HttpConfig;
use regex::Regex;

/// One entry of `scrape_configs`, Prometheus' schema, with globals filled in. Equal configurations keep their
/// scrape loops over a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub metrics_path: String,
    pub scheme: Scheme,
    /// Query parameters, sent in this order.
    pub params: BTreeMap<String, Vec<String>>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub http: HttpConfig,
    pub discovery: Vec<Discovery>,
    pub relabel: Vec<RelabelConfig>,
    pub metric_relabel: Vec<RelabelConfig>,
    pub limits: ScrapeLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Limits of one scrape; over any of them the whole scrape fails. All have a default (design: bounded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeLimits {
    /// Bytes after decompression.
    pub body_bytes_max: u64,
    pub samples_max: u64,
    pub labels_max: u64,
    pub label_name_bytes_max: u64,
    pub label_value_bytes_max: u64,
    /// Targets of one job.
    pub targets_max: u64,
}

impl Default for ScrapeLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 16 << 20,
            samples_max: 50_000,
            labels_max: 64,
            label_name_bytes_max: 256,
            label_value_bytes_max: 2048,
            targets_max: 10_000,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    Static {
        targets: Vec<String>,
        labels: BTreeMap<String, String>,
    },
    /// JSON or YAML files, last path element may hold `*`.
    File {
        files: Vec<PathBuf>,
        refresh_interval: Duration,
    },
    Http {
        url: String,
        refresh_interval: Duration,
        http: HttpConfig,
    },
}

/// One relabelling step. Regexes are anchored.
#[derive(Debug, Clone)]
pub struct RelabelConfig {
    pub source_labels: Vec<String>,
    pub separator: String,
    pub target_label: String,
    pub regex: Regex,
    pub modulus: u64,
    pub replacement: String,
    pub action: RelabelAction,
}

impl PartialEq for RelabelConfig {
    fn eq(&self, other: &Self) -> bool {
        self.action == other.action
            && self.regex.as_str() == other.regex.as_str()
            && self.modulus == other.modulus
            && self.source_labels == other.source_labels
            && self.separator == other.separator
            && self.target_label == other.target_label
            && self.replacement == other.replacement
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelabelAction {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}
