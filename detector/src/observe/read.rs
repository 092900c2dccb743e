//! `Read`: one interval's reads, instance by instance: what the series gained since what was counted of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Labels, Matcher, Timestamp, name};
use davy_query::counts::{Increase, increase};
use davy_query::native::{Grid, HistogramIncrease, histogram_increase};
use davy_query::{Engine, EvalError, Source};
use davy_store::{Error, SeriesSamples};

use crate::buckets::{Buckets, common_edges};
use crate::foreign;
use crate::interval::Measurement;
use crate::plan::{Arm, Reading};
use crate::scope;
use crate::versions::Arms;
use crate::vitals::Sign;

/// How far before an interval the sample may lie that an increment is counted from; further for series that seem
/// to begin within it, because what is pushed may rest for long between two events.
pub(super) const LOOKBACK: Duration = Duration::from_secs(10 * 60);
const LOOKBACK_RESTED: Duration = Duration::from_secs(60 * 60);
/// Intervals that the value of an expression may be old.
const QUERY_INTERVALS: u32 = 3;

/// A counter of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counter {
    Requests,
    Restarts,
    /// By index of the metric.
    Trials(usize),
    Events(usize),
    Buckets(usize),
    Cpu(usize),
}

pub(super) type Instance = (Arm, Arc<str>);
/// What an arm's series gave, by instance.
pub(super) type ByInstance<T> = BTreeMap<Instance, T>;

/// What one series gained, with its instance and its labels.
type Gained = (Instance, Labels, Increase);

/// A measurement and the time that it covers.
pub(super) struct Found {
    pub(super) measurement: Measurement,
    pub(super) seconds: f64,
}

pub(super) struct Read<'a, S> {
    pub(super) arms: &'a Arms,
    pub(super) source: &'a S,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) counted: &'a mut BTreeMap<(Counter, Arm, Arc<str>), Timestamp>,
    pub(super) grids: &'a mut [Grid],
    pub(super) signs: ByInstance<Sign>,
    /// Whether the expression that was read last gave several values for one.
    pub(super) several: bool,
}

impl<S: Source> Read<'_, S> {
    pub(super) fn metric(
        &mut self,
        i: usize,
        reading: &Reading,
        edges: &mut Arc<[f64]>,
    ) -> Result<ByInstance<Found>, EvalError> {
        match reading {
            Reading::Proportion { events, trials } => {
                let mut events = self.increases(Counter::Events(i), events)?;
                let trials = self.increases(Counter::Trials(i), trials)?;
                let found = trials.into_iter().map(|(instance, gained)| {
                    // No series of errors beside one of requests is no errors.
                    let events = events.remove(&instance).map_or(0.0, |e| e.value);
                    let measurement = Measurement::Proportion { events, trials: gained.value };
                    (instance, Found { measurement, seconds: gained.seconds() })
                });
                Ok(found.collect())
            }
            Reading::Buckets { series, seconds_per_unit } => {
                let histograms = self.histograms(Counter::Buckets(i), series)?;
                Ok(bucketed(&histograms, *seconds_per_unit, edges))
            }
            Reading::NativeHistogram { series, seconds_per_unit } => {
                let histograms = self.native_histograms(i, series)?;
                Ok(bucketed(&histograms, *seconds_per_unit, edges))
            }
            Reading::CpuSeconds { series, seconds_per_unit } => {
                let gained = self.increases(Counter::Cpu(i), series)?.into_iter();
                let found = gained.filter(|(_, g)| g.seconds() > 0.0).map(|(instance, g)| {
                    let measurement = Measurement::Gauge(g.value * seconds_per_unit / g.seconds());
                    (instance, Found { measurement, seconds: g.seconds() })
                });
                Ok(found.collect())
            }
            Reading::Value { series } => Ok(gauges(self.values(series)?)),
            Reading::Query(expr) => {
                let engine =
                    Engine { lookback: self.end.since(self.start) * QUERY_INTERVALS, ..Engine::default() };
                let mut found = ByInstance::new();
                for arm in [Arm::Baseline, Arm::Canary] {
                    for narrow in scope::selectors(self.arms, arm) {
                        let values = engine.instant(&expr.restricted(&narrow), self.source, self.end)?;
                        if !values.is_empty() {
                            let (one, several) = one_an_instance(arm, values);
                            self.several |= several;
                            found.extend(one);
                            break;
                        }
                    }
                }
                Ok(gauges(found))
            }
            Reading::Given => Ok(ByInstance::new()),
        }
    }

    /// The service's series from `lookback` before the interval to its end, with the arm of each.
    fn select(&self, matchers: &[Matcher], lookback: Duration) -> Result<Vec<(Arm, SeriesSamples)>, Error> {
        self.between(matchers, self.start - lookback, self.end)
    }

    pub(super) fn between(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(Arm, SeriesSamples)>, Error> {
        let near = |m: &[Matcher]| -> Result<Vec<(Arm, SeriesSamples)>, Error> {
            let all: Vec<Matcher> = matchers.iter().chain(m).cloned().collect();
            let series = self.source.select(&all, from, to)?.into_iter();
            Ok(series.filter_map(|s| Some((self.arms.arm_of(&s.labels)?, s))).collect())
        };
        let mut found = Vec::new();
        for service in scope::service(&self.arms.service) {
            found.extend(near(&service)?);
        }
        if let Some(reporter) = foreign::reporter_of(matchers) {
            // Several labels may name the service, and a series is read once.
            for m in self.arms.near(reporter) {
                found.extend(near(std::slice::from_ref(m))?);
            }
            found.sort_by(|(_, a), (_, b)| a.labels.cmp(&b.labels));
            found.dedup_by(|(_, a), (_, b)| a.labels == b.labels);
        }
        Ok(found)
    }

    /// Each series of a counter, and from when on it is counted.
    fn uncounted(
        &self,
        counter: Counter,
        matchers: &[Matcher],
    ) -> Result<Vec<(Instance, SeriesSamples, Timestamp)>, Error> {
        let mut found = self.select(matchers, LOOKBACK)?;
        let begins = |s: &SeriesSamples| s.samples.first().is_some_and(|x| x.timestamp > self.start);
        if found.iter().any(|(_, s)| begins(s)) {
            found = self.select(matchers, LOOKBACK_RESTED)?;
        }
        let from = |(arm, s): (Arm, SeriesSamples)| {
            let instance = (arm, instance(&s.labels));
            let known = self.counted.get(&(counter, arm, Arc::clone(&instance.1))).copied();
            (instance, s, known.map_or(self.start, |at| at.min(self.start)))
        };
        Ok(found.into_iter().map(from).collect())
    }

    /// What was counted is counted; resets and sample times are signs of how the instance fares.
    fn remember(&mut self, counter: Counter, seen: &[(Instance, Timestamp, u32)]) {
        let mut by: ByInstance<(Timestamp, u32)> = BTreeMap::new();
        for (instance, until, resets) in seen {
            let known = by.entry(instance.clone()).or_insert((*until, 0));
            *known = (known.0.max(*until), known.1.max(*resets));
        }
        for ((arm, instance), (until, resets)) in by {
            // A restart shows in every counter of the instance and is one restart.
            let sign = self.signs.entry((arm, Arc::clone(&instance))).or_default();
            sign.resets = sign.resets.max(resets);
            self.counted.insert((counter, arm, instance), until);
        }
    }

    fn newest(&mut self, instance: &Instance, s: &SeriesSamples) {
        let newest = s.samples.iter().rev().find(|x| !x.value.is_stale()).map(|x| x.timestamp);
        let sign = self.signs.entry(instance.clone()).or_default();
        sign.newest = sign.newest.max(newest);
    }

    /// Increments of each series since what was counted of it.
    pub(super) fn counters(&mut self, counter: Counter, matchers: &[Matcher]) -> Result<Vec<Gained>, Error> {
        let mut gained = Vec::new();
        let mut seen = Vec::new();
        for (instance, s, from) in self.uncounted(counter, matchers)? {
            self.newest(&instance, &s);
            if let Some(i) = increase(&s.samples, from, self.end) {
                let sign = self.signs.entry(instance.clone()).or_default();
                let sum = if matches!(counter, Counter::Cpu(_)) { &mut sign.cpu } else { &mut sign.gained };
                *sum = Some(sum.unwrap_or(0.0) + i.value);
                seen.push((instance.clone(), i.until, i.resets));
                gained.push((instance, s.labels, i));
            }
        }
        self.remember(counter, &seen);
        Ok(gained)
    }

    pub(super) fn increases(
        &mut self,
        counter: Counter,
        matchers: &[Matcher],
    ) -> Result<ByInstance<Sum>, Error> {
        let mut sums: ByInstance<Sum> = BTreeMap::new();
        for (instance, _, gained) in self.counters(counter, matchers)? {
            sums.entry(instance).or_default().add(&gained);
        }
        Ok(sums)
    }

    fn histograms(&mut self, counter: Counter, matchers: &[Matcher]) -> Result<ByInstance<Buckets>, Error> {
        let mut found: ByInstance<Buckets> = BTreeMap::new();
        for (instance, labels, gained) in self.counters(counter, matchers)? {
            if let Some(bound) = labels.get(name::LE).and_then(|le| le.parse::<f64>().ok()) {
                let (member, time) = (labels.without(&[name::LE]), (gained.since, gained.until));
                found.entry(instance).or_default().add(member, bound, gained.value, time);
            }
        }
        Ok(found)
    }

    fn native_histograms(&mut self, i: usize, matchers: &[Matcher]) -> Result<ByInstance<Buckets>, Error> {
        let counter = Counter::Buckets(i);
        let uncounted = self.uncounted(counter, matchers)?;
        // Edges are those of the coarsest histogram of either arm, now or before.
        for (_, s, _) in &uncounted {
            self.grids[i].coarsen(&s.samples);
        }
        let mut found: ByInstance<Buckets> = BTreeMap::new();
        let mut seen = Vec::new();
        for (instance, s, from) in uncounted {
            self.newest(&instance, &s);
            let gained: Option<HistogramIncrease> =
                histogram_increase(&s.samples, from, self.end, &self.grids[i]);
            if let Some(gained) = gained {
                seen.push((instance.clone(), gained.until, gained.resets));
                found.entry(instance).or_default().add_native(&s.labels, &gained);
            }
        }
        self.remember(counter, &seen);
        Ok(found)
    }

    /// Newest values within the interval, summed over an instance's series.
    fn values(&self, matchers: &[Matcher]) -> Result<ByInstance<f64>, Error> {
        let mut sums: ByInstance<f64> = BTreeMap::new();
        for (arm, s) in self.select(matchers, Duration::ZERO)? {
            let newest = s.samples.last().filter(|x| x.timestamp > self.start);
            if let Some(v) = newest.and_then(|x| x.value.as_float()).filter(|v| v.is_finite()) {
                *sums.entry((arm, instance(&s.labels))).or_default() += v;
            }
        }
        Ok(sums)
    }
}

fn bucketed(
    histograms: &ByInstance<Buckets>,
    seconds_per_unit: f64,
    edges: &mut Arc<[f64]>,
) -> ByInstance<Found> {
    *edges = common_edges(histograms.values(), seconds_per_unit);
    let found = histograms.iter().map(|(instance, h)| {
        let counts = h.counts(edges, seconds_per_unit);
        (instance.clone(), Found { measurement: Measurement::Buckets(counts), seconds: h.seconds })
    });
    found.collect()
}

fn gauges(values: ByInstance<f64>) -> ByInstance<Found> {
    let gauge = |v| Found { measurement: Measurement::Gauge(v), seconds: 0.0 };
    values.into_iter().map(|(instance, v)| (instance, gauge(v))).collect()
}

/// Who a series speaks of: the pod where cAdvisor says so (its `instance` is the node), else the instance, of a
/// load balancer with the server behind it.
pub(super) fn instance(labels: &Labels) -> Arc<str> {
    let member = foreign::reporter(labels.metric_name()).and_then(|r| r.member).and_then(|l| labels.get(l));
    if let Some(member) = member {
        return format!("{}/{member}", labels.get(name::INSTANCE).unwrap_or("")).into();
    }
    let pod = labels.get("container").and(labels.get("pod"));
    pod.or_else(|| labels.get(name::INSTANCE)).unwrap_or("").into()
}

/// Values of an expression by instance, and whether an instance has several: those say nothing certain of it and
/// are left out.
fn one_an_instance(arm: Arm, values: Vec<(Labels, f64)>) -> (Vec<(Instance, f64)>, bool) {
    let mut by: ByInstance<Vec<f64>> = BTreeMap::new();
    for (labels, v) in values {
        by.entry((arm, instance(&labels))).or_default().push(v);
    }
    let several = by.values().any(|v| v.len() > 1);
    let one = by.into_iter().filter(|(_, v)| v.len() == 1 && v[0].is_finite()).map(|(i, v)| (i, v[0]));
    (one.collect(), several)
}

/// Increments of an instance's series, and the time they cover together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) value: f64,
    covered: Option<(Timestamp, Timestamp)>,
}

impl Sum {
    fn add(&mut self, gained: &Increase) {
        self.value += gained.value;
        let (since, until) = self.covered.unwrap_or((gained.since, gained.until));
        self.covered = Some((since.min(gained.since), until.max(gained.until)));
    }

    fn seconds(&self) -> f64 {
        self.covered.map_or(0.0, |(since, until)| until.since(since).as_secs_f64())
    }
}
