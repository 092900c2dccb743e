//! A gauge that the file names: a queue's lag, a cache's hit rate. Any sign, zero included.
//!
//! The difference of the arms' means in each interval, in units of the baseline's level; its variance over time is
//! the Bartlett long-run variance, with a prior while few intervals have been seen, and instance luck on top.

use crate::config::{Direction, Margin};
use crate::plan::{Arm, Margins, Metric};

use super::clusters::Clusters;
use super::counts::Effect;
use super::counts::LUCK_PRIOR_INSTANCES;
use super::epochs::Epochs;
use super::evidence::{EFFECTS, log_add, log_e, radius, t_inflation};
use super::forecast::{Forecast, Outlook, forecast};
use super::long_run::LoneRun;
use super::row::{Levels, Row};
use super::{CONFIDENCE_ALPHA, Frame, PASS_BOUNDARY, words};

/// Prior standard deviation between equal instances, and between intervals, as a share of the level.
const LUCK_SD: f64 = 0.05;
const NOISE_SD: f64 = 0.10;
const NOISE_PRIOR_INTERVALS: f64 = 8.0;
const INTERVALS_MIN: f64 = 8.0;
/// A queue's lag or a count may well be ten times what it was; without a wide effect in the mixture a gauge that
/// jumps up and down by as much would be looked at for hours.
const MANIFOLD: f64 = 10.0;
/// Degrees of freedom at which Student's tail is the normal's.
const NU_MANY: f64 = 1e9;
/// Intervals for a degree of freedom of the long-run variance.
const DEGREE_INTERVALS: f64 = 4.0;

#[derive(Debug, Clone)]
pub(crate) struct Gauge {
    name: String,
    signs: &'static [f64],
    margins: Margins,
    worse: Epochs<Paired>,
    shown: Paired,
}

#[derive(Debug, Clone, Default)]
struct Paired {
    intervals: f64,
    canary: f64,
    baseline: f64,
    differences: LoneRun,
    /// Sum and number of the values of each slot.
    slots: Vec<(f64, f64)>,
}

impl Gauge {
    pub(crate) fn new(metric: &Metric) -> Self {
        let signs: &[f64] = match metric.direction {
            Direction::Increase => &[1.0],
            Direction::Decrease => &[-1.0],
            Direction::Either => &[1.0, -1.0],
        };
        Self {
            name: metric.name.clone(),
            signs,
            margins: metric.margins,
            worse: Epochs::new(),
            shown: Paired::default(),
        }
    }

    pub(crate) fn observe(&mut self, arms: &[Arm], values: &[Option<f64>]) {
        self.shown.update(arms, values);
    }

    pub(crate) fn begin(&mut self) {
        self.shown = Paired::default();
    }

    pub(crate) fn step(&mut self, arms: &[Arm], values: &[Option<f64>]) {
        self.shown.update(arms, values);
        self.worse.advance(|_| Paired::default(), |p| p.update(arms, values));
    }

    pub(crate) fn row(&self, frame: &Frame<'_>) -> Row<'_> {
        let arms = frame.arms;
        let sides = self.signs.len() as f64;
        let log_e = |p: &Paired| {
            let logs = self.signs.iter().map(|s| p.log_e(arms, *s, self.margins.worse, 1.0));
            logs.fold(f64::NEG_INFINITY, log_add) - sides.ln()
        };
        let worse = self.worse.log_mix(log_e, |s| log_e(s.since));
        let first = self.worse.first();
        let no_worse = first.map_or(0.0, |p| {
            let logs = self.signs.iter().map(|s| p.log_e(arms, *s, self.margins.no_worse, -1.0));
            logs.fold(f64::INFINITY, f64::min)
        });
        let (baseline, canary) = self.shown.means();
        let text = format!(
            "{} {} against {} of the baseline",
            self.name.replace('_', " "),
            words::number(canary),
            words::number(baseline)
        );
        Row {
            name: &self.name,
            share: 1.0,
            worse,
            no_worse,
            forecast: first
                .map_or(Forecast::Unknown, |p| p.forecast(arms, self.signs, self.margins.no_worse)),
            levels: self.levels(frame, baseline, canary),
            text,
            worse_in: None,
            set_aside: None,
            anew: false,
        }
    }

    fn levels(&self, frame: &Frame<'_>, baseline: f64, canary: f64) -> Levels {
        let (baseline_n, canary_n) = self.shown.observations(frame.arms);
        let estimate = (canary - baseline) / baseline.abs();
        let levels = Levels { baseline, canary, estimate, baseline_n, canary_n, ..Levels::NONE };
        match self.shown.variances(frame.arms, self.margins.worse) {
            Some((scale, s2, w2)) if frame.judged && baseline != 0.0 => {
                let r = radius(s2 + w2, CONFIDENCE_ALPHA) * scale / baseline.abs();
                Levels { lower: estimate - r, upper: estimate + r, ..levels }
            }
            _ => levels,
        }
    }
}

impl Paired {
    fn update(&mut self, arms: &[Arm], values: &[Option<f64>]) {
        self.slots.resize(arms.len(), (0.0, 0.0));
        for (slot, v) in self.slots.iter_mut().zip(values) {
            if let Some(v) = v {
                *slot = (slot.0 + v, slot.1 + 1.0);
            }
        }
        let c = Clusters::of(arms, |i| *values.get(i)?);
        if c.both() {
            self.intervals += 1.0;
            self.canary += c.canary;
            self.baseline += c.baseline;
            self.differences.push(c.difference(), 1.0);
        }
    }

    fn means(&self) -> (f64, f64) {
        (self.baseline / self.intervals, self.canary / self.intervals)
    }

    fn observations(&self, arms: &[Arm]) -> (f64, f64) {
        let of =
            |arm| arms.iter().zip(&self.slots).filter(|(a, _)| **a == arm).fold(0.0, |n, (_, s)| n + s.1);
        (of(Arm::Baseline), of(Arm::Canary))
    }

    /// Unit of the difference, and the variances of its mean: sampling and luck. `None` while nothing is paired
    /// or the baseline is zero and no absolute margin says what is large.
    fn variances(&self, arms: &[Arm], margin: Margin) -> Option<(f64, f64, f64)> {
        let (baseline, canary) = self.means();
        let floor = if margin.relative > 0.0 { margin.absolute / margin.relative } else { margin.absolute };
        let scale = baseline.abs().max(floor);
        if self.intervals == 0.0 || !(scale > 0.0 && scale.is_finite()) {
            return None;
        }
        let t = self.intervals;
        let prior = NOISE_PRIOR_INTERVALS * (NOISE_SD * scale).powi(2);
        let per_interval =
            (self.differences.variance(canary - baseline) + prior) / (t + NOISE_PRIOR_INTERVALS);
        let s2 = per_interval / t / (scale * scale)
            * t_inflation(LUCK_PRIOR_INSTANCES + (t - 1.0) / DEGREE_INTERVALS);
        let means =
            Clusters::of(arms, |i| self.slots.get(i).filter(|s| s.1 > 0.0).map(|s| s.0 / s.1 / scale));
        let learned = if means.baseline_n >= 3.0 { means.degrees() } else { 0.0 };
        Some((scale, s2, means.pooled(means.variance, learned, (LUCK_SD.powi(2), LUCK_PRIOR_INSTANCES))))
    }

    /// Evidence that the difference towards `sign` is beyond (`side` 1) or within (`side` -1) the margin.
    fn log_e(&self, arms: &[Arm], sign: f64, margin: Margin, side: f64) -> f64 {
        let Some((scale, s2, w2)) = self.variances(arms, margin) else { return 0.0 };
        let (baseline, canary) = self.means();
        let tolerated = (margin.relative * baseline.abs()).max(margin.absolute);
        let l =
            log_e(side * (sign * (canary - baseline) - tolerated) / scale, s2 + w2, EFFECTS, Some(MANIFOLD));
        if self.intervals <= INTERVALS_MIN { l.min(0.0) } else { l }
    }

    fn forecast(&self, arms: &[Arm], signs: &[f64], margin: Margin) -> Forecast {
        let Some((scale, s2, w2)) = self.variances(arms, margin) else { return Forecast::Unknown };
        let (baseline, canary) = self.means();
        let tolerated = (margin.relative * baseline.abs()).max(margin.absolute);
        let equal = tolerated / scale;
        let (m, a2) = (equal, s2 + w2);
        // Luck is known with its own inflation already.
        let effect = Effect { m, s2, luck: w2, nu: NU_MANY, arm_noise: 0.0, intervals: 1.0, a2, wide: 0.0 };
        let ways = signs.iter().map(|sign| {
            let now = (tolerated - sign * (canary - baseline)) / scale;
            forecast(&[Some(Outlook { now, equal, effect })], PASS_BOUNDARY)
        });
        ways.fold(Forecast::Factor(1.0), Forecast::and)
    }
}
