//! Silences: alerts that someone does not want to hear of for a while. Alertmanager's noun and rules.

use davy_model::{Labels, Matcher, Timestamp};

/// Silences beyond this are refused.
pub const SILENCES_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Silence {
    pub id: String,
    /// All must match; at least one must not match the empty string.
    pub matchers: Vec<Matcher>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SilenceState {
    Pending,
    Active,
    Expired,
}

impl SilenceState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Expired => "expired",
        }
    }
}

impl Silence {
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now >= self.ends_at {
            SilenceState::Expired
        } else if now < self.starts_at {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    pub fn silences(&self, labels: &Labels, now: Timestamp) -> bool {
        self.state(now) == SilenceState::Active && self.matchers.iter().all(|m| m.matches(labels))
    }

    /// What is wrong with it.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        let empty = Labels::empty();
        if self.matchers.is_empty() || self.matchers.iter().all(|m| m.matches(&empty)) {
            return Err("at least one matcher must match something: this would silence everything".to_owned());
        }
        if self.ends_at <= self.starts_at {
            return Err("it ends before it starts".to_owned());
        }
        if self.ends_at <= now {
            return Err("it has ended already".to_owned());
        }
        if self.created_by.is_empty() || self.comment.is_empty() {
            return Err("`createdBy` and `comment` are required: others must know whom to ask".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    #[test]
    fn it_silences_what_matches_while_it_lasts() {
        let silence = Silence {
            id: "1".into(),
            matchers: vec![Matcher::equal("service", "checkout")],
            starts_at: at(10),
            ends_at: at(20),
            created_by: "ana".into(),
            comment: "known".into(),
        };
        let labels = Labels::from_pairs([("service", "checkout")]);
        let heard: Vec<bool> = [9, 10, 19, 20].map(|s| !silence.silences(&labels, at(s))).into();
        assert_eq!(heard, [true, false, false, true]);
        assert!(!silence.silences(&Labels::from_pairs([("service", "search")]), at(15)));
        assert_eq!(silence.check(at(0)), Ok(()));
        assert!(silence.check(at(20)).is_err());
        let all = Silence { matchers: vec![Matcher::equal("service", "")], ..silence.clone() };
        assert!(all.check(at(0)).unwrap_err().contains("everything"));
    }
}
