//! Functions of the program that helpers call back, at once or later.
//!
//! A synchronous callback is one more branch at the helper's call: the branch enters the callback, and returns to the
//! call, which is then visited again; the other branch goes on as if the callback did not run (any more). The visits
//! end when a state repeats itself, for which [`func_exit`](super::func_exit) forgets what changes from visit to visit.

use bpftwin_uapi::insn::{BPF_REG_1, BPF_REG_2, BPF_REG_3, BPF_REG_4, BPF_REG_5, Insn};
use bpftwin_uapi::{Errno, HelperId, MapType};

use super::disasm::func_id_name;
use super::reg_type::RegType;
use super::state::{FuncState, MapIdx, RegState, RetvalRange};
use super::{Result, Verifier};
use crate::helpers::{is_async_callback_calling_function, is_callback_calling_function};
use crate::verbose;

/// `is_async_callback_calling_insn`: a call that has a function of the program run later.
#[inline]
fn is_async_callback_calling_insn(insn: Insn) -> bool {
    insn.is_helper_call() && func_of(insn).is_some_and(is_async_callback_calling_function)
}

fn func_of(insn: Insn) -> Option<HelperId> {
    u32::try_from(insn.imm).ok().and_then(HelperId::from_u32)
}

/// Who calls back; decides what the callback is given: the `set_*_callback_state` functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callback {
    ForEachMapElem,
    Timer,
    FindVma,
    Loop,
    UserRingbuf,
}

/// R0 to R5 of the caller.
type CallerRegs = [RegState; 6];

impl Verifier {
    /// `push_callback_call`: has the callback verified, now (as a branch) or on a stack of its own.
    pub(super) fn push_callback_call(
        &mut self,
        insn: Insn,
        insn_idx: u32,
        subprogno: u32,
        callback: Callback,
    ) -> Result<()> {
        let subprog = subprogno as usize;
        // Mismatches only make the function unreliable.
        let _ = self.btf_check_subprog_call(subprog)?;
        self.subprog_info[subprog].is_cb = true;
        if !func_of(insn).is_some_and(is_callback_calling_function) {
            let name = func_id_name(insn.imm);
            verbose!(self, "verifier bug: helper {name}#{} not marked as callback-calling\n", insn.imm);
            return Err(Errno::EFAULT);
        }
        let start = self.subprog_info[subprog].start;
        if is_async_callback_calling_insn(insn) {
            self.subprog_info[subprog].is_async_cb = true;
            return self.push_async_callback(start, insn_idx, subprogno);
        }

        if self.push_stack(start, insn_idx, false).is_err() {
            return Err(Errno::ENOMEM);
        }
        let depth = self.cur_state.frames.len();
        self.check_call_depth(depth)?;
        let mut callee = self.init_func_state(insn_idx as i32, depth as u32, subprogno);
        self.set_callback_state(callback, insn_idx, &mut callee)?;

        let Some(branch) = self.stack.last_mut() else { return Err(Errno::EFAULT) };
        branch.st.callback_unroll_depth += 1;
        branch.st.cur_func_mut().callback_depth += 1;
        branch.st.frames.push(callee);
        self.cur_state.cur_func_mut().callback_depth = 0;
        Ok(())
    }

    /// Timers: the callback runs some time later, on a stack of its own; none of them may sleep.
    fn push_async_callback(&mut self, start: u32, insn_idx: u32, subprogno: u32) -> Result<()> {
        let caller = self.cur_state.cur_func();
        let async_entry_cnt = caller.async_entry_cnt + 1;
        let map = caller.regs[BPF_REG_1 as usize].map_ptr();
        let bpf_capable = self.bpf_capable;
        let Ok(branch) = self.push_async_cb(start, insn_idx, subprogno, false) else {
            return Err(Errno::EFAULT);
        };
        let callee = branch.cur_func_mut();
        callee.async_entry_cnt = async_entry_cnt;
        if let Some(map) = map {
            set_timer_callback_state(map, bpf_capable, callee);
        }
        Ok(())
    }

    /// Fills a synchronous callback's frame from the caller's registers.
    fn set_callback_state(
        &mut self,
        callback: Callback,
        insn_idx: u32,
        callee: &mut FuncState,
    ) -> Result<()> {
        let mut caller: CallerRegs = [RegState::ZERO; 6];
        caller.copy_from_slice(&self.cur_state.cur_func().regs[..6]);
        match callback {
            Callback::ForEachMapElem => {
                let map = self.insn_aux[insn_idx as usize].map_ptr_state.map_ptr;
                let admitted = map.is_some_and(|map| has_for_each(self.maps[map as usize].map_type));
                let (true, Some(map)) = (admitted, caller[BPF_REG_1 as usize].map_ptr()) else {
                    verbose!(self, "callback function not allowed for map\n");
                    return Err(Errno::ENOTSUPP);
                };
                map_set_for_each_callback_args(&caller, map, self.bpf_capable, callee);
            }
            Callback::Loop => set_loop_callback_state(&caller, self.bpf_capable, callee),
            Callback::FindVma => {
                let vma = self.kernel_struct_id("vm_area_struct")?;
                set_find_vma_callback_state(&caller, vma, self.bpf_capable, callee);
            }
            Callback::UserRingbuf => return self.not_emulated("dynptrs"),
            Callback::Timer => return Err(Errno::EFAULT),
        }
        callee.in_callback_fn = true;
        callee.callback_ret_range = RetvalRange { minval: 0, maxval: 1 };
        Ok(())
    }
}

/// Maps with `map_for_each_callback` and `map_set_for_each_callback_args`.
fn has_for_each(map_type: MapType) -> bool {
    use MapType::*;
    matches!(map_type, Hash | LruHash | PercpuHash | LruPercpuHash | Array | PercpuArray)
}

fn set_pointer(reg: &mut RegState, reg_type: RegType, map: MapIdx) {
    reg.mark_known_zero();
    reg.type_ = reg_type;
    reg.set_map_ptr(map);
}

/// Registers that the callback is not given.
fn clear_unused(callee: &mut FuncState, bpf_capable: bool, from: u8) {
    for reg in &mut callee.regs[from as usize..=BPF_REG_5 as usize] {
        Verifier::mark_reg_not_init(bpf_capable, reg);
    }
}

/// `callback_fn(map, key, value, callback_ctx)` of `bpf_for_each_map_elem(map, callback_fn, callback_ctx, flags)`
fn map_set_for_each_callback_args(
    caller: &CallerRegs,
    map: MapIdx,
    bpf_capable: bool,
    callee: &mut FuncState,
) {
    callee.regs[BPF_REG_1 as usize] = caller[BPF_REG_1 as usize];
    set_pointer(&mut callee.regs[BPF_REG_2 as usize], RegType::PTR_TO_MAP_KEY, map);
    set_pointer(&mut callee.regs[BPF_REG_3 as usize], RegType::PTR_TO_MAP_VALUE, map);
    callee.regs[BPF_REG_4 as usize] = caller[BPF_REG_3 as usize];
    clear_unused(callee, bpf_capable, BPF_REG_5);
}

/// `callback_fn(index, callback_ctx)` of `bpf_loop(nr_loops, callback_fn, callback_ctx, flags)`
fn set_loop_callback_state(caller: &CallerRegs, bpf_capable: bool, callee: &mut FuncState) {
    callee.regs[BPF_REG_1 as usize].type_ = RegType::SCALAR_VALUE;
    callee.regs[BPF_REG_2 as usize] = caller[BPF_REG_3 as usize];
    clear_unused(callee, bpf_capable, BPF_REG_3);
}

/// `callback_fn(task, vma, callback_ctx)` of `bpf_find_vma(task, addr, callback_fn, callback_ctx, flags)`
fn set_find_vma_callback_state(caller: &CallerRegs, vma: u32, bpf_capable: bool, callee: &mut FuncState) {
    callee.regs[BPF_REG_1 as usize] = caller[BPF_REG_1 as usize];
    let reg = &mut callee.regs[BPF_REG_2 as usize];
    reg.mark_known_zero();
    reg.type_ = RegType::PTR_TO_BTF_ID;
    reg.set_btf_id(0, vma);
    callee.regs[BPF_REG_3 as usize] = caller[BPF_REG_4 as usize];
    clear_unused(callee, bpf_capable, BPF_REG_4);
}

/// `callback_fn(map, key, value)` of `bpf_timer_set_callback(timer, callback_fn)`
fn set_timer_callback_state(map: MapIdx, bpf_capable: bool, callee: &mut FuncState) {
    set_pointer(&mut callee.regs[BPF_REG_1 as usize], RegType::CONST_PTR_TO_MAP, map);
    set_pointer(&mut callee.regs[BPF_REG_2 as usize], RegType::PTR_TO_MAP_KEY, map);
    set_pointer(&mut callee.regs[BPF_REG_3 as usize], RegType::PTR_TO_MAP_VALUE, map);
    clear_unused(callee, bpf_capable, BPF_REG_4);
    callee.in_async_callback_fn = true;
    callee.callback_ret_range = RetvalRange { minval: 0, maxval: 0 };
}
