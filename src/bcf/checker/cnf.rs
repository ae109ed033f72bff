//! Rules that define a connective by clauses: F stands for the term itself, that is, the parameter.
//!
//! As with the elimination rules, operands are Boolean, and a xor has two.

use bpftwin_uapi::bcf::*;

use super::{Checker, Fact, RuleError, choice, ensure, shape};
use crate::bcf::expr::{ExprId, MAX_ARGS};
use crate::bcf::proof::Step;

type Result<T> = std::result::Result<T, RuleError>;

/// ⊢ ¬F ∨ Fi for F = F0 ∧ F1 ∧ …
pub(super) fn and_pos(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, i]) = shape(step)?;
    let f = checker.term(f)?;
    let part =
        checker.part(f, BCF_BOOL_AND, i, RuleError::Invalid("expects a conjunction with such a part"))?;
    let not_f = checker.not(f);
    Ok(checker.clause(&[not_f, part]))
}

/// ⊢ F ∨ ¬F0 ∨ ¬F1 ∨ … for F = F0 ∧ F1 ∧ …
pub(super) fn and_neg(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f]) = shape(step)?;
    let f = checker.term(f)?;
    let mut literals = checker.connective(f, BCF_BOOL_AND)?;
    for literal in &mut literals[1..] {
        *literal = checker.not(*literal);
    }
    let fact = checker.clause(&literals);
    checker.scratch = literals;
    Ok(fact)
}

/// ⊢ ¬F ∨ F0 ∨ F1 ∨ … for F = F0 ∨ F1 ∨ …
pub(super) fn or_pos(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f]) = shape(step)?;
    let f = checker.term(f)?;
    let mut literals = checker.connective(f, BCF_BOOL_OR)?;
    literals[0] = checker.not(f);
    let fact = checker.clause(&literals);
    checker.scratch = literals;
    Ok(fact)
}

/// ⊢ F ∨ ¬Fi for F = F0 ∨ F1 ∨ …
pub(super) fn or_neg(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, i]) = shape(step)?;
    let f = checker.term(f)?;
    let part =
        checker.part(f, BCF_BOOL_OR, i, RuleError::Invalid("expects a disjunction with such a part"))?;
    let not_part = checker.not(part);
    Ok(checker.clause(&[f, not_part]))
}

/// ⊢ ¬F ∨ ¬x ∨ y for F = x ⇒ y
pub(super) fn implies_pos(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f]) = shape(step)?;
    let (f, [x, y]) = checker.binary(f, BCF_BOOL_IMPLIES, "expects an implication")?;
    let clause = [checker.not(f), checker.not(x), y];
    Ok(checker.clause(&clause))
}

/// ⊢ 0: F ∨ x, 1: F ∨ ¬y for F = x ⇒ y
pub(super) fn implies_neg(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, which]) = shape(step)?;
    let (f, [x, y]) = checker.binary(f, BCF_BOOL_IMPLIES, "expects an implication")?;
    let literal = if choice(which)? { checker.not(y) } else { x };
    Ok(checker.clause(&[f, literal]))
}

/// ⊢ 0: ¬F ∨ ¬x ∨ y, 1: ¬F ∨ x ∨ ¬y for F = (x = y)
pub(super) fn equiv_pos(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, which]) = shape(step)?;
    let (f, [x, y]) = checker.binary(f, BCF_BOOL_EQ, EQUIV)?;
    let not_f = checker.not(f);
    let clause = if choice(which)? { [not_f, x, checker.not(y)] } else { [not_f, checker.not(x), y] };
    Ok(checker.clause(&clause))
}

const EQUIV: &str = "expects an equality";

/// ⊢ 0: F ∨ x ∨ y, 1: F ∨ ¬x ∨ ¬y for F = (x = y)
pub(super) fn equiv_neg(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, which]) = shape(step)?;
    let (f, [x, y]) = checker.binary(f, BCF_BOOL_EQ, EQUIV)?;
    let clause = if choice(which)? { [f, checker.not(x), checker.not(y)] } else { [f, x, y] };
    Ok(checker.clause(&clause))
}

const XOR: &str = "expects a xor of two";

/// ⊢ 0: ¬F ∨ x ∨ y, 1: ¬F ∨ ¬x ∨ ¬y for F = x ⊕ y
pub(super) fn xor_pos(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, which]) = shape(step)?;
    let (f, [x, y]) = checker.binary(f, BCF_BOOL_XOR, XOR)?;
    let not_f = checker.not(f);
    let clause = if choice(which)? { [not_f, checker.not(x), checker.not(y)] } else { [not_f, x, y] };
    Ok(checker.clause(&clause))
}

/// ⊢ 0: F ∨ ¬x ∨ y, 1: F ∨ x ∨ ¬y for F = x ⊕ y
pub(super) fn xor_neg(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, which]) = shape(step)?;
    let (f, [x, y]) = checker.binary(f, BCF_BOOL_XOR, XOR)?;
    let clause = if choice(which)? { [f, x, checker.not(y)] } else { [f, checker.not(x), y] };
    Ok(checker.clause(&clause))
}

const ITE: &str = "expects a Boolean ite";
const ITE_CHOICE: RuleError = RuleError::Invalid("the parameter must be 0, 1 or 2");

/// ⊢ 0: ¬F ∨ ¬c ∨ x, 1: ¬F ∨ c ∨ y, 2: ¬F ∨ x ∨ y for F = ite(c, x, y)
pub(super) fn ite_pos(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, which]) = shape(step)?;
    let f = checker.term(f)?;
    let [c, x, y] = checker.parts(f, BCF_BOOL_ITE, ITE)?;
    let not_f = checker.not(f);
    let clause = match which {
        0 => [not_f, checker.not(c), x],
        1 => [not_f, c, y],
        2 => [not_f, x, y],
        _ => return Err(ITE_CHOICE),
    };
    Ok(checker.clause(&clause))
}

/// ⊢ 0: F ∨ ¬c ∨ ¬x, 1: F ∨ c ∨ ¬y, 2: F ∨ ¬x ∨ ¬y for F = ite(c, x, y)
pub(super) fn ite_neg(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f, which]) = shape(step)?;
    let f = checker.term(f)?;
    let [c, x, y] = checker.parts(f, BCF_BOOL_ITE, ITE)?;
    let clause = match which {
        0 => [f, checker.not(c), checker.not(x)],
        1 => [f, c, checker.not(y)],
        2 => [f, checker.not(x), checker.not(y)],
        _ => return Err(ITE_CHOICE),
    };
    Ok(checker.clause(&clause))
}

/// ⊢ ite(c, F = x, F = y) for F = ite(c, x, y), of any type
pub(super) fn ite_eq(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [f]) = shape(step)?;
    let f = checker.term(f)?;
    let ite = checker.arena.match_op(f, BCF_BOOL_ITE).or_else(|| checker.arena.match_op(f, BCF_BV_ITE));
    let [c, x, y] = ite.ok_or(RuleError::Invalid("expects an ite"))?;
    ensure(checker.arena.is_bool(c), "the condition must be Boolean")?;
    let (then, other) = (checker.arena.eq(f, x), checker.arena.eq(f, y));
    Ok(Fact::Expr(checker.arena.intern(BCF_BOOL_ITE, 0, &[c, then, other])))
}

impl Checker<'_> {
    /// A term that connects two formulas, and these.
    fn binary(&self, raw: u32, code: u8, expected: &'static str) -> Result<(ExprId, [ExprId; 2])> {
        let f = self.term(raw)?;
        let parts = self.parts(f, code, expected)?;
        self.ensure_formulas(parts)?;
        Ok((f, parts))
    }

    /// A conjunction or disjunction, then its parts; in the scratch buffer.
    fn connective(&mut self, f: ExprId, code: u8) -> Result<Vec<ExprId>> {
        let expected = if code == BCF_BOOL_AND { "expects a conjunction" } else { "expects a disjunction" };
        ensure(self.arena.code(f) == code, expected)?;
        let parts = self.arena.args(f);
        ensure(parts.len() < MAX_ARGS, "the clause would have more than 255 literals")?;
        let mut literals = std::mem::take(&mut self.scratch);
        literals.clear();
        literals.push(f);
        literals.extend_from_slice(parts);
        Ok(literals)
    }
}
