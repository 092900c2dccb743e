//! Spans by how they stand to other spans of their trace: children, descendants, parents, ancestors, siblings.

use std::collections::{BTreeSet, HashMap};

use davy_model::SpanId;

use super::ast::Relation;
use super::trace::Trace;

/// Spans of `right` that stand so to a span of `left`, or with `not`, to none; with `both`, those of the left that
/// have such a span as well.
pub(crate) fn related(
    trace: &Trace,
    left: &[usize],
    right: &[usize],
    relation: Relation,
    not: bool,
    both: bool,
) -> Vec<usize> {
    let is_related = marks(trace, left, relation);
    let mut found: BTreeSet<usize> = right.iter().copied().filter(|span| is_related(*span) != not).collect();
    if both {
        let found_right: Vec<usize> = found.iter().copied().collect();
        let turned = match relation {
            Relation::Child => Relation::Parent,
            Relation::Parent => Relation::Child,
            Relation::Descendant => Relation::Ancestor,
            Relation::Ancestor => Relation::Descendant,
            Relation::Sibling => Relation::Sibling,
        };
        let is_left = marks(trace, &found_right, turned);
        found.extend(left.iter().copied().filter(|span| is_left(*span)));
    }
    found.into_iter().collect()
}

/// Whether a span stands so to any of `left`.
fn marks<'a>(trace: &'a Trace, left: &[usize], relation: Relation) -> Box<dyn Fn(usize) -> bool + 'a> {
    let mut is_left = vec![false; trace.spans.len()];
    left.iter().for_each(|span| is_left[*span] = true);
    match relation {
        Relation::Child => Box::new(move |span| trace.parent(span).is_some_and(|p| is_left[p])),
        Relation::Descendant => {
            let below = below(trace, &is_left);
            Box::new(move |span| below[span])
        }
        Relation::Parent => {
            let mut marked = vec![false; trace.spans.len()];
            left.iter().filter_map(|span| trace.parent(*span)).for_each(|p| marked[p] = true);
            Box::new(move |span| marked[span])
        }
        Relation::Ancestor => {
            let mut marked = vec![false; trace.spans.len()];
            for span in left {
                let mut at = trace.parent(*span);
                // What is marked was walked from before; that also ends a walk in a circle.
                while let Some(parent) = at.filter(|p| !std::mem::replace(&mut marked[*p], true)) {
                    at = trace.parent(parent);
                }
            }
            Box::new(move |span| marked[span])
        }
        Relation::Sibling => {
            let mut of_parent: HashMap<SpanId, usize> = HashMap::new();
            for span in left {
                *of_parent.entry(trace.spans[*span].parent_span_id).or_default() += 1;
            }
            Box::new(move |span| {
                let parent = trace.spans[span].parent_span_id;
                let siblings = of_parent.get(&parent).copied().unwrap_or(0);
                !parent.is_zero() && siblings > usize::from(is_left[span])
            })
        }
    }
}

/// For each span, whether one of its ancestors is on the left.
fn below(trace: &Trace, is_left: &[bool]) -> Vec<bool> {
    let mut known: Vec<Option<bool>> = vec![None; is_left.len()];
    for span in 0..is_left.len() {
        let mut path = Vec::new();
        let mut at = span;
        let answer = loop {
            if let Some(known) = known[at] {
                break known;
            }
            path.push(at);
            // Until the walk is over: spans that are each other's ancestors end here.
            known[at] = Some(false);
            match trace.parent(at) {
                Some(parent) if is_left[parent] => break true,
                Some(parent) => at = parent,
                None => break false,
            }
        };
        path.iter().for_each(|n| known[*n] = Some(answer));
    }
    known.into_iter().map(|k| k == Some(true)).collect()
}
