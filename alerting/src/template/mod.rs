//! Alertmanager's `templates`: named Go templates, and the texts of receivers that call them.
//!
//! A text is parsed when the file is read, so that a mistake is an error of the file. One that fails only on a real
//! alert costs its form, not the message: the caller falls back to Davy's own.

mod data;
mod functions;

use davy_model::Timestamp;

pub use crate::gotemplate::TemplateError;
use crate::gotemplate::{Limits, Template};
pub(crate) use data::data;
pub(crate) use functions::Markup;
use functions::Names;

/// What users' files may count on being there.
const DEFAULTS: &str = include_str!("default.tmpl");

/// The templates of all files; later files replace what earlier ones define.
#[derive(Debug, Clone)]
pub struct Templates {
    set: Template,
}

impl Default for Templates {
    fn default() -> Self {
        let set = Template::parse("default.tmpl", DEFAULTS, &Names);
        Self { set: set.expect("Davy's own templates parse") }
    }
}

impl Templates {
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), TemplateError> {
        self.set.add(file, text, &Names)
    }

    /// Parses a receiver's text, and plays it for one alert: a template that is not there is an error now, and what
    /// hangs on the alerts may be one later.
    pub fn text(&self, source: &str) -> Result<Text, TemplateError> {
        let mut template = self.set.clone();
        template.add("", source, &Names)?;
        let text = Text { template };
        match text.expand(&data::sample(), Markup::Plain, Timestamp::from_millis(0)) {
            Err(error) if error.to_string().contains("not defined") => Err(error),
            Ok(_) | Err(_) => Ok(text),
        }
    }
}

/// One text of a receiver, ready to be filled.
#[derive(Debug, Clone)]
pub struct Text {
    template: Template,
}

impl Text {
    /// Values are escaped for the markup; what the template itself says is not.
    pub(crate) fn expand(
        &self,
        data: &crate::gotemplate::Value,
        markup: Markup,
        now: Timestamp,
    ) -> Result<String, TemplateError> {
        self.template.execute_template("", data, &functions::Functions { markup, now }, Limits::default())
    }
}

#[cfg(test)]
mod tests;
