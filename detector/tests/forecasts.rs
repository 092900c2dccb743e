//! What a verdict says is still needed against what then happens, on identical versions.

mod common;

use common::{at, intervals, plan, spec};
use davy_detector::{AnalysisRun, Outcome, Verdict};
use davy_fixtures::scenario::Scenario;

/// When the forecast is made, and until when it is watched: six hours.
const ASKED_AT: usize = 60;
const INTERVALS: usize = 1440;
const SEEDS: u64 = 15;
/// How far the medians may be apart.
const FACTOR: f64 = 2.5;

/// In intervals since the start; infinite for "never".
struct Outcomes {
    forecast: f64,
    passed: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The metric that takes longest: whatever is neither passed nor set aside holds the release.
fn forecast(verdict: &Verdict) -> f64 {
    let open = verdict.metrics.iter().filter(|m| m.outcome == Outcome::Insufficient);
    let wait = open.filter_map(|m| m.needed).map(|n| n.seconds.map_or(f64::INFINITY, |s| s as f64 / 15.0));
    ASKED_AT as f64 + wait.fold(0.0, f64::max)
}

fn judge(scenario: &Scenario, seed: u64) -> Outcomes {
    let mut run = AnalysisRun::new(&spec(1e-9), &plan(), at(0.0));
    let mut said = f64::NAN;
    for (t, interval) in intervals(scenario, seed).iter().enumerate() {
        let verdict = run.step(interval);
        if verdict.outcome == Outcome::Pass {
            let passed = (t + 1) as f64;
            return Outcomes { forecast: if t < ASKED_AT { passed } else { said }, passed };
        }
        if t + 1 == ASKED_AT {
            said = forecast(&verdict);
        }
    }
    Outcomes { forecast: said, passed: f64::INFINITY }
}

#[test]
fn forecasts_come_true() {
    let mild = || Scenario { intervals: INTERVALS, ..Scenario::mild() };
    let split =
        |baseline_instances, canary_instances, s| Scenario { baseline_instances, canary_instances, ..s };
    let cases = [
        ("mild", mild()),
        ("errors 0.1 %", Scenario { error_rate: 0.001, ..mild() }),
        ("errors 1 %", Scenario { error_rate: 0.01, ..mild() }),
        ("bursty errors", Scenario { burstiness: 0.01, ..mild() }),
        ("1/4 of the traffic", Scenario { requests_per_s: 25.0, ..mild() }),
        ("three against three", split(3, 3, mild())),
        ("10/90", split(9, 1, mild())),
        ("5/95", split(19, 1, mild())),
        ("one against one", split(1, 1, Scenario { requests_per_s: 20.0, ..mild() })),
        ("low traffic", split(2, 2, Scenario { requests_per_s: 0.2, ..mild() })),
    ];
    let mut wrong = Vec::new();
    for (name, scenario) in cases {
        let all: Vec<Outcomes> = (0..SEEDS).map(|seed| judge(&scenario, seed)).collect();
        let forecast = median(all.iter().map(|o| o.forecast).collect());
        let passed = median(all.iter().map(|o| o.passed).collect());
        let within = (passed / FACTOR..=passed * FACTOR).contains(&forecast);
        // What takes longer than was watched is as good as never.
        let never = passed.is_infinite() && forecast > INTERVALS as f64 / FACTOR;
        println!("{name}: {forecast:.0} against {passed:.0}");
        if !(within || never) {
            wrong.push(format!("{name}: forecast {forecast:.0}, passed at {passed:.0}"));
        }
    }
    assert!(wrong.is_empty(), "intervals, seeds 0 to {}: {wrong:?}", SEEDS - 1);
}
