//! Takes an assumed formula apart into facts: what holds by itself, each with the step that says so.

use bpftwin_uapi::bcf::*;
use smallvec::SmallVec;

use super::builder::{Builder, Param, StepId};
use crate::bcf::expr::ExprId;

/// A formula that holds, and the step that has it as its fact.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    pub formula: ExprId,
    pub step: StepId,
}

/// The parts of a fact that hold on their own: conjuncts, negated disjuncts.
pub fn split(b: &mut Builder, whole: Fact) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut seen = rustc_hash::FxHashSet::default();
    let mut stack = vec![whole];
    while let Some(fact) = stack.pop() {
        if !seen.insert(fact.formula) {
            continue;
        }
        match parts(b, fact) {
            Some(parts) => stack.extend(parts.into_iter().rev()),
            None => facts.push(fact),
        }
    }
    facts
}

fn parts(b: &mut Builder, fact: Fact) -> Option<SmallVec<[Fact; 8]>> {
    let step = |b: &mut Builder, rule, index: Option<u32>| {
        let params: SmallVec<[Param; 1]> = index.map(Param::Word).into_iter().collect();
        b.step(rule, &[fact.step], &params)
    };
    let args: SmallVec<[ExprId; 8]> = b.arena.args(fact.formula).into();
    match b.arena.code(fact.formula) {
        BCF_BOOL_AND => Some(
            (0..)
                .zip(args)
                .map(|(index, formula)| Fact { formula, step: step(b, BCF_RULE_AND_ELIM, Some(index)) })
                .collect(),
        ),
        BCF_BOOL_NOT => {
            let inner: SmallVec<[ExprId; 8]> = b.arena.args(args[0]).into();
            match (b.arena.code(args[0]), &inner[..]) {
                (BCF_BOOL_NOT, &[formula]) => Some(SmallVec::from_slice(&[Fact {
                    formula,
                    step: step(b, BCF_RULE_NOT_NOT_ELIM, None),
                }])),
                (BCF_BOOL_OR, inner) => Some(
                    (0..)
                        .zip(inner)
                        .map(|(index, &part)| {
                            let formula = b.arena.not(part);
                            Fact { formula, step: step(b, BCF_RULE_NOT_OR_ELIM, Some(index)) }
                        })
                        .collect(),
                ),
                (BCF_BOOL_IMPLIES, &[from, to]) => {
                    let first = Fact { formula: from, step: step(b, BCF_RULE_NOT_IMPLIES_ELIM, Some(0)) };
                    let formula = b.arena.not(to);
                    let second = Fact { formula, step: step(b, BCF_RULE_NOT_IMPLIES_ELIM, Some(1)) };
                    Some(SmallVec::from_slice(&[first, second]))
                }
                _ => None,
            }
        }
        _ => None,
    }
}
