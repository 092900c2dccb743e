//! A query on one trace: which spans it picks, and in which sets.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::ast::{Aggregate, Arithmetic, Expr, Op, Query, Reduce, SpansetExpr, SpansetOp, Stage, Value};
use super::field::Field;
use super::structural;
use super::trace::Trace;

/// Spans of a trace that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanset {
    /// Numbers of the spans in the trace, ascending.
    pub spans: Vec<usize>,
    /// What they share, and what was computed of them: `by(resource.service.name)`, `count()`.
    pub attributes: Vec<(String, Value)>,
}

impl Query {
    /// The sets that the query makes of the trace; none if it does not ask for it.
    pub fn eval(&self, trace: &Trace) -> Vec<Spanset> {
        let first = Spanset { spans: pick(&self.spansets, trace), attributes: Vec::new() };
        let mut sets = vec![first];
        for stage in &self.stages {
            sets = apply(stage, sets, trace);
            sets.retain(|set| !set.spans.is_empty());
        }
        sets.retain(|set| !set.spans.is_empty());
        sets
    }
}

/// Spans that the expression picks, ascending.
fn pick(expr: &SpansetExpr, trace: &Trace) -> Vec<usize> {
    match expr {
        SpansetExpr::Filter(None) => (0..trace.spans.len()).collect(),
        SpansetExpr::Filter(Some(filter)) => {
            (0..trace.spans.len()).filter(|span| holds(filter, trace, *span)).collect()
        }
        SpansetExpr::Pair(op, sides) => {
            let [left, right] = [&sides[0], &sides[1]].map(|side| pick(side, trace));
            match op {
                SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                SpansetOp::And | SpansetOp::Or => union(left, right),
                SpansetOp::Structural { relation, not, both } => {
                    structural::related(trace, &left, &right, *relation, *not, *both)
                }
            }
        }
    }
}

fn union(left: Vec<usize>, right: Vec<usize>) -> Vec<usize> {
    left.into_iter().chain(right).collect::<BTreeSet<_>>().into_iter().collect()
}

fn apply(stage: &Stage, sets: Vec<Spanset>, trace: &Trace) -> Vec<Spanset> {
    match stage {
        Stage::Select(_) => sets,
        Stage::Keep(expr) => {
            let kept: BTreeSet<usize> = pick(expr, trace).into_iter().collect();
            let keep = |mut set: Spanset| {
                set.spans.retain(|span| kept.contains(span));
                set
            };
            sets.into_iter().map(keep).collect()
        }
        Stage::Compare(aggregate, op, than) => {
            let compared = |mut set: Spanset| {
                let value = aggregate_of(aggregate, &set.spans, trace)?;
                let number = as_number(&value)?;
                if !is_so(*op, number.partial_cmp(than)) {
                    return None;
                }
                set.attributes.push((aggregate.shown(), value));
                Some(set)
            };
            sets.into_iter().filter_map(compared).collect()
        }
        Stage::By(expr) => sets.into_iter().flat_map(|set| group(set, expr, trace)).collect(),
        Stage::Coalesce => {
            let spans = sets.into_iter().fold(Vec::new(), |all, set| union(all, set.spans));
            vec![Spanset { spans, attributes: Vec::new() }]
        }
    }
}

/// A set for each value of the expression, in the order in which they first occur.
fn group(set: Spanset, expr: &Expr, trace: &Trace) -> Vec<Spanset> {
    let mut groups: Vec<(Value, Vec<usize>)> = Vec::new();
    for span in set.spans {
        let value = value(expr, trace, span);
        match groups.iter_mut().find(|(v, _)| *v == value) {
            Some((_, spans)) => spans.push(span),
            None => groups.push((value, vec![span])),
        }
    }
    let of = |(value, spans): (Value, Vec<usize>)| {
        let mut attributes = set.attributes.clone();
        let mut name = String::new();
        expr.fields(&mut |field| name = field.to_string());
        attributes.push((format!("by({name})"), value));
        Spanset { spans, attributes }
    };
    groups.into_iter().map(of).collect()
}

impl Aggregate {
    fn shown(&self) -> String {
        let Self::Of(reduce, expr) = self else { return "count()".to_owned() };
        let mut name = String::new();
        expr.fields(&mut |field| name = field.to_string());
        format!("{}({name})", reduce.word())
    }
}

impl Reduce {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Max => "max",
            Self::Min => "min",
            Self::Sum => "sum",
        }
    }
}

/// `None` if no span has a number there.
fn aggregate_of(aggregate: &Aggregate, spans: &[usize], trace: &Trace) -> Option<Value> {
    let (reduce, expr) = match aggregate {
        Aggregate::Count => return Some(Value::Int(spans.len() as i64)),
        Aggregate::Of(reduce, expr) => (*reduce, expr),
    };
    let values: Vec<Value> = spans.iter().map(|span| value(expr, trace, *span)).collect();
    let numbers: Vec<f64> = values.iter().filter_map(as_number).filter(|n| !n.is_nan()).collect();
    if numbers.is_empty() {
        return None;
    }
    let sum: f64 = numbers.iter().sum();
    let number = match reduce {
        Reduce::Sum => sum,
        Reduce::Avg => sum / numbers.len() as f64,
        Reduce::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduce::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
    };
    let are_durations = values.iter().any(|v| matches!(v, Value::Duration(_)));
    Some(if are_durations { Value::Duration(number as i64) } else { Value::Float(number) })
}

/// Where an expression finds the values of its fields.
pub(crate) trait Lookup {
    /// Whether the test holds for a value of the field: a span may have several events and links. It is asked of
    /// [`Value::Nil`] where there is none.
    fn any(&self, field: &Field, test: &mut dyn FnMut(Value) -> bool) -> bool;
}

/// A span of a trace.
pub(crate) struct At<'a>(pub(crate) &'a Trace, pub(crate) usize);

impl Lookup for At<'_> {
    fn any(&self, field: &Field, test: &mut dyn FnMut(Value) -> bool) -> bool {
        field.any(self.0, self.1, test)
    }
}

/// Whether a span of the trace is picked by what stands between braces.
pub(crate) fn holds(filter: &Expr, trace: &Trace, span: usize) -> bool {
    is_true(filter, &At(trace, span))
}

pub(crate) fn value(expr: &Expr, trace: &Trace, span: usize) -> Value {
    first(expr, &At(trace, span))
}

pub(crate) fn is_true(expr: &Expr, of: &dyn Lookup) -> bool {
    any(expr, of, &mut |value| value == Value::Bool(true))
}

fn first(expr: &Expr, of: &dyn Lookup) -> Value {
    let mut found = Value::Nil;
    any(expr, of, &mut |value| {
        found = value;
        true
    });
    found
}

fn any(expr: &Expr, of: &dyn Lookup, test: &mut dyn FnMut(Value) -> bool) -> bool {
    let is = |inner: &Expr| is_true(inner, of);
    match expr {
        Expr::Value(value) => test(value.clone()),
        Expr::Field(field) => of.any(field, test),
        Expr::And(parts) => test(Value::Bool(parts.iter().all(is))),
        Expr::Or(parts) => test(Value::Bool(parts.iter().any(is))),
        Expr::Not(inner) => test(Value::Bool(!is(inner))),
        Expr::Exists(inner) => test(Value::Bool(any(inner, of, &mut |v| v != Value::Nil))),
        Expr::Match(inner, matcher) => {
            let is_match = &mut |v: Value| matches!(&v, Value::Text(t) if matcher.matches_value(t));
            test(Value::Bool(any(inner, of, is_match)))
        }
        Expr::Compare(op, sides) => {
            let found = any(&sides[0], of, &mut |l| any(&sides[1], of, &mut |r| compare(*op, &l, &r)));
            test(Value::Bool(found))
        }
        Expr::Negative(inner) => test(match first(inner, of) {
            Value::Int(n) => Value::Int(n.saturating_neg()),
            Value::Float(n) => Value::Float(-n),
            Value::Duration(n) => Value::Duration(n.saturating_neg()),
            _ => Value::Nil,
        }),
        Expr::Compute(op, sides) => test(compute(*op, &first(&sides[0], of), &first(&sides[1], of))),
    }
}

/// Of different types, and of what is not there, nothing holds, not even `!=`.
pub(crate) fn compare(op: Op, left: &Value, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::Text(l), Value::Text(r)) => Some(l.cmp(r)),
        (Value::Bool(l), Value::Bool(r)) => Some(l.cmp(r)),
        (Value::Status(l), Value::Status(r)) => equal_only(l == r),
        (Value::Kind(l), Value::Kind(r)) => equal_only(l == r),
        (Value::Int(l) | Value::Duration(l), Value::Int(r) | Value::Duration(r)) => Some(l.cmp(r)),
        _ => match (as_number(left), as_number(right)) {
            (Some(l), Some(r)) => l.partial_cmp(&r),
            _ => return false,
        },
    };
    is_so(op, order)
}

fn equal_only(equal: bool) -> Option<Ordering> {
    equal.then_some(Ordering::Equal)
}

fn is_so(op: Op, order: Option<Ordering>) -> bool {
    match op {
        Op::Equal => order == Some(Ordering::Equal),
        Op::NotEqual => order != Some(Ordering::Equal),
        Op::Less => order == Some(Ordering::Less),
        Op::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Op::Greater => order == Some(Ordering::Greater),
        Op::GreaterEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

pub(crate) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(n) | Value::Duration(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        Value::Nil | Value::Text(_) | Value::Bool(_) | Value::Status(_) | Value::Kind(_) => None,
    }
}

fn compute(op: Arithmetic, left: &Value, right: &Value) -> Value {
    let whole = |n: Option<i64>| n.map_or(Value::Nil, Value::Int);
    if let (Value::Int(l), Value::Int(r)) = (left, right) {
        match op {
            Arithmetic::Add => return whole(l.checked_add(*r)),
            Arithmetic::Sub => return whole(l.checked_sub(*r)),
            Arithmetic::Mul => return whole(l.checked_mul(*r)),
            Arithmetic::Mod => return whole(l.checked_rem(*r)),
            Arithmetic::Div if l.checked_rem(*r) == Some(0) => return whole(l.checked_div(*r)),
            Arithmetic::Div | Arithmetic::Pow => {}
        }
    }
    let (Some(l), Some(r)) = (as_number(left), as_number(right)) else { return Value::Nil };
    let number = match op {
        Arithmetic::Add => l + r,
        Arithmetic::Sub => l - r,
        Arithmetic::Mul => l * r,
        Arithmetic::Div => l / r,
        Arithmetic::Mod => l % r,
        Arithmetic::Pow => l.powf(r),
    };
    match (left, right) {
        (Value::Duration(_), _) | (_, Value::Duration(_)) if op != Arithmetic::Pow => {
            Value::Duration(number as i64)
        }
        _ => Value::Float(number),
    }
}
