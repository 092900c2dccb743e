//! Which attributes spans have and which values, for whoever fills a list to choose from: from heads and lists of
//! texts, no span is made.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use davy_model::{AttributeValue, Timestamp};

use super::batch::Type;
use super::filter::SpanField;
use super::open::{Head, OpenBlock};
use super::recent;
use super::search::Place;
use super::select::owned;
use crate::Snapshot;
use crate::codec::Corrupt;

/// Keys of attributes, by what has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanNames {
    pub resource: BTreeSet<String>,
    pub span: BTreeSet<String>,
    pub event: BTreeSet<String>,
    pub link: BTreeSet<String>,
}

/// Which of them are looked for. Those of events and links have to be read span by span.
#[derive(Debug, Clone, Copy)]
pub struct SpanNamesWanted {
    pub events: bool,
    pub links: bool,
}

impl Snapshot {
    /// Keys of the attributes in blocks that can hold spans of the range; some may lie just outside it. `visited` is
    /// asked after each block, newest first, whether it is enough.
    pub fn span_names(
        &self,
        wanted: SpanNamesWanted,
        from: Timestamp,
        to: Timestamp,
        visited: &mut dyn FnMut(&SpanNames) -> ControlFlow<()>,
    ) -> SpanNames {
        let mut names = SpanNames::default();
        for (_, place) in self.places(from, to) {
            self.read_place(
                &place,
                wanted.events || wanted.links,
                |head| add_names(head, &mut names),
                |open, names_of_extras| open.add_extra_names(wanted, names_of_extras),
            )
            .into_iter()
            .for_each(|extra: SpanNames| {
                names.span.extend(extra.span);
                names.event.extend(extra.event);
                names.link.extend(extra.link);
            });
            if visited(&names).is_break() {
                break;
            }
        }
        names
    }

    /// Distinct values of a field in blocks that can hold spans of the range, handed over with repetitions from block
    /// to block. Of durations there are too many to list: nothing is handed over.
    pub fn span_values(
        &self,
        field: &SpanField,
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Vec<AttributeValue>) -> ControlFlow<()>,
    ) {
        for (_, place) in self.places(from, to) {
            let values = match &place {
                Place::Recent(record, block) => recent::read(*record, block, |open| open.values(field)),
                Place::Sealed(partition, number) => {
                    partition.span_head(*number).and_then(|head| match head.values(field) {
                        Some(values) => Some(values),
                        None => partition.span_block(*number, head, |open| open.values(field)),
                    })
                }
            };
            if visit(values.unwrap_or_default()).is_break() {
                return;
            }
        }
    }

    /// The head of a block, and the rest of it if that is asked for.
    fn read_place(
        &self,
        place: &Place,
        with_body: bool,
        mut head: impl FnMut(&Head),
        body: impl Fn(&OpenBlock, &mut SpanNames) -> Result<(), Corrupt>,
    ) -> Option<SpanNames> {
        let read_body = |open: &OpenBlock| {
            let mut names = SpanNames::default();
            body(open, &mut names).map(|()| names)
        };
        match place {
            Place::Recent(record, block) => recent::read(*record, block, |open| {
                head(&open.head);
                if with_body { read_body(open) } else { Ok(SpanNames::default()) }
            }),
            Place::Sealed(partition, number) => {
                let read = partition.span_head(*number)?;
                head(&read);
                let has_extras = read.classes.iter().any(|c| c.has_extras);
                if with_body && has_extras { partition.span_block(*number, read, read_body) } else { None }
            }
        }
    }
}

fn add_names(head: &Head, names: &mut SpanNames) {
    let keys = head.resources.iter().flatten().map(|(key, _, _)| head.text(*key as usize));
    add(&mut names.resource, keys);
    let is_attribute = |kind: Type| !matches!(kind, Type::TraceState | Type::StatusMessage);
    let columns = head.columns.iter().filter(|c| is_attribute(c.kind));
    add(&mut names.span, columns.map(|c| head.text(c.key)));
}

fn add<'a>(names: &mut BTreeSet<String>, keys: impl Iterator<Item = &'a str>) {
    for key in keys {
        if !names.contains(key) {
            names.insert(key.to_owned());
        }
    }
}

impl Head {
    fn texts_of(&self, numbers: impl Iterator<Item = usize>) -> Vec<AttributeValue> {
        let numbers: BTreeSet<usize> = numbers.collect();
        numbers.into_iter().map(|n| AttributeValue::String(self.text(n).into())).collect()
    }

    /// Values that the head alone knows; `None` if columns have to be read.
    fn values(&self, field: &SpanField) -> Option<Vec<AttributeValue>> {
        let text = |text: &str| AttributeValue::String(text.into());
        let classes = self.classes.iter();
        Some(match field {
            SpanField::Name => self.texts_of(classes.map(|c| c.name)),
            SpanField::Scope => self.texts_of(classes.map(|c| c.scope)),
            SpanField::Kind => distinct(classes.map(|c| text(c.kind.as_str()))),
            SpanField::Status => distinct(classes.map(|c| text(c.status.as_str()))),
            SpanField::Resource(key) => {
                let values = (0..self.resources.len()).filter_map(|r| self.resource_value(r, key));
                distinct(values.filter_map(owned))
            }
            SpanField::Duration | SpanField::IsRoot | SpanField::HasEvents | SpanField::HasLinks => {
                Vec::new()
            }
            SpanField::StatusMessage | SpanField::Span(_) | SpanField::Any(_) => return None,
        })
    }
}

impl OpenBlock<'_> {
    fn values(&self, field: &SpanField) -> Result<Vec<AttributeValue>, Corrupt> {
        if let Some(values) = self.head.values(field) {
            return Ok(values);
        }
        let mut found = Vec::new();
        let (key, is_any) = match field {
            SpanField::Span(key) => (key.as_str(), false),
            SpanField::Any(key) => (key.as_str(), true),
            _ => ("", false),
        };
        for (number, column) in self.head.columns.iter().enumerate() {
            let is_wanted = match field {
                SpanField::StatusMessage => column.kind == Type::StatusMessage,
                _ => {
                    !matches!(column.kind, Type::StatusMessage | Type::TraceState)
                        && self.head.text(column.key) == key
                }
            };
            if !is_wanted {
                continue;
            }
            if column.kind.is_text() {
                let value = |text: &str| match column.kind {
                    Type::Json => AttributeValue::Json(text.into()),
                    _ => AttributeValue::String(text.into()),
                };
                found.extend(self.list(number)?.iter().map(value));
                continue;
            }
            let mut numbers = self.numbers(number)?.to_vec();
            numbers.sort_unstable();
            numbers.dedup();
            found.extend(numbers.into_iter().map(|n| match column.kind {
                Type::Bool => AttributeValue::Bool(n != 0),
                Type::Double => AttributeValue::Double(f64::from_bits(n as u64)),
                _ => AttributeValue::Int(n),
            }));
        }
        if is_any {
            let of_resources = self.head.values(&SpanField::Resource(key.to_owned()));
            found.extend(of_resources.into_iter().flatten());
        }
        Ok(found)
    }

    fn add_extra_names(&self, wanted: SpanNamesWanted, names: &mut SpanNames) -> Result<(), Corrupt> {
        let classes = self.classes()?;
        let with_extras = |row: &usize| self.head.classes[classes[*row] as usize].has_extras;
        let rows: Vec<usize> = (0..self.head.spans).filter(with_extras).collect();
        let parts = super::filter::SpanParts { attributes: Some(Vec::new()), without_extras: false };
        for span in self.spans_in_part(&rows, &parts)? {
            add(&mut names.span, span.attributes.iter().map(|(k, _)| &**k));
            if wanted.events {
                add(&mut names.event, span.events.iter().flat_map(|e| &e.attributes).map(|(k, _)| &**k));
            }
            if wanted.links {
                add(&mut names.link, span.links.iter().flat_map(|l| &l.attributes).map(|(k, _)| &**k));
            }
        }
        Ok(())
    }
}

fn distinct(values: impl Iterator<Item = AttributeValue>) -> Vec<AttributeValue> {
    let mut found: Vec<AttributeValue> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}
