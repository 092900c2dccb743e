//! `CountProcess`: do more of the canary's requests fail (or linger, or convert) than of the baseline's, beyond a
//! margin? On paired counts, in constant memory.
//!
//! Reference: the score of a conditional binomial, paired within the interval so that time of day and shared
//! incidents cancel; its variance is the model's, enlarged by the dispersion that is seen (between the baseline's
//! instances, and over time by [`LongRun`]), mixed with the realised quadratic variation. The variance of
//! *instance luck*, a good build on unlucky nodes, is learned from the baseline's instances about a prior. It
//! assumes that a slow noise of one whole arm is within its prior: within one release such a noise cannot be
//! told from a regression. Scenarios: `tests/scenarios.rs`.

use crate::calibration::Noise;

use super::cold::persistent;
use super::evidence::{EFFECTS, log_e, t_inflation};
use super::forecast::Outlook;
use super::instances::{Instances, Spread};
use super::long_run::LongRun;
use super::study;
use super::term::{Model, Sums, Term};

/// Weight of the priors: of instance luck in instances, of "no dispersion" in intervals.
pub(crate) const LUCK_PRIOR_INSTANCES: f64 = 6.0;
pub(crate) const DISPERSION_PRIOR_INTERVALS: f64 = 8.0;
/// What was learned over hours counts as so many intervals, lest a quiet spell unlearns it.
const TAUGHT_INTERVALS: f64 = 80.0;
/// Intervals that must agree before residuals are taken about the slope they show.
const CENTRING_INTERVALS: f64 = 4.0;
/// Prior of noise shared by an arm: it averages out over some ten intervals, and fades as the long-run variance
/// takes over.
const ARM_NOISE_INTERVALS: f64 = 20.0;
/// How many spells of it the prior of its variance is worth.
pub(crate) const ARM_PRIOR_SPELLS: f64 = 6.0;
/// Instances of an arm that can teach how instances differ.
const INSTANCES_MIN: f64 = 3.0;
/// A canary whose instances differ by more than this many times the variance known is not unlucky but broken in part.
pub(crate) const CANARY_SPREAD_MAX: f64 = 9.0;
/// Before this many paired intervals there is no evidence for anything.
const INTERVALS_MIN: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tolerance {
    /// The canary's rate may be this many times the baseline's.
    Ratio(f64),
    /// The canary's rate may exceed the baseline's by this.
    Difference(f64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct CountParams {
    pub(crate) tolerance: Tolerance,
    /// `1.0` asks whether the canary is above the tolerance, `-1.0` whether it is below.
    pub(crate) sign: f64,
    /// Prior standard deviation of an instance's log rate, and how many instances it is worth.
    pub(crate) luck_sd: f64,
    pub(crate) luck_weight: f64,
    /// Prior standard deviation of the slow log noise of an arm.
    pub(crate) arm_noise_sd: f64,
    /// Standard deviation of what a cold start does to a canary's log rate.
    pub(crate) cold_sd: f64,
    /// Prior of the dispersion: one, or what earlier intervals or releases taught.
    pub(crate) dispersion: f64,
    /// How many intervals that is worth.
    pub(crate) dispersion_weight: f64,
}

/// The state that evidence is made of: an estimate and its two variances, in units of log ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Effect {
    /// Beyond the tolerance.
    pub(crate) m: f64,
    /// Of sampling.
    pub(crate) s2: f64,
    /// Of luck alone, as it is, and with how many degrees of freedom it is known.
    pub(crate) luck: f64,
    pub(crate) nu: f64,
    /// Of an arm's slow noise after so many intervals.
    pub(crate) arm_noise: f64,
    pub(crate) intervals: f64,
    /// Of the whole.
    pub(crate) a2: f64,
    pub(crate) wide: f64,
}

impl Effect {
    /// Variance of instance luck and arm noise, as large as it is when sampling has faded.
    pub(crate) fn w2(&self) -> f64 {
        self.luck * t_inflation(self.nu) + self.arm_noise
    }

    /// Variance of the whole when there is `factor` times as much information, and time. Welch and Satterthwaite:
    /// few instances make heavy only the part of the tail that is theirs.
    pub(crate) fn variance_after(&self, factor: f64) -> f64 {
        let faded = arm_noise_share(self.intervals * factor) / arm_noise_share(self.intervals);
        welch(self.s2 / factor, self.luck, self.arm_noise * faded, self.nu)
    }
}

/// What is left of the prior of an arm's noise after so many intervals.
fn arm_noise_share(intervals: f64) -> f64 {
    let averaged = 2.0 * (ARM_NOISE_INTERVALS / intervals).min(1.0);
    averaged * ARM_NOISE_INTERVALS / (ARM_NOISE_INTERVALS + intervals)
}

fn welch(s2: f64, luck: f64, arm_noise: f64, nu: f64) -> f64 {
    if study::is_followed() {
        return s2 + luck * t_inflation(nu) + arm_noise;
    }
    let whole = s2 + luck + arm_noise;
    whole * t_inflation(nu * (whole / luck.max(f64::MIN_POSITIVE)).powi(2).min(1e6))
}

#[derive(Debug, Clone)]
pub(crate) struct CountProcess {
    params: CountParams,
    /// Whether the priors are what an earlier process learned.
    taught: bool,
    intervals: u64,
    score: f64,
    exposure: f64,
    model_variance: f64,
    realised: f64,
    between: f64,
    between_model: f64,
    long_run: LongRun,
    /// Squared weights times requests of the two arms, for the absolute mode's model variance.
    canary_weight: f64,
    baseline_weight: f64,
    events: f64,
    trials: f64,
    canary_trials: f64,
    dispersion: f64,
    effect: Option<Effect>,
    /// Log evidence of being beyond the tolerance, as of the last interval: several ask for it.
    log_e: f64,
}

impl CountProcess {
    pub(crate) fn new(params: CountParams) -> Self {
        Self {
            params,
            taught: false,
            intervals: 0,
            score: 0.0,
            exposure: 0.0,
            model_variance: 0.0,
            realised: 0.0,
            between: 0.0,
            between_model: 0.0,
            long_run: LongRun::default(),
            canary_weight: 0.0,
            baseline_weight: 0.0,
            events: 0.0,
            trials: 0.0,
            canary_trials: 0.0,
            dispersion: 1.0,
            effect: None,
            log_e: 0.0,
        }
    }

    /// Changes the tolerance from now on; it may depend on nothing but the past.
    pub(super) fn retune(&mut self, params: CountParams) {
        let CountParams { tolerance, sign, arm_noise_sd, cold_sd, .. } = params;
        self.params = CountParams { tolerance, sign, arm_noise_sd, cold_sd, ..self.params };
        if !self.taught {
            self.params.luck_sd = params.luck_sd;
        }
    }

    /// The same question, asked anew with what this process has learned of the noise.
    pub(super) fn anew(&self, params: CountParams, instances: &Instances) -> Self {
        if study::is_followed() {
            return Self::new(params);
        }
        let luck_sd = self.instance_luck(instances).0.sqrt();
        let params = CountParams {
            luck_sd,
            dispersion: self.dispersion,
            dispersion_weight: TAUGHT_INTERVALS.min(self.intervals as f64).max(params.dispersion_weight),
            ..params
        };
        Self { taught: true, ..Self::new(params) }
    }

    pub(crate) fn effect(&self) -> Option<Effect> {
        self.effect
    }

    /// The estimate as it is and as it would be were the versions equal: the score is linear in the rates, so a
    /// tolerated ratio is not its logarithm.
    pub(crate) fn outlook(&self) -> Option<Outlook> {
        let effect = self.effect?;
        let c = self.canary_trials / self.trials;
        let equal = match self.params.tolerance {
            Tolerance::Ratio(rho) => {
                let pi = rho * c / (rho * c + 1.0 - c);
                (c - pi) / (pi * (1.0 - pi))
            }
            Tolerance::Difference(delta) => -delta / (self.events / self.trials).max(delta.abs()),
        };
        Some(Outlook { now: effect.m, equal: self.params.sign * equal, effect })
    }

    pub(crate) fn log_e(&self) -> f64 {
        self.log_e
    }

    fn measure_log_e(&self) -> f64 {
        let Some(e) = self.effect else { return 0.0 };
        let l = log_e(e.m, e.a2, EFFECTS, Some(e.wide));
        if self.intervals < INTERVALS_MIN { l.min(0.0) } else { l }
    }

    /// Log evidence of being beyond the tolerance from the start, a cold start considered.
    pub(crate) fn persistent(warm: &Self, whole: &Self, since: &Self) -> f64 {
        let estimate = |p: &Self| p.effect.map(|e| (e.m, e.s2));
        persistent(whole.log_e(), since.log_e(), estimate(warm), estimate(since), since.params.cold_sd)
    }

    /// What this process has learned, its priors left out, in units of log ratio.
    pub(super) fn learned(&self, instances: &Instances) -> Noise {
        let (tau2, nu) = self.instance_luck(instances);
        let (prior, weight) = (self.params.luck_sd.powi(2), self.params.luck_weight);
        let luck_weight = nu - weight;
        let luck_variance = if luck_weight > 0.0 { (tau2 * nu - prior * weight) / luck_weight } else { 0.0 };
        let t = self.intervals as f64;
        let slope = if self.exposure > 0.0 { self.score / self.exposure } else { 0.0 };
        let by_chance = self.dispersion_between().max(1.0) * self.model_variance;
        let slow = (self.long_run.variance(slope) - by_chance).max(0.0) / self.exposure.powi(2);
        let noise = Noise {
            luck_variance,
            luck_weight,
            arm_variance: slow * t / (2.0 * ARM_NOISE_INTERVALS),
            arm_weight: t / ARM_NOISE_INTERVALS,
            dispersion: self.dispersion,
            dispersion_weight: t.min(TAUGHT_INTERVALS),
        };
        if self.exposure > 0.0 && self.effect.is_some() { noise } else { Noise::default() }
    }

    fn dispersion_between(&self) -> f64 {
        if self.between_model > 0.0 { self.between / self.between_model } else { 1.0 }
    }

    /// One interval that has requests in both arms; the term is of this process's tolerance.
    pub(super) fn update(&mut self, sums: &Sums<'_>, term: &Term, instances: &Instances) {
        debug_assert!(term.is_of(self.params.tolerance, self.params.sign), "a term of another question");
        let [(nb, eb), (nc, ec)] = sums.of;
        self.intervals += 1;
        self.events += eb + ec;
        self.trials += nb + nc;
        self.canary_trials += nc;
        self.score += term.x;
        self.exposure += term.g;
        self.realised += term.realised;
        self.model_variance = self.measure_model_variance(term.model);
        self.between += sums.between.0;
        self.between_model += sums.between.1;
        self.long_run.push(term.x, term.g, &term.before);
        self.dispersion = self.measure_dispersion();
        self.effect = self.measure_effect(sums.per_instance, instances);
        self.log_e = self.measure_log_e();
    }

    fn measure_model_variance(&mut self, model: Model) -> f64 {
        match model {
            Model::Variance(of_interval) => self.model_variance + of_interval,
            Model::Weights { canary, baseline, delta } => {
                self.canary_weight += canary;
                self.baseline_weight += baseline;
                let floor = self.rate_floor();
                let b = ((self.events - delta * self.canary_trials) / self.trials).max(floor);
                let c = (b + delta).max(floor);
                self.canary_weight * c * (1.0 - c) + self.baseline_weight * b * (1.0 - b)
            }
        }
    }

    /// Smallest rate that is taken for one: half an event in all.
    fn rate_floor(&self) -> f64 {
        0.5 / self.trials
    }

    /// The larger of two dispersions, each shrunk to one; never below it.
    fn measure_dispersion(&self) -> f64 {
        let squares = self.long_run.exposure_squares();
        let informative = if squares > 0.0 { self.exposure * self.exposure / squares } else { 0.0 };
        let slope = if self.exposure > 0.0 {
            self.score / self.exposure * informative / (informative + CENTRING_INTERVALS)
        } else {
            0.0
        };
        let model = self.model_variance.max(1e-12);
        let prior = self.params.dispersion_weight / self.intervals as f64;
        let known = prior * self.params.dispersion;
        let over_time = (self.long_run.variance(slope) + known * model) / (model + prior * model);
        let between = if self.between_model > 0.0 {
            (self.between + known * self.between_model) / (self.between_model + prior * self.between_model)
        } else {
            1.0
        };
        over_time.max(between).max(1.0)
    }

    fn measure_effect(&self, per_instance: f64, instances: &Instances) -> Option<Effect> {
        let p = (self.events / self.trials).max(self.rate_floor());
        let (rho, unit) = match self.params.tolerance {
            Tolerance::Ratio(rho) => (rho, 1.0),
            Tolerance::Difference(delta) => (1.0, p.max(delta.abs())),
        };
        let luck_scale = match self.params.tolerance {
            Tolerance::Ratio(_) => 1.0,
            Tolerance::Difference(_) => (p / unit).powi(2),
        };
        let variance = self.realised / 3.0 + 2.0 / 3.0 * self.dispersion * self.model_variance;
        let g = self.exposure * unit;
        if !(g > 0.0 && variance > 0.0) {
            return None;
        }
        let share = rho * self.canary_trials / (rho * self.canary_trials + self.trials - self.canary_trials);
        let against = if self.params.sign > 0.0 { share } else { 1.0 - share };
        let s2 = variance / (g * g);
        let (tau2, nu) = self.instance_luck(instances);
        let luck = luck_scale * tau2 * per_instance;
        let arm_noise = luck_scale * self.arm_noise();
        Some(Effect {
            m: self.score / g,
            s2,
            luck,
            nu,
            arm_noise,
            intervals: self.intervals as f64,
            a2: welch(s2, luck, arm_noise, nu),
            wide: 0.5 / against,
        })
    }

    /// Variance of an instance's log rate and how many degrees of freedom it is known with. The instances of both
    /// arms teach it; the canary's no more than [`CANARY_SPREAD_MAX`] of what is known without them.
    fn instance_luck(&self, instances: &Instances) -> (f64, f64) {
        let known = (self.params.luck_sd.powi(2), self.params.luck_weight);
        let [baseline, canary] = instances.spreads();
        let (tau2, nu) = self.learn(known, baseline, f64::INFINITY);
        if study::is_followed() {
            return (tau2, nu);
        }
        self.learn((tau2, nu), canary, CANARY_SPREAD_MAX * tau2)
    }

    /// What the instances of an arm add: the spread of their rates beyond what sampling gives, worth as much as
    /// that part is of the whole, so that a handful of events teaches nothing.
    fn learn(&self, (tau2, nu): (f64, f64), seen: &Spread, spread_max: f64) -> (f64, f64) {
        let Spread { instances: k, variance, by_chance } = *seen;
        if k < INSTANCES_MIN || !variance.is_finite() {
            return (tau2, nu);
        }
        let sampling = self.dispersion * by_chance;
        let beyond = (variance - sampling).max(0.0).min(spread_max);
        let luck = beyond.max(self.params.luck_sd.powi(2));
        let known = if study::is_followed() { 1.0 } else { (luck / (luck + sampling)).powi(2) };
        let degrees = (k - 1.0) * known;
        let learned = (nu * tau2 + degrees * beyond) / (nu + degrees);
        // Counts at the end of what a number can hold teach nothing.
        if learned.is_finite() { (learned, nu + degrees) } else { (tau2, nu) }
    }

    fn arm_noise(&self) -> f64 {
        self.params.arm_noise_sd.powi(2) * arm_noise_share(self.intervals as f64)
    }
}
