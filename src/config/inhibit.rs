//! `inhibit_rules`, Alertmanager's schema.

use davy_alerting::config::InhibitRule;
use davy_model::{MatchOp, Matcher};

use super::matchers::{matcher, parse_matchers};
use super::reader::Section;

pub(super) fn read(top: &mut Section<'_>) -> Vec<InhibitRule> {
    top.list("inhibit_rules", |field| {
        field.section(|s| {
            let mut source: Vec<Matcher> =
                s.list("source_matchers", |f| f.parse(parse_matchers)).into_iter().flatten().collect();
            let mut target: Vec<Matcher> =
                s.list("target_matchers", |f| f.parse(parse_matchers)).into_iter().flatten().collect();
            source.extend(old(s, "source_match", MatchOp::Equal));
            source.extend(old(s, "source_match_re", MatchOp::Regex));
            target.extend(old(s, "target_match", MatchOp::Equal));
            target.extend(old(s, "target_match_re", MatchOp::Regex));
            let equal = s.list("equal", |f| f.name().map(str::to_owned));
            if source.is_empty() || target.is_empty() {
                s.error("`source_matchers` and `target_matchers` are both needed: what keeps what quiet");
            }
            Some(InhibitRule { source, target, equal })
        })
    })
}

/// A mapping of labels to values.
fn old(s: &mut Section<'_>, key: &'static str, op: MatchOp) -> Vec<Matcher> {
    let pairs = s.get(key).map(|f| f.entries()).unwrap_or_default();
    pairs.into_iter().filter_map(|(name, value)| value.parse(|t| matcher(&name, op, t))).collect()
}
