//! Aggregation and arithmetic over instant vectors.

use std::collections::BTreeMap;

use davy_model::{Labels, name};

use crate::ast::{Aggregator, Grouping, Operator};
use crate::engine::EvalError;

pub(crate) type Vector = Vec<(Labels, f64)>;

/// What a node gives.
pub(crate) enum Value {
    Scalar(f64),
    Vector(Vector),
}

pub(crate) fn without_name(labels: &Labels) -> Labels {
    labels.without(&[name::METRIC])
}

pub(crate) fn aggregate(aggregator: Aggregator, grouping: &Grouping, of: &Vector) -> Vector {
    let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for (labels, v) in of {
        let key = match grouping {
            Grouping::By(names) => labels.only(&names.iter().map(String::as_str).collect::<Vec<_>>()),
            Grouping::Without(names) => {
                let drop: Vec<_> = names.iter().map(String::as_str).chain([name::METRIC]).collect();
                labels.without(&drop)
            }
        };
        groups.entry(key).or_default().push(*v);
    }
    groups.into_iter().map(|(labels, values)| (labels, reduce(aggregator, &values))).collect()
}

fn reduce(aggregator: Aggregator, values: &[f64]) -> f64 {
    let values = values.iter().copied();
    match aggregator {
        Aggregator::Sum => values.sum(),
        Aggregator::Count => values.len() as f64,
        Aggregator::Avg => values.clone().sum::<f64>() / values.len() as f64,
        Aggregator::Max => values.fold(f64::NAN, |a, b| if b > a || a.is_nan() { b } else { a }),
        Aggregator::Min => values.fold(f64::NAN, |a, b| if b < a || a.is_nan() { b } else { a }),
    }
}

/// Pairs by identical labels, the metric's name aside; what has no partner is dropped.
pub(crate) fn binary(operator: Operator, left: Value, right: Value) -> Result<Value, EvalError> {
    match (left, right) {
        (Value::Scalar(a), Value::Scalar(b)) => Ok(Value::Scalar(operator.apply(a, b))),
        (Value::Vector(v), Value::Scalar(b)) => map(v, |a| operator.apply(a, b)),
        (Value::Scalar(a), Value::Vector(v)) => map(v, |b| operator.apply(a, b)),
        (Value::Vector(l), Value::Vector(r)) => {
            let (left, right) = (by_labels(l)?, by_labels(r)?);
            let paired = left.into_iter().filter_map(|(labels, a)| {
                let b = right.get(&labels)?;
                Some((labels, operator.apply(a, *b)))
            });
            Ok(Value::Vector(paired.collect()))
        }
    }
}

/// Applies `f` to every value; the result no longer is the metric it was.
pub(crate) fn map(v: Vector, f: impl Fn(f64) -> f64) -> Result<Value, EvalError> {
    Ok(Value::Vector(by_labels(v)?.into_iter().map(|(l, x)| (l, f(x))).collect()))
}

fn by_labels(v: Vector) -> Result<BTreeMap<Labels, f64>, EvalError> {
    let mut out = BTreeMap::new();
    for (labels, x) in v {
        let labels = without_name(&labels);
        if out.insert(labels.clone(), x).is_some() {
            return Err(EvalError::SameLabels { labels });
        }
    }
    Ok(out)
}
