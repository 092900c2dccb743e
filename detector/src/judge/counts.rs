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
use crate::plan::Arm;

use super::cold::persistent;
use super::evidence::{EFFECTS, log_e, t_inflation};
use super::forecast::Outlook;
use super::long_run::LongRun;
use super::study;

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
    counts: &'a Counts,
    pub(crate) of: OfArms,
    /// How the baseline's instances scatter about their common rate, and how they would by chance.
    between: (f64, f64),
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
        Sums { counts: self, of, between }
    }
}

impl Sums<'_> {
    /// Whether both arms had requests.
    pub(crate) fn paired(&self) -> bool {
        self.of.iter().all(|(trials, _)| *trials > 0.0)
    }
}

/// The state that evidence is made of: an estimate and its two variances, in units of log ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Effect {
    /// Beyond the tolerance.
    pub(crate) m: f64,
    /// Of sampling.
    pub(crate) s2: f64,
    /// Of instance luck and arm noise, as large as it is when sampling has faded.
    pub(crate) w2: f64,
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
    /// Cumulative trials and events of each slot.
    instances: Vec<(f64, f64)>,
    /// Their rates.
    rates: Vec<f64>,
    dispersion: f64,
    effect: Option<Effect>,
    /// Log evidence of being beyond the tolerance, as of the last interval: several ask for it.
    log_e: f64,
}

/// Instances of an arm that were seen, their counts, and the squared deviations of their rates in units of the arm's.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    instances: f64,
    trials: f64,
    events: f64,
    squares: f64,
}

/// What one interval says, given how the tolerance weighs the arms.
struct Term {
    /// Weight of the baseline's events; the canary's is one less this.
    pi: f64,
    rho: f64,
    x: f64,
    g: f64,
    /// Rates of the arms were the canary exactly at the tolerance.
    canary_rate: f64,
    baseline_rate: f64,
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
            instances: Vec::new(),
            rates: Vec::new(),
            dispersion: 1.0,
            effect: None,
            log_e: 0.0,
        }
    }

    /// Changes the tolerance from now on; it may depend on nothing but the past.
    pub(crate) fn retune(&mut self, params: CountParams) {
        let CountParams { tolerance, sign, arm_noise_sd, cold_sd, .. } = params;
        self.params = CountParams { tolerance, sign, arm_noise_sd, cold_sd, ..self.params };
        if !self.taught {
            self.params.luck_sd = params.luck_sd;
        }
    }

    /// The same question, asked anew with what this process has learned of the noise.
    pub(crate) fn anew(&self, params: CountParams, arms: &[Arm]) -> Self {
        if study::is_followed() {
            return Self::new(params);
        }
        let luck_sd = self.instance_luck(arms).0.sqrt();
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
    pub(crate) fn learned(&self, arms: &[Arm]) -> Noise {
        let (tau2, nu) = self.instance_luck(arms);
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

    /// Cumulative trials and events of the slots.
    pub(crate) fn instances(&self) -> &[(f64, f64)] {
        &self.instances
    }

    /// One interval. Without requests in one of the arms it is no evidence either way.
    pub(crate) fn update(&mut self, arms: &[Arm], sums: &Sums<'_>) {
        self.count_instances(arms, sums.counts);
        if !sums.paired() {
            return;
        }
        let [(nb, eb), (nc, ec)] = sums.of;
        self.intervals += 1;
        self.events += eb + ec;
        self.trials += nb + nc;
        self.canary_trials += nc;
        let term = match self.params.tolerance {
            Tolerance::Ratio(rho) => self.relative(rho, (nc, ec), (nb, eb)),
            Tolerance::Difference(delta) => self.absolute(delta, (nc, ec), (nb, eb)),
        };
        self.score += term.x;
        self.exposure += term.g;
        self.realised += realised(&term, arms, sums.counts, nc, nb);
        self.between += sums.between.0;
        self.between_model += sums.between.1;
        self.long_run.push(term.x, term.g);
        self.dispersion = self.measure_dispersion();
        self.effect = self.measure_effect(arms);
        self.log_e = self.measure_log_e();
    }

    fn count_instances(&mut self, arms: &[Arm], counts: &Counts) {
        self.instances.resize(arms.len().max(self.instances.len()), (0.0, 0.0));
        self.rates.resize(self.instances.len(), 0.0);
        let new = counts.trials.iter().zip(&counts.events);
        for ((sums, rate), (n, x)) in self.instances.iter_mut().zip(&mut self.rates).zip(new) {
            if *n > 0.0 {
                sums.0 += n;
                sums.1 += x;
                *rate = sums.1 / sums.0;
            }
        }
    }

    /// Smallest rate that is taken for one: half an event in all.
    fn rate_floor(&self) -> f64 {
        0.5 / self.trials
    }

    fn relative(&mut self, rho: f64, (nc, ec): (f64, f64), (nb, eb): (f64, f64)) -> Term {
        let (n, k) = (nb + nc, eb + ec);
        let pi = rho * nc / (rho * nc + nb);
        // The mean of the score per unit of log ratio is g; its variance has the finite-population factor.
        let g = pi * (1.0 - pi) * k;
        self.model_variance += g * (1.0 - k / n);
        let baseline_rate = k / (rho * nc + nb);
        let x = self.params.sign * (ec - pi * k);
        Term { pi, rho, x, g, canary_rate: rho * baseline_rate, baseline_rate }
    }

    fn absolute(&mut self, delta: f64, (nc, ec): (f64, f64), (nb, eb): (f64, f64)) -> Term {
        let n = nb + nc;
        let pi = nc / n;
        let g = nc * nb / n;
        self.canary_weight += (1.0 - pi) * (1.0 - pi) * nc;
        self.baseline_weight += pi * pi * nb;
        let floor = self.rate_floor();
        let b = ((self.events - delta * self.canary_trials) / self.trials).max(floor);
        let c = (b + delta).max(floor);
        self.model_variance = self.canary_weight * c * (1.0 - c) + self.baseline_weight * b * (1.0 - b);
        let baseline_rate = ((eb + ec - delta * nc) / n).max(0.0);
        let x = self.params.sign * ((1.0 - pi) * ec - pi * eb - delta * g);
        Term { pi, rho: 1.0, x, g, canary_rate: (baseline_rate + delta).max(0.0), baseline_rate }
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

    fn measure_effect(&self, arms: &[Arm]) -> Option<Effect> {
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
        let (tau2, nu) = self.instance_luck(arms);
        let luck = luck_scale * tau2 * per_instance(arms);
        let arm_noise = luck_scale * self.arm_noise();
        Some(Effect {
            m: self.score / g,
            s2,
            w2: luck * t_inflation(nu) + arm_noise,
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
    fn instance_luck(&self, arms: &[Arm]) -> (f64, f64) {
        let known = (self.params.luck_sd.powi(2), self.params.luck_weight);
        let [baseline, canary] = self.spreads(arms);
        let (tau2, nu) = self.learn(known, &baseline, f64::INFINITY);
        if study::is_followed() {
            return (tau2, nu);
        }
        self.learn((tau2, nu), &canary, CANARY_SPREAD_MAX * tau2)
    }

    /// How the rates of each arm's instances scatter about their own.
    fn spreads(&self, arms: &[Arm]) -> [Spread; 2] {
        let mut of = [Spread::default(), Spread::default()];
        for (arm, (n, x)) in arms.iter().zip(&self.instances) {
            if *n > 0.0 {
                let s = &mut of[*arm as usize];
                s.instances += 1.0;
                s.trials += n;
                s.events += x;
            }
        }
        let per_rate = of.each_ref().map(|s| s.trials / s.events);
        for ((arm, (n, _)), rate) in arms.iter().zip(&self.instances).zip(&self.rates) {
            if *n > 0.0 {
                of[*arm as usize].squares += (rate * per_rate[*arm as usize] - 1.0).powi(2);
            }
        }
        of
    }

    /// What the instances of an arm add: the spread of their rates beyond what sampling gives, worth as much as
    /// that part is of the whole, so that a handful of events teaches nothing.
    fn learn(&self, (tau2, nu): (f64, f64), seen: &Spread, spread_max: f64) -> (f64, f64) {
        let Spread { instances: k, trials, events, squares } = *seen;
        if k < INSTANCES_MIN || events <= 0.0 {
            return (tau2, nu);
        }
        let success = if study::is_followed() { 1.0 } else { 1.0 - events / trials };
        let sampling = self.dispersion * success * k / events;
        let beyond = (squares / (k - 1.0) - sampling).max(0.0).min(spread_max);
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

/// `1/m_C + 1/m_B`.
pub(crate) fn per_instance(arms: &[Arm]) -> f64 {
    let canary = arms.iter().filter(|a| **a == Arm::Canary).count();
    1.0 / canary.max(1) as f64 + 1.0 / (arms.len() - canary).max(1) as f64
}

/// Quadratic variation by instance. Each residual loses its share of the one degree of freedom that the pooled
/// rate took, so the sum is scaled back up.
fn realised(term: &Term, arms: &[Arm], counts: &Counts, nc: f64, nb: f64) -> f64 {
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
