//! A `Request` of remote write 2.0 into one batch of the store: its series name their labels by number, in a table of
//! symbols. Once the labels are written out as 1.0 has them, a series is found and appended as there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use davy_model::{Exemplar, Histogram, Metadata, Timestamp, Value};
use davy_store::{SeriesRef, Store};

use super::append::{
    Batch, EXEMPLAR_CHARS_MAX, HELP_BYTES_MAX, METADATA_NAME_BYTES_MAX, Series, commit, malformed,
    metric_type, read, sample, shown,
};
use super::histogram::histogram;
use super::known::Known;
use super::labels::{LABELS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX, exemplar_labels};
use super::outcome::{Failed, Written};
use super::stats::RemoteWriteStats;
use super::wire::{Field, Malformed, Message, varint};

/// Fields of Request.
const SYMBOLS: u64 = 4;
const TIMESERIES: u64 = 5;
/// Fields of TimeSeries.
const LABELS_REFS: u64 = 1;
const SAMPLES: u64 = 2;
const HISTOGRAMS: u64 = 3;
const EXEMPLARS: u64 = 4;
const METADATA: u64 = 5;
const CREATED: u64 = 6;

/// Texts of one request; Prometheus sends a few thousand.
const SYMBOLS_MAX: usize = 1 << 20;
/// A start is worth a zero if it is no older than this: what was counted before is not news.
const START_AGE_MAX: Duration = Duration::from_secs(300);
/// Starts that are remembered; beyond, all are forgotten.
const STARTS_MAX: usize = 1_000_000;

/// When each series started, so that its zero is written once.
pub(super) type Starts = Mutex<HashMap<SeriesRef, i64>>;

/// On `Err` nothing is stored. On disk and visible on return.
pub(super) fn write(
    store: &Store,
    known: &RwLock<Known>,
    starts: &Starts,
    now: Timestamp,
    message: &[u8],
    stats: &RemoteWriteStats,
) -> Result<Written, Failed> {
    let symbols = symbols(message).map_err(malformed)?;
    let mut began = Vec::new();
    let written = commit(store, known, now, stats, |batch| {
        began.clear();
        let mut request = Request { batch, symbols: &symbols, starts, began: &mut began, said: "" };
        request.walk(message)
    })?;
    let mut starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
    if starts.len() + began.len() > STARTS_MAX {
        starts.clear();
    }
    starts.extend(began);
    Ok(written)
}

/// The table, wherever in the message its texts stand.
fn symbols(message: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut out = Vec::new();
    let mut fields = Message(message);
    while let Some((number, field)) = fields.field()? {
        match number {
            SYMBOLS if out.len() < SYMBOLS_MAX => out.push(field.bytes()?),
            SYMBOLS => return Err(Malformed("more than 1048576 symbols")),
            // Those of 1.0, which this message leaves out so that nobody takes one for the other.
            1..=3 => return Err(Malformed("a WriteRequest of 1.0 in the content type of 2.0")),
            _ => {}
        }
    }
    Ok(out)
}

struct Request<'a, 'b, 'm> {
    batch: &'a mut Batch<'b>,
    symbols: &'a [&'m [u8]],
    starts: &'a Starts,
    /// Series whose zero is in the batch, or is not wanted.
    began: &'a mut Vec<(SeriesRef, i64)>,
    /// The metric whose metadata was said last.
    said: &'m str,
}

/// What a series says of itself, before its samples.
#[derive(Default)]
struct Head<'m> {
    refs: Vec<u64>,
    samples: u64,
    metadata: Option<&'m [u8]>,
    created: i64,
    /// The first of its samples, and whether that is a histogram.
    first: Option<&'m [u8]>,
    is_histogram: bool,
}

impl<'m> Request<'_, '_, 'm> {
    fn walk(&mut self, message: &'m [u8]) -> Result<(), Failed> {
        let mut key = Vec::new();
        let mut fields = Message(message);
        while let Some((number, field)) = fields.field().map_err(malformed)? {
            if number == TIMESERIES {
                self.series(field.bytes().map_err(malformed)?, &mut key)?;
            }
        }
        Ok(())
    }

    fn series(&mut self, body: &'m [u8], key: &mut Vec<u8>) -> Result<(), Failed> {
        let head = head(body).map_err(malformed)?;
        if let Err(why) = self.write_labels(&head.refs, key).map_err(malformed)? {
            self.batch.written.refused.add("invalid_labels", head.samples, || why);
            return Ok(());
        }
        let guard = read(self.batch.known);
        let hit = guard.find(key).and_then(|i| Some((i, guard.series(i)?)));
        drop(guard);
        let (index, reference) = match hit {
            Some(hit) => hit,
            None => match self.batch.look_up(key)? {
                Ok(found) => found,
                Err((reason, why)) => {
                    self.batch.written.refused.add(reason, head.samples, || why);
                    return Ok(());
                }
            },
        };
        let known = read(self.batch.known);
        let mut series = Series { key, index, reference };
        self.start(&head, reference)?;
        let mut fields = Message(body);
        while let Some((number, field)) = fields.field().map_err(malformed)? {
            match number {
                SAMPLES => {
                    let (value, at) = field.bytes().and_then(sample).map_err(malformed)?;
                    self.batch.append(&known, &mut series, at, Value::Float(value))?;
                }
                HISTOGRAMS => match field.bytes().and_then(histogram).map_err(malformed)? {
                    Ok((at, h)) => {
                        self.batch.append(
                            &known,
                            &mut series,
                            at.as_millis(),
                            Value::Histogram(Arc::new(h)),
                        )?;
                    }
                    Err(why) => {
                        let example = || format!("{}: {why}", shown(series.key));
                        self.batch.written.refused.add("invalid_histogram", 1, example);
                    }
                },
                EXEMPLARS => match self.exemplar(field.bytes().map_err(malformed)?).map_err(malformed)? {
                    Some(exemplar) => {
                        self.batch.appender.exemplar(series.reference, exemplar);
                        self.batch.written.exemplars += 1;
                    }
                    None => self.batch.exemplars_refused += 1,
                },
                _ => {}
            }
        }
        drop(known);
        match head.metadata {
            Some(body) => self.metadata(body, &head.refs).map_err(malformed),
            None => Ok(()),
        }
    }

    /// The labels as 1.0 writes them: by these bytes a series is known, whichever version brings it.
    fn write_labels(&self, refs: &[u64], key: &mut Vec<u8>) -> Result<Result<(), String>, Malformed> {
        key.clear();
        let (pairs, odd) = refs.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(Malformed("a label name without a value: an odd number of references"));
        }
        if pairs.len() > LABELS_MAX {
            return Ok(Err(format!("{} labels, at most {LABELS_MAX}", pairs.len())));
        }
        for [name, value] in pairs {
            let (name, value) = (self.symbol(*name)?, self.symbol(*value)?);
            // Before they are copied: a large text may be named by every series.
            if name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
                let (n, v) = (name.len(), value.len());
                return Ok(Err(format!(
                    "a label of {n} and {v} bytes, at most {NAME_BYTES_MAX} and {VALUE_BYTES_MAX}"
                )));
            }
            put_label(key, name, value);
        }
        Ok(Ok(()))
    }

    fn symbol(&self, number: u64) -> Result<&'m [u8], Malformed> {
        let found = usize::try_from(number).ok().and_then(|n| self.symbols.get(n));
        found.copied().ok_or(Malformed("a reference to a symbol that is not there"))
    }

    /// A zero where the series began, as for a scraped counter, so that its first increments count.
    fn start(&mut self, head: &Head<'_>, series: SeriesRef) -> Result<(), Failed> {
        let (created, Some(first)) = (head.created, head.first) else { return Ok(()) };
        let known = self.starts.lock().unwrap_or_else(PoisonError::into_inner).get(&series) == Some(&created);
        if created <= 0 || known {
            return Ok(());
        }
        self.began.push((series, created));
        let (at, zero) = if head.is_histogram {
            match histogram(first).map_err(malformed)? {
                Ok((at, h)) => (at, Value::Histogram(Arc::new(empty(&h)))),
                Err(_) => return Ok(()),
            }
        } else {
            (Timestamp::from_millis(sample(first).map_err(malformed)?.1), Value::Float(0.0))
        };
        let start = Timestamp::from_millis(created);
        if start < at && at.since(start) <= START_AGE_MAX {
            // One that is refused is no loss of the sender's.
            let _ = self.batch.appender.append(series, start, zero);
        }
        Ok(())
    }

    /// `None` if it is more than an exemplar may be.
    fn exemplar(&self, body: &[u8]) -> Result<Option<Exemplar>, Malformed> {
        let (mut refs, mut value, mut at) = (Vec::new(), 0.0, 0);
        let mut fields = Message(body);
        while let Some((number, field)) = fields.field()? {
            match number {
                1 => numbers(field, &mut refs)?,
                2 => value = field.double()?,
                3 => at = field.varint()? as i64,
                _ => {}
            }
        }
        let mut labels = Vec::new();
        if self.write_labels(&refs, &mut labels)?.is_err() {
            return Ok(None);
        }
        let Ok(labels) = exemplar_labels(&labels)? else { return Ok(None) };
        let chars: usize = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        let timestamp = Timestamp::from_millis(at);
        Ok((chars <= EXEMPLAR_CHARS_MAX).then_some(Exemplar { labels, value, timestamp }))
    }

    /// Kept for the family: every series of it says the same.
    fn metadata(&mut self, body: &[u8], refs: &[u64]) -> Result<(), Malformed> {
        let (pairs, _) = refs.as_chunks::<2>();
        let mut metric = "";
        for [name, value] in pairs {
            if self.symbol(*name)? == b"__name__" {
                metric = std::str::from_utf8(self.symbol(*value)?).unwrap_or_default();
            }
        }
        if metric.is_empty() || metric.len() > METADATA_NAME_BYTES_MAX || metric == self.said {
            return Ok(());
        }
        self.said = metric;
        let mut metadata = Metadata::default();
        let mut fields = Message(body);
        while let Some((number, field)) = fields.field()? {
            match number {
                1 => metadata.metric_type = metric_type(field.varint()?),
                3 => metadata.help = cut(self.symbol(field.varint()?)?, HELP_BYTES_MAX),
                4 => metadata.unit = cut(self.symbol(field.varint()?)?, METADATA_NAME_BYTES_MAX),
                _ => {}
            }
        }
        if metadata != Metadata::default() {
            self.batch.appender.metadata(family(metric, &metadata), &metadata);
            self.batch.written.metadata += 1;
        }
        Ok(())
    }
}

fn head(body: &[u8]) -> Result<Head<'_>, Malformed> {
    let mut head = Head::default();
    let mut fields = Message(body);
    while let Some((number, field)) = fields.field()? {
        match number {
            LABELS_REFS => numbers(field, &mut head.refs)?,
            SAMPLES | HISTOGRAMS => {
                head.samples += 1;
                if head.first.is_none() {
                    head.first = Some(field.bytes()?);
                    head.is_histogram = number == HISTOGRAMS;
                }
            }
            METADATA => head.metadata = Some(field.bytes()?),
            CREATED => head.created = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(head)
}

/// Packed, as every client writes them, or one a field. No more than a series can use are kept.
fn numbers(field: Field<'_>, out: &mut Vec<u64>) -> Result<(), Malformed> {
    let mut keep = |n| {
        if out.len() <= 2 * LABELS_MAX {
            out.push(n);
        }
    };
    match field {
        Field::Varint(n) => keep(n),
        Field::Bytes(mut packed) => {
            while !packed.is_empty() {
                keep(varint(&mut packed).ok_or(Malformed("truncated packed number"))?);
            }
            // One too many would look odd in number.
            if out.len() > 2 * LABELS_MAX {
                out.push(0);
            }
        }
        Field::Fixed64(_) | Field::Fixed32 => return Err(Malformed("references that are no varints")),
    }
    Ok(())
}

fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let length = |n: usize| prost::encoding::encoded_len_varint(n as u64);
    let whole = 1 + length(name.len()) + name.len() + 1 + length(value.len()) + value.len();
    out.push(0x0a);
    prost::encoding::encode_varint(whole as u64, out);
    for (tag, text) in [(0x0a, name), (0x12, value)] {
        out.push(tag);
        prost::encoding::encode_varint(text.len() as u64, out);
        out.extend_from_slice(text);
    }
}

/// The name under which scrapes and 1.0 keep the metadata of a histogram's or a summary's series.
fn family<'a>(metric: &'a str, metadata: &Metadata) -> &'a str {
    use davy_model::MetricType as T;
    if !matches!(metadata.metric_type, T::Histogram | T::GaugeHistogram | T::Summary) {
        return metric;
    }
    ["_bucket", "_count", "_sum", "_created"].iter().find_map(|s| metric.strip_suffix(s)).unwrap_or(metric)
}

fn cut(text: &[u8], bytes_max: usize) -> String {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

fn empty(like: &Histogram) -> Histogram {
    let (schema, custom_bounds) = (like.schema, like.custom_bounds.clone());
    Histogram {
        schema,
        gauge: like.gauge,
        zero_threshold: like.zero_threshold,
        custom_bounds,
        ..Histogram::default()
    }
}
