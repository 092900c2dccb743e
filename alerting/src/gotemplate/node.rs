//! The nodes of a template and how Go writes them, which is what errors quote.

use std::fmt;

/// `at` is a byte of the template's text.
#[derive(Debug, Clone)]
pub(super) struct ListNode {
    pub(super) nodes: Vec<Node>,
}

impl ListNode {
    /// Nothing but spaces and definitions.
    pub(super) fn is_blank(&self) -> bool {
        self.nodes.iter().all(|n| matches!(n, Node::Text { text, .. } if text.trim().is_empty()))
    }
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text { text: String },
    Action { at: usize, pipe: Pipe },
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { at: usize, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) at: usize,
    pub(super) pipe: Pipe,
    pub(super) list: ListNode,
    pub(super) otherwise: Option<ListNode>,
}

#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) is_assign: bool,
    /// Variables with their `$`.
    pub(super) declares: Vec<String>,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) at: usize,
    pub(super) args: Vec<Arg>,
}

#[derive(Debug, Clone)]
pub(super) struct Arg {
    pub(super) at: usize,
    pub(super) kind: ArgKind,
}

#[derive(Debug, Clone)]
pub(super) enum ArgKind {
    Dot,
    Nil,
    Bool(bool),
    Number {
        text: String,
        value: Number,
    },
    Text {
        quoted: String,
        text: String,
    },
    Identifier(String),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`, the variable first.
    Variable(Vec<String>),
    Pipe(Pipe),
    /// `(pipeline).a.b`
    Chain(Box<Arg>, Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.declares.is_empty() {
            let sign = if self.is_assign { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.declares.join(", "))?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            let bar = if i > 0 { " | " } else { "" };
            write!(f, "{bar}{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            let space = if i > 0 { " " } else { "" };
            write!(f, "{space}{arg}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ArgKind::Dot => f.write_str("."),
            ArgKind::Nil => f.write_str("nil"),
            ArgKind::Bool(b) => write!(f, "{b}"),
            ArgKind::Number { text, .. } => f.write_str(text),
            ArgKind::Text { quoted, .. } => f.write_str(quoted),
            ArgKind::Identifier(name) => f.write_str(name),
            ArgKind::Field(names) => write!(f, ".{}", names.join(".")),
            ArgKind::Variable(names) => f.write_str(&names.join(".")),
            ArgKind::Pipe(pipe) => write!(f, "({pipe})"),
            ArgKind::Chain(of, names) => write!(f, "{of}.{}", names.join(".")),
        }
    }
}

/// A node that an error may point at, with its text.
pub(super) fn describe_branch(word: &str, pipe: &Pipe) -> String {
    format!("{{{{{word} {pipe}}}}}")
}
