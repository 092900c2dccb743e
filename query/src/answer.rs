//! `Answer`: what a query of a person or a dashboard gives back, in the shapes of Prometheus' API.

use davy_model::{Labels, Sample, Timestamp};
use davy_store::SeriesSamples;

/// A value of one of PromQL's four types, and what was noticed on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub data: Data,
    /// What may make the answer wrong, each once, sorted.
    pub warnings: Vec<String>,
    /// What looks unintended, each once, sorted.
    pub infos: Vec<String>,
    pub stats: QueryStats,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    Scalar(Timestamp, f64),
    String(Timestamp, String),
    /// One sample a series; sorted by labels unless the query sorts.
    Vector(Vec<(Labels, Sample)>),
    /// Of a range query, or of an instant query that asks for a range; sorted by labels.
    Matrix(Vec<SeriesSamples>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryStats {
    pub series_read: usize,
    /// Samples read from the source, each time that one is read.
    pub samples_read: usize,
    /// Points held at the same time, at most.
    pub points_peak: usize,
}
