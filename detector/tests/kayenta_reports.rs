//! Regressions that Kayenta's users reported as missed: the judge finds all five.
//!
//! A report is a handful of minutes; the regression behind it went on, so its points are repeated. Kayenta passes
//! each as reported (`fixtures/src/peers/tests.rs`); the laboratory prints what each rule makes of them.

mod common;

use common::judge_report;
use davy_detector::config::JudgeSpec;
use davy_fixtures::peers::reports::{REPORTS, Report};

/// Minutes of the regression until a rollback: three times on what a handful of errors can show, once on an
/// instance against an instance whose gauge jumps by a hundred, once on a shape rather than a level.
#[test]
fn what_kayenta_missed_is_found() {
    let minutes: Vec<Option<usize>> =
        REPORTS.iter().map(|r| judge_report(r, &JudgeSpec::default(), 480).map(|(m, _)| m)).collect();
    let bounds = [60, 60, 250, 120, 300];
    for ((report, minutes), max) in REPORTS.iter().zip(&minutes).zip(bounds) {
        assert!(minutes.is_some_and(|m| m <= max), "{}: {minutes:?} minutes", report.source);
    }
}

/// The same points for both versions are no regression, however odd they are.
#[test]
fn the_same_points_on_both_sides_are_spared() {
    for report in &REPORTS {
        let twin = Report { baseline: report.canary, ..*report };
        assert_eq!(judge_report(&twin, &JudgeSpec::default(), 480), None, "{}", report.source);
    }
}
