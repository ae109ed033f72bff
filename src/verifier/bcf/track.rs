//! The symbolic run: the verifier's own walk along one path, from a copy of the state where it begins.
//!
//! While it runs there is no log, no pruning, no liveness and no precision; what it finds are expressions of registers and the
//! conditions of the branches.

use std::mem::{swap, take};

use bpftwin_uapi::Errno;
use bpftwin_uapi::bcf::BCF_BOOL_AND;
use bpftwin_uapi::insn::BPF_REG_FP;

use super::suffix::PathMatch;
use crate::verifier::state::{StateId, VerifierState};
use crate::verifier::state_tree::StackElem;
use crate::verifier::{Result, Verifier};

/// Why a symbolic run ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackError {
    /// The conditions contradict each other: nothing takes the path.
    Unreachable,
    Failed,
}

/// What a symbolic run must not disturb: `struct env_backup`.
struct Backup {
    insn_idx: u32,
    prev_insn_idx: u32,
    stack: Vec<StackElem>,
    id_gen: u32,
    cur_state: Box<VerifierState>,
    prev_linfo: Option<usize>,
    log_level: u32,
    insn_processed: u32,
    prev_insn_processed: u32,
    jmps_processed: u32,
    prev_jmps_processed: u32,
}

impl Backup {
    /// `swap_env_states`
    fn swap(&mut self, env: &mut Verifier) {
        swap(&mut self.insn_idx, &mut env.insn_idx);
        swap(&mut self.prev_insn_idx, &mut env.prev_insn_idx);
        swap(&mut self.stack, &mut env.stack);
        swap(&mut self.id_gen, &mut env.id_gen);
        swap(&mut self.cur_state, &mut env.cur_state);
        swap(&mut self.prev_linfo, &mut env.prev_linfo);
        swap(&mut self.log_level, &mut env.log.level);
        swap(&mut self.insn_processed, &mut env.insn_processed);
        swap(&mut self.prev_insn_processed, &mut env.prev_insn_processed);
        swap(&mut self.jmps_processed, &mut env.jmps_processed);
        swap(&mut self.prev_jmps_processed, &mut env.prev_jmps_processed);
    }
}

impl Verifier {
    /// `bcf_track`: runs the script's path from `base` on. Registers of the current frame get their expressions, and the path
    /// condition is made.
    pub(super) fn bcf_track(&mut self, base: Option<StateId>) -> std::result::Result<(), TrackError> {
        let Some(bcf) = &mut self.bcf else { return Err(TrackError::Failed) };
        bcf.exprs.truncate(bcf.kept);
        bcf.br_conds.clear();
        (bcf.path_cond, bcf.refine_cond) = (None, None);
        (bcf.contradiction, bcf.stray) = (false, false);
        bcf.inherited.clear();
        bcf.notes.begin();

        let start = base.map(|base| {
            let mut st = self.states[base].state.clone();
            st.parent = None;
            st.equal_state = None;
            st.first_insn_idx = st.insn_idx;
            st.children_unsafe = false;
            st.jmp_history.clear();
            bcf.inherited.begin(&mut st);
            st
        });
        let subprog = self.cur_state.frames[0].subprogno as usize;
        let mut backup = Backup {
            insn_idx: start.as_ref().map_or(self.subprog_info[subprog].start, |st| st.insn_idx),
            prev_insn_idx: start.as_ref().map_or(u32::MAX, |st| st.last_insn_idx),
            stack: Vec::new(),
            id_gen: self.id_gen,
            cur_state: Box::default(),
            prev_linfo: None,
            log_level: 0,
            insn_processed: 0,
            prev_insn_processed: 0,
            jmps_processed: 0,
            prev_jmps_processed: 0,
        };
        let from_base = start.is_some();
        if let Some(st) = start {
            backup.cur_state = st;
        }
        backup.swap(self);
        self.tracking = true;
        let run = if from_base { self.do_check() } else { self.do_check_common(subprog) };
        self.tracking = false;
        let track_length = self.insn_processed;
        // As published, a key of a map that the run came by is wanted from now on.
        if self.bcf.as_ref().is_some_and(|bcf| bcf.options.auto) {
            self.bt.reset();
        }
        for elem in take(&mut self.stack) {
            self.states.recycle(elem.st);
        }
        backup.swap(self);
        let tracked = take(&mut backup.cur_state);
        let result = self.take_tracked(run, &tracked);
        self.states.recycle(tracked);
        if let Some(bcf) = &mut self.bcf {
            bcf.track_length = bcf.track_length.saturating_add(track_length);
            bcf.track_budget = bcf.track_budget.saturating_sub(track_length);
            bcf.br_conds.clear();
            bcf.access_checked = None;
        }
        result
    }

    fn take_tracked(
        &mut self,
        run: Result<()>,
        tracked: &VerifierState,
    ) -> std::result::Result<(), TrackError> {
        let Some(bcf) = &mut self.bcf else { return Err(TrackError::Failed) };
        if bcf.script.is_lost() || bcf.options.auto && bcf.stray {
            return Err(TrackError::Failed);
        }
        if bcf.contradiction {
            return Err(TrackError::Unreachable);
        }
        if bcf.options.auto && !bcf.script.arrived() {
            return Err(TrackError::Failed);
        }
        if run.is_err() || !tracked.same_callsites(&self.cur_state) {
            return Err(TrackError::Failed);
        }
        let regs = &mut self.cur_state.cur_func_mut().regs;
        for (reg, tracked) in regs.iter_mut().zip(&tracked.cur_func().regs).take(BPF_REG_FP as usize) {
            reg.bcf_expr = tracked.bcf_expr;
        }
        bcf.path_cond = bcf.exprs.join(BCF_BOOL_AND, &bcf.br_conds);
        Ok(())
    }

    /// Where the symbolic run is before each instruction: true where it goes on with it, false where this is not the path. `Ok(None)`
    /// where it has arrived.
    #[cold]
    pub(in crate::verifier) fn bcf_follow(&mut self) -> Result<Option<bool>> {
        let is_jmp_point = self.insn_aux[self.insn_idx as usize].jmp_point;
        let branches = self.stack.len();
        let Some(bcf) = &mut self.bcf else { return Err(Errno::EFAULT) };
        let place = bcf.script.step(self.prev_insn_idx, self.insn_idx, is_jmp_point, branches);
        if place == PathMatch::Mismatch {
            return Ok(Some(false));
        }
        if !self.record_path_cond()? {
            if let Some(bcf) = &mut self.bcf {
                bcf.contradiction = true;
            }
            return Err(Errno::EFAULT);
        }
        if place == PathMatch::Done {
            return Ok(None);
        }
        if let Some(bcf) = &mut self.bcf {
            bcf.notes.steps += 1;
        }
        Ok(Some(true))
    }
}
