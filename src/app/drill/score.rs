//! How a drill went: each hop with its time and the time it may take.

use std::time::Duration;

use davy_api::wire;
use davy_model::Timestamp;

/// Within how many intervals a gross regression must be called worse.
const DETECT_INTERVALS: u32 = 12;
const DECIDE_MAX: Duration = Duration::from_secs(5);
const NOTIFY_MAX: Duration = Duration::from_secs(60);

/// When each hop was passed; `None` if it was not.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    /// The bad version was there to be scraped.
    pub(super) injected: Option<Timestamp>,
    pub(super) scraped: Option<Timestamp>,
    pub(super) detected: Option<Timestamp>,
    pub(super) decided: Option<Timestamp>,
    pub(super) called: Option<Timestamp>,
    pub(super) verified: Option<Timestamp>,
    pub(super) notified: Option<Timestamp>,
    /// Whether anyone is there to hear.
    pub(super) has_receiver: bool,
}

pub(super) struct Bounds {
    pub(super) scrape_interval: Duration,
    pub(super) interval: Duration,
    pub(super) verify_timeout: Duration,
}

/// The longest that a drill may take.
pub(super) fn time_max(bounds: &Bounds) -> Duration {
    bounds.scrape_interval * 3
        + bounds.interval * (DETECT_INTERVALS + 2)
        + DECIDE_MAX * 2
        + bounds.verify_timeout
        + NOTIFY_MAX
}

pub(super) fn hops(times: &Times, bounds: &Bounds) -> Vec<wire::DrillHop> {
    let limits = [
        ("scrape", times.injected, times.scraped, bounds.scrape_interval * 3),
        ("detect", times.scraped, times.detected, bounds.interval * DETECT_INTERVALS),
        ("decide", times.detected, times.decided, DECIDE_MAX),
        ("call", times.decided, times.called, DECIDE_MAX),
        ("verify", times.called, times.verified, bounds.verify_timeout + bounds.interval * 2),
        ("notify", times.decided, times.notified, NOTIFY_MAX),
    ];
    limits.map(|(name, from, at, limit)| hop(name, from, at, limit, times)).into()
}

fn hop(
    name: &str,
    from: Option<Timestamp>,
    at: Option<Timestamp>,
    limit: Duration,
    times: &Times,
) -> wire::DrillHop {
    let took = from.zip(at).map(|(from, at)| at.since(from));
    let missing = match name {
        "notify" if !times.has_receiver => "no receiver is configured, so nobody would have heard",
        _ => "it did not happen",
    };
    wire::DrillHop {
        name: name.to_owned(),
        seconds: took.map(|t| t.as_secs_f64()),
        limit_seconds: limit.as_secs_f64(),
        ok: took.is_some_and(|t| t <= limit),
        detail: match took {
            None => missing.to_owned(),
            Some(t) if t > limit => "too late".to_owned(),
            Some(_) => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_that_is_late_or_missing_is_said() {
        let at = |s: i64| Some(Timestamp::from_millis(s * 1000));
        let bounds = Bounds {
            scrape_interval: Duration::from_secs(15),
            interval: Duration::from_secs(15),
            verify_timeout: Duration::from_secs(120),
        };
        let times = Times {
            injected: at(0),
            scraped: at(10),
            detected: at(1000),
            decided: at(1000),
            called: at(1001),
            verified: None,
            notified: None,
            has_receiver: false,
        };
        let told: Vec<(String, bool, String)> =
            hops(&times, &bounds).into_iter().map(|h| (h.name, h.ok, h.detail)).collect();
        let expected = [
            ("scrape", true, ""),
            ("detect", false, "too late"),
            ("decide", true, ""),
            ("call", true, ""),
            ("verify", false, "it did not happen"),
            ("notify", false, "no receiver is configured, so nobody would have heard"),
        ];
        assert_eq!(told, expected.map(|(n, ok, d)| (n.to_owned(), ok, d.to_owned())));
    }
}
