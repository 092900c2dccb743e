//! OTLP's JSON encoding into the same messages as protobuf's, within a budget of memory.
//!
//! opentelemetry-proto's serde support is not used: it takes `"asDouble": "NaN"` or a broken `"gauge"` for an absent
//! one, refuses `null` where protobuf's JSON means "unset", and has no bound on what it allocates.
//! Source: OTLP specification, "JSON Protobuf Encoding": hex ids, enums as integers, 64-bit integers as strings or
//! numbers, unknown fields ignored; the rest as ProtoJSON has it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::decode::too_large;
use super::outcome::Refused;
use super::scalar::Base64;

/// Reads one document. Nesting is bounded by serde_json (128 levels).
pub(crate) fn from_slice<T: FromJson>(body: &[u8], bytes_max: usize) -> Result<T, Refused> {
    let budget = Budget(Cell::new(Some(bytes_max)));
    let mut document = serde_json::Deserializer::from_slice(body);
    let read = T::read(&mut document, &budget).and_then(|message| document.end().map(|()| message));
    read.map_err(|e| match budget.0.get() {
        None => too_large(),
        Some(_) => Refused::Malformed(format!("not OTLP JSON: {e}")),
    })
}

/// Bytes that may still be allocated; `None` once they were not enough.
pub(crate) struct Budget(Cell<Option<usize>>);

impl Budget {
    pub(super) fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        self.0.set(self.0.get().and_then(|left| left.checked_sub(bytes)));
        self.0.get().map(drop).ok_or_else(|| E::custom("too large"))
    }
}

pub(crate) trait FromJson: Default {
    fn read<'de, D: Deserializer<'de>>(d: D, budget: &Budget) -> Result<Self, D::Error>;
}

struct Seed<'b, T>(&'b Budget, PhantomData<T>);

impl<'de, T: FromJson> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<T, D::Error> {
        T::read(d, self.0)
    }
}

/// `"key" => field` for a field, `"key" => field: Variant` for one arm of a oneof.
macro_rules! message {
    ($type:ty { $($key:literal => $field:ident $(: $variant:path)?),* $(,)? }) => {
        impl FromJson for $type {
            fn read<'de, D: Deserializer<'de>>(d: D, budget: &Budget) -> Result<Self, D::Error> {
                struct Fields<'b>(&'b Budget);
                impl<'de> Visitor<'de> for Fields<'_> {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_unit<E: Error>(self) -> Result<$type, E> {
                        Ok(<$type>::default())
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$type, A::Error> {
                        let mut message = <$type>::default();
                        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                            match &*key {
                                $($key => message!(@set message.$field, map, self.0 $(, $variant)?),)*
                                _ => drop(map.next_value::<IgnoredAny>()?),
                            }
                        }
                        Ok(message)
                    }
                }
                d.deserialize_any(Fields(budget))
            }
        }
    };
    (@set $target:expr, $map:ident, $budget:expr) => {
        $target = $map.next_value_seed(Seed($budget, PhantomData))?
    };
    (@set $target:expr, $map:ident, $budget:expr, $variant:path) => {
        if let Some(value) = $map.next_value_seed(Seed($budget, PhantomData))? {
            $target = Some($variant(value));
        }
    };
}

message!(ExportTraceServiceRequest { "resourceSpans" => resource_spans });
message!(trace::ResourceSpans { "resource" => resource, "scopeSpans" => scope_spans });
message!(trace::ScopeSpans { "scope" => scope, "spans" => spans });
message!(trace::Span {
    "traceId" => trace_id, "spanId" => span_id, "traceState" => trace_state, "parentSpanId" => parent_span_id,
    "name" => name, "kind" => kind, "startTimeUnixNano" => start_time_unix_nano,
    "endTimeUnixNano" => end_time_unix_nano, "attributes" => attributes, "events" => events, "links" => links,
    "status" => status,
});
message!(trace::span::Event { "timeUnixNano" => time_unix_nano, "name" => name, "attributes" => attributes });
message!(trace::span::Link { "traceId" => trace_id, "spanId" => span_id, "attributes" => attributes });
message!(trace::Status { "message" => message, "code" => code });

message!(ExportMetricsServiceRequest { "resourceMetrics" => resource_metrics });
message!(metrics::ResourceMetrics { "resource" => resource, "scopeMetrics" => scope_metrics });
message!(metrics::ScopeMetrics { "scope" => scope, "metrics" => metrics });
message!(metrics::Metric {
    "name" => name, "description" => description, "unit" => unit, "gauge" => data: Data::Gauge,
    "sum" => data: Data::Sum, "histogram" => data: Data::Histogram,
    "exponentialHistogram" => data: Data::ExponentialHistogram, "summary" => data: Data::Summary,
});
message!(metrics::Gauge { "dataPoints" => data_points });
message!(metrics::Sum {
    "dataPoints" => data_points, "aggregationTemporality" => aggregation_temporality,
    "isMonotonic" => is_monotonic,
});
message!(metrics::Histogram {
    "dataPoints" => data_points, "aggregationTemporality" => aggregation_temporality,
});
message!(metrics::ExponentialHistogram {
    "dataPoints" => data_points, "aggregationTemporality" => aggregation_temporality,
});
message!(metrics::Summary { "dataPoints" => data_points });
message!(metrics::NumberDataPoint {
    "attributes" => attributes, "startTimeUnixNano" => start_time_unix_nano, "timeUnixNano" => time_unix_nano,
    "exemplars" => exemplars, "flags" => flags, "asDouble" => value: metrics::number_data_point::Value::AsDouble,
    "asInt" => value: metrics::number_data_point::Value::AsInt,
});
message!(metrics::HistogramDataPoint {
    "attributes" => attributes, "startTimeUnixNano" => start_time_unix_nano, "timeUnixNano" => time_unix_nano,
    "count" => count, "sum" => sum, "bucketCounts" => bucket_counts, "explicitBounds" => explicit_bounds,
    "exemplars" => exemplars, "flags" => flags, "min" => min, "max" => max,
});
message!(metrics::ExponentialHistogramDataPoint {
    "attributes" => attributes, "startTimeUnixNano" => start_time_unix_nano, "timeUnixNano" => time_unix_nano,
    "count" => count, "sum" => sum, "scale" => scale, "zeroCount" => zero_count, "positive" => positive,
    "negative" => negative, "flags" => flags, "exemplars" => exemplars, "min" => min, "max" => max,
    "zeroThreshold" => zero_threshold,
});
message!(metrics::exponential_histogram_data_point::Buckets {
    "offset" => offset, "bucketCounts" => bucket_counts,
});
message!(metrics::SummaryDataPoint {
    "attributes" => attributes, "startTimeUnixNano" => start_time_unix_nano, "timeUnixNano" => time_unix_nano,
    "count" => count, "sum" => sum, "quantileValues" => quantile_values, "flags" => flags,
});
message!(metrics::summary_data_point::ValueAtQuantile { "quantile" => quantile, "value" => value });
message!(metrics::Exemplar {
    "filteredAttributes" => filtered_attributes, "timeUnixNano" => time_unix_nano, "spanId" => span_id,
    "traceId" => trace_id, "asDouble" => value: metrics::exemplar::Value::AsDouble,
    "asInt" => value: metrics::exemplar::Value::AsInt,
});

message!(Resource { "attributes" => attributes });
message!(InstrumentationScope { "name" => name, "version" => version, "attributes" => attributes });
message!(KeyValue { "key" => key, "value" => value });
message!(AnyValue {
    "stringValue" => value: Value::StringValue, "boolValue" => value: Value::BoolValue,
    "intValue" => value: Value::IntValue, "doubleValue" => value: Value::DoubleValue,
    "arrayValue" => value: Value::ArrayValue, "kvlistValue" => value: Value::KvlistValue,
    "bytesValue" => value: base64_value,
});
fn base64_value(bytes: Base64) -> Value {
    Value::BytesValue(bytes.0)
}

message!(ArrayValue { "values" => values });
message!(KeyValueList { "values" => values });

impl<T: FromJson> FromJson for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(d: D, budget: &Budget) -> Result<Self, D::Error> {
        struct Items<'b, T>(&'b Budget, PhantomData<T>);
        impl<'de, T: FromJson> Visitor<'de> for Items<'_, T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element_seed(Seed(self.0, PhantomData))? {
                    self.0.take(size_of::<T>())?;
                    items.push(item);
                }
                Ok(items)
            }
        }
        d.deserialize_any(Items(budget, PhantomData))
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn read<'de, D: Deserializer<'de>>(d: D, budget: &Budget) -> Result<Self, D::Error> {
        struct Maybe<'b, T>(&'b Budget, PhantomData<T>);
        impl<'de, T: FromJson> Visitor<'de> for Maybe<'_, T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or null")
            }

            fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
                Ok(None)
            }

            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Option<T>, D::Error> {
                T::read(d, self.0).map(Some)
            }
        }
        d.deserialize_option(Maybe(budget, PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: FromJson>(document: &str) -> Result<T, Refused> {
        from_slice(document.as_bytes(), 1 << 20)
    }

    #[test]
    fn null_is_unset_and_unknown_fields_are_ignored() {
        let document = r#"{"resourceSpans":[{"resource":null,"future":[{"x":1}],"scopeSpans":[
            {"scope":null,"spans":[{"name":null,"kind":null,"attributes":[{"key":"k","value":null},
              {"key":"l","value":{"new":{"a":[]},"stringValue":"v"}}],"status":{"code":2,"deprecated":0}}]}]}]}"#;
        let request: ExportTraceServiceRequest = read(document).expect("valid");
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.attributes[0].value, None);
        let value = span.attributes[1].value.as_ref().and_then(|v| v.value.as_ref());
        assert_eq!(value, Some(&Value::StringValue("v".to_owned())));
        assert_eq!(span.status.as_ref().map(|s| s.code), Some(2));
        assert_eq!(read::<ExportTraceServiceRequest>("{\"resourceSpans\":null}"), Ok(Default::default()));
    }

    #[test]
    fn a_broken_oneof_is_an_error_not_an_absence() {
        for point in [r#"{"asDouble":{}}"#, r#"{"asInt":"x"}"#, r#"{"asInt":true}"#] {
            assert!(read::<metrics::NumberDataPoint>(point).is_err(), "{point}");
        }
        assert!(read::<metrics::Metric>(r#"{"gauge":[]}"#).is_err());
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let read_value = |document: &str| read::<AnyValue>(document).expect("valid").value;
        assert_eq!(read_value("{}"), None);
        assert_eq!(read_value(r#"{"boolValue":true}"#), Some(Value::BoolValue(true)));
        assert_eq!(read_value(r#"{"intValue":"-3"}"#), Some(Value::IntValue(-3)));
        assert_eq!(read_value(r#"{"doubleValue":"Infinity"}"#), Some(Value::DoubleValue(f64::INFINITY)));
        assert_eq!(read_value(r#"{"bytesValue":"AQI="}"#), Some(Value::BytesValue(vec![1, 2])));
        let nested =
            read_value(r#"{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{}]}}}]}}"#);
        let Some(Value::KvlistValue(list)) = nested else { panic!("a list") };
        let array = list.values[0].value.as_ref().and_then(|v| v.value.clone());
        assert_eq!(array, Some(Value::ArrayValue(ArrayValue { values: vec![AnyValue::default()] })));
    }

    #[test]
    fn what_follows_the_document_is_an_error() {
        for document in ["", "{} x", "[]", "{\"resourceSpans\":[", "\u{feff}{}", "{\"resourceSpans\":3}"] {
            let got = read::<ExportTraceServiceRequest>(document);
            assert!(matches!(got, Err(Refused::Malformed(_))), "{document}");
        }
    }
}
