//! Points as the paths of an SVG chart: a line, a band, a dashed bound.

use davy_api::wire::Metric;
use serde::Serialize;

use super::Report;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 140.0;
/// Points drawn at most: more than the chart is wide shows nothing more.
const POINTS_MAX: usize = 640;
/// Evidence below this is drawn at the bottom.
const EVIDENCE_MIN: f64 = 1e-3;
/// A difference beyond this is drawn at the edge.
const DIFFERENCE_MAX: f64 = 10.0;

#[derive(Debug, Serialize)]
pub(super) struct Chart {
    title: String,
    /// What the dashed line is.
    bound_label: String,
    line: String,
    band: String,
    bound_y: f64,
    zero_y: Option<f64>,
    top: String,
    bottom: String,
    /// Of the last point.
    end_label: String,
}

/// Evidence of the release on a logarithmic scale, against what a rollback needs.
pub(super) fn evidence(report: &Report) -> Chart {
    let highest = report.track.iter().filter_map(|p| p.evidence).fold(10.0, f64::max).min(1e6);
    let (low, high) = (EVIDENCE_MIN.log10(), highest.log10());
    let y = |e: f64| scale(e.max(EVIDENCE_MIN).log10(), low, high);
    let points = thinned(report).map(|p| p.evidence.map(|e| (p.t_s, y(e))));
    let last = report.track.last().and_then(|p| p.evidence);
    Chart {
        title: "evidence that the canary is worse".to_owned(),
        bound_label: "fails at 1".to_owned(),
        line: line(points, end(report)),
        band: String::new(),
        bound_y: y(1.0),
        zero_y: None,
        top: format!("{highest:.0}"),
        bottom: format!("{EVIDENCE_MIN}"),
        end_label: last.map_or_else(String::new, |e| format!("{e:.2}")),
    }
}

/// The difference of one metric with its bounds, against its margin.
pub(super) fn difference(report: &Report, metric: &Metric) -> Option<Chart> {
    let of = |p: &super::Point| p.metrics.iter().find(|m| m.name == metric.name).cloned();
    // Of proportions such as conversion a fall is bad.
    let margin = if metric.class == "proportion" { -metric.margin } else { metric.margin };
    let shown: Vec<_> = thinned(report).map(|p| (p.t_s, of(p))).collect();
    let estimates = || shown.iter().filter_map(|(_, m)| m.as_ref()?.estimate);
    estimates().next()?;
    // The scale of what was seen lately: early bounds are wide and would flatten the rest.
    let late = shown.iter().skip(shown.len() / 4).filter_map(|(_, m)| m.as_ref());
    let bounds = late.flat_map(|m| [m.lower, m.upper, m.estimate]).flatten();
    let (low, high) = bounds
        .chain([0.0, 1.5 * margin])
        .fold((0.0f64, 0.0f64), |(a, b), v| (a.min(v.max(-1.0)), b.max(v.min(DIFFERENCE_MAX))));
    let high = if high > low { high } else { low + 1.0 };
    let y = |v: f64| scale(v, low, high);
    let end = end(report);
    let points = shown.iter().map(|(t, m)| Some((*t, y(m.as_ref()?.estimate?))));
    let edge = |upper: bool| {
        let at = |(t, m): &(f64, Option<super::Track>)| {
            let m = m.as_ref()?;
            let open = if upper { high } else { low };
            m.estimate?;
            Some((*t, y(if upper { m.upper } else { m.lower }.unwrap_or(open))))
        };
        shown.iter().filter_map(at).collect::<Vec<_>>()
    };
    let mut outline = edge(true);
    outline.extend(edge(false).into_iter().rev());
    let last = estimates().next_back();
    Some(Chart {
        title: format!("difference in {}", metric.name.replace('_', " ")),
        bound_label: format!("margin {}", crate::terminal::relative(Some(margin))),
        line: line(points, end),
        band: polygon(&outline, end),
        bound_y: y(margin),
        zero_y: Some(y(0.0)),
        top: crate::terminal::relative(Some(high)),
        bottom: crate::terminal::relative(Some(low)),
        end_label: crate::terminal::relative(last),
    })
}

fn end(report: &Report) -> f64 {
    report.track.last().map_or(1.0, |p| p.t_s.max(1.0))
}

fn thinned(report: &Report) -> impl Iterator<Item = &super::Point> {
    let step = report.track.len().div_ceil(POINTS_MAX).max(1);
    let last = report.track.len().saturating_sub(1);
    report.track.iter().enumerate().filter(move |(i, _)| i % step == 0 || *i == last).map(|(_, p)| p)
}

fn scale(v: f64, low: f64, high: f64) -> f64 {
    let part = ((v - low) / (high - low)).clamp(0.0, 1.0);
    round((1.0 - part) * HEIGHT)
}

fn round(v: f64) -> f64 {
    (v * 10.0).round() / 10.0
}

/// A gap where nothing is known.
fn line(points: impl Iterator<Item = Option<(f64, f64)>>, end: f64) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for point in points {
        if let Some((t, y)) = point {
            let x = round(t / end * WIDTH);
            path.push_str(&format!("{}{x} {y} ", if drawing { "L" } else { "M" }));
        }
        drawing = point.is_some();
    }
    path
}

fn polygon(outline: &[(f64, f64)], end: f64) -> String {
    outline.iter().map(|(t, y)| format!("{},{y} ", round(t / end * WIDTH))).collect()
}
