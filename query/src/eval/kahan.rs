//! Sums that keep what rounding loses. Source: Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation
//! endlicher Summen", 1974; the same improvement of Kahan's sum that Prometheus uses.

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Kahan {
    pub sum: f64,
    pub lost: f64,
}

impl Kahan {
    #[inline]
    pub(crate) fn add(&mut self, v: f64) {
        let sum = self.sum + v;
        if sum.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= v.abs() {
            self.lost += (self.sum - sum) + v;
        } else {
            self.lost += (v - sum) + self.sum;
        }
        self.sum = sum;
    }

    #[inline]
    pub(crate) fn total(self) -> f64 {
        self.sum + self.lost
    }
}

/// A mean that does not overflow where the sum would.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mean {
    kahan: Kahan,
    count: f64,
    /// From here on `kahan` holds the mean itself.
    incremental: bool,
}

impl Mean {
    #[inline]
    pub(crate) fn add(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.kahan = Kahan { sum: v, lost: 0.0 };
            return;
        }
        if !self.incremental {
            let mut next = self.kahan;
            next.add(v);
            if !next.sum.is_infinite() {
                self.kahan = next;
                return;
            }
            self.incremental = true;
            self.kahan.sum /= self.count - 1.0;
            self.kahan.lost /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        self.kahan.sum *= q;
        self.kahan.lost *= q;
        let mut next = Kahan { sum: self.kahan.sum, lost: self.kahan.lost };
        next.add(v / self.count);
        self.kahan = next;
    }

    pub(crate) fn value(self) -> f64 {
        if self.incremental {
            self.kahan.total()
        } else {
            self.kahan.sum / self.count + self.kahan.lost / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounding_loses_is_kept() {
        let mut k = Kahan::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|v| k.add(v));
        assert_eq!(k.total(), 2.0);
    }

    #[test]
    fn means_do_not_overflow() {
        let mut m = Mean::default();
        [f64::MAX, f64::MAX, f64::MAX].into_iter().for_each(|v| m.add(v));
        assert!((m.value() / f64::MAX - 1.0).abs() < 1e-12);
        let mut m = Mean::default();
        [f64::INFINITY, 1.0].into_iter().for_each(|v| m.add(v));
        assert_eq!(m.value(), f64::INFINITY);
    }
}
