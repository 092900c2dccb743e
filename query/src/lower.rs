//! From the parser's tree to ours: names are resolved, types checked once more, and what Prometheus keeps behind a
//! flag is refused here by name and place.

use std::time::{Duration, SystemTime};

use davy_model::{MatchOp, Matcher, name};
use promql_parser::label;
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinaryExpr, Call, Expr as Parsed, LabelModifier, MatrixSelector, Offset,
    SubqueryExpr, VectorMatchCardinality, VectorSelector,
};

use crate::ParseError;
use crate::ast::{
    Aggregate, Aggregator, At, Binary, Cardinality, Grouping, Matching, Node, Operator, Selector, Shift,
    ValueType,
};
use crate::function::Function;
use crate::places::Places;
use crate::prescan::Tokens;

/// Levels of the tree; a flat chain of operators is one level for each.
const LEVELS_MAX: usize = 256;

pub(crate) fn lower(parsed: &Parsed, tokens: &Tokens<'_>) -> Result<Node, ParseError> {
    Lowering { tokens, places: Places::of(tokens) }.node(parsed, 0)
}

struct Lowering<'a> {
    tokens: &'a Tokens<'a>,
    places: Places,
}

impl Lowering<'_> {
    fn fail<T>(&self, word: &str, detail: String) -> Result<T, ParseError> {
        Err(ParseError { position: self.tokens.find(word), detail })
    }

    fn node(&mut self, parsed: &Parsed, level: usize) -> Result<Node, ParseError> {
        if level > LEVELS_MAX {
            return self.fail("", format!("more than the {LEVELS_MAX} levels allowed"));
        }
        match parsed {
            Parsed::NumberLiteral(n) => Ok(Node::Number(n.val)),
            Parsed::StringLiteral(s) => Ok(Node::Text(s.val.clone())),
            Parsed::Paren(p) => self.node(&p.expr, level + 1),
            Parsed::Unary(u) => Ok(Node::Negate(Box::new(self.node(&u.expr, level + 1)?))),
            Parsed::VectorSelector(v) => Ok(Node::Selector(self.selector(v)?)),
            Parsed::MatrixSelector(MatrixSelector { vs, range }) => {
                Ok(Node::Range { selector: self.selector(vs)?, range_ms: millis(*range) })
            }
            Parsed::Subquery(s) => self.subquery(s, level),
            Parsed::Call(c) => self.call(c, level),
            Parsed::Aggregate(a) => self.aggregate(a, level),
            Parsed::Binary(b) => self.binary(b, level),
            Parsed::Extension(_) => self.fail("", "extensions are not supported".to_owned()),
        }
    }

    fn selector(&mut self, v: &VectorSelector) -> Result<Selector, ParseError> {
        if !v.matchers.or_matchers.is_empty() {
            return self.fail("or", "or between matchers is not PromQL".to_owned());
        }
        let position = self.places.selector();
        let named = v.name.as_ref().map(|n| Ok(Matcher::equal(name::METRIC, n)));
        let matchers = v.matchers.matchers.iter().map(|m| self.matcher(m));
        let matchers: Vec<Matcher> = named.into_iter().chain(matchers).collect::<Result<_, _>>()?;
        Ok(Selector { matchers, shift: self.shift(v.offset.as_ref(), v.at.as_ref()), position })
    }

    fn matcher(&self, m: &label::Matcher) -> Result<Matcher, ParseError> {
        let op = match m.op {
            label::MatchOp::Equal => MatchOp::Equal,
            label::MatchOp::NotEqual => MatchOp::NotEqual,
            label::MatchOp::Re(_) => MatchOp::Regex,
            label::MatchOp::NotRe(_) => MatchOp::NotRegex,
        };
        Matcher::new(&m.name, op, &m.value).or_else(|e| self.fail(&m.name, e.to_string()))
    }

    fn shift(&self, offset: Option<&Offset>, at: Option<&AtModifier>) -> Shift {
        let offset_ms = match offset {
            None => 0,
            Some(Offset::Pos(d)) => millis(*d),
            Some(Offset::Neg(d)) => -millis(*d),
        };
        let at = at.map(|at| match at {
            AtModifier::Start => At::Start,
            AtModifier::End => At::End,
            AtModifier::At(t) => At::Millis(match t.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(since) => nearest_millis(since),
                Err(before) => -nearest_millis(before.duration()),
            }),
        });
        Shift { offset_ms, at }
    }

    fn subquery(&mut self, s: &SubqueryExpr, level: usize) -> Result<Node, ParseError> {
        let of = Box::new(self.node(&s.expr, level + 1)?);
        let step_ms = s.step.map(millis);
        if step_ms == Some(0) {
            return self.fail("[", "the step of a subquery must be more than zero".to_owned());
        }
        let shift = self.shift(s.offset.as_ref(), s.at.as_ref());
        Ok(Node::Subquery { of, range_ms: millis(s.range), step_ms, shift })
    }

    fn call(&mut self, c: &Call, level: usize) -> Result<Node, ParseError> {
        let position = self.places.call();
        let called = c.func.name;
        let Some(function) = Function::named(called) else {
            return self.fail(called, format!("{called}() is experimental in Prometheus and not enabled"));
        };
        let args = c.args.args.iter().map(|a| self.node(a, level + 1)).collect::<Result<Vec<_>, _>>()?;
        if let Function::LabelReplace | Function::LabelJoin = function
            && !args.iter().skip(1).all(|a| matches!(a, Node::Text(_)))
        {
            return self.fail(called, format!("{called}() takes its labels as strings"));
        }
        Ok(Node::Call { function, args, position })
    }

    fn aggregate(&mut self, a: &AggregateExpr, level: usize) -> Result<Node, ParseError> {
        let position = self.places.call();
        let called = a.op.to_string();
        let Some(aggregator) = Aggregator::named(&called) else {
            return self.fail(&called, format!("{called}() is experimental in Prometheus and not enabled"));
        };
        let grouping = match &a.modifier {
            None => Grouping::By(Vec::new()),
            Some(LabelModifier::Include(l)) => Grouping::By(l.labels.clone()),
            Some(LabelModifier::Exclude(l)) => Grouping::Without(l.labels.clone()),
        };
        let param = a.param.as_ref().map(|p| self.node(p, level + 1)).transpose()?;
        let fits = match (aggregator, &param) {
            (Aggregator::CountValues, p) => matches!(p, Some(Node::Text(_))),
            (Aggregator::Quantile | Aggregator::TopK | Aggregator::BottomK, p) => {
                p.as_ref().is_some_and(|p| p.value_type() == ValueType::Scalar)
            }
            (_, p) => p.is_none(),
        };
        if !fits {
            return self.fail(&called, format!("{called}() has a wrong parameter"));
        }
        let of = self.node(&a.expr, level + 1)?;
        if of.value_type() != ValueType::Vector {
            return self.fail(&called, format!("{called}() needs a vector to aggregate"));
        }
        Ok(Node::Aggregate(Box::new(Aggregate { aggregator, param, grouping, of, position })))
    }

    fn binary(&mut self, b: &BinaryExpr, level: usize) -> Result<Node, ParseError> {
        let sign = b.op.to_string();
        let Some(operator) = Operator::named(&sign) else {
            return self.fail(&sign, format!("the operator {sign} is not PromQL"));
        };
        let mut matching = Matching {
            on: false,
            labels: Vec::new(),
            cardinality: Cardinality::OneToOne,
            include: Vec::new(),
        };
        let mut returns_bool = false;
        if let Some(m) = &b.modifier {
            if m.fill_values.lhs.is_some() || m.fill_values.rhs.is_some() {
                return self.fail("fill", "fill is experimental in Prometheus and not enabled".to_owned());
            }
            returns_bool = m.return_bool;
            match &m.matching {
                None => {}
                Some(LabelModifier::Include(l)) => (matching.on, matching.labels) = (true, l.labels.clone()),
                Some(LabelModifier::Exclude(l)) => matching.labels.clone_from(&l.labels),
            }
            (matching.cardinality, matching.include) = match &m.card {
                VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {
                    (Cardinality::OneToOne, Vec::new())
                }
                VectorMatchCardinality::ManyToOne(l) => (Cardinality::ManyToOne, l.labels.clone()),
                VectorMatchCardinality::OneToMany(l) => (Cardinality::OneToMany, l.labels.clone()),
            };
        }
        let left = self.node(&b.lhs, level + 1)?;
        let right = self.node(&b.rhs, level + 1)?;
        let types = [left.value_type(), right.value_type()];
        if types.iter().any(|t| matches!(t, ValueType::Matrix | ValueType::String)) {
            return self.fail(&sign, format!("{sign} needs a vector or a scalar on both sides"));
        }
        let scalars = types.iter().all(|t| *t == ValueType::Scalar);
        if scalars && operator.is_comparison() && !returns_bool {
            return self.fail(&sign, "comparisons between scalars must use the bool modifier".to_owned());
        }
        if operator.is_set() && types.contains(&ValueType::Scalar) {
            return self
                .fail(&sign, format!("set operator {sign:?} not allowed in binary scalar expression"));
        }
        let position = left.position();
        Ok(Node::Binary(Box::new(Binary { operator, returns_bool, matching, left, right, position })))
    }
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn nearest_millis(d: Duration) -> i64 {
    millis(d + Duration::from_micros(500))
}
