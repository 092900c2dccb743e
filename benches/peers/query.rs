//! Queries over a day: counters, buckets and an info metric, the same samples in each system. All but the newest one
//! to three hours are digested (sealed, compacted, merged) before those are sent: so has them a server that runs for
//! long.
//!
//! Cold is the first time that a query is asked after a start, warm the mean of several in a row. CPU is that of the
//! whole process, so an answer made on two cores is not cheaper for being quicker.

use std::ops::Range;
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
/// A warm query is asked this often for one figure, and a lookup, which takes less than a tick of the CPU's clock.
const WARM: usize = 5;
const WARM_LOOKUPS: usize = 1_000;
const HOURS_6_S: i64 = 6 * 3600;
/// What is digested ends at a multiple of the first, where Davy ends what it seals, and so long before the newest
/// sample.
const DIGESTED_UNTIL_MS: i64 = 2 * 3600 * 1000;
const PRESENT_MS_MIN: i64 = 3600 * 1000;

#[derive(Clone, Copy)]
enum When {
    /// At the newest sample.
    Now,
    /// In the middle of what is digested.
    Past,
    /// The newest six hours at a minute.
    Hours6,
}

const SUM: &str = "sum by (job) (rate(x_total[5m]))";
const TOPK: &str = "topk(10, rate(x_total[5m]))";
const JOIN: &str = "sum by (version) (rate(x_total[5m]) * on (instance) group_left (version) x_info)";
const QUANTILE: &str = "histogram_quantile(0.99, sum by (le) (rate(x_seconds_bucket[5m])))";
const QUERIES: [(&str, &str, When); 9] = [
    ("sum of rates, now", SUM, When::Now),
    ("sum of rates, 12 h ago", SUM, When::Past),
    ("sum of rates, 6 h", SUM, When::Hours6),
    ("histogram_quantile, now", QUANTILE, When::Now),
    ("histogram_quantile, 6 h", QUANTILE, When::Hours6),
    ("topk, now", TOPK, When::Now),
    ("topk, 6 h", TOPK, When::Hours6),
    ("join, now", JOIN, When::Now),
    ("join, 6 h", JOIN, When::Hours6),
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
    let mut fleet: Vec<Instance> = (0..args.targets[0]).map(|n| Instance::new(args.seed, n)).collect();
    let present = present_from(args, end_ms);
    let past = send_all(&Net::new(), &system, |sender| day(args, end_ms, &mut fleet, 0..present, sender))?;
    system.digest()?;
    let ticks = present..args.ticks();
    let samples =
        past + send_all(&Net::new(), &system, |sender| day(args, end_ms, &mut fleet, ticks, sender))?;
    report.fact(kind, "M samples", 1, samples as f64 / 1e6);
    system.process.stop();

    let system = System::start(kind, args, home.path(), None)?;
    let before = system.process.resident_peak();
    for ((name, query, when), right) in QUERIES.iter().zip(right) {
        let path = path_of(query, *when, args, end_ms);
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

/// The first tick that is not digested.
fn present_from(args: &Args, end_ms: i64) -> usize {
    let until = (end_ms - PRESENT_MS_MIN) / DIGESTED_UNTIL_MS * DIGESTED_UNTIL_MS;
    let left = (end_ms - until) / args.interval_ms().cast_signed();
    args.ticks().saturating_sub(usize::try_from(left).unwrap_or(0) + 1)
}

fn path_of(query: &str, when: When, args: &Args, end_ms: i64) -> String {
    let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
    let end = end_ms / 1000;
    let half_s = args.ticks() as i64 * args.interval_ms().cast_signed() / 2_000;
    // VictoriaMetrics would answer a repeated range from its cache of results.
    match when {
        When::Now => format!("/api/v1/query?query={query}&time={end}&nocache=1"),
        When::Past => format!("/api/v1/query?query={query}&time={}&nocache=1", end - half_s),
        When::Hours6 => {
            format!("/api/v1/query_range?query={query}&start={}&end={end}&step=60&nocache=1", end - HOURS_6_S)
        }
    }
}

/// Some ticks of every series, oldest first, instance by instance.
fn day(args: &Args, end_ms: i64, fleet: &mut [Instance], ticks: Range<usize>, sender: &mpsc::Sender<Body>) {
    let step = args.interval_ms().cast_signed();
    let start_ms = end_ms - step * (args.ticks() as i64 - 1);
    let mut from = ticks.start;
    while from < ticks.end {
        let until = (from + AT_ONCE).min(ticks.end);
        for instance in &mut *fleet {
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
    // Systems index what they took later: a server that has run for some minutes is asked.
    std::thread::sleep(std::time::Duration::from_secs(args.warm_up()));
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
            for _ in 0..WARM_LOOKUPS {
                bytes = system.ask(&path)?.len();
            }
            let n = WARM_LOOKUPS as f64;
            report.cost(kind, &format!("{name}: CPU ms"), 2, (system.process.cpu() - cpu) * 1e3 / n);
            report.cost(kind, &format!("{name}: ms"), 2, began.elapsed().as_secs_f64() * 1e3 / n);
        }
        report.fact(kind, &format!("{name}: bytes"), 0, bytes as f64);
    }
    system.process.kill();
    Ok(())
}
