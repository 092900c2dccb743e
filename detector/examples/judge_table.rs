//! Prints the judge's table: false alarms, delays and promotions over seeded scenarios.
//!
//!     cargo run -p davy-detector --example judge_table -- [SEEDS] [ALPHA]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{judge, spec};
use davy_fixtures::scenario::Scenario;

fn main() {
    let mut args = std::env::args().skip(1);
    let seeds: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(40);
    let alpha: f64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(0.05);
    let mild = Scenario::mild;
    let p1 = || Scenario { error_rate: 0.01, ..mild() };
    let split = || Scenario { baseline_instances: 19, canary_instances: 1, error_rate: 0.01, ..mild() };
    let second = || Scenario { interval_s: 1.0, intervals: 900, ..mild() };
    let rows: Vec<(&str, Scenario)> = vec![
        ("A/A mild", mild()),
        ("A/A mild, 6 h", Scenario { intervals: 1440, ..mild() }),
        ("A/A missing scrapes, 6 h", Scenario { missing: 0.05, intervals: 1440, ..mild() }),
        ("A/A bursty errors", Scenario { burstiness: 0.03, ..mild() }),
        ("A/A 5/95", Scenario { baseline_instances: 19, canary_instances: 1, ..mild() }),
        ("A/A one against one, 20/s", one_against_one()),
        ("A/A one against one, 20 % share", Scenario { canary_share: Some(0.2), ..one_against_one() }),
        ("A/A low traffic 0.2/s", low()),
        ("A/A low traffic, 1 s", Scenario { interval_s: 1.0, intervals: 3600, ..low() }),
        ("A/A 1 s intervals", second()),
        ("errors 1 -> 5 %", Scenario { error_to: Some(0.05), ..p1() }),
        ("errors 1 -> 5 %, 1 s", Scenario { error_rate: 0.01, error_to: Some(0.05), ..second() }),
        ("errors 1 -> 1.5 %", Scenario { error_to: Some(0.015), ..p1() }),
        ("errors 0.1 -> 0.2 %", Scenario { error_rate: 0.001, error_to: Some(0.002), ..mild() }),
        ("errors 0 -> 0.1 %", Scenario { error_rate: 1e-5, error_to: Some(0.001), ..mild() }),
        ("errors 0.1 -> 5 %, 1 s, 1v1 20/s", fast_one()),
        ("one bad instance 5 %", Scenario { error_one_instance: Some(0.05), ..mild() }),
        ("p99 x2", Scenario { tail_times: 2.0, ..mild() }),
        ("p99 +50 %", Scenario { tail_times: 1.5, ..mild() }),
        ("p99 +20 %", Scenario { tail_times: 1.2, ..mild() }),
        ("latency +10 %", Scenario { latency_times: 1.1, ..mild() }),
        ("CPU +20 %", Scenario { cpu_times: 1.2, ..mild() }),
        ("leak 1 %/min", Scenario { leak_per_min: 0.01, ..mild() }),
        ("conversion -10 %", Scenario { conversion_rate: 0.05, conversion_times: 0.9, ..mild() }),
        ("5/95: errors 1 -> 5 %", Scenario { error_to: Some(0.05), ..split() }),
        ("5/95: p99 +50 %", Scenario { tail_times: 1.5, ..split() }),
        (
            "late: errors 1 -> 2 % after 160",
            Scenario { error_to: Some(0.02), onset: 160, intervals: 480, ..p1() },
        ),
    ];
    println!("{seeds} seeds, alpha {alpha}");
    println!(
        "{:<36} {:>6} {:>7} {:>5} {:>7} {:>7}",
        "scenario", "failed", "median", "90 %", "passed", "median"
    );
    for (name, scenario) in rows {
        let runs: Vec<_> = (0..seeds).map(|s| judge(&scenario, s, &spec(alpha))).collect();
        let failed = quantiles(runs.iter().filter_map(|r| r.failed_at).collect(), seeds);
        let passed = quantiles(runs.iter().filter_map(|r| r.passed_at).collect(), seeds);
        println!(
            "{name:<36} {:>4}/{seeds} {:>5} {:>5} {:>4}/{seeds} {:>5}",
            failed.0, failed.1, failed.2, passed.0, passed.1
        );
    }
}

fn one_against_one() -> Scenario {
    Scenario { baseline_instances: 1, canary_instances: 1, requests_per_s: 20.0, ..Scenario::mild() }
}

fn low() -> Scenario {
    Scenario { baseline_instances: 2, canary_instances: 2, requests_per_s: 0.2, ..Scenario::mild() }
}

fn fast_one() -> Scenario {
    Scenario { interval_s: 1.0, intervals: 300, error_rate: 0.001, error_to: Some(0.05), ..one_against_one() }
}

fn quantiles(mut at: Vec<usize>, seeds: u64) -> (usize, String, String) {
    let n = at.len();
    at.sort_unstable();
    let of = |i: u64| at.get(i as usize).map_or("-".to_owned(), ToString::to_string);
    (n, of(seeds / 2), of(seeds * 9 / 10))
}
