//! Rules on clauses: chain resolution, and what brings literals into shape for it.

use bpftwin_uapi::bcf::BCF_BOOL_NOT;
use smallvec::SmallVec;

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

    let pivots: SmallVec<[ExprId; 32]> =
        pivots.iter().map(|&pivot| checker.formula(pivot)).collect::<Result<_>>()?;

    let mut clause = std::mem::take(&mut checker.scratch);
    clause.clear();
    for (i, (&premise, &pivot)) in rest.iter().zip(&pivots).enumerate() {
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

#[cfg(test)]
mod tests {
    use super::super::testing::Param::{Term, Word};
    use super::super::testing::{MiniProof, Param, accepts, concludes, rejects};
    use crate::bcf::checker::{CheckError, Policy, RuleError};

    #[test]
    fn resolution() {
        let (positive, negative) = (Word(1), Word(0));
        let p = Term("p");
        accepts("RESOLUTION", &["(or q p)", "(or (not p) r)"], &[positive, p], "(or q r)");
        accepts("RESOLUTION", &["(or q (not p))", "(or p r)"], &[negative, p], "(or q r)");
        accepts("RESOLUTION", &["p", "(not p)"], &[positive, p], "false");
        accepts("RESOLUTION", &["p", "(or (not p) q)"], &[positive, p], "q");
        accepts("RESOLUTION", &["(or p p)", "(not p)"], &[positive, p], "p");
        accepts(
            "RESOLUTION",
            &["(or p q)", "(not p)", "(or (not q) r (= a8 b8))"],
            &[Word(3), p, Term("q")],
            "(or r (= a8 b8))",
        );
        rejects("RESOLUTION", &["p"], &[positive]);
        rejects("RESOLUTION", &["p", "(not p)"], &[positive]);
        rejects("RESOLUTION", &["p", "(not p)"], &[Word(2), p]);
        rejects("RESOLUTION", &["p", "(not p)"], &[positive, Term("a8")]);
        rejects("RESOLUTION", &["p", "(not p)"], &[positive, Word(1 << 20)]);
    }

    #[test]
    fn only_the_pivot_of_the_right_polarity_leaves() {
        let p = Term("p");
        accepts("RESOLUTION", &["(or q p)", "(or (not p) r)"], &[Word(0), p], "(or q p (not p) r)");
        accepts("RESOLUTION", &["(or q p)", "(or p r)"], &[Word(1), p], "(or q p r)");
        accepts("RESOLUTION", &["q", "r"], &[Word(1), p], "(or q r)");
    }

    #[test]
    fn a_disjunction_can_be_a_literal() {
        let pivot = Term("(or p q)");
        accepts("RESOLUTION", &["(or p q)", "(or (not (or p q)) r)"], &[Word(1), pivot], "r");
        accepts("RESOLUTION", &["(or (or p q) s)", "(not (or p q))"], &[Word(1), pivot], "s");
        accepts(
            "RESOLUTION",
            &["(or p q)", "(or (not (or p q)) r)"],
            &[Word(1), Term("s")],
            "(or p q (not (or p q)) r)",
        );
    }

    #[test]
    fn long_chains_and_long_clauses() {
        // 40 unit clauses leave nothing of the first clause.
        let names: Vec<String> =
            (0..40).map(|i| format!("{}{}", (b'p' + i % 8) as char, "x".repeat(i.into()))).collect();
        let mut premises = vec![format!("(or {})", names.join(" "))];
        premises.extend(names.iter().map(|name| format!("(not {name})")));
        let premises: Vec<&str> = premises.iter().map(String::as_str).collect();
        let mut params = vec![Word(u32::MAX), Word(0xff)];
        params.extend(names.iter().map(|name| Term(name)));
        accepts("RESOLUTION", &premises, &params, "false");
        params[1] = Word(0x1ff);
        rejects("RESOLUTION", &premises, &params);

        let wide = format!("(or{})", " q".repeat(128));
        let longest = format!("(or{})", " q".repeat(255));
        let resolve = |other: &str| {
            concludes(Policy::Strict, "RESOLUTION", &[&wide, other], &[Word(1), Term("p")], &longest)
        };
        assert_eq!(resolve(&format!("(or{})", " q".repeat(127))), Ok(true));
        assert_eq!(resolve(&wide).map_err(|error: RuleError| error.errno()), Err(libc::E2BIG));
        // Pivots are looked at before anything is resolved.
        rejects("RESOLUTION", &[&wide, &wide, "p"], &[Word(3), Term("p"), Term("a8")]);
    }

    fn bytes(bytes: &[u8]) -> Vec<Param<'static>> {
        let words = bytes.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            Word(u32::from_ne_bytes(word))
        });
        words.collect()
    }

    #[test]
    fn factoring() {
        let clause = &["(or p q p r q p)"];
        accepts("FACTORING", clause, &bytes(&[3, 0, 2, 5, 2, 1, 4]), "(or p q r)");
        accepts("FACTORING", clause, &bytes(&[2, 1, 4]), "(or p q p r p)");
        accepts("FACTORING", &["(or p p)"], &bytes(&[2, 0, 1, 0]), "p");
        for places in [
            &[3, 0, 2, 1][..],   // not equal
            &[2, 0, 6],          // past the end
            &[2, 6, 7],          // likewise
            &[2, 2, 0],          // not after the first
            &[2, 1, 4, 2, 0, 2], // first places descend
            &[1, 0, 0, 0],       // nothing to drop
            &[0, 0, 0, 0],       // likewise
            &[5, 0, 2, 5],       // cut off
            &[2, 0, 2, 0, 1],    // something after the end
        ] {
            rejects("FACTORING", clause, &bytes(places));
        }
        rejects("FACTORING", clause, &[]);
        rejects("FACTORING", &["(and p p)"], &bytes(&[2, 0, 1]));
    }

    fn halves(halves: &[u16]) -> Vec<Param<'static>> {
        bytes(&halves.iter().flat_map(|half| half.to_ne_bytes()).collect::<Vec<u8>>())
    }

    #[test]
    fn reordering() {
        let clause = &["(or p q r)"];
        accepts("REORDERING", clause, &[], "(or p q r)");
        accepts("REORDERING", &["p"], &[], "p");
        accepts("REORDERING", &["p"], &[Word(77)], "p");
        accepts("REORDERING", clause, &halves(&[1, 0x0200]), "(or r q p)");
        accepts("REORDERING", clause, &halves(&[2, 0x0200, 0x0001, 0]), "(or q r p)");
        for swaps in
            [&[1, 0x0300][..], &[1, 0x0003], &[2, 0x0200], &[1, 0x0200, 0, 0], &[0, 1], &[4, 0, 0, 0, 0, 0]]
        {
            rejects("REORDERING", clause, &halves(swaps));
        }
        rejects("REORDERING", &["p", "q"], &[]);
    }

    /// The clause that goes on unchanged has to outlive the one that it is.
    #[test]
    fn facts_that_are_the_same_are_used_apart() {
        let mut proof = MiniProof::new();
        let goal = proof.step("ASSUME", &[], &[Term("(and (not p) (not q))")]);
        let not_p = proof.step("AND_ELIM", &[goal], &[Word(0)]);
        let not_q = proof.step("AND_ELIM", &[goal], &[Word(1)]);
        let split = proof.step("SPLIT", &[], &[Term("(or p q)")]);
        let clause = proof.step("CNF_OR_POS", &[], &[Term("(or p q)")]);
        let clause = proof.step("RESOLUTION", &[split, clause], &[Word(1), Term("(or p q)")]);
        let clause = proof.step("REORDERING", &[clause], &[]);
        let clause = proof.step("AND_INTRO", &[clause], &[]);
        let rest = proof.step("RESOLUTION", &[clause, not_p, not_q], &[Word(3), Term("p"), Term("q")]);
        proof.step("NOT_OR_ELIM", &[rest], &[Word(0)]);
        let error = proof.check(Policy::Strict);
        assert_eq!(error, Err(CheckError::NoRefutation(9)));
    }
}
