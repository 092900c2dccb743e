//! Power loss for the store, without pulling a plug (dev-only).
//!
//! `vfs` sits between SQLite and the disk and records every write, truncation, sync and deletion while the real
//! store works; `image` says what a disk may hold after a cut at any of them; `work` is what is worked and what
//! must be found again. After Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), and
//! SQLite's own `test6.c`.

mod image;
mod vfs;
mod work;

pub use image::{Op, Rng, image};
pub use vfs::{Record, Strength, record};
pub use work::{Acked, Acknowledge, Ledger, check, work};
