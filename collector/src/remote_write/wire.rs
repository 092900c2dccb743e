//! Protobuf walked in place: the fields of a message one after another, nothing copied.

/// The bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(b) => Ok(b),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32 => {
                Err(Malformed("a number in place of bytes"))
            }
        }
    }

    pub(super) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(n) => Ok(n),
            Self::Bytes(_) | Self::Fixed64(_) | Self::Fixed32 => {
                Err(Malformed("no varint where one belongs"))
            }
        }
    }

    pub(super) fn double(self) -> Result<f64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            Self::Bytes(_) | Self::Varint(_) | Self::Fixed32 => Err(Malformed("no double where one belongs")),
        }
    }
}

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a>(pub(super) &'a [u8]);

impl<'a> Message<'a> {
    /// Number and content of the next field; `None` at the end.
    #[inline]
    pub(super) fn field(&mut self) -> Result<Option<(u64, Field<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = varint(&mut self.0).ok_or(Malformed("truncated field number"))?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut self.0).ok_or(Malformed("truncated number"))?),
            1 => {
                let (bits, rest) = self.0.split_first_chunk().ok_or(Malformed("truncated double"))?;
                self.0 = rest;
                Field::Fixed64(u64::from_le_bytes(*bits))
            }
            2 => Field::Bytes(self.delimited()?),
            5 => {
                self.0 = self.0.get(4..).ok_or(Malformed("truncated float"))?;
                Field::Fixed32
            }
            _ => return Err(Malformed("unknown wire type")),
        };
        Ok(Some((tag >> 3, field)))
    }

    /// A length and as many bytes, for a field whose tag has been read.
    #[inline]
    pub(super) fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = varint(&mut self.0).ok_or(Malformed("truncated length"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (content, rest) = self.0.split_at_checked(length).ok_or(Malformed("truncated field"))?;
        self.0 = rest;
        Ok(content)
    }
}

#[inline]
pub(super) fn varint(body: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = body.split_first()?;
    if first < 0x80 {
        *body = rest;
        return Some(u64::from(first));
    }
    let mut value = 0u64;
    for (i, byte) in body.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i as u32);
        if byte & 0x80 == 0 {
            *body = &body[i + 1..];
            return Some(value);
        }
    }
    None
}

/// A `sint32` or `sint64`.
pub(super) fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wire_type_is_read_and_what_is_cut_off_is_refused() {
        let bytes = [8, 0x96, 1, 17, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 26, 2, b'h', b'i', 37, 1, 2, 3, 4];
        let mut m = Message(&bytes);
        assert_eq!(m.field(), Ok(Some((1, Field::Varint(150)))));
        assert_eq!(m.field(), Ok(Some((2, Field::Fixed64(1f64.to_bits())))));
        assert_eq!(m.field(), Ok(Some((3, Field::Bytes(b"hi")))));
        assert_eq!(m.field(), Ok(Some((4, Field::Fixed32))));
        assert_eq!(m.field(), Ok(None));
        let ends = [3, 12, 16];
        for cut in (1..bytes.len()).filter(|cut| !ends.contains(cut)) {
            let mut m = Message(&bytes[..cut]);
            let broken = loop {
                match m.field() {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(broken, "cut at {cut}");
        }
    }

    #[test]
    fn numbers_without_end_and_unknown_wire_types_are_refused() {
        assert!(Message(&[0x80; 30]).field().is_err());
        assert!(Message(&[0x0b, 1]).field().is_err());
        assert_eq!([0, 1, 2, 3].map(unzigzag), [0, -1, 1, -2]);
        assert_eq!(unzigzag(u64::MAX), i64::MIN);
    }
}
