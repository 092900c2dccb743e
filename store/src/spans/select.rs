//! Which rows of a block a query asks for: by what the head says, then by the few columns that are needed.

use std::collections::HashMap;

use davy_model::{Span, SpanStatus, Timestamp, TraceId};

use super::batch::{Pair, Type};
use super::open::{Head, OpenBlock};
use super::query::SpanQuery;
use crate::codec::Corrupt;

impl OpenBlock<'_> {
    /// The newest `limit` spans that the query asks for.
    pub(crate) fn find(
        &self,
        query: &SpanQuery,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Span>, Corrupt> {
        let mut rows = self.rows(query, from, to)?;
        if rows.len() > query.limit() {
            let starts = self.starts()?;
            rows.sort_by_key(|row| std::cmp::Reverse(starts[*row]));
            rows.truncate(query.limit());
            rows.sort_unstable();
        }
        self.spans(&rows)
    }

    pub(crate) fn trace(&self, id: TraceId) -> Result<Vec<Span>, Corrupt> {
        let traces = self.traces()?;
        let Some(number) = traces.ids.iter().position(|t| *t == id) else { return Ok(Vec::new()) };
        let rows: Vec<usize> =
            (0..self.head.spans).filter(|row| traces.numbers[*row] as usize == number).collect();
        self.spans(&rows)
    }

    fn rows(&self, query: &SpanQuery, from: Timestamp, to: Timestamp) -> Result<Vec<usize>, Corrupt> {
        let Some(classes) = self.head.classes_of(query, from, to) else { return Ok(Vec::new()) };
        let mut rows = self.rows_of(query, &classes)?;
        let (oldest, newest) =
            (Timestamp::from_nanos(self.head.oldest), Timestamp::from_nanos(self.head.newest));
        if rows.is_empty() {
            return Ok(rows);
        }
        if oldest < from || to < newest {
            let starts = self.starts()?;
            rows.retain(|row| {
                let start = Timestamp::from_nanos(starts[*row]);
                from <= start && start <= to
            });
        }
        if let Some(min) = query.duration_min {
            let (starts, durations) = (self.starts()?, self.durations()?);
            rows.retain(|row| {
                let end = starts[*row].wrapping_add(durations[*row] as u64);
                u128::from(end.saturating_sub(starts[*row])) >= min.as_nanos()
            });
        }
        let surplus = |(class, candidate): (usize, &Candidate)| {
            !matches!(candidate, Candidate::No) && self.head.classes[class].has_surplus
        };
        if !query.attributes.is_empty() && classes.iter().enumerate().any(surplus) {
            // Rare enough to be made and looked at.
            let spans = self.spans(&rows)?;
            let meets = spans.iter().map(|span| query.matches(span, from, to));
            rows = rows.into_iter().zip(meets).filter(|(_, meets)| *meets).map(|(row, _)| row).collect();
        }
        Ok(rows)
    }

    /// Rows of the candidates whose values are those that are wanted.
    fn rows_of(&self, query: &SpanQuery, classes: &[Candidate]) -> Result<Vec<usize>, Corrupt> {
        let mut wanted: HashMap<(usize, usize), Wanted> = HashMap::new();
        let mut needs =
            classes.iter().filter_map(|c| if let Candidate::If(needs) = c { Some(needs) } else { None });
        needs.try_for_each(|needs| {
            needs.iter().try_for_each(|need| {
                if !wanted.contains_key(need) {
                    wanted.insert(*need, self.wanted(need.1, &query.attributes[need.0].1)?);
                }
                Ok(())
            })
        })?;
        let test = |(condition, column): &(usize, usize)| match &wanted[&(*condition, *column)] {
            Wanted::Nothing => Ok(None),
            wanted => self.numbers(*column).map(|values| Some((wanted, values, *column))),
        };
        let tests = classes.iter().map(|c| match c {
            Candidate::No => Ok(None),
            Candidate::Yes => Ok(Some(Vec::new())),
            Candidate::If(needs) => needs.iter().map(test).collect::<Result<Option<Vec<_>>, _>>(),
        });
        let tests = tests.collect::<Result<Vec<_>, _>>()?;
        if tests.iter().all(Option::is_none) {
            return Ok(Vec::new());
        }
        let mut needed: Vec<usize> = wanted.keys().map(|(_, column)| *column).collect();
        needed.sort_unstable();
        needed.dedup();
        // How many values of each needed column a span of each class has.
        let widths: Vec<Vec<(usize, usize)>> = (0..classes.len())
            .map(|class| {
                let shape = self.head.shape(class);
                let width = |c: &usize| (*c, shape.iter().filter(|s| *s == c).count());
                needed.iter().map(width).filter(|(_, n)| *n > 0).collect()
            })
            .collect();
        let mut next = vec![0usize; self.head.columns.len()];
        let mut rows = Vec::new();
        for (row, class) in self.classes()?.iter().enumerate() {
            let class = *class as usize;
            if let Some(tests) = &tests[class]
                && tests.iter().all(|(wanted, values, column)| wanted.is(values.get(next[*column])))
            {
                rows.push(row);
            }
            widths[class].iter().for_each(|(column, n)| next[*column] += n);
        }
        Ok(rows)
    }

    fn wanted(&self, column: usize, value: &str) -> Result<Wanted, Corrupt> {
        let number = |n: Option<i64>| n.map_or(Wanted::Nothing, Wanted::Number);
        Ok(match self.head.columns[column].kind {
            Type::Bool => number(value.parse::<bool>().ok().map(i64::from)),
            Type::Int => number(value.parse::<i64>().ok().filter(|i| i.to_string() == value)),
            Type::Double => Wanted::Double(value.to_owned()),
            _ => number(self.list(column)?.find(value).map(|n| n as i64)),
        })
    }
}

/// What the head knows of the spans of a class.
#[derive(Debug)]
pub(crate) enum Candidate {
    /// None is asked for.
    No,
    /// All are, but for their times.
    Yes,
    /// Those are whose first value in each column is what the condition wants: number of the condition, column.
    If(Vec<(usize, usize)>),
}

enum Wanted {
    Nothing,
    Number(i64),
    /// Compared as they are written.
    Double(String),
}

impl Wanted {
    fn is(&self, got: Option<&i64>) -> bool {
        match (self, got) {
            (Self::Number(want), Some(got)) => want == got,
            (Self::Double(want), Some(bits)) => f64::from_bits(*bits as u64).to_string() == *want,
            (Self::Nothing, _) | (_, None) => false,
        }
    }
}

impl Head {
    /// What is known of each class; `None` if nothing in the block is asked for.
    pub(crate) fn classes_of(
        &self,
        query: &SpanQuery,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<Vec<Candidate>> {
        let outside = Timestamp::from_nanos(self.newest) < from || to < Timestamp::from_nanos(self.oldest);
        if outside || query.duration_min.is_some_and(|d| u128::from(self.longest) < d.as_nanos()) {
            return None;
        }
        let met: Vec<Option<Vec<bool>>> = self.resources.iter().map(|r| self.met_by(query, r)).collect();
        let classes: Vec<_> = (0..self.classes.len()).map(|n| self.candidate(query, n, &met)).collect();
        classes.iter().any(|c| !matches!(c, Candidate::No)).then_some(classes)
    }

    fn candidate(&self, query: &SpanQuery, number: usize, met: &[Option<Vec<bool>>]) -> Candidate {
        let class = &self.classes[number];
        let Some(met) = &met[class.resource] else { return Candidate::No };
        let is_name = query.operation.as_deref().is_none_or(|o| o == self.text(class.name));
        let is_status = !query.errors_only || class.status == SpanStatus::Error;
        if !is_name || !is_status {
            return Candidate::No;
        }
        // Attributes outside the columns are looked at span by span.
        if class.has_surplus || met.iter().all(|m| *m) {
            return Candidate::Yes;
        }
        let unmet = (0..met.len()).filter(|n| !met[*n]);
        let needs = unmet.map(|n| Some((n, self.column_of(self.shape(number), &query.attributes[n].0)?)));
        needs.collect::<Option<Vec<_>>>().map_or(Candidate::No, Candidate::If)
    }

    /// Which of the conditions on attributes the resource meets; `None` if it is of another service or version.
    fn met_by(&self, query: &SpanQuery, pairs: &[Pair]) -> Option<Vec<bool>> {
        let get = |key: &str| pairs.iter().find(|(k, _, _)| self.text(*k as usize) == key);
        let text = |key: &str| match get(key) {
            Some((_, Type::String, value)) => self.text(*value as usize),
            _ => "",
        };
        let is = |want: &Option<String>, key: &str| want.as_deref().is_none_or(|w| w == text(key));
        if !is(&query.service, "service.name") || !is(&query.version, "service.version") {
            return None;
        }
        let meets = |(key, want): &(String, String)| {
            get(key).is_some_and(|(_, kind, value)| match kind {
                Type::Bool => (*value != 0).to_string() == *want,
                Type::Int => value.to_string() == *want,
                Type::Double => f64::from_bits(*value as u64).to_string() == *want,
                _ => self.text(*value as usize) == want,
            })
        };
        Some(query.attributes.iter().map(meets).collect())
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
