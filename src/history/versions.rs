//! Which versions of a service are in the samples, and since when.

use std::collections::BTreeMap;

use davy_detector::config::{ArmSpec, ReleaseSpec};
use davy_detector::{Arms, PUSHED, service_selectors, version_of};
use davy_model::{Matcher, Timestamp};
use davy_store::Snapshot;

/// One version and the time of its first sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub version: String,
    pub since: Timestamp,
}

/// Oldest first.
pub fn versions(
    snapshot: &Snapshot,
    service: &str,
    version_label: &str,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Version>, String> {
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    for of_service in service_selectors(service) {
        // One metric that every instance has tells who lived; failing that, all of them.
        let alive = |metric: &str| of_service.iter().cloned().chain([Matcher::metric(metric)]).collect();
        for matchers in [alive("up"), alive(PUSHED), of_service.clone()] {
            let series = snapshot.columns(&matchers, from, to).map_err(|e| e.to_string())?;
            for s in &series {
                let Some(version) = version_of(&s.labels, version_label) else { continue };
                let firsts = [s.samples.times().first(), s.samples.histograms().first().map(|(t, _)| t)];
                for t in firsts.into_iter().flatten() {
                    let since = found.entry(version.to_owned()).or_insert(*t);
                    *since = (*since).min(*t);
                }
            }
            if found.len() > 1 {
                break;
            }
        }
    }
    let mut all: Vec<Version> = found
        .into_iter()
        .map(|(version, since)| Version { version, since: Timestamp::from_millis(since) })
        .collect();
    all.sort_by_key(|v| v.since);
    Ok(all)
}

/// When anything was seen: by what every target has; failing that, roughly.
pub(super) fn bounds(snapshot: &Snapshot) -> Result<Option<(Timestamp, Timestamp)>, String> {
    let Some((from, to)) = snapshot.time_range() else { return Ok(None) };
    let mut ends: Option<(i64, i64)> = None;
    for metric in ["up", PUSHED] {
        let series = snapshot.columns(&[Matcher::metric(metric)], from, to).map_err(|e| e.to_string())?;
        for times in series.iter().map(|s| s.samples.times()) {
            if let (Some(first), Some(last)) = (times.first(), times.last()) {
                let (a, b) = ends.unwrap_or((*first, *last));
                ends = Some((a.min(*first), b.max(*last)));
            }
        }
    }
    let at = Timestamp::from_millis;
    Ok(Some(ends.map_or((from, to), |(a, b)| (at(a), at(b)))))
}

/// The two to compare: as named, else the newest against the one before it.
pub fn pick(
    spec: &ReleaseSpec,
    service: &str,
    found: &[Version],
    baseline: Option<&str>,
    canary: Option<&str>,
) -> Result<(Arms, Timestamp), String> {
    let list = || {
        let names: Vec<&str> = found.iter().map(|v| v.version.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    if let (ArmSpec::Matchers(_), ArmSpec::Matchers(_)) = (&spec.baseline, &spec.canary) {
        let since = found.iter().map(|v| v.since).max().unwrap_or(Timestamp::MIN);
        return Ok((
            Arms::of(spec, service, baseline.unwrap_or("baseline"), canary.unwrap_or("canary")),
            since,
        ));
    }
    let named = |flag: &str, wanted: &str| {
        let known = found.iter().find(|v| v.version == wanted);
        known.ok_or_else(|| {
            format!(
                "--{flag} {wanted}: {service} has no such version here; its versions by `{}`: {}",
                spec.version_label,
                list()
            )
        })
    };
    let canary =
        match canary {
            Some(wanted) => named("canary", wanted)?,
            None => found.iter().rev().find(|v| Some(v.version.as_str()) != baseline).ok_or_else(|| {
                format!("{service} shows no versions by the label `{}`", spec.version_label)
            })?,
        };
    let baseline = match baseline {
        Some(wanted) => named("baseline", wanted)?,
        None => {
            let before = found.iter().rev().find(|v| v.version != canary.version && v.since <= canary.since);
            before.ok_or_else(|| {
                format!(
                    "{service} has one version by the label `{}` ({}); two must live side by side to be compared",
                    spec.version_label,
                    list()
                )
            })?
        }
    };
    if baseline.version == canary.version {
        return Err(format!("both arms are version {}: there is nothing to compare", canary.version));
    }
    if baseline.since == canary.since {
        return Err(format!(
            "{} and {} were there from the start: say which is which with --baseline and --canary",
            baseline.version, canary.version
        ));
    }
    Ok((Arms::of(spec, service, &baseline.version, &canary.version), canary.since))
}
