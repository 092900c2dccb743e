//! The evidence quorum: what a canary that is not seen means. Blind, hung, down, a common cause, a bad exposition and
//! no traffic look alike from afar, and only two of them may act.
//!
//! | canary | baseline | Davy itself | others say | class |
//! |---|---|---|---|---|
//! | any | any | blind | any | `engine_blind` |
//! | refused | seen | sees | fails | `canary_down` |
//! | hung | seen | sees | fails | `canary_hung` |
//! | refused, hung | seen | sees | fine, or nobody | `partial_blind` |
//! | not seen | not seen | sees | any | `service_down` |
//! | limit, parse, auth | any | sees | any | `bad_exposition` |
//! | seen | any | sees | any | `clear` |

use std::time::Duration;

use davy_model::Timestamp;

use super::Down;

/// How one arm's targets answered in one interval. Every target counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    pub seen: u32,
    /// Nobody listens (RST), or the process is gone.
    pub refused: u32,
    /// Taken, and not answered in time; or no route.
    pub silent: u32,
    /// Answered with what cannot be used: too much, not parsed, not allowed.
    pub unusable: u32,
}

/// What callers of the canary, or a load balancer in front of it, saw of it in the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Others {
    #[default]
    Nobody,
    Fine,
    Fails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    Clear,
    EngineBlind,
    PartialBlind,
    CanaryDown,
    CanaryHung,
    ServiceDown,
    BadExposition,
}

impl Sight {
    pub const ALL: [Self; 7] = [
        Self::Clear,
        Self::EngineBlind,
        Self::PartialBlind,
        Self::CanaryDown,
        Self::CanaryHung,
        Self::ServiceDown,
        Self::BadExposition,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::EngineBlind => "engine_blind",
            Self::PartialBlind => "partial_blind",
            Self::CanaryDown => "canary_down",
            Self::CanaryHung => "canary_hung",
            Self::ServiceDown => "service_down",
            Self::BadExposition => "bad_exposition",
        }
    }

    /// What may be rolled back without a verdict of the judge.
    pub fn down(self) -> Option<Down> {
        match self {
            Self::CanaryDown => Some(Down::Refused),
            Self::CanaryHung => Some(Down::Hung),
            Self::Clear
            | Self::EngineBlind
            | Self::PartialBlind
            | Self::ServiceDown
            | Self::BadExposition => None,
        }
    }
}

/// Intervals in a row in which every target of the canary refuses, and how long at least.
const REFUSED_MIN: u32 = 3;
const REFUSED_FOR: Duration = Duration::from_secs(45);
/// Intervals in a row in which none answers.
const SILENT_MIN: u32 = 4;

/// Counts how long the canary has not answered, and says what that means.
#[derive(Debug, Clone, Default)]
pub struct Quorum {
    refused: u32,
    refused_since: Option<Timestamp>,
    silent: u32,
}

impl Quorum {
    pub fn see(
        &mut self,
        now: Timestamp,
        canary: Answers,
        baseline: Answers,
        engine_blind: bool,
        others: Others,
    ) -> Sight {
        let none_seen = |a: Answers| a.seen == 0 && a.refused + a.silent + a.unusable > 0;
        if engine_blind {
            // What is missed while blind counts neither for nor against.
            return Sight::EngineBlind;
        }
        let (refused, silent) = (canary.refused > 0, canary.silent > 0);
        if !none_seen(canary) || canary.unusable > 0 {
            *self = Self::default();
            return if none_seen(canary) { Sight::BadExposition } else { Sight::Clear };
        }
        if none_seen(baseline) {
            *self = Self::default();
            return Sight::ServiceDown;
        }
        // Some refuse, some hang: the weaker of the two.
        if refused && !silent {
            self.refused += 1;
            self.refused_since.get_or_insert(now);
        } else {
            (self.refused, self.refused_since) = (0, None);
        }
        self.silent += 1;
        let long = self.refused_since.is_some_and(|since| now.since(since) >= REFUSED_FOR);
        match others {
            Others::Fails if baseline.seen == 0 => Sight::PartialBlind,
            Others::Fails if self.refused >= REFUSED_MIN && long => Sight::CanaryDown,
            Others::Fails if self.silent >= SILENT_MIN && silent => Sight::CanaryHung,
            Others::Fails | Others::Fine | Others::Nobody => Sight::PartialBlind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Answers = Answers { seen: 2, refused: 0, silent: 0, unusable: 0 };
    const REFUSED: Answers = Answers { seen: 0, refused: 2, silent: 0, unusable: 0 };
    const SILENT: Answers = Answers { seen: 0, refused: 0, silent: 2, unusable: 0 };
    const UNUSABLE: Answers = Answers { seen: 0, refused: 0, silent: 0, unusable: 2 };

    /// The class after each of `times` intervals of the same.
    fn classes(
        canary: Answers,
        baseline: Answers,
        blind: bool,
        others: Others,
        times: i64,
    ) -> Vec<&'static str> {
        let mut quorum = Quorum::default();
        let at = |i: i64| Timestamp::from_millis(i * 15_000);
        (0..times).map(|i| quorum.see(at(i), canary, baseline, blind, others).as_str()).collect()
    }

    #[test]
    fn a_canary_is_down_only_when_it_refuses_for_a_while_and_others_say_so() {
        let fails = classes(REFUSED, SEEN, false, Others::Fails, 4);
        assert_eq!(fails, ["partial_blind", "partial_blind", "partial_blind", "canary_down"]);
        for others in [Others::Fine, Others::Nobody] {
            assert!(classes(REFUSED, SEEN, false, others, 100).iter().all(|c| *c == "partial_blind"));
        }
    }

    #[test]
    fn one_that_hangs_needs_longer() {
        let fails = classes(SILENT, SEEN, false, Others::Fails, 4);
        assert_eq!(fails, ["partial_blind", "partial_blind", "partial_blind", "canary_hung"]);
        assert!(classes(SILENT, SEEN, false, Others::Fine, 100).iter().all(|c| *c == "partial_blind"));
    }

    #[test]
    fn blindness_of_davys_own_goes_before_everything() {
        for canary in [SEEN, REFUSED, SILENT, UNUSABLE] {
            let all = classes(canary, REFUSED, true, Others::Fails, 100);
            assert!(all.iter().all(|c| *c == "engine_blind"));
        }
    }

    #[test]
    fn both_arms_away_is_the_service_and_a_bad_exposition_is_not_down() {
        assert!(classes(REFUSED, REFUSED, false, Others::Fails, 9).iter().all(|c| *c == "service_down"));
        assert!(classes(UNUSABLE, SEEN, false, Others::Fails, 9).iter().all(|c| *c == "bad_exposition"));
        // One instance that answers is enough to judge by.
        let one = Answers { seen: 1, refused: 5, ..Answers::default() };
        assert!(classes(one, SEEN, false, Others::Fails, 9).iter().all(|c| *c == "clear"));
    }

    #[test]
    fn nobody_but_the_two_classes_that_may_acts() {
        let may: Vec<&str> =
            Sight::ALL.into_iter().filter(|s| s.down().is_some()).map(Sight::as_str).collect();
        assert_eq!(may, ["canary_down", "canary_hung"]);
    }
}
