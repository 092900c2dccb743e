//! Queries of metrics: the spans that are picked, counted or measured step by step.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::time::Duration;

use davy_model::Timestamp;
use davy_store::{Snapshot, SpanParts};

use super::ast::{Metric, MetricFunction, Query, Reduce, Stage, Value};
use super::eval::as_number;
use super::field::{Field, Intrinsic, Scope};
use super::search::{Range, SearchError, each_trace};
use super::trace::Trace;
use crate::Cancel;

/// Series of one answer.
const SERIES_MAX: usize = 2_000;
/// Numbers that are kept for one answer.
const CELLS_MAX: usize = 2_000_000;
/// Steps of one answer, as of a range query.
pub const STEPS_MAX: usize = 11_000;
/// Longer steps are cut to it.
const STEP_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Quantiles are told from buckets whose bounds differ by this factor.
const QUANTILE_FACTOR: f64 = 1.02;

/// Ends of the steps, each `step` after the one before: `start + step`, … up to `end`.
#[derive(Debug, Clone, Copy)]
pub struct MetricSteps {
    pub start: Timestamp,
    pub step: Duration,
    pub count: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetricSeries {
    pub labels: Vec<(String, Value)>,
    pub samples: Vec<(Timestamp, f64)>,
}

impl MetricSteps {
    /// Steps that cover `start..=end`, aligned to whole steps since the epoch.
    pub fn aligned(start: Timestamp, end: Timestamp, step: Duration) -> Result<Self, SearchError> {
        let step = step.clamp(Duration::from_millis(1), STEP_MAX);
        let start = start.align_down(step, Duration::ZERO);
        let count = end.since(start).as_millis().div_ceil(step.as_millis());
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        if count > STEPS_MAX {
            return Err(SearchError::TooLarge { max: STEPS_MAX, what: "steps" });
        }
        Ok(Self { start, step, count })
    }

    /// One step: the whole range.
    pub fn whole(start: Timestamp, end: Timestamp) -> Self {
        Self { start, step: end.since(start).max(Duration::from_millis(1)), count: 1 }
    }

    fn range(&self) -> Range {
        let to = self.start + self.step * self.count as u32;
        Range { from: self.start + Duration::from_millis(1), to }
    }

    fn end_of(&self, number: usize) -> Timestamp {
        self.start + self.step * (number as u32 + 1)
    }

    /// Which step a span that starts then is of: each begins just after the end of the one before.
    fn number(&self, start: Timestamp) -> Option<usize> {
        let millis = start.as_millis().checked_sub(self.start.as_millis()).filter(|m| *m > 0)?;
        let step = self.step.as_millis() as i64;
        usize::try_from((millis - 1) / step).ok().filter(|n| *n < self.count)
    }
}

/// What one step of one series has seen.
#[derive(Debug, Clone, Copy)]
struct Cell {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
}

/// The values of the labels of a series, and of a distribution, which bucket.
type Key = (Vec<String>, i64);

struct Table<'a> {
    metric: &'a Metric,
    steps: MetricSteps,
    range: Range,
    cells: HashMap<Key, BTreeMap<usize, Cell>>,
    values: HashMap<Vec<String>, Vec<Value>>,
    count: usize,
}

impl Query {
    /// The series that a query of metrics gives.
    pub fn metrics(
        &self,
        snapshot: &Snapshot,
        steps: MetricSteps,
        cancel: &Cancel,
    ) -> Result<Vec<MetricSeries>, SearchError> {
        let Some(metric) = &self.metric else { return Err(SearchError::NoMetrics) };
        let range = steps.range();
        let mut table =
            Table { metric, steps, range, cells: HashMap::new(), values: HashMap::new(), count: 0 };
        let named = || metric.by.iter().chain(metric.function.field());
        if self.is_of_spans() && named().all(Field::is_of_span) {
            self.count_spans(snapshot, &mut table, cancel)?;
        } else {
            each_trace(self, snapshot, range, cancel, None, &mut |trace, sets| {
                sets.iter().flat_map(|set| &set.spans).try_for_each(|span| table.add(trace, *span))?;
                Ok(None)
            })?;
        }
        Ok(table.series())
    }

    /// Without reading whole traces.
    fn count_spans(
        &self,
        snapshot: &Snapshot,
        table: &mut Table,
        cancel: &Cancel,
    ) -> Result<(), SearchError> {
        let mut failed = Ok(());
        let search = self.search(table.range.from, table.range.to);
        snapshot.visit_spans(&search, &self.parts(table.metric), &mut |visited| {
            if cancel.is_raised() {
                failed = Err(SearchError::Canceled);
                return ControlFlow::Break(());
            }
            let trace = Trace::unrelated(visited.found);
            let sets = self.eval(&trace);
            failed = sets.iter().flat_map(|set| &set.spans).try_for_each(|span| table.add(&trace, *span));
            if failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        failed
    }

    /// What of the spans is looked at.
    fn parts(&self, metric: &Metric) -> SpanParts {
        let (mut attributes, mut without_extras) = (Vec::new(), true);
        let mut add = |field: &Field| match field {
            Field::Attribute(Scope::Any | Scope::Span, key) => attributes.push(key.clone()),
            Field::Attribute(Scope::Event | Scope::Link, _)
            | Field::Intrinsic(
                Intrinsic::EventName
                | Intrinsic::EventTimeSinceStart
                | Intrinsic::LinkTraceId
                | Intrinsic::LinkSpanId,
            ) => without_extras = false,
            Field::Attribute(..) | Field::Intrinsic(_) => {}
        };
        self.spansets.filters(&mut |filter| filter.fields(&mut |f| add(f)));
        for stage in &self.stages {
            if let Stage::Keep(kept) = stage {
                kept.filters(&mut |filter| filter.fields(&mut |f| add(f)));
            }
        }
        metric.by.iter().chain(metric.function.field()).for_each(&mut add);
        SpanParts { attributes: Some(attributes), without_extras }
    }
}

impl MetricFunction {
    fn field(&self) -> Option<&Field> {
        match self {
            Self::Rate | Self::CountOverTime => None,
            Self::Reduce(_, field) | Self::Histogram(field) | Self::Quantiles(field, _) => Some(field),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Rate => "rate".to_owned(),
            Self::CountOverTime => "count_over_time".to_owned(),
            Self::Reduce(reduce, _) => format!("{}_over_time", reduce.word()),
            Self::Histogram(_) => "histogram_over_time".to_owned(),
            Self::Quantiles(..) => "quantile_over_time".to_owned(),
        }
    }
}

impl Table<'_> {
    fn add(&mut self, trace: &Trace, span: usize) -> Result<(), SearchError> {
        let start = Timestamp::from_nanos(trace.spans[span].start_nanos);
        let Some(step) = self.steps.number(start) else { return Ok(()) };
        let measured = match self.metric.function.field() {
            None => 1.0,
            // Durations are told in seconds.
            Some(field) => match field.value(trace, span) {
                Value::Duration(nanos) => nanos as f64 / 1e9,
                value => match as_number(&value).filter(|n| n.is_finite()) {
                    Some(number) => number,
                    None => return Ok(()),
                },
            },
        };
        let bucket = match self.metric.function {
            MetricFunction::Histogram(_) => power_of_two(measured),
            MetricFunction::Quantiles(..) => fine_bucket(measured),
            MetricFunction::Rate | MetricFunction::CountOverTime | MetricFunction::Reduce(..) => 0,
        };
        let values: Vec<Value> = self.metric.by.iter().map(|field| field.value(trace, span)).collect();
        let texts: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
        if !self.values.contains_key(&texts) {
            if self.values.len() >= SERIES_MAX {
                return Err(SearchError::TooLarge { max: SERIES_MAX, what: "series" });
            }
            self.values.insert(texts.clone(), values);
        }
        let cells = self.cells.entry((texts, bucket)).or_default();
        let none = Cell { count: 0.0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };
        let before = cells.len();
        let cell = cells.entry(step).or_insert(none);
        cell.count += 1.0;
        cell.sum += measured;
        (cell.min, cell.max) = (cell.min.min(measured), cell.max.max(measured));
        self.count += cells.len() - before;
        if self.count > CELLS_MAX {
            return Err(SearchError::TooLarge { max: CELLS_MAX, what: "numbers" });
        }
        Ok(())
    }

    fn series(self) -> Vec<MetricSeries> {
        let mut series = match &self.metric.function {
            MetricFunction::Rate => self.plain(|cell| cell.count / self.steps.step.as_secs_f64(), true),
            MetricFunction::CountOverTime => self.plain(|cell| cell.count, true),
            MetricFunction::Reduce(reduce, _) => self.plain(
                |cell| match reduce {
                    Reduce::Avg => cell.sum / cell.count,
                    Reduce::Max => cell.max,
                    Reduce::Min => cell.min,
                    Reduce::Sum => cell.sum,
                },
                false,
            ),
            MetricFunction::Histogram(_) => self.histogram(),
            MetricFunction::Quantiles(_, quantiles) => self.quantiles(quantiles),
        };
        series.sort_by_cached_key(|s| format!("{:?}", s.labels));
        if let Some(top) = self.metric.top {
            keep_top(&mut series, top);
        }
        series
    }

    fn labels(&self, texts: &[String]) -> Vec<(String, Value)> {
        let values = self.values.get(texts).into_iter().flatten().cloned();
        self.metric.by.iter().map(ToString::to_string).zip(values).collect()
    }

    /// One series for each group. Where nothing was counted it is zero, where nothing was measured there is nothing.
    fn plain(&self, value: impl Fn(&Cell) -> f64, zeros: bool) -> Vec<MetricSeries> {
        let of = |((texts, _), cells): (&Key, &BTreeMap<usize, Cell>)| {
            let mut labels = self.labels(texts);
            if labels.is_empty() {
                labels.push(("__name__".to_owned(), Value::Text(self.metric.function.name().into())));
            }
            let sample = |step: usize| {
                let found = cells.get(&step).map(&value).or(zeros.then_some(0.0))?;
                Some((self.steps.end_of(step), found))
            };
            MetricSeries { labels, samples: (0..self.steps.count).filter_map(sample).collect() }
        };
        self.cells.iter().map(of).collect()
    }

    /// A series for each bucket, with its upper bound.
    fn histogram(&self) -> Vec<MetricSeries> {
        let of = |((texts, bucket), cells): (&Key, &BTreeMap<usize, Cell>)| {
            let mut labels = self.labels(texts);
            labels.push(("__bucket".to_owned(), Value::Float(bound_of_power(*bucket))));
            let sample =
                |step: usize| (self.steps.end_of(step), cells.get(&step).map_or(0.0, |cell| cell.count));
            MetricSeries { labels, samples: (0..self.steps.count).map(sample).collect() }
        };
        self.cells.iter().map(of).collect()
    }

    /// A series for each group and quantile.
    fn quantiles(&self, quantiles: &[f64]) -> Vec<MetricSeries> {
        let mut groups: HashMap<&[String], BTreeMap<usize, BTreeMap<i64, Cell>>> = HashMap::new();
        for ((texts, bucket), cells) in &self.cells {
            let steps = groups.entry(texts).or_default();
            cells.iter().for_each(|(step, cell)| {
                steps.entry(*step).or_default().insert(*bucket, *cell);
            });
        }
        let mut series = Vec::new();
        for (texts, steps) in groups {
            for quantile in quantiles {
                let mut labels = self.labels(texts);
                labels.push(("p".to_owned(), Value::Float(*quantile)));
                let sample = |(step, buckets): (&usize, &BTreeMap<i64, Cell>)| {
                    (self.steps.end_of(*step), quantile_of(buckets, *quantile))
                };
                series.push(MetricSeries { labels, samples: steps.iter().map(sample).collect() });
            }
        }
        series
    }
}

/// At each step the largest values stay, or with a negative number the smallest.
fn keep_top(series: &mut Vec<MetricSeries>, top: i64) {
    let mut by_time: BTreeMap<Timestamp, Vec<(f64, usize)>> = BTreeMap::new();
    for (number, s) in series.iter().enumerate() {
        s.samples.iter().for_each(|(at, value)| by_time.entry(*at).or_default().push((*value, number)));
    }
    let sign = if top < 0 { 1.0 } else { -1.0 };
    for (at, mut values) in by_time {
        values.sort_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)).then(a.1.cmp(&b.1)));
        for (_, number) in values.iter().skip(usize::try_from(top.unsigned_abs()).unwrap_or(usize::MAX)) {
            series[*number].samples.retain(|(t, _)| *t != at);
        }
    }
    series.retain(|s| !s.samples.is_empty());
}

/// The smallest power of two that is not less; the smallest number stands for what is not positive.
fn power_of_two(value: f64) -> i64 {
    if value > 0.0 { value.log2().ceil() as i64 } else { i64::MIN }
}

fn bound_of_power(bucket: i64) -> f64 {
    if bucket == i64::MIN { 0.0 } else { (bucket as f64).exp2() }
}

fn fine_bucket(value: f64) -> i64 {
    match value {
        v if v > 0.0 => (v.ln() / QUANTILE_FACTOR.ln()).ceil() as i64,
        v if v < 0.0 => i64::MIN / 2 - ((-v).ln() / QUANTILE_FACTOR.ln()).ceil() as i64,
        _ => i64::MIN / 4,
    }
}

/// Within the bucket that holds it as far from its smallest value to its largest as its rank is.
fn quantile_of(buckets: &BTreeMap<i64, Cell>, quantile: f64) -> f64 {
    let total: f64 = buckets.values().map(|cell| cell.count).sum();
    let rank = quantile * (total - 1.0);
    let mut before = 0.0;
    for cell in buckets.values() {
        if rank < before + cell.count {
            let within = if cell.count > 1.0 { ((rank - before) / (cell.count - 1.0)).min(1.0) } else { 0.0 };
            return cell.min + (cell.max - cell.min) * within;
        }
        before += cell.count;
    }
    buckets.values().last().map_or(f64::NAN, |cell| cell.max)
}

impl Value {
    /// As a label shows it.
    pub fn label(&self) -> String {
        match self {
            Self::Nil => "nil".to_owned(),
            Self::Text(text) => text.as_ref().to_owned(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Float(n) => n.to_string(),
            Self::Duration(nanos) => format!("{:?}", Duration::from_nanos(nanos.unsigned_abs())),
            Self::Status(status) => status.as_str().to_owned(),
            Self::Kind(kind) => kind.as_str().to_owned(),
        }
    }
}
