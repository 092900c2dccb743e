//! Statistics: is the canary worse than the baseline, and has a series left its usual band?
//!
//! Hop 5 of the pipeline. Pure and without a clock: every function is given the values and `now`.

pub mod config;
mod verdict;

pub use verdict::{Contract, MetricClass, MetricVerdict, Needed, Outcome, Verdict};
