//! Queries over a day: counters, buckets and an info metric, the same samples in each system.
//!
//! Cold is the first time that a query is asked after a start, warm the mean of several in a row. CPU is that of the
//! whole process, so an answer made on two cores is not cheaper for being quicker.

use std::time::Instant;

use davy_fixtures::fleet::remote_write::{Encoder, compress};
use tokio::sync::mpsc;

use crate::args::Args;
use crate::load::now_ms;
use crate::net::Net;
use crate::push::{Body, Pusher, send_all};
use crate::report::Report;
use crate::scrape::Home;
use crate::system::{Kind, System};

/// Counters of an instance; ten times as many as its histograms have buckets.
const PATHS: usize = 100;
const HISTOGRAMS: usize = 10;
const BUCKETS: [&str; 10] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "5", "+Inf"];
/// Ticks of a series in one request.
const AT_ONCE: usize = 40;
/// A warm query is asked this often for one figure.
const WARM: usize = 5;
const HOURS_6_S: i64 = 6 * 3600;

/// Name, query, whether over six hours at a minute.
const QUERIES: [(&str, &str, bool); 7] = [
    ("sum of rates, instant", "sum by (job) (rate(x_total[5m]))", false),
    ("sum of rates, 6 h", "sum by (job) (rate(x_total[5m]))", true),
    ("histogram_quantile, 6 h", "histogram_quantile(0.99, sum by (le) (rate(x_seconds_bucket[5m])))", true),
    ("topk, instant", "topk(10, rate(x_total[5m]))", false),
    ("topk, 6 h", "topk(10, rate(x_total[5m]))", true),
    (
        "join, instant",
        "sum by (version) (rate(x_total[5m]) * on (instance) group_left (version) x_info)",
        false,
    ),
    ("join, 6 h", "sum by (version) (rate(x_total[5m]) * on (instance) group_left (version) x_info)", true),
];

pub(crate) fn run(args: &Args) -> Report {
    let instances = args.targets[0];
    let (counters, buckets) = (instances * PATHS, instances * HISTOGRAMS * BUCKETS.len());
    let hours = args.ticks() as f64 * args.interval_ms() as f64 / 3.6e6;
    let title =
        format!("Queries: {counters} counters, {buckets} buckets, {hours:.1} h at {} ms", args.interval_ms());
    let mut report = Report::new(title, &args.systems);
    let end_ms = now_ms() / 60_000 * 60_000;
    let mut right: Vec<Option<String>> = vec![None; QUERIES.len()];
    for kind in &args.systems {
        if let Err(why) = pass(args, *kind, end_ms, &mut right, &mut report) {
            report.note(format!("{}: {why}", kind.name()));
        }
    }
    report
}

fn pass(
    args: &Args,
    kind: Kind,
    end_ms: i64,
    right: &mut [Option<String>],
    report: &mut Report,
) -> Result<(), String> {
    let home = Home::new(args, "query");
    let system = System::start(kind, args, home.path(), None)?;
    let samples = send_all(&Net::new(), &system, |sender| day(args, end_ms, sender))?;
    system.digest()?;
    report.fact(kind, "M samples", 1, samples as f64 / 1e6);
    system.process.stop();

    let system = System::start(kind, args, home.path(), None)?;
    let before = system.process.resident_peak();
    for ((name, query, range), right) in QUERIES.iter().zip(right) {
        let path = path_of(query, *range, end_ms);
        let ask = |times: usize| {
            let (cpu, began) = (system.process.cpu(), Instant::now());
            let mut body = String::new();
            for _ in 0..times {
                body = system.ask(&path)?;
            }
            let n = times as f64;
            let figures = ((system.process.cpu() - cpu) * 1e3 / n, began.elapsed().as_secs_f64() * 1e3 / n);
            Ok::<_, String>((figures, body))
        };
        let ((cpu, wall), body) = ask(1)?;
        report.cost(kind, &format!("{name}: cold CPU ms"), 1, cpu);
        report.cost(kind, &format!("{name}: cold ms"), 1, wall);
        for _ in 0..args.runs() {
            let ((cpu, wall), _) = ask(WARM)?;
            report.cost(kind, &format!("{name}: CPU ms"), 1, cpu);
            report.cost(kind, &format!("{name}: ms"), 1, wall);
        }
        // The peers' answers differ in what their versions mean by a range; Davy's must be there.
        if !body.contains("\"value") {
            return Err(format!("{name}: an empty answer"));
        }
        right.get_or_insert(body);
    }
    report.cost(kind, "MiB resident at most", 0, system.process.resident_peak() / f64::from(1 << 20));
    report.fact(kind, "of these before the first query", 0, before / f64::from(1 << 20));
    system.process.kill();
    Ok(())
}

fn path_of(query: &str, range: bool, end_ms: i64) -> String {
    let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
    let end = end_ms / 1000;
    // VictoriaMetrics would answer a repeated range from its cache of results.
    if range {
        format!("/api/v1/query_range?query={query}&start={}&end={end}&step=60&nocache=1", end - HOURS_6_S)
    } else {
        format!("/api/v1/query?query={query}&time={end}&nocache=1")
    }
}

/// A day of every series, oldest first, instance by instance.
fn day(args: &Args, end_ms: i64, sender: &mpsc::Sender<Body>) {
    let step = args.interval_ms().cast_signed();
    let ticks = args.ticks();
    let start_ms = end_ms - step * (ticks as i64 - 1);
    let mut fleet: Vec<Instance> = (0..args.targets[0]).map(|n| Instance::new(args.seed, n)).collect();
    let mut from = 0;
    while from < ticks {
        let until = (from + AT_ONCE).min(ticks);
        for instance in &mut fleet {
            let columns: Vec<Vec<f64>> = (from..until).map(|_| instance.tick()).collect();
            let time = |tick: usize| start_ms + step * (from + tick) as i64;
            let mut series = 0;
            while series < columns[0].len() {
                let mut request = Vec::new();
                let last = (series + args.request_samples / AT_ONCE).min(columns[0].len());
                for s in series..last {
                    let samples = columns.iter().enumerate().map(|(t, column)| (time(t), column[s]));
                    instance.encoder.push(s, samples, &mut request);
                }
                let samples = (last - series) * columns.len();
                if sender.blocking_send((compress(&request), samples)).is_err() {
                    return;
                }
                series = last;
            }
        }
        from = until;
    }
}

struct Instance {
    encoder: Encoder,
    values: Vec<f64>,
    random: u64,
}

impl Instance {
    fn new(seed: u64, n: usize) -> Self {
        let (job, instance) = (format!("job-{}", n % 5), format!("10.0.0.{n}:9100"));
        let (paths, version) =
            ((0..PATHS).map(|p| format!("/path/{p}")).collect::<Vec<_>>(), format!("v{}", n % 3));
        let of = |name, more: &[(&'static str, &str)]| {
            let own = [("__name__", name), ("job", job.as_str()), ("instance", instance.as_str())];
            own.into_iter().chain(more.iter().copied()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
        };
        let mut all: Vec<Vec<(String, String)>> =
            paths.iter().map(|p| of("x_total", &[("path", p)])).collect();
        for p in &paths[..HISTOGRAMS] {
            all.extend(BUCKETS.iter().map(|le| of("x_seconds_bucket", &[("path", p), ("le", le)])));
        }
        all.push(of("x_info", &[("version", &version)]));
        let borrowed = all.iter().map(|l| l.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect());
        let encoder = Encoder::of(borrowed);
        Self { encoder, values: vec![0.0; all.len()], random: seed ^ ((n as u64 + 1) << 20) | 1 }
    }

    /// The next values of every series.
    fn tick(&mut self) -> Vec<f64> {
        let histograms = PATHS..PATHS + HISTOGRAMS * BUCKETS.len();
        let mut below = 0.0;
        for i in 0..self.values.len() {
            // xorshift64
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let gained = (self.random % 40) as f64;
            if histograms.contains(&i) {
                below = if (i - PATHS).is_multiple_of(BUCKETS.len()) { gained } else { below + gained };
                self.values[i] += below;
            } else {
                self.values[i] += gained;
            }
        }
        if let Some(info) = self.values.last_mut() {
            *info = 1.0;
        }
        self.values.clone()
    }
}

pub(crate) fn lookup(args: &Args) -> Report {
    let title = format!("Lookups: {} targets x {} series", args.targets[0], args.series);
    let mut report = Report::new(title, &args.systems);
    for kind in &args.systems {
        if let Err(why) = lookup_pass(args, *kind, &mut report) {
            report.note(format!("{}: {why}", kind.name()));
        }
    }
    report
}

fn lookup_pass(args: &Args, kind: Kind, report: &mut Report) -> Result<(), String> {
    let home = Home::new(args, "lookup");
    let system = System::start(kind, args, home.path(), None)?;
    let span_ms = args.ticks().cast_signed() as i64 * args.interval_ms().cast_signed();
    let start_ms = now_ms() - span_ms;
    Pusher::new(args, start_ms).push(&system, args.ticks(), args.ticks())?;
    // Peers index what they took a moment later.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let (start, end) = (start_ms / 1000 - 60, now_ms() / 1000 + 60);
    let matcher: String = "http_requests_total{code=\"500\"}".bytes().map(|b| format!("%{b:02X}")).collect();
    let lookups = [
        ("metric names", format!("/api/v1/label/__name__/values?start={start}&end={end}")),
        ("label names", format!("/api/v1/labels?start={start}&end={end}")),
        ("instances", format!("/api/v1/label/instance/values?start={start}&end={end}")),
        (
            "instances of a selector",
            format!("/api/v1/label/instance/values?match[]={matcher}&start={start}&end={end}"),
        ),
    ];
    for (name, path) in lookups {
        let mut bytes = 0;
        for _ in 0..args.runs() {
            let (cpu, began) = (system.process.cpu(), Instant::now());
            for _ in 0..WARM {
                bytes = system.ask(&path)?.len();
            }
            let n = WARM as f64;
            report.cost(kind, &format!("{name}: CPU ms"), 1, (system.process.cpu() - cpu) * 1e3 / n);
            report.cost(kind, &format!("{name}: ms"), 1, began.elapsed().as_secs_f64() * 1e3 / n);
        }
        report.fact(kind, &format!("{name}: bytes"), 0, bytes as f64);
    }
    system.process.kill();
    Ok(())
}
