//! TraceQL's text into tokens, with the byte where each begins.

use super::error::ParseError;

/// Bytes of a query.
pub(crate) const TEXT_BYTES_MAX: usize = 64 << 10;
/// Tokens of a query.
const TOKENS_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A keyword, a function or an intrinsic: `duration`, `status`, `span:name`.
    Word(String),
    /// `span.http.method`, `.foo`: the scope without its dot, and the name.
    Attribute(String, String),
    Text(String),
    Int(i64),
    Float(f64),
    Nanos(i64),
    /// `{`, `>=`, `&>>` …
    Symbol(&'static str),
    End,
}

impl Token {
    /// As an error shows it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Word(word) => format!("{word:?}"),
            Self::Attribute(scope, name) => format!("\"{scope}.{name}\""),
            Self::Text(text) => format!("the text {text:?}"),
            Self::Int(n) => format!("the number {n}"),
            Self::Float(n) => format!("the number {n}"),
            Self::Nanos(_) => "a duration".to_owned(),
            Self::Symbol(symbol) => format!("{symbol:?}"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longest first.
const SYMBOLS: [&str; 37] = [
    "&>>", "&<<", "!>>", "!<<", "&&", "||", "=~", "!~", "!=", ">=", "<=", ">>", "<<", "&>", "&<", "&~", "!>",
    "!<", "{", "}", "(", ")", "=", ">", "<", "!", "|", "~", "+", "-", "*", "/", "%", "^", ",", "[", "]",
];

/// What may stand before the dot of an attribute.
const SCOPES: [&str; 6] = ["span", "resource", "event", "link", "instrumentation", "parent"];

pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("query of {} bytes is longer than the {TEXT_BYTES_MAX} allowed", text.len());
        return Err(ParseError::at(text, 0, message));
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let token = lexer.next()?;
        let is_end = token == Token::End;
        tokens.push((at, token));
        if is_end {
            return Ok(tokens);
        }
        if tokens.len() > TOKENS_MAX {
            return Err(lexer.error(at, format!("more than {TOKENS_MAX} tokens")));
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ParseError {
        ParseError::at(self.text, at, message)
    }

    fn skip_space(&mut self) {
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        let Some(first) = self.rest().chars().next() else { return Ok(Token::End) };
        match first {
            '"' | '`' => self.text_token().map(Token::Text),
            '0'..='9' => self.number(),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) && !self.may_be_name() => {
                self.number()
            }
            '.' => self.attribute(""),
            c if c.is_alphabetic() || c == '_' => self.word(),
            _ => match SYMBOLS.iter().find(|s| self.rest().starts_with(**s)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Ok(Token::Symbol(symbol))
                }
                None => Err(self.error(self.at, format!("unexpected character {first:?}"))),
            },
        }
    }

    /// `.5` is a number, `.5xx` an attribute.
    fn may_be_name(&self) -> bool {
        let name = self.rest()[1..].split(|c| !is_attribute_char(c)).next().unwrap_or("");
        name.contains(|c: char| c.is_alphabetic())
    }

    fn word(&mut self) -> Result<Token, ParseError> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
        let word = self.rest()[..length(self.rest())].to_owned();
        let after = &self.rest()[word.len()..];
        if after.starts_with('.') && SCOPES.contains(&word.as_str()) {
            self.at += word.len();
            return self.attribute(&word);
        }
        if let Some(intrinsic) = after.strip_prefix(':')
            && intrinsic.starts_with(is_word)
        {
            let end = word.len() + 1 + length(intrinsic);
            let token = Token::Word(self.rest()[..end].to_owned());
            self.at += end;
            return Ok(token);
        }
        self.at += word.len();
        Ok(Token::Word(word))
    }

    /// From the dot on.
    fn attribute(&mut self, scope: &str) -> Result<Token, ParseError> {
        let begin = self.at;
        self.at += 1;
        if scope == "parent" {
            for inner in ["span", "resource"] {
                if self.rest().starts_with(&format!("{inner}.")) {
                    self.at += inner.len();
                    let Token::Attribute(_, name) = self.attribute(inner)? else {
                        unreachable!("it gives one")
                    };
                    return Ok(Token::Attribute(format!("parent.{inner}"), name));
                }
            }
        }
        let mut name = String::new();
        loop {
            match self.rest().chars().next() {
                Some('"') => name.push_str(&self.text_token()?),
                Some(c) if is_attribute_char(c) => {
                    name.push(c);
                    self.at += c.len_utf8();
                }
                _ => break,
            }
        }
        if name.is_empty() {
            return Err(self.error(begin, "expected the name of an attribute after the dot"));
        }
        Ok(Token::Attribute(scope.to_owned(), name))
    }

    fn text_token(&mut self) -> Result<String, ParseError> {
        let begin = self.at;
        let quote = if self.rest().starts_with('`') { '`' } else { '"' };
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                return Err(self.error(begin, "text is not closed: expected a second quote"));
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(out),
                '\\' if quote == '"' => out.push(self.escape()?),
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let at = self.at - 1;
        let wrong = "unknown escape in a text: expected \\\\, \\\", \\n, \\t, \\r, \\xHH or \\uHHHH";
        let Some(c) = self.rest().chars().next() else { return Err(self.error(at, wrong)) };
        self.at += c.len_utf8();
        let digits = match c {
            '\\' | '"' | '\'' | '/' => return Ok(c),
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'x' => 2,
            'u' => 4,
            _ => return Err(self.error(at, wrong)),
        };
        let code = self.rest().get(..digits).and_then(|d| u32::from_str_radix(d, 16).ok());
        let Some(found) = code.and_then(char::from_u32) else { return Err(self.error(at, wrong)) };
        self.at += digits;
        Ok(found)
    }

    /// A number, or a duration as `1h30m` or `1.5s`.
    fn number(&mut self) -> Result<Token, ParseError> {
        let begin = self.at;
        let mut nanos = 0f64;
        let mut is_duration = false;
        loop {
            let digits =
                self.rest().find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest().len());
            let number = &self.text[self.at..self.at + digits];
            let exponent = if is_duration { 0 } else { exponent(&self.text[self.at + digits..]) };
            let whole = &self.text[self.at..self.at + digits + exponent];
            let after = &self.text[self.at + whole.len()..];
            let unit = &after[..after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len())];
            if unit.is_empty() && !is_duration {
                self.at += whole.len();
                if let Ok(int) = whole.parse::<i64>() {
                    return Ok(Token::Int(int));
                }
                return whole.parse().map(Token::Float).map_err(|_| self.error(begin, "not a number"));
            }
            let Some(scale) = nanos_of_unit(unit) else {
                let message = "expected a unit of time after the number: ns, us, ms, s, m, h, d or w";
                return Err(self.error(self.at + whole.len(), message));
            };
            let value: f64 = number.parse().map_err(|_| self.error(begin, "not a duration"))?;
            nanos += value * scale;
            is_duration = true;
            self.at += whole.len() + unit.len();
            if !self.rest().starts_with(|c: char| c.is_ascii_digit()) {
                return Ok(Token::Nanos(nanos.round() as i64));
            }
        }
    }
}

/// Nanoseconds of a unit of time as Go and TraceQL write it.
pub fn nanos_of_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        "w" => 7.0 * 86_400e9,
        _ => return None,
    })
}

/// Length of `e9` or `E-3` at the beginning.
fn exponent(text: &str) -> usize {
    let Some(rest) = text.strip_prefix(['e', 'E']) else { return 0 };
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    let n = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if n == 0 { 0 } else { text.len() - digits.len() + n }
}

fn is_attribute_char(c: char) -> bool {
    !c.is_whitespace() && !"{}()=~!<>&|^,\"`".contains(c)
}
