//! `Grid`: the times that an expression is evaluated at. An instant is a grid of one.

use crate::ast::{At, Shift};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub start: i64,
    pub step: i64,
    pub count: usize,
}

impl Grid {
    pub(crate) fn instant(at: i64) -> Self {
        Self { start: at, step: 1, count: 1 }
    }

    /// `start`, then every `step` up to `end`; empty if `end` is earlier.
    pub(crate) fn new(start: i64, end: i64, step: i64) -> Self {
        let step = step.max(1);
        let reach = i128::from(end) - i128::from(start);
        let count = if reach < 0 { 0 } else { reach / i128::from(step) + 1 };
        Self { start, step, count: usize::try_from(count).unwrap_or(usize::MAX) }
    }

    pub(crate) fn time(&self, i: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i64::try_from(i).unwrap_or(i64::MAX)))
    }

    pub(crate) fn end(&self) -> i64 {
        self.time(self.count.saturating_sub(1))
    }

    pub(crate) fn times(&self) -> impl Iterator<Item = i64> + use<> {
        let grid = *self;
        (0..grid.count).map(move |i| grid.time(i))
    }
}

/// When the whole query starts and ends; `@ start()` means the same everywhere within it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub start: i64,
    pub end: i64,
}

impl Shift {
    /// The time that is looked at when `t` is asked for.
    pub(crate) fn apply(self, t: i64, query: Bounds) -> i64 {
        let at = match self.at {
            None => t,
            Some(At::Start) => query.start,
            Some(At::End) => query.end,
            Some(At::Millis(at)) => at,
        };
        at.saturating_sub(self.offset_ms)
    }
}
