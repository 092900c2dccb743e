//! Recorded expositions of real software (`fixtures/expositions/`), read to the last line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use davy_collector::expfmt::{self, Event, Format};
use davy_collector::scrape::BodyReader;
use davy_model::{Labels, MetricType, Timestamp};

mod common;

#[derive(Default)]
struct Read {
    types: BTreeMap<String, MetricType>,
    samples: BTreeMap<Labels, f64>,
    exemplars: Vec<(Labels, f64)>,
    timestamps: usize,
}

fn body(file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/expositions").join(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(file: &str) -> Read {
    let format = if file.ends_with(".om") { Format::OpenMetrics } else { Format::Text };
    let mut read = Read::default();
    let body = body(file);
    let result = expfmt::parse(&body, format, |event| match event {
        Event::Type { family, metric_type } => {
            read.types.insert(family.into_owned(), metric_type);
        }
        Event::Sample { labels, point } => {
            let series = Labels::from_pairs(labels.iter().map(|(n, v)| (&**n, &**v)));
            read.timestamps += usize::from(point.timestamp.is_some());
            read.exemplars.extend(
                point
                    .exemplar
                    .map(|e| (Labels::from_pairs(e.labels.iter().map(|(n, v)| (&**n, &**v))), e.value)),
            );
            assert!(read.samples.insert(series, point.value).is_none(), "{file}: {labels:?} twice");
        }
        Event::Help { .. } | Event::Unit { .. } => {}
    });
    result.unwrap_or_else(|e| panic!("{file}: {e}"));
    read
}

impl Read {
    fn value(&self, pairs: &[(&str, &str)]) -> f64 {
        let labels = Labels::from_pairs(pairs.iter().copied());
        *self.samples.get(&labels).unwrap_or_else(|| panic!("no {labels}"))
    }

    fn count(&self, metric_type: MetricType) -> usize {
        self.types.values().filter(|t| **t == metric_type).count()
    }
}

/// File, families and samples, as by `grep -c '^# TYPE'` and `grep -vc '^#'`.
const COUNTS: &[(&str, usize, usize)] = &[
    ("blackbox_probe.txt", 13, 17),
    ("haproxy.txt", 187, 335),
    ("nginx_exporter.txt", 9, 9),
    ("node_exporter.txt", 283, 507),
    ("prometheus.txt", 169, 351),
    ("prometheus_federate.txt", 42, 124),
    ("python_client.txt", 19, 48),
    ("python_client.om", 16, 48),
];

#[test]
fn every_family_and_sample_is_read() {
    for (file, families, samples) in COUNTS {
        let read = read(file);
        assert_eq!((read.types.len(), read.samples.len()), (*families, *samples), "{file}");
    }
}

#[test]
fn node_exporter_has_its_counters_and_labels() {
    let read = read("node_exporter.txt");
    assert_eq!(read.types["node_cpu_seconds_total"], MetricType::Counter);
    assert_eq!(read.types["go_gc_duration_seconds"], MetricType::Summary);
    assert_eq!(read.value(&[("__name__", "node_scrape_collector_success"), ("collector", "cpu")]), 1.0);
    assert!(read.value(&[("__name__", "node_memory_MemTotal_bytes")]) > 1e9);
}

#[test]
fn prometheus_has_histograms_that_add_up() {
    let read = read("prometheus.txt");
    assert_eq!(read.count(MetricType::Histogram), 7);
    let metric = "prometheus_http_request_duration_seconds";
    let of = |suffix: &str, le: Option<&str>| {
        let name = format!("{metric}{suffix}");
        let mut labels = vec![("__name__", name.as_str()), ("handler", "/metrics")];
        labels.extend(le.map(|le| ("le", le)));
        read.value(&labels)
    };
    assert_eq!(of("_bucket", Some("+Inf")), of("_count", None));
    assert!(of("_bucket", Some("0.1")) <= of("_bucket", Some("1")));
}

#[test]
fn a_federated_exposition_has_a_timestamp_on_every_line() {
    let read = read("prometheus_federate.txt");
    assert_eq!(read.timestamps, read.samples.len());
    assert!(read.samples.keys().all(|l| l.get("job") == Some("node")));
}

#[test]
fn haproxy_tells_its_servers_apart() {
    let read = read("haproxy.txt");
    let up = |server, state| {
        let name = "haproxy_server_status";
        read.value(&[("__name__", name), ("proxy", "app"), ("server", server), ("state", state)])
    };
    assert_eq!((up("canary", "DOWN"), up("canary", "UP")), (1.0, 0.0));
    assert!(read.samples.values().any(|v| v.is_nan()), "limits that are not set");
}

#[test]
fn the_python_client_sends_exemplars_and_start_times() {
    let read = read("python_client.om");
    let requests = |name, code| {
        read.value(&[("__name__", name), ("method", "GET"), ("path", "/checkout"), ("code", code)])
    };
    assert_eq!(requests("http_requests_total", "500"), 10.0);
    assert!(requests("http_requests_created", "500") > 1.7e9);
    assert_eq!(read.types["http_requests"], MetricType::Counter);
    assert_eq!(read.types["service_state"], MetricType::StateSet);
    let (trace, value) = &read.exemplars[0];
    assert_eq!((trace.get("trace_id"), *value), (Some("000000000000000000000000000003e7"), 1.0));
    let info = [
        ("__name__", "service_build_info"),
        ("branch", "a \"quoted\" one"),
        ("revision", "abc\\def"),
        ("version", "1.2.3"),
    ];
    assert_eq!(read.value(&info), 1.0);
    let umlauts =
        [("__name__", "http_requests_total"), ("method", "POST"), ("path", "/über/käse"), ("code", "200")];
    assert_eq!(read.value(&umlauts), 7.0);
}

#[test]
fn the_scrape_loop_reads_them_again_and_again() {
    for (file, _, samples) in COUNTS {
        let format = if file.ends_with(".om") { Format::OpenMetrics } else { Format::Text };
        let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
        let mut reader = BodyReader::new(Arc::new(common::scrape_config("j")), target);
        // Start times are read, not stored.
        let created = if *file == "python_client.om" { 5 } else { 0 };
        for scrape in 0..3 {
            let at = Timestamp::from_millis(1_800_000_000_000 + scrape * 15_000);
            assert_eq!(reader.read(&body(file), format, at).unwrap(), samples - created, "{file}");
        }
    }
}
