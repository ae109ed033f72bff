//! Rules that take Boolean connectives apart or put them together.
//!
//! The published checker lets several of these apply to equalities of bit-vectors and to exclusive disjunctions of more than two
//! arguments, of which it looks at two; both give wrong facts. Here operands are Boolean, and two.

use bpftwin_uapi::bcf::*;

use super::{Checker, Fact, RuleError, choice, ensure, shape};
use crate::bcf::expr::ExprId;
use crate::bcf::proof::{Step, StepNo};

type Result<T> = std::result::Result<T, RuleError>;

/// ⊢ x ∨ ¬x
pub(super) fn split(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [x]) = shape(step)?;
    let x = checker.formula(x)?;
    let not_x = checker.not(x);
    Ok(checker.clause(&[x, not_x]))
}

/// x, x = y ⊢ y
pub(super) fn eq_resolve(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([fact, equality], []) = shape(step)?;
    let [x, y] = checker.equality(equality)?;
    ensure(checker.says(checker.fact(fact), x), "the first premise must be the left side of the second")?;
    Ok(Fact::Expr(y))
}

/// x, x ⇒ y ⊢ y
pub(super) fn modus_ponens(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([fact, implication], []) = shape(step)?;
    let [x, y] =
        checker.operands(implication, BCF_BOOL_IMPLIES, "the second premise must be an implication")?;
    ensure(checker.says(checker.fact(fact), x), "the first premise must be what the second implies from")?;
    Ok(Fact::Expr(y))
}

/// ¬¬x ⊢ x
pub(super) fn not_not_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], []) = shape(step)?;
    let not_x = checker.negated(premise)?;
    let [x] = checker.parts(not_x, BCF_BOOL_NOT, "the premise must be a double negation")?;
    Ok(Fact::Expr(x))
}

/// x, ¬x ⊢ false
pub(super) fn contra(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([fact, negation], []) = shape(step)?;
    let x = checker.negated(negation)?;
    ensure(checker.says(checker.fact(fact), x), "the second premise must negate the first")?;
    Ok(Fact::Expr(checker.arena.truth(false)))
}

/// x0 ∧ x1 ∧ … ⊢ xi
pub(super) fn and_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [i]) = shape(step)?;
    let Fact::Expr(conjunction) = checker.fact(premise) else { return Err(NO_CONJUNCTION) };
    Ok(Fact::Expr(checker.part(conjunction, BCF_BOOL_AND, i, NO_CONJUNCTION)?))
}

const NO_CONJUNCTION: RuleError = RuleError::Invalid("the premise must be a conjunction with such a part");

/// x0, x1, … ⊢ x0 ∧ x1 ∧ …
pub(super) fn and_intro(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    ensure(step.params.is_empty(), "wrong number of parameters")?;
    match *step.premises {
        [] => Err(RuleError::Invalid("wrong number of premises")),
        [premise] => Ok(checker.same_fact(premise)),
        _ => {
            let mut parts = std::mem::take(&mut checker.scratch);
            parts.clear();
            for &premise in step.premises {
                parts.push(checker.fact_expr(premise));
            }
            let conjunction = checker.arena.intern(BCF_BOOL_AND, 0, &parts);
            checker.scratch = parts;
            Ok(Fact::Expr(conjunction))
        }
    }
}

/// ¬(x0 ∨ x1 ∨ …) ⊢ ¬xi
pub(super) fn not_or_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [i]) = shape(step)?;
    let disjunction = checker.negated(premise)?;
    let expected = RuleError::Invalid("the premise must negate a disjunction with such a part");
    let x = checker.part(disjunction, BCF_BOOL_OR, i, expected)?;
    Ok(Fact::Expr(checker.not(x)))
}

/// x ⇒ y ⊢ ¬x ∨ y
pub(super) fn implies_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], []) = shape(step)?;
    let [x, y] = checker.operands(premise, BCF_BOOL_IMPLIES, "the premise must be an implication")?;
    let not_x = checker.not(x);
    Ok(checker.clause(&[not_x, y]))
}

/// ¬(x ⇒ y) ⊢ 0: x, 1: ¬y
pub(super) fn not_implies_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [which]) = shape(step)?;
    let implication = checker.negated(premise)?;
    let [x, y] = checker.parts(implication, BCF_BOOL_IMPLIES, "the premise must negate an implication")?;
    Ok(Fact::Expr(if choice(which)? { checker.not(y) } else { x }))
}

/// x = y ⊢ 0: ¬x ∨ y, 1: x ∨ ¬y
pub(super) fn equiv_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [which]) = shape(step)?;
    let [x, y] = checker.equality(premise)?;
    checker.ensure_formulas([x, y])?;
    checker.one_negated(x, y, choice(which)?)
}

/// ¬(x = y) ⊢ 0: x ∨ y, 1: ¬x ∨ ¬y
pub(super) fn not_equiv_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [which]) = shape(step)?;
    let equality = checker.negated(premise)?;
    let [x, y] = checker.parts(equality, BCF_BOOL_EQ, "the premise must negate an equality")?;
    checker.ensure_formulas([x, y])?;
    checker.both_or_none_negated(x, y, choice(which)?)
}

/// x ⊕ y ⊢ 0: x ∨ y, 1: ¬x ∨ ¬y
pub(super) fn xor_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [which]) = shape(step)?;
    let [x, y] = checker.operands(premise, BCF_BOOL_XOR, "the premise must be a xor of two")?;
    checker.both_or_none_negated(x, y, choice(which)?)
}

/// ¬(x ⊕ y) ⊢ 0: x ∨ ¬y, 1: ¬x ∨ y
pub(super) fn not_xor_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [which]) = shape(step)?;
    let xor = checker.negated(premise)?;
    let [x, y] = checker.parts(xor, BCF_BOOL_XOR, "the premise must negate a xor of two")?;
    checker.one_negated(x, y, !choice(which)?)
}

/// ite(c, x, y) ⊢ 0: ¬c ∨ x, 1: c ∨ y
pub(super) fn ite_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [which]) = shape(step)?;
    let [c, x, y] = checker.operands(premise, BCF_BOOL_ITE, "the premise must be a Boolean ite")?;
    if choice(which)? {
        return Ok(checker.clause(&[c, y]));
    }
    let not_c = checker.not(c);
    Ok(checker.clause(&[not_c, x]))
}

/// ¬ite(c, x, y) ⊢ 0: ¬c ∨ ¬x, 1: c ∨ ¬y
pub(super) fn not_ite_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], [which]) = shape(step)?;
    let ite = checker.negated(premise)?;
    let [c, x, y] = checker.parts(ite, BCF_BOOL_ITE, "the premise must negate a Boolean ite")?;
    let clause = if choice(which)? { [c, checker.not(y)] } else { [checker.not(c), checker.not(x)] };
    Ok(checker.clause(&clause))
}

/// ¬(x0 ∧ x1 ∧ …) ⊢ ¬x0 ∨ ¬x1 ∨ …
///
/// The solver writes a parameter, which says nothing.
pub(super) fn not_and(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let &[premise] = step.premises else { return Err(RuleError::Invalid("wrong number of premises")) };
    ensure(!step.params.is_empty(), "wrong number of parameters")?;
    let conjunction = checker.negated(premise)?;
    ensure(checker.arena.code(conjunction) == BCF_BOOL_AND, "the premise must negate a conjunction")?;
    let mut literals = std::mem::take(&mut checker.scratch);
    literals.clear();
    literals.extend_from_slice(checker.arena.args(conjunction));
    for literal in &mut literals {
        *literal = checker.not(*literal);
    }
    let fact = checker.clause(&literals);
    checker.scratch = literals;
    Ok(fact)
}

impl Checker<'_> {
    /// The arguments of a premise that is such a node.
    fn operands<const N: usize>(
        &self,
        premise: StepNo,
        code: u8,
        expected: &'static str,
    ) -> Result<[ExprId; N]> {
        match self.fact(premise) {
            Fact::Expr(id) => self.parts(id, code, expected),
            _ => Err(RuleError::Invalid(expected)),
        }
    }

    /// The arguments of such a node.
    pub(super) fn parts<const N: usize>(
        &self,
        id: ExprId,
        code: u8,
        expected: &'static str,
    ) -> Result<[ExprId; N]> {
        self.arena.match_op(id, code).ok_or(RuleError::Invalid(expected))
    }

    /// One argument of such a node.
    pub(super) fn part(&self, id: ExprId, code: u8, index: u32, expected: RuleError) -> Result<ExprId> {
        if self.arena.code(id) != code {
            return Err(expected);
        }
        self.arena.args(id).get(index as usize).copied().ok_or(expected)
    }

    pub(super) fn ensure_formulas<const N: usize>(&self, ids: [ExprId; N]) -> Result<()> {
        ensure(ids.iter().all(|&id| self.arena.is_bool(id)), "the operands must be Boolean")
    }

    /// The fact of a premise once more.
    pub(super) fn same_fact(&mut self, premise: StepNo) -> Fact {
        let fact = self.fact(premise);
        self.facts.copy(fact)
    }

    fn one_negated(&mut self, x: ExprId, y: ExprId, second: bool) -> Result<Fact> {
        let clause = if second { [x, self.not(y)] } else { [self.not(x), y] };
        Ok(self.clause(&clause))
    }

    fn both_or_none_negated(&mut self, x: ExprId, y: ExprId, both: bool) -> Result<Fact> {
        let clause = if both { [self.not(x), self.not(y)] } else { [x, y] };
        Ok(self.clause(&clause))
    }
}
