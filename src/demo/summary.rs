//! What is left when the story is over: a few sentences for people, the same as JSON for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use davy_api::wire::Metric;
use serde::Serialize;

use super::record::{Record, Sighting};
use super::service::Fault;
use super::splitter::{ArmCounts, RollbackAnswer, SplitState};
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
    canary_weight: u32,
    deployed_at_seconds: Option<f64>,
    injected: Option<Injected>,
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

#[derive(Debug, Serialize)]
struct Injected {
    at_seconds: f64,
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
}

#[derive(Debug, Serialize)]
struct Traffic {
    weights: std::collections::BTreeMap<String, u32>,
    baseline: ArmCounts,
    canary: ArmCounts,
    /// `None` without a rollback.
    canary_requests_after_rollback: Option<u64>,
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
    pub(super) fn of(record: &Record, problems: Vec<String>, split: SplitState) -> Self {
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
            deployed_at_seconds: record.deployed_at.map(rounded),
            injected: record.injected.map(|injected| Injected {
                at_seconds: rounded(injected.at),
                fault: record.scenario.fault(),
                canary_requests: injected.canary_requests,
            }),
            seen: record.seen.as_ref().map(|seen| Seen::of(seen, record)),
            rollback: Rollback::of(record),
            verified: record.rolled_back_at.zip(last.release.as_ref()).map(|(at, release)| Verified {
                at_seconds: rounded(at),
                phase: release.phase.clone(),
                reason: release.reason.clone(),
                action_state: release.actions.last().map(|action| action.state.clone()),
            }),
            traffic: Traffic {
                weights: split.weights,
                baseline: last.stable,
                canary: last.canary,
                canary_requests_after_rollback: record
                    .applied()
                    .next()
                    .map(|call| last.canary.requests.saturating_sub(call.call.canary_requests)),
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
        match &self.injected {
            None => line("injected", "nothing".to_owned()),
            Some(injected) => line(
                "injected",
                format!(
                    "{} after {:.1} s, {} requests into {}",
                    self.scenario, injected.at_seconds, injected.canary_requests, self.canary
                ),
            ),
        }
        line("seen", self.seen.as_ref().map_or_else(|| "no fail verdict".to_owned(), Seen::to_text));
        if let Some(metric) = self.seen.as_ref().and_then(|seen| seen.metric.as_ref()) {
            line("", describe(metric));
        }
        line("called", self.rollback.to_text());
        match &self.verified {
            Some(verified) => line(
                "verified",
                format!("{} after {:.1} s: {}", verified.phase, verified.at_seconds, verified.reason),
            ),
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

impl Rollback {
    fn of(record: &Record) -> Self {
        let first = record.applied().next().or(record.calls.first());
        let body = first.and_then(|call| call.call.body.as_ref());
        Self {
            calls: record.calls.len(),
            applied: record.calls.iter().filter(|c| c.call.answer == RollbackAnswer::Applied).count(),
            at_seconds: first.map(|call| rounded(call.at)),
            after_injection_seconds: first
                .zip(record.injected)
                .and_then(|(call, injected)| call.at.checked_sub(injected.at))
                .map(rounded),
            idempotency_key: first.map(|call| call.call.key.clone()),
            release_id: body.map(|body| body.release_id.clone()),
            from_version: body.map(|body| body.from_version.clone()),
            to_version: body.map(|body| body.to_version.clone()),
            expected_revision: body.and_then(|body| body.expect.revision.clone()),
            expected_generation: body.and_then(|body| body.expect.generation),
        }
    }

    fn to_text(&self) -> String {
        let (Some(at), Some(from), Some(to)) = (self.at_seconds, &self.from_version, &self.to_version) else {
            return format!("{} rollbacks", self.calls);
        };
        format!(
            "rollback {from} to {to} after {at:.1} s, {} {}, key {}, generation {}",
            self.calls,
            if self.calls == 1 { "call" } else { "calls" },
            self.idempotency_key.as_deref().unwrap_or("none"),
            self.expected_generation.map_or_else(|| "none".to_owned(), |generation| generation.to_string()),
        )
    }
}

impl Traffic {
    fn to_text(&self, baseline: &str, canary: &str) -> String {
        let weights: Vec<String> = self.weights.iter().map(|(v, weight)| format!("{v} {weight} %")).collect();
        let after = match self.canary_requests_after_rollback {
            Some(requests) => format!(", {requests} to {canary} after the rollback"),
            None => String::new(),
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
    format!(
        "{}: {} against {}, {} [{}, {}], {} tolerated, evidence {:.2} of 1",
        metric.name,
        level(&metric.class, metric.canary),
        level(&metric.class, metric.baseline),
        relative(metric.estimate),
        relative(metric.lower),
        relative(metric.upper),
        relative(Some(metric.margin)),
        metric.evidence.unwrap_or(0.0),
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
        let weights = [("v1".to_owned(), 100), ("v2".to_owned(), 0)].into();
        let split = SplitState { revision: "v2".to_owned(), generation: 2, weights };
        Summary::of(record, ending::problems(record), split)
    }

    #[test]
    fn a_rollback_is_told_in_a_few_lines() {
        expect![[r#"
            injected   errors after 20.0 s, 1700 requests into v2
            seen       4.1 s and 490 canary requests after the injection
                       errors: 4.90 % against 0.100 %, ×49.0 [×12.2, ×89.0], +10.0 % tolerated, evidence 1.30 of 1
            called     rollback v2 to v1 after 24.1 s, 1 call, key checkout-v2-1-rollback, generation 1
            verified   rolled_back after 31.0 s: errors: 4.9 % against 0.1 % of the baseline
            traffic    212 requests/s; 9000 to v1 (4 errors), 2190 to v2 (54 errors), 0 to v2 after the rollback; now v1 100 %, v2 0 %
            alerts     1 by webhook, 1 by Slack, 1 by mail
            ending     as scenario errors says
        "#]].assert_eq(&summary(&samples::rolled_back()).to_text());
    }

    #[test]
    fn what_went_wrong_is_said_plainly() {
        let mut record = samples::rolled_back();
        record.calls.clear();
        record.rolled_back_at = None;
        record.last.release = Some(samples::release("rolling_back", 0.049, 1.3));
        expect![[r#"
            injected   errors after 20.0 s, 1700 requests into v2
            seen       4.1 s and 490 canary requests after the injection
                       errors: 4.90 % against 0.100 %, ×49.0 [×12.2, ×89.0], +10.0 % tolerated, evidence 1.30 of 1
            called     0 rollbacks
            traffic    212 requests/s; 9000 to v1 (4 errors), 2190 to v2 (54 errors); now v1 100 %, v2 0 %
            alerts     1 by webhook, 1 by Slack, 1 by mail
            WRONG      the splitter's rollback was never called
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
            ("/rollback/idempotency_key", "checkout-v2-1-rollback".into()),
            ("/rollback/expected_generation", 1.into()),
            ("/verified/phase", "rolled_back".into()),
            ("/traffic/canary_requests_after_rollback", 0.into()),
            ("/traffic/weights/v2", 0.into()),
            ("/alerts/2/channel", "email".into()),
        ] {
            assert_eq!(json.pointer(place), Some(&value), "{place}");
        }
    }
}
