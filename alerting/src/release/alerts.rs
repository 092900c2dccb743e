//! The alerts that a release raises, and their words: what is worse, by how much, how certain, what Davy did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_detector::{Outcome, Verdict};
use davy_model::{Labels, Timestamp, name};

use super::{Command, Desired, Phase, ReleaseMachine, explain};
use crate::alert::{
    ACTION, ALERTNAME, Alert, CERTAINTY, DESCRIPTION, DRILL, RELEASE, SEVERITY, SUMMARY, WORSE, fingerprint,
};
use crate::words::Said;

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
        let said = Said::new(format!("summary.{}", self.as_str()))
            .with("service", service)
            .with("baseline", baseline)
            .with("canary", canary)
            .with("phase", phase.as_str());
        let said = if self == Self::ApprovalNeeded { said.with("asked", asked(m)) } else { said };
        said.text(m.policy.language)
    }
}

/// What waits for a human, in words.
fn asked(m: &ReleaseMachine) -> String {
    let said = match m.awaits() {
        Some((Desired::Baseline, _)) | None => Said::new("asked.rollback"),
        Some((step, _)) => Said::new("asked.step").with("percent", step.percent()),
    };
    said.with("canary", &m.canary).text(m.policy.language)
}

impl ReleaseMachine {
    /// Raises the alert; one that is open takes the new words.
    pub(super) fn raise(&mut self, kind: Kind, now: Timestamp, done: &Said, out: &mut Vec<Command>) {
        let mut annotations = BTreeMap::from([
            (SUMMARY.to_owned(), self.marked(kind.summary(self))),
            (ACTION.to_owned(), done.text(self.policy.language)),
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
            annotations.insert(WORSE.to_owned(), explain::worse(verdict, self.policy.language));
            annotations.insert(CERTAINTY.to_owned(), explain::certainty(verdict, self.policy.language));
        }
        let is_notice = matches!(kind, Kind::RollbackVerified | Kind::RampStep);
        let ends_at = is_notice.then(|| now + NOTICE);
        self.raised.insert(kind);
        let labels = self.labels_of(kind);
        out.push(Command::Raise(Alert { ends_at, ..Alert::new(labels, annotations, now) }));
    }

    /// Ends the alert if it is open, saying how.
    pub(super) fn resolve(&mut self, kind: Kind, how: &Said, out: &mut Vec<Command>) {
        if self.raised.remove(&kind) {
            let labels = self.labels_of(kind);
            out.push(self.resolved(&labels, how));
        }
    }

    pub(super) fn resolve_all(&mut self, how: &Said, out: &mut Vec<Command>) {
        for kind in Kind::ALL {
            self.resolve(kind, how, out);
        }
        for metric in std::mem::take(&mut self.worse_metrics) {
            out.push(self.resolved(&self.metric_labels(&metric), how));
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
            out.push(self.resolved(&self.metric_labels(metric), &Said::new("done.metric_better")));
        }
        for metric in verdict.metrics.iter().filter(|m| worse.contains(&m.name)) {
            if self.worse_metrics.contains(&metric.name) {
                continue;
            }
            let summary = Said::new("summary.CanaryMetricWorse")
                .with("service", &self.service)
                .with("metric", &metric.name)
                .with("canary", &self.canary)
                .with("baseline", &self.baseline)
                .text(self.policy.language);
            let annotations = BTreeMap::from([
                (SUMMARY.to_owned(), self.marked(summary)),
                (DESCRIPTION.to_owned(), metric.reason.clone()),
                (WORSE.to_owned(), explain::metric(metric, self.policy.language)),
                (ACTION.to_owned(), Said::new("done.not_deciding").text(self.policy.language)),
            ]);
            out.push(Command::Raise(Alert::new(self.metric_labels(&metric.name), annotations, now)));
        }
        self.worse_metrics = worse;
    }

    fn resolved(&self, labels: &Labels, how: &Said) -> Command {
        let how = how.text(self.policy.language);
        Command::Resolve {
            fingerprint: fingerprint(labels),
            annotations: BTreeMap::from([(ACTION.to_owned(), how)]),
        }
    }

    fn metric_labels(&self, metric: &str) -> Labels {
        self.alert_labels("CanaryMetricWorse", "warning", Some(metric))
    }

    /// Nobody must take a drill for the real thing.
    fn marked(&self, summary: String) -> String {
        match self.policy.drill {
            Some(_) => Said::new("drill").with("summary", summary).text(self.policy.language),
            None => summary,
        }
    }

    /// Each step of a ramp is news of its own.
    fn labels_of(&self, kind: Kind) -> Labels {
        let steps = self.policy.ramp.as_ref().map_or(&[][..], |r| &r.steps);
        let step = steps.get(self.ramp.step).filter(|_| kind == Kind::RampStep).map(u8::to_string);
        let labels = self.alert_labels(kind.as_str(), kind.severity(), None);
        let step = step.as_deref().map(|step| ("step", step));
        Labels::from_pairs(labels.iter().chain(step))
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
