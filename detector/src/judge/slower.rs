//! `Threshold`: one bucket edge of a latency histogram, and the count test on the requests that lie beyond it.
//! What a tolerated stretch of latencies is in terms of survival at the edge is taken from the baseline's past.

use crate::calibration;
use crate::plan::{Arm, Margins};

use super::cohort::{Cohort, ask};
use super::counts::{
    ARM_PRIOR_SPELLS, CountParams, CountProcess, DISPERSION_PRIOR_INTERVALS, LUCK_PRIOR_INSTANCES, Tolerance,
};
use super::epochs::Epochs;
use super::forecast::{Forecast, forecast};
use super::survival::Survival;
use super::term::{Question, Sums};
use super::totals::Totals;
use super::{Frame, PASS_BOUNDARY};

/// Prior standard deviations of log latency: of an instance, and of the slow noise of an arm.
pub(super) const LUCK_SD: f64 = 0.015;
const LUCK_SD_MIN: f64 = 0.01;
const ARM_NOISE_SD: f64 = 0.02;
/// Standard deviation of what a cold start does to log latency.
const COLD_SD: f64 = 0.4;
/// The stretch over which the slope of the survival is taken.
const SLOPE_STRETCH: f64 = 0.05;

#[derive(Debug, Clone)]
pub(super) struct Threshold {
    pub(super) edge: usize,
    noise: Noise,
    pub(super) tolerance: Stretch,
    pub(super) worse: Epochs<Cohort>,
    pub(super) no_worse: CountProcess,
    /// In the warm-up: is the canary slower than a cold one?
    gross: Option<Cohort>,
    questions: Questions,
    pub(super) totals: Totals,
}

#[derive(Debug, Clone, Default)]
struct Questions {
    worse: [Question; 1],
    no_worse: [Question; 1],
    gross: [Question; 1],
}

/// What a tolerated stretch is in terms of survival at the edge.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stretch {
    /// Buckets are fine enough: ratios for "worse" and for "no worse", and the slope of log survival against log
    /// latency.
    Ratio { worse: f64, no_worse: f64, slope: f64 },
    /// Coarse buckets: this much more of the canary's requests beyond the edge carries its quantile over it.
    Crossing(f64),
}

/// What is known beforehand, in log latency.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    luck_sd: f64,
    luck_weight: f64,
    arm_sd: f64,
    dispersion: f64,
    dispersion_weight: f64,
}

impl Noise {
    pub(super) fn new(known: &calibration::Noise) -> Self {
        let (luck, luck_weight) = known.luck((LUCK_SD * LUCK_SD, LUCK_PRIOR_INSTANCES));
        let (arm, _) = known.arm((ARM_NOISE_SD * ARM_NOISE_SD, ARM_PRIOR_SPELLS));
        let (dispersion, dispersion_weight) = known.dispersion((1.0, DISPERSION_PRIOR_INTERVALS));
        Self { luck_sd: luck.sqrt(), luck_weight, arm_sd: arm.sqrt(), dispersion, dispersion_weight }
    }
}

impl Threshold {
    pub(super) fn choose(
        quantile: f64,
        survival: &Survival<'_>,
        margins: Margins,
        noise: Noise,
    ) -> Option<Self> {
        let (edge, tolerance) = match survival.edge_near(quantile) {
            Some(edge) => (edge, Stretch::at(edge, survival, margins)),
            None => (survival.edge_beyond(quantile)?, Stretch::Crossing(1.0 - quantile)),
        };
        Some(Self {
            edge,
            noise,
            tolerance,
            worse: Epochs::new(),
            no_worse: CountProcess::new(tolerance.params(false, &noise)),
            gross: None,
            questions: Questions::default(),
            totals: Totals::default(),
        })
    }

    pub(super) fn retune(&mut self, survival: &Survival<'_>, margins: Margins) {
        if matches!(self.tolerance, Stretch::Ratio { .. }) {
            self.tolerance = Stretch::at(self.edge, survival, margins);
        }
    }

    /// `cold` is how far a cold canary's latencies may be stretched.
    pub(super) fn warm_up(
        &mut self,
        arms: &[Arm],
        sums: &Sums<'_>,
        cold: Option<(f64, &Survival<'_>)>,
        margins: Margins,
    ) {
        let params = [self.tolerance.params(true, &self.noise)];
        let terms = ask(&mut self.questions.worse, arms, sums, &params);
        self.worse.warm_up(
            || Cohort::new(&params),
            |all| {
                all.retune(&params);
                all.update(arms, sums, &terms);
            },
        );
        let Stretch::Ratio { slope, .. } = self.tolerance else { return };
        let Some((stretch, survival)) = cold else { return };
        let stretch = (1.0 + stretch) * (1.0 + margins.worse.relative) - 1.0;
        let cold = Stretch::Ratio { worse: survival.ratio(self.edge, stretch), no_worse: 1.0, slope };
        let params = [cold.params(true, &self.noise)];
        let gross = self.gross.get_or_insert_with(|| Cohort::new(&params));
        gross.retune(&params);
        gross.update(arms, sums, &ask(&mut self.questions.gross, arms, sums, &params));
        self.totals.add(sums.of);
    }

    pub(super) fn step(&mut self, arms: &[Arm], sums: &Sums<'_>) {
        if self.gross.take().is_some() {
            self.totals = Totals::default();
        }
        let params = [self.tolerance.params(true, &self.noise)];
        let terms = ask(&mut self.questions.worse, arms, sums, &params);
        self.worse.advance(
            |first| first.map_or_else(|| Cohort::new(&params), |f| f.anew(&params)),
            |all| {
                all.retune(&params);
                all.update(arms, sums, &terms);
            },
        );
        let params = [self.tolerance.params(false, &self.noise)];
        self.no_worse.retune(params[0]);
        // Of the same time as the first copy.
        if let Some(instances) = self.worse.first().map(Cohort::instances) {
            let terms = ask(&mut self.questions.no_worse, arms, sums, &params);
            terms.iter().for_each(|t| self.no_worse.update(sums, t, instances));
        }
        self.totals.add(sums.of);
    }

    pub(super) fn learned(&self) -> Option<calibration::Noise> {
        let Stretch::Ratio { slope, .. } = self.tolerance else { return None };
        let noise = self.worse.whole()?.learned();
        let scale = slope * slope;
        Some(calibration::Noise {
            luck_variance: noise.luck_variance / scale,
            arm_variance: noise.arm_variance / scale,
            ..noise
        })
    }

    pub(super) fn worse(&self, frame: &Frame<'_>) -> f64 {
        if !frame.judged {
            return self.gross.as_ref().map_or(0.0, Cohort::log_e);
        }
        self.worse.log_mix(Cohort::log_e, Cohort::persistent)
    }

    pub(super) fn forecast(&self) -> Forecast {
        if self.no_worse.log_e() >= PASS_BOUNDARY {
            return Forecast::Factor(1.0);
        }
        forecast(&[self.no_worse.outlook()], PASS_BOUNDARY)
    }
}

impl Stretch {
    fn at(edge: usize, survival: &Survival<'_>, margins: Margins) -> Self {
        let ratio = |stretch: f64| survival.ratio(edge, stretch);
        let (worse, no_worse) = (ratio(margins.worse.relative), ratio(margins.no_worse.relative));
        Self::Ratio { worse, no_worse, slope: ratio(SLOPE_STRETCH).ln() / SLOPE_STRETCH.ln_1p() }
    }

    fn params(self, worse: bool, noise: &Noise) -> CountParams {
        let sign = if worse { 1.0 } else { -1.0 };
        match self {
            Self::Ratio { worse: w, no_worse, slope } => CountParams {
                tolerance: Tolerance::Ratio(if worse { w } else { no_worse }),
                sign,
                luck_sd: (noise.luck_sd * slope).max(LUCK_SD_MIN),
                luck_weight: noise.luck_weight,
                arm_noise_sd: noise.arm_sd * slope,
                cold_sd: COLD_SD * slope,
                dispersion: noise.dispersion,
                dispersion_weight: noise.dispersion_weight,
            },
            Self::Crossing(share) => CountParams {
                tolerance: Tolerance::Difference(share),
                sign,
                luck_sd: noise.luck_sd,
                luck_weight: noise.luck_weight,
                arm_noise_sd: noise.arm_sd,
                cold_sd: COLD_SD,
                dispersion: noise.dispersion,
                dispersion_weight: noise.dispersion_weight,
            },
        }
    }
}
