//! A real Prometheus and Davy evaluate the same rule file on the same data, which Prometheus sends by remote write:
//! each series that one records is recorded by the other, and has the value that the other gives for that time.

use std::collections::BTreeMap;
use std::process::Command;

use davy_model::{Clock as _, Labels, Matcher, Timestamp};
use davy_query::{Cancel, Data, Engine, Expr};
use davy_store::{Options, Snapshot, Store};
use serde_json::Value;

use crate::common::{Davy, Http, Process, free_port, peer, wait_for, wait_for_port, write};

/// What is recorded, and by which expression. All of it changes from second to second.
const RULES: [(&str, &str); 6] = [
    ("r:requests:rate10s", "sum by (handler) (rate(prometheus_http_requests_total[10s]))"),
    ("r:share", "sum by (handler) (r:requests:rate10s) / scalar(sum(r:requests:rate10s))"),
    (
        "r:latency:p90",
        "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[10s])))",
    ),
    ("r:top", "topk(3, go_memstats_alloc_bytes_total) or on () vector(0)"),
    ("r:absent", "absent(nothing_like_it)"),
    ("r:cpu", "avg without (instance) (rate(process_cpu_seconds_total{job=\"prometheus\"}[10s]) * 100)"),
];

/// Whether a range may reach to where a series begins: Prometheus 2 extrapolates a counter to its zero there before it
/// looks how far that is, Prometheus 3 after.
fn is_young(snapshot: &Snapshot, expr: &Expr, at: i64) -> bool {
    let at = Timestamp::from_millis(at);
    let begins_late = |matchers: &[Matcher]| {
        let found = snapshot.select(matchers, Timestamp::MIN, at).expect("the store can be read");
        found.iter().any(|s| s.samples[0].timestamp > at - std::time::Duration::from_secs(15))
    };
    expr.selectors().into_iter().any(begins_late)
}

fn rule_file() -> String {
    let rule = |(name, expr): &(&str, &str)| {
        format!("  - record: {name}\n    expr: |\n      {expr}\n    labels: {{from: rule}}\n")
    };
    let rules: String = RULES.iter().map(rule).collect();
    let alert = "  - alert: Always\n    expr: sum(up) >= 1\n    labels: {severity: none}\n";
    format!("groups:\n- name: compared\n  interval: 2s\n  rules:\n{rules}{alert}")
}

type Samples = BTreeMap<Labels, BTreeMap<i64, f64>>;

fn matrix(answer: &Value) -> Samples {
    let series = |r: &Value| {
        let pairs = r["metric"].as_object().expect("labels are a mapping");
        let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v.as_str().expect("values are text"))));
        let points = if r["values"].is_null() {
            vec![r["value"].clone()]
        } else {
            r["values"].as_array().expect("a list").clone()
        };
        let sample = |v: &Value| {
            let at = Timestamp::from_secs_f64(v[0].as_f64().expect("a time")).expect("in range").as_millis();
            (at, v[1].as_str().expect("values are text").parse().expect("values are numbers"))
        };
        (labels, points.iter().map(sample).collect())
    };
    answer["data"]["result"].as_array().expect("a list").iter().map(series).collect()
}

fn stored(snapshot: &Snapshot, name: &str) -> Samples {
    let found =
        snapshot.select(&[Matcher::metric(name)], Timestamp::MIN, Timestamp::MAX).expect("it can be read");
    let sample = |s: &davy_model::Sample| {
        let v = s.value.as_float().expect("a float");
        (!davy_model::is_stale(v)).then_some((s.timestamp.as_millis(), v))
    };
    found.into_iter().map(|s| (s.labels, s.samples.iter().filter_map(sample).collect())).collect()
}

/// As a rule would label it.
fn labelled(name: &str, labels: &Labels) -> Labels {
    let mut builder = labels.builder();
    builder.set("__name__", name).set("from", "rule");
    builder.build()
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

#[test]
fn prometheus_records_the_same() {
    let Some(prometheus) = peer("prometheus") else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let http = Http::new();
    let port = free_port();
    write(&dir.path().join("rules.yml"), &rule_file());
    // What arrives late must have arrived when it is asked for.
    let mut davy =
        Davy::start(dir.path(), "{otlp}\nglobal: {rule_query_offset: 8s}\nrule_files: [rules.yml]\n");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 2s}}\nrule_files: [rules.yml]\nscrape_configs:\n\
         - job_name: prometheus\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 500ms, max_shards: 1}}\n\
         \x20 write_relabel_configs: [{{source_labels: [__name__], regex: 'r:.*|ALERTS.*', action: drop}}]\n",
        davy.url("/api/v1/write")
    );
    write(&dir.path().join("prometheus.yml"), &config);
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let peer = Process::start("prometheus", dir.path(), &mut command);
    wait_for_port(port);
    let recorded =
        |davy: &Davy| davy.query("sum(count_over_time(r:cpu[5m]))").first().map_or(0.0, |(_, n)| *n);
    wait_for("twenty evaluations", 120, || (recorded(&davy) >= 20.0).then_some(()));
    let until = davy::clock::SystemClock.now();
    let ask = |query: &str, at: i64| {
        let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        let url = format!("http://127.0.0.1:{port}/api/v1/query?query={query}&time={}", at as f64 / 1e3);
        matrix(&serde_json::from_str(&http.get(&url).expect("Prometheus answers").1).expect("JSON"))
    };
    let theirs: BTreeMap<&str, Samples> =
        RULES.iter().map(|(name, _)| (*name, ask(&format!("{name}[10m]"), until.as_millis()))).collect();
    let alerts = davy.json("/api/v1/rules");
    davy.process.kill();

    let (store, _) =
        Store::open(&dir.path().join("data"), until, Options::default()).expect("the folder opens");
    let snapshot = store.snapshot();
    // A range that reaches before the first sample is read otherwise by Prometheus 2 than by 3.
    let first =
        stored(&snapshot, "up").into_values().flat_map(BTreeMap::into_keys).min().expect("it arrived");
    let settled = first + 15_000;
    let mut compared = 0;
    for (name, expr) in RULES {
        let ours = stored(&snapshot, name);
        let names = |s: &Samples| s.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs[name]), "{name}");
        // What refers to other recorded series has them at other times on each side.
        if expr.contains("r:") {
            continue;
        }
        let parsed = Expr::parse(expr).expect("it was evaluated");
        let times: std::collections::BTreeSet<i64> = ours.values().flat_map(|s| s.keys().copied()).collect();
        for at in times.into_iter().filter(|t| *t >= settled && !is_young(&snapshot, &parsed, *t)) {
            let answer = ask(expr, at);
            for (labels, samples) in &ours {
                let want =
                    answer.iter().find(|(l, _)| labelled(name, l) == *labels).and_then(|(_, s)| s.get(&at));
                match (samples.get(&at), want) {
                    (Some(got), Some(want)) => {
                        assert!(close(*got, *want), "{labels} at {at}: {got}, not {want}");
                    }
                    (got, want) => assert_eq!(got, want, "{labels} at {at}"),
                }
                compared += 1;
            }
        }
        let arrived = until.as_millis() - 8_000;
        let times: std::collections::BTreeSet<i64> =
            theirs[name].values().flat_map(|s| s.keys().copied()).collect();
        for at in times.into_iter().filter(|t| (settled..arrived).contains(t)) {
            if is_young(&snapshot, &parsed, at) {
                continue;
            }
            let when = Timestamp::from_millis(at);
            let answer =
                Engine::default().query(&parsed, &snapshot, when, &Cancel::default()).expect("an answer");
            let Data::Vector(vector) = answer.data else { panic!("{name} gives no vector") };
            for (labels, sample) in vector {
                let got = sample.value.as_float().expect("a float");
                let want = theirs[name].get(&labelled(name, &labels)).and_then(|s| s.get(&at));
                assert!(want.is_some_and(|w| close(got, *w)), "{name}{labels} at {at}: {got}, not {want:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} samples were compared");
    let alert = &alerts["data"]["groups"][0]["rules"][RULES.len()];
    assert_eq!((&alert["state"], &alert["health"]), (&Value::from("firing"), &Value::from("ok")));
    eprintln!("{compared} samples are the same");
    drop(peer);
}
