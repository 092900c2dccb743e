//! Walks the nodes over a value: Go's `text/template/exec.go`.

use std::collections::BTreeMap;

use super::node::{Arg, ArgKind, Branch, Command, ListNode, Node, Number, Pipe, describe_branch};
use super::{CallError, Functions, Limits, TemplateError, Tree, Value, builtin, time};

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

enum Stop {
    Failed(TemplateError),
    Break,
    Continue,
}

type Result<T, E = Stop> = std::result::Result<T, E>;

/// The node that an error points at: the last one that was looked at.
#[derive(Clone, Copy)]
enum Place<'a> {
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

struct State<'a, F> {
    templates: &'a BTreeMap<String, Tree>,
    functions: &'a F,
    limits: Limits,
    name: &'a str,
    tree: &'a Tree,
    place: Option<Place<'a>>,
    variables: Vec<(String, Value)>,
    out: String,
    steps: usize,
    depth: usize,
    nesting: usize,
}

impl<'a, F: Functions> State<'a, F> {
    fn list(&mut self, dot: &Value, list: &'a ListNode) -> Result<()> {
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

    fn template(&mut self, name: &str, data: &Value) -> Result<()> {
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

    fn pipeline(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value> {
        self.enter()?;
        self.place = Some(Place::Pipe(pipe));
        let mut value: Option<Value> = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for variable in &pipe.declares {
            if pipe.is_assign {
                self.assign(variable, value.clone())?;
            } else {
                self.variables.push((variable.clone(), value.clone()));
            }
        }
        self.nesting -= 1;
        Ok(value)
    }

    /// `last` is what the command before gave: the last argument.
    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Result<Value> {
        self.step()?;
        let first = &command.args[0];
        match &first.kind {
            ArgKind::Identifier(name) => {
                self.place = Some(Place::Arg(first));
                let places = (Place::Arg(first), Place::Command(command));
                return self.function(dot, name, places, &command.args[1..], last);
            }
            ArgKind::Field(_) | ArgKind::Variable(_) | ArgKind::Chain(..) => {
                return self.fields(dot, first, &command.args[1..], last);
            }
            ArgKind::Pipe(pipe) => {
                self.no_arguments(command, last.as_ref())?;
                return self.pipeline(dot, pipe);
            }
            ArgKind::Dot
            | ArgKind::Nil
            | ArgKind::Bool(_)
            | ArgKind::Number { .. }
            | ArgKind::Text { .. } => {}
        }
        self.place = Some(Place::Arg(first));
        self.no_arguments(command, last.as_ref())?;
        match &first.kind {
            ArgKind::Nil => self.fail("nil is not a command".to_owned()),
            _ => self.arg(dot, first),
        }
    }

    fn no_arguments(&mut self, command: &'a Command, last: Option<&Value>) -> Result<()> {
        if command.args.len() > 1 || last.is_some() {
            return self.fail(format!("can't give argument to non-function {}", command.args[0]));
        }
        Ok(())
    }

    fn arg(&mut self, dot: &Value, arg: &'a Arg) -> Result<Value> {
        self.step()?;
        self.place = Some(Place::Arg(arg));
        match &arg.kind {
            ArgKind::Dot => Ok(dot.clone()),
            ArgKind::Nil => Ok(Value::Nil),
            ArgKind::Bool(b) => Ok(Value::Bool(*b)),
            ArgKind::Number { value: Number::Int(v), .. } => Ok(Value::Int(*v)),
            ArgKind::Number { value: Number::Float(v), .. } => Ok(Value::Float(*v)),
            ArgKind::Text { text, .. } => Ok(Value::from(text.as_str())),
            ArgKind::Identifier(name) => {
                self.function(dot, name, (Place::Arg(arg), Place::Arg(arg)), &[], None)
            }
            ArgKind::Field(_) | ArgKind::Variable(_) | ArgKind::Chain(..) => self.fields(dot, arg, &[], None),
            ArgKind::Pipe(pipe) => self.pipeline(dot, pipe),
        }
    }

    /// `.a.b`, `$x.a` or `(pipeline).a`; arguments belong to the last name, which must then be a method.
    fn fields(&mut self, dot: &Value, arg: &'a Arg, args: &'a [Arg], last: Option<Value>) -> Result<Value> {
        self.place = Some(Place::Arg(arg));
        let (mut value, names): (Value, &'a [String]) = match &arg.kind {
            ArgKind::Field(names) => (dot.clone(), names),
            ArgKind::Variable(names) => (self.variable(&names[0])?, &names[1..]),
            ArgKind::Chain(of, names) => (self.arg(dot, of)?, names),
            _ => unreachable!("the callers match these three"),
        };
        let Some((method, names)) = names.split_last() else {
            if !args.is_empty() || last.is_some() {
                return self.fail(format!("can't give argument to non-function {arg}"));
            }
            return Ok(value);
        };
        for name in names {
            value = self.field(&value, name, &[], false)?;
        }
        let place = self.place;
        let mut values = Vec::new();
        for arg in args {
            values.push(self.arg(dot, arg)?);
        }
        self.place = place;
        let has_args = !values.is_empty() || last.is_some();
        values.extend(last);
        self.field(&value, method, &values, has_args)
    }

    fn field(&mut self, of: &Value, name: &str, args: &[Value], has_args: bool) -> Result<Value> {
        self.step()?;
        if let Some(result) = self.method(of, name, args) {
            return self.called(name, result);
        }
        match of {
            Value::Nil => Ok(Value::Nil),
            Value::Map(map) => {
                if has_args {
                    return self.fail(format!("{name} is not a method but has arguments"));
                }
                Ok(map.entries.get(name).unwrap_or(&map.missing).clone())
            }
            Value::Record(record) => match record.fields.iter().find(|(n, _)| *n == name) {
                Some(_) if has_args => {
                    self.fail(format!("{name} has arguments but cannot be invoked as function"))
                }
                Some((_, value)) => Ok(value.clone()),
                None => self.no_field(of, name),
            },
            _ => self.no_field(of, name),
        }
    }

    fn no_field(&mut self, of: &Value, name: &str) -> Result<Value> {
        self.fail(format!("can't evaluate field {name} in type {}", of.type_name()))
    }

    fn method(
        &self,
        of: &Value,
        name: &str,
        args: &[Value],
    ) -> Option<std::result::Result<Value, CallError>> {
        match (of, name) {
            (Value::Time(at), "Format") => Some(match args {
                [Value::Text(layout)] => Ok(Value::from(time::format(*at, layout))),
                _ => Err(CallError::wrong_number("Format", 1, args.len())),
            }),
            (Value::Time(at), _) => time::method(*at, name).map(Ok),
            _ => self.functions.method(of, name, args),
        }
    }

    /// `places` are the function's name and the call as a whole, for errors.
    fn function(
        &mut self,
        dot: &Value,
        name: &str,
        places: (Place<'a>, Place<'a>),
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Result<Value> {
        // The only ones that may leave arguments alone.
        if matches!(name, "and" | "or") {
            return self.and_or(dot, name == "or", args, last);
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.arg(dot, arg)?);
        }
        values.extend(last);
        // Functions of the caller come first, as a FuncMap does in Go.
        if self.functions.has(name) && name != "tmpl" {
            let result = self.functions.call(name, &values);
            return self.called_at(places, name, args, result);
        }
        if name == "tmpl" {
            return self.captured(&values);
        }
        let result = builtin::call(name, &values, self.limits.output_bytes_max);
        self.called_at(places, name, args, result)
    }

    /// As Go: a call that failed is pointed at as a whole, its name where the number of arguments is wrong, and an
    /// argument that does not fit itself.
    fn called_at(
        &mut self,
        (name_at, node): (Place<'a>, Place<'a>),
        name: &str,
        args: &'a [Arg],
        result: std::result::Result<Value, CallError>,
    ) -> Result<Value> {
        let before = self.place;
        match &result {
            Ok(_) | Err(CallError::Failed(_)) => self.place = Some(node),
            Err(CallError::Number(_)) => self.place = Some(name_at),
            Err(CallError::Type { expected, .. }) => {
                let constant = |a: &&Arg| matches!(a.kind, ArgKind::Number { .. } | ArgKind::Bool(_));
                if let Some(arg) = args.iter().find(constant).filter(|_| expected == "string") {
                    self.place = Some(Place::Arg(arg));
                    return self.fail(format!("expected string; found {arg}"));
                }
            }
        }
        let value = self.called(name, result)?;
        self.place = before;
        Ok(value)
    }

    /// `tmpl "name" data`: a template whose name is only known now, as a value.
    fn captured(&mut self, args: &[Value]) -> Result<Value> {
        let [Value::Text(name), data] = args else {
            return self.called("tmpl", Err(CallError::wrong_number("tmpl", 2, args.len())));
        };
        let outer = std::mem::take(&mut self.out);
        let done = self.template(name, data);
        let inner = std::mem::replace(&mut self.out, outer);
        done.map(|()| Value::from(inner))
    }

    fn called(&mut self, name: &str, result: std::result::Result<Value, CallError>) -> Result<Value> {
        match result {
            Ok(Value::Text(text)) if text.len() > self.limits.output_bytes_max => {
                let max = self.limits.output_bytes_max;
                self.fail(format!("{name} gives {} bytes, more than the {max} allowed", text.len()))
            }
            Ok(value) => Ok(value),
            Err(CallError::Failed(error)) => self.fail(format!("error calling {name}: {error}")),
            Err(CallError::Number(error)) => self.fail(error),
            Err(CallError::Type { expected, got }) => {
                self.fail(format!("wrong type for value; expected {expected}; got {got}"))
            }
        }
    }

    /// The first argument that decides, or the last.
    fn and_or(&mut self, dot: &Value, is_or: bool, args: &'a [Arg], last: Option<Value>) -> Result<Value> {
        let mut value = Value::Nil;
        for arg in args {
            value = self.arg(dot, arg)?;
            if value.is_true() == is_or {
                return Ok(value);
            }
        }
        match (last, args.is_empty()) {
            (Some(last), _) => Ok(last),
            (None, false) => Ok(value),
            (None, true) => {
                let name = if is_or { "or" } else { "and" };
                self.fail(format!("wrong number of args for {name}: want at least 1 got 0"))
            }
        }
    }

    fn variable(&mut self, name: &str) -> Result<Value> {
        match self.variables.iter().rev().find(|(n, _)| n == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<()> {
        match self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            Some((_, old)) => {
                *old = value;
                Ok(())
            }
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    fn print(&mut self, value: &Value) -> Result<()> {
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

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > self.limits.steps_max {
            return self.fail(format!("more than {} steps", self.limits.steps_max));
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<()> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return self.fail(format!("nested deeper than {NESTING_MAX} blocks and templates"));
        }
        Ok(())
    }

    fn fail<T>(&self, message: String) -> Result<T> {
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
