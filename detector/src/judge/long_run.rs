//! `LongRun`: variance of a sum whose terms are correlated in time: Bartlett's kernel (Newey and West 1987) over
//! the residuals of `x` about a running slope times its exposure `g`. Constant memory; assumes that correlation
//! fades within the lags, and underestimates noise that is slower than that.

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
        if self.blocks.n > 2 * LAGS as u64 { terms.max(self.blocks.variance(slope)) } else { terms }
    }
}

#[derive(Debug, Clone, Default)]
struct Kernel {
    n: u64,
    xx: f64,
    xg: f64,
    gg: f64,
    recent: [(f64, f64); LAGS],
    lag_xx: [f64; LAGS],
    lag_xg: [f64; LAGS],
    lag_gg: [f64; LAGS],
}

impl Kernel {
    fn push(&mut self, x: f64, g: f64) {
        self.xx += x * x;
        self.xg += x * g;
        self.gg += g * g;
        let lags = LAGS.min(usize::try_from(self.n).unwrap_or(LAGS));
        let newest = self.n as usize + LAGS - 1;
        for lag in 0..lags {
            let (x0, g0) = self.recent[(newest - lag) % LAGS];
            self.lag_xx[lag] += x * x0;
            self.lag_xg[lag] += x * g0 + g * x0;
            self.lag_gg[lag] += g * g0;
        }
        self.recent[self.n as usize % LAGS] = (x, g);
        self.n += 1;
    }

    /// Variance of the sum of `x - slope * g`; never less than if the terms were independent.
    fn variance(&self, slope: f64) -> f64 {
        let at = |xx: f64, xg: f64, gg: f64| xx - slope * xg + slope * slope * gg;
        let independent = at(self.xx, 2.0 * self.xg, self.gg);
        if self.n <= 2 * LAGS as u64 {
            return independent;
        }
        let correlated: f64 = (0..LAGS)
            .map(|l| {
                let weight = 1.0 - (l + 1) as f64 / (LAGS + 1) as f64;
                2.0 * weight * at(self.lag_xx[l], self.lag_xg[l], self.lag_gg[l])
            })
            .sum();
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
