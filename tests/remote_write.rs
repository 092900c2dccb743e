//! A real Prometheus writes to Davy by remote write: every series and sample that it holds is in Davy, bit for bit.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Davy, Http, Process, free_port, optional_peer, peer, wait_for, wait_for_port, write};
use davy_model::{Clock as _, Labels, MetricType, Timestamp};
use davy_store::{Options, Store};
use serde_json::Value;

/// Milliseconds and bits of the values, by series.
type Samples = BTreeMap<Labels, BTreeMap<i64, u64>>;

fn matrix(answer: &Value) -> Samples {
    let series = |r: &Value| {
        let pairs = r["metric"].as_object().expect("labels are a mapping");
        let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v.as_str().expect("values are text"))));
        let sample = |v: &Value| {
            let at = Timestamp::from_secs_f64(v[0].as_f64().expect("a time")).expect("in range").as_millis();
            let value: f64 = v[1].as_str().expect("values are text").parse().expect("values are numbers");
            (at, value.to_bits())
        };
        (labels, r["values"].as_array().expect("a list").iter().map(sample).collect())
    };
    answer["data"]["result"].as_array().expect("a matrix is a list").iter().map(series).collect()
}

#[test]
fn davy_holds_every_sample_that_prometheus_wrote() {
    if let (Some(prometheus), Some(exporter)) = (peer("prometheus"), peer("prometheus-node-exporter")) {
        holds_everything(&prometheus, &exporter, "");
    }
}

#[test]
fn davy_holds_every_sample_that_prometheus_3_wrote_by_1_0() {
    if let (Some(prometheus), Some(exporter)) = (prometheus3(), peer("prometheus-node-exporter")) {
        holds_everything(&prometheus, &exporter, "  protobuf_message: prometheus.WriteRequest\n");
    }
}

#[test]
fn davy_holds_every_sample_that_prometheus_3_wrote_by_2_0() {
    if let (Some(prometheus), Some(exporter)) = (prometheus3(), peer("prometheus-node-exporter")) {
        holds_everything(&prometheus, &exporter, "  protobuf_message: io.prometheus.write.v2.Request\n");
    }
}

fn prometheus3() -> Option<PathBuf> {
    optional_peer("prometheus3", "DAVY_PROMETHEUS3")
}

/// `protocol` are lines of the destination.
fn holds_everything(prometheus: &Path, exporter: &Path, protocol: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let http = Http::new();
    let (exporter_port, prometheus_port) = (free_port(), free_port());
    let listen = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
    let node = Process::start("node", dir.path(), Command::new(exporter).arg(listen(exporter_port)));
    wait_for_port(exporter_port);
    let mut davy = Davy::start(dir.path(), "{otlp}\n");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
         - job_name: node\n  static_configs: [{{targets: [\"127.0.0.1:{exporter_port}\"]}}]\n\
         - job_name: prometheus\n  static_configs: [{{targets: [\"127.0.0.1:{prometheus_port}\"]}}]\n\
         remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 500ms, max_shards: 1}}\n\
         \x20 metadata_config: {{send_interval: 1s}}\n{protocol}",
        davy.url("/api/v1/write")
    );
    write(&dir.path().join("prometheus.yml"), &config);
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
        // 2.0 takes what a metric is from the log.
        .args(protocol.contains("v2.Request").then_some("--enable-feature=metadata-wal-records"))
        .arg(listen(prometheus_port));
    let prometheus = Process::start("prometheus", dir.path(), &mut command);
    wait_for_port(prometheus_port);
    // One shard sends in the order in which it was scraped.
    let scrapes = |davy: &Davy| {
        let up = davy.query("sum by (job) (sum_over_time(up{job!=\"davy\"}[5m]))");
        if up.len() < 2 { 0.0 } else { up.iter().map(|(_, n)| *n).fold(f64::INFINITY, f64::min) }
    };
    wait_for("a dozen scrapes of both to arrive", 60, || (scrapes(&davy) >= 12.0).then_some(()));
    // Until now; and what Prometheus has by then must have been sent.
    let until = davy::clock::SystemClock.now();
    let query = format!("query=%7Bjob%3D~%22.%2B%22%7D%5B10m%5D&time={until}");
    let url = format!("http://127.0.0.1:{prometheus_port}/api/v1/query?{query}");
    let (_, body) = http.get(&url).expect("Prometheus answers");
    let theirs = matrix(&serde_json::from_str(&body).expect("JSON"));
    let enough = scrapes(&davy) + 5.0;
    wait_for("Davy to have what was scraped after that", 60, || (scrapes(&davy) >= enough).then_some(()));
    let metrics = http.get(&davy.url("/metrics")).expect("Davy answers").1;
    assert!(metrics.contains("davy_remote_write_requests_total{outcome=\"malformed\"} 0"), "{metrics}");
    assert!(metrics.contains("davy_remote_write_samples_total{outcome=\"refused\"} 0"), "{metrics}");
    drop((prometheus, node));
    davy.process.kill();

    let (store, _) =
        Store::open(&dir.path().join("data"), until, Options::default()).expect("the folder opens");
    let snapshot = store.snapshot();
    let ours = snapshot.select(&[], Timestamp::MIN, Timestamp::MAX).expect("the store can be read");
    let sample =
        |s: &davy_model::Sample| (s.timestamp.as_millis(), s.value.as_float().expect("a float").to_bits());
    let ours: Samples =
        ours.into_iter().map(|s| (s.labels, s.samples.iter().map(sample).collect())).collect();
    let mut compared = 0;
    for (labels, samples) in &theirs {
        let mine = ours.get(labels).unwrap_or_else(|| panic!("{labels} is missing"));
        for (at, bits) in samples {
            let held = mine.get(at).unwrap_or_else(|| panic!("{labels} at {at} is missing"));
            // The API writes every NaN the same.
            let nan = f64::from_bits(*bits).is_nan() && f64::from_bits(*held).is_nan();
            assert!(held == bits || nan, "{labels} at {at}: {held:x}, not {bits:x}");
            compared += 1;
        }
    }
    assert!(theirs.len() > 500 && compared > 5000, "{} series, {compared} samples", theirs.len());
    let metadata = snapshot.metadata("prometheus_http_requests_total").expect("metadata was sent as well");
    assert_eq!(metadata.metric_type, MetricType::Counter);
    eprintln!("{} series and {compared} samples are the same", theirs.len());
}
