//! How much more is needed before "no worse" can be shown, if the versions are in truth equal.

use super::counts::Effect;
use super::evidence::{EFFECTS, log_e};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Forecast {
    /// Nothing is known of the information so far.
    Unknown,
    /// Information must grow to this many times what there is.
    Factor(f64),
    /// Instance luck alone hides a difference of this size, however many requests come.
    Never,
}

impl Forecast {
    /// The nearer of two ways.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Factor(a), Self::Factor(b)) => Self::Factor(a.min(b)),
            (Self::Factor(f), _) | (_, Self::Factor(f)) => Self::Factor(f),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Never, Self::Never) => Self::Never,
        }
    }

    /// Both are needed.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Factor(a), Self::Factor(b)) => Self::Factor(a.max(b)),
        }
    }
}

/// More than this many times the present information is as good as never.
const FACTOR_MAX: f64 = 1e6;
/// Each halves the uncertainty of the factor's logarithm; ten leave about a per cent.
const BISECTIONS: usize = 10;

/// Factor at which evidence for being `m` inside the margin crosses `boundary`, a log.
pub(crate) fn forecast(m: f64, effect: &Effect, boundary: f64) -> Forecast {
    let at = |factor: f64| log_e(m, effect.variance_after(factor), EFFECTS, Some(effect.wide));
    if at(FACTOR_MAX) < boundary {
        return Forecast::Never;
    }
    let (mut low, mut high) = (1.0f64, FACTOR_MAX);
    for _ in 0..BISECTIONS {
        let middle = (low * high).sqrt();
        if at(middle) >= boundary {
            high = middle;
        } else {
            low = middle;
        }
    }
    Forecast::Factor(high)
}
