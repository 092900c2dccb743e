//! `Memory`: series of a unit test, those that were given and those that rules made.

use std::collections::HashMap;
use std::time::Duration;

use davy_alerting::rule::{Evaluate, EvaluateError, Refused, Row, Surroundings};
use davy_model::{Labels, Matcher, Sample, Timestamp, Value};
use davy_query::{Cancel, Engine, Expr, Recorded};
use davy_store::SeriesSamples;

use super::answer;

#[derive(Default)]
pub(crate) struct Memory {
    engine: Engine,
    recorded: Recorded,
    by_labels: HashMap<Labels, usize>,
    /// Given series of which there is more to come; the next sample last.
    waiting: Vec<(Labels, Vec<Sample>)>,
}

impl Memory {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, ..Self::default() }
    }

    /// A series whose values lie `interval` apart from the epoch on; they are seen once it is their time.
    pub(crate) fn give(&mut self, labels: &Labels, values: &[Option<Value>], interval: Duration) {
        let at =
            |i: usize| Timestamp::default() + interval.saturating_mul(u32::try_from(i).unwrap_or(u32::MAX));
        let samples = values.iter().enumerate().rev();
        let samples = samples.filter_map(|(i, v)| Some(Sample { timestamp: at(i), value: v.clone()? }));
        self.waiting.push((labels.clone(), samples.collect()));
    }

    /// Given samples up to `until` are there from now on.
    pub(crate) fn load_until(&mut self, until: Timestamp) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for (labels, samples) in &mut waiting {
            while let Some(sample) = samples.pop_if(|s| s.timestamp <= until) {
                // Two given series with the same labels: the first sample of a time stays.
                let _ = self.put(labels, sample);
            }
        }
        waiting.retain(|(_, samples)| !samples.is_empty());
        self.waiting = waiting;
    }

    fn put(&mut self, labels: &Labels, sample: Sample) -> Result<(), Refused> {
        let number = *self.by_labels.entry(labels.clone()).or_insert_with(|| {
            self.recorded.0.push(SeriesSamples { labels: labels.clone(), samples: Vec::new() });
            self.recorded.0.len() - 1
        });
        let samples = &mut self.recorded.0[number].samples;
        match samples.last() {
            Some(last) if sample.timestamp < last.timestamp => {
                Err(Refused::Conflict("out of order sample".to_owned()))
            }
            Some(last) if sample.timestamp == last.timestamp && !same(&last.value, &sample.value) => {
                Err(Refused::Conflict("duplicate sample for timestamp".to_owned()))
            }
            Some(last) if sample.timestamp == last.timestamp => Ok(()),
            _ => {
                samples.push(sample);
                Ok(())
            }
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

impl Evaluate for Memory {
    fn instant(&self, expr: &Expr, at: Timestamp) -> Result<Vec<(Labels, Value)>, EvaluateError> {
        answer::instant(&self.engine, expr, &self.recorded, at, &Cancel::default())
    }
}

impl Surroundings for Memory {
    fn newest(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(Labels, Sample)>, EvaluateError> {
        answer::newest(&self.recorded, matchers, from, to)
    }

    fn append(&mut self, rows: &[Row]) -> Result<Vec<Option<Refused>>, EvaluateError> {
        let put =
            |row: &Row| self.put(&row.labels, Sample { timestamp: row.at, value: row.value.clone() }).err();
        Ok(rows.iter().map(put).collect())
    }

    /// Nothing takes time.
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}
