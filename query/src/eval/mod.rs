//! Evaluation: every node is evaluated at all steps of a grid at once, and hands on one series after the other.
//!
//! ```text
//! Snapshot ─► selector, over (ranges) ─► call, binary, aggregate ─► Answer
//!             one series at a time       hold what they must compare
//! ```
//!
//! What is held is counted (`budget`), what is noticed is noted (`notes`), and between series the evaluation looks
//! whether anybody still waits for it.

mod aggregate;
mod binary;
pub(crate) mod budget;
mod call;
mod classic;
pub(crate) mod dates;
mod grid;
pub(crate) mod kahan;
mod labels;
mod merge;
pub(crate) mod notes;
mod over;
pub(crate) mod quantile;
mod selector;
pub(crate) mod series;
mod window;

use std::cell::Cell;
use std::ops::ControlFlow;

use davy_model::Timestamp;
use davy_store::SeriesColumns;

use crate::ast::{Node, Selector};
use crate::{Cancel, Engine, EvalError, Source};
use budget::Meter;
pub(crate) use grid::{Bounds, Grid};
use notes::Notes;
pub(crate) use series::{Point, Series};

/// Where a node hands its series.
pub(crate) type Sink<'s> = dyn FnMut(Series) -> Result<(), EvalError> + 's;

/// Levels of subqueries and operators that are followed.
const DEPTH_MAX: usize = 512;

pub(crate) struct Evaluation<'a, S> {
    pub engine: &'a Engine,
    pub source: &'a S,
    pub grid: Grid,
    pub query: Bounds,
    pub cancel: &'a Cancel,
    pub meter: &'a Meter<'a>,
    pub notes: &'a Notes,
    pub read: &'a Read,
}

/// What was read from the source.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub series: Cell<usize>,
    pub samples: Cell<usize>,
    depth: Cell<usize>,
}

impl<'a, S: Source> Evaluation<'a, S> {
    /// A node whose value is a vector, one series after the other.
    pub(crate) fn vector(&self, node: &Node, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        self.check()?;
        if self.grid.count == 0 {
            return Ok(());
        }
        if self.grid.count > 1 && node.is_constant() {
            return self.constant(node, sink);
        }
        let depth = self.read.depth.get() + 1;
        if depth > DEPTH_MAX {
            return Err(EvalError::Depth { max: DEPTH_MAX });
        }
        self.read.depth.set(depth);
        let done = match node {
            Node::Selector(s) => self.selector(s, sink),
            Node::Call { function, args, position } => self.call(*function, args, *position, sink),
            Node::Aggregate(a) => self.aggregate(a, sink),
            Node::Binary(b) => self.binary_vector(b, sink),
            Node::Negate(of) => self.negate(of, sink),
            Node::Number(_) | Node::Text(_) | Node::Range { .. } | Node::Subquery { .. } => {
                Err(EvalError::Type { expected: "a vector" })
            }
        };
        self.read.depth.set(depth - 1);
        done
    }

    /// Evaluated once, the same at every step.
    fn constant(&self, node: &Node, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let once = self.on(Grid { count: 1, ..self.grid })?;
        once.vector(node, &mut |series| {
            let steps = self.grid.count;
            let floats = vec![series.floats[0]; steps];
            let histograms = series.histograms.map(|h| vec![h[0].clone(); steps]);
            sink(Series { labels: series.labels, floats, histograms })
        })
    }

    /// The same evaluation at other times.
    fn on(&self, grid: Grid) -> Result<Self, EvalError> {
        if grid.count > self.engine.points_max {
            return Err(EvalError::Points { max: self.engine.points_max });
        }
        Ok(Self { grid, ..*self })
    }

    fn check(&self) -> Result<(), EvalError> {
        if self.cancel.is_raised() { Err(EvalError::Canceled) } else { Ok(()) }
    }

    /// Every series of a selector with the samples that some step may look at: `(first - back, last]`.
    fn read(
        &self,
        s: &Selector,
        back: i64,
        each: &mut dyn FnMut(SeriesColumns) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let first = s.shift.apply(self.grid.start, self.query);
        let last = s.shift.apply(self.grid.end(), self.query);
        let from = Timestamp::from_millis(first.saturating_sub(back).saturating_add(1));
        let to = Timestamp::from_millis(last);
        let mut failed = None;
        self.source.each(&s.matchers, from, to, &mut |found| {
            let done = self.check().and_then(|()| self.count(&found)).and_then(|()| each(found));
            match done {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => {
                    failed = Some(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn count(&self, found: &SeriesColumns) -> Result<(), EvalError> {
        let series = self.read.series.get() + 1;
        let samples = self.read.samples.get() + found.samples.len();
        if series > self.engine.series_max {
            return Err(EvalError::Series { got: series, max: self.engine.series_max });
        }
        if samples > self.engine.samples_max {
            return Err(EvalError::Samples { got: samples, max: self.engine.samples_max });
        }
        self.read.series.set(series);
        self.read.samples.set(samples);
        Ok(())
    }
}
