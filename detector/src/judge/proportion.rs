//! A proportion: errors of requests, conversions of checkouts. Worse means beyond the relative *and* the absolute
//! margin; no worse means within either.

use crate::config::{Direction, Margin};
use crate::plan::{Arm, Metric};
use crate::verdict::MetricClass;

use super::Frame;
use super::counts::{CountParams, CountProcess, Counts, DISPERSION_PRIOR_INTERVALS, Tolerance};
use super::epochs::Epochs;
use super::evidence::{log_add, radius};
use super::forecast::{Forecast, forecast};
use super::long_run::LongRun;
use super::row::{Levels, Row};
use super::words;
use super::{CONFIDENCE_ALPHA, PASS_BOUNDARY};

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
    no_worse: Vec<(Tolerance, CountProcess)>,
}

/// Parameters of the processes that must all agree that the canary is worse.
#[derive(Debug, Clone)]
struct Tests(Vec<CountParams>);

/// Prior knowledge of how instances and arms differ by themselves, as standard deviations of log rates.
#[derive(Debug, Clone, Copy)]
struct Noise {
    luck_sd: f64,
    arm_noise_sd: f64,
}

const ERROR_NOISE: Noise = Noise { luck_sd: 0.05, arm_noise_sd: 0.10 };
const CONVERSION_NOISE: Noise = Noise { luck_sd: 0.02, arm_noise_sd: 0.03 };

impl Proportion {
    pub(crate) fn new(metric: &Metric) -> Self {
        let noise = if metric.class == MetricClass::Errors { ERROR_NOISE } else { CONVERSION_NOISE };
        let signs: &[f64] = match metric.direction {
            Direction::Increase => &[1.0],
            Direction::Decrease => &[-1.0],
            Direction::Either => &[1.0, -1.0],
        };
        let side = |sign: f64| {
            let params = |tolerance, sign| CountParams {
                tolerance,
                sign,
                luck_sd: noise.luck_sd,
                arm_noise_sd: noise.arm_noise_sd,
            };
            let worse = tolerances(metric.margins.worse, sign).into_iter().map(|t| params(t, sign));
            let no_worse = tolerances(metric.margins.no_worse, sign)
                .into_iter()
                .map(|t| (t, CountProcess::new(params(t, -sign))));
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

    /// Shown, not judged.
    pub(crate) fn observe(&mut self, arms: &[Arm], counts: &Counts) {
        self.totals.add(arms, counts);
    }

    /// Forgets what was shown so far: the judged time begins.
    pub(crate) fn begin(&mut self) {
        self.totals = Totals::default();
    }

    pub(crate) fn step(&mut self, arms: &[Arm], counts: &Counts) {
        self.totals.add(arms, counts);
        self.pool(arms.len(), counts);
        let paired = self.pool.of(arms, Arm::Canary).0 > 0.0 && self.pool.of(arms, Arm::Baseline).0 > 0.0;
        for side in &mut self.sides {
            let Side { tests, worse, no_worse } = side;
            worse.advance(
                || tests.0.iter().map(|p| CountProcess::new(*p)).collect(),
                |processes| {
                    if paired {
                        processes.iter_mut().for_each(|p| p.update(arms, &self.pool));
                    }
                },
            );
            if paired {
                no_worse.iter_mut().for_each(|(_, p)| p.update(arms, &self.pool));
            }
        }
        if paired || self.pooled >= POOL_INTERVALS_MAX {
            self.pool = Counts::default();
            self.pooled = 0;
        }
    }

    fn pool(&mut self, slots: usize, counts: &Counts) {
        self.pooled += 1;
        self.pool.trials.resize(slots, 0.0);
        self.pool.events.resize(slots, 0.0);
        self.pool.trials.iter_mut().zip(&counts.trials).for_each(|(p, n)| *p += n);
        self.pool.events.iter_mut().zip(&counts.events).for_each(|(p, x)| *p += x);
    }

    fn worse(&self) -> f64 {
        mean_log(self.sides.iter().map(|s| s.worse.log_mix(|all| all_agree(all))))
    }

    fn no_worse(&self) -> f64 {
        self.sides.iter().map(Side::no_worse_log_e).fold(f64::INFINITY, f64::min)
    }

    /// The first process in relative mode, whose variances are in units of log ratio.
    fn relative(&self) -> Option<&CountProcess> {
        self.sides.first()?.worse.first()?.first()
    }

    pub(crate) fn row(&self, frame: &Frame<'_>) -> Row {
        let t = &self.totals;
        let levels = t.levels(self.relative(), frame);
        let what = if self.class == MetricClass::Errors { "request" } else { "trial" };
        let text = format!(
            "{} {} against {} of the baseline ({} and {})",
            self.name.replace('_', " "),
            words::percent(levels.canary),
            words::percent(levels.baseline),
            words::count(levels.canary_n),
            words::counted(levels.baseline_n, what),
        );
        let needs = self.sides.iter().map(|s| s.forecast(levels.baseline));
        Row {
            name: self.name.clone(),
            share: 1.0,
            worse: self.worse(),
            no_worse: self.no_worse(),
            forecast: needs.fold(Forecast::Factor(1.0), Forecast::and),
            levels,
            text,
            worse_in: None,
            set_aside: None,
        }
    }
}

impl Side {
    fn no_worse_log_e(&self) -> f64 {
        mean_log(self.no_worse.iter().map(|(_, p)| p.log_e()))
    }

    fn forecast(&self, baseline: f64) -> Forecast {
        let boundary = PASS_BOUNDARY + (self.no_worse.len() as f64).ln();
        let ways = self.no_worse.iter().map(|(tolerance, p)| {
            let Some(effect) = p.effect() else { return Forecast::Unknown };
            let inside = match tolerance {
                Tolerance::Ratio(r) => r.ln().abs(),
                Tolerance::Difference(d) => d.abs() / baseline.max(d.abs()),
            };
            forecast(inside, &effect, boundary)
        });
        ways.fold(Forecast::Never, Forecast::or)
    }
}

/// Relative first, absolute where there is an absolute floor.
fn tolerances(margin: Margin, sign: f64) -> Vec<Tolerance> {
    let ratio = Tolerance::Ratio((1.0 + sign * margin.relative).max(RATIO_MIN));
    let difference = (margin.absolute > 0.0).then_some(Tolerance::Difference(sign * margin.absolute));
    std::iter::once(ratio).chain(difference).collect()
}

fn all_agree(processes: &[CountProcess]) -> f64 {
    processes.iter().map(CountProcess::log_e).fold(f64::INFINITY, f64::min)
}

fn mean_log(logs: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = logs.len() as f64;
    logs.fold(f64::NEG_INFINITY, log_add) - n.ln()
}

/// What is shown: sums of the arms, and the ratio of their rates stratified by interval (Mantel and Haenszel).
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    canary: Share,
    baseline: Share,
    canary_paired: f64,
    baseline_paired: f64,
}

/// One arm's events, and how they scatter over time about their own rate. Unlike the test's dispersion it does not
/// mistake a gross difference between the arms for noise.
#[derive(Debug, Clone, Default)]
struct Share {
    trials: f64,
    events: f64,
    intervals: f64,
    over_time: LongRun,
}

impl Share {
    fn add(&mut self, (trials, events): (f64, f64)) {
        if trials > 0.0 {
            self.trials += trials;
            self.events += events;
            self.intervals += 1.0;
            self.over_time.push(events, trials);
        }
    }

    fn rate(&self) -> f64 {
        self.events / self.trials
    }

    /// How many times a binomial's variance its events show.
    fn dispersion(&self) -> f64 {
        let p = self.rate();
        let model = self.trials * p * (1.0 - p);
        let prior = DISPERSION_PRIOR_INTERVALS / self.intervals.max(1.0);
        if model > 0.0 {
            ((self.over_time.variance(p) / model + prior) / (1.0 + prior)).max(1.0)
        } else {
            1.0
        }
    }

    /// Variance of the log rate, by sampling and dispersion. One event more keeps it finite without any.
    fn log_variance(&self) -> f64 {
        self.dispersion() / (self.events + 1.0)
    }
}

impl Totals {
    pub(crate) fn add(&mut self, arms: &[Arm], counts: &Counts) {
        let ((nc, xc), (nb, xb)) = (counts.of(arms, Arm::Canary), counts.of(arms, Arm::Baseline));
        self.canary.add((nc, xc));
        self.baseline.add((nb, xb));
        let n = nc + nb;
        if n > 0.0 {
            self.canary_paired += xc * nb / n;
            self.baseline_paired += xb * nc / n;
        }
    }

    /// Log of the rate ratio; half an event stands in where an arm has none. `None` without events.
    pub(crate) fn log_ratio(&self) -> Option<f64> {
        let (c, b) = (&self.canary, &self.baseline);
        if c.events + b.events == 0.0 || c.trials == 0.0 || b.trials == 0.0 {
            return None;
        }
        if self.canary_paired == 0.0 || self.baseline_paired == 0.0 {
            return Some(((c.events + 0.5) / c.trials / ((b.events + 0.5) / b.trials)).ln());
        }
        Some((self.canary_paired / self.baseline_paired).ln())
    }

    /// Variance of [`Self::log_ratio`], luck included.
    pub(crate) fn variance(&self, process: Option<&CountProcess>) -> f64 {
        let luck = process.and_then(CountProcess::effect).map_or(0.0, |e| e.w2);
        self.canary.log_variance() + self.baseline.log_variance() + luck
    }

    fn levels(&self, process: Option<&CountProcess>, frame: &Frame<'_>) -> Levels {
        let shown = Levels {
            baseline: self.baseline.rate(),
            canary: self.canary.rate(),
            baseline_n: self.baseline.trials,
            canary_n: self.canary.trials,
            ..Levels::NONE
        };
        match self.log_ratio() {
            Some(l) if frame.judged => {
                let (lower, upper) = self.bounds(l, process);
                Levels { estimate: l.exp_m1(), lower, upper, ..shown }
            }
            Some(l) => Levels { estimate: l.exp_m1(), ..shown },
            None => shown,
        }
    }

    /// Bounds of the relative difference: Wilson's score interval for the canary's share of the events, as wide as
    /// looking all the time asks for, and widened by instance luck. It holds at zero events, where a normal
    /// interval about the log ratio says nothing: without events in the baseline there is no upper bound.
    fn bounds(&self, log_ratio: f64, process: Option<&CountProcess>) -> (f64, f64) {
        let (nc, xc) = (self.canary.trials, self.canary.events);
        let (nb, xb) = (self.baseline.trials, self.baseline.events);
        let events = xc + xb;
        // Instance luck counts as further dispersion: the variance of the log ratio is about four over the events.
        let luck = process.and_then(CountProcess::effect).map_or(0.0, |e| e.w2);
        let dispersion = self.canary.dispersion().max(self.baseline.dispersion()) + luck * events / 4.0;
        // Standard errors of the interval at this much information, were the events shared equally.
        let even = 4.0 * dispersion / events;
        let z = radius(even, CONFIDENCE_ALPHA) / even.sqrt();
        let spread = z * z * dispersion;
        let middle = xc + spread / 2.0;
        let half = (spread * (xc * xb / events + spread / 4.0)).sqrt();
        let share = |v: f64| (v / (events + spread)).clamp(0.0, 1.0);
        // Pairing by interval moves the estimate away from the plain ratio, and the bounds with it.
        let paired = if xc > 0.0 && xb > 0.0 { log_ratio.exp() / ((xc / nc) / (xb / nb)) } else { 1.0 };
        let ratio = |p: f64| p / (1.0 - p) * nb / nc * paired;
        (ratio(share(middle - half)) - 1.0, ratio(share(middle + half)) - 1.0)
    }
}

#[cfg(test)]
mod bounds_tests {
    use super::*;

    fn bounds(canary: (f64, f64), baseline: (f64, f64)) -> (f64, f64) {
        let arms = [Arm::Baseline, Arm::Canary];
        let mut totals = Totals::default();
        totals.add(&arms, &Counts { trials: vec![baseline.0, canary.0], events: vec![baseline.1, canary.1] });
        totals.bounds(totals.log_ratio().expect("there are events"), None)
    }

    #[test]
    fn bounds_hold_where_an_arm_has_no_events() {
        let (lower, upper) = bounds((2_000.0, 54.0), (2_000.0, 0.0));
        assert!(lower > 1.0, "54 against none is certainly more than double: {lower}");
        assert_eq!(upper, f64::INFINITY);
        let (lower, upper) = bounds((2_000.0, 0.0), (2_000.0, 54.0));
        assert_eq!(lower, -1.0);
        assert!(upper < -0.5, "{upper}");
    }

    #[test]
    fn many_events_give_a_narrow_interval_about_the_ratio() {
        let (lower, upper) = bounds((1e6, 50_000.0), (1e6, 10_000.0));
        assert!(lower > 3.7 && upper < 4.4, "five times as many: {lower} to {upper}");
        let (lower, upper) = bounds((5e4, 500.0), (95e4, 9_500.0));
        assert!(lower < 0.0 && upper > 0.0 && upper < 0.3, "equal at 5/95: {lower} to {upper}");
    }

    #[test]
    fn one_event_says_next_to_nothing() {
        let (lower, upper) = bounds((100.0, 1.0), (100.0, 0.0));
        assert!(lower < -0.8 && upper == f64::INFINITY, "{lower} to {upper}");
    }
}
