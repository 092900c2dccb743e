//! `davy run` with rules: an alert of a real target reaches a webhook and is resolved, what is recorded can be asked
//! for, reloads keep what did not change, and what was pending before a restart is known after it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::common::{Davy, Http, Inbox, Received, wait_for, write};

/// A target that shows `queue_lag` as it is set.
fn target() -> (u16, Arc<AtomicU64>) {
    let lag = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let shown = lag.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let body = format!(
                "# TYPE queue_lag gauge\nqueue_lag{{queue=\"q\"}} {}\n",
                shown.load(Ordering::Relaxed)
            );
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    (port, lag)
}

const RULES: &str = r#"
groups:
- name: queues
  interval: 1s
  rules:
  - record: job:queue_lag:sum
    expr: sum by (job) (queue_lag)
    labels: {team: shop}
  - alert: QueueLags
    expr: {expr}
    for: {hold}
    labels: {severity: page}
    annotations:
      summary: 'lag of {{ $labels.job }} is {{ $value | humanize }} over, of {{ with query "queue_lag" }}{{ . | first | value }}{{ end }}'
"#;

fn rules(expr: &str, hold: &str) -> String {
    RULES.replace("{expr}", expr).replace("{hold}", hold)
}

fn config(target: u16, inbox: u16) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}\n{{otlp}}\n\
         scrape_configs:\n- job_name: shop\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n\
         rule_files: ['*.rules.yml']\nroute: {{receiver: team}}\n\
         receivers: [{{name: team, webhook_configs: [{{url: 'http://127.0.0.1:{inbox}/alerts'}}]}}]\n"
    )
}

fn start(dir: &Path, rules: &str) -> (Davy, Inbox, Arc<AtomicU64>) {
    let http = Http::new();
    let inbox = Inbox::start(&http, Arc::new(|_: &Received| {}));
    let (port, lag) = target();
    write(&dir.join("a.rules.yml"), rules);
    (Davy::start(dir, &config(port, inbox.port)), inbox, lag)
}

fn message(inbox: &Inbox, status: &str) -> Option<Value> {
    let of = |r: Received| {
        let alert = r.body["alerts"][0].clone();
        (alert["status"] == status && alert["labels"]["alertname"] == "QueueLags").then_some(alert)
    };
    inbox.received("/alerts").into_iter().find_map(of)
}

fn rule(davy: &Davy, index: usize) -> Value {
    davy.json("/api/v1/rules")["data"]["groups"][0]["rules"][index].clone()
}

fn metric(davy: &Davy, name: &str) -> Option<f64> {
    let text = Http::new().get(&davy.url("/metrics"))?.1;
    let line = text.lines().find(|l| l.starts_with(name) && l.contains("a.rules.yml;queues"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn an_alert_of_a_rule_fires_and_resolves() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (davy, inbox, lag) = start(dir.path(), &rules("job:queue_lag:sum > 5", "2s"));
    let recorded = wait_for("the recording rule", 30, || davy.query("job:queue_lag:sum").into_iter().next());
    assert_eq!(recorded.0["team"], "shop");
    assert_eq!(rule(&davy, 1)["state"], "inactive");
    lag.store(1500, Ordering::Relaxed);
    let pending = || {
        let alerts = davy.json("/api/v1/alerts")["data"]["alerts"].clone();
        alerts.as_array().expect("a list").iter().find(|a| a["state"] == "pending").cloned()
    };
    let alert = wait_for("the alert to be pending", 30, pending);
    assert_eq!(alert["value"], "1.5e+03");
    let fired = wait_for("the message that it fires", 30, || message(&inbox, "firing"));
    assert_eq!(fired["labels"]["severity"], "page");
    assert_eq!(fired["labels"]["job"], "shop");
    assert_eq!(fired["annotations"]["summary"], "lag of shop is 1.5k over, of 1500");
    assert_eq!(rule(&davy, 1)["state"], "firing");
    wait_for("the series of the alert", 10, || {
        davy.query("ALERTS").into_iter().find(|(l, v)| l["alertstate"] == "firing" && *v == 1.0)
    });
    lag.store(0, Ordering::Relaxed);
    let over = wait_for("the message that it is over", 30, || message(&inbox, "resolved"));
    assert_eq!(over["startsAt"], fired["startsAt"]);
    let group = &davy.json("/api/v1/rules")["data"]["groups"][0];
    assert_eq!((&group["name"], &group["interval"]), (&Value::from("queues"), &Value::from(1.0)));
    assert_eq!(rule(&davy, 0)["health"], "ok");
    assert!(metric(&davy, "davy_rule_evaluations_total").expect("it is counted") >= 10.0);
    assert_eq!(metric(&davy, "davy_rule_evaluation_failures_total"), Some(0.0));
    assert!(metric(&davy, "davy_rule_group_last_evaluation_timestamp_seconds").expect("it is shown") > 1e9);
}

#[test]
fn a_reload_keeps_alerts_and_a_bad_file_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (davy, inbox, lag) = start(dir.path(), &rules("job:queue_lag:sum > 5", "1s"));
    lag.store(10, Ordering::Relaxed);
    let fired = wait_for("the message that it fires", 30, || message(&inbox, "firing"));
    let file = dir.path().join("a.rules.yml");
    write(&file, "groups: [{name: queues, rules: [{alert: A, expr: 'sum('}]}]");
    let (status, text) = davy.post("/-/reload", "");
    assert!(status == 400 && text.contains("a.rules.yml:1:"), "{status} {text}");
    // Another annotation: the alert goes on, in the new words.
    write(&file, &rules("job:queue_lag:sum > 5", "1s").replace("lag of", "backlog of"));
    assert_eq!(davy.post("/-/reload", "").0, 200);
    let active_since = || {
        let alert = rule(&davy, 1)["alerts"][0].clone();
        let new = alert["annotations"]["summary"].as_str().is_some_and(|s| s.starts_with("backlog of"));
        new.then(|| alert["activeAt"].clone())
    };
    let since = wait_for("the new annotation", 30, active_since);
    assert!(since.as_str() < fired["startsAt"].as_str(), "{since} is before {}", fired["startsAt"]);
    assert_eq!(rule(&davy, 1)["state"], "firing");
    // The rule goes, and its alert with it.
    write(&file, "groups: [{name: queues, interval: 1s, rules: [{record: other, expr: 1}]}]");
    assert_eq!(davy.post("/-/reload", "").0, 200);
    wait_for("the message that it is over", 30, || message(&inbox, "resolved"));
    wait_for("what it recorded to end", 30, || davy.query("job:queue_lag:sum").is_empty().then_some(()));
}

#[test]
fn a_rule_that_cannot_be_evaluated_is_shown_and_counted() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let twice = "groups:\n- name: queues\n  interval: 1s\n  rules:\n\
                 \x20 - {record: same, expr: up or queue_lag, labels: {queue: '', instance: '', job: ''}}\n";
    let (davy, _inbox, _lag) = start(dir.path(), twice);
    wait_for("the failure", 30, || metric(&davy, "davy_rule_evaluation_failures_total").filter(|n| *n > 0.0));
    // What the API shows is published a moment after it is counted.
    let rule = wait_for("the rule to be shown as failing", 30, || {
        Some(rule(&davy, 0)).filter(|rule| rule["health"] == "err")
    });
    let error = rule["lastError"].as_str().expect("it says why");
    assert_eq!(error, "vector contains metrics with the same labelset after applying rule labels");
}

#[test]
fn a_firing_alert_survives_a_restart_and_is_told_once() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut davy, inbox, lag) = start(dir.path(), &rules("job:queue_lag:sum > 5", "1s"));
    lag.store(10, Ordering::Relaxed);
    wait_for("the message that it fires", 30, || message(&inbox, "firing"));
    davy.restart();
    wait_for("the alert to fire again", 30, || (rule(&davy, 1)["state"] == "firing").then_some(()));
    lag.store(0, Ordering::Relaxed);
    wait_for("the message that it is over", 30, || message(&inbox, "resolved"));
    // Delivery is at least once: the same message may come again after a kill, under the same id.
    let id = |r: Received| r.headers["webhook-id"].clone();
    let told: std::collections::HashSet<_> = inbox.received("/alerts").into_iter().map(id).collect();
    assert_eq!(told.len(), 2, "one message that it fires, one that it is over");
}
