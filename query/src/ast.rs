//! What an expression is after it has been parsed and found evaluable.

use std::time::Duration;

use davy_model::Matcher;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Number(f64),
    Selector(Vec<Matcher>),
    Range { function: RangeFunction, matchers: Vec<Matcher>, range: Duration },
    Aggregate { aggregator: Aggregator, grouping: Grouping, of: Box<Node> },
    Negate(Box<Node>),
    Binary { operator: Operator, left: Box<Node>, right: Box<Node> },
}

impl Node {
    /// Every selector narrowed by `extra`.
    pub(crate) fn restricted(&self, extra: &[Matcher]) -> Self {
        let narrowed = |m: &[Matcher]| m.iter().chain(extra).cloned().collect();
        match self {
            Self::Number(v) => Self::Number(*v),
            Self::Selector(m) => Self::Selector(narrowed(m)),
            Self::Range { function, matchers, range } => {
                Self::Range { function: *function, matchers: narrowed(matchers), range: *range }
            }
            Self::Aggregate { aggregator, grouping, of } => Self::Aggregate {
                aggregator: *aggregator,
                grouping: grouping.clone(),
                of: Box::new(of.restricted(extra)),
            },
            Self::Negate(of) => Self::Negate(Box::new(of.restricted(extra))),
            Self::Binary { operator, left, right } => Self::Binary {
                operator: *operator,
                left: Box::new(left.restricted(extra)),
                right: Box::new(right.restricted(extra)),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Rate,
    Increase,
    Delta,
    AvgOverTime,
    MaxOverTime,
    MinOverTime,
    SumOverTime,
}

impl RangeFunction {
    const NAMED: [(&'static str, Self); 7] = [
        ("rate", Self::Rate),
        ("increase", Self::Increase),
        ("delta", Self::Delta),
        ("avg_over_time", Self::AvgOverTime),
        ("max_over_time", Self::MaxOverTime),
        ("min_over_time", Self::MinOverTime),
        ("sum_over_time", Self::SumOverTime),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregator {
    Sum,
    Avg,
    Min,
    Max,
    Count,
}

impl Aggregator {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "sum" => Some(Self::Sum),
            "avg" => Some(Self::Avg),
            "min" => Some(Self::Min),
            "max" => Some(Self::Max),
            "count" => Some(Self::Count),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operator {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "+" => Some(Self::Add),
            "-" => Some(Self::Subtract),
            "*" => Some(Self::Multiply),
            "/" => Some(Self::Divide),
            _ => None,
        }
    }

    pub(crate) fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
        }
    }
}
