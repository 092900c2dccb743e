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
    recent_blocks: Recent,
    /// The block that is being filled.
    block: (f64, f64),
}

/// The newest terms, kept once for all runs over the same terms.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    /// The newest first.
    x: [f64; LAGS],
    g: [f64; LAGS],
}

/// Weighted sums of `x` and of `g` over none, one, two, ... of the terms before.
pub(crate) struct Before([(f64, f64); LAGS + 1]);

/// A run that shares its terms with no other.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoneRun {
    run: LongRun,
    recent: Recent,
}

impl LoneRun {
    pub(crate) fn push(&mut self, x: f64, g: f64) {
        let before = self.recent.take(x, g);
        self.run.push(x, g, &before);
    }

    pub(crate) fn variance(&self, slope: f64) -> f64 {
        self.run.variance(slope)
    }
}

impl Recent {
    /// Takes a term, and gives what came before it.
    pub(crate) fn take(&mut self, x: f64, g: f64) -> Before {
        let mut sums = [(0.0, 0.0); LAGS + 1];
        for lag in 0..LAGS {
            let (before_x, before_g) = sums[lag];
            sums[lag + 1] = (before_x + WEIGHTS[lag] * self.x[lag], before_g + WEIGHTS[lag] * self.g[lag]);
        }
        self.x.copy_within(..LAGS - 1, 1);
        self.g.copy_within(..LAGS - 1, 1);
        (self.x[0], self.g[0]) = (x, g);
        Before(sums)
    }
}

impl LongRun {
    /// `before` is what [`Recent::take`] gave for this term; a run that began later looks back no further than that.
    pub(crate) fn push(&mut self, x: f64, g: f64, before: &Before) {
        self.terms.push(x, g, before);
        self.block = (self.block.0 + x, self.block.1 + g);
        if self.terms.n.is_multiple_of(BLOCK) {
            let (x, g) = std::mem::take(&mut self.block);
            let before = self.recent_blocks.take(x, g);
            self.blocks.push(x, g, &before);
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
    fn push(&mut self, x: f64, g: f64, before: &Before) {
        self.xx += x * x;
        self.xg += x * g;
        self.gg += g * g;
        let (before_x, before_g) = before.0[self.n.min(LAGS as u64) as usize];
        self.lagged_xx += x * before_x;
        self.lagged_xg += x * before_g + g * before_x;
        self.lagged_gg += g * before_g;
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
        let run = |terms: &dyn Fn(u32) -> f64| {
            let (mut run, mut recent) = (LongRun::default(), Recent::default());
            for x in (0..1000).map(terms) {
                run.push(x, 1.0, &recent.take(x, 1.0));
            }
            run
        };
        let alternating = run(&|i| if i % 2 == 0 { 1.0 } else { -1.0 });
        let runs = run(&|i| if i % 20 < 10 { 1.0 } else { -1.0 });
        assert_eq!(alternating.variance(0.0), 1000.0);
        assert!(runs.variance(0.0) > 2000.0, "{}", runs.variance(0.0));
        // About its own slope a constant has no variance.
        let constant = run(&|_| 2.0);
        assert!(constant.variance(2.0).abs() < 1e-9);
    }

    #[test]
    fn a_run_that_begins_later_sees_nothing_from_before_it() {
        let mut recent = Recent::default();
        for i in 0..30 {
            recent.take(f64::from(i), 1.0);
        }
        let (mut late, mut alone, mut fresh) = (LongRun::default(), LongRun::default(), Recent::default());
        for i in 0..50 {
            let (x, g) = (f64::from(i * i % 7), 1.0 + f64::from(i % 3));
            late.push(x, g, &recent.take(x, g));
            alone.push(x, g, &fresh.take(x, g));
        }
        assert_eq!(late.variance(0.3), alone.variance(0.3));
    }
}
