//! A query over a snapshot: blocks newest first, the traces of the spans that columns pointed at whole, until there
//! are enough.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use davy_model::{SpanId, Timestamp, TraceId};
use davy_store::Snapshot;

use super::ast::{Query, Stage, Value};
use super::eval::Spanset;
use super::field::{Field, Intrinsic};
use super::trace::{ServiceStats, Trace};
use crate::Cancel;

/// Traces that one query looks at.
const TRACES_MAX: usize = 1_000_000;
/// Traces that are read from the store together.
const TRACES_AT_ONCE: usize = 64;

/// Both ends within.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub from: Timestamp,
    pub to: Timestamp,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub traces: usize,
    /// Spans of a set that are shown; all are counted.
    pub spans_per_set: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    #[error("the query took too long: narrow its range or add a condition on a service or an attribute")]
    Canceled,
    #[error("the query looks at more than {TRACES_MAX} traces: narrow its range or add a condition")]
    TooMany,
    #[error("the answer has more than {max} {what}: narrow the range, use a longer step or group by less")]
    TooLarge { max: usize, what: &'static str },
    #[error("the query asks for metrics: use /api/metrics/query_range")]
    IsMetrics,
    #[error("the query asks for traces: add a function of metrics, as in | rate()")]
    NoMetrics,
}

/// A trace that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceHit {
    pub id: TraceId,
    /// Empty if the root is not there.
    pub root_service: String,
    pub root_name: String,
    pub start_nanos: u64,
    pub duration_nanos: u64,
    pub services: BTreeMap<String, ServiceStats>,
    pub sets: Vec<SetHit>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SetHit {
    pub matched: usize,
    pub spans: Vec<SpanHit>,
    pub attributes: Vec<(String, Value)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SpanHit {
    pub id: SpanId,
    pub name: String,
    pub start_nanos: u64,
    pub duration_nanos: u64,
    /// What the query names, where the span has it.
    pub attributes: Vec<(String, Value)>,
}

/// The newest traces that the query asks for, by their newest span that it picks and that started in the range.
pub fn search(
    query: &Query,
    snapshot: &Snapshot,
    range: Range,
    limits: Limits,
    cancel: &Cancel,
) -> Result<Vec<TraceHit>, SearchError> {
    if query.is_metrics() {
        return Err(SearchError::IsMetrics);
    }
    let fields = query.shown_fields();
    let mut found = Newest { limit: limits.traces, hits: Vec::new() };
    each_trace(query, snapshot, range, cancel, Some(limits.traces), &mut |trace, sets| {
        let picked =
            sets.iter().flat_map(|set| &set.spans).filter(|s| trace.is_within(**s, range.from, range.to));
        if let Some(newest) = picked.map(|s| trace.spans[*s].start_nanos).max() {
            found.add(newest, || TraceHit::new(trace, sets, &fields, limits.spans_per_set));
        }
        Ok(found.oldest())
    })?;
    Ok(found.hits.into_iter().map(|(_, hit)| hit).collect())
}

/// The hits to keep, newest first.
struct Newest {
    limit: usize,
    hits: Vec<(u64, TraceHit)>,
}

impl Newest {
    fn add(&mut self, newest: u64, hit: impl FnOnce() -> TraceHit) {
        let hit = hit();
        let place = self.hits.partition_point(|(n, h)| (*n, h.id) > (newest, hit.id));
        if place < self.limit {
            self.hits.insert(place, (newest, hit));
            self.hits.truncate(self.limit);
        }
    }

    /// What is older need not be looked at.
    fn oldest(&self) -> Option<u64> {
        (self.hits.len() >= self.limit).then(|| self.hits.last().map_or(0, |(n, _)| *n))
    }
}

/// Is handed a trace and the sets that the query makes of it. Once it names a start, traces whose spans in the range
/// are all older are left out.
pub(crate) type Visit<'a> = dyn FnMut(&Trace, &[Spanset]) -> Result<Option<u64>, SearchError> + 'a;

/// Visits each trace that has spans which the query may pick in the range, newest first. `enough` is how many will do.
pub(crate) fn each_trace(
    query: &Query,
    snapshot: &Snapshot,
    range: Range,
    cancel: &Cancel,
    enough: Option<usize>,
    visit: &mut Visit,
) -> Result<(), SearchError> {
    let at_once = enough.map_or(TRACES_AT_ONCE, |n| n.clamp(TRACES_AT_ONCE / 8, TRACES_AT_ONCE));
    let mut walk = Walk {
        query,
        snapshot,
        cancel,
        visit,
        at_once,
        seen: HashSet::new(),
        waiting: Vec::new(),
        oldest: None,
    };
    let mut failed = Ok(());
    snapshot.visit_traces(&query.search(range.from, range.to), &mut |visited| match walk
        .take(&visited.found, visited.rest_until)
    {
        Ok(flow) => flow,
        Err(error) => {
            failed = Err(error);
            ControlFlow::Break(())
        }
    });
    failed
}

struct Walk<'a, 'v> {
    query: &'a Query,
    snapshot: &'a Snapshot,
    cancel: &'a Cancel,
    visit: &'a mut Visit<'v>,
    at_once: usize,
    seen: HashSet<TraceId>,
    /// Traces to look at, each with the start of the span that pointed at it.
    waiting: Vec<(u64, TraceId)>,
    /// What is older need not be looked at.
    oldest: Option<u64>,
}

impl Walk<'_, '_> {
    /// Of one block; `rest_until` bounds what the others have.
    fn take(
        &mut self,
        found: &[(TraceId, u64)],
        rest_until: Option<Timestamp>,
    ) -> Result<ControlFlow<()>, SearchError> {
        if self.cancel.is_raised() {
            return Err(SearchError::Canceled);
        }
        let is_wanted = |(id, start): &&(TraceId, u64)| self.is_wanted(*start, id);
        let wanted: Vec<_> = found.iter().filter(is_wanted).map(|(id, start)| (*start, *id)).collect();
        self.waiting.extend(wanted);
        if self.waiting.len() >= self.at_once || rest_until.is_none() || self.is_over(rest_until) {
            self.look()?;
        }
        Ok(if self.is_over(rest_until) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// One that is left out as too old is met again if another block has newer spans of it.
    fn is_wanted(&self, start: u64, id: &TraceId) -> bool {
        self.oldest.is_none_or(|oldest| start >= oldest) && !self.seen.contains(id)
    }

    fn is_over(&self, rest_until: Option<Timestamp>) -> bool {
        let oldest = self.oldest.map(Timestamp::from_nanos);
        oldest.is_some_and(|oldest| rest_until.is_none_or(|rest| rest < oldest))
    }

    /// At all that wait, newest first.
    fn look(&mut self) -> Result<(), SearchError> {
        self.waiting.sort_unstable();
        while !self.waiting.is_empty() {
            if self.cancel.is_raised() {
                return Err(SearchError::Canceled);
            }
            let some = self.waiting.split_off(self.waiting.len().saturating_sub(self.at_once));
            let wanted = some.iter().filter(|(start, id)| self.is_wanted(*start, id));
            let wanted: HashSet<TraceId> = wanted.map(|(_, id)| *id).collect();
            if self.seen.len() + wanted.len() > TRACES_MAX {
                return Err(SearchError::TooMany);
            }
            if wanted.is_empty() {
                continue;
            }
            let traces = self.snapshot.traces(&wanted);
            self.seen.extend(wanted);
            for trace in traces.into_values().filter_map(Trace::new) {
                let sets = self.query.eval(&trace);
                if !sets.is_empty() {
                    self.oldest = (self.visit)(&trace, &sets)?;
                }
            }
        }
        Ok(())
    }
}

impl Query {
    /// Fields that the query names and that are shown with each span, each once.
    fn shown_fields(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        let mut add = |field: &Field| {
            let is_shown_anyway = matches!(field, Field::Intrinsic(Intrinsic::Name | Intrinsic::Duration));
            if !is_shown_anyway && !fields.contains(field) {
                fields.push(field.clone());
            }
        };
        self.spansets.filters(&mut |filter| filter.fields(&mut |f| add(f)));
        for stage in &self.stages {
            match stage {
                Stage::Keep(kept) => kept.filters(&mut |filter| filter.fields(&mut |f| add(f))),
                Stage::Select(selected) => selected.iter().for_each(&mut add),
                Stage::By(expr) => expr.fields(&mut |f| add(f)),
                Stage::Compare(..) | Stage::Coalesce => {}
            }
        }
        fields
    }
}

impl TraceHit {
    fn new(trace: &Trace, sets: &[Spanset], fields: &[Field], spans_per_set: usize) -> Self {
        let root = trace.root().map(|root| &trace.spans[root]);
        let set = |set: &Spanset| SetHit {
            matched: set.spans.len(),
            spans: set.spans.iter().take(spans_per_set).map(|s| SpanHit::new(trace, *s, fields)).collect(),
            attributes: set.attributes.clone(),
        };
        Self {
            id: trace.id(),
            root_service: root.map_or("", |r| r.resource.service()).to_owned(),
            root_name: root.map_or("", |r| &r.name).to_owned(),
            start_nanos: trace.start_nanos(),
            duration_nanos: trace.duration_nanos(),
            services: trace.services().into_iter().map(|(s, stats)| (s.to_owned(), stats)).collect(),
            sets: sets.iter().map(set).collect(),
        }
    }
}

impl SpanHit {
    fn new(trace: &Trace, span: usize, fields: &[Field]) -> Self {
        let mut attributes: Vec<(String, Value)> = Vec::new();
        for field in fields {
            let value = field.value(trace, span);
            if value != Value::Nil && !attributes.iter().any(|(name, _)| name == field.name()) {
                attributes.push((field.name().to_owned(), value));
            }
        }
        let span = &trace.spans[span];
        Self {
            id: span.span_id,
            name: span.name.as_ref().to_owned(),
            start_nanos: span.start_nanos,
            duration_nanos: span.duration_nanos(),
            attributes,
        }
    }
}
