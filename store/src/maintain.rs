//! Maintenance: seals what has left the head's range, and forgets what retention says.
//!
//! Runs in its caller's thread on an immutable view of the head; the writer is only asked to drop the records of
//! what has been sealed. A crash at any point leaves the samples in the log, or in a complete seal, or in both, and
//! then the replay leaves them out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use davy_model::Timestamp;

use crate::error::Error;
use crate::log::Trim;
use crate::partition::{Partition, Seal};
use crate::partitions;
use crate::spans::Sealed;
use crate::store::Inner;
use crate::writer::Job;

/// Spans kept in memory until they are sealed; the more are sealed together, the better they pack...
const SPANS_SEALED_TOGETHER: usize = 32_768;
/// ...and the most that a burst may bring before its sender has to seal them...
const SPANS_IN_MEMORY_MAX: usize = 131_072;
/// ...or, of large ones, their bytes.
const SPAN_BYTES_IN_MEMORY_MAX: usize = 64 << 20;
/// The catalogue is written anew once it could be smaller by so many series.
const CATALOGUE_DEAD_MIN: usize = 4096;

/// What only one thread at a time does.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// Dead series that are still in the catalogue.
    dead_in_catalogue: usize,
    /// When spans were last sealed, in multiples of the head's range.
    span_window: Option<i64>,
}

impl Inner {
    pub(crate) fn maintain(&self, now: Timestamp) -> Result<(), Error> {
        let mut state = self.maintenance.lock().expect("no holder of this lock panics");
        self.lower_floor(now);
        let late = self.late.swap(i64::MAX, Ordering::Relaxed);
        while let Some(until) = self.next_seal(now).filter(|until| *until <= late) {
            self.seal_samples(until)?;
            state.dead_in_catalogue += self.head_mut().forget_dead();
        }
        let window = now.as_millis().div_euclid(self.range());
        let spans = self.head().view.spans.spans();
        if spans >= SPANS_SEALED_TOGETHER || state.span_window.replace(window) != Some(window) && spans > 0 {
            self.seal_spans(now)?;
        }
        self.compact_index(state.dead_in_catalogue > 0);
        if state.dead_in_catalogue >= CATALOGUE_DEAD_MIN {
            self.queue.run(Job::RewriteCatalogue)?;
            state.dead_in_catalogue = 0;
        }
        self.retain(now)?;
        self.tend_partitions()
    }

    /// Called after spans were committed: keeps the memory they take bounded between maintenances.
    pub(crate) fn bound_spans(&self, now: Timestamp) -> Result<(), Error> {
        let many = || {
            let recent = &self.head().view.spans;
            recent.spans() >= SPANS_IN_MEMORY_MAX || recent.bytes() >= SPAN_BYTES_IN_MEMORY_MAX
        };
        if !many() {
            return Ok(());
        }
        let _state = self.maintenance.lock().expect("no holder of this lock panics");
        if many() { self.seal_spans(now) } else { Ok(()) }
    }

    /// A clock that was ahead has sealed times that are still to come; what comes then must be taken. A right one
    /// seals what has passed.
    fn lower_floor(&self, now: Timestamp) {
        let mut head = self.head_mut();
        if head.floor > now.as_millis() {
            tracing::warn!(floor = head.floor, %now, "the clock went back; samples are taken from here on");
            head.floor = (now - self.options.limits.timestamp_past_max).as_millis();
        }
    }

    /// The end of the oldest range in the head, once it is half a range in the past.
    fn next_seal(&self, now: Timestamp) -> Option<i64> {
        let view = self.head().view.clone();
        let oldest = view.groups.iter().filter_map(|(_, g)| g.oldest_time()).min()?;
        let until = (oldest.div_euclid(self.range()) + 1) * self.range();
        (until.saturating_add(self.range() / 2) <= now.as_millis()).then_some(until)
    }

    /// Seals samples before `limit`, whether or not their range is over, and all spans.
    pub(crate) fn seal_all(&self, now: Timestamp, limit: i64) -> Result<(), Error> {
        let mut state = self.maintenance.lock().expect("no holder of this lock panics");
        let limit = {
            let head = self.head();
            let newest = head.view.groups.iter().map(|(_, g)| g.newest_time()).max();
            newest.map_or(limit, |newest| limit.min(newest.saturating_add(1)))
        };
        loop {
            let view = self.head().view.clone();
            let Some(oldest) = view.groups.iter().filter_map(|(_, g)| g.oldest_time()).min() else { break };
            drop(view);
            if oldest >= limit {
                break;
            }
            self.seal_samples(limit.min((oldest.div_euclid(self.range()) + 1) * self.range()))?;
            state.dead_in_catalogue += self.head_mut().forget_dead();
        }
        self.seal_spans(now)
    }

    fn seal_samples(&self, until: i64) -> Result<(), Error> {
        {
            let mut head = self.head_mut();
            head.floor = head.floor.max(until);
        }
        // Nothing older can enter the queue any more; what is in it reaches the log and the head.
        self.queue.run(Job::Flush)?;
        let record = self.counters.last_record.load(Ordering::Relaxed);
        let view = self.head().view.clone();
        let partition = self.partition_for(&view.partitions, until - 1)?;
        let seal = Seal { number: view.seal + 1, until, record: record as i64 };
        self.folder.seal_samples(&partition, &view.groups, &seal)?;
        let partitions = with(&view.partitions, partition);
        let spans_until = view.spans_sealed;
        drop(view);
        let garbage = self.head_mut().samples_sealed(seal.number, until, partitions);
        drop(garbage);
        self.queue.run(Job::Trim(Trim { samples_until: until, record, spans_until }))
    }

    fn seal_spans(&self, now: Timestamp) -> Result<(), Error> {
        let until = self.head().last_span_record();
        // What has a number by now reaches the log and the head.
        self.queue.run(Job::Flush)?;
        let view = self.head().view.clone();
        let mut blocks = view.spans.iter().filter(|(r, _)| *r <= until).map(|(_, b)| b).peekable();
        if blocks.peek().is_none() {
            return Ok(());
        }
        let spans = Sealed::new(blocks);
        // By when they came, not by what they say: a span from the year 2500 must not outlive the others.
        let partition = self.partition_for(&view.partitions, now.as_millis())?;
        self.folder.seal_spans(&partition, &spans, until)?;
        let partitions = with(&view.partitions, partition);
        drop(view);
        self.head_mut().spans_sealed(until, partitions);
        self.queue.run(Job::Trim(Trim { samples_until: i64::MIN, record: 0, spans_until: until }))
    }

    fn compact_index(&self, with_dead: bool) {
        let view = self.head().view.clone();
        if !with_dead && !view.index.is_scattered() {
            return;
        }
        let compacted = view.index.compact(|s| view.is_alive(s));
        // Series created meanwhile may have changed what was read: then the next maintenance does it.
        self.head_mut().view.index.replace(&view.index, compacted);
    }

    fn retain(&self, now: Timestamp) -> Result<(), Error> {
        let all = self.head().view.partitions.clone();
        let n = partitions::expired(&all, now, self.options.retention, self.options.retention_bytes_max);
        if n == 0 {
            return Ok(());
        }
        // One at a time: a clock that jumped years ahead does not take everything before anyone looks.
        self.head_mut().view.partitions = Arc::new(all[1..].to_vec());
        partitions::delete(&all[0])
    }

    fn tend_partitions(&self) -> Result<(), Error> {
        let all = self.head().view.partitions.clone();
        for partition in all.iter() {
            partition.rest();
            let bad = partition.take_bad();
            if !bad.is_empty() {
                self.folder.set_aside(partition, &bad)?;
            }
        }
        Ok(())
    }

    pub(crate) fn partition_for(
        &self,
        partitions: &[Arc<Partition>],
        time: i64,
    ) -> Result<Arc<Partition>, Error> {
        match partitions.iter().find(|p| (p.start..p.end).contains(&time)) {
            Some(p) => Ok(p.clone()),
            None => self.folder.open(time).map(Arc::new),
        }
    }

    fn range(&self) -> i64 {
        self.options.head_range_millis()
    }
}

/// The partitions with this one among them, oldest first.
pub(crate) fn with(partitions: &[Arc<Partition>], partition: Arc<Partition>) -> Vec<Arc<Partition>> {
    let mut all = partitions.to_vec();
    if let Err(at) = all.binary_search_by_key(&partition.start, |p| p.start) {
        all.insert(at, partition);
    }
    all
}
