//! Which fields spans have and which values, for whoever writes a query and is offered what there is.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use davy_model::AttributeValue;
use davy_store::{FieldValue, Snapshot, SpanField, SpanFilter, SpanNamesWanted, SpanParts, SpanSearch};

use super::ast::{Query, Value};
use super::field::{Field, Intrinsic, Scope};
use super::plan::column;
use super::search::Range;
use super::trace::Trace;
use crate::Cancel;

/// Spans that are looked at for values when a query says which.
const SPANS_MAX: usize = 200_000;

/// A value as it stands in a list, and its type as Tempo names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagValue {
    pub kind: &'static str,
    pub text: String,
}

/// Names by scope: `resource`, `span`, `event`, `link`, `instrumentation`, `intrinsic`, in this order, those that
/// are not asked for left out.
pub fn tag_names(
    snapshot: &Snapshot,
    scope: Option<&str>,
    range: Range,
    limit: usize,
    cancel: &Cancel,
) -> Vec<(&'static str, Vec<String>)> {
    let is_asked = |name: &str| scope.is_none_or(|s| s == name);
    let wanted = SpanNamesWanted { events: is_asked("event"), links: is_asked("link") };
    let names = snapshot.span_names(wanted, range.from, range.to, &mut |names| {
        let all = [&names.resource, &names.span, &names.event, &names.link];
        let is_enough = all.iter().all(|n| n.len() >= limit);
        if is_enough || cancel.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let cut = |names: BTreeSet<String>| names.into_iter().take(limit).collect::<Vec<_>>();
    let intrinsics: BTreeSet<String> = Intrinsic::words().map(str::to_owned).collect();
    let scopes = [
        ("resource", names.resource),
        ("span", names.span),
        ("event", names.event),
        ("link", names.link),
        ("instrumentation", BTreeSet::new()),
        ("intrinsic", intrinsics),
    ];
    scopes.into_iter().filter(|(name, _)| is_asked(name)).map(|(name, names)| (name, cut(names))).collect()
}

/// Distinct values of a field, of the spans that the query may pick if there is one.
pub fn tag_values(
    snapshot: &Snapshot,
    field: &Field,
    query: Option<&Query>,
    range: Range,
    limit: usize,
    cancel: &Cancel,
) -> Vec<TagValue> {
    let mut found: BTreeSet<TagValue> = BTreeSet::new();
    let flow = |found: &BTreeSet<TagValue>| match found.len() >= limit || cancel.is_raised() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    match (query, column(field)) {
        (None, Some(SpanField::Duration)) => {}
        (None, Some(column)) => snapshot.span_values(&column, range.from, range.to, &mut |values| {
            found.extend(values.iter().map(|value| listed(field, value)));
            flow(&found)
        }),
        (query, _) => {
            let Some((field, filter)) = of_spans(field) else { return Vec::new() };
            let mut search = match query {
                Some(query) => query.search(range.from, range.to),
                None => SpanSearch {
                    filter: SpanFilter::All,
                    duration_nanos_min: 0,
                    from: range.from,
                    to: range.to,
                },
            };
            search.filter = SpanFilter::And(vec![filter, search.filter]);
            let mut spans = 0;
            snapshot.visit_spans(&search, &parts(&field), &mut |visited| {
                spans += visited.found.len();
                let trace = Trace::unrelated(visited.found);
                for span in 0..trace.spans.len() {
                    field.any(&trace, span, &mut |value| {
                        found.extend(tag_value(&value));
                        false
                    });
                }
                if spans > SPANS_MAX { ControlFlow::Break(()) } else { flow(&found) }
            });
        }
    }
    found.retain(|v| !v.text.is_empty());
    found.into_iter().take(limit).collect()
}

/// A field of the root is that of spans without a parent; what only a whole trace says has no list.
fn of_spans(field: &Field) -> Option<(Field, SpanFilter)> {
    let is_true = |v: Option<FieldValue>| v == Some(FieldValue::Bool(true));
    let roots = || SpanFilter::test(SpanField::IsRoot, is_true);
    let is_listed = field.is_of_span()
        && !matches!(
            field,
            Field::Intrinsic(
                Intrinsic::Duration
                    | Intrinsic::SpanId
                    | Intrinsic::ParentId
                    | Intrinsic::TraceId
                    | Intrinsic::EventTimeSinceStart
                    | Intrinsic::LinkTraceId
                    | Intrinsic::LinkSpanId
            )
        );
    match field {
        Field::Intrinsic(Intrinsic::RootName) => Some((Field::Intrinsic(Intrinsic::Name), roots())),
        Field::Intrinsic(Intrinsic::RootService) => {
            Some((Field::Attribute(Scope::Resource, "service.name".to_owned()), roots()))
        }
        field if is_listed => Some((field.clone(), SpanFilter::All)),
        _ => None,
    }
}

/// What of a span the field needs.
fn parts(field: &Field) -> SpanParts {
    let (attributes, without_extras) = match field {
        Field::Attribute(Scope::Any | Scope::Span, key) => (vec![key.clone()], true),
        Field::Attribute(Scope::Event | Scope::Link, _) | Field::Intrinsic(Intrinsic::EventName) => {
            (Vec::new(), false)
        }
        Field::Attribute(..) | Field::Intrinsic(_) => (Vec::new(), true),
    };
    SpanParts { attributes: Some(attributes), without_extras }
}

/// Of a value as the store lists it: kinds and statuses come as words.
fn listed(field: &Field, value: &AttributeValue) -> TagValue {
    let mut listed = tag_value(&value.into()).unwrap_or(TagValue { kind: "string", text: String::new() });
    if matches!(field, Field::Intrinsic(Intrinsic::Status | Intrinsic::Kind)) {
        listed.kind = "keyword";
    }
    listed
}

fn tag_value(value: &Value) -> Option<TagValue> {
    let (kind, text) = match value {
        Value::Nil => return None,
        Value::Text(text) => ("string", text.as_ref().to_owned()),
        Value::Bool(b) => ("bool", b.to_string()),
        Value::Int(n) => ("int", n.to_string()),
        Value::Float(n) => ("float", n.to_string()),
        Value::Duration(n) => ("duration", format!("{n}ns")),
        Value::Status(status) => ("keyword", status.as_str().to_owned()),
        Value::Kind(kind) => ("keyword", kind.as_str().to_owned()),
    };
    Some(TagValue { kind, text })
}
