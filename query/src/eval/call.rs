//! Calls of functions.

use davy_model::{Labels, name};

use super::dates::Civil;
use super::merge::Merged;
use super::over::{ones_where_unseen, range_of, seen_in};
use super::series::{ABSENT, Point, Series, is_present};
use super::window::Windows;
use super::{Evaluation, Sink};
use crate::ast::{Node, ValueType};
use crate::function::Function;
use crate::{EvalError, Source};

impl<S: Source> Evaluation<'_, S> {
    pub(super) fn call(
        &self,
        function: Function,
        args: &[Node],
        position: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        match (function, args) {
            (Function::Map(f), [of]) => self.map(of, f, sink),
            (Function::OfHistogram(f), [of]) => self.nameless(
                of,
                |series| {
                    for i in 0..series.floats.len() {
                        let v = series.histogram(i).map_or(ABSENT, |h| f(h));
                        series.floats[i] = v;
                    }
                    series.histograms = None;
                },
                sink,
            ),
            (Function::Date(f), [of]) => self.map(of, |v| f(Civil::of_value(v)), sink),
            (Function::Date(f), []) => {
                let floats = self.grid.times().map(|t| f(Civil::of_seconds(t.div_euclid(1000)))).collect();
                sink(Series { labels: Labels::empty(), floats, histograms: None })
            }
            (Function::Over(over), _) => self.over_named(over, args, position, sink),
            (Function::AbsentOverTime, [range]) => self.absent_over_time(range, sink),
            (Function::Absent, [of]) => self.absent(of, sink),
            (Function::Clamp, [of, low, high]) => {
                let (low, high) = (self.scalar(low)?, self.scalar(high)?);
                self.clamp(of, &low, &high, sink)
            }
            (Function::ClampMin, [of, low]) => {
                let low = self.scalar(low)?;
                self.clamp(of, &low, &vec![f64::INFINITY; low.len()], sink)
            }
            (Function::ClampMax, [of, high]) => {
                let high = self.scalar(high)?;
                self.clamp(of, &vec![f64::NEG_INFINITY; high.len()], &high, sink)
            }
            (Function::Round, [of]) => self.round(of, &vec![1.0; self.grid.count], sink),
            (Function::Round, [of, to]) => {
                let to = self.scalar(to)?;
                self.round(of, &to, sink)
            }
            (Function::Vector, [of]) => {
                let floats = self.scalar(of)?;
                sink(Series { labels: Labels::empty(), floats, histograms: None })
            }
            (Function::Timestamp, [Node::Selector(s)]) => {
                let mut named = |series: Series| sink(series);
                let mut dropped = Merged::new(self);
                self.sample_times(s, &mut |mut series| {
                    series.labels = series.labels.without(&[name::METRIC]);
                    dropped.add(series)
                })?;
                dropped.emit(&mut named)
            }
            (Function::Timestamp, [of]) => self.nameless(
                of,
                |series| {
                    for i in 0..series.floats.len() {
                        let seconds = self.grid.time(i) as f64 / 1000.0;
                        series.floats[i] = if series.has(i) { seconds } else { ABSENT };
                    }
                    series.histograms = None;
                },
                sink,
            ),
            (Function::Sort { descending }, [of]) => self.sort(of, descending, sink),
            (Function::LabelReplace, _) => self.label_replace(args, sink),
            (Function::LabelJoin, _) => self.label_join(args, sink),
            (Function::HistogramQuantile, [q, of]) => self.histogram_quantile(q, of, position, sink),
            (Function::HistogramFraction, [low, high, of]) => {
                self.histogram_fraction(low, high, of, position, sink)
            }
            _ => Err(EvalError::Type { expected: "other arguments" }),
        }
    }

    /// The series of a node without their metric's name, each changed in place.
    pub(super) fn nameless(
        &self,
        of: &Node,
        change: impl Fn(&mut Series),
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        let take = |mut series: Series| {
            series.labels = series.labels.without(&[name::METRIC]);
            change(&mut series);
            series
        };
        if of.is_of_one_name() {
            return self.vector(of, &mut |series| {
                let series = take(series);
                if series.is_empty() { Ok(()) } else { sink(series) }
            });
        }
        let mut merged = Merged::new(self);
        self.vector(of, &mut |series| {
            let series = take(series);
            if series.is_empty() { Ok(()) } else { merged.add(series) }
        })?;
        merged.emit(sink)
    }

    /// Floats alone; histograms have no such value.
    fn map(&self, of: &Node, f: impl Fn(f64) -> f64, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        self.map_steps(of, |_, v| f(v), sink)
    }

    fn map_steps(
        &self,
        of: &Node,
        f: impl Fn(usize, f64) -> f64,
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        self.nameless(
            of,
            |series| {
                let floats = series.floats.iter_mut().enumerate().filter(|(_, v)| is_present(**v));
                floats.for_each(|(i, v)| *v = f(i, *v));
                series.histograms = None;
            },
            sink,
        )
    }

    fn over_named(
        &self,
        over: crate::function::Over,
        args: &[Node],
        position: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        if over.keeps_name() {
            return self.over(over, args, position, sink);
        }
        let one_name = args.iter().all(Node::is_of_one_name);
        let mut seen = std::collections::HashSet::new();
        self.over(over, args, position, &mut |mut series| {
            series.labels = series.labels.without(&[name::METRIC]);
            // Prometheus refuses two series of one label set here even at different times.
            if !one_name && !seen.insert(series.labels.clone()) {
                return Err(EvalError::SameLabels { labels: series.labels });
            }
            sink(series)
        })
    }

    fn absent(&self, of: &Node, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let mut seen = vec![false; self.grid.count];
        self.vector(of, &mut |series| {
            seen.iter_mut().enumerate().for_each(|(i, s)| *s |= series.has(i));
            Ok(())
        })?;
        self.absent_where(&seen, of, sink)
    }

    fn absent_over_time(&self, range: &Node, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let mut seen = vec![false; self.grid.count];
        let asked = range_of(range);
        let mut windows = Windows::default();
        self.ranges(range, &mut |series| {
            self.windows(&series, asked, &mut windows);
            seen_in(&windows, &mut seen);
            Ok(())
        })?;
        self.absent_where(&seen, range, sink)
    }

    fn absent_where(&self, seen: &[bool], of: &Node, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let floats = ones_where_unseen(seen);
        let series = Series { labels: super::labels::absent_labels(of), floats, histograms: None };
        if series.is_empty() { Ok(()) } else { sink(series) }
    }

    /// Where the upper bound is below the lower one there is nothing.
    fn clamp(&self, of: &Node, low: &[f64], high: &[f64], sink: &mut Sink<'_>) -> Result<(), EvalError> {
        self.map_steps(
            of,
            |i, v| {
                let (low, high) = (low[i], high[i]);
                if high < low { ABSENT } else { go_max(low, go_min(high, v)) }
            },
            sink,
        )
    }

    /// Ties go up.
    fn round(&self, of: &Node, to: &[f64], sink: &mut Sink<'_>) -> Result<(), EvalError> {
        self.map_steps(
            of,
            |i, v| {
                let inverse = 1.0 / to[i];
                (v * inverse + 0.5).floor() / inverse
            },
            sink,
        )
    }

    /// At an instant by value, NaN last; at several times there is no order.
    fn sort(&self, of: &Node, descending: bool, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let mut held = self.meter.hold();
        let mut all = Vec::new();
        self.vector(of, &mut |mut series| {
            held.grow(self.grid.count + super::budget::POINTS_PER_SERIES)?;
            series.histograms = None;
            if !series.is_empty() {
                all.push(series);
            }
            Ok(())
        })?;
        if self.grid.count == 1 {
            all.sort_by(|a, b| {
                let (a, b) = (a.floats[0], b.floats[0]);
                let by_value = if descending { b.total_cmp(&a) } else { a.total_cmp(&b) };
                a.is_nan().cmp(&b.is_nan()).then(by_value)
            });
        }
        all.into_iter().try_for_each(sink)
    }

    /// A node that is a number at every step.
    pub(crate) fn scalar(&self, node: &Node) -> Result<Vec<f64>, EvalError> {
        match node {
            Node::Number(v) => Ok(vec![*v; self.grid.count]),
            Node::Negate(of) => Ok(self.scalar(of)?.iter().map(|v| -v).collect()),
            Node::Binary(b) => self.binary_scalar(b),
            Node::Call { function: Function::Time, .. } => {
                Ok(self.grid.times().map(|t| t as f64 / 1000.0).collect())
            }
            Node::Call { function: Function::Pi, .. } => Ok(vec![std::f64::consts::PI; self.grid.count]),
            Node::Call { function: Function::Scalar, args, .. } => self.only_value(args),
            _ => Err(EvalError::Type { expected: "a scalar" }),
        }
    }

    /// `scalar(v)`: the value of the one series, NaN if there are none or several.
    fn only_value(&self, args: &[Node]) -> Result<Vec<f64>, EvalError> {
        let [of] = args else { return Err(EvalError::Type { expected: "a vector" }) };
        if of.value_type() != ValueType::Vector {
            return self.scalar(of);
        }
        let mut found = vec![(0usize, f64::NAN); self.grid.count];
        self.vector(of, &mut |series| {
            for (place, v) in found.iter_mut().zip(&series.floats).filter(|(_, v)| is_present(**v)) {
                *place = (place.0 + 1, *v);
            }
            Ok(())
        })?;
        Ok(found.iter().map(|(n, v)| if *n == 1 { *v } else { f64::NAN }).collect())
    }

    pub(super) fn negate(&self, of: &Node, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        self.nameless(
            of,
            |series| {
                for i in 0..series.floats.len() {
                    match series.point(i) {
                        Some(Point::Float(v)) => series.floats[i] = -v,
                        Some(Point::Histogram(h)) => {
                            let mut h = (*h).clone();
                            h.scale(-1.0);
                            series.set(i, Some(Point::Histogram(std::sync::Arc::new(h))));
                        }
                        None => {}
                    }
                }
            },
            sink,
        )
    }
}

/// As Go's `math.Max`: NaN if either is.
fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}
