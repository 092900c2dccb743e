//! Remote write out of a real davy into real servers: everything that it scraped is there with the same values, though
//! the servers were away for a while and davy was killed meanwhile.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Davy, Http, Process, free_port, optional_peer, peer, wait_for, wait_for_port, write};
use davy_model::{Clock as _, Labels};
use serde_json::Value;

/// Values by milliseconds, by series.
type Samples = BTreeMap<Labels, BTreeMap<i64, f64>>;

/// A server that Davy writes to.
struct Far {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
    /// Relative: VictoriaMetrics keeps decimal numbers.
    tolerance: f64,
}

impl Far {
    fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        self.process = Some(Process::start(self.name, &self.dir, &mut command));
        wait_for_port(self.port);
    }

    /// As an operator does: what it acknowledged it still has.
    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let term = Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status();
        assert!(term.is_ok_and(|s| s.success()), "{} can be told to stop", self.name);
        let ended = || process.child.try_wait().ok().flatten();
        wait_for("a server to stop", 30, ended);
    }

    fn samples(&self, http: &Http, query: &str) -> Samples {
        let url = format!("http://127.0.0.1:{}/api/v1/query?{query}", self.port);
        let answer = http.get(&url).map(|(_, body)| serde_json::from_str(&body).unwrap_or(Value::Null));
        matrix(&answer.unwrap_or(Value::Null))
    }
}

fn matrix(answer: &Value) -> Samples {
    let series = |r: &Value| {
        let pairs = r["metric"].as_object().expect("labels are a mapping");
        let pairs = pairs.iter().filter(|(n, _)| *n != "datacenter");
        let labels = Labels::from_pairs(pairs.map(|(n, v)| (n, v.as_str().expect("values are text"))));
        let sample = |v: &Value| {
            let value: f64 = v[1].as_str().expect("values are text").parse().expect("values are numbers");
            ((v[0].as_f64().expect("a time") * 1000.0).round() as i64, value)
        };
        (labels, r["values"].as_array().expect("a list").iter().map(sample).collect())
    };
    answer["data"]["result"].as_array().map_or_else(BTreeMap::new, |r| r.iter().map(series).collect())
}

fn prometheus(name: &'static str, program: PathBuf, dir: &Path) -> Far {
    let (port, config) = (free_port(), dir.join("empty.yml"));
    write(&config, "");
    let args = vec![
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.join(name).display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    Far { name, program, args, dir: dir.to_owned(), port, process: None, tolerance: 0.0 }
}

fn victoria(program: PathBuf, dir: &Path) -> Far {
    let port = free_port();
    let args = vec![
        format!("-storageDataPath={}", dir.join("victoria").display()),
        format!("-httpListenAddr=127.0.0.1:{port}"),
        "-search.latencyOffset=0s".to_owned(),
        "-search.disableCache".to_owned(),
    ];
    Far { name: "victoria", program, args, dir: dir.to_owned(), port, process: None, tolerance: 1e-12 }
}

#[test]
fn everything_arrives_though_servers_stop_and_davy_is_killed() {
    let (Some(old), Some(metrics), Some(exporter)) =
        (peer("prometheus"), peer("victoria-metrics"), peer("prometheus-node-exporter"))
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let http = Http::new();
    let exporter_port = free_port();
    let listen = format!("--web.listen-address=127.0.0.1:{exporter_port}");
    let _node = Process::start("node", dir.path(), Command::new(exporter).arg(listen));
    let mut all = vec![prometheus("prometheus", old, dir.path()), victoria(metrics, dir.path())];
    all.extend(
        optional_peer("prometheus3", "DAVY_PROMETHEUS3").map(|p| prometheus("prometheus3", p, dir.path())),
    );
    all.iter_mut().for_each(Far::start);
    wait_for_port(exporter_port);
    let mut config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{datacenter: north}}}}\n{{otlp}}\nscrape_configs:\n\
         - job_name: node\n  static_configs: [{{targets: [\"127.0.0.1:{exporter_port}\"]}}]\nremote_write:\n"
    );
    for far in &all {
        let message = if far.name == "prometheus3" {
            "io.prometheus.write.v2.Request"
        } else {
            "prometheus.WriteRequest"
        };
        config += &format!(
            "- name: {}\n  url: http://127.0.0.1:{}/api/v1/write\n  protobuf_message: {message}\n\
             \x20 queue_config: {{batch_send_deadline: 300ms, max_samples_per_send: 500, max_backoff: 500ms}}\n",
            far.name, far.port
        );
    }
    let mut davy = Davy::start(dir.path(), &config);
    let scrapes =
        |davy: &Davy| davy.query("sum_over_time(up{job=\"node\"}[5m])").first().map_or(0.0, |(_, n)| *n);
    let more = |davy: &Davy, n: f64| {
        let enough = scrapes(davy) + n;
        wait_for("some more scrapes", 60, || (scrapes(davy) >= enough).then_some(()));
    };
    more(&davy, 4.0);
    all.iter_mut().for_each(Far::stop);
    more(&davy, 3.0);
    davy.restart();
    more(&davy, 3.0);
    all.iter_mut().for_each(Far::start);
    more(&davy, 3.0);
    davy.restart();
    more(&davy, 2.0);

    // What Davy has until now; the servers have it once they have something newer.
    let until = davy::clock::SystemClock.now();
    let query = |seconds: f64| format!("query=%7Bjob%3D%22node%22%7D%5B5m%5D&time={seconds:.3}");
    let ours = matrix(&davy.json(&format!("/api/v1/query?{}", query(until.as_secs_f64()))));
    let count: usize = ours.values().map(BTreeMap::len).sum();
    for far in &all {
        wait_for(&format!("{} to have what is newer", far.name), 60, || {
            let later = query(davy::clock::SystemClock.now().as_secs_f64());
            let found = far.samples(&http, &later);
            let newest =
                found.iter().filter(|(l, _)| l.metric_name() == "up").flat_map(|(_, s)| s.keys()).max();
            newest.is_some_and(|t| *t > until.as_millis() + 1000).then_some(())
        });
        let theirs = far.samples(&http, &query(until.as_secs_f64()));
        let (mut compared, mut missing) = (0, Vec::new());
        for (labels, samples) in &ours {
            for (at, value) in samples {
                match theirs.get(labels).and_then(|s| s.get(at)) {
                    Some(v) if v == value || v.is_nan() && value.is_nan() => compared += 1,
                    Some(v) if (v - value).abs() <= far.tolerance * value.abs() => compared += 1,
                    found => missing.push(format!("{labels} at {at}: {found:?}, not {value}")),
                }
            }
        }
        let shown = &missing[..missing.len().min(5)];
        assert!(
            missing.is_empty(),
            "{}: {} of {count} missing: {shown:#?}\n{}",
            far.name,
            missing.len(),
            davy.process.log()
        );
        let extra: usize = theirs.values().map(BTreeMap::len).sum();
        assert_eq!((compared, extra), (count, count), "{}", far.name);
    }
    assert!(ours.len() > 100 && count > 1500, "{} series, {count} samples", ours.len());
    for far in &all {
        let of = |name: &str| {
            let metrics = http.get(&davy.url("/metrics")).expect("Davy answers").1;
            let line = format!("davy_remote_storage_{name}{{remote_name=\"{}\"}} ", far.name);
            let found = metrics.lines().find_map(|l| l.strip_prefix(&line)?.parse::<f64>().ok());
            found.unwrap_or_else(|| panic!("{line} is missing: {metrics}"))
        };
        let sent = || of("samples_total") > 0.0 && of("queue_highest_sent_timestamp_seconds") > 1e9;
        wait_for("what was sent to be counted", 10, || sent().then_some(()));
        assert_eq!(of("gaps_total"), 0.0);
    }
    eprintln!("{} series and {count} samples are the same in {} servers", ours.len(), all.len());
}
