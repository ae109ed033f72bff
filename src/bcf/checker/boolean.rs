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

#[cfg(test)]
mod tests {
    use super::super::testing::Param::{Term, Word};
    use super::super::testing::{accepts, rejects};

    #[test]
    fn split() {
        accepts("SPLIT", &[], &[Term("p")], "(or p (not p))");
        rejects("SPLIT", &[], &[Term("a8")]);
    }

    #[test]
    fn eq_resolve() {
        accepts("EQ_RESOLVE", &["p", "(= p q)"], &[], "q");
        accepts("EQ_RESOLVE", &["(or p r)", "(= (or p r) q)"], &[], "q");
        rejects("EQ_RESOLVE", &["q", "(= p q)"], &[]);
        rejects("EQ_RESOLVE", &["p", "(=> p q)"], &[]);
    }

    #[test]
    fn modus_ponens() {
        accepts("MODUS_PONENS", &["p", "(=> p q)"], &[], "q");
        rejects("MODUS_PONENS", &["q", "(=> p q)"], &[]);
        rejects("MODUS_PONENS", &["p", "(= p q)"], &[]);
    }

    #[test]
    fn not_not_elim() {
        accepts("NOT_NOT_ELIM", &["(not (not p))"], &[], "p");
        rejects("NOT_NOT_ELIM", &["(not p)"], &[]);
    }

    #[test]
    fn contra() {
        accepts("CONTRA", &["p", "(not p)"], &[], "false");
        rejects("CONTRA", &["(not p)", "p"], &[]);
        rejects("CONTRA", &["p", "(not q)"], &[]);
    }

    #[test]
    fn and_elim() {
        accepts("AND_ELIM", &["(and p q r)"], &[Word(2)], "r");
        rejects("AND_ELIM", &["(and p q r)"], &[Word(3)]);
        rejects("AND_ELIM", &["(or p q r)"], &[Word(0)]);
    }

    #[test]
    fn and_intro() {
        accepts("AND_INTRO", &["p"], &[], "p");
        accepts("AND_INTRO", &["p", "q", "p"], &[], "(and p q p)");
        rejects("AND_INTRO", &["p", "q"], &[Word(0)]);
        rejects("AND_INTRO", &[], &[]);
    }

    #[test]
    fn not_or_elim() {
        accepts("NOT_OR_ELIM", &["(not (or p q))"], &[Word(1)], "(not q)");
        rejects("NOT_OR_ELIM", &["(not (or p q))"], &[Word(2)]);
        rejects("NOT_OR_ELIM", &["(not (and p q))"], &[Word(0)]);
        rejects("NOT_OR_ELIM", &["(or p q)"], &[Word(0)]);
    }

    #[test]
    fn implications() {
        accepts("IMPLIES_ELIM", &["(=> p q)"], &[], "(or (not p) q)");
        rejects("IMPLIES_ELIM", &["(or p q)"], &[]);
        accepts("NOT_IMPLIES_ELIM", &["(not (=> p q))"], &[Word(0)], "p");
        accepts("NOT_IMPLIES_ELIM", &["(not (=> p q))"], &[Word(1)], "(not q)");
        rejects("NOT_IMPLIES_ELIM", &["(not (=> p q))"], &[Word(2)]);
        rejects("NOT_IMPLIES_ELIM", &["(=> p q)"], &[Word(0)]);
    }

    #[test]
    fn equivalences() {
        accepts("EQUIV_ELIM", &["(= p q)"], &[Word(0)], "(or (not p) q)");
        accepts("EQUIV_ELIM", &["(= p q)"], &[Word(1)], "(or p (not q))");
        rejects("EQUIV_ELIM", &["(= p q)"], &[Word(2)]);
        rejects("EQUIV_ELIM", &["(xor p q)"], &[Word(0)]);
        accepts("NOT_EQUIV_ELIM", &["(not (= p q))"], &[Word(0)], "(or p q)");
        accepts("NOT_EQUIV_ELIM", &["(not (= p q))"], &[Word(1)], "(or (not p) (not q))");
        rejects("NOT_EQUIV_ELIM", &["(not (= p q))"], &[Word(2)]);
        rejects("NOT_EQUIV_ELIM", &["(= p q)"], &[Word(0)]);
    }

    /// The published checker makes clauses of the bit-vectors, such as `(or (not a8) b8)`.
    #[test]
    fn equality_of_bit_vectors_is_no_equivalence() {
        rejects("EQUIV_ELIM", &["(= a8 b8)"], &[Word(0)]);
        rejects("NOT_EQUIV_ELIM", &["(not (= a8 b8))"], &[Word(0)]);
    }

    #[test]
    fn exclusive_disjunctions() {
        accepts("XOR_ELIM", &["(xor p q)"], &[Word(0)], "(or p q)");
        accepts("XOR_ELIM", &["(xor p q)"], &[Word(1)], "(or (not p) (not q))");
        rejects("XOR_ELIM", &["(xor p q)"], &[Word(2)]);
        rejects("XOR_ELIM", &["(= p q)"], &[Word(0)]);
        accepts("NOT_XOR_ELIM", &["(not (xor p q))"], &[Word(0)], "(or p (not q))");
        accepts("NOT_XOR_ELIM", &["(not (xor p q))"], &[Word(1)], "(or (not p) q)");
        rejects("NOT_XOR_ELIM", &["(not (xor p q))"], &[Word(2)]);
        rejects("NOT_XOR_ELIM", &["(xor p q)"], &[Word(0)]);
    }

    /// The published checker looks at the first two arguments only: `p ⊕ q ⊕ r` would give `p ∨ q`.
    #[test]
    fn exclusive_disjunction_of_three() {
        rejects("XOR_ELIM", &["(xor p q r)"], &[Word(0)]);
        rejects("NOT_XOR_ELIM", &["(not (xor p q r))"], &[Word(0)]);
    }

    #[test]
    fn choices() {
        accepts("ITE_ELIM", &["(ite c p q)"], &[Word(0)], "(or (not c) p)");
        accepts("ITE_ELIM", &["(ite c p q)"], &[Word(1)], "(or c q)");
        rejects("ITE_ELIM", &["(ite c p q)"], &[Word(2)]);
        rejects("ITE_ELIM", &["(and c p q)"], &[Word(0)]);
        accepts("NOT_ITE_ELIM", &["(not (ite c p q))"], &[Word(0)], "(or (not c) (not p))");
        accepts("NOT_ITE_ELIM", &["(not (ite c p q))"], &[Word(1)], "(or c (not q))");
        rejects("NOT_ITE_ELIM", &["(not (ite c p q))"], &[Word(2)]);
        rejects("NOT_ITE_ELIM", &["(ite c p q)"], &[Word(0)]);
    }

    #[test]
    fn not_and() {
        accepts("NOT_AND", &["(not (and p q r))"], &[Word(7)], "(or (not p) (not q) (not r))");
        rejects("NOT_AND", &["(not (and p q r))"], &[]);
        rejects("NOT_AND", &["(not (or p q))"], &[Word(0)]);
        rejects("NOT_AND", &["(and p q)"], &[Word(0)]);
    }
}
