//! `Expr`: a PromQL expression that has been parsed and is known to be one that Davy evaluates.

use std::fmt;

use davy_model::Matcher;

use crate::ast::{Node, ValueType};
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

    /// One whose value is a number for each series: what rules, thresholds and metrics of releases are made of.
    pub fn parse_value(text: &str) -> Result<Self, ParseError> {
        let expr = Self::parse(text)?;
        let detail = match expr.value_type() {
            ValueType::Scalar | ValueType::Vector => return Ok(expr),
            ValueType::Matrix => "a range needs a function such as rate() around it",
            ValueType::String => "a string is not a value",
        };
        let position = if expr.value_type() == ValueType::Matrix { text.find('[').unwrap_or(0) } else { 0 };
        let position = text[..position].chars().count();
        Err(ParseError { position, detail: detail.to_owned() })
    }

    pub fn value_type(&self) -> ValueType {
        self.node.value_type()
    }

    /// The same expression with every selector narrowed by `extra`; its text stays as it was written.
    pub fn restricted(&self, extra: &[Matcher]) -> Self {
        let mut narrowed = self.clone();
        narrowed.node.restrict(extra);
        narrowed
    }

    /// The matchers of every selector, in the order of the text.
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        let mut all = Vec::new();
        self.node.visit_selectors(&mut |s| all.push(&s.matchers[..]));
        all
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
    fn what_prometheus_takes_is_taken() {
        for text in [
            "up",
            r#"sum by (job) (rate(http_requests_total{code=~"5..", job!="a"}[5m]))"#,
            "-(avg without (instance) (queue_lag) + 2) * 1e-3 / max_over_time(x[1h30m])",
            r#"{__name__="http.requests", "http.code"="200"}"#,
            r#"{"http.requests", job="a"}"#,
            "sum(a) # with a comment (\n / count(b)",
            "1.5",
            "x[1m0s]",
            "rate(x[1h0m0s])",
            "rate(x[3600s])",
            "rate(x[300])",
            "max_over_time(rate(x[5m])[1h:1m] @ end() offset -5m)",
            "x offset 5m @ 1609746000",
            "a * on (x) group_left (y, z) b",
            "a > bool 1",
            "count_values(\"v\", a)",
            "quantile by (x) (0.9, a)",
            "'text'",
            "0x1F + 1",
        ] {
            assert!(Expr::parse(text).is_ok(), "{text}: {:?}", Expr::parse(text));
        }
    }

    #[test]
    fn what_prometheus_refuses_is_refused_with_its_place() {
        check(
            "topk(3, limitk(2, a))",
            &expect!["at character 9: limitk() is experimental in Prometheus and not enabled"],
        );
        check(
            "sort_by_label(a, 'b')",
            &expect!["at character 1: sort_by_label() is experimental in Prometheus and not enabled"],
        );
        check("up{job=~\"(\"}", &expect!["at character 13: illegal regex for ("]);
        check(
            "rate(x)",
            &expect!["at character 1: expected type matrix in call to function 'rate', got vector"],
        );
        check(
            "x[5m] + 1",
            &expect!["at character 10: binary expression must contain only scalar and instant vector types"],
        );
        check("1 > 2", &expect!["at character 6: comparisons between scalars must use BOOL modifier"]);
        check(
            "sum(1)",
            &expect!["at character 7: expected type vector in aggregation expression, got scalar"],
        );
        check(
            "1 and 2",
            &expect!["at character 3: set operator 'and' not allowed in binary scalar expression"],
        );
        check("a + on (b) group_left group_right c", &expect!["at character 36: invalid promql query"]);
    }

    #[test]
    fn a_value_is_a_number_for_each_series() {
        let check = |text, want: &Expect| want.assert_eq(&Expr::parse_value(text).unwrap_err().to_string());
        check("x[5m]", &expect!["at character 2: a range needs a function such as rate() around it"]);
        check("'text'", &expect!["at character 1: a string is not a value"]);
        assert!(Expr::parse_value("1 + sum(x)").is_ok());
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
