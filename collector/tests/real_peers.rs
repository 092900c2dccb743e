//! Davy against software that nobody here wrote: Debian's Prometheus and node exporter, started on loopback.
//!
//! A program that is not installed is reported and left out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use davy_collector::config::ScrapeConfig;
use davy_collector::scrape::Health;
use std::time::Duration;

mod common;
use common::{Davy, float, scrape_config, static_targets};

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `None` if the program is not installed.
fn start(program: &str, arguments: &[String]) -> Option<Program> {
    let child = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match child {
        Ok(child) => Some(Program(child)),
        Err(error) => {
            println!("left out: {program}: {error}");
            None
        }
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn every_second(job: &str, address: &str) -> ScrapeConfig {
    ScrapeConfig {
        scrape_interval: Duration::from_secs(1),
        scrape_timeout: Duration::from_secs(1),
        discovery: vec![static_targets(&[address])],
        ..scrape_config(job)
    }
}

#[tokio::test]
async fn a_real_node_exporter_is_scraped() {
    let address = free_address();
    let Some(_running) = start("prometheus-node-exporter", &[format!("--web.listen-address={address}")])
    else {
        return;
    };
    let davy = Davy::new();
    davy.apply(vec![every_second("node", &address)]).await;
    let t = davy.until("scraped thrice", |t| t.health == Health::Up && t.scrapes - t.failures >= 3).await;
    davy.manager.shutdown().await;
    assert!(t.samples > 200, "{t:?}");
    assert_eq!((t.duplicates, t.refused), (0, 0), "{t:?}");
    let cpu = davy.series("node_cpu_seconds_total");
    // The exporter has just started, the machine has not: no zero, which would say that it has.
    assert!(cpu.iter().any(|(l, s)| l.get("mode") == Some("idle") && float(&s[0]) > 0.0), "{cpu:?}");
    assert_eq!(
        davy.store.snapshot().metadata("node_cpu_seconds_total").unwrap().metric_type.as_str(),
        "counter"
    );
}

#[tokio::test]
async fn a_real_prometheus_that_has_just_started_counts_from_its_start() {
    let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
    let config = dir.path().join("prometheus.yml");
    let own = format!(
        "scrape_configs: [{{job_name: self, scrape_interval: 1s, static_configs: [{{targets: ['{address}']}}]}}]\n"
    );
    std::fs::write(&config, own).unwrap();
    let arguments = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()),
        format!("--web.listen-address={address}"),
    ];
    let Some(_running) = start("prometheus", &arguments) else { return };
    let davy = Davy::new();
    davy.apply(vec![every_second("prometheus", &address)]).await;
    davy.until("scraped thrice", |t| t.health == Health::Up && t.scrapes - t.failures >= 3).await;
    davy.manager.shutdown().await;
    let requests = davy.series("prometheus_http_requests_total");
    let (_, metrics) = requests
        .iter()
        .find(|(l, s)| l.get("handler") == Some("/metrics") && s.len() > 1)
        .expect("Davy asked for /metrics more than once");
    // Scraped by itself and by Davy: whatever was counted, it began at zero.
    assert_eq!(float(&metrics[0]), 0.0, "{metrics:?}");
}
