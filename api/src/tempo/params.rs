//! What stands behind the question mark: read one by one, so that an error names the parameter.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::http::request::Parts;
use davy_model::Timestamp;
use davy_query::traceql::nanos_of_unit;

use super::TraceError;

/// Parameters in the order in which they were sent. Those nobody asks for are passed over, as Tempo does.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = TraceError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TraceError> {
        let read = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        read.map(|Query(pairs)| Self(pairs)).map_err(|e| TraceError::Bad(e.body_text()))
    }
}

impl Params {
    /// The first of this name that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Unix time in seconds, or beyond all seconds in nanoseconds.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<Timestamp>, TraceError> {
        /// Larger numbers cannot be seconds: nanoseconds since about 1970-04-26.
        const SECONDS_MAX: f64 = 1e16;
        self.parsed(name, "a Unix time in seconds", |text| {
            let number = text.parse::<f64>().ok()?;
            Timestamp::from_secs_f64(if number > SECONDS_MAX { number / 1e9 } else { number })
        })
    }

    /// From one to `most`; what is larger is cut.
    pub(crate) fn limit(&self, name: &str, usual: usize, most: usize) -> Result<usize, TraceError> {
        let limit = self.parsed(name, "a whole number", |text| text.parse::<usize>().ok())?;
        Ok(limit.filter(|n| *n > 0).unwrap_or(usual).min(most))
    }

    /// `100ms`, `1.5s`, `1h30m`.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, TraceError> {
        self.parsed(name, "a duration such as 100ms or 1.5s", duration)
    }

    pub(crate) fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, TraceError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong =
            || TraceError::Bad(format!("invalid parameter {name:?}: expected {expected}, got {text:?}"));
        read(text).map(Some).ok_or_else(wrong)
    }
}

/// As Go writes them, days and weeks as well.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        nanos += number * nanos_of_unit(unit)?;
    }
    (!text.is_empty() && nanos < 1e19).then(|| Duration::from_nanos(nanos as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("1m30.5s"), Some(Duration::from_millis(90_500)));
        assert_eq!(duration("250us"), Some(Duration::from_micros(250)));
        for wrong in ["", "5", "s", "1.2.3s", "1y", "9999999999999w"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn seconds_may_come_as_nanoseconds() {
        let params = Params(vec![
            ("start".into(), "1700000000.5".into()),
            ("end".into(), "1700000000500000000".into()),
            ("odd".into(), "yesterday".into()),
        ]);
        let at = Timestamp::from_millis(1_700_000_000_500);
        assert_eq!(params.seconds("start").unwrap(), Some(at));
        assert_eq!(params.seconds("end").unwrap(), Some(at));
        assert!(params.seconds("odd").is_err());
        assert_eq!(params.seconds("absent").unwrap(), None);
    }
}
