//! Matchers as text: Alertmanager's `severity="page"` strings and PromQL's `orders_total{code=~"5.."}`.

use davy_model::{MatchOp, Matcher, MatcherError};

/// Longest text of matchers; a selector is a line.
const TEXT_BYTES_MAX: usize = 4096;

/// Alertmanager's form: `a="b"`, `a=~"b|c"`, several with commas, braces and quotes optional.
pub(super) fn parse_matchers(text: &str) -> Result<Vec<Matcher>, String> {
    let mut scanner = Scanner::new(text)?;
    let braced = scanner.eat("{");
    let matchers = scanner.matchers(braced, true)?;
    if matchers.is_empty() {
        return Err("expected at least one matcher such as severity=\"page\"".to_owned());
    }
    Ok(matchers)
}

/// PromQL's form: `name`, `name{a="b"}` or `{a="b"}`. At least one matcher must refuse the empty value, or
/// every series there is would be selected.
pub(crate) fn parse_selector(text: &str) -> Result<Vec<Matcher>, String> {
    let mut scanner = Scanner::new(text)?;
    let name = scanner.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a metric name cannot start with a digit".to_owned());
    }
    let mut matchers = Vec::new();
    if !name.is_empty() {
        matchers.push(Matcher::metric(name));
    }
    if scanner.eat("{") {
        matchers.extend(scanner.matchers(true, false)?);
    } else if !scanner.rest.trim().is_empty() || name.is_empty() {
        return Err(format!(
            "expected a selector such as orders_total{{code=~\"5..\"}}{}",
            scanner.position()
        ));
    }
    if matchers.iter().all(|m| m.matches_value("")) {
        return Err("it selects every series; name a metric or a label that must have a value".to_owned());
    }
    Ok(matchers)
}

/// A matcher from its parts; of a bad regex, the reason alone.
pub(super) fn matcher(name: &str, op: MatchOp, value: &str) -> Result<Matcher, String> {
    Matcher::new(name, op, value).map_err(|e| match e {
        MatcherError::TooLong { .. } => e.to_string(),
        MatcherError::BadRegex { detail, .. } => {
            let reason = detail.rsplit("error: ").next().unwrap_or("").trim();
            format!("not a regular expression (RE2 syntax): {reason}")
        }
    })
}

struct Scanner<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("{} bytes are more than the {TEXT_BYTES_MAX} allowed", text.len()));
        }
        Ok(Self { text, rest: text.trim_start() })
    }

    fn position(&self) -> String {
        let offset = self.text.len() - self.rest.len();
        format!(" (at character {})", self.text[..offset].chars().count() + 1)
    }

    fn eat(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn word(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.rest = self.rest[end..].trim_start();
        word
    }

    /// Comma-separated matchers up to the end, and the closing brace if there was an opening one.
    fn matchers(&mut self, braced: bool, bare_values: bool) -> Result<Vec<Matcher>, String> {
        let mut out = Vec::new();
        loop {
            if braced && self.eat("}") {
                break;
            }
            if self.rest.is_empty() {
                if braced {
                    return Err("the closing `}` is missing".to_owned());
                }
                break;
            }
            out.push(self.matcher(bare_values)?);
            let at_end = self.rest.is_empty() || self.rest.starts_with('}');
            if !self.eat(",") && !at_end {
                return Err(format!("expected `,` between matchers{}", self.position()));
            }
        }
        if !self.rest.is_empty() {
            return Err(format!("nothing may follow the matchers{}", self.position()));
        }
        Ok(out)
    }

    fn matcher(&mut self, bare_values: bool) -> Result<Matcher, String> {
        let name = if self.rest.starts_with('"') {
            self.quoted()?
        } else {
            self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-')).to_owned()
        };
        if name.is_empty() {
            return Err(format!("expected a label name{}", self.position()));
        }
        let op = [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ]
        .into_iter()
        .find(|(token, _)| self.eat(token));
        let Some((_, op)) = op else {
            return Err(format!("expected one of = != =~ !~ after the label name{}", self.position()));
        };
        let value = if self.rest.starts_with(['"', '\'', '`']) {
            self.quoted()?
        } else if bare_values {
            self.word(|c| !c.is_whitespace() && !"{}!=~,\\\"'`".contains(c)).to_owned()
        } else {
            return Err(format!("expected a value in quotes{}", self.position()));
        };
        matcher(&name, op, &value)
    }

    /// A string in double, single or back quotes; back quotes know no escapes.
    fn quoted(&mut self) -> Result<String, String> {
        let unclosed = format!("the quote is not closed{}", self.position());
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map_or('"', |(_, c)| c);
        let mut out = String::new();
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.rest = self.rest[i + c.len_utf8()..].trim_start();
                return Ok(out);
            }
            if c != '\\' || quote == '`' {
                out.push(c);
                continue;
            }
            match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(c @ ('\\' | '"' | '\'')) => out.push(c),
                // A regex written with one backslash, as Alertmanager takes it.
                Some(c) => out.extend(['\\', c]),
                None => break,
            }
        }
        Err(unclosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(result: Result<Vec<Matcher>, String>) -> String {
        let join = |m: Vec<Matcher>| m.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        result.map_or_else(|e| format!("error: {e}"), join)
    }

    #[test]
    fn alertmanagers_forms_are_read() {
        assert_eq!(shown(parse_matchers("severity = page")), "severity=\"page\"");
        assert_eq!(shown(parse_matchers(r#"{a="b", "c d"!~"e|f",}"#)), r#"a="b" c d!~"e|f""#);
        assert_eq!(shown(parse_matchers(r#"a=~"\\d+""#)), r#"a=~"\\d+""#);
        assert_eq!(shown(parse_matchers(r#"a="""#)), r#"a="""#);
    }

    #[test]
    fn selectors_are_read() {
        assert_eq!(shown(parse_selector("orders_total")), r#"__name__="orders_total""#);
        assert_eq!(shown(parse_selector(r#" x:y{a="b", c=~'d'} "#)), r#"__name__="x:y" a="b" c=~"d""#);
        assert_eq!(shown(parse_selector("{version=`v2`}")), r#"version="v2""#);
    }

    #[test]
    fn what_is_no_matcher_is_refused_with_its_place() {
        assert_eq!(
            shown(parse_matchers("severity")),
            "error: expected one of = != =~ !~ after the label name (at character 9)"
        );
        assert_eq!(shown(parse_matchers("a=\"b")), "error: the quote is not closed (at character 3)");
        assert_eq!(shown(parse_matchers("{a=b")), "error: the closing `}` is missing");
        assert_eq!(shown(parse_matchers("a=b c=d")), "error: expected `,` between matchers (at character 5)");
        assert!(shown(parse_matchers("a=~\"(\"")).contains("RE2 syntax): unclosed group"));
        assert!(shown(parse_matchers("")).contains("at least one"));
        assert!(shown(parse_selector("rate(x[5m])")).contains("expected a selector"));
        assert!(shown(parse_selector("x{a=b}")).contains("in quotes"));
        assert!(shown(parse_selector("{}")).contains("every series"));
        assert!(shown(parse_selector("{a=~\".*\"}")).contains("every series"));
        assert!(shown(parse_selector("1x")).contains("digit"));
    }
}
