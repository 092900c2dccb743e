//! CPU and memory: levels, and for memory a leak.

use crate::calibration::Noise;
use crate::plan::{Arm, Metric};
use crate::verdict::MetricClass;

use super::counts::LUCK_PRIOR_INSTANCES;
use super::epochs::Epochs;
use super::evidence::{EFFECTS, SLOPES, log_add, log_e, radius};
use super::forecast::Forecast;
use super::growth::{Growth, GrowthMargins};
use super::level::{Level, Mean, Standing, Use};
use super::row::{Levels, Row};
use super::{CONFIDENCE_ALPHA, Frame, PASS_BOUNDARY, words};

/// Prior standard deviations between equal instances: log CPU, log memory, growth of log memory.
const CPU_SD: f64 = 0.03;
const MEMORY_SD: f64 = 0.03;
const GROWTH_SD: f64 = 0.02;
/// A leak's margins: growth within the window, log ratio per hour, and growth within which it is no worse.
const GROWTH: f64 = 0.05;
const SLOPE_PER_H: f64 = 0.06;
const GROWTH_NO_WORSE: f64 = 0.15;
/// An hour's growth within which it is no worse.
const SLOPE_NO_WORSE: f64 = 0.25;
/// Said of memory that fails by its growth.
const LEAK: &str = "it grows faster than the baseline's";
/// Of memory's weight, the part of its level; the rest is the leak's.
const LEVEL_WEIGHT: f64 = 0.25;
/// A forecast looks this many times as far ahead as it has seen.
const FACTOR_MAX: f64 = 100.0;
/// Arms whose instances carry loads further apart than this factor cannot be shown to cost the same.
const LOAD_COMPARABLE: f64 = 1.25;

#[derive(Debug, Clone)]
pub(crate) struct Resource {
    name: String,
    class: MetricClass,
    margin: f64,
    no_worse_margin: f64,
    known: Noise,
    worse: Epochs<Process>,
    shown: Level,
}

#[derive(Debug, Clone)]
struct Process {
    level: Level,
    growth: Option<Growth>,
}

impl Resource {
    pub(crate) fn new(metric: &Metric, known: &Noise) -> Self {
        Self {
            name: metric.name.clone(),
            class: metric.class,
            margin: metric.margins.worse.relative.ln_1p(),
            no_worse_margin: metric.margins.no_worse.relative.ln_1p(),
            known: *known,
            worse: Epochs::new(),
            shown: Level::new(mean(metric.class), (0.0, 1.0)),
        }
    }

    /// An interval of the warm-up: shown, and kept for what comes after it.
    pub(crate) fn observe(&mut self, arms: &[Arm], at_h: f64, uses: &[Option<Use>]) {
        self.shown.update(arms, uses);
        let (class, known) = (self.class, self.known);
        let logs = logs(uses);
        self.worse.warm_up(|| Process::new(class, &known), |p| p.update(arms, at_h, uses, &logs));
    }

    pub(crate) fn begin(&mut self) {
        self.shown = Level::new(mean(self.class), (0.0, 1.0));
    }

    pub(crate) fn step(&mut self, arms: &[Arm], at_h: f64, uses: &[Option<Use>]) {
        self.shown.update(arms, uses);
        let (class, known) = (self.class, self.known);
        let logs = logs(uses);
        self.worse.advance(|_| Process::new(class, &known), |p| p.update(arms, at_h, uses, &logs));
    }

    pub(crate) fn row(&self, frame: &Frame<'_>) -> Row<'_> {
        let arms = frame.arms;
        let worse = self.worse.log_mix(
            |p| p.worse(arms, self.margin),
            |s| {
                let [since, warm, whole] = [s.since, s.warm, s.whole].map(|p| p.level.standing());
                let level = since.persistent(warm, whole, self.margin);
                s.whole.with_growth(level, arms)
            },
        );
        let first = self.worse.first();
        let standing = first.map(|p| *p.level.standing()).unwrap_or_default();
        let shown = self.shown.standing();
        let no_worse = first.map_or(0.0, |p| p.no_worse(arms, self.no_worse_margin));
        let forecast = match first {
            None => Forecast::Unknown,
            Some(_) if no_worse >= PASS_BOUNDARY => Forecast::Factor(1.0),
            Some(p) => self.forecast(p, arms, &standing),
        };
        let suspect = self.worse.whole().filter(|_| worse > 0.0);
        let levels = self.levels(shown, standing.variance, frame);
        Row {
            name: &self.name,
            share: 1.0,
            worse,
            no_worse,
            forecast,
            levels,
            text: self.text(shown, &levels),
            worse_in: suspect.filter(|p| p.leaks(arms, self.margin)).map(|_| LEAK),
            set_aside: self.set_aside(&standing, forecast),
            anew: false,
        }
    }

    /// What this release taught of how equal instances differ.
    pub(crate) fn learned(&self) -> Noise {
        let standing = self.worse.whole().map(|p| *p.level.standing()).unwrap_or_default();
        let (luck_variance, luck_weight) = standing.clusters.spread();
        Noise { luck_variance, luck_weight, ..Noise::default() }
    }

    fn levels(&self, shown: &Standing, variance: f64, frame: &Frame<'_>) -> Levels {
        let c = shown.clusters;
        if !c.both() {
            return Levels { baseline_n: c.baseline_n, canary_n: c.canary_n, ..Levels::NONE };
        }
        let levels = Levels {
            baseline: c.baseline.exp(),
            canary: c.canary.exp(),
            estimate: c.difference().exp_m1(),
            baseline_n: c.baseline_n,
            canary_n: c.canary_n,
            ..Levels::NONE
        };
        if !frame.judged || variance.is_nan() || variance <= 0.0 {
            return levels;
        }
        let r = radius(variance, CONFIDENCE_ALPHA);
        Levels { lower: (shown.least - r).exp_m1(), upper: (shown.greatest + r).exp_m1(), ..levels }
    }

    fn text(&self, shown: &Standing, levels: &Levels) -> String {
        let level = |out: &mut String, v: f64| match (self.class, shown.per_request) {
            (MetricClass::Memory, _) => words::put_bytes(out, v),
            (_, true) => {
                words::put_seconds(out, v);
                out.push_str(" a request");
            }
            (_, false) => {
                words::put_number(out, v);
                out.push_str(" cores");
            }
        };
        let name = if self.class == MetricClass::Cpu && self.name == "cpu" { "CPU" } else { &self.name };
        words::compared(name, levels, level, "instance", "")
    }

    /// When evidence for "no worse" would cross, were the arms equal: the priors' uncertainty fades with time, the
    /// difference between instances does not.
    fn forecast(&self, p: &Process, arms: &[Arm], standing: &Standing) -> Forecast {
        if !standing.clusters.both() {
            return Forecast::Unknown;
        }
        let shown = |m: f64, variance: f64, scales| log_e(m, variance, scales, None) >= PASS_BOUNDARY;
        let within = no_worse_growth();
        let at = |factor: f64| {
            let growth = p.growth.as_ref().and_then(|g| g.variances_after(arms, factor));
            shown(self.no_worse_margin, standing.variance_after(factor), EFFECTS)
                && growth
                    .is_none_or(|(g, s)| shown(within.growth, g, EFFECTS) && shown(within.slope, s, SLOPES))
        };
        let factors = std::iter::successors(Some(1.0), |f| Some(f * 1.5)).take_while(|f| *f < FACTOR_MAX);
        let ripe = standing.ripe_after().max(p.growth.as_ref().map_or(1.0, Growth::ripe_after));
        factors.into_iter().find(|f| at(*f)).map_or(Forecast::Never, |f| Forecast::Factor(f.max(ripe)))
    }

    fn set_aside(&self, standing: &Standing, forecast: Forecast) -> Option<String> {
        let c = standing.clusters;
        if standing.load.abs() > LOAD_COMPARABLE.ln() {
            let (busier, times) =
                if standing.load > 0.0 { ("baseline", standing.load) } else { ("canary", -standing.load) };
            return Some(format!(
                "an instance of the {busier} carries {} times the load, so only a gross difference would show",
                words::number(times.exp())
            ));
        }
        (forecast == Forecast::Never).then(|| {
            format!(
                "{} and {} are too few to show it no worse: luck alone could hide the difference",
                words::count(c.canary_n),
                words::counted(c.baseline_n, "instance")
            )
        })
    }
}

fn no_worse_growth() -> GrowthMargins {
    GrowthMargins { growth: GROWTH_NO_WORSE.ln_1p(), slope: SLOPE_NO_WORSE.ln_1p() }
}

fn logs(uses: &[Option<Use>]) -> Vec<Option<f64>> {
    uses.iter().map(|u| u.as_ref().map(|u| u.log)).collect()
}

fn mean(class: MetricClass) -> Mean {
    if class == MetricClass::Memory { Mean::Logs } else { Mean::Totals }
}

impl Process {
    fn new(class: MetricClass, known: &Noise) -> Self {
        let margins = GrowthMargins { growth: GROWTH.ln_1p(), slope: SLOPE_PER_H };
        match class {
            MetricClass::Memory => Self {
                level: Level::new(Mean::Logs, known.luck((MEMORY_SD * MEMORY_SD, LUCK_PRIOR_INSTANCES))),
                growth: Some(Growth::new(margins, GROWTH_SD, MEMORY_SD)),
            },
            _ => Self {
                level: Level::new(Mean::Totals, known.luck((CPU_SD * CPU_SD, LUCK_PRIOR_INSTANCES))),
                growth: None,
            },
        }
    }

    fn worse(&self, arms: &[Arm], margin: f64) -> f64 {
        self.with_growth(self.level.standing().worse(margin), arms)
    }

    /// A leak needs no warm-up: it counts only once it is above the baseline.
    fn with_growth(&self, level: f64, arms: &[Arm]) -> f64 {
        match &self.growth {
            None => level,
            Some(g) => log_add(LEVEL_WEIGHT.ln() + level, (1.0 - LEVEL_WEIGHT).ln() + g.worse(arms)),
        }
    }

    fn update(&mut self, arms: &[Arm], at_h: f64, uses: &[Option<Use>], logs: &[Option<f64>]) {
        self.level.update(arms, uses);
        if let Some(g) = &mut self.growth {
            g.update(arms, at_h, logs);
        }
    }

    /// Whether growth speaks louder than the level.
    fn leaks(&self, arms: &[Arm], margin: f64) -> bool {
        self.growth.as_ref().is_some_and(|g| g.worse(arms) > self.level.standing().worse(margin))
    }

    fn no_worse(&self, arms: &[Arm], margin: f64) -> f64 {
        let level = self.level.standing().no_worse(margin);
        match &self.growth {
            None => level,
            Some(g) => level.min(g.no_worse(arms, no_worse_growth())),
        }
    }
}
