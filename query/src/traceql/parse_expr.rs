//! What stands between braces: operators by how tightly they bind, types checked on the way.

use davy_model::{Matcher, SpanKind, SpanStatus};

use super::ast::{Arithmetic, Expr, Op, Type, Value, regex_op};
use super::error::ParseError;
use super::field::{Field, Intrinsic, Scope};
use super::parse::Parser;
use super::token::Token;

/// How deep parentheses and operators may nest.
pub(crate) const DEPTH_MAX: usize = 100;

/// As Tempo has it: the looser ones first. `&&` and `||` bind equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Logic,
    Compare,
    Add,
    Multiply,
    Power,
}

/// An expression, where it begins, and how deep it is.
struct Part {
    expr: Expr,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    pub(crate) fn expr(&mut self) -> Result<Expr, ParseError> {
        self.binary(Binding::Logic, 0).map(|part| part.expr)
    }

    fn binary(&mut self, loosest: Binding, depth: usize) -> Result<Part, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.too_deep());
        }
        let mut left = self.unary(depth + 1)?;
        loop {
            let Token::Symbol(symbol) = *self.peek() else { return Ok(left) };
            let Some(binding) = binding(symbol).filter(|b| *b >= loosest) else { return Ok(left) };
            let at = self.at();
            self.take();
            if regex_op(symbol).is_some() {
                left = self.regex(left, symbol, at)?;
                continue;
            }
            let right = match binding {
                Binding::Logic => self.binary(Binding::Compare, depth + 1)?,
                Binding::Compare => self.binary(Binding::Add, depth + 1)?,
                Binding::Add => self.binary(Binding::Multiply, depth + 1)?,
                Binding::Multiply => self.binary(Binding::Power, depth + 1)?,
                // From right to left.
                Binding::Power => self.binary(Binding::Power, depth + 1)?,
            };
            left = self.joined(symbol, left, right)?;
        }
    }

    fn unary(&mut self, depth: usize) -> Result<Part, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.too_deep());
        }
        let at = self.at();
        let part = |expr, depth| Part { expr, at, depth };
        if self.takes("!") {
            // Tighter than a comparison: `!(a = b)` needs its parentheses.
            let inner = self.binary(Binding::Multiply, depth + 1)?;
            self.must_be(&inner, &[Type::Bool], "\"!\"")?;
            return Ok(part(Expr::Not(Box::new(inner.expr)), inner.depth + 1));
        }
        if self.takes("-") {
            let inner = self.binary(Binding::Power, depth + 1)?;
            self.must_be(&inner, &[Type::Number], "\"-\"")?;
            let expr = match inner.expr {
                Expr::Value(Value::Int(n)) => Expr::Value(Value::Int(n.saturating_neg())),
                Expr::Value(Value::Float(n)) => Expr::Value(Value::Float(-n)),
                Expr::Value(Value::Duration(n)) => Expr::Value(Value::Duration(n.saturating_neg())),
                inner => Expr::Negative(Box::new(inner)),
            };
            return Ok(part(expr, inner.depth + 1));
        }
        if self.takes("(") {
            let inner = self.binary(Binding::Logic, depth + 1)?;
            self.expect(")", "\")\" or an operator")?;
            return Ok(Part { at, ..inner });
        }
        if let Some(value) = self.literal() {
            return Ok(part(Expr::Value(value), 1));
        }
        Ok(part(Expr::Field(field(self)?), 1))
    }

    fn joined(&mut self, symbol: &str, left: Part, right: Part) -> Result<Part, ParseError> {
        let at = left.at;
        let depth = left.depth.max(right.depth) + 1;
        let part = |expr| Ok(Part { expr, at, depth });
        if let "&&" | "||" = symbol {
            for side in [&left, &right] {
                self.must_be(side, &[Type::Bool], &format!("{symbol:?}"))?;
            }
            // One level for a whole chain of them.
            let depth = left.depth.max(right.depth + 1);
            let expr = match (symbol, left.expr) {
                ("&&", Expr::And(mut parts)) => {
                    parts.push(right.expr);
                    Expr::And(parts)
                }
                ("||", Expr::Or(mut parts)) => {
                    parts.push(right.expr);
                    Expr::Or(parts)
                }
                ("&&", left) => Expr::And(vec![left, right.expr]),
                (_, left) => Expr::Or(vec![left, right.expr]),
            };
            let depth = depth.max(2);
            return if depth > DEPTH_MAX { Err(self.too_deep()) } else { Ok(Part { expr, at, depth }) };
        }
        if depth > DEPTH_MAX {
            return Err(self.too_deep());
        }
        if let Some(op) = Op::from_symbol(symbol) {
            return part(self.comparison(op, symbol, left, right)?);
        }
        let op = arithmetic(symbol).expect("every binding is of logic, comparison or arithmetic");
        for side in [&left, &right] {
            self.must_be(side, &[Type::Number], &format!("{symbol:?}"))?;
        }
        part(Expr::Compute(op, Box::new([left.expr, right.expr])))
    }

    fn comparison(&self, op: Op, symbol: &str, left: Part, right: Part) -> Result<Expr, ParseError> {
        let (l, r) = (left.expr.kind(), right.expr.kind());
        if l == Type::Nil || r == Type::Nil {
            let other = Box::new(if r == Type::Nil { left.expr } else { right.expr });
            return match op {
                Op::Equal => Ok(Expr::Not(Box::new(Expr::Exists(other)))),
                Op::NotEqual => Ok(Expr::Exists(other)),
                _ => Err(self.error_at(right.at, "nil can only be compared by \"=\" and \"!=\"")),
            };
        }
        if l != r && l != Type::Any && r != Type::Any {
            let message = format!("{symbol:?} compares {} with {}", l.word(), r.word());
            return Err(self.error_at(right.at, message));
        }
        let is_unordered = |kind| matches!(kind, Type::Status | Type::Kind | Type::Bool);
        if !matches!(op, Op::Equal | Op::NotEqual) && (is_unordered(l) || is_unordered(r)) {
            let kind = if is_unordered(l) { l } else { r };
            let message = format!("{} can only be compared by \"=\" and \"!=\"", kind.word());
            return Err(self.error_at(right.at, message));
        }
        Ok(Expr::Compare(op, Box::new([left.expr, right.expr])))
    }

    fn regex(&mut self, left: Part, symbol: &str, symbol_at: usize) -> Result<Part, ParseError> {
        let op = regex_op(symbol).expect("looked at before");
        if !matches!(left.expr.kind(), Type::Text | Type::Any) {
            let message = format!("{symbol:?} matches texts, this is {}", left.expr.kind().word());
            return Err(self.error_at(symbol_at, message));
        }
        let at = self.at();
        let Token::Text(source) = self.take() else {
            return Err(
                self.error_at(at, format!("expected a regular expression in quotes after {symbol:?}"))
            );
        };
        let matcher = Matcher::new("", op, &source).map_err(|e| self.error_at(at, e.to_string()))?;
        let (at, depth) = (left.at, left.depth + 1);
        Ok(Part { expr: Expr::Match(Box::new(left.expr), Box::new(matcher)), at, depth })
    }

    fn must_be(&self, part: &Part, kinds: &[Type], operator: &str) -> Result<(), ParseError> {
        let kind = part.expr.kind();
        if kind == Type::Any || kinds.contains(&kind) {
            return Ok(());
        }
        let message = format!("{operator} takes {}, this is {}", kinds[0].word(), kind.word());
        Err(self.error_at(part.at, message))
    }

    fn too_deep(&self) -> ParseError {
        self.error_at(self.at(), format!("nested deeper than {DEPTH_MAX}"))
    }
}

pub(crate) fn field(p: &mut Parser) -> Result<Field, ParseError> {
    let at = p.at();
    let what = "a field or a value: resource.service.name, span.http.route, .foo, status, duration, \"text\", 5, 100ms";
    match p.peek().clone() {
        Token::Attribute(scope, name) => {
            p.take();
            let scope = Scope::from_word(&scope).expect("tokens have no other scopes");
            Ok(Field::Attribute(scope, name))
        }
        Token::Word(word) => match Intrinsic::from_word(&word) {
            Some(intrinsic) => {
                p.take();
                Ok(Field::Intrinsic(intrinsic))
            }
            None => Err(p.error_at(at, unknown(&word))),
        },
        _ => Err(p.expected(what)),
    }
}

fn unknown(word: &str) -> String {
    match word {
        "event" | "link" | "span" | "resource" | "trace" | "instrumentation" => {
            format!("expected an attribute after {word:?}, as in {word}.foo")
        }
        "parent" => {
            "expected an attribute of the parent, as in parent.foo or parent.resource.service.name".into()
        }
        "instrumentation:version" => "instrumentation:version is not kept, only instrumentation:name".into(),
        _ => format!(
            "unknown field {word:?}: expected a scope (span.{word}, resource.{word}, .{word}) or an intrinsic (name, status, kind, duration …)"
        ),
    }
}

pub(crate) fn keyword(word: &str) -> Option<Value> {
    Some(match word {
        "nil" => Value::Nil,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "ok" => Value::Status(SpanStatus::Ok),
        "error" => Value::Status(SpanStatus::Error),
        "unset" => Value::Status(SpanStatus::Unset),
        "unspecified" => Value::Kind(SpanKind::Unspecified),
        "internal" => Value::Kind(SpanKind::Internal),
        "server" => Value::Kind(SpanKind::Server),
        "client" => Value::Kind(SpanKind::Client),
        "producer" => Value::Kind(SpanKind::Producer),
        "consumer" => Value::Kind(SpanKind::Consumer),
        _ => return None,
    })
}

fn binding(symbol: &str) -> Option<Binding> {
    Some(match symbol {
        "&&" | "||" => Binding::Logic,
        "=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~" => Binding::Compare,
        "+" | "-" => Binding::Add,
        "*" | "/" | "%" => Binding::Multiply,
        "^" => Binding::Power,
        _ => return None,
    })
}

fn arithmetic(symbol: &str) -> Option<Arithmetic> {
    Some(match symbol {
        "+" => Arithmetic::Add,
        "-" => Arithmetic::Sub,
        "*" => Arithmetic::Mul,
        "/" => Arithmetic::Div,
        "%" => Arithmetic::Mod,
        "^" => Arithmetic::Pow,
        _ => return None,
    })
}
