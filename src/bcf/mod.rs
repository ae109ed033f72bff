//! BCF, the eBPF certificate framework: conditions that the verifier could not prove by itself, and proofs of them.
//!
//! A *condition* is a formula over bit-vectors (QF_BV of SMT-LIB) that describes how a program could misbehave; a *proof* refutes
//! it. [`expr`] holds terms, [`proof`] reads proofs and [`request`] conditions, both from untrusted bytes; [`eval`] gives terms their
//! meaning; [`checker`] checks a proof step by step.

pub mod answers;
pub mod checker;
pub mod client;
pub mod difference;
pub mod eval;
pub mod expr;
pub mod print;
pub mod proof;
pub mod prover;
pub mod request;
pub mod smtlib;
