//! PromQL and direct reads of a release's series.
//!
//! Hop 4 of the pipeline: `Expr`, `Snapshot`, now → `Vector`.
//! Read in this order: [`Source`] (where series come from), [`Expr`] (what is asked), [`Engine`] (the answer),
//! [`counts`] (increments for the judge, which PromQL's extrapolating `increase` would distort).

pub mod counts;
pub mod native;
pub mod traceql;

mod answer;
mod arithmetic;
mod ast;
mod engine;
mod expr;
mod lower;
mod prescan;
mod range;
mod source;

pub use answer::{Answer, Data, QueryStats};
pub use engine::{Cancel, Engine, EvalError, Steps};
pub use expr::{Expr, ParseError};
pub use source::{Recorded, Source};
