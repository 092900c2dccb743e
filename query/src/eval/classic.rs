//! `histogram_quantile` and `histogram_fraction`: native histograms each by themselves, classic ones gathered from
//! the series that differ in `le` alone.

use std::collections::HashMap;

use davy_model::{Labels, name};

use super::budget::POINTS_PER_SERIES;
use super::merge::Merged;
use super::notes::Note;
use super::quantile::{ClassicBucket, bucket_fraction, bucket_quantile};
use super::series::{Series, is_present};
use super::{Evaluation, Sink};
use crate::ast::Node;
use crate::histogram::{Histo, NanEffect};
use crate::{EvalError, Source};

const LE: &str = "le";

/// The buckets of one classic histogram, and the native ones with the same labels.
#[derive(Default)]
struct Gathered {
    buckets: Vec<(f64, Vec<f64>)>,
    native: Option<Series>,
}

impl<S: Source> Evaluation<'_, S> {
    pub(super) fn histogram_quantile(
        &self,
        q: &Node,
        of: &Node,
        position: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        let q = self.scalar(q)?;
        self.note_quantiles(&q, position);
        let at = of.position();
        self.each_histogram(
            of,
            sink,
            |i, metric, h| {
                let (v, effect) = h.quantile(q[i]);
                match effect {
                    NanEffect::None => {}
                    NanEffect::Result => self.notes.add(Note::QuantileIsNan { metric }, position),
                    NanEffect::Skew => self.notes.add(Note::QuantileIsSkewed { metric }, position),
                }
                v
            },
            |i, metric, buckets| {
                let (v, forced) = bucket_quantile(q[i], buckets);
                if forced {
                    self.notes.add(Note::ForcedMonotonicity { metric }, at);
                }
                v
            },
        )
    }

    pub(super) fn histogram_fraction(
        &self,
        lower: &Node,
        upper: &Node,
        of: &Node,
        position: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        let (lower, upper) = (self.scalar(lower)?, self.scalar(upper)?);
        self.each_histogram(
            of,
            sink,
            |i, metric, h| {
                let (v, with_nans) = h.fraction(lower[i], upper[i]);
                if with_nans {
                    self.notes.add(Note::FractionWithoutNans { metric }, position);
                }
                v
            },
            |i, _, buckets| bucket_fraction(lower[i], upper[i], buckets),
        )
    }

    fn each_histogram(
        &self,
        of: &Node,
        sink: &mut Sink<'_>,
        native: impl Fn(usize, &str, &Histo) -> f64,
        classic: impl Fn(usize, &str, &mut Vec<ClassicBucket>) -> f64,
    ) -> Result<(), EvalError> {
        let at = of.position();
        let steps = self.grid.count;
        let mut held = self.meter.hold();
        let mut order: Vec<Labels> = Vec::new();
        let mut found: HashMap<Labels, Gathered, foldhash::fast::RandomState> = HashMap::default();
        self.vector(of, &mut |series| {
            held.grow(steps + POINTS_PER_SERIES)?;
            let mut gathered = |labels: Labels, f: &mut dyn FnMut(&mut Gathered)| {
                f(found.entry(labels.clone()).or_insert_with(|| {
                    order.push(labels);
                    Gathered::default()
                }));
            };
            if series.floats.iter().any(|v| is_present(*v)) {
                let le = series.labels.get(LE).unwrap_or("");
                match le.parse::<f64>() {
                    Ok(bound) => {
                        let floats = series.floats.clone();
                        let labels = series.labels.without(&[LE]);
                        gathered(labels, &mut |g| g.buckets.push((bound, floats.clone())));
                    }
                    Err(_) => {
                        let metric = series.labels.metric_name();
                        self.notes.add(Note::BadBucketLabel { metric, le }, at);
                    }
                }
            }
            if series.histograms.is_some() {
                let labels = series.labels.clone();
                gathered(labels, &mut |g| g.native = Some(series.clone()));
            }
            Ok(())
        })?;
        let mut merged = Merged::new(self);
        let mut buckets: Vec<ClassicBucket> = Vec::new();
        for labels in order {
            self.check()?;
            let Some(mut g) = found.remove(&labels) else { continue };
            g.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let metric = labels.metric_name();
            let mut out = Series::empty(labels.without(&[name::METRIC]), steps);
            for i in 0..steps {
                buckets.clear();
                let at_step = g.buckets.iter().filter(|(_, v)| is_present(v[i]));
                buckets.extend(at_step.map(|(bound, v)| (*bound, v[i])));
                let h = g.native.as_ref().and_then(|n| n.histogram(i));
                match (h, buckets.is_empty()) {
                    (Some(_), false) => self.notes.add(Note::MixedClassicNative { metric }, at),
                    (Some(h), true) => out.floats[i] = native(i, metric, h),
                    (None, false) => out.floats[i] = classic(i, metric, &mut buckets),
                    (None, true) => {}
                }
            }
            if !out.is_empty() {
                merged.add(out)?;
            }
        }
        merged.emit(sink)
    }
}
