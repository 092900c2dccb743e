//! Silences: asked for over the API, kept in the control database with an audit row, gone when they end.

use davy_alerting::record::{silence_of, silence_record};
use davy_alerting::silence::{SILENCES_MAX, Silence};
use davy_api::SilenceChange;
use davy_model::Timestamp;
use davy_store::control::AuditRecord;
use tracing::error;

use super::{Errand, Watch};

impl Watch {
    pub(super) fn read_silences(&mut self, now: Timestamp) -> Result<(), davy_store::Error> {
        let mut silences = Vec::new();
        for record in self.control.silences(now)? {
            match silence_of(&record) {
                Ok(silence) => silences.push(silence),
                Err(error) => error!(%error, "a silence cannot be read back"),
            }
        }
        self.book.set_silences(silences);
        Ok(())
    }

    pub(super) fn end_silences(&mut self, now: Timestamp) {
        if self.book.silences().iter().any(|s| s.ends_at <= now) {
            let left = self.book.silences().iter().filter(|s| s.ends_at > now).cloned().collect();
            self.book.set_silences(left);
        }
    }

    /// Makes, changes or ends a silence; gives its id and what is to be done once it is on disk.
    pub fn silence(
        &mut self,
        now: Timestamp,
        change: SilenceChange,
    ) -> (Result<String, String>, Vec<Errand>) {
        let mut silences = self.book.silences().to_vec();
        let (silence, action) = match change {
            SilenceChange::Put(silence) => {
                let known = silences.iter().any(|s| s.id == silence.id);
                if !known && silences.len() >= SILENCES_MAX {
                    return (Err(format!("{SILENCES_MAX} silences are the most")), Vec::new());
                }
                // An id of someone's own making names nothing here.
                let id = if known { silence.id.clone() } else { self.silence_id(now) };
                (Silence { id, ..silence }, "silence")
            }
            SilenceChange::Expire(id) => {
                let Some(silence) = silences.iter().find(|s| s.id == id) else {
                    return (Err(format!("no silence {id:?}")), Vec::new());
                };
                (Silence { ends_at: now, ..silence.clone() }, "end silence")
            }
        };
        silences.retain(|s| s.id != silence.id);
        if silence.ends_at > now {
            silences.push(silence.clone());
        }
        let matchers: Vec<String> = silence.matchers.iter().map(ToString::to_string).collect();
        self.unwritten.silences.push(silence_record(&silence));
        self.unwritten.audit.push(AuditRecord {
            at: now,
            actor: silence.created_by.clone(),
            action: action.to_owned(),
            target: matchers.join(","),
            reason: silence.comment.clone(),
            outcome: silence.id.clone(),
        });
        self.book.set_silences(silences);
        let errands = self.settle(now, Vec::new());
        if self.unwritten() > 0 {
            return (Err("the control database cannot be written".to_owned()), errands);
        }
        (Ok(silence.id), errands)
    }

    fn silence_id(&self, now: Timestamp) -> String {
        let mut number = self.book.silences().len();
        loop {
            let id = format!("silence-{}-{number}", now.as_millis());
            if !self.book.silences().iter().any(|s| s.id == id) {
                return id;
            }
            number += 1;
        }
    }
}
