//! Checks proofs: applies every step's rule to the facts of its premises.

mod error;
mod pattern;
pub mod rewrite;
pub mod rewrites;

pub use error::RuleError;

/// How much a proof is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Every step is checked; what cannot be is rejected.
    #[default]
    Strict,
    /// The answers of the published checker: POLY_NORM and rewrite 0 are taken on trust and counted, its restrictions hold; what
    /// it accepts though it is wrong, or crashes on, is rejected.
    Reference,
}
