//! `davy export openmetrics`: a folder's samples as OpenMetrics 1.0 text, a metric and a day at a time.
//!
//! Families in order of their names, within a family one metric after another, and the points of a histogram or
//! summary together, as the format wants it. Memory holds the labels of what is exported and a day of one metric.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use davy_model::{Exemplar, Labels, MatchOp, Matcher, Metadata, MetricType, Sample, Timestamp, Value, name};
use davy_store::{SeriesSamples, Snapshot};

use super::FolderArgs;
use super::family::{Families, Family};
use crate::config::parse_selector;

/// Of one metric, how much is in memory at a time.
const WINDOW: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Series to export, such as `http_requests_total{job="shop"}`; what any of them selects. All unless given.
    #[arg(long = "match", value_parser = selector)]
    selectors: Vec<Selector>,
    /// The oldest time to export: RFC 3339, or seconds since 1970.
    #[arg(long, value_parser = time)]
    from: Option<Timestamp>,
    /// The newest time to export.
    #[arg(long, value_parser = time)]
    to: Option<Timestamp>,
    /// A new file; standard output unless given.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Selector(Vec<Matcher>);

fn selector(text: &str) -> Result<Selector, String> {
    parse_selector(text).map(Selector)
}

fn time(text: &str) -> Result<Timestamp, String> {
    let seconds = text.parse().ok().and_then(Timestamp::from_secs_f64);
    let date = || text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp::from_millis(t.as_millisecond()));
    seconds
        .or_else(date)
        .ok_or_else(|| "expected a time such as 2026-01-01T00:00:00Z or 1767225600".to_owned())
}

pub(super) fn run(args: &ExportArgs) -> Result<String, String> {
    let (store, _) = args.folder.open(true)?;
    let snapshot = store.snapshot();
    let written = match &args.output {
        Some(path) => {
            let named = |e: io::Error| format!("{}: {e}", path.display());
            let file = File::create_new(path).map_err(named)?;
            let mut out = BufWriter::new(file);
            let counts = export(&snapshot, args, &mut out)?;
            out.into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|f| f.sync_all())
                .map_err(named)?;
            counts
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let counts = export(&snapshot, args, &mut out)?;
            out.flush().map_err(|e| e.to_string())?;
            counts
        }
    };
    Ok(written.to_string())
}

#[derive(Default)]
struct Counts {
    samples: u64,
    series: u64,
    exemplars: u64,
    /// What the text cannot say.
    histograms: u64,
    stale: u64,
    exemplars_left_out: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { samples, series, exemplars, .. } = self;
        write!(f, "{samples} samples of {series} series exported, {exemplars} exemplars")?;
        for (n, what) in [
            (self.histograms, "native histograms"),
            (self.stale, "staleness markers"),
            (self.exemplars_left_out, "exemplars that no sample can carry"),
        ] {
            if n > 0 {
                write!(f, "; left out, since OpenMetrics cannot say them: {n} {what}")?;
            }
        }
        Ok(())
    }
}

fn export(snapshot: &Snapshot, args: &ExportArgs, out: &mut impl Write) -> Result<Counts, String> {
    let mut counts = Counts::default();
    if let Some((oldest, newest)) = snapshot.time_range() {
        let (from, to) = (args.from.unwrap_or(oldest).max(oldest), args.to.unwrap_or(newest).min(newest));
        let everything = [Selector(Vec::new())];
        let selectors = if args.selectors.is_empty() { &everything[..] } else { &args.selectors[..] };
        let mut exporter = Exporter::new(snapshot, (from, to), out, &mut counts);
        exporter.families(selectors)?;
    }
    out.write_all(b"# EOF\n").map_err(|e| e.to_string())?;
    Ok(counts)
}

struct Exporter<'a, W> {
    snapshot: &'a Snapshot,
    range: (Timestamp, Timestamp),
    families: Families<'a>,
    exemplars: HashMap<Labels, Vec<Exemplar>>,
    out: &'a mut W,
    counts: &'a mut Counts,
}

/// The series of one metric in the sense of OpenMetrics: of a histogram all buckets, sum and count.
type Metrics = BTreeMap<Labels, Vec<Labels>>;

impl<'a, W: Write> Exporter<'a, W> {
    fn new(
        snapshot: &'a Snapshot,
        range: (Timestamp, Timestamp),
        out: &'a mut W,
        counts: &'a mut Counts,
    ) -> Self {
        let families = Families(snapshot.all_metadata().collect());
        let exemplars = snapshot.exemplars(&[], Timestamp::MIN, Timestamp::MAX).into_iter().collect();
        Self { snapshot, range, families, exemplars, out, counts }
    }

    fn families(&mut self, selectors: &[Selector]) -> Result<(), String> {
        let (from, to) = self.range;
        let mut families: BTreeMap<Family, Metrics> = BTreeMap::new();
        for Selector(matchers) in selectors {
            for labels in self.snapshot.series(matchers, from, to).map_err(|e| e.to_string())? {
                let family = self.families.of(labels.metric_name());
                let part = match family.metric_type {
                    MetricType::Unknown => labels.clone(),
                    MetricType::Counter
                    | MetricType::Gauge
                    | MetricType::Histogram
                    | MetricType::GaugeHistogram
                    | MetricType::Summary
                    | MetricType::Info
                    | MetricType::StateSet => labels.without(&[name::METRIC, name::LE, name::QUANTILE]),
                };
                families.entry(family).or_default().entry(part).or_default().push(labels);
            }
        }
        for (family, metrics) in families {
            self.describe(&family).map_err(|e| e.to_string())?;
            for mut series in metrics.into_values() {
                series.sort_by(|a, b| place(a).total_cmp(&place(b)).then_with(|| a.cmp(b)));
                series.dedup();
                self.metric(&series, &family)?;
            }
        }
        Ok(())
    }

    fn describe(&mut self, family: &Family) -> io::Result<()> {
        let unknown = Metadata::default();
        let known = family.key.as_ref().and_then(|key| self.families.0.get(key.as_str())).copied();
        let Metadata { help, unit, .. } = known.unwrap_or(&unknown);
        let name = quoted_name(&family.name);
        if known.is_some() {
            writeln!(self.out, "# TYPE {name} {}", family.metric_type)?;
        }
        if !unit.is_empty() && family.name.strip_suffix(unit).is_some_and(|base| base.ends_with('_')) {
            writeln!(self.out, "# UNIT {name} {unit}")?;
        }
        if !help.is_empty() {
            writeln!(self.out, "# HELP {name} {}", escaped(help))?;
        }
        Ok(())
    }

    fn metric(&mut self, series: &[Labels], family: &Family) -> Result<(), String> {
        let (from, to) = self.range;
        let mut lines: Vec<Line> = series.iter().map(|labels| self.line(labels, family)).collect();
        let mut start = from;
        while start <= to {
            let end = (start + WINDOW - Duration::from_millis(1)).min(to);
            let columns = self.select(series, start, end)?;
            self.points(&mut lines, &columns).map_err(|e| e.to_string())?;
            start = end + Duration::from_millis(1);
        }
        self.counts.series += lines.iter().filter(|l| l.written).count() as u64;
        self.counts.exemplars_left_out += lines.iter().map(|l| l.exemplars.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Samples of each of the series, in their order.
    fn select(&self, series: &[Labels], from: Timestamp, to: Timestamp) -> Result<Vec<Vec<Sample>>, String> {
        let rest = series[0].without(&[name::METRIC, name::LE, name::QUANTILE]);
        let mut matchers: Vec<Matcher> = rest.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
        let mut names: Vec<String> = series.iter().map(|l| regex::escape(l.metric_name())).collect();
        names.dedup();
        if let [labels] = series {
            matchers = labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
        } else {
            let one =
                Matcher::new(name::METRIC, MatchOp::Regex, &names.join("|")).map_err(|e| e.to_string())?;
            matchers.push(one);
        }
        let found = self.snapshot.select(&matchers, from, to).map_err(|e| e.to_string())?;
        let mut found: HashMap<Labels, Vec<Sample>> =
            found.into_iter().map(|SeriesSamples { labels, samples }| (labels, samples)).collect();
        Ok(series.iter().map(|labels| found.remove(labels).unwrap_or_default()).collect())
    }

    /// All series at one time, then at the next.
    fn points(&mut self, lines: &mut [Line], columns: &[Vec<Sample>]) -> io::Result<()> {
        let mut next = vec![0; columns.len()];
        loop {
            let times = columns.iter().zip(&next).filter_map(|(c, i)| Some(c.get(*i)?.timestamp));
            let Some(time) = times.min() else { return Ok(()) };
            for ((column, i), line) in columns.iter().zip(&mut next).zip(lines.iter_mut()) {
                if let Some(sample) = column.get(*i).filter(|s| s.timestamp == time) {
                    *i += 1;
                    self.point(line, sample)?;
                }
            }
        }
    }

    fn point(&mut self, line: &mut Line, sample: &Sample) -> io::Result<()> {
        let value = match &sample.value {
            Value::Histogram(_) => {
                self.counts.histograms += 1;
                return Ok(());
            }
            Value::Float(_) if sample.value.is_stale() => {
                self.counts.stale += 1;
                return Ok(());
            }
            Value::Float(v) => *v,
        };
        write!(self.out, "{} {} {}", line.series, number(value), sample.timestamp)?;
        // An exemplar was seen at or before the sample that shows it; of several the newest can be said.
        let seen = line.exemplars.partition_point(|e| e.timestamp <= sample.timestamp);
        if let Some(e) = line.exemplars.drain(..seen).next_back() {
            self.counts.exemplars += 1;
            self.counts.exemplars_left_out += seen as u64 - 1;
            let labels = braces(&e.labels, &[]);
            let labels = if labels.is_empty() { "{}" } else { &labels };
            write!(self.out, " # {labels} {} {}", number(e.value), e.timestamp)?;
        }
        self.out.write_all(b"\n")?;
        self.counts.samples += 1;
        line.written = true;
        Ok(())
    }

    fn line(&mut self, labels: &Labels, family: &Family) -> Line {
        let metric = labels.metric_name();
        let carries = match family.metric_type {
            MetricType::Counter => metric.ends_with("_total"),
            MetricType::Histogram | MetricType::GaugeHistogram => metric.ends_with("_bucket"),
            MetricType::Gauge
            | MetricType::Summary
            | MetricType::Info
            | MetricType::StateSet
            | MetricType::Unknown => false,
        };
        let mut exemplars = self.exemplars.remove(labels).unwrap_or_default();
        exemplars.sort_by_key(|e| e.timestamp);
        if !carries {
            self.counts.exemplars_left_out += exemplars.len() as u64;
            exemplars.clear();
        }
        Line { series: text(labels), exemplars, written: false }
    }
}

/// One series on its way out.
struct Line {
    /// Name and labels as they stand at the start of its lines.
    series: String,
    /// Those not written yet, oldest first.
    exemplars: Vec<Exemplar>,
    written: bool,
}

/// Buckets by their bound and quantiles by theirs come first, then count and sum.
fn place(labels: &Labels) -> f64 {
    let bound = labels.get(name::LE).or_else(|| labels.get(name::QUANTILE));
    match bound {
        Some("+Inf") => f64::MAX,
        Some(bound) => bound.parse().unwrap_or(f64::MAX),
        None => f64::INFINITY,
    }
}

fn text(labels: &Labels) -> String {
    let metric = labels.metric_name();
    if is_name(metric) {
        return format!("{metric}{}", braces(labels, &[name::METRIC]));
    }
    let rest = braces(labels, &[name::METRIC]);
    let rest = rest.trim_start_matches('{');
    let comma = if rest.is_empty() || rest == "}" { "" } else { "," };
    let rest = if rest.is_empty() { "}" } else { rest };
    format!("{{\"{}\"{comma}{rest}", escaped(metric))
}

/// `{a="b",c="d"}`, or nothing without labels.
fn braces(labels: &Labels, without: &[&str]) -> String {
    let mut out = String::new();
    for (n, v) in labels.iter().filter(|(n, _)| !without.contains(n)) {
        out.push(if out.is_empty() { '{' } else { ',' });
        if is_label_name(n) {
            out.push_str(n);
        } else {
            out.push_str(&format!("\"{}\"", escaped(n)));
        }
        out.push_str("=\"");
        out.push_str(&escaped(v));
        out.push('"');
    }
    if !out.is_empty() {
        out.push('}');
    }
    out
}

fn quoted_name(metric: &str) -> String {
    if is_name(metric) { metric.to_owned() } else { format!("\"{}\"", escaped(metric)) }
}

fn is_name(s: &str) -> bool {
    !s.is_empty()
        && !s.starts_with(|c: char| c.is_ascii_digit())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
}

fn is_label_name(s: &str) -> bool {
    is_name(s) && !s.contains(':')
}

fn escaped(s: &str) -> String {
    s.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// The shortest text that reads back to the same bits.
fn number(v: f64) -> String {
    if v == f64::INFINITY {
        "+Inf".to_owned()
    } else if v == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        format!("{v:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davy_model::{Clock as _, STALE_NAN};
    use davy_store::{Durability, Limits, Options, Store};
    use proptest::prelude::*;
    use std::sync::Arc;

    use crate::clock::SystemClock;

    const START: i64 = 1_767_225_600_000;

    fn open(dir: &std::path::Path) -> Store {
        let limits = Limits {
            free_disk_bytes_min: 0,
            timestamp_past_max: Duration::from_secs(1 << 32),
            ..Limits::default()
        };
        Store::open(dir, SystemClock.now(), Options { limits, ..Options::default() }).unwrap().0
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(START + ms)
    }

    fn args(dir: &std::path::Path, more: &[&str]) -> ExportArgs {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: ExportArgs,
        }
        let folder = dir.to_string_lossy().into_owned();
        let all = ["export", "--storage.path", &folder].into_iter().chain(more.iter().copied());
        <Cli as clap::Parser>::try_parse_from(all).unwrap().args
    }

    fn exported(store: &Store, more: &[&str]) -> (String, Counts) {
        let mut out = Vec::new();
        let counts = export(&store.snapshot(), &args(std::path::Path::new("x"), more), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), counts)
    }

    fn put(store: &Store, pairs: &[(&str, &str)], ms: i64, value: Value) {
        let mut a = store.appender(at(ms));
        let series = a.series(&Labels::from_pairs(pairs.iter().copied())).unwrap();
        a.append(series, at(ms), value).unwrap();
        a.commit(Durability::Sync).unwrap();
    }

    #[test]
    fn families_are_written_as_openmetrics_wants_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for t in [0, 1000] {
            for (le, n) in [("+Inf", 3.0), ("0.5", 1.0), ("10", 2.0)] {
                put(&store, &[("__name__", "latency_seconds_bucket"), ("le", le)], t, Value::Float(n));
            }
            put(&store, &[("__name__", "latency_seconds_sum")], t, Value::Float(4.25));
            put(&store, &[("__name__", "latency_seconds_count")], t, Value::Float(3.0));
            put(&store, &[("__name__", "requests_total"), ("path", "a\"b\\c\nd")], t, Value::Float(1e21));
        }
        put(&store, &[("__name__", "odd.name"), ("dotted.label", "x")], 0, Value::Float(f64::NAN));
        put(&store, &[("__name__", "native")], 0, Value::Histogram(Arc::default()));
        put(&store, &[("__name__", "requests_total"), ("path", "gone")], 0, Value::Float(STALE_NAN));
        let mut a = store.appender(at(0));
        let metadata = |metric_type, help: &str, unit: &str| Metadata {
            metric_type,
            help: help.to_owned(),
            unit: unit.to_owned(),
        };
        a.metadata("requests_total", &metadata(MetricType::Counter, "Requests.\nAll.", ""));
        a.metadata("latency_seconds", &metadata(MetricType::Histogram, "", "seconds"));
        let bucket = Labels::from_pairs([("__name__", "latency_seconds_bucket"), ("le", "0.5")]);
        let series = a.series(&bucket).unwrap();
        let trace = Labels::from_pairs([("trace_id", "ab")]);
        a.exemplar(series, Exemplar { labels: trace, value: 0.25, timestamp: at(900) });
        a.commit(Durability::Sync).unwrap();
        let (text, counts) = exported(&store, &[]);
        expect_test::expect![[r#"
            # TYPE latency_seconds histogram
            # UNIT latency_seconds seconds
            latency_seconds_bucket{le="0.5"} 1.0 1767225600
            latency_seconds_bucket{le="10"} 2.0 1767225600
            latency_seconds_bucket{le="+Inf"} 3.0 1767225600
            latency_seconds_count 3.0 1767225600
            latency_seconds_sum 4.25 1767225600
            latency_seconds_bucket{le="0.5"} 1.0 1767225601 # {trace_id="ab"} 0.25 1767225600.900
            latency_seconds_bucket{le="10"} 2.0 1767225601
            latency_seconds_bucket{le="+Inf"} 3.0 1767225601
            latency_seconds_count 3.0 1767225601
            latency_seconds_sum 4.25 1767225601
            {"odd.name","dotted.label"="x"} NaN 1767225600
            # TYPE requests counter
            # HELP requests Requests.\nAll.
            requests_total{path="a\"b\\c\nd"} 1e21 1767225600
            requests_total{path="a\"b\\c\nd"} 1e21 1767225601
            # EOF
        "#]]
        .assert_eq(&text);
        assert_eq!((counts.samples, counts.series, counts.exemplars), (13, 7, 1));
        assert_eq!((counts.histograms, counts.stale, counts.exemplars_left_out), (1, 1, 0));
        let (some, _) = exported(&store, &["--match", "requests_total", "--from", "2026-01-01T00:00:01Z"]);
        assert_eq!(some.lines().filter(|l| !l.starts_with('#')).count(), 1, "{some}");
    }

    fn all(store: &Store) -> Vec<(Labels, Vec<(i64, u64)>)> {
        let all = store.snapshot().select(&[], Timestamp::MIN, Timestamp::MAX).unwrap();
        let sample = |s: &Sample| (s.timestamp.as_millis(), s.value.as_float().unwrap().to_bits());
        all.iter().map(|s| (s.labels.clone(), s.samples.iter().map(sample).collect())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_exported_is_imported_bit_for_bit(
            samples in proptest::collection::btree_map((0u8..6, 0i64..300_000_000), any::<u64>(), 1..200),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let store = open(&dir.path().join("a"));
            let text = |n: u8| format!("v{n}\\ \"{}\n", char::from(b'a' + n));
            let done = store.import(at(300_000_000), |import| {
                for ((n, t), bits) in &samples {
                    // One NaN: the others cannot be said.
                    let value = f64::from_bits(*bits);
                    let value = if value.is_nan() { f64::NAN } else { value };
                    let metric = ["a_bucket", "b_total", "c"][usize::from(*n) % 3];
                    let labels = Labels::from_pairs([("__name__", metric), ("le", "1"), ("n", text(*n).as_str())]);
                    let series = import.series(&labels).unwrap();
                    import.append(series, at(*t), value)?;
                }
                Ok::<(), davy_store::Error>(())
            });
            prop_assert_eq!(done.unwrap().samples, samples.len() as u64);
            let file = dir.path().join("out.om");
            let want = all(&store);
            drop(store);
            let folder = dir.path().join("a");
            run(&args(&folder, &["--output", &file.to_string_lossy()])).unwrap();
            let other = dir.path().join("b");
            super::super::import::tests::import(&other, &file).unwrap();
            prop_assert_eq!(all(&open(&other)), want);
        }
    }
}
