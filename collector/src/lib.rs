//! Scrapes, OTLP receivers and the formats they speak.
//!
//! Hops 1 and 2 of the pipeline: sockets in, samples and spans into an appender out.

pub mod config;
pub mod expfmt;
