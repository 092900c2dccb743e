//! Alerts, routes, the release state machine; notifiers and actuators at the edge.
//!
//! Hops 6 and 7 of the pipeline: deciding ([`release`], [`dispatch`]) is pure, doing ([`notify`], [`actuate`])
//! is async. The two never share a delivery guarantee: alerts fail open, actions fail closed.
pub mod actuate;
pub mod alert;
pub mod book;
pub mod breaker;
mod client;
pub mod config;
pub mod dispatch;
pub mod gotemplate;
mod group;
pub mod inhibit;
pub mod notify;
pub mod record;
pub mod release;
pub mod route;
pub mod rule;
mod signature;
pub mod silence;
pub mod template;
mod text;
mod time;
pub mod time_interval;
pub mod undelivered;
pub mod words;

/// A number as Go prints it: `1.5`, `1e+06`, `+Inf`.
pub fn go_float(v: f64) -> String {
    gotemplate::float::general(v, None)
}

/// A finite number as Go's `%e` prints it, with as few digits as it needs.
pub fn go_scientific(v: f64) -> String {
    gotemplate::float::scientific(v, None)
}
