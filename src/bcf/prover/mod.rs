//! Proves conditions: finds a refutation and writes it as a BCF proof.
//!
//! A condition is a formula that describes misbehaviour; to prove it is to show that it has no model. The stages:
//!
//! 1. [`facts`] takes the conjunction apart into facts that hold on their own.
//! 2. [`norm`] rewrites atoms to a small core. Facts of opposite meaning often meet here already.
//! 3. [`cnf`] turns the formula into clauses over its atoms; [`sat`] looks for a refutation that treats atoms as unknowns.
//! 4. If there is none, [`bits`] says what the atoms mean, bit by bit, and the solver is asked again: a model is a
//!    counterexample (it is evaluated on the condition itself before anybody sees it), a refutation a proof.
//! 5. The refutation is made small (fewer atoms, fewer clauses, shorter chains), and [`emit`] writes it.
//!
//! Several ways are tried and the smallest proof is kept; every proof passes the strict checker before it is handed out.

mod attempt;
mod bits;
mod builder;
mod cnf;
mod emit;
mod facts;
mod norm;
pub mod sat;
mod slices;
mod sums;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bpftwin_uapi::bcf::BCF_MAX_PROOF_SIZE;

use super::checker::{self, Policy};
use super::eval::Value;
use super::expr::{Arena, ExprId};
use super::request::Goal;

/// How far the prover goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for one condition.
    pub timeout: Duration,
    /// Bytes for the search.
    pub memory: usize,
    /// Time to spend, of the above, on making a proof smaller once there is one.
    pub effort: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { timeout: Duration::from_secs(10), memory: 1 << 30, effort: Duration::from_secs(1) }
    }
}

/// Values of the condition's variables under which it holds. Variables that are not named can have any value.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub values: Vec<(ExprId, Value)>,
}

/// The answer about a condition.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It has no model: a proof, as the words of a file.
    Proved(Vec<u32>),
    /// It has one.
    Refuted(Model),
    /// No answer, and why.
    Unknown(String),
}

/// Whether the Boolean term `root` of `arena` has no model.
pub fn prove(arena: &Arena, root: ExprId, limits: &Limits) -> Verdict {
    if !arena.is_bool(root) {
        return Verdict::Unknown("the condition is not Boolean".into());
    }
    let deadline = Instant::now() + limits.timeout;
    let verdict = attempt::run(arena, root, limits, deadline);
    let Verdict::Proved(words) = &verdict else { return verdict };
    if words.len() * 4 >= BCF_MAX_PROOF_SIZE as usize {
        return Verdict::Unknown("the proof is larger than the format allows".into());
    }
    match checker::check(words, Some(Goal { arena, root }), Policy::Strict) {
        Ok(_) => verdict,
        Err(error) => {
            // A step that does not follow would be a fault of the prover, a limit that is passed is none.
            debug_assert_ne!(error.errno(), libc::EINVAL, "{error}");
            Verdict::Unknown(format!("the checker does not take the proof that was found: {error}"))
        }
    }
}
