//! Parameters of a request as Prometheus takes them: of the URL and of a form, times as decimals or RFC 3339.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use davy_collector::duration;
use davy_model::{Matcher, Timestamp};
use davy_query::{Expr, ParseError};

use crate::error::ApiError;

const FORM: &str = "application/x-www-form-urlencoded";
/// `match[]` of one request at most.
const SELECTORS_MAX: usize = 1_000;
/// What client libraries send for "the beginning" and "the end", whose years RFC 3339 has no room for.
const TIME_MIN: &str = "-292273086-05-16T16:47:06Z";
const TIME_MAX: &str = "292277025-08-18T07:12:54.999999999Z";

/// Parameters of the body before those of the URL, as Go's forms have them.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let url = Self::parse(request.uri().query().unwrap_or("").as_bytes());
        if !is_form(request.headers()) {
            return Ok(url);
        }
        let bytes = Bytes::from_request(request, state).await;
        let mut all = Self::parse(&bytes.map_err(|e| refused(&e))?);
        all.pairs.extend(url.pairs);
        Ok(all)
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case(FORM))
}

fn refused(rejection: &BytesRejection) -> ApiError {
    match rejection.status().as_u16() {
        413 => ApiError::TooLarge("the form is longer than a query may be".into()),
        _ => ApiError::BadData(format!("error parsing form values: {}", rejection.body_text())),
    }
}

impl Params {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self { pairs: form_urlencoded::parse(encoded).into_owned().collect() }
    }

    /// `None` for a parameter that is absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Of `query`, with the place of a mistake.
    pub(crate) fn expr(&self) -> Result<Expr, ApiError> {
        let text = self.get("query").unwrap_or("");
        Expr::parse(text).map_err(|e| invalid("query", &parse_error(text, &e)))
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        self.get(name).map(|text| time(text).ok_or_else(|| bad_time(name, text))).transpose()
    }

    pub(crate) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        let text = self.get(name).unwrap_or("");
        time(text).ok_or_else(|| bad_time(name, text))
    }

    /// `start` and `end`; all of time where they are not given.
    pub(crate) fn range(&self) -> Result<(Timestamp, Timestamp), ApiError> {
        let from = self.time("start")?.unwrap_or(Timestamp::MIN);
        Ok((from, self.time("end")?.unwrap_or(Timestamp::MAX)))
    }

    /// Nanoseconds, which may be zero or negative.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name).map(|text| nanos(text).map_err(|e| invalid(name, &e))).transpose()
    }

    /// As [`Self::duration`]; a negative one is zero.
    pub(crate) fn positive_duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let nanos = self.duration(name)?;
        Ok(nanos.map(|n| Duration::from_nanos(u64::try_from(n).unwrap_or(0))))
    }

    /// `limit`; 0 is "all".
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        match self.integer("limit")? {
            None => Ok(0),
            Some(n) => usize::try_from(n).map_err(|_| invalid("limit", "limit must be non-negative")),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| invalid(name, &format!("got {text:?}, expected a whole number")))
        };
        self.get(name).map(parse).transpose()
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            _ => Err(invalid(name, &format!("got {text:?}, expected true or false"))),
        };
        self.get(name).map(parse).transpose()
    }

    /// Every `match[]`; each has a matcher that the empty text does not satisfy.
    pub(crate) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        if self.all("match[]").count() > SELECTORS_MAX {
            return Err(invalid("match[]", &format!("more than the {SELECTORS_MAX} allowed")));
        }
        self.all("match[]").map(|text| selector("match[]", text)).collect()
    }

    /// A parameter that is one selector.
    pub(crate) fn selector(&self, name: &str) -> Result<Option<Vec<Matcher>>, ApiError> {
        self.get(name).map(|text| selector(name, text)).transpose()
    }
}

fn selector(name: &str, text: &str) -> Result<Vec<Matcher>, ApiError> {
    let matchers = davy_query::parse_selector(text).map_err(|e| invalid(name, &parse_error(text, &e)))?;
    if matchers.iter().all(|m| m.matches_value("")) {
        let detail = format!("{name} must contain at least one non-empty matcher");
        return Err(invalid(name, &detail));
    }
    Ok(matchers)
}

/// `invalid parameter "step": ...`.
pub(crate) fn invalid(name: &str, detail: &str) -> ApiError {
    ApiError::BadData(format!("invalid parameter {name:?}: {detail}"))
}

fn bad_time(name: &str, text: &str) -> ApiError {
    invalid(name, &format!("cannot parse {text:?} to a valid timestamp, expected Unix seconds or RFC 3339"))
}

/// `1:5: parse error: ...`, line and column from 1.
fn parse_error(text: &str, error: &ParseError) -> String {
    let before = text.chars().take(error.position);
    let (line, column) =
        before.fold((1, 1), |(line, column), c| if c == '\n' { (line + 1, 1) } else { (line, column + 1) });
    format!("{line}:{column}: parse error: {}", error.detail)
}

/// Times beyond what milliseconds in 64 bits hold are the first or the last there is.
fn time(text: &str) -> Option<Timestamp> {
    match text {
        TIME_MIN => return Some(Timestamp::MIN),
        TIME_MAX => return Some(Timestamp::MAX),
        _ => {}
    }
    if let Ok(secs) = text.parse::<f64>() {
        let edge = if secs < 0.0 { Timestamp::MIN } else { Timestamp::MAX };
        return (!secs.is_nan()).then(|| Timestamp::from_secs_f64(secs).unwrap_or(edge));
    }
    let parsed: jiff::Timestamp = text.parse().ok()?;
    let millis = parsed.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(millis).ok().map(Timestamp::from_millis)
}

/// Decimal seconds, or a Prometheus duration.
fn nanos(text: &str) -> Result<i64, String> {
    if let Ok(secs) = text.parse::<f64>() {
        let nanos = secs * 1e9;
        // 2^63 as f64 is exact; the comparison also refuses NaN.
        return if nanos.abs() < 9.223_372_036_854_776e18 {
            Ok(nanos as i64)
        } else {
            Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"))
        };
    }
    duration::parse(text).and_then(|d| i64::try_from(d.as_nanos()).ok()).ok_or_else(|| {
        format!("cannot parse {text:?} to a valid duration, expected seconds or a duration such as 1m30s")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimals_or_rfc_3339() {
        let check = |text, want| assert_eq!(time(text).map(Timestamp::as_millis), want, "{text}");
        check("4", Some(4_000));
        check("1700000000.5", Some(1_700_000_000_500));
        check("1700000000.1234", Some(1_700_000_000_123));
        check("-1.5", Some(-1_500));
        check("1e3", Some(1_000_000));
        check("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781));
        check("2015-07-01T22:10:51.781+02:00", Some(1_435_781_451_781));
        check(TIME_MIN, Some(i64::MIN));
        check(TIME_MAX, Some(i64::MAX));
        for text in ["", "NaN", "yesterday", "2015-07-01", "1 700", "0x10"] {
            check(text, None);
        }
    }

    #[test]
    fn absurd_times_are_taken() {
        let check = |text, want| assert_eq!(time(text).map(Timestamp::as_millis), Some(want), "{text}");
        check("1700000000000", 1_700_000_000_000_000); // milliseconds sent as seconds
        check("1e300", i64::MAX);
        check("-1e300", i64::MIN);
        check("+Inf", i64::MAX);
        check("-Inf", i64::MIN);
    }

    #[test]
    fn steps_are_seconds_or_durations() {
        let check = |text, want| assert_eq!(nanos(text).ok(), want, "{text}");
        check("15", Some(15_000_000_000));
        check("0.5", Some(500_000_000));
        check("-1", Some(-1_000_000_000));
        check("1m0s", Some(60_000_000_000));
        check("1h0m0s", Some(3_600_000_000_000));
        check("250ms", Some(250_000_000));
        for text in ["NaN", "Inf", "1e300", "1x", "s", "1.5m"] {
            check(text, None);
        }
    }

    #[test]
    fn the_form_comes_before_the_url_and_empty_is_absent() {
        let mut params = Params::parse(b"query=a%2Bb&match[]=x&time=");
        params.pairs.extend(Params::parse(b"query=c&match%5B%5D=y&step=1+2").pairs);
        assert_eq!(params.get("query"), Some("a+b"));
        assert_eq!(params.get("time"), None);
        assert_eq!(params.get("step"), Some("1 2"));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn places_count_lines() {
        let error = |position| ParseError { position, detail: "x".into() };
        assert_eq!(parse_error("sum(é\n+ )", &error(4)), "1:5: parse error: x");
        assert_eq!(parse_error("sum(é\n+ )", &error(8)), "2:3: parse error: x");
    }
}
