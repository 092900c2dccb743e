//! Tokens into a [`Query`]: spansets and the stages behind them.

use super::ast::{
    Aggregate, Metric, MetricFunction, Op, Query, Reduce, Relation, SpansetExpr, SpansetOp, Stage, Type,
    Value,
};
use super::error::ParseError;
use super::field::Field;
use super::parse_expr::{DEPTH_MAX, field};
use super::token::{Token, tokens};

/// Stages of one query.
const STAGES_MAX: usize = 32;
/// Fields in one `by()` or `select()`.
const FIELDS_MAX: usize = 64;

/// Structural operators: what a span of the right is to one of the left, whether it must not be, whether both stay.
const STRUCTURAL: [(&str, Relation, bool, bool); 14] = [
    (">", Relation::Child, false, false),
    (">>", Relation::Descendant, false, false),
    ("<", Relation::Parent, false, false),
    ("<<", Relation::Ancestor, false, false),
    ("~", Relation::Sibling, false, false),
    ("!>", Relation::Child, true, false),
    ("!>>", Relation::Descendant, true, false),
    ("!<", Relation::Parent, true, false),
    ("!<<", Relation::Ancestor, true, false),
    ("!~", Relation::Sibling, true, false),
    ("&>", Relation::Child, false, true),
    ("&>>", Relation::Descendant, false, true),
    ("&<", Relation::Parent, false, true),
    ("&<<", Relation::Ancestor, false, true),
];

impl Query {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut p = Parser { text, tokens: tokens(text)?, next: 0 };
        let query = p.query()?;
        p.expect_end()?;
        Ok(query)
    }

    /// Whether it asks for metrics and not for traces.
    pub fn is_metrics(&self) -> bool {
        self.metric.is_some()
    }
}

/// A field alone, as it names a tag: `resource.service.name`, `.foo`, `status`.
pub fn parse_field(text: &str) -> Result<Field, ParseError> {
    let mut p = Parser { text, tokens: tokens(text)?, next: 0 };
    let field = field(&mut p)?;
    p.expect_end()?;
    Ok(field)
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    next: usize,
}

impl Parser<'_> {
    pub(crate) fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    pub(crate) fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    pub(crate) fn takes(&mut self, symbol: &str) -> bool {
        let is = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        self.next += usize::from(is);
        is
    }

    pub(crate) fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at)
    }

    pub(crate) fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        ParseError::at(self.text, at, message)
    }

    /// At the next token.
    pub(crate) fn expected(&self, what: &str) -> ParseError {
        self.error_at(self.at(), format!("expected {what}, got {}", self.peek().shown()))
    }

    pub(crate) fn expect(&mut self, symbol: &str, what: &str) -> Result<(), ParseError> {
        if self.takes(symbol) { Ok(()) } else { Err(self.expected(what)) }
    }

    fn expect_end(&self) -> Result<(), ParseError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.expected("the end of the query")) }
    }

    fn query(&mut self) -> Result<Query, ParseError> {
        let (spansets, _) = self.spansets(0)?;
        let mut query = Query { spansets, stages: Vec::new(), metric: None };
        while self.takes("|") {
            self.stage(&mut query)?;
            if query.stages.len() > STAGES_MAX {
                return Err(self.error_at(self.at(), format!("more than {STAGES_MAX} stages")));
            }
        }
        if *self.peek() == Token::Word("with".to_owned()) {
            self.hints()?;
        }
        Ok(query)
    }

    /// `&&` and `||` bind loosest and equally, the structural operators tighter; all from left to right.
    fn spansets(&mut self, depth: usize) -> Result<(SpansetExpr, usize), ParseError> {
        let mut left = self.structural(depth)?;
        loop {
            let op = match self.peek() {
                Token::Symbol("&&") => SpansetOp::And,
                Token::Symbol("||") => SpansetOp::Or,
                _ => return Ok(left),
            };
            self.next += 1;
            let right = self.structural(depth)?;
            left = self.pair(op, left, right)?;
        }
    }

    fn structural(&mut self, depth: usize) -> Result<(SpansetExpr, usize), ParseError> {
        let mut left = self.spanset(depth)?;
        loop {
            let Token::Symbol(symbol) = *self.peek() else { return Ok(left) };
            let Some((_, relation, not, both)) = STRUCTURAL.iter().find(|(s, ..)| *s == symbol) else {
                if symbol == "&~" {
                    return Err(self.error_at(self.at(), "the operator \"&~\" is not supported"));
                }
                return Ok(left);
            };
            self.next += 1;
            let right = self.spanset(depth)?;
            let op = SpansetOp::Structural { relation: *relation, not: *not, both: *both };
            left = self.pair(op, left, right)?;
        }
    }

    fn pair(
        &self,
        op: SpansetOp,
        (left, left_depth): (SpansetExpr, usize),
        (right, right_depth): (SpansetExpr, usize),
    ) -> Result<(SpansetExpr, usize), ParseError> {
        let depth = left_depth.max(right_depth) + 1;
        if depth > DEPTH_MAX {
            return Err(self.error_at(self.at(), format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok((SpansetExpr::Pair(op, Box::new([left, right])), depth))
    }

    fn spanset(&mut self, depth: usize) -> Result<(SpansetExpr, usize), ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error_at(self.at(), format!("nested deeper than {DEPTH_MAX}")));
        }
        if self.takes("(") {
            let inner = self.spansets(depth + 1)?;
            if matches!(self.peek(), Token::Symbol("|")) {
                let message =
                    "a pipeline within parentheses is not supported: put its stages behind the query";
                return Err(self.error_at(self.at(), message));
            }
            self.expect(")", "\")\", \"&&\", \"||\" or a structural operator")?;
            return Ok(inner);
        }
        self.expect("{", "\"{\" of a spanset, as in { status = error }")?;
        if self.takes("}") {
            return Ok((SpansetExpr::Filter(None), 1));
        }
        let at = self.at();
        let filter = self.expr()?;
        if !matches!(filter.kind(), Type::Bool | Type::Any) {
            let message = format!("a filter must be true or false, this is {}", filter.kind().word());
            return Err(self.error_at(at, message));
        }
        self.expect("}", "\"}\", \"&&\", \"||\" or a comparison")?;
        Ok((SpansetExpr::Filter(Some(filter)), 1))
    }

    fn stage(&mut self, query: &mut Query) -> Result<(), ParseError> {
        let at = self.at();
        if matches!(self.peek(), Token::Symbol("{" | "(")) {
            self.traces_only(query, at)?;
            let (kept, _) = self.spansets(0)?;
            query.stages.push(Stage::Keep(kept));
            return Ok(());
        }
        let what = "a stage: a spanset, select(), by(), coalesce(), count() > n, avg(), max(), min() or sum() \
                    compared, rate(), count_over_time(), quantile_over_time() …";
        let Token::Word(word) = self.peek().clone() else { return Err(self.expected(what)) };
        if let Some(refused) = refused(&word) {
            return Err(self.error_at(at, refused));
        }
        self.next += 1;
        self.expect("(", &format!("\"(\" after {word}"))?;
        if matches!(word.as_str(), "topk" | "bottomk") {
            return self.top(query, &word, at);
        }
        self.traces_only(query, at)?;
        if let Some(function) = self.metric_function(&word)? {
            let by = self.by()?;
            query.metric = Some(Metric { function, by, top: None });
            return Ok(());
        }
        let stage = match word.as_str() {
            "select" => Stage::Select(self.fields()?),
            "coalesce" => {
                self.expect(")", "\")\"")?;
                Stage::Coalesce
            }
            "by" => {
                let by = self.expr()?;
                self.expect(")", "\")\"")?;
                Stage::By(by)
            }
            "count" => {
                self.expect(")", "\")\": count() takes nothing")?;
                self.compared(Aggregate::Count)?
            }
            "avg" | "max" | "min" | "sum" => {
                let at = self.at();
                let of = self.expr()?;
                if !matches!(of.kind(), Type::Number | Type::Any) {
                    let message =
                        format!("{word}() takes a number or duration, this is {}", of.kind().word());
                    return Err(self.error_at(at, message));
                }
                self.expect(")", "\")\"")?;
                let reduce = reduce(&word).expect("the four words are its words");
                self.compared(Aggregate::Of(reduce, of))?
            }
            _ => return Err(self.error_at(at, format!("unknown stage {word}(): expected {what}"))),
        };
        query.stages.push(stage);
        Ok(())
    }

    fn traces_only(&self, query: &Query, at: usize) -> Result<(), ParseError> {
        match &query.metric {
            Some(_) => Err(self.error_at(at, "only topk() and bottomk() may follow a function of metrics")),
            None => Ok(()),
        }
    }

    fn top(&mut self, query: &mut Query, word: &str, at: usize) -> Result<(), ParseError> {
        let number_at = self.at();
        let count = match self.take() {
            Token::Int(n) if (1..=1000).contains(&n) => n,
            _ => return Err(self.error_at(number_at, format!("{word}() takes a number from 1 to 1000"))),
        };
        self.expect(")", "\")\"")?;
        let Some(metric) = &mut query.metric else {
            let message = format!("{word}() follows a function of metrics, as in rate() | {word}(5)");
            return Err(self.error_at(at, message));
        };
        metric.top = Some(if word == "topk" { count } else { -count });
        Ok(())
    }

    fn compared(&mut self, aggregate: Aggregate) -> Result<Stage, ParseError> {
        let op = match self.peek() {
            Token::Symbol(symbol) => Op::from_symbol(symbol),
            _ => None,
        };
        let Some(op) = op else { return Err(self.expected("a comparison, as in count() > 2")) };
        self.next += 1;
        let minus = self.takes("-");
        let at = self.at();
        let than = match self.take() {
            Token::Int(n) | Token::Nanos(n) => n as f64,
            Token::Float(n) => n,
            other => {
                let message = format!("expected a number or a duration, got {}", other.shown());
                return Err(self.error_at(at, message));
            }
        };
        Ok(Stage::Compare(aggregate, op, if minus { -than } else { than }))
    }

    /// After the opening parenthesis; `None` if it is another word.
    fn metric_function(&mut self, word: &str) -> Result<Option<MetricFunction>, ParseError> {
        let function = match word {
            "rate" => MetricFunction::Rate,
            "count_over_time" => MetricFunction::CountOverTime,
            "min_over_time" => MetricFunction::Reduce(Reduce::Min, self.number_field()?),
            "max_over_time" => MetricFunction::Reduce(Reduce::Max, self.number_field()?),
            "avg_over_time" => MetricFunction::Reduce(Reduce::Avg, self.number_field()?),
            "sum_over_time" => MetricFunction::Reduce(Reduce::Sum, self.number_field()?),
            "histogram_over_time" => MetricFunction::Histogram(self.number_field()?),
            "quantile_over_time" => {
                let field = self.number_field()?;
                let mut quantiles = Vec::new();
                while self.takes(",") {
                    let at = self.at();
                    quantiles.push(match self.take() {
                        Token::Float(q) if (0.0..=1.0).contains(&q) => q,
                        Token::Int(q @ 0..=1) => q as f64,
                        _ => return Err(self.error_at(at, "a quantile is a number from 0 to 1")),
                    });
                }
                if quantiles.is_empty() || quantiles.len() > FIELDS_MAX {
                    return Err(
                        self.expected("1 to 64 quantiles, as in quantile_over_time(duration, .5, .99)")
                    );
                }
                MetricFunction::Quantiles(field, quantiles)
            }
            _ => return Ok(None),
        };
        self.expect(")", "\")\"")?;
        Ok(Some(function))
    }

    fn number_field(&mut self) -> Result<Field, ParseError> {
        let at = self.at();
        let field = field(self)?;
        match field.kind() {
            Type::Number | Type::Any => Ok(field),
            other => {
                Err(self.error_at(at, format!("expected a number or duration, {field} is {}", other.word())))
            }
        }
    }

    fn by(&mut self) -> Result<Vec<Field>, ParseError> {
        if *self.peek() != Token::Word("by".to_owned()) {
            return Ok(Vec::new());
        }
        self.next += 1;
        self.expect("(", "\"(\" after by")?;
        self.fields()
    }

    /// To the closing parenthesis.
    fn fields(&mut self) -> Result<Vec<Field>, ParseError> {
        let mut fields = vec![field(self)?];
        while self.takes(",") {
            fields.push(field(self)?);
            if fields.len() > FIELDS_MAX {
                return Err(self.error_at(self.at(), format!("more than {FIELDS_MAX} fields")));
            }
        }
        self.expect(")", "\",\" or \")\"")?;
        Ok(fields)
    }

    /// `with(most_recent=true)`: what is asked for is what is always done; nothing else changes an answer.
    fn hints(&mut self) -> Result<(), ParseError> {
        self.next += 1;
        self.expect("(", "\"(\" after with")?;
        loop {
            let Token::Word(_) = self.take() else {
                return Err(self.expected("a hint, as in most_recent=true"));
            };
            self.expect("=", "\"=\"")?;
            if self.literal().is_none() {
                return Err(self.expected("a value"));
            }
            if !self.takes(",") {
                return self.expect(")", "\",\" or \")\"");
            }
        }
    }

    /// A value, if one comes next.
    pub(crate) fn literal(&mut self) -> Option<Value> {
        let value = match self.peek() {
            Token::Text(text) => Value::Text(text.as_str().into()),
            Token::Int(n) => Value::Int(*n),
            Token::Float(n) => Value::Float(*n),
            Token::Nanos(n) => Value::Duration(*n),
            Token::Word(word) => super::parse_expr::keyword(word)?,
            Token::Attribute(..) | Token::Symbol(_) | Token::End => return None,
        };
        self.next += 1;
        Some(value)
    }
}

fn reduce(word: &str) -> Option<Reduce> {
    [Reduce::Avg, Reduce::Max, Reduce::Min, Reduce::Sum].into_iter().find(|r| r.word() == word)
}

/// What Tempo has and Davy has not.
fn refused(word: &str) -> Option<String> {
    matches!(word, "compare").then(|| format!("{word}() is not supported"))
}
