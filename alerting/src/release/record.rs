//! A release machine as it stands in the control database. An edge: the serde shapes are private.
//!
//! A row from a newer version is refused. Its release is then neither judged nor acted on: whoever reads it
//! raises [`record_alert`], and must not open another release for the same two versions.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_detector::Verdict;
use davy_model::{Labels, Timestamp, name};
use davy_store::control::{ActionRecord, ControlBatch, ReleaseRecord};
use serde::{Deserialize, Serialize};

use super::alerts::Kind;
use super::look::Streaks;
use super::verdict_json::{VerdictShape, outcome};
use super::{Command, Phase, ReleaseMachine, Rollback, RollbackState};
use crate::alert::{ALERTNAME, Alert, DESCRIPTION, RELEASE, SEVERITY, SUMMARY};
use crate::config::Policy;
use crate::record::{RecordError, read, write};

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Detail {
    format: u32,
    since: i64,
    decided: Option<(String, i64)>,
    failing: bool,
    held_by: Option<String>,
    overridden_by: Option<String>,
    superseded_by: Option<String>,
    rollback: Option<RollbackShape>,
    share_at_call: Option<f64>,
    verified_for_ms: u64,
    seen_at: i64,
    raised: Vec<String>,
    worse_metrics: Vec<String>,
    verdict: Option<VerdictShape>,
}

#[derive(Serialize, Deserialize)]
struct RollbackShape {
    key: String,
    actuator: String,
    reason: String,
    ordered_by: Option<String>,
    intended_at: i64,
    attempts: u32,
    state: String,
    /// With state `waiting`: when the next attempt is due.
    next_attempt_at: Option<i64>,
    detail: String,
}

#[derive(Serialize)]
struct ActionDetail<'a> {
    actuator: &'a str,
    from_version: &'a str,
    to_version: &'a str,
    reason: &'a str,
    ordered_by: Option<&'a str>,
    detail: &'a str,
}

impl ReleaseMachine {
    pub fn to_record(&self) -> ReleaseRecord {
        let detail = Detail {
            format: FORMAT,
            since: self.since.as_millis(),
            decided: self.decided.map(|(o, at)| (o.as_str().to_owned(), at.as_millis())),
            failing: self.failing,
            held_by: self.held_by.clone(),
            overridden_by: self.overridden_by.clone(),
            superseded_by: self.superseded_by.clone(),
            rollback: self.rollback.as_ref().map(RollbackShape::of),
            share_at_call: self.share_at_call,
            verified_for_ms: u64::try_from(self.verified_for.as_millis()).unwrap_or(u64::MAX),
            seen_at: self.seen_at.as_millis(),
            raised: self.raised.iter().map(|k| k.as_str().to_owned()).collect(),
            worse_metrics: self.worse_metrics.iter().cloned().collect(),
            verdict: self.verdict.as_ref().map(VerdictShape::of),
        };
        ReleaseRecord {
            generation: self.generation,
            id: self.id.clone(),
            service: self.service.clone(),
            baseline: self.baseline.clone(),
            canary: self.canary.clone(),
            phase: self.phase.as_str().to_owned(),
            verdict: self.verdict.as_ref().map_or("insufficient", |v| v.outcome.as_str()).to_owned(),
            reason: self.reason.clone(),
            started_at: self.started_at,
            decided_at: self.decided.map(|(_, at)| at),
            detail: write(&detail),
        }
    }

    /// Reads a machine back. Follow it with [`Event::Restarted`](super::Event::Restarted).
    pub fn from_record(record: &ReleaseRecord, policy: Policy) -> Result<Self, RecordError> {
        let unknown = |field, got: &str| RecordError::Unknown {
            what: "release",
            id: record.id.clone(),
            field,
            got: got.to_owned(),
        };
        let phase = Phase::parse(&record.phase).ok_or_else(|| unknown("phase", &record.phase))?;
        let detail: Detail = read("release", &record.id, &record.detail, FORMAT)?;
        let decided = match detail.decided {
            Some((o, at)) => {
                Some((outcome(&o).ok_or_else(|| unknown("verdict", &o))?, Timestamp::from_millis(at)))
            }
            None => None,
        };
        let kind = |name: &String| Kind::ALL.into_iter().find(|k| k.as_str() == name);
        let rollback = match detail.rollback {
            Some(shape) => {
                let state = shape.state.clone();
                Some(shape.rollback().ok_or_else(|| unknown("rollback state", &state))?)
            }
            None => None,
        };
        let needs_rollback = matches!(phase, Phase::RollingBack | Phase::Verifying | Phase::RolledBack);
        if needs_rollback && rollback.is_none() {
            return Err(RecordError::Unreadable {
                what: "release",
                id: record.id.clone(),
                detail: format!("phase {} without a rollback", phase.as_str()),
            });
        }
        Ok(Self {
            generation: record.generation,
            id: record.id.clone(),
            service: record.service.clone(),
            baseline: record.baseline.clone(),
            canary: record.canary.clone(),
            policy,
            started_at: record.started_at,
            phase,
            since: Timestamp::from_millis(detail.since),
            reason: record.reason.clone(),
            verdict: match detail.verdict {
                Some(shape) => Some(shape.verdict().ok_or_else(|| unknown("verdict", "in the detail"))?),
                None => None,
            },
            decided,
            failing: detail.failing,
            failed_at: None,
            held_by: detail.held_by,
            overridden_by: detail.overridden_by,
            superseded_by: detail.superseded_by,
            rollback,
            share_at_call: detail.share_at_call,
            verified_for: Duration::from_millis(detail.verified_for_ms),
            look: None,
            streaks: Streaks::default(),
            seen_at: Timestamp::from_millis(detail.seen_at),
            raised: detail
                .raised
                .iter()
                .map(|name| kind(name).ok_or_else(|| unknown("alert", name)))
                .collect::<Result<_, _>>()?,
            worse_metrics: detail.worse_metrics.into_iter().collect(),
        })
    }

    /// State, action and audit rows of one step: write them in one transaction, together with what the
    /// dispatcher makes of the alerts, before performing the commands.
    pub fn batch(&self, commands: &[Command]) -> ControlBatch {
        let audit = commands.iter().filter_map(|c| match c {
            Command::Audit(row) => Some(row.clone()),
            Command::Raise(_) | Command::Resolve { .. } | Command::Call(_) => None,
        });
        ControlBatch {
            releases: vec![self.to_record()],
            actions: self.action_records(),
            audit: audit.collect(),
            ..ControlBatch::default()
        }
    }

    pub fn action_records(&self) -> Vec<ActionRecord> {
        let record = |r: &Rollback| ActionRecord {
            id: r.key.clone(),
            generation: self.generation,
            kind: "rollback".to_owned(),
            state: r.state.as_str().to_owned(),
            attempts: r.attempts,
            at: r.intended_at,
            detail: write(&ActionDetail {
                actuator: &r.actuator,
                from_version: &self.canary,
                to_version: &self.baseline,
                reason: &r.reason,
                ordered_by: r.ordered_by.as_deref(),
                detail: &r.detail,
            }),
        };
        self.rollback.iter().map(record).collect()
    }
}

impl RollbackShape {
    fn of(r: &Rollback) -> Self {
        let next_attempt_at = match r.state {
            RollbackState::Waiting(until) => Some(until.as_millis()),
            _ => None,
        };
        Self {
            key: r.key.clone(),
            actuator: r.actuator.clone(),
            reason: r.reason.clone(),
            ordered_by: r.ordered_by.clone(),
            intended_at: r.intended_at.as_millis(),
            attempts: r.attempts,
            state: r.state.as_str().to_owned(),
            next_attempt_at,
            detail: r.detail.clone(),
        }
    }

    fn rollback(self) -> Option<Rollback> {
        let state = match (self.state.as_str(), self.next_attempt_at) {
            ("calling", _) => RollbackState::Calling,
            ("waiting", Some(at)) => RollbackState::Waiting(Timestamp::from_millis(at)),
            ("undelivered", _) => RollbackState::Undelivered,
            ("accepted", _) => RollbackState::Accepted,
            ("rejected", _) => RollbackState::Rejected,
            ("unknown", _) => RollbackState::Unknown,
            ("verified", _) => RollbackState::Verified,
            ("unverified", _) => RollbackState::Unverified,
            _ => return None,
        };
        Some(Rollback {
            key: self.key,
            actuator: self.actuator,
            reason: self.reason,
            ordered_by: self.ordered_by,
            intended_at: Timestamp::from_millis(self.intended_at),
            attempts: self.attempts,
            state,
            detail: self.detail,
        })
    }
}

/// The last verdict of a row, in full, for showing.
pub fn verdict_of(record: &ReleaseRecord) -> Result<Option<Verdict>, RecordError> {
    let detail: Detail = read("release", &record.id, &record.detail, FORMAT)?;
    Ok(detail.verdict.and_then(VerdictShape::verdict))
}

/// Says that a release cannot be read back: the machine pages, and does nothing else.
pub fn record_alert(record: &ReleaseRecord, error: &RecordError, now: Timestamp) -> Alert {
    let labels = Labels::from_pairs([
        (ALERTNAME, "ReleaseUnreadable"),
        (SEVERITY, "critical"),
        (RELEASE, record.id.as_str()),
        (name::SERVICE, &record.service),
        (name::VERSION, &record.canary),
    ]);
    let summary = format!("{}: the state of the release of {} cannot be read", record.service, record.canary);
    let description = format!("{error}; nothing is judged or rolled back for it");
    let annotations = BTreeMap::from([(SUMMARY.to_owned(), summary), (DESCRIPTION.to_owned(), description)]);
    Alert::new(labels, annotations, now)
}
