//! `Engine`: evaluates an expression at one time. Semantics of Prometheus 3: look-back of five minutes, open on
//! the left; staleness markers end a series; arithmetic and functions drop the metric's name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use davy_model::{Labels, Matcher, Sample, Timestamp, is_stale};
use davy_store::SeriesSamples;

use crate::arithmetic::{self, Value, Vector, without_name};
use crate::ast::Node;
use crate::{Answer, Data, Expr, QueryStats, Source, range};

#[derive(Debug, Clone, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Store(#[from] davy_store::Error),
    #[error("query touches {got} series, more than the {max} allowed")]
    Series { got: usize, max: usize },
    #[error("query touches {got} samples, more than the {max} allowed")]
    Samples { got: usize, max: usize },
    #[error("query was canceled")]
    Canceled,
    #[error("several series have the labels {labels} once the metric's name is dropped")]
    SameLabels { labels: Labels },
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Not zero.
    pub step: Duration,
}

/// How far an evaluation looks and how much it may touch.
#[derive(Debug, Clone)]
pub struct Engine {
    /// How old the newest sample of a series may be.
    pub lookback: Duration,
    pub series_max: usize,
    pub samples_max: usize,
}

impl Default for Engine {
    fn default() -> Self {
        Self { lookback: Duration::from_secs(300), series_max: 20_000, samples_max: 5_000_000 }
    }
}

impl Engine {
    /// One value a series, sorted by labels; a scalar is one value without labels.
    pub fn instant(
        &self,
        expr: &Expr,
        source: &impl Source,
        now: Timestamp,
    ) -> Result<Vec<(Labels, f64)>, EvalError> {
        let mut eval = Evaluation { engine: self, source, now, series: 0, samples: 0 };
        match eval.node(&expr.node)? {
            Value::Scalar(v) => Ok(vec![(Labels::empty(), v)]),
            Value::Vector(v) => Ok(v),
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
        let _ = cancel;
        let of = |(labels, v)| (labels, Sample { timestamp: at, value: davy_model::Value::Float(v) });
        let data = Data::Vector(self.instant(expr, source, at)?.into_iter().map(of).collect());
        Ok(Answer { data, warnings: vec![], infos: vec![], stats: QueryStats::default() })
    }

    /// `GET /api/v1/query_range`: the answer at each of the steps, always a matrix.
    pub fn query_range(
        &self,
        expr: &Expr,
        source: &impl Source,
        steps: Steps,
        cancel: &Cancel,
    ) -> Result<Answer, EvalError> {
        let _ = cancel;
        let mut series: std::collections::BTreeMap<Labels, Vec<Sample>> = Default::default();
        let mut at = steps.start;
        while at <= steps.end {
            for (labels, v) in self.instant(expr, source, at)? {
                let sample = Sample { timestamp: at, value: davy_model::Value::Float(v) };
                series.entry(labels).or_default().push(sample);
            }
            at = at + steps.step;
        }
        let of = |(labels, samples)| SeriesSamples { labels, samples };
        let data = Data::Matrix(series.into_iter().map(of).collect());
        Ok(Answer { data, warnings: vec![], infos: vec![], stats: QueryStats::default() })
    }
}

struct Evaluation<'a, S> {
    engine: &'a Engine,
    source: &'a S,
    now: Timestamp,
    series: usize,
    samples: usize,
}

impl<S: Source> Evaluation<'_, S> {
    fn node(&mut self, node: &Node) -> Result<Value, EvalError> {
        match node {
            Node::Number(v) => Ok(Value::Scalar(*v)),
            Node::Selector(matchers) => self.selector(matchers).map(Value::Vector),
            Node::Range { function, matchers, range } => {
                let found = self.select(matchers, *range)?;
                let ends = found.into_iter().filter_map(|s| {
                    let points = floats(&s);
                    let v = range::evaluate(*function, &points, self.now, range.as_secs_f64())?;
                    Some((without_name(&s.labels), v))
                });
                arithmetic::map(ends.collect(), |v| v)
            }
            Node::Aggregate { aggregator, grouping, of } => match self.node(of)? {
                Value::Vector(v) => Ok(Value::Vector(arithmetic::aggregate(*aggregator, grouping, &v))),
                Value::Scalar(v) => Ok(Value::Scalar(v)),
            },
            Node::Negate(of) => match self.node(of)? {
                Value::Scalar(v) => Ok(Value::Scalar(-v)),
                Value::Vector(v) => arithmetic::map(v, |v| -v),
            },
            Node::Binary { operator, left, right } => {
                let (left, right) = (self.node(left)?, self.node(right)?);
                arithmetic::binary(*operator, left, right)
            }
        }
    }

    fn selector(&mut self, matchers: &[Matcher]) -> Result<Vector, EvalError> {
        let found = self.select(matchers, self.engine.lookback)?;
        Ok(found
            .into_iter()
            .filter_map(|s| {
                let v = s.samples.last()?.value.as_float().filter(|v| !is_stale(*v))?;
                Some((s.labels, v))
            })
            .collect())
    }

    /// Samples in `(now - range, now]`.
    fn select(&mut self, matchers: &[Matcher], range: Duration) -> Result<Vec<SeriesSamples>, EvalError> {
        let from = self.now - range + Duration::from_millis(1);
        self.series += self.source.series(matchers, from, self.now)?.len();
        if self.series > self.engine.series_max {
            return Err(EvalError::Series { got: self.series, max: self.engine.series_max });
        }
        let found = self.source.select(matchers, from, self.now)?;
        self.samples += found.iter().map(|s| s.samples.len()).sum::<usize>();
        if self.samples > self.engine.samples_max {
            return Err(EvalError::Samples { got: self.samples, max: self.engine.samples_max });
        }
        Ok(found)
    }
}

fn floats(s: &SeriesSamples) -> Vec<(Timestamp, f64)> {
    let value = |x: &davy_model::Sample| x.value.as_float().filter(|v| !is_stale(*v));
    s.samples.iter().filter_map(|x| Some((x.timestamp, value(x)?))).collect()
}

#[cfg(test)]
mod tests {
    use davy_model::{STALE_NAN, Sample};

    use super::*;
    use crate::Recorded;

    fn series(labels: &[(&str, &str)], points: &[(i64, f64)]) -> SeriesSamples {
        let sample = |(s, v): &(i64, f64)| Sample {
            timestamp: Timestamp::from_millis(s * 1000),
            value: davy_model::Value::Float(*v),
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
            r#"several series have the labels {instance="1", job="a"} once the metric's name is dropped"#
        );
        let few = Engine { series_max: 2, ..Engine::default() };
        assert_eq!(run(&few, "http").to_string(), "query touches 3 series, more than the 2 allowed");
        let few = Engine { samples_max: 2, ..Engine::default() };
        assert_eq!(run(&few, "http").to_string(), "query touches 11 samples, more than the 2 allowed");
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
