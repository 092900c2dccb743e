//! One selector by itself, as `match[]` of the HTTP API has it.

use davy_model::Matcher;

use crate::ast::{Node, Selector, Shift};
use crate::{Expr, ParseError};

/// `up{job="api"}`, without range, offset or anything around it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    match Expr::parse(text)?.node {
        Node::Selector(Selector { matchers, shift, .. }) if shift == Shift::default() => Ok(matchers),
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

    fn check(text: &str, want: &Expect) {
        let shown = |m: Vec<Matcher>| m.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        want.assert_eq(&parse_selector(text).map_or_else(|e| e.to_string(), shown));
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
}
