//! Rule files: Prometheus' own good and bad ones, what `rule_files` finds, and where errors point.

use std::path::Path;

use davy::config::Config;
use davy_alerting::rule::GroupSpec;
use expect_test::{Expect, expect, expect_file};

use super::{folder, report};

#[test]
fn files_end_as_in_prometheus() {
    let mut paths: Vec<_> = std::fs::read_dir(folder("rulefmt"))
        .expect("the folder is part of the repository")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 14);
    for path in paths {
        let (text, good) = report(&path, &[]);
        assert_eq!(good, !path.to_string_lossy().contains(".bad."), "{text}");
        expect_file![path.with_extension("txt")].assert_eq(&text);
    }
}

/// What is said of `davy.yaml` with these files beside it.
fn load(config: &str, files: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("it is ours");
        std::fs::write(path, text).expect("it is ours");
    }
    let parsed = Config::parse(config, Path::new("davy.yaml"), dir.path());
    let at_home = |t: &str| t.replace(&format!("{}/", dir.path().display()), "");
    parsed
        .map(|mut config| {
            config.warnings = config.warnings.iter().map(|w| at_home(w)).collect();
            for group in &mut config.rule_groups {
                group.file = at_home(&group.file);
            }
            config
        })
        .map_err(|e| at_home(&e.to_string()))
}

fn refuses(files: &[(&str, &str)], want: &Expect) {
    want.assert_eq(&load("rule_files: ['*.yml']", files).expect_err("it is refused"));
}

#[test]
fn patterns_find_files_beside_the_configuration() {
    let group = |name: &str| format!("groups: [{{name: {name}, rules: [{{record: x, expr: 1}}]}}]");
    let files =
        [("b.yml", group("b")), ("a.yml", group("a")), ("sub/c.rules", group("c")), ("d.txt", group("d"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let config = load("rule_files: ['?.yml', 'sub/*', a.yml, 'none/*.yml']", &files).expect("it is good");
    let keys: Vec<String> = config.rule_groups.iter().map(GroupSpec::key).collect();
    assert_eq!(keys, ["a.yml;a", "b.yml;b", "sub/c.rules;c"]);
    assert_eq!(config.warnings, ["davy.yaml:1:39: rule_files[3]: no file fits this pattern"]);
    assert_eq!(config.rule_groups[0].interval, config.evaluation_interval);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = load("rule_files: [rules.yml]", &[]).expect_err("there is none");
    expect!["rules.yml: cannot be read: No such file or directory (os error 2)"].assert_eq(&error);
}

#[test]
fn defaults_come_from_global_and_group() {
    let config = "global: {evaluation_interval: 30s, rule_query_offset: 5s}\nrule_files: [a.yml]";
    let rules = "groups:\n\
        - name: one\n  limit: 5\n  labels: {team: a, severity: x}\n  rules:\n\
        \x20 - {alert: A, expr: up, for: 5m, keep_firing_for: 1m, labels: {severity: page, none: }}\n\
        - {name: two, interval: 1m, query_offset: 0s}\n";
    let groups = load(config, &[("a.yml", rules)]).expect("it is good").rule_groups;
    let shown: Vec<_> =
        groups.iter().map(|g| (g.interval.as_secs(), g.query_offset.as_secs(), g.limit)).collect();
    assert_eq!(shown, [(30, 5, 5), (60, 0, 0)]);
    let labels: Vec<_> = groups[0].rules[0].labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(labels, ["none=", "severity=page", "team=a"]);
}

#[test]
fn every_mistake_is_told_with_its_place() {
    refuses(
        &[(
            "a.yml",
            "groups:\n- name: g\n  rules:\n  - record: x\n    exprr: up\n  - alert: A\n    expr: up\n    fro: 5m\n",
        )],
        &expect![[r#"
            a.yml:4:5: groups[0].rules[0]: `expr` is missing: the PromQL expression to evaluate
              4 |   - record: x
                |     ^
            a.yml:5:5: groups[0].rules[0]: unknown key `exprr`; did you mean `expr`?
              5 |     exprr: up
                |     ^^^^^
            a.yml:8:5: groups[0].rules[1]: unknown key `fro`; did you mean `for`?
              8 |     fro: 5m
                |     ^^^"#]],
    );
    refuses(
        &[(
            "a.yml",
            "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, for: soon, annotations: {summary: '{{ $value | humanise }}'}}\n  - {record: x, expr: 'sum(up', annotations: {a: b}}\n  - {record: '', expr: 1}\n  - {alert: A, expr: ''}\n",
        )],
        &expect![[r#"
            a.yml:4:31: groups[0].rules[0].for: got "soon": expected a duration such as 15s, 1h30m or 500ms (units y w d h m s ms, largest first)
              4 |   - {alert: A, expr: up, for: soon, annotations: {summary: '{{ $value | humanise }}'}}
                |                               ^^^^
            a.yml:4:60: groups[0].rules[0].annotations.summary: not a Go template: __alert_A:1: function "humanise" not defined
              4 |   - {alert: A, expr: up, for: soon, annotations: {summary: '{{ $value | humanise }}'}}
                |                                                            ^^^^^^^^^^^^^^^^^^^^^^^^^
            a.yml:5:27: groups[0].rules[1].expr: not a PromQL expression: "(" is never closed
              5 |   - {record: x, expr: 'sum(up', annotations: {a: b}}
                |                           ^
            a.yml:5:46: groups[0].rules[1].annotations: a recording rule has no `annotations`; it belongs to alerts
              5 |   - {record: x, expr: 'sum(up', annotations: {a: b}}
                |                                              ^
            a.yml:6:14: groups[0].rules[2].record: got "": expected a name for the series, such as job:requests:rate5m
              6 |   - {record: '', expr: 1}
                |              ^^
            a.yml:7:22: groups[0].rules[3].expr: got nothing, expected a PromQL expression
              7 |   - {alert: A, expr: ''}
                |                      ^^"#]],
    );
}

#[test]
fn an_expression_of_several_lines_shows_the_line_that_is_wrong() {
    refuses(
        &[(
            "a.yml",
            "groups:\n- name: g\n  rules:\n  - record: x\n    expr: |\n      sum(rate(a[5m]))\n        / sum(rate(b[5m])\n  - record: y\n    expr: sum(nosuch(a))\n",
        )],
        &expect![[r#"
            a.yml:7:14: groups[0].rules[0].expr: not a PromQL expression: "(" is never closed (line 2, column 8 of the expression)
              7 |         / sum(rate(b[5m])
                |              ^
            a.yml:9:15: groups[0].rules[1].expr: not a PromQL expression: unknown function with name 'nosuch'
              9 |     expr: sum(nosuch(a))
                |               ^"#]],
    );
}

#[test]
fn errors_of_both_files_are_told() {
    let error =
        load("rule_files: [a.yml]\nroutes: 1\n", &[("a.yml", "groups: [{name: g}, {name: g}]\nx: 1\n")])
            .expect_err("it is refused");
    expect![[r#"
        davy.yaml:2:1: unknown key `routes`; did you mean `route`?
          2 | routes: 1
            | ^^^^^^
        a.yml:1:21: groups[1]: group "g" is given twice; each group of a file needs its own name
          1 | groups: [{name: g}, {name: g}]
            |                     ^
        a.yml:2:1: unknown key `x`
          2 | x: <hidden>
            | ^"#]]
    .assert_eq(&error);
}

/// The examples of docs/rules.md: the rules, and the tests that they pass.
#[test]
fn the_examples_of_the_documentation_hold() {
    let text = include_str!("../../docs/rules.md");
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    let [_, rules, tests] = blocks[..] else { panic!("{} examples", blocks.len()) };
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (folder, text) in [("rules", rules), ("tests", tests)] {
        std::fs::create_dir(dir.path().join(folder)).expect("it is ours");
        std::fs::write(dir.path().join(folder).join("shop.yml"), text).expect("it is ours");
    }
    for folder in ["rules", "tests"] {
        let (text, good) = report(&dir.path().join(folder).join("shop.yml"), &[]);
        assert!(good, "{text}");
    }
}
