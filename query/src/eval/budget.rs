//! What evaluations may hold in memory: one query, and all of them together.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::EvalError;

/// Points that a series counts for beside its values: its labels and its places in tables.
pub(crate) const POINTS_PER_SERIES: usize = 16;

/// Points that all queries of an engine may hold at the same time. Clones share it.
#[derive(Debug, Clone)]
pub struct PointsBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    held: AtomicUsize,
}

impl PointsBudget {
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared { max, held: AtomicUsize::new(0) }))
    }

    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    fn take(&self, points: usize) -> bool {
        let before = self.0.held.fetch_add(points, Ordering::Relaxed);
        let fits = before.saturating_add(points) <= self.0.max;
        if !fits {
            self.give_back(points);
        }
        fits
    }

    fn give_back(&self, points: usize) {
        self.0.held.fetch_sub(points, Ordering::Relaxed);
    }
}

/// Of one evaluation.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    budget: &'a PointsBudget,
    points_max: usize,
    held: Cell<usize>,
    peak: Cell<usize>,
}

/// Points that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'m, 'a> {
    meter: &'m Meter<'a>,
    points: usize,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: &'a PointsBudget, points_max: usize) -> Self {
        Self { budget, points_max, held: Cell::new(0), peak: Cell::new(0) }
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.get()
    }

    pub(crate) fn hold(&self) -> Held<'_, 'a> {
        Held { meter: self, points: 0 }
    }
}

impl Held<'_, '_> {
    pub(crate) fn grow(&mut self, points: usize) -> Result<(), EvalError> {
        let held = self.meter.held.get().saturating_add(points);
        if held > self.meter.points_max {
            return Err(EvalError::Points { max: self.meter.points_max });
        }
        if !self.meter.budget.take(points) {
            return Err(EvalError::Busy { max: self.meter.budget.0.max });
        }
        self.meter.held.set(held);
        self.meter.peak.set(self.meter.peak.get().max(held));
        self.points += points;
        Ok(())
    }
}

impl Drop for Held<'_, '_> {
    fn drop(&mut self) {
        self.meter.held.set(self.meter.held.get().saturating_sub(self.points));
        self.meter.budget.give_back(self.points);
    }
}
