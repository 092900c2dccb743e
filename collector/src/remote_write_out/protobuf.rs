//! Fields of protobuf messages, written one after another.

pub(super) fn varint(out: &mut Vec<u8>, n: u64) {
    prost::encoding::encode_varint(n, out);
}

/// A field of zero is left out, as protobuf 3 does.
pub(super) fn number(out: &mut Vec<u8>, field: u64, n: u64) {
    if n != 0 {
        number_always(out, field, n);
    }
}

/// For a member of a `oneof`, which says by being there which one it is.
pub(super) fn number_always(out: &mut Vec<u8>, field: u64, n: u64) {
    varint(out, field << 3);
    varint(out, n);
}

pub(super) fn signed(out: &mut Vec<u8>, field: u64, n: i64) {
    number(out, field, zigzag(n));
}

pub(super) fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

/// Bit for bit; only a positive zero is left out.
pub(super) fn double(out: &mut Vec<u8>, field: u64, v: f64) {
    if v.to_bits() != 0 {
        double_always(out, field, v);
    }
}

pub(super) fn double_always(out: &mut Vec<u8>, field: u64, v: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&v.to_le_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

pub(super) fn text(out: &mut Vec<u8>, field: u64, content: &str) {
    if !content.is_empty() {
        bytes(out, field, content.as_bytes());
    }
}

/// A message within a message.
pub(super) fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    write(&mut content);
    bytes(out, field, &content);
}

pub(super) fn packed(out: &mut Vec<u8>, field: u64, numbers: impl IntoIterator<Item = u64>) {
    let mut content = Vec::new();
    numbers.into_iter().for_each(|n| varint(&mut content, n));
    if !content.is_empty() {
        bytes(out, field, &content);
    }
}

pub(super) fn packed_doubles(out: &mut Vec<u8>, field: u64, numbers: &[f64]) {
    if !numbers.is_empty() {
        let content: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes(out, field, &content);
    }
}
