//! Functions over the samples of a range, with Prometheus 3.5's semantics (`promql/functions.go`).

use std::sync::Arc;

use super::kahan::{Kahan, Mean};
use super::notes::Note;
use super::quantile::quantile;
use super::series::{ABSENT, Point, Series};
use super::window::{RangeOf, Ranged, Windows};
use super::{Evaluation, Sink};
use crate::ast::Node;
use crate::function::Over;
use crate::histogram::Histo;
use crate::{EvalError, Source};

/// The samples of one step.
#[derive(Clone, Copy)]
struct Window<'w> {
    times: &'w [i64],
    floats: &'w [f64],
    histograms: &'w [(i64, Arc<Histo>)],
    /// `(end - range, end]`.
    end: i64,
    range_ms: i64,
    /// The time that is asked for; another than `end` under `offset` and `@`.
    now: i64,
    parameter: f64,
}

impl<S: Source> Evaluation<'_, S> {
    pub(super) fn over(
        &self,
        function: Over,
        args: &[Node],
        position: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        // The quantile comes before the range, the seconds of predict_linear after it.
        let (range, parameter) = match (function, args) {
            (Over::Quantile, [q, range]) => (range, Some(self.scalar(q)?)),
            (_, [range, parameter]) => (range, Some(self.scalar(parameter)?)),
            (_, [range]) => (range, None),
            _ => return Err(EvalError::Type { expected: "a range" }),
        };
        if let (Over::Quantile, Some(all)) = (function, &parameter) {
            self.note_quantiles(all, position);
        }
        let asked = range_of(range);
        let mut windows = Windows::default();
        let at = range.position();
        self.ranges(range, &mut |series| {
            self.windows(&series, asked, &mut windows);
            let mut out = Series::empty(series.labels.clone(), self.grid.count);
            if series.histograms.is_empty() && is_extrapolated(function) {
                self.extrapolated_floats(function, &series, asked, &windows, &mut out.floats);
            } else {
                for i in 0..self.grid.count {
                    self.check()?;
                    let parameter = parameter.as_ref().map_or(f64::NAN, |p| p[i]);
                    let Some(w) = self.window(&series, asked, &windows, i, parameter) else { continue };
                    let point = self.evaluate(function, w, &series, at);
                    out.set(i, point);
                }
            }
            if out.is_empty() {
                return Ok(());
            }
            let metric = series.labels.metric_name();
            let counts = matches!(function, Over::Rate | Over::Increase);
            if counts && !metric.is_empty() && !is_counter_name(metric) && out.histograms.is_none() {
                self.notes.add(Note::PossibleNonCounter { metric }, at);
            }
            sink(out)
        })
    }

    fn window<'w>(
        &self,
        series: &'w Ranged,
        asked: RangeOf,
        windows: &Windows,
        i: usize,
        parameter: f64,
    ) -> Option<Window<'w>> {
        let (low, high) = windows.floats[i];
        let floats = low as usize..high as usize;
        let held = windows.histograms.get(i).map_or(0..0, |(l, h)| *l as usize..*h as usize);
        if floats.is_empty() && held.is_empty() {
            return None;
        }
        let now = self.grid.time(i);
        Some(Window {
            times: &series.times[floats.clone()],
            floats: &series.floats[floats],
            histograms: &series.histograms[held],
            end: asked.shift.apply(now, self.query),
            range_ms: asked.range_ms,
            now,
            parameter,
        })
    }

    /// `rate`, `increase` and `delta` of floats at every step: what was gained between two samples is their
    /// difference and the values that were lost at resets between them, which are looked for once.
    fn extrapolated_floats(
        &self,
        function: Over,
        series: &Ranged,
        asked: RangeOf,
        windows: &Windows,
        out: &mut [f64],
    ) {
        let is_counter = function != Over::Delta;
        let values = &series.floats;
        let resets: Vec<usize> = if is_counter {
            (1..values.len()).filter(|i| values[*i] < values[i - 1]).collect()
        } else {
            Vec::new()
        };
        let mut next_reset = 0;
        for (i, (low, high)) in windows.floats.iter().enumerate() {
            let (low, high) = (*low as usize, *high as usize);
            if high - low < 2 {
                continue;
            }
            let mut gained = values[high - 1] - values[low];
            while next_reset < resets.len() && resets[next_reset] <= low {
                next_reset += 1;
            }
            for r in resets[next_reset..].iter().take_while(|r| **r < high) {
                gained += values[r - 1];
            }
            let end = asked.shift.apply(self.grid.time(i), self.query);
            let span = Span {
                first_at: series.times[low],
                last_at: series.times[high - 1],
                samples: high - low,
                end,
                range_ms: asked.range_ms,
            };
            let first = is_counter.then_some(values[low]);
            out[i] = gained * span.factor(function == Over::Rate, first, gained);
        }
    }

    fn evaluate(&self, function: Over, w: Window<'_>, series: &Ranged, at: usize) -> Option<Point> {
        let metric = series.labels.metric_name();
        let note = |note| self.notes.add(note, at);
        let float = |v| Some(Point::Float(v));
        let mixed = !w.floats.is_empty() && !w.histograms.is_empty();
        // Functions of floats alone say so when they leave histograms out.
        let floats_only = |enough: usize| {
            let have = w.floats.len() >= enough;
            if mixed && (have || enough > 1) {
                note(Note::IgnoredInRange { metric });
            }
            have
        };
        match function {
            Over::Rate | Over::Increase | Over::Delta => {
                if mixed {
                    note(Note::MixedFloatsHistograms { metric });
                    return None;
                }
                if w.histograms.is_empty() {
                    return extrapolated(function, w).map(Point::Float);
                }
                self.histogram_gain(function, w, metric, at)
            }
            Over::Irate | Over::Idelta => self.instant_gain(function == Over::Irate, w, metric, at),
            Over::Avg | Over::Sum => {
                if mixed {
                    note(Note::MixedFloatsHistograms { metric });
                    return None;
                }
                if w.floats.is_empty() {
                    return match sum_of_histograms(w.histograms, function == Over::Avg) {
                        Ok(h) => Some(Point::Histogram(Arc::new(h))),
                        Err(of) => {
                            note(Note::Mismatch { of, metric });
                            None
                        }
                    };
                }
                if function == Over::Sum {
                    let mut sum = Kahan::default();
                    w.floats.iter().for_each(|v| sum.add(*v));
                    return float(sum.total());
                }
                let mut mean = Mean::default();
                w.floats.iter().for_each(|v| mean.add(*v));
                float(mean.value())
            }
            Over::Min if floats_only(1) => float(extreme(w.floats, |v, kept| v < kept)),
            Over::Max if floats_only(1) => float(extreme(w.floats, |v, kept| v > kept)),
            Over::Quantile if floats_only(1) => float(quantile(w.parameter, &mut w.floats.to_vec())),
            Over::Stddev if floats_only(1) => float(variance(w.floats).sqrt()),
            Over::Stdvar if floats_only(1) => float(variance(w.floats)),
            Over::Deriv if floats_only(2) => float(line(w, w.times[0]).0),
            Over::PredictLinear if floats_only(2) => {
                let (slope, intercept) = line(w, w.now);
                float(slope * w.parameter + intercept)
            }
            Over::Min | Over::Max | Over::Quantile | Over::Stddev | Over::Stdvar => None,
            Over::Deriv | Over::PredictLinear => None,
            Over::Count => float((w.floats.len() + w.histograms.len()) as f64),
            Over::Present => float(1.0),
            Over::Last => match (w.floats.last(), w.histograms.last()) {
                (Some(v), None) => float(*v),
                (Some(v), Some((t, _))) if *t < w.times[w.times.len() - 1] => float(*v),
                (_, Some((_, h))) => Some(Point::Histogram(h.clone())),
                (None, None) => None,
            },
            Over::Resets => float(transitions(w, |a, b| b < a, |a, b| b.is_reset_since(a))),
            Over::Changes => {
                float(transitions(w, |a, b| a != b && !(a.is_nan() && b.is_nan()), |a, b| !b.is_same(a)))
            }
        }
    }

    fn histogram_gain(&self, function: Over, w: Window<'_>, metric: &str, at: usize) -> Option<Point> {
        let all: Vec<&Histo> = w.histograms.iter().map(|(_, h)| &**h).collect();
        let (first, last) = (all.first()?, all.last()?);
        if all.len() < 2 {
            return None;
        }
        let is_counter = function != Over::Delta;
        if is_counter && all.iter().any(|h| h.gauge) {
            self.notes.add(Note::NotCounter { metric }, at);
        }
        let gained = Histo::gained(&all, is_counter);
        let gauges = first.gauge && last.gauge;
        if !is_counter && !gauges {
            self.notes.add(Note::NotGauge { metric }, at);
        }
        match gained {
            Ok(mut h) => {
                let span = Span {
                    first_at: w.histograms[0].0,
                    last_at: w.histograms[w.histograms.len() - 1].0,
                    samples: all.len(),
                    end: w.end,
                    range_ms: w.range_ms,
                };
                h.scale(span.factor(function == Over::Rate, None, 0.0));
                Some(Point::Histogram(Arc::new(h)))
            }
            Err(of) => {
                self.notes.add(Note::Mismatch { of, metric }, at);
                None
            }
        }
    }

    /// From the last two samples.
    fn instant_gain(&self, is_rate: bool, w: Window<'_>, metric: &str, at: usize) -> Option<Point> {
        let floats = w.times.iter().zip(w.floats).rev().take(2).map(|(t, v)| (*t, Point::Float(*v)));
        let histograms = w.histograms.iter().rev().take(2).map(|(t, h)| (*t, Point::Histogram(h.clone())));
        let mut last: Vec<(i64, Point)> = floats.chain(histograms).collect();
        last.sort_by_key(|(t, _)| std::cmp::Reverse(*t));
        let [(until, new), (since, old), ..] = &last[..] else { return None };
        let seconds = (until - since) as f64 / 1000.0;
        if seconds == 0.0 {
            return None;
        }
        match (old, new) {
            (Point::Float(old), Point::Float(new)) => {
                let gained = if is_rate && new < old { *new } else { new - old };
                Some(Point::Float(if is_rate { gained / seconds } else { gained }))
            }
            (Point::Histogram(old), Point::Histogram(new)) => {
                if is_rate && (old.gauge || new.gauge) {
                    self.notes.add(Note::NotCounter { metric }, at);
                }
                let gauges = old.gauge && new.gauge;
                if !is_rate && !gauges {
                    self.notes.add(Note::NotGauge { metric }, at);
                }
                let mut gained = (**new).clone();
                if (!is_rate || !new.is_reset_since(old))
                    && let Err(of) = gained.subtract(old)
                {
                    self.notes.add(Note::Mismatch { of, metric }, at);
                    return None;
                }
                gained.gauge = true;
                gained.compact();
                if is_rate {
                    gained.divide(seconds);
                }
                Some(Point::Histogram(Arc::new(gained)))
            }
            _ => {
                self.notes.add(Note::MixedFloatsHistograms { metric }, at);
                None
            }
        }
    }

    pub(super) fn note_quantiles(&self, all: &[f64], position: usize) {
        if let Some(q) = all.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            self.notes.add(Note::InvalidQuantile(*q), position);
        }
    }
}

pub(super) fn range_of(node: &Node) -> RangeOf {
    match node {
        Node::Range { selector, range_ms } => RangeOf { range_ms: *range_ms, shift: selector.shift },
        Node::Subquery { range_ms, shift, .. } => RangeOf { range_ms: *range_ms, shift: *shift },
        _ => RangeOf { range_ms: 0, shift: crate::ast::Shift::default() },
    }
}

fn is_extrapolated(function: Over) -> bool {
    matches!(function, Over::Rate | Over::Increase | Over::Delta)
}

fn is_counter_name(metric: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"].iter().any(|end| metric.ends_with(end))
}

/// Between the first and the last sample of a range.
struct Span {
    first_at: i64,
    last_at: i64,
    samples: usize,
    end: i64,
    range_ms: i64,
}

impl Span {
    /// What turns a gain between two samples into one of the whole range: to its edges where samples reach close to
    /// them, else by half a spacing; a counter (`first` is its value) was never below zero.
    fn factor(&self, is_rate: bool, first: Option<f64>, gained: f64) -> f64 {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let mut to_start = seconds(self.first_at - (self.end.saturating_sub(self.range_ms)));
        let mut to_end = seconds(self.end - self.last_at);
        let sampled = seconds(self.last_at - self.first_at);
        let spacing = sampled / (self.samples - 1) as f64;
        let threshold = spacing * 1.1;
        if to_start >= threshold {
            to_start = spacing / 2.0;
        }
        if let Some(first) = first.filter(|f| gained > 0.0 && *f >= 0.0) {
            let to_zero = sampled * (first / gained);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        if to_end >= threshold {
            to_end = spacing / 2.0;
        }
        let factor = (sampled + to_start + to_end) / sampled;
        if is_rate { factor / (self.range_ms as f64 / 1000.0) } else { factor }
    }
}

fn extrapolated(function: Over, w: Window<'_>) -> Option<f64> {
    let [first, .., last] = w.floats else { return None };
    let is_counter = function != Over::Delta;
    let mut gained = last - first;
    if is_counter {
        w.floats.windows(2).filter(|p| p[1] < p[0]).for_each(|p| gained += p[0]);
    }
    let span = Span {
        first_at: w.times[0],
        last_at: w.times[w.times.len() - 1],
        samples: w.floats.len(),
        end: w.end,
        range_ms: w.range_ms,
    };
    Some(gained * span.factor(function == Over::Rate, is_counter.then_some(*first), gained))
}

fn sum_of_histograms(all: &[(i64, Arc<Histo>)], mean: bool) -> Result<Histo, crate::histogram::Mismatch> {
    let mut of = (*all[0].1).clone();
    for (i, (_, h)) in all.iter().enumerate().skip(1) {
        if mean {
            of.mean_with(h, (i + 1) as f64)?;
        } else {
            of.add(h)?;
        }
    }
    Ok(of)
}

/// The first of those that `is_better` prefers; NaN only if there is nothing else.
fn extreme(values: &[f64], is_better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut kept = values[0];
    for v in values {
        if is_better(*v, kept) || kept.is_nan() {
            kept = *v;
        }
    }
    kept
}

fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (Kahan::default(), Kahan::default());
    for (i, v) in values.iter().enumerate() {
        let delta = v - mean.total();
        mean.add(delta / (i + 1) as f64);
        squares.add(delta * (v - mean.total()));
    }
    squares.total() / values.len() as f64
}

/// Slope and value at a time, by least squares.
fn line(w: Window<'_>, at: i64) -> (f64, f64) {
    let first = w.floats[0];
    if w.floats.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = w.floats.len() as f64;
    let mut sums = [Kahan::default(); 4];
    for (t, y) in w.times.iter().zip(w.floats) {
        let x = (t - at) as f64 / 1000.0;
        sums[0].add(x);
        sums[1].add(*y);
        sums[2].add(x * y);
        sums[3].add(x * x);
    }
    let [x, y, xy, x2] = sums.map(Kahan::total);
    let slope = (xy - x * y / n) / (x2 - x * x / n);
    (slope, y / n - slope * x / n)
}

/// How often one sample differs from the next; a change between floats and histograms always does.
fn transitions(
    w: Window<'_>,
    floats: impl Fn(f64, f64) -> bool,
    histograms: impl Fn(&Histo, &Histo) -> bool,
) -> f64 {
    if w.histograms.is_empty() {
        return w.floats.windows(2).filter(|p| floats(p[0], p[1])).count() as f64;
    }
    let all_floats = w.times.iter().zip(w.floats).map(|(t, v)| (*t, Point::Float(*v)));
    let mut all: Vec<(i64, Point)> = all_floats.collect();
    all.extend(w.histograms.iter().map(|(t, h)| (*t, Point::Histogram(h.clone()))));
    all.sort_by_key(|(t, _)| *t);
    let differ = |p: &[(i64, Point)]| match (&p[0].1, &p[1].1) {
        (Point::Float(a), Point::Float(b)) => floats(*a, *b),
        (Point::Histogram(a), Point::Histogram(b)) => histograms(a, b),
        _ => true,
    };
    all.windows(2).filter(|p| differ(p)).count() as f64
}

/// Steps at which any of the series has samples.
pub(super) fn seen_in(windows: &Windows, seen: &mut [bool]) {
    let any = |w: Option<&(u32, u32)>| w.is_some_and(|(low, high)| low < high);
    for (i, s) in seen.iter_mut().enumerate() {
        *s |= any(windows.floats.get(i)) || any(windows.histograms.get(i));
    }
}

/// Places where nothing was seen hold 1.
pub(super) fn ones_where_unseen(seen: &[bool]) -> Vec<f64> {
    seen.iter().map(|s| if *s { ABSENT } else { 1.0 }).collect()
}
