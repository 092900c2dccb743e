//! Spans as bytes: a block of up to a few thousand, column by column, strings and resources once each.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{
    AttributeValue, Attributes, Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId,
};

use crate::codec::{Corrupt, Reader, put_ivarint, put_str, put_uvarint};

const KINDS: [SpanKind; 6] = [
    SpanKind::Unspecified,
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];
const STATUSES: [SpanStatus; 3] = [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error];

pub(crate) fn encode(spans: &[Arc<Span>]) -> Vec<u8> {
    let mut strings = Strings::default();
    let mut resources = Resources::default();
    let mut columns: [Vec<u8>; 9] = Default::default();
    let [ids, starts, durations, names, texts, kinds, places, attributes, extras] = &mut columns;
    let mut start_before = 0u64;
    for s in spans {
        ids.extend_from_slice(&s.trace_id.0);
        ids.extend_from_slice(&s.span_id.0);
        ids.extend_from_slice(&s.parent_span_id.0);
        put_ivarint(starts, s.start_nanos.wrapping_sub(start_before) as i64);
        start_before = s.start_nanos;
        put_ivarint(durations, s.end_nanos.wrapping_sub(s.start_nanos) as i64);
        strings.put(names, &s.name);
        for text in [&s.scope, &s.trace_state, &s.status_message] {
            strings.put(texts, text);
        }
        kinds.push(s.kind as u8 * STATUSES.len() as u8 + s.status as u8);
        put_uvarint(places, resources.number(&s.resource, &mut strings));
        put_attributes(attributes, &s.attributes, &mut strings);
        put_uvarint(extras, s.events.len() as u64);
        for e in &s.events {
            put_ivarint(extras, e.time_nanos.wrapping_sub(s.start_nanos) as i64);
            strings.put(extras, &e.name);
            put_attributes(extras, &e.attributes, &mut strings);
        }
        put_uvarint(extras, s.links.len() as u64);
        for l in &s.links {
            extras.extend_from_slice(&l.trace_id.0);
            extras.extend_from_slice(&l.span_id.0);
            put_attributes(extras, &l.attributes, &mut strings);
        }
    }
    let mut out = Vec::new();
    put_uvarint(&mut out, spans.len() as u64);
    put_uvarint(&mut out, strings.all.len() as u64);
    strings.all.iter().for_each(|s| put_str(&mut out, s));
    put_uvarint(&mut out, resources.all.len() as u64);
    resources.all.iter().for_each(|r| out.extend_from_slice(r));
    for column in &columns {
        put_uvarint(&mut out, column.len() as u64);
        out.extend_from_slice(column);
    }
    out
}

pub(crate) fn decode(body: &[u8]) -> Result<Vec<Span>, Corrupt> {
    let mut r = Reader(body);
    let n = r.count()?;
    let strings = (0..r.count()?).map(|_| r.str().map(Arc::from)).collect::<Result<Vec<Arc<str>>, _>>()?;
    let resources = (0..r.count()?)
        .map(|_| Ok(Arc::new(Resource { attributes: read_attributes(&mut r, &strings)? })))
        .collect::<Result<Vec<_>, Corrupt>>()?;
    let mut column = || {
        let len = r.count()?;
        r.bytes(len).map(Reader)
    };
    let [
        mut ids,
        mut starts,
        mut durations,
        mut names,
        mut texts,
        mut kinds,
        mut places,
        mut attributes,
        mut extras,
    ] = [column()?, column()?, column()?, column()?, column()?, column()?, column()?, column()?, column()?];
    let mut start_nanos = 0u64;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        start_nanos = start_nanos.wrapping_add(starts.ivarint()? as u64);
        let kind = kinds.u8()? as usize;
        spans.push(Span {
            trace_id: TraceId(ids.array()?),
            span_id: SpanId(ids.array()?),
            parent_span_id: SpanId(ids.array()?),
            start_nanos,
            end_nanos: start_nanos.wrapping_add(durations.ivarint()? as u64),
            name: pick(&strings, names.uvarint()?)?,
            scope: pick(&strings, texts.uvarint()?)?,
            trace_state: pick(&strings, texts.uvarint()?)?,
            status_message: pick(&strings, texts.uvarint()?)?,
            kind: *KINDS.get(kind / STATUSES.len()).ok_or(Corrupt("unknown span kind"))?,
            status: STATUSES[kind % STATUSES.len()],
            resource: pick(&resources, places.uvarint()?)?,
            attributes: read_attributes(&mut attributes, &strings)?,
            events: read_events(&mut extras, &strings, start_nanos)?,
            links: read_links(&mut extras, &strings)?,
        });
    }
    Ok(spans)
}

fn read_events(r: &mut Reader, strings: &[Arc<str>], start_nanos: u64) -> Result<Vec<SpanEvent>, Corrupt> {
    let event = |r: &mut Reader| {
        Ok(SpanEvent {
            time_nanos: start_nanos.wrapping_add(r.ivarint()? as u64),
            name: pick(strings, r.uvarint()?)?,
            attributes: read_attributes(r, strings)?,
        })
    };
    (0..r.count()?).map(|_| event(r)).collect()
}

fn read_links(r: &mut Reader, strings: &[Arc<str>]) -> Result<Vec<SpanLink>, Corrupt> {
    let link = |r: &mut Reader| {
        Ok(SpanLink {
            trace_id: TraceId(r.array()?),
            span_id: SpanId(r.array()?),
            attributes: read_attributes(r, strings)?,
        })
    };
    (0..r.count()?).map(|_| link(r)).collect()
}

fn put_attributes(out: &mut Vec<u8>, attributes: &Attributes, strings: &mut Strings) {
    put_uvarint(out, attributes.len() as u64);
    for (key, value) in attributes {
        strings.put(out, key);
        match value {
            AttributeValue::String(s) => {
                out.push(0);
                strings.put(out, s);
            }
            AttributeValue::Bool(b) => out.push(1 + u8::from(*b)),
            AttributeValue::Int(i) => {
                out.push(3);
                put_ivarint(out, *i);
            }
            AttributeValue::Double(d) => {
                out.push(4);
                out.extend_from_slice(&d.to_bits().to_le_bytes());
            }
            AttributeValue::Json(s) => {
                out.push(5);
                strings.put(out, s);
            }
        }
    }
}

fn read_attributes(r: &mut Reader, strings: &[Arc<str>]) -> Result<Attributes, Corrupt> {
    let attribute = |r: &mut Reader| {
        let key = pick(strings, r.uvarint()?)?;
        let value = match r.u8()? {
            0 => AttributeValue::String(pick(strings, r.uvarint()?)?),
            1 => AttributeValue::Bool(false),
            2 => AttributeValue::Bool(true),
            3 => AttributeValue::Int(r.ivarint()?),
            4 => AttributeValue::Double(r.f64()?),
            5 => AttributeValue::Json(pick(strings, r.uvarint()?)?),
            _ => return Err(Corrupt("unknown type of attribute")),
        };
        Ok((key, value))
    };
    (0..r.count()?).map(|_| attribute(r)).collect()
}

fn pick<T: Clone>(from: &[T], number: u64) -> Result<T, Corrupt> {
    let at = usize::try_from(number).ok();
    at.and_then(|i| from.get(i)).cloned().ok_or(Corrupt("number of something that is not there"))
}

#[derive(Default)]
struct Strings {
    all: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u64>,
}

impl Strings {
    fn put(&mut self, out: &mut Vec<u8>, s: &Arc<str>) {
        let number = match self.numbers.get(s) {
            Some(n) => *n,
            None => {
                let n = self.all.len() as u64;
                self.all.push(s.clone());
                self.numbers.insert(s.clone(), n);
                n
            }
        };
        put_uvarint(out, number);
    }
}

#[derive(Default)]
struct Resources {
    all: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u64>,
    /// The usual case: many spans share one.
    last: Option<(Arc<Resource>, u64)>,
}

impl Resources {
    fn number(&mut self, resource: &Arc<Resource>, strings: &mut Strings) -> u64 {
        if let Some((last, number)) = &self.last
            && Arc::ptr_eq(last, resource)
        {
            return *number;
        }
        let mut bytes = Vec::new();
        put_attributes(&mut bytes, &resource.attributes, strings);
        let next = self.all.len() as u64;
        let number = *self.numbers.entry(bytes.clone()).or_insert(next);
        if number == next {
            self.all.push(bytes);
        }
        self.last = Some((resource.clone(), number));
        number
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_attributes() -> impl Strategy<Value = Attributes> {
        let text = "[a-zü]{0,5}".prop_map(Arc::<str>::from);
        let value = prop_oneof![
            text.clone().prop_map(AttributeValue::String),
            any::<bool>().prop_map(AttributeValue::Bool),
            any::<i64>().prop_map(AttributeValue::Int),
            (-1e9..1e9).prop_map(AttributeValue::Double),
            text.clone().prop_map(AttributeValue::Json),
        ];
        proptest::collection::vec((text, value), 0..4)
    }

    pub(crate) fn any_span() -> impl Strategy<Value = Span> {
        let ids = (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<[u8; 8]>());
        let texts = any::<[bool; 4]>().prop_map(|t| t.map(|b| Arc::<str>::from(if b { "op" } else { "" })));
        let event = (any::<u64>(), any_attributes()).prop_map(|(time_nanos, attributes)| SpanEvent {
            time_nanos,
            name: "e".into(),
            attributes,
        });
        let link = (any::<[u8; 16]>(), any_attributes()).prop_map(|(id, attributes)| SpanLink {
            trace_id: TraceId(id),
            span_id: SpanId([1; 8]),
            attributes,
        });
        let extras = (proptest::collection::vec(event, 0..2), proptest::collection::vec(link, 0..2));
        (ids, texts, any::<[u64; 2]>(), 0..6usize, 0..3usize, any_attributes(), any_attributes(), extras)
            .prop_map(
                |(
                    (trace, span, parent),
                    [name, scope, trace_state, status_message],
                    [start, end],
                    k,
                    s,
                    a,
                    r,
                    x,
                )| Span {
                    trace_id: TraceId(trace),
                    span_id: SpanId(span),
                    parent_span_id: SpanId(parent),
                    trace_state,
                    resource: Arc::new(Resource { attributes: r }),
                    scope,
                    name,
                    kind: KINDS[k],
                    start_nanos: start,
                    end_nanos: end,
                    status: STATUSES[s],
                    status_message,
                    attributes: a,
                    events: x.0,
                    links: x.1,
                },
            )
    }

    proptest! {
        #[test]
        fn spans_come_back_as_they_were(spans in proptest::collection::vec(any_span(), 0..12)) {
            let shared: Vec<_> = spans.iter().cloned().map(Arc::new).collect();
            prop_assert_eq!(decode(&encode(&shared)).unwrap(), spans);
        }

        #[test]
        fn broken_blocks_never_panic(
            spans in proptest::collection::vec(any_span(), 1..4),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let shared: Vec<_> = spans.into_iter().map(Arc::new).collect();
            let mut body = encode(&shared);
            let i = at.index(body.len());
            body[i] = byte;
            let _ = decode(&body);
            let _ = decode(&body[..i]);
        }
    }
}
