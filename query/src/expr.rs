//! `Expr`: a PromQL expression that has been parsed and is known to be one that Davy evaluates.

use std::fmt;

use davy_model::Matcher;

use crate::ast::Node;
use crate::lower::lower;
use crate::prescan::prescan;

/// Where and why a query was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {}: {detail}", position + 1)]
pub struct ParseError {
    /// Characters before the place that is wrong.
    pub position: usize,
    pub detail: String,
}

/// Parsed once, on load; evaluated against a snapshot.
#[derive(Debug, Clone)]
pub struct Expr {
    text: String,
    pub(crate) node: Node,
}

impl Expr {
    /// Bounded before it is parsed: see [`crate::Engine`] for the bounds of evaluation.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let tokens = prescan(text)?;
        let parsed = promql_parser::parser::parse(text)
            .map_err(|detail| ParseError { position: tokens.quoted_in(&detail), detail })?;
        Ok(Self { text: text.to_owned(), node: lower(&parsed, &tokens)? })
    }

    /// The same expression with every selector narrowed by `extra`; its text stays as it was written.
    pub fn restricted(&self, extra: &[Matcher]) -> Self {
        Self { text: self.text.clone(), node: self.node.restricted(extra) }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, want: &Expect) {
        let got = match Expr::parse(text) {
            Ok(_) => "ok".to_owned(),
            Err(e) => e.to_string(),
        };
        want.assert_eq(&got);
    }

    #[test]
    fn what_is_evaluated_is_taken() {
        for text in [
            "up",
            r#"sum by (job) (rate(http_requests_total{code=~"5..", job!="a"}[5m]))"#,
            "-(avg without (instance) (queue_lag) + 2) * 1e-3 / max_over_time(x[1h30m])",
            r#"{__name__="http.requests", "http.code"="200"}"#,
            "sum(a) # with a comment (\n / count(b)",
            "1.5",
        ] {
            assert!(Expr::parse(text).is_ok(), "{text}: {:?}", Expr::parse(text));
        }
    }

    #[test]
    fn what_is_not_evaluated_is_named_with_its_place() {
        check(
            "sum(histogram_quantile(0.9, x_bucket))",
            &expect!["at character 5: histogram_quantile() is not supported yet"],
        );
        check("up offset 5m", &expect!["at character 4: offset is not supported yet"]);
        check("up @ 0", &expect!["at character 4: the @ modifier is not supported yet"]);
        check("a == b", &expect!["at character 3: the operator == is not supported yet"]);
        check("a and b", &expect!["at character 3: the operator and is not supported yet"]);
        check("a / on (job) b", &expect!["at character 5: on is not supported yet"]);
        check("topk(3, a)", &expect!["at character 1: topk() is not supported yet"]);
        check("rate(x[5m:1m])", &expect!["at character 1: subqueries are not supported yet"]);
        check("x[5m]", &expect!["at character 2: a range needs a function such as rate() around it"]);
        check("'text'", &expect!["at character 1: a string is not a value"]);
        check("a ^ 2", &expect!["at character 3: the operator ^ is not supported yet"]);
        check("up{job=~\"(\"}", &expect!["at character 13: illegal regex for ("]);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        check("", &expect!["at character 1: empty query"]);
        check("sum(a", &expect![[r#"at character 4: "(" is never closed"#]]);
        check("a)", &expect![[r#"at character 2: ")" closes nothing"#]]);
        check("nosuch(a)", &expect!["at character 1: unknown function with name 'nosuch'"]);
        check("a{b=\"x}", &expect!["at character 5: string without an end"]);
    }

    #[test]
    fn hostile_sizes_are_refused_before_they_are_parsed() {
        check(
            &"a".repeat(20_000),
            &expect!["at character 1: query of 20000 bytes is longer than the 16384 allowed"],
        );
        check(&"1+".repeat(3_000), &expect!["at character 2001: more than the 2000 words and signs allowed"]);
        check(&"(".repeat(100), &expect!["at character 65: nested deeper than the 64 levels allowed"]);
        check(
            &format!("{}1", "-".repeat(100)),
            &expect!["at character 65: nested deeper than the 64 levels allowed"],
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in r#"([a-z_]{1,6}|[0-9.]{1,3}|[-+*/^@#:,(){}\[\]"'`=~!<> \n]|sum by|rate|offset|5m|é|\\){0,24}"#) {
            let _ = Expr::parse(&text);
        }
    }
}
