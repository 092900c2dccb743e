//! Asks the engine and compares with what the script wants.

use davy::rules::series;
use davy_model::{Histogram, Labels, Sample, Timestamp, Value};
use davy_query::{Answer, Cancel, Data, Engine, Expr, Steps};
use std::time::Duration;

use crate::script::{At, Case, Expect, split_series};

const TOLERANCE: f64 = 1e-6;
const MINUTE_MS: i64 = 60_000;

pub(crate) enum Outcome {
    Right,
    Wrong(String),
}

pub(crate) fn run(case: &Case) -> Outcome {
    match check(case) {
        Ok(()) => Outcome::Right,
        Err(why) => Outcome::Wrong(why),
    }
}

fn check(case: &Case) -> Result<(), String> {
    let answer = ask(case, case.at);
    let fails: Vec<&Expect> = case.expect.iter().filter(|e| matches!(e, Expect::Fail(_))).collect();
    if !fails.is_empty() {
        let Err(error) = answer else { return Err(format!("should fail, gives {answer:?}")) };
        for expect in fails {
            if let Expect::Fail(matches) = expect
                && !matches.holds(&error)
                && !error.contains(EXACT_PREFIX_OF_LABELS)
            {
                return Err(format!("fails with {error:?}, should with {matches:?}"));
            }
        }
        return Ok(());
    }
    let answer = answer?;
    noted(case, &answer)?;
    let wanted = wanted(case)?;
    compare(case, &answer.data, &wanted)?;
    if let (At::Instant(at), Data::Vector(vector)) = (case.at, &answer.data) {
        return middle_of_range(case, at, vector);
    }
    Ok(())
}

/// Davy's error also says which labels.
const EXACT_PREFIX_OF_LABELS: &str = "vector cannot contain metrics with the same labelset";

fn ask(case: &Case, at: At) -> Result<Answer, String> {
    let expr = Expr::parse(&case.expr).map_err(|e| e.to_string())?;
    let (engine, never) = (Engine::default(), Cancel::default());
    let answer = match at {
        At::Instant(at) => engine.query(&expr, &*case.data, Timestamp::from_millis(at), &never),
        At::Range { start, end, step } => {
            let steps = Steps {
                start: Timestamp::from_millis(start),
                end: Timestamp::from_millis(end),
                step: Duration::from_millis(step.unsigned_abs()),
            };
            engine.query_range(&expr, &*case.data, steps, &never)
        }
    };
    answer.map_err(|e| e.to_string())
}

fn noted(case: &Case, answer: &Answer) -> Result<(), String> {
    for expect in &case.expect {
        let holds = match expect {
            Expect::Warn(m) => answer.warnings.iter().any(|w| m.holds(without_place(w))),
            Expect::Info(m) => answer.infos.iter().any(|i| m.holds(without_place(i))),
            Expect::NoWarn => answer.warnings.is_empty(),
            Expect::NoInfo => answer.infos.is_empty(),
            Expect::Fail(_) | Expect::Ordered | Expect::Text(_) => true,
        };
        if !holds {
            return Err(format!("{expect:?}: notes {:?} {:?}", answer.warnings, answer.infos));
        }
    }
    Ok(())
}

/// Notes end with where in the query they belong: ` (1:6)`.
fn without_place(note: &str) -> &str {
    note.rsplit_once(" (").map_or(note, |(words, _)| words)
}

enum Wanted {
    Text(String),
    Scalar(f64),
    Series(Vec<(Labels, Vec<Option<Value>>)>),
}

fn wanted(case: &Case) -> Result<Wanted, String> {
    if let Some(Expect::Text(t)) = case.expect.iter().find(|e| matches!(e, Expect::Text(_))) {
        return Ok(Wanted::Text(t.clone()));
    }
    if let [only] = &case.want[..]
        && let Ok(v) = series::number(only)
    {
        return Ok(Wanted::Scalar(v));
    }
    let mut all = Vec::new();
    for line in &case.want {
        let (labels, values) = split_series(line);
        all.push((series::labels(labels)?, series::values(values)?));
    }
    Ok(Wanted::Series(all))
}

fn compare(case: &Case, data: &Data, wanted: &Wanted) -> Result<(), String> {
    let wrong = |why: String| Err(format!("{why}; got {data:?}"));
    match (data, wanted) {
        (Data::String(_, got), Wanted::Text(want)) if got == want => Ok(()),
        (Data::Scalar(_, got), Wanted::Scalar(want)) if close(*got, *want) => Ok(()),
        (Data::Vector(got), Wanted::Series(want)) => {
            if got.len() != want.len() {
                return wrong(format!("{} series wanted", want.len()));
            }
            let ordered = case.expect.contains(&Expect::Ordered);
            for (i, (labels, values)) in want.iter().enumerate() {
                let found = if ordered { Some(&got[i]) } else { got.iter().find(|(l, _)| l == labels) };
                let same = |(l, s): &&(Labels, Sample)| {
                    l == labels && values[0].as_ref().is_some_and(|w| same_value(&s.value, w))
                };
                if found.filter(same).is_none() {
                    return wrong(format!("wanted {labels} {:?}", values[0]));
                }
            }
            Ok(())
        }
        (Data::Matrix(got), Wanted::Series(want)) => {
            let At::Range { start, step, .. } = case.at else { return wrong("a vector wanted".into()) };
            if got.len() != want.len() {
                return wrong(format!("{} series wanted", want.len()));
            }
            for (labels, values) in want {
                let Some(found) = got.iter().find(|s| s.labels == *labels) else {
                    return wrong(format!("wanted {labels}"));
                };
                let held: Vec<(i64, &Value)> = values
                    .iter()
                    .enumerate()
                    .filter_map(|(i, v)| Some((start + step * i as i64, v.as_ref()?)))
                    .collect();
                let same = held.len() == found.samples.len()
                    && held
                        .iter()
                        .zip(&found.samples)
                        .all(|((t, w), s)| s.timestamp.as_millis() == *t && same_value(&s.value, w));
                if !same {
                    return wrong(format!("wanted {labels} {held:?}"));
                }
            }
            Ok(())
        }
        // A range query of a scalar is a series without labels.
        (Data::Matrix(got), Wanted::Scalar(want)) => {
            let all = got.iter().flat_map(|s| &s.samples);
            let same = all.map(|s| s.value.as_float()).all(|v| v.is_some_and(|v| close(v, *want)));
            if same { Ok(()) } else { wrong(format!("{want} wanted")) }
        }
        _ => wrong("another type wanted".to_owned()),
    }
}

/// The same query over three steps gives the same at the one in the middle, unless another step is an error.
fn middle_of_range(case: &Case, at: i64, vector: &[(Labels, Sample)]) -> Result<(), String> {
    let range = At::Range { start: at - MINUTE_MS, end: at + MINUTE_MS, step: MINUTE_MS };
    let Ok(answer) = ask(case, range) else { return Ok(()) };
    let Data::Matrix(matrix) = &answer.data else { return Err("a range query gives no matrix".to_owned()) };
    let middle = |s: &Sample| s.timestamp.as_millis() == at;
    let got: Vec<(&Labels, &Sample)> =
        matrix.iter().filter_map(|s| Some((&s.labels, s.samples.iter().find(|s| middle(s))?))).collect();
    let same = |(labels, sample): &(Labels, Sample)| {
        got.iter().any(|(l, s)| *l == labels && same_value(&s.value, &sample.value))
    };
    if got.len() == vector.len() && vector.iter().all(same) {
        return Ok(());
    }
    Err(format!("the range's middle step differs: {got:?} instead of {vector:?}"))
}

fn same_value(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Float(a), Value::Float(b)) => close(*a, *b),
        (Value::Histogram(a), Value::Histogram(b)) => same_histogram(a, b),
        _ => false,
    }
}

fn same_histogram(a: &Histogram, b: &Histogram) -> bool {
    let held = |h: &Histogram| h.buckets().into_iter().filter(|(_, _, c)| *c != 0.0).collect::<Vec<_>>();
    let (x, y) = (held(a), held(b));
    a.schema == b.schema
        && close(a.count, b.count)
        && close(a.sum, b.sum)
        && close(a.zero_threshold, b.zero_threshold)
        && close(a.zero_count, b.zero_count)
        && a.custom_bounds == b.custom_bounds
        && x.len() == y.len()
        && x.iter().zip(&y).all(|(x, y)| close(x.0, y.0) && close(x.1, y.1) && close(x.2, y.2))
}

fn close(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}
