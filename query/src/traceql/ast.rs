//! A TraceQL query, read.

use davy_model::{MatchOp, Matcher, SpanKind, SpanStatus};

use super::field::Field;

/// What each trace goes through: spans are picked, and stages keep, group or reduce what was picked.
#[derive(Debug, Clone)]
pub struct Query {
    pub(crate) spansets: SpansetExpr,
    pub(crate) stages: Vec<Stage>,
    /// What the picked spans become, of a query of metrics.
    pub(crate) metric: Option<Metric>,
}

#[derive(Debug, Clone)]
pub(crate) enum SpansetExpr {
    /// `{ … }`; `None` of `{}`.
    Filter(Option<Expr>),
    Pair(SpansetOp, Box<[SpansetExpr; 2]>),
}

/// How spans of both sides must stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpansetOp {
    And,
    Or,
    /// The spans of the right that stand so to a span of the left, or with `not`, to none; with `both`, those of the
    /// left as well.
    Structural {
        relation: Relation,
        not: bool,
        both: bool,
    },
}

/// What a span of the right is to one of the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Child,
    Descendant,
    Parent,
    Ancestor,
    Sibling,
}

#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// `| { … }`
    Keep(SpansetExpr),
    Select(Vec<Field>),
    /// `| count() > 2`
    Compare(Aggregate, Op, f64),
    By(Expr),
    Coalesce,
}

#[derive(Debug, Clone)]
pub(crate) enum Aggregate {
    Count,
    Of(Reduce, Expr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduce {
    Avg,
    Max,
    Min,
    Sum,
}

#[derive(Debug, Clone)]
pub(crate) struct Metric {
    pub(crate) function: MetricFunction,
    pub(crate) by: Vec<Field>,
    /// `| topk(5)`; negative for `bottomk`.
    pub(crate) top: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) enum MetricFunction {
    Rate,
    CountOverTime,
    Reduce(Reduce, Field),
    Histogram(Field),
    Quantiles(Field, Vec<f64>),
}

/// What stands between the braces of a filter.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Value(Value),
    Field(Field),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Compare(Op, Box<[Expr; 2]>),
    /// With a regular expression.
    Match(Box<Expr>, Box<Matcher>),
    /// `!= nil`
    Exists(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compute(Arithmetic, Box<[Expr; 2]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

/// A value of a query or of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Nil,
    Text(std::sync::Arc<str>),
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Status(SpanStatus),
    Kind(SpanKind),
}

/// What an expression can be, as far as it is known without a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// An attribute's: known once a span is looked at.
    Any,
    Nil,
    Text,
    Bool,
    Number,
    Status,
    Kind,
}

impl Type {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Any => "an attribute",
            Self::Nil => "nil",
            Self::Text => "a text",
            Self::Bool => "true or false",
            Self::Number => "a number or duration",
            Self::Status => "a status (ok, error, unset)",
            Self::Kind => "a kind (server, client, …)",
        }
    }
}

impl Expr {
    pub(crate) fn kind(&self) -> Type {
        match self {
            Self::Value(value) => value.kind(),
            Self::Field(field) => field.kind(),
            Self::Negative(_) | Self::Compute(..) => Type::Number,
            Self::Not(_)
            | Self::Exists(_)
            | Self::Compare(..)
            | Self::Match(..)
            | Self::And(_)
            | Self::Or(_) => Type::Bool,
        }
    }

    /// Each field in it, from left to right.
    pub(crate) fn fields<'a>(&'a self, each: &mut dyn FnMut(&'a Field)) {
        match self {
            Self::Value(_) => {}
            Self::Field(field) => each(field),
            Self::Not(inner) | Self::Negative(inner) | Self::Match(inner, _) | Self::Exists(inner) => {
                inner.fields(each);
            }
            Self::Compare(_, sides) | Self::Compute(_, sides) => sides.iter().for_each(|s| s.fields(each)),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|p| p.fields(each)),
        }
    }
}

impl SpansetExpr {
    pub(crate) fn filters<'a>(&'a self, each: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Filter(filter) => filter.iter().for_each(each),
            Self::Pair(_, sides) => sides.iter().for_each(|side| side.filters(each)),
        }
    }
}

impl Value {
    pub(crate) fn kind(&self) -> Type {
        match self {
            Self::Nil => Type::Nil,
            Self::Text(_) => Type::Text,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) | Self::Float(_) | Self::Duration(_) => Type::Number,
            Self::Status(_) => Type::Status,
            Self::Kind(_) => Type::Kind,
        }
    }
}

impl Op {
    pub(crate) fn from_symbol(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterEqual,
            _ => return None,
        })
    }

    /// As it reads with its sides changed.
    pub(crate) fn turned(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
        }
    }
}

pub(crate) fn regex_op(symbol: &str) -> Option<MatchOp> {
    match symbol {
        "=~" => Some(MatchOp::Regex),
        "!~" => Some(MatchOp::NotRegex),
        _ => None,
    }
}
