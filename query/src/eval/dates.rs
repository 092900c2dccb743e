//! Calendar fields of Unix seconds, in UTC and for any year: values that are no dates still have an answer, as in
//! Go's `time`. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.

const DAY_S: i64 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    days: i64,
    pub year: i64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
}

impl Civil {
    pub(crate) fn of_seconds(s: i64) -> Self {
        let (days, second) = (s.div_euclid(DAY_S), s.rem_euclid(DAY_S));
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            days,
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (second / 3_600) as u8,
            minute: (second / 60 % 60) as u8,
        }
    }

    /// Of a sample's value; what is no number is the smallest integer, as Go has it.
    pub(crate) fn of_value(v: f64) -> Self {
        Self::of_seconds(if v.is_nan() { i64::MIN } else { v as i64 })
    }

    /// Sunday is 0.
    pub(crate) fn weekday(self) -> u8 {
        (self.days + 4).rem_euclid(7) as u8
    }

    pub(crate) fn day_of_year(self) -> u16 {
        let before: u16 = (1..self.month).map(|m| u16::from(days_in(self.year, m))).sum();
        before + u16::from(self.day)
    }

    pub(crate) fn days_in_month(self) -> u8 {
        days_in(self.year, self.month)
    }
}

fn days_in(year: i64, month: u8) -> u8 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u8::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_known_days() {
        let t = Civil::of_seconds(1_709_210_096); // 2024-02-29 12:34:56, a Thursday
        assert_eq!((t.year, t.month, t.day, t.hour, t.minute), (2024, 2, 29, 12, 34));
        assert_eq!((t.weekday(), t.day_of_year(), t.days_in_month()), (4, 60, 29));
        let t = Civil::of_seconds(-1); // 1969-12-31 23:59:59
        assert_eq!((t.year, t.month, t.day, t.hour, t.day_of_year()), (1969, 12, 31, 23, 365));
    }

    #[test]
    fn any_value_has_a_date() {
        for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 0.0] {
            let t = Civil::of_value(v);
            assert!((1..=12).contains(&t.month) && (1..=31).contains(&t.day), "{v}: {t:?}");
        }
    }
}
