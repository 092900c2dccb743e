//! The whole decision path in virtual time: real store, real control database, real configuration, and the very
//! `Watch` that `davy run` drives; only sockets and the clock are missing. An hour of a release takes seconds.

use std::time::Duration;

use davy::app::{Errand, Watch};
use davy::config::Config;
use davy::sources::{Fed, SourceStates};
use davy_alerting::release::{ActRequest, CallOutcome, Live, TargetState};
use davy_model::{Labels, Timestamp, Value};
use davy_store::control::Control;
use davy_store::{Durability, Options, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const INTERVAL: Duration = Duration::from_secs(15);
const INSTANCES: usize = 3;
const REQUESTS_PER_INTERVAL: f64 = 200.0;
const EDGES: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const CONFIG: &str = r#"
releases:
- {service: checkout, policy: {on_fail: rollback, verify_timeout: 5m}, actions: {rollback: to-stable}}
actions: {to-stable: {webhook: {url: "http://127.0.0.1:9/rollback"}}}
route: {receiver: team}
receivers: [{name: team, webhook_configs: [{url: "http://127.0.0.1:9/alerts"}]}]
"#;

/// Margins as wide as a step needs that is to be passed within minutes.
const RAMP: &str = r#"
releases:
- service: checkout
  metrics:
  - {preset: http}
  - {preset: process}
  - {name: errors, kind: proportion, events: 'http_requests_total{code="500"}', trials: http_requests_total, margin: {absolute: 0.01}}
  - {name: latency, kind: latency, histogram: http_request_duration_seconds_bucket, margin: {relative: 0.2}}
  - {name: memory, kind: gauge, query: process_resident_memory_bytes, margin: {relative: 0.2}}
  policy: {on_fail: rollback, warm_up: 1m, ramp: [10, 50, 100]}
  actions: {rollback: split, promote: split}
actions: {split: {webhook: {url: "http://127.0.0.1:9/split", state_url: "http://127.0.0.1:9/split"}}}
"#;

/// What one instance shows at a scrape: counters that only grow, gauges that wander.
struct Instance {
    labels: Labels,
    served: f64,
    failed: f64,
    buckets: [f64; EDGES.len() + 1],
    cpu_seconds: f64,
    memory: f64,
    started: Timestamp,
}

impl Instance {
    fn new(version: &str, number: usize, started: Timestamp) -> Self {
        let instance = format!("{version}-{number}:8080");
        let labels = Labels::from_pairs([("job", "checkout"), ("instance", &instance), ("version", version)]);
        Self {
            labels,
            served: 0.0,
            failed: 0.0,
            buckets: [0.0; EDGES.len() + 1],
            cpu_seconds: 0.0,
            memory: 2e8,
            started,
        }
    }

    fn serve(&mut self, rng: &mut ChaCha8Rng, requests: f64, error_rate: f64) {
        // An overdispersed day: the load of an interval wanders by a few per cent.
        let n = (requests * rng.random_range(0.9..1.1)) as u64;
        for _ in 0..n {
            if rng.random::<f64>() < error_rate {
                self.failed += 1.0;
            }
            // Log-normal by Box and Muller, with a median of 40 ms.
            let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
            let z = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            let seconds = 0.04 * (0.5 * z).exp();
            self.buckets[EDGES.iter().position(|e| seconds <= *e).unwrap_or(EDGES.len())] += 1.0;
        }
        self.served += n as f64;
        self.cpu_seconds += n as f64 * 0.004 * rng.random_range(0.97..1.03);
        self.memory *= rng.random_range(0.999..1.001);
    }

    fn scrape(&self, store: &Store, now: Timestamp) {
        let mut appender = store.appender(now);
        let mut put = |metric: &str, more: &[(&str, &str)], value: f64| {
            let mut labels = self.labels.builder();
            labels.set("__name__", metric);
            for (n, v) in more {
                labels.set(n, v);
            }
            let series = appender.series(&labels.build()).expect("few series");
            appender.append(series, now, Value::Float(value)).expect("in order");
        };
        put("up", &[], 1.0);
        put("http_requests_total", &[("code", "200")], self.served - self.failed);
        put("http_requests_total", &[("code", "500")], self.failed);
        let mut below = 0.0;
        for (count, edge) in self.buckets.iter().zip(EDGES) {
            below += count;
            put("http_request_duration_seconds_bucket", &[("le", &edge.to_string())], below);
        }
        put("http_request_duration_seconds_bucket", &[("le", "+Inf")], self.served);
        put("http_request_duration_seconds_count", &[], self.served);
        put("process_cpu_seconds_total", &[], self.cpu_seconds);
        put("process_resident_memory_bytes", &[], self.memory);
        put("process_start_time_seconds", &[], self.started.as_secs_f64());
        appender.commit(Durability::Group).expect("the store takes a scrape");
    }
}

/// A service, its traffic, and the Davy that watches it.
struct World {
    dir: tempfile::TempDir,
    config: &'static str,
    store: Option<Store>,
    watch: Option<Watch>,
    now: Timestamp,
    rng: ChaCha8Rng,
    instances: Vec<(bool, Instance)>,
    canary_error_rate: f64,
    /// Canary's share of the traffic; an instance of the canary is not removed when it is rolled back.
    canary_weight: f64,
    calls: Vec<(Timestamp, ActRequest)>,
    /// Where the samples come from another server: whether it is known to have answered with all of them.
    sources: SourceStates,
    complete: Option<bool>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(CONFIG, seed)
    }

    fn with(config: &'static str, seed: u64) -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
            config,
            store: None,
            watch: None,
            now: START,
            rng: ChaCha8Rng::seed_from_u64(seed),
            instances: Vec::new(),
            canary_error_rate: 0.001,
            canary_weight: 0.5,
            calls: Vec::new(),
            sources: SourceStates::default(),
            complete: None,
        };
        world.open();
        for i in 0..INSTANCES {
            world.instances.push((false, Instance::new("v1", i, START)));
        }
        world
    }

    fn open(&mut self) {
        let data = self.dir.path().join("data");
        let (store, _) = Store::open(&data, self.now, Options::default()).expect("the store opens");
        let control = Control::open(&data.join("control.db")).expect("the control database opens");
        let config =
            Config::parse(self.config, "davy.yaml".as_ref(), self.dir.path()).expect("the file is right");
        let watch = Watch::new(config, store.clone(), control, self.now);
        self.watch = Some(watch.with_sources(self.sources.clone()));
        self.store = Some(store);
    }

    /// As after `kill -9` and a start.
    fn restart(&mut self) {
        (self.watch, self.store) = (None, None);
        self.open();
    }

    fn deploy_canary(&mut self) {
        for i in 0..INSTANCES {
            self.instances.push((true, Instance::new("v2", i, self.now)));
        }
    }

    /// One interval: traffic, scrapes, a tick; a call shifts the traffic back, as a splitter would.
    fn step(&mut self) {
        let canaries = self.instances.iter().any(|(canary, _)| *canary);
        let weight = if canaries { self.canary_weight } else { 0.0 };
        let total = REQUESTS_PER_INTERVAL * 2.0 * INSTANCES as f64;
        for (canary, instance) in &mut self.instances {
            let share = if *canary { weight } else { 1.0 - weight };
            let error_rate = if *canary { self.canary_error_rate } else { 0.001 };
            instance.serve(&mut self.rng, total * share / INSTANCES as f64, error_rate);
        }
        self.now = self.now + INTERVAL;
        let store = self.store.as_ref().expect("the store is open");
        for (_, instance) in &self.instances {
            instance.scrape(store, self.now);
        }
        if self.complete == Some(true) {
            let (source, complete_until) = ("fleet".to_owned(), self.now + Duration::from_secs(3));
            let delay = Duration::from_secs(1);
            self.sources.set("checkout", Fed { source, complete_until, error: None, delay });
        }
        // Ticks come when scrapes have settled.
        let watch = self.watch.as_mut().expect("davy runs");
        let mut errands = watch.tick(self.now + Duration::from_secs(3), &[]);
        while let Some(errand) = errands.pop() {
            let call = match errand {
                Errand::Call(call) => call,
                Errand::Read(asked) => {
                    let state = state(self.canary_weight, &self.calls);
                    let answered_at = self.now + Duration::from_secs(3);
                    errands.extend(watch.read(answered_at, asked.release, asked.ticket, Ok(state)));
                    continue;
                }
            };
            self.canary_weight = f64::from(call.desired.percent()) / 100.0;
            let (generation, desired) = (call.release, call.desired);
            self.calls.push((self.now, call));
            let accepted = CallOutcome::Accepted { detail: "status 200".into(), state: None };
            errands.extend(watch.called(self.now + Duration::from_secs(3), generation, desired, accepted));
        }
    }

    fn steps(&mut self, n: usize) {
        for _ in 0..n {
            self.step();
        }
    }

    fn release(&self) -> davy_api::wire::Release {
        let view = self.watch.as_ref().expect("davy runs").view();
        view.releases.first().map(|r| davy_api::wire::Release::clone(r)).expect("there is a release")
    }
}

/// What the splitter says of itself where it is asked.
fn state(canary_weight: f64, calls: &[(Timestamp, ActRequest)]) -> TargetState {
    let generation = calls.len().to_string();
    TargetState {
        uid: "splitter".into(),
        token: generation.clone(),
        generation,
        live: if canary_weight > 0.0 { Live::Share(canary_weight) } else { Live::Baseline },
        marker: calls.last().map(|(_, call)| call.marker.clone()),
        refusal: None,
    }
}

#[test]
fn twenty_healthy_hours_roll_nothing_back() {
    let mut passed = 0;
    for seed in 1..=20 {
        let mut world = World::new(seed);
        world.steps(4);
        world.deploy_canary();
        world.steps(240);
        let release = world.release();
        assert!(world.calls.is_empty(), "seed {seed}: {}", release.reason);
        assert_ne!(release.verdict, "fail", "seed {seed}: {}", release.reason);
        assert_eq!((release.baseline.as_str(), release.canary.as_str()), ("v1", "v2"), "seed {seed}");
        passed += usize::from(release.verdict == "pass");
    }
    eprintln!("20 healthy hours: 0 rolled back, {passed} shown to be no worse");
    assert!(passed > 0, "an equal canary can pass");
}

#[test]
fn a_failing_canary_is_rolled_back_once_and_verified() {
    for seed in 1..=5 {
        let mut world = World::new(seed);
        world.steps(4);
        world.deploy_canary();
        world.steps(20);
        assert!(world.calls.is_empty(), "seed {seed}: healthy so far");
        let injected = world.now;
        world.canary_error_rate = 0.05;
        world.steps(40);
        let release = world.release();
        assert_eq!(world.calls.len(), 1, "seed {seed}: {} {}", release.phase, release.reason);
        let (at, call) = &world.calls[0];
        assert_eq!(
            (call.subject.canary.as_str(), call.subject.baseline.as_str()),
            ("v2", "v1"),
            "seed {seed}"
        );
        assert_eq!(call.release, release.generation, "seed {seed}");
        assert_eq!(release.phase, "rolled_back", "seed {seed}: {}", release.reason);
        let intervals = at.since(injected).as_secs() / INTERVAL.as_secs();
        eprintln!("seed {seed}: called {intervals} intervals after the injection");
        assert!(intervals <= 12, "seed {seed}: seen after {intervals} intervals");
    }
}

#[test]
fn each_step_of_a_ramp_is_taken_on_a_pass_at_the_share_before_it() {
    let mut world = World::with(RAMP, 3);
    world.canary_weight = 0.0;
    world.steps(4);
    world.deploy_canary();
    let in_force = |world: &World| world.release().ramp.and_then(|ramp| ramp.share);
    world.steps(4);
    for _ in 0..240 {
        let share = in_force(&world).unwrap_or(100);
        world.step();
        // What was shown at one share is never said of another, in the first interval after a step least of all.
        let reason = world.release().reason;
        let of = reason.strip_prefix("at ").and_then(|r| r.split_once(" % of the requests")).map(|r| r.0);
        assert!(of.is_none_or(|of| of == share.to_string()), "at {share} %: {reason}");
    }
    let release = world.release();
    let taken: Vec<(u8, &str)> =
        world.calls.iter().map(|(_, call)| (call.desired.percent(), call.reason.as_str())).collect();
    let [(10, begins), (50, after_10), (100, after_50)] = taken.as_slice() else {
        panic!("{taken:?}: {} {}", release.phase, release.reason)
    };
    assert_eq!(*begins, "the ramp begins");
    assert!(after_10.starts_with("at 10 % of the requests: no worse"), "{after_10}");
    assert!(after_50.starts_with("at 50 % of the requests: no worse"), "{after_50}");
}

#[test]
fn what_a_source_is_not_known_to_have_told_in_full_is_no_evidence() {
    let mut world = World::new(3);
    world.complete = Some(true);
    world.steps(4);
    world.deploy_canary();
    world.steps(20);
    assert_eq!(world.release().contract, "ok", "{}", world.release().reason);
    // It fails from here on; and a canary that is much worse shows in what there is.
    world.complete = Some(false);
    world.canary_error_rate = 0.2;
    world.steps(40);
    let release = world.release();
    assert!(world.calls.is_empty(), "{}", release.reason);
    assert_eq!(
        (release.verdict.as_str(), release.contract.as_str()),
        ("insufficient", "blind"),
        "{}",
        release.reason
    );
    assert!(release.reason.contains("the source fleet is"), "{}", release.reason);
    world.complete = Some(true);
    world.steps(15);
    assert_eq!(world.calls.len(), 1, "{}", world.release().reason);
}

#[test]
fn a_restart_in_the_middle_goes_on_where_it_was() {
    let mut world = World::new(7);
    world.steps(4);
    world.deploy_canary();
    world.steps(25);
    let before = world.release();
    world.restart();
    world.step();
    let after = world.release();
    assert_eq!((after.id, after.generation), (before.id, before.generation));
    assert_eq!(after.intervals, before.intervals + 1, "the analysis was replayed from the store");

    world.canary_error_rate = 0.05;
    world.steps(30);
    assert_eq!(world.calls.len(), 1);
    world.restart();
    world.steps(10);
    assert_eq!(world.calls.len(), 1, "a restart rolls nothing back again");
    assert_eq!(world.release().phase, "rolled_back");
}

#[test]
fn key_series_are_those_of_the_service_alone() {
    let mut world = World::new(5);
    // Another service with the same metric names, and a much larger memory.
    let other = Labels::from_pairs([
        ("job", "search"),
        ("instance", "s:1"),
        ("__name__", "process_resident_memory_bytes"),
    ]);
    world.steps(4);
    world.deploy_canary();
    for _ in 0..45 {
        let store = world.store.as_ref().expect("the store is open");
        let mut appender = store.appender(world.now);
        let series = appender.series(&other).expect("few series");
        appender.append(series, world.now, Value::Float(1e12)).expect("in order");
        appender.commit(Durability::Group).expect("the store takes it");
        world.step();
    }
    let view = world.watch.as_ref().expect("davy runs").view();
    let memory =
        view.watched.iter().find(|w| w.threshold == "checkout/memory").expect("memory is a key series");
    assert!(memory.value.is_some_and(|v| v > 1e9 && v < 1e10), "{memory:?}");
    assert!(memory.upper.is_some(), "the band is drawn: {memory:?}");
}

#[test]
fn missing_scrapes_of_everything_are_no_evidence() {
    let mut world = World::new(3);
    world.steps(4);
    world.deploy_canary();
    world.steps(20);
    // Davy sees nothing for a while; the service goes on, and its canary even fails.
    world.canary_error_rate = 0.05;
    for _ in 0..10 {
        world.now = world.now + INTERVAL;
        let watch = world.watch.as_mut().expect("davy runs");
        assert!(watch.tick(world.now + Duration::from_secs(3), &[]).is_empty());
    }
    let release = world.release();
    assert_eq!(release.verdict, "insufficient", "{}", release.reason);
    assert_ne!(release.contract, "ok");
    assert!(world.calls.is_empty());
}
