//! Those who get one Davy's messages: how they fail, what they have taken, and what they then believe.
//!
//! They do as receivers are asked to: what comes again under the same id is not taken again.

use std::collections::{BTreeMap, BTreeSet};

use davy_alerting::alert::{ALERTNAME, RELEASE, fingerprint};
use davy_model::Labels;
use davy_store::control::OutboxRecord;
use serde_json::Value;

use crate::outbox::lane;
use crate::{Rng, Violation};

/// What becomes of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Taken, and said so.
    Taken,
    /// Taken, but the answer is lost or comes too late.
    Unanswered,
    /// The connection breaks after the body.
    Reset,
    /// Never arrives.
    Lost,
    /// Arrives when nobody waits for the answer any more.
    Late,
    /// Status 500.
    Refused,
    /// Status 429, with the seconds that it asks for.
    Busy(u32),
}

impl Fate {
    pub(crate) fn of_fault(rng: &mut Rng) -> Self {
        let busy = Self::Busy(u32::try_from(rng.range(1, 120)).unwrap_or(1));
        let all = [Self::Unanswered, Self::Reset, Self::Lost, Self::Late, Self::Refused, busy];
        all[rng.range(0, 6) as usize]
    }
}

/// A message as it was written.
struct Written {
    /// How many were written before it.
    place: u64,
    target: String,
    detail: String,
    /// Fingerprints, and whether each fires.
    alerts: Vec<(String, bool)>,
    /// The release whose regression it tells.
    regression: Option<String>,
}

#[derive(Default)]
pub(crate) struct Receiver {
    /// Every message that is or was on disk, by id.
    written: BTreeMap<String, Written>,
    got: BTreeSet<String>,
    /// The place of the newest message of each lane.
    newest: BTreeMap<String, u64>,
    /// Whether an alert fires, by target and fingerprint.
    believed: BTreeMap<(String, String), bool>,
    /// Releases whose regression was told.
    pub(crate) regressions: BTreeSet<String>,
    /// By target: how it fails, and until when.
    trouble: BTreeMap<String, (i64, Fate)>,
    pub(crate) duplicates: u32,
}

impl Receiver {
    /// A row that is on disk from now on. Says whom it is for, and whether its id was another's.
    pub(crate) fn written(&mut self, record: &OutboxRecord) -> (String, Option<Violation>) {
        let written = Written { place: self.written.len() as u64, ..read(record) };
        let target = written.target.clone();
        let before = self.written.insert(record.id.clone(), written);
        (target, before.map(|_| Violation::TwoFaced))
    }

    /// Whether the message that tells of a release's regression is on disk.
    pub(crate) fn is_written_of(&self, release: &str) -> bool {
        self.written.values().any(|w| w.regression.as_deref() == Some(release))
    }

    pub(crate) fn fail(&mut self, target: &str, until: i64, how: Fate) {
        self.trouble.insert(target.to_owned(), (until, how));
    }

    pub(crate) fn trouble(&self, target: &str, now: i64) -> Option<Fate> {
        self.trouble.get(target).filter(|(until, _)| *until > now).map(|(_, how)| *how)
    }

    /// A message arrives.
    pub(crate) fn take(&mut self, record: &OutboxRecord) -> Vec<Violation> {
        let Some(written) = self.written.get(&record.id) else { return vec![Violation::Unwritten] };
        if written.detail != record.detail {
            return vec![Violation::TwoFaced];
        }
        if !self.got.insert(record.id.clone()) {
            self.duplicates += 1;
            return Vec::new();
        }
        for (fingerprint, fires) in &written.alerts {
            self.believed.insert((written.target.clone(), fingerprint.clone()), *fires);
        }
        self.regressions.extend(written.regression.clone());
        let newest = self.newest.entry(lane(&record.id).to_owned()).or_default();
        if *newest > written.place {
            return vec![Violation::Overtaken];
        }
        *newest = written.place;
        Vec::new()
    }

    pub(crate) fn messages(&self) -> u32 {
        u32::try_from(self.written.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn misses_one(&self) -> bool {
        self.written.keys().any(|id| !self.got.contains(id))
    }

    pub(crate) fn believes(&self, target: &str, fingerprint: &str) -> bool {
        self.believed.get(&(target.to_owned(), fingerprint.to_owned())).is_some_and(|fires| *fires)
    }

    /// Targets and alerts that are believed to fire.
    pub(crate) fn firing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.believed.iter().filter(|(_, fires)| **fires).map(|((t, f), _)| (t.as_str(), f.as_str()))
    }
}

/// What a body says, read as a receiver would read it.
fn read(record: &OutboxRecord) -> Written {
    let body: Value = serde_json::from_str(&record.detail).expect("a body is JSON");
    let (mut alerts, mut regression) = (Vec::new(), None);
    for pair in body["alerts"].as_array().into_iter().flatten() {
        let labels = pair[1]["labels"].as_object().into_iter().flatten();
        let labels = Labels::from_pairs(labels.map(|(n, v)| (n.as_str(), v.as_str().unwrap_or(""))));
        let fires = pair[0] == "firing";
        if fires && labels.get(ALERTNAME) == Some("CanaryRegression") {
            regression = labels.get(RELEASE).map(str::to_owned);
        }
        alerts.push((fingerprint(&labels), fires));
    }
    let target = format!("{}/{}", record.receiver, body["integration"]);
    Written { place: 0, target, detail: record.detail.clone(), alerts, regression }
}
