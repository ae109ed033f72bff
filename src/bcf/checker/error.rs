//! Why a proof or a step is rejected.

use crate::bcf::expr::TypeError;
use crate::bcf::proof::{FormatError, StepNo};

/// Why a proof is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("step {step} ({rule}): {error}")]
    Step { step: StepNo, rule: &'static str, error: RuleError },
    #[error("step {0} is the last and does not conclude false")]
    NoRefutation(StepNo),
}

impl CheckError {
    /// The published checker's errno for it, positive.
    pub fn errno(&self) -> i32 {
        match self {
            CheckError::Format(_) | CheckError::NoRefutation(_) => libc::EINVAL,
            CheckError::Step { error, .. } => error.errno(),
        }
    }
}

/// What keeps a rule from applying: what was expected, in the words of the rule's definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// EINVAL: the step does not follow.
    #[error("{0}")]
    Invalid(&'static str),
    /// EINVAL: the fact would not be well typed.
    #[error("the fact is ill-typed: {0}")]
    Type(#[from] TypeError),
    /// E2BIG: a limit is passed.
    #[error("{0}")]
    TooBig(&'static str),
    /// EOPNOTSUPP: the format has it, the checker does not.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl RuleError {
    /// The published checker's errno for it, positive.
    pub fn errno(&self) -> i32 {
        match self {
            RuleError::Invalid(_) | RuleError::Type(_) => libc::EINVAL,
            RuleError::TooBig(_) => libc::E2BIG,
            RuleError::Unsupported(_) => libc::EOPNOTSUPP,
        }
    }
}
