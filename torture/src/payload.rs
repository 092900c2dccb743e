//! What a write holds. Everything follows from who wrote it, its number and its time, so that whatever is read
//! can be told to be right or altered without remembering it.

use std::sync::Arc;

use davy_model::{
    AttributeValue, BucketSpan, Exemplar, Histogram, Labels, Resource, STALE_NAN, Span, SpanEvent, SpanId,
    SpanKind, SpanLink, SpanStatus, Timestamp, TraceId, Value,
};
use davy_store::control::{
    ActionRecord, AlertRecord, AuditRecord, ControlBatch, OutboxRecord, ReleaseRecord, VersionRecord,
};

use crate::ledger::{Entry, What};
use crate::rng::mix;

/// 2026-01-01T00:00:00Z: a multiple of two hours and of a day.
pub const START: i64 = 1_767_225_600_000;
/// Series of one source at one time: floats of three kinds, then two histograms.
pub const SERIES: usize = 9;
const FLOATS: usize = 7;
/// After so many writes a source's series get new labels, as after a deployment.
const EPOCH: u64 = 64;
/// Sources that write to the control database.
pub(crate) const CONTROL_SOURCES: u32 = 8;

pub(crate) fn epoch(sequence: u64) -> u64 {
    sequence / EPOCH
}

pub(crate) fn labels(source: u32, epoch: u64, n: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", "torture"),
        ("job", "ledger"),
        ("instance", &format!("source-{source}:80")),
        ("source", &source.to_string()),
        ("epoch", &epoch.to_string()),
        ("n", &n.to_string()),
    ])
}

pub(crate) fn value(source: u32, epoch: u64, n: usize, at: i64) -> Value {
    let series = mix(&[u64::from(source), epoch, n as u64]);
    let noise = mix(&[series, at as u64]);
    Value::Float(match n {
        FLOATS.. => return Value::Histogram(Arc::new(histogram(series, noise, n == FLOATS, at))),
        _ if n.is_multiple_of(3) => ((at - START) / 10 * (n as i64 + 1)) as f64 + (series % 100_000) as f64,
        _ if n % 3 == 1 => (noise % 1_000_000) as f64 / 100.0,
        _ if noise.is_multiple_of(16) => STALE_NAN,
        _ => f64::from_bits(0x3ff0_0000_0000_0000 | noise >> 12),
    })
}

/// A counter's: buckets grow with time; some have gaps, some bounds of their own.
fn histogram(series: u64, noise: u64, exponential: bool, at: i64) -> Histogram {
    let base = (at - START).unsigned_abs() / 100;
    let count = |i: u64| (base + mix(&[series, i]) % 1000 + noise % 7) as f64;
    let positive_counts: Vec<f64> = (0..4).map(count).collect();
    let sum = f64::from_bits(0x4010_0000_0000_0000 | noise >> 12);
    let total = positive_counts.iter().sum::<f64>();
    if exponential {
        return Histogram {
            schema: 3,
            zero_threshold: 1e-9,
            zero_count: count(9),
            count: total + count(9),
            sum,
            positive_spans: vec![
                BucketSpan { offset: (series % 5) as i32, length: 1 },
                BucketSpan { offset: 2, length: 3 },
            ],
            positive_counts,
            ..Histogram::default()
        };
    }
    Histogram {
        schema: -53,
        count: total,
        sum,
        positive_spans: vec![BucketSpan { offset: 0, length: 4 }],
        positive_counts,
        custom_bounds: vec![0.005, 0.1, 2.5],
        ..Histogram::default()
    }
}

/// The exemplar that comes with series 0.
pub(crate) fn exemplar(source: u32, epoch: u64, at: i64) -> Exemplar {
    let noise = mix(&[u64::from(source), epoch, at as u64, 77]);
    Exemplar {
        labels: Labels::from_pairs([("trace_id", format!("{noise:016x}"))]),
        value: (noise % 1000) as f64 / 8.0,
        timestamp: Timestamp::from_millis(at),
    }
}

pub(crate) fn trace_id(source: u32, sequence: u64) -> TraceId {
    let mut id = [0x5a; 16];
    id[..4].copy_from_slice(&source.to_be_bytes());
    id[8..].copy_from_slice(&sequence.to_be_bytes());
    TraceId(id)
}

/// Whose spans have this trace id.
pub(crate) fn from_trace_id(id: TraceId) -> Option<(u32, u64)> {
    let source = u32::from_be_bytes(*id.0.first_chunk()?);
    let sequence = u64::from_be_bytes(*id.0.last_chunk()?);
    (trace_id(source, sequence) == id).then_some((source, sequence))
}

/// Two spans, the second within the first.
pub(crate) fn spans(source: u32, sequence: u64, at: i64) -> Vec<Span> {
    let noise = mix(&[u64::from(source), sequence, at as u64]);
    let resource = Arc::new(Resource {
        attributes: vec![
            ("service.name".into(), text(&format!("service-{source}"))),
            ("service.version".into(), text(&epoch(sequence).to_string())),
        ],
    });
    let span = |child: u64| Span {
        trace_id: trace_id(source, sequence),
        span_id: SpanId((child + 1).to_be_bytes()),
        parent_span_id: SpanId(child.to_be_bytes()),
        trace_state: "davy=1".into(),
        resource: resource.clone(),
        scope: "torture".into(),
        name: format!("GET /{}", noise % 50).into(),
        kind: if child == 0 { SpanKind::Server } else { SpanKind::Client },
        start_nanos: at as u64 * 1_000_000 + child,
        end_nanos: at as u64 * 1_000_000 + child + 1 + noise % 1_000_000_000,
        status: if noise.is_multiple_of(9) { SpanStatus::Error } else { SpanStatus::Ok },
        status_message: if noise.is_multiple_of(9) { "no".into() } else { "".into() },
        attributes: vec![
            ("text".into(), text(&format!("{noise:x}"))),
            ("whole".into(), AttributeValue::Int(noise as i64)),
            ("real".into(), AttributeValue::Double((noise % 1000) as f64 / 3.0)),
            ("yes".into(), AttributeValue::Bool(noise.is_multiple_of(2))),
            ("list".into(), AttributeValue::Json(format!("[{}]", noise % 10).into())),
        ],
        events: vec![SpanEvent {
            time_nanos: at as u64 * 1_000_000 + child + 1,
            name: "retry".into(),
            attributes: vec![("n".into(), AttributeValue::Int(child as i64))],
        }],
        links: vec![SpanLink {
            trace_id: trace_id(source, sequence + 1),
            span_id: SpanId([7; 8]),
            attributes: vec![],
        }],
    };
    vec![span(0), span(1)]
}

fn text(s: &str) -> AttributeValue {
    AttributeValue::String(s.into())
}

/// The generation under which a source's verdicts and actions stand: far above those of releases.
pub(crate) fn generation(source: u32) -> i64 {
    1 << 40 | i64::from(source)
}

pub(crate) fn decision(source: u32, sequence: u64, at: i64) -> ControlBatch {
    let (time, noise) = (Timestamp::from_millis(at), mix(&[u64::from(source), sequence, at as u64]));
    let (generation, detail) = (generation(source), format!("{{\"noise\":{noise}}}"));
    let id = format!("{source}/{sequence}");
    ControlBatch {
        versions: vec![VersionRecord {
            service: format!("service-{source}"),
            version: sequence.to_string(),
            first_seen: time,
            last_seen: Timestamp::from_millis(at + (noise % 1000) as i64),
        }],
        releases: vec![],
        verdicts: vec![(generation, time, format!("{sequence} {detail}"))],
        actions: vec![ActionRecord {
            id: id.clone(),
            generation,
            kind: "rollback".into(),
            state: "intended".into(),
            attempts: (noise % 5) as u32,
            at: time,
            detail: detail.clone(),
        }],
        alerts: vec![AlertRecord {
            id: id.clone(),
            fingerprint: format!("{noise:x}"),
            starts_at: time,
            ends_at: None,
            detail: detail.clone(),
        }],
        outbox: vec![OutboxRecord {
            id,
            receiver: "ops".into(),
            created_at: time,
            next_attempt_at: time,
            attempts: 0,
            state: "pending".into(),
            last_error: String::new(),
            detail,
        }],
        calibrations: Vec::new(),
        silences: Vec::new(),
        audit: vec![audit(source, sequence, at, What::Decision)],
    }
}

pub(crate) fn audit(source: u32, sequence: u64, at: i64, what: What) -> AuditRecord {
    AuditRecord {
        at: Timestamp::from_millis(at),
        actor: "davy".into(),
        action: if what == What::Release { "create".into() } else { "decide".into() },
        target: source.to_string(),
        reason: sequence.to_string(),
        outcome: format!("{:x}", mix(&[u64::from(source), sequence, at as u64])),
    }
}

/// But for its generation and its id, which the store gives.
pub(crate) fn release(source: u32, sequence: u64, at: i64) -> ReleaseRecord {
    ReleaseRecord {
        generation: 0,
        id: String::new(),
        service: format!("service-{source}"),
        baseline: format!("{:x}", mix(&[u64::from(source), sequence, at as u64])),
        canary: sequence.to_string(),
        phase: "watching".into(),
        verdict: "insufficient".into(),
        reason: "no traffic".into(),
        started_at: Timestamp::from_millis(at),
        decided_at: None,
        detail: "{}".into(),
    }
}

/// Rows of this kind are found by the service's name.
pub(crate) fn source_of(service: &str) -> Option<u32> {
    service.strip_prefix("service-")?.parse().ok()
}

impl Entry {
    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }
}
