//! The judge on seeded releases: how often it cries wolf, how soon it sees a regression, what it passes, and that
//! its bounds hold. `cargo run -p davy-detector --example judge_table` prints the whole table.

mod common;

use std::time::Duration;

use common::{at, detection, intervals, judge, plan, spec};
use davy_detector::config::JudgeSpec;
use davy_detector::{AnalysisRun, Contract, Outcome};
use davy_fixtures::scenario::Scenario;

/// Runs of identical versions that must all be spared: at a true rate of 1 % one in sixty is seen by chance in
/// 45 % of all choices of seeds, so the seeds are fixed and the outcome is, too.
const TWINS: u64 = 60;

fn false_alarms(name: &str, scenario: &Scenario, seeds: u64, spec: &JudgeSpec) {
    let failed: Vec<String> = (0..seeds)
        .filter_map(|s| {
            let judged = judge(scenario, s, spec);
            judged.failed_at.map(|t| format!("seed {s} at {t}: {}", judged.last.reason))
        })
        .collect();
    assert!(failed.is_empty(), "{name}: {failed:?}");
}

#[test]
fn identical_versions_are_spared_at_the_defaults() {
    false_alarms("mild", &Scenario::mild(), TWINS, &JudgeSpec::default());
}

#[test]
fn identical_versions_are_spared_whatever_the_traffic() {
    let low =
        Scenario { baseline_instances: 2, canary_instances: 2, requests_per_s: 0.2, ..Scenario::mild() };
    let one =
        Scenario { baseline_instances: 1, canary_instances: 1, requests_per_s: 20.0, ..Scenario::mild() };
    let cases = [
        ("missing scrapes", Scenario { missing: 0.05, ..Scenario::mild() }),
        ("bursty errors", Scenario { burstiness: 0.03, ..Scenario::mild() }),
        ("5/95", Scenario { baseline_instances: 19, canary_instances: 1, ..Scenario::mild() }),
        ("one against one", one.clone()),
        ("a fifth of the load", Scenario { canary_share: Some(0.2), ..one }),
        ("low traffic", low.clone()),
        ("low traffic every second", Scenario { interval_s: 1.0, intervals: 1200, ..low }),
        ("every second", Scenario { interval_s: 1.0, intervals: 600, ..Scenario::mild() }),
    ];
    for (name, scenario) in cases {
        false_alarms(name, &scenario, 12, &spec(0.01));
    }
}

/// Medians of the study's reference: 3, 4, 71 and 64 intervals; ours may differ by its other random numbers.
#[test]
fn regressions_are_found_about_as_soon_as_by_the_reference() {
    let base = || Scenario { error_rate: 0.01, ..Scenario::mild() };
    let cases = [
        ("errors 1 -> 5 %", Scenario { error_to: Some(0.05), ..base() }, 1.0, 4),
        ("errors 1 -> 1.5 %", Scenario { error_to: Some(0.015), ..base() }, 0.9, 90),
        ("p99 x2", Scenario { tail_times: 2.0, ..Scenario::mild() }, 1.0, 6),
        ("CPU +20 %", Scenario { cpu_times: 1.2, ..Scenario::mild() }, 0.7, 110),
        ("leak 1 %/min", Scenario { leak_per_min: 0.01, ..Scenario::mild() }, 0.95, 80),
        (
            "5/95: errors 1 -> 5 %",
            Scenario { baseline_instances: 19, canary_instances: 1, error_to: Some(0.05), ..base() },
            1.0,
            17,
        ),
    ];
    for (name, scenario, share_min, median_max) in cases {
        let (share, median, _) = detection(&scenario, 20, &spec(0.05));
        assert!(share >= share_min && median <= median_max, "{name}: share {share}, median {median}");
    }
}

#[test]
fn a_gross_regression_is_found_within_seconds_at_short_intervals() {
    let fast = Scenario {
        interval_s: 1.0,
        intervals: 120,
        error_rate: 0.001,
        error_to: Some(0.05),
        ..Scenario::mild()
    };
    let (share, median, _) = detection(&fast, 20, &spec(0.01));
    assert!(share == 1.0 && median <= 25, "share {share}, median {median}");
}

#[test]
fn a_regression_after_an_hour_of_health_is_still_found_soon() {
    let late =
        Scenario { error_rate: 0.01, error_to: Some(0.02), onset: 160, intervals: 360, ..Scenario::mild() };
    let (share, median, _) = detection(&late, 20, &spec(0.05));
    assert!(share >= 0.95 && (161..=195).contains(&median), "share {share}, median {median}");
}

#[test]
fn a_truly_equal_canary_is_passed_and_a_worse_one_is_not() {
    let passed =
        |s: &Scenario| (0..20).filter(|seed| judge(s, *seed, &spec(0.01)).passed_at.is_some()).count();
    let equal = passed(&Scenario::mild());
    assert!(equal >= 18, "{equal} of 20 equal canaries passed");
    let worse = Scenario { error_rate: 0.005, error_to: Some(0.009), ..Scenario::mild() };
    let worse = passed(&worse);
    assert!(worse <= 1, "{worse} of 20 canaries with 80 % more errors passed");
}

#[test]
fn a_cold_start_is_shown_and_not_judged() {
    // The first two minutes fail three times as often; at the defaults three are left out.
    let spec = JudgeSpec { warm_up: Duration::from_secs(180), ..spec(0.01) };
    let cold = Scenario { error_rate: 0.05, error_to: Some(0.15), intervals: 12, ..Scenario::mild() };
    let warm = Scenario { error_rate: 0.05, ..Scenario::mild() };
    for seed in 0..10 {
        let mut run = AnalysisRun::new(&spec, &plan(), at(0.0));
        for interval in intervals(&cold, seed) {
            let verdict = run.step(&interval);
            assert_eq!((verdict.outcome, verdict.contract), (Outcome::Insufficient, Contract::WarmingUp));
            assert!(verdict.metrics[0].canary > 0.1, "the errors are shown");
        }
        for mut interval in intervals(&warm, seed) {
            (interval.start, interval.end) =
                (interval.start + Duration::from_secs(180), interval.end + Duration::from_secs(180));
            assert_ne!(run.step(&interval).outcome, Outcome::Fail, "seed {seed}");
        }
    }
}

/// The shown bounds of the error ratio hold at every look of a run in at least 95 of 100 runs.
#[test]
fn the_bounds_hold_at_all_times_at_once() {
    for (to, true_ratio) in [(0.01, 1.0), (0.015, 1.5), (0.05, 5.0)] {
        let scenario = Scenario {
            error_rate: 0.01,
            error_to: Some(to),
            error_luck: 0.0,
            burstiness: 0.0,
            intervals: 120,
            ..Scenario::mild()
        };
        let runs = 100;
        let held = (0..runs).filter(|seed| {
            let mut run = AnalysisRun::new(&spec(1e-9), &plan(), at(0.0));
            intervals(&scenario, *seed).iter().all(|i| {
                let errors = &run.step(i).metrics[0];
                errors.lower.is_nan() || (errors.lower..=errors.upper).contains(&(true_ratio - 1.0))
            })
        });
        let held = held.count();
        assert!(held >= 95, "ratio {true_ratio}: {held} of {runs} runs held");
    }
}

/// What a verdict says after a replay is what it said before, to the byte.
#[test]
fn replaying_the_same_intervals_gives_the_same_verdict() {
    let scenario = Scenario { missing: 0.05, error_to: Some(0.008), intervals: 120, ..Scenario::mild() };
    let all = intervals(&scenario, 7);
    let judged = || {
        let mut run = AnalysisRun::new(&spec(0.01), &plan(), at(0.0));
        all.iter().map(|i| format!("{:?}", run.step(i))).collect::<Vec<String>>()
    };
    let (before, after) = (judged(), judged());
    assert_eq!(before, after);
    assert!(before.windows(2).all(|w| w[0] != w[1]), "every interval is news");
}

#[test]
fn low_traffic_says_how_much_is_missing() {
    let low = Scenario {
        baseline_instances: 2,
        canary_instances: 2,
        requests_per_s: 0.2,
        intervals: 60,
        ..Scenario::mild()
    };
    let last = judge(&low, 1, &spec(0.01)).last;
    assert_eq!((last.outcome, last.contract), (Outcome::Insufficient, Contract::Ok));
    let errors = &last.metrics[0];
    let needed = errors.needed.expect("little traffic needs more");
    assert!(needed.requests > 100 && needed.seconds.is_some_and(|s| s > 1000), "{needed:?}");
    assert!(last.reason.contains("to the canary"), "{}", last.reason);
}
