//! The ledger: which writes were acknowledged. One line each, so that it can cross a pipe out of a process that
//! is about to be killed.

use std::fmt;
use std::str::FromStr;

use davy_store::{Error, Refusal};

/// What a write is made of; see `payload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Floats, histograms and an exemplar of one source at one time, as a scrape brings them.
    Scrape,
    /// The same and two spans in one batch, as OTLP brings them.
    Push,
    /// Six rows of the control database in one transaction.
    Decision,
    /// A release under a new generation, with its audit row.
    Release,
}

/// One write: everything in it follows from these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub what: What,
    pub source: u32,
    /// Its number among those of its source; never used twice.
    pub sequence: u64,
    /// Milliseconds; never twice the same of one source.
    pub at: i64,
}

impl Entry {
    /// Whether it went to the telemetry database.
    pub fn is_telemetry(&self) -> bool {
        matches!(self.what, What::Scrape | What::Push)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Scrape => "scrape",
            What::Push => "push",
            What::Decision => "decision",
            What::Release => "release",
        };
        write!(f, "{what} {} {} {}", self.source, self.sequence, self.at)
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let bad = || format!("{line:?} is no line of the ledger");
        let mut words = line.split(' ');
        let what = match words.next() {
            Some("scrape") => What::Scrape,
            Some("push") => What::Push,
            Some("decision") => What::Decision,
            Some("release") => What::Release,
            _ => return Err(bad()),
        };
        let mut number = || words.next().and_then(|w| w.parse::<i64>().ok()).ok_or_else(bad);
        let (source, sequence, at) = (number()?, number()?, number()?);
        let source = u32::try_from(source).map_err(|_| bad())?;
        Ok(Self { what, source, sequence: u64::try_from(sequence).map_err(|_| bad())?, at })
    }
}

/// When a write is taken for acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// Once the store says so.
    OnReturn,
    /// Before it was committed: what must be caught.
    TooEarly,
    /// Whatever the store says: what must be caught.
    DespiteErrors,
}

/// Why a write was not taken.
#[derive(Debug, Clone)]
pub enum Refused {
    Sample(Refusal),
    Store(Error),
}

impl From<Error> for Refused {
    fn from(e: Error) -> Self {
        Self::Store(e)
    }
}

impl From<Refusal> for Refused {
    fn from(r: Refusal) -> Self {
        Self::Sample(r)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample(r) => r.fmt(f),
            Self::Store(e) => e.fmt(f),
        }
    }
}

/// Where acknowledged writes go.
pub struct Ledger<'a> {
    acknowledge: Acknowledge,
    sink: &'a mut dyn FnMut(Entry),
}

impl<'a> Ledger<'a> {
    pub fn new(acknowledge: Acknowledge, sink: &'a mut dyn FnMut(Entry)) -> Self {
        Self { acknowledge, sink }
    }

    /// Writes, and enters what that acknowledges.
    pub fn attempt(
        &mut self,
        entries: &[Entry],
        write: impl FnOnce() -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut enter = || entries.iter().for_each(|e| (self.sink)(*e));
        if self.acknowledge == Acknowledge::TooEarly {
            enter();
            return write();
        }
        let result = write();
        if result.is_ok() || self.acknowledge == Acknowledge::DespiteErrors {
            enter();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_half_a_line_is_not() {
        for what in [What::Scrape, What::Push, What::Decision, What::Release] {
            let entry = Entry { what, source: 3, sequence: 17, at: -5 };
            assert_eq!(entry.to_string().parse(), Ok(entry));
        }
        for line in ["", "push", "push 1 2", "push 1 -2 3", "nothing 1 2 3"] {
            assert!(line.parse::<Entry>().is_err(), "{line}");
        }
    }
}
