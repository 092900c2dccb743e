//! A proportion: errors of requests, conversions of checkouts. Worse means beyond the relative *and* the absolute
//! margin; no worse means within either.

use crate::calibration;
use crate::config::{Direction, Margin};
use crate::plan::{Arm, Metric};
use crate::verdict::MetricClass;

use super::Frame;
use super::PASS_BOUNDARY;
use super::cohort::{Cohort, ask};
use super::counts::{
    ARM_PRIOR_SPELLS, CountParams, CountProcess, DISPERSION_PRIOR_INTERVALS, LUCK_PRIOR_INSTANCES, Tolerance,
};
use super::epochs::Epochs;
use super::evidence::log_add;
use super::forecast::{Forecast, forecast};
use super::gross;
use super::row::Row;
use super::term::{Counts, Question, Sums, Term};
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
    worse: Epochs<Cohort>,
    /// The mirrored processes with the margin at which "no worse" is shown: of the same time as the first copy.
    no_worse: Vec<CountProcess>,
}

/// Parameters of the processes that must all agree that the canary is worse, and of those that show it no worse.
#[derive(Debug, Clone)]
struct Tests {
    worse: Asked,
    no_worse: Asked,
}

#[derive(Debug, Clone)]
struct Asked {
    params: Vec<CountParams>,
    questions: Vec<Question>,
}

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
            let asked = |margin, of: f64| Asked::of(tolerances(margin, sign), |t| params(t, of));
            let tests = Tests {
                worse: asked(metric.margins.worse, sign),
                no_worse: asked(metric.margins.no_worse, -sign),
            };
            let no_worse = tests.no_worse.params.iter().map(|p| CountProcess::new(*p)).collect();
            Side { tests, worse: Epochs::new(), no_worse }
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
            let terms = tests.worse.ask(arms, &sums);
            let params = &tests.worse.params;
            worse.warm_up(|| Cohort::new(params), |all| update(all, arms, &sums, &terms));
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
        for Side { tests, worse, no_worse } in &mut self.sides {
            let terms = tests.worse.ask(arms, &sums);
            let params = &tests.worse.params;
            worse.advance(
                |first: Option<&Cohort>| first.map_or_else(|| Cohort::new(params), |f| f.anew(params)),
                |all| update(all, arms, &sums, &terms),
            );
            let Some(instances) = worse.first().map(Cohort::instances) else { continue };
            let terms = tests.no_worse.ask(arms, &sums);
            no_worse.iter_mut().zip(&terms).for_each(|(p, term)| p.update(&sums, term, instances));
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
        mean_log(self.sides.iter().map(|s| s.worse.log_mix(Cohort::log_e, Cohort::persistent)))
    }

    /// Evidence in the warm-up, which only errors that no cold start explains give.
    fn gross(&self, arms: &[Arm]) -> f64 {
        match (self.class, self.sides.first().and_then(|s| s.worse.whole())) {
            (MetricClass::Errors, Some(all)) => {
                gross::log_e_of(arms, all.instances().slots(), self.totals.dispersion())
            }
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
    pub(crate) fn learned(&self) -> calibration::Noise {
        self.sides.first().and_then(|s| s.worse.whole()).map_or_else(Default::default, Cohort::learned)
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

impl Asked {
    fn of(tolerances: Vec<Tolerance>, params: impl Fn(Tolerance) -> CountParams) -> Self {
        let params: Vec<_> = tolerances.into_iter().map(params).collect();
        Self { questions: vec![Question::default(); params.len()], params }
    }

    fn ask(&mut self, arms: &[Arm], sums: &Sums<'_>) -> Vec<Term> {
        ask(&mut self.questions, arms, sums, &self.params)
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
fn update(all: &mut Cohort, arms: &[Arm], sums: &Sums<'_>, terms: &[Term]) {
    if sums.paired() {
        all.update(arms, sums, terms);
    }
}

fn mean_log(logs: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = logs.len() as f64;
    logs.fold(f64::NEG_INFINITY, log_add) - n.ln()
}
