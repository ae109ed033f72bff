//! A verification that waits for a proof.

use std::time::Instant;

use bpftwin_uapi::Errno;

use super::{Expr, Trail};
use crate::bcf::checker::{self, Policy};
pub use crate::bcf::request::Target;
use crate::bcf::request::{Goal, Request};
use crate::verbose;
use crate::verifier::input::Outcome;
use crate::verifier::log::BPF_LOG_LEVEL2;
use crate::verifier::{Result, Verifier};

/// How far a verification came.
pub enum Step {
    Done(Box<Outcome>),
    /// Something is to be proved first.
    Requested(Suspended),
}

/// A verification that stopped at a rejection and goes on where its condition is refuted.
pub struct Suspended {
    env: Box<Verifier>,
    errno: Errno,
    request: Vec<u32>,
    trail: Option<Box<Trail>>,
}

impl Suspended {
    pub(in crate::verifier) fn new(mut env: Box<Verifier>, errno: Errno) -> Self {
        let mut request = Vec::new();
        if let Some(bcf) = &env.bcf {
            request.extend_from_slice(bcf.exprs.words());
            let id = |cond: Option<Expr>| cond.map_or(u32::MAX, Expr::id);
            request.extend([id(bcf.path_cond), id(bcf.refine_cond)]);
        }
        let trail = env.take_trail();
        Self { env, errno, request, trail }
    }

    /// The error that the verification ends with unless the condition is refuted.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// What is to be proved: the words of expressions, then the ids of the path condition and of the refinement condition, -1 for none.
    pub fn request(&self) -> &[u32] {
        &self.request
    }

    /// The path to the rejection, where [`Options::explain`](super::Options::explain) asks for it and there is one.
    pub fn trail(&self) -> Option<&Trail> {
        self.trail.as_deref()
    }

    /// `resume_env`: checks a proof, and goes on if it refutes what `target` says. Any other proof ends the verification with the
    /// checker's error; `EINVAL` where there is no such condition.
    pub fn resume(mut self, target: Target, proof: &[u8], policy: Policy) -> Step {
        let start = Instant::now();
        match self.check_proof(target, proof, policy, start) {
            Ok(()) => {
                self.env.accept(target);
                self.env.go_on(start)
            }
            Err(errno) => Step::Done(Box::new(self.env.conclude(Err(errno), start))),
        }
    }

    /// Ends the verification with `errno`.
    pub fn give_up(self, errno: Errno) -> Box<Outcome> {
        Box::new(self.env.conclude(Err(errno), Instant::now()))
    }

    fn check_proof(&mut self, target: Target, proof: &[u8], policy: Policy, start: Instant) -> Result<()> {
        let request = Request::parse(&self.request).map_err(|_| Errno::EINVAL)?;
        let goal = Goal { arena: &request.arena, root: request.cond(target).ok_or(Errno::EINVAL)? };
        let checked = checker::check_bytes(proof, Some(goal), policy);
        let env = &mut self.env;
        let Some(bcf) = &mut env.bcf else { return Err(Errno::EINVAL) };
        bcf.check_time += start.elapsed();
        checked.map_err(|error| Errno(error.errno()))?;
        bcf.check_nth += 1;
        let (nth, backtrack, track) = (bcf.check_nth, bcf.backtrack_length, bcf.track_length);
        if env.log.level & BPF_LOG_LEVEL2 != 0 {
            verbose!(
                env,
                "bcf proof checked {nth} nth in {} ns, size {} bytes, type {} backtrack_length {backtrack} track_length {track} \
                 cond_size {}\n",
                start.elapsed().as_nanos(),
                proof.len(),
                if target == Target::Refine { "range" } else { "path" },
                (self.request.len() - 2) * size_of::<u32>()
            );
        }
        Ok(())
    }
}

impl Verifier {
    /// What the walk's end asks for: the error that goes with the request.
    pub(in crate::verifier) fn bcf_request_after(&mut self, walked: Result<()>) -> Option<Errno> {
        let bcf = self.bcf.as_mut()?;
        match walked {
            Err(errno) => bcf.requested.then_some(errno),
            Ok(()) => {
                bcf.walk_done = true;
                bcf.request_batch().then_some(Errno::EINVAL)
            }
        }
    }

    /// The proof holds: where the walk goes on.
    fn accept(&mut self, target: Target) {
        let at_jmp_point = self.insn_aux.get(self.insn_idx as usize).is_some_and(|aux| aux.jmp_point);
        let Some(bcf) = &mut self.bcf else { return };
        bcf.requested = false;
        bcf.batch.clear();
        bcf.kept = 0;
        (bcf.backtrack_length, bcf.track_length) = (0, 0);
        if bcf.walk_done {
            return;
        }
        bcf.resumed = true;
        bcf.path_unreachable = target == Target::PathUnreachable;
        if bcf.path_unreachable {
            // Nothing was proved of the access, which may come again on another path.
            bcf.access_checked = None;
        }
        // The instruction that failed runs again.
        if at_jmp_point {
            self.cur_state.jmp_history.pop();
        }
    }
}
