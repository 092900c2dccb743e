//! `releases`: how a service's versions are told apart and judged, and what a verdict may lead to.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use davy_alerting::config::{ActionSpec, OnFail, Policy};
use davy_detector::config::{ArmSpec, JudgeSpec, Preset, ReleaseSpec};
use davy_model::{Matcher, name};

use super::matchers::parse_selector;
use super::reader::{Field, Section};
use super::suggest::did_you_mean;
use super::value::{duration, label_name, positive_duration, show_duration};
use super::{metric, source};
use crate::sources::{ReleaseSource, SourceSpec};

/// A judge that is wrong more often than every other time is no judge.
const ALPHA_MAX: f64 = 0.5;
const ALPHA_MIN: f64 = 1e-9;
/// A canary of less than a thousandth of the requests cannot be told from one that has none.
const TRAFFIC_SHARE_MIN: f64 = 0.001;

/// What a service is judged by that the file does not name: the presets; nothing is rolled back.
pub(super) fn default_spec(evaluation_interval: Duration) -> ReleaseSpec {
    ReleaseSpec {
        service: None,
        version_label: name::VERSION.to_owned(),
        baseline: ArmSpec::Auto,
        canary: ArmSpec::Auto,
        presets: Preset::ALL.to_vec(),
        metrics: Vec::new(),
        traffic_share: None,
        judge: JudgeSpec { interval: evaluation_interval, ..JudgeSpec::default() },
    }
}

/// The releases, and by service the source of those that have one. A source that a release describes itself is added
/// to `sources`.
pub(super) fn read(
    top: &mut Section<'_>,
    evaluation_interval: Duration,
    actions: &[ActionSpec],
    sources: &mut Vec<SourceSpec>,
) -> (Vec<(ReleaseSpec, Policy)>, BTreeMap<String, ReleaseSource>) {
    let mut services = HashSet::new();
    let mut fed = BTreeMap::new();
    let releases = top.list("releases", |field| {
        let (spec, policy, source) = release(&field, evaluation_interval, actions, sources)?;
        fed.extend(spec.service.clone().zip(source));
        if let Some(service) = &spec.service
            && !services.insert(service.clone())
        {
            field.error(format!("service {service:?} is given twice; put both into one entry"));
        }
        Some((spec, policy))
    });
    (releases, fed)
}

fn release(
    field: &Field<'_>,
    evaluation_interval: Duration,
    actions: &[ActionSpec],
    sources: &mut Vec<SourceSpec>,
) -> Option<(ReleaseSpec, Policy, Option<ReleaseSource>)> {
    let default = default_spec(evaluation_interval);
    field.section(|s| {
        let service = s
            .required("service", "the `service` label (or service.name, or job) to judge")
            .and_then(|f| f.name());
        let source = s
            .get("source")
            .and_then(|f| source::of_release(&f, service.unwrap_or_default(), sources, evaluation_interval));
        let version_label = s.or("version_label", default.version_label, |f| {
            f.parse(|t| label_name(t).map(|()| t.to_owned()))
        });
        let baseline = s.or("baseline", ArmSpec::Auto, arm);
        let canary = s.or("canary", ArmSpec::Auto, arm);
        if (baseline == ArmSpec::Auto) != (canary == ArmSpec::Auto) {
            s.error("`baseline` and `canary` are both found (auto) or both said; only one of them is said");
        } else if baseline == canary && baseline != ArmSpec::Auto {
            s.error("`baseline` and `canary` select the same series");
        }
        let (presets, metrics) = metric::read(s);
        let presets = if presets.is_empty() { default.presets } else { presets };
        let traffic_share =
            s.get("traffic_share").and_then(|f| f.number(TRAFFIC_SHARE_MIN..=1.0 - TRAFFIC_SHARE_MIN));
        let actions = s.get("actions").map_or(Some((None, false)), |f| rollback_action(&f, actions));
        // Where the action is wrong, that is said; that none is left need not be said as well.
        let (rollback, can_roll_back) = actions.unwrap_or((None, true));
        let base = Policy { rollback, ..Policy::default() };
        let (judge, policy) = policy(s, default.judge, &base, can_roll_back)?;
        let spec = ReleaseSpec {
            service: Some(service?.to_owned()),
            version_label,
            baseline,
            canary,
            presets,
            metrics,
            traffic_share,
            judge,
        };
        Some((spec, policy, source))
    })
}

/// `auto`, a mapping of labels to values, or a selector.
fn arm(field: &Field<'_>) -> Option<ArmSpec> {
    if !field.is_mapping() {
        return match field.text()? {
            "auto" => Some(ArmSpec::Auto),
            _ => field
                .parse(|t| parse_selector(t).map_err(|e| format!("{e}; or write auto, or {{label: value}}")))
                .map(ArmSpec::Matchers),
        };
    }
    let labels = field.strings();
    if labels.is_empty() || labels.values().any(String::is_empty) {
        field.error("expected labels with values, such as {version: v2}");
        return None;
    }
    Some(ArmSpec::Matchers(labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect()))
}

/// The action that rolls back, and whether one is named at all.
fn rollback_action(field: &Field<'_>, actions: &[ActionSpec]) -> Option<(Option<String>, bool)> {
    field.section(|s| {
        s.not_yet(&["promote", "hold", "set_weight"], "only `rollback` is called");
        let Some(field) = s.get("rollback") else { return Some((None, false)) };
        let name = field.name()?;
        if !actions.iter().any(|a| a.name == name) {
            let hint = did_you_mean(name, actions.iter().map(|a| a.name.as_str()));
            let got = field.got();
            field.error(format!(
                "no action is called {got}; define it under `actions` at the top of the file{hint}"
            ));
        }
        Some((Some(name.to_owned()), true))
    })
}

fn policy(
    s: &mut Section<'_>,
    judge: JudgeSpec,
    default: &Policy,
    can_roll_back: bool,
) -> Option<(JudgeSpec, Policy)> {
    let Some(field) = s.get("policy") else { return Some((judge, default.clone())) };
    field.section(|s| {
        let alpha = s.or("alpha", judge.alpha, |f| f.number(ALPHA_MIN..=ALPHA_MAX));
        let interval = s.or("interval", judge.interval, |f| f.parse(positive_duration));
        let warm_up = s.or("warm_up", judge.warm_up, |f| f.parse(duration));
        let watch = s.or("watch", default.watch, |f| f.parse(positive_duration));
        if watch <= warm_up {
            let (watch, warm_up) = (show_duration(watch), show_duration(warm_up));
            s.error(format!(
                "the watch of {watch} is over before the warm_up of {warm_up}: nothing would be judged"
            ));
        }
        let words = [("record", OnFail::Record), ("hold", OnFail::Hold), ("rollback", OnFail::Rollback)];
        let on_fail = s.or("on_fail", default.on_fail, |f| {
            let on_fail = f.one_of(&words)?;
            if on_fail == OnFail::Rollback && !can_roll_back {
                f.error("rollback needs an action to call; add actions: {rollback: NAME} beside `policy`");
            }
            Some(on_fail)
        });
        let verify_timeout = s.or("verify_timeout", default.verify_timeout, |f| f.parse(positive_duration));
        s.not_yet(&["ramp"], "Davy watches the traffic share that others set");
        let policy = Policy { on_fail, watch, verify_timeout, rollback: default.rollback.clone() };
        Some((JudgeSpec { alpha, interval, warm_up }, policy))
    })
}
