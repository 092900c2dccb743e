//! Alerts, routes, the release state machine; notifiers and actuators at the edge.
//!
//! Hops 6 and 7 of the pipeline: deciding ([`release`], [`dispatch`]) is pure, doing ([`notify`], [`actuate`])
//! is async. The two never share a delivery guarantee: alerts fail open, actions fail closed.
pub mod actuate;
pub mod alert;
pub mod book;
pub mod config;
pub mod dispatch;
mod egress;
pub mod notify;
pub mod record;
pub mod release;
pub mod route;
mod signature;
mod text;
mod time;

pub use egress::describe;
