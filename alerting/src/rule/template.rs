//! Labels and annotations of alerts: Go templates over the alert's labels and value.

use std::collections::BTreeMap;

use davy_model::{Labels, Timestamp, Value};

use super::functions::{AlertFunctions, histogram_text};
use super::{Evaluate, Outside};
use crate::gotemplate::{Functions, Limits, Opaque, Template, TemplateError, Value as Go};

/// Put before every text, for those who do not know Go's templates.
const DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                           {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// Whether a label or annotation of the alert `name` can be parsed; the error is Prometheus'.
pub fn check(name: &str, text: &str) -> Result<(), TemplateError> {
    parse(name, text).map(drop)
}

fn parse(name: &str, text: &str) -> Result<Template, TemplateError> {
    Template::parse(&format!("__alert_{name}"), &format!("{DEFINITIONS}{text}"), &Names)
}

/// How many templates were expanded, and what went wrong.
#[derive(Debug, Default)]
pub(super) struct Expansions {
    pub(super) total: usize,
    pub(super) failed: usize,
    pub(super) first_error: Option<String>,
}

/// The texts of one rule, parsed once.
#[derive(Debug, Clone)]
pub(super) struct Templates {
    name: String,
    labels: Vec<(String, Text)>,
    annotations: Vec<(String, Text)>,
}

#[derive(Debug, Clone)]
enum Text {
    /// Without an action: itself.
    Plain(String),
    Template(Template),
    Broken(String),
}

pub(super) struct Expanded {
    pub(super) labels: Vec<(String, String)>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Templates {
    pub(super) fn new(
        name: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let text = |text: &String| match parse(name, text) {
            _ if !text.contains("{{") => Text::Plain(text.clone()),
            Ok(template) => Text::Template(template),
            Err(error) => Text::Broken(format!("error parsing template __alert_{name}: {error}")),
        };
        let texts = |all: &BTreeMap<String, String>| all.iter().map(|(n, t)| (n.clone(), text(t))).collect();
        Self { name: name.to_owned(), labels: texts(labels), annotations: texts(annotations) }
    }

    /// A text that fails is replaced by what is wrong with it: the alert goes out all the same.
    pub(super) fn expand(
        &self,
        labels: &Labels,
        value: &Value,
        at: Timestamp,
        source: &impl Evaluate,
        outside: &Outside,
        expansions: &mut Expansions,
    ) -> Expanded {
        let functions = AlertFunctions { source, at, outside };
        let data = data(labels, value, outside);
        let mut expand = |text: &Text| {
            expansions.total += 1;
            let error = match text {
                Text::Plain(text) => return text.clone(),
                Text::Template(template) => match template.execute(&data, &functions, Limits::default()) {
                    Ok(text) => return text,
                    Err(error) => format!("error executing template __alert_{}: {error}", self.name),
                },
                Text::Broken(error) => error.clone(),
            };
            expansions.failed += 1;
            expansions.first_error.get_or_insert_with(|| error.clone());
            format!("<error expanding template: {error}>")
        };
        Expanded {
            labels: self.labels.iter().map(|(n, t)| (n.clone(), expand(t))).collect(),
            annotations: self
                .annotations
                .iter()
                .map(|(n, t)| (n.clone(), expand(t)))
                .filter(|(_, text)| !text.is_empty())
                .collect(),
        }
    }
}

/// What `.` is.
fn data(labels: &Labels, value: &Value, outside: &Outside) -> Go {
    let external = outside.external_labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    Go::record(
        "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }",
        vec![
            ("Labels", Go::texts(labels.iter())),
            ("ExternalLabels", Go::texts(external)),
            ("ExternalURL", Go::from(outside.external_url.as_str())),
            ("Value", go_value(value)),
        ],
    )
}

pub(super) fn go_value(value: &Value) -> Go {
    match value {
        Value::Float(v) => Go::Float(*v),
        Value::Histogram(h) => Go::Opaque(std::sync::Arc::new(Opaque {
            type_name: "*histogram.FloatHistogram",
            text: histogram_text(h),
        })),
    }
}

/// Enough of the functions to parse with.
struct Names;

impl Functions for Names {
    fn has(&self, name: &str) -> bool {
        super::functions::is_function(name)
    }

    fn call(&self, name: &str, _: &[Go]) -> Result<Go, crate::gotemplate::CallError> {
        Err(crate::gotemplate::CallError::failed(format!("{name} is only known while evaluating")))
    }
}
