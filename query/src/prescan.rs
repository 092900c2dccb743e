//! A look at a query's text before it is parsed: the parser is quadratic on flat chains and recursive on deep
//! ones, so both are bounded here. The tokens also tell where in the text a construct stands.

use crate::ParseError;

const TEXT_BYTES_MAX: usize = 16 << 10;
const TOKENS_MAX: usize = 2_000;
/// Of brackets, and of signs in a row.
const DEPTH_MAX: usize = 64;

/// The words and signs of a query with their places, comments and spaces left out.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    text: &'a str,
    /// Byte offsets, ascending.
    at: Vec<(usize, &'a str)>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn all(&self) -> &[(usize, &'a str)] {
        &self.at
    }

    /// Where `word` first stands, case aside; the start if it does not.
    pub(crate) fn find(&self, word: &str) -> usize {
        let found = self.at.iter().find(|(_, t)| t.eq_ignore_ascii_case(word));
        self.characters(found.map_or(0, |(i, _)| *i))
    }

    /// Where the first token in quotes in a parser's message stands; failing that the end, where parsers give up.
    pub(crate) fn quoted_in(&self, message: &str) -> usize {
        let mut quoted = message.split(['\'', '"', '<', '>']).skip(1).step_by(2).filter(|q| !q.is_empty());
        let found = quoted.find_map(|q| self.at.iter().find(|(_, t)| *t == q));
        self.characters(found.map_or(self.text.len(), |(i, _)| *i))
    }

    fn characters(&self, byte: usize) -> usize {
        self.text[..byte].chars().count()
    }
}

pub(crate) fn prescan(text: &str) -> Result<Tokens<'_>, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        let detail = format!("query of {} bytes is longer than the {TEXT_BYTES_MAX} allowed", text.len());
        return Err(ParseError { position: 0, detail });
    }
    let mut tokens = Tokens { text, at: Vec::new() };
    let mut open: Vec<(usize, &str)> = Vec::new();
    let mut signs = 0;
    let mut next = 0;
    let fail = |tokens: &Tokens<'_>, at: usize, detail: String| {
        Err(ParseError { position: tokens.characters(at), detail })
    };
    while let Some(start) = start_of_token(text, next) {
        let Some(length) = token_length(&text[start..]) else {
            return fail(&tokens, start, "string without an end".to_owned());
        };
        next = start + length;
        let token = &text[start..next];
        signs = if matches!(token, "+" | "-") { signs + 1 } else { 0 };
        match token {
            "(" | "[" | "{" => open.push((start, token)),
            ")" | "]" | "}" => match open.pop() {
                Some((_, o)) if closes(o, token) => {}
                Some((_, o)) => return fail(&tokens, start, format!("{token:?} does not close {o:?}")),
                None => return fail(&tokens, start, format!("{token:?} closes nothing")),
            },
            _ => {}
        }
        if open.len().max(signs) > DEPTH_MAX {
            return fail(&tokens, start, format!("nested deeper than the {DEPTH_MAX} levels allowed"));
        }
        tokens.at.push((start, token));
        if tokens.at.len() > TOKENS_MAX {
            return fail(&tokens, start, format!("more than the {TOKENS_MAX} words and signs allowed"));
        }
    }
    match open.first() {
        Some((at, o)) => fail(&tokens, *at, format!("{o:?} is never closed")),
        None if tokens.at.is_empty() => fail(&tokens, 0, "empty query".to_owned()),
        None => Ok(tokens),
    }
}

fn closes(open: &str, close: &str) -> bool {
    matches!((open, close), ("(", ")") | ("[", "]") | ("{", "}"))
}

/// The next byte that is neither space nor comment.
fn start_of_token(text: &str, mut from: usize) -> Option<usize> {
    loop {
        let rest = text[from..].trim_start();
        from = text.len() - rest.len();
        match rest.strip_prefix('#') {
            Some(comment) => from += 1 + comment.find('\n').unwrap_or(comment.len()),
            None => return (!rest.is_empty()).then_some(from),
        }
    }
}

/// Bytes of the token that `rest` starts with; `None` for a string without an end.
fn token_length(rest: &str) -> Option<usize> {
    let first = rest.chars().next().expect("start_of_token stops at a character");
    match first {
        '"' | '\'' => {
            let mut escaped = false;
            rest[1..]
                .find(|c| {
                    let end = c == first && !escaped;
                    escaped = c == '\\' && !escaped;
                    end
                })
                .map(|i| i + 2)
        }
        '`' => rest[1..].find('`').map(|i| i + 2),
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') => Some(
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':')))
                .unwrap_or(rest.len()),
        ),
        '=' | '!' | '<' | '>' if matches!(rest.as_bytes().get(1), Some(b'=' | b'~')) => Some(2),
        c => Some(c.len_utf8()),
    }
}
