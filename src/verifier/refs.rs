//! Acquired references, locks and saved interrupt states of a verifier state, and what a release invalidates.
//!
//! `refs` is kept in order of acquisition: interrupt states and locks must be released in reverse order, and
//! checks read the order off the list.

use bpftwin_uapi::{Errno, ProgType};

use super::reg_type::{RegType, flag};
use super::state::{
    LockOwner, REF_TYPE_IRQ, REF_TYPE_LOCK_MASK, REF_TYPE_PTR, RefStateType, ReferenceState, RegState,
    VerifierState,
};
use super::{Result, Verifier};
use crate::verbose;

impl VerifierState {
    /// `release_reference_state`: forgets entry `idx`; the order of the others is kept.
    fn release_reference_state(&mut self, idx: usize) {
        self.refs.remove(idx);
    }

    /// `find_reference_state`: something with this id is held.
    pub fn find_reference_state(&self, id: u32) -> bool {
        self.refs.iter().any(|held| held.id == id)
    }

    /// `release_reference_nomark`: gives the pointer reference up, and leaves registers alone.
    pub fn release_reference_nomark(&mut self, ref_obj_id: u32) -> Result<()> {
        let held = |held: &ReferenceState| held.type_ == REF_TYPE_PTR && held.id == ref_obj_id;
        let idx = self.refs.iter().position(held).ok_or(Errno::EINVAL)?;
        self.release_reference_state(idx);
        Ok(())
    }

    /// `find_lock_state`: a lock of one of `types` is held on this object.
    pub fn find_lock_state(&self, types: RefStateType, id: u32, owner: LockOwner) -> Option<&ReferenceState> {
        self.refs.iter().find(|held| held.type_ & types != 0 && held.id == id && held.ptr == owner)
    }

    /// `release_lock_state`: drops the lock; the one taken before it becomes the active one.
    pub fn release_lock_state(&mut self, type_: RefStateType, id: u32, owner: LockOwner) -> Result<()> {
        let idx = self
            .refs
            .iter()
            .position(|held| held.type_ == type_ && held.id == id && held.ptr == owner)
            .ok_or(Errno::EINVAL)?;
        let outer = self.refs[..idx].iter().rev().find(|held| held.type_ & REF_TYPE_LOCK_MASK != 0);
        (self.active_lock_id, self.active_lock_ptr) =
            outer.map_or((0, LockOwner::None), |held| (held.id, held.ptr));
        self.release_reference_state(idx);
        self.active_locks -= 1;
        Ok(())
    }

    /// `release_irq_state`: restores the saved interrupt state, which must be the last one saved.
    pub fn release_irq_state(&mut self, id: u32) -> Result<()> {
        if id != self.active_irq_id {
            return Err(Errno::EACCES);
        }
        let saved = |held: &ReferenceState| held.type_ == REF_TYPE_IRQ;
        let idx = self.refs.iter().position(|held| saved(held) && held.id == id).ok_or(Errno::EINVAL)?;
        self.active_irq_id = self.refs[..idx].iter().rev().find(|held| saved(held)).map_or(0, |held| held.id);
        self.release_reference_state(idx);
        Ok(())
    }
}

impl Verifier {
    /// A fresh id for a register, a reference or a lock: `++env->id_gen`.
    #[inline]
    pub fn next_id(&mut self) -> u32 {
        self.id_gen = self.id_gen.wrapping_add(1);
        self.id_gen
    }

    /// `acquire_reference`: records that the instruction acquired a reference, and returns its id.
    pub fn acquire_reference(&mut self, insn_idx: u32) -> u32 {
        let id = self.next_id();
        self.cur_state.refs.push(ReferenceState { type_: REF_TYPE_PTR, id, insn_idx, ptr: LockOwner::None });
        id
    }

    /// `acquire_lock_state`: the lock becomes the active one.
    pub fn acquire_lock_state(&mut self, insn_idx: u32, type_: RefStateType, id: u32, owner: LockOwner) {
        let state = &mut self.cur_state;
        state.refs.push(ReferenceState { type_, id, insn_idx, ptr: owner });
        state.active_locks += 1;
        state.active_lock_id = id;
        state.active_lock_ptr = owner;
    }

    /// `acquire_irq_state`: records that the instruction saved the interrupt state, and returns the id of it.
    pub fn acquire_irq_state(&mut self, insn_idx: u32) -> u32 {
        let id = self.next_id();
        self.cur_state.refs.push(ReferenceState { type_: REF_TYPE_IRQ, id, insn_idx, ptr: LockOwner::None });
        self.cur_state.active_irq_id = id;
        id
    }

    /// `release_reference`: gives the reference up and invalidates every copy of the pointer.
    pub fn release_reference(&mut self, ref_obj_id: u32) -> Result<()> {
        self.cur_state.release_reference_nomark(ref_obj_id)?;
        self.invalidate_regs_where(|reg| reg.ref_obj_id == ref_obj_id);
        Ok(())
    }

    /// `invalidate_non_owning_refs`: pointers into a collection do not outlive the critical section.
    pub fn invalidate_non_owning_refs(&mut self) {
        self.invalidate_regs_where(|reg| {
            reg.type_.has(flag::MEM_ALLOC | flag::NON_OWN_REF) && reg.type_.base() == RegType::PTR_TO_BTF_ID
        });
    }

    /// `clear_all_pkt_pointers`: the packet may have moved, so that all pointers into it are stale.
    pub fn clear_all_pkt_pointers(&mut self) {
        self.invalidate_regs_where(|reg| reg.is_pkt_pointer_any() || reg.is_dynptr_slice_pkt());
    }

    /// Applies `mark_reg_invalid` to the registers and spilled registers, of all frames, that `stale` picks.
    pub fn invalidate_regs_where(&mut self, stale: impl Fn(&RegState) -> bool) {
        let (allow_ptr_leaks, bpf_capable) = (self.allow_ptr_leaks, self.bpf_capable);
        self.cur_state.for_each_reg_mut(|reg| {
            if stale(reg) {
                Self::invalidate_reg(allow_ptr_leaks, bpf_capable, reg);
            }
        });
    }

    /// `mark_reg_invalid`: privileged programs may still use the value as a scalar.
    pub fn mark_reg_invalid(&self, reg: &mut RegState) {
        Self::invalidate_reg(self.allow_ptr_leaks, self.bpf_capable, reg);
    }

    fn invalidate_reg(allow_ptr_leaks: bool, bpf_capable: bool, reg: &mut RegState) {
        if allow_ptr_leaks {
            Self::mark_reg_unknown(bpf_capable, reg);
        } else {
            Self::mark_reg_not_init(bpf_capable, reg);
        }
    }

    /// `check_reference_leak`: names every reference that is still held where the program ends.
    fn check_reference_leak(&mut self, exception_exit: bool) -> Result<()> {
        if self.cur_state.refs.is_empty() || (!exception_exit && self.cur_state.cur_func().frameno != 0) {
            return Ok(());
        }
        // A struct_ops program may hand a reference back in R0; the return value check looks at it.
        let returned = if self.prog.prog_type == ProgType::StructOps && !exception_exit {
            Some(self.cur_reg(0).ref_obj_id)
        } else {
            None
        };
        let mut leaked = false;
        for held in &self.cur_state.refs {
            if held.type_ != REF_TYPE_PTR || returned == Some(held.id) {
                continue;
            }
            verbose!(self, "Unreleased reference id={} alloc_insn={}\n", held.id, held.insn_idx);
            leaked = true;
        }
        if leaked { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// `check_resource_leak`: nothing is held that `prefix` (an exit, a tail call, …) would leak.
    pub fn check_resource_leak(
        &mut self,
        exception_exit: bool,
        check_lock: bool,
        prefix: &str,
    ) -> Result<()> {
        if check_lock && self.cur_state.active_locks != 0 {
            verbose!(self, "{prefix} cannot be used inside bpf_spin_lock-ed region\n");
            return Err(Errno::EINVAL);
        }
        if let Err(err) = self.check_reference_leak(exception_exit) {
            verbose!(self, "{prefix} would lead to reference leak\n");
            return Err(err);
        }
        if !check_lock {
            return Ok(());
        }
        let state = &self.cur_state;
        let region = if state.active_irq_id != 0 {
            "bpf_local_irq_save"
        } else if state.active_rcu_lock {
            "bpf_rcu_read_lock"
        } else if state.active_preempt_locks != 0 {
            "bpf_preempt_disable"
        } else {
            return Ok(());
        };
        verbose!(self, "{prefix} cannot be used inside {region}-ed region\n");
        Err(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{REF_TYPE_LOCK, REF_TYPE_RES_LOCK};
    use super::*;

    fn held(type_: RefStateType, id: u32, ptr: LockOwner) -> ReferenceState {
        ReferenceState { type_, id, insn_idx: 0, ptr }
    }

    #[test]
    fn releasing_a_lock_makes_the_outer_one_active() {
        let map = LockOwner::Map(0);
        let mut state = VerifierState {
            refs: vec![
                held(REF_TYPE_RES_LOCK, 1, map),
                held(REF_TYPE_PTR, 2, LockOwner::None),
                held(REF_TYPE_LOCK, 3, map),
            ],
            active_locks: 2,
            active_lock_id: 3,
            active_lock_ptr: map,
            ..Default::default()
        };
        assert_eq!(state.release_lock_state(REF_TYPE_LOCK, 1, map), Err(Errno::EINVAL));
        assert_eq!(state.release_lock_state(REF_TYPE_LOCK, 3, map), Ok(()));
        assert_eq!((state.active_locks, state.active_lock_id, state.active_lock_ptr), (1, 1, map));
        assert_eq!(state.release_reference_nomark(1), Err(Errno::EINVAL));
        assert_eq!(state.release_reference_nomark(2), Ok(()));
        assert_eq!(state.release_lock_state(REF_TYPE_RES_LOCK, 1, map), Ok(()));
        assert_eq!((state.active_lock_id, state.active_lock_ptr), (0, LockOwner::None));
    }
}
