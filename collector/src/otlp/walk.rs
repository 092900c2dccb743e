//! OTLP traces in protobuf, read in place into the columns of a block: no message is built and no text is copied that
//! came before in the request.
//!
//! Takes and refuses what decoding by prost and [`super::spans::convert`] would, with the same limits; a test holds
//! the two together. What is rare (resources, scopes, events, links, nested values) still goes through prost.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{Resource, SpanKind, SpanStatus};
use davy_store::{BatchValue, NotUtf8, ResourceId, SpanBatch, SpanRow, TextId};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::span as otlp;
use prost::Message;

use super::attributes::{ATTRIBUTES_MAX, Interner, Nested, TEXT_BYTES_MAX, nested};
use super::calls::{Calls, Group, counted_kind, nanos};
use super::decode::{self, DECODED_BYTES_MAX, DEPTH_MAX, Shape, too_large};
use super::half::{Half, Ids, PeerNames};
use super::outcome::Refused;
use super::received::Received;
use super::resource::{identity, resource};
use super::spans::{EVENTS_MAX, LINKS_MAX, SPANS_MAX, Window, check, event, kind, link, span_id, status};
use super::wire::{Broken, Field, Fields, WRONG_TYPE, check_text};

/// How deep in a request a span lies, as a limit on what is below it.
const SPAN_DEPTH: usize = DEPTH_MAX - 3;

pub(crate) fn walk(body: &[u8], window: Window) -> Result<Received, Refused> {
    let mut walk = Walk {
        window,
        left: DECODED_BYTES_MAX,
        batch: SpanBatch::new(),
        interner: Interner::default(),
        out: Received::default(),
        groups: HashMap::new(),
    };
    walk.request(body)?;
    walk.out.truncated += walk.interner.truncated;
    walk.out.block = (!walk.batch.is_empty()).then(|| walk.batch.seal());
    Ok(walk.out)
}

struct Walk {
    window: Window,
    /// Bytes that the messages might still take in memory if they were built.
    left: usize,
    batch: SpanBatch,
    /// For what goes through prost.
    interner: Interner,
    out: Received,
    /// Which of the calls a span of this resource, name, kind and status belongs to.
    groups: HashMap<(ResourceId, TextId, SpanKind, SpanStatus), usize>,
}

/// What the spans of one resource share.
struct Sender {
    number: ResourceId,
    resource: Resource,
    service: Arc<str>,
    has_sent: bool,
}

/// A span on the wire. Texts are not checked yet.
#[derive(Default)]
struct WireSpan<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    kind: i32,
    start: u64,
    end: u64,
    message: &'a [u8],
    code: i32,
    attributes: Vec<&'a [u8]>,
    events: Vec<&'a [u8]>,
    links: Vec<&'a [u8]>,
}

enum WireValue<'a> {
    Nothing,
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Nested(AnyValue),
}

impl Walk {
    fn request(&mut self, body: &[u8]) -> Result<(), Refused> {
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(b)) => {
                    self.spend(decode::RESOURCE_SPANS.bytes)?;
                    self.resource_spans(b)?;
                }
                (1, _) => return Err(WRONG_TYPE.into()),
                (_, field) => self.skip(field)?,
            }
        }
        Ok(())
    }

    fn resource_spans(&mut self, body: &[u8]) -> Result<(), Refused> {
        let mut of_sender = Merged::default();
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(b)) => of_sender.add(b),
                (2, Field::Bytes(_)) => self.spend(decode::SCOPE_SPANS.bytes)?,
                (3, Field::Bytes(b)) => self.unused_text(b)?,
                (1..=3, _) => return Err(WRONG_TYPE.into()),
                (_, field) => self.skip(field)?,
            }
        }
        let of_sender: OtlpResource = self.message(&decode::RESOURCE, of_sender.bytes(), DEPTH_MAX - 2)?;
        let resource = resource(&of_sender.attributes, &mut self.interner);
        let service = resource.service().into();
        let mut sender =
            Sender { number: self.batch.resource(&resource), resource, service, has_sent: false };
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            if let (2, Field::Bytes(b)) = (number, field) {
                self.scope_spans(b, &mut sender)?;
            }
        }
        Ok(())
    }

    fn scope_spans(&mut self, body: &[u8], sender: &mut Sender) -> Result<(), Refused> {
        let mut scope = Merged::default();
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(b)) => scope.add(b),
                (2, Field::Bytes(_)) => self.spend(decode::SPAN.bytes)?,
                (3, Field::Bytes(b)) => self.unused_text(b)?,
                (1..=3, _) => return Err(WRONG_TYPE.into()),
                (_, field) => self.skip(field)?,
            }
        }
        let scope: InstrumentationScope = self.message(&decode::SCOPE, scope.bytes(), DEPTH_MAX - 3)?;
        let scope = self.text(scope.name.as_bytes())?;
        let mut span = WireSpan::default();
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            if let (2, Field::Bytes(b)) = (number, field) {
                self.read_span(b, &mut span)?;
                self.span(&span, scope, sender)?;
            }
        }
        Ok(())
    }

    fn read_span<'a>(&mut self, body: &'a [u8], span: &mut WireSpan<'a>) -> Result<(), Refused> {
        let WireSpan { attributes, events, links, .. } = std::mem::take(span);
        (span.attributes, span.events, span.links) = (attributes, events, links);
        span.attributes.clear();
        span.events.clear();
        span.links.clear();
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(b)) => self.keep(b, &mut span.trace_id)?,
                (2, Field::Bytes(b)) => self.keep(b, &mut span.span_id)?,
                (3, Field::Bytes(b)) => self.keep_text(b, &mut span.trace_state)?,
                (4, Field::Bytes(b)) => self.keep(b, &mut span.parent_span_id)?,
                (5, Field::Bytes(b)) => self.keep_text(b, &mut span.name)?,
                (6, Field::Varint(v)) => span.kind = v as i32,
                (7, Field::Fixed64(v)) => span.start = v,
                (8, Field::Fixed64(v)) => span.end = v,
                (9, Field::Bytes(b)) => {
                    self.spend(decode::KEY_VALUE.bytes)?;
                    span.attributes.push(b);
                }
                (11, Field::Bytes(b)) => {
                    self.spend(decode::EVENT.bytes)?;
                    span.events.push(b);
                }
                (13, Field::Bytes(b)) => {
                    self.spend(decode::LINK.bytes)?;
                    span.links.push(b);
                }
                (15, Field::Bytes(b)) => self.read_status(b, span)?,
                (10 | 12 | 14, Field::Varint(_)) | (16, Field::Fixed32) => {}
                (1..=16, _) => return Err(WRONG_TYPE.into()),
                (_, field) => self.skip(field)?,
            }
        }
        Ok(())
    }

    fn read_status<'a>(&mut self, body: &'a [u8], span: &mut WireSpan<'a>) -> Result<(), Refused> {
        self.spend(body.len())?;
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (2, Field::Bytes(b)) => {
                    check_text(span.message)?;
                    span.message = b;
                }
                (3, Field::Varint(v)) => span.code = v as i32,
                (2 | 3, _) => return Err(WRONG_TYPE.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn span(&mut self, span: &WireSpan, scope: TextId, sender: &mut Sender) -> Result<(), Refused> {
        let checked = match self.out.tally.accepted {
            SPANS_MAX => Err(format!("more than {SPANS_MAX} spans in one request")),
            _ => check([span.trace_id, span.span_id], [span.start, span.end], self.window),
        };
        let (trace_id, id) = match checked {
            Ok(ids) => ids,
            Err(reason) => {
                self.out.tally.refuse(1, || reason);
                return self.check_refused(span);
            }
        };
        let name = self.text(span.name)?;
        let status = status(span.code);
        if !span.trace_state.is_empty() {
            let text = self.text(span.trace_state)?;
            self.batch.trace_state(text);
        }
        if !span.message.is_empty() {
            let text = self.text(span.message)?;
            self.batch.status_message(text);
        }
        let kind = kind(span.kind);
        let may_name_peer = matches!(kind, SpanKind::Client | SpanKind::Producer);
        let mut names = PeerNames::default();
        for pair in span.attributes.iter().take(ATTRIBUTES_MAX) {
            let (key, value) = self.read_pair(pair)?;
            if may_name_peer && let (Some(place), WireValue::Text(text)) = (PeerNames::place(key), &value) {
                let text = std::str::from_utf8(text).map_err(|_| Broken("text is not UTF-8"))?;
                names.set(place, &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
            }
            if let WireValue::Text(text) = value
                && key.len().max(text.len()) <= TEXT_BYTES_MAX
            {
                self.batch.text_attribute(key, text).map_err(not_text)?;
                continue;
            }
            let value = self.value(value)?;
            if key.len() <= TEXT_BYTES_MAX {
                self.batch.named_attribute(key, value).map_err(not_text)?;
            } else {
                let key = self.text(key)?;
                self.batch.attribute(key, value);
            }
        }
        for pair in span.attributes.iter().skip(ATTRIBUTES_MAX) {
            self.check_pair(pair)?;
        }
        let surplus = span.attributes.len().saturating_sub(ATTRIBUTES_MAX)
            + span.events.len().saturating_sub(EVENTS_MAX)
            + span.links.len().saturating_sub(LINKS_MAX);
        self.out.truncated += surplus as u64;
        let (mut events, mut links) = (Vec::new(), Vec::new());
        for (n, body) in span.events.iter().enumerate() {
            let read: otlp::Event = self.message(&decode::EVENT, body, SPAN_DEPTH - 1)?;
            if n < EVENTS_MAX {
                events.push(event(&read, &mut self.interner));
            }
        }
        for (n, body) in span.links.iter().enumerate() {
            let read: otlp::Link = self.message(&decode::LINK, body, SPAN_DEPTH - 1)?;
            if n < LINKS_MAX {
                links.extend(link(&read, &mut self.interner));
            }
        }
        let row = SpanRow {
            trace_id,
            span_id: id,
            parent_span_id: span_id(span.parent_span_id).unwrap_or_default(),
            resource: sender.number,
            scope,
            name,
            kind,
            status,
            start_nanos: span.start,
            end_nanos: span.end,
        };
        self.batch.push(&row, &events, &links);
        self.out.tally.accept();
        if !std::mem::replace(&mut sender.has_sent, true) {
            self.out.senders.push(identity(&sender.resource));
        }
        self.count(&row, sender);
        let ids = Ids { trace: trace_id, span: id, parent: row.parent_span_id };
        let times = [span.start, span.end];
        self.out.halves.extend(Half::new(&ids, kind, status, &sender.service, times, &names, &links));
        Ok(())
    }

    fn count(&mut self, row: &SpanRow, sender: &Sender) {
        let Some(kind) = counted_kind(row.kind) else { return };
        let calls = &mut self.out.calls;
        let at = *self.groups.entry((row.resource, row.name, row.kind, row.status)).or_insert_with(|| {
            let name = self.batch.text_of(row.name);
            calls.push(Calls::new(Group::new(&sender.resource, name.into(), kind, row.status)));
            calls.len() - 1
        });
        calls[at].count(nanos(row.start_nanos, row.end_nanos), row.trace_id, row.span_id);
    }

    /// What is refused must be a span all the same: otherwise the request is no request.
    fn check_refused(&mut self, span: &WireSpan) -> Result<(), Refused> {
        for text in [span.name, span.trace_state, span.message] {
            check_text(text)?;
        }
        span.attributes.iter().try_for_each(|pair| self.check_pair(pair))?;
        for body in &span.events {
            self.message::<otlp::Event>(&decode::EVENT, body, SPAN_DEPTH - 1)?;
        }
        for body in &span.links {
            self.message::<otlp::Link>(&decode::LINK, body, SPAN_DEPTH - 1)?;
        }
        Ok(())
    }

    fn check_pair(&mut self, pair: &[u8]) -> Result<(), Refused> {
        let (key, value) = self.read_pair(pair)?;
        check_text(key)?;
        if let WireValue::Text(text) = value {
            check_text(text)?;
        }
        Ok(())
    }

    fn read_pair<'a>(&mut self, body: &'a [u8]) -> Result<(&'a [u8], WireValue<'a>), Refused> {
        let mut key = &[][..];
        let mut value = None;
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(b)) => self.keep_text(b, &mut key)?,
                (2, Field::Bytes(_)) if value.is_some() => return self.read_merged_pair(body),
                (2, Field::Bytes(b)) => {
                    self.spend(decode::ANY.bytes)?;
                    value = Some(b);
                }
                (3, Field::Varint(_)) => {}
                (1..=3, _) => return Err(WRONG_TYPE.into()),
                (_, field) => self.skip(field)?,
            }
        }
        Ok((key, value.map_or(Ok(WireValue::Nothing), |v| self.read_value(v))?))
    }

    /// A value in several pieces, which no SDK sends: the last key, and the pieces as one message.
    fn read_merged_pair<'a>(&mut self, body: &'a [u8]) -> Result<(&'a [u8], WireValue<'a>), Refused> {
        let mut key = &[][..];
        let mut value = Merged::default();
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(b)) => self.keep_text(b, &mut key)?,
                (2, Field::Bytes(b)) => {
                    self.spend(decode::ANY.bytes)?;
                    value.add(b);
                }
                (3, Field::Varint(_)) => {}
                (1..=3, _) => return Err(WRONG_TYPE.into()),
                (_, field) => self.skip(field)?,
            }
        }
        Ok((key, WireValue::Nested(self.message(&decode::ANY, value.bytes(), SPAN_DEPTH - 2)?)))
    }

    fn read_value<'a>(&mut self, body: &'a [u8]) -> Result<WireValue<'a>, Refused> {
        let before = self.left;
        let mut value = WireValue::Nothing;
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            let next = match (number, field) {
                (1, Field::Bytes(b)) => {
                    self.spend(b.len())?;
                    WireValue::Text(b)
                }
                (2, Field::Varint(v)) => WireValue::Bool(v != 0),
                (3, Field::Varint(v)) => WireValue::Int(v as i64),
                (4, Field::Fixed64(bits)) => WireValue::Double(f64::from_bits(bits)),
                (8, Field::Varint(_)) => WireValue::Nothing,
                (5..=7, Field::Bytes(_)) => {
                    self.left = before;
                    return Ok(WireValue::Nested(self.message(&decode::ANY, body, SPAN_DEPTH - 2)?));
                }
                (1..=8, _) => return Err(WRONG_TYPE.into()),
                (_, field) => {
                    self.skip(field)?;
                    continue;
                }
            };
            if let WireValue::Text(replaced) = std::mem::replace(&mut value, next) {
                check_text(replaced)?;
            }
        }
        Ok(value)
    }

    fn value(&mut self, value: WireValue) -> Result<BatchValue, Refused> {
        Ok(match value {
            WireValue::Nothing => BatchValue::String(self.text(b"")?),
            WireValue::Text(text) => BatchValue::String(self.text(text)?),
            WireValue::Bool(b) => BatchValue::Bool(b),
            WireValue::Int(i) => BatchValue::Int(i),
            WireValue::Double(d) => BatchValue::Double(d),
            WireValue::Nested(value) => match nested(value.value.as_ref()) {
                Nested::Text(text) => BatchValue::String(self.text(text.as_bytes())?),
                Nested::Json(json) => BatchValue::Json(self.text(json.as_bytes())?),
                Nested::Bool(b) => BatchValue::Bool(b),
                Nested::Int(i) => BatchValue::Int(i),
                Nested::Double(d) => BatchValue::Double(d),
            },
        })
    }

    /// The number of a text, which is cut to [`TEXT_BYTES_MAX`]. One that came before is known to be UTF-8.
    fn text(&mut self, text: &[u8]) -> Result<TextId, Refused> {
        if text.len() <= TEXT_BYTES_MAX {
            return Ok(self.batch.text(text).map_err(not_text)?);
        }
        let text = std::str::from_utf8(text).map_err(|_| Broken("text is not UTF-8"))?;
        self.out.truncated += 1;
        let cut = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        Ok(self.batch.text(cut.as_bytes()).map_err(not_text)?)
    }

    /// A message by prost, weighed before it is built.
    fn message<M: Message + Default>(
        &mut self,
        shape: &Shape,
        body: &[u8],
        depth: usize,
    ) -> Result<M, Refused> {
        decode::weigh_below(shape, body, &mut self.left, depth)?;
        M::decode(body).map_err(|e| Refused::Malformed(e.to_string()))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Refused> {
        self.left = self.left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }

    fn skip(&mut self, unknown: Field) -> Result<(), Refused> {
        if let Field::Bytes(b) = unknown { self.spend(b.len()) } else { Ok(()) }
    }

    fn keep<'a>(&mut self, bytes: &'a [u8], into: &mut &'a [u8]) -> Result<(), Refused> {
        *into = bytes;
        self.spend(bytes.len())
    }

    /// The last of a field that comes twice counts, but each must be a text.
    fn keep_text<'a>(&mut self, text: &'a [u8], into: &mut &'a [u8]) -> Result<(), Refused> {
        check_text(into)?;
        self.keep(text, into)
    }

    fn unused_text(&mut self, text: &[u8]) -> Result<(), Refused> {
        check_text(text)?;
        self.spend(text.len())
    }
}

fn not_text(_: NotUtf8) -> Broken {
    Broken("text is not UTF-8")
}

/// A message that may come in several pieces, which together are the message.
#[derive(Default)]
struct Merged<'a> {
    first: Option<&'a [u8]>,
    all: Vec<u8>,
}

impl<'a> Merged<'a> {
    fn add(&mut self, piece: &'a [u8]) {
        match self.first {
            None => self.first = Some(piece),
            Some(first) => {
                if self.all.is_empty() {
                    self.all.extend_from_slice(first);
                }
                self.all.extend_from_slice(piece);
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.all.is_empty() { self.first.unwrap_or(&[]) } else { &self.all }
    }
}
