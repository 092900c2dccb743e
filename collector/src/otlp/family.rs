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
use super::point::{Point, plain};
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
    pub(crate) fn points(&mut self, shape: &Shape<'_>) {
        match *shape {
            Shape::Gauge(points) => self.each(points, Self::gauge),
            Shape::Sum { points, monotonic, temporality } => {
                self.each(points, |f, p| f.sum(p, monotonic, Temporality::of(temporality)?));
            }
            Shape::Histogram { points, temporality } => {
                self.each(points, |f, p| f.histogram(p, Temporality::of(temporality)?));
            }
            Shape::Exponential { points, temporality } => {
                self.each(points, |f, p| f.exponential(p, Temporality::of(temporality)?));
            }
            Shape::Summary(points) => self.each(points, Self::summary),
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
        let total = Total::Number(plain(value));
        if monotonic {
            return self.settle(&labels, times, temporality, total, &p.exemplars);
        }
        // What also falls does not begin at zero, and there is nothing to remember unless it comes in steps.
        let total = match temporality {
            Temporality::Cumulative => total,
            Temporality::Delta => self.streams.delta(&labels, times.start, times.at, total, self.now)?.0,
        };
        Ok(Point::new(times.at, total.series(&labels)))
    }

    fn histogram(&mut self, p: &otlp::HistogramDataPoint, temporality: Temporality) -> Result<Point, String> {
        let times = self.times(p.start_time_unix_nano, p.time_unix_nano)?;
        let labels = self.labels(&p.attributes)?;
        if is_absent(p.flags) {
            return Ok(Point::new(times.at, classic::stale_series(p, &labels)));
        }
        let total = Total::Classic(Classic::from_otlp(p)?);
        self.settle(&labels, times, temporality, total, &p.exemplars)
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
        let total = Total::Exponential(Exponential::from_otlp(p)?);
        self.settle(&labels, times, temporality, total, &p.exemplars)
    }

    /// The running total that the point stands for or adds to.
    fn settle(
        &mut self,
        labels: &Labels,
        times: Times,
        temporality: Temporality,
        total: Total,
        with: &[otlp::Exemplar],
    ) -> Result<Point, String> {
        let Times { start, at } = times;
        let (total, zero_at) = match temporality {
            Temporality::Cumulative => {
                let zero_at = self.streams.cumulative(labels, &self.base, start, at, total.level(), self.now);
                (total, zero_at)
            }
            Temporality::Delta => self.streams.delta(labels, start, at, total, self.now)?,
        };
        let exemplars = exemplars(with, self.window).map(|e| (total.index_of(e.value), e)).collect();
        Ok(Point { at, zero_at, series: total.series(labels), exemplars, known: None })
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
