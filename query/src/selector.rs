//! A selector by itself, as `match[]` of the HTTP API has it.

use davy_model::Matcher;

use crate::ast::{Node, Shift};
use crate::{Expr, ParseError};

/// `up{job="api"}`, without range, offset or anything around it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    match Expr::parse(text)?.node {
        Node::Selector(s) if s.shift == Shift::default() => Ok(s.matchers),
        _ => {
            let detail = "expected a selector such as up{job=\"api\"} and nothing else".to_owned();
            Err(ParseError { position: 0, detail })
        }
    }
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
