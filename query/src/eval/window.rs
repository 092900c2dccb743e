//! Ranges: the samples in `(end - range, end]` of every step, for one series after the other.

use std::sync::Arc;

use davy_model::{Labels, Sample, Timestamp, Value, is_stale};

use super::{Evaluation, Sink};
use crate::ast::{Node, Selector, Shift};
use crate::eval::series::is_present;
use crate::histogram::Histo;
use crate::{EvalError, Source};

/// Samples of one series, staleness markers left out.
pub(crate) struct Ranged {
    pub labels: Labels,
    pub times: Arc<[i64]>,
    pub floats: Vec<f64>,
    pub histograms: Vec<(i64, Arc<Histo>)>,
}

/// First and one past the last sample of each step.
#[derive(Default)]
pub(crate) struct Windows {
    times: Option<Arc<[i64]>>,
    pub floats: Vec<(u32, u32)>,
    pub histograms: Vec<(u32, u32)>,
}

/// The range that a function is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeOf {
    pub range_ms: i64,
    pub shift: Shift,
}

impl<S: Source> Evaluation<'_, S> {
    /// Each series of a selector's range or a subquery.
    pub(super) fn ranges(
        &self,
        node: &Node,
        each: &mut dyn FnMut(Ranged) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        match node {
            Node::Range { selector, range_ms } => self.selected_ranges(selector, *range_ms, each),
            Node::Subquery { of, step_ms, .. } => {
                self.subquery_ranges(of, super::over::range_of(node), *step_ms, each)
            }
            _ => Err(EvalError::Type { expected: "a range" }),
        }
    }

    /// The samples of the one range that is asked for, as they are.
    pub(crate) fn ranges_within(
        &self,
        node: &Node,
        each: &mut dyn FnMut(Labels, Vec<Sample>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let asked = super::over::range_of(node);
        let mut windows = Windows::default();
        self.ranges(node, &mut |series| {
            self.windows(&series, asked, &mut windows);
            let within = |w: Option<&(u32, u32)>| w.map_or(0..0, |(l, h)| *l as usize..*h as usize);
            let (floats, histograms) = (within(windows.floats.first()), within(windows.histograms.first()));
            let float = |i: usize| Sample {
                timestamp: Timestamp::from_millis(series.times[i]),
                value: Value::Float(series.floats[i]),
            };
            let histogram = |(t, h): &(i64, Arc<Histo>)| Sample {
                timestamp: Timestamp::from_millis(*t),
                value: Value::Histogram(Arc::new(h.to_model())),
            };
            let mut samples: Vec<Sample> = floats.map(float).collect();
            samples.extend(series.histograms[histograms].iter().map(histogram));
            samples.sort_by_key(|s| s.timestamp);
            if samples.is_empty() { Ok(()) } else { each(series.labels, samples) }
        })
    }

    fn selected_ranges(
        &self,
        selector: &Selector,
        range_ms: i64,
        each: &mut dyn FnMut(Ranged) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        self.read(selector, range_ms, &mut |found| {
            let histograms = found.samples.histograms();
            let histograms = histograms.iter().filter(|(_, h)| !is_stale(h.sum));
            let histograms = histograms.map(|(t, h)| (*t, Arc::new(Histo::new(h)))).collect();
            let labels = found.labels;
            let (mut times, mut floats) = found.samples.into_floats();
            if floats.iter().any(|v| is_stale(*v)) {
                let kept = times.iter().zip(&floats).filter(|(_, v)| !is_stale(**v));
                let (t, f): (Vec<i64>, Vec<f64>) = kept.map(|(t, v)| (*t, *v)).unzip();
                (times, floats) = (t.into(), f);
            }
            each(Ranged { labels, times, floats, histograms })
        })
    }

    /// Evaluates the inner expression on a grid of its own, aligned to its step.
    fn subquery_ranges(
        &self,
        of: &Node,
        asked: RangeOf,
        step_ms: Option<i64>,
        each: &mut dyn FnMut(Ranged) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let default = self.engine.subquery_step.as_millis().clamp(1, i64::MAX as u128) as i64;
        let step = step_ms.unwrap_or(default).max(1);
        let first = asked.shift.apply(self.grid.start, self.query);
        let last = asked.shift.apply(self.grid.end(), self.query);
        let after = first.saturating_sub(asked.range_ms);
        let start = after.div_euclid(step).saturating_add(1).saturating_mul(step);
        let inner = self.on(super::Grid::new(start, last, step))?;
        // Its times, and the values of the series that is under way.
        let mut held = self.meter.hold();
        held.grow(inner.grid.count.saturating_mul(3))?;
        let times: Arc<[i64]> = inner.grid.times().collect();
        inner.vector_of_any(of, &mut |series| {
            let histograms = series.histograms.as_ref().map_or_else(Vec::new, |all| {
                let held = all.iter().enumerate().filter_map(|(i, h)| Some((times[i], h.clone()?)));
                held.collect()
            });
            let (times, floats) = if series.floats.iter().all(|v| is_present(*v)) {
                (times.clone(), series.floats)
            } else {
                let held = times.iter().zip(&series.floats).filter(|(_, v)| is_present(**v));
                let (t, f): (Vec<i64>, Vec<f64>) = held.map(|(t, v)| (*t, *v)).unzip();
                (t.into(), f)
            };
            each(Ranged { labels: series.labels, times, floats, histograms })
        })
    }

    /// A scalar within a subquery is a series without labels.
    fn vector_of_any(&self, of: &Node, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        match of.value_type() {
            crate::ast::ValueType::Scalar => {
                let floats = self.scalar(of)?;
                sink(super::Series { labels: Labels::empty(), floats, histograms: None })
            }
            _ => self.vector(of, sink),
        }
    }

    pub(super) fn windows(&self, series: &Ranged, asked: RangeOf, windows: &mut Windows) {
        if !windows.times.as_ref().is_some_and(|t| Arc::ptr_eq(t, &series.times)) {
            windows.times = Some(series.times.clone());
            self.bounds(asked, series.times.len(), |i| series.times[i], &mut windows.floats);
        }
        windows.histograms.clear();
        if !series.histograms.is_empty() {
            let all = &series.histograms;
            self.bounds(asked, all.len(), |i| all[i].0, &mut windows.histograms);
        }
    }

    fn bounds(&self, asked: RangeOf, len: usize, time: impl Fn(usize) -> i64, out: &mut Vec<(u32, u32)>) {
        out.clear();
        let (mut low, mut high) = (0, 0);
        for t in self.grid.times() {
            let end = asked.shift.apply(t, self.query);
            let after = end.saturating_sub(asked.range_ms);
            while high < len && time(high) <= end {
                high += 1;
            }
            while low < high && time(low) <= after {
                low += 1;
            }
            out.push((low as u32, high as u32));
        }
    }
}
