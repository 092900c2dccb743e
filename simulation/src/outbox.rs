//! The outbox of one Davy, as rows that outlive a crash. What is due follows the store's rule: of each lane the oldest
//! that is pending. The test below holds the two together.

use davy_alerting::dispatch::PENDING;
use davy_model::Timestamp;
use davy_store::control::OutboxRecord;

/// The part of an id that says in what order messages go, as the store has it.
const LANE_CHARS: usize = 20;

pub(crate) fn lane(id: &str) -> &str {
    id.get(..LANE_CHARS).unwrap_or(id)
}

/// Messages that are pending, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    /// `<receiver>/<index of the integration>`.
    target: String,
    record: OutboxRecord,
}

impl Outbox {
    /// One row: new, or in the place of the one that has its id.
    pub(crate) fn put(&mut self, record: OutboxRecord, target: String) {
        self.rows.retain(|r| r.record.id != record.id);
        if record.state != PENDING {
            return;
        }
        let place = |r: &OutboxRecord| (r.created_at, r.id.clone());
        let at = self.rows.partition_point(|r| place(&r.record) < place(&record));
        self.rows.insert(at, Row { target, record });
    }

    /// A pending message, and whom it is for.
    pub(crate) fn get(&self, id: &str) -> Option<(&OutboxRecord, &str)> {
        self.rows.iter().find(|r| r.record.id == id).map(|r| (&r.record, r.target.as_str()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The oldest of each lane, but for these targets. Without `order`, all of each.
    fn first<'a>(&'a self, except: &'a [String], order: bool) -> impl Iterator<Item = &'a OutboxRecord> {
        let mut lanes: Vec<&str> = Vec::new();
        let is_first = move |row: &&'a Row| {
            let lane = lane(&row.record.id);
            let seen = lanes.contains(&lane);
            lanes.push(lane);
            !seen || !order
        };
        let rows = self.rows.iter().filter(is_first).filter(|r| !except.contains(&r.target));
        rows.map(|r| &r.record)
    }

    pub(crate) fn due(
        &self,
        now: Timestamp,
        except: &[String],
        limit: usize,
        order: bool,
    ) -> Vec<OutboxRecord> {
        let due = self.first(except, order).filter(|r| r.next_attempt_at <= now);
        due.take(limit).cloned().collect()
    }

    /// When the next is due.
    pub(crate) fn next(&self, except: &[String]) -> Option<Timestamp> {
        self.first(except, true).map(|r| r.next_attempt_at).min()
    }
}

#[cfg(test)]
mod tests {
    use davy_alerting::dispatch::{DEAD, DELIVERED};
    use davy_alerting::record::target_of;
    use davy_store::control::{Control, ControlBatch};

    use super::*;
    use crate::Rng;

    #[test]
    fn what_is_due_is_what_the_store_says_is_due() {
        let at = |n| Timestamp::from_millis(n);
        let folder = tempfile::tempdir().expect("a folder");
        for seed in 0..20 {
            let control = Control::open(&folder.path().join(format!("{seed}.db"))).expect("a database");
            let (mut rng, mut outbox) = (Rng::new(seed), Outbox::default());
            for _ in 0..60 {
                let lane = rng.range(0, 5);
                let state = [PENDING, PENDING, PENDING, DELIVERED, DEAD][rng.range(0, 5) as usize];
                let record = OutboxRecord {
                    id: format!("msg_{lane:016x}_{:02}", rng.range(0, 12)),
                    receiver: "ops".to_owned(),
                    created_at: at(rng.range(0, 6)),
                    next_attempt_at: at(rng.range(0, 20)),
                    attempts: 0,
                    state: state.to_owned(),
                    last_error: String::new(),
                    // As in life, a lane has one target.
                    detail: detail(lane % 2),
                };
                control
                    .write(&ControlBatch { outbox: vec![record.clone()], ..ControlBatch::default() })
                    .expect("written");
                let target = target_of(&record);
                outbox.put(record, target);
                let (now, limit) = (at(rng.range(0, 20)), rng.range(1, 8) as usize);
                for except in [vec![], vec!["ops/1".to_owned()]] {
                    let due = control.outbox_due(now, &except, limit).expect("read");
                    assert_eq!(outbox.due(now, &except, limit, true), due, "seed {seed}");
                    assert_eq!(outbox.next(&except), control.outbox_next(&except).expect("read"));
                }
            }
        }
    }

    fn detail(integration: i64) -> String {
        let alert =
            r#"["firing",{"labels":{"alertname":"A"},"annotations":{},"starts_at":0,"ends_at":null}]"#;
        format!(r#"{{"format":2,"kind":"webhook","integration":{integration},"alerts":[{alert}]}}"#)
    }
}
