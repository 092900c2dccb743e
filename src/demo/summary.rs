//! What is left when the story is over: a few sentences for people, the same as JSON for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use davy_api::wire::{Action, Metric, Release};
use serde::Serialize;

use super::ramp::{self, Ramp};
use super::record::{Record, Sighting};
use super::service::Fault;
use super::splitter::{About, Answer, ArmCounts};
use crate::terminal::{level, relative};

/// `--json`: fields are only ever added.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) ok: bool,
    /// What went otherwise than the scenario says.
    problems: Vec<String>,
    scenario: &'static str,
    seed: u64,
    duration_seconds: f64,
    service: String,
    baseline: String,
    canary: String,
    canary_weight: u8,
    splitter: About,
    deployed_at_seconds: Option<f64>,
    injected: Option<Injected>,
    ramp: RampLine,
    seen: Option<Seen>,
    rollback: Rollback,
    verified: Option<Verified>,
    traffic: Traffic,
    alerts: Vec<AlertLine>,
    /// The last verdict's metrics.
    metrics: Vec<Metric>,
    /// Looks at the release API that got no answer.
    blind_looks: u64,
    events: Vec<EventLine>,
}

/// How the canary's share grew.
#[derive(Debug, Serialize)]
struct RampLine {
    planned: Vec<u8>,
    steps: Vec<StepLine>,
    /// Whether the canary had all of the traffic at the end.
    complete: bool,
    paused: Option<String>,
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Serialize)]
struct StepLine {
    share: u8,
    at_seconds: f64,
    /// `None` while it is in force.
    until_seconds: Option<f64>,
    /// What ended it.
    verdict: Option<String>,
    reason: Option<String>,
    key: String,
}

#[derive(Debug, Serialize)]
struct Injected {
    at_seconds: f64,
    /// The canary's, in per cent.
    share: u8,
    fault: Option<Fault>,
    canary_requests: u64,
}

#[derive(Debug, Serialize)]
struct Seen {
    at_seconds: f64,
    after_injection_seconds: Option<f64>,
    canary_requests_after_injection: Option<u64>,
    metric: Option<Metric>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Rollback {
    /// All calls, refused and repeated ones included.
    calls: usize,
    applied: usize,
    at_seconds: Option<f64>,
    after_injection_seconds: Option<f64>,
    idempotency_key: Option<String>,
    release_id: Option<String>,
    from_version: Option<String>,
    to_version: Option<String>,
    expected_revision: Option<String>,
    expected_generation: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Verified {
    at_seconds: f64,
    phase: String,
    reason: String,
    /// Davy's own state of the action.
    action_state: Option<String>,
    /// What the call came to.
    action_detail: Option<String>,
}

#[derive(Debug, Serialize)]
struct Traffic {
    weights: std::collections::BTreeMap<String, u32>,
    baseline: ArmCounts,
    canary: ArmCounts,
    /// `None` without a rollback.
    canary_requests_after_rollback: Option<u64>,
    /// The same of the baseline.
    baseline_after_rollback: Option<ArmCounts>,
    sent: u64,
    good: u64,
    errors: u64,
    shed: u64,
    per_second: f64,
}

#[derive(Debug, Serialize)]
struct AlertLine {
    at_seconds: f64,
    channel: &'static str,
    title: String,
}

#[derive(Debug, Serialize)]
struct EventLine {
    at_seconds: f64,
    text: String,
}

impl Summary {
    pub(super) fn of(record: &Record, problems: Vec<String>) -> Self {
        let last = &record.last;
        let spent = last.at.as_secs_f64();
        Self {
            ok: problems.is_empty(),
            problems,
            scenario: record.scenario.as_str(),
            seed: record.seed,
            duration_seconds: rounded(last.at),
            service: record.service.clone(),
            baseline: record.baseline.clone(),
            canary: record.canary.clone(),
            canary_weight: record.weight,
            splitter: record.splitter.clone(),
            deployed_at_seconds: record.deployed_at.map(rounded),
            injected: record.injected.map(|injected| Injected {
                at_seconds: rounded(injected.at),
                share: injected.share,
                fault: record.scenario.fault(),
                canary_requests: injected.canary_requests,
            }),
            ramp: RampLine::of(&record.ramp),
            seen: record.seen.as_ref().map(|seen| Seen::of(seen, record)),
            rollback: Rollback::of(record),
            verified: record.rolled_back_at.zip(last.release.as_ref()).map(|(at, release)| Verified {
                at_seconds: rounded(at),
                phase: release.phase.clone(),
                reason: release.reason.clone(),
                action_state: rollback_of(release).map(|action| action.state.clone()),
                action_detail: rollback_of(release).map(detail),
            }),
            traffic: Traffic {
                weights: last.shares.clone(),
                baseline: last.stable,
                canary: last.canary,
                canary_requests_after_rollback: record
                    .applied()
                    .next()
                    .map(|call| last.canary.requests.saturating_sub(call.change.canary.requests)),
                baseline_after_rollback: record.applied().next().map(|call| ArmCounts {
                    requests: last.stable.requests.saturating_sub(call.change.baseline.requests),
                    errors: last.stable.errors.saturating_sub(call.change.baseline.errors),
                }),
                sent: last.load.sent,
                good: last.load.good,
                errors: last.load.errors,
                shed: last.load.shed,
                per_second: if spent > 0.0 { last.load.sent as f64 / spent } else { 0.0 },
            },
            alerts: record
                .arrivals
                .iter()
                .map(|arrival| AlertLine {
                    at_seconds: rounded(arrival.at),
                    channel: arrival.letter.channel.as_str(),
                    title: arrival.letter.title.clone(),
                })
                .collect(),
            metrics: last.release.as_ref().map_or_else(Vec::new, |release| release.metrics.clone()),
            blind_looks: record.blind_looks,
            events: record
                .events
                .iter()
                .map(|event| EventLine { at_seconds: rounded(event.at), text: event.text.clone() })
                .collect(),
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("the summary is plain data") + "\n"
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, what: String| {
            let _ = writeln!(text, "{name:<10} {what}");
        };
        line("splitter", format!("{}: {}", self.splitter.name(), self.splitter.why));
        line("ramp", self.ramp.text.clone());
        match &self.injected {
            None => line("injected", "nothing".to_owned()),
            Some(injected) => line(
                "injected",
                format!(
                    "{} after {:.1} s, at {} %, {} requests into {}",
                    self.scenario, injected.at_seconds, injected.share, injected.canary_requests, self.canary
                ),
            ),
        }
        line("seen", self.seen.as_ref().map_or_else(|| "no fail verdict".to_owned(), Seen::to_text));
        if let Some(metric) = self.seen.as_ref().and_then(|seen| seen.metric.as_ref()) {
            line("", describe(metric));
        }
        line("called", self.rollback.to_text());
        match &self.verified {
            Some(verified) => {
                let action = verified.action_state.as_deref().unwrap_or("unknown");
                let (phase, at, reason) = (&verified.phase, verified.at_seconds, &verified.reason);
                line("verified", format!("{phase} after {at:.1} s, action {action}: {reason}"));
            }
            None if self.rollback.calls > 0 => line("verified", "no".to_owned()),
            None => {}
        }
        line("traffic", self.traffic.to_text(&self.baseline, &self.canary));
        let arrived = |channel| self.alerts.iter().filter(|alert| alert.channel == channel).count();
        line(
            "alerts",
            format!(
                "{} by webhook, {} by Slack, {} by mail",
                arrived("webhook"),
                arrived("slack"),
                arrived("email")
            ),
        );
        match self.ok {
            true => line("ending", format!("as scenario {} says", self.scenario)),
            false => {
                for problem in &self.problems {
                    line("WRONG", problem.clone());
                }
            }
        }
        text
    }
}

impl Seen {
    fn of(seen: &Sighting, record: &Record) -> Self {
        let injected = record.injected;
        Self {
            at_seconds: rounded(seen.at),
            after_injection_seconds: injected.and_then(|i| seen.at.checked_sub(i.at)).map(rounded),
            canary_requests_after_injection: injected
                .and_then(|i| seen.canary_requests.checked_sub(i.canary_requests)),
            metric: seen.deciding.clone(),
            reason: seen.reason.clone(),
        }
    }

    fn to_text(&self) -> String {
        match (self.after_injection_seconds, self.canary_requests_after_injection) {
            (Some(seconds), Some(requests)) => {
                format!("{seconds:.1} s and {requests} canary requests after the injection")
            }
            _ => format!("after {:.1} s, without an injection", self.at_seconds),
        }
    }
}

/// The release's action that brought the baseline back.
fn rollback_of(release: &Release) -> Option<&Action> {
    release.actions.iter().rev().find(|action| action.kind == "rollback")
}

/// The release API has the call as JSON in it.
fn detail(action: &Action) -> String {
    let call: Option<serde_json::Value> = serde_json::from_str(&action.detail).ok();
    let said = call.as_ref().and_then(|call| call["detail"].as_str());
    said.unwrap_or(&action.detail).to_owned()
}

impl RampLine {
    fn of(ramp: &Ramp) -> Self {
        let step = |step: &ramp::Step| StepLine {
            share: step.share,
            at_seconds: rounded(step.at),
            until_seconds: step.until.map(rounded),
            verdict: step.decision.as_ref().map(|decision| decision.verdict.clone()),
            reason: step.decision.as_ref().map(|decision| decision.reason.clone()),
            key: step.key.clone(),
        };
        Self {
            planned: ramp.planned.clone(),
            steps: ramp.steps.iter().map(step).collect(),
            complete: ramp.is_complete(),
            paused: ramp.paused.clone(),
            text: ramp.to_text(),
        }
    }
}

impl Rollback {
    fn of(record: &Record) -> Self {
        let first = record.applied().next().or(record.rollbacks().next());
        let order = first.and_then(|call| call.change.order.as_ref());
        let body = order.and_then(|order| order.call.as_ref());
        Self {
            calls: record.rollbacks().count(),
            applied: record.rollbacks().filter(|c| c.change.answer == Answer::Applied).count(),
            at_seconds: first.map(|call| rounded(call.at)),
            after_injection_seconds: first
                .zip(record.injected)
                .and_then(|(call, injected)| call.at.checked_sub(injected.at))
                .map(rounded),
            idempotency_key: first.map(|call| call.change.key.clone()),
            release_id: body.map(|body| body.release_id.clone()),
            from_version: order.map(|order| order.canary.clone()),
            to_version: order.map(|order| order.baseline.clone()),
            expected_revision: body.and_then(|body| body.expected_revision.clone()),
            expected_generation: body.and_then(|body| body.expected_generation),
        }
    }

    fn to_text(&self) -> String {
        let (Some(at), Some(from), Some(to)) = (self.at_seconds, &self.from_version, &self.to_version) else {
            return format!("{} rollbacks", self.calls);
        };
        format!(
            "rollback {from} to {to} after {at:.1} s, {} {}, key {}",
            self.calls,
            if self.calls == 1 { "call" } else { "calls" },
            self.idempotency_key.as_deref().unwrap_or("none"),
        )
    }
}

impl Traffic {
    fn to_text(&self, baseline: &str, canary: &str) -> String {
        let weights: Vec<String> = self.weights.iter().map(|(v, weight)| format!("{v} {weight} %")).collect();
        let after = match (self.canary_requests_after_rollback, self.baseline_after_rollback) {
            (Some(requests), Some(b)) => format!(
                ", after the rollback {requests} to {canary} and {} ({} errors) to {baseline}",
                b.requests, b.errors
            ),
            _ => String::new(),
        };
        format!(
            "{:.0} requests/s; {} to {baseline} ({} errors), {} to {canary} ({} errors){after}; now {}",
            self.per_second,
            self.baseline.requests,
            self.baseline.errors,
            self.canary.requests,
            self.canary.errors,
            weights.join(", "),
        )
    }
}

fn describe(metric: &Metric) -> String {
    let levels = format!(
        "{}: {} against {}",
        metric.name,
        level(&metric.class, metric.canary),
        level(&metric.class, metric.baseline)
    );
    let evidence = format!("evidence {:.2} of 1", metric.evidence.unwrap_or(0.0));
    // A margin in the metric's own unit: its parts of the baseline say nothing.
    if metric.margin == 0.0 {
        return format!("{levels}, {evidence}");
    }
    format!(
        "{levels}, {} [{}, {}], {} tolerated, {evidence}",
        relative(metric.estimate),
        relative(metric.lower),
        relative(metric.upper),
        relative(Some(metric.margin)),
    )
}

/// Seconds to the millisecond.
fn rounded(at: Duration) -> f64 {
    (at.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::demo::{ending, samples};

    fn summary(record: &Record) -> Summary {
        Summary::of(record, ending::problems(record))
    }

    #[test]
    fn a_rollback_is_told_in_a_few_lines() {
        expect![[r#"
            splitter   the demo's own splitter: it was asked for
            ramp       25 % from 8.1 s pass → 50 % from 16.0 s fail → 0 % from 24.1 s
            injected   errors after 20.0 s, at 50 %, 1700 requests into v2
            seen       4.1 s and 490 canary requests after the injection
                       errors: 4.90 % against 0.100 %, ×49.0 [×12.2, ×89.0], +10.0 % tolerated, evidence 1.30 of 1
            called     rollback v2 to v1 after 24.1 s, 1 call, key rollback/v2/splitter/4
            verified   rolled_back after 31.0 s, action unknown: errors: 4.9 % against 0.1 % of the baseline
            traffic    212 requests/s; 9000 to v1 (9 errors), 2190 to v2 (54 errors), after the rollback 0 to v2 and 4620 (5 errors) to v1; now v1 100 %, v2 0 %
            alerts     1 by webhook, 1 by Slack, 1 by mail
            ending     as scenario errors says
        "#]].assert_eq(&summary(&samples::rolled_back()).to_text());
    }

    #[test]
    fn what_went_wrong_is_said_plainly() {
        let mut record = samples::rolled_back();
        record.calls.truncate(2);
        record.rolled_back_at = None;
        record.last.release = Some(samples::release("rolling_back", 0.049, 1.3));
        expect![[r#"
            splitter   the demo's own splitter: it was asked for
            ramp       25 % from 8.1 s pass → 50 % from 16.0 s fail → 0 % from 24.1 s
            injected   errors after 20.0 s, at 50 %, 1700 requests into v2
            seen       4.1 s and 490 canary requests after the injection
                       errors: 4.90 % against 0.100 %, ×49.0 [×12.2, ×89.0], +10.0 % tolerated, evidence 1.30 of 1
            called     0 rollbacks
            traffic    212 requests/s; 9000 to v1 (9 errors), 2190 to v2 (54 errors); now v1 100 %, v2 0 %
            alerts     1 by webhook, 1 by Slack, 1 by mail
            WRONG      the splitter was never rolled back
            WRONG      the rollback was not verified: the release's phase is rolling_back, not rolled_back
        "#]].assert_eq(&summary(&record).to_text());
    }

    #[test]
    fn the_json_has_the_figures_that_scripts_look_for() {
        let json: serde_json::Value =
            serde_json::from_str(&summary(&samples::rolled_back()).to_json()).unwrap();
        for (place, value) in [
            ("/ok", serde_json::json!(true)),
            ("/scenario", "errors".into()),
            ("/injected/at_seconds", 20.0.into()),
            ("/injected/fault", serde_json::json!({"kind": "errors", "strength": 0.05})),
            ("/seen/after_injection_seconds", 4.1.into()),
            ("/seen/canary_requests_after_injection", 490.into()),
            ("/seen/metric/name", "errors".into()),
            ("/rollback/calls", 1.into()),
            ("/rollback/idempotency_key", "rollback/v2/splitter/4".into()),
            ("/rollback/expected_generation", 4.into()),
            ("/splitter/kind", "builtin".into()),
            ("/ramp/planned", serde_json::json!([25, 50, 100])),
            ("/ramp/steps/0/share", 25.into()),
            ("/ramp/steps/0/verdict", "pass".into()),
            ("/ramp/steps/1/at_seconds", 16.0.into()),
            ("/ramp/steps/1/until_seconds", 24.1.into()),
            ("/ramp/steps/1/verdict", "fail".into()),
            ("/ramp/complete", false.into()),
            ("/injected/share", 50.into()),
            ("/traffic/baseline_after_rollback/requests", 4_620.into()),
            ("/verified/phase", "rolled_back".into()),
            ("/traffic/canary_requests_after_rollback", 0.into()),
            ("/traffic/weights/v2", 0.into()),
            ("/alerts/2/channel", "email".into()),
        ] {
            assert_eq!(json.pointer(place), Some(&value), "{place}");
        }
    }
}
