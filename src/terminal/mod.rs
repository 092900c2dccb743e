//! What `davy run` and `davy demo` show in a terminal: pure rendering of what the API serves, and a screen that
//! is redrawn in place.

mod format;
mod release;
mod screen;
mod status;

pub use format::{bar, count, duration, level, relative, share};
pub use release::release_lines;
pub use screen::Screen;
pub use status::{Status, status_lines};
