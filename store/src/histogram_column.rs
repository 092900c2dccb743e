//! Native histograms of one series in a chunk, column by column.
//!
//! Neighbours mostly have the same buckets: that layout is written once for each run of them, and every bucket is
//! then a column of numbers like any other.

use std::sync::Arc;

use davy_model::Histogram;

use crate::codec::{Corrupt, Reader, put_uvarint};
use crate::column::{self, Effort, Integers, Room};
use crate::histogram;

/// Zero count, count and sum, before the buckets.
const TOTALS: usize = 3;
/// Buckets of one histogram; bounds what a wrong layout can ask for.
const BUCKETS_MAX: usize = 1 << 16;

pub(crate) fn put(out: &mut Vec<u8>, histograms: &[Arc<Histogram>], effort: Effort) {
    for run in histograms.chunk_by(|a, b| same_layout(a, b)) {
        put_uvarint(out, run.len() as u64);
        histogram::put_layout(out, &run[0]);
        let mut below: Option<Integers> = None;
        for n in 0..TOTALS + buckets(&run[0]) {
            let bits: Vec<u64> = run.iter().map(|h| number(h, n).to_bits()).collect();
            let mut bytes = Vec::new();
            let ints = column::put(&mut bytes, &bits, below.as_ref(), effort);
            // Each bucket may lean on the one before it, whatever that leans on: all are read in order.
            below = ints.or(below);
            put_uvarint(out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Reads `n` histograms.
pub(crate) fn read(r: &mut Reader, n: usize) -> Result<Vec<Arc<Histogram>>, Corrupt> {
    let mut out = Vec::new();
    while out.len() < n {
        let len = usize::try_from(r.uvarint()?).ok().filter(|len| (1..=n - out.len()).contains(len));
        let len = len.ok_or(Corrupt("run of histograms has a wrong length"))?;
        let layout = histogram::read_layout(r)?;
        let count = buckets(&layout);
        if count > BUCKETS_MAX || count > r.0.len() {
            return Err(Corrupt("histogram has more buckets than follow"));
        }
        let mut run = vec![layout; len];
        let mut below: Option<Integers> = None;
        let mut room = Room::default();
        for n in 0..TOTALS + count {
            let bytes = r.count()?;
            let mut column = Reader(r.bytes(bytes)?);
            let (bits, ints) = column::read(&mut column, len, 0..len, below.as_ref(), true, &mut room)?;
            column.end()?;
            if ints.is_some() {
                room.reuse(std::mem::replace(&mut below, ints));
            }
            run.iter_mut().zip(bits).for_each(|(h, bits)| set_number(h, n, f64::from_bits(bits)));
        }
        out.extend(run.into_iter().map(Arc::new));
    }
    Ok(out)
}

fn buckets(h: &Histogram) -> usize {
    h.positive_counts.len() + h.negative_counts.len()
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.gauge == b.gauge
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_counts.len() == b.positive_counts.len()
        && a.negative_counts.len() == b.negative_counts.len()
        && bits(&a.custom_bounds) == bits(&b.custom_bounds)
}

fn number(h: &Histogram, n: usize) -> f64 {
    match n {
        0 => h.zero_count,
        1 => h.count,
        2 => h.sum,
        _ => {
            let at = n - TOTALS;
            let positive = h.positive_counts.len();
            if at < positive { h.positive_counts[at] } else { h.negative_counts[at - positive] }
        }
    }
}

fn set_number(h: &mut Histogram, n: usize, v: f64) {
    match n {
        0 => h.zero_count = v,
        1 => h.count = v,
        2 => h.sum = v,
        _ => {
            let at = n - TOTALS;
            let positive = h.positive_counts.len();
            if at < positive {
                h.positive_counts[at] = v;
            } else {
                h.negative_counts[at - positive] = v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::tests::any_histogram;
    use proptest::prelude::*;

    fn any_run() -> impl Strategy<Value = Vec<Arc<Histogram>>> {
        let steps = proptest::collection::vec(0u32..50, 1..20);
        (any_histogram(), steps).prop_map(|(first, steps)| {
            let mut h = first;
            let grow = |v: &mut f64, n: u32| *v += f64::from(n);
            steps
                .iter()
                .map(|n| {
                    h.positive_counts.iter_mut().for_each(|v| grow(v, *n));
                    grow(&mut h.count, *n);
                    Arc::new(h.clone())
                })
                .collect()
        })
    }

    fn bytes(all: &[Arc<Histogram>]) -> Vec<Vec<u8>> {
        all.iter().map(|h| histogram::bytes(h)).collect()
    }

    proptest! {
        #[test]
        fn histograms_come_back_bit_for_bit(runs in proptest::collection::vec(any_run(), 1..4)) {
            let all: Vec<_> = runs.concat();
            for effort in [Effort::Quick, Effort::Small] {
                let mut out = Vec::new();
                put(&mut out, &all, effort);
                let mut r = Reader(&out);
                prop_assert_eq!(bytes(&read(&mut r, all.len()).unwrap()), bytes(&all));
                prop_assert!(r.end().is_ok());
            }
        }

        #[test]
        fn broken_columns_never_panic(run in any_run(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut out = Vec::new();
            put(&mut out, &run, Effort::Small);
            let i = at.index(out.len());
            out[i] = byte;
            let _ = read(&mut Reader(&out), run.len());
            let _ = read(&mut Reader(&out[..i]), run.len());
        }
    }

    #[test]
    fn steady_buckets_cost_a_few_bits_each() {
        let histogram = |t: u32| Histogram {
            schema: 3,
            count: f64::from(t * 90),
            sum: f64::from(t) * 4.5,
            positive_counts: (1..=20).map(|b| f64::from(t * b + t % 3)).collect(),
            positive_spans: vec![davy_model::BucketSpan { offset: 0, length: 20 }],
            ..Histogram::default()
        };
        let all: Vec<_> = (0..240).map(|t| Arc::new(histogram(t))).collect();
        let mut out = Vec::new();
        put(&mut out, &all, Effort::Small);
        let each: usize = all.iter().map(|h| histogram::bytes(h).len()).sum();
        assert!(out.len() * 8 < each, "{} of {each}", out.len());
    }
}
