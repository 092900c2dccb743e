//! From what the watch knows to what the API and the terminal show.

use davy_alerting::release::verdict_of;
use davy_api::{View, wire};
use davy_detector::{Calibration, Verdict};
use davy_store::control::{ActionRecord, ReleaseRecord};

use super::Watch;
use super::release::Running;
use crate::config::Config;

/// Ids of failed traces shown with a release.
pub(super) const TRACES_MAX: usize = 5;

impl Watch {
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What the API answers from until the next tick.
    pub fn view(&self) -> View {
        let running = self.running.values().rev().map(Running::shown);
        View {
            at: self.at,
            releases: running.chain(self.ended.iter().rev().cloned()).collect(),
            alerts: self.book.open().map(|(fingerprint, alert)| wire_alert(fingerprint, alert)).collect(),
            rules: Vec::new(),
            drills: Vec::new(),
            silences: self.book.silences().to_vec(),
            watched: self.thresholds.watched(),
            events: self.events.clone(),
            services: self.unjudged.clone(),
            calibrations: self.calibrations.iter().map(|(s, c)| calibration(s, c)).collect(),
            external_labels: self.config.external_labels.clone(),
            retention: self.config.storage.retention,
        }
    }
}

fn calibration(service: &str, known: &Calibration) -> wire::Calibration {
    wire::Calibration {
        service: service.to_owned(),
        releases: known.releases,
        aa_runs: known.aa_runs,
        aa_alarms: known.aa_alarms,
        false_alarm_rate: known.false_alarm_rate(),
    }
}

impl Running {
    pub(super) fn view(&self, traces: &[String]) -> wire::Release {
        let record = self.record();
        let machine = self.machine();
        let in_force = machine.step_in_force();
        let ramp = machine.policy().ramp.as_ref().map(|ramp| wire::Ramp {
            steps: ramp.steps.clone(),
            share: in_force.map(|(percent, _)| percent),
            since: in_force.map(|(_, since)| wire::rfc3339(since)),
            paused: machine.ramp_paused().map(str::to_owned),
        });
        wire::Release {
            ramp,
            awaits: machine.awaits().map(|(desired, _)| desired.as_str().to_owned()),
            sight: self.sight().map(|s| s.as_str().to_owned()),
            ..release(&record, self.verdict(), &self.actions(), traces)
        }
    }
}

/// A release that is over, from its record.
pub(super) fn ended(record: &ReleaseRecord, actions: &[ActionRecord]) -> wire::Release {
    release(record, verdict_of(record).ok().flatten().as_ref(), actions, &[])
}

fn release(
    record: &ReleaseRecord,
    verdict: Option<&Verdict>,
    actions: &[ActionRecord],
    traces: &[String],
) -> wire::Release {
    let evidence = verdict.map(wire::Evidence::new);
    wire::Release {
        id: record.id.clone(),
        generation: record.generation,
        service: record.service.clone(),
        baseline: record.baseline.clone(),
        canary: record.canary.clone(),
        phase: record.phase.clone(),
        verdict: verdict.map_or_else(|| record.verdict.clone(), |v| v.outcome.as_str().to_owned()),
        reason: match verdict {
            Some(v) if record.phase == "watching" => v.reason.clone(),
            Some(_) | None => record.reason.clone(),
        },
        started_at: wire::rfc3339(record.started_at),
        decided_at: record.decided_at.map(wire::rfc3339),
        traffic_share: evidence.as_ref().and_then(|e| e.traffic_share),
        evidence: evidence.as_ref().and_then(|e| e.evidence),
        contract: verdict.map_or("warming_up", |v| v.contract.as_str()).to_owned(),
        intervals: verdict.map_or(0, |v| v.intervals),
        metrics: evidence.map(|e| e.metrics).unwrap_or_default(),
        actions: actions.iter().map(action).collect(),
        traces: traces.to_vec(),
        ramp: None,
        awaits: None,
        sight: None,
    }
}

fn action(a: &ActionRecord) -> wire::Action {
    wire::Action {
        id: a.id.clone(),
        kind: a.kind.clone(),
        state: a.state.clone(),
        attempts: a.attempts,
        at: wire::rfc3339(a.at),
        detail: a.detail.clone(),
    }
}

fn wire_alert(fingerprint: &str, alert: &davy_alerting::alert::Alert) -> wire::Alert {
    wire::Alert {
        fingerprint: fingerprint.to_owned(),
        labels: alert.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        annotations: alert.annotations.clone(),
        starts_at: wire::rfc3339(alert.starts_at),
        ends_at: alert.ends_at.map(wire::rfc3339),
    }
}
