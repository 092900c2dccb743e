//! A router over a real store with known samples, asked in-process at a known time.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "what a test sets up must work")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use davy_api::{ApiState, QueryGate, QueryLimits, Storage, View, ViewHandle};
use davy_collector::config::{Discovery, RelabelAction, RelabelConfig, Scheme, ScrapeConfig, ScrapeLimits};
use davy_collector::remote_write;
use davy_collector::scrape::ScrapeManager;
use davy_model::{
    BucketSpan, Clock, Exemplar, Histogram, Labels, ManualClock, Metadata, MetricType, Timestamp, Value,
};
use davy_store::control::Control;
use davy_store::{Durability, Options, Store};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

/// 2026-01-01T00:00:00Z, seconds.
pub const NOW: i64 = 1_767_225_600;
const STEP: i64 = 15;
/// Samples of every series, the last at [`NOW`].
const SAMPLES: i64 = 40;

pub struct Server {
    router: Router,
    pub view: ViewHandle,
    pub store: Store,
    pub control: Control,
    _dir: TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} is no JSON: {e}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(QueryLimits::default()).await
    }

    pub async fn with(limits: QueryLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(at(0)));
        let mut options = Options::default();
        options.limits.free_disk_bytes_min = 0;
        let (store, _) = Store::open(dir.path(), clock.now(), options).unwrap();
        fill(&store);
        let scrapes = ScrapeManager::new(store.clone(), clock.clone());
        scrapes.apply(vec![job("api"), job("other")]).await.unwrap();
        let limits_of_writes = remote_write::RemoteWriteLimits::default();
        let view = ViewHandle::default();
        let control = Control::open(&dir.path().join("control.db")).unwrap();
        let state = ApiState {
            view: view.clone(),
            scrapes,
            remote_write: remote_write::Receiver::new(store.clone(), clock.clone(), &limits_of_writes),
            storage: Storage::new(dir.path().to_owned()),
            store: store.clone(),
            control: control.clone(),
            clock,
            queries: QueryGate::new(limits),
            operations: mpsc::channel(1).0,
            drills: mpsc::channel(1).0,
            silences: mpsc::channel(1).0,
            reloads: mpsc::channel(1).0,
            outbox_bell: Arc::default(),
            registry: Arc::new(Registry::default()),
            version: "9.9.9",
            started: at(-3600),
            report: |_, _, _, _| None,
        };
        view.store(View {
            external_labels: BTreeMap::from([("region".into(), "eu".into())]),
            retention: Duration::from_secs(15 * 86_400),
            ..View::default()
        });
        Self { router: davy_api::router(state), view, store, control, _dir: dir }
    }

    pub fn nested(self, prefix: &str) -> Self {
        Self { router: Router::new().nest(prefix, self.router), ..self }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// `data` of an answer that must be a success.
    pub async fn data(&self, path: &str) -> Json {
        let answer = self.get(path).await;
        let json = answer.json();
        assert_eq!(
            (answer.status, &json["status"]),
            (StatusCode::OK, &Json::from("success")),
            "{path}: {json}"
        );
        json["data"].clone()
    }

    /// Status, `errorType` and `error` of an answer that must be none.
    pub async fn error(&self, path: &str) -> (u16, String, String) {
        let answer = self.get(path).await;
        let json = answer.json();
        assert_eq!(json["status"], "error", "{path}: {json}");
        let text = |field: &str| json[field].as_str().expect("errors are texts").to_owned();
        (answer.status.as_u16(), text("errorType"), text("error"))
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((NOW + seconds) * 1000)
}

/// `parameter=value` as a URL has it.
pub fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn job(name: &str) -> ScrapeConfig {
    let drop_third = RelabelConfig {
        source_labels: vec!["__address__".into()],
        regex: regex::Regex::new("^(?s:127.0.0.1:3)$").unwrap(),
        action: RelabelAction::Drop,
        separator: ";".into(),
        target_label: String::new(),
        modulus: 0,
        replacement: "$1".into(),
    };
    ScrapeConfig {
        job_name: name.into(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".into(),
        scheme: Scheme::Http,
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        http: Default::default(),
        discovery: vec![Discovery::Static {
            targets: vec!["127.0.0.1:1".into(), "127.0.0.1:3".into()],
            labels: BTreeMap::new(),
        }],
        relabel: vec![drop_third],
        metric_relabel: vec![],
        limits: ScrapeLimits::default(),
    }
}

type Series = (&'static [(&'static str, &'static str)], fn(i64) -> Value);

fn fill(store: &Store) {
    let series: [Series; 6] = [
        (&[("__name__", "http_requests_total"), ("code", "200")], |i| Value::Float(i as f64 * 10.0)),
        (&[("__name__", "http_requests_total"), ("code", "500")], |i| Value::Float(i as f64 * 0.5)),
        (&[("__name__", "http.requests"), ("http.status", "ok")], |i| Value::Float(i as f64)),
        (&[("__name__", "latency_seconds")], |i| Value::Histogram(Arc::new(histogram(i as f64)))),
        (&[("__name__", "odd")], |_| Value::Float(f64::NAN)),
        (&[("__name__", "memory_bytes")], |i| Value::Float(1e9 + i as f64)),
    ];
    for i in 0..SAMPLES {
        let mut batch = store.appender(at(0));
        for (pairs, value) in &series {
            let common = [("job", "api"), ("instance", "127.0.0.1:1")];
            let labels = Labels::from_pairs(pairs.iter().copied().chain(common));
            let series = batch.series(&labels).unwrap();
            batch.append(series, at((i + 1 - SAMPLES) * STEP), value(i)).unwrap();
            if i == SAMPLES - 1 && labels.get("code") == Some("500") {
                let labels = Labels::from_pairs([("trace_id", "ab12")]);
                batch.exemplar(series, Exemplar { labels, value: 0.3, timestamp: at(-5) });
            }
        }
        let of = |metric_type, help: &str| Metadata { metric_type, help: help.into(), unit: String::new() };
        batch.metadata("http_requests_total", &of(MetricType::Counter, "Requests."));
        batch.metadata("memory_bytes", &of(MetricType::Gauge, "Memory in use."));
        batch.commit(Durability::Sync).unwrap();
    }
}

fn histogram(n: f64) -> Histogram {
    Histogram {
        schema: 0,
        zero_threshold: 0.001,
        zero_count: n,
        count: 3.0 * n,
        sum: 4.5 * n,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_counts: vec![n, n],
        ..Histogram::default()
    }
}
