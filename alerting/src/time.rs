//! Instants as RFC 3339 text, for wire shapes and messages.

use davy_model::Timestamp;

/// `2026-01-02T03:04:05.678Z`; what lies outside the years -9999 to 9999 is shown at the nearer end.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let bound = if at < Timestamp::default() { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(bound).to_string()
}

pub(crate) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp::from_millis(t.as_millisecond()))
}

/// `2026-01-02 03:04:05 UTC`, for people.
pub(crate) fn for_people(at: Timestamp) -> String {
    let text = rfc3339(at);
    let seconds = text.split(['.', 'Z']).next().unwrap_or(&text);
    format!("{} UTC", seconds.replacen('T', " ", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_and_extremes_do_not_panic() {
        let at = Timestamp::from_millis(1_767_323_045_678);
        assert_eq!(rfc3339(at), "2026-01-02T03:04:05.678Z");
        assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
        assert_eq!(for_people(at), "2026-01-02 03:04:05 UTC");
        assert!(rfc3339(Timestamp::MAX).starts_with("9999-"));
        assert!(rfc3339(Timestamp::MIN).starts_with("-009999-"));
    }
}
