//! A chart of dots: each character cell holds two columns and four rows of them (Unicode's braille patterns).

use console::Color;

/// First of the braille patterns: none of its dots set.
const EMPTY: u32 = 0x2800;
const COLUMNS: usize = 2;
const ROWS: usize = 4;
/// Bits of a cell's dots, left column first, top to bottom.
const BITS: [[u32; ROWS]; COLUMNS] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Where lines are drawn on; `(0, 0)` is the dot at the top left.
#[derive(Debug)]
pub(super) struct Canvas {
    width: usize,
    cells: Vec<(u32, Option<Color>)>,
}

impl Canvas {
    /// In characters.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, cells: vec![(0, None); width * height] }
    }

    /// Dots from left to right.
    pub(super) fn dots_wide(&self) -> usize {
        self.width * COLUMNS
    }

    pub(super) fn dots_high(&self) -> usize {
        self.cells.len() / self.width.max(1) * ROWS
    }

    /// Dots outside the canvas are not drawn. A cell has the colour of what was drawn there last.
    fn dot(&mut self, x: usize, y: usize, color: Color) {
        if x >= self.dots_wide() || y >= self.dots_high() {
            return;
        }
        let (dots, of) = &mut self.cells[y / ROWS * self.width + x / COLUMNS];
        *dots |= BITS[x % COLUMNS][y % ROWS];
        *of = Some(color);
    }

    /// A line that leaves no gap, ends included.
    pub(super) fn line(&mut self, (x0, y0): (usize, usize), (x1, y1): (usize, usize), color: Color) {
        let steps = x0.abs_diff(x1).max(y0.abs_diff(y1));
        for i in 0..=steps {
            let at = |a: usize, b: usize| {
                let part = if steps == 0 { 0.0 } else { i as f64 / steps as f64 };
                (a as f64 + (b as f64 - a as f64) * part).round() as usize
            };
            self.dot(at(x0, x1), at(y0, y1), color);
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = String> {
        self.cells.chunks(self.width.max(1)).map(|row| {
            let cell = |(dots, color): &(u32, Option<Color>)| {
                let c = char::from_u32(EMPTY + dots).expect("braille patterns are 256 characters in a row");
                match color {
                    Some(color) => console::style(c).fg(*color).to_string(),
                    None => " ".to_owned(),
                }
            };
            row.iter().map(cell).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_no_gap() {
        let mut canvas = Canvas::new(4, 1);
        canvas.line((0, 3), (7, 0), Color::Red);
        let drawn: Vec<String> = canvas.rows().map(|r| console::strip_ansi_codes(&r).into_owned()).collect();
        assert_eq!(drawn, ["⣀⠤⠒⠉"]);
        canvas.line((0, 0), (0, 99), Color::Red);
        let drawn: Vec<String> = canvas.rows().map(|r| console::strip_ansi_codes(&r).into_owned()).collect();
        assert_eq!(drawn, ["⣇⠤⠒⠉"]);
    }
}
