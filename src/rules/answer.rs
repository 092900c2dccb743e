//! From answers of the query engine, and of what it asks, to what a rule makes series and alerts of.

use davy_alerting::rule::EvaluateError;
use davy_model::{Labels, Matcher, Sample, Timestamp, Value};
use davy_query::{Answer, Cancel, Data, Engine, Expr, Source};

/// Evaluates `expr` at `at`; a scalar is one value without labels.
pub fn instant(
    engine: &Engine,
    expr: &Expr,
    source: &impl Source,
    at: Timestamp,
    cancel: &Cancel,
) -> Result<Vec<(Labels, Value)>, EvaluateError> {
    let answer = engine.query(expr, source, at, cancel).map_err(|e| EvaluateError(e.to_string()))?;
    vector(answer)
}

/// The newest sample of each series within the range.
pub fn newest(
    source: &impl Source,
    matchers: &[Matcher],
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(Labels, Sample)>, EvaluateError> {
    let found = source.select(matchers, from, to).map_err(|e| EvaluateError(e.to_string()))?;
    Ok(found.into_iter().filter_map(|mut s| Some((s.labels, s.samples.pop()?))).collect())
}

fn vector(answer: Answer) -> Result<Vec<(Labels, Value)>, EvaluateError> {
    match answer.data {
        Data::Scalar(_, v) => Ok(vec![(Labels::empty(), Value::Float(v))]),
        Data::Vector(samples) => Ok(samples.into_iter().map(|(labels, s)| (labels, s.value)).collect()),
        Data::String(..) | Data::Matrix(_) => {
            Err(EvaluateError("rule result is not a vector or scalar".to_owned()))
        }
    }
}
