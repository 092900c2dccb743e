//! Protobuf read in place: a message is its fields, a field is its number and what lies on the wire.
//!
//! As strict as prost: field numbers from one on, numbers of at most 64 bits, no groups.

use super::outcome::Refused;

/// Why bytes are no message: small, because it is part of what every field gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl From<Broken> for Refused {
    fn from(Broken(what): Broken) -> Self {
        Self::Malformed(format!("not an OTLP protobuf message: {what}"))
    }
}

/// What follows a field's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message that are still to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// `None` at the end of the message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Broken> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint().ok_or(Broken("truncated field number"))?;
        let number = u32::try_from(tag).map_err(|_| Broken("field number of more than 32 bits"))? >> 3;
        if number == 0 {
            return Err(Broken("field number zero"));
        }
        let field = match tag & 7 {
            0 => Field::Varint(self.varint().ok_or(Broken("truncated number"))?),
            1 => {
                let (bytes, rest) = self.0.split_first_chunk().ok_or(Broken("truncated field"))?;
                self.0 = rest;
                Field::Fixed64(u64::from_le_bytes(*bytes))
            }
            2 => {
                let length = self.varint().ok_or(Broken("truncated length"))?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Broken("truncated field"))?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            5 => {
                let (_, rest) = self.0.split_first_chunk::<4>().ok_or(Broken("truncated field"))?;
                self.0 = rest;
                Field::Fixed32
            }
            _ => return Err(Broken("unknown wire type")),
        };
        Ok(Some((number, field)))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first()?;
        if *first < 0x80 {
            self.0 = rest;
            return Some(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i as u32);
            if *byte < 0x80 {
                self.0 = &self.0[i + 1..];
                return (i < 9 || *byte < 2).then_some(value);
            }
        }
        None
    }
}

/// A field that is known and has another type than it should.
pub(crate) const WRONG_TYPE: Broken = Broken("a field is of another wire type");

pub(crate) fn check_text(text: &[u8]) -> Result<(), Broken> {
    if text.is_empty() {
        return Ok(());
    }
    std::str::from_utf8(text).map(drop).map_err(|_| Broken("text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_one_by_one() {
        let message = [
            1 << 3,
            0x96,
            1,
            2 << 3 | 1,
            1,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            3 << 3 | 2,
            2,
            7,
            8,
            4 << 3 | 5,
            1,
            2,
            3,
            4,
        ];
        let mut fields = Fields(&message);
        let mut got = Vec::new();
        while let Some(field) = fields.next().expect("valid") {
            got.push(field);
        }
        let want = [Field::Varint(150), Field::Fixed64(1), Field::Bytes(&[7, 8]), Field::Fixed32];
        assert_eq!(got, (1..).zip(want).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_field_is_refused() {
        let endless = [[0xff; 10].as_slice(), &[2]].concat();
        for bytes in [&[0x80][..], &[8], &[9, 1, 2], &[10, 3, 1], &[13, 1], &[11], &[7], &[0, 0], &endless] {
            assert!(Fields(bytes).next().is_err(), "{bytes:?}");
        }
    }
}
