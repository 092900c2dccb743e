//! Series and samples as JSON bytes: labels, `value(s)` and `histogram(s)`.

use davy_model::{Exemplar, Histogram, Labels, Sample, Timestamp, Value};
use davy_store::SeriesSamples;

use super::number::{quoted_float, text, time};

pub(super) fn labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        text(out, name);
        out.push(b':');
        text(out, value);
    }
    out.push(b'}');
}

/// `{"metric":{..},"value":[1435781451.781,"1"]}`, or with `histogram`.
pub(super) fn sample(out: &mut Vec<u8>, metric: &Labels, s: &Sample) {
    out.extend_from_slice(br#"{"metric":"#);
    labels(out, metric);
    match &s.value {
        Value::Float(v) => {
            out.extend_from_slice(br#","value":"#);
            float_point(out, s.timestamp, *v);
        }
        Value::Histogram(h) => {
            out.extend_from_slice(br#","histogram":"#);
            histogram_point(out, s.timestamp, h);
        }
    }
    out.push(b'}');
}

/// `{"metric":{..},"values":[[..],..],"histograms":[[..],..]}` in parts; a list without points is left out.
#[derive(Debug, Default)]
pub(super) struct SeriesWriter {
    list: List,
    /// The next of the samples to look at for this list.
    next: usize,
    /// A point of this list has been written.
    open: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum List {
    #[default]
    None,
    Values,
    Histograms,
}

impl SeriesWriter {
    /// Goes on until the series is written (`true`) or `out` has `bytes_max` bytes.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, s: &SeriesSamples, bytes_max: usize) -> bool {
        if self.list == List::None {
            out.extend_from_slice(br#"{"metric":"#);
            labels(out, &s.labels);
            self.list = List::Values;
        }
        loop {
            while let Some(point) = s.samples.get(self.next) {
                if out.len() >= bytes_max {
                    return false;
                }
                self.next += 1;
                self.point(out, point);
            }
            if self.open {
                out.push(b']');
            }
            if self.list == List::Histograms {
                out.push(b'}');
                return true;
            }
            *self = Self { list: List::Histograms, ..Self::default() };
        }
    }

    fn point(&mut self, out: &mut Vec<u8>, point: &Sample) {
        let first: &[u8] = match (&point.value, self.list) {
            (Value::Float(_), List::Values) => br#","values":["#,
            (Value::Histogram(_), List::Histograms) => br#","histograms":["#,
            (Value::Float(_) | Value::Histogram(_), _) => return,
        };
        out.extend_from_slice(if self.open { b"," } else { first });
        self.open = true;
        match &point.value {
            Value::Float(v) => float_point(out, point.timestamp, *v),
            Value::Histogram(h) => histogram_point(out, point.timestamp, h),
        }
    }
}

/// `[1435781451.781,"1"]`.
pub(super) fn float_point(out: &mut Vec<u8>, t: Timestamp, v: f64) {
    out.push(b'[');
    time(out, t);
    out.push(b',');
    quoted_float(out, v);
    out.push(b']');
}

fn histogram_point(out: &mut Vec<u8>, t: Timestamp, h: &Histogram) {
    out.push(b'[');
    time(out, t);
    out.push(b',');
    histogram(out, h);
    out.push(b']');
}

/// `{"count":"42","sum":"34593.34","buckets":[[3,"-0.25","0.25","3"],[0,"0.25","0.5","12"]]}`, without the empty ones.
fn histogram(out: &mut Vec<u8>, h: &Histogram) {
    out.extend_from_slice(br#"{"count":"#);
    quoted_float(out, h.count);
    out.extend_from_slice(br#","sum":"#);
    quoted_float(out, h.sum);
    let mut first = true;
    for (lower, upper, count) in h.buckets() {
        if count == 0.0 {
            continue;
        }
        out.extend_from_slice(if first { br#","buckets":["# } else { b"," });
        out.push(b'[');
        out.push(b'0' + rule(h, lower, upper));
        for v in [lower, upper, count] {
            out.push(b',');
            quoted_float(out, v);
        }
        out.push(b']');
        first = false;
    }
    if !first {
        out.push(b']');
    }
    out.push(b'}');
}

/// Which bounds belong to the bucket: 0 the upper, 1 the lower, 2 none, 3 both.
fn rule(h: &Histogram, lower: f64, upper: f64) -> u8 {
    let (with_lower, with_upper) = if h.is_custom() {
        (lower == f64::NEG_INFINITY, true)
    } else {
        // The bucket around zero is closed; of a width of zero it has no sign to be told by.
        let zero = lower == 0.0 && upper == 0.0;
        (lower < 0.0 || zero, upper > 0.0 || zero)
    };
    match (with_lower, with_upper) {
        (false, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (true, true) => 3,
    }
}

/// `{"labels":{..},"value":"0.3","timestamp":1700000000.123}`.
pub(super) fn exemplar(out: &mut Vec<u8>, e: &Exemplar) {
    out.extend_from_slice(br#"{"labels":"#);
    labels(out, &e.labels);
    out.extend_from_slice(br#","value":"#);
    quoted_float(out, e.value);
    out.extend_from_slice(br#","timestamp":"#);
    time(out, e.timestamp);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use davy_model::BucketSpan;
    use expect_test::{Expect, expect};

    use super::*;

    fn check(write: impl FnOnce(&mut Vec<u8>), want: &Expect) {
        let mut out = Vec::new();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        want.assert_eq(&text);
    }

    fn series(out: &mut Vec<u8>, s: &SeriesSamples) {
        assert!(SeriesWriter::default().write(out, s, usize::MAX));
    }

    fn at(millis: i64, value: Value) -> Sample {
        Sample { timestamp: Timestamp::from_millis(millis), value }
    }

    fn both_sides() -> Histogram {
        Histogram {
            schema: 0,
            zero_threshold: 0.25,
            zero_count: 3.0,
            count: 10.0,
            sum: 34.5,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }],
            positive_counts: vec![1.0, 0.0, 3.0],
            negative_spans: vec![BucketSpan { offset: 1, length: 1 }],
            negative_counts: vec![3.0],
            ..Histogram::default()
        }
    }

    #[test]
    fn labels_are_escaped() {
        let hostile = Labels::from_pairs([("__name__", "up"), ("path", "a\"b\\\n</script>\u{1}é")]);
        check(
            |out| labels(out, &hostile),
            &expect![[r#"{"__name__":"up","path":"a\"b\\\n</script>\u0001é"}"#]],
        );
        check(|out| labels(out, &Labels::empty()), &expect!["{}"]);
    }

    #[test]
    fn samples_and_series() {
        let up = Labels::from_pairs([("__name__", "up")]);
        check(
            |out| sample(out, &up, &at(1_500, Value::Float(f64::NAN))),
            &expect![[r#"{"metric":{"__name__":"up"},"value":[1.500,"NaN"]}"#]],
        );
        let mixed = SeriesSamples {
            labels: up.clone(),
            samples: vec![
                at(1_000, Value::Float(1.0)),
                at(2_000, Value::Histogram(Arc::new(both_sides()))),
                at(3_000, Value::Float(2.5)),
            ],
        };
        check(
            |out| series(out, &mixed),
            &expect![[
                r#"{"metric":{"__name__":"up"},"values":[[1,"1"],[3,"2.5"]],"histograms":[[2,{"count":"10","sum":"34.5","buckets":[[1,"-2","-1","3"],[3,"-0.25","0.25","3"],[0,"0.5","1","1"],[0,"4","8","3"]]}]]}"#
            ]],
        );
        let parts = |out: &mut Vec<u8>| {
            let mut writer = SeriesWriter::default();
            let mut part = Vec::new();
            while !writer.write(&mut part, &mixed, 40) {
                out.append(&mut part);
            }
            out.append(&mut part);
        };
        let (mut whole, mut joined) = (Vec::new(), Vec::new());
        series(&mut whole, &mixed);
        parts(&mut joined);
        assert_eq!(whole, joined);
        check(
            |out| series(out, &SeriesSamples { labels: up.clone(), samples: vec![] }),
            &expect![[r#"{"metric":{"__name__":"up"}}"#]],
        );
    }

    #[test]
    fn buckets_say_which_bounds_are_theirs() {
        let empty = Histogram { sum: 0.0, ..Histogram::default() };
        check(|out| histogram(out, &empty), &expect![[r#"{"count":"0","sum":"0"}"#]]);
        let custom = Histogram {
            schema: -53,
            count: 3.0,
            sum: 9.0,
            custom_bounds: vec![-1.0, 5.0],
            positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
            positive_counts: vec![1.0, 1.0, 1.0],
            ..Histogram::default()
        };
        check(
            |out| histogram(out, &custom),
            &expect![[
                r#"{"count":"3","sum":"9","buckets":[[3,"-Inf","-1","1"],[0,"-1","5","1"],[0,"5","+Inf","1"]]}"#
            ]],
        );
        let point = Histogram { zero_count: 2.0, count: 2.0, ..Histogram::default() };
        check(
            |out| histogram(out, &point),
            &expect![[r#"{"count":"2","sum":"0","buckets":[[3,"-0","0","2"]]}"#]],
        );
    }

    #[test]
    fn exemplars() {
        let e = Exemplar {
            labels: Labels::from_pairs([("trace_id", "ab")]),
            value: 0.3,
            timestamp: Timestamp::from_millis(1_700_000_000_123),
        };
        check(
            |out| exemplar(out, &e),
            &expect![[r#"{"labels":{"trace_id":"ab"},"value":"0.3","timestamp":1700000000.123}"#]],
        );
    }
}
