//! One way after another to refute a condition.

use std::time::{Duration, Instant};

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;

use super::bits::Bits;
use super::builder::{Builder, Equation, Param};
use super::cnf::{Cnf, Source};
use super::facts::{self, Fact};
use super::norm::Normaliser;
use super::sat::{self, Outcome, Refutation};
use super::{Limits, Model, Verdict, emit};
use crate::bcf::eval::{Bv, Evaluator, Value};
use crate::bcf::expr::{Arena, ExprId};

/// Why there is no answer when the limit of memory is reached.
const TOO_LARGE: &str = "the condition takes more memory than allowed";

/// Proofs of fewer words are not worth another way.
const SMALL: usize = 256;

/// Direct proofs of which the smallest is taken.
const DIRECT_PROOFS: usize = 16;

/// What is done to terms before they become bits.
#[derive(Clone, Copy)]
struct Way {
    /// Sums are put in one order. That makes most proofs smaller, but some additions harder to reason about.
    sums: bool,
    /// What facts say to be constant is put in everywhere.
    constants: bool,
}

const WAYS: [Way; 4] = [
    Way { sums: true, constants: false },
    Way { sums: true, constants: true },
    Way { sums: false, constants: false },
    Way { sums: false, constants: true },
];

/// Tries the ways in turn and keeps the smallest proof.
pub fn run(arena: &Arena, root: ExprId, limits: &Limits, deadline: Instant) -> Verdict {
    let mut plain = Attempt::new(arena, root, limits.memory, deadline);
    if let Some(words) = plain.direct() {
        return Verdict::Proved(words);
    }
    let known = plain.known_constants();
    let end = deadline.min(Instant::now() + limits.effort);
    let mut best = None;
    for (at, way) in WAYS.iter().enumerate().filter(|(_, way)| !way.constants || !known.is_empty()) {
        let now = Instant::now();
        // A way that gets lost must leave time for the others; once there is a proof, only the time for making it smaller counts.
        let until = match best {
            Some(Verdict::Proved(_)) => end,
            _ if at + 1 < WAYS.len() => now + deadline.saturating_duration_since(now).mul_f32(0.4),
            _ => deadline,
        };
        if now >= until {
            break;
        }
        let constants = if way.constants { &known[..] } else { &[] };
        match (plain.clone().prepared(*way, constants).refute(limits, until), &best) {
            (refuted @ Verdict::Refuted(_), _) => return refuted,
            (Verdict::Proved(new), Some(Verdict::Proved(old))) if new.len() >= old.len() => {}
            (proved @ Verdict::Proved(_), _) => best = Some(proved),
            // The first way, which leaves nothing out, knows best why there is no answer.
            (unknown @ Verdict::Unknown(_), None) => best = Some(unknown),
            (Verdict::Unknown(_), Some(_)) => {}
        }
        if matches!(&best, Some(Verdict::Proved(words)) if words.len() <= SMALL) {
            break;
        }
    }
    best.unwrap_or_else(|| Verdict::Unknown("the time was up".into()))
}

#[derive(Clone)]
struct Attempt {
    b: Builder,
    root: ExprId,
    deadline: Instant,
    facts: Vec<Fact>,
    norm: Normaliser,
    bits: Bits,
    cnf: Cnf,
    /// Variables whose definition is yet to be looked at start here.
    next_var: u32,
    /// Atoms that are known by name only.
    atoms: Vec<ExprId>,
    /// Whether there were atoms that did not become bits.
    opaque: bool,
}

impl Attempt {
    fn new(arena: &Arena, root: ExprId, memory: usize, deadline: Instant) -> Attempt {
        let mut b = Builder::new(arena.clone(), memory);
        let step = b.step(BCF_RULE_ASSUME, &[], &[Param::Expr(root)]);
        let facts = facts::split(&mut b, Fact { formula: root, step });
        let mut attempt = Attempt {
            b,
            root,
            deadline,
            facts,
            norm: Normaliser::new(true),
            bits: Bits::new(),
            cnf: Cnf::new(),
            next_var: 0,
            atoms: Vec::new(),
            opaque: false,
        };
        attempt.slice_facts();
        attempt
    }

    /// Adds what follows for the slices of an extended value that is known: `(zero_extend x) = c` says what `x` is, and that the
    /// upper bits of `c` are zero.
    fn slice_facts(&mut self) {
        for fact in self.facts.clone() {
            if self.is_late() {
                break;
            }
            let fact = self.normal_fact(fact);
            let Some((term, value)) = constant_equality(&self.b, fact.formula) else { continue };
            if self.b.arena.code(term) != BCF_BV_ZERO_EXTEND {
                continue;
            }
            let (width, inner) = (self.b.arena.width(term), self.b.arena.width(self.b.arena.args(term)[0]));
            let known = self.b.says(fact.step, term, value);
            for (high, low) in [(inner - 1, 0), (width - 1, inner)] {
                let params = u16::from(high) << 8 | u16::from(low);
                let Some(slice) = self.b.cong(BCF_BV_EXTRACT, params, std::slice::from_ref(&known)) else {
                    continue;
                };
                let [left, right] = [slice.left, slice.right].map(|side| self.norm.norm(&mut self.b, side));
                let equation = self.b.symm(&left).then(&slice).then(&right);
                if equation.is_trivial() {
                    continue;
                }
                let step = self.b.prove(&equation);
                let formula = self.b.arena.eq(equation.left, equation.right);
                self.facts.push(Fact { formula, step });
            }
        }
    }

    /// The condition contradicts itself in one or two facts, without cases or bits.
    fn direct(&mut self) -> Option<Vec<u32>> {
        // For each term, the constant that it equals, as `constant = term`.
        let mut constants: FxHashMap<ExprId, Equation> = FxHashMap::default();
        let mut proofs = Vec::new();
        for fact in self.facts.clone() {
            if proofs.len() == DIRECT_PROOFS || self.is_late() {
                break;
            }
            let fact = match constant_equality(&self.b, fact.formula) {
                Some(_) => fact,
                None if unequal_constants(&self.b, fact.formula).is_some() => fact,
                None => self.normal_fact(fact),
            };
            if self.b.arena.bool_value(fact.formula) == Some(false) {
                proofs.push(fact.step);
            }
            if let Some(values) = unequal_constants(&self.b, fact.formula) {
                let distinct = self.b.step(BCF_RULE_DISTINCT_VALUES, &[], &values.map(Param::Expr));
                proofs.push(self.b.step(BCF_RULE_CONTRA, &[fact.step, distinct], &[]));
            }
            let Some((left, right)) = constant_equality(&self.b, fact.formula) else { continue };
            let equation = self.b.says(fact.step, left, right);
            let constant_left = self.b.arena.bv_value(left).is_some();
            let term = if constant_left { right } else { left };
            match constants.get(&term).cloned() {
                None => {
                    let from = if constant_left { equation } else { self.b.symm(&equation) };
                    constants.insert(term, from);
                }
                Some(from) => {
                    let to = if constant_left { self.b.symm(&equation) } else { equation };
                    let values = [from.left, to.right];
                    if values[0] == values[1] {
                        continue;
                    }
                    let equal = self.b.prove(&from.then(&to));
                    let distinct = self.b.step(BCF_RULE_DISTINCT_VALUES, &[], &values.map(Param::Expr));
                    proofs.push(self.b.step(BCF_RULE_CONTRA, &[equal, distinct], &[]));
                }
            }
        }
        proofs.into_iter().map(|last| self.b.write(last)).min_by_key(Vec::len)
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// The fact's normal form as a fact.
    fn normal_fact(&mut self, fact: Fact) -> Fact {
        let equation = self.norm.norm(&mut self.b, fact.formula);
        if equation.is_trivial() {
            return fact;
        }
        let proof = self.b.prove(&equation);
        Fact { formula: equation.right, step: self.b.step(BCF_RULE_EQ_RESOLVE, &[fact.step, proof], &[]) }
    }

    /// What facts say to be constant.
    fn known_constants(&mut self) -> Vec<Equation> {
        let mut known = Vec::new();
        for fact in self.facts.clone() {
            if self.is_late() {
                break;
            }
            let normal = self.normal_fact(fact);
            if let Some((term, value)) = constant_equality(&self.b, normal.formula)
                && self.b.arena.bv_value(term).is_none()
            {
                known.push(self.b.says(normal.step, term, value));
            }
        }
        known
    }

    /// The attempt made ready for a way.
    fn prepared(mut self, way: Way, constants: &[Equation]) -> Attempt {
        self.norm = Normaliser::new(way.sums);
        constants.iter().for_each(|equation| self.norm.know(equation.clone()));
        self
    }

    fn refute(&mut self, limits: &Limits, deadline: Instant) -> Verdict {
        for fact in self.facts.clone() {
            self.cnf.add(&self.b, &[fact.formula], Source::Step(fact.step));
        }
        if let Err(verdict) = self.define(deadline) {
            return verdict;
        }
        let search = sat::Limits {
            conflicts: None,
            deadline: Some(deadline),
            memory: limits.memory,
            effort: limits.effort,
            ..sat::Limits::default()
        };
        match self.solve(&search) {
            Outcome::Sat(_) => {}
            Outcome::Unsat(refutation) => return self.write(&refutation),
            Outcome::Unknown(reason) => return Verdict::Unknown(reason.to_string()),
        }
        let skeleton = self.clone();
        let atoms = self.atoms.clone();
        if let Err(verdict) = self.blast(&atoms, deadline) {
            return verdict;
        }
        match self.solve(&sat::Limits { effort: Duration::ZERO, ..search }) {
            Outcome::Sat(assignment) => self.model(&assignment),
            Outcome::Unsat(first) if limits.effort.is_zero() => self.write(&first),
            // A smaller proof is looked for, but one there is.
            Outcome::Unsat(first) => match skeleton.smallest(atoms, &search, deadline) {
                Verdict::Proved(words) => Verdict::Proved(words),
                _ => self.write(&first),
            },
            Outcome::Unknown(reason) => Verdict::Unknown(reason.to_string()),
        }
    }

    /// Refutes with as few atoms looked at bit by bit as possible.
    fn smallest(self, mut atoms: Vec<ExprId>, search: &sat::Limits, deadline: Instant) -> Verdict {
        let quick = sat::Limits { effort: Duration::ZERO, ..*search };
        let end = deadline.min(Instant::now() + search.effort);
        let mut at = 0;
        while at < atoms.len() && Instant::now() < end {
            let mut fewer = atoms.clone();
            fewer.remove(at);
            let mut attempt = self.clone();
            if attempt.blast(&fewer, deadline).is_ok() && matches!(attempt.solve(&quick), Outcome::Unsat(_)) {
                atoms = fewer;
            } else {
                at += 1;
            }
        }
        let mut attempt = self;
        if let Err(verdict) = attempt.blast(&atoms, deadline) {
            return verdict;
        }
        match attempt.solve(search) {
            Outcome::Unsat(refutation) => attempt.write(&refutation),
            Outcome::Sat(_) => Verdict::Unknown("the solver contradicts itself".into()),
            Outcome::Unknown(reason) => Verdict::Unknown(reason.to_string()),
        }
    }

    fn solve(&self, limits: &sat::Limits) -> Outcome {
        let cost = |clause: u32| match self.cnf.clauses.get(clause as usize).map(|clause| clause.source) {
            Some(Source::Step(_)) => 8,
            _ => 12,
        };
        sat::solve(self.cnf.vars(), &self.cnf.lits, &cost, limits)
    }

    fn write(&mut self, refutation: &Refutation) -> Verdict {
        match emit::emit(&mut self.b, &self.cnf, refutation) {
            Some(last) => Verdict::Proved(self.b.write(last)),
            None => Verdict::Unknown("the proof needs a clause of more than 255 literals".into()),
        }
    }

    /// Defines every variable that is not defined yet: gates by their clauses, atoms by their normal forms.
    fn define(&mut self, deadline: Instant) -> Result<(), Verdict> {
        while self.next_var < self.cnf.vars() {
            if Instant::now() >= deadline {
                return Err(Verdict::Unknown("the time was up".into()));
            }
            if self.b.is_full(0) {
                return Err(Verdict::Unknown(TOO_LARGE.into()));
            }
            let term = self.cnf.term(self.next_var);
            self.next_var += 1;
            if self.cnf.define_gate(&mut self.b, term) || is_unknown(&self.b, term) {
                continue;
            }
            let equation = self.norm.norm(&mut self.b, term);
            if equation.is_trivial() {
                self.atoms.push(term);
            } else {
                self.cnf.define_atom(&mut self.b, &equation);
            }
        }
        Ok(())
    }

    /// Says what atoms mean bit by bit, and the atoms that stand within them.
    fn blast(&mut self, atoms: &[ExprId], deadline: Instant) -> Result<(), Verdict> {
        let mut within = self.atoms.len();
        for &atom in atoms {
            self.blast_one(atom, deadline)?;
        }
        while let Some(&atom) = self.atoms.get(within) {
            within += 1;
            self.blast_one(atom, deadline)?;
        }
        Ok(())
    }

    fn blast_one(&mut self, atom: ExprId, deadline: Instant) -> Result<(), Verdict> {
        match self.bits.atom(&mut self.b, atom) {
            Some(equation) => self.cnf.define_atom(&mut self.b, &equation),
            None => self.opaque = true,
        }
        self.define(deadline)
    }

    /// The counterexample that an assignment of the bits gives, if it is one.
    fn model(&self, assignment: &[bool]) -> Verdict {
        let holds = |term: ExprId| {
            self.cnf.var_of(term).and_then(|var| assignment.get(var as usize)).copied().unwrap_or(false)
        };
        let mut evaluator = Evaluator::new();
        let mut model = Model::default();
        for term in self.b.arena.reachable(&[self.root]) {
            let value = match self.b.arena.code(term) {
                BCF_BOOL_VAR => Value::Bool(holds(term)),
                BCF_BV_VAR => Value::Bv(Bv::from_bits(
                    (0..self.b.arena.width(term))
                        .map(|bit| self.b.arena.find(BCF_BOOL_BIT_OF, bit.into(), &[term]).is_some_and(holds))
                        .collect::<Vec<_>>()
                        .into_iter(),
                )),
                _ => continue,
            };
            evaluator.assign(term, value);
            model.values.push((term, value));
        }
        if evaluator.eval_bool(&self.b.arena, self.root) == Some(true) {
            return Verdict::Refuted(model);
        }
        let what = if !self.opaque {
            "the search found no refutation, and its counterexample does not hold"
        } else if self.b.arena.reachable(&[self.root]).iter().any(|&term| divides(self.b.arena.code(term))) {
            "the condition divides unknowns, which no rule of the format takes apart"
        } else {
            TOO_LARGE
        };
        Verdict::Unknown(what.into())
    }
}

fn divides(code: u8) -> bool {
    matches!(code, BCF_BV_UDIV | BCF_BV_UREM | BCF_BV_SDIV | BCF_BV_SMOD)
}

/// A term that has no meaning but its own value.
fn is_unknown(b: &Builder, term: ExprId) -> bool {
    match b.arena.code(term) {
        BCF_BOOL_VAR => true,
        BCF_BOOL_BIT_OF => b.arena.code(b.arena.args(term)[0]) == BCF_BV_VAR,
        _ => false,
    }
}

/// The sides of `term = constant` or `constant = term`.
fn constant_equality(b: &Builder, formula: ExprId) -> Option<(ExprId, ExprId)> {
    let [x, y] = b.arena.match_op::<2>(formula, BCF_BOOL_EQ)?;
    (b.arena.bv_value(x).is_some() != b.arena.bv_value(y).is_some()).then_some((x, y))
}

/// The sides of an equality of two constants that are not equal.
fn unequal_constants(b: &Builder, formula: ExprId) -> Option<[ExprId; 2]> {
    let [x, y] = b.arena.match_op::<2>(formula, BCF_BOOL_EQ)?;
    (x != y && b.arena.bv_value(x).is_some() && b.arena.bv_value(y).is_some()).then_some([x, y])
}
