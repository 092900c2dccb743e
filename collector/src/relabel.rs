//! Relabelling: Prometheus' rewriting steps, for targets before they are scraped and for samples after.

use std::borrow::Cow;

use davy_model::LabelsBuilder;
use md5::{Digest, Md5};

use crate::config::{RelabelAction, RelabelConfig};

/// Applies the steps in order; `false` when one of them drops the whole.
pub fn process(labels: &mut LabelsBuilder, steps: &[RelabelConfig]) -> bool {
    steps.iter().all(|step| apply(labels, step))
}

fn apply(labels: &mut LabelsBuilder, step: &RelabelConfig) -> bool {
    let source = source(labels, step);
    match step.action {
        RelabelAction::Keep => return step.regex.is_match(&source),
        RelabelAction::Drop => return !step.regex.is_match(&source),
        RelabelAction::KeepEqual => return labels.get(&step.target_label) == source,
        RelabelAction::DropEqual => return labels.get(&step.target_label) != source,
        RelabelAction::Replace => replace(labels, step, &source),
        RelabelAction::Lowercase => {
            labels.set(&step.target_label, &source.to_lowercase());
        }
        RelabelAction::Uppercase => {
            labels.set(&step.target_label, &source.to_uppercase());
        }
        RelabelAction::HashMod => {
            let remainder = hash(&source) % step.modulus.max(1);
            labels.set(&step.target_label, &remainder.to_string());
        }
        RelabelAction::LabelMap => label_map(labels, step),
        RelabelAction::LabelDrop => {
            labels.retain(|name, _| !step.regex.is_match(name));
        }
        RelabelAction::LabelKeep => {
            labels.retain(|name, _| step.regex.is_match(name));
        }
    }
    true
}

/// Values of the source labels, joined; a missing label is the empty string.
fn source(labels: &LabelsBuilder, step: &RelabelConfig) -> String {
    let mut out = String::new();
    for (i, name) in step.source_labels.iter().enumerate() {
        if i > 0 {
            out.push_str(&step.separator);
        }
        out.push_str(labels.get(name));
    }
    out
}

fn replace(labels: &mut LabelsBuilder, step: &RelabelConfig, source: &str) {
    let Some(captures) = step.regex.captures(source) else { return };
    let expand = |template: &str| {
        let mut out = String::new();
        captures.expand(template, &mut out);
        out
    };
    let target = if step.target_label.contains('$') {
        Cow::Owned(expand(&step.target_label))
    } else {
        Cow::Borrowed(step.target_label.as_str())
    };
    if !target.is_empty() {
        labels.set(&target, &expand(&step.replacement));
    }
}

fn label_map(labels: &mut LabelsBuilder, step: &RelabelConfig) {
    let mapped: Vec<(String, String)> = labels
        .iter()
        .filter_map(|(name, value)| {
            let captures = step.regex.captures(name)?;
            let mut new = String::new();
            captures.expand(&step.replacement, &mut new);
            (!new.is_empty()).then(|| (new, value.to_owned()))
        })
        .collect();
    for (name, value) in mapped {
        labels.set(&name, &value);
    }
}

/// The last eight bytes of the MD5, big-endian: so says Prometheus, and shards agree across both.
fn hash(s: &str) -> u64 {
    let digest: [u8; 16] = Md5::digest(s).into();
    u64::from_be_bytes(*digest.last_chunk().expect("a digest has sixteen bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use davy_model::Labels;
    use regex::Regex;

    /// A step with Prometheus' defaults.
    fn step(
        action: RelabelAction,
        source: &[&str],
        regex: &str,
        target: &str,
        replacement: &str,
    ) -> RelabelConfig {
        RelabelConfig {
            source_labels: source.iter().map(|s| (*s).to_owned()).collect(),
            separator: ";".into(),
            target_label: target.into(),
            regex: Regex::new(&format!("^(?s:{regex})$")).unwrap(),
            modulus: 0,
            replacement: replacement.into(),
            action,
        }
    }

    fn check(input: &[(&str, &str)], steps: &[RelabelConfig], want: Option<&[(&str, &str)]>) {
        let mut labels = Labels::from_pairs(input.iter().copied()).builder();
        let kept = process(&mut labels, steps);
        let got = kept.then(|| labels.build());
        assert_eq!(got, want.map(|w| Labels::from_pairs(w.iter().copied())), "{steps:?}");
    }

    use RelabelAction::*;
    const ABC: &[(&str, &str)] = &[("a", "foo"), ("b", "bar"), ("c", "baz")];

    #[test]
    fn replace_expands_groups_into_target_and_value() {
        check(
            ABC,
            &[step(Replace, &["a"], "f(.*)", "d", "ch${1}-ch$1")],
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
        );
        check(
            ABC,
            &[step(Replace, &["a", "b"], "(.*);(.*)r", "d", "$2$1")],
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "bafoo")]),
        );
        check(
            &[("a", "some-name-value")],
            &[step(Replace, &["a"], "some-([^-]+)-([^,]+)", "${1}", "${2}")],
            Some(&[("a", "some-name-value"), ("name", "value")]),
        );
        check(
            ABC,
            &[step(Replace, &["missing"], "(.*)", "d", "fixed$$")],
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "fixed$")]),
        );
    }

    #[test]
    fn replace_is_anchored_and_an_empty_value_removes() {
        check(ABC, &[step(Replace, &["a"], "fo", "d", "x")], Some(ABC));
        check(ABC, &[step(Replace, &["a"], "(f).*", "b", "$2")], Some(&[("a", "foo"), ("c", "baz")]));
        check(ABC, &[step(Replace, &["a"], "(x?).*", "$1", "lost")], Some(ABC));
    }

    #[test]
    fn steps_see_what_the_steps_before_them_did() {
        let steps = [
            step(Replace, &["a"], "(.*)", "__tmp", "b$1"),
            step(Replace, &["__tmp"], "b(.*)", "a", "$1$1"),
            step(LabelDrop, &[], "__tmp", "", ""),
        ];
        check(ABC, &steps, Some(&[("a", "foofoo"), ("b", "bar"), ("c", "baz")]));
    }

    #[test]
    fn keep_and_drop() {
        check(ABC, &[step(Drop, &["a"], ".*o.*", "", "")], None);
        check(ABC, &[step(Drop, &["a"], "o", "", "")], Some(ABC));
        check(ABC, &[step(Keep, &["a", "b"], "foo;bar", "", "")], Some(ABC));
        check(ABC, &[step(Keep, &["a"], "no-match", "", "")], None);
        check(ABC, &[step(Drop, &["a"], "f.*", "", ""), step(Replace, &["b"], "b(.*)", "d", "$1")], None);
    }

    #[test]
    fn keep_and_drop_by_equality() {
        let twins: &[(&str, &str)] = &[("__tmp_port", "1234"), ("__port1", "1234"), ("__port2", "5678")];
        check(twins, &[step(DropEqual, &["__tmp_port"], ".*", "__port1", "")], None);
        check(twins, &[step(DropEqual, &["__tmp_port"], ".*", "__port2", "")], Some(twins));
        check(twins, &[step(KeepEqual, &["__tmp_port"], ".*", "__port1", "")], Some(twins));
        check(twins, &[step(KeepEqual, &["__tmp_port"], ".*", "__port2", "")], None);
    }

    #[test]
    fn hashmod_agrees_with_prometheus() {
        let shard =
            |source: &[&str], modulus| RelabelConfig { modulus, ..step(HashMod, source, ".*", "d", "") };
        // Expected values: Prometheus v3, model/relabel/relabel_test.go.
        check(ABC, &[shard(&["c"], 1000)], Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")]));
        check(&[("a", "foo\nbar")], &[shard(&["a"], 1000)], Some(&[("a", "foo\nbar"), ("d", "734")]));
    }

    #[test]
    fn labels_are_mapped_dropped_and_kept_by_name() {
        check(
            &[("a", "foo"), ("b1", "bar"), ("b2", "baz")],
            &[step(LabelMap, &[], "(b.*)", "", "bar_$1")],
            Some(&[("a", "foo"), ("b1", "bar"), ("b2", "baz"), ("bar_b1", "bar"), ("bar_b2", "baz")]),
        );
        check(
            &[("__meta_my_bar", "aaa"), ("__meta_other", "ccc")],
            &[step(LabelMap, &[], "__meta_(my.*)", "", "$1")],
            Some(&[("__meta_my_bar", "aaa"), ("__meta_other", "ccc"), ("my_bar", "aaa")]),
        );
        check(
            &[("a", "1"), ("b1", "2"), ("b2", "3")],
            &[step(LabelDrop, &[], "b.*", "", "")],
            Some(&[("a", "1")]),
        );
        check(
            &[("a", "1"), ("b1", "2"), ("b2", "3")],
            &[step(LabelKeep, &[], "b.*", "", "")],
            Some(&[("b1", "2"), ("b2", "3")]),
        );
    }

    #[test]
    fn case_is_changed() {
        let steps = [step(Lowercase, &["a"], ".*", "low", ""), step(Uppercase, &["a"], ".*", "UP", "")];
        check(
            &[("a", "bAr123Foo")],
            &steps,
            Some(&[("a", "bAr123Foo"), ("low", "bar123foo"), ("UP", "BAR123FOO")]),
        );
    }
}
