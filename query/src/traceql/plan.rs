//! What of a query the columns of the store can answer: a search that finds every span the query picks, and as few
//! others as it can tell.

use davy_model::Timestamp;
use davy_store::{FieldValue, SpanField, SpanFilter, SpanSearch};

use super::ast::{Expr, Op, Query, SpansetExpr, SpansetOp, Stage, Value};
use super::eval::{Lookup, is_true};
use super::field::{Field, Intrinsic, Scope};

impl Query {
    /// Whether it picks every span: `{}`.
    pub fn is_everything(&self) -> bool {
        let is_true = |filter: &Expr| matches!(filter, Expr::Value(Value::Bool(true)));
        matches!(&self.spansets, SpansetExpr::Filter(filter) if filter.as_ref().is_none_or(is_true))
            && self.stages.is_empty()
    }

    /// Finds every span that [`Query::eval`] picks and that started in `from..=to`.
    pub(crate) fn search(&self, from: Timestamp, to: Timestamp) -> SpanSearch {
        let mut parts = vec![of_spansets(&self.spansets)];
        let mut duration_nanos_min = shortest(&self.spansets);
        for stage in &self.stages {
            if let Stage::Keep(kept) = stage {
                parts.push(of_spansets(kept));
                duration_nanos_min = duration_nanos_min.max(shortest(kept));
            }
        }
        SpanSearch { filter: SpanFilter::And(parts), duration_nanos_min, from, to }
    }

    /// Whether each span can be decided on alone, without the others of its trace.
    pub(crate) fn is_of_spans(&self) -> bool {
        fn is_plain(expr: &SpansetExpr) -> bool {
            match expr {
                SpansetExpr::Filter(filter) => filter.as_ref().is_none_or(is_of_span),
                SpansetExpr::Pair(SpansetOp::Or, sides) => sides.iter().all(is_plain),
                SpansetExpr::Pair(..) => false,
            }
        }
        is_plain(&self.spansets)
            && self.stages.iter().all(|stage| match stage {
                Stage::Keep(kept) => is_plain(kept),
                Stage::Select(_) => true,
                Stage::Compare(..) | Stage::By(_) | Stage::Coalesce => false,
            })
    }
}

/// Spans that the expression can give.
fn of_spansets(expr: &SpansetExpr) -> SpanFilter {
    match expr {
        SpansetExpr::Filter(None) => SpanFilter::All,
        SpansetExpr::Filter(Some(filter)) => lowered(filter, true),
        SpansetExpr::Pair(op, sides) if gives_right(*op) => of_spansets(&sides[1]),
        SpansetExpr::Pair(_, sides) => SpanFilter::Or(sides.iter().map(of_spansets).collect()),
    }
}

/// Whether only spans of the right side are given.
fn gives_right(op: SpansetOp) -> bool {
    matches!(op, SpansetOp::Structural { both: false, .. })
}

/// A filter that lets all pass that the expression does, and perhaps more; or, for what stands under an odd number of
/// `!`, none that it does not, and perhaps fewer.
fn lowered(expr: &Expr, more: bool) -> SpanFilter {
    match expr {
        Expr::And(parts) => SpanFilter::And(parts.iter().map(|p| lowered(p, more)).collect()),
        Expr::Or(parts) => SpanFilter::Or(parts.iter().map(|p| lowered(p, more)).collect()),
        Expr::Not(inner) => SpanFilter::Not(Box::new(lowered(inner, !more))),
        leaf => of_leaf(leaf, more).unwrap_or_else(|| constant(more)),
    }
}

fn constant(passes: bool) -> SpanFilter {
    if passes { SpanFilter::All } else { SpanFilter::Or(Vec::new()) }
}

/// The same as a test of one value, if one value decides it.
fn of_leaf(expr: &Expr, more: bool) -> Option<SpanFilter> {
    let mut fields: Vec<&Field> = Vec::new();
    expr.fields(&mut |f| {
        if !fields.contains(&f) {
            fields.push(f);
        }
    });
    let [field] = fields[..] else {
        return fields.is_empty().then(|| constant(is_true(expr, &One(Value::Nil))));
    };
    if let Some(is_root) = of_nested_set_parent(expr) {
        return Some(is_root);
    }
    let has = match field {
        Field::Attribute(Scope::Event, _)
        | Field::Intrinsic(Intrinsic::EventName | Intrinsic::EventTimeSinceStart) => {
            Some(SpanField::HasEvents)
        }
        Field::Attribute(Scope::Link, _)
        | Field::Intrinsic(Intrinsic::LinkTraceId | Intrinsic::LinkSpanId) => Some(SpanField::HasLinks),
        _ => None,
    };
    // What stands there is not known, but what holds of a span that has none is.
    if let Some(has) = has {
        let holds_without = is_true(expr, &One(Value::Nil));
        let is_unknown = SpanFilter::test(has, |v| v == Some(FieldValue::Bool(true)));
        return match (holds_without, more) {
            (false, true) => Some(is_unknown),
            (true, false) => Some(SpanFilter::Not(Box::new(is_unknown))),
            (true, true) | (false, false) => None,
        };
    }
    let column = column(field)?;
    let expr = expr.clone();
    // A scope without a name is none.
    let is_scope = column == SpanField::Scope;
    Some(SpanFilter::test(column, move |value| {
        let value = value.filter(|v| !(is_scope && *v == FieldValue::Text("")));
        is_true(&expr, &One(value_of(value)))
    }))
}

/// The column that has the field's value.
pub(crate) fn column(field: &Field) -> Option<SpanField> {
    Some(match field {
        Field::Attribute(Scope::Any, key) => SpanField::Any(key.clone()),
        Field::Attribute(Scope::Span, key) => SpanField::Span(key.clone()),
        Field::Attribute(Scope::Resource, key) => SpanField::Resource(key.clone()),
        Field::Intrinsic(Intrinsic::Name) => SpanField::Name,
        Field::Intrinsic(Intrinsic::Status) => SpanField::Status,
        Field::Intrinsic(Intrinsic::StatusMessage) => SpanField::StatusMessage,
        Field::Intrinsic(Intrinsic::Kind) => SpanField::Kind,
        Field::Intrinsic(Intrinsic::Duration) => SpanField::Duration,
        Field::Intrinsic(Intrinsic::InstrumentationName) => SpanField::Scope,
        Field::Attribute(..) | Field::Intrinsic(_) => return None,
    })
}

fn value_of(value: Option<FieldValue>) -> Value {
    match value {
        None => Value::Nil,
        Some(FieldValue::Text(text) | FieldValue::Json(text)) => Value::Text(text.into()),
        Some(FieldValue::Bool(b)) => Value::Bool(b),
        Some(FieldValue::Int(n)) => Value::Int(n),
        Some(FieldValue::Double(n)) => Value::Float(n),
        Some(FieldValue::Nanos(n)) => Value::Duration(i64::try_from(n).unwrap_or(i64::MAX)),
        Some(FieldValue::Kind(kind)) => Value::Kind(kind),
        Some(FieldValue::Status(status)) => Value::Status(status),
    }
}

/// `nestedSetParent < 0`, which is how Grafana asks for roots: of a root it is -1, of others zero or more.
fn of_nested_set_parent(expr: &Expr) -> Option<SpanFilter> {
    let Expr::Compare(_, sides) = expr else { return None };
    let number = match (&sides[0], &sides[1]) {
        (Expr::Field(Field::Intrinsic(Intrinsic::NestedSetParent)), Expr::Value(Value::Int(n)))
        | (Expr::Value(Value::Int(n)), Expr::Field(Field::Intrinsic(Intrinsic::NestedSetParent))) => *n,
        _ => return None,
    };
    let [root, orphan, child] = [-1, 0, 1].map(|n| is_true(expr, &One(Value::Int(n))));
    // All that are no roots must get the same answer.
    (number <= 0 && orphan == child).then(|| {
        SpanFilter::test(
            SpanField::IsRoot,
            move |v| if v == Some(FieldValue::Bool(true)) { root } else { child },
        )
    })
}

fn is_of_span(expr: &Expr) -> bool {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().all(is_of_span),
        Expr::Not(inner) => is_of_span(inner),
        leaf if of_nested_set_parent(leaf).is_some() => true,
        leaf => {
            let mut all = true;
            leaf.fields(&mut |field| all &= field.is_of_span());
            all
        }
    }
}

/// The value of the only field of an expression.
struct One(Value);

impl Lookup for One {
    fn any(&self, _: &Field, test: &mut dyn FnMut(Value) -> bool) -> bool {
        test(self.0.clone())
    }
}

/// No span that the expression gives is shorter.
fn shortest(expr: &SpansetExpr) -> u64 {
    match expr {
        SpansetExpr::Filter(filter) => filter.as_ref().map_or(0, shortest_of),
        SpansetExpr::Pair(op, sides) if gives_right(*op) => shortest(&sides[1]),
        SpansetExpr::Pair(_, sides) => sides.iter().map(shortest).min().unwrap_or(0),
    }
}

fn shortest_of(expr: &Expr) -> u64 {
    match expr {
        Expr::And(parts) => parts.iter().map(shortest_of).max().unwrap_or(0),
        Expr::Or(parts) => parts.iter().map(shortest_of).min().unwrap_or(0),
        Expr::Compare(op, sides) => {
            let (op, value) = match (&sides[0], &sides[1]) {
                (Expr::Field(Field::Intrinsic(Intrinsic::Duration)), Expr::Value(value)) => (*op, value),
                (Expr::Value(value), Expr::Field(Field::Intrinsic(Intrinsic::Duration))) => {
                    (op.turned(), value)
                }
                _ => return 0,
            };
            match (op, value) {
                (Op::Equal | Op::Greater | Op::GreaterEqual, Value::Int(n) | Value::Duration(n)) => {
                    u64::try_from(*n).unwrap_or(0)
                }
                _ => 0,
            }
        }
        Expr::Value(_)
        | Expr::Field(_)
        | Expr::Not(_)
        | Expr::Negative(_)
        | Expr::Match(..)
        | Expr::Exists(_)
        | Expr::Compute(..) => 0,
    }
}
