//! Messages on their way: written with what they tell of, sent, lost, taken without an answer, and sent again.

use davy_alerting::release::Command;

use super::{Happening, World};
use crate::Variant;

/// Faults, of a thousand.
const MESSAGE_LOST: u64 = 60;
const ANSWER_LOST: u64 = 60;
const CRASH_AFTER_SENDING: u64 = 10;
const CRASH_BETWEEN_WRITES: u64 = 30;
const RECEIVER_DOWN: u64 = 8;
/// A receiver that has not answered by then is not waited for.
const TIMEOUT: i64 = 10_000;

impl World {
    /// One transaction: what the machine decided, the alerts, and the messages about them. Says whether Davy crashed
    /// in the middle, which only a broken one can.
    pub(super) fn write(&mut self, r: usize, commands: &[Command]) -> bool {
        let now = self.now;
        let replica = &mut self.replicas[r];
        replica.write(commands);
        let written = replica.post.poll(commands, now);
        if self.variant == Variant::ToldWithoutRow && !written.is_empty() && self.faulty(CRASH_BETWEEN_WRITES)
        {
            return true;
        }
        if !written.is_empty() {
            self.replicas[r].post.keep(written);
            self.look_into_outbox(r);
        }
        false
    }

    /// Once, at the time of the next message that may go.
    pub(super) fn look_into_outbox(&mut self, r: usize) {
        if let Some(at) = self.replicas[r].post.wake_at(self.now) {
            self.later(at, Happening::Deliver(r));
        }
    }

    pub(super) fn deliver(&mut self, r: usize) {
        let replica = &mut self.replicas[r];
        replica.post.woken(self.now);
        if !replica.up {
            return;
        }
        if replica.paused_until > self.now {
            let until = replica.paused_until;
            replica.post.wakes = Some(until);
            return self.later(until, Happening::Deliver(r));
        }
        let life = replica.life;
        for record in replica.post.due(self.now, self.variant) {
            if self.faulty(RECEIVER_DOWN) {
                self.replicas[r].post.down_until = self.now + self.rng.range(30_000, 600_000);
            }
            let down = self.replicas[r].post.down_until > self.now;
            let lost = down || self.faulty(MESSAGE_LOST);
            let (id, mut failed) = (record.id.clone(), lost);
            if !lost {
                for violation in self.replicas[r].post.take(&record) {
                    self.broke(violation);
                }
                self.tell(|| format!("davy {r}'s receiver takes {id}"));
                failed = self.faulty(ANSWER_LOST);
            }
            if self.faulty(CRASH_AFTER_SENDING) {
                return self.crash(r);
            }
            let answered = self.now + if failed { TIMEOUT } else { self.rng.range(2, 300) };
            let failed = failed && self.variant != Variant::NoAnswerIsDelivered;
            self.later(answered, Happening::Delivered { to: r, life, id, failed });
        }
        self.look_into_outbox(r);
    }

    pub(super) fn delivered(&mut self, to: usize, life: u32, id: &str, failed: bool) {
        let again = |life| Happening::Delivered { to, life, id: id.to_owned(), failed };
        if self.reaches(to, life, again) {
            self.replicas[to].post.heard(id, failed, self.now);
            self.look_into_outbox(to);
        }
    }
}
