//! Inhibition: alerts that need not be told while another one fires, as Alertmanager does it.

use davy_model::{Labels, Matcher};

use crate::config::InhibitRule;

/// Whether one of the rules keeps `target` quiet, given what fires.
pub fn is_inhibited<'a>(
    rules: &[InhibitRule],
    target: &Labels,
    firing: &(impl Iterator<Item = &'a Labels> + Clone),
) -> bool {
    rules.iter().any(|rule| {
        if !all(&rule.target, target) {
            return false;
        }
        // An alert that matches both sides does not inhibit itself, nor others that match both.
        let also_source = all(&rule.source, target);
        firing.clone().any(|source| {
            all(&rule.source, source)
                && !(also_source && all(&rule.target, source))
                && rule.equal.iter().all(|name| value(source, name) == value(target, name))
        })
    })
}

fn all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels))
}

/// A label that is missing is the same as one that is empty.
fn value<'a>(labels: &'a Labels, name: &str) -> &'a str {
    labels.get(name).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn a_source_keeps_its_equals_quiet_and_no_others() {
        let rules = [InhibitRule {
            source: vec![Matcher::equal("severity", "critical")],
            target: vec![Matcher::equal("severity", "warning")],
            equal: vec!["service".into()],
        }];
        let down = labels(&[("severity", "critical"), ("service", "checkout")]);
        let firing = [&down];
        let quiet = |pairs: &[(&str, &str)]| is_inhibited(&rules, &labels(pairs), &firing.into_iter());
        assert!(quiet(&[("severity", "warning"), ("service", "checkout")]));
        assert!(!quiet(&[("severity", "warning"), ("service", "search")]));
        assert!(!quiet(&[("severity", "info"), ("service", "checkout")]));
        assert!(!quiet(&[("severity", "critical"), ("service", "checkout")]));
        assert!(!is_inhibited(&rules, &labels(&[("severity", "warning")]), &firing.into_iter()));
    }

    #[test]
    fn one_that_is_source_and_target_does_not_silence_itself() {
        let both = vec![Matcher::equal("team", "a")];
        let rules = [InhibitRule { source: both.clone(), target: both, equal: Vec::new() }];
        let one = labels(&[("team", "a"), ("alertname", "X")]);
        let two = labels(&[("team", "a"), ("alertname", "Y")]);
        assert!(!is_inhibited(&rules, &one, &[&one, &two].into_iter()));
    }
}
