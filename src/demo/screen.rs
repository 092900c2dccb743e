//! Where the story is shown: a table redrawn in place on a terminal, plain lines anywhere else.

use std::io::{self, Write as _};
use std::time::Duration;

use super::record::Record;
use super::table;
use crate::terminal;

pub(super) enum Screen {
    Live { screen: terminal::Screen, duration: Duration },
    Lines { events_shown: usize },
}

impl Screen {
    pub(super) fn open(headless: bool, duration: Duration) -> Self {
        let screen = if headless { None } else { terminal::Screen::open() };
        match screen {
            Some(screen) => Self::Live { screen, duration },
            None => Self::Lines { events_shown: 0 },
        }
    }

    /// Shows what is new. A terminal that has gone away ends nothing: the story goes on, and its exit code with
    /// it.
    pub(super) fn show(&mut self, record: &Record) {
        match self {
            Self::Live { screen, duration } => {
                let (rows, columns) = screen.size();
                screen.draw(&table::render(record, *duration, columns, rows));
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

    /// Gives the terminal back and leaves the last table on it.
    pub(super) fn close(self, record: &Record) {
        let Self::Live { screen, duration } = self else { return };
        let (_, columns) = screen.size();
        drop(screen);
        let mut out = io::stdout().lock();
        for line in table::render(record, duration, columns, usize::MAX) {
            let _ = writeln!(out, "{line}");
        }
    }
}
