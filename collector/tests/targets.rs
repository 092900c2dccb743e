//! Which targets are scraped: reloads, files, discovery servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use davy_collector::config::{Discovery, RelabelAction, RelabelConfig};
use davy_collector::scrape::{Health, TargetStatus};
use davy_egress::HttpConfig;
use tokio::io::AsyncWriteExt;

mod common;
use common::{Davy, fast, is_stale, mortal, ok, server};

fn is_up(t: &TargetStatus) -> bool {
    t.health == Health::Up
}

#[tokio::test]
async fn a_reload_keeps_what_did_not_change() {
    let (a, b) = (mortal(Arc::default()).await, mortal(Arc::default()).await);
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&a])]).await;
    davy.until("scraped twice", |t| t.scrapes >= 2).await;

    davy.apply(vec![fast("j", &[&a, &b])]).await;
    let kept = davy.until("kept", |t| t.url.contains(&a)).await;
    assert!(kept.scrapes >= 2, "the loop went on: {kept:?}");
    davy.until("added", |t| t.url.contains(&b) && is_up(t)).await;

    let mut changed = fast("j", &[&a, &b]);
    changed.metric_relabel = vec![RelabelConfig {
        source_labels: vec!["__name__".into()],
        separator: ";".into(),
        target_label: String::new(),
        regex: regex::Regex::new("^(?:r_total)$").unwrap(),
        modulus: 0,
        replacement: String::new(),
        action: RelabelAction::Drop,
    }];
    davy.apply(vec![changed]).await;
    for address in [&a, &b] {
        davy.until("up again", |t| t.url.contains(address) && is_up(t)).await;
    }
    davy.manager.shutdown().await;
    for (labels, samples) in davy.series("r_total") {
        assert!(is_stale(&samples), "dropped by the new configuration: {labels}");
    }
    for (labels, samples) in davy.series("healthy") {
        assert!(samples.iter().all(|s| !s.value.is_stale()), "went on without a gap: {labels} {samples:?}");
    }
}

#[tokio::test]
async fn a_reload_that_cannot_be_built_changes_nothing() {
    let address = mortal(Arc::default()).await;
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&address])]).await;
    let mut bad = fast("bad", &[&address]);
    bad.http.tls.ca_file = Some("/nowhere/ca.pem".into());
    let error = davy.manager.apply(vec![bad]).await.unwrap_err();
    assert!(error.to_string().starts_with("job \"bad\": cannot read /nowhere/ca.pem"), "{error}");
    assert_eq!(davy.manager.targets()[0].job, "j");
    davy.manager.shutdown().await;
}

#[tokio::test]
async fn targets_come_from_files_and_servers() {
    let (a, b) = (mortal(Arc::default()).await, mortal(Arc::default()).await);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.yml"), format!("- targets: ['{a}']\n  labels: {{from: file}}\n"))
        .unwrap();
    let list = Arc::new(Mutex::new(Some(format!(r#"[{{"targets":["{b}"],"labels":{{"from":"server"}}}}]"#))));
    let said = list.clone();
    let sd = server(move |head, mut stream| {
        assert!(head.contains("x-prometheus-refresh-interval-seconds: 0.1\r\n"), "{head}");
        let answer = match &*said.lock().unwrap() {
            Some(list) => ok("Content-Type: application/json; charset=utf-8\r\n", list.as_bytes()),
            None => ok("Content-Type: text/html\r\n", b"[]"),
        };
        async move {
            let _ = stream.write_all(&answer).await;
        }
    })
    .await;
    let mut config = fast("j", &[]);
    config.discovery = vec![
        Discovery::File {
            files: vec![dir.path().join("*.yml")],
            refresh_interval: Duration::from_millis(100),
        },
        Discovery::Http {
            url: format!("http://{sd}/targets"),
            refresh_interval: Duration::from_millis(100),
            http: HttpConfig::default(),
        },
    ];
    let davy = Davy::new();
    davy.apply(vec![config]).await;
    let from = |label: &'static str| move |t: &TargetStatus| t.labels.get("from") == Some(label) && is_up(t);
    assert!(davy.until("up", from("file")).await.discovered.get("__meta_filepath").is_some());
    assert!(davy.until("up", from("server")).await.discovered.get("__meta_url").is_some());

    *list.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(davy.manager.targets().len(), 2, "an answer that cannot be used keeps the last list");
    *list.lock().unwrap() = Some("[]".to_owned());
    for _ in 0..500 {
        if davy.manager.targets().len() == 1 {
            return davy.manager.shutdown().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the target that is not named any more is still there");
}
