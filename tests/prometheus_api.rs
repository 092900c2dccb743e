//! The same samples written to a real Prometheus and to Davy, the same requests asked of both: what both answer must
//! be the same JSON. `DAVY_TEST_PROMETHEUS` names another Prometheus than the one on the path.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Davy, Http, Process, free_port, peer, wait_for, wait_for_port};
use davy_model::Clock as _;
use serde_json::{Value, json};

/// Seconds between samples, and how many there are of each series.
const STEP: i64 = 15;
const SAMPLES: i64 = 40;

fn prometheus() -> Option<PathBuf> {
    std::env::var_os("DAVY_TEST_PROMETHEUS").map(PathBuf::from).or_else(|| peer("prometheus"))
}

/// Fields of protobuf, as much as remote write 1.0 needs.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn bytes(mut self, field: u64, content: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(content.len() as u64);
        self.0.extend_from_slice(content);
        self
    }

    fn double(mut self, field: u64, v: f64) -> Self {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn int(mut self, field: u64, v: i64) -> Self {
        self.varint(field << 3);
        self.varint(v as u64);
        self
    }

    fn labels(self, field: u64, pairs: &[(&str, &str)]) -> Self {
        let label = |(n, v): &(&str, &str)| Self::default().bytes(1, n.as_bytes()).bytes(2, v.as_bytes());
        pairs.iter().fold(self, |m, pair| m.bytes(field, &label(pair).0))
    }
}

fn zigzag(v: i64) -> i64 {
    (v << 1) ^ (v >> 63)
}

/// Counters, gauges with odd values, a classic histogram's buckets, an exemplar and a native histogram.
fn request(first: i64) -> Vec<u8> {
    let mut request = Message::default();
    let at = |i: i64| (first + i * STEP) * 1000;
    let mut floats = |pairs: &[(&str, &str)], of: &dyn Fn(i64) -> f64| {
        let mut series = Message::default().labels(1, pairs);
        for i in 0..SAMPLES {
            series = series.bytes(2, &Message::default().double(1, of(i)).int(2, at(i)).0);
        }
        if pairs.iter().any(|(n, v)| (*n, *v) == ("code", "500")) {
            let exemplar =
                Message::default().labels(1, &[("trace_id", "ab12")]).double(2, 0.3).int(3, at(SAMPLES - 1));
            series = series.bytes(3, &exemplar.0);
        }
        let whole = std::mem::take(&mut request);
        request = whole.bytes(1, &series.0);
    };
    for (code, step) in [("200", 10.0), ("404", 0.1), ("500", 1.0 / 3.0)] {
        let pairs = [("__name__", "http_requests_total"), ("code", code), ("instance", "a"), ("job", "api")];
        floats(&pairs, &move |i| i as f64 * step);
    }
    floats(&[("__name__", "huge"), ("job", "odd")], &|i| 10f64.powi(i as i32));
    floats(&[("__name__", "tiny"), ("job", "odd")], &|i| -(10f64.powi(-(i as i32))) / 3.0);
    floats(&[("__name__", "edges"), ("job", "odd")], &|i| match i % 4 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        _ => -0.0,
    });
    for (le, share) in [("0.1", 0.5), ("1", 0.9), ("+Inf", 1.0)] {
        floats(&[("__name__", "seconds_bucket"), ("job", "api"), ("le", le)], &move |i| {
            (i as f64 * 10.0 * share).floor()
        });
    }
    let mut series = Message::default().labels(1, &[("__name__", "latency"), ("job", "api")]);
    for i in 0..SAMPLES {
        let span = |offset: i64, length: i64| Message::default().int(1, zigzag(offset)).int(2, length).0;
        let deltas = |counts: &[i64]| {
            let mut packed = Message::default();
            let mut before = 0;
            for count in counts {
                packed.varint(zigzag(count - before) as u64);
                before = *count;
            }
            packed.0
        };
        let histogram = Message::default()
            .int(1, 7 * i)
            .double(3, 12.5 * i as f64)
            .int(4, zigzag(3))
            .double(5, 0.001)
            .int(6, i)
            .bytes(8, &span(0, 1))
            .bytes(9, &deltas(&[i]))
            .bytes(11, &span(-5, 2))
            .bytes(11, &span(3, 2))
            .bytes(12, &deltas(&[i, 2 * i, i, i]))
            .int(15, at(i));
        series = series.bytes(8, &histogram.0);
    }
    request = request.bytes(1, &series.0);
    snap::raw::Encoder::new().compress_vec(&request.0).expect("a request is small")
}

struct Both {
    http: Http,
    theirs: String,
    ours: String,
    major: u64,
}

/// How far two answers must be alike.
#[derive(Clone, Copy, PartialEq)]
enum Alike {
    /// Status, type of error, and data; lists of series in any order.
    Data,
    /// Fields and their types.
    Shape,
}

impl Both {
    fn check(&self, alike: Alike, path: &str) {
        let ask = |base: &str| {
            let (status, body) =
                self.http.get(&format!("{base}{path}")).unwrap_or_else(|| panic!("{path}: no answer"));
            let json: Value =
                serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {status} {e}: {body}"));
            (status, json)
        };
        let (theirs, ours) = (ask(&self.theirs), ask(&self.ours));
        let told =
            format!("{path}\n  Prometheus: {} {}\n  Davy:       {} {}", theirs.0, theirs.1, ours.0, ours.1);
        assert_eq!(theirs.0, ours.0, "{told}");
        assert_eq!(theirs.1["errorType"], ours.1["errorType"], "{told}");
        match alike {
            // Before 3.0 sums and rates were worked out in another order.
            Alike::Data if self.major < 3 => {
                let rounded = |json: &Value| rounded(&sorted(&json["data"]));
                assert_eq!(rounded(&theirs.1), rounded(&ours.1), "{told}");
            }
            Alike::Data => assert_eq!(sorted(&theirs.1["data"]), sorted(&ours.1["data"]), "{told}"),
            Alike::Shape => assert_eq!(shape(&theirs.1["data"]), shape(&ours.1["data"]), "{told}"),
        }
    }
}

/// The lists of an answer that have no order of their own, in one order.
fn sorted(data: &Value) -> Value {
    let mut data = data.clone();
    let list = if data["result"].is_array() { &mut data["result"] } else { &mut data };
    if let Value::Array(items) = list
        && items.iter().all(Value::is_object)
    {
        items.sort_by_key(Value::to_string);
    }
    data
}

/// Values without their last digits.
fn rounded(data: &Value) -> Value {
    match data {
        Value::String(text) => match text.parse::<f64>() {
            Ok(v) if v.is_finite() => json!(format!("{v:.11e}")),
            Ok(_) | Err(_) => data.clone(),
        },
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(fields) => fields.iter().map(|(n, v)| (n.clone(), rounded(v))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => data.clone(),
    }
}

/// Fields and types; of a list, those of its first item.
fn shape(data: &Value) -> Value {
    match data {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(items) => Value::Array(items.first().map(shape).into_iter().collect()),
        Value::Object(fields) => Value::Object(fields.iter().map(|(n, v)| (n.clone(), shape(v))).collect()),
    }
}

fn start(dir: &std::path::Path) -> Option<(Process, Davy, Both, i64)> {
    let program = prometheus()?;
    let http = Http::new();
    let port = free_port();
    std::fs::write(dir.join("prometheus.yml"), "global: {}\n").expect("the file can be written");
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage,native-histograms"]);
    let process = Process::start("prometheus", dir, &mut command);
    wait_for_port(port);
    let davy = Davy::start(dir, "{otlp}\n");
    let (theirs, ours) = (format!("http://127.0.0.1:{port}"), davy.url(""));
    let now = davy::clock::SystemClock.now().as_millis() / 1000;
    let first = (now - SAMPLES * STEP) / STEP * STEP;
    let body = request(first);
    for base in [&theirs, &ours] {
        let written = wait_for("the samples to be taken", 30, || {
            http.bytes(&format!("{base}/api/v1/write"), &body).filter(|(status, _)| *status == 204)
        });
        assert_eq!(written.0, 204);
    }
    let version = http.get(&format!("{theirs}/api/v1/status/buildinfo")).expect("Prometheus answers").1;
    let version: Value = serde_json::from_str(&version).expect("JSON");
    let major = version["data"]["version"].as_str().and_then(|v| v.split('.').next()?.parse().ok());
    let both = Both { http, theirs, ours, major: major.expect("a version begins with a number") };
    Some((process, davy, both, first))
}

#[test]
fn davy_answers_as_prometheus_does() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let Some((prometheus, _davy, both, first)) = start(dir.path()) else { return };
    // Between samples, and off any edge on which the majors of Prometheus differ.
    let (from, to) = (first + 100, first + SAMPLES * STEP - 7);
    let query = |q: &str, more: &str| format!("/api/v1/query?query={}&{more}", common::escape(q));
    let range = |q: &str, more: &str| format!("/api/v1/query_range?query={}&{more}", common::escape(q));
    let selectors = ["http_requests_total", "huge", "tiny", "edges", "latency", "{job=\"api\"}", "nothing"];
    for q in selectors {
        both.check(Alike::Data, &query(q, &format!("time={to}")));
        both.check(Alike::Data, &query(q, &format!("time={to}.25")));
        both.check(Alike::Data, &query(&format!("{q}[1m]"), &format!("time={to}")));
        both.check(Alike::Data, &range(q, &format!("start={from}&end={to}&step=60")));
        both.check(Alike::Data, &range(q, &format!("start={from}.5&end={to}&step=1m30s")));
    }
    for q in [
        "1 + 1",
        "\"a text\"",
        "vector(1/0)",
        "-vector(0)",
        "1e300 * 1e300",
        "sum by (code) (rate(http_requests_total[2m]))",
        "sum(latency)",
        "histogram_quantile(0.9, sum by (le) (rate(seconds_bucket[2m])))",
        "histogram_count(latency)",
        "http_requests_total > bool 5",
        "http_requests_total / on (job) group_left sum by (job) (http_requests_total)",
        "topk(1, http_requests_total)",
        "label_replace(http_requests_total, \"x\", \"$1\", \"code\", \"(.).*\")",
    ] {
        both.check(Alike::Data, &query(q, &format!("time={to}")));
        if !q.starts_with('"') {
            both.check(Alike::Data, &range(q, &format!("start={from}&end={to}&step=37")));
        }
    }
    both.check(Alike::Shape, &query("huge", &format!("time={to}&stats=true")));
    if both.major >= 3 {
        both.check(Alike::Data, &query("vector(1)", "time=1&limit=1"));
        both.check(Alike::Shape, &query("http_requests_total", &format!("time={to}&limit=1")));
        both.check(
            Alike::Data,
            "/api/v1/parse_query?query=sum%20by%20(job)%20(rate(a%7Bb%3D%22c%22%7D%5B5m%5D))",
        );
        both.check(Alike::Data, "/api/v1/scrape_pools");
        both.check(Alike::Data, "/api/v1/query?query=up&lookback_delta=x");
    }
    mistakes(&both, from, to);
    catalogue(&both, from, to);
    drop(prometheus);
}

fn mistakes(both: &Both, from: i64, to: i64) {
    for path in [
        "query".to_owned(),
        "query?query=sum(".to_owned(),
        "query?query=nosuch(up)".to_owned(),
        "query?query=up%5B5m%5D%20%2B%201".to_owned(),
        "query?query=up&time=x".to_owned(),
        "query?query=up&timeout=x".to_owned(),
        format!(
            "query?time={to}&query={}",
            common::escape("http_requests_total * on (job) group_left http_requests_total")
        ),
        format!("query_range?query=up&start={from}&end={to}&step=0"),
        format!("query_range?query=up&start={from}&end={to}&step=x"),
        format!("query_range?query=up&start={from}&end={to}"),
        format!("query_range?query=up&start={to}&end={from}&step=1"),
        format!("query_range?query=up&start=0&end={to}&step=1"),
        format!("query_range?query=up%5B5m%5D&start={from}&end={to}&step=1"),
        "series".to_owned(),
        "series?match[]=%7B".to_owned(),
        "series?match[]=%7Bjob%3D~%22.*%22%7D".to_owned(),
        "labels?match[]=up%5B5m%5D".to_owned(),
        "labels?start=x".to_owned(),
        "query_exemplars?query=sum(".to_owned(),
        "query_exemplars?query=up&start=2&end=1".to_owned(),
        "metadata?limit=x".to_owned(),
        "rules?type=x".to_owned(),
        "format_query?query=a%2B".to_owned(),
        "targets/metadata?match_target=%7B".to_owned(),
    ] {
        both.check(Alike::Data, &format!("/api/v1/{path}"));
    }
}

fn catalogue(both: &Both, from: i64, to: i64) {
    let now = format!("start={from}&end={to}");
    let selector = common::escape("{__name__=~\"h.*|l.*\"}");
    for path in [
        format!("series?match[]=huge&match[]={selector}&{now}"),
        "series?match[]=nothing".to_owned(),
        format!("labels?{now}"),
        format!("labels?match[]=huge&match[]={selector}"),
        format!("label/__name__/values?{now}"),
        format!("label/code/values?match[]={selector}&{now}"),
        "label/nosuch/values".to_owned(),
        format!("query_exemplars?query=sum(http_requests_total)&{now}"),
        format!("query_exemplars?query=test&start={}&end={}", from * 1000, to * 1000),
        format!("query_exemplars?query=nothing%20%2B%201&{now}"),
        "format_query?query=sum%20by(job)(rate(a%5B5m%5D))%2Bon(x)group_left(y)b".to_owned(),
        "rules".to_owned(),
        "alerts".to_owned(),
        "alertmanagers".to_owned(),
        "metadata?metric=nosuch".to_owned(),
        "targets/metadata".to_owned(),
    ] {
        both.check(Alike::Data, &format!("/api/v1/{path}"));
    }
    if both.major >= 3 {
        both.check(Alike::Shape, "/api/v1/targets");
    }
    both.check(Alike::Shape, "/api/v1/status/buildinfo");
    let federated = |base: &str| {
        let url = format!("{base}/federate?match[]=http_requests_total");
        let text = both.http.get(&url).expect("an answer").1;
        text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect::<Vec<_>>()
    };
    let (theirs, ours) = (federated(&both.theirs), federated(&both.ours));
    assert_eq!(theirs.len(), 4, "{theirs:?}");
    assert_eq!(theirs, ours);
}
