//! One metric of one resource: each of its data points into the samples it stands for.

use std::sync::Arc;

use davy_model::{Histogram, Labels, STALE_NAN, Timestamp, Value, name};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;

use super::classic::{self, Classic, suffixed};
use super::cumulative::{Streams, Total};
use super::exponential::Exponential;
use super::labels::{exemplars, point_labels};
use super::metrics::{Converted, SAMPLES_MAX, Shape};
use super::point::Point;
use super::spans::Window;

const QUANTILES_MAX: usize = 64;
const NO_RECORDED_VALUE: u32 = otlp::DataPointFlags::NoRecordedValueMask as u32;

/// How a point's numbers relate to those before.
#[derive(Debug, Clone, Copy)]
enum Temporality {
    Delta,
    Cumulative,
}

impl Temporality {
    fn of(number: i32) -> Result<Self, String> {
        match number {
            1 => Ok(Self::Delta),
            2 => Ok(Self::Cumulative),
            other => Err(format!("aggregation temporality {other} is neither delta (1) nor cumulative (2)")),
        }
    }
}

/// When a point was taken, and since when it counts.
#[derive(Debug, Clone, Copy)]
struct Times {
    start: Option<Timestamp>,
    at: Timestamp,
}

/// One metric of one resource on its way.
pub(crate) struct Family<'a> {
    pub(crate) identity: &'a Labels,
    pub(crate) name: &'a str,
    /// Identity and name: what all its points share.
    pub(crate) base: Labels,
    pub(crate) streams: &'a mut Streams,
    pub(crate) window: Window,
    pub(crate) now: Timestamp,
    pub(crate) samples_left: usize,
    pub(crate) out: &'a mut Converted,
}

impl Family<'_> {
    pub(crate) fn points(&mut self, shape: Shape<'_>) {
        match shape {
            Shape::Gauge(points) => self.each(points, |f, p| f.gauge(p)),
            Shape::Sum { points, monotonic, temporality } => {
                self.each(points, |f, p| f.sum(p, monotonic, Temporality::of(temporality)?));
            }
            Shape::Histogram { points, temporality } => {
                self.each(points, |f, p| f.histogram(p, Temporality::of(temporality)?));
            }
            Shape::Exponential { points, temporality } => {
                self.each(points, |f, p| f.exponential(p, Temporality::of(temporality)?));
            }
            Shape::Summary(points) => self.each(points, |f, p| f.summary(p)),
        }
    }

    fn each<P>(&mut self, points: &[P], convert: impl Fn(&mut Self, &P) -> Result<Point, String>) {
        for (i, p) in points.iter().enumerate() {
            if self.samples_left == 0 {
                let rest = (points.len() - i) as u64;
                self.out.tally.refuse(rest, || format!("more than {SAMPLES_MAX} samples in one request"));
                return;
            }
            match convert(self, p) {
                Ok(point) => {
                    self.samples_left = self.samples_left.saturating_sub(point.samples());
                    self.out.points.push(point);
                }
                Err(reason) => self.out.tally.refuse(1, || format!("{}: {reason}", self.name)),
            }
        }
    }

    fn gauge(&mut self, p: &otlp::NumberDataPoint) -> Result<Point, String> {
        let times = self.times(p.start_time_unix_nano, p.time_unix_nano)?;
        let labels = self.labels(&p.attributes)?;
        let value = if is_absent(p.flags) { STALE_NAN } else { plain(number(p)?) };
        Ok(Point::new(times.at, vec![(labels, Value::Float(value))]))
    }

    fn sum(
        &mut self,
        p: &otlp::NumberDataPoint,
        monotonic: bool,
        temporality: Temporality,
    ) -> Result<Point, String> {
        let times = self.times(p.start_time_unix_nano, p.time_unix_nano)?;
        let labels = self.labels(&p.attributes)?;
        if is_absent(p.flags) {
            return Ok(Point::new(times.at, vec![(labels, Value::Float(STALE_NAN))]));
        }
        let value = number(p)?;
        if monotonic && !(value.is_finite() && value >= 0.0) {
            return Err(format!("counter of value {value}"));
        }
        let (value, zero_at) = match temporality {
            Temporality::Cumulative if monotonic => (value, self.began(&labels, times, value)),
            Temporality::Cumulative => (plain(value), None),
            Temporality::Delta if !value.is_finite() => return Err(format!("delta of value {value}")),
            Temporality::Delta => {
                let (total, zero_at) = self.total(&labels, times, Total::Number(value))?;
                let Total::Number(total) = total else { return Err("was another kind of metric".to_owned()) };
                (total, zero_at.filter(|_| monotonic))
            }
        };
        let exemplars = exemplars(&p.exemplars, self.window).map(|e| (0, e)).collect();
        Ok(Point { at: times.at, zero_at, series: vec![(labels, Value::Float(value))], exemplars })
    }

    fn histogram(&mut self, p: &otlp::HistogramDataPoint, temporality: Temporality) -> Result<Point, String> {
        let times = self.times(p.start_time_unix_nano, p.time_unix_nano)?;
        let labels = self.labels(&p.attributes)?;
        if is_absent(p.flags) {
            return Ok(Point::new(times.at, classic::stale_series(p, &labels)));
        }
        let histogram = Classic::from_otlp(p)?;
        let (histogram, zero_at) = match temporality {
            Temporality::Cumulative => {
                let zero_at = self.began(&labels, times, histogram.count() as f64);
                (histogram, zero_at)
            }
            Temporality::Delta if !histogram.has_finite_sum() => {
                return Err("delta without a finite sum".to_owned());
            }
            Temporality::Delta => match self.total(&labels, times, Total::Classic(histogram))? {
                (Total::Classic(total), zero_at) => (total, zero_at),
                _ => return Err("was another kind of metric".to_owned()),
            },
        };
        let exemplars =
            exemplars(&p.exemplars, self.window).map(|e| (histogram.bucket_of(e.value), e)).collect();
        Ok(Point { at: times.at, zero_at, series: histogram.series(&labels), exemplars })
    }

    fn exponential(
        &mut self,
        p: &otlp::ExponentialHistogramDataPoint,
        temporality: Temporality,
    ) -> Result<Point, String> {
        let times = self.times(p.start_time_unix_nano, p.time_unix_nano)?;
        let labels = self.labels(&p.attributes)?;
        if is_absent(p.flags) {
            let stale = Histogram { sum: STALE_NAN, ..Histogram::default() };
            return Ok(Point::new(times.at, vec![(labels, Value::Histogram(Arc::new(stale)))]));
        }
        let histogram = Exponential::from_otlp(p)?;
        let (histogram, zero_at) = match temporality {
            Temporality::Cumulative => {
                let zero_at = self.began(&labels, times, histogram.count() as f64);
                (histogram, zero_at)
            }
            Temporality::Delta if !histogram.has_finite_sum() => {
                return Err("delta without a finite sum".to_owned());
            }
            Temporality::Delta => match self.total(&labels, times, Total::Exponential(histogram))? {
                (Total::Exponential(total), zero_at) => (total, zero_at),
                _ => return Err("was another kind of metric".to_owned()),
            },
        };
        let mut native = histogram.to_native();
        native.sum = plain(native.sum);
        let exemplars = exemplars(&p.exemplars, self.window).map(|e| (0, e)).collect();
        let series = vec![(labels, Value::Histogram(Arc::new(native)))];
        Ok(Point { at: times.at, zero_at, series, exemplars })
    }

    fn summary(&mut self, p: &otlp::SummaryDataPoint) -> Result<Point, String> {
        let times = self.times(p.start_time_unix_nano, p.time_unix_nano)?;
        let labels = self.labels(&p.attributes)?;
        let quantiles = &p.quantile_values;
        if quantiles.len() > QUANTILES_MAX || quantiles.iter().any(|q| !(0.0..=1.0).contains(&q.quantile)) {
            return Err(format!(
                "bad summary: {} quantiles, at most {QUANTILES_MAX} within 0..1",
                quantiles.len()
            ));
        }
        let value = |v: f64| Value::Float(if is_absent(p.flags) { STALE_NAN } else { plain(v) });
        let mut series: Vec<_> = quantiles
            .iter()
            .map(|q| {
                let mut of_quantile = labels.builder();
                of_quantile.set(name::QUANTILE, &q.quantile.to_string());
                (of_quantile.build(), value(q.value))
            })
            .collect();
        series.push((suffixed(&labels, "_count"), value(p.count as f64)));
        series.push((suffixed(&labels, "_sum"), value(p.sum)));
        Ok(Point::new(times.at, series))
    }

    fn labels(&self, attributes: &[KeyValue]) -> Result<Labels, String> {
        point_labels(self.identity, self.name, attributes)
    }

    fn times(&self, start_nanos: u64, at_nanos: u64) -> Result<Times, String> {
        let at = Timestamp::from_nanos(at_nanos);
        if at < self.window.from || at > self.window.to {
            return Err(format!("timestamp {at}, accepted is {} to {}", self.window.from, self.window.to));
        }
        let start = (start_nanos > 0).then(|| Timestamp::from_nanos(start_nanos));
        Ok(Times { start, at })
    }

    fn began(&mut self, labels: &Labels, times: Times, level: f64) -> Option<Timestamp> {
        self.streams.cumulative(labels, &self.base, times.start, times.at, level, self.now)
    }

    fn total(
        &mut self,
        labels: &Labels,
        times: Times,
        increment: Total,
    ) -> Result<(Total, Option<Timestamp>), String> {
        self.streams.delta(labels, times.start, times.at, increment, self.now)
    }
}

fn is_absent(flags: u32) -> bool {
    flags & NO_RECORDED_VALUE != 0
}

fn number(p: &otlp::NumberDataPoint) -> Result<f64, String> {
    match p.value {
        Some(Number::AsDouble(d)) => Ok(d),
        Some(Number::AsInt(i)) => Ok(i as f64),
        None => Err("data point has no value".to_owned()),
    }
}

/// A NaN from outside must not look like the staleness marker.
fn plain(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}
