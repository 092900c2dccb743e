//! How much more is needed before "no worse" can be shown, if the versions are in truth equal.

use super::counts::Effect;
use super::evidence::{EFFECTS, log_add, log_e};

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
    /// Both are needed.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Factor(a), Self::Factor(b)) => Self::Factor(a.max(b)),
        }
    }
}

/// What is known of one process, and what it would come to were the versions equal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlook {
    /// The estimate as it is, and where it goes if the versions are equal: within the margin by this much.
    pub(crate) now: f64,
    pub(crate) equal: f64,
    pub(crate) effect: Effect,
}

impl Outlook {
    /// Chance fades as information grows, so the estimate goes from what it is to what it would be.
    fn log_e_after(&self, factor: f64) -> f64 {
        let m = self.equal + (self.now - self.equal) / factor;
        log_e(m, self.effect.variance_after(factor), EFFECTS, Some(self.effect.wide))
    }
}

/// More than this many times the present information is as good as never.
const FACTOR_MAX: f64 = 1e6;
/// The factor is sought in steps of this size, and then by halving its logarithm, to about three per cent.
const STEP: f64 = 4.0;
const BISECTIONS: usize = 5;

/// Factor of information at which the mean of the evidences for "no worse" crosses `boundary`, a log. `None` is a
/// process that has seen nothing yet and says nothing.
pub(crate) fn forecast(ways: &[Option<Outlook>], boundary: f64) -> Forecast {
    if ways.iter().all(Option::is_none) {
        return Forecast::Unknown;
    }
    let at = |factor: f64| {
        let logs = ways.iter().map(|w| w.map_or(0.0, |w| w.log_e_after(factor)));
        logs.fold(f64::NEG_INFINITY, log_add) - (ways.len() as f64).ln()
    };
    let mut high = 1.0;
    while at(high) < boundary {
        if high >= FACTOR_MAX {
            return Forecast::Never;
        }
        high *= STEP;
    }
    let mut low = (high / STEP).max(1.0);
    for _ in 0..if high > 1.0 { BISECTIONS } else { 0 } {
        let middle = (low * high).sqrt();
        if at(middle) >= boundary {
            high = middle;
        } else {
            low = middle;
        }
    }
    Forecast::Factor(high)
}
