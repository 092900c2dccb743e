//! From the parser's tree to ours: whatever Davy does not evaluate is refused here, by name and place.

use davy_model::{MatchOp, Matcher, name};
use promql_parser::label;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr as Parsed, LabelModifier, MatrixSelector, VectorMatchCardinality,
    VectorSelector,
};

use crate::ParseError;
use crate::ast::{Aggregator, Grouping, Node, Operator, RangeFunction};
use crate::prescan::Tokens;

/// Levels of the tree; a flat chain of operators is one level for each.
const LEVELS_MAX: usize = 256;

pub(crate) fn lower(parsed: &Parsed, tokens: &Tokens<'_>) -> Result<Node, ParseError> {
    Lowering { tokens }.node(parsed, 0)
}

struct Lowering<'a> {
    tokens: &'a Tokens<'a>,
}

impl Lowering<'_> {
    fn fail<T>(&self, word: &str, detail: String) -> Result<T, ParseError> {
        Err(ParseError { position: self.tokens.find(word), detail })
    }

    fn unsupported<T>(&self, word: &str, what: &str) -> Result<T, ParseError> {
        self.fail(word, format!("{what} not supported yet"))
    }

    fn node(&self, parsed: &Parsed, level: usize) -> Result<Node, ParseError> {
        if level > LEVELS_MAX {
            return self.fail("", format!("more than the {LEVELS_MAX} levels allowed"));
        }
        let below = |of: &Parsed| self.node(of, level + 1).map(Box::new);
        match parsed {
            Parsed::NumberLiteral(n) => Ok(Node::Number(n.val)),
            Parsed::Paren(p) => self.node(&p.expr, level + 1),
            Parsed::Unary(u) => Ok(Node::Negate(below(&u.expr)?)),
            Parsed::VectorSelector(v) => Ok(Node::Selector(self.selector(v)?)),
            Parsed::Call(c) => self.call(c),
            Parsed::Aggregate(a) => self.aggregate(a, level),
            Parsed::Binary(b) => self.binary(b, level),
            Parsed::MatrixSelector(_) => {
                self.fail("[", "a range needs a function such as rate() around it".to_owned())
            }
            Parsed::Subquery(_) => self.unsupported("[", "subqueries are"),
            Parsed::StringLiteral(_) => self.fail("", "a string is not a value".to_owned()),
            Parsed::Extension(_) => self.unsupported("", "extensions are"),
        }
    }

    fn selector(&self, v: &VectorSelector) -> Result<Vec<Matcher>, ParseError> {
        if v.offset.is_some() {
            return self.unsupported("offset", "offset is");
        }
        if v.at.is_some() {
            return self.unsupported("@", "the @ modifier is");
        }
        if !v.matchers.or_matchers.is_empty() {
            return self.unsupported("or", "or between matchers is");
        }
        let named = v.name.as_ref().map(|n| Ok(Matcher::equal(name::METRIC, n)));
        named.into_iter().chain(v.matchers.matchers.iter().map(|m| self.matcher(m))).collect()
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

    fn call(&self, c: &Call) -> Result<Node, ParseError> {
        let Some(function) = RangeFunction::named(c.func.name) else {
            return self.unsupported(c.func.name, &format!("{}() is", c.func.name));
        };
        match c.args.args.first().map(|a| &**a) {
            Some(Parsed::MatrixSelector(MatrixSelector { vs, range })) => {
                Ok(Node::Range { function, matchers: self.selector(vs)?, range: *range })
            }
            Some(Parsed::Subquery(_)) => self.unsupported(c.func.name, "subqueries are"),
            _ => self.fail(c.func.name, format!("{}() needs a range such as [5m]", c.func.name)),
        }
    }

    fn aggregate(&self, a: &AggregateExpr, level: usize) -> Result<Node, ParseError> {
        let name = a.op.to_string();
        let Some(aggregator) = Aggregator::named(&name) else {
            return self.unsupported(&name, &format!("{name}() is"));
        };
        let grouping = match &a.modifier {
            None => Grouping::By(Vec::new()),
            Some(LabelModifier::Include(l)) => Grouping::By(l.labels.clone()),
            Some(LabelModifier::Exclude(l)) => Grouping::Without(l.labels.clone()),
        };
        Ok(Node::Aggregate { aggregator, grouping, of: Box::new(self.node(&a.expr, level + 1)?) })
    }

    fn binary(&self, b: &BinaryExpr, level: usize) -> Result<Node, ParseError> {
        let sign = b.op.to_string();
        let Some(operator) = Operator::named(&sign) else {
            return self.unsupported(&sign, &format!("the operator {sign} is"));
        };
        if let Some(m) = &b.modifier {
            match (&m.matching, &m.card) {
                (Some(LabelModifier::Include(_)), _) => return self.unsupported("on", "on is"),
                (Some(LabelModifier::Exclude(_)), _) => return self.unsupported("ignoring", "ignoring is"),
                (None, VectorMatchCardinality::ManyToOne(_)) => {
                    return self.unsupported("group_left", "group_left is");
                }
                (None, VectorMatchCardinality::OneToMany(_)) => {
                    return self.unsupported("group_right", "group_right is");
                }
                (None, VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany) => {}
            }
            if m.return_bool {
                return self.unsupported("bool", "bool is");
            }
            if m.fill_values.lhs.is_some() || m.fill_values.rhs.is_some() {
                return self.unsupported("fill", "fill is");
            }
        }
        let left = Box::new(self.node(&b.lhs, level + 1)?);
        let right = Box::new(self.node(&b.rhs, level + 1)?);
        Ok(Node::Binary { operator, left, right })
    }
}
