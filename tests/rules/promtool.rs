//! Prometheus' own unit tests of promtool (`cmd/promtool/unittest_test.go`): each file ends as it does there.

use std::collections::BTreeMap;
use std::process::Command;

use expect_test::{Expect, expect, expect_file};
use regex::Regex;

use super::{folder, report};
use crate::common::peer;

/// Where they differ, and why it is well: words of the query parser (15) and of the regex library (77); what an
/// older promtool does otherwise than Prometheus 3.5 (13, 18) or cannot do in tests (19); the order of a query's
/// answer, which is by labels here and by chance there (32, 37, 41, 46); addresses in memory (61).
const KNOWN: [&str; 10] = ["T13", "T15", "T18", "T19", "T32", "T37", "T41", "T46", "T61", "T77"];

fn ends(file: &str, good: bool) {
    let path = folder("promtool").join(file);
    let (text, got) = report(&path, &[]);
    assert_eq!(got, good, "{file}:\n{text}");
    expect_file![path.with_extension("txt")].assert_eq(&text);
}

fn runs(file: &str, only: &str, want: &Expect) {
    let path = folder("promtool").join(file);
    want.assert_eq(&report(&path, &[Regex::new(only).expect("a pattern")]).0);
}

#[test]
fn good_tests_pass() {
    ends("unittest.yml", true);
    ends("long-period.yml", true);
    ends("no-test-group-interval.yml", true);
    ends("at-modifier-test.yml", true);
    ends("negative-offset-test.yml", true);
}

#[test]
fn bad_tests_fail_and_say_why() {
    ends("bad-input-series.yml", false);
    ends("bad-promql.yml", false);
    ends("bad-rules-syntax-test.yml", false);
    ends("bad-rules-error-test.yml", false);
    ends("failing.yml", false);
    ends("rules_run.yml", false);
    ends("rules_run_fuzzy.yml", false);
    ends("rules_run_no_fuzzy.yml", false);
}

#[test]
fn some_tests_can_be_left_out() {
    runs(
        "rules_run.yml",
        "correct",
        &expect![[r#"
        Unit testing rules_run.yml
          SUCCESS
    "#]],
    );
    runs(
        "rules_run_fuzzy.yml",
        "correct",
        &expect![[r#"
        Unit testing rules_run_fuzzy.yml
          SUCCESS
    "#]],
    );
}

#[test]
fn rule_files_are_told_from_tests() {
    ends("rules.yml", true);
    ends("rules_duplicates.yml", true);
    ends("rules_extrafields.yml", false);
}

/// Annotations that were got, by the alert's name, out of a report on tests that expect something else.
fn annotations(report: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut name = String::new();
    let mut is_got = false;
    for line in report.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("alertname: ") {
            (name, is_got) = (rest.split(',').next().unwrap_or("").to_owned(), false);
        }
        is_got |= line.starts_with("got:");
        if let Some(text) = line.strip_prefix("Annotations:").filter(|_| is_got) {
            found.entry(name.clone()).or_insert_with(|| text.to_owned());
        }
    }
    found
}

/// The real promtool is asked what it makes of each template, mistakes included.
#[test]
fn promtool_expands_templates_the_same() {
    let Some(promtool) = peer("promtool") else { return };
    let tests = folder("templates").join("test.yml");
    let run = Command::new(promtool).args(["test", "rules"]).arg(&tests).output().expect("promtool starts");
    let theirs = annotations(&String::from_utf8_lossy(&run.stderr));
    let ours = annotations(&report(&tests, &[]).0);
    assert!(theirs.len() > 75, "{}", String::from_utf8_lossy(&run.stderr));
    let different: Vec<String> = theirs
        .iter()
        .filter(|(name, text)| !KNOWN.contains(&name.as_str()) && ours.get(*name) != Some(text))
        .map(|(name, text)| format!("{name}\n  promtool {text}\n  davy     {:?}", ours.get(name)))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}
