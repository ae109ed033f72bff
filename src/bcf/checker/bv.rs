//! Rules about bit-vectors.

use super::{Checker, Fact, RuleError};
use crate::bcf::proof::Step;

/// ⊢ t = its bits
pub(super) fn bitblast(_: &mut Checker<'_>, _: &Step<'_>) -> Result<Fact, RuleError> {
    Err(RuleError::Unsupported("BITBLAST is not there yet"))
}

/// ⊢ x = y for polynomials that have one normal form
pub(super) fn poly_norm(_: &mut Checker<'_>, _: &Step<'_>) -> Result<Fact, RuleError> {
    Err(RuleError::Unsupported("POLY_NORM is not there yet"))
}

/// c·(x − y) = d·(z − w) ⊢ (x = y) = (z = w), c and d being odd
pub(super) fn poly_norm_eq(_: &mut Checker<'_>, _: &Step<'_>) -> Result<Fact, RuleError> {
    Err(RuleError::Unsupported("POLY_NORM_EQ is not there yet"))
}
