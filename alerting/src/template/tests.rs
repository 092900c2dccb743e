//! What a template sees, calls and says.

use std::collections::BTreeMap;

use davy_model::Labels;
use expect_test::{Expect, expect};

use super::*;
use crate::alert::{Alert, AlertState};
use crate::record::Message;

fn message() -> Message {
    let alert = |instance: &str, summary: &str| {
        let labels = Labels::from_pairs([
            ("alertname", "Slow"),
            ("instance", instance),
            ("service", "checkout"),
            ("severity", "critical"),
        ]);
        let annotations = BTreeMap::from([
            ("summary".to_owned(), summary.to_owned()),
            ("runbook".to_owned(), "http://r".to_owned()),
        ]);
        Alert::new(labels, annotations, Timestamp::from_millis(1_767_323_045_000))
    };
    Message {
        alerts: vec![
            (alert("a", "<!channel> & <b>"), AlertState::Firing),
            (alert("b", "fine again"), AlertState::Resolved),
        ],
        group_key: "{}:{}".into(),
        group_labels: Labels::from_pairs([("alertname", "Slow")]),
        kind: "slack".into(),
        integration: 0,
    }
}

fn expand(source: &str, markup: Markup) -> String {
    let text = Templates::default().text(source).unwrap_or_else(|e| panic!("{source}: {e}"));
    let data = data(&message(), "ops", "http://davy:9600/");
    let now = Timestamp::from_millis(1_767_323_105_000);
    text.expand(&data, markup, now).unwrap_or_else(|e| panic!("{source}: {e}"))
}

fn check(source: &str, want: &Expect) {
    want.assert_eq(&expand(source, Markup::Plain));
}

#[test]
fn what_files_of_alertmanager_write_is_understood() {
    check(r#"{{ template "slack.default.title" . }}"#, &expect!["[FIRING:1] Slow (checkout critical)"]);
    check(
        r#"[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .CommonLabels.alertname }}"#,
        &expect!["[FIRING:1] Slow"],
    );
    check(
        r#"{{ range .Alerts }}{{ .Labels.instance }}={{ .Annotations.summary }};{{ end }}"#,
        &expect!["a=<!channel> & <b>;b=fine again;"],
    );
    check(
        r#"{{ .CommonAnnotations.runbook }} {{ .CommonAnnotations.nothing }}{{ .CommonLabels.instance }}|"#,
        &expect!["http://r |"],
    );
    check(r#"{{ .GroupLabels.SortedPairs.Values | join " " }}"#, &expect!["Slow"]);
    check(
        r#"{{ range .CommonLabels.SortedPairs }}{{ .Name }}:{{ .Value }} {{ end }}"#,
        &expect!["alertname:Slow service:checkout severity:critical "],
    );
    check(
        r#"{{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join " " }}{{ end }}"#,
        &expect!["checkout critical"],
    );
    check(r#"{{ .CommonLabels }}"#, &expect!["alertname=Slow, service=checkout, severity=critical"]);
    check(r#"{{ (index .Alerts 0).StartsAt.Format "2006-01-02 15:04" }}"#, &expect!["2026-01-02 03:04"]);
    check(r#"{{ (index .Alerts 0).StartsAt | tz "Asia/Shanghai" | date "15:04" }}"#, &expect!["11:04"]);
    check(r#"{{ (index .Alerts 0).StartsAt | since | humanizeDuration }}"#, &expect!["1m 0s"]);
    check(
        r#"{{ (index .Alerts 0).Fingerprint }} {{ (index .Alerts 0).GeneratorURL }}"#,
        &expect!["e26f2458b2d4b65c http://davy:9600"],
    );
    check(
        r#"{{ "web-01.example.com" | reReplaceAll "\\..*" "" | title }} {{ stringSlice "a" "b" | join "," }}"#,
        &expect!["Web-01 a,b"],
    );
    check(
        r#"{{ if match "^Sl" .CommonLabels.alertname }}yes{{ end }} {{ .Receiver }} {{ .ExternalURL }}"#,
        &expect!["yes ops http://davy:9600"],
    );
    check(r#"{{ dict "a" 1 | toJson }} {{ list 1 2 | len }}"#, &expect![[r#"{"a":1} 2"#]]);
    check(
        r#"{{ template "__text_alert_list" .Alerts.Resolved }}"#,
        &expect![[r#"
            Labels:
             - alertname = Slow
             - instance = b
             - service = checkout
             - severity = critical
            Annotations:
             - runbook = http://r
             - summary = fine again
            Source: http://davy:9600
        "#]],
    );
}

#[test]
fn values_are_escaped_and_what_the_template_says_is_not() {
    let source = r#"<!here> {{ (index .Alerts 0).Annotations.summary }} {{ (index .Alerts 0).Annotations.summary | safeHtml }}"#;
    assert_eq!(expand(source, Markup::Slack), "<!here> &lt;!channel&gt; &amp; &lt;b&gt; <!channel> & <b>");
    let html = expand(r#"<i>{{ .CommonLabels }}</i>{{ template "email.default.html" . }}"#, Markup::Html);
    assert!(
        html.contains("<i>alertname=Slow") && html.contains("&lt;!channel&gt; &amp; &lt;b&gt;"),
        "{html}"
    );
    assert!(!html.contains("<!channel>"), "{html}");
}

#[test]
fn files_may_define_and_replace_and_mistakes_are_told_with_their_line() {
    let mut templates = Templates::default();
    templates.add("own.tmpl", "{{ define \"slack.default.title\" }}mine: {{ .Status }}{{ end }}").unwrap();
    let text = templates.text(r#"{{ template "slack.default.title" . }}"#).unwrap();
    let data = data(&message(), "ops", "");
    assert_eq!(text.expand(&data, Markup::Plain, Timestamp::from_millis(0)).unwrap(), "mine: firing");

    let error = |source: &str| templates.text(source).unwrap_err().to_string();
    expect![[r#"template: :1:22: executing "" at <.>: template "missing" not defined"#]]
        .assert_eq(&error(r#"{{ template "missing" . }}"#));
    expect![[r#"template: :1: function "nonesuch" not defined"#]].assert_eq(&error("{{ nonesuch }}"));
    let broken = templates.add("broken.tmpl", "\n{{ define \"x\" }}").unwrap_err().to_string();
    expect!["template: broken.tmpl:2: unexpected EOF"].assert_eq(&broken);
}

#[test]
fn what_only_a_real_alert_can_break_is_no_mistake_of_the_file() {
    let text = Templates::default().text(r#"{{ (index .Alerts.Firing 5).Labels.x }}"#).unwrap();
    let data = data(&message(), "ops", "");
    assert!(text.expand(&data, Markup::Plain, Timestamp::from_millis(0)).is_err());
}
