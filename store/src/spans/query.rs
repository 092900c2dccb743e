//! `SpanQuery`: how Davy itself picks among spans, a filter by its usual names.

use std::time::Duration;

use davy_model::{Span, SpanStatus, Timestamp};

use super::filter::{FieldValue, SpanField, SpanFilter, SpanSearch};

/// Most spans one query returns.
pub(crate) const SPANS_LIMIT_MAX: usize = 10_000;

/// Which spans to find; every condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct SpanQuery {
    pub service: Option<String>,
    pub version: Option<String>,
    pub operation: Option<String>,
    pub errors_only: bool,
    pub duration_min: Option<Duration>,
    /// Key and value, as text, of attributes that the span or its resource must have.
    pub attributes: Vec<(String, String)>,
    /// Zero, or more than 10,000, is 10,000.
    pub limit: usize,
}

impl SpanQuery {
    pub(crate) fn limit(&self) -> usize {
        if self.limit == 0 { SPANS_LIMIT_MAX } else { self.limit.min(SPANS_LIMIT_MAX) }
    }

    /// Newest first, no more than the limit.
    pub(crate) fn keep_newest(&self, found: &mut Vec<Span>) {
        found.sort_by_key(|s| std::cmp::Reverse(s.start_nanos));
        found.truncate(self.limit());
    }

    /// The same as a search; `None` if no span can be found.
    pub(crate) fn search(&self, from: Timestamp, to: Timestamp) -> Option<SpanSearch> {
        let mut all = Vec::new();
        let named = |key: &str| SpanField::Resource(key.to_owned());
        for (field, want) in [
            (named("service.name"), &self.service),
            (named("service.version"), &self.version),
            (SpanField::Name, &self.operation),
        ] {
            if let Some(want) = want.clone() {
                all.push(SpanFilter::test(field, move |got| match got {
                    Some(FieldValue::Text(text)) => text == want,
                    _ => want.is_empty(),
                }));
            }
        }
        if self.errors_only {
            let is_error = |got: Option<FieldValue>| got == Some(FieldValue::Status(SpanStatus::Error));
            all.push(SpanFilter::test(SpanField::Status, is_error));
        }
        for (key, want) in &self.attributes {
            let test = |field| {
                let want = want.clone();
                SpanFilter::test(field, move |got| got.is_some_and(|got| is_written(got, &want)))
            };
            let fields = [SpanField::Span(key.clone()), SpanField::Resource(key.clone())];
            all.push(SpanFilter::Or(fields.map(test).into()));
        }
        let duration_nanos_min = u64::try_from(self.duration_min.unwrap_or_default().as_nanos()).ok()?;
        if let Some(min) = self.duration_min {
            let is_long = move |got: Option<FieldValue>| matches!(got, Some(FieldValue::Nanos(n)) if u128::from(n) >= min.as_nanos());
            all.push(SpanFilter::test(SpanField::Duration, is_long));
        }
        Some(SpanSearch { filter: SpanFilter::And(all), duration_nanos_min, from, to })
    }
}

/// Whether an attribute's value is written so.
fn is_written(value: FieldValue, text: &str) -> bool {
    match value {
        FieldValue::Text(s) | FieldValue::Json(s) => s == text,
        FieldValue::Bool(b) => text == if b { "true" } else { "false" },
        FieldValue::Int(i) => text.parse() == Ok(i) && i.to_string() == text,
        FieldValue::Double(d) => d.to_string() == text,
        FieldValue::Nanos(_) | FieldValue::Kind(_) | FieldValue::Status(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use davy_model::{AttributeValue, Resource, SpanId, SpanKind, TraceId};

    fn span(service: &str, start_ms: u64, status: SpanStatus) -> Span {
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([1; 8]),
            parent_span_id: SpanId::default(),
            trace_state: "".into(),
            resource: Arc::new(Resource {
                attributes: vec![("service.name".into(), AttributeValue::String(service.into()))],
            }),
            scope: "".into(),
            name: "GET /".into(),
            kind: SpanKind::Server,
            start_nanos: start_ms * 1_000_000,
            end_nanos: (start_ms + 20) * 1_000_000,
            status,
            status_message: "".into(),
            attributes: vec![],
            events: vec![],
            links: vec![],
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let (from, to) = (Timestamp::from_millis(100), Timestamp::from_millis(200));
        let failed = span("cart", 100, SpanStatus::Error);
        let matches = |q: &SpanQuery, span: &Span| q.search(from, to).is_some_and(|s| s.matches(span));
        let check = |q: SpanQuery, want: bool| assert_eq!(matches(&q, &failed), want, "{q:?}");
        check(SpanQuery::default(), true);
        check(SpanQuery { service: Some("cart".into()), errors_only: true, ..Default::default() }, true);
        check(SpanQuery { service: Some("car".into()), ..Default::default() }, false);
        check(SpanQuery { version: Some("1".into()), ..Default::default() }, false);
        check(SpanQuery { operation: Some("GET".into()), ..Default::default() }, false);
        check(SpanQuery { duration_min: Some(Duration::from_millis(20)), ..Default::default() }, true);
        check(SpanQuery { duration_min: Some(Duration::from_millis(21)), ..Default::default() }, false);
        check(SpanQuery { duration_min: Some(Duration::MAX), ..Default::default() }, false);
        let attribute =
            |k: &str, v: &str| SpanQuery { attributes: vec![(k.into(), v.into())], ..Default::default() };
        check(attribute("service.name", "cart"), true);
        check(attribute("service.name", "pay"), false);
        check(attribute("http.route", ""), false);
        assert!(!matches(&SpanQuery::default(), &span("cart", 99, SpanStatus::Ok)));
        assert!(!matches(&SpanQuery::default(), &span("cart", 201, SpanStatus::Ok)));
        let errors = SpanQuery { errors_only: true, ..Default::default() };
        assert!(!matches(&errors, &span("cart", 100, SpanStatus::Ok)));
    }
}
