//! Rules about bit-vectors.

use bpftwin_uapi::bcf::*;

use super::{Checker, Fact, Policy, RuleError, bitblast, ensure, poly, shape};
use crate::bcf::expr::{Arena, ExprId};
use crate::bcf::proof::Step;

/// ⊢ t = its bits
pub(super) fn bitblast(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact, RuleError> {
    let ([], [claim]) = shape(step)?;
    let claim = checker.term(claim)?;
    let gates = bitblast::check(&checker.arena, claim, checker.policy)?;
    checker.spend(gates)?;
    Ok(Fact::Expr(claim))
}

/// ⊢ x = y for polynomials that have one normal form
pub(super) fn poly_norm(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact, RuleError> {
    let ([], [claim]) = shape(step)?;
    let claim = checker.formula(claim)?;
    match checker.policy {
        Policy::Reference => {
            ensure(checker.arena.code(claim) == BCF_BOOL_EQ, "the argument is not an equality")?;
            checker.report.trusted_poly_norm += 1;
        }
        Policy::Strict => {
            let work = poly::check(&checker.arena, claim, checker.fuel)?;
            checker.spend(work)?;
            checker.report.checked_poly_norm += 1;
        }
    }
    Ok(Fact::Expr(claim))
}

/// c·(x − y) = d·(z − w) ⊢ (x = y) = (z = w), c and d being odd
///
/// Odd numbers have inverses modulo 2^width, so that either product vanishes exactly when its difference does.
pub(super) fn poly_norm_eq(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact, RuleError> {
    let ([premise], []) = shape(step)?;
    let [left, right] = checker.equality(premise)?;
    let [x, y] = odd_multiple_of_difference(&checker.arena, left)?;
    let [z, w] = odd_multiple_of_difference(&checker.arena, right)?;
    let (left, right) = (checker.arena.eq(x, y), checker.arena.eq(z, w));
    Ok(Fact::Eq(left, right))
}

/// `[x, y]` of `c·(x − y)`.
fn odd_multiple_of_difference(arena: &Arena, term: ExprId) -> Result<[ExprId; 2], RuleError> {
    const PRODUCT: &str = "a side is not a constant times a difference";
    let [factor, difference] = arena.match_op(term, BCF_BV_MUL).ok_or(RuleError::Invalid(PRODUCT))?;
    let factor = arena.bv_value(factor).ok_or(RuleError::Invalid(PRODUCT))?;
    ensure(factor & 1 == 1, "a factor is not odd")?;
    arena.match_op(difference, BCF_BV_SUB).ok_or(RuleError::Invalid(PRODUCT))
}

#[cfg(test)]
mod tests {
    use crate::bcf::checker::testing::{Param, accepts, rejects};

    #[test]
    fn poly_norm_eq() {
        accepts(
            "POLY_NORM_EQ",
            &["(= (bvmul #3:8 (bvsub a8 b8)) (bvmul #255:8 (bvsub c8 #0:8)))"],
            &[],
            "(= (= a8 b8) (= c8 #0:8))",
        );
        for premise in [
            "(= (bvmul #2:8 (bvsub a8 b8)) (bvmul #1:8 (bvsub c8 d8)))",
            "(= (bvmul #1:8 (bvsub a8 b8)) (bvmul #254:8 (bvsub c8 d8)))",
            "(= (bvmul (bvsub a8 b8) #3:8) (bvmul #1:8 (bvsub c8 d8)))",
            "(= (bvmul #3:8 (bvadd a8 b8)) (bvmul #1:8 (bvsub c8 d8)))",
            "(= (bvmul #3:8 (bvsub a8 b8) e8) (bvmul #1:8 (bvsub c8 d8)))",
            "(= (bvsub a8 b8) (bvmul #1:8 (bvsub c8 d8)))",
            "(distinct (bvmul #3:8 (bvsub a8 b8)) (bvmul #1:8 (bvsub c8 d8)))",
            "(= p q)",
        ] {
            rejects("POLY_NORM_EQ", &[premise], &[]);
        }
    }

    #[test]
    fn bitblast() {
        for claim in [
            "(= a2 (from_bool (bit 0 a2) (bit 1 a2)))",
            "(= #2:2 (from_bool false true))",
            "(= (bvor (from_bool p q) (from_bool q p)) (from_bool (or p q) (or q p)))",
            "(= (bvult (from_bool p q) (from_bool r s)) (or (and (= q s) (and (not p) r)) (and (not q) s)))",
        ] {
            accepts("BITBLAST", &[], &[Param::Term(claim)], claim);
        }
        rejects("BITBLAST", &[], &[Param::Term("(= a2 (from_bool (bit 1 a2) (bit 0 a2)))")]);
        rejects("BITBLAST", &[], &[Param::Term("(= (from_bool (bit 0 a2) (bit 1 a2)) a2)")]);
        rejects("BITBLAST", &[], &[Param::Word(1 << 20)]);
    }
}
