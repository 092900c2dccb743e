//! Blocks into a batch, column by column: texts get other numbers, spans are never made.

use super::batch::Type;
use super::batch::{Class, Pair, SpanBatch};
use super::extras;
use super::open::OpenBlock;
use super::texts::TextList;
use crate::codec::{Corrupt, Reader};

impl OpenBlock<'_> {
    /// On `Err` the batch is as it was.
    pub(crate) fn append_to(&self, batch: &mut SpanBatch) -> Result<(), Corrupt> {
        // Everything is read before anything is added.
        let classes = self.classes()?;
        let (traces, starts, durations, parents) =
            (self.traces()?, self.starts()?, self.durations()?, self.parents()?);
        let columns = (0..self.head.columns.len()).map(|c| self.numbers(c)).collect::<Result<Vec<_>, _>>()?;
        let has_extras = |class: u32| self.head.classes[class as usize].has_extras;
        let with_extras = classes.iter().filter(|c| has_extras(**c)).count();
        let (list, rows) = self.extras()?;
        if !batch.has_room_for(columns.len()) {
            let all: Vec<usize> = (0..self.head.spans).collect();
            self.spans(&all)?.iter().for_each(|span| batch.push_span(span));
            return Ok(());
        }
        let (extras, ends) = copied(rows, with_extras, list, batch)?;

        let head_texts: Vec<u32> = self.head.texts.iter().map(|t| batch.texts.number_of(t)).collect();
        let resources: Vec<u32> = self
            .head
            .resources
            .iter()
            .map(|pairs| {
                let pair = |(key, kind, value): &Pair| {
                    let value = if kind.is_text() { i64::from(head_texts[*value as usize]) } else { *value };
                    (head_texts[*key as usize], *kind, value)
                };
                let pairs = pairs.iter().map(pair).collect();
                batch.resource_of(pairs)
            })
            .collect();
        let column_of: Vec<u32> = self
            .head
            .columns
            .iter()
            .map(|c| {
                let is_attribute = !matches!(c.kind, Type::TraceState | Type::StatusMessage);
                let key = if is_attribute { head_texts[c.key] } else { 0 };
                batch.column(key, c.kind)
            })
            .collect();
        let shapes: Vec<u32> = self
            .head
            .shapes
            .iter()
            .map(|shape| batch.shape_numbered(shape.iter().map(|c| column_of[*c]).collect()))
            .collect();
        let class_of: Vec<u32> = self
            .head
            .classes
            .iter()
            .map(|c| {
                let class = Class {
                    resource: resources[c.resource],
                    scope: head_texts[c.scope],
                    name: head_texts[c.name],
                    kind: c.kind,
                    status: c.status,
                    shape: shapes[c.shape],
                    has_extras: c.has_extras,
                    has_surplus: c.has_surplus,
                };
                batch.class_of(class)
            })
            .collect();
        for (number, values) in columns.into_iter().enumerate() {
            let column = column_of[number] as usize;
            if self.head.columns[number].kind.is_text() {
                let list = self.list(number)?.iter();
                let texts: Vec<i64> = list.map(|t| i64::from(batch.texts.number_of(t))).collect();
                batch.columns[column].values.extend(values.iter().map(|n| texts[*n as usize]));
            } else {
                batch.columns[column].values.extend_from_slice(values);
            }
        }
        let before = batch.extras.len() as u32;
        batch.extras.extend_from_slice(&extras);
        batch.extra_ends.extend(ends.into_iter().map(|end| before + end));
        batch.traces.extend(traces.numbers.iter().map(|n| traces.ids[*n as usize]));
        batch.span_ids.extend((0..self.head.spans).map(|row| self.span_id(row)));
        batch.parents.extend_from_slice(parents);
        batch.starts.extend_from_slice(starts);
        batch.durations.extend_from_slice(durations);
        batch.class_of.extend(classes.iter().map(|c| class_of[*c as usize]));
        Ok(())
    }
}

/// The extras of so many spans with the batch's numbers, and where each ends.
fn copied(
    rows: &[u8],
    spans: usize,
    list: &TextList,
    batch: &mut SpanBatch,
) -> Result<(Vec<u8>, Vec<u32>), Corrupt> {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    let mut r = Reader(rows);
    for _ in 0..spans {
        extras::copy(&mut r, &mut out, &mut |n| {
            let text = list.get(n as usize).ok_or(Corrupt("number of something that is not there"))?;
            Ok(batch.texts.number_of(text))
        })?;
        ends.push(out.len() as u32);
    }
    r.end()?;
    Ok((out, ends))
}
