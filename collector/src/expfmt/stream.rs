//! A body of any length, read piece by piece: whole lines, a megabyte or so at a time.

use std::io::{self, Read};

use memchr::{memchr_iter, memrchr};

use super::{Event, Format, ParseError, parse};

/// Bytes of lines that are parsed together.
const PIECE_BYTES: usize = 1 << 20;
/// Longest line; a series has at most 256 labels.
const LINE_BYTES_MAX: usize = 4 << 20;
/// What closes OpenMetrics.
const EOF: &[u8] = b"# EOF\n";

/// Why reading stopped; `E` is what the visitor said.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E> {
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Parse(ParseError),
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    Line { line: usize },
    #[error("{0}")]
    Visit(E),
}

/// As [`parse`](super::parse), from a file or pipe of OpenMetrics. The visitor is told which line it is shown, or one
/// shortly before it, and may stop.
pub fn parse_openmetrics<E>(
    mut input: impl Read,
    mut visit: impl FnMut(usize, Event<'_, '_>) -> Result<(), E>,
) -> Result<(), StreamError<E>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + EOF.len());
    let mut lines_before = 0;
    loop {
        let more = fill(&mut input, &mut piece)?;
        // The last line waits for the next piece: it may be the one that closes the file.
        let whole = if more { before_last_line(&piece) } else { piece.len() };
        if whole == 0 && more {
            if piece.len() > LINE_BYTES_MAX {
                return Err(StreamError::Line { line: lines_before + 1 });
            }
            continue;
        }
        let rest = piece.split_off(whole);
        let lines = memchr_iter(b'\n', &piece).count();
        if more {
            piece.extend_from_slice(EOF);
        }
        let mut stopped = None;
        let parsed = parse(&piece, Format::OpenMetrics, |event| {
            if stopped.is_none() {
                stopped = visit(lines_before + 1, event).err();
            }
        });
        if let Some(why) = stopped {
            return Err(StreamError::Visit(why));
        }
        parsed.map_err(|e| StreamError::Parse(ParseError { line: e.line + lines_before, ..e }))?;
        if !more {
            return Ok(());
        }
        lines_before += lines;
        piece = rest;
    }
}

fn before_last_line(piece: &[u8]) -> usize {
    let line_before = |bytes: &[u8]| memrchr(b'\n', bytes);
    line_before(piece).and_then(|end| line_before(&piece[..end])).map_or(0, |at| at + 1)
}

/// Reads until there is a piece; `false` at the end.
fn fill(input: &mut impl Read, piece: &mut Vec<u8>) -> io::Result<bool> {
    let want = PIECE_BYTES.max(piece.len() + PIECE_BYTES / 4) - piece.len();
    let got = input.take(want as u64).read_to_end(piece)?;
    Ok(got == want)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(body: &str) -> Result<usize, StreamError<&'static str>> {
        let mut samples = 0;
        parse_openmetrics(body.as_bytes(), |_, event| {
            samples += usize::from(matches!(event, Event::Sample { .. }));
            Ok(())
        })?;
        Ok(samples)
    }

    fn body(lines: usize) -> String {
        (0..lines).map(|n| format!("a_metric{{n=\"{n}\"}} {n} 1767225600\n")).collect()
    }

    #[test]
    fn a_long_body_is_read_whole_and_must_be_closed() {
        let lines = 3 * PIECE_BYTES / 30;
        assert_eq!(count(&(body(lines) + "# EOF\n")).unwrap(), lines);
        assert_eq!(count(&(body(lines) + "# EOF")).unwrap(), lines);
        let unclosed = count(&body(lines)).unwrap_err().to_string();
        assert!(unclosed.contains("expected `# EOF`"), "{unclosed}");
        let exact = "# EOF\n";
        let exact = "x".repeat(PIECE_BYTES - 11 - exact.len()) + " 1 176722560\n" + exact;
        assert_eq!((exact.len() % PIECE_BYTES, count(&exact).unwrap()), (2, 1));
        let exact = exact.replacen("xx", "", 1);
        assert_eq!((exact.len() % PIECE_BYTES, count(&exact).unwrap()), (0, 1), "ends with a piece");
        let twice = count(&(body(lines) + "# EOF\n" + &body(lines) + "# EOF\n")).unwrap_err().to_string();
        assert!(twice.contains("nothing after `# EOF`"), "{twice}");
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_in_the_file() {
        let lines = 3 * PIECE_BYTES / 30;
        let wrong = count(&(body(lines) + "bad{ 1\n# EOF\n")).unwrap_err().to_string();
        assert!(wrong.starts_with(&format!("line {}, column 6", lines + 1)), "{wrong}");
        let long = format!("x{{a=\"{}", "y".repeat(2 * LINE_BYTES_MAX));
        assert!(matches!(count(&long), Err(StreamError::Line { line: 1 })));
    }

    #[test]
    fn a_visitor_may_stop() {
        let stopped = parse_openmetrics(&b"a 1 1\nb 2 2\n# EOF\n"[..], |_, _| Err("enough"));
        assert!(matches!(stopped, Err(StreamError::Visit("enough"))));
    }
}
