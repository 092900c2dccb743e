//! Which parts of the file must never be shown: error messages quote the file, and the file holds secrets.

use std::ops::Range;

use super::yaml::{Node, Tree, Value};

/// A key with one of these in its name holds a secret, known to Davy or not.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "api_key",
    "routing_key",
    "service_key",
    "user_key",
    "cookie",
];

/// A scalar where these expect a list or a mapping is likely a secret that was put one level too high.
const SECTIONS: [&str; 10] = [
    "basic_auth",
    "authorization",
    "webhook_configs",
    "slack_configs",
    "email_configs",
    "webhook",
    "oauth2",
    "headers",
    "http_headers",
    "actions",
];

/// Whether the key's value is a secret. Webhook URLs are: they carry their token.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if key.ends_with("_file") {
        return false;
    }
    key == "url" || key.ends_with("_url") || SECRET_WORDS.iter().any(|w| key.contains(w))
}

/// Whether a secret is likely to stand directly in this section.
pub(super) fn is_sensitive_section(key: &str) -> bool {
    SECTIONS.contains(&key)
}

/// Bytes of every secret in the tree, and of whatever it left out.
pub(super) fn secrets(tree: &Tree, text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    collect(&tree.root, text, &mut out);
    tree.left_out.iter().for_each(|n| everything(n, &mut out));
    out
}

fn collect(node: &Node, text: &str, out: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Null => {}
        // A stray quote, `|` or `>` turns the lines after it into text, with whatever secrets they hold.
        Value::Scalar(_) => {
            let source = &text[node.at.bytes.clone()];
            if source.contains('\n') && secret_word(source).is_some() {
                out.push(node.at.bytes.clone());
            }
        }
        Value::List(items) => items.iter().for_each(|i| collect(i, text, out)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                if is_secret(&key.name) {
                    everything(value, out);
                } else {
                    if is_sensitive_section(&key.name) {
                        direct(value, out);
                    }
                    if key.name == "headers"
                        && let Value::Mapping(headers) = &value.value
                    {
                        headers.iter().for_each(|(_, value)| direct(value, out));
                    }
                    collect(value, text, out);
                }
            }
        }
    }
}

/// Scalars of the node itself or of its list.
pub(super) fn direct(node: &Node, out: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Scalar(_) => out.push(node.at.bytes.clone()),
        Value::List(items) => items.iter().for_each(|i| direct(i, out)),
        Value::Null | Value::Mapping(_) => {}
    }
}

/// Every scalar and key below the node.
pub(super) fn everything(node: &Node, out: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Null => {}
        Value::Scalar(_) => out.push(node.at.bytes.clone()),
        Value::List(items) => items.iter().for_each(|i| everything(i, out)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                out.push(key.at.bytes.clone());
                everything(value, out);
            }
        }
    }
}

/// For a text that is no YAML, so that there is no tree to tell: what to hide of the line that holds `byte`.
/// Errs on the side of hiding.
pub(super) fn without_tree(text: &str, byte: usize) -> Vec<Range<usize>> {
    let start = text[..byte].rfind('\n').map_or(0, |i| i + 1);
    let end = text[byte..].find('\n').map_or(text.len(), |i| byte + i);
    if let Some(i) = secret_word(&text[start..end]) {
        return std::iter::once(start + i..end).collect();
    }
    // A value may go on over lines: below its key, indented deeper, or anywhere inside brackets and quotes.
    let indent = |l: &str| l.len() - l.trim_start().len();
    // A list's items may stand no deeper than their key.
    let mut least = indent(&text[start..end]) + usize::from(text[start..end].trim_start().starts_with('-'));
    let mut nearest = true;
    for line in
        text[..start].lines().rev().filter(|l| !l.trim_start().starts_with('#') && !l.trim().is_empty())
    {
        let parent = indent(line) < least;
        if (parent || nearest) && secret_word(line).is_some() {
            return std::iter::once(start..end).collect();
        }
        least = least.min(indent(line));
        nearest &= !line.contains(':');
    }
    Vec::new()
}

/// Where the first secret word (or section) of the line ends.
fn secret_word(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    SECRET_WORDS
        .iter()
        .chain(&SECTIONS)
        .chain(&["url"])
        .filter_map(|w| lower.find(w).map(|i| i + w.len()))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        let text = "a: {basic_auth: {username: u, password: s1}, params: {token: [s2]}}\n\
                    webhook_configs: [s3]\nurl: s4\npassword_file: f\nx: &p {api_url: s5}\ny: *p\n";
        let tree = yaml::parse(text).unwrap();
        let found: Vec<_> = secrets(&tree, text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(found, ["s1", "s2", "s3", "s4", "s5", "s5"]);
    }

    #[test]
    fn without_a_tree_lines_that_may_hold_a_secret_are_hidden() {
        let hidden = |text: &str, needle: &str| {
            let byte = text.find(needle).unwrap();
            without_tree(text, byte).iter().any(|r| r.contains(&byte))
        };
        assert!(hidden("password: HUNTER: x", "HUNTER"));
        assert!(hidden("password: |\n   one\n   HUNTER", "HUNTER"));
        assert!(hidden("a: {password:\n\"HUNTER", "HUNTER"));
        assert!(hidden("receivers:\n- webhook_configs:\n    - http://HUNTER: x", "HUNTER"));
        assert!(hidden("webhook_configs:\n- HUNTER: x: y", "HUNTER"));
        assert!(!hidden("password: x\nname: y\nport: PLAIN: y", "PLAIN"));
    }
}
