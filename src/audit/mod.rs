//! The audit: who did what, on what, why, with what outcome, so that a change of it is found out.
//!
//! The store chains the rows; here is the key that signs checkpoints, where they go, and the commands that look.

mod command;
mod keeper;
mod key;
#[cfg(test)]
mod tests;
mod verify;

pub use command::{AuditCommand, run};
pub(crate) use keeper::AuditKeeper;
