//! `Series`: labels as a destination gets them: with the external ones, and relabelled. Worked out once a series.

use std::collections::{BTreeMap, HashMap};

use davy_model::Labels;
use davy_store::{SeriesRef, Store};

use super::config::RemoteWriteConfig;
use super::round::{Choice, Dropped, What};
use crate::config::RelabelConfig;
use crate::relabel;

/// Series that are remembered; beyond, all are worked out anew.
const SERIES_MAX: usize = 1_000_000;

pub(super) struct Series {
    store: Store,
    external: BTreeMap<String, String>,
    steps: Vec<RelabelConfig>,
    exemplars: bool,
    histograms: bool,
    known: HashMap<SeriesRef, Option<Labels>>,
}

impl Series {
    pub(super) fn new(store: Store, config: &RemoteWriteConfig) -> Self {
        Self {
            store,
            external: config.external_labels.clone(),
            steps: config.write_relabel.clone(),
            exemplars: config.send_exemplars,
            histograms: config.send_native_histograms,
            known: HashMap::new(),
        }
    }

    /// `None` if relabelling drops the series.
    pub(super) fn rewrite(&self, labels: &Labels) -> Option<Labels> {
        if self.external.is_empty() && self.steps.is_empty() {
            return Some(labels.clone());
        }
        let mut builder = labels.builder();
        for (name, value) in &self.external {
            if builder.get(name).is_empty() {
                builder.set(name, value);
            }
        }
        let kept = relabel::process(&mut builder, &self.steps);
        Some(builder.build()).filter(|l| kept && !l.is_empty())
    }
}

impl Choice for Series {
    fn labels(&mut self, series: SeriesRef) -> Result<Labels, Dropped> {
        if let Some(known) = self.known.get(&series) {
            return known.clone().ok_or(Dropped::Relabelled);
        }
        let labels = self.store.labels_of(series).ok_or(Dropped::UnknownSeries)?;
        let rewritten = self.rewrite(&labels);
        if self.known.len() >= SERIES_MAX {
            self.known.clear();
        }
        self.known.insert(series, rewritten.clone());
        rewritten.ok_or(Dropped::Relabelled)
    }

    fn wants(&self, what: &What) -> bool {
        match what {
            What::Float(_) => true,
            What::Histogram(_) => self.histograms,
            What::Exemplar(_) => self.exemplars,
        }
    }
}
