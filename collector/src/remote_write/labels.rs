//! Labels of a series when it is first seen: decoded, and checked so that an error says what is wrong.

use davy_model::{Labels, name};

use super::wire::{Malformed, Message};

/// Limits of a series, the same as a scrape's (`ScrapeLimits`).
pub(super) const LABELS_MAX: usize = 64;
pub(super) const NAME_BYTES_MAX: usize = 256;
pub(super) const VALUE_BYTES_MAX: usize = 2048;

/// Field `labels` of TimeSeries and of Exemplar.
pub(super) const LABELS: u64 = 1;

/// The labels of a series, from nothing but its label fields. `Ok(Err)` says what is wrong with them.
pub(super) fn series_labels(fields: &[u8]) -> Result<Result<Labels, String>, Malformed> {
    let pairs = pairs(fields)?;
    Ok(check(&pairs).and_then(|labels| match labels.metric_name() {
        "" => Err(format!("no metric name: label {:?} is missing or empty", name::METRIC)),
        _ => Ok(labels),
    }))
}

/// The same for the labels of an exemplar, which has no name.
pub(super) fn exemplar_labels(fields: &[u8]) -> Result<Result<Labels, String>, Malformed> {
    Ok(check(&pairs(fields)?))
}

type Pair<'a> = (&'a [u8], &'a [u8]);

fn pairs(fields: &[u8]) -> Result<Vec<Pair<'_>>, Malformed> {
    let mut pairs = Vec::new();
    let mut fields = Message(fields);
    while let Some((number, field)) = fields.field()? {
        if number != LABELS {
            continue;
        }
        let mut pair: Pair<'_> = (&[], &[]);
        let mut label = Message(field.bytes()?);
        while let Some((number, field)) = label.field()? {
            match number {
                1 => pair.0 = field.bytes()?,
                2 => pair.1 = field.bytes()?,
                _ => {}
            }
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// The order does not matter, and an empty value means "no such label", as everywhere in Prometheus.
fn check(pairs: &[Pair<'_>]) -> Result<Labels, String> {
    if pairs.len() > LABELS_MAX {
        return Err(format!("{} labels, at most {LABELS_MAX}", pairs.len()));
    }
    let mut texts: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = std::str::from_utf8(name)
            .map_err(|_| format!("label name {:?} is not UTF-8", String::from_utf8_lossy(name)))?;
        let value = std::str::from_utf8(value).map_err(|_| {
            format!("value {:?} of label {name:?} is not UTF-8", String::from_utf8_lossy(value))
        })?;
        if name.is_empty() {
            return Err(format!("a label without a name (its value is {value:?})"));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("a label name of {} bytes, at most {NAME_BYTES_MAX}", name.len()));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!(
                "value of label {name:?} has {} bytes, at most {VALUE_BYTES_MAX}",
                value.len()
            ));
        }
        if texts.iter().any(|(n, _)| *n == name) {
            return Err(format!("label name {name:?} twice"));
        }
        texts.push((name, value));
    }
    Ok(Labels::from_pairs(texts))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    }

    pub(in super::super) fn label(name: &[u8], value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, name), field(2, value)].concat())
    }

    fn read(pairs: &[(&[u8], &[u8])]) -> Result<Labels, String> {
        let fields: Vec<u8> = pairs.iter().flat_map(|(n, v)| label(n, v)).collect();
        series_labels(&fields).expect("well-formed protobuf")
    }

    #[test]
    fn any_order_is_taken_and_empty_values_are_absent() {
        let labels = read(&[(b"z", b"1"), (b"__name__", b"up"), (b"a", b""), (b"job", b"x")]);
        assert_eq!(labels, Ok(Labels::from_pairs([("__name__", "up"), ("job", "x"), ("z", "1")])));
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let long = vec![b'x'; 5000];
        let many: Vec<Vec<u8>> = (0..65).map(|n| format!("l{n}").into_bytes()).collect();
        let many: Vec<(&[u8], &[u8])> = many.iter().map(|n| (n.as_slice(), b"v".as_slice())).collect();
        type Pairs<'a> = &'a [(&'a [u8], &'a [u8])];
        let cases: [(Pairs<'_>, &str); 8] = [
            (&[(b"job", b"x")], "no metric name"),
            (&[(b"__name__", b"")], "no metric name"),
            (&[(b"__name__", b"up"), (b"a", b"1"), (b"a", b"1")], "label name \"a\" twice"),
            (&[(b"__name__", b"up"), (b"", b"lost")], "without a name (its value is \"lost\")"),
            (&[(b"__name__", b"up"), (b"a\xff", b"1")], "is not UTF-8"),
            (&[(b"__name__", b"up"), (b"a", b"\xc3\x28")], "of label \"a\" is not UTF-8"),
            (&[(b"__name__", b"up"), (b"a", &long)], "5000 bytes, at most 2048"),
            (&many, "65 labels, at most 64"),
        ];
        for (pairs, want) in cases {
            let got = read(pairs).expect_err(want);
            assert!(got.contains(want), "{got}");
        }
    }
}
