//! `U__http_2e_status` is `http.status`: how a name of any characters stands in a path.

const PREFIX: &str = "U__";
/// Hexadecimal digits of the largest character, U+10FFFF.
const DIGITS_MAX: usize = 6;

/// The name that was escaped; `None` if none was, and the text is the name.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix(PREFIX)?;
    let mut name = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('_')?;
        name.push(match &rest[..end] {
            "" => '_',
            digits if digits.len() <= DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            _ => return None,
        });
        rest = &rest[end + 1..];
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_prometheus_escapes_them() {
        for (text, name) in [
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___e9_t_e9_", "été"),
            ("U___1F600_", "😀"),
            ("U__plain", "plain"),
            ("U__", ""),
        ] {
            assert_eq!(unescape(text).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn what_is_not_escaped_is_the_name_itself() {
        for text in ["job", "__name__", "U_x", "U__a_", "U__a_2e", "U___d800_", "U___zz_", "U___1234567_"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_name_reads_back(name in "\\PC{0,12}") {
            let escape = |c: char| match c {
                '_' => "__".to_owned(),
                c if c.is_ascii_alphanumeric() => c.to_string(),
                c => format!("_{:x}_", u32::from(c)),
            };
            let escaped: String = name.chars().map(escape).collect();
            prop_assert_eq!(unescape(&format!("U__{escaped}")), Some(name));
        }
    }
}
