//! A point in time: milliseconds since the Unix epoch, the resolution of Prometheus' data model.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z. Arithmetic saturates, so that hostile times cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const MIN: Self = Self(i64::MIN);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds as they stand in exposition formats and HTTP parameters. `None` for NaN, infinities
    /// and anything beyond the range of milliseconds in an `i64`.
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        let millis = (secs * 1e3).round();
        // 2^63 as f64 is exact; the comparison also refuses NaN.
        (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&millis).then_some(Self(millis as i64))
    }

    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos / 1_000_000) as i64)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The largest multiple of `step` that is not after `self`, counted from the epoch plus `offset`.
    pub fn align_down(self, step: Duration, offset: Duration) -> Self {
        let step = millis(step).max(1);
        let offset = millis(offset) % step;
        Self((self.0.saturating_sub(offset)).div_euclid(step).saturating_mul(step).saturating_add(offset))
    }
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(millis(d)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(millis(d)))
    }
}

/// Seconds with milliseconds, as the exposition formats and the query API write it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, abs) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        match abs % 1000 {
            0 => write!(f, "{sign}{}", abs / 1000),
            ms => write!(f, "{sign}{}.{ms:03}", abs / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_to_milliseconds_and_refuse_the_impossible() {
        assert_eq!(Timestamp::from_secs_f64(1.0005), Some(Timestamp::from_millis(1001)));
        assert_eq!(Timestamp::from_secs_f64(-0.25), Some(Timestamp::from_millis(-250)));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e16, -1e16] {
            assert_eq!(Timestamp::from_secs_f64(bad), None, "{bad}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn aligns_to_a_grid_with_an_offset() {
        let at = |ms| Timestamp::from_millis(ms);
        let (step, offset) = (Duration::from_secs(15), Duration::from_secs(4));
        assert_eq!(at(34_500).align_down(step, offset), at(34_000));
        assert_eq!(at(33_999).align_down(step, offset), at(19_000));
        assert_eq!(at(-1).align_down(step, Duration::ZERO), at(-15_000));
    }

    #[test]
    fn displays_seconds() {
        assert_eq!(Timestamp::from_millis(1_500).to_string(), "1.500");
        assert_eq!(Timestamp::from_millis(-2_000).to_string(), "-2");
    }
}
