//! A report as one page that needs no network: no scripts, no fonts, charts as SVG.

use davy_api::wire::Metric;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::chart::{self, Chart};
use super::{COLUMNS, Report, cells, explain};

const PAGE: &str = include_str!("page.html");

#[derive(Serialize)]
struct Page<'a> {
    report: &'a Report,
    columns: [&'static str; 7],
    rows: Vec<Row<'a>>,
    charts: Vec<Chart>,
    notes: Vec<String>,
    explained: Vec<String>,
    promise: Option<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    cells: [String; 7],
    metric: &'a Metric,
}

pub(super) fn render(report: &Report) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let metrics = &report.verdict.metrics;
    let differences = metrics.iter().filter_map(|m| chart::difference(report, m));
    let page = Page {
        report,
        columns: COLUMNS,
        rows: metrics.iter().map(|metric| Row { cells: cells(metric), metric }).collect(),
        charts: std::iter::once(chart::evidence(report)).chain(differences).collect(),
        notes: report.notes(),
        explained: explain(report),
        promise: report.promise(),
    };
    let rendered = environment.render_named_str("page.html", PAGE, Serde(&page));
    rendered.expect("the page is a valid template and names only what it is given")
}
