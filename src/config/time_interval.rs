//! `time_intervals`, Alertmanager's schema: names for times at which routes are mute, or active.

use std::collections::BTreeMap;

use davy_alerting::time_interval::TimeInterval;
use jiff::tz::TimeZone;

use super::reader::{Field, Section};
use super::suggest::did_you_mean;

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// By name; the old `mute_time_intervals` is the same list.
pub(super) type Named = BTreeMap<String, Vec<TimeInterval>>;

pub(super) fn read(top: &mut Section<'_>) -> Named {
    let mut named = Named::new();
    for key in ["time_intervals", "mute_time_intervals"] {
        for field in top.get(key).map(|f| f.items()).unwrap_or_default() {
            let entry = field.section(|s| {
                let name = s.required("name", "routes refer to it").and_then(|f| f.name());
                let intervals = s.list("time_intervals", |f| interval(&f));
                Some((name?.to_owned(), intervals))
            });
            if let Some((name, intervals)) = entry
                && named.insert(name.clone(), intervals).is_some()
            {
                field.error(format!("time interval {name:?} is given twice; give each its own name"));
            }
        }
    }
    named
}

/// The intervals that a route names.
pub(super) fn of_route(s: &mut Section<'_>, key: &'static str, named: &Named) -> Vec<TimeInterval> {
    let find = |field: Field<'_>| {
        let name = field.name()?;
        let found = named.get(name).cloned();
        if found.is_none() {
            let hint = did_you_mean(name, named.keys().map(String::as_str));
            field.error(format!("no entry of `time_intervals` is called {}{hint}", field.got()));
        }
        found
    };
    s.list(key, find).into_iter().flatten().collect()
}

fn interval(field: &Field<'_>) -> Option<TimeInterval> {
    field.section(|s| {
        let times = s.list("times", |f| times(&f));
        let weekdays = s.list("weekdays", |f| f.parse(|t| range(t, |w| name_of(w, &WEEKDAYS, 0))));
        let days_of_month = s.list("days_of_month", |f| f.parse(|t| range(t, day)));
        let months = s.list("months", |f| f.parse(|t| range(t, month)));
        let years = s.list("years", |f| f.parse(|t| range(t, |y| number(y, 0, 9999))));
        let location = s.or("location", TimeZone::UTC, |f| {
            f.parse(|t| {
                let zone = if t == "Local" { Ok(TimeZone::system()) } else { TimeZone::get(t) };
                zone.map_err(|_| "expected a time zone such as Europe/Berlin, UTC or Local".to_owned())
            })
        });
        Some(TimeInterval { times, weekdays, days_of_month, months, years, location })
    })
}

fn times(field: &Field<'_>) -> Option<(u16, u16)> {
    field.section(|s| {
        let start = s.required("start_time", "such as 09:00").and_then(|f| f.parse(minutes));
        let end = s.required("end_time", "such as 17:00, or 24:00").and_then(|f| f.parse(minutes));
        let (start, end) = (start?, end?);
        if start >= end {
            s.error("it ends before it begins; write two, up to 24:00 and from 00:00");
        }
        Some((start, end))
    })
}

fn minutes(text: &str) -> Result<u16, String> {
    let wrong = || "expected a time of day from 00:00 to 24:00".to_owned();
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let two = |t: &str| if t.len() == 2 { t.parse::<u16>().ok() } else { None };
    let all = two(hours).zip(two(minutes).filter(|m| *m < 60)).map(|(h, m)| h * 60 + m);
    all.filter(|m| *m <= 24 * 60).ok_or_else(wrong)
}

/// One, or `first:last`.
fn range(text: &str, one: impl Fn(&str) -> Result<i16, String>) -> Result<(i16, i16), String> {
    let (from, to) = match text.split_once(':') {
        Some((from, to)) => (one(from)?, one(to)?),
        None => (one(text)?, one(text)?),
    };
    // Days from the end of a month are compared once its length is known.
    if from > to && (from > 0) == (to > 0) {
        return Err(format!("{text} ends before it begins"));
    }
    Ok((from, to))
}

fn name_of(text: &str, names: &[&str], first: i16) -> Result<i16, String> {
    let lower = text.to_lowercase();
    let index = names.iter().position(|n| *n == lower).and_then(|i| i16::try_from(i).ok());
    index.map(|i| i + first).ok_or_else(|| format!("{text:?} is none of {}", names.join(", ")))
}

fn month(text: &str) -> Result<i16, String> {
    number(text, 1, 12).or_else(|_| name_of(text, &MONTHS, 1))
}

fn day(text: &str) -> Result<i16, String> {
    let day = number(text, -31, 31)?;
    if day == 0 { Err("a day of a month is 1 to 31, or -1 to -31 from its end".to_owned()) } else { Ok(day) }
}

fn number(text: &str, from: i16, to: i16) -> Result<i16, String> {
    let number = text.parse().ok().filter(|n| (from..=to).contains(n));
    number.ok_or_else(|| format!("expected a number from {from} to {to}"))
}
