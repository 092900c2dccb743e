//! `Head`: what is not sealed yet, in memory. Hands out series, takes rows, yields immutable views.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use davy_model::{Exemplar, Label, Labels, Metadata, Timestamp};
use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::group::{Group, Groups, Trimmed, hull};
use crate::index::Index;
use crate::limits::Census;
use crate::partition::Partition;
use crate::row::bit;
use crate::spans::{RecentSpans, SpanBlock};
use crate::{Limits, Refusal, SeriesRef};

/// Exemplars kept, the newest of all series.
const EXEMPLARS_MAX: usize = 10_000;
/// Forgotten series whose references still work; beyond, callers must look them up again.
const RETIRED_MAX: usize = 100_000;
/// Metric families whose metadata is kept.
const METADATA_MAX: usize = 100_000;

/// What a snapshot sees of the head. Cloning copies pointers only.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) groups: Groups,
    /// Every sample of the groups lies within.
    pub(crate) times: Option<(i64, i64)>,
    pub(crate) index: Index,
    pub(crate) metadata: Arc<HashMap<Arc<str>, Metadata>>,
    pub(crate) exemplars: Arc<VecDeque<(SeriesRef, Exemplar)>>,
    pub(crate) spans: RecentSpans,
    /// Chunks of seals up to this one are in partitions and no longer in `groups`.
    pub(crate) seal: i64,
    /// Lives as long as a snapshot takes this seal for the newest.
    pub(crate) seal_in_use: Arc<()>,
    /// Spans of records up to this are in partitions, later ones in `spans`.
    pub(crate) spans_sealed: u64,
    pub(crate) partitions: Arc<Vec<Arc<Partition>>>,
}

impl View {
    pub(crate) fn is_alive(&self, series: SeriesRef) -> bool {
        self.groups.get(series.group()).is_some_and(|g| g.alive() & bit(series.slot()) != 0)
    }

    /// Labels of a living series.
    pub(crate) fn labels_of(&self, series: SeriesRef) -> Option<&Labels> {
        self.groups.get(series.group())?.members().get(usize::from(series.slot()))?.as_ref()
    }
}

/// One batch as it goes to the log and the head.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<crate::record::GroupRow>,
    pub(crate) exemplars: Vec<(SeriesRef, Exemplar)>,
    pub(crate) metadata: Vec<(Arc<str>, Metadata)>,
    pub(crate) spans: Vec<SpanBlock>,
    /// Number of the log record of the first block, the others follow; given when the batch enters the queue.
    pub(crate) span_record: u64,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty() && self.spans.is_empty()
    }

    pub(crate) fn samples(&self) -> usize {
        self.rows.iter().map(|(_, r)| r.len()).sum()
    }

    pub(crate) fn span_count(&self) -> usize {
        self.spans.iter().map(SpanBlock::len).sum()
    }

    /// Blocks with the numbers of their log records.
    pub(crate) fn span_records(&self) -> impl Iterator<Item = (u64, &SpanBlock)> {
        (self.span_record..).zip(&self.spans)
    }

    /// Every group of its rows, some perhaps more than once.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let mut groups: Vec<u32> = self.rows.iter().map(|(g, _)| *g).collect();
        groups.dedup();
        groups
    }
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) view: View,
    /// Samples before this are refused: they are sealed, or about to be.
    pub(crate) floor: i64,
    range: i64,
    /// Found by the labels of the group's member; a name takes a word here.
    by_labels: HashTable<SeriesRef>,
    hasher: RandomState,
    /// Labels that series share.
    labels: HashSet<Arc<Label>, RandomState>,
    census: Census,
    /// The group with room of each target.
    open_groups: HashMap<u64, u32>,
    /// Seals that were the newest when snapshots were taken that may still be read.
    seals_in_use: Vec<(i64, Weak<()>)>,
    next_group: u32,
    unindexed: Vec<(SeriesRef, Labels)>,
    /// Series that are not in the catalogue on disk yet.
    undefined: Vec<(SeriesRef, Labels)>,
    next_span_record: u64,
    /// Series that were forgotten, the oldest first, for callers that still hold their reference.
    retired: VecDeque<SeriesRef>,
    retired_labels: HashMap<SeriesRef, Labels>,
    /// Groups of batches that are on their way to the disk, and how many: their series must be there on arrival.
    pinned: HashMap<u32, usize>,
}

/// What the disk says about where the head begins.
pub(crate) struct Start {
    pub(crate) next_group: u32,
    pub(crate) next_span_record: u64,
    pub(crate) floor: i64,
    pub(crate) seal: i64,
    pub(crate) spans_sealed: u64,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Head {
    pub(crate) fn new(limits: Limits, range: i64, start: Start) -> Self {
        Self {
            view: View {
                groups: Groups::default(),
                times: None,
                index: Index::default(),
                metadata: Arc::default(),
                exemplars: Arc::default(),
                spans: RecentSpans::default(),
                seal: start.seal,
                seal_in_use: Arc::default(),
                spans_sealed: start.spans_sealed,
                partitions: Arc::new(start.partitions),
            },
            floor: start.floor,
            range,
            by_labels: HashTable::new(),
            hasher: RandomState::default(),
            labels: HashSet::default(),
            census: Census::new(limits),
            open_groups: HashMap::new(),
            seals_in_use: Vec::new(),
            next_group: start.next_group,
            unindexed: Vec::new(),
            undefined: Vec::new(),
            next_span_record: start.next_span_record,
            retired: VecDeque::new(),
            retired_labels: HashMap::new(),
            pinned: HashMap::new(),
        }
    }

    pub(crate) fn find(&self, labels: &Labels) -> Option<SeriesRef> {
        let has = |s: &SeriesRef| self.view.labels_of(*s) == Some(labels);
        self.by_labels.find(self.hasher.hash_one(labels), has).copied()
    }

    /// Labels of a series that lives or was forgotten not too long ago.
    pub(crate) fn labels_of(&self, series: SeriesRef) -> Option<&Labels> {
        self.view.labels_of(series).or_else(|| self.retired_labels.get(&series))
    }

    pub(crate) fn series_active(&self) -> usize {
        self.by_labels.len()
    }

    /// Finds or creates a series. Existing ones are always found; new ones are subject to the limits.
    pub(crate) fn series(&mut self, labels: &Labels, now: Timestamp) -> Result<SeriesRef, Refusal> {
        if let Some(found) = self.find(labels) {
            return Ok(found);
        }
        self.census.admit(labels, now)?;
        let labels = labels.interned(|l| intern(&mut self.labels, l));
        let target = self.census.target(&labels);
        let group = match self.open_groups.get(&target) {
            Some(g) if self.view.groups.get(*g).is_some_and(Group::has_room) => *g,
            _ => {
                let new = self.next_group;
                self.next_group += 1;
                self.view.groups.insert(new, Group::default());
                self.open_groups.insert(target, new);
                new
            }
        };
        let members = self.view.groups.get_mut(group).expect("found or created just above");
        let series = SeriesRef::new(group, members.add_member(labels.clone()));
        self.register(series, labels.clone());
        self.undefined.push((series, labels));
        Ok(series)
    }

    /// The series that now has the labels of one that was forgotten.
    pub(crate) fn revive(&mut self, forgotten: SeriesRef, now: Timestamp) -> Result<SeriesRef, Refusal> {
        let labels = self.retired_labels.get(&forgotten).cloned().ok_or(Refusal::UnknownSeries)?;
        self.series(&labels, now)
    }

    /// Puts back the series that the catalogue knows, by block.
    pub(crate) fn restore(&mut self, blocks: &[Vec<(SeriesRef, Labels)>]) {
        let (hasher, view) = (&self.hasher, &self.view);
        let rehash = |s: &SeriesRef| view.labels_of(*s).map_or(0, |l| hasher.hash_one(l));
        self.by_labels.reserve(blocks.iter().map(Vec::len).sum(), rehash);
        blocks.iter().for_each(|block| self.restore_block(block));
    }

    fn restore_block(&mut self, block: &[(SeriesRef, Labels)]) {
        // Series of a block share labels already: each is looked up once.
        let mut known: HashMap<*const Label, Arc<Label>, foldhash::fast::RandomState> = HashMap::default();
        for (series, labels) in block {
            let series = *series;
            let all = &mut self.labels;
            let labels =
                labels.interned(|l| known.entry(Arc::as_ptr(l)).or_insert_with(|| intern(all, l)).clone());
            if self.view.groups.get(series.group()).is_none() {
                self.view.groups.insert(series.group(), Group::default());
            }
            let group = self.view.groups.get_mut(series.group()).expect("found or created just above");
            group.restore_member(series.slot(), labels.clone());
            self.register(series, labels);
        }
    }

    /// Makes a batch visible; returns how many of its samples were refused because others are stored already.
    pub(crate) fn apply(&mut self, batch: &Batch) -> usize {
        self.view.index.add(std::mem::take(&mut self.unindexed));
        let mut refused = 0;
        for (group, row) in &batch.rows {
            let at = (row.time, row.time);
            self.view.times = Some(self.view.times.map_or(at, |times| hull(times, at)));
            match self.view.groups.get_mut(*group) {
                Some(g) => refused += g.insert(*group, row.clone(), self.range),
                None => refused += row.len(),
            }
        }
        for (record, block) in batch.span_records() {
            self.view.spans.push(record, block.clone());
        }
        self.apply_exemplars(&batch.exemplars);
        for (metric, metadata) in &batch.metadata {
            self.set_metadata(metric.clone(), metadata.clone());
        }
        refused
    }

    pub(crate) fn set_metadata(&mut self, metric: Arc<str>, metadata: Metadata) {
        if self.wants_metadata(&metric, &metadata) {
            Arc::make_mut(&mut self.view.metadata).insert(metric, metadata);
        }
    }

    /// Whether this is news, and there is room for it.
    pub(crate) fn wants_metadata(&self, metric: &str, metadata: &Metadata) -> bool {
        let all = &self.view.metadata;
        all.get(metric).map_or(all.len() < METADATA_MAX, |known| known != metadata)
    }

    /// Numbers for the log records of a batch's spans; the first of them.
    pub(crate) fn take_span_records(&mut self, n: usize) -> u64 {
        self.next_span_record += n as u64;
        self.next_span_record - n as u64
    }

    /// The newest number given by [`Self::take_span_records`].
    pub(crate) fn last_span_record(&self) -> u64 {
        self.next_span_record - 1
    }

    /// Spans of records up to `until` are in `partitions` now.
    pub(crate) fn spans_sealed(&mut self, until: u64, partitions: Vec<Arc<Partition>>) {
        self.view.spans_sealed = until;
        self.view.spans = self.view.spans.after(until);
        self.view.partitions = Arc::new(partitions);
    }

    /// Samples before `until` are in `partitions` now. Returns what may be dropped once the lock is let go.
    pub(crate) fn samples_sealed(
        &mut self,
        seal: i64,
        until: i64,
        partitions: Vec<Arc<Partition>>,
    ) -> Vec<Trimmed> {
        self.seals_in_use.retain(|(_, view)| view.strong_count() > 0);
        self.seals_in_use.push((self.view.seal, Arc::downgrade(&self.view.seal_in_use)));
        (self.view.seal, self.view.seal_in_use) = (seal, Arc::default());
        self.view.partitions = Arc::new(partitions);
        let old = |g: &Group| g.oldest_time().is_some_and(|t| t < until);
        let numbers: Vec<u32> = self.view.groups.iter().filter(|(_, g)| old(g)).map(|(n, _)| n).collect();
        let trim = |n| self.view.groups.get_mut(n).expect("numbered by its own list").trim(n, until);
        let trimmed = numbers.into_iter().map(trim).collect();
        let times = self.view.groups.iter().filter_map(|(_, g)| g.times());
        self.view.times = times.reduce(hull);
        trimmed
    }

    /// The oldest seal that some snapshot takes for the newest.
    pub(crate) fn oldest_seal_in_use(&self) -> i64 {
        let used = self.seals_in_use.iter().filter(|(_, view)| view.strong_count() > 0);
        used.map(|(seal, _)| *seal).min().unwrap_or(self.view.seal)
    }

    /// Keeps the series of these groups until [`Self::unpin`].
    pub(crate) fn pin(&mut self, groups: &[u32]) {
        groups.iter().for_each(|g| *self.pinned.entry(*g).or_default() += 1);
    }

    pub(crate) fn unpin(&mut self, groups: &[u32]) {
        for group in groups {
            let left = self.pinned.get_mut(group).map_or(0, |n| {
                *n -= 1;
                *n
            });
            if left == 0 {
                self.pinned.remove(group);
            }
        }
    }

    /// Forgets series without a sample in the head; returns how many. The index still names them.
    pub(crate) fn forget_dead(&mut self) -> usize {
        let numbers: Vec<u32> =
            self.view.groups.iter().map(|(n, _)| n).filter(|n| !self.pinned.contains_key(n)).collect();
        let mut dead = 0;
        for number in numbers {
            let group = self.view.groups.get_mut(number).expect("numbered by its own list");
            let forgotten = group.forget_dead();
            if group.is_empty() {
                self.view.groups.remove(number);
            }
            for (slot, labels) in forgotten {
                let series = SeriesRef::new(number, slot);
                self.retire(series, labels);
                dead += 1;
            }
        }
        let groups = &self.view.groups;
        self.open_groups.retain(|_, n| groups.get(*n).is_some());
        self.labels.retain(|l| Arc::strong_count(l) > 1);
        dead
    }

    /// Every series with its labels, but for those that are not in the catalogue yet.
    pub(crate) fn defined_series(&self) -> Vec<(SeriesRef, Labels)> {
        let undefined: HashSet<SeriesRef> = self.undefined.iter().map(|(s, _)| *s).collect();
        let members = self.view.groups.iter().flat_map(|(number, g)| {
            let slots = g.members().iter().enumerate();
            slots.filter_map(move |(slot, m)| Some((SeriesRef::new(number, slot as u8), m.clone()?)))
        });
        members.filter(|(s, _)| !undefined.contains(s)).collect()
    }

    fn retire(&mut self, series: SeriesRef, labels: Labels) {
        let hash = self.hasher.hash_one(&labels);
        if let Ok(entry) = self.by_labels.find_entry(hash, |s| *s == series) {
            entry.remove();
        }
        self.census.gone(&labels);
        self.retired.push_back(series);
        self.retired_labels.insert(series, labels);
        if self.retired.len() > RETIRED_MAX
            && let Some(oldest) = self.retired.pop_front()
        {
            self.retired_labels.remove(&oldest);
        }
    }

    pub(crate) fn undefined(&self) -> &[(SeriesRef, Labels)] {
        &self.undefined
    }

    /// The first `n` of [`Self::undefined`] are on disk now.
    pub(crate) fn defined(&mut self, n: usize) {
        self.undefined.drain(..n);
        if self.undefined.is_empty() {
            // They come in a flood, and then hardly ever.
            self.undefined = Vec::new();
        }
    }

    pub(crate) fn next_group(&self) -> u32 {
        self.next_group
    }

    fn apply_exemplars(&mut self, new: &[(SeriesRef, Exemplar)]) {
        if new.is_empty() {
            return;
        }
        let all = Arc::make_mut(&mut self.view.exemplars);
        all.extend(new.iter().cloned());
        let excess = all.len().saturating_sub(EXEMPLARS_MAX);
        all.drain(..excess);
    }

    fn register(&mut self, series: SeriesRef, labels: Labels) {
        self.census.came(&labels);
        let (view, hasher) = (&self.view, &self.hasher);
        let rehash = |s: &SeriesRef| view.labels_of(*s).map_or(0, |l| hasher.hash_one(l));
        self.by_labels.insert_unique(hasher.hash_one(&labels), series, rehash);
        self.unindexed.push((series, labels));
    }
}

fn intern(all: &mut HashSet<Arc<Label>, RandomState>, label: &Arc<Label>) -> Arc<Label> {
    if let Some(known) = all.get(label) {
        return known.clone();
    }
    all.insert(label.clone());
    label.clone()
}
