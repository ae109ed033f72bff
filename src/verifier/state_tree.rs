//! The tree of verifier states: checkpoints and their parents, branches yet to be explored, and the strongly connected
//! components that paths enter and leave.

use std::ops::{Index, IndexMut};

use bpftwin_uapi::Errno;

use super::log::BPF_LOG_LEVEL2;
use super::print_state::{Scratched, StatePrinter};
use super::state::{BPF_MAIN_FUNC, FuncState, MAX_CALL_FRAMES, RetvalRange, StateId, VerifierState};
use super::{Result, Verifier};
use crate::verbose;

/// Branches that may wait to be explored: `BPF_COMPLEXITY_LIMIT_JMP_SEQ`.
const BPF_COMPLEXITY_LIMIT_JMP_SEQ: usize = 8192;

/// A state by where it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateRef {
    /// The state under verification.
    Cur,
    /// A checkpoint, or the copy of a state that closed a loop.
    Cached(StateId),
}

/// A checkpoint: `struct bpf_verifier_state_list`.
#[derive(Default)]
pub struct StateEntry {
    pub state: Box<VerifierState>,
    pub miss_cnt: u32,
    pub hit_cnt: u32,
    pub in_free_list: bool,
}

/// Owner of all states but the current one. Freed states are reused, with the allocations they hold.
#[derive(Default)]
pub struct StatePool {
    entries: Vec<StateEntry>,
    free: Vec<StateId>,
    /// Boxed, as the current state is swapped with those that wait, which must not copy them.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<VerifierState>>,
}

impl StatePool {
    /// A copy of `src` as a new entry.
    pub fn insert_copy(&mut self, src: &VerifierState) -> StateId {
        let mut state = self.spare.pop().unwrap_or_default();
        state.reset_to(src);
        let entry = StateEntry { state, ..StateEntry::default() };
        match self.free.pop() {
            Some(id) => {
                self.entries[id.0 as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                StateId(self.entries.len() as u32 - 1)
            }
        }
    }

    pub fn remove(&mut self, id: StateId) {
        let state = std::mem::take(&mut self.entries[id.0 as usize].state);
        self.recycle(state);
        self.free.push(id);
    }

    /// A copy of `src` that is not an entry.
    pub fn copy_of(&mut self, src: &VerifierState) -> Box<VerifierState> {
        let mut state = self.spare.pop().unwrap_or_default();
        state.reset_to(src);
        state
    }

    pub fn recycle(&mut self, state: Box<VerifierState>) {
        self.spare.push(state);
    }

    /// Frees all entries: `free_states`.
    pub fn clear(&mut self) {
        for entry in self.entries.drain(..) {
            self.spare.push(entry.state);
        }
        self.free.clear();
    }
}

impl Index<StateId> for StatePool {
    type Output = StateEntry;

    #[inline]
    fn index(&self, id: StateId) -> &StateEntry {
        &self.entries[id.0 as usize]
    }
}

impl IndexMut<StateId> for StatePool {
    #[inline]
    fn index_mut(&mut self, id: StateId) -> &mut StateEntry {
        &mut self.entries[id.0 as usize]
    }
}

impl VerifierState {
    /// Copies into a state that held another one: as [`Self::copy_from`], with the rest cleared.
    fn reset_to(&mut self, src: &VerifierState) {
        self.insn_idx = 0;
        self.children_unsafe = false;
        self.copy_from(src);
    }

    /// `copy_verifier_state`: everything but `insn_idx` and `children_unsafe`, into the allocations that are there.
    pub fn copy_from(&mut self, src: &VerifierState) {
        self.jmp_history.clone_from(&src.jmp_history);
        self.refs.clone_from(&src.refs);
        self.active_locks = src.active_locks;
        self.active_preempt_locks = src.active_preempt_locks;
        self.active_rcu_lock = src.active_rcu_lock;
        self.active_irq_id = src.active_irq_id;
        self.active_lock_id = src.active_lock_id;
        self.active_lock_ptr = src.active_lock_ptr;
        self.speculative = src.speculative;
        self.in_sleepable = src.in_sleepable;
        self.cleaned = src.cleaned;
        self.branches = src.branches;
        self.parent = src.parent;
        self.first_insn_idx = src.first_insn_idx;
        self.last_insn_idx = src.last_insn_idx;
        self.dfs_depth = src.dfs_depth;
        self.callback_unroll_depth = src.callback_unroll_depth;
        self.may_goto_depth = src.may_goto_depth;
        self.equal_state = src.equal_state;
        self.frames.truncate(src.frames.len());
        for (i, frame) in src.frames.iter().enumerate() {
            match self.frames.get_mut(i) {
                Some(dst) => dst.copy_from(frame),
                None => self.frames.push(frame.clone()),
            }
        }
    }

    /// Call instruction or current instruction that frame `frame` is at: `frame_insn_idx`.
    #[inline]
    pub fn frame_insn_idx(&self, frame: usize) -> u32 {
        match self.frames.get(frame + 1) {
            None => self.insn_idx,
            Some(inner) => inner.callsite as u32,
        }
    }

    /// `same_callsites`
    pub fn same_callsites(&self, other: &VerifierState) -> bool {
        self.frames.len() == other.frames.len()
            && self.frames.iter().zip(&other.frames).rev().all(|(a, b)| a.callsite == b.callsite)
    }
}

impl FuncState {
    /// `copy_func_state`
    fn copy_from(&mut self, src: &FuncState) {
        self.regs = src.regs;
        self.callsite = src.callsite;
        self.frameno = src.frameno;
        self.subprogno = src.subprogno;
        self.async_entry_cnt = src.async_entry_cnt;
        self.callback_ret_range = src.callback_ret_range;
        self.in_callback_fn = src.in_callback_fn;
        self.in_async_callback_fn = src.in_async_callback_fn;
        self.in_exception_callback_fn = src.in_exception_callback_fn;
        self.callback_depth = src.callback_depth;
        self.stack.clone_from(&src.stack);
    }
}

/// A branch to be explored later: `struct bpf_verifier_stack_elem`.
pub struct StackElem {
    /// State before `insn_idx` and behind `prev_insn_idx`.
    pub st: Box<VerifierState>,
    pub insn_idx: u32,
    pub prev_insn_idx: u32,
    /// Position of the log when the branch was pushed.
    pub log_pos: u64,
}

/// Call sites that lead to a strongly connected component: `struct bpf_scc_callchain`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SccCallchain {
    callsites: [u32; MAX_CALL_FRAMES - 1],
    scc: u32,
}

impl std::fmt::Display for SccCallchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(")?;
        for callsite in self.callsites.iter().take_while(|&&callsite| callsite != 0) {
            write!(f, "{callsite},")?;
        }
        write!(f, "{})", self.scc)
    }
}

/// Paths inside a component that was entered along one call chain: `struct bpf_scc_visit`.
pub struct SccVisit {
    callchain: SccCallchain,
    /// First checkpoint of the present path inside the component.
    entry_state: Option<StateId>,
    /// Copies of states that closed a loop, oldest first.
    pub backedges: Vec<StateId>,
    num_backedges: u32,
}

impl Verifier {
    #[inline]
    pub fn state(&self, st: StateRef) -> &VerifierState {
        match st {
            StateRef::Cur => &self.cur_state,
            StateRef::Cached(id) => &self.states[id].state,
        }
    }

    #[inline]
    pub fn state_mut(&mut self, st: StateRef) -> &mut VerifierState {
        match st {
            StateRef::Cur => &mut self.cur_state,
            StateRef::Cached(id) => &mut self.states[id].state,
        }
    }

    /// Logs all of frame `frameno` of a state.
    pub fn print_state_ref(&mut self, st: StateRef, frameno: usize) {
        if self.log.level == 0 {
            return;
        }
        let state = match st {
            StateRef::Cur => &self.cur_state,
            StateRef::Cached(id) => &self.states[id].state,
        };
        StatePrinter {
            log: &mut self.log,
            maps: &self.maps,
            btf_vmlinux: self.btf_vmlinux.as_deref(),
            used_btfs: &self.used_btfs,
        }
        .print_verifier_state(state, frameno, Scratched::ALL);
    }

    /// `update_peak_states`
    pub fn update_peak_states(&mut self) {
        let cur_states = self.explored_states_size + self.free_list_size + self.num_backedges;
        self.peak_states = self.peak_states.max(cur_states);
    }

    /// `push_stack`: the current state is to be continued at `insn_idx` later. Returns the copy.
    pub fn push_stack(
        &mut self,
        insn_idx: u32,
        prev_insn_idx: u32,
        speculative: bool,
    ) -> Result<&mut VerifierState> {
        let mut st = self.states.copy_of(&self.cur_state);
        st.speculative |= speculative;
        let parent = st.parent;
        self.push_elem(st, insn_idx, prev_insn_idx);
        if self.stack.len() > BPF_COMPLEXITY_LIMIT_JMP_SEQ {
            verbose!(self, "The sequence of {} jumps is too complex.\n", self.stack.len());
            // The kernel's callers take the missing state for a lack of memory.
            return Err(Errno::EFAULT);
        }
        if let Some(parent) = parent {
            self.states[parent].state.branches += 1;
        }
        self.top_of_stack()
    }

    /// `push_async_cb`: an asynchronous callback is to be verified later, on a stack of its own.
    pub fn push_async_cb(
        &mut self,
        insn_idx: u32,
        prev_insn_idx: u32,
        subprog: u32,
        is_sleepable: bool,
    ) -> Result<&mut VerifierState> {
        let frame = self.init_func_state(BPF_MAIN_FUNC, 0, subprog);
        let st = Box::new(VerifierState {
            branches: 1,
            in_sleepable: is_sleepable,
            frames: vec![frame],
            ..VerifierState::default()
        });
        self.push_elem(st, insn_idx, prev_insn_idx);
        if self.stack.len() > BPF_COMPLEXITY_LIMIT_JMP_SEQ {
            verbose!(self, "The sequence of {} jumps is too complex for async cb.\n", self.stack.len());
            return Err(Errno::EFAULT);
        }
        self.top_of_stack()
    }

    fn push_elem(&mut self, st: Box<VerifierState>, insn_idx: u32, prev_insn_idx: u32) {
        let log_pos = self.log.end_pos();
        self.stack.push(StackElem { st, insn_idx, prev_insn_idx, log_pos });
    }

    fn top_of_stack(&mut self) -> Result<&mut VerifierState> {
        self.stack.last_mut().map(|elem| &mut *elem.st).ok_or(Errno::EFAULT)
    }

    /// `pop_stack`: continues with the branch pushed last; false where none is left.
    pub fn pop_stack(&mut self, pop_log: bool) -> bool {
        let Some(mut elem) = self.stack.pop() else { return false };
        elem.st.insn_idx = self.cur_state.insn_idx;
        elem.st.children_unsafe = self.cur_state.children_unsafe;
        std::mem::swap(&mut self.cur_state, &mut elem.st);
        self.states.recycle(elem.st);
        if pop_log {
            self.log.reset(elem.log_pos);
        }
        self.insn_idx = elem.insn_idx;
        self.prev_insn_idx = elem.prev_insn_idx;
        true
    }

    /// `init_func_state`: a fresh frame, all registers but the frame pointer unset.
    pub fn init_func_state(&mut self, callsite: i32, frameno: u32, subprogno: u32) -> Box<FuncState> {
        let mut frame = Box::new(FuncState {
            callsite,
            frameno,
            subprogno,
            callback_ret_range: RetvalRange::default(),
            ..FuncState::default()
        });
        self.init_reg_state(&mut frame);
        self.mark_verifier_state_scratched();
        frame
    }

    /// `init_reg_state`
    pub fn init_reg_state(&self, frame: &mut FuncState) {
        for reg in &mut frame.regs {
            Self::mark_reg_not_init(self.bpf_capable, reg);
            reg.subreg_def = super::state::DEF_NOT_SUBREG;
        }
        let frameno = frame.frameno as u8;
        let fp = &mut frame.regs[bpftwin_uapi::insn::BPF_REG_FP as usize];
        fp.type_ = super::reg_type::RegType::PTR_TO_STACK;
        fp.mark_known_zero();
        fp.frameno = frameno;
    }

    /// `compute_scc_callchain`: the outermost frame of `st` that is inside a component, and the calls that lead there.
    fn compute_scc_callchain(&self, st: &VerifierState) -> Option<SccCallchain> {
        let mut callchain = SccCallchain::default();
        for i in 0..st.frames.len() {
            let insn_idx = st.frame_insn_idx(i);
            let scc = self.insn_aux[insn_idx as usize].scc;
            if scc != 0 {
                callchain.scc = scc;
                return Some(callchain);
            }
            if i + 1 < st.frames.len() {
                callchain.callsites[i] = insn_idx;
            }
        }
        None
    }

    fn scc_visit_lookup(&self, callchain: &SccCallchain) -> Option<usize> {
        self.scc_info[callchain.scc as usize].iter().position(|visit| visit.callchain == *callchain)
    }

    /// `maybe_enter_scc`: a new checkpoint may be the first of its path in a component.
    pub fn maybe_enter_scc(&mut self, id: StateId) {
        let Some(callchain) = self.compute_scc_callchain(&self.states[id].state) else { return };
        let visits = &mut self.scc_info[callchain.scc as usize];
        let pos = match visits.iter().position(|visit| visit.callchain == callchain) {
            Some(pos) => pos,
            None => {
                visits.push(SccVisit { callchain, entry_state: None, backedges: vec![], num_backedges: 0 });
                visits.len() - 1
            }
        };
        if visits[pos].entry_state.is_none() {
            visits[pos].entry_state = Some(id);
            if self.log.level & BPF_LOG_LEVEL2 != 0 {
                verbose!(self, "SCC enter {callchain}\n");
            }
        }
    }

    /// `maybe_exit_scc`: all paths from `st` are explored; if it entered a component, loops through it are settled.
    fn maybe_exit_scc(&mut self, st: StateRef) -> Result<()> {
        let Some(callchain) = self.compute_scc_callchain(self.state(st)) else { return Ok(()) };
        let Some(pos) = self.scc_visit_lookup(&callchain) else {
            if !self.state(st).speculative {
                verbose!(self, "verifier bug: scc exit: no visit info for call chain {callchain}\n");
                return Err(Errno::EFAULT);
            }
            return Ok(());
        };
        let visit = &mut self.scc_info[callchain.scc as usize][pos];
        let StateRef::Cached(id) = st else { return Ok(()) };
        if visit.entry_state != Some(id) {
            return Ok(());
        }
        visit.entry_state = None;
        self.num_backedges -= visit.num_backedges;
        visit.num_backedges = 0;
        if self.log.level & BPF_LOG_LEVEL2 != 0 {
            verbose!(self, "SCC exit {callchain}\n");
        }
        self.update_peak_states();
        // Freed below; nothing asks about this visit in between.
        let backedges = std::mem::take(&mut self.scc_info[callchain.scc as usize][pos].backedges);
        self.propagate_backedges(&backedges)?;
        for id in backedges {
            self.states.remove(id);
        }
        Ok(())
    }

    /// `add_scc_backedge`: `backedge` is a copy of a state found equal to the checkpoint `id` inside a component.
    pub fn add_scc_backedge(&mut self, id: StateId, backedge: StateId) -> Result<()> {
        let st = &self.states[id].state;
        let insn_idx = st.insn_idx;
        let Some(callchain) = self.compute_scc_callchain(st) else {
            verbose!(self, "verifier bug: add backedge: no SCC in verification path, insn_idx {insn_idx}\n");
            return Err(Errno::EFAULT);
        };
        let Some(pos) = self.scc_visit_lookup(&callchain) else {
            verbose!(self, "verifier bug: add backedge: no visit info for call chain {callchain}\n");
            return Err(Errno::EFAULT);
        };
        if self.log.level & BPF_LOG_LEVEL2 != 0 {
            verbose!(self, "SCC backedge {callchain}\n");
        }
        let visit = &mut self.scc_info[callchain.scc as usize][pos];
        visit.backedges.push(backedge);
        visit.num_backedges += 1;
        self.num_backedges += 1;
        self.update_peak_states();
        Ok(())
    }

    /// `incomplete_read_marks`: the state is in a component that has loops not settled yet.
    pub fn incomplete_read_marks(&self, st: &VerifierState) -> bool {
        let Some(callchain) = self.compute_scc_callchain(st) else { return false };
        self.scc_info[callchain.scc as usize]
            .iter()
            .any(|visit| visit.callchain == callchain && !visit.backedges.is_empty())
    }

    /// `maybe_free_verifier_state`: frees an evicted checkpoint that nothing refers to.
    pub fn maybe_free_verifier_state(&mut self, id: StateId) {
        let entry = &self.states[id];
        if !entry.in_free_list || entry.state.branches != 0 || self.incomplete_read_marks(&entry.state) {
            return;
        }
        self.free_list.retain(|&other| other != id);
        self.free_list_size -= 1;
        self.states.remove(id);
    }

    /// `update_branch_counts`: the path of the current state is explored to its end.
    pub fn update_branch_counts(&mut self) -> Result<()> {
        let mut st = Some(StateRef::Cur);
        let mut last = None;
        while let Some(st_ref) = st {
            let state = self.state_mut(st_ref);
            state.branches = state.branches.wrapping_sub(1);
            let branches = state.branches as i32;
            if branches < 0 {
                verbose!(
                    self,
                    "verifier bug: update_branch_counts:branches_to_explore={branches} ((int)br < 0)\n"
                );
            }
            if branches != 0 {
                break;
            }
            self.maybe_exit_scc(st_ref)?;
            let parent = self.state(st_ref).parent;
            if let Some(id) = last {
                self.maybe_free_verifier_state(id);
            }
            last = parent;
            st = parent.map(StateRef::Cached);
        }
        Ok(())
    }
}
