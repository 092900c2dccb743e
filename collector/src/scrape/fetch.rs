//! One request to a target: headers out, a bounded and decompressed body in.

use std::error::Error as _;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use davy_egress::{EgressError, HttpClient, describe};
use flate2::write::MultiGzDecoder;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::error::{LimitError, Reason, ScrapeError};
use crate::expfmt::Format;
use crate::target::ScrapeTarget;

/// OpenMetrics first, for its start times and exemplars; then text.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
     application/openmetrics-text;version=0.0.1;q=0.4,\
     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
     text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// What a target answered.
pub(super) struct Fetched {
    pub(super) format: Format,
    /// The whole body if it came in one piece, else empty and the body is where it was gathered.
    piece: Bytes,
}

impl Fetched {
    pub(super) fn body<'a>(&'a self, gathered: &'a [u8]) -> &'a [u8] {
        if self.piece.is_empty() { gathered } else { &self.piece }
    }
}

/// Asks the target, within its timeout from the first packet to the last. A body of several pieces is gathered in
/// `gathered`.
pub(super) async fn fetch(
    client: &HttpClient,
    target: &ScrapeTarget,
    body_bytes_max: u64,
    gathered: &mut Vec<u8>,
) -> Result<Fetched, ScrapeError> {
    gathered.clear();
    let answer = fetch_untimed(client, target, body_bytes_max, gathered);
    let after = target.timeout;
    tokio::time::timeout(after, answer).await.unwrap_or(Err(ScrapeError::Timeout { after }))
}

async fn fetch_untimed(
    client: &HttpClient,
    target: &ScrapeTarget,
    body_bytes_max: u64,
    gathered: &mut Vec<u8>,
) -> Result<Fetched, ScrapeError> {
    let request = client.get(&target.url).await?;
    let request = request
        .header(ACCEPT, HeaderValue::from_static(ACCEPTED))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))
        .header(TIMEOUT_HEADER, seconds(target.timeout));
    let mut response = request.send().await.map_err(|e| connection_error(&e))?;
    check_status(response.status())?;
    let header = |name| header(response.headers(), name);
    let format = Format::from_content_type(&header(CONTENT_TYPE));
    let encoding = header(CONTENT_ENCODING).to_ascii_lowercase();
    let bounded = Bounded { body: gathered, max: body_bytes_max, exceeded: false };
    let mut sink = Sink::new(&encoding, bounded)?;
    while let Some(chunk) = response.chunk().await.map_err(|e| connection_error(&e))? {
        sink.write(chunk)?;
    }
    Ok(Fetched { format, piece: sink.finish()? })
}

/// As Prometheus writes it: `10`, `0.5`.
fn seconds(d: Duration) -> String {
    d.as_secs_f64().to_string()
}

fn header(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
}

fn check_status(status: StatusCode) -> Result<(), ScrapeError> {
    let hint = match status {
        StatusCode::OK => return Ok(()),
        s if s.is_redirection() => " (redirects are not followed unless follow_redirects is set)",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (see basic_auth and authorization)",
        _ => "",
    };
    Err(ScrapeError::Status { status, hint })
}

fn connection_error(error: &reqwest::Error) -> ScrapeError {
    let mut reason = Reason::Connection;
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(egress) = cause.downcast_ref::<EgressError>() {
            reason = match egress {
                EgressError::Forbidden { .. } => Reason::Config,
                EgressError::Resolve { .. } | EgressError::NoAddress { .. } => Reason::Dns,
            };
        } else if cause.is::<rustls::Error>() || is_tls_inside(cause) {
            reason = Reason::Tls;
        } else if cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        {
            reason = Reason::Refused;
        }
        next = cause.source();
    }
    ScrapeError::Connection { reason, message: describe(error) }
}

/// An I/O error does not count what it wraps among its sources, and may wrap another one.
fn is_tls_inside(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    while let Some(inner) = next {
        if inner.downcast_ref::<rustls::Error>().is_some() {
            return true;
        }
        next = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    }
    false
}

/// Takes bytes up to a limit. What is compressed is counted as it unfolds, so that a bomb goes off small.
struct Bounded<'a> {
    body: &'a mut Vec<u8>,
    max: u64,
    exceeded: bool,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.body.len() as u64 + bytes.len() as u64 > self.max {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Sink<'a> {
    /// A body that comes in one piece is not copied: it is `first`.
    Plain {
        first: Bytes,
        rest: Bounded<'a>,
    },
    Gzip(Box<MultiGzDecoder<Bounded<'a>>>),
}

impl<'a> Sink<'a> {
    fn new(encoding: &str, body: Bounded<'a>) -> Result<Self, ScrapeError> {
        match encoding {
            "" | "identity" => Ok(Self::Plain { first: Bytes::new(), rest: body }),
            "gzip" | "x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(body)))),
            other => Err(ScrapeError::Encoding { got: other.to_owned() }),
        }
    }

    fn write(&mut self, chunk: Bytes) -> Result<(), ScrapeError> {
        let result = match self {
            Self::Plain { first, rest } => {
                if first.is_empty() && rest.body.is_empty() && chunk.len() as u64 <= rest.max {
                    *first = chunk;
                    return Ok(());
                }
                rest.write_all(&std::mem::take(first)).and_then(|()| rest.write_all(&chunk))
            }
            Self::Gzip(decoder) => decoder.write_all(&chunk),
        };
        result.map_err(|_| self.error())
    }

    /// The piece that was not copied.
    fn finish(mut self) -> Result<Bytes, ScrapeError> {
        match &mut self {
            Self::Plain { first, .. } => Ok(std::mem::take(first)),
            Self::Gzip(decoder) => decoder.try_finish().map(|()| Bytes::new()).map_err(|_| self.error()),
        }
    }

    fn error(&self) -> ScrapeError {
        let body = match self {
            Self::Plain { rest, .. } => rest,
            Self::Gzip(decoder) => decoder.get_ref(),
        };
        if body.exceeded { LimitError::Body { max: body.max }.into() } else { ScrapeError::Gzip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn take(encoding: &str, chunks: &[&[u8]], max: u64) -> (Vec<u8>, Result<Bytes, String>) {
        let mut body = Vec::new();
        let mut sink = Sink::new(encoding, Bounded { body: &mut body, max, exceeded: false }).unwrap();
        let mut chunks = chunks.iter().map(|c| Bytes::copy_from_slice(c));
        let written = chunks.try_for_each(|c| sink.write(c)).and_then(|()| sink.finish());
        (body, written.map_err(|e| e.to_string()))
    }

    fn unfold(chunks: &[&[u8]], max: u64) -> (Vec<u8>, Result<Bytes, String>) {
        take("gzip", chunks, max)
    }

    #[test]
    fn a_plain_body_is_whole_in_one_piece_or_gathered() {
        let piece = |text: &'static [u8]| Ok(Bytes::from_static(text));
        assert_eq!(take("", &[b"a 1\n"], 4), (vec![], piece(b"a 1\n")));
        assert_eq!(take("", &[], 4), (vec![], piece(b"")));
        assert_eq!(take("", &[b"a ", b"1", b"\n"], 4), (b"a 1\n".to_vec(), piece(b"")));
        let too_long = Err("the body has more than 3 bytes when decompressed".to_owned());
        assert_eq!(take("", &[b"a 1\n"], 3).1, too_long);
        assert_eq!(take("", &[b"a 1", b"\n"], 3).1, too_long);
    }

    #[test]
    fn members_one_after_another_are_one_body() {
        let (a, b) = (gzip(b"a 1\n"), gzip(b"b 2\n"));
        assert_eq!(unfold(&[&a[..5], &a[5..], &b], 100), (b"a 1\nb 2\n".to_vec(), Ok(Bytes::new())));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        let (body, result) = unfold(&[&bomb], 1 << 20);
        assert_eq!(result, Err("the body has more than 1048576 bytes when decompressed".to_owned()));
        assert!(body.capacity() <= 2 << 20, "{}", body.capacity());
    }

    #[test]
    fn a_cut_or_damaged_body_is_refused() {
        let whole = gzip(&b"metric 1\n".repeat(1000));
        let mut damaged = whole.clone();
        damaged[20] ^= 0xff;
        for bad in [&whole[..whole.len() - 3], &damaged] {
            assert_eq!(unfold(&[bad], 1 << 20).1, Err("the gzip body is damaged or cut off".to_owned()));
        }
    }

    #[test]
    fn other_encodings_are_refused() {
        let mut body = Vec::new();
        let result = Sink::new("br", Bounded { body: &mut body, max: 1, exceeded: false });
        assert_eq!(result.err().map(|e| e.reason()), Some(Reason::Parse));
    }
}
