//! Calls that leave more registers intact than the calling convention says: `bpf_fastcall`.
//!
//! Compilers that know of them surround such a call by spills and fills of the registers that a call clobbers, in
//! the lowest stack slots of the function, so that the program is valid on older kernels too:
//!
//! ```text
//! *(u64 *)(r10 - 16) = r2
//! *(u64 *)(r10 - 8)  = r1
//! call helper
//! r1 = *(u64 *)(r10 - 8)
//! r2 = *(u64 *)(r10 - 16)
//! ```
//!
//! Where the slots serve for nothing else, and the call is inlined, the pairs are removed, and the function
//! needs less stack. `mark_fastcall_patterns` finds them, [`Verifier::check_fastcall_stack_contract`] drops the marks when
//! something else touches the slots, and [`Verifier::remove_fastcall_spills_fills`] concludes.

use bpftwin_uapi::insn::*;

use super::live_regs::{ALL_CALLER_SAVED_REGS, args_mask};
use super::state::BPF_REG_SIZE;
use super::{Result, Verifier};
use crate::helpers::{bpf_jit_inlines_helper_call, verifier_inlines_helper_call};
use crate::verifier::reg_type::RetType;

/// What a call does to registers: `struct call_summary`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallSummary {
    pub num_params: u8,
    pub is_void: bool,
    /// The call is inlined, or follows the contract in another way.
    pub fastcall: bool,
}

/// `fastcall_stack_off` that no access can lie below: the function's pairs must stay.
const NO_FASTCALL: i16 = i16::MIN;

const SPILL: u8 = BPF_STX | BPF_MEM | BPF_DW;
const FILL: u8 = BPF_LDX | BPF_MEM | BPF_DW;
/// `goto +0`
const NOP: Insn = Insn::new(BPF_JMP | BPF_JA, 0, 0, 0, 0);

impl Verifier {
    /// The summary of a helper call; `None` for other calls, and for helpers that this program may not call.
    pub fn get_call_summary(&self, call: Insn) -> Option<CallSummary> {
        if !call.is_helper_call() {
            return None;
        }
        let (func_id, proto) = self.get_helper_proto(call.imm).ok()?;
        let inlined =
            verifier_inlines_helper_call(&self.prog.config, func_id) || bpf_jit_inlines_helper_call(func_id);
        Some(CallSummary {
            num_params: proto.num_params() as u8,
            is_void: proto.ret_type == RetType::RET_VOID,
            fastcall: proto.allow_fastcall && inlined,
        })
    }

    pub fn mark_fastcall_patterns(&mut self) -> Result<()> {
        for subprog in 0..self.subprog_cnt {
            let range = self.subprog_range(subprog);
            let spills = self.prog.insns[range.clone()].iter();
            let spills = spills.filter(|insn| insn.code == SPILL && insn.dst_reg() == BPF_REG_10);
            let lowest_off = spills.map(|insn| insn.off).min().unwrap_or(0).min(0);
            for i in range {
                if self.prog.insns[i].code == BPF_JMP | BPF_CALL {
                    self.mark_fastcall_pattern_for_call(subprog, i, lowest_off);
                }
            }
        }
        Ok(())
    }

    fn mark_fastcall_pattern_for_call(&mut self, subprog: usize, insn_idx: usize, lowest_off: i16) {
        let Some(call) = self.get_call_summary(self.prog.insns[insn_idx]) else { return };
        let clobbered = args_mask(call.num_params) | u16::from(!call.is_void);
        let mut expected = !clobbered & ALL_CALLER_SAVED_REGS;
        let mut off = lowest_off;
        let mut pairs = 0;
        while pairs < usize::from(BPF_REG_6) {
            let distance = pairs + 1;
            let Some(before) = insn_idx.checked_sub(distance) else { break };
            let after = insn_idx + distance;
            let Some(&fill) = self.prog.insns.get(after) else { break };
            let spill = self.prog.insns[before];
            let is_pair = spill.code == SPILL
                && fill.code == FILL
                && spill.dst_reg() == BPF_REG_10
                && fill.src_reg() == BPF_REG_10
                && spill.src_reg() == fill.dst_reg()
                && expected >> spill.src_reg() & 1 != 0
                && spill.off == off
                && fill.off == off;
            if !is_pair {
                break;
            }
            expected &= !(1 << spill.src_reg());
            self.insn_aux[before].fastcall_pattern = true;
            self.insn_aux[after].fastcall_pattern = true;
            off = off.wrapping_add(BPF_REG_SIZE as i16);
            pairs += 1;
        }
        if pairs == 0 {
            return;
        }
        // A call that is no fastcall here may be one for the compiler, which then shares the slots. That is no reason to
        // keep the pairs around the others.
        let info = &mut self.subprog_info[subprog];
        if call.fastcall {
            self.insn_aux[insn_idx].fastcall_spills_num = pairs as u8;
        } else {
            info.keep_fastcall_stack = true;
        }
        info.fastcall_stack_off = info.fastcall_stack_off.min(off);
    }

    /// An instruction accesses the stack of subprogram `subprogno` at `off`: unless it belongs to a pattern, the slots
    /// of patterns are not for it.
    #[inline]
    pub fn check_fastcall_stack_contract(&mut self, subprogno: u32, insn_idx: u32, off: i32) {
        let fastcall_stack_off = i32::from(self.subprog_info[subprogno as usize].fastcall_stack_off);
        if fastcall_stack_off <= off || self.insn_aux[insn_idx as usize].fastcall_pattern {
            return;
        }
        self.break_fastcall_stack_contract(subprogno as usize);
    }

    #[cold]
    fn break_fastcall_stack_contract(&mut self, subprogno: usize) {
        self.subprog_info[subprogno].fastcall_stack_off = NO_FASTCALL;
        let range = self.subprog_range(subprogno);
        for aux in &mut self.insn_aux[range] {
            aux.fastcall_spills_num = 0;
            aux.fastcall_pattern = false;
        }
    }

    /// Replaces the pairs around inlined calls by nothing, and lowers the stack depth of functions that had
    /// no others.
    pub fn remove_fastcall_spills_fills(&mut self) -> Result<()> {
        let mut subprog = 0;
        let mut modified = false;
        for i in 0..self.prog.insns.len() {
            let pairs = usize::from(self.insn_aux[i].fastcall_spills_num);
            for distance in 1..=pairs {
                self.prog.insns[i - distance] = NOP;
                self.prog.insns[i + distance] = NOP;
            }
            modified |= pairs != 0;
            if self.subprog_info[subprog + 1].start as usize == i + 1 {
                let info = &mut self.subprog_info[subprog];
                if modified && !info.keep_fastcall_stack {
                    info.stack_depth = info.fastcall_stack_off.wrapping_neg() as u16;
                }
                subprog += 1;
                modified = false;
            }
        }
        Ok(())
    }
}
