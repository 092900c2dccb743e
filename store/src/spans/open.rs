//! A block being read: the head first, of the body only the columns that are asked for.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use davy_model::{AttributeValue, Attributes, Resource, Span, SpanId, SpanKind, SpanStatus, TraceId};

use super::batch::{Pair, Type};
use super::block::ELSEWHERE;
use super::extras::{self, Extras};
use super::filter::SpanParts;
use super::ints;
use super::texts::{self, TextList, read_section};
use crate::codec::{Corrupt, Reader, unzigzag};

pub(crate) const KINDS: [SpanKind; 6] = [
    SpanKind::Unspecified,
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];
pub(crate) const STATUSES: [SpanStatus; 3] = [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error];
const NOT_THERE: Corrupt = Corrupt("number of something that is not there");

/// What the head says of a class; numbers are those of the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadClass {
    pub(crate) resource: usize,
    pub(crate) scope: usize,
    pub(crate) name: usize,
    pub(crate) kind: SpanKind,
    pub(crate) status: SpanStatus,
    pub(crate) shape: usize,
    pub(crate) has_extras: bool,
    pub(crate) has_surplus: bool,
}

#[derive(Debug)]
pub(crate) struct HeadColumn {
    pub(crate) key: usize,
    pub(crate) kind: Type,
    length: usize,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) spans: usize,
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
    /// The longest duration.
    pub(crate) longest: u64,
    pub(crate) texts: TextList,
    pub(crate) classes: Vec<HeadClass>,
    pub(crate) shapes: Vec<Vec<usize>>,
    pub(crate) columns: Vec<HeadColumn>,
    pub(crate) resources: Vec<Vec<Pair>>,
    sections: [usize; 8],
}

impl Head {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut r = Reader(bytes);
        let r = &mut r;
        let spans = usize::try_from(r.uvarint()?).map_err(|_| Corrupt("more spans than bytes"))?;
        let (oldest, range, longest) = (r.uvarint()?, r.uvarint()?, r.uvarint()?);
        let texts = TextList::read(r)?;
        let mut classes = Vec::with_capacity(r.clone().count()?);
        for _ in 0..r.count()? {
            let [resource, scope, name] = [number(r)?, below(r, texts.len())?, below(r, texts.len())?];
            let code = usize::from(r.u8()?);
            let shape = number(r)?;
            classes.push(HeadClass {
                resource,
                scope,
                name,
                kind: *KINDS.get(code / STATUSES.len()).ok_or(Corrupt("unknown span kind"))?,
                status: STATUSES[code % STATUSES.len()],
                shape: shape >> 2,
                has_extras: shape & 1 != 0,
                has_surplus: shape & 2 != 0,
            });
        }
        let mut shapes = Vec::with_capacity(r.clone().count()?);
        for _ in 0..r.count()? {
            shapes.push((0..r.count()?).map(|_| number(r)).collect::<Result<Vec<_>, _>>()?);
        }
        let mut columns = Vec::with_capacity(r.clone().count()?);
        for _ in 0..r.count()? {
            let kind = *Type::ALL.get(usize::from(r.u8()?)).ok_or(Corrupt("unknown type of attribute"))?;
            columns.push(HeadColumn { kind, key: below(r, texts.len())?, length: number(r)? });
        }
        let mut sections = [0; 8];
        for length in &mut sections {
            *length = number(r)?;
        }
        let mut resources = Vec::with_capacity(r.clone().count()?);
        for _ in 0..r.count()? {
            let pairs = (0..r.count()?).map(|_| extras::read_pair(r)).collect::<Result<Vec<_>, _>>()?;
            let is_text = |n: i64| (n as usize) < texts.len();
            let whole = |(key, kind, value): &Pair| {
                is_text(i64::from(*key))
                    && (!kind.is_text() || is_text(*value))
                    && (*kind as u8) < Type::TraceState as u8
            };
            if !pairs.iter().all(whole) {
                return Err(NOT_THERE);
            }
            resources.push(pairs);
        }
        r.end()?;
        let in_place = |c: &HeadClass| c.resource < resources.len() && c.shape < shapes.len();
        if !classes.iter().all(in_place) || shapes.iter().flatten().any(|c| *c >= columns.len()) {
            return Err(NOT_THERE);
        }
        let newest = oldest.checked_add(range).ok_or(Corrupt("time beyond all times"))?;
        Ok(Self { spans, oldest, newest, longest, texts, classes, shapes, columns, resources, sections })
    }

    pub(crate) fn text(&self, number: usize) -> &str {
        self.texts.get(number).unwrap_or("")
    }

    /// Where in the body the ids of the traces lie.
    pub(crate) fn trace_ids(&self, body: &[u8]) -> Result<Range<usize>, Corrupt> {
        let mut r = Reader(body.get(self.sections[0]..).ok_or(NOT_THERE)?);
        let n = number(&mut r)?;
        let begin = body.len() - r.0.len();
        let end = n.checked_mul(16).and_then(|n| begin.checked_add(n)).filter(|end| *end <= body.len());
        end.map(|end| begin..end).ok_or(Corrupt("more traces than bytes"))
    }

    pub(crate) fn shape(&self, class: usize) -> &[usize] {
        &self.shapes[self.classes[class].shape]
    }
}

fn number(r: &mut Reader) -> Result<usize, Corrupt> {
    r.u32().map(|n| n as usize)
}

fn below(r: &mut Reader, len: usize) -> Result<usize, Corrupt> {
    number(r).and_then(|n| if n < len { Ok(n) } else { Err(NOT_THERE) })
}

pub(crate) struct TraceColumn {
    pub(crate) ids: Vec<TraceId>,
    /// By row.
    pub(crate) numbers: Vec<u32>,
}

/// A block whose columns are decoded when they are first asked for.
pub(crate) struct OpenBlock<'a> {
    pub(crate) head: Head,
    sections: [&'a [u8]; 8],
    columns: Vec<&'a [u8]>,
    /// How many values each column has.
    counts: OnceCell<Vec<usize>>,
    classes: OnceCell<Vec<u32>>,
    traces: OnceCell<TraceColumn>,
    parents: OnceCell<Vec<SpanId>>,
    starts: OnceCell<Vec<u64>>,
    durations: OnceCell<Vec<i64>>,
    /// Of a column of texts, its list and where the numbers into it begin.
    lists: Vec<OnceCell<(TextList, &'a [u8])>>,
    numbers: Vec<OnceCell<Vec<i64>>>,
    extras: OnceCell<(TextList, Vec<u8>)>,
}

/// `OnceCell::get_or_try_init` is not stable yet.
fn cached<T>(cell: &OnceCell<T>, read: impl FnOnce() -> Result<T, Corrupt>) -> Result<&T, Corrupt> {
    if let Some(known) = cell.get() {
        return Ok(known);
    }
    let value = read()?;
    Ok(cell.get_or_init(|| value))
}

impl<'a> OpenBlock<'a> {
    pub(crate) fn new(head: Head, body: &'a [u8]) -> Result<Self, Corrupt> {
        let mut r = Reader(body);
        let mut sections = [&[][..]; 8];
        for (section, length) in sections.iter_mut().zip(head.sections) {
            *section = r.bytes(length)?;
        }
        let columns = head.columns.iter().map(|c| r.bytes(c.length)).collect::<Result<Vec<_>, _>>()?;
        r.end()?;
        // So that a wrong number of spans cannot ask for more memory than there are bytes.
        if sections[2].len() / 8 != head.spans || sections[2].len() % 8 != 0 {
            return Err(Corrupt("span ids are fewer or more than the spans"));
        }
        Ok(Self {
            lists: head.columns.iter().map(|_| OnceCell::new()).collect(),
            numbers: head.columns.iter().map(|_| OnceCell::new()).collect(),
            head,
            sections,
            columns,
            counts: OnceCell::new(),
            classes: OnceCell::new(),
            traces: OnceCell::new(),
            parents: OnceCell::new(),
            starts: OnceCell::new(),
            durations: OnceCell::new(),
            extras: OnceCell::new(),
        })
    }

    /// The class of each row.
    pub(crate) fn classes(&self) -> Result<&[u32], Corrupt> {
        let read = || {
            let numbers = ints::read(self.sections[0], self.head.spans)?;
            let class = |n: i64| match usize::try_from(n) {
                Ok(n) if n < self.head.classes.len() => Ok(n as u32),
                _ => Err(NOT_THERE),
            };
            numbers.into_iter().map(class).collect()
        };
        cached(&self.classes, read).map(|c: &Vec<u32>| &c[..])
    }

    pub(crate) fn traces(&self) -> Result<&TraceColumn, Corrupt> {
        cached(&self.traces, || {
            let mut r = Reader(self.sections[1]);
            let n = number(&mut r)?;
            let bytes = r.bytes(n.checked_mul(16).ok_or(Corrupt("more traces than bytes"))?)?;
            let ids: Vec<TraceId> = bytes.as_chunks::<16>().0.iter().map(|id| TraceId(*id)).collect();
            let mut numbers = Vec::with_capacity(self.head.spans);
            let (mut next, mut last) = (0i64, -1i64);
            for step in ints::read(r.0, self.head.spans)? {
                if step > 0 {
                    last = 1 + next - step;
                    next += i64::from(step == 1);
                }
                if !(0..n as i64).contains(&last) || step < 0 {
                    return Err(NOT_THERE);
                }
                numbers.push(last as u32);
            }
            Ok(TraceColumn { ids, numbers })
        })
    }

    pub(crate) fn span_id(&self, row: usize) -> SpanId {
        let id = self.sections[2].as_chunks::<8>().0.get(row);
        SpanId(id.copied().unwrap_or_default())
    }

    pub(crate) fn parents(&self) -> Result<&[SpanId], Corrupt> {
        cached(&self.parents, || self.read_parents()).map(|p| &p[..])
    }

    pub(crate) fn is_root(&self, row: usize) -> Result<bool, Corrupt> {
        Ok(self.parents()?[row].is_zero())
    }

    fn read_parents(&self) -> Result<Vec<SpanId>, Corrupt> {
        let mut r = Reader(self.sections[3]);
        let codes = ints::read(read_section(&mut r)?, self.head.spans)?;
        let parent = |(row, code): (usize, i64)| match code {
            0 => Ok(SpanId::default()),
            ELSEWHERE => r.array().map(SpanId),
            code if code > ELSEWHERE => {
                let at = row as i64 - unzigzag((code - ELSEWHERE) as u64);
                let there = usize::try_from(at).ok().filter(|at| *at < self.head.spans);
                there.map(|at| self.span_id(at)).ok_or(NOT_THERE)
            }
            _ => Err(NOT_THERE),
        };
        let parents = codes.into_iter().enumerate().map(parent).collect::<Result<Vec<_>, _>>()?;
        r.end()?;
        Ok(parents)
    }

    /// Start of each row, in nanoseconds.
    pub(crate) fn starts(&self) -> Result<&[u64], Corrupt> {
        let read = || {
            let traces = &self.traces()?.numbers;
            let changes = traces.len() - traces.windows(2).filter(|w| w[0] == w[1]).count();
            let firsts = ints::read(self.sections[4], changes)?;
            let gaps = ints::read(self.sections[5], traces.len() - changes)?;
            let (mut firsts, mut gaps) = (firsts.into_iter(), gaps.into_iter());
            let (mut first, mut last, mut before) = (self.head.oldest, 0u64, None);
            let mut starts = Vec::with_capacity(traces.len());
            for trace in traces {
                if before.replace(*trace) == Some(*trace) {
                    last = last.wrapping_add(gaps.next().unwrap_or(0) as u64);
                } else {
                    first = first.wrapping_add(firsts.next().unwrap_or(0) as u64);
                    last = first;
                }
                starts.push(last);
            }
            Ok(starts)
        };
        cached(&self.starts, read).map(|s| &s[..])
    }

    /// End less start of each row, in nanoseconds.
    pub(crate) fn durations(&self) -> Result<&[i64], Corrupt> {
        cached(&self.durations, || ints::read(self.sections[6], self.head.spans)).map(|d| &d[..])
    }

    /// The texts of a column of texts, without reading which span has which.
    pub(crate) fn list(&self, column: usize) -> Result<&TextList, Corrupt> {
        self.list_and_rest(column).map(|(list, _)| list)
    }

    fn list_and_rest(&self, column: usize) -> Result<&(TextList, &'a [u8]), Corrupt> {
        cached(&self.lists[column], || {
            let mut r = Reader(self.columns[column]);
            let list = TextList::read(&mut r)?;
            Ok((list, r.0))
        })
    }

    /// Values of a column; of texts, numbers into its list.
    pub(crate) fn numbers(&self, column: usize) -> Result<&[i64], Corrupt> {
        let counts = cached(&self.counts, || {
            let mut spans = vec![0usize; self.head.classes.len()];
            self.classes()?.iter().for_each(|c| spans[*c as usize] += 1);
            let mut counts = vec![0usize; self.head.columns.len()];
            for (class, spans) in spans.into_iter().enumerate() {
                self.head.shape(class).iter().for_each(|column| counts[*column] += spans);
            }
            Ok(counts)
        })?;
        let read = || {
            if !self.head.columns[column].kind.is_text() {
                return ints::read(self.columns[column], counts[column]);
            }
            let (list, rest) = self.list_and_rest(column)?;
            texts::read_numbers(rest, counts[column], list.len())
        };
        cached(&self.numbers[column], read).map(|n| &n[..])
    }

    /// Texts and rows of the extras.
    pub(crate) fn extras(&self) -> Result<&(TextList, Vec<u8>), Corrupt> {
        cached(&self.extras, || {
            let mut r = Reader(self.sections[7]);
            if r.0.is_empty() {
                return Ok(Default::default());
            }
            let list = TextList::read(&mut r)?;
            let rows = texts::read_bytes(&mut r)?;
            r.end()?;
            Ok((list, rows))
        })
    }

    /// For each of these ascending rows, where its values lie: one position for each column of its shape.
    pub(crate) fn positions(&self, rows: &[usize]) -> Result<Vec<Vec<usize>>, Corrupt> {
        let classes = self.classes()?;
        let mut next = vec![0usize; self.head.columns.len()];
        let mut out = Vec::with_capacity(rows.len());
        let mut row = 0;
        for wanted in rows {
            for class in &classes[row..*wanted] {
                self.head.shape(*class as usize).iter().for_each(|c| next[*c] += 1);
            }
            row = wanted + 1;
            let positions = self.head.shape(classes[*wanted] as usize).iter().map(|c| {
                next[*c] += 1;
                next[*c] - 1
            });
            out.push(positions.collect());
        }
        Ok(out)
    }

    /// These rows, which must ascend, as spans.
    pub(crate) fn spans(&self, rows: &[usize]) -> Result<Vec<Span>, Corrupt> {
        self.spans_in_part(rows, &SpanParts::default())
    }

    /// The same without what is not asked for.
    pub(crate) fn spans_in_part(&self, rows: &[usize], parts: &SpanParts) -> Result<Vec<Span>, Corrupt> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut made = Made::default();
        let (classes, traces, parents) = (self.classes()?, self.traces()?, self.parents()?);
        let (starts, durations) = (self.starts()?, self.durations()?);
        let is_wanted = |key: &str| parts.attributes.as_ref().is_none_or(|a| a.iter().any(|k| k == key));
        let is_attribute = |kind: Type| !matches!(kind, Type::TraceState | Type::StatusMessage);
        let columns = self.head.columns.iter();
        let wanted: Vec<bool> =
            columns.map(|c| !is_attribute(c.kind) || is_wanted(self.head.text(c.key))).collect();
        let has_surplus = self.head.classes.iter().any(|c| c.has_surplus);
        let extras = match parts.without_extras && !has_surplus {
            true => rows.iter().map(|_| None).collect(),
            false => self.extras_of(rows)?,
        };
        let positions = self.positions(rows)?;
        let mut spans = Vec::with_capacity(rows.len());
        for ((row, positions), extras) in rows.iter().zip(positions).zip(extras) {
            let row = *row;
            let class = &self.head.classes[classes[row] as usize];
            let mut span = Span {
                trace_id: traces.ids[traces.numbers[row] as usize],
                span_id: self.span_id(row),
                parent_span_id: parents[row],
                trace_state: made.empty(),
                resource: made.resource(&self.head, class.resource)?,
                scope: made.head_text(&self.head, class.scope),
                name: made.head_text(&self.head, class.name),
                kind: class.kind,
                start_nanos: starts[row],
                end_nanos: starts[row].wrapping_add(durations[row] as u64),
                status: class.status,
                status_message: made.empty(),
                attributes: Vec::with_capacity(positions.len()),
                events: Vec::new(),
                links: Vec::new(),
            };
            let values = self.head.shapes[class.shape].iter().zip(positions);
            for (column, position) in values.filter(|(c, _)| wanted[**c]) {
                self.put_value(&mut span, *column, position, &mut made)?;
            }
            if let Some(Extras { attributes, events, links }) = extras {
                span.attributes.extend(attributes.into_iter().filter(|(key, _)| is_wanted(key)));
                if !parts.without_extras {
                    (span.events, span.links) = (events, links);
                }
            }
            spans.push(span);
        }
        Ok(spans)
    }

    fn put_value(
        &self,
        span: &mut Span,
        column: usize,
        position: usize,
        made: &mut Made,
    ) -> Result<(), Corrupt> {
        let HeadColumn { key, kind, .. } = self.head.columns[column];
        let number = *self.numbers(column)?.get(position).ok_or(NOT_THERE)?;
        let value = if kind.is_text() {
            let text = made.column_text(column, self.list(column)?, number as usize)?;
            match kind {
                Type::TraceState => {
                    span.trace_state = text;
                    return Ok(());
                }
                Type::StatusMessage => {
                    span.status_message = text;
                    return Ok(());
                }
                Type::Json => AttributeValue::Json(text),
                _ => AttributeValue::String(text),
            }
        } else {
            extras::to_value(kind, number, &mut |_| Err(NOT_THERE))?
        };
        let key = made.head_text(&self.head, key);
        span.attributes.push((key, value));
        Ok(())
    }

    /// The extras of these ascending rows, `None` for those without.
    fn extras_of(&self, rows: &[usize]) -> Result<Vec<Option<Extras>>, Corrupt> {
        let classes = self.classes()?;
        let has = |row: usize| self.head.classes[classes[row] as usize].has_extras;
        let mut out: Vec<Option<Extras>> = rows.iter().map(|_| None).collect();
        if !self.head.classes.iter().any(|c| c.has_extras) {
            return Ok(out);
        }
        let starts = self.starts()?;
        let (list, bytes) = self.extras()?;
        let mut made: Vec<Option<Arc<str>>> = vec![None; list.len()];
        let mut text = |n: u32| {
            let known = made.get_mut(n as usize).ok_or(NOT_THERE)?;
            let text = list.get(n as usize).ok_or(NOT_THERE)?;
            Ok(known.get_or_insert_with(|| text.into()).clone())
        };
        let mut r = Reader(bytes);
        let mut wanted = rows.iter().copied().enumerate().peekable();
        for (row, start) in starts.iter().enumerate() {
            let Some((at, next)) = wanted.peek().copied() else { break };
            if has(row) {
                if next == row {
                    out[at] = Some(extras::read(&mut r, *start, &mut text)?);
                } else {
                    extras::copy(&mut r, &mut Vec::new(), &mut Ok)?;
                }
            }
            if next == row {
                wanted.next();
            }
        }
        Ok(out)
    }
}

/// Texts and resources that were made of one block already: spans share them.
#[derive(Default)]
struct Made {
    empty: Option<Arc<str>>,
    head: Vec<Option<Arc<str>>>,
    columns: Vec<Vec<Option<Arc<str>>>>,
    resources: Vec<Option<Arc<Resource>>>,
}

impl Made {
    fn empty(&mut self) -> Arc<str> {
        self.empty.get_or_insert_with(|| "".into()).clone()
    }

    fn head_text(&mut self, head: &Head, number: usize) -> Arc<str> {
        self.head.resize(head.texts.len(), None);
        self.head[number].get_or_insert_with(|| head.text(number).into()).clone()
    }

    fn column_text(&mut self, column: usize, list: &TextList, number: usize) -> Result<Arc<str>, Corrupt> {
        if self.columns.len() <= column {
            self.columns.resize_with(column + 1, Vec::new);
        }
        let made = &mut self.columns[column];
        made.resize(list.len(), None);
        let text = list.get(number).ok_or(NOT_THERE)?;
        Ok(made[number].get_or_insert_with(|| text.into()).clone())
    }

    fn resource(&mut self, head: &Head, number: usize) -> Result<Arc<Resource>, Corrupt> {
        self.resources.resize(head.resources.len(), None);
        if let Some(known) = &self.resources[number] {
            return Ok(known.clone());
        }
        let mut attributes: Attributes = Vec::new();
        for (key, kind, value) in &head.resources[number] {
            let mut text = |n: u32| Ok(self.head_text(head, n as usize));
            attributes.push((text(*key)?, extras::to_value(*kind, *value, &mut text)?));
        }
        let resource = Arc::new(Resource { attributes });
        self.resources[number] = Some(resource.clone());
        Ok(resource)
    }
}
