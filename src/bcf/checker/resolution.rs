//! Rules on clauses: chain resolution, and what brings literals into shape for it.

use bpftwin_uapi::bcf::BCF_BOOL_NOT;

use super::{Checker, Fact, RuleError, ensure};
use crate::bcf::expr::{ExprId, MAX_ARGS};
use crate::bcf::proof::{Step, StepNo};

type Result<T> = std::result::Result<T, RuleError>;

/// x ∨ l, ¬l ∨ y ⊢ x ∨ y, and so on along a chain of premises.
///
/// Each link has a pivot and a polarity: whether it is the pivot that leaves the clause so far and its negation that leaves the
/// next premise, or the other way round. Only the first such literal leaves. Where there is none the fact is weaker than
/// it could be, but a fact.
pub(super) fn resolution(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let links = step.premises.split_first().filter(|(_, rest)| !rest.is_empty());
    let (&first, rest) = links.ok_or(RuleError::Invalid("wrong number of premises"))?;
    let polarity_words = rest.len().div_ceil(32);
    ensure(step.params.len() == polarity_words + rest.len(), "wrong number of parameters")?;
    let (polarities, pivots) = step.params.split_at(polarity_words);
    ensure(unused_bits(polarities, rest.len()) == 0, "a polarity without a pivot is set")?;

    let mut clause = std::mem::take(&mut checker.scratch);
    clause.clear();
    for (i, (&premise, &pivot)) in rest.iter().zip(pivots).enumerate() {
        let pivot = checker.formula(pivot)?;
        let positive = polarities[i / 32] >> (i % 32) & 1 != 0;
        let negation = checker.negation(pivot);
        let (left, right) = if positive { (Some(pivot), negation) } else { (negation, Some(pivot)) };
        if i == 0 {
            checker.append_without(&mut clause, first, left)?;
        } else if let Some(at) = clause.iter().position(|&literal| Some(literal) == left) {
            clause.remove(at);
        }
        checker.append_without(&mut clause, premise, right)?;
    }
    let fact = checker.clause(&clause);
    checker.scratch = clause;
    Ok(fact)
}

/// The bits of the last polarity word that stand for no link.
fn unused_bits(polarities: &[u32], links: usize) -> u32 {
    match (polarities.last(), links % 32) {
        (Some(&last), used @ 1..) => last >> used,
        _ => 0,
    }
}

impl Checker<'_> {
    /// The term that negates this, if it exists: where it does not, no literal can be it.
    fn negation(&self, pivot: ExprId) -> Option<ExprId> {
        self.arena.find(BCF_BOOL_NOT, 0, &[pivot])
    }

    /// Appends a premise's literals but the first that is `removed`.
    fn append_without(
        &mut self,
        clause: &mut Vec<ExprId>,
        premise: StepNo,
        removed: Option<ExprId>,
    ) -> Result<()> {
        let fact = self.fact(premise);
        if removed.is_some_and(|removed| self.says(fact, removed)) {
            return Ok(());
        }
        let Some(literals) = self.disjuncts(fact) else {
            clause.push(self.expr(fact));
            return within_limit(clause);
        };
        match literals.iter().position(|&literal| Some(literal) == removed) {
            Some(at) => {
                clause.extend_from_slice(&literals[..at]);
                clause.extend_from_slice(&literals[at + 1..]);
            }
            None => clause.extend_from_slice(literals),
        }
        within_limit(clause)
    }
}

fn within_limit(clause: &[ExprId]) -> Result<()> {
    if clause.len() > MAX_ARGS {
        return Err(RuleError::TooBig("a clause gets more than 255 literals"));
    }
    Ok(())
}

/// x ∨ l ∨ … ∨ l ⊢ x ∨ l
///
/// The parameters are bytes: for each literal that occurs again, how many places follow, its first place, and the others. Places of
/// first occurrences ascend. A zero ends the list and is followed by zeros only.
pub(super) fn factoring(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let &[premise] = step.premises else { return Err(RuleError::Invalid("wrong number of premises")) };
    ensure(!step.params.is_empty(), "wrong number of parameters")?;
    let fact = checker.fact(premise);
    let literals = checker.disjuncts(fact).ok_or(RuleError::Invalid("the premise must be a disjunction"))?;

    let mut dropped = [false; MAX_ARGS];
    let mut any = false;
    let mut last_first = None;
    let mut bytes: &[u8] = bytemuck::cast_slice(step.params);
    while let Some((&count, rest)) = bytes.split_first() {
        if count == 0 {
            ensure(rest.iter().all(|&byte| byte == 0), "the list of places ends before its end")?;
            break;
        }
        let places = rest.split_at_checked(count.into()).filter(|_| count >= 2);
        let (places, rest) = places.ok_or(RuleError::Invalid("a list of places is cut off or too short"))?;
        let (first, others) = (places[0], &places[1..]);
        ensure(last_first.is_none_or(|last| first > last), "first places must ascend")?;
        let literal = literals.get(usize::from(first));
        for &place in others {
            ensure(
                place > first && literal.is_some() && literals.get(usize::from(place)) == literal,
                "the literals at these places must be equal",
            )?;
            dropped[usize::from(place)] = true;
            any = true;
        }
        last_first = Some(first);
        bytes = rest;
    }
    ensure(any, "there must be a literal to drop")?;

    let mut kept = std::mem::take(&mut checker.scratch);
    kept.clear();
    if let Some(literals) = checker.disjuncts(fact) {
        kept.extend(
            literals.iter().zip(&dropped).filter(|&(_, &dropped)| !dropped).map(|(&literal, _)| literal),
        );
    }
    let fact = checker.clause(&kept);
    checker.scratch = kept;
    Ok(fact)
}

/// x ∨ y ∨ … ⊢ the same literals in another order
///
/// The parameters are half-words: how many swaps, then each swap's two places, a byte each; the last word is filled up with
/// zero. The solver writes none for a premise that is no disjunction.
pub(super) fn reordering(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let &[premise] = step.premises else { return Err(RuleError::Invalid("wrong number of premises")) };
    let fact = checker.fact(premise);
    let Some(literals) = checker.disjuncts(fact).filter(|_| !step.params.is_empty()) else {
        return Ok(checker.same_fact(premise));
    };
    let halves: &[u16] = bytemuck::cast_slice(step.params);
    let (&count, rest) = halves.split_first().ok_or(RuleError::Invalid("wrong number of parameters"))?;
    let count = usize::from(count);
    ensure(count <= literals.len(), "more swaps than literals")?;
    ensure(step.params.len() == (count + 1).div_ceil(2), "wrong number of parameters")?;
    let (swaps, filler) = rest.split_at(count);
    ensure(filler.iter().all(|&half| half == 0), "the last half-word must be zero")?;

    let mut reordered = std::mem::take(&mut checker.scratch);
    reordered.clear();
    reordered.extend_from_slice(checker.disjuncts(fact).unwrap_or_default());
    for swap in swaps {
        let [j, k] = swap.to_le_bytes().map(usize::from);
        ensure(j < reordered.len() && k < reordered.len(), "a swap reaches over the end of the clause")?;
        reordered.swap(j, k);
    }
    let fact = checker.clause(&reordered);
    checker.scratch = reordered;
    Ok(fact)
}
