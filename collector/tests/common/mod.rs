//! Short words that the collector's tests share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use davy_collector::config::{Discovery, Scheme, ScrapeConfig, ScrapeLimits};
use davy_collector::scrape::{ScrapeManager, TargetStatus};
use davy_egress::HttpConfig;
use davy_model::{Clock, Labels, Matcher, Sample, Timestamp};
use davy_store::{Limits, Options, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Prometheus' defaults with an interval of 15 s.
pub fn scrape_config(job: &str) -> ScrapeConfig {
    ScrapeConfig {
        job_name: job.to_owned(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        http: HttpConfig::default(),
        discovery: vec![],
        relabel: vec![],
        metric_relabel: vec![],
        limits: ScrapeLimits::default(),
    }
}

/// Every 400 ms, which may all be spent on an answer: the machine may be busy.
pub fn fast(job: &str, targets: &[&str]) -> ScrapeConfig {
    ScrapeConfig {
        scrape_interval: Duration::from_millis(400),
        scrape_timeout: Duration::from_millis(400),
        discovery: vec![static_targets(targets)],
        ..scrape_config(job)
    }
}

pub fn static_targets(targets: &[&str]) -> Discovery {
    Discovery::Static { targets: targets.iter().map(|t| (*t).to_owned()).collect(), labels: BTreeMap::new() }
}

pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "real sockets are tested in real time")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Timestamp::from_millis(since.as_millis() as i64)
    }
}

/// A store of its own, and a manager on it.
pub struct Davy {
    pub store: Store,
    pub manager: ScrapeManager,
    _dir: tempfile::TempDir,
}

impl Davy {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
        let options = Options { limits, ..Options::default() };
        let (store, _) = Store::open(dir.path(), SystemClock.now(), options).unwrap();
        let manager = ScrapeManager::new(store.clone(), Arc::new(SystemClock));
        Self { store, manager, _dir: dir }
    }

    pub async fn apply(&self, configs: Vec<ScrapeConfig>) {
        self.manager.apply(configs).await.unwrap();
    }

    /// A target of which `done` holds; waits for one at most 10 s.
    pub async fn until(&self, what: &str, done: impl Fn(&TargetStatus) -> bool) -> TargetStatus {
        for _ in 0..500 {
            if let Some(t) = self.manager.targets().iter().find(|t| done(t)) {
                return TargetStatus::clone(t);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no target is {what}: {:#?}", self.manager.targets());
    }

    pub fn series(&self, metric: &str) -> Vec<(Labels, Vec<Sample>)> {
        let snapshot = self.store.snapshot();
        let found = snapshot.select(&[Matcher::equal("__name__", metric)], Timestamp::MIN, Timestamp::MAX);
        found.unwrap().into_iter().map(|s| (s.labels, s.samples)).collect()
    }

    /// Samples of the one series of this name.
    pub fn samples(&self, metric: &str) -> Vec<Sample> {
        let mut series = self.series(metric);
        assert_eq!(series.len(), 1, "{metric}: {series:?}");
        series.remove(0).1
    }

    /// Samples of a series of this name once `done` holds of them; waits at most 10 s.
    pub async fn samples_until(&self, metric: &str, done: impl Fn(&[Sample]) -> bool) -> Vec<Sample> {
        for _ in 0..500 {
            if let Some((_, samples)) = self.series(metric).pop()
                && done(&samples)
            {
                return samples;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{metric} never came to that: {:?}", self.series(metric));
    }
}

pub fn float(sample: &Sample) -> f64 {
    sample.value.as_float().unwrap()
}

pub fn is_stale(samples: &[Sample]) -> bool {
    samples.last().is_some_and(|s| s.value.is_stale())
}

/// Answers each connection's first request by `answer(head, stream)`; the head is in lower case. Returns `host:port`.
pub async fn server<F, A>(answer: F) -> String
where
    F: Fn(String, TcpStream) -> A + Clone + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                answer(head, stream).await;
            });
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).to_ascii_lowercase()
}

/// A server that sends these bytes, then closes.
pub async fn bytes(answer: Vec<u8>) -> String {
    server(move |_, mut stream| {
        let answer = answer.clone();
        async move {
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// A whole answer of status 200.
pub fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// `/metrics` says `healthy 1` and counts requests, or nothing at all once `dead` is set.
pub async fn mortal(dead: Arc<AtomicBool>) -> String {
    let requests = Arc::new(AtomicU64::new(0));
    server(move |_, mut stream| {
        let (dead, requests) = (dead.clone(), requests.clone());
        async move {
            let n = requests.fetch_add(1, Ordering::Relaxed);
            let errors = if n >= 2 { "r_total{code=\"500\"} 3\n" } else { "" };
            if !dead.load(Ordering::Relaxed) {
                let body = format!("healthy 1\nr_total{{code=\"200\"}} {}\n{errors}", n + 10);
                let _ = stream.write_all(&ok("", body.as_bytes())).await;
            }
        }
    })
    .await
}
