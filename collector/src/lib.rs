//! Scrapes, OTLP and remote write receivers and the formats they speak.
//!
//! Hops 1 and 2 of the pipeline: sockets in, samples and spans into an appender out.

pub mod config;
pub mod duration;
pub mod expfmt;
pub mod otlp;
pub mod relabel;
pub mod remote_write;
pub mod remote_write_out;
pub mod scrape;
pub mod serve;

mod admission;
mod discovery;
mod target;
#[cfg(test)]
mod testing;

pub use target::{Relabelled, ScrapeTarget, TargetError, TargetGroup};
