//! Dashboards beside ingest: clients refresh the same fifty panels while a fleet is scraped, as people do who look at
//! one board. Their ranges begin and end at multiples of the step, as Grafana asks.
//!
//! A figure is the time from the request to the last byte, over all panels of all clients in the window; whether a
//! scrape came late is asked of the system afterwards, as `stored of served` of the experiment `scrape` is.

use std::thread::sleep;
use std::time::{Duration, Instant};

use davy_fixtures::fleet::Fleet;
use tokio::time::{MissedTickBehavior, interval};

use crate::args::Args;
use crate::load::Load;
use crate::net::Net;
use crate::report::Report;
use crate::scrape::{Home, stored_of_served};
use crate::system::{Kind, Scrapes, System};

const CLIENTS: u64 = 10;
const PANELS: usize = 50;
const REFRESH: Duration = Duration::from_secs(5);

const STEP_S: i64 = 15;
const RANGE_S: i64 = 1800;

const JOBS: usize = 5;
const WINDOWS: [&str; 2] = ["1m", "2m"];

/// What panels ask, of each job and over each window: rates, quantiles, tops and shares, over the half hour that a canary is watched for.
const QUERIES: [&str; 5] = [
    "sum by (job) (rate(http_requests_total{job!=\"JOB\"}[WINDOW]))",
    "sum by (code) (rate(http_requests_total{job=\"JOB\"}[WINDOW]))",
    "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{job=\"JOB\"}[WINDOW])))",
    "topk(5, sum by (instance) (rate(errors_total{job=\"JOB\"}[WINDOW])))",
    "sum(rate(errors_total{job!=\"JOB\"}[WINDOW])) / sum(rate(http_requests_total{job!=\"JOB\"}[WINDOW]))",
];

pub(crate) fn run(args: &Args) -> Report {
    let (targets, series, interval_ms) = (args.targets[0], args.series, args.interval_ms());
    let title = format!(
        "Panels: {PANELS} panels every {} s by {CLIENTS} clients beside {targets} targets x {series} series at {interval_ms} ms",
        REFRESH.as_secs()
    );
    let mut report = Report::new(title, &args.systems);
    for kind in &args.systems {
        if let Err(why) = pass(args, *kind, &mut report) {
            report.note(format!("{}: {why}", kind.name()));
        }
    }
    report
}

fn pass(args: &Args, kind: Kind, report: &mut Report) -> Result<(), String> {
    let (targets, interval_ms) = (args.targets[0], args.interval_ms());
    let home = Home::new(args, "panels");
    let load = Load::start(args.seed, targets, args.series, interval_ms);
    let scrapes = Scrapes { ports: &load.ports, targets, interval_ms };
    let system = System::start(kind, args, home.path(), Some(&scrapes))?;
    sleep(Duration::from_secs(args.warm_up()));
    for _ in 0..args.runs() {
        let (cpu, before) = (system.process.cpu(), load.totals());
        let (mut times, failed) = refresh(&system, args.window());
        let seconds = args.window() as f64;
        times.sort_by(f64::total_cmp);
        if times.is_empty() {
            return Err(format!("no panel was answered, {failed} failed"));
        }
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize] * 1e3;
        report.cost(kind, "p50 ms", 1, at(0.5));
        report.cost(kind, "p99 ms", 1, at(0.99));
        report.cost(kind, "slowest ms", 1, at(1.0));
        report.fact(kind, "answers/s", 1, times.len() as f64 / seconds);
        report.fact(kind, "failed", 0, failed as f64);
        report.fact(kind, "CPU cores", 2, (system.process.cpu() - cpu) / seconds);
        report.fact(kind, "samples/s served", 0, (load.totals().samples - before.samples) as f64 / seconds);
    }
    if let Some(share) = stored_of_served(&system, &load) {
        report.fact(kind, "stored of served", 3, share);
    }
    system.process.kill();
    Ok(())
}

/// Seconds of every answer, and how many were none.
fn refresh(system: &System, window: u64) -> (Vec<f64>, usize) {
    let net = Net::new();
    let client = net.client.clone();
    let until = Instant::now() + Duration::from_secs(window);
    let url = system.url("/api/v1/query_range");
    let queries: Vec<String> = (0..PANELS).map(query).collect();
    net.runtime.block_on(async {
        let clients = (0..CLIENTS).map(|n| {
            let (client, url, queries) = (client.clone(), url.clone(), queries.clone());
            tokio::spawn(async move {
                // Clients look at different moments.
                tokio::time::sleep(REFRESH / CLIENTS as u32 * n as u32).await;
                let mut ticks = interval(REFRESH);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                let (mut times, mut failed) = (Vec::new(), 0);
                while Instant::now() < until {
                    ticks.tick().await;
                    let ask =
                        |query: &String| tokio::spawn(panel(client.clone(), url.clone(), query.clone()));
                    let panels: Vec<_> = queries.iter().map(ask).collect();
                    for p in panels {
                        match p.await {
                            Ok(Some(seconds)) => times.push(seconds),
                            _ => failed += 1,
                        }
                    }
                }
                (times, failed)
            })
        });
        let (mut times, mut failed) = (Vec::new(), 0);
        for c in clients.collect::<Vec<_>>() {
            let (t, f) = c.await.expect("a client does not panic");
            times.extend(t);
            failed += f;
        }
        (times, failed)
    })
}

/// Each of the panels asks something else.
fn query(panel: usize) -> String {
    let (query, rest) = (QUERIES[panel % QUERIES.len()], panel / QUERIES.len());
    let window = WINDOWS[rest / JOBS % WINDOWS.len()];
    query.replace("JOB", Fleet::job(rest % JOBS)).replace("WINDOW", window)
}

async fn panel(client: reqwest::Client, url: String, query: String) -> Option<f64> {
    let end = crate::load::now_ms() / 1000 / STEP_S * STEP_S;
    let began = Instant::now();
    let form = format!(
        "query={}&start={}&end={end}&step={STEP_S}",
        query.bytes().map(|b| format!("%{b:02X}")).collect::<String>(),
        end - RANGE_S
    );
    let request = client.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
    let response = request.send().await.ok()?;
    let ok = response.status().is_success();
    response.bytes().await.ok()?;
    ok.then(|| began.elapsed().as_secs_f64())
}
