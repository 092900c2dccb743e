//! Releases whose samples a real server holds: Davy scrapes nothing, asks a Prometheus and a VictoriaMetrics, and finds
//! the regression in each.

mod common;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path as UrlPath;
use axum::routing::get;
use common::{Davy, Process, free_port, peer, wait_for, wait_for_port, write};
use davy_model::{Clock as _, Timestamp};

/// Requests a second of each instance.
const RATE: f64 = 200.0;

/// What an instance of a version counted since it started: version 2 fails one request in five.
fn exposition(version: &str, since: Timestamp) -> String {
    let seconds = davy::clock::SystemClock.now().since(since).as_secs_f64();
    let requests = (seconds * RATE).floor();
    let errors = if version == "2" { (requests * 0.2).floor() } else { (requests * 0.01).floor() };
    let mut out = "# TYPE http_requests_total counter\n".to_owned();
    writeln!(out, "http_requests_total{{code=\"200\"}} {}", requests - errors).expect("a String takes it");
    writeln!(out, "http_requests_total{{code=\"500\"}} {errors}").expect("a String takes it");
    out
}

#[test]
fn a_regression_is_found_in_what_other_servers_hold() {
    let (Some(prometheus), Some(victoria)) = (peer("prometheus"), peer("victoria-metrics")) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = Arc::new(runtime.expect("a runtime can be built"));
    let since = davy::clock::SystemClock.now();
    let app = Router::new().route(
        "/{version}/metrics",
        get(move |UrlPath(version): UrlPath<String>| async move { exposition(&version, since) }),
    );
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.expect("loopback has a free port");
    let app_port = listener.local_addr().expect("a bound socket has an address").port();
    runtime.spawn(async move { axum::serve(listener, app).await });

    let mut jobs = "global: {scrape_interval: 1s}\nscrape_configs:\n".to_owned();
    for service in ["checkout", "cart"] {
        for version in ["1", "2"] {
            for instance in ["a", "b", "c"] {
                write!(
                    jobs,
                    "- job_name: {service}-{version}-{instance}\n  metrics_path: /{version}/metrics\n  \
                     static_configs:\n  - targets: [\"127.0.0.1:{app_port}\"]\n    labels: {{service: {service}, \
                     version: \"{version}\", instance: {version}-{instance}}}\n"
                )
                .expect("a String takes it");
            }
        }
    }
    let config = dir.path().join("scrape.yml");
    write(&config, &jobs);
    let (prometheus_port, victoria_port) = (free_port(), free_port());
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{prometheus_port}"));
    let _prometheus = Process::start("prometheus", dir.path(), &mut command);
    let mut command = Command::new(victoria);
    command
        .arg(format!("-promscrape.config={}", config.display()))
        .arg(format!("-storageDataPath={}", dir.path().join("victoria").display()))
        .arg(format!("-httpListenAddr=127.0.0.1:{victoria_port}"))
        .arg("-search.latencyOffset=1s");
    let _victoria = Process::start("victoria", dir.path(), &mut command);
    wait_for_port(prometheus_port);
    wait_for_port(victoria_port);

    let release = |service: &str, source: &str| {
        format!(
            "- service: {service}\n  source: {source}\n  baseline: {{version: \"1\"}}\n  canary: {{version: \"2\"}}\n  \
             policy: {{interval: 1s, warm_up: 2s}}\n"
        )
    };
    let davy = Davy::start(
        dir.path(),
        &format!(
            "{{otlp}}\nglobal: {{evaluation_interval: 1s}}\nsources:\n\
             - {{name: fleet, url: \"http://127.0.0.1:{prometheus_port}\", delay: 1s}}\nreleases:\n{}{}",
            release("checkout", "fleet"),
            release("cart", &format!("{{url: \"http://127.0.0.1:{victoria_port}\", delay: 1s}}")),
        ),
    );
    for service in ["checkout", "cart"] {
        let found = wait_for(&format!("{service} to fail"), 60, || {
            let all = davy.releases();
            let failed = all.into_iter().find(|r| r["service"] == service && r["verdict"] == "fail");
            failed.or_else(|| {
                assert!(!davy.process.log().contains("panicked"), "{}", davy.process.log());
                None
            })
        });
        assert_eq!((&found["baseline"], &found["canary"]), (&"1".into(), &"2".into()), "{found}");
        let reason = found["reason"].as_str().expect("a sentence");
        assert!(reason.contains("errors") || reason.contains("fail"), "{reason}");
    }
    let metrics = davy.query("up{service=\"checkout\"}");
    assert_eq!(metrics.len(), 6, "what the source holds can be queried here as well");
}
