//! Who lives, since when, and which pairs are releases. What must survive a restart is in the control database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_alerting::release::Phase;
use davy_detector::{Arms, LiveVersion, NotARelease, live_versions, pick_arms};
use davy_model::{Timestamp, name};
use davy_store::Snapshot;
use davy_store::control::{ReleaseRecord, VersionRecord};

use crate::config::Config;

/// An instance counts as alive for this many scrape intervals after it was last seen so.
const FRESH_INTERVALS: u32 = 3;
const FRESH_MIN: Duration = Duration::from_secs(5);
/// How stale `last_seen` may be on disk.
const LAST_SEEN_STEP: Duration = Duration::from_secs(60);
/// A version that was away for this long and comes back has come anew.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub(super) struct Versions {
    /// By service and version.
    seen: BTreeMap<(String, String), VersionRecord>,
    /// What is on disk of `last_seen`.
    written: BTreeMap<(String, String), Timestamp>,
    /// Canaries that were rolled back, by service and version.
    rolled_back: BTreeSet<(String, String)>,
}

/// A pair of live versions that is to be watched.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) arms: Arms,
    pub(super) reason: String,
    /// Someone brought back what had been rolled back.
    pub(super) rolled_back_before: bool,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) releases: Vec<Found>,
    /// Services that are not judged, and why.
    pub(super) unjudged: Vec<(String, String)>,
    /// Rows to write.
    pub(super) records: Vec<VersionRecord>,
}

impl Versions {
    pub(super) fn load(records: &[VersionRecord]) -> Self {
        let key = |r: &VersionRecord| (r.service.clone(), r.version.clone());
        Self {
            seen: records.iter().map(|r| (key(r), r.clone())).collect(),
            written: records.iter().map(|r| (key(r), r.last_seen)).collect(),
            rolled_back: BTreeSet::new(),
        }
    }

    /// What lives at `now`.
    pub(super) fn look(
        &mut self,
        now: Timestamp,
        snapshot: &Snapshot,
        config: &Config,
    ) -> Result<Seen, davy_store::Error> {
        let fresh = (longest_interval(config) * FRESH_INTERVALS).max(FRESH_MIN);
        let label = |service: &str| {
            let named = config.releases.iter().find(|(s, _)| s.service.as_deref() == Some(service));
            named.map_or_else(|| name::VERSION.to_owned(), |(s, _)| s.version_label.clone())
        };
        let live = live_versions(snapshot, now, fresh, label)?;
        let mut out = Seen::default();
        for version in &live {
            out.records.extend(self.note(version, now));
        }
        let mut by_service: BTreeMap<&str, Vec<LiveVersion>> = BTreeMap::new();
        for version in &live {
            by_service.entry(&version.service).or_default().push(version.clone());
        }
        for (service, versions) in by_service {
            match self.pick(service, &versions, config) {
                Ok(found) => out.releases.push(found),
                Err(why) => out.unjudged.push((service.to_owned(), why.to_string())),
            }
        }
        Ok(out)
    }

    /// Notes that a version is there; a row where the disk must know.
    fn note(&mut self, version: &LiveVersion, now: Timestamp) -> Option<VersionRecord> {
        let key = (version.service.clone(), version.version.clone());
        let record = self.seen.entry(key.clone()).or_insert_with(|| VersionRecord {
            service: version.service.clone(),
            version: version.version.clone(),
            first_seen: now,
            last_seen: now,
        });
        if now.since(record.last_seen) >= FORGET_AFTER {
            record.first_seen = now;
        }
        record.last_seen = now;
        let written = self.written.entry(key).or_insert(Timestamp::MIN);
        (now.since(*written) >= LAST_SEEN_STEP).then(|| {
            *written = now;
            record.clone()
        })
    }

    fn pick(&self, service: &str, live: &[LiveVersion], config: &Config) -> Result<Found, NotARelease> {
        let (spec, _) = config.rules(service);
        let first_seen = |v: &str| self.seen.get(&(service.to_owned(), v.to_owned())).map(|r| r.first_seen);
        let from = (service.to_owned(), String::new());
        let of_service = self.seen.range(from..).take_while(|((s, _), _)| s == service);
        let watching_since = of_service.map(|(_, r)| r.first_seen).min().unwrap_or(Timestamp::MIN);
        let arms = pick_arms(&spec, service, live, first_seen, watching_since)?;
        let others: Vec<&str> = live
            .iter()
            .map(|v| v.version.as_str())
            .filter(|v| *v != arms.baseline && *v != arms.canary)
            .collect();
        let mut reason = format!("{} appeared beside {}", arms.canary, arms.baseline);
        if !others.is_empty() {
            reason += &format!("; {} also lives and is left out", others.join(", "));
        }
        let rolled_back_before = self.rolled_back.contains(&(service.to_owned(), arms.canary.clone()));
        Ok(Found { arms, reason, rolled_back_before })
    }

    /// Remembers a release that ended, if Davy had rolled it back.
    pub(super) fn remember(&mut self, record: &ReleaseRecord, rolled_back: bool) {
        if rolled_back || Phase::parse(&record.phase) == Some(Phase::RolledBack) {
            self.rolled_back.insert((record.service.clone(), record.canary.clone()));
        }
    }
}

/// What is scraped or evaluated least often decides how long silence is normal.
fn longest_interval(config: &Config) -> Duration {
    let scrapes = config.scrape_configs.iter().map(|s| s.scrape_interval);
    let sources = config.sources.iter().map(|s| s.interval + s.delay);
    scrapes.chain(sources).chain([config.evaluation_interval]).max().unwrap_or_default()
}
