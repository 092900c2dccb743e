//! Native histograms of remote write 1.0: integer ones as deltas, float ones as counts, exponential or custom
//! buckets; all become the model's floats. A staleness marker stands in `sum` and keeps its bits.

use davy_model::{BucketSpan, Histogram, Timestamp};

use super::wire::{Field, Malformed, Message, unzigzag, varint};

const RESET_HINT_GAUGE: u64 = 3;

/// `Ok(Err)` says what is wrong with a histogram that was well-formed protobuf.
pub(super) fn histogram(body: &[u8]) -> Result<Result<(Timestamp, Histogram), String>, Malformed> {
    let mut h = Histogram::default();
    let mut timestamp = 0;
    let (mut negative_deltas, mut positive_deltas) = (Vec::new(), Vec::new());
    let mut message = Message(body);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => h.count = field.varint()? as f64,
            2 => h.count = field.double()?,
            3 => h.sum = field.double()?,
            4 => h.schema = sint32(field.varint()?),
            5 => h.zero_threshold = field.double()?,
            6 => h.zero_count = field.varint()? as f64,
            7 => h.zero_count = field.double()?,
            8 => h.negative_spans.push(span(field.bytes()?)?),
            9 => deltas(field, &mut negative_deltas)?,
            10 => doubles(field, &mut h.negative_counts)?,
            11 => h.positive_spans.push(span(field.bytes()?)?),
            12 => deltas(field, &mut positive_deltas)?,
            13 => doubles(field, &mut h.positive_counts)?,
            14 => h.gauge = field.varint()? == RESET_HINT_GAUGE,
            15 => timestamp = field.varint()? as i64,
            16 => doubles(field, &mut h.custom_bounds)?,
            _ => {}
        }
    }
    for (side, deltas, counts) in [
        ("negative", negative_deltas, &mut h.negative_counts),
        ("positive", positive_deltas, &mut h.positive_counts),
    ] {
        if deltas.is_empty() {
            continue;
        }
        if !counts.is_empty() {
            return Ok(Err(format!("{side} buckets both as deltas and as counts")));
        }
        let mut count = 0i64;
        counts.extend(deltas.into_iter().map(|d| {
            count = count.saturating_add(d);
            count as f64
        }));
    }
    Ok(check(&h).map(|()| (Timestamp::from_millis(timestamp), h)))
}

fn check(h: &Histogram) -> Result<(), String> {
    h.validate().map_err(|e| e.to_string())?;
    if !(h.count.is_finite() && h.count >= 0.0) {
        return Err(format!("histogram has a negative or non-finite count {}", h.count));
    }
    if h.is_custom() && !(h.negative_counts.is_empty() && h.zero_count == 0.0) {
        return Err("histogram with custom buckets has negative buckets or a zero bucket".to_owned());
    }
    Ok(())
}

fn span(body: &[u8]) -> Result<BucketSpan, Malformed> {
    let mut span = BucketSpan { offset: 0, length: 0 };
    let mut message = Message(body);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => span.offset = sint32(field.varint()?),
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

fn sint32(n: u64) -> i32 {
    unzigzag(n) as i32
}

/// Packed, as every client writes them, or one a field.
fn deltas(field: Field<'_>, out: &mut Vec<i64>) -> Result<(), Malformed> {
    match field {
        Field::Varint(n) => out.push(unzigzag(n)),
        Field::Bytes(mut packed) => {
            while !packed.is_empty() {
                out.push(unzigzag(varint(&mut packed).ok_or(Malformed("truncated packed number"))?));
            }
        }
        Field::Fixed64(_) | Field::Fixed32 => return Err(Malformed("deltas that are no varints")),
    }
    Ok(())
}

fn doubles(field: Field<'_>, out: &mut Vec<f64>) -> Result<(), Malformed> {
    match field {
        Field::Fixed64(bits) => out.push(f64::from_bits(bits)),
        Field::Bytes(packed) => {
            let (doubles, rest) = packed.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(Malformed("truncated packed doubles"));
            }
            out.extend(doubles.iter().map(|b| f64::from_le_bytes(*b)));
        }
        Field::Varint(_) | Field::Fixed32 => return Err(Malformed("counts that are no doubles")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::labels::tests::field;
    use super::*;
    use davy_model::{STALE_NAN, Value};
    use std::sync::Arc;

    fn number(n: u8, v: u64) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::encode_varint(u64::from(n) << 3, &mut out);
        prost::encoding::encode_varint(v, &mut out);
        out
    }

    fn double(n: u8, v: f64) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::encode_varint(u64::from(n) << 3 | 1, &mut out);
        out.extend_from_slice(&v.to_le_bytes());
        out
    }

    fn custom_bounds(bounds: &[f64]) -> Vec<u8> {
        let packed: Vec<u8> = bounds.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut out = vec![0x82, 1];
        prost::encoding::encode_varint(packed.len() as u64, &mut out);
        out.extend(packed);
        out
    }

    #[test]
    fn integer_deltas_become_counts() {
        let zigzag = |v: i64| (v << 1 ^ v >> 63) as u8;
        let body = [
            number(1, 9),
            double(3, 20.5),
            number(4, u64::from(zigzag(-1))),
            double(5, 0.001),
            number(6, 2),
            field(11, &[number(1, u64::from(zigzag(-3))), number(2, 2)].concat()),
            field(11, &[number(1, u64::from(zigzag(1))), number(2, 1)].concat()),
            field(12, &[zigzag(1), zigzag(3), zigzag(-2)]),
            number(14, RESET_HINT_GAUGE),
            number(15, 1_767_225_600_000),
        ]
        .concat();
        let want = Histogram {
            schema: -1,
            gauge: true,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 9.0,
            sum: 20.5,
            positive_spans: vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 1, length: 1 }],
            positive_counts: vec![1.0, 4.0, 2.0],
            ..Histogram::default()
        };
        assert_eq!(histogram(&body), Ok(Ok((Timestamp::from_millis(1_767_225_600_000), want))));
    }

    #[test]
    fn float_counts_and_custom_bounds_are_taken() {
        let counts: Vec<u8> = [0.5f64, 1.25].iter().flat_map(|c| c.to_le_bytes()).collect();
        let body = [
            double(2, 1.75),
            number(4, 105), // -53
            field(11, &number(2, 2)),
            field(13, &counts),
            custom_bounds(&[1.0, 5.0]),
        ]
        .concat();
        let (_, h) = histogram(&body).unwrap().unwrap();
        assert_eq!((h.schema, h.custom_bounds, h.positive_counts), (-53, vec![1.0, 5.0], vec![0.5, 1.25]));
    }

    #[test]
    fn a_staleness_marker_keeps_its_bits() {
        let (_, h) = histogram(&double(3, STALE_NAN)).unwrap().unwrap();
        assert!(Value::Histogram(Arc::new(h)).is_stale());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |body: &[u8], want: &str| {
            let got = histogram(body).unwrap().expect_err(want);
            assert!(got.contains(want), "{got}");
        };
        check(&number(4, 40), "schema 20");
        check(&field(12, &[2]), "spans cover 0");
        check(&[field(11, &number(2, 1)), field(12, &[1])].concat(), "bucket count -1");
        check(&double(2, f64::NAN), "count NaN");
        let both = [field(12, &[2]), field(13, &1f64.to_le_bytes())].concat();
        check(&both, "both as deltas and as counts");
        assert!(histogram(&field(13, &[1, 2, 3])).is_err() && histogram(&field(12, &[0x80])).is_err());
    }
}
