//! Go's time layouts (`2006-01-02 15:04:05`), in UTC.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Value;

/// How Go prints an instant.
pub(super) const STRING: &str = "2006-01-02 15:04:05.999999999 -0700 MST";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The parts of a layout, those that begin others first.
const PARTS: [&str; 27] = [
    "January", "Jan", "Monday", "Mon", "MST", "2006", "Z07:00", "Z0700", "-07:00", "-0700", "-07", "002",
    "01", "02", "03", "04", "05", "06", "15", "PM", "pm", "_2", "1", "2", "3", "4", "5",
];

/// `at` in the layout, as Go's `Time.Format`.
pub(crate) fn format(at: Timestamp, layout: &str) -> String {
    let t = at.to_zoned_datetime(TimeZone::UTC);
    let nanos = t.subsec_nanosecond();
    let (month, day) = (MONTHS[t.month() as usize - 1], DAYS[t.weekday().to_monday_zero_offset() as usize]);
    let twelve = if t.hour() % 12 == 0 { 12 } else { t.hour() % 12 };
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some((text, length)) = fraction(rest, nanos, &out) {
            out.push_str(&text);
            rest = &rest[length..];
            continue;
        }
        let Some(part) = PARTS.iter().find(|p| rest.starts_with(**p)) else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[part.len()..];
        out.push_str(&match *part {
            "January" => month.to_owned(),
            "Jan" => month[..3].to_owned(),
            "Monday" => day.to_owned(),
            "Mon" => day[..3].to_owned(),
            "MST" => "UTC".to_owned(),
            "2006" => format!("{:04}", t.year()),
            "06" => format!("{:02}", t.year().rem_euclid(100)),
            "Z07:00" | "Z0700" => "Z".to_owned(),
            "-07:00" => "+00:00".to_owned(),
            "-0700" => "+0000".to_owned(),
            "-07" => "+00".to_owned(),
            "002" => format!("{:03}", t.day_of_year()),
            "01" => format!("{:02}", t.month()),
            "1" => t.month().to_string(),
            "02" => format!("{:02}", t.day()),
            "_2" => format!("{:2}", t.day()),
            "2" => t.day().to_string(),
            "15" => format!("{:02}", t.hour()),
            "03" => format!("{twelve:02}"),
            "3" => twelve.to_string(),
            "04" => format!("{:02}", t.minute()),
            "4" => t.minute().to_string(),
            "05" => format!("{:02}", t.second()),
            "5" => t.second().to_string(),
            "PM" => if t.hour() < 12 { "AM" } else { "PM" }.to_owned(),
            _ => if t.hour() < 12 { "am" } else { "pm" }.to_owned(),
        });
    }
    out
}

/// What a template may ask of an instant besides `Format`.
pub(super) fn method(at: Timestamp, name: &str) -> Option<Value> {
    let t = at.to_zoned_datetime(TimeZone::UTC);
    let n = |n: i8| Value::Int(i64::from(n));
    Some(match name {
        "Year" => Value::Int(i64::from(t.year())),
        "Month" => Value::from(MONTHS[t.month() as usize - 1]),
        "Day" => n(t.day()),
        "Weekday" => Value::from(DAYS[t.weekday().to_monday_zero_offset() as usize]),
        "YearDay" => Value::Int(i64::from(t.day_of_year())),
        "Hour" => n(t.hour()),
        "Minute" => n(t.minute()),
        "Second" => n(t.second()),
        "Unix" => Value::Int(at.as_second()),
        "UnixMilli" => Value::Int(at.as_millisecond()),
        "UTC" => Value::Time(at),
        "String" => Value::from(format(at, STRING)),
        _ => return None,
    })
}

/// `.000` keeps its zeros, `.999` drops them; only behind digits.
fn fraction(rest: &str, nanos: i32, before: &str) -> Option<(String, usize)> {
    if !rest.starts_with(['.', ',']) || !before.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let length = rest[1..].find(|c| c != digit).unwrap_or(rest.len() - 1);
    if rest[1 + length..].starts_with(|c: char| c.is_ascii_digit()) || length > 9 {
        return None;
    }
    let digits = format!("{nanos:09}")[..length].to_owned();
    let digits = if digit == '9' { digits.trim_end_matches('0') } else { &digits };
    let text = if digits.is_empty() { String::new() } else { format!("{}{digits}", &rest[..1]) };
    Some((text, length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_read_as_in_go() {
        let at: Timestamp = "2015-06-03T13:09:04.128Z".parse().unwrap();
        let check = |layout, want| assert_eq!(format(at, layout), want);
        check("2006-01-02 15:04:05.999999999 -0700 MST", "2015-06-03 13:09:04.128 +0000 UTC");
        check("Mon, 02 Jan 2006 15:04:05 MST", "Wed, 03 Jun 2015 13:09:04 UTC");
        check("Monday January _2 3:04PM", "Wednesday June  3 1:09PM");
        check("2006-01-02T15:04:05.000000Z07:00", "2015-06-03T13:09:04.128000Z");
        check("1/2/06", "6/3/15");
    }
}
