//! Sums, differences and multiples of histograms, and whether one began anew.

use super::{Histo, Mismatch, exponential_bound};

impl Histo {
    pub(crate) fn scale(&mut self, factor: f64) {
        self.each(|c| *c *= factor);
    }

    /// A division by zero leaves no buckets.
    pub(crate) fn divide(&mut self, by: f64) {
        self.each(|c| *c /= by);
        if by == 0.0 {
            self.positive.clear();
            self.negative.clear();
        }
    }

    fn each(&mut self, mut f: impl FnMut(&mut f64)) {
        f(&mut self.zero_count);
        f(&mut self.count);
        f(&mut self.sum);
        self.positive.iter_mut().chain(&mut self.negative).for_each(|(_, c)| f(c));
    }

    /// A gauge and anything is a gauge.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), Mismatch> {
        self.combine(other, 1.0)?;
        self.gauge |= other.gauge;
        Ok(())
    }

    pub(crate) fn subtract(&mut self, other: &Self) -> Result<(), Mismatch> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Self, sign: f64) -> Result<(), Mismatch> {
        self.check(other)?;
        if self.is_custom() {
            self.positive = merge(&self.positive, &other.positive, sign);
        } else {
            let zero_count = self.reconcile_zero(other);
            self.zero_count += sign * zero_count;
            let schema = self.schema.min(other.schema);
            self.reduce(schema);
            let threshold = self.zero_threshold;
            // What lies within the wider zero bucket was counted there.
            let outside = |of: &[(i32, f64)]| {
                let mut of = reduced(of, other.schema, schema);
                let inside =
                    of.iter().take_while(|(i, _)| exponential_bound(*i, schema) <= threshold).count();
                of.drain(..inside);
                of
            };
            self.positive = merge(&self.positive, &outside(&other.positive), sign);
            self.negative = merge(&self.negative, &outside(&other.negative), sign);
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        Ok(())
    }

    fn check(&self, other: &Self) -> Result<(), Mismatch> {
        if self.is_custom() != other.is_custom() {
            return Err(Mismatch::Schema);
        }
        if self.is_custom() && self.bounds != other.bounds {
            return Err(Mismatch::Bounds);
        }
        Ok(())
    }

    /// To a schema that is no finer.
    pub(crate) fn reduce(&mut self, schema: i32) {
        if schema < self.schema {
            self.positive = reduced(&self.positive, self.schema, schema);
            self.negative = reduced(&self.negative, self.schema, schema);
            self.schema = schema;
        }
    }

    /// Widens the own zero bucket until both have the same; gives what the other would hold in it.
    fn reconcile_zero(&mut self, other: &Self) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                (count, threshold) = other.zero_count_within(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                (self.zero_count, self.zero_threshold) = self.zero_count_within(threshold);
                self.trim_to_zero_bucket();
            }
            if threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        count
    }

    /// What a wider zero bucket would hold, and its threshold, moved outwards so that it divides no populated bucket.
    fn zero_count_within(&self, mut threshold: f64) -> (f64, f64) {
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        'anew: loop {
            let mut count = self.zero_count;
            for b in &self.positive {
                let b = self.positive_bucket(*b);
                if b.lower >= threshold {
                    break;
                }
                count += b.count;
                if b.upper > threshold {
                    if b.count != 0.0 {
                        threshold = b.upper;
                    }
                    break;
                }
            }
            for b in &self.negative {
                let b = self.negative_bucket(*b);
                if b.upper <= -threshold {
                    break;
                }
                count += b.count;
                if b.lower < -threshold {
                    if b.count != 0.0 {
                        threshold = -b.lower;
                        continue 'anew;
                    }
                    break;
                }
            }
            return (count, threshold);
        }
    }

    fn trim_to_zero_bucket(&mut self) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let outside = |(i, _): &(i32, f64)| exponential_bound(i.saturating_sub(1), schema) >= threshold;
        self.positive.retain(outside);
        self.negative.retain(outside);
        self.compact();
    }

    /// Whether it must have begun anew since `before`: some count fell, or its layout became finer.
    pub(crate) fn is_reset_since(&self, before: &Self) -> bool {
        if self.count < before.count || self.check(before).is_err() {
            return true;
        }
        if self.is_custom() {
            return fell(&self.positive, &before.positive);
        }
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return true;
        }
        let (zero_count, threshold) = before.zero_count_within(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let outside = |of: &[(i32, f64)], schema| {
            let mut of = reduced(of, schema, self.schema);
            of.retain(|(i, _)| threshold == 0.0 || exponential_bound(*i, self.schema) > threshold);
            of
        };
        let sides = [(&self.positive, &before.positive), (&self.negative, &before.negative)];
        sides.iter().any(|(now, was)| fell(&outside(now, self.schema), &outside(was, before.schema)))
    }

    /// What was gained between the first and the last of several, which for counters may have begun anew in between.
    /// The result is a gauge.
    pub(crate) fn gained(all: &[&Self], is_counter: bool) -> Result<Self, Mismatch> {
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return Err(Mismatch::Schema) };
        let anew;
        let mut before: &Self = first;
        if is_counter && all.get(1).is_some_and(|second| second.is_reset_since(first)) {
            // Its layout does not matter, since nothing of it is left.
            anew = Self::empty_like(all[1]);
            before = &anew;
        }
        if last.is_custom() != before.is_custom() {
            return Err(Mismatch::Schema);
        }
        let mut schema = before.schema.min(last.schema);
        if is_counter {
            for h in &all[1..all.len() - 1] {
                if h.is_custom() != last.is_custom() {
                    return Err(Mismatch::Schema);
                }
                schema = schema.min(h.schema);
            }
        }
        let mut gained = (*last).clone();
        gained.reduce(schema);
        gained.subtract(before)?;
        if is_counter {
            for h in &all[1..] {
                if h.is_reset_since(before) {
                    gained.add(before)?;
                }
                before = h;
            }
        }
        gained.gauge = true;
        gained.compact();
        Ok(gained)
    }

    /// Their mean, one after the other, as Prometheus does.
    pub(crate) fn mean_with(&mut self, next: &Self, count: f64) -> Result<(), Mismatch> {
        let mut left = next.clone();
        left.divide(count);
        let mut right = self.clone();
        right.divide(count);
        left.subtract(&right)?;
        self.add(&left)
    }
}

/// Buckets of a finer schema in a coarser one.
fn reduced(buckets: &[(i32, f64)], from: i32, to: i32) -> Vec<(i32, f64)> {
    if to >= from {
        return buckets.to_vec();
    }
    let mut out: Vec<(i32, f64)> = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        let index = ((index.saturating_sub(1)) >> (from - to)) + 1;
        match out.last_mut() {
            Some((i, c)) if *i == index => *c += count,
            _ => out.push((index, *count)),
        }
    }
    out
}

fn merge(a: &[(i32, f64)], b: &[(i32, f64)], sign: f64) -> Vec<(i32, f64)> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some((i, c)), Some((j, d))) if i == j => {
                out.push((*i, c + sign * d));
                a.next();
                b.next();
            }
            (Some((i, c)), Some((j, _))) if i < j => {
                out.push((*i, *c));
                a.next();
            }
            (_, Some((j, d))) => {
                out.push((*j, sign * d));
                b.next();
            }
            (Some((i, c)), None) => {
                out.push((*i, *c));
                a.next();
            }
            (None, None) => return out,
        }
    }
}

/// Whether any count that was is now less.
fn fell(now: &[(i32, f64)], was: &[(i32, f64)]) -> bool {
    let mut now = now.iter().peekable();
    was.iter().any(|(index, count)| {
        while now.peek().is_some_and(|(i, _)| i < index) {
            now.next();
        }
        let have = now.peek().filter(|(i, _)| i == index).map_or(0.0, |(_, c)| *c);
        have < *count
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::histo;
    use super::*;

    #[test]
    fn finer_buckets_meet_at_the_coarser_schema() {
        let mut fine = histo(1, &[(1, 1.0), (2, 2.0), (3, 4.0)]); // (1, √2], (√2, 2], (2, 2√2]
        fine.add(&histo(0, &[(1, 10.0)])).unwrap(); // (1, 2]
        assert_eq!((fine.schema, fine.positive.clone(), fine.count), (0, vec![(1, 13.0), (2, 4.0)], 17.0));
    }

    #[test]
    fn the_wider_zero_bucket_swallows_what_it_covers() {
        let mut narrow = histo(0, &[(-2, 3.0), (1, 5.0)]); // (1/8, 1/4], (1, 2]
        let mut wide = histo(0, &[(2, 7.0)]);
        wide.zero_threshold = 0.2;
        wide.zero_count = 1.0;
        narrow.add(&wide).unwrap();
        // 0.2 lies within a populated bucket, so the zero bucket grows to its end.
        assert_eq!((narrow.zero_threshold, narrow.zero_count), (0.25, 4.0));
        assert_eq!(narrow.positive, [(1, 5.0), (2, 7.0)]);
    }

    #[test]
    fn gains_survive_a_restart_and_a_change_of_schema() {
        let all = [
            histo(2, &[(1, 10.0), (2, 10.0)]),
            histo(2, &[(1, 12.0), (2, 15.0)]),
            histo(1, &[(1, 3.0)]), // began anew, coarser
            histo(1, &[(1, 5.0), (2, 1.0)]),
        ];
        let refs: Vec<&Histo> = all.iter().collect();
        let gained = Histo::gained(&refs, true).unwrap();
        assert_eq!((gained.schema, gained.positive, gained.count), (1, vec![(1, 12.0), (2, 1.0)], 13.0));
    }

    #[test]
    fn custom_and_exponential_do_not_mix() {
        let mut custom = histo(-53, &[(0, 1.0)]);
        custom.bounds = vec![1.0];
        assert_eq!(custom.clone().add(&histo(0, &[])), Err(Mismatch::Schema));
        let mut other = custom.clone();
        other.bounds = vec![2.0];
        assert_eq!(custom.add(&other), Err(Mismatch::Bounds));
    }
}
