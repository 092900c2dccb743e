//! The sentences that people read.

use std::sync::Arc;
use std::time::Duration;

use davy_detector::config::{Direction, JudgeSpec, Margin};
use davy_detector::{
    AnalysisRun, Arm, InstanceInterval, Interval, Margins, Measurement, Metric, MetricClass, Outcome, Plan,
    Reading, Verdict,
};
use davy_model::Timestamp;
use expect_test::{Expect, expect};

/// What every instance of an arm shows in every interval.
#[derive(Clone, Copy)]
struct Shows {
    requests: f64,
    errors: f64,
    slow: f64,
    cores: f64,
    memory: f64,
    lag: f64,
}

const HEALTHY: Shows =
    Shows { requests: 300.0, errors: 1.0, slow: 6.0, cores: 0.2, memory: 536_870_912.0, lag: 10.0 };

fn plan() -> Plan {
    let metric = |name: &str, class, margins, critical| Metric {
        name: name.to_owned(),
        class,
        direction: Direction::Increase,
        margins,
        critical,
        source: "".into(),
        reading: Reading::Given,
    };
    let lag = Margins::custom(MetricClass::Gauge, Margin { relative: 0.1, absolute: 2.0 });
    Plan {
        metrics: vec![
            metric("errors", MetricClass::Errors, Margins::ERRORS, true),
            metric("latency", MetricClass::Latency, Margins::LATENCY, true),
            metric("cpu", MetricClass::Cpu, Margins::CPU, true),
            metric("memory", MetricClass::Memory, Margins::MEMORY, true),
            metric("queue_lag", MetricClass::Gauge, lag, false),
        ],
        requests: None,
    }
}

fn interval(t: i64, instances: &[(Arm, Shows)]) -> Interval {
    let none: Arc<[f64]> = Arc::new([]);
    let instance = |(i, (arm, s)): (usize, &(Arm, Shows))| InstanceInterval {
        arm: *arm,
        instance: format!("i{i}").into(),
        seconds: 15.0,
        requests: Some(s.requests),
        measurements: vec![
            Some(Measurement::Proportion { events: s.errors, trials: s.requests }),
            Some(Measurement::Buckets(vec![
                s.requests * 0.5,
                s.requests * 0.4,
                s.requests * 0.1 - s.slow,
                s.slow * 0.6,
                s.slow * 0.3,
                s.slow * 0.1,
            ])),
            Some(Measurement::Gauge(s.cores)),
            Some(Measurement::Gauge(s.memory)),
            Some(Measurement::Gauge(s.lag)),
        ],
    };
    Interval {
        start: Timestamp::from_millis(t * 15_000),
        end: Timestamp::from_millis((t + 1) * 15_000),
        edges: vec![none.clone(), vec![0.05, 0.1, 0.2, 0.4, 0.8].into(), none.clone(), none.clone(), none],
        instances: instances.iter().enumerate().map(instance).collect(),
        down: vec![],
    }
}

fn run(warm_up_s: u64, n: i64, instances: impl Fn(i64) -> Vec<(Arm, Shows)>) -> Verdict {
    let spec =
        JudgeSpec { alpha: 0.01, interval: Duration::from_secs(15), warm_up: Duration::from_secs(warm_up_s) };
    let mut run = AnalysisRun::new(&spec, &plan(), Timestamp::from_millis(0));
    let mut last = None;
    for t in 0..n {
        last = Some(run.step(&interval(t, &instances(t))));
    }
    last.expect("at least one interval")
}

fn both(baseline: Shows, canary: Shows) -> Vec<(Arm, Shows)> {
    let arm = |arm, shows| std::iter::repeat_n((arm, shows), 4);
    arm(Arm::Baseline, baseline).chain(arm(Arm::Canary, canary)).collect()
}

fn check(verdict: &Verdict, want: &Expect) {
    let share = |v: f64| format!("{:.2}", v * 100.0);
    let mut lines =
        vec![format!("{} ({}): {}", verdict.outcome.as_str(), verdict.contract.as_str(), verdict.reason)];
    lines.extend(verdict.metrics.iter().map(|m| {
        format!(
            "{} {} [{} to {} %] {}",
            m.outcome.as_str(),
            share(m.estimate),
            share(m.lower),
            share(m.upper),
            m.reason
        )
    }));
    want.assert_eq(&lines.join("\n"));
}

#[test]
fn errors_beyond_the_margin() {
    check(
        &run(0, 8, |_| both(HEALTHY, Shows { errors: 15.0, ..HEALTHY })),
        &expect![[r#"
            fail (ok): errors 5 % against 0.33 % of the baseline (3,600 and 3,600 requests): worse beyond the margin of 10 %
            fail 1400.00 [629.61 to 2983.86 %] errors 5 % against 0.33 % of the baseline (9,600 and 9,600 requests): worse beyond the margin of 10 %
            pass 0.00 [NaN to NaN %] latency p50 50 ms against 50 ms of the baseline (9,600 and 9,600 requests): no worse than 15 %
            pass 0.00 [-11.08 to 12.46 %] latency p90 100 ms against 100 ms of the baseline (9,600 and 9,600 requests): no worse than 15 %
            insufficient 0.00 [-27.49 to 37.92 %] latency p99 356 ms against 356 ms of the baseline (9,600 and 9,600 requests): not decided; 25,613 more requests to the canary (5 min) if the versions are equal
            insufficient 0.00 [-13.91 to 16.15 %] CPU 10 ms a request against 10 ms a request of the baseline (4 and 4 instances): not decided; 15 s more if the versions are equal
            insufficient 0.00 [-13.91 to 16.15 %] memory 512 MiB against 512 MiB of the baseline (4 and 4 instances): not decided; 8 min more if the versions are equal
            insufficient 0.00 [-33.84 to 33.84 %] queue lag 10 against 10 of the baseline: not decided; the difference may be chance"#]],
    );
}

#[test]
fn slow_requests_and_a_lagging_queue_that_is_not_critical() {
    check(
        &run(60, 20, |_| both(HEALTHY, Shows { slow: 18.0, lag: 30.0, ..HEALTHY })),
        &expect![[r#"
            fail (ok): latency p99 686 ms against 356 ms of the baseline (3,600 and 3,600 requests): worse beyond the margin of 5 %
            insufficient 0.00 [-47.84 to 91.72 %] errors 0.33 % against 0.33 % of the baseline (19,200 and 19,200 requests): not decided; 19,200 more requests to the canary (4 min) if the versions are equal
            pass -0.00 [NaN to NaN %] latency p50 50 ms against 50 ms of the baseline (19,200 and 19,200 requests): no worse than 15 %
            pass -0.00 [-9.49 to 10.48 %] latency p90 100 ms against 100 ms of the baseline (19,200 and 19,200 requests): no worse than 15 %
            fail 92.44 [56.61 to 136.48 %] latency p99 686 ms against 356 ms of the baseline (19,200 and 19,200 requests): worse beyond the margin of 5 %
            pass 0.00 [-13.91 to 16.15 %] CPU 10 ms a request against 10 ms a request of the baseline (4 and 4 instances): no worse than 20 %
            insufficient 0.00 [-13.91 to 16.15 %] memory 512 MiB against 512 MiB of the baseline (4 and 4 instances): not decided; 6 min more if the versions are equal
            fail 200.00 [173.53 to 226.47 %] queue lag 30 against 10 of the baseline: worse beyond the margin of 10 %"#]],
    );
}

#[test]
fn a_leak() {
    let leaking = |t: i64| Shows { memory: HEALTHY.memory * (1.0 + 0.01 * t as f64), ..HEALTHY };
    check(
        &run(0, 60, |t| both(HEALTHY, leaking(t))),
        &expect![[r#"
            fail (ok): memory 565 MiB against 512 MiB of the baseline (4 and 4 instances): it grows faster than the baseline's
            pass 0.00 [-31.16 to 45.27 %] errors 0.33 % against 0.33 % of the baseline (72,000 and 72,000 requests): no worse than 50 %
            pass 0.00 [NaN to NaN %] latency p50 50 ms against 50 ms of the baseline (72,000 and 72,000 requests): no worse than 15 %
            pass 0.00 [-5.59 to 5.92 %] latency p90 100 ms against 100 ms of the baseline (72,000 and 72,000 requests): no worse than 15 %
            pass 0.00 [-12.94 to 14.87 %] latency p99 356 ms against 356 ms of the baseline (72,000 and 72,000 requests): no worse than 15 %
            pass 0.00 [-10.00 to 11.11 %] CPU 10 ms a request against 10 ms a request of the baseline (4 and 4 instances): no worse than 20 %
            fail 28.33 [15.50 to 42.59 %] memory 657 MiB against 512 MiB of the baseline (4 and 4 instances): it grows faster than the baseline's
            pass 0.00 [-23.10 to 23.10 %] queue lag 10 against 10 of the baseline: no worse than 40 %"#]],
    );
}

#[test]
fn a_healthy_canary_is_passed_with_what_was_shown() {
    check(
        &run(0, 200, |_| both(HEALTHY, HEALTHY)),
        &expect![[r#"
            pass (ok): no worse than the margins in errors, latency p50, latency p90, latency p99, cpu, memory, queue lag
            pass 0.00 [-21.95 to 28.13 %] errors 0.33 % against 0.33 % of the baseline (240,000 and 240,000 requests): no worse than 50 %
            pass 0.00 [NaN to NaN %] latency p50 50 ms against 50 ms of the baseline (240,000 and 240,000 requests): no worse than 15 %
            pass 0.00 [-4.08 to 4.25 %] latency p90 100 ms against 100 ms of the baseline (240,000 and 240,000 requests): no worse than 15 %
            pass 0.00 [-8.78 to 9.62 %] latency p99 356 ms against 356 ms of the baseline (240,000 and 240,000 requests): no worse than 15 %
            pass 0.00 [-7.98 to 8.67 %] CPU 10 ms a request against 10 ms a request of the baseline (4 and 4 instances): no worse than 20 %
            pass 0.00 [-7.98 to 8.67 %] memory 512 MiB against 512 MiB of the baseline (4 and 4 instances): no worse than 25 %
            pass 0.00 [-22.86 to 22.86 %] queue lag 10 against 10 of the baseline: no worse than 40 %"#]],
    );
}

#[test]
fn little_traffic_says_what_is_missing() {
    let few = Shows { requests: 10.0, errors: 0.0, slow: 0.2, ..HEALTHY };
    check(
        &run(0, 10, |_| both(few, few)),
        &expect![[r#"
            insufficient (ok): errors 0 % against 0 % of the baseline (400 and 400 requests): not decided; 15,496 more requests to the canary (2 h) if the versions are equal
            insufficient NaN [NaN to NaN %] errors 0 % against 0 % of the baseline (400 and 400 requests): not decided; 15,496 more requests to the canary (2 h) if the versions are equal
            pass 0.00 [NaN to NaN %] latency p50 50 ms against 50 ms of the baseline (400 and 400 requests): no worse than 15 %
            insufficient 0.00 [-27.39 to 37.73 %] latency p90 100 ms against 100 ms of the baseline (400 and 400 requests): not decided; 946 more requests to the canary (6 min) if the versions are equal
            insufficient 0.00 [NaN to NaN %] latency p99 356 ms against 356 ms of the baseline (400 and 400 requests): not decided; 100 more requests to the canary (38 s) if the versions are equal
            pass 0.00 [-13.91 to 16.15 %] CPU 0.2 cores against 0.2 cores of the baseline (4 and 4 instances): no worse than 20 %
            insufficient 0.00 [-13.91 to 16.15 %] memory 512 MiB against 512 MiB of the baseline (4 and 4 instances): not decided; 8 min more if the versions are equal
            pass 0.00 [-30.77 to 30.77 %] queue lag 10 against 10 of the baseline: no worse than 40 %"#]],
    );
}

#[test]
fn one_instance_an_arm_at_unequal_load() {
    let busy = Shows { requests: 900.0, errors: 3.0, slow: 18.0, cores: 0.5, ..HEALTHY };
    check(
        &run(0, 100, |_| vec![(Arm::Baseline, busy), (Arm::Canary, HEALTHY)]),
        &expect![[r#"
            insufficient (ok): errors 0.33 % against 0.33 % of the baseline (30,000 and 90,000 requests): not decided; 5,677 more requests to the canary (5 min) if the versions are equal
            insufficient 0.00 [-40.99 to 69.47 %] errors 0.33 % against 0.33 % of the baseline (30,000 and 90,000 requests): not decided; 5,677 more requests to the canary (5 min) if the versions are equal
            pass 0.00 [NaN to NaN %] latency p50 50 ms against 50 ms of the baseline (30,000 and 90,000 requests), while an instance of the baseline carries 3 times the load: no worse than 15 %
            pass 0.00 [-11.61 to 13.13 %] latency p90 100 ms against 100 ms of the baseline (30,000 and 90,000 requests), while an instance of the baseline carries 3 times the load: no worse than 15 %
            pass -0.00 [-17.37 to 21.02 %] latency p99 356 ms against 356 ms of the baseline (30,000 and 90,000 requests), while an instance of the baseline carries 3 times the load: no worse than 15 %
            insufficient 20.00 [-70.81 to 64.44 %] CPU 10 ms a request against 8.3 ms a request of the baseline (1 and 1 instance): an instance of the baseline carries 3 times the load, so only a gross difference would show
            insufficient 0.00 [-27.02 to 37.03 %] memory 512 MiB against 512 MiB of the baseline (1 and 1 instance): 1 and 1 instance are too few to show it no worse: luck alone could hide the difference
            pass 0.00 [-76.90 to 76.90 %] queue lag 10 against 10 of the baseline: no worse than 40 %"#]],
    );
}

/// Where every interval is as the last, the forecast of the case above is what happens.
#[test]
fn a_forecast_comes_true() {
    let busy = Shows { requests: 900.0, errors: 3.0, slow: 18.0, cores: 0.5, ..HEALTHY };
    let errors = |n| run(0, n, |_| vec![(Arm::Baseline, busy), (Arm::Canary, HEALTHY)]).metrics[0].clone();
    let needed = errors(100).needed.expect("it is not decided");
    let said = 100 + needed.requests.div_ceil(300) as i64;
    let passed = (101..200).find(|n| errors(*n).outcome == Outcome::Pass).expect("it passes");
    assert!((passed - said).abs() * 10 <= said, "said {said}, passed {passed}");
}

#[test]
fn what_cannot_be_judged_says_why() {
    check(
        &run(180, 4, |_| both(HEALTHY, HEALTHY)),
        &expect![[r#"
        insufficient (warming_up): the canary is warming up: judged in 2 min
        insufficient 0.00 [NaN to NaN %] errors 0.33 % against 0.33 % of the baseline (4,800 and 4,800 requests): warming up, shown but not judged
        insufficient 0.00 [NaN to NaN %] latency p50 50 ms against 50 ms of the baseline (4,800 and 4,800 requests): warming up, shown but not judged
        insufficient 0.00 [NaN to NaN %] latency p90 100 ms against 100 ms of the baseline (4,800 and 4,800 requests): warming up, shown but not judged
        insufficient 0.00 [NaN to NaN %] latency p99 356 ms against 356 ms of the baseline (4,800 and 4,800 requests): warming up, shown but not judged
        insufficient 0.00 [NaN to NaN %] CPU 10 ms a request against 10 ms a request of the baseline (4 and 4 instances): warming up, shown but not judged
        insufficient 0.00 [NaN to NaN %] memory 512 MiB against 512 MiB of the baseline (4 and 4 instances): warming up, shown but not judged
        insufficient 0.00 [NaN to NaN %] queue lag 10 against 10 of the baseline: warming up, shown but not judged"#]],
    );
    let reason = |v: Verdict| format!("{}: {}", v.contract.as_str(), v.reason);
    let gone =
        |t: i64| both(HEALTHY, HEALTHY).into_iter().filter(|(a, _)| t < 3 || *a == Arm::Baseline).collect();
    expect!["canary_missing: no instance of the canary is seen: held, not failed"]
        .assert_eq(&reason(run(0, 6, gone)));
    let alone = |_| both(HEALTHY, HEALTHY).into_iter().filter(|(a, _)| *a == Arm::Canary).collect();
    expect!["baseline_missing: no instance of the baseline is seen: nothing to compare with"]
        .assert_eq(&reason(run(0, 6, alone)));
    expect!["blind: neither arm is seen: Davy is blind here, which says nothing of the release"]
        .assert_eq(&reason(run(0, 3, |_| vec![])));
    let idle = Shows { requests: 0.0, errors: 0.0, slow: 0.0, ..HEALTHY };
    expect!["no_traffic: the canary has no requests: 0 so far"]
        .assert_eq(&reason(run(0, 3, |_| both(HEALTHY, idle))));
}
