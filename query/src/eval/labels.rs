//! Functions that look at labels alone.

use std::collections::HashSet;

use davy_model::{Labels, MatchOp, name};

use super::{Evaluation, Sink};
use crate::ast::{Node, Selector};
use crate::{EvalError, Source};

/// A joined label may be joined with itself again and again: bytes that a made value may have.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a compiled expression in `label_replace`.
const REGEX_BYTES_MAX: usize = 1 << 20;

impl<S: Source> Evaluation<'_, S> {
    /// `label_replace(v, destination, replacement, source, regex)`.
    pub(super) fn label_replace(&self, args: &[Node], sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let [of, Node::Text(to), Node::Text(replacement), Node::Text(from), Node::Text(regex)] = args else {
            return Err(EvalError::Type {
                expected: "label_replace(v, \"to\", \"$1\", \"from\", \"regex\")",
            });
        };
        let compiled =
            regex::RegexBuilder::new(&format!("^(?s:{regex})$")).size_limit(REGEX_BYTES_MAX).build();
        let compiled = compiled.map_err(|_| EvalError::Regex { got: regex.clone() })?;
        check_label(to)?;
        self.relabelled(
            of,
            to,
            |labels| {
                let captures = compiled.captures(labels.get(from).unwrap_or(""))?;
                let mut value = String::new();
                captures.expand(replacement, &mut value);
                Some(value)
            },
            sink,
        )
    }

    /// `label_join(v, destination, separator, source...)`.
    pub(super) fn label_join(&self, args: &[Node], sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let expected = EvalError::Type { expected: "label_join(v, \"to\", \"separator\", \"from\"...)" };
        let [of, Node::Text(to), Node::Text(separator), from @ ..] = args else { return Err(expected) };
        check_label(to)?;
        let from: Vec<&str> = from
            .iter()
            .map(|n| match n {
                Node::Text(t) => Ok(t.as_str()),
                _ => Err(EvalError::Type { expected: "labels' names" }),
            })
            .collect::<Result<_, _>>()?;
        from.iter().try_for_each(|l| check_label(l))?;
        self.relabelled(
            of,
            to,
            |labels| {
                let values: Vec<&str> = from.iter().map(|l| labels.get(l).unwrap_or("")).collect();
                Some(values.join(separator))
            },
            sink,
        )
    }

    /// Series get the value that `change` makes, or stay; two may not become one.
    fn relabelled(
        &self,
        of: &Node,
        to: &str,
        change: impl Fn(&Labels) -> Option<String>,
        sink: &mut Sink<'_>,
    ) -> Result<(), EvalError> {
        let mut seen: HashSet<Labels, foldhash::fast::RandomState> = HashSet::default();
        self.vector(of, &mut |mut series| {
            if let Some(value) = change(&series.labels) {
                if value.len() > VALUE_BYTES_MAX {
                    return Err(EvalError::LabelValue { label: to.to_owned(), max: VALUE_BYTES_MAX });
                }
                series.labels = with(&series.labels, to, &value);
            }
            if !seen.insert(series.labels.clone()) {
                return Err(EvalError::SameLabels { labels: series.labels });
            }
            sink(series)
        })
    }
}

/// What a missing series would be labelled with: the labels that its selector names with one value.
pub(super) fn absent_labels(of: &Node) -> Labels {
    let (Node::Selector(Selector { matchers, .. }) | Node::Range { selector: Selector { matchers, .. }, .. }) =
        of
    else {
        return Labels::empty();
    };
    let mut labels = Labels::empty().builder();
    let mut seen = HashSet::new();
    for m in matchers.iter().filter(|m| m.name() != name::METRIC) {
        if m.op() == MatchOp::Equal && seen.insert(m.name()) {
            labels.set(m.name(), m.value());
        } else {
            labels.remove(m.name());
        }
    }
    labels.build()
}

fn check_label(label: &str) -> Result<(), EvalError> {
    if label.is_empty() { Err(EvalError::LabelName { got: label.to_owned() }) } else { Ok(()) }
}

/// An empty value is no label.
fn with(labels: &Labels, to: &str, value: &str) -> Labels {
    let mut builder = labels.builder();
    if value.is_empty() {
        builder.remove(to);
    } else {
        builder.set(to, value);
    }
    builder.build()
}

/// A float as `count_values` writes it: no exponent, however long.
pub(super) fn value_text(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        v.to_string()
    }
}
