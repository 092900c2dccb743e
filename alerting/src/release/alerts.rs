//! The alerts that a release raises, and their words: what is worse, by how much, how certain, what Davy did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_detector::{Outcome, Verdict};
use davy_model::{Labels, Timestamp, name};

use super::{Command, Desired, Phase, ReleaseMachine, explain};
use crate::alert::{
    ACTION, ALERTNAME, Alert, CERTAINTY, DESCRIPTION, DRILL, RELEASE, SEVERITY, SUMMARY, WORSE, fingerprint,
};

/// How long good news stays open: it is a notice, not a condition.
const NOTICE: Duration = Duration::from_secs(5 * 60);
/// Metrics of one release that are alerted on by themselves.
const METRIC_ALERTS_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    CanaryRegression,
    RollbackVerified,
    RollbackNeedsHuman,
    DavyBlind,
    ReleaseStuck,
    RolledBackCanaryServes,
    RollbackBlocked,
    ApprovalNeeded,
    RampPaused,
    RampStep,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::CanaryRegression,
        Self::RollbackVerified,
        Self::RollbackNeedsHuman,
        Self::DavyBlind,
        Self::ReleaseStuck,
        Self::RolledBackCanaryServes,
        Self::RollbackBlocked,
        Self::ApprovalNeeded,
        Self::RampPaused,
        Self::RampStep,
    ];

    /// The alert's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::CanaryRegression => "CanaryRegression",
            Self::RollbackVerified => "RollbackVerified",
            Self::RollbackNeedsHuman => "RollbackNeedsHuman",
            Self::DavyBlind => "DavyBlind",
            Self::ReleaseStuck => "ReleaseStuck",
            Self::RolledBackCanaryServes => "RolledBackCanaryServes",
            Self::RollbackBlocked => "RollbackBlocked",
            Self::ApprovalNeeded => "ApprovalNeeded",
            Self::RampPaused => "RampPaused",
            Self::RampStep => "RampStep",
        }
    }

    fn severity(self) -> &'static str {
        match self {
            Self::CanaryRegression
            | Self::RollbackNeedsHuman
            | Self::DavyBlind
            | Self::RolledBackCanaryServes
            | Self::RollbackBlocked => "critical",
            Self::ReleaseStuck | Self::ApprovalNeeded | Self::RampPaused => "warning",
            Self::RollbackVerified | Self::RampStep => "info",
        }
    }

    fn summary(self, m: &ReleaseMachine) -> String {
        let ReleaseMachine { service, baseline, canary, phase, .. } = m;
        match self {
            Self::CanaryRegression => format!("{service}: version {canary} is worse than {baseline}"),
            Self::RollbackVerified => format!("{service}: rolled back from {canary} to {baseline}"),
            Self::RollbackNeedsHuman => {
                format!("{service}: the rollback from {canary} to {baseline} needs a human")
            }
            Self::DavyBlind => format!("{service}: Davy does not see versions {baseline} and {canary}"),
            Self::ReleaseStuck => format!("{service}: the release of {canary} is still {}", phase.as_str()),
            Self::RolledBackCanaryServes => {
                format!("{service}: version {canary} serves again after its rollback")
            }
            Self::RollbackBlocked => format!("{service}: the rollback of {canary} is blocked"),
            Self::ApprovalNeeded => format!("{service}: {} waits for approval", asked(m)),
            Self::RampPaused => format!("{service}: the ramp of {canary} is paused"),
            Self::RampStep => format!("{service}: version {canary} gets more of the requests"),
        }
    }
}

/// What waits for a human, in words.
fn asked(m: &ReleaseMachine) -> String {
    match m.awaits() {
        Some((Desired::Baseline, _)) | None => format!("the rollback of {}", m.canary),
        Some((step, _)) => format!("giving {} % of the requests to {}", step.percent(), m.canary),
    }
}

impl ReleaseMachine {
    /// Raises the alert; one that is open takes the new words.
    pub(super) fn raise(&mut self, kind: Kind, now: Timestamp, done: &str, out: &mut Vec<Command>) {
        let mut annotations = BTreeMap::from([
            (SUMMARY.to_owned(), self.marked(kind.summary(self))),
            (ACTION.to_owned(), done.to_owned()),
        ]);
        let description = match (kind, &self.verdict) {
            (
                Kind::CanaryRegression | Kind::ReleaseStuck | Kind::RollbackBlocked | Kind::ApprovalNeeded,
                Some(verdict),
            ) => &verdict.reason,
            _ => &self.reason,
        };
        annotations.insert(DESCRIPTION.to_owned(), description.clone());
        if let (Kind::CanaryRegression, Some(verdict)) = (kind, &self.verdict) {
            annotations.insert(WORSE.to_owned(), explain::worse(verdict));
            annotations.insert(CERTAINTY.to_owned(), explain::certainty(verdict));
        }
        let is_notice = matches!(kind, Kind::RollbackVerified | Kind::RampStep);
        let ends_at = is_notice.then(|| now + NOTICE);
        self.raised.insert(kind);
        let labels = self.alert_labels(kind.as_str(), kind.severity(), None);
        out.push(Command::Raise(Alert { ends_at, ..Alert::new(labels, annotations, now) }));
    }

    /// Ends the alert if it is open, saying how.
    pub(super) fn resolve(&mut self, kind: Kind, how: &str, out: &mut Vec<Command>) {
        if self.raised.remove(&kind) {
            let labels = self.alert_labels(kind.as_str(), kind.severity(), None);
            out.push(resolved(&labels, how));
        }
    }

    pub(super) fn resolve_all(&mut self, how: &str, out: &mut Vec<Command>) {
        for kind in Kind::ALL {
            self.resolve(kind, how, out);
        }
        for metric in std::mem::take(&mut self.worse_metrics) {
            out.push(resolved(&self.metric_labels(&metric), how));
        }
    }

    /// A metric that is worse without failing the release is still said.
    pub(super) fn alert_on_metrics(&mut self, now: Timestamp, verdict: &Verdict, out: &mut Vec<Command>) {
        if self.phase == Phase::Closed {
            return;
        }
        let worse: BTreeSet<String> = verdict
            .metrics
            .iter()
            .filter(|m| m.outcome == Outcome::Fail && verdict.outcome != Outcome::Fail)
            .map(|m| m.name.clone())
            .take(METRIC_ALERTS_MAX)
            .collect();
        for metric in self.worse_metrics.difference(&worse) {
            out.push(resolved(&self.metric_labels(metric), "It is no longer worse by itself."));
        }
        for metric in verdict.metrics.iter().filter(|m| worse.contains(&m.name)) {
            if self.worse_metrics.contains(&metric.name) {
                continue;
            }
            let summary = format!(
                "{}: {} of version {} is worse than that of {}",
                self.service, metric.name, self.canary, self.baseline
            );
            let annotations = BTreeMap::from([
                (SUMMARY.to_owned(), self.marked(summary)),
                (DESCRIPTION.to_owned(), metric.reason.clone()),
                (WORSE.to_owned(), explain::metric(metric)),
                (ACTION.to_owned(), "Nothing was done: this metric does not decide the release.".to_owned()),
            ]);
            out.push(Command::Raise(Alert::new(self.metric_labels(&metric.name), annotations, now)));
        }
        self.worse_metrics = worse;
    }

    fn metric_labels(&self, metric: &str) -> Labels {
        self.alert_labels("CanaryMetricWorse", "warning", Some(metric))
    }

    /// Nobody must take a drill for the real thing.
    fn marked(&self, summary: String) -> String {
        if self.policy.drill.is_some() { format!("DRILL: {summary}") } else { summary }
    }

    fn alert_labels(&self, alertname: &str, severity: &str, metric: Option<&str>) -> Labels {
        let drill = self.policy.drill.as_deref();
        Labels::from_pairs([
            (ALERTNAME, alertname),
            (SEVERITY, severity),
            (RELEASE, &self.id),
            (name::SERVICE, drill.unwrap_or(&self.service)),
            (DRILL, if drill.is_some() { "true" } else { "" }),
            (name::VERSION, &self.canary),
            ("baseline", &self.baseline),
            ("metric", metric.unwrap_or("")),
        ])
    }
}

fn resolved(labels: &Labels, how: &str) -> Command {
    Command::Resolve {
        fingerprint: fingerprint(labels),
        annotations: BTreeMap::from([(ACTION.to_owned(), how.to_owned())]),
    }
}
