//! Evaluates pipelines: commands, fields, methods, functions and variables.

use super::exec::{Place, Result, State};
use super::node::{Arg, ArgKind, Command, Number, Pipe};
use super::{CallError, Functions, Value, builtin, time};

impl<'a, F: Functions> State<'a, F> {
    pub(super) fn pipeline(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value> {
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

    pub(super) fn assign(&mut self, name: &str, value: Value) -> Result<()> {
        match self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            Some((_, old)) => {
                *old = value;
                Ok(())
            }
            None => self.fail(format!("undefined variable: {name}")),
        }
    }
}
