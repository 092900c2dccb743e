//! What the metrics say of releases: the figures of the verdict, and every state as a number that a board can map
//! to a word ([`davy_dashboards::states`]).

use davy_api::wire;
use davy_dashboards::states;
use std::sync::Arc;

use super::families::{Pairs, Point};
use super::story::Story;

pub(super) const TABLE: &[(&str, &str)] = &[
    ("release_info", "Releases that Davy knows"),
    ("release_phase", "1 for the phase that a release is in"),
    ("release_phase_code", "The phase that a release is in, as a number"),
    ("release_verdict", "1 for the verdict that a release has"),
    ("release_verdict_code", "The verdict: 0 not decided, 1 pass, 2 fail"),
    ("release_contract", "1 for ok, or for what keeps the data from being judged"),
    ("release_contract_code", "Whether the data can be judged, as a number; 0 is ok"),
    ("release_traffic_share", "Canary's share of both arms' requests"),
    ("release_ramp_share", "Canary's share that the ramp has reached"),
    ("release_ramp_paused", "1 while the ramp waits for an operator"),
    ("release_awaits_approval", "1 for what waits for a human's approval"),
    ("release_sight", "1 for what is seen of the canary, or what stands in the way"),
    ("release_sight_code", "What is seen of the canary, as a number; 0 is everything"),
    ("release_intervals", "Intervals judged so far"),
    ("release_evidence_boundary", "Evidence at which the canary counts as worse"),
    ("release_started_timestamp_ms", "When the canary appeared beside the baseline"),
    ("release_event_timestamp_ms", "When something happened to the release"),
    ("release_action_code", "How the action on the release stands, as a number"),
    ("release_action_attempts", "Calls made for the action"),
    ("canary_estimate", "Relative difference, canary over baseline less one"),
    ("canary_lower", "Lower bound of the relative difference"),
    ("canary_upper", "Upper bound of the relative difference"),
    ("canary_margin", "Relative difference that is tolerated"),
    ("canary_evidence", "Evidence that the canary is worse; 1 suffices alone"),
    ("canary_level", "Level of an arm so far: a share, seconds, cores, bytes, or the gauge's own unit"),
    ("canary_observations", "Requests, or observations of a gauge, behind an arm"),
    ("canary_verdict_code", "Verdict on one metric: 0 not decided, 1 pass, 2 fail"),
    ("canary_reason", "1 for why the metric has its verdict"),
    ("canary_reason_code", "Why the metric has its verdict, as a number"),
    ("canary_needed_requests", "Canary requests still to come until the metric can be decided"),
    ("canary_needed_seconds", "Time until the metric can be decided at the present traffic"),
];

/// Evidence is told as a share of what a rollback needs.
const BOUNDARY: f64 = 1.0;
/// Stands for all metrics together.
const WHOLE: &str = "release";

/// Every series about releases as they stand. `story` has heard of them.
pub(super) fn points(releases: &[Arc<wire::Release>], story: &Story) -> Vec<Point> {
    let mut points = Points::default();
    for r in releases {
        let Some(events) = story.of(r) else { continue };
        let of = labels(r);
        points.add("release_info", &of, &[], 1.0);
        points.state(&of, ["release_phase", "release_phase_code"], &r.phase, states::PHASES);
        points.state(&of, ["release_verdict", "release_verdict_code"], &r.verdict, states::VERDICTS);
        points.some("release_started_timestamp_ms", &of, &[], events.get("deploy").map(|at| *at as f64));
        for (event, at) in events {
            points.add("release_event_timestamp_ms", &of, &[("event", event)], *at as f64);
        }
        if let Some(ramp) = &r.ramp {
            points.some("release_ramp_share", &of, &[], ramp.share.map(|s| f64::from(s) / 100.0));
            points.add("release_ramp_paused", &of, &[], f64::from(u8::from(ramp.paused.is_some())));
        }
        if let Some(act) = &r.awaits {
            points.add("release_awaits_approval", &of, &[("action", act.as_str())], 1.0);
        }
        if let Some(sight) = &r.sight {
            points.add("release_sight", &of, &[("sight", sight.as_str())], 1.0);
            points.some("release_sight_code", &of, &[], states::code(states::SIGHTS, sight));
        }
        for a in &r.actions {
            let kind = [("kind", a.kind.as_str())];
            points.some("release_action_code", &of, &kind, states::code(states::ACTIONS, &a.state));
            points.add("release_action_attempts", &of, &kind, f64::from(a.attempts));
        }
        if r.phase != "closed" {
            points.judged(&of, r);
        }
    }
    points.0
}

#[derive(Default)]
struct Points(Vec<Point>);

impl Points {
    fn add(&mut self, name: &'static str, of: &Pairs, more: &[(&'static str, &str)], value: f64) {
        let more = more.iter().map(|(n, v)| (*n, (*v).to_owned()));
        self.0.push((name, of.iter().cloned().chain(more).collect(), value));
    }

    fn some(&mut self, name: &'static str, of: &Pairs, more: &[(&'static str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.add(name, of, more, value);
        }
    }

    /// A state as the label of a 1, and as a number.
    fn state(&mut self, of: &Pairs, names: [&'static str; 2], state: &str, table: states::Table) {
        self.add(names[0], of, &[("state", state)], 1.0);
        self.some(names[1], of, &[], states::code(table, state));
    }

    /// What the judge says while the release runs.
    fn judged(&mut self, of: &Pairs, r: &wire::Release) {
        self.state(of, ["release_contract", "release_contract_code"], &r.contract, states::CONTRACTS);
        self.some("release_traffic_share", of, &[], r.traffic_share);
        self.add("release_intervals", of, &[], r.intervals as f64);
        self.add("release_evidence_boundary", of, &[], BOUNDARY);
        self.some("canary_evidence", of, &[("metric", WHOLE), ("class", WHOLE)], r.evidence);
        for m in &r.metrics {
            self.metric(of, r, m);
        }
    }

    fn metric(&mut self, of: &Pairs, r: &wire::Release, m: &wire::Metric) {
        let metric = [("metric", m.name.as_str()), ("class", m.class.as_str())];
        self.some("canary_estimate", of, &metric, m.estimate);
        self.some("canary_lower", of, &metric, m.lower);
        self.some("canary_upper", of, &metric, m.upper);
        self.add("canary_margin", of, &metric, m.margin);
        self.some("canary_evidence", of, &metric, m.evidence);
        self.some("canary_verdict_code", of, &metric, states::code(states::VERDICTS, &m.verdict));
        let [name, class] = metric;
        self.add("canary_reason", of, &[name, class, ("reason", reason(r, m))], 1.0);
        self.some("canary_reason_code", of, &metric, states::code(states::REASONS, reason(r, m)));
        let arms = [("baseline", m.baseline, m.baseline_n), ("canary", m.canary, m.canary_n)];
        for (arm, level, n) in arms {
            self.some("canary_level", of, &[name, class, ("arm", arm)], level);
            self.add("canary_observations", of, &[name, class, ("arm", arm)], n);
        }
        if let Some(needed) = m.needed {
            self.add("canary_needed_requests", of, &metric, needed.requests as f64);
            self.some("canary_needed_seconds", of, &metric, needed.seconds.map(|s| s as f64));
        }
    }
}

fn labels(r: &wire::Release) -> Pairs {
    vec![
        ("service", r.service.clone()),
        ("baseline", r.baseline.clone()),
        ("canary", r.canary.clone()),
        ("id", r.id.clone()),
    ]
}

/// The verdict's sentence holds figures that change with every interval; a label takes one of a few words.
fn reason<'a>(r: &'a wire::Release, m: &wire::Metric) -> &'a str {
    match (m.verdict.as_str(), r.contract.as_str()) {
        ("fail", _) => "worse",
        ("pass", _) => "no_worse",
        (_, contract) if contract != "ok" => contract,
        _ if m.baseline.is_none() || m.canary.is_none() => "nothing_to_compare",
        _ => match m.needed {
            Some(wire::Needed { seconds: None, .. }) => "never_at_this_traffic",
            Some(_) => "needs_more_data",
            None => "undecided",
        },
    }
}

#[cfg(test)]
mod tests {
    use davy_alerting::release::Phase;
    use davy_detector::{Contract, Outcome};
    use davy_model::Timestamp;
    use expect_test::expect;

    use super::super::story::tests::release;
    use super::*;

    fn lines(releases: &[Arc<wire::Release>]) -> String {
        let mut story = Story::default();
        story.hear(releases, Timestamp::from_millis(170_000));
        let line = |(name, labels, value): Point| {
            let more: Vec<String> = labels[4..].iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{name}{{{}}} {value}\n", more.join(","))
        };
        points(releases, &story).into_iter().map(line).collect()
    }

    #[test]
    fn every_sight_has_its_number() {
        let named: Vec<&str> = states::SIGHTS.iter().map(|s| s.name).collect();
        assert_eq!(
            named,
            davy_alerting::release::quorum::Sight::ALL.map(davy_alerting::release::quorum::Sight::as_str)
        );
    }

    #[test]
    fn a_release_is_told_in_numbers() {
        let mut r = release("verifying", "fail");
        r.metrics.push(wire::Metric {
            name: "latency_p99".into(),
            class: "latency".into(),
            verdict: "insufficient".into(),
            baseline: Some(0.1),
            canary: Some(0.12),
            estimate: Some(0.2),
            lower: None,
            upper: Some(0.5),
            margin: 0.1,
            evidence: Some(0.25),
            baseline_n: 900.0,
            canary_n: 100.0,
            needed: Some(wire::Needed { requests: 400, seconds: None }),
            source: String::new(),
            reason: "a sentence with 400 in it".into(),
        });
        r.actions.push(wire::Action {
            id: "k".into(),
            kind: "rollback".into(),
            state: "accepted".into(),
            attempts: 1,
            at: wire::rfc3339(Timestamp::from_millis(165_000)),
            detail: String::new(),
        });
        expect![[r#"
            release_info{} 1
            release_phase{state=verifying} 1
            release_phase_code{} 5
            release_verdict{state=fail} 1
            release_verdict_code{} 2
            release_started_timestamp_ms{} 100000
            release_event_timestamp_ms{event=deploy} 100000
            release_event_timestamp_ms{event=fail} 160000
            release_event_timestamp_ms{event=rollback} 165000
            release_action_code{kind=rollback} 3
            release_action_attempts{kind=rollback} 1
            release_contract{state=ok} 1
            release_contract_code{} 0
            release_traffic_share{} 0.5
            release_intervals{} 4
            release_evidence_boundary{} 1
            canary_evidence{metric=release,class=release} 0.25
            canary_estimate{metric=latency_p99,class=latency} 0.2
            canary_upper{metric=latency_p99,class=latency} 0.5
            canary_margin{metric=latency_p99,class=latency} 0.1
            canary_evidence{metric=latency_p99,class=latency} 0.25
            canary_verdict_code{metric=latency_p99,class=latency} 0
            canary_reason{metric=latency_p99,class=latency,reason=never_at_this_traffic} 1
            canary_reason_code{metric=latency_p99,class=latency} 3
            canary_level{metric=latency_p99,class=latency,arm=baseline} 0.1
            canary_observations{metric=latency_p99,class=latency,arm=baseline} 900
            canary_level{metric=latency_p99,class=latency,arm=canary} 0.12
            canary_observations{metric=latency_p99,class=latency,arm=canary} 100
            canary_needed_requests{metric=latency_p99,class=latency} 400
        "#]]
        .assert_eq(&lines(&[r.into()]));
    }

    #[test]
    fn every_state_has_a_number_and_every_name_a_help() {
        for phase in Phase::ALL {
            assert!(states::code(states::PHASES, phase.as_str()).is_some(), "{phase:?}");
        }
        for outcome in [Outcome::Pass, Outcome::Fail, Outcome::Insufficient] {
            assert!(states::code(states::VERDICTS, outcome.as_str()).is_some(), "{outcome:?}");
        }
        for contract in Contract::ALL {
            assert!(states::code(states::CONTRACTS, contract.as_str()).is_some(), "{contract:?}");
            let is_reason = states::code(states::REASONS, contract.as_str()).is_some();
            assert!(is_reason || contract == Contract::Ok, "{contract:?}");
        }
    }
}
