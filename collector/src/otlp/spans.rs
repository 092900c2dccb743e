//! OTLP spans into Davy's, bounded: what is impossible is refused and counted, what is too long is cut.
//!
//! For JSON; requests in protobuf are read in place by [`super::walk`], which must come to the same.

use std::sync::Arc;
use std::time::Duration;

use davy_model::{Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Timestamp, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1 as otlp;

use super::attributes::Interner;
use super::outcome::Tally;
use super::resource::resource;

/// Spans of one request; the rest is refused and counted.
pub(crate) const SPANS_MAX: u64 = 20_000;
pub(crate) const EVENTS_MAX: usize = 128;
pub(crate) const LINKS_MAX: usize = 128;
/// A span may end this much before it starts: clocks are set back. Its duration then counts as zero.
const BACKWARDS_MAX: Duration = Duration::from_secs(1);

/// Which end times are believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// What one request's spans became.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) spans: Vec<Span>,
    pub(crate) tally: Tally,
    /// Attributes, events and links left out, and texts cut short.
    pub(crate) truncated: u64,
}

pub(crate) fn convert(request: &ExportTraceServiceRequest, window: Window) -> Converted {
    let mut interner = Interner::default();
    let mut out = Converted::default();
    for from_resource in &request.resource_spans {
        let attributes = from_resource.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        let resource = Arc::new(resource(attributes, &mut interner));
        for in_scope in &from_resource.scope_spans {
            let scope = interner.text(in_scope.scope.as_ref().map_or("", |s| &s.name));
            for span in &in_scope.spans {
                let checked = if out.tally.accepted == SPANS_MAX {
                    Err(format!("more than {SPANS_MAX} spans in one request"))
                } else {
                    let times = [span.start_time_unix_nano, span.end_time_unix_nano];
                    check([&span.trace_id, &span.span_id], times, window)
                };
                match checked {
                    Ok(ids) => {
                        out.spans.push(convert_one(span, ids, &resource, &scope, &mut interner));
                        out.tally.accept();
                    }
                    Err(reason) => out.tally.refuse(1, || reason),
                }
            }
        }
    }
    out.truncated = interner.truncated;
    out
}

/// Ids of a span that can be true.
pub(crate) fn check(
    [trace, span]: [&[u8]; 2],
    [start, end]: [u64; 2],
    window: Window,
) -> Result<(TraceId, SpanId), String> {
    let trace_id = trace_id(trace)
        .filter(|id| !id.is_zero())
        .ok_or_else(|| format!("trace id is not 16 bytes with one set, got {} bytes", trace.len()))?;
    let span_id = span_id(span)
        .filter(|id| !id.is_zero())
        .ok_or_else(|| format!("span id is not 8 bytes with one set, got {} bytes", span.len()))?;
    if start == 0 {
        return Err("span has no start time".to_owned());
    }
    if Duration::from_nanos(start.saturating_sub(end)) > BACKWARDS_MAX {
        return Err(format!("span ends {} ms before it starts", start.saturating_sub(end) / 1_000_000));
    }
    let at = Timestamp::from_nanos(end);
    if at < window.from || at > window.to {
        return Err(format!("span ends at {at}, accepted is {} to {}", window.from, window.to));
    }
    Ok((trace_id, span_id))
}

fn convert_one(
    span: &otlp::Span,
    (trace_id, span_id): (TraceId, SpanId),
    resource: &Arc<Resource>,
    scope: &Arc<str>,
    interner: &mut Interner,
) -> Span {
    let surplus = span.events.len().saturating_sub(EVENTS_MAX) + span.links.len().saturating_sub(LINKS_MAX);
    interner.truncated += surplus as u64;
    let status = span.status.as_ref();
    Span {
        trace_id,
        span_id,
        parent_span_id: self::span_id(&span.parent_span_id).unwrap_or_default(),
        trace_state: interner.text(&span.trace_state),
        resource: resource.clone(),
        scope: scope.clone(),
        name: interner.text(&span.name),
        kind: kind(span.kind),
        start_nanos: span.start_time_unix_nano,
        end_nanos: span.end_time_unix_nano,
        status: status.map_or(SpanStatus::Unset, |s| self::status(s.code)),
        status_message: interner.text(status.map_or("", |s| &s.message)),
        attributes: interner.attributes(&span.attributes),
        events: span.events.iter().take(EVENTS_MAX).map(|e| event(e, interner)).collect(),
        links: span.links.iter().take(LINKS_MAX).filter_map(|l| link(l, interner)).collect(),
    }
}

pub(crate) fn event(event: &otlp::span::Event, interner: &mut Interner) -> SpanEvent {
    SpanEvent {
        time_nanos: event.time_unix_nano,
        name: interner.text(&event.name),
        attributes: interner.attributes(&event.attributes),
    }
}

/// A link whose ids are broken leads nowhere and is left out.
pub(crate) fn link(link: &otlp::span::Link, interner: &mut Interner) -> Option<SpanLink> {
    Some(SpanLink {
        trace_id: trace_id(&link.trace_id)?,
        span_id: span_id(&link.span_id)?,
        attributes: interner.attributes(&link.attributes),
    })
}

/// Unknown numbers are unspecified, so that a newer SDK's spans are kept.
pub(crate) fn kind(kind: i32) -> SpanKind {
    match kind {
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

pub(crate) fn status(code: i32) -> SpanStatus {
    match code {
        1 => SpanStatus::Ok,
        2 => SpanStatus::Error,
        _ => SpanStatus::Unset,
    }
}

pub(crate) fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    bytes.try_into().ok().map(TraceId)
}

pub(crate) fn span_id(bytes: &[u8]) -> Option<SpanId> {
    bytes.try_into().ok().map(SpanId)
}

#[cfg(test)]
mod tests {
    use davy_model::AttributeValue;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;

    use super::*;
    use crate::otlp::outcome::Outcome;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: Window = Window { from: Timestamp::from_millis(1), to: Timestamp::from_millis(2_000_000) };

    fn span() -> otlp::Span {
        otlp::Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "GET /".to_owned(),
            kind: 2,
            start_time_unix_nano: 1000 * SECOND,
            end_time_unix_nano: 1001 * SECOND,
            ..otlp::Span::default()
        }
    }

    fn converted(spans: Vec<otlp::Span>) -> Converted {
        let name = KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue("cart".to_owned())) }),
            ..KeyValue::default()
        };
        let from_resource = otlp::ResourceSpans {
            resource: Some(OtlpResource { attributes: vec![name], ..OtlpResource::default() }),
            scope_spans: vec![otlp::ScopeSpans { spans, ..otlp::ScopeSpans::default() }],
            ..otlp::ResourceSpans::default()
        };
        convert(&ExportTraceServiceRequest { resource_spans: vec![from_resource] }, WINDOW)
    }

    #[test]
    fn a_span_keeps_what_it_says() {
        let text = |s: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(s.to_owned())) });
        let attribute = KeyValue { key: "http.route".to_owned(), value: text("/"), ..KeyValue::default() };
        let sent = otlp::Span {
            parent_span_id: vec![3; 8],
            status: Some(otlp::Status { message: "boom".to_owned(), code: 2 }),
            attributes: vec![attribute],
            events: vec![otlp::span::Event { name: "e".to_owned(), ..Default::default() }],
            links: vec![
                otlp::span::Link { trace_id: vec![4; 16], span_id: vec![5; 8], ..Default::default() },
                otlp::span::Link::default(),
            ],
            ..span()
        };
        let got = converted(vec![sent]);
        let [span] = &got.spans[..] else { panic!("one span") };
        assert_eq!(span.resource.service(), "cart");
        assert_eq!(
            (span.kind, span.status, &*span.status_message),
            (SpanKind::Server, SpanStatus::Error, "boom")
        );
        assert_eq!((span.parent_span_id, span.duration_nanos()), (SpanId([3; 8]), SECOND));
        assert_eq!(span.attribute("http.route"), Some(&AttributeValue::String("/".into())));
        assert_eq!((span.events.len(), span.links.len()), (1, 1), "a link without ids leads nowhere");
        assert_eq!((got.tally.accepted, got.truncated), (1, 0));
    }

    #[test]
    fn impossible_spans_are_refused_and_the_rest_is_kept() {
        type Breakage = (fn(&mut otlp::Span), &'static str);
        let broken: [Breakage; 6] = [
            (|s| s.trace_id = vec![0; 16], "trace id"),
            (|s| s.trace_id = vec![1; 15], "got 15 bytes"),
            (|s| s.span_id.clear(), "span id"),
            (|s| s.start_time_unix_nano = 0, "no start time"),
            (|s| s.end_time_unix_nano = 990 * SECOND, "10000 ms before it starts"),
            (|s| s.end_time_unix_nano = u64::MAX, "accepted is 0.001 to 2000"),
        ];
        for (change, reason) in broken {
            let mut bad = span();
            change(&mut bad);
            let got = converted(vec![bad, span()]);
            let outcome: Outcome = got.tally.into();
            assert_eq!((outcome.accepted, outcome.rejected, got.spans.len()), (1, 1, 1), "{reason}");
            assert!(outcome.message.contains(reason), "got {}, expected {reason}", outcome.message);
        }
    }

    #[test]
    fn a_clock_set_back_a_little_is_forgiven() {
        let got = converted(vec![otlp::Span { end_time_unix_nano: 1000 * SECOND - 5, ..span() }]);
        assert_eq!(got.spans[0].duration_nanos(), 0);
    }

    #[test]
    fn sizes_are_bounded() {
        let event = otlp::span::Event::default();
        let long = otlp::Span { name: "n".repeat(9000), events: vec![event; 200], ..span() };
        let got = converted(vec![long]);
        assert_eq!((got.spans[0].events.len(), got.spans[0].name.len()), (EVENTS_MAX, 4096));
        assert_eq!(got.truncated, 72 + 1);

        let got = converted(vec![span(); SPANS_MAX as usize + 5]);
        assert_eq!((got.tally.accepted, got.tally.rejected), (SPANS_MAX, 5));
    }
}
