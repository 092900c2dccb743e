//! `SpanQuery`: how a reader picks among spans.

use std::time::Duration;

use davy_model::{AttributeValue, Span, SpanStatus, Timestamp};

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

    /// Whether the span started within the range and satisfies every condition.
    pub(crate) fn matches(&self, span: &Span, from: Timestamp, to: Timestamp) -> bool {
        let is = |want: &Option<String>, got: &str| want.as_deref().is_none_or(|w| w == got);
        let start = Timestamp::from_nanos(span.start_nanos);
        from <= start
            && start <= to
            && is(&self.service, span.resource.service())
            && is(&self.version, span.resource.version())
            && is(&self.operation, &span.name)
            && (!self.errors_only || span.status == SpanStatus::Error)
            && self.duration_min.is_none_or(|d| u128::from(span.duration_nanos()) >= d.as_nanos())
            && self.attributes.iter().all(|(key, value)| {
                let is = |got: Option<&AttributeValue>| got.is_some_and(|v| v.to_string() == *value);
                is(span.attribute(key)) || is(span.resource.get(key))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use davy_model::{Resource, SpanId, SpanKind, TraceId};

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
        let check = |q: SpanQuery, want: bool| assert_eq!(q.matches(&failed, from, to), want, "{q:?}");
        check(SpanQuery::default(), true);
        check(SpanQuery { service: Some("cart".into()), errors_only: true, ..Default::default() }, true);
        check(SpanQuery { service: Some("car".into()), ..Default::default() }, false);
        check(SpanQuery { version: Some("1".into()), ..Default::default() }, false);
        check(SpanQuery { operation: Some("GET".into()), ..Default::default() }, false);
        check(SpanQuery { duration_min: Some(Duration::from_millis(20)), ..Default::default() }, true);
        check(SpanQuery { duration_min: Some(Duration::from_millis(21)), ..Default::default() }, false);
        let attribute =
            |k: &str, v: &str| SpanQuery { attributes: vec![(k.into(), v.into())], ..Default::default() };
        check(attribute("service.name", "cart"), true);
        check(attribute("service.name", "pay"), false);
        check(attribute("http.route", ""), false);
        assert!(!SpanQuery::default().matches(&span("cart", 99, SpanStatus::Ok), from, to));
        assert!(!SpanQuery::default().matches(&span("cart", 201, SpanStatus::Ok), from, to));
        let errors = SpanQuery { errors_only: true, ..Default::default() };
        assert!(!errors.matches(&span("cart", 100, SpanStatus::Ok), from, to));
    }
}
