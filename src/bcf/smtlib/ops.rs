//! The functions of QF_BV as terms of the format.

use std::rc::Rc;

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;

use super::error::Reason;
use crate::bcf::expr::{Arena, ExprId, MAX_ARGS, MAX_CONST_WIDTH, OPS, Op};

/// Words of terms that a script may make: no proof of a larger condition could be written down.
const MAX_WORDS: usize = BCF_MAX_PROOF_SIZE as usize / 4;
/// Nodes that calls of defined functions, and pairs that `distinct`, may go through. Both are cheap to write and dear to expand.
const MAX_EXPANSION: usize = 1 << 22;
/// Widest bit-vector.
pub const MAX_WIDTH: u64 = u8::MAX as u64;

/// A function, as it stands at the head of a term.
#[derive(Clone)]
pub enum Function {
    /// An operator that the format has as it is.
    Op(&'static Op),
    /// `=`, which takes two arguments or more.
    Equal,
    Distinct,
    /// `=>`, right associative.
    Implies,
    Ite,
    Nand,
    Nor,
    Xnor,
    Comp,
    Srem,
    Indexed(Indexed, [u8; 2]),
    Defined(Rc<Definition>),
}

/// A function with numbers in its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Indexed {
    Extract,
    SignExtend,
    ZeroExtend,
    Repeat,
    RotateLeft,
    RotateRight,
}

/// Indexed functions by name, and how many numbers they have.
pub const INDEXED: &[(&str, Indexed, usize)] = &[
    ("extract", Indexed::Extract, 2),
    ("sign_extend", Indexed::SignExtend, 1),
    ("zero_extend", Indexed::ZeroExtend, 1),
    ("repeat", Indexed::Repeat, 1),
    ("rotate_left", Indexed::RotateLeft, 1),
    ("rotate_right", Indexed::RotateRight, 1),
];

/// Functions that are not one operator of the format.
const OTHERS: &[(&str, Function)] = &[
    ("=", Function::Equal),
    ("distinct", Function::Distinct),
    ("=>", Function::Implies),
    ("ite", Function::Ite),
    ("bvnand", Function::Nand),
    ("bvnor", Function::Nor),
    ("bvxnor", Function::Xnor),
    ("bvcomp", Function::Comp),
    ("bvsrem", Function::Srem),
];

/// The functions by name.
pub fn functions() -> FxHashMap<&'static [u8], Function> {
    let plain = OPS.iter().filter_map(|op| Some((op.smt?.as_bytes(), Function::Op(op))));
    plain.chain(OTHERS.iter().map(|(name, function)| (name.as_bytes(), function.clone()))).collect()
}

/// A function that the script defines.
pub struct Definition {
    pub params: Vec<ExprId>,
    body: ExprId,
    /// The nodes of the body that have a parameter in them, arguments first.
    dependent: Vec<ExprId>,
}

/// Makes terms, within the limits.
pub struct Builder {
    pub arena: Arena,
    expanded: usize,
}

type Result<T> = std::result::Result<T, Reason>;

impl Builder {
    pub fn new() -> Builder {
        Builder { arena: Arena::new(), expanded: 0 }
    }

    /// Fails once the terms are larger than any proof.
    pub fn check_size(&self) -> Result<()> {
        if self.arena.len() > MAX_WORDS {
            return Err("the terms so far are larger than a proof may be".into());
        }
        Ok(())
    }

    fn charge(&mut self, work: usize) -> Result<()> {
        self.expanded = self.expanded.saturating_add(work);
        if self.expanded > MAX_EXPANSION {
            return Err("defined functions or `distinct` expand to too large a term".into());
        }
        Ok(())
    }

    /// The sort in words of SMT-LIB.
    pub fn sort(&self, id: ExprId) -> String {
        match self.arena.width(id) {
            0 => "Bool".into(),
            width => format!("(_ BitVec {width})"),
        }
    }

    fn sorts(&self, args: &[ExprId]) -> String {
        const SHOWN: usize = 6;
        let mut sorts: Vec<String> = args.iter().take(SHOWN).map(|&arg| self.sort(arg)).collect();
        if args.len() > SHOWN {
            sorts.push("…".into());
        }
        sorts.join(" ")
    }

    /// The function's value for these arguments.
    pub fn apply(&mut self, function: &Function, args: &[ExprId]) -> Result<ExprId> {
        let value = match function {
            Function::Op(op) => self.op(op, args),
            Function::Equal => self.equal(args),
            Function::Distinct => self.distinct(args),
            Function::Implies => self.implies(args),
            Function::Ite => self.ite(args),
            Function::Nand => self.negated(BCF_BV_AND, args),
            Function::Nor => self.negated(BCF_BV_OR, args),
            Function::Xnor => self.xnor(args),
            Function::Comp => self.comp(args),
            Function::Srem => self.srem(args),
            Function::Indexed(kind, numbers) => self.indexed(*kind, *numbers, args),
            Function::Defined(definition) => self.call(definition, args),
        }?;
        self.check_size()?;
        Ok(value)
    }

    /// A node whose arguments have passed no check yet.
    fn node(&mut self, code: u8, params: u16, args: &[ExprId], expected: &'static str) -> Result<ExprId> {
        self.arena
            .add(code, params, args)
            .map_err(|_| format!("expected {expected}, found {}", self.sorts(args)).into())
    }

    fn op(&mut self, op: &Op, args: &[ExprId]) -> Result<ExprId> {
        let is_variadic = usize::from(op.max_args) == MAX_ARGS;
        let exactly = usize::from(op.min_args);
        let &[first, ..] = args else { return Err("expected arguments".into()) };
        if !is_variadic && args.len() != exactly {
            let plural = if exactly == 1 { "" } else { "s" };
            return Err(format!("expected {exactly} argument{plural}, found {}", args.len()).into());
        }
        if op.code == BCF_BV_CONCAT {
            return self.concat(args);
        }
        let (params, expected) = match op.code {
            BCF_BOOL_AND | BCF_BOOL_OR | BCF_BOOL_XOR | BCF_BOOL_NOT => (0, "Booleans"),
            code if code & 7 == BCF_BOOL => (0, "bit-vectors of one width"),
            _ => (self.arena.width(first).into(), "bit-vectors of one width"),
        };
        if is_variadic {
            self.nary(op.code, params, args, expected)
        } else {
            self.node(op.code, params, args, expected)
        }
    }

    /// An associative operator over one argument or more.
    fn nary(&mut self, code: u8, params: u16, args: &[ExprId], expected: &'static str) -> Result<ExprId> {
        let (&first, mut rest) = args.split_first().ok_or("expected arguments")?;
        if rest.is_empty() {
            // With itself, for the check of its sort alone.
            self.arena
                .type_check(code, params, &[first.0, first.0])
                .map_err(|_| format!("expected {expected}, found {}", self.sorts(args)))?;
        }
        let mut value = first;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rest.len().min(MAX_ARGS - 1));
            value = self.node(code, params, &[&[value], some].concat(), expected)?;
            rest = others;
        }
        Ok(value)
    }

    pub fn conjunction(&mut self, args: &[ExprId]) -> Result<ExprId> {
        self.nary(BCF_BOOL_AND, 0, args, "Booleans")
    }

    fn concat(&mut self, args: &[ExprId]) -> Result<ExprId> {
        let width: u64 = args.iter().map(|&arg| u64::from(self.arena.width(arg))).sum();
        if width > MAX_WIDTH {
            return Err(too_wide(width));
        }
        match *args {
            [only] if self.arena.is_bv(only) => Ok(only),
            _ => self.node(BCF_BV_CONCAT, width as u16, args, "bit-vectors"),
        }
    }

    fn equal(&mut self, args: &[ExprId]) -> Result<ExprId> {
        if args.len() < 2 {
            return Err("expected two arguments at least".into());
        }
        let links: Result<Vec<ExprId>> =
            args.windows(2).map(|pair| self.node(BCF_BOOL_EQ, 0, pair, "terms of one sort")).collect();
        self.conjunction(&links?)
    }

    fn distinct(&mut self, args: &[ExprId]) -> Result<ExprId> {
        if args.len() < 2 {
            return Err("expected two arguments at least".into());
        }
        let mut pairs = Vec::new();
        for (i, &x) in args.iter().enumerate() {
            self.charge(args.len() - i)?;
            for &y in &args[i + 1..] {
                pairs.push(self.node(BCF_BOOL_DISTINCT, 0, &[x, y], "terms of one sort")?);
            }
            self.check_size()?;
        }
        self.conjunction(&pairs)
    }

    fn implies(&mut self, args: &[ExprId]) -> Result<ExprId> {
        match args {
            [premises @ .., conclusion] if !premises.is_empty() => {
                premises.iter().rev().try_fold(*conclusion, |conclusion, &premise| {
                    self.node(BCF_BOOL_IMPLIES, 0, &[premise, conclusion], "Booleans")
                })
            }
            _ => Err("expected two arguments at least".into()),
        }
    }

    fn ite(&mut self, args: &[ExprId]) -> Result<ExprId> {
        let expected = "a Boolean and two terms of one sort";
        match *args {
            [condition, then, _] if self.arena.is_bool(condition) => match self.arena.width(then) {
                0 => self.node(BCF_BOOL_ITE, 0, args, expected),
                width => self.node(BCF_BV_ITE, width.into(), args, expected),
            },
            _ => Err(format!("expected {expected}, found {}", self.sorts(args)).into()),
        }
    }

    /// Two bit-vectors of one width, and the width.
    fn two(&self, args: &[ExprId]) -> Result<(ExprId, ExprId, u16)> {
        match *args {
            [x, y] if self.arena.is_bv(x) && self.arena.width(x) == self.arena.width(y) => {
                Ok((x, y, self.arena.width(x).into()))
            }
            _ => Err(format!("expected two bit-vectors of one width, found {}", self.sorts(args)).into()),
        }
    }

    fn negated(&mut self, code: u8, args: &[ExprId]) -> Result<ExprId> {
        let (x, y, width) = self.two(args)?;
        let value = self.arena.intern(code, width, &[x, y]);
        Ok(self.arena.intern(BCF_BV_NOT, width, &[value]))
    }

    /// Left associative.
    fn xnor(&mut self, args: &[ExprId]) -> Result<ExprId> {
        match args {
            [first, rest @ ..] if !rest.is_empty() => {
                rest.iter().try_fold(*first, |value, &arg| self.negated(BCF_BV_XOR, &[value, arg]))
            }
            _ => Err("expected two arguments at least".into()),
        }
    }

    fn comp(&mut self, args: &[ExprId]) -> Result<ExprId> {
        let (x, y, _) = self.two(args)?;
        let same = self.arena.eq(x, y);
        let (one, zero) = (self.arena.bv_const(1, 1), self.arena.bv_const(1, 0));
        Ok(self.arena.intern(BCF_BV_ITE, 1, &[same, one, zero]))
    }

    /// The remainder that has the sign of the dividend, as SMT-LIB defines it: by `bvurem` of the absolute values.
    fn srem(&mut self, args: &[ExprId]) -> Result<ExprId> {
        let (x, y, width) = self.two(args)?;
        let zero = self.zero(width as u8)?;
        let mut absolute = |x| {
            let negative = self.arena.intern(BCF_BOOL_SLT, 0, &[x, zero]);
            let negated = self.arena.intern(BCF_BV_NEG, width, &[x]);
            (negative, self.arena.intern(BCF_BV_ITE, width, &[negative, negated, x]))
        };
        let ((negative, x), (_, y)) = (absolute(x), absolute(y));
        let remainder = self.arena.intern(BCF_BV_UREM, width, &[x, y]);
        let negated = self.arena.intern(BCF_BV_NEG, width, &[remainder]);
        Ok(self.arena.intern(BCF_BV_ITE, width, &[negative, negated, remainder]))
    }

    fn zero(&mut self, width: u8) -> Result<ExprId> {
        self.constant(width, [0; 4])
    }

    /// A constant; the format has none of more than 64 bits, so that a wider one is a `concat`. Limbs are least significant first.
    pub fn constant(&mut self, width: u8, limbs: [u64; 4]) -> Result<ExprId> {
        let parts = usize::from(width).div_ceil(MAX_CONST_WIDTH.into());
        let top_width = usize::from(width) - parts.saturating_sub(1) * usize::from(MAX_CONST_WIDTH);
        let parts: Vec<ExprId> = (0..parts)
            .rev()
            .map(|i| {
                let width = if i + 1 == parts { top_width as u8 } else { MAX_CONST_WIDTH };
                self.arena.bv_const(width, limbs[i % limbs.len()])
            })
            .collect();
        self.concat(&parts)
    }

    fn indexed(&mut self, kind: Indexed, numbers: [u8; 2], args: &[ExprId]) -> Result<ExprId> {
        let &[arg] = args else {
            return Err(format!("expected one argument, found {}", args.len()).into());
        };
        let width = self.arena.width(arg);
        if width == 0 {
            return Err("expected a bit-vector, found Bool".into());
        }
        let packed = |high: u8, low: u8| u16::from(high) << 8 | u16::from(low);
        let wider = |width: u64| u8::try_from(width).map_err(|_| too_wide(width));
        let [first, second] = numbers;
        match kind {
            Indexed::Extract if second <= first && first < width => {
                Ok(self.arena.intern(BCF_BV_EXTRACT, packed(first, second), args))
            }
            Indexed::Extract => {
                Err(format!("bits {first} to {second} are not those of a bit-vector of {width} bits").into())
            }
            Indexed::SignExtend | Indexed::ZeroExtend => {
                let code = if kind == Indexed::SignExtend { BCF_BV_SIGN_EXTEND } else { BCF_BV_ZERO_EXTEND };
                let result = wider(u64::from(width) + u64::from(first))?;
                Ok(self.arena.intern(code, packed(first, result), args))
            }
            Indexed::Repeat if first == 0 => Err("expected a number that is not 0".into()),
            Indexed::Repeat => {
                let result = wider(u64::from(width) * u64::from(first))?;
                Ok(self.arena.intern(BCF_BV_REPEAT, packed(first, result), args))
            }
            Indexed::RotateLeft => self.rotate(arg, width, first % width),
            Indexed::RotateRight => self.rotate(arg, width, (width - first % width) % width),
        }
    }

    /// To the left, by less than the width.
    fn rotate(&mut self, arg: ExprId, width: u8, by: u8) -> Result<ExprId> {
        if by == 0 {
            return Ok(arg);
        }
        let mut extract = |high: u8, low: u8| {
            self.arena.intern(BCF_BV_EXTRACT, u16::from(high) << 8 | u16::from(low), &[arg])
        };
        let (low, high) = (extract(width - 1 - by, 0), extract(width - 1, width - by));
        self.concat(&[low, high])
    }

    /// Makes a function of a body whose parameters are `params`: fresh variables, the first of which was the first node of the body.
    pub fn define(&self, params: Vec<ExprId>, body: ExprId) -> Definition {
        let mut dependent = Vec::new();
        if let Some(&first) = params.first() {
            let place = |id: ExprId| id.0.checked_sub(first.0).map(|offset| offset as usize);
            let mut depends = vec![false; self.arena.len() - first.0 as usize];
            for place in params.iter().filter_map(|&param| place(param)) {
                depends[place] = true;
            }
            let mut at = first;
            while (at.0 as usize) < self.arena.len() {
                let has_param = |&arg: &ExprId| place(arg).is_some_and(|place| depends[place]);
                if self.arena.args(at).iter().any(has_param) {
                    depends[(at.0 - first.0) as usize] = true;
                    dependent.push(at);
                }
                at.0 += self.arena.words(at).len() as u32;
            }
        }
        Definition { params, body, dependent }
    }

    fn call(&mut self, definition: &Definition, args: &[ExprId]) -> Result<ExprId> {
        let same_sorts = args.len() == definition.params.len()
            && args.iter().zip(&definition.params).all(|(&arg, &param)| {
                self.arena.kind(arg) == self.arena.kind(param)
                    && self.arena.width(arg) == self.arena.width(param)
            });
        if !same_sorts {
            let (expected, found) = (self.sorts(&definition.params), self.sorts(args));
            return Err(format!("expected arguments of the sorts {expected}, found {found}").into());
        }
        let mut values: FxHashMap<ExprId, ExprId> =
            definition.params.iter().copied().zip(args.iter().copied()).collect();
        for &id in &definition.dependent {
            let head = self.arena.head(id);
            let args: Vec<ExprId> =
                self.arena.args(id).iter().map(|arg| values.get(arg).copied().unwrap_or(*arg)).collect();
            self.charge(1 + args.len())?;
            let value = self.arena.intern(head.code, head.params, &args);
            values.insert(id, value);
            self.check_size()?;
        }
        Ok(values.get(&definition.body).copied().unwrap_or(definition.body))
    }
}

fn too_wide(width: u64) -> Reason {
    format!("a bit-vector of {width} bits: the format has 255 at most").into()
}
