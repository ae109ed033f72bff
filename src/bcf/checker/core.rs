//! Rules about equality, constants and the goal.

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::rewrite::{self, Conditions};
use super::{Checker, Fact, Policy, RuleError, ensure, shape};
use crate::bcf::eval::Value;
use crate::bcf::expr::{Arena, ExprId, MAX_CONST_WIDTH};
use crate::bcf::proof::Step;

type Result<T> = std::result::Result<T, RuleError>;

/// What an ASSUME step assumes.
pub(super) fn assumed(checker: &Checker<'_>, step: &Step<'_>) -> Result<ExprId> {
    let ([], [goal]) = shape(step)?;
    checker.formula(goal)
}

/// ⊢ the goal, which [`Checker::new`] has matched
pub(super) fn assume(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    Ok(Fact::Expr(assumed(checker, step)?))
}

/// ⊢ x = its value, x being closed
pub(super) fn evaluate(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [x]) = shape(step)?;
    let x = checker.term(x)?;
    if checker.policy == Policy::Reference {
        checker.ensure_evaluated_by_reference(x)?;
    }
    let value =
        checker.closed.eval(&checker.arena, x).ok_or(RuleError::Invalid("the term must be closed"))?;
    let value = match value {
        Value::Bool(value) => checker.arena.truth(value),
        Value::Bv(value) => match value.to_u64() {
            Some(bits) if value.width() <= MAX_CONST_WIDTH => checker.arena.bv_const(value.width(), bits),
            _ => return Err(RuleError::Invalid("the term is wider than a constant can be")),
        },
    };
    Ok(Fact::Eq(x, value))
}

/// ⊢ ¬(v = w) for constants of one type that differ
pub(super) fn distinct_values(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [v, w]) = shape(step)?;
    let (v, w) = (checker.term(v)?, checker.term(w)?);
    // Lists have the same operation as constants but no values.
    let constant = |id| matches!(checker.arena.code(id), BCF_BV_CONST | BCF_BOOL_CONST);
    ensure(constant(v) && constant(w), "expects two constants")?;
    ensure(v != w, "the constants must differ")?;
    let equality = checker.arena.add(BCF_BOOL_EQ, 0, &[v, w])?;
    Ok(Fact::Expr(checker.not(equality)))
}

/// ⊢ an instance of a rewrite, the premises being its conditions
///
/// Number 0 stands for a rewrite of the solver that the format has no name for.
pub(super) fn apply_rewrite(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let (&number, args) =
        step.params.split_first().ok_or(RuleError::Invalid("wrong number of parameters"))?;
    if number == 0 {
        let ([], [_, claim]) = shape(step)?;
        let claim = checker.formula(claim)?;
        ensure(checker.policy == Policy::Reference, "a rewrite without a name would have to be believed")?;
        checker.report.trusted_rewrite += 1;
        return Ok(Fact::Expr(claim));
    }
    let args: SmallVec<[ExprId; 12]> = args.iter().map(|&arg| checker.term(arg)).collect::<Result<_>>()?;
    let premises: Conditions = step.premises.iter().map(|&premise| checker.fact_expr(premise)).collect();
    let Checker { arena, closed, policy, .. } = checker;
    let (left, right) = rewrite::apply(arena, closed, number, &args, &premises, *policy)?;
    Ok(Fact::Eq(left, right))
}

/// ⊢ x = x
pub(super) fn refl(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [x]) = shape(step)?;
    let x = checker.term(x)?;
    ensure_value(&checker.arena, x)?;
    Ok(Fact::Eq(x, x))
}

/// x = y ⊢ y = x; ¬(x = y) ⊢ ¬(y = x)
pub(super) fn symm(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], []) = shape(step)?;
    if let Ok([x, y]) = checker.equality(premise) {
        return Ok(Fact::Eq(y, x));
    }
    let equality = checker.negated(premise)?;
    let [x, y] = checker.parts(equality, BCF_BOOL_EQ, "the premise must be an equality or negate one")?;
    let swapped = checker.arena.eq(y, x);
    Ok(Fact::Expr(checker.not(swapped)))
}

/// x = y, y = z, … ⊢ x = z
pub(super) fn trans(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    ensure(step.params.is_empty(), "wrong number of parameters")?;
    let (&first, rest) = step.premises.split_first().ok_or(RuleError::Invalid("wrong number of premises"))?;
    let [left, mut right] = checker.equality(first)?;
    for &premise in rest {
        let [x, y] = checker.equality(premise)?;
        ensure(x == right, "an equality must go on where the one before it ends")?;
        right = y;
    }
    Ok(Fact::Eq(left, right))
}

/// x0 = y0, x1 = y1, … ⊢ f(x0, x1, …) = f(y0, y1, …)
///
/// The parameter is the header of f. As a constant's arguments are numbers, and not terms, f is no constant; the published checker
/// lets it be one, and takes as many arguments as the header says, whatever the number of premises.
pub(super) fn cong(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let &[header] = step.params else { return Err(RuleError::Invalid("wrong number of parameters")) };
    ensure(!step.premises.is_empty(), "wrong number of premises")?;
    let head: BcfExpr = bytemuck::cast(header);
    ensure(usize::from(head.vlen) == step.premises.len(), "expects a premise for each argument")?;
    ensure(head.kind() != BCF_LIST, "lists are not equal to each other")?;

    let mut args = std::mem::take(&mut checker.scratch);
    args.clear();
    let mut changed = false;
    for &premise in step.premises {
        let [x, y] = checker.equality(premise)?;
        args.push(x);
        changed |= x != y;
    }
    let left = checker.arena.add(head.code, head.params, &args)?;
    let mut right = left;
    if changed {
        args.clear();
        for &premise in step.premises {
            args.push(checker.equality(premise)?[1]);
        }
        // Its arguments are of the same types.
        right = checker.arena.intern(head.code, head.params, &args);
    }
    checker.scratch = args;
    Ok(Fact::Eq(left, right))
}

/// x ⊢ x = true
pub(super) fn true_intro(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], []) = shape(step)?;
    let x = checker.fact_expr(premise);
    Ok(Fact::Eq(x, checker.arena.truth(true)))
}

/// x = true ⊢ x
pub(super) fn true_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], []) = shape(step)?;
    let [x, y] = checker.equality(premise)?;
    ensure(y == checker.arena.truth(true), "the right side must be true")?;
    Ok(Fact::Expr(x))
}

/// ¬x ⊢ x = false
pub(super) fn false_intro(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], []) = shape(step)?;
    let x = checker.negated(premise)?;
    Ok(Fact::Eq(x, checker.arena.truth(false)))
}

/// x = false ⊢ ¬x
pub(super) fn false_elim(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([premise], []) = shape(step)?;
    let [x, y] = checker.equality(premise)?;
    ensure(y == checker.arena.truth(false), "the right side must be false")?;
    Ok(Fact::Expr(checker.not(x)))
}

/// Lists are no values: the format has no equality of them.
fn ensure_value(arena: &Arena, id: ExprId) -> Result<()> {
    ensure(arena.kind(id) != BCF_LIST, "expects a bit-vector or a Boolean expression")
}

/// Frames of the published checker's stack for evaluation.
const REFERENCE_FRAMES: u32 = 192;

/// Terms that the published checker was found to evaluate, with the frames that each takes.
#[derive(Default)]
pub(super) struct Evaluation {
    frames: FxHashMap<ExprId, u32>,
}

impl Checker<'_> {
    /// The published checker evaluates fewer terms than have a value.
    ///
    /// # Errors
    /// Its errno for the others.
    fn ensure_evaluated_by_reference(&mut self, root: ExprId) -> Result<()> {
        let width = self.arena.width(root);
        ensure(
            self.arena.is_bool(root) || (1..=MAX_CONST_WIDTH).contains(&width),
            "expects a Boolean expression, or one of at most 64 bits",
        )?;
        // Nodes on the way down: which argument is next, and the frames that the arguments before it take.
        let mut path = vec![(root, 0u32, 1u32)];
        while let Some((id, next, frames)) = path.pop() {
            if let Some(&arg) = self.evaluated_args(id).get(next as usize) {
                match self.evaluation.frames.get(&arg) {
                    // The node's own frame, and one for each value before this.
                    Some(&arg_frames) => path.push((id, next + 1, frames.max(1 + next + arg_frames))),
                    None => path.extend([(id, next, frames), (arg, 0, 1)]),
                }
                continue;
            }
            self.ensure_operation_of_reference(id)?;
            if frames > REFERENCE_FRAMES {
                return Err(RuleError::TooBig("the term is too deep"));
            }
            self.evaluation.frames.insert(id, frames);
        }
        Ok(())
    }

    /// The arguments on whose values the value depends.
    fn evaluated_args(&self, id: ExprId) -> &[ExprId] {
        if self.arena.code(id) == BCF_BV_SIZE { &[] } else { self.arena.args(id) }
    }

    /// Whether the published checker evaluates this operation on these values.
    fn ensure_operation_of_reference(&mut self, id: ExprId) -> Result<()> {
        ensure(!self.arena.is_variable(id), "the term must be closed")?;
        if self.arena.width(id) > MAX_CONST_WIDTH {
            return Err(RuleError::TooBig("a part is wider than 64 bits"));
        }
        let args = self.arena.args(id);
        match (self.arena.code(id), args) {
            (BCF_BV_SDIV | BCF_BV_SMOD, _) => Err(RuleError::Unsupported("signed division is not evaluated")),
            (BCF_BV_NOT | BCF_BV_REPEAT, _) => {
                Err(RuleError::Invalid("bitwise not and repetition are not evaluated"))
            }
            (BCF_BV_UDIV | BCF_BV_UREM, &[_, divisor]) => {
                ensure(self.closed_bits(divisor) != Some(0), "division by zero is not evaluated")
            }
            (BCF_BV_NEG, &[x]) => {
                let lowest = 1 << (self.arena.width(x) - 1);
                ensure(self.closed_bits(x) != Some(lowest), "the lowest value's negation is not evaluated")
            }
            _ => Ok(()),
        }
    }

    /// The value of a closed bit-vector of at most 64 bits.
    fn closed_bits(&mut self, id: ExprId) -> Option<u64> {
        match self.closed.eval(&self.arena, id)? {
            Value::Bv(value) => value.to_u64(),
            Value::Bool(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Param::{Term, Word};
    use super::super::testing::{accepts, rejects};

    #[test]
    fn refl() {
        accepts("REFL", &[], &[Term("a8")], "(= a8 a8)");
        rejects("REFL", &[], &[Word(1 << 20)]);
        rejects("REFL", &[], &[Term("(list bv a8)")]);
        rejects("REFL", &["p"], &[Term("p")]);
    }
}
