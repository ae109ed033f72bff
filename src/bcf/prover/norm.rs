//! Rewrites terms to a small core, with a justification for each step.
//!
//! What comes out: comparisons are `=`, unsigned and signed less-than; sums are in one order with one constant, `(a + b) - c + k`,
//! multiples in them shifts to the left; shifts to the right by constants are concatenations, masks of low ones slices; equalities
//! have their constant on the right. The aim is twofold: atoms that mean the same become the same, so that many conditions are
//! refuted without looking at bits, and what is left costs few gates.

use std::cmp::Ordering;

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::builder::{Builder, Equation};
use super::slices;
use super::sums::{self, Sum};
use crate::bcf::checker::rewrites::{
    BOOL_DOUBLE_NOT_ELIM, BOOL_EQ_FALSE, BOOL_EQ_TRUE, BV_ASHR_BY_CONST_0, BV_LSHR_BY_CONST_0, BV_LT_SELF,
    BV_NOT_IDEMP, BV_SGE_ELIMINATE, BV_SGT_ELIMINATE, BV_SHL_BY_CONST_0, BV_SIGN_EXTEND_ELIMINATE_0,
    BV_SLE_ELIMINATE, BV_UGE_ELIMINATE, BV_UGT_ELIMINATE, BV_ULE_ELIMINATE, BV_ULE_MAX, BV_ULT_ONE,
    BV_ULT_ONES, BV_ULT_SELF, BV_ULT_ZERO_1, BV_ULT_ZERO_2, BV_ZERO_EXTEND_ELIMINATE_0,
    BV_ZERO_EXTEND_ULT_CONST_1, BV_ZERO_EXTEND_ULT_CONST_2, DISTINCT_BINARY_ELIM, EQ_REFL, EQ_SYMM,
    ITE_EQ_BRANCH, ITE_FALSE_COND, ITE_TRUE_COND,
};
use crate::bcf::expr::{ExprId, low_mask};

/// Rewrites follow one another at most this deep.
const MAX_DEPTH: u32 = 40;
/// Sums of more terms stay as they are.
const MAX_SUMMANDS: usize = 24;

/// Normal forms of terms under one set of known equalities.
#[derive(Clone, Default)]
pub struct Normaliser {
    order_sums: bool,
    forms: FxHashMap<ExprId, Equation>,
    /// The sums that normal forms stand for.
    sums: FxHashMap<ExprId, Sum>,
}

impl Normaliser {
    /// Puts sums in order if `order_sums`; otherwise additions stay where they are.
    pub fn new(order_sums: bool) -> Normaliser {
        Normaliser { order_sums, ..Normaliser::default() }
    }

    /// From now on a term (a variable, as a rule) is known to equal another.
    pub fn know(&mut self, fact: Equation) {
        self.forms.insert(fact.left, fact);
    }

    /// `term = normal form`.
    pub fn norm(&mut self, b: &mut Builder, term: ExprId) -> Equation {
        self.norm_at(b, term, 0)
    }

    fn norm_at(&mut self, b: &mut Builder, root: ExprId, depth: u32) -> Equation {
        // An explicit stack: terms can be as deep as their arena is long.
        let mut stack: SmallVec<[(ExprId, bool); 16]> = SmallVec::from_slice(&[(root, false)]);
        while let Some((id, ready)) = stack.pop() {
            if self.forms.contains_key(&id) {
                continue;
            }
            if ready {
                let form = self.node(b, id, depth);
                self.forms.insert(id, form);
            } else if let Some(first) = self.early(b, id, depth) {
                let rest = self.norm_at(b, first.right, depth + 1);
                self.forms.insert(id, first.then(&rest));
            } else {
                stack.push((id, true));
                stack.extend(b.arena.args(id).iter().map(|&arg| (arg, false)));
            }
        }
        self.forms.get(&root).cloned().unwrap_or_else(|| Equation::trivial(root))
    }

    /// A rewriting step that does not care for the arguments' normal forms, mostly because it drops an argument.
    fn early(&mut self, b: &mut Builder, id: ExprId, depth: u32) -> Option<Equation> {
        if depth >= MAX_DEPTH || b.is_full(0) {
            return None;
        }
        let args: SmallVec<[ExprId; 4]> = b.arena.args(id).into();
        match (b.arena.code(id), &args[..]) {
            (BCF_BOOL_UGT, _) => b.rewrite(BV_UGT_ELIMINATE, &args),
            (BCF_BOOL_UGE, _) => b.rewrite(BV_UGE_ELIMINATE, &args),
            (BCF_BOOL_SGT, _) => b.rewrite(BV_SGT_ELIMINATE, &args),
            (BCF_BOOL_SGE, _) => b.rewrite(BV_SGE_ELIMINATE, &args),
            (BCF_BOOL_ULE, _) => b.rewrite(BV_ULE_ELIMINATE, &args),
            (BCF_BOOL_SLE, _) => b.rewrite(BV_SLE_ELIMINATE, &args),
            (BCF_BOOL_DISTINCT, _) => b.rewrite(DISTINCT_BINARY_ELIM, &args),
            (BCF_BOOL_EQ, &[x, y]) if x == y => b.rewrite(EQ_REFL, &[x]),
            (BCF_BOOL_SLT, &[x, y]) if x == y => b.rewrite(BV_LT_SELF, &[x]),
            (BCF_BOOL_ULT, &[x, y]) => decided_ult(b, x, y),
            (BCF_BOOL_AND | BCF_BOOL_OR | BCF_BV_AND | BCF_BV_OR, _) => {
                let (_, absorbing) = junction_constants(b, id)?;
                args.contains(&absorbing).then(|| b.claim(BCF_RULE_ABSORB, id, absorbing))
            }
            _ => None,
        }
    }

    /// The normal form of a node whose arguments have theirs.
    fn node(&mut self, b: &mut Builder, id: ExprId, depth: u32) -> Equation {
        let head = b.arena.head(id);
        let args: SmallVec<[ExprId; 4]> = b.arena.args(id).into();
        let forms: SmallVec<[Equation; 4]> =
            args.iter().filter_map(|arg| self.forms.get(arg).cloned()).collect();
        let same = || Equation::trivial(id);
        let form = if forms.iter().all(Equation::is_trivial) {
            same()
        } else {
            b.cong(head.code, head.params, &forms).unwrap_or_else(same)
        };
        if let Some(known) = self.forms.get(&form.right).filter(|_| form.right != id) {
            return form.then(known);
        }
        if depth >= MAX_DEPTH || is_leaf(head.code) || b.is_full(0) {
            return form;
        }
        match self.rewrite(b, form.right) {
            Some(next) => {
                let rest = self.norm_at(b, next.right, depth + 1);
                form.then(&next).then(&rest)
            }
            None => form,
        }
    }

    /// One rewriting step at the root of a term whose arguments are normal.
    fn rewrite(&mut self, b: &mut Builder, term: ExprId) -> Option<Equation> {
        let args: SmallVec<[ExprId; 4]> = b.arena.args(term).into();
        let closed = args.iter().all(|&arg| is_constant(b, arg)) && is_evaluated(b.arena.code(term));
        if closed && let Some(value) = b.evaluate(term).filter(|value| !value.is_trivial()) {
            return Some(value);
        }
        if b.arena.is_bool(term) {
            self.rewrite_bool(b, term, &args)
        } else {
            self.rewrite_bv(b, term, &args)
        }
    }

    fn rewrite_bool(&mut self, b: &mut Builder, term: ExprId, args: &[ExprId]) -> Option<Equation> {
        match (b.arena.code(term), args) {
            (BCF_BOOL_ULT, &[x, y]) => rewrite_ult(b, x, y),
            (BCF_BOOL_SLT, &[x, y]) if x == y => b.rewrite(BV_LT_SELF, &[x]),
            (BCF_BOOL_EQ, &[x, y]) if b.arena.is_bool(x) => rewrite_iff(b, x, y),
            (BCF_BOOL_EQ, &[x, y]) => self.rewrite_eq(b, x, y),
            (BCF_BOOL_AND | BCF_BOOL_OR, _) => simplify_junction(b, term, args),
            (BCF_BOOL_NOT, &[x]) if b.arena.code(x) == BCF_BOOL_NOT => {
                let inner = b.arena.args(x)[0];
                b.rewrite(BOOL_DOUBLE_NOT_ELIM, &[inner])
            }
            (BCF_BOOL_ITE, _) => rewrite_ite(b, args),
            _ => None,
        }
    }

    fn rewrite_bv(&mut self, b: &mut Builder, term: ExprId, args: &[ExprId]) -> Option<Equation> {
        let head = b.arena.head(term);
        match head.code {
            BCF_BV_ADD | BCF_BV_SUB | BCF_BV_NEG | BCF_BV_MUL => self.rewrite_sum(b, term),
            BCF_BV_SHL | BCF_BV_LSHR | BCF_BV_ASHR => self.rewrite_shift(b, term, args),
            BCF_BV_AND => simplify_junction(b, term, args)
                .or_else(|| merge_constants(b, term, args))
                .or_else(|| slices::low_mask_of(b, term, args)),
            BCF_BV_OR => simplify_junction(b, term, args).or_else(|| merge_constants(b, term, args)),
            BCF_BV_ZERO_EXTEND if head.params_high() == 0 => b.rewrite(BV_ZERO_EXTEND_ELIMINATE_0, args),
            BCF_BV_SIGN_EXTEND if head.params_high() == 0 => b.rewrite(BV_SIGN_EXTEND_ELIMINATE_0, args),
            BCF_BV_NOT if b.arena.code(args[0]) == BCF_BV_NOT => {
                let inner = b.arena.args(args[0])[0];
                b.rewrite(BV_NOT_IDEMP, &[inner])
            }
            BCF_BV_EXTRACT => slices::extract(b, term, args[0]),
            BCF_BV_ITE => rewrite_ite(b, args),
            _ => None,
        }
    }

    /// The sum that a normal term stands for.
    fn sum(&self, b: &Builder, term: ExprId) -> Sum {
        if let Some(sum) = self.sums.get(&term) {
            return sum.clone();
        }
        match b.arena.bv_value(term) {
            Some(constant) => Sum { constant, ..Sum::default() },
            None => Sum { terms: SmallVec::from_slice(&[(term, 1)]), constant: 0 },
        }
    }

    /// A sum, difference, or product with constants, in its one order.
    fn rewrite_sum(&mut self, b: &mut Builder, term: ExprId) -> Option<Equation> {
        let width = b.arena.width(term);
        let sum = self.sum_of_node(b, term, width)?;
        let ordered = sums::build(b, &sum, width)?;
        // The multiples that a sum is built of are sums too.
        self.sums.insert(ordered, sum);
        (ordered != term).then(|| b.claim(BCF_RULE_POLY_NORM, term, ordered))
    }

    fn sum_of_node(&self, b: &Builder, term: ExprId, width: u8) -> Option<Sum> {
        if width > 64 || !self.order_sums {
            return None;
        }
        let mask = low_mask(width);
        let args = b.arena.args(term);
        let mut sum = Sum::default();
        match b.arena.code(term) {
            BCF_BV_ADD => args.iter().for_each(|&arg| sum.add(&self.sum(b, arg), 1, mask)),
            BCF_BV_SUB => {
                sum.add(&self.sum(b, args[0]), 1, mask);
                sum.add(&self.sum(b, args[1]), mask, mask);
            }
            BCF_BV_NEG => sum.add(&self.sum(b, args[0]), mask, mask),
            BCF_BV_MUL => {
                let mut factor = 1u64;
                let mut other = None;
                for &arg in args {
                    match b.arena.bv_value(arg) {
                        Some(value) => factor = factor.wrapping_mul(value),
                        // A product of two unknowns is no sum.
                        None if other.replace(arg).is_some() => return None,
                        None => {}
                    }
                }
                sum.add(&self.sum(b, other?), factor & mask, mask);
            }
            BCF_BV_SHL => {
                let amount = b.arena.bv_value(args[1]).filter(|&amount| amount < width.into())?;
                sum.add(&self.sum(b, args[0]), 1 << amount, mask);
            }
            _ => return None,
        }
        (sum.terms.len() <= MAX_SUMMANDS).then_some(sum)
    }

    fn rewrite_shift(&mut self, b: &mut Builder, term: ExprId, args: &[ExprId]) -> Option<Equation> {
        let &[x, by] = args else { return None };
        let amount = b.arena.bv_value(by)?;
        let width = b.arena.width(term);
        let code = b.arena.code(term);
        if code == BCF_BV_SHL && (1..u64::from(width)).contains(&amount) {
            // A multiple: where a sum holds it, the sum is put in order; shifted bits are the business of the bits.
            return self.rewrite_sum(b, term);
        }
        let first = match code {
            BCF_BV_SHL => BV_SHL_BY_CONST_0,
            BCF_BV_LSHR => BV_LSHR_BY_CONST_0,
            _ => BV_ASHR_BY_CONST_0,
        };
        let bits = b.int(width.into());
        if amount == 0 {
            return b.rewrite(first, &[x, bits]);
        }
        let shift = b.int(u32::try_from(amount).ok()?);
        if amount >= width.into() {
            return match code {
                BCF_BV_LSHR => b.rewrite(first + 2, &[x, shift, bits]),
                BCF_BV_SHL => b.rewrite(first + 2, &[x, shift, bits, bits]),
                _ => {
                    let top = b.int(u32::from(width) - 1);
                    b.rewrite(first + 2, &[x, shift, bits, top, bits])
                }
            };
        }
        let top = b.int(u32::from(width) - 1);
        b.rewrite(first + 1, &[x, shift, bits, top])
    }

    /// An equality of bit-vectors.
    fn rewrite_eq(&mut self, b: &mut Builder, x: ExprId, y: ExprId) -> Option<Equation> {
        if x == y {
            return b.rewrite(EQ_REFL, &[x]);
        }
        if let Some(moved) = self.move_constants(b, x, y) {
            return Some(moved);
        }
        match (b.arena.bv_value(x), b.arena.bv_value(y)) {
            (Some(_), None) => b.rewrite(EQ_SYMM, &[x, y]),
            (None, None) if x > y && !self.sums.contains_key(&x) && !self.sums.contains_key(&y) => {
                b.rewrite(EQ_SYMM, &[x, y])
            }
            _ => None,
        }
    }

    /// `x = y` with the sum of both sides' terms on the left and what is constant on the right.
    fn move_constants(&mut self, b: &mut Builder, x: ExprId, y: ExprId) -> Option<Equation> {
        if !self.sums.contains_key(&x) && !self.sums.contains_key(&y) {
            return None;
        }
        let width = b.arena.width(x);
        let mask = low_mask(width);
        let mut difference = self.sum(b, x);
        difference.add(&self.sum(b, y), mask, mask);
        // The sign that leaves fewer subtractions, so that it does not matter which side was which.
        let negative = difference.terms.iter().filter(|&&(_, coefficient)| coefficient > mask >> 1).count();
        let first_negative =
            difference.terms.first().is_some_and(|&(_, coefficient)| coefficient > mask >> 1);
        let flip = match (2 * negative).cmp(&difference.terms.len()) {
            Ordering::Less => false,
            Ordering::Equal => first_negative,
            Ordering::Greater => true,
        };
        if flip {
            let mut opposite = Sum::default();
            opposite.add(&difference, mask, mask);
            difference = opposite;
        }
        let (left, right) = sums::split_equation(b, &difference, width)?;
        if (left, right) == (x, y) {
            return None;
        }
        // 1 (x - y) = ±1 (left - right).
        let factor = |b: &mut Builder, factor: u64, p: ExprId, q: ExprId| {
            let one = b.arena.bv_const(width, factor);
            let sub = b.arena.intern(BCF_BV_SUB, width.into(), &[p, q]);
            b.arena.intern(BCF_BV_MUL, width.into(), &[one, sub])
        };
        let sign = if flip { mask } else { 1 };
        let before = factor(b, 1, x, y);
        let after = factor(b, sign, left, right);
        let premise = b.claim(BCF_RULE_POLY_NORM, before, after);
        let premise = b.prove(&premise);
        let (from, to) = (b.arena.eq(x, y), b.arena.eq(left, right));
        Some(b.conclude(BCF_RULE_POLY_NORM_EQ, &[premise], from, to))
    }
}

fn is_leaf(code: u8) -> bool {
    matches!(
        code,
        BCF_BV_CONST | BCF_BV_VAR | BCF_BOOL_CONST | BCF_BOOL_VAR | BCF_BV_FROM_BOOL | BCF_BOOL_BIT_OF
    )
}

/// Whether the published checker evaluates the operator. It leaves the negation of the least number out, here all negations are.
fn is_evaluated(code: u8) -> bool {
    !matches!(code, BCF_BV_NOT | BCF_BV_REPEAT | BCF_BV_NEG)
}

fn is_constant(b: &Builder, term: ExprId) -> bool {
    matches!(b.arena.code(term), BCF_BV_CONST | BCF_BOOL_CONST)
}

/// `x <u y` where it is never true.
fn decided_ult(b: &mut Builder, x: ExprId, y: ExprId) -> Option<Equation> {
    let width = b.arena.width(x);
    match (b.arena.bv_value(x), b.arena.bv_value(y)) {
        _ if x == y => b.rewrite(BV_ULT_SELF, &[x]),
        (_, Some(0)) => {
            let bits = b.int(width.into());
            b.rewrite(BV_ULT_ZERO_2, &[x, bits])
        }
        (Some(value), _) if value == low_mask(width) => never_above_ones(b, x, y),
        _ => None,
    }
}

/// `x <u y`.
fn rewrite_ult(b: &mut Builder, x: ExprId, y: ExprId) -> Option<Equation> {
    if let Some(decided) = decided_ult(b, x, y) {
        return Some(decided);
    }
    let width = b.arena.width(x);
    let bits = b.int(width.into());
    let ones = low_mask(width);
    match (b.arena.bv_value(x), b.arena.bv_value(y)) {
        (Some(0), _) => b.rewrite(BV_ULT_ZERO_1, &[y, bits]),
        (_, Some(1)) => b.rewrite(BV_ULT_ONE, &[x, bits]),
        (_, Some(value)) if value == ones && width <= 32 => {
            let constant = b.int(value as u32);
            b.rewrite(BV_ULT_ONES, &[x, constant, bits])
        }
        (_, Some(value)) if b.arena.code(x) == BCF_BV_ZERO_EXTEND => {
            narrow_ult(b, BV_ZERO_EXTEND_ULT_CONST_1, x, value, width)
        }
        (Some(value), _) if b.arena.code(y) == BCF_BV_ZERO_EXTEND => {
            narrow_ult(b, BV_ZERO_EXTEND_ULT_CONST_2, y, value, width)
        }
        _ => None,
    }
}

/// Compares a zero-extended term with a constant that fits the term's own width.
fn narrow_ult(b: &mut Builder, number: u32, extended: ExprId, value: u64, width: u8) -> Option<Equation> {
    let inner = b.arena.args(extended)[0];
    let inner_width = b.arena.width(inner);
    if value > low_mask(inner_width) {
        return None;
    }
    let args = [
        b.arena.head(extended).params_high().into(),
        u32::try_from(value).ok()?,
        width.into(),
        u32::from(inner_width) - 1,
    ]
    .map(|value| b.int(value));
    b.rewrite(number, &[inner, args[0], args[1], args[2], args[3]])
}

/// `ones <u y` is false: `y <=u ones` is true, and is the negation of that.
fn never_above_ones(b: &mut Builder, ones: ExprId, y: ExprId) -> Option<Equation> {
    let width = b.arena.width(y);
    let value = u32::try_from(b.arena.bv_value(ones)?).ok()?;
    let (constant, bits) = (b.int(value), b.int(width.into()));
    let holds = b.rewrite(BV_ULE_MAX, &[y, constant, bits])?;
    let as_less = b.rewrite(BV_ULE_ELIMINATE, &[y, ones])?;
    let not_less = b.symm(&as_less).then(&holds);
    // From (not (ones <u y)) = true to (ones <u y) = false.
    let step = b.prove(&not_less);
    let fact = b.step(BCF_RULE_TRUE_ELIM, &[step], &[]);
    let less = b.arena.intern(BCF_BOOL_ULT, 0, &[ones, y]);
    let never = b.arena.truth(false);
    Some(b.conclude(BCF_RULE_FALSE_INTRO, &[fact], less, never))
}

/// An equality of Booleans.
fn rewrite_iff(b: &mut Builder, x: ExprId, y: ExprId) -> Option<Equation> {
    if x == y {
        return b.rewrite(EQ_REFL, &[x]);
    }
    match (b.arena.bool_value(x), b.arena.bool_value(y)) {
        (_, Some(true)) => b.rewrite(BOOL_EQ_TRUE, &[x]),
        (_, Some(false)) => b.rewrite(BOOL_EQ_FALSE, &[x]),
        (Some(_), None) => b.rewrite(EQ_SYMM, &[x, y]),
        _ => None,
    }
}

fn rewrite_ite(b: &mut Builder, args: &[ExprId]) -> Option<Equation> {
    let &[cond, then, other] = args else { return None };
    match b.arena.bool_value(cond) {
        Some(true) => b.rewrite(ITE_TRUE_COND, &[then, other]),
        Some(false) => b.rewrite(ITE_FALSE_COND, &[then, other]),
        None if then == other && b.arena.is_bool(cond) => b.rewrite(ITE_EQ_BRANCH, &[cond, then]),
        None => None,
    }
}

/// The neutral and the absorbing constant of and/or, on Booleans and bit-vectors.
fn junction_constants(b: &mut Builder, term: ExprId) -> Option<(ExprId, ExprId)> {
    let width = b.arena.width(term);
    Some(match b.arena.code(term) {
        BCF_BOOL_AND => (b.arena.truth(true), b.arena.truth(false)),
        BCF_BOOL_OR => (b.arena.truth(false), b.arena.truth(true)),
        _ if width > 64 => return None,
        BCF_BV_AND => (b.arena.bv_const(width, u64::MAX), b.arena.bv_const(width, 0)),
        _ => (b.arena.bv_const(width, 0), b.arena.bv_const(width, u64::MAX)),
    })
}

/// And, or: without neutral constants and repetitions, or absorbed.
fn simplify_junction(b: &mut Builder, term: ExprId, args: &[ExprId]) -> Option<Equation> {
    let (neutral, absorbing) = junction_constants(b, term)?;
    if args.contains(&absorbing) {
        return Some(b.claim(BCF_RULE_ABSORB, term, absorbing));
    }
    let mut kept: SmallVec<[ExprId; 8]> = SmallVec::new();
    for &arg in args {
        if arg != neutral && !kept.contains(&arg) {
            kept.push(arg);
        }
    }
    if kept.len() == args.len() {
        return None;
    }
    let head = b.arena.head(term);
    let rest = match kept[..] {
        [] => neutral,
        [only] => only,
        _ => b.arena.intern(head.code, head.params, &kept),
    };
    Some(b.claim(BCF_RULE_ACI_NORM, term, rest))
}

/// `(x & c) & d` as `x & (c & d)`, and the same for or: one constant, last.
fn merge_constants(b: &mut Builder, term: ExprId, args: &[ExprId]) -> Option<Equation> {
    let head = b.arena.head(term);
    let mut flat: SmallVec<[ExprId; 8]> = SmallVec::new();
    for &arg in args {
        if b.arena.code(arg) == head.code {
            flat.extend_from_slice(b.arena.args(arg))
        } else {
            flat.push(arg)
        }
    }
    let (constants, others): (SmallVec<[ExprId; 8]>, SmallVec<[ExprId; 8]>) =
        flat.iter().copied().partition(|&arg| is_constant(b, arg));
    let nested = flat.len() > args.len();
    let last = args.last().is_some_and(|&arg| is_constant(b, arg));
    if constants.is_empty() || others.is_empty() || constants.len() < 2 && !nested && last {
        return None;
    }
    let constant = match constants[..] {
        [only] => only,
        _ => b.arena.intern(head.code, head.params, &constants),
    };
    let rest = match others[..] {
        [only] => only,
        _ => b.arena.intern(head.code, head.params, &others),
    };
    let merged = b.arena.intern(head.code, head.params, &[rest, constant]);
    if merged == term {
        return None;
    }
    Some(b.claim(BCF_RULE_ACI_NORM, term, merged))
}
