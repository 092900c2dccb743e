//! Prometheus' own scripts, on Davy's engine: values, errors, and what is noted. Every instant query is also asked
//! as a range whose middle step it is.

mod check;
mod script;

use std::fmt::Write as _;
use std::path::Path;

use check::{Outcome, run};

/// What Prometheus keeps behind a flag, and strings that are not UTF-8, which no label of Davy's can be.
const EXPERIMENTAL: &str = "experimental in Prometheus and not enabled";
const NOT_UTF8: [&str; 2] = [r#"label_replace(testmetric, "\xff""#, r#"count_values("a\xc5z""#];

#[track_caller]
fn conforms(name: &str, queries: usize, refused: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/promqltest/{name}.test"));
    let text = std::fs::read_to_string(&path).expect("the scripts are there");
    let (mut ran, mut experimental, mut failures) = (0, 0, String::new());
    for case in script::cases(&text) {
        if NOT_UTF8.iter().any(|n| case.expr.starts_with(n)) {
            continue;
        }
        ran += 1;
        match run(&case) {
            Outcome::Right => {}
            Outcome::Wrong(why) if why.contains(EXPERIMENTAL) => experimental += 1,
            Outcome::Wrong(why) => {
                let _ = writeln!(failures, "{name}.test:{}: {}\n    {why}", case.line, case.expr);
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert_eq!(
        (ran, experimental),
        (queries, refused),
        "queries that ran, and that were refused as experimental"
    );
}

#[test]
fn aggregators() {
    conforms("aggregators", 155, 0);
}

#[test]
fn at_modifier() {
    conforms("at_modifier", 45, 0);
}

#[test]
fn collision() {
    conforms("collision", 2, 0);
}

#[test]
fn functions() {
    conforms("functions", 361, 24);
}

#[test]
fn histograms() {
    conforms("histograms", 116, 0);
}

#[test]
fn literals() {
    conforms("literals", 20, 0);
}

#[test]
fn native_histograms() {
    conforms("native_histograms", 320, 3);
}

#[test]
fn operators() {
    conforms("operators", 205, 0);
}

#[test]
fn range_queries() {
    conforms("range_queries", 8, 0);
}

#[test]
fn selectors() {
    conforms("selectors", 31, 0);
}

#[test]
fn staleness() {
    conforms("staleness", 17, 0);
}

#[test]
fn subquery() {
    conforms("subquery", 34, 0);
}

#[test]
fn trig_functions() {
    conforms("trig_functions", 19, 0);
}
