//! A `WriteRequest` into one batch of the store: walked in place, so that a sample of a known series costs no
//! allocation.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use davy_model::{Exemplar, Labels, Metadata, MetricType, Timestamp, Value};
use davy_store::{Appender, Durability, Error, Refusal, SeriesRef, Store};
use tracing::warn;

use super::histogram::histogram;
use super::known::{Known, NONE};
use super::labels::{LABELS, exemplar_labels, series_labels};
use super::outcome::{Failed, Written, reason};
use super::stats::{RemoteWriteStats, add};
use super::wire::{Malformed, Message, varint};

/// Fields of WriteRequest.
const TIMESERIES: u64 = 1;
const METADATA: u64 = 3;
/// Fields of TimeSeries, beside its labels.
const SAMPLES: u64 = 2;
const EXEMPLARS: u64 = 3;
const HISTOGRAMS: u64 = 4;
/// As they stand in the bytes: the field's number and "length, then content".
const LABEL_TAG: u8 = (LABELS as u8) << 3 | 2;
const SAMPLE_TAG: u8 = (SAMPLES as u8) << 3 | 2;

/// A name or help that is longer is a mistake; longer help is cut, as from a scrape.
pub(super) const METADATA_NAME_BYTES_MAX: usize = 256;
pub(super) const HELP_BYTES_MAX: usize = 1_024;
/// OpenMetrics' limit on an exemplar's labels.
pub(super) const EXEMPLAR_CHARS_MAX: usize = 128;
/// A batch that was overtaken by sealing is made anew.
const ATTEMPTS: usize = 3;

/// On `Err` nothing is stored. On disk and visible on return.
pub(super) fn write(
    store: &Store,
    known: &RwLock<Known>,
    now: Timestamp,
    message: &[u8],
    stats: &RemoteWriteStats,
) -> Result<Written, Failed> {
    commit(store, known, now, stats, |batch| batch.request(message))
}

/// Makes a batch by `fill`, again if sealing overtook it, and commits it.
pub(super) fn commit(
    store: &Store,
    known: &RwLock<Known>,
    now: Timestamp,
    stats: &RemoteWriteStats,
    mut fill: impl FnMut(&mut Batch<'_>) -> Result<(), Failed>,
) -> Result<Written, Failed> {
    if read(known).is_due(now) {
        known.write().unwrap_or_else(PoisonError::into_inner).begin_round(now);
    }
    let mut attempt = 1;
    loop {
        let mut batch =
            Batch { known, appender: store.appender(now), written: Written::default(), exemplars_refused: 0 };
        fill(&mut batch)?;
        let Batch { appender, written, exemplars_refused, .. } = batch;
        match appender.commit(Durability::Sync) {
            Ok(()) => {
                add(&stats.exemplars_refused, exemplars_refused);
                return Ok(written);
            }
            Err(Error::Sealed { .. } | Error::SeriesForgotten) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(unavailable(&error)),
        }
    }
}

/// The same without storing: samples in series that are known.
pub(super) fn rehearse(known: &RwLock<Known>, message: &[u8]) -> Result<u64, Failed> {
    let known = read(known);
    let mut found = 0;
    let mut walk = || {
        let mut before = NONE;
        let mut fields = Message(message);
        while let Some((number, field)) = fields.field()? {
            if number != TIMESERIES {
                continue;
            }
            let (key, rest, index) = identify(&known, before, field.bytes()?)?;
            let Some(index) = index.filter(|i| known.series(*i).is_some()) else { continue };
            known.followed(before, index);
            before = index;
            let _ = key;
            let mut fields = Message(rest);
            while let Some((number, field)) = fields.field()? {
                if number == SAMPLES {
                    let (_, timestamp) = sample(field.bytes()?)?;
                    found += u64::from(timestamp != 0);
                }
            }
        }
        Ok(())
    };
    walk().map_err(malformed)?;
    Ok(found)
}

pub(super) struct Batch<'a> {
    pub(super) known: &'a RwLock<Known>,
    pub(super) appender: Appender,
    pub(super) written: Written,
    pub(super) exemplars_refused: u64,
}

/// A series of the request.
pub(super) struct Series<'m> {
    /// Its label fields.
    pub(super) key: &'m [u8],
    pub(super) index: u32,
    pub(super) reference: SeriesRef,
}

impl Batch<'_> {
    fn request(&mut self, message: &[u8]) -> Result<(), Failed> {
        let mut guard = read(self.known);
        let mut before = NONE;
        let mut fields = Message(message);
        while let Some((number, field)) = fields.field().map_err(malformed)? {
            match number {
                TIMESERIES => {
                    let series = field.bytes().map_err(malformed)?;
                    let (key, rest, index) = identify(&guard, before, series).map_err(malformed)?;
                    let hit = index.and_then(|i| Some((i, guard.series(i)?)));
                    let (index, reference) = match hit {
                        Some(hit) => hit,
                        None => {
                            drop(guard);
                            let found = self.look_up(key);
                            guard = read(self.known);
                            match found? {
                                Ok(found) => found,
                                Err((reason, why)) => {
                                    self.written.refused.add(reason, samples_in(rest)?, || why);
                                    continue;
                                }
                            }
                        }
                    };
                    guard.followed(before, index);
                    before = index;
                    self.series(&guard, Series { key, index, reference }, rest)?;
                }
                METADATA => self.metadata(field.bytes().map_err(malformed)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Asks the store, and remembers the answer. `Ok(Err)` is a reason, in a word and in a sentence.
    pub(super) fn look_up(&mut self, key: &[u8]) -> Result<Result<(u32, SeriesRef), Reason>, Failed> {
        let labels = match series_labels(key).map_err(malformed)? {
            Ok(labels) => labels,
            Err(why) => return Ok(Err(("invalid_labels", why))),
        };
        let reference = match self.appender.series(&labels) {
            Ok(reference) => reference,
            Err(refusal) => {
                let refusal = unless_full(refusal)?;
                return Ok(Err((reason(&refusal), format!("{labels}: {refusal}"))));
            }
        };
        let index = self.known.write().unwrap_or_else(PoisonError::into_inner).set(key, reference);
        Ok(Ok((index, reference)))
    }

    /// What follows the labels.
    fn series(&mut self, known: &Known, mut series: Series<'_>, rest: &[u8]) -> Result<(), Failed> {
        let mut fields = Message(rest);
        // All that most series have: samples, one after another.
        while let Some((&SAMPLE_TAG, after)) = fields.0.split_first() {
            fields.0 = after;
            let (value, at) = fields.delimited().and_then(sample).map_err(malformed)?;
            self.append(known, &mut series, at, Value::Float(value))?;
        }
        while let Some((number, field)) = fields.field().map_err(malformed)? {
            match number {
                LABELS => return Err(malformed(Malformed("labels of a series after its samples"))),
                SAMPLES => {
                    let (value, at) = field.bytes().and_then(sample).map_err(malformed)?;
                    self.append(known, &mut series, at, Value::Float(value))?;
                }
                HISTOGRAMS => match field.bytes().and_then(histogram).map_err(malformed)? {
                    Ok((at, h)) => {
                        self.append(known, &mut series, at.as_millis(), Value::Histogram(Arc::new(h)))?;
                    }
                    Err(why) => {
                        let example = || format!("{}: {why}", shown(series.key));
                        self.written.refused.add("invalid_histogram", 1, example);
                    }
                },
                EXEMPLARS => self.exemplar(&series, field.bytes().map_err(malformed)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn append(
        &mut self,
        known: &Known,
        series: &mut Series<'_>,
        at: i64,
        value: Value,
    ) -> Result<(), Failed> {
        let is_histogram = matches!(value, Value::Histogram(_));
        let appended = self.appender.append(series.reference, Timestamp::from_millis(at), value.clone());
        match appended {
            Ok(()) => self.written.one(is_histogram),
            Err(Refusal::UnknownSeries) => return self.append_anew(known, series, at, value),
            Err(refusal) => return self.refuse(series, at, refusal),
        }
        Ok(())
    }

    /// The series was forgotten for want of samples, so long ago that its reference is no longer known.
    #[cold]
    fn append_anew(
        &mut self,
        known: &Known,
        series: &mut Series<'_>,
        at: i64,
        value: Value,
    ) -> Result<(), Failed> {
        let is_histogram = matches!(value, Value::Histogram(_));
        let appended = self.appender.series(&shown(series.key)).and_then(|reference| {
            series.reference = reference;
            known.correct(series.index, reference);
            self.appender.append(reference, Timestamp::from_millis(at), value)
        });
        match appended {
            Ok(()) => self.written.one(is_histogram),
            Err(refusal) => return self.refuse(series, at, refusal),
        }
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, series: &Series<'_>, at: i64, refusal: Refusal) -> Result<(), Failed> {
        let refusal = unless_full(refusal)?;
        let at = Timestamp::from_millis(at);
        let example = || format!("{} at {at}: {refusal}", shown(series.key));
        self.written.refused.add(reason(&refusal), 1, example);
        Ok(())
    }

    fn exemplar(&mut self, series: &Series<'_>, body: &[u8]) -> Result<(), Failed> {
        match exemplar(body).map_err(malformed)? {
            Some(exemplar) => {
                self.appender.exemplar(series.reference, exemplar);
                self.written.exemplars += 1;
            }
            None => self.exemplars_refused += 1,
        }
        Ok(())
    }

    fn metadata(&mut self, body: &[u8]) -> Result<(), Failed> {
        if let Some((metric, metadata)) = metadata(body).map_err(malformed)? {
            self.appender.metadata(metric, &metadata);
            self.written.metadata += 1;
        }
        Ok(())
    }
}

/// Why a series is not taken, in a word and in a sentence.
pub(super) type Reason = (&'static str, String);

/// The label fields of a series, the rest of it, and its number if it is known.
type Identified<'m> = (&'m [u8], &'m [u8], Option<u32>);

/// Splits a series into its label fields and the rest, and finds which one it is.
#[inline]
fn identify<'m>(known: &Known, before: u32, series: &'m [u8]) -> Result<Identified<'m>, Malformed> {
    let guess = known.guess(before);
    if let Some(length) = known.matches(guess, series, LABEL_TAG) {
        let (key, rest) = series.split_at(length);
        return Ok((key, rest, Some(guess)));
    }
    let mut fields = Message(series);
    while let Some((&LABEL_TAG, after)) = fields.0.split_first() {
        fields.0 = after;
        fields.delimited()?;
    }
    let (key, rest) = series.split_at(series.len() - fields.0.len());
    Ok((key, rest, known.find(key)))
}

/// Value and milliseconds; what is zero may be left out.
#[inline]
pub(super) fn sample(body: &[u8]) -> Result<(f64, i64), Malformed> {
    // As every client writes it: value, then timestamp.
    let (bits, mut rest) = match body {
        [0x09, rest @ ..] => match rest.split_first_chunk() {
            Some((bits, rest)) => (u64::from_le_bytes(*bits), rest),
            None => return Err(Malformed("truncated double")),
        },
        rest => (0, rest),
    };
    if let [0x10, after @ ..] = rest {
        rest = after;
        let at = varint(&mut rest).ok_or(Malformed("truncated number"))?;
        if rest.is_empty() {
            return Ok((f64::from_bits(bits), at as i64));
        }
    }
    let (mut value, mut at) = (0.0, 0);
    let mut fields = Message(body);
    while let Some((number, field)) = fields.field()? {
        match number {
            1 => value = field.double()?,
            2 => at = field.varint()? as i64,
            _ => {}
        }
    }
    Ok((value, at))
}

/// `None` if it is more than an exemplar may be.
fn exemplar(body: &[u8]) -> Result<Option<Exemplar>, Malformed> {
    let (mut value, mut at) = (0.0, 0);
    let mut labels = Vec::new();
    let mut fields = Message(body);
    loop {
        let start = fields.0;
        let Some((number, field)) = fields.field()? else { break };
        match number {
            LABELS => labels.extend_from_slice(&start[..start.len() - fields.0.len()]),
            2 => value = field.double()?,
            3 => at = field.varint()? as i64,
            _ => {}
        }
    }
    let Ok(labels) = exemplar_labels(&labels)? else { return Ok(None) };
    let chars: usize = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    Ok((chars <= EXEMPLAR_CHARS_MAX).then(|| Exemplar {
        labels,
        value,
        timestamp: Timestamp::from_millis(at),
    }))
}

/// `None` if it has no usable name.
fn metadata(body: &[u8]) -> Result<Option<(&str, Metadata)>, Malformed> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let (mut metric, mut metadata) = ("", Metadata::default());
    let mut fields = Message(body);
    while let Some((number, field)) = fields.field()? {
        match number {
            1 => metadata.metric_type = metric_type(field.varint()?),
            2 => metric = text(field.bytes()?),
            4 => {
                let help = text(field.bytes()?);
                help[..help.floor_char_boundary(HELP_BYTES_MAX)].clone_into(&mut metadata.help);
            }
            5 => {
                let unit = text(field.bytes()?);
                unit[..unit.floor_char_boundary(METADATA_NAME_BYTES_MAX)].clone_into(&mut metadata.unit);
            }
            _ => {}
        }
    }
    let usable = !metric.is_empty() && metric.len() <= METADATA_NAME_BYTES_MAX;
    Ok(usable.then_some((metric, metadata)))
}

pub(super) fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

fn samples_in(rest: &[u8]) -> Result<u64, Failed> {
    let mut samples = 0;
    let mut fields = Message(rest);
    while let Some((number, _)) = fields.field().map_err(malformed)? {
        samples += u64::from(number == SAMPLES || number == HISTOGRAMS);
    }
    Ok(samples)
}

/// Labels of a series whose bytes were found good before.
pub(super) fn shown(key: &[u8]) -> Labels {
    series_labels(key).ok().and_then(Result::ok).unwrap_or_default()
}

pub(super) fn read(known: &RwLock<Known>) -> RwLockReadGuard<'_, Known> {
    known.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn malformed(why: Malformed) -> Failed {
    Failed::Malformed(format!("not a remote write message: {why}"))
}

/// What a sender may know; paths and details are for the log.
fn unavailable(error: &Error) -> Failed {
    warn!(%error, "remote write batch not stored");
    match error {
        Error::DiskFull { .. } | Error::Backlog { .. } => Failed::Unavailable(error.to_string()),
        _ => Failed::Unavailable("storage error, see davy's log".to_owned()),
    }
}

/// A full disk is nobody's fault here and passes: the sender keeps the batch and tries again.
fn unless_full(refusal: Refusal) -> Result<Refusal, Failed> {
    match refusal {
        Refusal::DiskFull { .. } => Err(Failed::Unavailable(refusal.to_string())),
        Refusal::SeriesLimit { .. }
        | Refusal::OutOfOrder { .. }
        | Refusal::Duplicate { .. }
        | Refusal::OutOfBounds { .. }
        | Refusal::UnknownSeries => Ok(refusal),
    }
}
