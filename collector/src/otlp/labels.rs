//! Labels of one data point: the resource's identity, the metric's name, the point's attributes.

use davy_model::{Exemplar, Labels, Timestamp, name};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;

use super::attributes::label_text;
use super::names::label_name;
use super::spans::{Window, span_id, trace_id};

/// Limits of a series, the same as a scrape's (`ScrapeLimits`).
const LABELS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 2048;
const EXEMPLARS_MAX: usize = 16;
/// OpenMetrics' limit on an exemplar's labels; over it only the ids are kept.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Names that mean something in Davy; an attribute of such a name gets `exported_` before it, as in a scrape.
const RESERVED: [&str; 6] =
    [name::JOB, name::INSTANCE, name::SERVICE, name::VERSION, name::LE, name::QUANTILE];

/// Identity and attributes under the metric's name. Attributes whose names become equal are joined by `;`.
pub(crate) fn point_labels(
    identity: &Labels,
    metric: &str,
    attributes: &[KeyValue],
) -> Result<Labels, String> {
    if identity.len() + attributes.len() >= LABELS_MAX {
        return Err(format!("{} attributes, at most {LABELS_MAX} labels", attributes.len()));
    }
    if metric.len() > NAME_BYTES_MAX {
        return Err(format!("metric name of {} bytes, at most {NAME_BYTES_MAX}", metric.len()));
    }
    let mut labels = identity.builder();
    labels.set(name::METRIC, metric);
    let mut sorted: Vec<&KeyValue> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    for kv in sorted {
        let mut label = label_name(&kv.key)
            .ok_or_else(|| format!("attribute {:?} has no letter or digit for a label name", kv.key))?;
        if RESERVED.contains(&label.as_str()) {
            label.insert_str(0, "exported_");
        }
        if label.len() > NAME_BYTES_MAX {
            return Err(format!("attribute name of {} bytes, at most {NAME_BYTES_MAX}", label.len()));
        }
        let mut value = label_text(&kv.value);
        let joined = labels.get(&label);
        if !joined.is_empty() {
            value = format!("{joined};{value}");
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("attribute {label} of {} bytes, at most {VALUE_BYTES_MAX}", value.len()));
        }
        labels.set(&label, &value);
    }
    Ok(labels.build())
}

/// Exemplars that have a value and a believable time.
pub(crate) fn exemplars(from: &[otlp::Exemplar], window: Window) -> impl Iterator<Item = Exemplar> {
    from.iter().take(EXEMPLARS_MAX).filter_map(move |e| exemplar(e, window))
}

fn exemplar(e: &otlp::Exemplar, window: Window) -> Option<Exemplar> {
    let timestamp = Timestamp::from_nanos(e.time_unix_nano);
    if timestamp < window.from || timestamp > window.to {
        return None;
    }
    let value = match e.value? {
        ExemplarValue::AsDouble(d) => d,
        ExemplarValue::AsInt(i) => i as f64,
    };
    let trace = trace_id(&e.trace_id).filter(|id| !id.is_zero()).map(|id| id.to_string());
    let span = span_id(&e.span_id).filter(|id| !id.is_zero()).map(|id| id.to_string());
    let ids = [("trace_id", trace), ("span_id", span)];
    let ids: Vec<_> = ids.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?))).collect();
    let mut all = ids.clone();
    all.extend(
        e.filtered_attributes.iter().filter_map(|kv| Some((label_name(&kv.key)?, label_text(&kv.value)))),
    );
    let chars: usize = all.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    let labels = Labels::from_pairs(if chars <= EXEMPLAR_CHARS_MAX { all } else { ids });
    Some(Exemplar { labels, value, timestamp })
}
