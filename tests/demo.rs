//! `davy demo` from the outside: what a new user runs first.

use std::process::Command;

use serde_json::Value;

fn play(scenario: &str, splitter: &str, seed: u32) -> Value {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("out.json");
    let output = Command::new(env!("CARGO_BIN_EXE_davy"))
        .args(["demo", "--headless", "--scenario", scenario, "--splitter", splitter])
        .args(["--seed", &seed.to_string(), "--json"])
        .arg(&out)
        .output()
        .expect("davy starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{scenario}, {splitter}, seed {seed}:\n{said}");
    let text = std::fs::read_to_string(&out).expect("--json writes the summary");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Shares that were in force, with the verdict that ended each.
fn steps(story: &Value) -> Vec<(u64, &str)> {
    let steps = story["ramp"]["steps"].as_array().expect("a ramp has steps");
    let share = |step: &Value| step["share"].as_u64().expect("a share is a number");
    steps.iter().map(|step| (share(step), step["verdict"].as_str().unwrap_or("none"))).collect()
}

/// One after the other: two stories at once would be noise to each other. HAProxy where it is installed.
#[test]
fn a_regression_is_rolled_back_and_a_healthy_canary_is_not() {
    for (splitter, seed) in [("auto", 11), ("builtin", 12)] {
        let errors = play("errors", splitter, seed);
        assert_eq!(errors["ok"], true, "{errors:#}");
        assert_eq!(steps(&errors), [(25, "pass"), (50, "fail")], "{errors:#}");
        assert_eq!(errors["rollback"]["applied"], 1, "{errors:#}");
        assert_eq!(errors["traffic"]["weights"]["v2"], 0, "{errors:#}");
    }
    let healthy = play("healthy", "auto", 13);
    assert_eq!(healthy["ok"], true, "{healthy:#}");
    assert_eq!(healthy["rollback"]["calls"], 0, "{healthy:#}");
    assert_eq!(steps(&healthy)[0], (25, "pass"), "{healthy:#}");
}
