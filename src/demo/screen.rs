//! Where the story is shown: a table redrawn in place on a terminal, plain lines anywhere else.

use std::io::{self, Write};
use std::time::Duration;

use console::Term;

use super::record::Record;
use super::table::{self, Frame};

pub(super) enum Screen {
    Live(Live),
    Lines { events_shown: usize },
}

pub(super) struct Live {
    term: Term,
    duration: Duration,
    /// Lines that the cursor stands below.
    lines: usize,
}

impl Screen {
    pub(super) fn open(headless: bool, duration: Duration) -> Self {
        let term = Term::buffered_stdout();
        if headless || !term.is_term() {
            return Self::Lines { events_shown: 0 };
        }
        // A terminal without this only shows a cursor that jumps.
        let _ = term.hide_cursor();
        Self::Live(Live { term, duration, lines: 0 })
    }

    /// Shows what is new. A terminal that has gone away ends nothing: the story goes on, and its exit code with it.
    pub(super) fn show(&mut self, record: &Record) {
        match self {
            Self::Live(live) => {
                let _ = live.draw(record);
            }
            Self::Lines { events_shown } => {
                let mut out = io::stdout().lock();
                for event in &record.events[*events_shown..] {
                    let _ = writeln!(out, "{:>6.1} s  {}", event.at.as_secs_f64(), event.text);
                }
                *events_shown = record.events.len();
                let _ = out.flush();
            }
        }
    }
}

impl Live {
    /// One write a frame, each line cleared as it is overwritten: nothing flickers.
    fn draw(&mut self, record: &Record) -> io::Result<()> {
        let (height, width) = self.term.size();
        let frame = Frame {
            width: usize::from(width),
            // The last line stays free for the cursor.
            height: usize::from(height).saturating_sub(1),
            duration: self.duration,
            colour: console::colors_enabled(),
        };
        let lines = table::render(record, &frame);
        if self.lines > 0 {
            self.term.move_cursor_up(self.lines.min(usize::from(height)))?;
        }
        for line in &lines {
            // Cleared to its end: nothing of what stood there before stays.
            self.term.write_str(&format!("\r{line}\x1b[K\n"))?;
        }
        self.term.clear_to_end_of_screen()?;
        self.lines = lines.len();
        self.term.flush()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.term.show_cursor();
        let _ = self.term.flush();
    }
}
