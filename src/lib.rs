//! `davy`: the shell around the pure crates. It reads the clock, waits on sockets and timers, and carries out
//! what the core decided.
//!
//! Start at [`app::run`]; [`analysis`] judges a release with its service's history; [`config`] is the file, [`demo`] the story of `davy demo`, [`terminal`] what both show;
//! [`snapshot`] and [`openmetrics`] take data out and in; [`history`] looks back on it, [`judge`] judges what was
//! recorded, [`report`] says what was found; [`audit`] keeps it honest; [`query`] asks a server; [`grafana`] writes the boards that show it.

pub mod analysis;
pub mod app;
pub mod audit;
pub mod clock;
pub mod config;
pub mod demo;
pub mod drill;
pub mod exit;
pub mod gate;
pub mod grafana;
pub mod history;
pub mod judge;
pub mod openmetrics;
pub mod operate;
pub mod outbox;
mod process;
pub mod query;
pub mod replay;
pub mod report;
pub mod rules;
mod running;
pub mod snapshot;
pub mod sources;
pub mod terminal;
