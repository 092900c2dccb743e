//! `Engine`: evaluates an expression at one time or at many, with the semantics of Prometheus 3.5: ranges and the
//! look-back are open on the left, staleness markers end a series, names are UTF-8.
//!
//! Bounded: series and samples read, points held (one query, and all together), levels, and time by [`Cancel`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use davy_model::{Labels, Sample, Timestamp, Value};
use davy_store::SeriesSamples;

use crate::ast::{Node, ValueType};
use crate::eval::budget::{Meter, POINTS_PER_SERIES, PointsBudget};
use crate::eval::notes::Notes;
use crate::eval::{Bounds, Evaluation, Grid, Point, Read, Series};
use crate::{Answer, Data, Expr, QueryStats, Source};

#[derive(Debug, Clone, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Store(#[from] davy_store::Error),
    #[error("query touches {got} series, more than the {max} allowed")]
    Series { got: usize, max: usize },
    #[error("query touches {got} samples, more than the {max} allowed")]
    Samples { got: usize, max: usize },
    #[error(
        "query would hold more than the {max} points allowed in memory; ask for fewer series or a larger step"
    )]
    Points { max: usize },
    #[error("queries hold {max} points in memory together, as many as allowed; try again or ask for less")]
    Busy { max: usize },
    #[error("query is nested deeper than the {max} levels allowed")]
    Depth { max: usize },
    #[error("query was canceled")]
    Canceled,
    #[error("step must be more than zero")]
    Step,
    /// What the parser should have refused.
    #[error("expected {expected}")]
    Type { expected: &'static str },
    #[error("scalar value {got} overflows int64")]
    Parameter { got: f64 },
    #[error("invalid label name {got:?}")]
    LabelName { got: String },
    #[error("invalid regular expression in label_replace(): {got}")]
    Regex { got: String },
    #[error("label {label:?} would be longer than the {max} bytes allowed")]
    LabelValue { label: String, max: usize },
    #[error("vector cannot contain metrics with the same labelset: {labels}")]
    SameLabels { labels: Labels },
    #[error(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{one}, {other}];many-to-many matching not allowed: matching labels must be unique on one side"
    )]
    ManyToMany { group: Labels, side: &'static str, one: Labels, other: Labels },
    #[error("multiple matches for labels: {}", if *one_to_one {
        "many-to-one matching must be explicit (group_left/group_right)"
    } else {
        "grouping labels must ensure unique matches"
    })]
    MultipleMatches { one_to_one: bool },
}

/// Raised by whoever waited long enough; an evaluation that sees it ends with [`EvalError::Canceled`].
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The times of a range query: `start`, then every `step` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Steps {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Not zero.
    pub step: Duration,
}

/// How far an evaluation looks and how much it may touch. Clones share the budget of points.
#[derive(Debug, Clone)]
pub struct Engine {
    /// How old the newest sample of a series may be.
    pub lookback: Duration,
    /// Step of a subquery that names none.
    pub subquery_step: Duration,
    pub series_max: usize,
    /// Samples that are read, not those that are held.
    pub samples_max: usize,
    /// Points, 8 bytes each, that one query holds at the same time.
    pub points_max: usize,
    /// The same for all queries of this engine together.
    pub budget: PointsBudget,
}

/// Points of all queries together: a quarter of a gibibyte.
const POINTS_OF_ALL_MAX: usize = 32 << 20;

impl Default for Engine {
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            series_max: 2_000_000,
            samples_max: 2_000_000_000,
            points_max: 16 << 20,
            budget: PointsBudget::new(POINTS_OF_ALL_MAX),
        }
    }
}

impl Engine {
    /// One float a series, sorted by labels; a scalar is one value without labels. Histograms are left out.
    pub fn instant(
        &self,
        expr: &Expr,
        source: &impl Source,
        now: Timestamp,
    ) -> Result<Vec<(Labels, f64)>, EvalError> {
        let answer = self.query(expr, source, now, &Cancel::default())?;
        match answer.data {
            Data::Scalar(_, v) => Ok(vec![(Labels::empty(), v)]),
            Data::Vector(all) => {
                let float = |(labels, s): (Labels, Sample)| Some((labels, s.value.as_float()?));
                let mut floats: Vec<_> = all.into_iter().filter_map(float).collect();
                floats.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(floats)
            }
            Data::String(..) | Data::Matrix(_) => Err(EvalError::Type { expected: "a vector or a scalar" }),
        }
    }

    /// `GET /api/v1/query`: the answer at one time.
    pub fn query(
        &self,
        expr: &Expr,
        source: &impl Source,
        at: Timestamp,
        cancel: &Cancel,
    ) -> Result<Answer, EvalError> {
        let now = at.as_millis();
        let grid = Grid::instant(now);
        self.evaluate(expr, source, grid, cancel, |eval| match expr.node.value_type() {
            ValueType::Scalar => Ok(Data::Scalar(at, eval.scalar(&expr.node)?[0])),
            ValueType::String => match &expr.node {
                Node::Text(text) => Ok(Data::String(at, text.clone())),
                _ => Err(EvalError::Type { expected: "a string" }),
            },
            ValueType::Matrix => eval.raw(&expr.node).map(Data::Matrix),
            ValueType::Vector => {
                let mut held = eval.meter.hold();
                let mut all = Vec::new();
                eval.vector(&expr.node, &mut |series| {
                    held.grow(1 + POINTS_PER_SERIES)?;
                    let value = series.point(0).map(value);
                    all.extend(value.map(|value| (series.labels, Sample { timestamp: at, value })));
                    Ok(())
                })?;
                if !is_ordered(&expr.node) {
                    all.sort_by(|a, b| a.0.cmp(&b.0));
                }
                different(all.iter().map(|(labels, _)| labels))?;
                Ok(Data::Vector(all))
            }
        })
    }

    /// `GET /api/v1/query_range`: the answer at each of the steps, always a matrix.
    pub fn query_range(
        &self,
        expr: &Expr,
        source: &impl Source,
        steps: Steps,
        cancel: &Cancel,
    ) -> Result<Answer, EvalError> {
        let step = i64::try_from(steps.step.as_millis()).unwrap_or(i64::MAX);
        if step == 0 {
            return Err(EvalError::Step);
        }
        let grid = Grid::new(steps.start.as_millis(), steps.end.as_millis(), step);
        if grid.count > self.points_max {
            return Err(EvalError::Points { max: self.points_max });
        }
        self.evaluate(expr, source, grid, cancel, |eval| {
            let mut held = eval.meter.hold();
            let mut all: Vec<SeriesSamples> = Vec::new();
            let mut take = |series: Series| {
                // A sample is three points large.
                held.grow(3 * grid.count + POINTS_PER_SERIES)?;
                let sample = |i| {
                    let value = value(series.point(i)?);
                    Some(Sample { timestamp: Timestamp::from_millis(grid.time(i)), value })
                };
                let samples: Vec<Sample> = (0..grid.count).filter_map(sample).collect();
                if !samples.is_empty() {
                    all.push(SeriesSamples { labels: series.labels, samples });
                }
                Ok(())
            };
            match expr.node.value_type() {
                ValueType::Scalar => {
                    let floats = eval.scalar(&expr.node)?;
                    take(Series { labels: Labels::empty(), floats, histograms: None })?;
                }
                ValueType::Vector => eval.vector(&expr.node, &mut take)?,
                ValueType::String | ValueType::Matrix => {
                    return Err(EvalError::Type { expected: "a scalar or a vector for a range of times" });
                }
            }
            all.sort_by(|a, b| a.labels.cmp(&b.labels));
            different(all.iter().map(|s| &s.labels))?;
            Ok(Data::Matrix(all))
        })
    }

    fn evaluate<S: Source>(
        &self,
        expr: &Expr,
        source: &S,
        grid: Grid,
        cancel: &Cancel,
        run: impl FnOnce(&Evaluation<'_, S>) -> Result<Data, EvalError>,
    ) -> Result<Answer, EvalError> {
        let (meter, notes, read) =
            (Meter::new(&self.budget, self.points_max), Notes::of(&expr.to_string()), Read::default());
        let query = Bounds { start: grid.start, end: grid.end() };
        let eval = Evaluation {
            engine: self,
            source,
            grid,
            query,
            cancel,
            meter: &meter,
            notes: &notes,
            read: &read,
        };
        let data = run(&eval)?;
        let stats = QueryStats {
            series_read: read.series.get(),
            samples_read: read.samples.get(),
            points_peak: meter.peak(),
        };
        let (warnings, infos) = notes.finish();
        Ok(Answer { data, warnings, infos, stats })
    }
}

impl<S: Source> Evaluation<'_, S> {
    /// The samples of a range as they are.
    fn raw(&self, node: &Node) -> Result<Vec<SeriesSamples>, EvalError> {
        let mut held = self.meter.hold();
        let mut all = Vec::new();
        self.ranges_within(node, &mut |labels, samples| {
            held.grow(3 * samples.len() + POINTS_PER_SERIES)?;
            all.push(SeriesSamples { labels, samples });
            Ok(())
        })?;
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(all)
    }
}

fn value(point: Point) -> Value {
    match point {
        Point::Float(v) => Value::Float(v),
        Point::Histogram(h) => Value::Histogram(Arc::new(h.to_model())),
    }
}

/// Whether the order of the answer was asked for.
fn is_ordered(node: &Node) -> bool {
    use crate::ast::Aggregator::{BottomK, TopK};
    match node {
        Node::Call { function, .. } => matches!(function, crate::function::Function::Sort { .. }),
        Node::Aggregate(a) => matches!(a.aggregator, TopK | BottomK),
        _ => false,
    }
}

fn different<'l>(labels: impl Iterator<Item = &'l Labels>) -> Result<(), EvalError> {
    let mut seen = std::collections::HashSet::<&Labels, foldhash::fast::RandomState>::default();
    for l in labels {
        if !seen.insert(l) {
            return Err(EvalError::SameLabels { labels: l.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use davy_model::{Matcher, STALE_NAN};

    use super::*;
    use crate::Recorded;

    fn series(labels: &[(&str, &str)], points: &[(i64, f64)]) -> SeriesSamples {
        let sample = |(s, v): &(i64, f64)| Sample {
            timestamp: Timestamp::from_millis(s * 1000),
            value: Value::Float(*v),
        };
        SeriesSamples {
            labels: Labels::from_pairs(labels.iter().copied()),
            samples: points.iter().map(sample).collect(),
        }
    }

    fn data() -> Recorded {
        let http = |job, instance, points: &[(i64, f64)]| {
            series(&[("__name__", "http"), ("job", job), ("instance", instance)], points)
        };
        Recorded(vec![
            http("a", "1", &[(0, 0.0), (15, 10.0), (30, 30.0), (45, 60.0), (60, 100.0)]),
            http("a", "2", &[(0, 100.0), (15, 110.0), (30, 5.0), (45, 10.0), (60, 20.0)]),
            http("b", "1", &[(50, 7.0)]),
            series(&[("__name__", "gone"), ("job", "a")], &[(30, 1.0), (45, STALE_NAN)]),
            series(&[("__name__", "errors"), ("job", "a"), ("instance", "1")], &[(60, 5.0)]),
        ])
    }

    fn check(query: &str, at_s: i64, want: &[(&str, f64)]) {
        let expr = Expr::parse(query).unwrap();
        let got = Engine::default().instant(&expr, &data(), Timestamp::from_millis(at_s * 1000)).unwrap();
        let shown: Vec<(String, f64)> = got.into_iter().map(|(l, v)| (l.to_string(), v)).collect();
        let same = shown.len() == want.len()
            && shown
                .iter()
                .zip(want)
                .all(|((l, v), (wl, wv))| l == wl && (v - wv).abs() < 1e-9 * wv.abs().max(1.0));
        assert!(same, "{query} at {at_s}: got {shown:?}, want {want:?}");
    }

    #[test]
    fn selectors_look_back_and_respect_staleness() {
        check("http{job=\"b\"}", 60, &[(r#"http{instance="1", job="b"}"#, 7.0)]);
        check("http{job=\"b\"}", 349, &[(r#"http{instance="1", job="b"}"#, 7.0)]);
        check("http{job=\"b\"}", 350, &[]); // the look-back is open on the left
        check("gone", 40, &[(r#"gone{job="a"}"#, 1.0)]);
        check("gone", 46, &[]);
    }

    /// Expected values from Prometheus' documented extrapolation, worked by hand: instance 1 gains 100 over the
    /// 60 s it is sampled; the range of 70 s reaches 5 s further at either end, but the counter started at zero.
    #[test]
    fn rates_extrapolate_as_prometheus_does() {
        check(
            "increase(http{instance=\"1\",job=\"a\"}[70s])",
            65,
            &[(r#"{instance="1", job="a"}"#, 100.0 * 65.0 / 60.0)],
        );
        check(
            "rate(http{instance=\"1\",job=\"a\"}[70s])",
            65,
            &[(r#"{instance="1", job="a"}"#, 100.0 * 65.0 / 60.0 / 70.0)],
        );
        // 15 s to the left edge is less than 1.1 spacings; the sample at 0 s is not in (0, 60].
        check(
            "increase(http{instance=\"1\",job=\"a\"}[60s])",
            60,
            &[(r#"{instance="1", job="a"}"#, 90.0 * (45.0 + 5.0) / 45.0)],
        );
        // A reset at 30 s: 110 → 5.
        check(
            "increase(http{instance=\"2\",job=\"a\"}[70s])",
            65,
            &[(r#"{instance="2", job="a"}"#, 30.0 * 70.0 / 60.0)],
        );
        check(
            "delta(http{instance=\"2\",job=\"a\"}[70s])",
            65,
            &[(r#"{instance="2", job="a"}"#, -80.0 * 70.0 / 60.0)],
        );
        check("rate(http{job=\"b\"}[5m])", 60, &[]); // one sample is not a rate
    }

    #[test]
    fn functions_over_time_take_the_samples_of_the_range() {
        let one = r#"{instance="1", job="a"}"#;
        for (f, want) in [("avg", 190.0 / 3.0), ("max", 100.0), ("min", 30.0), ("sum", 190.0)] {
            check(&format!("{f}_over_time(http{{instance=\"1\",job=\"a\"}}[45s])"), 60, &[(one, want)]);
        }
    }

    #[test]
    fn aggregations_group_by_and_without() {
        check("sum by (job) (http)", 60, &[(r#"{job="a"}"#, 120.0), (r#"{job="b"}"#, 7.0)]);
        check("max without (instance) (http)", 60, &[(r#"{job="a"}"#, 100.0), (r#"{job="b"}"#, 7.0)]);
        check("count(http)", 60, &[("{}", 3.0)]);
        check("avg(http)", 60, &[("{}", 127.0 / 3.0)]);
        check("min(nothing)", 60, &[]);
    }

    #[test]
    fn arithmetic_pairs_identical_labels() {
        check("errors / http * 100", 60, &[(r#"{instance="1", job="a"}"#, 5.0)]);
        check("-(1 + 2) * 2", 0, &[("{}", -6.0)]);
        check("10 - errors", 60, &[(r#"{instance="1", job="a"}"#, 5.0)]);
        check("sum(errors) / sum(http)", 60, &[("{}", 5.0 / 127.0)]);
    }

    #[test]
    fn ambiguous_pairs_and_too_much_are_errors() {
        let run = |engine: &Engine, query: &str| {
            engine.instant(&Expr::parse(query).unwrap(), &data(), Timestamp::from_millis(60_000)).unwrap_err()
        };
        let ambiguous = run(&Engine::default(), r#"{__name__=~"http|errors"} + 1"#);
        assert_eq!(
            ambiguous.to_string(),
            r#"vector cannot contain metrics with the same labelset: {instance="1", job="a"}"#
        );
        let few = Engine { series_max: 2, ..Engine::default() };
        assert_eq!(run(&few, "http").to_string(), "query touches 3 series, more than the 2 allowed");
        let few = Engine { samples_max: 2, ..Engine::default() };
        assert_eq!(run(&few, "http").to_string(), "query touches 5 samples, more than the 2 allowed");
    }

    #[test]
    fn a_restricted_expression_sees_less() {
        let expr = Expr::parse("sum(http) + sum_over_time(http[1m])").unwrap();
        let narrowed = expr.restricted(&[Matcher::equal("job", "b")]);
        assert_eq!(narrowed.to_string(), expr.to_string());
        let sum = Expr::parse("sum(http)").unwrap().restricted(&[Matcher::equal("job", "b")]);
        let got = Engine::default().instant(&sum, &data(), Timestamp::from_millis(60_000)).unwrap();
        assert_eq!(got, [(Labels::empty(), 7.0)]);
    }
}
