//! `Level`: is the canary's level of a resource higher? One mean log value an instance.
//!
//! CPU is the ratio of totals, seconds over requests, so that unequal load cancels and the interval of a missed
//! scrape is counted once on both sides. Part of a process's cost does not come with requests, so at unequal
//! load cost per request flatters the busier arm and cost alone the idler one: the truth lies between, and the
//! evidence is taken at the end that speaks against it.

use crate::plan::Arm;

use super::clusters::Clusters;
use super::cold::persistent;
use super::evidence::EFFECTS;

/// Values an instance must have shown.
const VALUES_MIN: f64 = 4.0;
/// Intervals before which there is no evidence for anything.
const INTERVALS_MIN: u64 = 8;
/// Requests that every instance must have served before cost is taken per request.
const REQUESTS_MIN: f64 = 200.0;
/// Less CPU than this is a few ticks of the clock.
const CPU_SECONDS_MIN: f64 = 0.05;
/// The prior variance is this much more while few intervals have been seen.
const YOUNG_VARIANCE: f64 = 4.0;
const YOUNG_INTERVALS: f64 = 20.0;
/// Standard deviation of what a cold start does to log use.
const COLD_SD: f64 = 0.4;

/// What one instance shows in one interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    /// Cores, or bytes.
    pub(crate) value: f64,
    /// Of the value, taken once for all that need it.
    pub(crate) log: f64,
    /// Time that the value and the requests cover.
    pub(crate) seconds: f64,
    /// `None` where requests are not known.
    pub(crate) requests: Option<f64>,
}

impl Use {
    /// Two instances that share a slot: the mean instance.
    pub(crate) fn merged(self, other: &Self) -> Self {
        let value = (self.value + other.value) / 2.0;
        Self {
            value,
            log: value.ln(),
            seconds: self.seconds.max(other.seconds),
            requests: self.requests.zip(other.requests).map(|(a, b)| (a + b) / 2.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mean {
    /// Of log values, each the same weight: memory.
    Logs,
    /// Log of the total over the time covered: CPU.
    Totals,
}

#[derive(Debug, Clone)]
pub(crate) struct Level {
    mean: Mean,
    /// Variance between equal instances, and how many it is worth.
    prior: (f64, f64),
    intervals: u64,
    slots: Vec<Slot>,
    /// As of the last interval: several ask for it.
    standing: Standing,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    values: f64,
    logs: f64,
    total: f64,
    seconds: f64,
    requests: f64,
    /// The mean's log once there are values enough, and of CPU that of the cost of a request.
    log: Option<f64>,
    log_cost: f64,
}

/// The level of the arms, ready to be asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    /// Log values: per request where `per_request`.
    pub(crate) clusters: Clusters,
    pub(crate) per_request: bool,
    /// Log of how many times the canary's load an instance is the baseline's; `NaN` where requests are not known.
    pub(crate) load: f64,
    /// The least and the greatest difference that the loads leave open.
    pub(crate) least: f64,
    pub(crate) greatest: f64,
    /// Of the difference, and the same once the prior for few intervals has faded.
    pub(crate) variance: f64,
    pub(crate) settled_variance: f64,
    intervals: u64,
}

impl Level {
    pub(crate) fn new(mean: Mean, prior: (f64, f64)) -> Self {
        Self { mean, prior, intervals: 0, slots: Vec::new(), standing: Standing::default() }
    }

    pub(crate) fn update(&mut self, arms: &[Arm], uses: &[Option<Use>]) {
        self.intervals += 1;
        self.slots.resize(arms.len(), Slot::default());
        for (slot, u) in self.slots.iter_mut().zip(uses) {
            if let Some(u) = u {
                slot.add(u, self.mean);
            }
        }
        self.standing = self.stand(arms);
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    fn stand(&self, arms: &[Arm]) -> Standing {
        let mut served_least = f64::INFINITY;
        // Requests and seconds of the baseline's and of the canary's instances.
        let mut of = [(0.0, 0.0); 2];
        for (arm, slot) in arms.iter().zip(&self.slots) {
            if slot.log.is_some() {
                served_least = served_least.min(slot.requests);
                let (requests, seconds) = &mut of[*arm as usize];
                *requests += slot.requests;
                *seconds += slot.seconds;
            }
        }
        let per_request =
            self.mean == Mean::Totals && served_least.is_finite() && served_least >= REQUESTS_MIN;
        let load = self.load(of);
        let log = |i: usize| self.slots.get(i)?.log;
        let clusters = Clusters::of(arms, |i| {
            let log = log(i)?;
            Some(if per_request { self.slots[i].log_cost } else { log })
        });
        let d = clusters.difference();
        let other = match (load.is_nan(), per_request) {
            (true, _) => d,
            // Not by the totals' load: an arm that was idle while it had most instances weighs otherwise in them.
            (false, true) => Clusters::of(arms, log).difference(),
            (false, false) => d + load,
        };
        let pooled = |young: f64| {
            clusters.pooled(clusters.variance, clusters.degrees(), (self.prior.0 * young, self.prior.1))
        };
        Standing {
            clusters,
            per_request,
            load,
            least: d.min(other),
            greatest: d.max(other),
            variance: pooled(young(self.intervals as f64)),
            settled_variance: pooled(1.0),
            intervals: self.intervals,
        }
    }

    fn load(&self, [(nb, sb), (nc, sc)]: [(f64, f64); 2]) -> f64 {
        if self.mean == Mean::Totals && nb + nc > 0.0 { (nb / sb / (nc / sc)).ln() } else { f64::NAN }
    }
}

impl Slot {
    fn add(&mut self, u: &Use, mean: Mean) {
        self.values += 1.0;
        self.total += u.value * u.seconds;
        self.seconds += u.seconds;
        self.requests += u.requests.unwrap_or(0.0);
        if mean == Mean::Logs && u.value > 0.0 {
            self.logs += u.log;
        }
        if self.values < VALUES_MIN {
            return;
        }
        match mean {
            Mean::Logs => self.log = Some(self.logs / self.values),
            Mean::Totals if self.total >= CPU_SECONDS_MIN => {
                self.log = Some((self.total / self.seconds).ln());
                self.log_cost = (self.total / self.requests).ln();
            }
            Mean::Totals => {}
        }
    }
}

/// Factor of the prior's variance while few intervals have been seen.
fn young(intervals: f64) -> f64 {
    1.0 + YOUNG_VARIANCE * (YOUNG_INTERVALS / intervals.max(1.0)).min(1.0)
}

impl Standing {
    pub(crate) fn worse(&self, margin: f64) -> f64 {
        self.ripe(self.clusters.log_e(self.least - margin, self.variance, EFFECTS))
    }

    /// Log evidence of being higher from the start, a cold start considered; this is the standing since.
    pub(crate) fn persistent(&self, warm: &Self, whole: &Self, margin: f64) -> f64 {
        let estimate = |s: &Self| s.clusters.both().then_some((s.least - margin, s.variance));
        persistent(whole.worse(margin), self.worse(margin), estimate(warm), estimate(self), COLD_SD)
    }

    pub(crate) fn no_worse(&self, margin: f64) -> f64 {
        self.ripe(self.clusters.log_e(margin - self.greatest, self.variance, EFFECTS))
    }

    /// The variance when `factor` times as many intervals have been seen.
    pub(crate) fn variance_after(&self, factor: f64) -> f64 {
        let t = self.intervals as f64;
        let slope = (self.variance - self.settled_variance) / (young(t) - 1.0);
        self.settled_variance + slope * (young(t * factor) - 1.0)
    }

    /// Factor on the intervals so far from which there can be evidence.
    pub(crate) fn ripe_after(&self) -> f64 {
        (INTERVALS_MIN + 1) as f64 / self.intervals.max(1) as f64
    }

    fn ripe(&self, log_e: f64) -> f64 {
        if self.intervals <= INTERVALS_MIN { log_e.min(0.0) } else { log_e }
    }
}
