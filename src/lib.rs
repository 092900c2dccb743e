//! `davy`: the shell around the pure crates. It reads the clock, waits on sockets and timers, and carries out
//! what the core decided.
//!
//! Start at [`app::run`]; [`config`] is the file, [`demo`] the story of `davy demo`, [`terminal`] what both show;
//! [`snapshot`] and [`openmetrics`] take data out and in; [`judge`] judges
//! what was recorded.

pub mod app;
pub mod clock;
pub mod config;
pub mod demo;
pub mod judge;
pub mod openmetrics;
pub mod snapshot;
pub mod terminal;
