//! Scalars of the file that are more than text: durations, sizes, label names, URLs, addresses.
//!
//! Each error says what would be right; what was got is added by the caller.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Url;

use super::reader::Field;

/// Longest duration that is taken; beyond it lies a slip of the pen.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Bounds a label name, as `collector` bounds scraped ones.
const LABEL_NAME_BYTES_MAX: usize = 256;

/// Prometheus' notation: `1h30m`, `15s`, `500ms`, `0`; years, weeks and days are fixed lengths.
pub fn duration(text: &str) -> Result<Duration, String> {
    match long_duration(text)? {
        d if d > DURATION_MAX => Err("the duration is longer than 100 years".to_owned()),
        d => Ok(d),
    }
}

/// The same of any length.
pub(super) fn long_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let wrong =
        || "expected a duration such as 15s, 1h30m or 500ms (units y w d h m s ms, largest first)".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut units, mut total) = (text, &UNITS[..], 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let at = units.iter().position(|(u, _)| *u == &rest[..letters]).ok_or_else(wrong)?;
        let ms = count.checked_mul(units[at].1).and_then(|ms| total.checked_add(ms));
        total = ms.ok_or_else(|| "the duration is too long".to_owned())?;
        (rest, units) = (&rest[letters..], &units[at + 1..]);
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

/// A duration above zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("expected a duration above zero, such as 15s".to_owned()),
        d => Ok(d),
    }
}

/// The duration in the same notation, for messages.
pub fn show_duration(d: Duration) -> String {
    const UNITS: [(&str, u128); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut ms = d.as_millis();
    let mut out = String::new();
    for (unit, length) in UNITS {
        if ms >= length {
            out += &format!("{}{unit}", ms / length);
            ms %= length;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Prometheus' notation, base 1024: `512MB`, `10MiB`, `1.5GB`, `100B`, `0`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "expected a size such as 512KB, 10MB or 1.5GB (base 1024)".to_owned();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = (&text[..split], &text[split..]);
    let shift = match unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')) {
        Some("") => 0,
        Some("K" | "k") => 10,
        Some("M") => 20,
        Some("G") => 30,
        Some("T") => 40,
        Some("P") => 50,
        None if unit.is_empty() && number == "0" => 0,
        _ => return Err(wrong()),
    };
    if unit == "iB" || number.is_empty() || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(wrong());
    }
    let too_large = || "the size is too large".to_owned();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(too_large);
    }
    let value = number.parse::<f64>().map_err(|_| wrong())? * (1u64 << shift) as f64;
    // 2^53: up to here every whole number of bytes is exact.
    if value <= 9_007_199_254_740_992.0 { Ok(value as u64) } else { Err(too_large()) }
}

/// Any UTF-8 name, as Prometheus 3; names that begin with `__` are for machines.
pub(super) fn label_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a label name cannot be empty".to_owned());
    }
    if name.len() > LABEL_NAME_BYTES_MAX {
        return Err(format!("a label name has at most {LABEL_NAME_BYTES_MAX} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err("a label name cannot hold control characters".to_owned());
    }
    Ok(())
}

/// Label names with their values; reports bad names. `reserved` says whether `__names__` are refused.
pub(super) fn labels(field: &Field<'_>, reserved: bool) -> std::collections::BTreeMap<String, String> {
    for (name, value) in field.entries() {
        let check = label_name(&name).and_then(|()| match reserved && name.starts_with("__") {
            true => Err("label names that start with `__` are reserved".to_owned()),
            false => Ok(()),
        });
        if let Err(e) = check {
            value.error(format!("got label name {name:?}: {e}"));
        }
    }
    field.strings()
}

/// An absolute http(s) URL without credentials. The text is never repeated: URLs carry secrets.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let example = "expected an absolute URL such as https://host:port/path";
    let url = Url::parse(text).map_err(|e| format!("{e}; {example}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("its scheme is neither http nor https; {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it carries a user name or password; those belong under `basic_auth` or `authorization`"
            .to_owned());
    }
    Ok(text.to_owned())
}

/// Why an address cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    #[error("got {got:?}: expected an address and port such as 127.0.0.1:9600, localhost:9600 or [::1]:9600")]
    NoAddress { got: String },
    #[error(
        "{got} is not a loopback address, and authentication is not available yet: whoever reaches it could \
         read everything and feed the judge; listen on 127.0.0.1:{port} and reach it by an SSH tunnel \
         (ssh -L {port}:127.0.0.1:{port} HOST) or by a reverse proxy with authentication on the same host"
    )]
    NotLoopback { got: SocketAddr, port: u16 },
}

/// Parses an address to listen on; only loopback is taken.
pub fn check_listen(address: &str) -> Result<SocketAddr, ListenError> {
    let no_address = || ListenError::NoAddress { got: address.chars().take(80).collect() };
    let full = if let Some(port) = address.strip_prefix("localhost:") {
        format!("127.0.0.1:{port}")
    } else if let Some(port) = address.strip_prefix(':') {
        // Prometheus' and Go's "every address".
        format!("0.0.0.0:{port}")
    } else {
        address.to_owned()
    };
    let parsed: SocketAddr = full.parse().map_err(|_| no_address())?;
    if parsed.ip().to_canonical().is_loopback() {
        return Ok(parsed);
    }
    Err(ListenError::NotLoopback { got: parsed, port: parsed.port() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_prometheus_reads_them() {
        let ms = |t| duration(t).map(|d| d.as_millis());
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("1y2w3d4h5m6s7ms"), Ok(33_019_506_007));
        assert_eq!((ms("0"), ms("0s")), (Ok(0), Ok(0)));
        for wrong in
            ["", "15", "s", "1.5s", "-1s", "1m1h", "1s1s", "1 s", "1S", "1é", "99999999999999999999s", "200y"]
        {
            assert!(ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_print_as_they_are_read() {
        for text in ["0s", "15s", "1h30m", "500ms", "3m", "15d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_are_base_1024_with_and_without_the_i() {
        assert_eq!(bytes("10MB"), Ok(10 << 20));
        assert_eq!(bytes("10MiB"), Ok(10 << 20));
        assert_eq!(bytes("1.5KB"), Ok(1536));
        assert_eq!(bytes("0"), Ok(0));
        for wrong in ["", "10", "MB", "10mb", "1e3KB", "-1KB", "99999PB", "1iB", "."] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_loopback_is_listened_on() {
        for ok in ["127.0.0.1:9600", "localhost:1", "[::1]:4317", "127.9.9.9:80", "[::ffff:127.0.0.1]:80"] {
            assert!(check_listen(ok).is_ok(), "{ok}");
        }
        for open in ["0.0.0.0:9600", ":9600", "[::]:1", "10.0.0.1:80", "[::ffff:10.0.0.1]:80"] {
            assert!(matches!(check_listen(open), Err(ListenError::NotLoopback { .. })), "{open}");
        }
        for wrong in ["", "9600", "127.0.0.1", "localhost", "example.com:80", "127.0.0.1:99999"] {
            assert!(matches!(check_listen(wrong), Err(ListenError::NoAddress { .. })), "{wrong}");
        }
    }

    #[test]
    fn errors_about_urls_do_not_repeat_them() {
        for url in
            ["hunter2", "ftp://hunter2/", "https://u:hunter2@h/", "http://[hunter2", "http://h:hunter2/"]
        {
            let error = http_url(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
