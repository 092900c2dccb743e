//! Text to items: Go's `text/template/parse/lex.go`.

const LEFT: &str = "{{";
const RIGHT: &str = "}}";
/// Go's own definition: other spaces are no part of the language.
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Dot,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    TemplateWord,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        self as u8 >= Self::Block as u8
    }
}

#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) kind: Kind,
    /// Byte in the text.
    pub(super) at: usize,
    pub(super) line: usize,
    pub(super) text: String,
}

impl Item {
    /// As Go shows an item in an error.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            k if k.is_keyword() => format!("<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                format!("{:?}...", self.text.chars().take(10).collect::<String>())
            }
            _ => format!("{:?}", self.text),
        }
    }
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    start: usize,
    at: usize,
    line: usize,
    parens: usize,
    items: Vec<Item>,
}

/// Every item up to the end or the first error, which is the last item.
pub(super) fn lex(text: &str) -> Vec<Item> {
    let mut lexer = Lexer { text, start: 0, at: 0, line: 1, parens: 0, items: Vec::new() };
    lexer.run();
    lexer.items
}

impl Lexer<'_> {
    fn run(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let Some(found) = rest.find(LEFT) else {
                self.at = self.text.len();
                if self.at > self.start {
                    self.emit(Kind::Text);
                }
                self.emit(Kind::Eof);
                return;
            };
            let delim = self.at + found;
            let trims = has_left_trim(&self.text[delim + LEFT.len()..]);
            let mut end = delim;
            if trims {
                end = self.start + self.text[self.start..delim].trim_end_matches(SPACES).len();
            }
            self.at = end;
            if end > self.start {
                self.emit(Kind::Text);
            }
            self.skip_to(delim);
            if !self.action(trims) {
                return;
            }
        }
    }

    /// From `{{` to behind `}}`; false once an error has been given.
    fn action(&mut self, trims: bool) -> bool {
        let after = self.at + LEFT.len() + if trims { 2 } else { 0 };
        if self.text[after..].starts_with("/*") {
            return self.comment(after);
        }
        self.at += LEFT.len();
        self.emit(Kind::LeftDelim);
        self.skip_to(after);
        self.parens = 0;
        loop {
            if let Some(trims) = self.at_right() {
                if self.parens > 0 {
                    return self.error("unclosed left paren");
                }
                self.skip_to(self.at + if trims { 2 } else { 0 });
                self.at += RIGHT.len();
                self.emit(Kind::RightDelim);
                if trims {
                    self.skip_spaces();
                }
                return true;
            }
            if !self.inside() {
                return false;
            }
        }
    }

    fn comment(&mut self, after: usize) -> bool {
        let Some(end) = self.text[after..].find("*/") else { return self.error("unclosed comment") };
        self.skip_to(after + end + 2);
        let Some(trims) = self.at_right() else {
            return self.error("comment ends before closing delimiter");
        };
        self.skip_to(self.at + RIGHT.len() + if trims { 2 } else { 0 });
        if trims {
            self.skip_spaces();
        }
        true
    }

    /// One item within an action.
    fn inside(&mut self) -> bool {
        let Some(c) = self.peek() else { return self.error("unclosed action") };
        match c {
            c if SPACES.contains(&c) => self.space(),
            '=' => self.one(Kind::Assign),
            ':' => {
                self.at += 1;
                if self.peek() != Some('=') {
                    return self.error("expected :=");
                }
                self.one(Kind::Declare)
            }
            '|' => self.one(Kind::Pipe),
            '"' => self.quoted(),
            '`' => self.raw(),
            '$' => self.variable(),
            '\'' => self.char_constant(),
            '.' if !self.text[self.at + 1..].starts_with(|c: char| c.is_ascii_digit()) => self.field(),
            '.' | '+' | '-' | '0'..='9' => self.number(),
            '(' => {
                self.parens += 1;
                self.one(Kind::LeftParen)
            }
            ')' => {
                if self.parens == 0 {
                    return self.error("unexpected right paren");
                }
                self.parens -= 1;
                self.one(Kind::RightParen)
            }
            c if is_alphanumeric(c) => self.identifier(),
            c if (' '..='~').contains(&c) => self.one(Kind::Char),
            c => self.error(&format!("unrecognized character in action: {}", unicode(c))),
        }
    }

    fn space(&mut self) -> bool {
        while let Some(c) = self.peek().filter(|c| SPACES.contains(c)) {
            // The space before `-}}` belongs to the delimiter.
            if self.at > self.start && self.at_right().is_some() {
                break;
            }
            self.at += c.len_utf8();
        }
        self.emit(Kind::Space);
        true
    }

    fn identifier(&mut self) -> bool {
        self.take(is_alphanumeric);
        let word = &self.text[self.start..self.at];
        if !self.at_terminator() {
            return self.bad_character();
        }
        let kind = match word {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "range" => Kind::Range,
            "template" => Kind::TemplateWord,
            "with" => Kind::With,
            _ => Kind::Identifier,
        };
        self.emit(kind);
        true
    }

    fn field(&mut self) -> bool {
        self.at += 1;
        if self.at_terminator() {
            self.emit(Kind::Dot);
            return true;
        }
        self.take(is_alphanumeric);
        if !self.at_terminator() {
            return self.bad_character();
        }
        self.emit(Kind::Field);
        true
    }

    fn variable(&mut self) -> bool {
        self.at += 1;
        if !self.at_terminator() {
            self.take(is_alphanumeric);
            if !self.at_terminator() {
                return self.bad_character();
            }
        }
        self.emit(Kind::Variable);
        true
    }

    fn number(&mut self) -> bool {
        if matches!(self.peek(), Some('+' | '-')) {
            self.at += 1;
        }
        let rest = &self.text[self.at..];
        let lower = rest.get(..2).unwrap_or("").to_ascii_lowercase();
        if matches!(lower.as_str(), "0x" | "0o" | "0b") {
            self.at += 2;
            self.take(|c| c.is_ascii_hexdigit() || c == '_');
        } else {
            self.take(|c| c.is_ascii_digit() || c == '_');
            if self.peek() == Some('.') {
                self.at += 1;
                self.take(|c| c.is_ascii_digit() || c == '_');
            }
            if matches!(self.peek(), Some('e' | 'E')) {
                self.at += 1;
                if matches!(self.peek(), Some('+' | '-')) {
                    self.at += 1;
                }
                self.take(|c| c.is_ascii_digit() || c == '_');
            }
        }
        if let Some(c) = self.peek().filter(|c| is_alphanumeric(*c)) {
            self.at += c.len_utf8();
            let text = self.text[self.start..self.at].to_owned();
            return self.error(&format!("bad number syntax: {text:?}"));
        }
        self.emit(Kind::Number);
        true
    }

    fn quoted(&mut self) -> bool {
        self.until('"', Kind::String, "unterminated quoted string")
    }

    fn char_constant(&mut self) -> bool {
        self.until('\'', Kind::CharConstant, "unterminated character constant")
    }

    /// To the quote that is not escaped, on this line.
    fn until(&mut self, quote: char, kind: Kind, unterminated: &str) -> bool {
        self.at += 1;
        loop {
            match self.peek() {
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        None | Some('\n') => return self.error(unterminated),
                        Some(c) => self.at += c.len_utf8(),
                    }
                }
                None | Some('\n') => return self.error(unterminated),
                Some(c) if c == quote => return self.one(kind),
                Some(c) => self.at += c.len_utf8(),
            }
        }
    }

    fn raw(&mut self) -> bool {
        match self.text[self.at + 1..].find('`') {
            None => self.error("unterminated raw quoted string"),
            Some(end) => {
                self.at += end + 2;
                self.emit(Kind::RawString);
                true
            }
        }
    }

    /// Whether `}}` or ` -}}` is next, and if so, whether it trims.
    fn at_right(&self) -> Option<bool> {
        let rest = &self.text[self.at..];
        if rest.starts_with(RIGHT) {
            return Some(false);
        }
        let after = rest.strip_prefix(SPACES)?;
        after.strip_prefix('-')?.starts_with(RIGHT).then_some(true)
    }

    /// Whether what is next may follow a word.
    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.text[self.at..].starts_with(RIGHT),
        }
    }

    fn bad_character(&mut self) -> bool {
        let c = self.peek().expect("the end of the text terminates a word");
        self.error(&format!("bad character {}", unicode(c)))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, accept: impl Fn(char) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.find(|c| !accept(c)).unwrap_or(rest.len());
    }

    fn one(&mut self, kind: Kind) -> bool {
        self.at += 1;
        self.emit(kind);
        true
    }

    fn emit(&mut self, kind: Kind) {
        let text = &self.text[self.start..self.at];
        self.items.push(Item { kind, at: self.start, line: self.line, text: text.to_owned() });
        self.line += text.matches('\n').count();
        self.start = self.at;
    }

    fn skip_to(&mut self, at: usize) {
        self.line += self.text[self.start..at].matches('\n').count();
        (self.start, self.at) = (at, at);
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.skip_to(self.text.len() - rest.trim_start_matches(SPACES).len());
    }

    fn error(&mut self, message: &str) -> bool {
        self.items.push(Item {
            kind: Kind::Error,
            at: self.start,
            line: self.line,
            text: message.to_owned(),
        });
        false
    }
}

/// `{{- ` with a space behind the minus; `{{-3}}` is a number.
fn has_left_trim(after: &str) -> bool {
    after.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACES))
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Go's `%#U`.
fn unicode(c: char) -> String {
    let code = format!("U+{:04X}", c as u32);
    let printable = !c.is_control() && (!c.is_whitespace() || c == ' ');
    if printable { format!("{code} '{c}'") } else { code }
}
