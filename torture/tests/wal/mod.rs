//! SQLite's write-ahead log as its file format says (https://sqlite.org/fileformat2.html#walformat): enough to sign
//! frames anew after they were changed, so that SQLite takes them for whole.

use std::collections::BTreeMap;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The same log with right checksums: of its header, and of every frame.
pub(crate) fn signed(mut log: Vec<u8>) -> Vec<u8> {
    let page = number(&log, 8) as usize;
    let big = number(&log, 0) & 1 == 1;
    let mut sum = checksum((0, 0), &log[..24], big);
    put(&mut log, 24, sum);
    let salts = log[16..24].to_vec();
    let mut at = HEADER;
    while at + FRAME_HEADER + page <= log.len() {
        log[at + 8..at + 16].copy_from_slice(&salts);
        sum = checksum(sum, &log[at..at + 8], big);
        sum = checksum(sum, &log[at + FRAME_HEADER..at + FRAME_HEADER + page], big);
        put(&mut log, at + 16, sum);
        at += FRAME_HEADER + page;
    }
    log
}

/// Where the pages begin that nothing later in the log replaces: what the database would be made of.
pub(crate) fn last_pages(log: &[u8]) -> Vec<usize> {
    let page = number(log, 8) as usize;
    let frames = (HEADER..log.len().saturating_sub(page)).step_by(FRAME_HEADER + page);
    let last: BTreeMap<u32, usize> = frames.map(|at| (number(log, at), at + FRAME_HEADER)).collect();
    last.into_values().collect()
}

fn number(log: &[u8], at: usize) -> u32 {
    log[at..].first_chunk().map_or(0, |b| u32::from_be_bytes(*b))
}

fn put(log: &mut [u8], at: usize, (a, b): (u32, u32)) {
    log[at..at + 4].copy_from_slice(&a.to_be_bytes());
    log[at + 4..at + 8].copy_from_slice(&b.to_be_bytes());
}

fn checksum((mut a, mut b): (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let word = |w: &[u8]| {
        let w: [u8; 4] = [w[0], w[1], w[2], w[3]];
        if big { u32::from_be_bytes(w) } else { u32::from_le_bytes(w) }
    };
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
    }
    (a, b)
}
