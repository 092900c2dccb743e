//! `Survival`: what share of requests takes longer than a time, from a histogram.
//!
//! Between edges, log survival is a quadratic in log latency through the three nearest edges: straight lines are
//! some ten per cent off where a tolerated ratio of a few per cent is to be found.

use std::sync::Arc;

/// A tolerated ratio is at least this power of the stretch, however flat the histogram is.
const SLOPE_MIN: f64 = 0.2;
/// A survival further from the quantile's than this factor stands for other requests than those meant.
const NEAR: f64 = 4.0;

/// Upper bounds of the buckets in seconds, ascending, without `+Inf`, and their logs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edges {
    bounds: Arc<[f64]>,
    logs: Arc<[f64]>,
}

pub(crate) struct Survival<'a> {
    edges: &'a Edges,
    /// Counts above each edge.
    above: Vec<f64>,
    total: f64,
}

impl Edges {
    pub(crate) fn new(bounds: &Arc<[f64]>) -> Self {
        Self { bounds: Arc::clone(bounds), logs: bounds.iter().map(|e| e.ln()).collect() }
    }

    pub(crate) fn bounds(&self) -> &[f64] {
        &self.bounds
    }
}

impl<'a> Survival<'a> {
    /// `counts` has one entry more than `edges`: what lies above the last.
    pub(crate) fn new(edges: &'a Edges, counts: &[f64]) -> Self {
        let n = edges.bounds.len();
        let mut above = vec![0.0; n];
        let mut sum = 0.0;
        for i in (0..n).rev() {
            sum += counts.get(i + 1).copied().unwrap_or(0.0);
            above[i] = sum;
        }
        let total = sum + counts.first().copied().unwrap_or(0.0);
        Self { edges, above, total }
    }

    /// The edge whose survival is nearest the quantile's, among those with counts on both sides and neighbours
    /// to see the slope by; `None` when the nearest is not near.
    pub(crate) fn edge_near(&self, quantile: f64) -> Option<usize> {
        let distance = |k: usize| self.distance(k, quantile);
        (1..self.above.len().saturating_sub(1))
            .filter(|k| self.above[k + 1] > 0.0 && self.above[k - 1] < self.total)
            .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
            .filter(|k| distance(*k) <= NEAR.ln())
    }

    /// How far the survival at edge `k` is from the quantile's, as a log.
    pub(crate) fn distance(&self, k: usize, quantile: f64) -> f64 {
        (self.above[k] / self.total / (1.0 - quantile)).ln().abs()
    }

    /// The first edge that the quantile does not pass.
    pub(crate) fn edge_beyond(&self, quantile: f64) -> Option<usize> {
        self.above.iter().position(|a| *a <= (1.0 - quantile) * self.total)
    }

    /// How many times more requests pass edge `k` when every latency is `1 + stretch` times as long.
    pub(crate) fn ratio(&self, k: usize, stretch: f64) -> f64 {
        let at = &self.edges.logs;
        let (n, stretch) = (at.len(), stretch.ln_1p());
        let x = at[k] - stretch;
        if n < 3 {
            return (SLOPE_MIN * stretch).exp();
        }
        // The nearest edge in log latency lies on one side or the other of where the stretch leads.
        let after = at.partition_point(|e| *e < x).clamp(1, n - 2);
        let before = after.saturating_sub(1).max(1);
        let distance = |k: usize| (at[k] - x).abs();
        let j = if distance(before) <= distance(after) { before } else { after };
        let log = |i: usize| self.above[i].max(0.5).ln();
        let (h1, h2) = (at[j] - at[j - 1], at[j + 1] - at[j]);
        let at_j = log(j);
        let (d1, d2) = ((at_j - log(j - 1)) / h1, (log(j + 1) - at_j) / h2);
        let curvature = (d2 - d1) / (h1 + h2);
        let slope = (h2 * d1 + h1 * d2) / (h1 + h2);
        let u = x - at[j];
        let at_x = at_j + slope * u + curvature * u * u;
        (at_x - log(k)).max(SLOPE_MIN * stretch).exp()
    }
}

/// Latency at a quantile: within its bucket evenly in log latency, evenly in latency in the first one.
/// `NaN` without counts; the last edge when it lies beyond.
pub(crate) fn latency_at(quantile: f64, edges: &[f64], counts: &[f64]) -> f64 {
    let total: f64 = counts.iter().sum();
    let Some(last) = edges.last().filter(|_| total > 0.0) else { return f64::NAN };
    let rank = quantile * total;
    let mut below = 0.0;
    for (i, (edge, c)) in edges.iter().zip(counts).enumerate() {
        if below + c >= rank && *c > 0.0 {
            let part = (rank - below) / c;
            return match i.checked_sub(1) {
                None => edge * part,
                Some(p) => edges[p] * (edge / edges[p]).powf(part),
            };
        }
        below += c;
    }
    *last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Survival of an exponential distribution, whose ratio is known: exp(-x/(1+m)) / exp(-x).
    #[test]
    fn the_quadratic_finds_a_known_ratio() {
        let edges: Vec<f64> = (0..20).map(|i| 0.25 * 2f64.powf(f64::from(i) / 4.0)).collect();
        let s = |x: f64| (-x).exp();
        let mut counts = vec![1e6 * (1.0 - s(edges[0]))];
        counts.extend(edges.windows(2).map(|w| 1e6 * (s(w[0]) - s(w[1]))));
        counts.push(1e6 * s(edges[19]));
        let of = Edges::new(&edges.clone().into());
        let survival = Survival::new(&of, &counts);
        let k = survival.edge_near(0.9).unwrap();
        assert!((edges[k] - 2.3).abs() < 0.3, "{}", edges[k]);
        for stretch in [0.05, 0.15] {
            let want = (edges[k] * stretch / (1.0 + stretch)).exp();
            let got = survival.ratio(k, stretch);
            assert!(
                ((got - 1.0) / (want - 1.0) - 1.0).abs() < 0.02,
                "stretch {stretch}: got {got}, want {want}"
            );
        }
        assert!((latency_at(0.9, &edges, &counts) - 10f64.ln()).abs() < 0.02);
    }

    #[test]
    fn odd_histograms_give_no_edge_rather_than_a_wrong_one() {
        let edges = [0.1, 0.2, 0.4];
        let of = Edges::new(&edges.into());
        for counts in [[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]] {
            assert_eq!(Survival::new(&of, &counts).edge_near(0.99), None, "{counts:?}");
        }
        assert_eq!(Survival::new(&of, &[9.0, 0.0, 0.0, 0.0]).edge_beyond(0.99), Some(0));
        assert_eq!(Survival::new(&of, &[0.0, 0.0, 0.0, 9.0]).edge_beyond(0.99), None);
        assert!(latency_at(0.5, &[], &[3.0]).is_nan());
        assert_eq!(latency_at(0.5, &edges, &[0.0, 0.0, 0.0, 9.0]), 0.4);
    }
}
