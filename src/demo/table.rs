//! The live table as lines of text: a pure function of the record and the terminal's size.

use std::time::Duration;

use console::{measure_text_width, style, truncate_str};

use super::record::{Record, Tone};
use super::splitter::ArmCounts;
use crate::terminal::{count, release_lines};

/// At most `height` lines of at most `width` columns. `duration` is the planned length of the story.
pub(super) fn render(record: &Record, duration: Duration, width: usize, height: usize) -> Vec<String> {
    let mut lines = vec![head(record, duration, width), String::new()];
    match &record.last.release {
        Some(release) => lines.extend(release_lines(release, width)),
        None => lines.push(style(format!("{}: no release seen yet", record.service)).dim().to_string()),
    }
    lines.push(String::new());
    lines.push(split(record));
    lines.push(format!("ramp {:?}: {}", record.ramp.planned, record.ramp.to_text()));
    lines.push(traffic(record));
    lines.push(String::new());
    // The newest events, where there is not room for all.
    let room = height.saturating_sub(lines.len());
    let hidden = record.events.len().saturating_sub(room);
    lines.extend(record.events[hidden..].iter().map(|event| {
        let text = format!("{:>6.1} s  {}", event.at.as_secs_f64(), event.text);
        match event.tone {
            Tone::Plain => text,
            Tone::Bad => style(text).red().to_string(),
            Tone::Good => style(text).green().to_string(),
        }
    }));
    lines.truncate(height);
    lines.into_iter().map(|line| truncate_str(&line, width, "…").into_owned()).collect()
}

fn head(record: &Record, duration: Duration, width: usize) -> String {
    let title =
        format!("{}  scenario {}, seed {}", style("davy demo").bold(), record.scenario.as_str(), record.seed);
    let clock = format!("{:.0} s of about {} s", record.last.at.as_secs_f64(), duration.as_secs());
    let gap = width.saturating_sub(measure_text_width(&title) + clock.len()).max(2);
    format!("{title}{}{clock}", " ".repeat(gap))
}

/// Which splitter it is, and what it gives to whom.
fn split(record: &Record) -> String {
    let shares: Vec<String> = record.last.shares.iter().map(|(v, share)| format!("{v} {share} %")).collect();
    format!("{}: {}", record.splitter.name(), shares.join(", "))
}

fn traffic(record: &Record) -> String {
    let last = &record.last;
    let arm = |version: &str, arm: ArmCounts| {
        format!("{version} {} requests, {} errors", count(arm.requests as f64), count(arm.errors as f64))
    };
    let per_second = last.load.sent as f64 / last.at.as_secs_f64().max(1.0);
    let load = style(format!("load {per_second:.0}/s, {} shed", last.load.shed)).dim();
    format!("{}   {}   {load}", arm(&record.baseline, last.stable), arm(&record.canary, last.canary))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::demo::samples;

    const DURATION: Duration = Duration::from_secs(60);

    #[test]
    fn the_table_of_a_rollback_reads_in_a_hundred_columns() {
        console::set_colors_enabled(false);
        let text = render(&samples::rolled_back(), DURATION, 100, 40).join("\n");
        expect![[r#"
            davy demo  scenario errors, seed 7                                                31 s of about 60 s

            checkout v1 → v2  rolled_back  fail  canary 50.0 % of traffic
              metric         baseline   canary     difference bounds              evidence verdict      
              errors         0.100 %    4.90 %     ×49.0      ×12.2 … ×89.0       ████████ fail
              latency_p99    38.1 ms    38.9 ms    +2.10 %    −6.00 % … +11.0 %   ░░░░░░░░ insufficient 1,200 m…
              cpu            1.10 mcpu  1.12 mcpu  +1.80 %    −10.0 % … +15.0 %   ░░░░░░░░ insufficient 1,200 m…
              memory         –          –          –                              ░░░░░░░░ insufficient 1,200 m…
              errors: 4.9 % against 0.1 % of the baseline

            the demo's own splitter: v1 100 %, v2 0 %
            ramp [25, 50, 100]: 25 % from 8.1 s pass → 50 % from 16.0 s fail → 0 % from 24.1 s
            v1 9,000 requests, 9 errors   v2 2,190 requests, 54 errors   load 212/s, 0 shed

               0.0 s  v1 serves: 3 instances, all of the traffic
               6.0 s  v2 deployed: 3 instances, no traffic yet
               8.0 s  Davy watches checkout-v2-1: v2 beside v1
               8.1 s  splitter: v2 gets 25 % of the traffic, key set_share-25/v2/splitter/2
              16.0 s  verdict pass at 25 % of the requests: no worse than the margins
              16.0 s  splitter: v2 gets 50 % of the traffic, key set_share-50/v2/splitter/3
              20.0 s  fault injected into v2: 5 % of the requests fail
              24.1 s  verdict fail: errors
              24.1 s  splitter: rolled back, v2 to v1, key rollback/v2/splitter/4
              24.4 s  webhook: firing CanaryRegression
              24.4 s  slack: firing CanaryRegression
              24.4 s  email: firing CanaryRegression
              25.0 s  phase rolling_back: errors: 4.9 % against 0.1 % of the baseline
              31.0 s  phase rolled_back: errors: 4.9 % against 0.1 % of the baseline"#]].assert_eq(&text);
    }

    #[test]
    fn no_frame_is_larger_than_the_terminal() {
        for (width, height) in [(100, 40), (80, 24), (40, 10), (20, 3), (1, 1)] {
            let lines = render(&samples::rolled_back(), DURATION, width, height);
            assert!(lines.len() <= height);
            for line in lines {
                assert!(measure_text_width(&line) <= width, "{width}: {line:?}");
            }
        }
    }
}
