//! Servers that already hold a service's samples: Prometheus, Thanos, Mimir, VictoriaMetrics, or whatever answers as
//! Prometheus does. A release that names one is judged from it: its samples are fetched ahead of every tick into
//! Davy's own store, and from there on nothing is different.
//!
//! What is fetched is raw samples, all of a service's or none: an answer with an error or a warning in it changes
//! nothing. Until when a service's samples are complete is [`Fed`]; the judge goes no further, and once that lies
//! too far back its intervals are blind.

mod answer;
mod client;
mod feed;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use answer::Fetched;
pub(crate) use client::{Client, Failed, narrowed};
pub use feed::Feeds;
pub use state::{Fed, Reach, SourceStates};

use std::collections::BTreeMap;
use std::time::Duration;

use davy_detector::service_selectors;
use davy_egress::{HttpConfig, Secret};
use davy_model::Matcher;

/// An entry of `sources`, after parsing.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    pub name: String,
    pub url: String,
    pub http: HttpConfig,
    pub headers: BTreeMap<String, Secret>,
    /// Of one request.
    pub timeout: Duration,
    /// How often it is asked.
    pub interval: Duration,
    /// How long a sample may take until the server answers with it.
    pub delay: Duration,
}

/// What a release says of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSource {
    pub source: String,
    /// More of the server's series to look at, such as those of an ingress.
    pub selectors: Vec<String>,
}

/// Those of the service, and what the user adds.
pub(crate) fn selectors(service: &str, more: &[String]) -> Vec<String> {
    let selector = |matchers: &[Matcher]| {
        let all: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        format!("{{{}}}", all.join(","))
    };
    service_selectors(service).iter().map(|m| selector(m)).chain(more.iter().cloned()).collect()
}
