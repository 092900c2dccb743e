//! What happened to each release and when, as marks on a time axis; and which releases are still spoken of.
//!
//! A mark is a series whose value is a time. It stands in the store as long as its release is spoken of, so a chart
//! of that time finds it, whatever part of the release it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use davy_api::wire;
use davy_model::Timestamp;

/// A release that is over, or was rolled back, is spoken of for this long, so that a board sees how it ended; then its
/// series end. Boards find it in their past.
const OVER_SHOWN: Duration = Duration::from_secs(30 * 60);
const OVER: &str = "closed";
const ROLLED_BACK: &str = "rolled_back";

#[derive(Debug)]
struct Told {
    phase: String,
    /// Milliseconds since the epoch, by event.
    events: BTreeMap<&'static str, i64>,
    over_since: Option<Timestamp>,
}

/// Of the releases that the API lists, and as of when.
#[derive(Debug)]
pub(super) struct Story(BTreeMap<String, Told>, Timestamp);

impl Default for Story {
    fn default() -> Self {
        Self(BTreeMap::new(), Timestamp::MIN)
    }
}

impl Story {
    /// Hears of the releases as they stand at `now`. Those that had ended before anything was heard of them (as after
    /// a restart) are not spoken of.
    pub(super) fn hear(&mut self, releases: &[Arc<wire::Release>], now: Timestamp) {
        for r in releases {
            let is_over = r.phase == OVER;
            if (is_over || r.phase == ROLLED_BACK) && !self.0.contains_key(&r.id) {
                continue;
            }
            let told = self.0.entry(r.id.clone()).or_insert_with(|| Told {
                phase: r.phase.clone(),
                events: millis(&r.started_at).map(|at| ("deploy", at)).into_iter().collect(),
                over_since: None,
            });
            if told.phase != r.phase {
                if let Some(event) = entered(&told.phase, &r.phase) {
                    told.events.insert(event, now.as_millis());
                }
                told.phase.clone_from(&r.phase);
            }
            let decided = match r.verdict.as_str() {
                "fail" => Some("fail"),
                "pass" => Some("pass"),
                _ => None,
            };
            if let Some((event, at)) = decided.zip(r.decided_at.as_deref().and_then(millis)) {
                told.events.insert(event, at);
            }
            let rollback = r.actions.iter().find(|a| a.kind == "rollback");
            if let Some(at) = rollback.and_then(|a| millis(&a.at)) {
                told.events.insert("rollback", at);
            }
            if (is_over || r.phase == ROLLED_BACK) && told.over_since.is_none() {
                told.over_since = Some(now);
            }
        }
        let known: BTreeSet<&str> = releases.iter().map(|r| r.id.as_str()).collect();
        self.0.retain(|id, _| known.contains(id.as_str()));
        self.1 = now;
    }

    /// The marks of a release; `None` if it is not spoken of.
    pub(super) fn of(&self, release: &wire::Release) -> Option<&BTreeMap<&'static str, i64>> {
        let told = self.0.get(&release.id)?;
        told.over_since.is_none_or(|since| self.1.since(since) < OVER_SHOWN).then_some(&told.events)
    }
}

/// What entering a phase is called.
fn entered(before: &str, phase: &str) -> Option<&'static str> {
    Some(match (before, phase) {
        ("holding", "watching") => "resume",
        (_, "holding") => "hold",
        (_, "promoting" | "promoted") => "promote",
        (_, "rolled_back") => "rolled_back",
        (_, "needs_human") => "needs_human",
        (_, OVER) => "close",
        _ => return None,
    })
}

fn millis(rfc3339: &str) -> Option<i64> {
    rfc3339.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn release(phase: &str, verdict: &str) -> wire::Release {
        let at = |s: i64| wire::rfc3339(Timestamp::from_millis(s * 1000));
        wire::Release {
            id: "checkout-v2-7".into(),
            generation: 7,
            service: "checkout".into(),
            baseline: "v1".into(),
            canary: "v2".into(),
            phase: phase.into(),
            verdict: verdict.into(),
            reason: String::new(),
            started_at: at(100),
            decided_at: (verdict != "insufficient").then(|| at(160)),
            traffic_share: Some(0.5),
            evidence: Some(0.25),
            contract: "ok".into(),
            intervals: 4,
            metrics: Vec::new(),
            actions: Vec::new(),
            traces: Vec::new(),
            ..wire::Release::default()
        }
    }

    fn told(story: &Story, release: &wire::Release) -> String {
        let events = story.of(release).map(|e| e.iter().map(|(n, at)| format!("{n}={}", at / 1000)));
        events.map_or_else(|| "nothing".to_owned(), |e| e.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn marks_tell_what_happened_and_end_with_the_release() {
        let mut story = Story::default();
        let mut at = |phase: &str, verdict: &str, s: i64| {
            let r = Arc::new(release(phase, verdict));
            story.hear(std::slice::from_ref(&r), Timestamp::from_millis(s * 1000));
            told(&story, &r)
        };
        assert_eq!(at("watching", "insufficient", 115), "deploy=100");
        assert_eq!(at("rolling_back", "fail", 161), "deploy=100 fail=160");
        assert_eq!(at("rolled_back", "fail", 200), "deploy=100 fail=160 rolled_back=200");
        assert_eq!(at("closed", "fail", 300), "close=300 deploy=100 fail=160 rolled_back=200");
        assert_eq!(at("closed", "fail", 1_999), "close=300 deploy=100 fail=160 rolled_back=200");
        assert_eq!(at("closed", "fail", 2_000), "nothing");
        assert_eq!(at("closed", "fail", 2_015), "nothing");
    }

    #[test]
    fn what_had_ended_before_is_not_spoken_of() {
        let mut story = Story::default();
        let over = Arc::new(release("closed", "pass"));
        story.hear(std::slice::from_ref(&over), Timestamp::from_millis(0));
        assert_eq!(told(&story, &over), "nothing");
    }
}
