//! `Survival`: what share of requests takes longer than a time, from a histogram.
//!
//! Between edges, log survival is a quadratic in log latency through the three nearest edges: straight lines are
//! some ten per cent off where a tolerated ratio of a few per cent is to be found.

/// A tolerated ratio is at least this power of the stretch, however flat the histogram is.
const SLOPE_MIN: f64 = 0.2;
/// A survival further from the quantile's than this factor stands for other requests than those meant.
const NEAR: f64 = 4.0;

pub(crate) struct Survival<'a> {
    edges: &'a [f64],
    /// Counts above each edge.
    above: Vec<f64>,
    total: f64,
}

impl<'a> Survival<'a> {
    /// `counts` has one entry more than `edges`: what lies above the last.
    pub(crate) fn new(edges: &'a [f64], counts: &[f64]) -> Self {
        let mut above = vec![0.0; edges.len()];
        let mut sum = 0.0;
        for i in (0..edges.len()).rev() {
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
        (1..self.edges.len().saturating_sub(1))
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
        let n = self.edges.len();
        let x = self.edges[k].ln() - stretch.ln_1p();
        if n < 3 {
            return (SLOPE_MIN * stretch.ln_1p()).exp();
        }
        // The nearest edge in log latency lies on one side or the other of where the stretch leads.
        let after = self.edges.partition_point(|e| *e < x.exp()).clamp(1, n - 2);
        let before = after.saturating_sub(1).max(1);
        let distance = |k: usize| (self.edges[k].ln() - x).abs();
        let j = if distance(before) <= distance(after) { before } else { after };
        let log = |i: usize| self.above[i].max(0.5).ln();
        let (h1, h2) = ((self.edges[j] / self.edges[j - 1]).ln(), (self.edges[j + 1] / self.edges[j]).ln());
        let (d1, d2) = ((log(j) - log(j - 1)) / h1, (log(j + 1) - log(j)) / h2);
        let curvature = (d2 - d1) / (h1 + h2);
        let slope = (h2 * d1 + h1 * d2) / (h1 + h2);
        let u = x - self.edges[j].ln();
        let at_x = log(j) + slope * u + curvature * u * u;
        (at_x - log(k)).max(SLOPE_MIN * stretch.ln_1p()).exp()
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
        let survival = Survival::new(&edges, &counts);
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
        for counts in [[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]] {
            assert_eq!(Survival::new(&edges, &counts).edge_near(0.99), None, "{counts:?}");
        }
        assert_eq!(Survival::new(&edges, &[9.0, 0.0, 0.0, 0.0]).edge_beyond(0.99), Some(0));
        assert_eq!(Survival::new(&edges, &[0.0, 0.0, 0.0, 9.0]).edge_beyond(0.99), None);
        assert!(latency_at(0.5, &[], &[3.0]).is_nan());
        assert_eq!(latency_at(0.5, &edges, &[0.0, 0.0, 0.0, 9.0]), 0.4);
    }
}
