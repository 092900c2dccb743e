//! What few spans have, row by row: attributes that found no column, events, links.
//!
//! ```text
//! attributes: uvarint n, then each: uvarint text number of the key, u8 type, value
//! uvarint n, then each event: ivarint time less the span's start, uvarint name, attributes
//! uvarint n, then each link: trace id 16, span id 8, attributes
//! value: text: uvarint number   bool, int: ivarint   double: eight bytes
//! ```

use std::sync::Arc;

use davy_model::{AttributeValue, Attributes, SpanEvent, SpanId, SpanLink, TraceId};

use super::batch::{Pair, Type};
use super::strings::Strings;
use crate::codec::{Corrupt, Reader, put_ivarint, put_uvarint};

pub(crate) struct Extras {
    pub(crate) attributes: Attributes,
    pub(crate) events: Vec<SpanEvent>,
    pub(crate) links: Vec<SpanLink>,
}

pub(crate) fn put(
    out: &mut Vec<u8>,
    texts: &mut Strings,
    surplus: &[Pair],
    events: &[SpanEvent],
    links: &[SpanLink],
    start_nanos: u64,
) {
    put_uvarint(out, surplus.len() as u64);
    surplus.iter().for_each(|pair| put_pair(out, *pair));
    put_uvarint(out, events.len() as u64);
    for e in events {
        put_ivarint(out, e.time_nanos.wrapping_sub(start_nanos) as i64);
        put_uvarint(out, u64::from(texts.number_of(&e.name)));
        put_attributes(out, texts, &e.attributes);
    }
    put_uvarint(out, links.len() as u64);
    for l in links {
        out.extend_from_slice(&l.trace_id.0);
        out.extend_from_slice(&l.span_id.0);
        put_attributes(out, texts, &l.attributes);
    }
}

fn put_attributes(out: &mut Vec<u8>, texts: &mut Strings, attributes: &Attributes) {
    put_uvarint(out, attributes.len() as u64);
    for (key, value) in attributes {
        let key = texts.number_of(key);
        let (kind, value) = match value {
            AttributeValue::String(s) => (Type::String, i64::from(texts.number_of(s))),
            AttributeValue::Bool(b) => (Type::Bool, i64::from(*b)),
            AttributeValue::Int(i) => (Type::Int, *i),
            AttributeValue::Double(d) => (Type::Double, d.to_bits() as i64),
            AttributeValue::Json(s) => (Type::Json, i64::from(texts.number_of(s))),
        };
        put_pair(out, (key, kind, value));
    }
}

pub(crate) fn put_pair(out: &mut Vec<u8>, (key, kind, value): Pair) {
    put_uvarint(out, u64::from(key));
    out.push(kind as u8);
    match kind {
        Type::Double => out.extend_from_slice(&value.to_le_bytes()),
        Type::Bool | Type::Int => put_ivarint(out, value),
        Type::String | Type::Json | Type::TraceState | Type::StatusMessage => put_uvarint(out, value as u64),
    }
}

pub(crate) fn read_pair(r: &mut Reader) -> Result<Pair, Corrupt> {
    let key = r.u32()?;
    let kind = *Type::ALL.get(usize::from(r.u8()?)).ok_or(Corrupt("unknown type of attribute"))?;
    let value = match kind {
        Type::Double => r.u64()? as i64,
        Type::Bool | Type::Int => r.ivarint()?,
        Type::String | Type::Json | Type::TraceState | Type::StatusMessage => i64::from(r.u32()?),
    };
    Ok((key, kind, value))
}

/// Copies the extras of one span with other numbers for its texts.
pub(crate) fn copy(
    r: &mut Reader,
    out: &mut Vec<u8>,
    number: &mut impl FnMut(u32) -> Result<u32, Corrupt>,
) -> Result<(), Corrupt> {
    copy_attributes(r, out, number)?;
    let events = copy_count(r, out)?;
    for _ in 0..events {
        put_ivarint(out, r.ivarint()?);
        put_uvarint(out, u64::from(number(r.u32()?)?));
        copy_attributes(r, out, number)?;
    }
    let links = copy_count(r, out)?;
    for _ in 0..links {
        out.extend_from_slice(r.bytes(24)?);
        copy_attributes(r, out, number)?;
    }
    Ok(())
}

fn copy_count(r: &mut Reader, out: &mut Vec<u8>) -> Result<usize, Corrupt> {
    let n = r.count()?;
    put_uvarint(out, n as u64);
    Ok(n)
}

fn copy_attributes(
    r: &mut Reader,
    out: &mut Vec<u8>,
    number: &mut impl FnMut(u32) -> Result<u32, Corrupt>,
) -> Result<(), Corrupt> {
    for _ in 0..copy_count(r, out)? {
        let (key, kind, value) = read_pair(r)?;
        let value = if kind.is_text() { i64::from(number(value as u32)?) } else { value };
        put_pair(out, (number(key)?, kind, value));
    }
    Ok(())
}

pub(crate) fn read(
    r: &mut Reader,
    start_nanos: u64,
    text: &mut impl FnMut(u32) -> Result<Arc<str>, Corrupt>,
) -> Result<Extras, Corrupt> {
    let attributes = read_attributes(r, text)?;
    let mut events = Vec::new();
    for _ in 0..r.count()? {
        events.push(SpanEvent {
            time_nanos: start_nanos.wrapping_add(r.ivarint()? as u64),
            name: text(r.u32()?)?,
            attributes: read_attributes(r, text)?,
        });
    }
    let mut links = Vec::new();
    for _ in 0..r.count()? {
        links.push(SpanLink {
            trace_id: TraceId(r.array()?),
            span_id: SpanId(r.array()?),
            attributes: read_attributes(r, text)?,
        });
    }
    Ok(Extras { attributes, events, links })
}

pub(crate) fn read_attributes(
    r: &mut Reader,
    text: &mut impl FnMut(u32) -> Result<Arc<str>, Corrupt>,
) -> Result<Attributes, Corrupt> {
    let n = r.count()?;
    let mut attributes = Vec::with_capacity(n);
    for _ in 0..n {
        let (key, kind, value) = read_pair(r)?;
        attributes.push((text(key)?, to_value(kind, value, text)?));
    }
    Ok(attributes)
}

pub(crate) fn to_value(
    kind: Type,
    value: i64,
    text: &mut impl FnMut(u32) -> Result<Arc<str>, Corrupt>,
) -> Result<AttributeValue, Corrupt> {
    Ok(match kind {
        Type::String => AttributeValue::String(text(value as u32)?),
        Type::Bool => AttributeValue::Bool(value != 0),
        Type::Int => AttributeValue::Int(value),
        Type::Double => AttributeValue::Double(f64::from_bits(value as u64)),
        Type::Json => AttributeValue::Json(text(value as u32)?),
        Type::TraceState | Type::StatusMessage => return Err(Corrupt("unknown type of attribute")),
    })
}
