//! `Load`: latency at equal load. A busy instance is slower than an idle one of the same version, so where the
//! canary's instances carry more than the baseline's, being slower shows nothing until it is beyond what load alone
//! may do; where they carry less, the comparison flatters it, and the sentence says so.
//!
//! What load may do is taken to be no more than the ratio of the loads: a queue that is two thirds full at most
//! stretches its times by less than that. How it fails: near saturation load alone does more; such a canary is then
//! called slow, which it is.

use crate::foreign;
use crate::interval::{Interval, Measurement};
use crate::judge::{Row, words};
use crate::plan::{Arm, Metric, Reading};

/// Loads of an instance within this factor of each other are equal.
const COMPARABLE: f64 = 1.5;

/// Requests and time of the instances behind one latency metric.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    arms: [(f64, f64); 2],
    /// Whether an instance is one of the service's, and not of an ingress before all of them.
    is_known: bool,
}

impl Load {
    pub(crate) fn new(metric: &Metric) -> Self {
        let edge = match &metric.reading {
            Reading::Buckets { series, .. } | Reading::NativeHistogram { series, .. } => {
                foreign::reporter_of(series).is_some_and(|r| r.is_edge)
            }
            _ => false,
        };
        Self { arms: [(0.0, 0.0); 2], is_known: !edge }
    }

    pub(crate) fn see(&mut self, interval: &Interval, metric: usize) {
        for i in &interval.instances {
            let Some(Some(m @ Measurement::Buckets(counts))) = i.measurements.get(metric) else { continue };
            if m.is_sound() && i.seconds.is_finite() && i.seconds > 0.0 {
                let (requests, seconds) = &mut self.arms[usize::from(i.arm == Arm::Canary)];
                *requests += counts.iter().sum::<f64>();
                *seconds += i.seconds;
            }
        }
    }

    /// How many times the load of a baseline's instance one of the canary carries.
    fn ratio(&self) -> Option<f64> {
        let [(nb, sb), (nc, sc)] = self.arms;
        let ratio = (nc / sc) / (nb / sb);
        (self.is_known && ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    /// Takes back what load alone may have done.
    pub(crate) fn temper(&self, row: &mut Row<'_>) {
        let Some(ratio) = self.ratio().filter(|r| *r > COMPARABLE || *r < 1.0 / COMPARABLE) else { return };
        let (busier, times) = if ratio > 1.0 { ("canary", ratio) } else { ("baseline", 1.0 / ratio) };
        row.text.push_str(&format!(
            ", while an instance of the {busier} carries {} times the load",
            words::number(times)
        ));
        let beyond_load = row.levels.lower > ratio - 1.0;
        if ratio > 1.0 && !beyond_load {
            row.worse = row.worse.min(0.0);
        }
    }
}
