//! PromQL and direct reads of a release's series.
//!
//! Hop 4 of the pipeline: `Expr`, `Snapshot`, now → `Vector`.

mod expr;

pub use expr::{Expr, ParseError};
