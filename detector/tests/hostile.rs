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
        source: String::new(),
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
    JudgeSpec { alpha: 0.01, interval: Duration::from_secs(15), warm_up: Duration::ZERO }
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
            for m in &verdict.metrics {
                prop_assert!(m.evidence >= 0.0 && !m.reason.is_empty(), "{:?}", m);
            }
        }
    }

    /// Nonsense in one metric of a healthy release rolls nothing back.
    #[test]
    fn nonsense_is_not_evidence(bad in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0)], at in 0..5usize) {
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
