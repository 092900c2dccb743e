//! PromQL and direct reads of a release's series.
//!
//! Hop 4 of the pipeline: `Expr`, `Snapshot`, now → `Vector`.
//! Read in this order: [`Source`] (where series come from), [`Expr`] (what is asked), [`Engine`] (the answer),
//! [`counts`] (increments for the judge, which PromQL's extrapolating `increase` would distort).

pub mod counts;
pub mod native;
pub mod traceql;

mod answer;
mod ast;
mod engine;
mod eval;
mod expr;
mod function;
mod histogram;
mod lower;
mod places;
mod prescan;
mod selector;
mod source;

pub use answer::{Answer, Data, QueryStats};
pub use ast::ValueType;
pub use engine::{Cancel, Engine, EvalError, Steps};
pub use eval::budget::PointsBudget;
pub use expr::{Expr, ParseError};
pub use selector::parse_selector;
pub use source::{Recorded, Source};
