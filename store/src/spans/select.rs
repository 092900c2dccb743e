//! Which rows of a block a search asks for: by what the head says of each class, then by the few columns that are
//! needed.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use davy_model::{AttributeValue, Span, Timestamp, TraceId};

use super::batch::{Pair, Type};
use super::filter::{FieldValue, SpanField, SpanFilter, SpanSearch, SpanTest};
use super::open::{Head, OpenBlock};
use super::query::SpanQuery;
use crate::codec::Corrupt;

/// What remains to be asked of the spans of a class.
#[derive(Debug)]
pub(crate) enum Plan<'f> {
    Known(bool),
    /// The first value that a span of the class has in the column.
    Column(usize, &'f SpanTest),
    Duration(&'f SpanTest),
    IsRoot(&'f SpanTest),
    /// Rare enough for the span to be made and looked at.
    Span,
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
}

impl Plan<'_> {
    fn needs_span(&self) -> bool {
        match self {
            Self::Span => true,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::needs_span),
            Self::Not(inner) => inner.needs_span(),
            Self::Known(_) | Self::Column(..) | Self::Duration(_) | Self::IsRoot(_) => false,
        }
    }
}

impl OpenBlock<'_> {
    /// Rows that the search asks for, ascending.
    pub(crate) fn rows(&self, search: &SpanSearch) -> Result<Vec<usize>, Corrupt> {
        let Some(plans) = self.head.plans(search) else { return Ok(Vec::new()) };
        let mut rows = self.rows_of(search, &plans)?;
        let (oldest, newest) =
            (Timestamp::from_nanos(self.head.oldest), Timestamp::from_nanos(self.head.newest));
        if !rows.is_empty() && (oldest < search.from || search.to < newest) {
            let starts = self.starts()?;
            rows.retain(|row| {
                let start = Timestamp::from_nanos(starts[*row]);
                search.from <= start && start <= search.to
            });
        }
        Ok(rows)
    }

    /// The newest `limit` spans that the query asks for.
    pub(crate) fn find(&self, query: &SpanQuery, search: &SpanSearch) -> Result<Vec<Span>, Corrupt> {
        let mut rows = self.rows(search)?;
        if rows.len() > query.limit() {
            let starts = self.starts()?;
            rows.sort_by_key(|row| std::cmp::Reverse(starts[*row]));
            rows.truncate(query.limit());
            rows.sort_unstable();
        }
        self.spans(&rows)
    }

    /// Spans of any of these traces.
    pub(crate) fn traces_among(&self, ids: &HashSet<TraceId>) -> Result<Vec<Span>, Corrupt> {
        let traces = self.traces()?;
        let wanted: Vec<bool> = traces.ids.iter().map(|id| ids.contains(id)).collect();
        if !wanted.contains(&true) {
            return Ok(Vec::new());
        }
        let is_wanted = |row: &usize| wanted[traces.numbers[*row] as usize];
        self.spans(&(0..self.head.spans).filter(is_wanted).collect::<Vec<_>>())
    }

    /// The traces of these rows, each once, and the start of the newest of the rows in each.
    pub(crate) fn traces_of(&self, rows: &[usize]) -> Result<Vec<(TraceId, u64)>, Corrupt> {
        let (traces, starts) = (self.traces()?, self.starts()?);
        let mut newest: HashMap<u32, u64> = HashMap::new();
        for row in rows {
            let start = newest.entry(traces.numbers[*row]).or_default();
            *start = (*start).max(starts[*row]);
        }
        Ok(newest.into_iter().map(|(n, start)| (traces.ids[n as usize], start)).collect())
    }

    fn rows_of(&self, search: &SpanSearch, plans: &[Plan]) -> Result<Vec<usize>, Corrupt> {
        let needed = columns_of(plans);
        // How many values of each needed column a span of each class has.
        let widths: Vec<Vec<(usize, usize)>> = (0..plans.len())
            .map(|class| {
                let shape = self.head.shape(class);
                let width = |c: &usize| (*c, shape.iter().filter(|s| *s == c).count());
                needed.iter().map(width).filter(|(_, n)| *n > 0).collect()
            })
            .collect();
        let look = Look { block: self, answers: RefCell::default() };
        let slow: Vec<bool> = plans.iter().map(Plan::needs_span).collect();
        let mut next = vec![0usize; self.head.columns.len()];
        let (mut rows, mut unsure) = (Vec::new(), Vec::new());
        for (row, class) in self.classes()?.iter().enumerate() {
            let class = *class as usize;
            if slow[class] {
                unsure.push(row);
            } else if self.is_long_enough(search, row)? && look.holds(&plans[class], row, &next)? {
                rows.push(row);
            }
            widths[class].iter().for_each(|(column, n)| next[*column] += n);
        }
        if !unsure.is_empty() {
            let spans = self.spans(&unsure)?;
            let found = unsure.iter().zip(&spans).filter(|(_, span)| search.matches(span));
            rows.extend(found.map(|(row, _)| *row));
            rows.sort_unstable();
        }
        Ok(rows)
    }

    fn is_long_enough(&self, search: &SpanSearch, row: usize) -> Result<bool, Corrupt> {
        Ok(search.duration_nanos_min == 0 || self.nanos(row)? >= search.duration_nanos_min)
    }

    /// As [`Span::duration_nanos`].
    fn nanos(&self, row: usize) -> Result<u64, Corrupt> {
        let start = self.starts()?[row];
        Ok(start.wrapping_add(self.durations()?[row] as u64).saturating_sub(start))
    }
}

fn columns_of(plans: &[Plan]) -> Vec<usize> {
    fn add(plan: &Plan, columns: &mut Vec<usize>) {
        match plan {
            Plan::Column(column, _) => columns.push(*column),
            Plan::And(parts) | Plan::Or(parts) => parts.iter().for_each(|p| add(p, columns)),
            Plan::Not(inner) => add(inner, columns),
            Plan::Known(_) | Plan::Duration(_) | Plan::IsRoot(_) | Plan::Span => {}
        }
    }
    let mut columns = Vec::new();
    plans.iter().for_each(|p| add(p, &mut columns));
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Of each text in the list of a column, what a test says, once it was asked.
type Answers = HashMap<(usize, *const SpanTest), Vec<Option<bool>>>;

/// Asks what the head could not answer.
struct Look<'a, 'b> {
    block: &'a OpenBlock<'b>,
    answers: RefCell<Answers>,
}

impl Look<'_, '_> {
    /// `next` says where the values of the row begin in each column.
    fn holds(&self, plan: &Plan, row: usize, next: &[usize]) -> Result<bool, Corrupt> {
        Ok(match plan {
            Plan::Known(known) => *known,
            Plan::Column(column, test) => self.column(*column, next[*column], test)?,
            Plan::Duration(test) => (test.holds)(Some(FieldValue::Nanos(self.block.nanos(row)?))),
            Plan::IsRoot(test) => (test.holds)(Some(FieldValue::Bool(self.block.is_root(row)?))),
            Plan::Span => false,
            Plan::And(parts) => {
                for part in parts {
                    if !self.holds(part, row, next)? {
                        return Ok(false);
                    }
                }
                true
            }
            Plan::Or(parts) => {
                for part in parts {
                    if self.holds(part, row, next)? {
                        return Ok(true);
                    }
                }
                false
            }
            Plan::Not(inner) => !self.holds(inner, row, next)?,
        })
    }

    fn column(&self, column: usize, position: usize, test: &SpanTest) -> Result<bool, Corrupt> {
        let not_there = Corrupt("number of something that is not there");
        let number = *self.block.numbers(column)?.get(position).ok_or(not_there)?;
        let kind = self.block.head.columns[column].kind;
        if !kind.is_text() {
            return Ok((test.holds)(Some(plain_value(kind, number))));
        }
        let list = self.block.list(column)?;
        let mut answers = self.answers.borrow_mut();
        let answers =
            answers.entry((column, std::ptr::from_ref(test))).or_insert_with(|| vec![None; list.len()]);
        let known = answers.get_mut(number as usize).ok_or(not_there)?;
        let text = list.get(number as usize).ok_or(not_there)?;
        let value = if kind == Type::Json { FieldValue::Json(text) } else { FieldValue::Text(text) };
        Ok(*known.get_or_insert_with(|| (test.holds)(Some(value))))
    }
}

/// A value that is no text, from how a column has it.
fn plain_value<'a>(kind: Type, number: i64) -> FieldValue<'a> {
    match kind {
        Type::Bool => FieldValue::Bool(number != 0),
        Type::Double => FieldValue::Double(f64::from_bits(number as u64)),
        _ => FieldValue::Int(number),
    }
}

impl Head {
    /// What remains to be asked of each class; `None` if nothing in the block is asked for.
    pub(crate) fn plans<'f>(&self, search: &'f SpanSearch) -> Option<Vec<Plan<'f>>> {
        let outside = Timestamp::from_nanos(self.newest) < search.from
            || search.to < Timestamp::from_nanos(self.oldest);
        if outside || self.longest < search.duration_nanos_min {
            return None;
        }
        let plans: Vec<_> = (0..self.classes.len()).map(|n| self.plan(&search.filter, n)).collect();
        plans.iter().any(|p| !matches!(p, Plan::Known(false))).then_some(plans)
    }

    fn plan<'f>(&self, filter: &'f SpanFilter, class: usize) -> Plan<'f> {
        match filter {
            SpanFilter::All => Plan::Known(true),
            SpanFilter::Test(test) => self.plan_of_test(test, class),
            SpanFilter::And(parts) => self.plan_of_all(parts, class, false, Plan::And),
            SpanFilter::Or(parts) => self.plan_of_all(parts, class, true, Plan::Or),
            SpanFilter::Not(inner) => match self.plan(inner, class) {
                Plan::Known(known) => Plan::Known(!known),
                plan => Plan::Not(Box::new(plan)),
            },
        }
    }

    /// `decides` is what one part alone may say for all of them.
    fn plan_of_all<'f>(
        &self,
        parts: &'f [SpanFilter],
        class: usize,
        decides: bool,
        join: fn(Vec<Plan<'f>>) -> Plan<'f>,
    ) -> Plan<'f> {
        let mut left = Vec::new();
        for part in parts {
            match self.plan(part, class) {
                Plan::Known(known) if known == decides => return Plan::Known(decides),
                Plan::Known(_) => {}
                plan => left.push(plan),
            }
        }
        match left.len() {
            0 => Plan::Known(!decides),
            1 => left.remove(0),
            _ => join(left),
        }
    }

    fn plan_of_test<'f>(&self, test: &'f SpanTest, number: usize) -> Plan<'f> {
        let class = &self.classes[number];
        let known = |value: Option<FieldValue>| Plan::Known((test.holds)(value));
        let in_shape = |key: &str| self.column_of(self.shape(number), key);
        match &test.field {
            SpanField::Name => known(Some(FieldValue::Text(self.text(class.name)))),
            SpanField::Scope => known(Some(FieldValue::Text(self.text(class.scope)))),
            SpanField::Kind => known(Some(FieldValue::Kind(class.kind))),
            SpanField::Status => known(Some(FieldValue::Status(class.status))),
            SpanField::StatusMessage => {
                let is_message = |c: &&usize| self.columns[**c].kind == Type::StatusMessage;
                let column = self.shape(number).iter().find(is_message);
                column.map_or_else(|| known(None), |column| Plan::Column(*column, test))
            }
            SpanField::Duration => Plan::Duration(test),
            SpanField::IsRoot => Plan::IsRoot(test),
            SpanField::HasEvents | SpanField::HasLinks if !class.has_extras => {
                known(Some(FieldValue::Bool(false)))
            }
            SpanField::HasEvents | SpanField::HasLinks => Plan::Span,
            SpanField::Resource(key) => known(self.resource_value(class.resource, key)),
            SpanField::Span(key) | SpanField::Any(key) => match in_shape(key) {
                Some(column) => Plan::Column(column, test),
                None if class.has_surplus => Plan::Span,
                None if matches!(test.field, SpanField::Any(_)) => {
                    known(self.resource_value(class.resource, key))
                }
                None => known(None),
            },
        }
    }

    pub(crate) fn resource_value(&self, resource: usize, key: &str) -> Option<FieldValue<'_>> {
        let pairs: &[Pair] = &self.resources[resource];
        let (_, kind, value) = pairs.iter().find(|(k, _, _)| self.text(*k as usize) == key)?;
        Some(match kind {
            Type::Json => FieldValue::Json(self.text(*value as usize)),
            kind if kind.is_text() => FieldValue::Text(self.text(*value as usize)),
            kind => plain_value(*kind, *value),
        })
    }

    /// The column of the first attribute of this key in the shape: its value is the first that a span has there.
    fn column_of(&self, shape: &[usize], key: &str) -> Option<usize> {
        let is_key = |c: &usize| {
            let column = &self.columns[*c];
            !matches!(column.kind, Type::TraceState | Type::StatusMessage) && self.text(column.key) == key
        };
        shape.iter().copied().find(is_key)
    }
}

/// An owned copy.
pub(crate) fn owned(value: FieldValue) -> Option<AttributeValue> {
    Some(match value {
        FieldValue::Text(s) => AttributeValue::String(s.into()),
        FieldValue::Json(s) => AttributeValue::Json(s.into()),
        FieldValue::Bool(b) => AttributeValue::Bool(b),
        FieldValue::Int(i) => AttributeValue::Int(i),
        FieldValue::Double(d) => AttributeValue::Double(d),
        FieldValue::Nanos(_) | FieldValue::Kind(_) | FieldValue::Status(_) => return None,
    })
}
