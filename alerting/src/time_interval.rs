//! Time intervals, as Alertmanager has them: times of day, weekdays, days of the month, months and years, in a time
//! zone. All fields of one must hold; of a list, any.

use davy_model::Timestamp;
use jiff::tz::TimeZone;

/// One entry of `time_intervals`: a field that is empty always holds. Ranges include both ends, but for times of day,
/// which end before their last minute.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeInterval {
    /// Minutes of the day.
    pub times: Vec<(u16, u16)>,
    /// Sunday is 0.
    pub weekdays: Vec<(i16, i16)>,
    /// From 1, or from -1 at the end of the month.
    pub days_of_month: Vec<(i16, i16)>,
    pub months: Vec<(i16, i16)>,
    pub years: Vec<(i16, i16)>,
    pub location: TimeZone,
}

impl TimeInterval {
    pub fn holds(&self, at: Timestamp) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(at.as_millis()) else { return false };
        let local = self.location.to_datetime(instant);
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        let within = |ranges: &[(i16, i16)], value: i16| {
            ranges.is_empty() || ranges.iter().any(|(from, to)| (*from..=*to).contains(&value))
        };
        let length = i16::from(local.days_in_month());
        let day = |d: i16| if d < 0 { length + d + 1 } else { d };
        let days: Vec<(i16, i16)> = self
            .days_of_month
            .iter()
            .map(|(from, to)| (day(*from).clamp(1, length), day(*to).clamp(0, length)))
            // The 31st of a month that has thirty days is no day of it.
            .zip(&self.days_of_month)
            .filter(|(_, said)| said.0 <= length)
            .map(|(range, _)| range)
            .collect();
        let in_times =
            self.times.is_empty() || self.times.iter().any(|(from, to)| (*from..*to).contains(&minute));
        let in_days =
            self.days_of_month.is_empty() || (!days.is_empty() && within(&days, i16::from(local.day())));
        in_times
            && in_days
            && within(&self.weekdays, i16::from(local.weekday().to_sunday_zero_offset()))
            && within(&self.months, i16::from(local.month()))
            && within(&self.years, local.year())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always() -> TimeInterval {
        TimeInterval {
            times: vec![],
            weekdays: vec![],
            days_of_month: vec![],
            months: vec![],
            years: vec![],
            location: TimeZone::UTC,
        }
    }

    fn holds(interval: &TimeInterval, text: &str) -> bool {
        let at: jiff::Timestamp = text.parse().unwrap();
        interval.holds(Timestamp::from_millis(at.as_millisecond()))
    }

    #[test]
    fn out_of_business_hours() {
        let office = TimeInterval { times: vec![(9 * 60, 17 * 60)], weekdays: vec![(1, 5)], ..always() };
        assert!(holds(&office, "2026-11-26T09:00:00Z"));
        assert!(holds(&office, "2026-11-26T16:59:59Z"));
        assert!(!holds(&office, "2026-11-26T17:00:00Z"));
        assert!(!holds(&office, "2026-11-28T12:00:00Z"), "a Saturday");
        let there = TimeInterval { location: TimeZone::fixed(jiff::tz::offset(8)), ..office };
        assert!(holds(&there, "2026-11-26T01:30:00Z"));
        assert!(!holds(&there, "2026-11-26T12:00:00Z"));
    }

    #[test]
    fn days_count_from_either_end_of_the_month() {
        let last_three = TimeInterval { days_of_month: vec![(-3, -1)], ..always() };
        assert!(holds(&last_three, "2026-02-26T00:00:00Z"));
        assert!(!holds(&last_three, "2026-02-25T00:00:00Z"));
        assert!(holds(&last_three, "2026-01-31T00:00:00Z"));
        let end = TimeInterval { days_of_month: vec![(31, 31)], ..always() };
        assert!(holds(&end, "2026-01-31T00:00:00Z"));
        assert!(!holds(&end, "2026-04-30T00:00:00Z"));
        let winter = TimeInterval { months: vec![(12, 12), (1, 2)], years: vec![(2026, 2027)], ..always() };
        assert!(holds(&winter, "2027-01-15T00:00:00Z"));
        assert!(!holds(&winter, "2026-03-01T00:00:00Z") && !holds(&winter, "2028-01-01T00:00:00Z"));
    }
}
