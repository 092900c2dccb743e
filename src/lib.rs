//! Davy's application: everything that is not a crate of its own.
pub mod config;
