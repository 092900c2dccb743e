//! Increments of a native histogram, on counts like `counts.rs`, at bucket bounds that its samples share.
//!
//! What was counted at or below a bound is a counter of its own. Exponential histograms are read on one fixed grid
//! (a coarser schema's bounds are every other one of a finer's, so reading them there is exact); of custom bounds,
//! those that every sample of the range has. Where either changes, fewer bounds are left and no count is split.

use davy_model::{Histogram, Sample, Timestamp, Value, is_stale};

/// Four buckets in each doubling: fine enough to see a stretch of a tenth, coarse enough to test.
pub const GRID_SCHEMA: i32 = 2;
/// Doublings that the grid spans, in the histogram's own unit: from half a thousandth to two minutes and back.
const GRID_DOUBLINGS: i32 = 18;

/// What a native histogram gained, and between which two samples.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramIncrease {
    /// `(bound, gained at or below it)`, ascending; the last bound is infinity, and all there is.
    pub upto: Vec<(f64, f64)>,
    /// Times that it was seen to begin anew.
    pub resets: u32,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// Where a plan reads its exponential histograms. Made coarser, never finer, by what is seen, so that the edges of
/// one plan change at most a few times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    schema: i32,
    /// Seconds in each unit of the observations.
    seconds_per_unit: f64,
}

impl Grid {
    pub fn new(seconds_per_unit: f64) -> Self {
        Self { schema: GRID_SCHEMA, seconds_per_unit }
    }

    /// Follows the coarsest schema among these samples.
    pub fn coarsen(&mut self, samples: &[Sample]) {
        let coarsest =
            samples.iter().filter_map(histogram).filter(|h| !h.is_custom()).map(|h| h.schema).min();
        self.schema = self.schema.min(coarsest.unwrap_or(self.schema));
    }

    /// Bounds in the observations' unit, between half a millisecond and two minutes.
    fn bounds(&self) -> Vec<f64> {
        let lowest = (0.0005 / self.seconds_per_unit).log2().ceil();
        // Bound `i` is at `2^(i / 2^schema)`.
        let per_doubling = f64::from(self.schema).exp2();
        let first = (lowest * per_doubling).ceil();
        let count = (f64::from(GRID_DOUBLINGS) * per_doubling).floor() as i32;
        (0..=count).map(|i| ((first + f64::from(i)) / per_doubling).exp2()).collect()
    }
}

/// [`crate::counts::increase`] of a native histogram. A count that falls at any bound is a restart, and what the
/// sample shows was gained since; a plain zero is the start of a counter.
pub fn histogram_increase(
    samples: &[Sample],
    from: Timestamp,
    to: Timestamp,
    grid: &Grid,
) -> Option<HistogramIncrease> {
    let seen: Vec<(Timestamp, Seen<'_>)> = samples
        .iter()
        .take_while(|s| s.timestamp <= to)
        .filter_map(|s| Some((s.timestamp, Seen::of(s)?)))
        .collect();
    let begin = seen.partition_point(|(at, _)| *at <= from);
    let within = &seen[begin.saturating_sub(1)..];
    let (until, _) = seen[begin..].last()?;
    let bounds = common_bounds(within, grid);
    let mut gained = vec![0.0; bounds.len()];
    let mut resets = 0;
    let mut before = within[0].1.upto(&bounds);
    for (_, s) in &within[1..] {
        let now = s.upto(&bounds);
        let fell = now.iter().zip(&before).any(|(n, b)| n < b);
        resets += u32::from(fell);
        for (sum, (n, b)) in gained.iter_mut().zip(now.iter().zip(&before)) {
            *sum += if fell { *n } else { n - b };
        }
        before = now;
    }
    Some(HistogramIncrease {
        upto: bounds.into_iter().zip(gained).collect(),
        resets,
        since: within[0].0,
        until: *until,
    })
}

/// A sample as far as it can be counted with.
#[derive(Debug, Clone, Copy)]
enum Seen<'a> {
    Zero,
    Counts(&'a Histogram),
}

fn histogram(sample: &Sample) -> Option<&Histogram> {
    match &sample.value {
        Value::Histogram(h) if !h.gauge && !is_stale(h.sum) && h.validate().is_ok() => Some(h),
        Value::Histogram(_) | Value::Float(_) => None,
    }
}

impl<'a> Seen<'a> {
    fn of(sample: &'a Sample) -> Option<Self> {
        match sample.value.as_float() {
            Some(v) => (v == 0.0).then_some(Self::Zero),
            None => histogram(sample).map(Self::Counts),
        }
    }

    /// What it counted at or below each bound.
    fn upto(&self, bounds: &[f64]) -> Vec<f64> {
        let Self::Counts(h) = self else { return vec![0.0; bounds.len()] };
        let mut upto = vec![0.0; bounds.len()];
        for (_, upper, count) in h.buckets() {
            let at = bounds.partition_point(|b| *b < upper);
            if let Some(first) = upto.get_mut(at) {
                *first += count;
            }
        }
        let mut sum = 0.0;
        for v in &mut upto {
            sum += *v;
            *v = sum;
        }
        // Observations that are not numbers are in the count and in no bucket.
        if let Some(last) = upto.last_mut() {
            *last = last.max(h.count);
        }
        upto
    }
}

/// Bounds at which every one of these samples knows its count, with infinity last.
fn common_bounds(seen: &[(Timestamp, Seen<'_>)], grid: &Grid) -> Vec<f64> {
    let mut common: Option<Vec<f64>> = None;
    for (_, s) in seen {
        let Seen::Counts(h) = s else { continue };
        let own = if h.is_custom() {
            h.custom_bounds.clone()
        } else {
            let mut grid = *grid;
            grid.schema = grid.schema.min(h.schema);
            // Within the zero bucket nothing is known.
            grid.bounds().into_iter().filter(|b| *b >= h.zero_threshold).collect()
        };
        common = Some(match common {
            Some(common) => common.into_iter().filter(|b| own.contains(b)).collect(),
            None => own,
        });
    }
    let mut bounds = common.unwrap_or_default();
    bounds.push(f64::INFINITY);
    bounds
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use davy_model::{BucketSpan, STALE_NAN};

    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    /// Buckets of one schema, `(index, count)` ascending.
    fn exponential(schema: i32, buckets: &[(i32, f64)]) -> Histogram {
        let mut next = 0;
        let spans = buckets.iter().map(|(i, _)| {
            let offset = i - next;
            next = i + 1;
            BucketSpan { offset, length: 1 }
        });
        Histogram {
            schema,
            count: buckets.iter().map(|(_, c)| c).sum(),
            positive_spans: spans.collect(),
            positive_counts: buckets.iter().map(|(_, c)| *c).collect(),
            ..Histogram::default()
        }
    }

    fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
        Histogram {
            schema: -53,
            count: counts.iter().sum(),
            custom_bounds: bounds.to_vec(),
            positive_spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
            positive_counts: counts.to_vec(),
            ..Histogram::default()
        }
    }

    fn samples(points: Vec<(i64, Histogram)>) -> Vec<Sample> {
        points
            .into_iter()
            .map(|(s, h)| Sample { timestamp: at(s), value: Value::Histogram(Arc::new(h)) })
            .collect()
    }

    fn gained(samples: &[Sample], range: (i64, i64)) -> HistogramIncrease {
        histogram_increase(samples, at(range.0), at(range.1), &Grid::new(1.0)).expect("it was seen")
    }

    fn upto(i: &HistogramIncrease, bound: f64) -> Option<f64> {
        i.upto.iter().find(|(b, _)| *b == bound).map(|(_, c)| *c)
    }

    #[test]
    fn a_finer_schema_is_read_on_the_grid_exactly() {
        // Schema 3 has eight buckets a doubling: 8 is (2^(7/8), 2].
        let s = samples(vec![
            (5, exponential(3, &[(-8, 1.0), (8, 2.0)])),
            (20, exponential(3, &[(-8, 4.0), (7, 1.0), (8, 2.0), (16, 3.0)])),
        ]);
        let i = gained(&s, (10, 30));
        assert_eq!(
            (upto(&i, 0.5), upto(&i, 1.0), upto(&i, 2.0), upto(&i, 4.0)),
            (Some(3.0), Some(3.0), Some(4.0), Some(7.0))
        );
        assert_eq!((i.upto.last(), i.since, i.until), (Some(&(f64::INFINITY, 7.0)), at(5), at(20)));
        assert_eq!(i.upto.len(), 18 * 4 + 2);
    }

    #[test]
    fn a_schema_that_becomes_coarser_leaves_the_bounds_that_both_have() {
        let s = samples(vec![(5, exponential(2, &[(4, 2.0)])), (20, exponential(0, &[(1, 5.0), (2, 1.0)]))]);
        let i = gained(&s, (10, 30));
        assert_eq!((upto(&i, 1.0), upto(&i, 2.0), upto(&i, 4.0)), (Some(0.0), Some(3.0), Some(4.0)));
        assert_eq!(i.upto.len(), 18 + 2);
        let mut grid = Grid::new(1.0);
        grid.coarsen(&s);
        assert_eq!(grid.bounds().len(), 19);
        grid.coarsen(&s[..1]);
        assert_eq!(grid.bounds().len(), 19, "never finer again");
    }

    #[test]
    fn restarts_and_starts_count_what_they_show() {
        let s = samples(vec![
            (5, exponential(2, &[(0, 90.0)])),
            (20, exponential(2, &[(0, 4.0), (4, 1.0)])),
            (25, exponential(2, &[(0, 6.0), (4, 1.0)])),
        ]);
        let i = gained(&s, (10, 30));
        assert_eq!((upto(&i, 1.0), upto(&i, 2.0), i.resets), (Some(6.0), Some(7.0), 1));
        let mut born = samples(vec![(20, exponential(2, &[(4, 7.0)]))]);
        assert_eq!(upto(&gained(&born, (10, 30)), 2.0), Some(0.0), "nobody knows how long it had counted");
        born.insert(0, Sample { timestamp: at(19), value: Value::Float(0.0) });
        assert_eq!(upto(&gained(&born, (10, 30)), 2.0), Some(7.0));
        // The total grew, but a bucket fell: begun anew under heavy load.
        let s = samples(vec![(5, exponential(2, &[(0, 5.0)])), (20, exponential(2, &[(0, 1.0), (4, 9.0)]))]);
        let i = gained(&s, (10, 30));
        assert_eq!((upto(&i, 1.0), upto(&i, 2.0), i.resets), (Some(1.0), Some(10.0), 1));
    }

    #[test]
    fn custom_bounds_that_change_leave_those_that_stay() {
        let s = samples(vec![
            (5, custom(&[0.1, 0.5, 1.0], &[1.0, 1.0, 1.0, 0.0])),
            (20, custom(&[0.1, 1.0, 2.0], &[2.0, 3.0, 1.0, 1.0])),
        ]);
        let i = gained(&s, (10, 30));
        assert_eq!(i.upto, vec![(0.1, 1.0), (1.0, 2.0), (f64::INFINITY, 4.0)]);
        let mixed = samples(vec![(5, custom(&[0.1], &[1.0, 0.0])), (20, exponential(2, &[(0, 3.0)]))]);
        assert_eq!(gained(&mixed, (10, 30)).upto, vec![(f64::INFINITY, 2.0)]);
    }

    #[test]
    fn gauges_stale_markers_and_broken_histograms_are_passed_over() {
        let gauge = Histogram { gauge: true, ..exponential(2, &[(0, 3.0)]) };
        let stale = Histogram { sum: STALE_NAN, ..Histogram::default() };
        let broken = Histogram { positive_counts: vec![], ..exponential(2, &[(0, 3.0)]) };
        let s = samples(vec![(12, gauge), (13, stale), (14, broken)]);
        assert_eq!(histogram_increase(&s, at(10), at(30), &Grid::new(1.0)), None);
    }

    #[test]
    fn observations_in_milliseconds_have_a_grid_of_milliseconds() {
        let bounds = Grid::new(1e-3).bounds();
        assert!(bounds.contains(&0.5) && bounds.contains(&1024.0) && bounds.contains(&131_072.0));
        assert_eq!(bounds.len(), 18 * 4 + 1);
    }
}
