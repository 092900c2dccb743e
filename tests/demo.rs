//! `davy demo` from the outside: what a new user runs first.

use std::process::Command;

use serde_json::Value;

fn play(scenario: &str, seed: u32) -> Value {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("out.json");
    let output = Command::new(env!("CARGO_BIN_EXE_davy"))
        .args(["demo", "--headless", "--scenario", scenario, "--seed", &seed.to_string(), "--json"])
        .arg(&out)
        .output()
        .expect("davy starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{scenario}, seed {seed}:\n{said}");
    let text = std::fs::read_to_string(&out).expect("--json writes the summary");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// One after the other: two stories at once would be noise to each other.
#[test]
fn a_regression_is_rolled_back_and_a_healthy_canary_is_not() {
    let errors = play("errors", 11);
    assert_eq!(errors["ok"], true, "{errors:#}");
    let healthy = play("healthy", 12);
    assert_eq!(healthy["ok"], true, "{healthy:#}");
}
