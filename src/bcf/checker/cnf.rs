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

#[cfg(test)]
mod tests {
    use super::super::testing::Param::{Term, Word};
    use super::super::testing::{accepts, rejects};

    #[test]
    fn conjunctions() {
        let f = Term("(and p q)");
        accepts("CNF_AND_POS", &[], &[f, Word(1)], "(or (not (and p q)) q)");
        rejects("CNF_AND_POS", &[], &[f, Word(2)]);
        rejects("CNF_AND_POS", &[], &[Term("(or p q)"), Word(0)]);
        rejects("CNF_AND_POS", &[], &[Term("(bvand a8 b8)"), Word(0)]);
        accepts("CNF_AND_NEG", &[], &[f], "(or (and p q) (not p) (not q))");
        rejects("CNF_AND_NEG", &[], &[Term("(or p q)")]);
        rejects("CNF_AND_NEG", &[], &[Word(1 << 20)]);
        let wide = format!("(and{})", " p".repeat(255));
        rejects("CNF_AND_NEG", &[], &[Term(&wide)]);
    }

    #[test]
    fn disjunctions() {
        let f = Term("(or p q)");
        accepts("CNF_OR_POS", &[], &[f], "(or (not (or p q)) p q)");
        rejects("CNF_OR_POS", &[], &[Term("(and p q)")]);
        let wide = format!("(or{})", " p".repeat(255));
        rejects("CNF_OR_POS", &[], &[Term(&wide)]);
        accepts("CNF_OR_NEG", &[], &[f, Word(1)], "(or (or p q) (not q))");
        rejects("CNF_OR_NEG", &[], &[f, Word(2)]);
        rejects("CNF_OR_NEG", &[], &[Term("(and p q)"), Word(0)]);
    }

    #[test]
    fn implications() {
        let f = Term("(=> p q)");
        accepts("CNF_IMPLIES_POS", &[], &[f], "(or (not (=> p q)) (not p) q)");
        rejects("CNF_IMPLIES_POS", &[], &[Term("(= p q)")]);
        accepts("CNF_IMPLIES_NEG", &[], &[f, Word(0)], "(or (=> p q) p)");
        accepts("CNF_IMPLIES_NEG", &[], &[f, Word(1)], "(or (=> p q) (not q))");
        rejects("CNF_IMPLIES_NEG", &[], &[f, Word(2)]);
        rejects("CNF_IMPLIES_NEG", &[], &[Term("(= p q)"), Word(0)]);
    }

    #[test]
    fn equivalences() {
        let f = Term("(= p q)");
        accepts("CNF_EQUIV_POS", &[], &[f, Word(0)], "(or (not (= p q)) (not p) q)");
        accepts("CNF_EQUIV_POS", &[], &[f, Word(1)], "(or (not (= p q)) p (not q))");
        rejects("CNF_EQUIV_POS", &[], &[f, Word(2)]);
        rejects("CNF_EQUIV_POS", &[], &[Term("(xor p q)"), Word(0)]);
        accepts("CNF_EQUIV_NEG", &[], &[f, Word(0)], "(or (= p q) p q)");
        accepts("CNF_EQUIV_NEG", &[], &[f, Word(1)], "(or (= p q) (not p) (not q))");
        rejects("CNF_EQUIV_NEG", &[], &[f, Word(2)]);
        rejects("CNF_EQUIV_NEG", &[], &[Term("(xor p q)"), Word(0)]);
    }

    /// The published checker makes clauses of the bit-vectors.
    #[test]
    fn equality_of_bit_vectors_is_no_equivalence() {
        rejects("CNF_EQUIV_POS", &[], &[Term("(= a8 b8)"), Word(0)]);
        rejects("CNF_EQUIV_NEG", &[], &[Term("(= a8 b8)"), Word(0)]);
    }

    #[test]
    fn exclusive_disjunctions() {
        let f = Term("(xor p q)");
        accepts("CNF_XOR_POS", &[], &[f, Word(0)], "(or (not (xor p q)) p q)");
        accepts("CNF_XOR_POS", &[], &[f, Word(1)], "(or (not (xor p q)) (not p) (not q))");
        rejects("CNF_XOR_POS", &[], &[f, Word(2)]);
        rejects("CNF_XOR_POS", &[], &[Term("(= p q)"), Word(0)]);
        accepts("CNF_XOR_NEG", &[], &[f, Word(0)], "(or (xor p q) (not p) q)");
        accepts("CNF_XOR_NEG", &[], &[f, Word(1)], "(or (xor p q) p (not q))");
        rejects("CNF_XOR_NEG", &[], &[f, Word(2)]);
        rejects("CNF_XOR_NEG", &[], &[Term("(= p q)"), Word(0)]);
    }

    /// The published checker looks at the first two arguments only.
    #[test]
    fn exclusive_disjunction_of_three() {
        rejects("CNF_XOR_POS", &[], &[Term("(xor p q r)"), Word(0)]);
        rejects("CNF_XOR_NEG", &[], &[Term("(xor p q r)"), Word(0)]);
    }

    #[test]
    fn choices() {
        let f = Term("(ite c p q)");
        accepts("CNF_ITE_POS", &[], &[f, Word(0)], "(or (not (ite c p q)) (not c) p)");
        accepts("CNF_ITE_POS", &[], &[f, Word(1)], "(or (not (ite c p q)) c q)");
        accepts("CNF_ITE_POS", &[], &[f, Word(2)], "(or (not (ite c p q)) p q)");
        rejects("CNF_ITE_POS", &[], &[f, Word(3)]);
        accepts("CNF_ITE_NEG", &[], &[f, Word(0)], "(or (ite c p q) (not c) (not p))");
        accepts("CNF_ITE_NEG", &[], &[f, Word(1)], "(or (ite c p q) c (not q))");
        accepts("CNF_ITE_NEG", &[], &[f, Word(2)], "(or (ite c p q) (not p) (not q))");
        rejects("CNF_ITE_NEG", &[], &[f, Word(3)]);
    }

    /// The published checker makes clauses of the bit-vectors.
    #[test]
    fn choice_between_bit_vectors_is_no_formula() {
        rejects("CNF_ITE_POS", &[], &[Term("(ite c a8 b8)"), Word(0)]);
        rejects("CNF_ITE_NEG", &[], &[Term("(ite c a8 b8)"), Word(0)]);
    }

    #[test]
    fn ite_eq() {
        accepts("ITE_EQ", &[], &[Term("(ite c a8 b8)")], "(ite c (= (ite c a8 b8) a8) (= (ite c a8 b8) b8))");
        accepts("ITE_EQ", &[], &[Term("(ite c p q)")], "(ite c (= (ite c p q) p) (= (ite c p q) q))");
        rejects("ITE_EQ", &[], &[Term("(ite a1 a8 b8)")]);
        rejects("ITE_EQ", &[], &[Term("(or p q)")]);
    }
}
