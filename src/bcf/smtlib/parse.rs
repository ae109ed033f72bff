//! Parsing: commands and terms of untrusted text, without recursion.
//!
//! The subset is what conditions need: constants of Bool and bit-vectors, functions that are defined and so expanded, `let`, all
//! of QF_BV but what the format cannot say, and one `check-sat`.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::error::{ParseError, Reason};
use super::lexer::{Lexer, Placed, Token};
use super::ops::{Builder, Function, INDEXED, MAX_WIDTH, functions};
use crate::bcf::expr::{Arena, ExprId};

/// A condition that a script states.
#[derive(Debug)]
pub struct Condition {
    pub arena: Arena,
    /// The conjunction of the assertions.
    pub root: ExprId,
    /// The declared variables with their names, in the order of the script.
    pub variables: Vec<(String, ExprId)>,
}

/// Reads a script: declarations, definitions and assertions up to `exit` or the end.
///
/// Bit-vectors have 255 bits at most; a constant of more than 64 bits becomes a `concat`. Commands that only set or get something
/// are skipped.
///
/// # Errors
/// The first thing that is wrong, or that the format cannot say.
pub fn parse(text: &[u8]) -> Result<Condition> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        builder: Builder::new(),
        functions: functions(),
        scope: FxHashMap::default(),
        lets: 0,
        asserted: Vec::new(),
        variables: Vec::new(),
        is_checked: false,
    };
    parser.script()
}

/// What a name stands for.
#[derive(Clone)]
enum Meaning {
    Value(ExprId),
    Function(Rc<super::ops::Definition>),
}

/// Names that are no symbols unless they are quoted.
const RESERVED: &[&[u8]] =
    &[b"_", b"!", b"as", b"let", b"forall", b"exists", b"match", b"par", b"true", b"false"];

struct Parser<'a> {
    lexer: Lexer<'a>,
    builder: Builder,
    functions: FxHashMap<&'static [u8], Function>,
    /// Meanings of each name, the innermost last, with the number of the `let` that gave it, 0 for the script.
    scope: FxHashMap<&'a [u8], Vec<(u64, Meaning)>>,
    /// Numbers of `let`s, given as they come.
    lets: u64,
    asserted: Vec<ExprId>,
    variables: Vec<(String, ExprId)>,
    is_checked: bool,
}

/// A term that is begun.
enum Frame<'a> {
    /// A function whose arguments start at `args` of the values.
    Apply { function: Function, name: Placed<'a>, args: usize },
    /// The binding of `name`, behind those that are `bound`.
    Binding { name: Placed<'a>, bound: Vec<(Placed<'a>, ExprId)> },
    /// The body of a `let`.
    Body { names: Vec<&'a [u8]> },
    /// `(! term`.
    Annotated,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Bool,
    Bv(u8),
}

type Result<T> = std::result::Result<T, ParseError>;

/// A name for messages, cut where it is long.
fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().take(40).collect();
    if text.len() < name.len() { format!("`{text}…`") } else { format!("`{text}`") }
}

fn describe(token: Token<'_>) -> String {
    match token {
        Token::Open => "`(`".into(),
        Token::Close => "`)`".into(),
        Token::Symbol { name, .. } => shown(name),
        Token::Keyword(name) => shown(&[b":", name].concat()),
        Token::Numeral(digits) => shown(digits),
        Token::Binary(digits) => shown(&[b"#b", digits].concat()),
        Token::Hex(digits) => shown(&[b"#x", digits].concat()),
        Token::Other => "a string or a decimal".into(),
        Token::End => "the end of the text".into(),
    }
}

impl<'a> Parser<'a> {
    fn script(&mut self) -> Result<Condition> {
        loop {
            match self.lexer.next()? {
                (Token::Open, _) => {
                    if !self.command()? {
                        break;
                    }
                }
                (Token::End, _) => break,
                found => return Err(self.expected("a command in parentheses", found)),
            }
        }
        let (_, end) = self.lexer.peek().unwrap_or((Token::End, 0));
        if self.asserted.is_empty() {
            return Err(self.lexer.error(end, "no `assert` in the script: expected a condition"));
        }
        let root =
            self.builder.conjunction(&self.asserted).map_err(|reason| self.lexer.error(end, reason))?;
        let arena = std::mem::take(&mut self.builder.arena);
        Ok(Condition { arena, root, variables: std::mem::take(&mut self.variables) })
    }

    /// Reads a command whose parenthesis is open; false for `exit`.
    fn command(&mut self) -> Result<bool> {
        let (name, at) = self.symbol("the name of a command")?;
        let before_check =
            matches!(name, b"assert" | b"declare-fun" | b"declare-const" | b"define-fun" | b"define-const");
        if before_check && self.is_checked {
            let reason = "a second condition behind `check-sat`: expected one condition in a script";
            return Err(self.lexer.error(at, reason));
        }
        match name {
            b"exit" => return Ok(false),
            b"check-sat" => self.is_checked = true,
            b"declare-fun" => self.declare(true)?,
            b"declare-const" => self.declare(false)?,
            b"define-fun" => self.define(true)?,
            b"define-const" => self.define(false)?,
            b"assert" => {
                let (_, at) = self.lexer.peek()?;
                let term = self.term()?;
                if !self.builder.arena.is_bool(term) {
                    let sort = self.builder.sort(term);
                    return Err(self
                        .lexer
                        .error(at, format!("expected a Boolean term, found one of sort {sort}")));
                }
                self.asserted.push(term);
            }
            b"set-logic" | b"set-info" | b"set-option" | b"echo" => {
                return self.skip_to_close().map(|()| true);
            }
            name if name.starts_with(b"get-") => return self.skip_to_close().map(|()| true),
            name => {
                let reason = format!(
                    "the command {} is not supported: expected declarations, definitions, `assert`, `check-sat` or `exit`",
                    shown(name)
                );
                return Err(self.lexer.error(at, reason));
            }
        }
        self.close().map(|()| true)
    }

    fn expected(&self, what: &str, (found, at): Placed<'a>) -> ParseError {
        self.lexer.error(at, format!("expected {what}, found {}", describe(found)))
    }

    fn open(&mut self, what: &str) -> Result<()> {
        match self.lexer.next()? {
            (Token::Open, _) => Ok(()),
            found => Err(self.expected(what, found)),
        }
    }

    fn close(&mut self) -> Result<()> {
        match self.lexer.next()? {
            (Token::Close, _) => Ok(()),
            found => Err(self.expected("`)`", found)),
        }
    }

    fn symbol(&mut self, what: &str) -> Result<(&'a [u8], usize)> {
        match self.lexer.next()? {
            (Token::Symbol { name, .. }, at) => Ok((name, at)),
            found => Err(self.expected(what, found)),
        }
    }

    /// A name that a declaration or a binding may give a meaning to.
    fn new_name(&mut self) -> Result<Placed<'a>> {
        let found = self.lexer.next()?;
        match found.0 {
            Token::Symbol { name, quoted } if quoted || !RESERVED.contains(&name) => Ok(found),
            _ => Err(self.expected("a name", found)),
        }
    }

    /// Reads up to the parenthesis that closes the one that is open.
    fn skip_to_close(&mut self) -> Result<()> {
        let mut depth = 1u64;
        while depth != 0 {
            match self.lexer.next()? {
                (Token::Open, _) => depth += 1,
                (Token::Close, _) => depth -= 1,
                found @ (Token::End, _) => return Err(self.expected("`)`", found)),
                _ => {}
            }
        }
        Ok(())
    }

    /// A number in an index or a width; `None` where it is larger than 255.
    fn index(&mut self) -> Result<(Option<u8>, usize)> {
        match self.lexer.next()? {
            (Token::Numeral(digits), at) => {
                let number = digits.iter().try_fold(0u8, |number, digit| {
                    number.checked_mul(10)?.checked_add(digit.wrapping_sub(b'0'))
                });
                Ok((number, at))
            }
            found => Err(self.expected("a number", found)),
        }
    }

    fn width(&mut self) -> Result<u8> {
        match self.index()? {
            (Some(width), _) if width != 0 => Ok(width),
            (_, at) => Err(self.lexer.error(at, format!("expected a width of 1 to {MAX_WIDTH} bits"))),
        }
    }

    fn sort(&mut self) -> Result<Sort> {
        let what = "a sort, Bool or (_ BitVec N)";
        match self.lexer.next()? {
            (Token::Symbol { name: b"Bool", .. }, _) => Ok(Sort::Bool),
            (Token::Open, _) => {
                for word in [&b"_"[..], b"BitVec"] {
                    match self.lexer.next()? {
                        (Token::Symbol { name, .. }, _) if name == word => {}
                        found => return Err(self.expected(what, found)),
                    }
                }
                let width = self.width()?;
                self.close()?;
                Ok(Sort::Bv(width))
            }
            found => Err(self.expected(what, found)),
        }
    }

    fn fresh(&mut self, sort: Sort) -> ExprId {
        match sort {
            Sort::Bool => self.builder.arena.bool_var(),
            Sort::Bv(width) => self.builder.arena.bv_var(width),
        }
    }

    /// Gives a name its meaning for the rest of the script.
    fn enter(&mut self, (token, at): Placed<'a>, meaning: Meaning) -> Result<()> {
        let Token::Symbol { name, .. } = token else { return Ok(()) };
        let meanings = self.scope.entry(name).or_default();
        if !meanings.is_empty() || self.functions.contains_key(name) {
            return Err(self.lexer.error(at, format!("{} has a meaning already", shown(name))));
        }
        meanings.push((0, meaning));
        self.builder.check_size().map_err(|reason| self.lexer.error(at, reason))
    }

    fn declare(&mut self, has_params: bool) -> Result<()> {
        let name = self.new_name()?;
        if has_params {
            self.open("`()`: the parameters of a variable")?;
            match self.lexer.next()? {
                (Token::Close, _) => {}
                (_, at) => {
                    let reason = "a function that is not defined: QF_BV has variables only, expected `)`";
                    return Err(self.lexer.error(at, reason));
                }
            }
        }
        let sort = self.sort()?;
        let variable = self.fresh(sort);
        if let Token::Symbol { name, .. } = name.0 {
            self.variables.push((String::from_utf8_lossy(name).into_owned(), variable));
        }
        self.enter(name, Meaning::Value(variable))
    }

    fn define(&mut self, has_params: bool) -> Result<()> {
        let function = self.new_name()?;
        let mut names: Vec<&'a [u8]> = Vec::new();
        let mut params = Vec::new();
        if has_params {
            self.open("the parameters in parentheses")?;
            self.lets += 1;
            while let (Token::Open, _) = self.lexer.peek()? {
                self.lexer.next()?;
                let name = self.new_name()?;
                let sort = self.sort()?;
                self.close()?;
                let param = self.fresh(sort);
                params.push(param);
                self.bind(name, param, &mut names)?;
            }
            self.close()?;
        }
        let sort = self.sort()?;
        let (_, at) = self.lexer.peek()?;
        let body = self.term()?;
        self.unbind(&names);
        let found = self.builder.arena.width(body);
        if found != if let Sort::Bv(width) = sort { width } else { 0 } {
            let found = self.builder.sort(body);
            return Err(self
                .lexer
                .error(at, format!("expected a term of the sort of the definition, found {found}")));
        }
        let meaning = if params.is_empty() {
            Meaning::Value(body)
        } else {
            Meaning::Function(Rc::new(self.builder.define(params, body)))
        };
        self.enter(function, meaning)
    }

    /// Gives a name a meaning in the `let` that has the newest number.
    fn bind(&mut self, (token, at): Placed<'a>, value: ExprId, names: &mut Vec<&'a [u8]>) -> Result<()> {
        let Token::Symbol { name, .. } = token else { return Ok(()) };
        let meanings = self.scope.entry(name).or_default();
        if meanings.last().is_some_and(|&(number, _)| number == self.lets) {
            return Err(self.lexer.error(at, format!("{} is bound twice", shown(name))));
        }
        meanings.push((self.lets, Meaning::Value(value)));
        names.push(name);
        Ok(())
    }

    fn unbind(&mut self, names: &[&'a [u8]]) {
        for &name in names {
            if let Some(meanings) = self.scope.get_mut(name) {
                meanings.pop();
            }
        }
    }

    fn term(&mut self) -> Result<ExprId> {
        let mut frames: Vec<Frame<'a>> = Vec::new();
        let mut values: Vec<ExprId> = Vec::new();
        loop {
            let found = self.lexer.next()?;
            let value = match found.0 {
                Token::Open => match self.begin(&mut frames, values.len())? {
                    Some(value) => value,
                    None => continue,
                },
                Token::Close => match frames.pop() {
                    Some(Frame::Apply { function, name, args }) => {
                        let value = self.builder.apply(&function, &values[args..]);
                        values.truncate(args);
                        value.map_err(|reason| self.function_error(name, reason))?
                    }
                    _ => return Err(self.expected("a term", found)),
                },
                _ => self.atom(found)?,
            };
            if let Some(value) = self.hand_up(value, &mut frames, &mut values)? {
                return Ok(value);
            }
        }
    }

    fn function_error(&self, (token, at): Placed<'a>, reason: Reason) -> ParseError {
        self.lexer.error(at, format!("{}: {reason}", describe(token)))
    }

    /// Gives a value to the term that waits for it. Returns it when none does.
    fn hand_up(
        &mut self,
        value: ExprId,
        frames: &mut Vec<Frame<'a>>,
        values: &mut Vec<ExprId>,
    ) -> Result<Option<ExprId>> {
        loop {
            match frames.pop() {
                None => return Ok(Some(value)),
                Some(frame @ Frame::Apply { .. }) => {
                    frames.push(frame);
                    values.push(value);
                    return Ok(None);
                }
                Some(Frame::Binding { name, mut bound }) => {
                    self.close()?;
                    bound.push((name, value));
                    frames.push(self.next_binding(bound)?);
                    return Ok(None);
                }
                Some(Frame::Body { names }) => {
                    self.close()?;
                    self.unbind(&names);
                }
                Some(Frame::Annotated) => self.skip_to_close()?,
            }
        }
    }

    /// Goes on in the list of bindings of a `let`.
    fn next_binding(&mut self, bound: Vec<(Placed<'a>, ExprId)>) -> Result<Frame<'a>> {
        match self.lexer.next()? {
            (Token::Open, _) => Ok(Frame::Binding { name: self.new_name()?, bound }),
            (Token::Close, _) if !bound.is_empty() => {
                self.lets += 1;
                let mut names = Vec::new();
                for (name, value) in bound {
                    self.bind(name, value, &mut names)?;
                }
                Ok(Frame::Body { names })
            }
            found => Err(self.expected("a binding in parentheses", found)),
        }
    }

    /// Reads what follows the parenthesis of a term, up to its first argument.
    fn begin(&mut self, frames: &mut Vec<Frame<'a>>, args: usize) -> Result<Option<ExprId>> {
        let found = self.lexer.next()?;
        let frame = match found.0 {
            Token::Open => {
                self.underscore()?;
                let (function, name) = self.indexed()?;
                Frame::Apply { function, name, args }
            }
            Token::Symbol { name: b"_", quoted: false } => return self.numbered_constant().map(Some),
            Token::Symbol { name: b"let", quoted: false } => {
                self.open("the bindings in parentheses")?;
                self.next_binding(Vec::new())?
            }
            Token::Symbol { name: b"!", quoted: false } => Frame::Annotated,
            Token::Symbol { name, .. } => {
                let function = match self.scope.get(name).and_then(|meanings| meanings.last()) {
                    Some((_, Meaning::Function(definition))) => Some(Function::Defined(definition.clone())),
                    Some((_, Meaning::Value(_))) => None,
                    None => self.functions.get(name).cloned(),
                };
                let function = function.ok_or_else(|| self.expected("a function of QF_BV", found))?;
                Frame::Apply { function, name: found, args }
            }
            _ => return Err(self.expected("a function", found)),
        };
        frames.push(frame);
        Ok(None)
    }

    fn underscore(&mut self) -> Result<()> {
        match self.lexer.next()? {
            (Token::Symbol { name: b"_", quoted: false }, _) => Ok(()),
            found => Err(self.expected("`_` and an indexed function", found)),
        }
    }

    /// The rest of `(_ extract 7 0)`.
    fn indexed(&mut self) -> Result<(Function, Placed<'a>)> {
        let found = self.lexer.next()?;
        let Token::Symbol { name, .. } = found.0 else {
            return Err(self.expected("an indexed function", found));
        };
        let Some(&(_, kind, count)) = INDEXED.iter().find(|(known, ..)| known.as_bytes() == name) else {
            return Err(self.expected("an indexed function of QF_BV", found));
        };
        let mut numbers = [0; 2];
        for number in numbers.iter_mut().take(count) {
            let (index, at) = self.index()?;
            *number =
                index.ok_or_else(|| self.lexer.error(at, format!("expected a number up to {MAX_WIDTH}")))?;
        }
        self.close()?;
        Ok((Function::Indexed(kind, numbers), found))
    }

    /// The rest of `(_ bv5 32)`.
    fn numbered_constant(&mut self) -> Result<ExprId> {
        let found = self.lexer.next()?;
        let digits = match found.0 {
            Token::Symbol { name, .. } => name.strip_prefix(b"bv"),
            _ => None,
        };
        let digits = digits.filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
        let digits = digits.ok_or_else(|| self.expected("a constant such as bv5", found))?;
        let width = self.width()?;
        self.close()?;
        self.constant(width, 10, digits, found.1)
    }

    /// A constant from its digits.
    fn constant(&mut self, width: u8, base: u64, digits: &[u8], at: usize) -> Result<ExprId> {
        let mut limbs = [0u64; 4];
        for &digit in digits {
            let mut carry = u128::from((digit as char).to_digit(16).unwrap_or(0));
            for limb in &mut limbs {
                let sum = u128::from(*limb) * u128::from(base) + carry;
                *limb = sum as u64;
                carry = sum >> 64;
            }
            let fits = carry == 0
                && limbs.iter().zip((0u32..).step_by(64)).all(|(&limb, low)| {
                    let bits = u32::from(width).saturating_sub(low);
                    bits >= 64 || limb >> bits == 0
                });
            if !fits {
                return Err(self.lexer.error(at, format!("a value that {width} bits do not hold")));
            }
        }
        self.builder.constant(width, limbs).map_err(|reason| self.lexer.error(at, reason))
    }

    /// A term without parentheses.
    fn atom(&mut self, found: Placed<'a>) -> Result<ExprId> {
        let (token, at) = found;
        let (digits, bits, base) = match token {
            Token::Symbol { name, quoted } => {
                return match self.scope.get(name).and_then(|meanings| meanings.last()) {
                    Some(&(_, Meaning::Value(value))) => Ok(value),
                    Some((_, Meaning::Function(_))) => {
                        Err(self.expected("a term, not a function alone", found))
                    }
                    None if quoted => Err(self.expected("a name with a meaning", found)),
                    None => match name {
                        b"true" => Ok(self.builder.arena.truth(true)),
                        b"false" => Ok(self.builder.arena.truth(false)),
                        _ => Err(self.expected("a name that is declared or bound", found)),
                    },
                };
            }
            Token::Hex(digits) => (digits, digits.len() * 4, 16),
            Token::Binary(digits) => (digits, digits.len(), 2),
            _ => return Err(self.expected("a term", found)),
        };
        let width = u8::try_from(bits).map_err(|_| {
            self.lexer.error(at, format!("a constant of {bits} bits: the format has {MAX_WIDTH} at most"))
        })?;
        self.constant(width, base, digits, at)
    }
}
