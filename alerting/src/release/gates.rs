//! `Guard`: the bounds on what may be rolled back, over all releases: budgets, cool-down, and the breaker for causes
//! that services have in common.
//!
//! Pure, and filled from what is on disk: an intent is counted from the moment on that it is written down, so two
//! releases of one tick cannot both take the last place.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_model::Timestamp;

use crate::config::RollbackLimits;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Services that turn bad within this time may have a cause in common.
const COMMON_WINDOW: Duration = Duration::from_secs(5 * 60);
/// How long the breaker stays open after the last of them.
const BREAKER_FOR: Duration = Duration::from_secs(30 * 60);
/// A wall clock and a monotonic one that moved apart by more than this between two ticks are not to be trusted.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(2);
/// Nothing is done for this long after that.
const CLOCK_SUSPECT_FOR: Duration = Duration::from_secs(30);

/// A rollback that Davy decided by itself, and that was not withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub at: Timestamp,
    pub service: String,
    pub canary: String,
    /// More may come of it.
    pub open: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Guard {
    limits: RollbackLimits,
    /// Of releases that are over.
    past: Vec<Taken>,
    /// Since when each service has been called bad.
    bad_since: BTreeMap<String, Timestamp>,
    breaker_until: Option<Timestamp>,
    suspect_until: Option<Timestamp>,
}

impl Guard {
    pub fn set_limits(&mut self, limits: RollbackLimits) {
        self.limits = limits;
    }

    /// A release is over that was rolled back.
    pub fn remember(&mut self, now: Timestamp, taken: Taken) {
        self.past.retain(|t| now.since(t.at) < DAY);
        self.past.push(Taken { open: false, ..taken });
    }

    /// Notes whether a service's canary is called bad; several at once trip the breaker.
    pub fn judged(&mut self, now: Timestamp, service: &str, bad: bool) {
        if !bad {
            self.bad_since.remove(service);
            return;
        }
        self.bad_since.entry(service.to_owned()).or_insert(now);
        let lately = self.bad_since.values().filter(|since| now.since(**since) <= COMMON_WINDOW);
        if lately.count() >= self.limits.common_cause_services {
            self.breaker_until = Some(now + BREAKER_FOR);
        }
    }

    /// How far the wall clock and the monotonic clock moved since the last tick.
    pub fn clocks(&mut self, now: Timestamp, wall: Duration, monotonic: Duration) {
        if wall.abs_diff(monotonic) > CLOCK_STEP_MAX {
            self.suspect_until = Some(now + CLOCK_SUSPECT_FOR);
        }
    }

    /// The wall clock went back, or jumped ahead: what it says now is the beginning of the doubt.
    pub fn is_suspect(&self, now: Timestamp) -> bool {
        // A clock that went back by more than the doubt lasts would never end it.
        self.suspect_until.is_some_and(|until| now < until && until.since(now) <= CLOCK_SUSPECT_FOR)
    }

    /// Why nothing may be rolled back by itself now; `others` are the rollbacks of all other releases that run.
    pub fn blocks(&self, now: Timestamp, service: &str, canary: &str, others: &[Taken]) -> Option<String> {
        let all = || self.past.iter().chain(others);
        let within = |window: Duration| all().filter(move |t| now.since(t.at) < window);
        if self.is_suspect(now) {
            return Some("the clock jumped, so what is recent is in doubt".to_owned());
        }
        let RollbackLimits { per_service_per_day, per_hour, at_once, .. } = self.limits;
        if within(HOUR).any(|t| t.service == service && t.canary == canary) {
            return Some(format!("{canary} of {service} was rolled back within the last hour"));
        }
        if within(DAY).filter(|t| t.service == service).count() >= per_service_per_day {
            return Some(format!("{per_service_per_day} rollbacks of {service} within a day are the most"));
        }
        if within(HOUR).count() >= per_hour {
            return Some(format!("{per_hour} rollbacks within an hour are the most"));
        }
        let open = others.iter().filter(|t| t.open).count();
        (open >= at_once).then(|| format!("{at_once} rollbacks under way at once are the most"))
    }

    /// Why a human must approve a rollback now.
    pub fn asks(&self, now: Timestamp) -> Option<String> {
        let open = self.breaker_until.is_some_and(|until| now < until);
        let window = COMMON_WINDOW.as_secs() / 60;
        let services = self.limits.common_cause_services;
        open.then(|| {
            format!(
                "{services} services or more turned bad within {window} minutes: they may have a cause in common"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    fn taken(minute: i64, service: &str, canary: &str) -> Taken {
        Taken { at: at(minute), service: service.into(), canary: canary.into(), open: true }
    }

    #[test]
    fn budgets_are_per_version_service_and_hour() {
        let mut guard = Guard::default();
        assert_eq!(guard.blocks(at(0), "a", "v2", &[]), None);
        guard.remember(at(0), taken(0, "a", "v2"));
        assert!(guard.blocks(at(1), "a", "v2", &[]).unwrap().contains("within the last hour"));
        assert_eq!(guard.blocks(at(60), "a", "v2", &[]), None);
        guard.remember(at(60), taken(60, "a", "v3"));
        assert!(guard.blocks(at(61), "a", "v4", &[]).unwrap().contains("within a day"));
        assert_eq!(guard.blocks(at(61), "b", "v4", &[]), None);
        for service in ["c", "d", "e", "f"] {
            guard.remember(at(61), taken(61, service, "v1"));
        }
        assert!(guard.blocks(at(62), "b", "v4", &[]).unwrap().contains("within an hour"));
        assert_eq!(guard.blocks(at(60 * 25), "a", "v2", &[]), None);
        assert!(
            guard
                .blocks(at(60 * 25), "a", "v2", &[taken(0, "x", "v"), taken(0, "y", "v"), taken(0, "z", "v")])
                .unwrap()
                .contains("at once")
        );
    }

    #[test]
    fn three_services_at_once_trip_the_breaker_and_three_over_a_day_do_not() {
        let mut guard = Guard::default();
        for (minute, service) in [(0, "a"), (20, "b"), (40, "c")] {
            guard.judged(at(minute), service, true);
            assert_eq!(guard.asks(at(minute)), None);
        }
        guard.judged(at(41), "d", true);
        assert_eq!(guard.asks(at(41)), None);
        guard.judged(at(42), "e", true);
        assert!(guard.asks(at(42)).unwrap().contains("in common"));
        for service in ["a", "b", "c", "d", "e"] {
            guard.judged(at(43), service, false);
        }
        assert!(guard.asks(at(71)).is_some());
        assert_eq!(guard.asks(at(73)), None);
    }

    #[test]
    fn a_clock_that_jumps_blocks_for_a_while() {
        let s = Duration::from_secs;
        let mut guard = Guard::default();
        guard.clocks(at(1), s(16), s(15));
        assert_eq!(guard.blocks(at(1), "a", "v2", &[]), None);
        guard.clocks(at(1), s(3600), s(15));
        assert!(guard.blocks(at(1), "a", "v2", &[]).unwrap().contains("clock"));
        assert_eq!(guard.blocks(at(2), "a", "v2", &[]), None);
        // And back: the doubt does not last until the old time is reached again.
        guard.clocks(at(600), s(0), s(15));
        assert_eq!(guard.blocks(at(1), "a", "v2", &[]), None);
    }
}
