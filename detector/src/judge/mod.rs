//! The judge: evidence for and against each metric of a release, in constant memory and without a clock.
//!
//! The formulas are those of the study (`judge.md`, section 2). Read in this order: `evidence.rs` (what evidence
//! is), `term.rs` (what one interval says), `counts.rs` (errors, slow requests, conversions), `cohort.rs` (those of
//! them that began together), `latency.rs`, `level.rs` and `growth.rs` (resources), `gauge.rs`; `crate::AnalysisRun`
//! decides on what they say.

mod clusters;
mod cohort;
mod cold;
mod counts;
mod epochs;
mod evidence;
mod forecast;
mod gauge;
mod gross;
mod growth;
mod instances;
mod latency;
mod level;
mod long_run;
mod proportion;
#[cfg(test)]
mod reference_tests;
mod resource;
mod row;
mod slots;
mod slower;
mod study;
mod survival;
mod tail;
mod term;
mod totals;
pub(crate) mod words;

use std::sync::Arc;

use ndarray::Array2;

use crate::calibration::Noise;
use crate::interval::{Interval, Measurement};
use crate::plan::{Arm, Metric};
use crate::verdict::MetricClass;

use gauge::Gauge;
use latency::Latency;
use level::Use;
use proportion::Proportion;
use resource::Resource;
use term::Counts;

pub(crate) use evidence::log_add;
pub(crate) use forecast::Forecast;
pub(crate) use row::Row;
pub(crate) use slots::Slots;

/// Log of the evidence at which a metric is shown no worse: a canary exactly at that margin is passed in at most
/// five of a hundred releases.
pub(crate) const PASS_BOUNDARY: f64 = 2.995_732_273_553_991;
/// The bounds that are shown hold at all times at once with 95 % probability.
pub(crate) const CONFIDENCE_ALPHA: f64 = 0.05;

/// What every row needs to know.
pub(crate) struct Frame<'a> {
    pub(crate) arms: &'a [Arm],
    /// Whether anything has been judged yet; before it there are no bounds.
    pub(crate) judged: bool,
}

/// The state of one metric.
#[derive(Debug, Clone)]
pub(crate) enum Judged {
    Proportion(Box<Proportion>),
    Latency(Box<Latency>),
    Resource(Box<Resource>),
    Gauge(Box<Gauge>),
}

impl Judged {
    pub(crate) fn new(metric: &Metric, known: &Noise) -> Self {
        match metric.class {
            MetricClass::Errors | MetricClass::Proportion => {
                Self::Proportion(Box::new(Proportion::new(metric, known)))
            }
            MetricClass::Latency => Self::Latency(Box::new(Latency::new(metric, known))),
            MetricClass::Cpu | MetricClass::Memory => Self::Resource(Box::new(Resource::new(metric, known))),
            MetricClass::Gauge => Self::Gauge(Box::new(Gauge::new(metric))),
        }
    }

    /// What this release taught of the metric's noise; a gauge of unknown kind teaches nothing.
    pub(crate) fn learned(&self) -> Noise {
        match self {
            Self::Proportion(p) => p.learned(),
            Self::Latency(l) => l.learned(),
            Self::Resource(r) => r.learned(),
            Self::Gauge(_) => Noise::default(),
        }
    }

    /// The judged time begins: what was shown until now is forgotten, what was learned is kept.
    pub(crate) fn begin(&mut self) {
        match self {
            Self::Proportion(p) => p.begin(),
            Self::Latency(l) => l.begin(),
            Self::Resource(r) => r.begin(),
            Self::Gauge(g) => g.begin(),
        }
    }

    /// Takes an interval; only when `judged` does it become evidence.
    pub(crate) fn take(&mut self, view: &View<'_>, judged: bool) {
        let arms = view.arms;
        match self {
            Self::Proportion(p) => {
                let counts = view.counts();
                if judged { p.step(arms, &counts) } else { p.observe(arms, &counts) }
            }
            Self::Latency(l) => {
                let Some((edges, counts)) = view.buckets() else { return };
                l.step(arms, edges, &counts, judged);
            }
            Self::Resource(r) => {
                let uses = view.uses();
                if judged { r.step(arms, view.at_h, &uses) } else { r.observe(arms, view.at_h, &uses) }
            }
            Self::Gauge(g) => {
                let values = view.values();
                if judged { g.step(arms, &values) } else { g.observe(arms, &values) }
            }
        }
    }

    pub(crate) fn rows(&self, frame: &Frame<'_>) -> Vec<Row<'_>> {
        match self {
            Self::Proportion(p) => vec![p.row(frame)],
            Self::Latency(l) => l.rows(frame),
            Self::Resource(r) => vec![r.row(frame)],
            Self::Gauge(g) => vec![g.row(frame)],
        }
    }
}

/// One metric of an interval, by slot.
pub(crate) struct View<'a> {
    pub(crate) interval: &'a Interval,
    /// Index of the metric in the plan.
    pub(crate) metric: usize,
    pub(crate) arms: &'a [Arm],
    /// Slot of each of the interval's instances.
    pub(crate) slots: &'a [usize],
    /// End of the interval in hours since the run began.
    pub(crate) at_h: f64,
}

impl<'a> View<'a> {
    /// Sound measurements with their slots and what else the instance showed.
    fn measured(
        &self,
    ) -> impl Iterator<Item = (usize, &'a Measurement, &'a crate::interval::InstanceInterval)> {
        let metric = self.metric;
        self.interval.instances.iter().zip(self.slots).filter_map(move |(i, slot)| {
            let m = i.measurements.get(metric)?.as_ref()?;
            m.is_sound().then_some((*slot, m, i))
        })
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts { trials: vec![0.0; self.arms.len()], events: vec![0.0; self.arms.len()] };
        for (slot, m, _) in self.measured() {
            if let Measurement::Proportion { events, trials } = m {
                counts.trials[slot] += trials;
                counts.events[slot] += events.min(*trials);
            }
        }
        counts
    }

    /// Trials of the arms.
    pub(crate) fn trials(&self) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for (slot, m, _) in self.measured() {
            if let Measurement::Proportion { trials, .. } = m {
                sums[self.arms[slot] as usize] += trials;
            }
        }
        sums
    }

    fn buckets(&self) -> Option<(&'a Arc<[f64]>, Array2<f64>)> {
        let edges = self.interval.edges.get(self.metric).filter(|e| !e.is_empty())?;
        let mut counts = Array2::zeros((self.arms.len(), edges.len() + 1));
        for (slot, m, _) in self.measured() {
            if let Measurement::Buckets(c) = m
                && c.len() == edges.len() + 1
            {
                counts.row_mut(slot).iter_mut().zip(c).for_each(|(sum, c)| *sum += c);
            }
        }
        Some((edges, counts))
    }

    fn uses(&self) -> Vec<Option<Use>> {
        let mut uses: Vec<Option<Use>> = vec![None; self.arms.len()];
        for (slot, m, i) in self.measured() {
            let Measurement::Gauge(value) = m else { continue };
            if *value < 0.0 || !(i.seconds > 0.0 && i.seconds.is_finite()) {
                continue;
            }
            let requests = i.requests.filter(|r| r.is_finite() && *r >= 0.0);
            let seen = Use { value: *value, log: value.ln(), seconds: i.seconds, requests };
            uses[slot] = Some(uses[slot].map_or(seen, |u| u.merged(&seen)));
        }
        // A zero has no logarithm, and of a resource it means "not read".
        uses.iter_mut().for_each(|u| *u = u.filter(|u| u.value > 0.0));
        uses
    }

    fn values(&self) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0.0); self.arms.len()];
        for (slot, m, _) in self.measured() {
            if let Measurement::Gauge(v) = m {
                sums[slot] = (sums[slot].0 + v, sums[slot].1 + 1.0);
            }
        }
        sums.into_iter().map(|(sum, n)| (n > 0.0).then(|| sum / n)).collect()
    }
}
