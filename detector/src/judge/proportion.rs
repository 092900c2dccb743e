//! A proportion: errors of requests, conversions of checkouts. Worse means beyond the relative *and* the absolute
//! margin; no worse means within either.

use crate::calibration;
use crate::config::{Direction, Margin};
use crate::plan::{Arm, Metric};
use crate::verdict::MetricClass;

use super::Frame;
use super::PASS_BOUNDARY;
use super::counts::{
    ARM_PRIOR_SPELLS, CountParams, CountProcess, Counts, DISPERSION_PRIOR_INTERVALS, LUCK_PRIOR_INSTANCES,
    Sums, Tolerance,
};
use super::epochs::{Epochs, Started};
use super::evidence::log_add;
use super::forecast::{Forecast, forecast};
use super::gross;
use super::row::Row;
use super::totals::Totals;
use super::words;

/// Intervals without requests in one arm are pooled with their successors, so that sparse traffic pairs as well;
/// a pool older than this no longer compares like with like and is dropped.
const POOL_INTERVALS_MAX: u32 = 20;
/// A margin of a fall by everything would tolerate everything.
const RATIO_MIN: f64 = 0.01;

#[derive(Debug, Clone)]
pub(crate) struct Proportion {
    name: String,
    class: MetricClass,
    /// One for each direction that is worse.
    sides: Vec<Side>,
    pool: Counts,
    pooled: u32,
    totals: Totals,
}

#[derive(Debug, Clone)]
struct Side {
    tests: Tests,
    worse: Epochs<Vec<CountProcess>>,
    /// The mirrored processes with the margin at which "no worse" is shown.
    no_worse: Vec<CountProcess>,
}

/// Parameters of the processes that must all agree that the canary is worse.
#[derive(Debug, Clone)]
struct Tests(Vec<CountParams>);

/// Prior knowledge of how instances and arms differ by themselves, as standard deviations of log rates.
#[derive(Debug, Clone, Copy)]
struct Noise {
    luck_sd: f64,
    arm_noise_sd: f64,
    /// Cold canaries fail some three times as often, and lose a conversion here and there.
    cold_sd: f64,
}

const ERROR_NOISE: Noise = Noise { luck_sd: 0.05, arm_noise_sd: 0.10, cold_sd: 1.1 };
const CONVERSION_NOISE: Noise = Noise { luck_sd: 0.02, arm_noise_sd: 0.03, cold_sd: 0.1 };

impl Proportion {
    pub(crate) fn new(metric: &Metric, known: &calibration::Noise) -> Self {
        let noise = if metric.class == MetricClass::Errors { ERROR_NOISE } else { CONVERSION_NOISE };
        let signs: &[f64] = match metric.direction {
            Direction::Increase => &[1.0],
            Direction::Decrease => &[-1.0],
            Direction::Either => &[1.0, -1.0],
        };
        let (luck, luck_weight) = known.luck((noise.luck_sd.powi(2), LUCK_PRIOR_INSTANCES));
        let (arm, _) = known.arm((noise.arm_noise_sd.powi(2), ARM_PRIOR_SPELLS));
        let (dispersion, dispersion_weight) = known.dispersion((1.0, DISPERSION_PRIOR_INTERVALS));
        let side = |sign: f64| {
            let params = |tolerance, sign| CountParams {
                tolerance,
                sign,
                luck_sd: luck.sqrt(),
                luck_weight,
                arm_noise_sd: arm.sqrt(),
                cold_sd: noise.cold_sd,
                dispersion,
                dispersion_weight,
            };
            let worse = tolerances(metric.margins.worse, sign).into_iter().map(|t| params(t, sign));
            let no_worse = tolerances(metric.margins.no_worse, sign)
                .into_iter()
                .map(|t| CountProcess::new(params(t, -sign)));
            Side { tests: Tests(worse.collect()), worse: Epochs::new(), no_worse: no_worse.collect() }
        };
        Self {
            name: metric.name.clone(),
            class: metric.class,
            sides: signs.iter().map(|s| side(*s)).collect(),
            pool: Counts::default(),
            pooled: 0,
            totals: Totals::default(),
        }
    }

    /// An interval of the warm-up: shown, and kept for what comes after it.
    pub(crate) fn observe(&mut self, arms: &[Arm], counts: &Counts) {
        self.totals.add(counts.of_arms(arms));
        self.pool(arms.len(), counts);
        let sums = self.pool.sums(arms);
        for Side { tests, worse, .. } in &mut self.sides {
            worse.warm_up(
                || tests.0.iter().map(|p| CountProcess::new(*p)).collect(),
                |all| update(all, arms, &sums),
            );
        }
        let paired = sums.paired();
        self.empty_pool(paired);
    }

    fn empty_pool(&mut self, paired: bool) {
        if paired || self.pooled >= POOL_INTERVALS_MAX {
            self.pool = Counts::default();
            self.pooled = 0;
        }
    }

    /// Forgets what was shown so far: the judged time begins.
    pub(crate) fn begin(&mut self) {
        self.totals = Totals::default();
    }

    pub(crate) fn step(&mut self, arms: &[Arm], counts: &Counts) {
        self.totals.add(counts.of_arms(arms));
        self.pool(arms.len(), counts);
        let sums = self.pool.sums(arms);
        for side in &mut self.sides {
            let Side { tests, worse, no_worse } = side;
            worse.advance(
                |first: Option<&Vec<CountProcess>>| match first {
                    None => tests.0.iter().map(|p| CountProcess::new(*p)).collect(),
                    Some(all) => all.iter().zip(&tests.0).map(|(f, p)| f.anew(*p, arms)).collect(),
                },
                |all| update(all, arms, &sums),
            );
            update(no_worse, arms, &sums);
        }
        let paired = sums.paired();
        self.empty_pool(paired);
    }

    fn pool(&mut self, slots: usize, counts: &Counts) {
        self.pooled += 1;
        self.pool.trials.resize(slots, 0.0);
        self.pool.events.resize(slots, 0.0);
        self.pool.trials.iter_mut().zip(&counts.trials).for_each(|(p, n)| *p += n);
        self.pool.events.iter_mut().zip(&counts.events).for_each(|(p, x)| *p += x);
    }

    fn worse(&self, frame: &Frame<'_>) -> f64 {
        if !frame.judged {
            return self.gross(frame.arms);
        }
        let persistent = |s: &Started<'_, Vec<CountProcess>>| {
            let all = s.warm.iter().zip(&s.whole[..]).zip(&s.since[..]);
            all.map(|((w, a), p)| CountProcess::persistent(w, a, p)).fold(f64::INFINITY, f64::min)
        };
        mean_log(self.sides.iter().map(|s| s.worse.log_mix(|all| all_agree(all), persistent)))
    }

    /// Evidence in the warm-up, which only errors that no cold start explains give.
    fn gross(&self, arms: &[Arm]) -> f64 {
        match (self.class, self.sides.first().and_then(|s| s.worse.whole()?.first())) {
            (MetricClass::Errors, Some(p)) => gross::log_e_of(arms, p.instances(), self.totals.dispersion()),
            _ => 0.0,
        }
    }

    fn no_worse(&self) -> f64 {
        self.sides.iter().map(Side::no_worse_log_e).fold(f64::INFINITY, f64::min)
    }

    /// The first process in relative mode, whose variances are in units of log ratio.
    fn relative(&self) -> Option<&CountProcess> {
        self.sides.first()?.worse.first()?.first()
    }

    /// What this release taught.
    pub(crate) fn learned(&self, arms: &[Arm]) -> calibration::Noise {
        let process = self.sides.first().and_then(|s| s.worse.whole()?.first());
        process.map_or_else(Default::default, |p| p.learned(arms))
    }

    pub(crate) fn row(&self, frame: &Frame<'_>) -> Row<'_> {
        let t = &self.totals;
        let levels = t.levels(self.relative(), frame);
        let what = if self.class == MetricClass::Errors { "request" } else { "trial" };
        let text = words::compared(&self.name, &levels, words::put_percent, what, "");
        let needs = self.sides.iter().map(Side::forecast);
        Row {
            name: &self.name,
            share: 1.0,
            worse: self.worse(frame),
            no_worse: self.no_worse(),
            forecast: needs.fold(Forecast::Factor(1.0), Forecast::and),
            levels,
            text,
            worse_in: None,
            set_aside: None,
            anew: false,
        }
    }
}

impl Side {
    fn no_worse_log_e(&self) -> f64 {
        mean_log(self.no_worse.iter().map(CountProcess::log_e))
    }

    fn forecast(&self) -> Forecast {
        if self.no_worse_log_e() >= PASS_BOUNDARY {
            return Forecast::Factor(1.0);
        }
        let ways: Vec<_> = self.no_worse.iter().map(CountProcess::outlook).collect();
        forecast(&ways, PASS_BOUNDARY)
    }
}

/// Relative first, absolute where there is an absolute floor.
fn tolerances(margin: Margin, sign: f64) -> Vec<Tolerance> {
    let ratio = Tolerance::Ratio((1.0 + sign * margin.relative).max(RATIO_MIN));
    let difference = (margin.absolute > 0.0).then_some(Tolerance::Difference(sign * margin.absolute));
    std::iter::once(ratio).chain(difference).collect()
}

/// What is still pooled is not counted yet.
fn update(all: &mut [CountProcess], arms: &[Arm], sums: &Sums<'_>) {
    if sums.paired() {
        all.iter_mut().for_each(|p| p.update(arms, sums));
    }
}

fn all_agree(processes: &[CountProcess]) -> f64 {
    processes.iter().map(CountProcess::log_e).fold(f64::INFINITY, f64::min)
}

fn mean_log(logs: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = logs.len() as f64;
    logs.fold(f64::NEG_INFINITY, log_add) - n.ln()
}
