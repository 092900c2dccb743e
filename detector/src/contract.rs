//! `Watch`: can the release be judged at all? Counts how long an arm has not been seen, or has been idle, and holds
//! what [`crate::Observer`] says of the data and [`Split`] of the traffic. Anything but `ok` is neither a pass nor a
//! rollback, and an interval whose data cannot be believed is no evidence.

use crate::interval::Interval;
use crate::judge::words;
use crate::plan::Arm;
use crate::split::Split;
use crate::verdict::Contract;
use crate::vitals::Broken;

/// Intervals without any instance of an arm after which it is missing.
const UNSEEN_MAX: u32 = 2;
/// Intervals without a request in an arm after which it has no traffic.
const IDLE_MAX: u32 = 20;

#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    arms: [ArmWatch; 2],
    /// Whether any metric counts requests.
    counted: bool,
    /// Where a share of the traffic was declared.
    split: Option<Split>,
    /// What is wrong with the present interval's data.
    broken: Option<Broken>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ArmWatch {
    ever_seen: bool,
    unseen: u32,
    idle: u32,
    requests: f64,
}

impl Watch {
    pub(crate) fn declare(&mut self, share: f64) {
        self.split = Some(Split::new(share));
    }

    /// Whether this interval's data can be believed; to be asked before it becomes evidence. `traffic` is what the
    /// arms served if both were seen.
    pub(crate) fn believes(&mut self, broken: Option<&Broken>, traffic: Option<[f64; 2]>) -> bool {
        if let (Some(split), Some(traffic), None) = (&mut self.split, traffic, broken) {
            split.see(traffic);
        }
        let split = self.split.as_ref().filter(|s| s.is_broken());
        let split = || split.map(|s| Broken { contract: Contract::TrafficSplit, why: s.sentence() });
        self.broken = broken.cloned().or_else(split);
        self.broken.is_none()
    }

    /// Requests are counted anew.
    pub(crate) fn begin(&mut self) {
        self.arms.iter_mut().for_each(|a| a.requests = 0.0);
    }

    /// `traffic` is what the baseline and the canary served.
    pub(crate) fn see(&mut self, interval: &Interval, traffic: Option<[f64; 2]>) {
        self.counted = traffic.is_some();
        for (i, arm) in [Arm::Baseline, Arm::Canary].into_iter().enumerate() {
            let watch = &mut self.arms[i];
            if interval.instances.iter().any(|x| x.arm == arm && x.measurements.iter().any(Option::is_some)) {
                (watch.ever_seen, watch.unseen) = (true, 0);
            } else {
                watch.unseen = watch.unseen.saturating_add(1);
            }
            let served = traffic.map_or(0.0, |t| t[i]);
            watch.requests += served;
            watch.idle = if served > 0.0 { 0 } else { watch.idle.saturating_add(1) };
        }
    }

    pub(crate) fn contract(&self, nothing: bool, judged: bool) -> Contract {
        let missing = |a: &ArmWatch| !a.ever_seen || a.unseen >= UNSEEN_MAX;
        let idle = |a: &ArmWatch| self.counted && (a.idle >= IDLE_MAX || a.requests == 0.0);
        let [baseline, canary] = &self.arms;
        if let Some(broken) = self.broken.as_ref().filter(|_| !nothing) {
            return broken.contract;
        }
        match (missing(baseline), missing(canary)) {
            _ if nothing => Contract::NothingToJudge,
            (true, true) => Contract::Blind,
            (false, true) => Contract::CanaryMissing,
            (true, false) => Contract::BaselineMissing,
            (false, false) if !judged => Contract::WarmingUp,
            (false, false) if idle(baseline) || idle(canary) => Contract::NoTraffic,
            (false, false) => Contract::Ok,
        }
    }

    pub(crate) fn canary_requests(&self) -> f64 {
        self.arms[1].requests
    }

    /// Of the two arms' requests; `NaN` without any.
    pub(crate) fn traffic_share(&self) -> f64 {
        self.arms[1].requests / (self.arms[0].requests + self.arms[1].requests)
    }

    /// Why the contract does not hold.
    pub(crate) fn sentence(&self, contract: Contract, interval: &Interval) -> String {
        let down = |arm: Arm| {
            let names: Vec<&str> =
                interval.down.iter().filter(|(a, _)| *a == arm).map(|(_, i)| &**i).take(3).collect();
            if names.is_empty() { String::new() } else { format!(" (scrape fails: {})", names.join(", ")) }
        };
        match contract {
            Contract::CanaryMissing => {
                format!("no instance of the canary is seen{}: held, not failed", down(Arm::Canary))
            }
            Contract::BaselineMissing => {
                format!("no instance of the baseline is seen{}: nothing to compare with", down(Arm::Baseline))
            }
            Contract::Blind => match self.broken.as_ref().filter(|b| b.contract == Contract::Blind) {
                Some(broken) => format!("Davy is blind here: {}", broken.why),
                None => {
                    "neither arm is seen: Davy is blind here, which says nothing of the release".to_owned()
                }
            },
            Contract::NothingToJudge => "no metric of the release is recognised".to_owned(),
            Contract::NoTraffic => {
                let idle = if self.arms[1].requests == 0.0 || self.arms[1].idle >= IDLE_MAX {
                    "canary"
                } else {
                    "baseline"
                };
                format!(
                    "the {idle} has no requests: {} so far",
                    words::count(self.arms[usize::from(idle == "canary")].requests)
                )
            }
            Contract::SameVersion
            | Contract::SelectorEmpty
            | Contract::SelectorAmbiguous
            | Contract::ClockSkew
            | Contract::StaleScrape
            | Contract::CrashLoop
            | Contract::TrafficSplit => {
                self.broken.as_ref().map_or_else(|| contract.as_str().to_owned(), |b| b.why.clone())
            }
            Contract::WarmingUp | Contract::Ok => contract.as_str().to_owned(),
        }
    }
}
