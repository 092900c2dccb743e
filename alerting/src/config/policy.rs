//! What a verdict may lead to.

use std::time::Duration;

use crate::release::Level;
use crate::words::Language;

/// What a release's verdict may lead to.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub on_fail: OnFail,
    /// How long a canary is watched before a pass closes the release; with a ramp, how long it is watched on after
    /// it has all of the requests.
    pub watch: Duration,
    /// How long after the call the rollback may take to show.
    pub verify_timeout: Duration,
    /// What rolls back; required by `OnFail::Rollback`.
    pub rollback: Option<Hand>,
    /// `None` where others set the canary's share.
    pub ramp: Option<Ramp>,
    pub approval: Approval,
    /// Everything but the calls: what would have been called is written down.
    pub dry_run: bool,
    /// Names of alerting rules that count as a fail of the release while one fires with its `service` label (and,
    /// where the alert has one, its `version`).
    pub safety_rules: Vec<String>,
    /// The service that this release stands for, if it is a drill's: its alerts carry that name, and are marked.
    pub drill: Option<String>,
    /// Of its alerts.
    pub language: Language,
}

/// A named actuator, and how far it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hand {
    pub name: String,
    pub level: Level,
}

/// What Davy may roll back by itself, over all releases. An operator's order is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollbackLimits {
    pub per_service_per_day: usize,
    pub per_hour: usize,
    pub at_once: usize,
    /// This many services that turn bad within five minutes trip the breaker: a human must approve.
    pub common_cause_services: usize,
}

impl Default for RollbackLimits {
    fn default() -> Self {
        Self { per_service_per_day: 2, per_hour: 5, at_once: 3, common_cause_services: 3 }
    }
}

/// Who gives the canary its share of the requests, and in which steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ramp {
    pub hand: Hand,
    /// Percent, ascending.
    pub steps: Vec<u8>,
}

/// Acts of Davy's own that wait for a human.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Approval {
    pub rollback: bool,
    pub promote: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            on_fail: OnFail::Record,
            watch: Duration::from_secs(3600),
            verify_timeout: Duration::from_secs(120),
            rollback: None,
            ramp: None,
            approval: Approval::default(),
            dry_run: false,
            safety_rules: Vec::new(),
            drill: None,
            language: Language::English,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnFail {
    /// Write the verdict down and alert.
    Record,
    /// The same, and stop any promotion until a human resumes.
    Hold,
    /// The same, and call the rollback actuator.
    Rollback,
}

impl OnFail {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
        }
    }
}
