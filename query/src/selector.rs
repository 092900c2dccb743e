//! Selectors by themselves: one alone, as `match[]` of the HTTP API has it, and those within an expression.

use davy_model::{MatchOp, Matcher, name};
use promql_parser::label;
use promql_parser::parser::{Expr as Parsed, VectorSelector};

use crate::prescan::prescan;
use crate::{Expr, ParseError};

/// `up{job="api"}`, without range, offset or anything around it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let tokens = prescan(text)?;
    let parsed = promql_parser::parser::parse(text)
        .map_err(|detail| ParseError { position: tokens.quoted_in(&detail), detail })?;
    match &parsed {
        Parsed::VectorSelector(v) if v.offset.is_none() && v.at.is_none() => {
            matchers(v).map_err(|(word, detail)| ParseError { position: tokens.find(&word), detail })
        }
        _ => {
            let detail = "expected a selector such as up{job=\"api\"} and nothing else".to_owned();
            Err(ParseError { position: 0, detail })
        }
    }
}

impl Expr {
    /// The matchers of every selector in the text, from left to right.
    pub fn selectors(&self) -> Vec<Vec<Matcher>> {
        let mut found = Vec::new();
        if let Ok(parsed) = promql_parser::parser::parse(&self.to_string()) {
            collect(&parsed, &mut found);
        }
        found
    }
}

/// As deep as the pre-scan lets brackets and chains be.
fn collect(parsed: &Parsed, found: &mut Vec<Vec<Matcher>>) {
    match parsed {
        Parsed::VectorSelector(v) => found.extend(matchers(v).ok()),
        Parsed::MatrixSelector(m) => found.extend(matchers(&m.vs).ok()),
        Parsed::Subquery(s) => collect(&s.expr, found),
        Parsed::Paren(p) => collect(&p.expr, found),
        Parsed::Unary(u) => collect(&u.expr, found),
        Parsed::Aggregate(a) => {
            a.param.iter().for_each(|p| collect(p, found));
            collect(&a.expr, found);
        }
        Parsed::Binary(b) => {
            collect(&b.lhs, found);
            collect(&b.rhs, found);
        }
        Parsed::Call(c) => c.args.args.iter().for_each(|a| collect(a, found)),
        Parsed::NumberLiteral(_) | Parsed::StringLiteral(_) | Parsed::Extension(_) => {}
    }
}

/// On a mistake the word where it stands, and what it is.
fn matchers(v: &VectorSelector) -> Result<Vec<Matcher>, (String, String)> {
    if !v.matchers.or_matchers.is_empty() {
        return Err(("or".to_owned(), "or between matchers is not supported".to_owned()));
    }
    let named = v.name.as_ref().map(|n| Ok(Matcher::equal(name::METRIC, n)));
    named.into_iter().chain(v.matchers.matchers.iter().map(matcher)).collect()
}

fn matcher(m: &label::Matcher) -> Result<Matcher, (String, String)> {
    let op = match m.op {
        label::MatchOp::Equal => MatchOp::Equal,
        label::MatchOp::NotEqual => MatchOp::NotEqual,
        label::MatchOp::Re(_) => MatchOp::Regex,
        label::MatchOp::NotRe(_) => MatchOp::NotRegex,
    };
    Matcher::new(&m.name, op, &m.value).map_err(|e| (m.name.clone(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn shown(matchers: &[Matcher]) -> String {
        matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn check(text: &str, want: &Expect) {
        let got = parse_selector(text).map_or_else(|e| e.to_string(), |m| shown(&m));
        want.assert_eq(&got);
    }

    #[test]
    fn a_selector_stands_alone() {
        check("up", &expect![[r#"__name__="up""#]]);
        check(r#"up{job!="a",code=~"5.."}"#, &expect![[r#"__name__="up", job!="a", code=~"5..""#]]);
        check(r#"{__name__!=""}"#, &expect![[r#"__name__!="""#]]);
        check(r#"{"http.requests"}"#, &expect![[r#"__name__="http.requests""#]]);
        for text in ["up[5m]", "up offset 5m", "up @ 0", "sum(up)", "1", "-up"] {
            assert!(parse_selector(text).is_err(), "{text}");
        }
        check("up{job=", &expect![[r#"at character 3: "{" is never closed"#]]);
    }

    #[test]
    fn selectors_are_found_wherever_they_stand() {
        let text = r#"sum by (job) (rate(a{x="1"}[5m])) / on (job) -(max_over_time(b[1h]) + c) * 2"#;
        let mut found = Vec::new();
        collect(&promql_parser::parser::parse(text).unwrap(), &mut found);
        let shown: Vec<_> = found.iter().map(|m| shown(m)).collect();
        assert_eq!(shown, [r#"__name__="a", x="1""#, r#"__name__="b""#, r#"__name__="c""#]);
        assert_eq!(Expr::parse("sum(a)").unwrap().selectors().len(), 1);
    }
}
