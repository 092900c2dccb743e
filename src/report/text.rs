//! A report for a terminal.

use std::fmt::Write as _;

use console::measure_text_width;

use super::{COLUMNS, Report, cells, explain};

pub(super) fn render(report: &Report, explained: bool) -> String {
    let mut out = String::new();
    let v = &report.verdict;
    let _ = writeln!(out, "{}", report.headline());
    let _ = writeln!(out, "  {}", v.reason);
    let _ = writeln!(
        out,
        "  {} intervals of {} s judged, {} to {}, {}",
        v.intervals, report.interval_s, report.from, report.to, report.source
    );
    if let Some(at) = &report.decided_at {
        let _ = writeln!(out, "  {} since {at}", v.verdict);
    }
    if v.contract != "ok" {
        let _ = writeln!(out, "  data: {}", v.contract);
    }
    if !v.metrics.is_empty() {
        let rows: Vec<[String; 7]> = v.metrics.iter().map(cells).collect();
        let width = |i: usize| {
            let widths = rows.iter().map(|r| measure_text_width(&r[i]));
            widths.chain([COLUMNS[i].len()]).max().unwrap_or(0)
        };
        let mut line = |cells: [&str; 7]| {
            let mut text = String::from("\n ");
            for (i, cell) in cells.iter().enumerate() {
                text.push(' ');
                text.push_str(cell);
                text.push_str(&" ".repeat(width(i).saturating_sub(measure_text_width(cell)) + 1));
            }
            out.push_str(text.trim_end());
        };
        line(COLUMNS);
        rows.iter().for_each(|r| line(std::array::from_fn(|i| r[i].as_str())));
        out.push_str("\n\n");
        for m in &v.metrics {
            let _ = writeln!(out, "  {} ({})", m.reason, m.source);
        }
    }
    for note in report.notes() {
        let _ = writeln!(out, "  {note}");
    }
    if explained {
        out.push('\n');
        explain(report).iter().for_each(|p| {
            let _ = writeln!(out, "{p}\n");
        });
    }
    out
}
