//! `SpanBlock`: spans as the bytes that go to disk, column by column, so that a reader decodes only what it asks for.
//!
//! The head says what is inside and where (times, classes, columns); the body holds the columns. FORMAT.md draws both.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use davy_model::{Span, SpanId, TraceId};

use super::batch::{SpanBatch, Type};
use super::texts::{self, Local, put_section};
use super::{extras, ints};
use crate::codec::{Corrupt, Reader, put_uvarint};
use crate::column::Effort;
use crate::spans::open::{Head, OpenBlock};

/// Traces of more spans are searched through a map.
const SCANNED_SPANS_MAX: usize = 32;
/// A parent that is no span of the block: its id follows. Zero is no parent; what is above says which row it is.
pub(crate) const ELSEWHERE: i64 = 1;

/// Encoded spans; cheap to clone.
#[derive(Debug, Clone)]
pub struct SpanBlock(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    spans: usize,
    head: Vec<u8>,
    body: Vec<u8>,
    /// First and last start, in nanoseconds.
    oldest: u64,
    newest: u64,
    /// Where in the body the ids of its traces lie: whoever looks for a trace need not read the head.
    trace_ids: Range<usize>,
}

impl SpanBlock {
    /// The number of spans.
    pub fn len(&self) -> usize {
        self.0.spans
    }

    pub fn is_empty(&self) -> bool {
        self.0.spans == 0
    }

    /// What it was made of; `None` if memory is broken.
    pub fn spans(&self) -> Option<Vec<Span>> {
        let rows: Vec<usize> = (0..self.len()).collect();
        self.open().and_then(|open| open.spans(&rows)).ok()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.head.len() + self.0.body.len()
    }

    pub(crate) fn head(&self) -> &[u8] {
        &self.0.head
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.0.body
    }

    pub(crate) fn starts(&self) -> (u64, u64) {
        (self.0.oldest, self.0.newest)
    }

    /// Ids of its traces, each once.
    pub(crate) fn trace_ids(&self) -> impl Iterator<Item = TraceId> {
        let ids = self.0.body.get(self.0.trace_ids.clone()).unwrap_or(&[]);
        ids.as_chunks::<16>().0.iter().map(|id| TraceId(*id))
    }

    pub(crate) fn open(&self) -> Result<OpenBlock<'_>, Corrupt> {
        OpenBlock::new(Head::read(self.head())?, self.body())
    }

    /// As one run of bytes: the body of a log record.
    pub(crate) fn to_record(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes() + 8);
        put_uvarint(&mut out, self.0.head.len() as u64);
        out.extend_from_slice(&self.0.head);
        out.extend_from_slice(&self.0.body);
        out
    }

    /// The block of a log record, if all of it makes sense.
    pub(crate) fn from_record(record: &[u8]) -> Result<Self, Corrupt> {
        let mut r = Reader(record);
        let head = texts::read_section(&mut r)?;
        OpenBlock::new(Head::read(head)?, r.0)?.append_to(&mut SpanBatch::new())?;
        let (head, body) = (head.to_vec(), r.0.to_vec());
        let read = Head::read(&head)?;
        let (spans, oldest, newest) = (read.spans, read.oldest, read.newest);
        let trace_ids = read.trace_ids(&body)?;
        Ok(Self(Arc::new(Encoded { spans, head, body, oldest, newest, trace_ids })))
    }

    /// All spans, or those of these rows in their order.
    pub(crate) fn encode(batch: &SpanBatch, rows: Option<(&Layout, &[u32])>, effort: Effort) -> Self {
        Encoder::new(batch, rows, effort).finish()
    }
}

/// Where the values of each span lie in the columns: to take spans out in another order.
pub(crate) struct Layout {
    /// Where the positions of a span begin; they are in the order of its shape.
    first: Vec<u32>,
    positions: Vec<u32>,
    /// Which of the extras are the span's, if it has any.
    extras: Vec<u32>,
}

impl Layout {
    pub(crate) fn of(batch: &SpanBatch) -> Self {
        let mut next = vec![0u32; batch.columns.len()];
        let mut out =
            Self { first: Vec::with_capacity(batch.len()), positions: Vec::new(), extras: Vec::new() };
        let mut extras = 0;
        for class in &batch.class_of {
            let class = &batch.classes[*class as usize];
            out.first.push(out.positions.len() as u32);
            for column in &batch.shapes[class.shape as usize] {
                out.positions.push(next[*column as usize]);
                next[*column as usize] += 1;
            }
            out.extras.push(extras);
            extras += u32::from(class.has_extras);
        }
        out
    }
}

struct Encoder<'a> {
    batch: &'a SpanBatch,
    rows: Option<(&'a Layout, &'a [u32])>,
    effort: Effort,
    spans: usize,
    local: Local,
    body: Vec<u8>,
    lengths: Vec<usize>,
}

impl<'a> Encoder<'a> {
    fn new(batch: &'a SpanBatch, rows: Option<(&'a Layout, &'a [u32])>, effort: Effort) -> Self {
        let spans = rows.map_or(batch.len(), |(_, rows)| rows.len());
        Self { batch, rows, effort, spans, local: Local::default(), body: Vec::new(), lengths: Vec::new() }
    }

    fn finish(mut self) -> SpanBlock {
        let (batch, effort) = (self.batch, self.effort);
        let class_of = self.taken(&batch.class_of);
        let mut numbering = Local::default();
        numbering.begin(batch.classes.len());
        let numbers: Vec<i64> = class_of.iter().map(|c| i64::from(numbering.number(*c))).collect();
        let classes = numbering.all;
        let traces = self.taken(&batch.traces);
        let starts = self.taken(&batch.starts);
        let durations = self.taken(&batch.durations);
        let oldest = starts.iter().copied().min().unwrap_or(0);
        let newest = starts.iter().copied().max().unwrap_or(0);
        let longest = durations.iter().map(|d| (*d).max(0)).max().unwrap_or(0) as u64;

        self.section(|out| ints::put(out, &numbers, effort));
        let mut trace_ids = 0..0;
        self.section(|out| trace_ids = put_traces(out, &traces, effort));
        let span_ids = self.taken(&batch.span_ids);
        self.section(|out| span_ids.iter().for_each(|id| out.extend_from_slice(&id.0)));
        let parents = self.taken(&batch.parents);
        self.section(|out| put_parents(out, &traces, &span_ids, &parents, effort));
        let (firsts, gaps) = split_starts(&traces, &starts, oldest);
        self.section(|out| ints::put(out, &firsts, effort));
        self.section(|out| ints::put(out, &gaps, effort));
        self.section(|out| ints::put(out, &durations, effort));
        let extras = self.extras(&class_of);
        self.section(|out| out.extend_from_slice(&extras));

        let mut shapes = Local::default();
        shapes.begin(batch.shapes.len());
        let shape_of: Vec<u32> =
            classes.iter().map(|c| shapes.number(batch.classes[*c as usize].shape)).collect();
        let mut columns = Local::default();
        columns.begin(batch.columns.len());
        for shape in &shapes.all {
            for column in &batch.shapes[*shape as usize] {
                columns.number(*column);
            }
        }
        self.columns(&class_of, &columns.all);
        let head =
            self.head([oldest, newest - oldest, longest], &classes, &shapes.all, &shape_of, &mut columns);
        let (spans, body) = (self.spans, self.body);
        SpanBlock(Arc::new(Encoded { spans, head, body, oldest, newest, trace_ids }))
    }

    fn taken<T: Copy>(&self, all: &'a [T]) -> Cow<'a, [T]> {
        match self.rows {
            None => Cow::Borrowed(all),
            Some((_, rows)) => rows.iter().map(|r| all[*r as usize]).collect::<Vec<_>>().into(),
        }
    }

    fn section(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let before = self.body.len();
        put(&mut self.body);
        self.lengths.push(self.body.len() - before);
    }

    /// Appends these columns to the body.
    fn columns(&mut self, class_of: &[u32], columns: &[u32]) {
        let (batch, effort) = (self.batch, self.effort);
        let mut gathered: Vec<Vec<i64>> = Vec::new();
        if let Some((layout, rows)) = self.rows {
            gathered.resize_with(batch.columns.len(), Vec::new);
            for (row, class) in rows.iter().zip(class_of) {
                let first = layout.first[*row as usize] as usize;
                let shape = &batch.shapes[batch.classes[*class as usize].shape as usize];
                for (column, position) in shape.iter().zip(&layout.positions[first..]) {
                    let column = *column as usize;
                    gathered[column].push(batch.columns[column].values[*position as usize]);
                }
            }
        }
        for number in columns {
            let column = &batch.columns[*number as usize];
            let values = gathered.get(*number as usize).unwrap_or(&column.values);
            let mut local = std::mem::take(&mut self.local);
            self.section(|out| match column.kind {
                kind if kind.is_text() => {
                    let text = |t| batch.texts.get(t);
                    texts::put(out, values, &mut local, batch.texts.len(), text, effort);
                }
                Type::Double => ints::put_doubles(out, values, effort),
                _ => ints::put(out, values, effort),
            });
            self.local = local;
        }
    }

    fn extras(&mut self, class_of: &[u32]) -> Vec<u8> {
        let batch = self.batch;
        if batch.extra_ends.is_empty() {
            return Vec::new();
        }
        let with: Vec<usize> = match self.rows {
            None => (0..batch.extra_ends.len()).collect(),
            Some((layout, rows)) => rows
                .iter()
                .zip(class_of)
                .filter(|(_, c)| batch.classes[**c as usize].has_extras)
                .map(|(r, _)| layout.extras[*r as usize] as usize)
                .collect(),
        };
        if with.is_empty() {
            return Vec::new();
        }
        self.local.begin(batch.texts.len());
        let mut rows = Vec::new();
        for n in with {
            let start = n.checked_sub(1).map_or(0, |before| batch.extra_ends[before] as usize);
            let mut r = Reader(&batch.extras[start..batch.extra_ends[n] as usize]);
            let number = &mut |t| Ok(self.local.number(t));
            extras::copy(&mut r, &mut rows, number).expect("the batch wrote what it reads here");
        }
        let mut out = Vec::new();
        texts::put_list(&mut out, self.local.all.iter().map(|t| batch.texts.get(*t)), self.effort);
        texts::put_bytes(&mut out, &rows, self.effort);
        out
    }

    fn head(
        &mut self,
        times: [u64; 3],
        classes: &[u32],
        shapes: &[u32],
        shape_of: &[u32],
        columns: &mut Local,
    ) -> Vec<u8> {
        let batch = self.batch;
        let mut texts = std::mem::take(&mut self.local);
        texts.begin(batch.texts.len());
        let mut resources = Local::default();
        resources.begin(batch.resources.len());
        let mut rest = Vec::new();
        put_uvarint(&mut rest, classes.len() as u64);
        for (class, shape) in classes.iter().zip(shape_of) {
            let class = &batch.classes[*class as usize];
            let numbers =
                [resources.number(class.resource), texts.number(class.scope), texts.number(class.name)];
            numbers.iter().for_each(|n| put_uvarint(&mut rest, u64::from(*n)));
            rest.push(class.kind as u8 * 3 + class.status as u8);
            put_uvarint(
                &mut rest,
                u64::from(*shape) << 2 | u64::from(class.has_surplus) << 1 | u64::from(class.has_extras),
            );
        }
        put_uvarint(&mut rest, shapes.len() as u64);
        for shape in shapes {
            let shape = &batch.shapes[*shape as usize];
            put_uvarint(&mut rest, shape.len() as u64);
            shape.iter().for_each(|c| put_uvarint(&mut rest, u64::from(columns.number(*c))));
        }
        let (sections, lengths) = self.lengths.split_at(self.lengths.len() - columns.all.len());
        put_uvarint(&mut rest, columns.all.len() as u64);
        for (column, length) in columns.all.iter().zip(lengths) {
            let column = &batch.columns[*column as usize];
            rest.push(column.kind as u8);
            put_uvarint(&mut rest, u64::from(texts.number(column.key)));
            put_uvarint(&mut rest, *length as u64);
        }
        sections.iter().for_each(|length| put_uvarint(&mut rest, *length as u64));
        put_uvarint(&mut rest, resources.all.len() as u64);
        for resource in &resources.all {
            let pairs = &batch.resources[*resource as usize];
            put_uvarint(&mut rest, pairs.len() as u64);
            for (key, kind, value) in pairs {
                let value = if kind.is_text() { i64::from(texts.number(*value as u32)) } else { *value };
                extras::put_pair(&mut rest, (texts.number(*key), *kind, value));
            }
        }
        let mut head = Vec::with_capacity(rest.len() + 1024);
        put_uvarint(&mut head, self.spans as u64);
        times.iter().for_each(|t| put_uvarint(&mut head, *t));
        // The frame around it compresses.
        texts::put_list(&mut head, texts.all.iter().map(|t| batch.texts.get(*t)), Effort::Quick);
        head.extend_from_slice(&rest);
        head
    }
}

/// Each trace's id once; then for every span how its trace follows from that of the span before. Where the ids lie.
fn put_traces(out: &mut Vec<u8>, traces: &[TraceId], effort: Effort) -> Range<usize> {
    let mut numbers: HashMap<TraceId, i64, hashbrown::DefaultHashBuilder> = HashMap::default();
    let mut ids: Vec<TraceId> = Vec::new();
    let mut before = None;
    let mut step = |id: &TraceId| {
        if before.replace(*id) == Some(*id) {
            return 0;
        }
        let next = ids.len() as i64;
        let number = *numbers.entry(*id).or_insert_with(|| {
            ids.push(*id);
            next
        });
        1 + next - number
    };
    let steps: Vec<i64> = traces.iter().map(&mut step).collect();
    put_uvarint(out, ids.len() as u64);
    let begin = out.len();
    ids.iter().for_each(|id| out.extend_from_slice(&id.0));
    let range = begin..out.len();
    ints::put(out, &steps, effort);
    range
}

/// A number for every span, then the ids of the parents that lie elsewhere.
fn put_parents(out: &mut Vec<u8>, traces: &[TraceId], ids: &[SpanId], parents: &[SpanId], effort: Effort) {
    let mut codes = Vec::with_capacity(ids.len());
    let mut elsewhere = Vec::new();
    let mut start = 0;
    for run in traces.chunk_by(|a, b| a == b) {
        let ids = &ids[start..start + run.len()];
        let rows: HashMap<SpanId, usize> = match effort == Effort::Small && run.len() > SCANNED_SPANS_MAX {
            true => ids.iter().enumerate().rev().map(|(row, id)| (*id, row)).collect(),
            false => HashMap::new(),
        };
        for (row, parent) in parents[start..start + run.len()].iter().enumerate() {
            let found = match effort {
                _ if parent.is_zero() => {
                    codes.push(0);
                    continue;
                }
                Effort::Quick => None,
                Effort::Small if run.len() > SCANNED_SPANS_MAX => rows.get(parent).copied(),
                Effort::Small => ids.iter().position(|id| id == parent),
            };
            match found.filter(|p| *p != row) {
                Some(p) => codes.push(ELSEWHERE + crate::codec::zigzag(row as i64 - p as i64) as i64),
                None => {
                    codes.push(ELSEWHERE);
                    elsewhere.extend_from_slice(&parent.0);
                }
            }
        }
        start += run.len();
    }
    put_section(out, |out| ints::put(out, &codes, effort));
    out.extend_from_slice(&elsewhere);
}

/// Starts where another trace begins, each less the one before; and those within a trace, less the span before.
fn split_starts(traces: &[TraceId], starts: &[u64], oldest: u64) -> (Vec<i64>, Vec<i64>) {
    let (mut firsts, mut gaps) = (Vec::new(), Vec::new());
    let (mut first, mut before) = (oldest, None);
    for (trace, start) in traces.iter().zip(starts) {
        match before {
            Some((same, last)) if same == trace => gaps.push(start.wrapping_sub(last) as i64),
            _ => {
                firsts.push(start.wrapping_sub(first) as i64);
                first = *start;
            }
        }
        before = Some((trace, *start));
    }
    (firsts, gaps)
}
