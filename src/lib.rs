//! The `davy` binary as a library: what the commands do, so that tests can reach it.

pub mod demo;
