//! `Row`: what one process of a metric has to say, before the release as a whole is judged.

use super::forecast::Forecast;

#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    /// Share of the metric's weight.
    pub(crate) share: f64,
    /// Log evidence for "worse beyond the margin" and for "no worse than the margin".
    pub(crate) worse: f64,
    pub(crate) no_worse: f64,
    pub(crate) forecast: Forecast,
    pub(crate) levels: Levels,
    /// The sentence up to its verdict: `errors 5.1 % against 0.1 % of the baseline (…)`.
    pub(crate) text: String,
    /// What is said of it when it is worse, if not that it is beyond its margin.
    pub(crate) worse_in: Option<&'static str>,
    /// Why this row can neither fail nor hold a pass, where that is so.
    pub(crate) set_aside: Option<String>,
    /// Whether it begins anew in this interval: what it has shown is forgotten.
    pub(crate) anew: bool,
}

/// What is shown; `NaN` where nothing can be said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    pub(crate) baseline: f64,
    pub(crate) canary: f64,
    pub(crate) estimate: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) baseline_n: f64,
    pub(crate) canary_n: f64,
}

impl Levels {
    pub(crate) const NONE: Self = Self {
        baseline: f64::NAN,
        canary: f64::NAN,
        estimate: f64::NAN,
        lower: f64::NAN,
        upper: f64::NAN,
        baseline_n: 0.0,
        canary_n: 0.0,
    };

    /// Estimate and bounds from a log ratio and the radius about it.
    pub(crate) fn with_log_ratio(self, log_ratio: f64, radius: f64) -> Self {
        Self {
            estimate: log_ratio.exp_m1(),
            lower: (log_ratio - radius).exp_m1(),
            upper: (log_ratio + radius).exp_m1(),
            ..self
        }
    }
}
