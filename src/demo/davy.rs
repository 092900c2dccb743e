//! Davy itself, as any user starts it: `davy run` with a file, as a process of its own. What the story knows of
//! it comes from its HTTP API.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use davy_api::wire::Release;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::DemoError;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(100);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const RELEASES_PATH: &str = "/api/davy/v1/releases";
const LOG_TAIL_LINES: usize = 20;

/// `davy run` does not watch its stdin, so a shell does: whoever kills the demo closes the pipe, and the shell
/// ends Davy. Ends with Davy's own exit code where Davy ends first.
const LEASH: &str = r#"exec 3<&0
"$@" & davy=$!
{ cat <&3 >/dev/null; kill "$davy"; } 2>/dev/null &
wait "$davy""#;

/// Where things are that the file must name.
pub(super) struct Places<'a> {
    pub(super) targets: &'a Path,
    pub(super) service: &'a str,
    pub(super) rollback: SocketAddr,
    pub(super) inbox: SocketAddr,
    pub(super) smtp: SocketAddr,
    pub(super) signing_secret: &'a str,
}

/// Ports that were free a moment ago.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) web: SocketAddr,
    pub(super) otlp_grpc: SocketAddr,
    pub(super) otlp_http: SocketAddr,
}

impl Ports {
    pub(super) async fn choose() -> Result<Self, DemoError> {
        // All three are held until all are known, or the same could be chosen twice.
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(TcpListener::bind("127.0.0.1:0").await.map_err(DemoError::io("a free port"))?);
        }
        let port = |i: usize| held[i].local_addr().map_err(DemoError::io("a free port"));
        Ok(Self { web: port(0)?, otlp_grpc: port(1)?, otlp_http: port(2)? })
    }
}

/// The file that a user would write.
pub(super) fn config(places: &Places<'_>, ports: &Ports) -> String {
    let Places { targets, service, rollback, inbox, smtp, signing_secret } = places;
    let Ports { otlp_grpc, otlp_http, .. } = ports;
    let targets = targets.display();
    format!(
        r##"# What `davy demo` runs Davy with.
global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}
scrape_configs:
  - job_name: {service}
    file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]
otlp: {{grpc: "{otlp_grpc}", http: "{otlp_http}"}}
releases:
  - service: {service}
    metrics:
      - {{preset: http}}
      - {{preset: process}}
      - {{name: conversion, kind: proportion, events: orders_total, trials: checkouts_total, direction: decrease, margin: {{relative: 0.02}}}}
    policy: {{alpha: 0.01, interval: 1s, warm_up: 5s, watch: 1h, on_fail: rollback}}
    actions: {{rollback: to-stable}}
actions:
  to-stable:
    webhook: {{url: "http://{rollback}/rollback", signing_secret: "{signing_secret}"}}
route: {{receiver: oncall}}
receivers:
  - name: oncall
    webhook_configs: [{{url: "http://{inbox}/alerts", signing_secret: "{signing_secret}"}}]
    slack_configs: [{{api_url: "http://{inbox}/slack", channel: "#releases"}}]
    email_configs: [{{to: oncall@localhost, from: davy@localhost, smarthost: "{smtp}", require_tls: false}}]
"##
    )
}

/// One group of targets, as `file_sd_configs` reads them.
pub(super) fn targets<'a>(
    service: &str,
    versions: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>,
) -> String {
    let groups: Vec<_> = versions
        .into_iter()
        .map(|(version, addresses)| {
            serde_json::json!({"targets": addresses, "labels": {"service": service, "version": version}})
        })
        .collect();
    serde_json::to_string_pretty(&groups).expect("groups are plain data")
}

/// A running `davy run`.
pub(super) struct Davy {
    process: Child,
    client: reqwest::Client,
    base: String,
    log: PathBuf,
}

impl Davy {
    /// Starts it in `folder` with the configuration and waits until it is ready.
    pub(super) async fn start(
        folder: &Path,
        config: &str,
        ports: &Ports,
        client: reqwest::Client,
    ) -> Result<Self, DemoError> {
        let file = folder.join("davy.yaml");
        fs::write(&file, config).map_err(DemoError::io(file.display().to_string()))?;
        let log = folder.join("davy.log");
        let out = File::create(&log).map_err(DemoError::io(log.display().to_string()))?;
        let err = out.try_clone().map_err(DemoError::io(log.display().to_string()))?;
        let program = std::env::current_exe().map_err(DemoError::io("the program's own path"))?;
        let process = Command::new("/bin/sh")
            .args(["-c", LEASH, "davy"])
            .arg(program)
            .arg("run")
            .arg("--config.file")
            .arg(&file)
            .arg("--storage.path")
            .arg(folder.join("data"))
            .arg("--web.listen-address")
            .arg(ports.web.to_string())
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            // Ctrl-C at the terminal is the story's to handle, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::io("start of `davy run`"))?;
        let mut davy = Self { process, client, base: format!("http://{}", ports.web), log };
        davy.wait_until_ready().await?;
        Ok(davy)
    }

    async fn wait_until_ready(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while Instant::now() < deadline {
            self.check_alive()?;
            let request = self.client.get(format!("{}/-/ready", self.base)).timeout(ANSWER_TIMEOUT);
            if request.send().await.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            sleep(READY_POLL).await;
        }
        Err(self.error(format!("was not ready within {} s", READY_TIMEOUT.as_secs())))
    }

    /// An error where the process has ended by itself.
    pub(super) fn check_alive(&mut self) -> Result<(), DemoError> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.error(format!("ended by itself ({status})"))),
            Err(error) => Err(self.error(format!("cannot be looked at: {error}"))),
        }
    }

    /// The newest release of the service; `None` before there is one.
    pub(super) async fn release(&self, service: &str) -> Result<Option<Release>, String> {
        let request = self.client.get(format!("{}{}", self.base, RELEASES_PATH)).timeout(ANSWER_TIMEOUT);
        let response = request.send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        let body = response.bytes().await.map_err(|error| error.to_string())?;
        let releases: Vec<Release> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(releases.into_iter().find(|release| release.service == service))
    }

    /// Ends it as a service manager would and waits for it.
    pub(super) async fn stop(mut self) {
        drop(self.process.stdin.take());
        if timeout(STOP_TIMEOUT, self.process.wait()).await.is_err() {
            // Killing is also what dropping does; waiting leaves no zombie.
            let _ = self.process.kill().await;
        }
    }

    fn error(&self, what: String) -> DemoError {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let mut tail = String::new();
        for line in &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..] {
            let _ = writeln!(tail, "  {line}");
        }
        DemoError::Davy { what, log: tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::SIGNING_SECRET;

    #[tokio::test]
    async fn the_configuration_is_one_that_davy_takes() {
        let ports = Ports::choose().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            targets: &folder.path().join("targets.json"),
            service: "checkout",
            rollback: ports.web,
            inbox: ports.web,
            smtp: ports.web,
            signing_secret: SIGNING_SECRET,
        };
        let file = folder.path().join("davy.yaml");
        fs::write(&file, config(&places, &ports)).unwrap();
        let (report, ok) = crate::config::check(&file);
        assert!(ok, "{report}");
    }

    #[test]
    fn targets_are_written_as_file_sd_reads_them() {
        let text = targets("checkout", [("v1", vec!["127.0.0.1:1", "127.0.0.1:2"])]);
        let groups: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!([{"targets": ["127.0.0.1:1", "127.0.0.1:2"],
            "labels": {"service": "checkout", "version": "v1"}}]);
        assert_eq!(groups, expected);
    }

    #[tokio::test]
    async fn the_leash_ends_the_program_when_its_holder_is_gone() {
        let mut leashed = Command::new("/bin/sh")
            .args(["-c", LEASH, "davy", "sleep", "600"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        assert!(leashed.try_wait().unwrap().is_none());
        drop(leashed.stdin.take());
        let status = timeout(Duration::from_secs(20), leashed.wait()).await.unwrap().unwrap();
        // The shell reports a program that a signal ended as 128 + 15.
        assert_eq!(status.code(), Some(143));
    }

    #[tokio::test]
    async fn the_leash_passes_on_how_the_program_ended() {
        let mut leashed = Command::new("/bin/sh")
            .args(["-c", LEASH, "davy", "sh", "-c", "exit 7"])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // Waiting would close the pipe.
        let _held = leashed.stdin.take();
        let status = timeout(Duration::from_secs(20), leashed.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
    }
}
