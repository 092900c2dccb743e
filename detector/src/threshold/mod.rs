//! Dynamic thresholds: has a series left the band that its own past predicts?
//!
//! The second line of defence: it sees what hits both versions alike, which the comparison cancels out.
//! Hop 5: [`ThresholdSet::evaluate`] reads values from a source, [`Detector::observe`] judges one series.

mod detector;
mod set;

pub use detector::{Detector, DetectorSpec, Observation};
pub use set::{Change, ThresholdSet, Watched};
