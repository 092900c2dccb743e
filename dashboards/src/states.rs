//! States as numbers, and as words for a board.
//!
//! A state's number is its place in the table. Tables only grow at their end: what is stored keeps its meaning.

use crate::build::Color;

/// One state: as Davy writes it, as a person reads it, how it looks.
#[derive(Debug, Clone, Copy)]
pub struct State {
    pub name: &'static str,
    pub text: &'static str,
    pub color: Color,
}

pub type Table = &'static [State];

const fn state(name: &'static str, text: &'static str, color: Color) -> State {
    State { name, text, color }
}

/// `None` for a state that the table does not have.
pub fn code(table: Table, name: &str) -> Option<f64> {
    table.iter().position(|s| s.name == name).map(|i| i as f64)
}

pub const PHASES: Table = &[
    state("watching", "Watching", Color::Blue),
    state("holding", "On hold", Color::Yellow),
    state("promoting", "Promoting", Color::LightGreen),
    state("promoted", "Promoted", Color::Green),
    state("rolling_back", "Rolling back", Color::Orange),
    state("verifying", "Verifying the rollback", Color::LightOrange),
    state("rolled_back", "Rolled back", Color::Purple),
    state("needs_human", "Needs a human", Color::Red),
    state("closed", "Over", Color::Gray),
];

pub const VERDICTS: Table = &[
    state("insufficient", "Not decided yet", Color::Blue),
    state("pass", "No worse", Color::Green),
    state("fail", "Worse", Color::Red),
];

pub const CONTRACTS: Table = &[
    state("ok", "Data is good", Color::Green),
    state("warming_up", "Warming up", Color::Blue),
    state("canary_missing", "Canary is not seen", Color::Orange),
    state("baseline_missing", "Baseline is not seen", Color::Orange),
    state("blind", "Davy sees nothing", Color::Red),
    state("no_traffic", "No traffic", Color::Yellow),
    state("nothing_to_judge", "No metric to judge", Color::Orange),
    state("same_version", "Same version twice", Color::Orange),
    state("selector_empty", "A selector finds nothing", Color::Orange),
    state("selector_ambiguous", "A selector is ambiguous", Color::Orange),
    state("clock_skew", "A clock is off", Color::Orange),
    state("stale_scrape", "Scrapes bring nothing new", Color::Orange),
    state("crash_loop", "Crash loop", Color::Red),
    state("traffic_split", "Traffic is split otherwise", Color::Orange),
];

pub const ACTIONS: Table = &[
    state("calling", "Calling", Color::Blue),
    state("waiting", "Not sent, trying again", Color::Yellow),
    state("undelivered", "Not delivered", Color::Red),
    state("accepted", "Accepted, verifying", Color::LightOrange),
    state("rejected", "Rejected", Color::Red),
    state("unknown", "May have been carried out", Color::Orange),
    state("verified", "Verified", Color::Green),
    state("unverified", "Not verified", Color::Red),
    state("reading", "Reading the target", Color::Blue),
    state("adopted", "Done by someone else", Color::Green),
    state("recorded", "Dry run", Color::Yellow),
];

/// Why a metric has its verdict; what keeps the whole release from being judged keeps each of its metrics.
pub const REASONS: Table = &[
    state("worse", "Worse beyond the margin", Color::Red),
    state("no_worse", "No worse than the margin", Color::Green),
    state("needs_more_data", "Needs more data", Color::Blue),
    state("never_at_this_traffic", "Cannot be decided at this traffic", Color::Yellow),
    state("nothing_to_compare", "Nothing to compare yet", Color::Gray),
    state("undecided", "May be chance", Color::Blue),
    CONTRACTS[1],
    CONTRACTS[2],
    CONTRACTS[3],
    CONTRACTS[4],
    CONTRACTS[5],
    CONTRACTS[6],
    CONTRACTS[7],
    CONTRACTS[8],
    CONTRACTS[9],
    CONTRACTS[10],
    CONTRACTS[11],
    CONTRACTS[12],
    CONTRACTS[13],
];

/// What is seen of a canary, or what stands in the way of seeing it.
pub const SIGHTS: Table = &[
    state("clear", "Seen", Color::Green),
    state("engine_blind", "Davy sees nothing", Color::Red),
    state("partial_blind", "Davy sees a part", Color::Orange),
    state("canary_down", "Canary is down", Color::Red),
    state("canary_hung", "Canary hangs", Color::Red),
    state("service_down", "Both versions are down", Color::Orange),
    state("bad_exposition", "Answers cannot be read", Color::Orange),
];

/// The release's own series for "this happened then".
pub const EVENTS: Table = &[
    state("deploy", "Deployed", Color::Blue),
    state("fail", "Judged worse", Color::Red),
    state("pass", "Judged no worse", Color::Green),
    state("rollback", "Rollback", Color::Red),
    state("rolled_back", "Rolled back", Color::Purple),
    state("promote", "Promoted", Color::Green),
    state("hold", "Put on hold", Color::Yellow),
    state("resume", "Resumed", Color::Blue),
    state("needs_human", "Needs a human", Color::Red),
    state("close", "Over", Color::Gray),
];
