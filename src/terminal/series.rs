//! The answer to a query as people read it: a table of series, or their lines over time with a legend.

use std::collections::{BTreeMap, BTreeSet};

use console::{Color, measure_text_width, style};

use super::braille::Canvas;
use super::format::number;

/// Rows of a table at most, and lines of a chart: more is for `--json`.
const ROWS_MAX: usize = 1_000;
const LINES_MAX: usize = 12;
/// Lines of text that the dots take.
/// Odd, so that one of them is the middle.
const CHART_HEIGHT: usize = 11;
const CHART_WIDTH_MIN: usize = 20;
/// Told apart on dark and light grounds; in turn.
const COLORS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue, Color::Red];

pub type Metric = BTreeMap<String, String>;

/// A series and its points, by time in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub metric: Metric,
    pub points: Vec<(f64, f64)>,
}

/// A headline with the labels that all rows share, a column for each other label, values on the right.
pub fn table_lines(rows: &[(Metric, String)], width: usize) -> Vec<String> {
    let metrics: Vec<&Metric> = rows.iter().map(|(m, _)| m).collect();
    let shared = shared(&metrics);
    let names: BTreeSet<&str> = metrics
        .iter()
        .flat_map(|m| m.keys())
        .map(String::as_str)
        .filter(|n| !shared.contains_key(*n))
        .collect();
    let mut lines = Vec::new();
    if !shared.is_empty() {
        lines.push(style(selector(&shared)).bold().to_string());
    }
    let shown = &rows[..rows.len().min(ROWS_MAX)];
    let mut columns: Vec<Vec<String>> = names
        .iter()
        .map(|name| {
            let cells = shown.iter().map(|(m, _)| clean(m.get(*name).map_or("", String::as_str)));
            std::iter::once(clean(name)).chain(cells).collect()
        })
        .collect();
    let head = if columns.is_empty() { Vec::new() } else { vec!["value".to_owned()] };
    let values: Vec<String> = head.into_iter().chain(shown.iter().map(|(_, v)| clean(v))).collect();
    let value_width = widest(&values);
    let padded = |cell: &str, width: usize| format!("{cell}{}", " ".repeat(width - measure_text_width(cell)));
    for column in &mut columns {
        let width = widest(column);
        column.iter_mut().for_each(|c| *c = padded(c, width));
    }
    for (i, value) in values.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|c| c[i].as_str()).collect();
        let gap = " ".repeat(value_width - measure_text_width(value));
        let line = format!("{}{}{gap}{value}", cells.join("  "), if cells.is_empty() { "" } else { "  " });
        let is_head = i == 0 && !columns.is_empty();
        lines.push(if is_head { style(line).dim().to_string() } else { line });
    }
    if rows.len() > ROWS_MAX {
        lines.push(style(format!("… and {} more", rows.len() - ROWS_MAX)).dim().to_string());
    }
    cut(lines, width)
}

/// Lines over time between `from` and `to`, and below them what each is, its least, greatest and last value.
pub fn chart_lines(series: &[Line], (from, to): (f64, f64), width: usize) -> Vec<String> {
    let drawn = &series[..series.len().min(LINES_MAX)];
    let values = || drawn.iter().flat_map(|s| &s.points).map(|(_, v)| *v).filter(|v| v.is_finite());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let mut lines = Vec::new();
    if low <= high {
        // A line that does not move is drawn in the middle.
        let (low, high) = if low < high { (low, high) } else { (low - 1.0, high + 1.0) };
        lines.extend(picture(drawn, (from, to), (low, high), width));
    }
    let metrics: Vec<&Metric> = series.iter().map(|s| &s.metric).collect();
    let shared = if series.len() > 1 { shared(&metrics) } else { Metric::new() };
    if !shared.is_empty() {
        lines.push(style(selector(&shared)).bold().to_string());
    }
    lines.extend(drawn.iter().enumerate().map(|(i, s)| legend(s, COLORS[i % COLORS.len()], &shared)));
    if series.len() > LINES_MAX {
        let more = format!("… and {} more: topk(12, …) picks, sum by (…) joins", series.len() - LINES_MAX);
        lines.push(style(more).dim().to_string());
    }
    cut(lines, width)
}

fn picture(series: &[Line], (from, to): (f64, f64), (low, high): (f64, f64), width: usize) -> Vec<String> {
    let labels = [number(high), number((high + low) / 2.0), number(low)];
    let margin = widest(&labels);
    let mut canvas = Canvas::new(width.saturating_sub(margin + 3).max(CHART_WIDTH_MIN), CHART_HEIGHT);
    let scale = |v: f64, low: f64, high: f64, dots: usize| {
        let part = if high > low { (v - low) / (high - low) } else { 0.0 };
        (part.clamp(0.0, 1.0) * (dots - 1) as f64).round() as usize
    };
    let (wide, high_dots) = (canvas.dots_wide(), canvas.dots_high());
    for (i, s) in series.iter().enumerate() {
        let mut before: Option<(usize, usize, f64)> = None;
        let gap = gap(s);
        for (t, v) in &s.points {
            if !v.is_finite() {
                before = None;
                continue;
            }
            let (x, y) = (scale(*t, from, to, wide), high_dots - 1 - scale(*v, low, high, high_dots));
            let start = before.filter(|(.., at)| t - at <= gap).map_or((x, y), |(x, y, _)| (x, y));
            canvas.line(start, (x, y), COLORS[i % COLORS.len()]);
            before = Some((x, y, *t));
        }
    }
    let mut lines: Vec<String> = canvas
        .rows()
        .enumerate()
        .map(|(row, dots)| {
            let label = match row {
                0 => &labels[0],
                r if r == CHART_HEIGHT / 2 => &labels[1],
                r if r == CHART_HEIGHT - 1 => &labels[2],
                _ => "",
            };
            format!("{}{label} {}{dots}", " ".repeat(margin - measure_text_width(label)), style("┤").dim())
        })
        .collect();
    let (left, right) = (time(from), time(to));
    let space = (wide / 2).saturating_sub(measure_text_width(&left) + measure_text_width(&right));
    let axis = " ".repeat(margin + 2) + &left;
    // Where there is no room for both, the beginning says most.
    let axis = if space > 1 { axis + &" ".repeat(space) + &right } else { axis };
    lines.push(style(axis).dim().to_string());
    lines
}

/// Points further apart than this belong to different pieces of a line: twice the least distance there is.
fn gap(s: &Line) -> f64 {
    let steps = s.points.windows(2).map(|w| w[1].0 - w[0].0);
    steps.fold(f64::INFINITY, f64::min) * 2.0
}

fn legend(s: &Line, color: Color, shared: &Metric) -> String {
    let own: Metric = s
        .metric
        .iter()
        .filter(|(n, _)| !shared.contains_key(*n))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let values = || s.points.iter().map(|(_, v)| *v).filter(|v| !v.is_nan());
    let end = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), number);
    format!(
        "{} {}  {}",
        style("━━").fg(color),
        selector(&own),
        style(format!(
            "min {}  max {}  last {}",
            end(values().reduce(f64::min)),
            end(values().reduce(f64::max)),
            end(s.points.last().map(|(_, v)| *v))
        ))
        .dim()
    )
}

/// Labels that are the same everywhere.
fn shared(metrics: &[&Metric]) -> Metric {
    let Some((first, rest)) = metrics.split_first() else { return Metric::new() };
    let everywhere = |(n, v): &(&String, &String)| rest.iter().all(|m| m.get(*n) == Some(*v));
    first.iter().filter(everywhere).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn selector(metric: &Metric) -> String {
    clean(&davy_model::Labels::from_pairs(metric).to_string())
}

/// Label values are other people's text: none of it may move the cursor.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `2026-01-01 00:00:00` in UTC.
pub fn time(seconds: f64) -> String {
    let at = jiff::Timestamp::from_millisecond((seconds * 1e3) as i64);
    at.map_or_else(|_| format!("{seconds}"), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn widest(cells: &[String]) -> usize {
    cells.iter().map(|c| measure_text_width(c)).max().unwrap_or(0)
}

fn cut(lines: Vec<String>, width: usize) -> Vec<String> {
    lines.into_iter().map(|l| console::truncate_str(l.trim_end(), width, "…").into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn metric(pairs: &[(&str, &str)]) -> Metric {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn check(lines: &[String], want: &Expect) {
        let plain: Vec<String> = lines.iter().map(|l| console::strip_ansi_codes(l).into_owned()).collect();
        want.assert_eq(&(plain.join("\n") + "\n"));
    }

    #[test]
    fn a_table_names_what_is_shared_once() {
        let row = |code: &str, instance: &str, v: &str| {
            let pairs =
                [("__name__", "http_requests_total"), ("job", "api"), ("code", code), ("instance", instance)];
            (metric(&pairs), v.to_owned())
        };
        let rows = [
            row("200", "10.0.0.1:80", "390"),
            row("500", "10.0.0.1:80", "19.5"),
            row("500", "é\u{1b}[2J", "NaN"),
        ];
        check(
            &table_lines(&rows, 80),
            &expect![[r#"
                http_requests_total{job="api"}
                code  instance     value
                200   10.0.0.1:80    390
                500   10.0.0.1:80   19.5
                500   é�[2J          NaN
            "#]],
        );
        check(
            &table_lines(&rows[..1], 80),
            &expect![[r#"
            http_requests_total{code="200", instance="10.0.0.1:80", job="api"}
            390
        "#]],
        );
        check(
            &table_lines(&[(Metric::new(), "2".into())], 80),
            &expect![[r#"
            2
        "#]],
        );
        assert!(table_lines(&[], 80).concat().is_empty());
    }

    #[test]
    fn a_chart_has_scales_and_a_legend() {
        let line = |code: &str, of: fn(f64) -> f64| Line {
            metric: metric(&[("job", "api"), ("code", code)]),
            points: (0..60).map(|i| (f64::from(i) * 60.0, of(f64::from(i)))).collect(),
        };
        let series = [line("200", |i| i * i), line("500", |i| 1000.0 + 500.0 * (i / 8.0).sin())];
        check(
            &chart_lines(&series, (0.0, 3540.0), 60),
            &expect![[r#"
            3.48 k ┤                                                 ⡰⠊
                   ┤                                              ⣀⠔⠉
                   ┤                                           ⢀⡠⠊
                   ┤                                         ⡠⠒⠁
                   ┤                                     ⢀⡠⠔⠉
            1.74 k ┤                                  ⣀⠤⠒⠁
                   ┤    ⢀⠤⠤⠒⠒⠒⠊⠑⠒⠒⠒⠤⠤⡀             ⡠⠔⠊             ⣀⣀⠤⠔
                   ┤⣀⠔⠊⠉⠁            ⠈⠉⠑⠤⣀⣀   ⢀⡠⠤⠒⠉            ⡠⠔⠒⠉
                   ┤                     ⢀⣀⠵⠲⠮⣁⣀         ⢀⡠⠤⠒⠉⠉
                   ┤              ⢀⣀⣀⠤⠤⠊⠉⠁      ⠉⠉⠑⠒⠒⠒⠒⠉⠉⠁
                 0 ┤⣀⣀⣀⣀⣀⣀⠤⠤⠤⠤⠔⠒⠒⠉⠁
                    1970-01-01 00:00:00             1970-01-01 00:59:00
            {job="api"}
            ━━ {code="200"}  min 0  max 3.48 k  last 3.48 k
            ━━ {code="500"}  min 500  max 1.5 k  last 1.44 k
        "#]],
        );
    }

    #[test]
    fn a_gap_is_not_bridged_and_odd_values_are_left_out() {
        let points = vec![(0.0, 1.0), (1.0, 1.0), (8.0, f64::NAN), (9.0, 1.0), (10.0, f64::INFINITY)];
        let series = [Line { metric: metric(&[("__name__", "up")]), points }];
        check(
            &chart_lines(&series, (0.0, 10.0), 30),
            &expect![[r#"
            2 ┤
              ┤
              ┤
              ┤
              ┤
            1 ┤⠒⠒⠒                    ⠂
              ┤
              ┤
              ┤
              ┤
            0 ┤
               1970-01-01 00:00:00
            ━━ up  min 1  max +Inf  last …
        "#]],
        );
    }

    #[test]
    fn nothing_finite_gives_only_a_legend() {
        let series = [Line { metric: Metric::new(), points: vec![(0.0, f64::NAN)] }];
        check(
            &chart_lines(&series, (0.0, 10.0), 40),
            &expect![[r#"
            ━━ {}  min –  max –  last NaN
        "#]],
        );
        assert!(chart_lines(&[], (0.0, 10.0), 40).concat().is_empty());
    }
}
