//! `Census`: how many series there are, of whom, and who may bring more.
//!
//! At a limit the newest are refused and the existing kept, and the refusal names whoever has the most.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use davy_model::{Labels, Timestamp, name};
use foldhash::quality::RandomState;

use crate::{Limits, Refusal};

/// Over which the series that a target brings are counted.
const CHURN_WINDOW_MILLIS: i64 = 3_600_000;

#[derive(Debug)]
pub(crate) struct Census {
    limits: Limits,
    total: usize,
    /// By `service`, else `job`.
    services: HashMap<Arc<str>, usize, RandomState>,
    targets: HashMap<u64, Target, RandomState>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Target {
    series: usize,
    /// When the present hour of counting began, and what came since.
    since: i64,
    new: usize,
}

impl Census {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: 0,
            services: HashMap::default(),
            targets: HashMap::default(),
            hasher: RandomState::default(),
        }
    }

    /// Series of one target (`job` and `instance`) are sampled at the same times, so they share groups.
    pub(crate) fn target(&self, labels: &Labels) -> u64 {
        self.hasher.hash_one((labels.get(name::JOB), labels.get(name::INSTANCE)))
    }

    /// Whether a series with these labels may come now; it then counts towards the churn of its target.
    pub(crate) fn admit(&mut self, labels: &Labels, now: Timestamp) -> Result<(), Refusal> {
        let max = self.limits.series_max;
        if self.total >= max {
            let most = self.services.iter().max_by_key(|(_, n)| **n);
            let scope =
                most.map_or_else(String::new, |(s, n)| format!("all services; {n} are of service {s:?}"));
            return Err(Refusal::SeriesLimit { scope, max });
        }
        let (service, max) = (service(labels), self.limits.series_per_service_max);
        if self.services.get(service).is_some_and(|n| *n >= max) {
            return Err(Refusal::SeriesLimit { scope: format!("service {service:?}"), max });
        }
        // Whoever pushes without saying where from is bounded as a service only.
        let Some(instance) = labels.get(name::INSTANCE) else { return Ok(()) };
        let (hash, max) = (self.target(labels), self.limits.series_per_target_max);
        let target = self.targets.entry(hash).or_default();
        let scope = || format!("target {instance:?} of job {:?}", labels.get(name::JOB).unwrap_or(""));
        if target.series >= max {
            return Err(Refusal::SeriesLimit { scope: scope(), max });
        }
        let now = now.as_millis();
        if !(0..CHURN_WINDOW_MILLIS).contains(&now.saturating_sub(target.since)) {
            (target.since, target.new) = (now, 0);
        }
        let max = self.limits.series_new_per_hour_max;
        if target.new >= max {
            return Err(Refusal::SeriesLimit { scope: format!("new in an hour of {}", scope()), max });
        }
        target.new += 1;
        Ok(())
    }

    pub(crate) fn came(&mut self, labels: &Labels) {
        self.total += 1;
        match self.services.get_mut(service(labels)) {
            Some(n) => *n += 1,
            None => {
                self.services.insert(service(labels).into(), 1);
            }
        }
        self.targets.entry(self.target(labels)).or_default().series += 1;
    }

    pub(crate) fn gone(&mut self, labels: &Labels) {
        self.total -= 1;
        if let Some(n) = self.services.get_mut(service(labels)) {
            *n -= 1;
            if *n == 0 {
                self.services.remove(service(labels));
            }
        }
        let hash = self.target(labels);
        if let Some(target) = self.targets.get_mut(&hash) {
            target.series -= 1;
            if target.series == 0 {
                self.targets.remove(&hash);
            }
        }
    }
}

/// What the limit per service counts by: `service`, else `job`.
fn service(labels: &Labels) -> &str {
    labels.get(name::SERVICE).or_else(|| labels.get(name::JOB)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(n: usize) -> Labels {
        Labels::from_pairs([("job", "api"), ("instance", "a:1"), ("n", n.to_string().as_str())])
    }

    fn census(limits: Limits, series: usize, at: Timestamp) -> Census {
        let mut census = Census::new(limits);
        (0..series).for_each(|n| {
            census.admit(&labels(n), at).unwrap();
            census.came(&labels(n));
        });
        census
    }

    #[test]
    fn a_target_that_changes_all_its_series_is_named_and_free_again_after_an_hour() {
        let at = |minutes: i64| Timestamp::from_millis(1_800_000_000_000 + minutes * 60_000);
        let mut census = census(Limits { series_new_per_hour_max: 3, ..Limits::default() }, 3, at(0));
        (0..3).for_each(|n| census.gone(&labels(n)));
        // What its series were counted as goes with the last of them: a target that is gone holds no memory.
        (3..6).for_each(|n| {
            census.admit(&labels(n), at(1)).unwrap();
            census.came(&labels(n));
        });
        let refused = census.admit(&labels(7), at(2)).unwrap_err();
        let want = "series limit of 3 reached (new in an hour of target \"a:1\" of job \"api\")";
        assert_eq!(refused.to_string(), want);
        let other = Labels::from_pairs([("job", "api"), ("instance", "b:1")]);
        assert!(census.admit(&other, at(2)).is_ok(), "other targets are unaffected");
        assert!(census.admit(&labels(7), at(62)).is_ok());
    }

    #[test]
    fn a_target_with_too_many_series_is_named() {
        let mut census = census(Limits { series_per_target_max: 2, ..Limits::default() }, 2, Timestamp::MIN);
        let refused = census.admit(&labels(7), Timestamp::MIN).unwrap_err();
        assert_eq!(refused.to_string(), "series limit of 2 reached (target \"a:1\" of job \"api\")");
        census.gone(&labels(0));
        assert!(census.admit(&labels(7), Timestamp::MIN).is_ok());
    }
}
