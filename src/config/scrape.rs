//! `scrape_configs`: what to scrape and how, Prometheus' schema.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use davy_collector::config::{Scheme, ScrapeConfig, ScrapeLimits};

use super::global::Global;
use super::reader::{Field, Section};
use super::value::{bytes, positive_duration, show_duration};
use super::{discovery, http, relabel};

/// Other servers' discovery, refused by name so that nobody waits for targets that never come.
const OTHER_DISCOVERY: [&str; 27] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
];

pub(super) fn read(top: &mut Section<'_>, global: &Global) -> Vec<ScrapeConfig> {
    let mut jobs = HashMap::new();
    top.list("scrape_configs", |field| {
        let config = job(&field, global)?;
        if jobs.insert(config.job_name.clone(), ()).is_some() {
            field.error(format!("job_name {:?} is given twice; each job needs its own", config.job_name));
        }
        Some(config)
    })
}

fn job(field: &Field<'_>, global: &Global) -> Option<ScrapeConfig> {
    field.section(|s| {
        let job_name = s.required("job_name", "it becomes the label `job`").and_then(|f| f.name());
        let (scrape_interval, scrape_timeout) = timing(s, global);
        let scheme = [("http", Scheme::Http), ("https", Scheme::Https)];
        let scheme = s.or("scheme", Scheme::Http, |f| f.one_of(&scheme));
        let metrics_path = s.or("metrics_path", "/metrics", |f| f.parse(metrics_path));
        let params = s.or("params", BTreeMap::new(), |f| Some(params(f)));
        let honor_labels = s.or("honor_labels", false, Field::bool);
        let honor_timestamps = s.or("honor_timestamps", true, Field::bool);
        let http = http::read(s);
        let discovery = discovery::read(s);
        let relabel = s.list("relabel_configs", |f| relabel::read(&f));
        let metric_relabel = s.list("metric_relabel_configs", |f| relabel::read(&f));
        let limits = limits(s, &global.limits);
        other_keys(s);
        Some(ScrapeConfig {
            job_name: job_name?.to_owned(),
            scrape_interval,
            scrape_timeout,
            metrics_path: metrics_path.to_owned(),
            scheme,
            params,
            honor_labels,
            honor_timestamps,
            http,
            discovery,
            relabel,
            metric_relabel,
            limits,
        })
    })
}

/// The interval and the timeout, which must fit in it. A global timeout is cut to a job's shorter interval.
fn timing(s: &mut Section<'_>, global: &Global) -> (Duration, Duration) {
    let interval = s.or("scrape_interval", global.scrape_interval, |f| f.parse(positive_duration));
    let timeout = s.get("scrape_timeout");
    let Some(field) = timeout else { return (interval, global.scrape_timeout.min(interval)) };
    let Some(timeout) = field.parse(positive_duration) else { return (interval, interval) };
    if timeout > interval {
        let interval = show_duration(interval);
        field.error(format!("got {}, expected at most the scrape_interval of {interval}", field.got()));
    }
    (interval, timeout)
}

fn metrics_path(text: &str) -> Result<&str, String> {
    if text.starts_with('/') && !text.contains(char::is_whitespace) && !text.contains('#') {
        return Ok(text);
    }
    Err("expected a path that starts with `/`, such as /metrics".to_owned())
}

fn params(field: &Field<'_>) -> BTreeMap<String, Vec<String>> {
    let values = |f: &Field<'_>| f.items().iter().filter_map(|v| Some(v.text()?.to_owned())).collect();
    field.entries().into_iter().map(|(name, f)| (name, values(&f))).collect()
}

/// The six limits; 0 is not "unlimited", as everything is bounded.
pub(super) fn limits(s: &mut Section<'_>, default: &ScrapeLimits) -> ScrapeLimits {
    ScrapeLimits {
        body_bytes_max: limit(s, "body_size_limit", default.body_bytes_max, |f| f.parse(bytes)),
        samples_max: limit(s, "sample_limit", default.samples_max, Field::u64),
        labels_max: limit(s, "label_limit", default.labels_max, Field::u64),
        label_name_bytes_max: limit(s, "label_name_length_limit", default.label_name_bytes_max, Field::u64),
        label_value_bytes_max: limit(
            s,
            "label_value_length_limit",
            default.label_value_bytes_max,
            Field::u64,
        ),
        targets_max: limit(s, "target_limit", default.targets_max, Field::u64),
    }
}

fn limit<'a>(
    s: &mut Section<'a>,
    key: &'static str,
    default: u64,
    read: impl FnOnce(&Field<'a>) -> Option<u64>,
) -> u64 {
    let Some(field) = s.get(key) else { return default };
    match read(&field) {
        Some(0) => {
            field.warn(&format!("0 stands for the default, which is {default}; Davy has no unlimited"));
            default
        }
        Some(value) => value,
        None => default,
    }
}

/// Prometheus' keys that ask for what is done anyway, and those that are not there yet.
fn other_keys(s: &mut Section<'_>) {
    s.only("enable_compression", &["true"], "gzip is always offered to targets");
    s.only(
        "track_timestamps_staleness",
        &["false"],
        "series with timestamps of their own do not go stale early",
    );
    s.only("metric_name_validation_scheme", &["utf8"], "names are UTF-8");
    s.only("metric_name_escaping_scheme", &["allow-utf-8"], "names are UTF-8");
    s.ignored("keep_dropped_targets", "Davy keeps no list of dropped targets");
    native_histograms(s);
    s.not_yet(
        &["scrape_protocols", "fallback_scrape_protocol"],
        "the text format 0.0.4 and OpenMetrics 1.0 are negotiated",
    );
    s.not_yet(&["scrape_failure_log_file"], "failures are in Davy's own log and on /metrics");
    s.not_yet(&["extra_scrape_metrics"], "");
    s.not_yet(&OTHER_DISCOVERY, "use `static_configs`, `file_sd_configs` or `http_sd_configs`");
}

/// Switches of native histograms, which Davy cannot scrape yet.
pub(super) fn native_histograms(s: &mut Section<'_>) {
    let why = "native histograms are not scraped yet";
    s.only("scrape_native_histograms", &["false"], why);
    s.only("always_scrape_classic_histograms", &["false"], why);
    s.only("scrape_classic_histograms", &["false"], why);
    s.only("convert_classic_histograms_to_nhcb", &["false"], why);
    s.not_yet(&["native_histogram_bucket_limit", "native_histogram_min_bucket_factor"], why);
}
