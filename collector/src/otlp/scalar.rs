//! Numbers, texts and bytes of OTLP's JSON, in every way that ProtoJSON lets them be written.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserializer, Error, Visitor};

use super::json::{Budget, FromJson};

/// A number, a text, a truth value or null: whatever a scalar may be written as.
enum Scalar {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, string, boolean or null")
            }

            fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(v))
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Scalar, E> {
                Ok(Scalar::Int(v.into()))
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Scalar, E> {
                Ok(Scalar::Int(v.into()))
            }

            fn visit_f64<E: Error>(self, v: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(v))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(v.to_owned()))
            }
        }
        d.deserialize_any(Any)
    }

    /// `1`, `"1"`, `1.0` and `1e0` are the same integer.
    fn integer(&self) -> Option<i128> {
        let whole = |f: f64| (f.fract() == 0.0 && f.abs() < 1e19).then_some(f as i128);
        match self {
            Self::Null => Some(0),
            Self::Int(i) => Some(*i),
            Self::Float(f) => whole(*f),
            Self::Text(s) => s.parse().ok().or_else(|| whole(s.parse().ok()?)),
            Self::Bool(_) => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Self::Null => Some(0.0),
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            // Rust also reads "NaN", "Infinity" and "-Infinity".
            Self::Text(s) => s.parse().ok(),
            Self::Bool(_) => None,
        }
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl FromJson for $type {
            fn read<'de, D: Deserializer<'de>>(d: D, _: &Budget) -> Result<Self, D::Error> {
                let integer = Scalar::read(d)?.integer().and_then(|i| i.try_into().ok());
                integer.ok_or_else(|| D::Error::custom(concat!("not an integer that fits ", stringify!($type))))
            }
        }
    )*};
}

integers!(i32, u32, i64, u64);

impl FromJson for f64 {
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Budget) -> Result<Self, D::Error> {
        Scalar::read(d)?.float().ok_or_else(|| D::Error::custom("not a number"))
    }
}

impl FromJson for bool {
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Budget) -> Result<Self, D::Error> {
        match Scalar::read(d)? {
            Scalar::Null => Ok(false),
            Scalar::Bool(b) => Ok(b),
            Scalar::Int(_) | Scalar::Float(_) | Scalar::Text(_) => Err(D::Error::custom("not a boolean")),
        }
    }
}

impl FromJson for String {
    fn read<'de, D: Deserializer<'de>>(d: D, budget: &Budget) -> Result<Self, D::Error> {
        match Scalar::read(d)? {
            Scalar::Null => Ok(Self::new()),
            Scalar::Text(s) => {
                budget.take(s.len())?;
                Ok(s)
            }
            Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => Err(D::Error::custom("not a string")),
        }
    }
}

/// Bytes in base64, of either alphabet, padded or not.
#[derive(Default)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl FromJson for Base64 {
    fn read<'de, D: Deserializer<'de>>(d: D, budget: &Budget) -> Result<Self, D::Error> {
        let mut text = String::read(d, budget)?.replace('-', "+").replace('_', "/");
        text.truncate(text.trim_end_matches('=').len());
        text.extend(std::iter::repeat_n('=', text.len().wrapping_neg() % 4));
        BASE64.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// Ids, in hexadecimal.
impl FromJson for Vec<u8> {
    fn read<'de, D: Deserializer<'de>>(d: D, budget: &Budget) -> Result<Self, D::Error> {
        let text = String::read(d, budget)?;
        let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        let valid: Option<Self> = if rest.is_empty() { bytes } else { None };
        valid.ok_or_else(|| D::Error::custom(format_args!("not a hexadecimal id: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::json::from_slice;
    use crate::otlp::outcome::Refused;

    fn read<T: FromJson>(document: &str) -> Result<T, Refused> {
        from_slice(document.as_bytes(), 1 << 20)
    }

    #[test]
    fn integers_are_numbers_or_strings() {
        for document in ["7", "\"7\"", "7.0", "7e0", "\"7e0\""] {
            assert_eq!(read::<u64>(document), Ok(7), "{document}");
            assert_eq!(read::<i32>(document), Ok(7), "{document}");
        }
        assert_eq!(read::<u64>("\"18446744073709551615\""), Ok(u64::MAX));
        assert_eq!(read::<i64>("\"-9223372036854775808\""), Ok(i64::MIN));
        for document in ["-1", "1.5", "\"x\"", "true", "1e40", "{}", "\"SPAN_KIND_SERVER\""] {
            assert!(read::<u64>(document).is_err(), "{document}");
        }
    }

    #[test]
    fn doubles_may_be_special() {
        assert_eq!(read::<f64>("\"-Infinity\""), Ok(f64::NEG_INFINITY));
        assert!(read::<f64>("\"NaN\"").is_ok_and(f64::is_nan));
        assert_eq!(read::<f64>("3"), Ok(3.0));
        assert!(read::<f64>("\"\"").is_err());
    }

    #[test]
    fn ids_are_hexadecimal_and_bytes_are_base64() {
        assert_eq!(read::<Vec<u8>>("\"0aFf\""), Ok(vec![10, 255]));
        assert!(read::<Vec<u8>>("\"0xff\"").is_err() && read::<Vec<u8>>("\"abc\"").is_err());
        for document in ["\"+/8=\"", "\"+/8\"", "\"-_8\""] {
            assert_eq!(read::<Base64>(document).map(|b| b.0), Ok(vec![0xfb, 0xff]), "{document}");
        }
    }
}
