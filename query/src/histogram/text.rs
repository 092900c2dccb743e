//! A histogram as text, as Prometheus writes it into the label of `count_values`.

use std::fmt::{self, Write};

use super::Histo;

impl fmt::Display for Histo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", short(self.count), short(self.sum))?;
        let mut bucket = |open: char, lower: f64, upper: f64, close: char, count: f64| {
            write!(f, ", {open}{},{}{close}:{}", short(lower), short(upper), short(count))
        };
        for b in self.negative.iter().rev().filter(|(_, c)| *c != 0.0) {
            let b = self.negative_bucket(*b);
            bucket('[', b.lower, b.upper, ')', b.count)?;
        }
        if self.zero_count != 0.0 {
            bucket('[', -self.zero_threshold, self.zero_threshold, ']', self.zero_count)?;
        }
        for b in self.positive.iter().filter(|(_, c)| *c != 0.0) {
            let b = self.positive_bucket(*b);
            bucket('(', b.lower, b.upper, ']', b.count)?;
        }
        f.write_char('}')
    }
}

/// Go's `%g`: the shortest digits that are the same number, with an exponent below 1e-4 and from 1e21 on.
pub(crate) fn short(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = v.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{v:e}");
        let (digits, exponent) = text.split_once('e').expect("LowerExp writes an exponent");
        let exponent: i32 = exponent.parse().expect("LowerExp writes an integer exponent");
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    v.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::testing::histo;
    use super::short;

    #[test]
    fn buckets_are_written_with_their_bounds() {
        let mut h = histo(0, &[(1, 2.0), (2, 0.0), (3, 1.0)]);
        h.zero_count = 1.0;
        h.zero_threshold = 0.001;
        h.sum = 7.5;
        assert_eq!(h.to_string(), "{count:3, sum:7.5, [-0.001,0.001]:1, (1,2]:2, (4,8]:1}");
    }

    #[test]
    fn numbers_are_as_short_as_go_has_them() {
        let all = [(1e21, "1e+21"), (1e20, "100000000000000000000"), (1.5e-5, "1.5e-05"), (-0.25, "-0.25")];
        for (v, want) in all {
            assert_eq!(short(v), want);
        }
    }
}
