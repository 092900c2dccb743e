//! The notation of series in unit tests of rules: `up{job="api"}` and `1+1x10 _x3 stale {{schema:1 sum:3}}`.

use std::sync::Arc;

use davy_model::{Histogram, Labels, STALE_NAN, Value, name};

use super::histogram as notation;

/// Values of one series.
const VALUES_MAX: usize = 1_000_000;

/// A metric with its labels, as PromQL writes it; only equalities.
pub fn labels(text: &str) -> Result<Labels, String> {
    let mut scanner = Scanner { rest: text.trim(), text };
    let mut pairs: Vec<(String, String)> = Vec::new();
    let metric = scanner.word(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
    if metric.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a metric's name cannot start with a digit".to_owned());
    }
    if !metric.is_empty() {
        pairs.push((name::METRIC.to_owned(), metric.to_owned()));
    }
    if scanner.eat("{") {
        while !scanner.eat("}") {
            let quoted = scanner.rest.starts_with(['"', '\'', '`']);
            let key = if quoted {
                scanner.string()?
            } else {
                scanner.word(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()
            };
            if key.is_empty() {
                return Err(scanner.expected("a label's name or the closing `}`"));
            }
            if scanner.eat("=") {
                let value = scanner.string()?;
                pairs.push((key, value));
            } else if quoted {
                pairs.push((name::METRIC.to_owned(), key));
            } else {
                return Err(scanner.expected("`=` and a value in quotes"));
            }
            if !scanner.eat(",") && !scanner.rest.starts_with('}') {
                return Err(scanner.expected("`,` or the closing `}`"));
            }
        }
    }
    if !scanner.rest.is_empty() {
        return Err(scanner.expected("nothing more"));
    }
    Ok(Labels::from_pairs(pairs))
}

/// One value for each interval; `None` where a value is left out.
pub fn values(text: &str) -> Result<Vec<Option<Value>>, String> {
    let mut scanner = Scanner { rest: text.trim(), text };
    let mut out: Vec<Option<Value>> = Vec::new();
    while !scanner.rest.is_empty() {
        scanner.item(&mut out)?;
        if !scanner.rest.is_empty() && !scanner.text_before().ends_with(char::is_whitespace) {
            return Err(scanner.expected("a space between values"));
        }
    }
    Ok(out)
}

/// One number, as PromQL writes it.
pub fn number(text: &str) -> Result<f64, String> {
    let mut scanner = Scanner { rest: text.trim(), text };
    let hex = scanner.rest.strip_prefix("0x").map(|h| u64::from_str_radix(h, 16));
    if let Some(Ok(v)) = hex {
        return Ok(v as f64);
    }
    match scanner.number() {
        Some(v) if scanner.rest.is_empty() => Ok(v),
        _ => Err("expected a number".to_owned()),
    }
}

/// One native histogram, `{{...}}`.
pub fn histogram(text: &str) -> Result<Value, String> {
    match &values(text)?[..] {
        [Some(h @ Value::Histogram(_))] => Ok(h.clone()),
        _ => Err("expected one histogram such as {{schema:0 sum:5 count:4 buckets:[1 2 1]}}".to_owned()),
    }
}

/// As promtool shows a number: `1.5E+00`.
pub fn scientific(v: f64) -> String {
    if v.is_finite() { davy_alerting::go_scientific(v).to_uppercase() } else { davy_alerting::go_float(v) }
}

struct Scanner<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn text_before(&self) -> &'a str {
        &self.text[..self.text.trim_end().len() - self.rest.len()]
    }

    fn expected(&self, what: &str) -> String {
        let at = self.text_before().chars().count() + 1;
        format!("expected {what} at character {at}")
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

    fn string(&mut self) -> Result<String, String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let Some(quote) = quote else { return Err(self.expected("text in quotes")) };
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.rest = self.rest[1 + i + 1..].trim_start();
                return Ok(out);
            }
            if c != '\\' || quote == '`' {
                out.push(c);
                continue;
            }
            match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(c @ ('\\' | '"' | '\'')) => out.push(c),
                Some('u') => {
                    let hex: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                    let c = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                    out.push(c.ok_or_else(|| self.expected("an escape such as \\u00e9"))?);
                }
                _ => return Err(self.expected("an escape such as \\n or \\\"")),
            }
        }
        Err(self.expected("text whose quote is closed"))
    }

    /// One item of a list of values, expanded.
    fn item(&mut self, out: &mut Vec<Option<Value>>) -> Result<(), String> {
        if self.rest.starts_with("{{") {
            let first = self.one_histogram()?;
            let sign = ["+", "-"].iter().find(|s| self.rest.starts_with(&format!("{s}{{{{")));
            let step = match sign {
                None => None,
                Some(sign) => {
                    self.rest = &self.rest[1..];
                    Some((self.one_histogram()?, if *sign == "-" { -1.0 } else { 1.0 }))
                }
            };
            let times = self.times(step.is_some())?;
            return push(
                out,
                times.unwrap_or(0) + 1,
                first,
                |h| match &step {
                    Some((step, sign)) => notation::combine(&h, step, *sign),
                    None => Ok(h),
                },
                |h| Value::Histogram(Arc::new(h.clone())),
            );
        }
        if let Some(rest) = self.rest.strip_prefix('_') {
            self.rest = rest;
            let times = self.times(false)?.unwrap_or(1);
            fits(out.len(), times)?;
            out.extend(std::iter::repeat_n(None, times));
            return Ok(());
        }
        let first = if let Some(rest) = self.rest.strip_prefix("stale") {
            self.rest = rest;
            STALE_NAN
        } else {
            self.number().ok_or_else(|| self.expected("a number, `stale`, `_` or a histogram `{{...}}`"))?
        };
        let step = if self.rest.starts_with(['+', '-']) { self.number() } else { None };
        let times = self.times(step.is_some())?;
        push(out, times.unwrap_or(0) + 1, first, |v| Ok(step.map_or(v, |s| v + s)), |v| Value::Float(*v))
    }

    /// `x5`, and the space behind the item.
    fn times(&mut self, required: bool) -> Result<Option<usize>, String> {
        let mut times = None;
        if let Some(rest) = self.rest.strip_prefix('x') {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let count = rest[..end].parse::<usize>();
            times = Some(count.map_err(|_| self.expected("a whole number behind `x`"))?);
            self.rest = &rest[end..];
        } else if required {
            return Err(self.expected("`x` and how often the step is taken"));
        }
        self.rest = self.rest.trim_start();
        Ok(times)
    }

    /// A number with its sign. `0x5` is zero, five times: hexadecimal has no place here.
    fn number(&mut self) -> Option<f64> {
        let signed = usize::from(self.rest.starts_with(['+', '-']));
        let unsigned = &self.rest[signed..];
        let lower = unsigned.get(..3).unwrap_or("").to_ascii_lowercase();
        let length = if lower == "nan" || lower == "inf" { 3 } else { digits(unsigned)? };
        let (text, rest) = self.rest.split_at(signed + length);
        self.rest = rest;
        text.parse().ok()
    }

    fn one_histogram(&mut self) -> Result<Histogram, String> {
        let end = self.rest.find("}}").ok_or_else(|| self.expected("a histogram that ends with `}}`"))?;
        let inner = &self.rest[2..end];
        let parsed = notation::parse(inner).map_err(|e| format!("{e} in {{{{{inner}}}}}"))?;
        self.rest = &self.rest[end + 2..];
        Ok(parsed)
    }
}

/// How long the digits, point and exponent at the start are.
fn digits(text: &str) -> Option<usize> {
    let count = |t: &str| t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
    let mut length = count(text);
    let mut any = length > 0;
    if text[length..].starts_with('.') {
        let more = count(&text[length + 1..]);
        any |= more > 0;
        length += 1 + more;
    }
    if any && text[length..].starts_with(['e', 'E']) {
        let exponent = &text[length + 1..];
        let signed = usize::from(exponent.starts_with(['+', '-']));
        let more = count(&exponent[signed..]);
        if more > 0 {
            length += 1 + signed + more;
        }
    }
    any.then_some(length)
}

fn fits(have: usize, more: usize) -> Result<(), String> {
    if have.saturating_add(more) > VALUES_MAX {
        return Err(format!("more than {VALUES_MAX} values"));
    }
    Ok(())
}

/// `first`, and what each step makes of the one before.
fn push<T>(
    out: &mut Vec<Option<Value>>,
    times: usize,
    first: T,
    step: impl Fn(T) -> Result<T, String>,
    value: impl Fn(&T) -> Value,
) -> Result<(), String> {
    fits(out.len(), times)?;
    let mut next = first;
    for i in 0..times {
        if i > 0 {
            next = step(next)?;
        }
        out.push(Some(value(&next)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let one = |v: Option<Value>| match v {
            None => "_".to_owned(),
            Some(Value::Float(v)) if davy_model::is_stale(v) => "stale".to_owned(),
            Some(Value::Float(v)) => davy_alerting::go_float(v),
            Some(Value::Histogram(h)) => notation::expression(&h),
        };
        match values(text) {
            Ok(values) => values.into_iter().map(one).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        }
    }

    fn check(text: &str, want: &str) {
        assert_eq!(shown(text), want, "{text}");
    }

    #[test]
    fn values_expand() {
        check("1 2.5 -3 1e3 .5 NaN +Inf", "1 2.5 -3 1000 0.5 NaN +Inf");
        check("1+1x3 4-2x2 1x2 0x2", "1 2 3 4 4 2 0 1 1 1 0 0 0");
        check("0+0.5x2 -1-1x1", "0 0.5 1 -1 -2");
        check("0 _ _x3 stale 7", "0 _ _ _ _ stale 7");
        check("", "");
        check("stalex2", "stale stale stale");
    }

    #[test]
    fn histograms_expand() {
        let h = "{{schema:1 sum:-0.3 count:32.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10 7] offset:-3 n_buckets:[4.1 5] n_offset:-5}}";
        check(
            h,
            "{{schema:1 count:32.1 sum:-0.3 z_bucket:7.1 z_bucket_w:0.05 offset:-3 buckets:[5.1 10 7] n_offset:-5 n_buckets:[4.1 5]}}",
        );
        check(
            "{{sum:3 count:2 buckets:[2]}}x1",
            "{{count:2 sum:3 buckets:[2]}} {{count:2 sum:3 buckets:[2]}}",
        );
        check(
            "{{sum:3 count:2 buckets:[2]}}+{{sum:1 count:2 buckets:[1] offset:2}}x2",
            "{{count:2 sum:3 buckets:[2]}} {{count:4 sum:4 buckets:[2 0 1]}} {{count:6 sum:5 buckets:[2 0 2]}}",
        );
        check(
            "{{schema:-53 custom_values:[1 5] count:3 buckets:[1 2]}}",
            "{{schema:-53 count:3 custom_values:[1 5] buckets:[1 2]}}",
        );
        check("{{}}", "{{}}");
        check(
            "{{count:3 buckets:[3]}}-{{count:1 buckets:[1]}}x2",
            "{{count:3 buckets:[3]}} {{count:2 buckets:[2]}} {{count:1 buckets:[1]}}",
        );
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        check("1 two", "expected a number, `stale`, `_` or a histogram `{{...}}` at character 3");
        check("1+1", "expected `x` and how often the step is taken at character 4");
        check("1x", "expected a whole number behind `x` at character 2");
        check("1x2y", "expected a space between values at character 4");
        check("{{sum:1", "expected a histogram that ends with `}}` at character 1");
        check("{{summ:1}}", "unknown key \"summ\", expected one such as buckets:[5 10 7] in {{summ:1}}");
        check("1x99999999", "more than 1000000 values");
    }

    #[test]
    fn labels_are_read() {
        let check = |text: &str, want: &str| {
            let got = labels(text).map_or_else(|e| e, |l| l.to_string());
            assert_eq!(got, want, "{text}");
        };
        check("up", "up");
        check("up{job=\"a\", instance='b:1',}", "up{instance=\"b:1\", job=\"a\"}");
        check("{\"http.requests\", \"http.code\"=\"200\"}", "{\"http.requests\", \"http.code\"=\"200\"}");
        check("requests{}", "requests");
        check("", "{}");
        check("up{job=\"a\"", "expected `,` or the closing `}` at character 11");
        check("up{job}", "expected `=` and a value in quotes at character 7");
        check("up x", "expected nothing more at character 4");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in r#"([0-9]{1,3}|\.|e|\+|-|x|_|stale| |\{\{|\}\}|sum:|buckets:\[|\]|schema:|é|"|=|\{|\}|up){0,16}"#) {
            let _ = values(&text);
            let _ = labels(&text);
        }
    }
}
