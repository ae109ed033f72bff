//! Rules about bit-vectors.

use super::{Checker, Fact, RuleError, bitblast, shape};
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
pub(super) fn poly_norm(_: &mut Checker<'_>, _: &Step<'_>) -> Result<Fact, RuleError> {
    Err(RuleError::Unsupported("POLY_NORM is not there yet"))
}

/// c·(x − y) = d·(z − w) ⊢ (x = y) = (z = w), c and d being odd
pub(super) fn poly_norm_eq(_: &mut Checker<'_>, _: &Step<'_>) -> Result<Fact, RuleError> {
    Err(RuleError::Unsupported("POLY_NORM_EQ is not there yet"))
}
