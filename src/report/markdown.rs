//! A report for a pull request: a table, and the reasons below a fold.

use std::fmt::Write as _;

use super::{COLUMNS, Report, cells, explain};

pub(super) fn render(report: &Report, explained: bool) -> String {
    let mut out = String::new();
    let v = &report.verdict;
    let mark = match v.verdict.as_str() {
        "pass" => "✅",
        "fail" => "❌",
        _ => "⏳",
    };
    let _ = writeln!(out, "### {mark} {}\n", escaped(&report.headline()));
    let _ = writeln!(out, "{}\n", escaped(&v.reason));
    if !v.metrics.is_empty() {
        let _ = writeln!(out, "| {} |\n|{}", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
        for m in &v.metrics {
            let _ = writeln!(out, "| {} |", cells(m).map(|c| escaped(&c)).join(" | "));
        }
        out.push_str("\n<details><summary>Why</summary>\n\n");
        for m in &v.metrics {
            let _ = writeln!(out, "- {} (`{}`)", escaped(&m.reason), m.source.replace('`', "'"));
        }
        for note in report.notes() {
            let _ = writeln!(out, "- {}", escaped(&note));
        }
        if explained {
            out.push('\n');
            explain(report).iter().for_each(|p| {
                let _ = writeln!(out, "{}\n", escaped(p));
            });
        }
        out.push_str("\n</details>\n\n");
    }
    let _ = writeln!(
        out,
        "<sub>{} intervals of {} s, {} to {}, {}. {}</sub>",
        v.intervals,
        report.interval_s,
        report.from,
        report.to,
        escaped(&report.source),
        report.promise().unwrap_or_default()
    );
    out
}

/// Names of services and metrics come from outside.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
