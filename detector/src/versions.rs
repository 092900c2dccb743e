//! Which versions of which services live, and which of two is the baseline.
//!
//! Pure: reads a snapshot, is told what was first seen when. A version lives while one of its instances is seen
//! alive: scraped (`up` is 1), or pushing (`davy_pushed`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_model::{Labels, Matcher, Sample, Timestamp, name};
use davy_store::{SeriesSamples, Snapshot};

use crate::config::{ArmSpec, ReleaseSpec};
use crate::foreign::{self, Narrowings, Reporter};
use crate::plan::Arm;

/// Written by the OTLP receiver for whoever pushes.
pub const PUSHED: &str = "davy_pushed";
const UP: &str = "up";
const PROCESS_START: &str = "process_start_time_seconds";
/// The label that OpenTelemetry's `service.version` becomes where nobody renames it.
const SERVICE_VERSION: &str = "service_version";
/// Process starts closer together than this do not tell who lived first.
const TIE: Duration = Duration::from_secs(2);

/// One version of one service that has live instances.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveVersion {
    pub service: String,
    pub version: String,
    /// Instances that were seen alive, sorted.
    pub instances: Vec<String>,
    /// When its oldest live process started, where that is exported.
    pub started_at: Option<Timestamp>,
}

/// The two versions of a release, and which series belong to each.
#[derive(Debug, Clone, PartialEq)]
pub struct Arms {
    pub service: String,
    pub baseline: String,
    pub canary: String,
    /// Label that tells the versions apart.
    pub version_label: String,
    pub baseline_matchers: Vec<Matcher>,
    pub canary_matchers: Vec<Matcher>,
    narrowings: Narrowings,
}

/// Why two live versions are not a release that can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARelease {
    #[error("one live version: {version}")]
    OneVersion { version: String },
    #[error(
        "{a} and {b} were there from the start and nothing tells which came first: name them with `baseline` and \
         `canary` in the file"
    )]
    Ambiguous { a: String, b: String },
    #[error("`{arm}` of the file matches no live instance")]
    NoMatch { arm: &'static str },
}

impl Arms {
    /// As the file and the versions' names say; how a release is found again after a restart.
    pub fn of(spec: &ReleaseSpec, service: &str, baseline: &str, canary: &str) -> Self {
        let matchers = |arm: &ArmSpec, version: &str| match arm {
            ArmSpec::Auto => vec![Matcher::equal(&spec.version_label, version)],
            ArmSpec::Matchers(m) => m.clone(),
        };
        Self {
            service: service.to_owned(),
            baseline: baseline.to_owned(),
            canary: canary.to_owned(),
            version_label: spec.version_label.clone(),
            baseline_matchers: matchers(&spec.baseline, baseline),
            canary_matchers: matchers(&spec.canary, canary),
            narrowings: Narrowings::default(),
        }
    }

    /// Matchers that keep a read of what others report near the service, one for each label that may name it.
    pub(crate) fn near(&self, reporter: &'static Reporter) -> &[Matcher] {
        self.narrowings.of(reporter, &self.service)
    }

    /// The arm that a series belongs to, `None` for neither. A series of another service belongs to none, unless
    /// it is a mesh's or an ingress' report of this one.
    pub fn arm_of(&self, labels: &Labels) -> Option<Arm> {
        self.own_arm(labels)
            .or_else(|| foreign::reporter(labels.metric_name()).and_then(|r| r.arm_of(self, labels)))
    }

    fn own_arm(&self, labels: &Labels) -> Option<Arm> {
        if service_of(labels) != Some(self.service.as_str()) {
            return None;
        }
        if self.fits(&self.canary_matchers, labels) {
            Some(Arm::Canary)
        } else if self.fits(&self.baseline_matchers, labels) {
            Some(Arm::Baseline)
        } else {
            None
        }
    }

    fn fits(&self, matchers: &[Matcher], labels: &Labels) -> bool {
        matchers.iter().all(|m| {
            if m.name() == self.version_label {
                m.matches_value(version_of(labels, &self.version_label).unwrap_or(""))
            } else {
                m.matches(labels)
            }
        })
    }

    /// Whether what tells the arms apart fails to.
    pub(crate) fn is_in_both(&self, labels: &Labels) -> bool {
        self.baseline != self.canary
            && self.fits(&self.canary_matchers, labels)
            && self.fits(&self.baseline_matchers, labels)
    }
}

/// The `service` label, else `job`.
pub fn service_of(labels: &Labels) -> Option<&str> {
    labels.get(name::SERVICE).or_else(|| labels.get(name::JOB))
}

/// The version label, else what OpenTelemetry's `service.version` becomes.
pub fn version_of<'a>(labels: &'a Labels, version_label: &str) -> Option<&'a str> {
    labels.get(version_label).or_else(|| labels.get(SERVICE_VERSION))
}

/// Every version with an instance that was alive within `fresh` before `now`. `version_label` names the label of
/// a service; a service without versions has none here.
pub fn live_versions(
    snapshot: &Snapshot,
    now: Timestamp,
    fresh: Duration,
    version_label: impl Fn(&str) -> String,
) -> Result<Vec<LiveVersion>, davy_store::Error> {
    let mut found: BTreeMap<(String, String), LiveVersion> = BTreeMap::new();
    let labelled = |labels: &Labels| -> Option<(String, String)> {
        let service = service_of(labels)?;
        let version = version_of(labels, &version_label(service))?;
        Some((service.to_owned(), version.to_owned()))
    };
    for metric in [UP, PUSHED] {
        for series in snapshot.select(&[Matcher::metric(metric)], now - fresh, now)? {
            let Some(key) = labelled(&series.labels).filter(|_| is_alive(&series)) else { continue };
            let version = found.entry(key).or_insert_with_key(|(service, version)| LiveVersion {
                service: service.clone(),
                version: version.clone(),
                instances: Vec::new(),
                started_at: None,
            });
            version.instances.push(series.labels.get(name::INSTANCE).unwrap_or("").to_owned());
        }
    }
    for series in snapshot.select(&[Matcher::metric(PROCESS_START)], now - fresh, now)? {
        let started = newest(&series).and_then(Timestamp::from_secs_f64);
        let version = labelled(&series.labels).and_then(|key| found.get_mut(&key));
        if let (Some(started), Some(version)) = (started, version) {
            version.started_at = Some(version.started_at.map_or(started, |s| s.min(started)));
        }
    }
    let mut versions: Vec<LiveVersion> = found.into_values().collect();
    for version in &mut versions {
        version.instances.sort();
        version.instances.dedup();
    }
    Ok(versions)
}

/// Seen up at any time of the window: a scrape that failed once does not end a version.
fn is_alive(series: &SeriesSamples) -> bool {
    let one = |s: &Sample| s.value.as_float().is_some_and(|v| v == 1.0);
    series.samples.iter().any(one)
}

fn newest(series: &SeriesSamples) -> Option<f64> {
    series.samples.iter().rev().find_map(|s| s.value.as_float().filter(|v| v.is_finite()))
}

/// Baseline and canary among the live versions of one service. `first_seen` is when Davy first saw a version;
/// `watching_since` is when it first saw the service at all: what was there then may have come in any order.
pub fn pick_arms(
    spec: &ReleaseSpec,
    service: &str,
    live: &[LiveVersion],
    first_seen: impl Fn(&str) -> Option<Timestamp>,
    watching_since: Timestamp,
) -> Result<Arms, NotARelease> {
    if let (ArmSpec::Matchers(_), ArmSpec::Matchers(_)) = (&spec.baseline, &spec.canary) {
        return declared(spec, service, live);
    }
    let versions: BTreeSet<&str> = live.iter().map(|v| v.version.as_str()).collect();
    if versions.len() < 2 {
        let version = versions.first().copied().unwrap_or("none").to_owned();
        return Err(NotARelease::OneVersion { version });
    }
    // What was there when Davy came is told apart by the start of its processes; what came later, by when it came.
    let age = |v: &LiveVersion| {
        let seen = first_seen(&v.version).unwrap_or(Timestamp::MAX);
        let newcomer = seen > watching_since;
        (newcomer, if newcomer { seen } else { v.started_at.unwrap_or(Timestamp::MIN) })
    };
    let mut by_age: Vec<&LiveVersion> = live.iter().collect();
    by_age.sort_by_key(|v| age(v));
    let (oldest, newest) = (by_age[0], by_age[by_age.len() - 1]);
    let ((old_came, old_at), (new_came, new_at)) = (age(oldest), age(newest));
    let both_there = !old_came && !new_came;
    let unknown = both_there && (oldest.started_at.is_none() || newest.started_at.is_none());
    if unknown || (old_came == new_came && new_at.since(old_at) < TIE) {
        return Err(NotARelease::Ambiguous { a: oldest.version.clone(), b: newest.version.clone() });
    }
    Ok(Arms::of(spec, service, &oldest.version, &newest.version))
}

/// Arms that the file names: the versions are what the matchers find.
fn declared(spec: &ReleaseSpec, service: &str, live: &[LiveVersion]) -> Result<Arms, NotARelease> {
    let named = |arm: &ArmSpec, which: &'static str| {
        let ArmSpec::Matchers(matchers) = arm else { return Err(NotARelease::NoMatch { arm: which }) };
        let on_version: Vec<&Matcher> = matchers.iter().filter(|m| m.name() == spec.version_label).collect();
        let found = live.iter().find(|v| on_version.iter().all(|m| m.matches_value(&v.version)));
        match (found, on_version.is_empty()) {
            (Some(v), false) => Ok(v.version.clone()),
            // Arms may be told apart by something else than a version, a `track` label for one.
            (_, true) => Ok(matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
            (None, false) => Err(NotARelease::NoMatch { arm: which }),
        }
    };
    let baseline = named(&spec.baseline, "baseline")?;
    let canary = named(&spec.canary, "canary")?;
    Ok(Arms::of(spec, service, &baseline, &canary))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    fn spec() -> ReleaseSpec {
        ReleaseSpec { service: Some("checkout".into()), ..ReleaseSpec::default() }
    }

    fn live(version: &str, started: Option<i64>) -> LiveVersion {
        LiveVersion {
            service: "checkout".into(),
            version: version.into(),
            instances: vec!["i".into()],
            started_at: started.map(at),
        }
    }

    fn pick(versions: &[LiveVersion], seen: &[(&str, i64)]) -> Result<(String, String), NotARelease> {
        let first_seen = |v: &str| seen.iter().find(|(n, _)| *n == v).map(|(_, s)| at(*s));
        pick_arms(&spec(), "checkout", versions, first_seen, at(100)).map(|a| (a.baseline, a.canary))
    }

    #[test]
    fn who_came_later_is_the_canary_whatever_its_name() {
        let both = [live("a-new", None), live("b-old", None)];
        let arms = pick(&both, &[("a-new", 200), ("b-old", 100)]);
        assert_eq!(arms, Ok(("b-old".into(), "a-new".into())));
    }

    #[test]
    fn of_two_that_were_there_the_older_process_is_the_baseline() {
        let both = [live("v2", Some(90)), live("v1", Some(10))];
        assert_eq!(pick(&both, &[("v1", 100), ("v2", 100)]), Ok(("v1".into(), "v2".into())));
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_guessed() {
        let unknown = pick(&[live("v1", None), live("v2", Some(9))], &[("v1", 100), ("v2", 100)]);
        assert!(matches!(unknown, Err(NotARelease::Ambiguous { .. })), "{unknown:?}");
        let tied = pick(&[live("v1", Some(10)), live("v2", Some(11))], &[("v1", 100), ("v2", 100)]);
        assert!(matches!(tied, Err(NotARelease::Ambiguous { .. })), "{tied:?}");
    }

    #[test]
    fn of_three_the_oldest_and_the_newest_are_compared() {
        let three = [live("v1", None), live("v2", None), live("v3", None)];
        let arms = pick(&three, &[("v1", 100), ("v2", 200), ("v3", 300)]);
        assert_eq!(arms, Ok(("v1".into(), "v3".into())));
    }

    #[test]
    fn one_version_is_no_release() {
        assert_eq!(pick(&[live("v1", None)], &[]), Err(NotARelease::OneVersion { version: "v1".into() }));
    }

    #[test]
    fn the_file_decides_where_it_names_the_arms() {
        let mut spec = spec();
        spec.baseline = ArmSpec::Matchers(vec![Matcher::equal("version", "v2")]);
        spec.canary = ArmSpec::Matchers(vec![Matcher::equal("version", "v1")]);
        let both = [live("v1", Some(1)), live("v2", Some(9))];
        let arms = pick_arms(&spec, "checkout", &both, |_| None, at(0)).unwrap();
        assert_eq!((arms.baseline.as_str(), arms.canary.as_str()), ("v2", "v1"));
        let labels = Labels::from_pairs([("job", "checkout"), ("version", "v1")]);
        assert_eq!(arms.arm_of(&labels), Some(Arm::Canary));
        let gone = pick_arms(&spec, "checkout", &both[..1], |_| None, at(0));
        assert_eq!(gone, Err(NotARelease::NoMatch { arm: "baseline" }));
    }

    #[test]
    fn series_of_other_services_and_versions_belong_to_no_arm() {
        let arms = Arms::of(&spec(), "checkout", "v1", "v2");
        let arm = |service: &str, version: &str| {
            arms.arm_of(&Labels::from_pairs([("service", service), ("job", "x"), ("version", version)]))
        };
        assert_eq!(arm("checkout", "v1"), Some(Arm::Baseline));
        assert_eq!(arm("checkout", "v2"), Some(Arm::Canary));
        assert_eq!(arm("checkout", "v3"), None);
        assert_eq!(arm("search", "v2"), None);
        let otel = Labels::from_pairs([("job", "checkout"), ("service_version", "v2")]);
        assert_eq!(arms.arm_of(&otel), Some(Arm::Canary));
    }
}
