//! What `davy run`, `davy demo` and `davy query` show in a terminal: pure rendering of what the API serves, and a
//! screen that is redrawn in place.

mod braille;
mod format;
mod release;
mod screen;
mod series;
mod status;

pub use format::{bar, count, duration, level, number, relative, share};
pub use release::release_lines;
pub use screen::Screen;
pub use series::{Line, Metric, chart_lines, clean, table_lines, time};
pub use status::{Status, status_lines};
