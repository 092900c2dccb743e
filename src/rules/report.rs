//! What was expected, what was got, and the difference, in promtool's words.

use std::collections::BTreeMap;

use davy_model::{Labels, Value};

use super::{histogram, series};

/// Something that is compared, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shown(Vec<String>);

impl Shown {
    pub(super) fn alert(labels: &Labels, annotations: &BTreeMap<String, String>) -> Self {
        let pairs = |all: &mut dyn Iterator<Item = (&str, &str)>| {
            let pairs: Vec<String> = all.map(|(n, v)| format!("{n}={v:?}")).collect();
            format!("{{{}}}", pairs.join(", "))
        };
        Self(vec![
            format!("Labels:{}", pairs(&mut labels.iter())),
            format!("Annotations:{}", pairs(&mut annotations.iter().map(|(n, v)| (n.as_str(), v.as_str())))),
        ])
    }
}

/// `None` if they are the same, in any order.
pub(super) fn alerts(mut expected: Vec<Shown>, mut got: Vec<Shown>) -> Option<String> {
    expected.sort();
    got.sort();
    if expected == got {
        return None;
    }
    let list = |all: &[Shown]| {
        if all.is_empty() {
            return "[]".to_owned();
        }
        let each = |(i, s): (usize, &Shown)| {
            let lines: String = s.0.iter().map(|l| format!("\n              {l}")).collect();
            format!("            {i}:{lines}")
        };
        let all: Vec<String> = all.iter().enumerate().map(each).collect();
        format!("[\n{}\n            ]", all.join(",\n"))
    };
    let whole = |s: &Shown| s.0.join(" ");
    let diff = difference(&expected, &got, whole);
    Some(format!("        exp:{},\n        got:{}\n        diff:\n{diff}", list(&expected), list(&got)))
}

/// `None` if they are the same, in any order; with `fuzzy` neighbouring numbers are the same.
pub(super) fn samples(
    mut expected: Vec<(Labels, Value)>,
    mut got: Vec<(Labels, Value)>,
    fuzzy: bool,
) -> Option<String> {
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    got.sort_by(|a, b| a.0.cmp(&b.0));
    let same = |(a, b): (&(Labels, Value), &(Labels, Value))| a.0 == b.0 && same_value(&a.1, &b.1, fuzzy);
    if expected.len() == got.len() && expected.iter().zip(&got).all(same) {
        return None;
    }
    let list = |all: &[(Labels, Value)]| {
        if all.is_empty() { "nil".to_owned() } else { all.iter().map(sample).collect::<Vec<_>>().join(", ") }
    };
    let diff = difference(&expected, &got, sample);
    Some(format!("        exp: {}\n        got: {}\n        diff:\n{diff}", list(&expected), list(&got)))
}

fn same_value(a: &Value, b: &Value, fuzzy: bool) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            let near = fuzzy && (a.next_up() == *b || a.next_down() == *b);
            a == b || near || (a.is_nan() && b.is_nan())
        }
        (Value::Histogram(a), Value::Histogram(b)) => histogram::expression(a) == histogram::expression(b),
        (Value::Float(_), Value::Histogram(_)) | (Value::Histogram(_), Value::Float(_)) => false,
    }
}

fn sample((labels, value): &(Labels, Value)) -> String {
    let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
    let value = match value {
        Value::Float(v) => series::scientific(*v),
        Value::Histogram(h) => histogram::expression(h),
    };
    format!("{{{}}} {value}", pairs.join(", "))
}

/// A line for each that only one side has: `-` expected, `+` got.
fn difference<T>(expected: &[T], got: &[T], shown: impl Fn(&T) -> String) -> String {
    let mut count: BTreeMap<String, i64> = BTreeMap::new();
    expected.iter().for_each(|e| *count.entry(shown(e)).or_default() -= 1);
    got.iter().for_each(|g| *count.entry(shown(g)).or_default() += 1);
    let line = |(text, n): (&String, &i64)| {
        let sign = if *n < 0 { '-' } else { '+' };
        std::iter::repeat_n(
            format!("          {sign} {text}"),
            usize::try_from(n.unsigned_abs()).unwrap_or(0),
        )
        .collect::<Vec<_>>()
    };
    count.iter().flat_map(line).collect::<Vec<_>>().join("\n")
}
