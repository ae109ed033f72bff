//! Applies rewrites: instances of the equations of [`rewrites`](super::rewrites).
//!
//! An argument takes its parameter's place in the patterns; lists are spliced into the operator that they stand in, and an
//! operator of any number of arguments that is left with one is that argument. Integers are computed from closed terms. Every
//! node that comes out is type-checked, which is what makes most instances with silly indices fail.
//!
//! Some instances are well typed and still false. Both policies reject them:
//! - lists as arguments of any type: spliced, as the published checker does, an empty list beside one of two terms would shift
//!   arguments, and `ITE_NOT_COND` would make `(ite (not p) x y)` equal to `(ite p x y)`;
//! - `BV_MULT_SLT_MULT_1` and `_2` where the products do not fit, see [`product_fits`];
//! - `BV_CONCAT_MERGE_CONST` where the merged constant does not fit 32 bits: the published checker computes it modulo 2^32 and
//!   so makes, say, `(concat #b1 #x00000000)` equal to 0.

use std::sync::LazyLock;

use bpftwin_uapi::bcf::*;
use smallvec::SmallVec;

use super::pattern::{self, Arith, INTEGERS, Instr, Program, TERMS};
use super::rewrites::{BV_MULT_SLT_MULT_1, BV_MULT_SLT_MULT_2, Entry, Param, TABLE};
use super::{Policy, RuleError};
use crate::bcf::eval::{Evaluator, Value};
use crate::bcf::expr::{Arena, ExprId, MAX_ARGS, MAX_CONST_WIDTH, TypeError, low_mask, op_of};

/// Conditions of one rewrite: room for as many as any has.
pub type Conditions = SmallVec<[ExprId; 5]>;

/// A rewrite with its arguments put in: under the conditions, `left = right`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Facts that the step needs as premises, in this order. A premise may also say `condition = true`.
    pub conditions: Conditions,
    pub left: ExprId,
    pub right: ExprId,
}

/// The name of a rewrite; `None` for numbers that no rewrite has (0 is the trusted step).
pub fn name(number: u32) -> Option<&'static str> {
    entry(number).map(|entry| entry.name)
}

/// The rewrite's text.
pub fn entry(number: u32) -> Option<&'static Entry> {
    TABLE.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// The instance of a rewrite for these arguments, which must be of `arena`. `closed` evaluates integers: no variable may have a
/// value in it.
///
/// # Errors
/// EINVAL if the arguments do not fit the parameters or the instance is ill-typed or false, E2BIG if a node got more than
/// 255 arguments, EOPNOTSUPP if one got none.
pub fn instantiate(
    arena: &mut Arena,
    closed: &mut Evaluator,
    number: u32,
    args: &[ExprId],
) -> Result<Instance, RuleError> {
    let rewrite = find(number)?;
    check_args(arena, rewrite, args, Policy::Strict)?;
    let mut machine = Machine::new(arena, closed, args);
    let conditions = machine.conditions(rewrite)?;
    let (left, right) = machine.sides(rewrite)?;
    arena.type_check(BCF_BOOL_EQ, 0, &[left.0, right.0])?;
    Ok(Instance { conditions, left, right })
}

/// The sides of the equality that a REWRITE step concludes: the instance for these arguments, all of which, as the facts that
/// are the premises, must be of `arena`. `closed` evaluates integers: no variable may have a value in it.
///
/// Under [`Policy::Reference`], a list of Booleans has to be empty: the published checker compares its length with the
/// parameter's, which is 0.
///
/// # Errors
/// As for [`instantiate`], and EINVAL if the premises are not the conditions.
pub fn apply(
    arena: &mut Arena,
    closed: &mut Evaluator,
    number: u32,
    args: &[ExprId],
    premises: &[ExprId],
    policy: Policy,
) -> Result<(ExprId, ExprId), RuleError> {
    let rewrite = find(number)?;
    check_args(arena, rewrite, args, policy)?;
    if rewrite.conditions.is_empty() != premises.is_empty() {
        return Err(RuleError::Invalid(
            "premises where the rewrite has no conditions, or none where it has some",
        ));
    }
    let mut machine = Machine::new(arena, closed, args);
    let conditions = machine.conditions(rewrite)?;
    if conditions.len() != premises.len() {
        return Err(RuleError::Invalid("the rewrite needs one premise for each condition"));
    }
    if !conditions
        .iter()
        .zip(premises)
        .all(|(&condition, &premise)| states(machine.arena, premise, condition))
    {
        return Err(RuleError::Invalid("a premise is not the rewrite's condition"));
    }
    let (left, right) = machine.sides(rewrite)?;
    arena.type_check(BCF_BOOL_EQ, 0, &[left.0, right.0])?;
    Ok((left, right))
}

/// Whether `fact` says `condition`.
fn states(arena: &Arena, fact: ExprId, condition: ExprId) -> bool {
    fact == condition || arena.match_op(fact, BCF_BOOL_EQ) == Some([condition, arena.truth(true)])
}

/// A rewrite ready to run.
struct Rewrite {
    entry: &'static Entry,
    conditions: Box<[Program]>,
    left: Program,
    right: Program,
}

/// An entry that does not compile is left out, which the tests would tell.
static COMPILED: LazyLock<Box<[Option<Rewrite>]>> = LazyLock::new(|| TABLE.iter().map(compile).collect());

fn compile(entry: &'static Entry) -> Option<Rewrite> {
    let program = |text| pattern::compile(text, entry.params).ok();
    Some(Rewrite {
        entry,
        conditions: entry.conditions.iter().map(|text| program(text)).collect::<Option<_>>()?,
        left: program(entry.left)?,
        right: program(entry.right)?,
    })
}

fn find(number: u32) -> Result<&'static Rewrite, RuleError> {
    let index = (number as usize).wrapping_sub(1);
    COMPILED.get(index).and_then(Option::as_ref).ok_or(RuleError::Invalid("no rewrite has this number"))
}

/// Whether the arguments are of the parameters' types.
fn check_args(arena: &Arena, rewrite: &Rewrite, args: &[ExprId], policy: Policy) -> Result<(), RuleError> {
    let params = rewrite.entry.params;
    if args.len() != params.len() {
        return Err(RuleError::Invalid("the rewrite has another number of arguments"));
    }
    if !fits_all(arena, rewrite, args, policy) {
        return Err(RuleError::Invalid("an argument of the rewrite has the wrong type"));
    }
    Ok(())
}

fn fits_all(arena: &Arena, rewrite: &Rewrite, args: &[ExprId], policy: Policy) -> bool {
    rewrite.entry.params.iter().zip(args).all(|(&param, &arg)| fits(arena, param, arg, policy))
}

fn fits(arena: &Arena, param: Param, arg: ExprId, policy: Policy) -> bool {
    let is_list_of = |kind: u8| {
        let head = arena.head(arg);
        head.code == BCF_LIST_VAL && head.params == u16::from(kind)
    };
    match param {
        Param::Any => arena.kind(arg) != BCF_LIST,
        Param::Bool => arena.is_bool(arg),
        Param::Bv => arena.is_bv(arg),
        Param::Bit => arena.width(arg) == 1,
        Param::Int => arena.width(arg) == 32,
        Param::Bools => is_list_of(BCF_BOOL) && (policy == Policy::Strict || arena.args(arg).is_empty()),
        Param::Bvs => is_list_of(BCF_BV),
    }
}

/// Whether the products of `BV_MULT_SLT_MULT_1` and `_2` cannot wrap, which the published table forgets to ask.
///
/// With `n` bits in `x0` and `x1`, `m` in `x2` and `w = n + x3` in the products, the rewrite is true exactly if `w >= n + m`:
/// one bit less, and the largest product, of the two most negative factors, becomes negative. Where `x0` and `x1` are zero-extended
/// bits (`n = 1`), products are 0 or `x2`, which always fits.
fn product_fits(arena: &Arena, number: u32, args: &[ExprId], extension: u64) -> bool {
    let &[x0, _, x2, ..] = args else { return false };
    extension >= arena.width(x2).into() || (number == BV_MULT_SLT_MULT_2 && arena.width(x0) == 1)
}

/// A stack in place. Programs are compiled to stay within it and to pop only what they pushed.
struct Stack<T, const N: usize> {
    entries: [T; N],
    len: usize,
}

impl<T: Copy, const N: usize> Stack<T, N> {
    fn new(filler: T) -> Self {
        Stack { entries: [filler; N], len: 0 }
    }

    #[inline]
    fn push(&mut self, entry: T) {
        self.entries[self.len] = entry;
        self.len += 1;
    }

    #[inline]
    fn pop(&mut self) -> T {
        self.len -= 1;
        self.entries[self.len]
    }

    /// The topmost `count` entries, bottom first.
    #[inline]
    fn top(&self, count: usize) -> &[T] {
        &self.entries[self.len - count..self.len]
    }

    /// Puts `entry` in the place of the topmost `count` entries.
    #[inline]
    fn replace(&mut self, count: usize, entry: T) {
        self.len -= count;
        self.push(entry);
    }
}

/// Runs patterns' programs on one rewrite's arguments.
struct Machine<'a> {
    arena: &'a mut Arena,
    closed: &'a mut Evaluator,
    args: &'a [ExprId],
    terms: Stack<ExprId, TERMS>,
    integers: Stack<u64, INTEGERS>,
}

impl<'a> Machine<'a> {
    /// `args` must fit the parameters of the programs that are going to run.
    fn new(arena: &'a mut Arena, closed: &'a mut Evaluator, args: &'a [ExprId]) -> Self {
        let filler = arena.truth(true);
        Machine { arena, closed, args, terms: Stack::new(filler), integers: Stack::new(0) }
    }

    fn conditions(&mut self, rewrite: &Rewrite) -> Result<Conditions, RuleError> {
        rewrite.conditions.iter().map(|program| self.run(program)).collect()
    }

    fn sides(&mut self, rewrite: &Rewrite) -> Result<(ExprId, ExprId), RuleError> {
        let number = rewrite.entry.number;
        if matches!(number, BV_MULT_SLT_MULT_1 | BV_MULT_SLT_MULT_2) {
            let extension = self.integer(3)?;
            if !product_fits(self.arena, number, self.args, extension) {
                return Err(RuleError::Invalid("the products are too wide for the rewrite to be true"));
            }
        }
        Ok((self.run(&rewrite.left)?, self.run(&rewrite.right)?))
    }

    fn run(&mut self, program: &[Instr]) -> Result<ExprId, RuleError> {
        for &instr in program {
            self.step(instr)?;
        }
        Ok(self.terms.pop())
    }

    fn step(&mut self, instr: Instr) -> Result<(), RuleError> {
        match instr {
            Instr::Arg(index) => self.terms.push(self.args[usize::from(index)]),
            Instr::Truth(value) => self.terms.push(self.arena.truth(value)),
            Instr::Number(number) => {
                let term = self.arena.bv_const(32, number.into());
                self.terms.push(term);
            }
            Instr::Node { code, args: count, splice } => {
                let args = self.terms.top(count.into());
                let term = if splice && args.iter().any(|&arg| self.arena.kind(arg) == BCF_LIST) {
                    let args = spliced(self.arena, args)?;
                    node(self.arena, code, &args)?
                } else {
                    node(self.arena, code, args)?
                };
                self.terms.replace(count.into(), term);
            }
            Instr::Ite => {
                let args = self.terms.top(3);
                let code = if self.arena.is_bool(args[1]) { BCF_BOOL_ITE } else { BCF_BV_ITE };
                let term = node(self.arena, code, args)?;
                self.terms.replace(3, term);
            }
            Instr::Extract => {
                let (low, high) = (self.index()?, self.index()?);
                self.unary(BCF_BV_EXTRACT, low, high)?;
            }
            Instr::Extend(code) => {
                let extension = self.index()?;
                let width = self.arena.width(self.terms.top(1)[0]).checked_add(extension);
                self.unary(code, width.ok_or(TypeError::Width)?, extension)?;
            }
            Instr::Repeat => {
                let count = self.index()?;
                let width = self.arena.width(self.terms.top(1)[0]).checked_mul(count);
                self.unary(BCF_BV_REPEAT, width.ok_or(TypeError::Width)?, count)?;
            }
            Instr::Const => {
                let (width, value) = (self.const_width()?, self.integers.pop());
                if value > low_mask(width).min(u32::MAX.into()) {
                    return Err(RuleError::Invalid(
                        "a constant of the rewrite does not fit its width, or 32 bits",
                    ));
                }
                let term = self.arena.bv_const(width, value);
                self.terms.push(term);
            }
            Instr::Ones => {
                let width = self.const_width()?;
                let term = self.arena.bv_const(width, u64::MAX);
                self.terms.push(term);
            }
            Instr::Int(index) => {
                let value = self.integer(index.into())?;
                self.integers.push(value);
            }
            Instr::Literal(value) => self.integers.push(value.into()),
            Instr::Width => {
                let term = self.terms.pop();
                self.integers.push(self.arena.width(term).into());
            }
            Instr::Arith(arith) => {
                let (y, x) = (self.integers.pop(), self.integers.pop());
                self.integers.push(compute(arith, x, y));
            }
        }
        Ok(())
    }

    /// The value of an argument that is an integer.
    #[inline]
    fn integer(&mut self, index: usize) -> Result<u64, RuleError> {
        let term = self.args[index];
        if let Some(value) = self.arena.bv_value(term) {
            return Ok(value);
        }
        // A width is known even of a term that is not closed.
        if let Some([of]) = self.arena.match_op(term, BCF_BV_SIZE) {
            return Ok(self.arena.width(of).into());
        }
        match self.closed.eval(self.arena, term) {
            Some(Value::Bv(value)) => value.to_u64(),
            _ => None,
        }
        .ok_or(RuleError::Invalid("an integer of the rewrite is not a closed term"))
    }

    /// An integer that is part of a node's header.
    fn index(&mut self) -> Result<u8, RuleError> {
        let value = self.integers.pop();
        u8::try_from(value).map_err(|_| RuleError::Invalid("an index of the rewrite is larger than 255"))
    }

    fn const_width(&mut self) -> Result<u8, RuleError> {
        match self.index()? {
            width @ 1..=MAX_CONST_WIDTH => Ok(width),
            _ => Err(TypeError::Width.into()),
        }
    }

    /// Applies an indexed operator to the topmost term.
    fn unary(&mut self, code: u8, low: u8, high: u8) -> Result<(), RuleError> {
        let term = self.arena.add(code, u16::from(high) << 8 | u16::from(low), self.terms.top(1))?;
        self.terms.replace(1, term);
        Ok(())
    }
}

/// Exact, or at least as large as what no index or constant can be.
fn compute(arith: Arith, x: u64, y: u64) -> u64 {
    match arith {
        Arith::Add => x.saturating_add(y),
        Arith::Sub => x.checked_sub(y).unwrap_or(u64::MAX),
        Arith::Mul => x.saturating_mul(y),
        Arith::Shl if x == 0 => 0,
        Arith::Shl => u32::try_from(y)
            .ok()
            .and_then(|y| 1u64.checked_shl(y))
            .map_or(u64::MAX, |power| x.saturating_mul(power)),
    }
}

/// `args` with lists replaced by their elements.
fn spliced(arena: &Arena, args: &[ExprId]) -> Result<SmallVec<[ExprId; 16]>, RuleError> {
    let mut all = SmallVec::new();
    for arg in args {
        if arena.kind(*arg) == BCF_LIST {
            all.extend_from_slice(arena.args(*arg));
        } else {
            all.push(*arg);
        }
    }
    match all.len() {
        0 => Err(RuleError::Unsupported("an operator of the rewrite is left without arguments")),
        1..=MAX_ARGS => Ok(all),
        _ => Err(RuleError::TooBig("an operator of the rewrite gets more than 255 arguments")),
    }
}

/// A node whose width follows from its arguments; the argument, if it is the only one of an operator of many.
#[inline]
fn node(arena: &mut Arena, code: u8, args: &[ExprId]) -> Result<ExprId, RuleError> {
    if let &[only] = args
        && op_of(code).is_some_and(|op| op.min_args == 2 && usize::from(op.max_args) == MAX_ARGS)
    {
        return Ok(only);
    }
    let width = match (code, args) {
        _ if code & 7 != BCF_BV => 0,
        (BCF_BV_SIZE, _) => 32,
        (BCF_BV_ITE, &[_, then, _]) => arena.width(then),
        (BCF_BV_CONCAT, _) => {
            let sum: u32 = args.iter().map(|&arg| u32::from(arena.width(arg))).sum();
            u8::try_from(sum).map_err(|_| TypeError::Width)?
        }
        (_, &[first, ..]) => arena.width(first),
        _ => 0,
    };
    Ok(arena.add(code, width.into(), args)?)
}

#[cfg(test)]
mod tests;
