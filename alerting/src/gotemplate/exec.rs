//! Walks the nodes over a value: Go's `text/template/exec.go`.

use std::collections::BTreeMap;

use super::node::{Arg, Branch, Command, ListNode, Node, Pipe, describe_branch};
use super::{Functions, Limits, TemplateError, Tree, Value};

/// Blocks, templates and parentheses within each other: the walk recurses.
const NESTING_MAX: usize = 100;

pub(super) fn execute<F: Functions>(
    templates: &BTreeMap<String, Tree>,
    name: &str,
    data: &Value,
    functions: &F,
    limits: Limits,
) -> Result<String, TemplateError> {
    let Some((name, tree)) = templates.get_key_value(name) else {
        return Err(TemplateError(format!("no template {name:?} associated with template {name:?}")));
    };
    let mut state = State {
        templates,
        functions,
        limits,
        name,
        tree,
        place: None,
        variables: vec![("$".to_owned(), data.clone())],
        out: String::new(),
        steps: 0,
        depth: 0,
        nesting: 0,
    };
    match state.list(data, &tree.root) {
        Ok(()) => Ok(state.out),
        Err(Stop::Failed(error)) => Err(error),
        // The parser takes them only within a range.
        Err(Stop::Break | Stop::Continue) => Ok(state.out),
    }
}

pub(super) enum Stop {
    Failed(TemplateError),
    Break,
    Continue,
}

pub(super) type Result<T, E = Stop> = std::result::Result<T, E>;

/// The node that an error points at: the last one that was looked at.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Pipe(&'a Pipe),
    Command(&'a Command),
    Arg(&'a Arg),
    Branch(&'static str, &'a Branch),
    Action(usize, &'a Pipe),
    Template(usize, &'a str, Option<&'a Pipe>),
}

impl Place<'_> {
    fn at(self) -> usize {
        match self {
            Self::Pipe(p) => p.at,
            Self::Command(c) => c.at,
            Self::Arg(a) => a.at,
            Self::Branch(_, b) => b.at,
            Self::Action(at, _) | Self::Template(at, ..) => at,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Pipe(p) => p.to_string(),
            Self::Command(c) => c.to_string(),
            Self::Arg(a) => a.to_string(),
            Self::Branch(word, b) => describe_branch(word, &b.pipe),
            Self::Action(_, p) => format!("{{{{{p}}}}}"),
            Self::Template(_, name, pipe) => {
                let pipe = pipe.map_or_else(String::new, |p| format!(" {p}"));
                format!("{{{{template {name:?}{pipe}}}}}")
            }
        }
    }
}

pub(super) struct State<'a, F> {
    pub(super) templates: &'a BTreeMap<String, Tree>,
    pub(super) functions: &'a F,
    pub(super) limits: Limits,
    pub(super) name: &'a str,
    pub(super) tree: &'a Tree,
    pub(super) place: Option<Place<'a>>,
    pub(super) variables: Vec<(String, Value)>,
    pub(super) out: String,
    pub(super) steps: usize,
    pub(super) depth: usize,
    pub(super) nesting: usize,
}

impl<'a, F: Functions> State<'a, F> {
    pub(super) fn list(&mut self, dot: &Value, list: &'a ListNode) -> Result<()> {
        self.enter()?;
        for node in &list.nodes {
            self.node(dot, node)?;
        }
        self.nesting -= 1;
        Ok(())
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Result<()> {
        self.step()?;
        match node {
            Node::Text { text } => self.write(text),
            Node::Action { at, pipe } => {
                self.place = Some(Place::Action(*at, pipe));
                let value = self.pipeline(dot, pipe)?;
                if pipe.declares.is_empty() { self.print(&value) } else { Ok(()) }
            }
            Node::If(branch) => self.branch("if", dot, branch),
            Node::With(branch) => self.branch("with", dot, branch),
            Node::Range(branch) => self.range(dot, branch),
            Node::Template { at, name, pipe } => {
                self.place = Some(Place::Template(*at, name, pipe.as_ref()));
                let data = match pipe {
                    Some(pipe) => self.pipeline(dot, pipe)?,
                    None => Value::Nil,
                };
                self.template(name, &data)
            }
            Node::Break => Err(Stop::Break),
            Node::Continue => Err(Stop::Continue),
        }
    }

    fn branch(&mut self, word: &'static str, dot: &Value, branch: &'a Branch) -> Result<()> {
        let mark = self.variables.len();
        self.place = Some(Place::Branch(word, branch));
        let value = self.pipeline(dot, &branch.pipe)?;
        let done = if value.is_true() {
            self.list(if word == "with" { &value } else { dot }, &branch.list)
        } else {
            branch.otherwise.as_ref().map_or(Ok(()), |list| self.list(dot, list))
        };
        self.variables.truncate(mark);
        done
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Result<()> {
        let mark = self.variables.len();
        self.place = Some(Place::Branch("range", branch));
        let over = self.pipeline(dot, &branch.pipe)?;
        let inner = self.variables.len();
        let mut empty = true;
        let nesting = self.nesting;
        let mut each = |state: &mut Self, index: Value, item: &Value| {
            empty = false;
            state.step()?;
            state.iteration_variables(branch, index, item)?;
            let done = state.list(item, &branch.list);
            state.variables.truncate(inner);
            state.nesting = nesting;
            done
        };
        let ran = match &over {
            Value::List(list) => {
                let mut items = list.items.iter().enumerate();
                until_break(|| items.next().map(|(i, item)| each(self, Value::Int(i as i64), item)))
            }
            Value::Map(map) => {
                let mut items = map.entries.iter();
                until_break(|| items.next().map(|(key, item)| each(self, Value::from(key.as_str()), item)))
            }
            Value::Int(n) => {
                let mut items = 0..*n;
                until_break(|| items.next().map(|i| each(self, Value::Int(i), &Value::Int(i))))
            }
            Value::Nil => Ok(()),
            other => {
                let shown = other.printed(self.limits.output_bytes_max);
                return self.fail(format!("range can't iterate over {shown}"));
            }
        };
        ran?;
        if empty && let Some(list) = &branch.otherwise {
            self.list(dot, list)?;
        }
        self.variables.truncate(mark);
        Ok(())
    }

    fn iteration_variables(&mut self, branch: &'a Branch, index: Value, item: &Value) -> Result<()> {
        let pipe = &branch.pipe;
        if pipe.is_assign {
            match &pipe.declares[..] {
                [one] => self.assign(one, item.clone())?,
                [first, second] => {
                    self.assign(first, index)?;
                    self.assign(second, item.clone())?;
                }
                _ => {}
            }
            return Ok(());
        }
        let top = self.variables.len();
        match pipe.declares.len() {
            1 => self.variables[top - 1].1 = item.clone(),
            2 => {
                self.variables[top - 2].1 = index;
                self.variables[top - 1].1 = item.clone();
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn template(&mut self, name: &str, data: &Value) -> Result<()> {
        let Some((name, tree)) = self.templates.get_key_value(name) else {
            return self.fail(format!("template {name:?} not defined"));
        };
        if self.depth >= self.limits.depth_max {
            return self.fail(format!("exceeded maximum template depth ({})", self.limits.depth_max));
        }
        self.depth += 1;
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        let outer = (std::mem::replace(&mut self.name, name), std::mem::replace(&mut self.tree, tree));
        let done = self.list(data, &tree.root);
        (self.name, self.tree) = outer;
        self.variables = variables;
        self.depth -= 1;
        done
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        if let Some(text) = self.functions.shown(value) {
            return self.write(&text);
        }
        match value {
            Value::Nil => self.write("<no value>"),
            Value::Text(text) => self.write(text),
            other => {
                let text = other.printed(self.limits.output_bytes_max);
                self.write(&text)
            }
        }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > self.limits.output_bytes_max {
            return self.fail(format!("the output is longer than {} bytes", self.limits.output_bytes_max));
        }
        self.out.push_str(text);
        Ok(())
    }

    pub(super) fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > self.limits.steps_max {
            return self.fail(format!("more than {} steps", self.limits.steps_max));
        }
        Ok(())
    }

    pub(super) fn enter(&mut self) -> Result<()> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return self.fail(format!("nested deeper than {NESTING_MAX} blocks and templates"));
        }
        Ok(())
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        let message: String = message.into();
        let source = &self.tree.source;
        let message = match self.place {
            None => format!("{}: {message}", self.name),
            Some(place) => {
                let before = source.text.get(..place.at()).unwrap_or(&source.text);
                let line = before.matches('\n').count() + 1;
                let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1);
                let (name, text) = (&source.name, place.text());
                format!("{name}:{line}:{column}: executing {:?} at <{text}>: {message}", self.name)
            }
        };
        Err(Stop::Failed(TemplateError(message)))
    }
}

/// Runs until there is no next one; `{{break}}` ends it, `{{continue}}` goes on.
fn until_break(mut next: impl FnMut() -> Option<Result<()>>) -> Result<()> {
    while let Some(done) = next() {
        match done {
            Ok(()) | Err(Stop::Continue) => {}
            Err(Stop::Break) => return Ok(()),
            Err(failed @ Stop::Failed(_)) => return Err(failed),
        }
    }
    Ok(())
}
