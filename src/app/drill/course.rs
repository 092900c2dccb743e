//! One drill from beginning to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use davy_api::{ViewHandle, wire};
use davy_collector::config::{Discovery, Scheme, ScrapeConfig, ScrapeLimits};
use davy_collector::scrape::{Health, ScrapeManager};
use davy_egress::HttpConfig;
use davy_model::{Clock, Timestamp, name};
use davy_store::control::{AuditRecord, Control, ControlBatch, DrillRecord};
use tracing::{info, warn};

use super::fleet::{CANARY_SHARE, Fleet};
use super::score::{Bounds, Times, hops, time_max};
use super::{Drills, PREFIX};
use crate::config::Config;

const POLL: Duration = Duration::from_millis(200);
const BASELINE: &str = "drill-baseline";
const JOB: &str = "davy-drill";

/// The jobs of the file and those of a drill, which a reload must not end.
#[derive(Clone)]
pub(crate) struct Jobs {
    scrapes: ScrapeManager,
    drill: Arc<Mutex<Vec<ScrapeConfig>>>,
    file: Arc<Mutex<Vec<ScrapeConfig>>>,
}

impl Jobs {
    pub(crate) fn new(scrapes: ScrapeManager, file: Vec<ScrapeConfig>) -> Self {
        Self { scrapes, drill: Arc::default(), file: Arc::new(Mutex::new(file)) }
    }

    pub(crate) async fn set_file(&self, jobs: Vec<ScrapeConfig>) -> Result<(), String> {
        let before = std::mem::replace(&mut *lock(&self.file), jobs);
        let applied = self.apply().await;
        if applied.is_err() {
            *lock(&self.file) = before;
        }
        applied
    }

    async fn set_drill(&self, jobs: Vec<ScrapeConfig>) -> Result<(), String> {
        *lock(&self.drill) = jobs;
        self.apply().await
    }

    async fn apply(&self) -> Result<(), String> {
        let all: Vec<_> = lock(&self.file).iter().chain(lock(&self.drill).iter()).cloned().collect();
        self.scrapes.apply(all).await.map_err(|e| e.to_string())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that a drill has to do with.
#[derive(Clone)]
pub(crate) struct Course {
    pub(crate) drills: Drills,
    pub(crate) jobs: Jobs,
    pub(crate) view: ViewHandle,
    pub(crate) control: Control,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Course {
    /// Begins a drill; what comes of it is shown as it goes on.
    pub(crate) fn begin(
        &self,
        service: &str,
        actor: String,
        live: bool,
        config: &Config,
    ) -> Result<wire::Drill, String> {
        let now = self.clock.now();
        let own = format!("{PREFIX}{service}");
        let serves = self.drills.begin(&own, service, live)?;
        let (spec, policy) = config.rules(service);
        let scrape_interval = config.evaluation_interval;
        let bounds =
            Bounds { scrape_interval, interval: spec.judge.interval, verify_timeout: policy.verify_timeout };
        let canary = format!("drill-{}", now.as_millis() / 1000);
        let drill = wire::Drill {
            id: format!("{own}-{}", now.as_millis() / 1000),
            service: service.to_owned(),
            actor,
            live,
            state: "running".to_owned(),
            started_at: wire::rfc3339(now),
            ended_at: None,
            passed: 0,
            hops: Vec::new(),
            reason: String::new(),
        };
        self.drills.show(drill.clone());
        let (course, shown) = (self.clone(), drill.clone());
        let has_receiver = !config.receivers.is_empty();
        tokio::spawn(async move {
            let started = match Fleet::start(&serves).await {
                Ok(fleet) => {
                    let times = Times { has_receiver, ..Times::default() };
                    course.go(&own, &canary, &fleet, &bounds, times).await
                }
                Err(e) => Err(format!("the drill's service cannot listen: {e}")),
            };
            course.finish(&own, shown, started, &bounds).await;
        });
        Ok(drill)
    }

    async fn go(
        &self,
        own: &str,
        canary: &str,
        fleet: &Fleet,
        bounds: &Bounds,
        mut times: Times,
    ) -> Result<Times, String> {
        let began = self.clock.now();
        let until = began + time_max(bounds) + bounds.scrape_interval * 3;
        let service = own.strip_prefix(PREFIX).unwrap_or(own);
        let baseline = job(JOB, own, BASELINE, &fleet.baseline, bounds.scrape_interval);
        self.jobs.set_drill(vec![baseline.clone()]).await?;
        // Who lived first is the baseline: it is seen before the canary comes.
        self.wait(until, || self.is_up(&fleet.baseline)).await;
        self.wait(until, || self.view.load().services.iter().any(|(s, _)| s == own)).await;
        times.injected = Some(self.clock.now());
        let worse = job(&format!("{JOB}-canary"), own, canary, &fleet.canary, bounds.scrape_interval);
        self.jobs.set_drill(vec![baseline, worse]).await?;
        info!(service, share = CANARY_SHARE, "drill: a canary that is worse is there");
        times.scraped = self.wait(until, || self.is_up(&fleet.canary)).await;
        let release =
            || self.view.load().releases.iter().find(|r| r.service == own && r.canary == canary).cloned();
        times.detected = self.wait(until, || release().is_some_and(|r| r.verdict == "fail")).await;
        times.decided = self.wait(until, || release().is_some_and(|r| !r.actions.is_empty())).await;
        // The view is published after the decision: what is earlier is what was written down.
        let intended = release().and_then(|r| r.actions.first().and_then(|a| wire::parse_rfc3339(&a.at)));
        times.decided = times.decided.map(|at| intended.unwrap_or(at).min(at));
        times.detected = times.detected.zip(times.decided).map(|(a, b)| a.min(b));
        self.wait(until, || self.drills.called_at(own).is_some()).await;
        times.called = self.drills.called_at(own);
        times.verified = self.wait(until, || release().is_some_and(|r| r.phase == "rolled_back")).await;
        if times.has_receiver {
            let id = release().map(|r| r.id.clone()).unwrap_or_default();
            let heard = self.clock.now() + Duration::from_secs(60);
            times.notified = loop {
                if let Some(at) = self.delivered(&id).await {
                    break Some(at);
                }
                if self.clock.now() >= heard {
                    break None;
                }
                tokio::time::sleep(POLL).await;
            };
        }
        Ok(times)
    }

    fn is_up(&self, instances: &[SocketAddr]) -> bool {
        let targets = self.jobs.scrapes.targets();
        instances.iter().all(|i| {
            let instance = i.to_string();
            targets.iter().any(|t| t.labels.get("instance") == Some(&instance) && t.health == Health::Up)
        })
    }

    /// When it became true, looked at often; `None` if it did not in time.
    async fn wait(&self, until: Timestamp, mut is_so: impl FnMut() -> bool) -> Option<Timestamp> {
        loop {
            let now = self.clock.now();
            if is_so() {
                return Some(now);
            }
            if now >= until {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// When a message about this release was delivered, if one was.
    async fn delivered(&self, release: &str) -> Option<Timestamp> {
        let (control, release, now) = (self.control.clone(), release.to_owned(), self.clock.now());
        let found = tokio::task::spawn_blocking(move || control.outbox_delivered_about(&release)).await;
        match found {
            Ok(Ok(true)) => Some(now),
            Ok(Ok(false)) | Err(_) => None,
            Ok(Err(error)) => {
                warn!(%error, "the outbox cannot be read");
                None
            }
        }
    }

    async fn finish(&self, own: &str, drill: wire::Drill, times: Result<Times, String>, bounds: &Bounds) {
        let now = self.clock.now();
        self.drills.end(own);
        if let Err(error) = self.jobs.set_drill(Vec::new()).await {
            warn!(error, "the drill's targets cannot be taken away");
        }
        let (hops, reason) = match &times {
            Ok(times) => (hops(times, bounds), String::new()),
            Err(error) => (Vec::new(), error.clone()),
        };
        let passed = hops.iter().filter(|h| h.ok).count();
        let good = !hops.is_empty() && passed == hops.len();
        let drill = wire::Drill {
            state: if good { "passed" } else { "failed" }.to_owned(),
            ended_at: Some(wire::rfc3339(now)),
            passed,
            hops,
            reason,
            ..drill
        };
        let outcome = format!("{}: {passed} of {} hops", drill.state, drill.hops.len());
        info!(service = drill.service, outcome, "drill is over");
        let audit = AuditRecord {
            at: now,
            actor: drill.actor.clone(),
            action: "drill".to_owned(),
            target: drill.service.clone(),
            reason: format!("{}{}", drill.id, if drill.live { ", with the real actuator" } else { ", dry" }),
            outcome,
        };
        let record = DrillRecord {
            service: drill.service.clone(),
            at: now,
            good_at: good.then_some(now),
            detail: drill.state.clone(),
        };
        let control = self.control.clone();
        let written = tokio::task::spawn_blocking(move || {
            control.write(&ControlBatch { audit: vec![audit], ..ControlBatch::default() })?;
            control.put_drill(record)
        });
        if let Ok(Err(error)) = written.await {
            warn!(%error, "what came of the drill cannot be written down");
        }
        self.drills.show(drill);
    }
}

fn job(job: &str, service: &str, version: &str, targets: &[SocketAddr], interval: Duration) -> ScrapeConfig {
    let labels = [(name::SERVICE, service), (name::VERSION, version), ("drill", "true")];
    let labels: BTreeMap<String, String> =
        labels.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    ScrapeConfig {
        job_name: job.to_owned(),
        scrape_interval: interval,
        scrape_timeout: interval.min(Duration::from_secs(10)),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: false,
        http: HttpConfig::default(),
        discovery: vec![Discovery::Static {
            targets: targets.iter().map(ToString::to_string).collect(),
            labels,
        }],
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        limits: ScrapeLimits::default(),
    }
}
