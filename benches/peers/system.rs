//! What differs between the systems: how each is started, asked, and made to compact.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use davy_fixtures::fleet::Fleet;

use crate::args::Args;
use crate::net::{Net, free_port, wait_for};
use crate::process::{Process, bytes_below};

const READY_MAX: Duration = Duration::from_secs(180);
const COMPACT_MAX: Duration = Duration::from_secs(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Davy,
    Prometheus,
    VictoriaMetrics,
}

/// One system that runs.
pub(crate) struct System {
    pub(crate) kind: Kind,
    pub(crate) process: Process,
    /// Seconds, wall and CPU, from its start until it said that it is ready.
    pub(crate) ready_after: (f64, f64),
    data: PathBuf,
    port: u16,
    net: Net,
}

/// Which targets it scrapes.
pub(crate) struct Scrapes<'a> {
    /// Target `n` is at the port `n` modulo their number.
    pub(crate) ports: &'a [u16],
    pub(crate) targets: usize,
    pub(crate) interval_ms: u64,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Davy => "davy",
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }

    /// `None` if it is not installed.
    fn program(self, args: &Args) -> Option<PathBuf> {
        match self {
            Self::Davy => Some(args.davy.clone()),
            Self::Prometheus | Self::VictoriaMetrics => {
                let path = std::env::var("PATH").unwrap_or_default();
                path.split(':').map(|d| Path::new(d).join(self.name())).find(|p| p.is_file())
            }
        }
    }

    fn arguments(self, port: u16, data: &Path, config: &Path) -> Vec<String> {
        let (data, config) = (data.display(), config.display());
        match self {
            Self::Davy => vec![
                "run".to_owned(),
                "--headless".to_owned(),
                format!("--config.file={config}"),
                format!("--storage.path={data}"),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ],
            Self::Prometheus => vec![
                format!("--config.file={config}"),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--web.enable-remote-write-receiver".to_owned(),
                "--log.level=warn".to_owned(),
            ],
            Self::VictoriaMetrics => vec![
                format!("-storageDataPath={data}"),
                format!("-httpListenAddr=127.0.0.1:{port}"),
                format!("-promscrape.config={config}"),
                "-loggerLevel=WARN".to_owned(),
                "-retentionPeriod=12".to_owned(),
                "-search.maxUniqueTimeseries=3000000".to_owned(),
            ],
        }
    }

    /// The counter of samples taken, on its page of metrics; several lines are added up.
    fn samples_metric(self) -> &'static str {
        match self {
            Self::Davy => "davy_storage_samples_appended_total",
            Self::Prometheus => "prometheus_tsdb_head_samples_appended_total",
            Self::VictoriaMetrics => "vm_rows_inserted_total",
        }
    }

    fn ready_path(self) -> &'static str {
        match self {
            Self::Davy | Self::Prometheus => "/-/ready",
            Self::VictoriaMetrics => "/health",
        }
    }

    /// The file that all three read, but for Davy's own bounds: the fleet is larger and older than a usual one.
    fn config(self, scrapes: Option<&Scrapes<'_>>) -> String {
        let mut file = String::new();
        if let Some(Scrapes { ports, targets, interval_ms }) = scrapes {
            let _ = write!(
                file,
                "global: {{scrape_interval: {interval_ms}ms, scrape_timeout: {interval_ms}ms}}\n\
                 scrape_configs:\n- job_name: fleet\n  static_configs:\n"
            );
            for n in 0..*targets {
                let (job, instance, port) = (Fleet::job(n), Fleet::instance(n), ports[n % ports.len()]);
                let _ = writeln!(
                    file,
                    "  - targets: ['127.0.0.1:{port}']\n    \
                     labels: {{__metrics_path__: /t/{n}/metrics, job: {job}, instance: '{instance}'}}"
                );
            }
        } else {
            file.push_str("global: {scrape_interval: 1m}\n");
        }
        if self == Self::Davy {
            let (grpc, http) = (free_port(), free_port());
            let _ = write!(
                file,
                "storage: {{series_limit: 3000000, series_per_service_limit: 3000000, max_sample_age: 30d}}\n\
                 otlp: {{grpc: '127.0.0.1:{grpc}', http: '127.0.0.1:{http}'}}\n"
            );
        }
        file
    }
}

impl System {
    /// Starts it on `home/KIND` and waits until it is ready; `Err` says why it is not measured.
    pub(crate) fn start(
        kind: Kind,
        args: &Args,
        home: &Path,
        scrapes: Option<&Scrapes<'_>>,
    ) -> Result<Self, String> {
        let program = kind
            .program(args)
            .ok_or_else(|| format!("{} is not installed: .ci/peers brings it", kind.name()))?;
        let dir = home.join(kind.name());
        let (data, config) = (dir.join("data"), dir.join("config.yaml"));
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(&config, kind.config(scrapes)).unwrap();
        let port = free_port();
        let began = Instant::now();
        let process = Process::start(&program, &kind.arguments(port, &data, &config), dir.join("log"));
        eprintln!("  {} runs as {}", kind.name(), process.id());
        let mut system = Self { kind, process, ready_after: (0.0, 0.0), data, port, net: Net::new() };
        let url = system.url(kind.ready_path());
        let ready = wait_for(Duration::from_millis(10), READY_MAX, || {
            if system.process.ended() {
                return Some(false);
            }
            system.net.get(&url).filter(|(status, _)| *status == 200).map(|_| true)
        });
        if ready != Some(true) {
            return Err(format!("{} does not start:\n{}", kind.name(), system.process.log_tail()));
        }
        system.ready_after = (began.elapsed().as_secs_f64(), system.process.cpu());
        Ok(system)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Samples that it says it took since its start.
    pub(crate) fn samples_taken(&self) -> f64 {
        let (_, page) = self.net.get(&self.url("/metrics")).unwrap_or_default();
        let lines = page.lines().filter(|l| {
            l.strip_prefix(self.kind.samples_metric()).is_some_and(|rest| rest.starts_with([' ', '{', '_']))
        });
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The one value of an instant query.
    pub(crate) fn query(&self, query: &str, at_ms: i64) -> Option<f64> {
        let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        let time = at_ms as f64 / 1000.0;
        let (_, body) = self.net.get(&self.url(&format!("/api/v1/query?query={query}&time={time}")))?;
        let answer: serde_json::Value = serde_json::from_str(&body).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Bytes of an answer's body; `Err` tells what came instead.
    pub(crate) fn ask(&self, path: &str) -> Result<String, String> {
        match self.net.get(&self.url(path)) {
            Some((200, body)) => Ok(body),
            Some((status, body)) => Err(format!("{path}: {status} {}", &body[..body.len().min(300)])),
            None => Err(format!("{path}: no answer")),
        }
    }

    /// Lets it write down and merge what it took; it runs on.
    pub(crate) fn digest(&self) -> Result<(), String> {
        match self.kind {
            Kind::Davy => match self.net.post(&self.url("/api/davy/v1/storage/compact")) {
                Some((200..300, _)) => {}
                other => return Err(format!("davy does not compact: {other:?}")),
            },
            Kind::Prometheus => self.settle(Duration::from_secs(70)),
            Kind::VictoriaMetrics => {
                for path in ["/internal/force_flush", "/internal/force_merge"] {
                    self.net.get(&self.url(path));
                }
                self.settle(Duration::from_secs(10));
            }
        }
        Ok(())
    }

    /// What a compacted store keeps: bytes on disk, and the samples within them.
    ///
    /// Of Prometheus only finished blocks count, not the log of the hours that it still holds in memory; of
    /// VictoriaMetrics not its caches; of Davy everything.
    pub(crate) fn compact(self, samples: u64) -> Result<(u64, u64), String> {
        self.digest()?;
        let (kind, data) = (self.kind, self.data.clone());
        self.process.stop();
        let first = |path: &Path| path.iter().next().unwrap_or_default().to_string_lossy().into_owned();
        Ok(match kind {
            Kind::Davy => (bytes_below(&data, &|_| true), samples),
            Kind::VictoriaMetrics => {
                (bytes_below(&data, &|p| ["data", "indexdb"].contains(&first(p).as_str())), samples)
            }
            Kind::Prometheus => {
                // A block's folder is named by a ULID.
                (bytes_below(&data, &|p| first(p).len() == 26 && p.iter().count() > 1), blocks_hold(&data))
            }
        })
    }

    /// Waits until it has used next to no CPU for as long as `quiet`.
    fn settle(&self, quiet: Duration) {
        let (mut before, mut since) = (self.process.cpu(), Instant::now());
        wait_for(Duration::from_secs(1), COMPACT_MAX, || {
            let now = self.process.cpu();
            if now - before > 0.2 {
                since = Instant::now();
            }
            before = now;
            (since.elapsed() > quiet).then_some(())
        });
    }
}

fn blocks_hold(data: &Path) -> u64 {
    let samples = |block: std::fs::DirEntry| {
        let meta = std::fs::read(block.path().join("meta.json")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&meta).ok()?["stats"]["numSamples"].as_u64()
    };
    std::fs::read_dir(data).unwrap().flatten().filter_map(samples).sum()
}
