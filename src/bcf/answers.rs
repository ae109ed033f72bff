//! What the prover said about conditions, so that it is asked about each once.
//!
//! A condition is known by its terms alone: their words from the leaves to the root, numbered anew, so that it does not matter what else
//! was in the request, nor which variable of the verification a variable is. A proof of the one is a proof of the other, which
//! the checker sees for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::expr::{Arena, ExprId};
use super::prover::{Limits, Verdict, prove};
use super::request::{Request, Target};

/// Bytes of answers that are kept.
const MAX_BYTES: usize = 64 << 20;
/// Bytes that an answer takes beside its proof, roughly.
const BYTES_AN_ANSWER: usize = 256;

/// An answer of the prover.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The words of a proof that the condition has no model.
    Proved(Arc<[u32]>),
    /// The condition has a model.
    Refuted,
    /// Why there is no answer.
    Unknown(Arc<str>),
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum RequestAnswer {
    /// The words of a proof that this condition has no model.
    Proved(Target, Arc<[u32]>),
    /// Each condition has a model.
    Refuted,
    /// Why there is no answer.
    Unknown(String),
}

impl RequestAnswer {
    /// `P` the path condition was proved, `R` the refinement condition, `N` both have models, `U` unknown.
    pub fn letter(&self) -> char {
        match self {
            RequestAnswer::Proved(Target::PathUnreachable, _) => 'P',
            RequestAnswer::Proved(Target::Refine, _) => 'R',
            RequestAnswer::Refuted => 'N',
            RequestAnswer::Unknown(_) => 'U',
        }
    }
}

type Key = [u8; 32];

/// Answers of one prover with fixed limits. They are shared between threads, and two threads do not work on the same condition, unless what
/// was known is dropped meanwhile.
#[derive(Debug)]
pub struct Answers {
    limits: Limits,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    answers: HashMap<Key, Arc<OnceLock<Answer>>>,
    /// Bytes of those that were given.
    bytes: usize,
}

impl Answers {
    /// No answers yet. `limits` are those of each condition.
    pub fn new(limits: Limits) -> Self {
        Answers { limits, known: Mutex::default() }
    }

    /// A proof of one of a request's conditions. The path condition comes first: with it, the rest of the path is saved.
    pub fn answer(&self, request: &[u32]) -> RequestAnswer {
        let request = match Request::parse(request) {
            Ok(request) => request,
            Err(error) => return RequestAnswer::Unknown(error.to_string()),
        };
        let mut unknown = None;
        for target in [Target::PathUnreachable, Target::Refine] {
            match request.cond(target).map(|root| self.prove(&request.arena, root)) {
                Some(Answer::Proved(proof)) => return RequestAnswer::Proved(target, proof),
                Some(Answer::Unknown(reason)) => unknown = Some(reason.to_string()),
                Some(Answer::Refuted) | None => {}
            }
        }
        unknown.map_or(RequestAnswer::Refuted, RequestAnswer::Unknown)
    }

    /// Whether the Boolean term `root` of `arena` has no model.
    pub fn prove(&self, arena: &Arena, root: ExprId) -> Answer {
        let entry = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.answers.entry(key(arena, root)).or_default())
        };
        entry.get_or_init(|| self.ask(arena, root)).clone()
    }

    fn ask(&self, arena: &Arena, root: ExprId) -> Answer {
        let answer = match prove(arena, root, &self.limits) {
            Verdict::Proved(words) => Answer::Proved(words.into()),
            Verdict::Refuted(_) => Answer::Refuted,
            Verdict::Unknown(reason) => Answer::Unknown(reason.into()),
        };
        let proof = if let Answer::Proved(words) = &answer { size_of_val(&**words) } else { 0 };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.bytes += proof + BYTES_AN_ANSWER;
        if known.bytes > MAX_BYTES {
            // Those that repeat are close together.
            *known = Known::default();
        }
        answer
    }
}

/// What says which condition it is.
fn key(arena: &Arena, root: ExprId) -> Key {
    let mut numbers: FxHashMap<ExprId, u32> = FxHashMap::default();
    let mut hash = Sha256::new();
    for (number, id) in (0..).zip(arena.reachable(&[root])) {
        numbers.insert(id, number);
        let words = arena.words(id);
        let args = arena.args(id);
        let (own, _) = words.split_at(words.len() - args.len());
        hash.update(bytemuck::cast_slice::<u32, u8>(own));
        for arg in args {
            hash.update(numbers.get(arg).copied().unwrap_or(u32::MAX).to_ne_bytes());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use bpftwin_uapi::bcf::*;

    use super::*;

    /// `x & 15 > bound`, behind `before` variables of something else.
    fn masked(before: usize, bound: u64) -> (Arena, ExprId) {
        let mut arena = Arena::new();
        for _ in 0..before {
            arena.bv_var(64);
        }
        let (x, mask, bound) = (arena.bv_var(64), arena.bv_const(64, 15), arena.bv_const(64, bound));
        let masked = arena.intern(BCF_BV_AND, 64, &[x, mask]);
        let root = arena.intern(BCF_BOOL_UGT, 0, &[masked, bound]);
        (arena, root)
    }

    #[test]
    fn conditions_are_known_by_their_terms() {
        let of = |before, bound| {
            let (arena, root) = masked(before, bound);
            key(&arena, root)
        };
        assert_eq!(of(0, 15), of(3, 15));
        assert_ne!(of(0, 15), of(0, 14));
    }

    #[test]
    fn each_condition_is_proved_once() {
        let answers = Answers::new(Limits::default());
        let proof = |before| {
            let (arena, root) = masked(before, 15);
            match answers.prove(&arena, root) {
                Answer::Proved(words) => words,
                other => panic!("{other:?}"),
            }
        };
        assert!(Arc::ptr_eq(&proof(0), &proof(2)));
        let (arena, root) = masked(0, 14);
        assert!(matches!(answers.prove(&arena, root), Answer::Refuted));
        assert_eq!(answers.known.lock().unwrap().answers.len(), 2);
    }
}
