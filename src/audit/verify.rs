//! Is the audit what Davy wrote? Edits, removals and insertions break the chain; a chain that was written anew, or cut
//! at its end, disagrees with a checkpoint that is kept elsewhere.

use davy_store::audit::{AuditLog, Checkpoint, Hash, link};

use super::key::PublicKey;

/// What is wrong, at most.
const FAULTS_MAX: usize = 50;

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rows: i64,
    /// Checkpoints that agree, and the rows that the last of them covers.
    pub(super) checkpoints: usize,
    pub(super) covered: i64,
    pub(super) faults: Vec<String>,
}

/// `anchored` are checkpoints that were kept away from the database.
pub(super) fn verify(
    log: &AuditLog,
    key: Option<&PublicKey>,
    anchored: &[Checkpoint],
) -> Result<Report, davy_store::Error> {
    let mut report = Report::default();
    let stored = log.checkpoints()?;
    let mut wanted: Vec<&Checkpoint> = stored.iter().chain(anchored).collect();
    wanted.sort_by_key(|c| c.size);
    let mut wanted = wanted.into_iter().peekable();
    let mut before: Hash = [0; 32];
    let mut last = 0;
    log.each(|linked| {
        if linked.number != last + 1 {
            report.fault(format!("rows {} to {} are missing", last + 1, linked.number - 1));
        }
        let expected = link(&before, linked.number, &linked.row);
        match linked.hash {
            Some(hash) if hash == expected => {}
            Some(_) => report.fault(format!(
                "row {} is not what was written: its hash does not fit it and the row before",
                linked.number
            )),
            None => report.fault(format!("row {} was not written by Davy: it has no hash", linked.number)),
        }
        // From here on the rows are held against what they say now, so that one fault is one line.
        before = linked.hash.unwrap_or(expected);
        last = linked.number;
        report.rows = last;
        while let Some(checkpoint) = wanted.next_if(|c| c.size <= last) {
            report.hold_against(checkpoint, key, (checkpoint.size == last).then_some(before));
        }
        Ok::<(), davy_store::Error>(())
    })?;
    for checkpoint in wanted {
        report.fault(format!(
            "the audit ends at row {last}, and a checkpoint of {} covers {}: the end was cut off",
            davy_api::wire::rfc3339(checkpoint.at),
            checkpoint.size
        ));
    }
    for number in log.links_without_row()? {
        report.fault(format!("row {number} was removed: its hash is still there"));
    }
    Ok(report)
}

impl Report {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn hold_against(&mut self, checkpoint: &Checkpoint, key: Option<&PublicKey>, head: Option<Hash>) {
        let (size, at) = (checkpoint.size, davy_api::wire::rfc3339(checkpoint.at));
        if key.is_some_and(|key| !key.signed(checkpoint)) {
            return self.fault(format!("the checkpoint of {at} at row {size} is not signed with this key"));
        }
        if head != Some(checkpoint.head) {
            return self.fault(format!(
                "up to row {size} the audit is not what it was at the checkpoint of {at}: it was written anew"
            ));
        }
        self.checkpoints += 1;
        self.covered = self.covered.max(size);
    }
}
