//! `Growth`: does the canary's memory grow faster than the baseline's? The newest values against the first, and
//! the slope per hour; and a growth only counts once it has taken the canary above the baseline, because a young
//! process that warms up to its elders' level leaks nothing.

use crate::plan::Arm;

use super::clusters::Clusters;
use super::counts::LUCK_PRIOR_INSTANCES;
use super::evidence::{EFFECTS, SLOPES, log_add};

/// Intervals of the reference, and of the newest window.
const WINDOW: usize = 8;
/// Intervals before a slope is taken, and values an instance must have shown.
const SLOPE_INTERVALS_MIN: u64 = 40;
const SLOPE_VALUES_MIN: f64 = 10.0;
/// Correlation time of memory in hours, for the prior of a slope.
const CORRELATION_H: f64 = 5.0 / 60.0;
const SLOPE_PRIOR_SD: f64 = 0.02;
/// Growth's variance is learned over this many intervals a degree of freedom.
const DEGREE_INTERVALS: f64 = 40.0;

#[derive(Debug, Clone, Copy)]
pub(crate) struct GrowthMargins {
    /// Log ratio of newest to first.
    pub(crate) growth: f64,
    /// Log ratio per hour.
    pub(crate) slope: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Growth {
    margins: GrowthMargins,
    prior_sd: f64,
    level_prior_sd: f64,
    intervals: u64,
    start_h: f64,
    now_h: f64,
    slots: Vec<Slot>,
    /// Growth of the instances, as of the last interval.
    growth: Clusters,
    /// Mean over time of the variance of growth between instances.
    variance_sum: f64,
    variance_n: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    first_n: f64,
    first: f64,
    newest: [f64; WINDOW],
    newest_mean: f64,
    seen: usize,
    /// Regression of the value on hours.
    n: f64,
    h: f64,
    y: f64,
    hh: f64,
    hy: f64,
}

impl Slot {
    fn newest_mean(&self) -> Option<f64> {
        (self.seen > WINDOW).then_some(self.newest_mean)
    }

    fn growth(&self) -> Option<f64> {
        (self.first_n > 0.0).then_some(())?;
        Some(self.newest_mean()? - self.first / self.first_n)
    }

    fn slope(&self) -> Option<f64> {
        let spread = self.hh - self.h * self.h / self.n;
        (self.n >= SLOPE_VALUES_MIN && spread > 0.0).then(|| (self.hy - self.h * self.y / self.n) / spread)
    }
}

impl Growth {
    pub(crate) fn new(margins: GrowthMargins, prior_sd: f64, level_prior_sd: f64) -> Self {
        Self {
            margins,
            prior_sd,
            level_prior_sd,
            intervals: 0,
            start_h: 0.0,
            now_h: 0.0,
            slots: Vec::new(),
            growth: Clusters::default(),
            variance_sum: 0.0,
            variance_n: 0.0,
        }
    }

    /// Log values by slot; `at_h` is the end of the interval in hours since any fixed time.
    pub(crate) fn update(&mut self, arms: &[Arm], at_h: f64, values: &[Option<f64>]) {
        if self.intervals == 0 {
            self.start_h = at_h;
        }
        self.intervals += 1;
        self.now_h = at_h;
        let h = at_h - self.start_h;
        self.slots.resize(arms.len(), Slot::default());
        for (s, v) in self.slots.iter_mut().zip(values) {
            let Some(v) = *v else { continue };
            if self.intervals <= WINDOW as u64 {
                s.first_n += 1.0;
                s.first += v;
            }
            s.newest[s.seen % WINDOW] = v;
            s.newest_mean = s.newest.iter().sum::<f64>() / WINDOW as f64;
            s.seen += 1;
            s.n += 1.0;
            s.h += h;
            s.y += v;
            s.hh += h * h;
            s.hy += h * v;
        }
        self.growth = Clusters::of(arms, |i| self.slots.get(i)?.growth());
        if self.grown() {
            self.variance_sum += self.growth.variance;
            self.variance_n += 1.0;
        }
    }

    /// Factor on the intervals so far from which "no worse" can be shown.
    pub(crate) fn ripe_after(&self) -> f64 {
        (SLOPE_INTERVALS_MIN + 1) as f64 / self.intervals.max(1) as f64
    }

    fn grown(&self) -> bool {
        self.intervals > 2 * WINDOW as u64
    }

    fn growth_variance(&self, c: &Clusters, intervals: f64) -> f64 {
        let mean = self.variance_sum / self.variance_n;
        let variance = mean.max(0.5 * (c.variance + mean));
        let age = 1.0 + (intervals - 2.0 * WINDOW as f64) / DEGREE_INTERVALS;
        c.pooled(variance, c.degrees() * age, (2.0 * self.prior_sd.powi(2), LUCK_PRIOR_INSTANCES))
    }

    /// Log evidence of a leak that has taken the canary above the baseline.
    pub(crate) fn worse(&self, arms: &[Arm]) -> f64 {
        if self.grown() { self.faster(arms).min(self.above(arms)) } else { 0.0 }
    }

    /// Log evidence of faster growth, of whatever level.
    pub(super) fn faster(&self, arms: &[Arm]) -> f64 {
        if !self.grown() {
            return 0.0;
        }
        let c = self.growth;
        let growth = c.log_e(
            c.difference() - self.margins.growth,
            self.growth_variance(&c, self.intervals as f64),
            EFFECTS,
        );
        log_add(growth, self.slope_log_e(arms)) - std::f64::consts::LN_2
    }

    /// Log evidence that the growth so far is within the margin.
    pub(super) fn grown_no_more(&self, margin: f64) -> f64 {
        if !self.grown() {
            return 0.0;
        }
        let c = self.growth;
        c.log_e(margin - c.difference(), self.growth_variance(&c, self.intervals as f64), EFFECTS)
    }

    /// Log evidence that the growth is within the margin and that an hour of it is within another: a leak that has
    /// not come far yet is one all the same.
    pub(crate) fn no_worse(&self, arms: &[Arm], margins: GrowthMargins) -> f64 {
        let slope =
            self.slope(arms).map_or(0.0, |(c, a2)| c.log_e(margins.slope - c.difference(), a2, SLOPES));
        self.grown_no_more(margins.growth).min(slope)
    }

    /// Variances of the differences in growth and in slope when `factor` times as many intervals have been seen.
    pub(crate) fn variances_after(&self, arms: &[Arm], factor: f64) -> Option<(f64, f64)> {
        let c = self.growth;
        let (_, slope) = self.slope(arms).filter(|_| c.both())?;
        let faded = self.slope_prior(factor) / self.slope_prior(1.0);
        Some((self.growth_variance(&c, self.intervals as f64 * factor), slope * faded))
    }

    fn slope_log_e(&self, arms: &[Arm]) -> f64 {
        self.slope(arms).map_or(0.0, |(c, a2)| c.log_e(c.difference() - self.margins.slope, a2, SLOPES))
    }

    /// Slopes of the instances and the variance of their arms' difference; `None` before there are enough values.
    fn slope(&self, arms: &[Arm]) -> Option<(Clusters, f64)> {
        if self.intervals <= SLOPE_INTERVALS_MIN {
            return None;
        }
        let c = Clusters::of(arms, |i| self.slots.get(i)?.slope());
        let a2 = c.pooled(c.variance, c.degrees(), (self.slope_prior(1.0), LUCK_PRIOR_INSTANCES));
        Some((c, a2))
    }

    /// Prior variance of an instance's slope when `factor` times as many intervals have been seen.
    fn slope_prior(&self, factor: f64) -> f64 {
        // From the start of the first interval, of which only the end is known.
        let t = self.intervals as f64;
        let hours = (self.now_h - self.start_h) * t / (t - 1.0) * factor;
        let wander = self.prior_sd.powi(2) * 2.0 * CORRELATION_H * 12.0 / hours.powi(3);
        SLOPE_PRIOR_SD.powi(2) + wander
    }

    /// Log evidence that the canary's newest level is above the baseline's by more than may be grown.
    fn above(&self, arms: &[Arm]) -> f64 {
        let c = Clusters::of(arms, |i| self.slots.get(i)?.newest_mean());
        let a2 = c.pooled(c.variance, c.degrees(), (self.level_prior_sd.powi(2), LUCK_PRIOR_INSTANCES));
        c.log_e(c.difference() - self.margins.growth, a2, EFFECTS)
    }
}
