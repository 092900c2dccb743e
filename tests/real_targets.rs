//! Davy and a real Prometheus scrape the same real targets (node exporter, Prometheus itself): both
//! must hold the same series, and both must see a target die.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::{Davy, Http, Process, free_port, peer, wait_for, wait_for_port, write};
use serde_json::Value;

/// Series of a metric at the Prometheus, as label sets without what differs by design.
fn series(answer: &Value) -> BTreeSet<String> {
    let rows = answer["data"]["result"].as_array().expect("a vector is a list");
    rows.iter().map(|r| r["metric"].to_string()).collect()
}

#[test]
fn davy_and_prometheus_hold_the_same_series_of_real_targets() {
    let (Some(prometheus), Some(exporter)) = (peer("prometheus"), peer("prometheus-node-exporter")) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let http = Http::new();
    let (exporter_port, prometheus_port) = (free_port(), free_port());

    let listen = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
    let mut node = Process::start("node", dir.path(), Command::new(exporter).arg(listen(exporter_port)));
    wait_for_port(exporter_port);

    // The same scrape_configs for both: Prometheus' own schema.
    let jobs = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
         - job_name: node\n  static_configs: [{{targets: [\"127.0.0.1:{exporter_port}\"], labels: {{rack: a1}}}}]\n\
         \x20 metric_relabel_configs:\n  - {{source_labels: [__name__], regex: 'go_.*', action: drop}}\n\
         - job_name: prometheus\n  params: {{probe: [x]}}\n  static_configs: [{{targets: [\"127.0.0.1:{prometheus_port}\"]}}]\n\
         \x20 relabel_configs:\n  - {{source_labels: [__address__], target_label: host, regex: '(.*):.*', replacement: '$1'}}\n"
    );
    write(&dir.path().join("prometheus.yml"), &jobs);
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
        .arg(listen(prometheus_port));
    let _prometheus = Process::start("prometheus", dir.path(), &mut command);
    wait_for_port(prometheus_port);
    let davy = Davy::start(dir.path(), &format!("{{otlp}}\n{jobs}"));

    wait_for("both targets to be up", 30, || {
        (davy.query("sum(up{job!=\"davy\"})").first()?.1 == 2.0).then_some(())
    });
    let theirs = |query: &str| -> Option<Value> {
        let escaped: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        let (_, body) =
            http.get(&format!("http://127.0.0.1:{prometheus_port}/api/v1/query?query={escaped}"))?;
        serde_json::from_str(&body).ok()
    };
    wait_for("Prometheus to have scraped both", 30, || {
        (theirs("sum(up)")?["data"]["result"][0]["value"][1] == "2").then_some(())
    });
    for selector in [
        "node_cpu_seconds_total",
        "node_network_receive_bytes_total",
        "node_filesystem_size_bytes",
        "{job=\"node\"}",
        "prometheus_http_request_duration_seconds_bucket{handler=\"/metrics\"}",
        "prometheus_build_info",
        "up{job!=\"davy\"}",
    ] {
        let same = || {
            let ours: BTreeSet<String> =
                davy.query(selector).into_iter().map(|(m, _)| m.to_string()).collect();
            let theirs = series(&theirs(selector)?);
            (!ours.is_empty() && ours == theirs).then_some(ours.len())
        };
        let n = wait_for(&format!("the same series of {selector}"), 20, same);
        eprintln!("{selector}: {n} series in both");
    }
    let scraped = davy.query("scrape_samples_scraped{job=\"node\"}")[0].1;
    let kept = davy.query("scrape_samples_post_metric_relabeling{job=\"node\"}")[0].1;
    assert!(kept < scraped, "metric_relabel_configs dropped go_*: {kept} of {scraped}");

    // A target that dies: `up` falls and its series end, rather than lingering for the lookback.
    node.kill();
    wait_for("up of the dead target to fall", 20, || {
        davy.query("up{job=\"node\"}").first().filter(|(_, v)| *v == 0.0).map(|_| ())
    });
    assert!(davy.query("node_load1").is_empty(), "staleness markers end the series of a dead target");
    let targets = davy.json("/api/v1/targets");
    let down: Vec<&Value> = targets["data"]["activeTargets"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|t| t["health"] == "down")
        .collect();
    assert_eq!(down.len(), 1, "{targets:#}");
    assert_eq!(down[0]["reason"], "refused", "{:#}", down[0]);

    // What was stored is there after a kill.
    let mut davy = davy;
    let before = davy.query("node_memory_MemTotal_bytes").len();
    assert_eq!(before, 0, "the node's series have ended");
    let at = davy.query("max_over_time(node_memory_MemTotal_bytes[5m])");
    davy.restart();
    assert_eq!(
        davy.query("max_over_time(node_memory_MemTotal_bytes[5m])"),
        at,
        "the day's data survives a kill"
    );
}
