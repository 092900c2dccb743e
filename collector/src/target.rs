//! `ScrapeTarget`: one endpoint to scrape, made from a discovered target by relabelling.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use davy_model::{Labels, name};
use reqwest::Url;

use crate::config::ScrapeConfig;
use crate::{duration, relabel};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const PARAM_PREFIX: &str = "__param_";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";

/// Targets that share labels; what discovery yields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// `host:port` of each.
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// One endpoint to scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeTarget {
    /// What its series carry.
    pub labels: Labels,
    /// Before relabelling.
    pub discovered: Labels,
    pub url: Url,
    pub interval: Duration,
    pub timeout: Duration,
}

/// What became of one discovered target.
#[derive(Debug)]
pub enum Relabelled {
    Target(Box<ScrapeTarget>),
    /// A relabelling step dropped it; its labels before.
    Dropped(Labels),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("target {discovered} has no address after relabelling")]
    NoAddress { discovered: Labels },
    #[error("target address {got:?} is not a host and port")]
    Address { got: String },
    #[error("label {label} of target {address:?} is not a duration above zero: got {got:?}")]
    Duration { label: &'static str, address: String, got: String },
    #[error("scrape timeout {timeout} of target {address:?} is longer than its interval {interval}")]
    Timeout { address: String, interval: String, timeout: String },
}

impl ScrapeTarget {
    /// Adds the labels that the configuration gives, relabels, and reads the endpoint off the result.
    pub fn relabel(
        address: &str,
        group: &BTreeMap<String, String>,
        config: &ScrapeConfig,
    ) -> Result<Relabelled, TargetError> {
        let mut labels = Labels::empty().builder();
        labels.set(ADDRESS, address);
        for (name, value) in group {
            labels.set(name, value);
        }
        let defaults = [
            (name::JOB, config.job_name.clone()),
            (SCHEME, config.scheme.as_str().to_owned()),
            (METRICS_PATH, config.metrics_path.clone()),
            (SCRAPE_INTERVAL, duration::format(config.scrape_interval)),
            (SCRAPE_TIMEOUT, duration::format(config.scrape_timeout)),
        ];
        for (name, value) in &defaults {
            if labels.get(name).is_empty() {
                labels.set(name, value);
            }
        }
        for (key, values) in &config.params {
            let name = format!("{PARAM_PREFIX}{key}");
            if labels.get(&name).is_empty() {
                labels.set(&name, values.first().map_or("", |v| v));
            }
        }
        let discovered = labels.clone().build();
        if !relabel::process(&mut labels, &config.relabel) {
            return Ok(Relabelled::Dropped(discovered));
        }
        let address = labels.get(ADDRESS).to_owned();
        if address.is_empty() {
            return Err(TargetError::NoAddress { discovered });
        }
        if labels.get(name::INSTANCE).is_empty() {
            labels.set(name::INSTANCE, &address);
        }
        let all = labels.build();
        let interval = read_duration(&all, SCRAPE_INTERVAL, &address)?;
        let timeout = read_duration(&all, SCRAPE_TIMEOUT, &address)?;
        if timeout > interval {
            let [interval, timeout] = [interval, timeout].map(duration::format);
            return Err(TargetError::Timeout { address, interval, timeout });
        }
        let url = url(&all, config)?;
        let mut labels = all.builder();
        labels.retain(|name, _| !name.starts_with("__"));
        let labels = labels.build();
        Ok(Relabelled::Target(Box::new(Self { labels, discovered, url, interval, timeout })))
    }

    /// Where in its interval the target is scraped: spread by its identity, and the same after a restart. A few
    /// share each place, so that one waking serves them all.
    pub fn offset(&self) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&self.labels, self.url.as_str()).hash(&mut hasher);
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let step = (interval / PLACES).max(1);
        Duration::from_millis(hasher.finish() % interval / step * step)
    }
}

fn read_duration(labels: &Labels, label: &'static str, address: &str) -> Result<Duration, TargetError> {
    let got = labels.get(label).unwrap_or("");
    duration::parse(got).filter(|d| !d.is_zero()).ok_or_else(|| TargetError::Duration {
        label,
        address: address.to_owned(),
        got: got.to_owned(),
    })
}

fn url(labels: &Labels, config: &ScrapeConfig) -> Result<Url, TargetError> {
    let get = |name| labels.get(name).unwrap_or("");
    let address = get(ADDRESS);
    let wrong = || TargetError::Address { got: address.to_owned() };
    // The address must not smuggle a path, a query or credentials into the URL.
    if address.contains(['/', '?', '#', '@', '\\']) || address.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let mut url = Url::parse(&format!("{}://{address}", get(SCHEME))).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    // A metrics path may bring a query of its own, as Prometheus allows.
    let (path, query) = get(METRICS_PATH).split_once('?').unwrap_or((get(METRICS_PATH), ""));
    url.set_path(path);
    let mut params = config.params.clone();
    for (name, value) in labels.iter() {
        if let Some(key) = name.strip_prefix(PARAM_PREFIX) {
            let values = params.entry(key.to_owned()).or_default();
            values.drain(..values.len().min(1));
            values.insert(0, value.to_owned());
        }
    }
    url.set_query(Some(query).filter(|q| !q.is_empty()));
    for (key, values) in &params {
        for value in values {
            url.query_pairs_mut().append_pair(key, value);
        }
    }
    Ok(url)
}

/// Into which an interval is cut.
const PLACES: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{scrape_config, step};

    fn target(address: &str, labels: &[(&str, &str)], config: &ScrapeConfig) -> Result<ScrapeTarget, String> {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        match ScrapeTarget::relabel(address, &labels, config) {
            Ok(Relabelled::Target(t)) => Ok(*t),
            Ok(Relabelled::Dropped(l)) => Err(format!("dropped {l}")),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn job_and_instance_are_added_and_meta_labels_go() {
        let t = target("a:1", &[("__meta_x", "1"), ("env", "prod")], &scrape_config("api")).unwrap();
        assert_eq!(t.labels, Labels::from_pairs([("job", "api"), ("instance", "a:1"), ("env", "prod")]));
        assert_eq!(t.discovered.get("__meta_x"), Some("1"));
        assert_eq!(t.discovered.get("__scrape_interval__"), Some("15s"));
        assert_eq!(t.url.as_str(), "http://a:1/metrics");
    }

    #[test]
    fn relabelling_may_rewrite_everything_about_the_request() {
        let mut config = scrape_config("probe");
        config.params.insert("module".into(), vec!["http_2xx".into(), "second".into()]);
        config.relabel = vec![
            step("__address__", "(.*)", "__param_target", "$1"),
            step("__param_target", "(.*)", "instance", "$1"),
            step("", "", "__address__", "exporter:9115"),
            step("", "", "__scheme__", "https"),
            step("", "", "__metrics_path__", "/probe"),
            step("", "", "__scrape_interval__", "1m"),
            step("", "", "__scrape_timeout__", "30s"),
        ];
        let t = target("http://x/?a b", &[], &config).unwrap();
        assert_eq!(
            t.url.as_str(),
            "https://exporter:9115/probe?module=http_2xx&module=second&target=http%3A%2F%2Fx%2F%3Fa+b"
        );
        assert_eq!((t.interval.as_secs(), t.timeout.as_secs()), (60, 30));
        assert_eq!(t.labels.get("instance"), Some("http://x/?a b"));
    }

    #[test]
    fn wrong_targets_say_why() {
        let check = |address: &str, labels: &[(&str, &str)], want: &str| {
            assert_eq!(target(address, labels, &scrape_config("j")).unwrap_err(), want);
        };
        check(
            "",
            &[],
            "target {__metrics_path__=\"/metrics\", __scheme__=\"http\", __scrape_interval__=\"15s\", __scrape_timeout__=\"10s\", job=\"j\"} has no address after relabelling",
        );
        for bad in ["a/b", "u:p@host:1", "a:x", "a b:1", "169.254.169.254\\@a"] {
            check(bad, &[], &format!("target address {bad:?} is not a host and port"));
        }
        check(
            "a:1",
            &[("__scrape_interval__", "5")],
            "label __scrape_interval__ of target \"a:1\" is not a duration above zero: got \"5\"",
        );
        check(
            "a:1",
            &[("__scrape_timeout__", "20s")],
            "scrape timeout 20s of target \"a:1\" is longer than its interval 15s",
        );
    }

    #[test]
    fn offsets_spread_over_the_interval_and_stay() {
        let config = scrape_config("j");
        let offset = |i: u32| target(&format!("10.0.0.{i}:1"), &[], &config).unwrap().offset();
        let mut offsets: Vec<_> = (0..200).map(offset).collect();
        assert_eq!(offsets[7], offset(7));
        offsets.sort_unstable();
        let widest = offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap();
        assert!(offsets[199] < Duration::from_secs(15) && widest < Duration::from_secs(1), "{widest:?}");
    }
}
