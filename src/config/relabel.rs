//! `relabel_configs` and `metric_relabel_configs`, checked as Prometheus 3 checks them.

use davy_collector::config::{RelabelAction, RelabelConfig};
use regex::{Regex, RegexBuilder};

use super::reader::{Field, Section};
use super::value::label_name;

const REGEX_SOURCE_BYTES_MAX: usize = 1024;
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;

const ACTIONS: [(&str, RelabelAction); 11] = [
    ("replace", RelabelAction::Replace),
    ("keep", RelabelAction::Keep),
    ("drop", RelabelAction::Drop),
    ("keepequal", RelabelAction::KeepEqual),
    ("dropequal", RelabelAction::DropEqual),
    ("hashmod", RelabelAction::HashMod),
    ("labelmap", RelabelAction::LabelMap),
    ("labeldrop", RelabelAction::LabelDrop),
    ("labelkeep", RelabelAction::LabelKeep),
    ("lowercase", RelabelAction::Lowercase),
    ("uppercase", RelabelAction::Uppercase),
];

pub(super) fn read(field: &Field<'_>) -> Option<RelabelConfig> {
    field.section(|s| {
        let action = s.or("action", RelabelAction::Replace, action);
        let source_labels = s.get("source_labels");
        let separator = s.get("separator");
        let target_label = s.get("target_label");
        let regex_field = s.get("regex");
        let modulus_field = s.get("modulus");
        let replacement_field = s.get("replacement");

        let given = [
            ("source_labels", source_labels.is_some()),
            ("separator", separator.is_some()),
            ("target_label", target_label.is_some()),
            ("regex", regex_field.is_some()),
            ("modulus", modulus_field.is_some()),
            ("replacement", replacement_field.is_some()),
        ];
        check_keys(s, action, &given);

        let sources = source_labels.map(|f| f.items()).unwrap_or_default();
        let source_labels =
            sources.iter().filter_map(|f| f.parse(|t| label_name(t).map(|()| t.to_owned()))).collect();
        let target_label = target_label.and_then(|f| f.parse(|t| target(t, action)));
        let regex = regex_field.map_or_else(|| anchored("(.*)").ok(), |f| f.parse(anchored));
        let modulus = modulus_field.map_or(Some(0), |f| match f.u64()? {
            0 => {
                f.error("got 0, expected a modulus from 1");
                None
            }
            m => Some(m),
        });
        let replacement = replacement_field.map_or(Some("$1"), |f| f.text());
        Some(RelabelConfig {
            source_labels,
            separator: separator.map_or(Some(";"), |f| f.text())?.to_owned(),
            target_label: target_label.unwrap_or_default(),
            regex: regex?,
            modulus: modulus?,
            replacement: replacement?.to_owned(),
            action,
        })
    })
}

/// Prometheus takes actions in any case.
fn action(field: &Field<'_>) -> Option<RelabelAction> {
    let lower = field.text()?.to_ascii_lowercase();
    match ACTIONS.iter().find(|(name, _)| *name == lower) {
        Some((_, action)) => Some(*action),
        None => field.one_of(&ACTIONS),
    }
}

/// Which keys the action needs, and which make no sense with it, by Prometheus' rules.
fn check_keys(s: &Section<'_>, action: RelabelAction, given: &[(&str, bool)]) {
    use RelabelAction as A;
    let name = ACTIONS.iter().find(|(_, a)| *a == action).map_or("", |(n, _)| *n);
    let (needed, unused): (&[&str], &[&str]) = match action {
        A::Replace | A::Lowercase | A::Uppercase => (&["target_label"], &[]),
        A::KeepEqual | A::DropEqual => (&["target_label"], &["separator", "regex", "modulus", "replacement"]),
        A::HashMod => (&["target_label", "modulus"], &[]),
        A::LabelDrop | A::LabelKeep => {
            (&[], &["source_labels", "separator", "target_label", "modulus", "replacement"])
        }
        A::Keep | A::Drop | A::LabelMap => (&[], &[]),
    };
    for (key, is_given) in given {
        if needed.contains(key) && !is_given {
            s.error(format!("`{key}` is missing: action {name} needs it"));
        }
        if unused.contains(key) && *is_given {
            s.error(format!("`{key}` has no use with action {name}; remove it"));
        }
    }
}

/// A label name; `replace` may build it from groups such as `${1}`.
fn target(text: &str, action: RelabelAction) -> Result<String, String> {
    let is_template = action == RelabelAction::Replace && text.contains('$');
    if !is_template {
        label_name(text)?;
    }
    Ok(text.to_owned())
}

/// Compiled with `^` and `$` around, as Prometheus does, its size bounded.
fn anchored(text: &str) -> Result<Regex, String> {
    if text.len() > REGEX_SOURCE_BYTES_MAX {
        return Err(format!("a regex has at most {REGEX_SOURCE_BYTES_MAX} bytes, this one {}", text.len()));
    }
    // Compiled alone first, so that the message is about what stands in the file, and `)(` cannot escape the group.
    let build = |t: &str| RegexBuilder::new(t).size_limit(REGEX_COMPILED_BYTES_MAX).build();
    build(text).and_then(|_| build(&format!("^(?s:{text})$"))).map_err(|e| {
        let detail = e.to_string();
        let reason = detail.lines().last().unwrap_or("").trim_start_matches("error: ");
        format!("not a regular expression (RE2 syntax): {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_anchored_and_dots_match_line_breaks() {
        let r = anchored("a|b.c").unwrap();
        assert!(r.is_match("a") && r.is_match("b\nc"));
        assert!(!r.is_match("xa") && !r.is_match("a\n"));
    }

    #[test]
    fn regexes_that_are_wrong_or_too_large_are_refused() {
        assert_eq!(anchored("(").unwrap_err(), "not a regular expression (RE2 syntax): unclosed group");
        assert!(anchored("a)(b").is_err());
        assert!(anchored("(a{500}){500}").is_err());
        assert!(anchored(&"a".repeat(2000)).is_err());
    }
}
