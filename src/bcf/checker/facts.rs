//! What steps have concluded, for as long as a later step uses it.

use crate::bcf::expr::ExprId;
use crate::bcf::proof::StepNo;

/// What a step concludes.
///
/// An equality or a disjunction need not be a node of the arena: most are used up by the next step, as their parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    Expr(ExprId),
    /// `x = y`, of one type.
    Eq(ExprId, ExprId),
    /// A disjunction of two Boolean terms or more.
    Clause(Clause),
}

/// Literals in the [`Facts`] that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clause {
    start: u32,
    len: u8,
}

/// The facts of all steps so far.
///
/// Literals of all clauses stand in one buffer, in the order of their steps; it is compacted when half of it is of no use any more.
pub(super) struct Facts {
    facts: Vec<Fact>,
    literals: Vec<ExprId>,
    /// Literals of clauses that were released.
    dead: usize,
    /// What a released fact is replaced with: `true`.
    released: Fact,
}

impl Facts {
    /// Room for the facts of `steps` steps.
    pub fn new(steps: usize, truth: ExprId) -> Facts {
        Facts { facts: Vec::with_capacity(steps), literals: Vec::new(), dead: 0, released: Fact::Expr(truth) }
    }

    #[inline]
    pub fn get(&self, number: StepNo) -> Fact {
        self.facts[number as usize]
    }

    /// The next step's fact.
    #[inline]
    pub fn add(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// The fact of the next step as a clause; it must be the only one that is made for that step.
    #[inline]
    pub fn clause(&mut self, literals: &[ExprId]) -> Fact {
        let start = self.literals.len() as u32;
        self.literals.extend_from_slice(literals);
        Fact::Clause(Clause { start, len: literals.len() as u8 })
    }

    /// A copy of a fact, which is the next step's own.
    pub fn copy(&mut self, fact: Fact) -> Fact {
        let Fact::Clause(clause) = fact else { return fact };
        let start = self.literals.len() as u32;
        self.literals.extend_from_within(range(clause));
        Fact::Clause(Clause { start, ..clause })
    }

    #[inline]
    pub fn literals(&self, clause: Clause) -> &[ExprId] {
        &self.literals[range(clause)]
    }

    /// Literals of clauses that are in use.
    pub fn live_literals(&self) -> usize {
        self.literals.len() - self.dead
    }

    /// Says that a fact is used no more.
    #[inline]
    pub fn release(&mut self, number: StepNo) {
        let fact = std::mem::replace(&mut self.facts[number as usize], self.released);
        if let Fact::Clause(clause) = fact {
            self.dead += usize::from(clause.len);
            // As long as the walk over all facts, at least.
            if self.dead > self.live_literals() + self.facts.len() {
                self.compact();
            }
        }
    }

    fn compact(&mut self) {
        let mut end = 0;
        for fact in &mut self.facts {
            if let Fact::Clause(clause) = fact {
                self.literals.copy_within(range(*clause), end);
                clause.start = end as u32;
                end += usize::from(clause.len);
            }
        }
        self.literals.truncate(end);
        self.dead = 0;
    }
}

#[inline]
fn range(clause: Clause) -> std::ops::Range<usize> {
    let start = clause.start as usize;
    start..start + usize::from(clause.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_survive_compaction() {
        let mut facts = Facts::new(0, ExprId(0));
        let mut kept = Vec::new();
        for step in 0..1000 {
            let literals = [ExprId(step), ExprId(step + 1), ExprId(step + 2)];
            let fact = facts.clause(&literals);
            facts.add(fact);
            if step % 10 == 0 {
                kept.push((step, literals));
            } else {
                facts.release(step);
                facts.release(step);
            }
        }
        assert!(facts.literals.len() < 3000);
        assert_eq!(facts.live_literals(), 300);
        for (step, literals) in kept {
            let Fact::Clause(clause) = facts.get(step) else { panic!("no clause") };
            assert_eq!(facts.literals(clause), literals);
        }
    }
}
