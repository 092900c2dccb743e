//! From the store to a verdict: what a scraper wrote becomes intervals, and what they say.

use std::sync::Arc;
use std::time::Duration;

use davy_detector::config::{ArmSpec, Direction, JudgeSpec, Margin, MetricKind, MetricSpec, ReleaseSpec};
use davy_detector::{
    AnalysisRun, Arm, Arms, Interval, Measurement, Observer, Outcome, live_versions, pick_arms, plan_release,
};
use davy_model::{BucketSpan, Histogram, Labels, Timestamp, Value};
use davy_query::{Expr, Recorded};
use davy_store::{Durability, Limits, Options, Store};

const START_S: i64 = 1_767_225_600;

fn at(s: f64) -> Timestamp {
    Timestamp::from_millis(START_S * 1000 + (s * 1000.0) as i64)
}

fn spec() -> ReleaseSpec {
    ReleaseSpec {
        service: None,
        version_label: "version".into(),
        baseline: ArmSpec::Auto,
        canary: ArmSpec::Auto,
        presets: vec![],
        metrics: vec![],
        traffic_share: None,
        judge: JudgeSpec { alpha: 0.01, interval: Duration::from_secs(15), warm_up: Duration::from_secs(30) },
    }
}

fn arms() -> Arms {
    Arms::of(&spec(), "shop", "1", "2")
}

/// Metric, labels beside the target's, value.
type Line<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// A tiny scraper: what it is given is in the store when it returns.
struct Scraper {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Scraper {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
        let options = Options { limits, ..Options::default() };
        let (store, _) = Store::open(dir.path(), at(0.0), options).expect("a fresh store opens");
        Self { store, _dir: dir }
    }

    fn scrape(&self, s: f64, instance: &str, version: &str, samples: &[Line<'_>]) {
        let mut appender = self.store.appender(at(s));
        for (metric, labels, value) in samples {
            let target =
                [("job", "shop"), ("instance", instance), ("version", version), ("__name__", metric)];
            let labels = Labels::from_pairs(target.iter().chain(labels.iter()).copied());
            let series = appender.series(&labels).expect("no limit is reached");
            appender.append(series, at(s), Value::Float(*value)).expect("scrapes are in order");
        }
        appender.commit(Durability::Group).expect("the disk takes it");
    }

    /// What a service with `prometheus_client` shows after `n` requests, `e` of them failed.
    fn scrape_http(&self, s: f64, instance: &str, version: &str, (n, e): (f64, f64)) {
        let fast = ((n - e) * 0.7).floor();
        let mut samples: Vec<Line<'_>> = vec![
            ("up", &[], 1.0),
            ("http_requests_total", &[("code", "200")], n - e),
            ("http_request_duration_seconds_bucket", &[("le", "0.1")], fast),
            ("http_request_duration_seconds_bucket", &[("le", "0.2")], fast + ((n - fast) * 0.8).floor()),
            ("http_request_duration_seconds_bucket", &[("le", "0.4")], n - (n * 0.02).floor()),
            ("http_request_duration_seconds_bucket", &[("le", "0.8")], n),
            ("http_request_duration_seconds_bucket", &[("le", "+Inf")], n),
            ("process_cpu_seconds_total", &[], n * 0.001),
            ("process_resident_memory_bytes", &[], 5e7),
        ];
        if e > 0.0 {
            samples.push(("http_requests_total", &[("code", "503")], e));
        }
        self.scrape(s, instance, version, &samples);
    }
}

fn measured<'a>(interval: &'a Interval, instance: &str, metric: usize) -> Option<&'a Measurement> {
    let i = interval.instances.iter().find(|i| &*i.instance == instance)?;
    i.measurements.get(metric)?.as_ref()
}

#[test]
fn a_failing_canary_is_read_from_the_store_and_judged_worse() {
    let scraper = Scraper::new();
    let mut verdicts = Vec::new();
    let mut run: Option<(Observer, AnalysisRun)> = None;
    for t in 0..40 {
        let now = f64::from(t) * 15.0;
        let served = f64::from(t) * 300.0;
        for (i, instance) in ["a:1", "b:1"].into_iter().enumerate() {
            scraper.scrape_http(now + 1.0 + i as f64, instance, "1", (served, (served / 900.0).floor()));
            // The canary's error series is born with its first error, from a zero that the scraper writes.
            let errors = if t < 2 { 0.0 } else { ((served - 300.0) * 0.05).floor() };
            if t == 2 {
                let zero: [Line<'_>; 1] = [("http_requests_total", &[("code", "503")], 0.0)];
                scraper.scrape(now + 2.9, &format!("c{i}:1"), "2", &zero);
            }
            scraper.scrape_http(now + 3.0 + i as f64, &format!("c{i}:1"), "2", (served, errors));
        }
        let snapshot = scraper.store.snapshot();
        let end = at(now + 15.0);
        if t == 1 {
            let live = live_versions(&snapshot, end, Duration::from_secs(45), |_| "version".into()).unwrap();
            assert_eq!(live.iter().map(|v| v.instances.len()).collect::<Vec<_>>(), [2, 2]);
            let first_seen = |v: &str| Some(at(if v == "1" { -900.0 } else { 0.0 }));
            let arms = pick_arms(&spec(), "shop", &live, first_seen, at(-900.0)).unwrap();
            assert_eq!((&*arms.baseline, &*arms.canary), ("1", "2"));
            let plan = plan_release(&spec(), &arms, &snapshot, at(-300.0), end).unwrap();
            let names: Vec<_> = plan.metrics.iter().map(|m| &*m.name).collect();
            assert_eq!(names, ["errors", "latency", "cpu", "memory"]);
            run = Some((Observer::new(plan.clone(), arms), AnalysisRun::new(&spec().judge, &plan, at(0.0))));
        }
        if let Some((observer, run)) = &mut run {
            let interval = observer.observe(&snapshot, at(now), end).unwrap();
            verdicts.push(run.step(&interval));
        }
    }
    let failed = verdicts.iter().find(|v| v.outcome == Outcome::Fail).expect("five per cent are found");
    assert!(failed.intervals <= 8, "after {} intervals", failed.intervals);
    assert!(failed.reason.contains("worse beyond the margin"), "{}", failed.reason);
    let errors = &failed.metrics[0];
    assert_eq!((errors.name.as_str(), errors.outcome), ("errors", Outcome::Fail));
    assert!((errors.canary - 0.05).abs() < 0.005 && errors.lower > 1.0, "{errors:?}");
    assert_eq!(&*errors.source, r#"http_requests_total{code=~"5..|5xx|5XX"} / http_requests_total"#);
    let others = &failed.metrics[1..];
    assert!(others.iter().all(|m| m.outcome != Outcome::Fail), "{others:?}");
}

#[test]
fn a_missed_scrape_leaves_the_instance_out_and_its_counts_come_later() {
    let scraper = Scraper::new();
    for (t, n) in [(1.0, 100.0), (16.0, 200.0), (46.0, 400.0)] {
        scraper.scrape_http(t, "a:1", "1", (n, 0.0));
    }
    scraper.scrape(31.0, "a:1", "1", &[("up", &[], 0.0)]);
    scraper.scrape_http(32.0, "c:1", "2", (10.0, 0.0));
    let snapshot = scraper.store.snapshot();
    let plan = plan_release(&spec(), &arms(), &snapshot, at(0.0), at(60.0)).unwrap();
    let mut observer = Observer::new(plan, arms());
    let mut read = |start: f64| observer.observe(&snapshot, at(start), at(start + 15.0)).unwrap();
    let seen = read(15.0);
    assert_eq!(measured(&seen, "a:1", 0), Some(&Measurement::Proportion { events: 0.0, trials: 100.0 }));
    let missed = read(30.0);
    assert_eq!(measured(&missed, "a:1", 0), None);
    assert_eq!(missed.down, [(Arm::Baseline, Arc::from("a:1"))]);
    // The canary's first sample is where its counting begins.
    assert_eq!(measured(&missed, "c:1", 0), Some(&Measurement::Proportion { events: 0.0, trials: 0.0 }));
    let back = read(45.0);
    let instance = &back.instances[0];
    assert_eq!(measured(&back, "a:1", 0), Some(&Measurement::Proportion { events: 0.0, trials: 200.0 }));
    assert_eq!((instance.seconds, instance.requests), (30.0, Some(200.0)));
    // CPU over the same 30 s: 0.2 s.
    let Some(Measurement::Gauge(cores)) = measured(&back, "a:1", 2) else { panic!("CPU is measured") };
    assert!((cores - 0.2 / 30.0).abs() < 1e-12);
}

#[test]
fn what_arrives_late_comes_with_the_next_interval() {
    let scraper = Scraper::new();
    scraper.scrape_http(1.0, "a:1", "1", (100.0, 1.0));
    scraper.scrape_http(16.0, "a:1", "1", (150.0, 2.0));
    let plan = plan_release(&spec(), &arms(), &scraper.store.snapshot(), at(0.0), at(60.0)).unwrap();
    let mut observer = Observer::new(plan, arms());
    let mut read =
        |start: f64| observer.observe(&scraper.store.snapshot(), at(start), at(start + 15.0)).unwrap();
    read(15.0);
    // Stamped in this interval, stored after it was read.
    assert!(read(30.0).instances.is_empty());
    scraper.scrape_http(44.9, "a:1", "1", (220.0, 5.0));
    scraper.scrape_http(46.0, "a:1", "1", (230.0, 5.0));
    let next = read(45.0);
    assert_eq!(measured(&next, "a:1", 0), Some(&Measurement::Proportion { events: 3.0, trials: 80.0 }));
    scraper.scrape_http(61.0, "a:1", "1", (240.0, 5.0));
    assert_eq!(measured(&read(60.0), "a:1", 0), Some(&Measurement::Proportion { events: 0.0, trials: 10.0 }));
}

#[test]
fn buckets_are_those_that_every_instance_has() {
    let scraper = Scraper::new();
    let bucket = |le: &'static str, n: f64, handler: &'static [(&'static str, &'static str)]| {
        let mut labels = vec![("le", le)];
        labels.extend(handler);
        (labels, n)
    };
    for (t, k) in [(1.0, 1.0), (16.0, 2.0)] {
        let series = [
            ("a:1", "1", bucket("0.1", k, &[("path", "/")])),
            ("a:1", "1", bucket("0.3", 3.0 * k, &[("path", "/")])),
            ("a:1", "1", bucket("1", 4.0 * k, &[("path", "/")])),
            ("a:1", "1", bucket("+Inf", 5.0 * k, &[("path", "/")])),
            ("a:1", "1", bucket("0.1", k, &[("path", "/x")])),
            ("a:1", "1", bucket("1", k, &[("path", "/x")])),
            ("a:1", "1", bucket("+Inf", k, &[("path", "/x")])),
            ("c:1", "2", bucket("0.1", 0.0, &[])),
            ("c:1", "2", bucket("1.0", 2.0 * k, &[])),
            ("c:1", "2", bucket("+Inf", 2.0 * k, &[])),
        ];
        for (instance, version, (labels, n)) in &series {
            scraper.scrape(t, instance, version, &[("http_request_duration_seconds_bucket", labels, *n)]);
        }
    }
    let snapshot = scraper.store.snapshot();
    let plan = plan_release(&spec(), &arms(), &snapshot, at(0.0), at(60.0)).unwrap();
    let latency = plan.metrics.iter().position(|m| m.name == "latency").unwrap();
    let read = Observer::new(plan, arms()).observe(&snapshot, at(15.0), at(30.0)).unwrap();
    assert_eq!(*read.edges[latency], [0.1, 1.0]);
    assert_eq!(measured(&read, "a:1", latency), Some(&Measurement::Buckets(vec![2.0, 3.0, 1.0])));
    assert_eq!(measured(&read, "c:1", latency), Some(&Measurement::Buckets(vec![0.0, 2.0, 0.0])));
}

/// `counts` in the buckets from `first` on, of schema 3: eight a doubling, bucket 0 ends at 1 s.
fn native(first: i32, counts: &[f64]) -> Value {
    Value::Histogram(Arc::new(Histogram {
        schema: 3,
        count: counts.iter().sum(),
        sum: 1.0,
        positive_spans: vec![BucketSpan { offset: first, length: counts.len() as u32 }],
        positive_counts: counts.to_vec(),
        ..Histogram::default()
    }))
}

#[test]
fn native_histograms_are_counted_on_one_grid_and_tell_the_errors_too() {
    let scraper = Scraper::new();
    let write = |s: f64, instance: &str, version: &str, code: &str, value: Value| {
        let labels = Labels::from_pairs([
            ("__name__", "http_server_request_duration_seconds"),
            ("http_response_status_code", code),
            ("job", "shop"),
            ("instance", instance),
            ("version", version),
        ]);
        let mut appender = scraper.store.appender(at(s));
        let series = appender.series(&labels).expect("no limit is reached");
        appender.append(series, at(s), value).expect("scrapes are in order");
        appender.commit(Durability::Group).expect("the disk takes it");
    };
    for (t, k) in [(1.0, 1.0), (16.0, 3.0)] {
        write(t, "a:1", "1", "200", native(-7, &[10.0 * k, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0 * k]));
        write(t, "c:1", "2", "200", native(-7, &[4.0 * k]));
        write(t, "c:1", "2", "503", native(8, &[k]));
    }
    // It begins anew: what it shows was counted since.
    write(31.0, "c:1", "2", "503", native(8, &[2.0]));
    let snapshot = scraper.store.snapshot();
    let plan = plan_release(&spec(), &arms(), &snapshot, at(0.0), at(60.0)).unwrap();
    let shown: Vec<_> = plan.metrics.iter().map(|m| format!("{}: {}", m.name, m.source)).collect();
    assert_eq!(
        shown,
        [
            r#"errors: http_server_request_duration_seconds{http_response_status_code=~"5..|5xx|5XX"} / http_server_request_duration_seconds"#,
            "latency: http_server_request_duration_seconds"
        ]
    );
    let mut observer = Observer::new(plan, arms());
    let read = observer.observe(&snapshot, at(15.0), at(30.0)).unwrap();
    assert_eq!(measured(&read, "c:1", 0), Some(&Measurement::Proportion { events: 2.0, trials: 10.0 }));
    let counted = |upper: f64| {
        let Some(Measurement::Buckets(counts)) = measured(&read, "a:1", 1) else { panic!("buckets") };
        let edge = read.edges[1].iter().position(|e| *e == upper).expect("the grid has it");
        counts[..=edge].iter().sum::<f64>()
    };
    assert_eq!((counted(0.5), counted(2f64.powf(-0.75)), counted(1.0)), (0.0, 20.0, 30.0));
    let next = observer.observe(&snapshot, at(30.0), at(45.0)).unwrap();
    assert_eq!(measured(&next, "c:1", 0), Some(&Measurement::Proportion { events: 2.0, trials: 2.0 }));
    let Some(Measurement::Buckets(counts)) = measured(&next, "c:1", 1) else { panic!("buckets") };
    assert_eq!(counts.iter().sum::<f64>(), 2.0);
    assert_eq!(next.edges[1], read.edges[1]);
}

#[test]
fn expressions_of_the_file_are_read_for_each_arm() {
    let metric = |query: &str| MetricSpec {
        name: "queue_lag".into(),
        kind: MetricKind::Gauge { query: Expr::parse(query).unwrap() },
        direction: Direction::Increase,
        margin: Margin { relative: 0.1, absolute: 5.0 },
        critical: true,
    };
    let scraper = Scraper::new();
    for (instance, version, lag) in [("a:1", "1", 4.0), ("b:1", "1", 6.0), ("c:1", "2", 20.0)] {
        scraper.scrape(16.0, instance, version, &[("queue_lag", &[], lag)]);
    }
    let snapshot = scraper.store.snapshot();
    let read = |query: &str| {
        let spec = ReleaseSpec { metrics: vec![metric(query)], ..spec() };
        let plan = plan_release(&spec, &arms(), &snapshot, at(0.0), at(60.0)).unwrap();
        let interval = Observer::new(plan, arms()).observe(&snapshot, at(15.0), at(30.0)).unwrap();
        let shown = interval.instances.iter().map(|i| {
            let Some(Measurement::Gauge(v)) = &i.measurements[0] else { panic!("a gauge") };
            format!("{:?} {}={v}", i.arm, i.instance)
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(read("sum(queue_lag)"), "Baseline =10 Canary =20");
    assert_eq!(read("queue_lag * 2"), "Baseline a:1=8 Baseline b:1=12 Canary c:1=40");
    // Two values of nobody in particular say nothing certain.
    assert_eq!(read("avg by (version) (queue_lag)"), "Baseline =5 Canary =20");
}

#[test]
fn nothing_in_the_store_is_an_empty_interval() {
    let plan = plan_release(&spec(), &arms(), &Recorded::default(), at(0.0), at(60.0)).unwrap();
    assert!(plan.metrics.is_empty() && plan.requests.is_none());
    let mut observer = Observer::new(plan.clone(), arms());
    let interval = observer.observe(&Recorded::default(), at(15.0), at(30.0)).unwrap();
    let verdict = AnalysisRun::new(&spec().judge, &plan, at(0.0)).step(&interval);
    assert_eq!(verdict.reason, "no metric of the release is recognised");
}
