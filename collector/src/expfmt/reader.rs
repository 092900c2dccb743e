//! `Reader`: walks a body line by line; `Cursor`: the words within a line.

use std::borrow::Cow;

use davy_model::{Timestamp, name};
use memchr::{memchr, memchr3};

use super::comment::{self, Comment};
use super::{ExemplarLine, Format, LINE_LABELS_MAX, LabelBuf, ParseError, Point, number};

/// Longest piece of a wrong line that an error quotes.
const QUOTE_CHARS_MAX: usize = 40;

/// What the next line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Comment,
    Sample,
}

/// A body and a position in it. After an error the position is of no use.
#[derive(Debug)]
pub struct Reader<'a> {
    cursor: Cursor<'a>,
    format: Format,
}

impl<'a> Reader<'a> {
    /// Fails if the body is not UTF-8.
    pub fn new(body: &'a [u8], format: Format) -> Result<Self, ParseError> {
        match std::str::from_utf8(body) {
            Ok(text) => Ok(Self { cursor: Cursor { text, at: 0 }, format }),
            Err(e) => {
                let valid = std::str::from_utf8(&body[..e.valid_up_to()]).expect("valid up to there");
                let cursor = Cursor { text: valid, at: valid.len() };
                let mut error = cursor.error("valid UTF-8");
                error.got = format!("byte 0x{:02x}", body[e.valid_up_to()]);
                Err(error)
            }
        }
    }

    /// Moves to the next line that says something; `None` at the end.
    pub(crate) fn peek(&mut self) -> Result<Option<Kind>, ParseError> {
        if self.format == Format::OpenMetrics {
            return self.peek_openmetrics();
        }
        loop {
            match self.cursor.peek() {
                None => return Ok(None),
                Some(b'\n' | b' ' | b'\t') => self.cursor.bump(1),
                Some(b'#') => return Ok(Some(Kind::Comment)),
                Some(_) => return Ok(Some(Kind::Sample)),
            }
        }
    }

    fn peek_openmetrics(&mut self) -> Result<Option<Kind>, ParseError> {
        match self.cursor.peek() {
            None => Err(self.cursor.error("`# EOF` as the last line")),
            Some(b'#') => match self.cursor.rest().strip_prefix("# EOF") {
                Some("" | "\n") => Ok(None),
                Some(rest) if rest.starts_with('\n') => {
                    self.cursor.bump("# EOF\n".len());
                    Err(self.cursor.error("nothing after `# EOF`"))
                }
                _ => Ok(Some(Kind::Comment)),
            },
            Some(_) => Ok(Some(Kind::Sample)),
        }
    }

    /// Name and labels of a sample's line into `labels`; returns them as they stand in the body.
    pub fn series(&mut self, labels: &mut LabelBuf<'a>) -> Result<&'a str, ParseError> {
        labels.clear();
        let (text, start) = (self.cursor.text, self.cursor.at);
        if let Some(metric) = self.cursor.metric_name() {
            labels.push((Cow::Borrowed(name::METRIC), Cow::Borrowed(metric)));
            let end = self.cursor.at;
            let blanks = self.cursor.skip_blanks();
            if self.cursor.peek() != Some(b'{') {
                if blanks == 0 {
                    return Err(self.cursor.error("a blank or `{` after the metric's name"));
                }
                self.cursor.at = end;
                return Ok(&text[start..end]);
            }
        } else if self.cursor.peek() != Some(b'{') {
            return Err(self.cursor.error("a metric's name"));
        }
        self.cursor.labels(labels, true)?;
        if labels.iter().all(|(n, _)| n != name::METRIC) {
            return Err(self.cursor.error_at(start, "a metric's name before or within the braces"));
        }
        Ok(&text[start..self.cursor.at])
    }

    /// The value of a line that has nothing else, as nearly every line: a short number and a line feed.
    pub(crate) fn short_value(&mut self) -> Option<f64> {
        let number = self.ahead().strip_prefix(b" ")?;
        let (value, len) = number::short(number)?;
        (number.get(len) == Some(&b'\n')).then(|| {
            self.cursor.at += len + 2;
            value
        })
    }

    /// Value, timestamp and exemplar, to the end of the line.
    pub fn point(&mut self) -> Result<Point<'a>, ParseError> {
        self.cursor.skip_blanks();
        let value = self.cursor.float()?;
        let mut point = Point { value, timestamp: None, exemplar: None };
        if self.cursor.peek() != Some(b'\n') {
            self.rest_of_point(&mut point)?;
        }
        self.cursor.bump(1);
        Ok(point)
    }

    fn rest_of_point(&mut self, point: &mut Point<'a>) -> Result<(), ParseError> {
        self.cursor.skip_blanks();
        if !matches!(self.cursor.peek(), None | Some(b'\n' | b'#')) {
            point.timestamp = Some(self.timestamp()?);
            self.cursor.skip_blanks();
        }
        if self.format == Format::OpenMetrics && self.cursor.peek() == Some(b'#') {
            self.cursor.bump(1);
            self.cursor.skip_blanks();
            point.exemplar = Some(self.exemplar()?);
        }
        self.cursor.end_of_line()
    }

    fn exemplar(&mut self) -> Result<ExemplarLine<'a>, ParseError> {
        let (text, start) = (self.cursor.text, self.cursor.at);
        if self.cursor.peek() != Some(b'{') {
            return Err(self.cursor.error("`{` of an exemplar's labels"));
        }
        let mut labels = LabelBuf::new();
        self.cursor.labels(&mut labels, false)?;
        self.cursor.skip_blanks();
        let value = self.cursor.float()?;
        self.cursor.skip_blanks();
        let at_end = matches!(self.cursor.peek(), None | Some(b'\n'));
        let timestamp = if at_end { None } else { Some(self.timestamp()?) };
        let text = text[start..self.cursor.at].trim_end_matches([' ', '\t']);
        self.cursor.skip_blanks();
        Ok(ExemplarLine { text, labels, value, timestamp })
    }

    fn timestamp(&mut self) -> Result<Timestamp, ParseError> {
        let at = self.cursor.at;
        let token = self.cursor.token();
        let (timestamp, expected) = match self.format {
            Format::Text => (token.parse().ok().map(Timestamp::from_millis), "a timestamp in milliseconds"),
            Format::OpenMetrics => {
                (number::float(token).and_then(Timestamp::from_secs_f64), "a timestamp in seconds")
            }
        };
        timestamp.ok_or_else(|| self.cursor.error_at(at, expected))
    }

    /// A whole line that begins with `#`.
    pub(crate) fn comment(&mut self) -> Result<Comment<'a>, ParseError> {
        let comment = comment::comment(&mut self.cursor, self.format)?;
        self.cursor.rest_of_line();
        self.cursor.end_of_line()?;
        self.cursor.bump(1);
        Ok(comment)
    }

    /// What is not read yet.
    pub(crate) fn ahead(&self) -> &'a [u8] {
        &self.cursor.text.as_bytes()[self.cursor.at..]
    }

    /// Steps over name and labels, known to be so long, if the line has no more of them.
    pub(crate) fn skip_series(&mut self, len: usize) -> bool {
        let (known, after) = self.ahead().split_at(len);
        let complete = known.last() == Some(&b'}')
            || (matches!(after.first(), Some(b' ' | b'\t'))
                && after.iter().find(|b| !matches!(b, b' ' | b'\t')) != Some(&b'{'));
        if complete {
            self.cursor.bump(len);
        }
        complete
    }

    /// Steps over a line that is known to be so long, if it is no longer.
    pub(crate) fn skip_line(&mut self, len: usize) -> bool {
        let complete = self.ahead().get(len) == Some(&b'\n');
        if complete {
            self.cursor.bump(len + 1);
        }
        complete
    }

    /// Where name and labels of the line end, found without reading them. For a line that is wrong the answer may
    /// be wrong too: only text that was parsed before may be trusted.
    pub(crate) fn series_text(&self) -> &'a str {
        let rest = self.cursor.rest();
        let bytes = rest.as_bytes();
        let name = bytes.iter().position(|b| matches!(b, b'{' | b' ' | b'\t' | b'\n')).unwrap_or(bytes.len());
        let mut at = name + bytes[name..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if bytes.get(at) != Some(&b'{') {
            return &rest[..name];
        }
        while let Some(i) = memchr3(b'"', b'}', b'\n', &bytes[at..]) {
            at += i + 1;
            match bytes[at - 1] {
                b'}' => return &rest[..at],
                b'"' => match end_of_quoted(&bytes[at..]) {
                    Some(len) => at += len + 1,
                    None => return "",
                },
                _ => return "",
            }
        }
        ""
    }

    /// The line that is peeked at, without its line feed.
    pub(crate) fn line_text(&self) -> &'a str {
        let rest = self.cursor.rest();
        &rest[..memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len())]
    }
}

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn peek_is_blank(&self) -> bool {
        matches!(self.peek(), Some(b' ' | b'\t'))
    }

    /// Only ever over ASCII, or to a place that a search for ASCII found.
    pub(super) fn bump(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.text.len());
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn skip_blanks(&mut self) -> usize {
        self.take_while(|b| matches!(b, b' ' | b'\t')).len()
    }

    /// `accept` must not take part of a character: it accepts ASCII, or everything but some ASCII.
    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.bytes().position(|b| !accept(b)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    pub(super) fn word(&mut self) -> &'a str {
        self.take_while(|b| b.is_ascii_alphabetic())
    }

    /// Up to the next blank or line feed.
    fn token(&mut self) -> &'a str {
        self.take_while(|b| !matches!(b, b' ' | b'\t' | b'\n'))
    }

    pub(super) fn rest_of_line(&mut self) -> &'a str {
        let rest = self.rest();
        let len = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn end_of_line(&mut self) -> Result<(), ParseError> {
        self.skip_blanks();
        if self.peek() == Some(b'\n') { Ok(()) } else { Err(self.error("the end of the line (a line feed)")) }
    }

    pub(super) fn metric_name(&mut self) -> Option<&'a str> {
        self.identifier(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
    }

    fn identifier(&mut self, accept: impl Fn(u8) -> bool) -> Option<&'a str> {
        let first = self.peek()?;
        (accept(first) && !first.is_ascii_digit()).then(|| self.take_while(accept))
    }

    fn float(&mut self) -> Result<f64, ParseError> {
        let at = self.at;
        let token = self.token();
        if token.len() == self.text.len() - at {
            return Err(self.error("the end of the line (a line feed)"));
        }
        number::float(token).ok_or_else(|| self.error_at(at, "a number"))
    }

    /// `{...}`; with `naming`, a quoted string alone is the metric's name.
    fn labels(&mut self, labels: &mut LabelBuf<'a>, naming: bool) -> Result<(), ParseError> {
        self.bump(1);
        loop {
            self.skip_blanks();
            let at = self.at;
            let name = match self.peek() {
                Some(b'}') => {
                    self.bump(1);
                    return Ok(());
                }
                Some(b'"') => self.quoted()?,
                _ => self
                    .identifier(|b| b.is_ascii_alphanumeric() || b == b'_')
                    .map(Cow::Borrowed)
                    .ok_or_else(|| self.error("a label's name or `}`"))?,
            };
            self.skip_blanks();
            let quoted = self.text.as_bytes()[at] == b'"';
            let pair = match self.peek() {
                Some(b'=') => (name, self.label_value()?),
                Some(b',' | b'}') if naming && quoted => (Cow::Borrowed(name::METRIC), name),
                _ => return Err(self.error("`=` after a label's name")),
            };
            if pair.0.is_empty() || labels.iter().any(|(n, _)| *n == pair.0) {
                return Err(self.error_at(at, "a label name of its own (not empty, not twice in a line)"));
            }
            if labels.len() == LINE_LABELS_MAX {
                return Err(self.error_at(at, &format!("at most {LINE_LABELS_MAX} labels")));
            }
            labels.push(pair);
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.bump(1),
                Some(b'}') => {}
                _ => return Err(self.error("`,` or `}` after a label")),
            }
        }
    }

    fn label_value(&mut self) -> Result<Cow<'a, str>, ParseError> {
        self.bump(1);
        self.skip_blanks();
        if self.peek() == Some(b'"') { self.quoted() } else { Err(self.error("a label's value in quotes")) }
    }

    /// A string from its opening quote to after its closing one.
    pub(super) fn quoted(&mut self) -> Result<Cow<'a, str>, ParseError> {
        let rest = &self.text[self.at + 1..];
        match end_of_quoted(rest.as_bytes()) {
            Some(len) => {
                self.at += len + 2;
                Ok(unescape(&rest[..len], true))
            }
            None => Err(self.error("a string that is closed on its line")),
        }
    }

    pub(super) fn error(&self, expected: &str) -> ParseError {
        self.error_at(self.at, expected)
    }

    pub(super) fn error_at(&self, at: usize, expected: &str) -> ParseError {
        let before = &self.text.as_bytes()[..at];
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
        let got = match self.text.as_bytes().get(at) {
            None => "the end of the body".to_owned(),
            Some(b'\n') => "the end of the line".to_owned(),
            Some(_) => {
                let mut word = self.text[at..].chars();
                let first = word.next();
                let more = word.take_while(|c| !matches!(c, ' ' | '\n')).take(QUOTE_CHARS_MAX);
                format!("{:?}", first.into_iter().chain(more).collect::<String>())
            }
        };
        ParseError { line, column: at - line_start + 1, expected: expected.to_owned(), got }
    }
}

/// Length of a string's inside, given what follows its opening quote.
fn end_of_quoted(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr3(b'"', b'\\', b'\n', &bytes[at..])?;
        match bytes[at] {
            b'"' => return Some(at),
            b'\\' if *bytes.get(at + 1)? != b'\n' => at += 2,
            _ => return None,
        }
    }
}

/// `\\`, `\n` and, within quotes, `\"`. Anything else after a backslash stays as it is.
pub(super) fn unescape(s: &str, quotes: bool) -> Cow<'_, str> {
    if memchr(b'\\', s.as_bytes()).is_none() {
        return Cow::Borrowed(s);
    }
    let mut out = String::with_capacity(s.len());
    let mut rest = s;
    while let Some(i) = memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..i]);
        let (plain, taken) = match rest.as_bytes().get(i + 1) {
            Some(b'\\') => ("\\", 2),
            Some(b'n') => ("\n", 2),
            Some(b'"') if quotes => ("\"", 2),
            _ => ("\\", 1),
        };
        out.push_str(plain);
        rest = &rest[i + taken..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}
