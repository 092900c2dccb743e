//! `Position`: how far a destination has acknowledged what the log holds.

use davy_model::Timestamp;
use davy_store::control::ForwardRecord;

/// Everything up to `record` was acknowledged, or will never be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) record: u64,
    /// Newest sample that was acknowledged.
    pub(super) newest: Timestamp,
    /// Samples before this were sent out of the sealed ones: the log may still hold some of them.
    pub(super) sealed_until: Timestamp,
    /// A round that was interrupted.
    pub(super) part: Option<Part>,
}

/// What was acknowledged of the records after [`Position::record`] up to `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) until: u64,
    /// By shard, how many of its samples and exemplars, in the order of the log. Their number deals the series.
    pub(super) done: Vec<usize>,
}

impl Position {
    /// Of a destination that is new: it gets what comes from now on.
    pub(super) fn begin(record: u64) -> Self {
        Self { record, newest: Timestamp::MIN, sealed_until: Timestamp::MIN, part: None }
    }

    pub(super) fn to_record(&self, destination: &str) -> ForwardRecord {
        let part = self.part.as_ref().map(|p| {
            let done: Vec<String> = p.done.iter().map(ToString::to_string).collect();
            format!(" until={} done={}", p.until, done.join(","))
        });
        ForwardRecord {
            destination: destination.to_owned(),
            record: self.record as i64,
            newest: self.newest,
            detail: format!("sealed={}{}", self.sealed_until.as_millis(), part.unwrap_or_default()),
        }
    }

    /// What makes no sense is left out: then more is sent again, and nothing is lost.
    pub(super) fn from_record(record: &ForwardRecord) -> Self {
        let word = |key: &str| record.detail.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        let sealed = word("sealed").and_then(|t| t.parse().ok());
        let done = |text: &str| text.split(',').map(|n| n.parse().ok()).collect::<Option<Vec<usize>>>();
        let part = || Some(Part { until: word("until")?.parse().ok()?, done: done(word("done")?)? });
        Self {
            record: record.record as u64,
            newest: record.newest,
            sealed_until: sealed.map_or(Timestamp::MIN, Timestamp::from_millis),
            part: part(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was_written() {
        let at = Timestamp::from_millis;
        let part = Some(Part { until: 19, done: vec![3, 0, 200] });
        for position in [
            Position::begin(7),
            Position { record: 9, newest: at(55), sealed_until: at(40), part },
            Position { record: 9, newest: at(-1), sealed_until: at(i64::MIN), part: None },
        ] {
            assert_eq!(Position::from_record(&position.to_record("x")), position);
        }
    }

    #[test]
    fn a_part_that_cannot_be_read_is_sent_again() {
        let record = |detail: &str| ForwardRecord {
            destination: "x".into(),
            record: 4,
            newest: Timestamp::from_millis(1),
            detail: detail.into(),
        };
        for detail in ["", "sealed=x", "until=9", "until=9 done=1,x", "done=1"] {
            assert_eq!(Position::from_record(&record(detail)).part, None, "{detail}");
        }
    }
}
