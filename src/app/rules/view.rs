//! From a group's state to what the API shows.

use davy_alerting::rule::{ActiveAlert, RuleGroup, RuleKind, RuleState};
use davy_api::wire::rfc3339;
use davy_api::wire::rules::{
    AlertingRule, NEVER, RecordingRule, Rule, RuleAlert, RuleGroup as Shown, value_text,
};
use davy_model::Timestamp;

pub(super) fn group(group: &RuleGroup) -> Shown {
    let spec = group.spec();
    Shown {
        name: spec.name.clone(),
        file: spec.file.clone(),
        rules: group.rules().iter().map(rule).collect(),
        interval: spec.interval.as_secs_f64(),
        limit: spec.limit,
        evaluation_time: group.evaluation_time.as_secs_f64(),
        last_evaluation: time(group.last_evaluation),
    }
}

fn rule(state: &RuleState) -> Rule {
    let spec = &state.spec;
    let (name, query) = (spec.name.clone(), spec.expr.to_string());
    let (health, last_error) = (state.health.as_str().to_owned(), state.last_error.clone());
    let (evaluation_time, last_evaluation) =
        (state.evaluation_time.as_secs_f64(), time(state.last_evaluation));
    match (&spec.kind, &state.alerting) {
        (RuleKind::Alerting { hold, keep_firing_for, annotations }, Some(alerting)) => {
            Rule::Alerting(AlertingRule {
                state: alerting.state().as_str().to_owned(),
                name,
                query,
                duration: hold.as_secs_f64(),
                keep_firing_for: keep_firing_for.as_secs_f64(),
                labels: spec.labels.clone(),
                annotations: annotations.clone(),
                alerts: alerting.alerts().filter(|a| a.resolved_at.is_none()).map(alert).collect(),
                health,
                last_error,
                evaluation_time,
                last_evaluation,
            })
        }
        _ => Rule::Recording(RecordingRule {
            name,
            query,
            labels: spec.labels.clone(),
            health,
            last_error,
            evaluation_time,
            last_evaluation,
        }),
    }
}

fn alert(alert: &ActiveAlert) -> RuleAlert {
    RuleAlert {
        labels: alert.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        annotations: alert.annotations.clone(),
        state: alert.state.as_str().to_owned(),
        active_at: rfc3339(alert.active_at),
        keep_firing_since: alert.keep_firing_since.map(rfc3339),
        value: value_text(alert.value),
    }
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.to_owned(), rfc3339)
}
