//! What stands between a release's verdict and its act, gathered for each release before it is stepped: holds, the
//! bounds of all releases together, and safety rules that fire.

use std::path::{Path, PathBuf};
use std::time::Duration;

use davy_alerting::alert::Alert;
use davy_alerting::release::{Gates, Taken};
use davy_model::{Timestamp, name};
use davy_store::control::AuditRecord;

use super::super::drill::Drills;
use super::Watch;

/// A file of this name in the data folder holds everything, and works when nothing else does. What stands in it is
/// the reason.
pub(crate) const HOLD_FILE: &str = "HOLD";
const HOLD_CHARS_MAX: usize = 200;

/// The hold file, if it is there.
pub(crate) fn hold_file(folder: &Path) -> Option<String> {
    let path = folder.join(HOLD_FILE);
    // A file that cannot be read holds as well.
    if !path.try_exists().unwrap_or(true) {
        return None;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let line: String = text.trim().chars().filter(|c| !c.is_control()).take(HOLD_CHARS_MAX).collect();
    Some(if line.is_empty() {
        format!("the file {HOLD_FILE}")
    } else {
        format!("the file {HOLD_FILE}: {line}")
    })
}

impl Watch {
    /// Holds are files in this folder.
    pub fn with_folder(self, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..self }
    }

    pub(crate) fn with_drills(self, drills: Drills) -> Self {
        Self { drills, ..self }
    }

    /// How far the wall clock and a monotonic clock moved since the last tick.
    pub fn clocks(&mut self, now: Timestamp, wall: Duration, monotonic: Duration) {
        self.guard.clocks(now, wall, monotonic);
    }

    /// Looks for the hold file; that it came or went is written down.
    pub(super) fn look_for_hold(&mut self, now: Timestamp) {
        let held = self.folder.as_deref().and_then(hold_file);
        if held == self.hold {
            return;
        }
        let (action, reason) = match (&held, &self.hold) {
            (Some(by), _) => ("hold", by.clone()),
            (None, was) => ("resume", format!("{} is gone", was.as_deref().unwrap_or(HOLD_FILE))),
        };
        self.unwritten.audit.push(AuditRecord {
            at: now,
            actor: "file".to_owned(),
            action: action.to_owned(),
            target: "everything".to_owned(),
            reason: reason.clone(),
            outcome: "seen".to_owned(),
        });
        self.say(now, format!("{action} everything: {reason}"));
        self.hold = held;
    }

    pub(super) fn gates(&self, now: Timestamp, generation: i64) -> Gates {
        let Some(running) = self.running.get(&generation) else { return Gates::default() };
        let machine = running.machine();
        let others: Vec<Taken> = self
            .running
            .iter()
            .filter(|(number, _)| **number != generation)
            .flat_map(|(_, r)| r.machine().taken())
            .collect();
        // One that is under way has had its place when it was intended.
        let under_way = machine.taken().any(|t| t.open);
        let blocked = if machine.policy().drill.is_some() {
            None
        } else if under_way {
            self.guard.is_suspect(now).then(|| "the clock jumped".to_owned())
        } else {
            self.guard.blocks(now, machine.service(), machine.canary(), &others)
        };
        Gates {
            hold: self.hold.clone(),
            blocked,
            approval: self.guard.asks(now).filter(|_| machine.policy().drill.is_none()),
            alarm: self.alarm(machine.service(), machine.canary(), &machine.policy().safety_rules),
        }
    }

    /// A safety rule that fires for the service, and not for another version of it.
    fn alarm(&self, service: &str, canary: &str, rules: &[String]) -> Option<String> {
        if rules.is_empty() {
            return None;
        }
        let concerns = |alert: &Alert| {
            rules.iter().any(|r| r == alert.name())
                && alert.labels.get(name::SERVICE) == Some(service)
                && alert.labels.get(name::VERSION).is_none_or(|v| v == canary)
        };
        let (_, alert) = self.book.open().find(|(_, alert)| concerns(alert))?;
        Some(format!("the safety rule {} fires", alert.name()))
    }
}
