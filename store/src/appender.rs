//! `Appender`: a batch in the making. Checks each sample against the head, and commits all it took as one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use davy_model::{Exemplar, Labels, Metadata, Span, Timestamp, Value};

use crate::head::{Batch, Head};
use crate::packed_row::PackedRow;
use crate::row::{Row, bit, same};
use crate::spans::{SpanBatch, SpanBlock};
use crate::store::Inner;
use crate::{Durability, Error, Refusal, SeriesRef, Store};

/// Collects samples and spans, then commits them as one. Dropping it without a commit discards the batch.
pub struct Appender {
    store: Store,
    now: Timestamp,
    /// The times that are believed.
    from: Timestamp,
    to: Timestamp,
    disk_low: bool,
    rows: Vec<(u32, Row)>,
    row_numbers: HashMap<(u32, i64), usize, foldhash::fast::RandomState>,
    last: LastSample,
    batch: Batch,
    /// The group of the last sample: its neighbours mostly belong to the same.
    group: Option<KnownGroup>,
}

/// Where the last sample went, to guess where the next one goes.
#[derive(Default)]
struct LastSample {
    series: Option<SeriesRef>,
    row: usize,
    /// The row of the first sample in a row of the same series: the next series mostly begins there too.
    began: usize,
}

struct KnownGroup {
    number: u32,
    alive: u128,
    newest: i64,
    open: Option<OpenRow>,
}

/// The last row of the batch, if it is the group's and at a time later than all that the group has: what follows in
/// slots beyond those that the row holds belongs there without a further look.
struct OpenRow {
    at: Timestamp,
    end: u8,
}

impl Appender {
    pub(crate) fn new(store: Store, now: Timestamp) -> Self {
        let inner = store.inner();
        let limits = &inner.options.limits;
        let (from, to) = (now - limits.timestamp_past_max, now + limits.timestamp_future_max);
        let disk_low = inner.counters.disk_low.load(Ordering::Relaxed);
        Self {
            store,
            now,
            from,
            to,
            disk_low,
            rows: Vec::new(),
            row_numbers: HashMap::default(),
            last: LastSample::default(),
            batch: Batch::default(),
            group: None,
        }
    }

    /// Finds or creates a series. `Err` when a limit is reached: existing series keep working.
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesRef, Refusal> {
        if let Some(found) = self.inner().head().find(labels) {
            return Ok(found);
        }
        self.group = None;
        let created = self.inner().head_mut().series(labels, self.now);
        created.map_err(|r| self.refuse(r))
    }

    /// Labels of a series as the store shares them.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.inner().head().view.labels_of(series).cloned()
    }

    /// Takes a sample. The same sample again, in this batch or stored before, is accepted and kept once.
    #[inline]
    pub fn append(&mut self, series: SeriesRef, at: Timestamp, value: Value) -> Result<(), Refusal> {
        match value {
            Value::Float(v) if self.append_to_open(series, at, v) => Ok(()),
            value => self.try_append(series, at, value).map_err(|r| self.refuse(r)),
        }
    }

    pub fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        self.batch.exemplars.push((series, exemplar));
    }

    /// Says what a metric family is; last one wins.
    pub fn metadata(&mut self, metric: &str, metadata: &Metadata) {
        let wanted = self.inner().head().wants_metadata(metric, metadata);
        if wanted {
            self.batch.metadata.push((metric.into(), metadata.clone()));
        }
    }

    pub fn spans(&mut self, spans: Vec<Span>) {
        let mut batch = SpanBatch::new();
        spans.into_iter().for_each(|span| batch.push_span(&span));
        self.span_block(batch.seal());
    }

    /// Spans that are encoded already.
    pub fn span_block(&mut self, block: SpanBlock) {
        if !block.is_empty() {
            self.batch.spans.push(block);
        }
    }

    /// Blocking. On `Err` nothing of the batch was stored or will be.
    pub fn commit(mut self, durability: Durability) -> Result<(), Error> {
        self.batch.rows = self.rows.drain(..).map(|(g, r)| (g, Arc::new(PackedRow::pack(r)))).collect();
        if self.batch.is_empty() {
            return Ok(());
        }
        self.store.inner().commit(std::mem::take(&mut self.batch), self.now, durability)
    }

    #[inline]
    fn append_to_open(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> bool {
        let slot = series.slot();
        let group = self.group.as_mut().filter(|g| g.has(series));
        let open = group.and_then(|g| g.open.as_mut()).filter(|open| open.at == at && open.end <= slot);
        let (Some(open), Some((_, row))) = (open, self.rows.last_mut()) else { return false };
        row.push(slot, value);
        open.end = slot + 1;
        true
    }

    fn try_append(&mut self, series: SeriesRef, at: Timestamp, value: Value) -> Result<(), Refusal> {
        let Self { from, to, .. } = *self;
        if at < from || at > to {
            return Err(Refusal::OutOfBounds { got: at, from, to });
        }
        if self.disk_low {
            let floor_bytes = self.inner().options.limits.free_disk_bytes_min;
            return Err(Refusal::DiskFull { floor_bytes });
        }
        let (series, newest) = self.locate(series)?;
        if at.as_millis() <= newest && self.inner().is_stored(series, at, &value, to)? {
            return Ok(());
        }
        self.add(series, at, value)
    }

    /// The series, under its new name if it had been forgotten, and the newest time of its group.
    #[inline]
    fn locate(&mut self, series: SeriesRef) -> Result<(SeriesRef, i64), Refusal> {
        match KnownGroup::newest_for(self.group.as_ref(), series) {
            Some(newest) => Ok((series, newest)),
            None => self.look_up(series),
        }
    }

    fn look_up(&mut self, series: SeriesRef) -> Result<(SeriesRef, i64), Refusal> {
        let lives = |g: &Option<KnownGroup>, s| KnownGroup::newest_for(g.as_ref(), s);
        let known = KnownGroup::of(&self.inner().head(), series.group());
        self.group = known;
        if let Some(newest) = lives(&self.group, series) {
            return Ok((series, newest));
        }
        let series = self.inner().head_mut().revive(series, self.now)?;
        let known = KnownGroup::of(&self.inner().head(), series.group());
        self.group = known;
        lives(&self.group, series).map(|newest| (series, newest)).ok_or(Refusal::UnknownSeries)
    }

    #[inline]
    fn add(&mut self, series: SeriesRef, at: Timestamp, value: Value) -> Result<(), Refusal> {
        let (slot, time) = (series.slot(), at.as_millis());
        let (number, again) = self.row_of(series, time);
        let is_last = number + 1 == self.rows.len();
        let row = &mut self.rows[number].1;
        if !row.has(slot) {
            row.set(slot, value);
            // The second sample in the same row: others will follow.
            if let Some(known) = self.group.as_mut().filter(|g| again && is_last && g.newest < time) {
                known.open = Some(OpenRow { at, end: row.end() });
            }
            return Ok(());
        }
        match row.get(slot) {
            Some(before) if !same(&before, &value) => Err(Refusal::Duplicate { at }),
            _ => Ok(()),
        }
    }

    /// The row of the series' group at the time, and whether the last sample went there too.
    #[inline]
    fn row_of(&mut self, series: SeriesRef, time: i64) -> (usize, bool) {
        let group = series.group();
        let fits = |n: usize| self.rows.get(n).is_some_and(|(g, r)| *g == group && r.time == time);
        let goes_on = self.last.series == Some(series);
        let guess = if goes_on { self.last.row + 1 } else { self.last.began };
        let again = fits(self.last.row);
        let number = if again {
            self.last.row
        } else if fits(guess) {
            guess
        } else {
            self.find_row(group, time)
        };
        if !goes_on {
            (self.last.series, self.last.began) = (Some(series), number);
        }
        self.last.row = number;
        (number, again)
    }

    /// The same without a guess; a new one if there is none.
    fn find_row(&mut self, group: u32, time: i64) -> usize {
        *self.row_numbers.entry((group, time)).or_insert_with(|| {
            let known = self.group.as_mut().filter(|g| g.number == group);
            let members = known.map_or(0, |g| {
                g.open = None;
                g.alive.count_ones()
            });
            self.rows.push((group, Row::with_capacity(time, members as usize)));
            self.rows.len() - 1
        })
    }

    fn refuse(&self, refusal: Refusal) -> Refusal {
        self.inner().refused.count(&refusal);
        refusal
    }

    fn inner(&self) -> &Inner {
        self.store.inner()
    }
}

impl KnownGroup {
    /// The newest time of the group, if it is known and the series lives in it.
    #[inline]
    fn newest_for(group: Option<&Self>, series: SeriesRef) -> Option<i64> {
        group.filter(|g| g.has(series)).map(|g| g.newest)
    }

    /// Whether the series lives in it.
    #[inline]
    fn has(&self, series: SeriesRef) -> bool {
        self.number == series.group() && self.alive & bit(series.slot()) != 0
    }

    fn of(head: &Head, number: u32) -> Option<Self> {
        let group = head.view.groups.get(number)?;
        Some(Self {
            number,
            alive: group.alive(),
            newest: group.newest_time().max(head.floor.saturating_sub(1)),
            open: None,
        })
    }
}
