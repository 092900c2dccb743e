//! `Labels`: the identity of a series, a sorted set of name-value pairs.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Label names with a meaning of their own.
pub mod name {
    /// The metric's name is a label like any other.
    pub const METRIC: &str = "__name__";
    pub const JOB: &str = "job";
    pub const INSTANCE: &str = "instance";
    /// The service that a release belongs to; OpenTelemetry's `service.name`. `job` stands in where it is absent.
    pub const SERVICE: &str = "service";
    /// The version that tells baseline from canary; OpenTelemetry's `service.version`.
    pub const VERSION: &str = "version";
    /// Upper bound of a classic histogram's bucket.
    pub const LE: &str = "le";
    pub const QUANTILE: &str = "quantile";
}

/// One name with its value. Series share equal ones, so that each costs a series a pointer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label {
    /// The name, then the value.
    text: Box<str>,
    name_len: usize,
}

impl Label {
    pub fn new(name: &str, value: &str) -> Self {
        Self { text: [name, value].concat().into(), name_len: name.len() }
    }

    pub fn name(&self) -> &str {
        &self.text[..self.name_len]
    }

    pub fn value(&self) -> &str {
        &self.text[self.name_len..]
    }

    fn pair(&self) -> (&str, &str) {
        self.text.split_at(self.name_len)
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        self.pair().cmp(&other.pair())
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A sorted set of labels with unique names and no empty values. Cheap to clone; equal sets compare equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[Arc<Label>]>);

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        // Labels that are shared need not be read to be equal.
        let differing = self.0.iter().zip(other.0.iter()).find(|(a, b)| !Arc::ptr_eq(a, b) && a != b);
        differing.map_or_else(|| self.0.len().cmp(&other.0.len()), |(a, b)| a.cmp(b))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Labels {
    pub fn empty() -> Self {
        Self(Arc::new([]))
    }

    /// From pairs in any order. An empty value means "no such label"; of a repeated name the last pair wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (n, v) in pairs {
            builder.set(n.as_ref(), v.as_ref());
        }
        builder.build()
    }

    /// The label's value, `None` if it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|l| l.name().cmp(name)).ok().map(|i| self.0[i].value())
    }

    /// `__name__`, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.get(name::METRIC).unwrap_or("")
    }

    /// Pairs in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|l| l.pair())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same labels without those named.
    pub fn without(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|l| !names.contains(&l.name())).cloned().collect())
    }

    /// Only the labels named.
    pub fn only(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|l| names.contains(&l.name())).cloned().collect())
    }

    /// The same labels, each exchanged for an equal one that `intern` wants shared.
    pub fn interned(&self, intern: impl FnMut(&Arc<Label>) -> Arc<Label>) -> Self {
        Self(self.0.iter().map(intern).collect())
    }

    /// From labels that may be shared, in any order; of a repeated name the last wins.
    pub fn from_shared(labels: Vec<Arc<Label>>) -> Self {
        if labels.is_sorted_by(|a, b| a.name() < b.name()) && labels.iter().all(|l| !l.value().is_empty()) {
            return Self(labels.into());
        }
        Self::from_pairs(labels.iter().map(|l| l.pair()))
    }

    /// In the order of their names, as they are shared.
    pub fn shared(&self) -> &[Arc<Label>] {
        &self.0
    }

    pub fn builder(&self) -> LabelsBuilder {
        LabelsBuilder { labels: self.0.to_vec() }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

/// As PromQL writes a selector: `up{job="api"}`; names that are not plain identifiers are quoted.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric_name();
        let plain = is_identifier(metric);
        if plain {
            f.write_str(metric)?;
        }
        let mut rest = self.iter().filter(|(n, _)| !plain || *n != name::METRIC).peekable();
        if rest.peek().is_none() {
            return if metric.is_empty() { f.write_str("{}") } else { Ok(()) };
        }
        f.write_str("{")?;
        for (i, (n, v)) in rest.enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            if n == name::METRIC {
                write!(f, "{comma}{v:?}")?;
            } else if is_identifier(n) {
                write!(f, "{comma}{n}={v:?}")?;
            } else {
                write!(f, "{comma}{n:?}={v:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_identifier(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Changes a set of labels; what relabelling works on.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    labels: Vec<Arc<Label>>,
}

impl LabelsBuilder {
    pub fn get(&self, name: &str) -> &str {
        self.labels.iter().find(|l| l.name() == name).map_or("", |l| l.value())
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            return self.remove(name);
        }
        match self.labels.iter_mut().find(|l| l.name() == name) {
            Some(l) if l.value() == value => {}
            Some(l) => *l = Label::new(name, value).into(),
            None => self.labels.push(Label::new(name, value).into()),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.labels.retain(|l| l.name() != name);
        self
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.labels.retain(|l| keep(l.name(), l.value()));
        self
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|l| l.pair())
    }

    pub fn build(mut self) -> Labels {
        self.labels.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        Labels(self.labels.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_pairs_does_not_matter_and_empty_values_vanish() {
        let a = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]);
        let b = Labels::from_pairs([("a", "1"), ("b", "2")]);
        assert_eq!(a, b);
        assert_eq!(a.get("b"), Some("2"));
        assert_eq!(a.get("c"), None);
    }

    #[test]
    fn the_last_of_a_repeated_name_wins() {
        assert_eq!(Labels::from_pairs([("a", "1"), ("a", "2")]).get("a"), Some("2"));
    }

    #[test]
    fn displays_as_a_selector() {
        let check = |pairs: &[(&str, &str)], want: &str| {
            assert_eq!(Labels::from_pairs(pairs.iter().copied()).to_string(), want);
        };
        check(&[], "{}");
        check(&[("__name__", "up")], "up");
        check(&[("__name__", "up"), ("job", "a\"b")], r#"up{job="a\"b"}"#);
        check(
            &[("__name__", "http.requests"), ("http.code", "200")],
            r#"{"http.requests", "http.code"="200"}"#,
        );
    }

    #[test]
    fn projections_keep_order() {
        let l = Labels::from_pairs([("__name__", "x"), ("a", "1"), ("b", "2")]);
        assert_eq!(l.without(&["__name__"]), Labels::from_pairs([("a", "1"), ("b", "2")]));
        assert_eq!(l.only(&["b"]), Labels::from_pairs([("b", "2")]));
    }
}
