//! `Column`: the floats of one series in a chunk, in the cheapest form that gives every bit back.
//!
//! Most series are counters and gauges of whole numbers or of few decimals: those are packed as integers. What
//! is left goes to `pco` (Loncaric, Jeppesen and Zinberg, "Pcodec", 2025). Values that are not finite
//! (staleness markers above all) are kept beside, so that one of them does not spoil a column.

use std::ops::Range;

use pco::data_types::Number;

use crate::bitpack;
use crate::codec::{Corrupt, Reader, put_ivarint, put_uvarint, whole};
use crate::pages::{self, PAGE};

const CONSTANT: u8 = 0;
const INTEGERS: u8 = 1;
const PCO: u8 = 2;
/// The bits of doubles, packed like integers: neighbours mostly share sign and exponent.
const BITS: u8 = 3;
const KIND: u8 = 0x03;
/// A list of values that are not finite follows.
const EXCEPTIONS: u8 = 0x04;
/// Integers: differences between neighbours instead of the values.
const DELTAS: u8 = 0x08;
/// Integers: what is over the nearest column of integers before, as a histogram's bucket is over the one below.
const ABOVE: u8 = 0x10;
/// Integers: times a power of ten, whose exponent follows.
const DECIMAL: u8 = 0x20;

/// Integers: by pco instead of as packed blocks.
const PCO_INTEGERS: u8 = 0x40;
/// What pco packed lies in pages. Without, it is a file of pco's, as Davy wrote it before format 2.
const PAGES: u8 = 0x80;

/// How hard to look for the smallest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For what stays in memory an hour or two.
    Quick,
    /// For what is written once and kept for weeks.
    Small,
}

/// Most decimals looked for.
const SCALE_MAX: u8 = 6;
const POWERS: [f64; SCALE_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Fewer values than this are not worth pco's header.
const PCO_VALUES_MIN: usize = 16;
/// Integers packed into fewer bytes than this cannot gain by it either.
const PCO_INTEGERS_BYTES_MIN: usize = 64;

/// Rows of a column as integers, for a later one to lean on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Integers {
    scale: u8,
    /// Row of the first value.
    start: usize,
    values: Vec<i64>,
}

impl Integers {
    /// The values of some rows, if they are all there.
    pub(crate) fn rows(&self, rows: &Range<usize>) -> Option<&[i64]> {
        self.values.get(rows.start.checked_sub(self.start)?..rows.end.checked_sub(self.start)?)
    }
}

/// Writes the column; returns it as integers if a later one may lean on it ([`can_be_leaned_on`]). `below` is the
/// nearest such column before, if both have the same rows.
pub(crate) fn put(
    out: &mut Vec<u8>,
    bits: &[u64],
    below: Option<&Integers>,
    effort: Effort,
) -> Option<Integers> {
    if bits.iter().all(|b| f64::from_bits(*b).is_finite()) {
        return put_finite(out, bits, &[], below, effort);
    }
    let (finite, exceptions) = split_exceptions(bits);
    put_finite(out, &finite, &exceptions, below, effort)
}

fn put_finite(
    out: &mut Vec<u8>,
    finite: &[u64],
    exceptions: &[(usize, u64)],
    below: Option<&Integers>,
    effort: Effort,
) -> Option<Integers> {
    let flags = if exceptions.is_empty() { 0 } else { EXCEPTIONS };
    if finite.iter().all(|b| *b == finite[0]) {
        out.push(CONSTANT | flags);
        put_exceptions(out, exceptions);
        out.extend_from_slice(&finite.first().copied().unwrap_or(0).to_le_bytes());
        return None;
    }
    if let Some(ints) = integers(finite) {
        put_integers(out, flags, exceptions, &ints, below, effort);
        return Some(ints);
    }
    let floats: Vec<f64> = finite.iter().map(|b| f64::from_bits(*b)).collect();
    match compress(&floats, effort) {
        Some(packed) => {
            out.push(PCO | PAGES | flags);
            put_exceptions(out, exceptions);
            out.extend_from_slice(&packed);
        }
        None => {
            let bits: Vec<i64> = finite.iter().map(|b| *b as i64).collect();
            out.push(BITS | flags);
            put_exceptions(out, exceptions);
            bitpack::put(out, &bits);
        }
    }
    None
}

/// Whether [`read`] needs the nearest column before that can be leaned on.
pub(crate) fn leans(column: &[u8]) -> bool {
    column.first().is_some_and(|head| head & KIND == INTEGERS && head & ABOVE != 0)
}

/// Whether the column is one of integers.
pub(crate) fn can_be_leaned_on(column: &[u8]) -> bool {
    column.first().is_some_and(|head| head & KIND == INTEGERS)
}

/// Room for the numbers of one column, used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Room {
    ints: Vec<i64>,
    floats: Vec<f64>,
}

impl Room {
    /// Takes back what a column was leaned on for.
    pub(crate) fn reuse(&mut self, done: Option<Integers>) {
        if let Some(done) = done.filter(|d| d.values.capacity() > self.ints.capacity()) {
            self.ints = done.values;
        }
    }
}

/// Of a column of `n` values gives those of `rows`, and the same as integers if they are to be leaned on. Of what lies
/// before the rows mostly only their own page is unpacked, and of what lies behind little: of a chunk of half a day
/// mostly some minutes are asked for. The reader is left at the end of the column only if the rows reach to its last
/// value.
pub(crate) fn read(
    r: &mut Reader,
    n: usize,
    rows: Range<usize>,
    below: Option<&Integers>,
    leaned_on: bool,
    room: &mut Room,
) -> Result<(Vec<u64>, Option<Integers>), Corrupt> {
    let head = r.u8()?;
    let exceptions = if head & EXCEPTIONS != 0 { read_exceptions(r, n)? } else { Vec::new() };
    let (mut bits, ints) = match head & KIND {
        CONSTANT => (vec![r.u64()?; rows.len()], None),
        INTEGERS => {
            let mut values = std::mem::take(&mut room.ints);
            values.clear();
            let scale = read_integers(r, head, n, rows.clone(), below, &mut values)?;
            let power = *POWERS.get(usize::from(scale)).ok_or(Corrupt("unknown number of decimals"))?;
            let bits = match scale {
                0 => values.iter().map(|i| (*i as f64).to_bits()).collect(),
                _ => values.iter().map(|i| (*i as f64 / power).to_bits()).collect(),
            };
            if leaned_on {
                (bits, Some(Integers { scale, start: rows.start, values }))
            } else {
                room.ints = values;
                (bits, None)
            }
        }
        PCO => {
            room.floats.clear();
            let first = read_pco(r, head, n, rows.clone(), &mut room.floats)?;
            (room.floats[rows.start - first..].iter().map(|v| v.to_bits()).collect(), None)
        }
        _ => {
            room.ints.clear();
            bitpack::read_first(r, n, rows.end, &mut room.ints)?;
            (room.ints[rows.start..].iter().map(|b| *b as u64).collect(), None)
        }
    };
    for (at, value) in exceptions {
        if rows.contains(&at) {
            bits[at - rows.start] = value;
        }
    }
    Ok((bits, ints))
}

/// The column with every value that is not finite replaced by its neighbour, and those values.
fn split_exceptions(bits: &[u64]) -> (Vec<u64>, Vec<(usize, u64)>) {
    let is_finite = |b: &u64| f64::from_bits(*b).is_finite();
    let mut exceptions = Vec::new();
    let mut last = bits.iter().copied().find(is_finite).unwrap_or(0);
    let finite = bits.iter().enumerate().map(|(at, b)| {
        if is_finite(b) {
            last = *b;
        } else {
            exceptions.push((at, *b));
        }
        last
    });
    (finite.collect(), exceptions)
}

fn put_exceptions(out: &mut Vec<u8>, exceptions: &[(usize, u64)]) {
    if exceptions.is_empty() {
        return;
    }
    put_uvarint(out, exceptions.len() as u64);
    for (at, bits) in exceptions {
        put_uvarint(out, *at as u64);
        out.extend_from_slice(&bits.to_le_bytes());
    }
}

fn read_exceptions(r: &mut Reader, n: usize) -> Result<Vec<(usize, u64)>, Corrupt> {
    (0..r.count()?)
        .map(|_| {
            let at = usize::try_from(r.uvarint()?).ok().filter(|at| *at < n);
            Ok((at.ok_or(Corrupt("exception beyond the column"))?, r.u64()?))
        })
        .collect()
}

/// The fewest decimals with which every value is an integer that gives its bits back.
fn integers(bits: &[u64]) -> Option<Integers> {
    let mut scale = 0;
    let mut values = Vec::with_capacity(bits.len());
    while values.len() < bits.len() {
        match scaled(bits[values.len()], scale) {
            Some(v) => values.push(v),
            None => {
                // Values so far have fewer decimals: they are taken again with more.
                scale += 1;
                if scale > SCALE_MAX {
                    return None;
                }
                values.clear();
            }
        }
    }
    Some(Integers { scale, start: 0, values })
}

fn scaled(bits: u64, scale: u8) -> Option<i64> {
    if scale == 0 {
        return whole(bits);
    }
    let power = POWERS[usize::from(scale)];
    let i = whole((f64::from_bits(bits) * power).round().to_bits())?;
    ((i as f64 / power).to_bits() == bits).then_some(i)
}

fn put_integers(
    out: &mut Vec<u8>,
    flags: u8,
    exceptions: &[(usize, u64)],
    ints: &Integers,
    below: Option<&Integers>,
    effort: Effort,
) {
    let values = &ints.values;
    let below =
        below.filter(|b| b.scale == ints.scale).map(|b| &b.values).filter(|b| b.len() == values.len());
    let chosen = smallest(values, below.map(Vec::as_slice));
    let above: Vec<i64>;
    let values = match below.filter(|_| chosen.0 & ABOVE != 0) {
        Some(below) => {
            above = values.iter().zip(below).map(|(v, b)| v.wrapping_sub(*b)).collect();
            &above
        }
        None => values,
    };
    let deltas: Vec<i64>;
    let (first, packed) = if chosen.0 & DELTAS != 0 {
        deltas = values.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        (values.first(), &deltas)
    } else {
        (None, values)
    };
    let decimal = if ints.scale > 0 { DECIMAL } else { 0 };
    let smaller = if effort == Effort::Small { smaller(packed, first.is_some(), chosen.1) } else { None };
    let pco = if smaller.is_some() { PCO_INTEGERS | PAGES } else { 0 };
    out.push(INTEGERS | flags | chosen.0 | decimal | pco);
    put_exceptions(out, exceptions);
    if ints.scale > 0 {
        out.push(ints.scale);
    }
    if let Some(first) = first {
        put_ivarint(out, *first);
    }
    match smaller {
        Some(pco) => out.extend_from_slice(&pco),
        None => bitpack::put(out, packed),
    }
}

/// The flags of the form that packs into the fewest bytes, and how many those are.
fn smallest(values: &[i64], below: Option<&[i64]>) -> (u8, usize) {
    let mut sizes = [bitpack::Size::NONE; 4];
    let mut before = (0, 0);
    for (i, v) in values.iter().enumerate() {
        let above = below.map_or(0, |b| v.wrapping_sub(b[i]));
        sizes[0].add(*v);
        if i > 0 {
            sizes[1].add(v.wrapping_sub(before.0));
        }
        if below.is_some() {
            sizes[2].add(above);
            if i > 0 {
                sizes[3].add(above.wrapping_sub(before.1));
            }
        }
        before = (*v, above);
    }
    let forms = [0, DELTAS, ABOVE, ABOVE | DELTAS].into_iter().zip(sizes.map(|s| s.bytes()));
    let forms = forms.take(if below.is_some() { 4 } else { 2 });
    forms.min_by_key(|(_, bytes)| *bytes).expect("the plain values are always a candidate")
}

/// The values in pages, if that is smaller than `bytes`. Before pages of `deltas` lie the sums of all but the last.
fn smaller(values: &[i64], deltas: bool, bytes: usize) -> Option<Vec<u8>> {
    if bytes < PCO_INTEGERS_BYTES_MIN {
        return None;
    }
    let mut packed = Vec::new();
    if deltas {
        let full = values.chunks(PAGE).rev().skip(1).rev();
        full.for_each(|page| put_ivarint(&mut packed, sum(page)));
    }
    pages::put(&mut packed, values).ok()?;
    (packed.len() < bytes).then_some(packed)
}

/// The integers of some rows. Gives their decimals.
fn read_integers(
    r: &mut Reader,
    head: u8,
    n: usize,
    rows: Range<usize>,
    below: Option<&Integers>,
    values: &mut Vec<i64>,
) -> Result<u8, Corrupt> {
    let scale = if head & DECIMAL != 0 { r.u8()? } else { 0 };
    if head & DELTAS != 0 {
        read_deltas(r, head, n, rows.clone(), values)?;
    } else {
        let first = read_packed(r, head, n, rows.clone(), values)?;
        values.drain(..rows.start - first);
    }
    if head & ABOVE != 0 {
        let below = below.and_then(|b| b.rows(&rows)).ok_or(Corrupt("the column to lean on is missing"))?;
        values.iter_mut().zip(below).for_each(|(v, b)| *v = v.wrapping_add(*b));
    }
    Ok(scale)
}

/// The same of a column of differences, the first value before them.
fn read_deltas(
    r: &mut Reader,
    head: u8,
    n: usize,
    rows: Range<usize>,
    values: &mut Vec<i64>,
) -> Result<(), Corrupt> {
    let mut value = r.ivarint()?;
    let n = n.saturating_sub(1);
    let full_pages = if head & PAGES != 0 { n.div_ceil(PAGE).saturating_sub(1) } else { 0 };
    let sums = (0..full_pages).map(|_| r.ivarint()).collect::<Result<Vec<_>, _>>()?;
    // What leads to a row from the one before it lies one place before the row; to the first leads the first value.
    let wanted = rows.start.saturating_sub(1)..rows.end.saturating_sub(1);
    if rows.start == 0 {
        values.push(std::mem::take(&mut value));
    }
    let first = read_packed(r, head, n, wanted.clone(), values)?;
    let skipped = wanted.start - first;
    let pages_before = sums.len().min(first / PAGE);
    value = value.wrapping_add(sum(&sums[..pages_before])).wrapping_add(sum(&values[..skipped]));
    values.drain(..skipped);
    for v in values {
        value = value.wrapping_add(*v);
        *v = value;
    }
    Ok(())
}

/// Adds integers as they are packed, from somewhere before those that are wanted to the last of them; gives the place of
/// the first.
fn read_packed(
    r: &mut Reader,
    head: u8,
    n: usize,
    wanted: Range<usize>,
    values: &mut Vec<i64>,
) -> Result<usize, Corrupt> {
    if head & PCO_INTEGERS != 0 {
        return read_pco(r, head, n, wanted, values);
    }
    bitpack::read_first(r, n, wanted.end, values)?;
    Ok(0)
}

fn sum(values: &[i64]) -> i64 {
    values.iter().fold(0, |sum, v| sum.wrapping_add(*v))
}

fn compress(floats: &[f64], effort: Effort) -> Option<Vec<u8>> {
    if floats.len() < PCO_VALUES_MIN || effort == Effort::Quick {
        return None;
    }
    let mut packed = Vec::new();
    pages::put(&mut packed, floats).ok()?;
    (packed.len() < 8 * floats.len()).then_some(packed)
}

/// As [`read_packed`], of what pco packed.
fn read_pco<T: Number + Default>(
    r: &mut Reader,
    head: u8,
    n: usize,
    wanted: Range<usize>,
    out: &mut Vec<T>,
) -> Result<usize, Corrupt> {
    if head & PAGES != 0 {
        return pages::read(r, n, wanted, out);
    }
    let before = out.len();
    // In part, pco unpacks whole batches only.
    let some = wanted.end.next_multiple_of(pco::FULL_BATCH_N).min(n);
    out.resize(before + some, T::default());
    match pco::standalone::simple_decompress_into(r.bytes(r.0.len())?, &mut out[before..]) {
        Ok(p) if p.n_processed == some && p.finished == (some == n) => {
            out.truncate(before + wanted.end);
            Ok(0)
        }
        Ok(_) => Err(Corrupt("numbers are fewer or more than the rows")),
        Err(_) => Err(Corrupt("numbers do not decompress")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Columns as they come: counters, gauges, decimals, noise, with gaps and markers.
    pub(crate) fn any_column() -> impl Strategy<Value = Vec<u64>> {
        let value = |kind: u8| match kind {
            0 => any::<u64>().boxed(),
            1 => (0i64..1000).prop_map(|v| (v as f64).to_bits()).boxed(),
            2 => (0i64..1_000_000).prop_map(|v| (v as f64 / 1000.0).to_bits()).boxed(),
            3 => Just(3.25f64.to_bits()).boxed(),
            4 => (-1e9..1e9).prop_map(f64::to_bits).boxed(),
            _ => prop_oneof![
                8 => (0i64..50).prop_map(|v| (v as f64).to_bits()),
                1 => Just(davy_model::STALE_NAN.to_bits()),
                1 => Just((-0.0f64).to_bits()),
                1 => Just(f64::INFINITY.to_bits()),
            ]
            .boxed(),
        };
        // Now and then of several pages.
        let len = prop_oneof![9 => 1..150usize, 1 => PAGE - 1..2 * PAGE + 3];
        (0u8..6, len).prop_flat_map(move |(kind, len)| proptest::collection::vec(value(kind), len))
    }

    fn read_all(
        r: &mut Reader,
        n: usize,
        below: Option<&Integers>,
    ) -> Result<(Vec<u64>, Option<Integers>), Corrupt> {
        read(r, n, 0..n, below, true, &mut Room::default())
    }

    fn cut(ints: &Integers, rows: Range<usize>) -> Integers {
        Integers { values: ints.rows(&rows).unwrap().to_vec(), ..*ints }
    }

    fn round_trip(bits: &[u64], below: Option<&Integers>) -> Option<Integers> {
        let mut last = None;
        for effort in [Effort::Quick, Effort::Small] {
            let mut out = Vec::new();
            let written = put(&mut out, bits, below, effort);
            let mut r = Reader(&out);
            let n = bits.len();
            let (back, read) = read_all(&mut r, n, below).unwrap();
            assert_eq!(back, bits);
            assert!(r.end().is_ok());
            assert_eq!(read, written, "what the next column leans on");
            last = written;
            for rows in [0..1, n / 3..n / 2, n / 2..n / 2 + n.div_ceil(20), n - 1..n, n..n] {
                for leaned_on in [false, true] {
                    let mut room = Room::default();
                    let some = super::read(&mut Reader(&out), n, rows.clone(), below, leaned_on, &mut room);
                    let (some, ints) = some.unwrap();
                    assert_eq!(some, bits[rows.clone()]);
                    let some = |i: &Integers| Integers { start: rows.start, ..cut(i, rows.clone()) };
                    assert_eq!(ints, last.as_ref().filter(|_| leaned_on).map(some));
                }
            }
        }
        last
    }

    proptest! {
        #[test]
        fn columns_come_back_bit_for_bit(a in any_column(), b in any_column()) {
            let below = round_trip(&a, None);
            let n = a.len().min(b.len());
            let below = below.map(|i| cut(&i, 0..n));
            round_trip(&b[..n], below.as_ref());
        }

        #[test]
        fn broken_columns_never_panic(bits in any_column(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut out = Vec::new();
            put(&mut out, &bits, None, Effort::Small);
            let i = at.index(out.len());
            out[i] = byte;
            let _ = read_all(&mut Reader(&out), bits.len(), None);
            let _ = read_all(&mut Reader(&out[..i]), bits.len(), None);
        }
    }

    /// The differences of the first fill their page to the last place.
    #[test]
    fn a_column_of_full_pages_and_one_more_comes_back() {
        for rows in [PAGE + 1, PAGE + 2, 2 * PAGE, 2 * PAGE + 1] {
            let bits: Vec<u64> = (0..rows as u32).map(|i| f64::from(i * 15 + i * i % 7).to_bits()).collect();
            round_trip(&bits, None);
        }
    }

    #[test]
    fn a_bucket_costs_little_over_the_one_below() {
        let below: Vec<u64> =
            (0..120u32).map(|i| f64::from(i * i * 7 % 1000 + i * 500)).map(f64::to_bits).collect();
        let bucket: Vec<u64> = below.iter().map(|b| (f64::from_bits(*b) + 1.0).to_bits()).collect();
        let ints = round_trip(&below, None).unwrap();
        let mut out = Vec::new();
        put(&mut out, &bucket, Some(&ints), Effort::Quick);
        assert!(leans(&out));
        assert!(out.len() < 10, "{}", out.len());
    }
}
