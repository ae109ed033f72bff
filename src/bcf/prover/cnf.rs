//! Clauses of a formula, each with the step that justifies it.
//!
//! A variable of the SAT solver stands for a Boolean term that is no negation. Gates are defined by the rules CNF_*, atoms by
//! the equation that the other modules find for them.

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::builder::{Builder, Equation, Param, StepId};
use super::sat::Lit;
use crate::bcf::expr::{ExprId, MAX_ARGS};

/// Why a clause holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// It is the fact of a step.
    Step(StepId),
    /// A rule without premises says it: the parameters are a term and maybe an index.
    Rule { rule: u16, term: ExprId, index: Option<u32> },
    /// An equation of Booleans gives it: EQUIV_ELIM with that index.
    Equiv { equation: StepId, form: u32 },
}

/// A clause: its literals as the step has them, in its order.
#[derive(Clone, Debug)]
pub struct Clause {
    pub literals: SmallVec<[ExprId; 4]>,
    pub source: Source,
}

/// Clauses, and what their variables stand for.
#[derive(Clone, Default)]
pub struct Cnf {
    vars: FxHashMap<ExprId, u32>,
    terms: Vec<ExprId>,
    /// Long chains of negations, from each of their nodes.
    chains: FxHashMap<ExprId, (ExprId, u32)>,
    pub clauses: Vec<Clause>,
    /// The clauses in the solver's terms.
    pub lits: Vec<SmallVec<[Lit; 4]>>,
}

/// A term without its negations, and how many there were.
pub fn strip(b: &Builder, mut term: ExprId) -> (ExprId, u32) {
    let mut negations = 0;
    while b.arena.code(term) == BCF_BOOL_NOT {
        term = b.arena.args(term)[0];
        negations += 1;
    }
    (term, negations)
}

impl Cnf {
    pub fn new() -> Cnf {
        Cnf::default()
    }

    /// Number of variables.
    pub fn vars(&self) -> u32 {
        self.terms.len() as u32
    }

    /// What a variable stands for.
    pub fn term(&self, var: u32) -> ExprId {
        self.terms[var as usize]
    }

    pub fn var_of(&self, term: ExprId) -> Option<u32> {
        self.vars.get(&term).copied()
    }

    /// [`strip`], which does not walk a long chain twice.
    fn strip(&mut self, b: &Builder, term: ExprId) -> (ExprId, u32) {
        const LONG: u32 = 8;
        if let Some(&known) = self.chains.get(&term) {
            return known;
        }
        let (base, negations) = strip(b, term);
        let (mut at, mut left) = (term, negations);
        while left > LONG && self.chains.insert(at, (base, left)).is_none() {
            at = b.arena.args(at)[0];
            left -= 1;
        }
        (base, negations)
    }

    pub fn lit(&mut self, b: &Builder, term: ExprId) -> Lit {
        let (base, negations) = self.strip(b, term);
        let next = self.terms.len() as u32;
        let var = *self.vars.entry(base).or_insert(next);
        if var == next {
            self.terms.push(base);
        }
        Lit::new(var, negations % 2 == 0)
    }

    pub fn add(&mut self, b: &Builder, literals: &[ExprId], source: Source) {
        let lits: SmallVec<[Lit; 4]> = literals.iter().map(|&literal| self.lit(b, literal)).collect();
        // A clause that is always true helps nobody.
        if lits.iter().any(|&lit| lits.contains(&!lit)) {
            return;
        }
        self.clauses.push(Clause { literals: literals.into(), source });
        self.lits.push(lits);
    }

    /// Defines the gate that a variable stands for; `false` when it is none: a variable, or an atom.
    pub fn define_gate(&mut self, b: &mut Builder, gate: ExprId) -> bool {
        let args: SmallVec<[ExprId; 4]> = b.arena.args(gate).into();
        let not_gate = b.arena.not(gate);
        match (b.arena.code(gate), &args[..]) {
            (BCF_BOOL_CONST, _) => self.define_constant(b, gate),
            (BCF_BOOL_AND, args) => {
                for (index, &arg) in (0..).zip(args) {
                    self.rule(b, BCF_RULE_CNF_AND_POS, gate, Some(index), &[not_gate, arg]);
                }
                self.long(b, BCF_RULE_CNF_AND_NEG, gate, gate, args, true);
            }
            (BCF_BOOL_OR, args) => {
                for (index, &arg) in (0..).zip(args) {
                    let not_arg = b.arena.not(arg);
                    self.rule(b, BCF_RULE_CNF_OR_NEG, gate, Some(index), &[gate, not_arg]);
                }
                self.long(b, BCF_RULE_CNF_OR_POS, gate, not_gate, args, false);
            }
            (BCF_BOOL_IMPLIES, &[x, y]) => {
                let (not_x, not_y) = (b.arena.not(x), b.arena.not(y));
                self.rule(b, BCF_RULE_CNF_IMPLIES_POS, gate, None, &[not_gate, not_x, y]);
                self.rule(b, BCF_RULE_CNF_IMPLIES_NEG, gate, Some(0), &[gate, x]);
                self.rule(b, BCF_RULE_CNF_IMPLIES_NEG, gate, Some(1), &[gate, not_y]);
            }
            (BCF_BOOL_EQ, &[x, y]) if b.arena.is_bool(x) => {
                let (not_x, not_y) = (b.arena.not(x), b.arena.not(y));
                self.rule(b, BCF_RULE_CNF_EQUIV_POS, gate, Some(0), &[not_gate, not_x, y]);
                self.rule(b, BCF_RULE_CNF_EQUIV_POS, gate, Some(1), &[not_gate, x, not_y]);
                self.rule(b, BCF_RULE_CNF_EQUIV_NEG, gate, Some(0), &[gate, x, y]);
                self.rule(b, BCF_RULE_CNF_EQUIV_NEG, gate, Some(1), &[gate, not_x, not_y]);
            }
            (BCF_BOOL_XOR, &[x, y]) => {
                let (not_x, not_y) = (b.arena.not(x), b.arena.not(y));
                self.rule(b, BCF_RULE_CNF_XOR_POS, gate, Some(0), &[not_gate, x, y]);
                self.rule(b, BCF_RULE_CNF_XOR_POS, gate, Some(1), &[not_gate, not_x, not_y]);
                self.rule(b, BCF_RULE_CNF_XOR_NEG, gate, Some(0), &[gate, not_x, y]);
                self.rule(b, BCF_RULE_CNF_XOR_NEG, gate, Some(1), &[gate, x, not_y]);
            }
            (BCF_BOOL_ITE, &[c, x, y]) => {
                let [not_c, not_x, not_y] = [c, x, y].map(|term| b.arena.not(term));
                self.rule(b, BCF_RULE_CNF_ITE_POS, gate, Some(0), &[not_gate, not_c, x]);
                self.rule(b, BCF_RULE_CNF_ITE_POS, gate, Some(1), &[not_gate, c, y]);
                self.rule(b, BCF_RULE_CNF_ITE_POS, gate, Some(2), &[not_gate, x, y]);
                self.rule(b, BCF_RULE_CNF_ITE_NEG, gate, Some(0), &[gate, not_c, not_x]);
                self.rule(b, BCF_RULE_CNF_ITE_NEG, gate, Some(1), &[gate, c, not_y]);
                self.rule(b, BCF_RULE_CNF_ITE_NEG, gate, Some(2), &[gate, not_x, not_y]);
            }
            _ => return false,
        }
        true
    }

    /// The clauses of `atom = formula`.
    pub fn define_atom(&mut self, b: &mut Builder, equation: &Equation) {
        let step = b.prove(equation);
        let (atom, formula) = (equation.left, equation.right);
        match b.arena.bool_value(formula) {
            Some(true) => {
                let fact = b.step(BCF_RULE_TRUE_ELIM, &[step], &[]);
                self.add(b, &[atom], Source::Step(fact));
            }
            Some(false) => {
                let (fact, never) = (b.step(BCF_RULE_FALSE_ELIM, &[step], &[]), b.arena.not(atom));
                self.add(b, &[never], Source::Step(fact));
            }
            None => {
                let (not_atom, not_formula) = (b.arena.not(atom), b.arena.not(formula));
                self.add(b, &[not_atom, formula], Source::Equiv { equation: step, form: 0 });
                self.add(b, &[atom, not_formula], Source::Equiv { equation: step, form: 1 });
            }
        }
    }

    fn define_constant(&mut self, b: &mut Builder, constant: ExprId) {
        let evaluated = b.step(BCF_RULE_EVALUATE, &[], &[Param::Expr(constant)]);
        if b.arena.bool_value(constant) == Some(true) {
            let fact = b.step(BCF_RULE_TRUE_ELIM, &[evaluated], &[]);
            self.add(b, &[constant], Source::Step(fact));
        } else {
            let (fact, never) = (b.step(BCF_RULE_FALSE_ELIM, &[evaluated], &[]), b.arena.not(constant));
            self.add(b, &[never], Source::Step(fact));
        }
    }

    fn rule(&mut self, b: &Builder, rule: u16, term: ExprId, index: Option<u32>, literals: &[ExprId]) {
        self.add(b, literals, Source::Rule { rule, term, index });
    }

    /// The clause of a gate and all its arguments; a gate of 255 arguments has none, since a clause has no more literals.
    fn long(
        &mut self,
        b: &mut Builder,
        rule: u16,
        gate: ExprId,
        first: ExprId,
        args: &[ExprId],
        negate: bool,
    ) {
        if args.len() >= MAX_ARGS {
            return;
        }
        let mut literals: SmallVec<[ExprId; 8]> = SmallVec::from_slice(&[first]);
        for &arg in args {
            literals.push(if negate { b.arena.not(arg) } else { arg });
        }
        self.rule(b, rule, gate, None, &literals);
    }
}

/// The step that has a clause as its fact.
pub fn step_of(b: &mut Builder, source: Source) -> StepId {
    match source {
        Source::Step(step) => step,
        Source::Equiv { equation, form } => b.step(BCF_RULE_EQUIV_ELIM, &[equation], &[Param::Word(form)]),
        Source::Rule { rule, term, index: None } => b.step(rule, &[], &[Param::Expr(term)]),
        Source::Rule { rule, term, index: Some(index) } => {
            b.step(rule, &[], &[Param::Expr(term), Param::Word(index)])
        }
    }
}

/// `term or (not term)`.
pub fn split(b: &mut Builder, term: ExprId) -> StepId {
    b.step(BCF_RULE_SPLIT, &[], &[Param::Expr(term)])
}
