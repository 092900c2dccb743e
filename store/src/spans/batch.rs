//! `SpanBatch`: spans as columns in the making, filled from structs, from the bytes of a request, or from blocks.
//!
//! Most spans of an operation look alike. What they share is their class (resource, scope, name, kind, status, and the
//! shape: which attributes of which types in which order), and a span is a class and its values.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{
    AttributeValue, Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId,
};

use super::block::SpanBlock;
use super::extras;
use super::strings::{NotUtf8, Strings};
use crate::column::Effort;

/// Columns of one batch; attributes beyond are kept row by row, so that made-up keys cannot take memory for
/// columns of one value each.
pub(crate) const COLUMNS_MAX: usize = 1024;

/// The number of a text in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId(pub(crate) u32);

/// The number of a resource in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub(crate) u32);

/// The value of an attribute, its texts numbered by [`SpanBatch::text`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BatchValue {
    String(TextId),
    Bool(bool),
    Int(i64),
    Double(f64),
    Json(TextId),
}

/// What a span says but for its attributes, events and links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRow {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: SpanId,
    pub resource: ResourceId,
    pub scope: TextId,
    pub name: TextId,
    pub kind: SpanKind,
    pub status: SpanStatus,
    pub start_nanos: u64,
    pub end_nanos: u64,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    String = 0,
    Bool = 1,
    Int = 2,
    Double = 3,
    Json = 4,
    /// Not an attribute: the span's trace state, if it has one.
    TraceState = 5,
    /// Not an attribute: the message of its status, if it has one.
    StatusMessage = 6,
}

impl Type {
    pub(crate) const ALL: [Self; 7] = [
        Self::String,
        Self::Bool,
        Self::Int,
        Self::Double,
        Self::Json,
        Self::TraceState,
        Self::StatusMessage,
    ];

    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::String | Self::Json | Self::TraceState | Self::StatusMessage)
    }
}

/// Values of one key and type, in the order of the spans. Texts are their numbers, doubles their bits.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) key: u32,
    pub(crate) kind: Type,
    pub(crate) values: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    pub(crate) resource: u32,
    pub(crate) scope: u32,
    pub(crate) name: u32,
    pub(crate) kind: SpanKind,
    pub(crate) status: SpanStatus,
    pub(crate) shape: u32,
    pub(crate) has_extras: bool,
    /// Some of the extras are attributes.
    pub(crate) has_surplus: bool,
}

/// Key, type and value; the value as a column has it.
pub(crate) type Pair = (u32, Type, i64);

/// Spans in the making. [`SpanBatch::seal`] makes a block of them.
#[derive(Debug, Default)]
pub struct SpanBatch {
    pub(crate) texts: Strings,
    pub(crate) resources: Vec<Vec<Pair>>,
    pub(crate) shapes: Vec<Box<[u32]>>,
    pub(crate) classes: Vec<Class>,
    pub(crate) columns: Vec<Column>,
    pub(crate) traces: Vec<TraceId>,
    pub(crate) span_ids: Vec<SpanId>,
    pub(crate) parents: Vec<SpanId>,
    pub(crate) starts: Vec<u64>,
    /// End less start; the emitter's clock may have gone back.
    pub(crate) durations: Vec<i64>,
    pub(crate) class_of: Vec<u32>,
    /// Events, links and surplus attributes of the spans that have any, one after the other.
    pub(crate) extras: Vec<u8>,
    pub(crate) extra_ends: Vec<u32>,
    resource_numbers: HashMap<Vec<Pair>, u32>,
    shape_numbers: HashMap<Box<[u32]>, u32, hashbrown::DefaultHashBuilder>,
    class_numbers: HashMap<Class, u32, hashbrown::DefaultHashBuilder>,
    column_numbers: HashMap<(u32, Type), u32, hashbrown::DefaultHashBuilder>,
    /// Of the span in the making: its columns so far, and the attributes that found none.
    shape: Vec<u32>,
    surplus: Vec<Pair>,
    /// By column and one, which came after it last; the first stands for the beginning of a span.
    follows: Vec<u32>,
    /// The usual case: spans that follow each other share it.
    last_resource: Option<(Arc<Resource>, ResourceId)>,
}

impl SpanBatch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.class_of.len()
    }

    pub fn is_empty(&self) -> bool {
        self.class_of.is_empty()
    }

    /// The number of a text. One that came before is found without checking it again.
    pub fn text(&mut self, text: &[u8]) -> Result<TextId, NotUtf8> {
        self.texts.number(text).map(TextId)
    }

    /// The text of a number of this batch.
    pub fn text_of(&self, text: TextId) -> &str {
        self.texts.get(text.0)
    }

    pub fn resource(&mut self, resource: &Resource) -> ResourceId {
        let pairs = resource.attributes.iter().map(|(key, value)| {
            let key = self.texts.number_of(key);
            let (kind, value) = pair_value(self.value(value));
            (key, kind, value)
        });
        let pairs = pairs.collect();
        ResourceId(self.resource_of(pairs))
    }

    /// An attribute of the span that the next [`Self::push`] adds.
    pub fn attribute(&mut self, key: TextId, value: BatchValue) {
        let (kind, value) = pair_value(value);
        self.put(key.0, kind, value);
    }

    /// The same for a text.
    pub fn text_attribute(&mut self, key: &[u8], text: &[u8]) -> Result<(), NotUtf8> {
        if let Some(number) = self.expected(key, Type::String) {
            let value = match self.columns[number as usize].values.last() {
                Some(last) if self.texts.get(*last as u32).as_bytes() == text => *last,
                _ => i64::from(self.texts.number(text)?),
            };
            self.columns[number as usize].values.push(value);
            self.shape.push(number);
            return Ok(());
        }
        let value = BatchValue::String(self.text(text)?);
        self.named_attribute(key, value)
    }

    /// The same for a key that has no number yet.
    pub fn named_attribute(&mut self, key: &[u8], value: BatchValue) -> Result<(), NotUtf8> {
        let (kind, number) = pair_value(value);
        if let Some(column) = self.expected(key, kind) {
            self.columns[column as usize].values.push(number);
            self.shape.push(column);
            return Ok(());
        }
        let after = self.place();
        let key = self.text(key)?;
        self.attribute(key, value);
        if let Some(column) = self.shape.last() {
            if self.follows.len() <= after {
                self.follows.resize(self.columns.len().max(after) + 1, u32::MAX);
            }
            self.follows[after] = *column;
        }
        Ok(())
    }

    /// The column that came after the last one when it came before, if it is of this key and type: spans that follow
    /// each other are alike, and so nothing need be looked up.
    fn expected(&self, key: &[u8], kind: Type) -> Option<u32> {
        let number = *self.follows.get(self.place())?;
        let column = self.columns.get(number as usize)?;
        let is =
            self.surplus.is_empty() && column.kind == kind && self.texts.get(column.key).as_bytes() == key;
        is.then_some(number)
    }

    /// Where the span in the making has arrived: after which column.
    fn place(&self) -> usize {
        self.shape.last().map_or(0, |column| *column as usize + 1)
    }

    /// The trace state of the span that the next [`Self::push`] adds.
    pub fn trace_state(&mut self, text: TextId) {
        self.put(0, Type::TraceState, i64::from(text.0));
    }

    /// The message of the status of the span that the next [`Self::push`] adds.
    pub fn status_message(&mut self, text: TextId) {
        self.put(0, Type::StatusMessage, i64::from(text.0));
    }

    /// Adds a span with the attributes given since the last.
    pub fn push(&mut self, row: &SpanRow, events: &[SpanEvent], links: &[SpanLink]) {
        let has_surplus = !self.surplus.is_empty();
        let has_extras = has_surplus || !events.is_empty() || !links.is_empty();
        if has_extras {
            let surplus = std::mem::take(&mut self.surplus);
            extras::put(&mut self.extras, &mut self.texts, &surplus, events, links, row.start_nanos);
            self.extra_ends.push(self.extras.len() as u32);
        }
        let shape = self.shape_of();
        let class = self.class_of(Class {
            resource: row.resource.0,
            scope: row.scope.0,
            name: row.name.0,
            kind: row.kind,
            status: row.status,
            shape,
            has_extras,
            has_surplus,
        });
        self.traces.push(row.trace_id);
        self.span_ids.push(row.span_id);
        self.parents.push(row.parent_span_id);
        self.starts.push(row.start_nanos);
        self.durations.push(row.end_nanos.wrapping_sub(row.start_nanos) as i64);
        self.class_of.push(class);
    }

    pub fn push_span(&mut self, span: &Span) {
        let resource = match &self.last_resource {
            Some((last, number)) if Arc::ptr_eq(last, &span.resource) => *number,
            _ => self.resource(&span.resource),
        };
        self.last_resource = Some((span.resource.clone(), resource));
        let [scope, name] = [&span.scope, &span.name].map(|t| TextId(self.texts.number_of(t)));
        if !span.trace_state.is_empty() {
            let text = TextId(self.texts.number_of(&span.trace_state));
            self.trace_state(text);
        }
        if !span.status_message.is_empty() {
            let text = TextId(self.texts.number_of(&span.status_message));
            self.status_message(text);
        }
        for (key, value) in &span.attributes {
            let key = TextId(self.texts.number_of(key));
            let value = self.value(value);
            self.attribute(key, value);
        }
        let row = SpanRow {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            resource,
            scope,
            name,
            kind: span.kind,
            status: span.status,
            start_nanos: span.start_nanos,
            end_nanos: span.end_nanos,
        };
        self.push(&row, &span.events, &span.links);
    }

    /// The block that goes to the log.
    pub fn seal(&self) -> SpanBlock {
        SpanBlock::encode(self, None, Effort::Quick)
    }

    /// Whether a column of each of these keys and types is there or can be made.
    pub(crate) fn has_room_for(&self, columns: usize) -> bool {
        self.columns.len() + columns <= COLUMNS_MAX
    }

    pub(crate) fn column(&mut self, key: u32, kind: Type) -> u32 {
        *self.column_numbers.entry((key, kind)).or_insert_with(|| {
            self.columns.push(Column { key, kind, values: Vec::new() });
            self.columns.len() as u32 - 1
        })
    }

    pub(crate) fn resource_of(&mut self, pairs: Vec<Pair>) -> u32 {
        if let Some(known) = self.resource_numbers.get(&pairs) {
            return *known;
        }
        let number = self.resources.len() as u32;
        self.resources.push(pairs.clone());
        self.resource_numbers.insert(pairs, number);
        number
    }

    pub(crate) fn shape_numbered(&mut self, shape: Vec<u32>) -> u32 {
        self.shape = shape;
        self.shape_of()
    }

    pub(crate) fn class_of(&mut self, class: Class) -> u32 {
        *self.class_numbers.entry(class).or_insert_with(|| {
            self.classes.push(class);
            self.classes.len() as u32 - 1
        })
    }

    fn shape_of(&mut self) -> u32 {
        let number = match self.shape_numbers.get(&self.shape[..]) {
            Some(known) => *known,
            None => {
                let number = self.shapes.len() as u32;
                self.shapes.push(self.shape[..].into());
                self.shape_numbers.insert(self.shape[..].into(), number);
                number
            }
        };
        self.shape.clear();
        number
    }

    fn put(&mut self, key: u32, kind: Type, value: i64) {
        // Once one has found no column the others of the span do not either: they keep their order.
        let column = match self.column_numbers.get(&(key, kind)) {
            _ if !self.surplus.is_empty() && is_attribute(kind) => None,
            Some(known) => Some(*known),
            None if self.has_room_for(1) || !is_attribute(kind) => Some(self.column(key, kind)),
            None => None,
        };
        match column {
            Some(column) => {
                self.columns[column as usize].values.push(value);
                self.shape.push(column);
            }
            None => self.surplus.push((key, kind, value)),
        }
    }

    fn value(&mut self, value: &AttributeValue) -> BatchValue {
        match value {
            AttributeValue::String(s) => BatchValue::String(TextId(self.texts.number_of(s))),
            AttributeValue::Bool(b) => BatchValue::Bool(*b),
            AttributeValue::Int(i) => BatchValue::Int(*i),
            AttributeValue::Double(d) => BatchValue::Double(*d),
            AttributeValue::Json(s) => BatchValue::Json(TextId(self.texts.number_of(s))),
        }
    }
}

fn is_attribute(kind: Type) -> bool {
    !matches!(kind, Type::TraceState | Type::StatusMessage)
}

fn pair_value(value: BatchValue) -> (Type, i64) {
    match value {
        BatchValue::String(t) => (Type::String, i64::from(t.0)),
        BatchValue::Bool(b) => (Type::Bool, i64::from(b)),
        BatchValue::Int(i) => (Type::Int, i),
        BatchValue::Double(d) => (Type::Double, d.to_bits() as i64),
        BatchValue::Json(t) => (Type::Json, i64::from(t.0)),
    }
}
