//! Conditions as SMT-LIB 2.6 in the logic QF_BV: what other solvers read and people write.
//!
//! [`Script`] prints a condition; [`parse()`] reads one.

mod error;
mod lexer;
mod ops;
mod parse;
mod print;

pub use error::{ParseError, Reason};
pub use parse::{Condition, parse};
pub use print::Script;

#[cfg(test)]
mod tests;
