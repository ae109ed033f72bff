//! Calls of helpers: `check_helper_call`.

use bpftwin_uapi::insn::{BPF_B, BPF_REG_0, BPF_REG_1, BPF_REG_2, BPF_REG_3, BPF_REG_4, Insn};
use bpftwin_uapi::{Errno, HelperId, MapType, ProgType};

use super::access::{AccessType, CallArgMeta};
use super::callbacks::Callback;
use super::disasm::func_id_name;
use super::insn_aux::{BPF_MAP_KEY_POISON, BPF_MAP_KEY_SEEN, InsnAux};
use super::log::BPF_LOG_LEVEL2;
use super::{Result, Verifier};
use crate::helpers::{FuncProto, ProgCtx, bpf_helper_changes_pkt_data, is_storage_get_function};
use crate::verbose;

/// `BPF_F_RDONLY_PROG`
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

impl Verifier {
    /// `check_helper_call`: the helper call at `insn_idx`. Where a tail call leaves the present function, `insn_idx` moves.
    pub fn check_helper_call(&mut self, insn: Insn, insn_idx: &mut u32) -> Result<()> {
        let idx = *insn_idx;
        let (func, proto) = self.find_helper(insn.imm)?;
        self.check_helper_context(func, proto)?;
        let mut changes_data = bpf_helper_changes_pkt_data(func);
        self.check_atomic_context(func, proto, idx)?;

        let mut meta =
            CallArgMeta { pkt_access: proto.pkt_access, func_id: insn.imm, ..CallArgMeta::default() };
        for arg in 0..proto.arg_type.len() {
            self.check_func_arg(arg, &mut meta, proto)?;
        }
        self.record_func_map(&meta, func, idx)?;
        self.record_func_key(&meta, func, idx)?;
        // The helper fills memory on the stack that may be uninitialised.
        for i in 0..meta.access_size {
            self.check_mem_access(idx, meta.regno, i, BPF_B, AccessType::Write, None, false, false)?;
        }
        self.release_arg(&meta, func)?;
        self.check_helper_specifics(func, insn, idx, &meta)?;

        self.clear_caller_saved_regs(self.cur_state.curframe());
        self.set_helper_return(func, proto, idx, &meta)?;
        if let Some(map_idx) = meta.map_ptr {
            let map = self.maps[map_idx as usize].clone();
            self.check_map_func_compatibility(&map, func)?;
        }
        match func {
            HelperId::GetStack | HelperId::GetTaskStack => self.prog.has_callchain_buf = true,
            HelperId::GetFuncIp => self.check_get_func_ip()?,
            HelperId::TailCall if self.cur_state.frames.len() > 1 => self.return_from_tail_call(insn_idx)?,
            HelperId::TailCall => changes_data = false,
            _ => {}
        }
        if changes_data {
            self.clear_all_pkt_pointers();
        }
        Ok(())
    }

    fn find_helper(&mut self, imm: i32) -> Result<(HelperId, &'static FuncProto)> {
        match self.get_helper_proto(imm) {
            Ok(found) => Ok(found),
            Err(Errno::ERANGE) => {
                verbose!(self, "invalid func {}#{imm}\n", func_id_name(imm));
                Err(Errno::EINVAL)
            }
            Err(err) => {
                verbose!(self, "program of this type cannot use helper {}#{imm}\n", func_id_name(imm));
                Err(err)
            }
        }
    }

    fn check_helper_context(&mut self, _func: HelperId, proto: &FuncProto) -> Result<()> {
        let problem = if !self.prog.gpl_compatible && proto.gpl_only {
            "cannot call GPL-restricted function from non-GPL compatible program\n"
        } else if !proto.is_allowed(&ProgCtx::of(&self.prog)) {
            "helper call is not allowed in probe\n"
        } else if !self.cur_state.in_sleepable && proto.might_sleep {
            "helper call might sleep in a non-sleepable prog\n"
        } else {
            return Ok(());
        };
        verbose!(self, "{problem}");
        Err(Errno::EINVAL)
    }

    /// Regions in which nothing may sleep; local storage is allocated atomically there.
    fn check_atomic_context(&mut self, func: HelperId, proto: &FuncProto, idx: u32) -> Result<()> {
        let state = &self.cur_state;
        let region = if state.active_rcu_lock {
            "rcu_read_lock"
        } else if state.active_preempt_locks != 0 {
            "non-preemptible"
        } else if state.active_irq_id != 0 {
            "IRQ-disabled"
        } else {
            if !state.in_sleepable && is_storage_get_function(func) {
                self.insn_aux[idx as usize].storage_get_func_atomic = true;
            }
            return Ok(());
        };
        if proto.might_sleep {
            let name = func_id_name(func as i32);
            verbose!(self, "sleepable helper {name}#{} in {region} region\n", func as u32);
            return Err(Errno::EINVAL);
        }
        if is_storage_get_function(func) {
            self.insn_aux[idx as usize].storage_get_func_atomic = true;
        }
        Ok(())
    }

    /// `record_func_map`: notes the map for inlining of the call, and refuses writes to maps that are read-only.
    fn record_func_map(&mut self, meta: &CallArgMeta, func: HelperId, idx: u32) -> Result<()> {
        use HelperId::*;
        let writes = match func {
            MapUpdateElem | MapDeleteElem | MapPushElem | MapPopElem => true,
            TailCall | MapLookupElem | MapPeekElem | ForEachMapElem | RedirectMap | MapLookupPercpuElem => {
                false
            }
            _ => return Ok(()),
        };
        let Some(map_idx) = meta.map_ptr else {
            verbose!(self, "verifier bug: expected map for helper call\n");
            return Err(Errno::EFAULT);
        };
        if writes && self.maps[map_idx as usize].map_flags & BPF_F_RDONLY_PROG != 0 {
            verbose!(self, "write into map forbidden\n");
            return Err(Errno::EACCES);
        }
        let seen = &mut self.insn_aux[idx as usize].map_ptr_state;
        seen.poison |= seen.map_ptr.is_some_and(|map_ptr| map_ptr != map_idx);
        seen.map_ptr = Some(map_idx);
        Ok(())
    }

    /// `record_func_key`: notes a constant index of a tail call.
    fn record_func_key(&mut self, meta: &CallArgMeta, func: HelperId, idx: u32) -> Result<()> {
        if func != HelperId::TailCall {
            return Ok(());
        }
        let map = meta.map_ptr.map(|map_idx| &self.maps[map_idx as usize]);
        let Some(map) = map.filter(|map| map.map_type == MapType::ProgArray) else {
            verbose!(self, "expected prog array map for tail call");
            return Err(Errno::EINVAL);
        };
        let max_entries = map.max_entries;
        let reg = self.cur_reg(BPF_REG_3);
        let index = reg.var_off.value;
        // `is_reg_const(reg, false)` asks for a scalar.
        let is_const = reg.type_ == super::reg_type::RegType::SCALAR_VALUE && reg.is_const();
        if !is_const || index >= u64::from(max_entries) {
            self.insn_aux[idx as usize].store_map_key(BPF_MAP_KEY_POISON);
            return Ok(());
        }
        self.mark_chain_precision(BPF_REG_3)?;
        self.insn_aux[idx as usize].note_map_key(index);
        Ok(())
    }

    fn release_arg(&mut self, meta: &CallArgMeta, func: HelperId) -> Result<()> {
        if meta.release_regno == 0 {
            return Ok(());
        }
        let released = if meta.ref_obj_id != 0 {
            self.release_reference(meta.ref_obj_id)
        } else if self.cur_reg(meta.release_regno).is_null() {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        };
        if released.is_err() {
            let name = func_id_name(func as i32);
            verbose!(self, "func {name}#{} reference has not been acquired before\n", func as u32);
        }
        released
    }

    /// What single helpers demand beyond their prototype.
    fn check_helper_specifics(
        &mut self,
        func: HelperId,
        insn: Insn,
        idx: u32,
        meta: &CallArgMeta,
    ) -> Result<()> {
        match func {
            HelperId::TailCall => self.check_resource_leak(false, true, "tail_call"),
            HelperId::GetLocalStorage => {
                if !self.cur_reg(BPF_REG_2).is_null() {
                    verbose!(self, "get_local_storage() doesn't support non-zero flags\n");
                    return Err(Errno::EINVAL);
                }
                Ok(())
            }
            HelperId::ForEachMapElem => {
                self.push_callback_call(insn, idx, meta.subprogno, Callback::ForEachMapElem)
            }
            HelperId::TimerSetCallback => self.push_callback_call(insn, idx, meta.subprogno, Callback::Timer),
            HelperId::FindVma => self.push_callback_call(insn, idx, meta.subprogno, Callback::FindVma),
            HelperId::UserRingbufDrain => {
                self.push_callback_call(insn, idx, meta.subprogno, Callback::UserRingbuf)
            }
            HelperId::Loop => self.check_loop_call(insn, idx, meta.subprogno),
            HelperId::Snprintf => self.check_bpf_snprintf_call(),
            HelperId::SetRetval if self.prog.prog_type == ProgType::Lsm => self.not_emulated("LSM programs"),
            _ => Ok(()),
        }
    }

    fn check_loop_call(&mut self, insn: Insn, idx: u32, subprogno: u32) -> Result<()> {
        self.update_loop_inline_state(idx, subprogno);
        // Whether iterations are left is decided by the count.
        self.mark_chain_precision(BPF_REG_1)?;
        let nr_loops = self.cur_reg(BPF_REG_1).umax_value;
        if u64::from(self.cur_state.cur_func().callback_depth) < nr_loops {
            return self.push_callback_call(insn, idx, subprogno, Callback::Loop);
        }
        self.cur_state.cur_func_mut().callback_depth = 0;
        if self.log.level & BPF_LOG_LEVEL2 != 0 {
            verbose!(self, "frame{} bpf_loop iteration limit reached\n", self.cur_state.curframe());
        }
        Ok(())
    }

    /// `loop_flag_is_zero`
    fn loop_flag_is_zero(&mut self) -> bool {
        let is_null = self.cur_reg(BPF_REG_4).is_null();
        if is_null {
            // As in the kernel, a failure shows at the next register that must be precise.
            let _ = self.mark_chain_precision(BPF_REG_4);
        }
        is_null
    }

    /// `update_loop_inline_state`: the call can be inlined if it has one callback, and no flags, on all paths.
    fn update_loop_inline_state(&mut self, idx: u32, subprogno: u32) {
        let state = self.insn_aux[idx as usize].loop_inline_state;
        if !state.initialized {
            let fit_for_inline = self.loop_flag_is_zero();
            let state = &mut self.insn_aux[idx as usize].loop_inline_state;
            state.initialized = true;
            state.fit_for_inline = fit_for_inline;
            state.callback_subprogno = subprogno;
        } else if state.fit_for_inline {
            let fit_for_inline = self.loop_flag_is_zero() && state.callback_subprogno == subprogno;
            self.insn_aux[idx as usize].loop_inline_state.fit_for_inline = fit_for_inline;
        }
    }

    /// `check_get_func_ip`
    fn check_get_func_ip(&mut self) -> Result<()> {
        let func = HelperId::GetFuncIp;
        let ctx = ProgCtx::of(&self.prog);
        match ctx.prog_type {
            ProgType::Kprobe => return Ok(()),
            ProgType::Tracing if ctx.has_trampoline() => return Ok(()),
            ProgType::Tracing => verbose!(
                self,
                "func bpf_{}#{} supported only for fentry/fexit/fmod_ret programs\n",
                func.name(),
                func as u32
            ),
            other => verbose!(
                self,
                "func bpf_{}#{} not supported for program type {}\n",
                func.name(),
                func as u32,
                other as u32
            ),
        }
        Err(Errno::ENOTSUPP)
    }

    /// A tail call in a subprogram: if it succeeds, the program it jumps to returns to the caller of the subprogram.
    fn return_from_tail_call(&mut self, insn_idx: &mut u32) -> Result<()> {
        self.mark_reg_scratched(u32::from(BPF_REG_0));
        // The path on which the call fails. The kernel overlooks here that there may be too many of them.
        let _ = self.push_stack(*insn_idx + 1, *insn_idx, false);
        self.clear_all_pkt_pointers();
        self.mark_cur_reg_unknown(BPF_REG_0);
        self.prepare_func_exit(insn_idx)?;
        *insn_idx = insn_idx.wrapping_sub(1);
        Ok(())
    }
}

impl InsnAux {
    /// `bpf_map_key_store`
    fn store_map_key(&mut self, state: u64) {
        self.map_key_state = state | BPF_MAP_KEY_SEEN | (self.map_key_state & BPF_MAP_KEY_POISON);
    }

    /// A path brings this constant key.
    fn note_map_key(&mut self, key: u64) {
        if self.map_key_state & BPF_MAP_KEY_SEEN == 0 {
            self.store_map_key(key);
        } else if self.map_key_state & BPF_MAP_KEY_POISON == 0
            && self.map_key_state & !(BPF_MAP_KEY_SEEN | BPF_MAP_KEY_POISON) != key
        {
            self.store_map_key(BPF_MAP_KEY_POISON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reg_type::{ArgType, flag};
    use super::*;
    use crate::helpers::{ProgCaps, get_helper_proto};
    use crate::kernel::config::KernelConfig;

    fn arg_type_is_mem_size(arg_type: ArgType) -> bool {
        arg_type == ArgType::ARG_CONST_SIZE || arg_type == ArgType::ARG_CONST_SIZE_OR_ZERO
    }

    /// `check_args_pair_invalid`: memory and its size come in pairs.
    fn check_args_pair_invalid(proto: &FuncProto, arg: usize) -> bool {
        let is_fixed = proto.arg_type[arg].has(flag::MEM_FIXED_SIZE);
        let has_size = proto.arg_size[arg] != 0;
        let is_next_size = proto.arg_type.get(arg + 1).copied().is_some_and(arg_type_is_mem_size);
        if proto.arg_type[arg].base() != ArgType::ARG_PTR_TO_MEM {
            return is_next_size;
        }
        has_size == is_next_size || is_next_size == is_fixed
    }

    /// `check_func_proto`, which the kernel asks at each call.
    #[test]
    fn prototypes_are_consistent() {
        let config = KernelConfig::DISTRIBUTION;
        for &prog_type in ProgType::ALL {
            let ctx = ProgCtx {
                prog_type,
                expected_attach_type: 0,
                sleepable: true,
                caps: ProgCaps::ALL,
                config: &config,
                attach_func: "",
                struct_ops: "",
                has_dst_prog: false,
            };
            for &func in HelperId::ALL {
                let Ok((_, proto)) = get_helper_proto(func as i32, &ctx) else { continue };
                let raw = |arg: &ArgType| arg.base() == ArgType::ARG_PTR_TO_MEM && arg.has(flag::MEM_UNINIT);
                assert!(proto.arg_type.iter().filter(|arg| raw(arg)).count() <= 1, "{func:?}");
                assert!(!arg_type_is_mem_size(proto.arg_type[0]), "{func:?}");
                for arg in 0..proto.arg_type.len() {
                    assert!(!check_args_pair_invalid(proto, arg), "{func:?} {arg}");
                }
                if bpf_helper_changes_pkt_data(func) {
                    assert_eq!(proto.arg_type[0], ArgType::ARG_PTR_TO_CTX, "{func:?}");
                }
            }
        }
    }

    #[test]
    fn map_keys_are_poisoned_by_a_second_one() {
        let mut aux = InsnAux::default();
        aux.note_map_key(3);
        aux.note_map_key(3);
        assert_eq!(aux.map_key_state, BPF_MAP_KEY_SEEN | 3);
        aux.note_map_key(4);
        assert_ne!(aux.map_key_state & BPF_MAP_KEY_POISON, 0);
        aux.note_map_key(3);
        assert_ne!(aux.map_key_state & BPF_MAP_KEY_POISON, 0);
    }
}
