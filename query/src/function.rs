//! The functions of PromQL by name: every one of Prometheus 3.5 that is not behind a flag there.

use crate::ast::ValueType;
use crate::eval::dates::Civil;
use crate::histogram::Histo;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    /// Each float by itself.
    Map(fn(f64) -> f64),
    /// Each histogram by itself.
    OfHistogram(fn(&Histo) -> f64),
    /// A field of each value taken as Unix seconds, or of the time of evaluation.
    Date(fn(Civil) -> f64),
    /// The samples of a range.
    Over(Over),
    AbsentOverTime,
    Absent,
    Clamp,
    ClampMin,
    ClampMax,
    Round,
    Scalar,
    Vector,
    Time,
    Pi,
    Timestamp,
    Sort {
        descending: bool,
    },
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramFraction,
}

/// Functions over the samples of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Deriv,
    PredictLinear,
    Avg,
    Sum,
    Min,
    Max,
    Count,
    Last,
    Present,
    Quantile,
    Stddev,
    Stdvar,
    Resets,
    Changes,
}

impl Over {
    /// Name as it is written.
    pub(crate) fn keeps_name(self) -> bool {
        self == Self::Last
    }
}

use Function::{Date, Map, OfHistogram};

const NAMED: &[(&str, Function)] = &[
    ("abs", Map(f64::abs)),
    ("absent", Function::Absent),
    ("absent_over_time", Function::AbsentOverTime),
    ("acos", Map(f64::acos)),
    ("acosh", Map(f64::acosh)),
    ("asin", Map(f64::asin)),
    ("asinh", Map(f64::asinh)),
    ("atan", Map(f64::atan)),
    ("atanh", Map(f64::atanh)),
    ("avg_over_time", Function::Over(Over::Avg)),
    ("ceil", Map(f64::ceil)),
    ("changes", Function::Over(Over::Changes)),
    ("clamp", Function::Clamp),
    ("clamp_max", Function::ClampMax),
    ("clamp_min", Function::ClampMin),
    ("cos", Map(f64::cos)),
    ("cosh", Map(f64::cosh)),
    ("count_over_time", Function::Over(Over::Count)),
    ("day_of_month", Date(|t| f64::from(t.day))),
    ("day_of_week", Date(|t| f64::from(t.weekday()))),
    ("day_of_year", Date(|t| f64::from(t.day_of_year()))),
    ("days_in_month", Date(|t| f64::from(t.days_in_month()))),
    ("deg", Map(|v| v * 180.0 / std::f64::consts::PI)),
    ("delta", Function::Over(Over::Delta)),
    ("deriv", Function::Over(Over::Deriv)),
    ("exp", Map(f64::exp)),
    ("floor", Map(f64::floor)),
    ("histogram_avg", OfHistogram(|h| h.sum / h.count)),
    ("histogram_count", OfHistogram(|h| h.count)),
    ("histogram_fraction", Function::HistogramFraction),
    ("histogram_quantile", Function::HistogramQuantile),
    ("histogram_stddev", OfHistogram(|h| h.variance().sqrt())),
    ("histogram_stdvar", OfHistogram(Histo::variance)),
    ("histogram_sum", OfHistogram(|h| h.sum)),
    ("hour", Date(|t| f64::from(t.hour))),
    ("idelta", Function::Over(Over::Idelta)),
    ("increase", Function::Over(Over::Increase)),
    ("irate", Function::Over(Over::Irate)),
    ("label_join", Function::LabelJoin),
    ("label_replace", Function::LabelReplace),
    ("last_over_time", Function::Over(Over::Last)),
    ("ln", Map(f64::ln)),
    ("log10", Map(f64::log10)),
    ("log2", Map(f64::log2)),
    ("max_over_time", Function::Over(Over::Max)),
    ("min_over_time", Function::Over(Over::Min)),
    ("minute", Date(|t| f64::from(t.minute))),
    ("month", Date(|t| f64::from(t.month))),
    ("pi", Function::Pi),
    ("predict_linear", Function::Over(Over::PredictLinear)),
    ("present_over_time", Function::Over(Over::Present)),
    ("quantile_over_time", Function::Over(Over::Quantile)),
    ("rad", Map(|v| v * std::f64::consts::PI / 180.0)),
    ("rate", Function::Over(Over::Rate)),
    ("resets", Function::Over(Over::Resets)),
    ("round", Function::Round),
    ("scalar", Function::Scalar),
    ("sgn", Map(sign)),
    ("sin", Map(f64::sin)),
    ("sinh", Map(f64::sinh)),
    ("sort", Function::Sort { descending: false }),
    ("sort_desc", Function::Sort { descending: true }),
    ("sqrt", Map(f64::sqrt)),
    ("stddev_over_time", Function::Over(Over::Stddev)),
    ("stdvar_over_time", Function::Over(Over::Stdvar)),
    ("sum_over_time", Function::Over(Over::Sum)),
    ("tan", Map(f64::tan)),
    ("tanh", Map(f64::tanh)),
    ("time", Function::Time),
    ("timestamp", Function::Timestamp),
    ("vector", Function::Vector),
    ("year", Date(|t| t.year as f64)),
];

impl Function {
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMED.binary_search_by(|(n, _)| (*n).cmp(name)).ok().map(|i| NAMED[i].1)
    }

    pub(crate) fn value_type(self) -> ValueType {
        match self {
            Self::Scalar | Self::Time | Self::Pi => ValueType::Scalar,
            _ => ValueType::Vector,
        }
    }

    /// Whether the time of evaluation matters beyond what the arguments say.
    pub(crate) fn depends_on_time(self, args: usize) -> bool {
        match self {
            Self::Time | Self::Timestamp | Self::Over(Over::PredictLinear) => true,
            Self::Date(_) => args == 0,
            _ => false,
        }
    }
}

/// -1, 0 (as signed as it came), 1 or NaN.
fn sign(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        assert!(NAMED.is_sorted_by(|a, b| a.0 < b.0), "the table is searched by halves");
        assert!(NAMED.iter().all(|(n, _)| Function::named(n).is_some()));
    }
}
