//! What a helper call leaves in R0.

use bpftwin_uapi::insn::BPF_REG_0;
use bpftwin_uapi::{Errno, HelperId};

use super::access::CallArgMeta;
use super::disasm::func_id_name;
use super::func_arg::can_elide_value_nullness;
use super::reg_type::{RegType, RetType, flag};
use super::state::DEF_NOT_SUBREG;
use super::{Result, Verifier};
use crate::btf::field;
use crate::helpers::{
    FuncProto, helper_multiple_ref_obj_use, is_acquire_function, is_dynptr_ref_function, is_ptr_cast_function,
};
use crate::verbose;

/// Largest error number that a pointer can encode: `MAX_ERRNO`.
const MAX_ERRNO: i32 = 4095;

impl Verifier {
    /// The part of `check_helper_call` that types R0, which the call has just clobbered.
    pub(super) fn set_helper_return(
        &mut self,
        func: HelperId,
        proto: &FuncProto,
        insn_idx: u32,
        meta: &CallArgMeta,
    ) -> Result<()> {
        self.cur_reg_mut(BPF_REG_0).subreg_def = DEF_NOT_SUBREG;
        let flags = proto.ret_type.flags();
        match proto.ret_type.base() {
            RetType::RET_INTEGER => self.mark_cur_reg_unknown(BPF_REG_0),
            RetType::RET_VOID => self.cur_reg_mut(BPF_REG_0).type_ = RegType::NOT_INIT,
            RetType::RET_PTR_TO_MAP_VALUE => self.set_map_value_return(func, flags, meta)?,
            RetType::RET_PTR_TO_SOCKET => self.set_pointer_return(RegType::PTR_TO_SOCKET.with(flags)),
            RetType::RET_PTR_TO_SOCK_COMMON => {
                self.set_pointer_return(RegType::PTR_TO_SOCK_COMMON.with(flags))
            }
            RetType::RET_PTR_TO_TCP_SOCK => self.set_pointer_return(RegType::PTR_TO_TCP_SOCK.with(flags)),
            RetType::RET_PTR_TO_MEM => {
                self.set_pointer_return(RegType::PTR_TO_MEM.with(flags));
                self.cur_reg_mut(BPF_REG_0).set_mem_size(meta.mem_size);
            }
            RetType::RET_PTR_TO_MEM_OR_BTF_ID => self.set_percpu_return(proto.ret_type, meta)?,
            RetType::RET_PTR_TO_BTF_ID => self.set_btf_id_return(proto, func as i32, meta)?,
            other => {
                let name = func_id_name(func as i32);
                verbose!(self, "unknown return type {} of func {name}#{}\n", other.0, func as u32);
                return Err(Errno::EINVAL);
            }
        }
        if self.cur_reg(BPF_REG_0).type_.may_be_null() {
            let id = self.next_id();
            self.cur_reg_mut(BPF_REG_0).id = id;
        }
        self.set_return_reference(func, insn_idx, meta)?;
        self.do_refine_retval_range(func, proto.ret_type, meta)
    }

    fn set_pointer_return(&mut self, reg_type: RegType) {
        let reg = self.cur_reg_mut(BPF_REG_0);
        reg.mark_known_zero();
        reg.type_ = reg_type;
    }

    fn set_map_value_return(&mut self, func: HelperId, mut flags: u32, meta: &CallArgMeta) -> Result<()> {
        let Some(map_idx) = meta.map_ptr else {
            verbose!(self, "verifier bug: unexpected null map_ptr\n");
            return Err(Errno::EFAULT);
        };
        let map = &self.maps[map_idx as usize];
        if func == HelperId::MapLookupElem
            && can_elide_value_nullness(map.map_type)
            && (0..i64::from(map.max_entries)).contains(&meta.const_map_key)
        {
            flags &= !flag::PTR_MAYBE_NULL;
        }
        // Values with a lock keep an identity of their own, for the lock.
        let has_lock = flags & flag::PTR_MAYBE_NULL == 0
            && map
                .record
                .as_deref()
                .is_some_and(|record| record.has_field(field::BPF_SPIN_LOCK | field::BPF_RES_SPIN_LOCK));
        let id = if has_lock { self.next_id() } else { 0 };
        self.set_pointer_return(RegType::PTR_TO_MAP_VALUE.with(flags));
        let reg = self.cur_reg_mut(BPF_REG_0);
        reg.set_map_ptr(map_idx);
        reg.set_map_uid(meta.map_uid);
        reg.id = id;
        Ok(())
    }

    /// The reference that the returned pointer shares or brings.
    fn set_return_reference(&mut self, func: HelperId, insn_idx: u32, meta: &CallArgMeta) -> Result<()> {
        let map_type = meta.map_ptr.map(|map_idx| self.maps[map_idx as usize].map_type);
        if helper_multiple_ref_obj_use(func, map_type) {
            let name = func_id_name(func as i32);
            verbose!(self, "verifier bug: func {name}#{} sets ref_obj_id more than once\n", func as u32);
            return Err(Errno::EFAULT);
        }
        if is_ptr_cast_function(func) || is_dynptr_ref_function(func) {
            self.cur_reg_mut(BPF_REG_0).ref_obj_id = meta.ref_obj_id;
        } else if is_acquire_function(func, map_type) {
            let id = self.acquire_reference(insn_idx);
            let reg = self.cur_reg_mut(BPF_REG_0);
            reg.id = id;
            reg.ref_obj_id = id;
        }
        Ok(())
    }

    /// `do_refine_retval_range`: helpers whose return value is known to lie in a range.
    fn do_refine_retval_range(
        &mut self,
        func: HelperId,
        ret_type: RetType,
        meta: &CallArgMeta,
    ) -> Result<()> {
        let features = self.features;
        if ret_type != RetType::RET_INTEGER {
            return Ok(());
        }
        let last_cpu = self.nr_cpu_ids.saturating_sub(1);
        let mut reg = *self.cur_reg(BPF_REG_0);
        match func {
            HelperId::GetStack
            | HelperId::GetTaskStack
            | HelperId::ProbeReadStr
            | HelperId::ProbeReadKernelStr
            | HelperId::ProbeReadUserStr => {
                reg.smax_value = meta.msize_max_value as i64;
                reg.s32_max_value = meta.msize_max_value as i32;
                reg.smin_value = -i64::from(MAX_ERRNO);
                reg.s32_min_value = -MAX_ERRNO;
            }
            HelperId::GetSmpProcessorId => {
                reg.umax_value = u64::from(last_cpu);
                reg.u32_max_value = last_cpu;
                reg.smax_value = i64::from(last_cpu);
                reg.s32_max_value = last_cpu as i32;
                reg.umin_value = 0;
                reg.u32_min_value = 0;
                reg.smin_value = 0;
                reg.s32_min_value = 0;
            }
            // An unknown scalar: nothing to bring into agreement, nothing to contradict.
            _ => return Ok(()),
        }
        reg.bounds_sync(features);
        let result = self.reg_bounds_sanity_check(&mut reg, "retval");
        *self.cur_reg_mut(BPF_REG_0) = reg;
        result
    }
}
