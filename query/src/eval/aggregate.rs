//! Aggregations. Sums, means and the like take one series after the other and hold one place a group and step;
//! quantiles and `topk` must hold what they choose from.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{Labels, name};

use super::budget::{Held, POINTS_PER_SERIES};
use super::kahan::{Kahan, Mean};
use super::notes::Note;
use super::quantile::quantile;
use super::series::{ABSENT, Point, Series, is_present};
use super::{Evaluation, Sink};
use crate::ast::{Aggregate, Aggregator, Grouping, Node};
use crate::histogram::{Histo, Mismatch};
use crate::{EvalError, Source};

impl Grouping {
    fn of(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) if names.is_empty() => Labels::empty(),
            Self::By(names) => labels.only(&names.iter().map(String::as_str).collect::<Vec<_>>()),
            Self::Without(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).chain([name::METRIC]).collect();
                labels.without(&names)
            }
        }
    }
}

/// Groups in the order in which they were first seen.
struct Groups<T> {
    places: HashMap<Labels, usize, foldhash::fast::RandomState>,
    all: Vec<(Labels, T)>,
}

impl<T> Groups<T> {
    fn new() -> Self {
        Self { places: HashMap::default(), all: Vec::new() }
    }

    fn get(
        &mut self,
        labels: Labels,
        new: impl FnOnce() -> Result<T, EvalError>,
    ) -> Result<&mut T, EvalError> {
        let place = match self.places.get(&labels) {
            Some(place) => *place,
            None => {
                self.all.push((labels.clone(), new()?));
                self.places.insert(labels, self.all.len() - 1);
                self.all.len() - 1
            }
        };
        Ok(&mut self.all[place].1)
    }
}

impl<S: Source> Evaluation<'_, S> {
    pub(super) fn aggregate(&self, a: &Aggregate, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        match a.aggregator {
            Aggregator::TopK | Aggregator::BottomK => self.top(a, sink),
            Aggregator::Quantile => self.quantiles(a, sink),
            Aggregator::CountValues => self.count_values(a, sink),
            _ => self.fold(a, sink),
        }
    }

    fn fold(&self, a: &Aggregate, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let steps = self.grid.count;
        let mut held = self.meter.hold();
        let mut groups: Groups<Folded> = Groups::new();
        let notes = AggregateNotes { eval: self, aggregator: a.aggregator, at: a.of.position() };
        self.vector(&a.of, &mut |series| {
            let key = a.grouping.of(&series.labels);
            let group = groups.get(key, || {
                held.grow(steps * 3 + POINTS_PER_SERIES)?;
                Ok(Folded::new(a.aggregator, steps))
            })?;
            group.add(&series, &notes);
            Ok(())
        })?;
        for (labels, group) in groups.all {
            let series = group.finish(labels, &notes);
            if !series.is_empty() {
                sink(series)?;
            }
        }
        Ok(())
    }

    /// Series of each group, for aggregations that look at all of them at once.
    fn grouped<'m>(
        &'m self,
        a: &Aggregate,
        held: &mut Held<'m, '_>,
    ) -> Result<Vec<(Labels, Vec<Series>)>, EvalError> {
        let steps = self.grid.count;
        let mut groups: Groups<Vec<Series>> = Groups::new();
        self.vector(&a.of, &mut |series| {
            held.grow(steps + POINTS_PER_SERIES)?;
            let key = a.grouping.of(&series.labels);
            groups.get(key, || Ok(Vec::new()))?.push(series);
            Ok(())
        })?;
        Ok(groups.all)
    }

    fn parameter(&self, a: &Aggregate) -> Result<Vec<f64>, EvalError> {
        match &a.param {
            Some(param) => self.scalar(param),
            None => Err(EvalError::Type { expected: "a parameter" }),
        }
    }

    fn quantiles(&self, a: &Aggregate, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let q = self.parameter(a)?;
        self.note_quantiles(&q, a.param.as_ref().map_or(0, Node::position));
        let mut held = self.meter.hold();
        let groups = self.grouped(a, &mut held)?;
        for (labels, members) in groups {
            let mut out = Series::empty(labels, self.grid.count);
            let mut values = Vec::with_capacity(members.len());
            for (i, q) in q.iter().enumerate() {
                self.check()?;
                values.clear();
                values.extend(members.iter().map(|m| m.floats[i]).filter(|v| is_present(*v)));
                if members.iter().any(|m| m.histogram(i).is_some()) {
                    let note = Note::IgnoredInAggregation { aggregation: "quantile" };
                    self.notes.add(note, a.of.position());
                }
                if !values.is_empty() {
                    out.floats[i] = quantile(*q, &mut values);
                }
            }
            if !out.is_empty() {
                sink(out)?;
            }
        }
        Ok(())
    }

    /// `topk` and `bottomk`: at an instant in their order.
    fn top(&self, a: &Aggregate, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let k = self.parameter(a)?;
        let largest = a.aggregator == Aggregator::TopK;
        let mut held = self.meter.hold();
        for (_, mut members) in self.grouped(a, &mut held)? {
            let mut chosen = vec![Vec::<usize>::new(); members.len()];
            let mut order: Vec<usize> = Vec::with_capacity(members.len());
            for (i, k) in k.iter().enumerate() {
                self.check()?;
                if !(-9.2e18..9.2e18).contains(k) {
                    return Err(EvalError::Parameter { got: *k });
                }
                order.clear();
                order.extend((0..members.len()).filter(|m| is_present(members[*m].floats[i])));
                if members.iter().any(|m| m.histogram(i).is_some()) {
                    let note = Note::IgnoredInAggregation { aggregation: a.aggregator.name() };
                    self.notes.add(note, a.position);
                }
                let k = if *k < 1.0 { 0 } else { (*k as usize).min(order.len()) };
                // NaN is chosen last; of equals, whoever comes first stays.
                let compare = |x: &usize, y: &usize| {
                    let (a, b) = (members[*x].floats[i], members[*y].floats[i]);
                    let by_value = if largest { b.total_cmp(&a) } else { a.total_cmp(&b) };
                    a.is_nan().cmp(&b.is_nan()).then(by_value).then(x.cmp(y))
                };
                if k == 0 {
                    continue;
                }
                if k < order.len() {
                    order.select_nth_unstable_by(k - 1, compare);
                    order.truncate(k);
                }
                order.sort_unstable_by(compare);
                order.iter().for_each(|m| chosen[*m].push(i));
            }
            let instant = self.grid.count == 1;
            let emitted: Vec<usize> = if instant { order } else { (0..members.len()).collect() };
            for m in emitted {
                if chosen[m].is_empty() {
                    continue;
                }
                let mut keep = vec![false; self.grid.count];
                chosen[m].iter().for_each(|i| keep[*i] = true);
                let empty = Series { labels: Labels::empty(), floats: Vec::new(), histograms: None };
                let mut series = std::mem::replace(&mut members[m], empty);
                series.retain(|i| keep[i]);
                series.histograms = None;
                sink(series)?;
            }
        }
        Ok(())
    }

    /// One series a group and value; its label tells the value.
    fn count_values(&self, a: &Aggregate, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let Some(Node::Text(label)) = &a.param else {
            return Err(EvalError::Type { expected: "a label's name" });
        };
        if label.is_empty() {
            return Err(EvalError::LabelName { got: label.clone() });
        }
        let grouping = match &a.grouping {
            Grouping::By(names) => Grouping::By(names.iter().cloned().chain([label.clone()]).collect()),
            without @ Grouping::Without(_) => without.clone(),
        };
        let steps = self.grid.count;
        let mut held = self.meter.hold();
        let mut groups: Groups<Vec<f64>> = Groups::new();
        self.vector(&a.of, &mut |series| {
            for i in 0..steps {
                self.check()?;
                let value = match series.point(i) {
                    None => continue,
                    Some(Point::Float(v)) => super::labels::value_text(v),
                    Some(Point::Histogram(h)) => h.to_string(),
                };
                let mut labels = series.labels.builder();
                labels.set(label, &value);
                let counts = groups.get(grouping.of(&labels.build()), || {
                    held.grow(steps + POINTS_PER_SERIES)?;
                    Ok(vec![ABSENT; steps])
                })?;
                counts[i] = if is_present(counts[i]) { counts[i] + 1.0 } else { 1.0 };
            }
            Ok(())
        })?;
        for (labels, floats) in groups.all {
            sink(Series { labels, floats, histograms: None })?;
        }
        Ok(())
    }
}

struct AggregateNotes<'e, 'a, S> {
    eval: &'e Evaluation<'a, S>,
    aggregator: Aggregator,
    at: usize,
}

impl<S> AggregateNotes<'_, '_, S> {
    fn ignored(&self) {
        let note = Note::IgnoredInAggregation { aggregation: self.aggregator.name() };
        self.eval.notes.add(note, self.at);
    }

    fn mixed(&self) {
        self.eval.notes.add(Note::MixedFloatsHistogramsAggregation, self.at);
    }

    fn mismatch(&self, of: Mismatch, metric: &str) {
        self.eval.notes.add(Note::Mismatch { of, metric }, self.at);
    }
}

/// One group while its members are added.
enum Folded {
    Sum { floats: Vec<Kahan>, seen: Vec<bool>, histograms: Option<Vec<FoldedHistogram>> },
    Avg { floats: Vec<Mean>, seen: Vec<bool>, histograms: Option<Vec<FoldedHistogram>> },
    Extreme { largest: bool, floats: Vec<f64> },
    Count { floats: Vec<f64> },
    Group { floats: Vec<f64> },
    Spread { deviation: bool, floats: Vec<Welford> },
}

#[derive(Clone, Default)]
struct FoldedHistogram {
    of: Option<Histo>,
    count: f64,
    mismatched: bool,
}

/// Mean and squares of what was seen, one value after the other.
#[derive(Clone, Copy, Default)]
struct Welford {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Folded {
    fn new(aggregator: Aggregator, steps: usize) -> Self {
        match aggregator {
            Aggregator::Avg => {
                Self::Avg { floats: vec![Mean::default(); steps], seen: vec![false; steps], histograms: None }
            }
            Aggregator::Min | Aggregator::Max => {
                Self::Extreme { largest: aggregator == Aggregator::Max, floats: vec![ABSENT; steps] }
            }
            Aggregator::Count => Self::Count { floats: vec![ABSENT; steps] },
            Aggregator::Group => Self::Group { floats: vec![ABSENT; steps] },
            Aggregator::Stddev | Aggregator::Stdvar => Self::Spread {
                deviation: aggregator == Aggregator::Stddev,
                floats: vec![Welford::default(); steps],
            },
            Aggregator::Sum
            | Aggregator::Quantile
            | Aggregator::TopK
            | Aggregator::BottomK
            | Aggregator::CountValues => Self::Sum {
                floats: vec![Kahan::default(); steps],
                seen: vec![false; steps],
                histograms: None,
            },
        }
    }

    fn add<S>(&mut self, series: &Series, notes: &AggregateNotes<'_, '_, S>) {
        let values = &series.floats;
        let steps = values.len();
        match self {
            Self::Sum { floats, seen, histograms } => {
                for ((sum, seen), v) in floats.iter_mut().zip(seen).zip(values) {
                    if is_present(*v) {
                        sum.add(*v);
                        *seen = true;
                    }
                }
                fold_histograms(series, histograms, notes, |f, h| match &mut f.of {
                    None => {
                        f.of = Some(h.clone());
                        Ok(())
                    }
                    Some(sum) => sum.add(h),
                });
            }
            Self::Avg { floats, seen, histograms } => {
                for ((mean, seen), v) in floats.iter_mut().zip(seen).zip(values) {
                    if is_present(*v) {
                        mean.add(*v);
                        *seen = true;
                    }
                }
                fold_histograms(series, histograms, notes, |f, h| {
                    f.count += 1.0;
                    match &mut f.of {
                        None => {
                            f.of = Some(h.clone());
                            Ok(())
                        }
                        Some(mean) => mean.mean_with(h, f.count),
                    }
                });
            }
            Self::Extreme { largest, floats } => {
                for (kept, v) in floats.iter_mut().zip(values).filter(|(_, v)| is_present(**v)) {
                    let better = if *largest { *kept < *v } else { *kept > *v };
                    // Nothing yet is not a number either.
                    if better || kept.is_nan() {
                        *kept = *v;
                    }
                }
                if series.histograms.is_some() {
                    notes.ignored();
                }
            }
            Self::Count { floats } => {
                for (_, count) in floats.iter_mut().enumerate().filter(|(i, _)| series.has(*i)) {
                    *count = if is_present(*count) { *count + 1.0 } else { 1.0 };
                }
            }
            Self::Group { floats } => {
                (0..steps).filter(|i| series.has(*i)).for_each(|i| floats[i] = 1.0);
            }
            Self::Spread { floats, .. } => {
                for (spread, v) in floats.iter_mut().zip(values).filter(|(_, v)| is_present(**v)) {
                    spread.add(*v);
                }
                if series.histograms.is_some() {
                    notes.ignored();
                }
            }
        }
    }

    fn finish<S>(self, labels: Labels, notes: &AggregateNotes<'_, '_, S>) -> Series {
        match self {
            Self::Sum { floats, seen, histograms } => {
                let floats = floats.iter().zip(&seen).map(|(k, s)| if *s { k.total() } else { ABSENT });
                with_histograms(labels, floats.collect(), histograms, notes)
            }
            Self::Avg { floats, seen, histograms } => {
                let floats = floats.iter().zip(&seen).map(|(m, s)| if *s { m.value() } else { ABSENT });
                with_histograms(labels, floats.collect(), histograms, notes)
            }
            Self::Extreme { floats, .. } | Self::Count { floats } | Self::Group { floats } => {
                Series { labels, floats, histograms: None }
            }
            Self::Spread { deviation, floats } => {
                let value = |s: &Welford| match s.count {
                    0.0 => ABSENT,
                    n if deviation => (s.squares / n).sqrt(),
                    n => s.squares / n,
                };
                Series { labels, floats: floats.iter().map(value).collect(), histograms: None }
            }
        }
    }
}

impl Welford {
    fn add(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = v;
            self.squares = if v.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = v - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (v - self.mean);
    }
}

fn fold_histograms<S>(
    series: &Series,
    histograms: &mut Option<Vec<FoldedHistogram>>,
    notes: &AggregateNotes<'_, '_, S>,
    add: impl Fn(&mut FoldedHistogram, &Histo) -> Result<(), Mismatch>,
) {
    let Some(all) = &series.histograms else { return };
    let folded = histograms.get_or_insert_with(|| vec![FoldedHistogram::default(); all.len()]);
    for (f, h) in folded.iter_mut().zip(all).filter(|(f, _)| !f.mismatched) {
        let Some(h) = h else { continue };
        if let Err(of) = add(f, h) {
            notes.mismatch(of, series.labels.metric_name());
            f.mismatched = true;
        }
    }
}

/// A step that has floats and histograms has no answer.
fn with_histograms<S>(
    labels: Labels,
    mut floats: Vec<f64>,
    histograms: Option<Vec<FoldedHistogram>>,
    notes: &AggregateNotes<'_, '_, S>,
) -> Series {
    let Some(folded) = histograms else { return Series { labels, floats, histograms: None } };
    let mut held = vec![None; floats.len()];
    for (i, f) in folded.into_iter().enumerate() {
        let Some(mut h) = f.of else { continue };
        if is_present(floats[i]) {
            notes.mixed();
            floats[i] = ABSENT;
        } else if !f.mismatched {
            h.compact();
            held[i] = Some(Arc::new(h));
        }
    }
    Series { labels, floats, histograms: Some(held) }
}
