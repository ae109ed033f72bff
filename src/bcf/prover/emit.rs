//! Writes a refutation of clauses as steps of a proof.
//!
//! The solver knows literals; the proof knows terms, and `x` and `(not (not x))` are two of them. So clauses are followed here
//! literal by literal as the checker will see them, and where a resolution needs `x` but the clause says `(not (not x))`, the
//! clause is resolved with `(x or (not x))`, over the pivot `(not x)`, first.

use bpftwin_uapi::bcf::*;
use smallvec::SmallVec;

use super::builder::{Builder, Param, StepId};
use super::cnf::{Cnf, split, step_of, strip};
use super::sat::{ClauseId, Derivation, Lit, Refutation};
use crate::bcf::expr::{ExprId, MAX_ARGS};

/// Most premises of one RESOLUTION: of 255 parameters, 8 hold the polarities of the other 247, the pivots.
const MAX_CHAIN: usize = 248;

/// A clause with the step that has it as its fact.
#[derive(Clone)]
struct Fact {
    step: StepId,
    literals: SmallVec<[ExprId; 4]>,
}

/// The step that concludes `false`; `None` if a clause passes the format's limits.
pub fn emit(b: &mut Builder, cnf: &Cnf, refutation: &Refutation) -> Option<StepId> {
    let mut derived: Vec<Fact> = Vec::with_capacity(refutation.steps.len());
    for step in &refutation.steps {
        let fact = |b: &mut Builder, id: ClauseId| clause(b, cnf, &derived, id);
        let result = match &step.how {
            Derivation::Factor { clause, .. } => {
                let fact = fact(b, *clause)?;
                factor(b, fact)?
            }
            Derivation::Resolve { start, links } => {
                let mut chain = Chain::new(fact(b, *start)?);
                for link in links {
                    let side = fact(b, link.clause)?;
                    chain.resolve(b, cnf, side, link.pivot)?;
                }
                chain.finish(b)
            }
        };
        derived.push(result);
    }
    Some(clause(b, cnf, &derived, refutation.empty)?.step)
}

fn clause(b: &mut Builder, cnf: &Cnf, derived: &[Fact], id: ClauseId) -> Option<Fact> {
    match cnf.clauses.get(id.0 as usize) {
        Some(clause) => Some(Fact { step: step_of(b, clause.source), literals: clause.literals.clone() }),
        None => derived.get(id.0 as usize - cnf.clauses.len()).cloned(),
    }
}

/// A RESOLUTION step in the making.
struct Chain {
    premises: SmallVec<[StepId; 8]>,
    pivots: SmallVec<[(ExprId, bool); 8]>,
    literals: SmallVec<[ExprId; 4]>,
}

impl Chain {
    fn new(start: Fact) -> Chain {
        Chain {
            premises: SmallVec::from_slice(&[start.step]),
            pivots: SmallVec::new(),
            literals: start.literals,
        }
    }

    /// Resolves the running clause, which holds `pivot`, with a clause that holds its negation.
    fn resolve(&mut self, b: &mut Builder, cnf: &Cnf, side: Fact, pivot: Lit) -> Option<()> {
        let ours = position(b, cnf, &self.literals, pivot)?;
        let theirs = position(b, cnf, &side.literals, !pivot)?;
        // One has to be the other's negation: level the deeper one down, two negations at a time.
        let (mut mine, other) = (self.literals[ours], side.literals[theirs]);
        let (_, target) = strip(b, other);
        while strip(b, mine).1 > target + 1 {
            mine = self.drop_two_negations(b, mine)?;
        }
        let (_, level) = strip(b, mine);
        let mut side = side;
        let mut other = other;
        if strip(b, other).1 > level + 1 {
            let mut levelled = Chain::new(side);
            while strip(b, other).1 > level + 1 {
                other = levelled.drop_two_negations(b, other)?;
            }
            side = levelled.finish(b);
        }
        self.link(b, &side, mine, other)
    }

    /// Exchanges `(not (not x))` for `x`, which is returned.
    fn drop_two_negations(&mut self, b: &mut Builder, literal: ExprId) -> Option<ExprId> {
        let inner = *b.arena.args(literal).first()?;
        let base = *b.arena.args(inner).first()?;
        let tautology = Fact { step: split(b, base), literals: SmallVec::from_slice(&[base, inner]) };
        self.link(b, &tautology, literal, inner)?;
        Some(base)
    }

    /// Resolves on two literals of which one is the other's negation.
    fn link(&mut self, b: &mut Builder, side: &Fact, mine: ExprId, other: ExprId) -> Option<()> {
        if self.premises.len() == MAX_CHAIN {
            let so_far = std::mem::replace(self, Chain::new(side.clone())).finish(b);
            *self = Chain::new(so_far);
        }
        let positive = b.arena.args(other) == [mine];
        let pivot = if positive { mine } else { other };
        self.pivots.push((pivot, positive));
        self.premises.push(side.step);
        remove_first(&mut self.literals, mine);
        let mut rest = side.literals.clone();
        remove_first(&mut rest, other);
        self.literals.extend_from_slice(&rest);
        (self.literals.len() <= MAX_ARGS).then_some(())
    }

    fn finish(self, b: &mut Builder) -> Fact {
        let step = match (&self.premises[..], &self.pivots[..]) {
            ([only], _) => *only,
            // Two units that contradict each other.
            (&[first, second], &[(_, positive)]) if self.literals.is_empty() => {
                let premises = if positive { [first, second] } else { [second, first] };
                b.step(BCF_RULE_CONTRA, &premises, &[])
            }
            (premises, pivots) => {
                let mut polarities = vec![0u32; pivots.len().div_ceil(32)];
                for (i, &(_, positive)) in pivots.iter().enumerate() {
                    polarities[i / 32] |= u32::from(positive) << (i % 32);
                }
                let params: SmallVec<[Param; 16]> = polarities
                    .into_iter()
                    .map(Param::Word)
                    .chain(pivots.iter().map(|&(pivot, _)| Param::Expr(pivot)))
                    .collect();
                b.step(BCF_RULE_RESOLUTION, premises, &params)
            }
        };
        Fact { step, literals: self.literals }
    }
}

/// Where a clause holds a literal, in whatever form.
fn position(b: &Builder, cnf: &Cnf, literals: &[ExprId], wanted: Lit) -> Option<usize> {
    literals.iter().position(|&literal| {
        let (base, negations) = strip(b, literal);
        cnf.var_of(base) == Some(wanted.var()) && (negations % 2 == 0) == wanted.is_positive()
    })
}

fn remove_first(literals: &mut SmallVec<[ExprId; 4]>, literal: ExprId) {
    if let Some(at) = literals.iter().position(|&other| other == literal) {
        literals.remove(at);
    }
}

/// The clause without repetitions.
fn factor(b: &mut Builder, fact: Fact) -> Option<Fact> {
    let fact = in_one_form(b, fact)?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut kept: SmallVec<[ExprId; 4]> = SmallVec::new();
    for (i, &literal) in fact.literals.iter().enumerate() {
        if kept.contains(&literal) {
            continue;
        }
        kept.push(literal);
        let places: SmallVec<[usize; 4]> = fact
            .literals
            .iter()
            .enumerate()
            .skip(i)
            .filter(|&(_, &other)| other == literal)
            .map(|(at, _)| at)
            .collect();
        if places.len() > 1 {
            bytes.push(u8::try_from(places.len()).ok()?);
            bytes.extend(places.iter().map(|&at| at as u8));
        }
    }
    if kept.len() == fact.literals.len() {
        return Some(fact);
    }
    let words: SmallVec<[Param; 8]> = bytes
        .chunks(4)
        .map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            Param::Word(u32::from_ne_bytes(word))
        })
        .collect();
    if words.len() > MAX_ARGS {
        return None;
    }
    Some(Fact { step: b.step(BCF_RULE_FACTORING, &[fact.step], &words), literals: kept })
}

/// The clause with every literal in the form that its first occurrence of fewest negations has.
fn in_one_form(b: &mut Builder, fact: Fact) -> Option<Fact> {
    let literals = fact.literals.clone();
    let mut chain = Chain::new(fact);
    for &literal in &literals {
        let (base, negations) = strip(b, literal);
        let least = literals
            .iter()
            .map(|&other| strip(b, other))
            .filter(|&(other, count)| other == base && count % 2 == negations % 2)
            .map(|(_, count)| count)
            .min()?;
        let mut form = literal;
        while strip(b, form).1 > least {
            form = chain.drop_two_negations(b, form)?;
        }
    }
    Some(chain.finish(b))
}
