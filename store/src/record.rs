//! Records of the log: the samples of one transaction, and the series they were the first of.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{Exemplar, Label, Labels, Timestamp};

use crate::SeriesRef;
use crate::codec::{Corrupt, Reader, put_ivarint, put_number, put_str, put_uvarint};
use crate::histogram;
use crate::packed_row::PackedRow;
use crate::row::{Histograms, slots};

/// Flag of a row.
const HAS_HISTOGRAMS: u8 = 1;

/// A row and the number of its group.
pub(crate) type GroupRow = (u32, Arc<PackedRow>);

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Samples {
    pub(crate) rows: Vec<GroupRow>,
    pub(crate) exemplars: Vec<(SeriesRef, Exemplar)>,
}

pub(crate) fn encode_samples(rows: &[GroupRow], exemplars: &[(SeriesRef, Exemplar)]) -> Vec<u8> {
    let values: usize = rows.iter().map(|(_, r)| r.packed().len()).sum();
    let mut out = Vec::with_capacity(values + 32 * rows.len() + 16);
    put_uvarint(&mut out, rows.len() as u64);
    let mut time_before = 0;
    for (group, row) in rows {
        put_uvarint(&mut out, u64::from(*group));
        put_ivarint(&mut out, row.time.wrapping_sub(time_before));
        time_before = row.time;
        put_row(&mut out, row);
    }
    put_uvarint(&mut out, exemplars.len() as u64);
    for (series, e) in exemplars {
        put_uvarint(&mut out, series.0);
        put_ivarint(&mut out, e.timestamp.as_millis());
        put_number(&mut out, e.value);
        put_uvarint(&mut out, e.labels.len() as u64);
        for (name, value) in e.labels.iter() {
            put_str(&mut out, name);
            put_str(&mut out, value);
        }
    }
    out
}

pub(crate) fn decode_samples(body: &[u8]) -> Result<Samples, Corrupt> {
    let mut r = Reader(body);
    let mut time = 0i64;
    let mut rows = Vec::new();
    for _ in 0..r.count()? {
        let group = r.u32()?;
        time = time.wrapping_add(r.ivarint()?);
        rows.push((group, Arc::new(read_row(&mut r, time)?)));
    }
    let mut exemplars = Vec::new();
    for _ in 0..r.count()? {
        let series = SeriesRef(r.uvarint()?);
        let timestamp = Timestamp::from_millis(r.ivarint()?);
        let value = r.number()?;
        let pairs = (0..r.count()?).map(|_| Ok((r.str()?, r.str()?))).collect::<Result<Vec<_>, Corrupt>>()?;
        exemplars.push((series, Exemplar { labels: Labels::from_pairs(pairs), value, timestamp }));
    }
    r.end()?;
    Ok(Samples { rows, exemplars })
}

fn put_row(out: &mut Vec<u8>, row: &PackedRow) {
    let histograms = row.histogram_values();
    out.push(if histograms.is_empty() { 0 } else { HAS_HISTOGRAMS });
    out.extend_from_slice(&row.float_mask().to_le_bytes());
    out.extend_from_slice(row.packed());
    if !histograms.is_empty() {
        out.extend_from_slice(&row.histogram_mask().to_le_bytes());
        histograms.iter().for_each(|h| histogram::put(out, h));
    }
}

fn read_row(r: &mut Reader, time: i64) -> Result<PackedRow, Corrupt> {
    let flags = r.u8()?;
    let floats = r.u128()?;
    let mut row = PackedRow::read(r, time, floats)?;
    if flags & HAS_HISTOGRAMS != 0 {
        let mask = r.u128()?;
        if mask & floats != 0 {
            return Err(Corrupt("a slot holds both a float and a histogram"));
        }
        let values = slots(mask).map(|_| histogram::read(r).map(Arc::new)).collect::<Result<_, _>>()?;
        row.set_histograms(Histograms { mask, values });
    }
    Ok(row)
}

/// A block of the catalogue: numbers and labels of series, every string once.
pub(crate) fn encode_series(series: &[(SeriesRef, Labels)]) -> Vec<u8> {
    let mut numbers: HashMap<&str, u64> = HashMap::new();
    let mut strings = Vec::new();
    let mut body = Vec::new();
    let mut before = 0;
    for (r, labels) in series {
        put_ivarint(&mut body, r.0.wrapping_sub(before) as i64);
        before = r.0;
        put_uvarint(&mut body, labels.len() as u64);
        for s in labels.iter().flat_map(|(n, v)| [n, v]) {
            let next = numbers.len() as u64;
            let number = *numbers.entry(s).or_insert(next);
            if number == next {
                put_str(&mut strings, s);
            }
            put_uvarint(&mut body, number);
        }
    }
    let mut out = Vec::new();
    put_uvarint(&mut out, numbers.len() as u64);
    out.extend_from_slice(&strings);
    put_uvarint(&mut out, series.len() as u64);
    out.extend_from_slice(&body);
    out
}

/// Series of the block share equal labels.
pub(crate) fn decode_series(body: &[u8]) -> Result<Vec<(SeriesRef, Labels)>, Corrupt> {
    let mut r = Reader(body);
    let strings = (0..r.count()?).map(|_| r.str()).collect::<Result<Vec<_>, _>>()?;
    let text = |i: u64| {
        let known = usize::try_from(i).ok().and_then(|i| strings.get(i));
        known.copied().ok_or(Corrupt("number of a string that is not there"))
    };
    let mut shared: HashMap<(u64, u64), Arc<Label>, foldhash::fast::RandomState> = HashMap::default();
    let mut number = 0u64;
    let mut out = Vec::new();
    for _ in 0..r.count()? {
        number = number.wrapping_add(r.ivarint()? as u64);
        let labels = (0..r.count()?).map(|_| {
            let (name, value) = (r.uvarint()?, r.uvarint()?);
            if let Some(label) = shared.get(&(name, value)) {
                return Ok(label.clone());
            }
            let label = Arc::new(Label::new(text(name)?, text(value)?));
            shared.insert((name, value), label.clone());
            Ok(label)
        });
        let labels = labels.collect::<Result<_, Corrupt>>()?;
        out.push((SeriesRef(number), Labels::from_shared(labels)));
    }
    r.end()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::tests::any_histogram;
    use davy_model::Value;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            6 => any::<u64>().prop_map(|b| Value::Float(f64::from_bits(b))),
            6 => (0u32..100_000).prop_map(|v| Value::Float(f64::from(v))),
            1 => Just(Value::Float(davy_model::STALE_NAN)),
            1 => any_histogram().prop_map(|h| Value::Histogram(Arc::new(h))),
        ]
    }

    fn any_row() -> impl Strategy<Value = PackedRow> {
        (any::<i64>(), proptest::collection::btree_map(0u8..128, any_value(), 0..20)).prop_map(
            |(time, values)| {
                let mut row = crate::row::Row::new(time);
                values.into_iter().for_each(|(slot, v)| row.set(slot, v));
                PackedRow::pack(row)
            },
        )
    }

    proptest! {
        #[test]
        fn samples_come_back_bit_for_bit(rows in proptest::collection::vec((any::<u32>(), any_row().prop_map(Arc::new)), 0..6)) {
            let body = encode_samples(&rows, &[]);
            let back = decode_samples(&body).unwrap();
            // NaNs are not equal to themselves: compare what is written.
            prop_assert_eq!(encode_samples(&back.rows, &[]), body);
            prop_assert_eq!(back.rows.len(), rows.len());
            for ((g, a), (h, b)) in rows.iter().zip(&back.rows) {
                prop_assert_eq!((g, a.time, a.mask(), a.packed()), (h, b.time, b.mask(), b.packed()));
            }
        }

        #[test]
        fn broken_records_never_panic(
            rows in proptest::collection::vec((any::<u32>(), any_row().prop_map(Arc::new)), 1..4),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut body = encode_samples(&rows, &[]);
            let i = at.index(body.len());
            body[i] = byte;
            let _ = decode_samples(&body);
            let _ = decode_samples(&body[..i]);
            let _ = decode_series(&body);
        }
    }

    #[test]
    fn exemplars_and_series_come_back() {
        let labels = Labels::from_pairs([("trace_id", "ab"), ("x", "ab")]);
        let exemplar = Exemplar { labels: labels.clone(), value: 0.25, timestamp: Timestamp::from_millis(7) };
        let exemplars = vec![(SeriesRef(9), exemplar)];
        assert_eq!(decode_samples(&encode_samples(&[], &exemplars)).unwrap().exemplars, exemplars);
        let series = vec![(SeriesRef(900), labels), (SeriesRef(3), Labels::empty())];
        assert_eq!(decode_series(&encode_series(&series)).unwrap(), series);
    }
}
