//! Unit propagation that looks for the shortest derivation.
//!
//! Every literal that propagation implies gets the cost of its cheapest derivation: of a clause whose other
//! literals are all false, its own weight and theirs together. As a derivation never costs less than its parts, the
//! literals can be settled in ascending order of cost, as Dijkstra's algorithm settles nodes (Knuth's generalisation of
//! it to grammars).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Lit;
use super::plan::{Clauses, Deriver, Lemma, Plan, Problem, Value};

/// How the costs of a clause's literals add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Their sum: the size of a derivation as a tree, which counts shared parts each time.
    Tree,
    /// Their maximum: how deep a derivation is.
    Depth,
}

/// Propagates in a growing set of clauses.
pub(super) struct Propagator {
    deriver: Deriver,
    /// By literal: the clauses that have it.
    occurrences: Vec<Vec<u32>>,
    /// The clauses of one literal.
    units: Vec<u32>,
    /// By clause: how many of its literals are not false yet, and what those that are cost.
    states: Vec<State>,
    touched: Vec<u32>,
    queue: BinaryHeap<Reverse<Event>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    open: u32,
    cost: u64,
}

/// A clause implies its last literal, or is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    cost: u64,
    lit: Option<Lit>,
    clause: u32,
}

impl Propagator {
    pub(super) fn new(vars: u32) -> Self {
        Self {
            deriver: Deriver::new(vars),
            occurrences: vec![Vec::new(); 2 * vars as usize],
            units: Vec::new(),
            states: Vec::new(),
            touched: Vec::new(),
            queue: BinaryHeap::new(),
        }
    }

    /// Adds a clause that is not empty and no tautology.
    pub(super) fn add(&mut self, clauses: &Clauses, id: u32) {
        let clause = clauses.get(id);
        for lit in clause {
            self.occurrences[lit.index()].push(id);
        }
        if clause.len() == 1 {
            self.units.push(id);
        }
        if self.states.len() <= id as usize {
            self.states.resize(id as usize + 1, State { open: 0, cost: 0 });
        }
        self.states[id as usize] = State { open: clause.len() as u32, cost: 0 };
    }

    /// Derives a subset of `target` from the clauses added, those numbered `below` that.
    pub(super) fn derive(
        &mut self,
        clauses: &Clauses,
        target: &[Lit],
        below: u32,
        weight: impl Fn(u32) -> u64,
        measure: Measure,
    ) -> Option<Lemma> {
        for &lit in target {
            self.deriver.assign(!lit, Value::Assumed);
        }
        for &unit in self.units.iter().filter(|&&unit| unit < below) {
            let event = Event { cost: weight(unit), lit: clauses.get(unit).first().copied(), clause: unit };
            self.queue.push(Reverse(event));
        }
        for &lit in target {
            self.falsify(clauses, lit, 0, below, &weight, measure);
        }
        let mut conflict = None;
        while let Some(Reverse(event)) = self.queue.pop() {
            let Some(lit) = event.lit else {
                conflict = Some(event.clause);
                break;
            };
            if !self.deriver.is_true(lit) && !self.deriver.is_true(!lit) {
                self.deriver.assign(lit, Value::Implied(event.clause));
                self.falsify(clauses, !lit, event.cost, below, &weight, measure);
            }
        }
        let lemma = conflict.map(|start| self.deriver.analyze(start, |id| clauses.get(id)));
        self.deriver.clear();
        self.queue.clear();
        for id in self.touched.drain(..) {
            self.states[id as usize] = State { open: clauses.get(id).len() as u32, cost: 0 };
        }
        lemma
    }

    /// Tells the clauses of `lit` that it is false, at this cost.
    fn falsify(
        &mut self,
        clauses: &Clauses,
        lit: Lit,
        cost: u64,
        below: u32,
        weight: &impl Fn(u32) -> u64,
        measure: Measure,
    ) {
        for &id in self.occurrences[lit.index()].iter().filter(|&&id| id < below) {
            let state = &mut self.states[id as usize];
            state.open -= 1;
            state.cost = match measure {
                Measure::Tree => state.cost.saturating_add(cost),
                Measure::Depth => state.cost.max(cost),
            };
            self.touched.push(id);
            if state.open <= 1 {
                let last = clauses.get(id).iter().copied().find(|&lit| !self.deriver.is_true(!lit));
                // Whether the last literal is false is only for its own settling to say.
                if last.is_some() == (state.open == 1) && last.is_none_or(|lit| !self.deriver.is_true(lit)) {
                    let cost = state.cost.saturating_add(weight(id));
                    self.queue.push(Reverse(Event { cost, lit: last, clause: id }));
                }
            }
        }
    }
}

/// Refutes the problem by unit propagation alone, if that can.
pub(super) fn refute(problem: &Problem, cost: &dyn Fn(u32) -> u32) -> Option<Plan> {
    let clauses = &problem.clauses;
    if let Some(&empty) = problem.useful.iter().find(|&&id| clauses.get(id).is_empty()) {
        return Some(Plan { lemmas: Vec::new(), empty });
    }
    let mut propagator = Propagator::new(problem.vars);
    for &id in &problem.useful {
        propagator.add(clauses, id);
    }
    let weight = |id| 8 + u64::from(cost(id));
    let lemma = [Measure::Tree, Measure::Depth]
        .into_iter()
        .filter_map(|measure| propagator.derive(clauses, &[], clauses.len(), weight, measure))
        .min_by_key(|lemma| lemma.premises().map(weight).sum::<u64>())?;
    Some(if lemma.reasons.is_empty() {
        Plan { lemmas: Vec::new(), empty: lemma.start }
    } else {
        Plan { lemmas: vec![lemma], empty: clauses.len() }
    })
}
