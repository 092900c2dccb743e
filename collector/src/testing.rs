//! Short words that the crate's unit tests share.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;

use crate::config::{RelabelAction, RelabelConfig, Scheme, ScrapeConfig, ScrapeLimits};
use davy_egress::HttpConfig;

/// Prometheus' defaults with an interval of 15 s.
pub(crate) fn scrape_config(job: &str) -> ScrapeConfig {
    ScrapeConfig {
        job_name: job.to_owned(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        http: HttpConfig::default(),
        discovery: vec![],
        relabel: vec![],
        metric_relabel: vec![],
        limits: ScrapeLimits::default(),
    }
}

/// A `replace` step; an empty source matches the empty string.
pub(crate) fn step(source: &str, regex: &str, target: &str, replacement: &str) -> RelabelConfig {
    RelabelConfig {
        source_labels: Some(source).filter(|s| !s.is_empty()).into_iter().map(str::to_owned).collect(),
        separator: ";".to_owned(),
        target_label: target.to_owned(),
        regex: Regex::new(&format!("^(?s:{regex})$")).unwrap(),
        modulus: 0,
        replacement: replacement.to_owned(),
        action: RelabelAction::Replace,
    }
}
