//! The instances of one version: processes of `davy demo-service`.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::DemoError;
use super::service::{Fault, Hello, Order, work};

const START_TIMEOUT: Duration = Duration::from_secs(20);
/// CPU time that one request's work should take here.
const WORK: Duration = Duration::from_micros(800);
const CALIBRATION_RUNS: u32 = 15;
const CALIBRATION_ROUNDS: u32 = 200;

/// Running instances of one version. Dropping it ends them: their stdin closes, and they are killed.
pub(super) struct Fleet {
    instances: Vec<Instance>,
}

struct Instance {
    name: String,
    address: String,
    _process: Child,
}

/// How a version is started.
pub(super) struct FleetSpec<'a> {
    pub(super) service: &'a str,
    pub(super) version: &'a str,
    pub(super) instances: u32,
    pub(super) otlp: &'a str,
    pub(super) seed: u64,
    pub(super) rounds: u32,
    /// Where the instances' stderr goes.
    pub(super) logs: &'a Path,
}

impl Fleet {
    pub(super) async fn start(spec: &FleetSpec<'_>) -> Result<Self, DemoError> {
        let mut instances = Vec::new();
        for i in 0..spec.instances {
            instances.push(Instance::start(spec, i).await?);
        }
        Ok(Self { instances })
    }

    /// `host:port` of each instance.
    pub(super) fn addresses(&self) -> Vec<&str> {
        self.instances.iter().map(|instance| instance.address.as_str()).collect()
    }

    pub(super) fn base_urls(&self) -> Vec<String> {
        self.instances.iter().map(|instance| format!("http://{}", instance.address)).collect()
    }

    pub(super) async fn inject(&self, client: &reqwest::Client, fault: Fault) -> Result<(), DemoError> {
        let body = serde_json::to_vec(&fault).expect("a fault is plain data");
        for Instance { name, address, .. } in &self.instances {
            let failed = |detail: String| DemoError::Fault { instance: name.clone(), detail };
            let request = client
                .post(format!("http://{address}/admin/fault"))
                .header("content-type", "application/json")
                .body(body.clone());
            let response = request.send().await.map_err(|error| failed(error.to_string()))?;
            if !response.status().is_success() {
                return Err(failed(format!("status {}", response.status())));
            }
        }
        Ok(())
    }
}

impl Instance {
    async fn start(spec: &FleetSpec<'_>, i: u32) -> Result<Self, DemoError> {
        let name = format!("{}-{}-{i}", spec.service, spec.version);
        let log = spec.logs.join(format!("{name}.log"));
        let log = File::create(&log).map_err(DemoError::io(log.display().to_string()))?;
        let program = std::env::current_exe().map_err(DemoError::io("the program's own path"))?;
        let mut process = Command::new(program)
            .args(["demo-service", "--service", spec.service, "--version", spec.version])
            .args(["--instance", &name, "--otlp", spec.otlp])
            .args(["--seed", &spec.seed.wrapping_add(u64::from(i)).to_string()])
            .args(["--rounds", &spec.rounds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C at the terminal is the story's to handle, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::io(format!("start of {name}")))?;
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe");
        let failed = |detail: String| DemoError::Instance { instance: name.clone(), detail };
        let mut lines = BufReader::new(stdout).lines();
        let line = match timeout(START_TIMEOUT, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(failed("it ended".to_owned())),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("nothing within {} s", START_TIMEOUT.as_secs()))),
        };
        let hello: Hello = serde_json::from_str(&line).map_err(|error| failed(error.to_string()))?;
        Ok(Self { name, address: hello.address, _process: process })
    }
}

/// How often this machine does the work in [`WORK`]. Measured once for all instances, so that both versions do
/// the same; the quickest of several runs, because neighbours can only slow it down.
pub(super) fn calibrate() -> u32 {
    let order = Order::of(1);
    let quickest = (0..CALIBRATION_RUNS)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(work(&order, CALIBRATION_ROUNDS));
            started.elapsed()
        })
        .min()
        .unwrap_or_default();
    let rounds = f64::from(CALIBRATION_ROUNDS) * WORK.as_secs_f64() / quickest.as_secs_f64().max(1e-9);
    (rounds as u32).clamp(1, 100_000)
}
