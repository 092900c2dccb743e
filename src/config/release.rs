//! `releases`: how a service's versions are told apart and judged, and what a verdict may lead to.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use davy_alerting::config::{ActionSpec, Approval, Hand, OnFail, Policy, Ramp};
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
        let hands = s.get("actions").map_or(Some(Hands::default()), |f| hands(&f, actions));
        // Where an action is wrong, that is said; that none is left need not be said as well.
        let hands = hands.unwrap_or(Hands { unclear: true, ..Hands::default() });
        let (judge, policy) = policy(s, default.judge, &hands)?;
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

/// The actions that a release names.
#[derive(Default)]
struct Hands {
    rollback: Option<Hand>,
    /// And whether it can set any share.
    promote: Option<(Hand, bool)>,
    /// One is wrong, which has been said.
    unclear: bool,
}

fn hands(field: &Field<'_>, actions: &[ActionSpec]) -> Option<Hands> {
    field.section(|s| {
        s.not_yet(
            &["hold", "set_weight"],
            "`promote` sets the shares of the ramp, `rollback` takes them back",
        );
        let mut hands = Hands::default();
        if let Some(field) = s.get("rollback") {
            hands.rollback = named(&field, actions).map(|(hand, _)| hand);
            hands.unclear |= hands.rollback.is_none();
        }
        if let Some(field) = s.get("promote") {
            hands.promote = named(&field, actions);
            hands.unclear |= hands.promote.is_none();
        }
        Some(hands)
    })
}

fn named(field: &Field<'_>, actions: &[ActionSpec]) -> Option<(Hand, bool)> {
    let name = field.name()?;
    let Some(action) = actions.iter().find(|a| a.name == name) else {
        let hint = did_you_mean(name, actions.iter().map(|a| a.name.as_str()));
        let got = field.got();
        field.error(format!(
            "no action is called {got}; define it under `actions` at the top of the file{hint}"
        ));
        return None;
    };
    Some((Hand { name: name.to_owned(), level: action.level() }, action.actuator.sets_shares()))
}

fn policy(s: &mut Section<'_>, judge: JudgeSpec, hands: &Hands) -> Option<(JudgeSpec, Policy)> {
    let default = Policy { rollback: hands.rollback.clone(), ..Policy::default() };
    let Some(field) = s.get("policy") else { return Some((judge, default)) };
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
            if on_fail == OnFail::Rollback && hands.rollback.is_none() && !hands.unclear {
                f.error("rollback needs an action to call; add actions: {rollback: NAME} beside `policy`");
            }
            Some(on_fail)
        });
        let verify_timeout = s.or("verify_timeout", default.verify_timeout, |f| f.parse(positive_duration));
        let policy = Policy {
            on_fail,
            watch,
            verify_timeout,
            ramp: s.get("ramp").and_then(|f| ramp(&f, hands)),
            approval: approval(s),
            dry_run: s.or("dry_run", default.dry_run, Field::bool),
            safety_rules: s.list("safety_rules", |f| f.name().map(str::to_owned)),
            ..default
        };
        Some((JudgeSpec { alpha, interval, warm_up }, policy))
    })
}

/// Percent of the requests, ascending.
fn ramp(field: &Field<'_>, hands: &Hands) -> Option<Ramp> {
    let steps: Vec<f64> = field.items().iter().map(|f| f.number(1.0..=100.0)).collect::<Option<_>>()?;
    if steps.is_empty() || steps.iter().any(|s| s.fract() != 0.0) || !steps.is_sorted_by(|a, b| a < b) {
        field.error("expected whole percents that grow, such as [5, 25, 50, 100]");
        return None;
    }
    let steps: Vec<u8> = steps.iter().map(|s| *s as u8).collect();
    match &hands.promote {
        Some((hand, sets_shares)) => {
            if !sets_shares && steps.iter().any(|s| *s < 100) {
                field.error(format!(
                    "the action {} cannot set a share, only one version or the other: write [100]",
                    hand.name
                ));
            }
            Some(Ramp { hand: hand.clone(), steps })
        }
        None if hands.unclear => None,
        None => {
            field.error(
                "a ramp needs an action that sets the shares; add actions: {promote: NAME} beside `policy`",
            );
            None
        }
    }
}

fn approval(s: &mut Section<'_>) -> Approval {
    let words = [("rollback", true), ("promote", false)];
    let named = s.list("approval", |f| f.one_of(&words));
    Approval { rollback: named.contains(&true), promote: named.contains(&false) }
}
