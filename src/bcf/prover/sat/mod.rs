//! Refutations of sets of clauses, small ones.
//!
//! [`solve`] decides a set of clauses and, when it has no model, derives the empty clause by chains of resolution. It
//! knows nothing of expressions or proofs, but derives in the terms of the proof format (see [`refutation`]) and
//! minds the bytes that a derivation takes there.
//!
//! Unit propagation alone refutes most of what verifiers ask, so that is tried first ([`propagate`]), looking for
//! the shortest derivation. Otherwise CaDiCaL searches ([`search`]) and names the antecedents of every clause that it
//! learns. Either way the outcome is a [`plan::Plan`]: lemmas in order, each with the clauses whose resolution in
//! whatever order gives it. [`shrink`] makes plans smaller, [`schedule`] turns them into chains.

mod inline;
mod plan;
mod propagate;
pub mod refutation;
mod schedule;
mod search;
mod shrink;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

pub use refutation::{Derivation, Link, Refutation, Step};

/// A literal: a variable, numbered from 0, or its negation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lit(u32);

/// The largest number of variables that [`solve`] takes.
pub const MAX_VARS: u32 = 1 << 28;

impl Lit {
    /// The literal of variable `var`, below [`MAX_VARS`], that holds if the variable's value is `positive`.
    pub const fn new(var: u32, positive: bool) -> Self {
        Self(var << 1 | !positive as u32)
    }

    pub const fn var(self) -> u32 {
        self.0 >> 1
    }

    pub const fn is_positive(self) -> bool {
        self.0 & 1 == 0
    }

    /// A number below twice the number of variables.
    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::ops::Not for Lit {
    type Output = Self;

    fn not(self) -> Self {
        Self(self.0 ^ 1)
    }
}

impl fmt::Debug for Lit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_positive() { "" } else { "!" }, self.var())
    }
}

/// The number of a clause: originals by their index, derived clauses from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClauseId(pub u32);

/// What a chain may hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Literals of a running clause.
    pub literals: usize,
    /// Premises of a chain, at least 2.
    pub premises: usize,
}

impl Default for Bounds {
    /// What the proof format allows: 255 literals; and of 255 parameters 8 hold the polarities of the other 247,
    /// the pivots of 248 premises.
    fn default() -> Self {
        Self { literals: 255, premises: 248 }
    }
}

/// How far [`solve`] goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Conflicts of the first search.
    pub conflicts: Option<u64>,
    /// When to give up searching.
    pub deadline: Option<Instant>,
    /// Bytes for the record of a search.
    pub memory: usize,
    /// Time for making a refutation smaller once there is one; the deadline holds for it too.
    pub effort: Duration,
    pub bounds: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            conflicts: None,
            deadline: None,
            memory: 1 << 30,
            effort: Duration::from_millis(500),
            bounds: Bounds::default(),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("the conflict limit was reached")]
    Conflicts,
    #[error("the time was up")]
    Deadline,
    #[error("the record of the search grew too large")]
    Memory,
    #[error("a clause has a variable beyond the number of variables, or there are too many of either")]
    Input,
    #[error("the refutation found needs clauses longer than allowed")]
    Bounds,
    #[error("the solver's own proof does not hold")]
    Solver,
}

/// The answer of [`solve`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A model: the value of every variable.
    Sat(Vec<bool>),
    Unsat(Refutation),
    Unknown(Unknown),
}

/// Decides whether `clauses` over variables `0..vars` have a model.
///
/// The clauses are lists as the proof has them: their order matters for the results of the steps, and repeated literals
/// are allowed. `cost(i)` tells how many bytes a proof grows when it uses clause `i`.
pub fn solve<C: AsRef<[Lit]>>(
    vars: u32,
    clauses: &[C],
    cost: &dyn Fn(u32) -> u32,
    limits: &Limits,
) -> Outcome {
    let Some(problem) = plan::Problem::new(vars, clauses) else { return Outcome::Unknown(Unknown::Input) };
    let plan = match propagate::refute(&problem, cost) {
        Some(plan) => plan,
        None => match search::search(&problem, limits) {
            Ok(search::Found::Model(model)) => return Outcome::Sat(model),
            Ok(search::Found::Plan(plan)) => plan,
            Err(reason) => return Outcome::Unknown(reason),
        },
    };
    match shrink::shrink(&problem, clauses, plan, cost, limits) {
        Some(refutation) => {
            debug_assert_eq!(refutation.check(clauses, &limits.bounds), Ok(()));
            Outcome::Unsat(refutation)
        }
        None => Outcome::Unknown(Unknown::Bounds),
    }
}
