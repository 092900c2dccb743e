//! `Observer`: reads one interval of a release from the store. Hop 4's direct read: increments on counts, with
//! no extrapolation, instance by instance.

mod alive;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use davy_model::Timestamp;
use davy_query::native::Grid;
use davy_query::{EvalError, Source};

use crate::interval::{InstanceInterval, Interval, Measurement};
use crate::plan::{Arm, Metric, Plan, Reading};
use crate::verdict::Contract;
use crate::versions::Arms;
use crate::vitals::{Broken, Vitals};

use alive::same_version;
use read::{ByInstance, Counter, LOOKBACK, Read};

/// Intervals in which a critical metric finds nothing, or several values for one, before it is said.
const SELECTOR_EMPTY_INTERVALS: u32 = 20;
const SELECTOR_AMBIGUOUS_INTERVALS: u32 = 3;

/// Reads interval after interval. A scrape is stamped when it begins and stored when it has been read, so a sample
/// may appear after its interval was read: what has been counted is remembered, and the late sample's increment
/// comes with the next interval.
#[derive(Debug, Clone)]
pub struct Observer {
    plan: Plan,
    arms: Arms,
    /// Newest sample that was counted of a counter and instance.
    counted: BTreeMap<(Counter, Arm, Arc<str>), Timestamp>,
    /// Of each metric, where a native histogram is read.
    grids: Vec<Grid>,
    /// Of each metric, how many intervals it has never found anything in, and found too much in.
    found: Vec<(Option<u32>, u32)>,
    vitals: Vitals,
    broken: Option<Broken>,
}

/// An instance in the making.
#[derive(Debug, Default)]
struct Seen {
    seconds: f64,
    requests: Option<f64>,
    measurements: Vec<Option<Measurement>>,
}

impl Observer {
    pub fn new(plan: Plan, arms: Arms) -> Self {
        let unit = |m: &Metric| match &m.reading {
            Reading::NativeHistogram { seconds_per_unit, .. } => *seconds_per_unit,
            _ => 1.0,
        };
        let grids = plan.metrics.iter().map(|m| Grid::new(unit(m))).collect();
        let found = vec![(Some(0), 0); plan.metrics.len()];
        Self { plan, arms, counted: BTreeMap::new(), grids, found, vitals: Vitals::default(), broken: None }
    }

    /// Why the interval that was observed last cannot be believed, if it cannot.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// What happened in `(start, end]`, and what was late for the intervals before it. The same store read in the
    /// same order gives the same intervals.
    pub fn observe(
        &mut self,
        source: &impl Source,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Interval, EvalError> {
        let metrics = self.plan.metrics.len();
        let mut read = Read {
            arms: &self.arms,
            source,
            start,
            end,
            counted: &mut self.counted,
            grids: &mut self.grids,
            signs: BTreeMap::new(),
            several: false,
        };
        let mut instances: ByInstance<Seen> = BTreeMap::new();
        let none: Arc<[f64]> = Arc::new([]);
        let mut edges = vec![none; metrics];
        for (i, metric) in self.plan.metrics.iter().enumerate() {
            read.several = false;
            let found = read.metric(i, &metric.reading, &mut edges[i])?;
            let (empty, several) = &mut self.found[i];
            *empty = empty.filter(|_| found.is_empty() && !read.several).map(|n| n.saturating_add(1));
            *several = if read.several { several.saturating_add(1) } else { 0 };
            for (instance, found) in found {
                let seen = instances.entry(instance).or_default();
                seen.measurements.resize(metrics, None);
                seen.measurements[i] = Some(found.measurement);
                seen.seconds = seen.seconds.max(found.seconds);
            }
        }
        if let Some(requests) = &self.plan.requests {
            for (instance, gained) in read.increases(Counter::Requests, requests)? {
                if let Some(seen) = instances.get_mut(&instance) {
                    seen.requests = Some(gained.value);
                }
            }
        }
        let alive = read.alive(&self.plan)?;
        let signs = std::mem::take(&mut read.signs);
        self.vitals.see(start, end, &signs);
        self.broken =
            same_version(&self.arms, &alive).or_else(|| self.selectors()).or_else(|| self.vitals.broken(end));
        self.counted.retain(|_, at| *at + LOOKBACK >= start);
        let interval_s = end.since(start).as_secs_f64();
        let instances = instances.into_iter().map(|((arm, instance), seen)| InstanceInterval {
            arm,
            instance,
            seconds: if seen.seconds > 0.0 { seen.seconds } else { interval_s },
            requests: seen.requests,
            measurements: seen.measurements,
        });
        Ok(Interval { start, end, edges, instances: instances.collect(), down: alive.down })
    }

    /// Critical metrics that read nothing at all, or more than one value where one is meant.
    fn selectors(&self) -> Option<Broken> {
        let critical = || self.plan.metrics.iter().zip(&self.found).filter(|(m, _)| m.critical);
        let (m, contract, what) = critical()
            .find(|(_, (_, several))| *several >= SELECTOR_AMBIGUOUS_INTERVALS)
            .map(|(m, _)| (m, Contract::SelectorAmbiguous, "finds several values of one instance or version"))
            .or_else(|| {
                let seen = self.found.iter().any(|(empty, _)| empty.is_none());
                critical()
                    .find(|(m, (empty, _))| {
                        let never = empty.is_some_and(|n| n >= SELECTOR_EMPTY_INTERVALS);
                        seen && never && !matches!(m.reading, Reading::Given)
                    })
                    .map(|(m, _)| (m, Contract::SelectorEmpty, "finds nothing in either version"))
            })?;
        Some(Broken { contract, why: format!("{} {what}: {}", m.name.replace('_', " "), m.source) })
    }
}
