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

use super::act::{Act, ActState};
use super::alerts::Kind;
use super::approval::Asked;
use super::look::Streaks;
use super::ramp::RampRun;
use super::read::Known;
use super::verdict_json::{VerdictShape, outcome};
use super::{Command, Desired, Expect, Gates, Level, Phase, ReleaseMachine};
use crate::alert::{ALERTNAME, Alert, DESCRIPTION, RELEASE, SEVERITY, SUMMARY};
use crate::config::Policy;
use crate::record::{RecordError, read, write};
use crate::words::{Language, Said};

const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Detail {
    format: u32,
    since: i64,
    decided: Option<(String, i64)>,
    failing: bool,
    held_by: Option<String>,
    overridden_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heeded: Option<String>,
    superseded_by: Option<String>,
    rollback: Option<ActShape>,
    #[serde(default)]
    ramp: RampShape,
    #[serde(default)]
    done: Vec<ActShape>,
    #[serde(default)]
    acts: u32,
    /// By actuator: uid and generation of what is judged.
    #[serde(default)]
    known: BTreeMap<String, (String, String)>,
    /// What waits for a human, since when, and why.
    #[serde(default)]
    approval: Option<(u8, i64, String)>,
    share_at_call: Option<f64>,
    verified_for_ms: u64,
    seen_at: i64,
    raised: Vec<String>,
    worse_metrics: Vec<String>,
    verdict: Option<VerdictShape>,
}

#[derive(Default, Serialize, Deserialize)]
struct RampShape {
    started: bool,
    step: usize,
    since: i64,
    act: Option<ActShape>,
    paused: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ActShape {
    /// Called `key` in the first format, when only targets that cannot be asked were known.
    #[serde(alias = "key")]
    id: String,
    /// The canary's share, in percent.
    #[serde(default)]
    percent: u8,
    actuator: String,
    #[serde(default = "level_c")]
    level: String,
    /// uid, generation, token.
    #[serde(default)]
    expect: Option<(String, String, String)>,
    reason: String,
    ordered_by: Option<String>,
    intended_at: i64,
    attempts: u32,
    #[serde(default)]
    failures: u32,
    state: String,
    /// With state `waiting`: when the next attempt is due.
    next_attempt_at: Option<i64>,
    detail: String,
}

fn level_c() -> String {
    Level::C.as_str().to_owned()
}

#[derive(Serialize)]
struct ActionDetail<'a> {
    actuator: &'a str,
    level: &'a str,
    share: u8,
    key: String,
    target_generation: Option<&'a str>,
    from_version: &'a str,
    to_version: &'a str,
    reason: &'a str,
    ordered_by: Option<&'a str>,
    dry_run: bool,
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
            heeded: self.heeded.clone(),
            superseded_by: self.superseded_by.clone(),
            rollback: self.rollback.as_ref().map(ActShape::of),
            ramp: RampShape {
                started: self.ramp.started,
                step: self.ramp.step,
                since: self.ramp.since.as_millis(),
                act: self.ramp.act.as_ref().map(ActShape::of),
                paused: self.ramp.paused.clone(),
            },
            done: self.done.iter().map(ActShape::of).collect(),
            acts: self.acts,
            known: self
                .known
                .iter()
                .map(|(name, k)| (name.clone(), (k.uid.clone(), k.generation.clone())))
                .collect(),
            approval: self
                .approval
                .as_ref()
                .map(|a| (a.desired.percent(), a.since.as_millis(), a.reason.clone())),
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
        let act = |shape: ActShape| {
            let state = shape.state.clone();
            shape.act().ok_or_else(|| unknown("state of an act", &state))
        };
        let rollback = detail.rollback.map(act).transpose()?;
        let ramp = RampRun {
            started: detail.ramp.started,
            step: detail.ramp.step,
            since: Timestamp::from_millis(detail.ramp.since),
            act: detail.ramp.act.map(act).transpose()?,
            paused: detail.ramp.paused,
        };
        let known = |(name, (uid, generation))| (name, Known { uid, generation });
        let approval = detail.approval.map(|(percent, since, reason)| Asked {
            desired: Desired::of_percent(percent),
            since: Timestamp::from_millis(since),
            reason,
        });
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
            down_at: None,
            held_by: detail.held_by,
            overridden_by: detail.overridden_by,
            heeded: detail.heeded,
            superseded_by: detail.superseded_by,
            rollback,
            ramp,
            done: detail.done.into_iter().map(act).collect::<Result<_, _>>()?,
            acts: detail.acts,
            known: detail.known.into_iter().map(known).collect(),
            approval,
            gates: Gates::default(),
            reading: None,
            ticket: 0,
            read_due: Timestamp::from_millis(0),
            begin_failures: 0,
            read_back: false,
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
            Command::Raise(_) | Command::Resolve { .. } | Command::Read(_) | Command::Call(_) => None,
        });
        ControlBatch {
            releases: vec![self.to_record()],
            actions: self.action_records(),
            audit: audit.collect(),
            ..ControlBatch::default()
        }
    }

    pub fn action_records(&self) -> Vec<ActionRecord> {
        let record = |act: &Act| ActionRecord {
            id: act.id.clone(),
            generation: self.generation,
            kind: act.desired.as_str().to_owned(),
            state: act.state.as_str().to_owned(),
            attempts: act.attempts,
            at: act.intended_at,
            detail: write(&ActionDetail {
                actuator: &act.actuator,
                level: act.level.as_str(),
                share: act.desired.percent(),
                key: act.key(&self.canary),
                target_generation: act.expect.as_ref().map(|e| e.generation.as_str()),
                from_version: &self.canary,
                to_version: &self.baseline,
                reason: &act.reason,
                ordered_by: act.ordered_by.as_deref(),
                dry_run: self.policy.dry_run,
                detail: &act.detail,
            }),
        };
        self.done.iter().chain(&self.rollback).chain(&self.ramp.act).map(record).collect()
    }
}

impl ActShape {
    fn of(act: &Act) -> Self {
        let next_attempt_at = match act.state {
            ActState::Waiting(until) => Some(until.as_millis()),
            _ => None,
        };
        let expect = act.expect.as_ref();
        Self {
            id: act.id.clone(),
            percent: act.desired.percent(),
            actuator: act.actuator.clone(),
            level: act.level.as_str().to_owned(),
            expect: expect.map(|e| (e.uid.clone(), e.generation.clone(), e.token.clone())),
            reason: act.reason.clone(),
            ordered_by: act.ordered_by.clone(),
            intended_at: act.intended_at.as_millis(),
            attempts: act.attempts,
            failures: act.failures,
            state: act.state.as_str().to_owned(),
            next_attempt_at,
            detail: act.detail.clone(),
        }
    }

    fn act(self) -> Option<Act> {
        let level = [Level::A, Level::B, Level::C].into_iter().find(|l| l.as_str() == self.level)?;
        let expect = |(uid, generation, token)| Expect { uid, generation, token };
        Some(Act {
            id: self.id,
            desired: Desired::of_percent(self.percent),
            actuator: self.actuator,
            level,
            expect: self.expect.map(expect),
            reason: self.reason,
            ordered_by: self.ordered_by,
            intended_at: Timestamp::from_millis(self.intended_at),
            attempts: self.attempts,
            failures: self.failures,
            state: ActState::parse(&self.state, self.next_attempt_at.map(Timestamp::from_millis))?,
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
pub fn record_alert(
    record: &ReleaseRecord,
    error: &RecordError,
    language: Language,
    now: Timestamp,
) -> Alert {
    let labels = Labels::from_pairs([
        (ALERTNAME, "ReleaseUnreadable"),
        (SEVERITY, "critical"),
        (RELEASE, record.id.as_str()),
        (name::SERVICE, &record.service),
        (name::VERSION, &record.canary),
    ]);
    let said = Said::new("summary.ReleaseUnreadable").with("service", &record.service);
    let summary = said.with("canary", &record.canary).text(language);
    let description = Said::new("done.not_judged").with("why", error).text(language);
    let annotations = BTreeMap::from([(SUMMARY.to_owned(), summary), (DESCRIPTION.to_owned(), description)]);
    Alert::new(labels, annotations, now)
}
