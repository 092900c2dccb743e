//! Recorded intervals, as `davy judge --intervals` reads them: JSON lines, a run a file.
//!
//! ```text
//! {"latency_edges_ms": [4, 8, …], "arms": {"b0": "baseline", "c0": "canary"}, "interval_s": 15}
//! {"t_s": 15, "instances": {"b0": {"requests": 412, "errors": 1, "latency_buckets": […], "conversions": 9,
//!                                  "cpu": 0.31, "memory_bytes": 1.2e8}, …}}
//! ```
//!
//! Counts are increments, `cpu` (cores) and `memory_bytes` values at the interval's end; an instance that was not
//! scraped is absent and its increments come with the next interval in which it is seen. Every measurement may be
//! absent; `latency_buckets` has one entry more than there are edges. Other keys are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use davy_detector::config::{Direction, Margin};
use davy_detector::{
    Arm, InstanceInterval, Interval, Margins, Measurement, Metric, MetricClass, Plan, Reading,
};
use davy_model::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// Without a second line to tell the step.
const INTERVAL_S: f64 = 15.0;
/// No time and no interval is longer than a century.
const SECONDS_MAX: f64 = 3.2e9;

/// A run, ready to be judged.
#[derive(Debug)]
pub struct Recording {
    pub plan: Plan,
    /// When the canary began to be seen.
    pub began: Timestamp,
    pub interval: Duration,
    pub intervals: Vec<Interval>,
}

/// What is wrong with a file: where, and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field}: {problem}")]
pub struct BadInput {
    pub line: usize,
    pub field: String,
    pub problem: String,
}

fn bad(line: usize, field: impl Into<String>, problem: impl Into<String>) -> BadInput {
    BadInput { line, field: field.into(), problem: problem.into() }
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    latency_edges_ms: Vec<f64>,
    arms: BTreeMap<String, String>,
    interval_s: Option<f64>,
}

#[derive(Deserialize)]
struct Line {
    t_s: f64,
    instances: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
struct Row {
    requests: Option<f64>,
    errors: Option<f64>,
    latency_buckets: Option<Vec<f64>>,
    conversions: Option<f64>,
    cpu: Option<f64>,
    memory_bytes: Option<f64>,
}

/// What is read of an instance, in the order in which the plan judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Errors,
    Latency,
    Cpu,
    Memory,
    Conversion,
}

impl Kind {
    fn metric(self) -> Metric {
        let (name, class, direction, margins) = match self {
            Self::Errors => ("errors", MetricClass::Errors, Direction::Increase, Margins::ERRORS),
            Self::Latency => ("latency", MetricClass::Latency, Direction::Increase, Margins::LATENCY),
            Self::Cpu => ("cpu", MetricClass::Cpu, Direction::Increase, Margins::CPU),
            Self::Memory => ("memory", MetricClass::Memory, Direction::Increase, Margins::MEMORY),
            Self::Conversion => {
                let worse = Margin { relative: 0.02, absolute: 0.0 };
                let margins = Margins::custom(MetricClass::Proportion, worse);
                ("conversion", MetricClass::Proportion, Direction::Decrease, margins)
            }
        };
        Metric {
            name: name.to_owned(),
            class,
            direction,
            margins,
            critical: true,
            source: "recorded intervals".into(),
            reading: Reading::Given,
        }
    }
}

impl Row {
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        [Kind::Errors, Kind::Latency, Kind::Cpu, Kind::Memory, Kind::Conversion]
            .into_iter()
            .filter(|k| self.measurement(*k).is_some())
    }

    fn measurement(&self, kind: Kind) -> Option<Measurement> {
        let share = |events: Option<f64>| {
            events.zip(self.requests).map(|(events, trials)| Measurement::Proportion { events, trials })
        };
        match kind {
            Kind::Errors => share(self.errors),
            Kind::Latency => self.latency_buckets.clone().map(Measurement::Buckets),
            Kind::Cpu => self.cpu.map(Measurement::Gauge),
            Kind::Memory => self.memory_bytes.map(Measurement::Gauge),
            Kind::Conversion => share(self.conversions),
        }
    }

    /// The first field whose value is of the right type and still wrong.
    fn problem(&self, buckets: usize) -> Option<(&'static str, String)> {
        let numbers = [
            ("requests", self.requests),
            ("errors", self.errors),
            ("conversions", self.conversions),
            ("cpu", self.cpu),
            ("memory_bytes", self.memory_bytes),
        ];
        if let Some((field, v)) = numbers.into_iter().find(|(_, v)| v.is_some_and(|v| v < 0.0)) {
            return Some((field, format!("expected zero or more, found {}", v.unwrap_or_default())));
        }
        let counts = self.latency_buckets.as_ref()?;
        if counts.len() != buckets {
            let problem = format!(
                "expected {buckets} counts, one more than latency_edges_ms has, found {}",
                counts.len()
            );
            return Some(("latency_buckets", problem));
        }
        let negative = counts.iter().find(|c| **c < 0.0)?;
        Some(("latency_buckets", format!("expected counts of zero or more, found {negative}")))
    }
}

/// Reads a run. Empty lines are left out.
pub fn read(text: &str) -> Result<Recording, BadInput> {
    let mut lines = text.lines().enumerate().map(|(i, l)| (i + 1, l)).filter(|(_, l)| !l.trim().is_empty());
    let (number, first) = lines.next().ok_or_else(|| {
        bad(1, "arms", "the file is empty; expected {\"latency_edges_ms\": […], \"arms\": {…}} first")
    })?;
    let head: Head = parse(number, first, HEAD)?;
    let arms = arms(number, &head.arms)?;
    check_edges(number, &head.latency_edges_ms)?;
    let buckets = head.latency_edges_ms.len() + 1;

    let mut rows: Vec<(f64, BTreeMap<String, Row>)> = Vec::new();
    for (number, text) in lines {
        let line: Line = parse(number, text, LINE)?;
        let after = rows.last().map_or(0.0, |(t, _)| *t);
        let later = if rows.is_empty() { line.t_s >= after } else { line.t_s > after };
        if !later || line.t_s > SECONDS_MAX {
            let wanted = if rows.is_empty() { "seconds".to_owned() } else { format!("more than {after}") };
            return Err(bad(number, "t_s", format!("expected {wanted}, found {}", line.t_s)));
        }
        for (name, row) in &line.instances {
            if !arms.contains_key(&**name) {
                return Err(bad(number, format!("instances.{name}"), "expected an instance named in arms"));
            }
            if let Some((field, problem)) = row.problem(buckets) {
                return Err(bad(number, format!("instances.{name}.{field}"), problem));
            }
        }
        rows.push((line.t_s, line.instances));
    }
    let interval_s = match (head.interval_s, rows.as_slice()) {
        (Some(s), _) if s > 0.0 && s <= SECONDS_MAX => s,
        (Some(s), _) => {
            return Err(bad(number, "interval_s", format!("expected seconds above zero, found {s}")));
        }
        (None, [(a, _), (b, _), ..]) => b - a,
        (None, _) => INTERVAL_S,
    };
    Ok(recording(&head.latency_edges_ms, &arms, interval_s, &rows))
}

fn recording(
    edges_ms: &[f64],
    arms: &BTreeMap<Arc<str>, Arm>,
    interval_s: f64,
    rows: &[(f64, BTreeMap<String, Row>)],
) -> Recording {
    let kinds: BTreeSet<Kind> =
        rows.iter().flat_map(|(_, r)| r.values()).flat_map(|r| r.kinds().collect::<Vec<_>>()).collect();
    let none: Arc<[f64]> = Arc::new([]);
    let edges_s: Arc<[f64]> = edges_ms.iter().map(|ms| ms / 1000.0).collect();
    let edges: Vec<Arc<[f64]>> = kinds
        .iter()
        .map(|k| if *k == Kind::Latency { Arc::clone(&edges_s) } else { Arc::clone(&none) })
        .collect();
    let began = rows.first().map_or(0.0, |(t, _)| t - interval_s);
    let mut seen: BTreeMap<&str, f64> = BTreeMap::new();
    let mut before = began;
    let mut intervals = Vec::with_capacity(rows.len());
    for (t, instances) in rows {
        let instance = |(name, row): (&Arc<str>, &Row)| InstanceInterval {
            arm: arms[name],
            instance: Arc::clone(name),
            // What came while it was not scraped is in this interval, and so is the time.
            seconds: t - seen.get(&**name).copied().unwrap_or(before),
            requests: row.requests,
            measurements: kinds.iter().map(|k| row.measurement(*k)).collect(),
        };
        let of_arms = |down: bool| arms.keys().filter(move |n| instances.contains_key(&***n) != down);
        intervals.push(Interval {
            start: at(before),
            end: at(*t),
            edges: edges.clone(),
            instances: of_arms(false).map(|n| instance((n, &instances[&**n]))).collect(),
            down: of_arms(true).map(|n| (arms[n], Arc::clone(n))).collect(),
        });
        seen.extend(instances.keys().map(|n| (&**n, *t)));
        before = *t;
    }
    Recording {
        plan: Plan { metrics: kinds.into_iter().map(Kind::metric).collect(), requests: None },
        began: at(began),
        interval: Duration::from_secs_f64(interval_s),
        intervals,
    }
}

fn arms(line: usize, named: &BTreeMap<String, String>) -> Result<BTreeMap<Arc<str>, Arm>, BadInput> {
    let mut arms = BTreeMap::new();
    for (instance, arm) in named {
        let arm = match &**arm {
            "baseline" => Arm::Baseline,
            "canary" => Arm::Canary,
            other => {
                let problem = format!("expected \"baseline\" or \"canary\", found {other:?}");
                return Err(bad(line, format!("arms.{instance}"), problem));
            }
        };
        arms.insert(Arc::from(instance.as_str()), arm);
    }
    Ok(arms)
}

fn check_edges(line: usize, edges: &[f64]) -> Result<(), BadInput> {
    let ascending = edges.windows(2).all(|w| w[0] < w[1]) && edges.first().is_none_or(|e| *e > 0.0);
    ascending.then_some(()).ok_or_else(|| {
        bad(line, "latency_edges_ms", "expected milliseconds above zero, each more than the one before")
    })
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0).round() as i64)
}

/// Fields of an object and what they should be, to find the one that is not.
type Shape = &'static [(&'static str, Is, bool)];

#[derive(Clone, Copy)]
enum Is {
    Number,
    Numbers,
    Names,
    Rows,
}

const HEAD: Shape =
    &[("arms", Is::Names, true), ("latency_edges_ms", Is::Numbers, false), ("interval_s", Is::Number, false)];
const LINE: Shape = &[("t_s", Is::Number, true), ("instances", Is::Rows, true)];
const ROW: Shape = &[
    ("requests", Is::Number, false),
    ("errors", Is::Number, false),
    ("latency_buckets", Is::Numbers, false),
    ("conversions", Is::Number, false),
    ("cpu", Is::Number, false),
    ("memory_bytes", Is::Number, false),
];

/// Quick where the line is right; where it is not, it is read again to name the field.
fn parse<'a, T: Deserialize<'a>>(line: usize, text: &'a str, shape: Shape) -> Result<T, BadInput> {
    serde_json::from_str(text).map_err(|error| {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return bad(line, format!("column {}", error.column()), format!("not JSON: {error}"));
        };
        let found = misfit(&value, "", shape);
        let (field, problem) = found.unwrap_or_else(|| ("line".to_owned(), error.to_string()));
        bad(line, field, problem)
    })
}

fn misfit(value: &Value, within: &str, shape: Shape) -> Option<(String, String)> {
    let Some(object) = value.as_object() else {
        let field =
            if within.is_empty() { "line".to_owned() } else { within.trim_end_matches('.').to_owned() };
        return Some((field, format!("expected an object, found {}", kind_of(value))));
    };
    shape.iter().find_map(|(name, is, required)| {
        let field = format!("{within}{name}");
        match object.get(*name) {
            None => required.then(|| (field, format!("missing; expected {}", is.wanted()))),
            Some(Value::Null) if !required => None,
            Some(v) => is.misfit(v, &field),
        }
    })
}

impl Is {
    fn wanted(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Numbers => "a list of numbers",
            Self::Names => "an object of \"baseline\" or \"canary\" by instance",
            Self::Rows => "an object of measurements by instance",
        }
    }

    fn misfit(self, v: &Value, field: &str) -> Option<(String, String)> {
        let wrong =
            |v: &Value| Some((field.to_owned(), format!("expected {}, found {}", self.wanted(), kind_of(v))));
        match self {
            Self::Number => {
                if v.is_number() {
                    None
                } else {
                    wrong(v)
                }
            }
            Self::Numbers => match v.as_array() {
                Some(all) => all.iter().find(|n| !n.is_number()).and_then(wrong),
                None => wrong(v),
            },
            Self::Names => match v.as_object() {
                Some(all) => all.values().find(|n| !n.is_string()).and_then(wrong),
                None => wrong(v),
            },
            Self::Rows => match v.as_object() {
                Some(all) => all.iter().find_map(|(name, row)| misfit(row, &format!("{field}.{name}."), ROW)),
                None => wrong(v),
            },
        }
    }
}

fn kind_of(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_LINE: &str = r#"{"latency_edges_ms":[10,20],"arms":{"b0":"baseline","c0":"canary"},"seed":7}"#;

    fn problem(lines: &[&str]) -> String {
        let text = std::iter::once(HEAD_LINE).chain(lines.iter().copied()).collect::<Vec<_>>().join("\n");
        read(&text).expect_err("it is wrong").to_string()
    }

    #[test]
    fn a_run_is_read_with_the_metrics_that_occur() {
        let text = format!(
            "{HEAD_LINE}\n{}\n\n{}\n{}\n",
            r#"{"t_s":30,"instances":{"b0":{"requests":10,"errors":1},"c0":{"requests":12,"cpu":0.5}}}"#,
            r#"{"t_s":60,"instances":{"b0":{"requests":10,"errors":1}}}"#,
            r#"{"t_s":90,"instances":{"b0":{"requests":9},"c0":{"requests":24,"latency_buckets":[1,2,3]}}}"#,
        );
        let r = read(&text).expect("it is right");
        let names: Vec<&str> = r.plan.metrics.iter().map(|m| &*m.name).collect();
        assert_eq!(names, ["errors", "latency", "cpu"]);
        assert_eq!((r.interval, r.began), (Duration::from_secs(30), at(0.0)));
        let late = &r.intervals[2].instances[1];
        assert_eq!((late.seconds, late.requests), (60.0, Some(24.0)), "the missed scrape's time is in it");
        assert_eq!(r.intervals[1].down, [(Arm::Canary, "c0".into())]);
        assert_eq!(&*r.intervals[0].edges[1], [0.01, 0.02]);
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_field() {
        let cases: [(&[&str], &str); 10] = [
            (&["{"], "line 2: column 1: not JSON"),
            (&["[]"], "line 2: line: expected an object, found a list"),
            (&[r#"{"instances":{}}"#], "line 2: t_s: missing; expected a number"),
            (&[r#"{"t_s":"x","instances":{}}"#], "line 2: t_s: expected a number, found a string"),
            (
                &[r#"{"t_s":15,"instances":{"b0":{"cpu":true}}}"#],
                "line 2: instances.b0.cpu: expected a number, found a boolean",
            ),
            (
                &[r#"{"t_s":15,"instances":{"b0":{"errors":-1}}}"#],
                "line 2: instances.b0.errors: expected zero or more, found -1",
            ),
            (
                &[r#"{"t_s":15,"instances":{"x":{}}}"#],
                "line 2: instances.x: expected an instance named in arms",
            ),
            (
                &[r#"{"t_s":15,"instances":{"b0":{"latency_buckets":[1]}}}"#],
                "line 2: instances.b0.latency_buckets: expected 3 counts",
            ),
            (
                &[r#"{"t_s":15,"instances":{}}"#, r#"{"t_s":15,"instances":{}}"#],
                "line 3: t_s: expected more than 15, found 15",
            ),
            (
                &[r#"{"t_s":15,"instances":{"b0":{"latency_buckets":[1,2,"3"]}}}"#],
                "line 2: instances.b0.latency_buckets: expected a list of numbers, found a string",
            ),
        ];
        for (lines, want) in cases {
            let got = problem(lines);
            assert!(got.starts_with(want), "{lines:?}: {got}");
        }
        for (head, want) in [
            ("", "line 1: arms: the file is empty"),
            ("{}", "line 1: arms: missing"),
            (
                r#"{"arms":{"b0":"base"}}"#,
                "line 1: arms.b0: expected \"baseline\" or \"canary\", found \"base\"",
            ),
            (r#"{"arms":{},"latency_edges_ms":[2,1]}"#, "line 1: latency_edges_ms: expected milliseconds"),
            (r#"{"arms":{},"interval_s":0}"#, "line 1: interval_s: expected seconds above zero"),
        ] {
            let got = read(head).expect_err(head).to_string();
            assert!(got.starts_with(want), "{head}: {got}");
        }
    }
}
