//! Reads the scripts: `load`, `clear`, `eval`. What is loaded becomes series in memory, cloned for each case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use davy::rules::series;
use davy_model::{BucketSpan, Histogram, Labels, Sample, Timestamp, Value, is_stale, name};
use davy_query::Recorded;
use davy_store::SeriesSamples;

/// One `eval` and the data that was loaded before it.
pub(crate) struct Case {
    pub(crate) line: usize,
    pub(crate) expr: String,
    pub(crate) at: At,
    pub(crate) expect: Vec<Expect>,
    /// Series as text and their values.
    pub(crate) want: Vec<String>,
    pub(crate) data: Arc<Recorded>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    Fail(Matches),
    Warn(Matches),
    Info(Matches),
    NoWarn,
    NoInfo,
    Ordered,
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Matches {
    Any,
    Exactly(String),
    Regex(String),
}

impl Matches {
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(t) => text == t,
            Self::Regex(r) => {
                regex::Regex::new(r).expect("the scripts' expressions are right").is_match(text)
            }
        }
    }
}

pub(crate) fn cases(text: &str) -> Vec<Case> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut data: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    let mut loaded: Option<Arc<Recorded>> = None;
    let mut out = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        let (head, block) = (lines[i], i + 1);
        i += 1;
        if head.is_empty() || head.starts_with('#') {
            continue;
        }
        while i < lines.len() && !lines[i].is_empty() && !is_command(lines[i]) {
            i += 1;
        }
        let body: Vec<&str> = lines[block..i].iter().copied().filter(|l| !l.starts_with('#')).collect();
        let (command, rest) = head.split_once(' ').unwrap_or((head, ""));
        match command {
            "clear" => {
                data.clear();
                loaded = None;
            }
            "load" | "load_with_nhcb" => {
                load(&mut data, duration(rest), &body, command == "load_with_nhcb");
                loaded = None;
            }
            _ => {
                let data = loaded.get_or_insert_with(|| {
                    let series = data.iter().map(|(labels, samples)| SeriesSamples {
                        labels: labels.clone(),
                        samples: samples.clone(),
                    });
                    Arc::new(Recorded(series.collect()))
                });
                out.push(case(block, command, rest, &body, data.clone()));
            }
        }
    }
    out
}

fn is_command(line: &str) -> bool {
    ["load ", "load_with_nhcb ", "eval ", "eval_"].iter().any(|c| line.starts_with(c)) || line == "clear"
}

fn case(line: usize, command: &str, rest: &str, body: &[&str], data: Arc<Recorded>) -> Case {
    let word = |rest: &mut &str| {
        let (word, tail) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        *rest = tail.trim_start();
        word.to_owned()
    };
    let mut rest = rest;
    let at = match word(&mut rest).as_str() {
        "instant" => {
            word(&mut rest);
            At::Instant(duration(&word(&mut rest)))
        }
        _ => {
            let mut next = || {
                word(&mut rest);
                duration(&word(&mut rest))
            };
            At::Range { start: next(), end: next(), step: next() }
        }
    };
    let mut expect = match command {
        "eval_fail" => vec![Expect::Fail(Matches::Any)],
        "eval_warn" => vec![Expect::Warn(Matches::Any)],
        "eval_info" => vec![Expect::Info(Matches::Any)],
        "eval_ordered" => vec![Expect::Ordered],
        _ => vec![],
    };
    // The old form without a word expects that nothing is noted.
    if !body.iter().any(|l| l.starts_with("expect")) {
        if command != "eval_warn" {
            expect.push(Expect::NoWarn);
        }
        if command != "eval_info" {
            expect.push(Expect::NoInfo);
        }
    }
    let mut want = Vec::new();
    for l in body {
        if let Some(text) = l.strip_prefix("expected_fail_message ") {
            expect.push(Expect::Fail(Matches::Exactly(text.to_owned())));
        } else if let Some(text) = l.strip_prefix("expected_fail_regexp ") {
            expect.push(Expect::Fail(Matches::Regex(text.to_owned())));
        } else if let Some(text) = l.strip_prefix("expect ") {
            expect.push(expectation(text));
        } else {
            want.push((*l).to_owned());
        }
    }
    Case { line, expr: rest.to_owned(), at, expect, want, data }
}

fn expectation(text: &str) -> Expect {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let matches = match rest.split_once(':') {
        Some(("msg", m)) => Matches::Exactly(m.trim().to_owned()),
        Some(("regex", m)) => Matches::Regex(m.trim().to_owned()),
        _ => Matches::Any,
    };
    match kind {
        "fail" => Expect::Fail(matches),
        "warn" => Expect::Warn(matches),
        "info" => Expect::Info(matches),
        "no_warn" => Expect::NoWarn,
        "no_info" => Expect::NoInfo,
        "ordered" => Expect::Ordered,
        "string" => Expect::Text(rest.trim_matches('"').to_owned()),
        other => panic!("expect {other}"),
    }
}

/// Splits `metric{a="b c"} 1 2 3` where the series ends.
pub(crate) fn split_series(line: &str) -> (&str, &str) {
    let (mut quote, mut depth) = (None, 0);
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q && !line[..i].ends_with('\\') => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            (None, ' ' | '\t') if depth == 0 => return (&line[..i], line[i..].trim()),
            _ => {}
        }
    }
    (line, "")
}

fn load(data: &mut BTreeMap<Labels, Vec<Sample>>, step: i64, body: &[&str], with_custom_buckets: bool) {
    let mut new: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for line in body {
        let (labels, values) = split_series(line);
        let labels = series::labels(labels).unwrap_or_else(|e| panic!("{line}: {e}"));
        let values = series::values(values).unwrap_or_else(|e| panic!("{line}: {e}"));
        let sample = |(i, v): (usize, Option<Value>)| {
            Some(Sample { timestamp: Timestamp::from_millis(step * i as i64), value: v? })
        };
        new.entry(labels).or_default().extend(values.into_iter().enumerate().filter_map(sample));
    }
    if with_custom_buckets {
        for (labels, samples) in custom_buckets(&new) {
            new.insert(labels, samples);
        }
    }
    for (labels, samples) in new {
        let all = data.entry(labels).or_default();
        all.extend(samples);
        all.sort_by_key(|s| s.timestamp);
    }
}

/// Bound and count of each bucket, count, sum.
type Classic = (Vec<(f64, f64)>, Option<f64>, f64);

/// The native histograms with custom buckets that a classic histogram's series are the same as.
fn custom_buckets(classic: &BTreeMap<Labels, Vec<Sample>>) -> Vec<(Labels, Vec<Sample>)> {
    let mut found: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for (labels, samples) in classic {
        let metric = labels.metric_name();
        let Some((base, part)) = metric.rsplit_once('_') else { continue };
        let le = labels.get("le").and_then(|le| le.parse::<f64>().ok());
        let mut builder = labels.without(&["le"]).builder();
        builder.set(name::METRIC, base);
        let of = found.entry(builder.build()).or_default();
        for s in samples {
            let Some(v) = s.value.as_float().filter(|v| !is_stale(*v)) else { continue };
            let at = of.entry(s.timestamp.as_millis()).or_default();
            match (part, le) {
                ("bucket", Some(le)) => at.0.push((le, v)),
                ("count", _) => at.1 = Some(v),
                ("sum", _) => at.2 = v,
                _ => {}
            }
        }
    }
    let histogram = |(t, (mut buckets, count, sum)): (i64, Classic)| {
        if buckets.is_empty() {
            return None;
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = count.unwrap_or(buckets[buckets.len() - 1].1);
        if buckets[buckets.len() - 1].0.is_finite() {
            buckets.push((f64::INFINITY, total));
        }
        let mut before = 0.0;
        let counts: Vec<f64> = buckets.iter().map(|(_, v)| v - std::mem::replace(&mut before, *v)).collect();
        let h = Histogram {
            schema: -53,
            count: total,
            sum,
            positive_spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
            positive_counts: counts,
            custom_bounds: buckets.iter().map(|(le, _)| *le).filter(|le| le.is_finite()).collect(),
            ..Histogram::default()
        };
        Some(Sample { timestamp: Timestamp::from_millis(t), value: Value::Histogram(Arc::new(h)) })
    };
    let series = |(labels, at): (Labels, BTreeMap<i64, _>)| {
        let samples: Vec<Sample> = at.into_iter().filter_map(histogram).collect();
        (!samples.is_empty()).then_some((labels, samples))
    };
    found.into_iter().filter_map(series).collect()
}

/// Milliseconds of `1h30m`, `-5m` or plain seconds.
fn duration(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |t| (-1, t));
    if let Ok(seconds) = text.parse::<f64>() {
        return sign * (seconds * 1000.0) as i64;
    }
    let parsed: Duration = davy::config::parse_duration(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    sign * parsed.as_millis() as i64
}
