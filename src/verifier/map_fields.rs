//! Special fields of map values that helpers work on: spin locks, timers, kptrs.

use bpftwin_uapi::Errno;

use super::access::CallArgMeta;
use super::reg_type::RegType;
use super::state::{LockOwner, REF_TYPE_LOCK, REF_TYPE_RES_LOCK, REF_TYPE_RES_LOCK_IRQ, RegState};
use super::{Result, Verifier};
use crate::btf::{BtfRecord, btf_field_type_name, field};
use crate::verbose;

/// What `process_spin_lock` is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpinLockOp {
    /// Lock, or unlock.
    pub lock: bool,
    /// The resilient kind, `bpf_res_spin_lock`.
    pub resilient: bool,
    /// Together with the interrupt state.
    pub irq: bool,
}

impl Verifier {
    /// Byte of the map value that a pointer with constant variable part points to.
    fn value_offset(reg: &RegState) -> u64 {
        reg.var_off.value.wrapping_add(reg.off as i64 as u64)
    }

    /// `reg_may_point_to_spin_lock`: lookups are told apart by their ids where the value has a lock.
    pub fn reg_may_point_to_spin_lock(&self, reg: &RegState) -> bool {
        let locks = field::BPF_SPIN_LOCK | field::BPF_RES_SPIN_LOCK;
        reg.type_ == RegType::PTR_TO_MAP_VALUE
            && reg
                .map_ptr()
                .and_then(|map_idx| self.maps[map_idx as usize].record.as_deref())
                .is_some_and(|record| record.has_field(locks))
    }

    /// `process_spin_lock`: the pointer in `regno` is taken as a lock, or released.
    pub(super) fn process_spin_lock(&mut self, regno: u8, op: SpinLockOp) -> Result<()> {
        let reg = *self.cur_reg(regno);
        let lock_str = if op.resilient { "bpf_res_spin" } else { "bpf_spin" };
        if !reg.is_const() {
            verbose!(
                self,
                "R{regno} doesn't have constant offset. {lock_str}_lock has to be at the constant offset\n"
            );
            return Err(Errno::EINVAL);
        }
        let map_idx = match reg.map_ptr() {
            Some(map_idx) if reg.type_ == RegType::PTR_TO_MAP_VALUE => map_idx,
            _ => return self.not_emulated("locks in allocated objects"),
        };
        let map = self.maps[map_idx as usize].clone();
        if map.btf.is_none() {
            verbose!(self, "map '{}' has to have BTF in order to use {lock_str}_lock\n", map.name);
            return Err(Errno::EINVAL);
        }
        let offset =
            |record: &BtfRecord| if op.resilient { record.res_spin_lock_off } else { record.spin_lock_off };
        let kind = if op.resilient { field::BPF_RES_SPIN_LOCK } else { field::BPF_SPIN_LOCK };
        let record = map.record.as_deref().filter(|record| record.has_field(kind));
        let spin_lock_off = record.map(offset);
        let Some(spin_lock_off) = spin_lock_off else {
            verbose!(self, "map '{}' has no valid {lock_str}_lock\n", map.name);
            return Err(Errno::EINVAL);
        };
        let off = Self::value_offset(&reg);
        if spin_lock_off as i64 as u64 != off {
            verbose!(
                self,
                "off {} doesn't point to 'struct {lock_str}_lock' that is at {spin_lock_off}\n",
                off as i64
            );
            return Err(Errno::EINVAL);
        }
        let owner = LockOwner::Map(map_idx);
        if op.lock {
            self.lock(op, reg.id, owner)
        } else {
            self.unlock(op, reg.id, owner)?;
            self.invalidate_non_owning_refs();
            Ok(())
        }
    }

    fn lock_type(op: SpinLockOp) -> u32 {
        match (op.resilient, op.irq) {
            (true, true) => REF_TYPE_RES_LOCK_IRQ,
            (true, false) => REF_TYPE_RES_LOCK,
            (false, _) => REF_TYPE_LOCK,
        }
    }

    fn lock(&mut self, op: SpinLockOp, id: u32, owner: LockOwner) -> Result<()> {
        let state = &self.cur_state;
        if state.active_locks != 0 {
            // A second plain lock is refused before this, where calls under a lock are; hence the odd arguments.
            if !op.resilient && state.find_lock_state(REF_TYPE_LOCK, 0, LockOwner::None).is_some() {
                verbose!(self, "Locking two bpf_spin_locks are not allowed\n");
                return Err(Errno::EINVAL);
            }
            let resilient = REF_TYPE_RES_LOCK | REF_TYPE_RES_LOCK_IRQ;
            if op.resilient && state.find_lock_state(resilient, id, owner).is_some() {
                verbose!(self, "Acquiring the same lock again, AA deadlock detected\n");
                return Err(Errno::EINVAL);
            }
        }
        self.acquire_lock_state(self.insn_idx, Self::lock_type(op), id, owner);
        Ok(())
    }

    fn unlock(&mut self, op: SpinLockOp, id: u32, owner: LockOwner) -> Result<()> {
        let lock_str = if op.resilient { "bpf_res_spin" } else { "bpf_spin" };
        let state = &self.cur_state;
        let problem = if state.active_locks == 0 {
            "without taking a lock"
        } else if state.find_lock_state(Self::lock_type(op), id, owner).is_none() {
            "of different lock"
        } else if id != state.active_lock_id || owner != state.active_lock_ptr {
            "cannot be out of order"
        } else if self.cur_state.release_lock_state(Self::lock_type(op), id, owner).is_err() {
            "of different lock"
        } else {
            return Ok(());
        };
        verbose!(self, "{lock_str}_unlock {problem}\n");
        Err(Errno::EINVAL)
    }

    /// `check_map_field_pointer`: the map value pointer in `regno` points to the value's field of this kind.
    fn check_map_field_pointer(&mut self, regno: u8, field_type: u32) -> Result<()> {
        let reg = *self.cur_reg(regno);
        let struct_name = btf_field_type_name(field_type);
        if !reg.is_const() {
            verbose!(
                self,
                "R{regno} doesn't have constant offset. {struct_name} has to be at the constant offset\n"
            );
            return Err(Errno::EINVAL);
        }
        let map = match reg.map_ptr() {
            Some(map_idx) => self.maps[map_idx as usize].clone(),
            None => return Err(Errno::EFAULT),
        };
        if map.btf.is_none() {
            verbose!(self, "map '{}' has to have BTF in order to use {struct_name}\n", map.name);
            return Err(Errno::EINVAL);
        }
        let Some(field_off) = map.record.as_deref().and_then(|record| unique_field_off(record, field_type))
        else {
            verbose!(self, "map '{}' has no valid {struct_name}\n", map.name);
            return Err(Errno::EINVAL);
        };
        let off = Self::value_offset(&reg);
        if field_off as i64 as u64 != off {
            verbose!(
                self,
                "off {} doesn't point to 'struct {struct_name}' that is at {field_off}\n",
                off as i64
            );
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// `process_timer_func`
    pub(super) fn process_timer_func(&mut self, regno: u8, meta: &mut CallArgMeta) -> Result<()> {
        self.check_map_field_pointer(regno, field::BPF_TIMER)?;
        if meta.map_ptr.is_some() {
            verbose!(self, "verifier bug: Two map pointers in a timer helper\n");
            return Err(Errno::EFAULT);
        }
        let reg = self.cur_reg(regno);
        meta.map_uid = reg.map_uid();
        meta.map_ptr = reg.map_ptr();
        Ok(())
    }
}

/// Offset of a field that a value has one of at most.
fn unique_field_off(record: &BtfRecord, field_type: u32) -> Option<i32> {
    if !record.has_field(field_type) {
        return None;
    }
    match field_type {
        field::BPF_TIMER => Some(record.timer_off),
        field::BPF_WORKQUEUE => Some(record.wq_off),
        field::BPF_TASK_WORK => Some(record.task_work_off),
        _ => None,
    }
}
