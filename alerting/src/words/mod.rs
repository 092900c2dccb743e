//! What Davy says to people, in their language: minijinja templates, one file for each language.
//!
//! Reasons that others gave (the judge's, a target's, an operator's) stand in them as they were given, so that they can
//! be found again in the audit.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    #[default]
    English,
    Chinese,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// As files name it (BCP 47).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    fn texts(self) -> &'static Environment<'static> {
        static TEXTS: LazyLock<[Environment<'static>; 2]> =
            LazyLock::new(|| [environment(include_str!("en.j2")), environment(include_str!("zh.j2"))]);
        match self {
            Self::English => &TEXTS[0],
            Self::Chinese => &TEXTS[1],
        }
    }
}

fn environment(file: &'static str) -> Environment<'static> {
    let mut texts = Environment::new();
    // Every sink escapes for its own markup.
    texts.set_auto_escape_callback(|_| AutoEscape::None);
    texts.set_undefined_behavior(UndefinedBehavior::Strict);
    for (key, text) in sections(file) {
        texts.add_template(key, text).expect("Davy's own texts parse");
    }
    texts
}

/// The texts of a file by their keys; what stands before the first is for its readers.
fn sections(file: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = file.split("\n== ").skip(1);
    parts
        .filter_map(|part| part.split_once('\n'))
        .map(|(key, text)| (key.trim(), text.trim_end_matches('\n')))
}

/// A text by its key, and what it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    key: String,
    of: BTreeMap<&'static str, String>,
}

impl Said {
    pub(crate) fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), of: BTreeMap::new() }
    }

    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over numbers, texts and references alike"
    )]
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.of.insert(name, value.to_string());
        self
    }

    pub(crate) fn text(&self, language: Language) -> String {
        let text = language.texts().get_template(&self.key).and_then(|t| t.render(&self.of));
        // A test plays every text; should one fail all the same, the message is worth more than its wording.
        text.unwrap_or_else(|_| {
            let of: Vec<String> = self.of.iter().map(|(n, v)| format!("{n}: {v}")).collect();
            format!("{} ({})", self.key, of.join(", "))
        })
    }

    /// As the audit has it.
    pub(crate) fn english(&self) -> String {
        self.text(Language::English)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn file(language: Language) -> &'static str {
        match language {
            Language::English => include_str!("en.j2"),
            Language::Chinese => include_str!("zh.j2"),
        }
    }

    #[test]
    fn every_language_says_the_same_things_of_the_same_names() {
        let known = |language| {
            let texts: Vec<_> = sections(file(language)).collect();
            let keys: BTreeSet<String> = texts.iter().map(|(key, _)| (*key).to_owned()).collect();
            assert_eq!(keys.len(), texts.len(), "a key is given twice");
            let names = |key: &String| {
                let environment = Language::texts(language);
                environment.get_template(key).expect("it is there").undeclared_variables(false)
            };
            keys.into_iter()
                .map(|key| (names(&key).into_iter().collect::<BTreeSet<_>>(), key))
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(known(Language::English), known(Language::Chinese));
    }

    #[test]
    fn a_text_without_what_it_speaks_of_is_still_said() {
        assert_eq!(
            Said::new("done.nothing").with("other", "x").text(Language::English),
            "done.nothing (other: x)"
        );
        assert_eq!(Said::new("no.such").english(), "no.such ()");
    }

    #[test]
    fn values_are_not_templates() {
        let said = Said::new("done.nothing").with("why", "{{ 7 * 7 }} <b>");
        assert_eq!(said.english(), "Nothing was done: {{ 7 * 7 }} <b>.");
        assert_eq!(said.text(Language::Chinese), "未执行任何操作：{{ 7 * 7 }} <b>。");
    }
}
