//! Arithmetic instructions: moves, arithmetic of scalars and of pointers, byte swaps. `check_alu_op`.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, Insn, MapType};

use super::bcf::{Fit, Operand};
use super::print_state::reg_type_str;
use super::reg_arg::RegArgType;
use super::reg_type::{RegType, flag};
use super::scalar::is_computable;
use super::state::*;
use super::{BPF_MAX_VAR_OFF, Result, Verifier};
use crate::verbose;

/// `off` of a move that casts between address spaces: `BPF_ADDR_SPACE_CAST`.
const BPF_ADDR_SPACE_CAST: i16 = 1;

/// `bpf_alu_string`, indexed by `op >> 4`.
pub const BPF_ALU_STRING: [&str; 16] =
    ["+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian", "", ""];

/// Where an operand of pointer arithmetic lives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operands {
    /// `dst` is the pointer, `src` (a register or a constant) the offset.
    PtrDst,
    /// `dst` is the offset, `src` the pointer.
    PtrSrc,
}

/// `get_reg_width`: bits that the value takes up.
pub fn get_reg_width(reg: &RegState) -> u32 {
    64 - reg.umax_value.leading_zeros()
}

impl Verifier {
    /// `assign_scalar_id_before_mov`: source and destination of a move are the same value from now on.
    pub fn assign_scalar_id_before_mov(id_gen: &mut u32, src: &mut RegState) {
        if src.type_ != RegType::SCALAR_VALUE {
            return;
        }
        if src.id & BPF_ADD_CONST != 0 {
            src.clear_scalar_id();
        }
        if src.id == 0 && !src.var_off.is_const() {
            *id_gen += 1;
            src.id = *id_gen;
        }
    }

    /// `is_pointer_value`: a pointer that this program may not let leak.
    #[inline]
    pub fn is_pointer_value(&self, regno: u8) -> bool {
        !self.allow_ptr_leaks && self.cur_reg(regno).type_ != RegType::SCALAR_VALUE
    }

    /// `check_alu_op`
    pub fn check_alu_op(&mut self, insn: &Insn) -> Result<()> {
        match insn.op() {
            BPF_END | BPF_NEG => self.check_alu_unary(insn)?,
            BPF_MOV => self.check_mov(insn)?,
            op if op > BPF_END => {
                verbose!(self, "invalid BPF_ALU opcode {op:x}\n");
                return Err(Errno::EINVAL);
            }
            _ => self.check_alu_binary(insn)?,
        }
        let mut reg = *self.cur_reg(insn.dst_reg());
        self.reg_bounds_sanity_check_at(&mut reg, insn.dst_reg(), "alu")
    }

    /// `reg_bounds_sanity_check` of a register of the current frame, of which `reg` is a copy.
    fn reg_bounds_sanity_check_at(&mut self, reg: &mut RegState, regno: u8, ctx: &str) -> Result<()> {
        let before = *reg;
        self.reg_bounds_sanity_check(reg, ctx)?;
        if *reg != before {
            *self.cur_reg_mut(regno) = *reg;
        }
        Ok(())
    }

    fn check_alu_unary(&mut self, insn: &Insn) -> Result<()> {
        let dst = insn.dst_reg();
        if insn.op() == BPF_NEG {
            if insn.src() != BPF_K || insn.src_reg() != 0 || insn.off != 0 || insn.imm != 0 {
                verbose!(self, "BPF_NEG uses reserved fields\n");
                return Err(Errno::EINVAL);
            }
        } else if insn.src_reg() != 0
            || insn.off != 0
            || !matches!(insn.imm, 16 | 32 | 64)
            || insn.class() == BPF_ALU64 && insn.src() != BPF_TO_LE
        {
            verbose!(self, "BPF_END uses reserved fields\n");
            return Err(Errno::EINVAL);
        }
        self.check_reg_arg(dst, RegArgType::SrcOp)?;
        if self.is_pointer_value(dst) {
            verbose!(self, "R{dst} pointer arithmetic prohibited\n");
            return Err(Errno::EACCES);
        }
        let unknown = insn.op() == BPF_END && !self.features.byte_swap_bounds;
        if unknown || self.cur_reg(dst).type_ != RegType::SCALAR_VALUE {
            return self.check_reg_arg(dst, RegArgType::DstOp);
        }
        self.check_reg_arg(dst, RegArgType::DstOpNoMark)?;
        let src = *self.cur_reg(dst);
        self.adjust_scalar_min_max_vals(insn, &src)
    }

    fn check_mov(&mut self, insn: &Insn) -> Result<()> {
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        let alu64 = insn.class() == BPF_ALU64;
        if insn.src() == BPF_X {
            let off_ok = match insn.off {
                0 | 8 | 16 => true,
                32 => alu64,
                _ => false,
            };
            if alu64 && insn.off == BPF_ADDR_SPACE_CAST {
                if insn.imm != 1 && insn.imm != 1 << 16 {
                    verbose!(self, "addr_space_cast insn can only convert between address space 1 and 0\n");
                    return Err(Errno::EINVAL);
                }
                if self.maps[..self.used_map_cnt].iter().any(|map| map.map_type == MapType::Arena) {
                    return self.not_emulated("arena address space casts");
                }
                verbose!(
                    self,
                    "addr_space_cast insn can only be used in a program that has an associated arena\n"
                );
                return Err(Errno::EINVAL);
            } else if !off_ok || insn.imm != 0 {
                verbose!(self, "BPF_MOV uses reserved fields\n");
                return Err(Errno::EINVAL);
            }
            self.check_reg_arg(src, RegArgType::SrcOp)?;
        } else if src != 0 || insn.off != 0 {
            verbose!(self, "BPF_MOV uses reserved fields\n");
            return Err(Errno::EINVAL);
        }
        self.check_reg_arg(dst, RegArgType::DstOpNoMark)?;
        match (insn.src() == BPF_X, alu64) {
            (true, true) => self.mov64_reg(insn),
            (true, false) => self.mov32_reg(insn),
            (false, _) => {
                let imm = if alu64 { insn.imm as i64 as u64 } else { insn.imm as u32 as u64 };
                let precise = !self.bpf_capable;
                let reg = self.cur_reg_mut(dst);
                reg.type_ = RegType::SCALAR_VALUE;
                reg.mark_known(imm);
                reg.frameno = 0;
                reg.precise = precise;
                Ok(())
            }
        }
    }

    /// Gives the source of a move an id where `shares` says that the values stay equal, and copies it.
    fn mov_scalar(&mut self, insn: &Insn, shares: bool) -> &mut RegState {
        let (dst, src) = (insn.dst_reg() as usize, insn.src_reg() as usize);
        let regs = &mut self.cur_state.cur_func_mut().regs;
        if shares {
            Self::assign_scalar_id_before_mov(&mut self.id_gen, &mut regs[src]);
        }
        regs[dst] = regs[src];
        if !shares {
            regs[dst].clear_scalar_id();
        }
        &mut regs[dst]
    }

    /// `dst = src` and `dst = (s8, s16, s32)src`
    fn mov64_reg(&mut self, insn: &Insn) -> Result<()> {
        if insn.off == 0 {
            self.mov_scalar(insn, true).subreg_def = DEF_NOT_SUBREG;
            return Ok(());
        }
        let src = insn.src_reg();
        if self.is_pointer_value(src) {
            verbose!(self, "R{src} sign-extension part of pointer\n");
            return Err(Errno::EACCES);
        }
        if self.cur_reg(src).type_ != RegType::SCALAR_VALUE {
            self.mark_cur_reg_unknown(insn.dst_reg());
            return Ok(());
        }
        let no_sext = self.cur_reg(src).umax_value < 1 << (insn.off - 1);
        self.mov_scalar(insn, no_sext);
        if self.tracking && !no_sext {
            self.bcf_mov(insn.dst_reg(), src, insn.off as u16, false, true)?;
        }
        let dst = self.cur_reg_mut(insn.dst_reg());
        dst.coerce_reg_to_size_sx(insn.off as i32 >> 3);
        dst.subreg_def = DEF_NOT_SUBREG;
        Ok(())
    }

    /// `w(dst) = w(src)` and `w(dst) = (s8, s16)w(src)`
    fn mov32_reg(&mut self, insn: &Insn) -> Result<()> {
        let src = insn.src_reg();
        if self.is_pointer_value(src) {
            verbose!(self, "R{src} partial copy of pointer\n");
            return Err(Errno::EACCES);
        }
        let subreg_def = self.insn_idx as i32 + 1;
        if self.cur_reg(src).type_ != RegType::SCALAR_VALUE {
            self.mark_cur_reg_unknown(insn.dst_reg());
        } else if insn.off == 0 {
            let is_src_u32 = get_reg_width(self.cur_reg(src)) <= 32;
            self.mov_scalar(insn, is_src_u32).subreg_def = subreg_def;
            if self.tracking && !is_src_u32 {
                self.bcf_mov(insn.dst_reg(), src, 32, true, false)?;
            }
        } else {
            let no_sext = self.cur_reg(src).umax_value < 1 << (insn.off - 1);
            self.mov_scalar(insn, no_sext);
            if self.tracking && !no_sext {
                self.bcf_mov(insn.dst_reg(), src, insn.off as u16, true, true)?;
            }
            let dst = self.cur_reg_mut(insn.dst_reg());
            dst.subreg_def = subreg_def;
            dst.coerce_subreg_to_size_sx(insn.off as i32 >> 3);
        }
        let features = self.features;
        let dst = self.cur_reg_mut(insn.dst_reg());
        dst.zext_32_to_64();
        dst.bounds_sync(features);
        Ok(())
    }

    fn check_alu_binary(&mut self, insn: &Insn) -> Result<()> {
        let (dst, op) = (insn.dst_reg(), insn.op());
        let off_ok = match insn.off {
            0 => true,
            1 => matches!(op, BPF_MOD | BPF_DIV),
            _ => false,
        };
        if insn.src() == BPF_X {
            if insn.imm != 0 || !off_ok {
                verbose!(self, "BPF_ALU uses reserved fields\n");
                return Err(Errno::EINVAL);
            }
            self.check_reg_arg(insn.src_reg(), RegArgType::SrcOp)?;
        } else if insn.src_reg() != 0 || !off_ok {
            verbose!(self, "BPF_ALU uses reserved fields\n");
            return Err(Errno::EINVAL);
        }
        self.check_reg_arg(dst, RegArgType::SrcOp)?;
        if insn.src() == BPF_K {
            if matches!(op, BPF_MOD | BPF_DIV) && insn.imm == 0 {
                verbose!(self, "div by zero\n");
                return Err(Errno::EINVAL);
            }
            let size = if insn.class() == BPF_ALU64 { 64 } else { 32 };
            if matches!(op, BPF_LSH | BPF_RSH | BPF_ARSH) && !(0..size).contains(&insn.imm) {
                verbose!(self, "invalid shift {}\n", insn.imm);
                return Err(Errno::EINVAL);
            }
        }
        let adjusted = match self.check_reg_arg(dst, RegArgType::DstOpNoMark) {
            Ok(()) => self.adjust_reg_min_max_vals(insn),
            Err(errno) => Err(errno),
        };
        if adjusted.is_err() {
            self.bcf_prove_unreachable();
        }
        adjusted
    }

    /// `adjust_reg_min_max_vals`: arithmetic on scalars, or on a pointer and a scalar.
    #[inline]
    fn adjust_reg_min_max_vals(&mut self, insn: &Insn) -> Result<()> {
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        let dst_is_ptr = self.cur_reg(dst).type_ != RegType::SCALAR_VALUE;
        if self.cur_reg(dst).type_ == RegType::PTR_TO_ARENA {
            return self.not_emulated("arena pointers");
        }
        if insn.src() == BPF_K {
            let mut off = RegState { type_: RegType::SCALAR_VALUE, ..RegState::ZERO };
            off.set_known(insn.imm as i64 as u64);
            return if dst_is_ptr {
                self.adjust_ptr_min_max_vals(insn, &off, Operands::PtrDst)
            } else {
                self.adjust_scalars(insn, &off)
            };
        }
        if self.cur_reg(src).type_ != RegType::SCALAR_VALUE {
            if !dst_is_ptr {
                self.mark_chain_precision(dst)?;
                let off = *self.cur_reg(dst);
                return self.adjust_ptr_min_max_vals(insn, &off, Operands::PtrSrc);
            }
            if insn.op() == BPF_SUB && self.allow_ptr_leaks {
                self.mark_cur_reg_unknown(dst);
                return Ok(());
            }
            verbose!(self, "R{dst} pointer {} pointer prohibited\n", BPF_ALU_STRING[insn.op() as usize >> 4]);
            return Err(Errno::EACCES);
        }
        if dst_is_ptr {
            self.mark_chain_precision(src)?;
            let off = *self.cur_reg(src);
            return self.adjust_ptr_min_max_vals(insn, &off, Operands::PtrDst);
        }
        if self.cur_reg(dst).precise {
            self.mark_chain_precision(src)?;
        }
        let off = *self.cur_reg(src);
        self.adjust_scalars(insn, &off)
    }

    /// Arithmetic on two scalars, and what becomes of the link between the destination and its copies.
    fn adjust_scalars(&mut self, insn: &Insn, src: &RegState) -> Result<()> {
        let dst_umax = self.cur_reg(insn.dst_reg()).umax_value;
        self.adjust_scalar_min_max_vals(insn, src)?;
        let bpf_capable = self.bpf_capable;
        let alu32 = insn.class() != BPF_ALU64;
        // Releases that know one kind of distance alone.
        let early = !self.features.scalar_links;
        let too_far = |value: u64| early && (alu32 || insn.op() == BPF_SUB || value > i32::MAX as u64);
        let dst = self.cur_reg_mut(insn.dst_reg());
        let src_const = if alu32 { src.var_off.subreg() } else { src.var_off };
        if !bpf_capable
            || !matches!(insn.op(), BPF_ADD | BPF_SUB)
            || dst.id == 0
            || !src_const.is_const()
            || insn.src() == BPF_X && insn.src_reg() == insn.dst_reg()
        {
            dst.clear_scalar_id();
            return Ok(());
        }
        match linked_delta(insn, src_const.value, alu32, dst_umax).filter(|_| !too_far(src_const.value)) {
            Some(off) if dst.id & BPF_ADD_CONST == 0 => {
                dst.id |= if alu32 { BPF_ADD_CONST32 } else { BPF_ADD_CONST64 };
                dst.off = off;
            }
            _ => dst.clear_scalar_id(),
        }
        Ok(())
    }

    /// `maybe_fork_scalars`: a value that is all zeros or all ones, about to be masked, is followed as two constants.
    fn maybe_fork_scalars(&mut self, insn: &Insn) -> Result<()> {
        let dst = insn.dst_reg();
        let reg = self.cur_reg(dst);
        let alu32 = if reg.smin_value == -1 && reg.smax_value == 0 {
            false
        } else if reg.s32_min_value == -1 && reg.s32_max_value == 0 {
            true
        } else {
            return Ok(());
        };
        self.bcf_stray();
        let insn_idx = self.insn_idx;
        let branch = self.push_stack(insn_idx, insn_idx, false)?;
        let other = &mut branch.cur_func_mut().regs[dst as usize];
        if alu32 {
            other.mark32_known(0);
            self.cur_reg_mut(dst).mark32_known(u64::MAX);
        } else {
            other.mark_known(0);
            self.cur_reg_mut(dst).mark_known(u64::MAX);
        }
        Ok(())
    }

    /// `adjust_scalar_min_max_vals`
    fn adjust_scalar_min_max_vals(&mut self, insn: &Insn, src: &RegState) -> Result<()> {
        let dst = insn.dst_reg();
        if !is_computable(insn, src) {
            self.mark_cur_reg_unknown(dst);
            return Ok(());
        }
        let alu32 = insn.class() != BPF_ALU64;
        let operands = if self.tracking { self.bcf_scalar_operands(dst, src)? } else { None };
        if matches!(insn.op(), BPF_AND | BPF_OR) && src.var_off.is_const() {
            self.maybe_fork_scalars(insn)?;
        }
        let (regno, features) = (dst, self.features);
        let dst = self.cur_reg_mut(dst);
        match insn.op() {
            BPF_ADD => dst.scalar_add(src),
            BPF_SUB => dst.scalar_sub(src),
            BPF_NEG => dst.scalar_neg(),
            BPF_MUL => dst.scalar_mul(src),
            BPF_AND => dst.scalar_and(src, features),
            BPF_OR => dst.scalar_or(src, features),
            BPF_XOR => dst.scalar_xor(src, features),
            BPF_LSH if alu32 => dst.scalar32_lsh(src),
            BPF_LSH => dst.scalar_lsh(src, features),
            BPF_RSH if alu32 => dst.scalar32_rsh(src),
            BPF_RSH => dst.scalar_rsh(src, features),
            BPF_ARSH if alu32 => dst.scalar32_arsh(src),
            BPF_ARSH => dst.scalar_arsh(src, features),
            BPF_END => dst.scalar_byte_swap(insn, features),
            _ => {}
        }
        if alu32 && insn.op() != BPF_END {
            dst.zext_32_to_64();
        }
        dst.bounds_sync(features);
        match operands {
            Some(operands) => self.bcf_scalar_result(regno, operands, src, insn.op(), alu32),
            None => Ok(()),
        }
    }

    /// `check_reg_sane_offset`: offsets of a pointer stay far below what could overflow.
    fn check_reg_sane_offset(&mut self, reg: &RegState, type_: RegType) -> Result<()> {
        let range = -BPF_MAX_VAR_OFF + 1..BPF_MAX_VAR_OFF;
        let val = reg.var_off.value as i64;
        if reg.var_off.is_const() && !range.contains(&val) {
            verbose!(self, "math between {} pointer and {val} is not allowed\n", reg_type_str(type_));
        } else if !range.contains(&reg.off.into()) {
            verbose!(self, "{} pointer offset {} is not allowed\n", reg_type_str(type_), reg.off);
        } else if reg.smin_value == i64::MIN {
            verbose!(
                self,
                "math between {} pointer and register with unbounded min value is not allowed\n",
                reg_type_str(type_)
            );
        } else if !range.contains(&reg.smin_value) {
            verbose!(
                self,
                "value {} makes {} pointer be out of bounds\n",
                reg.smin_value,
                reg_type_str(type_)
            );
        } else {
            return Ok(());
        }
        Err(Errno::EINVAL)
    }

    /// `adjust_ptr_min_max_vals`: a pointer plus or minus a scalar.
    fn adjust_ptr_min_max_vals(&mut self, insn: &Insn, off_reg: &RegState, operands: Operands) -> Result<()> {
        let dst = insn.dst_reg();
        let ptr_reg = match operands {
            Operands::PtrDst => *self.cur_reg(dst),
            Operands::PtrSrc => *self.cur_reg(insn.src_reg()),
        };
        let known = off_reg.var_off.is_const();
        let bad_const = off_reg.smin_value != off_reg.smax_value || off_reg.umin_value != off_reg.umax_value;
        if known && bad_const
            || off_reg.smin_value > off_reg.smax_value
            || off_reg.umin_value > off_reg.umax_value
        {
            self.mark_cur_reg_unknown(dst);
            return Ok(());
        }
        if insn.class() != BPF_ALU64 {
            if insn.op() == BPF_SUB && self.allow_ptr_leaks {
                self.mark_cur_reg_unknown(dst);
                return Ok(());
            }
            verbose!(self, "R{dst} 32-bit pointer arithmetic prohibited\n");
            return Err(Errno::EACCES);
        }
        if ptr_reg.type_.may_be_null() {
            verbose!(
                self,
                "R{dst} pointer arithmetic on {} prohibited, null-check it first\n",
                reg_type_str(ptr_reg.type_)
            );
            return Err(Errno::EACCES);
        }
        if ptr_reg.type_.base() == RegType::PTR_TO_MEM && ptr_reg.type_.has(flag::PTR_UNTRUSTED) {
            return Ok(());
        }
        if !allows_arithmetic(&ptr_reg, insn, off_reg) {
            verbose!(self, "R{dst} pointer arithmetic on {} prohibited\n", reg_type_str(ptr_reg.type_));
            return Err(Errno::EACCES);
        }
        {
            let dst_reg = self.cur_reg_mut(dst);
            dst_reg.type_ = ptr_reg.type_;
            dst_reg.id = ptr_reg.id;
        }
        if let Err(err) = self.check_reg_sane_offset(off_reg, ptr_reg.type_) {
            // The offset's register is as it was; where the pointer is the source, it is not.
            if operands == Operands::PtrDst && insn.src() == BPF_X && self.bcf.is_some() {
                self.bcf_refine_scalar(insn.src_reg(), -BPF_MAX_VAR_OFF + 1, i64::MAX);
            }
            return Err(err);
        }
        self.check_reg_sane_offset(&ptr_reg, ptr_reg.type_)?;
        self.cur_reg_mut(dst).mark32_unbounded();
        let variable = self.tracking
            && matches!(insn.op(), BPF_ADD | BPF_SUB)
            && fixed_offset(insn.op(), &ptr_reg, off_reg).is_none();
        let mut fit = None;
        if variable {
            self.bcf_operand(dst)?;
            let src_reg = if operands == Operands::PtrDst { off_reg } else { &ptr_reg };
            fit = Some(Fit::of(self.cur_reg(dst)).and(Fit::of(src_reg)));
        }
        match insn.op() {
            BPF_ADD => self.add_to_ptr(dst, &ptr_reg, off_reg),
            BPF_SUB => self.sub_from_ptr(dst, &ptr_reg, off_reg, operands)?,
            op => {
                let name = BPF_ALU_STRING[op as usize >> 4];
                if matches!(op, BPF_AND | BPF_OR | BPF_XOR) {
                    verbose!(self, "R{dst} bitwise operator {name} on pointer prohibited\n");
                } else {
                    verbose!(self, "R{dst} pointer arithmetic with {name} operator prohibited\n");
                }
                return Err(Errno::EACCES);
            }
        }
        if let Some(fit) = fit {
            let src =
                if insn.src() == BPF_X { Operand::Reg(insn.src_reg()) } else { Operand::Value(*off_reg) };
            let fit = fit.and(Fit::of(self.cur_reg(dst)));
            self.bcf_alu(dst, src, insn.op(), false, fit)?;
        }
        let result = *self.cur_reg(dst);
        self.check_reg_sane_offset(&result, ptr_reg.type_)?;
        let features = self.features;
        self.cur_reg_mut(dst).bounds_sync(features);
        Ok(())
    }

    fn add_to_ptr(&mut self, dst: u8, ptr: &RegState, off: &RegState) {
        let dst_reg = &mut self.cur_state.cur_func_mut().regs[dst as usize];
        if let Some(sum) = fixed_offset(BPF_ADD, ptr, off) {
            dst_reg.set_fixed_offset(ptr, sum);
            return;
        }
        (dst_reg.smin_value, dst_reg.smax_value) =
            match (ptr.smin_value.checked_add(off.smin_value), ptr.smax_value.checked_add(off.smax_value)) {
                (Some(min), Some(max)) => (min, max),
                _ => (i64::MIN, i64::MAX),
            };
        (dst_reg.umin_value, dst_reg.umax_value) =
            match (ptr.umin_value.checked_add(off.umin_value), ptr.umax_value.checked_add(off.umax_value)) {
                (Some(min), Some(max)) => (min, max),
                _ => (0, u64::MAX),
            };
        dst_reg.var_off = ptr.var_off.add(off.var_off);
        dst_reg.off = ptr.off;
        dst_reg.payload = ptr.payload;
        if ptr.is_pkt_pointer() {
            self.id_gen += 1;
            dst_reg.id = self.id_gen;
            dst_reg.payload = Payload::default();
        }
    }

    fn sub_from_ptr(&mut self, dst: u8, ptr: &RegState, off: &RegState, operands: Operands) -> Result<()> {
        if operands == Operands::PtrSrc {
            verbose!(self, "R{dst} tried to subtract pointer from scalar\n");
            return Err(Errno::EACCES);
        }
        if ptr.type_ == RegType::PTR_TO_STACK {
            verbose!(self, "R{dst} subtraction from stack pointer prohibited\n");
            return Err(Errno::EACCES);
        }
        let dst_reg = &mut self.cur_state.cur_func_mut().regs[dst as usize];
        if let Some(difference) = fixed_offset(BPF_SUB, ptr, off) {
            dst_reg.set_fixed_offset(ptr, difference);
            dst_reg.id = ptr.id;
            return Ok(());
        }
        (dst_reg.smin_value, dst_reg.smax_value) =
            match (ptr.smin_value.checked_sub(off.smax_value), ptr.smax_value.checked_sub(off.smin_value)) {
                (Some(min), Some(max)) => (min, max),
                _ => (i64::MIN, i64::MAX),
            };
        (dst_reg.umin_value, dst_reg.umax_value) = if ptr.umin_value < off.umax_value {
            (0, u64::MAX)
        } else {
            (ptr.umin_value - off.umax_value, ptr.umax_value.wrapping_sub(off.umin_value))
        };
        dst_reg.var_off = ptr.var_off.sub(off.var_off);
        dst_reg.off = ptr.off;
        dst_reg.payload = ptr.payload;
        if ptr.is_pkt_pointer() {
            self.id_gen += 1;
            dst_reg.id = self.id_gen;
            if off.smin_value < 0 {
                dst_reg.payload = Payload::default();
            }
        }
        Ok(())
    }
}

impl RegState {
    /// The pointer `ptr` at another fixed offset.
    fn set_fixed_offset(&mut self, ptr: &RegState, off: i32) {
        self.smin_value = ptr.smin_value;
        self.smax_value = ptr.smax_value;
        self.umin_value = ptr.umin_value;
        self.umax_value = ptr.umax_value;
        self.var_off = ptr.var_off;
        self.off = off;
        self.payload = ptr.payload;
        self.bcf_expr = ptr.bcf_expr;
    }
}

/// The fixed offset of a pointer that a constant is added to or subtracted from, where it can be kept.
fn fixed_offset(op: u8, ptr: &RegState, off: &RegState) -> Option<i32> {
    let sum = if op == BPF_ADD {
        (ptr.off as i64).wrapping_add(off.smin_value)
    } else {
        (ptr.off as i64).wrapping_sub(off.smin_value)
    };
    i32::try_from(sum).ok().filter(|_| off.var_off.is_const())
}

/// The distance that `insn` puts between its destination and the values linked to it, where it can be kept.
fn linked_delta(insn: &Insn, value: u64, alu32: bool, dst_umax: u64) -> Option<i32> {
    if alu32 {
        if dst_umax > u32::MAX.into() {
            return None;
        }
    } else if i32::try_from(value as i64).is_err() {
        return None;
    }
    let off = value as i32;
    if insn.op() == BPF_SUB { off.checked_neg() } else { Some(off) }
}

/// Pointer types that arithmetic may move.
fn allows_arithmetic(ptr: &RegState, insn: &Insn, off: &RegState) -> bool {
    let known = off.var_off.is_const();
    match ptr.type_.base() {
        RegType::PTR_TO_CTX
        | RegType::PTR_TO_MAP_VALUE
        | RegType::PTR_TO_MAP_KEY
        | RegType::PTR_TO_STACK
        | RegType::PTR_TO_PACKET_META
        | RegType::PTR_TO_PACKET
        | RegType::PTR_TO_TP_BUFFER
        | RegType::PTR_TO_BTF_ID
        | RegType::PTR_TO_MEM
        | RegType::PTR_TO_BUF
        | RegType::PTR_TO_FUNC
        | RegType::CONST_PTR_TO_DYNPTR => true,
        RegType::PTR_TO_FLOW_KEYS if known => true,
        RegType::PTR_TO_FLOW_KEYS | RegType::CONST_PTR_TO_MAP => {
            known && off.smin_value == 0 && insn.op() == BPF_ADD
        }
        _ => false,
    }
}
