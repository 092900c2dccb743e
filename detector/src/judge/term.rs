//! `Term`: what one interval says of a tolerance. Taken once for all processes that ask the same: begun at whatever
//! time, they see the same interval.

use crate::plan::Arm;

use super::counts::Tolerance;
use super::long_run::{Before, Recent};

/// Exposure and events of one interval, by slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) trials: Vec<f64>,
    pub(crate) events: Vec<f64>,
}

/// Trials and events of the baseline, and of the canary.
pub(crate) type OfArms = [(f64, f64); 2];

/// The same with what every process needs of it, taken once.
#[derive(Debug)]
pub(crate) struct Sums<'a> {
    pub(super) counts: &'a Counts,
    pub(crate) of: OfArms,
    /// How the baseline's instances scatter about their common rate, and how they would by chance.
    pub(super) between: (f64, f64),
    pub(super) per_instance: f64,
}

pub(super) struct Term {
    tolerance: Tolerance,
    sign: f64,
    /// Score and exposure: the score's mean is the exposure times the log ratio, or the difference, beyond the tolerance.
    pub(super) x: f64,
    pub(super) g: f64,
    /// Quadratic variation by instance.
    pub(super) realised: f64,
    pub(super) model: Model,
    pub(super) before: Before,
}

/// A tolerance that is asked about from interval to interval: by all processes that ask the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    recent: Recent,
}

/// What the variance of the score would be without dispersion.
#[derive(Debug, Clone, Copy)]
pub(super) enum Model {
    Variance(f64),
    /// Squared weights times requests of the two arms: their rates are known better from all intervals.
    Weights {
        canary: f64,
        baseline: f64,
        delta: f64,
    },
}

/// How a tolerance weighs the arms.
struct Weighed {
    /// Weight of the baseline's events; the canary's is one less this.
    pi: f64,
    rho: f64,
    x: f64,
    g: f64,
    /// Rates of the arms were the canary exactly at the tolerance.
    canary_rate: f64,
    baseline_rate: f64,
    model: Model,
}

impl Counts {
    pub(crate) fn of_arms(&self, arms: &[Arm]) -> OfArms {
        let mut sums = [(0.0, 0.0); 2];
        for ((arm, n), x) in arms.iter().zip(&self.trials).zip(&self.events) {
            let of = &mut sums[*arm as usize];
            *of = (of.0 + n, of.1 + x);
        }
        sums
    }

    pub(crate) fn sums(&self, arms: &[Arm]) -> Sums<'_> {
        let of = self.of_arms(arms);
        let [baseline, _] = of;
        let slots = || arms.iter().zip(self.trials.iter().zip(&self.events));
        let mut between = (0.0, 0.0);
        let of_baseline = || slots().filter(|(a, _)| **a == Arm::Baseline);
        if baseline.0 > 0.0 && of_baseline().nth(1).is_some() {
            let p = baseline.1 / baseline.0;
            for (_, (n, x)) in of_baseline().filter(|(_, (n, _))| **n > 0.0) {
                between.0 += (x - n * p).powi(2);
                between.1 += n * p * (1.0 - p) * (1.0 - n / baseline.0);
            }
        }
        Sums { counts: self, of, between, per_instance: per_instance(arms) }
    }
}

impl Sums<'_> {
    /// Whether both arms had requests.
    pub(crate) fn paired(&self) -> bool {
        self.of.iter().all(|(trials, _)| *trials > 0.0)
    }
}

impl Question {
    /// The tolerance may be another each time. None without requests in one of the arms, which is no evidence either
    /// way.
    pub(super) fn ask(
        &mut self,
        arms: &[Arm],
        sums: &Sums<'_>,
        tolerance: Tolerance,
        sign: f64,
    ) -> Option<Term> {
        if !sums.paired() {
            return None;
        }
        let [baseline, canary] = sums.of;
        let weighed = match tolerance {
            Tolerance::Ratio(rho) => relative(rho, canary, baseline),
            Tolerance::Difference(delta) => absolute(delta, canary, baseline),
        };
        let realised = realised(&weighed, arms, sums.counts, canary.0, baseline.0);
        let Weighed { x, g, model, .. } = weighed;
        let x = sign * x;
        Some(Term { tolerance, sign, x, g, realised, model, before: self.recent.take(x, g) })
    }
}

impl Term {
    pub(super) fn is_of(&self, tolerance: Tolerance, sign: f64) -> bool {
        (self.tolerance, self.sign) == (tolerance, sign)
    }
}

fn relative(rho: f64, (nc, ec): (f64, f64), (nb, eb): (f64, f64)) -> Weighed {
    let (n, k) = (nb + nc, eb + ec);
    let pi = rho * nc / (rho * nc + nb);
    // The mean of the score per unit of log ratio is g; its variance has the finite-population factor.
    let g = pi * (1.0 - pi) * k;
    let baseline_rate = k / (rho * nc + nb);
    Weighed {
        pi,
        rho,
        x: ec - pi * k,
        g,
        canary_rate: rho * baseline_rate,
        baseline_rate,
        model: Model::Variance(g * (1.0 - k / n)),
    }
}

fn absolute(delta: f64, (nc, ec): (f64, f64), (nb, eb): (f64, f64)) -> Weighed {
    let n = nb + nc;
    let pi = nc / n;
    let g = nc * nb / n;
    let baseline_rate = ((eb + ec - delta * nc) / n).max(0.0);
    Weighed {
        pi,
        rho: 1.0,
        x: (1.0 - pi) * ec - pi * eb - delta * g,
        g,
        canary_rate: (baseline_rate + delta).max(0.0),
        baseline_rate,
        model: Model::Weights { canary: (1.0 - pi) * (1.0 - pi) * nc, baseline: pi * pi * nb, delta },
    }
}

/// `1/m_C + 1/m_B`.
pub(crate) fn per_instance(arms: &[Arm]) -> f64 {
    let canary = arms.iter().filter(|a| **a == Arm::Canary).count();
    1.0 / canary.max(1) as f64 + 1.0 / (arms.len() - canary).max(1) as f64
}

/// Quadratic variation by instance. Each residual loses its share of the one degree of freedom that the pooled
/// rate took, so the sum is scaled back up.
fn realised(term: &Weighed, arms: &[Arm], counts: &Counts, nc: f64, nb: f64) -> f64 {
    let (mut sum, mut whole, mut left) = (0.0, 0.0, 0.0);
    let per_exposure = 1.0 / (term.rho * nc + nb);
    for ((arm, n), x) in arms.iter().zip(&counts.trials).zip(&counts.events) {
        if *n > 0.0 {
            let (weight, rate, rho) = match arm {
                Arm::Canary => (1.0 - term.pi, term.canary_rate, term.rho),
                Arm::Baseline => (term.pi, term.baseline_rate, 1.0),
            };
            let share = n * rho * per_exposure;
            sum += (weight * (x - n * rate)).powi(2);
            whole += weight * weight * share;
            left += weight * weight * share * (1.0 - share);
        }
    }
    if left > 0.0 { sum * whole / left } else { sum }
}
