//! Latency from a histogram: the count test of `counts.rs` on "slower than a threshold", at the bucket edges next
//! to the baseline's p50, p90 and p99.
//!
//! A tolerated stretch of latencies becomes a tolerated ratio of survival probabilities by the baseline's own
//! histogram (`survival.rs`, `slower.rs`), from its past alone, so that what is tolerated never depends on what is judged.
//! A threshold that rests on few of the baseline's requests is chosen again as its history grows.
//! Where buckets are too coarse to see a stretch of the margin's size, only a quantile that crosses an edge is
//! called worse.

use std::sync::Arc;

use ndarray::{Array2, Axis, Slice};

use crate::calibration;
use crate::plan::{Arm, Margins, Metric};

use super::cohort::Cohort;
use super::evidence::radius;
use super::forecast::Forecast;
use super::row::{Levels, Row};
use super::slower::{LUCK_SD, Noise, Stretch, Threshold};
use super::survival::{Edges, Survival, latency_at};
use super::term::{Counts, per_instance};
use super::{CONFIDENCE_ALPHA, Frame, words};

const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Requests of the baseline that must lie beyond a quantile before its threshold is chosen.
const HISTORY_BEYOND_MIN: f64 = 5.0;
const HISTORY_MIN: f64 = 50.0;
/// Until this many lie beyond it, the threshold is chosen again where another edge is nearer by more than this
/// factor of survival.
const HISTORY_BEYOND_FIRM: f64 = 30.0;
const NEARER: f64 = 2.0;
/// It is looked at again when the history has grown by this factor, and changed this often at most.
const LOOK_AGAIN: f64 = 1.25;
const CHANGES_MAX: u32 = 3;
/// The stretch of the median beyond which no canary is merely cold.
const COLD_STRETCH: f64 = 1.0;
/// The quantile that stands for all requests, and how many standard errors it is given.
const BODY: f64 = QUANTILES[0];
const BODY_DOUBT: f64 = 1.5;

#[derive(Debug, Clone)]
pub(crate) struct Latency {
    /// Of its rows.
    names: [String; QUANTILES.len()],
    noise: Noise,
    margins: Margins,
    /// None until the first histogram is seen.
    edges: Edges,
    /// The baseline's counts before the present interval.
    history: Vec<f64>,
    /// What is shown: baseline, canary.
    shown: [Vec<f64>; 2],
    quantiles: [Quantile; QUANTILES.len()],
    /// Requests of the history when the choice of thresholds was last looked at.
    looked: f64,
    /// Thresholds that were chosen again in this interval, and how often each was.
    anew: [bool; QUANTILES.len()],
    changes: [u32; QUANTILES.len()],
    /// Said once, when buckets have changed under the judge.
    reset: bool,
}

#[derive(Debug, Clone)]
enum Quantile {
    /// Too little history.
    Pending,
    /// Beyond the last edge, or the same edge as another quantile.
    Unavailable,
    Judged(Box<Threshold>),
}

impl Quantile {
    fn is_at(&self, edge: usize) -> bool {
        matches!(self, Self::Judged(t) if t.edge == edge)
    }
}

fn taken(quantiles: &[Quantile], edge: usize) -> bool {
    quantiles.iter().any(|q| q.is_at(edge))
}

impl Latency {
    pub(crate) fn new(metric: &Metric, known: &calibration::Noise) -> Self {
        Self {
            noise: Noise::new(known),
            names: QUANTILES.map(|q| format!("{}_p{:.0}", metric.name, q * 100.0)),
            margins: metric.margins,
            edges: Edges::default(),
            history: Vec::new(),
            shown: [Vec::new(), Vec::new()],
            quantiles: [const { Quantile::Pending }; QUANTILES.len()],
            looked: 0.0,
            anew: [false; QUANTILES.len()],
            changes: [0; QUANTILES.len()],
            reset: false,
        }
    }

    pub(crate) fn begin(&mut self) {
        self.shown = [vec![0.0; self.history.len()], vec![0.0; self.history.len()]];
    }

    /// An interval; in the warm-up it is shown, kept for what comes after it, and fails only a gross regression.
    pub(crate) fn step(&mut self, arms: &[Arm], edges: &Arc<[f64]>, counts: &Array2<f64>, judged: bool) {
        self.anew = [false; QUANTILES.len()];
        self.follow_edges(edges);
        self.show(arms, counts);
        self.choose_again();
        let pending = self.quantiles.each_ref().map(|q| matches!(q, Quantile::Pending));
        let mut with_present = Vec::new();
        if pending.contains(&true) {
            with_present.clone_from(&self.history);
            add_arm(&mut with_present, arms, Arm::Baseline, counts);
            self.choose_first(&with_present);
        }
        let body = if judged { None } else { self.body_stretch(arms) };
        let past = Survival::new(&self.edges, &self.history);
        let with_present = Survival::new(&self.edges, &with_present);
        let requests = counts.sum_axis(Axis(1)).to_vec();
        for ((q, new), quantile) in self.quantiles.iter_mut().zip(pending).zip(QUANTILES) {
            if let Quantile::Judged(t) = q {
                let slower = counts.slice_axis(Axis(1), Slice::from(t.edge + 1..)).sum_axis(Axis(1)).to_vec();
                let counts = Counts { trials: requests.clone(), events: slower };
                let sums = counts.sums(arms);
                // A threshold is chosen by what lies before it; its first interval has only itself.
                let survival = if new { &with_present } else { &past };
                t.retune(survival, self.margins);
                if judged {
                    t.step(arms, &sums);
                } else {
                    let stretch = if quantile == BODY { Some(COLD_STRETCH) } else { body };
                    t.warm_up(arms, &sums, stretch.map(|s| (s, survival)), self.margins);
                }
            }
        }
        add_arm(&mut self.history, arms, Arm::Baseline, counts);
    }

    /// By how much all of the canary's latencies are stretched, at most: what its median says, and the doubt.
    /// A cold canary is slow throughout; only a tail that is longer still is a regression.
    fn body_stretch(&self, arms: &[Arm]) -> Option<f64> {
        let Quantile::Judged(t) = &self.quantiles[0] else { return None };
        let Stretch::Ratio { slope, .. } = t.tolerance else { return None };
        let [b, c] = [0, 1].map(|i| latency_at(BODY, self.edges.bounds(), &self.shown[i]));
        let [nb, nc] = [0, 1].map(|i| self.shown[i].iter().sum::<f64>());
        let sampling = (0.25 / nb + 0.25 / nc) / (BODY * slope).powi(2);
        let doubt = (sampling + LUCK_SD * LUCK_SD * per_instance(arms)).sqrt();
        Some(((c / b).ln().max(0.0) + BODY_DOUBT * doubt).exp_m1()).filter(|s| s.is_finite())
    }

    /// Buckets that changed cannot be compared with those before: everything begins anew.
    fn follow_edges(&mut self, edges: &Arc<[f64]>) {
        if *self.edges.bounds() == **edges {
            return;
        }
        self.reset = !self.edges.bounds().is_empty();
        self.edges = Edges::new(edges);
        self.history = vec![0.0; edges.len() + 1];
        self.begin();
        self.quantiles = [const { Quantile::Pending }; QUANTILES.len()];
        self.looked = 0.0;
        self.anew = [true; QUANTILES.len()];
    }

    /// As soon as a handful of the baseline's requests lie beyond the quantile.
    fn choose_first(&mut self, history: &[f64]) {
        let seen: f64 = history.iter().sum();
        let survival = Survival::new(&self.edges, history);
        for (i, quantile) in QUANTILES.into_iter().enumerate() {
            let enough = seen >= HISTORY_MIN && seen * (1.0 - quantile) >= HISTORY_BEYOND_MIN;
            if !enough || !matches!(self.quantiles[i], Quantile::Pending) {
                continue;
            }
            self.quantiles[i] = match Threshold::choose(quantile, &survival, self.margins, self.noise) {
                Some(t) if !taken(&self.quantiles, t.edge) => Quantile::Judged(Box::new(t)),
                _ => Quantile::Unavailable,
            };
        }
    }

    /// A handful of requests, or coarse buckets none of whose tails was seen yet, may have chosen badly. From the
    /// baseline's past alone the choice is made again, and what was counted at another edge is given up.
    fn choose_again(&mut self) {
        let seen: f64 = self.history.iter().sum();
        if seen < LOOK_AGAIN * self.looked || seen <= 0.0 {
            return;
        }
        self.looked = seen;
        let survival = Survival::new(&self.edges, &self.history);
        for (i, quantile) in QUANTILES.into_iter().enumerate() {
            let firm = seen * (1.0 - quantile) >= HISTORY_BEYOND_FIRM;
            let is_better = |t: &Threshold| match &self.quantiles[i] {
                Quantile::Pending => false,
                Quantile::Unavailable => true,
                Quantile::Judged(old) => {
                    let is_ratio = |t: &Threshold| matches!(t.tolerance, Stretch::Ratio { .. });
                    let farther = survival.distance(old.edge, quantile) - survival.distance(t.edge, quantile);
                    let nearer = !firm && farther > NEARER.ln();
                    is_ratio(t) && (!is_ratio(old) || nearer)
                }
            };
            let may_change = match &self.quantiles[i] {
                Quantile::Pending => false,
                Quantile::Unavailable => true,
                Quantile::Judged(t) => !firm || matches!(t.tolerance, Stretch::Crossing(_)),
            };
            if !may_change || self.changes[i] >= CHANGES_MAX {
                continue;
            }
            let others = |edge| {
                let others = self.quantiles.iter().enumerate().filter(|(o, _)| *o != i);
                others.into_iter().any(|(_, q)| q.is_at(edge))
            };
            let chosen = Threshold::choose(quantile, &survival, self.margins, self.noise);
            if let Some(t) = chosen.filter(|t| !others(t.edge) && is_better(t)) {
                self.quantiles[i] = Quantile::Judged(Box::new(t));
                self.changes[i] += 1;
                self.anew[i] = true;
            }
        }
    }

    fn show(&mut self, arms: &[Arm], counts: &Array2<f64>) {
        for (arm, shown) in [Arm::Baseline, Arm::Canary].into_iter().zip(&mut self.shown) {
            add_arm(shown, arms, arm, counts);
        }
    }

    /// What this release taught, as the mean of what the thresholds say.
    pub(crate) fn learned(&self) -> calibration::Noise {
        let thresholds = self.quantiles.iter().filter_map(|q| match q {
            Quantile::Judged(t) => t.learned(),
            Quantile::Pending | Quantile::Unavailable => None,
        });
        let all: Vec<calibration::Noise> = thresholds.collect();
        let mut sum = calibration::Noise::default();
        all.iter().for_each(|n| sum.merge(n));
        // The same instances at every threshold.
        let n = all.len().max(1) as f64;
        sum.luck_weight /= n;
        sum.arm_weight /= n;
        sum.dispersion_weight /= n;
        sum
    }

    pub(crate) fn rows(&self, frame: &Frame<'_>) -> Vec<Row<'_>> {
        let share = 1.0 / QUANTILES.len() as f64;
        let states = QUANTILES.iter().zip(&self.names).zip(&self.quantiles).zip(self.anew);
        let rows = states.filter_map(|(((quantile, name), state), anew)| {
            let threshold = match state {
                Quantile::Unavailable => return None,
                Quantile::Pending => None,
                Quantile::Judged(t) => Some(&**t),
            };
            let levels = self.levels(*quantile, threshold, frame);
            let reset = if self.reset { ", counted anew since its buckets changed" } else { "" };
            let text = words::compared(name, &levels, words::put_seconds, "request", reset);
            Some(Row {
                name,
                share,
                worse: threshold.map_or(0.0, |t| t.worse(frame)),
                no_worse: threshold.map_or(0.0, |t| t.no_worse.log_e()),
                forecast: threshold.map_or_else(|| self.until_chosen(*quantile), Threshold::forecast),
                levels,
                text,
                worse_in: None,
                set_aside: None,
                anew,
            })
        });
        rows.collect()
    }

    /// Requests still missing before the threshold can be chosen, as a factor of those so far.
    fn until_chosen(&self, quantile: f64) -> Forecast {
        let needed = HISTORY_MIN.max(HISTORY_BEYOND_MIN / (1.0 - quantile));
        let seen: f64 = self.history.iter().sum();
        if seen > 0.0 { Forecast::Factor((needed / seen).max(1.0)) } else { Forecast::Unknown }
    }

    fn levels(&self, quantile: f64, threshold: Option<&Threshold>, frame: &Frame<'_>) -> Levels {
        let at = |counts: &[f64]| latency_at(quantile, self.edges.bounds(), counts);
        let [baseline, canary] = [at(&self.shown[0]), at(&self.shown[1])];
        let shown = Levels {
            baseline,
            canary,
            estimate: canary / baseline - 1.0,
            baseline_n: self.shown[0].iter().fold(0.0, |n, c| n + c),
            canary_n: self.shown[1].iter().fold(0.0, |n, c| n + c),
            ..Levels::NONE
        };
        match threshold {
            Some(Threshold { tolerance: Stretch::Ratio { slope, .. }, totals, worse, .. })
                if frame.judged && totals.log_ratio().is_some() =>
            {
                let r =
                    radius(totals.variance(worse.first().and_then(Cohort::first)), CONFIDENCE_ALPHA) / slope;
                shown.with_log_ratio((canary / baseline).ln(), r)
            }
            _ => shown,
        }
    }
}

fn add_arm(to: &mut Vec<f64>, arms: &[Arm], arm: Arm, counts: &Array2<f64>) {
    to.resize(counts.ncols(), 0.0);
    for (a, row) in arms.iter().zip(counts.rows()) {
        if *a == arm {
            to.iter_mut().zip(row).for_each(|(t, c)| *t += c);
        }
    }
}
