//! A screen that is redrawn in place: the cursor goes home, lines are overwritten, the rest is cleared. Nothing
//! is cleared before it is drawn, so nothing flickers.

use std::fmt::Write as _;
use std::io::Write as _;

use console::Term;

/// Owns the terminal from [`Screen::open`] until it is dropped, when cursor and normal screen come back.
pub struct Screen {
    term: Term,
}

impl Screen {
    /// `None` when standard output is not a terminal.
    pub fn open() -> Option<Self> {
        let term = Term::stdout();
        if !term.is_term() {
            return None;
        }
        // Alternate screen, cursor hidden.
        write!(&term, "\x1b[?1049h\x1b[?25l").ok()?;
        Some(Self { term })
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.term.size();
        (usize::from(rows), usize::from(columns))
    }

    pub fn draw(&mut self, lines: &[String]) {
        let (rows, _) = self.size();
        let mut frame = String::from("\x1b[H");
        for (i, line) in lines.iter().take(rows).enumerate() {
            let newline = if i > 0 { "\r\n" } else { "" };
            // Clearing to the end of the line after its text leaves no rest of the frame before.
            let _ = write!(frame, "{newline}{line}\x1b[K");
        }
        frame.push_str("\x1b[J");
        // A terminal that went away is no reason to stop watching a release.
        let _ = (&self.term).write_all(frame.as_bytes());
        let _ = self.term.flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write!(&self.term, "\x1b[?25h\x1b[?1049l");
    }
}
