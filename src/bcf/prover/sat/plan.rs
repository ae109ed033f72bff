//! Plans: which clauses derive which, before an order of resolutions is chosen.

use super::{Lit, MAX_VARS};

/// Clauses one after the other in one vector.
#[derive(Clone, Debug, Default)]
pub(super) struct Clauses {
    lits: Vec<Lit>,
    ends: Vec<u32>,
}

impl Clauses {
    pub(super) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    pub(super) fn get(&self, index: u32) -> &[Lit] {
        let start = if index == 0 { 0 } else { self.ends[index as usize - 1] };
        &self.lits[start as usize..self.ends[index as usize] as usize]
    }

    pub(super) fn push(&mut self, clause: &[Lit]) {
        self.lits.extend_from_slice(clause);
        self.ends.push(self.lits.len() as u32);
    }
}

/// The clauses to refute, as sets.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) vars: u32,
    /// Sorted, without repeated literals.
    pub(super) clauses: Clauses,
    /// The indices of the clauses that are not tautologies: others help no refutation.
    pub(super) useful: Vec<u32>,
}

impl Problem {
    /// `None` if there are too many clauses or variables, or a literal is none of the variables'.
    pub(super) fn new<C: AsRef<[Lit]>>(vars: u32, originals: &[C]) -> Option<Self> {
        let lits: usize = originals.iter().map(|clause| clause.as_ref().len()).sum();
        if vars > MAX_VARS || originals.len() > MAX_VARS as usize || lits > i32::MAX as usize {
            return None;
        }
        let mut clauses = Clauses::default();
        let mut useful = Vec::with_capacity(originals.len());
        let mut sorted: Vec<Lit> = Vec::new();
        for (index, clause) in originals.iter().enumerate() {
            sorted.clear();
            sorted.extend_from_slice(clause.as_ref());
            sorted.sort_unstable();
            sorted.dedup();
            if sorted.last().is_some_and(|last| last.var() >= vars) {
                return None;
            }
            // A literal and its negation are neighbours in this order.
            if sorted.windows(2).all(|pair| pair[0].var() != pair[1].var()) {
                useful.push(index as u32);
            }
            clauses.push(&sorted);
        }
        Some(Self { vars, clauses, useful })
    }
}

/// A clause and what it follows from: `start` resolved with the reasons, each on its literal.
///
/// Ids below the number of original clauses are those; lemma `i` of a plan has the id `originals + i`.
#[derive(Clone, Debug)]
pub(super) struct Lemma {
    pub(super) lits: Vec<Lit>,
    pub(super) start: u32,
    /// The literals to resolve away, with the clause that holds the negation. A literal occurs only in `start` and in
    /// the clauses of earlier reasons; all literals left over are in `lits`.
    pub(super) reasons: Vec<(Lit, u32)>,
}

impl Lemma {
    /// The ids of all clauses used.
    pub(super) fn premises(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.start).chain(self.reasons.iter().map(|&(_, reason)| reason))
    }

    fn premises_mut(&mut self) -> impl Iterator<Item = &mut u32> {
        std::iter::once(&mut self.start).chain(self.reasons.iter_mut().map(|(_, reason)| reason))
    }
}

/// A refutation of a [`Problem`], the order of resolutions left open.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) lemmas: Vec<Lemma>,
    /// The id of the empty clause: the last lemma, or an original clause if there are no lemmas.
    pub(super) empty: u32,
}

impl Plan {
    /// Removes the lemmas that the empty clause does not need. `originals` is the number of original clauses.
    pub(super) fn trim(&mut self, originals: u32) {
        let Some(last) = self.empty.checked_sub(originals) else {
            self.lemmas.clear();
            return;
        };
        self.lemmas.truncate(last as usize + 1);
        let mut needed = vec![false; self.lemmas.len()];
        needed[last as usize] = true;
        for index in (0..self.lemmas.len()).rev() {
            if needed[index] {
                for id in self.lemmas[index].premises() {
                    if let Some(lemma) = id.checked_sub(originals) {
                        needed[lemma as usize] = true;
                    }
                }
            }
        }
        let mut renumbered = Vec::with_capacity(needed.len());
        let mut next = originals;
        for &needed in &needed {
            renumbered.push(next);
            next += u32::from(needed);
        }
        let mut needed = needed.into_iter();
        self.lemmas.retain(|_| needed.next().unwrap_or(false));
        for lemma in &mut self.lemmas {
            for id in lemma.premises_mut() {
                if let Some(lemma) = id.checked_sub(originals) {
                    *id = renumbered[lemma as usize];
                }
            }
        }
        self.empty = next - 1;
    }
}

/// Finds out which resolutions derive a clause from antecedents, by unit propagation through them in their order.
#[derive(Debug)]
pub(super) struct Deriver {
    /// By literal: false, or true by assumption or by a reason.
    values: Vec<Value>,
    /// The literals that are true.
    trail: Vec<Lit>,
    /// By literal: false literals of clauses that are resolved.
    seen: Vec<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    NotTrue,
    Assumed,
    Implied(u32),
}

impl Deriver {
    pub(super) fn new(vars: u32) -> Self {
        Self {
            values: vec![Value::NotTrue; 2 * vars as usize],
            trail: Vec::new(),
            seen: vec![false; 2 * vars as usize],
        }
    }

    /// Derives a subset of `target` from the clauses `hints`, of which every one is expected to imply another literal
    /// when `target` is false, up to one that is false; hints that do not are passed over. `None` without a false one.
    pub(super) fn derive<'a>(
        &mut self,
        target: &[Lit],
        hints: impl Iterator<Item = u32>,
        clause: impl Fn(u32) -> &'a [Lit],
    ) -> Option<Lemma> {
        for &lit in target {
            self.assign(!lit, Value::Assumed);
        }
        let mut conflict = None;
        for hint in hints {
            let mut open = clause(hint).iter().filter(|lit| !self.is_true(!**lit));
            match (open.next(), open.next()) {
                (None, _) => {
                    conflict = Some(hint);
                    break;
                }
                (Some(&lit), None) if !self.is_true(lit) => self.assign(lit, Value::Implied(hint)),
                _ => {}
            }
        }
        let lemma = conflict.map(|start| self.analyze(start, clause));
        self.clear();
        lemma
    }

    pub(super) fn assign(&mut self, lit: Lit, value: Value) {
        self.values[lit.index()] = value;
        self.trail.push(lit);
    }

    pub(super) fn is_true(&self, lit: Lit) -> bool {
        self.values[lit.index()] != Value::NotTrue
    }

    /// Forgets all values.
    pub(super) fn clear(&mut self) {
        for lit in self.trail.drain(..) {
            self.values[lit.index()] = Value::NotTrue;
        }
    }

    /// Walks back from the false clause `start` along the reasons.
    pub(super) fn analyze<'a>(&mut self, start: u32, clause: impl Fn(u32) -> &'a [Lit]) -> Lemma {
        let mut lemma = Lemma { lits: Vec::new(), start, reasons: Vec::new() };
        for &lit in clause(start) {
            self.seen[lit.index()] = true;
        }
        for &lit in self.trail.iter().rev() {
            if !std::mem::take(&mut self.seen[(!lit).index()]) {
                continue;
            }
            match self.values[lit.index()] {
                Value::Implied(reason) => {
                    lemma.reasons.push((!lit, reason));
                    for &other in clause(reason).iter().filter(|other| **other != lit) {
                        self.seen[other.index()] = true;
                    }
                }
                Value::Assumed | Value::NotTrue => lemma.lits.push(!lit),
            }
        }
        lemma.lits.sort_unstable();
        lemma
    }
}
