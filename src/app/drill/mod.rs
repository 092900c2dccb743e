//! Drills: a marked, synthetic regression goes the real way (scrape, store, judge, machine, call, look, message), and
//! each hop is timed. The alarm bell is rung to hear that it rings.
//!
//! A drill is a service of its own, `drill-SERVICE`, with two versions that Davy itself serves on loopback and scrapes.
//! Its release is judged and rolled back by the real service's policy; its alerts carry the real service's name, so
//! that they take its routes, and are marked. The actuator is dry unless it is asked for: then the fleet alone obeys.

mod course;
mod fleet;
mod score;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use davy_alerting::config::{Approval, Hand, OnFail, Policy};
use davy_alerting::release::{ActRequest, CallOutcome, Desired, Level, Live, TargetState};
use davy_api::wire;
use davy_detector::config::ReleaseSpec;
use davy_model::Timestamp;

pub(super) use course::{Course, Jobs};

use crate::config::Config;

/// Before the real service's name.
pub(super) const PREFIX: &str = "drill-";
/// Drills that are shown; what is kept for longer is in the audit.
const SHOWN_MAX: usize = 20;

/// Drills that run and that ran, shared by everyone who has a part in them.
#[derive(Clone, Default)]
pub(crate) struct Drills(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    /// By the drill's own service.
    active: BTreeMap<String, Active>,
    /// Newest last.
    shown: Vec<wire::Drill>,
}

#[derive(Clone)]
struct Active {
    /// The service that it stands for.
    service: String,
    /// Whether the real actuator is called as well.
    live: bool,
    /// Whether the canary still gets requests.
    serves: Arc<AtomicBool>,
    marker: Option<String>,
    called_at: Option<Timestamp>,
    over: bool,
}

impl Drills {
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a drill's release is judged: by what its numbers are called, with the real service's interval, and as its
    /// policy says, but without a ramp, a budget or a question to a human. `None` for a service that is no drill.
    pub(super) fn rules(&self, service: &str, config: &Config) -> Option<(ReleaseSpec, Policy)> {
        let real = service.strip_prefix(PREFIX)?;
        let board = self.lock();
        let active = board.active.get(service);
        let (spec, policy) = config.rules(active.map_or(real, |a| &a.service));
        let (mut own, _) = config.default_release();
        own.service = Some(service.to_owned());
        own.judge = spec.judge;
        let name = policy.rollback.as_ref().map_or("drill", |h| &h.name).to_owned();
        let policy = Policy {
            // One that nobody runs any more does nothing.
            on_fail: if active.is_some() { OnFail::Rollback } else { OnFail::Record },
            rollback: Some(Hand { name, level: Level::A }),
            ramp: None,
            approval: Approval::default(),
            dry_run: false,
            safety_rules: Vec::new(),
            drill: Some(real.to_owned()),
            ..policy
        };
        Some((own, policy))
    }

    /// Whether a release of this service is a drill's that is over.
    pub(super) fn is_over(&self, service: &str) -> bool {
        service.starts_with(PREFIX) && self.lock().active.get(service).is_none_or(|a| a.over)
    }

    /// What the dry actuator says of itself; `None` for a service that is no drill.
    pub(super) fn read(&self, service: &str) -> Option<TargetState> {
        let board = self.lock();
        let active = board.active.get(service)?;
        let serves = active.serves.load(Ordering::Relaxed);
        let generation = if serves { "1" } else { "2" };
        Some(TargetState {
            uid: service.to_owned(),
            generation: generation.to_owned(),
            token: generation.to_owned(),
            live: if serves { Live::Share(fleet::CANARY_SHARE) } else { Live::Baseline },
            marker: active.marker.clone(),
            refusal: None,
        })
    }

    /// The dry actuator. Says whether the real one is to be called as well.
    pub(super) fn call(&self, request: &ActRequest, now: Timestamp) -> Option<(CallOutcome, bool)> {
        let mut board = self.lock();
        let active = board.active.get_mut(&request.subject.service)?;
        active.called_at = Some(now);
        active.marker = Some(request.marker.clone());
        if request.desired == Desired::Baseline {
            active.serves.store(false, Ordering::Relaxed);
        }
        let detail = "dry: the drill's own fleet obeys".to_owned();
        Some((CallOutcome::Accepted { detail, state: None }, active.live))
    }

    pub(super) fn shown(&self) -> Vec<wire::Drill> {
        self.lock().shown.iter().rev().cloned().collect()
    }

    fn begin(&self, drill_service: &str, service: &str, live: bool) -> Result<Arc<AtomicBool>, String> {
        let mut board = self.lock();
        if board.active.values().any(|a| !a.over) {
            return Err("a drill is running already; one at a time".to_owned());
        }
        board.active.clear();
        let serves = Arc::new(AtomicBool::new(true));
        let active = Active {
            service: service.to_owned(),
            live,
            serves: serves.clone(),
            marker: None,
            called_at: None,
            over: false,
        };
        board.active.insert(drill_service.to_owned(), active);
        Ok(serves)
    }

    fn called_at(&self, drill_service: &str) -> Option<Timestamp> {
        self.lock().active.get(drill_service).and_then(|a| a.called_at)
    }

    fn end(&self, drill_service: &str) {
        if let Some(active) = self.lock().active.get_mut(drill_service) {
            active.over = true;
        }
    }

    fn show(&self, drill: wire::Drill) {
        let mut board = self.lock();
        board.shown.retain(|d| d.id != drill.id);
        board.shown.push(drill);
        if board.shown.len() > SHOWN_MAX {
            board.shown.remove(0);
        }
    }
}
