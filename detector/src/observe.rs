//! `Observer`: reads one interval of a release from the store. Hop 4's direct read: increments on counts, with
//! no extrapolation, instance by instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Labels, Matcher, Timestamp, name};
use davy_query::counts::{Increase, increase};
use davy_query::{Engine, EvalError, Source};
use davy_store::{Error, SeriesSamples};

use crate::interval::{InstanceInterval, Interval, Measurement};
use crate::plan::{Arm, Plan, Reading};
use crate::scope;
use crate::versions::Arms;

/// How far before an interval the sample may lie that an increment is counted from; further for series that seem
/// to begin within it, because what is pushed may rest for long between two events.
const LOOKBACK: Duration = Duration::from_secs(10 * 60);
const LOOKBACK_RESTED: Duration = Duration::from_secs(60 * 60);
/// Intervals that the value of an expression may be old.
const QUERY_INTERVALS: u32 = 3;

/// Reads interval after interval. A scrape is stamped when it begins and stored when it has been read, so a sample
/// may appear after its interval was read: what has been counted is remembered, and the late sample's increment
/// comes with the next interval.
#[derive(Debug, Clone)]
pub struct Observer {
    plan: Plan,
    arms: Arms,
    /// Newest sample that was counted of a counter and instance.
    counted: BTreeMap<(Counter, Arm, Arc<str>), Timestamp>,
}

/// A counter of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Counter {
    Requests,
    /// By index of the metric.
    Trials(usize),
    Events(usize),
    Buckets(usize),
    Cpu(usize),
}

/// What an arm's series gave, by instance.
type ByInstance<T> = BTreeMap<(Arm, Arc<str>), T>;

/// An instance in the making.
#[derive(Debug, Default)]
struct Seen {
    seconds: f64,
    requests: Option<f64>,
    measurements: Vec<Option<Measurement>>,
}

impl Observer {
    pub fn new(plan: Plan, arms: Arms) -> Self {
        Self { plan, arms, counted: BTreeMap::new() }
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
        let mut read = Read { arms: &self.arms, source, start, end, counted: &mut self.counted };
        let mut instances: ByInstance<Seen> = BTreeMap::new();
        let none: Arc<[f64]> = Arc::new([]);
        let mut edges = vec![none; metrics];
        for (i, metric) in self.plan.metrics.iter().enumerate() {
            for (instance, found) in read.metric(i, &metric.reading, &mut edges[i])? {
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
        let down = read.down()?;
        self.counted.retain(|_, at| *at + LOOKBACK >= start);
        let interval_s = end.since(start).as_secs_f64();
        let instances = instances.into_iter().map(|((arm, instance), seen)| InstanceInterval {
            arm,
            instance,
            seconds: if seen.seconds > 0.0 { seen.seconds } else { interval_s },
            requests: seen.requests,
            measurements: seen.measurements,
        });
        Ok(Interval { start, end, edges, instances: instances.collect(), down })
    }
}

/// What one series gained, with its instance and its labels.
type Gained = ((Arm, Arc<str>), Labels, Increase);

/// A measurement and the time that it covers.
struct Found {
    measurement: Measurement,
    seconds: f64,
}

struct Read<'a, S> {
    arms: &'a Arms,
    source: &'a S,
    start: Timestamp,
    end: Timestamp,
    counted: &'a mut BTreeMap<(Counter, Arm, Arc<str>), Timestamp>,
}

impl<S: Source> Read<'_, S> {
    fn metric(
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
                *edges = common_edges(&histograms, *seconds_per_unit);
                let found = histograms.into_iter().map(|(instance, h)| {
                    let counts = h.counts(edges, *seconds_per_unit);
                    (instance, Found { measurement: Measurement::Buckets(counts), seconds: h.seconds })
                });
                Ok(found.collect())
            }
            Reading::CpuSeconds { series } => {
                let gained = self.increases(Counter::Cpu(i), series)?.into_iter();
                let found = gained.filter(|(_, g)| g.seconds() > 0.0).map(|(instance, g)| {
                    let measurement = Measurement::Gauge(g.value / g.seconds());
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
                            found.extend(one_an_instance(arm, values));
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
        let mut found = Vec::new();
        for service in scope::service(&self.arms.service) {
            let all: Vec<Matcher> = matchers.iter().chain(&service).cloned().collect();
            let series = self.source.select(&all, self.start - lookback, self.end)?;
            found.extend(series.into_iter().filter_map(|s| Some((self.arms.arm_of(&s.labels)?, s))));
        }
        Ok(found)
    }

    /// Increments of each series since what was counted of it.
    fn counters(&mut self, counter: Counter, matchers: &[Matcher]) -> Result<Vec<Gained>, Error> {
        let mut found = self.select(matchers, LOOKBACK)?;
        let begins = |s: &SeriesSamples| s.samples.first().is_some_and(|x| x.timestamp > self.start);
        if found.iter().any(|(_, s)| begins(s)) {
            found = self.select(matchers, LOOKBACK_RESTED)?;
        }
        let mut gained = Vec::new();
        let mut newest: ByInstance<Timestamp> = BTreeMap::new();
        for (arm, s) in found {
            let instance = (arm, instance(&s.labels));
            let known = self.counted.get(&(counter, arm, Arc::clone(&instance.1))).copied();
            let from = known.map_or(self.start, |at| at.min(self.start));
            if let Some(i) = increase(&s.samples, from, self.end) {
                let at = newest.entry(instance.clone()).or_insert(i.until);
                *at = i.until.max(*at);
                gained.push((instance, s.labels, i));
            }
        }
        for ((arm, instance), at) in newest {
            self.counted.insert((counter, arm, instance), at);
        }
        Ok(gained)
    }

    fn increases(&mut self, counter: Counter, matchers: &[Matcher]) -> Result<ByInstance<Sum>, Error> {
        let mut sums: ByInstance<Sum> = BTreeMap::new();
        for (instance, _, gained) in self.counters(counter, matchers)? {
            sums.entry(instance).or_default().add(&gained);
        }
        Ok(sums)
    }

    fn histograms(&mut self, counter: Counter, matchers: &[Matcher]) -> Result<ByInstance<Histogram>, Error> {
        let mut found: ByInstance<Histogram> = BTreeMap::new();
        for (instance, labels, gained) in self.counters(counter, matchers)? {
            if let Some(bound) = labels.get(name::LE).and_then(|le| le.parse::<f64>().ok()) {
                found.entry(instance).or_default().add(labels.without(&[name::LE]), bound, &gained);
            }
        }
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

    /// Instances whose last scrape failed.
    fn down(&self) -> Result<Vec<(Arm, Arc<str>)>, Error> {
        let up = self.select(&[Matcher::metric("up")], Duration::ZERO)?;
        let fails = |s: &SeriesSamples| s.samples.last().and_then(|x| x.value.as_float()) == Some(0.0);
        Ok(up.into_iter().filter(|(_, s)| fails(s)).map(|(arm, s)| (arm, instance(&s.labels))).collect())
    }
}

fn gauges(values: ByInstance<f64>) -> ByInstance<Found> {
    let gauge = |v| Found { measurement: Measurement::Gauge(v), seconds: 0.0 };
    values.into_iter().map(|(instance, v)| (instance, gauge(v))).collect()
}

/// Who a series speaks of: the pod where cAdvisor says so (its `instance` is the node), else the instance.
fn instance(labels: &Labels) -> Arc<str> {
    let pod = labels.get("container").and(labels.get("pod"));
    pod.or_else(|| labels.get(name::INSTANCE)).unwrap_or("").into()
}

/// Values of an expression by instance; several of one instance say nothing certain of it and are left out.
fn one_an_instance(arm: Arm, values: Vec<(Labels, f64)>) -> impl Iterator<Item = ((Arm, Arc<str>), f64)> {
    let mut by: ByInstance<Vec<f64>> = BTreeMap::new();
    for (labels, v) in values {
        by.entry((arm, instance(&labels))).or_default().push(v);
    }
    by.into_iter().filter(|(_, v)| v.len() == 1 && v[0].is_finite()).map(|(i, v)| (i, v[0]))
}

/// Increments of an instance's series, and the time they cover together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    value: f64,
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

/// Cumulative increments of one instance's buckets, summed over its series by bound.
#[derive(Debug, Default)]
struct Histogram {
    /// Bounds of each of the instance's histograms: only those that all have can be summed.
    members: BTreeMap<Labels, BTreeSet<Bound>>,
    cumulative: BTreeMap<Bound, f64>,
    seconds: f64,
}

/// A bucket's upper bound; finite or `+Inf`, so that it has an order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Histogram {
    fn add(&mut self, member: Labels, bound: f64, gained: &Increase) {
        self.members.entry(member).or_default().insert(Bound(bound));
        *self.cumulative.entry(Bound(bound)).or_default() += gained.value;
        self.seconds = self.seconds.max(gained.until.since(gained.since).as_secs_f64());
    }

    /// Counts between the edges, which are in seconds; what lies above the last comes last.
    fn counts(&self, edges: &[f64], seconds_per_unit: f64) -> Vec<f64> {
        let upto: BTreeMap<Bound, f64> =
            self.cumulative.iter().map(|(b, c)| (Bound(b.0 * seconds_per_unit), *c)).collect();
        let mut below = 0.0;
        edges
            .iter()
            .chain([&f64::INFINITY])
            .map(|e| {
                let cumulative = upto.get(&Bound(*e)).copied().unwrap_or(below);
                let count = (cumulative - below).max(0.0);
                below = below.max(cumulative);
                count
            })
            .collect()
    }
}

/// Positive finite bounds that every histogram of both arms has, in seconds.
fn common_edges(histograms: &ByInstance<Histogram>, seconds_per_unit: f64) -> Arc<[f64]> {
    let mut members = histograms.values().flat_map(|h| h.members.values());
    let Some(first) = members.next() else { return Arc::new([]) };
    let common = members.fold(first.clone(), |common, m| common.intersection(m).copied().collect());
    if !common.contains(&Bound(f64::INFINITY)) {
        return Arc::new([]);
    }
    common
        .into_iter()
        .map(|b| b.0)
        .filter(|b| *b > 0.0 && b.is_finite())
        .map(|b| b * seconds_per_unit)
        .collect()
}
