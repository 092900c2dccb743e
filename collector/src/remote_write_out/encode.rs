//! A batch as the body of a request: `WriteRequest` of 1.0 or `Request` of 2.0, in a snappy block.

use std::collections::HashMap;

use davy_model::{BucketSpan, Exemplar, Histogram, Labels, Metadata, MetricType, Timestamp};

use super::config::Protocol;
use super::protobuf as pb;
use super::round::{Item, What};

/// Up to here every whole number of a double is exact.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
const RESET_HINT_GAUGE: u64 = 3;

/// Content type of a protocol's requests.
pub(super) fn content_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V1 => "application/x-protobuf",
        Protocol::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    }
}

/// The value of `X-Prometheus-Remote-Write-Version`.
pub(super) fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V1 => "0.1.0",
        Protocol::V2 => "2.0.0",
    }
}

/// The body, before compression. `metadata` knows a metric by its name; only 2.0 asks.
pub(super) fn samples(
    protocol: Protocol,
    items: &[&Item],
    metadata: impl Fn(&str) -> Option<Metadata>,
) -> Vec<u8> {
    let mut place: HashMap<u64, usize> = HashMap::new();
    let mut series: Vec<Vec<&Item>> = Vec::new();
    for item in items {
        let at = *place.entry(item.series).or_insert_with(|| {
            series.push(Vec::new());
            series.len() - 1
        });
        series[at].push(item);
    }
    match protocol {
        Protocol::V1 => v1(&series),
        Protocol::V2 => v2(&series, metadata),
    }
}

/// A request of 1.0 that says what metrics are.
pub(super) fn metadata(of: &[(String, Metadata)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, m) in of {
        pb::message(&mut out, 3, |out| {
            pb::number(out, 1, metric_type(m.metric_type));
            pb::text(out, 2, name);
            pb::text(out, 4, &m.help);
            pb::text(out, 5, &m.unit);
        });
    }
    out
}

pub(super) fn compress(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).expect("a round's batch is far below the 4 GiB of snappy")
}

fn v1(series: &[Vec<&Item>]) -> Vec<u8> {
    let labels = |out: &mut Vec<u8>, labels: &Labels| {
        for (name, value) in labels.iter() {
            pb::message(out, 1, |out| {
                pb::text(out, 1, name);
                pb::text(out, 2, value);
            });
        }
    };
    let mut out = Vec::new();
    for items in series {
        pb::message(&mut out, 1, |out| {
            labels(out, &items[0].labels);
            for item in items {
                match &item.what {
                    What::Float(v) => pb::message(out, 2, |out| sample(out, *v, item.at)),
                    What::Exemplar(e) => pb::message(out, 3, |out| {
                        labels(out, &e.labels);
                        exemplar_value(out, e);
                    }),
                    What::Histogram(h) => pb::message(out, 4, |out| histogram(out, h, item.at)),
                }
            }
        });
    }
    out
}

fn v2(series: &[Vec<&Item>], metadata: impl Fn(&str) -> Option<Metadata>) -> Vec<u8> {
    // The first symbol is the empty text: what refers to none refers to it.
    let mut symbols = Symbols::default();
    symbols.number("");
    let mut body = Vec::new();
    for items in series {
        let mut out = Vec::new();
        let refs = symbols.labels(&items[0].labels);
        pb::packed(&mut out, 1, refs);
        for item in items {
            match &item.what {
                What::Float(v) => pb::message(&mut out, 2, |out| sample(out, *v, item.at)),
                What::Histogram(h) => pb::message(&mut out, 3, |out| histogram(out, h, item.at)),
                What::Exemplar(e) => {
                    let refs = symbols.labels(&e.labels);
                    pb::message(&mut out, 4, |out| {
                        pb::packed(out, 1, refs);
                        exemplar_value(out, e);
                    });
                }
            }
        }
        if let Some(m) = metadata(items[0].labels.metric_name()) {
            let (help, unit) = (symbols.number(&m.help), symbols.number(&m.unit));
            pb::message(&mut out, 5, |out| {
                pb::number(out, 1, metric_type(m.metric_type));
                pb::number(out, 3, help);
                pb::number(out, 4, unit);
            });
        }
        pb::bytes(&mut body, 5, &out);
    }
    let mut out = Vec::new();
    symbols.texts.iter().for_each(|s| pb::bytes(&mut out, 4, s.as_bytes()));
    out.append(&mut body);
    out
}

#[derive(Default)]
struct Symbols {
    numbers: HashMap<String, u64>,
    texts: Vec<String>,
}

impl Symbols {
    fn number(&mut self, text: &str) -> u64 {
        if let Some(n) = self.numbers.get(text) {
            return *n;
        }
        let n = self.texts.len() as u64;
        self.numbers.insert(text.to_owned(), n);
        self.texts.push(text.to_owned());
        n
    }

    fn labels(&mut self, labels: &Labels) -> Vec<u64> {
        labels.iter().flat_map(|(n, v)| [self.number(n), self.number(v)]).collect()
    }
}

fn sample(out: &mut Vec<u8>, value: f64, at: Timestamp) {
    pb::double(out, 1, value);
    pb::number(out, 2, at.as_millis() as u64);
}

fn exemplar_value(out: &mut Vec<u8>, e: &Exemplar) {
    pb::double(out, 2, e.value);
    pb::number(out, 3, e.timestamp.as_millis() as u64);
}

/// The same message in both versions. Whole counts are sent as integers, which is what they were counted as.
fn histogram(out: &mut Vec<u8>, h: &Histogram, at: Timestamp) {
    let is_whole = |v: &f64| v.fract() == 0.0 && (0.0..=EXACT_MAX).contains(v);
    let mut counts = h.positive_counts.iter().chain(&h.negative_counts).chain([&h.count, &h.zero_count]);
    let whole = counts.all(is_whole);
    if whole {
        pb::number_always(out, 1, h.count as u64);
    } else {
        pb::double_always(out, 2, h.count);
    }
    pb::double(out, 3, h.sum);
    pb::signed(out, 4, i64::from(h.schema));
    pb::double(out, 5, h.zero_threshold);
    if whole {
        pb::number_always(out, 6, h.zero_count as u64);
    } else {
        pb::double_always(out, 7, h.zero_count);
    }
    for (at, spans, counts) in
        [(8, &h.negative_spans, &h.negative_counts), (11, &h.positive_spans, &h.positive_counts)]
    {
        spans.iter().for_each(|s| span(out, at, *s));
        if whole {
            let mut before = 0i64;
            let deltas = counts.iter().map(|c| {
                let count = *c as i64;
                pb::zigzag(count - std::mem::replace(&mut before, count))
            });
            pb::packed(out, at + 1, deltas.collect::<Vec<_>>());
        } else {
            pb::packed_doubles(out, at + 2, counts);
        }
    }
    pb::number(out, 14, if h.gauge { RESET_HINT_GAUGE } else { 0 });
    pb::number(out, 15, at.as_millis() as u64);
    pb::packed_doubles(out, 16, &h.custom_bounds);
}

fn span(out: &mut Vec<u8>, field: u64, span: BucketSpan) {
    pb::message(out, field, |out| {
        pb::signed(out, 1, i64::from(span.offset));
        pb::number(out, 2, u64::from(span.length));
    });
}

fn metric_type(of: MetricType) -> u64 {
    match of {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}
