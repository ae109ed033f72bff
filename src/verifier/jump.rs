//! Conditional jumps: `check_cond_jmp_op`. Where both ways are possible, the state is split, and each half learns from
//! the condition.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, Insn};

use super::backtrack::{LinkedReg, LinkedRegs};
use super::insn_aux::InsnAux;
use super::log::BPF_LOG_LEVEL;
use super::refine::{AT_PKT_END, BEYOND_PKT_END, is_branch_taken, regs_refine_cond_op, rev_opcode};
use super::reg_arg::RegArgType;
use super::reg_type::{RegType, flag};
use super::state::*;
use super::state_tree::StateRef;
use super::{Features, Result, Verifier};
use crate::verbose;

/// Largest offset into a packet: `MAX_PACKET_OFF`.
const MAX_PACKET_OFF: u64 = 0xffff;

/// The two states behind a conditional jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Branch {
    /// Falls through; the current state.
    This,
    /// Jumps; the state pushed last.
    Other,
}

impl VerifierState {
    /// Calls `f` with every register and every spilled register of all frames: `bpf_for_each_reg_in_vstate`.
    pub fn for_each_reg(&mut self, mut f: impl FnMut(&mut RegState)) {
        for frame in &mut self.frames {
            frame.regs.iter_mut().for_each(&mut f);
            for slot in &mut frame.stack {
                if slot.is_spilled_reg() {
                    f(&mut slot.spilled_ptr);
                }
            }
        }
    }
}

impl Verifier {
    fn branch(&mut self, branch: Branch) -> &mut VerifierState {
        match (branch, self.stack.last_mut()) {
            (Branch::Other, Some(elem)) => &mut elem.st,
            _ => &mut self.cur_state,
        }
    }

    fn branch_reg(&mut self, branch: Branch, regno: u8) -> &mut RegState {
        &mut self.branch(branch).cur_func_mut().regs[regno as usize]
    }

    /// `check_cond_jmp_op`. `insn_idx` is advanced to the instruction before the one to go on with.
    pub fn check_cond_jmp_op(&mut self, insn: &Insn, insn_idx: &mut u32) -> Result<()> {
        let opcode = insn.op();
        if opcode == BPF_JA || opcode > BPF_JCOND {
            verbose!(self, "invalid BPF_JMP/JMP32 opcode {opcode:x}\n");
            return Err(Errno::EINVAL);
        }
        if opcode == BPF_JCOND {
            return self.check_may_goto(insn, insn_idx);
        }
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        let is_x = insn.src() == BPF_X;
        let is_jmp32 = insn.class() == BPF_JMP32;
        self.check_reg_arg(dst, RegArgType::SrcOp)?;
        let src_reg = self.check_jmp_src(insn)?;
        let dst_reg = *self.cur_reg(dst);

        let mut insn_flags = 0;
        if is_x && src_reg.type_ == RegType::PTR_TO_STACK {
            insn_flags |= insn_flag::SRC_REG_STACK;
        }
        if dst_reg.type_ == RegType::PTR_TO_STACK {
            insn_flags |= insn_flag::DST_REG_STACK;
        }
        if insn_flags != 0 {
            self.push_jmp_history(insn_flags, 0)?;
        }

        if let Some(taken) = is_branch_taken(&dst_reg, &src_reg, opcode, is_jmp32) {
            if dst_reg.type_ == RegType::SCALAR_VALUE {
                self.mark_chain_precision(dst)?;
            }
            if is_x && src_reg.type_ == RegType::SCALAR_VALUE {
                self.mark_chain_precision(src)?;
            }
            self.print_jmp_state();
            if taken {
                *insn_idx = jump_target(*insn_idx, insn.off);
            }
            return Ok(());
        }

        let mut linked = LinkedRegs::default();
        if is_x && src_reg.type_ == RegType::SCALAR_VALUE && src_reg.id != 0 {
            collect_linked_regs(&mut self.cur_state, &self.insn_aux, src_reg.id, &mut linked, self.features);
        }
        let dst_id = self.cur_reg(dst).id;
        if dst_reg.type_ == RegType::SCALAR_VALUE && dst_id != 0 {
            collect_linked_regs(&mut self.cur_state, &self.insn_aux, dst_id, &mut linked, self.features);
        }
        if linked.len() > 1 {
            self.push_jmp_history(0, linked.pack())?;
        }
        if insn.off == 0 {
            // Both branches look the same.
            self.bcf_lose_path();
        }
        self.push_stack(jump_target(*insn_idx, insn.off).wrapping_add(1), *insn_idx, false)
            .map_err(|_| Errno::EFAULT)?;

        self.reg_set_min_max(insn, &src_reg)?;
        if is_x {
            self.sync_branches(src, &linked);
        }
        self.sync_branches(dst, &linked);
        self.lift_nullness(insn);
        self.match_pointers(insn)?;
        self.print_jmp_state();
        Ok(())
    }

    /// The second operand; a constant as a register that holds it.
    fn check_jmp_src(&mut self, insn: &Insn) -> Result<RegState> {
        let src = insn.src_reg();
        if insn.src() != BPF_X {
            if src != 0 {
                verbose!(self, "BPF_JMP/JMP32 uses reserved fields\n");
                return Err(Errno::EINVAL);
            }
            let mut reg = RegState { type_: RegType::SCALAR_VALUE, ..RegState::ZERO };
            reg.set_known(insn.imm as i64 as u64);
            return Ok(reg);
        }
        if insn.imm != 0 {
            verbose!(self, "BPF_JMP/JMP32 uses reserved fields\n");
            return Err(Errno::EINVAL);
        }
        self.check_reg_arg(src, RegArgType::SrcOp)?;
        let reg = *self.cur_reg(src);
        let both_pkt = self.cur_reg(insn.dst_reg()).is_pkt_pointer_any() && reg.is_pkt_pointer_any();
        if !both_pkt && self.is_pointer_value(src) {
            verbose!(self, "R{src} pointer comparison prohibited\n");
            return Err(Errno::EACCES);
        }
        Ok(reg)
    }

    fn print_jmp_state(&mut self) {
        if self.log.level & BPF_LOG_LEVEL != 0 {
            self.print_insn_state(self.cur_state.curframe());
        }
    }

    /// `may_goto`: jumps, and falls through one day, with what the loop changes forgotten.
    fn check_may_goto(&mut self, insn: &Insn, insn_idx: &mut u32) -> Result<()> {
        if insn.code != BPF_JMP | BPF_JCOND
            || insn.src_reg() != BPF_MAY_GOTO
            || insn.dst_reg() != 0
            || insn.imm != 0
        {
            verbose!(self, "invalid may_goto imm {}\n", insn.imm);
            return Err(Errno::EINVAL);
        }
        let idx = *insn_idx;
        self.bcf_stray();
        let prev =
            self.cur_state.parent.and_then(|parent| self.find_prev_entry(StateRef::Cached(parent), idx));
        // The kernel takes too many jumps for a lack of memory here.
        let queued = self.push_stack(idx + 1, idx, false).map_err(|_| Errno::ENOMEM)?;
        queued.may_goto_depth += 1;
        if let Some(prev) = prev {
            self.widen_queued_state(prev);
        }
        *insn_idx = jump_target(idx, insn.off);
        Ok(())
    }

    /// `reg_set_min_max`: both branches learn from the condition.
    fn reg_set_min_max(&mut self, insn: &Insn, src_reg: &RegState) -> Result<()> {
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        let is_x = insn.src() == BPF_X;
        let is_jmp32 = insn.class() == BPF_JMP32;
        // Collecting linked registers may have cleared ids since the operands were read.
        let dst_reg = *self.cur_reg(dst);
        let src_reg = if is_x { *self.cur_reg(src) } else { *src_reg };
        if dst_reg.type_ != RegType::SCALAR_VALUE || src_reg.type_ != RegType::SCALAR_VALUE {
            return Ok(());
        }
        let r2 = if is_x && dst == src { 0 } else { 1 };
        let features = self.features;
        let refine = |opcode| {
            let mut regs = [dst_reg, src_reg];
            regs_refine_cond_op(&mut regs, 0, r2, opcode, is_jmp32);
            regs[0].bounds_sync(features);
            regs[r2].bounds_sync(features);
            regs
        };
        let mut on_false = refine(rev_opcode(insn.op()));
        let mut on_true = refine(insn.op());
        self.reg_bounds_sanity_check(&mut on_true[0], "true_reg1")?;
        self.reg_bounds_sanity_check(&mut on_true[r2], "true_reg2")?;
        self.reg_bounds_sanity_check(&mut on_false[0], "false_reg1")?;
        self.reg_bounds_sanity_check(&mut on_false[r2], "false_reg2")?;
        *self.branch_reg(Branch::This, dst) = on_false[0];
        *self.branch_reg(Branch::Other, dst) = on_true[0];
        if is_x && r2 == 1 {
            *self.branch_reg(Branch::This, src) = on_false[1];
            *self.branch_reg(Branch::Other, src) = on_true[1];
        }
        Ok(())
    }

    /// Carries what was learnt of a register over to the registers linked to it, in both branches.
    fn sync_branches(&mut self, regno: u8, linked: &LinkedRegs) {
        let reg = self.cur_reg(regno);
        if reg.type_ != RegType::SCALAR_VALUE || reg.id == 0 {
            return;
        }
        let id = reg.id;
        let features = self.features;
        if self.branch_reg(Branch::Other, regno).id != id {
            return;
        }
        sync_linked_regs(self.branch(Branch::This), regno, linked, features);
        sync_linked_regs(self.branch(Branch::Other), regno, linked, features);
    }

    /// Two pointers are equal, and one of them is not null: the other is not either.
    fn lift_nullness(&mut self, insn: &Insn) {
        if insn.class() == BPF_JMP32 || insn.src() != BPF_X {
            return;
        }
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        let (dst_type, src_type) = (self.cur_reg(dst).type_, self.cur_reg(src).type_);
        if src_type == RegType::SCALAR_VALUE
            || dst_type == RegType::SCALAR_VALUE
            || src_type.may_be_null() == dst_type.may_be_null()
            || src_type.base() == RegType::PTR_TO_BTF_ID
            || dst_type.base() == RegType::PTR_TO_BTF_ID
        {
            return;
        }
        let equal_branch = match insn.op() {
            BPF_JEQ => Branch::Other,
            BPF_JNE => Branch::This,
            _ => return,
        };
        let regno = if src_type.may_be_null() { src } else { dst };
        let mut reg = *self.branch_reg(equal_branch, regno);
        self.mark_ptr_not_null_reg(&mut reg);
        *self.branch_reg(equal_branch, regno) = reg;
    }

    /// Null checks, and comparisons of packet pointers.
    fn match_pointers(&mut self, insn: &Insn) -> Result<()> {
        let dst = insn.dst_reg();
        let is_null_check = insn.class() != BPF_JMP32
            && insn.src() == BPF_K
            && insn.imm == 0
            && matches!(insn.op(), BPF_JEQ | BPF_JNE)
            && self.cur_reg(dst).type_.may_be_null();
        if is_null_check {
            self.mark_ptr_or_null_regs(Branch::This, dst, insn.op() == BPF_JNE);
            self.mark_ptr_or_null_regs(Branch::Other, dst, insn.op() == BPF_JEQ);
        } else if !self.try_match_pkt_pointers(insn) && self.is_pointer_value(dst) {
            verbose!(self, "R{dst} pointer comparison prohibited\n");
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// `mark_ptr_or_null_regs`: all copies of a pointer that was compared with null become null, or not null.
    fn mark_ptr_or_null_regs(&mut self, branch: Branch, regno: u8, is_null: bool) {
        let reg = self.branch_reg(branch, regno);
        let (id, ref_obj_id) = (reg.id, reg.ref_obj_id);
        if ref_obj_id != 0 && ref_obj_id == id && is_null {
            // A reference that turned out null was never acquired.
            let _ = self.branch(branch).release_reference_nomark(id);
        }
        for frame in 0..self.branch(branch).frames.len() {
            for i in 0..MAX_BPF_REG {
                let reg = self.branch(branch).frames[frame].regs[i];
                if let Some(reg) = self.mark_ptr_or_null_reg(&reg, id, is_null) {
                    self.branch(branch).frames[frame].regs[i] = reg;
                }
            }
            for i in 0..self.branch(branch).frames[frame].stack.len() {
                let slot = &self.branch(branch).frames[frame].stack[i];
                if !slot.is_spilled_reg() {
                    continue;
                }
                let reg = slot.spilled_ptr;
                if let Some(reg) = self.mark_ptr_or_null_reg(&reg, id, is_null) {
                    self.branch(branch).frames[frame].stack[i].spilled_ptr = reg;
                }
            }
        }
    }

    /// `mark_ptr_or_null_reg`: what becomes of one register, where it is a copy of the pointer.
    #[inline]
    fn mark_ptr_or_null_reg(&mut self, reg: &RegState, id: u32, is_null: bool) -> Option<RegState> {
        if !reg.type_.may_be_null() || reg.id != id || reg.id == 0 && !is_rcu_reg(reg) {
            return None;
        }
        if reg.smin_value != 0 || reg.smax_value != 0 || !reg.var_off.equals_const(0) {
            return None;
        }
        let is_local_kptr = reg.type_.base() == RegType::PTR_TO_BTF_ID && reg.type_.has(flag::MEM_ALLOC);
        if !is_local_kptr && reg.off != 0 {
            return None;
        }
        let mut reg = *reg;
        if is_null {
            reg.type_ = RegType::SCALAR_VALUE;
            reg.id = 0;
            reg.ref_obj_id = 0;
            return Some(reg);
        }
        self.mark_ptr_not_null_reg(&mut reg);
        if !self.reg_may_point_to_spin_lock(&reg) {
            reg.id = 0;
        }
        Some(reg)
    }

    /// `try_match_pkt_pointers`: a comparison of a packet pointer with the packet's end tells how much is accessible.
    fn try_match_pkt_pointers(&mut self, insn: &Insn) -> bool {
        if insn.src() != BPF_X || insn.class() == BPF_JMP32 {
            return false;
        }
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        let (dst_reg, src_reg) = (*self.cur_reg(dst), *self.cur_reg(src));
        let is_data = |reg: &RegState, end: &RegState| {
            reg.type_ == RegType::PTR_TO_PACKET && end.type_ == RegType::PTR_TO_PACKET_END
                || reg.type_ == RegType::PTR_TO_PACKET_META && end.is_init_pkt_pointer(RegType::PTR_TO_PACKET)
        };
        // The branch in which the pointer is before the end, and whether that is strict.
        use Branch::{Other, This};
        let (regno, reg, good, right_open) = if is_data(&dst_reg, &src_reg) {
            match insn.op() {
                BPF_JGT => (dst, dst_reg, This, false),
                BPF_JLT => (dst, dst_reg, Other, true),
                BPF_JGE => (dst, dst_reg, This, true),
                BPF_JLE => (dst, dst_reg, Other, false),
                _ => return false,
            }
        } else if is_data(&src_reg, &dst_reg) {
            match insn.op() {
                BPF_JGT => (src, src_reg, Other, true),
                BPF_JLT => (src, src_reg, This, false),
                BPF_JGE => (src, src_reg, Other, false),
                BPF_JLE => (src, src_reg, This, true),
                _ => return false,
            }
        } else {
            return false;
        };
        let bad = if good == This { Other } else { This };
        find_good_pkt_pointers(self.branch(good), &reg, right_open);
        // `mark_pkt_end`
        let end = self.branch_reg(bad, regno);
        if end.type_ == RegType::PTR_TO_PACKET {
            end.set_range(if right_open { AT_PKT_END } else { BEYOND_PKT_END });
        }
        true
    }
}

/// Index before the target of a jump, for a caller that steps on by one.
fn jump_target(insn_idx: u32, off: i16) -> u32 {
    insn_idx.wrapping_add(off as i32 as u32)
}

/// `is_rcu_reg`
fn is_rcu_reg(reg: &RegState) -> bool {
    reg.type_.has(flag::MEM_RCU)
}

/// `find_good_pkt_pointers`: all copies of `pkt` have at least its fixed offset as their range.
fn find_good_pkt_pointers(st: &mut VerifierState, pkt: &RegState, range_right_open: bool) {
    if pkt.off < 0 || pkt.off == 0 && range_right_open {
        return;
    }
    if pkt.umax_value > MAX_PACKET_OFF || pkt.umax_value + pkt.off as u64 > MAX_PACKET_OFF {
        return;
    }
    let new_range = pkt.off + range_right_open as i32;
    st.for_each_reg(|reg| {
        if reg.type_ == pkt.type_ && reg.id == pkt.id {
            reg.set_range(reg.range().max(new_range));
        }
    });
}

/// `collect_linked_regs`: live registers, and slots, with the scalar id `id`. What does not fit is unlinked.
fn collect_linked_regs(
    st: &mut VerifierState,
    insn_aux: &[InsnAux],
    id: u32,
    linked: &mut LinkedRegs,
    features: Features,
) {
    let id = id & !BPF_ADD_CONST;
    let mut collect = |reg: &mut RegState, frameno: usize, spi_or_reg: usize, is_reg: bool| {
        if reg.type_ != RegType::SCALAR_VALUE || reg.id & !BPF_ADD_CONST != id {
            return;
        }
        let entry = LinkedReg { frameno: frameno as u8, spi_or_reg: spi_or_reg as u8, is_reg };
        if !linked.push(entry) {
            reg.clear_scalar_id();
        }
    };
    for frameno in (0..st.frames.len()).rev() {
        let live_regs = insn_aux[st.frame_insn_idx(frameno) as usize].live_regs_before;
        let frame = &mut st.frames[frameno];
        for (i, reg) in frame.regs[..BPF_REG_FP as usize].iter_mut().enumerate() {
            if live_regs >> i & 1 != 0 || !features.scalar_links {
                collect(reg, frameno, i, true);
            }
        }
        for (i, slot) in frame.stack.iter_mut().enumerate() {
            if slot.is_spilled_reg() {
                collect(&mut slot.spilled_ptr, frameno, i, false);
            }
        }
    }
}

/// `sync_linked_regs`: copies what is known of register `regno` of the current frame to those linked to it.
fn sync_linked_regs(st: &mut VerifierState, regno: u8, linked: &LinkedRegs, features: Features) {
    let curframe = st.curframe();
    let known = st.cur_func().regs[regno as usize];
    for e in linked.entries() {
        if e.is_reg && e.frameno as usize == curframe && e.spi_or_reg == regno {
            continue;
        }
        let reg = e.reg_mut(st);
        if reg.type_ != RegType::SCALAR_VALUE
            || reg.id & !BPF_ADD_CONST != known.id & !BPF_ADD_CONST
            || (reg.id ^ known.id) & BPF_ADD_CONST == BPF_ADD_CONST
        {
            continue;
        }
        let old = *reg;
        *reg = known;
        reg.subreg_def = old.subreg_def;
        if (old.id | known.id) & BPF_ADD_CONST == 0 || old.off == known.off {
            continue;
        }
        reg.off = old.off;
        reg.id = old.id;
        if features.linked_exprs {
            reg.bcf_expr = old.bcf_expr;
        }
        reg.add_const(old.off as i64 - known.off as i64);
        if (old.id | known.id) & BPF_ADD_CONST32 != 0 {
            reg.zext_32_to_64();
        }
        if features.scalar_links {
            reg.bounds_sync(features);
        }
    }
}
