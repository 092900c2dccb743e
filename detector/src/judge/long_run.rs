//! `LongRun`: variance of a sum whose terms are correlated in time: Bartlett's kernel (Newey and West 1987) over
//! the residuals of `x` about a running slope times its exposure `g`. Constant memory; assumes that correlation
//! fades within the lags, and underestimates noise that is slower than that.

use super::study;

pub(crate) const LAGS: usize = 12;

/// Terms to a block of the slow kernel.
const BLOCK: u64 = 4;

/// Two kernels: one over the terms, and one over sums of four, which sees four times as far once there is time.
#[derive(Debug, Clone, Default)]
pub(crate) struct LongRun {
    terms: Kernel,
    blocks: Kernel,
    /// The block that is being filled.
    block: (f64, f64),
}

impl LongRun {
    pub(crate) fn push(&mut self, x: f64, g: f64) {
        self.terms.push(x, g);
        self.block = (self.block.0 + x, self.block.1 + g);
        if self.terms.n.is_multiple_of(BLOCK) {
            let (x, g) = std::mem::take(&mut self.block);
            self.blocks.push(x, g);
        }
    }

    /// Sum of squared exposures.
    pub(crate) fn exposure_squares(&self) -> f64 {
        self.terms.gg
    }

    /// Variance of the sum of `x - slope * g`; never less than if the terms were independent.
    pub(crate) fn variance(&self, slope: f64) -> f64 {
        let terms = self.terms.variance(slope);
        if self.blocks.n > 2 * LAGS as u64 && !study::is_followed() {
            terms.max(self.blocks.variance(slope))
        } else {
            terms
        }
    }
}

/// Sums of products of the terms with themselves and, weighted by the kernel, with those before them.
#[derive(Debug, Clone, Default)]
struct Kernel {
    n: u64,
    xx: f64,
    xg: f64,
    gg: f64,
    lagged_xx: f64,
    lagged_xg: f64,
    lagged_gg: f64,
    /// The newest first.
    recent_x: [f64; LAGS],
    recent_g: [f64; LAGS],
}

/// Bartlett's weights of the lags, from one on.
const WEIGHTS: [f64; LAGS] = {
    let mut weights = [0.0; LAGS];
    let mut lag = 0;
    while lag < LAGS {
        weights[lag] = 1.0 - (lag + 1) as f64 / (LAGS + 1) as f64;
        lag += 1;
    }
    weights
};

impl Kernel {
    fn push(&mut self, x: f64, g: f64) {
        self.xx += x * x;
        self.xg += x * g;
        self.gg += g * g;
        let (mut before_x, mut before_g) = (0.0, 0.0);
        for ((w, x0), g0) in WEIGHTS.iter().zip(&self.recent_x).zip(&self.recent_g) {
            before_x += w * x0;
            before_g += w * g0;
        }
        self.lagged_xx += x * before_x;
        self.lagged_xg += x * before_g + g * before_x;
        self.lagged_gg += g * before_g;
        self.recent_x.copy_within(..LAGS - 1, 1);
        self.recent_g.copy_within(..LAGS - 1, 1);
        (self.recent_x[0], self.recent_g[0]) = (x, g);
        self.n += 1;
    }

    /// Variance of the sum of `x - slope * g`; never less than if the terms were independent.
    fn variance(&self, slope: f64) -> f64 {
        let at = |xx: f64, xg: f64, gg: f64| xx - slope * xg + slope * slope * gg;
        let independent = at(self.xx, 2.0 * self.xg, self.gg);
        if self.n <= 2 * LAGS as u64 {
            return independent;
        }
        let correlated = 2.0 * at(self.lagged_xx, self.lagged_xg, self.lagged_gg);
        independent.max(independent + correlated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_terms_add_their_squares_and_repeated_ones_more() {
        let mut alternating = LongRun::default();
        let mut runs = LongRun::default();
        for i in 0..1000 {
            alternating.push(if i % 2 == 0 { 1.0 } else { -1.0 }, 1.0);
            runs.push(if i % 20 < 10 { 1.0 } else { -1.0 }, 1.0);
        }
        assert_eq!(alternating.variance(0.0), 1000.0);
        assert!(runs.variance(0.0) > 2000.0, "{}", runs.variance(0.0));
        // About its own slope a constant has no variance.
        let mut constant = LongRun::default();
        (0..100).for_each(|_| constant.push(2.0, 1.0));
        assert!(constant.variance(2.0).abs() < 1e-9);
    }
}
