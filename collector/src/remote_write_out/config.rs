//! What `remote_write` of the file says of a destination, after parsing: every value here is already valid.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::RelabelConfig;
use davy_egress::{HttpConfig, Secret};

/// One entry of `remote_write`. Equal ones go on undisturbed over a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteWriteConfig {
    /// Unique; its position is kept under it.
    pub name: String,
    pub url: String,
    pub remote_timeout: Duration,
    pub headers: BTreeMap<String, Secret>,
    /// Given to series that have no such label, before relabelling.
    pub external_labels: BTreeMap<String, String>,
    pub write_relabel: Vec<RelabelConfig>,
    pub http: HttpConfig,
    pub protocol: Protocol,
    pub send_exemplars: bool,
    pub send_native_histograms: bool,
    pub queue: QueueConfig,
    pub metadata: MetadataConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Requests at the same time, at least and at most: as many as there is to send for.
    pub min_shards: usize,
    pub max_shards: usize,
    pub max_samples_per_send: usize,
    /// Samples wait no longer than this for a request to be full.
    pub batch_send_deadline: Duration,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    pub retry_on_http_429: bool,
    /// Older samples are not sent any more.
    pub sample_age_limit: Option<Duration>,
}

/// Prometheus' defaults but one: a destination that asks for patience gets it, where Prometheus drops.
impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            min_shards: 1,
            max_shards: 50,
            max_samples_per_send: 2000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: true,
            sample_age_limit: None,
        }
    }
}

/// Only for 1.0: in 2.0 every series carries its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataConfig {
    pub send: bool,
    pub send_interval: Duration,
    pub max_samples_per_send: usize,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self { send: true, send_interval: Duration::from_secs(60), max_samples_per_send: 2000 }
    }
}
