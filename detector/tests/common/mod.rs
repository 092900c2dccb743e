//! Words that the scenario tests share: a simulated release, judged to its end.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;
use std::time::Duration;

use davy_detector::config::{Direction, JudgeSpec, Margin};
use davy_detector::{
    AnalysisRun, Arm, InstanceInterval, Interval, Margins, Measurement, Metric, MetricClass, Outcome, Plan,
    Reading, Verdict,
};
use davy_fixtures::peers::reports::{Measured, Report};
use davy_fixtures::scenario::{Run, Scenario, ScenarioInterval, ScenarioRow};
use davy_model::Timestamp;

pub(crate) fn metric(name: &str, class: MetricClass, direction: Direction, margins: Margins) -> Metric {
    Metric {
        name: name.to_owned(),
        class,
        direction,
        margins,
        critical: true,
        source: "".into(),
        reading: Reading::Given,
    }
}

/// Errors, latency, CPU, memory and conversions, with the defaults.
pub(crate) fn plan() -> Plan {
    let up = Direction::Increase;
    let conversion = Margins::custom(MetricClass::Proportion, Margin { relative: 0.02, absolute: 0.0 });
    Plan {
        metrics: vec![
            metric("errors", MetricClass::Errors, up, Margins::ERRORS),
            metric("latency", MetricClass::Latency, up, Margins::LATENCY),
            metric("cpu", MetricClass::Cpu, up, Margins::CPU),
            metric("memory", MetricClass::Memory, up, Margins::MEMORY),
            metric("conversions", MetricClass::Proportion, Direction::Decrease, conversion),
        ],
        requests: None,
    }
}

/// As `Observer` would read it.
pub(crate) fn intervals(scenario: &Scenario, seed: u64) -> Vec<Interval> {
    intervals_of(&scenario.run(seed))
}

pub(crate) fn intervals_of(run: &Run) -> Vec<Interval> {
    let none: Arc<[f64]> = Arc::new([]);
    let edges: Vec<Arc<[f64]>> =
        (0..5).map(|i| Arc::clone(if i == 1 { &run.edges } else { &none })).collect();
    let convert = |t: &ScenarioInterval| Interval {
        start: at(t.end_s - run.interval_s),
        end: at(t.end_s),
        edges: edges.clone(),
        instances: instances(run, t),
        down: Vec::new(),
    };
    run.intervals.iter().map(convert).collect()
}

fn instances(run: &Run, t: &ScenarioInterval) -> Vec<InstanceInterval> {
    let row = |(i, row): (usize, &Option<ScenarioRow>)| {
        let r = row.as_ref()?;
        let arm = if run.is_canary(i) { Arm::Canary } else { Arm::Baseline };
        Some(InstanceInterval {
            arm,
            instance: format!("i{i}").into(),
            seconds: r.seconds,
            requests: Some(r.requests),
            measurements: vec![
                Some(Measurement::Proportion { events: r.errors, trials: r.requests }),
                Some(Measurement::Buckets(r.latency.clone())),
                Some(Measurement::Gauge(r.cpu)),
                Some(Measurement::Gauge(r.memory_bytes)),
                Some(Measurement::Proportion { events: r.conversions, trials: r.requests }),
            ],
        })
    };
    t.instances.iter().enumerate().filter_map(row).collect()
}

pub(crate) fn at(s: f64) -> Timestamp {
    Timestamp::from_millis((s * 1000.0).round() as i64)
}

/// Judged from the first interval on, at the level of the study's tables unless said.
pub(crate) fn spec(alpha: f64) -> JudgeSpec {
    JudgeSpec { alpha, interval: Duration::from_secs(15), warm_up: Duration::ZERO }
}

/// What a run ended with.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) failed_at: Option<usize>,
    pub(crate) passed_at: Option<usize>,
    pub(crate) last: Verdict,
}

pub(crate) fn judge(scenario: &Scenario, seed: u64, spec: &JudgeSpec) -> Judged {
    judge_all(&intervals(scenario, seed), spec)
}

/// Until it fails, or to the end.
pub(crate) fn judge_all(intervals: &[Interval], spec: &JudgeSpec) -> Judged {
    let mut run = AnalysisRun::new(spec, &plan(), at(0.0));
    let (mut failed_at, mut passed_at, mut last) = (None, None, None);
    for (t, interval) in intervals.iter().enumerate() {
        let verdict = run.step(interval);
        match verdict.outcome {
            Outcome::Fail => failed_at = failed_at.or(Some(t + 1)),
            Outcome::Pass => passed_at = passed_at.or(Some(t + 1)),
            Outcome::Insufficient => {}
        }
        last = Some(verdict);
        if failed_at.is_some() {
            break;
        }
    }
    Judged { failed_at, passed_at, last: last.expect("a scenario has intervals") }
}

/// Share found, median and 90 % quantile of the interval in which it was, over `seeds` runs.
pub(crate) fn detection(scenario: &Scenario, seeds: u64, spec: &JudgeSpec) -> (f64, usize, usize) {
    let mut found: Vec<usize> = (0..seeds).filter_map(|s| judge(scenario, s, spec).failed_at).collect();
    let share = found.len() as f64 / seeds as f64;
    found.resize(seeds as usize, usize::MAX);
    found.sort_unstable();
    (share, found[seeds as usize / 2], found[seeds as usize * 9 / 10])
}

/// Minutes until the judge fails the report's canary, whose every point counts, and its sentence.
pub(crate) fn judge_report(report: &Report, spec: &JudgeSpec, minutes: usize) -> Option<(usize, String)> {
    let spec = JudgeSpec { interval: Duration::from_secs(60), warm_up: Duration::ZERO, ..*spec };
    let mut run = AnalysisRun::new(&spec, &report_plan(report), at(0.0));
    let intervals = intervals_of(&report.run(minutes));
    intervals.iter().enumerate().find_map(|(m, interval)| {
        let verdict = run.step(&only_metric(report, interval));
        (verdict.outcome == Outcome::Fail).then(|| (m + 1, verdict.reason))
    })
}

/// Errors with the defaults; a gauge either way, as Kayenta is asked, within five per cent.
fn report_plan(report: &Report) -> Plan {
    let metric = match report.measured {
        Measured::Errors | Measured::ErrorsPerSecond => {
            metric("errors", MetricClass::Errors, Direction::Increase, Margins::ERRORS)
        }
        Measured::Gauge => {
            let margin = Margin { relative: 0.05, absolute: 0.0 };
            let margins = Margins::custom(MetricClass::Gauge, margin);
            metric("value", MetricClass::Gauge, Direction::Either, margins)
        }
    };
    Plan { metrics: vec![metric], requests: None }
}

fn only_metric(report: &Report, interval: &Interval) -> Interval {
    let of = |m: &Option<Measurement>| m.clone();
    let mut interval = interval.clone();
    let kept = if report.measured == Measured::Gauge { 2 } else { 0 };
    interval.edges = vec![interval.edges[kept].clone()];
    for i in &mut interval.instances {
        i.measurements = vec![of(&i.measurements[kept])];
    }
    interval
}
