//! `Epochs`: the same process begun again at later times, mixed, so that a regression after hours of health is
//! still seen soon. A mixture of e-processes is one, and a copy that has not begun counts as one.

/// In judged intervals.
const STARTS: [u64; 7] = [0, 40, 80, 160, 320, 640, 960];
const FIRST_WEIGHT: f64 = 0.5;

#[derive(Debug, Clone)]
pub(crate) struct Epochs<P> {
    intervals: u64,
    running: Vec<P>,
    /// The process that ran through the warm-up and still does, and what it was when that ended.
    whole: Option<P>,
    warm: Option<P>,
}

/// The first copy, which began after a warm-up, and what was seen from before it.
pub(crate) struct Started<'a, P> {
    pub(crate) warm: &'a P,
    pub(crate) whole: &'a P,
    pub(crate) since: &'a P,
}

impl<P: Clone> Epochs<P> {
    pub(crate) fn new() -> Self {
        Self { intervals: 0, running: Vec::with_capacity(STARTS.len()), whole: None, warm: None }
    }

    /// An interval of the warm-up.
    pub(crate) fn warm_up(&mut self, begin: impl FnOnce() -> P, mut update: impl FnMut(&mut P)) {
        update(self.whole.get_or_insert_with(begin));
    }

    /// One interval: begins the copy that is due, with what the first has learned, then updates all that run.
    pub(crate) fn advance(&mut self, begin: impl FnOnce(Option<&P>) -> P, update: impl FnMut(&mut P)) {
        if self.intervals == 0 {
            self.warm.clone_from(&self.whole);
        }
        if STARTS.contains(&self.intervals) && self.running.len() < STARTS.len() {
            let copy = begin(self.running.first());
            self.running.push(copy);
        }
        self.intervals += 1;
        self.whole.iter_mut().chain(&mut self.running).for_each(update);
    }

    /// The copy that has seen everything after the warm-up.
    pub(crate) fn first(&self) -> Option<&P> {
        self.running.first()
    }

    /// The process that has seen everything.
    pub(crate) fn whole(&self) -> Option<&P> {
        self.whole.as_ref().or(self.running.first())
    }

    pub(crate) fn log_mix(&self, log_e: impl Fn(&P) -> f64, started: impl Fn(&Started<'_, P>) -> f64) -> f64 {
        let rest = (1.0 - FIRST_WEIGHT) / (STARTS.len() - 1) as f64;
        let mut logs = [0.0; STARTS.len()];
        for (i, (log, p)) in logs.iter_mut().zip(&self.running).enumerate() {
            *log = match (&self.warm, &self.whole) {
                (Some(warm), Some(whole)) if i == 0 => started(&Started { warm, whole, since: p }),
                _ => log_e(p),
            };
        }
        let top = logs.into_iter().fold(f64::NEG_INFINITY, f64::max);
        if top == f64::NEG_INFINITY {
            return top;
        }
        let weight = |i| if i == 0 { FIRST_WEIGHT } else { rest };
        let sum: f64 = logs.iter().enumerate().map(|(i, l)| weight(i) * (l - top).exp()).sum();
        top + sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_begin_at_their_starts_and_weights_sum_to_one() {
        let mut e = Epochs::new();
        assert!(e.log_mix(|n: &u64| *n as f64, |_| 0.0).abs() < 1e-12);
        for _ in 0..1000 {
            e.advance(|_| 0u64, |n| *n += 1);
        }
        let seen: Vec<u64> = e.running.clone();
        assert_eq!(seen, [1000, 960, 920, 840, 680, 360, 40]);
        assert!(e.log_mix(|_| 0.0, |_| 0.0).abs() < 1e-12);
    }
}
