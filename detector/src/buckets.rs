//! Buckets of one instance: increments at or below each bound, summed over its series, classic or native.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use davy_model::{Labels, Timestamp};
use davy_query::native::HistogramIncrease;

/// Cumulative increments of one instance's buckets.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    /// Bounds of each of the instance's histograms: only those that all have can be summed.
    members: BTreeMap<Labels, BTreeSet<Bound>>,
    cumulative: BTreeMap<Bound, f64>,
    pub(crate) seconds: f64,
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

impl Buckets {
    /// One bucket of a classic histogram; `member` are the histogram's labels without `le`.
    pub(crate) fn add(&mut self, member: Labels, bound: f64, gained: f64, time: (Timestamp, Timestamp)) {
        self.members.entry(member).or_default().insert(Bound(bound));
        *self.cumulative.entry(Bound(bound)).or_default() += gained;
        self.seconds = self.seconds.max(time.1.since(time.0).as_secs_f64());
    }

    pub(crate) fn add_native(&mut self, member: &Labels, gained: &HistogramIncrease) {
        for (bound, upto) in &gained.upto {
            self.add(member.clone(), *bound, *upto, (gained.since, gained.until));
        }
    }

    /// Counts between the edges, which are in seconds; what lies above the last comes last.
    pub(crate) fn counts(&self, edges: &[f64], seconds_per_unit: f64) -> Vec<f64> {
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
pub(crate) fn common_edges<'a>(
    histograms: impl Iterator<Item = &'a Buckets>,
    seconds_per_unit: f64,
) -> Arc<[f64]> {
    let mut members = histograms.flat_map(|h| h.members.values());
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
