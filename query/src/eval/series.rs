//! `Series`: what a node gives for one label set, one place a step of the grid.

use std::sync::Arc;

use davy_model::{Labels, STALE_NAN};

use crate::histogram::Histo;

/// No value at a step. A staleness marker means just that, and no calculation gives one.
pub(crate) const ABSENT: f64 = STALE_NAN;

#[inline]
pub(crate) fn is_present(v: f64) -> bool {
    v.to_bits() != ABSENT.to_bits()
}

#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub labels: Labels,
    /// One a step, [`ABSENT`] where there is none.
    pub floats: Vec<f64>,
    /// One a step, if there are any; a step has a float or a histogram.
    pub histograms: Option<Vec<Option<Arc<Histo>>>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Point {
    Float(f64),
    Histogram(Arc<Histo>),
}

impl Series {
    pub(crate) fn empty(labels: Labels, steps: usize) -> Self {
        Self { labels, floats: vec![ABSENT; steps], histograms: None }
    }

    #[inline]
    pub(crate) fn histogram(&self, i: usize) -> Option<&Arc<Histo>> {
        self.histograms.as_ref()?[i].as_ref()
    }

    #[inline]
    pub(crate) fn has(&self, i: usize) -> bool {
        is_present(self.floats[i]) || self.histogram(i).is_some()
    }

    pub(crate) fn point(&self, i: usize) -> Option<Point> {
        if is_present(self.floats[i]) {
            return Some(Point::Float(self.floats[i]));
        }
        self.histogram(i).cloned().map(Point::Histogram)
    }

    pub(crate) fn set(&mut self, i: usize, point: Option<Point>) {
        match point {
            None => {
                self.floats[i] = ABSENT;
                if let Some(h) = &mut self.histograms {
                    h[i] = None;
                }
            }
            Some(Point::Float(v)) => self.floats[i] = v,
            Some(Point::Histogram(h)) => {
                let steps = self.floats.len();
                self.histograms.get_or_insert_with(|| vec![None; steps])[i] = Some(h);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.floats.iter().any(|v| is_present(*v))
            && self.histograms.as_ref().is_none_or(|h| h.iter().all(Option::is_none))
    }

    /// Steps whose place is not kept lose what they have.
    pub(crate) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        for i in 0..self.floats.len() {
            if !keep(i) {
                self.floats[i] = ABSENT;
                if let Some(h) = &mut self.histograms {
                    h[i] = None;
                }
            }
        }
    }
}
