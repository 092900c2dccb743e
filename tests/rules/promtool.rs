//! Prometheus' own unit tests of promtool (`cmd/promtool/unittest_test.go`): each file ends as it does there.

use expect_test::{Expect, expect, expect_file};
use regex::Regex;

use super::{folder, report};

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
