//! Queries that are meant to hurt: deep, flat, huge, regex bombs, cross joins, towers of subqueries, labels that double.
//! Each is refused with its reason or answered within bounds; the process goes on and so does its judging.

mod common;

use std::time::Duration;

use common::{Davy, wait_for};
use davy_fixtures::fleet::remote_write::{Columns, Encoder, HEADERS, bodies};
use davy_fixtures::fleet::{Fleet, Target};
use davy_model::Clock as _;

const SERIES: usize = 5_000;
const TICKS: usize = 40;
/// What all of them together may add to what is resident, in bytes: the budget of points twice, and answers.
const RESIDENT_MAX: u64 = 1 << 30;

fn fill(davy: &Davy) {
    let step_ms = 15_000;
    let start_ms = davy::clock::SystemClock.now().as_millis() - step_ms * TICKS as i64;
    let fleet = Fleet { seed: 1, series: SERIES, start_ms, step_ms };
    let mut target = Target::new(fleet, 0);
    let encoder = Encoder::new(&target);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client can be built");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be built");
    for (body, _) in bodies(&fleet, &encoder, &Columns::take(&mut target, TICKS), 100_000) {
        let request =
            HEADERS.iter().fold(client.post(davy.url("/api/v1/write")), |r, (n, v)| r.header(*n, *v));
        let status = runtime.block_on(request.body(body).send()).expect("davy answers").status();
        assert!(status.is_success(), "{status}");
    }
}

fn nested(open: &str, inner: &str, close: &str, times: usize) -> String {
    format!("{}{inner}{}", open.repeat(times), close.repeat(times))
}

fn corpus() -> Vec<(&'static str, String, u16)> {
    let all = r#"{__name__=~".+"}"#;
    vec![
        ("flat", format!("{}1", "1+".repeat(8_000)), 400),
        ("longer than allowed", "a".repeat(18 << 10), 400),
        ("longer than a request may be", "a".repeat(1 << 20), 413),
        ("deep brackets", nested("(", "1", ")", 4_000), 400),
        ("deep functions", nested("abs(", "x", ")", 2_500), 400),
        ("deep signs", format!("{}1", "-".repeat(15_000)), 400),
        ("not closed", nested("sum(", "x", "", 60), 400),
        ("regex too large", r#"{job=~"(.{1000}){1000}"}"#.to_owned(), 400),
        ("regex of many branches", format!("{{job=~\"{}x\"}}", "(a|b|.*)*".repeat(200)), 0),
        ("regex over every series", r#"{instance=~".*.*.*.*.*.*.*.*.*.*x"}"#.to_owned(), 200),
        (
            "regex in label_replace",
            format!("label_replace(up, \"a\", \"$1\", \"b\", \"{}\")", "(.{500}){500}"),
            422,
        ),
        ("cross join", format!("{all} * on () group_left () {all}"), 422),
        ("every value a label", format!("count_values(\"v\", {all})"), 0),
        ("all of time", format!("count(rate({all}[1000y]))"), 0),
        ("tower of subqueries", nested("max_over_time(", "up", "[30d:1s])", 12), 422),
        ("one long subquery", "absent_over_time(up[5y:1s])".to_owned(), 422),
        ("a subquery of nothing", "sum_over_time(vector(1)[1000y:1ms])".to_owned(), 422),
        (
            "labels that double",
            {
                let open = "label_join(".repeat(40);
                format!("{open}vector(1){}", ", \"a\", \"xxxxxxxx\", \"a\", \"a\")".repeat(40))
            },
            422,
        ),
        ("sorted again and again", nested("sort(", all, ")", 50), 0),
        ("a quantile of everything", format!("quantile_over_time(0.9, {all}[1d:1s])"), 0),
        ("no such function", "nosuch(x)".to_owned(), 400),
        ("no UTF-8 of a query", "\u{202e}sum(x)".to_owned(), 400),
    ]
}

/// Percent-encoded, since a query may hold anything.
fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// How many ticks ended at most so many seconds after they were due, cumulative.
fn lags(davy: &Davy) -> Vec<(String, f64)> {
    let page = common::Http::new().get(&davy.url("/metrics")).expect("davy answers").1;
    let of = |l: &str| {
        let (le, n) = l.strip_prefix("davy_tick_lag_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((le.to_owned(), n.parse().ok()?))
    };
    page.lines().filter_map(of).collect()
}

#[test]
fn hostile_queries_are_refused_or_bounded_and_davy_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = "global: {evaluation_interval: 1s}\n{otlp}\nstorage: {series_per_service_limit: 1000000}\n";
    let davy = Davy::start(dir.path(), config);
    fill(&davy);
    let resident = || {
        let process =
            procfs::process::Process::new(davy.process.child.id().cast_signed()).expect("davy runs");
        process.status().expect("a process has a status").vmrss.unwrap_or(0) * 1024
    };
    let ticks = || {
        let page = common::Http::new().get(&davy.url("/metrics")).expect("davy answers").1;
        let line = page.lines().find_map(|l| l.strip_prefix("davy_ticks_total "));
        line.and_then(|v| v.parse::<f64>().ok()).expect("davy counts its ticks")
    };
    let (before, ticked) = (resident(), ticks());
    let lags_before = lags(&davy);
    // Each on a connection of its own: one that carried too long a body is closed with its answer.
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120));
    let client = client.pool_max_idle_per_host(0).build();
    let client = client.expect("a client can be built");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be built");
    let now = davy::clock::SystemClock.now().as_millis() / 1000;
    let ask = |query: &str, path: &str, more: String| {
        let request = client
            .post(davy.url(path))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("query={}&timeout=10s{more}", encoded(query)));
        async { request.send().await.map(|r| r.status().as_u16()) }
    };
    runtime.block_on(async {
        // All at once, as an instant and as a range of as many points as are allowed.
        let mut asked = tokio::task::JoinSet::new();
        for (name, query, want) in corpus() {
            let instant = ask(&query, "/api/v1/query", format!("&time={now}"));
            let range =
                ask(&query, "/api/v1/query_range", format!("&start={}&end={now}&step=1", now - 10_999));
            asked.spawn(async move { (name, want, true, instant.await) });
            asked.spawn(async move { (name, want, false, range.await) });
        }
        while let Some(answer) = asked.join_next().await {
            let (name, want, instant, status) = answer.expect("a request does not panic");
            let status =
                status.unwrap_or_else(|e| panic!("{name}: no answer: {e:?}\n{}", davy.process.log()));
            // A busy server may also say so.
            let fits = if want == 0 || !instant {
                [200, 400, 413, 422, 503].contains(&status)
            } else {
                status == want || status == 503
            };
            assert!(fits, "{name}: {status} instead of {want}");
            if want == 400 {
                assert_eq!(status, 400, "{name} is refused before it waits for anything");
            }
        }
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < RESIDENT_MAX, "{} MiB more are resident", grown >> 20);
    assert_eq!(davy.query("vector(1) + 1")[0].1, 2.0, "davy answers as before");
    wait_for("the judging to go on", 30, || (ticks() > ticked).then_some(()));
    // Not asserted: it is the machine's as much as Davy's. `-- --nocapture` shows it.
    let lags: Vec<(String, f64)> = lags(&davy);
    let new = |le: &String, n: f64| n - lags_before.iter().find(|b| b.0 == *le).map_or(0.0, |b| b.1);
    let all = lags.last().map_or(0.0, |(le, n)| new(le, *n));
    let worst = lags.iter().find(|(le, n)| new(le, *n) >= all).map_or("", |(le, _)| le);
    println!("{all} ticks beside the queries, each ended at most {worst} s after it was due");
}
