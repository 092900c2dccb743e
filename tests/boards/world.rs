//! A service, its canary and the Davy that watches them, in virtual time: what a board is drawn from.
//!
//! The application's series and spans are made here; everything that Davy says of them comes from the code that runs
//! in production: [`Watch`] judges, [`Metrics`] publishes, [`OwnSeries`] stores, the OTLP receiver makes metrics of
//! spans. A metric that is renamed there leaves a panel empty here.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use davy::app::{About, Errand, Metrics, OwnSeries, Watch};
use davy::config::Config;
use davy_alerting::release::CallOutcome;
use davy_api::wire::rules::{RecordingRule, Rule, RuleGroup};
use davy_api::{ApiState, QueryGate, QueryLimits, Storage, View, ViewHandle, wire};
use davy_collector::otlp::{OtlpLimits, Receiver};
use davy_collector::remote_write::{self, RemoteWriteLimits};
use davy_collector::scrape::{Health, ScrapeManager, TargetStatus};
use davy_model::{
    AttributeValue, Clock as _, Labels, ManualClock, Resource, Span, SpanId, SpanKind, SpanStatus, Timestamp,
    TraceId, Value,
};
use davy_store::control::{Control, DrillRecord};
use davy_store::{Durability, Options, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

pub(crate) const INTERVAL: Duration = Duration::from_secs(15);
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const INSTANCES: usize = 3;
const REQUESTS_PER_INTERVAL: f64 = 1_200.0;
/// Of all requests; the others leave no trace.
const TRACES_PER_INTERVAL: usize = 40;
const EDGES: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

const CONFIG: &str = r#"
releases:
- service: checkout
  metrics:
  - {preset: http}
  - {preset: process}
  - {name: conversion, kind: proportion, events: orders_total, trials: checkouts_total, direction: decrease, margin: {relative: 0.05}}
  - {name: queue_lag, kind: gauge, query: sum(queue_lag), direction: increase, margin: {relative: 0.3, absolute: 5}, critical: false}
  policy: {on_fail: rollback, verify_timeout: 5m}
  actions: {rollback: to-stable}
actions: {to-stable: {webhook: {url: "http://127.0.0.1:9/rollback"}}}
thresholds:
- {name: lag, query: "max by (topic) (topic_lag)", for: 1m, alert: true}
route: {receiver: team}
receivers: [{name: team, webhook_configs: [{url: "http://127.0.0.1:9/alerts"}]}]
"#;

struct Instance {
    version: &'static str,
    name: String,
    started: Timestamp,
    served: f64,
    failed: f64,
    orders: f64,
    buckets: [f64; EDGES.len() + 1],
    seconds: f64,
    cpu_seconds: f64,
    memory: f64,
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    store: Store,
    watch: Watch,
    metrics: Metrics,
    own: OwnSeries,
    about: About,
    api: Router,
    clock: Arc<ManualClock>,
    otlp: Receiver,
    remote_write: remote_write::Receiver,
    rng: ChaCha8Rng,
    instances: Vec<Instance>,
    /// Failures and slowness of the canary.
    canary_error_rate: f64,
    canary_slowness: f64,
    canary_weight: f64,
    stable: &'static str,
    steps: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data = dir.path().join("data");
        let (store, _) = Store::open(&data, START, Options::default()).expect("the store opens");
        let control = Control::open(&data.join("control.db")).expect("the control database opens");
        let config = Config::parse(CONFIG, "davy.yaml".as_ref(), dir.path()).expect("the file is right");
        let watch = Watch::new(config, store.clone(), control.clone(), START);
        let metrics = Metrics::default();
        let about = About { version: "0.1.0", external_url: "http://127.0.0.1:9600".to_owned() };
        let queries = QueryGate::new(QueryLimits::default());
        let registry = metrics.register(&about, &queries);
        let clock = Arc::new(ManualClock::new(START));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let remote_write =
            remote_write::Receiver::new(store.clone(), clock.clone(), &RemoteWriteLimits::default());
        let api = davy_api::router(ApiState {
            view: ViewHandle::default(),
            scrapes: ScrapeManager::new(store.clone(), clock.clone()),
            remote_write: remote_write.clone(),
            storage: Storage::new(data),
            store: store.clone(),
            control,
            clock: clock.clone(),
            queries,
            operations: mpsc::channel(1).0,
            drills: mpsc::channel(1).0,
            silences: mpsc::channel(1).0,
            reloads: mpsc::channel(1).0,
            outbox_bell: Arc::default(),
            registry: registry.clone(),
            version: about.version,
            started: START,
            report: |_, _, _, _| None,
        });
        let mut world = Self {
            dir,
            runtime,
            own: OwnSeries::new(registry, "127.0.0.1:9600", INTERVAL),
            otlp: Receiver::new(store.clone(), clock.clone(), OtlpLimits::default()),
            remote_write,
            store,
            watch,
            metrics,
            about,
            api,
            clock,
            rng: ChaCha8Rng::seed_from_u64(7),
            instances: Vec::new(),
            canary_error_rate: 0.002,
            canary_slowness: 1.0,
            canary_weight: 0.3,
            stable: "2.2.8",
            steps: 0,
        };
        world.deploy("2.2.8");
        world
    }

    /// What is left of it: the store, and the folder that it is in.
    pub(crate) fn end(self) -> (tempfile::TempDir, Store) {
        (self.dir, self.store)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn deploy(&mut self, version: &'static str) {
        for i in 0..INSTANCES {
            self.instances.push(Instance {
                version,
                name: format!("checkout-{version}-{i}:8080"),
                started: self.now(),
                served: 0.0,
                failed: 0.0,
                orders: 0.0,
                buckets: [0.0; EDGES.len() + 1],
                seconds: 0.0,
                cpu_seconds: 0.0,
                memory: 2e8,
            });
        }
    }

    /// The canary fails, and is slow.
    pub(crate) fn regress(&mut self) {
        (self.canary_error_rate, self.canary_slowness) = (0.035, 1.6);
    }

    pub(crate) fn remove_canary(&mut self) {
        self.instances.retain(|i| i.version == self.stable);
    }

    /// The canary takes over.
    pub(crate) fn promote(&mut self, version: &'static str) {
        self.stable = version;
        self.remove_canary();
    }

    pub(crate) fn phase(&self) -> String {
        self.watch.view().releases.first().map(|r| r.phase.clone()).unwrap_or_default()
    }

    pub(crate) fn steps(&mut self, n: usize) {
        (0..n).for_each(|_| self.step());
    }

    /// One interval: traffic, spans, scrapes, a tick, and what Davy says of it.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        self.serve();
        self.clock.advance(INTERVAL);
        self.scrape();
        self.trace();
        let now = self.now();
        // Ticks come when scrapes have settled.
        self.clock.advance(Duration::from_secs(3));
        let mut errands = self.watch.tick(self.now(), &[]);
        while let Some(errand) = errands.pop() {
            let Errand::Call(call) = errand else { panic!("a webhook is not asked") };
            self.canary_weight = 0.0;
            let accepted = CallOutcome::Accepted { detail: "status 200".into(), state: None };
            errands.extend(self.watch.called(self.now(), call.release, call.desired, accepted));
        }
        if self.steps.is_multiple_of(4) {
            self.store.maintain(self.now()).expect("maintenance works");
            self.metrics.maintained(Duration::from_millis(2 + self.steps % 5), true);
        }
        let took = Duration::from_micros(700 + self.steps % 7 * 150);
        self.metrics.ticked(took, took);
        self.ask();
        self.metrics.publish(&self.view(), &targets(now), &self.store.stats(), &self.about);
        let at = START;
        self.metrics.publish_drills(&[DrillRecord {
            service: "checkout".into(),
            at,
            good_at: Some(at),
            detail: String::new(),
        }]);
        self.metrics.publish_otlp(self.otlp.stats());
        self.metrics.publish_remote_write(&self.remote_write);
        assert!(
            self.own.append(&self.store, self.now(), Duration::from_millis(2)),
            "its own series are stored"
        );
        self.clock.set(now);
    }

    /// Somebody looks at it.
    fn ask(&mut self) {
        let request = Request::get("/api/v1/query?query=up").body(Body::empty()).expect("a request");
        let answer = self.runtime.block_on(self.api.clone().oneshot(request)).expect("the API answers");
        assert_eq!(answer.status(), 200);
    }

    /// What is decided; and a ramp, an act that waits and a group of rules, which the story does without.
    fn view(&self) -> View {
        let record = RecordingRule {
            name: "shop:requests:rate".into(),
            query: "sum(rate(http_requests_total[1m]))".into(),
            labels: Default::default(),
            health: "ok".into(),
            last_error: None,
            evaluation_time: 0.0009,
            last_evaluation: wire::rfc3339(self.now()),
        };
        let group = RuleGroup {
            name: "shop".into(),
            file: "rules.yml".into(),
            rules: vec![Rule::Recording(record)],
            interval: INTERVAL.as_secs_f64(),
            limit: 0,
            evaluation_time: 0.001,
            last_evaluation: wire::rfc3339(self.now()),
        };
        let mut view = self.watch.view();
        for release in view.releases.iter_mut().filter(|r| r.phase == "watching") {
            let ramp = wire::Ramp { steps: vec![25, 50, 100], share: Some(25), since: None, paused: None };
            let awaits = (!self.steps.is_multiple_of(3)).then(|| "rollback".to_owned());
            *release = Arc::new(wire::Release { ramp: Some(ramp), awaits, ..(**release).clone() });
        }
        View { rules: vec![group], ..view }
    }

    fn serve(&mut self) {
        let canaries = self.instances.iter().any(|i| i.version != self.stable);
        let weight = if canaries { self.canary_weight } else { 0.0 };
        let wave = 1.0 + 0.2 * (self.steps as f64 / 60.0).sin();
        for instance in &mut self.instances {
            let is_canary = instance.version != self.stable;
            let share = if is_canary { weight } else { 1.0 - weight };
            let (error_rate, slowness) =
                if is_canary { (self.canary_error_rate, self.canary_slowness) } else { (0.002, 1.0) };
            let n =
                REQUESTS_PER_INTERVAL * wave * share / INSTANCES as f64 * self.rng.random_range(0.95..1.05);
            for _ in 0..n as u64 {
                let failed = self.rng.random::<f64>() < error_rate;
                instance.failed += f64::from(u8::from(failed));
                instance.orders += f64::from(u8::from(!failed && self.rng.random::<f64>() < 0.4));
                let seconds = duration(&mut self.rng, slowness);
                instance.seconds += seconds;
                instance.buckets[EDGES.iter().position(|e| seconds <= *e).unwrap_or(EDGES.len())] += 1.0;
            }
            instance.served += n.floor();
            instance.cpu_seconds += n * 0.004 * self.rng.random_range(0.97..1.03) + 0.05;
            instance.memory *= self.rng.random_range(0.999..1.001);
        }
    }

    fn scrape(&mut self) {
        let now = self.now();
        let mut appender = self.store.appender(now);
        let mut put = |labels: &[(&str, &str)], value: f64| {
            let series = appender.series(&Labels::from_pairs(labels.iter().copied())).expect("few series");
            appender.append(series, now, Value::Float(value)).expect("in order");
        };
        for i in &self.instances {
            let base =
                [("job", "shop"), ("service", "checkout"), ("instance", &*i.name), ("version", i.version)];
            let mut put = |metric: &str, more: &[(&str, &str)], value: f64| {
                put(&[&[("__name__", metric)], &base[..], more].concat(), value);
            };
            put("up", &[], 1.0);
            put("scrape_duration_seconds", &[], self.rng.random_range(0.004..0.03));
            put("scrape_samples_scraped", &[], 21.0);
            put("http_requests_total", &[("code", "200")], i.served - i.failed);
            put("http_requests_total", &[("code", "500")], i.failed);
            put("checkouts_total", &[], i.served);
            put("orders_total", &[], i.orders);
            let mut below = 0.0;
            for (count, edge) in i.buckets.iter().zip(EDGES) {
                below += count;
                put("http_request_duration_seconds_bucket", &[("le", &edge.to_string())], below);
            }
            put("http_request_duration_seconds_bucket", &[("le", "+Inf")], i.served);
            put("http_request_duration_seconds_count", &[], i.served);
            put("http_request_duration_seconds_sum", &[], i.seconds);
            put("queue_lag", &[], 20.0 + self.rng.random_range(-3.0..3.0));
            put("process_cpu_seconds_total", &[], i.cpu_seconds);
            put("process_resident_memory_bytes", &[], i.memory);
            put("process_start_time_seconds", &[], i.started.as_secs_f64());
        }
        // What a threshold watches: a daily-looking wave, and a topic that falls behind for a while.
        let wave = 200.0 + 40.0 * (self.steps as f64 / 40.0).sin();
        let stuck = if (140..152).contains(&self.steps) { 400.0 } else { 0.0 };
        for (topic, extra) in [("orders", stuck), ("mails", 0.0)] {
            let lag = wave + extra + self.rng.random_range(-6.0..6.0);
            put(
                &[("__name__", "topic_lag"), ("job", "kafka"), ("instance", "kafka:9308"), ("topic", topic)],
                lag,
            );
        }
        appender.commit(Durability::Group).expect("the store takes a scrape");
    }

    /// A gateway calls checkout, which calls payments.
    fn trace(&mut self) {
        let now = self.now();
        let mut spans = Vec::new();
        let gateway = resource("gateway", "7.1.2", "gateway-0");
        let payments = resource("payments", "1.9.0", "payments-0");
        let canaries = self.instances.iter().any(|i| i.version != self.stable);
        for _ in 0..TRACES_PER_INTERVAL {
            let weight = if canaries { self.canary_weight } else { 0.0 };
            let to_canary = self.rng.random::<f64>() < weight;
            let of = |i: &&Instance| (i.version != self.stable) == to_canary;
            let chosen: Vec<&Instance> = self.instances.iter().filter(of).collect();
            let instance = chosen[self.rng.random_range(0..chosen.len())];
            let checkout = resource("checkout", instance.version, &instance.name);
            let (error_rate, slowness) =
                if to_canary { (self.canary_error_rate, self.canary_slowness) } else { (0.002, 1.0) };
            let failed = self.rng.random::<f64>() < error_rate;
            let seconds = duration(&mut self.rng, slowness);
            let trace = TraceId(self.rng.random::<u128>().to_be_bytes());
            let before = Duration::from_millis(self.rng.random_range(2_000..12_000));
            let start = (now - before).as_millis() as u64 * 1_000_000;
            let mut last = SpanId::default();
            // Each is within the one before it.
            let hops = [
                (&gateway, "POST /shop", SpanKind::Server, 1.3),
                (&gateway, "checkout", SpanKind::Client, 1.2),
                (&checkout, "POST /checkout", SpanKind::Server, 1.0),
                (&checkout, "payments", SpanKind::Client, 0.6),
                (&payments, "POST /charge", SpanKind::Server, 0.5),
            ];
            for (depth, (resource, name, kind, share)) in hops.into_iter().enumerate() {
                let id = SpanId(self.rng.random::<u64>().to_be_bytes());
                let inset = depth as u64 * 300_000;
                // The canary's failures are its own: payments answers.
                let is_failed = failed && depth < 3;
                spans.push(Span {
                    trace_id: trace,
                    span_id: id,
                    parent_span_id: last,
                    trace_state: "".into(),
                    resource: resource.clone(),
                    scope: "shop".into(),
                    name: name.into(),
                    kind,
                    start_nanos: start + inset,
                    end_nanos: start + inset + (seconds * share * 1e9) as u64,
                    status: if is_failed { SpanStatus::Error } else { SpanStatus::Unset },
                    status_message: if is_failed { "no payment token".into() } else { "".into() },
                    attributes: Vec::new(),
                    events: Vec::new(),
                    links: Vec::new(),
                });
                last = id;
            }
        }
        spans.sort_by(|a, b| Arc::as_ptr(&a.resource).cmp(&Arc::as_ptr(&b.resource)));
        let request = davy_fixtures::otlp::traces(&spans);
        self.runtime.block_on(self.otlp.traces(request)).expect("spans are taken");
    }
}

/// Log-normal by Box and Muller, with a median of 40 ms.
fn duration(rng: &mut ChaCha8Rng, slowness: f64) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    let z = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    0.04 * slowness * (0.5 * z).exp()
}

fn resource(service: &str, version: &str, instance: &str) -> Arc<Resource> {
    let text = |s: &str| AttributeValue::String(s.into());
    Arc::new(Resource {
        attributes: vec![
            ("service.name".into(), text(service)),
            ("service.version".into(), text(version)),
            ("service.instance.id".into(), text(instance)),
        ],
    })
}

/// As the scrape manager tells them.
fn targets(now: Timestamp) -> Vec<Arc<TargetStatus>> {
    let target = |health: Health| TargetStatus {
        job: "shop".into(),
        labels: Labels::from_pairs([("job", "shop")]),
        discovered: Labels::empty(),
        url: "http://127.0.0.1:8080/metrics".into(),
        interval: INTERVAL,
        timeout: INTERVAL,
        health,
        last_scrape: Some(now),
        last_duration: Duration::from_millis(9),
        last_error: None,
        reason: None,
        samples: 21,
        duplicates: 0,
        refused: 0,
        scrapes: 1,
        failures: 0,
    };
    [Health::Up, Health::Up, Health::Down].map(|health| Arc::new(target(health))).into()
}
