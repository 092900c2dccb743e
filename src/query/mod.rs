//! `davy query`: an expression asked of any server that answers as Prometheus does, shown as a table or a chart.

mod client;
mod reply;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use davy_model::{Clock as _, Timestamp};
use reqwest::Url;

use crate::clock::SystemClock;
use crate::exit;
use crate::terminal::{chart_lines, clean, table_lines};
use client::Failed;
use reply::{Data, Reply};

/// Steps of a range unless `--step` says otherwise: a point for each column of dots.
const STEPS: u32 = 240;
/// Columns where standard output is no terminal.
const WIDTH: usize = 120;

/// A table of what the expression gives now; with `--start`, a chart of what it gave since.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// PromQL, such as `sum by (job) (rate(http_requests_total[5m]))`.
    expr: String,
    /// When, instead of now: RFC 3339, seconds since 1970, or so long ago, as `-5m`.
    #[arg(long, value_parser = When::parse, allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
    time: Option<When>,
    /// Beginning of a range, said as `--time`.
    #[arg(long, value_parser = When::parse, allow_hyphen_values = true)]
    start: Option<When>,
    /// End of the range; now unless given.
    #[arg(long, value_parser = When::parse, allow_hyphen_values = true, requires = "start")]
    end: Option<When>,
    /// From one point to the next, such as `30s`; what fills the chart unless given.
    #[arg(long, value_parser = crate::config::parse_duration, requires = "start")]
    step: Option<Duration>,
    /// Where davy, Prometheus, Thanos, Mimir or VictoriaMetrics listens, with its path prefix if it has one.
    #[arg(long, default_value = "http://127.0.0.1:9600", value_parser = address)]
    url: Url,
    /// The server's answer as it came.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(Timestamp),
    Ago(Duration),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(ago) = text.strip_prefix('-').filter(|t| t.ends_with(|c: char| c.is_ascii_alphabetic())) {
            return crate::config::parse_duration(ago).map(Self::Ago);
        }
        let seconds = || text.parse().ok().and_then(Timestamp::from_secs_f64);
        let date =
            || text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp::from_millis(t.as_millisecond()));
        seconds().or_else(date).map(Self::At).ok_or_else(|| {
            format!("got {text:?}, expected a time such as 2026-01-01T00:00:00Z, 1767225600 or -1h")
        })
    }

    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now - ago,
        }
    }
}

fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err("expected http:// or https://".into())
    }
}

/// Exit codes: 0 answered, 2 not.
pub fn run(args: &QueryArgs) -> ExitCode {
    exit::with(ask(args).map(|()| exit::PASS))
}

/// The path below `/api/v1`, its parameters, and the range that a chart is drawn over.
struct Question {
    path: &'static str,
    params: Vec<(&'static str, String)>,
    range: Option<(Timestamp, Timestamp)>,
}

fn question(args: &QueryArgs, now: Timestamp) -> Result<Question, String> {
    let query = ("query", args.expr.clone());
    let Some(start) = args.start else {
        let at = args.time.map_or(now, |t| t.at(now));
        let params = vec![query, ("time", at.to_string())];
        return Ok(Question { path: "query", params, range: None });
    };
    let (start, end) = (start.at(now), args.end.map_or(now, |t| t.at(now)));
    if end <= start {
        return Err(format!("--start {start} is not before the end {end}"));
    }
    // Whole seconds, as far as there are any.
    let fitting = || {
        let step = end.since(start) / STEPS;
        if step > Duration::from_secs(1) {
            Duration::from_secs(step.as_secs())
        } else {
            Duration::from_secs(1)
        }
    };
    let step = args.step.unwrap_or_else(fitting);
    let params = vec![
        query,
        ("start", start.to_string()),
        ("end", end.to_string()),
        ("step", format!("{}", step.as_secs_f64())),
    ];
    Ok(Question { path: "query_range", params, range: Some((start, end)) })
}

fn ask(args: &QueryArgs) -> Result<(), String> {
    let question = question(args, SystemClock.now())?;
    let body = client::post(&args.url, question.path, &question.params).map_err(|e| match e {
        Failed::Query(why) => with_place(&args.expr, &why),
        Failed::Other(why) => why,
    })?;
    if args.json {
        println!("{}", body.trim_end());
        return Ok(());
    }
    let reply: Reply =
        serde_json::from_str(&body).map_err(|e| format!("not an answer of Prometheus: {e}"))?;
    for (kind, note) in reply.notes() {
        eprintln!("{kind}: {}", clean(note));
    }
    lines(reply.data, question.range, width()).iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn width() -> usize {
    let (_, columns) = console::Term::stdout().size();
    if console::Term::stdout().is_term() { usize::from(columns) } else { WIDTH }
}

fn lines(data: Data, range: Option<(Timestamp, Timestamp)>, width: usize) -> Vec<String> {
    match data {
        Data::Scalar((_, v)) | Data::String((_, v)) => v.lines().map(clean).collect(),
        Data::Vector(rows) if rows.is_empty() => vec!["no series".to_owned()],
        Data::Matrix(series) if series.is_empty() => vec!["no series".to_owned()],
        Data::Vector(rows) => {
            let rows: Vec<_> = rows.into_iter().map(reply::Sample::row).collect();
            table_lines(&rows, width)
        }
        Data::Matrix(series) => {
            let drawn: Vec<_> = series.into_iter().map(reply::Series::line).collect();
            let times = || drawn.iter().flat_map(|l| &l.points).map(|(t, _)| *t);
            // A selector of a range has its own times.
            let (from, to) = range.map_or_else(
                || (times().fold(f64::INFINITY, f64::min), times().fold(f64::NEG_INFINITY, f64::max)),
                |(from, to)| (from.as_secs_f64(), to.as_secs_f64()),
            );
            chart_lines(&drawn, (from, to), width)
        }
    }
}

/// Points at the place in the expression that a parser names as `1:5: parse error: ...`.
fn with_place(expr: &str, error: &str) -> String {
    let error = clean(error);
    let Some((before, why)) = error.split_once(": parse error: ") else { return error };
    let place = || {
        let mut numbers = before.rsplit([':', ' ']);
        let column: usize = numbers.next()?.parse().ok()?;
        let line: usize = numbers.next()?.parse().ok()?;
        Some((expr.lines().nth(line.checked_sub(1)?)?, column.checked_sub(1)?))
    };
    match place() {
        Some((line, column)) => {
            let ahead: String = line.chars().take(column).collect();
            let space = " ".repeat(console::measure_text_width(&clean(&ahead)));
            format!("{why}\n  {}\n  {space}^", clean(line))
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(expr: &str, error: &str, want: &Expect) {
        want.assert_eq(&(with_place(expr, error) + "\n"));
    }

    #[test]
    fn mistakes_are_pointed_at() {
        check(
            "sum(rate(x[5m])",
            "invalid parameter \"query\": 1:16: parse error: unclosed left parenthesis",
            &expect![[r#"
                unclosed left parenthesis
                  sum(rate(x[5m])
                                 ^
            "#]],
        );
        check(
            "up +\n  nosuch(up)",
            "invalid parameter \"query\": 2:3: parse error: unknown function with name \"nosuch\"",
            &expect![[r#"
                unknown function with name "nosuch"
                    nosuch(up)
                    ^
            "#]],
        );
        check(
            "up",
            "query timed out in query queue",
            &expect![[r#"
            query timed out in query queue
        "#]],
        );
        check(
            "up",
            "9:9: parse error: beyond",
            &expect![[r#"
            9:9: parse error: beyond
        "#]],
        );
        check(
            "up",
            "x: parse error: y",
            &expect![[r#"
            x: parse error: y
        "#]],
        );
    }

    #[test]
    fn times_are_absolute_or_ago() {
        let now = Timestamp::from_millis(10_000_000);
        let at = |text: &str| When::parse(text).map(|w| w.at(now).as_millis());
        assert_eq!(at("1.5"), Ok(1_500));
        assert_eq!(at("1970-01-01T00:00:02Z"), Ok(2_000));
        assert_eq!(at("-1m30s"), Ok(9_910_000));
        assert_eq!(at("-1"), Ok(-1_000));
        assert!(at("yesterday").is_err() && at("-x").is_err());
    }

    #[test]
    fn a_reply_becomes_lines() {
        let shown = |json: &str| {
            let reply: Reply = serde_json::from_str(json).unwrap();
            let lines = lines(reply.data, None, 60);
            lines.iter().map(|l| console::strip_ansi_codes(l).into_owned()).collect::<Vec<_>>().join("\n")
        };
        let of = |kind: &str, result: &str| {
            shown(&format!(
                r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result},"stats":{{}}}}}}"#
            ))
        };
        assert_eq!(of("scalar", r#"[4,"2"]"#), "2");
        assert_eq!(of("string", r#"[4,"a\u001bb"]"#), "a\u{fffd}b");
        assert_eq!(of("vector", "[]"), "no series");
        let histogram = r#"[{"metric":{"job":"a"},"histogram":[1,{"count":"3","sum":"4.1","buckets":[[0,"0.5","1","3"]]}]}]"#;
        assert_eq!(of("vector", histogram), "{job=\"a\"}\ncount 3  sum 4.1  (0.5, 1]: 3");
        let matrix = of("matrix", r#"[{"metric":{"__name__":"up"},"values":[[1,"1"],[2,"2"]]}]"#);
        assert!(matrix.ends_with("━━ up  min 1  max 2  last 2"), "{matrix}");
    }
}
