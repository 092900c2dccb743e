//! `Alive`: who lives, as the scrapes and pushes of an interval say, and what else tells whether samples can be
//! believed: other clocks, restarts, arms that are one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Matcher, Timestamp};
use davy_query::Source;
use davy_store::Error;

use crate::plan::{Arm, Plan, Reading};
use crate::verdict::Contract;
use crate::versions::{Arms, PUSHED, version_of};
use crate::vitals::Broken;

use super::read::{ByInstance, Counter, Read, instance};

/// How far ahead another clock's samples are looked for: as far as the store takes them.
const AHEAD: Duration = Duration::from_secs(10 * 60);
/// Intervals after which whoever is heard of shows that an old interval is read again.
const REREAD_INTERVALS: u32 = 3;
/// Restarts of containers, from kube-state-metrics.
const RESTARTS: &str = "kube_pod_container_status_restarts_total";

/// Who lives, as the scrapes and pushes of an interval say.
#[derive(Debug, Default)]
pub(super) struct Alive {
    pub(super) down: Vec<(Arm, Arc<str>)>,
    /// Versions of each arm's instances, and whether one of them belongs to both.
    versions: [BTreeSet<String>; 2],
    overlap: bool,
}

/// Two arms of one version show nothing of a release.
pub(super) fn same_version(arms: &Arms, alive: &Alive) -> Option<Broken> {
    if alive.overlap {
        let why =
            "instances belong to both arms: what tells baseline and canary apart selects both".to_owned();
        return Some(Broken { contract: Contract::SelectorAmbiguous, why });
    }
    let [baseline, canary] = &alive.versions;
    let same = arms.baseline == arms.canary || (!baseline.is_empty() && baseline == canary);
    same.then(|| {
        let version = baseline.first().map_or(arms.baseline.as_str(), String::as_str);
        Broken {
            contract: Contract::SameVersion,
            why: format!("both arms run version {version}: nothing to compare"),
        }
    })
}

impl<S: Source> Read<'_, S> {
    /// Instances as scrapes and pushes show them, with what else tells whether their samples can be believed.
    pub(super) fn alive(&mut self, plan: &Plan) -> Result<Alive, Error> {
        let mut alive = Alive::default();
        let mut last: ByInstance<Timestamp> = BTreeMap::new();
        for metric in ["up", PUSHED] {
            for (arm, s) in self.between(&[Matcher::metric(metric)], self.start, self.end + AHEAD)? {
                let instance = (arm, instance(&s.labels));
                if let Some(newest) = s.samples.last() {
                    let at = last.entry(instance.clone()).or_insert(newest.timestamp);
                    *at = newest.timestamp.max(*at);
                }
                let until = s.samples.partition_point(|x| x.timestamp <= self.end);
                let Some(newest) = s.samples[..until].last() else { continue };
                let up = newest.value.as_float().is_some_and(|v| v != 0.0);
                if metric == "up" {
                    if !up {
                        alive.down.push(instance.clone());
                    }
                    let scraped = up && newest.timestamp > self.start;
                    self.signs.entry(instance).or_default().scraped = scraped;
                } else {
                    // What is pushed may rest.
                    self.signs.entry(instance).or_default().scraped = false;
                }
                if let Some(version) = version_of(&s.labels, &self.arms.version_label) {
                    alive.versions[usize::from(arm == Arm::Canary)].insert(version.to_owned());
                }
                alive.overlap |= self.arms.is_in_both(&s.labels);
            }
        }
        self.look_ahead(plan, &last)?;
        let restarts = [Matcher::metric(RESTARTS)];
        for (instance, _, gained) in self.counters(Counter::Restarts, &restarts)? {
            let sign = self.signs.entry(instance).or_default();
            sign.resets = sign.resets.max(gained.value as u32);
        }
        Ok(alive)
    }

    /// Samples that are stamped later than their instance was last heard of.
    fn look_ahead(&mut self, plan: &Plan, last: &ByInstance<Timestamp>) -> Result<(), Error> {
        // Who was heard of long after this interval shows that it is an old one, read again.
        let again = self.end + self.end.since(self.start) * REREAD_INTERVALS;
        if last.values().any(|heard| *heard > again) {
            return Ok(());
        }
        let first = plan.metrics.iter().find_map(|m| match &m.reading {
            Reading::Proportion { trials: series, .. }
            | Reading::Buckets { series, .. }
            | Reading::NativeHistogram { series, .. }
            | Reading::CpuSeconds { series, .. }
            | Reading::Value { series } => Some(series),
            Reading::Query(_) | Reading::Given => None,
        });
        let Some(probe) = first else { return Ok(()) };
        for (arm, s) in self.between(probe, self.end, self.end + AHEAD)? {
            let instance = (arm, instance(&s.labels));
            if let (Some(newest), Some(heard)) = (s.samples.last(), last.get(&instance)) {
                let sign = self.signs.entry(instance).or_default();
                sign.ahead = sign.ahead.max(newest.timestamp.since(*heard));
            }
        }
        Ok(())
    }
}
