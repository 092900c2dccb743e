//! Items to nodes: Go's `text/template/parse/parse.go`.

use std::collections::BTreeMap;

use super::lexer::{Item, Kind, lex};
use super::literal::{number, unescape, unquote};
use super::node::{Arg, ArgKind, Branch, Command, ListNode, Node, Number, Pipe};
use super::{Functions, TemplateError, builtin};

/// Nesting of parentheses and of blocks: the parser and the execution recurse over it.
const DEPTH_MAX: usize = 64;

/// The template `name` and those that it defines.
pub(super) fn parse(
    name: &str,
    text: &str,
    functions: &impl Functions,
) -> std::result::Result<BTreeMap<String, ListNode>, TemplateError> {
    let mut parser = Parser {
        name,
        items: lex(text),
        next: 0,
        functions,
        variables: vec!["$".to_owned()],
        range_depth: 0,
        depth: 0,
        defined: BTreeMap::new(),
    };
    let root = parser.top()?;
    let mut all = parser.defined;
    all.insert(name.to_owned(), root);
    Ok(all)
}

struct Parser<'a, F> {
    name: &'a str,
    items: Vec<Item>,
    next: usize,
    functions: &'a F,
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    defined: BTreeMap<String, ListNode>,
}

/// What ended a list of nodes.
enum Parsed {
    Node(Node),
    End,
    Else,
}

type Result<T> = std::result::Result<T, TemplateError>;

impl<F: Functions> Parser<'_, F> {
    fn top(&mut self) -> Result<ListNode> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::Eof {
            if self.peek().kind == Kind::LeftDelim {
                let before = self.next;
                self.bump();
                if self.next_non_space().kind == Kind::Define {
                    self.definition()?;
                    continue;
                }
                self.next = before;
            }
            match self.text_or_action()? {
                Parsed::Node(node) => nodes.push(node),
                Parsed::End => return self.error("unexpected {{end}}"),
                Parsed::Else => return self.error("unexpected {{else}}"),
            }
        }
        Ok(ListNode { nodes })
    }

    fn definition(&mut self) -> Result<()> {
        let context = "define clause";
        let name = self.quoted_name(context)?;
        self.expect(Kind::RightDelim, context)?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let (list, is_end) = self.item_list()?;
        if !is_end {
            return self.error(&format!("unexpected {{{{else}}}} in {context}"));
        }
        (self.variables, self.range_depth) = (outer, range_depth);
        self.define(name, list)
    }

    fn define(&mut self, name: String, list: ListNode) -> Result<()> {
        match self.defined.get(&name) {
            Some(old) if !old.is_blank() && !list.is_blank() => {
                self.error(&format!("template: multiple definition of template {name:?}"))
            }
            Some(old) if !old.is_blank() => Ok(()),
            _ => {
                self.defined.insert(name, list);
                Ok(())
            }
        }
    }

    /// Up to `{{end}}` or `{{else}}`, and whether it was the end.
    fn item_list(&mut self) -> Result<(ListNode, bool)> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.error(&format!("nested deeper than {DEPTH_MAX} blocks"));
        }
        let mut nodes = Vec::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Parsed::Node(node) => nodes.push(node),
                ended => {
                    self.depth -= 1;
                    return Ok((ListNode { nodes }, matches!(ended, Parsed::End)));
                }
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Result<Parsed> {
        let item = self.next_non_space();
        match item.kind {
            Kind::Text => Ok(Parsed::Node(Node::Text { text: item.text })),
            Kind::LeftDelim => self.action(),
            _ => self.unexpected(&item, "input"),
        }
    }

    fn action(&mut self) -> Result<Parsed> {
        let item = self.next_non_space();
        match item.kind {
            Kind::Block => self.block().map(Parsed::Node),
            Kind::Break | Kind::Continue => self.jump(&item).map(Parsed::Node),
            Kind::Else => self.otherwise(),
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                Ok(Parsed::End)
            }
            Kind::If => Ok(Parsed::Node(Node::If(self.control("if", item.at)?))),
            Kind::Range => Ok(Parsed::Node(Node::Range(self.control("range", item.at)?))),
            Kind::With => Ok(Parsed::Node(Node::With(self.control("with", item.at)?))),
            Kind::TemplateWord => self.template().map(Parsed::Node),
            _ => {
                self.back();
                let at = self.peek().at;
                // Variables of a plain action persist until the block ends.
                let pipe = self.pipeline("command", Kind::RightDelim)?;
                Ok(Parsed::Node(Node::Action { at, pipe }))
            }
        }
    }

    fn jump(&mut self, item: &Item) -> Result<Node> {
        let next = self.next_non_space();
        if next.kind != Kind::RightDelim {
            return self.unexpected(&next, &format!("{{{{{}}}}}", item.text));
        }
        if self.range_depth == 0 {
            return self.error(&format!("{{{{{}}}}} outside {{{{range}}}}", item.text));
        }
        Ok(if item.kind == Kind::Break { Node::Break } else { Node::Continue })
    }

    fn otherwise(&mut self) -> Result<Parsed> {
        // `{{else if}}` and `{{else with}}` are a block within the else.
        if !matches!(self.peek_non_space().kind, Kind::If | Kind::With) {
            self.expect(Kind::RightDelim, "else")?;
        }
        Ok(Parsed::Else)
    }

    fn control(&mut self, word: &'static str, at: usize) -> Result<Branch> {
        let outer = self.variables.len();
        let pipe = self.pipeline(word, Kind::RightDelim)?;
        self.range_depth += usize::from(word == "range");
        let (list, is_end) = self.item_list()?;
        self.range_depth -= usize::from(word == "range");
        let otherwise = if is_end { None } else { Some(self.else_list(word)?) };
        self.variables.truncate(outer);
        Ok(Branch { at, pipe, list, otherwise })
    }

    fn else_list(&mut self, word: &'static str) -> Result<ListNode> {
        let chained = match (word, self.peek().kind) {
            ("if", Kind::If) | ("with", Kind::With) => true,
            (_, Kind::If | Kind::With) => {
                let item = self.bump();
                return self.unexpected(&item, "else");
            }
            _ => false,
        };
        if chained {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return self.error(&format!("nested deeper than {DEPTH_MAX} blocks"));
            }
            let item = self.bump();
            let branch = self.control(word, item.at)?;
            self.depth -= 1;
            let node = if word == "if" { Node::If(branch) } else { Node::With(branch) };
            return Ok(ListNode { nodes: vec![node] });
        }
        match self.item_list()? {
            (list, true) => Ok(list),
            (_, false) => self.error("expected end; found {{else}}"),
        }
    }

    /// `{{block "name" pipeline}}` defines and calls at once.
    fn block(&mut self) -> Result<Node> {
        let context = "block clause";
        let at = self.peek_non_space().at;
        let name = self.quoted_name(context)?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let (list, is_end) = self.item_list()?;
        if !is_end {
            return self.error(&format!("unexpected {{{{else}}}} in {context}"));
        }
        self.variables = outer;
        self.define(name.clone(), list)?;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    fn template(&mut self) -> Result<Node> {
        let context = "template clause";
        let at = self.peek_non_space().at;
        let name = self.quoted_name(context)?;
        if self.peek_non_space().kind == Kind::RightDelim {
            self.bump();
            return Ok(Node::Template { at, name, pipe: None });
        }
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    fn quoted_name(&mut self, context: &str) -> Result<String> {
        let item = self.next_non_space();
        match item.kind {
            Kind::String | Kind::RawString => self.unquoted(&item),
            _ => self.unexpected(&item, context),
        }
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe> {
        let at = self.peek_non_space().at;
        let mut pipe = Pipe { at, is_assign: false, declares: Vec::new(), commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let item = self.next_non_space();
            match item.kind {
                k if k == end => {
                    self.check_pipeline(&pipe, context)?;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.back();
                    pipe.commands.push(self.command()?);
                }
                _ => return self.unexpected(&item, context),
            }
        }
    }

    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<()> {
        while self.peek_non_space().kind == Kind::Variable {
            let before = self.next;
            let variable = self.bump();
            let next = self.peek_non_space();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.is_assign = next.kind == Kind::Assign;
                    self.bump();
                    self.declare(variable.text, pipe);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.bump();
                    self.declare(variable.text, pipe);
                    if context != "range" || pipe.declares.len() >= 2 {
                        return self.error(&format!("too many declarations in {context}"));
                    }
                    if self.peek_non_space().kind != Kind::Variable {
                        return self.error("range can only initialize variables");
                    }
                }
                _ => {
                    self.next = before;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, variable: String, pipe: &mut Pipe) {
        pipe.declares.push(variable.clone());
        self.variables.push(variable);
    }

    fn check_pipeline(&self, pipe: &Pipe, context: &str) -> Result<()> {
        if pipe.commands.is_empty() {
            return self.error(&format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            let constant = matches!(
                command.args[0].kind,
                ArgKind::Bool(_)
                    | ArgKind::Dot
                    | ArgKind::Nil
                    | ArgKind::Number { .. }
                    | ArgKind::Text { .. }
            );
            if constant {
                return self.error(&format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command> {
        let at = self.peek_non_space().at;
        let mut args = Vec::new();
        loop {
            self.peek_non_space();
            args.extend(self.operand()?);
            let item = self.bump();
            match item.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.back(),
                Kind::Pipe => {}
                _ => return self.unexpected(&item, "operand"),
            }
            break;
        }
        if args.is_empty() {
            return self.error("empty command");
        }
        Ok(Command { at, args })
    }

    fn operand(&mut self) -> Result<Option<Arg>> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let at = self.peek().at;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.bump().text[1..].to_owned());
        }
        let kind = match term.kind {
            ArgKind::Field(mut first) => {
                first.extend(names);
                // Go points at what was added.
                return Ok(Some(Arg { at, kind: ArgKind::Field(first) }));
            }
            ArgKind::Variable(mut first) => {
                first.extend(names);
                return Ok(Some(Arg { at, kind: ArgKind::Variable(first) }));
            }
            ArgKind::Bool(_)
            | ArgKind::Text { .. }
            | ArgKind::Number { .. }
            | ArgKind::Nil
            | ArgKind::Dot => {
                return self.error(&format!("unexpected . after term {:?}", term.to_string()));
            }
            ArgKind::Identifier(_) | ArgKind::Pipe(_) | ArgKind::Chain(..) => {
                ArgKind::Chain(Box::new(term), names)
            }
        };
        Ok(Some(Arg { at, kind }))
    }

    fn term(&mut self) -> Result<Option<Arg>> {
        let item = self.next_non_space();
        let kind = match item.kind {
            Kind::Identifier => {
                if !builtin::is_builtin(&item.text) && !self.functions.has(&item.text) {
                    return self.error(&format!("function {:?} not defined", item.text));
                }
                ArgKind::Identifier(item.text)
            }
            Kind::Dot => ArgKind::Dot,
            Kind::Nil => ArgKind::Nil,
            Kind::Variable => {
                if !self.variables.contains(&item.text) {
                    return self.error(&format!("undefined variable {:?}", item.text));
                }
                ArgKind::Variable(vec![item.text])
            }
            Kind::Field => ArgKind::Field(vec![item.text[1..].to_owned()]),
            Kind::Bool => ArgKind::Bool(item.text == "true"),
            Kind::CharConstant => ArgKind::Number { value: self.character(&item)?, text: item.text },
            Kind::Number => match number(&item.text) {
                Some(value) => ArgKind::Number { value, text: item.text },
                None => return self.error(&format!("illegal number syntax: {:?}", item.text)),
            },
            Kind::LeftParen => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return self.error(&format!("nested deeper than {DEPTH_MAX} parentheses"));
                }
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Arg { at: pipe.at, kind: ArgKind::Pipe(pipe) }));
            }
            Kind::String | Kind::RawString => {
                ArgKind::Text { text: self.unquoted(&item)?, quoted: item.text }
            }
            _ => {
                self.back();
                return Ok(None);
            }
        };
        Ok(Some(Arg { at: item.at, kind }))
    }

    fn unquoted(&self, item: &Item) -> Result<String> {
        match unquote(&item.text) {
            Some(text) => Ok(text),
            None => self.error("invalid syntax"),
        }
    }

    fn character(&self, item: &Item) -> Result<Number> {
        let inner = item.text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or("");
        let text = if inner == "\\'" { Some("'".to_owned()) } else { unescape(inner) };
        let mut chars = text.as_deref().unwrap_or("").chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Number::Int(i64::from(u32::from(c)))),
            _ => self.error(&format!("malformed character constant: {}", item.text)),
        }
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Item> {
        let item = self.next_non_space();
        if item.kind == kind { Ok(item) } else { self.unexpected(&item, context) }
    }

    fn unexpected<T>(&self, item: &Item, context: &str) -> Result<T> {
        if item.kind == Kind::Error {
            return self.error_at(item.line, &item.text);
        }
        self.error_at(item.line, &format!("unexpected {} in {context}", item.shown()))
    }

    fn error<T>(&self, message: &str) -> Result<T> {
        self.error_at(self.items[self.next.min(self.items.len() - 1)].line, message)
    }

    fn error_at<T>(&self, line: usize, message: &str) -> Result<T> {
        Err(TemplateError(format!("{}:{line}: {message}", self.name)))
    }

    fn peek(&self) -> Item {
        self.items[self.next.min(self.items.len() - 1)].clone()
    }

    /// Spaces before it are passed over.
    fn peek_non_space(&mut self) -> Item {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
        self.peek()
    }

    /// The last item, an end or an error, is given again and again.
    fn bump(&mut self) -> Item {
        let item = self.peek();
        self.next += 1;
        item
    }

    fn next_non_space(&mut self) -> Item {
        self.peek_non_space();
        self.bump()
    }

    fn back(&mut self) {
        self.next -= 1;
    }
}
