//! The live table as lines of text: a pure function of the record and the terminal's size.

use std::time::Duration;

use console::{Style, measure_text_width, truncate_str};

use super::record::{Record, Tone};
use super::releases::{Metric, Release};
use super::splitter::ArmCounts;

const BAR_CELLS: usize = 8;
const NAME_WIDTH: usize = 13;
const LEVEL_WIDTH: usize = 10;
const DIFFERENCE_WIDTH: usize = 24;

/// What the frame needs besides the record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Planned length of the story.
    pub(super) duration: Duration,
    pub(super) colour: bool,
}

/// At most `height` lines of at most `width` columns.
pub(super) fn render(record: &Record, frame: &Frame) -> Vec<String> {
    let ink = Ink { colour: frame.colour };
    let mut lines = head(record, frame, ink);
    lines.push(String::new());
    lines.extend(metrics(record.last.release.as_ref(), ink));
    lines.push(String::new());
    lines.extend(traffic(record, ink));
    lines.push(String::new());
    let room = frame.height.saturating_sub(lines.len());
    let newest = record.events.len().saturating_sub(room);
    lines.extend(record.events[newest..].iter().map(|event| {
        let text = format!("{:>6.1} s  {}", event.at.as_secs_f64(), event.text);
        ink.tone(event.tone, text)
    }));
    lines.truncate(frame.height);
    lines.into_iter().map(|line| truncate_str(&line, frame.width, "…").into_owned()).collect()
}

fn head(record: &Record, frame: &Frame, ink: Ink) -> Vec<String> {
    let clock = format!("{:.0} s of about {} s", record.last.at.as_secs_f64(), frame.duration.as_secs());
    let title = format!(
        "{} · scenario {} · seed {}",
        ink.bold("davy demo".to_owned()),
        record.scenario.as_str(),
        record.seed
    );
    let gap = frame.width.saturating_sub(measure_text_width(&title) + clock.len()).max(2);
    let release = match &record.last.release {
        None => ink.dim(format!("{}: no release seen yet", record.service)),
        Some(release) => format!(
            "{} {} → {}   phase {}   verdict {}   evidence {}",
            release.service,
            release.baseline,
            release.canary,
            ink.phase(&release.phase),
            ink.verdict(&release.verdict),
            evidence_of(release)
        ),
    };
    vec![format!("{title}{}{clock}", " ".repeat(gap)), release]
}

/// The largest share of a rollback's evidence that a metric has.
fn evidence_of(release: &Release) -> String {
    let most = release.metrics.iter().filter_map(|metric| metric.evidence).fold(0.0, f64::max);
    format!("{most:.2} of 1")
}

fn metrics(release: Option<&Release>, ink: Ink) -> Vec<String> {
    let header = format!(
        "{:<NAME_WIDTH$}{:>LEVEL_WIDTH$}{:>LEVEL_WIDTH$}  {:<DIFFERENCE_WIDTH$}{:<w$}verdict",
        "metric",
        "baseline",
        "canary",
        "difference",
        "evidence",
        w = BAR_CELLS + 7
    );
    let rows = release.into_iter().flat_map(|release| &release.metrics).map(|metric| row(metric, ink));
    std::iter::once(ink.dim(header)).chain(rows).collect()
}

fn row(metric: &Metric, ink: Ink) -> String {
    let evidence = metric.evidence.unwrap_or(0.0);
    let verdict = ink.verdict(&metric.verdict);
    // Seconds are absent where this traffic can never decide.
    let needed = match metric.needed.and_then(|needed| needed.seconds) {
        Some(seconds) if metric.verdict == "insufficient" => ink.dim(format!(", {seconds} s")),
        Some(_) | None => String::new(),
    };
    format!(
        "{:<NAME_WIDTH$}{:>LEVEL_WIDTH$}{:>LEVEL_WIDTH$}  {:<DIFFERENCE_WIDTH$}{} {:>5.2} {verdict}{needed}",
        truncate_str(&metric.name, NAME_WIDTH - 1, "…"),
        level(&metric.class, metric.baseline),
        level(&metric.class, metric.canary),
        difference(metric),
        ink.bar(evidence),
        evidence.min(99.0),
    )
}

/// Eighths of a cell, so that small evidence shows too.
fn bar(evidence: f64) -> String {
    const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let eighths = (evidence.clamp(0.0, 1.0) * (BAR_CELLS * 8) as f64).round() as usize;
    (0..BAR_CELLS).map(|cell| EIGHTHS[eighths.saturating_sub(cell * 8).min(8)]).collect()
}

fn difference(metric: &Metric) -> String {
    let Some(estimate) = metric.estimate else { return "not known yet".to_owned() };
    match (metric.lower, metric.upper) {
        (None, None) => percent(estimate),
        (lower, upper) => {
            let bound = |bound: Option<f64>| bound.map_or_else(|| "?".to_owned(), percent);
            format!("{} [{}, {}]", percent(estimate), bound(lower), bound(upper))
        }
    }
}

/// A relative difference; beyond tenfold the factor reads better.
fn percent(x: f64) -> String {
    match x {
        x if x.abs() >= 9.0 => format!("×{:.0}", x + 1.0),
        x if x.abs() < 0.095 => format!("{:+.1} %", x * 100.0),
        x => format!("{:+.0} %", x * 100.0),
    }
}

/// A level in its class's unit.
pub(super) fn level(class: &str, x: Option<f64>) -> String {
    let Some(x) = x else { return "–".to_owned() };
    match class {
        "errors" | "proportion" => format!("{:.2} %", x * 100.0),
        "latency" | "cpu" if x < 1.0 => format!("{:.2} ms", x * 1e3),
        "latency" => format!("{x:.2} s"),
        "memory" => format!("{:.1} MiB", x / f64::from(1 << 20)),
        _ => format!("{x:.3}"),
    }
}

fn traffic(record: &Record, ink: Ink) -> Vec<String> {
    let last = &record.last;
    let arm = |version: &str, counts: ArmCounts| {
        format!("{version} {} requests, {} errors", counts.requests, counts.errors)
    };
    let spent = last.at.as_secs_f64().max(1.0);
    vec![format!(
        "{}   {}   {}",
        arm(&record.baseline, last.stable),
        arm(&record.canary, last.canary),
        ink.dim(format!("load {:.0}/s, {} shed", last.load.sent as f64 / spent, last.load.shed)),
    )]
}

/// Restrained colour: red for fail, green for good news, the rest plain or dim.
#[derive(Debug, Clone, Copy)]
struct Ink {
    colour: bool,
}

impl Ink {
    fn paint(self, style: Style, text: String) -> String {
        match self.colour {
            true => style.force_styling(true).apply_to(text).to_string(),
            false => text,
        }
    }

    fn bold(self, text: String) -> String {
        self.paint(Style::new().bold(), text)
    }

    fn dim(self, text: String) -> String {
        self.paint(Style::new().dim(), text)
    }

    fn tone(self, tone: Tone, text: String) -> String {
        match tone {
            Tone::Plain => text,
            Tone::Bad => self.paint(Style::new().red(), text),
            Tone::Good => self.paint(Style::new().green(), text),
        }
    }

    fn verdict(self, verdict: &str) -> String {
        let text = verdict.to_owned();
        match verdict {
            "fail" => self.paint(Style::new().red().bold(), text),
            "pass" => self.paint(Style::new().green(), text),
            _ => text,
        }
    }

    fn phase(self, phase: &str) -> String {
        match phase {
            "rolled_back" => self.paint(Style::new().green(), phase.to_owned()),
            "needs_human" => self.paint(Style::new().red().bold(), phase.to_owned()),
            _ => phase.to_owned(),
        }
    }

    fn bar(self, evidence: f64) -> String {
        let style = if evidence >= 1.0 { Style::new().red() } else { Style::new().yellow() };
        self.paint(style, bar(evidence)) + &self.dim("│".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::demo::samples;

    const FRAME: Frame = Frame { width: 100, height: 40, duration: Duration::from_secs(60), colour: false };

    #[test]
    fn the_table_of_a_rollback_reads_in_a_hundred_columns() {
        let text = render(&samples::rolled_back(), &FRAME).join("\n");
        expect![[r#"
            davy demo · scenario errors · seed 7                                              31 s of about 60 s
            checkout v1 → v2   phase rolled_back   verdict fail   evidence 1.30 of 1

            metric         baseline    canary  difference              evidence       verdict
            errors           0.10 %    4.90 %  ×49 [×12, ×89]          ████████│  1.30 fail
            latency_p99    38.10 ms  38.90 ms  +2.1 % [-6.0 %, +11 %]  ▏       │  0.02 insufficient, 10 s
            cpu             1.10 ms   1.12 ms  +1.8 % [-10 %, +15 %]           │  0.00 insufficient, 10 s
            memory                –         –  not known yet                   │  0.00 insufficient, 10 s

            v1 9000 requests, 4 errors   v2 2190 requests, 54 errors   load 212/s, 0 shed

               0.0 s  v1 serves: 3 instances, all of the traffic
               6.0 s  v2 deployed: 3 instances, 50 % of the traffic
               8.0 s  Davy watches checkout-v2-1: v2 beside v1
              20.0 s  fault injected into v2: 5 % of the requests fail
              24.1 s  verdict fail: errors
              24.1 s  splitter: rollback called, v2 to v1, key checkout-v2-1-rollback
              24.4 s  webhook: firing CanaryRegression
              24.4 s  slack: firing CanaryRegression
              24.4 s  email: firing CanaryRegression
              25.0 s  phase rolling_back: errors: 4.9 % against 0.1 % of the baseline
              31.0 s  phase rolled_back: errors: 4.9 % against 0.1 % of the baseline"#]].assert_eq(&text);
    }

    #[test]
    fn no_frame_is_larger_than_the_terminal() {
        for (width, height) in [(100, 40), (80, 24), (40, 10), (20, 3), (1, 1)] {
            for colour in [false, true] {
                let lines = render(&samples::rolled_back(), &Frame { width, height, colour, ..FRAME });
                assert!(lines.len() <= height);
                for line in lines {
                    assert!(measure_text_width(&line) <= width, "{width}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn the_bar_shows_small_evidence_and_stops_at_the_boundary() {
        assert_eq!(bar(0.0), "        ");
        assert_eq!(bar(0.05), "▍       ");
        assert_eq!(bar(0.5), "████    ");
        assert_eq!(bar(7.0), "████████");
        assert_eq!(bar(f64::NAN), "        ");
    }
}
