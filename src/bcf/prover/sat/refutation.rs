//! What a proof of unsatisfiability looks like, and an independent check of it.
//!
//! A [`Refutation`] speaks the language of the proof format: clauses are *lists* of literals, resolution appends the
//! rest of one list to the rest of the other and merges nothing, and a step of its own
//! ([`Derivation::Factor`]) merges equal literals.

use super::{Bounds, ClauseId, Lit};

/// One resolution within a chain: the running clause loses the first `pivot`, `clause` its first `!pivot`, and
/// what remains of `clause` is appended to the running clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub clause: ClauseId,
    /// The literal as it stands in the running clause.
    pub pivot: Lit,
}

/// How a clause is derived from earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Derivation {
    /// A chain of at least one resolution (`BCF_RULE_RESOLUTION`).
    Resolve { start: ClauseId, links: Vec<Link> },
    /// The clause without its repeated literals; the first of each kind stays (`BCF_RULE_FACTORING`). At least one
    /// literal is repeated. `groups` is the rule's parameter before it is packed into words: for each repeated
    /// literal how many there are and where, first places ascending.
    Factor { clause: ClauseId, groups: Vec<u8> },
}

/// A derived clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub how: Derivation,
    /// The clause, its literals in the very order that the derivation gives them.
    pub result: Vec<Lit>,
}

/// A derivation of the empty clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refutation {
    /// How many original clauses there are: they have the ids `0..originals`, `steps[i]` has `originals + i`.
    pub originals: u32,
    /// The derived clauses, every one of them used by a later one or empty and last.
    pub steps: Vec<Step>,
    /// The empty clause: the last step, or an original clause when there are no steps.
    pub empty: ClauseId,
}

/// Why [`Refutation::check`] found fault with a refutation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("step {step} uses clause {clause}, which does not exist yet")]
    Unknown { step: usize, clause: u32 },
    #[error("step {step}: link {link}'s pivot is not in both clauses")]
    Pivot { step: usize, link: usize },
    #[error("step {step} has another result than it says")]
    Result { step: usize },
    #[error("step {step} does nothing")]
    Idle { step: usize },
    #[error("step {step} exceeds the bounds")]
    Bounds { step: usize },
    #[error("step {step} is not used")]
    Unused { step: usize },
    #[error("the clause said to be empty is not the last one or not empty")]
    NotEmpty,
}

impl Refutation {
    /// The literals of the clause with this id; `originals` are the clauses that were refuted.
    pub fn clause<'a, C: AsRef<[Lit]>>(&'a self, originals: &'a [C], id: ClauseId) -> Option<&'a [Lit]> {
        match id.0.checked_sub(self.originals) {
            None => originals.get(id.0 as usize).map(AsRef::as_ref),
            Some(step) => self.steps.get(step as usize).map(|step| step.result.as_slice()),
        }
    }

    /// Replays every step.
    pub fn check<C: AsRef<[Lit]>>(&self, originals: &[C], bounds: &Bounds) -> Result<(), Fault> {
        let mut used = vec![false; self.steps.len()];
        for (step, derived) in self.steps.iter().enumerate() {
            let mut premise = |id: ClauseId| {
                if id.0 as usize >= self.originals as usize + step {
                    return Err(Fault::Unknown { step, clause: id.0 });
                }
                if let Some(index) = id.0.checked_sub(self.originals) {
                    used[index as usize] = true;
                }
                self.clause(originals, id).ok_or(Fault::Unknown { step, clause: id.0 })
            };
            let mut running;
            match &derived.how {
                Derivation::Resolve { start, links } => {
                    if links.is_empty() {
                        return Err(Fault::Idle { step });
                    }
                    if links.len() >= bounds.premises {
                        return Err(Fault::Bounds { step });
                    }
                    running = premise(*start)?.to_vec();
                    for (index, link) in links.iter().enumerate() {
                        let clause = premise(link.clause)?;
                        resolve(&mut running, clause, link.pivot)
                            .ok_or(Fault::Pivot { step, link: index })?;
                        if running.len() > bounds.literals {
                            return Err(Fault::Bounds { step });
                        }
                    }
                }
                Derivation::Factor { clause, groups } => {
                    running = premise(*clause)?.to_vec();
                    let found = factor(&mut running).ok_or(Fault::Bounds { step })?;
                    if found.is_empty() {
                        return Err(Fault::Idle { step });
                    }
                    if found != *groups {
                        return Err(Fault::Result { step });
                    }
                }
            }
            if running != derived.result {
                return Err(Fault::Result { step });
            }
        }
        let last = match self.steps.len().checked_sub(1) {
            Some(last) => ClauseId(self.originals + last as u32),
            None => self.empty,
        };
        if last != self.empty || self.clause(originals, self.empty).is_none_or(|clause| !clause.is_empty()) {
            return Err(Fault::NotEmpty);
        }
        used.pop();
        used.iter().position(|used| !used).map_or(Ok(()), |step| Err(Fault::Unused { step }))
    }

    /// The original clauses that are used, ascending.
    pub fn core(&self) -> Vec<u32> {
        let mut core = Vec::new();
        let mut add = |id: ClauseId| {
            if id.0 < self.originals {
                core.push(id.0);
            }
        };
        add(self.empty);
        for step in &self.steps {
            match &step.how {
                Derivation::Resolve { start, links } => {
                    add(*start);
                    links.iter().for_each(|link| add(link.clause));
                }
                Derivation::Factor { clause, .. } => add(*clause),
            }
        }
        core.sort_unstable();
        core.dedup();
        core
    }

    /// The bytes that this takes in a proof when original clause `i` takes `cost(i)` bytes.
    pub fn bytes(&self, cost: &dyn Fn(u32) -> u32) -> u64 {
        let core: u64 = self.core().into_iter().map(|original| u64::from(cost(original))).sum();
        core + self.steps.iter().map(|step| step.bytes()).sum::<u64>()
    }
}

impl Step {
    /// The bytes of the step in a proof.
    pub(super) fn bytes(&self) -> u64 {
        match &self.how {
            // A header and the first premise; then for each link a premise, a pivot and a polarity bit.
            Derivation::Resolve { links, .. } => {
                8 + 8 * links.len() as u64 + 4 * links.len().div_ceil(32) as u64
            }
            // A header, the premise, the groups.
            Derivation::Factor { groups, .. } => 8 + 4 * groups.len().div_ceil(4) as u64,
        }
    }
}

/// Resolves `running` with `clause` as the proof format does it. `None` if either lacks the pivot.
pub(super) fn resolve(running: &mut Vec<Lit>, clause: &[Lit], pivot: Lit) -> Option<()> {
    let here = running.iter().position(|&lit| lit == pivot)?;
    let there = clause.iter().position(|&lit| lit == !pivot)?;
    running.remove(here);
    running.extend_from_slice(&clause[..there]);
    running.extend_from_slice(&clause[there + 1..]);
    Some(())
}

/// Drops all but the first of equal literals; returns the groups of [`Derivation::Factor`]. `None`, leaving the clause
/// alone, if one of them does not fit in a byte.
pub(super) fn factor(clause: &mut Vec<Lit>) -> Option<Vec<u8>> {
    // Clauses are short, so a quadratic scan beats a map.
    let mut groups = Vec::new();
    for (first, lit) in clause.iter().enumerate() {
        if clause[..first].contains(lit) {
            continue;
        }
        let header = groups.len();
        for (place, _) in clause.iter().enumerate().skip(first).filter(|(_, other)| *other == lit) {
            if place == first {
                groups.push(0);
            }
            groups.push(u8::try_from(place).ok()?);
        }
        match groups.len() - header - 1 {
            1 => groups.truncate(header),
            count => groups[header] = u8::try_from(count).ok()?,
        }
    }
    let mut kept = 0;
    for index in 0..clause.len() {
        if !clause[..kept].contains(&clause[index]) {
            clause[kept] = clause[index];
            kept += 1;
        }
    }
    clause.truncate(kept);
    Some(groups)
}
