//! `Trace`: the spans of one trace and how they stand to each other.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use davy_model::{Span, SpanId, Timestamp, TraceId};

#[derive(Debug)]
pub struct Trace {
    /// By start time; at least one.
    pub spans: Vec<Span>,
    shape: OnceCell<Shape>,
}

/// Places in a nested set: a span lies within another exactly if its numbers do. Zero for spans whose parent is not
/// there, and what is below them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Nested {
    pub(crate) left: i64,
    pub(crate) right: i64,
    /// The parent's `left`; -1 of a root.
    pub(crate) parent: i64,
}

#[derive(Debug)]
struct Shape {
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    root: Option<usize>,
    nested: Vec<Nested>,
}

/// What is known of a service's part in a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceStats {
    pub spans: u64,
    pub errors: u64,
}

impl Trace {
    /// Of the spans of one trace; `None` without any.
    pub fn new(mut spans: Vec<Span>) -> Option<Self> {
        // Whoever sends an id twice must not have the answer hang on the order in which the spans came.
        let place = |s: &Span| (s.start_nanos, s.span_id, s.parent_span_id, s.end_nanos);
        spans.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name)));
        (!spans.is_empty()).then_some(Self { spans, shape: OnceCell::new() })
    }

    /// Spans of any traces, for what each says alone.
    pub(crate) fn unrelated(spans: Vec<Span>) -> Self {
        Self { spans, shape: OnceCell::new() }
    }

    pub fn id(&self) -> TraceId {
        self.spans[0].trace_id
    }

    /// Start of the first span, in nanoseconds.
    pub fn start_nanos(&self) -> u64 {
        self.spans[0].start_nanos
    }

    /// From the first start to the last end.
    pub fn duration_nanos(&self) -> u64 {
        let end = self.spans.iter().map(|s| s.end_nanos).max().unwrap_or(0);
        end.saturating_sub(self.start_nanos())
    }

    /// The first span without a parent.
    pub fn root(&self) -> Option<usize> {
        self.shape().root
    }

    pub(crate) fn parent(&self, span: usize) -> Option<usize> {
        self.shape().parents[span]
    }

    pub(crate) fn child_count(&self, span: usize) -> usize {
        self.shape().children[span].len()
    }

    pub(crate) fn nested(&self, span: usize) -> Nested {
        self.shape().nested[span]
    }

    /// By service.
    pub fn services(&self) -> BTreeMap<&str, ServiceStats> {
        let mut services: BTreeMap<&str, ServiceStats> = BTreeMap::new();
        for span in &self.spans {
            let stats = services.entry(span.resource.service()).or_default();
            stats.spans += 1;
            stats.errors += u64::from(span.status == davy_model::SpanStatus::Error);
        }
        services
    }

    /// Whether the span started within the range.
    pub(crate) fn is_within(&self, span: usize, from: Timestamp, to: Timestamp) -> bool {
        let start = Timestamp::from_nanos(self.spans[span].start_nanos);
        from <= start && start <= to
    }

    fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::of(&self.spans))
    }
}

impl Shape {
    fn of(spans: &[Span]) -> Self {
        let mut by_id: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
        for (n, span) in spans.iter().enumerate() {
            by_id.entry(span.span_id).or_insert(n);
        }
        let parent = |(n, span): (usize, &Span)| match span.parent_span_id.is_zero() {
            true => None,
            false => by_id.get(&span.parent_span_id).copied().filter(|p| *p != n),
        };
        let parents: Vec<Option<usize>> = spans.iter().enumerate().map(parent).collect();
        let mut children = vec![Vec::new(); spans.len()];
        for (n, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(n);
            }
        }
        let roots: Vec<usize> = (0..spans.len()).filter(|n| spans[*n].parent_span_id.is_zero()).collect();
        let nested = nested(&roots, &children);
        Self { parents, children, root: roots.first().copied(), nested }
    }
}

/// A walk without recursion: traces can be as deep as their senders like. Only roots are begun at, so that spans that
/// are each other's ancestors are never walked.
fn nested(roots: &[usize], children: &[Vec<usize>]) -> Vec<Nested> {
    let mut nested = vec![Nested::default(); children.len()];
    let mut next = 1;
    for root in roots {
        nested[*root] = Nested { left: next, right: 0, parent: -1 };
        next += 1;
        let mut path = vec![(*root, 0)];
        while let Some((span, child)) = path.last_mut() {
            let (at, child_number) = (*span, *child);
            *child += 1;
            match children[at].get(child_number) {
                Some(child) => {
                    nested[*child] = Nested { left: next, right: 0, parent: nested[at].left };
                    next += 1;
                    path.push((*child, 0));
                }
                None => {
                    nested[at].right = next;
                    next += 1;
                    path.pop();
                }
            }
        }
    }
    nested
}
