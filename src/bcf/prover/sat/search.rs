//! The search: CaDiCaL, asked for the antecedents of every clause that it learns.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use cadical_sys::{CaDiCal, ProofTracer, Status, Terminator};
use rustc_hash::FxHashMap;

use super::plan::{Clauses, Deriver, Plan, Problem};
use super::{Limits, Lit, Unknown};

/// How to search.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    /// The seed of random choices; others than 0 also shuffle the order of variables.
    pub(super) seed: i32,
    pub(super) simplify: Simplify,
    /// Try false first.
    pub(super) phase: bool,
}

/// How to simplify the clauses. Without, refutations are often shorter; with it, hard problems become easier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Simplify {
    #[default]
    Never,
    /// So many rounds before the search, and along the way. Finds circuits that compute the same.
    Rounds(i32),
    /// Also replace variables by the resolvents of their clauses.
    RoundsEliminating(i32),
}

pub(super) enum Found {
    Model(Vec<bool>),
    Plan(Plan),
}

/// Conflicts of the search without simplification.
const EASY: u64 = 10_000;

/// Searches for a model of the problem, or derives the empty clause.
pub(super) fn search(problem: &Problem, limits: &Limits) -> Result<Found, Unknown> {
    let conflicts = limits.conflicts.map_or(EASY, |conflicts| conflicts.min(EASY));
    let easy = Limits { conflicts: Some(conflicts), ..*limits };
    let mut settings = Settings::default();
    match search_in(problem, &problem.useful, &settings, &easy) {
        Err(Unknown::Conflicts) if limits.conflicts.is_none_or(|conflicts| conflicts > EASY) => {
            settings.simplify = Simplify::RoundsEliminating(1);
            search_in(problem, &problem.useful, &settings, limits)
        }
        answer => answer,
    }
}

/// [`search`] in some of the clauses, added in the order of `clauses`.
pub(super) fn search_in(
    problem: &Problem,
    clauses: &[u32],
    settings: &Settings,
    limits: &Limits,
) -> Result<Found, Unknown> {
    let trace = Rc::new(RefCell::new(Trace { room: limits.memory, ..Trace::default() }));
    let mut solver = CaDiCal::new();
    configure(&mut solver, settings);
    solver.connect_proof_tracer1(Rc::clone(&trace), true, false);
    solver.connect_terminator(Watch { deadline: limits.deadline, trace: Rc::clone(&trace) });
    for &clause in clauses {
        trace.borrow_mut().adding = clause;
        for &lit in problem.clauses.get(clause) {
            let number = lit.var() as i32 + 1;
            solver.add(if lit.is_positive() { number } else { -number });
        }
        solver.add(0);
    }
    if let Simplify::Rounds(rounds) | Simplify::RoundsEliminating(rounds) = settings.simplify {
        solver.limit("preprocessing", rounds);
    }
    if let Some(conflicts) = limits.conflicts {
        solver.limit("conflicts", i32::try_from(conflicts).unwrap_or(i32::MAX));
    }
    match solver.solve() {
        Status::SATISFIABLE => {
            let known = solver.vars();
            let model = (1..=problem.vars as i32).map(|var| var <= known && solver.val(var) > 0).collect();
            Ok(Found::Model(model))
        }
        Status::UNSATISFIABLE => {
            drop(solver);
            let trace = trace.borrow();
            if trace.full { Err(Unknown::Memory) } else { trace.plan(problem).map(Found::Plan) }
        }
        Status::UNKNOWN if trace.borrow().full => Err(Unknown::Memory),
        Status::UNKNOWN if limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
            Err(Unknown::Deadline)
        }
        Status::UNKNOWN => Err(Unknown::Conflicts),
    }
}

fn configure(solver: &mut CaDiCal, settings: &Settings) {
    // Forget what the environment says.
    solver.configure("default");
    match settings.simplify {
        Simplify::Never => {
            solver.configure("plain");
        }
        Simplify::Rounds(_) => {
            solver.set("elim", 0);
        }
        Simplify::RoundsEliminating(_) => {}
    }
    // The one technique that adds variables, whose definitions are no consequences.
    solver.set("factor", 0);
    solver.set("quiet", 1);
    solver.set("seed", settings.seed);
    solver.set("phase", i32::from(!settings.phase));
    if settings.seed != 0 {
        solver.set("shuffle", 1);
        solver.set("shufflerandom", 1);
        solver.set("randec", 1);
    }
}

/// Stops the search when time is up or its record is full.
struct Watch {
    deadline: Option<Instant>,
    trace: Rc<RefCell<Trace>>,
}

impl Terminator for Watch {
    fn terminated(&mut self) -> bool {
        self.trace.borrow().full || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// The record of a search.
#[derive(Default)]
struct Trace {
    /// Bytes left.
    room: usize,
    full: bool,
    /// The original clause being added.
    adding: u32,
    /// Original clauses by the solver's ids.
    originals: FxHashMap<i64, u32>,
    /// Derived clauses, their antecedents, and their indices by the solver's ids.
    derived: Clauses,
    antecedents: Vec<i64>,
    antecedents_ends: Vec<usize>,
    indices: FxHashMap<i64, u32>,
    empty: Option<u32>,
}

impl Trace {
    fn derive(&mut self, id: i64, clause: &[i32], antecedents: &[i64]) {
        let bytes = 64 + size_of_val(clause) + size_of_val(antecedents);
        if self.full || bytes > self.room || self.derived.len() == u32::MAX / 4 {
            self.full = true;
            return;
        }
        self.room -= bytes;
        let index = self.derived.len();
        let lits: Vec<Lit> =
            clause.iter().map(|&lit| Lit::new(lit.unsigned_abs().saturating_sub(1), lit > 0)).collect();
        self.derived.push(&lits);
        self.antecedents.extend_from_slice(antecedents);
        self.antecedents_ends.push(self.antecedents.len());
        self.indices.insert(id, index);
        if clause.is_empty() && self.empty.is_none() {
            self.empty = Some(index);
        }
    }

    fn antecedents(&self, index: u32) -> &[i64] {
        let start = if index == 0 { 0 } else { self.antecedents_ends[index as usize - 1] };
        &self.antecedents[start..self.antecedents_ends[index as usize]]
    }

    /// Derives again what the empty clause needs.
    fn plan(&self, problem: &Problem) -> Result<Plan, Unknown> {
        let originals = problem.clauses.len();
        let empty = self.empty.ok_or(Unknown::Solver)?;
        let mut needed = vec![false; empty as usize + 1];
        needed[empty as usize] = true;
        for index in (0..=empty).rev() {
            if needed[index as usize] {
                for id in self.antecedents(index) {
                    if let Some(&antecedent) = self.indices.get(id).filter(|&&antecedent| antecedent < index)
                    {
                        needed[antecedent as usize] = true;
                    }
                }
            }
        }
        let mut plan = Plan { lemmas: Vec::new(), empty: 0 };
        // The ids in the plan of derived clauses.
        let mut ids = vec![u32::MAX; needed.len()];
        let mut clauses = problem.clauses.clone();
        let mut deriver = Deriver::new(problem.vars);
        for index in (0..=empty).filter(|&index| needed[index as usize]) {
            let hints = self.antecedents(index).iter().filter_map(|id| match self.originals.get(id) {
                Some(&original) => Some(original),
                None => self
                    .indices
                    .get(id)
                    .and_then(|&index| ids.get(index as usize))
                    .copied()
                    .filter(|&id| id != u32::MAX),
            });
            let target = self.derived.get(index);
            if target.iter().any(|lit| lit.var() >= problem.vars) {
                return Err(Unknown::Solver);
            }
            let lemma = deriver.derive(target, hints, |id| clauses.get(id)).ok_or(Unknown::Solver)?;
            if lemma.reasons.is_empty() {
                // Nothing new: another clause already says so.
                ids[index as usize] = lemma.start;
                continue;
            }
            ids[index as usize] = clauses.len();
            clauses.push(&lemma.lits);
            plan.lemmas.push(lemma);
            if clauses.get(clauses.len() - 1).is_empty() {
                ids[empty as usize] = clauses.len() - 1;
                break;
            }
        }
        plan.empty = ids[empty as usize];
        plan.trim(originals);
        Ok(plan)
    }
}

impl ProofTracer for Trace {
    fn add_original_clause(&mut self, id: i64, _redundant: bool, _clause: &[i32], restored: bool) {
        if !restored {
            self.originals.insert(id, self.adding);
        }
    }

    fn add_derived_clause(
        &mut self,
        id: i64,
        _redundant: bool,
        _witness: i32,
        clause: &[i32],
        antecedents: &[i64],
    ) {
        self.derive(id, clause, antecedents);
    }

    fn delete_clause(&mut self, _id: i64, _redundant: bool, _clause: &[i32]) {}
    fn weaken_minus(&mut self, _id: i64, _clause: &[i32]) {}
    fn strengthen(&mut self, _id: i64) {}
    fn finalize_clause(&mut self, _id: i64, _clause: &[i32]) {}
    fn add_assumption(&mut self, _lit: i32) {}
    fn add_constraint(&mut self, _clause: &[i32]) {}
    fn reset_assumptions(&mut self) {}
    fn add_assumption_clause(&mut self, id: i64, clause: &[i32], antecedents: &[i64]) {
        self.derive(id, clause, antecedents);
    }
    fn conclude_sat(&mut self, _conclusion_type: i32, _model: &[i32]) {}
    fn conclude_unsat(&mut self, _conclusion_type: i32, _clause_ids: &[i64]) {}
    fn conclude_unknown(&mut self, _trail: &[i32]) {}
}
