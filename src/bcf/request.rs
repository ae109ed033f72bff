//! Conditions as the kernel hands them out (request buffers), and goals as the published checker reads them.

use super::expr::{Arena, ExprError, ExprId};

/// The conditions of a request: formulas that are to be refuted.
pub struct Request {
    pub arena: Arena,
    /// Says that the rejected path is taken at all.
    pub path_cond: Option<ExprId>,
    /// Says that it is taken and that the access leaves its bounds.
    pub refine_cond: Option<ExprId>,
}

/// Which of a request's conditions a proof refutes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The refinement condition: the access is safe.
    Refine,
    /// The path condition: the path is not taken, and ends here.
    PathUnreachable,
}

/// A formula that a proof has to refute.
#[derive(Clone, Copy)]
pub struct Goal<'a> {
    pub arena: &'a Arena,
    pub root: ExprId,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    #[error("too short: a request has three words at least, a goal file two")]
    TooShort,
    #[error(transparent)]
    Expr(#[from] ExprError),
    #[error("{which} is {id}, where no Boolean expression starts")]
    Root { which: &'static str, id: u32 },
    #[error("a request without a condition: both are -1")]
    NoCondition,
}

impl Request {
    /// Reads a request buffer: the expressions, then the ids of the two conditions, -1 (or any negative number) for none.
    ///
    /// # Errors
    /// When an expression is not well typed, or a condition is not the id of a Boolean one, or there is none.
    pub fn parse(words: &[u32]) -> Result<Request, RequestError> {
        let (exprs, &[path, refine]) = words.split_last_chunk().ok_or(RequestError::TooShort)?;
        let (arena, ids) = Arena::parse(exprs)?;
        let root = |which, id: u32| {
            if (id as i32) < 0 {
                return Ok(None);
            }
            let root = ids.get(id).filter(|&root| arena.is_bool(root));
            root.map(Some).ok_or(RequestError::Root { which, id })
        };
        let (path_cond, refine_cond) = (root("path_cond", path)?, root("refine_cond", refine)?);
        if path_cond.is_none() && refine_cond.is_none() {
            return Err(RequestError::NoCondition);
        }
        Ok(Request { arena, path_cond, refine_cond })
    }

    /// The condition, where there is one.
    pub fn cond(&self, target: Target) -> Option<ExprId> {
        match target {
            Target::Refine => self.refine_cond,
            Target::PathUnreachable => self.path_cond,
        }
    }

    /// Reads a goal file of the published checker: the id of the formula, then the expressions. It becomes the refinement condition.
    ///
    /// # Errors
    /// As [`Request::parse`].
    pub fn parse_goal_file(words: &[u32]) -> Result<Request, RequestError> {
        let (&id, exprs) =
            words.split_first().filter(|(_, exprs)| !exprs.is_empty()).ok_or(RequestError::TooShort)?;
        let (arena, ids) = Arena::parse(exprs)?;
        let root = ids.get(id).filter(|&root| arena.is_bool(root));
        let root = root.ok_or(RequestError::Root { which: "the goal", id })?;
        Ok(Request { arena, path_cond: None, refine_cond: Some(root) })
    }
}
