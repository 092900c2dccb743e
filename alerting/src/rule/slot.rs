//! When a group is evaluated: at its own places in time, the same after every restart, spread over its interval so
//! that not all groups are evaluated at once.

use std::time::Duration;

use davy_model::Timestamp;

use super::GroupSpec;
use crate::alert::Fnv1a;

/// The group's last place at or before `now`.
pub fn before(spec: &GroupSpec, now: Timestamp) -> Timestamp {
    let mut hash = Fnv1a::default();
    hash.write(spec.file.as_bytes()).write(&[0xff]).write(spec.name.as_bytes());
    let millis = u64::try_from(spec.interval.as_millis()).unwrap_or(u64::MAX).max(1);
    now.align_down(spec.interval, Duration::from_millis(hash.0 % millis))
}

/// The place after `last` that is to be evaluated at `now`, and how many before it were missed because the last
/// evaluation took too long.
pub fn after(last: Timestamp, interval: Duration, now: Timestamp) -> (Timestamp, u64) {
    let interval = interval.max(Duration::from_millis(1));
    let passed = now.since(last).as_millis() / interval.as_millis();
    let missed = u64::try_from(passed.saturating_sub(1)).unwrap_or(u64::MAX);
    let step = u32::try_from(missed.saturating_add(1)).unwrap_or(u32::MAX);
    (last + interval.saturating_mul(step), missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, interval_s: u64) -> GroupSpec {
        GroupSpec {
            file: "rules.yml".into(),
            name: name.into(),
            interval: Duration::from_secs(interval_s),
            query_offset: Duration::ZERO,
            limit: 0,
            rules: Vec::new(),
        }
    }

    #[test]
    fn places_are_an_interval_apart_and_differ_between_groups() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut offsets = std::collections::BTreeSet::new();
        for i in 0..20 {
            let spec = spec(&format!("group {i}"), 60);
            let at = before(&spec, now);
            assert!(at <= now && now < at + spec.interval);
            assert_eq!(before(&spec, at + spec.interval), at + spec.interval);
            assert_eq!(before(&spec, at + Duration::from_millis(59_999)), at);
            offsets.insert(at);
        }
        assert!(offsets.len() > 15, "{offsets:?}");
    }

    #[test]
    fn what_a_slow_evaluation_missed_is_counted_and_not_made_up_for() {
        let at = |s: i64| Timestamp::from_millis(s * 1000);
        let minute = Duration::from_secs(60);
        assert_eq!(after(at(0), minute, at(10)), (at(60), 0));
        assert_eq!(after(at(0), minute, at(60)), (at(60), 0));
        assert_eq!(after(at(0), minute, at(119)), (at(60), 0));
        assert_eq!(after(at(0), minute, at(150)), (at(120), 1));
        assert_eq!(after(at(0), minute, at(615)), (at(600), 9));
        assert_eq!(after(at(100), minute, at(0)), (at(160), 0));
    }
}
