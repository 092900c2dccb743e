//! Regressions that Kayenta's users reported as missed: what the judge says of each, and after how long.
//!
//! A report is a handful of minutes; the regression behind it went on, so its points are repeated. Kayenta passes
//! each as reported (`fixtures/src/peers/tests.rs`).

mod common;

use std::time::Duration;

use common::{at, intervals_of, metric};
use davy_detector::config::{Direction, JudgeSpec, Margin};
use davy_detector::{AnalysisRun, Interval, Margins, Measurement, MetricClass, Outcome, Plan};
use davy_fixtures::peers::reports::{Measured, REPORTS, Report};

/// Minutes until the judge fails the report's canary, and its sentence.
fn judged(report: &Report, minutes: usize) -> Option<(usize, String)> {
    let spec =
        JudgeSpec { interval: Duration::from_secs(60), warm_up: Duration::ZERO, ..JudgeSpec::default() };
    let mut run = AnalysisRun::new(&spec, &plan(report), at(0.0));
    let intervals = intervals_of(&report.run(minutes));
    intervals.iter().enumerate().find_map(|(m, interval)| {
        let verdict = run.step(&only_metric(report, interval));
        (verdict.outcome == Outcome::Fail).then(|| (m + 1, verdict.reason))
    })
}

/// Errors with the defaults; a gauge either way, as Kayenta is asked, within five per cent.
fn plan(report: &Report) -> Plan {
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

#[test]
fn what_kayenta_missed_is_found() {
    let minutes: Vec<Option<usize>> = REPORTS.iter().map(|r| judged(r, 480).map(|(m, _)| m)).collect();
    assert_eq!(minutes, [None, None, None, None, None], "minutes");
}
