//! Torture for the store: faults that must not cost an acknowledged write (dev-only).
//!
//! `load` does what Davy does, from a seed; `payload` says what each write holds, `ledger` which of them were
//! acknowledged, and `check` reads everything back and holds it against both. `vfs` sits between SQLite and the disk,
//! records what is written and synced, and fails as `fault` plans; `image` says what a disk may hold after a cut
//! (after Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, and SQLite's own `test6.c`).
//! Each file below `tests/` is one fault with its oracle and a broken variant that it must catch; `docs/torture.md`
//! lists them.

mod check;
mod fault;
mod image;
mod ledger;
mod load;
mod payload;
mod rng;
mod run;
mod vfs;
mod writes;

pub use check::{Decisions, Telemetry, Wrong, all_there, decisions, telemetry};
pub use fault::{Call, Fault, Plan, Tally};
pub use image::{Op, image, least};
pub use ledger::{Acknowledge, Entry, Ledger, Refused, What};
pub use load::{Habits, Load, may_be_expired, options};
pub use payload::{SERIES, START};
pub use rng::Rng;
pub use run::{check_folder, lay_out, number, scratch, stop_on_writer_panic, tell};
pub use vfs::{Record, Strength, record};
pub use writes::{control as write_control, telemetry as write_telemetry};
