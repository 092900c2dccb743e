//! `TargetState`: what one target's scrapes are read against. Body in, rows to append out; no clock, no socket.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Exemplar, Labels, Metadata, STALE_NAN, Timestamp, name};

use super::cache::{LineCache, What};
use super::error::{LimitError, ScrapeError};
use super::family::{Families, Role};
use super::sample_labels::{SeriesError, series_labels};
use super::series::{Growth, SPARE_SERIES, Series, SeriesTable};
use super::start::{self, Circumstances, Point};
use crate::config::ScrapeConfig;
use crate::expfmt::{self, ExemplarLine, Format, Kind, LabelBuf, Reader};

/// Metrics of the scrape itself, in this order in [`TargetState::reports`].
pub(super) const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
const PROCESS_START: &str = "process_start_time_seconds";
/// Characters of an exemplar's labels, names and values together (OpenMetrics 1.0).
const EXEMPLAR_CHARS_MAX: usize = 128;

/// One sample to append. `series` is a number in the target's table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) series: u32,
    pub(super) at: Timestamp,
    pub(super) value: f64,
    /// The target gave the timestamp: its series is not marked stale.
    pub(super) explicit: bool,
}

/// What one scrape appends; kept by the loop so that its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) samples: Vec<Row>,
    /// Zeros where counters began, each before the first sample of its series.
    pub(super) zeros: Vec<Row>,
    /// Staleness markers of series that went.
    pub(super) stale: Vec<Row>,
    pub(super) exemplars: Vec<(u32, Exemplar)>,
    pub(super) metadata: Vec<(String, Metadata)>,
    pub(super) counts: Counts,
    /// This was the first successful scrape of the loop: the store may know the series already.
    pub(super) first: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Lines with a sample.
    pub(super) scraped: u64,
    /// Left after metric relabelling.
    pub(super) kept: u64,
    /// Series that were never seen before.
    pub(super) added: u64,
    /// Further samples of a series for the same time.
    pub(super) duplicates: u64,
}

impl Rows {
    fn clear(&mut self) {
        self.samples.clear();
        self.zeros.clear();
        self.stale.clear();
        self.exemplars.clear();
        self.metadata.clear();
        (self.counts, self.first) = (Counts::default(), false);
    }
}

/// When the series of a metric started, by its `_created` line.
#[derive(Debug, Default, Clone, Copy)]
struct Start {
    now: Option<Timestamp>,
    /// In the last successful scrape.
    before: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct TargetState {
    config: Arc<ScrapeConfig>,
    target: Labels,
    interval: Duration,
    lines: LineCache,
    pub(super) series: SeriesTable,
    pub(super) reports: SeriesTable,
    families: Families,
    starts: Vec<Start>,
    start_by_labels: HashMap<Labels, u32>,
    process_start: Option<Timestamp>,
    process_start_series: Option<What>,
    /// Series of the last successful scrape that get a marker when they go.
    live: Vec<u32>,
    live_next: Vec<u32>,
    /// The last successful scrape.
    previous: Option<Timestamp>,
    run: u32,
    /// Hash of the last exemplar of each series that has any, to store each once.
    exemplars: HashMap<u32, u64>,
}

impl TargetState {
    pub(super) fn new(config: Arc<ScrapeConfig>, target: Labels, interval: Duration) -> Self {
        let mut reports = SeriesTable::default();
        for metric in REPORTS {
            reports.get_or_insert(target.builder().set(name::METRIC, metric).clone().build());
        }
        Self {
            reports,
            config,
            target,
            interval,
            lines: LineCache::default(),
            series: SeriesTable::default(),
            families: Families::default(),
            starts: Vec::new(),
            start_by_labels: HashMap::new(),
            process_start: None,
            process_start_series: None,
            live: Vec::new(),
            live_next: Vec::new(),
            previous: None,
            run: 0,
            exemplars: HashMap::new(),
        }
    }

    /// The same target under a new configuration: its series go on, but what their lines mean is open again, and a
    /// series that was not there may have been dropped until now.
    pub(super) fn reconfigured(self, config: Arc<ScrapeConfig>, interval: Duration) -> Self {
        let Self { series, reports, live, target, run, .. } = self;
        Self { series, reports, live, run, ..Self::new(config, target, interval) }
    }

    /// No scrape of it was good yet.
    pub(super) fn is_new(&self) -> bool {
        self.previous.is_none()
    }

    /// Reads the body of a scrape at `at`. On an error nothing of it counts: see [`Self::fail`].
    pub(super) fn read(
        &mut self,
        body: &[u8],
        format: Format,
        at: Timestamp,
        rows: &mut Rows,
    ) -> Result<(), ScrapeError> {
        rows.clear();
        self.run = self.run.wrapping_add(1);
        self.lines.begin();
        self.read_lines(body, format, at, rows)?;
        self.finish(at, rows);
        rows.metadata = self.families.take_changed(format);
        Ok(())
    }

    /// The scrape failed, or the target is gone: every series of the last one ends.
    pub(super) fn fail(&mut self, at: Timestamp, rows: &mut Rows) {
        rows.clear();
        rows.stale.extend(self.live.drain(..).map(|series| marker(series, at)));
    }

    fn read_lines(
        &mut self,
        body: &[u8],
        format: Format,
        at: Timestamp,
        rows: &mut Rows,
    ) -> Result<(), ScrapeError> {
        let mut reader = Reader::new(body, format)?;
        let mut labels = LabelBuf::new();
        while let Some(kind) = reader.peek()? {
            if kind == Kind::Comment {
                self.read_comment(&mut reader)?;
                continue;
            }
            let what = match self.known_line(&mut reader) {
                Some(what) => what,
                None => {
                    let text = reader.series(&mut labels)?;
                    let what = self.resolve(&labels, format)?;
                    self.lines.insert(text.as_bytes(), what);
                    what
                }
            };
            let value = match reader.short_value() {
                Some(value) => {
                    if let What::Series(series) = what {
                        self.sample(Row { series, at, value, explicit: false }, rows)?;
                    }
                    value
                }
                None => {
                    let point = reader.point()?;
                    if let What::Series(series) = what {
                        self.point(series, &point, at, rows)?;
                    }
                    point.value
                }
            };
            rows.counts.scraped += 1;
            if let What::Start(start) = what {
                self.starts[start as usize].now = Timestamp::from_secs_f64(value);
            }
            // The labels are those of a line that was parsed just now.
            let process_start = labels.len() == 1 && labels[0].1 == PROCESS_START;
            if process_start {
                self.process_start_series = Some(what).filter(|w| matches!(w, What::Series(_)));
            }
            if process_start || Some(what) == self.process_start_series {
                self.process_start = Timestamp::from_secs_f64(value);
            }
            labels.clear();
        }
        Ok(())
    }

    fn read_comment(&mut self, reader: &mut Reader<'_>) -> Result<(), ScrapeError> {
        if let Some((len, What::Comment)) = self.lines.expected(reader.ahead())
            && reader.skip_line(len)
        {
            self.lines.hit();
            return Ok(());
        }
        let text = reader.line_text();
        match reader.comment()? {
            expfmt::Comment::Help { family, help } => self.families.set_help(&family, &help),
            expfmt::Comment::Type { family, metric_type } => self.families.set_type(&family, metric_type),
            expfmt::Comment::Unit { family, unit } => self.families.set_unit(&family, unit),
            expfmt::Comment::Other => {}
        }
        if self.lines.find(text.as_bytes()).is_none() {
            self.lines.insert(text.as_bytes(), What::Comment);
        }
        Ok(())
    }

    /// What the line is, if it was read before; the reader then stands before its value.
    fn known_line(&mut self, reader: &mut Reader<'_>) -> Option<What> {
        if let Some((len, what)) = self.lines.expected(reader.ahead())
            && what != What::Comment
            && reader.skip_series(len)
        {
            self.lines.hit();
            return Some(what);
        }
        let text = reader.series_text();
        let found = self.lines.find(text.as_bytes()).filter(|_| reader.skip_series(text.len()));
        found.filter(|what| *what != What::Comment)
    }

    /// What a line that was never read is.
    fn resolve(&mut self, line: &LabelBuf<'_>, format: Format) -> Result<What, ScrapeError> {
        let metric = line.iter().find(|(n, _)| n == name::METRIC).map_or("", |(_, v)| v);
        let role = self.families.role(metric, format);
        if let Role::Start { base } = role {
            return Ok(What::Start(self.start_of(base, line)));
        }
        let labels = match series_labels(line, &self.target, &self.config) {
            Ok(Some(labels)) => labels,
            Ok(None) => return Ok(What::Dropped),
            Err(SeriesError::Limit(e)) => return Err(e.into()),
            Err(e @ SeriesError::NoName { .. }) => return Err(ScrapeError::Relabel(e.to_string())),
        };
        let number = self.series.get_or_insert(labels);
        if let Role::Cumulative { base } = role {
            let start = (format == Format::OpenMetrics).then(|| self.start_of(base, line));
            self.series.all[number as usize].growth = start.map_or(Growth::FromZero, Growth::Since);
        }
        Ok(What::Series(number))
    }

    /// The place for the start time of a metric: the parts of a histogram share one.
    fn start_of(&mut self, base: &str, line: &LabelBuf<'_>) -> u32 {
        let own = line.iter().filter(|(n, _)| n != name::METRIC && n != name::LE && n != name::QUANTILE);
        let key = own.map(|(n, v)| (&**n, &**v)).chain([(name::METRIC, base)]);
        let next = self.starts.len() as u32;
        let number = *self.start_by_labels.entry(Labels::from_pairs(key)).or_insert(next);
        if number == next {
            self.starts.push(Start::default());
        }
        number
    }

    /// A sample that may have a timestamp and an exemplar.
    fn point(
        &mut self,
        series: u32,
        point: &expfmt::Point<'_>,
        at: Timestamp,
        rows: &mut Rows,
    ) -> Result<(), LimitError> {
        let explicit = point.timestamp.filter(|_| self.config.honor_timestamps);
        let at = explicit.unwrap_or(at);
        let taken =
            self.sample(Row { series, at, value: point.value, explicit: explicit.is_some() }, rows)?;
        if taken
            && let Some(e) = &point.exemplar
            && let Some(exemplar) = new_exemplar(e, at, self.exemplars.entry(series).or_default())
        {
            rows.exemplars.push((series, exemplar));
        }
        Ok(())
    }

    /// Takes a row; `false` for one that repeats another of the scrape.
    #[inline]
    fn sample(&mut self, row: Row, rows: &mut Rows) -> Result<bool, LimitError> {
        let series = &mut self.series.all[row.series as usize];
        rows.counts.kept += 1;
        let max = self.config.limits.samples_max;
        if rows.counts.kept > max {
            return Err(LimitError::Samples { max });
        }
        if series.run == self.run && rows.samples[series.row as usize].at == row.at {
            rows.counts.duplicates += 1;
            return Ok(false);
        }
        (series.run, series.row) = (self.run, rows.samples.len() as u32);
        rows.samples.push(row);
        Ok(true)
    }

    /// The body was good: finds what is new and what went.
    fn finish(&mut self, at: Timestamp, rows: &mut Rows) {
        self.lines.commit();
        let known = Circumstances {
            previous: self.previous,
            interval: self.interval,
            process_start: self.process_start.filter(|start| !self.counts_for_others(*start, at, rows)),
        };
        self.live_next.clear();
        for row in &rows.samples {
            let series = &mut self.series.all[row.series as usize];
            let zero = zero(row, series, &self.series.labels, &self.starts, &known);
            rows.zeros.extend(zero.map(|at| Row { at, value: 0.0, ..*row }));
            rows.counts.added += u64::from(series.last().is_none());
            series.set_last(row.at, row.value);
            if !row.explicit {
                self.live_next.push(row.series);
            }
        }
        let gone = self.live.iter().filter(|s| self.series.all[**s as usize].run != self.run);
        rows.stale.extend(gone.map(|s| marker(*s, at)));
        std::mem::swap(&mut self.live, &mut self.live_next);
        self.starts.iter_mut().for_each(|s| s.before = s.now);
        rows.first = self.previous.is_none();
        if rows.first {
            self.series.shrink_to_fit();
        }
        self.previous = Some(at);
    }

    /// Whether the counters of a first scrape are older than the process that shows them.
    fn counts_for_others(&self, process_start: Timestamp, at: Timestamp, rows: &Rows) -> bool {
        let is_foreign = |row: &Row| {
            let metric = self.series.labels[row.series as usize].metric_name();
            let growth = self.series.all[row.series as usize].growth;
            let point = Point { at, value: row.value, start: None };
            start::is_of_exporter(metric)
                || (growth != Growth::Free && !start::is_plausible(metric, point, process_start))
        };
        self.previous.is_none() && rows.samples.iter().any(is_foreign)
    }

    /// Bounds what is remembered of lines and series that went. Not while rows wait to be appended: it renumbers.
    pub(super) fn forget(&mut self) {
        self.lines.shrink();
        let most = 2 * self.live.len() + SPARE_SERIES;
        if self.series.all.len() <= most && self.starts.len() <= most {
            return;
        }
        self.live.sort_unstable();
        self.live.dedup();
        self.series.keep(&self.live);
        self.live = (0..self.live.len() as u32).collect();
        // Every line is read anew, and finds its new place.
        self.lines.clear();
        self.starts.clear();
        self.start_by_labels.clear();
        self.process_start_series = None;
        self.exemplars.clear();
        for series in &mut self.series.all {
            if let Growth::Since(_) = series.growth {
                series.growth = Growth::FromZero;
            }
        }
    }
}

fn zero(
    row: &Row,
    series: &Series,
    labels: &[Labels],
    starts: &[Start],
    known: &Circumstances,
) -> Option<Timestamp> {
    let start = match series.growth {
        Growth::Free => return None,
        Growth::FromZero => Start::default(),
        Growth::Since(number) => starts[number as usize],
    };
    let point = Point { at: row.at, value: row.value, start: start.now };
    match series.last() {
        // With a timestamp of its own it is somebody's copy, and may be old.
        None if row.explicit && start.now.is_none() => None,
        None => start::zero_of_new(point, known)
            .filter(|zero| start::is_plausible(labels[row.series as usize].metric_name(), point, *zero)),
        Some((at, value)) => start::zero_of_restarted(point, Point { at, value, start: start.before }),
    }
}

fn marker(series: u32, at: Timestamp) -> Row {
    Row { series, at, value: STALE_NAN, explicit: false }
}

/// An exemplar that was not there in the last scrape, and keeps to its size.
fn new_exemplar(line: &ExemplarLine<'_>, at: Timestamp, last: &mut u64) -> Option<Exemplar> {
    let mut hasher = DefaultHasher::new();
    line.text.hash(&mut hasher);
    let hash = hasher.finish();
    let chars: usize = line.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    if std::mem::replace(last, hash) == hash || chars > EXEMPLAR_CHARS_MAX {
        return None;
    }
    let labels = Labels::from_pairs(line.labels.iter().map(|(n, v)| (&**n, &**v)));
    Some(Exemplar { labels, value: line.value, timestamp: line.timestamp.unwrap_or(at) })
}

#[cfg(test)]
mod tests;
