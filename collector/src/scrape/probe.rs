//! `BodyReader`: the per-scrape work without sockets and store, for benchmarks and for looking into a body.

use std::sync::Arc;

use davy_model::{Labels, Timestamp};
use davy_store::Store;

use super::append;
use super::error::ScrapeError;
use super::state::{Rows, TargetState};
use crate::config::ScrapeConfig;
use crate::expfmt::Format;

/// Reads one target's bodies as its scrape loop does.
pub struct BodyReader {
    state: TargetState,
    rows: Rows,
}

impl BodyReader {
    pub fn new(config: Arc<ScrapeConfig>, target: Labels) -> Self {
        let interval = config.scrape_interval;
        Self { state: TargetState::new(config, target, interval), rows: Rows::default() }
    }

    /// Samples to append, after relabelling and without duplicates.
    pub fn read(&mut self, body: &[u8], format: Format, at: Timestamp) -> Result<usize, ScrapeError> {
        let result = self.state.read(body, format, at, &mut self.rows);
        self.state.forget();
        result.map(|()| self.rows.samples.len())
    }

    /// Appends what was read last, as of `at`.
    pub fn append(&mut self, store: &Store, at: Timestamp) -> Result<(), davy_store::Error> {
        append::append(store, at, &mut self.state, &self.rows, (at, [1.0; 5])).map(|_| ())
    }
}
