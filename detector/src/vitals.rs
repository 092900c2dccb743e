//! `Vitals`: can what is read of the arms be believed? Watches, instance by instance, whether samples come, come in
//! time, move, and go on counting.
//!
//! A single odd interval says nothing; every state needs several and ends with the first good ones. What delays both
//! arms alike can be judged. After a restart late samples are no longer late, so a skewed clock is only seen live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use davy_model::Timestamp;

use crate::plan::Arm;
use crate::verdict::Contract;

/// Intervals, or arrivals of late samples, after which a state is believed.
const SAMPLES_LATE: u32 = 3;
const INTERVALS_STALLED: u32 = 4;
const INTERVALS_FROZEN: u32 = 4;
const INTERVALS_AHEAD: u32 = 3;
/// Samples this far ahead of the last sign of life were stamped by another clock; also at least two intervals.
const AHEAD_MIN: Duration = Duration::from_secs(30);
/// An instance that begins anew this often within this time is in a crash loop.
const RESETS_OF_A_LOOP: u32 = 3;
const RESETS_WITHIN: Duration = Duration::from_secs(10 * 60);
/// Share of an arm's instances that must show a state for the arm to have it.
const SHARE_OF_DATA: f64 = 0.5;
const SHARE_OF_LOOPS: f64 = 0.2;
/// Instances that are remembered while they are not seen.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 60);

/// A contract that does not hold, in a sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    pub contract: Contract,
    pub why: String,
}

/// What was read of one instance in one interval.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sign {
    /// It is scraped and does not push, and its last scrape in the interval succeeded: every series has a sample.
    pub(crate) scraped: bool,
    /// Newest sample of what is judged, up to the interval's end.
    pub(crate) newest: Option<Timestamp>,
    /// How far samples lie ahead of the last sign of life.
    pub(crate) ahead: Duration,
    /// Times that its counters began anew.
    pub(crate) resets: u32,
    /// What its counters gained together, and its CPU; `None` where there is no such counter.
    pub(crate) gained: Option<f64>,
    pub(crate) cpu: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Vitals {
    instances: BTreeMap<(Arm, Arc<str>), Instance>,
}

#[derive(Debug, Clone)]
struct Instance {
    seen: Timestamp,
    newest: Option<Timestamp>,
    late: u32,
    late_by: Duration,
    stalled: u32,
    frozen: u32,
    ahead: u32,
    ahead_by: Duration,
    resets: Vec<(Timestamp, u32)>,
}

impl Vitals {
    pub(crate) fn see(&mut self, start: Timestamp, end: Timestamp, signs: &BTreeMap<(Arm, Arc<str>), Sign>) {
        for (key, sign) in signs {
            let instance = self.instances.entry(key.clone()).or_insert_with(|| Instance {
                seen: end,
                newest: None,
                late: 0,
                late_by: Duration::ZERO,
                stalled: 0,
                frozen: 0,
                ahead: 0,
                ahead_by: Duration::ZERO,
                resets: Vec::new(),
            });
            instance.see(start, end, sign);
        }
        self.instances.retain(|_, i| i.seen + FORGOTTEN_AFTER >= end);
    }

    /// The worst that is believed of an arm, the canary's first.
    pub(crate) fn broken(&self, end: Timestamp) -> Option<Broken> {
        [Arm::Canary, Arm::Baseline].into_iter().find_map(|arm| self.broken_arm(arm, end))
    }

    fn broken_arm(&self, arm: Arm, end: Timestamp) -> Option<Broken> {
        let of: Vec<(&str, &Instance)> = self
            .instances
            .iter()
            .filter(|((a, _), i)| *a == arm && i.seen == end)
            .map(|((_, name), i)| (&**name, i))
            .collect();
        let side = arm;
        let arm = match arm {
            Arm::Baseline => "the baseline",
            Arm::Canary => "the canary",
        };
        let show = |share: f64, state: &dyn Fn(&Instance) -> bool| -> Option<Vec<(&str, &Instance)>> {
            let found: Vec<_> = of.iter().filter(|(_, i)| state(i)).copied().collect();
            (!found.is_empty() && found.len() as f64 >= share * of.len() as f64).then_some(found)
        };
        let other_is = |state: &dyn Fn(&Instance) -> bool| {
            self.instances.iter().any(|((a, _), i)| *a != side && i.seen == end && state(i))
        };
        let names = |found: &[(&str, &Instance)]| {
            let names: Vec<&str> = found.iter().take(3).map(|(n, _)| *n).filter(|n| !n.is_empty()).collect();
            if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
        };
        if let Some(found) = show(SHARE_OF_LOOPS, &|i| i.resets_until(end) >= RESETS_OF_A_LOOP) {
            let most = found.iter().map(|(_, i)| i.resets_until(end)).max().unwrap_or(0);
            let why = format!(
                "{arm} is in a crash loop: counters of an instance began anew {most} times within 10 min{}: \
                 held, not judged",
                names(&found)
            );
            return Some(Broken { contract: Contract::CrashLoop, why });
        }
        let late = |i: &Instance| i.late >= SAMPLES_LATE;
        if let Some(found) = show(SHARE_OF_DATA, &late).filter(|_| !other_is(&late)) {
            let by = found.iter().map(|(_, i)| i.late_by.as_secs()).max().unwrap_or(0);
            let why = format!("samples of {arm} are stamped {by} s behind Davy's clock{}", names(&found));
            return Some(Broken { contract: Contract::ClockSkew, why });
        }
        let ahead = |i: &Instance| i.ahead >= INTERVALS_AHEAD;
        if let Some(found) = show(SHARE_OF_DATA, &ahead).filter(|_| !other_is(&ahead)) {
            let by = found.iter().map(|(_, i)| i.ahead_by.as_secs()).max().unwrap_or(0);
            let why = format!("samples of {arm} are stamped {by} s ahead of Davy's clock{}", names(&found));
            return Some(Broken { contract: Contract::ClockSkew, why });
        }
        if let Some(found) = show(SHARE_OF_DATA, &|i| i.stalled >= INTERVALS_STALLED) {
            let why = format!("scrapes of {arm} succeed and bring no new sample{}", names(&found));
            return Some(Broken { contract: Contract::StaleScrape, why });
        }
        let found = show(SHARE_OF_DATA, &|i| i.frozen >= INTERVALS_FROZEN)?;
        let why = format!(
            "scrapes of {arm} repeat the same values, CPU time too{}: something between serves an old answer",
            names(&found)
        );
        Some(Broken { contract: Contract::StaleScrape, why })
    }
}

impl Instance {
    fn see(&mut self, start: Timestamp, end: Timestamp, sign: &Sign) {
        self.seen = end;
        if sign.resets > 0 {
            self.resets.push((end, sign.resets));
        }
        self.resets.retain(|(at, _)| *at + RESETS_WITHIN >= end);
        let came = sign.newest.is_some() && sign.newest > self.newest;
        let in_time = sign.newest.is_some_and(|at| at > start);
        if in_time {
            (self.late, self.stalled) = (0, 0);
        } else if came && self.newest.is_some() {
            self.late = self.late.saturating_add(1);
            self.late_by = sign.newest.map_or(Duration::ZERO, |at| end.since(at));
            self.stalled = 0;
        } else if sign.scraped && sign.newest.is_some() {
            self.stalled = self.stalled.saturating_add(1);
        }
        self.newest = self.newest.max(sign.newest);
        // Whoever answers a scrape uses some CPU; in silence nothing else can be told from standing still.
        let still = in_time && sign.scraped && sign.cpu == Some(0.0) && sign.gained.unwrap_or(0.0) == 0.0;
        self.frozen = if still { self.frozen.saturating_add(1) } else { 0 };
        let far = AHEAD_MIN.max(end.since(start) * 2);
        self.ahead = if sign.ahead >= far { self.ahead.saturating_add(1) } else { 0 };
        self.ahead_by = sign.ahead;
    }

    fn resets_until(&self, end: Timestamp) -> u32 {
        self.resets.iter().filter(|(at, _)| *at + RESETS_WITHIN >= end).map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    /// Interval after interval of 15 s, one sign for each instance of the canary.
    fn watch(intervals: i64, sign: impl Fn(i64) -> Vec<Sign>) -> Vec<Option<Broken>> {
        let mut vitals = Vitals::default();
        (0..intervals)
            .map(|t| {
                let signs = sign(t).into_iter().enumerate();
                let signs = signs.map(|(i, s)| ((Arm::Canary, Arc::from(format!("c{i}"))), s)).collect();
                vitals.see(at(t * 15), at(t * 15 + 15), &signs);
                vitals.broken(at(t * 15 + 15))
            })
            .collect()
    }

    fn healthy(t: i64) -> Sign {
        Sign {
            scraped: true,
            newest: Some(at(t * 15 + 9)),
            gained: Some(30.0),
            cpu: Some(0.1),
            ..Sign::default()
        }
    }

    fn contract(broken: &Option<Broken>) -> Contract {
        broken.as_ref().map_or(Contract::Ok, |b| b.contract)
    }

    #[test]
    fn a_healthy_arm_and_a_blip_are_not_broken() {
        let blip = |t: i64| {
            let stalled = Sign { newest: Some(at(9)), ..healthy(t) };
            vec![if t == 5 { Sign { resets: 1, ..stalled } } else { healthy(t) }]
        };
        assert!(watch(20, blip).iter().all(Option::is_none));
        assert!(watch(20, |t| vec![healthy(t)]).iter().all(Option::is_none));
    }

    #[test]
    fn late_and_early_samples_are_another_clocks() {
        let skewed = |t: i64| {
            vec![if t < 12 { Sign { newest: Some(at(t * 15 - 51)), ..healthy(t) } } else { healthy(t) }]
        };
        let seen = watch(20, skewed);
        assert_eq!(contract(&seen[2]), Contract::Ok);
        let why = &seen[8].as_ref().unwrap().why;
        assert_eq!(why, "samples of the canary are stamped 66 s behind Davy's clock (c0)");
        assert_eq!(contract(&seen[12]), Contract::Ok, "it passes as soon as samples are in time");
        let ahead = |t: i64| vec![Sign { ahead: Duration::from_secs(90), ..healthy(t) }];
        let seen = watch(5, ahead);
        assert_eq!((contract(&seen[1]), contract(&seen[2])), (Contract::Ok, Contract::ClockSkew));
        assert!(seen[2].as_ref().unwrap().why.contains("90 s ahead"));
    }

    #[test]
    fn scrapes_without_new_samples_or_with_old_values_are_stale() {
        let seen = watch(12, |t| vec![Sign { newest: Some(at(9)), ..healthy(t) }]);
        assert_eq!((contract(&seen[3]), contract(&seen[5])), (Contract::Ok, Contract::StaleScrape));
        let still = |t: i64| Sign { gained: Some(0.0), cpu: Some(0.0), ..healthy(t) };
        let seen = watch(12, |t| vec![if t < 8 { still(t) } else { healthy(t) }]);
        assert_eq!((contract(&seen[2]), contract(&seen[4])), (Contract::Ok, Contract::StaleScrape));
        assert_eq!(contract(&seen[8]), Contract::Ok);
        // Who pushes rests between two events, and a service without requests still uses CPU.
        let resting = watch(12, |t| vec![Sign { newest: Some(at(9)), scraped: false, ..healthy(t) }]);
        assert!(resting.iter().all(Option::is_none));
        let idle = watch(12, |t| vec![Sign { gained: Some(0.0), ..healthy(t) }]);
        assert!(idle.iter().all(Option::is_none));
    }

    #[test]
    fn restarts_again_and_again_are_a_crash_loop_until_they_stop() {
        let looping = |t: i64| vec![Sign { resets: u32::from(t % 4 == 3 && t < 16), ..healthy(t) }];
        let seen = watch(70, looping);
        assert_eq!((contract(&seen[10]), contract(&seen[11])), (Contract::Ok, Contract::CrashLoop));
        assert_eq!(contract(&seen[69]), Contract::Ok);
        let one_each = |t: i64| (0..5).map(|i| Sign { resets: u32::from(t == i), ..healthy(t) }).collect();
        assert!(watch(20, one_each).iter().all(Option::is_none), "a rolling restart is none");
    }
}
