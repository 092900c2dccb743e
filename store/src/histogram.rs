//! Native histograms as bytes: whole counts in few, anything else exactly.

use davy_model::{BucketSpan, Histogram};

use crate::codec::{Corrupt, Reader, put_ivarint, put_number, put_uvarint};

pub(crate) fn bytes(h: &Histogram) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, h);
    out
}

pub(crate) fn put(out: &mut Vec<u8>, h: &Histogram) {
    put_ivarint(out, i64::from(h.schema));
    out.push(u8::from(h.gauge));
    for v in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        put_number(out, v);
    }
    for (spans, counts) in [(&h.positive_spans, &h.positive_counts), (&h.negative_spans, &h.negative_counts)]
    {
        put_spans(out, spans);
        put_numbers(out, counts);
    }
    put_numbers(out, &h.custom_bounds);
}

pub(crate) fn read(r: &mut Reader) -> Result<Histogram, Corrupt> {
    let schema = i32::try_from(r.ivarint()?).map_err(|_| Corrupt("histogram schema out of range"))?;
    let gauge = r.u8()? != 0;
    let [zero_threshold, zero_count, count, sum] = [r.number()?, r.number()?, r.number()?, r.number()?];
    let (positive_spans, positive_counts) = (read_spans(r)?, read_numbers(r)?);
    let (negative_spans, negative_counts) = (read_spans(r)?, read_numbers(r)?);
    Ok(Histogram {
        schema,
        gauge,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        custom_bounds: read_numbers(r)?,
    })
}

/// What a run of histograms shares: all but zero count, count, sum and the counts of the buckets.
pub(crate) fn put_layout(out: &mut Vec<u8>, h: &Histogram) {
    put_ivarint(out, i64::from(h.schema));
    out.push(u8::from(h.gauge));
    put_number(out, h.zero_threshold);
    for (spans, counts) in [(&h.positive_spans, &h.positive_counts), (&h.negative_spans, &h.negative_counts)]
    {
        put_spans(out, spans);
        put_uvarint(out, counts.len() as u64);
    }
    put_numbers(out, &h.custom_bounds);
}

/// The layout with every number zero. As many buckets as bytes follow at the most.
pub(crate) fn read_layout(r: &mut Reader) -> Result<Histogram, Corrupt> {
    let schema = i32::try_from(r.ivarint()?).map_err(|_| Corrupt("histogram schema out of range"))?;
    let gauge = r.u8()? != 0;
    let zero_threshold = r.number()?;
    let (positive_spans, positive) = (read_spans(r)?, r.count()?);
    let (negative_spans, negative) = (read_spans(r)?, r.count()?);
    Ok(Histogram {
        schema,
        gauge,
        zero_threshold,
        positive_spans,
        positive_counts: vec![0.0; positive],
        negative_spans,
        negative_counts: vec![0.0; negative],
        custom_bounds: read_numbers(r)?,
        ..Histogram::default()
    })
}

fn put_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    put_uvarint(out, spans.len() as u64);
    for s in spans {
        put_ivarint(out, i64::from(s.offset));
        put_uvarint(out, u64::from(s.length));
    }
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[f64]) {
    put_uvarint(out, numbers.len() as u64);
    numbers.iter().for_each(|n| put_number(out, *n));
}

fn read_numbers(r: &mut Reader) -> Result<Vec<f64>, Corrupt> {
    let n = r.count()?;
    (0..n).map(|_| r.number()).collect()
}

fn read_spans(r: &mut Reader) -> Result<Vec<BucketSpan>, Corrupt> {
    let n = r.count()?;
    (0..n)
        .map(|_| {
            let offset = i32::try_from(r.ivarint()?).map_err(|_| Corrupt("bucket offset out of range"))?;
            Ok(BucketSpan { offset, length: r.u32()? })
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any histogram, also ones that `validate` would refuse: the store keeps what it is given.
    pub(crate) fn any_histogram() -> impl Strategy<Value = Histogram> {
        let counts =
            || proptest::collection::vec(prop_oneof![(0u32..1000).prop_map(f64::from), any::<f64>()], 0..6);
        let spans = || {
            let span =
                (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| BucketSpan { offset, length });
            proptest::collection::vec(span, 0..4)
        };
        (any::<i32>(), any::<bool>(), any::<[f64; 4]>(), spans(), counts(), spans(), counts(), counts())
            .prop_map(
                |(schema, gauge, [zero_threshold, zero_count, count, sum], ps, pc, ns, nc, custom_bounds)| {
                    Histogram {
                        schema,
                        gauge,
                        zero_threshold,
                        zero_count,
                        count,
                        sum,
                        positive_spans: ps,
                        positive_counts: pc,
                        negative_spans: ns,
                        negative_counts: nc,
                        custom_bounds,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn histograms_come_back_bit_for_bit(h in any_histogram()) {
            let out = bytes(&h);
            let mut r = Reader(&out);
            let back = read(&mut r).unwrap();
            prop_assert!(r.end().is_ok());
            prop_assert_eq!(bytes(&back), out);
        }

        #[test]
        fn broken_bytes_never_panic(b in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&mut Reader(&b));
        }
    }
}
