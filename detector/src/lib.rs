//! Statistics: is the canary worse than the baseline, and has a series left its usual band?
//!
//! Hop 5 of the pipeline. Pure and without a clock: every function is given the values and `now`.

pub mod config;
pub mod threshold;

mod analysis;
mod buckets;
mod calibration;
mod contract;
mod foreign;
mod interval;
mod judge;
mod load;
mod observe;
mod plan;
mod preset;
mod scope;
mod split;
mod verdict;
mod versions;
mod vitals;

pub use analysis::AnalysisRun;
pub use calibration::{Calibration, Noise, split_baseline};
pub use interval::{InstanceInterval, Interval, Measurement};
pub use observe::Observer;
pub use plan::{Arm, Margins, Metric, Plan, Reading, selector};
pub use preset::{Survey, plan_release, survey};
pub use scope::service as service_selectors;
pub use verdict::{Contract, MetricClass, MetricVerdict, Needed, Outcome, Verdict};
pub use versions::{
    Arms, LiveVersion, NotARelease, PUSHED, live_versions, pick_arms, service_of, version_of,
};
pub use vitals::Broken;
