//! The answer to a query as JSON, written part by part while it is sent: a large matrix is never held twice.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use davy_model::{Sample, Value};
use davy_query::{Answer, Data};
use serde::Serialize;

use super::gate::Evaluated;
use super::number;
use super::samples::{self, SeriesWriter};

/// A part has this many bytes, and at most a point more: a millisecond of work between two sends.
const PART_BYTES: usize = 64 << 10;
/// Warnings that an answer names, and infos; of more only the number is told.
const NOTES_MAX: usize = 10;

pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// `data.stats`, as Prometheus names its fields.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    pub(super) timings: Timings,
    pub(super) samples: Samples,
}

/// Seconds.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timings {
    pub(super) eval_total_time: f64,
    pub(super) result_sort_time: f64,
    pub(super) query_preparation_time: f64,
    pub(super) inner_eval_time: f64,
    pub(super) exec_queue_time: f64,
    pub(super) exec_total_time: f64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Samples {
    pub(super) total_queryable_samples: usize,
    pub(super) peak_samples: usize,
}

/// Keeps the first `limit` series, 0 meaning all, and warns where some are cut.
pub(super) fn truncate(answer: &mut Answer, limit: usize) {
    let cut = |len: usize| limit > 0 && len > limit;
    let truncated = match &mut answer.data {
        Data::Scalar(..) | Data::String(..) => false,
        Data::Vector(v) => {
            let cut = cut(v.len());
            if cut {
                v.truncate(limit);
            }
            cut
        }
        Data::Matrix(m) => {
            let cut = cut(m.len());
            if cut {
                m.truncate(limit);
            }
            cut
        }
    };
    if truncated {
        answer.warnings.push(TRUNCATED.to_owned());
    }
}

/// Points that an answer holds; a histogram weighs as many as its buckets take.
pub(super) fn points(answer: &Answer) -> usize {
    let weigh = |s: &Sample| match &s.value {
        Value::Float(_) => 1,
        Value::Histogram(h) => {
            8 + h.positive_counts.len()
                + h.negative_counts.len()
                + h.custom_bounds.len()
                + h.positive_spans.len()
        }
    };
    match &answer.data {
        Data::Scalar(..) | Data::String(..) => 1,
        Data::Vector(rows) => rows.iter().map(|(_, s)| weigh(s)).sum(),
        Data::Matrix(series) => series.iter().flat_map(|s| &s.samples).map(weigh).sum(),
    }
}

/// `{"status":"success","data":{"resultType":..,"result":..,"stats":..},"warnings":..,"infos":..}`.
pub(super) fn respond(Evaluated { answer, sending, .. }: Evaluated, stats: Option<&Stats>) -> Response {
    let mut parts = Parts::new(answer, stats);
    let first = parts.next().unwrap_or_default();
    let body = match parts.next() {
        None => Body::from(first),
        Some(second) => {
            let all = [first, second].into_iter().chain(parts).map(move |part| {
                let _held = &sending;
                Ok::<_, std::convert::Infallible>(part)
            });
            Body::from_stream(futures_util::stream::iter(all))
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What is still to be written, in order.
struct Parts {
    /// Several requests may be sent the same.
    answer: Arc<Answer>,
    begin: Vec<u8>,
    /// The next row, and how far it has been written.
    row: usize,
    writer: SeriesWriter,
    end: Vec<u8>,
    done: bool,
}

impl Parts {
    fn new(answer: Arc<Answer>, stats: Option<&Stats>) -> Self {
        let mut begin = br#"{"status":"success","data":{"resultType":"#.to_vec();
        let mut end = Vec::new();
        match &answer.data {
            Data::Scalar(at, v) => {
                begin.extend_from_slice(br#""scalar","result":"#);
                samples::float_point(&mut begin, *at, *v);
            }
            Data::String(at, s) => {
                begin.extend_from_slice(br#""string","result":["#);
                number::time(&mut begin, *at);
                begin.push(b',');
                number::text(&mut begin, s);
                begin.push(b']');
            }
            Data::Vector(_) => {
                begin.extend_from_slice(br#""vector","result":["#);
                end.push(b']');
            }
            Data::Matrix(_) => {
                begin.extend_from_slice(br#""matrix","result":["#);
                end.push(b']');
            }
        }
        if let Some(stats) = stats {
            end.extend_from_slice(br#","stats":"#);
            serde_json::to_writer(&mut end, stats).expect("numbers written to memory are JSON");
        }
        end.push(b'}');
        notes(&mut end, "warnings", "warning", &answer.warnings);
        notes(&mut end, "infos", "info", &answer.infos);
        end.push(b'}');
        Self { answer, begin, row: 0, writer: SeriesWriter::default(), end, done: false }
    }

    /// Until `out` is a part (`false`) or nothing is left (`true`).
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let rows = match &self.answer.data {
            // Written with the beginning.
            Data::Scalar(..) | Data::String(..) => 0,
            Data::Vector(rows) => rows.len(),
            Data::Matrix(rows) => rows.len(),
        };
        while out.len() < PART_BYTES {
            if self.row == rows {
                return true;
            }
            let written = match &self.answer.data {
                Data::Scalar(..) | Data::String(..) => true,
                Data::Vector(rows) => {
                    let (labels, s) = &rows[self.row];
                    samples::sample(out, labels, s);
                    true
                }
                Data::Matrix(rows) => self.writer.write(out, &rows[self.row], PART_BYTES),
            };
            if written {
                self.row += 1;
                self.writer = SeriesWriter::default();
                if self.row < rows {
                    out.push(b',');
                }
            }
        }
        false
    }
}

/// `,"warnings":["..",".."]`; nothing where there are none.
pub(super) fn notes(out: &mut Vec<u8>, field: &str, kind: &str, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    let omitted = notes.len().saturating_sub(NOTES_MAX);
    let mut told = notes[..notes.len() - omitted].to_vec();
    if omitted > 0 {
        told.push(format!("{omitted} more {kind} annotations omitted"));
    }
    out.extend_from_slice(format!(",\"{field}\":").as_bytes());
    serde_json::to_writer(out, &told).expect("text written to memory is JSON");
}

impl Iterator for Parts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = std::mem::take(&mut self.begin);
        if self.write(&mut out) {
            out.append(&mut self.end);
            self.done = true;
        }
        Some(out.into())
    }
}

#[cfg(test)]
mod tests {
    use davy_model::{Labels, Timestamp};
    use davy_query::QueryStats;
    use davy_store::SeriesSamples;
    use expect_test::{Expect, expect};

    use super::*;

    fn answer(data: Data) -> Answer {
        Answer { data, warnings: vec![], infos: vec![], stats: QueryStats::default() }
    }

    fn text(answer: Answer, stats: Option<&Stats>) -> String {
        let bytes: Vec<u8> = Parts::new(Arc::new(answer), stats).flatten().collect();
        String::from_utf8(bytes).unwrap()
    }

    fn check(answer: Answer, want: &Expect) {
        want.assert_eq(&text(answer, None));
    }

    fn point(millis: i64, v: f64) -> Sample {
        Sample { timestamp: Timestamp::from_millis(millis), value: Value::Float(v) }
    }

    #[test]
    fn each_of_the_four_types() {
        let at = Timestamp::from_millis(4_000);
        check(
            answer(Data::Scalar(at, 2.0)),
            &expect![[r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#]],
        );
        check(
            answer(Data::String(at, "a\"b".into())),
            &expect![[r#"{"status":"success","data":{"resultType":"string","result":[4,"a\"b"]}}"#]],
        );
        check(
            answer(Data::Vector(vec![])),
            &expect![[r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#]],
        );
        let up = Labels::from_pairs([("__name__", "up")]);
        check(
            answer(Data::Vector(vec![(up.clone(), point(1, 1.0)), (Labels::empty(), point(1, 0.5))])),
            &expect![[
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[0.001,"1"]},{"metric":{},"value":[0.001,"0.5"]}]}}"#
            ]],
        );
        let matrix = vec![
            SeriesSamples { labels: up, samples: vec![point(1_000, 1.0), point(2_000, 2.0)] },
            SeriesSamples { labels: Labels::empty(), samples: vec![point(1_000, 3.0)] },
        ];
        check(
            answer(Data::Matrix(matrix)),
            &expect![[
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1,"1"],[2,"2"]]},{"metric":{},"values":[[1,"3"]]}]}}"#
            ]],
        );
    }

    #[test]
    fn notes_and_stats_follow_the_result() {
        let mut noted = answer(Data::Vector(vec![]));
        noted.warnings = (1..=12).map(|n| format!("w{n}")).collect();
        noted.infos = vec!["i".into()];
        let stats =
            Stats { samples: Samples { total_queryable_samples: 7, peak_samples: 3 }, ..Stats::default() };
        expect![[r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{"timings":{"evalTotalTime":0.0,"resultSortTime":0.0,"queryPreparationTime":0.0,"innerEvalTime":0.0,"execQueueTime":0.0,"execTotalTime":0.0},"samples":{"totalQueryableSamples":7,"peakSamples":3}}},"warnings":["w1","w2","w3","w4","w5","w6","w7","w8","w9","w10","2 more warning annotations omitted"],"infos":["i"]}"#]]
        .assert_eq(&text(noted, Some(&stats)));
    }

    #[test]
    fn large_answers_come_in_parts_that_join() {
        let series = |n: usize| SeriesSamples {
            labels: Labels::from_pairs([("n", n.to_string())]),
            samples: (0..11_000).map(|i| point(i * 15_000, 1.0 / (i + 1) as f64)).collect(),
        };
        let matrix: Vec<_> = (0..3).map(series).collect();
        let parts: Vec<Bytes> = Parts::new(Arc::new(answer(Data::Matrix(matrix.clone()))), None).collect();
        assert!(parts.len() > 10, "{}", parts.len());
        assert!(parts.iter().all(|p| p.len() < PART_BYTES + 100));
        let whole: serde_json::Value = serde_json::from_slice(&parts.concat()).unwrap();
        for (n, s) in matrix.iter().enumerate() {
            let got = whole["data"]["result"][n]["values"].as_array().unwrap();
            assert_eq!(got.len(), s.samples.len());
        }
    }

    #[test]
    fn a_limit_cuts_and_warns() {
        let rows = |n: usize| (0..n).map(|i| (Labels::empty(), point(0, i as f64))).collect();
        let mut cut = answer(Data::Vector(rows(3)));
        truncate(&mut cut, 2);
        assert!(matches!(&cut.data, Data::Vector(v) if v.len() == 2));
        assert_eq!(cut.warnings, [TRUNCATED]);
        for limit in [0, 3, 4] {
            let mut whole = answer(Data::Vector(rows(3)));
            truncate(&mut whole, limit);
            assert!(matches!(&whole.data, Data::Vector(v) if v.len() == 3) && whole.warnings.is_empty());
        }
    }
}
