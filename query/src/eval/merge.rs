//! `Merged`: series that may lose what told them apart. At different times they are one series; at the same time
//! they are an error.

use std::collections::HashMap;

use davy_model::Labels;

use super::budget::{Held, POINTS_PER_SERIES};
use super::series::Series;
use super::{Evaluation, Sink};
use crate::{EvalError, Source};

pub(super) struct Merged<'e, 'a, S> {
    eval: &'e Evaluation<'a, S>,
    held: Held<'e, 'a>,
    places: HashMap<Labels, usize, foldhash::fast::RandomState>,
    all: Vec<Series>,
}

impl<'e, 'a, S: Source> Merged<'e, 'a, S> {
    pub(super) fn new(eval: &'e Evaluation<'a, S>) -> Self {
        Self { eval, held: eval.meter.hold(), places: HashMap::default(), all: Vec::new() }
    }

    pub(super) fn add(&mut self, series: Series) -> Result<(), EvalError> {
        let Some(place) = self.places.get(&series.labels) else {
            self.held.grow(self.eval.grid.count + POINTS_PER_SERIES)?;
            self.places.insert(series.labels.clone(), self.all.len());
            self.all.push(series);
            return Ok(());
        };
        let kept = &mut self.all[*place];
        for i in 0..series.floats.len() {
            let Some(point) = series.point(i) else { continue };
            if kept.has(i) {
                return Err(EvalError::SameLabels { labels: series.labels });
            }
            kept.set(i, Some(point));
        }
        Ok(())
    }

    pub(super) fn emit(self, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        self.all.into_iter().try_for_each(sink)
    }
}
