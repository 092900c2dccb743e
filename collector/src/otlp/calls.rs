//! `Calls`: what one request says of the calls of one group, counted where the request is read, so that the one
//! thread that keeps the totals adds numbers and looks at no span.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use davy_model::{Resource, Span, SpanId, SpanKind, SpanStatus, TraceId};

use super::resource::instance;

/// Four buckets an octave from 1 ms to 16.384 s: neighbours differ by 19 %.
const BUCKETS_PER_OCTAVE: u32 = 4;
const OCTAVES: u32 = 14;
pub(crate) const BUCKETS: usize = (BUCKETS_PER_OCTAVE * OCTAVES + 1) as usize;

/// Upper bounds in nanoseconds and as `le` writes them.
pub(crate) fn bounds() -> &'static [(u64, String)] {
    static BOUNDS: OnceLock<Vec<(u64, String)>> = OnceLock::new();
    let bound = |i: usize| {
        let nanos = (1e6 * (i as f64 / f64::from(BUCKETS_PER_OCTAVE)).exp2()).round();
        (nanos as u64, (nanos / 1e9).to_string())
    };
    BOUNDS.get_or_init(|| (0..BUCKETS).map(bound).collect())
}

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    pub(crate) service: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) instance: Arc<str>,
    pub(crate) span_name: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
}

impl Group {
    pub(crate) fn new(
        resource: &Resource,
        span_name: Arc<str>,
        kind: &'static str,
        status: SpanStatus,
    ) -> Self {
        Self {
            service: resource.service().into(),
            version: resource.version().into(),
            instance: instance(resource).into(),
            span_name,
            kind,
            status: match status {
                SpanStatus::Unset => "STATUS_CODE_UNSET",
                SpanStatus::Ok => "STATUS_CODE_OK",
                SpanStatus::Error => "STATUS_CODE_ERROR",
            },
        }
    }
}

/// The slowest call, to be shown as an exemplar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowest {
    pub(crate) nanos: u64,
    pub(crate) bucket: usize,
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
}

#[derive(Debug, Clone)]
pub(crate) struct Calls {
    pub(crate) group: Group,
    /// The last bucket, +Inf, is the count itself.
    pub(crate) counts: [u64; BUCKETS],
    pub(crate) count: u64,
    pub(crate) sum_nanos: u128,
    pub(crate) slowest: Option<Slowest>,
}

impl Calls {
    pub(crate) fn new(group: Group) -> Self {
        Self { group, counts: [0; BUCKETS], count: 0, sum_nanos: 0, slowest: None }
    }

    pub(crate) fn count(&mut self, nanos: u64, trace_id: TraceId, span_id: SpanId) {
        let bucket = bounds().partition_point(|(bound, _)| *bound < nanos);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum_nanos += u128::from(nanos);
        if self.slowest.is_none_or(|s| nanos > s.nanos) {
            self.slowest = Some(Slowest { nanos, bucket, trace_id, span_id });
        }
    }

    /// Of these spans, in the order in which their groups first occur.
    pub(crate) fn of(spans: &[Span]) -> Vec<Self> {
        let mut calls: Vec<Self> = Vec::new();
        let mut numbers: HashMap<Group, usize> = HashMap::new();
        for span in spans {
            let Some(kind) = counted_kind(span.kind) else { continue };
            let group = Group::new(&span.resource, span.name.clone(), kind, span.status);
            let at = *numbers.entry(group).or_insert_with_key(|group| {
                calls.push(Self::new(group.clone()));
                calls.len() - 1
            });
            calls[at].count(span.duration_nanos(), span.trace_id, span.span_id);
        }
        calls
    }
}

/// As [`Span::duration_nanos`].
pub(crate) fn nanos(start: u64, end: u64) -> u64 {
    end.saturating_sub(start)
}

/// Spans in which the service answers somebody.
pub(crate) fn counted_kind(kind: SpanKind) -> Option<&'static str> {
    match kind {
        SpanKind::Server => Some("SPAN_KIND_SERVER"),
        SpanKind::Consumer => Some("SPAN_KIND_CONSUMER"),
        SpanKind::Unspecified | SpanKind::Internal | SpanKind::Client | SpanKind::Producer => None,
    }
}
