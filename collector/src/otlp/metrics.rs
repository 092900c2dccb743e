//! OTLP metrics into points, as Prometheus' OTLP receiver does it, plus what it leaves out: deltas, zeros at the
//! beginning of counters, and Davy's `service` and `version`.

use davy_model::{Labels, Metadata, MetricType, Timestamp};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

use super::attributes::Interner;
use super::cumulative::Streams;
use super::family::Family;
use super::labels::point_labels;
use super::names::{Suffix, metric_name, unit_name};
use super::outcome::Tally;
use super::point::Point;
use super::resource::{identity, resource, target_info};
use super::spans::Window;

/// Samples that one request may become; a data point is small, the buckets it names are not.
pub(crate) const SAMPLES_MAX: usize = 200_000;
/// Metric names of one request whose metadata is kept.
const METADATA_MAX: usize = 10_000;
const HELP_BYTES_MAX: usize = 1024;

/// What one request's metrics became. `tally` counts refusals only: a point is accepted when the store has it.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) points: Vec<Point>,
    pub(crate) metadata: Vec<(String, Metadata)>,
    pub(crate) resources: Vec<Pushed>,
    pub(crate) tally: Tally,
}

/// A resource that pushed.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) identity: Labels,
    pub(crate) target_info: Option<Labels>,
}

pub(crate) fn convert(
    request: &ExportMetricsServiceRequest,
    streams: &mut Streams,
    window: Window,
    now: Timestamp,
) -> Converted {
    let mut out = Converted::default();
    let mut samples_left = SAMPLES_MAX;
    for from_resource in &request.resource_metrics {
        let attributes = from_resource.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        let identity = identity(&resource(attributes, &mut Interner::default()));
        for metric in from_resource.scope_metrics.iter().flat_map(|s| &s.metrics) {
            let Some((shape, points)) = Shape::of(metric) else {
                out.tally.refuse(1, || format!("metric {:?} has no data", metric.name));
                continue;
            };
            let Some(family) = metric_name(&metric.name, &metric.unit, shape.suffix()) else {
                out.tally.refuse(points, || format!("metric name {:?} has no letter or digit", metric.name));
                continue;
            };
            if out.metadata.len() < METADATA_MAX {
                out.metadata.push((family.clone(), metadata(metric, &shape)));
            }
            let base = point_labels(&identity, &family, &[]).unwrap_or_else(|_| identity.clone());
            let mut family = Family {
                identity: &identity,
                name: &family,
                base,
                streams,
                window,
                now,
                samples_left,
                out: &mut out,
            };
            family.points(&shape);
            samples_left = family.samples_left;
        }
        let target_info = target_info(attributes, &identity);
        out.resources.push(Pushed { identity, target_info });
    }
    out
}

/// A metric's data with what decides its translation.
pub(crate) enum Shape<'a> {
    Gauge(&'a [otlp::NumberDataPoint]),
    Sum { points: &'a [otlp::NumberDataPoint], monotonic: bool, temporality: i32 },
    Histogram { points: &'a [otlp::HistogramDataPoint], temporality: i32 },
    Exponential { points: &'a [otlp::ExponentialHistogramDataPoint], temporality: i32 },
    Summary(&'a [otlp::SummaryDataPoint]),
}

impl<'a> Shape<'a> {
    /// With the number of its points.
    fn of(metric: &'a otlp::Metric) -> Option<(Self, u64)> {
        let (shape, points) = match metric.data.as_ref()? {
            Data::Gauge(g) => (Self::Gauge(&g.data_points), g.data_points.len()),
            Data::Sum(s) => {
                let (monotonic, temporality) = (s.is_monotonic, s.aggregation_temporality);
                (Self::Sum { points: &s.data_points, monotonic, temporality }, s.data_points.len())
            }
            Data::Histogram(h) => {
                let temporality = h.aggregation_temporality;
                (Self::Histogram { points: &h.data_points, temporality }, h.data_points.len())
            }
            Data::ExponentialHistogram(h) => {
                let temporality = h.aggregation_temporality;
                (Self::Exponential { points: &h.data_points, temporality }, h.data_points.len())
            }
            Data::Summary(s) => (Self::Summary(&s.data_points), s.data_points.len()),
        };
        Some((shape, points as u64))
    }

    fn suffix(&self) -> Suffix {
        match self {
            Self::Gauge(_) => Suffix::Ratio,
            Self::Sum { monotonic: true, .. } => Suffix::Total,
            Self::Sum { .. } | Self::Histogram { .. } | Self::Exponential { .. } | Self::Summary(_) => {
                Suffix::None
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Gauge(_) | Self::Sum { monotonic: false, .. } => MetricType::Gauge,
            Self::Sum { monotonic: true, .. } => MetricType::Counter,
            Self::Histogram { .. } | Self::Exponential { .. } => MetricType::Histogram,
            Self::Summary(_) => MetricType::Summary,
        }
    }
}

fn metadata(metric: &otlp::Metric, shape: &Shape<'_>) -> Metadata {
    let help = &metric.description;
    Metadata {
        metric_type: shape.metric_type(),
        help: help[..help.floor_char_boundary(HELP_BYTES_MAX)].to_owned(),
        unit: unit_name(&metric.unit),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use davy_model::Value;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::otlp::json;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const WINDOW: Window = Window { from: Timestamp::from_millis(1), to: Timestamp::from_millis(2_000_000) };

    /// One resource (`cart`, version 2) with the metrics given in OTLP JSON; `T+n` stands for second n of time.
    fn request(metrics: &str) -> ExportMetricsServiceRequest {
        let document = format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[
                {{"key":"service.name","value":{{"stringValue":"cart"}}}},
                {{"key":"service.version","value":{{"stringValue":"2"}}}},
                {{"key":"host.name","value":{{"stringValue":"h"}}}}]}},
                "scopeMetrics":[{{"metrics":[{metrics}]}}]}}]}}"#
        );
        let document = regex::Regex::new(r"T\+(\d+)")
            .expect("a valid pattern")
            .replace_all(&document, "\"${1}000000000\"")
            .into_owned();
        json::from_slice(document.as_bytes(), usize::MAX).expect("a valid document")
    }

    /// The identity's labels are left out: they are on every series.
    fn render(converted: &Converted) -> String {
        let mut out = String::new();
        for point in &converted.points {
            for (i, (labels, value)) in point.series.iter().enumerate() {
                let identity = ["job", "instance", "service", "version"];
                assert_eq!(labels.only(&identity).len(), 4, "{labels}");
                let value = match value {
                    v if v.is_stale() => "stale".to_owned(),
                    Value::Float(f) => f.to_string(),
                    Value::Histogram(h) => format!("{:?} count {} sum {}", h.buckets(), h.count, h.sum),
                };
                let zero = point.zero_at.map(|z| format!(" zero@{z}")).unwrap_or_default();
                let _ = write!(out, "{} {value} @{}{zero}", labels.without(&identity), point.at);
                for (_, e) in point.exemplars.iter().filter(|(index, _)| *index == i) {
                    let _ = write!(out, " # {} {} @{}", e.labels, e.value, e.timestamp);
                }
                out.push('\n');
            }
        }
        let outcome: crate::otlp::Outcome = converted.tally.clone().into();
        if outcome.rejected > 0 {
            let _ = writeln!(out, "refused {}: {}", outcome.rejected, outcome.message);
        }
        out
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
    fn check(metrics: &str, want: Expect) {
        want.assert_eq(&render(&convert(&request(metrics), &mut Streams::new(), WINDOW, NOW)));
    }

    #[test]
    fn sums_are_counters_or_gauges() {
        check(
            r#"{"name":"http.requests","unit":"{request}","sum":{"isMonotonic":true,"aggregationTemporality":2,
                "dataPoints":[{"asInt":"3","startTimeUnixNano":T+900,"timeUnixNano":T+1000,
                  "attributes":[{"key":"http.route","value":{"stringValue":"/a"}},
                                {"key":"version","value":{"stringValue":"theirs"}}]}]}},
               {"name":"queue.size","unit":"1","sum":{"aggregationTemporality":2,
                "dataPoints":[{"asDouble":-2.5,"timeUnixNano":T+1000}]}},
               {"name":"cpu.utilization","unit":"1","gauge":{"dataPoints":[{"asDouble":0.5,"timeUnixNano":T+1000}]}}"#,
            expect![[r#"
                http_requests_total{exported_version="theirs", http_route="/a"} 3 @1000 zero@900
                queue_size -2.5 @1000
                cpu_utilization_ratio 0.5 @1000
            "#]],
        );
    }

    #[test]
    fn explicit_histograms_become_cumulative_buckets() {
        check(
            r#"{"name":"http.server.request.duration","unit":"s","histogram":{"aggregationTemporality":2,
                "dataPoints":[{"timeUnixNano":T+1000,"startTimeUnixNano":T+10,"count":6,"sum":2.5,
                  "explicitBounds":[0.005,0.5,1],"bucketCounts":["1","2","0","3"],
                  "exemplars":[{"timeUnixNano":T+999,"asDouble":0.5,
                    "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",
                    "filteredAttributes":[{"key":"user","value":{"stringValue":"x"}}]}]}]}},
               {"name":"bare","histogram":{"aggregationTemporality":2,
                "dataPoints":[{"timeUnixNano":T+1000,"count":6}]}}"#,
            expect![[r#"
                http_server_request_duration_seconds_bucket{le="0.005"} 1 @1000
                http_server_request_duration_seconds_bucket{le="0.5"} 3 @1000 # {span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10", user="x"} 0.5 @999
                http_server_request_duration_seconds_bucket{le="1"} 3 @1000
                http_server_request_duration_seconds_bucket{le="+Inf"} 6 @1000
                http_server_request_duration_seconds_count 6 @1000
                http_server_request_duration_seconds_sum 2.5 @1000
                bare_bucket{le="+Inf"} 6 @1000
                bare_count 6 @1000
            "#]],
        );
    }

    #[test]
    fn exponential_histograms_become_native_ones() {
        check(
            r#"{"name":"latency","unit":"s","exponentialHistogram":{"aggregationTemporality":2,
                "dataPoints":[{"timeUnixNano":T+1000,"startTimeUnixNano":T+999,"count":"7","sum":9,"scale":0,
                  "zeroCount":1,"zeroThreshold":0.25,"positive":{"offset":0,"bucketCounts":[2,3]},
                  "negative":{"offset":-1,"bucketCounts":["1"]}}]}}"#,
            expect![[r#"
                latency_seconds [(-1.0, -0.5, 1.0), (-0.25, 0.25, 1.0), (1.0, 2.0, 2.0), (2.0, 4.0, 3.0)] count 7 sum 9 @1000 zero@999
            "#]],
        );
    }

    #[test]
    fn summaries_become_quantiles() {
        check(
            r#"{"name":"rpc","unit":"ms","summary":{"dataPoints":[{"timeUnixNano":T+1000,"count":4,"sum":10,
                "quantileValues":[{"quantile":0.5,"value":2},{"quantile":1,"value":"NaN"}]}]}}"#,
            expect![[r#"
                rpc_milliseconds{quantile="0.5"} 2 @1000
                rpc_milliseconds{quantile="1"} NaN @1000
                rpc_milliseconds_count 4 @1000
                rpc_milliseconds_sum 10 @1000
            "#]],
        );
    }

    #[test]
    fn a_point_without_a_value_ends_its_series() {
        check(
            r#"{"name":"g","gauge":{"dataPoints":[{"flags":1,"timeUnixNano":T+1000}]}},
               {"name":"h","histogram":{"aggregationTemporality":2,
                 "dataPoints":[{"flags":1,"explicitBounds":[1],"timeUnixNano":T+1000}]}},
               {"name":"e","exponentialHistogram":{"aggregationTemporality":2,
                 "dataPoints":[{"flags":1,"timeUnixNano":T+1000}]}}"#,
            expect![[r#"
                g stale @1000
                h_bucket{le="1"} stale @1000
                h_bucket{le="+Inf"} stale @1000
                h_count stale @1000
                h_sum stale @1000
                e stale @1000
            "#]],
        );
    }

    #[test]
    fn deltas_are_summed_up_over_requests() {
        let mut streams = Streams::new();
        let mut push = |start: u32, at: u32| {
            let metrics = format!(
                r#"{{"name":"n","sum":{{"isMonotonic":true,"aggregationTemporality":1,"dataPoints":[
                     {{"asInt":2,"startTimeUnixNano":T+{start},"timeUnixNano":T+{at}}}]}}}},
                   {{"name":"h","histogram":{{"aggregationTemporality":1,"dataPoints":[
                     {{"count":3,"sum":1,"explicitBounds":[1],"bucketCounts":[1,2],
                       "startTimeUnixNano":T+{start},"timeUnixNano":T+{at}}}]}}}},
                   {{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[
                     {{"count":1,"scale":0,"positive":{{"bucketCounts":[1]}},
                       "startTimeUnixNano":T+{start},"timeUnixNano":T+{at}}}]}}}}"#
            );
            render(&convert(&request(&metrics), &mut streams, WINDOW, NOW))
        };
        push(980, 990);
        expect![[r#"
            n_total 4 @1000
            h_bucket{le="1"} 2 @1000
            h_bucket{le="+Inf"} 6 @1000
            h_count 6 @1000
            h_sum 2 @1000
            e [(1.0, 2.0, 2.0)] count 2 sum 0 @1000
        "#]]
        .assert_eq(&push(990, 1000));
        assert!(push(990, 1000).starts_with("refused 3: n_total: delta at 1000 is not newer"));
    }

    #[test]
    fn what_cannot_be_true_is_refused_with_the_first_reason() {
        let refused = |metric: &str, reason: &str| {
            let converted = convert(&request(metric), &mut Streams::new(), WINDOW, NOW);
            let outcome: crate::otlp::Outcome = converted.tally.into();
            assert_eq!((outcome.rejected, converted.points.len()), (1, 0), "{metric}");
            assert!(outcome.message.contains(reason), "got {}, expected {reason}", outcome.message);
        };
        let sum = |rest: &str| format!(r#"{{"name":"n","sum":{{"dataPoints":[{{"timeUnixNano":T+1000{rest}"#);
        refused(r#"{"name":"n"}"#, "has no data");
        refused(r#"{"name":"@","gauge":{"dataPoints":[{"asInt":1,"timeUnixNano":T+1000}]}}"#, "no letter");
        refused(r#"{"name":"n","gauge":{"dataPoints":[{"timeUnixNano":T+1000}]}}"#, "has no value");
        refused(r#"{"name":"n","gauge":{"dataPoints":[{"asInt":1}]}}"#, "timestamp 0, accepted");
        refused(
            r#"{"name":"n","gauge":{"dataPoints":[{"asInt":1,"timeUnixNano":T+99999999}]}}"#,
            "timestamp",
        );
        refused(&sum(r#","asInt":1}]}}"#), "temporality 0");
        let monotonic = r#"}],"isMonotonic":true,"aggregationTemporality":2}}"#;
        refused(&sum(&format!(r#","asDouble":"NaN"{monotonic}"#)), "counter of value NaN");
        refused(&sum(&format!(r#","asInt":-1{monotonic}"#)), "counter of value -1");
        refused(
            &sum(r#","asDouble":"Infinity"}],"aggregationTemporality":1}}"#),
            "delta whose sum is not finite",
        );
        let histogram = |point: &str| {
            format!(
                r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":T+1000,{point}}}]}}}}"#
            )
        };
        refused(
            &histogram(r#""count":1,"explicitBounds":[1],"bucketCounts":[1]"#),
            "1 bucket counts, expected 2",
        );
        refused(&histogram(r#""count":9,"explicitBounds":[1],"bucketCounts":[1,1]"#), "buckets disagree");
        refused(&histogram(r#""count":2,"explicitBounds":[2,1],"bucketCounts":[1,1,0]"#), "not ascending");
        refused(&histogram(r#""count":1,"explicitBounds":["NaN"],"bucketCounts":[1,0]"#), "not ascending");
        refused(
            r#"{"name":"s","summary":{"dataPoints":[{"timeUnixNano":T+1000,"quantileValues":[{"quantile":2}]}]}}"#,
            "bad summary",
        );
        let long = "v".repeat(3000);
        refused(
            &format!(
                r#"{{"name":"g","gauge":{{"dataPoints":[{{"asInt":1,"timeUnixNano":T+1000,
                   "attributes":[{{"key":"k","value":{{"stringValue":"{long}"}}}}]}}]}}}}"#
            ),
            "attribute k of 3000 bytes",
        );
    }

    #[test]
    fn a_label_set_that_appears_in_a_later_export_starts_from_zero() {
        let mut streams = Streams::new();
        let mut push = |at: u32, codes: &[u32]| {
            let points: Vec<_> = codes
                .iter()
                .map(|code| {
                    format!(
                        r#"{{"asInt":7,"startTimeUnixNano":T+1,"timeUnixNano":T+{at},
                            "attributes":[{{"key":"code","value":{{"intValue":{code}}}}}]}}"#
                    )
                })
                .collect();
            let points = points.join(",");
            let metric = format!(
                r#"{{"name":"n","sum":{{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{points}]}}}}"#
            );
            render(&convert(&request(&metric), &mut streams, WINDOW, NOW))
        };
        push(990, &[200]);
        expect![[r#"
            n_total{code="200"} 7 @1000
            n_total{code="500"} 7 @1000 zero@990
        "#]]
        .assert_eq(&push(1000, &[200, 500]));
    }

    #[test]
    fn metadata_and_target_info_are_passed_on() {
        let metric = r#"{"name":"cpu.time","description":"CPU","unit":"s","sum":{"isMonotonic":true,
            "aggregationTemporality":2,"dataPoints":[]}}"#;
        let converted = convert(&request(metric), &mut Streams::new(), WINDOW, NOW);
        let want =
            Metadata { metric_type: MetricType::Counter, help: "CPU".to_owned(), unit: "seconds".to_owned() };
        assert_eq!(converted.metadata, [("cpu_time_seconds_total".to_owned(), want)]);
        let info = converted.resources[0].target_info.as_ref().map(Labels::to_string);
        let want = r#"target_info{host_name="h", instance="h", job="cart", service="cart", service_version="2", version="2"}"#;
        assert_eq!(info.as_deref(), Some(want));
    }

    #[test]
    fn one_request_becomes_a_bounded_number_of_samples() {
        let bounds: Vec<_> = (1..500).map(|i| i.to_string()).collect();
        let counts = vec!["0"; 500].join(",");
        let point = format!(
            r#"{{"timeUnixNano":T+1000,"count":0,"explicitBounds":[{}],"bucketCounts":[{counts}]}}"#,
            bounds.join(",")
        );
        let points = vec![point; 500].join(",");
        let metric =
            format!(r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{points}]}}}}"#);
        let converted = convert(&request(&metric), &mut Streams::new(), WINDOW, NOW + Duration::ZERO);
        let samples: usize = converted.points.iter().map(Point::samples).sum();
        assert!((SAMPLES_MAX..SAMPLES_MAX + 1000).contains(&samples), "{samples}");
        assert_eq!(converted.points.len() as u64 + converted.tally.rejected, 500);
    }
}
