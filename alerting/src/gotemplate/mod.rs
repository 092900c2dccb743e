//! Go's `text/template`, as far as alerts use it: the language of annotations in Prometheus' rule files and of
//! Alertmanager's `templates`.
//!
//! [`Template::parse`] turns text into nodes (`lexer`, `parser`, `node`); [`Template::execute`] walks them over a
//! [`Value`] (`exec`, `eval`, `builtin`, `format`). What a template may call besides Go's builtins is the caller's
//! [`Functions`]. Errors read as Go's do, since people search for them. Everything is bounded by [`Limits`]: a
//! template is other people's text.
//!
//! Written here because the one crate for it (gtmpl 0.7.1) takes only plain function pointers, so that `query`
//! could not reach a source, has no bounds, and stopped before `break`, `else with` and trim rules of today's Go.

mod builtin;
mod eval;
mod exec;
pub(crate) mod float;
mod format;
pub(crate) mod humanize;
mod lexer;
pub(crate) mod library;
mod literal;
mod node;
mod parser;
mod time;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use builtin::escape_query;
pub(crate) use time::format as format_time;
pub use value::{List, Map, Opaque, Record, Value};

use node::ListNode;

/// Longest text of a template.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// How much one execution may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the whole output, and of every text made on the way.
    pub output_bytes_max: usize,
    /// Nodes walked, calls included.
    pub steps_max: usize,
    /// Templates that call templates.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output_bytes_max: 256 << 10, steps_max: 200_000, depth_max: 50 }
    }
}

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Told as "error calling NAME: ...".
    Failed(String),
    /// An argument was not of the right type.
    Type { expected: String, got: &'static str },
    /// There were too many or too few.
    Number(String),
}

impl CallError {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub fn wrong_type(expected: &str, got: &Value) -> Self {
        Self::Type { expected: expected.to_owned(), got: got.type_name() }
    }

    pub fn wrong_number(name: &str, want: usize, got: usize) -> Self {
        Self::Number(format!("wrong number of args for {name}: want {want} got {got}"))
    }
}

/// What a template may call besides Go's builtins.
pub trait Functions {
    /// Whether there is a function of this name: asked while parsing.
    fn has(&self, name: &str) -> bool;

    /// Only called for names that [`Functions::has`].
    fn call(&self, name: &str, args: &[Value]) -> Result<Value, CallError>;

    /// A method of a value; `None` if it has none of this name.
    fn method(&self, receiver: &Value, name: &str, args: &[Value]) -> Option<Result<Value, CallError>> {
        let _ = (receiver, name, args);
        None
    }

    /// How a value is written where its own way does not do: escaped for the markup around it, say.
    fn shown<'v>(&self, value: &'v Value) -> Option<std::borrow::Cow<'v, str>> {
        let _ = value;
        None
    }
}

/// Go's builtins alone.
pub struct NoFunctions;

impl Functions for NoFunctions {
    fn has(&self, _: &str) -> bool {
        false
    }

    fn call(&self, name: &str, _: &[Value]) -> Result<Value, CallError> {
        Err(CallError::failed(format!("{name} is not defined")))
    }
}

/// Why a template was refused or gave up; Go's words, the name and line of the template first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {0}")]
pub struct TemplateError(pub(crate) String);

/// Named templates that may call each other, and the one that was parsed last.
#[derive(Debug, Clone)]
pub struct Template {
    name: String,
    templates: BTreeMap<String, Tree>,
}

/// One template with the text that its errors point into.
#[derive(Debug, Clone)]
struct Tree {
    source: Arc<Source>,
    root: Arc<ListNode>,
}

#[derive(Debug)]
struct Source {
    /// The file or template that it was parsed as.
    name: String,
    text: String,
}

impl Template {
    /// Parses `text` as the template `name`; what it defines is found by name.
    pub fn parse(name: &str, text: &str, functions: &impl Functions) -> Result<Self, TemplateError> {
        let mut template = Self { name: name.to_owned(), templates: BTreeMap::new() };
        template.add(name, text, functions)?;
        Ok(template)
    }

    /// Parses another text into the same set: of templates with the same name the last counts, unless it is blank.
    pub fn add(&mut self, name: &str, text: &str, functions: &impl Functions) -> Result<(), TemplateError> {
        if text.len() > TEXT_BYTES_MAX {
            let got = text.len();
            return Err(TemplateError(format!(
                "{name}: {got} bytes are more than the {TEXT_BYTES_MAX} allowed"
            )));
        }
        let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
        for (defined, root) in parser::parse(name, text, functions)? {
            let keep_old = root.is_blank() && self.templates.contains_key(&defined);
            if !keep_old {
                self.templates.insert(defined, Tree { source: source.clone(), root: Arc::new(root) });
            }
        }
        Ok(())
    }

    pub fn execute(
        &self,
        data: &Value,
        functions: &impl Functions,
        limits: Limits,
    ) -> Result<String, TemplateError> {
        self.execute_template(&self.name, data, functions, limits)
    }

    /// One of the set by its name.
    pub fn execute_template(
        &self,
        name: &str,
        data: &Value,
        functions: &impl Functions,
        limits: Limits,
    ) -> Result<String, TemplateError> {
        exec::execute(&self.templates, name, data, functions, limits)
    }
}
