//! The nouns that every other crate speaks in: labels, matchers, samples, histograms, spans.
//!
//! Read in this order: [`Timestamp`], [`Labels`], [`Matcher`], [`Sample`], [`Histogram`], [`Span`].
//! The names are Prometheus' and OpenTelemetry's. Nothing here reads a clock, waits, or knows a wire
//! format: parsing belongs to the edges, and what has been parsed is right.

mod clock;
mod histogram;
mod labels;
mod matcher;
mod metadata;
mod sample;
mod span;
mod timestamp;

pub use clock::{Clock, ManualClock};
pub use histogram::{BucketSpan, Histogram, HistogramError};
pub use labels::{Label, Labels, LabelsBuilder, name};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use metadata::{Metadata, MetricType};
pub use sample::{Exemplar, STALE_NAN, Sample, Value, is_stale};
pub use span::{
    AttributeValue, Attributes, Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId,
};
pub use timestamp::Timestamp;
