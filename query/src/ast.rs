//! What an expression is after it has been parsed and its types have been checked.

use davy_model::Matcher;

use crate::function::Function;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Number(f64),
    Text(String),
    Selector(Selector),
    /// `selector[range]`.
    Range {
        selector: Selector,
        range_ms: i64,
    },
    /// `of[range:step]`.
    Subquery {
        of: Box<Node>,
        range_ms: i64,
        step_ms: Option<i64>,
        shift: Shift,
    },
    Call {
        function: Function,
        args: Vec<Node>,
        position: usize,
    },
    Aggregate(Box<Aggregate>),
    Negate(Box<Node>),
    Binary(Box<Binary>),
}

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub matchers: Vec<Matcher>,
    pub shift: Shift,
    pub position: usize,
}

/// `offset` and `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shift {
    pub offset_ms: i64,
    pub at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Of the whole query, within subqueries too.
    Start,
    End,
    Millis(i64),
}

#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub aggregator: Aggregator,
    /// `k`, the quantile or the label's name.
    pub param: Option<Node>,
    pub grouping: Grouping,
    pub of: Node,
    pub position: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregator {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
    TopK,
    BottomK,
    CountValues,
}

impl Aggregator {
    const NAMED: [(&'static str, Self); 12] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("count", Self::Count),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("quantile", Self::Quantile),
        ("topk", Self::TopK),
        ("bottomk", Self::BottomK),
        ("count_values", Self::CountValues),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(n, _)| *n == name).map(|(_, a)| *a)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, a)| *a == self).map_or("", |(n, _)| n)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub operator: Operator,
    /// Comparisons give 0 or 1 rather than keep or drop.
    pub returns_bool: bool,
    pub matching: Matching,
    pub left: Node,
    pub right: Node,
    pub position: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matching {
    /// `on (labels)` rather than `ignoring (labels)`.
    pub on: bool,
    pub labels: Vec<String>,
    pub cardinality: Cardinality,
    /// Labels that `group_left` or `group_right` takes from the one side.
    pub include: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cardinality {
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    And,
    Or,
    Unless,
}

impl Operator {
    const NAMED: [(&'static str, Self); 16] = [
        ("+", Self::Add),
        ("-", Self::Subtract),
        ("*", Self::Multiply),
        ("/", Self::Divide),
        ("%", Self::Modulo),
        ("^", Self::Power),
        ("atan2", Self::Atan2),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        (">", Self::Greater),
        (">=", Self::GreaterEqual),
        ("<", Self::Less),
        ("<=", Self::LessEqual),
        ("and", Self::And),
        ("or", Self::Or),
        ("unless", Self::Unless),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(n, _)| *n == name).map(|(_, o)| *o)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, o)| *o == self).map_or("", |(n, _)| n)
    }

    pub(crate) fn is_comparison(self) -> bool {
        use Operator::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Greater | GreaterEqual | Less | LessEqual)
    }

    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// What a node evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl Node {
    pub(crate) fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::Text(_) => ValueType::String,
            Self::Selector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Range { .. } | Self::Subquery { .. } => ValueType::Matrix,
            Self::Call { function, .. } => function.value_type(),
            Self::Negate(of) => of.value_type(),
            Self::Binary(b) => match (b.left.value_type(), b.right.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
        }
    }

    /// Whether its value is the same at every time that it is asked for.
    pub(crate) fn is_constant(&self) -> bool {
        match self {
            Self::Number(_) | Self::Text(_) => true,
            Self::Selector(s) | Self::Range { selector: s, .. } => s.shift.at.is_some(),
            Self::Subquery { shift, .. } => shift.at.is_some(),
            Self::Call { function, args, .. } => {
                !function.depends_on_time(args.len()) && args.iter().all(Self::is_constant)
            }
            Self::Aggregate(a) => a.of.is_constant() && a.param.as_ref().is_none_or(Self::is_constant),
            Self::Negate(of) => of.is_constant(),
            Self::Binary(b) => b.left.is_constant() && b.right.is_constant(),
        }
    }

    /// Whether its series stay different when they lose their metric's name.
    pub(crate) fn is_of_one_name(&self) -> bool {
        let name = davy_model::name::METRIC;
        match self {
            Self::Number(_) | Self::Text(_) | Self::Negate(_) => true,
            Self::Selector(s) | Self::Range { selector: s, .. } => {
                s.matchers.iter().any(|m| m.name() == name && m.op() == davy_model::MatchOp::Equal)
            }
            Self::Subquery { of, .. } => of.is_of_one_name(),
            Self::Call { function, args, .. } => match function {
                Function::Sort { .. } | Function::Over(crate::function::Over::Last) => {
                    args.first().is_none_or(Self::is_of_one_name)
                }
                Function::LabelReplace | Function::LabelJoin => {
                    args.first().is_none_or(Self::is_of_one_name)
                        && !matches!(args.get(1), Some(Self::Text(t)) if t == name)
                }
                _ => true,
            },
            Self::Aggregate(a) => match (&a.aggregator, &a.grouping) {
                (Aggregator::TopK | Aggregator::BottomK, _) => a.of.is_of_one_name(),
                (_, Grouping::By(labels)) => !labels.iter().any(|l| l == name),
                (_, Grouping::Without(_)) => true,
            },
            Self::Binary(b) => match b.operator {
                Operator::Or => false,
                o if o.is_comparison() || o.is_set() => match b.matching.cardinality {
                    Cardinality::OneToMany => b.right.is_of_one_name(),
                    Cardinality::OneToOne | Cardinality::ManyToOne => {
                        b.left.is_of_one_name() && b.right.is_of_one_name()
                    }
                },
                _ => !b.matching.include.iter().any(|l| l == name),
            },
        }
    }

    /// Where its text begins.
    pub(crate) fn position(&self) -> usize {
        match self {
            Self::Number(_) | Self::Text(_) => 0,
            Self::Selector(s) | Self::Range { selector: s, .. } => s.position,
            Self::Subquery { of, .. } | Self::Negate(of) => of.position(),
            Self::Call { position, .. } => *position,
            Self::Aggregate(a) => a.position,
            Self::Binary(b) => b.position,
        }
    }

    /// Every selector, in the order of the text.
    pub(crate) fn visit_selectors<'a>(&'a self, f: &mut dyn FnMut(&'a Selector)) {
        match self {
            Self::Number(_) | Self::Text(_) => {}
            Self::Selector(s) | Self::Range { selector: s, .. } => f(s),
            Self::Subquery { of, .. } | Self::Negate(of) => of.visit_selectors(f),
            Self::Call { args, .. } => args.iter().for_each(|a| a.visit_selectors(f)),
            Self::Aggregate(a) => {
                if let Some(p) = &a.param {
                    p.visit_selectors(f);
                }
                a.of.visit_selectors(f);
            }
            Self::Binary(b) => {
                b.left.visit_selectors(f);
                b.right.visit_selectors(f);
            }
        }
    }

    /// Every selector narrowed by `extra`.
    pub(crate) fn restrict(&mut self, extra: &[Matcher]) {
        match self {
            Self::Number(_) | Self::Text(_) => {}
            Self::Selector(s) | Self::Range { selector: s, .. } => s.matchers.extend_from_slice(extra),
            Self::Subquery { of, .. } | Self::Negate(of) => of.restrict(extra),
            Self::Call { args, .. } => args.iter_mut().for_each(|a| a.restrict(extra)),
            Self::Aggregate(a) => {
                if let Some(p) = &mut a.param {
                    p.restrict(extra);
                }
                a.of.restrict(extra);
            }
            Self::Binary(b) => {
                b.left.restrict(extra);
                b.right.restrict(extra);
            }
        }
    }
}
