//! Native histograms in the notation of unit tests: `{{schema:1 sum:3 count:4 buckets:[1 2 1]}}`.

use std::collections::BTreeMap;

use davy_model::{BucketSpan, Histogram, HistogramError};

use super::series::number;

/// What stands between the braces.
pub(super) fn parse(inner: &str) -> Result<Histogram, String> {
    let mut h = Histogram::default();
    let (mut offset, mut n_offset) = (0, 0);
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or("expected `key:value`")?;
        let (value, after) = match after.strip_prefix('[') {
            Some(list) => {
                let (list, after) = list.split_once(']').ok_or("a list is not closed by `]`")?;
                (list, after)
            }
            None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
        };
        let one = || number(value).map_err(|_| format!("{key} has {value:?}, expected a number"));
        let whole = || {
            value.trim().parse::<i32>().map_err(|_| format!("{key} has {value:?}, expected a whole number"))
        };
        let list = || {
            let numbers = value.split_whitespace().map(number).collect::<Result<Vec<f64>, _>>();
            numbers.map_err(|_| format!("{key} has {value:?}, expected numbers"))
        };
        match key {
            "schema" => h.schema = whole()?,
            "sum" => h.sum = one()?,
            "count" => h.count = one()?,
            "z_bucket" => h.zero_count = one()?,
            "z_bucket_w" => h.zero_threshold = one()?,
            "custom_values" => h.custom_bounds = list()?,
            "buckets" => h.positive_counts = list()?,
            "offset" => offset = whole()?,
            "n_buckets" => h.negative_counts = list()?,
            "n_offset" => n_offset = whole()?,
            "counter_reset_hint" => match value {
                "gauge" => h.gauge = true,
                "unknown" | "reset" | "not_reset" => {}
                _ => {
                    return Err(format!(
                        "counter_reset_hint has {value:?}, expected unknown, reset, not_reset or gauge"
                    ));
                }
            },
            _ => return Err(format!("unknown key {key:?}, expected one such as buckets:[5 10 7]")),
        }
        rest = after.trim_start();
    }
    h.positive_spans = span(offset, h.positive_counts.len());
    h.negative_spans = span(n_offset, h.negative_counts.len());
    // What a subtraction or a division gives may have any counts, and a test may expect it.
    match h.validate() {
        Ok(()) | Err(HistogramError::Count { .. }) => {}
        Err(e) => return Err(e.to_string()),
    }
    Ok(h)
}

fn span(offset: i32, length: usize) -> Vec<BucketSpan> {
    let length = u32::try_from(length).expect("a line has fewer numbers");
    if length == 0 { Vec::new() } else { vec![BucketSpan { offset, length }] }
}

/// `h` plus or minus a step of the same or a finer schema.
pub(super) fn combine(h: &Histogram, step: &Histogram, sign: f64) -> Result<Histogram, String> {
    if h.is_custom() != step.is_custom() || (h.is_custom() && h.custom_bounds != step.custom_bounds) {
        return Err("histograms with different buckets cannot be added".to_owned());
    }
    if h.schema > step.schema {
        return Err(format!("cannot merge from schema {} to {}", step.schema, h.schema));
    }
    if h.zero_threshold != step.zero_threshold && step.zero_threshold != 0.0 {
        return Err("histograms with different zero buckets cannot be added".to_owned());
    }
    let shift = step.schema - h.schema;
    let merged = |spans: &[BucketSpan], counts: &[f64], more: &[BucketSpan], more_counts: &[f64]| {
        let mut all = indexed(spans, counts);
        for (i, c) in indexed(more, more_counts) {
            let coarse = if shift > 0 { ((i - 1) >> shift.min(31)) + 1 } else { i };
            *all.entry(coarse).or_default() += sign * c;
        }
        runs(&all)
    };
    let (positive_spans, positive_counts) =
        merged(&h.positive_spans, &h.positive_counts, &step.positive_spans, &step.positive_counts);
    let (negative_spans, negative_counts) =
        merged(&h.negative_spans, &h.negative_counts, &step.negative_spans, &step.negative_counts);
    Ok(Histogram {
        count: h.count + sign * step.count,
        sum: h.sum + sign * step.sum,
        zero_count: h.zero_count + sign * step.zero_count,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        ..h.clone()
    })
}

/// Spans and counts of buckets by their number.
fn runs(buckets: &BTreeMap<i32, f64>) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next: Option<i32> = None;
    for i in buckets.keys() {
        match (spans.last_mut(), next) {
            (Some(last), Some(n)) if n == *i => last.length += 1,
            _ => spans.push(BucketSpan { offset: i - next.unwrap_or(0), length: 1 }),
        }
        next = Some(i + 1);
    }
    (spans, buckets.values().copied().collect())
}

/// The text that is read back as this histogram; what resets say is left out, as Davy keeps none of it.
pub(super) fn expression(h: &Histogram) -> String {
    let g = |v: f64| davy_alerting::go_float(v);
    let list = |all: &[f64]| all.iter().map(|v| g(*v)).collect::<Vec<_>>().join(" ");
    let mut parts = Vec::new();
    if h.schema != 0 {
        parts.push(format!("schema:{}", h.schema));
    }
    for (key, v) in
        [("count", h.count), ("sum", h.sum), ("z_bucket", h.zero_count), ("z_bucket_w", h.zero_threshold)]
    {
        if v != 0.0 {
            parts.push(format!("{key}:{}", g(v)));
        }
    }
    if h.is_custom() {
        parts.push(format!("custom_values:[{}]", list(&h.custom_bounds)));
    }
    if h.gauge {
        parts.push("counter_reset_hint:gauge".to_owned());
    }
    for (prefix, spans, counts) in
        [("", &h.positive_spans, &h.positive_counts), ("n_", &h.negative_spans, &h.negative_counts)]
    {
        let buckets: BTreeMap<i32, f64> =
            indexed(spans, counts).into_iter().filter(|(_, c)| *c != 0.0).collect();
        let (Some((first, _)), Some((last, _))) = (buckets.first_key_value(), buckets.last_key_value())
        else {
            continue;
        };
        if *first != 0 {
            parts.push(format!("{prefix}offset:{first}"));
        }
        let row: Vec<f64> = (*first..=*last).map(|i| buckets.get(&i).copied().unwrap_or(0.0)).collect();
        parts.push(format!("{prefix}buckets:[{}]", list(&row)));
    }
    format!("{{{{{}}}}}", parts.join(" "))
}

fn indexed(spans: &[BucketSpan], counts: &[f64]) -> BTreeMap<i32, f64> {
    let mut next = 0i32;
    let each = spans.iter().flat_map(|s| {
        let start = next.saturating_add(s.offset);
        next = start.saturating_add_unsigned(s.length);
        start..next
    });
    each.zip(counts.iter().copied()).collect()
}
