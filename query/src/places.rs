//! Where selectors and calls stand in a query's text: the parser's tree does not tell, but its nodes come in the
//! order of the text.

use crate::prescan::Tokens;

/// Byte offsets, ascending.
#[derive(Debug, Default)]
pub(crate) struct Places {
    selectors: Vec<usize>,
    calls: Vec<usize>,
    next_selector: usize,
    next_call: usize,
}

const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 8] = ["and", "or", "unless", "atan2", "offset", "bool", "inf", "nan"];

impl Places {
    pub(crate) fn of(tokens: &Tokens<'_>) -> Self {
        let mut places = Self::default();
        let all = tokens.all();
        let lower = |i: usize| all.get(i).map_or(String::new(), |(_, t)| t.to_ascii_lowercase());
        let mut i = 0;
        while i < all.len() {
            let (at, token) = all[i];
            let word = token.to_ascii_lowercase();
            if LABEL_LISTS.contains(&word.as_str()) && lower(i + 1) == "(" {
                i = closing(all, i + 1);
            } else if token == "{" {
                places.selectors.push(at);
                i = closing(all, i);
            } else if token == "[" {
                i = closing(all, i);
            } else if token == "@" && matches!(lower(i + 1).as_str(), "start" | "end") {
                i += 3;
            } else if is_name(token) && !(WORDS.contains(&word.as_str()) && lower(i + 1) != "(") {
                let next = lower(i + 1);
                if next == "(" || ((next == "by" || next == "without") && lower(i + 2) == "(") {
                    places.calls.push(at);
                } else {
                    places.selectors.push(at);
                    if next == "{" {
                        i = closing(all, i + 1);
                    }
                }
            }
            i += 1;
        }
        places
    }

    pub(crate) fn selector(&mut self) -> usize {
        self.next_selector += 1;
        self.selectors.get(self.next_selector - 1).copied().unwrap_or(0)
    }

    pub(crate) fn call(&mut self) -> usize {
        self.next_call += 1;
        self.calls.get(self.next_call - 1).copied().unwrap_or(0)
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
}

/// The bracket that closes the one at `open`; the prescan has seen that there is one.
fn closing(all: &[(usize, &str)], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, (_, token)) in all.iter().enumerate().skip(open) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth -= 1;
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    all.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prescan::prescan;

    #[test]
    fn selectors_and_calls_are_found_in_order() {
        let text =
            r#"sum by (a) (rate(x{b="c"}[5m] @ end() offset 1m)) / on (d) group_left (e) {f="g"} or up"#;
        let mut places = Places::of(&prescan(text).unwrap());
        let rest = |at: usize| &text[at..at + 2];
        assert_eq!([places.call(), places.call()].map(rest), ["su", "ra"]);
        assert_eq!([places.selector(), places.selector(), places.selector()].map(rest), ["x{", "{f", "up"]);
    }
}
