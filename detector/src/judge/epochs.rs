//! `Epochs`: the same process begun again at later times, mixed, so that a regression after hours of health is
//! still seen soon. A mixture of e-processes is one, and a copy that has not begun counts as one.

use super::evidence::log_add;

/// In judged intervals.
const STARTS: [u64; 7] = [0, 40, 80, 160, 320, 640, 960];
const FIRST_WEIGHT: f64 = 0.5;

#[derive(Debug, Clone)]
pub(crate) struct Epochs<P> {
    intervals: u64,
    running: Vec<P>,
}

impl<P> Epochs<P> {
    pub(crate) fn new() -> Self {
        Self { intervals: 0, running: Vec::with_capacity(STARTS.len()) }
    }

    /// One interval: begins the copy that is due, then updates all that run.
    pub(crate) fn advance(&mut self, begin: impl FnOnce() -> P, update: impl FnMut(&mut P)) {
        if STARTS.contains(&self.intervals) && self.running.len() < STARTS.len() {
            self.running.push(begin());
        }
        self.intervals += 1;
        self.running.iter_mut().for_each(update);
    }

    /// The copy that has seen everything.
    pub(crate) fn first(&self) -> Option<&P> {
        self.running.first()
    }

    pub(crate) fn log_mix(&self, log_e: impl Fn(&P) -> f64) -> f64 {
        let rest = (1.0 - FIRST_WEIGHT) / (STARTS.len() - 1) as f64;
        (0..STARTS.len())
            .map(|i| {
                let weight = if i == 0 { FIRST_WEIGHT } else { rest };
                weight.ln() + self.running.get(i).map_or(0.0, &log_e)
            })
            .fold(f64::NEG_INFINITY, log_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_begin_at_their_starts_and_weights_sum_to_one() {
        let mut e = Epochs::new();
        assert!(e.log_mix(|n: &u64| *n as f64).abs() < 1e-12);
        for _ in 0..1000 {
            e.advance(|| 0u64, |n| *n += 1);
        }
        let seen: Vec<u64> = e.running.clone();
        assert_eq!(seen, [1000, 960, 920, 840, 680, 360, 40]);
        assert!(e.log_mix(|_| 0.0).abs() < 1e-12);
    }
}
