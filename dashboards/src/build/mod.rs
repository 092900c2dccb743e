//! The pieces of a board, as Grafana's classic JSON (schema version 39, Grafana 11 and later) writes them.
//!
//! Only what our boards use, and typed where a mistake would be silent: units, colours, ids, positions, and that a
//! panel has a title, a description and a query.

mod dashboard;
mod field;
mod panel;
mod target;
mod variable;

pub use dashboard::{Annotation, Dashboard, Link};
pub use field::{Color, DataLink, FieldConfig, Matcher, Override, Unit, state_mappings};
pub use panel::{Panel, Row};
pub use target::{Source, Target, instant, range, table};
pub use variable::Variable;
