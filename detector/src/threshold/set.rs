//! `ThresholdSet`: the detectors of one entry of `thresholds`, one a series that its query gives.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_model::{Labels, Timestamp};
use davy_query::{Engine, EvalError, Source};

use super::detector::{Detector, DetectorSpec, Observation};
use crate::config::ThresholdSpec;

/// Series of one entry; further ones are not watched, and counted.
const SERIES_MAX: usize = 10_000;
/// A series that has not been seen for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// A series that has not been seen for this long has left its anomaly as well.
const GONE_AFTER: Duration = Duration::from_secs(15 * 60);

/// An anomaly that began or ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub labels: Labels,
    pub observation: Observation,
    /// `true` when it began.
    pub began: bool,
}

/// A series as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched<'a> {
    pub labels: &'a Labels,
    pub observation: Observation,
}

#[derive(Debug, Clone)]
pub struct ThresholdSet {
    spec: ThresholdSpec,
    detector: DetectorSpec,
    series: BTreeMap<Labels, Entry>,
    refused: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    detector: Detector,
    last: Observation,
    seen_at: Timestamp,
    open: bool,
}

impl ThresholdSet {
    pub fn new(spec: ThresholdSpec) -> Self {
        let detector = DetectorSpec {
            sensitivity: spec.sensitivity,
            direction: spec.direction,
            hold: spec.hold,
            effect_min: spec.effect_min,
            season: spec.season,
        };
        Self { spec, detector, series: BTreeMap::new(), refused: 0 }
    }

    pub fn spec(&self) -> &ThresholdSpec {
        &self.spec
    }

    /// Values that were not watched because [`SERIES_MAX`] series already are.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Reads the query's values at `now` and says which anomalies began or ended.
    pub fn evaluate(&mut self, source: &impl Source, now: Timestamp) -> Result<Vec<Change>, EvalError> {
        let values = Engine::default().instant(&self.spec.query, source, now)?;
        let mut changes = Vec::new();
        for (labels, value) in values {
            if !self.series.contains_key(&labels) && self.series.len() >= SERIES_MAX {
                self.refused += 1;
                continue;
            }
            let entry = self.series.entry(labels.clone()).or_insert_with(|| Entry::new(now));
            entry.seen_at = now;
            entry.last = entry.detector.observe(&self.detector, now, value);
            changes.extend(entry.change(&labels));
        }
        for (labels, entry) in &mut self.series {
            if now.since(entry.seen_at) >= GONE_AFTER {
                entry.last.anomaly_since = None;
                changes.extend(entry.change(labels));
            }
        }
        self.series.retain(|_, e| now.since(e.seen_at) < FORGET_AFTER);
        Ok(changes)
    }

    /// Every series, by labels.
    pub fn watched(&self) -> impl Iterator<Item = Watched<'_>> {
        self.series.iter().map(|(labels, e)| Watched { labels, observation: e.last })
    }
}

impl Entry {
    fn new(now: Timestamp) -> Self {
        let nothing = Observation {
            value: f64::NAN,
            lower: f64::NAN,
            expected: f64::NAN,
            upper: f64::NAN,
            score: 0.0,
            anomaly_since: None,
        };
        Self { detector: Detector::new(), last: nothing, seen_at: now, open: false }
    }

    fn change(&mut self, labels: &Labels) -> Option<Change> {
        let open = self.last.anomaly_since.is_some();
        (std::mem::replace(&mut self.open, open) != open).then(|| Change {
            labels: labels.clone(),
            observation: self.last,
            began: open,
        })
    }
}
