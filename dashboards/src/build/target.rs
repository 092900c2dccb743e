//! `Target`: one query of a panel, and the data source that answers it.

use serde::Serialize;

/// A data source, by the variable that names it: every board can be pointed elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Metrics,
    Traces,
    /// Grafana's own: annotations by hand.
    Grafana,
}

#[derive(Serialize)]
struct Reference {
    r#type: &'static str,
    uid: &'static str,
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (r#type, uid) = match self {
            Self::Metrics => ("prometheus", "${datasource}"),
            Self::Traces => ("tempo", "${traces}"),
            Self::Grafana => ("grafana", "-- Grafana --"),
        };
        Reference { r#type, uid }.serialize(serializer)
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    pub(crate) ref_id: String,
    datasource: Source,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) expr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    editor_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    legend_format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    instant: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    range: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    exemplar: bool,
    /// The step is at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_type: Option<&'static str>,
    /// TraceQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table_type: Option<&'static str>,
}

fn promql(expr: &str, legend: &str) -> Target {
    Target {
        ref_id: String::new(),
        datasource: Source::Metrics,
        expr: expr.to_owned(),
        editor_mode: Some("code"),
        legend_format: legend.to_owned(),
        format: None,
        instant: false,
        range: false,
        exemplar: false,
        interval: None,
        query_type: None,
        query: None,
        limit: None,
        table_type: None,
    }
}

/// Over time.
pub fn range(expr: &str, legend: &str) -> Target {
    Target { range: true, ..promql(expr, legend) }
}

/// As it stands at the end of the range.
pub fn instant(expr: &str, legend: &str) -> Target {
    Target { instant: true, ..promql(expr, legend) }
}

/// As it stands, a row a series and a column a label.
pub fn table(expr: &str) -> Target {
    Target { format: Some("table"), ..instant(expr, "") }
}

impl Target {
    /// Shows traces on the line.
    pub fn exemplars(self) -> Self {
        Self { exemplar: true, ..self }
    }

    /// Buckets of a classic histogram, for a heatmap.
    pub fn heatmap(self) -> Self {
        Self { format: Some("heatmap"), legend_format: "{{le}}".to_owned(), ..self }
    }

    pub fn min_step(self, interval: &'static str) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// Tempo's service map, which is drawn from the metrics that its data source is wired to.
    pub fn service_map() -> Self {
        let none = promql("", "");
        Self { datasource: Source::Traces, query_type: Some("serviceMap"), editor_mode: None, ..none }
    }

    /// Traces that match.
    pub fn traceql(query: &str, limit: u32) -> Self {
        Self {
            datasource: Source::Traces,
            query_type: Some("traceql"),
            editor_mode: None,
            query: Some(query.to_owned()),
            limit: Some(limit),
            table_type: Some("traces"),
            ..promql("", "")
        }
    }

    pub(crate) fn source(&self) -> Source {
        self.datasource
    }
}
