//! Whatever is handed to the judge, it answers: never a panic, never a rollback on nonsense.

use std::sync::Arc;
use std::time::Duration;

use davy_detector::config::{Direction, JudgeSpec, Margin};
use davy_detector::{
    AnalysisRun, Arm, InstanceInterval, Interval, Margins, Measurement, Metric, MetricClass, Outcome, Plan,
    Reading,
};
use davy_model::Timestamp;
use proptest::prelude::*;

fn plan() -> Plan {
    let metric = |class: MetricClass, direction, margins| Metric {
        name: class.as_str().to_owned(),
        class,
        direction,
        margins,
        critical: true,
        source: "".into(),
        reading: Reading::Given,
    };
    let up = Direction::Increase;
    let gauge = Margins::custom(MetricClass::Gauge, Margin { relative: 0.1, absolute: 1.0 });
    Plan {
        metrics: vec![
            metric(MetricClass::Errors, up, Margins::ERRORS),
            metric(MetricClass::Latency, up, Margins::LATENCY),
            metric(MetricClass::Cpu, up, Margins::CPU),
            metric(MetricClass::Memory, up, Margins::MEMORY),
            metric(MetricClass::Gauge, Direction::Either, gauge),
        ],
        requests: None,
    }
}

fn spec() -> JudgeSpec {
    JudgeSpec { alpha: 0.05, interval: Duration::from_secs(15), warm_up: Duration::ZERO }
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..1000.0f64,
        1 => prop_oneof![
            Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-5.0), Just(0.0), Just(1e308),
            Just(f64::MIN_POSITIVE), Just(1e15),
        ],
    ]
}

fn measurement() -> impl Strategy<Value = Option<Measurement>> {
    prop_oneof![
        Just(None),
        (number(), number()).prop_map(|(events, trials)| Some(Measurement::Proportion { events, trials })),
        prop::collection::vec(number(), 0..7).prop_map(|c| Some(Measurement::Buckets(c))),
        number().prop_map(|v| Some(Measurement::Gauge(v))),
    ]
}

fn instance() -> impl Strategy<Value = InstanceInterval> {
    let fields = (
        any::<bool>(),
        0..6u8,
        number(),
        prop::option::of(number()),
        prop::collection::vec(measurement(), 0..7),
    );
    fields.prop_map(|(canary, name, seconds, requests, measurements)| InstanceInterval {
        arm: if canary { Arm::Canary } else { Arm::Baseline },
        instance: format!("i{name}").into(),
        seconds,
        requests,
        measurements,
    })
}

fn interval() -> impl Strategy<Value = Interval> {
    let edges = prop_oneof![
        Just(vec![0.1, 0.2, 0.4, 0.8]),
        Just(vec![0.1, 0.2, 0.4, 0.8]),
        Just(vec![]),
        Just(vec![0.1]),
        Just(vec![0.5, 1.0]),
        prop::collection::vec(number(), 0..5),
    ];
    // Hours, so that gaps of a day and time running backwards happen.
    (edges, 0..200i64, prop::collection::vec(instance(), 0..12)).prop_map(|(edges, at, instances)| Interval {
        start: Timestamp::from_millis(at * 900_000),
        end: Timestamp::from_millis(at * 900_000 + 15_000),
        edges: vec![Arc::new([]), edges.into(), Arc::new([]), Arc::new([]), Arc::new([])],
        instances,
        down: vec![(Arm::Canary, "x".into())],
    })
}

proptest! {
    #[test]
    fn any_intervals_are_answered(intervals in prop::collection::vec(interval(), 1..60)) {
        let mut run = AnalysisRun::new(&spec(), &plan(), Timestamp::from_millis(0));
        for i in &intervals {
            let verdict = run.step(i);
            prop_assert!(!verdict.reason.is_empty());
            prop_assert!(verdict.evidence >= 0.0, "evidence {}", verdict.evidence);
            for m in verdict.metrics.iter() {
                prop_assert!(m.evidence >= 0.0 && !m.reason.is_empty(), "{:?}", m);
            }
        }
    }

    /// Nonsense in one metric of a healthy release rolls nothing back.
    #[test]
    fn nonsense_is_not_evidence(bad in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0)], at in 0..5usize) {
        // A gauge may be negative.
        prop_assume!(at < 4 || !bad.is_finite());
        let mut run = AnalysisRun::new(&spec(), &plan(), Timestamp::from_millis(0));
        for t in 0..60i64 {
            let instance = |i: usize| {
                let mut measurements = healthy();
                if i >= 2 {
                    measurements[at] = Some(match at {
                        0 => Measurement::Proportion { events: bad, trials: 100.0 },
                        1 => Measurement::Buckets(vec![10.0, bad, 1.0, 1.0, 1.0]),
                        _ => Measurement::Gauge(bad),
                    });
                }
                InstanceInterval {
                    arm: if i >= 2 { Arm::Canary } else { Arm::Baseline },
                    instance: format!("i{i}").into(),
                    seconds: 15.0,
                    requests: Some(100.0),
                    measurements,
                }
            };
            let interval = Interval {
                start: Timestamp::from_millis(t * 15_000),
                end: Timestamp::from_millis((t + 1) * 15_000),
                edges: vec![Arc::new([]), vec![0.1, 0.2, 0.4, 0.8].into(), Arc::new([]), Arc::new([]), Arc::new([])],
                instances: (0..4).map(instance).collect(),
                down: vec![],
            };
            prop_assert_ne!(run.step(&interval).outcome, Outcome::Fail);
        }
    }
}

/// What may befall an interval of a release: the network, a clock, a library, an autoscaler.
#[derive(Debug, Clone)]
enum Mishap {
    /// A number of one instance's measurement that is none, or that fell.
    Number {
        metric: usize,
        instance: usize,
        bad: f64,
    },
    /// A counter that jumps back and is read as if it had begun anew.
    Reset {
        instance: usize,
    },
    /// Another bucket layout from now on.
    Layout(usize),
    /// One interval in which very many instances are seen.
    Crowd,
    /// An arm without requests, or without instances.
    Idle(Arm),
    Gone(Arm),
    /// Time that runs back, and a gap, in intervals.
    Jump(i64),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let arm = || prop_oneof![Just(Arm::Baseline), Just(Arm::Canary)];
    let bad =
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-1.0), Just(-1e300),];
    prop_oneof![
        8 => (0..5usize, 0..10usize, bad)
            .prop_map(|(metric, instance, bad)| Mishap::Number { metric, instance, bad }),
        4 => (0..10usize).prop_map(|instance| Mishap::Reset { instance }),
        2 => (0..LAYOUTS.len()).prop_map(Mishap::Layout),
        1 => Just(Mishap::Crowd),
        2 => arm().prop_map(Mishap::Idle),
        2 => arm().prop_map(Mishap::Gone),
        2 => prop_oneof![Just(-3i64), Just(-100), Just(5760)].prop_map(Mishap::Jump),
    ]
}

const LAYOUTS: [&[f64]; 4] = [&[0.1, 0.2, 0.4, 0.8], &[0.2, 0.4], &[0.05, 0.1, 0.2, 0.4, 0.8, 1.6], &[]];
const CROWD: usize = 10_000;

/// Counts of one distribution of latencies, whatever the layout.
fn buckets(edges: &[f64], requests: f64) -> Vec<f64> {
    let below = |e: f64| requests * (1.0 - (-e / 0.1).exp());
    let mut last = 0.0;
    let mut counts: Vec<f64> =
        edges.iter().map(|e| below(*e) - std::mem::replace(&mut last, below(*e))).collect();
    counts.push(requests - last);
    counts
}

/// Identical arms, and what befalls each interval.
fn twins(t: i64, layout: usize, mishaps: &[Mishap]) -> Interval {
    let crowd = mishaps.iter().any(|m| matches!(m, Mishap::Crowd));
    let instances = if crowd { CROWD } else { 10 };
    let edges = LAYOUTS[layout];
    let arm = |i: usize| if i.is_multiple_of(2) { Arm::Baseline } else { Arm::Canary };
    let mut instances: Vec<InstanceInterval> = (0..instances)
        .map(|i| {
            let idle = mishaps.iter().any(|m| matches!(m, Mishap::Idle(a) if *a == arm(i)));
            let requests = if idle { 0.0 } else { 100.0 };
            InstanceInterval {
                arm: arm(i),
                instance: format!("i{i}").into(),
                seconds: 15.0,
                requests: Some(requests),
                measurements: vec![
                    Some(Measurement::Proportion { events: requests / 100.0, trials: requests }),
                    Some(Measurement::Buckets(buckets(edges, requests))),
                    Some(Measurement::Gauge(0.2)),
                    Some(Measurement::Gauge(1e8)),
                    Some(Measurement::Gauge(3.0)),
                ],
            }
        })
        .collect();
    for m in mishaps {
        match m {
            Mishap::Number { metric, instance, bad } => {
                match instances[*instance].measurements[*metric].as_mut().expect("all are measured") {
                    Measurement::Proportion { events, .. } => *events = *bad,
                    Measurement::Buckets(counts) => counts[0] = *bad,
                    Measurement::Gauge(v) => *v = *bad,
                }
            }
            Mishap::Reset { instance } => {
                // What was served since the reset, of requests and errors alike.
                let i = &mut instances[*instance];
                i.requests = Some(10.0);
                i.measurements[0] = Some(Measurement::Proportion { events: 0.1, trials: 10.0 });
                i.measurements[1] = Some(Measurement::Buckets(buckets(edges, 10.0)));
            }
            Mishap::Layout(_) | Mishap::Crowd | Mishap::Idle(_) | Mishap::Gone(_) | Mishap::Jump(_) => {}
        }
    }
    instances.retain(|i| !mishaps.iter().any(|m| matches!(m, Mishap::Gone(a) if *a == i.arm)));
    let none: Arc<[f64]> = Arc::new([]);
    Interval {
        start: Timestamp::from_millis(t * 15_000),
        end: Timestamp::from_millis((t + 1) * 15_000),
        edges: vec![none.clone(), edges.into(), none.clone(), none.clone(), none],
        instances,
        down: vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// All at once: an answer every time, and identical arms are never rolled back for what befell them.
    #[test]
    fn mishaps_are_not_evidence(
        all in prop::collection::vec(prop::option::weighted(0.3, prop::collection::vec(mishap(), 1..4)), 40..120)
    ) {
        let mut run = AnalysisRun::new(&spec(), &plan(), Timestamp::from_millis(0));
        let (mut t, mut layout) = (0i64, 0);
        for mishaps in all {
            let mishaps = mishaps.unwrap_or_default();
            for m in &mishaps {
                match m {
                    Mishap::Jump(by) => t = (t + by).max(0),
                    Mishap::Layout(l) => layout = *l,
                    _ => {}
                }
            }
            let verdict = run.step(&twins(t, layout, &mishaps));
            prop_assert!(!verdict.reason.is_empty());
            prop_assert!(verdict.evidence >= 0.0, "evidence {}", verdict.evidence);
            prop_assert_ne!(verdict.outcome, Outcome::Fail, "{}", verdict.reason);
            t += 1;
        }
    }
}

/// Found by the test above: the canary idled while it had most instances, which then were gone.
#[test]
fn an_idle_spell_of_many_instances_is_not_a_dearer_canary() {
    let mut run = AnalysisRun::new(&spec(), &plan(), Timestamp::from_millis(0));
    for t in 0..40 {
        let mishaps: &[Mishap] = match t {
            0 => &[Mishap::Idle(Arm::Canary), Mishap::Crowd],
            1..4 => &[Mishap::Crowd],
            _ => &[],
        };
        let verdict = run.step(&twins(t, 0, mishaps));
        assert_ne!(verdict.outcome, Outcome::Fail, "{}", verdict.reason);
    }
}

fn healthy() -> Vec<Option<Measurement>> {
    vec![
        Some(Measurement::Proportion { events: 1.0, trials: 100.0 }),
        Some(Measurement::Buckets(vec![50.0, 30.0, 15.0, 4.0, 1.0])),
        Some(Measurement::Gauge(0.2)),
        Some(Measurement::Gauge(1e8)),
        Some(Measurement::Gauge(3.0)),
    ]
}

#[test]
fn thousands_of_instances_are_judged() {
    let mut run = AnalysisRun::new(&spec(), &plan(), Timestamp::from_millis(0));
    let mut last = None;
    for t in 0..12i64 {
        let instance = |i: usize| InstanceInterval {
            arm: if i.is_multiple_of(10) { Arm::Canary } else { Arm::Baseline },
            instance: format!("i{i}").into(),
            seconds: 15.0,
            requests: Some(100.0),
            measurements: healthy(),
        };
        let interval = Interval {
            start: Timestamp::from_millis(t * 15_000),
            end: Timestamp::from_millis((t + 1) * 15_000),
            edges: vec![
                Arc::new([]),
                vec![0.1, 0.2, 0.4, 0.8].into(),
                Arc::new([]),
                Arc::new([]),
                Arc::new([]),
            ],
            instances: (0..5000).map(instance).collect(),
            down: vec![],
        };
        last = Some(run.step(&interval));
    }
    let last = last.expect("twelve steps");
    assert_ne!(last.outcome, Outcome::Fail);
    assert_eq!(last.metrics[0].canary_n, 12.0 * 500.0 * 100.0);
    assert!((last.traffic_share - 0.1).abs() < 1e-12);
}

#[test]
fn an_interval_that_is_not_later_changes_nothing() {
    let mut run = AnalysisRun::new(&spec(), &plan(), Timestamp::from_millis(0));
    let at = |end: i64| Interval {
        start: Timestamp::from_millis(end - 15_000),
        end: Timestamp::from_millis(end),
        edges: vec![],
        instances: vec![],
        down: vec![],
    };
    let first = run.step(&at(30_000));
    // NaN is not equal to itself, so the shown form is compared.
    assert_eq!(format!("{:?}", run.step(&at(30_000))), format!("{first:?}"));
    assert_eq!(run.step(&at(15_000)).at, first.at);
}
