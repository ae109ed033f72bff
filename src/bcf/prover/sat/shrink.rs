//! Making refutations smaller.

use super::plan::{Plan, Problem};
use super::schedule;
use super::{Limits, Lit, Refutation};

/// The smallest refutation found from this plan within the limits. `None` if none keeps to the bounds.
pub(super) fn shrink<C: AsRef<[Lit]>>(
    problem: &Problem,
    originals: &[C],
    plan: Plan,
    _cost: &dyn Fn(u32) -> u32,
    limits: &Limits,
) -> Option<Refutation> {
    schedule::schedule(problem.vars, originals, &plan, &limits.bounds)
}
