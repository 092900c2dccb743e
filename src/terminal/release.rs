//! One release as a table: a headline, a row a metric.

use console::{Style, measure_text_width, style};
use davy_api::wire::{Metric, Release};

use super::format::{bar, count, level, relative, share};

const NAME_WIDTH: usize = 14;
const LEVEL_WIDTH: usize = 10;
const BOUNDS_WIDTH: usize = 19;
const BAR_WIDTH: usize = 8;

/// The lines of one release, at most `width` columns wide; the first is the headline.
pub fn release_lines(release: &Release, width: usize) -> Vec<String> {
    let mut lines = vec![headline(release)];
    if !release.metrics.is_empty() {
        lines.push(
            style(columns(&[
                ("metric", NAME_WIDTH),
                ("baseline", LEVEL_WIDTH),
                ("canary", LEVEL_WIDTH),
                ("difference", LEVEL_WIDTH),
                ("bounds", BOUNDS_WIDTH),
                ("evidence", BAR_WIDTH),
                ("verdict", 12),
            ]))
            .dim()
            .to_string(),
        );
        lines.extend(release.metrics.iter().map(metric_line));
    }
    lines.push(format!("  {}", style(&release.reason).dim()));
    lines.into_iter().map(|l| console::truncate_str(&l, width, "…").into_owned()).collect()
}

fn headline(r: &Release) -> String {
    let traffic =
        r.traffic_share.map_or_else(String::new, |s| format!("  canary {} of traffic", share(Some(s))));
    format!(
        "{} {} → {}  {}  {}{}",
        style(&r.service).bold(),
        style(&r.baseline).blue(),
        style(&r.canary).yellow(),
        phase_style(&r.phase).apply_to(&r.phase),
        verdict_style(&r.verdict).apply_to(&r.verdict),
        traffic
    )
}

fn metric_line(m: &Metric) -> String {
    let bounds = match (m.lower, m.upper) {
        (None, None) => String::new(),
        (lower, upper) => format!("{} … {}", relative(lower), relative(upper)),
    };
    let row = columns(&[
        (&m.name, NAME_WIDTH),
        (&level(&m.class, m.baseline), LEVEL_WIDTH),
        (&level(&m.class, m.canary), LEVEL_WIDTH),
        (&relative(m.estimate), LEVEL_WIDTH),
        (&bounds, BOUNDS_WIDTH),
    ]);
    let evidence = m.evidence.unwrap_or(0.0);
    let filled = verdict_style(&m.verdict).apply_to(bar(evidence, BAR_WIDTH));
    let verdict = verdict_style(&m.verdict).apply_to(&m.verdict);
    let needed = match m.needed {
        Some(n) if m.verdict == "insufficient" && n.seconds.is_none() => " never at this traffic".into(),
        Some(n) if m.verdict == "insufficient" => format!(" {} more requests", count(n.requests as f64)),
        Some(_) | None => String::new(),
    };
    format!("{row}{filled} {verdict}{}", style(needed).dim())
}

/// Cells padded to their width (wide text pushes the rest to the right rather than being cut).
fn columns(cells: &[(&str, usize)]) -> String {
    let mut line = String::from("  ");
    for (text, width) in cells {
        line.push_str(text);
        line.push_str(&" ".repeat(width.saturating_sub(measure_text_width(text)) + 1));
    }
    line
}

fn verdict_style(verdict: &str) -> Style {
    match verdict {
        "fail" => Style::new().red().bold(),
        "pass" => Style::new().green(),
        _ => Style::new(),
    }
}

fn phase_style(phase: &str) -> Style {
    match phase {
        "needs_human" => Style::new().red().bold().reverse(),
        "rolling_back" | "verifying" | "holding" => Style::new().yellow().bold(),
        "rolled_back" | "promoted" => Style::new().green().bold(),
        _ => Style::new().cyan(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use expect_test::expect;

    use super::*;

    pub(in crate::terminal) fn example() -> Release {
        let metric = |name: &str, class: &str, verdict: &str| Metric {
            name: name.into(),
            class: class.into(),
            verdict: verdict.into(),
            baseline: Some(0.001),
            canary: Some(0.0512),
            estimate: Some(50.2),
            lower: Some(12.0),
            upper: Some(180.0),
            margin: 0.1,
            evidence: Some(1.3),
            baseline_n: 4210.0,
            canary_n: 4198.0,
            needed: None,
            source: "http_requests_total".into(),
            reason: "worse".into(),
        };
        let mut latency = metric("latency_p99", "latency", "insufficient");
        (latency.baseline, latency.canary, latency.estimate) = (Some(0.288), Some(0.291), Some(0.01));
        (latency.lower, latency.upper, latency.evidence) = (Some(-0.08), Some(0.11), Some(0.02));
        latency.needed = Some(davy_api::wire::Needed { requests: 5200, seconds: Some(90) });
        Release {
            id: "checkout-v2-1".into(),
            generation: 1,
            service: "checkout".into(),
            baseline: "v1".into(),
            canary: "v2".into(),
            phase: "rolling_back".into(),
            verdict: "fail".into(),
            reason: "errors 5.12 % against 0.1 %: worse beyond the margin".into(),
            started_at: "2026-01-01T00:00:00.000Z".into(),
            decided_at: None,
            traffic_share: Some(0.5),
            evidence: Some(1.3),
            contract: "ok".into(),
            intervals: 9,
            metrics: vec![metric("errors", "errors", "fail"), latency],
            actions: vec![],
            traces: vec![],
            ..Release::default()
        }
    }

    #[test]
    fn colours_take_no_room() {
        let plain = columns(&[("fail", 10)]);
        let coloured = columns(&[(&style("fail").red().force_styling(true).to_string(), 10)]);
        assert_eq!(measure_text_width(&plain), measure_text_width(&coloured));
        let long = style("x".repeat(90)).red().bold().force_styling(true).to_string();
        assert_eq!(measure_text_width(&console::truncate_str(&long, 80, "…")), 80);
    }

    #[test]
    fn a_release_fits_a_hundred_columns() {
        console::set_colors_enabled(false);
        let lines = release_lines(&example(), 100);
        expect![[r#"
            checkout v1 → v2  rolling_back  fail  canary 50.0 % of traffic
              metric         baseline   canary     difference bounds              evidence verdict      
              errors         0.100 %    5.12 %     ×51.2      ×13.0 … ×181        ████████ fail
              latency_p99    288 ms     291 ms     +1.00 %    −8.00 % … +11.0 %   ░░░░░░░░ insufficient 5,200 m…
              errors 5.12 % against 0.1 %: worse beyond the margin"#]]
        .assert_eq(&lines.join("\n"));
        assert!(lines.iter().all(|l| measure_text_width(l) <= 100));
    }
}
