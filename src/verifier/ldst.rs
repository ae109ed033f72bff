//! Loads, stores and atomic operations: the operands of each instruction, and the memory accesses that it makes.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, Insn};

use super::access::AccessType::{Read, Write};
use super::print_state::reg_type_str;
use super::reg_arg::RegArgType::{DstOp, DstOpNoMark, SrcOp};
use super::reg_type::{RegType, flag};
use super::{Result, Verifier};
use crate::verbose;

const ADD: i32 = BPF_ADD as i32;
const AND: i32 = BPF_AND as i32;
const OR: i32 = BPF_OR as i32;
const XOR: i32 = BPF_XOR as i32;
const FETCH_ADD: i32 = ADD | BPF_FETCH;
const FETCH_AND: i32 = AND | BPF_FETCH;
const FETCH_OR: i32 = OR | BPF_FETCH;
const FETCH_XOR: i32 = XOR | BPF_FETCH;

impl Verifier {
    /// `BPF_LDX`, and the load of an atomic load-acquire. `ctx` names the instruction in reports of contradictory bounds.
    pub fn check_load_mem(
        &mut self,
        insn: Insn,
        strict_alignment_once: bool,
        is_ldsx: bool,
        allow_trust_mismatch: bool,
        ctx: &str,
    ) -> Result<()> {
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        self.check_reg_arg(src, SrcOp)?;
        self.check_reg_arg(dst, DstOpNoMark)?;
        let src_reg_type = self.cur_reg(src).type_;
        self.check_mem_access(
            self.insn_idx,
            src,
            insn.off as i32,
            insn.size(),
            Read,
            Some(dst),
            strict_alignment_once,
            is_ldsx,
        )?;
        self.save_aux_ptr_type(src_reg_type, allow_trust_mismatch)?;
        self.cur_reg_bounds_sanity_check(dst, ctx)
    }

    /// `BPF_STX | BPF_MEM`, and the store of an atomic store-release.
    pub fn check_store_reg(&mut self, insn: Insn, strict_alignment_once: bool) -> Result<()> {
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        self.check_reg_arg(src, SrcOp)?;
        self.check_reg_arg(dst, SrcOp)?;
        let dst_reg_type = self.cur_reg(dst).type_;
        self.check_mem_access(
            self.insn_idx,
            dst,
            insn.off as i32,
            insn.size(),
            Write,
            Some(src),
            strict_alignment_once,
            false,
        )?;
        self.save_aux_ptr_type(dst_reg_type, false)
    }

    /// `BPF_ST | BPF_MEM`, whose reserved fields were checked.
    pub fn check_store_imm(&mut self, insn: Insn) -> Result<()> {
        let dst = insn.dst_reg();
        self.check_reg_arg(dst, SrcOp)?;
        let dst_reg_type = self.cur_reg(dst).type_;
        self.check_mem_access(self.insn_idx, dst, insn.off as i32, insn.size(), Write, None, false, false)?;
        self.save_aux_ptr_type(dst_reg_type, false)
    }

    /// `BPF_STX | BPF_ATOMIC`
    pub fn check_atomic(&mut self, insn: Insn) -> Result<()> {
        match insn.imm {
            ADD | FETCH_ADD | AND | FETCH_AND | OR | FETCH_OR | XOR | FETCH_XOR | BPF_XCHG | BPF_CMPXCHG => {
                self.check_atomic_rmw(insn)
            }
            BPF_LOAD_ACQ => {
                self.check_load_mem(insn, true, false, false, "atomic_load")?;
                self.check_atomic_ptr_type(insn.src_reg(), "loads from")
            }
            BPF_STORE_REL => {
                self.check_store_reg(insn, true)?;
                self.check_atomic_ptr_type(insn.dst_reg(), "stores into")
            }
            _ => {
                verbose!(self, "BPF_ATOMIC uses invalid atomic opcode {:02x}\n", insn.imm);
                Err(Errno::EINVAL)
            }
        }
    }

    fn check_atomic_rmw(&mut self, insn: Insn) -> Result<()> {
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        if insn.size() != BPF_W && insn.size() != BPF_DW {
            verbose!(self, "invalid atomic operand size\n");
            return Err(Errno::EINVAL);
        }
        self.check_reg_arg(src, SrcOp)?;
        self.check_reg_arg(dst, SrcOp)?;
        if insn.imm == BPF_CMPXCHG {
            self.check_reg_arg(BPF_REG_0, SrcOp)?;
            self.check_atomic_leak(BPF_REG_0)?;
        }
        self.check_atomic_leak(src)?;
        self.check_atomic_ptr_type(dst, "stores into")?;

        // Register that receives the old value.
        let load_reg = match insn.imm {
            BPF_CMPXCHG => Some(BPF_REG_0),
            imm if imm & BPF_FETCH != 0 => Some(src),
            _ => None,
        };
        if let Some(load_reg) = load_reg {
            self.check_reg_arg(load_reg, DstOp)?;
        }
        let (insn_idx, off, size) = (self.insn_idx, insn.off as i32, insn.size());
        // Once to see that the memory can be read, once more for what is loaded.
        self.check_mem_access(insn_idx, dst, off, size, Read, None, true, false)?;
        if load_reg.is_some() {
            self.check_mem_access(insn_idx, dst, off, size, Read, load_reg, true, false)?;
        }
        if self.is_arena_reg(dst) {
            self.save_aux_ptr_type(RegType::PTR_TO_ARENA, false)?;
        }
        self.check_mem_access(insn_idx, dst, off, size, Write, None, true, false)
    }

    fn check_atomic_leak(&mut self, regno: u8) -> Result<()> {
        if self.is_pointer_value(regno) {
            verbose!(self, "R{regno} leaks addr into mem\n");
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// `atomic_ptr_type_ok`: memory of these kinds is not for atomic operations.
    fn check_atomic_ptr_type(&mut self, regno: u8, direction: &str) -> Result<()> {
        if self.is_arena_reg(regno) {
            return self.not_emulated("atomic operations on arenas");
        }
        if self.is_ctx_reg(regno)
            || self.is_pkt_reg(regno)
            || self.is_flow_key_reg(regno)
            || self.is_sk_reg(regno)
        {
            let name = reg_type_str(self.cur_reg(regno).type_);
            verbose!(self, "BPF_ATOMIC {direction} R{regno} {name} is not allowed\n");
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Remembers the pointer type of the current load or store: context accesses and the like are rewritten by type, so
    /// every path must bring the same one.
    #[inline]
    pub fn save_aux_ptr_type(&mut self, reg_type: RegType, allow_trust_mismatch: bool) -> Result<()> {
        let prev = &mut self.insn_aux[self.insn_idx as usize].ptr_type;
        if *prev == RegType::NOT_INIT {
            *prev = reg_type;
            return Ok(());
        }
        if !reg_type_mismatch(reg_type, *prev) {
            return Ok(());
        }
        if allow_trust_mismatch && is_ptr_to_mem_or_btf_id(reg_type) && is_ptr_to_mem_or_btf_id(*prev) {
            *prev = merged_ptr_type(reg_type, *prev);
            return Ok(());
        }
        verbose!(self, "same insn cannot be used with different pointers\n");
        Err(Errno::EINVAL)
    }
}

/// `reg_type_mismatch_ok`: accesses of these types are not rewritten.
#[inline]
fn reg_type_mismatch_ok(reg_type: RegType) -> bool {
    !matches!(
        reg_type.base(),
        RegType::PTR_TO_CTX
            | RegType::PTR_TO_SOCKET
            | RegType::PTR_TO_SOCK_COMMON
            | RegType::PTR_TO_TCP_SOCK
            | RegType::PTR_TO_XDP_SOCK
            | RegType::PTR_TO_BTF_ID
            | RegType::PTR_TO_ARENA
    )
}

#[inline]
fn reg_type_mismatch(src: RegType, prev: RegType) -> bool {
    src != prev && (!reg_type_mismatch_ok(src) || !reg_type_mismatch_ok(prev))
}

fn is_ptr_to_mem_or_btf_id(reg_type: RegType) -> bool {
    matches!(reg_type.base(), RegType::PTR_TO_MEM | RegType::PTR_TO_BTF_ID)
}

/// Trusted on one path and untrusted on another: reads with fault handling suit both.
fn merged_ptr_type(a: RegType, b: RegType) -> RegType {
    let base = if a.base() == RegType::PTR_TO_MEM || b.base() == RegType::PTR_TO_MEM {
        RegType::PTR_TO_MEM
    } else {
        RegType::PTR_TO_BTF_ID
    };
    base.with((a.0 | b.0) & (flag::PTR_UNTRUSTED | flag::MEM_RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_types_that_may_meet_at_one_instruction() {
        assert!(!reg_type_mismatch(RegType::PTR_TO_MAP_VALUE, RegType::PTR_TO_STACK));
        assert!(reg_type_mismatch(RegType::PTR_TO_MAP_VALUE, RegType::PTR_TO_CTX));
        assert!(!reg_type_mismatch(RegType::PTR_TO_CTX, RegType::PTR_TO_CTX));
        let untrusted = RegType::PTR_TO_BTF_ID.with(flag::PTR_UNTRUSTED);
        assert_eq!(merged_ptr_type(RegType::PTR_TO_BTF_ID.with(flag::PTR_TRUSTED), untrusted), untrusted);
        assert_eq!(
            merged_ptr_type(RegType::PTR_TO_MEM.with(flag::MEM_RDONLY), untrusted),
            RegType::PTR_TO_MEM.with(flag::MEM_RDONLY | flag::PTR_UNTRUSTED)
        );
    }
}
