//! TraceQL: Tempo's language for traces, over the spans of a snapshot. docs/traces.md says which part of it.
//!
//! ```text
//! text ─► Query ─► plan (what columns can answer) ─► blocks, newest first ─► whole traces ─► sets of spans
//!                                                └─► spans ─► series, of a query of metrics
//! ```

mod ast;
mod error;
mod eval;
mod field;
mod metrics;
mod parse;
mod parse_expr;
mod plan;
mod search;
mod structural;
mod tags;
#[cfg(test)]
mod tests;
mod token;
mod trace;

pub use ast::{Query, Value};
pub use error::ParseError;
pub use eval::Spanset;
pub use field::{Field, Intrinsic, Scope};
pub use metrics::{MetricSeries, MetricSteps, STEPS_MAX};
pub use parse::parse_field;
pub use search::{Limits, Range, SearchError, SetHit, SpanHit, TraceHit, search};
pub use tags::{TagValue, tag_names, tag_values};
pub use token::nanos_of_unit;
pub use trace::{ServiceStats, Trace};
