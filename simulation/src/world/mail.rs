//! Messages on their way: written with what they tell of, sent, lost, late, taken without an answer, and sent again.

use std::time::Duration;

use davy_alerting::dispatch::DeliveryError;
use davy_alerting::release::Command;
use davy_store::control::OutboxRecord;

use super::{FAULTS_UNTIL, Happening, World};
use crate::receiver::Fate;
use crate::{Variant, Violation};

/// Faults, of a thousand.
const MESSAGE_FAULT: u64 = 150;
const CRASH_AFTER_SENDING: u64 = 15;
const CRASH_BEFORE_NOTE: u64 = 15;
const CRASH_BETWEEN_WRITES: u64 = 30;
const RECEIVER_DOWN: u64 = 10;
/// A receiver that has not answered by then is not waited for.
const TIMEOUT: i64 = 10_000;

/// A message that reaches whom it is for.
pub(super) struct Arrival {
    from: usize,
    record: OutboxRecord,
}

impl World {
    /// One transaction: what the machine decided, the alerts, and the messages about them. Says whether Davy crashed
    /// in the middle, which only a broken one can.
    pub(super) fn write(&mut self, r: usize, commands: &[Command]) -> bool {
        let now = self.now;
        let replica = &mut self.replicas[r];
        replica.write(commands);
        let written = replica.post.poll(commands, now);
        if written.is_empty() {
            return false;
        }
        if self.variant == Variant::SentBeforeWritten {
            for record in &written {
                let arrival = Box::new(Arrival { from: r, record: record.clone() });
                self.later(now, Happening::MessageArrives(arrival));
            }
        }
        let torn = matches!(self.variant, Variant::ToldWithoutRow | Variant::SentBeforeWritten);
        if torn && self.faulty(CRASH_BETWEEN_WRITES) {
            return true;
        }
        let variant = self.variant;
        for violation in self.replicas[r].post.keep(written, variant) {
            self.broke(violation);
        }
        if let Some(at) = self.replicas[r].post.ring(now) {
            self.later(at, Happening::Deliver(r));
        }
        false
    }

    /// Once, at the time of the next message that may go.
    pub(super) fn look_into_outbox(&mut self, r: usize) {
        if let Some(at) = self.replicas[r].post.wake_at(self.now) {
            self.later(at, Happening::Deliver(r));
        }
    }

    /// A round of the outbox's loop: what is due goes out, and the next round waits for all the answers.
    pub(super) fn deliver(&mut self, r: usize) {
        let replica = &mut self.replicas[r];
        if !replica.post.woken(self.now) || !replica.up {
            return;
        }
        if replica.paused_until > self.now {
            let until = replica.paused_until;
            if let Some(at) = replica.post.plan(until) {
                self.later(at, Happening::Deliver(r));
            }
            return;
        }
        let round = replica.post.round(self.now, self.variant);
        if round.is_empty() {
            return self.look_into_outbox(r);
        }
        for record in round {
            self.send_message(r, record);
        }
        if self.faulty(CRASH_AFTER_SENDING) {
            self.crash(r);
        }
    }

    fn send_message(&mut self, r: usize, mut record: OutboxRecord) {
        let (id, life) = (record.id.clone(), self.replicas[r].life);
        let fate = self.fate(r, &id);
        self.out.attempts += 1;
        if self.variant == Variant::NewIdEachAttempt && record.attempts > 0 {
            record.id = format!("{id}{}", record.attempts);
        }
        let soon = self.now + self.rng.range(2, 300);
        let arrives = match fate {
            Fate::Taken | Fate::Unanswered | Fate::Reset => Some(soon),
            Fate::Late => Some(self.now + TIMEOUT + self.rng.range(1, 90_000)),
            Fate::Lost | Fate::Refused | Fate::Busy(_) => None,
        };
        if let Some(at) = arrives {
            let arrival = Box::new(Arrival { from: r, record });
            self.later(at, Happening::MessageArrives(arrival));
        }
        let heard = match fate {
            Fate::Taken | Fate::Reset | Fate::Refused | Fate::Busy(_) => soon + self.rng.range(1, 200),
            Fate::Unanswered | Fate::Lost | Fate::Late => self.now + TIMEOUT,
        };
        self.later(heard, Happening::Delivered { to: r, life, id, fate });
    }

    fn fate(&mut self, r: usize, id: &str) -> Fate {
        let target = self.replicas[r].post.target(id);
        if self.faulty(RECEIVER_DOWN) {
            let until = self.now + self.rng.range(30_000, 900_000);
            let how = Fate::of_fault(&mut self.rng);
            self.replicas[r].post.receiver.fail(&target, until.min(FAULTS_UNTIL), how);
        }
        match self.replicas[r].post.receiver.trouble(&target, self.now) {
            Some(how) => how,
            None if self.faulty(MESSAGE_FAULT) => Fate::of_fault(&mut self.rng),
            None => Fate::Taken,
        }
    }

    pub(super) fn message_arrives(&mut self, arrival: &Arrival) {
        let Arrival { from, record } = arrival;
        self.tell(|| format!("davy {from}'s receiver takes {}", record.id));
        for violation in self.replicas[*from].post.receiver.take(record) {
            self.broke(violation);
        }
    }

    /// The answer to a message, or that there was none.
    pub(super) fn delivered(&mut self, to: usize, life: u32, id: &str, fate: Fate) {
        let again = |life| Happening::Delivered { to, life, id: id.to_owned(), fate };
        if !self.reaches(to, life, again) {
            return;
        }
        if self.faulty(CRASH_BEFORE_NOTE) {
            return self.crash(to);
        }
        let failed = |retry_after: Option<u32>, detail: &str| {
            let retry_after = retry_after.map(|s| Duration::from_secs(s.into()));
            Err(DeliveryError { retryable: true, retry_after, detail: detail.to_owned() })
        };
        let result = match fate {
            Fate::Taken => Ok(()),
            _ if self.variant == Variant::NoAnswerIsDelivered => Ok(()),
            Fate::Unanswered | Fate::Lost | Fate::Late => failed(None, "timed out"),
            Fate::Reset => failed(None, "connection reset"),
            Fate::Refused => failed(None, "status 500"),
            Fate::Busy(seconds) => failed(Some(seconds), "status 429"),
        };
        if self.replicas[to].post.heard(id, result, self.now)
            && let Some(at) = self.replicas[to].post.plan(self.now)
        {
            self.later(at, Happening::Deliver(to));
        }
    }

    /// The rollback that is carried out now must be one that someone hears of, whatever comes next.
    pub(super) fn must_be_told(&mut self, from: usize, release: &str) {
        let replica = &mut self.replicas[from];
        if !replica.post.receiver.is_written_of(release) {
            self.broke(Violation::Silent);
        } else {
            replica.must_tell.insert(release.to_owned());
        }
    }
}
