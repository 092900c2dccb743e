//! Davy itself, as any user starts it: `davy run` with a file, as a process of its own. What the story knows of
//! it comes from its HTTP API.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use davy_api::wire::{Evidence, Release};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::DemoError;
use super::leash::{end, leashed};

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(100);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const RELEASES_PATH: &str = "/api/davy/v1/releases";
const LOG_TAIL_LINES: usize = 20;

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
        let process = leashed(&program)
            .arg("run")
            .arg("--config.file")
            .arg(&file)
            .arg("--storage.path")
            .arg(folder.join("data"))
            .arg("--web.listen-address")
            .arg(ports.web.to_string())
            .stdout(out)
            .stderr(err)
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
        let releases: Vec<Release> = self.get(RELEASES_PATH).await?;
        Ok(releases.into_iter().find(|release| release.service == service))
    }

    /// The newest verdict of the release that decides something, as its history has it.
    pub(super) async fn decision(&self, release: &str) -> Result<Option<Evidence>, String> {
        let history: Vec<Evidence> = self.get(&format!("{RELEASES_PATH}/{release}/evidence")).await?;
        Ok(history.into_iter().rev().find(|point| point.verdict != "insufficient"))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let request = self.client.get(format!("{}{path}", self.base)).timeout(ANSWER_TIMEOUT);
        let response = request.send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        let body = response.bytes().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    /// Ends it and waits for it.
    pub(super) async fn stop(self) {
        end(self.process).await;
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
