//! `Head`: what is not sealed yet, in memory. Hands out series, takes rows, yields immutable views.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use davy_model::{Exemplar, Labels, Metadata, Span, name};

use crate::group::{Group, Groups};
use crate::index::Index;
use crate::row::SLOTS_MAX;
use crate::spans::RecentSpans;
use crate::{Limits, Refusal, SeriesRef};

/// Exemplars kept, the newest of all series.
const EXEMPLARS_MAX: usize = 10_000;
/// Metric families whose metadata is kept.
const METADATA_MAX: usize = 100_000;

/// What a snapshot sees of the head. Cloning copies pointers only.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) groups: Groups,
    pub(crate) index: Index,
    pub(crate) metadata: Arc<HashMap<Arc<str>, Metadata>>,
    pub(crate) exemplars: Arc<VecDeque<(SeriesRef, Exemplar)>>,
    pub(crate) spans: RecentSpans,
    /// Samples before this are in partitions, those from it on in the head.
    pub(crate) sealed_until: i64,
}

/// One batch as it goes to the log and the head.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<crate::record::GroupRow>,
    pub(crate) exemplars: Vec<(SeriesRef, Exemplar)>,
    pub(crate) metadata: Vec<(Arc<str>, Metadata)>,
    pub(crate) spans: Vec<Arc<Span>>,
    /// Number of the log record that holds the spans; given when the batch enters the queue.
    pub(crate) span_record: u64,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty() && self.spans.is_empty()
    }

    pub(crate) fn samples(&self) -> usize {
        self.rows.iter().map(|(_, r)| r.len()).sum()
    }
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) view: View,
    limits: Limits,
    by_labels: HashMap<Labels, SeriesRef>,
    /// Label names and values that series share.
    strings: HashSet<Arc<str>>,
    series_by_service: HashMap<Arc<str>, usize>,
    /// The group with room of each target (`job` and `instance`).
    open_groups: HashMap<u64, u32>,
    next_group: u32,
    unindexed: Vec<(SeriesRef, Labels)>,
    /// Series that are not in the catalogue on disk yet.
    undefined: Vec<(SeriesRef, Labels)>,
    next_span_record: u64,
}

impl Head {
    pub(crate) fn new(limits: Limits, next_group: u32, next_span_record: u64, sealed_until: i64) -> Self {
        Self {
            view: View {
                groups: Groups::default(),
                index: Index::default(),
                metadata: Arc::default(),
                exemplars: Arc::default(),
                spans: RecentSpans::default(),
                sealed_until,
            },
            limits,
            by_labels: HashMap::new(),
            strings: HashSet::new(),
            series_by_service: HashMap::new(),
            open_groups: HashMap::new(),
            next_group,
            unindexed: Vec::new(),
            undefined: Vec::new(),
            next_span_record,
        }
    }

    pub(crate) fn find(&self, labels: &Labels) -> Option<SeriesRef> {
        self.by_labels.get(labels).copied()
    }

    pub(crate) fn series_active(&self) -> usize {
        self.by_labels.len()
    }

    /// Finds or creates a series. Existing ones are always found; new ones are subject to the limits.
    pub(crate) fn series(&mut self, labels: &Labels) -> Result<SeriesRef, Refusal> {
        if let Some(found) = self.find(labels) {
            return Ok(found);
        }
        self.check_limits(labels)?;
        let labels = labels.interned(|s| intern(&mut self.strings, s));
        let target = target(&labels);
        let group = match self.open_groups.get(&target) {
            Some(g) if self.view.groups.get(*g).is_some_and(|g| g.members.len() < SLOTS_MAX) => *g,
            _ => {
                let new = self.next_group;
                self.next_group += 1;
                self.view.groups.insert(new, Group::default());
                self.open_groups.insert(target, new);
                new
            }
        };
        let members = &mut self.view.groups.get_mut(group).expect("found or created just above").members;
        let series = SeriesRef::new(group, members.len() as u8);
        Arc::make_mut(members).push(Some(labels.clone()));
        self.register(series, labels.clone());
        self.undefined.push((series, labels));
        Ok(series)
    }

    /// Puts back a series that the catalogue knows.
    pub(crate) fn restore(&mut self, series: SeriesRef, labels: &Labels) {
        let labels = labels.interned(|s| intern(&mut self.strings, s));
        if self.view.groups.get(series.group()).is_none() {
            self.view.groups.insert(series.group(), Group::default());
        }
        let group = self.view.groups.get_mut(series.group()).expect("found or created just above");
        let members = Arc::make_mut(&mut group.members);
        let slot = usize::from(series.slot());
        if members.len() <= slot {
            members.resize(slot + 1, None);
        }
        members[slot] = Some(labels.clone());
        self.register(series, labels);
        self.next_group = self.next_group.max(series.group() + 1);
    }

    /// Makes a batch visible; returns how many of its samples were refused because others are stored already.
    pub(crate) fn apply(&mut self, batch: &Batch) -> usize {
        self.view.index.add(std::mem::take(&mut self.unindexed));
        let mut refused = 0;
        for (group, row) in &batch.rows {
            match self.view.groups.get_mut(*group) {
                Some(group) => refused += group.insert(row.clone()),
                None => refused += row.len(),
            }
        }
        for span in &batch.spans {
            self.view.spans.push(batch.span_record, span.clone());
        }
        self.apply_exemplars(&batch.exemplars);
        for (metric, metadata) in &batch.metadata {
            self.set_metadata(metric.clone(), metadata.clone());
        }
        refused
    }

    pub(crate) fn set_metadata(&mut self, metric: Arc<str>, metadata: Metadata) {
        let all = Arc::make_mut(&mut self.view.metadata);
        if all.len() < METADATA_MAX || all.contains_key(&metric) {
            all.insert(metric, metadata);
        }
    }

    /// Number for the log record of a batch's spans.
    pub(crate) fn take_span_record(&mut self) -> u64 {
        self.next_span_record += 1;
        self.next_span_record - 1
    }

    pub(crate) fn undefined(&self) -> &[(SeriesRef, Labels)] {
        &self.undefined
    }

    /// The first `n` of [`Self::undefined`] are on disk now.
    pub(crate) fn defined(&mut self, n: usize) {
        self.undefined.drain(..n);
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
        let service = intern(&mut self.strings, &service(&labels).into());
        *self.series_by_service.entry(service).or_default() += 1;
        self.unindexed.push((series, labels.clone()));
        self.by_labels.insert(labels, series);
    }

    fn check_limits(&self, labels: &Labels) -> Result<(), Refusal> {
        let max = self.limits.series_max;
        if self.by_labels.len() >= max {
            let most = self.series_by_service.iter().max_by_key(|(_, n)| **n);
            let scope =
                most.map_or_else(String::new, |(s, n)| format!("all services; {n} are of service {s:?}"));
            return Err(Refusal::SeriesLimit { scope, max });
        }
        let (service, max) = (service(labels), self.limits.series_per_service_max);
        if self.series_by_service.get(service).is_some_and(|n| *n >= max) {
            return Err(Refusal::SeriesLimit { scope: format!("service {service:?}"), max });
        }
        Ok(())
    }
}

/// What the limit per service counts by: `service`, else `job`.
fn service(labels: &Labels) -> &str {
    labels.get(name::SERVICE).or_else(|| labels.get(name::JOB)).unwrap_or("")
}

/// Series of one target are sampled at the same times, so they share groups.
fn target(labels: &Labels) -> u64 {
    let mut hasher = DefaultHasher::new();
    (labels.get(name::JOB), labels.get(name::INSTANCE)).hash(&mut hasher);
    hasher.finish()
}

fn intern(strings: &mut HashSet<Arc<str>>, s: &Arc<str>) -> Arc<str> {
    if let Some(known) = strings.get(s) {
        return known.clone();
    }
    strings.insert(s.clone());
    s.clone()
}
